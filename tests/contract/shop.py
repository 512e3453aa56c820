"""What the tests of calls that share messages call, and a look at what is left of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pydantic

import amqproxy
from amqproxy import Blob
from amqproxy.server import Worker
from tests.idl import kinds_pb2 as kinds
from tests.idl.kinds_thrift import ttypes as thrifty


@amqproxy.message("com.example.Order")
@dataclass
class Order:
    items: list[str]


class Model(pydantic.BaseModel):
    name: str


class Shop:
    """Says which calls shared a message, waits when it is told to, and fails when it is asked to."""

    def __init__(self) -> None:
        self.open = asyncio.Event()
        self.entered = asyncio.Semaphore(0)
        self.left = asyncio.Semaphore(0)
        self.cancelled: list[int] = []
        self.ran: list[Any] = []

    async def add(self, x: int, y: int = 0) -> int:
        return x + y

    async def with_others(self, number: int = 0) -> int:
        """How many calls shared the message of this one."""
        return int(amqproxy.current().headers.get("x-batch", 1))

    async def divide(self, x: float, y: float) -> float:
        return x / y

    async def echo(self, text: str) -> str:
        return text

    async def note(self, value: Any) -> Any:
        self.ran.append(value)
        return value

    def in_thread(self, number: int) -> int:
        return number

    async def order(self, order: Order) -> int:
        return len(order.items)

    async def model(self, model: Model) -> Model:
        return model

    async def tree(self, tree: kinds.Tree) -> kinds.Tree:
        return kinds.Tree(value=tree.value + 1)

    async def item(self, item: thrifty.Item) -> thrifty.Item:
        return thrifty.Item(item.id + 1, item.name, item.colour)

    async def nothing(self) -> None:
        return None

    async def wait(self, number: int) -> int:
        self.entered.release()
        try:
            await self.open.wait()
        except asyncio.CancelledError:
            self.cancelled.append(number)
            self.left.release()
            raise
        return number

    async def count(self, to: int) -> AsyncIterator[int]:
        for number in range(to):
            yield number

    async def file(self, size: int) -> Blob:
        return Blob(b"x" * size)

    async def upload(self, data: Blob) -> int:
        return sum([len(chunk) async for chunk in data])


@dataclass(frozen=True)
class Serving:
    mq: amqproxy.Client
    name: str
    handler: Shop
    worker: Worker

    def proxy(self, **options: Any) -> Any:
        return self.mq.proxy(Shop, name=self.name, **options)

    def batch(self, **options: Any) -> Any:
        return self.mq.batch(Shop, name=self.name, **options)

    async def entered(self, calls: int) -> None:
        async with asyncio.timeout(10):
            for _ in range(calls):
                await self.handler.entered.acquire()

    async def cancelled(self, *numbers: int) -> None:
        """These calls, and no others, are cancelled."""
        async with asyncio.timeout(10):
            for _ in numbers:
                await self.handler.left.acquire()
        assert sorted(self.handler.cancelled) == sorted(numbers)

    async def nothing_is_left(self) -> None:
        """Neither in the caller nor in the worker, as soon as what is on its way has come."""
        left: list[Any] = []
        try:
            async with asyncio.timeout(10):
                while left := left_in_caller(self.mq) + left_in_worker(self.worker):
                    await self.proxy().nothing()
        except TimeoutError:
            raise AssertionError(f"these are left: {left}") from None


def left_in_caller(mq: amqproxy.Client) -> list[Any]:
    lines = mq.caller._by_prefix.values()
    return [left for line in lines for left in (*line.conversations, *line.calls._pending)]


def left_in_worker(worker: Worker) -> list[Any]:
    session = worker._session
    assert session is not None
    return [*worker.running, *session.turns.waiting, *session.turns._batches, *session._lane._acks._out]


@asynccontextmanager
async def serving(mq: amqproxy.Client, service: str, **options: Any) -> AsyncIterator[Serving]:
    """A worker whose class and whose connection the tests look into; at the end nothing may be left of any call."""
    handler = Shop()
    async with mq.serve(handler, name=service, auto_delete=True, **options) as worker:
        one = Serving(mq, service, handler, worker)
        assert await one.proxy().add(1, 2) == 3
        yield one
        handler.open.set()
        await one.nothing_is_left()
