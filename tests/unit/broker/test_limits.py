"""Limits: what memory is held, and the alarm that rises above the limit and ends well below it."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from amqproxy.broker.errors import ProtocolError
from amqproxy.broker.limits import FRAME_MIN, INITIAL_FRAME_MAX, Counter, Limits, Memory

examples = settings(max_examples=100, deadline=None, derandomize=True, database=None)


def test_the_limits_are_rabbitmqs_by_default() -> None:
    limits = Limits()
    assert (limits.frame_max, limits.channel_max, limits.heartbeat) == (131072, 2047, 60)
    assert limits.handshake_seconds == 10
    assert limits.max_message_bytes == 128 * 1024 * 1024
    assert (FRAME_MIN, INITIAL_FRAME_MAX) == (4096, 8192)


def test_the_alarm_is_raised_above_the_limit_and_ends_below_nine_tenths_of_it() -> None:
    said: list[bool] = []
    memory = Memory(100, said.append)
    memory.take(100)
    assert (memory.alarm, said) == (False, [])
    memory.take(1)
    memory.take(50)
    assert (memory.alarm, said) == (True, [True])
    memory.free(61)
    assert (memory.alarm, said, memory.used) == (True, [True], 90)
    memory.free(1)
    assert (memory.alarm, said) == (False, [True, False])
    memory.take(12)
    assert said == [True, False, True]


@examples
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 60)), max_size=40))
def test_the_alarm_says_on_and_off_in_turns(steps: list[tuple[bool, int]]) -> None:
    said: list[bool] = []
    memory = Memory(100, said.append)
    used = 0
    for take, size in steps:
        if take:
            memory.take(size)
            used += size
        elif size <= used:
            memory.free(size)
            used -= size
        assert memory.used == used
        assert memory.alarm is bool(said and said[-1])
        assert used <= 100 or memory.alarm
        assert used >= 90 or not memory.alarm
    assert said == [at % 2 == 0 for at in range(len(said))]


def test_what_is_not_complete_has_a_limit_of_its_own_and_raises_no_alarm() -> None:
    said: list[bool] = []
    memory = Memory(100, said.append, unfinished_limit=200)
    memory.begin(200)
    assert (memory.unfinished, memory.used, said) == (200, 0, [])
    with pytest.raises(ProtocolError, match="unfinished messages of more than 200 bytes") as caught:
        memory.begin(1)
    assert caught.value.code == 506
    assert Memory(100, said.append).unfinished_limit == 100


def test_a_memory_of_nothing_raises_the_alarm_at_the_first_byte() -> None:
    said: list[bool] = []
    memory = Memory(0, said.append)
    memory.take(1)
    memory.free(1)
    assert said == [True]


def test_what_has_a_limit_is_counted_and_refused_beyond_it() -> None:
    counter = Counter(Limits(max_queues=1, max_bindings=3))
    counter.add("queues", 1)
    with pytest.raises(ProtocolError, match="cannot do it: the broker has reached its limit of 1 queues"):
        counter.check("queues", 1, "do it")
    counter.remove("queues", 1)
    counter.check("queues", 1, "do it")
    counter.check("bindings", 3, "do it")
    counter.add("bindings", 2)
    with pytest.raises(ProtocolError, match="limit of 3 bindings"):
        counter.check("bindings", 2, "do it")
    assert counter.counts == {"queues": 0, "consumers": 0, "exchanges": 0, "bindings": 2}
