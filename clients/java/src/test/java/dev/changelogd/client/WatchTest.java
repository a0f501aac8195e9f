package dev.changelogd.client;

import static dev.changelogd.client.Servers.deployment;
import static dev.changelogd.client.Servers.eventually;
import static dev.changelogd.client.Servers.onBoth;
import static dev.changelogd.client.Servers.scripted;
import static dev.changelogd.client.Servers.variable;
import static dev.changelogd.client.Servers.workspace;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertSame;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.changelogd.client.Servers.Deployment;
import dev.changelogd.client.Servers.Observed;
import dev.changelogd.client.Servers.Stored;
import io.grpc.Status;
import java.io.IOException;
import java.net.InetSocketAddress;
import java.net.ServerSocket;
import java.net.Socket;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.LongSummaryStatistics;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.concurrent.TimeUnit;
import java.util.stream.Collectors;
import java.util.stream.IntStream;
import java.util.stream.LongStream;
import org.junit.jupiter.api.Test;

class WatchTest {
    @Test
    void watchLoadsAndThenDeliversChanges() {
        onBoth(client -> {
            String workspace = workspace("watch");
            client.set(deployment(workspace, "a", 1));
            client.set(deployment(workspace, "b", 1));
            try (Watcher watcher = client.watch(workspace, Deployment.TYPE)) {
                assertEquals(List.of("loaded a1 b1"), next(watcher, 1));

                client.set(deployment(workspace, "c", 2));
                client.set(new Stored(new Key(workspace, "other", "d"), "of another type"));
                client.delete(new Key(workspace, "deployment", "a"));
                client.set(deployment(workspace, "b", 3));
                assertEquals(List.of("changed c2", "deleted a", "changed b3"), next(watcher, 3));
            }
        });
    }

    @Test
    void watchResumesAfterABrokenStream() {
        String workspace = workspace("resume");
        try (ChangelogClient client = scripted();
                Watcher watcher = client.watch(workspace, Deployment.TYPE)) {
            assertEquals(List.of("loaded a0", "changed a1", "changed b2"), next(watcher, 3));
            // What was missed comes once, deletes too, although one stream breaks before all of it has come.
            assertEquals(List.of("deleted a", "changed c4", "changed d5"), next(watcher, 3));
            assertEquals(4, Observed.of(client, workspace).calls());
        }
    }

    @Test
    void watchReloadsWhenItMust() {
        try (ChangelogClient client = scripted()) {
            for (String script : List.of("resync", "moved", "truncated")) {
                String workspace = workspace(script);
                try (Watcher watcher = client.watch(workspace, Deployment.TYPE)) {
                    List<String> expected = List.of("loaded a0", "changed a9", "loaded b7", "changed c8");
                    assertEquals(expected, next(watcher, 4), script);
                    assertEquals(3, Observed.of(client, workspace).calls());
                }
            }
        }
    }

    @Test
    void watchDeliversWhatReplacedLostChanges() {
        String workspace = workspace("lost");
        try (ChangelogClient client = scripted();
                Watcher watcher = client.watch(workspace, Deployment.TYPE)) {
            assertEquals("loaded a0", next(watcher, 1).get(0));
            List<String> before = List.of("z1", "a2", "b3", "a4", "c5", "e6");
            assertEquals(before.stream().map("changed "::concat).toList(), next(watcher, 6));
            // The log lost what was at 4 and above. What it has instead comes, and what it still has does not again.
            List<String> after = List.of("a2", "c4", "e60", "d7");
            assertEquals(after.stream().map("changed "::concat).toList(), next(watcher, 4));
            assertEquals(2, Observed.of(client, workspace).calls());
        }
    }

    @Test
    void watchReloadsWhenADeliveredEntityIsGone() {
        String workspace = workspace("phantom");
        try (ChangelogClient client = scripted();
                Watcher watcher = client.watch(workspace, Deployment.TYPE)) {
            List<String> expected =
                    List.of("loaded a0", "changed b1", "changed c1", "loaded a0 c1 d2", "changed e3");
            assertEquals(expected, next(watcher, 5));
            assertEquals(4, Observed.of(client, workspace).calls());
        }
    }

    @Test
    void watchRemembersTenThousandEntities() {
        try (ChangelogClient client = scripted()) {
            for (int count : List.of(10_000, 10_001)) {
                String workspace = workspace("many-" + count);
                try (Watcher watcher = client.watch(workspace, Deployment.TYPE)) {
                    assertEquals(List.of("loaded a0"), next(watcher, 1));
                    List<String> many = IntStream.rangeClosed(1, count)
                            .mapToObj(offset -> "changed x%d%d".formatted(offset, offset)).toList();
                    assertEquals(many, next(watcher, count));
                    String last = count == 10_000 ? "changed b10001" : "loaded b10002";
                    assertEquals(List.of(last), next(watcher, 1));
                    assertEquals(2, Observed.of(client, workspace).calls());
                }
            }
        }
    }

    @Test
    void watchAsksAgainIfAResumedCallIsNotAnswered() throws Exception {
        try (ChangelogClient client = hasty(Duration.ofMillis(300))) {
            String workspace = workspace("mute-1");
            try (Watcher watcher = client.watch(workspace, Deployment.TYPE)) {
                assertEquals(List.of("loaded a0", "changed b1"), next(watcher, 2));
                eventually("the server sees it", () -> Observed.of(client, workspace).cancelled());
                // After its first message a resumed call has no timeout. One would be noticed while it is pulled.
                var ended = CompletableFuture.supplyAsync(
                        () -> assertThrows(ChangelogException.class, watcher::hasNext));
                Thread.sleep(500);
                assertEquals(3, Observed.of(client, workspace).calls());
                watcher.close();
                assertEquals(Status.Code.CANCELLED, ended.get(10, TimeUnit.SECONDS).code());
            }
            // Calls that are never answered end it.
            String mute = workspace("mute-9");
            try (Watcher watcher = client.watch(mute, Deployment.TYPE)) {
                assertEquals(List.of("loaded a0"), next(watcher, 1));
                var error = assertThrows(ChangelogException.class, watcher::hasNext);
                assertEquals(Status.Code.DEADLINE_EXCEEDED, error.code());
                assertEquals("", error.reason());
                assertEquals(3, Observed.of(client, mute).calls());
            }
        }
    }

    @Test
    void aPauseHasARandomPart() {
        record Row(int failures, Duration asked, long least) {}
        for (Row row : List.of(
                new Row(0, Duration.ZERO, 100),
                new Row(2, Duration.ZERO, 400),
                new Row(1_000, Duration.ofSeconds(1), 4_000),
                // The longer one counts.
                new Row(0, Duration.ofSeconds(30), 30_000),
                new Row(0, Duration.ofHours(1), 60_000))) {
            LongSummaryStatistics pauses = LongStream.range(0, 100)
                    .map(i -> Watcher.pauseMillis(row.failures(), row.asked())).summaryStatistics();
            assertTrue(pauses.getMin() >= row.least() && pauses.getMax() <= row.least() * 5 / 4, row + ": " + pauses);
            assertTrue(pauses.getMin() < pauses.getMax(), row + ": " + pauses);
        }
    }

    @Test
    void watchEndsWithWhatDoesNotPass() {
        try (ChangelogClient client = hasty(Duration.ofMillis(500))) {
            endsWith(client, "too-large", List.of(), Status.Code.RESOURCE_EXHAUSTED, "REPLAY_TOO_LARGE");
            endsWith(client, "stuck", List.of("loaded a0", "changed b1"), Status.Code.DEADLINE_EXCEEDED, "DEADLINE");
            // But an outage may last.
            String workspace = workspace("outage");
            try (Watcher watcher = client.watch(workspace, Deployment.TYPE)) {
                assertEquals(List.of("loaded a0"), next(watcher, 1));
                assertEquals(4, Observed.of(client, workspace).calls());
            }
        }
    }

    private static void endsWith(
            ChangelogClient client, String script, List<String> events, Status.Code code, String reason) {
        String workspace = workspace(script);
        try (Watcher watcher = client.watch(workspace, Deployment.TYPE)) {
            assertEquals(events, next(watcher, events.size()));
            var error = assertThrows(ChangelogException.class, watcher::hasNext);
            assertEquals(code, error.code());
            assertEquals(reason, error.reason());
            assertTrue(Observed.of(client, workspace).calls() >= 3, script);
        }
    }

    @Test
    void watchWaitsLongerUntilALaterEvent() {
        // A state ends a row of failures, so the timeout of a load does not end this watch.
        try (ChangelogClient client = hasty(Duration.ofMillis(300));
                Watcher watcher = client.watch(workspace("lagging"), Deployment.TYPE)) {
            long begun = System.nanoTime();
            assertEquals(Collections.nCopies(6, "loaded a0"), next(watcher, 6));
            assertEquals(List.of("changed b1"), next(watcher, 1));
            // Five pauses of at most 125 ms would take 0.6 s.
            assertTrue(System.nanoTime() - begun >= TimeUnit.SECONDS.toNanos(1));
            begun = System.nanoTime();
            assertEquals(List.of("changed c2"), next(watcher, 1));
            // A pause that is twice as long as the one before would be at least 3.2 s.
            assertTrue(System.nanoTime() - begun < TimeUnit.MILLISECONDS.toNanos(1_400));
        }
    }

    @Test
    void aWatchWithoutSyncedDeliversNoState() {
        String workspace = workspace("unsynced");
        try (ChangelogClient client = scripted();
                Watcher watcher = client.watch(workspace, Deployment.TYPE)) {
            assertEquals(List.of("loaded b1"), next(watcher, 1));
            assertEquals(3, Observed.of(client, workspace).calls());
        }
    }

    @Test
    void watchOutlivesWhatPasses() throws Exception {
        try (ChangelogClient client = scripted()) {
            String workspace = workspace("crowded");
            long begun = System.nanoTime();
            try (Watcher watcher = client.watch(workspace, Deployment.TYPE)) {
                assertEquals(List.of("loaded a0"), next(watcher, 1));
                // Without the delay of the error, the first pause is 100 ms.
                assertTrue(System.nanoTime() - begun >= TimeUnit.MILLISECONDS.toNanos(200));
                assertEquals(List.of("changed b1"), next(watcher, 1));
                assertEquals(5, Observed.of(client, workspace).calls());
            }
        }
        // A state that does not come within its timeout is asked for again.
        String workspace = workspace("hang");
        try (ChangelogClient client = hasty(Duration.ofMillis(100));
                Watcher watcher = client.watch(workspace, Deployment.TYPE)) {
            var error = assertThrows(ChangelogException.class, watcher::hasNext);
            assertEquals(Status.Code.DEADLINE_EXCEEDED, error.code());
            assertEquals("", error.reason());
            assertEquals(2, Observed.of(client, workspace).calls());
        }
        // The changes have no timeout.
        String quiet = workspace("unknown-event");
        try (ChangelogClient client = hasty(Duration.ofMillis(300));
                Watcher changes = client.watch(quiet, Deployment.TYPE)) {
            assertEquals(List.of("loaded a0", "changed b1"), next(changes, 2));
            Observed before = Observed.of(client, quiet);
            Thread.sleep(400);
            assertEquals(before, Observed.of(client, quiet));
        }
    }

    @Test
    void watchResumesAfterALongOutage() throws Exception {
        List<Socket> sockets = new CopyOnWriteArrayList<>();
        ServerSocket relay = relay(0, sockets);
        int port = relay.getLocalPort();
        Options options = Options.defaults().withAddress("127.0.0.1:" + port);
        try (ChangelogClient client = ChangelogClient.connect(options.withLoadTimeout(Duration.ofMillis(300)));
                Watcher watcher = client.watch(workspace("unknown-event"), Deployment.TYPE)) {
            assertEquals(List.of("loaded a0", "changed b1"), next(watcher, 2));
            relay.close();
            for (Socket socket : sockets) {
                socket.close();
            }
            var ended = CompletableFuture.supplyAsync(
                    () -> assertThrows(ChangelogException.class, watcher::hasNext));
            Thread.sleep(1_500);
            try (ServerSocket again = relay(port, sockets)) {
                // The script refuses the call that resumes.
                assertEquals("TOKEN_INVALID", ended.get(10, TimeUnit.SECONDS).reason());
            }
        }
        for (Socket socket : sockets) {
            socket.close();
        }
    }

    /** Carries bytes between its clients and the scripted server, until it and the sockets are closed. */
    private static ServerSocket relay(int port, List<Socket> sockets) throws IOException {
        ServerSocket relay = new ServerSocket();
        relay.setReuseAddress(true);
        relay.bind(new InetSocketAddress("127.0.0.1", port));
        String[] scripted = variable("CHANGELOGD_TEST_SCRIPTED").split(":");
        CompletableFuture.runAsync(() -> {
            try {
                while (true) {
                    Socket client = relay.accept();
                    Socket server = new Socket(scripted[0], Integer.parseInt(scripted[1]));
                    sockets.addAll(List.of(client, server));
                    carry(client, server);
                    carry(server, client);
                }
            } catch (IOException closed) {
                // The end of the relay.
            }
        }, task -> new Thread(task).start());
        return relay;
    }

    private static void carry(Socket from, Socket to) {
        new Thread(() -> {
            try {
                from.getInputStream().transferTo(to.getOutputStream());
            } catch (IOException closed) {
                // The end of the relay.
            }
        }).start();
    }

    @Test
    void watchEndsWhenItIsClosed() throws Exception {
        String workspace = workspace("hang");
        try (ChangelogClient client = scripted();
                Watcher watcher = client.watch(workspace, Deployment.TYPE)) {
            var ended = CompletableFuture.supplyAsync(
                    () -> assertThrows(ChangelogException.class, watcher::hasNext));
            eventually("it watches", () -> Observed.of(client, workspace).calls() >= 1);
            watcher.close();
            assertEquals(Status.Code.CANCELLED, ended.get(10, TimeUnit.SECONDS).code());
        }
    }

    @Test
    void watchEndsWithItsClient() throws Exception {
        ChangelogClient client = scripted();
        try (Watcher watcher = client.watch(workspace("resume"), Deployment.TYPE)) {
            next(watcher, 6);
            client.close();
            var ended = CompletableFuture.supplyAsync(
                    () -> assertThrows(ChangelogException.class, watcher::hasNext));
            ended.get(10, TimeUnit.SECONDS);
        }
    }

    @Test
    void watchEndsWithAnErrorThatStays() {
        try (ChangelogClient client = scripted()) {
            String workspace = workspace("recreated");
            try (Watcher watcher = client.watch(workspace, Deployment.TYPE)) {
                assertEquals(List.of("loaded a0"), next(watcher, 1));

                var error = assertThrows(ChangelogException.class, watcher::hasNext);
                assertEquals(Status.Code.FAILED_PRECONDITION, error.code());
                assertEquals("TOPIC_RECREATED", error.reason());
                assertSame(error, assertThrows(ChangelogException.class, watcher::hasNext));
                assertEquals(1, Observed.of(client, workspace).calls());
            }
        }
    }

    /** A client of the scripted server with another timeout of loads. */
    private static ChangelogClient hasty(Duration loadTimeout) {
        Options options = Options.defaults().withAddress(variable("CHANGELOGD_TEST_SCRIPTED"));
        return ChangelogClient.connect(options.withLoadTimeout(loadTimeout));
    }

    /** The next events as text, such as {@code changed a1}. The number is the version of the value. */
    private static List<String> next(Watcher watcher, int count) {
        List<String> events = new ArrayList<>();
        while (events.size() < count) {
            WatchEvent event = watcher.next();
            if (event instanceof WatchEvent.Loaded loaded) {
                String state = loaded.entries().stream().map(WatchTest::text).collect(Collectors.joining(" "));
                events.add("loaded " + state);
            } else if (event instanceof WatchEvent.Changed changed) {
                events.add("changed " + text(changed.entry()));
            } else if (event instanceof WatchEvent.Deleted deleted) {
                events.add("deleted " + deleted.key().id());
            }
        }
        return events;
    }

    private static String text(Entry entry) {
        return entry.key().id() + Deployment.TYPE.decode(entry).version();
    }
}
