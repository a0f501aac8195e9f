package dev.changelogd.client;

import static dev.changelogd.client.Servers.deployment;
import static dev.changelogd.client.Servers.onBoth;
import static dev.changelogd.client.Servers.scripted;
import static dev.changelogd.client.Servers.workspace;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertSame;
import static org.junit.jupiter.api.Assertions.assertThrows;

import dev.changelogd.client.Servers.Deployment;
import dev.changelogd.client.Servers.Observed;
import dev.changelogd.client.Servers.Stored;
import io.grpc.Status;
import java.util.ArrayList;
import java.util.List;
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
