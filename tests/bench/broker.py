"""Which brokers the bench runs on.

RabbitMQ is the one that is named, else a private node for the occasion. The embedded broker gets a process of its own.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from urllib.parse import urlsplit

from amqproxy import testing

from .control import version_of
from .peer import Peer

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


@contextmanager
def embedded() -> Iterator[Broker]:
    """Give an embedded broker in a process of its own, which ends with the block."""
    with embedded_peer() as (peer, url):
        yield Broker(url, f"embedded broker of amqproxy {version_of('amqproxy')}", peer.pid, private=True)


@contextmanager
def embedded_peer() -> Iterator[tuple[Peer, str]]:
    """Give an embedded broker as the process that it is, and its URL."""
    peer = Peer("embedded broker", [sys.executable, "-m", f"{__package__}.embedded"], "")
    try:
        yield peer, peer.wait_ready()
    finally:
        peer.stop()


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
