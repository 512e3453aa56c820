"""Calls the calculator over STOMP: PYTHONPATH=examples python examples/stomp/caller.py [URL [SERVICE [ENCODING]]]."""

import json
import sys
import uuid
from concurrent.futures import Future
from typing import Any
from urllib.parse import unquote, urlsplit

import calculator_pb2 as messages
import cramjam
from stomp.connect import StompConnection12
from stomp.listener import ConnectionListener
from stomp.utils import Frame

PACKAGE = "com.github.sstone.amqp.proxy.calculator.Calculator$"
FAILURE = "com.github.sstone.amqp.proxy.AmqpProxy$ServerFailure"
TIMEOUT = 5.0


class Failure(Exception):
    """The worker answered that it could not."""


class Calculator(ConnectionListener):  # type: ignore[misc]  # stomp.py has no types
    def __init__(self, url: str, service: str, encoding: str) -> None:
        # Not /queue/NAME, which would create the queue. Of a name, RabbitMQ wants the slash escaped and nothing else.
        self._queue = f"/amq/queue/{service.replace('/', '%2F')}"
        self._service, self._encoding = service, encoding
        self._replies: dict[str | None, Future[Frame]] = {}
        parts = urlsplit(url)
        self.connection = StompConnection12(
            [(parts.hostname, parts.port or 61613)],
            vhost=unquote(parts.path[1:]) or "/",  # stomp.py's default is the host's name
            auto_decode=False,  # bodies are bytes
            heartbeats=(10_000, 10_000),
        )
        self.connection.set_listener("calculator", self)
        self.connection.connect(unquote(parts.username or "guest"), unquote(parts.password or "guest"), wait=True)

    def call(self, method: str, x: int, y: int) -> Any:
        if self._encoding.endswith("protobuf"):
            content_type = f"{PACKAGE}{method.capitalize()}Request"
            body = getattr(messages, f"{method.capitalize()}Request")(x=x, y=y).SerializeToString()
        else:
            content_type, body = f"{self._service}.{method}", json.dumps({"x": x, "y": y}).encode()
        if self._encoding.startswith("snappy-"):
            body = bytes(cramjam.snappy.compress_raw(body))

        reply = self._request(content_type, body)

        if reply.headers["content-type"] == FAILURE:  # in plain JSON, whatever the request was in
            raise Failure(json.loads(reply.body)["message"])
        body = reply.body
        if self._encoding.startswith("snappy-"):
            body = bytes(cramjam.snappy.decompress_raw(body))
        if self._encoding.endswith("protobuf"):
            return getattr(messages, f"{method.capitalize()}Response").FromString(body)
        return json.loads(body)

    def _request(self, content_type: str, body: bytes) -> Frame:
        correlation_id = str(uuid.uuid4())
        reply = self._replies[correlation_id] = Future()
        headers = {
            "content-encoding": self._encoding,
            "correlation-id": correlation_id,
            "reply-to": "/temp-queue/replies",  # RabbitMQ makes a queue of that, and subscribes us to it
            "expiration": int(TIMEOUT * 1000),  # nobody is to begin what nobody waits for any more
        }
        try:
            self.connection.send(self._queue, body, content_type, headers)
            return reply.result(TIMEOUT)
        finally:
            del self._replies[correlation_id]

    def on_message(self, frame: Frame) -> None:
        if reply := self._replies.get(frame.headers.get("correlation-id")):
            reply.set_result(frame)

    def on_error(self, frame: Frame) -> None:
        print(frame.body.decode(), file=sys.stderr)


def main(
    url: str = "stomp://guest:guest@localhost:61613/", service: str = "calculator", encoding: str = "json"
) -> None:
    calculator = Calculator(url, service, encoding)
    try:
        answer = calculator.call("add", 1, 2)
        print(f"1 + 2 = {answer.sum if encoding.endswith('protobuf') else answer}")
        calculator.call("divide", 1, 0)
    except Failure as failure:
        print(f"1 / 0: {failure}")
    except TimeoutError:  # also when nobody serves it: a STOMP client's messages are never returned
        sys.exit(f"no answer within {TIMEOUT} s: does a worker serve {service!r}?")
    finally:
        calculator.connection.disconnect(receipt="bye")


if __name__ == "__main__":
    main(*sys.argv[1:])
