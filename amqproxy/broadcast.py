"""Calls that every worker of a pool answers."""

from __future__ import annotations

import functools
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

from .errors import CallError, CallTimeout, Unroutable
from .middleware import Middleware, OutgoingCall, SurroundedMethod, chain, iterator
from .options import BroadcastOptions, CallOptions
from .poll import Poll, WorkerAnswer
from .proxy import TARGET, Calling, Proxy, named
from .remote import RemoteMethod, Target

Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class BroadcastTarget(Target):
    """What a broadcast stands for."""

    view: ClassVar[str] = "broadcast"
    streams: ClassVar[bool] = False
    defaults: ClassVar[CallOptions] = BroadcastOptions()
    of_methods: ClassVar[tuple[str, ...]] = ("timeout",)

    def kind(self, options: CallOptions) -> type[RemoteMethod]:
        """The class of its methods."""
        return BroadcastMethod


class Broadcast(Proxy):
    """Stands for all workers of a service: `async for answer in broadcast.add(1, 2)`.

    `Broadcast(mq, Calculator)` is `mq.broadcast(Calculator)`. `amqproxy.options(broadcast, …)` gives one with others.
    """

    def __init__(self, mq: Calling, service: Any, /, *, name: str | None = None, **options: Any) -> None:
        self.__dict__[TARGET] = BroadcastTarget(mq.caller, *named(service, name), options).checked()

    if TYPE_CHECKING:  # what its methods give is not what those of a proxy do

        def __getattr__(self, name: str) -> Callable[..., Answers[Any]]: ...

        def __call__(self, /, *args: Any, **kwargs: Any) -> Answers[Any]:
            """Ask all workers with a message."""


class BroadcastMethod(RemoteMethod):
    """One method of a broadcast; calling it asks all workers."""

    repeatable = False
    doubt = "workers may have run it"

    def __call__(self, /, *args: Any, **kwargs: Any) -> Answers[Any]:  # type: ignore[override]  # many answer
        """The answers, as they come."""
        body = self.payload.encode(args, kwargs)
        if len(body) > self.limits.body_bytes:
            raise self.too_large(body)
        assert isinstance(self.options, BroadcastOptions)
        return Answers(Poll(self, body, self.options.expect))

    def surrounded(self, middleware: Sequence[Middleware]) -> SurroundedMethod:
        """The same method with middleware around its calls."""
        return SurroundedBroadcastMethod(self, middleware)


class Answers(AsyncIterator[WorkerAnswer[Value]], Generic[Value]):
    """The answers of all workers: iterate over them as they come, or await the list of all.

    It ends when each worker that was there has answered, when as many as `expect` says have, when nobody is left who
    could, or when the time is over; only with `expect` are too few an error. Ending it early cancels the handlers that
    still run.
    """

    def __init__(self, poll: Poll | SurroundedPoll) -> None:
        self._poll = poll
        self._begun = False
        self._ended = False

    @property
    def begun(self) -> bool:
        """Whether the workers were asked."""
        return self._begun

    @property
    def workers(self) -> int | None:
        """How many workers were there when they were asked; None before that, or if nobody knows."""
        return self._poll.workers

    @property
    def missing(self) -> int:
        """How many of them have not answered."""
        return self._poll.missing

    def __aiter__(self) -> Answers[Value]:
        return self

    async def __anext__(self) -> WorkerAnswer[Value]:
        if not self._begun:
            await self.begin()
        try:
            return await self._poll.next()
        except StopAsyncIteration:
            self._ended = True
            raise

    async def begin(self) -> Poll | SurroundedPoll:
        """Ask the workers, for whom the first answer is waited for else."""
        self._begun = True
        await self._poll.start()
        return self._poll

    def __await__(self) -> Generator[Any, None, list[WorkerAnswer[Value]]]:
        """All answers; those that a loop has not taken already, if there was one."""
        return self._all().__await__()

    async def _all(self) -> list[WorkerAnswer[Value]]:
        self._check_open()
        return [answer async for answer in self]

    async def first(self) -> Value:
        """The value that comes first; the other workers are stopped.

        If all that answer fail, the last error is raised; Unroutable if nobody is there.
        """
        self._check_open()
        failure: CallError | None = None
        async with self:
            async for answer in self:
                self._ended = True  # whichever comes first: the others are not taken
                if answer.error is None:
                    return answer.result()
                failure = answer.error
        if failure is not None:
            raise failure
        name = self._poll.name
        if self.workers == 0:
            raise Unroutable(f"{name}: no worker is there that could answer; start one")
        why = self._poll.why
        raise CallTimeout(f"{name}: none of {self.workers or 'the'} workers answered{why}; they may have run it")

    def _check_open(self) -> None:
        if self._ended:
            raise RuntimeError(f"the answers to {self._poll.name} were taken already: keep the list, or ask again")

    async def aclose(self) -> None:
        """Take no more answers, and stop the workers that still run."""
        self._begun = True
        self._poll.close()

    async def __aenter__(self) -> Answers[Value]:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    def __del__(self) -> None:
        if not self._begun:
            text = f"the broadcast of {self._poll.name} was not sent: it was never awaited or iterated"
            warnings.warn(text, RuntimeWarning, source=self, stacklevel=2)
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
    def missing(self) -> int:
        """How many of them have not answered."""
        return 0 if self.asked is None else self.asked.missing

    @property
    def why(self) -> str:
        """Why no more answers come, if some are missing."""
        return "" if self.asked is None else self.asked.why

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
