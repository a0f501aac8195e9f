package changelogd_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	changelogd "changelogd.example/go"
	"changelogd.example/go/changelogv1"
)

func TestFlushListsFailedWrites(t *testing.T) {
	onBoth(t, func(t *testing.T, client *changelogd.Client, workspace string) {
		for i := range 100 {
			entity := Deployment{Workspace: workspace, ID: fmt.Sprint(i)}
			position, err := client.Set(testContext(t), entity, changelogd.Buffered())
			equal(t, must(t, position, err), changelogd.Position{})
		}
		result, err := client.Flush(testContext(t), 10*time.Second)
		equal(t, must(t, result, err).Remaining, 0)
		// Other clients may have failed writes.
		for _, failure := range result.Failures {
			if failure.Key.Workspace == workspace {
				t.Fatalf("%s failed: %v", failure.Key, failure.Err)
			}
		}
		values, err := changelogd.Load[Deployment](testContext(t), client, workspace, "deployment")
		equal(t, len(must(t, values, err)), 100)
	})

	client := scripted(t)
	result, err := client.Flush(testContext(t), time.Second)
	equal(t, len(must(t, result, err).Failures), 2)
	for i, id := range []string{"a", "b"} {
		failure := result.Failures[i]
		equal(t, failure.Key, deploymentKey("flush", id))
		equal(t, failure.Err.Code, codes.Unavailable)
		equal(t, failure.Err.Reason, "BROKERS_UNREACHABLE")
		equal(t, failure.Err.RetryAfter, time.Second)
		equal(t, failure.Err.SafeToRetry(), true)
	}
	result, err = client.Flush(testContext(t), time.Second)
	equal(t, len(must(t, result, err).Failures), 0)

	// Of several at the same time, each failure is returned by one.
	client = scripted(t)
	ctx, counts := testContext(t), make(chan int)
	for range 4 {
		go func() {
			result, _ := client.Flush(ctx, time.Second)
			counts <- len(result.Failures)
		}()
	}
	equal(t, <-counts+<-counts+<-counts+<-counts, 2)
}

// flushes answers with failures whose ids follow each other: one that has no key, then more than a Flush returns.
type flushes struct {
	changelogv1.UnimplementedChangelogServiceServer
}

func (flushes) Flush(_ context.Context, request *changelogv1.FlushRequest) (*changelogv1.FlushResponse, error) {
	response := &changelogv1.FlushResponse{LastFailure: request.GetFailuresAfter()}
	for len(response.Failures) < 6_000 && response.LastFailure < 6_000+10_500 {
		failure := &changelogv1.WriteFailure{Id: response.LastFailure + 1, Key: "ws/deployment/a"}
		if failure.Id == 1 {
			failure.Key = "no key"
		}
		response.Failures, response.LastFailure = append(response.Failures, failure), failure.Id
	}
	return response, nil
}

// Not of the table: a key that can't be split, and more failures than one call returns.
func TestFlushLosesNoFailure(t *testing.T) {
	t.Parallel()
	server := grpc.NewServer()
	changelogv1.RegisterChangelogServiceServer(server, flushes{})
	client := clientOf(t, server)
	result, err := client.Flush(testContext(t), time.Second)
	if err == nil || !strings.Contains(err.Error(), `"no key"`) {
		t.Fatalf("got %v", err)
	}
	equal(t, len(result.Failures), 6_000)
	equal(t, result.Failures[0].Key, changelogd.Key{})
	for _, count := range []int{10_000, 500, 0} {
		result, err := client.Flush(testContext(t), time.Second)
		equal(t, len(must(t, result, err).Failures), count)
	}
}

func TestAWriterAnswersEachMutation(t *testing.T) {
	onBoth(t, func(t *testing.T, client *changelogd.Client, workspace string) {
		ctx := testContext(t)
		set(t, client, Deployment{Workspace: workspace, ID: "deleted"})
		writer := client.NewWriter(ctx)
		first := writer.Set(ctx, Deployment{Workspace: workspace, ID: "a", Name: "a", Version: 1})
		refused := writer.Set(ctx, Deployment{Workspace: workspace, ID: "not//valid"})
		notJSON := document{Key: deploymentKey(workspace, "b"), Arbitrary: json.RawMessage("{")}
		notEncoded := writer.Set(ctx, notJSON)
		deleted := writer.Delete(ctx, deploymentKey(workspace, "deleted"))
		last := writer.Set(ctx, Deployment{Workspace: workspace, ID: "c", Name: "c", Version: 3})
		must(t, writer, writer.Close(ctx))

		offset := int64(-1)
		for _, verdict := range []*changelogd.Verdict{first, deleted, last} {
			position, err := verdict.Wait(ctx)
			if must(t, position, err).Offset <= offset {
				t.Fatalf("offset %d came after %d", position.Offset, offset)
			}
			offset = position.Offset
		}
		_, err := refused.Wait(ctx)
		failure := errorOf(t, err)
		equal(t, failure.Code, codes.InvalidArgument)
		equal(t, failure.Reason, "KEY_INVALID")
		equal(t, failure.Field, "changelog_id")
		if _, err := notEncoded.Wait(ctx); err == nil || !strings.Contains(err.Error(), workspace+"/deployment/b") {
			t.Fatalf("got %v", err)
		}
		_, err = writer.Delete(ctx, deploymentKey(workspace, "a")).Wait(ctx)
		equal(t, err, changelogd.ErrWriterClosed)
		must(t, writer, writer.Close(ctx)) // Again.

		values, err := changelogd.Load[Deployment](ctx, client, workspace, "deployment")
		equalMaps(t, must(t, values, err), map[string]Deployment{
			"a": {Name: "a", Version: 1},
			"c": {Name: "c", Version: 3},
		})
	})
}

// sized returns an entity whose value has about this many bytes.
func sized(workspace string, id any, bytes int) Deployment {
	return Deployment{Workspace: workspace, ID: fmt.Sprint(id), Name: strings.Repeat("x", bytes)}
}

func TestAWriterBoundsItsBatches(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	for _, of := range []struct {
		sizes                   []int
		messages, mostMutations int
	}{
		{slices.Repeat([]int{10}, 2_500), 3, 1_000},
		{slices.Repeat([]int{400_000}, 5), 3, 2},
		// A mutation of more than 1 MiB goes alone.
		{[]int{10, 3 << 20, 10}, 3, 1},
	} {
		// It connects when everything is queued.
		queued := make(chan struct{})
		dial := func(ctx context.Context, address string) (net.Conn, error) {
			<-queued
			return (&net.Dialer{}).DialContext(ctx, "tcp", address)
		}
		client := connect(t, changelogd.Config{
			Address:     variable(t, "CHANGELOGD_TEST_SCRIPTED"),
			DialOptions: []grpc.DialOption{grpc.WithContextDialer(dial)},
		})
		workspace, writer := fresh("count"), client.NewWriter(ctx)
		var verdicts []*changelogd.Verdict
		for i, size := range of.sizes {
			verdicts = append(verdicts, writer.Set(ctx, sized(workspace, i, size)))
		}
		close(queued)
		must(t, writer, writer.Close(ctx))
		for i, verdict := range verdicts {
			position, err := verdict.Wait(ctx)
			equal(t, must(t, position, err).Offset, int64(i))
		}
		seen := observe(t, client, workspace)
		equal(t, seen.Messages, of.messages)
		equal(t, seen.MostMutations, of.mostMutations)
		equal(t, seen.MostBytes <= 1<<20 || seen.MostMutations == 1, true)
	}

	// Verdicts make room for more: this is more than 10,000 mutations, and more than 8 MiB.
	workspace, writer := fresh("count"), scripted(t).NewWriter(ctx)
	for i := range 10_500 {
		writer.Set(ctx, sized(workspace, i, 1_000))
	}
	last := writer.Set(ctx, sized(workspace, "last", 10))
	position, err := last.Wait(ctx)
	equal(t, must(t, position, err).Offset, 10_500)
	must(t, writer, writer.Close(ctx))

	// A server that does not read.
	client := scripted(t)
	for bytes, most := range map[int]int{10: 10_000, 400_000: 20} {
		workspace, writer := fresh("stall"), client.NewWriter(ctx)
		var verdicts []*changelogd.Verdict
		for {
			soon, cancel := context.WithTimeout(ctx, 300*time.Millisecond)
			verdict := writer.Set(soon, sized(workspace, len(verdicts), bytes))
			waited := soon.Err() != nil
			cancel()
			if waited {
				_, err := verdict.Wait(ctx)
				equal(t, errorOf(t, err).Code, codes.DeadlineExceeded)
				break
			}
			verdicts = append(verdicts, verdict)
		}
		equal(t, len(verdicts), most)

		soon, cancel := context.WithTimeout(ctx, 10*time.Millisecond)
		equal(t, errorOf(t, writer.Close(soon)).Code, codes.Canceled)
		cancel()
		for _, verdict := range verdicts {
			_, err := verdict.Wait(ctx)
			equal(t, errorOf(t, err).SafeToRetry(), false)
		}
	}
}

func TestABrokenWriterAnswersWithUnknownOutcomes(t *testing.T) {
	t.Parallel()
	client, ctx := scripted(t), testContext(t)
	workspace, writer := fresh("cut"), client.NewWriter(ctx)
	first := writer.Set(ctx, sized(workspace, "first", 10))
	var others []*changelogd.Verdict
	for i := range 10 {
		others = append(others, writer.Set(ctx, sized(workspace, i, 10)))
	}
	position, err := first.Wait(ctx)
	must(t, position, err)
	for _, verdict := range others {
		_, err := verdict.Wait(ctx)
		failure := errorOf(t, err)
		equal(t, failure.Code, codes.Unavailable)
		equal(t, failure.SafeToRetry(), false)
	}
	_, err = writer.Set(ctx, sized(workspace, "late", 10)).Wait(ctx)
	equal(t, errorOf(t, err).Code, codes.Unavailable)
	equal(t, errorOf(t, writer.Close(ctx)).Code, codes.Unavailable)

	// These verdicts are dropped.
	workspace, writer = fresh("cut"), client.NewWriter(ctx)
	for i := range 2 {
		writer.Set(ctx, sized(workspace, i, 10))
	}
	for range 2 {
		equal(t, errorOf(t, writer.Close(ctx)).Code, codes.Unavailable)
	}
}
