"""Message properties, compared with pamqp byte for byte; and garbage, which is Malformed and nothing else."""

from __future__ import annotations

import contextlib
import struct
from dataclasses import fields
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st
from pamqp.commands import Basic

from amqproxy import properties
from amqproxy.fields import Malformed
from amqproxy.properties import Properties, return_address, routing

examples = settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)

SECONDS = 1_700_000_000
SAMPLE = Properties(
    content_type=b"com.example.Outer$Inner",
    content_encoding=b"json",
    headers={"a": "b", "n": {"x": None}},
    delivery_mode=2,
    priority=9,
    correlation_id=b"c-1",
    reply_to=b"amq.gen-x",
    expiration=b"1000",
    message_id=b"m-1",
    timestamp=SECONDS,
    type=b"t",
    user_id=b"guest",
    app_id=b"app",
    cluster_id=b"cl",
)
NAMES = [field.name for field in fields(Properties)]
OCTETS = ("delivery_mode", "priority")
STRINGS = [name for name in NAMES if name not in (*OCTETS, "headers", "timestamp")]

short = st.text(st.characters(codec="utf-8"), min_size=1, max_size=30)
all_properties = st.fixed_dictionaries(
    {},
    optional={
        name: st.integers(0, 255)
        if name in OCTETS
        else st.integers(0, 2**32 - 1)
        if name == "timestamp"
        else st.dictionaries(short, short | st.booleans() | st.none(), max_size=3)
        if name == "headers"
        else short.map(str.encode)
        for name in NAMES
    },
).map(lambda found: Properties(**found))  # type: ignore[arg-type]


def in_pamqp(ours: Properties, names: list[str] | None = None) -> Basic.Properties:
    theirs = Basic.Properties()
    for name in NAMES if names is None else names:
        value: Any = getattr(ours, name)
        if isinstance(value, bytes):
            value = value.decode()
        elif name == "timestamp" and value is not None:
            value = datetime.fromtimestamp(value, UTC)
        if value is not None:
            setattr(theirs, "message_type" if name == "type" else name, value)
    return theirs


def test_every_combination_of_properties_has_pamqps_bytes_and_comes_back() -> None:
    for mask in range(1 << len(NAMES)):
        chosen = {name: getattr(SAMPLE, name) for place, name in enumerate(NAMES) if mask >> place & 1}
        ours = Properties(**chosen)
        data = ours.encode()
        assert data == in_pamqp(ours, list(chosen)).marshal()
        assert Properties.decode(data) == ours
        assert routing(data) == (ours.content_type, ours.content_encoding, ours.correlation_id, ours.reply_to)


@examples
@given(all_properties)
def test_both_write_the_same_bytes_and_read_them_alike(ours: Properties) -> None:
    headers = ours.headers and {name: ours.headers[name] for name in sorted(ours.headers)}  # pamqp sorts names
    data = Properties(**{name: getattr(ours, name) for name in NAMES} | {"headers": headers}).encode()
    theirs = in_pamqp(ours)
    assert data == theirs.marshal()
    assert Properties.decode(data) == ours
    again = Basic.Properties()
    again.unmarshal(int.from_bytes(data[:2], "big"), data[2:])
    assert again == theirs


def test_no_property_is_two_empty_bytes() -> None:
    assert Properties().encode() == b"\x00\x00"
    assert Properties.decode(b"\x00\x00") == Properties()
    assert routing(b"\x00\x00") == (None, None, None, None)


def test_the_flags_are_those_of_the_specification() -> None:
    for place, name in enumerate(NAMES):
        flag = getattr(properties, name.upper())
        assert flag == 0x8000 >> place
        assert int.from_bytes(Properties(**{name: getattr(SAMPLE, name)}).encode()[:2], "big") == flag


def test_an_empty_text_is_there_and_a_missing_one_is_not() -> None:
    assert Properties.decode(Properties(correlation_id=b"", headers={}).encode()) == Properties(
        correlation_id=b"", headers={}
    )
    assert routing(Properties(reply_to=b"").encode()) == (None, None, None, b"")


def test_zero_is_there_and_none_is_not() -> None:
    ours = Properties(delivery_mode=0, priority=0, timestamp=0)
    assert ours.encode() == b"\x18\x40" + bytes(10)
    assert Properties.decode(ours.encode()) == ours


@examples
@given(st.fixed_dictionaries({}, optional=dict.fromkeys(STRINGS, st.binary(max_size=255))))
@example({"correlation_id": b"\xff" * 255, "reply_to": b"\x00"})
def test_text_may_be_any_bytes(found: dict[str, Any]) -> None:
    ours = Properties(**found)
    data = ours.encode()
    assert Properties.decode(data) == ours
    assert routing(data) == (ours.content_type, ours.content_encoding, ours.correlation_id, ours.reply_to)


@pytest.mark.parametrize(
    "found",
    [
        *({name: b"x" * 256} for name in STRINGS),
        *({name: value} for name in OCTETS for value in (-1, 256)),
        {"timestamp": -1},
        {"timestamp": 2**64},
        {"headers": {"a": 2**64}},
        {"headers": {"k" * 256: 1}},
    ],
    ids=lambda found: f"{next(iter(found))}={next(iter(found.values()))!r}"[:30],
)
def test_what_a_property_cannot_hold_is_a_value_error(found: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        Properties(**found).encode()


@pytest.mark.parametrize("data", [b"", b"\x80"])
def test_data_without_flags_is_malformed(data: bytes) -> None:
    with pytest.raises(Malformed):
        Properties.decode(data)
    with pytest.raises(Malformed):
        routing(data)


@pytest.mark.parametrize("flags", [b"\x00\x01", b"\x00\x02", b"\x80\x01", b"\xff\xff"])
def test_flags_that_amqp_does_not_know_are_malformed(flags: bytes) -> None:
    data = flags + bytes(100)
    with pytest.raises(Malformed):
        Properties.decode(data)
    with pytest.raises(Malformed):
        routing(data)


@pytest.mark.parametrize("name", NAMES)
def test_a_property_that_was_cut_off_is_malformed(name: str) -> None:
    data = Properties(**{name: getattr(SAMPLE, name)}).encode()
    for end in range(len(data)):
        with pytest.raises(Malformed):
            Properties.decode(data[:end])


def test_bytes_behind_the_last_property_are_malformed() -> None:
    with pytest.raises(Malformed, match="behind its last property"):
        Properties.decode(SAMPLE.encode() + b"\x00")


@examples
@given(all_properties, st.integers(0, 2**16))
def test_properties_that_were_cut_off_are_malformed(ours: Properties, cut: int) -> None:
    data = ours.encode()
    data = data[: cut % len(data)]
    with pytest.raises(Malformed):
        Properties.decode(data)
    with contextlib.suppress(Malformed):
        assert return_address(data) == (ours.reply_to, ours.headers or {})
    try:
        found = routing(data)
    except Malformed:
        return
    assert found == (ours.content_type, ours.content_encoding, ours.correlation_id, ours.reply_to)


@examples
@given(st.binary(max_size=80))
@example(b"\xa0\x00\x00\xff\xff\xff\xff")
@example(b"\x20\x00\xff\xff\xff\xff")
@example(b"\x20\x00\x00\x00")
def test_random_bytes_are_properties_or_malformed(data: bytes) -> None:
    try:
        whole = Properties.decode(data)
    except Malformed:
        whole = None
    try:
        two = return_address(data)
        four = routing(data)
    except Malformed:
        assert whole is None, "what decodes as a whole has readable parts"
        return
    if whole is not None:
        assert two == (whole.reply_to, whole.headers or {})
        assert four == (whole.content_type, whole.content_encoding, whole.correlation_id, whole.reply_to)


@examples
@given(all_properties, st.integers(0, 2**16), st.integers(0, 255))
def test_properties_with_one_wrong_byte_are_read_or_malformed(ours: Properties, place: int, byte: int) -> None:
    data = bytearray(ours.encode())
    data[place % len(data)] = byte
    for read in (Properties.decode, routing, return_address):
        try:
            read(bytes(data))
        except Malformed:
            continue


@examples
@given(all_properties, st.binary(min_size=1, max_size=10))
def test_routing_reads_nothing_behind_reply_to(ours: Properties, noise: bytes) -> None:
    assume(any(getattr(ours, name) is not None for name in NAMES[7:]))
    data = ours.encode()
    ahead = Properties(**{name: getattr(ours, name) for name in NAMES[:7]}).encode()
    spoiled = data[:2] + ahead[2:] + noise
    assert routing(spoiled) == (ours.content_type, ours.content_encoding, ours.correlation_id, ours.reply_to)


def test_routing_steps_over_headers_that_do_not_decode() -> None:
    headers = b"\x00\x00\x00\x03\x01k?"
    data = struct.pack(">H", 0x2600) + headers + b"\x01c\x01r"
    assert routing(data) == (None, None, b"c", b"r")
    for read in (Properties.decode, return_address):
        with pytest.raises(Malformed):
            read(data)


@pytest.mark.parametrize("end", range(2, 11))
def test_routing_of_what_was_cut_off_before_reply_to_is_malformed(end: int) -> None:
    data = Properties(content_type=b"a", delivery_mode=1, priority=1, correlation_id=b"c", reply_to=b"r").encode()
    assert len(data) == 10
    if end == 10:
        assert routing(data) == (b"a", None, b"c", b"r")
        return
    for read in (routing, return_address):
        with pytest.raises(Malformed):
            read(data[:end])
