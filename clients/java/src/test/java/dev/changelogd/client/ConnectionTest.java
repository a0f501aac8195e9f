package dev.changelogd.client;

import static dev.changelogd.client.Servers.deployment;
import static dev.changelogd.client.Servers.variable;
import static dev.changelogd.client.Servers.workspace;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;

import dev.changelogd.client.Servers.Deployment;
import java.util.List;
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
        assertEquals(variable("CHANGELOGD_ADDR"), Options.defaults().withAddress("").address());
        for (String address : List.of("host:1", "[::1]:65535", "unix:///a")) {
            assertEquals(address, Options.defaults().withAddress(address).address());
        }
        for (String address : List.of("http://host:1", "host", "host:", "host:65536", "::1", "a b:1", "unix:")) {
            assertThrows(IllegalArgumentException.class, () -> Options.defaults().withAddress(address), address);
        }
    }

    private static void assertWorks(ChangelogClient client) {
        String workspace = workspace("connection");
        client.set(deployment(workspace, "a", 1));
        assertEquals(Map.of("a", new Deployment("a", 1)), client.load(workspace, Deployment.TYPE));
    }
}
