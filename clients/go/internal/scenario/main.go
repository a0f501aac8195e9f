// Command scenario makes the calls of a file with the generated client, and prints what each of them got: one line of
// JSON for each line. ../../../BEHAVIOUR.md describes both.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	pb "changelogd.example/go/changelogv1"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/encoding/gzip"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
)

type call struct {
	Name            string
	Address         string
	Call            string
	Requests        []json.RawMessage
	TimeoutMs       int64
	Gzip            bool
	CancelAfter     int
	MaxMessageBytes int
}

type answer struct {
	Name      string            `json:"name"`
	Code      uint32            `json:"code"`
	Message   string            `json:"message"`
	Error     *details          `json:"error"`
	Responses []json.RawMessage `json:"responses"`
}

type details struct {
	Domain   string            `json:"domain"`
	Reason   string            `json:"reason"`
	Field    string            `json:"field"`
	RetryMs  *int64            `json:"retryMs"`
	Metadata map[string]string `json:"metadata"`
}

// message is a pointer to a generated type.
type message[T any] interface {
	*T
	proto.Message
}

// received takes the responses of a call.
type received func(proto.Message) error

func main() {
	if err := run(os.Args[1], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(path string, out io.Writer) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	calls, answers := json.NewDecoder(file), json.NewEncoder(out)
	// A server sees that a call was cancelled, and not that its connection was closed: all stay open up to the end.
	var connections []io.Closer
	defer func() {
		for _, connection := range connections {
			connection.Close()
		}
	}()
	for {
		var c call
		if err := calls.Decode(&c); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		connection, err := connect(c)
		if err != nil {
			return fmt.Errorf("%s: %w", c.Name, err)
		}
		connections = append(connections, connection)
		a, err := answerOf(c, pb.NewChangelogServiceClient(connection))
		if err != nil {
			return fmt.Errorf("%s: %w", c.Name, err)
		}
		if err := answers.Encode(a); err != nil {
			return err
		}
	}
}

// connect opens a connection for one call.
func connect(c call) (*grpc.ClientConn, error) {
	return grpc.NewClient(c.Address,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 10 * time.Second, Timeout: 5 * time.Second}))
}

func answerOf(c call, client pb.ChangelogServiceClient) (answer, error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Duration(c.TimeoutMs)*time.Millisecond)
	defer cancel()

	a := answer{Name: c.Name, Responses: []json.RawMessage{}}
	received := func(response proto.Message) error {
		text, err := protojson.Marshal(response)
		a.Responses = append(a.Responses, text)
		if len(a.Responses) == c.CancelAfter {
			cancel()
		}
		return err
	}
	result, ok := status.FromError(c.make(ctx, client, received))
	if !ok {
		return answer{}, result.Err()
	}
	a.Code, a.Message, a.Error = uint32(result.Code()), result.Message(), detailsOf(result)
	return a, nil
}

func (c call) make(ctx context.Context, client pb.ChangelogServiceClient, received received) error {
	switch c.Call {
	case "Set":
		return unary(ctx, c, client.Set, received)
	case "Delete":
		return unary(ctx, c, client.Delete, received)
	case "Flush":
		return unary(ctx, c, client.Flush, received)
	case "Get":
		return unary(ctx, c, client.Get, received)
	case "Describe":
		return unary(ctx, c, client.Describe, received)
	case "LoadWorkspace":
		return serverStream(ctx, c, client.LoadWorkspace, received)
	case "StreamAll":
		return serverStream(ctx, c, client.StreamAll, received)
	case "Watch":
		return serverStream(ctx, c, client.Watch, received)
	case "Write":
		return write(ctx, c, client, received)
	}
	return fmt.Errorf("no call %s", c.Call)
}

func (c call) options() []grpc.CallOption {
	var options []grpc.CallOption
	if c.Gzip {
		options = append(options, grpc.UseCompressor(gzip.Name))
	}
	if c.MaxMessageBytes > 0 {
		options = append(options, grpc.MaxCallRecvMsgSize(c.MaxMessageBytes))
	}
	return options
}

func parsed[Q any, PQ message[Q]](text json.RawMessage) (PQ, error) {
	request := PQ(new(Q))
	return request, protojson.Unmarshal(text, request)
}

func unary[Q, R any, PQ message[Q], PR message[R]](
	ctx context.Context, c call, method func(context.Context, PQ, ...grpc.CallOption) (PR, error), received received,
) error {
	request, err := parsed[Q, PQ](c.Requests[0])
	if err != nil {
		return err
	}
	response, err := method(ctx, request, c.options()...)
	if err != nil {
		return err
	}
	return received(response)
}

func serverStream[Q, R any, PQ message[Q]](
	ctx context.Context, c call,
	method func(context.Context, PQ, ...grpc.CallOption) (grpc.ServerStreamingClient[R], error), received received,
) error {
	request, err := parsed[Q, PQ](c.Requests[0])
	if err != nil {
		return err
	}
	stream, err := method(ctx, request, c.options()...)
	if err != nil {
		return err
	}
	return receive(stream.Recv, received)
}

// write sends everything before it reads.
func write(ctx context.Context, c call, client pb.ChangelogServiceClient, received received) error {
	stream, err := client.Write(ctx, c.options()...)
	if err != nil {
		return err
	}
	for _, text := range c.Requests {
		request, err := parsed[pb.WriteRequest](text)
		if err != nil {
			return err
		}
		// That the stream has ended is no error here: reading says why.
		if err := stream.Send(request); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return err
		}
	}
	if err := stream.CloseSend(); err != nil {
		return err
	}
	return receive(stream.Recv, received)
}

func receive[R any](next func() (*R, error), received received) error {
	for {
		response, err := next()
		if errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		if err := received(any(response).(proto.Message)); err != nil {
			return err
		}
	}
}

func detailsOf(result *status.Status) *details {
	var found *details
	var field string
	var retryMs *int64
	for _, detail := range result.Details() {
		switch detail := detail.(type) {
		case *errdetails.ErrorInfo:
			found = &details{Domain: detail.GetDomain(), Reason: detail.GetReason(), Metadata: map[string]string{}}
			for name, value := range detail.GetMetadata() {
				found.Metadata[name] = value
			}
		case *errdetails.BadRequest:
			if violations := detail.GetFieldViolations(); len(violations) > 0 {
				field = violations[0].GetField()
			}
		case *errdetails.RetryInfo:
			ms := detail.GetRetryDelay().AsDuration().Milliseconds()
			retryMs = &ms
		}
	}
	if found != nil {
		found.Field, found.RetryMs = field, retryMs
	}
	return found
}
