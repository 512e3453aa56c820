"""Brokers that die, and queues that are deleted, under calls and messages that are out."""

from __future__ import annotations

import asyncio
import contextlib
import time
from pathlib import Path
from typing import Any

import pytest

import amqproxy
from amqproxy.testing import BrokerThread, RabbitMQ
from tests.contract.test_links import delete_queue
from tests.faults.diary import diary, diary_process, noted
from tests.faults.table import Row
from tests.patience import SLACK

AT_ONCE = 1.0
"""Seconds within which a caller hears of a link that broke by itself."""
BACK = 20.0
"""Seconds within which all is as before: the longest pause between two tries to connect is 15."""
CALLS = 50


async def eventually(proxy: Any, number: int = 0) -> Any:
    """The answer of a worker that is on its way back."""
    async with asyncio.timeout(BACK * SLACK):
        while True:
            with contextlib.suppress(amqproxy.Unroutable, amqproxy.ConnectionLost):
                return await proxy.note(number)
            await asyncio.sleep(0.01)


async def restarted(broker: BrokerThread | RabbitMQ, *, after: float = 0.0) -> None:
    await asyncio.sleep(after)
    await asyncio.to_thread(broker.start)


@pytest.mark.fault("F02", "SIGKILL with calls in their handlers, restart 3 s later")
async def test_calls_that_are_out_when_the_broker_is_killed_fail_at_once(
    mortal: BrokerThread | RabbitMQ, service: str, row: Row
) -> None:
    async with amqproxy.connect(mortal.url) as mq, diary(mortal.url, service) as handler:
        calls = [asyncio.create_task(mq.proxy(service).wait(number)) for number in range(CALLS)]
        await handler.all_entered(CALLS)
        await asyncio.to_thread(mortal.kill)
        row.begin()
        for call in calls:
            with row.sees(amqproxy.ConnectionLost, executed="maybe", within=AT_ONCE, since_begin=True):
                await call
        handler.open.set()  # they end while nobody can be answered
        await restarted(mortal, after=3)
        with row.sees("the answer of the next call, since the restart", within=BACK):
            assert await eventually(mq.proxy(service, timeout=BACK), CALLS) == 2 * CALLS
        row.count(duplicated=handler.again(range(CALLS)))
        await delete_queue(mq, service)


@pytest.mark.fault("F02", "SIGKILL with idempotent calls in their handlers, restart 3 s later")
async def test_idempotent_calls_outlive_a_broker_that_is_killed(
    rabbitmq_node: RabbitMQ, service: str, row: Row
) -> None:
    mortal = rabbitmq_node
    async with amqproxy.connect(mortal.url) as mq, diary(mortal.url, service) as handler:
        proxy = mq.proxy(service, idempotent=True, timeout=3 + BACK)
        calls = [asyncio.create_task(proxy.wait(number)) for number in range(CALLS)]
        await handler.all_entered(CALLS)
        await asyncio.to_thread(mortal.kill)
        row.begin()
        handler.open.set()
        await restarted(mortal, after=3)
        for number, call in enumerate(calls):
            with row.sees("the answer", within=3 + BACK, since_begin=True):
                assert await call == 2 * number
        row.count(duplicated=handler.again(range(CALLS)))
        await delete_queue(mq, service)


@pytest.mark.fault("F01", "SIGKILL under a stream of one-way messages and calls to a worker of another process")
async def test_what_was_confirmed_outlives_a_broker_that_is_killed(
    rabbitmq_node: RabbitMQ, service: str, row: Row, tmp_path: Path
) -> None:
    node, journal = rabbitmq_node, tmp_path / "journal"
    confirmed: set[int] = set()
    refused: list[int] = []
    numbers = iter(range(1, 1_000_000))
    killed = 0.0
    enough = asyncio.Event()

    async def send(mq: amqproxy.Client) -> None:
        """Send until the link breaks."""
        for number in numbers:
            try:
                await mq.sender(service).note(number)
            except amqproxy.ConnectionLost as error:
                assert error.executed == "maybe"
                row.saw("ConnectionLost (maybe)", time.monotonic() - killed, AT_ONCE)
                refused.append(number)
                return
            confirmed.add(number)
            if len(confirmed) == 500:
                enough.set()

    async with (
        amqproxy.connect(node.url) as mq,
        diary_process(node.url, service, journal) as worker,
    ):
        assert await mq.proxy(service).note(0) == 0
        senders = [asyncio.create_task(send(mq)) for _ in range(20)]
        await enough.wait()
        killed = time.monotonic()
        await asyncio.to_thread(node.kill)
        await asyncio.gather(*senders)
        await restarted(node)
        last = next(numbers)
        with row.sees("confirmed, since the restart", within=BACK):
            await mq.sender(service, idempotent=True, timeout=BACK).note(last)
        confirmed.add(last)
        await worker.says("again")
        async with asyncio.timeout(BACK * SLACK):
            while confirmed - noted(journal).keys():  # noqa: ASYNC110  # it is another process that writes there
                await asyncio.sleep(0.05)
        ran = noted(journal)
        assert len(refused) == 20
        row.count(lost=len(confirmed - ran.keys()), duplicated=sum(ran.values()) - len(ran))
        await delete_queue(mq, service)
