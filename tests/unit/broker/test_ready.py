"""Waiting messages: always in the order of a list sorted by priority and by age, whatever comes back."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from amqproxy.broker.message import Entry, Message
from amqproxy.broker.ready import ByPriority, Fifo, Ready

examples = settings(max_examples=60, deadline=None, derandomize=True, database=None)
stateful = settings(max_examples=25, stateful_step_count=25, deadline=None, derandomize=True, database=None)

HEADER = struct.pack(">HHQH", 60, 0, 0, 0)


def entry(sequence: int, priority: int = 0) -> Entry:
    message = Message(b"\0\0", HEADER, b"")
    message.priority = priority
    return Entry(message, sequence, None)


class ReadyMachine(RuleBasedStateMachine):
    """Messages are appended, taken and put back; `waiting` is a list that is sorted each time."""

    def __init__(self) -> None:
        super().__init__()
        self.ready: Ready = Fifo()
        self.highest = 0
        self.waiting: list[Entry] = []
        self.out: list[Entry] = []
        self.count = 0

    @initialize(highest=st.sampled_from([0, 1, 4, 255]))
    def start(self, highest: int) -> None:
        self.highest = highest
        self.ready = ByPriority(highest) if highest else Fifo()

    def urgency(self, one: Entry) -> tuple[int, int]:
        return -min(one.message.priority, self.highest), one.sequence

    @rule(priority=st.integers(0, 6))
    def append(self, priority: int) -> None:
        self.count += 1
        self.waiting.append(entry(self.count, priority))
        self.ready.append(self.waiting[-1])

    @precondition(lambda self: self.waiting)
    @rule()
    def pop(self) -> None:
        expected = min(self.waiting, key=self.urgency)
        assert self.ready.pop() is expected
        self.waiting.remove(expected)
        self.out.append(expected)

    @precondition(lambda self: self.out)
    @rule(data=st.data())
    def put_back(self, data: st.DataObject) -> None:
        one = data.draw(st.sampled_from(self.out))
        self.out.remove(one)
        self.waiting.append(one)
        self.ready.put_back(one)

    @invariant()
    def is_a_sorted_list(self) -> None:
        expected = sorted(self.waiting, key=self.urgency)
        assert len(self.ready) == len(expected)
        assert self.ready.head() is (expected[0] if expected else None)
        assert list(self.ready) == expected


def test_the_order_is_that_of_a_sorted_list() -> None:
    run_state_machine_as_test(ReadyMachine, settings=stateful)


@pytest.mark.parametrize("ready", [Fifo(), ByPriority(3)])
def test_nothing_waits_at_first_and_nothing_can_be_taken(ready: Ready) -> None:
    assert (len(ready), ready.head(), list(ready)) == (0, None, [])
    with pytest.raises((IndexError, StopIteration)):
        ready.pop()


def test_what_comes_back_goes_before_all_that_is_younger() -> None:
    ready = Fifo()
    entries = [entry(number) for number in range(1, 5)]
    for one in entries:
        ready.append(one)
    first, second = ready.pop(), ready.pop()
    ready.put_back(second)
    ready.put_back(first)
    assert [ready.pop().sequence for _ in range(4)] == [1, 2, 3, 4]


@examples
@given(st.lists(st.integers(0, 255), max_size=20), st.integers(1, 255))
def test_the_most_urgent_goes_first_and_no_priority_is_above_the_highest(priorities: list[int], highest: int) -> None:
    ready = ByPriority(highest)
    for number, priority in enumerate(priorities):
        ready.append(entry(number, priority))
    order = [ready.pop() for _ in priorities]
    assert [(-min(one.message.priority, highest), one.sequence) for one in order] == sorted(
        (-min(priority, highest), number) for number, priority in enumerate(priorities)
    )
    assert ready.head() is None
