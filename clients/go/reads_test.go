package changelogd_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"testing"
	"time"

	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"

	changelogd "changelogd.example/go"
	"changelogd.example/go/changelogv1"
)

// collect reads a stream until its end.
func collect(events iter.Seq2[changelogd.StreamEvent, error]) (
	entries []changelogd.Entry, snapshots []changelogd.Snapshot, err error,
) {
	for event, err := range events {
		switch event := event.(type) {
		case changelogd.Entry:
			entries = append(entries, event)
		case changelogd.Snapshot:
			snapshots = append(snapshots, event)
		default:
			return entries, snapshots, err
		}
	}
	return entries, snapshots, nil
}

func TestAPartialLoadIsAnError(t *testing.T) {
	t.Parallel()
	client := scripted(t)
	for script, isIncomplete := range map[string]bool{"partial": true, "broken": false} {
		values, err := changelogd.Load[Deployment](testContext(t), client, fresh(script), "deployment")
		failure := errorOf(t, err)
		equal(t, values == nil, true)
		equal(t, failure.Code, codes.Internal)
		equal(t, failure.Reason, "")
		equal(t, failure.SafeToRetry(), false)
		equal(t, errors.Is(err, changelogd.ErrIncomplete), isIncomplete)
	}
}

func TestAnUnknownEventIsIgnored(t *testing.T) {
	t.Parallel()
	values, err := changelogd.Load[Deployment](testContext(t), scripted(t), fresh("unknown-event"), "deployment")
	equal(t, len(must(t, values, err)), 1)
	for id, value := range values {
		equal(t, value.Name, id)
	}
}

func TestAStreamHasTombstonesAndSnapshots(t *testing.T) {
	onBoth(t, func(t *testing.T, client *changelogd.Client, workspace string) {
		others := []string{fresh("go"), fresh("go")}
		set(t, client, Deployment{Workspace: workspace, ID: "a", Version: 1})
		set(t, client, Deployment{Workspace: workspace, ID: "b", Version: 2})
		set(t, client, Deployment{Workspace: others[0], ID: "other"})
		set(t, client, Deployment{Workspace: others[1], ID: "other"})
		remove(t, client, deploymentKey(workspace, "a"))

		entries, snapshots, err := collect(client.Stream(testContext(t), changelogd.Scope{Workspaces: []string{workspace}}))
		equal(t, len(must(t, snapshots, err)), 1)
		var got []string
		for _, entry := range entries {
			got = append(got, fmt.Sprint(entry.Key.ID, " ", string(entry.Value), " ", entry.Tombstone))
		}
		want := []string{`a {"name":"","version":1} false`, `b {"name":"","version":2} false`, "a  true"}
		// A store may have removed the record that the delete superseded.
		if !slices.Equal(got, want) && !slices.Equal(got, want[1:]) {
			t.Fatalf("got %q, want %q", got, want)
		}
		for _, entry := range entries {
			if entry.Partition != snapshots[0].Partition || entry.Offset >= snapshots[0].EndOffset {
				t.Fatalf("%+v is not in %+v", entry, snapshots[0])
			}
		}

		// Of several workspaces, of all, and of some partitions.
		described, err := client.API().Describe(testContext(t), &changelogv1.DescribeRequest{})
		must(t, described, err)
		scopes := map[string]changelogd.Scope{
			"workspaces": {Workspaces: append(others, workspace), Types: []string{"deployment"}},
			"all":        {},
			"partitions": {Partitions: []int32{0}},
		}
		for name, scope := range scopes {
			entries, snapshots, err := collect(client.Stream(testContext(t), scope))
			must(t, name, err)
			switch name {
			case "workspaces":
				equal(t, len(entries) >= 4 && len(snapshots) >= 1 && len(snapshots) <= 3, true)
			case "all":
				equal(t, int32(len(snapshots)), described.GetPartitionCount())
			case "partitions":
				equal(t, len(snapshots), 1)
			}
		}
		for range client.Stream(testContext(t), changelogd.Scope{Workspaces: []string{workspace}}) {
			break // A loop may end early.
		}
	})

	client := scripted(t)
	for script, isIncomplete := range map[string]bool{"partial": true, "broken": false} {
		scope := changelogd.Scope{Workspaces: []string{fresh(script)}}
		entries, snapshots, err := collect(client.Stream(testContext(t), scope))
		equal(t, len(entries), 1)
		equal(t, len(snapshots), 0)
		equal(t, errorOf(t, err).Code, codes.Internal)
		equal(t, errors.Is(err, changelogd.ErrIncomplete), isIncomplete)
	}
}

// label names an event in the lists that these tests expect.
func label(event changelogd.Event) string {
	switch event := event.(type) {
	case changelogd.Loaded:
		text := "loaded"
		for _, entry := range event.Entries {
			text += fmt.Sprintf(" %s %s", entry.Key.ID, entry.Value)
		}
		return text
	case changelogd.Changed:
		return fmt.Sprintf("changed %s %s", event.Key.ID, event.Value)
	case changelogd.Deleted:
		return "deleted " + event.Key.ID
	default:
		return "no event"
	}
}

// expect follows until the wanted events have come, and returns the error that came in place of one.
func expect(t *testing.T, client *changelogd.Client, workspace string, want []string, after func(event string)) error {
	t.Helper()
	count := 0
	for event, err := range client.Follow(testContext(t), workspace, "deployment") {
		if err != nil {
			return err
		}
		equal(t, label(event), want[count])
		after(want[count])
		if count++; count == len(want) {
			return nil
		}
	}
	t.Fatal("it ended without an error")
	return nil
}

func TestFollowLoadsAndThenDeliversChanges(t *testing.T) {
	onBoth(t, func(t *testing.T, client *changelogd.Client, workspace string) {
		set(t, client, Deployment{Workspace: workspace, ID: "a", Name: "a", Version: 1})
		set(t, client, document{Key: changelogd.Key{Workspace: workspace, Type: "document", ID: "other"}})
		want := []string{
			`loaded a {"name":"a","version":1}`,
			`changed b {"name":"b","version":1}`,
			`changed a {"name":"a","version":2}`,
			`deleted b`,
			`changed c {"name":"c","version":1}`,
		}
		// One by one, because a store may remove a record that a later one supersedes.
		next := map[string]func(){
			want[0]: func() { set(t, client, Deployment{Workspace: workspace, ID: "b", Name: "b", Version: 1}) },
			want[1]: func() { set(t, client, Deployment{Workspace: workspace, ID: "a", Name: "a", Version: 2}) },
			want[2]: func() { remove(t, client, deploymentKey(workspace, "b")) },
			want[3]: func() { set(t, client, Deployment{Workspace: workspace, ID: "c", Name: "c", Version: 1}) },
			want[4]: func() {},
		}
		err := expect(t, client, workspace, want, func(event string) { next[event]() })
		must(t, want, err)
	})
}

func TestFollowResumesAfterABrokenStream(t *testing.T) {
	t.Parallel()
	client, workspace := scripted(t), fresh("resume")
	want := []string{
		`loaded a {"name":"a","version":0}`,
		`changed a {"name":"a","version":1}`,
		`changed b {"name":"b","version":2}`,
		`deleted a`,
	}
	must(t, want, expect(t, client, workspace, want, func(string) {}))
	// One load, and two streams.
	equal(t, observe(t, client, workspace).Calls, 3)

	// It waits for more until it is cancelled.
	ctx, cancel := context.WithCancel(testContext(t))
	defer cancel()
	var last error
	for event, err := range client.Follow(ctx, fresh("resume"), "deployment") {
		if last = err; label(event) == "deleted a" {
			cancel()
		}
	}
	equal(t, errorOf(t, last).Code, codes.Canceled)
}

func TestFollowReloadsWhenItMust(t *testing.T) {
	t.Parallel()
	client := scripted(t)
	want := []string{
		`loaded a {"name":"a","version":0}`,
		`loaded b {"name":"b","version":7}`,
		`changed c {"name":"c","version":8}`,
	}
	for _, script := range []string{"resync", "moved", "truncated"} {
		must(t, want, expect(t, client, fresh(script), want, func(string) {}))
	}
}

func TestFollowOutlivesWhatPasses(t *testing.T) {
	t.Parallel()
	client, workspace, begun := scripted(t), fresh("crowded"), time.Now()
	want := []string{`loaded a {"name":"a","version":0}`, `changed b {"name":"b","version":1}`}
	err := expect(t, client, workspace, want, func(event string) {
		// Without the delay of the error, the first pause is at most 125 ms.
		if took := time.Since(begun); took < 200*time.Millisecond {
			t.Fatalf("%s came after %v", event, took)
		}
	})
	must(t, want, err)
	// Two loads, and four streams.
	equal(t, observe(t, client, workspace).Calls, 6)

	// A load that reached its timeout.
	hasty := connect(t, changelogd.Config{
		Address: variable(t, "CHANGELOGD_TEST_SCRIPTED"), LoadTimeout: 100 * time.Millisecond,
	})
	ctx, cancel := context.WithCancel(testContext(t))
	defer cancel()
	workspace = fresh("hang")
	ended := make(chan error, 1)
	go func() {
		for _, err := range hasty.Follow(ctx, workspace) {
			ended <- err
		}
	}()
	observeUntil(t, client, workspace, func(seen observation) bool { return seen.Calls >= 2 })
	cancel()
	equal(t, errorOf(t, <-ended).Code, codes.Canceled)

	// But a deadline of the caller ends it.
	soon, cancelSoon := context.WithTimeout(testContext(t), 100*time.Millisecond)
	defer cancelSoon()
	for _, err = range client.Follow(soon, fresh("hang")) {
	}
	equal(t, errorOf(t, err).Code, codes.DeadlineExceeded)
}

// Not of the table: it ends with its client, although a server may have cancelled it too.
func TestFollowEndsWithItsClient(t *testing.T) {
	t.Parallel()
	client := scripted(t)
	var last error
	for event, err := range client.Follow(testContext(t), fresh("resume"), "deployment") {
		if last = err; label(event) == "deleted a" {
			must(t, client, client.Close())
		}
	}
	equal(t, errorOf(t, last).Code, codes.Canceled)
}

// Not of the table: a library's RESOURCE_EXHAUSTED or DEADLINE_EXCEEDED has no reason, and stays.
func TestFollowEndsWithAStatusWithoutAReason(t *testing.T) {
	t.Parallel()
	for _, code := range []codes.Code{codes.ResourceExhausted, codes.DeadlineExceeded} {
		client := answering(t, &spb.Status{Code: int32(code)})
		want := []string{"an error"}
		equal(t, errorOf(t, expect(t, client, "ws", want, func(string) {})).Code, code)
	}
}

func TestFollowEndsWithAnErrorThatStays(t *testing.T) {
	t.Parallel()
	client, workspace := scripted(t), fresh("recreated")
	want := []string{`loaded a {"name":"a","version":0}`, "an error"}
	failure := errorOf(t, expect(t, client, workspace, want, func(string) {}))
	equal(t, failure.Code, codes.FailedPrecondition)
	equal(t, failure.Reason, "TOPIC_RECREATED")
	// One load, and one stream.
	equal(t, observe(t, client, workspace).Calls, 2)
}
