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

from .backoff import Spell
from .codecs.registry import codecs
from .contract import Contract
from .control import Abandoned, Key
from .errors import AMQProxyError, BrokerUnavailable, Closed
from .handler import Call, HandlerTable, instance_of
from .options import ServeOptions
from .overload import SheddingSession
from .parking import CLOSE_SECONDS, Loose, Parking
from .session import ROOM, Session
from .surrounding import surrounding
from .topology import PoolTopology, Queue

if TYPE_CHECKING:
    from .connection import Connection

log = logging.getLogger("amqproxy.server")

START_SECONDS = 30.0
"""How long a worker that starts waits for a link that is being made again."""
FORGET_SECONDS = 1.0
"""Calls that were cancelled and never came are looked through this often at most."""
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
        self.abandoned = Abandoned()
        """Calls that were cancelled before they came here."""
        self.stopping = False
        self.once = asyncio.Semaphore(options.concurrency)
        """Room for the calls that run at most once, whichever channel they came by."""
        self.loose = Loose()
        """What goes to the dead letters and was acknowledged already."""
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
        self._forgetting: asyncio.TimerHandle | None = None
        self._undoing: asyncio.Task[None] | None = None
        self._started = False
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
    def session(self) -> Session | None:
        """The channel that it takes requests from now; None before the first."""
        return self._session

    @property
    def ended(self) -> bool:
        """True once it was stopped, and has given back or answered all that it took."""
        return any(end is not None and end.done() for end in (self._undoing, self._end))

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
            self.stopping = True
            self._undoing = asyncio.create_task(self._undo())
            await asyncio.shield(self._undoing)
            raise
        self._keeper = asyncio.create_task(self._keep(handlers), name=f"amqproxy worker of {self.contract.name}")
        log.info("serving %s as %s", self.contract.name, self.name)

    async def _enter(self) -> HandlerTable:
        """The handlers of the served object, which is made and entered where it wants to be."""
        target = instance_of(self._target)
        self._threads = ThreadPoolExecutor(ROOM * self.options.concurrency, thread_name_prefix=self.contract.name)
        known = codecs(self._connection.options.max_decompressed_bytes, self.options.codecs)
        handlers = HandlerTable(
            target, self.contract, known, self._threads, self.options.codecs, surrounding(self.options)
        )
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
            raise Closed(f"this worker of {self.contract.name} was stopped while it started")
        if not opening.done():
            name, state = self.contract.name, self._connection.states.current
            text = f"{name} is not served: no channel to serve on was had within {START_SECONDS:g} s"
            raise BrokerUnavailable(f"{text}; the connection to {self._connection.url.address} is {state}")
        return opening.result()

    async def _undo(self) -> None:
        """End what a start has begun that fails: also a session that was ready as somebody cancelled the start."""
        if (opening := self._opening) is not None:
            await asyncio.wait((opening,))
            if not opening.cancelled() and opening.exception() is None:
                await opening.result().close()
        await self._leave()

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
            seconds = self.options.grace if grace is None else grace
            self._end = self._undoing or asyncio.create_task(self._stop(seconds))
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
        self._cancel_running(grace)
        if self.running:
            await asyncio.wait(self.running.values(), timeout=CANCEL_SECONDS)
        give_up_at = self._loop.time() + CLOSE_SECONDS
        if self._session is not None:
            await self._session.close()
        if self.topology.dead is not None:
            await self._park_loose(self.topology.dead, give_up_at)
            self.loose.give_up(self.topology.dead.name)
        await self._leave()
        log.info("stopped serving %s as %s", self.contract.name, self.name)

    async def _park_loose(self, dead: Queue, give_up_at: float) -> None:
        """Put to the dead letters what sessions have left, if a link is there by then: nobody else has a copy."""
        while self.loose.left and self._loop.time() < give_up_at:
            try:
                async with asyncio.timeout_at(give_up_at):
                    link = await self._connection.link()
            except (AMQProxyError, TimeoutError):
                return
            parking = Parking(self.topology, dead, self.name, link, lambda tag: None, self.loose)
            parking.resume()
            await parking.close()

    async def _drain(self, grace: float) -> None:
        """Return when the calls that run have ended, the grace is over, or somebody is in a hurry."""
        ended = asyncio.ensure_future(self._all_ended())
        hurry = asyncio.ensure_future(self._hurry.wait())
        await asyncio.wait((ended, hurry), timeout=grace, return_when=asyncio.FIRST_COMPLETED)
        ended.cancel()
        hurry.cancel()

    async def _all_ended(self) -> None:
        while self.running:  # calls of a batch begin when others of it have ended
            await asyncio.wait(list(self.running.values()))

    def _cancel_running(self, grace: float) -> None:
        if self.running:
            text = (
                "cancelling %d call%s of %s %s: other workers run them again, except those that may not run twice, "
                "whose callers are told if they wait for an answer%s"
            )
            calls = len(self.running)
            hurried = grace <= 0 or self._hurry.is_set()
            why = "at once, for the stop is hurried" if hurried else f"that did not end within the grace of {grace:g} s"
            log.warning(text, calls, "s" * (calls > 1), self.contract.name, why, self._in_threads())
        self._cancelled = True
        for task in self.running.values():
            task.cancel()

    def _in_threads(self) -> str:
        """What becomes of handlers that cannot be cancelled, for the end of a text; empty if there are none."""
        calls = sum(call.in_thread for call in self.running)
        which = f"{calls} of them run{'s' * (calls == 1)} in {'a thread' if calls == 1 else 'threads'}"
        return f"; {which}, which nobody can interrupt, and may go on beside a second run" if calls else ""

    def remember(self, key: Key, seconds: float) -> None:
        """A call was cancelled that did not come yet; it is not to be run if it comes within so many seconds."""
        self.abandoned.add(key, self._loop.time(), seconds)
        at = self._loop.time() + max(seconds, FORGET_SECONDS)
        if self._forgetting is None or at < self._forgetting.when():
            if self._forgetting is not None:
                self._forgetting.cancel()
            self._forgetting = self._loop.call_at(at, self._forget)

    def _forget(self) -> None:
        self._forgetting, now = None, self._loop.time()
        if (next_at := self.abandoned.forget(now)) is not None and not self.ended:
            self._forgetting = self._loop.call_at(max(next_at, now + FORGET_SECONDS), self._forget)

    async def _leave(self) -> None:
        if self._forgetting is not None:
            self._forgetting.cancel()
        if self._threads is not None:
            self._threads.shutdown(wait=False, cancel_futures=True)
        entered, self._entered = self._entered, None
        if entered is not None:
            await entered.__aexit__(None, None, None)

    async def _open(self, handlers: HandlerTable) -> Session:
        kind = Session if self.options.shed_after is None else SheddingSession
        what = f"consuming {self.topology.queue.name}"
        return await self._connection.on_link(lambda link: kind.open(self, handlers, link), what)

    async def _keep(self, handlers: HandlerTable) -> None:
        """Consume again whenever the channel or the queue is lost; ends only with an error that no waiting mends."""
        queue = self.topology.queue.name
        spell = Spell()
        while True:
            assert self._session is not None
            began = self._loop.time()
            reason = await asyncio.shield(self._session.ended)
            log.warning("%s consumes %s no more: %s", self.name, queue, reason)
            spell.lasted(self._loop.time() - began)
            await asyncio.sleep(spell.pause)  # some message may end each channel that it comes to
            try:
                self._session = await self._connection.persist(
                    lambda: self._restore(self._session, handlers), f"consuming {queue}"
                )
            except AMQProxyError as error:
                log.error("%s serves %s no more: %s", self.name, self.contract.name, error)
                raise
            log.info("%s consumes %s again", self.name, queue)

    async def _restore(self, session: Session | None, handlers: HandlerTable) -> Session:
        """The same session, if its channel lives (then its queue was deleted), or a new one."""
        if session is None or not session.alive:
            if session is not None:
                await session.desk.close()  # or this worker would be asked twice what all are asked
                await session.replies.close()
            return await self._open(handlers)
        await session.consume()
        return session
