"""Signs of life: how often, and what they tell."""

from __future__ import annotations

import json
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from amqproxy.alive import (
    MAX_HEARTBEAT,
    MAX_NOTE,
    NOTHING,
    Progress,
    decode_progress,
    encode_progress,
    heartbeat_of,
    progress_of,
)

examples = settings(
    max_examples=200, deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.too_slow]
)
amounts = (
    st.none() | st.integers(-(2**63) + 1, 2**63 - 1) | st.floats(-(2.0**62), 2.0**62, allow_nan=False)
)  # JSON says no more of a float than Python reads back
notes = st.none() | st.text(max_size=60)


class Index:
    """As numpy's integers are."""

    def __index__(self) -> int:
        return 7


class Float:
    """As a number of a library's is that has both methods, of which only one gives an answer."""

    def __index__(self) -> int:
        raise TypeError("only integers can be converted to an index")

    def __float__(self) -> float:
        return 0.5


class Huge:
    def __float__(self) -> float:
        raise OverflowError("too large")


@pytest.mark.parametrize(
    ("asked", "seconds"),
    [
        (1000, 1.0),
        (50, 0.05),
        ("250", 0.25),
        (1, 0.05),
        (49, 0.05),
        (2**62, MAX_HEARTBEAT),
        (0, None),
        ("0", None),
        (-1, None),
        ("-1000", None),
        ("often", None),
        ("", None),
        (True, None),
        (1000.0, None),
        (None, None),
        ([1000], None),
    ],
)
def test_what_is_asked_for_is_kept_within_limits_and_nonsense_is_no_wish(asked: object, seconds: float | None) -> None:
    assert heartbeat_of({"x-heartbeat-ms": asked}) == seconds


def test_who_asks_for_nothing_gets_nothing() -> None:
    assert heartbeat_of({}) is None


@examples
@given(done=amounts, total=amounts, note=notes)
def test_a_progress_arrives_as_it_was_told(done: Any, total: Any, note: str | None) -> None:
    told = progress_of(done, total, note)
    assert told == Progress(done, total, None if note is None else note.encode(errors="backslashreplace").decode())
    assert decode_progress(encode_progress(told)) == told


def test_only_what_is_told_travels() -> None:
    assert encode_progress(NOTHING) == b"{}"
    assert json.loads(encode_progress(progress_of(3))) == {"done": 3}
    assert json.loads(encode_progress(progress_of(3, 10, "tidying"))) == {"done": 3, "total": 10, "note": "tidying"}


@pytest.mark.parametrize(
    ("value", "number"),
    [(Index(), 7), (Float(), 0.5), (Decimal("2.5"), 2.5), (Fraction(1, 4), 0.25), (0, 0), (-1.5, -1.5)],
)
def test_a_number_of_any_library_becomes_one_of_pythons(value: Any, number: float) -> None:
    told = progress_of(value, value)
    assert told == Progress(number, number)
    assert type(told.done) is type(number)


@pytest.mark.parametrize("value", ["3", b"3", bytearray(b"3"), True, [3], {}, object(), 1j])
def test_what_is_no_number_is_named(value: Any) -> None:
    with pytest.raises(TypeError, match=r"^done of a progress is a number or None, not "):
        progress_of(value)
    with pytest.raises(TypeError, match=r"^total of a progress is a number or None, not "):
        progress_of(1, value)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), 2**63, -(2**63), 1e300, Huge()])
def test_a_number_that_not_every_reader_of_json_has_is_refused(value: Any) -> None:
    with pytest.raises(ValueError, match=r"^done of a progress is finite and has 64 bits at most, not "):
        progress_of(value)


def test_a_note_is_text_and_not_endless() -> None:
    with pytest.raises(TypeError, match=r"^the note of a progress is a str, not 7$"):
        progress_of(1, 2, 7)
    assert progress_of(1, 2, "x" * 5000).note == "x" * MAX_NOTE
    assert progress_of(1, 2, "a\udc80b").note == "a\\udc80b"


def test_a_sign_of_life_without_a_body_tells_nothing() -> None:
    assert decode_progress(b"") == decode_progress(b"{}") == NOTHING


def test_what_others_add_is_passed_over() -> None:
    assert decode_progress(b'{"done": 1, "eta": 3}') == Progress(1)


@pytest.mark.parametrize("body", [b"[]", b"3", b"{", b'{"done": "3"}', b'{"note": 3}', b"\xff", b"[" * 100_000])
def test_a_body_that_makes_no_sense_is_a_value_error(body: bytes) -> None:
    with pytest.raises(ValueError, match=r"^a progress that does not decode: "):
        decode_progress(body)
