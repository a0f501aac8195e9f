package dev.changelogd.client;

import static dev.changelogd.client.Servers.deployment;
import static dev.changelogd.client.Servers.variable;
import static dev.changelogd.client.Servers.workspace;
import static org.junit.jupiter.api.Assertions.assertEquals;

import dev.changelogd.client.Servers.Deployment;
import java.util.Map;
import org.junit.jupiter.api.Test;

class ConnectionTest {
    @Test
    void aUnixSocketWorks() {
        try (ChangelogClient client = ChangelogClient.connect("unix:" + variable("CHANGELOGD_TEST_UNIX"))) {
            assertWorks(client);
        }
    }

    @Test
    void changelogdAddrNamesTheServer() {
        // pom.xml sets it for this process.
        assertEquals(variable("CHANGELOGD_TEST_EMBEDDED"), variable("CHANGELOGD_ADDR"));
        try (ChangelogClient client = ChangelogClient.connect()) {
            assertWorks(client);
        }
        assertEquals("127.0.0.1:50051", Options.address(Map.of()));
        assertEquals("127.0.0.1:50051", Options.address(Map.of("CHANGELOGD_ADDR", "")));
        assertEquals("unix:/a", Options.address(Map.of("CHANGELOGD_ADDR", "unix:/a")));
    }

    private static void assertWorks(ChangelogClient client) {
        String workspace = workspace("connection");
        client.set(deployment(workspace, "a", 1));
        assertEquals(Map.of("a", new Deployment("a", 1)), client.load(workspace, Deployment.TYPE));
    }
}
