"""Frames and properties that no broker sends, and that RabbitMQ hands on all the same if a stranger wrote them."""

from __future__ import annotations

import pytest
from pamqp import commands

import amqproxy
from tests.faults.script import Message, Scripted
from tests.faults.table import Row

PROPERTIES = {
    "no UTF-8 in a short string": b"\x80\x00\x03\xff\xfe\xfd",  # content-type
    "flags without their values": b"\xff\xf8",
    "a table that is longer than the frame": b"\x20\x00\x7f\xff\xff\xff",
}


@pytest.mark.parametrize("properties", PROPERTIES.values(), ids=PROPERTIES)
@pytest.mark.fault("F34", "properties that do not decode, for a caller")
async def test_an_answer_whose_properties_do_not_decode_is_dropped_alone(row: Row, properties: bytes) -> None:
    row.broker = "a scripted peer"

    def answer(message: Message) -> None:
        queue = message.properties.reply_to or ""
        peer.deliver(queue, properties, b"7")
        good = commands.Basic.Properties(content_type="x", correlation_id=message.properties.correlation_id)
        peer.deliver(queue, good, b"7")

    async with Scripted.peer() as peer, amqproxy.connect(peer.url) as mq:
        peer.on_message = answer
        with row.sees("the answer behind it", within=1.0):
            assert await mq.proxy("diary", timeout=5).note(1) == 7
        assert (peer.connections, mq.caller.strays) == (1, 1)


@pytest.mark.fault("F34", "a frame that is none, for a caller, at its first connection")
async def test_a_frame_that_is_none_ends_its_connection_alone(row: Row) -> None:
    row.broker = "a scripted peer"

    def answer(message: Message) -> None:
        if peer.connections == 1:
            peer.send(message.channel, b"\x01\x00\x01\x00\x00\x00\x02XX\x00")  # it ends in no 0xCE
            return
        good = commands.Basic.Properties(content_type="x", correlation_id=message.properties.correlation_id)
        peer.deliver(message.properties.reply_to or "", good, b"7")

    async with Scripted.peer() as peer, amqproxy.connect(peer.url) as mq:
        peer.on_message = answer
        with row.sees(amqproxy.ConnectionLost, executed="maybe", within=1.0):
            await mq.proxy("diary", timeout=5).note(1)
        with row.sees("the answer of the next call", within=5.0):
            assert await mq.proxy("diary", timeout=5).note(2) == 7
        assert peer.connections == 2
