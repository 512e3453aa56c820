"""How far a call is, for who makes it: in a loop, by a callback, or as a bar in the terminal."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Generator, Iterator
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import Any, Generic, TypeVar, overload

from .alive import Progress
from .received import Stream
from .scope import Block, scope
from .stream import close

Result = TypeVar("Result")
Item = TypeVar("Item")

Callback = Callable[[Progress], object]


@overload
def progress(call: AsyncIterator[Item], callback: Callback) -> AsyncIterator[Item]: ...


@overload
def progress(call: Awaitable[Result], callback: Callback | None = None) -> Watched[Result]: ...


def progress(call: Any, callback: Callback | None = None) -> Any:
    """A call, with what its handler tells by `amqproxy.current().progress(…)`, in a loop or by a callback.

        watched = amqproxy.progress(calc.train(data))
        async for update in watched:
            print(f"{update.done} of {update.total}: {update.note}")
        model = watched.result

        model = await amqproxy.progress(calc.train(data), print)

        async for row in amqproxy.progress(calc.export(), print):  # of a stream, the loop gets the items

    Leaving the loop early cancels the call; so does an exception in the callback, which is raised. Who is slow sees the
    latest update, and not each. The call may also be a coroutine of yours which makes several: their updates come as
    they are told. While they run they give signs of life, once a second or as often as their `heartbeat` says, and fail
    with WorkerLost when three are missed. TypeError if it is no call, or one that has begun.
    """
    if not (hasattr(call, "__await__") or hasattr(call, "__anext__")):
        hint = f"; call it: {call.__qualname__}(…)" if hasattr(call, "__qualname__") and callable(call) else ""
        raise TypeError(f"amqproxy.progress takes a call, as in progress(calc.train(data)), and not {call!r}{hint}")
    if isinstance(call, asyncio.Future) or _begun(call):
        raise TypeError("amqproxy.progress takes a call that has not begun, and no task: progress(calc.train(data))")
    if callback is not None and (not callable(callback) or inspect.iscoroutinefunction(callback)):
        raise TypeError(f"the callback is a plain function of one update, and not {callback!r}")
    if not hasattr(call, "__anext__"):
        return Watched(call, callback)
    if callback is None:
        raise TypeError("give a callback, as in progress(calc.export(), print): of a stream, the loop gets the items")
    return WatchedItems(call, callback)


def _begun(call: Any) -> bool:
    if isinstance(call, Stream):
        return call.begun
    return inspect.iscoroutine(call) and inspect.getcoroutinestate(call) != inspect.CORO_CREATED


@contextmanager
def watching(watcher: Callback) -> Iterator[None]:
    """A block whose calls tell `watcher` how far they are."""
    outer = scope.get()
    token = scope.set(Block(None if outer is None else outer.deadline, outer, watcher))
    try:
        yield
    finally:
        scope.reset(token)


class Watched(Generic[Result]):
    """A call whose updates are read in a loop, and whose result is awaited or found in `result` behind that."""

    __slots__ = ("_call", "_callback", "_task", "_updates")

    def __init__(self, call: Awaitable[Result], callback: Callback | None) -> None:
        """Make it with `amqproxy.progress`."""
        self._call = call
        self._callback = callback
        self._updates = _Updates()
        self._task: asyncio.Task[Result] | None = None

    def _started(self) -> asyncio.Task[Result]:
        if self._task is None:
            run = _run(self._call, self._callback or self._updates.put)
            self._task = asyncio.get_running_loop().create_task(run)
            self._task.add_done_callback(self._updates.end)
        return self._task

    def __await__(self) -> Generator[Any, None, Result]:
        """The result; who is cancelled while waiting for it cancels the call."""
        return (yield from self._started().__await__())  # not just its iterator: who awaits shall hold this object

    def __aiter__(self) -> AsyncIterator[Progress]:
        """The updates; with a callback, which gets these, the items of the stream that the call turns out to be."""
        if self._callback is None:
            return self
        with watching(self._callback):
            items: Any = WatchedItems(aiter(self._call), self._callback)  # type: ignore[arg-type]  # or a TypeError
            return items  # type: ignore[no-any-return]  # with a callback it is these that are iterated

    async def __anext__(self) -> Progress:
        task = self._started()
        try:
            update = await self._updates.next()
        except asyncio.CancelledError:  # as with generators: who is interrupted in the middle has left it
            task.cancel()
            raise
        if update is None:
            task.result()
            raise StopAsyncIteration
        return update

    @property
    def result(self) -> Result:
        """The result of a call that has ended, or an exception: what it raised. RuntimeError while it goes on."""
        if self._task is None or not self._task.done():
            raise RuntimeError("there is no result yet: await the call, or read its updates to their end")
        return self._task.result()

    async def aclose(self) -> None:
        """Cancel the call, if it has not ended, and return when it has."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait((self._task,))
        elif isinstance(self._call, Coroutine):
            self._call.close()

    async def __aenter__(self) -> Watched[Result]:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    def __del__(self) -> None:
        task = self._task
        if task is not None and not task.done():
            # Collected wherever the last reference was dropped, which may be another thread, or behind the loop's end.
            with suppress(RuntimeError):
                task.get_loop().call_soon_threadsafe(task.cancel)

    def __repr__(self) -> str:
        return f"<progress of {self._call!r}>"


async def _run(call: Awaitable[Result], watcher: Callback) -> Result:
    with watching(watcher):
        return await call


class _Updates:
    """The latest update that nobody has read yet. It knows nothing of who reads it: that may be dropped any time."""

    def __init__(self) -> None:
        self._latest: Progress | None = None
        self._ended = False
        self._waiter: asyncio.Future[None] | None = None

    def put(self, update: Progress) -> None:
        """The call is that far."""
        self._latest = update
        self._wake()

    def end(self, task: asyncio.Task[Any]) -> None:
        """The call has ended."""
        if not task.cancelled():
            task.exception()  # raised to whoever asks; asyncio need not report that nobody does
        self._ended = True
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def next(self) -> Progress | None:
        """The next update; None if the call has ended, and its last one was read."""
        if self._waiter is not None:
            raise RuntimeError("another task waits for the next update of this call")
        while self._latest is None and not self._ended:
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        update, self._latest = self._latest, None
        return update


class WatchedItems(AsyncIterator[Item]):
    """A stream that tells a callback how far it is."""

    __slots__ = ("_callback", "_items")

    def __init__(self, items: AsyncIterator[Item], callback: Callback) -> None:
        """Make it with `amqproxy.progress`."""
        self._items = items
        self._callback = callback

    async def __anext__(self) -> Item:
        with watching(self._callback):
            return await anext(self._items)

    async def aclose(self) -> None:
        """Stop the stream; no more items come."""
        await close(self._items)

    async def __aenter__(self) -> WatchedItems[Item]:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        return f"<progress of {self._items!r}>"


@overload
def track(call: AsyncIterator[Item], description: str | None = None) -> AsyncIterator[Item]: ...


@overload
def track(call: Awaitable[Result], description: str | None = None) -> Coroutine[Any, Any, Result]: ...


def track(call: Any, description: str | None = None) -> Any:
    """A call with a progress bar: `model = await amqproxy.track(calc.train(data), "training")`.

    It is shown on stderr while the call runs, if that is a terminal, or below the cell of a notebook, and goes when the
    call ends. Elsewhere nothing is shown. As long as no total is known it just moves.

        async for row in amqproxy.track(calc.export()): ...  # of a stream, the loop gets the items

    They are counted if the handler tells nothing.
    """
    progress(call, print)  # raises what is wrong with it
    return _tracked_items(call, description) if hasattr(call, "__anext__") else _tracked(call, description)


async def _tracked(call: Awaitable[Result], description: str | None) -> Result:
    from .bars import bar  # imports rich

    with bar(description) as show:
        return await progress(call, show)


async def _tracked_items(items: AsyncIterator[Item], description: str | None) -> AsyncIterator[Item]:
    from .bars import bar

    count, told = 0, False
    with bar(description) as show:

        def tell(update: Progress) -> None:
            nonlocal told
            told = True
            show(update)

        try:
            async for item in progress(items, tell):
                yield item
                count += 1
                if not told:
                    show(Progress(count))
        finally:
            await close(items)
