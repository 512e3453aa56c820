"""Many calls in few messages: `async with mq.batch(Calculator) as b:` and `await amqproxy.gather(calls)`."""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Coroutine, Iterable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from types import CoroutineType
from typing import Any, ClassVar, Literal, TypeVar, overload

from .errors import ContractError, Overloaded
from .options import CallOptions
from .outbox import CallInBatch, Outbox
from .proxy import _STATE, Calling, CollectedPayload, Payload, Proxy, RemoteMethod, Target, UntypedCall, named
from .scope import Scope, scope

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class BatchTarget(Target):
    """What a batch stands for."""

    outbox: Outbox = field(kw_only=True)

    view: ClassVar[str] = "batch"
    streams: ClassVar[bool] = False

    def kind(self, options: CallOptions) -> type[RemoteMethod]:
        """The class of its methods."""
        return BatchMethod if options.max_in_flight is None else LimitedBatchMethod

    def checked(self) -> Target:
        """This, if its options are right."""
        if self.overrides.get("heartbeat") is not None:
            raise ValueError("calls of a batch give no signs of life while they run; heartbeat is for proxies")
        return Target.checked(self)


class Batch(Proxy):
    """Stands for a service whose calls share messages: `b.add(1, 2)` makes the call and returns its future."""

    def __init__(
        self, mq: Calling, service: Any, /, *, outbox: Outbox, name: str | None = None, **options: Any
    ) -> None:
        self.__dict__[_STATE] = BatchTarget(mq.caller, *named(service, name), options, outbox=outbox).checked()

    def __getattr__(self, name: str) -> Any:
        method = super().__getattr__(name)
        if isinstance(method, BatchMethod):
            return method
        # One that is around such a one, for middleware or for compression.
        starting = self.__dict__[name] = _starting(method, self.__dict__[_STATE].outbox)
        return starting

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        """Make the call that a message is for, or that of a function that is served."""
        return _started(super().__call__(*args, **kwargs), self.__dict__[_STATE].outbox)


class BatchMethod(RemoteMethod):
    """One method of a batch."""

    def __init__(
        self, target: BatchTarget, name: str, content_type: str, options: CallOptions, payload: Payload
    ) -> None:
        if isinstance(payload, CollectedPayload):
            raise ContractError(f"{target.service}.{name} streams, and such calls cannot share a message; use a proxy")
        super().__init__(target, name, content_type, options, payload)
        self._outbox = target.outbox

    def __call__(self, /, *args: Any, **kwargs: Any) -> CallInBatch:  # type: ignore[override]  # begun, to be awaited
        """Make the call; ContractError is raised at once, other errors where the call is awaited."""
        return self._outbox.call(self, args, kwargs)


class LimitedBatchMethod(BatchMethod):
    """The same with a bound for calls in flight."""

    def __call__(self, /, *args: Any, **kwargs: Any) -> CallInBatch:  # type: ignore[override]  # as above
        """Make the call, or let it fail with Overloaded if too many are out."""
        try:
            self.claim()
        except Overloaded as error:
            return self._outbox.refused(error)
        try:
            call = super().__call__(*args, **kwargs)
        except BaseException:
            self.release()
            raise
        call.add_done_callback(lambda _: self.release())
        return call


def _starting(method: Callable[..., Awaitable[Any]], outbox: Outbox) -> Callable[..., asyncio.Future[Any]]:
    @functools.wraps(method, updated=())
    def start(*args: Any, **kwargs: Any) -> asyncio.Future[Any]:
        return _started(method(*args, **kwargs), outbox)

    return start


def _started(call: Awaitable[Any], outbox: Outbox) -> asyncio.Future[Any]:
    """A call that is made without being awaited."""
    if isinstance(call, asyncio.Future):
        return call
    return _run(call, outbox)


@asynccontextmanager
async def batch(mq: Calling, service: Any, name: str | None, options: dict[str, Any]) -> AsyncIterator[Any]:
    """What `mq.batch` returns."""
    outbox = Outbox()
    try:
        yield Batch(mq, service, outbox=outbox, name=name, **options)
        await outbox.settled()
    finally:
        outbox.closed = True
        outbox.cancel()


class Gathering:
    """The scope of coroutines that are gathered: the calls that they make in one turn of the event loop share messages.

    Its other properties are those of the scope around it.
    """

    __slots__ = ("collector", "outer")

    def __init__(self, outer: Scope | None) -> None:
        self.outer = outer
        self.collector = Outbox()

    @property
    def deadline(self) -> float | None:
        """When the time of all that is within is over."""
        return None if self.outer is None else self.outer.deadline

    @property
    def watcher(self) -> Callable[[Any], None] | None:
        """Who is told of the progress of calls."""
        return None if self.outer is None else self.outer.watcher


@overload
async def gather(calls: Iterable[Awaitable[Result]], *, return_exceptions: Literal[False] = False) -> list[Result]: ...


@overload
async def gather(calls: Iterable[Awaitable[Result]], *, return_exceptions: bool) -> list[Result | BaseException]: ...


async def gather(calls: Iterable[Awaitable[Any]], *, return_exceptions: bool = False) -> list[Any]:
    """Await many calls at once, in as few messages as they fit in: their results, in order.

        sums = await amqproxy.gather(calc.add(n, n) for n in range(1000))

    They may be of several methods, services and connections; those of one method of one proxy share messages. Other
    coroutines may be among them, and the calls that they make share messages as well.

    As with `asyncio.gather`, the first error is raised at once while the other calls go on, or with `return_exceptions`
    errors stand among the results; if this is cancelled, so are they all. A call whose arguments do not fit is told of
    before the others are awaited: those are cancelled then.
    """
    within = scope.get()
    take = _taken if within is None or within.watcher is None else _run  # progress is told of calls that travel alone
    outbox, futures, rest = Outbox(), list[asyncio.Future[Any]](), iter(calls)
    try:
        _take_all(rest, take, outbox, Gathering(within), futures, return_exceptions)
        await outbox.settled(or_failed=not return_exceptions)
    except BaseException:
        outbox.cancel()
        if isinstance(calls, Collection):  # else they were not made
            _close(rest)
        raise
    if return_exceptions:
        return [_outcome(future) for future in futures]
    if outbox.error is not None:
        for future in futures:
            future.add_done_callback(_retrieved)
        raise outbox.error
    return [future.result() for future in futures]


Take = Callable[[Any, Outbox], asyncio.Future[Any]]


def _take_all(
    calls: Iterator[Awaitable[Any]],
    take: Take,
    outbox: Outbox,
    within: Gathering,
    futures: list[asyncio.Future[Any]],
    return_exceptions: bool,
) -> None:
    """Begin all calls, and put their futures into a list."""
    token = scope.set(within)
    try:
        for call in calls:
            try:
                futures.append(take(call, outbox))
            except ContractError as error:
                if not return_exceptions:
                    raise
                futures.append(outbox.refused(error))
    finally:
        scope.reset(token)


def _taken(call: Any, outbox: Outbox) -> asyncio.Future[Any]:
    """The future of a call. One that a proxy's method was asked for, and that has not begun, needs no task."""
    coroutine = call._value if type(call) is UntypedCall else call
    if type(coroutine) is CoroutineType and coroutine.cr_code is _CALL and _is_new(coroutine):
        given = inspect.getcoroutinelocals(coroutine)
        method: RemoteMethod = given["self"]
        if method._answers:
            coroutine.close()
            return outbox.call(method, given["args"], given["kwargs"])
    return _run(call, outbox)


_CALL = RemoteMethod.__call__.__code__


def _is_new(coroutine: CoroutineType[Any, Any, Any]) -> bool:
    return coroutine.cr_frame is not None and not (coroutine.cr_suspended or coroutine.cr_running)


def _run(call: Awaitable[Any], outbox: Outbox) -> asyncio.Future[Any]:
    """The task of a coroutine."""
    task = asyncio.ensure_future(call)
    outbox.run(task)
    return task


def _close(calls: Iterator[Awaitable[Any]]) -> None:
    """Give up calls that have not begun."""
    for call in calls:
        if isinstance(call, Coroutine):
            call.close()


def _outcome(future: asyncio.Future[Any]) -> Any:
    """What became of a call: a value or an exception."""
    if future.cancelled():
        return asyncio.CancelledError()
    return future.exception() or future.result()


def _retrieved(future: asyncio.Future[Any]) -> None:
    """Look at the exception of a call that nobody waits for, or asyncio reports it as forgotten."""
    if not future.cancelled():
        future.exception()
