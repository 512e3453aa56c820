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
            Operations.Operation operation = operations.get(String.valueOf(type));
            if (operation == null) {
                throw new UnsupportedOperationException(type + " is not served here");
            }
            if (!encoding.equals(snappy ? "snappy-" + operation.format() : operation.format())) {
                throw new UnsupportedOperationException(type + " is not served in the encoding " + encoding);
            }
            if (!snappy) {
                return new Reply(operation.replyType(), encoding, operation.answer().to(body));
            }
            if (Snappy.uncompressedLength(body) > MAX_SIZE) {
                throw new IOException("the body is too large");
            }
            byte[] reply = operation.answer().to(Snappy.uncompress(body));
            return new Reply(operation.replyType(), encoding, Snappy.compress(reply));
        } catch (UnsupportedOperationException e) {
            return failure("unimplemented", e);
        } catch (IOException | TException e) {
            return failure("invalid_argument", e);
        } catch (RuntimeException e) {
            return failure("unknown", e);
        }
    }

    private static Reply failure(String code, Exception e) throws IOException {
        return new Reply(FAILURE, "json", JSON.writeValueAsBytes(Map.of(
            "message", String.valueOf(e.getMessage()),
            "throwableAsString", e.toString(),
            "error", Map.of("code", code, "type", e.getClass().getName(), "retryable", false))));
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
