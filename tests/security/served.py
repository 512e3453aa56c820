"""What the tests of safety serve."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import amqproxy
from tests.contract.raw import Message, Raw

SECRET = "hunter2-of-the-database"


class Vault:
    """Has a few methods for everybody, and much that is nobody's business."""

    level = 3

    def __init__(self) -> None:
        self.password = SECRET
        self.opened: list[str] = []

    async def add(self, x: int, y: int) -> int:
        return x + y

    async def open(self, who: str) -> str:
        self.opened.append(who)
        return who

    async def query(self, user: str) -> None:
        password = self.password
        raise ConnectionResetError(104, f"no rows for {user}") from RuntimeError(f"connect with {password}")

    async def chat(self) -> AsyncIterator[int]:
        yield 1
        yield 2

    async def _private(self) -> str:
        return self.password

    async def __secret__(self) -> str:
        return self.password

    @property
    def key(self) -> str:
        return self.password


@asynccontextmanager
async def vault(mq: amqproxy.Client, service: str, **options: Any) -> AsyncIterator[tuple[Vault, Any]]:
    """A vault that serves on the same channel, after whatever is done to it."""
    one = Vault()
    async with mq.serve(one, name=service, auto_delete=True, **options) as worker:
        proxy = mq.proxy(Vault, name=service)
        assert await proxy.add(1, 2) == 3
        session = worker.session
        yield one, proxy
        assert await proxy.add(3, 4) == 7
        assert worker.session is session and session is not None and session.alive
        assert not worker.running


def failure(message: Message) -> dict[str, Any]:
    """What a failure says."""
    assert message.properties.content_type == b"com.github.sstone.amqp.proxy.AmqpProxy$ServerFailure"
    body: dict[str, Any] = json.loads(message.body)
    error: dict[str, Any] = body["error"]
    return {**error, "text": body["message"]}


async def refused(raw: Raw, service: str, body: bytes, **properties: Any) -> dict[str, Any]:
    """The failure that a request is answered with."""
    return failure(await raw.ask(service, body, **properties))
