package dev.changelogd.client;

import com.google.protobuf.ByteString;
import dev.changelogd.v1.WatchRequest;
import dev.changelogd.v1.WatchResponse;
import io.grpc.Context;
import io.grpc.Contexts;
import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import java.time.Duration;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.Collections;
import java.util.Deque;
import java.util.Iterator;
import java.util.List;
import java.util.Set;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.ThreadLocalRandom;
import java.util.concurrent.TimeUnit;
import java.util.function.BooleanSupplier;

/**
 * The state of a workspace, and then each change in order. It has no end: close it, or cancel its context.
 *
 * <p>It continues with the newest token after UNAVAILABLE, which is also what gRPC makes of a broken connection, and
 * after RESOURCE_EXHAUSTED with a reason, DEADLINE, and CANCELLED without a reason. It also does so if the state, or
 * the first message of a call that resumes, did not come within the timeout of a load. It waits 0.1 to 5 s before. If
 * the server asks for longer, it waits for that, of at most 60 s, and up to a quarter more. If the server says that the
 * token or the log no longer fits, the state comes again. Any other error ends it, and so does closing the client.
 *
 * <p>Of these failures only UNAVAILABLE may last. Others that follow each other for longer than the timeout of a load
 * end it with the last of them, unless the state comes in between, or all that was missed.
 *
 * <p>A change comes once, unless the log has lost records, as in an unclean election. If it has lost a delivered
 * change, the entity's older value comes again, or the state. After more than 10,000 entities since the newest token,
 * which comes at least every 10 s, a broken stream means that the state comes again too.
 */
public final class Watcher extends PulledStream<WatchEvent> {
    private static final Set<String> START_AGAIN_REASONS = Set.of("RESYNC_REQUIRED", "LOG_MOVED", "LOG_TRUNCATED");
    private static final Duration BACKOFF_MIN = Duration.ofMillis(100);
    /** Without the random part, as the one below. */
    private static final Duration BACKOFF_MAX = Duration.ofSeconds(4);
    /** The longest that the server can ask for. */
    private static final Duration ASKED_MAX = Duration.ofSeconds(60);

    private final ChangelogClient client;
    private final WatchRequest request;
    private final CountDownLatch cancelled = new CountDownLatch(1);
    /** The rest of one batch. */
    private final Deque<WatchEvent> events = new ArrayDeque<>();
    /** Null while there is no call. */
    private Call call;
    /** The newest one. Empty until the state has come. */
    private ByteString token = ByteString.EMPTY;
    private final Delivered delivered = new Delivered();
    /**
     * Failed attempts since the first event after a Synced. A watch may reach Synced again and again, and get no
     * further.
     */
    private int attempts;
    /** When the failures began that have followed each other without a Synced or an UNAVAILABLE; null if none has. */
    private Long failingSinceNanos;

    /** One call. Its context ends it. */
    private static final class Call {
        private final Context.CancellableContext context;
        private Iterator<WatchResponse> responses;
        /** The part of the state that has come; null if none is to come. */
        private List<Entry> state;
        private boolean isSynced;
        private volatile boolean isLate;
        /** The log has lost changes that were delivered. */
        private boolean isLost;
        /** Completed when the state, or the first message without one, has come, or the call has ended. */
        private final CompletableFuture<Void> answered = new CompletableFuture<>();

        Call(Context.CancellableContext context) {
            this.context = context;
            // Else the timer of a call that has ended would hold the state.
            context.addListener(ended -> answered.complete(null), Runnable::run);
        }

        /** A deadline of the call would end the changes too. The time in which {@code mayLast} is true is no limit. */
        void limit(Duration timeout, BooleanSupplier mayLast) {
            // The timer of the copy ends when the future itself is completed.
            answered.copy().orTimeout(timeout.toNanos(), TimeUnit.NANOSECONDS).exceptionally(late -> {
                if (mayLast.getAsBoolean()) {
                    limit(timeout, mayLast);
                } else {
                    isLate = true;
                    context.cancel(null);
                }
                return null;
            });
        }
    }

    Watcher(ChangelogClient client, WatchRequest request) {
        this.client = client;
        this.request = request;
        context().addListener(context -> cancelled.countDown(), Runnable::run);
    }

    @Override
    WatchEvent fetch() {
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
        if (call == null) {
            call = new Call(context().withCancellation());
            if (delivered.hasOverflowed()) {
                token = ByteString.EMPTY;
            }
            delivered.beginAttempt();
            if (token.isEmpty()) {
                delivered.clear();
                call.state = new ArrayList<>();
                call.limit(client.loadTimeout(), () -> false);
            } else {
                // An outage is no missing answer, and may last.
                call.limit(client.loadTimeout(), () -> !client.isConnected());
            }
            WatchRequest next = request.toBuilder().setResumeToken(token).build();
            call.responses = attached(call.context, () -> client.watch(next));
        } else if (call.responses.hasNext()) {
            accept(call.responses.next());
        } else {
            throw new ChangelogException(Status.Code.UNAVAILABLE, "the server ended a watch, which has no end", null);
        }
    }

    private void accept(WatchResponse event) {
        if (call.state == null) {
            // The server answers. What was missed is taken as it comes, so its time depends on the caller.
            call.answered.complete(null);
        }
        if (call.isSynced) {
            attempts = 0;
        }
        switch (event.getEventCase()) {
            case BATCH -> event.getBatch().getEntriesList().forEach(entry -> accept(Entry.of(entry)));
            case SYNCED -> {
                if (!delivered.isWhole()) {
                    call.isLost = true;
                    throw new ChangelogException(
                            Status.Code.ABORTED, "the log has lost changes that were delivered", null);
                }
                call.isSynced = true;
                failingSinceNanos = null;
                continueWith(event.getSynced().getSnapshot().getResumeToken());
                if (call.state != null) {
                    call.answered.complete(null);
                    events.add(new WatchEvent.Loaded(Collections.unmodifiableList(call.state)));
                    call.state = null;
                }
            }
            case BOOKMARK -> continueWith(event.getBookmark().getResumeToken());
            default -> { } // Of a newer server.
        }
    }

    /** With an empty token a watch would begin with the state: the former one stays. */
    private void continueWith(ByteString newer) {
        if (!newer.isEmpty()) {
            token = newer;
            delivered.clear();
        }
    }

    private void accept(Entry entry) {
        if (call.state != null) {
            call.state.add(entry);
        } else if (delivered.isNew(entry)) { // What came after the event that carried the token comes again.
            events.add(entry.isTombstone() ? new WatchEvent.Deleted(entry.key()) : new WatchEvent.Changed(entry));
        }
    }

    private void recover(ChangelogException thrown) {
        ChangelogException error = thrown;
        boolean isLate = call.isLate && error.code() == Status.Code.CANCELLED;
        if (isLate) {
            String message = "no state or answer within the timeout of a load";
            error = new ChangelogException(Status.Code.DEADLINE_EXCEEDED, message, thrown);
        }
        boolean startsAgain = call.isLost || START_AGAIN_REASONS.contains(error.reason());
        if (startsAgain) {
            token = ByteString.EMPTY;
        }
        call.context.cancel(null);
        call = null;
        boolean mayPass = isLate || startsAgain || passes(error);
        if (client.isClosed() || !mayPass || lastsTooLong(error)) {
            throw error;
        }
        pause(pauseMillis(attempts++, error.retryAfter().orElse(Duration.ZERO)));
    }

    /**
     * The pause after a failure that others came before: the longer one of the backoff and of what the server asks for,
     * and up to a quarter more. So clients that lost the same server do not return at the same time.
     */
    static long pauseMillis(int failures, Duration asked) {
        long backoff = Math.min(BACKOFF_MAX.toMillis(), BACKOFF_MIN.toMillis() << Math.min(failures, 6));
        long least = Math.max(backoff, Math.min(asked.toMillis(), ASKED_MAX.toMillis()));
        return least + ThreadLocalRandom.current().nextLong(least / 4 + 1);
    }

    /** Notes a failure. Those of long outages may last. */
    private boolean lastsTooLong(ChangelogException error) {
        if (error.code() == Status.Code.UNAVAILABLE) {
            failingSinceNanos = null;
            return false;
        }
        long now = System.nanoTime();
        if (failingSinceNanos == null) {
            failingSinceNanos = now;
        }
        return Duration.ofNanos(now - failingSinceNanos).compareTo(client.loadTimeout()) > 0;
    }

    /** Whether another attempt may succeed. If the caller has cancelled, the pause ends with that. */
    private static boolean passes(ChangelogException error) {
        String reason = error.reason();
        return switch (error.code()) {
            case UNAVAILABLE -> true;
            // Without a reason, the message was larger than a limit on the way.
            case RESOURCE_EXHAUSTED -> !reason.isEmpty();
            case DEADLINE_EXCEEDED -> reason.equals("DEADLINE");
            // The server has reset a stream whose client reads too slowly.
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
