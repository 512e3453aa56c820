"""Who answered and who still will: the machine alone, and against a model of a pool whose workers come and go."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from amqproxy.tally import ROUND_SECONDS, SILENT_SECONDS, Tally


def asked(workers: int | None, expect: int | None = None) -> Tally:
    tally = Tally(expect)
    tally.asked(workers, 0.0)
    return tally


def test_it_is_complete_when_all_workers_have_answered() -> None:
    tally = asked(2)
    assert (tally.workers, tally.answers, tally.missing, tally.complete) == (2, 0, 2, False)
    assert tally.answered("a")
    assert not tally.complete
    assert tally.answered("b")
    assert (tally.answers, tally.missing, tally.complete) == (2, 0, True)


def test_nothing_is_known_before_the_workers_are_asked() -> None:
    tally = Tally()
    assert (tally.workers, tally.missing, tally.complete) == (None, 0, False)


@pytest.mark.parametrize(("workers", "expect"), [(3, 1), (None, 1), (0, 1)])
def test_it_is_complete_when_as_many_as_expected_have_answered(workers: int | None, expect: int) -> None:
    tally = asked(workers, expect)
    assert not tally.complete
    tally.answered("a")
    assert tally.complete
    assert tally.missing == max(0, (workers or 0) - 1)


def test_it_is_never_complete_when_nobody_knows_how_many_there_are() -> None:
    tally = asked(None)
    assert tally.answered("a")
    assert not tally.complete


def test_no_workers_are_complete_at_once() -> None:
    assert asked(0).complete


def test_the_second_answer_of_a_worker_does_not_count_and_those_without_a_name_do() -> None:
    tally = asked(9)
    assert [tally.answered(each) for each in ("a", "a", "", "", "b", "a")] == [True, False, True, True, True, False]
    assert tally.answers == 4


def test_a_worker_that_is_silent_for_long_is_not_waited_for() -> None:
    tally = asked(2)
    tally.answered("a")
    tally.round(2, 1.0)
    assert not tally.over(SILENT_SECONDS - 0.01)
    assert tally.over(SILENT_SECONDS)


def test_a_worker_that_says_it_is_busy_is_waited_for_until_it_falls_silent() -> None:
    tally = asked(2)
    tally.busy("a", 4.0)
    assert not tally.over(SILENT_SECONDS)
    assert not tally.over(4.0 + SILENT_SECONDS - 0.01)
    assert tally.over(4.0 + SILENT_SECONDS)
    tally.busy("a", 10.0)
    assert not tally.over(11.0)
    tally.answered("a")
    assert tally.over(11.0)


def test_a_busy_worker_that_has_answered_is_not_waited_for() -> None:
    """Of two calls on one correlation id, say; its answer is what counts."""
    tally = asked(3)
    tally.answered("a")
    tally.busy("a", 5.0)
    assert tally.over(6.0)


def test_when_workers_have_gone_only_those_are_waited_for_that_speak_up_in_the_round() -> None:
    tally = asked(3)
    tally.busy("a", 0.5)
    tally.round(2, 1.0)
    assert tally.over(2.0)
    tally.busy("a", 1.1)
    assert not tally.over(2.0)
    tally.round(2, 2.0)
    assert tally.over(3.0)


@pytest.mark.parametrize(("expect", "there", "over"), [(3, 2, True), (2, 2, False), (1, 1, False), (1, 0, True)])
def test_fewer_than_are_expected_cannot_become_more(expect: int, there: int, over: bool) -> None:
    tally = asked(2, expect)
    tally.round(there, 1.0)
    assert tally.over(2.0) is over


@pytest.mark.parametrize(("workers", "now"), [(None, 1), (2, None)])
def test_what_the_broker_does_not_say_ends_nothing(workers: int | None, now: int | None) -> None:
    tally = asked(workers)
    tally.round(now, 1.0)
    assert not tally.over(2.0)
    assert tally.over(SILENT_SECONDS)


@dataclass
class Fate:
    """What becomes of one worker: it answers, dies or hangs at a time; None if it does not."""

    answers_at: float | None
    dies_at: float | None
    hangs_at: float | None

    def acts(self, now: float) -> bool:
        return all(at is None or now < at for at in (self.dies_at, self.hangs_at))

    @property
    def will_answer(self) -> bool:
        return self.answers_at is not None and self.acts(self.answers_at)


times = st.one_of(st.none(), st.integers(1, 300).map(lambda tenth: tenth / 10))
fates = st.builds(Fate, times, times, times)


@settings(max_examples=300, deadline=None, derandomize=True, database=None)
@given(st.lists(fates, max_size=6), st.lists(st.integers(1, 200).map(lambda tenth: tenth / 10), max_size=3))
def test_all_answers_come_in_and_nobody_is_waited_for_who_cannot_answer(pool: list[Fate], joining: list[float]) -> None:
    """Workers that live answer rounds at once; others join, who were never asked."""
    tally = asked(len(pool))
    ended, step, now = None, 0.05, 0.0
    done: set[int] = set()
    while ended is None and now < 60:
        now = round(now + step, 2)
        for number, fate in enumerate(pool):
            if number not in done and fate.answers_at is not None and fate.answers_at <= now and fate.will_answer:
                done.add(number)
                tally.answered(str(number))
        if tally.complete:
            ended = now
        elif now % ROUND_SECONDS == 0:
            if tally.over(now):
                ended = now
                break
            there = sum(fate.dies_at is None or now < fate.dies_at for fate in pool)
            tally.round(there + sum(at <= now for at in joining), now)
            for number, fate in enumerate(pool):
                if number not in done and fate.acts(now):
                    tally.busy(str(number), now)
    will = [fate for fate in pool if fate.will_answer]
    never = [fate for fate in pool if not fate.will_answer]
    assert tally.answers == len(will)
    hopeless = [min(at for at in (fate.dies_at, fate.hangs_at, 60.0) if at is not None) for fate in never]
    answers = [fate.answers_at for fate in will if fate.answers_at is not None]
    latest = max([*answers, *hopeless, 0.0]) + SILENT_SECONDS + 2 * ROUND_SECONDS
    if latest < 60:
        assert ended is not None and ended <= latest
