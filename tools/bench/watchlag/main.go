// Command watchlag measures the time from a write to the event of a watch. One client writes, and another one with a
// connection of its own watches.
//
//	watchlag -system changelogd|etcd|nats -address host:port -entities file [-warm-up 20]
//
// Each line of the file is a key and a value, with a space between them. All keys are different. They begin with the
// same workspace and a "/", and the watch is one of that workspace. The values are written one after another, each
// after the answer to the one before it. No write waits for an event.
//
// It prints one JSON object {writes, before_answer, from_call, from_answer} and exits 0. If an event is missing, or
// there is another one, it exits 1.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"
	"time"

	"changelogd/tools/bench/watchlag/lags"
)

const (
	// The whole run takes seconds.
	runTimeout = 2 * time.Minute
	// An event that takes longer has got lost.
	eventTimeout = 10 * time.Second
)

// A writer has a connection of its own.
type writer interface {
	// put returns the number that the system gave the write. Later writes have larger ones.
	put(ctx context.Context, key string, value []byte) (int64, error)
}

// A watcher has another one.
type watcher interface {
	// start returns when the state has been delivered, and changes follow.
	start(ctx context.Context, workspace string) error
	// next waits for the next changes. The caller sets the time.
	next() ([]lags.Event, error)
}

type entity struct {
	key   string
	value []byte
}

// What one call of next returned.
type batch struct {
	events []lags.Event
	err    error
}

func main() {
	system := flag.String("system", "", "changelogd, etcd or nats")
	address := flag.String("address", "", "host:port of the server")
	file := flag.String("entities", "", "a file of keys and values")
	warmUp := flag.Int("warm-up", 20, "how many writes come before those that are measured")
	flag.Parse()
	if flag.NArg() > 0 {
		fail(fmt.Errorf("watchlag takes no argument %q", flag.Arg(0)))
	}
	entities, err := read(*file)
	if err == nil && len(entities) <= *warmUp {
		err = fmt.Errorf("%s has %d lines, and %d are written first", *file, len(entities), *warmUp)
	}
	if err != nil {
		fail(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), runTimeout)
	defer cancel()
	to, from, err := connect(ctx, *system, *address)
	if err != nil {
		fail(fmt.Errorf("%s: %w", *system, err))
	}
	result, err := measure(ctx, to, from, entities, *warmUp)
	if err != nil {
		fail(fmt.Errorf("%s: %w", *system, err))
	}
	if err := json.NewEncoder(os.Stdout).Encode(result); err != nil {
		fail(err)
	}
}

func fail(err error) {
	fmt.Fprintf(os.Stderr, "watchlag: %v\n", err)
	os.Exit(1)
}

func read(file string) ([]entity, error) {
	opened, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer opened.Close()
	var entities []entity
	lines := bufio.NewScanner(opened)
	for lines.Scan() {
		key, value, found := strings.Cut(lines.Text(), " ")
		if !found {
			return nil, fmt.Errorf("%s: line %d has no value", file, len(entities)+1)
		}
		entities = append(entities, entity{key, []byte(value)})
	}
	return entities, lines.Err()
}

func connect(ctx context.Context, system, address string) (writer, watcher, error) {
	switch system {
	case "changelogd":
		return connectChangelogd(address)
	case "etcd":
		return connectEtcd(ctx, address)
	case "nats":
		return connectNATS(ctx, address)
	}
	return nil, nil, errors.New("-system must be changelogd, etcd or nats")
}

// Writes all of them, and pairs each write with its event. The measured writes begin when the events of the first ones
// have come, because a connection or a watch may be slow at first.
func measure(ctx context.Context, to writer, from watcher, entities []entity, warmUp int) (*lags.Result, error) {
	workspace, _, _ := strings.Cut(entities[0].key, "/")
	if err := from.start(ctx, workspace); err != nil {
		return nil, fmt.Errorf("the watch does not start: %w", err)
	}
	received := make(chan batch, len(entities)+1)
	go func() {
		for count := 0; count < len(entities); {
			events, err := from.next()
			at := time.Now()
			for i := range events {
				events[i].At = at
			}
			received <- batch{events, err}
			if err != nil {
				return
			}
			count += len(events)
		}
	}()
	var events []lags.Event
	writes := make([]lags.Write, 0, len(entities))
	for i, entity := range entities {
		if i == warmUp {
			var err error
			if events, err = take(received, events, len(writes)); err != nil {
				return nil, err
			}
		}
		called := time.Now()
		number, err := to.put(ctx, entity.key, entity.value)
		answered := time.Now()
		if err != nil {
			return nil, fmt.Errorf("write %d failed: %w", i, err)
		}
		writes = append(writes, lags.Write{Key: entity.key, Number: number, Called: called, Answered: answered})
	}
	events, err := take(received, events, len(writes))
	if err != nil {
		return nil, err
	}
	return lags.Of(writes, events, warmUp)
}

// take adds events until there are enough of them.
func take(received <-chan batch, events []lags.Event, enough int) ([]lags.Event, error) {
	timeout := time.After(eventTimeout)
	for len(events) < enough {
		select {
		case next := <-received:
			events = append(events, next.events...)
			if next.err != nil {
				return nil, fmt.Errorf("the watch ended after %d events: %w", len(events), next.err)
			}
		case <-timeout:
			return nil, fmt.Errorf("of %d writes only %d events have come", enough, len(events))
		}
	}
	return events, nil
}
