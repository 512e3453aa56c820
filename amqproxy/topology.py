"""Which exchanges, queues and bindings a pool of workers needs: data, declared by connection.py."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .options import ServeOptions
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
        queue = Queue(name, durable=options.durable, auto_delete=options.auto_delete, arguments=dict(options.arguments))
        if not options.exchange:  # the default exchange reaches every queue, and cannot be bound to
            return cls(queue, (), pool_exchange(name))
        binding = Binding(Exchange(options.exchange), queue, options.routing_key or name)
        return cls(queue, (binding,), pool_exchange(name))
