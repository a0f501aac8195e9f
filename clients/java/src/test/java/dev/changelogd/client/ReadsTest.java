package dev.changelogd.client;

import static dev.changelogd.client.Servers.deployment;
import static dev.changelogd.client.Servers.eventually;
import static dev.changelogd.client.Servers.onBoth;
import static dev.changelogd.client.Servers.scripted;
import static dev.changelogd.client.Servers.workspace;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertInstanceOf;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.changelogd.client.Servers.Deployment;
import dev.changelogd.client.Servers.Observed;
import dev.changelogd.v1.Snapshot;
import io.grpc.Context;
import io.grpc.Status;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.Test;

class ReadsTest {
    @Test
    void aPartialLoadIsAnError() {
        try (ChangelogClient client = scripted()) {
            var partial = assertThrows(PartialLoadException.class,
                    () -> client.load(workspace("partial"), Deployment.TYPE));
            assertEquals("", partial.reason());
            assertFalse(partial.isSafeToRetry());

            var broken = assertThrows(ChangelogException.class,
                    () -> client.load(workspace("broken"), Deployment.TYPE));
            assertEquals(Status.Code.INTERNAL, broken.code());
            assertFalse(broken.isSafeToRetry());
        }
    }

    @Test
    void anUnknownEventIsIgnored() {
        try (ChangelogClient client = scripted()) {
            assertEquals(Map.of("a", new Deployment("a", 0)),
                    client.load(workspace("unknown-event"), Deployment.TYPE));
            try (Watcher watcher = client.watch(workspace("unknown-event"), Deployment.TYPE)) {
                var loaded = assertInstanceOf(WatchEvent.Loaded.class, watcher.next());
                assertEquals(1, loaded.entries().size());
                var changed = assertInstanceOf(WatchEvent.Changed.class, watcher.next());
                assertEquals("b", changed.entry().key().id());
            }
        }
    }

    @Test
    void cancelStopsALoad() throws Exception {
        try (ChangelogClient client = scripted()) {
            String workspace = workspace("hang");
            Context.CancellableContext context = Context.current().withCancellation();
            CompletableFuture<Map<String, Deployment>> load = new CompletableFuture<>();
            Thread loader = new Thread(context.wrap(() -> {
                try {
                    load.complete(client.load(workspace, Deployment.TYPE));
                } catch (RuntimeException e) {
                    load.completeExceptionally(e);
                }
            }));
            loader.start();
            eventually("the load has begun", () -> Observed.of(client, workspace).calls() == 1);
            assertFalse(load.isDone());

            context.cancel(null);
            var cancelled = assertThrows(ExecutionException.class, () -> load.get(1, TimeUnit.SECONDS));
            assertEquals(Status.Code.CANCELLED, ((ChangelogException) cancelled.getCause()).code());
            loader.join();
            eventually("the server sees it", () -> Observed.of(client, workspace).cancelled());
        }
    }

    @Test
    void aStreamHasTombstonesAndSnapshots() {
        onBoth(client -> {
            String workspace = workspace("stream");
            String empty = workspace("stream");
            client.set(deployment(workspace, "a", 1));
            client.set(deployment(workspace, "b", 2));
            client.delete(new Key(workspace, "deployment", "a"));

            // The log may still have the first record of `a`, or not.
            List<Entry> entries = new ArrayList<>();
            try (RecordStream records = client.stream(Scope.ofWorkspaces(workspace))) {
                records.forEachRemaining(entries::add);
                assertEquals(1, records.snapshots().size());
                Snapshot snapshot = records.snapshots().get(0);
                assertEquals(entries.get(0).partition(), snapshot.getPartition());
                assertTrue(snapshot.getEndOffset() > entries.get(entries.size() - 1).offset());
            }
            assertEquals("a", entries.get(entries.size() - 1).key().id());
            assertTrue(entries.get(entries.size() - 1).isTombstone());
            assertEquals(new Deployment("b", 2), Deployment.TYPE.decode(entries.get(entries.size() - 2)));

            assertSnapshots(client, Scope.ofWorkspaces(empty), 1);
            assertSnapshots(client, Scope.ofPartitions(0, 1), 2);
            int both = entries.get(0).partition() == partitionOf(client, empty) ? 1 : 2;
            assertSnapshots(client, Scope.ofWorkspaces(workspace, empty), both);
            assertTrue(assertSnapshots(client, Scope.all(), -1) >= both);
        });
        try (ChangelogClient client = scripted()) {
            for (String script : List.of("partial", "broken")) {
                try (RecordStream records = client.stream(Scope.ofWorkspaces(workspace(script)))) {
                    assertEquals("a", records.next().key().id());
                    ChangelogException error = assertThrows(ChangelogException.class, records::hasNext);
                    assertEquals(script.equals("partial"), error instanceof PartialLoadException);
                }
            }
        }
    }

    private static int partitionOf(ChangelogClient client, String workspace) {
        return client.loadEntries(workspace, List.of()).snapshot().getPartition();
    }

    private static int assertSnapshots(ChangelogClient client, Scope scope, int expected) {
        try (RecordStream records = client.stream(scope)) {
            records.forEachRemaining(record -> { });
            if (expected >= 0) {
                assertEquals(expected, records.snapshots().size(), scope.toString());
            }
            return records.snapshots().size();
        }
    }
}
