package calculator;

import com.fasterxml.jackson.databind.ObjectMapper;
import com.rabbitmq.client.AMQP.BasicProperties;
import com.rabbitmq.client.Channel;
import com.rabbitmq.client.Delivery;
import com.rabbitmq.client.Return;
import java.io.IOException;
import java.util.Collections;
import java.util.HashMap;
import java.util.Map;
import java.util.UUID;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;
import org.xerial.snappy.Snappy;

/** Sends requests to one service, and finds the reply to each. Many threads may use one client. */
final class Client {
    private static final String FAILURE = "com.github.sstone.amqp.proxy.AmqpProxy$ServerFailure";
    private static final boolean MANDATORY = true; // a request that no queue takes comes back at once
    private static final int TIME_LIMIT_MS = 5000;
    private static final ObjectMapper JSON = new ObjectMapper();

    /** What the worker says that went wrong. */
    static final class WorkerException extends Exception {
        private static final long serialVersionUID = 1;

        WorkerException(String message) {
            super(message);
        }
    }

    private final Channel channel;
    private final String service;
    private final String replyTo;
    private final Map<String, CompletableFuture<Delivery>> waiting = Collections.synchronizedMap(new HashMap<>());

    Client(Channel channel, String service) throws IOException {
        this.channel = channel;
        this.service = service;
        // Ours alone, and gone with the connection. When the library mends a lost link, it makes the queue again under its
        // name; had the broker named it, the name would be another then.
        replyTo = "calculator.replies." + UUID.randomUUID();
        channel.queueDeclare(replyTo, false, true, true, null);
        channel.basicConsume(replyTo, true, this::onReply, consumerTag -> { });
        channel.addReturnListener(this::onReturn);
    }

    /** Returns the body of the reply. The type says what is asked for, the encoding how both bodies are to be read. */
    byte[] call(String type, String encoding, byte[] body) throws Exception {
        boolean snappy = encoding.startsWith("snappy-");
        String correlationId = UUID.randomUUID().toString();
        BasicProperties properties = new BasicProperties.Builder()
            .contentType(type)
            .contentEncoding(encoding)
            .replyTo(replyTo)
            .correlationId(correlationId)
            .expiration(Integer.toString(TIME_LIMIT_MS)) // nobody starts on it after we have given up
            .deliveryMode(1)
            .build();
        CompletableFuture<Delivery> future = new CompletableFuture<>();
        waiting.put(correlationId, future);
        try {
            byte[] packed = snappy ? Snappy.compress(body) : body;
            synchronized (channel) { // channels are not made for threads that publish at the same time
                channel.basicPublish("", service, MANDATORY, properties, packed);
            }
            Delivery reply = future.get(TIME_LIMIT_MS, TimeUnit.MILLISECONDS);
            if (FAILURE.equals(reply.getProperties().getContentType())) {
                throw new WorkerException(JSON.readTree(reply.getBody()).path("message").asText());
            }
            return snappy ? Snappy.uncompress(reply.getBody()) : reply.getBody();
        } catch (ExecutionException returned) {
            throw new IOException("nobody serves " + service, returned.getCause());
        } catch (TimeoutException timeout) {
            throw new IOException(type + ": no reply within " + TIME_LIMIT_MS + " ms", timeout);
        } finally {
            waiting.remove(correlationId);
        }
    }

    private void onReply(String consumerTag, Delivery reply) {
        CompletableFuture<Delivery> future = waiting.get(reply.getProperties().getCorrelationId());
        if (future != null) { // else the call was given up
            future.complete(reply);
        }
    }

    private void onReturn(Return request) {
        CompletableFuture<Delivery> future = waiting.get(request.getProperties().getCorrelationId());
        if (future != null) {
            future.completeExceptionally(new IOException(request.getReplyText()));
        }
    }
}
