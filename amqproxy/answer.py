"""The future of one call, which resumes its waiter the moment the answer is read from the socket."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Generator
from typing import Any

Reply = tuple[bytes | None, bytes | None, bytes]
"""content-type, content-encoding and body."""


class Answer:
    """What one task awaits: a reply or an error, whichever comes first; what comes later is ignored.

    An `asyncio.Future` wakes its task in the next turn of the event loop. This one does it at once when a reply comes:
    replies come from the socket's callback, in which no task runs that could be entered twice. A lone call is spared
    one of its two turns, a system call and the better part of its cost in asyncio; many calls, their share of that.
    Tasks accept it by the same protocol as the futures of other libraries (`_asyncio_future_blocking`).
    """

    __slots__ = ("_asyncio_future_blocking", "_callback", "_context", "_error", "_loop", "_reply")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._asyncio_future_blocking = False
        self._loop = loop
        self._callback: Callable[[Answer], Any] | None = None
        self._context: contextvars.Context | None = None
        self._reply: Reply | None = None
        self._error: BaseException | None = None

    def __await__(self) -> Generator[Answer, None, Reply]:
        if self._reply is None and self._error is None:
            self._asyncio_future_blocking = True
            yield self
        return self.result()

    def give(self, reply: Reply) -> None:
        """The reply came; whoever awaits it runs before this returns. To be called where no task runs."""
        if not self.done():
            self._reply = reply
            if self._callback is not None:
                assert self._context is not None
                self._context.run(self._callback, self)

    def fail(self, error: BaseException) -> None:
        """The call failed; whoever awaits it runs in the next turn. May be called anywhere."""
        if not self.done():
            self._error = error
            if self._callback is not None:
                self._loop.call_soon(self._callback, self, context=self._context)

    def done(self) -> bool:
        """Whether a reply or an error came."""
        return self._reply is not None or self._error is not None

    # What asyncio's tasks want of a future

    def get_loop(self) -> asyncio.AbstractEventLoop:
        """The loop whose tasks may await it."""
        return self._loop

    def add_done_callback(self, callback: Callable[[Answer], Any], *, context: contextvars.Context) -> None:
        """Remember the one task that awaits this."""
        self._callback, self._context = callback, context

    def cancel(self, msg: Any = None) -> bool:
        """The waiting task is cancelled; False if that comes too late."""
        if self.done():
            return False
        self.fail(asyncio.CancelledError() if msg is None else asyncio.CancelledError(msg))
        return True

    def result(self) -> Reply:
        """The reply; raises the error if there is one."""
        if self._error is not None:
            raise self._error
        assert self._reply is not None
        return self._reply
