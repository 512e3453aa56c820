"""Messages that are kept back: never early, hardly late, and no queue stays for them."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

import amqproxy
from amqproxy import publisher, topology
from amqproxy.testing import RabbitMQ
from amqproxy.topology import Queue
from tests.contract.raw import Raw

LATE = 2.0
"""Seconds that a busy machine may take for what should take none."""


class Clock:
    """Notes what comes, and when."""

    def __init__(self) -> None:
        self.ticks: asyncio.Queue[tuple[float, int]] = asyncio.Queue()

    async def tick(self, number: int) -> None:
        self.ticks.put_nowait((time.monotonic(), number))

    async def next(self) -> tuple[float, int]:
        async with asyncio.timeout(20):
            return await self.ticks.get()


async def delay_queue(mq: amqproxy.Client, milliseconds: int, service: str) -> tuple[int, int] | None:
    """Messages and consumers of a delay queue."""
    return await (await mq._live_connection().link()).queue_counts(f"amqproxy.delay.{milliseconds}.{service}")


async def delete(mq: amqproxy.Client, queue: str) -> None:
    channel = await (await mq._live_connection().link())._channel()
    await channel.queue_delete(queue)
    await channel.close()


async def forget(mq: amqproxy.Client, service: str, *milliseconds: int) -> None:
    for each in milliseconds:
        await delete(mq, f"amqproxy.delay.{each}.{service}")


async def test_messages_come_in_the_order_of_their_delays_and_never_early(mq: amqproxy.Client, service: str) -> None:
    clock = Clock()
    async with mq.serve(clock, name=service, auto_delete=True):
        sender = mq.sender(Clock, name=service)
        sent: dict[int, float] = {}
        for milliseconds in (700, 200, 450, 0):
            sent[milliseconds] = time.monotonic()
            await amqproxy.options(sender, delay=milliseconds / 1000).tick(milliseconds)
        for expected in (0, 200, 450, 700):
            at, number = await clock.next()
            assert number == expected
            assert expected / 1000 <= at - sent[number] < expected / 1000 + LATE
        await forget(mq, service, 700, 200, 450)


async def test_many_messages_of_one_delay_share_a_queue_and_keep_their_order(mq: amqproxy.Client, service: str) -> None:
    clock = Clock()
    async with mq.serve(clock, name=service, auto_delete=True, concurrency=1):
        sender = mq.sender(Clock, name=service, delay=0.5)
        began = time.monotonic()
        await asyncio.gather(*(sender.tick(number) for number in range(300)))
        taken = await delay_queue(mq, 500, service)
        if time.monotonic() - began < 0.5:  # else some have left already
            assert taken == (300, 0)
        assert [(await clock.next())[1] for _ in range(300)] == list(range(300))
        await forget(mq, service, 500)


async def test_the_wire_tells_the_worker_where_a_message_waited_and_nothing_else_new(
    mq: amqproxy.Client, raw: Raw
) -> None:
    queue = raw.reply_to.decode()
    sender = mq.sender("clock", routing_key=queue, delay=0.1, priority=4, headers={"a": 1})
    await sender.tick(1)
    message = await raw.next_message()
    properties = message.properties
    assert (properties.content_type, properties.delivery_mode, properties.priority) == (b"clock.tick", 2, 4)
    assert (properties.reply_to, properties.expiration, properties.correlation_id) == (None, None, None)
    headers: Any = properties.headers
    assert headers["a"] == 1
    assert [(death["reason"], death["queue"]) for death in headers["x-death"]] == [
        ("expired", f"amqproxy.delay.100.{queue}")
    ]
    await forget(mq, queue, 100)


async def test_a_delay_ends_at_the_exchange_that_was_asked_for(mq: amqproxy.Client, service: str) -> None:
    clock, exchange = Clock(), service + ".x"
    async with mq.serve(clock, name=service, auto_delete=True, exchange=exchange, routing_key="k"):
        sender = mq.sender(Clock, name=service, exchange=exchange, routing_key="k", delay=0.1, max_in_flight=5)
        await sender.tick(1)
        assert (await clock.next())[1] == 1
        await delete(mq, topology.delay_queue(100, exchange, "k").name)
    channel = await (await mq._live_connection().link())._channel()
    await channel.exchange_delete(exchange)
    with pytest.raises(amqproxy.Unroutable, match=f"tick: there is no exchange '{exchange}' in the virtual host '/'"):
        await amqproxy.options(sender, delay=0.2).tick(1)


async def test_what_would_find_no_queue_is_unroutable_at_once_and_leaves_none(
    mq: amqproxy.Client, service: str
) -> None:
    with pytest.raises(amqproxy.Unroutable, match=f"there is no queue '{service}' .*was a worker ever started") as none:
        await mq.sender(Clock, name=service, delay=0.1).tick(1)
    assert none.value.executed == "no"
    assert await delay_queue(mq, 100, service) is None


async def test_the_queue_may_be_deleted_behind_the_senders_back(mq: amqproxy.Client, service: str) -> None:
    clock = Clock()
    async with mq.serve(clock, name=service):
        sender = mq.sender(Clock, name=service, delay=0.1)
        for number in range(3):
            await sender.tick(number)
            assert (await clock.next())[1] == number
            await forget(mq, service, 100)
        await sender.tick(3)
        assert (await clock.next())[1] == 3
    await delete(mq, service)
    await forget(mq, service, 100)
    with pytest.raises(amqproxy.Unroutable, match=f"there is no queue '{service}'"):
        await sender.tick(4)


async def test_another_queue_under_the_name_is_a_conflict_that_is_named(mq: amqproxy.Client, service: str) -> None:
    link = await mq._live_connection().link()
    async with mq.serve(Clock(), name=service, auto_delete=True):
        await link.declare_queue(Queue(f"amqproxy.delay.100.{service}", arguments={"x-message-ttl": 5}))
        with pytest.raises(amqproxy.TopologyConflict, match="inequivalent arg"):
            await mq.sender(Clock, name=service, delay=0.1).tick(1)
        await forget(mq, service, 100)


async def test_a_queue_in_use_is_kept_and_goes_when_nobody_uses_it(
    mq: amqproxy.Client, service: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(topology, "DELAY_LEASE_SECONDS", 0.5)
    monkeypatch.setattr(publisher, "RENEW_SECONDS", 0.2)
    clock = Clock()
    async with mq.serve(clock, name=service, auto_delete=True):
        sender = mq.sender(Clock, name=service, delay=0.5)
        for number in range(20):  # 2 s: the queue of the first declare would be gone after one
            await sender.tick(number)
            await asyncio.sleep(0.1)
        assert [(await clock.next())[1] for _ in range(20)] == list(range(20))
        assert await delay_queue(mq, 500, service) == (0, 0)
        for _ in range(5):
            await asyncio.sleep(1.2)  # to look at it is to use it, and nothing tells that it is gone
            if await delay_queue(mq, 500, service) is None:
                break
        else:
            pytest.fail("the queue is still there")
        await sender.tick(20)
        assert (await clock.next())[1] == 20
        await forget(mq, service, 500)


async def test_leases_are_kept_for_queues_in_use_only(
    mq: amqproxy.Client, service: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publisher, "MAX_LEASES", 2)
    monkeypatch.setattr(publisher, "RENEW_SECONDS", 0.05)
    async with mq.serve(Clock(), name=service, auto_delete=True):
        for milliseconds in range(1, 7):
            await mq.sender(Clock, name=service, delay=milliseconds / 1000).tick(1)
            await asyncio.sleep(0.06)
        assert 1 <= len(mq.publishers.delays._declared) <= 2
        await forget(mq, service, *range(1, 7))


async def test_a_delay_outlives_the_broker(rabbitmq_node: RabbitMQ, service: str) -> None:
    async with amqproxy.connect(rabbitmq_node.url) as mq:
        clock = Clock()
        async with mq.serve(clock, name=service, arguments={"x-expires": 60_000}):
            began = time.monotonic()
            sender = mq.sender(Clock, name=service, delay=1.5)
            await asyncio.gather(*(sender.tick(number) for number in range(20)))
            await asyncio.to_thread(rabbitmq_node.kill)
            await asyncio.to_thread(rabbitmq_node.start)
            ticks = [await clock.next() for _ in range(20)]
            assert sorted(number for _, number in ticks) == list(range(20))
            assert min(at for at, _ in ticks) - began >= 1.5
            await sender.tick(20)  # the queue is declared again on the new link
            assert (await clock.next())[1] == 20
        await forget(mq, service, 1500)
