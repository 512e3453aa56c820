"""What a worker streams, as its caller gets it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Generator
from types import TracebackType
from typing import Any, Generic, TypeVar

from .blob import Blob
from .conversation import Conversation
from .forgotten import never_made

Item = TypeVar("Item", covariant=True)


class Stream(AsyncIterator[Item], Generic[Item]):
    """What a worker streams: an asynchronous iterator, which also can be closed before its end.

    The call is made when the first item is asked for. Leaving the loop early, an exception in it, `aclose` or the end
    of an `async with` stop the worker's generator; so does forgetting the stream, in its own time.
    """

    __slots__ = ("_conversation", "_inlet")

    def __init__(self, conversation: Conversation) -> None:
        assert conversation.inlet is not None
        self._conversation = conversation
        self._inlet = conversation.inlet

    def __aiter__(self) -> Stream[Item]:
        return self

    async def __anext__(self) -> Item:
        if self._inlet.ready:
            return self._inlet.pop()  # type: ignore[no-any-return]  # of the type that was decoded
        return await self._conversation.item()  # type: ignore[no-any-return]  # as above

    async def some(self) -> list[Item]:
        """The next item and those behind it that have come, for who takes them to another thread, say.

        They are half of the credit at most, and count as taken when more are asked for. StopAsyncIteration at the end.
        """
        self._inlet.settle()
        return [await anext(self), *self._inlet.lend()]

    def __await__(self) -> Generator[Any, None, Stream[Item]]:
        """Make the call now, and wait until the worker has begun."""
        yield from self._conversation.result().__await__()
        return self

    @property
    def begun(self) -> bool:
        """Whether the call was made."""
        return self._conversation.begun

    async def aclose(self) -> None:
        """Stop the worker; no more items come. Closing twice does no harm."""
        self._close()

    def _close(self) -> None:
        self._conversation.cancel()
        self._inlet.ready.clear()

    async def __aenter__(self) -> Stream[Item]:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._close()

    def __del__(self) -> None:
        conversation = self._conversation
        if not (conversation.begun or conversation.ended):
            never_made(conversation.name, self)
        elif not conversation.ended and not conversation.loop.is_closed():
            # Collected wherever the last reference was dropped, which may be another thread.
            conversation.loop.call_soon_threadsafe(conversation.cancel)

    def __repr__(self) -> str:
        return f"<Stream of {self._conversation.name}>"


class ReceivedBlob(Blob):
    """A Blob that comes from a worker: its chunks are read once."""

    def __init__(self, stream: Stream[bytes]) -> None:
        self._stream = stream
        super().__init__(stream)

    def __aiter__(self) -> AsyncIterator[bytes]:
        self._begin()
        return self._stream

    def __repr__(self) -> str:
        return f"<Blob from {self._stream!r}>"
