"""The two ends of a stream, wherever they are: in the worker that answers with one, and in the caller that feeds one.

What crosses the wire goes through functions that the owner of an end gives it; which item may go when, and which one
came, is said by the machines in flow.py.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable
from typing import Any, Protocol

from .codecs import Mismatch
from .codecs.items import Items
from .errors import EncodingFailed, MessageTooLarge
from .flow import Inflow, Outflow
from .wire import Part

BATCH_BYTES = 16 * 1024
"""Items share a message until they have so many bytes: larger messages save nothing more."""
ITEM_BYTES = 4
"""What an item takes besides its own bytes, at most."""
YIELD_MESSAGES = 64
"""After so many messages without a pause, others get a turn."""


class Inlet:
    """The receiving end: what comes is taken from it item by item, and credit goes back."""

    __slots__ = ("_error", "_grant", "_lent", "_loop", "_waiter", "flow", "items", "ready")

    def __init__(
        self, loop: asyncio.AbstractEventLoop, window: int, items: Items, grant: Callable[[int], None]
    ) -> None:
        self.flow = Inflow(window)
        self.ready: deque[Any] = deque()
        """Items that came and were not taken yet."""
        self._loop = loop
        self.items = items
        self._grant = grant
        self._waiter: asyncio.Future[None] | None = None
        self._error: BaseException | None = None
        self._lent = 0

    def take(self, part: Part, body: bytes) -> None:
        """A message of the stream came; FlowError or DecodingFailed if it makes no sense."""
        if part.last:
            self.flow.end(part.first)
        else:
            old = self.flow.received(part.first, part.items)
            if old == part.items:
                return
            values = self.items.unpack(body, part.items)
            self.ready.extend(values[old:] if old else values)
        self._wake()

    def take_all(self, body: bytes) -> None:
        """The whole stream came in one message, from a worker that does not stream."""
        if self.flow.open:
            self.ready.extend(self.items.unpack_all(body))
            self.flow.end()
            self._wake()

    def fail(self, error: BaseException | None) -> None:
        """No more will come; who takes items is told behind the last one that came, of an error if there is one."""
        if self.flow.end():
            self._error = error
            self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def next(self) -> Any:
        """The next item; StopAsyncIteration at the end of the stream, or whatever it failed with."""
        if not self.ready:
            await self._wait()
        return self.pop()

    def pop(self) -> Any:
        """The next item, which must be there."""
        item = self.ready.popleft()
        self._taken(1)
        return item

    def lend(self) -> list[Any]:
        """Further items that are there, as many as half of the window with the one before: they are not taken yet.

        They count as taken when `settle` says so, so that what lies with the consumer counts like what lies here.
        """
        self._lent = max(0, min(len(self.ready), self.flow.window // 2 - 1))
        return [self.ready.popleft() for _ in range(self._lent)]

    def settle(self) -> None:
        """What was lent was taken."""
        if self._lent:
            lent, self._lent = self._lent, 0
            self._taken(lent)

    def _taken(self, items: int) -> None:
        if granted := self.flow.taken(items):
            self._grant(granted)

    async def _wait(self) -> None:
        """Return when there is an item."""
        if self._waiter is not None:
            raise RuntimeError("another task waits for the next item of this stream")
        while not self.ready:
            if not self.flow.open:
                if self._error is None:
                    raise StopAsyncIteration
                raise self._error
            self._waiter = self._loop.create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None


class Socket(Protocol):
    """What a stream goes out through, which is a lane."""

    @property
    def writable(self) -> bool:
        """False while it is full."""

    async def wait_writable(self) -> None:
        """Return when it takes more, or is gone."""


class Outlet:
    """The sending end: sends what an iterator yields, as far as the credit goes, small items together."""

    __slots__ = (
        *("_batch", "_bytes", "_credit", "_end", "_items", "_loop", "_messages", "_misfit", "_most", "_send"),
        *("_socket", "_waiting", "flow"),
    )

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        flow: Outflow,
        items: Items,
        *,
        batch: int,
        body_bytes: int,
        send: Callable[[int, int, bytes], None],
        end: Callable[[int], None],
        misfit: Callable[[Exception], Exception],
        socket: Socket | None = None,
    ) -> None:
        """Send through `send`, which takes the number of the first item, how many there are, and the body.

        `end` is told once, unless the stream fails, with the number of items. `batch` is how many may share a message
        of at most `body_bytes`. `misfit` makes the error to raise of what an item that cannot be written raised.
        While `socket` is full, no further item is asked for: credit bounds what is between both ends, and not how
        much of it waits here.
        """
        self._socket = socket
        self.flow = flow
        self._loop = loop
        self._items = items
        self._batch = batch if items.batches else 1
        self._most = min(BATCH_BYTES, body_bytes // 2)  # a compression may add a little to what is random
        self._send = send
        self._end = end
        self._misfit = misfit
        self._waiting: list[bytes] = []
        self._bytes = 0
        self._messages = 0
        self._credit: asyncio.Future[None] | None = None

    def granted(self, items: int) -> None:
        """The receiver takes so many more; FlowError if that is no number of items."""
        self.flow.granted(items)
        if items and self._credit is not None and not self._credit.done():
            self._credit.set_result(None)

    async def run(self, source: AsyncIterable[Any]) -> None:
        """Send all items of an iterator, which is asked for no item that may not be sent, and closed in any case.

        What it yields ahead of an error is sent. Nothing is sent after this has ended, nor once it is interrupted.
        """
        task = asyncio.current_task()
        try:
            await self._send_all(aiter(source))
        except BaseException as error:
            if not isinstance(error, asyncio.CancelledError) or (task is not None and not task.cancelling()):
                self._flush()
            raise
        else:
            self._flush()
            self._end(self.flow.next)
        finally:
            self.flow.end()

    async def _send_all(self, iterator: AsyncIterator[Any]) -> None:
        encode = self._items.encode
        try:
            await self._room()
            async for item in iterator:
                try:
                    body = encode(item)
                except (Mismatch, EncodingFailed, MessageTooLarge) as error:
                    raise self._misfit(error) from error
                self._add(body)
                if len(self._waiting) >= self.flow.credit or self._messages >= YIELD_MESSAGES:
                    self._flush()
                    await self._room()
        finally:
            await close(iterator)

    async def _room(self) -> None:
        """Return when the next item may be sent; others get a turn in any case."""
        self._messages = 0
        if self._socket is not None and not self._socket.writable:
            await self._socket.wait_writable()
        elif self.flow.credit:
            await asyncio.sleep(0)
        while not self.flow.credit:
            self._credit = self._loop.create_future()
            try:
                await self._credit
            finally:
                self._credit = None

    def _add(self, body: bytes) -> None:
        size = len(body) + ITEM_BYTES
        if self._bytes + size > self._most:
            self._flush()
        self._waiting.append(body)
        self._bytes += size
        if len(self._waiting) >= self._batch or self._bytes >= self._most:
            self._flush()
        elif len(self._waiting) == 1:
            self._loop.call_soon(self._flush)  # which comes when the iterator pauses

    def _flush(self) -> None:
        """Send what waits."""
        waiting = self._waiting
        if waiting and self.flow.open:
            self._waiting = []
            self._bytes = 0
            self._messages += 1
            self._send(self.flow.sent(len(waiting)), len(waiting), self._items.pack(waiting))
            if self._socket is not None and not self._socket.writable:
                self._messages = YIELD_MESSAGES  # which lets the next item wait


async def close(iterator: Any) -> None:
    """Let an asynchronous iterator clean up, if it is one that can."""
    aclose = getattr(iterator, "aclose", None)
    if aclose is not None:
        await aclose()


async def as_asynchronous(items: Iterable[Any]) -> AsyncIterator[Any]:
    """A plain iterator, for what wants an asynchronous one. It runs in the event loop."""
    for item in items:
        yield item
