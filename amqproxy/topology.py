"""Which exchanges, queues and bindings a pool of workers needs: data, declared by connection.py."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .errors import TopologyConflict
from .options import DELIVERY_LIMIT, MAX_SHORT_STRING, ServeOptions
from .signing import destination
from .wire import pool_exchange

NAME = re.compile(r"[a-zA-Z0-9\-_.:@#,/+ ]*")
"""The names that aiormq declares; AMQP 0-9-1 asks for fewer, RabbitMQ takes any."""


class NotFound(TopologyConflict):
    """The broker has no queue or exchange of this name; becomes an Unroutable where a call is known."""


@dataclass(frozen=True, slots=True)
class Exchange:
    """A direct, durable exchange."""

    name: str

    @property
    def predeclared(self) -> bool:
        """True for the default exchange and for those that every broker has."""
        return self.name == "" or self.name.startswith("amq.")


@dataclass(frozen=True, slots=True)
class Queue:
    """A queue; an empty name asks the broker for one."""

    name: str
    durable: bool = True
    exclusive: bool = False
    auto_delete: bool = False
    arguments: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Binding:
    """Messages published to the exchange under the key also go to the queue."""

    exchange: Exchange
    queue: Queue
    routing_key: str


@dataclass(frozen=True, slots=True)
class PoolTopology:
    """What a pool of workers declares before it consumes."""

    queue: Queue
    bindings: tuple[Binding, ...]
    exchange: str
    """The fanout exchange to which each worker binds a queue of its own."""
    dead: Queue | None = None
    """Where requests go that cannot be served; None if they are dropped."""

    @classmethod
    def of(cls, service: str, options: ServeOptions) -> PoolTopology:
        """The default: a durable queue with the service's name, bound to amq.direct under that name.

        ValueError if a name is one that cannot be declared.
        """
        name = options.queue or service
        for what, text in (("queue", name), ("exchange", options.exchange or "")):
            if not NAME.fullmatch(text):
                raise ValueError(f"{what} names are letters and digits of ASCII, spaces and -_.:@#,/+, not {text!r}")
        dead = dead_queue(name) if options.keeps_dead_letters else None
        arguments = {**_arguments(options, dead), **options.arguments}
        queue = Queue(name, durable=options.durable, auto_delete=options.auto_delete, arguments=arguments)
        if not options.exchange:  # the default exchange reaches every queue, and cannot be bound to
            return cls(queue, (), pool_exchange(name), dead)
        binding = Binding(Exchange(options.exchange), queue, options.routing_key or name)
        return cls(queue, (binding,), pool_exchange(name), dead)


def _arguments(options: ServeOptions, dead: Queue | None) -> dict[str, Any]:
    """Those that the options of a pool ask for."""
    arguments: dict[str, Any] = {}
    if options.max_priority is not None:
        arguments["x-max-priority"] = options.max_priority
    if options.max_length is not None:
        arguments |= {"x-max-length": options.max_length, "x-overflow": options.overflow or "reject-publish"}
    if options.message_ttl is not None:
        arguments["x-message-ttl"] = max(1, round(options.message_ttl * 1000))
    if dead is not None:
        arguments |= {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": dead.name}
    if options.quorum:
        limit = DELIVERY_LIMIT if options.delivery_limit is None else options.delivery_limit
        arguments |= {"x-queue-type": "quorum", "x-delivery-limit": limit}
        if dead is not None and options.overflow != "drop-head":  # which at-least-once rules out
            arguments |= {"x-overflow": "reject-publish", "x-dead-letter-strategy": "at-least-once"}
    return arguments


class Destinations:
    """What signatures may say of where messages go that come to a pool's queue (signing.destination)."""

    def __init__(self, topology: PoolTopology) -> None:
        ways = [("", topology.queue.name)]
        ways += [(binding.exchange.name, binding.routing_key) for binding in topology.bindings]
        self._exact = {destination(exchange.encode(), key.encode()) for exchange, key in ways}
        self._exact |= {f">{delay_digest(exchange, key)}" for exchange, key in ways}
        self._wide = [(exchange, _pattern(exchange, key)) for exchange, key in ways if exchange in _WIDE]

    def include(self, destination: str) -> bool:
        """Whether it is one of them."""
        if destination in self._exact:
            return True
        exchange, through, key = destination.partition(">")
        return bool(through) and any(name == exchange and keys.fullmatch(f".{key}") for name, keys in self._wide)


_WIDE = ("amq.topic", "amq.fanout", "amq.headers", "amq.match")
"""Exchanges whose messages need not have the key of the binding; those that amqproxy declares are direct."""


def _pattern(exchange: str, key: str) -> re.Pattern[str]:
    """What fits the keys, each behind a dot, of what comes through one of those.

    Each word begins with a dot and has no other, so that there are not many ways to take a key apart: who signs chooses
    the key, and could have all of them tried.
    """
    if exchange != "amq.topic":
        return re.compile(".*", re.DOTALL)
    words = {"*": r"\.[^.]*", "#": r"(\.[^.]*)*"}
    return re.compile("".join(words.get(word, r"\." + re.escape(word)) for word in _HASHES.sub("#", key).split(".")))


_HASHES = re.compile(r"(?<![^.])#(\.#)+(?![^.])")
"""Any number of words, and any number more."""


def refuses(queue: Queue) -> bool:
    """Whether a queue refuses messages when it is full."""
    bounded = {"x-max-length", "x-max-length-bytes"} & queue.arguments.keys()
    return bool(bounded) and str(queue.arguments.get("x-overflow")).startswith("reject-publish")


ENDLESS = 1_000_000_000
"""A delivery limit that nobody reaches. RabbitMQ 4 would have 20, and each look at a dead letter counts as one; what
means "none" there (-1) drops the first that comes back in RabbitMQ 3."""


def dead_queue(queue: str) -> Queue:
    """Where requests of a queue go that cannot be served: safe on several nodes, whatever that queue is."""
    name = f"{queue}.dead"
    if len(name) > MAX_SHORT_STRING:
        raise ValueError(f"the queue {name[:40]!r}… for dead letters has a name of more than {MAX_SHORT_STRING} bytes")
    return Queue(name, arguments={"x-queue-type": "quorum", "x-delivery-limit": ENDLESS})


DELAY_LEASE_SECONDS = 600.0
"""How long an unused delay queue outlives the delay of its last message. To declare it again renews that, and nothing
else does: a message must have come to the queue within this time of the last declare, or both are gone too early."""


def rounded_delay(seconds: float) -> int:
    """A delay in milliseconds, rounded up to three digits, so that there are 900 to each power of ten, and no more."""
    milliseconds = math.ceil(round(seconds * 1000, 6))
    step: int = 10 ** max(0, len(str(milliseconds)) - 3)
    return -(-milliseconds // step) * step


def delay_queue(milliseconds: int, exchange: str, routing_key: str) -> Queue:
    """The queue where messages wait for so long, to be published to the exchange under the key then.

    All messages in it wait for the same time, so none waits behind another. It is a classic queue wherever quorum
    queues are the default: only declaring a classic queue again renews its lease (RabbitMQ's page on quorum queues).
    """
    name = f"amqproxy.delay.{milliseconds}"
    plain = f"{name}.{routing_key}"
    if exchange or not NAME.fullmatch(routing_key) or len(plain) > MAX_SHORT_STRING:
        plain = f"{name}#{delay_digest(exchange, routing_key)}"
    arguments = {
        "x-queue-type": "classic",
        "x-message-ttl": milliseconds,
        "x-expires": milliseconds + int(DELAY_LEASE_SECONDS * 1000),
        "x-dead-letter-exchange": exchange,
        "x-dead-letter-routing-key": routing_key,
    }
    return Queue(plain, arguments=arguments)


def delay_digest(exchange: str, routing_key: str) -> str:
    """What stands for them in the name of a delay queue that has no room for them."""
    import hashlib  # for rare cases only: it costs as much as half of our own modules

    return hashlib.blake2b(f"{exchange}\0{routing_key}".encode(), digest_size=16).hexdigest()
