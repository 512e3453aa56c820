"""A worker that knows nothing of amqproxy, with pika: adds x and y, and fails as the original does.

Usage: pika_worker.py URL QUEUE; prints `ready` when it consumes.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import pika


def on_request(channel: Any, method: Any, properties: Any, body: bytes) -> None:
    request = json.loads(body)
    content_type = "com.github.sstone.amqp.proxy.Demo$AddResponse"
    response = {"x": request["x"], "y": request["y"], "sum": request["x"] + request["y"]}
    if request["x"] < 0:
        content_type = "com.github.sstone.amqp.proxy.AmqpProxy$ServerFailure"
        response = {
            "message": "x is negative",
            "throwableAsString": "java.lang.IllegalArgumentException: x is negative",
        }
    channel.basic_publish(
        exchange="",
        routing_key=properties.reply_to,
        properties=pika.BasicProperties(
            correlation_id=properties.correlation_id, content_type=content_type, content_encoding="json"
        ),
        body=json.dumps(response),
    )
    channel.basic_ack(method.delivery_tag)


if __name__ == "__main__":
    url, queue = sys.argv[1:]
    connection = pika.BlockingConnection(pika.URLParameters(url))
    channel = connection.channel()
    channel.queue_declare(queue, auto_delete=True)
    channel.basic_qos(prefetch_count=1)
    channel.basic_consume(queue, on_request)
    print("ready", flush=True)
    channel.start_consuming()
