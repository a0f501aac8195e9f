package dev.changelogd.client;

import com.google.protobuf.ByteString;
import java.time.Instant;

/**
 * A record of the log.
 *
 * @param value the stored bytes; empty in a tombstone
 * @param isTombstone true if the record deleted the entity
 * @param timestamp null if the log has none
 */
public record Entry(
        Key key, ByteString value, boolean isTombstone, int partition, long offset, Instant timestamp) {
    static Entry of(dev.changelogd.v1.Entry entry) {
        Instant timestamp = entry.hasTimestamp()
                ? Instant.ofEpochSecond(entry.getTimestamp().getSeconds(), entry.getTimestamp().getNanos())
                : null;
        return new Entry(Key.parse(entry.getKey()), entry.getRaw(), entry.getIsTombstone(), entry.getPartition(),
                entry.getOffset(), timestamp);
    }
}
