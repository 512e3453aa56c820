from __future__ import annotations

import json
import tracemalloc
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from amqproxy.errors import RemoteError
from amqproxy.properties import Properties
from amqproxy.shown import LONGEST, MAX_FAILURE, shown, shown_failure, shown_json, shown_lines, shown_message


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("", ""),
        ("größe 5 €", "größe 5 €"),
        ("a\n[ERROR] b", r"a\n[ERROR] b"),
        ("\x1b[2J\x9b\x7f\u2028\0", r"\x1b[2J\x9b\x7f\u2028\x00"),
        (b"a\xff\r", r"a\xff\r"),
        ("\ud800", r"\ud800"),
        (b"plain", "plain"),
    ],
)
def test_what_is_not_printable_is_escaped(text: Any, seen: str) -> None:
    assert shown(text) == seen


@given(st.text() | st.binary())
def test_it_is_one_line_and_text_whatever_it_is(text: str | bytes) -> None:
    assert shown(text).isprintable()
    assert len(shown(text).splitlines()) <= 1


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("", ""),
        ("importing it failed:\nTraceback\n\tx = 1", "importing it failed:\n  Traceback\n          x = 1"),
        ("no\nerror: \x1b[2J\u202e\r\x9b", "no\n  error: \\x1b[2J\\u202e\\r\\x9b"),
    ],
)
def test_lines_stay_lines_and_none_of_them_looks_like_one_of_ours(text: str, seen: str) -> None:
    assert shown_lines(text) == seen


@given(st.text())
def test_lines_have_nothing_but_what_is_printable(text: str) -> None:
    first, *others = shown_lines(text).split("\n")
    assert first.isprintable()
    assert all(each.isprintable() and each.startswith("  ") for each in others)


@given(st.recursive(st.text() | st.integers(), lambda some: st.lists(some) | st.dictionaries(st.text(), some)))
def test_json_means_the_same_and_moves_no_cursor(value: Any) -> None:
    for indent in (None, 2):
        text = shown_json(json.dumps(value, ensure_ascii=False, indent=indent))
        assert json.loads(text) == value
        assert text.replace("\n", "").isprintable()


def test_json_can_be_read_as_far_as_that_is_harmless() -> None:
    assert shown_json('["größe 5 €", "\x7f\x9b\u202e\U000e0041"]') == r'["größe 5 €", "\u007f\u009b\u202e\udb40\udc41"]'


@pytest.mark.parametrize(
    ("properties", "seen"),
    [
        ({}, "a message without a content-type"),
        ({"content_type": b"calc.add", "reply_to": b"q"}, "calc.add"),
        ({"content_type": b"calc.add", "message_id": b"17"}, "calc.add (message-id 17)"),
        ({"message_id": b"", "correlation_id": b"1\n"}, r"a message without a content-type (correlation-id 1\n)"),
        ({"content_type": b"a\xff", "app_id": b"shop", "user_id": b"ann"}, r"a\xff (user-id ann, app-id shop)"),
        ({"content_type": b"t" * 255, "message_id": b"i" * 255}, f"{'t' * LONGEST} (message-id {'i' * LONGEST})"),
    ],
)
def test_a_message_is_named_by_what_it_can_be_found_by(properties: dict[str, bytes], seen: str) -> None:
    assert shown_message(Properties(**properties).encode()) == seen  # type: ignore[arg-type]  # texts alone


@given(st.binary(max_size=60))
def test_a_message_is_named_on_one_line_whatever_it_is(header: bytes) -> None:
    assert shown_message(header).isprintable()


def test_a_message_that_does_not_decode_is_called_so() -> None:
    assert shown_message(b"\x80") == "a message whose properties do not decode"


def test_a_failure_says_what_and_whether_it_ran_but_not_where() -> None:
    failure = RemoteError("no\nsuch", type="KeyError", traceback="Traceback (most …")
    assert shown_failure(failure) == r"KeyError: no\nsuch (executed: yes)"
    assert shown_failure(RemoteError("", type="Lost", executed="maybe")) == "Lost (executed: maybe)"


@pytest.mark.parametrize(
    ("failure", "seen"),
    [
        (RemoteError("x" * 997, type="E"), "E: " + "x" * 997),
        (RemoteError("x" * 998, type="E"), "E: " + "x" * 996 + "…"),
        (RemoteError("x" * 100_000, type="E"), "E: " + "x" * 996 + "…"),
        (RemoteError("", type="E" * 1001), "E" * 999 + "…"),
        (RemoteError("x", type="E" * 10_000), "E" * 999 + "…"),
        (RemoteError("\u0085" * 999, type="E"), ("E: " + r"\x85" * 999)[:999] + "…"),
    ],
    ids=["1000", "1001", "many", "type", "type and text", "escapes"],
)
def test_a_failure_is_short_enough_for_a_log_and_says_if_it_was_cut(failure: RemoteError, seen: str) -> None:
    assert len(seen) <= MAX_FAILURE
    assert shown_failure(failure) == f"{seen} (executed: yes)"


def test_a_failure_that_quotes_many_letters_costs_no_time_for_each_of_them() -> None:
    failure = RemoteError("\u0085" * 1_000_000, type="E")
    tracemalloc.start()
    try:
        shown_failure(failure)
        assert tracemalloc.get_traced_memory()[1] < 100_000
    finally:
        tracemalloc.stop()
