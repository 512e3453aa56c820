"""A worker's own queue: what is meant for this worker, or for every worker of its pool."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple, Protocol

from .backoff import Spell, persist
from .errors import AccessRefused, AMQProxyError
from .fields import FieldTable, Malformed
from .properties import Properties, return_address, routing
from .shown import shown, shown_message
from .topology import Queue
from .wire import (
    CANCEL_CLASS,
    CREDIT_CLASS,
    END_HEADER,
    PING_CLASS,
    SEQUENCE_HEADER,
    TIMEOUT_HEADER,
    whole_number,
)

if TYPE_CHECKING:
    from .handler import Call
    from .link import Link, OpenLane

log = logging.getLogger("amqproxy.control")

MAX_ABANDONED = 10_000
"""Calls that were cancelled before they came are remembered up to this number."""
LONGEST_MEMORY = 24 * 3600.0
"""Seconds for which one of them is remembered at most."""


class Key(NamedTuple):
    """A call as its caller knows it. The correlation-id alone may be another caller's, too."""

    reply_to: bytes | None
    """None if whoever sent this did not say whose call it is."""
    correlation_id: bytes | None

    @classmethod
    def of(cls, call: Call) -> Key:
        """The key of a call that came."""
        return cls(call.reply_to, call.correlation_id)

    def means(self, call: Call | Key) -> bool:
        """Whether it may be this call; a key that does not say whose call it is means any of its correlation-id."""
        return self.correlation_id == call.correlation_id and self.reply_to in (None, call.reply_to)


class Abandoned:
    """Calls that were cancelled and may still come: each is forgotten when it has come, or when its time is over."""

    def __init__(self) -> None:
        self.until: dict[Key, float] = {}
        """Each of them, with the moment until which it is remembered."""

    def add(self, key: Key, now: float, seconds: float) -> None:
        """Remember a call; the oldest is forgotten when there are too many."""
        if len(self.until) >= MAX_ABANDONED:
            del self.until[next(iter(self.until))]
        self.until[key] = now + seconds

    def take(self, key: Key, now: float) -> bool:
        """Whether the call that came now was cancelled before, by its caller or by somebody who did not say whose."""
        return (self.until.pop(key, 0.0) or self.until.pop(Key(None, key.correlation_id), 0.0)) > now

    def forget(self, now: float) -> float | None:
        """Forget those whose time is over; the moment at which the next one's will be."""
        for key in [key for key, until in self.until.items() if until <= now]:
            del self.until[key]
        return min(self.until.values(), default=None)


class Clerk(Protocol):
    """Whom the desk tells what came, which is a worker's session."""

    def asked(
        self,
        content_type: bytes | None,
        encoding: bytes | None,
        correlation_id: bytes | None,
        reply_to: bytes | None,
        header: bytes,
        body: bytes,
    ) -> None:
        """A request for all workers."""

    def cancel(self, key: Key, seconds: float) -> None:
        """A call that nobody waits for any more; one that has not come may come within so many seconds."""

    def feed(self, key: Key, content_type: bytes | None, headers: FieldTable, body: bytes) -> None:
        """A message for a stream that runs."""

    def pong(self, correlation_id: bytes | None, reply_to: bytes | None) -> None:
        """Somebody asks who is here."""

    def too_much(self, correlation_id: bytes | None, reply_to: bytes | None, size: int) -> None:
        """A request for all workers, or whatever it was, has so many bytes, and its body was not stored."""

    def unreachable(self) -> None:
        """The queue is gone, and with it the way to this worker."""


class Desk:
    """The worker's own queue while a session lasts, and a `ContentSink` for what comes there."""

    settles = False  # see signed.Addressee

    def __init__(self, session: Clerk, link: Link, whose: str) -> None:
        """`whose` it is, for the log: the worker, and its service."""
        self.address = b""
        """The queue's name."""
        self._exchange = ""
        self._session = session
        self._link = link
        self._whose = whose
        self._opened: OpenLane | None = None
        self._closed = False
        self._opening: asyncio.Task[None] | None = None
        self._began = 0.0
        self._spell = Spell()

    async def open(self, exchange: str) -> None:
        """Declare the queue, bind it to the pool's exchange, and consume it."""
        link, self._exchange = self._link, exchange
        lost: asyncio.Future[Exception] = link.loop.create_future()

        def lose(error: Exception) -> None:
            if not lost.done():
                lost.set_result(error)

        opened = await link.open_lane(self, lose)
        try:
            name = await link.declare_own_queue(Queue("", durable=False, exclusive=True, auto_delete=True), exchange)
            self.address = name.encode()
            gone = AMQProxyError(f"the worker's own queue {name} was deleted")
            await opened.consume(name, lambda: lose(gone), no_ack=True)
        except BaseException:
            await opened.close()
            raise
        self._opened, self._began = opened, link.loop.time()
        lost.add_done_callback(lambda lost: self._lost(opened, exchange, lost.result()))

    def _lost(self, opened: OpenLane, exchange: str, error: Exception) -> None:
        """The queue or the channel went: have others, unless the link went with it, or this worker has ended."""
        if self._closed or opened is not self._opened or self._link.closed.done():
            return
        log.warning("%s: its own queue is made again: %s", self._whose, error)
        self._opened = None
        self._session.unreachable()
        self._spell.lasted(self._link.loop.time() - self._began)
        self._opening = asyncio.ensure_future(self._open_again(opened, exchange))

    async def _open_again(self, lost: OpenLane, exchange: str) -> None:
        await lost.close()
        await asyncio.sleep(self._spell.pause)  # something may end each channel or queue of ours
        try:
            await persist(lambda: self.open(exchange), self._may_mend, self._failed)
        except AMQProxyError as error:
            if not self._link.closed.done():
                text = "%s takes no broadcasts, cancellations and streams any more, while other calls go on: %s"
                log.error(text + "; grant what is refused, and restart it", self._whose, error)

    def _may_mend(self, error: BaseException) -> bool:
        """Whether another try may do better: not on a link that is gone, nor with a permission that is refused."""
        mendable = isinstance(error, AMQProxyError) and not isinstance(error, AccessRefused)
        return mendable and not self._link.closed.done()

    def _failed(self, error: BaseException, attempt: int, pause: float) -> None:
        log.warning("%s: its own queue cannot be made: %s; next try in %.1f s", self._whose, error, pause)

    async def close(self) -> None:
        """Delete the queue."""
        self._closed = True
        if self._opening is not None:
            self._opening.cancel()
            await asyncio.wait((self._opening,))
        if self._opened is not None:
            await self._opened.close()

    # What the lane tells (frames.ContentSink)

    def delivered(self, tag: int, redelivered: bool, header: bytes, body: bytes) -> None:
        """A message for this worker, or for all."""
        try:
            content_type, encoding, correlation_id, reply_to = routing(header)
            if content_type == CANCEL_CLASS:
                self._cancel(Key(reply_to, correlation_id), Properties.decode(header))
            elif content_type == CREDIT_CLASS or (_may_be_part(header) and _is_part(header)):
                self._session.feed(Key(reply_to, correlation_id), content_type, return_address(header)[1], body)
            elif content_type == PING_CLASS:
                self._session.pong(correlation_id, reply_to)
            else:
                self._session.asked(content_type, encoding, correlation_id, reply_to, header, body)
        except (Malformed, ValueError) as error:
            log.warning("%s: dropped %s: %s", self._whose, shown_message(header), shown(str(error)))
        except Exception:  # which would cost the whole connection, with all that is on it
            log.exception("%s: dropped %s", self._whose, shown_message(header))

    def _cancel(self, key: Key, properties: Properties) -> None:
        if key.correlation_id is None:
            raise ValueError("a Cancel without a correlation-id names no call")
        try:
            seconds = whole_number((properties.headers or {}).get(TIMEOUT_HEADER), TIMEOUT_HEADER) / 1000
        except ValueError:
            seconds = 30.0  # as long as calls last whose callers say nothing
        self._session.cancel(key, min(seconds, LONGEST_MEMORY))

    # What the lane of a connection that signs asks and tells besides (signed.Addressee)

    @property
    def receiver(self) -> bytes:
        """The worker, whichever queue it has: others on this connection are told what all are told."""
        return self._whose.encode()

    def is_for_me(self, destination: str) -> bool:
        """What was sent to this worker, or to all of its pool."""
        return destination in (self.address.decode(), self._exchange)

    def not_signed(self, tag: int, header: bytes, reason: str) -> None:
        """A message that is not taken; who sent it to all workers is not told by all of them."""

    def returned(self, code: int, text: bytes, routing_key: bytes, header: bytes, body: bytes) -> None:
        """Nothing is published on this channel."""

    def confirmed(self, tag: int, multiple: bool, accepted: bool) -> None:
        """Nothing is published on this channel."""

    def too_large(self, tag: int, header: bytes, size: int) -> None:
        """A message is larger than we take."""
        limit = self._link.limits.told()
        log.warning("%s: dropped %s: it has %d bytes, %s", self._whose, shown_message(header), size, limit)
        with suppress(Malformed):
            _, _, correlation_id, reply_to = routing(header)
            self._session.too_much(correlation_id, reply_to, size)


def _may_be_part(header: bytes) -> bool:
    """Whether a message may be part of a stream: a look at the bytes, which says no for nearly all that are none."""
    return SEQUENCE_HEADER.encode() in header or END_HEADER.encode() in header


def _is_part(header: bytes) -> bool:
    """Whether it is."""
    _, headers = return_address(header)
    return SEQUENCE_HEADER in headers or END_HEADER in headers
