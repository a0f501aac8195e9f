package dev.changelogd.client;

import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assertions.fail;

import io.grpc.Context;
import java.time.Duration;
import java.util.List;
import java.util.UUID;
import java.util.concurrent.Executors;
import java.util.concurrent.ScheduledExecutorService;
import java.util.concurrent.TimeUnit;
import java.util.function.BooleanSupplier;
import org.junit.jupiter.api.function.ThrowingConsumer;

/** The servers of the tests, and what the tests share. */
final class Servers {
    private static final ScheduledExecutorService DEADLINES = Executors.newSingleThreadScheduledExecutor(task -> {
        Thread thread = new Thread(task, "test-deadlines");
        thread.setDaemon(true);
        return thread;
    });

    /** What the scripted server stores for {@code /deployment/x}. */
    record Deployment(String name, long version) {
        static final EntityType<Deployment> TYPE = EntityType.json("deployment", Deployment.class);
    }

    /** Any value under any key. */
    record Stored(Key changelogKey, Object value) implements Entity {
        @Override
        public byte[] changelogValue() {
            return Json.encode(value);
        }
    }

    /** What the scripted server has seen of a workspace. */
    record Observed(
            long calls, long timeoutMs, boolean cancelled, long messages, long mostMutations, long mostBytes) {
        private static final EntityType<Observed> TYPE = EntityType.json("observed", Observed.class);

        static Observed of(ChangelogClient client, String workspace) {
            return client.get(TYPE, new Key(workspace, "observed", "calls")).orElseThrow();
        }
    }

    private Servers() {}

    /** A missing variable is a failure, because a skipped test would look like a passed one. */
    static String variable(String name) {
        String value = System.getenv(name);
        return value == null || value.isEmpty() ? fail(name + " is not set") : value;
    }

    static ChangelogClient embedded() {
        return ChangelogClient.connect(variable("CHANGELOGD_TEST_EMBEDDED"));
    }

    static ChangelogClient scripted() {
        return ChangelogClient.connect(variable("CHANGELOGD_TEST_SCRIPTED"));
    }

    /** Runs a test on the embedded store, and on Kafka. */
    static void onBoth(ThrowingConsumer<ChangelogClient> test) {
        for (String server : List.of("CHANGELOGD_TEST_EMBEDDED", "CHANGELOGD_TEST_ON_KAFKA")) {
            try (ChangelogClient client = ChangelogClient.connect(variable(server))) {
                test.accept(client);
            } catch (Throwable e) {
                throw new AssertionError("on " + server, e);
            }
        }
    }

    /** A workspace of its own. The scripted server does what the name before the dot says. */
    static String workspace(String script) {
        return script + "." + UUID.randomUUID();
    }

    static Stored deployment(String workspace, String id, long version) {
        return new Stored(new Key(workspace, "deployment", id), new Deployment(id, version));
    }

    /** Runs with a deadline, as a caller sets it. */
    static void within(Duration timeout, Runnable task) {
        Context.current().withDeadlineAfter(timeout.toNanos(), TimeUnit.NANOSECONDS, DEADLINES).run(task);
    }

    static void eventually(String what, BooleanSupplier condition) throws InterruptedException {
        long end = System.nanoTime() + TimeUnit.SECONDS.toNanos(10);
        while (!condition.getAsBoolean()) {
            assertTrue(System.nanoTime() < end, what);
            Thread.sleep(10);
        }
    }
}
