"""A worker's channel where calls are refused that would wait for too long (load shedding)."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from .errors import AMQProxyError
from .fields import Malformed
from .handler import refusal
from .properties import routing
from .session import Session, message_id
from .shedding import Shedding

if TYPE_CHECKING:
    from .handler import HandlerTable
    from .link import Link
    from .session import Staff

log = logging.getLogger("amqproxy.server")

LOOK_SECONDS = 1.0
"""Between two looks at the queue."""


class SheddingSession(Session):
    """The same with a look at the queue every second, and at each call before it is taken."""

    def __init__(self, worker: Staff, handlers: HandlerTable, link: Link) -> None:
        super().__init__(worker, handlers, link)
        after = worker.options.shed_after
        assert after is not None  # or the worker would have taken a plain session
        self._shedding = Shedding(after)
        self._taken = 0  # counted as the queue counts what waits: a message, however many calls are in it
        self._looking: asyncio.Task[None] | None = None

    async def consume(self) -> None:
        """Let requests come, and look at those that wait."""
        await super().consume()
        self._looking = asyncio.create_task(self._look(), name=f"amqproxy queue of {self._worker.contract.name}")

    async def _look(self) -> None:
        queue = self._worker.topology.queue.name
        while not self._link.closed.done():
            await asyncio.sleep(LOOK_SECONDS)
            try:
                counts = await self._link.queue_counts(queue)
            except AMQProxyError as error:
                log.debug("cannot look at %s: %s", queue, error)
                continue
            waiting, consumers = counts or (0, 0)
            shedding, held = self._shedding, self._lane.held
            running = min(held, len(self._worker.running))
            shedding.looked(self.loop.time(), waiting, consumers, self._taken - held, running)
            if shedding.excess:
                text = "%s: calls would wait for %.1f s; refusing %d of %d"
                log.warning(text, queue, shedding.wait, shedding.excess, waiting)

    def delivered(self, tag: int, redelivered: bool, header: bytes, body: bytes) -> None:
        """A request came; one too many is refused, if there is somebody to be told."""
        if self._shedding.excess and not self._worker.stopping and self._refuse(tag, bool(redelivered), header):
            return
        self._taken += 1
        super().delivered(tag, redelivered, header, body)

    def _refuse(self, tag: int, redelivered: bool, header: bytes) -> bool:
        try:
            _, _, correlation_id, reply_to = routing(header)
        except Malformed:
            return False
        if not reply_to or (seconds := self._shedding.refuses()) is None:
            return False
        wait, after = self._shedding.wait, self._worker.options.shed_after
        text = (
            f"{self._worker.contract.title} is overloaded: calls would wait for {wait:.1f} s, and it takes none that "
            f"wait for more than {after:g} s; try again in {seconds:g} s"
        )
        failure = refusal("resource_exhausted", text, type="Overloaded", retryable=True)
        failure.details = {"retry_after": seconds}
        if redelivered:  # another worker may have run it
            failure.executed = "maybe"
        self._lane.hold(tag)
        correlation_id = correlation_id if correlation_id is not None else message_id(header)
        self.replies.refuse(tag, failure, correlation_id, reply_to, header)
        return True

    def _end(self, reason: Exception) -> None:
        self._stop_looking()
        super()._end(reason)

    def _stop_looking(self) -> None:
        if self._looking is not None:
            self._looking.cancel()

    async def close(self) -> None:
        """Look no more, and give everything back that is not answered."""
        self._stop_looking()
        await super().close()
