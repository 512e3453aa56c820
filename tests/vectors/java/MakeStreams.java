import static java.nio.charset.StandardCharsets.UTF_8;

import com.fasterxml.jackson.annotation.JsonInclude;
import com.fasterxml.jackson.annotation.JsonPropertyOrder;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.github.sstone.amqp.proxy.gpbtest.Gpbtest;
import com.rabbitmq.client.AMQP.BasicProperties;
import java.io.ByteArrayOutputStream;
import java.io.DataOutputStream;
import java.io.IOException;
import java.nio.file.Path;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import org.apache.thrift.TSerializer;
import org.xerial.snappy.Snappy;

/** Writes streams.json: all messages of the wire format that are more than a request and its reply. */
final class MakeStreams {
    private static final String CALLER = "amqproxy.vectors.replies";
    private static final String WORKER = "amqproxy.vectors.worker";
    private static final String POOL = "amqproxy.numbers";
    private static final String QUEUE = "numbers";
    private static final String NAME = "host.4711.1";
    private static final String PACKAGE = "com.github.sstone.amqp.proxy.";

    private static final String JACKSON = "jackson-databind 2.20.0";
    private static final byte[] NOTHING = new byte[0];

    private final ObjectMapper json = new ObjectMapper();
    private final Manifest manifest;

    MakeStreams(Path directory) throws IOException {
        manifest = new Manifest(directory, "streams.json");
    }

    void make() throws Exception {
        stream();
        failingStream();
        feed();
        chunks();
        itemsInOtherEncodings();
        signsOfLife();
        broadcast();
        ping();
        oneWay();
        manyCalls();
        nonsense();
        manifest.save();
    }

    // Who sends what to whom

    private static BasicProperties.Builder message(String type, String id) {
        return new BasicProperties.Builder().contentType(type).correlationId(id).deliveryMode(1);
    }

    /** Headers, in this order. */
    private static Map<String, Object> headers(Object... namesAndValues) {
        Map<String, Object> headers = new LinkedHashMap<>();
        for (int i = 0; i < namesAndValues.length; i += 2) {
            headers.put((String) namesAndValues[i], namesAndValues[i + 1]);
        }
        return headers;
    }

    private Manifest.Vector byCaller(String name, String kind, String exchange, String key, BasicProperties properties,
                                     byte[] body) {
        return manifest.vector(name, kind, body.length == 0 ? "" : JACKSON, properties, body)
                .with("from", "caller").with("exchange", exchange).with("routing-key", key).with("mandatory", true);
    }

    private Manifest.Vector byWorker(String name, String kind, BasicProperties properties, byte[] body) {
        return manifest.vector(name, kind, body.length == 0 ? "" : JACKSON, properties, body)
                .with("from", "worker").with("exchange", "").with("routing-key", CALLER).with("mandatory", true);
    }

    private void request(String name, String method, String id, Map<String, Object> headers, Object parameters)
            throws IOException {
        BasicProperties properties = message("numbers." + method, id).contentEncoding("json").replyTo(CALLER)
                .headers(headers).build();
        byCaller(name, "request", "", QUEUE, properties, json.writeValueAsBytes(parameters))
                .means(parameters, true).add();
    }

    private void reply(String name, String method, String id, Object result) throws IOException {
        BasicProperties properties = message("numbers." + method + ".Reply", id).contentEncoding("json").build();
        byWorker(name, "reply", properties, json.writeValueAsBytes(result)).means(result, true).add();
    }

    private void items(String name, String id, long first, Integer... items) throws IOException {
        Object value = items.length == 1 ? items[0] : items;
        byWorker(name, "items", item("numbers.count.Reply", "json", id, WORKER, first, items.length),
                json.writeValueAsBytes(value)).means(items, true).add();
    }

    /** A number of an item has 64 bits, and how many there are has 32: others may write them otherwise. */
    private static BasicProperties item(String type, String encoding, String id, String replyTo, long first, int items) {
        Map<String, Object> headers = items == 1 ? headers("x-seq", first) : headers("x-seq", first, "x-batch", items);
        return message(type, id).contentEncoding(encoding).replyTo(replyTo).headers(headers).build();
    }

    private static BasicProperties end(String type, String encoding, String id, String replyTo, long items) {
        return message(type, id).contentEncoding(encoding).replyTo(replyTo)
                .headers(headers("x-seq", items, "x-end", true)).build();
    }

    private void credit(String name, String id, int items) throws IOException {
        byCaller(name, "credit", "", WORKER, message("amqproxy.Credit", id).replyTo(CALLER).build(),
                json.writeValueAsBytes(items)).means(items, true).add();
    }

    private static BasicProperties cancel(String id) {
        return message("amqproxy.Cancel", id).replyTo(CALLER).headers(headers("x-timeout-ms", 30000)).build();
    }

    // The calls, each of which has a correlation id of its own

    private record To(int to) { }

    private void stream() throws Exception {
        request("stream-request", "count", "17", headers("x-stream-credit", 4, "x-batch", 2), new To(5));
        items("stream-items-0-1", "17", 0, 0, 1);
        items("stream-items-2-3", "17", 2, 2, 3);
        credit("stream-credit", "17", 2);
        items("stream-item-4", "17", 4, 4);
        byWorker("stream-end", "end", end("numbers.count.Reply", "json", "17", WORKER, 5), NOTHING).add();
        credit("stream-credit-of-nothing", "17", 0);
        byCaller("cancel-to-the-worker", "cancel", "", WORKER, cancel("17"), NOTHING).add();
        byCaller("cancel-to-the-pool", "cancel", POOL, "", cancel("17"), NOTHING).add();
        request("stream-request-without-credit", "count", "16", headers("x-timeout-ms", 30000), new To(5));
        reply("stream-in-one-reply", "count", "16", List.of(0, 1, 2, 3, 4));
    }

    private record Failure(String message, String throwableAsString, Detail error) { }

    private record Detail(
            String code, String type, boolean retryable, Object details, Object traceback, String executed) { }

    private static final Failure OVERTAXED = new Failure("a negative number", "ValueError: a negative number",
            new Detail("unknown", "ValueError", false, null, null, "yes"));

    private static final Failure DIVIDED = new Failure("division by zero", "ZeroDivisionError: division by zero",
            new Detail("unknown", "ZeroDivisionError", false, null, null, "yes"));

    private BasicProperties.Builder failure(String id) {
        return message(PACKAGE + "AmqpProxy$ServerFailure", id).contentEncoding("json");
    }

    private void failingStream() throws Exception {
        request("failing-stream-request", "count", "23", headers("x-stream-credit", 1), new To(-1));
        byWorker("failing-stream-failure", "failure", failure("23").build(), json.writeValueAsBytes(OVERTAXED))
                .means(OVERTAXED, true).add();
    }

    private void feed() throws Exception {
        request("feed-request", "total", "18", headers("x-feed", true), Map.of());
        byWorker("feed-credit", "credit", message("amqproxy.Credit", "18").replyTo(WORKER).build(),
                json.writeValueAsBytes(256)).means(256, true).add();
        byCaller("feed-items", "items", "", WORKER, item("numbers.total", "json", "18", CALLER, 0, 2),
                json.writeValueAsBytes(List.of(3, 4))).means(List.of(3, 4), true).add();
        byCaller("feed-end", "end", "", WORKER, end("numbers.total", "json", "18", CALLER, 2), NOTHING).add();
        reply("feed-reply", "total", "18", 7);
    }

    /** Bytes mean themselves, and so have no value here. */
    private void chunks() throws Exception {
        request("blob-request", "file", "19", headers("x-stream-credit", 32), Map.of());
        byte[] all = new byte[256];
        for (int i = 0; i < all.length; i++) {
            all[i] = (byte) i;
        }
        byWorker("blob-chunk", "items", item("amqproxy.Chunk", null, "19", WORKER, 0, 1), all).add();
        byWorker("blob-end", "end", end("amqproxy.Chunk", null, "19", WORKER, 1), NOTHING).add();
    }

    @JsonInclude(JsonInclude.Include.NON_NULL)
    @JsonPropertyOrder({"id", "name", "email"})
    private record Person(int id, String name, String email) { }

    private void itemsInOtherEncodings() throws Exception {
        List<Person> people = List.of(new Person(1, "Ada", "ada@example.org"), new Person(2, "Zoë", null));
        ByteArrayOutputStream protobuf = new ByteArrayOutputStream();
        ByteArrayOutputStream thrift = new ByteArrayOutputStream();
        for (Person each : people) {
            Gpbtest.Person.Builder message = Gpbtest.Person.newBuilder().setId(each.id).setName(each.name);
            var struct = new com.github.sstone.amqp.proxy.thrifttest.Person(each.id, each.name);
            if (each.email != null) {
                message.setEmail(each.email);
                struct.setEmail(each.email);
            }
            behindItsLength(message.build().toByteArray(), protobuf);
            behindItsLength(new TSerializer().serialize(struct), thrift);
        }
        Integer[] numbers = {0, 1, 2, 3};
        items("protobuf", "protobuf-java 3.21.12", PACKAGE + "gpbtest.Gpbtest$Person", people, protobuf.toByteArray(), true);
        items("thrift", "libthrift 0.17.0", PACKAGE + "thrifttest.Person", people, thrift.toByteArray(), true);
        items("snappy-protobuf", "protobuf-java 3.21.12, snappy-java 1.1.10.8", PACKAGE + "gpbtest.Gpbtest$Person", people,
                Snappy.compress(protobuf.toByteArray()), false);
        items("snappy-json", JACKSON + ", snappy-java 1.1.10.8", "numbers.count.Reply", List.of(numbers),
                Snappy.compress(json.writeValueAsBytes(numbers)), false);
    }

    private static void behindItsLength(byte[] item, ByteArrayOutputStream body) throws IOException {
        DataOutputStream data = new DataOutputStream(body);
        data.writeInt(item.length);
        data.write(item);
    }

    private void items(String encoding, String origin, String type, List<?> value, byte[] body, boolean exact)
            throws IOException {
        BasicProperties properties = item(type, encoding, "24", WORKER, 0, value.size());
        manifest.vector("stream-items-" + encoding, "items", origin, properties, body)
                .with("from", "worker").with("exchange", "").with("routing-key", CALLER).with("mandatory", true)
                .means(value, exact).add();
    }

    private void signsOfLife() throws Exception {
        request("heartbeat-request", "train", "20", headers("x-timeout-ms", 600000, "x-heartbeat-ms", 1000), Map.of());
        BasicProperties alive = message("amqproxy.Alive", "20").replyTo(WORKER).build();
        byWorker("alive", "alive", alive, NOTHING).add();
        Map<String, Object> progress = headers("done", 3, "total", 10, "note", "fitting");
        byWorker("alive-with-progress", "alive", alive, json.writeValueAsBytes(progress)).means(progress, true).add();
        Map<String, Object> part = headers("done", 0.5);
        byWorker("alive-with-some-progress", "alive", alive, json.writeValueAsBytes(part)).means(part, true).add();
        reply("heartbeat-reply", "train", "20", "trained");
    }

    private void broadcast() throws Exception {
        BasicProperties properties = message("numbers.who", "21").contentEncoding("json").replyTo(CALLER)
                .headers(headers("x-timeout-ms", 5000)).build();
        byCaller("broadcast-request", "request", POOL, "", properties, "{}".getBytes(UTF_8))
                .means(Map.of(), true).add();
        Map<String, Object> headers = headers("x-worker", NAME);
        byWorker("broadcast-answer", "answer",
                message("numbers.who.Reply", "21").contentEncoding("json").headers(headers).build(),
                json.writeValueAsBytes(NAME)).means(NAME, true).add();
        byWorker("broadcast-failure", "failure", failure("21").headers(headers).build(),
                json.writeValueAsBytes(OVERTAXED)).means(OVERTAXED, true).add();
    }

    private void ping() throws Exception {
        byCaller("ping", "ping", POOL, "", message("amqproxy.Ping", "22").replyTo(CALLER).build(), NOTHING).add();
        Map<String, Object> told = headers("service", "numbers", "running", 3, "answered", 1742, "busy", true);
        byWorker("pong", "pong", message("amqproxy.Ping", "22").contentEncoding("json")
                .headers(headers("x-worker", NAME)).build(), json.writeValueAsBytes(told)).means(told, true).add();
    }

    @JsonPropertyOrder({"x", "y"})
    private record Pair(int x, int y) { }

    /** Three calls in one message, of which the second fails. */
    private void manyCalls() throws Exception {
        List<Pair> pairs = List.of(new Pair(6, 3), new Pair(1, 0), new Pair(3, 2));
        BasicProperties properties = message("numbers.divide", "26").contentEncoding("json").replyTo(CALLER)
                .headers(headers("x-batch", 3, "x-timeout-ms", 30000)).build();
        byCaller("batch-request", "batch", "", QUEUE, properties, json.writeValueAsBytes(pairs)).means(pairs, true).add();
        answers("batch-answer-to-the-first", 0, List.of(2.0));
        byWorker("batch-failure-of-the-second", "failure", failure("26").headers(headers("x-seq", 1L)).build(),
                json.writeValueAsBytes(DIVIDED)).means(DIVIDED, true).add();
        answers("batch-answer-to-the-third", 2, List.of(1.5));
        List<Pair> others = List.of(new Pair(6, 3), new Pair(3, 2));
        properties = message("numbers.divide", "27").contentEncoding("json").replyTo(CALLER)
                .headers(headers("x-batch", 2, "x-timeout-ms", 30000)).build();
        byCaller("batch-request-of-two", "batch", "", QUEUE, properties, json.writeValueAsBytes(others))
                .means(others, true).add();
        byWorker("batch-answers-together", "answers", message("numbers.divide.Reply", "27").contentEncoding("json")
                .headers(headers("x-seq", 0L, "x-batch", 2)).build(), json.writeValueAsBytes(List.of(2.0, 1.5)))
                .means(List.of(2.0, 1.5), true).add();
    }

    private void answers(String name, long first, List<Double> values) throws IOException {
        byWorker(name, "answers", message("numbers.divide.Reply", "26").contentEncoding("json")
                .headers(headers("x-seq", first)).build(), json.writeValueAsBytes(values.get(0))).means(values, true).add();
    }

    private record Text(String text) { }

    private void oneWay() throws Exception {
        BasicProperties properties = new BasicProperties.Builder().contentType("numbers.write").contentEncoding("json")
                .deliveryMode(2).messageId("fF3kVd9q-0000000001").build();
        Text hello = new Text("hello");
        byCaller("one-way", "one-way", "", QUEUE, properties, json.writeValueAsBytes(hello)).means(hello, true).add();
        byCaller("one-way-to-everyone", "one-way", POOL, "", properties.builder().deliveryMode(1).build(),
                json.writeValueAsBytes(hello)).means(hello, true).add();
        byCaller("one-way-delayed", "one-way", "", "amqproxy.delay.2000.numbers", properties,
                json.writeValueAsBytes(hello)).means(hello, true).add();
    }

    // What a worker refuses: the failure must bear the code

    private void nonsense() throws Exception {
        Map<String, Object> credits = headers("negative", -1, "text", "many", "fraction", 1.5);
        for (Map.Entry<String, Object> each : credits.entrySet()) {
            BasicProperties properties = message("numbers.count", "25").contentEncoding("json").replyTo(CALLER)
                    .headers(headers("x-stream-credit", each.getValue())).build();
            byCaller("refused-stream-credit-" + each.getKey(), "request", "", QUEUE, properties,
                    json.writeValueAsBytes(new To(5))).with("code", "invalid_argument").add();
        }
        for (int calls : new int[] {0, 1025}) {
            BasicProperties properties = message("numbers.divide", "25").contentEncoding("json").replyTo(CALLER)
                    .headers(headers("x-batch", calls)).build();
            byCaller("refused-batch-of-" + calls, "batch", "", QUEUE, properties, "[]".getBytes(UTF_8))
                    .with("code", "invalid_argument").add();
        }
        BasicProperties late = message("numbers.count", "25").contentEncoding("json").replyTo(CALLER)
                .headers(headers("x-timeout-ms", 0)).build();
        byCaller("refused-too-late", "request", "", QUEUE, late, json.writeValueAsBytes(new To(5)))
                .with("code", "deadline_exceeded").add();
        BasicProperties unfed = message("numbers.total", "25").contentEncoding("json").replyTo(CALLER).build();
        byCaller("refused-without-feed", "request", "", QUEUE, unfed, "{}".getBytes(UTF_8))
                .with("code", "invalid_argument").add();
        Map<String, String> bodies = new LinkedHashMap<>();
        bodies.put("negative", "-1");
        bodies.put("too-much", "2147483648");
        bodies.put("text", "\"many\"");
        bodies.put("nothing", "");
        bodies.put("nested", "[".repeat(5000));
        for (Map.Entry<String, String> each : bodies.entrySet()) {
            byCaller("refused-credit-" + each.getKey(), "credit", "", WORKER,
                    message("amqproxy.Credit", "17").replyTo(CALLER).build(), each.getValue().getBytes(UTF_8))
                    .with("origin", "by hand").with("code", "invalid_argument").add();
        }
        byCaller("refused-items-behind-a-gap", "items", "", WORKER, item("numbers.total", "json", "18", CALLER, 1, 1),
                json.writeValueAsBytes(3)).with("code", "invalid_argument").add();
        byCaller("refused-items-of-another-type", "items", "", WORKER, item("numbers.total", "json", "18", CALLER, 0, 1),
                json.writeValueAsBytes("three")).with("code", "invalid_argument").add();
        byCaller("refused-items-fewer-than-said", "items", "", WORKER, item("numbers.total", "json", "18", CALLER, 0, 3),
                json.writeValueAsBytes(List.of(3, 4))).with("code", "invalid_argument").add();
    }
}
