package dev.changelogd.client;

import static dev.changelogd.client.Servers.deployment;
import static dev.changelogd.client.Servers.embedded;
import static dev.changelogd.client.Servers.onBoth;
import static dev.changelogd.client.Servers.workspace;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.changelogd.client.Servers.Deployment;
import dev.changelogd.client.Servers.Stored;
import io.grpc.Status;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import org.junit.jupiter.api.Test;

class ValuesTest {
    record Part(String name, Map<String, List<Long>> numbers) {}

    record Order(String workspace, String id, long total, Part part, List<String> texts) implements Entity {
        static final EntityType<Order> TYPE = EntityType.json("order", Order.class);

        @Override
        public Key changelogKey() {
            return new Key(workspace, TYPE.name(), id);
        }
    }

    @Test
    void aTypedValueIsSetReadAndDeleted() {
        onBoth(client -> {
            Part part = new Part("nested", Map.of("numbers", List.of(0L, Long.MIN_VALUE, 9_007_199_254_740_993L)));
            // Composed and decomposed, outside of the first plane, and what JSON must escape.
            List<String> texts = List.of("", "\u00e9 e\u0301", "\ud83d\ude00", "\u0000\u2028\"\\/");
            Order order = new Order(workspace("values"), "1", Long.MAX_VALUE, part, texts);

            client.set(order);
            assertEquals(Optional.of(order), client.get(Order.TYPE, order.changelogKey()));

            client.delete(order.changelogKey());
            assertEquals(Optional.empty(), client.get(Order.TYPE, order.changelogKey()));
        });
    }

    @Test
    void anAbsentEntityIsNoError() {
        onBoth(client -> {
            Key key = new Key(workspace("absent"), "deployment", "a");
            assertEquals(Optional.empty(), client.get(Deployment.TYPE, key));

            client.delete(key);
            assertEquals(Optional.empty(), client.get(Deployment.TYPE, key));
        });
    }

    @Test
    void aLoadIsAMapOfTypedValues() {
        onBoth(client -> {
            String workspace = workspace("load");
            assertEquals(Map.of(), client.load(workspace, Deployment.TYPE));

            client.set(deployment(workspace, "a", 1));
            client.set(deployment(workspace, "a", 2));
            client.set(deployment(workspace, "b", 1));
            client.set(deployment(workspace, "deleted", 1));
            client.delete(new Key(workspace, "deployment", "deleted"));
            client.set(new Stored(new Key(workspace, "other", "c"), "of another type"));
            client.set(deployment(workspace("load"), "d", 1));

            Map<String, Deployment> expected = Map.of("a", new Deployment("a", 2), "b", new Deployment("b", 1));
            assertEquals(expected, client.load(workspace, Deployment.TYPE));
        });
    }

    @Test
    void aValueOfAnotherFormIsAnErrorWithItsKey() {
        try (ChangelogClient client = embedded()) {
            String workspace = workspace("form");
            Key key = new Key(workspace, "deployment", "b");
            client.set(deployment(workspace, "a", 1));
            for (Object value : Arrays.asList("a text", List.of(1), Map.of("version", "one"), null)) {
                client.set(new Stored(key, value));

                var error = assertThrows(ValueException.class, () -> client.load(workspace, Deployment.TYPE));
                assertEquals(key, error.key());
                assertTrue(error.getMessage().contains(key.toString()), error.getMessage());
                assertThrows(ValueException.class, () -> client.get(Deployment.TYPE, key));
            }
        }
    }

    @Test
    void aKeyIsSplit() {
        assertEquals(new Key("ws", "type", "a/b"), Key.parse("ws/type/a/b"));
        assertEquals("ws/type/a/b", new Key("ws", "type", "a/b").toString());
        assertThrows(IllegalArgumentException.class, () -> Key.parse("ws/type"));
        assertThrows(IllegalArgumentException.class, () -> new Key("ws", "type/a", "b"));
        // Half of an emoji. UTF-8 would have a question mark, and so the key of another entity.
        String half = "🦀".substring(0, 1);
        assertThrows(IllegalArgumentException.class, () -> new Key("ws", "type", half));
        assertThrows(IllegalArgumentException.class, () -> Scope.ofWorkspaces(half));
        assertThrows(IllegalArgumentException.class, () -> EntityType.json(half, Deployment.class));
        assertEquals("ws/type/🦀", new Key("ws", "type", "🦀").toString());
        onBoth(client -> {
            String workspace = workspace("key");
            client.set(new Stored(new Key(workspace, "deployment", "a/b"), new Deployment("a/b", 1)));

            assertEquals(Map.of("a/b", new Deployment("a/b", 1)), client.load(workspace, Deployment.TYPE));
            try (RecordStream records = client.stream(Scope.ofWorkspaces(workspace))) {
                assertEquals(new Key(workspace, "deployment", "a/b"), records.next().key());
            }
        });
    }

    @Test
    void anInvalidKeyIsRefusedWithItsField() {
        onBoth(client -> {
            String workspace = workspace("invalid");
            assertRefused("changelog_id", () -> client.set(deployment(workspace, "", 1)));
            assertRefused("changelog_id", () -> client.delete(new Key(workspace, "", "a")));
            assertRefused("changelog_id", () -> client.get(Deployment.TYPE, new Key(workspace, "deployment", "a//b")));
            assertRefused("workspace_id", () -> client.load(" ", Deployment.TYPE));
        });
    }

    private static void assertRefused(String field, Runnable call) {
        ChangelogException error = assertThrows(ChangelogException.class, call::run);
        assertEquals(Status.Code.INVALID_ARGUMENT, error.code());
        assertEquals("KEY_INVALID", error.reason());
        assertEquals(field, error.field());
    }
}
