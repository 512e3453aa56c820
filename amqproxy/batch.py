"""Many calls in few messages: `async with mq.batch(Calculator) as b:` and `await amqproxy.gather(calls)`."""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Coroutine, Iterable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from types import CoroutineType
from typing import Any, Literal, TypeVar, overload

from .conversing import ConversingMethod, UntypedCall, UntypedMethod
from .errors import ContractError, Overloaded
from .forgotten import retrieve
from .middleware import SurroundedMethod
from .outbox import Outbox
from .proxy import TARGET, Calling, Proxy
from .remote import LimitedMethod, RemoteMethod
from .scope import Block, Scope, scope

Result = TypeVar("Result")

_STATE = "__amqproxy_batch__"

MAX_PROXIES = 64
"""Services and options, of batches, for which something is kept."""


class Batch:
    """Stands for a service whose calls share messages: `b.add(1, 2)` makes the call and returns its future."""

    def __init__(self, proxy: Proxy, outbox: Outbox) -> None:
        self.__dict__[_STATE] = proxy, outbox

    def __getattr__(self, name: str) -> Any:
        proxy, outbox = self.__dict__[_STATE]
        method = self.__dict__[name] = _method(getattr(proxy, name), outbox)
        return method

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"a batch cannot be assigned to ({name}); mq.batch(…) takes its options")

    def __call__(self, /, *args: Any, **kwargs: Any) -> asyncio.Future[Any]:
        """Make the call that a message is for, or that of a function that is served."""
        proxy, outbox = self.__dict__[_STATE]
        contract = proxy.__dict__[TARGET].contract
        if contract is not None and contract.is_function:
            return getattr(self, next(iter(contract.methods)))(*args, **kwargs)  # type: ignore[no-any-return]  # as below
        return _task(proxy, outbox)(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<Batch of calls by {self.__dict__[_STATE][0]!r}>"


def _method(method: Any, outbox: Outbox) -> Callable[..., asyncio.Future[Any]]:
    """What makes the calls of a proxy's method in a batch."""
    inner = getattr(method, "_method", method) if isinstance(method, SurroundedMethod) else method
    if isinstance(inner, ConversingMethod):
        raise ContractError(f"{inner.__qualname__} streams, and such calls cannot share a message; use a proxy")
    if isinstance(method, UntypedMethod):
        method = method.once
    if type(method) is LimitedMethod:
        start = _limited(method, outbox)
    elif type(method) is RemoteMethod:
        start = _direct(method, outbox)
    else:  # what is around such a one: middleware, or compression
        start = _task(method, outbox)
    return functools.update_wrapper(start, method, updated=())


def _direct(method: RemoteMethod, outbox: Outbox) -> Callable[..., asyncio.Future[Any]]:
    take = outbox.call

    def start(*args: Any, **kwargs: Any) -> asyncio.Future[Any]:
        return take(method, args, kwargs)

    return start


def _limited(method: RemoteMethod, outbox: Outbox) -> Callable[..., asyncio.Future[Any]]:
    def start(*args: Any, **kwargs: Any) -> asyncio.Future[Any]:
        try:
            method.claim()
        except Overloaded as error:
            return outbox.refused(error)
        try:
            call = outbox.call(method, args, kwargs)
        except BaseException:
            method.release()
            raise
        call.add_done_callback(lambda _: method.release())
        return call

    return start


def _task(method: Callable[..., Awaitable[Any]], outbox: Outbox) -> Callable[..., asyncio.Future[Any]]:
    """The call runs in a task; what it sends goes through the outbox."""
    within = _block(None, outbox)

    def start(*args: Any, **kwargs: Any) -> asyncio.Future[Any]:
        nonlocal within
        outbox.check_open()
        if within.outer is not scope.get():  # calls share a message that have one scope
            within = _block(scope.get(), outbox)
        token = scope.set(within)
        try:
            return _run(method(*args, **kwargs), outbox)
        finally:
            scope.reset(token)

    return start


class Batches:
    """Makes the batches of one connection, and keeps what is made once for a service: a batch may have few calls."""

    def __init__(self) -> None:
        self._proxies: dict[Any, Proxy] = {}

    def batch(
        self, mq: Calling, service: Any, name: str | None, options: Mapping[str, Any]
    ) -> AbstractAsyncContextManager[Any]:
        """What `mq.batch` returns."""
        return _collecting(self._proxy(mq, service, name, options))

    def _proxy(self, mq: Calling, service: Any, name: str | None, options: Mapping[str, Any]) -> Proxy:
        key = mq.caller, service, name, tuple(options.items())
        try:
            proxy = self._proxies.get(key)
        except TypeError:  # one of the options, such as headers, has no hash
            return Proxy(mq, service, name=name, **options)
        if proxy is None:
            if len(self._proxies) >= MAX_PROXIES:
                self._proxies.clear()
            proxy = self._proxies[key] = Proxy(mq, service, name=name, **options)
        return proxy


@asynccontextmanager
async def _collecting(proxy: Proxy) -> AsyncIterator[Any]:
    outbox = Outbox()
    try:
        yield Batch(proxy, outbox)
        await outbox.settled()
    finally:
        outbox.closed = True
        outbox.cancel()


def _block(outer: Scope | None, collector: Outbox) -> Block:
    """The scope of coroutines whose calls share messages, those that they make in one turn of the event loop."""
    if outer is None:
        return Block(collector=collector)
    return Block(outer.deadline, outer, outer.watcher, collector)


@overload
async def gather(calls: Iterable[Awaitable[Result]], *, return_exceptions: Literal[False] = False) -> list[Result]: ...


@overload
async def gather(calls: Iterable[Awaitable[Result]], *, return_exceptions: bool) -> list[Result | BaseException]: ...


async def gather(calls: Iterable[Awaitable[Any]], *further: Any, return_exceptions: bool = False) -> list[Any]:
    """Await many calls at once, in as few messages as they fit in: their results, in order.

        sums = await amqproxy.gather(calc.add(n, n) for n in range(1000))

    They may be of several methods, services and connections; those of one method of one proxy share messages. Other
    coroutines may be among them, and the calls that they make share messages as well.

    As with `asyncio.gather`, the first error is raised at once while the other calls go on, or with `return_exceptions`
    errors stand among the results; if this is cancelled, so are they all. A call whose arguments do not fit is told of
    before the others are awaited: those are cancelled then.
    """
    if further or not isinstance(calls, Iterable):
        given: tuple[Any, ...] = (calls, *further)
        _close(iter(given))
        raise TypeError("amqproxy.gather takes one iterable of calls: gather([calc.add(1, 2), calc.add(3, 4)])")
    within = scope.get()
    take = _taken if within is None or within.watcher is None else _run  # progress is told of calls that travel alone
    outbox, futures, rest = Outbox(), list[asyncio.Future[Any]](), iter(calls)
    try:
        _take_all(rest, take, outbox, _block(within, Outbox()), futures, return_exceptions)
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
            future.add_done_callback(retrieve)
        raise outbox.error
    return [future.result() for future in futures]


Take = Callable[[Any, Outbox], asyncio.Future[Any]]


def _take_all(
    calls: Iterator[Awaitable[Any]],
    take: Take,
    outbox: Outbox,
    within: Block,
    futures: list[asyncio.Future[Any]],
    return_exceptions: bool,
) -> None:
    """Begin all calls, and put their futures into a list."""
    token = scope.set(within)
    try:
        for call in calls:
            try:
                futures.append(take(call, outbox))
            except Exception as error:  # ContractError, or what a type of the user's raises when it is written
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
        if method.answers:
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
