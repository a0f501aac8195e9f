package dev.changelogd.client;

import static dev.changelogd.client.Servers.deployment;
import static dev.changelogd.client.Servers.onBoth;
import static dev.changelogd.client.Servers.scripted;
import static dev.changelogd.client.Servers.workspace;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.changelogd.client.Servers.Deployment;
import io.grpc.Status;
import java.time.Duration;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import org.junit.jupiter.api.Test;

class FlushTest {
    private static final Duration TIMEOUT = Duration.ofSeconds(20);

    @Test
    void flushListsFailedWrites() {
        onBoth(client -> {
            String workspace = workspace("flush");
            client.setBuffered(deployment(workspace, "a", 1));
            client.setBuffered(deployment(workspace, "b", 1));
            client.deleteBuffered(new Key(workspace, "deployment", "b"));
            assertEquals(new FlushResult(0, List.of(), 0), client.flush(TIMEOUT));
            assertEquals(Map.of("a", new Deployment("a", 1)), client.load(workspace, Deployment.TYPE));
        });
        try (ChangelogClient client = scripted()) {
            List<FlushResult.Failure> failures = client.flush(TIMEOUT).failures();
            assertEquals(List.of(Key.parse("flush/deployment/a"), Key.parse("flush/deployment/b")),
                    failures.stream().map(FlushResult.Failure::key).toList());
            for (FlushResult.Failure failure : failures) {
                assertEquals(Status.Code.UNAVAILABLE, failure.error().code());
                assertEquals("BROKERS_UNREACHABLE", failure.error().reason());
                assertEquals(Optional.of(Duration.ofSeconds(1)), failure.error().retryAfter());
                assertTrue(failure.error().isSafeToRetry());
            }
            assertEquals(List.of(), client.flush(TIMEOUT).failures());
        }
    }
}
