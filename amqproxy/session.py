"""One channel of a worker: requests are taken and handlers run, and the worker hears what is meant for it alone."""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, Protocol

from .alive import heartbeat_of
from .codecs.items import Separable
from .control import Abandoned, Desk, Key
from .deduplication import fingerprint
from .errors import AMQProxyError, RemoteError
from .fields import FieldTable, Malformed
from .handback import HandBack
from .handler import Call, Handler, HandlerTable, Refused, not_begun, refusal, too_late
from .heartbeat import Heartbeat
from .once import Once
from .parking import Loose, Parking
from .properties import Properties, routing
from .replies import Pool, Replies
from .shown import shown, shown_failure, shown_message
from .streaming import QUIET_SECONDS, Streaming
from .topology import Destinations, PoolTopology
from .turns import Turns
from .wire import (
    ALIVE_CLASS,
    BATCH_HEADER,
    FAILURE_FORM,
    JSON,
    PING_CLASS,
    TRANSIENT,
    WORKER_HEADER,
    Presence,
    ReplyForm,
    encode_presence,
    is_special,
)

if TYPE_CHECKING:
    from .lane import Lane
    from .link import Link, OpenLane

log = logging.getLogger("amqproxy.server")

ROOM = 2
"""Streams that go on for long, calls to all workers, and what still runs of a channel that was lost are not bounded by
the prefetch. Together with the calls that are, a worker runs so many times its concurrency."""

_BATCH = BATCH_HEADER.encode()


class Staff(Pool, Protocol):
    """The worker that a session works for, as far as the session knows it."""

    topology: PoolTopology
    name: str
    abandoned: Abandoned
    stopping: bool
    once: asyncio.Semaphore
    loose: Loose

    @property
    def session(self) -> Session | None:
        """The channel that it has now."""

    def remember(self, key: Key, seconds: float) -> None:
        """A call was cancelled that did not come yet."""


class Session:
    """One channel's worth of serving: takes deliveries, starts handlers, answers, until the channel is gone."""

    settles = True  # see signed.Addressee

    def __init__(self, worker: Staff, handlers: HandlerTable, link: Link) -> None:
        self.ended: asyncio.Future[Exception] = link.loop.create_future()
        """Done when no more requests come, with the reason."""
        self._worker = worker
        self._handlers = handlers
        self._link = link
        self.loop = link.loop
        self.desk = Desk(self, link, f"{worker.name} of {worker.contract.name}")
        self.streams: dict[Key, Streaming] = {}
        """The calls that run whose result or whose parameter is a stream."""
        self.turns = Turns(self, worker)
        self._once = Once(self, worker)
        self.handback: HandBack = None  # type: ignore[assignment]  # as the following
        self._signed: dict[ReplyForm, ReplyForm] = {}
        self.replies: Replies = None  # type: ignore[assignment]  # as the following, set before the first delivery
        """What goes out of the channel."""
        self._opened: OpenLane = None  # type: ignore[assignment]
        self._lane: Lane = None  # type: ignore[assignment]

    @classmethod
    async def open(cls, worker: Staff, handlers: HandlerTable, link: Link) -> Session:
        """A session that consumes."""
        session = cls(worker, handlers, link)
        session._opened = await link.open_lane(session, session._lost, prefetch=worker.options.concurrency)
        session._lane = session._opened.lane
        session.replies = replies = Replies(worker, session._lane, link)
        topology = worker.topology
        session.handback = HandBack(topology.queue.name, link, replies.settle)
        if topology.dead is not None:
            replies.parking = Parking(topology, topology.dead, worker.name, link, replies.settle, worker.loose)
        try:
            await session.desk.open(worker.topology.exchange)
            await session.consume()
            if replies.parking is not None:
                replies.parking.resume()
        except BaseException:
            session.turns.lost()
            await session.close()
            raise
        return session

    @property
    def alive(self) -> bool:
        """True while its channel is open."""
        return self._lane.open

    async def consume(self) -> None:
        """Declare the pool's topology and let its requests come."""
        self.ended = self.loop.create_future()
        worker, topology = self._worker, self._worker.topology
        self.turns.follow(worker.running.values(), ROOM * worker.options.concurrency)
        await self._link.declare_pool(topology)
        deleted = AMQProxyError(f"the queue {topology.queue.name} was deleted")
        await self._opened.consume(topology.queue.name, lambda: self._end(deleted), no_ack=False)

    @property
    def address(self) -> bytes:
        """Where callers can reach this worker, and no other."""
        return self.desk.address

    def _lost(self, reason: Exception) -> None:
        self.unreachable()
        self.turns.lost()
        self._once.lost()
        self._end(reason)

    def unreachable(self) -> None:
        """The channel or the own queue is gone: those who take streams from here cannot be heard any more."""
        for streaming in list(self.streams.values()):
            text = (
                f"{streaming.title}: the worker {self._worker.name} stopped in the middle of the call, for its channel "
                "or its own queue is gone, and its callers do not reach it"
            )
            streaming.break_off(RemoteError(text, code="unavailable", type="WorkerLost", retryable=True))

    def _end(self, reason: Exception) -> None:
        if not self.ended.done():
            self.ended.set_result(reason)

    async def stop_consuming(self) -> None:
        """Let no further request come; the channel stays, for the answers to those that run."""
        await self._opened.cancel()

    async def close(self) -> None:
        """Give everything that is not answered back to the queue."""
        await self.replies.close()
        await self.handback.close()
        if self._worker.options.quorum:
            await self._opened.linger()
        await self._opened.close()
        await self.desk.close()

    # What the lane tells (frames.ContentSink)

    def delivered(self, tag: int, redelivered: bool, header: bytes, body: bytes) -> None:
        """A request came."""
        worker = self._worker
        self._lane.hold(tag)
        try:
            content_type, encoding, correlation_id, reply_to = routing(header)
        except Malformed as error:
            self._reject(tag, header, str(error))
            return
        if worker.stopping and not self._keeps(content_type, encoding):
            self._lane.nack(tag, requeue=True)
            return
        if correlation_id is None:
            correlation_id = message_id(header)
        if worker.abandoned.until and worker.abandoned.take(Key(reply_to, correlation_id), self.loop.time()):
            self._lane.ack(tag)
            return
        try:
            handler = self._handlers.get(content_type, encoding) or self._handlers.find(content_type, encoding)
            call = Call(
                *(worker.contract.name, handler.method.name, worker.name, bool(redelivered)),
                *(header, self.loop.time, correlation_id, reply_to),
            )
            special = is_special(header)
            if special is not None:
                self._attend(handler, call)
        except Exception as error:  # of whatever kind: what got out of here would cost the whole connection
            failure = not_begun(error, worker.contract.name, header)
            self.replies.fail(tag, bool(redelivered), failure, correlation_id, reply_to, header, body)
            return
        if (special is not None and _BATCH in header) or (self.turns.own and not handler.method.options.at_most_once):
            self.turns.delivered(handler, call, tag, body)
            return
        if special is not None and call.heartbeat is not None:
            call.heartbeat.begin()
        # Not loop.create_task: with an eager task factory the call would run, and end, before it is noted here.
        running = self._run_apart(handler, call, tag, body) if handler.apart else self._run(handler, call, tag, body)
        worker.running[call] = asyncio.Task(running, loop=self.loop)

    def _keeps(self, content_type: bytes | None, encoding: bytes | None) -> bool:
        """Whether a request that comes while the worker stops is run all the same: given back, it would be refused."""
        try:
            handler = self._handlers.get(content_type, encoding) or self._handlers.find(content_type, encoding)
        except RemoteError:
            return False
        return handler.method.options.at_most_once

    def _attend(self, handler: Handler, call: Call) -> None:
        """Give a call the signs of life that its request asks for; RemoteError if it is too late to run it."""
        if call.is_over:
            raise too_late(handler)
        try:
            interval = heartbeat_of(call.headers)
        except Malformed:  # which is for the handler to find, if it looks at them
            return
        if interval is not None and call.reply_to:
            interval = min(interval, QUIET_SECONDS) if handler.streams else interval
            call.heartbeat = Heartbeat(self.loop, interval, functools.partial(self._say_alive, call))

    def _say_alive(self, call: Call, progress: bytes) -> None:
        if call.cancelled:  # and runs on all the same
            return
        alive = Properties(
            content_type=ALIVE_CLASS,
            delivery_mode=TRANSIENT,
            correlation_id=call.correlation_id,
            reply_to=self.address,
        )
        self.replies.post(call, alive.encode(), progress)

    def begin(self, handler: Handler, call: Call, tag: int, body: bytes) -> asyncio.Task[None]:
        """Run a call that had to wait for its turn."""
        if call.heartbeat is not None:
            call.heartbeat.begin()
        running = self._run_apart(handler, call, tag, body) if handler.apart else self._run(handler, call, tag, body)
        task = self._worker.running[call] = asyncio.Task(running, loop=self.loop)
        return task

    def joined(self, handler: Handler) -> tuple[Separable, Separable]:
        """How requests of a handler share messages, and how its results do."""
        return self._handlers.joined(handler)

    async def _run(self, handler: Handler, call: Call, tag: int, body: bytes) -> None:
        """Run one call and answer it; whatever happens, the delivery is settled exactly once."""
        call.enter()
        try:
            running = handler.start(handler.decode(body))
            reply = handler.encode(await (running if call.heartbeat is None else call.heartbeat.around(running)))
        except BaseException as error:
            failure = self.replies.ended(error, handler, call, tag)
            if failure is not None:
                request = call._header, body
                self.replies.fail(tag, call.redelivered, failure, call.correlation_id, call.reply_to, *request)
        else:
            del self._worker.running[call]
            self.replies.answer(tag, handler.reply_form, reply, call.correlation_id, call.reply_to)

    def _run_apart(self, handler: Handler, call: Call, tag: int, body: bytes) -> Coroutine[Any, Any, None]:
        """The same for a call of which more is wanted."""
        if handler.deduplicates:
            call.fingerprint = fingerprint(body)
        if handler.method.options.at_most_once:
            return self._once.run(handler, call, tag, body)
        return self.run(handler, call, tag, body)

    def run(self, handler: Handler, call: Call, tag: int, body: bytes) -> Coroutine[Any, Any, None]:
        """Run a call and answer it."""
        return self._run_stream(handler, call, tag, body) if handler.streams else self._run(handler, call, tag, body)

    async def _run_stream(self, handler: Handler, call: Call, tag: int, body: bytes) -> None:
        """The same for a call with a stream."""
        call.enter()
        streaming = Streaming(self, handler, call, tag)
        key = Key.of(call)
        try:
            self._check_room()
            self.streams[key] = streaming
            running = streaming.run(body)
            reply = await (running if call.heartbeat is None else call.heartbeat.around(running))
        except BaseException as error:
            again = not streaming.begun
            failure = self.replies.ended(streaming.failure or error, handler, call, streaming.tag, again=again)
            if failure is not None:
                tried = call.redelivered or not again
                request = call._header, body
                self.replies.fail(streaming.tag, tried, failure, call.correlation_id, call.reply_to, *request)
        else:
            del self._worker.running[call]
            if reply is None:
                self._worker.answered += 1
            else:
                self.replies.answer(streaming.tag, streaming.reply_form, reply, call.correlation_id, call.reply_to)
        finally:
            streaming.close()
            if self.streams.get(key) is streaming:
                del self.streams[key]

    def _check_room(self) -> None:
        """Refuse what the prefetch does not bound: long streams, and calls to all workers."""
        worker = self._worker
        if len(worker.running) > ROOM * worker.options.concurrency:
            text = (
                f"{worker.contract.name} is overloaded: {len(worker.running)} calls run in the worker {worker.name}, "
                "which takes no more now; the same call may succeed later"
            )
            raise Refused(refusal("resource_exhausted", text, type="Overloaded", retryable=True))

    async def _run_for_all(self, handler: Handler, call: Call, body: bytes) -> None:
        """Run a call that all workers of the pool are asked, and answer it; there is no delivery to settle."""
        call.enter()
        form = handler.reply_form
        try:
            if handler.streams:
                streaming = Streaming(self, handler, call, 0)
                form, reply = streaming.reply_form, await streaming.run_collected(body)
            else:
                reply = handler.encode(await handler.start(handler.decode(body)))
        except BaseException as error:
            failure = self.replies.ended(error, handler, call, 0)
            if failure is not None:
                self._refuse_for_all(failure, call.correlation_id, call.reply_to, call._header)
        else:
            del self._worker.running[call]
            self._answer_for_all(form, reply, call.correlation_id, call.reply_to)

    # What comes to the worker's own queue (control.Desk)

    def asked(
        self,
        content_type: bytes | None,
        encoding: bytes | None,
        correlation_id: bytes | None,
        reply_to: bytes | None,
        header: bytes,
        body: bytes,
    ) -> None:
        """A request for all workers of the pool; one that is about to end is not among them."""
        worker = self._worker
        if worker.stopping:
            return
        if correlation_id is None:
            correlation_id = message_id(header)
        try:
            self._check_room()
            handler = self._handlers.get(content_type, encoding) or self._handlers.find(content_type, encoding)
            if handler.feed is not None:
                raise refusal("unimplemented", f"{handler.method.title} takes a stream, which cannot be fed to all")
            call = Call(
                *(worker.contract.name, handler.method.name, worker.name, False),
                *(header, self.loop.time, correlation_id, reply_to),
            )
            if is_special(header) and call.is_over:
                raise too_late(handler)
            if header.rfind(_BATCH) >= 0 and not handler.streams:
                raise refusal("unimplemented", "calls that share a message go to one worker, and not to all")
        except (RemoteError, Refused) as error:
            refused = error.failure if isinstance(error, Refused) else error
            self._refuse_for_all(refused, correlation_id, reply_to, header)
            return
        worker.running[call] = asyncio.Task(self._run_for_all(handler, call, body), loop=self.loop)

    def too_much(self, correlation_id: bytes | None, reply_to: bytes | None, size: int) -> None:
        """A request for all workers of the pool has more bytes than we take; its body was not stored."""
        if not self._worker.stopping:
            failure = self.replies.failure(self.replies.too_large("request", size))
            self._answer_for_all(FAILURE_FORM, failure, correlation_id, reply_to)

    def _refuse_for_all(
        self, failure: RemoteError, correlation_id: bytes | None, reply_to: bytes | None, header: bytes
    ) -> None:
        if not reply_to:
            request = shown_message(header)
            log.warning("a one-way request to all workers failed: %s: %s", request, shown_failure(failure))
        self._answer_for_all(FAILURE_FORM, self.replies.failure(failure), correlation_id, reply_to)

    def _answer_for_all(
        self, form: ReplyForm, body: bytes, correlation_id: bytes | None, reply_to: bytes | None
    ) -> None:
        self._worker.answered += 1
        if not reply_to:
            return
        if len(body) > self.replies.limits.body_bytes:
            form, body = FAILURE_FORM, self.replies.failure(self.replies.too_large("reply", len(body)))
        signed = self._signed.get(form)
        if signed is None:
            content_type, encoding = form.content_type.decode(), form.encoding.decode()
            signed = self._signed[form] = ReplyForm(content_type, encoding, {WORKER_HEADER: self._worker.name})
        session = self if self.alive else self._worker.session or self  # it may have a channel again
        session.replies.send_with_all(reply_to, signed.properties(correlation_id), body)

    def pong(self, correlation_id: bytes | None, reply_to: bytes | None) -> None:
        """Somebody wants to know who is here, and who is at work on a call."""
        worker = self._worker
        form = ReplyForm(PING_CLASS.decode(), JSON, {WORKER_HEADER: worker.name})
        key = Key(reply_to, correlation_id)
        presence = Presence(
            service=worker.contract.name,
            running=len(worker.running),
            answered=worker.answered,
            busy=any(key.means(call) for call in worker.running),
        )
        if reply_to:
            self.replies.send_with_all(reply_to, form.properties(correlation_id), encode_presence(presence))

    def cancel(self, key: Key, seconds: float) -> None:
        """Nobody waits for this call any more; one that has not come is remembered for so many seconds."""
        worker = self._worker
        found = [call for call in worker.running if key.means(call)]
        for call in found:
            self._abandon(call)
        if not self.turns.cancel(key) and not found:
            worker.remember(key, seconds)

    def _abandon(self, call: Call) -> None:
        """Stop a call that nobody waits for; once, for again would cut short what its handler does to clean up."""
        if not call.cancelled:
            call.cancelled = True
            self.loop.call_soon(self._interrupt, call)  # a task that has not begun must, or it would settle nothing

    def _interrupt(self, call: Call) -> None:
        task, streaming = self._worker.running.get(call), self.streams.get(Key.of(call))
        if streaming is not None:
            streaming.stop()
        elif task is not None and not call.in_thread:  # a thread cannot be interrupted, and holds its place to its end
            left = call.time_left if call.completes else None
            if left:
                self.loop.call_later(left, self._interrupt, call)
            else:
                task.cancel()

    def feed(self, key: Key, content_type: bytes | None, headers: FieldTable, body: bytes) -> None:
        """A message for one of the streams that run here; those that are over are passed over."""
        streaming = self.streams.get(key)
        if streaming is None and key.reply_to is None:  # from a caller that does not say who it is
            found = [one for other, one in self.streams.items() if key.means(other)]
            streaming = found[0] if len(found) == 1 else None
        if streaming is not None:
            streaming.heard(content_type, headers, body)

    def too_large(self, tag: int, header: bytes, size: int) -> None:
        """A request is larger than we take; its body was not stored."""
        self._lane.hold(tag)
        try:
            _, _, correlation_id, reply_to = routing(header)
        except Malformed as error:
            self._reject(tag, header, str(error))
            return
        failure = self.replies.too_large("request", size)
        if not reply_to and self.replies.parking is not None:
            self._reject(tag, header, failure.message)
            return
        self.replies.refuse(tag, failure, correlation_id, reply_to, header)

    def _reject(self, tag: int, header: bytes, reason: str) -> None:
        """Refuse a request of which nobody can be told: the broker moves it to the dead letters, if there are any."""
        queue, dead = self._worker.topology.queue.name, self._worker.topology.dead
        becomes = "it goes to " + dead.name if dead is not None else "it is lost, unless a policy keeps dead letters"
        log.error("%s: rejected %s: %s; %s", queue, shown_message(header), shown(reason), becomes)
        self._lane.nack(tag, requeue=False)

    # What the lane of a connection that signs asks and tells besides (signed.Addressee)

    @property
    def receiver(self) -> bytes:
        """The pool's queue, whichever channel it comes through."""
        return self._worker.topology.queue.name.encode()

    def is_for_me(self, destination: str) -> bool:
        """What was sent to the pool's queue, on one of the ways that lead there."""
        return self._destinations.include(destination)

    @functools.cached_property
    def _destinations(self) -> Destinations:
        return Destinations(self._worker.topology)

    def not_signed(self, tag: int, header: bytes, reason: str) -> None:
        """A request that is not taken: its sender is told, or else it goes to the dead letters, where there are any."""
        self._lane.hold(tag)
        try:
            _, _, correlation_id, reply_to = routing(header)
        except Malformed:
            reply_to = None
        if not reply_to:
            self._reject(tag, header, reason)
            return
        text = f"{self._worker.contract.name}: the request is not taken: {reason}"
        failure = refusal("unauthenticated", text, type="NotSigned")
        self.replies.turn_away(tag, failure, correlation_id, reply_to)

    def returned(self, code: int, text: bytes, routing_key: bytes, header: bytes, body: bytes) -> None:
        """Something came back that was sent to a caller: it is gone, and with it the queue."""
        content_type, _, correlation_id, _ = routing(header)
        log.info(
            "%s was dropped (correlation-id %s): its caller at %s is gone",
            *(shown(text or b"none") for text in (content_type, correlation_id, routing_key)),
        )
        key = Key(routing_key, correlation_id)
        if key in self.streams:
            self.streams[key].break_off()
        for call in [call for call in self._worker.running if call.heartbeat is not None and Key.of(call) == key]:
            self._abandon(call)

    def confirmed(self, tag: int, multiple: bool, accepted: bool) -> None:
        """Replies are not confirmed: an acknowledged request whose reply is lost times out at its caller."""


def message_id(header: bytes) -> bytes | None:
    """What stands in for a correlation id that is not there."""
    try:
        return Properties.decode(header).message_id
    except Malformed:
        return None
