"""What a worker runs: the handlers of one served object, the call they run for, and what their exceptions tell."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import inspect
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass
from traceback import format_exception
from typing import Any, ClassVar

from .alive import progress_of
from .blob import Blob
from .codecs import Codec, Mismatch, Shape, carries, listing, natural_encoding, not_carried
from .codecs.items import Items, Separable, items_of, streams_of
from .contract import Contract, Method
from .deadline import Deadline
from .errors import ContractError, EncodingFailed, Executed, MessageTooLarge, RemoteError, exception_name, said
from .fields import FieldTable
from .heartbeat import Heartbeat
from .properties import Properties
from .provided import ALWAYS_PROVIDED
from .scope import scope
from .shown import shown_message
from .stream import as_asynchronous
from .threads import FromThread, InThread
from .wire import JSON, TIMEOUT_HEADER, ReplyForm

log = logging.getLogger("amqproxy.server")

Clock = Callable[[], float]


@dataclass(frozen=True, slots=True)
class Handler:
    """One method in one encoding, with what never changes from call to call made ready."""

    deduplicates: ClassVar[bool] = False
    """Whether it wants to know the fingerprint of each call."""

    method: Method
    decode: Callable[[bytes], Any]
    reply_form: ReplyForm
    results: Items | None
    """How the items of its stream travel; None if it answers once."""
    feed: Items | None
    """How the items that it is fed travel; None if it takes no stream."""
    streams: bool
    """Whether either is there."""
    apart: bool
    """Whether its calls are not simply run, answered and acknowledged: they stream, run at most once, or are told apart
    from those that ran."""
    _function: Callable[..., Any]
    _result: Shape | Items
    _threads: Executor | None

    def start(self, request: Any) -> Coroutine[Any, Any, Any]:
        """The running of the handler; plain functions run in a thread, so that they hold up nobody."""
        if self._threads is None:
            coroutine: Coroutine[Any, Any, Any] = self.method.call(self._function, request)
            return coroutine
        return self._run_in_thread(self._threads, self._function, request)

    async def _run_in_thread(self, threads: Executor, function: Callable[..., Any], request: Any) -> Any:
        run = functools.partial(contextvars.copy_context().run, self._call, function, request)
        call = current()
        call.in_thread = True
        try:
            result = await asyncio.get_running_loop().run_in_executor(threads, run)
        finally:
            call.in_thread = False
        if call.cancelled and not call.completes:  # meanwhile, when nothing could be interrupted
            raise asyncio.CancelledError
        return await result if inspect.isawaitable(result) else result

    def _call(self, function: Callable[..., Any], request: Any) -> Any:
        try:
            return self.method.call(function, request)
        except StopIteration as error:  # which asyncio refuses to carry from a thread, and waits for ever instead
            raise RuntimeError("the handler raised StopIteration") from error

    def start_fed(self, request: Any, feed: Any) -> Coroutine[Any, Any, Any]:
        """The same for a handler that is fed a stream."""
        function = self._with_feed(feed)
        if self._threads is None:
            coroutine: Coroutine[Any, Any, Any] = self.method.call(function, request)
            return coroutine
        return self._run_in_thread(self._threads, function, request)

    def _with_feed(self, feed: Any) -> Callable[..., Any]:
        """The function with its stream parameter, which in a thread is a plain iterator."""
        name = self.method.feed.name if self.method.feed is not None else ""
        if self._threads is not None and not isinstance(feed, Blob):
            feed = InThread(feed, asyncio.get_running_loop())
        return functools.partial(self._function, **{name: feed})

    async def items(self, request: Any, feed: Any) -> AsyncIterator[Any]:
        """What the handler streams; a plain generator runs in one thread from its first item to its last."""
        function = self._function if feed is None else self._with_feed(feed)
        if self._threads is None:
            found = self.method.call(function, request)
        else:
            found = await self._run_in_thread(self._threads, function, request)
        if inspect.isawaitable(found):
            found = await found
        if self._threads is not None and hasattr(found, "__iter__") and not hasattr(found, "__aiter__"):
            return FromThread(self._threads, iter(found))
        return self.iterator(found)

    def iterator(self, found: Any) -> AsyncIterator[Any]:
        """The items of what was returned as a stream; RemoteError with code `internal` if it is none."""
        if isinstance(found, Blob) or hasattr(found, "__aiter__"):
            return aiter(found)
        if hasattr(found, "__iter__"):
            return as_asynchronous(found)
        kind = type(found).__name__
        text = f"{self.method.title} returned what it does not promise: a {kind}, which is no asynchronous iterator"
        raise RemoteError(text, code="internal", type="Mismatch")

    def encode(self, result: Any) -> bytes:
        """The reply's body; RemoteError with code `internal` if the handler returned what its annotation rules out."""
        try:
            return self._result.encode(result)
        except (Mismatch, EncodingFailed, MessageTooLarge) as error:
            raise self.misfit(error) from error

    def misfit(self, error: Exception) -> RemoteError:
        """What the caller is told of a result, or an item of it, that cannot be written."""
        if isinstance(error, MessageTooLarge):
            text = f"{self.method.title} returned too much: {error}"
            return RemoteError(text, code="resource_exhausted", type="MessageTooLarge")
        text = f"{self.method.title} returned what it does not promise: {error}"
        return RemoteError(text, code="internal", type=type(error).__name__)


class HandlerTable:
    """All handlers of one served object, by the content type and the content encoding of requests.

    Those of the encodings that callers use unless told otherwise, and of the user's codecs, are made at once, so that a
    type that cannot travel is told of when the worker starts; the others are made when they are first asked for.
    """

    def __init__(
        self,
        target: Any,
        contract: Contract,
        codecs: Mapping[str, Codec],
        threads: Executor,
        further: Iterable[Codec] = (),
        around: Callable[[Handler], Handler] = lambda handler: handler,
    ) -> None:
        """Read `codecs`, of which `further` are the user's; `around` puts around a handler what the worker wants."""
        self._by_properties: dict[tuple[bytes | None, bytes | None], Handler] = {}
        self._target = target
        self._contract = contract
        self._codecs = codecs
        self._threads = threads
        self._around = around
        self._methods = contract.by_class()
        for method in contract.methods.values():
            if not any(carries(codec, method) for codec in codecs.values()):
                forms = " and ".join(sorted(method.forms))
                raise ContractError(f"{method.title}: no encoding carries messages that are {forms} at once")
            for encoding in dict.fromkeys((natural_encoding(method), JSON, *(codec.name for codec in further))):
                if carries(codecs[encoding], method):
                    self._add(method, codecs[encoding])

    def get(self, content_type: bytes | None, encoding: bytes | None) -> Handler | None:
        """Who takes a request with these properties, if it was made: a look-up and nothing more, whatever they say."""
        return self._by_properties.get((content_type, encoding))

    def find(self, content_type: bytes | None, encoding: bytes | None) -> Handler:
        """Who takes it, made now if need be; RemoteError tells why nobody does."""
        if content_type is None:
            text = f"the request to {self._contract.name} has no content-type, which names what is called"
            raise refusal("invalid_argument", f"{text}; it serves {', '.join(sorted(self._methods))}")
        codec = self._codecs.get(_text_of(encoding or b"") or JSON)
        if codec is None:
            text = f"the content-encoding {_printable(encoding)} is not known here; known are {listing(self._codecs)}"
            raise refusal("unimplemented", text)
        methods = self._methods.get(_text_of(content_type))
        if methods is None:
            text = f"does not serve {_printable(content_type)}; it serves {', '.join(sorted(self._methods))}"
            raise refusal("unimplemented", f"{self._contract.title} {text}")
        carried = [method for method in methods if carries(codec, method)]
        if not carried:
            raise refusal("unimplemented", not_carried(codec, methods[0], self._codecs.values()))
        try:
            self._add(carried[0], codec)
        except ContractError as error:  # of a codec that carries the form, and not this type
            raise refusal("unimplemented", str(error)) from error
        return self._by_properties[content_type, encoding]

    def joined(self, handler: Handler) -> tuple[Separable, Separable]:
        """How requests of a handler share messages, and how its results do."""
        method, codec = handler.method, self._codecs[handler.reply_form.encoding.decode()]
        shapes = codec.request(method), codec.result(method)
        requests, results = (items_of(codec, shape, method.title) for shape in shapes)
        return requests, results

    def _add(self, method: Method, codec: Codec) -> None:
        """Make the handlers of a method for one encoding, one for each name that it goes by."""
        function = self._target if self._contract.is_function else getattr(self._target, method.name)
        decode, result = codec.request(method).decode, codec.result(method)
        results, feed = streams_of(codec, method)
        for name, reply in method.names.items():
            handler = self._around(
                Handler(
                    method=method,
                    decode=decode,
                    reply_form=ReplyForm(reply, codec.name),
                    results=results,
                    feed=feed,
                    streams=results is not None or feed is not None,
                    apart=results is not None or feed is not None or method.options.at_most_once,
                    _function=function,
                    _result=result,
                    _threads=None if _runs_in_the_loop(function) else self._threads,
                )
            )
            for encoding in (codec.name.encode(), *((b"", None) if codec.name == JSON else ())):
                other = self._by_properties.setdefault((name.encode(), encoding), handler).method
                if other is not method:  # which only a codec of the user's that carries all forms can come to
                    raise ContractError(f"{codec.name} carries {other.title} and {method.title}, both called {name}")


def _runs_in_the_loop(function: Any) -> bool:
    return inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(inspect.unwrap(function))


class Refused(Exception):
    """Raised in the task of a call whose handler is not run; what handlers raise themselves is not taken for it."""

    def __init__(self, failure: RemoteError) -> None:
        super().__init__(failure.message)
        self.failure = failure
        """What the caller is told."""


def refusal(code: str, message: str, *, type: str = "ContractError", retryable: bool = False) -> RemoteError:
    """A failure of the worker's own, for a request that reaches no handler."""
    return RemoteError(message, code=code, type=type, retryable=retryable, executed="no")


def not_begun(error: Exception, service: str, header: bytes) -> RemoteError:
    """The failure of a request that could not be begun: a refusal, or what else went wrong."""
    if isinstance(error, RemoteError):
        return error
    log.error("%s: a request could not be begun: %s", service, shown_message(header), exc_info=error)
    text = f"{service} failed before the handler was run; see its log"
    return refusal("internal", text, type=exception_name(type(error)))


def too_late(handler: Handler) -> RemoteError:
    """The failure of a request that came when its time was over: nobody waits for what it would do."""
    text = f"{handler.method.title} was not run: no time was left when the request came"
    return refusal("deadline_exceeded", text, type="CallTimeout")


def redelivered(handler: Handler) -> RemoteError:
    """The failure of a request that a worker had before, and that is not to be run twice."""
    text = (
        f"{handler.method.title} runs at most once, and a worker that was lost had this call already: whether it ran "
        "is not known; look before you call again"
    )
    return RemoteError(text, code="aborted", type="Redelivered", executed="maybe")


def interrupted(handler: Handler) -> RemoteError:
    """The failure of a request that was interrupted when it came before, and that is not to be run twice."""
    text = (
        f"{handler.method.title} is not run again for this call, which was interrupted while it ran: look what it did "
        "before you call again"
    )
    return RemoteError(text, code="aborted", type="Interrupted", executed="maybe")


def failure_of(error: BaseException, *, debug: bool, ran: bool = True) -> RemoteError:
    """What the caller is told of an exception: type and text, and with `debug` the traceback."""
    executed: Executed = "yes" if ran else "no"  # whatever a call of the handler's own came to
    traceback = "".join(format_exception(error)) if debug else None
    if isinstance(error, RemoteError):
        return RemoteError(
            error.message,
            code=error.code,
            type=error.type,
            retryable=error.retryable,
            details=error.details,
            traceback=traceback,
            executed=executed,
        )
    code = "cancelled" if isinstance(error, asyncio.CancelledError) else "unknown"
    kind = exception_name(type(error))
    return RemoteError(said(error), code=code, type=kind, traceback=traceback, executed=executed)


def _text_of(raw: bytes) -> str:
    """A property as text; nothing, in which no name of ours is spelled, if it is none."""
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return "\0"


def _printable(raw: bytes | None) -> str:
    return repr((raw or b"").decode(errors="backslashreplace")[:100])


def current() -> Call:
    """The call that this code runs for; LookupError outside of a handler."""
    within = scope.get()
    while within is not None and not isinstance(within, Call):
        within = within.outer
    if within is None:
        raise LookupError(
            "amqproxy.current() is for code that runs in a handler, and no call is handled here; in a thread of your "
            "own, run the code in the context of the handler: contextvars.copy_context().run(…)"
        )
    return within


class Call:
    """One call while its handler runs; `amqproxy.current()` gives it to the handler.

    What the request's properties say is decoded when it is asked for.
    """

    __slots__ = (
        *(
            "_clock",
            "_completes",
            "_deadline",
            "_fingerprint",
            "_header",
            "_properties",
            "_reached",
            "_received",
            "cancelled",
        ),
        *("correlation_id", "given", "heartbeat", "in_thread", "method", "redelivered", "reply_to", "service"),
        "worker",
    )

    outer = None
    watcher = None
    collector = None
    given: tuple[Method, Any, Callable[[], Awaitable[Any]]]
    """What middleware is around: the method, the request, and the running of the handler."""

    def __init__(
        self,
        service: str,
        method: str,
        worker: str,
        redelivered: bool,
        header: bytes,
        clock: Clock,
        correlation_id: bytes | None = None,
        reply_to: bytes | None = None,
    ) -> None:
        self.service = service
        """The service that was called."""
        self.method = method
        """The method that was called."""
        self.worker = worker
        """The name of the worker that runs it: host, process id and a number."""
        self.redelivered = redelivered
        """True if the broker gave this request to a worker before, which may have run it."""
        self.cancelled = False
        """True once the caller does not want the result any more. An `async def` handler is cancelled then; a plain one
        may look at this from time to time."""
        self.in_thread = False
        """True while it runs in a thread, where nothing can interrupt it."""
        self.heartbeat: Heartbeat | None = None
        """What tells the caller that the call is alive, if it asked for that."""
        self.correlation_id = correlation_id
        self.reply_to = reply_to
        self._header = header
        self._properties: Properties | None = None
        self._deadline: float | None = -1.0  # not looked for yet
        self._clock = clock
        self._received = clock()

    def enter(self) -> None:
        """Make this the current call of the running task."""
        scope.set(self)

    def progress(self, done: float | None, total: float | None = None, note: str | None = None) -> None:
        """Tell the caller how far this call is: how much is done, of how much, and in words; what is unknown is None.

        It is told if the caller asked for it, at most twenty times a second, and always in the latest state. May be
        called in any thread, as often as you like. TypeError or ValueError if what is told are no finite numbers, or
        the note is no str; only its first thousand characters are told.
        """
        told = progress_of(done, total, note)
        if self.heartbeat is not None:
            self.heartbeat.tell(told)

    @property
    def properties(self) -> Properties:
        """All properties of the request; ValueError if they do not decode."""
        if self._properties is None:
            self._properties = Properties.decode(self._header)
        return self._properties

    @property
    def message_id(self) -> str | None:
        """The same for each try of one call: the key for whoever wants to run it once."""
        id = self.properties.message_id
        return None if id is None else id.decode(errors="backslashreplace")

    @property
    def fingerprint(self) -> bytes | None:
        """What the request's body is told apart by; None where nobody wants to know."""
        return getattr(self, "_fingerprint", None)

    @fingerprint.setter
    def fingerprint(self, fingerprint: bytes | None) -> None:
        self._fingerprint = fingerprint

    @property
    def completes(self) -> bool:
        """Whether it runs on when it is cancelled, to its end or that of its time: what it comes to is remembered."""
        return getattr(self, "_completes", False)

    @completes.setter
    def completes(self, completes: bool) -> None:
        self._completes = completes

    @property
    def reached(self) -> bool:
        """Whether it came to its handler; not so while middleware has not let it through."""
        return getattr(self, "_reached", True)

    @reached.setter
    def reached(self, reached: bool) -> None:
        self._reached = reached

    @property
    def headers(self) -> FieldTable:
        """The request's headers."""
        return self.properties.headers or {}

    @property
    def arguments(self) -> Mapping[str, Any]:
        """What the caller sent, by parameter, for middleware around handlers; LookupError where there is none."""
        try:
            method, request, _ = self.given
        except AttributeError:
            raise LookupError("a call has its arguments for middleware, and this worker has none") from None
        return method.arguments(request)

    @property
    def time_left(self) -> float | None:
        """Seconds until the caller stops waiting, counted from receipt by our own clock; None if it did not say."""
        deadline = self.deadline
        return None if deadline is None else Deadline(deadline).left(self._clock())

    @property
    def age(self) -> float:
        """Seconds since it came here."""
        return self._clock() - self._received

    @property
    def is_over(self) -> bool:
        """Whether the caller has stopped waiting, as far as it said when it would."""
        try:
            return self.time_left == 0
        except ValueError:
            return False

    @property
    def deadline(self) -> float | None:
        """The moment, on the clock of the event loop, at which the caller stops waiting; None if it did not say.

        Calls that the handler makes end then, too.
        """
        if self._deadline == -1.0:
            left = self.headers.get(TIMEOUT_HEADER)
            if isinstance(left, str) and left.removeprefix("-").isdecimal():
                left = int(left[:20])  # from STOMP, say, whose headers are all texts
            if isinstance(left, int) and not isinstance(left, bool):
                self._deadline = self._received + max(0, left) / 1000
            else:
                self._deadline = None
        return self._deadline

    def __repr__(self) -> str:
        return f"<Call of {self.service}.{self.method} in {self.worker}>"


setattr(Call, ALWAYS_PROVIDED, True)  # a handler's parameter of this type is the call itself


def instance_of(target: Any) -> Any:
    """The object to serve: the target itself, or an instance if it is a class."""
    if not isinstance(target, type):
        return target
    with contextlib.suppress(ValueError):  # some classes written in C do not tell what they take
        try:
            inspect.signature(target).bind()
        except TypeError as error:
            raise ContractError(
                f"{target.__qualname__} cannot be made without arguments ({error}); serve an instance instead"
            ) from error
    return target()
