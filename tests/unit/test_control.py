"""Calls that were cancelled before they came, remembered for a time and never too many; and what a worker is told."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from amqproxy.control import LONGEST_MEMORY, MAX_ABANDONED, Abandoned, Desk, Key
from amqproxy.fields import FieldTable
from amqproxy.handler import Call
from amqproxy.link import Limits
from amqproxy.properties import Properties

ADA, BOB = b"queue of ada", b"queue of bob"


def call_of(reply_to: bytes | None, correlation_id: bytes | None) -> Call:
    return Call("calculator", "add", "worker", False, b"", time.monotonic, correlation_id, reply_to)


@pytest.mark.parametrize(
    ("key", "reply_to", "correlation_id", "meant"),
    [
        (Key(ADA, b"1"), ADA, b"1", True),
        (Key(ADA, b"1"), BOB, b"1", False),
        (Key(ADA, b"1"), ADA, b"2", False),
        (Key(ADA, b"1"), None, b"1", False),
        (Key(ADA, None), ADA, b"1", False),
        (Key(None, b"1"), ADA, b"1", True),
        (Key(None, b"1"), None, b"1", True),
        (Key(None, b"1"), ADA, b"2", False),
    ],
)
def test_a_key_means_the_calls_of_one_caller_or_all_of_its_id_if_it_does_not_say_whose(
    key: Key, reply_to: bytes | None, correlation_id: bytes | None, meant: bool
) -> None:
    call = call_of(reply_to, correlation_id)
    assert key.means(call) is meant
    assert key.means(Key.of(call)) is meant


def test_the_key_of_a_call_means_it() -> None:
    for reply_to, correlation_id in [(ADA, b"1"), (None, b"1"), (ADA, None), (None, None)]:
        call = call_of(reply_to, correlation_id)
        assert Key.of(call) == Key(reply_to, correlation_id)
        assert Key.of(call).means(call)


def test_a_call_that_was_cancelled_is_known_once() -> None:
    abandoned = Abandoned()
    assert not abandoned.until
    abandoned.add(Key(ADA, b"1"), 100.0, 30.0)
    assert len(abandoned.until) == 1
    assert abandoned.take(Key(ADA, b"1"), 101.0)
    assert not abandoned.take(Key(ADA, b"1"), 101.0)
    assert not abandoned.until


def test_the_id_alone_is_another_callers_too() -> None:
    abandoned = Abandoned()
    abandoned.add(Key(ADA, b"1"), 100.0, 30.0)
    assert not abandoned.take(Key(BOB, b"1"), 101.0)
    assert not abandoned.take(Key(ADA, b"2"), 101.0)
    assert not abandoned.take(Key(None, b"1"), 101.0)
    assert abandoned.take(Key(ADA, b"1"), 101.0)


def test_who_does_not_say_whose_call_it_is_means_any_of_that_id() -> None:
    abandoned = Abandoned()
    abandoned.add(Key(None, b"1"), 100.0, 30.0)
    assert not abandoned.take(Key(ADA, b"2"), 101.0)
    assert abandoned.take(Key(ADA, b"1"), 101.0)
    assert not abandoned.take(Key(BOB, b"1"), 101.0)
    abandoned.add(Key(None, b"3"), 100.0, 30.0)
    assert abandoned.take(Key(None, b"3"), 101.0)


def test_when_its_time_is_over_a_call_is_a_new_one() -> None:
    abandoned = Abandoned()
    abandoned.add(Key(ADA, b"1"), 100.0, 30.0)
    assert not abandoned.take(Key(ADA, b"1"), 130.0)
    assert len(abandoned.until) == 0


def test_cancelling_again_counts_from_then() -> None:
    abandoned = Abandoned()
    abandoned.add(Key(ADA, b"1"), 100.0, 30.0)
    abandoned.add(Key(ADA, b"1"), 120.0, 30.0)
    assert len(abandoned.until) == 1
    assert abandoned.take(Key(ADA, b"1"), 140.0)


def test_forgetting_tells_when_there_is_more_to_forget() -> None:
    abandoned = Abandoned()
    assert abandoned.forget(0.0) is None
    for seconds in (30.0, 10.0, 20.0):
        abandoned.add(Key(ADA, b"%d" % seconds), 100.0, seconds)
    assert abandoned.forget(105.0) == 110.0
    assert abandoned.forget(110.0) == 120.0
    assert len(abandoned.until) == 2
    assert abandoned.forget(130.0) is None
    assert len(abandoned.until) == 0


def test_the_oldest_is_forgotten_when_there_are_too_many() -> None:
    abandoned = Abandoned()
    for number in range(MAX_ABANDONED + 10):
        abandoned.add(Key(ADA, b"%d" % number), 100.0, 30.0)
    assert len(abandoned.until) == MAX_ABANDONED
    assert not abandoned.take(Key(ADA, b"9"), 100.0)
    assert abandoned.take(Key(ADA, b"10"), 100.0)


def test_many_cost_no_more_than_few() -> None:
    abandoned = Abandoned()
    began = time.perf_counter()
    for number in range(10 * MAX_ABANDONED):
        abandoned.add(Key(ADA, b"%d" % number), 100.0, 30.0)
    assert time.perf_counter() - began < 5  # a tenth of a second; looking at all each time took a minute


@settings(max_examples=60, deadline=None, derandomize=True, database=None)
@given(
    steps=st.lists(
        st.tuples(st.sampled_from(["add", "take", "forget"]), st.integers(0, 3), st.integers(0, 5)), max_size=60
    )
)
def test_it_is_a_table_of_what_is_still_to_come(steps: list[tuple[str, int, int]]) -> None:
    abandoned, expected, now = Abandoned(), dict[bytes, float](), 0.0
    for what, number, seconds in steps:
        id = b"%d" % number
        now += 1.0
        if what == "add":
            abandoned.add(Key(ADA, id), now, seconds)
            expected[id] = now + seconds
        elif what == "take":
            assert abandoned.take(Key(ADA, id), now) == (expected.pop(id, 0.0) > now)
        else:
            expected = {each: until for each, until in expected.items() if until > now}
            assert abandoned.forget(now) == min(expected.values(), default=None)
        assert len(abandoned.until) == len(expected)


@pytest.mark.parametrize("seconds", [0.0, 1e9])
def test_any_time_will_do(seconds: float) -> None:
    abandoned = Abandoned()
    abandoned.add(Key(ADA, b"1"), 100.0, seconds)
    assert abandoned.take(Key(ADA, b"1"), 100.0) == (seconds > 0)


# What comes to the worker's own queue


class Recorder:
    """A `Clerk` that notes what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[Any, ...]] = []

    def asked(self, *told: Any) -> None:
        self.told.append(("asked", *told[:4], told[5]))

    def cancel(self, key: Key, seconds: float) -> None:
        self.told.append(("cancel", key, seconds))

    def feed(self, key: Key, content_type: bytes | None, headers: FieldTable, body: bytes) -> None:
        self.told.append(("feed", key, content_type, dict(headers), body))

    def pong(self, correlation_id: bytes | None, reply_to: bytes | None) -> None:
        self.told.append(("pong", correlation_id, reply_to))

    def unreachable(self) -> None:
        raise AssertionError("no queue was lost")


def told(body: bytes = b"", **properties: Any) -> list[tuple[Any, ...]]:
    return told_of(Properties(**properties).encode(), body)


def told_of(header: bytes, body: bytes = b"") -> list[tuple[Any, ...]]:
    clerk = Recorder()
    Desk(clerk, None, "w1 of x").delivered(1, False, header, body)  # type: ignore[arg-type]  # whose link is not used for this
    return clerk.told


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"x-timeout-ms": 1500}, 1.5),
        ({"x-timeout-ms": "1500"}, 1.5),
        ({"x-timeout-ms": 10**12}, LONGEST_MEMORY),
        ({"x-timeout-ms": 0}, 0.0),
        ({"x-timeout-ms": -5}, 30.0),
        ({"x-timeout-ms": "soon"}, 30.0),
        ({}, 30.0),
        (None, 30.0),
    ],
)
def test_a_cancel_says_which_call_and_for_how_long(headers: dict[str, Any] | None, seconds: float) -> None:
    found = told(content_type=b"amqproxy.Cancel", correlation_id=b"1", reply_to=ADA, headers=headers)
    assert found == [("cancel", (ADA, b"1"), seconds)]


def test_a_cancel_that_names_no_call_is_dropped(caplog: pytest.LogCaptureFixture) -> None:
    assert told(content_type=b"amqproxy.Cancel", reply_to=ADA, app_id=b"shop") == []
    [record] = caplog.records
    says = "w1 of x: dropped amqproxy.Cancel (app-id shop): a Cancel without a correlation-id names no call"
    assert record.getMessage() == says


@pytest.mark.parametrize(
    ("kind", "headers"), [(b"amqproxy.Credit", None), (b"anything", {"x-seq": 0}), (None, {"x-end": True})]
)
def test_credit_and_parts_of_streams_are_for_calls_that_run(kind: bytes | None, headers: Any) -> None:
    found = told(b"5", content_type=kind, correlation_id=b"1", reply_to=ADA, headers=headers)
    assert found == [("feed", (ADA, b"1"), kind, headers or {}, b"5")]


def test_a_ping_is_answered_and_all_else_is_a_request_for_all() -> None:
    assert told(content_type=b"amqproxy.Ping", correlation_id=b"1", reply_to=ADA) == [("pong", b"1", ADA)]
    found = told(b"[1]", content_type=b"x.add", content_encoding=b"json", correlation_id=b"1", reply_to=ADA)
    assert found == [("asked", b"x.add", b"json", b"1", ADA, b"[1]")]


@settings(max_examples=200, deadline=None, derandomize=True, database=None)
@given(header=st.binary(max_size=60), body=st.binary(max_size=10), place=st.integers(0, 100), byte=st.integers(0, 255))
def test_garbage_harms_nobody(header: bytes, body: bytes, place: int, byte: int) -> None:
    spoiled = bytearray(
        Properties(content_type=b"amqproxy.Cancel", headers={"x-seq": 5}, correlation_id=b"1", reply_to=ADA).encode()
    )
    spoiled[place % len(spoiled)] = byte
    for each in (header, bytes(spoiled), bytes(spoiled)[: place % len(spoiled)]):
        assert len(told_of(each, body)) <= 1


def test_what_is_too_large_and_what_cannot_come_is_dropped(caplog: pytest.LogCaptureFixture) -> None:
    clerk = Recorder()
    link: Any = SimpleNamespace(limits=Limits(1000))
    desk = Desk(clerk, link, "w1 of x")  # type: ignore[arg-type]  # properties that do not decode name no caller
    desk.too_large(1, b"", 10**9)
    desk.returned(312, b"NO_ROUTE", b"", b"", b"")
    desk.confirmed(1, False, True)
    assert clerk.told == []
    says = "w1 of x: dropped a message whose properties do not decode: it has 1000000000 bytes, max_body_bytes is 1000"
    assert says in caplog.text
