package changelogd

import (
	"context"
	"errors"
	"hash/maphash"
	"iter"
	"math/rand/v2"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	pb "changelogd.example/go/changelogv1"
)

// The waits before attempts to connect, and before Watch resumes.
const (
	minBackoff = 100 * time.Millisecond
	maxBackoff = 5 * time.Second
	// The longest wait that a server can ask for.
	maxRetryAfter = time.Minute
)

// Event is a Loaded, a Changed or a Deleted.
type Event interface{ event() }

// Loaded is the whole state. It replaces everything that came before.
type Loaded struct{ Entries []Entry }

// Changed is a new value of an entity.
type Changed struct{ Entry }

// Deleted says that an entity was deleted.
type Deleted struct {
	Key Key
	Position
}

func (Loaded) event()  {}
func (Changed) event() {}
func (Deleted) event() {}

// Watch delivers the state of a workspace as one Loaded, and then each change in order. Without types it delivers all
// types.
//
// It resumes after UNAVAILABLE, after RESOURCE_EXHAUSTED with a reason, and after DEADLINE. It also does so after a
// stream that the server reset or ended. It does so too if the state, or the first message of a call that resumes, has
// not come within Config.LoadTimeout. Before that it waits for 0.1 s to 5 s. If the RetryAfter of the error is longer,
// it waits for that, of at most 60 s, and up to a quarter more. After RESYNC_REQUIRED, LOG_MOVED and LOG_TRUNCATED it
// can't resume, and delivers another Loaded. It ends with any other error, when ctx ends, and with Client.Close.
//
// Of these failures only UNAVAILABLE may last. Others that follow each other for longer than Config.LoadTimeout end it
// with the last of them, unless the state comes in between, or all that was missed.
//
// A change comes once, unless the log has lost records, as in an unclean election. If it has lost a delivered change,
// the entity's older value comes again, or another Loaded. After more than 10,000 entities since the newest token,
// which comes at least every 10 s, a broken stream means another Loaded too.
//
// It reads only what the loop asks for, and the server resets a stream that is not read for its --client-stall-timeout.
func (c *Client) Watch(ctx context.Context, workspace string, types ...string) iter.Seq2[Event, error] {
	return sequence(func(deliver func(Event) error) error {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		defer context.AfterFunc(c.open, cancel)()
		w := watcher{client: c, workspace: workspace, types: types, deliver: deliver}
		w.delivered.seed = maphash.MakeSeed()
		for {
			err := w.attempt(ctx)
			var failure *Error
			if !errors.As(err, &failure) || !mayPass(ctx, failure) || w.lastsTooLong(failure) {
				return err
			}
			if err := w.wait(ctx, failure.RetryAfter); err != nil {
				return err
			}
		}
	})
}

// Failures of this side.
var (
	errLate = &Error{Code: codes.DeadlineExceeded, Message: "no state or answer within the timeout of a load"}
	errLost = &Error{Code: codes.Aborted, Message: "the log has lost changes that were delivered"}
)

// startsAgain reports whether the token can't be used any more.
func startsAgain(failure *Error) bool {
	switch failure.Reason {
	case "RESYNC_REQUIRED", "LOG_MOVED", "LOG_TRUNCATED":
		return true
	default:
		return failure == errLost
	}
}

// mayPass reports whether an attempt after a failure of a watch may succeed.
func mayPass(ctx context.Context, failure *Error) bool {
	if startsAgain(failure) {
		return true
	}
	switch failure.Code {
	case codes.Unavailable:
		return true
	case codes.ResourceExhausted:
		// Without a reason, a message was larger than gRPC accepts here.
		return failure.Reason != ""
	case codes.DeadlineExceeded:
		return failure == errLate || failure.Reason == "DEADLINE"
	case codes.Canceled:
		// The server resets a stream that is read too slowly.
		return failure.Reason == "" && ctx.Err() == nil
	default:
		return false
	}
}

type watcher struct {
	client    *Client
	workspace string
	types     []string
	deliver   func(Event) error
	// The newest token. Without one a watch begins with the state.
	token     []byte
	delivered delivered
	// Failures since the last event that came after a Synced. A watch may reach Synced again and again, and get no
	// further.
	failures int
	// When the failures began that have followed each other without a Synced or an UNAVAILABLE among them.
	failingSince time.Time
}

// attempt watches until an error.
func (w *watcher) attempt(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	// The part of the state that has come; nil if none is to come.
	var state *Loaded
	// A deadline of the call would end the changes too.
	timeout := time.AfterFunc(w.client.loadTimeout, func() { cancel(errLate) })
	defer timeout.Stop()
	w.delivered.attempt++
	if len(w.token) == 0 || w.delivered.overflowed {
		state = &Loaded{}
		w.token = nil
		w.delivered.clear()
	}
	request := &pb.WatchRequest{WorkspaceId: w.workspace, EntityTypes: w.types, ResumeToken: w.token}
	// While there is no server, a call that resumes is UNAVAILABLE at once: an outage is no missing answer, and may last.
	stream, err := w.client.api.Watch(ctx, request, grpc.WaitForReady(state != nil))
	if err != nil {
		return errorOf(err)
	}
	isSynced := false
	next := func() (*pb.WatchResponse, error) {
		response, err := stream.Recv()
		if state == nil {
			// The server answers. What was missed is delivered as it comes, so its time depends on the loop.
			timeout.Stop()
		}
		return response, err
	}
	err = receive(next, func(entry Entry) error {
		switch {
		case state != nil:
			state.Entries = append(state.Entries, entry)
			return nil
		case !w.delivered.isNew(entry):
			// What came after the event with the token comes again.
			return nil
		case entry.Tombstone:
			return w.deliver(Deleted{entry.Key, entry.Position})
		default:
			return w.deliver(Changed{entry})
		}
	}, func(event *pb.WatchResponse) error {
		if isSynced {
			w.failures = 0
		}
		w.covered(event.GetBookmark().GetResumeToken())
		synced := event.GetSynced()
		if synced == nil {
			return nil
		}
		if !w.delivered.isWhole() {
			return errLost
		}
		w.covered(synced.GetSnapshot().GetResumeToken())
		isSynced, w.failingSince = true, time.Time{}
		timeout.Stop()
		if state == nil {
			return nil
		}
		loaded := *state
		state = nil
		return w.deliver(loaded)
	})
	var failure *Error
	switch {
	case err == nil:
		return &Error{Code: codes.Unavailable, Message: "a watch has ended"}
	case errors.As(err, &failure) && failure.Code == codes.Canceled && context.Cause(ctx) == errLate:
		return errLate
	default:
		return err
	}
}

// covered takes a newer token. An empty one would begin with the state.
func (w *watcher) covered(token []byte) {
	if len(token) > 0 {
		w.token = token
		w.delivered.clear()
	}
}

// lastsTooLong notes a failure. It reports whether those in a row, of which none is UNAVAILABLE, last too long.
func (w *watcher) lastsTooLong(failure *Error) bool {
	if startsAgain(failure) {
		w.token = nil
	}
	switch {
	case failure.Code == codes.Unavailable:
		w.failingSince = time.Time{}
	case w.failingSince.IsZero():
		w.failingSince = time.Now()
	default:
		return time.Since(w.failingSince) > w.client.loadTimeout
	}
	return false
}

// wait waits longer after each failure, and at least as long as the server asks for, within the bounds.
func (w *watcher) wait(ctx context.Context, retryAfter time.Duration) error {
	wait := pause(w.failures, retryAfter)
	w.failures++
	select {
	case <-time.After(wait):
		return nil
	case <-ctx.Done():
		return errorOfContext(ctx)
	}
}

// pause returns the wait after a failure that others came before. It is the longer one of the backoff and of what the
// server asks for, and up to a quarter more. So clients that lost the same server do not return at the same time.
func pause(failures int, retryAfter time.Duration) time.Duration {
	backoff := min(minBackoff<<min(failures, 10), maxBackoff*4/5)
	wait := max(backoff, min(retryAfter, maxRetryAfter))
	return wait + rand.N(wait/4+1)
}
