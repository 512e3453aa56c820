"""Which RabbitMQ the bench runs on: the one that is named, else a private node for the occasion."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from urllib.parse import urlsplit

from amqproxy import testing

AMQP_PORT = 5672


class NoBrokerError(Exception):
    """There is no broker to run on; the text says why."""


@dataclass(frozen=True, slots=True)
class Broker:
    """A broker that the bench may use."""

    url: str
    product: str
    """What it calls itself, as in ``RabbitMQ 3.10.8``."""
    pid: int | None
    """Its process on this machine, for its CPU time; None when unknown."""
    private: bool


@contextmanager
def broker(url: str | None, pid: int | None) -> Iterator[Broker]:
    """Give the broker at `url`, else at AMQPROXY_URL, else a private node that ends with the block.

    Raises NoBrokerError when nobody answers there, or when no RabbitMQ is installed.
    """
    url = url or os.environ.get("AMQPROXY_URL")
    if url:
        yield Broker(url, product(url), pid, private=False)
        return
    try:
        with testing.rabbitmq() as node:
            yield Broker(node.url, product(node.url), node.pid, private=True)
    except testing.RabbitMQNotInstalled as error:
        raise NoBrokerError(str(error)) from None


def product(url: str) -> str:
    """Return what the broker calls itself, or ``unknown`` over TLS.

    Raises NoBrokerError when nobody answers there.
    """
    parts = urlsplit(url)
    if parts.scheme == "amqps":
        return "unknown"
    try:
        return testing.broker_product(parts.hostname or "localhost", parts.port or AMQP_PORT)
    except OSError as error:
        raise NoBrokerError(str(error)) from None
