"""Calls that travel together: those that are made in one turn of the event loop share messages.

An `Outbox` takes calls and puts those of one method into a `Parcel`, a message that goes out when it is full, or at the
end of the turn. The answers come in any order, each for itself, and some may come twice: the first counts.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from copy import copy
from typing import Any

from .codecs import DecodingFailed
from .deadline import Deadline
from .errors import AMQProxyError, BadReply, CallError, Closed, ConnectionLost, RemoteError, doubted, retold
from .line import Expired, Line
from .properties import Properties
from .remote import RETRY_SECONDS, RemoteMethod
from .scope import Scope, scope
from .wire import CHUNK_CLASS, FAILURE_CONTENT_TYPE, MAX_BATCH, part_of

PARCEL_BYTES = 64 * 1024
"""Requests that share a message have so many bytes together at most, so that several workers get some of many."""
LENGTH_BYTES = 4
"""What packing adds to each of them."""


class CallInBatch(asyncio.Future[Any]):
    """One call of many. It may be awaited any number of times, and cancelled like a task."""

    __slots__ = ("_parcel",)
    _parcel: Parcel

    def cancel(self, msg: Any | None = None) -> bool:
        """Give up this call alone: it is not sent, or its answer is dropped.

        The worker is told when all are given up that share its message.
        """
        cancelled = super().cancel(msg)
        if cancelled:
            self._parcel.left(self)
        return cancelled


class Outbox:
    """Takes calls, and sends those together that can share a message."""

    def __init__(self) -> None:
        self.closed = False
        """Whether no more calls are taken."""
        self.error: BaseException | None = None
        """What the first call failed with that did."""
        self._loop = asyncio.get_running_loop()
        self._filling: dict[RemoteMethod, Parcel] = {}
        self._out: set[Parcel | asyncio.Task[Any]] = set()
        self._scheduled = False
        self._watching = False
        self._waiter: asyncio.Future[None] | None = None

    def call(self, method: RemoteMethod, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> CallInBatch:
        """A call that is sent in this turn of the event loop.

        ContractError is raised at once; other errors are raised where the call is awaited.
        """
        if self.closed:
            self.check_open()
        try:
            body = method.joined.encode(args, kwargs)
            within = scope.get()
            parcel = self._filling.get(method)
            size = len(body) + LENGTH_BYTES
            if parcel is None or parcel.within is not within or parcel.size + size > parcel.limit:
                parcel = self._open(method, within, parcel)
        except CallError as error:
            return self.refused(error)
        call = CallInBatch(loop=self._loop)
        call._parcel = parcel
        parcel.size += size
        parcel.calls.append(call)
        parcel.bodies.append(body)
        if len(parcel.calls) >= parcel.most:
            del self._filling[method]
            parcel.send()
        return call

    def check_open(self) -> None:
        """Closed if no more calls are taken."""
        if self.closed:
            raise Closed("the block of this batch was left, and it takes no more calls")

    def refused(self, error: Exception) -> CallInBatch:
        """A call that is not sent."""
        call = CallInBatch(loop=self._loop)
        call.set_exception(error)
        self.failed(error)
        return call

    def _open(self, method: RemoteMethod, within: Scope | None, full: Parcel | None) -> Parcel:
        """Another parcel for the calls of a method."""
        if full is not None:
            del self._filling[method]
            full.send()
        deadline = method.inherited(self._loop.time() + method.timeout, within)
        parcel = self._filling[method] = self.another(method, within, deadline)
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._flush_turn)
        return parcel

    def another(self, method: RemoteMethod, within: Scope | None, deadline: float) -> Parcel:
        """A parcel that is waited for."""
        parcel = Parcel(self, method, within, deadline)
        self._out.add(parcel)
        return parcel

    def run(self, task: asyncio.Task[Any]) -> None:
        """Count a task in, whose calls are taken here."""
        self._out.add(task)
        task.add_done_callback(self._ran)

    def _ran(self, task: asyncio.Task[Any]) -> None:
        if self._watching:  # else its error is for whoever awaits it
            self.failed(asyncio.CancelledError() if task.cancelled() else task.exception())
        self.ended(task)

    def _flush_turn(self) -> None:
        self._scheduled = False
        self.flush()

    def flush(self) -> None:
        """Send what was taken."""
        filling, self._filling = self._filling, {}
        for parcel in filling.values():
            parcel.send()

    def ended(self, one: Parcel | asyncio.Task[Any]) -> None:
        """A parcel or a task is over."""
        self._out.discard(one)
        if not self._out:
            self._wake()

    def failed(self, error: BaseException | None) -> None:
        """A call failed."""
        if self.error is None and error is not None:
            self.error = error
            self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def settled(self, *, or_failed: bool = False) -> None:
        """Send what was taken, and return when all calls have ended; or when the first has failed."""
        self.flush()
        self._watching = or_failed
        while self._out and not (or_failed and self.error is not None):
            self._waiter = self._loop.create_future()
            await self._waiter

    def cancel(self) -> None:
        """Cancel the calls that have not ended."""
        for one in list(self._out):
            one.cancel()


class Parcel:
    """Calls of one method that share a message; told by its line what comes for them (caller.Listener)."""

    __slots__ = (
        *("_again", "_body", "_id", "_line", "_loop", "_message_id", "_method", "_open", "_outbox", "_sent", "_task"),
        *("_each", "_timer", "bodies", "calls", "deadline", "limit", "most", "size", "within"),
    )

    def __init__(self, outbox: Outbox, method: RemoteMethod, within: Scope | None, deadline: float) -> None:
        """A parcel for calls that are made within one scope: so they have one deadline."""
        connection = method.caller.connection
        self.calls: list[CallInBatch] = []
        self.bodies: list[bytes] = []
        self.size = 0
        self.most = min(method.options.batch, MAX_BATCH)
        self.limit = min(PARCEL_BYTES, method.limits.body_bytes // 2, connection.options.max_decompressed_bytes // 2)
        self.within = within
        self.deadline = deadline
        self._outbox = outbox
        self._method = method
        self._loop = connection.loop
        self._open: dict[int, CallInBatch] = {}
        self._sent = 0
        self._body = b""
        self._each: list[bytes] = []  # the requests one by one, of methods that may turn out not to share messages
        self._line: Line | None = None
        self._id = self._message_id = b""
        self._again = False
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def name(self) -> str:
        """Which method is called."""
        return self._method.__qualname__

    # How it goes out

    def send(self) -> None:
        """Send it, now or as soon as there is a line; what goes wrong is told to those who await the calls."""
        found = [pair for pair in zip(self.calls, self.bodies, strict=True) if not pair[0].cancelled()]
        self._open = {place: call for place, (call, _) in enumerate(found)}
        self._sent = len(found)
        self.calls.clear()
        self.bodies.clear()
        if not found:
            self._end()
            return
        method = self._method
        if method.untyped and len(found) > 1:
            self._each = [body for _, body in found]
        try:
            self._body = method.joined.requests.pack([body for _, body in found])
            if len(self._body) > method.limits.body_bytes:
                raise method.too_large(self._body)
            if method.line is not None and method.line.ready:
                self._publish(method.line)
            else:
                self._task = self._loop.create_task(self._send_when_ready())
        except CallError as error:
            self._fail(error)

    def _publish(self, line: Line) -> None:
        method = self._method
        form = method.form_of(line, self._sent, Deadline(self.deadline).left(self._loop.time()))
        self._line, message_id = line, self._message_id

        def properties(id: bytes, new: bytes) -> bytes:
            return form.properties(id, message_id or new)

        self._id = line.converse(method.destination, properties, self._body, self)
        self._message_id = message_id or line.unique + self._id
        if not method.options.idempotent:
            self._body = b""
        if self._timer is None:
            self._timer = self._loop.call_at(self.deadline, self._expire)

    async def _send_when_ready(self) -> None:
        try:
            line, _ = await self._method.prepare(self.deadline)
            if self._open:
                self._publish(line)
        except AMQProxyError as error:
            self._fail(error)

    async def _send_again(self, lost: ConnectionLost) -> None:
        """Send the same message on the next line; calls that were answered already keep their answers."""
        await asyncio.sleep(RETRY_SECONDS)
        try:
            line, _ = await self._method.prepare(self.deadline)
            if self._open:
                self._publish(line)
        except CallError as error:
            self._fail(error)
        except AMQProxyError:  # there will be no other link
            self._fail(await self._explained(lost))

    # What the line tells

    def heard(self, content_type: bytes | None, encoding: bytes | None, header: bytes, body: bytes) -> None:
        """Answers to some of the calls came, or to all."""
        first, count = 0, self._sent
        meant = range(self._sent) if self._sent == 1 else None  # which calls it is for, as far as that is known
        try:
            part = part_of(Properties.decode(header).headers or {})
            if part is not None:
                first, count = part.first, part.items
            if first + count > self._sent or not count:
                raise ValueError(f"answers to calls {first} to {first + count - 1} of {self._sent} came")
            meant = range(first, first + count)
            if content_type == FAILURE_CONTENT_TYPE:
                self._failed([*self._open] if part is None else [first], body)
            elif content_type == CHUNK_CLASS and self._method.untyped and self._sent == 1:
                self._answer_with(body)
            elif part is None and count > 1:
                raise ValueError("one answer to many calls came; the worker does not know them (x-batch)")
            else:
                self._answered(first, count, encoding, body)
        except Exception as error:  # of whatever kind: what got out of here would cost the whole connection
            self._abandon()  # those that did not begin need not
            senseless = error if isinstance(error, BadReply) else self._method.senseless(error)
            self._fail_some([place for place in meant or () if place in self._open], senseless)
            why = "it came for other calls of the same message, and " if meant else ""
            self._fail(_unheard(senseless, f"{why}{self._method.doubt}"))
        if not self._open:
            self._end()

    def _answer_with(self, value: Any) -> None:
        """The only call has this value."""
        for call in self._open.values():
            call.set_result(value)
        self._open.clear()

    def _failed(self, places: list[int], body: bytes) -> None:
        if self._each and _is_unshareable(self._method.failure(body)):
            self._send_each_alone()
            return
        for place in places:
            if place in self._open:
                error = self._method.failure(body)
                self._open.pop(place).set_exception(error)
                self._outbox.failed(error)

    def _fail_some(self, places: list[int], error: CallError) -> None:
        for place in places:
            self._open.pop(place).set_exception(copy(error))
            self._outbox.failed(error)

    def _send_each_alone(self) -> None:
        """The method is known by name only, and streams: its calls are answered one by one."""
        for place, call in self._open.items():
            alone = self._outbox.another(self._method, self.within, self.deadline)
            call._parcel = alone
            alone.calls.append(call)
            alone.bodies.append(self._each[place])
            alone.send()
        self._open = {}

    def _answered(self, first: int, count: int, encoding: bytes | None, body: bytes) -> None:
        method, take = self._method, self._open.pop
        if encoding and encoding != method.encoding:
            raise method.misencoded(encoding)
        for place, value in enumerate(method.joined.results.unpack_each(body, count), first):
            call = take(place, None)
            if call is None:  # it was answered before, by another worker, or given up
                continue
            if isinstance(value, DecodingFailed):
                error = BadReply(f"{method.__qualname__}: the reply does not fit: {value}")
                call.set_exception(error)
                self._outbox.failed(error)
            else:
                call.set_result(value)

    def failed(self, error: Exception) -> None:
        """The message came back, or the link is gone, or an answer is too large."""
        self._forget()
        if isinstance(error, BadReply) and self._sent > 1:
            error = _unheard(error, f"it came for some of the calls of one message, and {self._method.doubt}")
        if isinstance(error, ConnectionLost) and self._method.options.idempotent:
            self._again = True
            self._task = self._loop.create_task(self._send_again(error))
        else:
            self._task = self._loop.create_task(self._explain(error))

    def _expire(self) -> None:
        self._timer = None
        self._abandon()
        if self._task is not None:  # it waits for a line
            self._task.cancel()
        self._task = self._loop.create_task(self._explain(Expired()))

    # How it ends

    async def _explain(self, error: Exception) -> None:
        self._fail(await self._explained(error))

    async def _explained(self, error: Exception) -> AMQProxyError:
        token = scope.set(self.within)  # what made this task may be far from where the calls were made
        try:
            explained = await self._method.explain(error)
        finally:
            scope.reset(token)
        assert isinstance(explained, AMQProxyError)  # as is made of each error that a line tells of
        return explained

    def _fail(self, error: AMQProxyError) -> None:
        """All calls fail that are open still, each with an error of its own."""
        if self._again and isinstance(error, CallError):
            doubted(error, self._method.doubt)  # a "no" is so of this try; the one before it may have run
        for call in self._open.values():
            call.set_exception(copy(error))
        self._open.clear()
        self._outbox.failed(error)
        self._end()

    def left(self, call: CallInBatch) -> None:
        """Nobody waits for this call any more."""
        for place, one in self._open.items():
            if one is call:
                del self._open[place]
                break
        if not self._open and self._sent:
            self._abandon()
            self._end()

    def cancel(self) -> None:
        """Nobody waits for any of them."""
        for call in self.calls or list(self._open.values()):
            call.cancel()

    def _abandon(self) -> None:
        """Let the workers know, if they may have the message."""
        if self._id and self._line is not None:
            self._method.abandon(Expired(), self._line, self._id)
        self._forget()

    def _forget(self) -> None:
        """What comes for it from now on finds nobody."""
        if self._id and self._line is not None:
            self._line.conversations.pop(self._id, None)
            self._id = b""

    def _end(self) -> None:
        self._forget()
        self._body = b""
        if self._timer is not None:
            self._timer.cancel()
        if self._task is not None and self._task is not asyncio.current_task(self._loop):
            self._task.cancel()
        self._outbox.ended(self)


def _unheard(error: BadReply, text: str) -> BadReply:
    """The error of calls of which an answer to others of their message tells nothing."""
    own = retold(error, f"{error}; {text}")
    own.executed = "maybe"
    return own


def _is_unshareable(error: Exception) -> bool:
    """Whether a worker refused calls since they came together."""
    return isinstance(error, RemoteError) and error.code == "unimplemented" and error.executed == "no"
