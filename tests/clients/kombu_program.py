"""The scenarios with kombu, over py-amqp.

Usage: kombu_program.py URL PREFIX; prints what it saw, one scenario a line.
"""

from __future__ import annotations

import contextlib
import socket
import sys
from collections.abc import Callable, Iterator
from typing import Any

from amqp.exceptions import AccessRefused, ChannelError, MessageNacked, NotAllowed
from kombu import Connection, Consumer, Exchange, Producer, Queue

from tests.clients.scenarios import BIG, DEATH, HEADERS, PROPERTIES, died, report

PATIENCE = 10


class Scenarios:
    """One method a scenario: it is given a channel of its own, and returns what it saw."""

    def __init__(self, url: str, prefix: str) -> None:
        self.url = url
        self.prefix = prefix
        self.connection = Connection(url)
        self.connection.connect()

    def name(self, name: str) -> str:
        return f"{self.prefix}.{name}"

    def queue(self, channel: Any, name: str = "", exchange: Exchange | None = None, **options: Any) -> Any:
        queue = Queue(name and self.name(name), exchange, durable=False, exclusive=True, **options)(channel)
        queue.declare()
        return queue

    def exchange(self, channel: Any, name: str, kind: str, **options: Any) -> Any:
        exchange = Exchange(self.name(name), kind, durable=False, auto_delete=True, **options)(channel)
        exchange.declare()
        return exchange

    def send(self, queue: Any, *bodies: str, **properties: Any) -> None:
        producer = Producer(queue.channel, routing_key=queue.name)
        for body in bodies:
            producer.publish(body, **properties)

    def bodies(self, queue: Any) -> list[str]:
        """Take all that is in a queue."""
        got = []
        while (message := queue.get(no_ack=True)) is not None:
            got.append(message.payload)
        return got

    @contextlib.contextmanager
    def consumed(self, queue: Any, **options: Any) -> Iterator[Callable[[int], list[Any]]]:
        """Consume; the function that is given waits until there have been so many messages."""
        messages: list[Any] = []

        def until(count: int) -> list[Any]:
            while len(messages) < count:
                self.connection.drain_events(timeout=PATIENCE)
            return messages

        with Consumer(queue.channel, [queue], on_message=messages.append, auto_declare=False, **options):
            yield until

    def awaited(self, queue: Any) -> Any:
        with self.consumed(queue, no_ack=True) as messages:
            return messages(1)[0]

    def topic(self) -> Any:
        channel = self.connection.channel()
        exchange = self.exchange(channel, "topic", "topic")
        queue = self.queue(channel, exchange=exchange, routing_key="log.*.error")
        queue.bind_to(exchange, routing_key="audit.#")
        producer = Producer(channel, exchange)
        for key in ("log.db.error", "log.db.info", "log.error", "audit", "audit.a.b"):
            producer.publish(key, routing_key=key)
        return self.bodies(queue)

    def fanout(self) -> Any:
        channel = self.connection.channel()
        exchange = self.exchange(channel, "fanout", "fanout")
        queues = [self.queue(channel, exchange=exchange) for _ in range(2)]
        Producer(channel, exchange).publish("news", routing_key="any")
        return [self.bodies(queue) for queue in queues]

    def headers(self) -> Any:
        channel = self.connection.channel()
        exchange = self.exchange(channel, "headers", "headers")
        queues = {
            match: self.queue(channel, "", exchange, binding_arguments={"x-match": match, "kind": "pdf", "pages": 2})
            for match in ("all", "any")
        }
        producer = Producer(channel, exchange)
        for body, sent in {
            "both": {"kind": "pdf", "pages": 2},
            "one": {"kind": "pdf"},
            "none": {"kind": "png"},
        }.items():
            producer.publish(body, headers=sent)
        return {match: self.bodies(queue) for match, queue in queues.items()}

    def exchange_binding(self) -> Any:
        channel = self.connection.channel()
        source, sink = self.exchange(channel, "source", "fanout"), self.exchange(channel, "sink", "direct")
        queue = self.queue(channel, exchange=sink, routing_key="key")
        sink.bind_to(source)
        Producer(channel, source).publish("hop", routing_key="key")
        return self.bodies(queue)

    def alternate_exchange(self) -> Any:
        channel = self.connection.channel()
        stray = self.exchange(channel, "stray", "fanout")
        exchange = self.exchange(channel, "strict", "direct", arguments={"alternate-exchange": stray.name})
        queue = self.queue(channel, exchange=stray)
        self.queue(channel, exchange=exchange, routing_key="known")
        Producer(channel, exchange).publish("lost and found", routing_key="unknown")
        return self.bodies(queue)

    def confirms(self) -> Any:
        with self.confirming() as connection:
            queue = self.queue(connection.channel())
            self.send(queue, "0", "1", "2")
            return self.bodies(queue)

    def mandatory(self) -> Any:
        returned: list[Any] = []
        channel = self.connection.channel()
        producer = Producer(channel, on_return=lambda *back: returned.append(back))
        producer.publish("lost", routing_key=self.name("nowhere"), mandatory=True)
        while not returned:
            self.connection.drain_events(timeout=PATIENCE)
        error, exchange, routing_key, message = returned[0]
        return [error.reply_code, error.reply_text, exchange, routing_key, message.body]

    def reject_publish(self) -> Any:
        accepted = []
        with self.confirming() as connection:
            queue = self.queue(connection.channel(), max_length=1, queue_arguments={"x-overflow": "reject-publish"})
            for _ in range(2):
                try:
                    self.send(queue, "")
                    accepted.append(True)
                except MessageNacked:
                    accepted.append(False)
        return accepted

    def confirming(self) -> Any:
        return Connection(self.url, transport_options={"confirm_publish": True})

    def prefetch(self) -> Any:
        queue = self.queue(self.connection.channel(), "prefetch")
        self.send(queue, *"01234")
        with self.consumed(queue, prefetch_count=2) as messages:
            messages(2)
            waiting = queue.queue_declare(passive=True).message_count
            messages(2)[1].channel.basic_ack(messages(2)[1].delivery_tag, multiple=True)
            messages(4)[3].channel.basic_ack(messages(4)[3].delivery_tag, multiple=True)
            return [waiting, len(messages(5))]

    def requeue(self) -> Any:
        queue = self.queue(self.connection.channel())
        self.send(queue, "again")
        with self.consumed(queue) as messages:
            messages(1)[0].requeue()
            messages(2)[1].reject(requeue=True)
            messages(3)[2].ack()
            return [message.delivery_info["redelivered"] for message in messages(3)]

    def get(self) -> Any:
        queue = self.queue(self.connection.channel())
        empty = queue.get() is None
        self.send(queue, "one", "two")
        message = queue.get()
        message.ack()
        info = message.delivery_info
        return [empty, message.payload, info["message_count"], info["redelivered"]]

    def purge_and_delete(self) -> Any:
        queue = self.queue(self.connection.channel())
        self.send(queue, "", "", "")
        purged = queue.purge()
        self.send(queue, "")
        return [purged, queue.delete()]

    def dead_letter(self) -> Any:
        channel = self.connection.channel()
        dead = self.queue(channel)
        queue = self.queue(channel, "work", queue_arguments=to_dead_letter(dead))
        self.send(queue, "poison")
        queue.get().reject()
        message = self.awaited(dead)
        first = message.headers["x-first-death-reason"]
        return [message.payload, first, *died(message.headers, *DEATH)]

    def time_to_live(self) -> Any:
        channel = self.connection.channel()
        dead = self.queue(channel)
        queue = self.queue(channel, message_ttl=60, queue_arguments=to_dead_letter(dead))
        self.send(queue, "old", expiration=0.02)
        message = self.awaited(dead)
        left = message.properties.get("expiration")
        return [message.payload, *died(message.headers, "reason", "original-expiration"), left]

    def max_length(self) -> Any:
        queue = self.queue(self.connection.channel(), max_length=2)
        self.send(queue, "0", "1", "2")
        return self.bodies(queue)

    def priorities(self) -> Any:
        queue = self.queue(self.connection.channel(), max_priority=5)
        for priority in (1, 5, 3):
            self.send(queue, str(priority), priority=priority)
        return self.bodies(queue)

    def server_named(self) -> Any:
        return self.queue(self.connection.channel()).name[:8]

    def exclusive(self) -> Any:
        queue = self.queue(self.connection.channel(), "mine")
        with Connection(self.url) as other:
            return self.refusal(lambda: queue(other.channel()).queue_declare(passive=True))

    def reply_to(self) -> Any:
        server, client = self.connection.channel(), self.connection.channel()
        queue = self.queue(server)
        pseudo = Queue("amq.rabbitmq.reply-to", no_declare=True)(client)
        with self.consumed(pseudo, no_ack=True) as answers:
            asking = Producer(client, routing_key=queue.name)
            asking.publish("ping", reply_to=pseudo.name, correlation_id="7")
            asked = self.awaited(queue)
            answer = f"{asked.payload} pong {asked.properties['correlation_id']}"
            Producer(server).publish(answer, routing_key=asked.properties["reply_to"])
            return [message.payload for message in answers(1)]

    def missing_queue(self) -> Any:
        missing = Queue(self.name("no"))(self.connection.channel())
        refused = self.refusal(lambda: missing.queue_declare(passive=True))
        return [*refused, self.connection.connected]

    def inequivalent(self) -> Any:
        self.queue(self.connection.channel(), "odd", max_length=1)
        return self.refusal(lambda: self.queue(self.connection.channel(), "odd", max_length=2))

    def unknown_tag(self) -> Any:
        channel = self.connection.channel()

        def acknowledge() -> None:
            channel.basic_ack(99)
            channel.queue_declare("", exclusive=True)  # the refusal comes before its answer

        return self.refusal(acknowledge)

    def refusal(self, action: Callable[[], Any]) -> list[Any]:
        try:
            action()
        except ChannelError as error:
            return [error.reply_code, error.reply_text]
        return []

    def properties(self) -> Any:
        queue = self.queue(self.connection.channel())
        self.send(queue, "", headers=HEADERS, **{**PROPERTIES, "expiration": 60})
        message = queue.get(no_ack=True)
        saw = {**message.properties, "content_type": message.content_type, "content_encoding": message.content_encoding}
        return [{name: saw[name] for name in PROPERTIES}, message.headers]

    def big_body(self) -> Any:
        queue = self.queue(self.connection.channel())
        Producer(queue.channel, routing_key=queue.name).publish(BIG)
        return queue.get(no_ack=True).payload == BIG

    def recovery(self) -> Any:
        """A publishing with retries goes through although the socket is lost; it declares its queue anew."""
        with Connection(self.url) as lossy:
            queue = Queue(self.name("recovered"), expires=60)
            producer = Producer(lossy)
            producer.publish("before", routing_key=queue.name, declare=[queue])
            lossy.connection.transport.sock.shutdown(socket.SHUT_RDWR)
            producer.publish("after", routing_key=queue.name, declare=[queue], retry=True)
            return self.bodies(queue(producer.channel))[-1]

    def wrong_password(self) -> Any:
        return self.is_refused(Connection(self.url.replace("guest:guest", "guest:wrong")), AccessRefused)

    def missing_vhost(self) -> Any:
        return self.is_refused(Connection(self.url + self.name("vhost")), NotAllowed)

    def is_refused(self, connection: Connection, error: type[Exception]) -> bool:
        try:
            connection.connect()
        except error:
            return True
        return False

    def close(self) -> Any:
        self.connection.close()
        return not self.connection.connected


def to_dead_letter(queue: Any) -> dict[str, str]:
    return {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": queue.name}


if __name__ == "__main__":
    report(Scenarios(*sys.argv[1:]))
