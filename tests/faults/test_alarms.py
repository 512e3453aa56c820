"""A broker that has no memory or no disk left takes nothing from anybody who publishes, and says so."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

import pytest

import amqproxy
from amqproxy.testing import RabbitMQ
from tests.contract.test_links import delete_queue
from tests.faults.diary import diary
from tests.faults.nodes import disk_alarm, memory_alarm
from tests.faults.table import Row

TIMEOUT = 2.0
LONG = 60.0
CLOSED = 8.0
"""Seconds within which closing ends: 5 for the good-byes together, 2 for handlers that will not be cancelled."""

Alarm = Callable[[RabbitMQ], AbstractAsyncContextManager[None]]

alarms = pytest.mark.parametrize(
    "alarm",
    [
        pytest.param(memory_alarm, marks=pytest.mark.fault("F11", "memory watermark at 0"), id="memory"),
        pytest.param(disk_alarm, marks=pytest.mark.fault("F12", "more free disk asked for than there is"), id="disk"),
    ],
)


@alarms
async def test_calls_and_messages_wait_out_an_alarm_up_to_their_deadline(
    rabbitmq_node: RabbitMQ, service: str, row: Row, alarm: Alarm
) -> None:
    node = rabbitmq_node
    async with amqproxy.connect(node.url) as mq, diary(node.url, service) as handler:
        await mq.sender(service).note(0)
        proxy = mq.proxy(service, timeout=LONG)
        begun = asyncio.create_task(proxy.wait(1))
        await handler.all_entered(1)
        async with alarm(node):
            hurried = amqproxy.options(proxy, timeout=TIMEOUT)
            with row.sees(amqproxy.CallTimeout, executed="maybe", within=TIMEOUT + 1):
                await hurried.note(2)  # the broker tells that it is blocked when somebody publishes
            with row.sees(amqproxy.CallTimeout, executed="no", match="not be sent", within=TIMEOUT + 1):
                await mq.sender(service, timeout=TIMEOUT).note(3)
            waiting = [asyncio.create_task(proxy.note(number)) for number in range(10, 60)]
            handler.open.set()  # the answer cannot go out yet
            await asyncio.sleep(0.5)
            assert not begun.done() and not any(call.done() for call in waiting)
        row.begin()
        with row.sees("the answer, since the end of the alarm", within=5.0, since_begin=True):
            assert await begun == 2
            assert await asyncio.gather(*waiting) == list(range(20, 120, 2))
        assert not handler.ran[3], "what did not run was run"
        row.count(lost=sum(not handler.ran[number] for number in range(10, 60)), duplicated=handler.again(handler.ran))
        await delete_queue(mq, service)


@alarms
async def test_closing_is_bounded_while_the_broker_takes_nothing(
    rabbitmq_node: RabbitMQ, service: str, row: Row, alarm: Alarm
) -> None:
    node = rabbitmq_node
    async with amqproxy.connect(node.url) as mq, diary(node.url, service, grace=1.0) as handler:
        handler.open.set()
        assert await mq.proxy(service).note(1) == 2
        async with alarm(node):
            client = await amqproxy.connect(node.url)
            worker = client.serve(handler, name=f"{service}.2", grace=1.0, auto_delete=True)
            await worker.start()
            call = asyncio.create_task(client.proxy(service).note(2))
            await asyncio.sleep(0.2)
            with row.sees("closed, and ConnectionLost (maybe) for the call", within=CLOSED):
                await client.close()
                with pytest.raises(amqproxy.ConnectionLost) as caught:
                    await call
                assert caught.value.executed == "maybe"
        await delete_queue(mq, service)
