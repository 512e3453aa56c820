"""Deadlines: what is left of a call's time."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from amqproxy.deadline import Deadline

examples = settings(max_examples=100, deadline=None, derandomize=True, database=None)
moments = st.floats(0, 1e9)


def test_a_deadline_is_a_moment_on_the_clock() -> None:
    assert Deadline.after(5, now=100) == Deadline(105)


def test_time_runs_down_to_nothing_and_not_below() -> None:
    deadline = Deadline.after(5, now=100)
    assert [deadline.left(now) for now in (100, 104, 105, 106, 1e9)] == [5, 1, 0, 0, 0]


def test_a_deadline_may_have_passed_when_it_is_made() -> None:
    assert Deadline.after(-1, now=100).left(100) == 0


@examples
@given(moments, moments)
def test_nothing_is_left_exactly_from_its_moment_on(at: float, now: float) -> None:
    assert (Deadline(at).left(now) == 0) == (now >= at)
    assert Deadline(at).left(now) >= 0


def test_equal_moments_are_equal() -> None:
    assert {Deadline(1.0), Deadline(1.0)} == {Deadline(1.0)}
