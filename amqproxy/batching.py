"""Calls that come many in one message: each runs as if it had come alone, and is answered for itself."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine, Iterator, Sequence
from dataclasses import replace
from typing import Any, Protocol

from .codecs import DecodingFailed, HoldsTooMuch
from .codecs.items import Separable
from .errors import MessageTooLarge
from .handler import Call, Handler, refusal
from .replies import Pool, Replies, Told
from .series import in_series
from .wire import FAILURE_CONTENT_TYPE, JSON, ItemForm

ANSWER_BYTES = 64 * 1024
"""Answers that are ready together share messages of this size."""

MOST_IN_SERIES = 64
"""So many calls run in one turn of the event loop, though none waits: what comes from the network waits meanwhile."""


class Host(Protocol):
    """The session, which takes the messages in."""

    loop: asyncio.AbstractEventLoop
    replies: Replies

    def joined(self, handler: Handler) -> tuple[Separable, Separable]:
        """How its requests and its results share messages."""

    def begin(self, handler: Handler, call: Call, tag: int, body: bytes) -> asyncio.Task[None]:
        """Run a call that came alone."""


class Circle(Protocol):
    """The messages of which some calls have not begun, which take turns."""

    host: Host
    pool: Pool
    own: int
    waiting: deque[Any]

    def begin(self) -> None:
        """Begin as many calls as there is room for."""

    def ended(self) -> None:
        """A call that was begun here has ended."""

    def settled(self, tag: int) -> None:
        """A batch is over."""


class Way:
    """How the calls of one handler share messages."""

    def __init__(self, handler: Handler, requests: Separable, results: Separable) -> None:
        self.handler = handler
        self.results = results
        self.encode: Callable[[Any], bytes] = replace(handler, _result=results).encode  # as it is, to be packed
        self._requests = requests
        self.waits = False
        """Whether the last call did not run through at once: then each has a task from the beginning."""

    def read(self, body: bytes, calls: int) -> Sequence[Any]:
        """The requests in a body, with a DecodingFailed for each that does not decode."""
        title = self.handler.method.title
        try:
            return self._requests.unpack_each(body, calls)
        except HoldsTooMuch as error:
            raise refusal("resource_exhausted", f"{title}: {error}", type="MessageTooLarge") from error
        except DecodingFailed as error:
            raise refusal("invalid_argument", f"{title}: {error}") from error


class CallInBatch(Call):
    """One of many calls that came in one message, while its handler runs."""

    __slots__ = ("place", "turns")

    def __init__(self, message: Call, place: int, turns: Circle) -> None:
        super().__init__(
            *(message.service, message.method, message.worker, message.redelivered),
            *(message._header, message._clock, message.correlation_id, message.reply_to),
        )
        self._received, self._deadline, self._properties = message._received, message._deadline, message._properties
        self.place = place
        self.turns = turns

    @property
    def message_id(self) -> str | None:
        """The message's id, a slash, and the place of the call in it."""
        id = super().message_id
        return None if id is None else f"{id}/{self.place}"


class Batch:
    """The calls of one message."""

    __slots__ = (
        *("_carrying", "_failures", "_flushing", "_form", "_next", "_open", "_ready", "_requests", "_tag", "_task"),
        *("_told", "_turns", "_wanted", "_way", "call"),
    )

    def __init__(self, turns: Circle, way: Way, call: Call, tag: int, requests: Sequence[Any]) -> None:
        form = way.handler.reply_form
        self.call = call
        """The message."""
        self._turns = turns
        self._way = way
        self._tag = tag
        self._requests = requests
        self._next = 0
        self._carrying = 0  # how many calls the task may go on with
        self._task: asyncio.Task[None] = None  # type: ignore[assignment]  # set before it is looked at
        self._open = len(requests)
        self._ready: list[Answered] = []
        self._flushing = False
        self._told = Told()
        self._wanted = bool(call.reply_to)
        self._form = ItemForm(form.content_type, form.encoding, call.correlation_id, None)
        self._failures = ItemForm(FAILURE_CONTENT_TYPE, JSON.encode(), call.correlation_id, None)

    def begin(self) -> bool:
        """Begin the next call, in a task that goes on with others unless it waits; whether to begin more besides."""
        if self._is_late():
            return False
        turns, waits = self._turns, self._way.waits
        call = self._call()
        # As for a call that comes alone, not loop.create_task.
        self._task = turns.pool.running[call] = asyncio.Task(self._run(call), loop=turns.host.loop)
        turns.own += 1
        more = self._next < len(self._requests)
        self._carrying = MOST_IN_SERIES if more and not waits else 0
        return more and waits

    def _is_late(self) -> bool:
        """Whether the time of all is over: then no more begin, as the broker drops calls that wait too long."""
        deadline = self.call.deadline
        if deadline is None or self._turns.host.loop.time() < deadline:
            return False
        self.drop()
        return True

    def _call(self) -> CallInBatch:
        """The next one."""
        call = CallInBatch(self.call, self._next, self._turns)
        if self._way.handler.deduplicates:
            call.fingerprint = self.call.fingerprint
        self._next += 1
        return call

    async def _run(self, call: CallInBatch) -> None:
        try:
            await in_series(self._run_one(call), self._following, self._waiting)
        except BaseException:  # the worker gives up, or the program is torn down
            self._turns.own -= 1
            raise
        self._turns.ended()

    def _following(self) -> Coroutine[Any, Any, None] | None:
        """What a task goes on with whose call has ended without waiting."""
        self._way.waits = False
        if not self._carrying:
            return None
        self._carrying -= 1
        if self._next == len(self._requests) or self._is_late():
            self._carrying = 0
        elif not self._carrying or self._turns.waiting or self._turns.pool.gives_up or self._task.cancelling():
            self._put_down()
        else:
            call = self._call()
            self._turns.pool.running[call] = self._task
            return self._run_one(call)
        return None

    def _waiting(self) -> None:
        """A call waits for something, and keeps its task: the others go on beside it."""
        self._way.waits = True
        if self._carrying:
            self._put_down()
            self._turns.begin()

    def _put_down(self) -> None:
        self._carrying = 0
        if self._next < len(self._requests):
            self._turns.waiting.append(self)

    async def _run_one(self, call: CallInBatch) -> None:
        call.enter()
        way, running, request = self._way, self._turns.pool.running, self._requests[call.place]
        try:
            if isinstance(request, DecodingFailed):
                raise request
            reply = way.encode(await way.handler.start(request))
        except BaseException as error:
            running.pop(call, None)
            self._failed(error, call)
        else:
            del running[call]
            self._answer((call.place, reply, False))

    def _failed(self, error: BaseException, call: CallInBatch) -> None:
        turns = self._turns
        if isinstance(error, asyncio.CancelledError) and turns.pool.gives_up and not call.cancelled:
            self._give_back()
            raise error
        failure = turns.host.replies.ended(error, self._way.handler, call, 0, told=self._told)
        if failure is None:  # it was cancelled, and nobody waits for it
            self._end(1)
        else:
            if not self.call.reply_to and self._told.admit():
                turns.host.replies.unheard(failure, self.call._header)
            self._answer((call.place, turns.host.replies.failure(failure), True))

    def _answer(self, answered: Answered) -> None:
        """Send it with all that are ready in this turn of the loop."""
        self._turns.pool.answered += 1
        self._ready.append(answered)
        if self._open == 1:
            self._flush()
        elif not self._flushing:
            self._flushing = True
            self._turns.host.loop.call_soon(self._flush_turn)
        self._end(1)

    def _flush_turn(self) -> None:
        self._flushing = False
        self._flush()

    def _flush(self) -> None:
        ready, self._ready = self._ready, []
        replies = self._turns.host.replies
        if not self._wanted:
            return
        for first, bodies, failed in runs(ready, min(replies.limits.body_bytes, ANSWER_BYTES)):
            if failed:
                replies.post(self.call, self._failures.properties(first, 1), bodies[0])
            else:
                self._send(first, bodies)

    def _send(self, first: int, bodies: list[bytes]) -> None:
        """Send results in one message, or in more if that is too large."""
        replies = self._turns.host.replies
        limit = replies.limits.body_bytes
        try:
            body = self._way.results.pack(bodies)
            if len(body) <= limit:
                replies.post(self.call, self._form.properties(first, len(bodies)), body)
                return
            error = replies.too_large("reply", len(body))
        except MessageTooLarge as too_large:  # for those who decompress it
            error = self._way.handler.misfit(too_large)
        if len(bodies) > 1:
            half = len(bodies) // 2
            self._send(first, bodies[:half])
            self._send(first + half, bodies[half:])
        else:
            replies.post(self.call, self._failures.properties(first, 1), replies.failure(error))

    def _end(self, calls: int) -> None:
        """So many calls are over; behind the last, the message is acknowledged."""
        self._open -= calls
        if not self._open:
            self._turns.host.replies.left_out(self._told, self.call._header)
        if not self._open and self._tag:
            self._turns.settled(self._tag)
            self._turns.host.replies.settle(self._tag)
            self._tag = 0

    def drop(self) -> None:
        """Begin no more of them: nobody waits for these calls any more."""
        self._wanted = False
        begun, self._next = self._next, len(self._requests)
        self._end(self._next - begun)

    def _give_back(self) -> None:
        """Let another worker run all of them; the caller takes the first answer to each."""
        tag, self._tag = self._tag, 0
        if tag:
            self._flush()
            self._turns.settled(tag)
            self._turns.host.replies.give_back(tag)
            self.drop()


Answered = tuple[int, bytes, bool]
"""The place of a call, the body of its answer, and whether that is a failure."""


def runs(answers: list[Answered], limit: int) -> Iterator[tuple[int, list[bytes], bool]]:
    """Answers to calls that follow each other, as many as share a message of `limit` bytes; a failure stands alone."""
    first, size, bodies = 0, 0, list[bytes]()
    for place, body, failed in sorted(answers):
        size += len(body) + 4
        if bodies and (failed or place != first + len(bodies) or size > limit):
            yield first, bodies, False
            bodies = []
        if failed:
            yield place, [body], True
        elif bodies:
            bodies.append(body)
        else:
            first, size, bodies = place, len(body) + 4, [body]
    if bodies:
        yield first, bodies, False
