"""The methods of a proxy that answer once: calling one sends a request, and returns what the worker answers."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Self

from .answer import Reply
from .caller import Caller
from .codecs import Codec, DecodingFailed, listing
from .codecs.compression import COMPRESSIONS
from .codecs.guarded import Guarded
from .codecs.items import Joined
from .codecs.registry import codecs, missing_extra
from .confirming import ConfirmedLine
from .contract import Contract, MethodOptions
from .conversation import Conversation, Plan, Tries
from .deadline import Deadline
from .errors import (
    AccessRefused,
    AMQProxyError,
    BadReply,
    CallError,
    CallTimeout,
    ConnectionLost,
    Executed,
    MessageTooLarge,
    Overloaded,
    Unroutable,
    WorkerLost,
    doubted,
    retold,
    said,
)
from .line import Expired, Line, Refused, Returned
from .middleware import Middleware, SurroundedMethod
from .options import CallOptions, changed
from .payload import Payload, Squeezed, Written
from .scope import Collector, Scope, scope
from .shown import shown
from .topology import PoolTopology, refuses
from .wire import BATCH_HEADER, CHUNK_CLASS, FAILURE_CONTENT_TYPE, RequestForm, decode_failure

RETRY_SECONDS = 0.1
"""Between the tries of an idempotent call whose links keep breaking."""


DEFAULT_COMPRESSION = "snappy"
"""The one that takes least of the processor, and that the Akka AMQP proxies know."""


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
            if self._confirmed(options):
                return ConfirmedMethod if options.max_in_flight is None else LimitedConfirmedMethod
            return RemoteMethod if options.max_in_flight is None else LimitedMethod
        return AttendedMethod if options.max_in_flight is None else LimitedAttendedMethod

    def _confirmed(self, options: CallOptions) -> bool:
        """Whether requests are confirmed: if that was said, or the service's queue may refuse them."""
        if options.confirm is not None or self.contract is None:
            return bool(options.confirm)
        serving = self.contract.options
        bounded = serving.max_length is not None or bool(serving.arguments)
        return bounded and refuses(PoolTopology.of(self.contract.name, serving).queue)

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


class RemoteMethod:
    """One method of a proxy; calling it calls the worker."""

    answers: ClassVar[bool] = True
    """Whether a worker is heard of at all."""
    repeats = False
    """Whether a call may be sent more than once."""
    repeatable: ClassVar[bool] = True
    """Whether a call is sent again when its link broke, if it is idempotent."""
    doubt: ClassVar[str] = "it may have run"
    """What is so of a request that went out, and of which nothing was heard."""
    limited = False
    """Whether a timeout was asked for, which then bounds a stream."""

    def __init__(self, target: Target, name: str, content_type: str, options: CallOptions, payload: Payload) -> None:
        self.caller = target.caller
        self.service = target.service
        self.content_type = content_type
        self.options = options
        self.payload = payload
        self.untyped = target.contract is None
        self._gauge = target.gauge
        self._errors = target.contract.errors if target.contract else ()
        self.timeout = options.timeout
        """Seconds that a call may take."""
        self.headers = options.headers
        self.encoding = payload.encoding.encode()
        self._exchange = options.exchange
        self.routing_key = options.routing_key or target.queue
        self.pool = (options.routing_key if not options.exchange else None) or target.queue
        """The queue that the workers share."""
        self.limits = target.caller.connection.limits
        # The line of the last call with what is made once for it; a method that was never called has none.
        self.line: Line | None = None
        self._form: RequestForm = None  # type: ignore[assignment]
        self._joined: Joined | None = None
        self._forms: dict[int, RequestForm] = {}
        self.destination = b""
        self.__name__ = name
        self.__qualname__ = f"{target.service}.{name}"

    def __repr__(self) -> str:
        return f"<method {self.__qualname__} of {self.caller.connection.url}>"

    async def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        """Call the worker; every error of `amqproxy.errors` says whether the handler ran."""
        within = scope.get()
        if within is not None and (collector := self._collector(within)) is not None:
            return await collector.call(self, args, kwargs)
        body = self.payload.encode(args, kwargs)
        if len(body) > self.limits.body_bytes:
            raise self.too_large(body)
        line, form = self.line, self._form
        deadline = self.caller.connection.loop.time() + self.timeout
        if within is not None and within.watcher is not None and self.answers:
            return await self._attended(body, deadline)
        if line is None or not line.ready or within is not None:
            deadline = self.inherited(deadline, within)
            line, form = await self.prepare(deadline)
        id, answer = line.send(self.destination, form, body, deadline)
        try:
            reply = await answer
        except BaseException as error:
            line.calls.cancelled(id)
            reply = await self._recover(error, line, id, body, deadline)
        if reply[0] == FAILURE_CONTENT_TYPE:
            raise self.failure(reply[2])
        return self.decode(reply)

    def _collector(self, within: Scope) -> Collector | None:
        """Who sends this call together with others, if anybody does: calls whose progress is watched travel alone."""
        collector = within.collector
        if collector is None or collector.closed or within.watcher is not None or not self.answers:
            return None
        return collector

    def claim(self) -> None:
        """One more call of the proxy is in flight; Overloaded if it may not be."""
        limit = self.options.max_in_flight
        if limit is not None:
            if self._gauge.calls >= limit:
                raise Overloaded(
                    f"{self.__qualname__}: {limit} calls are in flight, which is the proxy's max_in_flight"
                )
            self._gauge.calls += 1

    def release(self) -> None:
        """A call that was claimed has ended."""
        if self.options.max_in_flight is not None:
            self._gauge.calls -= 1

    def inherited(self, deadline: float, within: Scope | None) -> float:
        """The deadline of a call that is made within another or within a block: what is left of that is its limit."""
        if within is None or within.deadline is None or within.deadline > deadline:
            return deadline
        if within.deadline <= self.caller.connection.loop.time():
            raise CallTimeout(f"{self.__qualname__}: no time is left in which it could be called", executed="no")
        return within.deadline

    def time_limit(self, limited: bool) -> tuple[float | None, Callable[[Any], object] | None]:
        """The moment at which a call with a stream must be over, if there is one, and who watches it.

        Only a timeout that was asked for bounds a stream: nobody knows how long one usually takes.
        """
        limit = self.caller.connection.loop.time() + self.timeout if limited else None
        within = scope.get()
        if within is None:
            return limit, None
        if within.deadline is not None:
            limit = self.inherited(math.inf if limit is None else limit, within)
        return limit, within.watcher

    async def _call_attended(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        body = self.payload.encode(args, kwargs)
        if len(body) > self.limits.body_bytes:
            raise self.too_large(body)
        return await self._attended(body, self.caller.connection.loop.time() + self.timeout)

    async def _attended(self, body: bytes, deadline: float) -> Any:
        """Call a worker that gives signs of life, and tell the watcher of the scope, if there is one, how far it is."""
        limit = self.inherited(deadline, scope.get())
        plan = Plan(heartbeat=self.options.heartbeat)
        lost: CallError | None = None
        tries = Tries()
        while True:
            conversation = Conversation(self, plan, body, limit=limit, tries=tries, counted=True)
            try:
                return await conversation.result()
            except (ConnectionLost, WorkerLost) as error:
                if not self.options.idempotent:
                    raise
                lost = error
            except CallError as error:
                if lost is not None:
                    doubted(error, self.doubt)  # see `_recover`
                raise
            except AMQProxyError as error:  # there will be no other link
                raise lost or error from None
            await asyncio.sleep(RETRY_SECONDS)

    def decode(self, reply: Reply) -> Any:
        """The value of a reply; BadReply if it does not fit."""
        if reply[0] == CHUNK_CLASS and self.untyped:  # the bytes of a Blob, which are in no encoding
            return reply[2]
        if reply[1] != self.encoding and reply[1]:
            raise self.misencoded(reply[1])
        try:
            return self.payload.decode(reply[2])
        except DecodingFailed as error:
            raise BadReply(f"{self.__qualname__}: the reply does not fit: {error}") from error
        except Exception as error:  # of a type of the user's
            text = f"{self.__qualname__}: reading the reply raised {type(error).__name__}: {said(error)}"
            raise BadReply(text) from error

    def misencoded(self, encoding: bytes) -> BadReply:
        """The error of a reply in another encoding than that of the request."""
        return BadReply(
            f"{self.__qualname__}: the reply is encoded as '{shown(encoding)}', and '{shown(self.encoding)}' was asked "
            "for; mend the worker that answers so"
        )

    def senseless(self, error: Exception, executed: Executed = "yes") -> BadReply:
        """The error of an answer that cannot be made sense of, whatever reading it has raised."""
        kind = "" if isinstance(error, (ValueError, DecodingFailed)) else f"{type(error).__name__}: "
        return BadReply(f"{self.__qualname__}: the reply makes no sense: {kind}{said(error)}", executed=executed)

    def too_large(self, body: bytes) -> MessageTooLarge:
        """The error of a request that has more bytes than the broker takes."""
        return MessageTooLarge(f"{self.__qualname__}: the request has {len(body)} bytes, {self.limits.told()}")

    def failure(self, body: bytes) -> Exception:
        """What a failure in a reply is raised as."""
        try:
            return decode_failure(body, self._errors)
        except ValueError as error:
            return BadReply(f"{self.__qualname__}: the worker told of {error}; {self.doubt}", executed="maybe")
        except Exception:  # a type of the user's that cannot be made so
            return decode_failure(body)

    async def prepare(self, deadline: float) -> tuple[Line, RequestForm]:
        """Get a line that can send, and the form of a request that says how much time is left by then."""
        try:
            line = await self._open(deadline)
        except AMQProxyError as error:
            raise retold(error, f"{self.__qualname__}: {error}") from None
        if line is not self.line:
            self.destination = line.lane.destination(self._exchange.encode(), self.routing_key.encode())
            self._form = self._request_form(line)  # what does not change from request to request
            self.line, self._forms = line, {}
        return line, self._form.within(Deadline(deadline).left(self.caller.connection.loop.time()))

    async def _open(self, deadline: float) -> Line:
        return await self.caller.line(self._exchange, deadline)

    @property
    def joined(self) -> Joined:
        """How its calls share messages."""
        if self._joined is None:
            self._joined = self.payload.joined()
        return self._joined

    def _request_form(self, line: Line) -> RequestForm:
        return RequestForm(
            content_type=self.content_type,
            encoding=self.payload.encoding,
            reply_to=line.reply_to,
            timeout=self.timeout,
            id_length=line.id_length,
            message_id_length=line.message_id_length,
            priority=self.options.priority,
            headers=self.headers,
        )

    def form_of(self, line: Line, calls: int, left: float) -> RequestForm:
        """The form of a request with so many calls, for which so many seconds are left; on the line of the last one."""
        form = self._form if calls == 1 else self._forms.get(calls)
        if form is None:
            together = self.varied({**self.headers, BATCH_HEADER: calls}, self.timeout)
            form = self._forms[calls] = together._request_form(line)
        return form.within(left)

    def varied(self, headers: Mapping[str, Any], timeout: float) -> Self:
        """The same method with other headers and another timeout, for one call."""
        other = object.__new__(type(self))
        other.__dict__.update(self.__dict__)
        other.headers, other.line, other._forms = headers, None, {}
        if timeout != self.timeout:
            other.timeout, other.limited = timeout, True
        return other

    def surrounded(self, middleware: Sequence[Middleware]) -> SurroundedMethod:
        """The same method with middleware around its calls."""
        return SurroundedMethod(self, middleware)

    async def _recover(self, error: BaseException, line: Line, id: bytes, body: bytes, deadline: float) -> Reply:
        """What became of a call that got no answer: the error to raise, or the answer to another try."""
        self.abandon(error, line, id)
        if not (isinstance(error, ConnectionLost) and self.options.idempotent):
            raise await self.explain(error) from None
        try:
            return await self._send_again(body, line.unique + id, deadline)
        except CallError as final:
            doubted(final, self.doubt)  # a "no" is so of this try; the one before it may have run
            raise
        except AMQProxyError:  # there will be no other link
            raise await self.explain(error) from None

    def abandon(self, error: BaseException, line: Line, id: bytes) -> None:
        """Let the workers know of a call that nobody waits for any more."""
        if isinstance(error, (asyncio.CancelledError, Expired)):
            self.caller.cancel(line, id, self.pool, self.timeout)

    async def _send_again(self, body: bytes, message_id: bytes, deadline: float) -> Reply:
        """The answer to the same call, sent until a link holds."""
        while True:
            line, form = await self.prepare(deadline)
            if len(body) > self.limits.body_bytes:  # which may be known since the try before
                raise self.too_large(body)
            id, answer = line.send(self.destination, form, body, deadline, message_id)
            try:
                reply = await answer
            except ConnectionLost:
                await asyncio.sleep(RETRY_SECONDS)
                continue
            except BaseException as error:
                line.calls.cancelled(id)
                self.abandon(error, line, id)
                raise await self.explain(error) from None
            if reply[0] == FAILURE_CONTENT_TYPE:
                raise self.failure(reply[2])
            return reply

    async def explain(self, error: BaseException) -> BaseException:
        """What the caller is told of an error on the way."""
        match error:
            case Returned():
                where = f"exchange {self._exchange!r}" if self._exchange else "the default exchange"
                return Unroutable(
                    f"{self.__qualname__}: no queue at {self.caller.connection.url.address} takes "
                    f"{self.routing_key!r} on {where} ({error}); is a worker serving {self.service!r}?"
                )
            case Expired():
                return CallTimeout(f"{self.__qualname__}: no answer within {self._time()}; {await self._how_far()}")
            case BadReply():
                return retold(error, f"{self.__qualname__}: {error}")
            case ConnectionLost():
                once = ", and is not sent again without idempotent=True" if self._is_sent_once() else ""
                return retold(error, f"{self.__qualname__}: {error}; {self.doubt}{once}")
            case AccessRefused(executed="maybe"):
                return retold(error, f"{self.__qualname__}: {error}; {self.doubt}")
            case RuntimeError():  # asyncio's, if we are not where the answer comes
                self.caller.connection.check_loop()
        return error

    def _is_sent_once(self) -> bool:
        """Whether it would have been sent again if it were idempotent."""
        return self.repeatable and not self.options.idempotent

    def _time(self) -> str:
        within = scope.get()
        if within is None or within.deadline is None or within.deadline > self.caller.connection.loop.time():
            return f"{self.timeout:g} s"
        return "the time that was left to it"

    async def _how_far(self) -> str:
        if self._exchange:
            return f"it was sent to the exchange {self._exchange!r}, and {self.doubt}"
        queue = f"the queue {self.routing_key!r}"
        counts = await self.caller.census(self.routing_key)
        if counts is None:
            return f"it was sent to {queue}, and {self.doubt}"
        waiting, consumers = counts
        if not consumers:
            return f"nobody serves {queue} now: start a worker; {self.doubt} if there was one"
        return f"it was sent to {queue} (workers: {consumers}, calls that wait: {waiting}), and {self.doubt}"


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


class ConfirmedMethod(RemoteMethod):
    """A method of a proxy whose requests a full queue may refuse, which fails them at once."""

    async def _open(self, deadline: float) -> Line:
        return await self.caller.further_line(ConfirmedLine, self._exchange, deadline)

    async def explain(self, error: BaseException) -> BaseException:
        """What the caller is told of an error on the way."""
        if not isinstance(error, Refused):
            return await super().explain(error)
        address, where = self.caller.connection.url.address, f"the queue {self.routing_key!r}"
        if self._exchange:
            where = f"a queue behind the exchange {self._exchange!r}"
        return Overloaded(
            f"{self.__qualname__}: {address} refused the request: {where} is full (x-overflow), or broken; the same "
            "call may succeed later",
            executed="maybe" if self._exchange else "no",  # another queue may have taken it
        )


class LimitedConfirmedMethod(LimitedMethod, ConfirmedMethod):
    """The same with a bound for calls in flight."""


class CompressingMethod(RemoteMethod):
    """A method of a proxy whose large requests are compressed: it decides, and leaves the calls to two others."""

    def __init__(self, target: Target, name: str, content_type: str, options: CallOptions, payload: Payload) -> None:
        super().__init__(target, name, content_type, options, payload)
        kind = target.kind(options)
        self.repeats = kind.repeats
        self._limit = target.caller.connection.options.max_decompressed_bytes
        squeezed = Squeezed(payload, COMPRESSIONS[options.compression or DEFAULT_COMPRESSION], self._limit)
        self._above = options.compress_above or 0
        self._as_it_is = kind(target, name, content_type, options, Written(payload))
        self._compressed = kind(target, name, content_type, options, squeezed)

    async def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        """Call the worker."""
        body = self.payload.encode(args, kwargs)
        # What nobody would decompress travels as it is: then the limit for bodies decides.
        return await (self._compressed if self._above < len(body) <= self._limit else self._as_it_is)(body)

    def varied(self, headers: Mapping[str, Any], timeout: float) -> Self:
        """The same method, whose two others have other headers and another timeout."""
        other = super().varied(headers, timeout)
        other._as_it_is = self._as_it_is.varied(headers, timeout)
        other._compressed = self._compressed.varied(headers, timeout)
        return other
