package changelogd_test

import (
	"context"
	"crypto/rand"
	"errors"
	"maps"
	"os"
	"testing"
	"time"

	changelogd "changelogd.example/go"
)

// Deployment is the entity of these tests, and of the scripted server.
type Deployment struct {
	Workspace string `json:"-"`
	ID        string `json:"-"`
	Name      string `json:"name"`
	Version   int64  `json:"version"`
}

func (d Deployment) ChangelogKey() changelogd.Key {
	return deploymentKey(d.Workspace, d.ID)
}

func deploymentKey(workspace, id string) changelogd.Key {
	return changelogd.Key{Workspace: workspace, Type: "deployment", ID: id}
}

// variable returns where a server is. A test without its server fails.
func variable(t *testing.T, name string) string {
	t.Helper()
	value := os.Getenv(name)
	if value == "" {
		t.Fatalf("%s is not set", name)
	}
	return value
}

// connect returns a client that is closed with the test.
func connect(t *testing.T, config changelogd.Config) *changelogd.Client {
	t.Helper()
	client, err := changelogd.NewClient(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	return client
}

func embedded(t *testing.T) *changelogd.Client {
	t.Helper()
	return connect(t, changelogd.Config{Address: variable(t, "CHANGELOGD_TEST_EMBEDDED")})
}

func scripted(t *testing.T) *changelogd.Client {
	t.Helper()
	return connect(t, changelogd.Config{Address: variable(t, "CHANGELOGD_TEST_SCRIPTED")})
}

// onBoth runs a test on the embedded store and on Kafka, with a workspace of its own.
func onBoth(t *testing.T, test func(t *testing.T, client *changelogd.Client, workspace string)) {
	t.Parallel()
	for store, name := range map[string]string{
		"embedded": "CHANGELOGD_TEST_EMBEDDED", "kafka": "CHANGELOGD_TEST_ON_KAFKA",
	} {
		address := variable(t, name)
		t.Run(store, func(t *testing.T) {
			test(t, connect(t, changelogd.Config{Address: address}), fresh("go"))
		})
	}
}

// fresh returns a workspace that no other test has. On the scripted server the name chooses the script.
func fresh(script string) string {
	return script + "." + rand.Text()
}

// testContext ends a test that would wait forever.
func testContext(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// observation is what the scripted server has seen of a workspace.
type observation struct {
	Calls         int
	TimeoutMs     int
	Cancelled     bool
	Messages      int
	MostMutations int
	MostBytes     int
}

func observe(t *testing.T, client *changelogd.Client, workspace string) observation {
	t.Helper()
	key := changelogd.Key{Workspace: workspace, Type: "observed", ID: "calls"}
	seen, found, err := changelogd.Get[observation](testContext(t), client, key)
	if err != nil || !found {
		t.Fatalf("no observation of %s: %v", workspace, err)
	}
	return seen
}

// observeUntil waits until the scripted server has seen something.
func observeUntil(t *testing.T, client *changelogd.Client, workspace string, wanted func(observation) bool) {
	t.Helper()
	until := time.Now().Add(10 * time.Second)
	for !wanted(observe(t, client, workspace)) {
		if time.Now().After(until) {
			t.Fatalf("the server has seen %+v", observe(t, client, workspace))
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func must[T any](t *testing.T, value T, err error) T {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	return value
}

func set(t *testing.T, client *changelogd.Client, entity changelogd.Entity, options ...changelogd.WriteOption) {
	t.Helper()
	_, err := client.Set(testContext(t), entity, options...)
	must(t, entity, err)
}

func remove(t *testing.T, client *changelogd.Client, key changelogd.Key) {
	t.Helper()
	_, err := client.Delete(testContext(t), key)
	must(t, key, err)
}

// errorOf returns an error as the type of the package.
func errorOf(t *testing.T, err error) *changelogd.Error {
	t.Helper()
	var failure *changelogd.Error
	if !errors.As(err, &failure) {
		t.Fatalf("%v (%T) is no *changelogd.Error", err, err)
	}
	return failure
}

func equal[T comparable](t *testing.T, got, want T) {
	t.Helper()
	if got != want {
		t.Fatalf("got %+v, want %+v", got, want)
	}
}

func equalMaps[K, V comparable](t *testing.T, got, want map[K]V) {
	t.Helper()
	if got == nil || !maps.Equal(got, want) {
		t.Fatalf("got %+v, want %+v", got, want)
	}
}
