"""Priorities: what waits is taken in their order, and within each in the order of sending."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

import amqproxy


class Surgery:
    """Sees one after the other."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, int]] = []
        self.occupied = asyncio.Event()
        self.open = asyncio.Event()

    async def occupy(self) -> None:
        self.occupied.set()
        await self.open.wait()

    async def see(self, number: int, priority: int) -> None:
        self.seen.append((number, priority))

    async def last(self) -> None:
        """All who came before have been seen."""


VIEWS: dict[str, Callable[[amqproxy.Client, str], Any]] = {
    "calls": lambda mq, service: mq.proxy(Surgery, name=service),
    "messages": lambda mq, service: mq.sender(Surgery, name=service),
}


@pytest.mark.parametrize("view", VIEWS)
async def test_higher_priorities_are_handled_first(mq: amqproxy.Client, service: str, view: str) -> None:
    surgery = Surgery()
    async with mq.serve(surgery, name=service, auto_delete=True, concurrency=1, max_priority=5):
        ward = mq.proxy(Surgery, name=service)
        occupied = asyncio.create_task(ward.occupy())
        await surgery.occupied.wait()
        patients = VIEWS[view](mq, service)
        given = [0, 3, 5, 1, 3, None, 5, 9, 0]
        waiting = [
            asyncio.create_task(amqproxy.options(patients, priority=priority).see(number, priority or 0))
            for number, priority in enumerate(given)
        ]
        if view == "messages":
            await asyncio.gather(*waiting)  # confirmed, that is in the queue
        else:
            await asyncio.sleep(0)  # sent, ahead of what is sent after
        last = asyncio.create_task(amqproxy.options(ward, priority=0).last())
        if view == "calls":
            queue = (await mq._live_connection().link()).queue_counts
            async with asyncio.timeout(10):
                while await queue(service) != (len(given) + 1, 1):
                    pass
        surgery.open.set()
        await asyncio.gather(occupied, *waiting, last)
        # 9 counts as the highest there is
        assert surgery.seen == [(2, 5), (6, 5), (7, 9), (1, 3), (4, 3), (3, 1), (0, 0), (5, 0), (8, 0)]


async def test_without_a_highest_priority_all_are_alike(mq: amqproxy.Client, service: str) -> None:
    surgery = Surgery()
    async with mq.serve(surgery, name=service, auto_delete=True, concurrency=1):
        ward, patients = mq.proxy(Surgery, name=service), mq.sender(Surgery, name=service)
        occupied = asyncio.create_task(ward.occupy())
        await surgery.occupied.wait()
        for number, priority in enumerate((1, 9, 5)):
            await amqproxy.options(patients, priority=priority).see(number, priority)
        surgery.open.set()
        await asyncio.gather(occupied, ward.last())
        assert surgery.seen == [(0, 1), (1, 9), (2, 5)]


async def test_workers_of_one_pool_agree_on_the_highest_priority(mq: amqproxy.Client, service: str) -> None:
    async with mq.serve(Surgery(), name=service, auto_delete=True, max_priority=5):
        with pytest.raises(amqproxy.TopologyConflict, match="x-max-priority"):
            await mq.serve(Surgery(), name=service, auto_delete=True, max_priority=6).start()
