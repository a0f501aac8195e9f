package dev.changelogd.client;

import com.google.protobuf.ByteString;
import dev.changelogd.v1.StreamAllRequest;
import dev.changelogd.v1.StreamAllResponse;
import io.grpc.Contexts;
import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import java.time.Duration;
import java.util.ArrayDeque;
import java.util.Deque;
import java.util.Iterator;
import java.util.List;
import java.util.Set;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.ThreadLocalRandom;
import java.util.concurrent.TimeUnit;

/**
 * The state of a workspace, and then each change once and in order. It has no end: close it, or cancel its context.
 *
 * <p>After UNAVAILABLE, which is also what gRPC makes of a broken connection, it continues with the newest token. If
 * the server says that the token or the log no longer fits, it loads again. Any other error ends it.
 */
public final class Follower extends PulledStream<FollowEvent> {
    private static final Set<String> RELOAD_REASONS = Set.of("RESYNC_REQUIRED", "LOG_MOVED", "LOG_TRUNCATED");
    private static final Duration BACKOFF_MIN = Duration.ofMillis(100);
    private static final Duration BACKOFF_MAX = Duration.ofSeconds(5);

    private final ChangelogClient client;
    private final String workspace;
    private final List<String> types;
    private final CountDownLatch cancelled = new CountDownLatch(1);
    /** The rest of one batch. */
    private final Deque<FollowEvent> events = new ArrayDeque<>();
    /** Null while there is no call. */
    private Iterator<StreamAllResponse> call;
    /** Null until the state is loaded. */
    private ByteString token;
    /** The newest offset that was delivered. A workspace has one partition, so one offset is enough. */
    private long delivered;
    /** Failed attempts since the last event. */
    private int attempts;

    Follower(ChangelogClient client, String workspace, List<String> types) {
        this.client = client;
        this.workspace = workspace;
        this.types = types;
        context().addListener(context -> cancelled.countDown(), Runnable::run);
    }

    @Override
    FollowEvent fetch() {
        while (events.isEmpty()) {
            try {
                advance();
            } catch (StatusRuntimeException | ChangelogException e) {
                recover(ChangelogException.of(e));
            }
        }
        return events.poll();
    }

    private void advance() {
        if (token == null) {
            ChangelogClient.Load load = attached(() -> client.loadEntries(workspace, types));
            token = load.snapshot().getResumeToken();
            delivered = load.entries().stream().mapToLong(Entry::offset).max().orElse(-1);
            events.add(new FollowEvent.Loaded(load.entries()));
        } else if (call == null) {
            StreamAllRequest request = new Scope(List.of(workspace), List.of(), types).request()
                    .setFollow(true).setResumeToken(token).build();
            call = attached(() -> client.follow(request));
        } else if (call.hasNext()) {
            accept(call.next());
            attempts = 0;
        } else {
            throw new ChangelogException(Status.Code.UNAVAILABLE, "the server ended a stream without end", null);
        }
    }

    private void accept(StreamAllResponse event) {
        switch (event.getEventCase()) {
            case BATCH -> event.getBatch().getEntriesList().forEach(entry -> deliver(Entry.of(entry)));
            case SNAPSHOT -> token = event.getSnapshot().getResumeToken();
            case BOOKMARK -> token = event.getBookmark().getResumeToken();
            default -> { } // Of a newer server.
        }
    }

    private void deliver(Entry entry) {
        // A resumed stream delivers again what came after the event that carried the token.
        if (entry.offset() > delivered) {
            delivered = entry.offset();
            events.add(entry.isTombstone() ? new FollowEvent.Deleted(entry.key()) : new FollowEvent.Changed(entry));
        }
    }

    private void recover(ChangelogException error) {
        call = null;
        if (RELOAD_REASONS.contains(error.reason())) {
            token = null;
        } else if (error.code() != Status.Code.UNAVAILABLE) {
            throw error;
        }
        long min = BACKOFF_MIN.toMillis();
        long max = BACKOFF_MAX.toMillis();
        long limit = Math.min(max, min << Math.min(attempts++, 6));
        long asked = error.retryAfter().map(Duration::toMillis).orElse(0L);
        pause(Math.max(ThreadLocalRandom.current().nextLong(min, limit + 1), Math.min(asked, max)));
    }

    private void pause(long millis) {
        try {
            if (cancelled.await(millis, TimeUnit.MILLISECONDS)) {
                throw Contexts.statusFromCancelled(context()).asRuntimeException();
            }
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
            throw new ChangelogException(Status.Code.CANCELLED, "the thread was interrupted", e);
        }
    }
}
