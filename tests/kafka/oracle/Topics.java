package oracle;

import com.fasterxml.jackson.databind.node.ObjectNode;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.concurrent.Callable;
import java.util.concurrent.ExecutionException;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.AlterConfigOp;
import org.apache.kafka.clients.admin.ConfigEntry;
import org.apache.kafka.clients.admin.ListOffsetsOptions;
import org.apache.kafka.clients.admin.ListTopicsOptions;
import org.apache.kafka.clients.admin.NewPartitions;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.OffsetSpec;
import org.apache.kafka.clients.admin.RecordsToDelete;
import org.apache.kafka.clients.admin.TopicDescription;
import org.apache.kafka.common.IsolationLevel;
import org.apache.kafka.common.Node;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.errors.TimeoutException;

/**
 * Topics and their settings. A change is answered when the brokers show it. They get it from the controller a moment
 * later, and a test would otherwise see the old state.
 */
final class Topics {
    private static final long VISIBLE_WITHIN_MS = 15_000;

    private Topics() {}

    static ObjectNode list(String bootstrap) throws Exception {
        try (var admin = admin(bootstrap)) {
            var topics = Oracle.JSON.createObjectNode();
            var names = topics.putArray("topics");
            admin.listTopics(new ListTopicsOptions().listInternal(true)).names().get().stream()
                    .sorted()
                    .forEach(names::add);
            return topics;
        }
    }

    static ObjectNode groups(String bootstrap) throws Exception {
        try (var admin = admin(bootstrap)) {
            var groups = Oracle.JSON.createObjectNode();
            var ids = groups.putArray("groups");
            admin.listGroups().all().get().stream().map(group -> group.groupId()).sorted().forEach(ids::add);
            return groups;
        }
    }

    static ObjectNode create(String bootstrap, String topic, int partitions, short replicationFactor, String settings)
            throws Exception {
        try (var admin = admin(bootstrap)) {
            var wanted = new NewTopic(topic, partitions, replicationFactor).configs(Codec.settings(settings));
            var created = admin.createTopics(List.of(wanted));
            created.all().get();
            until("has " + partitions + " partitions with leaders", topic, () -> ready(admin, topic, partitions));
            return Oracle.ok().put("id", created.topicId(topic).get().toString());
        }
    }

    static ObjectNode delete(String bootstrap, String topic) throws Exception {
        try (var admin = admin(bootstrap)) {
            admin.deleteTopics(List.of(topic)).all().get();
            until("is gone", topic, () -> !admin.listTopics().names().get().contains(topic));
            return Oracle.ok();
        }
    }

    static ObjectNode addPartitions(String bootstrap, String topic, int count) throws Exception {
        try (var admin = admin(bootstrap)) {
            admin.createPartitions(Map.of(topic, NewPartitions.increaseTo(count))).all().get();
            until("has " + count + " partitions with leaders", topic, () -> ready(admin, topic, count));
            return Oracle.ok();
        }
    }

    static ObjectNode configure(String bootstrap, String topic, String settings) throws Exception {
        try (var admin = admin(bootstrap)) {
            var resource = new ConfigResource(ConfigResource.Type.TOPIC, topic);
            var wanted = Codec.settings(settings);
            var operations = wanted.entrySet().stream()
                    .map(set -> new AlterConfigOp(
                            new ConfigEntry(set.getKey(), set.getValue()), AlterConfigOp.OpType.SET))
                    .toList();
            admin.incrementalAlterConfigs(Map.of(resource, operations)).all().get();
            until("has " + wanted, topic, () -> {
                var config = admin.describeConfigs(List.of(resource)).all().get().get(resource);
                return wanted.entrySet().stream()
                        .allMatch(set -> set.getValue().equals(config.get(set.getKey()).value()));
            });
            return Oracle.ok();
        }
    }

    static ObjectNode deleteRecords(String bootstrap, String topic, int partition, long before) throws Exception {
        try (var admin = admin(bootstrap)) {
            var where = new TopicPartition(topic, partition);
            var deleted = admin.deleteRecords(Map.of(where, RecordsToDelete.beforeOffset(before)));
            return Oracle.ok().put("low", deleted.lowWatermarks().get(where).get().lowWatermark());
        }
    }

    static ObjectNode describe(String bootstrap, String topic) throws Exception {
        try (var admin = admin(bootstrap)) {
            var description = describe(admin, topic);
            var low = offsets(admin, description, OffsetSpec.earliest(), IsolationLevel.READ_UNCOMMITTED);
            var lastStable = offsets(admin, description, OffsetSpec.latest(), IsolationLevel.READ_COMMITTED);
            var high = offsets(admin, description, OffsetSpec.latest(), IsolationLevel.READ_UNCOMMITTED);

            var answer = Oracle.JSON.createObjectNode();
            answer.put("topic", topic).put("id", description.topicId().toString());
            var partitions = answer.putArray("partitions");
            for (var info : description.partitions()) {
                var partition = partitions.addObject();
                partition.put("partition", info.partition());
                partition.put("leader", info.leader() == null ? -1 : info.leader().id());
                var replicas = partition.putArray("replicas");
                info.replicas().stream().map(Node::id).forEach(replicas::add);
                var isr = partition.putArray("isr");
                info.isr().stream().map(Node::id).forEach(isr::add);
                partition.put("low", low.get(info.partition()));
                partition.put("last_stable", lastStable.get(info.partition()));
                partition.put("high", high.get(info.partition()));
            }

            var resource = new ConfigResource(ConfigResource.Type.TOPIC, topic);
            var entries = new TreeMap<String, ConfigEntry>();
            for (var entry : admin.describeConfigs(List.of(resource)).all().get().get(resource).entries()) {
                entries.put(entry.name(), entry);
            }
            var configs = answer.putObject("configs");
            entries.forEach((name, entry) -> configs.put(name, entry.value()));
            // The settings of this topic itself. The others are defaults of the broker or of Kafka.
            var set = answer.putArray("set");
            entries.values().stream()
                    .filter(entry -> entry.source() == ConfigEntry.ConfigSource.DYNAMIC_TOPIC_CONFIG)
                    .map(ConfigEntry::name)
                    .forEach(set::add);
            return answer;
        }
    }

    /** Leaders, and replicas in sync, from any broker that answers, so that dead and frozen ones do not matter. */
    static ObjectNode leaders(String bootstrap, String topic) throws Exception {
        var client = Oracle.client(bootstrap, "default.api.timeout.ms", "30000", "request.timeout.ms", "2000");
        try (var admin = Admin.create(client)) {
            var answer = Oracle.JSON.createObjectNode();
            var partitions = answer.putArray("partitions");
            for (var info : describe(admin, topic).partitions()) {
                partitions.addObject()
                        .put("partition", info.partition())
                        .put("leader", info.leader() == null ? -1 : info.leader().id())
                        .put("in_sync", info.isr().size());
            }
            return answer;
        }
    }

    static TopicDescription describe(Admin admin, String topic) throws Exception {
        return admin.describeTopics(List.of(topic)).allTopicNames().get().get(topic);
    }

    static Admin admin(String bootstrap) {
        return Admin.create(Oracle.client(bootstrap, "default.api.timeout.ms", "15000"));
    }

    /** Offsets by partition; a partition without a leader has none. */
    private static Map<Integer, Long> offsets(
            Admin admin, TopicDescription description, OffsetSpec spec, IsolationLevel isolation) throws Exception {
        var specs = new HashMap<TopicPartition, OffsetSpec>();
        for (var info : description.partitions()) {
            if (info.leader() != null) {
                specs.put(new TopicPartition(description.name(), info.partition()), spec);
            }
        }
        var offsets = new HashMap<Integer, Long>();
        var listed = admin.listOffsets(specs, new ListOffsetsOptions(isolation)).all().get();
        listed.forEach((partition, info) -> offsets.put(partition.partition(), info.offset()));
        return offsets;
    }

    private static boolean ready(Admin admin, String topic, int count) throws Exception {
        var description = describe(admin, topic);
        // ListOffsets waits until the leaders know that they lead.
        return description.partitions().size() == count
                && offsets(admin, description, OffsetSpec.latest(), IsolationLevel.READ_UNCOMMITTED).size() == count;
    }

    private static void until(String what, String topic, Callable<Boolean> condition) throws Exception {
        var deadline = System.nanoTime() + VISIBLE_WITHIN_MS * 1_000_000;
        ExecutionException last = null;
        while (System.nanoTime() < deadline) {
            try {
                if (condition.call()) {
                    return;
                }
            } catch (ExecutionException e) {
                last = e; // a broker that does not know the topic yet answers that there is none
            }
            Thread.sleep(10);
        }
        throw new TimeoutException(
                "no broker showed within " + VISIBLE_WITHIN_MS + " ms that " + topic + " " + what, last);
    }
}
