package changelogd_test

import (
	"context"
	"fmt"
	"net"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/anypb"

	changelogd "changelogd.example/go"
)

func TestAnInvalidKeyIsRefusedWithItsField(t *testing.T) {
	onBoth(t, func(t *testing.T, client *changelogd.Client, workspace string) {
		for field, keys := range map[string][]changelogd.Key{
			"changelog_id": {
				{Workspace: workspace, Type: "deployment", ID: ""},
				{Workspace: workspace, Type: "deployment", ID: "a//b"},
				{Workspace: workspace, Type: "", ID: "a"},
				// These two are not sent.
				{Workspace: workspace, Type: "deployment/a", ID: "b"},
				{Workspace: workspace, Type: "deployment", ID: "\xff"},
			},
			"workspace_id": {
				{Workspace: "", Type: "deployment", ID: "a"},
				{Workspace: workspace + "/deployment", Type: "a", ID: "b"},
			},
		} {
			for _, key := range keys {
				_, setErr := client.Set(testContext(t), document{Key: key})
				_, deleteErr := client.Delete(testContext(t), key)
				_, _, getErr := changelogd.Get[document](testContext(t), client, key)
				for _, err := range []error{setErr, deleteErr, getErr} {
					failure := errorOf(t, err)
					got := fmt.Sprint(failure.Code, failure.Reason, failure.Field)
					equal(t, got, fmt.Sprint(codes.InvalidArgument, "KEY_INVALID", field))
					equal(t, failure.SafeToRetry(), false)
				}
			}
		}
	})
}

func TestAnErrorHasItsFacts(t *testing.T) {
	t.Parallel()
	client := scripted(t)
	for script, want := range map[string]changelogd.Error{
		"busy": {
			Code:       codes.ResourceExhausted,
			Reason:     "PRODUCER_QUEUE_FULL",
			Message:    "the queue is full",
			RetryAfter: 1500 * time.Millisecond,
			Metadata:   map[string]string{"limit": "1000"},
		},
		"refused": {
			Code:     codes.InvalidArgument,
			Reason:   "VALUE_TOO_LARGE",
			Message:  "too large",
			Field:    "raw",
			Metadata: map[string]string{"limit": "10", "got": "11"},
		},
	} {
		entity := Deployment{Workspace: fresh(script), ID: "a"}
		_, ofCall := client.Set(testContext(t), entity)
		writer := client.NewWriter(testContext(t))
		_, ofVerdict := writer.Set(testContext(t), entity).Wait(testContext(t))
		must(t, writer, writer.Close(testContext(t)))
		for _, err := range []error{ofCall, ofVerdict} {
			if failure := errorOf(t, err); !reflect.DeepEqual(*failure, want) {
				t.Fatalf("got %+v, want %+v", *failure, want)
			}
			equal(t, status.Code(err), want.Code)
		}
	}
}

func TestSafeToRetryFollowsTheStatusTable(t *testing.T) {
	t.Parallel()
	client := connect(t, changelogd.Config{
		Address:     variable(t, "CHANGELOGD_TEST_SCRIPTED"),
		DialOptions: []grpc.DialOption{grpc.WithDisableRetry()},
	})
	safe := map[string]bool{
		"14-STARTING":            true,
		"14-BROKERS_UNREACHABLE": true,
		"8-PRODUCER_QUEUE_FULL":  true,
		"8-MEMORY_LIMIT":         true,
		"10-LOG_MOVED":           true,
		"10-LOG_TRUNCATED":       true,
		"4-DEADLINE":             true,
		"14-":                    false, // An ErrorInfo with an empty reason.
		"2-OUTCOME_UNKNOWN":      false,
		"3-KEY_INVALID":          false,
		"4-OUTCOME_UNKNOWN":      false,
		"5-KEY_NOT_FOUND":        false,
		"9-TOPIC_NOT_FOUND":      false,
		"11-RESYNC_REQUIRED":     false,
		"12-NOT_IMPLEMENTED":     false,
		"13-INTERNAL_FAULT":      false,
		"15-STORE_CORRUPT":       false,
	}
	// Without our ErrorInfo.
	for code := codes.Canceled; code <= codes.Unauthenticated; code++ {
		safe[fmt.Sprint(uint32(code))] = false
	}
	for script, want := range safe {
		number, reason, _ := strings.Cut(script, "-")
		code, err := strconv.Atoi(number)
		must(t, code, err)
		_, err = client.Set(testContext(t), Deployment{Workspace: fresh("status-" + script), ID: "a"})
		failure := errorOf(t, err)
		equal(t, failure.Code, codes.Code(code))
		equal(t, failure.Reason, reason)
		if failure.SafeToRetry() != want {
			t.Fatalf("status %s is called safe to retry: %v", script, !want)
		}
	}
}

func TestUnavailableIsRetried(t *testing.T) {
	t.Parallel()
	client := scripted(t)
	empty := len(`{"name":"","version":0}`)
	// The second is larger than the buffer for retries that gRPC has by default.
	for _, bytes := range []int{empty, 300_000} {
		workspace := fresh("starting")
		set(t, client, sized(workspace, "a", bytes-empty))
		equal(t, observe(t, client, workspace).Calls, 3)
	}
}

func TestAnUnknownOutcomeIsNotRetried(t *testing.T) {
	t.Parallel()
	client, workspace := scripted(t), fresh("unknown")
	_, err := client.Set(testContext(t), Deployment{Workspace: workspace, ID: "a"})
	failure := errorOf(t, err)
	equal(t, failure.Code, codes.DeadlineExceeded)
	equal(t, failure.Reason, "OUTCOME_UNKNOWN")
	equal(t, observe(t, client, workspace).Calls, 1)
}

func TestTheDeadlineIsPassedOn(t *testing.T) {
	t.Parallel()
	const most = 500 * time.Millisecond
	server := variable(t, "CHANGELOGD_TEST_SCRIPTED")
	withDefaults := connect(t, changelogd.Config{Address: server, CallTimeout: most, LoadTimeout: most})
	type call func(context.Context, *changelogd.Client, string) error
	calls := map[string]call{
		"set": func(ctx context.Context, client *changelogd.Client, workspace string) error {
			_, err := client.Set(ctx, Deployment{Workspace: workspace, ID: "a"})
			return err
		},
		"load": func(ctx context.Context, client *changelogd.Client, workspace string) error {
			_, err := changelogd.Load[Deployment](ctx, client, workspace, "deployment")
			return err
		},
	}
	check := func(ctx context.Context, client *changelogd.Client, do call) {
		t.Helper()
		workspace, begun := fresh("hang"), time.Now()
		equal(t, errorOf(t, do(ctx, client, workspace)).Code, codes.DeadlineExceeded)
		if took := time.Since(begun); took < most/2 || took > most+5*time.Second {
			t.Fatalf("it ended after %v", took)
		}
		if seen := observe(t, client, workspace).TimeoutMs; seen <= 0 || seen > int(most.Milliseconds()) {
			t.Fatalf("the server has seen a timeout of %d ms", seen)
		}
	}
	for name, do := range calls {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(testContext(t), most)
			defer cancel()
			check(ctx, scripted(t), do)
			// A caller without a deadline gets the client's.
			check(context.Background(), withDefaults, do)
		})
	}
}

func TestCancelStopsALoad(t *testing.T) {
	t.Parallel()
	client, workspace := scripted(t), fresh("hang")
	ctx, cancel := context.WithCancel(testContext(t))
	defer cancel()
	ended := make(chan error, 1)
	go func() {
		_, err := changelogd.Load[Deployment](ctx, client, workspace, "deployment")
		ended <- err
	}()
	observeUntil(t, client, workspace, func(seen observation) bool { return seen.Calls == 1 })
	cancel()
	select {
	case err := <-ended:
		equal(t, errorOf(t, err).Code, codes.Canceled)
	case <-time.After(time.Second):
		t.Fatal("the load goes on")
	}
	observeUntil(t, client, workspace, func(seen observation) bool { return seen.Cancelled })
}

// answering returns a client of a server that answers each call with this status.
func answering(t *testing.T, answer *spb.Status) *changelogd.Client {
	t.Helper()
	return clientOf(t, grpc.NewServer(grpc.UnknownServiceHandler(func(any, grpc.ServerStream) error {
		return status.FromProto(answer).Err()
	})))
}

// clientOf returns a client of a server in this process.
func clientOf(t *testing.T, server *grpc.Server) *changelogd.Client {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, listener, err)
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(server.Stop)
	return connect(t, changelogd.Config{Address: listener.Addr().String()})
}

func infoOf(t *testing.T, domain, reason string) *anypb.Any {
	t.Helper()
	info, err := anypb.New(&errdetails.ErrorInfo{Domain: domain, Reason: reason})
	return must(t, info, err)
}

// Not of the table: details that are not ours, or that can't be decoded.
func TestDetailsOfOthersAreNoReason(t *testing.T) {
	t.Parallel()
	info := infoOf(t, "proxy", "STARTING")
	client := answering(t, &spb.Status{
		Code:    int32(codes.Unavailable),
		Message: "from elsewhere",
		Details: []*anypb.Any{
			{TypeUrl: "type.googleapis.com/no.such.Type", Value: []byte{1}},
			{TypeUrl: info.GetTypeUrl(), Value: []byte("garbage")},
			info,
		},
	})
	_, err := changelogd.Load[Deployment](testContext(t), client, "ws", "deployment")
	// The message is the server's, although this was the last of five attempts.
	want := changelogd.Error{Code: codes.Unavailable, Message: "from elsewhere"}
	if failure := errorOf(t, err); !reflect.DeepEqual(*failure, want) || failure.SafeToRetry() {
		t.Fatalf("got %+v, want %+v", *failure, want)
	}
}

// Not of the table: a mutation without a verdict may have been written, also if the stream ended with a reason.
func TestTheReasonOfAStreamIsNotThatOfItsMutations(t *testing.T) {
	t.Parallel()
	client := answering(t, &spb.Status{
		Code:    int32(codes.Unavailable),
		Details: []*anypb.Any{infoOf(t, "changelogd", "DRAINING")},
	})
	writer := client.NewWriter(testContext(t))
	_, err := writer.Set(testContext(t), Deployment{Workspace: "ws", ID: "a"}).Wait(testContext(t))
	failure := errorOf(t, err)
	equal(t, failure.Code, codes.Unavailable)
	equal(t, failure.SafeToRetry(), false)
	equal(t, writer.Close(testContext(t)) != nil, true)
}
