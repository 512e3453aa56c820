"""Requests of which a worker that stops has not begun the handler, and that no worker runs which gets them again.

What is given back the broker calls redelivered, and then nobody knows that it was not begun. So it is published anew,
and acknowledged when the broker has confirmed that: whoever gets it next has it for the first time.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from .deadletter import renewed
from .errors import AMQProxyError
from .fields import Malformed
from .handler import Call

if TYPE_CHECKING:
    from .link import Link

log = logging.getLogger("amqproxy.server")

CLOSE_SECONDS = 2.0
"""How long a worker that stops waits for confirmations."""


class Unbegun(NamedTuple):
    """One such request."""

    tag: int
    """The delivery to settle; 0 if that was done before."""
    properties: bytes
    body: bytes


class HandBack:
    """The way from one session back to its queue, opened when the session ends, and only if there is something."""

    def __init__(self, queue: str, link: Link, settle: Callable[[int], None]) -> None:
        """`settle` acknowledges a delivery of the session's."""
        self._queue = queue
        self._link = link
        self._settle = settle
        self._waiting: list[Unbegun] = []
        self._sent: dict[int, Unbegun] = {}
        self._trouble = ""
        self._news = asyncio.Event()

    def put(self, tag: int, call: Call, body: bytes) -> bool:
        """Give a request back when the session ends; False if its properties are too large to be published anew."""
        try:
            properties = renewed(call._header, call.age, call.time_left)
        except Malformed:
            properties = call._header
        if len(properties) > self._link.most_properties:
            return False
        self._waiting.append(Unbegun(tag, properties, body))
        return True

    async def close(self) -> None:
        """Publish them all, and wait until the broker has them, but not for long."""
        if not self._waiting:
            return
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                await self._publish()
        except (AMQProxyError, TimeoutError) as error:
            self._trouble = self._trouble or str(error) or "there was no channel for them"
        if not self._trouble:
            text = "%d requests that this worker had not begun are in %s again, as new ones"
            log.info(text, len(self._waiting), self._queue)
            return
        lost = [*self._sent.values()] or self._waiting
        text = (
            "%d requests that this worker had not begun may not be in %s again: %s; those of them that are not "
            "acknowledged the broker gives to another worker, which refuses them, since they run at most once"
        )
        log.error(text, len(lost), self._queue, self._trouble)

    async def _publish(self) -> None:
        opened = await self._link.open_lane(self, lambda error: self._fail(str(error)), confirms=True)
        try:
            destination = opened.lane.destination(b"", self._queue.encode())
            self._sent = dict(enumerate(self._waiting, 1))
            for one in self._waiting:
                opened.lane.publish(destination, one.properties, one.body)
            while self._sent and not self._trouble:
                self._news.clear()
                await self._news.wait()
        finally:
            self._fail("the broker has not confirmed them")
            await opened.close()

    def _fail(self, trouble: str) -> None:
        if self._sent:
            self._trouble = self._trouble or trouble
            self._news.set()

    # What the lane tells (frames.ContentSink)

    def confirmed(self, tag: int, multiple: bool, accepted: bool) -> None:
        """The queue has these requests, or refuses them."""
        if self._trouble:
            return
        if not accepted:
            self._fail("the queue is full")
            return
        for number in [number for number in self._sent if number == tag or (multiple and number <= (tag or number))]:
            self._settle(self._sent.pop(number).tag)
        self._news.set()

    def returned(self, code: int, text: bytes, routing_key: bytes, header: bytes, body: bytes) -> None:
        """The queue was deleted, and what was in it is gone."""
        self._fail("the queue was deleted")

    def delivered(self, tag: int, redelivered: bool, header: bytes, body: bytes) -> None:
        """Nothing is consumed here."""

    def too_large(self, tag: int, header: bytes, size: int) -> None:
        """As `delivered`."""
