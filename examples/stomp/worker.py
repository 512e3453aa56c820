"""The calculator as a worker over STOMP: PYTHONPATH=examples python examples/stomp/worker.py [URL [SERVICE [TOPIC]]].

With a TOPIC it takes what is sent to /topic/TOPIC, and shares that with the other workers of this SERVICE.
"""

import json
import signal
import socket
import sys
import threading
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import unquote, urlsplit

import calculator_pb2 as messages
import cramjam
from google.protobuf.message import DecodeError
from stomp.connect import StompConnection12
from stomp.listener import ConnectionListener
from stomp.utils import Frame

PACKAGE = "com.github.sstone.amqp.proxy.calculator.Calculator$"
FAILURE = "com.github.sstone.amqp.proxy.AmqpProxy$ServerFailure"
ENCODINGS = ("json", "snappy-json", "protobuf", "snappy-protobuf")
REPLY_QUEUE = "/reply-queue/"
MAX_SIZE = 64 << 20  # a few bytes may claim to hold gigabytes

METHODS: Mapping[str, Callable[[Any, Any], Any]] = {"add": lambda x, y: x + y, "divide": lambda x, y: x / y}


class Refused(Exception):
    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


def answer(service: str, headers: Mapping[str, str], body: bytes) -> tuple[str, str, bytes]:
    """Answer a request with a content-type, a content-encoding and a body."""
    encoding = headers.get("content-encoding") or "json"
    try:
        return run(service, headers.get("content-type", ""), encoding, body)
    except Exception as error:  # whatever it is, the caller is told, and the worker goes on
        kind = type(error).__name__
        code, executed = (error.code, "no") if isinstance(error, Refused) else ("unknown", "yes")
        failure = {
            "message": str(error),
            "throwableAsString": f"{kind}: {error}",
            "error": {"code": code, "type": kind, "retryable": False, "executed": executed},
        }
        return FAILURE, "json", json.dumps(failure).encode()


def run(service: str, content_type: str, encoding: str, body: bytes) -> tuple[str, str, bytes]:
    if not content_type:
        raise Refused("invalid_argument", "the request has no content-type: name a method there")
    if encoding not in ENCODINGS:
        raise Refused("unimplemented", f"no such encoding: {encoding!r}; there are {', '.join(ENCODINGS)}")
    binary = encoding.endswith("protobuf")
    names = {f"{PACKAGE}{name.capitalize()}Request" if binary else f"{service}.{name}": name for name in METHODS}
    if content_type not in names:
        raise Refused("unimplemented", f"no such method: {content_type!r}; there are {', '.join(names)}")
    method = names[content_type]

    try:
        if encoding.startswith("snappy-"):
            if cramjam.snappy.decompress_raw_len(body) > MAX_SIZE:
                raise Refused("resource_exhausted", f"the body holds more than {MAX_SIZE} bytes")
            body = bytes(cramjam.snappy.decompress_raw(body))
        if binary:
            request = getattr(messages, f"{method.capitalize()}Request").FromString(body)
            if not request.IsInitialized():  # which Python's protobuf does not see to
                raise TypeError("a required field is missing")
            x, y = request.x, request.y
        else:
            arguments = json.loads(body)
            x, y = (arguments["x"], arguments["y"]) if isinstance(arguments, dict) else arguments
            if len(arguments) != 2 or type(x) is not int or type(y) is not int:
                raise TypeError("two integers are needed, x and y")
    except (cramjam.DecompressionError, DecodeError, KeyError, RecursionError, TypeError, ValueError) as error:
        raise Refused("invalid_argument", f"the body does not decode: {error}") from error

    result = METHODS[method](x, y)

    if not binary:
        content_type, body = f"{content_type}.Reply", json.dumps(result).encode()
    elif method == "add":
        content_type, body = f"{PACKAGE}AddResponse", messages.AddResponse(x=x, y=y, sum=result).SerializeToString()
    else:
        content_type, body = f"{PACKAGE}DivideResponse", messages.DivideResponse(quotient=result).SerializeToString()
    return content_type, encoding, bytes(cramjam.snappy.compress_raw(body)) if encoding.startswith("snappy-") else body


class Worker(ConnectionListener):  # type: ignore[misc]  # stomp.py has no types
    def __init__(self, url: str, service: str) -> None:
        self.lost = threading.Event()
        self._stopping = False
        self._service = service
        self._busy = threading.Lock()
        parts = urlsplit(url)
        self._connection = StompConnection12(
            [(parts.hostname, parts.port or 61613)],
            vhost=unquote(parts.path[1:]) or "/",  # stomp.py's default is the host's name
            auto_decode=False,  # bodies are bytes
            heartbeats=(10_000, 10_000),
        )
        self._connection.set_listener("worker", self)
        self._connection.connect(unquote(parts.username or "guest"), unquote(parts.password or "guest"), wait=True)
        # An answer and its ACK are two small writes: without this, the second waits 40 ms for the first.
        self._connection.transport.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def subscribe(self, destination: str) -> None:
        headers = {
            # One durable queue for all workers, as amqproxy's own declare it; RabbitMQ binds it to the destination.
            "x-queue-name": self._service,
            "durable": "true",
            "auto-delete": "false",
            "prefetch-count": 10,
            "receipt": "subscribed",
        }
        self._connection.subscribe(destination, "worker", "client-individual", headers)

    def on_receipt(self, frame: Frame) -> None:
        if frame.headers["receipt-id"] == "subscribed" and not self.lost.is_set():
            print("ready", flush=True)

    def on_message(self, frame: Frame) -> None:
        with self._busy:
            if self._stopping:
                return  # not acknowledged, and so another worker gets it
            headers = frame.headers
            content_type, encoding, body = answer(self._service, headers, frame.body)
            correlation_id = headers.get("correlation-id") or headers.get("amqp-message-id", "")
            # What an AMQP client asks to be answered at a queue comes with this prefix. Anything else could be made
            # up to break our connection, and so could an id that is longer than AMQP's 255 bytes.
            reply_to = headers.get("reply-to", "")
            if reply_to.startswith(REPLY_QUEUE) and reply_to != REPLY_QUEUE and len(correlation_id.encode()) < 256:
                about = {"content-encoding": encoding, "correlation-id": correlation_id}
                self._connection.send(reply_to, body, content_type, about)
            self._connection.ack(headers["ack"])

    def on_error(self, frame: Frame) -> None:
        print(frame.body.decode(), file=sys.stderr)
        self.lost.set()

    def on_disconnected(self) -> None:
        self.lost.set()  # stomp.py does not come back by itself; what started this program may start it again

    def close(self) -> None:
        """Finish the request that is being worked on, and go."""
        with self._busy:
            self._stopping = True
        self._connection.disconnect(receipt="bye")


def main(
    url: str = "stomp://guest:guest@localhost:61613/", service: str = "calculator", topic: str | None = None
) -> None:
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C does
    worker = Worker(url, service)
    exchange, key = ("amq.topic", topic) if topic else ("amq.direct", service)
    worker.subscribe(f"/exchange/{exchange}/{key.replace('/', '%2F')}")
    try:
        worker.lost.wait()
        sys.exit("the connection was lost")
    except KeyboardInterrupt:
        worker.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
