import io.confluent.parallelconsumer.ParallelConsumerOptions;
import io.confluent.parallelconsumer.ParallelConsumerOptions.CommitMode;
import io.confluent.parallelconsumer.ParallelConsumerOptions.ProcessingOrder;
import io.confluent.parallelconsumer.ParallelStreamProcessor;
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.List;
import java.util.Properties;
import java.util.concurrent.ConcurrentLinkedQueue;
import java.util.concurrent.atomic.AtomicIntegerArray;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.locks.LockSupport;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.common.serialization.StringDeserializer;

/**
 * Confluent's parallel-consumer, ordered by key. The talk with the runner is that of harness.py; arguments are
 * bootstrap servers, topic, group, records, concurrency, log file, milliseconds
 * between commits, and how many records to buffer (0: its own choice).
 */
public final class ParallelConsumerContestant {
    private static final ConcurrentLinkedQueue<long[]> LOG = new ConcurrentLinkedQueue<>();

    public static void main(String[] args) throws Exception {
        int records = Integer.parseInt(args[3]);
        AtomicIntegerArray seen = new AtomicIntegerArray(records);
        AtomicInteger unseen = new AtomicInteger(records);
        BufferedReader runner = new BufferedReader(new InputStreamReader(System.in));
        System.out.println("READY");
        if (!"GO".equals(runner.readLine())) {
            System.exit(1);
        }
        Properties properties = new Properties();
        properties.put("bootstrap.servers", args[0]);
        properties.put("group.id", args[2]);
        properties.put("enable.auto.commit", "false");
        properties.put("auto.offset.reset", "earliest");
        // As text: its shards compare keys with equals(), which byte arrays do not have.
        properties.put("key.deserializer", StringDeserializer.class.getName());
        properties.put("value.deserializer", StringDeserializer.class.getName());
        var options = ParallelConsumerOptions.<String, String>builder()
            .consumer(new KafkaConsumer<>(properties))
            .ordering(ProcessingOrder.KEY)
            .commitMode(CommitMode.PERIODIC_CONSUMER_ASYNCHRONOUS)
            .commitInterval(Duration.ofMillis(Long.parseLong(args[6])))
            .maxConcurrency(Integer.parseInt(args[4]));
        if (!"0".equals(args[7])) {
            options.messageBufferSize(Integer.parseInt(args[7]));
        }
        ParallelStreamProcessor<String, String> processor =
            ParallelStreamProcessor.createEosStreamProcessor(options.build());
        processor.subscribe(List.of(args[1]));
        processor.poll(context -> {
            int index = handle(context.getSingleConsumerRecord().value());
            if (seen.getAndSet(index, 1) == 0 && unseen.decrementAndGet() == 0) {
                System.out.println("HANDLED");
            }
        });
        runner.readLine();
        // Everything is committed; closing in good order takes it seconds, and is not measured.
        write(Path.of(args[5]));
        System.exit(0);
    }

    private static int handle(String value) {
        int first = value.indexOf(' ');
        int second = value.indexOf(' ', first + 1);
        int index = Integer.parseInt(value.substring(0, first));
        long nanos = Long.parseLong(value.substring(first + 1, second)) * 1000;
        long started = System.nanoTime();
        for (long left = nanos; left > 0; left = started + nanos - System.nanoTime()) {
            LockSupport.parkNanos(left);
        }
        LOG.add(new long[] {index, started, System.nanoTime()});
        return index;
    }

    private static void write(Path path) throws Exception {
        ByteBuffer buffer = ByteBuffer.allocate(LOG.size() * 3 * Long.BYTES).order(ByteOrder.nativeOrder());
        for (long[] entry : LOG) {
            for (long each : entry) {
                buffer.putLong(each);
            }
        }
        Files.write(path, buffer.array());
    }
}
