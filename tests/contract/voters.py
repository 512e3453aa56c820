"""What the tests of broadcasts serve and ask, and workers that are not ours."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import amqproxy
from tests.contract.raw import Message, Raw
from tests.idl import kinds_pb2
from tests.processes import Running, running


@amqproxy.message("com.example.Question")
@dataclass
class Question:
    text: str


class Voter:
    """One of several workers, which knows which one it is, and what became of its calls."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.asked = asyncio.Semaphore(0)
        self.stopped = asyncio.Semaphore(0)
        self.free = asyncio.Event()
        self.heard: list[Any] = []

    async def add(self, x: int, y: int = 0) -> int:
        return self.number + x + y

    async def divide(self, x: int) -> float:
        return x / self.number

    async def ask(self, question: Question) -> str:
        return f"{self.number}: {question.text}"

    async def plain(self, message: kinds_pb2.Plain) -> kinds_pb2.Plain:
        return kinds_pb2.Plain(number=message.number + self.number)

    async def wait(self, quick: list[int]) -> int:
        """Answer at once, or when it is free."""
        self.asked.release()
        if self.number not in quick:
            try:
                await self.free.wait()
            finally:
                self.stopped.release()
        return self.number

    def block(self) -> int:
        """The same in a thread, which looks for its end itself."""
        call = amqproxy.current()
        self.asked.release()
        while not call.cancelled and not self.free.is_set():
            pass
        self.stopped.release()
        return self.number

    async def count(self, to: int) -> AsyncIterator[int]:
        self.asked.release()
        try:
            for number in range(to):
                yield self.number * 100 + number
            if to > 10:
                await self.free.wait()
        finally:
            self.stopped.release()

    def tally(self, to: int) -> Iterator[int]:
        try:
            yield from range(to)
            if to > 10:
                raise LookupError("too far")
        finally:
            self.stopped.release()

    async def file(self, size: int) -> amqproxy.Blob:
        return amqproxy.Blob(bytes([self.number]) * size)

    async def feed(self, numbers: AsyncIterator[int]) -> int:
        return sum([number async for number in numbers])

    async def note(self, text: str) -> None:
        self.heard.append((text, amqproxy.current().properties))
        self.asked.release()

    async def left(self) -> float | None:
        return amqproxy.current().time_left


async def soon(semaphore: asyncio.Semaphore) -> None:
    """Wait for what must happen within a second."""
    async with asyncio.timeout(1):
        await semaphore.acquire()


async def until(condition: Callable[[], object]) -> None:
    """Wait for what nobody tells."""
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.005)


@asynccontextmanager
async def pool(mq: amqproxy.Client, service: str, size: int, **options: Any) -> AsyncIterator[list[Voter]]:
    """So many workers, on one connection, numbered from 0."""
    voters = [Voter(number) for number in range(size)]
    async with AsyncExitStack() as stack:
        for voter in voters:
            await stack.enter_async_context(mq.serve(voter, name=service, auto_delete=True, **options))
        yield voters


@asynccontextmanager
async def processes(url: str, service: str, size: int) -> AsyncIterator[list[Running]]:
    async with AsyncExitStack() as stack:
        workers = [await stack.enter_async_context(running("polled.py", url, service)) for _ in range(size)]
        for worker in workers:
            await worker.says("serving")
        yield workers


def nothing_is_left(mq: amqproxy.Client) -> bool:
    lines = mq.caller._lines._lines.values()
    return not any(line.conversations or len(line.calls) for line in lines)


def values(answers: list[amqproxy.WorkerAnswer[Any]]) -> list[Any]:
    return sorted(answer.result() for answer in answers)


async def all_of(answers: amqproxy.Answers[Any]) -> list[amqproxy.WorkerAnswer[Any]]:
    return await answers


@asynccontextmanager
async def a_pool_of_others(mq: amqproxy.Client, service: str, *peers: Raw) -> AsyncIterator[None]:
    """Peers that do what workers of a pool do before they are asked."""
    for peer in peers:
        await peer.joins(service)
    yield
    await (await (await mq._live_connection().link())._channel()).exchange_delete(f"amqproxy.{service}")


def answer(peer: Raw, request: Message, body: bytes, worker: Any = None, **properties: Any) -> None:
    said = request.properties
    assert said.reply_to is not None
    headers = {} if worker is None else {"x-worker": worker}
    given = {"content_type": b"x.Reply", "correlation_id": said.correlation_id, "headers": headers, **properties}
    peer.publish(said.reply_to.decode(), body, **given)
