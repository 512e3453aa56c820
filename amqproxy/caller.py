"""The calling half of a connection: requests go out, answers find their callers.

It has a line for the default exchange, which also consumes the replies, and one for each other exchange in use
(lines.py).
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
from base64 import urlsafe_b64encode
from collections.abc import Callable
from typing import TYPE_CHECKING

from .addresses import WORKERS
from .errors import (
    AMQProxyError,
    BadReply,
    ConnectionLost,
    Unroutable,
)
from .fields import Malformed
from .line import Line, Returned, no_exchange
from .lines import Lines
from .properties import Properties, routing
from .retry import RetryBudget
from .shown import shown
from .topology import Exchange, Queue
from .wire import (
    ALIVE_CLASS,
    CANCEL_CLASS,
    CREDIT_CLASS,
    TIMEOUT_HEADER,
    TRANSIENT,
    milliseconds,
    pool_exchange,
)

if TYPE_CHECKING:
    from .connection import Connection
    from .link import Link, OpenLane

log = logging.getLogger("amqproxy.caller")

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

        opened = await self._open_lane(link, line, closed)
        if not first.lane.open:  # and with it the queue is gone where the answers were to come
            await opened.close()
            return await self._open_further(link, exchange, kind)
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
