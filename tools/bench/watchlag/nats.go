package main

import (
	"context"
	"errors"
	"strings"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"changelogd/tools/bench/watchlag/lags"
)

const bucket = "watchlag"

type natsWriter struct{ bucket jetstream.KeyValue }

type natsWatcher struct {
	bucket  jetstream.KeyValue
	changes jetstream.KeyWatcher
}

// Subjects have dots between their parts, and a watch of a workspace needs them. The keys of the file have no dots.
var (
	toSubject = strings.NewReplacer("/", ".")
	toKey     = strings.NewReplacer(".", "/")
)

func connectNATS(ctx context.Context, address string) (writer, watcher, error) {
	var buckets [2]jetstream.KeyValue
	for i := range buckets {
		connection, err := nats.Connect("nats://" + address)
		if err != nil {
			return nil, nil, err
		}
		stream, err := jetstream.New(connection)
		if err != nil {
			return nil, nil, err
		}
		config := jetstream.KeyValueConfig{Bucket: bucket, Storage: jetstream.FileStorage}
		if buckets[i], err = stream.CreateOrUpdateKeyValue(ctx, config); err != nil {
			return nil, nil, err
		}
	}
	return natsWriter{buckets[0]}, &natsWatcher{bucket: buckets[1]}, nil
}

func (w natsWriter) put(ctx context.Context, key string, value []byte) (int64, error) {
	revision, err := w.bucket.Put(ctx, toSubject.Replace(key), value)
	return int64(revision), err
}

func (w *natsWatcher) start(ctx context.Context, workspace string) (err error) {
	if w.changes, err = w.bucket.Watch(ctx, workspace+".>"); err != nil {
		return err
	}
	for change := range w.changes.Updates() {
		// After the state.
		if change == nil {
			return nil
		}
	}
	return errors.New("closed")
}

func (w *natsWatcher) next() ([]lags.Event, error) {
	change, open := <-w.changes.Updates()
	if !open {
		return nil, errors.New("closed")
	}
	return []lags.Event{{Key: toKey.Replace(change.Key()), Number: int64(change.Revision())}}, nil
}
