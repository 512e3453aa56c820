"""Connections that are reset at every byte, lead into black holes, or are slow."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any

import pytest

import amqproxy
from tests.faults.diary import Diary, diary
from tests.faults.network import Direction, Relay
from tests.faults.table import Row

AT_ONCE = 1.0
BACK = 5.0
"""Seconds within which a connection is back that nothing stands in the way of."""
HEARTBEAT = 1
GRACE = 3 * HEARTBEAT + 1.0
"""Seconds within which silence is found out."""
AT_A_TIME = 8

directions = pytest.mark.parametrize("way", ["up", "down"])


async def in_turn(steps: Iterable[Any], step: Callable[[Any], Any]) -> None:
    """Take all steps, several at a time."""
    left = iter(steps)

    async def take() -> None:
        for each in left:
            await step(each)

    async with asyncio.TaskGroup() as group:
        for _ in range(AT_A_TIME):
            group.create_task(take())


async def size_of_a_call(url: str, service: str, way: str) -> int:
    """How many bytes a call takes in one direction."""
    async with Relay.to(url) as relay, amqproxy.connect(relay.url, heartbeat=0) as mq:
        proxy = mq.proxy(service)
        direction: Direction = getattr(relay, way)
        await proxy.note(0)
        before = direction.passed
        await proxy.note(0)
        return direction.passed - before


@asynccontextmanager
async def worker(relay: Relay, service: str) -> AsyncIterator[Diary]:
    """A worker behind a network, whose queue outlives its connection."""
    options = {"durable": True, "arguments": {"x-expires": 60_000}}
    handler = Diary()
    async with amqproxy.connect(relay.url, heartbeat=0) as mq, mq.serve(handler, name=service, **options):
        yield handler


async def reset_behind_each_byte(
    url: str, service: str, way: str, call: Callable[[Any, int], Awaitable[None]], **options: Any
) -> Diary:
    """Make a call for each byte that one takes, on a connection that is reset there, and tell what ran."""
    async with diary(url, service, auto_delete=True) as handler:
        size = await size_of_a_call(url, service, way)

        async def step(number: int) -> None:
            async with Relay.to(url) as relay, amqproxy.connect(relay.url, heartbeat=0) as mq:
                proxy = mq.proxy(service, timeout=BACK, **options)
                await proxy.note(0)
                getattr(relay, way).reset_after(number)
                await call(proxy, number)
                assert relay.connections == 2

        await in_turn(range(1, size), step)
        assert way == "up" or set(range(1, size)) <= handler.ran.keys()
        return handler


@pytest.mark.fault("F06", "reset behind each byte of a call")
@directions
@pytest.mark.long
async def test_a_call_whose_connection_is_reset_behind_any_byte_of_it(
    amqp_url: str, service: str, row: Row, way: str
) -> None:
    async def call(proxy: Any, number: int) -> None:
        with row.sees(amqproxy.ConnectionLost, executed="maybe", within=AT_ONCE):
            await proxy.note(number)
        with row.sees("the answer of the next call", within=BACK):
            assert await proxy.note(0) == 0

    handler = await reset_behind_each_byte(amqp_url, service, way, call)
    row.count(duplicated=handler.again(handler.ran.keys() - {0}))


@pytest.mark.fault("F06", "reset behind each byte of an idempotent call")
@directions
@pytest.mark.long
async def test_an_idempotent_call_is_answered_whatever_byte_its_connection_is_reset_behind(
    amqp_url: str, service: str, row: Row, way: str
) -> None:
    async def call(proxy: Any, number: int) -> None:
        with row.sees("the answer", within=BACK):
            assert await proxy.note(number) == 2 * number

    handler = await reset_behind_each_byte(amqp_url, service, way, call, idempotent=True)
    row.count(duplicated=handler.again(handler.ran.keys() - {0}))


@pytest.mark.parametrize("end", ["reset_after", "close_after"])
@pytest.mark.fault("F06", "reset, or closed, behind each byte of the handshake")
@directions
async def test_a_handshake_that_ends_behind_any_byte_is_no_fault_of_the_credentials(
    amqp_url: str, row: Row, way: str, end: str
) -> None:
    async with Relay.to(amqp_url) as relay, amqproxy.connect(relay.url):
        size = getattr(relay, way).passed

    async def step(number: int) -> None:
        async with Relay.to(amqp_url) as relay:
            getattr(getattr(relay, way), end)(number)
            with row.sees(amqproxy.BrokerUnavailable, within=AT_ONCE):
                await amqproxy.connect(relay.url, connect_timeout=5)

    await in_turn(range(1, size), step)


@pytest.mark.fault("F06", "reset behind each byte of a worker's traffic for a call")
@directions
@pytest.mark.long
async def test_a_call_is_answered_whatever_byte_its_workers_connection_is_reset_behind(
    amqp_url: str, service: str, row: Row, way: str
) -> None:
    """At least once: the broker gives the call to the worker again."""
    async with Relay.to(amqp_url) as relay, amqproxy.connect(amqp_url) as mq, worker(relay, service):
        await mq.proxy(service).note(0)
        before = getattr(relay, way).passed
        await mq.proxy(service).note(0)
        size = getattr(relay, way).passed - before
        assert size > 0

    async def step(number: int) -> None:
        name = f"{service}.{number}"
        async with Relay.to(amqp_url) as relay, amqproxy.connect(amqp_url) as mq, worker(relay, name) as handler:
            proxy = mq.proxy(name, timeout=BACK)
            await proxy.note(0)
            getattr(relay, way).reset_after(number)
            with row.sees("the answer", within=BACK):
                assert await proxy.note(1) == 2
            row.count(duplicated=handler.again([1]))

    await in_turn(range(1, size + 1), step)
