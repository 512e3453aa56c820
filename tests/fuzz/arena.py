"""One session that is given anything at all, beside one that must not notice: what may never happen, whatever comes."""

from __future__ import annotations

import re
import struct
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from amqproxy.broker import Broker
from amqproxy.broker.limits import INITIAL_FRAME_MAX
from amqproxy.broker.queue import Queue
from amqproxy.broker.session import State
from amqproxy.properties import HEADERS
from tests.unit.broker.wire import PROTOCOL_HEADER, Client, Clock, broker

MEMORY = 400_000
"""What the broker may hold of messages before it listens to publishers no more."""
MESSAGE = 200_000
FRAME_MAX = 131072

_INVENTED = re.compile(rb"(amq\.(?:gen|ctag)-|g1h2AA-)[A-Za-z0-9_-]{22}")
_DIED_AT = re.compile(rb"\x04timeT.{8}", re.DOTALL)
_ACK, _NACK = b"\x00\x3c\x00\x50", b"\x00\x3c\x00\x78"
_ENDS = b"\x00\x0a\x00\x32", b"\x00\x0a\x00\x33"
"""connection.close and connection.close-ok"""
_DELIVER, _GET_OK, _RETURN = b"\x00\x3c\x00\x3c", b"\x00\x3c\x00\x47", b"\x00\x3c\x00\x32"

Frame = tuple[int, int, bytes]
"""Kind, channel and payload."""


@dataclass(frozen=True)
class Outcome:
    """What came of it, as far as it does not depend on how the bytes were cut."""

    frames: tuple[Frame, ...]
    """What was said, without confirms: how many of those go into one frame is a matter of timing."""
    confirmed: tuple[tuple[int, int, bool], ...]
    """Channel, number, and whether it was taken."""
    state: State
    closed: bool
    queues: tuple[tuple[str, int], ...]
    """What there was in the end, and how many messages waited in each."""
    bystander: tuple[Frame, ...]


def play(pieces: Iterable[bytes]) -> Outcome:
    """Give a session bytes in pieces, and see that nothing happens that must not; return what came of it."""
    clock = Clock()
    of = broker(clock, memory_bytes=MEMORY, max_message_bytes=MESSAGE)
    bystander = Client(of)
    other = bystander.channel()
    for name in ("q", "r"):
        other.declare(name)
        other.bind(name, "amq.fanout")
    other.consume("r", "bystander", no_ack=True)

    client = Client(of, opened=False)
    session = client.session
    for piece in pieces:
        client.feed(piece)
        bound = max(session.frame_max, INITIAL_FRAME_MAX) + 8 + len(piece)
        assert session._gathered <= bound, "more is kept than an unfinished frame"
        assert of.memory.used <= MEMORY + 4 * FRAME_MAX
        assert of.memory.unfinished <= MEMORY + FRAME_MAX
        assert len(client.wire.written) < 200_000_000
        check_books(of)
    clock.now += 1
    of.run_timers()
    client.go_on()
    check_books(of)

    outcome = Outcome(
        *spoken(bytes(client.wire.written), client.wire.closed),
        session.state,
        client.wire.closed,
        tuple(sorted((_named(name), len(queue.ready)) for name, queue in of.vhosts["/"].queues.items())),
        tuple(whole_frames(bytes(bystander.wire.written))),
    )
    bystander.wire.written.clear()
    assert session.state is State.CLOSED or not client.wire.closed

    client.hang_up()
    assert of.sessions == {bystander.session}
    assert not of.replies
    vhost = of.vhosts["/"]
    for queue in list(vhost.queues.values()):
        vhost.delete_queue(queue)
    assert of.memory.used == 0
    of.run_timers()
    bystander.take()
    other.declare("own", exclusive=True)
    other.publish("own", b"still here")
    assert other.drain("own") == [b"still here"]
    bystander.hang_up()
    assert (of.memory.used, of.memory.unfinished, of.sessions, vhost.queues) == (0, 0, set(), {})
    assert of.run_timers() is None
    return outcome


def check_books(of: Broker) -> None:
    """See that all that is held is counted, and that nobody waits for a message that could be had."""
    held, unacked, settling = 0, Counter[Queue](), Counter[object]()
    for session in of.sessions:
        assert not session.uncertain
        for channel in session.channels.values():
            entries = list(channel.unacked.values())
            if channel.transaction is not None:
                held += sum(message.share for message, _, _ in channel.transaction._published)
                entries += [one for some, _ in channel.transaction._settled for one in some.values()]
            if channel.reply is not None:
                held += sum(message.share for message in channel.reply._waiting)
            for entry, queue, consumer in entries:
                held += entry.message.share
                unacked[queue] += 1
                settling[consumer] += 1
            for consumer in channel.consumers.values():
                assert consumer.unacked == settling[consumer]
                assert consumer in consumer.queue.consumers.all
    for vhost in of.vhosts.values():
        held += sum(message.share for _, message, _ in vhost.dead)
        for queue in vhost.queues.values():
            waiting = list(queue.ready)
            held += sum(entry.message.share for entry in waiting)
            assert queue.unacked == unacked[queue]
            assert queue.ready_bytes == sum(len(entry.message.body) for entry in waiting)
            line = queue.consumers.all if queue.consumers.active is None else [queue.consumers.active]
            assert not waiting or not any(consumer.can_take() for consumer in line), "somebody waits in vain"
    assert of.memory.used == held


def cut(data: bytes, places: Iterable[int]) -> list[bytes]:
    """The data, cut at these places."""
    ends = sorted({place % (len(data) + 1) for place in places} | {0, len(data)})
    return [data[start:end] for start, end in pairwise(ends)]


def one_by_one(data: bytes) -> list[bytes]:
    """The data, byte by byte."""
    return [data[at : at + 1] for at in range(len(data))]


def play_all_ways(data: bytes, places: Sequence[int] = ()) -> Outcome:
    """Play the data whole and cut; it must make no difference."""
    whole = play([data])
    if len(data) >= len(PROTOCOL_HEADER):  # what is no protocol header may be refused before eight bytes are there
        for pieces in (one_by_one(data), cut(data, places)):
            other = play(pieces)
            assert other == whole, "it makes a difference how the bytes are cut"
    return whole


# What was said must make sense, to the last byte.


def spoken(data: bytes, closed: bool) -> tuple[tuple[Frame, ...], tuple[tuple[int, int, bool], ...]]:
    frames: list[Frame] = []
    confirmed: list[tuple[int, int, bool]] = []
    last: dict[int, int] = {}
    for frame in whole_frames(data):
        kind, channel, payload = frame
        if kind != 1 or payload[:4] not in (_ACK, _NACK):
            frames.append(frame)
            if payload[:4] == b"\x00\x14\x00\x0b":  # channel.open-ok: it begins anew
                last[channel] = 0
            continue
        tag, flags = struct.unpack_from(">QB", payload, 4)
        first = last.get(channel, 0) + 1 if flags & 1 else tag
        assert last.get(channel, 0) < first <= tag, "a message is confirmed once, and in order"
        confirmed += ((channel, number, payload[:4] == _ACK) for number in range(first, tag + 1))
        last[channel] = tag
    if closed and (not frames or frames[-1][2][:4] not in _ENDS):
        return tuple(frames), ()  # without a word: whether the last confirms came is a matter of timing, as in RabbitMQ
    return tuple(frames), tuple(sorted(confirmed))


def whole_frames(data: bytes) -> Iterator[Frame]:
    """The frames in what a session wrote; what it invented by chance is taken out."""
    data = _DIED_AT.sub(b"\x04timeT" + b"\0" * 8, data)
    if data.startswith(PROTOCOL_HEADER):
        data = data[len(PROTOCOL_HEADER) :]
    content: dict[int, int] = {}
    at = 0
    while at < len(data):
        assert at + 8 <= len(data), "what was written ends in the middle of a frame"
        kind, channel, size = struct.unpack_from(">BHI", data, at)
        payload = data[at + 7 : at + 7 + size]
        at += 8 + size
        assert len(payload) == size
        assert data[at - 1 : at] == b"\xce"
        assert kind in (1, 2, 3, 8)
        check_order(content, kind, channel, payload)
        yield kind, channel, _named_bytes(payload)
    assert not content, "what was written ends in the middle of a message"


def check_order(content: dict[int, int], kind: int, channel: int, payload: bytes) -> None:
    """See that a message is method, header and bodies, with nothing in between; -1 stands for the header."""
    left = content.pop(channel, 0)
    if left == -1:
        assert kind == 2
        (size,) = struct.unpack_from(">Q", payload, 4)
        check_properties(payload)
        if size:
            content[channel] = size
    elif left:
        assert kind == 3
        assert 0 < len(payload) <= left
        if left > len(payload):
            content[channel] = left - len(payload)
    elif kind == 1:
        check_method(payload)
        if payload[:4] in (_DELIVER, _GET_OK, _RETURN):
            content[channel] = -1
    else:
        assert (kind, channel, payload) == (8, 0, b"")


def check_method(payload: bytes) -> None:
    """See that what carries a message names all that it should, and no more."""
    forms = {_DELIVER: "s9ss", _GET_OK: "9ss4", _RETURN: "2sss"}
    at = 4
    for step in forms.get(payload[:4], ""):
        at += 1 + payload[at] if step == "s" else int(step)
    assert payload[:4] not in forms or at == len(payload)


def check_properties(payload: bytes) -> None:
    """See that the properties of a message are whole, whatever their letters."""
    (flags,) = struct.unpack_from(">H", payload, 12)
    assert not flags & 1
    at = 14
    for bit in range(15, 1, -1):
        flag = 1 << bit
        if not flags & flag:
            continue
        if flag == HEADERS:
            (size,) = struct.unpack_from(">I", payload, at)
            check_table(payload[at + 4 : at + 4 + size])
            at += 4 + size
        else:
            at += {0x1000: 1, 0x0800: 1, 0x0040: 8}.get(flag) or 1 + payload[at]
    assert at == len(payload)


_WIDTHS = dict(zip(b"tbBsuIiflLdTDV", (1, 1, 1, 2, 2, 4, 4, 4, 8, 8, 8, 8, 5, 0), strict=True))


def check_table(fields: bytes) -> None:
    """See that a table is whole, with all that is nested in it."""
    pending = [(fields, True)]
    while pending:
        data, named = pending.pop()
        at = 0
        while at < len(data):
            if named:
                at += 1 + data[at]
            kind = data[at]
            at += 1
            if kind in b"SxFA":
                (size,) = struct.unpack_from(">I", data, at)
                at += 4 + size
                if kind in b"FA":
                    pending.append((data[at - size : at], kind == ord("F")))
            else:
                at += _WIDTHS[kind]
        assert at == len(data)


def _named_bytes(payload: bytes) -> bytes:
    return _INVENTED.sub(rb"\1", payload)


def _named(name: str) -> str:
    return _named_bytes(name.encode(errors="surrogateescape")).decode(errors="surrogateescape")
