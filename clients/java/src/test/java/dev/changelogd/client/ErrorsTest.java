package dev.changelogd.client;

import static dev.changelogd.client.Servers.deployment;
import static dev.changelogd.client.Servers.scripted;
import static dev.changelogd.client.Servers.variable;
import static dev.changelogd.client.Servers.within;
import static dev.changelogd.client.Servers.workspace;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.changelogd.client.Servers.Observed;
import dev.changelogd.client.Servers.Stored;
import io.grpc.Metadata;
import io.grpc.Status;
import java.time.Duration;
import java.util.Map;
import java.util.Optional;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.Test;

class ErrorsTest {
    @Test
    void anErrorHasItsFacts() throws Exception {
        try (ChangelogClient client = scripted()) {
            for (ChangelogException busy : errorsOf(client, "busy")) {
                assertEquals(Status.Code.RESOURCE_EXHAUSTED, busy.code());
                assertEquals("PRODUCER_QUEUE_FULL", busy.reason());
                assertEquals("the queue is full", busy.getMessage());
                assertEquals("", busy.field());
                assertEquals(Optional.of(Duration.ofMillis(1500)), busy.retryAfter());
                assertEquals(Map.of("limit", "1000"), busy.metadata());
            }
            for (ChangelogException refused : errorsOf(client, "refused")) {
                assertEquals(Status.Code.INVALID_ARGUMENT, refused.code());
                assertEquals("VALUE_TOO_LARGE", refused.reason());
                assertEquals("too large", refused.getMessage());
                assertEquals("raw", refused.field());
                assertEquals(Optional.empty(), refused.retryAfter());
                assertEquals(Map.of("limit", "10", "got", "11"), refused.metadata());
            }
        }
    }

    /** Of a call, and of a verdict. */
    private static ChangelogException[] errorsOf(ChangelogClient client, String script) throws Exception {
        Entity entity = deployment(workspace(script), "a", 1);
        var call = assertThrows(ChangelogException.class, () -> client.set(entity));
        try (Writer writer = client.writer()) {
            var verdict = writer.set(entity);
            var failed = assertThrows(ExecutionException.class, () -> verdict.get(10, TimeUnit.SECONDS));
            return new ChangelogException[] {call, (ChangelogException) failed.getCause()};
        }
    }

    @Test
    void safeToRetryFollowsTheStatusTable() {
        Map<String, Boolean> reasons = Map.ofEntries(
                Map.entry("14-STARTING", true),
                Map.entry("14-", false),
                Map.entry("8-PRODUCER_QUEUE_FULL", true),
                Map.entry("10-LOG_MOVED", true),
                Map.entry("4-DEADLINE", true),
                Map.entry("4-OUTCOME_UNKNOWN", false),
                Map.entry("2-OUTCOME_UNKNOWN", false),
                Map.entry("3-KEY_INVALID", false),
                Map.entry("5-KEY_NOT_FOUND", false),
                Map.entry("9-STORE_GONE", false),
                Map.entry("11-MESSAGE_TOO_LARGE", false),
                Map.entry("12-UNKNOWN_METHOD", false),
                Map.entry("13-INTERNAL_FAULT", false),
                Map.entry("15-STORE_CORRUPT", false));
        try (ChangelogClient client = scripted()) {
            reasons.forEach((status, safe) -> {
                ChangelogException error = failedSet(client, status);
                assertEquals(status, error.code().value() + "-" + error.reason());
                assertEquals(safe, error.isSafeToRetry(), status);
            });
            for (int code = 1; code <= 16; code++) {
                ChangelogException error = failedSet(client, String.valueOf(code));
                assertEquals(code, error.code().value());
                assertEquals("", error.reason());
                assertFalse(error.isSafeToRetry(), error.code().name());
            }
        }
        Metadata garbage = new Metadata();
        garbage.put(Metadata.Key.of("grpc-status-details-bin", Metadata.BINARY_BYTE_MARSHALLER), new byte[] {1, 2, 3});
        ChangelogException error = ChangelogException.of(Status.UNAVAILABLE.asRuntimeException(garbage));
        assertEquals(Status.Code.UNAVAILABLE, error.code());
        assertFalse(error.isSafeToRetry());
    }

    private static ChangelogException failedSet(ChangelogClient client, String status) {
        Entity entity = deployment(workspace("status-" + status), "a", 1);
        return assertThrows(ChangelogException.class, () -> client.set(entity));
    }

    @Test
    void unavailableIsRetried() {
        try (ChangelogClient client = scripted()) {
            String workspace = workspace("starting");
            client.set(deployment(workspace, "a", 1));
            assertEquals(3, Observed.of(client, workspace).calls());
            // gRPC keeps a request for its retries.
            String large = workspace("starting");
            client.set(new Stored(new Key(large, "deployment", "a"), "x".repeat(300_000)));
            assertEquals(3, Observed.of(client, large).calls());
        }
    }

    @Test
    void anUnknownOutcomeIsNotRetried() {
        try (ChangelogClient client = scripted()) {
            String workspace = workspace("unknown");
            var error = assertThrows(ChangelogException.class, () -> client.set(deployment(workspace, "a", 1)));
            assertEquals(Status.Code.DEADLINE_EXCEEDED, error.code());
            assertEquals("OUTCOME_UNKNOWN", error.reason());
            assertEquals(1, Observed.of(client, workspace).calls());
        }
    }

    @Test
    void theDeadlineIsPassedOn() {
        try (ChangelogClient client = scripted()) {
            String workspace = workspace("hang");
            within(Duration.ofMillis(500), () -> assertSetEndsAfter(500, client, workspace));
            assertTimeoutSeen(500, client, workspace);
        }
        // Without a deadline of the caller it is the client's.
        Options options = Options.defaults().withAddress(variable("CHANGELOGD_TEST_SCRIPTED"));
        try (ChangelogClient client = ChangelogClient.connect(options.withCallTimeout(Duration.ofMillis(300)))) {
            String workspace = workspace("hang");
            assertSetEndsAfter(300, client, workspace);
            assertTimeoutSeen(300, client, workspace);
        }
    }

    private static void assertSetEndsAfter(long millis, ChangelogClient client, String workspace) {
        long start = System.nanoTime();
        var error = assertThrows(ChangelogException.class, () -> client.set(deployment(workspace, "a", 1)));
        long took = TimeUnit.NANOSECONDS.toMillis(System.nanoTime() - start);
        assertEquals(Status.Code.DEADLINE_EXCEEDED, error.code());
        assertFalse(error.isSafeToRetry());
        assertTrue(took > millis / 2 && took < millis + 2_000, took + " ms");
    }

    private static void assertTimeoutSeen(long millis, ChangelogClient client, String workspace) {
        long seen = Observed.of(client, workspace).timeoutMs();
        assertTrue(seen > 0 && seen <= millis, seen + " ms");
    }
}
