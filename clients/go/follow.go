package changelogd

import (
	"context"
	"errors"
	"iter"
	"math/rand/v2"
	"time"

	"google.golang.org/grpc/codes"

	pb "changelogd.example/go/changelogv1"
)

// The waits before attempts to connect, and before Follow resumes.
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

// Follow delivers the state of a workspace as one Loaded, and then each change once and in order. Without types it
// delivers all types.
//
// It resumes after UNAVAILABLE, after RESOURCE_EXHAUSTED with a reason, and after DEADLINE. It also does so after a
// load that took longer than Config.LoadTimeout, and after a stream that the server reset. Before that it waits for
// 0.1 s to 5 s, or for the RetryAfter of the error if that is longer. Of a RetryAfter it waits for at most 60 s, and a
// quarter more. After RESYNC_REQUIRED, LOG_MOVED and LOG_TRUNCATED it can't resume, and delivers another Loaded. It
// ends with any other error, when ctx ends, and with Client.Close.
//
// It reads only what the loop asks for, and the server resets a stream that is not read for its --client-stall-timeout.
func (c *Client) Follow(ctx context.Context, workspace string, types ...string) iter.Seq2[Event, error] {
	return sequence(func(deliver func(Event) error) error {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		defer context.AfterFunc(c.open, cancel)()
		f := follower{client: c, workspace: workspace, types: types, deliver: deliver}
		for {
			err := f.attempt(ctx)
			var failure *Error
			if !errors.As(err, &failure) {
				return err
			}
			switch failure.Reason {
			case "RESYNC_REQUIRED", "LOG_MOVED", "LOG_TRUNCATED":
				f.token = nil
			default:
				if !mayPass(ctx, failure) {
					return err
				}
			}
			if err := f.wait(ctx, failure.RetryAfter); err != nil {
				return err
			}
		}
	})
}

// mayPass reports whether an attempt after a failure of a load or stream may succeed.
func mayPass(ctx context.Context, failure *Error) bool {
	switch failure.Code {
	case codes.Unavailable:
		return true
	case codes.ResourceExhausted:
		// Without a reason, a message was larger than gRPC accepts here.
		return failure.Reason != ""
	case codes.DeadlineExceeded:
		return failure.Reason == "DEADLINE"
	case codes.Canceled:
		// The server resets a stream that is read too slowly.
		return failure.Reason == "" && ctx.Err() == nil
	default:
		return false
	}
}

type follower struct {
	client    *Client
	workspace string
	types     []string
	deliver   func(Event) error
	// The newest token. Without one the workspace must be loaded.
	token []byte
	// The offset of the last delivered entry. A workspace is in one partition, so its offsets increase.
	last int64
	// Attempts since the stream delivered something.
	failures int
}

// attempt loads if it must, and follows until an error.
func (f *follower) attempt(ctx context.Context) error {
	if len(f.token) == 0 {
		if err := f.load(ctx); err != nil {
			return err
		}
	}
	stream, err := f.client.api.StreamAll(ctx, &pb.StreamAllRequest{
		WorkspaceIds: []string{f.workspace}, EntityTypes: f.types, Content: pb.Content_CONTENT_RECORDS,
		ResumeToken: f.token, Follow: true,
	})
	if err != nil {
		return errorOf(err)
	}
	err = receive(stream.Recv, f.change, func(event *pb.StreamAllResponse) error {
		f.failures = 0
		for _, token := range [][]byte{event.GetSnapshot().GetResumeToken(), event.GetBookmark().GetResumeToken()} {
			if len(token) > 0 {
				f.token = token
			}
		}
		return nil
	})
	if err == nil {
		err = &Error{Code: codes.Unavailable, Message: "a stream that follows has ended"}
	}
	return err
}

func (f *follower) load(ctx context.Context) error {
	var loaded Loaded
	f.last = -1
	loading, cancel := context.WithTimeout(ctx, f.client.loadTimeout)
	defer cancel()
	token, err := f.client.load(loading, f.workspace, f.types, func(entry Entry) error {
		loaded.Entries = append(loaded.Entries, entry)
		f.last = max(f.last, entry.Offset)
		return nil
	})
	if err != nil && loading.Err() != nil && ctx.Err() == nil {
		return &Error{Code: codes.Unavailable, Message: "a load took longer than the client's timeout"}
	}
	if err != nil {
		return err
	}
	f.token = token
	return f.deliver(loaded)
}

func (f *follower) change(entry Entry) error {
	// A resumed stream begins with entries that came after its token.
	if entry.Offset <= f.last {
		return nil
	}
	f.last = entry.Offset
	if entry.Tombstone {
		return f.deliver(Deleted{entry.Key, entry.Position})
	}
	return f.deliver(Changed{entry})
}

// wait waits longer after each failure, and at least as long as the server asks for, within the bounds.
func (f *follower) wait(ctx context.Context, retryAfter time.Duration) error {
	backoff := max(min(minBackoff<<min(f.failures, 10), maxBackoff*4/5), min(retryAfter, maxRetryAfter))
	f.failures++
	select {
	// At most a quarter more, so that clients that lost the same server do not return at the same time.
	case <-time.After(backoff + rand.N(backoff/4)):
		return nil
	case <-ctx.Done():
		return errorOfContext(ctx)
	}
}
