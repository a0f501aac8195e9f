package dev.changelogd.client;

import static dev.changelogd.client.Servers.deployment;
import static dev.changelogd.client.Servers.eventually;
import static dev.changelogd.client.Servers.onBoth;
import static dev.changelogd.client.Servers.scripted;
import static dev.changelogd.client.Servers.within;
import static dev.changelogd.client.Servers.workspace;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.changelogd.client.Servers.Deployment;
import dev.changelogd.client.Servers.Observed;
import dev.changelogd.client.Servers.Stored;
import dev.changelogd.v1.Position;
import io.grpc.Context;
import io.grpc.Status;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.Test;

class WriterTest {
    private static final long MIB = 1 << 20;

    @Test
    void aWriterAnswersEachMutation() {
        onBoth(client -> {
            String workspace = workspace("writer");
            Writer writer = client.writer();
            CompletableFuture<Position> first = writer.set(deployment(workspace, "a", 1));
            CompletableFuture<Position> refused = writer.set(deployment(workspace, "", 1));
            CompletableFuture<Position> second = writer.set(deployment(workspace, "b", 1));
            CompletableFuture<Position> delete = writer.delete(new Key(workspace, "deployment", "a"));
            writer.close();

            long offset = first.get(0, TimeUnit.SECONDS).getOffset();
            assertTrue(offset < second.get(0, TimeUnit.SECONDS).getOffset());
            assertTrue(second.get().getOffset() < delete.get(0, TimeUnit.SECONDS).getOffset());
            ChangelogException error = errorOf(refused);
            assertEquals(Status.Code.INVALID_ARGUMENT, error.code());
            assertEquals("KEY_INVALID", error.reason());
            assertEquals("changelog_id", error.field());
            assertEquals(Map.of("b", new Deployment("b", 1)), client.load(workspace, Deployment.TYPE));
            assertThrows(IllegalStateException.class, () -> writer.delete(new Key(workspace, "deployment", "b")));
        });
    }

    @Test
    void aWriterBoundsItsBatches() throws Exception {
        try (ChangelogClient client = scripted()) {
            // A message has the queued mutations, so some have many mutations. Each mutation has its own verdict.
            String small = workspace("count");
            assertAllWritten(client, small, "", 20_000);
            Observed observed = Observed.of(client, small);
            assertTrue(observed.mostMutations() > 1 && observed.mostMutations() <= 1_000, observed.toString());

            String large = workspace("count");
            assertAllWritten(client, large, "x".repeat(100_000), 100);
            observed = Observed.of(client, large);
            assertTrue(observed.mostBytes() > 100_000 && observed.mostBytes() <= MIB, observed.toString());

            String alone = workspace("count");
            assertAllWritten(client, alone, "x".repeat(1_500_000), 3);
            observed = Observed.of(client, alone);
            assertEquals(3, observed.messages());
            assertEquals(1, observed.mostMutations());

            assertBounded(client, "", 10_000);
            assertBounded(client, "x".repeat(100_000), 8 * MIB / 100_000);
        }
    }

    private static void assertAllWritten(ChangelogClient client, String workspace, String text, int count)
            throws Exception {
        List<CompletableFuture<Position>> verdicts = new ArrayList<>();
        try (Writer writer = client.writer()) {
            for (int i = 0; i < count; i++) {
                verdicts.add(writer.set(new Stored(new Key(workspace, "deployment", "a" + i), text)));
            }
        }
        for (int i = 0; i < count; i++) {
            assertEquals(i, verdicts.get(i).get(0, TimeUnit.SECONDS).getOffset());
        }
    }

    /** A server that does not read makes the writer wait, until the caller's deadline. */
    private static void assertBounded(ChangelogClient client, String text, long most) throws Exception {
        String workspace = workspace("stall");
        List<CompletableFuture<Position>> verdicts = new ArrayList<>();
        Context.CancellableContext context = Context.current().withCancellation();
        Writer writer = context.call(client::writer);
        Entity entity = new Stored(new Key(workspace, "deployment", "a"), text);
        while (verdicts.size() < most * 9 / 10) {
            verdicts.add(writer.set(entity));
        }
        within(Duration.ofMillis(500), () -> {
            var error = assertThrows(ChangelogException.class, () -> {
                while (verdicts.size() <= most) {
                    verdicts.add(writer.set(entity));
                }
            });
            assertEquals(Status.Code.DEADLINE_EXCEEDED, error.code());
        });
        assertEquals(1, Observed.of(client, workspace).messages());

        context.cancel(null);
        for (CompletableFuture<Position> verdict : verdicts) {
            assertFalse(errorOf(verdict).isSafeToRetry());
        }
        assertThrows(ChangelogException.class, writer::close);
    }

    @Test
    void aBrokenWriterAnswersWithUnknownOutcomes() throws Exception {
        try (ChangelogClient client = scripted()) {
            String workspace = workspace("cut");
            Writer writer = client.writer();
            List<CompletableFuture<Position>> verdicts = new ArrayList<>();
            for (String id : List.of("a", "b", "c")) {
                verdicts.add(writer.set(deployment(workspace, id, 1)));
            }
            verdicts.get(0).get(10, TimeUnit.SECONDS);
            eventually("the stream breaks", () -> verdicts.stream().allMatch(CompletableFuture::isDone));
            verdicts.add(writer.set(deployment(workspace, "d", 1)));
            for (CompletableFuture<Position> verdict : verdicts.subList(1, 4)) {
                ChangelogException error = errorOf(verdict);
                assertEquals(Status.Code.UNAVAILABLE, error.code());
                assertFalse(error.isSafeToRetry());
            }
            assertEquals(Status.Code.UNAVAILABLE, assertThrows(ChangelogException.class, writer::close).code());
            // As at the end of try-with-resources.
            writer.close();

            // These verdicts are dropped.
            Writer other = client.writer();
            other.set(deployment(workspace("cut"), "a", 1));
            other.set(deployment(workspace("cut"), "b", 1));
            assertEquals(Status.Code.UNAVAILABLE, assertThrows(ChangelogException.class, other::close).code());
        }
    }

    private static ChangelogException errorOf(CompletableFuture<Position> verdict) {
        var failed = assertThrows(ExecutionException.class, () -> verdict.get(10, TimeUnit.SECONDS));
        return (ChangelogException) failed.getCause();
    }
}
