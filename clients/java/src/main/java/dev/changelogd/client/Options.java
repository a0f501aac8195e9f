package dev.changelogd.client;

import java.time.Duration;
import java.util.Map;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/**
 * How a client connects, and how long its calls last.
 *
 * @param address {@code host:port} or {@code unix:/path}, in plain text. An empty one means that of {@link #defaults}
 * @param callTimeout of a unary call whose context has no deadline
 * @param loadTimeout of a load or a stream whose context has no deadline, and of the state of a watch
 */
public record Options(String address, Duration callTimeout, Duration loadTimeout) {
    private static final Pattern ADDRESS = Pattern.compile("unix:.+|(\\[[^\\s/\\[\\]]+]|[^\\s/\\[\\]:@]+):(\\d{1,5})");

    /** Throws an {@link IllegalArgumentException} if the address has another form. */
    public Options {
        address = address.isEmpty() ? address(System.getenv()) : address;
        Matcher found = ADDRESS.matcher(address);
        // gRPC would look for a host of that name until the deadline of a call.
        if (!found.matches() || found.group(2) != null && Integer.parseInt(found.group(2)) > 65_535) {
            throw new IllegalArgumentException("\"%s\" is not host:port or unix:/path".formatted(address));
        }
    }

    /** The address of {@code CHANGELOGD_ADDR}, else {@code 127.0.0.1:50051}; 30 s for calls and 5 min for loads. */
    public static Options defaults() {
        return new Options("", Duration.ofSeconds(30), Duration.ofMinutes(5));
    }

    static String address(Map<String, String> environment) {
        String address = environment.getOrDefault("CHANGELOGD_ADDR", "");
        return address.isEmpty() ? "127.0.0.1:50051" : address;
    }

    public Options withAddress(String newAddress) {
        return new Options(newAddress, callTimeout, loadTimeout);
    }

    public Options withCallTimeout(Duration newCallTimeout) {
        return new Options(address, newCallTimeout, loadTimeout);
    }

    public Options withLoadTimeout(Duration newLoadTimeout) {
        return new Options(address, callTimeout, newLoadTimeout);
    }
}
