// Writes, loads and watches the deployments of a workspace. It prints the same on every store.
package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"log"
	"maps"
	"slices"
	"time"

	changelogd "changelogd.example/go"
)

// Deployment is an entity, because it knows its key. The rest is its value, as JSON.
type Deployment struct {
	Workspace string `json:"-"`
	ID        string `json:"-"`
	Name      string `json:"name"`
	Version   string `json:"version"`
}

func (d Deployment) ChangelogKey() changelogd.Key {
	return changelogd.Key{Workspace: d.Workspace, Type: "deployment", ID: d.ID}
}

func (d Deployment) String() string { return d.Name + " " + d.Version }

func main() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	// CHANGELOGD_ADDR names the server. The workspace is new, so that nothing else is in it.
	client, err := changelogd.NewClient(changelogd.Config{})
	check(err)
	defer client.Close()
	workspace := "ws-" + rand.Text()

	// Write. A buffered write is answered when it is queued. Flush waits for it, and says if it failed.
	_, err = client.Set(ctx, Deployment{workspace, "dep-1", "my-app", "v1"})
	check(err)
	for _, id := range []string{"dep-2", "dep-3"} {
		_, err = client.Set(ctx, Deployment{workspace, id, "other-app", "v1"}, changelogd.Buffered())
		check(err)
	}
	flushed, err := client.Flush(ctx, 10*time.Second)
	check(err)
	fmt.Printf("flush: %d remaining, %d failed\n", flushed.Remaining, len(flushed.Failures))
	_, err = client.Delete(ctx, changelogd.Key{Workspace: workspace, Type: "deployment", ID: "dep-3"})
	check(err)

	// Load one workspace into a map.
	deployments, err := changelogd.Load[Deployment](ctx, client, workspace, "deployment")
	check(err)
	for _, id := range slices.Sorted(maps.Keys(deployments)) {
		fmt.Printf("load: %s is %s\n", id, deployments[id])
	}

	// Process records, deletes too. The log may still have older records of a key, so the last one counts.
	last := map[string]string{}
	for event, err := range client.Stream(ctx, changelogd.Scope{Workspaces: []string{workspace}}) {
		check(err)
		switch record, isRecord := event.(changelogd.Entry); {
		case !isRecord: // The Snapshot, after the last record.
		case record.Tombstone:
			last[record.Key.ID] = "deleted"
		default:
			deployment, err := changelogd.Decode[Deployment](record)
			check(err)
			last[record.Key.ID] = deployment.String()
		}
	}
	for _, id := range slices.Sorted(maps.Keys(last)) {
		fmt.Printf("records: %s is %s\n", id, last[id])
	}

	// Watch: the state, and then one change.
	for event, err := range client.Watch(ctx, workspace, "deployment") {
		check(err)
		switch event := event.(type) {
		case changelogd.Loaded:
			fmt.Printf("watch: %d entities\n", len(event.Entries))
			_, err := client.Set(ctx, Deployment{workspace, "dep-1", "my-app", "v2"})
			check(err)
		case changelogd.Changed:
			deployment, err := changelogd.Decode[Deployment](event.Entry)
			check(err)
			fmt.Printf("watch: %s is %s\n", event.Key.ID, deployment)
			return
		case changelogd.Deleted:
			fmt.Printf("watch: %s is deleted\n", event.Key.ID)
		}
	}
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
