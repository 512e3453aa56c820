"""Middleware: functions around calls and around handlers.

    async def timed(call, next):
        began = time.monotonic()
        try:
            return await next(call)
        finally:
            log.info("%s.%s took %.3f s", call.service, call.method, time.monotonic() - began)

    amqproxy.connect(middleware=[timed])                  # around each call of all proxies
    mq.proxy(Calculator, middleware=[timed])              # around each call of one, inside of the connection's
    mq.serve(Calculator(), middleware=[timed])            # around each handler; also for @amqproxy.serve

The first of a list is the outermost: it sees the call first and its result last. `await next(call)` lets the call go
on and gives its result, or raises what it failed with. A middleware may return something else, and need not call `next`
at all: then nothing is sent, or no handler runs. It may call it again, one after the other or at once: each time the
call is sent, as a new one, or the handler runs. Nothing happens until what `next` gives is awaited.

Of a stream, the result is an asynchronous iterator: around a call it has begun when `next` gives it, and the middleware
runs when the first item is asked for. To see the items, return an iterator over them.

Around a call, `call` is an `OutgoingCall`, whose arguments, headers and timeout may be replaced by calling `next` with
another. What is returned is what the caller gets, unchecked. Around a handler, `call` is the `amqproxy.Call` that
`amqproxy.current()` gives, with the decoded `arguments`. What is returned must be what the method promises, as if the
handler had returned it, and what is raised is what the caller is told. It runs in the event loop, also around a plain
`def` that runs in a thread; a context variable that it sets is seen by the handler, there too.
"""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType, TracebackType
from typing import Any, Protocol

from .bounds import check_number
from .forgotten import never_made
from .stream import as_asynchronous, close

Middleware = Callable[..., Awaitable[Any]]


class Next(Protocol):
    """What a middleware is given besides the call: `await next(call)` lets the call go on, and gives its result."""

    def __call__(self, call: Any, /) -> Awaitable[Any]:
        """What comes next: another middleware, the sending of the call, or the handler."""


@dataclass(frozen=True, slots=True)
class OutgoingCall:
    """A call that a proxy is about to make, as its middleware sees it. It does not change: `next` is given another.

    `dataclasses.replace(call, timeout=5, args=(1, 2))` makes one, and so does `with_headers`.
    """

    service: str
    """The service that is called; it stays the same."""
    method: str
    """The method that is called, or the class of the message; it stays the same."""
    args: tuple[Any, ...]
    """The arguments that were given by position, not checked yet."""
    kwargs: Mapping[str, Any]
    """The arguments that were given by name, not checked yet."""
    headers: Mapping[str, Any]
    """What is sent beside them; the handler reads it from `amqproxy.current().headers`."""
    timeout: float
    """Seconds for the call, counted anew each time that `next` is called."""

    def __post_init__(self) -> None:
        check_number("timeout", self.timeout)
        if not self.timeout:
            raise ValueError("timeout is more than 0")

    def with_headers(self, headers: Mapping[str, Any]) -> OutgoingCall:
        """The same call with further headers; those that it has already are replaced."""
        return replace(self, headers=MappingProxyType({**self.headers, **headers}))


def chain(middleware: Sequence[Middleware], last: Next) -> Next:
    """One function that is all of these around `last`, the first outermost."""
    step = last
    for each in reversed(middleware):
        step = _around(each, step)
    return step


def _around(middleware: Middleware, inner: Next) -> Next:
    def next(call: Any, /) -> Awaitable[Any]:
        return middleware(call, inner)

    return next


class Remote(Protocol):
    """A method of a proxy, as far as middleware needs it."""

    __name__: str
    __qualname__: str
    service: str
    headers: Mapping[str, Any]
    timeout: float

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        """Call the worker."""

    def varied(self, headers: Mapping[str, Any], timeout: float) -> Remote:
        """The same method with these headers and this timeout."""


class SurroundedMethod:
    """A method of a proxy with middleware around its calls."""

    def __init__(self, method: Remote, middleware: Sequence[Middleware]) -> None:
        self._method = method
        self._service = method.service
        self._headers = MappingProxyType(method.headers)
        self._timeout = method.timeout
        self._middleware = middleware
        self._first = chain(middleware, self._last)
        self.__name__ = method.__name__
        self.__qualname__ = method.__qualname__

    def __repr__(self) -> str:
        return repr(self._method)

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        """Call the worker, through the middleware."""
        return self._through(self._first, args, kwargs)

    async def _through(self, first: Next, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        kwargs = MappingProxyType(kwargs)
        return await first(OutgoingCall(self._service, self.__name__, args, kwargs, self._headers, self._timeout))

    def _stream(self, first: Next, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> SurroundedStream:
        return SurroundedStream(functools.partial(self._through, first, args, kwargs), self.__qualname__)

    async def _last(self, call: OutgoingCall) -> Any:
        return await self._sent(call)

    def _sent(self, call: OutgoingCall) -> Any:
        """What the method without middleware gives for a call."""
        if not isinstance(call, OutgoingCall) or (call.service, call.method) != (self._service, self.__name__):
            raise TypeError(f"next takes the call of {self.__qualname__}, or that with changes, and not {call!r}")
        method = self._method
        if call.headers is not self._headers or call.timeout != self._timeout:
            method = method.varied(call.headers, call.timeout)
        return method(*call.args, **call.kwargs)


class SurroundedStreamMethod(SurroundedMethod):
    """The same for a method whose result is a stream."""

    def __call__(self, /, *args: Any, **kwargs: Any) -> SurroundedStream:
        """What the worker streams, through the middleware."""
        return self._stream(self._first, args, kwargs)


class Untyped(Protocol):
    """A method of which only the name is known, as far as its calls need it."""

    __qualname__: str

    def value(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Coroutine[Any, Any, Any]:
        """The call of a method that answers once."""

    def stream(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> AsyncIterator[Any]:
        """The call of a method that streams."""

    async def either(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """The value; or the stream, if the method turns out to answer with one."""


class SurroundedUntypedMethod(SurroundedMethod):
    """The same for a method whose result may turn out to be a stream, of a service of which only the name is known."""

    def __init__(
        self,
        method: Remote,
        middleware: Sequence[Middleware],
        untyped: Callable[[Untyped, tuple[Any, ...], Mapping[str, Any]], Any],
    ) -> None:
        """Take how a call is made that can be awaited, for its value, or iterated."""
        super().__init__(method, middleware)
        self._untyped = untyped
        self._first_of_stream = chain(middleware, self._last_of_stream)
        self._first_of_either = chain(middleware, self._last_of_either)

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        """The call: await it for one value, or iterate over it with `async for`."""
        return self._untyped(self, args, kwargs)

    def value(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Coroutine[Any, Any, Any]:
        """The call of a method that answers once."""
        return self._through(self._first, args, kwargs)

    def stream(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> SurroundedStream:
        """The call of a method that streams."""
        return self._stream(self._first_of_stream, args, kwargs)

    async def either(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """The value; or the stream, if the method turns out to answer with one."""
        return await self._through(self._first_of_either, args, kwargs)

    async def _last_of_stream(self, call: OutgoingCall) -> Any:
        return await aiter(self._sent(call))

    async def _last_of_either(self, call: OutgoingCall) -> Any:
        return await self._sent(call).either()


def iterator(items: Any, name: str) -> AsyncIterator[Any]:
    """What middleware gives as a stream; TypeError, which calls the method `name`, if it is none."""
    if hasattr(items, "__aiter__"):
        return aiter(items)
    if hasattr(items, "__iter__"):
        return as_asynchronous(items)
    raise TypeError(f"{name} gives a stream, and its middleware a {type(items).__name__}, which is no iterator")


class SurroundedStream(AsyncIterator[Any]):
    """A stream, as `amqproxy.Stream` is one, whose call goes through middleware when the first item is asked for."""

    __slots__ = ("_begin", "_begun", "_closed", "_items", "_name")

    def __init__(self, begin: Callable[[], Awaitable[Any]], name: str) -> None:
        self._begin = begin
        self._begun = False
        self._closed = False
        self._items: AsyncIterator[Any] | None = None
        self._name = name

    def __aiter__(self) -> SurroundedStream:
        return self

    async def __anext__(self) -> Any:
        return await anext(self._items or await self._opened())

    def __await__(self) -> Generator[Any, None, SurroundedStream]:
        """Make the call now, and wait until the worker has begun."""
        if self._items is None:
            yield from self._opened().__await__()
        return self

    async def _opened(self) -> AsyncIterator[Any]:
        """The items, of a call that is made now; it is made once."""
        if self._closed:
            raise StopAsyncIteration
        if self._begun:
            raise RuntimeError("another task waits for the next item of this stream")
        self._begun = True
        try:
            self._items = iterator(await self._begin(), self._name)
        except BaseException:
            self._closed = True
            raise
        if self._closed:  # by another task, while this one waited
            await close(self._items)
        return self._items

    async def aclose(self) -> None:
        """Stop the worker; no more items come. Closing twice does no harm."""
        self._closed = True
        if self._items is not None:
            await close(self._items)

    async def __aenter__(self) -> SurroundedStream:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    def __del__(self) -> None:
        if not (self._begun or self._closed):
            never_made(self._name, self)

    def __repr__(self) -> str:
        return f"<Stream of {self._name}>"
