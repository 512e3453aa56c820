"""Calls a calculator through RabbitMQ with kombu; it needs no amqproxy.

Usage: python examples/python/caller_kombu.py [URL [SERVICE [ENCODING]]]
"""

import json
import os
import sys
import uuid
from typing import Any

from kombu import Connection, Consumer, Producer, Queue

URL = os.environ.get("AMQPROXY_URL", "amqp://guest:guest@localhost/")
FAILURE = "com.github.sstone.amqp.proxy.AmqpProxy$ServerFailure"
SECONDS = 10


class Failure(Exception):
    """What the worker says went wrong."""


class Calculator:
    def __init__(self, connection: Any, service: str) -> None:
        self._connection = connection
        self._service = service
        self._call_id = ""
        self._reply: Any = None
        channel = connection.channel()
        self._queue = Queue(exclusive=True, durable=False, auto_delete=True)(channel)
        self._queue.declare()  # the broker gives it a name
        # With on_message, kombu leaves the body as it came: its serializers go by content type, which is a class here.
        Consumer(channel, self._queue, on_message=self._on_reply, no_ack=True, auto_declare=False).consume()
        self._producer = Producer(channel)

    def add(self, x: int, y: int) -> int:
        return int(self._call("add", x=x, y=y))

    def divide(self, x: int, y: int) -> float:
        return float(self._call("divide", x=x, y=y))

    def _on_reply(self, message: Any) -> None:
        if message.properties.get("correlation_id") == self._call_id:  # else it is late, and its call was given up
            self._reply = message

    def _call(self, method: str, **arguments: int) -> Any:
        self._call_id, self._reply = str(uuid.uuid4()), None
        self._producer.publish(
            json.dumps(arguments).encode(),
            routing_key=self._service,
            content_type=f"{self._service}.{method}",
            content_encoding="json",
            reply_to=self._queue.name,
            correlation_id=self._call_id,
            message_id=self._call_id,
            expiration=SECONDS,
            delivery_mode="transient",
            mandatory=True,  # what comes back is raised by drain_events, as NO_ROUTE
        )
        try:
            while self._reply is None:
                self._connection.drain_events(timeout=SECONDS)
        except TimeoutError:
            raise TimeoutError(f"{self._service} did not answer within {SECONDS} s") from None
        result = json.loads(self._reply.body)
        if self._reply.content_type == FAILURE:
            raise Failure(result["message"])
        return result


def main(url: str = URL, service: str = "calculator", encoding: str = "json") -> None:
    if encoding != "json":
        raise SystemExit("this program speaks JSON only")
    with Connection(url) as connection:
        calculator = Calculator(connection, service)
        print(f"1 + 2 = {calculator.add(1, 2)}")
        try:
            calculator.divide(1, 0)
        except Failure as error:
            print(f"1 / 0: {error}")


if __name__ == "__main__":
    main(*sys.argv[1:])
