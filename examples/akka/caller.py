"""What a Python client of the Akka AMQP proxies sends, with pika: four properties and a JSON body.

Usage: python caller.py [URL [SERVICE]]; examples/shared_messages.py has the service.
"""

import json
import os
import sys
import uuid
from typing import Any

import pika


class Calculator:
    def __init__(self, url: str, service: str) -> None:
        self._service = service
        self._connection = pika.BlockingConnection(pika.URLParameters(url))
        self._channel = self._connection.channel()
        self._reply_queue = self._channel.queue_declare("", exclusive=True, auto_delete=True).method.queue

    def add(self, x: int, y: int) -> int:
        correlation_id = str(uuid.uuid4())
        self._channel.basic_publish(
            exchange="",
            routing_key=self._service,
            properties=pika.BasicProperties(
                reply_to=self._reply_queue,
                correlation_id=correlation_id,
                content_type="com.github.sstone.amqp.proxy.Demo$AddRequest",
                content_encoding="json",
            ),
            body=json.dumps({"x": x, "y": y}),
        )
        for _, properties, body in self._channel.consume(self._reply_queue, auto_ack=True, inactivity_timeout=10):
            if properties is None:
                raise TimeoutError(f"no answer from {self._service}")
            if properties.correlation_id == correlation_id:
                return self._sum(properties, json.loads(body))
        raise ConnectionError("the broker took the reply queue away")

    def _sum(self, properties: Any, reply: dict[str, Any]) -> int:
        if properties.content_type.endswith("$ServerFailure"):
            raise RuntimeError(reply["message"])
        return int(reply["sum"])

    def close(self) -> None:
        self._connection.close()


if __name__ == "__main__":
    arguments = sys.argv[1:]
    url = arguments[0] if arguments else os.environ.get("AMQPROXY_URL", "amqp://guest:guest@localhost/")
    calculator = Calculator(url, arguments[1] if len(arguments) > 1 else "shared-calculator")
    print(f"1 + 2 = {calculator.add(1, 2)}")
    calculator.close()
