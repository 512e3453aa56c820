"""The queue of dead letters of a service: looked through, given back to the service, or emptied. Nothing gets lost.

Whatever is read stays unacknowledged, so that it goes back to its place when the visit is over, however that ends. What
goes back to the service is published first, and leaves the dead letters when the broker has confirmed it.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from .deadletter import UNKNOWN, DeadLetter, revived
from .errors import AMQProxyError, CallError, CallTimeout, ConnectionLost, Overloaded, Unroutable
from .properties import routing
from .shown import shown, shown_message
from .signing import SIGNATURE_HEADER, unsigned, verify
from .topology import dead_queue, delay_digest

if TYPE_CHECKING:
    from .connection import Connection
    from .lane import Lane
    from .link import Link, OpenLane

log = logging.getLogger("amqproxy.deadqueue")

MAX_PREFETCH = 65535
"""All letters are read, also by those who want few: what comes back to a quorum queue of RabbitMQ 3 goes behind what
was not read, and the places would be others for whoever looks next."""
AT_ONCE = 500
"""Letters that may be on their way at once when there is no limit to those that are wanted: they are in memory."""
QUIET_SECONDS = 2.0
"""When no more came for so long, others have taken those that are missing."""
BACK_SECONDS = 2.0
"""How long letters may take to be back in their places."""
CONFIRM_SECONDS = 30.0
"""How long the broker may take to confirm what goes back."""

Wanted = Callable[[DeadLetter], bool]


def everything(letter: DeadLetter) -> bool:
    """What is wanted if nothing else is said."""
    return True


def harmless(letter: DeadLetter) -> bool:
    """What goes back to its service if nothing else is said.

    Not what may have run already, what somebody put there that was neither a worker nor the broker, perhaps a copy of
    what ran long ago, and calls whose time is over.
    """
    return not (letter.reason in ("in_doubt", UNKNOWN) or (letter.reason == "expired" and letter.is_call))


class DeadQueue:
    """The dead letters of one queue."""

    def __init__(self, connection: Connection, queue: str) -> None:
        self.queue = queue
        self.name = dead_queue(queue).name
        self._connection = connection

    async def count(self) -> int:
        """How many there are; Unroutable if there is no such queue."""
        link = await self._connection.link()
        counts = await link.queue_counts(self.name)
        if counts is None:
            raise Unroutable(
                f"there is no queue {self.name!r} at {link.url.address}: workers make it that serve with quorum=True "
                "or dead_letters=True"
            )
        return counts[0]

    async def look(self, limit: int, wanted: Wanted = everything, *, bodies: bool = True) -> list[DeadLetter]:
        """The first letters that are wanted, and stay where they are.

        Without bodies they take little memory, however large those are.
        """
        found: list[DeadLetter] = []

        def take(visit: Visit, letter: DeadLetter, tag: int, header: bytes) -> None:
            if len(found) < limit and wanted(letter):
                found.append(letter if bodies else replace(letter, body=None))

        async with self._visit(take, MAX_PREFETCH) as visit:
            await visit.all_read()
        return found

    async def requeue(
        self, to: str, limit: int | None = None, wanted: Wanted = harmless, *, new_ids: bool = False
    ) -> tuple[int, int]:
        """Give those that are wanted back to a queue: how many, and how many stayed.

        Those are too large, or their headers; or, on a connection that signs, not signed for this service, for what
        goes back is signed anew; or signed, on one that does not, for their signatures would be lost.
        With `new_ids` they are other requests for workers that remember which they have had.

        Overloaded if the queue is full, Unroutable if it is not there; what was not given back by then stays dead.
        """
        chosen = stayed = 0

        def take(visit: Visit, letter: DeadLetter, tag: int, header: bytes) -> None:
            nonlocal chosen, stayed
            if not wanted(letter) or chosen == limit:
                return
            if letter.body is None or not self._may_go(letter, header, letter.body):
                stayed += 1
                return
            try:
                routing(header)  # Malformed if it was cut when it came, since it was too large to be read
                properties = revived(header, os.urandom(12).hex().encode() if new_ids else None)
                visit.publish(to, tag, properties, letter.body)
            except ValueError as error:  # its headers, written anew, fit into no frame
                self._stays(letter, header, str(error))
                stayed += 1
                return
            chosen += 1
            if chosen == limit:
                visit.enough()

        async with self._visit(take, AT_ONCE if limit is None else MAX_PREFETCH) as visit:
            await visit.all_read()
        return visit.moved, stayed

    def _may_go(self, letter: DeadLetter, header: bytes, body: bytes) -> bool:
        """Whether it may be signed anew, if somebody with a key wrote it for this service, or need not be signed."""
        signing = self._connection.options.signing
        if signing is None:
            return SIGNATURE_HEADER not in (letter.properties.headers or {})
        try:
            to = verify(signing, header, body).to
        except ValueError as error:
            reason = str(error)
        else:
            if self._was_for_us(to):
                return True
            reason = f"it was signed for {to!r}, and not for {self.queue!r}"
        self._stays(letter, header, reason)
        return False

    def _stays(self, letter: DeadLetter, header: bytes, reason: str) -> None:
        text = "%s: letter %d (%s) is not given back: %s"
        log.warning(text, self.name, letter.place, shown_message(header), shown(reason))

    def _was_for_us(self, to: str) -> bool:
        """Whether a signature names the queue, its dead letters, or an exchange with the queue as routing key.

        Which exchanges it is bound to is not known here. With a delay, it may be amq.direct only.
        """
        delayed = [f">{delay_digest(exchange, self.queue)}" for exchange in ("", "amq.direct")]
        return to in (self.queue, self.name, *delayed) or to.partition(">")[2] == self.queue

    async def purge(self, wanted: Wanted = everything) -> int:
        """Drop those that are wanted: how many."""
        dropped = 0

        def take(visit: Visit, letter: DeadLetter, tag: int, header: bytes) -> None:
            nonlocal dropped
            if wanted(letter):
                dropped += 1
                visit.settle(tag)

        if wanted is everything:
            link = await self._connection.link()
            await self.count()
            return await link.purge_queue(self.name)
        async with self._visit(take, MAX_PREFETCH) as visit:
            await visit.all_read()
        return dropped

    @asynccontextmanager
    async def _visit(self, take: Take, most: int) -> AsyncIterator[Visit]:
        """A channel on which the letters come that are there now; what was not acknowledged goes back at the end."""
        link = await self._connection.link()
        count = await self.count()
        most = min(most, count or 1, MAX_PREFETCH)
        visit = Visit(self, take, count, most)
        visit.opened = await link.open_lane(visit, visit.lost, prefetch=most, confirms=True, unchecked=True)
        try:
            yield visit
        finally:
            if visit.gone:
                await visit.opened.cancel()
                await visit.opened.linger()
            await visit.opened.close()
            await self._settled(link, count - visit.gone)

    async def _settled(self, link: Link, count: int) -> None:
        """Return when all that was not acknowledged is back, for whoever looks next: a quorum queue takes its time."""
        with suppress(TimeoutError, AMQProxyError):
            async with asyncio.timeout(BACK_SECONDS):
                while (await link.queue_counts(self.name) or (count,))[0] < count:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)


class Visit:
    """One look through the dead letters; a `ContentSink`."""

    def __init__(self, of: DeadQueue, take: Take, count: int, most: int) -> None:
        self.moved = 0
        """Letters that were given back."""
        self.gone = 0
        """Letters that were acknowledged."""
        self.opened: OpenLane = None  # type: ignore[assignment]  # set before the first message comes
        self._of = of
        self._take = take
        self._count = count
        self._most = most
        self._room = 0
        self._read = 0
        self._to = ""
        self._number = 0
        self._moving: dict[int, Moving] = {}
        self._trouble: tuple[type[CallError], str] | None = None
        self._news = asyncio.Event()

    @property
    def lane(self) -> Lane:
        """Where letters come from, and go to."""
        return self.opened.lane

    async def all_read(self) -> None:
        """Return when all were read that were there at the beginning, or others have taken the rest."""
        while self._read < self._count and self._trouble is None:
            self._news.clear()
            await self._make_room()
            try:
                await asyncio.wait_for(self._news.wait(), QUIET_SECONDS)
            except TimeoutError:
                if not self._moving:  # else it is the broker that takes its time
                    break
        await self._all_settled()
        if self._trouble is not None:
            kind, text = self._trouble
            raise kind(f"{text}{self._done()}", executed="maybe" if self.gone else None)

    async def _make_room(self) -> None:
        """Let letters come, so many at once at most; those that stay shall keep none behind them away.

        Each consumer of a channel may have as many unacknowledged as its prefetch.
        """
        staying = self._read - self.gone - len(self._moving)
        if self._room < self._count and 2 * (self._room - staying) < self._most:
            self._room += self._most
            await self.opened.consume(self._of.name, self.deleted, no_ack=False)

    def _done(self) -> str:
        """How far it got, for the text of an error."""
        if self._number:
            return f"; {self.moved} had gone back to {self._to!r}" if self.moved else ""
        return f"; {self.gone} had been dropped" if self.gone else ""

    async def _all_settled(self) -> None:
        """Return when it is known of all that was given back whether the broker has it, after some trouble too."""
        while self._moving and self.lane.open:
            self._news.clear()
            try:
                await asyncio.wait_for(self._news.wait(), CONFIRM_SECONDS)
            except TimeoutError:
                text = f"the broker did not confirm {len(self._moving)} requests within {CONFIRM_SECONDS:g} s"
                text = f"{text}; they are dead letters still, and may be in the queue, too"
                raise CallTimeout(text + self._done()) from None

    def enough(self) -> None:
        """No more need be read."""
        self._count = self._read

    def settle(self, tag: int) -> None:
        """A letter is done with."""
        self.gone += 1
        self.lane.ack(tag)

    def publish(self, queue: str, tag: int, properties: bytes, body: bytes) -> None:
        """Give a letter to a queue; it is acknowledged when that has it. ValueError if the properties are too large."""
        self._to = queue
        self.lane.publish(self.lane.destination(b"", queue.encode()), properties, body)
        self._number += 1  # of what was sent, or each confirmation that follows would be for another letter
        self._moving[self._number] = Moving(tag, properties, body)

    def _fail(self, kind: type[CallError], text: str) -> None:
        self._trouble = self._trouble or (kind, text)
        self._news.set()

    def lost(self, reason: Exception) -> None:
        """The channel is gone."""
        doubt = "; what was on its way may be in both queues" if self._moving else ""
        self._fail(ConnectionLost, f"{reason}{doubt}")

    def deleted(self) -> None:
        """The queue is gone, and all that was in it."""
        self._fail(Unroutable, f"the queue {self._of.name!r} was deleted, and all that was in it")

    # What the lane tells (frames.ContentSink)

    def delivered(self, tag: int, redelivered: bool, header: bytes, body: bytes) -> None:
        """A dead letter came."""
        self._came(tag, header, body, len(body))

    def too_large(self, tag: int, header: bytes, size: int) -> None:
        """One came whose body was not stored."""
        self._came(tag, header, None, size)

    def _came(self, tag: int, header: bytes, body: bytes | None, size: int) -> None:
        self.lane.hold(tag)
        if self._read < self._count and self._trouble is None:  # what died since then is for another time
            self._read += 1
            self._take(self, DeadLetter.read(self._read, header, body, size), tag, header)
            self._news.set()

    def confirmed(self, tag: int, multiple: bool, accepted: bool) -> None:
        """The queue has these, or refuses them."""
        numbers = [number for number in self._moving if number <= (tag or number)] if multiple else [tag]
        for number in numbers:
            moving = self._moving.pop(number, None)
            if moving is not None and accepted:
                self.moved += 1
                self.settle(moving.tag)
        if not accepted:
            self._fail(Overloaded, f"the queue {self._to!r} is full: what it did not take is a dead letter still")
        self._news.set()

    def returned(self, code: int, text: bytes, routing_key: bytes, header: bytes, body: bytes) -> None:
        """There is no such queue; the confirmation that follows is for nothing."""
        queue = routing_key.decode(errors="backslashreplace")
        for number, moving in self._moving.items():
            if moving.body == body and unsigned(moving.properties) == unsigned(header):
                del self._moving[number]
                break
        cure = "start its worker, or name another queue; they are dead letters still"
        self._fail(Unroutable, f"there is no queue {queue!r} to give them back to: {cure}")


class Moving(NamedTuple):
    """A letter that is on its way to a queue."""

    tag: int
    properties: bytes
    body: bytes


Take = Callable[[Visit, DeadLetter, int, bytes], None]
"""What is done with each letter, its delivery tag and its properties."""
