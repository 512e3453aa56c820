"""pika's BlockingConnection at both ends, as in RabbitMQ's RPC tutorial, `window` requests ahead."""

import itertools
import json
import time

import pika
from pika.adapters.blocking_connection import BlockingChannel
from pika.spec import Basic, BasicProperties

from .. import control
from ..control import WrongAnswerError
from ..load import Y, filler_for, numbered
from ..plan import PREFETCH, SMALL, Run


class Caller:
    """One window of requests on one channel, with a reply queue of its own."""

    def __init__(self, connection: pika.BlockingConnection, queue: str) -> None:
        """Declare the reply queue and consume from it."""
        self._connection = connection
        self._queue = queue
        self._channel = connection.channel()
        self._replies = self._channel.queue_declare("", exclusive=True).method.queue
        self._channel.basic_consume(self._replies, self._on_reply, auto_ack=True)
        self._waiting: dict[str, int | str] = {}
        self._numbers = itertools.count()

    def run(self, run: Run) -> float:
        """Make the calls and return the seconds they took."""
        filler = filler_for(run.size)
        sent = 0
        start = time.perf_counter()
        while sent < run.count or self._waiting:
            while sent < run.count and len(self._waiting) < run.window:
                if run.size == SMALL:
                    self._publish("add", {"x": sent, "y": Y}, sent + Y)
                else:
                    text = numbered(sent, filler)
                    self._publish("echo", {"text": text}, text)
                sent += 1
            self._connection.process_data_events(time_limit=None)
        return time.perf_counter() - start

    def _publish(self, method: str, arguments: dict[str, int] | dict[str, str], expected: int | str) -> None:
        correlation_id = str(next(self._numbers))
        self._waiting[correlation_id] = expected
        properties = BasicProperties(
            content_type="application/json",
            type=method,
            correlation_id=correlation_id,
            reply_to=self._replies,
        )
        self._channel.basic_publish("", self._queue, json.dumps(arguments).encode(), properties)

    def _on_reply(
        self, channel: BlockingChannel, deliver: Basic.Deliver, properties: BasicProperties, body: bytes
    ) -> None:
        expected = self._waiting.pop(properties.correlation_id)
        answer = json.loads(body)
        if answer != expected:
            raise WrongAnswerError(f"{expected!r:.60} came back as {answer!r:.60}")


def on_request(channel: BlockingChannel, deliver: Basic.Deliver, properties: BasicProperties, body: bytes) -> None:
    """Answer one request, then acknowledge it."""
    arguments = json.loads(body)
    result = arguments["text"] if properties.type == "echo" else arguments["x"] + arguments["y"]
    reply = BasicProperties(content_type="application/json", correlation_id=properties.correlation_id)
    channel.basic_publish("", properties.reply_to, json.dumps(result).encode(), reply)
    channel.basic_ack(deliver.delivery_tag)


def connect() -> pika.BlockingConnection:
    """Connect without heartbeats: nobody would answer them while the caller waits for its next order."""
    parameters = pika.URLParameters(control.url())
    parameters.heartbeat = 0
    return pika.BlockingConnection(parameters)


def caller(queue: str) -> None:
    """Call until the bench closes the pipe."""
    with connect() as connection:
        window = Caller(connection, queue)
        control.ready(control.version_of("pika"))
        for run in control.runs():
            control.answer(window.run(run))


def worker(queue: str) -> None:
    """Serve until the bench closes the pipe."""
    with connect() as connection:
        channel = connection.channel()
        channel.queue_declare(queue, auto_delete=True)
        channel.basic_qos(prefetch_count=PREFETCH)
        channel.basic_consume(queue, on_request)
        control.when_closed(lambda: connection.add_callback_threadsafe(channel.stop_consuming))
        control.ready(control.version_of("pika"))
        channel.start_consuming()


if __name__ == "__main__":
    control.blocking_main(caller, worker)
