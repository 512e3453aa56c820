"""A publisher and its consumers, on a client of the bench's own (`raw`), the same on every broker.

The publisher keeps up to `window` messages unconfirmed and sends them in batches of half as many. A run has ended when
all its messages are confirmed, and every consumer has said that it received all of them, in order and unchanged.
"""

import selectors
import sys
import time
from dataclasses import dataclass

from pamqp import commands

from amqproxy.frames import BODY, encode_publish, publish_method
from amqproxy.properties import Properties

from .. import control
from ..plan import PREFETCH, SHORTEST, SMALL, Run
from ..raw import CHANNEL, FRAME_MAX, Client, Confirms, Incoming, Outgoing, acks, frames

PROPERTIES = Properties(content_type=b"application/octet-stream", delivery_mode=1).encode()
DONE = b"done"


@dataclass(frozen=True, slots=True)
class Scenario:
    """How messages go from the publisher to the consumers."""

    consumers: int = 1
    """Each has a connection and a queue; with more than one, all are bound to a fanout exchange."""
    prefetch: int = PREFETCH
    """Unacknowledged deliveries; 0 to acknowledge nothing."""

    def publisher(self, queue: str) -> None:
        """Publish until the bench closes the pipe."""
        client, done = Client(control.url()), Client(control.url())
        client.call(commands.Confirm.Select())
        done.call(commands.Queue.Declare(queue=_done(queue), exclusive=True))
        done.consume(_done(queue))
        confirms = Confirms()
        exchange, key = (queue, "") if self.consumers > 1 else ("", _name(queue, 0))
        control.ready(control.version_of("amqproxy"))
        for run in control.runs():
            outgoing = Outgoing(exchange, key, PROPERTIES, SHORTEST if run.size == SMALL else run.size)
            start = time.perf_counter()
            publish(client, confirms, outgoing, run)
            _wait_for_messages(done, self.consumers)
            control.answer(time.perf_counter() - start)

    def consumer(self, queue: str) -> None:
        """Consume until the bench closes the pipe."""
        clients = {Client(control.url()): Incoming() for _ in range(self.consumers)}
        if self.consumers > 1:
            next(iter(clients)).call(
                commands.Exchange.Declare(exchange=queue, exchange_type="fanout", auto_delete=True)
            )
        for number, client in enumerate(clients):
            client.call(commands.Queue.Declare(queue=_name(queue, number), exclusive=True))
            if self.consumers > 1:
                client.call(commands.Queue.Bind(queue=_name(queue, number), exchange=queue))
            client.consume(_name(queue, number), prefetch=self.prefetch)
        with selectors.DefaultSelector() as selector:
            selector.register(sys.stdin, selectors.EVENT_READ)
            for client in clients:
                selector.register(client, selectors.EVENT_READ)
            control.ready(control.version_of("amqproxy"))
            while True:
                for key, _ in selector.select():
                    if not isinstance(key.fileobj, Client):
                        return
                    self._take(key.fileobj, clients[key.fileobj], queue)

    def _take(self, client: Client, incoming: Incoming, queue: str) -> None:
        ended = incoming.runs
        tags = incoming.feed(client.receive())
        if self.prefetch:
            client.send(acks(tags))
        for _ in range(incoming.runs - ended):
            method = publish_method(CHANNEL, b"", _done(queue).encode(), mandatory=False)
            client.send(encode_publish(method, CHANNEL, PROPERTIES, DONE, FRAME_MAX))

    def main(self) -> None:
        """Run one of the two, as the command line says."""
        control.blocking_main(self.publisher, self.consumer)


def publish(client: Client, confirms: Confirms, outgoing: Outgoing, run: Run) -> None:
    """Publish a run of messages, numbered downwards to 0, and return when all are confirmed."""
    before, sent = confirms.count, 0
    batch = max(1, run.window // 2)
    while sent < run.count:
        first = run.count - 1 - sent
        sent = min(sent + batch, run.count)
        client.send(outgoing.batch(range(first, run.count - 1 - sent, -1)))
        while before + sent - confirms.count > run.window - batch:
            confirms.feed(client.receive())
    while confirms.count < before + run.count:
        confirms.feed(client.receive())


def _wait_for_messages(client: Client, count: int) -> None:
    data = b""
    while sum(kind == BODY for kind, _, _ in frames(data)) < count:
        data += client.receive()


def _name(queue: str, number: int) -> str:
    return f"{queue}.{number}"


def _done(queue: str) -> str:
    return f"{queue}.done"


if __name__ == "__main__":
    Scenario().main()
