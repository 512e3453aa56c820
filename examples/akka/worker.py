"""A worker that answers as one of the Akka AMQP proxies does, with pika: its failures have two fields only.

Usage: python worker.py [URL [SERVICE]]
"""

import json
import os
import signal
import sys
from typing import Any

import pika

URL = os.environ.get("AMQPROXY_URL", "amqp://guest:guest@localhost/")


def answer(body: bytes) -> tuple[str, dict[str, Any]]:
    """Return the class and the body of the reply."""
    request = json.loads(body)
    x, y = request["x"], request["y"]
    if x < 0:
        text = "x is negative"
        failure = {"message": text, "throwableAsString": f"java.lang.IllegalArgumentException: {text}"}
        return "com.github.sstone.amqp.proxy.AmqpProxy$ServerFailure", failure
    return "com.github.sstone.amqp.proxy.Demo$AddResponse", {"x": x, "y": y, "sum": x + y}


def on_request(channel: Any, delivery: Any, properties: Any, body: bytes) -> None:
    content_type, reply = answer(body)
    channel.basic_publish(
        exchange="",
        routing_key=properties.reply_to,
        properties=pika.BasicProperties(
            correlation_id=properties.correlation_id, content_type=content_type, content_encoding="json"
        ),
        body=json.dumps(reply),
    )
    channel.basic_ack(delivery.delivery_tag)


def main(url: str = URL, service: str = "shared-calculator") -> None:
    connection = pika.BlockingConnection(pika.URLParameters(url))
    channel = connection.channel()
    channel.queue_declare(service, auto_delete=True)
    channel.basic_qos(prefetch_count=1)
    channel.basic_consume(service, on_request)
    signal.signal(signal.SIGTERM, lambda *_: connection.add_callback_threadsafe(channel.stop_consuming))
    print("ready", flush=True)
    channel.start_consuming()
    connection.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
