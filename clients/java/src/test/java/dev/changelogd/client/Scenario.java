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
import dev.changelogd.v1.DescribeRequest;
import dev.changelogd.v1.FlushRequest;
import dev.changelogd.v1.GetRequest;
import dev.changelogd.v1.LoadWorkspaceRequest;
import dev.changelogd.v1.SetRequest;
import dev.changelogd.v1.StreamAllRequest;
import dev.changelogd.v1.WatchRequest;
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
import io.grpc.stub.StreamObserver;
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
import java.util.function.BiConsumer;

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
        return switch (step.get("call").textValue()) {
            case "Set" -> one(step, SetRequest.getDefaultInstance(), stub::set);
            case "Delete" -> one(step, DeleteRequest.getDefaultInstance(), stub::delete);
            case "Flush" -> one(step, FlushRequest.getDefaultInstance(), stub::flush);
            case "Get" -> one(step, GetRequest.getDefaultInstance(), stub::get);
            case "Describe" -> one(step, DescribeRequest.getDefaultInstance(), stub::describe);
            case "LoadWorkspace" -> one(step, LoadWorkspaceRequest.getDefaultInstance(), stub::loadWorkspace);
            case "StreamAll" -> one(step, StreamAllRequest.getDefaultInstance(), stub::streamAll);
            case "Watch" -> one(step, WatchRequest.getDefaultInstance(), stub::watch);
            case "Write" -> {
                List<WriteRequest> requests = requests(step, WriteRequest.getDefaultInstance());
                yield new Received<WriteRequest, WriteResponse>(step).answer(to -> {
                    stub.write(to);
                    to.send(requests);
                });
            }
            default -> throw new IllegalArgumentException("no call " + step.get("call"));
        };
    }

    /** A call with one request. */
    private static <Q extends Message, R extends Message> Map<String, Object> one(
            JsonNode step, Q type, BiConsumer<Q, StreamObserver<R>> method) throws Exception {
        Q request = requests(step, type).get(0);
        return new Received<Q, R>(step).answer(to -> method.accept(request, to));
    }

    @SuppressWarnings("unchecked")
    private static <Q extends Message> List<Q> requests(JsonNode step, Q type) throws IOException {
        List<Q> requests = new ArrayList<>();
        for (JsonNode request : step.get("requests")) {
            Message.Builder builder = type.newBuilderForType();
            JsonFormat.parser().merge(request.toString(), builder);
            requests.add((Q) builder.build());
        }
        return requests;
    }

    @FunctionalInterface
    private interface Made<T> {
        void make(T received) throws Exception;
    }

    /** What came back. gRPC calls its methods one at a time. */
    private static final class Received<Q extends Message, R extends Message> implements ClientResponseObserver<Q, R> {
        private final String name;
        private final int cancelAfter;
        private final List<JsonNode> responses = new ArrayList<>();
        private ClientCallStreamObserver<Q> call;
        private IOException failure;
        private Status status;
        private Metadata trailers = new Metadata();

        Received(JsonNode step) {
            name = step.get("name").textValue();
            cancelAfter = step.path("cancelAfter").intValue();
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

        synchronized Map<String, Object> answer(Made<Received<Q, R>> made) throws Exception {
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
