"""Requests that cannot be served and that nobody is told of: a worker puts them to the dead letters, with the reason.

Each is published first, acknowledged when the broker has confirmed that, and else tried again: whatever happens on the
way, it is in one of the two queues. Who dies in between leaves it in both.

What was acknowledged before it ran is in neither on its way, but in the worker alone: there it outlives the session,
and the next one goes on with it.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from .deadletter import buried, stripped
from .errors import AMQProxyError, RemoteError
from .shown import shown_failure, shown_message
from .topology import PoolTopology, Queue

if TYPE_CHECKING:
    from .link import Link, OpenLane

log = logging.getLogger("amqproxy.server")

FIRST_PAUSE_SECONDS = 0.5
LONGEST_PAUSE_SECONDS = 15.0
"""Between tries, where the queue of dead letters cannot be had or takes nothing."""
CLOSE_SECONDS = 2.0
"""How long a worker that stops waits for confirmations; then others get the requests again."""


class NoRoom(Exception):
    """A request's properties, with the reason, are too large for a frame."""


class Parked(NamedTuple):
    """One request on its way."""

    tag: int
    """The delivery to settle; 0 if that was done before."""
    properties: bytes
    body: bytes


MOST_LOOSE = 1000
"""So many requests of which a worker has the only copy: what fails while the dead letters take none is lost then."""


class Loose:
    """The requests on their way of which a worker has the only copy, since they were acknowledged before they ran."""

    def __init__(self) -> None:
        self.heir: Parking | None = None
        """Who goes on with those that a session leaves."""
        self._count = 0
        self._left: list[Parked] = []

    def admit(self) -> bool:
        """Whether one more may be on its way; it must be told to have got there."""
        if self._count >= MOST_LOOSE:
            return False
        self._count += 1
        return True

    def arrived(self) -> None:
        """One got there."""
        self._count -= 1

    def leave(self, letters: list[Parked]) -> None:
        """A session has ended ahead of these, or of the calls that they are of."""
        self._left += letters
        if self.heir is not None:
            self.heir.resume()

    @property
    def left(self) -> bool:
        """Whether there are some that nobody goes on with."""
        return bool(self._left)

    def take(self) -> list[Parked]:
        """What was left."""
        left, self._left = self._left, []
        return left

    def give_up(self, dead: str) -> None:
        """The worker ends."""
        if self._left:
            text = (
                "there were requests on their way to %s when the worker stopped, which are lost: %d that were "
                "acknowledged before they ran"
            )
            log.error(text, dead, len(self._left))


class Parking:
    """The way from one session to the dead letters: a channel in confirm mode, opened when it is first needed."""

    def __init__(
        self, topology: PoolTopology, dead: Queue, worker: str, link: Link, settle: Callable[[int], None], loose: Loose
    ) -> None:
        """`settle` acknowledges a delivery of the session's."""
        self._source = topology.queue.name
        self._dead = dead
        self._worker = worker
        self._link = link
        self._settle = settle
        self._loose = loose
        self._closed = False
        self._waiting: list[Parked] = []
        self._sent: dict[int, Parked] = {}
        self._number = 0
        self._opened: OpenLane | None = None
        self._trouble = ""
        self._news = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def park(self, tag: int, header: bytes, body: bytes, failure: RemoteError) -> None:
        """Put a request to the dead letters, and settle it then.

        Malformed if its properties do not decode, and NoRoom if they are too large to be published with the reason. Of
        what is settled already there is no other copy: it goes there without its headers then.
        """
        if self._closed and tag:  # which the broker gives to a worker again
            return
        properties = buried(header, failure, queue=self._source, worker=self._worker, seconds=time.time())
        if tag and len(properties) > self._link.most_properties:
            raise NoRoom("its headers have no room for the reason")
        request, failed = shown_message(header), shown_failure(failure)
        if not tag and not self._loose.admit():
            text = "a request is lost: %s: %s; it was acknowledged before it ran, and %d such wait for %s already"
            log.error(text, request, failed, MOST_LOOSE, self._dead.name)
            return
        text = "a request goes to %s: %s: %s; `amqproxy dead list %s` shows it"
        log.warning(text, self._dead.name, request, failed, self._source)
        parked = Parked(tag, properties, body)
        if self._closed:
            self._loose.leave([parked])
            return
        self._waiting.append(parked)
        self._begin()

    def resume(self) -> None:
        """Go on with what earlier sessions have left, now and whenever there is more."""
        self._loose.heir = self
        self._waiting += self._loose.take()
        if self._waiting:
            self._begin()

    def _begin(self) -> None:
        self._news.set()
        if self._task is None or self._task.done():
            self._task = self._link.loop.create_task(self._work(), name=f"amqproxy dead letters of {self._source}")

    async def _work(self) -> None:
        """Publish all that waits, until all is confirmed or the link is gone."""
        pause = FIRST_PAUSE_SECONDS
        while (self._waiting or self._sent) and not self._link.closed.done():
            self._news.clear()
            self._trouble = ""
            try:
                await self._publish()
            except AMQProxyError as error:
                self._trouble = str(error)
            if not self._trouble and (self._waiting or self._sent):
                await self._news.wait()
            if self._trouble:
                waiting = len(self._waiting) + len(self._sent)
                text = "requests cannot go to %s, and %d wait, not acknowledged: %s; next try in %.1f s"
                log.error(text, self._dead.name, waiting, self._trouble, pause)
                await self._reset()
                await asyncio.sleep(pause)
                pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
            else:
                pause = FIRST_PAUSE_SECONDS

    async def _publish(self) -> None:
        if self._opened is not None and not self._opened.lane.open:  # the broker closed it
            await self._reset()
        if self._opened is None:
            await self._link.declare_queue(self._dead)
            opened = await self._link.open_lane(self, lambda error: self._lost(opened, error), confirms=True)
            self._opened, self._number = opened, 0
        lane = self._opened.lane
        destination = lane.destination(b"", self._dead.name.encode())
        waiting, self._waiting = self._waiting, []
        most = self._link.most_properties  # another one may have been left by a session whose link had more room
        for parked in waiting:
            properties = parked.properties if len(parked.properties) <= most else stripped(parked.properties)
            lane.publish(destination, properties, parked.body)
            self._number += 1
            self._sent[self._number] = parked

    async def _reset(self) -> None:
        """Begin anew with all that is not confirmed."""
        opened, self._opened = self._opened, None
        self._waiting[:0] = self._sent.values()
        self._sent.clear()
        if opened is not None:
            await opened.close()

    def _lost(self, opened: OpenLane, reason: Exception) -> None:
        if opened is self._opened:  # and was not closed by us
            self._fail(str(reason))

    def _fail(self, trouble: str) -> None:
        self._trouble = self._trouble or trouble
        self._news.set()

    async def close(self) -> None:
        """Wait for what is on its way, but not for long; what is not confirmed then, other workers get again.

        What they do not get is left to the next session.
        """
        if self._task is not None:
            await asyncio.wait((self._task,), timeout=0 if self._link.closed.done() else CLOSE_SECONDS)
            self._task.cancel()
        opened, self._opened = self._opened, None
        self._closed = True
        left = [parked for parked in (*self._sent.values(), *self._waiting) if not parked.tag]
        self._sent.clear()
        self._waiting.clear()
        if self._loose.heir is self:
            self._loose.heir = None
        self._loose.leave(left)
        if opened is not None:
            await opened.close()

    # What the lane tells (frames.ContentSink)

    def confirmed(self, tag: int, multiple: bool, accepted: bool) -> None:
        """The queue has these requests, or refuses them."""
        if not accepted:
            self._fail("it is full, or broken (empty it, or raise its limit)")
            return
        numbers = [number for number in self._sent if number <= (tag or number)] if multiple else [tag]
        for number in numbers:
            parked = self._sent.pop(number, None)
            if parked is not None:
                self._settle(parked.tag)
                if not parked.tag:
                    self._loose.arrived()
        self._news.set()

    def returned(self, code: int, text: bytes, routing_key: bytes, header: bytes, body: bytes) -> None:
        """The queue was deleted. The confirmation that follows is for nothing: all is published anew."""
        self._sent, again = {}, list(self._sent.values())
        self._waiting[:0] = again
        self._fail("it was deleted, and is made again")

    def delivered(self, tag: int, redelivered: bool, header: bytes, body: bytes) -> None:
        """Nothing is consumed here."""

    def too_large(self, tag: int, header: bytes, size: int) -> None:
        """As `delivered`."""
