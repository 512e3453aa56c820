"""The lane between a socket and aiormq: what goes where, and when it is written. The socket here is a list."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from amqproxy.frames import HEARTBEAT_FRAME, encode_ack, encode_nack, encode_publish, publish_method
from amqproxy.lane import JOIN_BYTES, Lane, LaneProtocol, LaneWriter
from amqproxy.properties import Properties

DELIVER = bytes.fromhex("003c003c 0374616700000000000000010000 017100".replace(" ", ""))
PROPERTIES = Properties(content_type=b"t").encode()
OTHER = b"\x01\x00\x00\x00\x00\x00\x04\x00\x0a\x00\x3c\xce"  # connection.blocked without a reason: not ours
FRAME_MAX = 4096


def frame(kind: int, channel: int, payload: bytes) -> bytes:
    return bytes((kind,)) + channel.to_bytes(2, "big") + len(payload).to_bytes(4, "big") + payload + b"\xce"


def delivery(channel: int, body: bytes) -> bytes:
    header = b"\x00\x3c\x00\x00" + len(body).to_bytes(8, "big") + PROPERTIES
    return frame(1, channel, DELIVER) + frame(2, channel, header) + frame(3, channel, body)


class Socket(asyncio.Transport):
    def __init__(self, protocol: LaneProtocol) -> None:
        super().__init__({"peername": ("10.0.0.7", 5672)})
        self.protocol = protocol
        self.writes: list[bytes] = []
        self.closed = False

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        self.writes.append(bytes(data))

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.closed = True

    def get_protocol(self) -> LaneProtocol:
        return self.protocol

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        raise NotImplementedError


class Sink:
    def __init__(self) -> None:
        self.bodies: list[bytes] = []

    def delivered(self, tag: int, redelivered: bool, header: bytes, body: bytes) -> None:
        self.bodies.append(body)

    def returned(self, code: int, text: bytes, routing_key: bytes, header: bytes, body: bytes) -> None:
        self.bodies.append(b"returned " + text)

    def too_large(self, tag: int, header: bytes, size: int) -> None:
        self.bodies.append(b"too large")

    def confirmed(self, tag: int, multiple: bool, accepted: bool) -> None:
        self.bodies.append(b"confirmed")


@pytest.fixture
async def protocol() -> AsyncIterator[LaneProtocol]:
    loop = asyncio.get_running_loop()
    protocol = LaneProtocol(asyncio.StreamReader(loop=loop), loop, FRAME_MAX)
    protocol.connection_made(Socket(protocol))
    yield protocol
    protocol.connection_lost(None)


def socket_of(protocol: LaneProtocol) -> Socket:
    assert isinstance(protocol._socket, Socket)
    return protocol._socket


async def test_messages_go_to_their_lane_and_all_else_to_aiormq(protocol: LaneProtocol) -> None:
    sink = Sink()
    Lane(protocol, 7, sink, 1000)
    stream = delivery(7, b"one") + OTHER + delivery(7, b"two") + OTHER
    for at in range(0, len(stream), 5):
        protocol.data_received(stream[at : at + 5])
    assert sink.bodies == [b"one", b"two"]
    protocol._reader.feed_eof()
    assert (await protocol._reader.read()).replace(HEARTBEAT_FRAME, b"") == 2 * OTHER


async def test_aiormq_is_shown_a_heartbeat_while_only_lanes_have_traffic(protocol: LaneProtocol) -> None:
    Lane(protocol, 7, Sink(), 1000)
    protocol.data_received(delivery(7, b"x") * 50)
    protocol.data_received(delivery(7, b"x") * 50)
    protocol._reader.feed_eof()
    assert await protocol._reader.read() == HEARTBEAT_FRAME


async def test_what_one_turn_sends_is_written_together_with_its_acknowledgements_last(
    protocol: LaneProtocol,
) -> None:
    lane = Lane(protocol, 7, Sink(), 1000)
    to = lane.destination(b"", b"q")
    assert to == publish_method(7, b"", b"q")
    for tag in (1, 2, 3, 4):
        lane.hold(tag)
    for tag in (1, 2, 3):
        lane.reply(tag, to, PROPERTIES, b"body")
    assert socket_of(protocol).writes == []
    await asyncio.sleep(0)
    message = encode_publish(to, 7, PROPERTIES, b"body", FRAME_MAX)
    assert socket_of(protocol).writes == [3 * message + encode_ack(7, 3, multiple=True)]
    lane.ack(4)
    await asyncio.sleep(0)
    assert socket_of(protocol).writes[1:] == [encode_ack(7, 4)]


async def test_a_lone_message_waits_for_no_turn(protocol: LaneProtocol) -> None:
    lane = Lane(protocol, 7, Sink(), 1000)
    to = lane.destination(b"", b"q")
    lane.hold(1)
    lane.reply(1, to, PROPERTIES, b"body", alone=True)
    assert socket_of(protocol).writes == [encode_publish(to, 7, PROPERTIES, b"body", FRAME_MAX) + encode_ack(7, 1)]
    await asyncio.sleep(0)
    assert len(socket_of(protocol).writes) == 1


async def test_a_turn_with_much_to_send_is_written_in_parts(protocol: LaneProtocol) -> None:
    lane = Lane(protocol, 7, Sink(), 1000)
    to = lane.destination(b"", b"q")
    for _ in range(100):
        lane.publish(to, PROPERTIES, b"x" * 100)
    parts = list(socket_of(protocol).writes)
    assert parts and all(JOIN_BYTES <= len(part) < JOIN_BYTES + 200 for part in parts)
    await asyncio.sleep(0)
    assert b"".join(socket_of(protocol).writes) == 100 * encode_publish(to, 7, PROPERTIES, b"x" * 100, FRAME_MAX)


async def test_what_aiormq_writes_comes_behind_what_the_lane_has_gathered(protocol: LaneProtocol) -> None:
    lane = Lane(protocol, 7, Sink(), 1000)
    lane.hold(1)
    lane.nack(1, requeue=True)
    writer = LaneWriter(socket_of(protocol), protocol, protocol._reader, protocol.loop)
    writer.write(OTHER)
    assert socket_of(protocol).writes == [encode_nack(7, 1, requeue=True), OTHER]
    writer.close()


async def test_a_full_socket_holds_up_whoever_waits_and_a_lost_one_lets_them_go(
    protocol: LaneProtocol,
) -> None:
    lane = Lane(protocol, 7, Sink(), 1000)
    await lane.wait_writable()
    protocol.pause_writing()
    assert not lane.writable
    waiting = asyncio.create_task(lane.wait_writable())
    await asyncio.sleep(0)
    assert not waiting.done()
    protocol.resume_writing()
    await waiting
    protocol.pause_writing()
    waiting = asyncio.create_task(lane.wait_writable())
    await asyncio.sleep(0)
    protocol.connection_lost(None)
    await waiting
    assert not lane.open


async def test_a_closed_lane_drops_what_still_comes(protocol: LaneProtocol) -> None:
    sink = Sink()
    lane = Lane(protocol, 7, sink, 1000)
    lane.close()
    protocol.data_received(delivery(7, b"late"))
    lane.forget()
    assert sink.bodies == []
    assert 7 not in protocol.splitter.readers
    lane.close()


async def test_a_broker_that_breaks_the_protocol_loses_the_connection(
    protocol: LaneProtocol, caplog: pytest.LogCaptureFixture
) -> None:
    sink = Sink()
    lane = Lane(protocol, 7, sink, 1000)
    protocol.data_received(frame(1, 7, DELIVER) * 2)
    assert socket_of(protocol).closed and not lane.open and protocol.lost.done()
    assert "the broker broke the protocol" in caplog.text
    assert "('10.0.0.7', 5672)" in caplog.text
    lane.publish(lane.destination(b"", b"q"), PROPERTIES, b"")
    await asyncio.sleep(0)
    assert socket_of(protocol).writes == []


async def test_what_is_no_frame_ends_a_connection_with_lanes_and_is_not_left_to_aiormq(
    protocol: LaneProtocol, caplog: pytest.LogCaptureFixture
) -> None:
    """aiormq would read on, and drop all that is for the lanes, and nobody would know."""
    sink = Sink()
    lane = Lane(protocol, 7, sink, 1000)
    protocol.data_received(delivery(7, b"one") + frame(3, 7, b"x" * FRAME_MAX) + delivery(7, b"two"))
    assert socket_of(protocol).closed and not lane.open and protocol.lost.done()
    assert sink.bodies == [b"one"]
    assert protocol.breach == f"a frame of type 3 for channel 7 has {FRAME_MAX} bytes (frame_max: {FRAME_MAX})"
    assert f"the connection to it is closed: {protocol.breach}" in caplog.text


async def test_the_brokers_reason_for_closing_is_kept(protocol: LaneProtocol) -> None:
    text = b"NOT_ALLOWED - vhost x not found"
    close = b"\x00\x0a\x00\x32" + (530).to_bytes(2, "big") + bytes((len(text),)) + text + bytes(4)
    protocol.data_received(frame(1, 0, b"\x00\x0a\x00\x0a") + frame(1, 0, close))
    assert protocol.close_reason == "530 NOT_ALLOWED - vhost x not found"


async def test_a_lane_whose_channel_the_broker_closes_takes_no_more_before_aiormq_confirms_it(
    protocol: LaneProtocol,
) -> None:
    sink = Sink()
    lane, other = Lane(protocol, 7, sink, 1000), Lane(protocol, 8, sink, 1000)
    to = lane.destination(b"", b"q")
    lane.hold(1)
    lane.reply(1, to, PROPERTIES, b"body")
    close = frame(1, 7, b"\x00\x14\x00\x28\x01\x96\x00\x00\x3c\x00\x50")
    protocol.data_received(delivery(7, b"last") + close + delivery(8, b"next"))
    assert (lane.open, other.open) == (False, True)
    assert sink.bodies == [b"last", b"next"]
    message = encode_publish(to, 7, PROPERTIES, b"body", FRAME_MAX)  # sent before that was known
    assert socket_of(protocol).writes == [message + encode_ack(7, 1)]
    await asyncio.sleep(0)
    assert len(socket_of(protocol).writes) == 1
    protocol._reader.feed_eof()
    assert await protocol._reader.read() == close


async def test_a_second_loss_finds_nothing_left_to_lose(protocol: LaneProtocol) -> None:
    protocol.abort()
    protocol.connection_lost(ConnectionResetError())
    assert protocol.lost.done()


BLOCKED = frame(1, 0, b"\x00\x0a\x00\x3c\x0dlow on memory")
UNBLOCKED = frame(1, 0, b"\x00\x0a\x00\x3d")


async def test_a_blocked_connection_takes_no_messages_until_the_broker_does(protocol: LaneProtocol) -> None:
    told: list[str | None] = []
    protocol.on_blocked = told.append
    lane = Lane(protocol, 1, Sink(), 99)
    protocol.data_received(BLOCKED)
    waiting = asyncio.ensure_future(lane.wait_writable())
    await asyncio.sleep(0)
    assert not lane.writable
    assert not waiting.done()
    protocol.data_received(BLOCKED)
    protocol.data_received(UNBLOCKED)
    await waiting
    assert lane.writable
    assert told == ["low on memory", None]


async def test_a_socket_that_drains_does_not_unblock_and_the_other_way_round(protocol: LaneProtocol) -> None:
    protocol.data_received(BLOCKED)
    protocol.pause_writing()
    protocol.resume_writing()
    assert not protocol.writable
    protocol.pause_writing()
    protocol.data_received(UNBLOCKED)
    assert not protocol.writable
    protocol.resume_writing()
    assert protocol.writable


async def test_who_waits_for_a_blocked_broker_is_woken_when_it_is_gone(protocol: LaneProtocol) -> None:
    lane = Lane(protocol, 1, Sink(), 99)
    protocol.data_received(BLOCKED)
    waiting = asyncio.ensure_future(lane.wait_writable())
    await asyncio.sleep(0)
    protocol.connection_lost(None)
    await asyncio.wait_for(waiting, 1)
    assert not lane.open
