package dev.changelogd.client;

import io.grpc.Context;
import io.grpc.StatusRuntimeException;
import java.util.Iterator;
import java.util.NoSuchElementException;
import java.util.function.Supplier;

/**
 * What a server streams, pulled one by one: flow control holds the server back until more is taken.
 *
 * <p>One thread pulls, and any thread may close. A stream that is not read to its end must be closed. An error stays:
 * each later call throws it again.
 */
public abstract sealed class PulledStream<T> implements Iterator<T>, AutoCloseable permits RecordStream, Watcher {
    /** The caller's context, so that its deadline and its cancellation end the stream. */
    private final Context.CancellableContext context = Context.current().withCancellation();
    private T next;
    private boolean ended;
    private RuntimeException failure;

    /** The next element, or null after the last one. */
    abstract T fetch();

    final Context.CancellableContext context() {
        return context;
    }

    /** Starts a call in the context of this stream. */
    final <C> C attached(Supplier<C> call) {
        return attached(context, call);
    }

    static <C> C attached(Context context, Supplier<C> call) {
        Context previous = context.attach();
        try {
            return call.get();
        } finally {
            context.detach(previous);
        }
    }

    /**
     * Waits for the next element. False after the last one. Throws a {@link ChangelogException}, or an
     * {@link IllegalArgumentException} of a key that can't be split.
     */
    @Override
    public final boolean hasNext() {
        if (failure != null) {
            throw failure;
        }
        if (next == null && !ended) {
            try {
                next = fetch();
                ended = next == null;
            } catch (RuntimeException e) {
                failure = e instanceof StatusRuntimeException ? ChangelogException.of(e) : e;
                throw failure;
            } finally {
                if (next == null) {
                    close();
                }
            }
        }
        return next != null;
    }

    @Override
    public final T next() {
        if (!hasNext()) {
            throw new NoSuchElementException();
        }
        T taken = next;
        next = null;
        return taken;
    }

    /** Cancels the call. A thread that waits for the next element gets CANCELLED. */
    @Override
    public final void close() {
        context.cancel(null);
    }
}
