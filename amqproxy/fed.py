"""What a caller feeds a worker, while its handler takes it."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import Any

from .codecs.items import Items
from .flow import FlowError
from .stream import Inlet
from .wire import Part


class FedInlet(Inlet):
    """The receiving end in a worker, which reads what strangers send: little of what waits there is decoded.

    Credit counts items, and a few bytes may hold a large one. So of the messages that wait, only the first is decoded,
    which is how most nonsense is found when it comes; the others are when the handler gets there.
    """

    __slots__ = ("_broken", "_bytes", "_most", "_undecoded")

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        window: int,
        items: Items,
        grant: Callable[[int], None],
        *,
        most: int,
        broken: Callable[[Exception], None],
    ) -> None:
        """Let messages of `most` bytes wait; `broken` is told of one that makes no sense when the handler gets there.

        Who takes items is interrupted by `broken`, or else gets the error itself.
        """
        super().__init__(loop, window, items, grant)
        self._most = most
        self._broken = broken
        self._undecoded: deque[tuple[bytes, int, int]] = deque()  # with the number of items, and how many to leave out
        self._bytes = 0

    def take(self, part: Part, body: bytes) -> None:
        """A message of the stream came; FlowError or DecodingFailed if it makes no sense, or is too much."""
        if part.last or not (self.ready or self._undecoded):
            super().take(part, body)
            return
        old = self.flow.received(part.first, part.items)
        if old == part.items:
            return
        if self._bytes + len(body) > self._most:
            text = "more than %d bytes of items wait for the handler: feed it a Blob, whose chunks wait at the caller"
            raise FlowError(text % self._most)
        self._bytes += len(body)
        self._undecoded.append((body, part.items, old))

    async def next(self) -> Any:
        """The next item, as of any stream."""
        while self._undecoded and not self.ready:
            try:
                self._decode()
            except Exception as error:  # of whatever kind: items would be missing
                self._undecoded.clear()
                self.flow.end()
                self._error = error
                self._broken(error)
                await asyncio.sleep(0)  # where the task of the call is interrupted, if it is the one that takes
                raise
        return await super().next()

    def _decode(self) -> None:
        body, items, old = self._undecoded.popleft()
        self._bytes -= len(body)
        values = self.items.unpack(body, items)
        self.ready.extend(values[old:] if old else values)


class FedItems(AsyncIterator[Any]):
    """What a handler reads its caller's stream from."""

    __slots__ = ("_inlet",)

    def __init__(self, inlet: Inlet) -> None:
        self._inlet = inlet

    def __aiter__(self) -> FedItems:
        return self

    async def __anext__(self) -> Any:
        return self._inlet.pop() if self._inlet.ready else await self._inlet.next()
