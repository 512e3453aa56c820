"""Iterators that cross between threads and the event loop: one thread for one iterator, and nobody left waiting."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from amqproxy.threads import FromThread, InThread


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    """Two threads, both free again at the end, or this never returns."""
    pool = ThreadPoolExecutor(2)
    yield pool
    pool.shutdown(wait=True)


@pytest.fixture
def one_thread() -> Iterator[ThreadPoolExecutor]:
    pool = ThreadPoolExecutor(1)
    yield pool
    pool.shutdown(wait=True)


class Source:
    """A generator that notes in which threads it runs, and that it was closed."""

    def __init__(self, items: int = 3, error: BaseException | None = None) -> None:
        self.items = items
        self.error = error
        self.produced = 0
        self.threads: set[int] = set()
        self.closed = threading.Event()

    def __call__(self) -> Iterator[int]:
        try:
            for number in range(self.items):
                self.threads.add(threading.get_ident())
                self.produced += 1
                yield number
            if self.error is not None:
                raise self.error
        finally:
            self.threads.add(threading.get_ident())
            self.closed.set()

    async def is_closed(self) -> None:
        assert await asyncio.to_thread(self.closed.wait, 10)


# From a thread


async def test_all_items_come_from_one_thread_and_not_the_loops(threads: ThreadPoolExecutor) -> None:
    source = Source(100)
    assert [item async for item in FromThread(threads, source())] == list(range(100))
    await source.is_closed()
    assert len(source.threads) == 1
    assert threading.get_ident() not in source.threads


async def test_none_is_produced_before_it_is_wanted(threads: ThreadPoolExecutor) -> None:
    source = Source()
    items = FromThread(threads, source())
    assert await anext(items) == 0
    assert await anext(items) == 1
    assert source.produced == 2
    await items.aclose()
    await source.is_closed()
    assert source.produced == 2


async def test_an_error_comes_behind_the_items_and_is_the_end(threads: ThreadPoolExecutor) -> None:
    items = FromThread(threads, Source(1, ZeroDivisionError("by zero"))())
    assert await anext(items) == 0
    with pytest.raises(ZeroDivisionError, match="by zero"):
        await anext(items)
    for _ in range(2):
        with pytest.raises(StopAsyncIteration):
            await anext(items)


async def test_asking_behind_the_end_is_the_end_again(threads: ThreadPoolExecutor) -> None:
    items = FromThread(threads, iter([1]))
    assert [item async for item in items] == [1]
    for _ in range(2):
        with pytest.raises(StopAsyncIteration):
            await anext(items)


async def test_who_asks_while_the_thread_finds_the_end_is_told_of_it(threads: ThreadPoolExecutor) -> None:
    entered, go_on = threading.Event(), threading.Event()

    def nothing() -> Iterator[int]:
        entered.set()
        go_on.wait(10)
        yield from ()

    items = FromThread(threads, nothing())
    first = asyncio.ensure_future(anext(items, None))
    await asyncio.to_thread(entered.wait, 10)
    first.cancel()
    second = asyncio.ensure_future(anext(items, "the end"))
    await asyncio.sleep(0)
    go_on.set()
    assert await asyncio.wait_for(second, 10) == "the end"


async def test_closing_runs_what_is_finally_to_be_done_in_the_same_thread(threads: ThreadPoolExecutor) -> None:
    source = Source()
    items = FromThread(threads, source())
    await anext(items)
    await items.aclose()
    await items.aclose()
    await source.is_closed()
    assert len(source.threads) == 1
    with pytest.raises(StopAsyncIteration):
        await anext(items)


async def test_closing_what_was_never_begun_closes_the_iterator(threads: ThreadPoolExecutor) -> None:
    class Cursor(Iterator[int]):
        closed = threading.Event()

        def __next__(self) -> int:
            raise AssertionError("nobody asked")

        def close(self) -> None:
            self.closed.set()

    items = FromThread(threads, Cursor())
    await items.aclose()
    await items.aclose()
    assert await asyncio.to_thread(Cursor.closed.wait, 10)


async def test_an_iterator_that_cannot_be_closed_need_not_be(threads: ThreadPoolExecutor) -> None:
    items = FromThread(threads, iter([1, 2]))
    assert await anext(items) == 1
    await items.aclose()


async def test_closing_that_raises_is_logged(threads: ThreadPoolExecutor, caplog: pytest.LogCaptureFixture) -> None:
    def stubborn() -> Iterator[int]:
        try:
            yield 1
        finally:
            raise OSError("the disk is full")

    items = FromThread(threads, stubborn())
    await anext(items)
    await items.aclose()
    await asyncio.to_thread(threads.shutdown)  # which waits for what runs
    assert "stubborn" in caplog.text
    assert "the disk is full" in caplog.text


async def test_who_is_cancelled_and_closes_leaves_the_thread_free(one_thread: ThreadPoolExecutor) -> None:
    entered, go_on, closed = threading.Event(), threading.Event(), threading.Event()

    def slow() -> Iterator[int]:
        try:
            entered.set()
            go_on.wait(10)
            yield 1
        finally:
            closed.set()

    items = FromThread(one_thread, slow())
    task = asyncio.ensure_future(anext(items))
    await asyncio.to_thread(entered.wait, 10)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await items.aclose()
    go_on.set()
    assert await asyncio.to_thread(closed.wait, 10)
    assert await asyncio.get_running_loop().run_in_executor(one_thread, int) == 0


async def test_what_is_closed_while_it_waits_for_a_thread_is_never_begun(one_thread: ThreadPoolExecutor) -> None:
    release = threading.Event()
    blocker = one_thread.submit(release.wait, 10)
    source = Source()
    items = FromThread(one_thread, source())
    task = asyncio.ensure_future(anext(items))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await items.aclose()
    release.set()
    assert blocker.result()
    assert await asyncio.get_running_loop().run_in_executor(one_thread, int) == 0
    assert source.produced == 0


async def test_the_generator_runs_in_the_context_of_who_asks_first(threads: ThreadPoolExecutor) -> None:
    user = contextvars.ContextVar("user", default="nobody")

    def who() -> Iterator[str]:
        while True:
            yield user.get()

    items = FromThread(threads, who())
    user.set("ada")
    assert await anext(items) == "ada"
    user.set("bob")
    assert await anext(items) == "ada"
    await items.aclose()


# In a thread


async def numbers(items: int, seen: list[str]) -> AsyncIterator[int]:
    try:
        for number in range(items):
            await asyncio.sleep(0)
            yield number
    finally:
        seen.append("closed")


async def test_a_thread_reads_what_the_loop_yields(threads: ThreadPoolExecutor) -> None:
    seen: list[str] = []
    loop = asyncio.get_running_loop()
    items = InThread(numbers(5, seen), loop)
    assert iter(items) is items
    assert await loop.run_in_executor(threads, list, items) == [0, 1, 2, 3, 4]
    assert await loop.run_in_executor(threads, list, items) == []
    assert seen == ["closed"]


async def test_an_error_of_the_loop_is_raised_in_the_thread(threads: ThreadPoolExecutor) -> None:
    async def broken() -> AsyncIterator[int]:
        yield 1
        raise KeyError("gone")

    def read(items: Iterator[int]) -> list[Any]:
        found: list[Any] = [next(items)]
        try:
            next(items)
        except KeyError as error:
            found.append(error)
        return found

    loop = asyncio.get_running_loop()
    one, error = await loop.run_in_executor(threads, read, InThread(broken(), loop))
    assert (one, type(error), error.args) == (1, KeyError, ("gone",))
