"""A queue: takes messages in, gives them to its consumers, takes them back, and lets go of those it may not keep."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Protocol

from ..properties import HEADERS
from .arguments import QUORUM, Settings
from .consumers import Consumer, Consumers
from .limits import Memory
from .message import Entry, Message, headers_of, join, split
from .ready import ByPriority, Fifo, Ready
from .tables import Table, long_integer
from .timers import Timer, Timers

if TYPE_CHECKING:
    from .exchange import Exchange


PUMPED_AT_ONCE = 500
"""Messages given out before other connections get their turn."""


class Owner(Protocol):
    """What a queue wants of its virtual host."""

    memory: Memory
    timers: Timers
    clock: Callable[[], float]

    def dead_letter(self, queue: Queue, message: Message, reason: str) -> None:
        """A message leaves the queue, not acknowledged; `reason` as in the header x-death."""

    def bury(self) -> None:
        """Send on what has died."""

    def delete_queue(self, queue: Queue) -> int:
        """The queue has no more use."""


class Connection(Protocol):
    """What a queue that only one connection may use wants of that."""

    exclusive: dict[Queue, None]
    """The queues that go with it."""


class Queue:
    """One queue of a virtual host."""

    def __init__(
        self,
        name: str,
        vhost: Owner,
        *,
        durable: bool = False,
        auto_delete: bool = False,
        exclusive_to: Connection | None = None,
        arguments: Table | None = None,
        settings: Settings | None = None,
    ) -> None:
        self.name = name
        self.vhost = vhost
        self.durable = durable
        self.auto_delete = auto_delete
        self.exclusive_to = exclusive_to
        """The connection that alone may use it."""
        self.arguments = arguments or Table()
        self.settings = settings or Settings.of(self.arguments)
        self.consumers = Consumers(single_active=self.settings.single_active_consumer)
        self.ready: Ready = ByPriority(self.settings.max_priority) if self.settings.max_priority else Fifo()
        self.ready_bytes = 0
        self.unacked = 0
        self.bound: dict[Exchange, None] = {}
        """Exchanges that have bindings to it."""
        self.deleted = False
        self.quorum = self.settings.type == QUORUM
        self._ttl = self.settings.message_ttl
        bounds = self.settings.max_length, self.settings.max_bytes
        self._bounded = bounds != (None, None)
        self._max_length = math.inf if bounds[0] is None else bounds[0]
        self._max_bytes = math.inf if bounds[1] is None else bounds[1]
        self._rejects = self._bounded and self.settings.overflow != "drop-head"
        self._sequence = 0
        self._expiry: Timer | None = None
        self._going_on: Timer | None = None
        self._disuse: Timer | None = None
        self._used_at = vhost.clock()
        self.touch()

    # What comes in.

    def publish(self, message: Message) -> bool:
        """Take a message; False if the queue is full and refuses it."""
        if self.deleted:  # since the message was routed, in a transaction
            return True
        if self._rejects and self._overflows(message):
            if self.settings.overflow == "reject-publish-dlx":
                self.vhost.dead_letter(self, message, "maxlen")
            return False
        ttl, own = message.ttl, self._ttl
        if own is not None and (ttl is None or own < ttl):
            ttl = own
        self._sequence += 1
        entry = Entry(message, self._sequence, None if ttl is None else self.vhost.clock() + ttl / 1000)
        if not len(self.ready):
            consumer = self.consumers.next()
            if consumer is not None:
                if not consumer.no_ack:
                    self.vhost.memory.take(message.share)
                    self.unacked += 1
                consumer.deliver(entry)
                return True
        self.vhost.memory.take(message.share)
        self.ready_bytes += len(message.body)
        self.ready.append(entry)
        if self._bounded:
            self._drop_head()
            self._expire()  # the new head may be over its time
        elif ttl is not None:
            self._watch_head()
        return True

    def _overflows(self, message: Message) -> bool:
        return len(self.ready) + 1 > self._max_length or self.ready_bytes + len(message.body) > self._max_bytes

    def _drop_head(self) -> None:
        while len(self.ready) > self._max_length or self.ready_bytes > self._max_bytes:
            self._let_go(self._take(), "maxlen")

    # What goes out.

    def pump(self) -> None:
        """Give waiting messages to consumers, as long as there are both."""
        for _ in range(PUMPED_AT_ONCE):
            if not self._has_fresh() or (consumer := self.consumers.next()) is None:
                return
            entry = self._take()
            if consumer.no_ack:
                self.vhost.memory.free(entry.message.share)
            else:
                self.unacked += 1
            consumer.deliver(entry)
        if self._going_on is None:
            self._going_on = self.vhost.timers.at(self.vhost.clock(), self._go_on)

    def _go_on(self) -> None:
        self._going_on = None
        self.pump()

    def fetch(self) -> Entry | None:
        """Take the next message that has not expired; None without any."""
        entry = self._take() if self._has_fresh() else None
        self._has_fresh()  # what comes behind it may not stay either
        return entry

    def _has_fresh(self) -> bool:
        """Let go of what has expired at the head, and say whether anything is left."""
        head = self.ready.head()
        if head is not None and head.expires_at is not None:
            self._expire()
        return len(self.ready) > 0

    def _take(self) -> Entry:
        entry = self.ready.pop()
        self.ready_bytes -= len(entry.message.body)
        return entry

    def settled(self, entry: Entry) -> None:
        """A delivery was acknowledged: the message is done."""
        self.unacked -= 1
        self.vhost.memory.free(entry.message.share)

    def rejected(self, entry: Entry) -> None:
        """A delivery was refused for good."""
        if self.deleted:
            self.settled(entry)
        else:
            self.unacked -= 1
            self._let_go(entry, "rejected")

    def put_back(self, entries: Iterable[Entry]) -> None:
        """Take deliveries back that were not acknowledged; `pump` should follow."""
        for entry in entries:
            if self.deleted:
                self.settled(entry)
                continue
            self.unacked -= 1
            entry.redelivered = True
            if self.quorum and not self._count_delivery(entry):
                self._let_go(entry, "delivery_limit")
                continue
            self.ready_bytes += len(entry.message.body)
            self.ready.put_back(entry)
        if self._bounded and not self._rejects:
            self._drop_head()
        self._expire()

    def _count_delivery(self, entry: Entry) -> bool:
        """Count one more attempt; False if there were too many."""
        entry.deliveries += 1
        limit = self.settings.delivery_limit
        return limit is None or not 0 <= limit < entry.deliveries

    # What must not stay.

    def purge(self) -> int:
        """Drop all waiting messages, and say how many they were."""
        count = len(self.ready)
        while len(self.ready):
            self.vhost.memory.free(self._take().message.share)
        return count

    def _let_go(self, entry: Entry, reason: str) -> None:
        self.vhost.memory.free(entry.message.share)
        if self.settings.dead_letter_exchange is not None:
            self.vhost.dead_letter(self, entry.message, reason)

    def _watch_head(self) -> None:
        """Have the head removed when its time is over; those behind it must wait until they are the head."""
        head = self.ready.head()
        if head is None or head.expires_at is None:
            return
        if self._expiry is not None:
            if self._expiry.when <= head.expires_at:
                return
            self._expiry.cancel()
        self._expiry = self.vhost.timers.at(head.expires_at, self._expired)

    def _expired(self) -> None:
        self._expiry = None
        self._expire()

    def _expire(self) -> None:
        now = self.vhost.clock()
        while (head := self.ready.head()) is not None and head.expires_at is not None and head.expires_at <= now:
            self._let_go(self._take(), "expired")
        self._watch_head()

    # Its own life.

    def touch(self) -> None:
        """The queue was used: declared, read from, or left by its last consumer."""
        if self.settings.expires is None:
            return
        self._used_at = self.vhost.clock()
        if self._disuse is None:
            self._disuse = self.vhost.timers.at(self._used_at + self.settings.expires / 1000, self._unused)

    def _unused(self) -> None:
        self._disuse = None
        if self.deleted or len(self.consumers):
            return  # the last consumer's leaving counts as use
        assert self.settings.expires is not None
        end = self._used_at + self.settings.expires / 1000
        if end <= self.vhost.clock():
            self.vhost.delete_queue(self)
        else:
            self._disuse = self.vhost.timers.at(end, self._unused)

    def add_consumer(self, consumer: Consumer) -> None:
        """Give a new consumer its share, from now on; `pump` should follow."""
        self.consumers.add(consumer)

    def remove_consumer(self, consumer: Consumer) -> None:
        """A consumer goes; a queue that is to go with its last one goes too."""
        if consumer not in self.consumers.all:
            return
        self.consumers.remove(consumer)
        if self.deleted:
            return
        if not len(self.consumers):
            self.touch()
            if self.auto_delete:
                self.vhost.delete_queue(self)
                return
        self.pump()

    def close(self) -> None:
        """Forget all messages, as the queue is deleted."""
        self.deleted = True
        self.purge()
        for timer in (self._expiry, self._disuse, self._going_on):
            if timer is not None:
                timer.cancel()

    def __repr__(self) -> str:
        return f"<queue {self.name!r}: {len(self.ready)} ready, {self.unacked} unacked>"


def counted(entry: Entry) -> Message:
    """A message of a quorum queue with the header that says how often it came back."""
    message = entry.message
    parts = split(message.header)
    headers = headers_of(parts)
    headers.fields["x-delivery-count"] = long_integer(entry.deliveries)
    parts[HEADERS] = headers.encode()
    shown = Message(message.address, join(message.header, parts), message.body)
    shown.share = message.share
    return shown
