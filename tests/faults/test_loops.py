"""What is ended again and again, as fast as it is made: it is made again ever more slowly, and works when that ends."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

import amqproxy
from amqproxy.line import Line
from amqproxy.testing import RabbitMQ
from tests.contract.test_deadlines import Gate, gate
from tests.contract.test_links import until_it_serves
from tests.faults.table import Row
from tests.patience import until

SECONDS = 3.0
MANY = 15
"""So many times within that are no tight loop; each waits a quarter of a second on average, and then ever longer."""


@asynccontextmanager
async def deleting(mq: amqproxy.Client, name: Callable[[], str]) -> AsyncIterator[None]:
    """A queue is deleted as fast as it is made, by the connection that made it: no other may if it is exclusive."""

    async def run() -> None:
        channel = await (await mq._live_connection().link())._channel()
        while True:
            if queue := name():
                await channel.queue_delete(queue)
            await asyncio.sleep(0.001)

    task = asyncio.create_task(run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait((task,))
        assert task.cancelled()


@pytest.mark.fault("F28", "request queue deleted for 3 s as fast as it is declared")
async def test_a_request_queue_that_goes_again_and_again(
    mq: amqproxy.Client, service: str, row: Row, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "amqproxy")
    async with mq.serve(Gate(), name=service, auto_delete=True):
        async with deleting(mq, lambda: service):
            await asyncio.sleep(SECONDS)
        times = caplog.text.count(f"consumes {service} no more") + caplog.text.count(f"consuming {service} failed")
        assert 2 <= times <= MANY
        row.saw(f"no tight loop: declared {times} times", SECONDS, SECONDS)
        with row.sees("served again, when that ends", within=20.0):
            await until_it_serves(mq.proxy(Gate, name=service, timeout=20))


@pytest.mark.fault("F26", "a worker's own queue deleted for 3 s as fast as it is declared")
async def test_a_workers_own_queue_that_goes_again_and_again(
    mq: amqproxy.Client, service: str, row: Row, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "amqproxy")
    async with mq.serve(Gate(), name=service, auto_delete=True) as worker:
        session = worker.session
        assert session is not None
        async with deleting(mq, lambda: session.address.decode()):
            await asyncio.sleep(SECONDS)
        times = caplog.text.count(f"of {service}: its own queue is made again")
        assert 2 <= times <= MANY
        row.saw(f"no tight loop: declared {times} times", SECONDS, SECONDS)
        broadcast = mq.broadcast(Gate, name=service, timeout=1)

        async def answered() -> None:
            while [answer.value async for answer in broadcast.ping()] != ["pong"]:
                pass  # without workers there are no answers, as soon as the broker says so

        with row.sees("broadcasts are answered again, when that ends", within=20.0):
            await answered()


@pytest.mark.fault("F26", "reply queue deleted for 3 s as fast as it is declared, under an idempotent call")
async def test_a_reply_queue_that_goes_again_and_again(rabbitmq_node: RabbitMQ, service: str, row: Row) -> None:
    url = rabbitmq_node.url
    async with (
        amqproxy.connect(url) as mq,
        amqproxy.connect(url) as server,
        gate(server, service) as (handler, _),
    ):
        proxy = mq.proxy(Gate, name=service, idempotent=True, timeout=30)
        assert await proxy.ping() == "pong"
        seen: set[str] = set()

        def reply_queue() -> str:
            line: Line | None = proxy.wait.line  # type: ignore[attr-defined]  # it is a RemoteMethod
            name = "" if line is None else line.reply_to.decode()
            return name if name in seen or seen.add(name) is None else ""  # type: ignore[func-returns-value]

        call = asyncio.create_task(proxy.wait(1))
        async with deleting(mq, reply_queue):
            await asyncio.sleep(SECONDS)
        times = len(seen)
        assert 2 <= times <= MANY
        row.saw(f"no tight loop: declared {times} times", SECONDS, SECONDS)
        handler.open.set()
        with row.sees("the answer, when that ends", within=20.0):
            assert await call == 1

        # The channels of the queues that went are closed, but for those of the topology, the replies and this test.
        link = mq._live_connection().current_link
        assert link is not None
        await until(lambda: len(link._aiormq.channels) <= 3, lambda: str(link._aiormq.channels))


@pytest.mark.fault("F30", "worker started on a queue that is another connection's own (405)")
async def test_a_queue_of_somebody_else(amqp_url: str, mq: amqproxy.Client, service: str, row: Row) -> None:
    async with amqproxy.connect(amqp_url) as other:
        channel = await (await other._live_connection().link())._channel()
        await channel.queue_declare(service, exclusive=True)
        with row.sees(amqproxy.TopologyConflict, within=1.0, match="RESOURCE_LOCKED"):
            await mq.serve(Gate(), name=service).start()
    async with gate(mq, service) as (_, proxy):
        assert await proxy.ping() == "pong"
