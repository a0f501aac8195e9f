package main

import (
	"context"
	"errors"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"changelogd/tools/bench/watchlag/lags"
)

type etcdWriter struct{ client *clientv3.Client }

type etcdWatcher struct {
	client    *clientv3.Client
	responses clientv3.WatchChan
}

func connectEtcd(ctx context.Context, address string) (writer, watcher, error) {
	var clients [2]*clientv3.Client
	for i := range clients {
		client, err := clientv3.New(clientv3.Config{
			Context: ctx, Endpoints: []string{"http://" + address}, Logger: zap.NewNop(),
		})
		if err != nil {
			return nil, nil, err
		}
		clients[i] = client
	}
	return etcdWriter{clients[0]}, &etcdWatcher{client: clients[1]}, nil
}

func (w etcdWriter) put(ctx context.Context, key string, value []byte) (int64, error) {
	answer, err := w.client.Put(ctx, key, string(value))
	if err != nil {
		return 0, err
	}
	return answer.Header.Revision, nil
}

func (w *etcdWatcher) start(ctx context.Context, workspace string) error {
	w.responses = w.client.Watch(ctx, workspace+"/", clientv3.WithPrefix(), clientv3.WithCreatedNotify())
	// The first response says that the watch exists.
	_, err := w.next()
	return err
}

func (w *etcdWatcher) next() ([]lags.Event, error) {
	response, open := <-w.responses
	if !open {
		return nil, errors.New("closed")
	}
	events := make([]lags.Event, 0, len(response.Events))
	for _, event := range response.Events {
		events = append(events, lags.Event{Key: string(event.Kv.Key), Number: event.Kv.ModRevision})
	}
	return events, response.Err()
}
