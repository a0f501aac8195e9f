package oracle;

import com.fasterxml.jackson.databind.node.ObjectNode;
import java.util.Arrays;
import java.util.List;
import java.util.Locale;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.common.acl.AccessControlEntry;
import org.apache.kafka.common.acl.AclBinding;
import org.apache.kafka.common.acl.AclOperation;
import org.apache.kafka.common.acl.AclPermissionType;
import org.apache.kafka.common.errors.TimeoutException;
import org.apache.kafka.common.resource.PatternType;
import org.apache.kafka.common.resource.ResourcePattern;
import org.apache.kafka.common.resource.ResourceType;

/** What a user may do with a topic, on a broker with an authorizer. Answers when the broker applies it. */
final class Acls {
    private static final long VISIBLE_WITHIN_MS = 15_000;

    private Acls() {}

    static ObjectNode change(String bootstrap, String verb, String topic, String user, String operations)
            throws Exception {
        var resource = new ResourcePattern(ResourceType.TOPIC, topic, PatternType.LITERAL);
        List<AclBinding> bindings = Arrays.stream(operations.split(","))
                .map(operation -> AclOperation.valueOf(operation.toUpperCase(Locale.ROOT)))
                .map(operation -> new AclBinding(
                        resource, new AccessControlEntry("User:" + user, "*", operation, AclPermissionType.ALLOW)))
                .toList();
        try (var admin = Topics.admin(bootstrap)) {
            switch (verb) {
                case "allow" -> admin.createAcls(bindings).all().get();
                case "forbid" -> admin.deleteAcls(bindings.stream().map(AclBinding::toFilter).toList()).all().get();
                default -> throw new IllegalArgumentException("expected allow or forbid, got '" + verb + "'");
            }
            var deadline = System.nanoTime() + VISIBLE_WITHIN_MS * 1_000_000;
            while (!shown(admin, bindings, verb.equals("allow"))) {
                if (System.nanoTime() > deadline) {
                    throw new TimeoutException("the broker did not show " + bindings + " in time");
                }
                Thread.sleep(10);
            }
            return Oracle.ok();
        }
    }

    private static boolean shown(Admin admin, List<AclBinding> bindings, boolean there) throws Exception {
        for (var binding : bindings) {
            if (admin.describeAcls(binding.toFilter()).values().get().isEmpty() == there) {
                return false;
            }
        }
        return true;
    }
}
