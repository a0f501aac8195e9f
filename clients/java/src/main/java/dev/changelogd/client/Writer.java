package dev.changelogd.client;

import com.google.protobuf.ByteString;
import com.google.protobuf.CodedOutputStream;
import dev.changelogd.v1.ChangelogServiceGrpc;
import dev.changelogd.v1.Deletion;
import dev.changelogd.v1.Mutation;
import dev.changelogd.v1.Position;
import dev.changelogd.v1.Verdict;
import dev.changelogd.v1.WriteRequest;
import dev.changelogd.v1.WriteResponse;
import io.grpc.Channel;
import io.grpc.Context;
import io.grpc.Contexts;
import io.grpc.Deadline;
import io.grpc.Status;
import io.grpc.stub.ClientCallStreamObserver;
import io.grpc.stub.ClientResponseObserver;
import java.time.Duration;
import java.util.ArrayDeque;
import java.util.Deque;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.locks.Condition;
import java.util.concurrent.locks.ReentrantLock;
import java.util.function.BooleanSupplier;

/**
 * A stream of writes. Each mutation gets a future of its own: the position of its record, or an error. Mutations of one
 * workspace are applied in their order. Threads may share it. It is not repeated: after an error, open another one.
 */
public final class Writer implements AutoCloseable {
    // The server's limit is 1,000 mutations. A message of 1 MiB keeps its buffers small.
    private static final int MESSAGE_MUTATIONS_MAX = 1_000;
    private static final int MESSAGE_BYTES_MAX = 1 << 20;
    // What may wait for a verdict, so that memory is bounded.
    private static final int OUTSTANDING_MUTATIONS_MAX = 10_000;
    private static final int OUTSTANDING_BYTES_MAX = 8 << 20;

    private record Outstanding(Mutation mutation, int bytes, CompletableFuture<Position> verdict) {}

    private final Options options;
    private final Context.CancellableContext context = Context.current().withCancellation();
    private final ReentrantLock lock = new ReentrantLock();
    /** Signalled after every change of the fields below, and when the call can take more. */
    private final Condition changed = lock.newCondition();
    /** Mutations that were not sent yet. They are outstanding too. */
    private final Deque<Outstanding> queued = new ArrayDeque<>();
    private final Map<Long, Outstanding> outstanding = new HashMap<>();
    private int outstandingBytes;
    private long nextId;
    private boolean closing;
    private boolean ended;
    /** Why the stream broke. Null if it has not. */
    private volatile ChangelogException failure;
    private ClientCallStreamObserver<WriteRequest> call;

    Writer(Channel channel, Options options) {
        this.options = options;
        Context previous = context.attach();
        try {
            ChangelogServiceGrpc.newStub(channel).write(new Responses());
        } finally {
            context.detach(previous);
        }
        // It ends with the stream, which ends with its context or with close().
        Thread sender = new Thread(this::send, "changelogd-writer");
        sender.setDaemon(true);
        sender.start();
    }

    /**
     * Waits while too much is outstanding, until the deadline of the caller's context or the call timeout. What depends
     * on the future runs on the thread that reads verdicts, unless it is asynchronous. So it must not wait here.
     */
    public CompletableFuture<Position> set(Entity entity) {
        ByteString value = ByteString.copyFrom(entity.changelogValue());
        return add(entity.changelogKey(), Mutation.newBuilder().setRaw(value));
    }

    /** As {@link #set}. */
    public CompletableFuture<Position> delete(Key key) {
        return add(key, Mutation.newBuilder().setDeletion(Deletion.getDefaultInstance()));
    }

    private CompletableFuture<Position> add(Key key, Mutation.Builder builder) {
        builder.setWorkspaceId(key.workspace()).setChangelogId(key.changelogId());
        CompletableFuture<Position> verdict = new CompletableFuture<>();
        lock.lock();
        try {
            long id = ++nextId;
            Mutation mutation = builder.setId(id).build();
            int bytes = CodedOutputStream.computeMessageSize(WriteRequest.MUTATIONS_FIELD_NUMBER, mutation);
            await(() -> ended || closing || hasRoom(bytes), options.callTimeout());
            if (closing) {
                throw new IllegalStateException("the writer is closed");
            }
            if (ended) {
                return CompletableFuture.failedFuture(unknownOutcome());
            }
            Outstanding added = new Outstanding(mutation, bytes, verdict);
            outstanding.put(id, added);
            queued.add(added);
            outstandingBytes += bytes;
            changed.signalAll();
        } finally {
            lock.unlock();
        }
        return verdict;
    }

    /** A mutation that is larger than all the room gets all of it. */
    private boolean hasRoom(int bytes) {
        return outstanding.isEmpty()
                || outstanding.size() < OUTSTANDING_MUTATIONS_MAX && outstandingBytes + bytes <= OUTSTANDING_BYTES_MAX;
    }

    /** Waits until the condition holds, with the lock. The caller's deadline, or else the timeout, ends it. */
    private void await(BooleanSupplier condition, Duration timeout) {
        if (condition.getAsBoolean()) {
            return;
        }
        Context caller = Context.current();
        Deadline deadline = caller.getDeadline() == null
                ? Deadline.after(timeout.toNanos(), TimeUnit.NANOSECONDS)
                : caller.getDeadline();
        Context.CancellationListener listener = cancelled -> signal();
        caller.addListener(listener, Runnable::run);
        try {
            while (!condition.getAsBoolean()) {
                if (caller.isCancelled()) {
                    throw ChangelogException.of(Contexts.statusFromCancelled(caller).asRuntimeException());
                }
                long left = deadline.timeRemaining(TimeUnit.NANOSECONDS);
                if (left <= 0) {
                    throw new ChangelogException(
                            Status.Code.DEADLINE_EXCEEDED, outstanding.size() + " mutations wait for verdicts", null);
                }
                changed.awaitNanos(left);
            }
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
            throw new ChangelogException(Status.Code.CANCELLED, "the thread was interrupted", e);
        } finally {
            caller.removeListener(listener);
        }
    }

    private void signal() {
        lock.lock();
        try {
            changed.signalAll();
        } finally {
            lock.unlock();
        }
    }

    /** Sends the queued mutations whenever the call can take more. So mutations gather in messages without a timer. */
    private void send() {
        for (WriteRequest message = nextMessage(); message != null; message = nextMessage()) {
            call.onNext(message);
        }
        call.onCompleted();
    }

    /** Null if nothing more is to be sent. */
    private WriteRequest nextMessage() {
        lock.lock();
        try {
            while (!ended && (queued.isEmpty() ? !closing : !call.isReady())) {
                changed.awaitUninterruptibly();
            }
            if (queued.isEmpty()) {
                return null;
            }
            WriteRequest.Builder message = WriteRequest.newBuilder();
            int bytes = 0;
            do {
                bytes += queued.peek().bytes();
                message.addMutations(queued.poll().mutation());
            } while (!queued.isEmpty() && message.getMutationsCount() < MESSAGE_MUTATIONS_MAX
                    && bytes + queued.peek().bytes() <= MESSAGE_BYTES_MAX);
            return message.build();
        } finally {
            lock.unlock();
        }
    }

    private void answer(Verdict verdict) {
        Outstanding answered;
        lock.lock();
        try {
            answered = outstanding.remove(verdict.getId());
            if (answered == null) {
                return;
            }
            outstandingBytes -= answered.bytes();
            changed.signalAll();
        } finally {
            lock.unlock();
        }
        // Outside of the lock, because the future's dependents run here.
        switch (verdict.getOutcomeCase()) {
            case WRITTEN -> answered.verdict().complete(verdict.getWritten().getPosition());
            case ERROR -> answered.verdict().completeExceptionally(ChangelogException.of(verdict.getError()));
            default -> answered.verdict().completeExceptionally(
                    new ChangelogException(Status.Code.UNKNOWN, "a verdict of a newer server", null));
        }
    }

    /** {@code error} is null if the server has ended the stream with OK. */
    private void end(ChangelogException error) {
        List<Outstanding> unanswered;
        lock.lock();
        try {
            unanswered = List.copyOf(outstanding.values());
            ended = true;
            failure = error != null || closing && unanswered.isEmpty()
                    ? error
                    : new ChangelogException(Status.Code.UNKNOWN, "the server ended the stream of writes", null);
            outstanding.clear();
            queued.clear();
            changed.signalAll();
        } finally {
            lock.unlock();
        }
        unanswered.forEach(mutation -> mutation.verdict().completeExceptionally(unknownOutcome()));
    }

    /** Without a reason, so that it is not safe to retry: the mutation may have been written. */
    private ChangelogException unknownOutcome() {
        return new ChangelogException(failure.code(), "the stream of writes ended: " + failure.getMessage(), failure);
    }

    /**
     * Sends queued mutations, and waits for verdicts until the deadline of the caller's context or the load timeout.
     * Throws the error of the stream if it broke. The errors of mutations are in their futures. A second call throws
     * nothing of the stream.
     */
    @Override
    public void close() {
        lock.lock();
        try {
            boolean first = !closing;
            closing = true;
            changed.signalAll();
            await(() -> ended, options.loadTimeout());
            // Once: try-with-resources can't add an error to itself.
            if (first && failure != null) {
                throw failure;
            }
        } finally {
            lock.unlock();
            context.cancel(null);
        }
    }

    private final class Responses implements ClientResponseObserver<WriteRequest, WriteResponse> {
        @Override
        public void beforeStart(ClientCallStreamObserver<WriteRequest> started) {
            call = started;
            call.setOnReadyHandler(Writer.this::signal);
        }

        @Override
        public void onNext(WriteResponse response) {
            response.getVerdictsList().forEach(Writer.this::answer);
        }

        @Override
        public void onError(Throwable error) {
            end(ChangelogException.of(error));
        }

        @Override
        public void onCompleted() {
            end(null);
        }
    }
}
