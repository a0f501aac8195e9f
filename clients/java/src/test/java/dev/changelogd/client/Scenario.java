package dev.changelogd.client;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.google.protobuf.Any;
import com.google.protobuf.InvalidProtocolBufferException;
import com.google.protobuf.Message;
import com.google.protobuf.util.Durations;
import com.google.protobuf.util.JsonFormat;
import com.google.rpc.BadRequest;
import com.google.rpc.ErrorInfo;
import com.google.rpc.RetryInfo;
import dev.changelogd.v1.ChangelogServiceGrpc;
import dev.changelogd.v1.ChangelogServiceGrpc.ChangelogServiceStub;
import dev.changelogd.v1.DeleteRequest;
import dev.changelogd.v1.DeleteResponse;
import dev.changelogd.v1.DescribeRequest;
import dev.changelogd.v1.DescribeResponse;
import dev.changelogd.v1.FlushRequest;
import dev.changelogd.v1.FlushResponse;
import dev.changelogd.v1.GetRequest;
import dev.changelogd.v1.GetResponse;
import dev.changelogd.v1.LoadWorkspaceRequest;
import dev.changelogd.v1.LoadWorkspaceResponse;
import dev.changelogd.v1.SetRequest;
import dev.changelogd.v1.SetResponse;
import dev.changelogd.v1.StreamAllRequest;
import dev.changelogd.v1.StreamAllResponse;
import dev.changelogd.v1.WatchRequest;
import dev.changelogd.v1.WatchResponse;
import dev.changelogd.v1.WriteRequest;
import dev.changelogd.v1.WriteResponse;
import io.grpc.Grpc;
import io.grpc.InsecureChannelCredentials;
import io.grpc.ManagedChannel;
import io.grpc.ManagedChannelBuilder;
import io.grpc.Metadata;
import io.grpc.Status;
import io.grpc.protobuf.StatusProto;
import io.grpc.stub.ClientCallStreamObserver;
import io.grpc.stub.ClientResponseObserver;
import java.io.BufferedReader;
import java.io.IOException;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.concurrent.TimeUnit;

/**
 * Makes the calls of a file with the generated code, and prints what each of them got: one line of JSON for each line.
 * {@code clients/BEHAVIOUR.md} describes both.
 */
final class Scenario {
    private static final ObjectMapper JSON = new ObjectMapper();

    private Scenario() {}

    public static void main(String[] arguments) throws Exception {
        PrintStream out = new PrintStream(System.out, true, StandardCharsets.UTF_8);
        // A server sees that a call was cancelled, and not that its connection was closed: all stay open up to the end.
        List<ManagedChannel> channels = new ArrayList<>();
        try (BufferedReader calls = Files.newBufferedReader(Path.of(arguments[0]))) {
            for (String line = calls.readLine(); line != null; line = calls.readLine()) {
                JsonNode step = JSON.readTree(line);
                channels.add(channel(step));
                out.println(JSON.writeValueAsString(answer(step, channels.get(channels.size() - 1))));
            }
        } finally {
            channels.forEach(ManagedChannel::shutdownNow);
        }
    }

    /** A connection for one call. */
    private static ManagedChannel channel(JsonNode step) {
        ManagedChannelBuilder<?> builder = Grpc.newChannelBuilder(
                        step.get("address").textValue(), InsecureChannelCredentials.create())
                .keepAliveTime(10, TimeUnit.SECONDS)
                .keepAliveTimeout(5, TimeUnit.SECONDS);
        if (step.has("maxMessageBytes")) {
            builder.maxInboundMessageSize(step.get("maxMessageBytes").intValue());
        }
        return builder.build();
    }

    private static Map<String, Object> answer(JsonNode step, ManagedChannel channel) throws Exception {
        ChangelogServiceStub stub = ChangelogServiceGrpc.newStub(channel)
                .withDeadlineAfter(step.get("timeoutMs").longValue(), TimeUnit.MILLISECONDS)
                .withCompression(step.get("gzip").booleanValue() ? "gzip" : null);
        int cancelAfter = step.path("cancelAfter").intValue();
        String name = step.get("name").textValue();
        return switch (step.get("call").textValue()) {
            case "Set" -> new Received<SetRequest, SetResponse>(cancelAfter)
                    .answer(name, to -> stub.set(first(step, SetRequest.newBuilder()).build(), to));
            case "Delete" -> new Received<DeleteRequest, DeleteResponse>(cancelAfter)
                    .answer(name, to -> stub.delete(first(step, DeleteRequest.newBuilder()).build(), to));
            case "Flush" -> new Received<FlushRequest, FlushResponse>(cancelAfter)
                    .answer(name, to -> stub.flush(first(step, FlushRequest.newBuilder()).build(), to));
            case "Get" -> new Received<GetRequest, GetResponse>(cancelAfter)
                    .answer(name, to -> stub.get(first(step, GetRequest.newBuilder()).build(), to));
            case "Describe" -> new Received<DescribeRequest, DescribeResponse>(cancelAfter)
                    .answer(name, to -> stub.describe(first(step, DescribeRequest.newBuilder()).build(), to));
            case "LoadWorkspace" -> new Received<LoadWorkspaceRequest, LoadWorkspaceResponse>(cancelAfter)
                    .answer(name, to -> stub.loadWorkspace(first(step, LoadWorkspaceRequest.newBuilder()).build(), to));
            case "StreamAll" -> new Received<StreamAllRequest, StreamAllResponse>(cancelAfter)
                    .answer(name, to -> stub.streamAll(first(step, StreamAllRequest.newBuilder()).build(), to));
            case "Watch" -> new Received<WatchRequest, WatchResponse>(cancelAfter)
                    .answer(name, to -> stub.watch(first(step, WatchRequest.newBuilder()).build(), to));
            case "Write" -> {
                List<WriteRequest> messages = new ArrayList<>();
                for (JsonNode message : step.get("requests")) {
                    messages.add(parsed(message, WriteRequest.newBuilder()).build());
                }
                Received<WriteRequest, WriteResponse> received = new Received<>(cancelAfter);
                yield received.answer(name, to -> {
                    stub.write(to);
                    to.send(messages);
                });
            }
            default -> throw new IllegalArgumentException("no call " + step.get("call"));
        };
    }

    private static <B extends Message.Builder> B first(JsonNode step, B request) throws IOException {
        return parsed(step.get("requests").get(0), request);
    }

    private static <B extends Message.Builder> B parsed(JsonNode message, B request) throws IOException {
        JsonFormat.parser().merge(message.toString(), request);
        return request;
    }

    @FunctionalInterface
    private interface Made<T> {
        void make(T received) throws Exception;
    }

    /** What came back. gRPC calls its methods one at a time. */
    private static final class Received<Q extends Message, R extends Message> implements ClientResponseObserver<Q, R> {
        private final int cancelAfter;
        private final List<JsonNode> responses = new ArrayList<>();
        private ClientCallStreamObserver<Q> call;
        private IOException failure;
        private Status status;
        private Metadata trailers = new Metadata();

        Received(int cancelAfter) {
            this.cancelAfter = cancelAfter;
        }

        @Override
        public void beforeStart(ClientCallStreamObserver<Q> call) {
            this.call = call;
            // A response is asked for when all requests have left.
            call.disableAutoRequestWithInitial(0);
            call.setOnReadyHandler(this::wake);
        }

        /** Sends everything, and asks for a response then. */
        synchronized void send(List<Q> messages) throws InterruptedException {
            for (Q message : messages) {
                while (!call.isReady() && status == null) {
                    wait();
                }
                if (status != null) {
                    return;
                }
                call.onNext(message);
            }
            call.onCompleted();
        }

        private synchronized void wake() {
            notifyAll();
        }

        @Override
        public synchronized void onNext(R response) {
            try {
                responses.add(JSON.readTree(JsonFormat.printer().print(response)));
            } catch (IOException e) {
                failure = e;
            }
            if (failure != null || responses.size() == cancelAfter) {
                call.cancel("enough", null);
            } else {
                call.request(1);
            }
        }

        @Override
        public synchronized void onError(Throwable error) {
            status = Status.fromThrowable(error);
            trailers = Objects.requireNonNullElse(Status.trailersFromThrowable(error), trailers);
            notifyAll();
        }

        @Override
        public synchronized void onCompleted() {
            status = Status.OK;
            notifyAll();
        }

        synchronized Map<String, Object> answer(String name, Made<Received<Q, R>> made) throws Exception {
            made.make(this);
            call.request(1);
            while (status == null) {
                wait();
            }
            if (failure != null) {
                throw failure;
            }
            Map<String, Object> answer = new LinkedHashMap<>();
            answer.put("name", name);
            answer.put("code", status.getCode().value());
            answer.put("message", status.getDescription() == null ? "" : status.getDescription());
            answer.put("error", details(StatusProto.fromStatusAndTrailers(status, trailers).getDetailsList()));
            answer.put("responses", responses);
            return answer;
        }

        private static Map<String, Object> details(List<Any> all) throws InvalidProtocolBufferException {
            ErrorInfo info = null;
            String field = "";
            Long retryMs = null;
            for (Any detail : all) {
                if (detail.is(ErrorInfo.class)) {
                    info = detail.unpack(ErrorInfo.class);
                } else if (detail.is(BadRequest.class)) {
                    var violations = detail.unpack(BadRequest.class).getFieldViolationsList();
                    field = violations.isEmpty() ? "" : violations.get(0).getField();
                } else if (detail.is(RetryInfo.class)) {
                    retryMs = Durations.toMillis(detail.unpack(RetryInfo.class).getRetryDelay());
                }
            }
            if (info == null) {
                return null;
            }
            Map<String, Object> details = new LinkedHashMap<>();
            details.put("domain", info.getDomain());
            details.put("reason", info.getReason());
            details.put("field", field);
            details.put("retryMs", retryMs);
            details.put("metadata", info.getMetadataMap());
            return details;
        }
    }
}
