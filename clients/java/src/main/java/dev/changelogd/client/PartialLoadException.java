package dev.changelogd.client;

import io.grpc.Status;

/** A load or a stream ended as if it were complete, but without the Snapshot that proves it. It may be repeated. */
public final class PartialLoadException extends ChangelogException {
    PartialLoadException(String message) {
        super(Status.Code.INTERNAL, message, null);
    }
}
