"""Calls that are not to be run again, whatever happens: their deliveries are settled before they run."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any, Protocol

from .errors import RemoteError
from .handback import HandBack
from .handler import Call, Handler, redelivered, refusal
from .replies import Pool, Replies, in_doubt
from .shown import shown_message

log = logging.getLogger("amqproxy.server")


class Host(Protocol):
    """The session, which takes the requests in."""

    replies: Replies
    handback: HandBack

    @property
    def alive(self) -> bool:
        """True while its channel is open."""

    def run(self, handler: Handler, call: Call, tag: int, body: bytes) -> Coroutine[Any, Any, None]:
        """Run a call and answer it."""


class Staff(Pool, Protocol):
    """The worker."""

    once: asyncio.Semaphore


class Once:
    """Runs such calls of one session.

    The prefetch does not count what is acknowledged. So a call waits, not acknowledged, until fewer of them run than
    the worker's `concurrency`: as many may run besides those that the prefetch counts.
    """

    def __init__(self, host: Host, pool: Staff) -> None:
        self._host = host
        self._pool = pool
        self._room = pool.once
        self._waiting = set[asyncio.Task[None]]()

    def lost(self) -> None:
        """The channel is gone: what waits here, the broker gives to another worker."""
        for task in self._waiting:
            task.cancel()

    async def run(self, handler: Handler, call: Call, tag: int, body: bytes) -> None:
        """Run a call, unless a worker had it before, its time is over, or the worker stops ahead of it."""
        if call.redelivered and not handler.deduplicates:  # which knows better
            self._refuse(redelivered(handler), call, tag, body)
            return
        waiting, task = self._room.acquire(), self._pool.running[call]
        self._waiting.add(task)
        try:
            await (waiting if call.heartbeat is None else call.heartbeat.around(waiting))
        except asyncio.CancelledError:
            self._given_up(handler, call, tag, body)
            return
        finally:
            self._waiting.discard(task)
        try:
            if self._settled(call, tag):
                await self._run_settled(handler, call, body)
        finally:
            self._room.release()

    async def _run_settled(self, handler: Handler, call: Call, body: bytes) -> None:
        try:
            await asyncio.sleep(0)  # behind it the acknowledgement is written, with all of this turn
        except asyncio.CancelledError:
            self._given_up(handler, call, 0, body)
            return
        await self._host.run(handler, call, 0, body)

    def _settled(self, call: Call, tag: int) -> bool:
        """Settle the delivery, and say whether the call is to be run."""
        if self._host.alive and not call.is_over:
            self._host.replies.settle(tag)
            return True
        del self._pool.running[call]
        self._host.replies.settle(tag)  # of a channel that is gone another worker has it, or will
        return False

    def _given_up(self, handler: Handler, call: Call, tag: int, body: bytes) -> None:
        """It was cancelled while it waited: by its caller, by a worker that stops, or for its channel was lost."""
        if call.cancelled or (tag and not self._host.alive):
            del self._pool.running[call]
            self._host.replies.settle(tag)
        elif self._pool.gives_up:  # given back, it would be refused by whoever has it next
            if not call.reply_to:
                if self._host.handback.put(tag, call, body):
                    del self._pool.running[call]
                    return
                if tag:
                    self._give_back(call, tag)
                    return
            text = f"{handler.method.title} was not run: the worker stopped"
            self._refuse(refusal("unavailable", text, type="WorkerStopped", retryable=True), call, tag, body)
        else:
            raise asyncio.CancelledError  # the program is torn down

    def _give_back(self, call: Call, tag: int) -> None:
        """Let the broker give a request to another worker that cannot be published anew: none is lost in silence."""
        del self._pool.running[call]
        text = (
            "%s: a request that was not begun goes back as it is, for its headers are too large to be published anew: "
            "%s; the broker calls it redelivered, for which the next worker may refuse it"
        )
        log.warning(text, call.service, shown_message(call._header))
        self._host.replies.give_back(tag)

    def _refuse(self, failure: RemoteError, call: Call, tag: int, body: bytes) -> None:
        del self._pool.running[call]
        replies, failure = self._host.replies, in_doubt(failure, call.redelivered)
        if replies.kept(tag, failure, call.reply_to, call._header, body):
            return
        replies.refuse(tag, failure, call.correlation_id, call.reply_to, call._header)
