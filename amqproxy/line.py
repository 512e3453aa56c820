"""A line: one channel that requests are published on, with the calls that are out on it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar, Protocol

from .answer import Answer
from .calls import Calls
from .errors import AccessRefused, ConnectionLost, MessageTooLarge, Overloaded, TopologyConflict, Unroutable
from .frames import ContentSink
from .properties import routing
from .shown import shown
from .topology import NotFound
from .wire import RequestForm

if TYPE_CHECKING:
    from .lane import Lane
    from .link import Link, OpenLane

COUNTER_LENGTH = 10
"""A correlation id is a prefix, new for each line, and a counter of so many digits."""


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
