"""A plain iterator where the async side wants an async one."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Iterator
from contextlib import suppress
from queue import SimpleQueue
from typing import Any

_Asked = SimpleQueue["asyncio.Future[Any] | None"]


class Items:
    """The items of an iterator, each taken when it is asked for, in a thread that is there for nothing else.

    Not in the event loop, which an iterator that takes its time would hold up. Nor in the thread that made the call: it
    waits for the answers, and an iterator may well wait for what that thread does with them (a chat). So an iterator
    sees the context variables of the thread that it was given in, and none of its thread locals.
    """

    def __init__(self, iterator: Iterator[Any]) -> None:
        self._iterator = iterator
        self._context = contextvars.copy_context()
        self._asked: _Asked | None = None
        self._over = False

    def __aiter__(self) -> Items:
        return self

    async def __anext__(self) -> Any:
        if self._over:
            raise StopAsyncIteration
        item = asyncio.get_running_loop().create_future()
        if self._asked is None:
            asked: _Asked = SimpleQueue()
            taking = (_take, self._iterator, asked)
            threading.Thread(target=self._context.run, args=taking, name="amqproxy items", daemon=True).start()
            self._asked = asked
        self._asked.put(item)
        try:
            return await item
        except BaseException:
            self._end()
            raise

    async def aclose(self) -> None:
        """Ask for no further item. The iterator is not closed: it is the caller's, who may have more to do with it."""
        self._end()

    def __del__(self) -> None:
        self._end()

    def _end(self) -> None:
        if not self._over:
            self._over = True
            if self._asked is not None:
                self._asked.put(None)


def _take(iterator: Iterator[Any], asked: _Asked) -> None:
    while (item := asked.get()) is not None:
        try:
            outcome, value = item.set_result, next(iterator)
        except StopIteration:
            outcome, value = item.set_exception, StopAsyncIteration()
        except Exception as error:
            outcome, value = item.set_exception, error
        except BaseException as error:  # such as SystemExit, which would end the event loop
            outcome, value = item.set_exception, RuntimeError(f"the iterator raised {error!r}")
        with suppress(RuntimeError):  # the event loop is closed
            item.get_loop().call_soon_threadsafe(_settle, item, outcome, value)
        del item, outcome, value


def _settle(item: asyncio.Future[Any], outcome: Any, value: Any) -> None:
    if not item.done():
        outcome(value)
