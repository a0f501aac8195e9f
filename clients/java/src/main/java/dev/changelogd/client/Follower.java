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
 * <p>It continues with the newest token after UNAVAILABLE, which is also what gRPC makes of a broken connection, and
 * after RESOURCE_EXHAUSTED with a reason, DEADLINE, CANCELLED without a reason, and a load that reached its timeout. It
 * waits 0.1 to 5 s before, or as long as the server asks for, up to 60 s. If the server says that the token or the log
 * no longer fits, it loads again. Any other error ends it, and so does closing the client.
 */
public final class Follower extends PulledStream<FollowEvent> {
    private static final Set<String> RELOAD_REASONS = Set.of("RESYNC_REQUIRED", "LOG_MOVED", "LOG_TRUNCATED");
    private static final Duration BACKOFF_MIN = Duration.ofMillis(100);
    private static final Duration BACKOFF_MAX = Duration.ofSeconds(5);
    /** The longest that the server can ask for. */
    private static final Duration ASKED_MAX = Duration.ofSeconds(60);

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
            if (token.isEmpty()) {
                token = null;
                throw new ChangelogException(Status.Code.INTERNAL, "the Snapshot of the load has no token", null);
            }
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
            case SNAPSHOT -> continueWith(event.getSnapshot().getResumeToken());
            case BOOKMARK -> continueWith(event.getBookmark().getResumeToken());
            default -> { } // Of a newer server.
        }
    }

    /** With an empty token a stream would begin at the start of the log: the former one stays. */
    private void continueWith(ByteString newest) {
        if (!newest.isEmpty()) {
            token = newest;
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
        } else if (client.isClosed() || !passes(error)) {
            throw error;
        }
        long min = BACKOFF_MIN.toMillis();
        long max = BACKOFF_MAX.toMillis();
        long limit = Math.min(max, min << Math.min(attempts++, 6));
        long asked = error.retryAfter().map(Duration::toMillis).orElse(0L);
        long most = ASKED_MAX.toMillis();
        pause(Math.max(ThreadLocalRandom.current().nextLong(min, limit + 1), Math.min(asked, most)));
    }

    /** Whether another attempt may succeed. If the caller has cancelled, the pause ends with that. */
    private boolean passes(ChangelogException error) {
        String reason = error.reason();
        return switch (error.code()) {
            case UNAVAILABLE -> true;
            // Without a reason, the message was larger than a limit on the way.
            case RESOURCE_EXHAUSTED -> !reason.isEmpty();
            // Without a reason, a load has reached its timeout. A stream has none.
            case DEADLINE_EXCEEDED -> reason.equals("DEADLINE") || reason.isEmpty() && token == null;
            // The server resets a stream whose client reads too slowly.
            case CANCELLED -> reason.isEmpty();
            default -> false;
        };
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
