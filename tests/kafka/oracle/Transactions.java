package oracle;

import com.fasterxml.jackson.databind.node.ObjectNode;
import java.time.Duration;
import java.util.HashMap;
import java.util.Map;
import org.apache.kafka.clients.producer.Producer;
import org.apache.kafka.clients.producer.ProducerRecord;

/** Transactions that stay open between commands, so that a test can hold a last stable offset. */
final class Transactions {
    private final Map<String, Producer<byte[], byte[]>> open = new HashMap<>();

    ObjectNode begin(String bootstrap, String id, int timeoutMs) {
        if (open.containsKey(id)) {
            throw new IllegalStateException("transaction " + id + " is open already");
        }
        var producer = Records.producer(
                bootstrap, "transactional.id", id, "transaction.timeout.ms", Integer.toString(timeoutMs));
        try {
            producer.initTransactions();
            producer.beginTransaction();
        } catch (RuntimeException e) {
            producer.close(Duration.ZERO);
            throw e;
        }
        open.put(id, producer);
        return Oracle.ok();
    }

    ObjectNode send(String id, String topic, int partition, String key, String value) throws Exception {
        var record = new ProducerRecord<>(topic, partition, Codec.decode(key), Codec.decode(value));
        return Records.send(producer(id), record);
    }

    ObjectNode commit(String id) {
        producer(id).commitTransaction();
        open.remove(id).close(Duration.ZERO);
        return Oracle.ok();
    }

    /** Also ends a transaction that failed: its producer is closed in any case. */
    ObjectNode abort(String id) {
        try {
            producer(id).abortTransaction();
        } finally {
            var producer = open.remove(id);
            if (producer != null) {
                producer.close(Duration.ZERO);
            }
        }
        return Oracle.ok();
    }

    private Producer<byte[], byte[]> producer(String id) {
        var producer = open.get(id);
        if (producer == null) {
            throw new IllegalStateException("transaction " + id + " is not open; open are " + open.keySet());
        }
        return producer;
    }
}
