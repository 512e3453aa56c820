"""Confirmations that come late or never: senders are told what is known, and nothing is left behind."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

import amqproxy
from amqproxy.testing import RabbitMQ
from tests.contract.test_sender import Diary, declare, diary, nothing_is_left, publisher, waiting_in
from tests.faults.network import Relay


async def test_too_many_that_are_not_confirmed_are_refused_here(amqp_url: str, service: str) -> None:
    async with Relay.to(amqp_url) as relay, amqproxy.connect(relay.url, max_in_flight=50) as mq:
        await declare(mq, service)
        sender = mq.sender(service)
        await sender.add(0)
        relay.down.hold()
        sent = [asyncio.create_task(sender.add(n)) for n in range(51)]
        with pytest.raises(amqproxy.Overloaded, match="max_in_flight"):
            await sent[-1]
        limited = amqproxy.options(sender, max_in_flight=1)
        relay.down.release()
        assert await asyncio.gather(*sent[:-1]) == [None] * 50
        relay.down.hold()
        first = asyncio.create_task(limited.add(1))
        await asyncio.sleep(0)
        with pytest.raises(amqproxy.Overloaded, match="the proxy's max_in_flight"):
            await limited.add(2)
        relay.down.release()
        assert await first is None
        assert nothing_is_left(sender)


async def test_what_the_broker_does_not_confirm_in_time_may_be_there(amqp_url: str, service: str) -> None:
    async with Relay.to(amqp_url) as relay, amqproxy.connect(relay.url) as mq:
        await declare(mq, service)
        sender = mq.sender(service)
        await sender.add(0)
        relay.down.hold()
        with pytest.raises(amqproxy.CallTimeout, match=r"did not confirm the message within 0\.1 s") as late:
            await amqproxy.options(sender, timeout=0.1).add(1)
        assert late.value.executed == "maybe"
        relay.down.release()
        await sender.add(2)
        assert await waiting_in(mq, service) == 3
        assert nothing_is_left(sender)


async def test_messages_that_are_cancelled_leave_nothing_while_the_broker_is_silent(
    amqp_url: str, service: str
) -> None:
    async with Relay.to(amqp_url) as relay, amqproxy.connect(relay.url) as mq:
        await declare(mq, service)
        sender = mq.sender(service)
        await sender.add(0)
        relay.down.hold()
        sent = [asyncio.create_task(sender.add(n)) for n in range(2000)]
        await asyncio.sleep(0)
        assert len(publisher(sender).calls) == 2000
        for each in sent:
            each.cancel()
        outcomes = await asyncio.gather(*sent, return_exceptions=True)
        assert {type(each) for each in outcomes} == {asyncio.CancelledError}
        assert nothing_is_left(sender)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await sender.add(1)
        assert nothing_is_left(sender)
        relay.down.release()
        await sender.add(2)
        assert await waiting_in(mq, service) == 2003
        assert nothing_is_left(sender)


async def test_a_message_whose_link_breaks_may_be_there(amqp_url: str, service: str) -> None:
    async with Relay.to(amqp_url) as relay, amqproxy.connect(relay.url) as mq:
        await declare(mq, service)
        sender = mq.sender(service)
        await sender.add(0)
        line = publisher(sender)
        relay.down.hold()
        sent = asyncio.create_task(sender.add(1))
        await asyncio.sleep(0)
        relay.cut()
        with pytest.raises(amqproxy.ConnectionLost, match=r"add: .*broke") as lost:
            await sent
        assert lost.value.executed == "maybe"
        await sender.add(2)  # an idle sender does not notice
        assert publisher(sender) is not line
        assert len(line.calls) == 0


async def test_an_idempotent_message_is_sent_again_under_its_own_id(amqp_url: str, service: str) -> None:
    async with (
        amqproxy.connect(amqp_url) as server,
        diary(server, service) as (served, _),
        Relay.to(amqp_url) as relay,
        amqproxy.connect(relay.url) as mq,
    ):
        sender: Any = mq.sender(Diary, name=service)
        await sender.again(0)
        await served.next()
        relay.down.hold()
        sent = asyncio.create_task(sender.again(1))
        first = await served.next()
        relay.cut()
        assert await sent is None
        assert await served.next() == first
        assert first[0] == 1


async def test_one_that_is_sent_again_and_comes_back_is_told_from_the_others(amqp_url: str, service: str) -> None:
    async with Relay.to(amqp_url) as relay, amqproxy.connect(relay.url) as mq:
        await declare(mq, service)
        sender = mq.sender(service, idempotent=True)
        await sender.add(0)
        relay.down.hold()
        sent = asyncio.create_task(sender.add(1))
        while await waiting_elsewhere(amqp_url, service) < 2:
            pass
        async with amqproxy.connect(amqp_url) as other:
            channel = await (await other._live_connection().link())._channel()
            await channel.queue_delete(service)
        relay.cut()
        with pytest.raises(amqproxy.Unroutable) as gone:
            await sent
        assert gone.value.executed == "maybe"  # the first one was there


async def waiting_elsewhere(url: str, name: str) -> int:
    async with amqproxy.connect(url) as mq:
        return await waiting_in(mq, name)


async def test_closing_fails_what_is_not_confirmed(amqp_url: str, service: str) -> None:
    async with Relay.to(amqp_url) as relay:
        mq = await amqproxy.connect(relay.url)
        await declare(mq, service)
        sender = mq.sender(service)
        await sender.add(0)
        relay.down.hold()
        sent = asyncio.create_task(sender.add(1))
        await asyncio.sleep(0)
        closing = asyncio.create_task(mq.close())
        with pytest.raises(amqproxy.ConnectionLost, match="closed before the broker confirmed"):
            await sent
        relay.down.release()
        await closing
        with pytest.raises(amqproxy.Closed):
            await sender.add(2)
        with pytest.raises(amqproxy.Closed):
            mq.sender(service)


async def test_a_full_socket_holds_senders_up_to_their_deadline(amqp_url: str, service: str) -> None:
    async with Relay.to(amqp_url) as relay, amqproxy.connect(relay.url) as mq:
        await declare(mq, service)
        sender = mq.sender(service)
        await sender.add("")
        relay.up.hold()
        sent = []
        while publisher(sender).lane.writable:  # the kernel takes some, and then some more
            while publisher(sender).lane.writable:
                sent.append(asyncio.create_task(sender.add("x" * 1_000_000)))
                await asyncio.sleep(0)
            await asyncio.sleep(0.2)
        with pytest.raises(amqproxy.CallTimeout, match="could not be sent") as full:
            await amqproxy.options(sender, timeout=0.1).add(1)
        assert full.value.executed == "no"
        waiting = asyncio.create_task(sender.add(2))
        relay.up.release()
        assert await asyncio.gather(*sent, waiting) == [None] * (len(sent) + 1)
        assert await waiting_in(mq, service) == len(sent) + 2


async def test_a_broker_that_takes_nothing_lets_senders_wait(rabbitmq_node: RabbitMQ, service: str) -> None:
    async with amqproxy.connect(rabbitmq_node.url) as mq:
        await declare(mq, service)
        sender = mq.sender(service)
        await sender.add(0)
        await asyncio.to_thread(rabbitmq_node.ctl, "set_vm_memory_high_watermark", "0")
        try:
            with pytest.raises(amqproxy.CallTimeout):
                await amqproxy.options(sender, timeout=0.2).add(1)
            waiting = asyncio.create_task(sender.add(2))
        finally:
            await asyncio.to_thread(rabbitmq_node.ctl, "set_vm_memory_high_watermark", "0.4")
        assert await waiting is None
        assert await waiting_in(mq, service) == 3


async def test_what_was_confirmed_outlives_the_broker(rabbitmq_node: RabbitMQ, service: str) -> None:
    async with amqproxy.connect(rabbitmq_node.url) as mq:
        await declare(mq, service)
        await asyncio.gather(*(mq.sender(Diary, name=service).add(n) for n in range(100)))
        await asyncio.to_thread(rabbitmq_node.kill)
        await asyncio.to_thread(rabbitmq_node.start)
        served = Diary()
        async with mq.serve(served, name=service, arguments={"x-expires": 60_000}):
            assert sorted([await served.next() for _ in range(100)]) == [(n, 0) for n in range(100)]
