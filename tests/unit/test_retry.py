"""How calls are tried again, and the budget of that: values and a machine, without event loop and clock."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from amqproxy.retry import Retry, RetryBudget


def test_a_full_budget_allows_what_fails_now_and_then() -> None:
    budget = RetryBudget(tokens=10)
    for _ in range(1000):
        for _ in range(10):
            budget.succeeded()
        budget.failed()
        assert budget.open


def test_half_a_budget_of_failures_is_enough() -> None:
    budget = RetryBudget(tokens=10)
    for _ in range(4):
        budget.failed()
    assert budget.open
    budget.failed()
    assert not budget.open


def test_successes_open_it_again_each_by_its_part() -> None:
    budget = RetryBudget(tokens=10, ratio=0.5)
    for _ in range(100):
        budget.failed()
    for _ in range(10):
        budget.succeeded()
        assert not budget.open
    budget.succeeded()
    assert budget.open
    assert repr(budget) == "<RetryBudget 5.5 of 10 tokens>"


@given(st.integers(1, 50), st.floats(0.01, 2), st.lists(st.booleans()))
def test_it_is_never_over_full_nor_in_debt(tokens: int, ratio: float, outcomes: list[bool]) -> None:
    budget, left = RetryBudget(tokens, ratio), float(tokens)
    for succeeds in outcomes:
        budget.succeeded() if succeeds else budget.failed()
        left = min(tokens, left + ratio) if succeeds else max(0.0, left - 1)
        assert budget.open == (left > tokens / 2)


@pytest.mark.parametrize("wrong", [{"tokens": 0}, {"tokens": 1.5}, {"ratio": 0}, {"ratio": "much"}])
def test_a_budget_that_makes_no_sense_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises((TypeError, ValueError), match=next(iter(wrong))):
        RetryBudget(**wrong)


def test_a_number_is_a_number_of_attempts() -> None:
    assert Retry.of(5) == Retry(attempts=5)
    assert Retry.of(given := Retry(2, wait=0, budget=RetryBudget())) is given


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        ({"attempts": 0}, ValueError),
        ({"attempts": 2.0}, TypeError),
        ({"wait": -1}, ValueError),
        ({"max_wait": None}, TypeError),
        ({"budget": 10}, TypeError),
    ],
)
def test_what_makes_no_sense_is_refused_by_name(wrong: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error, match=f"^{next(iter(wrong))} is"):
        Retry(**wrong)


@pytest.mark.parametrize(("wrong", "error"), [(0, ValueError), (True, TypeError), ("often", TypeError)])
def test_an_option_that_means_nothing_is_refused(wrong: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match=r"^retry is"):
        Retry.of(wrong)
