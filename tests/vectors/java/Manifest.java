import static java.nio.charset.StandardCharsets.UTF_8;

import com.fasterxml.jackson.core.util.DefaultIndenter;
import com.fasterxml.jackson.core.util.DefaultPrettyPrinter;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.rabbitmq.client.AMQP.BasicProperties;
import com.rabbitmq.client.impl.AMQContentHeader;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Base64;
import java.util.HexFormat;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/** A file of vectors, and the bodies beside it. */
final class Manifest {
    private final ObjectMapper json = new ObjectMapper();
    private final Path directory;
    private final String name;
    private final List<Map<String, Object>> vectors = new ArrayList<>();

    Manifest(Path directory, String name) throws IOException {
        this.directory = directory;
        this.name = name;
        Files.createDirectories(directory.resolve("bodies"));
    }

    Vector vector(String name, String kind, String origin, BasicProperties properties, byte[] body) {
        return new Vector(name, kind, origin, properties, body);
    }

    /** One message, as the manifest tells it. */
    final class Vector {
        private final Map<String, Object> told = new LinkedHashMap<>();
        private final BasicProperties properties;
        private final byte[] body;

        private Vector(String name, String kind, String origin, BasicProperties properties, byte[] body) {
            this.properties = properties;
            this.body = body;
            told.put("name", name);
            told.put("kind", kind);
            told.put("origin", origin);
        }

        /** What the body means, and whether an encoder that keeps to the rules can only write these bytes. */
        Vector means(Object value, boolean exact) {
            told.put("value", value);
            told.put("exact", exact);
            return this;
        }

        Vector with(String key, Object value) {
            told.put(key, value);
            return this;
        }

        void add() throws IOException {
            String file = "bodies/" + told.get("name") + ".bin";
            Files.write(directory.resolve(file), body);
            told.put("properties", asMap(properties));
            told.put("header", HexFormat.of().formatHex(encoded(properties)));
            told.put("file", file);
            told.put("size", body.length);
            told.put("body", Base64.getEncoder().encodeToString(body));
            vectors.add(told);
        }
    }

    void save() throws IOException {
        DefaultPrettyPrinter printer = new DefaultPrettyPrinter()
                .withObjectIndenter(new DefaultIndenter("  ", "\n"))
                .withArrayIndenter(new DefaultIndenter("  ", "\n"));
        byte[] manifest = json.writer(printer).writeValueAsBytes(Map.of("vectors", vectors));
        Files.writeString(directory.resolve(name), new String(manifest, UTF_8) + "\n");
    }

    /** The properties under their names in the AMQP specification. */
    private static Map<String, Object> asMap(BasicProperties properties) {
        Map<String, Object> map = new LinkedHashMap<>();
        map.put("content-type", properties.getContentType());
        map.put("content-encoding", properties.getContentEncoding());
        map.put("headers", properties.getHeaders());
        map.put("delivery-mode", properties.getDeliveryMode());
        map.put("priority", properties.getPriority());
        map.put("correlation-id", properties.getCorrelationId());
        map.put("reply-to", properties.getReplyTo());
        map.put("expiration", properties.getExpiration());
        map.put("message-id", properties.getMessageId());
        map.put("timestamp", properties.getTimestamp() == null ? null : properties.getTimestamp().getTime() / 1000);
        map.put("type", properties.getType());
        map.put("user-id", properties.getUserId());
        map.put("app-id", properties.getAppId());
        map.values().removeIf(value -> value == null);
        return map;
    }

    /** The property flags and list, as they stand in a content header frame behind the body's size. */
    private static byte[] encoded(BasicProperties properties) throws IOException {
        byte[] payload = ((AMQContentHeader) properties).toFrame(1, 0).getPayload();
        return Arrays.copyOfRange(payload, 12, payload.length);
    }
}
