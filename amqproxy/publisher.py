"""The half of a connection that sends one-way messages: they go out, and the broker confirms them.

A `Publisher` is a line whose channel is in confirm mode, with the messages on it that are not confirmed. A message that
is refused is answered by basic.nack; one that no queue takes by basic.return, and confirmed after that
(https://www.rabbitmq.com/docs/confirms).
"""

from __future__ import annotations

import os
from base64 import urlsafe_b64encode
from typing import TYPE_CHECKING

from .answer import Answer, Reply
from .confirms import Confirms
from .errors import TopologyConflict, Unroutable
from .line import Line, Refused, Returned, no_exchange
from .lines import Lines, Shared, Waiting
from .properties import Properties
from .topology import DELAY_LEASE_SECONDS, Exchange, Queue

if TYPE_CHECKING:
    from .connection import Connection
    from .link import Link

CONFIRMED: Reply = (None, None, b"")
"""What a confirmed message is answered with: whoever awaits it only wants to know that."""

RENEW_SECONDS = 60.0
"""A delay queue that was declared longer ago than this is declared again."""
MAX_LEASES = 1024
"""So many delay queues are remembered at least."""


class Publisher(Line):
    """One channel in confirm mode, and the messages that are out on it."""

    __slots__ = ()

    confirms = True

    def __init__(self, max_in_flight: int) -> None:
        # As `secrets` does, without importing all of hashlib. The ids are ours alone, on each channel of each process.
        super().__init__(b"", max_in_flight, urlsafe_b64encode(os.urandom(12)), b"")
        self.calls: Confirms[Answer] = Confirms(lambda number: self._format % (self._prefix, number))

    # What the lane tells (frames.ContentSink)

    def confirmed(self, tag: int, multiple: bool, accepted: bool) -> None:
        """The broker has these messages, or refuses them."""
        for answer in self.calls.confirmed(tag, multiple, self._counter):
            if accepted:
                answer.give(CONFIRMED)
            else:
                answer.fail(Refused())
        if not accepted:
            self.on_refused()

    def returned(self, code: int, text: bytes, routing_key: bytes, header: bytes, body: bytes) -> None:
        """No queue takes a message; it will be confirmed nevertheless."""
        properties = Properties.decode(header)  # as we wrote them
        id = properties.correlation_id or properties.message_id or b""
        self.fail(id, Returned(f"{code} {text.decode(errors='replace')}"))

    def delivered(self, tag: int, redelivered: bool, header: bytes, body: bytes) -> None:
        """Nothing is consumed here."""

    def too_large(self, tag: int, header: bytes, size: int) -> None:
        """As `delivered`."""


class Publishers:
    """All publishers of one connection."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.delays = Delays(connection)
        self._lines = Lines(connection, self._open)

    async def line(self, exchange: str, deadline: float) -> Publisher:
        """The publisher for an exchange, ready to send; waits for the link and for a full socket, until the deadline.

        CallTimeout if that takes too long, Unroutable if there is no such exchange, Overloaded if too many wait.
        """
        return await self._lines.line(exchange, deadline)

    async def _open(self, link: Link, exchange: str) -> Publisher:
        if exchange and not await link.exchange_exists(Exchange(exchange)):
            raise no_exchange(link, exchange)
        publisher = Publisher(self.connection.options.max_in_flight)

        def closed(error: Exception) -> None:
            if not publisher.retired:
                self._lines.lost(exchange, error)
            publisher.lose(error)

        publisher.channel = await link.open_lane(publisher, closed, confirms=True)
        publisher.lane = publisher.channel.lane
        publisher.on_refused = lambda: self._lines.refused(exchange, publisher)
        return publisher

    def close(self, error: Exception) -> None:
        """Let every message that is not confirmed fail."""
        for publisher in self._lines.clear():
            publisher.lose(error)


class Delays:
    """The delay queues of one connection: each is declared before a message goes there, and again now and then."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._declared: dict[str, tuple[Link, float]] = {}
        self._declaring: Shared[None] = Shared()
        self._waiting = Waiting(connection)

    def ready(self, name: str) -> bool:
        """True if a message may go to the queue right now, and be confirmed until `DELAY_LEASE_SECONDS` from now."""
        lease = self._declared.get(name)
        return lease is not None and self._fresh(*lease)

    def _fresh(self, link: Link, since: float) -> bool:
        return link is self._connection.current_link and self._connection.loop.time() - since < RENEW_SECONDS

    def forget(self, name: str) -> None:
        """The queue is gone."""
        self._declared.pop(name, None)

    async def declare(self, queue: Queue, deadline: float) -> None:
        """Declare a delay queue, unless that was done a moment ago.

        Unroutable if its messages would not find their way on, CallTimeout if there is no link in time.
        """
        if self.ready(queue.name):
            return
        async with self._waiting.until(deadline):
            await self._declaring.make(queue.name, lambda: self._declare_on_a_link(queue))

    async def _declare_on_a_link(self, queue: Queue) -> None:
        await self._connection.on_link(lambda link: self._declare(link, queue), f"declaring {queue.name}")

    async def _declare(self, link: Link, queue: Queue) -> None:
        exchange, key = queue.arguments["x-dead-letter-exchange"], queue.arguments["x-dead-letter-routing-key"]
        if exchange and not await link.exchange_exists(Exchange(exchange)):
            raise no_exchange(link, exchange)
        if not exchange and not await _queue_exists(link, key):
            raise Unroutable(f"there is no queue {key!r} at {link.url.address}; was a worker ever started for it?")
        since = self._connection.loop.time()  # before the broker counts: it has the longer breath
        await link.declare_queue(queue)
        if len(self._declared) >= MAX_LEASES:
            self._declared = {name: lease for name, lease in self._declared.items() if self._fresh(*lease)}
        self._declared[queue.name] = link, since


async def _queue_exists(link: Link, name: str) -> bool:
    try:
        return await link.queue_counts(name) is not None
    except TopologyConflict:  # it is somebody's own, who may get messages nevertheless
        return True


LONGEST_CONFIRM_SECONDS = DELAY_LEASE_SECONDS - RENEW_SECONDS
"""A delayed message that is confirmed later than this may have come too late for its queue's lease."""
