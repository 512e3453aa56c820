"""What no broker would do, done by a peer that was told to."""

from __future__ import annotations

import pytest
from pamqp import commands

import amqproxy
from tests.faults.script import Message, Scripted
from tests.faults.table import Row


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
