"""Calls that every worker of a pool answers."""

from __future__ import annotations

import asyncio
import functools
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, ClassVar, Generic, TypeVar

from .answer import Reply
from .caller import Line, Returned
from .errors import CallError, CallTimeout, Unroutable
from .fields import Malformed
from .middleware import Middleware, OutgoingCall, SurroundedMethod, chain, iterator
from .options import BroadcastOptions, CallOptions
from .properties import Properties
from .proxy import _STATE, Calling, Proxy, RemoteMethod, Target, named
from .scope import scope
from .wire import (
    FAILURE_CONTENT_TYPE,
    PING_CLASS,
    TIMEOUT_HEADER,
    TRANSIENT,
    WORKER_HEADER,
    milliseconds,
    pool_exchange,
)

Value = TypeVar("Value")

ROUND_SECONDS = 1.0
"""How often a broadcast that waits looks who is still there."""
SILENT_SECONDS = 5.0
"""A worker that says nothing for so long is not waited for, when all others have answered."""


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


@dataclass(frozen=True, slots=True)
class BroadcastTarget(Target):
    """What a broadcast stands for."""

    view: ClassVar[str] = "broadcast"
    streams: ClassVar[bool] = False
    defaults: ClassVar[CallOptions] = BroadcastOptions()

    def kind(self, options: CallOptions) -> type[RemoteMethod]:
        """The class of its methods."""
        return BroadcastMethod


class Broadcast(Proxy):
    """Stands for all workers of a service: `async for answer in broadcast.add(1, 2)`.

    `Broadcast(mq, Calculator)` is `mq.broadcast(Calculator)`. `amqproxy.options(broadcast, …)` gives one with others.
    """

    def __init__(self, mq: Calling, service: Any, /, *, name: str | None = None, **options: Any) -> None:
        self.__dict__[_STATE] = BroadcastTarget(mq.caller, *named(service, name), options).checked()


class BroadcastMethod(RemoteMethod):
    """One method of a broadcast; calling it asks all workers."""

    _options: BroadcastOptions

    def __call__(self, /, *args: Any, **kwargs: Any) -> Answers[Any]:  # type: ignore[override]  # many answer
        """The answers, as they come."""
        body = self._payload.encode(args, kwargs)
        if len(body) > self._limits.body_bytes:
            raise self._too_large(body)
        return Answers(Poll(self, body))

    def surrounded(self, middleware: Sequence[Middleware]) -> SurroundedMethod:
        """The same method with middleware around its calls."""
        return SurroundedBroadcastMethod(self, middleware)


class Poll:
    """One broadcast: who was asked, who has answered, and when that is all; told by its line what comes."""

    def __init__(self, method: BroadcastMethod, body: bytes) -> None:
        self.method = method
        self.name = method.__qualname__
        self.answers: deque[WorkerAnswer[Any]] = deque()
        """Those that came and were not taken yet."""
        self.workers: int | None = None
        """How many workers were there when it began, as far as the broker knows; None before."""
        self.answered: set[str] = set()
        self.ended = False
        self.error: BaseException | None = None
        self.loop = method._caller.connection.loop
        self._body = body
        self._expect = method._options.expect
        self._exchange = pool_exchange(method._pool)
        self._line: Line | None = None
        self._id = b""
        self._limit = 0.0
        self.count = 0
        """How many have answered."""
        self._alive: set[str] = set()  # who has said so since the last round
        self._fewer = False
        self._asked_at = 0.0
        self._heard: dict[str, float] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._round: asyncio.Task[None] | None = None
        self._claimed = False
        self._waiter: asyncio.Future[None] | None = None

    async def start(self) -> None:
        """Count the workers and ask them."""
        method, caller = self.method, self.method._caller
        now = self.loop.time()
        self._limit = method._inherited(now + method._timeout, scope.get())
        try:
            method.claim()
            self._claimed = True
            line = await caller.line(self._exchange, self._limit)
            self.workers = await self._workers()
            if not self.ended:
                self._line = line
                destination = line.lane.destination(self._exchange.encode(), b"")
                self._id = line.converse(destination, self._properties, self._body, self)
        except Unroutable:  # no worker has ever made the exchange
            self.workers = 0
            self.end()
        except BaseException as error:
            self.end(error)
            raise
        else:
            self._asked_at = self.loop.time()
            self._set_timer()

    async def _workers(self) -> int | None:
        """How many workers consume the pool's queue; None if the broker does not say."""
        counts = await self.method._caller.census(self.method._pool)
        return None if counts is None else counts[1]

    def _properties(self, id: bytes, message_id: bytes) -> bytes:
        method, options = self.method, self.method._options
        assert self._line is not None
        left = milliseconds(self._limit - self.loop.time())
        return Properties(
            content_type=method._content_type.encode(),
            content_encoding=method._encoding,
            headers={**method._headers, TIMEOUT_HEADER: left},
            delivery_mode=TRANSIENT,
            priority=options.priority,
            correlation_id=id,
            reply_to=self._line.reply_to,
            expiration=b"%d" % left,
            message_id=message_id,
        ).encode()

    # What the line tells

    def heard(self, content_type: bytes | None, encoding: bytes | None, header: bytes, body: bytes) -> None:
        """Somebody answered, or said that it is there."""
        try:
            worker = str((Properties.decode(header).headers or {}).get(WORKER_HEADER, ""))
        except Malformed:
            worker = ""
        self._alive.add(worker)
        self._heard[worker] = self.loop.time()
        if content_type == PING_CLASS or (worker and worker in self.answered):
            return
        self.answered.add(worker)
        self.count += 1
        self.answers.append(self._answer(worker, (content_type, encoding, body)))
        wanted = self._expect or self.workers
        if wanted is not None and self.count >= wanted:
            self.end()
        else:
            self._wake()

    def _answer(self, worker: str, reply: Reply) -> WorkerAnswer[Any]:
        try:
            if reply[0] == FAILURE_CONTENT_TYPE:
                raise self.method._failure(reply[2])
            return WorkerAnswer(worker, self.method._decode(reply))
        except CallError as error:
            return WorkerAnswer(worker, error=error)

    def failed(self, error: Exception) -> None:
        """No worker is there, or the link is gone."""
        if isinstance(error, Returned):
            if not self.count:  # else it is what we sent to see who is left that came back
                self.workers = 0
            self.end()
        else:
            self.end(error)

    # Who is still there

    def _set_timer(self) -> None:
        if not self.ended:
            at = min(self.loop.time() + ROUND_SECONDS, self._limit)
            self._timer = self.loop.call_at(at, self._tick)

    def _tick(self) -> None:
        now = self.loop.time()
        if now >= self._limit:
            self.cancel(self._too_late())
        elif self._have_all_answered(now):
            self.cancel()
        else:
            self._round = self.loop.create_task(self._look_round())

    def _have_all_answered(self, now: float) -> bool:
        """Whether everybody who is there has answered, although some who were counted have not."""
        if self._fewer and self._alive <= self.answered:
            return True
        heard = {worker for worker, at in self._heard.items() if now - at < SILENT_SECONDS}
        return now - self._asked_at >= SILENT_SECONDS and heard <= self.answered

    async def _look_round(self) -> None:
        """See whether workers went, and ask the others to say that they are there."""
        counted = await self._workers()
        if self.ended or self._line is None:
            return
        self._fewer = counted is not None and self.workers is not None and counted < self.workers
        self._alive = set()
        properties = Properties(
            content_type=PING_CLASS, delivery_mode=TRANSIENT, correlation_id=self._id, reply_to=self._line.reply_to
        )
        if self._line.lane.open:
            destination = self._line.lane.destination(self._exchange.encode(), b"")
            self._line.lane.publish(destination, properties.encode(), b"")
        self._set_timer()

    def _too_late(self) -> CallTimeout | None:
        if self._expect is None:
            return None
        text = f"{self.method.__qualname__}: {self.count} of {self._expect} workers answered within the time"
        return CallTimeout(text, executed="maybe")

    # How it ends

    def cancel(self, error: BaseException | None = None) -> None:
        """Stop those that still run, and end."""
        if self._line is not None and not self.ended:
            left = max(0.0, self._limit - self.loop.time())
            self.method._caller.cancel(self._line, self._id, self.method._pool, left)
        self.end(error)

    def close(self) -> None:
        """Take no more answers, and stop the workers that still run."""
        self.cancel()
        self.answers.clear()

    def forget(self) -> None:
        """Nobody can take answers any more; told wherever the last reference was dropped."""
        if not self.ended and not self.loop.is_closed():
            self.loop.call_soon_threadsafe(self.cancel)

    def end(self, error: BaseException | None = None) -> None:
        """No more answers come."""
        if self.ended:
            return
        self.ended, self.error = True, error
        if self._line is not None:
            self._line.conversations.pop(self._id, None)
        if self._timer is not None:
            self._timer.cancel()
        if self._round is not None:
            self._round.cancel()
        if self._claimed:
            self.method.release()
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def next(self) -> WorkerAnswer[Any]:
        """The next answer; StopAsyncIteration when there are no more."""
        while not self.answers:
            if self.ended:
                if self.error is not None:
                    error, self.error = self.error, None
                    raise await self.method._explain(error) from None
                raise StopAsyncIteration
            if self._waiter is not None:
                raise RuntimeError("another task waits for the next answer of this broadcast")
            self._waiter = self.loop.create_future()
            try:
                await self._waiter
            except asyncio.CancelledError:
                self.cancel()
                raise
            finally:
                self._waiter = None
        return self.answers.popleft()


class Answers(AsyncIterator[WorkerAnswer[Value]], Generic[Value]):
    """The answers of all workers: iterate over them as they come, or await the list of all.

    It ends when each worker that was there has answered, when as many as `expect` says have, or when the time is over;
    only with `expect` is too few by then an error. Ending it early cancels the handlers that still run.
    """

    def __init__(self, poll: Poll | SurroundedPoll) -> None:
        self._poll = poll
        self._begun = False

    @property
    def workers(self) -> int | None:
        """How many workers were there when they were asked; None before that, or if nobody knows."""
        return self._poll.workers

    @property
    def missing(self) -> int:
        """How many of them have not answered."""
        return max(0, (self._poll.workers or 0) - self._poll.count)

    def __aiter__(self) -> Answers[Value]:
        return self

    async def __anext__(self) -> WorkerAnswer[Value]:
        if not self._begun:
            await self.begin()
        return await self._poll.next()

    async def begin(self) -> Poll | SurroundedPoll:
        """Ask the workers, for whom the first answer is waited for else."""
        self._begun = True
        await self._poll.start()
        return self._poll

    def __await__(self) -> Generator[Any, None, list[WorkerAnswer[Value]]]:
        """All answers."""
        return self._all().__await__()

    async def _all(self) -> list[WorkerAnswer[Value]]:
        return [answer async for answer in self]

    async def first(self) -> Value:
        """The value that comes first; the other workers are stopped.

        If all that answer fail, the last error is raised; Unroutable if nobody is there.
        """
        failure: CallError | None = None
        async with self:
            async for answer in self:
                if answer.error is None:
                    return answer.result()
                failure = answer.error
        if failure is None and self.workers:
            failure = CallTimeout(f"{self._poll.name}: none of {self.workers} workers answered within the time")
        raise failure or Unroutable(f"{self._poll.name}: no worker is there that could answer")

    async def aclose(self) -> None:
        """Take no more answers, and stop the workers that still run."""
        self._poll.close()

    async def __aenter__(self) -> Answers[Value]:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    def __del__(self) -> None:
        self._poll.forget()

    def __repr__(self) -> str:
        return f"<Answers of all workers to {self._poll.name}>"


class SurroundedBroadcastMethod(SurroundedMethod):
    """A method of a broadcast with middleware around its calls, whose results are the answers as they come."""

    def __call__(self, /, *args: Any, **kwargs: Any) -> Answers[Any]:
        """The answers, through the middleware."""
        poll = SurroundedPoll(self.__qualname__)

        async def last(call: OutgoingCall) -> Answers[Any]:
            answers: Answers[Any] = self._sent(call)
            poll.asked = await answers.begin()  # type: ignore[assignment]  # of a method without middleware
            return answers

        poll.begin = functools.partial(self._through, chain(self._middleware, last), args, kwargs)
        return Answers(poll)


class SurroundedPoll:
    """A broadcast whose middleware decides when the workers are asked, and what becomes of their answers."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.begin: Callable[[], Awaitable[Any]]
        self.asked: Poll | None = None
        """The broadcast itself, once the workers were asked; the last one, if they were asked again."""
        self._closed = False
        self._items: AsyncIterator[WorkerAnswer[Any]] | None = None

    @property
    def workers(self) -> int | None:
        """How many workers were there when they were asked, as far as the broker knows."""
        return None if self.asked is None else self.asked.workers

    @property
    def count(self) -> int:
        """How many have answered."""
        return 0 if self.asked is None else self.asked.count

    async def start(self) -> None:
        """Go through the middleware."""
        if not self._closed:
            self._items = iterator(await self.begin(), self.name)

    async def next(self) -> WorkerAnswer[Any]:
        """The next answer; StopAsyncIteration when there are no more."""
        if self._items is None or self._closed:
            raise StopAsyncIteration
        return await anext(self._items)

    def close(self) -> None:
        """Take no more answers."""
        self._closed = True
        if self.asked is not None:
            self.asked.close()

    def forget(self) -> None:
        """Nobody can take answers any more."""
        if self.asked is not None:
            self.asked.forget()
