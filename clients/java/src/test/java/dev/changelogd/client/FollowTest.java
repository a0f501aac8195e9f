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
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;
import java.util.stream.Collectors;
import org.junit.jupiter.api.Test;

class FollowTest {
    @Test
    void followLoadsAndThenDeliversChanges() {
        onBoth(client -> {
            String workspace = workspace("follow");
            client.set(deployment(workspace, "a", 1));
            client.set(deployment(workspace, "b", 1));
            try (Follower follower = client.follow(workspace, Deployment.TYPE)) {
                assertEquals(List.of("loaded a1 b1"), next(follower, 1));

                client.set(deployment(workspace, "c", 2));
                client.set(new Stored(new Key(workspace, "other", "d"), "of another type"));
                client.delete(new Key(workspace, "deployment", "a"));
                client.set(deployment(workspace, "b", 3));
                assertEquals(List.of("changed c2", "deleted a", "changed b3"), next(follower, 3));
            }
        });
    }

    @Test
    void followResumesAfterABrokenStream() {
        try (ChangelogClient client = scripted();
                Follower follower = client.follow(workspace("resume"), Deployment.TYPE)) {
            assertEquals(List.of("loaded a0", "changed a1", "changed b2", "deleted a"), next(follower, 4));
        }
    }

    @Test
    void followReloadsWhenItMust() {
        try (ChangelogClient client = scripted()) {
            for (String script : List.of("resync", "moved", "truncated")) {
                try (Follower follower = client.follow(workspace(script), Deployment.TYPE)) {
                    assertEquals(List.of("loaded a0", "loaded b7", "changed c8"), next(follower, 3), script);
                }
            }
        }
    }

    @Test
    void followOutlivesWhatPasses() throws Exception {
        try (ChangelogClient client = scripted()) {
            String workspace = workspace("crowded");
            long begun = System.nanoTime();
            try (Follower follower = client.follow(workspace, Deployment.TYPE)) {
                assertEquals(List.of("loaded a0"), next(follower, 1));
                // Without the delay of the error, the first pause is 100 ms.
                assertTrue(System.nanoTime() - begun >= TimeUnit.MILLISECONDS.toNanos(200));
                assertEquals(List.of("changed b1"), next(follower, 1));
                // Two loads, and four streams.
                assertEquals(6, Observed.of(client, workspace).calls());
            }
        }
        Options hasty = Options.defaults().withAddress(variable("CHANGELOGD_TEST_SCRIPTED"))
                .withLoadTimeout(Duration.ofMillis(100));
        String workspace = workspace("hang");
        try (ChangelogClient client = ChangelogClient.connect(hasty);
                Follower follower = client.follow(workspace, Deployment.TYPE)) {
            var ended = CompletableFuture.supplyAsync(
                    () -> assertThrows(ChangelogException.class, follower::hasNext));
            eventually("a load that reached its timeout is repeated",
                    () -> Observed.of(client, workspace).calls() >= 2);
            follower.close();
            assertEquals(Status.Code.CANCELLED, ended.get(10, TimeUnit.SECONDS).code());
        }
    }

    @Test
    void followEndsWithItsClient() throws Exception {
        ChangelogClient client = scripted();
        try (Follower follower = client.follow(workspace("resume"), Deployment.TYPE)) {
            next(follower, 4);
            client.close();
            var ended = CompletableFuture.supplyAsync(
                    () -> assertThrows(ChangelogException.class, follower::hasNext));
            ended.get(10, TimeUnit.SECONDS);
        }
    }

    @Test
    void followEndsWithAnErrorThatStays() {
        try (ChangelogClient client = scripted()) {
            String workspace = workspace("recreated");
            try (Follower follower = client.follow(workspace, Deployment.TYPE)) {
                assertEquals(List.of("loaded a0"), next(follower, 1));

                var error = assertThrows(ChangelogException.class, follower::hasNext);
                assertEquals(Status.Code.FAILED_PRECONDITION, error.code());
                assertEquals("TOPIC_RECREATED", error.reason());
                assertSame(error, assertThrows(ChangelogException.class, follower::hasNext));
                assertEquals(2, Observed.of(client, workspace).calls());
            }
        }
    }

    /** The next events as text, such as {@code changed a1}. The number is the version of the value. */
    private static List<String> next(Follower follower, int count) {
        List<String> events = new ArrayList<>();
        while (events.size() < count) {
            FollowEvent event = follower.next();
            if (event instanceof FollowEvent.Loaded loaded) {
                String state = loaded.entries().stream().map(FollowTest::text).collect(Collectors.joining(" "));
                events.add("loaded " + state);
            } else if (event instanceof FollowEvent.Changed changed) {
                events.add("changed " + text(changed.entry()));
            } else if (event instanceof FollowEvent.Deleted deleted) {
                events.add("deleted " + deleted.key().id());
            }
        }
        return events;
    }

    private static String text(Entry entry) {
        return entry.key().id() + Deployment.TYPE.decode(entry).version();
    }
}
