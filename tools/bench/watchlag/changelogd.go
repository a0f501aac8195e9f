package main

import (
	"context"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"changelogd.example/go/changelogv1"
	"changelogd/tools/bench/watchlag/lags"
)

type changelogdWriter struct {
	client changelogv1.ChangelogServiceClient
}

type changelogdWatcher struct {
	client changelogv1.ChangelogServiceClient
	stream grpc.ServerStreamingClient[changelogv1.WatchResponse]
}

func connectChangelogd(address string) (writer, watcher, error) {
	var clients [2]changelogv1.ChangelogServiceClient
	for i := range clients {
		connection, err := grpc.NewClient(
			address, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithNoProxy(),
		)
		if err != nil {
			return nil, nil, err
		}
		clients[i] = changelogv1.NewChangelogServiceClient(connection)
	}
	return changelogdWriter{clients[0]}, &changelogdWatcher{client: clients[1]}, nil
}

func (w changelogdWriter) put(ctx context.Context, key string, value []byte) (int64, error) {
	answer, err := w.client.Set(ctx, &changelogv1.SetRequest{
		ChangelogId: key,
		Value:       &changelogv1.SetRequest_Raw{Raw: value},
	})
	return answer.GetPosition().GetOffset(), err
}

func (w *changelogdWatcher) start(ctx context.Context, workspace string) error {
	stream, err := w.client.Watch(ctx, &changelogv1.WatchRequest{WorkspaceId: workspace})
	if err != nil {
		return err
	}
	w.stream = stream
	for {
		response, err := stream.Recv()
		if err != nil || response.GetSynced() != nil {
			return err
		}
	}
}

func (w *changelogdWatcher) next() ([]lags.Event, error) {
	response, err := w.stream.Recv()
	// A bookmark has no entries.
	entries := response.GetBatch().GetEntries()
	events := make([]lags.Event, 0, len(entries))
	for _, entry := range entries {
		events = append(events, lags.Event{Key: entry.GetKey(), Number: entry.GetOffset()})
	}
	return events, err
}
