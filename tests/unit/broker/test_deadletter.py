"""Dead letters: what their headers tell, how deaths are counted, and which way would be a circle."""

from __future__ import annotations

import struct
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from amqproxy.broker.deadletter import buried, is_cycle, times_died
from amqproxy.broker.message import Message, address
from amqproxy.broker.tables import Table, array, long_integer, long_string, nested
from amqproxy.fields import encode_table
from amqproxy.properties import CORRELATION_ID, EXPIRATION, HEADERS, PRIORITY
from tests.unit.broker import wire

examples = settings(max_examples=60, deadline=None, derandomize=True, database=None)

NOW = 1_700_000_000


def message(
    headers: dict[str, Any] | Table | None = None,
    *,
    expiration: bytes | None = None,
    exchange: str = "",
    key: str = "k",
) -> Message:
    flags, rest = 0, b""
    if headers is not None:
        flags |= HEADERS
        rest += headers.encode() if isinstance(headers, Table) else encode_table(headers)
    flags |= PRIORITY | CORRELATION_ID
    rest += b"\7" + wire.short(b"c")
    if expiration is not None:
        flags |= EXPIRATION
        rest += wire.short(expiration)
    made = Message(address(exchange, key), struct.pack(">HHQH", 60, 0, 4, flags) + rest, b"body")
    made.priority = 7
    return made


def die(
    one: Message, queue: str = "q", reason: str = "expired", exchange: str = "dlx", key: str | None = None
) -> Message:
    return buried(one, queue, reason, exchange, key, NOW)


def deaths(one: Message) -> list[tuple[str, str, int]]:
    return [(death["queue"], death["reason"], death["count"]) for death in one.headers["x-death"]]


def test_a_first_death_is_told_in_full() -> None:
    dead = die(message({"own": 1}, expiration=b"60000", exchange="ex"))
    assert dict(dead.headers) == {
        "own": 1,
        "x-death": [
            {
                "count": 1,
                "reason": "expired",
                "queue": "q",
                "time": datetime.fromtimestamp(NOW, UTC),
                "exchange": "ex",
                "routing-keys": ["k"],
                "original-expiration": "60000",
            }
        ],
        "x-first-death-reason": "expired",
        "x-first-death-queue": "q",
        "x-first-death-exchange": "ex",
        "x-last-death-reason": "expired",
        "x-last-death-queue": "q",
        "x-last-death-exchange": "ex",
    }
    assert (dead.exchange, dead.routing_key, dead.body, dead.priority) == ("dlx", "k", b"body", 7)


def test_a_dead_letter_lives_for_ever_and_keeps_its_other_properties() -> None:
    dead = die(message(expiration=b"1"))
    (flags,) = struct.unpack_from(">H", dead.header, 12)
    assert flags == HEADERS | PRIORITY | CORRELATION_ID
    assert dead.header.endswith(b"\7\1c")
    assert dead.ttl is None
    assert "original-expiration" in dead.headers["x-death"][0]


def test_without_an_expiration_there_was_none() -> None:
    assert "original-expiration" not in die(message()).headers["x-death"][0]


def test_the_message_that_died_is_as_it_was() -> None:
    one = message({"own": 1})
    header = one.header
    die(one)
    assert one.header == header


def test_what_it_costs_is_what_it_weighs_now() -> None:
    dead = die(message())
    assert dead.share >= len(dead.header) + len(dead.body)


# Deaths are counted.


def test_the_last_death_comes_first() -> None:
    dead = die(die(message(), "a"), "b", "rejected")
    assert deaths(dead) == [("b", "rejected", 1), ("a", "expired", 1)]
    assert dead.headers["x-first-death-queue"] == "a"
    assert dead.headers["x-last-death-queue"] == "b"
    assert dead.headers["x-last-death-reason"] == "rejected"
    assert dead.headers["x-last-death-exchange"] == "dlx"


@examples
@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(["expired", "rejected"])), min_size=1, max_size=8))
def test_each_queue_and_reason_has_one_entry_with_its_count(given: list[tuple[str, str]]) -> None:
    dead = message()
    for queue, reason in given:
        dead = die(dead, queue, reason)
    expected: list[tuple[str, str]] = []
    for one in given:
        expected = [one, *(other for other in expected if other != one)]
    assert deaths(dead) == [(queue, reason, given.count((queue, reason))) for queue, reason in expected]
    assert dead.headers["x-first-death-queue"] == given[0][0]


def test_a_count_that_a_client_invented_does_not_overflow() -> None:
    death = Table({"count": long_integer(2**63 - 1), "queue": long_string("q"), "reason": long_string("expired")})
    dead = die(message(Table({"x-death": array([nested(death)])})))
    assert dead.headers["x-death"][0]["count"] in (2**63 - 1, -(2**63))


@pytest.mark.parametrize(
    "field",
    [
        b"V",
        long_string("nonsense"),
        array([long_string("nonsense"), long_integer(1)]),
        array([nested(Table({"count": long_string("one")}))]),
        array([nested(Table())]),
        wire.field_of(b"A", wire.field_of(b"F", wire.nested(700))),
    ],
    ids=["void", "text", "no tables", "count is text", "empty", "deep"],
)
def test_an_x_death_that_a_client_invented_does_no_harm(field: bytes) -> None:
    one = message(Table({"x-death": field}))
    assert not is_cycle(one, "q")
    dead = die(one)
    assert dead.headers.kind("x-death") == "array"
    assert ("q", "expired", 1) in [
        (death.text("queue"), death.text("reason"), death["count"])
        for death in (Table.parse(item[5:]) for item in [first_item(dead)])
    ]


def first_item(one: Message) -> bytes:
    field = one.headers.fields["x-death"]
    return field[5 : 5 + 5 + int.from_bytes(field[6:10], "big")]


# Where it goes.


def test_a_key_for_dead_letters_takes_the_place_of_all_others() -> None:
    one = message({"CC": ["copy"]})
    one.keys = ("k", "copy")
    dead = die(one, key="dead")
    assert (dead.routing_keys, "CC" in dead.headers) == (("dead",), False)
    assert dead.headers["x-death"][0]["routing-keys"] == ["k", "copy"]


def test_without_such_a_key_it_goes_where_it_was_sent_to() -> None:
    one = message({"CC": ["copy"]})
    one.keys = ("k", "copy", "secret")
    dead = die(one)
    assert dead.routing_keys == ("k", "copy", "secret")
    assert dead.headers["CC"] == ["copy"]


def test_an_empty_key_is_a_key() -> None:
    assert die(message(), key="").routing_keys == ("",)


# Circles.


def test_a_letter_that_comes_back_by_itself_goes_round_in_a_circle() -> None:
    dead = die(die(message(), "a"), "b", "maxlen")
    assert is_cycle(dead, "a")
    assert is_cycle(dead, "b")
    assert not is_cycle(dead, "c")


def test_a_refusal_since_then_breaks_the_circle() -> None:
    assert not is_cycle(die(die(message(), "a"), "b", "rejected"), "a")
    assert not is_cycle(die(die(message(), "a"), "b", "rejected"), "b")
    assert is_cycle(die(die(message(), "a", "rejected"), "b"), "b")


def test_a_living_message_was_nowhere() -> None:
    assert not is_cycle(message(), "a")
    assert not is_cycle(message({"x-first-death-queue": "a"}), "a")


def test_deaths_are_counted_by_queue_and_reason() -> None:
    letter = message()
    assert times_died(letter) == 0
    for queue, reason, count in (("q", "expired", 1), ("q", "expired", 1), ("q", "maxlen", 2), ("r", "maxlen", 3)):
        letter = buried(letter, queue, reason, "", "k", NOW)
        assert times_died(letter) == count
