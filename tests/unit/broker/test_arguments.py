"""The arguments of queues, exchanges and consumers: what is refused, in which words, and what they mean."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from amqproxy.broker.arguments import (
    Settings,
    check_consumer,
    check_equivalent,
    check_queue,
    check_same,
    inequivalent,
)
from amqproxy.broker.errors import ProtocolError
from amqproxy.broker.message import LONGEST_TTL
from amqproxy.broker.tables import Table
from amqproxy.fields import encode_table
from tests.unit.broker import wire

examples = settings(max_examples=100, deadline=None, derandomize=True, database=None)

Q = "queue 'q' in vhost '/'"
QUORUM = {"x-queue-type": "quorum"}
INTEGERS = (
    "x-expires",
    "x-message-ttl",
    "x-max-length",
    "x-max-length-bytes",
    "x-max-priority",
    "x-queue-version",
)
TEXTS = (
    "x-dead-letter-exchange",
    "x-overflow",
    "x-queue-type",
    "x-queue-leader-locator",
    "x-queue-mode",
    "x-queue-master-locator",
)
KNOWN = (*INTEGERS, *TEXTS, "x-dead-letter-routing-key", "x-single-active-consumer", "x-delivery-limit")
STRANGE = {
    "deep": wire.field_of(b"F", wire.nested(700)),
    "garbage": wire.field_of(b"F", b"\5garb"),
    "no time": b"T" + b"\xff" * 8,
    "no array": wire.field_of(b"A", b"Sgarb"),
}


def table(fields: dict[str, Any]) -> Table:
    return Table.parse(encode_table(fields)[4:])


def refusal(arguments: dict[str, Any] | Table) -> str:
    with pytest.raises(ProtocolError) as caught:
        check_queue(Q, arguments if isinstance(arguments, Table) else table(arguments))
    assert caught.value.code == 406
    return caught.value.explanation


# What a queue may be declared with.


def test_arguments_that_rabbitmq_takes_are_taken() -> None:
    check_queue(
        Q,
        table(
            {
                "x-expires": 1,
                "x-message-ttl": 0,
                "x-max-length": 0,
                "x-max-length-bytes": 0,
                "x-max-priority": 255,
                "x-overflow": "reject-publish-dlx",
                "x-dead-letter-exchange": "",
                "x-dead-letter-routing-key": "",
                "x-single-active-consumer": True,
                "x-queue-type": "classic",
                "x-queue-mode": "lazy",
                "x-queue-version": 2,
                "x-queue-master-locator": "anything",
                "x-queue-leader-locator": "balanced",
                "anything": [1],
            }
        ),
    )
    check_queue(
        Q,
        table(
            {
                **QUORUM,
                "x-delivery-limit": -1,
                "x-dead-letter-strategy": "at-least-once",
                "x-max-in-memory-length": 1,
                "x-max-in-memory-bytes": 1,
                "x-quorum-initial-group-size": 3,
                "x-quorum-target-group-size": 3,
            }
        ),
    )
    check_queue(Q, Table())


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ({"x-expires": 0}, "{value_zero,0}"),
        ({"x-expires": -1}, "{value_negative,-1}"),
        ({"x-expires": LONGEST_TTL + 1}, "{value_too_large,315360000001}"),
        ({"x-expires": "1"}, '"expected integer, got longstr"'),
        ({"x-message-ttl": -1}, "{value_negative,-1}"),
        ({"x-message-ttl": LONGEST_TTL + 1}, "{value_too_large,315360000001}"),
        ({"x-message-ttl": True}, '"expected integer, got bool"'),
        ({"x-message-ttl": 1.0}, '"expected integer, got double"'),
        ({"x-max-length": -1}, "{value_negative,-1}"),
        ({"x-max-length-bytes": None}, '"expected integer, got void"'),
        ({"x-max-priority": 256}, "{max_value_exceeded,256}"),
        ({"x-max-priority": -1}, "{value_negative,-1}"),
        ({"x-max-priority": "x"}, '"expected integer, got longstr"'),
        ({"x-overflow": "drop-tail"}, "invalid_overflow"),
        ({"x-overflow": 1}, "{unacceptable_type,signedint}"),
        ({"x-dead-letter-routing-key": "k"}, "routing_key_but_no_dlx_defined"),
        (
            {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": 1},
            "{unacceptable_type,signedint}",
        ),
        ({"x-single-active-consumer": "true"}, "{unacceptable_type,longstr}"),
        ({"x-queue-type": "stack"}, "\"unsupported queue type 'stack'\""),
        ({"x-queue-type": 1}, "{unacceptable_type,signedint}"),
        ({"x-queue-mode": "fast"}, "\"unsupported queue mode 'fast'\""),
        ({"x-queue-version": 3}, "\"unsupported queue version '3'\""),
        ({"x-queue-version": "1"}, '"expected integer, got longstr"'),
        ({"x-queue-leader-locator": "here"}, "invalid_queue_locator_arg"),
        ({**QUORUM, "x-delivery-limit": "3"}, '"expected integer, got longstr"'),
        ({**QUORUM, "x-dead-letter-strategy": "never"}, "invalid_dlx_strategy"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_an_argument_that_no_queue_can_have_is_refused(arguments: dict[str, Any], why: str) -> None:
    name = list(arguments)[-1]
    assert refusal(arguments) == f"invalid arg '{name}' for {Q}: {why}"


@pytest.mark.parametrize(
    "arguments",
    [
        {"x-delivery-limit": 1},
        {"x-dead-letter-strategy": "at-most-once"},
        {"x-max-age": "1D"},
        {**QUORUM, "x-max-priority": 1},
        {**QUORUM, "x-queue-mode": "lazy"},
        {**QUORUM, "x-stream-max-segment-size-bytes": 1},
    ],
    ids=str,
)
def test_an_argument_of_another_type_of_queue_is_refused(arguments: dict[str, Any]) -> None:
    kind = arguments.get("x-queue-type", "classic")
    assert refusal(arguments) == f"invalid arg '{list(arguments)[-1]}' for {Q} of queue type rabbit_{kind}_queue"


@pytest.mark.parametrize("field", STRANGE.values(), ids=STRANGE)
@pytest.mark.parametrize("name", KNOWN)
def test_an_argument_that_nobody_can_decode_is_refused(name: str, field: bytes) -> None:
    fields = table({"x-dead-letter-exchange": ""}).fields
    if name == "x-delivery-limit":
        fields |= table(QUORUM).fields
    integer = field[:1] != b"T" or name not in INTEGERS
    assert integer or refusal(Table(fields | {name: field})).startswith("invalid arg")
    assert name in refusal(Table(fields | {name: field}))


def test_a_key_for_dead_letters_that_no_delivery_could_carry_is_refused() -> None:
    arguments = {"x-dead-letter-exchange": "e", "x-dead-letter-routing-key": "x" * 256}
    assert "x-dead-letter-routing-key" in refusal(arguments)
    check_queue(Q, table(arguments | {"x-dead-letter-routing-key": "x" * 255}))


@pytest.mark.parametrize("kind", [b"b", b"B", b"s", b"u", b"I", b"i", b"l"])
def test_integers_of_all_sizes_are_integers(kind: bytes) -> None:
    width = {b"b": 1, b"B": 1, b"s": 2, b"u": 2, b"I": 4, b"i": 4, b"l": 8}[kind]
    arguments = Table({"x-max-length": kind + (7).to_bytes(width, "big")})
    check_queue(Q, arguments)
    assert Settings.of(arguments).max_length == 7


# What they mean.


def test_a_queue_without_arguments_has_no_limits() -> None:
    assert Settings.of(Table()) == Settings(delivery_limit=20)  # which only quorum queues look at
    assert Settings().type == "classic"


def test_settings_are_what_the_arguments_say() -> None:
    given = {
        "x-queue-type": "quorum",
        "x-message-ttl": 1,
        "x-expires": 2,
        "x-max-length": 0,
        "x-max-length-bytes": 4,
        "x-overflow": "reject-publish",
        "x-dead-letter-exchange": "",
        "x-dead-letter-routing-key": "k",
        "x-max-priority": 5,
        "x-single-active-consumer": True,
        "x-delivery-limit": 6,
    }
    assert Settings.of(table(given)) == Settings(
        type="quorum",
        message_ttl=1,
        expires=2,
        max_length=0,
        max_bytes=4,
        overflow="reject-publish",
        dead_letter_exchange="",
        dead_letter_key="k",
        max_priority=5,
        single_active_consumer=True,
        delivery_limit=6,
    )


@pytest.mark.parametrize(
    ("given", "so"),
    [
        ({"x-queue-type": "quorum", "x-overflow": "reject-publish"}, True),
        ({"x-queue-type": "quorum"}, False),
        ({"x-queue-type": "quorum", "x-overflow": "drop-head"}, False),
        ({"x-overflow": "reject-publish"}, False),
    ],
)
def test_only_a_quorum_queue_that_refuses_keeps_its_dead_letters(given: dict[str, Any], so: bool) -> None:
    assert Settings.of(table({**given, "x-dead-letter-strategy": "at-least-once"})).at_least_once is so
    assert not Settings.of(table({**given, "x-dead-letter-strategy": "at-most-once"})).at_least_once


# Consumers.


def test_consumers_have_a_priority_of_any_integer() -> None:
    for value in (-5, 0, 2**62):
        check_consumer(Q, table({"x-priority": value, "x-cancel-on-ha-failover": False}))


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ({"x-priority": "high"}, '"expected integer, got longstr"'),
        ({"x-cancel-on-ha-failover": 1}, "{unacceptable_type,signedint}"),
    ],
)
def test_an_argument_that_no_consumer_can_have_is_refused(arguments: dict[str, Any], why: str) -> None:
    with pytest.raises(ProtocolError) as caught:
        check_consumer(Q, table(arguments))
    assert caught.value.explanation == f"invalid arg '{next(iter(arguments))}' for {Q}: {why}"


# Declaring again.


def difference(current: dict[str, Any] | Table, received: dict[str, Any] | Table) -> str | None:
    one = current if isinstance(current, Table) else table(current)
    other = received if isinstance(received, Table) else table(received)
    try:
        check_equivalent(Q, one, other)
    except ProtocolError as error:
        assert error.code == 406
        return error.explanation
    return None


@examples
@given(
    st.fixed_dictionaries(
        {},
        optional={
            "x-expires": st.integers(1, 5),
            "x-max-length": st.integers(0, 5),
            "x-overflow": st.sampled_from(["drop-head", "reject-publish"]),
            "x-dead-letter-exchange": st.sampled_from(["", "e"]),
            "x-single-active-consumer": st.booleans(),
            "other": st.integers(),
        },
    )
)
def test_a_queue_can_be_declared_again_as_it_is(arguments: dict[str, Any]) -> None:
    assert difference(arguments, arguments) is None
    assert difference(arguments, arguments | {"unknown": 1}) is None
    assert difference(arguments, arguments | {"x-queue-type": "classic"}) is None


@pytest.mark.parametrize(
    ("current", "received", "why"),
    [
        ({"x-max-length": 1}, {"x-max-length": 2}, "received '2' but current is '1'"),
        ({"x-max-length": 1}, {}, "received none but current is the value '1' of type 'signedint'"),
        ({}, {"x-max-length": 2**40}, f"received the value '{2**40}' of type 'long' but current is none"),
        ({"x-overflow": "drop-head"}, {"x-overflow": 1}, "received '1' but current is 'drop-head'"),
        (
            {"x-single-active-consumer": True},
            {"x-single-active-consumer": False},
            "received 'false' but current is 'true'",
        ),
        ({"x-max-length": 1}, {"x-max-length": 1.0}, "received '1.0' but current is '1'"),
        ({"x-single-active-consumer": True}, {"x-single-active-consumer": 1}, "received '1' but current is 'true'"),
    ],
    ids=str,
)
def test_another_value_is_refused(current: dict[str, Any], received: dict[str, Any], why: str) -> None:
    name = next(iter(current | received))
    assert difference(current, received) == f"inequivalent arg '{name}' for {Q}: {why}"


def test_another_type_of_queue_is_refused() -> None:
    assert difference(QUORUM, {}) is not None
    assert difference({}, QUORUM) is not None
    assert difference(QUORUM, QUORUM) is None
    assert difference({"x-queue-type": "classic"}, {}) is None


def test_integers_of_different_sizes_are_the_same() -> None:
    assert difference(Table({"x-max-length": b"b\7"}), Table({"x-max-length": b"l\0\0\0\0\0\0\0\7"})) is None


@pytest.mark.parametrize("field", STRANGE.values(), ids=STRANGE)
@pytest.mark.parametrize("name", ["x-max-length", "x-overflow", "x-single-active-consumer"])
def test_a_value_that_nobody_can_decode_is_another_one(name: str, field: bytes) -> None:
    value = {"x-max-length": 1, "x-overflow": "drop-head", "x-single-active-consumer": True}[name]
    for current in ({name: value}, {}):
        assert (difference(current, Table({name: field})) or "").startswith(f"inequivalent arg '{name}' for {Q}: ")


def test_of_an_exchange_only_the_named_arguments_count() -> None:
    check_equivalent("exchange", table({"a": 1, "b": 2}), table({"a": 1, "b": 3}), ("a",))
    with pytest.raises(ProtocolError, match="inequivalent arg 'b'"):
        check_equivalent("exchange", table({"a": 1, "b": 2}), table({"a": 1, "b": 3}), ("a", "b"))


@examples
@given(st.text(max_size=10), st.text(max_size=10))
def test_properties_must_be_the_same(received: str, current: str) -> None:
    check_same("type", Q, received, received)
    if received != current:
        with pytest.raises(ProtocolError) as caught:
            check_same("type", Q, received, current)
        assert caught.value.explanation.startswith(f"inequivalent arg 'type' for {Q}: ")


def test_flags_are_shown_in_small_letters() -> None:
    check_same("durable", Q, True, True)
    with pytest.raises(ProtocolError) as caught:
        check_same("durable", Q, False, True)
    assert caught.value.explanation == inequivalent("durable", Q, "'false'", "'true'").explanation
    assert caught.value.explanation == f"inequivalent arg 'durable' for {Q}: received 'false' but current is 'true'"
