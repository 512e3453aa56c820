import static java.nio.charset.StandardCharsets.UTF_8;

import com.fasterxml.jackson.annotation.JsonInclude;
import com.fasterxml.jackson.annotation.JsonPropertyOrder;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.github.luben.zstd.Zstd;
import com.github.sstone.amqp.proxy.calculator.Calculator;
import com.github.sstone.amqp.proxy.gpbtest.Gpbtest;
import com.google.protobuf.MessageLite;
import com.rabbitmq.client.AMQP.BasicProperties;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.Date;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.zip.GZIPOutputStream;
import net.jpountz.lz4.LZ4FrameOutputStream;
import org.apache.thrift.TBase;
import org.apache.thrift.TException;
import org.apache.thrift.TSerializer;
import org.apache.thrift.protocol.TCompactProtocol;
import org.xerial.snappy.Snappy;

/**
 * Writes the golden vectors of the wire format: messages as Java's own libraries make them, none of ours.
 *
 * Usage: MakeVectors DIRECTORY
 */
public final class MakeVectors {
    private static final String REPLY_TO = "amqproxy.vectors.replies";
    private static final String ID = "6f9619ff-8b86-d011-b42d-00c04fc964ff";
    private static final String PACKAGE = "com.github.sstone.amqp.proxy.";
    private static final String DEMO = PACKAGE + "Demo$";
    private static final String PROTOBUF = PACKAGE + "calculator.Calculator$";
    private static final String THRIFT = PACKAGE + "calculator.";
    private static final String FAILURE = PACKAGE + "AmqpProxy$ServerFailure";

    private static final String JACKSON = "jackson-databind 2.20.0";
    private static final String PROTOBUF_JAVA = "protobuf-java 3.21.12";
    private static final String LIBTHRIFT = "libthrift 0.17.0";
    private static final String SNAPPY = "snappy-java 1.1.10.8";

    private static final String LONG_EMAIL = "long.".repeat(80) + "address@example.org";

    private final ObjectMapper json = new ObjectMapper();
    private final Manifest manifest;

    private MakeVectors(Path directory) throws IOException {
        manifest = new Manifest(directory, "vectors.json");
    }

    public static void main(String[] args) throws Exception {
        MakeVectors maker = new MakeVectors(Path.of(args[0]));
        maker.properties();
        maker.plainParameters();
        maker.messages();
        maker.failures();
        maker.refusals();
        maker.manifest.save();
        new MakeStreams(Path.of(args[0])).make();
    }

    private static BasicProperties.Builder request(String type, String encoding) {
        return new BasicProperties.Builder()
                .contentType(type).contentEncoding(encoding).correlationId(ID).replyTo(REPLY_TO);
    }

    private static BasicProperties reply(String type, String encoding) {
        return new BasicProperties.Builder()
                .contentType(type).contentEncoding(encoding).deliveryMode(1).correlationId(ID).build();
    }

    private void call(String name, String origin, String encoding, Content request, Content reply) throws Exception {
        manifest.vector(name + "-request", "request", origin, request(request.type, encoding).build(), request.body)
                .means(request.value, request.exact).with("answer", name + "-reply").add();
        manifest.vector(name + "-reply", "reply", origin, reply(reply.type, encoding), reply.body)
                .means(reply.value, reply.exact).add();
    }

    /** A body: its class, its meaning and its bytes. */
    private record Content(String type, Object value, byte[] body, boolean exact) {
        Content compressed(Compressor compressor) throws Exception {
            return new Content(type, value, compressor.compress(body), false);
        }

        Content as(String name) {
            return new Content(name, value, body, exact);
        }

        Content loose() {
            return new Content(type, value, body, false);
        }
    }

    private interface Compressor {
        byte[] compress(byte[] body) throws Exception;
    }

    // Requests that differ in their properties only

    private void properties() throws Exception {
        byte[] body = "{\"x\":1,\"y\":2}".getBytes(UTF_8);
        Map<String, Object> headers = new LinkedHashMap<>();
        headers.put("x-timeout-ms", 30000);
        headers.put("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01");
        Map<String, BasicProperties> cases = new LinkedHashMap<>();
        cases.put("full", request("calculator.add", "json").headers(headers).deliveryMode(1).priority(5)
                .expiration("30000").messageId("2f1c5a8e").timestamp(new Date(1700000000000L)).appId("vectors").build());
        cases.put("without-encoding", request("calculator.add", null).build());
        cases.put("with-empty-encoding", request("calculator.add", "").build());
        cases.put("with-message-id-alone", request("calculator.add", "json").correlationId(null).messageId(ID).build());
        for (Map.Entry<String, BasicProperties> each : cases.entrySet()) {
            manifest.vector("properties-" + each.getKey(), "request", JACKSON, each.getValue(), body)
                    .means(new Pair(1, 2), true).with("answer", "json-add-reply").add();
        }
        BasicProperties text = request("calculator.add", "json").correlationId("n° 1 – €").build();
        manifest.vector("properties-with-text-as-id", "request", JACKSON, text, body)
                .means(new Pair(1, 2), true).with("answer", "properties-with-text-as-id-reply").add();
        BasicProperties answer = new BasicProperties.Builder().contentType("calculator.add.Reply")
                .contentEncoding("json").deliveryMode(1).correlationId("n° 1 – €").build();
        manifest.vector("properties-with-text-as-id-reply", "reply", JACKSON, answer, "3".getBytes(UTF_8))
                .means(3, true).add();
        BasicProperties silent = request("calculator.add", "json").correlationId(null).replyTo(null).deliveryMode(2).build();
        manifest.vector("properties-one-way", "request", JACKSON, silent, body).means(new Pair(1, 2), true).add();
    }

    // Methods with plain parameters

    @JsonPropertyOrder({"x", "y"})
    private record Pair(int x, int y) { }

    private Content of(String type, Object value) throws Exception {
        return new Content(type, value, json.writeValueAsBytes(value), true);
    }

    private void plainParameters() throws Exception {
        Content three = of("calculator.add.Reply", 3);
        call("json-add", JACKSON, "json", of("calculator.add", new Pair(1, 2)), three);
        call("json-add-by-position", JACKSON, "json", of("calculator.add", List.of(1, 2)).loose(), three);
        Content spaced = of("calculator.add", new Pair(1, 2));
        spaced = new Content(spaced.type, spaced.value, " { \"y\" : 2 , \"x\" : 1 }\n".getBytes(UTF_8), false);
        call("json-add-with-spaces", "by hand", "json", spaced, three);
        call("json-add-negative", JACKSON, "json", of("calculator.add", new Pair(Integer.MIN_VALUE, -1)),
                of("calculator.add.Reply", Integer.MIN_VALUE - 1L));
        call("json-divide", JACKSON, "json", of("calculator.divide", new Pair(1, 3)),
                of("calculator.divide.Reply", 1.0 / 3));
        call("json-divide-whole", JACKSON, "json", of("calculator.divide", new Pair(6, 3)),
                of("calculator.divide.Reply", 2.0));
        // Java writes 2.0E7 where others write 20000000.0: the same number.
        call("json-divide-large", JACKSON, "json", of("calculator.divide", new Pair(40000000, 2)),
                of("calculator.divide.Reply", 2.0e7).loose());
        compressedJson("snappy-json", SNAPPY, Snappy::compress);
        compressedJson("zstd-json", "zstd-jni 1.5.7-4", Zstd::compress);
        compressedJson("gzip-json", "java.util.zip", MakeVectors::gzip);
        compressedJson("lz4-json", "lz4-java 1.10.1", MakeVectors::lz4);
        compressedJson("zstd-json", "the program zstd", body -> tool(body, "zstd", "--stdout"));
        compressedJson("gzip-json", "the program gzip", body -> tool(body, "gzip", "--stdout", "--no-name"));
        compressedJson("lz4-json", "the program lz4", body -> tool(body, "lz4", "-z", "-c"));
    }

    private void compressedJson(String encoding, String compressor, Compressor how) throws Exception {
        String name = compressor.startsWith("the program") ? encoding + "-by-program" : encoding;
        String origin = JACKSON + ", " + compressor;
        call(name + "-add", origin, encoding, of("calculator.add", new Pair(1, 2)).compressed(how),
                of("calculator.add.Reply", 3).compressed(how));
        Content person = person(new Person(7, "Grace", LONG_EMAIL)).compressed(how);
        call(name + "-person", origin, encoding, person, person);
    }

    private static byte[] gzip(byte[] body) throws IOException {
        ByteArrayOutputStream written = new ByteArrayOutputStream();
        try (GZIPOutputStream stream = new GZIPOutputStream(written)) {
            stream.write(body);
        }
        return written.toByteArray();
    }

    private static byte[] lz4(byte[] body) throws IOException {
        ByteArrayOutputStream written = new ByteArrayOutputStream();
        try (LZ4FrameOutputStream stream = new LZ4FrameOutputStream(written)) {
            stream.write(body);
        }
        return written.toByteArray();
    }

    /** What a program writes that reads the body from a pipe, and so does not know its size when it begins. */
    private static byte[] tool(byte[] body, String... command) throws Exception {
        Process process = new ProcessBuilder(command).redirectError(ProcessBuilder.Redirect.INHERIT).start();
        process.getOutputStream().write(body);
        process.getOutputStream().close();
        byte[] written = process.getInputStream().readAllBytes();
        if (process.waitFor() != 0) {
            throw new IOException(command[0] + " failed");
        }
        return written;
    }

    // Messages with a class of their own

    @JsonPropertyOrder({"x", "y", "sum"})
    private record Sum(int x, int y, int sum) { }

    @JsonInclude(JsonInclude.Include.NON_NULL)
    @JsonPropertyOrder({"id", "name", "email"})
    private record Person(int id, String name, String email) { }

    private record Quotient(double quotient) { }

    private Content person(Person person) throws Exception {
        Content content = of(DEMO + "Person", person);
        return person.email == null ? content.loose() : content;  // null says the same
    }

    private void messages() throws Exception {
        int[][] sums = {{1, 2}, {-7, 5}, {Integer.MAX_VALUE, Integer.MIN_VALUE}, {0, 0}, {127, 128}};
        String[] names = {"add", "add-negative", "add-extremes", "add-zero", "add-two-bytes"};
        for (int i = 0; i < sums.length; i++) {
            int x = sums[i][0];
            int y = sums[i][1];
            Pair pair = new Pair(x, y);
            Sum sum = new Sum(x, y, x + y);
            call("json-message-" + names[i], JACKSON, "json", of(DEMO + "AddRequest", pair), of(DEMO + "AddResponse", sum));
            inProtobuf(names[i],
                    pair, Calculator.AddRequest.newBuilder().setX(x).setY(y).build(), PROTOBUF + "AddRequest",
                    sum, Calculator.AddResponse.newBuilder().setX(x).setY(y).setSum(x + y).build(),
                    PROTOBUF + "AddResponse");
            inThrift(names[i],
                    pair, new com.github.sstone.amqp.proxy.calculator.AddRequest(x, y), THRIFT + "AddRequest",
                    sum, new com.github.sstone.amqp.proxy.calculator.AddResponse(x, y, x + y), THRIFT + "AddResponse");
        }
        Quotient third = new Quotient(-1.0 / 3);
        inProtobuf("divide",
                new Pair(-1, 3), Calculator.DivideRequest.newBuilder().setX(-1).setY(3).build(), PROTOBUF + "DivideRequest",
                third, Calculator.DivideResponse.newBuilder().setQuotient(third.quotient).build(),
                PROTOBUF + "DivideResponse");
        inThrift("divide",
                new Pair(-1, 3), new com.github.sstone.amqp.proxy.calculator.DivideRequest(-1, 3), THRIFT + "DivideRequest",
                third, new com.github.sstone.amqp.proxy.calculator.DivideResponse(third.quotient),
                THRIFT + "DivideResponse");
        people();
    }

    private void people() throws Exception {
        Map<String, Person> people = new LinkedHashMap<>();
        people.put("person", new Person(1, "Ada", "ada@example.org"));
        people.put("person-without-email", new Person(-2147483648, "Zoë Ångström 林 🧮", null));
        people.put("person-with-empty-email", new Person(0, "", ""));
        people.put("person-with-long-email", new Person(123456789, "Grace \"Amazing\" Hopper\n\t\\", LONG_EMAIL));
        for (Map.Entry<String, Person> each : people.entrySet()) {
            Person person = each.getValue();
            call("json-message-" + each.getKey(), JACKSON, "json", person(person), person(person));
            Gpbtest.Person.Builder message = Gpbtest.Person.newBuilder().setId(person.id).setName(person.name);
            com.github.sstone.amqp.proxy.thrifttest.Person struct =
                    new com.github.sstone.amqp.proxy.thrifttest.Person(person.id, person.name);
            if (person.email != null) {
                message.setEmail(person.email);
                struct.setEmail(person.email);
            }
            String type = PACKAGE + "gpbtest.Gpbtest$Person";
            inProtobuf(each.getKey(), person, message.build(), type, person, message.build(), type);
            type = PACKAGE + "thrifttest.Person";
            inThrift(each.getKey(), person, struct, type, person, struct, type);
        }
    }

    private void inProtobuf(String name, Object asked, MessageLite request, String requestType,
                            Object answered, MessageLite reply, String replyType) throws Exception {
        inBoth("protobuf", name, PROTOBUF_JAVA, new Content(requestType, asked, request.toByteArray(), true),
                new Content(replyType, answered, reply.toByteArray(), true));
    }

    private void inThrift(String name, Object asked, TBase<?, ?> request, String requestType,
                          Object answered, TBase<?, ?> reply, String replyType) throws Exception {
        TSerializer binary = new TSerializer();
        inBoth("thrift", name, LIBTHRIFT, new Content(requestType, asked, binary.serialize(request), true),
                new Content(replyType, answered, binary.serialize(reply), true));
        TSerializer compact = new TSerializer(new TCompactProtocol.Factory());
        call("thrift-compact-" + name, LIBTHRIFT, "thrift-compact",
                new Content(requestType, asked, compact.serialize(request), true),
                new Content(replyType, answered, compact.serialize(reply), true));
    }

    /** Plain, and in snappy. */
    private void inBoth(String encoding, String name, String origin, Content request, Content reply) throws Exception {
        call(encoding + "-" + name, origin, encoding, request, reply);
        call("snappy-" + encoding + "-" + name, origin + ", " + SNAPPY, "snappy-" + encoding,
                request.compressed(Snappy::compress), reply.compressed(Snappy::compress));
    }

    // Failures

    private record ServerFailure(String message, String throwableAsString) { }

    private record Detail(
            String code, String type, boolean retryable, Object details, Object traceback, String executed) { }

    private record DetailedFailure(String message, String throwableAsString, Detail error) { }

    private void failures() throws Exception {
        DetailedFailure ours = new DetailedFailure("division by zero", "ZeroDivisionError: division by zero",
                new Detail("unknown", "ZeroDivisionError", false, null, null, "yes"));
        manifest.vector("failure", "failure", JACKSON, reply(FAILURE, "json"), json.writeValueAsBytes(ours))
                .means(ours, true).add();
        ServerFailure original = new ServerFailure("/ by zero", "java.lang.ArithmeticException: / by zero");
        manifest.vector("failure-of-the-original", "failure", JACKSON, reply(FAILURE, "json"), json.writeValueAsBytes(original))
                .means(original, false).add();
        ServerFailure mute = new ServerFailure(null, "java.lang.NullPointerException");
        manifest.vector("failure-without-text", "failure", JACKSON, reply(FAILURE, "json"), json.writeValueAsBytes(mute))
                .means(mute, false).add();
        ServerFailure odd = new ServerFailure("“¿qué?”\n\u0001 🧮", "java.lang.Error: “¿qué?”\n\u0001 🧮");
        manifest.vector("failure-with-odd-text", "failure", JACKSON, reply(FAILURE, "json"), json.writeValueAsBytes(odd))
                .means(odd, false).add();
        Pair pair = new Pair(1, 0);
        String type = "calculator.divide";
        fails("json", JACKSON, pair, of(type, pair));
        fails("snappy-json", JACKSON + ", " + SNAPPY, pair, of(type, pair).compressed(Snappy::compress));
        fails("zstd-json", JACKSON + ", zstd-jni 1.5.7-4", pair, of(type, pair).compressed(Zstd::compress));
        fails("gzip-json", JACKSON + ", java.util.zip", pair, of(type, pair).compressed(MakeVectors::gzip));
        fails("lz4-json", JACKSON + ", lz4-java 1.10.1", pair, of(type, pair).compressed(MakeVectors::lz4));
        byte[] message = Calculator.DivideRequest.newBuilder().setX(1).setY(0).build().toByteArray();
        Content protobuf = new Content(PROTOBUF + "DivideRequest", pair, message, true);
        fails("protobuf", PROTOBUF_JAVA, pair, protobuf);
        fails("snappy-protobuf", PROTOBUF_JAVA + ", " + SNAPPY, pair, protobuf.compressed(Snappy::compress));
        TBase<?, ?> struct = new com.github.sstone.amqp.proxy.calculator.DivideRequest(1, 0);
        Content thrift = new Content(THRIFT + "DivideRequest", pair, new TSerializer().serialize(struct), true);
        fails("thrift", LIBTHRIFT, pair, thrift);
        fails("snappy-thrift", LIBTHRIFT + ", " + SNAPPY, pair, thrift.compressed(Snappy::compress));
        byte[] compact = new TSerializer(new TCompactProtocol.Factory()).serialize(struct);
        fails("thrift-compact", LIBTHRIFT, pair, new Content(thrift.type, pair, compact, true));
    }

    private void fails(String encoding, String origin, Object value, Content request) throws Exception {
        manifest.vector(encoding + "-divide-by-zero-request", "request", origin, request(request.type, encoding).build(),
                request.body).means(value, request.exact).with("answer", "failure").add();
    }

    // Requests that no worker can answer with a result: they have no meaning, but a code that the failure must bear

    private void refusals() throws Exception {
        byte[] body = "{\"x\":1,\"y\":2}".getBytes(UTF_8);
        refused("class-unknown", "unimplemented", request("calculator.subtract", "json"), body);
        refused("class-missing", "invalid_argument", request(null, "json"), body);
        refused("encoding-unknown", "unimplemented", request("calculator.add", "xml"), "<add/>".getBytes(UTF_8));
        refused("json-broken", "invalid_argument", request("calculator.add", "json"), "{\"x\":1,".getBytes(UTF_8));
        refused("json-of-another-type", "invalid_argument", request("calculator.add", "json"),
                "{\"x\":\"one\",\"y\":2}".getBytes(UTF_8));
        refused("json-empty", "invalid_argument", request("calculator.add", "json"), new byte[0]);
        byte[] message = Calculator.AddRequest.newBuilder().setX(1).setY(2).build().toByteArray();
        String type = PROTOBUF + "AddRequest";
        refused("protobuf-cut", "invalid_argument", request(type, "protobuf"), Arrays.copyOf(message, 3));
        refused("protobuf-incomplete", "invalid_argument", request(type, "protobuf"), Arrays.copyOf(message, 2));
        byte[] struct = new TSerializer().serialize(new com.github.sstone.amqp.proxy.calculator.AddRequest(1, 2));
        type = THRIFT + "AddRequest";
        refused("thrift-cut", "invalid_argument", request(type, "thrift"), Arrays.copyOf(struct, struct.length - 1));
        refused("thrift-incomplete", "invalid_argument", request(type, "thrift"), new byte[] {0});
        byte[] compact = new TSerializer(new TCompactProtocol.Factory())
                .serialize(new com.github.sstone.amqp.proxy.calculator.AddRequest(1, 2));
        refused("thrift-compact-cut", "invalid_argument", request(type, "thrift-compact"), Arrays.copyOf(compact, 3));
        Map<String, Compressor> compressors = new LinkedHashMap<>();
        compressors.put("snappy-json", Snappy::compress);
        compressors.put("zstd-json", Zstd::compress);
        compressors.put("gzip-json", MakeVectors::gzip);
        compressors.put("lz4-json", MakeVectors::lz4);
        for (Map.Entry<String, Compressor> each : compressors.entrySet()) {
            byte[] compressed = each.getValue().compress(body);
            refused(each.getKey() + "-cut", "invalid_argument", request("calculator.add", each.getKey()),
                    Arrays.copyOf(compressed, compressed.length - 5));
            refused(each.getKey() + "-not-compressed", "invalid_argument", request("calculator.add", each.getKey()), body);
        }
    }

    private void refused(String name, String code, BasicProperties.Builder properties, byte[] body) throws IOException {
        manifest.vector("refused-" + name, "request", "by hand", properties.build(), body).with("code", code).add();
    }
}
