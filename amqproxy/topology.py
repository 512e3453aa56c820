"""Which exchanges, queues and bindings a pool of workers needs: data, declared by connection.py."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .options import MAX_SHORT_STRING, ServeOptions
from .wire import pool_exchange

NAME = re.compile(r"[a-zA-Z0-9\-_.:@#,/+ ]*")
"""The names that aiormq declares; AMQP 0-9-1 asks for fewer, RabbitMQ takes any."""


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

    @classmethod
    def of(cls, service: str, options: ServeOptions) -> PoolTopology:
        """The default: a durable queue with the service's name, bound to amq.direct under that name.

        ValueError if a name is one that cannot be declared.
        """
        name = options.queue or service
        for what, text in (("queue", name), ("exchange", options.exchange or "")):
            if not NAME.fullmatch(text):
                raise ValueError(f"{what} names are letters and digits of ASCII, spaces and -_.:@#,/+, not {text!r}")
        arguments = dict(options.arguments)
        if options.max_priority is not None:
            arguments["x-max-priority"] = options.max_priority
        queue = Queue(name, durable=options.durable, auto_delete=options.auto_delete, arguments=arguments)
        if not options.exchange:  # the default exchange reaches every queue, and cannot be bound to
            return cls(queue, (), pool_exchange(name))
        binding = Binding(Exchange(options.exchange), queue, options.routing_key or name)
        return cls(queue, (binding,), pool_exchange(name))


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
        import hashlib  # for this rare case only: it costs as much as half of our own modules

        digest = hashlib.blake2b(f"{exchange}\0{routing_key}".encode(), digest_size=16).hexdigest()
        plain = f"{name}#{digest}"
    arguments = {
        "x-queue-type": "classic",
        "x-message-ttl": milliseconds,
        "x-expires": milliseconds + int(DELAY_LEASE_SECONDS * 1000),
        "x-dead-letter-exchange": exchange,
        "x-dead-letter-routing-key": routing_key,
    }
    return Queue(plain, arguments=arguments)
