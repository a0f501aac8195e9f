package oracle;

import com.fasterxml.jackson.databind.node.ObjectNode;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import java.util.function.Consumer;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.Producer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.TimeoutException;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.header.internals.RecordHeader;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/** Reading and writing records as a plain Java client does. */
final class Records {
    /** A read without progress fails after this time. */
    private static final long STALLED_AFTER_MS = 15_000;

    private Records() {}

    /**
     * Every record from the beginning to the end of each partition. For read_committed the end is the last stable
     * offset.
     */
    static void dump(String bootstrap, String topic, String isolation, Consumer<ObjectNode> say) throws Exception {
        List<TopicPartition> partitions;
        try (var admin = Topics.admin(bootstrap)) { // a consumer would wait for a topic that does not exist
            partitions = Topics.describe(admin, topic).partitions().stream()
                    .map(info -> new TopicPartition(topic, info.partition()))
                    .toList();
        }
        var properties = Oracle.client(
                bootstrap,
                "isolation.level", isolation.toLowerCase(Locale.ROOT),
                "default.api.timeout.ms", "15000",
                "enable.auto.commit", "false",
                "auto.offset.reset", "none",
                "allow.auto.create.topics", "false",
                "fetch.max.wait.ms", "50");
        var deserializer = new ByteArrayDeserializer();
        try (var consumer = new KafkaConsumer<>(properties, deserializer, deserializer)) {
            var begin = consumer.beginningOffsets(partitions);
            var end = consumer.endOffsets(partitions);
            consumer.assign(partitions);
            begin.forEach(consumer::seek);

            var records = 0L;
            var behind = new ArrayList<>(partitions);
            var position = 0L;
            var moved = System.nanoTime();
            while (true) {
                behind.removeIf(partition -> consumer.position(partition) >= end.get(partition));
                if (behind.isEmpty()) {
                    break;
                }
                for (var record : consumer.poll(Duration.ofMillis(200))) {
                    if (record.offset() < end.get(new TopicPartition(topic, record.partition()))) {
                        say.accept(line(record));
                        records++;
                    }
                }
                var now = partitions.stream().mapToLong(consumer::position).sum();
                if (now != position) {
                    position = now;
                    moved = System.nanoTime();
                } else if (System.nanoTime() - moved > STALLED_AFTER_MS * 1_000_000) {
                    throw new TimeoutException(
                            "no progress for " + STALLED_AFTER_MS + " ms, short of the end of " + behind);
                }
            }

            var done = Oracle.JSON.createObjectNode().put("done", true).put("records", records);
            var ranges = done.putArray("partitions");
            for (var partition : partitions) {
                ranges.addObject()
                        .put("partition", partition.partition())
                        .put("begin", begin.get(partition))
                        .put("end", end.get(partition));
            }
            say.accept(done);
        }
    }

    static ObjectNode produce(
            String bootstrap, String topic, String partition, String key, String value, List<String> headers)
            throws Exception {
        // Idempotence off: sequence numbers must not disturb a test that deletes a topic and creates it again.
        try (var producer = producer(bootstrap, "enable.idempotence", "false")) {
            var list = new ArrayList<Header>();
            for (var header : headers) {
                var colon = header.indexOf(':');
                if (colon < 0) {
                    throw new IllegalArgumentException("expected a header as <name>:<value>, got '" + header + "'");
                }
                var name = Codec.decode(header.substring(0, colon));
                list.add(new RecordHeader(
                        new String(name, StandardCharsets.UTF_8),
                        Codec.decode(header.substring(colon + 1))));
            }
            var where = partition.equals("-") ? null : Integer.valueOf(partition);
            return send(
                    producer, new ProducerRecord<>(topic, where, Codec.decode(key), Codec.decode(value), list));
        }
    }

    static Producer<byte[], byte[]> producer(String bootstrap, String... more) {
        var properties = Oracle.client(bootstrap, more);
        properties.put("acks", "all");
        properties.put("linger.ms", "0");
        properties.put("max.block.ms", "15000");
        properties.put("delivery.timeout.ms", "15000");
        return new KafkaProducer<>(properties, new ByteArraySerializer(), new ByteArraySerializer());
    }

    /** Returns when the record is in the log. */
    static ObjectNode send(Producer<byte[], byte[]> producer, ProducerRecord<byte[], byte[]> record) throws Exception {
        var metadata = producer.send(record).get();
        return Oracle.JSON.createObjectNode()
                .put("partition", metadata.partition())
                .put("offset", metadata.offset())
                .put("timestamp", metadata.timestamp());
    }

    private static ObjectNode line(ConsumerRecord<byte[], byte[]> record) {
        var line = Oracle.JSON.createObjectNode()
                .put("partition", record.partition())
                .put("offset", record.offset())
                .put("timestamp", record.timestamp())
                .put("key", Codec.encode(record.key()))
                .put("value", Codec.encode(record.value()));
        var headers = line.putArray("headers");
        for (var header : record.headers()) {
            headers.addArray().add(header.key()).add(Codec.encode(header.value()));
        }
        return line;
    }
}
