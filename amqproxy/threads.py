"""Iterators between threads and the event loop: generators of plain handlers, and streams that those read."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import queue
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import Executor
from typing import Any

log = logging.getLogger("amqproxy.threads")

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
        self._begun = False
        self._over = False
        """Whether nothing more is to be asked; only the loop's thread says so."""

    def __aiter__(self) -> FromThread:
        return self

    async def __anext__(self) -> Any:
        if self._over:
            raise StopAsyncIteration
        item = self._loop.create_future()
        if not self._begun:
            self._begun = True
            self._loop.run_in_executor(self._threads, contextvars.copy_context().run, self._run)
        self._asked.put(item)
        found = await item
        if found is _END:
            raise StopAsyncIteration
        return found

    async def aclose(self) -> None:
        """Close the generator in its thread, as soon as that comes back from what it does."""
        if not self._begun and not self._over:
            self._threads.submit(self._close)
        self._over = True
        self._asked.put(None)

    def _run(self) -> None:
        try:
            while (item := self._asked.get()) is not None:
                error: BaseException | None = None
                try:  # it may have been closed while it waited for a thread
                    found = _END if self._over else next(self._iterator, _END)
                except BaseException as raised:
                    found, error = _END, raised
                self._loop.call_soon_threadsafe(self._settle, item, found, error)
                if found is _END:
                    return
        finally:
            self._close()

    def _close(self) -> None:
        close = getattr(self._iterator, "close", None)
        if close is not None:
            try:
                close()
            except Exception:  # which nobody waits for
                log.warning("%r raised when it was closed", self._iterator, exc_info=True)

    def _settle(self, item: asyncio.Future[Any], found: Any, error: BaseException | None) -> None:
        if not item.done():  # unless who waited has been cancelled
            if error is None:
                item.set_result(found)
            else:
                item.set_exception(error)
        if found is _END:
            self._over = True
            while not self._asked.empty():  # of who asked meanwhile, and whom the thread hears no more
                later = self._asked.get()
                if later is not None and not later.done():
                    later.set_result(_END)


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
