package oracle;

import java.util.Map;
import org.apache.kafka.common.errors.PolicyViolationException;
import org.apache.kafka.server.policy.AlterConfigPolicy;
import org.apache.kafka.server.policy.CreateTopicPolicy;

/** The policy of a broker whose operators choose how topics are compressed. */
public final class RejectsCompression implements CreateTopicPolicy, AlterConfigPolicy {
    @Override
    public void configure(Map<String, ?> configs) {}

    @Override
    public void close() {}

    @Override
    public void validate(CreateTopicPolicy.RequestMetadata request) {
        check(request.configs());
    }

    @Override
    public void validate(AlterConfigPolicy.RequestMetadata request) {
        check(request.configs());
    }

    private static void check(Map<String, String> configs) {
        if (configs.containsKey("compression.type")) {
            throw new PolicyViolationException("this cluster chooses compression.type itself");
        }
    }
}
