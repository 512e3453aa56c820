"""What users call: a proxy turns attribute access and calls into requests."""

from __future__ import annotations

import asyncio
import functools
import math
from collections.abc import AsyncIterable, AsyncIterator, Callable, Coroutine, Generator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Protocol, Self, TypeVar

from .answer import Reply
from .blob import Blob
from .caller import Caller, Expired, Line, Returned
from .codecs import Codec, DecodingFailed, Mismatch, Shape, carries, listing, natural_encoding, not_carried
from .codecs.compression import COMPRESSIONS, Compression
from .codecs.guarded import Guarded
from .codecs.items import Chunks, Compressed, Joined, items_of, streams_of
from .codecs.registry import codecs, missing_extra
from .contract import Contract, Method, MethodOptions, contract_of
from .conversation import Conversation, Plan, ReceivedBlob, Stream
from .deadline import Deadline
from .errors import (
    AMQProxyError,
    BadReply,
    CallError,
    CallTimeout,
    ConnectionLost,
    ContractError,
    EncodingFailed,
    MessageTooLarge,
    Overloaded,
    Unroutable,
    WorkerLost,
)
from .messages import check_name, form_of, message_name, naming
from .middleware import Middleware, SurroundedMethod, SurroundedStreamMethod, SurroundedUntypedMethod, Untyped
from .options import CallOptions, changed
from .scope import Scope, scope
from .signature import Streamed
from .stream import as_asynchronous
from .wire import BATCH_HEADER, CHUNK_CLASS, FAILURE_CONTENT_TYPE, JSON, RequestForm, decode_failure, request_class

Proxied = TypeVar("Proxied")

RETRY_SECONDS = 0.1
"""Between the tries of an idempotent call whose links keep breaking."""

STREAM_CREDIT = 256
"""Items of a stream that may be between worker and caller, unless told otherwise."""
BLOB_CREDIT = 32
"""Chunks of a Blob, likewise: 8 MiB."""

DEFAULT_COMPRESSION = "snappy"
"""The one that takes least of the processor, and that the Akka AMQP proxies know."""

_STATE = "__amqproxy_proxy__"


@dataclass(slots=True)
class Gauge:
    """Calls of one proxy that are in flight; only counted where they are limited."""

    calls: int = 0


@dataclass(frozen=True, slots=True)
class Target:
    """What a proxy stands for: a service, known by its contract or only by its name, and how to call it."""

    caller: Caller
    service: str
    contract: Contract | None
    overrides: Mapping[str, Any]
    gauge: Gauge = field(default_factory=Gauge)
    messages: dict[str, RemoteMethod | SurroundedMethod] = field(default_factory=dict)
    """The methods for message classes, of a service of which only the name is known."""

    view: ClassVar[str] = "proxy"
    """What users call it."""
    defaults: ClassVar[CallOptions] = CallOptions()
    streams: ClassVar[bool] = True
    """Whether its methods may stream."""
    of_methods: ClassVar[tuple[str, ...]] = ("timeout", "idempotent", "heartbeat")
    """The options that a method of the contract may set."""

    def options(self, method: MethodOptions | None = None) -> CallOptions:
        """What was set for the proxy, else for the method, else the defaults."""
        of_method = {
            name: value
            for name in self.of_methods
            if method is not None and (value := getattr(method, name)) is not None
        }
        return replace(self.defaults, **{**of_method, **self.overrides})

    @property
    def queue(self) -> str:
        """The queue that the service's workers share."""
        return (self.contract.options.queue if self.contract else None) or self.service

    def kind(self, options: CallOptions) -> type[RemoteMethod]:
        """The class of those of its methods that do not stream: one that does what the options say, and no more."""
        if options.heartbeat is None:
            return RemoteMethod if options.max_in_flight is None else LimitedMethod
        return AttendedMethod if options.max_in_flight is None else LimitedAttendedMethod

    def checked(self) -> Target:
        """This, if its options are right: TypeError or ValueError name the one that is wrong."""
        check_options(changed(self.defaults, f"a {self.view}", self.overrides))
        return self

    def codec(self, encoding: str | Codec) -> Codec:
        """The codec of a content encoding, or the one that was given itself."""
        limit = self.caller.connection.options.max_decompressed_bytes
        return codecs(limit)[encoding] if isinstance(encoding, str) else Guarded(encoding)


def check_options(options: CallOptions) -> None:
    """ValueError if there is no such encoding, or if it and other options contradict each other."""
    encoding = options.encoding
    if isinstance(encoding, str):
        known = codecs(0)
        if encoding not in known:
            raise ValueError(f"there is no encoding {encoding!r}; there are {listing(known)}")
        if problem := missing_extra(encoding):
            raise ValueError(problem)
        if options.compress_above is not None and encoding.partition("-")[0] in COMPRESSIONS:
            raise ValueError(f"{encoding} is compressed already: compress_above is for encodings that are not")


class Calling(Protocol):
    """A connection that proxies can call through."""

    @property
    def caller(self) -> Caller:
        """Its calling half; Closed if it is not open."""


class Proxy:
    """Stands for a service: its attributes are the service's methods, all of them.

    `Proxy(mq, Calculator)` is `mq.proxy(Calculator)`. `amqproxy.options(proxy, …)` gives the same with other options.
    """

    def __init__(self, mq: Calling, service: Any, /, *, name: str | None = None, **options: Any) -> None:
        self.__dict__[_STATE] = Target(mq.caller, *named(service, name), options).checked()

    def __getattr__(self, name: str) -> RemoteMethod | SurroundedMethod:
        if name.startswith("_"):
            raise AttributeError(f"{name} cannot be a method of a service: its name starts with _")
        method = self.__dict__[name] = remote_method(self.__dict__[_STATE], name)
        return method

    def __setattr__(self, name: str, value: Any) -> None:
        view = self.__dict__[_STATE].view
        raise AttributeError(f"a {view} cannot be assigned to ({name}); amqproxy.options({view}, …) sets its options")

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        """Send a message to whichever method takes it; for a function that is served, call it."""
        target: Target = self.__dict__[_STATE]
        if target.contract is not None and target.contract.is_function:
            return getattr(self, next(iter(target.contract.methods)))(*args, **kwargs)
        if len(args) != 1 or kwargs:
            view = f"the {target.view} of {target.service}"
            raise ContractError(f"{view} is called with one message, or by a method's name")
        if target.contract is not None:
            return getattr(self, target.contract.method_of(args[0]).name)(args[0])
        return _message_method(target, args[0])(args[0])

    def __dir__(self) -> list[str]:
        target: Target = self.__dict__[_STATE]
        return sorted({*object.__dir__(self), *(target.contract.methods if target.contract else ())})

    def __repr__(self) -> str:
        target: Target = self.__dict__[_STATE]
        options = "".join(f", {name}={value!r}" for name, value in target.overrides.items())
        return f"<{type(self).__name__} of {target.service!r} at {target.caller.connection.url}{options}>"


def named(service: Any, name: str | None) -> tuple[str, Contract | None]:
    """The name of a service, and its contract if more is known than that."""
    contract = None if isinstance(service, str) else contract_of(service, name=name)
    known: str = (name or service) if contract is None else contract.name
    check_name("service", known)
    return known, contract


def options(proxy: Proxied, /, **changes: Any) -> Proxied:
    """The same proxy with other options (those of `CallOptions`), or sender: `options(calc, timeout=2)`."""
    if hasattr(proxy, "__amqproxy_options__"):  # one of amqproxy.sync, which stands for one of these
        return proxy.__amqproxy_options__(**changes)  # type: ignore[no-any-return]
    target: Target | None = getattr(proxy, "__dict__", {}).get(_STATE)
    if target is None:
        raise TypeError(f"amqproxy.options takes a proxy, not a {type(proxy).__name__}")
    other = object.__new__(type(proxy))
    overrides = {**target.overrides, **changes}
    other.__dict__[_STATE] = replace(target, overrides=overrides, gauge=Gauge(), messages={}).checked()
    return other


class RemoteMethod:
    """One method of a proxy; calling it calls the worker."""

    _answers: ClassVar[bool] = True
    """Whether a worker is heard of at all."""
    _limited = False
    """Whether a timeout was asked for, which then bounds a stream."""

    def __init__(self, target: Target, name: str, content_type: str, options: CallOptions, payload: Payload) -> None:
        self._caller = target.caller
        self._service = target.service
        self._content_type = content_type
        self._options = options
        self._payload = payload
        self._gauge = target.gauge
        self._errors = target.contract.errors if target.contract else ()
        self._timeout = options.timeout
        self._headers = options.headers
        self._encoding = payload.encoding.encode()
        self._exchange = options.exchange
        self._routing_key = options.routing_key or target.queue
        self._pool = (options.routing_key if not options.exchange else None) or target.queue
        self._limits = target.caller.connection.limits
        # The line of the last call with what is made once for it; a method that was never called has none.
        self._line: Line | None = None
        self._form: RequestForm = None  # type: ignore[assignment]
        self._joined: Joined | None = None
        self._forms: dict[int, RequestForm] = {}
        self._destination = b""
        self.__name__ = name
        self.__qualname__ = f"{target.service}.{name}"

    def __repr__(self) -> str:
        return f"<method {self.__qualname__} of {self._caller.connection.url}>"

    async def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        """Call the worker; every error of `amqproxy.errors` says whether the handler ran."""
        within = scope.get()
        if within is not None and within.collector is not None and within.watcher is None and self._answers:
            return await within.collector.call(self, args, kwargs)
        body = self._payload.encode(args, kwargs)
        if len(body) > self._limits.body_bytes:
            raise self._too_large(body)
        line, form = self._line, self._form
        deadline = self._caller.connection.loop.time() + self._timeout
        if within is not None and within.watcher is not None and self._answers:
            return await self._attended(body, deadline)
        if line is None or not line.ready or within is not None:
            deadline = self._inherited(deadline, within)
            line, form = await self._prepare(deadline)
        id, answer = line.send(self._destination, form, body, deadline)
        try:
            reply = await answer
        except BaseException as error:
            line.calls.cancelled(id)
            reply = await self._recover(error, line, id, body, deadline)
        if reply[0] == FAILURE_CONTENT_TYPE:
            raise self._failure(reply[2])
        return self._decode(reply)

    def claim(self) -> None:
        """One more call of the proxy is in flight; Overloaded if it may not be."""
        limit = self._options.max_in_flight
        if limit is not None:
            if self._gauge.calls >= limit:
                raise Overloaded(
                    f"{self.__qualname__}: {limit} calls are in flight, which is the proxy's max_in_flight"
                )
            self._gauge.calls += 1

    def release(self) -> None:
        """A call that was claimed has ended."""
        if self._options.max_in_flight is not None:
            self._gauge.calls -= 1

    def _inherited(self, deadline: float, within: Scope | None) -> float:
        """The deadline of a call that is made within another or within a block: what is left of that is its limit."""
        if within is None or within.deadline is None or within.deadline > deadline:
            return deadline
        if within.deadline <= self._caller.connection.loop.time():
            raise CallTimeout(f"{self.__qualname__}: no time is left in which it could be called", executed="no")
        return within.deadline

    def _time_limit(self, limited: bool) -> tuple[float | None, Callable[[Any], object] | None]:
        """The moment at which a call with a stream must be over, if there is one, and who watches it.

        Only a timeout that was asked for bounds a stream: nobody knows how long one usually takes.
        """
        limit = self._caller.connection.loop.time() + self._timeout if limited else None
        within = scope.get()
        if within is None:
            return limit, None
        if within.deadline is not None:
            limit = self._inherited(math.inf if limit is None else limit, within)
        return limit, within.watcher

    async def _call_attended(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        body = self._payload.encode(args, kwargs)
        if len(body) > self._limits.body_bytes:
            raise self._too_large(body)
        return await self._attended(body, self._caller.connection.loop.time() + self._timeout)

    async def _attended(self, body: bytes, deadline: float) -> Any:
        """Call a worker that gives signs of life, and tell the watcher of the scope, if there is one, how far it is."""
        limit = self._inherited(deadline, scope.get())
        plan = Plan(heartbeat=self._options.heartbeat)
        lost: CallError | None = None
        id: bytes | None = None
        while True:
            conversation = Conversation(self, plan, body, limit=limit, message_id=id, counted=True)
            try:
                return await conversation.result()
            except (ConnectionLost, WorkerLost) as error:
                if not self._options.idempotent:
                    raise
                lost, id = error, conversation.message_id
            except CallError as error:
                if lost is not None and error.executed == "no":
                    error.executed = "maybe"  # see `_recover`
                raise
            except AMQProxyError as error:  # there will be no other link
                raise lost or error from None
            await asyncio.sleep(RETRY_SECONDS)

    def _decode(self, reply: Reply) -> Any:
        if reply[1] != self._encoding and reply[1]:
            raise BadReply(f"{self.__qualname__}: the reply is encoded as {reply[1]!r}, not {self._encoding!r}")
        try:
            return self._payload.decode(reply[2])
        except DecodingFailed as error:
            raise BadReply(f"{self.__qualname__}: the reply does not fit: {error}") from error

    def _too_large(self, body: bytes) -> MessageTooLarge:
        limit = self._limits.body_bytes
        return MessageTooLarge(f"{self.__qualname__}: the request has {len(body)} bytes, max_body_bytes is {limit}")

    def _failure(self, body: bytes) -> Exception:
        try:
            return decode_failure(body, self._errors)
        except ValueError as error:
            return BadReply(f"{self.__qualname__}: {error}")

    async def _prepare(self, deadline: float) -> tuple[Line, RequestForm]:
        """Get a line that can send, and the form of a request that says how much time is left by then."""
        line = await self._open(deadline)
        if line is not self._line:
            self._destination = line.lane.destination(self._exchange.encode(), self._routing_key.encode())
            self._form = self._request_form(line)  # what does not change from request to request
            self._line, self._forms = line, {}
        return line, self._form.within(Deadline(deadline).left(self._caller.connection.loop.time()))

    async def _open(self, deadline: float) -> Line:
        return await self._caller.line(self._exchange, deadline)

    @property
    def joined(self) -> Joined:
        """How its calls share messages."""
        if self._joined is None:
            self._joined = self._payload.joined()
        return self._joined

    def _request_form(self, line: Line) -> RequestForm:
        return RequestForm(
            content_type=self._content_type,
            encoding=self._payload.encoding,
            reply_to=line.reply_to,
            timeout=self._timeout,
            id_length=line.id_length,
            message_id_length=line.message_id_length,
            priority=self._options.priority,
            headers=self._headers,
        )

    def form_of(self, line: Line, calls: int, left: float) -> RequestForm:
        """The form of a request with so many calls, for which so many seconds are left; on the line of the last one."""
        form = self._form if calls == 1 else self._forms.get(calls)
        if form is None:
            together = self.varied({**self._headers, BATCH_HEADER: calls}, self._timeout)
            form = self._forms[calls] = together._request_form(line)
        return form.within(left)

    def varied(self, headers: Mapping[str, Any], timeout: float) -> Self:
        """The same method with other headers and another timeout, for one call."""
        other = object.__new__(type(self))
        other.__dict__.update(self.__dict__)
        other._headers, other._line, other._forms = headers, None, {}
        if timeout != self._timeout:
            other._timeout, other._limited = timeout, True
        return other

    def surrounded(self, middleware: Sequence[Middleware]) -> SurroundedMethod:
        """The same method with middleware around its calls."""
        return SurroundedMethod(self, middleware)

    async def _recover(self, error: BaseException, line: Line, id: bytes, body: bytes, deadline: float) -> Reply:
        """What became of a call that got no answer: the error to raise, or the answer to another try."""
        self._abandon(error, line, id)
        if not (isinstance(error, ConnectionLost) and self._options.idempotent):
            raise await self._explain(error) from None
        try:
            return await self._send_again(body, line.unique + id, deadline)
        except CallError as final:
            if final.executed == "no":
                final.executed = "maybe"  # that is so of this try; the one before it may have run
            raise
        except AMQProxyError:  # there will be no other link
            raise await self._explain(error) from None

    def _abandon(self, error: BaseException, line: Line, id: bytes) -> None:
        """Let the workers know of a call that nobody waits for any more."""
        if isinstance(error, (asyncio.CancelledError, Expired)):
            self._caller.cancel(line, id, self._pool, self._timeout)

    async def _send_again(self, body: bytes, message_id: bytes, deadline: float) -> Reply:
        """The answer to the same call, sent until a link holds."""
        while True:
            line, form = await self._prepare(deadline)
            if len(body) > self._limits.body_bytes:  # which may be known since the try before
                raise self._too_large(body)
            id, answer = line.send(self._destination, form, body, deadline, message_id)
            try:
                reply = await answer
            except ConnectionLost:
                await asyncio.sleep(RETRY_SECONDS)
                continue
            except BaseException as error:
                line.calls.cancelled(id)
                self._abandon(error, line, id)
                raise await self._explain(error) from None
            if reply[0] == FAILURE_CONTENT_TYPE:
                raise self._failure(reply[2])
            return reply

    async def _explain(self, error: BaseException) -> BaseException:
        match error:
            case Returned():
                where = f"exchange {self._exchange!r}" if self._exchange else "the default exchange"
                return Unroutable(
                    f"{self.__qualname__}: no queue at {self._caller.connection.url.address} takes "
                    f"{self._routing_key!r} on {where} ({error}); is a worker serving {self._service!r}?"
                )
            case Expired():
                return CallTimeout(f"{self.__qualname__}: no answer within {self._time()}; {await self._how_far()}")
            case ConnectionLost() | BadReply():
                return type(error)(f"{self.__qualname__}: {error}")
        return error

    def _time(self) -> str:
        within = scope.get()
        if within is None or within.deadline is None or within.deadline > self._caller.connection.loop.time():
            return f"{self._timeout:g} s"
        return "the time that was left to it"

    async def _how_far(self) -> str:
        if self._exchange:
            return "it was sent"
        counts = await self._caller.census(self._routing_key)
        if counts is None:
            return "it was sent"
        waiting, consumers = counts
        if not consumers:
            return f"nobody serves the queue {self._routing_key!r} now"
        return f"it was sent to the queue {self._routing_key!r} (workers: {consumers}, calls that wait: {waiting})"


class ConversingMethod(RemoteMethod):
    """A method of a proxy with a stream as its result, or as a parameter."""

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
        self._limited = "timeout" in target.overrides or method.options.timeout is not None
        self._plan = _plan(method, codec, options)

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        """What the worker streams; or, to be awaited, what it answers."""
        source = None
        if self._method.feed is not None:
            given, args, kwargs = self._method.without_feed(args, kwargs)
            source = _source(given, self._method)
        body = self._payload.encode(args, kwargs)
        if len(body) > self._limits.body_bytes:
            raise self._too_large(body)
        limit, watcher = self._time_limit(self._limited)
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


class UntypedMethod(RemoteMethod):
    """A method of a service of which only the name is known: it may answer with a value or with a stream.

    So what it is called with is known when the call is awaited or iterated, and not before.
    """

    def __init__(
        self, target: Target, name: str, content_type: str, options: CallOptions, payload: Payload, codec: Codec
    ) -> None:
        super().__init__(target, name, content_type, options, payload)
        self._once = False  # whether it is known to answer with a value, for which there is a faster way
        self._limited = "timeout" in target.overrides
        window = options.credit or STREAM_CREDIT
        self._plan = Plan(
            results=items_of(codec, codec.anything(), self.__qualname__),
            window=window,
            batch=min(window, options.batch),
            heartbeat=options.heartbeat,
            untyped=True,
        )

    def _decode(self, reply: Reply) -> Any:
        return reply[2] if reply[0] == CHUNK_CLASS else super()._decode(reply)

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        """The call: await it for one value, or iterate over it with `async for`."""
        return UntypedCall(self, args, kwargs)

    def value(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Coroutine[Any, Any, Any]:
        """The call of a method that answers once."""
        attended = self._options.heartbeat is not None
        call = self._call_attended(args, kwargs) if attended else super().__call__(*args, **kwargs)
        return call if self._options.max_in_flight is None else self._claimed(call)

    async def _claimed(self, call: Coroutine[Any, Any, Any]) -> Any:
        try:
            self.claim()
        except BaseException:
            call.close()
            raise
        try:
            return await call
        finally:
            self.release()

    def stream(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Stream[Any]:
        """The call of a method that streams, or that answers once with an array."""
        return Stream(self._conversation(self._plan, args, kwargs))

    async def either(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """The value; or the stream, if the method turns out to answer with one."""
        if self._once or self._options.idempotent:  # which a stream cannot be
            return await self.value(args, kwargs)
        conversation = self._conversation(replace(self._plan, may_be_value=True), args, kwargs)
        value = await conversation.result()
        self._once = conversation.is_value
        return value if self._once else Stream(conversation)

    def _conversation(self, plan: Plan, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Conversation:
        body = self._payload.encode(args, kwargs)
        if len(body) > self._limits.body_bytes:
            raise self._too_large(body)
        limit, watcher = self._time_limit(self._limited)
        return Conversation(self, plan, body, limit=limit, watcher=watcher)

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


class AttendedMethod(RemoteMethod):
    """A method of a proxy that wants signs of life while a call runs."""

    async def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        """Call the worker, or fail with WorkerLost when it falls silent."""
        return await self._call_attended(args, kwargs)


class LimitedMethod(RemoteMethod):
    """A method of a proxy that bounds its calls in flight."""

    async def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        """Call the worker, or fail with Overloaded if too many calls are out."""
        self.claim()
        try:
            return await super().__call__(*args, **kwargs)
        finally:
            self.release()


class LimitedAttendedMethod(LimitedMethod, AttendedMethod):
    """A method of a proxy that does both."""


class CompressingMethod(RemoteMethod):
    """A method of a proxy whose large requests are compressed: it decides, and leaves the calls to two others."""

    def __init__(self, target: Target, name: str, content_type: str, options: CallOptions, payload: Payload) -> None:
        super().__init__(target, name, content_type, options, payload)
        kind = target.kind(options)
        self._limit = target.caller.connection.options.max_decompressed_bytes
        squeezed = Squeezed(payload, COMPRESSIONS[options.compression or DEFAULT_COMPRESSION], self._limit)
        self._above = options.compress_above or 0
        self._as_it_is = kind(target, name, content_type, options, Written(payload))
        self._compressed = kind(target, name, content_type, options, squeezed)

    async def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        """Call the worker."""
        body = self._payload.encode(args, kwargs)
        # What nobody would decompress travels as it is: then the limit for bodies decides.
        return await (self._compressed if self._above < len(body) <= self._limit else self._as_it_is)(body)

    def varied(self, headers: Mapping[str, Any], timeout: float) -> Self:
        """The same method, whose two others have other headers and another timeout."""
        other = super().varied(headers, timeout)
        other._as_it_is = self._as_it_is.varied(headers, timeout)
        other._compressed = self._compressed.varied(headers, timeout)
        return other


class Payload:
    """How the arguments of one method become a body, and a body its result."""

    __slots__ = ("_codec", "_method", "_request", "_result", "encoding")

    def __init__(self, method: Method, codec: Codec) -> None:
        self._codec = codec
        self._method = method
        self._request = codec.request(method)
        self._result = codec.result(method)
        self.encoding = codec.name

    def encode(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bytes:
        """The body; ContractError if the arguments do not fit, EncodingFailed if one cannot be written."""
        method = self._method
        try:
            return self._request.encode(method.bind(args, kwargs))
        except Mismatch as error:
            raise ContractError(f"{method.title}: {error}") from error
        except (EncodingFailed, MessageTooLarge) as error:
            raise type(error)(f"{method.title}: {error}") from error

    def decode(self, body: bytes) -> Any:
        """The result."""
        return self._result.decode(body)

    def joined(self) -> Joined:
        """How several requests share a message, and several results."""
        title, each = self._method.title, copy(self)
        requests = items_of(self._codec, self._request, title)
        each._request = requests  # type: ignore[assignment]  # which writes as a shape does, and need not read
        return Joined(each.encode, requests, items_of(self._codec, self._result, title))


class CollectedPayload(Payload):
    """The same for a method that streams, and is asked for all items at once."""

    __slots__ = ("_items",)

    def __init__(self, method: Method, codec: Codec) -> None:
        super().__init__(method, codec)
        self._items, _ = streams_of(codec, method)

    def decode(self, body: bytes) -> Any:
        """All items; of a Blob, its bytes."""
        assert self._items is not None
        found = self._items.unpack_all(body)
        return found[0] if isinstance(self._items, Chunks) else list(found)


class UntypedPayload(Payload):
    """The same for a service of which only the name is known."""

    __slots__ = ("_title", "_values")

    def __init__(self, title: str, codec: Codec) -> None:
        self._title = title
        self._codec = codec
        self._values: Shape = codec.anything()
        self.encoding = codec.name

    def encode(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bytes:
        """An array of positional arguments or an object of named ones."""
        if args and kwargs:
            raise ContractError(
                f"{self._title}: give all arguments by position or all by name; "
                "a proxy made from a name does not know which position a name has"
            )
        return self._encode(kwargs or args)

    def _encode(self, value: Any) -> bytes:
        try:
            return self._values.encode(value)
        except Mismatch as error:
            raise ContractError(f"{self._title}: {error}") from error
        except (EncodingFailed, MessageTooLarge) as error:
            raise type(error)(f"{self._title}: {error}") from error

    def decode(self, body: bytes) -> Any:
        """The result, as plain values."""
        return self._values.decode(body)

    def joined(self) -> Joined:
        """How several requests share a message, and several results."""
        each, items = copy(self), items_of(self._codec, self._values, self._title)
        each._values = items  # type: ignore[assignment]  # as above
        return Joined(each.encode, items, items)


class UntypedMessage(UntypedPayload):
    """One message, for a service of which only the name is known."""

    __slots__ = ()

    def encode(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bytes:
        """The message itself."""
        return self._encode(args[0])


class Written(Payload):
    """Bodies that another payload has written already."""

    __slots__ = ("_decode", "_payload")

    def __init__(self, payload: Payload) -> None:
        self._payload = payload
        self._decode = payload.decode
        self.encoding = payload.encoding

    def encode(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bytes:
        """The body."""
        body: bytes = args[0]
        return body

    def joined(self) -> Joined:
        """The same for several."""
        return replace(self._payload.joined(), encode=functools.partial(Written.encode, self))

    def decode(self, body: bytes) -> Any:
        """The result."""
        return self._decode(body)


class Squeezed(Written):
    """Bodies that another payload has written already, compressed."""

    __slots__ = ("_compression", "_limit")

    def __init__(self, payload: Payload, compression: Compression, limit: int) -> None:
        super().__init__(payload)
        self._compression = compression
        self._limit = limit
        self.encoding = f"{compression.name}-{payload.encoding}"

    def encode(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bytes:
        """The body, compressed."""
        return self._compression.compress(args[0], self._limit)

    def decode(self, body: bytes) -> Any:
        """The result."""
        return self._decode(self._compression.decompress(body, self._limit))

    def joined(self) -> Joined:
        """The same for several, which are compressed together."""
        joined, how = super().joined(), self._compression
        compress = functools.partial(how.compress, limit=self._limit)
        decompress = functools.partial(how.decompress, limit=self._limit)
        requests, results = (Compressed(items, compress, decompress) for items in (joined.requests, joined.results))
        return Joined(joined.encode, requests, results)


def remote_method(target: Target, name: str) -> RemoteMethod | SurroundedMethod:
    """The method of this name; AttributeError if the contract has none."""
    if target.contract is None:
        try:
            check_name("message class", request_class(target.service, name))
        except ValueError as error:
            raise ContractError(f"the service {target.service[:40]} cannot have this method: {error}") from None
        options = target.options()
        codec = target.codec(options.encoding or JSON)
        payload = UntypedPayload(f"{target.service}.{name}", codec)
        if target.streams and options.compress_above is None:
            made: RemoteMethod = UntypedMethod(
                target, name, request_class(target.service, name), options, payload, codec
            )
        else:
            made = _make(target, name, request_class(target.service, name), options, payload)
        return _surrounded(target, options, made)
    method = target.contract.methods.get(name)
    if method is None:
        known = ", ".join(target.contract.methods)
        raise AttributeError(f"{target.contract.title} has no method {name!r} that is served; it has {known}")
    return _typed_method(target, method)


def _message_method(target: Target, request: Any) -> RemoteMethod | SurroundedMethod:
    """The method for one message class of a service of which only the name is known."""
    name = message_name(type(request))
    if name is None:
        raise ContractError(f"{type(request).__name__} is no message class; mark it with @amqproxy.message(…)")
    if (form := form_of(type(request))) != "plain":
        raise ContractError(
            f"{name} is a message of {form}, whose replies need a class: make the proxy from the service's"
        )
    if name not in target.messages:
        options = target.options()
        payload = UntypedMessage(name, target.codec(options.encoding or JSON))
        target.messages[name] = _surrounded(target, options, _make(target, name, name, options, payload))
    return target.messages[name]


def _make(target: Target, name: str, content_type: str, options: CallOptions, payload: Payload) -> RemoteMethod:
    kind = target.kind(options)
    if options.compress_above is not None and payload.encoding.partition("-")[0] not in COMPRESSIONS:
        kind = CompressingMethod
    return kind(target, name, content_type, options, payload)


def _surrounded(target: Target, options: CallOptions, method: RemoteMethod) -> RemoteMethod | SurroundedMethod:
    """The method with its middleware, if it has any."""
    middleware = (*target.caller.connection.options.middleware, *options.middleware)
    return method.surrounded(middleware) if middleware else method


def _typed_method(target: Target, method: Method) -> RemoteMethod | SurroundedMethod:
    options = target.options(method.options)
    codec = target.codec(options.encoding or natural_encoding(method))
    if not carries(codec, method):
        others = codecs(target.caller.connection.options.max_decompressed_bytes).values()
        raise ContractError(not_carried(codec, method, others))
    name = method.request_class
    if method.takes_message and options.protobuf_names == "protobuf":
        name = naming(method.request_type).get("protobuf", name)
    payload = Payload(method, codec) if method.stream is None else CollectedPayload(method, codec)
    if method.feed is not None and not target.streams:
        raise ContractError(f"{method.title}: {method.feed.name} is a stream, which a {target.view} cannot feed")
    if not target.streams or (method.stream is None and method.feed is None):
        made = _make(target, method.name, name, options, payload)
    else:
        made = ConversingMethod(target, method.name, name, options, payload, method, codec)
    remote = _surrounded(target, options, made)
    remote.__doc__ = method.doc
    remote.__signature__ = method.signature  # type: ignore[union-attr]  # what inspect and IDEs look for
    return remote
