package changelogd

import (
	"context"
	"errors"
	"io"
	"iter"
	"slices"

	pb "changelogd.example/go/changelogv1"
)

// Load returns the values of all entities of one workspace and type, by their ID. It returns all of them or an error.
func Load[T any](ctx context.Context, c *Client, workspace, entityType string) (map[string]T, error) {
	ctx, cancel := within(ctx, c.loadTimeout)
	defer cancel()
	values := map[string]T{}
	_, err := c.load(ctx, workspace, []string{entityType}, func(entry Entry) error {
		value, err := Decode[T](entry)
		values[entry.Key.ID] = value
		return err
	})
	if err != nil {
		return nil, err
	}
	return values, nil
}

// load calls visit for each entry, and returns the resume token. Without an error the load is complete.
func (c *Client) load(ctx context.Context, workspace string, types []string, visit func(Entry) error) ([]byte, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := c.api.LoadWorkspace(ctx, &pb.LoadWorkspaceRequest{WorkspaceId: workspace, EntityTypes: types})
	if err != nil {
		return nil, errorOf(err)
	}
	var snapshot *pb.Snapshot
	err = receive(stream.Recv, visit, func(event *pb.LoadWorkspaceResponse) error {
		if event.GetSnapshot() != nil {
			snapshot = event.GetSnapshot()
		}
		return nil
	})
	if err == nil && snapshot == nil {
		err = ErrIncomplete
	}
	return snapshot.GetResumeToken(), err
}

// Scope narrows a stream. Empty lists mean all. Each list has at most 10,000 elements.
type Scope struct {
	Workspaces []string
	Types      []string
	Partitions []int32
}

// StreamEvent is an Entry or a Snapshot.
type StreamEvent interface{ streamEvent() }

func (Entry) streamEvent()    {}
func (Snapshot) streamEvent() {}

// Snapshot says that a partition is complete, from StartOffset to the offset before EndOffset.
type Snapshot struct {
	Partition              int32
	StartOffset, EndOffset int64
}

// Stream delivers the records that are in the log, tombstones included, and one Snapshot for each partition. It ends
// with an error unless the Snapshot of each partition came. To know the partitions of several workspaces, it calls
// Describe for each of them.
func (c *Client) Stream(ctx context.Context, scope Scope) iter.Seq2[StreamEvent, error] {
	return sequence(func(deliver func(StreamEvent) error) error {
		ctx, cancel := within(ctx, c.loadTimeout)
		defer cancel()
		stream, err := c.api.StreamAll(ctx, &pb.StreamAllRequest{
			Partitions: scope.Partitions, WorkspaceIds: scope.Workspaces, EntityTypes: scope.Types,
			Content: pb.Content_CONTENT_RECORDS,
		})
		if err != nil {
			return errorOf(err)
		}
		complete := map[int32]bool{}
		visit := func(entry Entry) error { return deliver(entry) }
		err = receive(stream.Recv, visit, func(event *pb.StreamAllResponse) error {
			s := event.GetSnapshot()
			if s == nil {
				return nil
			}
			complete[s.GetPartition()] = true
			return deliver(Snapshot{s.GetPartition(), s.GetStartOffset(), s.GetEndOffset()})
		})
		if err != nil {
			return err
		}
		return c.checkComplete(ctx, scope, complete)
	})
}

// checkComplete returns ErrIncomplete if a partition of the scope has no Snapshot.
func (c *Client) checkComplete(ctx context.Context, scope Scope, complete map[int32]bool) error {
	wanted := scope.Partitions
	switch {
	case len(scope.Workspaces) == 1:
		for partition := range complete {
			wanted = []int32{partition}
		}
	case len(scope.Workspaces) > 1:
		wanted = nil
		for _, workspace := range scope.Workspaces {
			described, err := c.api.Describe(ctx, &pb.DescribeRequest{WorkspaceId: workspace})
			if err != nil {
				return err
			}
			if described.WorkspacePartition == nil {
				return ErrIncomplete
			}
			wanted = append(wanted, described.GetWorkspacePartition())
		}
	case len(wanted) == 0:
		described, err := c.api.Describe(ctx, &pb.DescribeRequest{})
		if err != nil {
			return err
		}
		for partition := range described.GetPartitionCount() {
			wanted = append(wanted, partition)
		}
	}
	missing := func(partition int32) bool { return !complete[partition] }
	// No wanted partition means that their number is not known.
	if len(wanted) == 0 || slices.ContainsFunc(wanted, missing) {
		return ErrIncomplete
	}
	return nil
}

// receive calls visit for each entry, and then after for its event, until the stream has ended with OK. An event of a
// later version of the API has no entries and no Snapshot.
func receive[E interface{ GetBatch() *pb.EntryBatch }](
	next func() (E, error), visit func(Entry) error, after func(E) error,
) error {
	for {
		event, err := next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return errorOf(err)
		}
		for _, e := range event.GetBatch().GetEntries() {
			entry, err := entryOf(e)
			if err == nil {
				err = visit(entry)
			}
			if err != nil {
				return err
			}
		}
		if err := after(event); err != nil {
			return err
		}
	}
}

// errStopped says that the loop over a sequence has ended.
var errStopped = errors.New("changelogd: the loop has ended")

// sequence is what produce delivers, and then its error.
func sequence[E any](produce func(deliver func(E) error) error) iter.Seq2[E, error] {
	return func(yield func(E, error) bool) {
		err := produce(func(event E) error {
			if !yield(event, nil) {
				return errStopped
			}
			return nil
		})
		if err != nil && err != errStopped {
			var none E
			yield(none, err)
		}
	}
}
