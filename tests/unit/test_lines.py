"""What the broker refused of late, and for how long that is an answer."""

from __future__ import annotations

import gc
import weakref

import pytest

from amqproxy.backoff import STABLE_SECONDS
from amqproxy.errors import AccessRefused, Unroutable
from amqproxy.lines import (
    FIRST_PATIENCE_SECONDS,
    FIRST_PAUSE_SECONDS,
    LONGEST_PATIENCE_SECONDS,
    LONGEST_PAUSE_SECONDS,
    MAX_REFUSALS,
    Patience,
    Refusals,
)


def refused(refusals: Refusals, name: str, now: float) -> bool:
    try:
        refusals.check(name, now)
    except AccessRefused:
        return True
    return False


def test_after_one_refusal_the_broker_is_asked_again_at_once() -> None:
    refusals = Refusals()
    assert not refused(refusals, "x", 0.0)
    refusals.add("x", AccessRefused("no"), 100.0)
    assert not refused(refusals, "x", 100.0)


def test_the_second_in_a_row_is_an_answer_for_a_while_and_each_further_one_for_longer() -> None:
    refusals, now, pause = Refusals(), 100.0, FIRST_PAUSE_SECONDS
    refusals.add("x", AccessRefused("no"), now)
    for _ in range(30):
        refusals.add("x", AccessRefused("no"), now)
        assert refused(refusals, "x", now + pause * 0.99)
        assert not refused(refusals, "x", now + pause * 1.01)
        assert not refused(refusals, "y", now)
        now, pause = now + pause * 1.01, min(LONGEST_PAUSE_SECONDS, pause * 2)


def test_one_long_after_the_others_is_the_first_again() -> None:
    refusals = Refusals()
    for _ in range(3):
        refusals.add("x", AccessRefused("no"), 100.0)
    refusals.add("x", AccessRefused("no"), 101.0 + STABLE_SECONDS)
    assert not refused(refusals, "x", 101.0 + STABLE_SECONDS)


def test_each_who_is_refused_has_an_error_of_his_own_which_says_what_the_broker_said() -> None:
    refusals = Refusals()
    error = Unroutable("no exchange 'x'", executed="no")
    for _ in range(2):
        refusals.add("x", error, 100.0)
    with pytest.raises(Unroutable, match="no exchange 'x'") as first:
        refusals.check("x", 100.0)
    with pytest.raises(Unroutable) as second:
        refusals.check("x", 100.0)
    assert first.value is not second.value
    assert (first.value.executed, error.__traceback__) == ("no", None)


def test_so_many_are_remembered_and_no_more() -> None:
    refusals = Refusals()
    for number in range(MAX_REFUSALS + 10):
        for _ in range(2):
            refusals.add(str(number), AccessRefused("no"), 100.0)
    assert len(refusals._known) == MAX_REFUSALS
    assert not refused(refusals, "9", 100.0)
    assert refused(refusals, "10", 100.0)


class Resource:
    """What a frame of a traceback holds."""


def test_a_refusal_keeps_nothing_of_where_it_came_from() -> None:
    refusals = Refusals()
    gone: list[weakref.ref[Resource]] = []

    def refused() -> None:
        resource = Resource()
        gone.append(weakref.ref(resource))
        raise Unroutable("there is no exchange 'x'") from OSError(resource)

    for now in (0.0, 1.0):
        try:
            refused()
        except Unroutable as error:
            refusals.add("x", error, now)
    gc.collect()
    assert [each() for each in gone] == [None, None]
    with pytest.raises(Unroutable, match="no exchange 'x'"):
        refusals.check("x", 1.0)


def patience_from(patience: Patience, now: float) -> float:
    """Seconds for which one message after the other may be refused."""
    since = now
    while not patience.ends(now):
        now += 0.25
    return now - since


def test_patience_ends_after_a_second_and_lasts_twice_as_long_with_each_further_channel() -> None:
    patience, now, expected = Patience(), 100.0, FIRST_PATIENCE_SECONDS
    for _ in range(8):
        lasted = patience_from(patience, now)
        assert lasted == expected
        now, expected = now + lasted + 0.25, min(LONGEST_PATIENCE_SECONDS, 2 * expected)


def test_patience_is_short_again_when_nothing_was_refused_for_a_while() -> None:
    patience = Patience()
    for _ in range(3):
        patience_from(patience, 100.0)
    assert patience_from(patience, 101.0 + 10 * LONGEST_PATIENCE_SECONDS) == FIRST_PATIENCE_SECONDS
    assert not patience.ends(1000.0)
    assert patience.ends(2000.0), "the same channel refuses since then"
