package dev.changelogd.client;

import dev.changelogd.v1.Snapshot;
import dev.changelogd.v1.StreamAllResponse;
import java.util.ArrayDeque;
import java.util.Deque;
import java.util.Iterator;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.function.Supplier;

/** Every record of a scope, tombstones included. It ends only after the Snapshot of each partition. */
public final class RecordStream extends PulledStream<Entry> {
    private final Iterator<StreamAllResponse> events;
    private final int partitions;
    /** The rest of one batch. */
    private final Deque<Entry> batch = new ArrayDeque<>();
    /** By partition. */
    private final Map<Integer, Snapshot> snapshots = new LinkedHashMap<>();

    /** {@code partitions} is how many Snapshots prove that the stream is complete; 0 if that is not known. */
    RecordStream(Supplier<Iterator<StreamAllResponse>> call, int partitions) {
        this.events = attached(call);
        this.partitions = partitions;
    }

    @Override
    Entry fetch() {
        while (batch.isEmpty() && events.hasNext()) {
            StreamAllResponse event = events.next();
            switch (event.getEventCase()) {
                case BATCH -> event.getBatch().getEntriesList().forEach(entry -> batch.add(Entry.of(entry)));
                case SNAPSHOT -> snapshots.put(event.getSnapshot().getPartition(), event.getSnapshot());
                default -> { } // Of a newer server.
            }
        }
        if (batch.isEmpty() && (partitions == 0 || snapshots.size() < partitions)) {
            throw new PartialLoadException("the stream ended after %d snapshots of %s partitions"
                    .formatted(snapshots.size(), partitions == 0 ? "unknown" : partitions));
        }
        return batch.poll();
    }

    /** The Snapshots that have come: one for each partition after the end. */
    public List<Snapshot> snapshots() {
        return List.copyOf(snapshots.values());
    }
}
