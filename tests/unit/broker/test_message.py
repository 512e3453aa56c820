"""Messages: content headers cut apart and put together, what a broker reads in them, and expirations."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pamqp import header
from pamqp.commands import Basic

from amqproxy.broker.errors import ProtocolError
from amqproxy.broker.message import (
    FIXED,
    LONGEST_TTL,
    OVERHEAD,
    Entry,
    Message,
    address,
    headers_of,
    join,
    milliseconds,
    scan,
    split,
)
from amqproxy.fields import Malformed
from amqproxy.properties import (
    CONTENT_TYPE,
    CORRELATION_ID,
    DELIVERY_MODE,
    EXPIRATION,
    HEADERS,
    MESSAGE_ID,
    PRIORITY,
    REPLY_TO,
    TIMESTAMP,
    USER_ID,
)
from tests.unit.broker import wire

examples = settings(max_examples=80, deadline=None, derandomize=True, database=None)

ALL_FLAGS = 0xFFFC
texts = st.text(st.characters(codec="utf-8"), max_size=30)
properties: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {},
    optional={
        "content_type": texts,
        "content_encoding": texts,
        "headers": st.dictionaries(texts, st.integers(-9, 9) | texts | st.lists(texts, max_size=2), max_size=3),
        "delivery_mode": st.sampled_from([1, 2]),
        "priority": st.integers(0, 255),
        "correlation_id": texts,
        "reply_to": texts,
        "expiration": st.integers(0, LONGEST_TTL).map(str),
        "message_id": texts,
        "message_type": texts,
        "user_id": texts,
        "app_id": texts,
    },
)


def payload(size: int = 0, **given: Any) -> bytes:
    """The payload of a content header frame, by pamqp."""
    written: bytes = header.ContentHeader(body_size=size, properties=Basic.Properties(**given)).marshal()
    return written


def fixed(flags: int, rest: bytes = b"") -> bytes:
    return struct.pack(">HHQH", 60, 0, 0, flags) + rest


def message(head: bytes, body: bytes = b"") -> Message:
    return Message(address("", "q"), head, body)


def scanned(head: bytes) -> tuple[bool, Message]:
    made = message(head)
    return scan(made), made


# Cutting apart and putting together.


@examples
@given(properties)
def test_a_header_is_cut_apart_and_put_together_again(given: dict[str, Any]) -> None:
    head = payload(3, **given)
    parts = split(head)
    assert join(head, parts) == head
    scan(message(head))


@examples
@given(properties, st.integers(0, 100))
def test_a_header_that_is_cut_or_goes_on_is_malformed_both_ways(given: dict[str, Any], place: int) -> None:
    head = payload(3, **given)
    at = FIXED + 2 + place
    for wrong in (head + b"\0", head[:at]):
        if len(wrong) != len(head):
            with pytest.raises(Malformed):
                split(wrong)
            with pytest.raises((Malformed, ProtocolError)):  # it may be cut in the middle of an expiration
                scan(message(wrong))


@examples
@given(st.integers(0, 0xFFFF), st.binary(max_size=80))
def test_any_bytes_are_properties_or_malformed_both_ways(flags: int, rest: bytes) -> None:
    head = fixed(flags, rest)
    try:
        scan(message(head))
    except Malformed:
        return
    except ProtocolError as error:
        assert error.code == 406
        return
    assert join(head, split(head)) == head


def test_a_header_without_properties_has_no_parts() -> None:
    assert split(fixed(0)) == {}
    assert headers_of({}).fields == {}
    assert scanned(fixed(0))[0] is False


@pytest.mark.parametrize("end", [FIXED, FIXED + 1])
def test_a_header_that_ends_before_its_flags_is_malformed(end: int) -> None:
    with pytest.raises(Malformed):
        scan(message(fixed(0)[:end]))


def test_more_flags_than_properties_are_malformed() -> None:
    with pytest.raises(Malformed, match="more property flags"):
        split(fixed(1, b"\0\0"))
    with pytest.raises(Malformed, match="more property flags"):
        scan(message(fixed(1, b"\0\0")))


def test_a_property_can_be_changed_taken_away_and_added() -> None:
    head = payload(0, reply_to="a", correlation_id="b")
    parts = split(head)
    del parts[CORRELATION_ID]
    parts |= {REPLY_TO: b"\2cc", MESSAGE_ID: b"\1d"}
    assert join(head, parts) == payload(0, reply_to="cc", message_id="d")
    made = message(head)
    made.changed(parts)
    assert made.header == payload(0, reply_to="cc", message_id="d")


def test_properties_that_are_no_utf_8_pass() -> None:
    head = fixed(CONTENT_TYPE | CORRELATION_ID, b"\2\xff\xfe\1\x80")
    assert scanned(head)[0] is False
    assert split(head) == {CONTENT_TYPE: b"\2\xff\xfe", CORRELATION_ID: b"\1\x80"}


def test_a_length_that_is_claimed_is_not_believed() -> None:
    for wrong in (fixed(HEADERS, b"\xff\xff\xff\xff"), fixed(HEADERS, b"\0\0"), fixed(CONTENT_TYPE, b"\xffabc")):
        with pytest.raises(Malformed):
            split(wrong)
        with pytest.raises(Malformed):
            scan(message(wrong))


def test_headers_that_are_no_table_are_malformed() -> None:
    for inside in (b"\1aZ", b"\1a" + wire.field_of(b"F", b"\5garb"), b"\1a" + wire.field_of(b"A", b"Sgarb")):
        with pytest.raises(Malformed):
            scan(message(fixed(HEADERS, wire.table(inside))))


def test_headers_may_be_nested_as_deep_as_they_like() -> None:
    head = fixed(HEADERS, wire.table(wire.nested(700)))
    assert scanned(head)[0] is False
    assert message(head).headers.encode() == wire.table(wire.nested(700))


# What the broker reads.


def test_what_concerns_nobody_but_the_clients_is_passed_over() -> None:
    concerns, made = scanned(
        payload(
            0,
            content_type="a",
            content_encoding="b",
            headers={"x": 1},
            delivery_mode=2,
            correlation_id="c",
            reply_to="d",
            message_id="e",
            message_type="f",
            app_id="g",
        )
    )
    assert not concerns
    assert (made.ttl, made.priority, made.keys) == (None, 0, None)


@pytest.mark.parametrize(
    "given",
    [{"user_id": "u"}, {"headers": {"CC": []}}, {"headers": {"BCC": ["a"]}}, {"reply_to": "amq.rabbitmq.reply-to"}],
    ids=lambda given: next(iter(given)),
)
def test_what_concerns_the_broker_is_found(given: dict[str, Any]) -> None:
    assert scanned(payload(0, **given))[0] is True


def test_priority_and_expiration_are_taken() -> None:
    _, made = scanned(payload(0, priority=255, expiration="60000"))
    assert (made.priority, made.ttl) == (255, 60000)


@pytest.mark.parametrize("mode", range(5))
def test_a_delivery_mode_that_there_is_not_is_to_be_looked_at(mode: int) -> None:
    assert scanned(fixed(DELIVERY_MODE, bytes((mode,))))[0] is (mode not in (1, 2))


@pytest.mark.parametrize("expiration", [b"soon", b"-1", b"", b"+5", b"9" * 12])
def test_an_expiration_that_is_no_plain_number_is_to_be_looked_at(expiration: bytes) -> None:
    concerns, made = scanned(fixed(EXPIRATION, wire.short(expiration)))
    assert (concerns, made.ttl) == (True, None)


@pytest.mark.parametrize("flag", [DELIVERY_MODE, PRIORITY, TIMESTAMP, EXPIRATION, USER_ID, HEADERS])
def test_a_property_that_is_claimed_but_is_not_there_is_malformed(flag: int) -> None:
    with pytest.raises((Malformed, ProtocolError)):
        scan(message(fixed(flag)))


def test_a_message_knows_where_it_was_published() -> None:
    made = Message(address("ex", "key"), payload(), b"body")
    assert (made.exchange, made.routing_key, made.routing_keys) == ("ex", "key", ("key",))
    made.keys = ("key", "copy")
    assert made.routing_keys == ("key", "copy")
    assert made.share == len(made.header) + 4 + OVERHEAD


def test_names_that_are_no_utf_8_are_kept() -> None:
    raw = b"\1\xff\1\xfe"
    made = Message(raw, payload(), b"")
    assert address(made.exchange, made.routing_key) == raw


def test_an_address_takes_short_strings_only() -> None:
    assert address("e" * 255, "") == b"\xff" + b"e" * 255 + b"\0"
    with pytest.raises(ValueError, match="range"):
        address("", "k" * 256)


def test_an_entry_is_new_at_first() -> None:
    entry = Entry(message(payload()), 3, None)
    assert (entry.sequence, entry.redelivered, entry.deliveries) == (3, False, 0)


# Expirations.


@examples
@given(st.integers(0, LONGEST_TTL))
def test_a_number_of_milliseconds_is_itself(number: int) -> None:
    assert milliseconds(b"%d" % number) == number
    assert milliseconds(b"+%d" % number) == number
    assert milliseconds(b"000%d" % number) == number


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (b"", "invalid expiration '': no_integer"),
        (b"abc", "invalid expiration 'abc': no_integer"),
        (b"+", "invalid expiration '+': no_integer"),
        (b"+-1", "invalid expiration '+-1': no_integer"),
        (b" 1", "invalid expiration ' 1': no_integer"),
        (b"1s", "invalid expiration '1s': {leftover_string,\"s\"}"),
        (b"1.5", "invalid expiration '1.5': {leftover_string,\".5\"}"),
        (b"-1", "invalid expiration '-1': {value_negative,-1}"),
        (
            b"315360000001",
            "invalid expiration '315360000001': {value_too_large,315360000001}",
        ),
    ],
)
def test_an_expiration_that_is_none_is_refused_in_rabbitmqs_words(raw: bytes, why: str) -> None:
    with pytest.raises(ProtocolError) as caught:
        milliseconds(raw)
    assert (caught.value.code, caught.value.explanation) == (406, why)


@examples
@given(st.binary(max_size=255))
@example(b"\xb2")
@example("٣".encode())
@example(b"9" * 255)
@example(b"-0")
def test_any_bytes_are_an_expiration_or_refused(raw: bytes) -> None:
    try:
        number = milliseconds(raw)
    except ProtocolError as error:
        assert error.code == 406
        assert len(error.text.encode(errors="surrogateescape")) <= 255
    else:
        assert 0 <= number <= LONGEST_TTL
