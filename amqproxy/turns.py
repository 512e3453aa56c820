"""Who is next in a worker that has more calls to run than it has room for.

The prefetch counts a message once, whatever is in it. So a worker begins no more calls of a batch than it has room for,
and while any of them run, every message that comes takes its turn: one call of each in a circle, so that a single call
waits for the next free place and not for the end of a batch.

The prefetch of a new channel does not count either what still runs of the one before, whose requests the broker gives
out again; nor does that of a new consumer count what came from a queue that was deleted. So while any of that runs,
every message takes its turn as well.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable

from .batching import Batch, CallInBatch, Host, Way
from .control import Key
from .deduplication import fingerprint
from .errors import ContractError
from .handler import Call, Handler, not_begun, refusal
from .replies import Pool
from .wire import BATCH_HEADER, CREDIT_HEADER, ReplyForm, calls_of

_BATCH = BATCH_HEADER.encode()


class Turns:
    """Whose turn it is in one session."""

    def __init__(self, host: Host, pool: Pool) -> None:
        self.waiting: deque[Batch | Single] = deque()
        """Messages with calls that have not begun."""
        self.own = 0
        """Tasks that were begun here and have not ended; none waits without one."""
        self.host = host
        self.pool = pool
        self._batches: dict[int, Batch] = {}
        self._ways: dict[ReplyForm, Way] = {}
        self._watched = 0
        self._room = self._most = pool.options.concurrency
        self._before = set[asyncio.Task[None]]()

    def follow(self, tasks: Iterable[asyncio.Task[None]], most: int) -> None:
        """So much runs of earlier consumers: until it has ended, no calls are begun that make it more than `most`."""
        further = set(tasks) - self._before
        self._before |= further
        self.own += len(further)
        self._most = most
        self._make_room()
        for task in further:
            task.add_done_callback(self._ended_before)

    def _make_room(self) -> None:
        """Calls that other workers may run by now as well take no place, as long as they are not many."""
        self._room = min(self.pool.options.concurrency + len(self._before), self._most)

    def _ended_before(self, task: asyncio.Task[None]) -> None:
        self._before.discard(task)
        self._make_room()
        self.ended()

    def delivered(self, handler: Handler, call: Call, tag: int, body: bytes) -> None:
        """A message came that holds several calls, or while calls of such a one run."""
        try:
            calls = self._calls(handler, call)
            requests = self._way(handler).read(body, calls) if calls > 1 else ()
        except Exception as error:  # see Session.delivered
            request = call.correlation_id, call.reply_to, call._header, body
            self.host.replies.fail(tag, call.redelivered, not_begun(error, call.service, call._header), *request)
            return
        if calls > 1:
            if handler.deduplicates:
                call.fingerprint = fingerprint(body)
            batch = self._batches[tag] = Batch(self, self._way(handler), call, tag, requests)
            self.waiting.append(batch)
        else:
            self.waiting.append(Single(self, handler, call, tag, body))
        self.begin()

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
        if calls > 1 and (handler.streams or handler.method.options.at_most_once):
            why = "streams" if handler.streams else "runs at most once"
            raise refusal("unimplemented", f"{title} {why}, and its calls cannot share a message")
        return calls

    def _way(self, handler: Handler) -> Way:
        way = self._ways.get(handler.reply_form)
        if way is None:
            try:
                way = self._ways[handler.reply_form] = Way(handler, *self.host.joined(handler))
            except ContractError as error:  # of a type that travels alone, and not in a list
                raise refusal("unimplemented", str(error)) from error
        return way

    def begin(self) -> None:
        """Begin as many calls as there is room for, at least one."""
        waiting, running, room = self.waiting, self.pool.running, self._room
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
            self.begin()

    def _ended_elsewhere(self, task: asyncio.Task[None]) -> None:
        self._watched -= 1
        self.begin()

    def settled(self, tag: int) -> None:
        """A batch is over."""
        self._batches.pop(tag, None)

    def cancel(self, key: Key) -> bool:
        """Begin no more of a message, if it is here."""
        found = [message for message in {*self.waiting, *self._batches.values()} if key.means(message.call)]
        for message in found:
            if message in self.waiting:
                self.waiting.remove(message)
            message.drop()
        return bool(found)

    def lost(self) -> None:
        """The channel is gone: the broker gives what is not acknowledged to another worker."""
        self.waiting.clear()
        for task in self._before:
            task.remove_done_callback(self._ended_before)
        for batch in list(self._batches.values()):
            batch.drop()


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
        if self.call.is_over:  # as the broker drops calls that wait too long
            self.drop()
            return False
        turns.own += 1
        turns.host.begin(self._handler, self.call, self._tag, self._body).add_done_callback(lambda _: turns.ended())
        return False

    def drop(self) -> None:
        """Nobody waits for it any more."""
        self._turns.host.replies.settle(self._tag)
