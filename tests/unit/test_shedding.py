"""When a worker refuses calls since too many wait before it."""

from __future__ import annotations

import pytest

from amqproxy.shedding import FIRST_SECONDS, WINDOW_SECONDS, Shedding


def busy(shedding: Shedding, seconds: int, *, waiting: int, rate: float, consumers: int = 1, running: int = 1) -> None:
    for second in range(seconds + 1):
        shedding.looked(100.0 + second, waiting, consumers, int(rate * second), running)


def refused(shedding: Shedding) -> int:
    count = 0
    while shedding.refuses() is not None:
        count += 1
    return count


def test_nothing_is_refused_before_anything_is_known() -> None:
    shedding = Shedding(1.0)
    assert shedding.refuses() is None
    shedding.looked(0.0, 10_000, 1, 0, 1)
    shedding.looked(FIRST_SECONDS / 2, 10_000, 1, 0, 1)
    assert shedding.refuses() is None


def test_what_is_beyond_the_time_is_refused_and_no_more() -> None:
    shedding = Shedding(2.0)
    busy(shedding, 5, waiting=100, rate=10)  # it takes 10 s for them, and may take 2
    assert shedding.wait == pytest.approx(10.0)
    assert shedding.excess == 80
    assert shedding.refuses() == 8.0
    assert refused(shedding) == 79
    assert shedding.refuses() is None


def test_each_worker_of_a_pool_refuses_its_share() -> None:
    shedding = Shedding(2.0)
    busy(shedding, 5, waiting=100, rate=10, consumers=4)  # 2.5 s
    assert refused(shedding) == 5


def test_who_can_do_it_in_time_refuses_nothing() -> None:
    shedding = Shedding(2.0)
    busy(shedding, 5, waiting=19, rate=10)
    assert refused(shedding) == 0
    assert shedding.wait == pytest.approx(1.9)


def test_an_empty_queue_ends_it() -> None:
    shedding = Shedding(2.0)
    busy(shedding, 5, waiting=100, rate=10)
    shedding.looked(110.0, 0, 1, 100, 1)
    assert (shedding.wait, shedding.excess) == (0.0, 0)
    shedding.looked(111.0, 100, 1, 100, 1)  # a new beginning: nothing is known yet
    assert shedding.excess == 0


def test_calls_that_take_longer_than_it_has_looked_are_not_taken_for_none() -> None:
    shedding = Shedding(30.0)
    shedding.looked(0.0, 50, 1, 0, 10)
    shedding.looked(1.0, 50, 1, 0, 10)
    assert (shedding.wait, shedding.excess) == (5.0, 0)
    shedding.looked(10.0, 50, 1, 0, 10)  # ten that have run for ten seconds: one a second, at best
    assert (shedding.wait, shedding.excess) == (50.0, 20)


def test_what_was_long_ago_does_not_count() -> None:
    shedding = Shedding(1.0)
    for second in range(60):
        shedding.looked(float(second), 100, 1, 100 * min(second, 20), 1)
    assert shedding.wait == pytest.approx(100 / (1 / WINDOW_SECONDS))


def test_without_a_consumer_in_the_count_it_counts_itself() -> None:
    shedding = Shedding(1.0)
    busy(shedding, 4, waiting=100, rate=10, consumers=0)
    assert shedding.wait == pytest.approx(10.0)


def test_the_time_to_wait_is_never_none_at_all() -> None:
    shedding = Shedding(1.0)
    busy(shedding, 4, waiting=1010, rate=1000)
    assert shedding.refuses() == 0.1
