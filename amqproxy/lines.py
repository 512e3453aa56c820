"""Lines, one for each exchange: opened when they are first needed, once for all who wait.

A line is a channel to publish on. Each exchange has its own: a channel that the broker closes because its exchange is
gone takes no other messages with it. The first use after a loss opens a line again; whoever is idle does not notice.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from copy import copy
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from .backoff import STABLE_SECONDS, Spell
from .errors import AccessRefused, AMQProxyError, CallTimeout, Overloaded, TopologyConflict, Unroutable
from .forgotten import retrieve

if TYPE_CHECKING:
    from .connection import Connection
    from .lane import Lane
    from .link import Link

log = logging.getLogger("amqproxy.lines")

Made = TypeVar("Made")


class Shared(Generic[Made]):
    """Makes things by name, each once for all who ask meanwhile; who stops waiting leaves the making to the others."""

    def __init__(self) -> None:
        self._making: dict[str, asyncio.Task[Made]] = {}

    async def make(self, name: str, making: Callable[[], Coroutine[Any, Any, Made]]) -> Made:
        """What `making` makes, or what is being made under this name already."""
        task = self._making.get(name)
        if task is None:
            task = self._making[name] = asyncio.create_task(making())
            task.add_done_callback(lambda done: self._ended(name, done))
        return await asyncio.shield(task)

    def _ended(self, name: str, task: asyncio.Task[Made]) -> None:
        del self._making[name]
        if not task.cancelled():
            task.exception()  # those who still wait are told; asyncio need not report that nobody does


class Waiting:
    """Those who wait for a link: at most as many as may be in flight, each until its deadline."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._count = 0

    @asynccontextmanager
    async def until(self, deadline: float) -> AsyncIterator[None]:
        """Wait inside of this block: CallTimeout if that takes too long, Overloaded if too many wait already."""
        limit, began = self._connection.options.max_in_flight, self._connection.loop.time()
        if self._count >= limit:
            raise Overloaded(
                f"the call was not sent: as many as max_in_flight of connect() allows ({limit}) wait already, and the "
                f"connection is {self._connection.states.current}; wait for some, or raise it"
            )
        self._count += 1
        try:
            async with asyncio.timeout_at(deadline):
                yield
        except TimeoutError:
            text = f"it could not be sent within {max(0.0, deadline - began):.3g} s: {self._reason()}"
            raise CallTimeout(text, executed="no") from None
        finally:
            self._count -= 1

    def _reason(self) -> str:
        state = self._connection.states.current
        if state.name != "open":
            return f"the connection is {state}"
        return f"{state.host} took no more in that time: it or the network is slow, or it keeps closing the channel"


REFUSALS = (AccessRefused, TopologyConflict, Unroutable)
"""What the broker says for as long as nobody changes something there."""
FIRST_PAUSE_SECONDS = 0.1
LONGEST_PAUSE_SECONDS = 5.0
MAX_REFUSALS = 1024
"""So many are remembered at most."""


class Refusals:
    """What the broker refused of late. It is not asked for that again and again, however many calls want it.

    The second refusal in a row is an answer for a tenth of a second, the next for twice as long, up to five seconds.
    """

    def __init__(self) -> None:
        self._known: dict[str, tuple[AMQProxyError, int, float]] = {}

    def add(self, name: str, error: AMQProxyError, now: float) -> None:
        """The broker refused something under this name."""
        _, count, until = self._known.pop(name, (error, 0, now))
        if now - until > STABLE_SECONDS:
            count = 0
        if len(self._known) >= MAX_REFUSALS:
            del self._known[next(iter(self._known))]
        pause = min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2 ** min(count - 1, 16)) if count else 0.0
        # A copy has no traceback, whose frames would keep the channel and the link that the refusal came on.
        self._known[name] = copy(error), count + 1, now + pause

    def check(self, name: str, now: float) -> None:
        """Raise the refusal again if it was a moment ago."""
        if (known := self._known.get(name)) is not None and now < known[2]:
            raise copy(known[0])


FIRST_PATIENCE_SECONDS = 1.0
LONGEST_PATIENCE_SECONDS = 30.0
LEAVE_SECONDS = 1.0
"""How often it is looked whether a line that was retired is still of use."""


class Patience:
    """For how long what goes out on one channel may be refused before another is tried.

    When the leader of a quorum queue dies, RabbitMQ 3.10 refuses for ever what a channel publishes to the queue that
    spoke to it before there was another leader; what a new channel publishes is taken. A queue that is full refuses on
    each, hence twice the patience with each further channel, until nothing was refused for a while.
    """

    def __init__(self) -> None:
        self._seconds = FIRST_PATIENCE_SECONDS
        self._since: float | None = None
        self._last = 0.0

    def ends(self, now: float) -> bool:
        """Something was refused: True if that is enough."""
        if now - self._last > LONGEST_PATIENCE_SECONDS:
            self._seconds = FIRST_PATIENCE_SECONDS
        self._last = now
        if self._since is None:
            self._since = now
        if now - self._since < self._seconds:
            return False
        self._since, self._seconds = None, min(LONGEST_PATIENCE_SECONDS, 2 * self._seconds)
        return True


class Opened(Protocol):
    """A line, as far as those know it who only wait for it."""

    lane: Lane
    retired: bool

    @property
    def ready(self) -> bool:
        """True if something can go out right now."""

    @property
    def busy(self) -> bool:
        """True while it is waited for what comes on it."""

    async def leave(self) -> None:
        """Close its channel."""


OpenedLine = TypeVar("OpenedLine", bound=Opened)


class Lines(Generic[OpenedLine]):
    """The lines of one kind, by exchange."""

    def __init__(self, connection: Connection, open_line: Callable[[Link, str], Awaitable[OpenedLine]]) -> None:
        self._connection = connection
        self._open_line = open_line
        self._lines: dict[str, OpenedLine] = {}
        self._opening: Shared[OpenedLine] = Shared()
        self._waiting = Waiting(connection)
        self._refusals = Refusals()
        self._spells: dict[str, tuple[Spell, float]] = {}
        self._patience: dict[str, Patience] = {}
        self._leaving: dict[asyncio.Task[None], OpenedLine] = {}

    async def line(self, exchange: str, deadline: float) -> OpenedLine:
        """The line for an exchange, ready to send; waits for the link and for a full socket, until the deadline.

        CallTimeout if that takes too long, Overloaded if too many calls wait, and what opening the line raises.
        """
        line = self._lines.get(exchange)
        if line is not None and line.ready:
            return line
        async with self._waiting.until(deadline):
            while True:
                line = await self.opened(exchange)
                if line.ready:
                    return line
                await line.lane.wait_writable()

    def current(self, exchange: str) -> OpenedLine | None:
        """The line, if it is open."""
        line = self._lines.get(exchange)
        return line if line is not None and line.lane.open else None

    async def opened(self, exchange: str) -> OpenedLine:
        """The line, opened if it is not."""
        line = self._lines.get(exchange)
        if line is None or not line.lane.open:
            if self._connection.current_link is not None:
                self._refusals.check(exchange, self._connection.loop.time())
            line = await self._opening.make(exchange, lambda: self._open(exchange))
        return line

    async def _open(self, exchange: str) -> OpenedLine:
        if (known := self._spells.get(exchange)) is not None and (pause := known[0].pause):
            await asyncio.sleep(pause)
        try:
            what = f"opening a channel to {exchange or 'the default'} exchange"
            line = await self._connection.on_link(lambda link: self._open_line(link, exchange), what)
        except REFUSALS as error:
            self._refusals.add(exchange, error, self._connection.loop.time())
            raise
        self._lines[exchange] = line
        if known is not None:
            self._spells[exchange] = known[0], self._connection.loop.time()
        return line

    def lost(self, exchange: str, error: Exception) -> None:
        """The broker ended a line: if it does so again and again, another is opened only after a while."""
        link, now = self._connection.current_link, self._connection.loop.time()
        if link is None or link.closed.done():
            return
        if isinstance(error, AccessRefused):  # other reasons are told better when it is opened
            self._refusals.add(exchange, error, now)
        spell, began = self._spells.get(exchange) or (Spell(), now)
        spell.lasted(now - began)
        self._spells[exchange] = spell, now

    def refused(self, exchange: str, line: OpenedLine) -> None:
        """The broker refused what went out on a line: if it has done so for a while, the next goes out on another."""
        if (patience := self._patience.get(exchange)) is None:
            patience = self._patience[exchange] = Patience()
        if line.retired or not patience.ends(self._connection.loop.time()):
            return
        text = (
            "%s has refused for a while what is sent to %s, as it does when a queue is full or has no leader (the "
            "errors of the callers name the queue); the next is sent on another channel, in case this one is to blame"
        )
        where = f"exchange {exchange!r}" if exchange else "the default exchange"
        log.warning(text, self._connection.states.current.host or self._connection.url.address, where)
        line.retired = True
        line.lane.retire()
        self._lines.pop(exchange, None)
        task = self._connection.loop.create_task(self._leave(line))
        self._leaving[task] = line
        task.add_done_callback(self._left)

    async def _leave(self, line: OpenedLine) -> None:
        while line.busy:  # noqa: ASYNC110  # calls are to pay nothing for it
            await asyncio.sleep(LEAVE_SECONDS)
        await line.leave()

    def _left(self, task: asyncio.Task[None]) -> None:
        self._leaving.pop(task, None)
        retrieve(task)

    def clear(self) -> list[OpenedLine]:
        """Let go of all lines: who needs one opens it anew."""
        lines = [*self._lines.values(), *self._leaving.values()]
        self._lines.clear()
        for task in self._leaving:
            task.cancel()
        return lines
