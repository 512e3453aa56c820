"""The two brokers behind one face: where they listen, and how they are told of users, hosts and a lack of memory."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Coroutine, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

from amqproxy.testing import RabbitMQ

GUEST = "guest"
EVERYTHING = (".*", ".*", ".*")
JOIN_TIMEOUT = 10.0


@dataclass(frozen=True, slots=True)
class User:
    """A user other than guest, who may do everything everywhere."""

    name: str
    password: str
    permissions: Mapping[str, tuple[str, str, str]]
    """By virtual host: the patterns of what may be configured, written and read."""


class Judge(Protocol):
    """A broker on which operations are tried."""

    name: str
    address: tuple[str, int]

    def prepare(self, users: Sequence[User], vhosts: Sequence[str]) -> None:
        """Make users, and virtual hosts besides that of the name /; guest is let into them."""

    def alarm(self, on: bool) -> None:
        """Let memory be short, or no longer; returns when the broker has noticed."""


class RabbitMQJudge:
    """A private node."""

    def __init__(self, node: RabbitMQ) -> None:
        self.name = f"RabbitMQ {node.version}"
        self.address = (node.host, node.port)
        self._node = node

    def prepare(self, users: Sequence[User], vhosts: Sequence[str]) -> None:
        definitions = {
            "vhosts": [{"name": name} for name in vhosts],
            "users": [{"name": user.name, "password": user.password, "tags": ""} for user in users],
            "permissions": [
                {"user": user, "vhost": vhost, "configure": configure, "write": write, "read": read}
                for user, vhost, (configure, write, read) in permissions(users, vhosts)
            ],
        }
        file = self._node.directory / "definitions.json"
        file.write_text(json.dumps(definitions))
        self._node.ctl("import_definitions", str(file))

    def alarm(self, on: bool) -> None:
        self._node.ctl("set_vm_memory_high_watermark", "0" if on else "0.4")


class EmbeddedJudge:
    """The embedded broker, on a thread and a loop of its own."""

    name = "embedded broker"

    def __init__(self) -> None:
        from amqproxy.broker import Broker, Server

        self._loop = asyncio.new_event_loop()
        self._broker = Broker()
        self._server = Server(self._broker, port=0)
        self._thread = threading.Thread(target=self._loop.run_forever, name=self.name, daemon=True)

    def __enter__(self) -> EmbeddedJudge:
        self._thread.start()
        self._run(self._server.__aenter__())
        self.address = (self._server.host, self._server.port)
        return self

    def __exit__(self, *error: object) -> None:
        self._run(self._server.__aexit__(None, None, None))
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(JOIN_TIMEOUT)
        self._loop.close()

    def prepare(self, users: Sequence[User], vhosts: Sequence[str]) -> None:
        async def prepare() -> None:
            for vhost in vhosts:
                self._broker.add_vhost(vhost)
            for user in users:
                self._broker.add_user(user.name, user.password)
            for name, vhost, patterns in permissions(users, vhosts):
                self._broker.set_permissions(name, vhost, *patterns)

        self._run(prepare())

    def alarm(self, on: bool) -> None:
        async def alarm() -> None:
            if on:
                self._broker.block("low on memory")
            else:
                self._broker.unblock()

        self._run(alarm())

    def _run(self, work: Coroutine[Any, Any, object]) -> None:
        done: Future[object] = asyncio.run_coroutine_threadsafe(work, self._loop)
        done.result(JOIN_TIMEOUT)


def permissions(users: Sequence[User], vhosts: Sequence[str]) -> Iterator[tuple[str, str, tuple[str, str, str]]]:
    """Yield user, virtual host and patterns."""
    for vhost in vhosts:
        yield GUEST, vhost, EVERYTHING
    for user in users:
        for vhost, patterns in user.permissions.items():
            yield user.name, vhost, patterns


@contextmanager
def embedded() -> Iterator[Judge]:
    """Run the embedded broker."""
    with EmbeddedJudge() as judge:
        yield judge
