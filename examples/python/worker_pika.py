"""Serves a calculator through RabbitMQ with pika, until SIGTERM; it needs no amqproxy.

Usage: PYTHONPATH=examples python examples/python/worker_pika.py [URL [SERVICE]]
"""

import contextlib
import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import calculator_pb2 as protobuf
import cramjam
import pika
from calculator_thrift import ttypes as thrift
from google.protobuf.message import Message
from thrift.protocol.TBinaryProtocol import TBinaryProtocol
from thrift.transport.TTransport import TMemoryBuffer
from thrift.TSerialization import serialize

URL = os.environ.get("AMQPROXY_URL", "amqp://guest:guest@localhost/")
FAILURE = "com.github.sstone.amqp.proxy.AmqpProxy$ServerFailure"
PACKAGE = "com.github.sstone.amqp.proxy.calculator"
MAX_SIZE = 64 << 20  # a few bytes may claim to hold gigabytes


class Refused(Exception):
    """The request is not run; `code` is one of gRPC's status names."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@contextlib.contextmanager
def reading() -> Iterator[None]:
    """Each library has its own exceptions for what it cannot read."""
    try:
        yield
    except Refused:
        raise
    except Exception as error:
        raise Refused("invalid_argument", f"the body is not what it should be: {error!r}") from error


def add(x: int, y: int) -> int:
    return x + y


def divide(x: int, y: int) -> float:
    return x / y


# Each handler takes the body of a request, and returns the class and the body of the reply.
Handler = Callable[[bytes], tuple[str, bytes]]


def plain(reply_class: str, method: Callable[[int, int], float], body: bytes) -> tuple[str, bytes]:
    """In JSON: an object by name or an array by position, and the bare result."""
    with reading():
        arguments = json.loads(body)
        x, y = (arguments["x"], arguments["y"]) if isinstance(arguments, dict) else arguments
        if len(arguments) != 2 or type(x) is not int or type(y) is not int:
            raise TypeError("two integers are needed, x and y")
    return reply_class, json.dumps(method(x, y)).encode()


def check_required(message: Message) -> None:
    """Python's protobuf takes messages that lack required fields."""
    if not message.IsInitialized():
        raise ValueError("a required field is missing")


def add_protobuf(body: bytes) -> tuple[str, bytes]:
    with reading():
        request = protobuf.AddRequest.FromString(body)
        check_required(request)
    response = protobuf.AddResponse(x=request.x, y=request.y, sum=add(request.x, request.y))
    return f"{PACKAGE}.Calculator$AddResponse", response.SerializeToString()


def divide_protobuf(body: bytes) -> tuple[str, bytes]:
    with reading():
        request = protobuf.DivideRequest.FromString(body)
        check_required(request)
    response = protobuf.DivideResponse(quotient=divide(request.x, request.y))
    return f"{PACKAGE}.Calculator$DivideResponse", response.SerializeToString()


def read_thrift(struct: Any, body: bytes) -> Any:
    """As thrift's deserialize does, which takes structs that lack required fields, and bytes after their end."""
    with reading():
        transport = TMemoryBuffer(body)
        struct.read(TBinaryProtocol(transport))
        struct.validate()
        if transport.read(1):
            raise ValueError("there are bytes after the end of the struct")
    return struct


def add_thrift(body: bytes) -> tuple[str, bytes]:
    request = read_thrift(thrift.AddRequest(), body)
    response = thrift.AddResponse(request.x, request.y, add(request.x, request.y))
    return f"{PACKAGE}.AddResponse", serialize(response)


def divide_thrift(body: bytes) -> tuple[str, bytes]:
    request = read_thrift(thrift.DivideRequest(), body)
    return f"{PACKAGE}.DivideResponse", serialize(thrift.DivideResponse(divide(request.x, request.y)))


def snappy(handler: Handler, body: bytes) -> tuple[str, bytes]:
    with reading():
        if cramjam.snappy.decompress_raw_len(body) > MAX_SIZE:
            raise Refused("resource_exhausted", f"the body holds more than {MAX_SIZE} bytes")
        body = bytes(cramjam.snappy.decompress_raw(body))
    reply_class, reply = handler(body)
    return reply_class, bytes(cramjam.snappy.compress_raw(reply))


def handlers(service: str) -> dict[str, dict[str, Handler]]:
    """What is served: by encoding, and then by the class of the request."""
    served: dict[str, dict[str, Handler]] = {
        "json": {
            f"{service}.add": partial(plain, f"{service}.add.Reply", add),
            f"{service}.divide": partial(plain, f"{service}.divide.Reply", divide),
        },
        "protobuf": {
            f"{PACKAGE}.Calculator$AddRequest": add_protobuf,
            f"{PACKAGE}.Calculator$DivideRequest": divide_protobuf,
        },
        "thrift": {
            f"{PACKAGE}.AddRequest": add_thrift,
            f"{PACKAGE}.DivideRequest": divide_thrift,
        },
    }
    for encoding in tuple(served):
        served[f"snappy-{encoding}"] = {name: partial(snappy, handler) for name, handler in served[encoding].items()}
    return served


def run(served: dict[str, dict[str, Handler]], properties: Any, body: bytes) -> tuple[str, str, bytes]:
    """Return the reply's class, encoding and body."""
    encoding = properties.content_encoding or "json"
    try:
        if encoding not in served:
            raise Refused("unimplemented", f"no encoding {encoding!r} here")
        if properties.content_type is None:
            raise Refused("invalid_argument", "the request has no content-type")
        if properties.content_type not in served[encoding]:
            raise Refused("unimplemented", f"no method for {properties.content_type} in {encoding} here")
        reply_class, reply = served[encoding][properties.content_type](body)
    except Exception as error:
        name = type(error).__name__
        code, executed = (error.code, "no") if isinstance(error, Refused) else ("unknown", "yes")
        failure = {
            "message": str(error),
            "throwableAsString": f"{name}: {error}",
            "error": {"code": code, "type": name, "retryable": False, "executed": executed},
        }
        return FAILURE, "json", json.dumps(failure).encode()
    return reply_class, encoding, reply


def main(url: str = URL, service: str = "calculator") -> None:
    served = handlers(service)

    def on_request(channel: Any, delivery: Any, properties: Any, body: bytes) -> None:
        reply_class, encoding, reply = run(served, properties, body)
        if properties.reply_to:
            answer = pika.BasicProperties(
                content_type=reply_class,
                content_encoding=encoding,
                correlation_id=properties.correlation_id or properties.message_id,
                delivery_mode=pika.DeliveryMode.Transient,
            )
            channel.basic_publish("", properties.reply_to, reply, answer)
        channel.basic_ack(delivery.delivery_tag)  # last: the request of a worker that dies before goes to another

    connection = pika.BlockingConnection(pika.URLParameters(url))
    channel = connection.channel()
    channel.queue_declare(service, durable=True)
    channel.queue_bind(service, "amq.direct", service)
    channel.basic_qos(prefetch_count=20)
    cancelled: list[Any] = []
    channel.add_on_cancel_callback(cancelled.append)
    channel.basic_consume(service, on_request)
    # A handler is never interrupted: what pika is told here, it does between two requests.
    signal.signal(signal.SIGTERM, lambda *_: connection.add_callback_threadsafe(channel.stop_consuming))
    print("ready", flush=True)
    channel.start_consuming()
    connection.close()
    if cancelled:
        sys.exit("the queue was deleted")


if __name__ == "__main__":
    main(*sys.argv[1:])
