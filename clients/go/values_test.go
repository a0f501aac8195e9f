package changelogd_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"reflect"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"

	changelogd "changelogd.example/go"
)

// document has what JSON libraries like to change.
type document struct {
	Key       changelogd.Key `json:"-"`
	Text      string
	Most      int64
	Least     int64
	Unsigned  uint64
	Fraction  float64
	Missing   *string
	Nested    map[string][]map[string]int
	Bytes     []byte
	Arbitrary json.RawMessage
}

func (d document) ChangelogKey() changelogd.Key { return d.Key }

func TestATypedValueIsSetReadAndDeleted(t *testing.T) {
	onBoth(t, func(t *testing.T, client *changelogd.Client, workspace string) {
		key := changelogd.Key{Workspace: workspace, Type: "document", ID: "größe/日本"}
		written := document{
			Text:      "\x00 \t\n \"\\ </&> é e\u0301 \u2028 \U0001f680 \U0010ffff",
			Most:      math.MaxInt64,
			Least:     math.MinInt64,
			Unsigned:  math.MaxUint64,
			Fraction:  0.1,
			Nested:    map[string][]map[string]int{"": {{"a": 1}, {}}, "empty": {}},
			Bytes:     []byte{0, 255},
			Arbitrary: json.RawMessage(`[null,true,{"n":96654263052808350}]`),
		}
		entity := written
		entity.Key = key
		position, err := client.Set(testContext(t), entity)
		must(t, position, err)

		read, found, err := changelogd.Get[document](testContext(t), client, key)
		if must(t, found, err); !found || !reflect.DeepEqual(read, written) {
			t.Fatalf("got %+v (%v), want %+v", read, found, written)
		}

		deleted, err := client.Delete(testContext(t), key)
		must(t, deleted, err)
		if deleted.Partition != position.Partition || deleted.Offset <= position.Offset {
			t.Fatalf("set at %+v, and deleted at %+v", position, deleted)
		}
		_, found, err = changelogd.Get[document](testContext(t), client, key)
		equal(t, must(t, found, err), false)
	})
}

func TestAnAbsentEntityIsNoError(t *testing.T) {
	onBoth(t, func(t *testing.T, client *changelogd.Client, workspace string) {
		isAbsent := func(id string) {
			t.Helper()
			value, found, err := changelogd.Get[Deployment](testContext(t), client, deploymentKey(workspace, id))
			must(t, value, err)
			equal(t, found, false)
			equal(t, value, Deployment{})
		}
		isAbsent("never-set")
		set(t, client, Deployment{Workspace: workspace, ID: "deleted"})
		remove(t, client, deploymentKey(workspace, "deleted"))
		isAbsent("deleted")
	})
}

func TestALoadIsAMapOfTypedValues(t *testing.T) {
	onBoth(t, func(t *testing.T, client *changelogd.Client, workspace string) {
		loaded := func() map[string]Deployment {
			t.Helper()
			values, err := changelogd.Load[Deployment](testContext(t), client, workspace, "deployment")
			return must(t, values, err)
		}
		equalMaps(t, loaded(), map[string]Deployment{})

		set(t, client, Deployment{Workspace: workspace, ID: "a", Name: "old", Version: 1})
		set(t, client, Deployment{Workspace: workspace, ID: "b", Name: "deleted", Version: 1})
		set(t, client, Deployment{Workspace: workspace, ID: "c", Name: "other", Version: 3})
		set(t, client, Deployment{Workspace: workspace, ID: "a", Name: "new", Version: 2})
		set(t, client, Deployment{Workspace: fresh("go"), ID: "d"})
		set(t, client, document{Key: changelogd.Key{Workspace: workspace, Type: "document", ID: "e"}})
		remove(t, client, deploymentKey(workspace, "b"))
		equalMaps(t, loaded(), map[string]Deployment{
			"a": {Name: "new", Version: 2},
			"c": {Name: "other", Version: 3},
		})
	})
}

func TestAValueOfAnotherFormIsAnErrorWithItsKey(t *testing.T) {
	t.Parallel()
	client, workspace := embedded(t), fresh("go")
	other := document{Key: deploymentKey(workspace, "other"), Arbitrary: json.RawMessage(`0`)}
	set(t, client, Deployment{Workspace: workspace, ID: "a"})
	set(t, client, other)

	// The field Text of a document is a string.
	type numbered struct{ Text int }
	values, err := changelogd.Load[numbered](testContext(t), client, workspace, "deployment")
	var cause *json.UnmarshalTypeError
	if values != nil || !errors.As(err, &cause) || !strings.Contains(err.Error(), other.Key.String()) {
		t.Fatalf("got %v and %v", values, err)
	}
	_, found, err := changelogd.Get[numbered](testContext(t), client, other.Key)
	if found || !errors.As(err, &cause) || !strings.Contains(err.Error(), other.Key.String()) {
		t.Fatalf("got %v and %v", found, err)
	}
}

func TestAKeyIsSplit(t *testing.T) {
	for _, text := range []string{"", "ws", "ws/type", "ws/type/", "ws//id", "/type/id"} {
		if key, err := changelogd.ParseKey(text); err == nil {
			t.Fatalf("%q gave %+v", text, key)
		}
	}
	onBoth(t, func(t *testing.T, client *changelogd.Client, workspace string) {
		want := changelogd.Key{Workspace: workspace, Type: "deployment", ID: "a/b"}
		key, err := changelogd.ParseKey(workspace + "/deployment/a/b")
		equal(t, must(t, key, err), want)
		equal(t, key.String(), workspace+"/deployment/a/b")

		set(t, client, Deployment{Workspace: workspace, ID: "a/b", Name: "split"})
		values, err := changelogd.Load[Deployment](testContext(t), client, workspace, "deployment")
		equalMaps(t, must(t, values, err), map[string]Deployment{"a/b": {Name: "split"}})
		entries, _, err := collect(client.Stream(testContext(t), changelogd.Scope{Workspaces: []string{workspace}}))
		equal(t, len(must(t, entries, err)), 1)
		equal(t, entries[0].Key, want)
	})
}

func TestAUnixSocketWorks(t *testing.T) {
	t.Parallel()
	client := connect(t, changelogd.Config{Address: "unix:" + variable(t, "CHANGELOGD_TEST_UNIX")})
	writesTo(t, client, client)
}

func TestChangelogdAddrNamesTheServer(t *testing.T) {
	t.Setenv("CHANGELOGD_ADDR", variable(t, "CHANGELOGD_TEST_EMBEDDED"))
	writesTo(t, connect(t, changelogd.Config{}), embedded(t))

	t.Setenv("CHANGELOGD_ADDR", "")
	equal(t, connect(t, changelogd.Config{}).Address(), "127.0.0.1:50051")
	must(t, "unset", os.Unsetenv("CHANGELOGD_ADDR"))
	equal(t, connect(t, changelogd.Config{}).Address(), "127.0.0.1:50051")
	for _, address := range []string{"localhost:1", "[::1]:1", ":1", "unix:/a", "unix:///a", "unix:a"} {
		client := connect(t, changelogd.Config{Address: address})
		equal(t, client.Address(), address)
		must(t, client, client.Close())
		must(t, client, client.Close()) // Again.
	}

	// Others are refused at once.
	for _, address := range []string{
		"http://host:1", "http://host", "host", "host:", "host:http", "host:65536", "::1", " host:1", "unix:", "unix://a/b",
	} {
		_, err := changelogd.NewClient(changelogd.Config{Address: address})
		failure := errorOf(t, err)
		equal(t, failure.Code, codes.InvalidArgument)
		equal(t, strings.Contains(failure.Message, fmt.Sprintf("%q", address)), true)
	}
	t.Setenv("CHANGELOGD_ADDR", "http://host:1")
	_, err := changelogd.NewClient(changelogd.Config{})
	equal(t, errorOf(t, err).Code, codes.InvalidArgument)
}

// writesTo checks that the reader's server has what the writer writes.
func writesTo(t *testing.T, writer, reader *changelogd.Client) {
	t.Helper()
	written := Deployment{Workspace: fresh("go"), ID: "a", Name: "reached", Version: 1}
	set(t, writer, written)
	read, found, err := changelogd.Get[Deployment](testContext(t), reader, written.ChangelogKey())
	equal(t, must(t, found, err), true)
	equal(t, read, Deployment{Name: "reached", Version: 1})
}
