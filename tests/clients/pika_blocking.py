"""The scenarios with pika's BlockingConnection.

Usage: pika_blocking.py URL PREFIX; prints what it saw, one scenario a line.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import pika
from pika.adapters.blocking_connection import BlockingChannel
from pika.exceptions import (
    ChannelClosedByBroker,
    NackError,
    ProbableAccessDeniedError,
    ProbableAuthenticationError,
    UnroutableError,
)

from tests.clients.scenarios import BIG, DEATH, HEADERS, PROPERTIES, died, report


class Scenarios:
    """One method a scenario: it is given a channel of its own, and returns what it saw."""

    def __init__(self, url: str, prefix: str) -> None:
        self.url = url
        self.prefix = prefix
        self.connection = pika.BlockingConnection(pika.URLParameters(url))

    def name(self, name: str) -> str:
        return f"{self.prefix}.{name}"

    def channel(self) -> BlockingChannel:
        return self.connection.channel()

    def queue(self, channel: BlockingChannel, name: str = "", **arguments: Any) -> str:
        arguments = {f"x-{key.replace('_', '-')}": value for key, value in arguments.items()}
        declared = channel.queue_declare(name and self.name(name), exclusive=True, arguments=arguments)
        return str(declared.method.queue)

    def exchange(self, channel: BlockingChannel, name: str, kind: str, **arguments: Any) -> str:
        channel.exchange_declare(self.name(name), kind, auto_delete=True, arguments=arguments)
        return self.name(name)

    def bodies(self, channel: BlockingChannel, queue: str) -> list[str]:
        """Take all that is in a queue."""
        got = []
        while (message := channel.basic_get(queue, auto_ack=True))[0]:
            got.append(message[2].decode())
        return got

    def awaited(self, channel: BlockingChannel, queue: str) -> Any:
        """Wait for one message."""
        for message in channel.consume(queue, auto_ack=True, inactivity_timeout=10):
            channel.cancel()
            return message
        raise AssertionError

    def until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            self.connection.process_data_events(time_limit=None)

    def topic(self) -> Any:
        channel = self.channel()
        exchange, queue = self.exchange(channel, "topic", "topic"), self.queue(channel)
        for key in ("log.*.error", "audit.#"):
            channel.queue_bind(queue, exchange, key)
        for key in ("log.db.error", "log.db.info", "log.error", "audit", "audit.a.b"):
            channel.basic_publish(exchange, key, key.encode())
        return self.bodies(channel, queue)

    def fanout(self) -> Any:
        channel = self.channel()
        exchange = self.exchange(channel, "fanout", "fanout")
        queues = [self.queue(channel), self.queue(channel)]
        for queue in queues:
            channel.queue_bind(queue, exchange)
        channel.basic_publish(exchange, "any", b"news")
        return [self.bodies(channel, queue) for queue in queues]

    def headers(self) -> Any:
        channel = self.channel()
        exchange = self.exchange(channel, "headers", "headers")
        queues = {"all": self.queue(channel), "any": self.queue(channel)}
        for match, queue in queues.items():
            channel.queue_bind(queue, exchange, arguments={"x-match": match, "kind": "pdf", "pages": 2})
        for body, sent in {
            "both": {"kind": "pdf", "pages": 2},
            "one": {"kind": "pdf"},
            "none": {"kind": "png"},
        }.items():
            channel.basic_publish(exchange, "", body.encode(), pika.BasicProperties(headers=sent))
        return {match: self.bodies(channel, queue) for match, queue in queues.items()}

    def exchange_binding(self) -> Any:
        channel = self.channel()
        source, sink = self.exchange(channel, "source", "fanout"), self.exchange(channel, "sink", "direct")
        queue = self.queue(channel)
        channel.queue_bind(queue, sink, "key")
        channel.exchange_bind(sink, source)
        channel.basic_publish(source, "key", b"hop")
        return self.bodies(channel, queue)

    def alternate_exchange(self) -> Any:
        channel = self.channel()
        stray = self.exchange(channel, "stray", "fanout")
        exchange = self.exchange(channel, "strict", "direct", **{"alternate-exchange": stray})
        queue, other = self.queue(channel), self.queue(channel)
        channel.queue_bind(queue, stray)
        channel.queue_bind(other, exchange, "known")
        channel.basic_publish(exchange, "unknown", b"lost and found")
        return self.bodies(channel, queue)

    def confirms(self) -> Any:
        channel = self.channel()
        channel.confirm_delivery()
        queue = self.queue(channel)
        for number in range(3):
            channel.basic_publish("", queue, str(number).encode())  # raises unless it is acknowledged
        return self.bodies(channel, queue)

    def mandatory(self) -> Any:
        channel = self.channel()
        channel.confirm_delivery()
        try:
            channel.basic_publish("", self.name("nowhere"), b"lost", mandatory=True)
        except UnroutableError as error:
            (message,) = error.messages
            method = message.method
            return [method.reply_code, method.reply_text, method.exchange, method.routing_key, message.body.decode()]

    def reject_publish(self) -> Any:
        channel = self.channel()
        channel.confirm_delivery()
        queue = self.queue(channel, max_length=1, overflow="reject-publish")
        accepted = []
        for _ in range(2):
            try:
                channel.basic_publish("", queue, b"")
                accepted.append(True)
            except NackError:
                accepted.append(False)
        return accepted

    def prefetch(self) -> Any:
        channel = self.channel()
        queue = self.queue(channel, "prefetch")
        for number in range(5):
            channel.basic_publish("", queue, str(number).encode())
        channel.basic_qos(prefetch_count=2)
        tags: list[int] = []
        channel.basic_consume(queue, lambda channel, method, *_: tags.append(method.delivery_tag))
        self.until(lambda: len(tags) == 2)
        waiting = channel.queue_declare(queue, passive=True).method.message_count
        channel.basic_ack(tags[-1], multiple=True)
        self.until(lambda: len(tags) == 4)
        channel.basic_ack(tags[-1], multiple=True)
        self.until(lambda: len(tags) == 5)
        return [waiting, len(tags)]

    def requeue(self) -> Any:
        channel = self.channel()
        queue = self.queue(channel)
        channel.basic_publish("", queue, b"again")
        redelivered = []
        for method, _, _ in channel.consume(queue, inactivity_timeout=10):
            redelivered.append(method.redelivered)
            if len(redelivered) == 1:
                channel.basic_nack(method.delivery_tag)
            elif len(redelivered) == 2:
                channel.basic_reject(method.delivery_tag)
            else:
                channel.basic_ack(method.delivery_tag)
                break
        return redelivered

    def get(self) -> Any:
        channel = self.channel()
        queue = self.queue(channel)
        empty = channel.basic_get(queue)[0] is None
        for body in (b"one", b"two"):
            channel.basic_publish("", queue, body)
        method, _, body = channel.basic_get(queue)
        channel.basic_ack(method.delivery_tag)
        return [empty, body.decode(), method.message_count, method.redelivered]

    def purge_and_delete(self) -> Any:
        channel = self.channel()
        queue = self.queue(channel)
        for _ in range(3):
            channel.basic_publish("", queue, b"")
        purged = channel.queue_purge(queue).method.message_count
        channel.basic_publish("", queue, b"")
        return [purged, channel.queue_delete(queue).method.message_count]

    def dead_letter(self) -> Any:
        channel = self.channel()
        dead = self.queue(channel)
        queue = self.queue(channel, "work", dead_letter_exchange="", dead_letter_routing_key=dead)
        channel.basic_publish("", queue, b"poison")
        method, _, _ = channel.basic_get(queue)
        channel.basic_reject(method.delivery_tag, requeue=False)
        _, properties, body = self.awaited(channel, dead)
        first = properties.headers["x-first-death-reason"]
        return [body.decode(), first, *died(properties.headers, *DEATH)]

    def time_to_live(self) -> Any:
        channel = self.channel()
        dead = self.queue(channel)
        queue = self.queue(channel, "ttl", message_ttl=60_000, dead_letter_exchange="", dead_letter_routing_key=dead)
        channel.basic_publish("", queue, b"old", pika.BasicProperties(expiration="20"))
        _, properties, body = self.awaited(channel, dead)
        died_of = died(properties.headers, "reason", "original-expiration")
        return [body.decode(), *died_of, properties.expiration]

    def max_length(self) -> Any:
        channel = self.channel()
        queue = self.queue(channel, max_length=2)
        for number in range(3):
            channel.basic_publish("", queue, str(number).encode())
        return self.bodies(channel, queue)

    def priorities(self) -> Any:
        channel = self.channel()
        queue = self.queue(channel, max_priority=5)
        for priority in (1, 5, 3):
            channel.basic_publish("", queue, str(priority).encode(), pika.BasicProperties(priority=priority))
        return self.bodies(channel, queue)

    def server_named(self) -> Any:
        return self.queue(self.channel())[:8]

    def exclusive(self) -> Any:
        queue = self.queue(self.channel(), "mine")
        with pika.BlockingConnection(pika.URLParameters(self.url)) as other:
            return self.refusal(other.channel(), lambda channel: channel.queue_declare(queue, passive=True))

    def cancel_notify(self) -> Any:
        channel = self.channel()
        queue = self.queue(channel)
        cancelled: list[str] = []
        channel.add_on_cancel_callback(lambda frame: cancelled.append(frame.method.consumer_tag))
        tag = channel.basic_consume(queue, lambda *_: None)
        self.channel().queue_delete(queue)
        self.until(lambda: bool(cancelled))
        return cancelled == [tag]

    def reply_to(self) -> Any:
        server, channel = self.channel(), self.channel()
        queue = self.queue(server)
        answers: list[str] = []
        channel.basic_consume("amq.rabbitmq.reply-to", lambda *args: answers.append(args[3].decode()), auto_ack=True)
        asked = pika.BasicProperties(reply_to="amq.rabbitmq.reply-to", correlation_id="7")
        channel.basic_publish("", queue, b"ping", asked)
        _, properties, body = self.awaited(server, queue)
        server.basic_publish("", properties.reply_to, body + b" pong " + properties.correlation_id.encode())
        self.until(lambda: bool(answers))
        return answers

    def transaction(self) -> Any:
        channel = self.channel()
        queue = self.queue(channel)
        channel.tx_select()
        counts = []
        for end in (channel.tx_rollback, channel.tx_commit):
            channel.basic_publish("", queue, b"")
            end()
            counts.append(channel.queue_declare(queue, passive=True).method.message_count)
        return counts

    def missing_queue(self) -> Any:
        refused = self.refusal(self.channel(), lambda channel: channel.queue_declare(self.name("no"), passive=True))
        return [*refused, self.channel().is_open]

    def inequivalent(self) -> Any:
        queue = self.queue(self.channel(), "odd", max_length=1)
        return self.refusal(
            self.channel(),
            lambda channel: channel.queue_declare(queue, exclusive=True, arguments={"x-max-length": 2}),
        )

    def unknown_tag(self) -> Any:
        def ack(channel: BlockingChannel) -> None:
            channel.basic_ack(99)
            channel.queue_declare("", exclusive=True)  # pika hears of it with the next answer

        return self.refusal(self.channel(), ack)

    def refusal(self, channel: BlockingChannel, action: Any) -> list[Any]:
        try:
            action(channel)
        except ChannelClosedByBroker as error:
            return [error.reply_code, error.reply_text]
        return []

    def properties(self) -> Any:
        channel = self.channel()
        queue = self.queue(channel)
        channel.basic_publish("", queue, b"", pika.BasicProperties(headers=HEADERS, **PROPERTIES))
        _, got, _ = channel.basic_get(queue, auto_ack=True)
        return [{name: getattr(got, name) for name in PROPERTIES}, got.headers]

    def big_body(self) -> Any:
        channel = self.channel()
        queue = self.queue(channel)
        channel.basic_publish("", queue, BIG)
        _, _, body = channel.basic_get(queue, auto_ack=True)
        return body == BIG

    def wrong_password(self) -> Any:
        parameters = pika.URLParameters(self.url)
        parameters.credentials = pika.PlainCredentials("guest", "wrong")
        return self.is_refused(parameters, ProbableAuthenticationError)

    def missing_vhost(self) -> Any:
        parameters = pika.URLParameters(self.url)
        parameters.virtual_host = self.name("vhost")
        return self.is_refused(parameters, ProbableAccessDeniedError)

    def is_refused(self, parameters: pika.Parameters, error: type[Exception]) -> bool:
        try:
            pika.BlockingConnection(parameters)
        except error:
            return True
        return False

    def close(self) -> Any:
        self.connection.close()
        return self.connection.is_closed


if __name__ == "__main__":
    report(Scenarios(*sys.argv[1:]))
