"""Pending calls, against a model with a clock of its own."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from amqproxy.calls import PRUNE_TICKS, TICKS_PER_SECOND, Calls

quick = settings(
    max_examples=60,
    stateful_step_count=40,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)

TICK = Fraction(1, TICKS_PER_SECOND)
durations = st.one_of(
    st.floats(0, 100, allow_nan=False),
    st.integers(0, 400).map(lambda ticks: ticks / TICKS_PER_SECOND),
    st.sampled_from([0.001, 0.1, 1.0, 30.0]),
)


def inside(calls: Calls[Any]) -> list[Any]:
    """What the machine holds for calls, besides its counters."""
    return [getattr(calls, name) for name in Calls.__slots__ if name not in ("late", "_prune_at")]


class CallsMachine(RuleBasedStateMachine):
    """Calls go out and end in every way there is, while a clock runs."""

    @initialize(now=st.floats(0, 1e7))
    def start(self, now: float) -> None:
        self.calls: Calls[str] = Calls()
        self.now = now
        self.number = 0
        self.pending: dict[bytes, tuple[str, Fraction]] = {}
        self.ended: list[str] = []
        self.late = 0

    def end(self, id: bytes) -> str:
        waiter, _ = self.pending.pop(id)
        self.ended.append(waiter)
        return waiter

    def one_of(self, place: int) -> bytes:
        return list(self.pending)[place % len(self.pending)]

    @rule(durations=st.lists(durations, min_size=1, max_size=4))
    def calls_are_sent(self, durations: list[float]) -> None:
        for duration in durations:
            self.number += 1
            id, waiter = b"%d" % self.number, f"waiter {self.number}"
            deadline = self.now + duration
            self.calls.sent(id, waiter, deadline)
            self.pending[id] = waiter, Fraction(deadline)

    @precondition(lambda self: self.pending)
    @rule(place=st.integers(0, 1000))
    def an_answer_comes(self, place: int) -> None:
        id = self.one_of(place)
        assert self.calls.replied(id) == self.end(id)

    @rule(number=st.integers(0, 100))
    def an_answer_comes_that_nobody_waits_for(self, number: int) -> None:
        id = b"%d" % number
        if id not in self.pending:
            assert self.calls.replied(id) is None
            self.late += 1

    @precondition(lambda self: self.pending)
    @rule(place=st.integers(0, 1000))
    def a_caller_goes_away(self, place: int) -> None:
        id = self.one_of(place)
        self.calls.cancelled(id)
        self.end(id)

    @rule(number=st.integers(0, 100))
    def a_caller_goes_away_after_the_end(self, number: int) -> None:
        id = b"%d" % number
        if id not in self.pending:
            self.calls.cancelled(id)

    @rule(step=durations)
    def time_passes(self, step: float) -> None:
        self.now += step

    @rule()
    def the_timer_fires(self) -> None:
        expired = self.calls.expire(self.now)
        ids = {waiter: id for id, (waiter, _) in self.pending.items()}
        for waiter in expired:
            assert self.pending[ids[waiter]][1] <= Fraction(self.now), "never before its deadline"
            self.end(ids[waiter])
        for _, deadline in self.pending.values():
            assert Fraction(self.now) < deadline + TICK, "at most one tick late"

    @rule()
    def the_timer_is_set(self) -> None:
        at = self.calls.next_expiry()
        assert (at is None) == (not self.pending)
        if at is None:
            assert not any(inside(self.calls)), "nothing stays behind for calls that have ended"
        else:
            first = min(deadline for _, deadline in self.pending.values())
            assert first <= Fraction(at) <= first + TICK
            assert self.calls.next_expiry() == at

    @precondition(lambda self: self.pending)
    @rule()
    def the_timer_fires_when_it_was_set_for(self) -> None:
        at = self.calls.next_expiry()
        assert at is not None
        self.now = max(self.now, at)
        before = len(self.pending)
        self.the_timer_fires()
        assert len(self.pending) < before, "or the timer would fire in vain for ever"

    @rule()
    def the_link_is_lost(self) -> None:
        assert self.calls.lost() == [waiter for waiter, _ in self.pending.values()]
        self.ended += [waiter for waiter, _ in self.pending.values()]
        self.pending.clear()
        assert not any(inside(self.calls))
        assert self.calls.next_expiry() is None

    @invariant()
    def the_machine_agrees_with_the_model(self) -> None:
        if hasattr(self, "calls"):
            assert len(self.calls) == len(self.pending)
            assert self.calls.late == self.late
            assert len(self.ended) == len(set(self.ended)), "a call ends once"

    def teardown(self) -> None:
        if hasattr(self, "calls"):
            self.now += 1e6
            self.the_timer_fires()
            self.the_timer_is_set()
            assert len(self.ended) == self.number
            assert not any(inside(self.calls))


TestAgainstTheModel = CallsMachine.TestCase
TestAgainstTheModel.settings = quick


def test_a_reply_finds_its_waiter_once() -> None:
    calls: Calls[str] = Calls()
    calls.sent(b"1", "ada", 10)
    assert len(calls) == 1
    assert calls.replied(b"1") == "ada"
    assert calls.replied(b"1") is None
    assert (len(calls), calls.late) == (0, 1)


def test_replies_may_come_in_any_order() -> None:
    calls: Calls[int] = Calls()
    for number in range(5):
        calls.sent(b"%d" % number, number, 10)
    assert [calls.replied(b"%d" % number) for number in (3, 0, 4, 1, 2)] == [3, 0, 4, 1, 2]
    assert calls.late == 0


def test_a_reply_after_the_caller_went_away_is_late_and_harmless() -> None:
    calls: Calls[str] = Calls()
    calls.sent(b"1", "ada", 10)
    calls.cancelled(b"1")
    calls.cancelled(b"1")
    assert calls.replied(b"1") is None
    assert calls.late == 1
    assert calls.expire(100) == []


def test_a_reply_after_the_deadline_is_late_and_harmless() -> None:
    calls: Calls[str] = Calls()
    calls.sent(b"1", "ada", 10)
    assert calls.expire(11) == ["ada"]
    assert calls.replied(b"1") is None
    assert calls.late == 1


def test_a_call_expires_at_its_deadline_and_not_before() -> None:
    calls: Calls[str] = Calls()
    calls.sent(b"1", "ada", 10)
    assert calls.expire(0) == []
    assert calls.expire(9.999999) == []
    assert calls.expire(10 + 1 / TICKS_PER_SECOND) == ["ada"]
    assert calls.expire(20) == []


def test_a_deadline_that_has_passed_already_expires_at_once() -> None:
    calls: Calls[str] = Calls()
    calls.sent(b"1", "ada", 10)
    assert calls.expire(1000) == ["ada"]


def test_calls_expire_in_the_order_of_their_deadlines() -> None:
    calls: Calls[float] = Calls()
    for deadline in (3.0, 1.0, 2.0):
        calls.sent(b"%f" % deadline, deadline, deadline)
    assert calls.expire(2.5) == [1.0, 2.0]
    assert calls.next_expiry() == pytest.approx(3.0, abs=1 / TICKS_PER_SECOND)


@quick
@given(st.floats(0, 1e6))
def test_a_call_expires_within_one_tick_of_its_deadline(deadline: float) -> None:
    calls: Calls[str] = Calls()
    calls.sent(b"1", "ada", deadline)
    at = calls.next_expiry()
    assert at is not None
    assert Fraction(deadline) <= Fraction(at) <= Fraction(deadline) + TICK
    assert calls.expire(at) == ["ada"]


def test_losing_the_link_ends_all_calls_and_the_machine_goes_on() -> None:
    calls: Calls[str] = Calls()
    calls.sent(b"1", "ada", 10)
    calls.sent(b"2", "bob", 20)
    assert calls.lost() == ["ada", "bob"]
    assert calls.lost() == []
    calls.sent(b"3", "eve", 10)
    assert calls.replied(b"3") == "eve"


def test_an_idle_machine_has_nothing_to_wait_for() -> None:
    calls: Calls[str] = Calls()
    assert calls.next_expiry() is None
    assert calls.expire(1e9) == []
    assert not any(inside(calls))


@pytest.mark.parametrize("end", ["replied", "cancelled"])
def test_ten_thousand_calls_leave_nothing_behind(end: str) -> None:
    calls: Calls[int] = Calls()
    for number in range(10_000):
        calls.sent(b"%d" % number, number, 30 + number / 1000)
    for number in range(10_000):
        getattr(calls, end)(b"%d" % number)
    assert len(calls) == 0
    assert calls.next_expiry() is None
    assert not any(inside(calls))


def test_a_busy_link_keeps_no_more_than_one_timeouts_worth_of_ticks() -> None:
    calls: Calls[int] = Calls()
    timeout = 2.0
    for number in range(20_000):  # a thousand calls a second, all of them answered
        now = number / 1000
        calls.sent(b"%d" % number, number, now + timeout)
        calls.replied(b"%d" % number)
        if number % 500 == 0:
            calls.expire(now)
            calls.next_expiry()
    bound = (timeout + 1) * TICKS_PER_SECOND
    assert all(len(held) <= bound for held in inside(calls))


def test_timeouts_of_a_day_keep_no_ticks_of_calls_that_ended() -> None:
    calls: Calls[int] = Calls()
    calls.sent(b"first", -1, 86_400)
    for number in range(100_000):  # fifty calls a second, all of them answered; no timer fires all the while
        calls.sent(b"%d" % number, number, number / 50 + 86_400)
        calls.replied(b"%d" % number)
    assert all(len(held) <= PRUNE_TICKS + 1 for held in inside(calls))
    assert calls.expire(86_401) == [-1]
