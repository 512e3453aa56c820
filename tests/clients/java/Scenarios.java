import com.rabbitmq.client.AMQP.BasicProperties;
import com.rabbitmq.client.AuthenticationFailureException;
import com.rabbitmq.client.BuiltinExchangeType;
import com.rabbitmq.client.Channel;
import com.rabbitmq.client.Connection;
import com.rabbitmq.client.ConnectionFactory;
import com.rabbitmq.client.Delivery;
import com.rabbitmq.client.GetResponse;
import com.rabbitmq.client.LongString;
import com.rabbitmq.client.Method;
import com.rabbitmq.client.MessageProperties;
import com.rabbitmq.client.Recoverable;
import com.rabbitmq.client.RecoveryListener;
import com.rabbitmq.client.Return;
import com.rabbitmq.client.ShutdownSignalException;
import java.io.IOException;
import java.net.Socket;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collection;
import java.util.Date;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.Callable;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import java.util.stream.Collectors;

/** The scenarios with RabbitMQ's Java client. Usage: Scenarios.java URL PREFIX; prints what it saw, one scenario a line. */
public class Scenarios {
    static final int PATIENCE = 10;
    static final byte[] BIG = new byte[256 * 4096];

    static String prefix;
    static ConnectionFactory factory;
    static Connection connection;

    public static void main(String[] arguments) throws Exception {
        for (int i = 0; i < BIG.length; i++) {
            BIG[i] = (byte) i;
        }
        prefix = arguments[1];
        factory = new ConnectionFactory();
        factory.setUri(arguments[0].replaceAll("/$", "")); // a path of / would name a virtual host without a name
        connection = factory.newConnection();
        for (Map.Entry<String, Callable<Object>> scenario : scenarios().entrySet()) {
            System.out.println(json(Arrays.asList(scenario.getKey(), outcome(scenario.getValue()))));
        }
    }

    static Map<String, Callable<Object>> scenarios() {
        Map<String, Callable<Object>> all = new LinkedHashMap<>();
        all.put("topic", Scenarios::topic);
        all.put("fanout", Scenarios::fanout);
        all.put("headers", Scenarios::headers);
        all.put("exchange_binding", Scenarios::exchangeBinding);
        all.put("alternate_exchange", Scenarios::alternateExchange);
        all.put("confirms", Scenarios::confirms);
        all.put("mandatory", Scenarios::mandatory);
        all.put("reject_publish", Scenarios::rejectPublish);
        all.put("prefetch", Scenarios::prefetch);
        all.put("requeue", Scenarios::requeue);
        all.put("get", Scenarios::get);
        all.put("purge_and_delete", Scenarios::purgeAndDelete);
        all.put("dead_letter", Scenarios::deadLetter);
        all.put("time_to_live", Scenarios::timeToLive);
        all.put("max_length", Scenarios::maxLength);
        all.put("priorities", Scenarios::priorities);
        all.put("server_named", () -> queue(connection.createChannel(), "", Map.of()).substring(0, 8));
        all.put("exclusive", Scenarios::exclusive);
        all.put("cancel_notify", Scenarios::cancelNotify);
        all.put("reply_to", Scenarios::replyTo);
        all.put("transaction", Scenarios::transaction);
        all.put("missing_queue", Scenarios::missingQueue);
        all.put("inequivalent", Scenarios::inequivalent);
        all.put("unknown_tag", Scenarios::unknownTag);
        all.put("properties", Scenarios::properties);
        all.put("big_body", Scenarios::bigBody);
        all.put("recovery", Scenarios::recovery);
        all.put("wrong_password", Scenarios::wrongPassword);
        all.put("missing_vhost", Scenarios::missingVhost);
        all.put("close", Scenarios::close);
        return all;
    }

    static Object outcome(Callable<Object> scenario) {
        try {
            return scenario.call();
        } catch (Exception failure) {
            return failure.toString();
        }
    }

    static Object topic() throws Exception {
        Channel channel = connection.createChannel();
        String exchange = exchange(channel, "topic", BuiltinExchangeType.TOPIC, Map.of());
        String queue = queue(channel, "", Map.of());
        for (String key : List.of("log.*.error", "audit.#")) {
            channel.queueBind(queue, exchange, key);
        }
        for (String key : List.of("log.db.error", "log.db.info", "log.error", "audit", "audit.a.b")) {
            channel.basicPublish(exchange, key, null, bytes(key));
        }
        return bodies(channel, queue);
    }

    static Object fanout() throws Exception {
        Channel channel = connection.createChannel();
        String exchange = exchange(channel, "fanout", BuiltinExchangeType.FANOUT, Map.of());
        List<String> queues = List.of(queue(channel, "", Map.of()), queue(channel, "", Map.of()));
        for (String queue : queues) {
            channel.queueBind(queue, exchange, "");
        }
        channel.basicPublish(exchange, "any", null, bytes("news"));
        return List.of(bodies(channel, queues.get(0)), bodies(channel, queues.get(1)));
    }

    static Object headers() throws Exception {
        Channel channel = connection.createChannel();
        String exchange = exchange(channel, "headers", BuiltinExchangeType.HEADERS, Map.of());
        String all = queue(channel, "", Map.of());
        String any = queue(channel, "", Map.of());
        channel.queueBind(all, exchange, "", Map.of("x-match", "all", "kind", "pdf", "pages", 2));
        channel.queueBind(any, exchange, "", Map.of("x-match", "any", "kind", "pdf", "pages", 2));
        channel.basicPublish(exchange, "", withHeaders(Map.of("kind", "pdf", "pages", 2)), bytes("both"));
        channel.basicPublish(exchange, "", withHeaders(Map.of("kind", "pdf")), bytes("one"));
        channel.basicPublish(exchange, "", withHeaders(Map.of("kind", "png")), bytes("none"));
        return Map.of("all", bodies(channel, all), "any", bodies(channel, any));
    }

    static BasicProperties withHeaders(Map<String, Object> headers) {
        return new BasicProperties.Builder().headers(headers).build();
    }

    static Object exchangeBinding() throws Exception {
        Channel channel = connection.createChannel();
        String source = exchange(channel, "source", BuiltinExchangeType.FANOUT, Map.of());
        String sink = exchange(channel, "sink", BuiltinExchangeType.DIRECT, Map.of());
        String queue = queue(channel, "", Map.of());
        channel.queueBind(queue, sink, "key");
        channel.exchangeBind(sink, source, "");
        channel.basicPublish(source, "key", null, bytes("hop"));
        return bodies(channel, queue);
    }

    static Object alternateExchange() throws Exception {
        Channel channel = connection.createChannel();
        String stray = exchange(channel, "stray", BuiltinExchangeType.FANOUT, Map.of());
        String strict = exchange(channel, "strict", BuiltinExchangeType.DIRECT, Map.of("alternate-exchange", stray));
        String queue = queue(channel, "", Map.of());
        channel.queueBind(queue, stray, "");
        channel.queueBind(queue(channel, "", Map.of()), strict, "known");
        channel.basicPublish(strict, "unknown", null, bytes("lost and found"));
        return bodies(channel, queue);
    }

    static Object confirms() throws Exception {
        Channel channel = connection.createChannel();
        channel.confirmSelect();
        String queue = queue(channel, "", Map.of());
        for (String body : List.of("0", "1", "2")) {
            channel.basicPublish("", queue, null, bytes(body));
        }
        channel.waitForConfirmsOrDie(PATIENCE * 1000);
        return bodies(channel, queue);
    }

    static Object mandatory() throws Exception {
        Channel channel = connection.createChannel();
        BlockingQueue<Return> returns = new LinkedBlockingQueue<>();
        channel.addReturnListener(returns::add);
        channel.basicPublish("", named("nowhere"), true, null, bytes("lost"));
        Return back = next(returns);
        return List.of(
            back.getReplyCode(), back.getReplyText(), back.getExchange(), back.getRoutingKey(), text(back.getBody()));
    }

    static Object rejectPublish() throws Exception {
        Channel channel = connection.createChannel();
        channel.confirmSelect();
        String queue = queue(channel, "", Map.of("x-max-length", 1, "x-overflow", "reject-publish"));
        List<Boolean> accepted = new ArrayList<>();
        for (int i = 0; i < 2; i++) {
            channel.basicPublish("", queue, null, bytes(""));
            accepted.add(channel.waitForConfirms(PATIENCE * 1000));
        }
        return accepted;
    }

    static Object prefetch() throws Exception {
        Channel channel = connection.createChannel();
        String queue = queue(channel, "prefetch", Map.of());
        for (int i = 0; i < 5; i++) {
            channel.basicPublish("", queue, null, bytes(""));
        }
        channel.basicQos(2);
        BlockingQueue<Delivery> deliveries = consume(channel, queue, false);
        next(deliveries);
        long second = next(deliveries).getEnvelope().getDeliveryTag();
        long waiting = channel.messageCount(queue);
        channel.basicAck(second, true);
        next(deliveries);
        channel.basicAck(next(deliveries).getEnvelope().getDeliveryTag(), true);
        return List.of(waiting, next(deliveries).getEnvelope().getDeliveryTag());
    }

    static Object requeue() throws Exception {
        Channel channel = connection.createChannel();
        String queue = queue(channel, "", Map.of());
        channel.basicPublish("", queue, null, bytes("again"));
        BlockingQueue<Delivery> deliveries = consume(channel, queue, false);
        Delivery first = next(deliveries);
        channel.basicNack(first.getEnvelope().getDeliveryTag(), false, true);
        Delivery second = next(deliveries);
        channel.basicReject(second.getEnvelope().getDeliveryTag(), true);
        Delivery third = next(deliveries);
        channel.basicAck(third.getEnvelope().getDeliveryTag(), false);
        return List.of(
            first.getEnvelope().isRedeliver(), second.getEnvelope().isRedeliver(), third.getEnvelope().isRedeliver());
    }

    static Object get() throws Exception {
        Channel channel = connection.createChannel();
        String queue = queue(channel, "", Map.of());
        boolean empty = channel.basicGet(queue, false) == null;
        for (String body : List.of("one", "two")) {
            channel.basicPublish("", queue, null, bytes(body));
        }
        GetResponse got = channel.basicGet(queue, false);
        channel.basicAck(got.getEnvelope().getDeliveryTag(), false);
        return List.of(empty, text(got.getBody()), got.getMessageCount(), got.getEnvelope().isRedeliver());
    }

    static Object purgeAndDelete() throws Exception {
        Channel channel = connection.createChannel();
        String queue = queue(channel, "", Map.of());
        for (int i = 0; i < 3; i++) {
            channel.basicPublish("", queue, null, bytes(""));
        }
        int purged = channel.queuePurge(queue).getMessageCount();
        channel.basicPublish("", queue, null, bytes(""));
        return List.of(purged, channel.queueDelete(queue).getMessageCount());
    }

    static Object deadLetter() throws Exception {
        Channel channel = connection.createChannel();
        String dead = queue(channel, "", Map.of());
        String queue = queue(channel, "work", Map.of("x-dead-letter-exchange", "", "x-dead-letter-routing-key", dead));
        channel.basicPublish("", queue, null, bytes("poison"));
        channel.basicReject(channel.basicGet(queue, false).getEnvelope().getDeliveryTag(), false);
        Delivery message = next(consume(channel, dead, true));
        List<Object> saw = new ArrayList<>();
        saw.add(text(message.getBody()));
        saw.add(message.getProperties().getHeaders().get("x-first-death-reason"));
        for (String key : List.of("reason", "queue", "exchange", "routing-keys", "count")) {
            saw.add(death(message).get(key));
        }
        return saw;
    }

    static Object timeToLive() throws Exception {
        Channel channel = connection.createChannel();
        String dead = queue(channel, "", Map.of());
        String queue = queue(
            channel,
            "ttl",
            Map.of("x-message-ttl", 60_000, "x-dead-letter-exchange", "", "x-dead-letter-routing-key", dead));
        channel.basicPublish("", queue, new BasicProperties.Builder().expiration("20").build(), bytes("old"));
        Delivery message = next(consume(channel, dead, true));
        return Arrays.asList(
            text(message.getBody()),
            death(message).get("reason"),
            death(message).get("original-expiration"),
            message.getProperties().getExpiration());
    }

    static Map<?, ?> death(Delivery message) {
        return (Map<?, ?>) ((List<?>) message.getProperties().getHeaders().get("x-death")).get(0);
    }

    static Object maxLength() throws Exception {
        Channel channel = connection.createChannel();
        String queue = queue(channel, "", Map.of("x-max-length", 2));
        for (String body : List.of("0", "1", "2")) {
            channel.basicPublish("", queue, null, bytes(body));
        }
        return bodies(channel, queue);
    }

    static Object priorities() throws Exception {
        Channel channel = connection.createChannel();
        String queue = queue(channel, "", Map.of("x-max-priority", 5));
        for (int priority : new int[] {1, 5, 3}) {
            BasicProperties properties = new BasicProperties.Builder().priority(priority).build();
            channel.basicPublish("", queue, properties, bytes(Integer.toString(priority)));
        }
        return bodies(channel, queue);
    }

    static Object exclusive() throws Exception {
        String queue = queue(connection.createChannel(), "mine", Map.of());
        try (Connection other = factory.newConnection()) {
            return refusal(() -> other.createChannel().queueDeclarePassive(queue));
        }
    }

    static Object cancelNotify() throws Exception {
        Channel channel = connection.createChannel();
        String queue = queue(channel, "", Map.of());
        BlockingQueue<String> cancelled = new LinkedBlockingQueue<>();
        String tag = channel.basicConsume(queue, (consumer, message) -> {}, cancelled::add);
        connection.createChannel().queueDelete(queue);
        return next(cancelled).equals(tag);
    }

    static Object replyTo() throws Exception {
        Channel server = connection.createChannel();
        Channel client = connection.createChannel();
        String queue = queue(server, "", Map.of());
        BlockingQueue<Delivery> answers = consume(client, "amq.rabbitmq.reply-to", true);
        BasicProperties asking =
            new BasicProperties.Builder().replyTo("amq.rabbitmq.reply-to").correlationId("7").build();
        client.basicPublish("", queue, asking, bytes("ping"));
        Delivery asked = next(consume(server, queue, true));
        String answer = text(asked.getBody()) + " pong " + asked.getProperties().getCorrelationId();
        server.basicPublish("", asked.getProperties().getReplyTo(), null, bytes(answer));
        return List.of(text(next(answers).getBody()));
    }

    static Object transaction() throws Exception {
        Channel channel = connection.createChannel();
        String queue = queue(channel, "", Map.of());
        channel.txSelect();
        channel.basicPublish("", queue, null, bytes(""));
        channel.txRollback();
        long rolledBack = channel.messageCount(queue);
        channel.basicPublish("", queue, null, bytes(""));
        channel.txCommit();
        return List.of(rolledBack, channel.messageCount(queue));
    }

    static Object missingQueue() throws Exception {
        List<Object> saw = new ArrayList<>(refusal(() -> connection.createChannel().queueDeclarePassive(named("no"))));
        saw.add(connection.createChannel().isOpen());
        return saw;
    }

    static Object inequivalent() throws Exception {
        queue(connection.createChannel(), "odd", Map.of("x-max-length", 1));
        return refusal(() -> queue(connection.createChannel(), "odd", Map.of("x-max-length", 2)));
    }

    static Object unknownTag() throws Exception {
        Channel channel = connection.createChannel();
        BlockingQueue<ShutdownSignalException> closed = new LinkedBlockingQueue<>();
        channel.addShutdownListener(closed::add);
        channel.basicAck(99, false);
        return codeAndText(next(closed));
    }

    static Object properties() throws Exception {
        Channel channel = connection.createChannel();
        String queue = queue(channel, "", Map.of());
        Map<String, Object> headers = new HashMap<>(Map.of(
            "text", "gr\u00fc\u00dfe",
            "int", 7,
            "big", 1L << 40,
            "flag", true,
            "list", List.of(1, "two"),
            "table", Map.of("deep", Map.of("er", "x"))));
        headers.put("void", null);
        BasicProperties sent = new BasicProperties(
            "text/plain", "utf-8", headers, 2, 4, "c-1", "answers", "60000", "m-1",
            new Date(1_700_000_000_000L), "greeting", "guest", "clients", null);
        channel.basicPublish("", queue, sent, bytes(""));
        BasicProperties got = channel.basicGet(queue, true).getProps();
        Map<String, Object> saw = new HashMap<>();
        saw.put("content_type", got.getContentType());
        saw.put("content_encoding", got.getContentEncoding());
        saw.put("delivery_mode", got.getDeliveryMode());
        saw.put("priority", got.getPriority());
        saw.put("correlation_id", got.getCorrelationId());
        saw.put("reply_to", got.getReplyTo());
        saw.put("expiration", got.getExpiration());
        saw.put("message_id", got.getMessageId());
        saw.put("timestamp", got.getTimestamp().getTime() / 1000);
        saw.put("type", got.getType());
        saw.put("user_id", got.getUserId());
        saw.put("app_id", got.getAppId());
        return List.of(saw, got.getHeaders());
    }

    static Object bigBody() throws Exception {
        Channel channel = connection.createChannel();
        String queue = queue(channel, "", Map.of());
        channel.basicPublish("", queue, MessageProperties.BASIC, BIG);
        return Arrays.equals(channel.basicGet(queue, true).getBody(), BIG);
    }

    /** The client's own recovery brings back the exclusive queue and its consumer after the socket is lost. */
    static Object recovery() throws Exception {
        ConnectionFactory recovering = factory.clone();
        BlockingQueue<Socket> sockets = new LinkedBlockingQueue<>();
        recovering.setSocketConfigurator(sockets::add);
        recovering.setNetworkRecoveryInterval(100);
        try (Connection lossy = recovering.newConnection()) {
            BlockingQueue<Boolean> recovered = new LinkedBlockingQueue<>();
            ((Recoverable) lossy).addRecoveryListener(whenDone(recovered));
            Channel channel = lossy.createChannel();
            BlockingQueue<Delivery> deliveries = consume(channel, queue(channel, "recovered", Map.of()), true);
            next(sockets).close();
            next(recovered);
            connection.createChannel().basicPublish("", named("recovered"), null, bytes("after"));
            return text(next(deliveries).getBody());
        }
    }

    static RecoveryListener whenDone(BlockingQueue<Boolean> recovered) {
        return new RecoveryListener() {
            @Override
            public void handleRecovery(Recoverable recoverable) {
                recovered.add(true);
            }

            @Override
            public void handleRecoveryStarted(Recoverable recoverable) {}
        };
    }

    static Object wrongPassword() throws Exception {
        ConnectionFactory wrong = factory.clone();
        wrong.setPassword("wrong");
        try {
            wrong.newConnection();
        } catch (AuthenticationFailureException refused) {
            return true;
        }
        return false;
    }

    static Object missingVhost() throws Exception {
        ConnectionFactory wrong = factory.clone();
        wrong.setVirtualHost(named("vhost"));
        return refusal(wrong::newConnection).get(0).equals(530);
    }

    static Object close() throws Exception {
        BlockingQueue<ShutdownSignalException> closed = new LinkedBlockingQueue<>();
        connection.addShutdownListener(closed::add);
        connection.close();
        return next(closed).isInitiatedByApplication();
    }

    static String named(String name) {
        return prefix + "." + name;
    }

    static String queue(Channel channel, String name, Map<String, Object> arguments) throws IOException {
        return channel.queueDeclare(name.isEmpty() ? name : named(name), false, true, false, arguments).getQueue();
    }

    static String exchange(Channel channel, String name, BuiltinExchangeType type, Map<String, Object> arguments)
            throws IOException {
        channel.exchangeDeclare(named(name), type, false, true, arguments);
        return named(name);
    }

    static List<String> bodies(Channel channel, String queue) throws IOException {
        List<String> got = new ArrayList<>();
        for (GetResponse message; (message = channel.basicGet(queue, true)) != null; ) {
            got.add(text(message.getBody()));
        }
        return got;
    }

    static BlockingQueue<Delivery> consume(Channel channel, String queue, boolean autoAck) throws IOException {
        BlockingQueue<Delivery> deliveries = new LinkedBlockingQueue<>();
        channel.basicConsume(queue, autoAck, (tag, message) -> deliveries.add(message), tag -> {});
        return deliveries;
    }

    static <T> T next(BlockingQueue<T> from) throws InterruptedException {
        T item = from.poll(PATIENCE, TimeUnit.SECONDS);
        if (item == null) {
            throw new IllegalStateException("nothing came");
        }
        return item;
    }

    static List<Object> refusal(Callable<?> action) throws Exception {
        try {
            action.call();
        } catch (IOException refused) {
            return codeAndText((ShutdownSignalException) refused.getCause());
        }
        return List.of();
    }

    static List<Object> codeAndText(ShutdownSignalException closed) {
        Method reason = closed.getReason();
        if (reason instanceof com.rabbitmq.client.AMQP.Channel.Close close) {
            return List.of(close.getReplyCode(), close.getReplyText());
        }
        com.rabbitmq.client.AMQP.Connection.Close close = (com.rabbitmq.client.AMQP.Connection.Close) reason;
        return List.of(close.getReplyCode(), close.getReplyText());
    }

    static byte[] bytes(String text) {
        return text.getBytes(StandardCharsets.UTF_8);
    }

    static String text(byte[] bytes) {
        return new String(bytes, StandardCharsets.UTF_8);
    }

    static String json(Object value) {
        if (value instanceof Map<?, ?> map) {
            return map.entrySet().stream()
                .map(entry -> json(entry.getKey()) + ": " + json(entry.getValue()))
                .collect(Collectors.joining(", ", "{", "}"));
        }
        if (value instanceof Collection<?> items) {
            return items.stream().map(Scenarios::json).collect(Collectors.joining(", ", "[", "]"));
        }
        if (value instanceof String || value instanceof LongString) {
            return value.toString().chars().mapToObj(Scenarios::escaped).collect(Collectors.joining("", "\"", "\""));
        }
        return String.valueOf(value);
    }

    static String escaped(int character) {
        boolean plain = character >= ' ' && character <= '~' && character != '"' && character != '\\';
        return plain ? Character.toString(character) : String.format("\\u%04x", character);
    }
}
