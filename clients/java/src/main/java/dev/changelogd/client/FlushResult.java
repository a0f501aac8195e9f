package dev.changelogd.client;

import java.util.List;

/**
 * The outcome of buffered writes.
 *
 * @param remaining writes that were accepted before the flush, and are still in flight
 * @param failures writes that failed since the previous flush of this client
 * @param omitted failures that the server no longer had
 */
public record FlushResult(long remaining, List<Failure> failures, long omitted) {
    /** A buffered write that failed. */
    public record Failure(Key key, ChangelogException error) {}
}
