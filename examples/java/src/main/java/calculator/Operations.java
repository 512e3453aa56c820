package calculator;

import com.fasterxml.jackson.databind.DeserializationFeature;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.github.sstone.amqp.proxy.calculator.AddRequest;
import com.github.sstone.amqp.proxy.calculator.AddResponse;
import com.github.sstone.amqp.proxy.calculator.Calculator;
import com.github.sstone.amqp.proxy.calculator.DivideRequest;
import com.github.sstone.amqp.proxy.calculator.DivideResponse;
import com.google.protobuf.MessageLite;
import com.google.protobuf.Parser;
import java.io.IOException;
import java.util.Map;
import java.util.concurrent.Callable;
import java.util.function.Function;
import java.util.function.Supplier;
import org.apache.thrift.TBase;
import org.apache.thrift.TException;
import org.apache.thrift.TSerializer;
import org.apache.thrift.protocol.TBinaryProtocol;
import org.apache.thrift.transport.TMemoryInputTransport;

/** The calculator: what is done with each class of requests. For JSON alone, the first two are enough. */
final class Operations {
    private static final ObjectMapper JSON = new ObjectMapper().enable(DeserializationFeature.FAIL_ON_TRAILING_TOKENS);

    private Operations() { }

    /** From the body of a request to what makes that of its reply. Exceptions here say that the former cannot be read. */
    @FunctionalInterface
    interface Reader {
        Callable<byte[]> read(byte[] body) throws IOException, TException;
    }

    /** How one class of requests is answered, which come in one format. */
    record Operation(String format, String replyType, Reader requests) { }

    /** Returns the operations by the content-type of their requests. */
    static Map<String, Operation> of(String service) {
        return Map.of(
            service + ".add", json(service + ".add.Reply", p -> Math.addExact(p.x, p.y)),
            service + ".divide", json(service + ".divide.Reply", p -> divide(p.x, p.y)),
            Calculator.AddRequest.class.getName(),
            protobuf(Calculator.AddRequest.parser(), Calculator.AddResponse.class, r -> Calculator.AddResponse
                .newBuilder().setX(r.getX()).setY(r.getY()).setSum(Math.addExact(r.getX(), r.getY())).build()),
            Calculator.DivideRequest.class.getName(),
            protobuf(Calculator.DivideRequest.parser(), Calculator.DivideResponse.class, r -> Calculator.DivideResponse
                .newBuilder().setQuotient(divide(r.getX(), r.getY())).build()),
            AddRequest.class.getName(),
            thrift(AddResponse.class, AddRequest::new, (AddRequest r) ->
                new AddResponse(r.getX(), r.getY(), Math.addExact(r.getX(), r.getY()))),
            DivideRequest.class.getName(),
            thrift(DivideResponse.class, DivideRequest::new, (DivideRequest r) ->
                new DivideResponse(divide(r.getX(), r.getY()))));
    }

    private static double divide(int x, int y) {
        if (y == 0) {
            throw new ArithmeticException("division by zero"); // of doubles it is infinity, which JSON cannot write
        }
        return (double) x / y;
    }

    /** Plain parameters, which a caller gives by name, {"x": 1, "y": 2}, or by position, [1, 2]. */
    private record Parameters(int x, int y) {
        static Parameters read(byte[] json) throws IOException {
            JsonNode body = JSON.readTree(json);
            JsonNode x = body.isArray() ? body.path(0) : body.path("x");
            JsonNode y = body.isArray() ? body.path(1) : body.path("y");
            if (body.size() != 2 || !x.isInt() || !y.isInt()) {
                throw new IOException("two integers are needed, x and y");
            }
            return new Parameters(x.intValue(), y.intValue());
        }
    }

    private static Operation json(String replyType, Function<Parameters, Object> function) {
        return new Operation("json", replyType, body -> {
            Parameters parameters = Parameters.read(body);
            return () -> JSON.writeValueAsBytes(function.apply(parameters));
        });
    }

    private static <Q, A extends MessageLite> Operation protobuf(
            Parser<Q> request, Class<A> reply, Function<Q, A> function) {
        return new Operation("protobuf", reply.getName(), body -> {
            Q message = request.parseFrom(body);
            return () -> function.apply(message).toByteArray();
        });
    }

    private static <Q extends TBase<?, ?>, A extends TBase<?, ?>> Operation thrift(
            Class<A> reply, Supplier<Q> empty, Function<Q, A> function) {
        return new Operation("thrift", reply.getName(), body -> {
            Q request = empty.get();
            TMemoryInputTransport transport = new TMemoryInputTransport(body);
            request.read(new TBinaryProtocol(transport));
            if (transport.getBytesRemainingInBuffer() > 0) { // which a TDeserializer would not mind
                throw new TException("there are bytes after the end of the struct");
            }
            return () -> new TSerializer().serialize(function.apply(request));
        });
    }
}
