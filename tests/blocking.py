"""Programs without an event loop, and what they call: each is run in a process of its own by the tests.

python blocking.py PROGRAM URL SERVICE
"""

from __future__ import annotations

import asyncio
import gc
import multiprocessing
import os
import signal
import sys
import threading
import warnings
from collections.abc import AsyncIterator
from hashlib import sha256
from typing import Any

import amqproxy


def say(*words: object) -> None:
    print(*words, flush=True)


@amqproxy.serve("tests.workshop", auto_delete=True, arguments={"x-expires": 60_000})
class Workshop:
    def __init__(self) -> None:
        self.mq: amqproxy.sync.Client | None = None
        self.lock = threading.Lock()

    async def add(self, x: int, y: int = 0) -> int:
        """The sum of both."""
        return x + y

    def divide(self, x: float, y: float) -> float:
        return x / y

    async def never(self) -> None:
        say("waiting")
        amqproxy.current().progress(None, note="waiting")
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            say("cancelled")
            raise

    def forward(self, service: str, x: int, y: int) -> int:
        """Call another service, blocking, from the thread of a plain handler."""
        result: int = self._connected().proxy(service).add(x, y)
        return result

    def forwarded_time_left(self, service: str) -> float | None:
        left: float | None = self._connected().proxy(service).time_left()
        return left

    async def time_left(self) -> float | None:
        return amqproxy.current().time_left

    def _connected(self) -> amqproxy.sync.Client:
        with self.lock:
            if self.mq is None:
                self.mq = amqproxy.sync.connect()
            return self.mq

    def train(self, rounds: int) -> str:
        for number in range(rounds):
            amqproxy.current().progress(number + 1, rounds, "training")
        return "trained"

    async def export(self, rows: int) -> AsyncIterator[int]:
        for number in range(rows):
            amqproxy.current().progress(number + 1, rows)
            yield number

    async def name(self) -> str:
        return amqproxy.current().service

    async def note(self, text: str) -> None:
        say(text)

    async def count(self, to: int) -> AsyncIterator[int]:
        try:
            for number in range(to):
                yield number
        finally:
            say("counted")

    async def one_and_wait(self) -> AsyncIterator[int]:
        try:
            yield 1
            say("waiting")
            await asyncio.Event().wait()
        finally:
            say("closed")

    async def total(self, items: AsyncIterator[int], scale: int = 1) -> int:
        return scale * sum([item async for item in items])

    async def chat(self, questions: AsyncIterator[str]) -> AsyncIterator[str]:
        async for question in questions:
            yield question.upper()

    async def digest(self, data: amqproxy.Blob) -> str:
        digest = sha256()
        async for chunk in data:
            digest.update(chunk)
        return digest.hexdigest()

    async def zeros(self, size: int) -> amqproxy.Blob:
        return amqproxy.Blob(bytes(size))


def connected(url: str, service: str) -> tuple[Any, Any]:
    mq = amqproxy.sync.connect(url)
    return mq, mq.proxy(Workshop, name=service)


def interrupted(url: str, service: str) -> None:
    """Ctrl-C comes while it waits for an answer, and then while it waits for an item."""
    mq, shop = connected(url, service)
    with mq:
        try:
            shop.never()
        except KeyboardInterrupt:
            say("interrupted", shop.add(1, 2))
        numbers = shop.one_and_wait()
        try:
            say("item", next(numbers))
            next(numbers)
        except KeyboardInterrupt:
            say("interrupted", shop.add(3, 4))


def interrupted_at_the_end(url: str, service: str) -> None:
    """Ctrl-C ends the body, and the next one the draining."""
    mq = amqproxy.sync.connect(url)
    with mq:
        mq.serve(Workshop(), name=service).start()
        say("ready")
        signal.pause()


def forked(url: str, service: str) -> None:
    """Fork while other threads call and a stream is open; in the child all is as if it were closed."""
    warnings.filterwarnings("ignore", ".*fork.*", DeprecationWarning)
    mq, shop = connected(url, service)
    open_stream = shop.count(1_000_000)
    assert next(open_stream) == 0
    stop = threading.Event()

    def keep_calling() -> None:
        while not stop.is_set():
            assert shop.add(1, 2) == 3

    callers = [threading.Thread(target=keep_calling, daemon=True) for _ in range(4)]
    for caller in callers:
        caller.start()
    for end in (sys.exit, os._exit):
        if (child := os.fork()) == 0:
            refused(lambda: shop.add(1, 2))
            refused(lambda: mq.proxy("x"))
            refused(lambda: list(open_stream))
            open_stream.__del__()
            mq.close()
            with amqproxy.sync.connect(url) as own:
                assert own.proxy(Workshop, name=service).add(2, 3) == 5
            del mq, shop, open_stream
            gc.collect()
            say("child", end.__name__)
            end(0)
        assert os.waitpid(child, 0) == (child, 0)
    process = multiprocessing.get_context("fork").Process(target=refused, args=(lambda: shop.add(1, 2),))
    process.start()
    process.join()
    assert process.exitcode == 0
    stop.set()
    for caller in callers:
        caller.join()
    assert [next(open_stream) for _ in range(3)] == [1, 2, 3]
    say("parent", shop.add(3, 4))
    mq.close()


def refused(use: Any) -> None:
    try:
        use()
    except amqproxy.Closed as error:
        assert f"made in the process {os.getppid()}, from which this one was forked" in str(error), error
        assert "connect in each process" in str(error), error
    else:
        raise AssertionError("a connection of the parent was used")


def orphaned(url: str, service: str) -> None:
    """Serve, and leave a child behind that has not closed anything."""
    warnings.filterwarnings("ignore", ".*fork.*", DeprecationWarning)
    mq = amqproxy.sync.connect(url)
    mq.serve(Workshop(), name=service).start()
    if os.fork() == 0:
        say("child", os.getpid())
    signal.pause()


def forgotten(url: str, service: str) -> None:
    """End without closing anything, while a handler runs: it ends only when the worker is stopped."""

    class Slow:
        async def answer(self) -> str:
            say("waiting")
            running.set()
            while not worker.stopping:  # noqa: ASYNC110  # nobody tells
                await asyncio.sleep(0.01)
            return "drained"

    running = threading.Event()
    mq = amqproxy.sync.connect(url)
    worker: Any = mq.serve(Slow(), name=service, auto_delete=True)
    worker.start()
    say("ready")
    running.wait()


def abandoned(url: str, service: str) -> None:
    """End while threads wait for an answer that will not come."""
    _, shop = connected(url, service)

    def call() -> None:
        try:
            shop.never()
        except amqproxy.AMQProxyError as error:
            say("thread:", type(error).__name__)

    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(3))
    threading.Thread(target=call, daemon=True).start()
    signal.pause()


if __name__ == "__main__":
    program, *arguments = sys.argv[1:]
    globals()[program](*arguments)
