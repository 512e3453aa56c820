"""The methods of a proxy whose calls are conversations: with streams, or of services known by name alone."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Coroutine, Generator, Mapping, Sequence
from copy import copy
from dataclasses import replace
from typing import Any

from .blob import Blob
from .codecs import Codec
from .codecs.items import Chunks, items_of, streams_of
from .contract import Method
from .conversation import Conversation, Plan
from .errors import ContractError
from .middleware import Middleware, SurroundedMethod, SurroundedStreamMethod, SurroundedUntypedMethod, Untyped
from .options import CallOptions
from .payload import Payload
from .received import ReceivedBlob, Stream
from .remote import RemoteMethod, Target
from .signature import Streamed
from .stream import as_asynchronous
from .wire import CHUNK_CLASS

STREAM_CREDIT = 256
"""Items of a stream that may be between worker and caller, unless told otherwise."""
BLOB_CREDIT = 32
"""Chunks of a Blob, likewise: 8 MiB."""


class ConversingMethod(RemoteMethod):
    """A method of a proxy with a stream as its result, or as a parameter."""

    repeatable = False

    def __init__(
        self,
        target: Target,
        name: str,
        content_type: str,
        options: CallOptions,
        payload: Payload,
        method: Method,
        codec: Codec,
    ) -> None:
        super().__init__(target, name, content_type, options, payload)
        self._method = method
        self.limited = "timeout" in target.overrides or method.options.timeout is not None
        self._plan = _plan(method, codec, options)

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        """What the worker streams; or, to be awaited, what it answers."""
        source = None
        if self._method.feed is not None:
            given, args, kwargs = self._method.without_feed(args, kwargs)
            source = _source(given, self._method)
        body = self.payload.encode(args, kwargs)
        if len(body) > self.limits.body_bytes:
            raise self.too_large(body)
        limit, watcher = self.time_limit(self.limited)
        conversation = Conversation(self, self._plan, body, limit=limit, source=source, watcher=watcher)
        match self._method.stream:
            case None:
                return conversation.result()
            case Streamed("items"):
                return Stream(conversation)
        return _blob(conversation)

    def surrounded(self, middleware: Sequence[Middleware]) -> SurroundedMethod:
        """The same method with middleware around its calls."""
        stream = self._method.stream
        kind = SurroundedStreamMethod if stream is not None and stream.kind == "items" else SurroundedMethod
        return kind(self, middleware)


class UntypedMethod:
    """A method of a service of which only the name is known: it may answer with a value or with a stream.

    So what it is called with is known when the call is awaited or iterated, and not before.
    """

    def __init__(self, once: RemoteMethod, target: Target, codec: Codec) -> None:
        """`once` calls it where it answers with a value."""
        self.once = once
        self._is_value = False  # whether it is known to answer so, for which there is a faster way
        once.limited = "timeout" in target.overrides
        window = once.options.credit or STREAM_CREDIT
        self._plan = Plan(
            results=items_of(codec, codec.anything(), once.__qualname__),
            window=window,
            batch=min(window, once.options.batch),
            heartbeat=once.options.heartbeat,
            untyped=True,
        )
        self.service, self.headers, self.timeout = once.service, once.headers, once.timeout
        self.__name__ = once.__name__
        self.__qualname__ = once.__qualname__

    def __repr__(self) -> str:
        return repr(self.once)

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        """The call: await it for one value, or iterate over it with `async for`."""
        return UntypedCall(self, args, kwargs)

    def value(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Coroutine[Any, Any, Any]:
        """The call of a method that answers once."""
        return self.once(*args, **kwargs)

    def stream(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Stream[Any]:
        """The call of a method that streams, or that answers once with an array."""
        if self.once.repeats:
            text = f"{self.__qualname__} is asked for a stream, and what has begun cannot be sent again"
            raise ContractError(f"{text}: use a proxy without retry and hedge")
        return Stream(self._conversation(self._plan, args, kwargs))

    async def either(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """The value; or the stream, if the method turns out to answer with one."""
        if self._is_value or self.once.options.idempotent or self.once.repeats:  # which a stream cannot be
            return await self.value(args, kwargs)
        conversation = self._conversation(replace(self._plan, may_be_value=True), args, kwargs)
        value = await conversation.result()
        self._is_value = conversation.is_value
        return value if self._is_value else Stream(conversation)

    def _conversation(self, plan: Plan, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Conversation:
        once = self.once
        body = once.payload.encode(args, kwargs)
        if len(body) > once.limits.body_bytes:
            raise once.too_large(body)
        limit, watcher = once.time_limit(once.limited)
        return Conversation(once, plan, body, limit=limit, watcher=watcher)

    def varied(self, headers: Mapping[str, Any], timeout: float) -> UntypedMethod:
        """The same method with other headers and another timeout, for one call."""
        other = copy(self)
        other.once = self.once.varied(headers, timeout)
        return other

    def surrounded(self, middleware: Sequence[Middleware]) -> SurroundedMethod:
        """The same method with middleware around its calls."""
        return SurroundedUntypedMethod(self, middleware, UntypedCall)


class UntypedCall(Coroutine[Any, Any, Any]):
    """A call that was not made yet: await it for its value, or iterate over its stream."""

    __slots__ = ("_args", "_kwargs", "_method", "_value")

    def __init__(self, method: Untyped, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        self._method = method
        self._args = args
        self._kwargs = kwargs
        self._value = method.value(args, kwargs)

    def __await__(self) -> Generator[Any, None, Any]:
        return self._value.__await__()

    def __aiter__(self) -> AsyncIterator[Any]:
        self._value.close()
        return self._method.stream(self._args, self._kwargs)

    async def either(self) -> Any:
        """The value; or the stream, if the method turns out to answer with one."""
        self._value.close()
        return await self._method.either(self._args, self._kwargs)

    def send(self, value: Any, /) -> Any:
        """As coroutines have it, for tasks."""
        return self._value.send(value)

    def throw(self, *error: Any) -> Any:
        """As coroutines have it, for tasks."""
        return self._value.throw(*error)

    def close(self) -> None:
        """Do not make the call."""
        self._value.close()

    def __repr__(self) -> str:
        return f"<call of {self._method.__qualname__}>"


def _plan(method: Method, codec: Codec, options: CallOptions) -> Plan:
    out, feed = streams_of(codec, method)
    chunks = isinstance(out, Chunks) or isinstance(feed, Chunks)
    window = options.credit or (BLOB_CREDIT if chunks else STREAM_CREDIT)
    return Plan(
        results=out,
        feed=feed,
        feed_class=CHUNK_CLASS if isinstance(feed, Chunks) else method.alias.encode(),
        window=window,
        batch=min(window, options.batch),
        heartbeat=options.heartbeat,
    )


def _source(given: Any, method: Method) -> AsyncIterable[Any]:
    """What the caller feeds to a stream parameter, as an asynchronous iterator."""
    assert method.feed is not None
    if method.feed.stream.kind == "chunks":
        try:
            return given if isinstance(given, Blob) else Blob(given)
        except TypeError as error:
            raise ContractError(f"{method.title}: {method.feed.name}: {error}") from error
    if hasattr(given, "__aiter__"):
        return given  # type: ignore[no-any-return]  # it is one
    if hasattr(given, "__iter__"):
        return as_asynchronous(given)
    raise ContractError(f"{method.title}: {method.feed.name} is fed from an iterator, not a {type(given).__name__}")


async def _blob(conversation: Conversation) -> Blob:
    await conversation.result()
    return ReceivedBlob(Stream(conversation))
