"""Serves a calculator through RabbitMQ with kombu, until SIGTERM; it needs no amqproxy.

Usage: python examples/python/worker_kombu.py [URL [SERVICE]]
"""

import contextlib
import json
import logging
import os
import signal
import sys
from collections.abc import Callable, Iterator
from typing import Any

from kombu import Connection, Exchange, Producer, Queue
from kombu.mixins import ConsumerMixin

URL = os.environ.get("AMQPROXY_URL", "amqp://guest:guest@localhost/")
FAILURE = "com.github.sstone.amqp.proxy.AmqpProxy$ServerFailure"


class Refused(Exception):
    """The request is not run; `code` is one of gRPC's status names."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


def add(x: int, y: int) -> int:
    return x + y


def divide(x: int, y: int) -> float:
    return x / y


class Worker(ConsumerMixin):  # type: ignore[misc]  # kombu has no types
    def __init__(self, connection: Any, service: str) -> None:
        self.connection = connection
        self._consuming = False
        self._queue = Queue(service, Exchange("amq.direct", "direct"), routing_key=service)
        self._methods: dict[str, Callable[[int, int], float]] = {f"{service}.add": add, f"{service}.divide": divide}

    def get_consumers(self, consumer: Any, channel: Any) -> list[Any]:
        # With on_message, kombu leaves the body as it came: its serializers go by content type, which is a class here.
        return [consumer([self._queue], on_message=self._on_request, prefetch_count=20)]

    @contextlib.contextmanager
    def extra_context(self, *args: Any) -> Iterator[None]:
        """Around everything that is done while there is a connection."""
        self._consuming = True
        try:
            yield
        finally:
            self._consuming = False

    def stop(self) -> None:
        self.should_stop = True  # it looks once a second, between two requests
        if not self._consuming:
            raise SystemExit  # and never while it tries to connect

    def on_consume_ready(self, *args: Any, **kwargs: Any) -> None:
        print("ready", flush=True)

    def _on_request(self, message: Any) -> None:
        try:
            content_type, body = self._run(message)
        except Exception as error:
            content_type, body = FAILURE, failure(error)
        properties = message.properties
        if properties.get("reply_to"):
            Producer(message.channel).publish(
                json.dumps(body).encode(),
                routing_key=properties["reply_to"],
                content_type=content_type,
                content_encoding="json",
                correlation_id=properties.get("correlation_id") or properties.get("message_id"),
                delivery_mode="transient",
            )
        message.ack()  # last: the request of a worker that dies before goes to another

    def _run(self, message: Any) -> tuple[str, Any]:
        """Return the reply's class and body."""
        if message.content_encoding not in ("json", "", None):
            raise Refused("unimplemented", f"no encoding {message.content_encoding!r} here")
        if not message.content_type:
            raise Refused("invalid_argument", "the request has no content-type")
        method = self._methods.get(message.content_type)
        if method is None:
            raise Refused("unimplemented", f"no method for {message.content_type} here")
        try:
            x, y = parameters(json.loads(message.body))
        except (LookupError, RecursionError, TypeError, ValueError) as error:
            raise Refused("invalid_argument", f"the body is not what it should be: {error!r}") from error
        return f"{message.content_type}.Reply", method(x, y)


def parameters(body: Any) -> tuple[int, int]:
    """An object has them by name, an array by position."""
    x, y = (body["x"], body["y"]) if isinstance(body, dict) else body
    if len(body) != 2 or type(x) is not int or type(y) is not int:
        raise TypeError("two integers are needed, x and y")
    return x, y


def failure(error: Exception) -> dict[str, Any]:
    name = type(error).__name__
    code, executed = (error.code, "no") if isinstance(error, Refused) else ("unknown", "yes")
    return {
        "message": str(error),
        "throwableAsString": f"{name}: {error}",
        "error": {"code": code, "type": name, "retryable": False, "executed": executed},
    }


def main(url: str = URL, service: str = "calculator") -> None:
    logging.basicConfig()  # kombu tries again whenever the broker refuses something, and says so to its log only
    with Connection(url) as connection:
        worker = Worker(connection, service)
        signal.signal(signal.SIGTERM, lambda *_: worker.stop())
        worker.run()


if __name__ == "__main__":
    main(*sys.argv[1:])
