"""What no broker would do, done by a peer that was told to."""

from __future__ import annotations

import asyncio
import contextlib
import logging

import pytest
from pamqp import commands

import amqproxy
from amqproxy.connection import REFUSALS_BORNE
from tests.faults.script import Message, Scripted
from tests.faults.table import Row
from tests.patience import until


@pytest.mark.fault("F01", "reset as soon as the message is there, before it is confirmed")
async def test_a_message_that_was_not_confirmed_when_the_link_broke_may_be_there(row: Row) -> None:
    row.broker = "a scripted peer"
    async with Scripted.peer() as peer, amqproxy.connect(peer.url) as mq:
        peer.on_message = peer.reset
        with row.sees(amqproxy.ConnectionLost, executed="maybe", within=1.0):
            await mq.sender("diary").note(1)


@pytest.mark.fault("F01", "reset before the first confirmation of an idempotent message")
async def test_an_idempotent_message_is_sent_until_it_is_confirmed(row: Row) -> None:
    row.broker = "a scripted peer"
    ids: list[str | None] = []

    def confirm_the_second(message: Message) -> None:
        ids.append(message.properties.message_id)
        if len(ids) == 1:
            peer.reset()
        else:
            peer.send(message.channel, commands.Basic.Ack(message.number))

    async with Scripted.peer() as peer, amqproxy.connect(peer.url) as mq:
        peer.on_message = confirm_the_second
        with row.sees("confirmed", within=5.0):
            await mq.sender("diary", idempotent=True).note(1)
        assert ids[0] == ids[1] is not None


@pytest.mark.fault("F59", "basic.nack for the first message, basic.ack for the next")
async def test_a_message_that_the_broker_refuses_is_overloaded(row: Row) -> None:
    row.broker = "a scripted peer"
    async with Scripted.peer() as peer, amqproxy.connect(peer.url) as mq:
        peer.on_message = lambda message: peer.send(
            message.channel,
            commands.Basic.Nack(message.number) if message.number == 1 else commands.Basic.Ack(message.number),
        )
        with row.sees(amqproxy.Overloaded, executed="no", within=1.0):
            await mq.sender("diary").note(1)
        with row.sees("confirmed", within=1.0):
            await mq.sender("diary").note(2)


@pytest.mark.fault("F60", "basic.nack for all that comes on a channel after its first message, basic.ack on others")
@pytest.mark.parametrize("confirmed_calls", [False, True])
async def test_a_channel_on_which_all_is_refused_is_left_for_another(
    row: Row, confirmed_calls: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """As RabbitMQ 3.10 does when a message came before its quorum queue had a leader; the first one is still out."""
    row.broker = "a scripted peer"
    first: list[Message] = []

    def take(message: Message) -> None:
        if not first:
            first.append(message)
        elif message.channel == first[0].channel:
            peer.send(message.channel, commands.Basic.Nack(message.number))
        else:
            accept(message)

    def accept(message: Message) -> None:
        peer.send(message.channel, commands.Basic.Ack(message.number))
        if message.properties.reply_to:
            answer = commands.Basic.Properties(
                correlation_id=message.properties.correlation_id, content_encoding="json"
            )
            peer.deliver(message.properties.reply_to, answer, b"1")

    async with Scripted.peer() as peer, amqproxy.connect(peer.url) as mq:
        peer.on_message = take
        view = mq.proxy("diary", confirm=True) if confirmed_calls else mq.sender("diary")
        note = amqproxy.options(view, timeout=20.0).note
        patient = asyncio.create_task(note(0))
        await until(lambda: first)
        refused = 0
        with row.sees("confirmed on another channel", within=3.0), caplog.at_level(logging.WARNING):
            while refused < 200:
                with contextlib.suppress(amqproxy.Overloaded):
                    await note(1)
                    break
                refused += 1
                await asyncio.sleep(0.05)
        assert refused > 10, "the channel was left too soon"
        assert refused < 200, "the channel was not left"
        assert "the broker refuses what is sent to exchange ''" in caplog.text
        assert peer.closed == [] and not patient.done()
        accept(first[0])
        assert await patient == (1 if confirmed_calls else None)
        await until(lambda: peer.closed == [first[0].channel])
        await note(2)
        assert peer.connections == 1


@pytest.mark.fault("F50", "connection reset, the next two logins refused")
async def test_who_was_let_in_and_is_refused_for_a_moment_comes_back(
    row: Row, caplog: pytest.LogCaptureFixture
) -> None:
    row.broker = "a scripted peer"
    caplog.set_level(logging.WARNING, "amqproxy")
    async with Scripted.peer() as peer, amqproxy.connect(peer.url) as mq:
        peer.on_message = lambda message: peer.send(message.channel, commands.Basic.Ack(message.number))
        peer.refuses = 2
        peer.reset()
        await until(lambda: mq.state.name == "reconnecting")
        with row.sees("confirmed, by the third login", within=5.0):
            await mq.sender("diary").note(1)
        assert (mq.state.name, peer.logins) == ("open", 4)
        assert caplog.text.count("refused the user 'guest'") == 2


@pytest.mark.fault("F50", "connection reset, every login refused from then on")
async def test_who_was_let_in_and_is_refused_again_and_again_gives_up(row: Row) -> None:
    row.broker = "a scripted peer"
    async with Scripted.peer() as peer, amqproxy.connect(peer.url) as mq:
        peer.refuses = 1000
        peer.reset()
        await until(lambda: mq.state.name == "reconnecting")
        with row.sees(amqproxy.AccessRefused, within=15.0, match="refused the user 'guest'"):
            await mq.sender("diary").note(1)
        assert (mq.state.name, peer.logins) == ("closed", 2 + REFUSALS_BORNE)


@pytest.mark.fault("F49", "the first login refused")
@pytest.mark.parametrize("wait", [False, True])
async def test_who_was_never_let_in_is_told_at_once(row: Row, wait: bool) -> None:
    row.broker = "a scripted peer"
    async with Scripted.peer() as peer:
        peer.refuses = 1
        with row.sees(amqproxy.AccessRefused, within=1.0):
            await amqproxy.connect(peer.url, wait=wait)
        assert peer.logins == 1
