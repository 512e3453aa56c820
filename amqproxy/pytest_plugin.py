"""The brokers behind the pytest fixtures `amqp_broker` and `amqp_url`, which are in _amqproxy_pytest.py.

    def test_orders_are_counted(amqp_url: str) -> None: ...

    async def test_publisher_waits(amqp_broker: BrokerThread) -> None:  # from amqproxy.testing
        amqp_broker.block()

Each test has an embedded broker of its own, in a thread, so that tests with and without an event loop can use it. The
same tests run on RabbitMQ with ``--amqp-broker=rabbitmq``, which starts a private node and gives each test a virtual
host of its own, or with ``--amqp-broker=amqp://…``, where all tests share what is there.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Protocol

import pytest

from .testing import BrokerThread, RabbitMQ, RabbitMQNotInstalled, broker_thread, rabbitmq


class Source(Protocol):
    """Where tests get their brokers from."""

    def fresh(self) -> AbstractContextManager[Any]:
        """A broker with nothing in it, as far as that is possible."""
        ...


class Embedded:
    """Embedded brokers: a new one for each test."""

    def fresh(self) -> AbstractContextManager[BrokerThread]:
        """A new broker."""
        return broker_thread()


class Foreign:
    """A broker of which only the URL is known. A test that wants more of it is skipped."""

    def __init__(self, url: str) -> None:
        self.url = url

    def __getattr__(self, name: str) -> Any:
        if hasattr(BrokerThread, name):
            pytest.skip(f"amqp_broker.{name} is the embedded broker's, and these tests run on another one")
        raise AttributeError(f"amqp_broker has no {name!r}")


class Elsewhere:
    """Somebody's broker, which all tests share."""

    def __init__(self, url: str) -> None:
        self._url = url

    def fresh(self) -> AbstractContextManager[Foreign]:
        """The broker as it is."""
        return nullcontext(Foreign(self._url))


class Node:
    """A private RabbitMQ node, with a virtual host for each test."""

    def __init__(self, node: RabbitMQ) -> None:
        self._node = node

    @contextmanager
    def fresh(self) -> Iterator[Foreign]:
        """A new virtual host, to which guest is let in."""
        name = f"test-{secrets.token_hex(4)}"
        everything = {"configure": ".*", "write": ".*", "read": ".*"}
        file = self._node.directory / "vhost.json"
        file.write_text(
            json.dumps({"vhosts": [{"name": name}], "permissions": [{"user": "guest", "vhost": name, **everything}]})
        )
        self._node.ctl("import_definitions", str(file))  # one command, where two would take twice as long
        try:
            yield Foreign(self._node.url + name)
        finally:
            self._node.ctl("delete_vhost", name)


@contextmanager
def source(choice: str) -> Iterator[Source]:
    """The source that was chosen: "embedded", "rabbitmq" or a URL. A RabbitMQ that is not installed fails the test."""
    if choice == "embedded":
        yield Embedded()
    elif choice == "rabbitmq":
        try:
            with rabbitmq() as node:
                yield Node(node)
        except RabbitMQNotInstalled as error:
            pytest.fail(f"--amqp-broker=rabbitmq: {error}", pytrace=False)
    else:
        yield Elsewhere(choice)
