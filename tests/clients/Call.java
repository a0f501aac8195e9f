import io.grpc.CallOptions;
import io.grpc.Grpc;
import io.grpc.InsecureChannelCredentials;
import io.grpc.ManagedChannel;
import io.grpc.ManagedChannelBuilder;
import io.grpc.MethodDescriptor;
import io.grpc.MethodDescriptor.Marshaller;
import io.grpc.MethodDescriptor.MethodType;
import io.grpc.StatusRuntimeException;
import io.grpc.stub.ClientCalls;
import java.io.ByteArrayInputStream;
import java.io.IOException;
import java.io.InputStream;
import java.io.PrintStream;
import java.io.UncheckedIOException;
import java.nio.charset.StandardCharsets;
import java.util.HexFormat;
import java.util.concurrent.TimeUnit;

/**
 * One unary call with Java's gRPC library, as docs/clients.md shows it.
 *
 * <p>Arguments: target, authority (empty for the library's own), method, request in hexadecimal digits. Prints the code
 * on the first line, and then the response in hexadecimal digits or the message.
 */
public final class Call {
    private static final Marshaller<byte[]> UNCHANGED = new Marshaller<>() {
        @Override
        public InputStream stream(byte[] message) {
            return new ByteArrayInputStream(message);
        }

        @Override
        public byte[] parse(InputStream message) {
            try {
                return message.readAllBytes();
            } catch (IOException error) {
                throw new UncheckedIOException(error);
            }
        }
    };

    public static void main(String[] arguments) throws Exception {
        PrintStream out = new PrintStream(System.out, true, StandardCharsets.UTF_8);
        ManagedChannelBuilder<?> builder = Grpc.newChannelBuilder(arguments[0], InsecureChannelCredentials.create());
        if (!arguments[1].isEmpty()) {
            builder.overrideAuthority(arguments[1]);
        }
        MethodDescriptor<byte[], byte[]> method = MethodDescriptor.<byte[], byte[]>newBuilder()
                .setType(MethodType.UNARY)
                .setFullMethodName(arguments[2])
                .setRequestMarshaller(UNCHANGED)
                .setResponseMarshaller(UNCHANGED)
                .build();
        byte[] request = HexFormat.of().parseHex(arguments[3]);
        ManagedChannel channel = builder.build();
        try {
            CallOptions options = CallOptions.DEFAULT.withDeadlineAfter(20, TimeUnit.SECONDS);
            byte[] response = ClientCalls.blockingUnaryCall(channel, method, options, request);
            out.println("OK");
            out.println(HexFormat.of().formatHex(response));
        } catch (StatusRuntimeException error) {
            out.println(error.getStatus().getCode());
            out.println(error.getStatus().getDescription());
        } finally {
            channel.shutdownNow();
        }
    }
}
