"""Blocks with a deadline, by themselves."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

import amqproxy
from amqproxy.scope import scope


def until() -> float | None:
    within = scope.get()
    return None if within is None else within.deadline


def test_a_block_sets_when_its_calls_end_and_leaves_things_as_they_were() -> None:
    assert until() is None
    with amqproxy.deadline(5) as within:
        assert until() == pytest.approx(time.monotonic() + 5, abs=0.5)
        assert within.left == pytest.approx(5, abs=0.5)
        assert repr(within) == "<deadline in 5 s>"
    assert scope.get() is None


def test_it_counts_from_the_beginning_of_the_block() -> None:
    later = amqproxy.deadline(0.5)
    time.sleep(0.01)
    assert later.left == 0.5
    with later:
        assert later.left is not None
        assert later.left > 0.49


@pytest.mark.parametrize(("outer", "inner", "left"), [(5, 10, 5), (10, 5, 5), (None, 5, 5), (5, None, None)])
def test_the_earliest_end_counts_and_none_lifts_it(outer: Any, inner: Any, left: float | None) -> None:
    with amqproxy.deadline(outer), amqproxy.deadline(inner) as within:
        assert within.left == (None if left is None else pytest.approx(left, abs=0.5))
        assert (until() is None) is (left is None)
        assert repr(within) == ("<no deadline>" if left is None else "<deadline in 5 s>")


def test_nothing_is_left_when_it_is_over() -> None:
    with amqproxy.deadline(0) as within:
        assert within.left == 0
    assert within.left == 0


def test_it_is_lifted_by_an_exception_too() -> None:
    with pytest.raises(ZeroDivisionError), amqproxy.deadline(5):
        raise ZeroDivisionError
    assert scope.get() is None


async def test_it_may_be_written_as_asyncios_timeout_is() -> None:
    async with amqproxy.deadline(5) as within:
        assert until() == pytest.approx(asyncio.get_running_loop().time() + 5, abs=0.5)
        assert within.left == pytest.approx(5, abs=0.5)
    assert scope.get() is None


def test_one_is_for_one_block() -> None:
    once = amqproxy.deadline(5)
    with once, pytest.raises(RuntimeError, match="begun already: make one for each block"), once:
        pass
    with pytest.raises(RuntimeError, match="begun already"), once:
        pass


def test_who_watches_is_kept() -> None:
    from amqproxy.progress import watching

    with watching(print), amqproxy.deadline(5), amqproxy.deadline(None):
        within = scope.get()
        assert within is not None
        assert within.watcher is print
    with amqproxy.deadline(5), watching(print):
        assert until() is not None


@pytest.mark.parametrize("seconds", [-1, -0.001, float("nan"), float("inf")])
def test_a_time_that_is_none_is_refused(seconds: float) -> None:
    with pytest.raises(ValueError, match=r"^a deadline in seconds is 0 or more and finite, not"):
        amqproxy.deadline(seconds)


@pytest.mark.parametrize("seconds", ["5", True, [5]])
def test_what_is_no_number_is_refused(seconds: Any) -> None:
    with pytest.raises(TypeError, match=r"^a deadline in seconds is a number, not"):
        amqproxy.deadline(seconds)
