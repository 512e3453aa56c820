package calculator;

import com.fasterxml.jackson.databind.ObjectMapper;
import com.rabbitmq.client.AMQP.BasicProperties;
import com.rabbitmq.client.Channel;
import com.rabbitmq.client.Connection;
import com.rabbitmq.client.ConnectionFactory;
import com.rabbitmq.client.DefaultConsumer;
import com.rabbitmq.client.Envelope;
import java.io.IOException;
import java.util.Map;
import java.util.concurrent.Callable;
import java.util.concurrent.CountDownLatch;
import org.apache.thrift.TException;
import org.xerial.snappy.Snappy;

/**
 * Serves a calculator to callers in any language. Usage: Worker [URL [SERVICE]]
 *
 * <p>A channel hands its requests out one at a time: for several at once, consume on as many channels.
 */
public final class Worker extends DefaultConsumer {
    private static final String FAILURE = "com.github.sstone.amqp.proxy.AmqpProxy$ServerFailure";
    private static final int MAX_SIZE = 64 << 20; // a few bytes may claim to hold gigabytes
    private static final ObjectMapper JSON = new ObjectMapper();

    private final Map<String, Operations.Operation> operations;
    private final CountDownLatch ended = new CountDownLatch(1);

    private Worker(Channel channel, String service) {
        super(channel);
        operations = Operations.of(service);
    }

    private record Reply(String type, String encoding, byte[] body) { }

    /** A request that is not run, and why. */
    private static final class Refused extends Exception {
        private static final long serialVersionUID = 1;

        private final String code;

        Refused(String code, String message) {
            super(message);
            this.code = code;
        }
    }

    @Override
    public void handleDelivery(String tag, Envelope envelope, BasicProperties request, byte[] body) throws IOException {
        Reply reply = answer(request.getContentType(), request.getContentEncoding(), body);
        if (request.getReplyTo() != null) {
            String id = request.getCorrelationId();
            BasicProperties properties = new BasicProperties.Builder()
                .contentType(reply.type)
                .contentEncoding(reply.encoding)
                .correlationId(id != null ? id : request.getMessageId())
                .deliveryMode(1)
                .build();
            getChannel().basicPublish("", request.getReplyTo(), properties, reply.body);
        }
        // Only now: a request that is not acknowledged is given to another worker when this one dies.
        getChannel().basicAck(envelope.getDeliveryTag(), false);
    }

    private Reply answer(String type, String encoding, byte[] body) throws IOException {
        if (encoding == null || encoding.isEmpty()) {
            encoding = "json";
        }
        boolean snappy = encoding.startsWith("snappy-");
        try {
            if (type == null || type.isEmpty()) {
                throw new Refused("invalid_argument", "the request has no content-type");
            }
            Operations.Operation operation = operations.get(type);
            if (operation == null) {
                throw new Refused("unimplemented", type + " is not served here");
            }
            if (!encoding.equals(snappy ? "snappy-" + operation.format() : operation.format())) {
                throw new Refused("unimplemented", type + " is not served in the encoding " + encoding);
            }
            byte[] reply = read(operation, snappy, body).call();
            return new Reply(operation.replyType(), encoding, snappy ? Snappy.compress(reply) : reply);
        } catch (Refused e) {
            return failure(e.code, "no", e);
        } catch (Exception e) {
            return failure("unknown", "yes", e);
        }
    }

    private static Callable<byte[]> read(Operations.Operation operation, boolean snappy, byte[] body) throws Refused {
        try {
            if (!snappy) {
                return operation.requests().read(body);
            }
            int size = Snappy.uncompressedLength(body); // of 2 GiB and more it is negative
            if (size < 0 || size > MAX_SIZE) {
                throw new Refused("resource_exhausted", "the body holds more than " + MAX_SIZE + " bytes");
            }
            return operation.requests().read(Snappy.uncompress(body));
        } catch (IOException | TException e) {
            throw new Refused("invalid_argument", "the body is not what it should be: " + e.getMessage());
        }
    }

    private static Reply failure(String code, String executed, Exception e) throws IOException {
        return new Reply(FAILURE, "json", JSON.writeValueAsBytes(Map.of(
            "message", String.valueOf(e.getMessage()),
            "throwableAsString", e.toString(),
            "error", Map.of("code", code, "type", e.getClass().getName(), "retryable", false, "executed", executed))));
    }

    /** After basicCancel, once all that had been delivered is answered. */
    @Override
    public void handleCancelOk(String consumerTag) {
        ended.countDown();
    }

    /** The queue was deleted. That is the end: the client makes up for a lost link only. */
    @Override
    public void handleCancel(String consumerTag) {
        System.err.println("the queue was deleted");
        Runtime.getRuntime().halt(1);
    }

    public static void main(String[] args) throws Exception {
        String url = System.getenv().getOrDefault("AMQPROXY_URL", "amqp://guest:guest@localhost");
        ConnectionFactory factory = new ConnectionFactory();
        // To the client, a path of / is the virtual host without a name.
        factory.setUri((args.length > 0 ? args[0] : url).replaceFirst("/$", ""));
        String service = args.length > 1 ? args[1] : "calculator";

        Connection connection = factory.newConnection();
        Channel channel = connection.createChannel();
        try {
            channel.queueDeclare(service, true, false, false, null);
            channel.queueBind(service, "amq.direct", service);
        } catch (IOException e) {
            connection.abort(); // whose threads would keep the program alive
            throw e;
        }
        channel.basicQos(10); // so many requests wait here; the others are left to other workers
        Worker worker = new Worker(channel, service);
        channel.basicConsume(service, worker);
        Runtime.getRuntime().addShutdownHook(new Thread(() -> {
            try {
                channel.basicCancel(worker.getConsumerTag());
                worker.ended.await();
                connection.close();
            } catch (IOException | InterruptedException e) {
                System.err.println(e);
            }
        }));
        System.out.println("ready");
    }
}
