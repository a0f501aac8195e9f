package dev.changelogd.client;

import com.google.protobuf.ByteString;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.time.Instant;
import java.util.HashMap;
import java.util.Map;

/**
 * The entities that a watch delivered after its newest token, each with its last record. A watch that resumes gets them
 * again, as far as the log still has them.
 */
final class Delivered {
    /** With keys of the largest size they take about 15 MiB. */
    private static final int MOST_ENTITIES = 10_000;

    private final Map<Key, Delivery> deliveries = new HashMap<>();
    /** Counts the calls, because what comes again must come in one of them. */
    private int attempt;
    private boolean overflowed;

    private record Delivery(Version version, int attempt) {}

    /** Tells two records of an entity apart. After an unclean election an offset may have another record. */
    private record Version(long offset, Instant timestamp, boolean isTombstone, ByteString valueHash) {
        static Version of(Entry entry) {
            return new Version(entry.offset(), entry.timestamp(), entry.isTombstone(), hash(entry.value()));
        }

        private static ByteString hash(ByteString value) {
            try {
                MessageDigest digest = MessageDigest.getInstance("SHA-256");
                digest.update(value.asReadOnlyByteBuffer());
                return ByteString.copyFrom(digest.digest());
            } catch (NoSuchAlgorithmException e) {
                throw new IllegalStateException("every Java has SHA-256", e);
            }
        }
    }

    void beginAttempt() {
        attempt++;
    }

    /** A newer token covers what came before. */
    void clear() {
        deliveries.clear();
        overflowed = false;
    }

    /** Remembers an entry. False if the last delivered record of its entity was the same one. */
    boolean isNew(Entry entry) {
        Version version = Version.of(entry);
        Delivery known = deliveries.get(entry.key());
        if (known != null || deliveries.size() < MOST_ENTITIES) {
            deliveries.put(entry.key(), new Delivery(version, attempt));
        } else {
            overflowed = true;
        }
        return known == null || !known.version.equals(version);
    }

    /** Whether each remembered entity has come in this attempt. */
    boolean isWhole() {
        return deliveries.values().stream().allMatch(delivery -> delivery.attempt == attempt);
    }

    /** Whether an entity was delivered and is not remembered. Then the token can't be used. */
    boolean hasOverflowed() {
        return overflowed;
    }
}
