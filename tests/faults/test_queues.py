"""Queues that are deleted under those who use them, and callers that are gone when they are answered."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import Any

import pytest

import amqproxy
from amqproxy.testing import RabbitMQ
from tests.contract.test_dead_letters import eventually, waiting
from tests.contract.test_links import delete_queue
from tests.faults.diary import Diary, diary, diary_process, noted
from tests.faults.nodes import ctl
from tests.faults.table import Row
from tests.patience import SLACK
from tests.processes import running

AT_ONCE = 1.0
BACK = 5.0
CALLS = 50


def reply_queue(proxy: Any) -> str:
    name: str = proxy.note.line.reply_to.decode()
    return name


@pytest.mark.fault("F26", "reply queue deleted with calls in their handlers")
async def test_calls_whose_reply_queue_is_deleted_fail_at_once(amqp_url: str, service: str, row: Row) -> None:
    async with amqproxy.connect(amqp_url) as mq, diary(amqp_url, service, auto_delete=True) as handler:
        proxy = mq.proxy(Diary, name=service, timeout=10)
        await proxy.note(0)
        calls = [asyncio.create_task(proxy.wait(number)) for number in range(1, CALLS)]
        again = asyncio.create_task(mq.proxy(service, timeout=10, idempotent=True).wait(CALLS))
        await handler.all_entered(CALLS)
        row.begin()
        await delete_queue(mq, reply_queue(proxy))
        for call in calls:
            with row.sees(amqproxy.ConnectionLost, executed="maybe", within=AT_ONCE, since_begin=True, match="reply q"):
                await call
        handler.open.set()  # the answers of before are for a queue that is not there
        with row.sees("the answer of an idempotent call", within=BACK):
            assert await again == 2 * CALLS
        row.count(duplicated=handler.again([CALLS]))
        with row.sees("the answer of the next call", within=AT_ONCE):
            assert await proxy.note(CALLS + 1) == 2 * (CALLS + 1)
        row.count(duplicated=handler.again(range(CALLS)))


@pytest.mark.fault("F26", "reply queue deleted by the operator, again and again, under a stream of calls")
async def test_a_reply_queue_that_is_deleted_again_and_again_harms_the_calls_that_are_out_alone(
    rabbitmq_node: RabbitMQ, service: str, row: Row
) -> None:
    url = rabbitmq_node.url
    async with amqproxy.connect(url) as mq, diary(url, service, auto_delete=True) as handler:
        proxy = mq.proxy(Diary, name=service, timeout=10)
        deleted = 0

        async def call(first: int) -> None:
            for number in range(first, 1_000_000, 8):
                if deleted == 3:
                    return
                try:
                    assert await proxy.note(number) == 2 * number
                except amqproxy.ConnectionLost as error:
                    assert error.executed == "maybe"

        await proxy.note(0)
        callers = [asyncio.create_task(call(first)) for first in range(1, 9)]
        while deleted < 3:
            queue = f'rabbit_misc:r(<<"/">>, queue, <<"{reply_queue(proxy)}">>)'
            delete = 'fun(Queue) -> rabbit_amqqueue:delete(Queue, false, false, <<"test">>) end'
            await ctl(rabbitmq_node, "eval", f"rabbit_amqqueue:with({queue}, {delete}).")
            deleted += 1
        with row.sees("all callers go on", within=BACK):
            await asyncio.gather(*callers)
            assert await proxy.note(0) == 0
        row.count(duplicated=handler.again(number for number in handler.ran if number))


@pytest.mark.fault("F27", "caller killed with a call in its handler")
async def test_an_answer_for_nobody_is_dropped_and_its_request_settled(
    rabbitmq_node: RabbitMQ, service: str, row: Row
) -> None:
    url = rabbitmq_node.url
    async with amqproxy.connect(url) as mq, diary(url, service) as handler:
        async with running("-c", CALLER, url, service) as caller:
            await handler.all_entered(1)
            caller.send(9)
            await caller.ends()
        handler.open.set()
        with row.sees("another caller: the answer", within=AT_ONCE):
            assert await mq.proxy(service).note(2) == 4
        row.count(duplicated=handler.again([1]))
        assert await counts(rabbitmq_node, service) == (0, 0)
        await delete_queue(mq, service)


CALLER = """\
import asyncio, sys, amqproxy
async def main():
    async with amqproxy.connect(sys.argv[1]) as mq:
        await mq.proxy(sys.argv[2]).wait(1)
asyncio.run(main())
"""


async def counts(node: RabbitMQ, queue: str) -> tuple[int, int]:
    """Messages of a queue that are ready, and those that are not acknowledged."""
    said = await ctl(node, "list_queues", "name", "messages_ready", "messages_unacknowledged")
    for line in said.splitlines():
        name, *numbers = line.split()
        if name == queue:
            return int(numbers[0]), int(numbers[1])
    raise AssertionError(f"there is no queue {queue}")


@pytest.mark.fault("F28", "queue of three workers deleted, with calls in it and in their handlers")
async def test_a_queue_that_is_deleted_under_its_workers_comes_back(
    rabbitmq_node: RabbitMQ, service: str, row: Row, tmp_path: Path
) -> None:
    url, journal = rabbitmq_node.url, tmp_path / "journal"
    async with contextlib.AsyncExitStack() as stack:
        mq = await stack.enter_async_context(amqproxy.connect(url))
        handler = await stack.enter_async_context(diary(url, service, concurrency=5))
        proxy = mq.proxy(service, timeout=3)
        begun = [asyncio.create_task(proxy.wait(number)) for number in range(5)]
        await handler.all_entered(5)
        behind = [asyncio.create_task(proxy.wait(number)) for number in range(5, 10)]
        await eventually(lambda: waiting(mq, service), 5)
        row.begin()
        await delete_queue(mq, service)
        handler.open.set()
        with row.sees("begun before: the answer", within=BACK, since_begin=True):
            assert await asyncio.gather(*begun) == [0, 2, 4, 6, 8]
        for call in behind:
            with row.sees(amqproxy.CallTimeout, executed="maybe", within=3 + AT_ONCE, since_begin=True):
                await call
        assert not any(handler.ran[number] for number in range(5, 10))
        workers = [await stack.enter_async_context(diary_process(url, service, journal)) for _ in range(2)]
        await delete_queue(mq, service)
        with row.sees("the answer of the next call", within=BACK):
            assert await answered(proxy) == 200
        for worker in workers:
            await worker.says("again")
        await consumed(mq, service, 3)
        numbers = range(1000, 1300)
        assert await asyncio.gather(*map(proxy.note, numbers)) == [2 * number for number in numbers]
        assert handler.ran.keys() & numbers and noted(journal).keys() & numbers, "only some of the workers are back"
        row.count(duplicated=handler.again(handler.ran))
        await delete_queue(mq, service)


async def consumed(mq: amqproxy.Client, queue: str, consumers: int) -> None:
    """Return when the queue has so many consumers."""
    link = await mq._live_connection().link()
    async with asyncio.timeout(BACK * SLACK):
        while (found := await link.queue_counts(queue)) is None or found[1] != consumers:
            pass


async def answered(proxy: Any) -> Any:
    """The answer of workers that are on their way back; until then there is no queue."""
    while True:
        with contextlib.suppress(amqproxy.Unroutable):
            return await proxy.note(100)
        await asyncio.sleep(0.01)


@pytest.mark.fault("F44", "10,000 calls at once, to 100 at a time")
async def test_ten_thousand_calls_at_once_are_all_answered(amqp_url: str, service: str, row: Row) -> None:
    async with amqproxy.connect(amqp_url) as mq, diary(amqp_url, service, auto_delete=True) as handler:
        proxy: Any = mq.proxy(Diary, name=service, timeout=30)
        with row.sees("the answer of each", within=30.0):
            assert await asyncio.gather(*map(proxy.note, range(10_000))) == list(range(0, 20_000, 2))
        row.count(lost=10_000 - len(handler.ran), duplicated=handler.again(range(10_000)))
        link = mq._live_connection().current_link
        assert link is not None
        assert len(link._aiormq.channels) <= 3
        assert not proxy.note.line.calls._pending


@pytest.mark.fault("F44", "1,000 calls at once, where 100 are allowed in flight")
async def test_calls_beyond_the_bound_are_refused_at_once(amqp_url: str, service: str, row: Row) -> None:
    async with (
        amqproxy.connect(amqp_url, max_in_flight=100) as mq,
        diary(amqp_url, service, auto_delete=True) as handler,
    ):
        proxy = mq.proxy(Diary, name=service, timeout=10)
        await proxy.note(1000)
        calls = [asyncio.create_task(proxy.wait(number)) for number in range(1000)]
        row.begin()
        for call in calls[100:]:
            with row.sees(amqproxy.Overloaded, executed="no", within=AT_ONCE, since_begin=True):
                await call
        handler.open.set()
        with row.sees("the answers of the first 100", within=BACK):
            assert await asyncio.gather(*calls[:100]) == list(range(0, 200, 2))
        row.count(duplicated=handler.again(handler.ran))
        assert sum(handler.ran.values()) == 101
