"""Iterators between threads and the event loop: generators of plain handlers, and streams that those read."""

from __future__ import annotations

import asyncio
import contextvars
import queue
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import Executor
from typing import Any

_END = object()


class FromThread(AsyncIterator[Any]):
    """The items of a plain iterator, which runs in one thread from its first item to its last.

    It is asked for one item at a time, and for none before that one is wanted. A database's cursor, say, may not
    change its thread.
    """

    def __init__(self, threads: Executor, iterator: Iterator[Any]) -> None:
        self._threads = threads
        self._iterator = iterator
        self._loop = asyncio.get_running_loop()
        self._asked: queue.SimpleQueue[asyncio.Future[Any] | None] = queue.SimpleQueue()
        self._running: asyncio.Future[None] | None = None
        self._over = False
        """Whether the thread looks for no further item; so before it tells of the end, which ends it a moment later."""

    def __aiter__(self) -> FromThread:
        return self

    async def __anext__(self) -> Any:
        item = self._loop.create_future()
        if self._running is None:
            run = contextvars.copy_context().run
            self._running = self._loop.run_in_executor(self._threads, run, self._run)
        elif self._over:
            raise StopAsyncIteration
        self._asked.put(item)
        found = await item
        if found is _END:
            raise StopAsyncIteration
        return found

    async def aclose(self) -> None:
        """Close the generator in its thread, as soon as that comes back from what it does."""
        if self._running is None:
            self._threads.submit(self._close)
        else:
            self._asked.put(None)

    def _run(self) -> None:
        try:
            while (item := self._asked.get()) is not None:
                try:
                    found = next(self._iterator, _END)
                except BaseException as error:
                    self._over = True
                    self._give(item, None, error)
                    return
                self._over = found is _END
                self._give(item, found, None)
                if found is _END:
                    return
        finally:
            self._over = True
            self._close()

    def _close(self) -> None:
        close = getattr(self._iterator, "close", None)
        if close is not None:
            close()

    def _give(self, item: asyncio.Future[Any], found: Any, error: BaseException | None) -> None:
        def settle() -> None:
            if item.done():  # who waited has been cancelled
                return
            if error is None:
                item.set_result(found)
            else:
                item.set_exception(error)

        self._loop.call_soon_threadsafe(settle)


class InThread(Iterator[Any]):
    """The items of an asynchronous iterator of an event loop, for code that runs in a thread."""

    def __init__(self, items: AsyncIterator[Any], loop: asyncio.AbstractEventLoop) -> None:
        self._items = items
        self._loop = loop

    def __iter__(self) -> InThread:
        return self

    def __next__(self) -> Any:
        found = asyncio.run_coroutine_threadsafe(self._next(), self._loop).result()
        if found is _END:
            raise StopIteration
        return found

    async def _next(self) -> Any:
        try:
            return await anext(self._items)
        except StopAsyncIteration:
            return _END
