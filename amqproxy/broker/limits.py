"""What a broker takes from its clients at most, and what its messages weigh."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from .errors import ProtocolError, precondition_failed


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds, with RabbitMQ's defaults and answers where it has them."""

    frame_max: int = 131072
    """Bytes of a frame; larger ones end the connection with 501."""
    channel_max: int = 2047
    """Channels of a connection; more end it with 530."""
    heartbeat: int = 60
    """Seconds proposed to clients; 0 for none."""
    max_message_bytes: int = 128 * 1024 * 1024
    """Body of a message; a larger one is refused with 406. As in RabbitMQ before 4.0, where it is 16 MiB since."""
    max_connections: int = 10_000
    """Connections at once, those that have not said anything yet included; more are closed unanswered."""
    max_queues: int = 100_000
    """Queues of all virtual hosts, each with 7 arguments and 256 bytes of them; more count for more queues. One more
    is refused with 406."""
    max_consumers: int = 100_000
    """Consumers of all connections, each with such arguments, likewise."""
    max_exchanges: int = 100_000
    """Exchanges of all virtual hosts, each with such arguments, likewise."""
    max_bindings: int = 500_000
    """Bindings of all virtual hosts, each with such arguments and a word as its key, likewise; more words count for
    more bindings, too."""
    memory_bytes: int = 1024 * 1024 * 1024
    """Messages held at once; above it, connections that publish are blocked until some have gone."""
    handshake_seconds: float = 10.0
    """From the connection to connection.open."""
    closing_seconds: float = 30.0
    """From our connection.close to the client's answer."""


INITIAL_FRAME_MAX = 8192
"""Bytes of a frame before a connection is tuned."""
FRAME_MIN = 4096
"""What frame-max is at least, by the specification; RabbitMQ 4.1 wants twice as much."""


Counted = Literal["queues", "consumers", "exchanges", "bindings"]


class Counter:
    """What all virtual hosts share: how much there is of what has a limit, and in which state the ways of messages."""

    __slots__ = ("_limits", "counts", "topology")

    def __init__(self, limits: Limits) -> None:
        self._limits = {
            "queues": limits.max_queues,
            "consumers": limits.max_consumers,
            "exchanges": limits.max_exchanges,
            "bindings": limits.max_bindings,
        }
        self.counts = dict.fromkeys(self._limits, 0)
        """How much there is of each."""
        self.topology = 0
        """Grows with each change of where messages go, so that what was looked up can be kept until then."""

    def check(self, what: Counted, weight: int, purpose: str) -> None:
        """A 406 that names the purpose, if there is no room for so much more."""
        limit = self._limits[what]
        if self.counts[what] + weight > limit:
            raise precondition_failed(f"cannot {purpose}: the broker has reached its limit of {limit} {what}")

    def add(self, what: Counted, weight: int) -> None:
        """There is so much more."""
        self.counts[what] += weight

    def remove(self, what: Counted, weight: int) -> None:
        """There is so much less."""
        self.counts[what] -= weight


class Memory:
    """The bytes of the messages that a broker holds, and an alarm when they are too many."""

    __slots__ = ("_on_alarm", "alarm", "limit", "unfinished", "unfinished_limit", "used")

    def __init__(self, limit: int, on_alarm: Callable[[bool], None], *, unfinished_limit: int | None = None) -> None:
        self.limit = limit
        self.used = 0
        self.unfinished = 0
        """Bytes of bodies that have not come whole. No alarm for them: blocked, their senders could not end them."""
        self.unfinished_limit = limit if unfinished_limit is None else unfinished_limit
        self.alarm = False
        self._on_alarm = on_alarm

    def take(self, size: int) -> None:
        """Hold so much more."""
        self.used += size
        if self.used > self.limit and not self.alarm:
            self.alarm = True
            self._on_alarm(True)

    def begin(self, size: int) -> None:
        """Hold so much more of a body that is not complete; a 506 for the connection with which that is too much."""
        self.unfinished += size
        if self.unfinished > self.unfinished_limit:
            raise ProtocolError(506, f"unfinished messages of more than {self.unfinished_limit} bytes")

    def free(self, size: int) -> None:
        """Hold so much less; the alarm ends well below the limit, not to be raised again at once."""
        self.used -= size
        if self.alarm and self.used < self.limit * 0.9:
            self.alarm = False
            self._on_alarm(False)
