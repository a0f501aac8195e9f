import dev.changelogd.client.ChangelogClient;
import dev.changelogd.client.Entity;
import dev.changelogd.client.EntityType;
import dev.changelogd.client.Entry;
import dev.changelogd.client.FlushResult;
import dev.changelogd.client.Key;
import dev.changelogd.client.RecordStream;
import dev.changelogd.client.Scope;
import dev.changelogd.client.WatchEvent;
import dev.changelogd.client.Watcher;
import java.time.Duration;
import java.util.Map;
import java.util.TreeMap;
import java.util.UUID;

/** Writes, loads and watches the deployments of a workspace. It prints the same on every store. */
public final class Quickstart {
    /** An entity is a class that knows its key. Its value is JSON. */
    record Deployment(String workspace, String id, String name, String version) implements Entity {
        static final EntityType<Deployment> TYPE = EntityType.json("deployment", Deployment.class);

        @Override
        public Key changelogKey() {
            return new Key(workspace, TYPE.name(), id);
        }
    }

    public static void main(String[] arguments) {
        // CHANGELOGD_ADDR names the server. The workspace is new, so that nothing else is in it.
        String workspace = "ws-" + UUID.randomUUID();
        try (ChangelogClient client = ChangelogClient.connect()) {
            write(client, workspace);

            Map<String, Deployment> deployments = client.load(workspace, Deployment.TYPE);
            deployments.forEach((id, deployment) -> print("load", deployment));

            process(client, workspace);
            watch(client, workspace);
        }
    }

    private static void write(ChangelogClient client, String workspace) {
        client.set(new Deployment(workspace, "dep-1", "my-app", "v1"));

        // A buffered write is answered when it is queued. Flush waits for it, and says if it failed.
        client.setBuffered(new Deployment(workspace, "dep-2", "other-app", "v1"));
        client.setBuffered(new Deployment(workspace, "dep-3", "old-app", "v1"));
        FlushResult flushed = client.flush(Duration.ofSeconds(10));
        System.out.printf("flush: %d remaining, %d failed%n", flushed.remaining(), flushed.failures().size());

        client.delete(new Key(workspace, "deployment", "dep-3"));
    }

    /** Rebuilds the state from records. The log may still have older records of a key, so the last one counts. */
    private static void process(ChangelogClient client, String workspace) {
        Map<String, Entry> last = new TreeMap<>();
        try (RecordStream records = client.stream(Scope.ofWorkspaces(workspace))) {
            records.forEachRemaining(record -> last.put(record.key().id(), record));
        }
        last.forEach((id, record) -> {
            if (record.isTombstone()) {
                System.out.printf("records: %s is deleted%n", id);
            } else {
                print("records", Deployment.TYPE.decode(record));
            }
        });
    }

    /** Takes the state, and then one change. */
    private static void watch(ChangelogClient client, String workspace) {
        try (Watcher events = client.watch(workspace, Deployment.TYPE)) {
            while (events.hasNext()) {
                WatchEvent event = events.next();
                if (event instanceof WatchEvent.Loaded state) {
                    System.out.printf("watch: %d entities%n", state.entries().size());
                    client.set(new Deployment(workspace, "dep-1", "my-app", "v2"));
                } else if (event instanceof WatchEvent.Changed change) {
                    print("watch", Deployment.TYPE.decode(change.entry()));
                    return;
                } else if (event instanceof WatchEvent.Deleted deleted) {
                    System.out.printf("watch: %s is deleted%n", deleted.key().id());
                }
            }
        }
    }

    private static void print(String step, Deployment deployment) {
        System.out.printf("%s: %s is %s %s%n", step, deployment.id(), deployment.name(), deployment.version());
    }
}
