package dev.changelogd.client;

import dev.changelogd.v1.ChangelogServiceGrpc;
import io.grpc.ConnectivityState;
import io.grpc.Grpc;
import io.grpc.InsecureChannelCredentials;
import io.grpc.ManagedChannel;
import io.grpc.ManagedChannelBuilder;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;
import java.util.stream.Stream;

/** Connections, and the retries of calls that gRPC makes itself. */
final class Channels {
    /**
     * These retries are safe only if one writer owns a key. A retry after a broken connection may overwrite a newer
     * write, because the first attempt may have been written. gRPC counts numbers as doubles.
     */
    private static final Map<String, Object> RETRIES = Map.of(
            "maxAttempts", 5.0,
            "initialBackoff", "0.1s",
            "maxBackoff", "2s",
            "backoffMultiplier", 2.0,
            "retryableStatusCodes", List.of("UNAVAILABLE"));

    /** A stream of writes or records is not repeated: the writer reports unknown outcomes, the watcher resumes. */
    private static final Map<String, Object> SERVICE_CONFIG = Map.of("methodConfig", List.of(
            Map.of("name", List.of(Map.of("service", ChangelogServiceGrpc.SERVICE_NAME)), "waitForReady", true),
            Map.of("name", Stream.of("Set", "Delete", "Get", "Flush", "Describe", "LoadWorkspace")
                            .map(Channels::method).toList(),
                    "waitForReady", true, "retryPolicy", RETRIES)));

    private static final long BACKOFF_MAX_SECONDS = 5;

    private Channels() {}

    private static Map<String, Object> method(String name) {
        return Map.of("service", ChangelogServiceGrpc.SERVICE_NAME, "method", name);
    }

    static ManagedChannel open(String address) {
        ManagedChannelBuilder<?> builder = Grpc.newChannelBuilder(address, InsecureChannelCredentials.create())
                .defaultServiceConfig(SERVICE_CONFIG)
                // The server bounds its messages: a batch has 256 KiB, or one entry of any size.
                .maxInboundMessageSize(Integer.MAX_VALUE)
                // gRPC would repeat no request above 1 MiB. The server takes larger ones, by --max-value-bytes.
                .perRpcBufferLimit(64L << 20)
                .retryBufferSize(256L << 20)
                // As the server itself does.
                .keepAliveTime(30, TimeUnit.SECONDS)
                .keepAliveTimeout(10, TimeUnit.SECONDS);
        if (address.startsWith("unix:")) {
            // Else gRPC sends the path as the server's name, which is not valid, and each call is reset.
            builder.overrideAuthority("localhost");
        }
        ManagedChannel channel = builder.build();
        boundBackoff(channel);
        return channel;
    }

    /** gRPC waits up to 2 minutes between attempts to connect. A server that is back must not wait that long. */
    private static void boundBackoff(ManagedChannel channel) {
        ConnectivityState state = channel.getState(false);
        if (state == ConnectivityState.TRANSIENT_FAILURE) {
            CompletableFuture.delayedExecutor(BACKOFF_MAX_SECONDS, TimeUnit.SECONDS).execute(() -> {
                channel.resetConnectBackoff();
                boundBackoff(channel);
            });
        } else if (state != ConnectivityState.SHUTDOWN) {
            channel.notifyWhenStateChanged(state, () -> boundBackoff(channel));
        }
    }
}
