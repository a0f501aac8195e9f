package oracle;

import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.BufferedReader;
import java.io.BufferedWriter;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.OutputStreamWriter;
import java.io.UncheckedIOException;
import java.nio.charset.StandardCharsets;
import java.util.List;
import java.util.Properties;
import java.util.concurrent.CompletionException;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import org.apache.kafka.clients.producer.internals.BuiltInPartitioner;
import org.apache.kafka.common.utils.Utils;

/**
 * Kafka's own Java client, for tests in another language. It reads one command per line from stdin, and writes the
 * answer to stdout, one JSON object per line. Every answer is one line, except that of dump, which ends with
 * {"done":true,...}. A failure is {"error":"...","class":"..."} and ends the answer.
 *
 * <p>Keys, values and header names are base64; "-" stands for null and "=" for no bytes at all.
 */
public final class Oracle {
    private static final String COMMANDS =
            """
            partition <count> <key>
            topics <bootstrap>
            groups <bootstrap>
            create <bootstrap> <topic> <partitions> <replication factor> <name=value,...|->
            delete <bootstrap> <topic>
            add-partitions <bootstrap> <topic> <new count>
            config <bootstrap> <topic> <name=value,...>
            describe <bootstrap> <topic>
            leaders <bootstrap> <topic>
            delete-records <bootstrap> <topic> <partition> <before offset>
            dump <bootstrap> <topic> <read_committed|read_uncommitted>
            produce <bootstrap> <topic> <partition|- for the client's choice> <key> <value> [<name>:<value> ...]
            acl <bootstrap> <allow|forbid> <topic> <user> <operation,...>
            quota <bootstrap> <client id> <name of the quota> <bound>
            txn-begin <bootstrap> <transactional.id> [<timeout ms>]
            txn-send <transactional.id> <topic> <partition> <key> <value>
            txn-commit <transactional.id>
            txn-abort <transactional.id>
            exit
            """;

    /** How long commands that were read may run after the end of stdin. */
    private static final long DRAIN_SECONDS = 10;

    static final ObjectMapper JSON = new ObjectMapper();

    private final BufferedWriter out;
    private final Transactions transactions = new Transactions();

    private Oracle(BufferedWriter out) {
        this.out = out;
    }

    public static void main(String[] args) throws Exception {
        var out = new BufferedWriter(new OutputStreamWriter(System.out, StandardCharsets.UTF_8));
        System.setOut(System.err); // whatever a library prints must not look like an answer
        var lines = new LinkedBlockingQueue<String>();
        var oracle = new Oracle(out);
        var worker = new Thread(() -> oracle.serve(lines), "commands");
        worker.setDaemon(true);
        worker.start();

        var in = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        for (String line; (line = in.readLine()) != null; ) {
            lines.add(line);
        }
        // The parent has ended. A command that waits for a broker must not keep this process running.
        lines.add("exit");
        worker.join(TimeUnit.SECONDS.toMillis(DRAIN_SECONDS));
        System.exit(0);
    }

    private void serve(LinkedBlockingQueue<String> lines) {
        try {
            while (true) {
                var words = List.of(lines.take().trim().split(" +"));
                if (words.get(0).equals("exit")) {
                    System.exit(0); // in order, so that native libraries are removed from the temporary directory
                }
                try {
                    answer(words.get(0), words.subList(1, words.size()));
                } catch (Exception | LinkageError | OutOfMemoryError e) {
                    say(failure(e));
                }
                out.flush();
            }
        } catch (IOException | InterruptedException e) {
            // The other side is gone, so there is nowhere to answer.
        }
    }

    private void answer(String command, List<String> args) throws Exception {
        switch (command) {
            case "partition" -> say(partition(arg(args, 0), arg(args, 1)));
            case "topics" -> say(Topics.list(arg(args, 0)));
            case "groups" -> say(Topics.groups(arg(args, 0)));
            case "create" -> say(
                    Topics.create(arg(args, 0), arg(args, 1), number(args, 2), (short) number(args, 3), arg(args, 4)));
            case "delete" -> say(Topics.delete(arg(args, 0), arg(args, 1)));
            case "add-partitions" -> say(Topics.addPartitions(arg(args, 0), arg(args, 1), number(args, 2)));
            case "config" -> say(Topics.configure(arg(args, 0), arg(args, 1), arg(args, 2)));
            case "describe" -> say(Topics.describe(arg(args, 0), arg(args, 1)));
            case "leaders" -> say(Topics.leaders(arg(args, 0), arg(args, 1)));
            case "delete-records" -> say(
                    Topics.deleteRecords(arg(args, 0), arg(args, 1), number(args, 2), Long.parseLong(arg(args, 3))));
            case "dump" -> Records.dump(arg(args, 0), arg(args, 1), arg(args, 2), this::say);
            case "produce" -> say(
                    Records.produce(
                            arg(args, 0),
                            arg(args, 1),
                            arg(args, 2),
                            arg(args, 3),
                            arg(args, 4),
                            args.subList(5, args.size())));
            case "acl" -> say(
                    Acls.change(arg(args, 0), arg(args, 1), arg(args, 2), arg(args, 3), arg(args, 4)));
            case "quota" -> say(
                    Quotas.set(arg(args, 0), arg(args, 1), arg(args, 2), Double.parseDouble(arg(args, 3))));
            case "txn-begin" -> say(
                    transactions.begin(arg(args, 0), arg(args, 1), args.size() > 2 ? number(args, 2) : 600_000));
            case "txn-send" -> say(
                    transactions.send(arg(args, 0), arg(args, 1), number(args, 2), arg(args, 3), arg(args, 4)));
            case "txn-commit" -> say(transactions.commit(arg(args, 0)));
            case "txn-abort" -> say(transactions.abort(arg(args, 0)));
            default -> throw new IllegalArgumentException(
                    "no command '" + command + "'; there are: " + COMMANDS.replace("\n", "; "));
        }
    }

    private static ObjectNode partition(String count, String key) {
        var bytes = Codec.decode(key);
        if (bytes == null) {
            throw new IllegalArgumentException("a null key has no partition of its own");
        }
        return JSON.createObjectNode()
                .put("partition", BuiltInPartitioner.partitionForKey(bytes, Integer.parseInt(count)))
                .put("murmur2", Utils.murmur2(bytes));
    }

    private static String arg(List<String> args, int index) {
        if (index >= args.size()) {
            throw new IllegalArgumentException(
                    "too few arguments (" + args.size() + "); there are: " + COMMANDS.replace("\n", "; "));
        }
        return args.get(index);
    }

    private static int number(List<String> args, int index) {
        return Integer.parseInt(arg(args, index));
    }

    private void say(ObjectNode line) {
        try {
            out.write(JSON.writeValueAsString(line));
            out.write('\n');
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
    }

    private static ObjectNode failure(Throwable e) {
        while ((e instanceof ExecutionException || e instanceof CompletionException) && e.getCause() != null) {
            e = e.getCause();
        }
        var message = e.getMessage() == null ? "" : ": " + e.getMessage();
        return JSON.createObjectNode()
                .put("error", e.getClass().getSimpleName() + message)
                .put("class", e.getClass().getSimpleName());
    }

    /** {"ok":true}, for commands without a result. */
    static ObjectNode ok() {
        return JSON.createObjectNode().put("ok", true);
    }

    /** Cluster settings that every client here shares: a test must see within its time limit that a broker is dead. */
    static Properties client(String bootstrap, String... more) {
        var properties = new Properties();
        properties.put("bootstrap.servers", bootstrap);
        properties.put("request.timeout.ms", "10000");
        properties.put("retry.backoff.ms", "20");
        properties.put("reconnect.backoff.max.ms", "200");
        for (int i = 0; i + 1 < more.length; i += 2) {
            properties.put(more[i], more[i + 1]);
        }
        return properties;
    }
}
