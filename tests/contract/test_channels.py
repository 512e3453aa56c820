"""Channels that the broker closes, and channels that nobody waits for: whatever else the connection has goes on."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

import pytest

import amqproxy
from amqproxy.lane import Lane
from amqproxy.properties import Properties
from tests.contract.raw import Raw
from tests.contract.test_dead_letters import letters, mailer
from tests.contract.test_deadlines import Gate, gate
from tests.faults.network import Direction, Relay
from tests.patience import until


def close_by_a_lie(lane: Lane) -> None:
    """Publish in the name of somebody else, for which the broker closes the channel."""
    lane.publish(lane.destination(b"", b"nowhere"), Properties(user_id=b"somebody").encode(), b"")


def has_passed_more(direction: Direction, passed: int) -> bool:
    return direction.passed > passed


class Turnstile:
    """Lets calls pass one by one."""

    def __init__(self) -> None:
        self.entered = 0
        self.turns = asyncio.Semaphore(0)

    async def wait(self, number: int) -> int:
        self.entered += 1
        await self.turns.acquire()
        return number


async def test_a_channel_that_is_closed_under_calls_takes_no_other_with_it(mq: amqproxy.Client, service: str) -> None:
    """Something is sent in each turn of the event loop, until the broker's reason is known."""
    async with gate(mq, service, concurrency=5000) as (handler, proxy):
        link = mq._live_connection().current_link
        elsewhere: Any = mq.proxy(Gate, name=service, exchange="amq.direct")  # its calls have a channel of their own
        unconcerned = asyncio.create_task(proxy.wait(1))
        await handler.entered.acquire()
        for _ in range(5):
            assert await elsewhere.ping() == "pong"
            sent = [asyncio.create_task(elsewhere.wait(2))]
            await asyncio.sleep(0)
            close_by_a_lie(elsewhere.ping.line.lane)
            while not sent[0].done():
                sent.append(asyncio.create_task(elsewhere.wait(3)))
                await asyncio.sleep(0)
            for call in sent:
                call.cancel()
            [failed, *_] = await asyncio.gather(*sent, return_exceptions=True)
            assert isinstance(failed, amqproxy.ConnectionLost) and "PRECONDITION_FAILED" in str(failed)
            assert await proxy.ping() == "pong"
        assert link is mq._live_connection().current_link and link is not None and not link.closed.done()
        handler.open.set()
        assert await unconcerned == 1


async def test_a_channel_that_is_closed_under_answers_takes_no_other_worker_with_it(
    amqp_url: str, mq: amqproxy.Client, service: str
) -> None:
    """A call ends in each turn of the event loop, until the worker knows that its channel is gone."""
    calls = 1500
    handler = Turnstile()
    async with (
        amqproxy.connect(amqp_url) as server,
        gate(server, f"{service}.other") as (elsewhere, _),
        server.serve(handler, name=service, arguments={"x-expires": 60_000}, concurrency=calls) as worker,
    ):
        link, session = server._live_connection().current_link, worker.session
        assert link is not None and session is not None
        other = mq.proxy(Gate, name=f"{service}.other")
        unconcerned = asyncio.create_task(other.wait(1))
        await elsewhere.entered.acquire()
        proxy = mq.proxy(Turnstile, name=service, timeout=60)
        sent = [asyncio.create_task(proxy.wait(number)) for number in range(calls)]
        await until(lambda: handler.entered == calls, within=20)
        close_by_a_lie(session._lane)
        while not session.ended.done():
            handler.turns.release()
            await asyncio.sleep(0)
        assert worker.running, "nothing was left to be answered when the channel went"
        for _ in range(2 * calls):
            handler.turns.release()
        assert await asyncio.gather(*sent) == list(range(calls))
        assert await other.ping() == "pong"
        assert server._live_connection().current_link is link and not link.closed.done()
        elsewhere.open.set()
        assert await unconcerned == 1
        assert elsewhere.entered.locked()  # it ran once


async def test_dead_letters_have_another_channel_when_theirs_was_closed_while_it_was_idle(
    mq: amqproxy.Client, service: str
) -> None:
    async with mailer(mq, service, dead_letters=True) as (_, worker):
        await mq.sender(service).send("ann")
        await letters(mq, service, 1)
        link, session = mq._live_connection().current_link, worker.session
        assert link is not None and session is not None and session.replies.parking is not None
        parking = session.replies.parking
        assert parking._opened is not None
        lane = parking._opened.lane
        close_by_a_lie(lane)
        await until(lambda: not lane.open)
        await mq.sender(service).send("bob")
        await letters(mq, service, 2)
        assert mq._live_connection().current_link is link and not link.closed.done()
        assert worker.session is session


async def test_a_line_that_was_being_opened_while_the_reply_queue_went_gets_the_address_of_the_next(
    amqp_url: str, service: str
) -> None:
    async with (
        Relay.to(amqp_url) as relay,
        amqproxy.connect(amqp_url) as server,
        gate(server, service),
        amqproxy.connect(relay.url) as mq,
    ):
        plain: Any = mq.proxy(Gate, name=service)
        assert await plain.ping() == "pong"
        first = plain.ping.line
        link = await mq._live_connection().link()
        channel, before = await link._channel(), len(link._aiormq.channels)
        relay.up.latency = relay.down.latency = 0.1  # what follows happens at once, as far as the broker's answers go
        call = asyncio.create_task(mq.proxy(Gate, name=service, confirm=True, timeout=20).ping())
        await until(lambda: len(link._aiormq.channels) > before)
        await channel.queue_delete(first.reply_to.decode())
        assert not first.lane.open and not call.done()
        assert await call == "pong"
        assert await plain.ping() == "pong"


@pytest.mark.parametrize("answers", range(3))
async def test_no_channel_is_left_of_an_opening_that_was_cancelled(amqp_url: str, answers: int) -> None:
    """After so many answers of the broker: there is one to the opening itself, to the prefetch, and to confirm mode."""
    async with Relay.to(amqp_url) as relay, amqproxy.connect(relay.url) as mq:
        link = await mq._live_connection().link()
        before = len(link._aiormq.channels)
        relay.down.latency = 0.1  # the next answer is not there yet when this one is seen
        peer = Raw()
        opening = asyncio.create_task(link.open_lane(peer, lambda error: None, prefetch=1, confirms=True))
        await until(lambda: len(link._aiormq.channels) > before)
        for _ in range(answers):
            await until(partial(has_passed_more, relay.down, relay.down.passed))
        opening.cancel()
        with pytest.raises(asyncio.CancelledError):
            await opening
        await until(lambda: len(link._aiormq.channels) == before, lambda: f"{len(link._aiormq.channels)} are open")
        assert not link._protocol.lanes and not link._numbers
        again = await link.open_lane(peer, lambda error: None, prefetch=1, confirms=True)
        await again.close()
        assert not link.closed.done()
