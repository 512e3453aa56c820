"""Connections that lead into a black hole, in one direction or both, and those that are very slow."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

import amqproxy
from amqproxy.testing import RabbitMQ
from tests.contract.test_links import delete_queue
from tests.faults.diary import Diary, diary
from tests.faults.network import Relay
from tests.faults.nodes import frozen
from tests.faults.table import Row

HEARTBEAT = 1
FOUND_OUT = 3.0 * (HEARTBEAT + 1) + 2
"""Seconds until silence is taken for the end: three heartbeats and a second for each, looked at now and then."""
BACK = 5.0
CLOSED = 8.0
"""Seconds within which closing ends, whoever answers."""
CALLS = 20


def swallow(relay: Relay, way: str) -> None:
    """Let what is open lead into a black hole; further connections are good."""
    for direction in (relay.up, relay.down):
        if way in (direction.name, "both"):
            direction.swallow()


holes = pytest.mark.parametrize(
    "way",
    [
        pytest.param("to the broker", marks=pytest.mark.fault("F07", "nothing reaches the broker any more"), id="up"),
        pytest.param("to the client", marks=pytest.mark.fault("F08", "nothing reaches the client any more"), id="down"),
        pytest.param("both", marks=pytest.mark.fault("F08", "nothing gets through in either direction"), id="both"),
    ],
)


@pytest.mark.fault("F08", "nothing gets through in either direction, without any call more")
async def test_heartbeats_are_missed(embedded_url: str, service: str, row: Row) -> None:
    async with (
        diary(embedded_url, service, auto_delete=True) as handler,
        Relay.to(embedded_url) as relay,
        amqproxy.connect(relay.url, heartbeat=HEARTBEAT) as mq,
    ):
        call = asyncio.create_task(mq.proxy(service, timeout=20).wait(1))
        await handler.all_entered(1)
        swallow(relay, "both")
        with row.sees(amqproxy.ConnectionLost, executed="maybe", within=FOUND_OUT):
            await call


@pytest.mark.long
@holes
async def test_a_caller_in_a_black_hole_finds_out_by_the_heartbeat(
    amqp_url: str, service: str, row: Row, way: str
) -> None:
    async with (
        diary(amqp_url, service, auto_delete=True) as handler,
        Relay.to(amqp_url) as relay,
        amqproxy.connect(relay.url, heartbeat=HEARTBEAT) as mq,
    ):
        proxy = mq.proxy(service, timeout=20)
        begun = [asyncio.create_task(proxy.wait(number)) for number in range(CALLS)]
        again = asyncio.create_task(mq.proxy(service, timeout=20, idempotent=True).wait(CALLS))
        await handler.all_entered(CALLS + 1)
        swallow(relay, way)
        row.begin()
        lost = asyncio.create_task(proxy.note(CALLS + 1))
        for call in (*begun, lost):
            with row.sees(amqproxy.ConnectionLost, executed="maybe", within=FOUND_OUT, since_begin=True):
                await call
        handler.open.set()
        with row.sees("the answer of an idempotent call", within=FOUND_OUT + BACK, since_begin=True):
            assert await again == 2 * CALLS
        row.count(duplicated=handler.again([CALLS]))
        with row.sees("the answer of the next call", within=BACK):
            assert await proxy.note(CALLS + 2) == 2 * (CALLS + 2)


@pytest.mark.long
@holes
async def test_a_worker_in_a_black_hole_loses_no_call(amqp_url: str, service: str, row: Row, way: str) -> None:
    handler = Diary()
    async with (
        Relay.to(amqp_url) as relay,
        amqproxy.connect(relay.url, heartbeat=HEARTBEAT) as far,
        far.serve(handler, name=service, arguments={"x-expires": 60_000}),
        amqproxy.connect(amqp_url) as mq,
    ):
        proxy = mq.proxy(service, timeout=20)
        calls = [asyncio.create_task(proxy.wait(number)) for number in range(CALLS)]
        await handler.all_entered(CALLS)
        swallow(relay, way)
        row.begin()
        handler.open.set()  # it answers into the hole
        for number, call in enumerate(calls):
            with row.sees("the answer of a call to a worker behind it", within=FOUND_OUT + BACK, since_begin=True):
                assert await call == 2 * number
        row.count(duplicated=handler.again(range(CALLS)))
        with row.sees("the answer of the next call", within=FOUND_OUT + BACK):
            assert await proxy.note(CALLS) == 2 * CALLS


@pytest.mark.long
@pytest.mark.parametrize("what", ["caller", "worker"])
@pytest.mark.fault("F08", "closed while nothing gets through in either direction, without heartbeats")
async def test_closing_into_a_black_hole_is_bounded(amqp_url: str, service: str, row: Row, what: str) -> None:
    async with diary(amqp_url, service, auto_delete=True) as handler, Relay.to(amqp_url) as relay:
        client = await amqproxy.connect(relay.url, heartbeat=0)
        if what == "worker":
            await client.serve(handler, name=f"{service}.2", auto_delete=True).start()
        call = asyncio.create_task(client.proxy(service).wait(1))
        await handler.all_entered(1)
        swallow(relay, "both")
        with row.sees(f"the {what}'s connection closed", within=CLOSED):
            await client.close()
        with pytest.raises(amqproxy.ConnectionLost):
            await call


@pytest.mark.long
@pytest.mark.fault("F08", "SIGSTOP for the broker, SIGCONT once that is found out")
async def test_a_broker_that_is_frozen_is_found_out(rabbitmq_node: RabbitMQ, service: str, row: Row) -> None:
    node = rabbitmq_node
    async with diary(node.url, service) as handler, amqproxy.connect(node.url, heartbeat=HEARTBEAT) as mq:
        proxy = mq.proxy(service, timeout=20)
        calls = [asyncio.create_task(proxy.wait(number)) for number in range(CALLS)]
        await handler.all_entered(CALLS)
        with frozen(node.pid):
            row.begin()
            for call in calls:
                with row.sees(amqproxy.ConnectionLost, executed="maybe", within=FOUND_OUT, since_begin=True):
                    await call
            with row.sees(amqproxy.CallTimeout, executed="no", within=2.0):
                await amqproxy.options(proxy, timeout=1).note(CALLS)
            with row.sees(amqproxy.BrokerUnavailable, within=2.0):
                await amqproxy.connect(node.url, connect_timeout=1)
        handler.open.set()
        with row.sees("the answer of the next call, since SIGCONT", within=20.0):
            assert await answered(proxy, CALLS) == 2 * CALLS
        assert handler.ran[CALLS] == 1, "a call was said not to have run"
        await delete_queue(mq, service)


async def answered(proxy: Any, number: int) -> Any:
    """The answer, once whoever is on its way back is there."""
    while True:
        try:
            return await proxy.note(number)
        except amqproxy.ConnectionLost:
            await asyncio.sleep(0.05)


@pytest.mark.long
@pytest.mark.fault("F09", "0.5 s latency in both directions, heartbeats of 1 s")
async def test_latency_makes_calls_slower_and_breaks_nothing(amqp_url: str, service: str, row: Row) -> None:
    async with diary(amqp_url, service, auto_delete=True), Relay.to(amqp_url) as relay:
        relay.up.latency = relay.down.latency = 0.5
        async with amqproxy.connect(relay.url, heartbeat=HEARTBEAT, connect_timeout=20) as mq:
            proxy = mq.proxy(service, timeout=20)
            await proxy.note(0)
            with row.sees("the answer", within=2.0):
                assert await proxy.note(1) == 2
            with row.sees("200 answers of calls at once", within=5.0):
                assert await asyncio.gather(*map(proxy.note, range(200))) == list(range(0, 400, 2))
            await asyncio.sleep(4 * HEARTBEAT)  # without any call: heartbeats alone have to do
            with row.sees("the answer after 4 s of silence", within=2.0):
                assert await proxy.note(2) == 4
        assert relay.connections == 1


@pytest.mark.long
@pytest.mark.fault("F09", "one byte at a time, 2 kB/s, heartbeats of 1 s")
async def test_a_trickle_of_bytes_makes_calls_slower_and_breaks_nothing(amqp_url: str, service: str, row: Row) -> None:
    async with diary(amqp_url, service, auto_delete=True), Relay.to(amqp_url) as relay:
        for direction in (relay.up, relay.down):
            direction.piece, direction.bytes_per_second = 1, 2000
        async with amqproxy.connect(relay.url, heartbeat=HEARTBEAT, connect_timeout=20) as mq:
            proxy = mq.proxy(service, timeout=30)
            await proxy.note(0)
            with row.sees("the answer", within=5.0):
                assert await proxy.note(1) == 2
            with row.sees("20 answers of calls at once", within=25.0):
                assert await asyncio.gather(*map(proxy.note, range(20))) == list(range(0, 40, 2))
        assert relay.connections == 1
