package changelogd_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"testing"
	"time"

	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"

	changelogd "changelogd.example/go"
)

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

// expect watches until the wanted events have come, and returns the error that came in place of one.
func expect(t *testing.T, client *changelogd.Client, workspace string, want []string, after func(event string)) error {
	t.Helper()
	count := 0
	for event, err := range client.Watch(testContext(t), workspace, "deployment") {
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

// hasty returns a client of the scripted server with another timeout of loads.
func hasty(t *testing.T, loadTimeout time.Duration) *changelogd.Client {
	t.Helper()
	return connect(t, changelogd.Config{Address: variable(t, "CHANGELOGD_TEST_SCRIPTED"), LoadTimeout: loadTimeout})
}

func TestWatchLoadsAndThenDeliversChanges(t *testing.T) {
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

func TestWatchResumesAfterABrokenStream(t *testing.T) {
	t.Parallel()
	client, workspace := scripted(t), fresh("resume")
	want := []string{
		`loaded a {"name":"a","version":0}`,
		`changed a {"name":"a","version":1}`,
		`changed b {"name":"b","version":2}`,
		// What was missed comes once, deletes too, although one stream breaks before all of it has come.
		`deleted a`,
		`changed c {"name":"c","version":4}`,
		`changed d {"name":"d","version":5}`,
	}
	must(t, want, expect(t, client, workspace, want, func(string) {}))
	equal(t, observe(t, client, workspace).Calls, 4)

	// It waits for more until it is cancelled.
	ctx, cancel := context.WithCancel(testContext(t))
	defer cancel()
	var last error
	for event, err := range client.Watch(ctx, fresh("resume"), "deployment") {
		if last = err; label(event) == want[len(want)-1] {
			cancel()
		}
	}
	equal(t, errorOf(t, last).Code, codes.Canceled)
}

func TestWatchReloadsWhenItMust(t *testing.T) {
	t.Parallel()
	client := scripted(t)
	want := []string{
		`loaded a {"name":"a","version":0}`,
		`changed a {"name":"a","version":9}`,
		`loaded b {"name":"b","version":7}`,
		`changed c {"name":"c","version":8}`,
	}
	for _, script := range []string{"resync", "moved", "truncated"} {
		workspace := fresh(script)
		must(t, want, expect(t, client, workspace, want, func(string) {}))
		equal(t, observe(t, client, workspace).Calls, 3)
	}
}

func TestWatchDeliversWhatReplacedLostChanges(t *testing.T) {
	t.Parallel()
	client, workspace := scripted(t), fresh("lost")
	want := []string{
		`loaded a {"name":"a","version":0}`,
		`changed z {"name":"z","version":1}`,
		`changed a {"name":"a","version":2}`,
		`changed b {"name":"b","version":3}`,
		`changed a {"name":"a","version":4}`,
		`changed c {"name":"c","version":5}`,
		`changed e {"name":"e","version":6}`,
		// The log lost what was at 4 and above. What it has instead comes, and what it still has does not come again.
		`changed a {"name":"a","version":2}`,
		`changed c {"name":"c","version":4}`,
		`changed e {"name":"e","version":60}`,
		`changed d {"name":"d","version":7}`,
	}
	must(t, want, expect(t, client, workspace, want, func(string) {}))
	equal(t, observe(t, client, workspace).Calls, 2)
}

func TestWatchReloadsWhenADeliveredEntityIsGone(t *testing.T) {
	t.Parallel()
	client, workspace := scripted(t), fresh("phantom")
	want := []string{
		`loaded a {"name":"a","version":0}`,
		`changed b {"name":"b","version":1}`,
		`changed c {"name":"c","version":1}`,
		`loaded a {"name":"a","version":0} c {"name":"c","version":1} d {"name":"d","version":2}`,
		`changed e {"name":"e","version":3}`,
	}
	must(t, want, expect(t, client, workspace, want, func(string) {}))
	equal(t, observe(t, client, workspace).Calls, 4)
}

func TestWatchRemembersTenThousandEntities(t *testing.T) {
	t.Parallel()
	client := scripted(t)
	for count, last := range map[int]string{
		10_000: `changed b {"name":"b","version":10001}`,
		10_001: `loaded b {"name":"b","version":10002}`,
	} {
		workspace := fresh(fmt.Sprintf("many-%d", count))
		want := []string{`loaded a {"name":"a","version":0}`}
		for i := 1; i <= count; i++ {
			want = append(want, fmt.Sprintf(`changed x%d {"name":"x%d","version":%d}`, i, i, i))
		}
		want = append(want, last)
		must(t, want, expect(t, client, workspace, want, func(string) {}))
		equal(t, observe(t, client, workspace).Calls, 2)
	}
}

func TestAWatchWithoutSyncedDeliversNoState(t *testing.T) {
	t.Parallel()
	client, workspace := scripted(t), fresh("unsynced")
	want := []string{`loaded b {"name":"b","version":1}`}
	must(t, want, expect(t, client, workspace, want, func(string) {}))
	equal(t, observe(t, client, workspace).Calls, 3)
}

func TestWatchOutlivesWhatPasses(t *testing.T) {
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
	equal(t, observe(t, client, workspace).Calls, 5)

	// A state that does not come within its timeout is asked for again.
	workspace = fresh("hang")
	err = expect(t, hasty(t, 100*time.Millisecond), workspace, []string{"an error"}, nil)
	equal(t, errorOf(t, err).Code, codes.DeadlineExceeded)
	equal(t, observe(t, client, workspace).Calls, 2)

	// The changes have no timeout.
	workspace = fresh("unknown-event")
	want = []string{`loaded a {"name":"a","version":0}`, `changed b {"name":"b","version":1}`}
	err = expect(t, hasty(t, 300*time.Millisecond), workspace, want, func(event string) {
		if event == want[1] {
			before := observe(t, client, workspace)
			time.Sleep(400 * time.Millisecond)
			equal(t, observe(t, client, workspace), before)
		}
	})
	must(t, want, err)

	// But a deadline of the caller ends it.
	soon, cancelSoon := context.WithTimeout(testContext(t), 100*time.Millisecond)
	defer cancelSoon()
	for _, err = range client.Watch(soon, fresh("hang")) {
	}
	equal(t, errorOf(t, err).Code, codes.DeadlineExceeded)
}

func TestWatchAsksAgainIfAResumedCallIsNotAnswered(t *testing.T) {
	t.Parallel()
	client, workspace := hasty(t, 300*time.Millisecond), fresh("mute-1")
	ctx, cancel := context.WithCancel(testContext(t))
	defer cancel()
	state := `loaded a {"name":"a","version":0}`
	var seen []string
	var last error
	for event, err := range client.Watch(ctx, workspace, "deployment") {
		if last = err; err == nil {
			seen = append(seen, label(event))
		}
		if len(seen) == 2 {
			observeUntil(t, client, workspace, func(seen observation) bool { return seen.Cancelled })
			// After its first message a resumed call has no timeout. One would be noticed while the loop waits.
			time.AfterFunc(500*time.Millisecond, cancel)
		}
	}
	equal(t, fmt.Sprint(seen), fmt.Sprint([]string{state, `changed b {"name":"b","version":1}`}))
	equal(t, errorOf(t, last).Code, codes.Canceled)
	equal(t, observe(t, client, workspace).Calls, 3)

	// Calls that are never answered end it.
	workspace = fresh("mute-9")
	failure := errorOf(t, expect(t, client, workspace, []string{state, "an error"}, func(string) {}))
	equal(t, failure.Code, codes.DeadlineExceeded)
	equal(t, failure.Reason, "")
	equal(t, observe(t, client, workspace).Calls, 3)
}

func TestWatchEndsWithWhatDoesNotPass(t *testing.T) {
	t.Parallel()
	client := hasty(t, 500*time.Millisecond)
	for script, last := range map[string]struct {
		want   []string
		code   codes.Code
		reason string
	}{
		"too-large": {[]string{"an error"}, codes.ResourceExhausted, "REPLAY_TOO_LARGE"},
		"stuck": {
			[]string{`loaded a {"name":"a","version":0}`, `changed b {"name":"b","version":1}`, "an error"},
			codes.DeadlineExceeded, "DEADLINE",
		},
	} {
		workspace := fresh(script)
		failure := errorOf(t, expect(t, client, workspace, last.want, func(string) {}))
		equal(t, failure.Code, last.code)
		equal(t, failure.Reason, last.reason)
		if calls := observe(t, client, workspace).Calls; calls < 3 {
			t.Fatalf("%s: %d calls", script, calls)
		}
	}

	// But an outage may last.
	workspace := fresh("outage")
	want := []string{`loaded a {"name":"a","version":0}`}
	must(t, want, expect(t, client, workspace, want, func(string) {}))
	equal(t, observe(t, client, workspace).Calls, 4)
}

func TestWatchWaitsLongerUntilALaterEvent(t *testing.T) {
	t.Parallel()
	// A state ends a row of failures, so the timeout of a load does not end this watch.
	client, workspace, begun := hasty(t, 300*time.Millisecond), fresh("lagging"), time.Now()
	state := `loaded a {"name":"a","version":0}`
	changed := `changed b {"name":"b","version":1}`
	want := []string{state, state, state, state, state, state, changed, `changed c {"name":"c","version":2}`}
	must(t, want, expect(t, client, workspace, want, func(event string) {
		if event == changed {
			// Five pauses of at most 125 ms would take 0.6 s.
			if took := time.Since(begun); took < time.Second {
				t.Fatalf("it took %v", took)
			}
			begun = time.Now()
		}
	}))
	// A pause that is twice as long as the one before would be 3.2 s.
	if took := time.Since(begun); took > 1400*time.Millisecond {
		t.Fatalf("it took %v", took)
	}
}

func TestWatchResumesAfterALongOutage(t *testing.T) {
	t.Parallel()
	address, stop := relay(t, "127.0.0.1:0")
	client := connect(t, changelogd.Config{Address: address, LoadTimeout: 300 * time.Millisecond})
	want := []string{`loaded a {"name":"a","version":0}`, `changed b {"name":"b","version":1}`, "an error"}
	failure := errorOf(t, expect(t, client, fresh("unknown-event"), want, func(event string) {
		if event == want[1] {
			stop()
			time.AfterFunc(1500*time.Millisecond, func() { relay(t, address) })
		}
	}))
	// The script refuses the call that resumes.
	equal(t, failure.Reason, "TOKEN_INVALID")
}

// relay carries bytes between its clients and the scripted server until it is stopped. It returns its address.
func relay(t *testing.T, address string) (string, func()) {
	ctx, stop := context.WithCancel(t.Context())
	listener, err := net.Listen("tcp", address)
	if err != nil {
		t.Error(err)
		return "", stop
	}
	context.AfterFunc(ctx, func() { listener.Close() })
	go func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("tcp", os.Getenv("CHANGELOGD_TEST_SCRIPTED"))
			if err != nil {
				client.Close()
				continue
			}
			context.AfterFunc(ctx, func() { client.Close(); server.Close() })
			go io.Copy(server, client)
			go io.Copy(client, server)
		}
	}()
	return listener.Addr().String(), stop
}

// Not of the table: it ends with its client, although a server may have cancelled it too.
func TestWatchEndsWithItsClient(t *testing.T) {
	t.Parallel()
	client := scripted(t)
	var last error
	for event, err := range client.Watch(testContext(t), fresh("resume"), "deployment") {
		if last = err; label(event) == `changed d {"name":"d","version":5}` {
			must(t, client, client.Close())
		}
	}
	equal(t, errorOf(t, last).Code, codes.Canceled)
}

// Not of the table: a library's RESOURCE_EXHAUSTED or DEADLINE_EXCEEDED has no reason, and stays.
func TestWatchEndsWithAStatusWithoutAReason(t *testing.T) {
	t.Parallel()
	for _, code := range []codes.Code{codes.ResourceExhausted, codes.DeadlineExceeded} {
		client := answering(t, &spb.Status{Code: int32(code)})
		want := []string{"an error"}
		equal(t, errorOf(t, expect(t, client, "ws", want, func(string) {})).Code, code)
	}
}

func TestWatchEndsWithAnErrorThatStays(t *testing.T) {
	t.Parallel()
	client, workspace := scripted(t), fresh("recreated")
	want := []string{`loaded a {"name":"a","version":0}`, "an error"}
	failure := errorOf(t, expect(t, client, workspace, want, func(string) {}))
	equal(t, failure.Code, codes.FailedPrecondition)
	equal(t, failure.Reason, "TOPIC_RECREATED")
	equal(t, observe(t, client, workspace).Calls, 1)
}
