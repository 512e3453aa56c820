"""The calling half of a connection: requests go out, answers find their callers.

A `Line` is one channel that requests are published on, with the calls that are out on it. There is one for the default
exchange, which also consumes the replies, and one for each other exchange in use (lines.py).
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
from base64 import urlsafe_b64encode
from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar, Protocol

from .addresses import WORKERS
from .answer import Answer
from .calls import Calls
from .errors import (
    AccessRefused,
    AMQProxyError,
    BadReply,
    ConnectionLost,
    MessageTooLarge,
    Overloaded,
    TopologyConflict,
    Unroutable,
)
from .fields import Malformed
from .frames import ContentSink
from .lines import Lines
from .properties import Properties, routing
from .retry import RetryBudget
from .shown import shown
from .topology import Exchange, NotFound, Queue
from .wire import (
    ALIVE_CLASS,
    CANCEL_CLASS,
    CREDIT_CLASS,
    TIMEOUT_HEADER,
    TRANSIENT,
    RequestForm,
    milliseconds,
    pool_exchange,
)

if TYPE_CHECKING:
    from .connection import Connection
    from .lane import Lane
    from .link import Link, OpenLane

log = logging.getLogger("amqproxy.caller")

COUNTER_LENGTH = 10
"""A correlation id is a prefix, new for each line, and a counter of so many digits."""
SECRET_LENGTH = 16
"""The length of a prefix that nobody else can guess."""
FIRST_NUMBER = 10_000_000
"""The prefix of the first line whose ids are to be numbers: eight digits, so that an id fits into 64 bits."""

MAX_UNTOLD = 10_000
"""So many cancelled calls may wait for their pool to be told; of more than that it is not."""
DEAF_SECONDS = 10.0
"""For so long a pool is told nothing that has no exchange."""
TELL_SECONDS = 1.0
"""How long that may take."""
CENSUS_SECONDS = 0.5
"""How long a call that timed out may look at its queue, to tell its caller how far it got."""


class Expired(Exception):
    """A call's time is over; becomes a CallTimeout where the call is known."""


class Returned(Exception):
    """The broker gave a request back; becomes an Unroutable where the call is known."""


class Refused(Exception):
    """The broker refused a message that it was to confirm; becomes an Overloaded where the message is known."""


class Listener(Protocol):
    """A call that is told all that comes for it, until it leaves the line's `conversations`."""

    @property
    def name(self) -> str:
        """Which method is called."""

    def heard(self, content_type: bytes | None, encoding: bytes | None, header: bytes, body: bytes) -> None:
        """A message on its correlation id came."""

    def failed(self, error: Exception) -> None:
        """Returned, ConnectionLost, AccessRefused or BadReply: it cannot go on."""


def no_exchange(link: Link, exchange: str) -> Unroutable:
    """The error of what is for an exchange that there is not."""
    return Unroutable(
        f"there is no exchange {exchange!r} in the virtual host {link.url.virtual_host!r} of {link.url.address}; "
        "declare it, or give another (exchange=…)"
    )


class Line:
    """One channel to publish requests on, and the calls that are out on it."""

    __slots__ = (
        *("_counter", "_format", "_loop", "_max_in_flight", "_prefix", "_timer", "_timer_at"),
        *("calls", "channel", "conversations", "lane", "on_refused", "reply_to", "retired", "unique"),
    )

    confirms: ClassVar[bool] = False
    """Whether the broker confirms what goes out."""

    def __init__(self, reply_to: bytes, max_in_flight: int, prefix: bytes, unique: bytes) -> None:
        self.lane: Lane = None  # type: ignore[assignment]  # set before the line is handed out
        self.channel: OpenLane = None  # type: ignore[assignment]  # as the lane
        self.on_refused: Callable[[], None] = lambda: None
        """Told when the broker refused what went out, once for all that it refused at once."""
        self.retired = False
        """True when nothing more is to go out; what is out comes to its end."""
        self.reply_to = reply_to
        self.calls: Calls[Answer] = Calls()
        self.conversations: dict[bytes, Listener] = {}
        self._loop = asyncio.get_running_loop()
        self._prefix = prefix
        self.unique = unique
        """What makes a message id of a correlation id that others may have as well."""
        self._format = b"%b%010d" if prefix.isdigit() else b"%b%010x"
        self._counter = 0
        self._max_in_flight = max_in_flight
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = float("inf")

    @property
    def prefix(self) -> bytes:
        """What all correlation ids of this line begin with."""
        return self._prefix

    @property
    def id_length(self) -> int:
        """The length of all of them."""
        return len(self._prefix) + COUNTER_LENGTH

    @property
    def message_id_length(self) -> int:
        """The length of all message ids."""
        return len(self.unique) + self.id_length

    @property
    def ready(self) -> bool:
        """True if a request can go out right now."""
        return self.lane.open and self.lane.writable

    @property
    def busy(self) -> bool:
        """True while calls are out."""
        return bool(self.calls) or bool(self.conversations)

    async def leave(self) -> None:
        """Close the channel."""
        await self.channel.close()

    def send(
        self, destination: bytes, form: RequestForm, body: bytes, deadline: float, message_id: bytes | None = None
    ) -> tuple[bytes, Answer]:
        """Publish one request; its correlation id, and its answer to be awaited.

        The answer fails with Expired, Returned, ConnectionLost, AccessRefused or BadReply. Whoever stops waiting for it
        earlier must call `calls.cancelled`.
        """
        calls = self.calls
        pending = len(calls)
        if pending >= self._max_in_flight:
            raise self._overloaded(_name(form, self._format % (self._prefix, 0)))
        self._counter += 1
        id = self._format % (self._prefix, self._counter)
        try:
            self.lane.publish(destination, form.properties(id, message_id or self.unique + id), body, alone=not pending)
        except ValueError as error:
            self._counter -= 1  # where the broker counts as well, it saw none
            raise MessageTooLarge(f"{_name(form, id)}: the headers are too large: {error}") from None
        answer = Answer(self._loop)
        calls.sent(id, answer, deadline)
        if deadline < self._timer_at:
            self._set_timer()
        return id, answer

    def _overloaded(self, name: str) -> Overloaded:
        return Overloaded(
            f"{name} was not sent: as many calls as max_in_flight of connect() allows ({self._max_in_flight}) are in "
            "flight on its channel; wait for some, or raise it"
        )

    def converse(
        self, destination: bytes, properties: Callable[[bytes, bytes], bytes], body: bytes, listener: Listener
    ) -> bytes:
        """Publish a request whose answers `listener` hears: its correlation id.

        `properties` makes those of the request of its two ids. The listener looks after its time itself, and leaves
        `conversations` when it has ended.
        """
        pending = len(self.calls) + len(self.conversations)
        if pending >= self._max_in_flight:
            raise self._overloaded(listener.name)
        self._counter += 1
        id = self._format % (self._prefix, self._counter)
        try:
            self.lane.publish(destination, properties(id, self.unique + id), body, alone=not pending)
        except ValueError as error:
            self._counter -= 1  # as in `send`
            raise MessageTooLarge(f"{listener.name}: the headers are too large: {error}") from None
        self.conversations[id] = listener
        return id

    def tell(self, exchange: str, properties: bytes) -> None:
        """Publish a message without a body that nobody answers."""
        self._counter += 1  # see `lose`: the last call is not the last message any more
        self.lane.publish(self.lane.destination(exchange.encode(), b""), properties, b"")

    def sink(self, caller: ContentSink) -> ContentSink:
        """Whom its channel tells what comes."""
        return caller

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        at = self.calls.next_expiry()
        if at is None:
            self._timer, self._timer_at = None, float("inf")
        else:
            self._timer, self._timer_at = self._loop.call_at(at, self._expire), at

    def _expire(self) -> None:
        for answer in self.calls.expire(self._loop.time()):
            answer.fail(Expired())
        self._set_timer()

    def fail(self, id: bytes, error: Exception) -> None:
        """Let one call fail."""
        if (listener := self.conversations.get(id)) is not None:
            listener.failed(error)
            return
        answer = self.calls.replied(id)
        if answer is not None:
            answer.fail(error)

    def lose(self, error: Exception) -> None:
        """The channel or the replies are gone: let all calls fail.

        With AccessRefused if that is why: sent again, they would be refused again. If the exchange is gone, the last
        message found none: the broker ended the channel at that one or at one before it, and took nothing behind it.
        """
        self.lane.close()
        if isinstance(error, NotFound):
            self.fail(self._format % (self._prefix, self._counter), Returned(str(error)))
        for answer in self.calls.lost():
            answer.fail(_lost(error))
        for listener in list(self.conversations.values()):
            listener.failed(_lost(error))
        self._set_timer()


def _name(form: RequestForm, id: bytes) -> str:
    """What is called by requests of a form."""
    return shown(routing(form.properties(id, b""))[0] or b"a call")


def _lost(error: Exception) -> AccessRefused | ConnectionLost:
    """What a call fails with that was out: it may have run, whatever ended its channel."""
    if not isinstance(error, (AccessRefused, TopologyConflict)):
        return ConnectionLost(str(error))
    text = f"the broker closed its channel, because of this call or of another on it: {error}"
    if not isinstance(error, AccessRefused):
        return ConnectionLost(text)
    refused = AccessRefused(text)
    refused.executed = "maybe"
    return refused


class Caller:
    """All lines of one connection, and the queue where their answers arrive."""

    settles = False  # see signed.Addressee
    receiver = b""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self._lines = Lines(connection, self._open)
        self._kinds: dict[type[Line], Lines[Line]] = {}
        self._by_prefix: dict[bytes, Line] = {}
        self._numbers = itertools.count(FIRST_NUMBER) if connection.options.correlation_ids == "counter" else None
        self._prefix_length = SECRET_LENGTH if self._numbers is None else len(str(FIRST_NUMBER))
        self._untold: dict[str, list[bytes]] = {}
        self._deaf: dict[str, float] = {}
        self._telling: set[asyncio.Task[None]] = set()
        self._channels: set[OpenLane] = set()
        self._closing: set[asyncio.Task[None]] = set()
        self._census: dict[str, asyncio.Task[tuple[int, int] | None]] = {}
        self.retry_budget = RetryBudget()
        """Of all proxies whose `retry` has none of its own."""
        self.strays = 0
        """Messages in the reply queue that answer no call of ours."""

    async def line(self, exchange: str, deadline: float) -> Line:
        """The line for an exchange, ready to send; waits for the link and for a full socket, until the deadline.

        CallTimeout if that takes too long, Unroutable if there is no such exchange, Overloaded if too many calls wait.
        """
        return await self._lines.line(exchange, deadline)

    async def further_line(self, kind: type[Line], exchange: str, deadline: float) -> Line:
        """A line of another kind, on a channel of its own; as `line` otherwise."""
        lines = self._kinds.get(kind)
        if lines is None:
            lines = self._kinds[kind] = Lines(
                self.connection, lambda link, exchange: self._open_further(link, exchange, kind)
            )
        return await lines.line(exchange, deadline)

    async def _open(self, link: Link, exchange: str) -> Line:
        return await (self._open_further(link, exchange) if exchange else self._open_first(link))

    async def _open_first(self, link: Link) -> Line:
        """The line of the default exchange, whose channel also consumes the replies of all lines."""
        queue = Queue("", durable=False, exclusive=True, auto_delete=True)
        name = await link.declare_queue(queue)
        line = self._line(name.encode())

        def closed(error: Exception) -> None:
            if self._by_prefix.get(line.prefix) is line:  # else others are in use by now
                self._lines.lost("", error)
                self._lose_all(error)

        opened = await self._open_lane(link, line, closed)
        await opened.consume(name, self._replies_lost, no_ack=True)
        return self._register(line)

    async def _open_further(self, link: Link, exchange: str, kind: type[Line] = Line) -> Line:
        first = await self._lines.opened("")
        if exchange and not await link.exchange_exists(Exchange(exchange)):
            raise no_exchange(link, exchange)
        line, lines = self._line(first.reply_to, kind), self._kinds.get(kind, self._lines)

        def closed(error: Exception) -> None:
            if self._by_prefix.pop(line.prefix, None) is line and not line.retired:
                lines.lost(exchange, error)
            line.lose(error)

        await self._open_lane(link, line, closed)
        line.on_refused = lambda: lines.refused(exchange, line)
        return self._register(line)

    def _line(self, reply_to: bytes, kind: type[Line] = Line) -> Line:
        secret = urlsafe_b64encode(os.urandom(12))  # as `secrets` does, without importing all of hashlib
        limit = self.connection.options.max_in_flight
        if self._numbers is None:
            return kind(reply_to, limit, secret, b"")
        return kind(reply_to, limit, b"%d" % next(self._numbers), secret)

    async def _open_lane(self, link: Link, line: Line, closed: Callable[[Exception], None]) -> OpenLane:
        def gone(error: Exception) -> None:
            self._channels.discard(opened)
            closed(error)

        opened = await link.open_lane(line.sink(self), gone, confirms=line.confirms)
        self._channels.add(opened)
        line.lane, line.channel = opened.lane, opened
        return opened

    def _register(self, line: Line) -> Line:
        self._by_prefix[line.prefix] = line
        return line

    def _replies_lost(self) -> None:
        """The reply queue was deleted: its lines are of no use any more, and their channels are closed."""
        gone = ConnectionLost("the reply queue was deleted")
        self._lines.lost("", gone)
        self._lose_all(gone)
        for opened in self._channels:
            task = self.connection.loop.create_task(opened.close())
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)

    def _lose_all(self, error: Exception) -> None:
        self._by_prefix.clear()
        for lines in (self._lines, *self._kinds.values()):
            for line in lines.clear():
                line.lose(error)

    def cancel(self, line: Line, id: bytes, pool: str, seconds: float, worker: bytes = b"") -> None:
        """Tell the worker of a call, or all of the pool if it is not known, that nobody waits for the call any more.

        Who has not seen the call remembers that for so many seconds. There is no answer, and nothing is raised.
        """
        properties = Properties(
            content_type=CANCEL_CLASS,
            headers={TIMEOUT_HEADER: milliseconds(seconds)},
            delivery_mode=TRANSIENT,
            correlation_id=id,
            reply_to=line.reply_to,
        ).encode()
        if not worker:
            self._tell_pool(pool_exchange(pool), properties)
        elif line.lane.open:
            line.lane.publish(line.lane.destination(b"", worker), properties, b"")

    def _disown(self, line: Line, header: bytes) -> None:
        """A worker still waits for the caller of a stream: that it was cancelled did not reach it."""
        try:
            properties = Properties.decode(header)
        except Malformed:
            return
        known = properties.reply_to and WORKERS.include(properties.reply_to)
        if properties.correlation_id and known and not line.confirms:  # which counts what goes out
            self.cancel(line, properties.correlation_id, "", 0.0, properties.reply_to or b"")

    def _tell_pool(self, exchange: str, properties: bytes) -> None:
        """Publish a message without a body to all workers of a pool, once there is a line to do it on."""
        line = self._lines.current(exchange)
        if line is not None:
            line.tell(exchange, properties)
            return
        if self._deaf.get(exchange, 0.0) > self.connection.loop.time():
            return
        waiting = self._untold.setdefault(exchange, [])
        if len(waiting) < MAX_UNTOLD:
            waiting.append(properties)
        if len(waiting) == 1:
            task = self.connection.loop.create_task(self._tell_all(exchange))
            self._telling.add(task)
            task.add_done_callback(self._telling.discard)

    async def _tell_all(self, exchange: str) -> None:
        try:
            await self.line(exchange, self.connection.loop.time() + TELL_SECONDS)
        except AMQProxyError as error:
            log.debug("nobody is told of what was cancelled: %s", error)
            self._untold.pop(exchange)
            if isinstance(error, Unroutable):  # a pool of workers that know nothing of this: to ask each time is dear
                self._deaf[exchange] = self.connection.loop.time() + DEAF_SECONDS
            return
        self._deaf.pop(exchange, None)
        for properties in self._untold.pop(exchange):
            self._tell_pool(exchange, properties)

    async def finish(self) -> None:
        """Return when all workers were told what was cancelled, or soon."""
        if self._telling:
            await asyncio.wait(self._telling, timeout=TELL_SECONDS)
        for task in self._telling:
            task.cancel()

    def close(self, error: Exception) -> None:
        """Let every call that is still out fail."""
        self._lose_all(error)

    # What the lanes tell (frames.ContentSink)

    def delivered(self, tag: int, redelivered: bool, header: bytes, body: bytes) -> None:
        """An answer came."""
        try:
            content_type, encoding, id, _ = routing(header)
        except Malformed as error:
            self._stray(f"its properties do not decode: {error}")
            return
        line = self._by_prefix.get(id[: self._prefix_length]) if id is not None else None
        if line is None:
            self._unknown(id)
        elif line.conversations and (listener := line.conversations.get(id)) is not None:  # type: ignore[arg-type]
            listener.heard(content_type, encoding, header, body)
        elif (answer := line.calls.replied(id)) is not None:  # type: ignore[arg-type]  # as above
            answer.give((content_type, encoding, body))
        elif content_type in (ALIVE_CLASS, CREDIT_CLASS):
            self._disown(line, header)

    def is_for_me(self, destination: str) -> bool:
        """What was sent to our reply queue; asked by the lane of a connection that signs, as is the following."""
        return any(line.reply_to == destination.encode() for line in self._by_prefix.values())

    def not_signed(self, tag: int, header: bytes, reason: str) -> None:
        """An answer that is not taken: the call goes on waiting for one that is."""
        self._stray(reason)

    def returned(self, code: int, text: bytes, routing_key: bytes, header: bytes, body: bytes) -> None:
        """A request came back: no queue takes it."""
        self._fail(header, Returned(f"{code} {text.decode(errors='replace')}"))

    def too_large(self, tag: int, header: bytes, size: int) -> None:
        """An answer is larger than we take."""
        limit = self.connection.limits.body_bytes
        self._fail(header, BadReply(f"the reply has {size} bytes, max_body_bytes is {limit}: raise that of connect()"))

    def confirmed(self, tag: int, multiple: bool, accepted: bool) -> None:
        """Calls are not confirmed: their answer says it all."""

    def _fail(self, header: bytes, error: Exception) -> None:
        try:
            id = routing(header)[2] or b""
        except Malformed:
            id = b""
        line = self._by_prefix.get(id[: self._prefix_length])
        if line is not None:
            line.fail(id, error)

    def _unknown(self, id: bytes | None) -> None:
        if id is None:
            self._stray("it has no correlation id, and so answers no call")
            return
        told = f"its correlation id '{shown(id[:40])}' is not of a channel here"
        self._stray(f"{told}: it answers a call whose channel was closed since, or comes from a stranger")

    def _stray(self, reason: str) -> None:
        self.strays += 1
        log.warning("dropped a message from the reply queue: %s", shown(reason))

    async def census(self, queue: str, seconds: float = CENSUS_SECONDS) -> tuple[int, int] | None:
        """Messages and consumers of a queue, none of either if it does not exist; None if that is not known so soon.

        Who asks for the same at once shares one look.
        """
        task = self._census.get(queue)
        link = self.connection.current_link
        if task is None and link is not None:
            task = self._census[queue] = asyncio.ensure_future(link.queue_counts(queue))
            task.add_done_callback(lambda done: self._counted(queue, done))
        if task is None:
            return None
        await asyncio.wait((task,), timeout=seconds)
        if not task.done() or task.cancelled() or task.exception() is not None:
            return None
        return task.result() or (0, 0)

    def _counted(self, queue: str, task: asyncio.Task[tuple[int, int] | None]) -> None:
        del self._census[queue]
        if not task.cancelled():
            task.exception()  # who waited may have gone, and asyncio need not report that
