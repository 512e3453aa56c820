"""A call that every worker of a pool is asked, from the asking to the last answer."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from .answer import Reply
from .caller import CENSUS_SECONDS
from .conversation import Called
from .errors import AMQProxyError, CallError, CallTimeout, Unroutable, retold
from .fields import Malformed
from .line import Line, Returned
from .properties import Properties
from .scope import Scope, scope
from .tally import ROUND_SECONDS, Tally
from .wire import (
    ALIVE_CLASS,
    FAILURE_CONTENT_TYPE,
    PING_CLASS,
    TIMEOUT_HEADER,
    TRANSIENT,
    WORKER_HEADER,
    decode_presence,
    milliseconds,
    pool_exchange,
)

Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class WorkerAnswer(Generic[Value]):
    """What one worker answered: a value or an error."""

    worker: str
    """The worker's name: host, process id and a number. A worker of another make may have none."""
    value: Value | None = None
    error: CallError | None = None

    def result(self) -> Value:
        """The value; raises the error if it is one."""
        if self.error is not None:
            raise self.error
        return self.value  # type: ignore[return-value]  # None is a value, too


class Asked(Called, Protocol):
    """What a poll wants to know of the method that is called, which is broadcast.BroadcastMethod."""

    def inherited(self, deadline: float, within: Scope | None) -> float:
        """The deadline of a call that is made within another or within a block; CallTimeout if that is over."""


class Poll:
    """One such call; told by its line what comes."""

    def __init__(self, method: Asked, body: bytes, expect: int | None) -> None:
        self.name = method.__qualname__
        self._tally = Tally(expect)
        self._loop = method.caller.connection.loop
        self._ended = False
        self._method = method
        self._body = body
        self._expect = expect
        self.why = ""
        """Why no more answers come, if some are missing: the rest of a sentence."""
        self._exchange = pool_exchange(method.pool)
        self._answers: deque[WorkerAnswer[Any]] = deque()  # those that were not taken yet
        self._error: BaseException | None = None
        self._line: Line | None = None
        self._id = b""
        self._limit = self._seconds = 0.0
        self._claimed = False
        self._timer: asyncio.TimerHandle | None = None
        self._round: asyncio.Task[None] | None = None
        self._waiter: asyncio.Future[None] | None = None

    @property
    def workers(self) -> int | None:
        """How many workers were there when they were asked, as far as the broker knows; None before."""
        return self._tally.workers

    @property
    def missing(self) -> int:
        """How many of them have not answered."""
        return self._tally.missing

    async def start(self) -> None:
        """Count the workers and ask them, unless nobody wants that any more."""
        if self._ended:
            return
        method = self._method
        try:
            now = self._loop.time()
            self._limit = method.inherited(now + method.timeout, scope.get())
            self._seconds = self._limit - now
            method.claim()
            self._claimed = True
            await self._open()
            workers = await self._count()
            line = await self._open()
            self._tally.asked(workers, self._loop.time())
            if workers == 0:
                self._nobody()
            elif not self._ended:
                self._line = line
                self._id = line.converse(self._destination(line), self._properties, self._body, self)
                self._set_timer()
        except Unroutable:  # no worker has ever made the exchange
            self._nobody()
        except BaseException as error:
            self._end()
            raise await method.explain(error) from None

    async def _open(self) -> Line:
        try:
            return await self._method.caller.line(self._exchange, self._limit)
        except AMQProxyError as error:
            raise retold(error, f"{self.name}: {error}") from None

    async def _count(self) -> int | None:
        """How many workers consume the pool's queue; None if the broker does not say."""
        seconds = max(0.0, min(CENSUS_SECONDS, self._limit - self._loop.time()))
        counts = await self._method.caller.census(self._method.pool, seconds)
        return None if counts is None else counts[1]

    def _destination(self, line: Line) -> bytes:
        return line.lane.destination(self._exchange.encode(), b"")

    def _properties(self, id: bytes, message_id: bytes) -> bytes:
        method = self._method
        assert self._line is not None
        left = milliseconds(self._limit - self._loop.time())
        return Properties(
            content_type=method.content_type.encode(),
            content_encoding=method.encoding,
            headers={**method.headers, TIMEOUT_HEADER: left},
            delivery_mode=TRANSIENT,
            priority=method.options.priority,
            correlation_id=id,
            reply_to=self._line.reply_to,
            expiration=b"%d" % left,
            message_id=message_id,
        ).encode()

    # What the line tells

    def heard(self, content_type: bytes | None, encoding: bytes | None, header: bytes, body: bytes) -> None:
        """Somebody answered, or said that it is there."""
        worker = _worker(header)
        if content_type == PING_CLASS:
            if decode_presence(body).busy:
                self._tally.busy(worker, self._loop.time())
        elif content_type != ALIVE_CLASS and self._tally.answered(worker):
            self._answers.append(self._answer(worker, (content_type, encoding, body)))
            if self._tally.complete:
                self._stop() if self._tally.missing else self._end()
            else:
                self._wake()

    def _answer(self, worker: str, reply: Reply) -> WorkerAnswer[Any]:
        try:
            if reply[0] == FAILURE_CONTENT_TYPE:
                raise self._method.failure(reply[2])
            return WorkerAnswer(worker, self._method.decode(reply))
        except CallError as error:
            return WorkerAnswer(worker, error=error)

    def failed(self, error: Exception) -> None:
        """No worker is there any more, or the link is gone."""
        if not isinstance(error, Returned):
            self._end(error)
        elif self._round is None:  # it is the request that came back
            self._nobody()
        else:
            self._end(self._too_few(", and no other is there"))

    def _nobody(self) -> None:
        """There is no worker; that is an error only if some were expected."""
        self._tally.asked(0, self._loop.time())
        address = self._method.caller.connection.url.address
        text = f"{self.name}: no worker is at {address}, and the answers of {self._expect} are expected; start them"
        self._end(None if self._expect is None else Unroutable(text))

    # Who is still there

    def _set_timer(self) -> None:
        self._timer = self._loop.call_at(min(self._loop.time() + ROUND_SECONDS, self._limit), self._tick)

    def _tick(self) -> None:
        now = self._loop.time()
        if now >= self._limit:
            self._stop(self._too_few(f" within the time of {self._seconds:.3g} s"))
        elif self._tally.over(now):
            self._stop(self._too_few(", and no other is there"))
        else:
            self._set_timer()
            self._round = self._loop.create_task(self._look_round())

    async def _look_round(self) -> None:
        """See how many workers are there, and let those speak up that are at work."""
        workers = await self._count()
        assert self._line is not None
        self._tally.round(workers, self._loop.time())
        properties = Properties(
            content_type=PING_CLASS, delivery_mode=TRANSIENT, correlation_id=self._id, reply_to=self._line.reply_to
        )
        if self._line.lane.open:
            self._line.lane.publish(self._destination(self._line), properties.encode(), b"")

    def _too_few(self, why: str) -> CallTimeout | None:
        self.why = why
        if self._expect is None:
            return None
        text = f"{self.name}: {self._tally.answers} of {self._expect} workers answered{why}; more may have run it"
        return CallTimeout(text, executed="maybe")

    # How it ends

    def close(self) -> None:
        """Take no more answers, and stop the workers that are still at work."""
        self._answers.clear()
        self._stop()

    def forget(self) -> None:
        """Nobody can take answers any more; told wherever the last reference was dropped."""
        if not self._ended and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._stop)

    def _stop(self, error: BaseException | None = None) -> None:
        if self._line is not None and not self._ended:
            left = max(0.0, self._limit - self._loop.time())
            self._method.caller.cancel(self._line, self._id, self._method.pool, left)
        self._end(error)

    def _end(self, error: BaseException | None = None) -> None:
        """No more answers come."""
        if self._ended:
            return
        self._ended, self._error = True, error
        if self._line is not None:
            self._line.conversations.pop(self._id, None)
        if self._timer is not None:
            self._timer.cancel()
        if self._round is not None:
            self._round.cancel()
        if self._claimed:
            self._method.release()
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def next(self) -> WorkerAnswer[Any]:
        """The next answer, StopAsyncIteration behind the last one, or what the call has failed with."""
        while not self._answers:
            if self._ended:
                error, self._error = self._error, None
                if error is None:
                    raise StopAsyncIteration
                raise await self._method.explain(error) from None
            if self._waiter is not None:
                raise RuntimeError("another task waits for the next answer of this broadcast")
            self._waiter = self._loop.create_future()
            try:
                await self._waiter
            except asyncio.CancelledError:
                self._stop()
                raise
            finally:
                self._waiter = None
        return self._answers.popleft()


def _worker(header: bytes) -> str:
    """Who sent a message, if it says so."""
    try:
        worker = (Properties.decode(header).headers or {}).get(WORKER_HEADER)
    except Malformed:
        return ""
    return worker if isinstance(worker, str) else ""
