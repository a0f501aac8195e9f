package changelogd_test

import (
	"errors"
	"fmt"
	"iter"
	"slices"
	"testing"

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
	want := []string{`loaded a {"name":"a","version":0}`, `changed b {"name":"b","version":1}`}
	must(t, want, expect(t, scripted(t), fresh("unknown-event"), want, func(string) {}))
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
