"""Confirmations, against a model of RabbitMQ (rabbit_channel.erl, coalesce_and_send) and a broker without manners."""

from __future__ import annotations

import sys

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from amqproxy.calls import Calls
from amqproxy.confirms import Confirms

quick = settings(
    max_examples=60,
    stateful_step_count=40,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)


def id_of(number: int) -> bytes:
    return b"id%010x" % number


class Counted:
    """Makes ids, and counts them."""

    def __init__(self) -> None:
        self.made = 0

    def __call__(self, number: int) -> bytes:
        self.made += 1
        return id_of(number)


def published(count: int, id: Counted | None = None) -> Confirms[int]:
    """A machine whose messages 1 to `count` are out; each waiter is the number of its message."""
    confirms: Confirms[int] = Confirms(id or id_of)
    for number in range(1, count + 1):
        confirms.sent(id_of(number), number, 10.0)
    return confirms


def inside(confirms: Confirms[int]) -> list[object]:
    """What the machine holds for messages."""
    return [getattr(confirms, name) for name in Calls.__slots__ if name not in ("late", "_prune_at")]


class ConfirmsMachine(RuleBasedStateMachine):
    """Messages go out, queues take them in any order, confirmations come one by one and together, waiters go away."""

    @initialize()
    def start(self) -> None:
        self.confirms: Confirms[int] = Confirms(id_of)
        self.sent = 0
        self.unconfirmed: list[int] = []
        """As the broker sees it."""
        self.waiting: list[int] = []
        """As the publisher sees it: some were cancelled or returned."""
        self.told: list[int] = []

    @rule(count=st.integers(1, 8))
    def messages_go_out(self, count: int) -> None:
        for _ in range(count):
            self.sent += 1
            self.confirms.sent(id_of(self.sent), self.sent, float(self.sent))
            self.unconfirmed.append(self.sent)
            self.waiting.append(self.sent)

    def confirm(self, number: int, multiple: bool, settled: list[int]) -> None:
        expected = [each for each in sorted(settled) if each in self.waiting]
        assert self.confirms.confirmed(number, multiple, self.sent) == expected
        self.waiting = [each for each in self.waiting if each not in expected]
        self.told += expected

    @precondition(lambda self: self.unconfirmed)
    @rule(places=st.lists(st.integers(0, 30), min_size=1, max_size=8))
    def queues_take_some_of_them(self, places: list[int]) -> None:
        """RabbitMQ: together what lies below the oldest that is not confirmed, one by one what lies beyond it."""
        taken = sorted({self.unconfirmed[place % len(self.unconfirmed)] for place in places})
        self.unconfirmed = [each for each in self.unconfirmed if each not in taken]
        cutoff = min(self.unconfirmed, default=self.sent + 1)
        if together := [each for each in taken if each < cutoff]:
            self.confirm(together[-1], True, together)
        for each in taken:
            if each > cutoff:
                self.confirm(each, False, [each])

    @rule(number=st.integers(0, 60), multiple=st.booleans())
    def a_broker_confirms_as_it_likes(self, number: int, multiple: bool) -> None:
        """Twice, in advance, or all there are: whatever the tag is."""
        settled = [number]
        if multiple:
            settled = [each for each in range(1, self.sent + 1) if each <= number or number == 0]
        self.unconfirmed = [each for each in self.unconfirmed if each not in settled]
        self.confirm(number, multiple, settled)

    @precondition(lambda self: self.waiting)
    @rule(place=st.integers(0, 30))
    def a_waiter_goes_away(self, place: int) -> None:
        number = self.waiting.pop(place % len(self.waiting))
        self.confirms.cancelled(id_of(number))

    @precondition(lambda self: self.waiting)
    @rule(place=st.integers(0, 30))
    def a_message_comes_back(self, place: int) -> None:
        number = self.waiting.pop(place % len(self.waiting))
        assert self.confirms.replied(id_of(number)) == number

    @rule(now=st.floats(0, 60))
    def time_is_over_for_some(self, now: float) -> None:
        for number in self.confirms.expire(now):
            assert number <= now
            self.waiting.remove(number)

    @invariant()
    def nobody_is_told_twice_and_nothing_is_kept_for_those_who_do_not_wait(self) -> None:
        if hasattr(self, "confirms"):
            assert len(self.told) == len(set(self.told))
            assert len(self.confirms) == len(self.waiting)

    def teardown(self) -> None:
        if hasattr(self, "confirms"):
            assert self.confirms.lost() == self.waiting
            assert not any(inside(self.confirms))


TestAgainstTheModel = ConfirmsMachine.TestCase
TestAgainstTheModel.settings = quick


def test_waiters_come_in_the_order_of_their_messages() -> None:
    confirms = published(5)
    assert confirms.confirmed(4, False, 5) == [4]
    assert confirms.confirmed(3, True, 5) == [1, 2, 3]
    assert confirms.confirmed(5, True, 5) == [5]
    assert confirms.next_expiry() is None
    assert not any(inside(confirms))


def test_nought_with_multiple_is_all_there_are() -> None:
    assert published(3).confirmed(0, True, 3) == [1, 2, 3]
    assert published(3).confirmed(0, False, 3) == []


@pytest.mark.parametrize("number", [7, 2**63, 2**64 - 1])
def test_a_number_that_was_never_sent_is_no_endless_loop(number: int) -> None:
    confirms = published(3)
    assert confirms.confirmed(number, False, 3) == []
    assert confirms.confirmed(number, True, 3) == [1, 2, 3]
    confirms.sent(id_of(4), 4, 10.0)
    assert confirms.confirmed(4, False, 4) == [4], "what is sent later is not settled in advance"


def test_what_nobody_waits_for_leaves_nothing_behind_while_the_broker_is_silent() -> None:
    confirms = published(2_000)
    for number in range(1, 2_001):
        confirms.cancelled(id_of(number))
    assert confirms.next_expiry() is None
    assert not any(inside(confirms))
    assert confirms.confirmed(2_000, True, 2_000) == []
    assert confirms.late == 0


@quick
@given(st.lists(st.integers(1, 50), min_size=1, max_size=100))
def test_each_number_is_looked_at_once_however_it_is_confirmed(sizes: list[int]) -> None:
    counted = Counted()
    confirms = published(sum(sizes), counted)
    number = 0
    for size in sizes:
        number += size
        assert confirms.confirmed(number, True, sum(sizes)) == list(range(number - size + 1, number + 1))
    assert counted.made == sum(sizes)


def test_one_slow_message_does_not_make_the_next_confirmation_slow() -> None:
    counted = Counted()
    confirms = published(1, counted)
    for number in range(2, 20_001):
        confirms.sent(id_of(number), number, 10.0)
        assert confirms.confirmed(number, False, number) == [number]
    counted.made = 0
    confirms.sent(id_of(20_001), 20_001, 10.0)
    assert confirms.confirmed(20_001, True, 20_001) == [1, 20_001]
    assert counted.made == 1, "not one for each that was settled long ago"
    size = sum(sys.getsizeof(each) for each in inside(confirms))
    assert size < 2_000, "bytes: what is kept is bounded by what waits, not by what has waited"
