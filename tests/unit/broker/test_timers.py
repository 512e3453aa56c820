"""Timers: what is due runs, in order, once; what was cancelled does not, and leaves nothing behind."""

from __future__ import annotations

import gc
from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from amqproxy.broker.timers import Timer, Timers

examples = settings(max_examples=60, deadline=None, derandomize=True, database=None)


def nothing() -> None:
    pass


@examples
@given(st.lists(st.integers(0, 20), max_size=20), st.sets(st.integers(0, 19)), st.lists(st.integers(0, 21), max_size=5))
def test_timers_run_once_in_the_order_of_their_times(times: list[int], cancelled: set[int], looks: list[int]) -> None:
    timers, ran = Timers(), list[tuple[int, int]]()
    made = [timers.at(when, partial(ran.append, (when, at))) for at, when in enumerate(times)]
    for at in cancelled & set(range(len(made))):
        made[at].cancel()
    expected = sorted((when, at) for at, when in enumerate(times) if at not in cancelled)
    for now in (*sorted(looks), 21):
        due = timers.run(now)
        assert ran == [one for one in expected if one[0] <= now]
        assert due == timers.next_due == min((when for when, _ in expected if when > now), default=None)


def test_a_timer_that_is_cancelled_by_another_that_is_due_at_the_same_time_does_not_run() -> None:
    timers, ran = Timers(), list[str]()
    timers.at(1, lambda: second.cancel())
    second = timers.at(1, lambda: ran.append("second"))
    assert timers.run(1) is None
    assert ran == []


def test_there_is_nothing_to_do_at_first() -> None:
    assert (Timers().next_due, Timers().run(1e9)) == (None, None)


def test_who_waits_is_woken_for_a_timer_that_comes_before_all_others_only() -> None:
    timers, woken = Timers(), list[float]()
    timers.wake = woken.append
    timers.at(5, nothing)
    timers.at(5, nothing)
    timers.at(9, nothing)
    first = timers.at(3, nothing)
    first.cancel()
    timers.at(4, nothing)
    assert woken == [5, 3, 4]


def test_a_timer_that_a_timer_sets_runs_too_if_it_is_due() -> None:
    timers, ran = Timers(), list[str]()

    def first() -> None:
        ran.append("first")
        timers.at(1, lambda: ran.append("second"))
        timers.at(3, lambda: ran.append("third"))

    timers.at(1, first)
    assert timers.run(2) == 3
    assert ran == ["first", "second"]


def test_a_timer_may_cancel_others_and_itself() -> None:
    timers, ran = Timers(), list[str]()
    other = timers.at(2, lambda: ran.append("other"))

    def first() -> None:
        other.cancel()
        mine.cancel()
        ran.append("first")

    mine = timers.at(1, first)
    assert timers.run(5) is None
    mine.cancel()
    assert ran == ["first"]


def test_timers_that_were_cancelled_do_not_pile_up_until_they_are_due() -> None:
    timers = Timers()
    kept = [timers.at(1000 + number, nothing) for number in range(10)]
    for _ in range(5000):
        timers.at(1e9, nothing).cancel()
    gc.collect()
    assert sum(isinstance(one, Timer) for one in gc.get_objects()) < 200
    for timer in kept[:5]:
        timer.cancel()
    assert timers.next_due == 1005


def test_a_timer_that_fails_does_not_take_the_others_with_it(caplog: pytest.LogCaptureFixture) -> None:
    timers, ran = Timers(), list[str]()
    timers.at(1, lambda: [][0])
    timers.at(2, lambda: ran.append("second"))
    try:
        timers.run(3)
    except IndexError:
        timers.run(3)
    assert ran == ["second"]
