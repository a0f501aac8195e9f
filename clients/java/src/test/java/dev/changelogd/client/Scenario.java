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
import io.grpc.CallOptions;
import io.grpc.ClientCall;
import io.grpc.Grpc;
import io.grpc.InsecureChannelCredentials;
import io.grpc.ManagedChannel;
import io.grpc.Metadata;
import io.grpc.MethodDescriptor;
import io.grpc.Status;
import io.grpc.protobuf.StatusProto;
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
        try (BufferedReader calls = Files.newBufferedReader(Path.of(arguments[0]))) {
            for (String line = calls.readLine(); line != null; line = calls.readLine()) {
                out.println(JSON.writeValueAsString(answer(JSON.readTree(line))));
            }
        }
    }

    /** Makes a call on a connection of its own. */
    private static Map<String, Object> answer(JsonNode step) throws Exception {
        ManagedChannel channel = Grpc.newChannelBuilder(
                        step.get("address").textValue(), InsecureChannelCredentials.create())
                .keepAliveTime(10, TimeUnit.SECONDS)
                .keepAliveTimeout(5, TimeUnit.SECONDS)
                .build();
        try {
            CallOptions options = CallOptions.DEFAULT
                    .withDeadlineAfter(step.get("timeoutMs").longValue(), TimeUnit.MILLISECONDS)
                    .withCompression(step.get("gzip").booleanValue() ? "gzip" : null);
            MethodDescriptor<Message, Message> method = method(step.get("call").textValue());
            Received received = new Received(channel.newCall(method, options), step.path("cancelAfter").intValue());
            // All responses come afterwards, also of a stream of requests.
            received.send(requests(step.get("requests"), method), method.getType().clientSendsOneMessage());
            return received.answer(step.get("name").textValue());
        } finally {
            channel.shutdownNow();
        }
    }

    @SuppressWarnings("unchecked")
    private static MethodDescriptor<Message, Message> method(String name) {
        return (MethodDescriptor<Message, Message>) ChangelogServiceGrpc.getServiceDescriptor().getMethods().stream()
                .filter(method -> name.equals(method.getBareMethodName()))
                .findFirst()
                .orElseThrow();
    }

    private static List<Message> requests(JsonNode texts, MethodDescriptor<Message, Message> method)
            throws IOException {
        var marshaller = (MethodDescriptor.PrototypeMarshaller<Message>) method.getRequestMarshaller();
        List<Message> requests = new ArrayList<>();
        for (JsonNode text : texts) {
            Message.Builder request = marshaller.getMessagePrototype().newBuilderForType();
            JsonFormat.parser().merge(text.toString(), request);
            requests.add(request.build());
        }
        return requests;
    }

    /** What came back. gRPC calls its methods one at a time. */
    private static final class Received extends ClientCall.Listener<Message> {
        private final ClientCall<Message, Message> call;
        private final int cancelAfter;
        private final List<JsonNode> responses = new ArrayList<>();
        private IOException failure;
        private Status status;
        private Metadata trailers;

        Received(ClientCall<Message, Message> call, int cancelAfter) {
            this.call = call;
            this.cancelAfter = cancelAfter;
        }

        /** Sends everything, and asks for a response then. gRPC does not say when a call with one message is ready. */
        synchronized void send(List<Message> requests, boolean isOne) throws InterruptedException {
            call.start(this, new Metadata());
            for (Message request : requests) {
                while (!isOne && !call.isReady() && status == null) {
                    wait();
                }
                if (status != null) {
                    return;
                }
                call.sendMessage(request);
            }
            call.halfClose();
            call.request(1);
        }

        @Override
        public synchronized void onReady() {
            notifyAll();
        }

        @Override
        public synchronized void onMessage(Message response) {
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
        public synchronized void onClose(Status status, Metadata trailers) {
            this.status = status;
            this.trailers = trailers;
            notifyAll();
        }

        synchronized Map<String, Object> answer(String name) throws Exception {
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
                    field = detail.unpack(BadRequest.class).getFieldViolations(0).getField();
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
