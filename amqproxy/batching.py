"""Calls that come many in one message: each runs as if it had come alone, and is answered for itself.

The prefetch counts such a message once, whatever is in it. So a worker begins no more of its calls than it has room
for, and while calls wait, every message that comes takes its turn: one call of each in a circle, so that a single call
waits for the next free place and not for the end of a batch.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

from .codecs import DecodingFailed, HoldsTooMuch
from .codecs.items import Separable
from .control import Key
from .errors import ContractError, MessageTooLarge, RemoteError
from .handler import Call, Handler, refusal
from .options import ServeOptions
from .wire import BATCH_HEADER, CREDIT_HEADER, FAILURE_CONTENT_TYPE, JSON, ItemForm, ReplyForm, calls_of

if TYPE_CHECKING:
    from .connection import Limits

log = logging.getLogger("amqproxy.server")

ANSWER_BYTES = 64 * 1024
"""Answers that are ready together share messages of this size."""

_BATCH = BATCH_HEADER.encode()


class Pool(Protocol):
    """What is to be known of the worker."""

    options: ServeOptions
    running: dict[Call, asyncio.Task[None]]
    answered: int

    @property
    def gives_up(self) -> bool:
        """True if handlers are cancelled from outside."""


class Host(Protocol):
    """The session, which takes the messages in and sends the answers out."""

    loop: asyncio.AbstractEventLoop

    @property
    def limits(self) -> Limits:
        """What the broker takes."""

    def joined(self, handler: Handler) -> tuple[Separable, Separable]:
        """How its requests and its results share messages."""

    def begin(self, handler: Handler, call: Call, tag: int, body: bytes) -> asyncio.Task[None]:
        """Run a call that came alone."""

    def post(self, call: Call, properties: bytes, body: bytes) -> None:
        """Send something to the caller."""

    def settle(self, tag: int) -> None:
        """Acknowledge a delivery behind what was sent."""

    def failure(self, error: RemoteError) -> bytes:
        """The body that tells of it."""

    def _fail(
        self, tag: int, redelivered: bool, failure: RemoteError, correlation_id: bytes | None, reply_to: bytes | None
    ) -> None: ...

    def _ended(self, error: BaseException, handler: Handler, call: Call, tag: int) -> RemoteError | None: ...

    def _give_back(self, tag: int) -> None: ...


class Turns:
    """Whose turn it is in one session."""

    def __init__(self, host: Host, pool: Pool) -> None:
        self.waiting: deque[Batch | Single] = deque()
        """Messages with calls that have not begun."""
        self.own = 0
        """Calls that run and were begun here."""
        self.host = host
        self.pool = pool
        self._batches: dict[int, Batch] = {}
        self._ways: dict[ReplyForm, Way] = {}
        self._watched = 0

    def delivered(self, handler: Handler, call: Call, tag: int, body: bytes) -> None:
        """A message came that holds several calls, or while others wait."""
        try:
            calls = self._calls(handler, call)
            requests = self._way(handler).read(body, calls) if calls > 1 else ()
        except RemoteError as error:
            self.host._fail(tag, call.redelivered, error, call.correlation_id, call.reply_to)
            return
        if calls > 1:
            batch = self._batches[tag] = Batch(self, self._way(handler), call, tag, requests)
            self.waiting.append(batch)
        else:
            self.waiting.append(Single(self, handler, call, tag, body))
        self._begin()

    def _calls(self, handler: Handler, call: Call) -> int:
        """How many calls a message holds; raises what the caller is told of one that makes no sense."""
        if call._header.rfind(_BATCH) < 0:
            return 1
        title = handler.method.title
        try:
            headers = call.headers
            if BATCH_HEADER not in headers or CREDIT_HEADER in headers:
                return 1
            calls = calls_of(headers)
        except ValueError as error:  # as Malformed is
            raise refusal("invalid_argument", f"{title}: {error}") from error
        if calls > 1 and handler.streams:
            raise refusal("unimplemented", f"{title} streams, and its calls cannot share a message")
        return calls

    def _way(self, handler: Handler) -> Way:
        way = self._ways.get(handler.reply_form)
        if way is None:
            try:
                way = self._ways[handler.reply_form] = Way(handler, *self.host.joined(handler))
            except ContractError as error:  # of a type that travels alone, and not in a list
                raise refusal("unimplemented", str(error)) from error
        return way

    def _begin(self) -> None:
        """Begin as many calls as there is room for, at least one."""
        waiting, running, room = self.waiting, self.pool.running, self.pool.options.concurrency
        while waiting and (len(running) < room or not self.own) and not self.pool.gives_up:
            message = waiting.popleft()
            if message.begin():
                waiting.append(message)
        if waiting and not self._watched and len(running) > self.own:
            for call, task in running.items():
                if not (isinstance(call, CallInBatch) and call.turns is self):
                    self._watched += 1
                    task.add_done_callback(self._ended_elsewhere)

    def ended(self) -> None:
        """A call that was begun here has ended."""
        self.own -= 1
        if self.waiting:
            self._begin()

    def _ended_elsewhere(self, task: asyncio.Task[None]) -> None:
        self._watched -= 1
        self._begin()

    def settled(self, tag: int) -> None:
        """A batch is over."""
        self._batches.pop(tag, None)

    def cancel(self, key: Key) -> bool:
        """Begin no more of a message, if it is here."""
        found = [message for message in {*self.waiting, *self._batches.values()} if _matches(key, message.call)]
        for message in found:
            if message in self.waiting:
                self.waiting.remove(message)
            message.drop()
        return bool(found)

    def lost(self) -> None:
        """The channel is gone: the broker gives what is not acknowledged to another worker."""
        self.waiting.clear()
        for batch in list(self._batches.values()):
            batch.drop()


def _matches(key: Key, call: Call) -> bool:
    return call.correlation_id == key[1] and key[0] in (None, call.reply_to)


class Way:
    """How the calls of one handler share messages."""

    def __init__(self, handler: Handler, requests: Separable, results: Separable) -> None:
        self.handler = handler
        self.results = results
        self.encode: Callable[[Any], bytes] = replace(handler, _result=results).encode  # as it is, to be packed
        self._requests = requests

    def read(self, body: bytes, calls: int) -> Sequence[Any]:
        """The requests in a body, with a DecodingFailed for each that does not decode."""
        title = self.handler.method.title
        try:
            return self._requests.unpack_each(body, calls)
        except HoldsTooMuch as error:
            raise refusal("resource_exhausted", f"{title}: {error}", type="MessageTooLarge") from error
        except DecodingFailed as error:
            raise refusal("invalid_argument", f"{title}: {error}") from error


class Single:
    """A call that came alone, and waits."""

    __slots__ = ("_body", "_handler", "_tag", "_turns", "call")

    def __init__(self, turns: Turns, handler: Handler, call: Call, tag: int, body: bytes) -> None:
        self.call = call
        self._turns = turns
        self._handler = handler
        self._tag = tag
        self._body = body

    def begin(self) -> bool:
        """Begin it; there are no more."""
        turns = self._turns
        turns.own += 1
        turns.host.begin(self._handler, self.call, self._tag, self._body).add_done_callback(lambda _: turns.ended())
        return False

    def drop(self) -> None:
        """Nobody waits for it any more."""
        self._turns.host.settle(self._tag)


class CallInBatch(Call):
    """One of many calls that came in one message, while its handler runs."""

    __slots__ = ("place", "turns")

    def __init__(self, message: Call, place: int, turns: Turns) -> None:
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
        *("_failures", "_flushing", "_form", "_next", "_open", "_ready", "_requests", "_tag", "_turns", "_way"),
        *("_wanted", "call"),
    )

    def __init__(self, turns: Turns, way: Way, call: Call, tag: int, requests: Sequence[Any]) -> None:
        form = way.handler.reply_form
        self.call = call
        """The message."""
        self._turns = turns
        self._way = way
        self._tag = tag
        self._requests = requests
        self._next = 0
        self._open = len(requests)
        self._ready: list[Answered] = []
        self._flushing = False
        self._wanted = bool(call.reply_to)
        self._form = ItemForm(form.content_type, form.encoding, call.correlation_id, None)
        self._failures = ItemForm(FAILURE_CONTENT_TYPE, JSON.encode(), call.correlation_id, None)

    def begin(self) -> bool:
        """Begin the next call; whether there are more behind it."""
        turns, place, deadline = self._turns, self._next, self.call.deadline
        if deadline is not None and turns.host.loop.time() >= deadline:  # as the broker drops calls that wait too long
            self.drop()
            return False
        self._next = place + 1
        call, request = CallInBatch(self.call, place, turns), self._requests[place]
        # As for a call that comes alone, not loop.create_task.
        turns.pool.running[call] = asyncio.Task(self._run(call, request), loop=turns.host.loop)
        turns.own += 1
        return self._next < len(self._requests)

    async def _run(self, call: CallInBatch, request: Any) -> None:
        call.enter()
        way, running = self._way, self._turns.pool.running
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
        self._turns.ended()

    def _failed(self, error: BaseException, call: CallInBatch) -> None:
        turns = self._turns
        if isinstance(error, asyncio.CancelledError) and turns.pool.gives_up and not call.cancelled:
            self._give_back()
            raise error
        failure = turns.host._ended(error, self._way.handler, call, 0)
        if failure is None:  # it was cancelled, and nobody waits for it
            self._end(1)
        else:
            self._answer((call.place, turns.host.failure(failure), True))

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
        host = self._turns.host
        if not self.call.reply_to:
            for _, body, failed in ready:
                if failed:
                    log.warning("a one-way request failed: %s", body.decode())
        if not self._wanted:
            return
        for first, bodies, failed in runs(ready, min(host.limits.body_bytes, ANSWER_BYTES)):
            if failed:
                host.post(self.call, self._failures.properties(first, 1), bodies[0])
            else:
                self._send(first, bodies)

    def _send(self, first: int, bodies: list[bytes]) -> None:
        """Send results in one message, or in more if that is too large."""
        host, limit = self._turns.host, self._turns.host.limits.body_bytes
        try:
            body = self._way.results.pack(bodies)
            problem = f"the reply has {len(body)} bytes, the worker's max_body_bytes is {limit}"
            if len(body) <= limit:
                host.post(self.call, self._form.properties(first, len(bodies)), body)
                return
        except MessageTooLarge as error:  # for those who decompress it
            problem = f"{self._way.handler.method.title} returned too much: {error}"
        if len(bodies) > 1:
            half = len(bodies) // 2
            self._send(first, bodies[:half])
            self._send(first + half, bodies[half:])
        else:
            failure = host.failure(RemoteError(problem, code="resource_exhausted", type="MessageTooLarge"))
            host.post(self.call, self._failures.properties(first, 1), failure)

    def _end(self, calls: int) -> None:
        """So many calls are over; behind the last, the message is acknowledged."""
        self._open -= calls
        if not self._open and self._tag:
            self._turns.settled(self._tag)
            self._turns.host.settle(self._tag)
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
            self._turns.host._give_back(tag)
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
