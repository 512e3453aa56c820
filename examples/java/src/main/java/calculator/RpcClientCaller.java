package calculator;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.rabbitmq.client.AMQP.BasicProperties;
import com.rabbitmq.client.Connection;
import com.rabbitmq.client.ConnectionFactory;
import com.rabbitmq.client.RpcClient;
import com.rabbitmq.client.RpcClientParams;
import java.io.IOException;
import java.util.Map;

/** The same as Caller, in JSON, with the client's own RpcClient. Usage: RpcClientCaller [URL [SERVICE]] */
public final class RpcClientCaller {
    private static final String FAILURE = "com.github.sstone.amqp.proxy.AmqpProxy$ServerFailure";
    private static final int TIME_LIMIT_MS = 5000;
    private static final ObjectMapper JSON = new ObjectMapper();

    private RpcClientCaller() { }

    private static JsonNode call(RpcClient client, String type, Map<String, ?> parameters) throws Exception {
        // The client adds reply-to and correlation-id.
        BasicProperties properties = new BasicProperties.Builder()
            .contentType(type)
            .contentEncoding("json")
            .expiration(Integer.toString(TIME_LIMIT_MS)) // nobody starts on it after we have given up
            .deliveryMode(1)
            .build();
        RpcClient.Response reply = client.doCall(properties, JSON.writeValueAsBytes(parameters));
        JsonNode body = JSON.readTree(reply.getBody());
        if (FAILURE.equals(reply.getProperties().getContentType())) {
            throw new IOException(body.path("message").asText());
        }
        return body;
    }

    public static void main(String[] args) throws Exception {
        String url = System.getenv().getOrDefault("AMQPROXY_URL", "amqp://guest:guest@localhost");
        ConnectionFactory factory = new ConnectionFactory();
        // To the client, a path of / is the virtual host without a name.
        factory.setUri((args.length > 0 ? args[0] : url).replaceFirst("/$", ""));
        String service = args.length > 1 ? args[1] : "calculator";

        try (Connection connection = factory.newConnection()) {
            RpcClient client = new RpcClient(new RpcClientParams()
                .channel(connection.createChannel())
                .exchange("")
                .routingKey(service)
                .useMandatory() // a request that no queue takes comes back at once, as an UnroutableRpcRequestException
                .timeout(TIME_LIMIT_MS)); // else a TimeoutException
            System.out.println("1 + 2 = " + call(client, service + ".add", Map.of("x", 1, "y", 2)));
            try {
                System.out.println("1 / 0 = " + call(client, service + ".divide", Map.of("x", 1, "y", 0)));
            } catch (IOException failure) {
                System.out.println("1 / 0: " + failure.getMessage());
            }
        }
    }
}
