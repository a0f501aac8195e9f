package changelogd

import (
	"context"
	"errors"
	"io"
	"sync"

	"golang.org/x/sync/semaphore"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	pb "changelogd.example/go/changelogv1"
)

// The bounds of a Writer. A larger mutation goes alone. Outstanding are those without a verdict, queued ones included.
const (
	maxMessageMutations = 1_000
	maxMessageBytes     = 1 << 20
	maxOutstanding      = 10_000
	maxOutstandingBytes = 8 << 20
)

// ErrWriterClosed is the error of a mutation that came after Close.
var ErrWriterClosed = errors.New("changelogd: the writer is closed")

// Writer writes many entities over one stream. Mutations of a workspace are applied in the order of the calls. Any
// number of goroutines may use it.
type Writer struct {
	cancel context.CancelFunc
	// Bounds on what is outstanding.
	mutations, bytes *semaphore.Weighted
	// Has room for all that may be outstanding, so sending to it does not wait.
	queue chan *pb.Mutation
	// Closed when the stream has ended, and both goroutines with it.
	ended chan struct{}

	mu          sync.Mutex
	lastID      uint64
	outstanding map[uint64]*Verdict
	closed      bool
	// Why the stream ended.
	err error
}

// Verdict is the outcome of one mutation, when it has come.
type Verdict struct {
	bytes    int64
	done     chan struct{}
	position Position
	err      error
}

// Wait returns where the record is, or why the mutation failed. If the stream breaks, a mutation without a verdict may
// have been written. Its error has the code of the stream, and is not safe to retry.
func (v *Verdict) Wait(ctx context.Context) (Position, error) {
	select {
	case <-v.done:
		return v.position, v.err
	case <-ctx.Done():
		return Position{}, errorOfContext(ctx)
	}
}

// NewWriter opens a stream of writes. It ends with Close, or when ctx ends.
func (c *Client) NewWriter(ctx context.Context) *Writer {
	ctx, cancel := context.WithCancel(ctx)
	w := &Writer{
		cancel:      cancel,
		mutations:   semaphore.NewWeighted(maxOutstanding),
		bytes:       semaphore.NewWeighted(maxOutstandingBytes),
		queue:       make(chan *pb.Mutation, maxOutstanding),
		ended:       make(chan struct{}),
		outstanding: map[uint64]*Verdict{},
	}
	go w.run(ctx, c.api)
	return w
}

// Set queues an entity. It waits while too much is outstanding, until ctx ends.
func (w *Writer) Set(ctx context.Context, entity Entity) *Verdict {
	key, id, value, err := encode(entity)
	if err != nil {
		return failed(err)
	}
	change := &pb.Mutation_Raw{Raw: value}
	return w.add(ctx, &pb.Mutation{WorkspaceId: key.Workspace, ChangelogId: id, Change: change})
}

// Delete queues a delete. It waits as Set does.
func (w *Writer) Delete(ctx context.Context, key Key) *Verdict {
	id, err := key.changelogID()
	if err != nil {
		return failed(err)
	}
	change := &pb.Mutation_Deletion{Deletion: &pb.Deletion{}}
	return w.add(ctx, &pb.Mutation{WorkspaceId: key.Workspace, ChangelogId: id, Change: change})
}

// Close sends queued mutations, and waits for verdicts. If ctx ends first, the rest gets unknown outcomes. Its error
// is that of the stream, and a second Close returns it again. The errors of mutations are in their verdicts.
func (w *Writer) Close(ctx context.Context) error {
	w.mu.Lock()
	if !w.closed {
		w.closed = true
		close(w.queue)
	}
	w.mu.Unlock()
	select {
	case <-w.ended:
	case <-ctx.Done():
		w.cancel()
		<-w.ended
	}
	return w.err
}

func failed(err error) *Verdict {
	v := &Verdict{done: make(chan struct{}), err: err}
	close(v.done)
	return v
}

func (w *Writer) add(ctx context.Context, mutation *pb.Mutation) *Verdict {
	// A mutation that is larger than the bound takes all of it.
	v := &Verdict{bytes: min(int64(sizeOf(mutation)), maxOutstandingBytes), done: make(chan struct{})}
	if w.mutations.Acquire(ctx, 1) != nil {
		return failed(errorOfContext(ctx))
	}
	if w.bytes.Acquire(ctx, v.bytes) != nil {
		w.mutations.Release(1)
		return failed(errorOfContext(ctx))
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case w.err != nil:
		w.answer(v, Position{}, w.err)
	case w.closed:
		w.answer(v, Position{}, ErrWriterClosed)
	default:
		w.lastID++
		mutation.Id = w.lastID
		w.outstanding[mutation.Id] = v
		w.queue <- mutation
	}
	return v
}

// sizeOf is how many bytes a mutation takes in a message.
func sizeOf(mutation *pb.Mutation) int {
	return protowire.SizeTag(1) + protowire.SizeBytes(proto.Size(mutation))
}

// answer gives a mutation its outcome, and its room to others.
func (w *Writer) answer(v *Verdict, position Position, err error) {
	v.position, v.err = position, err
	close(v.done)
	w.mutations.Release(1)
	w.bytes.Release(v.bytes)
}

// run owns the stream. It receives while another goroutine sends, and waits for that one.
func (w *Writer) run(ctx context.Context, api pb.ChangelogServiceClient) {
	defer close(w.ended)
	defer w.cancel()
	stream, err := api.Write(ctx)
	if err == nil {
		sent := make(chan struct{})
		go func() {
			defer close(sent)
			w.send(stream)
		}()
		err = w.receive(stream)
		w.cancel()
		<-sent
	}
	w.end(err)
}

// send sends queued mutations until the queue is closed or the stream has ended. Its errors are those of receive.
func (w *Writer) send(stream pb.ChangelogService_WriteClient) {
	// A closed queue gives nil.
	var next *pb.Mutation
	for {
		if next == nil {
			select {
			case next = <-w.queue:
			case <-stream.Context().Done():
				return
			}
			if next == nil {
				_ = stream.CloseSend()
				return
			}
		}
		message, size := &pb.WriteRequest{}, 0
		for next != nil && len(message.Mutations) < maxMessageMutations &&
			(size == 0 || size+sizeOf(next) <= maxMessageBytes) {
			message.Mutations = append(message.Mutations, next)
			size += sizeOf(next)
			select {
			case next = <-w.queue:
			default:
				next = nil
			}
		}
		if stream.Send(message) != nil {
			return
		}
	}
}

// receive answers mutations until the stream has ended.
func (w *Writer) receive(stream pb.ChangelogService_WriteClient) error {
	for {
		response, err := stream.Recv()
		if err != nil {
			return err
		}
		w.mu.Lock()
		for _, verdict := range response.GetVerdicts() {
			v, ok := w.outstanding[verdict.GetId()]
			if !ok {
				continue
			}
			delete(w.outstanding, verdict.GetId())
			switch outcome := verdict.GetOutcome().(type) {
			case *pb.Verdict_Written:
				w.answer(v, positionOf(outcome.Written.GetPosition()), nil)
			case *pb.Verdict_Error:
				w.answer(v, Position{}, errorOfMessage(outcome.Error))
			default:
				w.answer(v, Position{}, &Error{Code: codes.Unknown, Message: "the verdict is of a later version"})
			}
		}
		w.mu.Unlock()
	}
}

// end answers what is outstanding.
func (w *Writer) end(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err == io.EOF && w.closed && len(w.outstanding) == 0 {
		return
	}
	// The stream's reason is left out: a mutation that has no verdict may have been written, whatever the reason.
	answer := status.Convert(err)
	w.err = &Error{Code: answer.Code(), Message: "the stream of writes ended before the verdict: " + answer.Message()}
	for id, v := range w.outstanding {
		delete(w.outstanding, id)
		w.answer(v, Position{}, w.err)
	}
}
