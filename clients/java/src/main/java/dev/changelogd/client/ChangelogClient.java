package dev.changelogd.client;

import com.google.protobuf.ByteString;
import dev.changelogd.v1.Ack;
import dev.changelogd.v1.ChangelogServiceGrpc;
import dev.changelogd.v1.ChangelogServiceGrpc.ChangelogServiceBlockingStub;
import dev.changelogd.v1.DeleteRequest;
import dev.changelogd.v1.DeleteResponse;
import dev.changelogd.v1.DescribeRequest;
import dev.changelogd.v1.DescribeResponse;
import dev.changelogd.v1.FlushRequest;
import dev.changelogd.v1.FlushResponse;
import dev.changelogd.v1.GetRequest;
import dev.changelogd.v1.LoadWorkspaceRequest;
import dev.changelogd.v1.LoadWorkspaceResponse;
import dev.changelogd.v1.Position;
import dev.changelogd.v1.SetRequest;
import dev.changelogd.v1.SetResponse;
import dev.changelogd.v1.Snapshot;
import dev.changelogd.v1.StreamAllRequest;
import dev.changelogd.v1.WatchRequest;
import dev.changelogd.v1.WatchResponse;
import io.grpc.ConnectivityState;
import io.grpc.Context;
import io.grpc.ManagedChannel;
import io.grpc.StatusRuntimeException;
import java.time.Duration;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.Iterator;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import java.util.concurrent.TimeUnit;
import java.util.function.Supplier;

/**
 * A connection to a changelogd. Threads may share it. A call that fails throws a {@link ChangelogException}, and a text
 * that can't be a part of a key an {@link IllegalArgumentException}.
 */
public final class ChangelogClient implements AutoCloseable {
    private static final Duration CLOSE_TIMEOUT = Duration.ofSeconds(5);
    /** The server keeps that many failures. While more writes fail meanwhile, a flush must end too. */
    private static final int KEPT_FAILURES = 10_000;

    private final Options options;
    private final ManagedChannel channel;
    private final ChangelogServiceBlockingStub stub;
    /** The id of the newest failure that a flush has returned. */
    private long lastFailure;

    private ChangelogClient(Options options) {
        this.options = options;
        channel = Channels.open(options.address());
        stub = ChangelogServiceGrpc.newBlockingStub(channel);
    }

    /** Connects with {@link Options#defaults}. */
    public static ChangelogClient connect() {
        return connect(Options.defaults());
    }

    /** Connects to {@code host:port} or {@code unix:/path}. */
    public static ChangelogClient connect(String address) {
        return connect(Options.defaults().withAddress(address));
    }

    /** Connects with the first call, which waits until the server is there. */
    public static ChangelogClient connect(Options options) {
        return new ChangelogClient(options);
    }

    /** Writes an entity, and returns when the record is durable. */
    public Position set(Entity entity) {
        return send(entity, Ack.ACK_DURABLE).getPosition();
    }

    /** Queues a write. {@link #flush} waits for it, and says if it failed. */
    public void setBuffered(Entity entity) {
        send(entity, Ack.ACK_BUFFERED);
    }

    private SetResponse send(Entity entity, Ack ack) {
        Key key = entity.changelogKey();
        SetRequest request = SetRequest.newBuilder()
                .setWorkspaceId(key.workspace())
                .setChangelogId(key.changelogId())
                .setRaw(ByteString.copyFrom(entity.changelogValue()))
                .setAck(ack)
                .build();
        return call(() -> within(options.callTimeout()).set(request));
    }

    /** Deletes an entity, and returns when the tombstone is durable. Deleting an absent entity is no error. */
    public Position delete(Key key) {
        return send(key, Ack.ACK_DURABLE).getPosition();
    }

    /** Queues a delete, as {@link #setBuffered} does. */
    public void deleteBuffered(Key key) {
        send(key, Ack.ACK_BUFFERED);
    }

    private DeleteResponse send(Key key, Ack ack) {
        DeleteRequest request = DeleteRequest.newBuilder()
                .setWorkspaceId(key.workspace())
                .setChangelogId(key.changelogId())
                .setAck(ack)
                .build();
        return call(() -> within(options.callTimeout()).delete(request));
    }

    /** Reads one entity. On Kafka this replays a partition, so do not call it in a loop. */
    public <T> Optional<T> get(EntityType<T> type, Key key) {
        GetRequest request = GetRequest.newBuilder()
                .setWorkspaceId(key.workspace())
                .setChangelogId(key.changelogId())
                .build();
        try {
            var entry = call(() -> within(options.callTimeout()).get(request)).getEntry();
            return Optional.of(type.decode(Entry.of(entry)));
        } catch (ChangelogException e) {
            if (e.reason().equals("KEY_NOT_FOUND")) {
                return Optional.empty();
            }
            throw e;
        }
    }

    /** The entities of one workspace and type by their IDs, in the order of their last change. Never a part of them. */
    public <T> Map<String, T> load(String workspace, EntityType<T> type) {
        Map<String, T> values = new LinkedHashMap<>();
        for (Entry entry : loadEntries(workspace, List.of(type.name())).entries()) {
            values.put(entry.key().id(), type.decode(entry));
        }
        return values;
    }

    /** Entries, and the Snapshot which proves that they are complete. */
    record Load(List<Entry> entries, Snapshot snapshot) {}

    /** No types means all of them. */
    Load loadEntries(String workspace, List<String> types) {
        Key.checkText(workspace);
        LoadWorkspaceRequest request = LoadWorkspaceRequest.newBuilder()
                .setWorkspaceId(workspace).addAllEntityTypes(types).build();
        return call(() -> {
            List<Entry> entries = new ArrayList<>();
            Snapshot snapshot = null;
            Iterator<LoadWorkspaceResponse> events = within(options.loadTimeout()).loadWorkspace(request);
            while (events.hasNext()) {
                LoadWorkspaceResponse event = events.next();
                switch (event.getEventCase()) {
                    case BATCH -> event.getBatch().getEntriesList().forEach(entry -> entries.add(Entry.of(entry)));
                    case SNAPSHOT -> snapshot = event.getSnapshot();
                    default -> { } // Of a newer server.
                }
            }
            if (snapshot == null) {
                throw new PartialLoadException("the load ended after %d entries without its snapshot"
                        .formatted(entries.size()));
            }
            return new Load(List.copyOf(entries), snapshot);
        });
    }

    /** Every record of a scope that is still in the log, tombstones included. */
    public RecordStream stream(Scope scope) {
        ChangelogServiceBlockingStub timed = within(options.loadTimeout());
        int partitions = call(() -> partitionsOf(scope, timed));
        StreamAllRequest request = scope.request().build();
        return new RecordStream(() -> timed.streamAll(request), partitions);
    }

    /** How many partitions a stream of this scope reads; 0 if the server does not know its partition count. */
    private static int partitionsOf(Scope scope, ChangelogServiceBlockingStub timed) {
        if (scope.workspaces().size() == 1) {
            return 1; // All keys of a workspace are in one partition.
        }
        if (scope.workspaces().isEmpty()) {
            return scope.partitions().isEmpty()
                    ? describe("", timed).getPartitionCount()
                    : Set.copyOf(scope.partitions()).size();
        }
        Set<Integer> partitions = new HashSet<>();
        for (String workspace : scope.workspaces()) {
            DescribeResponse response = describe(workspace, timed);
            if (!response.hasWorkspacePartition()) {
                return 0;
            }
            partitions.add(response.getWorkspacePartition());
        }
        return partitions.size();
    }

    private static DescribeResponse describe(String workspace, ChangelogServiceBlockingStub timed) {
        return timed.describe(DescribeRequest.newBuilder().setWorkspaceId(workspace).build());
    }

    /** The state of a workspace, and then its changes. No types means all of them. */
    public Watcher watch(String workspace, EntityType<?>... types) {
        List<String> names = Scope.names(types);
        Key.checkText(workspace);
        Key.checkText(names.toArray(String[]::new));
        return new Watcher(this, WatchRequest.newBuilder()
                .setWorkspaceId(workspace).addAllEntityTypes(names).build());
    }

    boolean isClosed() {
        return channel.isShutdown();
    }

    /** False while calls wait for the server. */
    boolean isConnected() {
        return channel.getState(false) == ConnectivityState.READY;
    }

    Duration loadTimeout() {
        return options.loadTimeout();
    }

    /** A stream without a deadline but the caller's. */
    Iterator<WatchResponse> watch(WatchRequest request) {
        return stub.watch(request);
    }

    /**
     * Waits for the writes that were accepted before, for at most {@code timeout} (up to 60 s). Returns each failure of
     * a buffered write once, also those of other clients. With 10,000 or more, the next flush returns the rest. After
     * an error, the next flush returns all of them.
     */
    public synchronized FlushResult flush(Duration timeout) {
        List<FlushResult.Failure> failures = new ArrayList<>();
        FlushResponse next = flush(timeout, lastFailure);
        long remaining = next.getRemaining();
        long omitted = next.getFailuresOmitted();
        // An answer holds a part of the failures if they are large.
        while (next.getFailuresCount() > 0) {
            next.getFailuresList().forEach(failed -> failures.add(new FlushResult.Failure(
                    Key.parse(failed.getKey()), ChangelogException.of(failed.getError()))));
            if (failures.size() >= KEPT_FAILURES) {
                break;
            }
            next = flush(Duration.ofMillis(1), next.getLastFailure());
            omitted += next.getFailuresOmitted();
        }
        // Not earlier: if a call fails, the next flush returns all of them.
        lastFailure = next.getLastFailure();
        return new FlushResult(remaining, List.copyOf(failures), omitted);
    }

    private FlushResponse flush(Duration timeout, long failuresAfter) {
        FlushRequest request = FlushRequest.newBuilder()
                .setTimeoutMs((int) Math.max(1, Math.min(timeout.toMillis(), 60_000))) // 0 would mean 5 s
                .setFailuresAfter(failuresAfter)
                .build();
        return call(() -> within(timeout.plus(options.callTimeout())).flush(request));
    }

    /** Opens a stream of writes. It lasts as long as the caller's context at most. */
    public Writer writer() {
        return new Writer(channel, options);
    }

    /** The caller's context may have a deadline; gRPC then takes that one. */
    private ChangelogServiceBlockingStub within(Duration timeout) {
        return Context.current().getDeadline() == null
                ? stub.withDeadlineAfter(timeout.toNanos(), TimeUnit.NANOSECONDS)
                : stub;
    }

    private static <T> T call(Supplier<T> call) {
        try {
            return call.get();
        } catch (StatusRuntimeException e) {
            throw ChangelogException.of(e);
        }
    }

    /** Waits for calls that are under way for at most 5 s, and then cancels them. */
    @Override
    public void close() {
        channel.shutdown();
        try {
            channel.awaitTermination(CLOSE_TIMEOUT.toMillis(), TimeUnit.MILLISECONDS);
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
        } finally {
            channel.shutdownNow();
        }
    }
}
