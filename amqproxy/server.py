"""What serves: a worker takes requests from its pool's queue, runs handlers, replies and acknowledges."""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import socket
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import TYPE_CHECKING, Any

from .codecs import DecodingFailed, HoldsTooMuch
from .codecs.registry import codecs
from .contract import Contract
from .errors import AMQProxyError, BrokerUnavailable, Closed, ConnectionLost, Executed, RemoteError
from .fields import Malformed
from .handler import Call, Handler, HandlerTable, failure_of, instance_of, refusal
from .options import ServeOptions
from .properties import Properties, routing
from .topology import PoolTopology
from .wire import FAILURE_FORM, ReplyForm, encode_failure

if TYPE_CHECKING:
    from .connection import Connection, Link, OpenLane
    from .lane import Lane

log = logging.getLogger("amqproxy.server")

MAX_DESTINATIONS = 1024
"""Reply queues whose encoded address is kept; a caller has one, so this is many callers."""
START_SECONDS = 30.0
"""How long a worker that starts waits for a link that is being made again."""
STABLE_SECONDS = 5.0
"""Consuming that ends sooner than this, again and again, is begun again only after a while."""
CANCEL_SECONDS = 2.0
"""How long a handler that was cancelled may take to end."""

_numbers = itertools.count(1)


class Worker:
    """Serves one object on one connection; `async with mq.serve(…)` starts it, and drains it at the end."""

    def __init__(self, connection: Connection, target: Any, contract: Contract, options: ServeOptions) -> None:
        self.contract = contract
        self.options = options
        self.topology = PoolTopology.of(contract.name, options)
        self.name = f"{socket.gethostname()}.{os.getpid()}.{next(_numbers)}"
        self.answered = 0
        """Calls that ended here, with a result or a failure."""
        self.running: dict[Call, asyncio.Task[None]] = {}
        """The calls whose handlers run now."""
        self.stopping = False
        self._connection = connection
        self._loop = connection.loop
        self._target = target
        self._entered: Any = None
        self._threads: ThreadPoolExecutor | None = None
        self._session: Session | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._end: asyncio.Task[None] | None = None
        self._hurry = asyncio.Event()
        self._opening: asyncio.Future[Session] | None = None
        self._started = False
        self._failed = False
        self._cancelled = False

    async def __aenter__(self) -> Worker:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.stop()

    def __repr__(self) -> str:
        return f"<Worker {self.name} of {self.contract.name!r} at {self._connection.url}>"

    @property
    def ended(self) -> bool:
        """True once it was stopped, and has given back or answered all that it took."""
        return self._failed or (self._end is not None and self._end.done())

    @property
    def gives_up(self) -> bool:
        """True if handlers are cancelled from outside: by the worker, or with all tasks of a program that ends."""
        torn_down = self._keeper is not None and self._keeper.cancelling() > 0 and not self.stopping
        return self._cancelled or torn_down

    async def start(self) -> None:
        """Enter the served object, declare the queue and consume; returns when the first request can come.

        TopologyConflict, AccessRefused or ContractError say what is in the way.
        """
        if self._started or self.stopping:
            raise Closed(f"this worker of {self.contract.name} was started already")
        self._started = True
        try:
            handlers = await self._enter()
            self._session = await self._first_session(handlers)
        except BaseException:
            self.stopping = self._failed = True
            await self._leave()
            raise
        self._keeper = asyncio.create_task(self._keep(handlers), name=f"amqproxy worker of {self.contract.name}")
        log.info("serving %s as %s", self.contract.name, self.name)

    async def _enter(self) -> HandlerTable:
        """The handlers of the served object, which is made and entered where it wants to be."""
        target = instance_of(self._target)
        self._threads = ThreadPoolExecutor(self.options.concurrency, thread_name_prefix=self.contract.name)
        known = codecs(self._connection.options.max_decompressed_bytes, self.options.codecs)
        handlers = HandlerTable(target, self.contract, known, self._threads, self.options.codecs)
        if hasattr(type(target), "__aenter__"):
            await target.__aenter__()
            self._entered = target
        return handlers

    async def _first_session(self, handlers: HandlerTable) -> Session:
        """A session, unless the worker is stopped first, or no link comes."""
        opening = self._opening = asyncio.ensure_future(self._open(handlers))
        if self.stopping:
            opening.cancel()
        try:
            await asyncio.wait((opening,), timeout=START_SECONDS)
        finally:
            opening.cancel()  # which does nothing to one that is done
        if self.stopping:
            if opening.done() and not opening.cancelled() and opening.exception() is None:
                await opening.result().close()
            raise Closed(f"this worker of {self.contract.name} was stopped while it started")
        if not opening.done():
            raise BrokerUnavailable(f"no connection to serve on within {START_SECONDS:g} s")
        return opening.result()

    async def wait(self) -> None:
        """Return when the worker was stopped; raise what ended it, if it cannot go on (credentials were refused)."""
        if self._keeper is not None:
            await asyncio.wait((self._keeper,))
            if not self._keeper.cancelled():
                self._keeper.result()

    async def stop(self, grace: float | None = None) -> None:
        """Take no more requests, finish and answer those that run within `grace` seconds, give back the others.

        A second call with a grace of 0 ends the waiting of the first.
        """
        if self._end is None:
            self.stopping = True
            self._end = asyncio.create_task(self._stop(self.options.grace if grace is None else grace))
        elif grace == 0:
            self._hurry.set()
        await asyncio.shield(self._end)

    async def _stop(self, grace: float) -> None:
        if self._opening is not None:
            self._opening.cancel()
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.wait((self._keeper,))
            if not self._keeper.cancelled():
                self._keeper.exception()  # it was logged, and `wait` raises it to whoever asks
        if self._session is not None:
            await self._session.stop_consuming()
        if self.running and grace > 0:
            await self._drain(grace)
        self._cancel_running()
        if self.running:
            await asyncio.wait(self.running.values(), timeout=CANCEL_SECONDS)
        if self._session is not None:
            await self._session.close()
        await self._leave()
        log.info("stopped serving %s as %s", self.contract.name, self.name)

    async def _drain(self, grace: float) -> None:
        """Return when the calls that run have ended, the grace is over, or somebody is in a hurry."""
        ended = asyncio.ensure_future(asyncio.wait(list(self.running.values())))
        hurry = asyncio.ensure_future(self._hurry.wait())
        await asyncio.wait((ended, hurry), timeout=grace, return_when=asyncio.FIRST_COMPLETED)
        ended.cancel()
        hurry.cancel()

    def _cancel_running(self) -> None:
        if self.running:
            log.warning("giving back %d calls of %s that did not end in time", len(self.running), self.contract.name)
        self._cancelled = True
        for task in self.running.values():
            task.cancel()

    async def _leave(self) -> None:
        if self._threads is not None:
            self._threads.shutdown(wait=False, cancel_futures=True)
        entered, self._entered = self._entered, None
        if entered is not None:
            await entered.__aexit__(None, None, None)

    async def _open(self, handlers: HandlerTable) -> Session:
        while True:
            link = await self._connection.link()
            try:
                return await Session.open(self, handlers, link)
            except ConnectionLost:
                await asyncio.wait((link.closed,), timeout=1)  # then there is another link to wait for

    async def _keep(self, handlers: HandlerTable) -> None:
        """Consume again whenever the channel or the queue is lost; ends only with an error that no waiting mends."""
        queue = self.topology.queue.name
        losses = 0
        while True:
            assert self._session is not None
            began = self._loop.time()
            reason = await asyncio.shield(self._session.ended)
            log.warning("%s consumes %s no more: %s", self.name, queue, reason)
            losses = losses + 1 if self._loop.time() - began < STABLE_SECONDS else 0
            if losses > 1:  # some message may end each channel it comes to: that must not make a tight loop
                await asyncio.sleep(0.1 * 2 ** min(losses, 7))
            try:
                self._session = await self._connection.persist(
                    lambda: self._restore(self._session, handlers), f"consuming {queue}"
                )
            except AMQProxyError as error:
                log.error("%s serves no more: %s", self.name, error)
                raise
            log.info("%s consumes %s again", self.name, queue)

    async def _restore(self, session: Session | None, handlers: HandlerTable) -> Session:
        """The same session, if its channel lives (then its queue was deleted), or a new one."""
        if session is None or not session.alive:
            return await self._open(handlers)
        await session.consume()
        return session


class Session:
    """One channel's worth of serving: takes deliveries, starts handlers, answers, until the channel is gone."""

    def __init__(self, worker: Worker, handlers: HandlerTable, link: Link) -> None:
        self.ended: asyncio.Future[Exception] = link.loop.create_future()
        """Done when no more requests come, with the reason."""
        self._worker = worker
        self._handlers = handlers
        self._link = link
        self._loop = link.loop
        self._limits = link.limits
        self._destinations: dict[bytes, bytes] = {}
        self._opened: OpenLane = None  # type: ignore[assignment]  # both are set before the first delivery
        self._lane: Lane = None  # type: ignore[assignment]

    @classmethod
    async def open(cls, worker: Worker, handlers: HandlerTable, link: Link) -> Session:
        """A session that consumes."""
        session = cls(worker, handlers, link)
        session._opened = await link.open_lane(session, session._end, prefetch=worker.options.concurrency)
        session._lane = session._opened.lane
        try:
            await session.consume()
        except BaseException:
            await session.close()
            raise
        return session

    @property
    def alive(self) -> bool:
        """True while its channel is open."""
        return self._lane.open

    async def consume(self) -> None:
        """Declare the pool's topology and let its requests come."""
        self.ended = self._loop.create_future()
        topology = self._worker.topology
        await self._link.declare_pool(topology)
        deleted = AMQProxyError(f"the queue {topology.queue.name} was deleted")
        await self._opened.consume(topology.queue.name, lambda: self._end(deleted), no_ack=False)

    def _end(self, reason: Exception) -> None:
        if not self.ended.done():
            self.ended.set_result(reason)

    async def stop_consuming(self) -> None:
        """Let no further request come; the channel stays, for the answers to those that run."""
        await self._opened.cancel()

    async def close(self) -> None:
        """Give everything that is not answered back to the queue."""
        await self._opened.close()

    # What the lane tells (frames.ContentSink)

    def delivered(self, tag: int, redelivered: bool, header: bytes, body: bytes) -> None:
        """A request came."""
        worker = self._worker
        self._lane.hold(tag)
        try:
            content_type, encoding, correlation_id, reply_to = routing(header)
        except Malformed as error:
            log.error("rejected a request whose properties do not decode: %s", error)
            self._lane.nack(tag, requeue=False)
            return
        if worker.stopping:
            self._lane.nack(tag, requeue=True)
            return
        if correlation_id is None:
            correlation_id = _message_id(header)
        handler = self._handlers.get(content_type, encoding)
        if handler is None:
            try:
                handler = self._handlers.find(content_type, encoding)
            except RemoteError as error:
                self._fail(tag, bool(redelivered), error, correlation_id, reply_to)
                return
        call = Call(worker.contract.name, handler.method.name, worker.name, bool(redelivered), header, self._loop.time)
        # Not loop.create_task: with an eager task factory the call would run, and end, before it is noted here.
        running = self._run(handler, call, tag, body, correlation_id, reply_to)
        worker.running[call] = asyncio.Task(running, loop=self._loop)

    async def _run(
        self, handler: Handler, call: Call, tag: int, body: bytes, correlation_id: bytes | None, reply_to: bytes | None
    ) -> None:
        """Run one call and answer it; whatever happens, the delivery is settled exactly once."""
        call.enter()
        worker = self._worker
        failure: RemoteError
        try:
            reply = handler.encode(await handler.start(handler.decode(body)))
        except HoldsTooMuch as error:
            failure = refusal("resource_exhausted", f"{handler.method.title}: {error}", type="MessageTooLarge")
        except DecodingFailed as error:
            failure = refusal("invalid_argument", f"{handler.method.title}: {error}")
        except asyncio.CancelledError as error:
            if worker.gives_up:
                del worker.running[call]
                self._give_back(tag)
                raise
            failure = self._failure(error, call)  # the handler cancelled itself, or raised this
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt) or not self._loop.is_running():
                worker.running.pop(call, None)
                raise  # the program is torn down; the broker gives the call to another worker
            failure = self._failure(error, call)
        else:
            del worker.running[call]
            self._answer(tag, handler.reply_form, reply, correlation_id, reply_to)
            return
        del worker.running[call]
        self._fail(tag, call.redelivered, failure, correlation_id, reply_to)

    def _failure(self, error: BaseException, call: Call) -> RemoteError:
        """What a handler raised, as its caller is told."""
        if isinstance(error, RemoteError):
            log.debug("%r failed: %s", call, error)
        else:
            log.warning("%r raised", call, exc_info=error)
        return failure_of(error, debug=self._worker.options.debug)

    def _fail(
        self, tag: int, redelivered: bool, failure: RemoteError, correlation_id: bytes | None, reply_to: bytes | None
    ) -> None:
        """Tell a failure, or let another worker try first."""
        options = self._worker.options
        if options.requeue_once and not redelivered:
            self._give_back(tag)
            return
        body = _failure(failure, details=options.failure_details)
        self._answer(tag, FAILURE_FORM, body, correlation_id, reply_to)

    def _answer(
        self, tag: int, form: ReplyForm, body: bytes, correlation_id: bytes | None, reply_to: bytes | None
    ) -> None:
        """Reply first, then acknowledge: who dies in between is asked again, and nobody waits for nothing."""
        lane = self._lane
        if not lane.open:
            log.info("the channel closed before an answer could be sent; the broker gives the call to another worker")
            return
        if reply_to:
            if len(body) > self._limits.body_bytes:
                form, body = FAILURE_FORM, self._too_large(len(body), "the reply has", executed="yes")
            destination = self._destinations.get(reply_to) or self._destination(reply_to)
            lane.reply(tag, destination, form.properties(correlation_id), body, alone=not self._worker.running)
        else:
            lane.ack(tag)
            if form is FAILURE_FORM:
                log.warning("a one-way request failed: %s", body.decode())
        self._worker.answered += 1

    def _destination(self, reply_to: bytes) -> bytes:
        if len(self._destinations) >= MAX_DESTINATIONS:
            self._destinations.clear()
        destination = self._destinations[reply_to] = self._lane.destination(b"", reply_to)
        return destination

    def _too_large(self, size: int, what: str, *, executed: Executed) -> bytes:
        text = f"{what} {size} bytes, the worker's max_body_bytes is {self._limits.body_bytes}"
        error = RemoteError(text, code="resource_exhausted", type="MessageTooLarge", executed=executed)
        return _failure(error, details=self._worker.options.failure_details)

    def _give_back(self, tag: int) -> None:
        if self._lane.open:
            self._lane.nack(tag, requeue=True)

    def too_large(self, tag: int, header: bytes, size: int) -> None:
        """A request is larger than we take; its body was not stored."""
        self._lane.hold(tag)
        try:
            _, _, correlation_id, reply_to = routing(header)
        except Malformed:
            self._lane.nack(tag, requeue=False)
            return
        self._answer(
            tag, FAILURE_FORM, self._too_large(size, "the request has", executed="no"), correlation_id, reply_to
        )

    def returned(self, code: int, text: bytes, header: bytes, body: bytes) -> None:
        """A reply came back: its caller is gone, and with it the queue."""
        log.info("dropped a reply to a caller that is gone")

    def confirmed(self, tag: int, multiple: bool, accepted: bool) -> None:
        """Replies are not confirmed: an acknowledged request whose reply is lost times out at its caller."""


def _failure(error: RemoteError, *, details: bool) -> bytes:
    try:
        return encode_failure(error, details=details)
    except Exception:  # the details are of the user's making, and so is what reading them may raise
        log.warning("the details of a failure cannot be written as JSON: a %s", type(error.details).__qualname__)
        error.details = None
        return encode_failure(error, details=details)


def _message_id(header: bytes) -> bytes | None:
    """What stands in for a correlation id that is not there."""
    try:
        return Properties.decode(header).message_id
    except Malformed:
        return None
