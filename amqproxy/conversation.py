"""A call that is more than a request and a reply: with a stream in either direction, or with word of its progress.

It stays with its line until it ends, hears every message on its correlation id, and knows the worker's own queue once
the worker has told it.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import AsyncIterable, Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from .addresses import WORKERS
from .alive import NOTHING, Progress, decode_progress
from .answer import Reply
from .caller import Caller
from .codecs import DecodingFailed, Mismatch
from .codecs.items import Chunks, Items
from .errors import (
    AccessRefused,
    AMQProxyError,
    BadReply,
    CallError,
    CallTimeout,
    ConnectionLost,
    ContractError,
    Executed,
    MessageTooLarge,
    WorkerLost,
    retold,
)
from .flow import Outflow
from .forgotten import retrieve
from .line import Expired, Line, Returned
from .options import CallOptions
from .properties import Properties, return_address
from .scope import scope
from .shown import shown
from .stream import Inlet, Outlet
from .vigil import Vigil
from .wire import (
    ALIVE_CLASS,
    BATCH_HEADER,
    CHUNK_CLASS,
    CREDIT_CLASS,
    CREDIT_HEADER,
    FAILURE_CONTENT_TYPE,
    FEED_HEADER,
    HEARTBEAT_HEADER,
    TIMEOUT_HEADER,
    TRANSIENT,
    ItemForm,
    credit_of,
    milliseconds,
    part_of,
)

if TYPE_CHECKING:
    from .link import Limits

CHUNKS = Chunks()
PROBE_SECONDS = 1.0
"""A stream that is silent for so long is asked whether its worker is still there."""
HEARTBEAT_SECONDS = 1.0
"""How often a call whose progress is watched gives a sign of life, unless told otherwise."""


class Called(Protocol):
    """What a conversation wants to know of the method that is called, which is proxy.RemoteMethod."""

    caller: Caller
    options: CallOptions
    headers: Mapping[str, Any]
    timeout: float
    content_type: str
    encoding: bytes
    routing_key: str
    pool: str
    limits: Limits
    __qualname__: str

    def decode(self, reply: Reply) -> Any:
        """The value of a reply; BadReply if it does not fit."""

    def failure(self, body: bytes) -> Exception:
        """What a failure in a reply is raised as."""

    def senseless(self, error: Exception, executed: Executed) -> BadReply:
        """The error of an answer that cannot be made sense of, whatever reading it has raised."""

    async def explain(self, error: BaseException) -> BaseException:
        """What the caller is told of an error on the way."""

    def claim(self) -> None:
        """One more call of the proxy is in flight; Overloaded if it may not be."""

    def release(self) -> None:
        """A call that was claimed has ended."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What a conversation is about, as far as it is the same for all calls of one method."""

    results: Items | None = None
    """How the items of the result travel; None if it is one value."""
    feed: Items | None = None
    """How the items that the worker is fed travel."""
    feed_class: bytes = b""
    window: int = 1
    """How many items may be between worker and caller."""
    batch: int = 1
    """How many of them may share a message."""
    heartbeat: float | None = None
    """Seconds between two signs of life; None if none are asked for, unless somebody watches the progress."""
    untyped: bool = False
    """Whether only the name of the service is known: then the items may also be chunks of a Blob."""
    may_be_value: bool = False
    """Whether a single reply is also welcome, of a service of which only the name is known."""


@dataclass(slots=True)
class Tries:
    """What those of one call have in common, of which two may be on their way at once."""

    message_id: bytes | None = None
    """That of the first that is sent; None until then."""


class Conversation:
    """One such call."""

    def __init__(
        self,
        method: Called,
        plan: Plan,
        body: bytes,
        *,
        limit: float | None,
        source: AsyncIterable[Any] | None = None,
        watcher: Callable[[Progress], object] | None = None,
        tries: Tries | None = None,
        counted: bool = False,
    ) -> None:
        """`limit` is the moment at which all of it must be over, None for a stream that may go on.

        `watcher` is told of progress; without one, that of the scope in which the request is sent. `tries` is for
        further ones of the same call. `counted` tells that the call is among those in flight already.
        """
        self.plan = plan
        self.caller = method.caller
        self.loop = self.caller.connection.loop
        self._method = method
        self._body = body
        self._limit = limit
        self._source = source
        # The source runs in a task that a message starts, and shall find what is around the call all the same.
        self._context = None if source is None else contextvars.copy_context()
        self._watcher = watcher
        self._tries = tries
        self._heartbeat = plan.heartbeat
        self.begun = False
        self._began = 0.0
        self._counted = counted
        self._claimed = False
        self.ended = False
        self.is_value = False
        """True once the call was answered with one value, and with no stream."""
        self.reply: asyncio.Future[Any] = self.loop.create_future()
        """The one value, or None when the stream has begun."""
        self.reply.add_done_callback(retrieve)
        self.inlet = None if plan.results is None else Inlet(self.loop, plan.window, plan.results, self._grant)
        self._line: Line = None  # type: ignore[assignment]  # set before anything comes
        self._id = b""
        self._worker = b""  # the worker's own queue
        self._destination = b""
        self._outlet: Outlet | None = None
        self._feeding: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._vigil: Vigil = None  # type: ignore[assignment]  # set before anything comes

    @property
    def name(self) -> str:
        """Which method is called."""
        return self._method.__qualname__

    async def start(self) -> None:
        """Send the request; what is raised here is raised by whoever waits for the result, too."""
        self.begun = True
        self._began = self.loop.time()
        method, now = self._method, self.loop.time()
        begin_by = now + method.timeout if self._limit is None else min(now + method.timeout, self._limit)
        if self._watcher is None and (within := scope.get()) is not None:
            self._watcher = within.watcher
        if self._watcher is not None and self._heartbeat is None:
            self._heartbeat = HEARTBEAT_SECONDS
        try:
            if not self._counted:
                method.claim()
                self._claimed = True
            if begin_by <= now:
                text = f"{method.__qualname__}: no time is left in which it could be called"
                raise CallTimeout(text, executed="no")
            try:
                line = await self.caller.line(method.options.exchange, begin_by)
            except AMQProxyError as error:
                raise retold(error, f"{self.name}: {error}") from None
            if self.ended:
                return
            destination = line.lane.destination(method.options.exchange.encode(), method.routing_key.encode())
            self._line = line
            self._vigil = Vigil(
                self.loop.time(),
                limit=self._limit,
                timeout=method.timeout,
                heartbeat=self._heartbeat,
                step=PROBE_SECONDS,
            )
            self._id = line.converse(destination, self._properties, self._body, self)
        except asyncio.CancelledError:
            self.end(None)
            raise
        except BaseException as error:
            self.end(error)
            raise
        self._body = b""
        self._tick()

    def _properties(self, id: bytes, message_id: bytes) -> bytes:
        """Those of the request."""
        method, plan, now = self._method, self.plan, self.loop.time()
        headers = dict(method.headers)
        begin = method.timeout
        if self._limit is not None:
            headers[TIMEOUT_HEADER] = milliseconds(self._limit - now)
            begin = min(begin, self._limit - now)
        if plan.feed is not None:
            headers[FEED_HEADER] = True
        if plan.results is not None:
            headers[CREDIT_HEADER] = plan.window
            if plan.batch > 1:
                headers[BATCH_HEADER] = plan.batch
        if self._heartbeat is not None:
            headers[HEARTBEAT_HEADER] = milliseconds(self._heartbeat)
        if (tries := self._tries) is not None:
            message_id = tries.message_id = tries.message_id or message_id
        return Properties(
            content_type=method.content_type.encode(),
            content_encoding=method.encoding,
            headers=headers,
            delivery_mode=TRANSIENT,
            priority=method.options.priority,
            correlation_id=id,
            reply_to=self._line.reply_to,
            expiration=b"%d" % milliseconds(begin),
            message_id=message_id,
        ).encode()

    # What the line tells

    def heard(self, content_type: bytes | None, encoding: bytes | None, header: bytes, body: bytes) -> None:
        """A message on our correlation id came."""
        self._vigil.heard(self.loop.time())
        if content_type == FAILURE_CONTENT_TYPE:
            self.end(self._method.failure(body))
            return
        try:
            self._understand(content_type, encoding, header, body)
        except BadReply as error:
            self.end(error)
        except Exception as error:  # of whatever kind: what got out of here would cost the whole connection
            interim = content_type in (ALIVE_CLASS, CREDIT_CLASS)
            self.cancel(self._method.senseless(error, "maybe" if interim else "yes"))

    def _understand(self, content_type: bytes | None, encoding: bytes | None, header: bytes, body: bytes) -> None:
        worker, headers = return_address(header)
        if worker and worker != self._worker and not self._meet(worker):
            return
        if content_type == ALIVE_CLASS:
            if self._watcher is not None and (progress := decode_progress(body)) != NOTHING:
                self._tell(self._watcher, progress)
            return
        if content_type == CREDIT_CLASS:
            self._feed(credit_of(body))
            return
        part = part_of(headers)
        if part is None:
            self._answered((content_type, encoding, body))
        elif self.inlet is None:
            raise ValueError("a part of a stream came where one value was asked for")
        else:
            if self.plan.untyped and content_type == CHUNK_CLASS:
                self.inlet.items = CHUNKS
            self.inlet.take(part, body)
            self._begin()
            if part.last:
                self.end(None)

    def _tell(self, watcher: Callable[[Progress], object], progress: Progress) -> None:
        try:
            watcher(progress)
        except (StopIteration, StopAsyncIteration) as error:  # which would end whatever iteration they come to
            self.cancel(RuntimeError(f"the callback raised {type(error).__name__}"))
        except Exception as error:  # of the caller's own function: the caller shall see it
            self.cancel(error)

    def _meet(self, worker: bytes) -> bool:
        """A worker tells its address; False if the call cannot go on with it, since another had begun."""
        if not WORKERS.include(worker):
            text = f"'{shown(worker)}' is no name of a worker's own queue, which the broker makes up"
            raise BadReply(f"{self._method.__qualname__}: {text}", executed="maybe")
        before, self._worker = self._worker, worker
        self._destination = self._line.lane.destination(b"", worker)
        if before and self._has_begun():
            self.cancel(self._gone())
            return False
        return True

    def _has_begun(self) -> bool:
        """Whether items went in either direction, so that no other worker can go on with the call."""
        return self._outlet is not None or (self.inlet is not None and self.inlet.flow.next > 0)

    def _answered(self, reply: tuple[bytes | None, bytes | None, bytes]) -> None:
        """The reply came, whole."""
        if self.inlet is None or self.plan.may_be_value:
            value = self._method.decode(reply)
            self.is_value = True
            if not self.reply.done():
                self.reply.set_result(value)
        else:
            self._take_all(self.inlet, reply[2])
            self._begin()
        self.end(None)

    def _take_all(self, inlet: Inlet, body: bytes) -> None:
        try:
            inlet.take_all(body)
        except DecodingFailed as error:
            if not self.plan.untyped:
                raise
            text = f"{self._method.__qualname__} answered with one value and no stream: await it, with no loop"
            raise BadReply(text) from error

    def _begin(self) -> None:
        if not self.reply.done():
            self.reply.set_result(None)

    def failed(self, error: Exception) -> None:
        """Something that was sent came back, an answer is too large, or the link is gone."""
        if isinstance(error, Returned) and self._destination:
            self._worker = b""  # another may have the call by now, or soon; several messages may come back at once
            if self._has_begun():
                self.cancel(self._gone())
        elif isinstance(error, (Returned, ConnectionLost)):
            self.end(error)
        else:
            self.cancel(error)

    def _gone(self) -> WorkerLost:
        came = 0 if self.inlet is None else self.inlet.flow.next
        went = 0 if self._outlet is None else self._outlet.flow.next
        return WorkerLost(
            f"{self.name}: the worker is gone in the middle of a stream, after items received: {came}, sent: {went}; "
            "the call may have run in part, and no other worker goes on with it"
        )

    # What goes to the worker

    def _post(self, properties: Properties, body: bytes = b"") -> None:
        if self._line.lane.open:
            self._line.lane.publish(self._destination, properties.encode(), body)

    def _grant(self, items: int) -> None:
        """Ask for more items; for none, only to see whether the worker is there."""
        if self._worker and not self.ended:
            self._post(self._control(CREDIT_CLASS), b"%d" % items)

    def _control(self, kind: bytes) -> Properties:
        return Properties(
            content_type=kind, delivery_mode=TRANSIENT, correlation_id=self._id, reply_to=self._line.reply_to
        )

    def _feed(self, credit: int) -> None:
        """The worker takes so many items of what it is fed."""
        if self._outlet is not None:
            self._outlet.granted(credit)
        elif self.plan.feed is not None and self._source is not None:
            encoding = b"" if self.plan.feed_class == CHUNK_CLASS else self._method.encoding
            form = ItemForm(self.plan.feed_class, encoding, self._id, self._line.reply_to)

            def send(first: int, items: int, body: bytes) -> None:
                self._post_item(form.properties(first, items), body)

            def end(next: int) -> None:
                self._post_item(form.end(next), b"")

            self._outlet = Outlet(
                *(self.loop, Outflow(credit), self.plan.feed),
                batch=self.plan.batch,
                body_bytes=self._method.limits.body_bytes,
                send=send,
                end=end,
                misfit=self._misfit,
                socket=self._line.lane,
            )
            feeding = self._run_feed(self._outlet, self._source)
            self._feeding = self.loop.create_task(feeding, context=self._context)

    def _post_item(self, properties: bytes, body: bytes) -> None:
        limits = self._method.limits
        if len(body) > limits.body_bytes:
            raise MessageTooLarge(
                f"{self.name}: an item has {len(body)} bytes, {limits.told()}; the worker had begun to read "
                "the stream, and was stopped",
                executed="maybe",
            )
        if self._line.lane.open:
            self._line.lane.publish(self._destination, properties, body)

    async def _run_feed(self, outlet: Outlet, source: AsyncIterable[Any]) -> None:
        try:
            await outlet.run(source)
        except asyncio.CancelledError:  # this does nothing where the call has ended, which is why we are cancelled
            self.cancel(RuntimeError(f"{self._method.__qualname__}: the iterator that it was fed from was cancelled"))
            raise
        except BaseException as error:  # of the caller's own iterator: the caller shall see it
            self.cancel(error)
            if not isinstance(error, Exception):
                raise

    def _misfit(self, error: Exception) -> Exception:
        """What the caller is told of an item that cannot be written; the handler is there that takes the others."""
        text = f"{self._method.__qualname__}: an item that it is fed: {error}"
        if isinstance(error, Mismatch):
            refused = ContractError(text)
            refused.executed = "maybe"
            return refused
        return type(error)(text, executed="maybe") if isinstance(error, CallError) else type(error)(text)

    # How it ends

    def _tick(self) -> None:
        """Look after the time."""
        now, vigil = self.loop.time(), self._vigil
        match vigil.look(now):
            case "expired":
                self.cancel(self._too_long() if vigil.was_heard else Expired())
            case "lost":
                asked = "" if self._heartbeat is None else f", where one was due every {self._heartbeat:g} s"
                text = f"no sign of life from the worker for {vigil.silent(now):.2g} s{asked}"
                self.cancel(WorkerLost(f"{self.name}: {text}: it died or hangs, and the call may have run in part"))
            case _:
                if (self.inlet is not None or self._outlet is not None) and vigil.silent(now) >= PROBE_SECONDS:
                    self._grant(0)
                self._timer = self.loop.call_at(vigil.look_at, self._tick)

    def _too_long(self) -> CallTimeout:
        """The error of a call that a worker had when its time was over."""
        came = 0 if self.inlet is None else self.inlet.flow.next
        seconds = (self._limit or self.loop.time()) - self._began
        text = f"{self.name}: not over within {seconds:.3g} s, and given up; a worker had it"
        if self._has_begun():
            return CallTimeout(f"{text} and was in the middle (items received: {came})", executed="yes")
        return CallTimeout(f"{text} and gave signs of life: it may have run", executed="maybe")

    def cancel(self, error: BaseException | None = None) -> None:
        """Stop the worker, wherever the call is, and end; does nothing to a call that has ended."""
        if not self.ended:
            if self._id:
                # The broker will give the call of a lost worker to another, which must know, too.
                worker = b"" if isinstance(error, WorkerLost) else self._worker
                self.caller.cancel(self._line, self._id, self._method.pool, self._method.timeout, worker)
            self.end(error)

    def end(self, error: BaseException | None) -> None:
        """Nothing more will come or go; an error is raised by whoever waits."""
        if self.ended:
            return
        self.ended = True
        if self._claimed:
            self._method.release()
        if self._id:
            self._line.conversations.pop(self._id, None)
        if self._timer is not None:
            self._timer.cancel()
        if self._feeding is not None:
            self._feeding.cancel()
        if self.inlet is not None:
            self.inlet.fail(error)
        if self.reply.done():
            return
        if error is not None:
            self.reply.set_exception(error)
        elif self.inlet is not None:  # a stream that was closed is over for whoever awaits it: no reason to raise
            self.reply.set_result(None)
        else:
            self.reply.cancel()

    async def result(self) -> Any:
        """The value that came, or None once the stream has begun; raises what the call failed with."""
        if not self.begun:
            await self.start()
        try:
            return await asyncio.shield(self.reply)
        except asyncio.CancelledError:
            self.cancel()
            raise
        except (Expired, Returned, ConnectionLost, AccessRefused) as error:
            raise await self._method.explain(error) from None

    async def item(self) -> Any:
        """The next item; StopAsyncIteration at the end."""
        if not self.begun:
            await self.start()
        assert self.inlet is not None
        try:
            return await self.inlet.next()
        except asyncio.CancelledError:  # as with generators: who is interrupted in the middle of a stream has left it
            self.cancel()
            raise
        except (Expired, Returned, ConnectionLost, AccessRefused) as error:
            raise await self._method.explain(error) from None
