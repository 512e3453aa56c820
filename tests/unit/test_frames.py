"""The content frames, compared with pamqp byte for byte, cut at every place, and fed with garbage."""

from __future__ import annotations

import contextlib
import itertools
import struct
import tracemalloc
from collections.abc import Iterable
from typing import Any

import pamqp.body
import pamqp.commands
import pamqp.frame
import pamqp.header
import pamqp.heartbeat
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from amqproxy.fields import Malformed
from amqproxy.frames import (
    BODY,
    FRAME_OVERHEAD,
    HEADER,
    HEARTBEAT,
    HEARTBEAT_FRAME,
    KEPT_HEADER_BYTES,
    MAX_HEADER_BYTES,
    METHOD,
    ContentReader,
    Splitter,
    block_notice,
    channels_closed,
    close_reason,
    encode_ack,
    encode_nack,
    encode_publish,
    publish_method,
    with_limit,
)
from amqproxy.properties import Properties, routing

Basic = pamqp.commands.Basic

examples = settings(
    max_examples=80,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)

FRAME_MAX = 256
LIMIT = 1000
"""Of a body, in most tests."""
NO_PROPERTIES = b"\x00\x00"

Event = tuple[Any, ...]


class Sink:
    """Writes down what it is told."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def delivered(self, tag: int, redelivered: bool, header: bytes, body: bytes) -> None:
        self.events.append(("delivered", tag, bool(redelivered), header, body))

    def returned(self, code: int, text: bytes, routing_key: bytes, header: bytes, body: bytes) -> None:
        self.events.append(("returned", code, text, routing_key, header, body))

    def confirmed(self, tag: int, multiple: bool, accepted: bool) -> None:
        self.events.append(("confirmed", tag, multiple, accepted))

    def too_large(self, tag: int, header: bytes, size: int) -> None:
        self.events.append(("too_large", tag, header, size))


def splitter(*channels: int, limit: int = LIMIT, frame_max: int = FRAME_MAX) -> tuple[Splitter, Sink]:
    """A splitter, and the one sink of all its channels."""
    made, sink = Splitter(frame_max), Sink()
    for channel in channels:
        made.readers[channel] = ContentReader(sink, limit)
    return made, sink


def frame(kind: int, payload: bytes, channel: int = 1) -> bytes:
    """A frame made by hand."""
    return struct.pack(">BHI", kind, channel, len(payload)) + payload + b"\xce"


def of(method: Any, channel: int = 1) -> bytes:
    """A frame made by pamqp."""
    return pamqp.frame.marshal(method, channel)


def header(size: int, properties: bytes = NO_PROPERTIES, channel: int = 1) -> bytes:
    return frame(HEADER, struct.pack(">HHQ", 60, 0, size) + properties, channel)


def content(properties: bytes, body: bytes, channel: int = 1, piece: int = FRAME_MAX - FRAME_OVERHEAD) -> list[bytes]:
    """Header and body frames."""
    pieces = [body[at : at + piece] for at in range(0, len(body), piece)]
    return [header(len(body), properties, channel), *(frame(BODY, each, channel) for each in pieces)]


def deliver(tag: int = 1, *, redelivered: bool = False, channel: int = 1, consumer: str = "ctag") -> bytes:
    return of(Basic.Deliver(consumer, tag, redelivered, "amq.direct", "key"), channel)


def returned(channel: int = 1) -> bytes:
    return of(Basic.Return(312, "NO_ROUTE", "", "nowhere"), channel)


# What is read


def test_a_delivery_in_one_piece() -> None:
    made, sink = splitter(1)
    assert made.feed(b"".join([deliver(7, redelivered=True), *content(NO_PROPERTIES, b"body")])) == b""
    assert sink.events == [("delivered", 7, True, NO_PROPERTIES, b"body")]


@pytest.mark.parametrize("size", [0, 1, 247, 248, 249, 495, 496, 497, 1000])
def test_a_body_comes_in_as_many_frames_as_it_takes(size: int) -> None:
    made, sink = splitter(1)
    body = bytes(place % 251 for place in range(size))
    for part in [deliver(), *content(NO_PROPERTIES, body)]:
        assert made.feed(part) == b""
    assert sink.events == [("delivered", 1, False, NO_PROPERTIES, body)]


def test_body_frames_may_have_any_size_even_none() -> None:
    made, sink = splitter(1)
    pieces = [b"ab", b"", b"c", b""]
    made.feed(b"".join([deliver(), header(3), *(frame(BODY, piece) for piece in pieces[:3])]))
    assert sink.events == [("delivered", 1, False, NO_PROPERTIES, b"abc")]
    assert made.feed(frame(BODY, b"")) == frame(BODY, b""), "it belongs to no message of ours"


@pytest.mark.parametrize("consumer", ["", "c", "c" * 255, "ü" * 120])
def test_consumer_tags_of_any_length_are_stepped_over(consumer: str) -> None:
    made, sink = splitter(1, frame_max=4096)
    made.feed(b"".join([deliver(2**63 - 1, consumer=consumer), *content(NO_PROPERTIES, b"")]))
    assert sink.events == [("delivered", 2**63 - 1, False, NO_PROPERTIES, b"")]


def test_a_returned_message_comes_with_the_brokers_reason() -> None:
    made, sink = splitter(1)
    made.feed(b"".join([returned(), *content(b"\x04\x00\x01c", b"body")]))
    assert sink.events == [("returned", 312, b"NO_ROUTE", b"nowhere", b"\x04\x00\x01c", b"body")]


@pytest.mark.parametrize(
    ("method", "event"),
    [
        (Basic.Ack(5, False), ("confirmed", 5, False, True)),
        (Basic.Ack(2**63 - 1, True), ("confirmed", 2**63 - 1, True, True)),
        (Basic.Nack(5, False, False), ("confirmed", 5, False, False)),
        (Basic.Nack(5, True, False), ("confirmed", 5, True, False)),
        (Basic.Nack(5, False, True), ("confirmed", 5, False, False)),
    ],
)
def test_confirms_are_told(method: Any, event: Event) -> None:
    made, sink = splitter(1)
    assert made.feed(of(method)) == b""
    assert sink.events == [event]


def test_a_confirm_may_come_between_the_frames_of_a_message() -> None:
    made, sink = splitter(1)
    first, *rest = [deliver(), *content(NO_PROPERTIES, b"body")]
    made.feed(first + of(Basic.Ack(3)) + b"".join(rest))
    assert [event[0] for event in sink.events] == ["confirmed", "delivered"]


def test_messages_of_two_channels_may_interleave() -> None:
    made, sink = splitter(1, 2)
    one = [deliver(1, channel=1), *content(NO_PROPERTIES, b"a" * 300, 1)]
    two = [deliver(2, channel=2), *content(NO_PROPERTIES, b"b" * 300, 2)]
    made.feed(b"".join(part for pair in zip(one, two, strict=True) for part in pair))
    assert [event[1] for event in sink.events] == [1, 2]
    assert [event[-1] for event in sink.events] == [b"a" * 300, b"b" * 300]


# What is returned


OTHERS = [
    of(pamqp.heartbeat.Heartbeat(), 0),
    of(pamqp.commands.Connection.Blocked("low on memory"), 0),
    of(pamqp.commands.Queue.DeclareOk("q", 1, 2)),
    of(pamqp.commands.Channel.Close(404, "NOT_FOUND", 60, 40)),
    of(Basic.ConsumeOk("ctag")),
    of(Basic.Cancel("ctag")),
    of(Basic.QosOk()),
    of(pamqp.commands.Confirm.SelectOk()),
    of(pamqp.commands.Channel.OpenOk(), 2),
    deliver(9, channel=3),
    header(4, channel=3),
    frame(BODY, b"body", 3),
    frame(METHOD, b"\x00\x3c\x00", 3),
    frame(HEARTBEAT, b"", 1),
    frame(METHOD, b"", 1),
    frame(METHOD, b"\x00\x3c\x00", 1),
]


@pytest.mark.parametrize("other", OTHERS, ids=lambda data: data[:11].hex())
def test_a_frame_that_is_no_content_of_ours_comes_back_as_it_came(other: bytes) -> None:
    made, sink = splitter(1, 2)
    message = b"".join([deliver(), *content(NO_PROPERTIES, b"body")])
    assert made.feed(message + other + message) == other
    assert [event[0] for event in sink.events] == ["delivered", "delivered"]


def test_an_answer_to_basic_get_comes_back_as_a_whole() -> None:
    made, sink = splitter(1)
    got = b"".join([of(Basic.GetOk(4, False, "", "q", 0)), *content(NO_PROPERTIES, b"x" * 300)])
    assert made.feed(got) == got
    assert sink.events == []


def test_the_heartbeat_frame_is_pamqps() -> None:
    assert pamqp.heartbeat.Heartbeat().marshal() == HEARTBEAT_FRAME
    made, _ = splitter()
    assert made.feed(HEARTBEAT_FRAME) == HEARTBEAT_FRAME


NO_FRAMES = pytest.mark.parametrize(
    "bad",
    [
        b"AMQP\x00\x00\x09\x01",
        b"\x00" * 8,
        frame(4, b"x"),
        frame(METHOD, b"x")[:-1] + b"\xcd",
        struct.pack(">BHI", METHOD, 1, FRAME_MAX - FRAME_OVERHEAD + 1) + b"\x00",
        struct.pack(">BHI", BODY, 1, 2**32 - 1) + b"\x00",
        struct.pack(">BHI", HEADER, 1, MAX_HEADER_BYTES + 1) + b"\x00",
    ],
    ids=["protocol header", "zeros", "unknown type", "wrong end", "one byte over the limit", "4 GiB", "16 MiB"],
)


@NO_FRAMES
def test_what_is_not_amqp_and_all_behind_it_comes_back_for_the_library_to_report(bad: bytes) -> None:
    made, _ = splitter()
    message = b"".join([deliver(), *content(NO_PROPERTIES, b"body")])
    other = of(pamqp.commands.Channel.OpenOk(), 2)
    assert made.feed(other + bad + message) == other + bad + message
    assert made.feed(message[:9]) == message[:9]
    assert made.feed(message[9:]) == message[9:]


@NO_FRAMES
def test_what_is_not_amqp_is_malformed_once_there_are_readers_who_would_hear_no_more(bad: bytes) -> None:
    made, sink = splitter(1)
    message = b"".join([deliver(), *content(NO_PROPERTIES, b"body")])
    with pytest.raises(Malformed, match=r"a frame of type|does not end where it said"):
        made.feed(message + bad + message)
    with pytest.raises(Malformed, match="frames come behind what was none"):
        made.feed(message)
    assert [event[0] for event in sink.events] == ["delivered"]


@NO_FRAMES
def test_a_reader_that_comes_behind_what_is_not_amqp_is_not_left_without_a_word(bad: bytes) -> None:
    made, sink = splitter()
    assert made.feed(bad) == bad
    made.readers[1] = ContentReader(sink, LIMIT)
    with pytest.raises(Malformed, match="frames come behind what was none"):
        made.feed(b"".join([deliver(), *content(NO_PROPERTIES, b"body")]))
    assert sink.events == []


# Content headers to which the broker has added


def grown(size: int) -> bytes:
    """Properties of so many bytes, most of them a header."""
    empty = Properties(content_type=b"svc.add", headers={"a": ""}, reply_to=b"r").encode()
    properties = Properties(content_type=b"svc.add", headers={"a": "x" * (size - len(empty))}, reply_to=b"r").encode()
    assert len(properties) == size
    return properties


@pytest.mark.parametrize("more", [-13, -12, 0, 1000, 128 * 1024])
@pytest.mark.parametrize("step", [7, 1000, 10**9])
def test_a_content_header_may_be_larger_than_a_frame_since_the_broker_cannot_cut_it(more: int, step: int) -> None:
    made, sink = splitter(1)
    properties = grown(FRAME_MAX - FRAME_OVERHEAD + more)
    stream = b"".join([deliver(), *content(properties, b"body"), deliver(2), *content(NO_PROPERTIES, b"next")])
    step = max(step, len(stream) // 1000)
    for at in range(0, len(stream), step):
        assert made.feed(stream[at : at + step]) == b""
    following = ("delivered", 2, False, NO_PROPERTIES, b"next")
    assert sink.events == [("delivered", 1, False, properties, b"body"), following]


def test_one_that_is_nobodys_comes_back_as_a_whole() -> None:
    made, _ = splitter(2)
    stream = b"".join(content(grown(2 * FRAME_MAX), b"body"))
    assert made.feed(stream[:300]) == b""
    assert made.feed(stream[300:]) == stream


@pytest.mark.parametrize("size", [KEPT_HEADER_BYTES - 12, KEPT_HEADER_BYTES - 11, MAX_HEADER_BYTES - 12])
@pytest.mark.parametrize("body", [b"", b"body", b"x" * (LIMIT + 1)], ids=["none", "small", "too large"])
def test_one_that_nobody_should_read_is_cut_and_harms_its_own_message_alone(size: int, body: bytes) -> None:
    made, sink = splitter(1)
    properties = grown(size)
    stream = b"".join([deliver(), *content(properties, body), deliver(2), *content(NO_PROPERTIES, b"next")])
    assert made.feed(stream) == b""
    [(kind, tag, *_), following] = sink.events
    assert (kind, tag) == ("delivered" if len(body) <= LIMIT else "too_large", 1)
    assert following == ("delivered", 2, False, NO_PROPERTIES, b"next")
    kept = sink.events[0][3 if kind == "delivered" else 2]
    if size + 12 <= KEPT_HEADER_BYTES:
        assert kept == properties
        return
    assert len(kept) == 1024
    assert properties.startswith(kept)
    for decode in (routing, Properties.decode):
        with pytest.raises(Malformed):
            decode(kept)


def test_of_one_that_is_too_large_to_be_any_nothing_is_kept() -> None:
    made, _ = splitter()
    start = struct.pack(">BHI", HEADER, 1, MAX_HEADER_BYTES + 1)
    assert made.feed(start) == b""
    assert made.feed(b"\x00") == start + b"\x00"


def test_a_frame_as_large_as_the_limit_is_read() -> None:
    made, sink = splitter(1)
    part = frame(BODY, b"x" * (FRAME_MAX - FRAME_OVERHEAD))
    assert len(part) == FRAME_MAX
    made.feed(deliver() + header(FRAME_MAX - FRAME_OVERHEAD) + part)
    assert len(sink.events) == 1


# In arbitrary pieces


@st.composite
def traffic(draw: st.DrawFn) -> tuple[bytes, list[Event], bytes]:
    """A stream: its bytes, what channels 1 and 2 hear of it, and the bytes that are not theirs."""
    lanes: list[list[tuple[bytes, bool, Event | None]]] = [[], [], []]
    for lane, channel in enumerate((1, 2)):
        for number in range(draw(st.integers(0, 3))):
            properties = draw(st.sampled_from([NO_PROPERTIES, b"\x04\x00\x02\xff\xfe"]))
            body = draw(st.binary(max_size=20)) * draw(st.sampled_from([1, 1, 30]))
            piece = draw(st.sampled_from([1 + len(body) // 3, FRAME_MAX - FRAME_OVERHEAD]))
            match draw(st.sampled_from(["deliver", "return", "ack", "nack"])):
                case "deliver":
                    event: Event = ("delivered", number, bool(number & 1), properties, body)
                    parts = [deliver(number, redelivered=bool(number & 1), channel=channel)]
                    parts += content(properties, body, channel, piece)
                case "return":
                    event = ("returned", 312, b"NO_ROUTE", b"nowhere", properties, body)
                    parts = [returned(channel), *content(properties, body, channel, piece)]
                case "ack":
                    event, parts = ("confirmed", number, True, True), [of(Basic.Ack(number, True), channel)]
                case _:
                    event, parts = ("confirmed", number, False, False), [of(Basic.Nack(number), channel)]
            lanes[lane] += [(part, True, None) for part in parts[:-1]] + [(parts[-1], True, event)]
    for other in draw(st.lists(st.sampled_from(OTHERS), max_size=4)):
        lanes[2].append((other, False, None))
    stream, events, others = b"", [], b""
    while any(lanes):
        part, is_ours, end = draw(st.sampled_from([lane for lane in lanes if lane])).pop(0)
        stream += part
        others += b"" if is_ours else part
        events += [] if end is None else [end]
    return stream, events, others


def cut(data: bytes, places: Iterable[int]) -> list[bytes]:
    ends = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[start:end] for start, end in itertools.pairwise(ends)]


@examples
@given(traffic(), st.lists(st.integers(0, 2**20), max_size=8))
def test_a_stream_cut_anywhere_gives_the_same_messages_and_exactly_the_other_bytes(
    made: tuple[bytes, list[Event], bytes], places: list[int]
) -> None:
    stream, events, others = made
    reading, sink = splitter(1, 2)
    assert b"".join(map(reading.feed, cut(stream, places))) == others
    assert sink.events == events


def test_a_stream_byte_by_byte_gives_the_same_messages() -> None:
    made, sink = splitter(1)
    other = of(pamqp.commands.Queue.DeclareOk("q", 1, 2))
    stream = b"".join([deliver(), other, *content(NO_PROPERTIES, b"x" * 300), other, of(Basic.Ack(1)), other])
    assert b"".join(made.feed(stream[at : at + 1]) for at in range(len(stream))) == other * 3
    assert [event[0] for event in sink.events] == ["delivered", "confirmed"]


def test_a_channel_may_be_added_and_removed_between_its_frames() -> None:
    made, sink = splitter()
    message = b"".join([deliver(), *content(NO_PROPERTIES, b"body")])
    assert made.feed(message) == message
    made.readers[1] = ContentReader(sink, LIMIT)
    assert made.feed(message) == b""
    del made.readers[1]
    assert made.feed(message) == message
    assert len(sink.events) == 1


def test_a_sink_may_remove_its_channel_while_it_is_told() -> None:
    made, sink = splitter(1)

    class Once(Sink):
        def delivered(self, tag: int, redelivered: bool, header: bytes, body: bytes) -> None:
            super().delivered(tag, redelivered, header, body)
            del made.readers[1]

    made.readers[1].sink = sink = Once()
    message = b"".join([deliver(), *content(NO_PROPERTIES, b"body")])
    assert made.feed(message + message) == message
    assert len(sink.events) == 1


# Bodies that are too large


@pytest.mark.parametrize("size", [LIMIT, LIMIT + 1])
def test_a_body_over_the_limit_is_passed_over_and_told_at_once(size: int) -> None:
    made, sink = splitter(1)
    first, second, *rest = [deliver(3), *content(b"\x04\x00\x01c", b"x" * size)]
    made.feed(first + second)
    told: list[Event] = [("too_large", 3, b"\x04\x00\x01c", size)] if size > LIMIT else []
    assert sink.events == told
    made.feed(b"".join(rest))
    assert sink.events == (told or [("delivered", 3, False, b"\x04\x00\x01c", b"x" * size)])
    made.feed(b"".join([deliver(4), *content(NO_PROPERTIES, b"next")]))
    assert sink.events[-1] == ("delivered", 4, False, NO_PROPERTIES, b"next")


def test_a_returned_message_over_the_limit_is_passed_over() -> None:
    made, sink = splitter(1)
    made.feed(b"".join([returned(), *content(NO_PROPERTIES, b"x" * (LIMIT + 1))]))
    made.feed(b"".join([deliver(4), *content(NO_PROPERTIES, b"next")]))
    assert sink.events == [("delivered", 4, False, NO_PROPERTIES, b"next")]


@pytest.mark.parametrize("limit", [LIMIT, 2**64])
def test_nothing_is_set_aside_for_a_declared_size(limit: int) -> None:
    made, sink = splitter(1, limit=limit)
    tracemalloc.start()
    try:
        for size in (2**31, 2**63, 2**64 - 1):
            made.readers[1] = ContentReader(sink, limit)
            made.feed(deliver() + header(size) + frame(BODY, b"x"))
        assert tracemalloc.get_traced_memory()[1] < 100_000
    finally:
        tracemalloc.stop()


def test_a_body_that_is_passed_over_is_not_kept() -> None:
    made, _ = splitter(1)
    made.feed(deliver() + header(10**9))
    part = frame(BODY, b"x" * (FRAME_MAX - FRAME_OVERHEAD))
    tracemalloc.start()
    try:
        for _ in range(2000):
            made.feed(part)
        assert tracemalloc.get_traced_memory()[0] < 10_000
    finally:
        tracemalloc.stop()


# What breaks the protocol


@pytest.mark.parametrize(
    ("stream", "reason"),
    [
        ([deliver(), deliver()], "before the one ahead of it"),
        ([deliver(), returned()], "before the one ahead of it"),
        ([returned(), deliver()], "before the one ahead of it"),
        ([deliver(), header(5), deliver()], "before the one ahead of it"),
        ([deliver(), header(5), header(5)], "second content header"),
        ([deliver(), header(5), frame(BODY, b"123456")], "longer than its header said"),
        ([deliver(), header(LIMIT + 1), *[frame(BODY, b"x" * 200)] * 6], "longer than its header said"),
        ([deliver(), frame(HEADER, b"")], "too short"),
        ([deliver(), frame(HEADER, struct.pack(">HHQ", 60, 0, 5))], "too short"),
        ([deliver(), frame(HEADER, struct.pack(">HHQ", 60, 0, 5) + b"\x00")], "too short"),
    ],
)
def test_content_that_comes_out_of_order_is_malformed(stream: list[bytes], reason: str) -> None:
    made, _ = splitter(1)
    with pytest.raises(Malformed, match=reason):
        made.feed(b"".join(stream))


@pytest.mark.parametrize(
    "method",
    [deliver(), returned(), of(Basic.Ack(1)), of(Basic.Nack(1))],
    ids=["deliver", "return", "ack", "nack"],
)
@pytest.mark.parametrize("behind", [b"", bytes(64), b"\xff" * 300], ids=["nothing", "zeros", "ones"])
def test_a_method_that_was_cut_off_is_malformed_and_reads_nothing_behind_its_frame(
    method: bytes, behind: bytes
) -> None:
    payload = method[7:-1]
    needed = {b"\x3c": payload[4] + 14, b"\x32": len(payload)}.get(payload[3:4], 13)
    for end in range(4, len(payload)):
        made, sink = splitter(1)
        stream = frame(METHOD, payload[:end]) + b"".join(content(NO_PROPERTIES, b"")) + behind
        if end < needed:
            with pytest.raises(Malformed):
                made.feed(stream)
            assert sink.events == []


def test_after_a_breach_of_the_protocol_no_message_is_told_twice() -> None:
    made, sink = splitter(1, 2)
    message = b"".join([deliver(), *content(NO_PROPERTIES, b"body")])
    made.feed(message[:10])
    with pytest.raises(Malformed):
        made.feed(message[10:] + deliver(channel=2) * 2)
    assert len(sink.events) == 1
    with contextlib.suppress(Malformed):
        made.feed(message[10:])
    assert len(sink.events) == 1


@examples
@given(st.lists(st.binary(max_size=60), max_size=4))
def test_random_bytes_do_no_harm(chunks: list[bytes]) -> None:
    made, _ = splitter(0, 1, 257)
    try:
        returned = b"".join(map(made.feed, chunks))
    except Malformed:
        return
    assert len(returned) <= sum(map(len, chunks))


@examples
@given(st.lists(st.tuples(st.sampled_from([METHOD, HEADER, BODY, HEARTBEAT]), st.binary(max_size=40)), max_size=6))
def test_frames_of_garbage_are_returned_or_malformed(frames: list[tuple[int, bytes]]) -> None:
    made, sink = splitter(1)
    for kind, payload in frames:
        for method in (
            b"",
            b"\x00\x3c\x00\x3c",
            b"\x00\x3c\x00\x32",
            b"\x00\x3c\x00\x50",
            b"\x00\x3c\x00\x78",
        ):
            try:
                assert made.feed(frame(kind, method + payload)) in (b"", frame(kind, method + payload))
            except Malformed:
                made, sink = splitter(1)
    assert all(len(event[-1]) <= LIMIT for event in sink.events if event[0] in ("delivered", "returned"))


@examples
@given(traffic(), st.integers(0, 2**20), st.integers(0, 255), st.lists(st.integers(0, 2**20), max_size=3))
def test_a_stream_with_one_wrong_byte_or_a_missing_one_does_no_harm(
    made: tuple[bytes, list[Event], bytes], place: int, byte: int, places: list[int]
) -> None:
    stream = made[0] or deliver()
    place %= len(stream)
    for spoiled in (
        stream[:place] + bytes((byte,)) + stream[place + 1 :],
        stream[:place] + stream[place + 1 :],
        stream[:place],
    ):
        reading, _ = splitter(1, 2)
        try:
            for chunk in cut(spoiled, places):
                reading.feed(chunk)
        except Malformed:
            continue


@examples
@given(st.binary(max_size=300), st.lists(st.integers(0, 2**20), max_size=5))
def test_without_channels_of_ours_nothing_is_lost_or_changed(data: bytes, places: list[int]) -> None:
    stream = b"".join(OTHERS) + data
    made, _ = splitter()
    out = b"".join(map(made.feed, cut(stream, places)))
    assert stream.startswith(out)
    held = stream[len(out) :]
    assert len(held) < FRAME_MAX or held[0] == HEADER, "at most one incomplete frame is held back"


# What is written


@pytest.mark.parametrize("mandatory", [True, False])
@pytest.mark.parametrize(
    ("exchange", "key"), [("", "calculator"), ("amq.direct", ""), ("", "x" * 255), ("e" * 127, "ü" * 127)]
)
def test_the_publish_method_is_pamqps(exchange: str, key: str, mandatory: bool) -> None:
    expected = of(Basic.Publish(exchange=exchange, routing_key=key, mandatory=mandatory), 7)
    assert publish_method(7, exchange.encode(), key.encode(), mandatory=mandatory) == expected


@pytest.mark.parametrize(("exchange", "key"), [(b"x" * 256, b""), (b"", b"x" * 256)])
def test_a_destination_longer_than_amqp_allows_is_refused(exchange: bytes, key: bytes) -> None:
    with pytest.raises(ValueError, match="255"):
        publish_method(1, exchange, key)


def in_pamqp(channel: int, method: bytes, properties: dict[str, Any], body: bytes, frame_max: int) -> bytes:
    parts = [
        method,
        of(
            pamqp.header.ContentHeader(body_size=len(body), properties=Basic.Properties(**properties)),
            channel,
        ),
    ]
    piece = frame_max - FRAME_OVERHEAD
    for at in range(0, len(body), piece):
        parts.append(of(pamqp.body.ContentBody(body[at : at + piece]), channel))
    return b"".join(parts)


@examples
@given(
    channel=st.integers(1, 65535),
    frame_max=st.sampled_from([64, 100, 4096]),
    frames=st.integers(0, 3),
    more=st.integers(-2, 2),
    correlation_id=st.text(st.characters(codec="ascii"), min_size=1, max_size=20),
)
def test_a_message_is_written_as_pamqp_writes_it_whatever_its_size(
    channel: int, frame_max: int, frames: int, more: int, correlation_id: str
) -> None:
    body = bytes(place % 251 for place in range(max(0, frames * (frame_max - FRAME_OVERHEAD) + more)))
    method = publish_method(channel, b"e", b"k")
    properties = Properties(correlation_id=correlation_id.encode()).encode()
    data = encode_publish(method, channel, properties, body, frame_max)
    assert data == in_pamqp(channel, method, {"correlation_id": correlation_id}, body, frame_max)
    sizes, at = [], 0
    while at < len(data):
        consumed, found, _ = pamqp.frame.unmarshal(data[at:])
        assert found == channel
        sizes.append(consumed)
        at += consumed
    assert max(sizes) <= frame_max


@examples
@given(st.integers(0, 3), st.integers(-2, 2), st.lists(st.integers(0, 2**20), max_size=4))
def test_what_is_written_is_read_again(frames: int, more: int, places: list[int]) -> None:
    body = b"\xce" * max(0, frames * (FRAME_MAX - FRAME_OVERHEAD) + more)
    made, sink = splitter(1)
    stream = encode_publish(deliver(5), 1, b"\x04\x00\x01c", body, FRAME_MAX)
    assert b"".join(map(made.feed, cut(stream, places))) == b""
    assert sink.events == [("delivered", 5, False, b"\x04\x00\x01c", body)]


def test_properties_that_fit_into_no_frame_are_refused_since_the_broker_would_close_the_connection() -> None:
    room = FRAME_MAX - FRAME_OVERHEAD - 12
    headers = Properties(headers={"a": "x" * 300}).encode()
    assert encode_publish(b"", 1, headers[:room], b"", FRAME_MAX)
    with pytest.raises(ValueError):
        encode_publish(b"", 1, headers[: room + 1], b"", FRAME_MAX)


@pytest.mark.parametrize("tag", [1, 2**32, 2**63 - 1])
@pytest.mark.parametrize("flag", [True, False])
def test_settlements_are_pamqps(tag: int, flag: bool) -> None:
    assert encode_ack(9, tag, multiple=flag) == of(Basic.Ack(tag, flag), 9)
    assert encode_nack(9, tag, requeue=flag) == of(Basic.Nack(tag, False, flag), 9)


def test_an_acknowledgement_is_for_one_delivery_unless_told_otherwise() -> None:
    assert encode_ack(9, 3) == of(Basic.Ack(3, False), 9)


# The broker's last words


@pytest.mark.parametrize("text", ["NOT_ALLOWED - vhost x not found", "", "x" * 255, "größer"])
def test_the_reason_of_a_closed_connection_is_the_brokers_own_words(text: str) -> None:
    close = of(pamqp.commands.Connection.Close(530, text, 10, 40), 0)
    ahead = of(pamqp.heartbeat.Heartbeat(), 0) + of(pamqp.commands.Channel.Close(404, "NOT_FOUND", 60, 40))
    for frames in (close, ahead + close, close + ahead, ahead + close + close):
        assert close_reason(frames) == f"530 {text}"


@pytest.mark.parametrize(
    "frames",
    [
        b"",
        b"\x01",
        *OTHERS,
        frame(METHOD, b"\x00\x0a\x00\x32\x02\x12\x01x", channel=1),
        frame(BODY, b"\x00\x0a\x00\x32\x02\x12\x01x", channel=0),
        frame(METHOD, b"\x00\x0a\x00\x33", channel=0),
        frame(METHOD, b"x\x00\x0a\x00\x32\x02\x12\x01x", channel=0),
        frame(METHOD, b"\x00\x0a\x00\x32", channel=0),
        frame(METHOD, b"\x00\x0a\x00\x32\x02\x12", channel=0),
        of(pamqp.commands.Connection.CloseOk(), 0),
    ],
    ids=lambda data: data[:15].hex(),
)
def test_a_connection_that_is_not_closed_has_no_reason(frames: bytes) -> None:
    assert close_reason(frames) is None


def test_a_reason_that_is_no_text_is_shown_as_far_as_it_goes() -> None:
    reason = close_reason(frame(METHOD, b"\x00\x0a\x00\x32\x02\x12\x03a\xffb", channel=0))
    assert reason == "530 a\N{REPLACEMENT CHARACTER}b"


@examples
@given(st.binary(max_size=20), st.binary(max_size=20), st.integers(0, 40))
def test_looking_for_a_reason_in_garbage_does_no_harm(before: bytes, after: bytes, cut_at: int) -> None:
    close = of(pamqp.commands.Connection.Close(530, "NOT_ALLOWED", 10, 40), 0)
    for data in (close[:cut_at], before + close[:cut_at] + after, close[:11] + after, before + close + after):
        reason = close_reason(data)
        assert reason is None or isinstance(reason, str)


def test_what_is_behind_a_message_that_ends_the_program_is_read_later() -> None:
    class Ends(Sink):
        def delivered(self, tag: int, redelivered: bool, header: bytes, body: bytes) -> None:
            super().delivered(tag, redelivered, header, body)
            if len(self.events) == 1:
                raise KeyboardInterrupt

    sink = Ends()
    made = Splitter(FRAME_MAX)
    made.readers[1] = ContentReader(sink, LIMIT)
    message = b"".join([deliver(), *content(NO_PROPERTIES, b"body")])
    other = frame(METHOD, b"\x00\x0a\x00\x3c", channel=0)
    with pytest.raises(KeyboardInterrupt):
        made.feed(other + message + message[:20])
    assert made.feed(message[20:] + other) == 2 * other
    assert len(sink.events) == 2


# Channels that the broker closes


def test_all_channels_that_are_closed_are_found_among_other_frames() -> None:
    closes = [of(pamqp.commands.Channel.Close(404, "NOT_FOUND", 60, 40), channel) for channel in (7, 65535)]
    others = b"".join(OTHERS)  # with one for channel 1
    assert channels_closed(closes[1]) == [65535]
    assert channels_closed(b"".join(closes)) == [7, 65535]
    assert channels_closed(others + closes[0] + others + closes[1]) == [1, 7, 1, 65535]


@pytest.mark.parametrize(
    "frames",
    [
        b"",
        b"\x00\x14\x00\x28",
        of(pamqp.commands.Channel.CloseOk(), 7),
        of(pamqp.commands.Channel.OpenOk(), 7),
        frame(BODY, b"\x00\x14\x00\x28", channel=7),
        frame(METHOD, b"x\x00\x14\x00\x28", channel=7),
        of(pamqp.commands.Channel.CloseOk(), 7) + frame(HEADER, b"\x00\x14\x00\x28", channel=7),
    ],
    ids=lambda data: data[:15].hex(),
)
def test_a_channel_that_is_not_closed_is_none_of_them(frames: bytes) -> None:
    assert channels_closed(frames) == []


@examples
@given(st.binary(max_size=20), st.binary(max_size=20), st.integers(0, 40))
def test_looking_for_closed_channels_in_garbage_does_no_harm(before: bytes, after: bytes, cut_at: int) -> None:
    close = of(pamqp.commands.Channel.Close(404, "NOT_FOUND", 60, 40), 7)
    for data in (close[:cut_at], before + close[:cut_at] + after, close[:11] + after, before + close + after):
        assert all(0 <= number <= 65535 for number in channels_closed(data))


# What the broker says about its memory and its disk


@pytest.mark.parametrize("reason", ["low on memory", "x" * 255, "größer"])
def test_a_block_has_the_brokers_own_reason(reason: str) -> None:
    blocked = of(pamqp.commands.Connection.Blocked(reason), 0)
    for frames in (blocked, of(pamqp.heartbeat.Heartbeat(), 0) + blocked, blocked + of(Basic.Ack(1, False), 9)):
        assert block_notice(frames) == reason


def test_a_block_without_a_reason_is_one_all_the_same() -> None:
    assert block_notice(of(pamqp.commands.Connection.Blocked(""), 0)) == "it does not say why"


def test_the_last_notice_counts() -> None:
    blocked, unblocked = of(pamqp.commands.Connection.Blocked("r"), 0), of(pamqp.commands.Connection.Unblocked(), 0)
    assert block_notice(unblocked) == block_notice(blocked + unblocked) == ""
    assert block_notice(blocked + unblocked + blocked) == "r"


@pytest.mark.parametrize(
    "frames",
    [
        b"",
        of(pamqp.heartbeat.Heartbeat(), 0),
        of(pamqp.commands.Connection.Close(530, "NOT_ALLOWED", 10, 40), 0),
        frame(METHOD, b"\x00\x0a\x00\x3c\x01r", channel=1),
        frame(BODY, b"\x00\x0a\x00\x3c\x01r", channel=0),
        frame(METHOD, b"x\x00\x0a\x00\x3c\x01r", channel=0),
        frame(METHOD, b"\x00\x0a\x00\x3c", channel=0),
    ],
    ids=lambda data: data[:15].hex(),
)
def test_other_frames_say_nothing_about_it(frames: bytes) -> None:
    assert block_notice(frames) is None


@examples
@given(st.binary(max_size=20), st.binary(max_size=20), st.integers(0, 40))
def test_looking_for_a_notice_in_garbage_does_no_harm(before: bytes, after: bytes, cut_at: int) -> None:
    blocked = of(pamqp.commands.Connection.Blocked("low on memory"), 0)
    for data in (blocked[:cut_at], before + blocked[:cut_at] + after, blocked[:11] + after, before + blocked + after):
        notice = block_notice(data)
        assert notice is None or isinstance(notice, str)


# What is agreed on


@pytest.mark.parametrize("offered", [0, 4096, 2**32 - 1])
def test_frames_have_a_limit_also_where_the_broker_wants_none(offered: int) -> None:
    before, after = of(pamqp.commands.Connection.Start(), channel=0), of(pamqp.commands.Connection.Tune(), channel=1)
    frames = before + of(pamqp.commands.Connection.Tune(2047, offered, 60), channel=0) + after
    expected = before + of(pamqp.commands.Connection.Tune(2047, offered or FRAME_MAX, 60), channel=0) + after
    assert with_limit(frames, FRAME_MAX) == expected


@pytest.mark.parametrize(
    "frames",
    [
        b"",
        HEARTBEAT_FRAME,
        of(pamqp.commands.Connection.OpenOk(), channel=0),
        frame(METHOD, b"\0\x0a\0\x1e", channel=0),
    ],
)
def test_other_frames_are_left_as_they_are(frames: bytes) -> None:
    assert with_limit(frames, FRAME_MAX) == frames
