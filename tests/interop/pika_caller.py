"""A caller that knows nothing of amqproxy: the Python sample of the original Akka AMQP proxies, with pika.

Usage: pika_caller.py URL EXCHANGE ROUTING_KEY ENCODING BODY; prints what came back as one line of JSON.
An ENCODING of - leaves content-encoding out.
"""

from __future__ import annotations

import json
import sys
import uuid
from typing import Any

import pika


class CalculatorClient:
    def __init__(self, url: str) -> None:
        self.connection = pika.BlockingConnection(pika.URLParameters(url))
        self.channel = self.connection.channel()
        self.callback_queue = self.channel.queue_declare(queue="", exclusive=True).method.queue
        self.channel.basic_consume(self.callback_queue, self.on_response, auto_ack=True)
        self.correlation_id = ""
        self.response: dict[str, Any] | None = None

    def on_response(self, channel: Any, method: Any, properties: Any, body: bytes) -> None:
        if properties.correlation_id == self.correlation_id:
            self.response = {
                "content_type": properties.content_type,
                "content_encoding": properties.content_encoding,
                "body": json.loads(body),
            }

    def call(self, exchange: str, routing_key: str, encoding: str | None, body: str) -> dict[str, Any]:
        self.correlation_id = str(uuid.uuid4())
        self.channel.basic_publish(
            exchange=exchange,
            routing_key=routing_key,
            properties=pika.BasicProperties(
                reply_to=self.callback_queue,
                correlation_id=self.correlation_id,
                content_type="com.github.sstone.amqp.proxy.Demo$AddRequest",
                content_encoding=encoding,
            ),
            body=body,
        )
        while self.response is None:
            self.connection.process_data_events(time_limit=None)
        return self.response


if __name__ == "__main__":
    url, exchange, routing_key, encoding, body = sys.argv[1:]
    client = CalculatorClient(url)
    print(json.dumps(client.call(exchange, routing_key, None if encoding == "-" else encoding, body)))
    client.connection.close()
