"""What a worker says while it runs a call whose caller asked for it: that it is alive, and how far it is."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TypeVar

from .alive import NOTHING, Progress, encode_progress

Result = TypeVar("Result")

PROGRESS_SECONDS = 0.05
"""Between two signs of life that tell of progress, at least; what changes faster is told in its latest state."""


class Heartbeat:
    """The signs of life of one call: one at its beginning, one per interval, and more when there is progress.

    They come from a timer of the event loop: where that is held up, or the process is stopped, there are none.
    """

    __slots__ = ("_due", "_ended", "_interval", "_latest", "_loop", "_noted", "_send", "_timer")

    def __init__(self, loop: asyncio.AbstractEventLoop, interval: float, send: Callable[[bytes], None]) -> None:
        """Send through `send`, which takes the body of an Alive; `interval` is in seconds."""
        self._loop = loop
        self._interval = interval
        self._send = send
        self._latest: Progress | None = None
        self._noted = False  # the event loop knows of progress to be told
        self._due = 0.0  # the moment from which on that may be
        self._timer: asyncio.TimerHandle | None = None
        self._ended = False

    def begin(self) -> None:
        """The call came: tell that before its handler runs, which may hold up the event loop."""
        self._send(encode_progress(NOTHING))
        self._due = self._loop.time() + PROGRESS_SECONDS

    async def around(self, running: Awaitable[Result]) -> Result:
        """Await the handler, or its turn, with signs of life until that ends; the last progress is told by then."""
        self._ended = False
        self._timer = self._loop.call_later(self._interval, self._beat)
        try:
            return await running
        finally:
            self._ended = True
            if self._timer is not None:
                self._timer.cancel()
            self.flush()

    def tell(self, progress: Progress) -> None:
        """The handler is that far; may be called in any thread, as often as it likes."""
        if self._ended:
            return
        self._latest = progress
        if not self._noted:  # looked at behind the line above: the event loop does it in the other order
            self._noted = True
            with suppress(RuntimeError):  # of a thread that goes on when the event loop is closed
                self._loop.call_soon_threadsafe(self._note)

    def flush(self) -> None:
        """Tell the latest progress now, if it was not told yet."""
        self._noted = False
        progress, self._latest = self._latest, None
        if progress is not None:
            self._send(encode_progress(progress))

    def _note(self) -> None:
        """There is progress: tell it now, or when that may be."""
        if self._ended:
            return
        if self._timer is not None:
            self._timer.cancel()
        now = self._loop.time()
        if now >= self._due:
            self._beat()
        else:
            self._timer = self._loop.call_at(self._due, self._beat)

    def _beat(self) -> None:
        if self._latest is None:
            self._send(encode_progress(NOTHING))
        else:
            self.flush()
        now = self._loop.time()
        self._due = now + PROGRESS_SECONDS
        self._timer = self._loop.call_at(now + self._interval, self._beat)
