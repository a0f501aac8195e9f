// Package changelogd is a client of changelogd, which keeps the state of workspaces in a log-compacted changelog.
//
// Set, Delete and Writer write entities. Load, Client.Stream and Client.Watch read them. An error that a call returns
// is an *Error or ErrWriterClosed, or says which value or key could not be encoded or decoded.
package changelogd

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"

	pb "changelogd.example/go/changelogv1"
)

const (
	// The server accepts values of up to 64,000,000 bytes.
	maxMessageSize = 64 << 20
	// The server keeps the newest failures of buffered writes.
	keptFailures = 10_000
)

// These retries are safe only if one writer owns a key. A retry after a broken connection may overwrite a newer write,
// because the first attempt may have been applied. Write, StreamAll and Watch are not retried: Writer answers with
// unknown outcomes, and Client.Watch resumes.
const serviceConfig = `{"methodConfig": [
	{"name": [{"service": "changelog.v1.ChangelogService"}], "waitForReady": true},
	{
		"name": [
			{"service": "changelog.v1.ChangelogService", "method": "Set"},
			{"service": "changelog.v1.ChangelogService", "method": "Delete"},
			{"service": "changelog.v1.ChangelogService", "method": "Get"},
			{"service": "changelog.v1.ChangelogService", "method": "Flush"},
			{"service": "changelog.v1.ChangelogService", "method": "Describe"},
			{"service": "changelog.v1.ChangelogService", "method": "LoadWorkspace"}
		],
		"waitForReady": true,
		"retryPolicy": {
			"maxAttempts": 5, "initialBackoff": "0.1s", "maxBackoff": "2s", "backoffMultiplier": 2,
			"retryableStatusCodes": ["UNAVAILABLE"]
		}
	}
]}`

// Client has one connection to a changelogd. Any number of goroutines may use it.
type Client struct {
	conn                     *grpc.ClientConn
	api                      pb.ChangelogServiceClient
	callTimeout, loadTimeout time.Duration
	// Ends with Close.
	open  context.Context
	close context.CancelFunc
	// The id of the newest failure that Flush has returned. A Flush takes it, so that each failure is returned once.
	lastFailure chan uint64
}

// Config of a Client. The zero value has the defaults.
type Config struct {
	// Address of the server: host:port, or unix:/path. Default: that of the environment variable CHANGELOGD_ADDR, else
	// 127.0.0.1:50051. An empty variable counts as absent.
	Address string
	// CallTimeout is the deadline of a call whose context has none. Default: 30 s.
	CallTimeout time.Duration
	// LoadTimeout is the deadline of a Load or Stream whose context has none. The state of a Watch must come within it.
	// Default: 5 min.
	LoadTimeout time.Duration
	// DialOptions are further options of gRPC, such as interceptors. They win over those of this package.
	DialOptions []grpc.DialOption
}

// NewClient returns a Client, which connects with its first call. It does not use the proxy that HTTPS_PROXY names. An
// address of another form, such as http://host:1, is an error with INVALID_ARGUMENT.
func NewClient(config Config) (*Client, error) {
	address := cmp.Or(config.Address, os.Getenv("CHANGELOGD_ADDR"), "127.0.0.1:50051")
	if !isAddress(address) {
		message := fmt.Sprintf("the address %q is neither host:port nor unix:/path", address)
		return nil, &Error{Code: codes.InvalidArgument, Message: message}
	}
	c := &Client{
		callTimeout: cmp.Or(config.CallTimeout, 30*time.Second),
		loadTimeout: cmp.Or(config.LoadTimeout, 5*time.Minute),
		lastFailure: make(chan uint64, 1),
	}
	c.open, c.close = context.WithCancel(context.Background())
	c.lastFailure <- 0
	dial := []grpc.DialOption{
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		// Else gRPC would use HTTPS_PROXY for a host that is not loopback.
		grpc.WithNoProxy(),
		grpc.WithDefaultServiceConfig(serviceConfig),
		// Else gRPC would look for another one in the TXT records of the host.
		grpc.WithDisableServiceConfig(),
		grpc.WithDefaultCallOptions(
			grpc.MaxCallRecvMsgSize(maxMessageSize),
			// Else gRPC would not retry a write of more than 256 KiB.
			grpc.MaxRetryRPCBufferSize(maxMessageSize),
		),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 30 * time.Second, Timeout: 10 * time.Second}),
		// A sidecar restarts in seconds. The default would wait for up to two minutes between attempts to connect.
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: minBackoff, Multiplier: 2, Jitter: 0.2, MaxDelay: maxBackoff},
			MinConnectTimeout: 5 * time.Second,
		}),
		grpc.WithChainUnaryInterceptor(c.unary),
	}
	if strings.HasPrefix(address, "unix:") {
		// The path of a socket is no valid :authority.
		dial = append(dial, grpc.WithAuthority("localhost"))
	}
	conn, err := grpc.NewClient(address, append(dial, config.DialOptions...)...)
	if err != nil {
		return nil, errorOf(err)
	}
	c.conn, c.api = conn, pb.NewChangelogServiceClient(conn)
	return c, nil
}

// isAddress reports whether gRPC can use an address. It would take others for names of hosts, and look for those until
// the deadline of a call.
func isAddress(address string) bool {
	if path, isUnix := strings.CutPrefix(address, "unix:"); isUnix {
		// What follows two slashes is an authority, which must be empty.
		return path != "" && (!strings.HasPrefix(path, "//") || strings.HasPrefix(path, "///"))
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil || strings.ContainsAny(host, "/@ ") {
		return false
	}
	_, err = strconv.ParseUint(port, 10, 16)
	return err == nil
}

// Close ends all calls, and closes the connection. Calling it again does nothing.
func (c *Client) Close() error {
	c.close()
	// Its only error says that it was closed before.
	_ = c.conn.Close()
	return nil
}

// Address returns where the server is.
func (c *Client) Address() string {
	return c.conn.Target()
}

// API returns the generated client, for what this package does not have, such as headers and Describe.
func (c *Client) API() pb.ChangelogServiceClient {
	return c.api
}

// unary gives each unary call a deadline, and its error the type of this package.
func (c *Client) unary(
	ctx context.Context, method string, request, response any, conn *grpc.ClientConn, invoke grpc.UnaryInvoker,
	options ...grpc.CallOption,
) error {
	ctx, cancel := within(ctx, c.callTimeout)
	defer cancel()
	return errorOf(invoke(ctx, method, request, response, conn, options...))
}

// within adds a deadline if there is none.
func within(ctx context.Context, timeout time.Duration) (context.Context, context.CancelFunc) {
	if _, ok := ctx.Deadline(); ok {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, timeout)
}

// WriteOption changes a Set or Delete.
type WriteOption func(*pb.Ack)

// Buffered makes a write return when it is queued, without a Position. Flush lists the writes that failed after that.
func Buffered() WriteOption {
	return func(ack *pb.Ack) { *ack = pb.Ack_ACK_BUFFERED }
}

func ackOf(options []WriteOption) pb.Ack {
	ack := pb.Ack_ACK_DURABLE
	for _, option := range options {
		option(&ack)
	}
	return ack
}

// Set writes an entity.
func (c *Client) Set(ctx context.Context, entity Entity, options ...WriteOption) (Position, error) {
	key, id, value, err := encode(entity)
	if err != nil {
		return Position{}, err
	}
	response, err := c.api.Set(ctx, &pb.SetRequest{
		WorkspaceId: key.Workspace, ChangelogId: id, Value: &pb.SetRequest_Raw{Raw: value}, Ack: ackOf(options),
	})
	return positionOf(response.GetPosition()), err
}

// Delete deletes an entity. Deleting an absent one is no error.
func (c *Client) Delete(ctx context.Context, key Key, options ...WriteOption) (Position, error) {
	id, err := key.changelogID()
	if err != nil {
		return Position{}, err
	}
	response, err := c.api.Delete(ctx, &pb.DeleteRequest{
		WorkspaceId: key.Workspace, ChangelogId: id, Ack: ackOf(options),
	})
	return positionOf(response.GetPosition()), err
}

// Get returns the value of an entity, and whether there is one. On Kafka it replays a whole partition, so use Load in
// place of a loop.
func Get[T any](ctx context.Context, c *Client, key Key) (value T, found bool, err error) {
	id, err := key.changelogID()
	if err != nil {
		return value, false, err
	}
	response, err := c.api.Get(ctx, &pb.GetRequest{WorkspaceId: key.Workspace, ChangelogId: id})
	var failure *Error
	if errors.As(err, &failure) && failure.Code == codes.NotFound && failure.Reason == "KEY_NOT_FOUND" {
		return value, false, nil
	}
	if err != nil {
		return value, false, err
	}
	value, err = Decode[T](Entry{Key: key, Value: response.GetEntry().GetRaw()})
	return value, err == nil, err
}

// FlushResult is the outcome of the writes that the server accepted before a Flush.
type FlushResult struct {
	// Remaining is how many of them are still in flight.
	Remaining uint64
	// Failures are the buffered writes that failed since the previous Flush of this Client, those of other clients too.
	Failures []WriteFailure
	// Omitted counts failures that the server no longer keeps. It keeps the newest 10,000.
	Omitted uint64
}

// WriteFailure is a buffered write that failed after it was queued.
type WriteFailure struct {
	Key Key
	Err *Error
}

// Flush waits until the server has written what it accepted before. It waits for at most timeout, rounded up to a
// millisecond; 0 means 5 s, and the server lowers more than 60 s to that. After an error, the next Flush returns
// the failures. An error that names keys of the server that can't be split comes with them; they have no Key. One Flush
// returns at most 10,000 failures, and the next one returns the rest.
func (c *Client) Flush(ctx context.Context, timeout time.Duration) (FlushResult, error) {
	ctx, cancel := within(ctx, timeout+c.callTimeout)
	defer cancel()
	var result FlushResult
	var last uint64
	select {
	case last = <-c.lastFailure:
		defer func() { c.lastFailure <- last }()
	case <-ctx.Done():
		return result, errorOfContext(ctx)
	}
	start := last
	wait := min((timeout+time.Millisecond-1)/time.Millisecond, time.Minute/time.Millisecond)
	for page := 0; ; page++ {
		request := &pb.FlushRequest{TimeoutMs: uint32(max(wait, 0)), FailuresAfter: last}
		response, err := c.api.Flush(ctx, request)
		if err != nil {
			last = start
			return FlushResult{}, err
		}
		if page == 0 {
			result.Remaining = response.GetRemaining()
		}
		result.Omitted += response.GetFailuresOmitted()
		last = response.GetLastFailure()
		failures := response.GetFailures()
		var malformed error
		for _, failure := range failures[:min(len(failures), keptFailures-len(result.Failures))] {
			key, err := ParseKey(failure.GetKey())
			malformed = errors.Join(malformed, err)
			result.Failures = append(result.Failures, WriteFailure{Key: key, Err: errorOfMessage(failure.GetError())})
			last = failure.GetId()
		}
		// An answer has at most 3 MiB of failures, so there may be more. The rest needs no wait. While writes go on to
		// fail, the loop ends when it has as many as the server keeps.
		if malformed != nil || len(failures) == 0 || len(result.Failures) == keptFailures {
			return result, malformed
		}
		wait = 1
	}
}
