"""The consumers of a queue, and whose turn it is.

Turns go round among those of the highest priority that can take a message. One that cannot, because its prefetch is
used up or its socket is full, loses its place and gets a new one, last, when it can again: nobody asks it in between.
"""

from __future__ import annotations

from collections import deque
from contextlib import suppress
from itertools import count
from typing import TYPE_CHECKING

from .message import Entry
from .tables import Table

if TYPE_CHECKING:
    from .channel import Channel
    from .queue import Queue


_PARKED = count(1)


class Consumer:
    """One subscription of one channel to one queue."""

    __slots__ = (
        "arguments",
        "channel",
        "exclusive",
        "no_ack",
        "parked",
        "prefetch",
        "prefix",
        "priority",
        "queue",
        "tag",
        "unacked",
    )

    def __init__(
        self,
        channel: Channel,
        queue: Queue,
        tag: str,
        *,
        no_ack: bool,
        exclusive: bool = False,
        prefetch: int = 0,
        arguments: Table | None = None,
    ) -> None:
        self.channel = channel
        self.queue = queue
        self.tag = tag
        self.no_ack = no_ack
        self.exclusive = exclusive
        self.prefetch = prefetch
        """Messages that may be unacknowledged at once; 0 for any number."""
        self.arguments = arguments or Table()
        self.priority: int = self.arguments.get("x-priority", 0)
        self.unacked = 0
        self.parked = 0
        """When it lost its turns, as a number that grows; 0 while it has them."""
        raw = tag.encode(errors="surrogateescape")
        self.prefix = b"\x00\x3c\x00\x3c" + bytes((len(raw),)) + raw
        """How each basic.deliver to it begins."""

    def can_take(self) -> bool:
        """Whether it may be given a message now."""
        channel = self.channel
        if channel.closed or not channel.session.writable:
            return False
        if channel.prefetch_shared and channel.consumed_unacked >= channel.prefetch_shared:
            return False  # as in RabbitMQ, even if it does not acknowledge
        return self.no_ack or not self.prefetch or self.unacked < self.prefetch

    def deliver(self, entry: Entry) -> None:
        """Send it a message, which is unacknowledged from then on unless it consumes with no-ack."""
        self.channel.deliver(self, entry)


class Consumers:
    """All consumers of one queue."""

    __slots__ = ("_single", "_turns", "active", "all")

    def __init__(self, *, single_active: bool) -> None:
        self.all: list[Consumer] = []
        self.active: Consumer | None = None
        """The only one that gets messages, where only one does."""
        self._single = single_active
        self._turns: dict[int, deque[Consumer]] = {}

    def add(self, consumer: Consumer) -> None:
        """Give a new consumer its turns."""
        self.all.append(consumer)
        if self._single and self.active is None:
            self.active = consumer
        if not self._single or self.active is consumer:
            self._line_up(consumer)

    def remove(self, consumer: Consumer) -> None:
        """Forget a consumer; where only one is active, the next one becomes it."""
        self.all.remove(consumer)
        consumer.parked = 0
        turn = self._turns.get(consumer.priority)
        if turn is not None:
            with suppress(ValueError):  # it had lost its turns
                turn.remove(consumer)
            if not turn:
                del self._turns[consumer.priority]
        if self.active is consumer:
            self.active = max(self.all, key=lambda one: one.priority, default=None)
            if self.active is not None:
                self._line_up(self.active)

    def next(self) -> Consumer | None:
        """The consumer to be given the next message; None if none can take it."""
        for turn in self._turns.values():
            while turn:
                consumer = turn[0]
                if consumer.can_take():
                    if len(turn) > 1:
                        turn.rotate(-1)
                    return consumer
                turn.popleft()
                consumer.parked = next(_PARKED)
        return None

    def unpark(self, consumer: Consumer) -> None:
        """Give a consumer turns again."""
        consumer.parked = 0
        self._line_up(consumer)

    def _line_up(self, consumer: Consumer) -> None:
        turn = self._turns.get(consumer.priority)
        if turn is None:
            self._turns[consumer.priority] = deque((consumer,))
            self._turns = dict(sorted(self._turns.items(), reverse=True))
        else:
            turn.append(consumer)

    def __len__(self) -> int:
        return len(self.all)
