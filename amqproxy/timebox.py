"""Blocks of code whose calls share a time."""

from __future__ import annotations

import asyncio
import contextvars
import time
from types import TracebackType
from typing import Any

from .bounds import check_number
from .deadline import Deadline
from .scope import Block, Scope, scope


def deadline(seconds: float | None) -> Timebox:
    """A block within which all calls end in so many seconds, counted from its beginning.

        with amqproxy.deadline(5) as within:
            user = await users.find(7)
            await mails.send(user.address, f"{within.left:.1f} seconds were left")

    A call that is not over by then fails with CallTimeout, and one that is made later is not sent. Tasks and threads
    that are started within inherit it, and so do the handlers that run the calls, with all that they call: each is told
    what is left. Of blocks in each other, and of a handler's own caller, the earliest end counts. `deadline(None)`
    lifts it, for work that a handler starts and does not wait for.

    It bounds calls, and nothing else that the block does. TypeError or ValueError if `seconds` is no finite number from
    0 on.
    """
    if seconds is not None:
        check_number("a deadline in seconds", seconds)
    return Timebox(seconds)


class Timebox:
    """Such a block, to be entered once, by `with` or by `async with`."""

    __slots__ = ("_block", "_seconds", "_token")

    def __init__(self, seconds: float | None) -> None:
        self._seconds = seconds
        self._block: Block | None = None
        self._token: contextvars.Token[Scope | None] | None = None

    @property
    def left(self) -> float | None:
        """Seconds that are left for calls, never less than 0; None if there is no limit."""
        if self._block is None:
            return self._seconds
        return None if self._block.deadline is None else Deadline(self._block.deadline).left(_now())

    def __enter__(self) -> Timebox:
        if self._block is not None:
            raise RuntimeError("this deadline was begun already: make one for each block, with amqproxy.deadline(…)")
        outer = scope.get()
        until = None if self._seconds is None else Deadline.after(self._seconds, _now()).at
        if until is not None and outer is not None and outer.deadline is not None:
            until = min(until, outer.deadline)
        self._block = Block(
            until, outer, None if outer is None else outer.watcher, None if outer is None else outer.collector
        )
        self._token = scope.set(self._block)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        assert self._token is not None
        scope.reset(self._token)

    async def __aenter__(self) -> Timebox:
        return self.__enter__()

    async def __aexit__(self, *error: Any) -> None:
        self.__exit__(*error)

    def __repr__(self) -> str:
        left = self.left
        return "<no deadline>" if left is None else f"<deadline in {left:.3g} s>"


def _now() -> float:
    """The clock of the running event loop; in a thread without one the clock that event loops go by."""
    try:
        return asyncio.get_running_loop().time()
    except RuntimeError:
        return time.monotonic()
