"""Acknowledgements, against a model of what RabbitMQ keeps of a channel's unacknowledged deliveries."""

from __future__ import annotations

import random
import sys
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from amqproxy.acks import Acks

quick = settings(
    max_examples=60,
    stateful_step_count=40,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)


class Broker:
    """A channel's unacknowledged deliveries as RabbitMQ keeps them (rabbit_channel.erl, collect_acks)."""

    def __init__(self, prefetch: int) -> None:
        self.prefetch = prefetch
        self.sent = 0
        self.unacked: list[int] = []
        self.done: set[int] = set()
        """Those that the worker is done with and has not acknowledged yet."""
        self.acked: list[int] = []

    @property
    def may_send(self) -> bool:
        return len(self.unacked) < self.prefetch

    def deliver(self) -> int:
        self.sent += 1
        self.unacked.append(self.sent)
        return self.sent

    @property
    def running(self) -> list[int]:
        return [tag for tag in self.unacked if tag not in self.done]

    def nacked(self, tag: int) -> None:
        self.unacked.remove(tag)

    def ack(self, tag: int, multiple: bool) -> None:
        assert tag in self.unacked, f"unknown delivery tag {tag}: RabbitMQ closes the channel"
        covered = [each for each in self.unacked if each <= tag] if multiple else [tag]
        assert set(covered) <= self.done, f"{set(covered) - self.done} are not done"
        self.unacked = [each for each in self.unacked if each not in covered]
        self.done.difference_update(covered)
        self.acked += covered


class AcksMachine(RuleBasedStateMachine):
    """Deliveries come, handlers end in any order, some are given back, and turns end now and then."""

    @initialize(prefetch=st.integers(1, 12))
    def start(self, prefetch: int) -> None:
        self.acks = Acks()
        self.broker = Broker(prefetch)
        self.given_back: list[int] = []

    @precondition(lambda self: self.broker.may_send)
    @rule(count=st.integers(1, 6))
    def deliveries_come(self, count: int) -> None:
        for _ in range(count):
            if self.broker.may_send:
                self.acks.delivered(self.broker.deliver())

    @precondition(lambda self: self.broker.running)
    @rule(places=st.lists(st.integers(0, 11), min_size=1, max_size=6))
    def handlers_end(self, places: list[int]) -> None:
        for place in places:
            running = self.broker.running
            if running:
                tag = running[place % len(running)]
                self.broker.done.add(tag)
                self.acks.done(tag)

    @precondition(lambda self: self.broker.running)
    @rule(place=st.integers(0, 11))
    def one_is_given_back(self, place: int) -> None:
        running = self.broker.running
        tag = running[place % len(running)]
        self.broker.nacked(tag)  # a nack is written at once, ahead of the acknowledgements of its turn
        self.acks.gone(tag)
        self.given_back.append(tag)

    @rule()
    def the_turn_ends(self) -> None:
        for tag, multiple in self.acks.take():
            self.broker.ack(tag, multiple)
        assert not self.broker.done, "everything that is done has been acknowledged"
        assert self.acks.take() == []

    @invariant()
    def nothing_is_acknowledged_twice(self) -> None:
        if hasattr(self, "broker"):
            assert len(self.broker.acked) == len(set(self.broker.acked))
            assert not set(self.broker.acked) & set(self.given_back)

    @invariant()
    def those_that_are_out_are_counted(self) -> None:
        if hasattr(self, "broker"):
            assert len(self.acks) == len(self.broker.running)

    def teardown(self) -> None:
        if hasattr(self, "broker"):
            for tag in reversed(self.broker.running):
                self.broker.done.add(tag)
                self.acks.done(tag)
            self.the_turn_ends()
            assert sorted(self.broker.acked + self.given_back) == list(range(1, self.broker.sent + 1))


TestAgainstTheModel = AcksMachine.TestCase
TestAgainstTheModel.settings = quick


def delivered(count: int) -> Acks:
    """A machine that had so many deliveries."""
    acks = Acks()
    for tag in range(1, count + 1):
        acks.delivered(tag)
    return acks


def taken(acks: Acks, *done: int) -> list[tuple[int, bool]]:
    for tag in done:
        acks.done(tag)
    return acks.take()


def test_nothing_done_is_nothing_to_send() -> None:
    assert Acks().take() == []
    acks = delivered(2)
    assert acks.take() == []
    acks.gone(1)
    assert acks.take() == []


def test_one_delivery_is_acknowledged_alone() -> None:
    acks = delivered(2)
    assert taken(acks, 1) == [(1, False)]
    assert taken(acks, 2) == [(2, False)]


@pytest.mark.parametrize("running", [0, 1])
@pytest.mark.parametrize("done", [(1, 2, 3), (3, 2, 1), (2, 1, 3), (1, 3, 2)])
def test_a_run_without_a_gap_is_one_acknowledgement_in_whatever_order_it_ended(
    done: tuple[int, ...], running: int
) -> None:
    acks = delivered(5 + running)
    assert taken(acks, *done) == [(3, True)]
    assert taken(acks, 4, 5) == [(5, True)]


def test_what_is_ahead_of_a_gap_is_acknowledged_one_by_one() -> None:
    acks = delivered(7)
    assert taken(acks, 5, 3) == [(3, False), (5, False)]
    assert taken(acks, 1, 2, 4, 6) == [(6, True)]
    assert taken(acks, 7) == [(7, False)]


def test_a_run_and_what_is_ahead_of_the_next_gap_go_together() -> None:
    assert taken(delivered(4), 4, 2, 1) == [(2, True), (4, False)]


def test_the_tag_that_is_sent_for_many_is_not_one_that_was_settled_before() -> None:
    acks = delivered(3)
    assert taken(acks, 2, 3) == [(2, False), (3, False)]
    (ack,) = taken(acks, 1)
    assert ack[0] == 1, "3 is settled: RabbitMQ would close the channel for acknowledging it again"


def test_a_delivery_that_was_given_back_is_never_acknowledged_and_no_gap() -> None:
    acks = delivered(5)
    acks.gone(2)
    assert taken(acks, 1, 3) == [(3, True)]
    acks.gone(4)
    assert [tag for tag, _ in taken(acks, 5)] == [5]


def test_giving_back_the_last_delivery_of_a_run_does_not_make_it_the_tag() -> None:
    acks = delivered(3)
    acks.gone(3)
    assert taken(acks, 1, 2)[-1][0] == 2


@pytest.mark.parametrize("first", [2, 1000])
def test_tags_need_not_begin_with_one(first: int) -> None:
    acks = Acks()
    for tag in range(first, first + 4):
        acks.delivered(tag)
    assert taken(acks, first, first + 1, first + 3) == [(first + 1, True), (first + 3, False)]


@quick
@given(st.integers(1, 60), st.randoms(use_true_random=False))
def test_any_order_in_any_turns_acknowledges_everything_once(count: int, order: random.Random) -> None:
    acks, broker = Acks(), Broker(prefetch=count)
    for _ in range(count):
        acks.delivered(broker.deliver())
    tags = list(broker.unacked)
    order.shuffle(tags)
    for tag in tags:
        broker.done.add(tag)
        acks.done(tag)
        if order.random() < 0.4:
            for sent, multiple in acks.take():
                broker.ack(sent, multiple)
    for sent, multiple in acks.take():
        broker.ack(sent, multiple)
    assert sorted(broker.acked) == list(range(1, count + 1))


def size(machine: Any) -> int:
    return sum(sys.getsizeof(getattr(machine, name)) for name in type(machine).__slots__)


def test_one_handler_that_runs_for_hours_does_not_make_the_machine_grow() -> None:
    acks = delivered(1)
    for tag in range(2, 20_000):
        acks.delivered(tag)
        assert taken(acks, tag) == [(tag, False)]
    assert size(acks) < 10_000, "bytes: what is kept is bounded by what runs, not by what has run"
    acks.delivered(20_000)
    assert taken(acks, 1, 20_000)[-1] == (20_000, True)


def test_many_calls_leave_nothing_behind() -> None:
    acks = Acks()
    for tag in range(1, 20_000, 4):
        for each in range(tag, tag + 4):
            acks.delivered(each)
        taken(acks, tag + 2, tag)
        acks.gone(tag + 1)
        taken(acks, tag + 3)
    assert size(acks) < 2_000
