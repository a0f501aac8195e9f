package dev.changelogd.client;

import io.grpc.Status;

/** A stored value that its type can't decode. */
public final class ValueException extends ChangelogException {
    private final transient Key key;

    ValueException(Key key, Throwable cause) {
        super(Status.Code.INTERNAL, "the value of %s has another form".formatted(key), cause);
        this.key = key;
    }

    public Key key() {
        return key;
    }
}
