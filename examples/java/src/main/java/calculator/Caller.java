package calculator;

import com.fasterxml.jackson.databind.ObjectMapper;
import com.github.sstone.amqp.proxy.calculator.AddRequest;
import com.github.sstone.amqp.proxy.calculator.AddResponse;
import com.github.sstone.amqp.proxy.calculator.Calculator;
import com.github.sstone.amqp.proxy.calculator.DivideRequest;
import com.github.sstone.amqp.proxy.calculator.DivideResponse;
import com.rabbitmq.client.Connection;
import com.rabbitmq.client.ConnectionFactory;
import java.util.Map;
import org.apache.thrift.TBase;
import org.apache.thrift.TDeserializer;
import org.apache.thrift.TSerializer;

/** Asks the calculator that some worker serves, in whatever language. Usage: Caller [URL [SERVICE [ENCODING]]] */
public final class Caller {
    private static final ObjectMapper JSON = new ObjectMapper();

    private final Client client;
    private final String service;
    private final String encoding;

    private Caller(Client client, String service, String encoding) {
        this.client = client;
        this.service = service;
        this.encoding = encoding;
    }

    private int add(int x, int y) throws Exception {
        return switch (encoding.replaceFirst("^snappy-", "")) {
            case "json" -> json("add", Map.of("x", x, "y", y), int.class);
            case "protobuf" -> {
                var request = Calculator.AddRequest.newBuilder().setX(x).setY(y).build();
                byte[] reply = client.call(request.getClass().getName(), encoding, request.toByteArray());
                yield Calculator.AddResponse.parseFrom(reply).getSum();
            }
            case "thrift" -> thrift(new AddRequest(x, y), new AddResponse()).getSum();
            default -> throw new IllegalArgumentException("unknown encoding: " + encoding);
        };
    }

    private double divide(int x, int y) throws Exception {
        return switch (encoding.replaceFirst("^snappy-", "")) {
            case "json" -> json("divide", Map.of("x", x, "y", y), double.class);
            case "protobuf" -> {
                var request = Calculator.DivideRequest.newBuilder().setX(x).setY(y).build();
                byte[] reply = client.call(request.getClass().getName(), encoding, request.toByteArray());
                yield Calculator.DivideResponse.parseFrom(reply).getQuotient();
            }
            case "thrift" -> thrift(new DivideRequest(x, y), new DivideResponse()).getQuotient();
            default -> throw new IllegalArgumentException("unknown encoding: " + encoding);
        };
    }

    /** Plain parameters go out, the bare value comes back. */
    private <T> T json(String method, Map<String, ?> parameters, Class<T> result) throws Exception {
        byte[] reply = client.call(service + "." + method, encoding, JSON.writeValueAsBytes(parameters));
        return JSON.readValue(reply, result);
    }

    /** A struct each way, in thrift's binary protocol. */
    private <T extends TBase<?, ?>> T thrift(TBase<?, ?> request, T reply) throws Exception {
        byte[] body = new TSerializer().serialize(request);
        new TDeserializer().deserialize(reply, client.call(request.getClass().getName(), encoding, body));
        return reply;
    }

    public static void main(String[] args) throws Exception {
        String url = System.getenv().getOrDefault("AMQPROXY_URL", "amqp://guest:guest@localhost");
        ConnectionFactory factory = new ConnectionFactory();
        // To the client, a path of / is the virtual host without a name.
        factory.setUri((args.length > 0 ? args[0] : url).replaceFirst("/$", ""));
        String service = args.length > 1 ? args[1] : "calculator";
        String encoding = args.length > 2 ? args[2] : "json";

        try (Connection connection = factory.newConnection()) {
            Caller calculator = new Caller(new Client(connection.createChannel(), service), service, encoding);
            System.out.println("1 + 2 = " + calculator.add(1, 2));
            try {
                System.out.println("1 / 0 = " + calculator.divide(1, 0));
            } catch (Client.WorkerException failure) {
                System.out.println("1 / 0: " + failure.getMessage());
            }
        }
    }
}
