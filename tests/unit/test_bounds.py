"""Numbers that users give."""

from __future__ import annotations

import math
from typing import Any

import pytest

from amqproxy.bounds import check_count, check_number, check_positive


def test_what_is_right_is_passed_over() -> None:
    check_number("wait", 0)
    check_positive("timeout", 0.25)
    check_count("attempts", 1)


@pytest.mark.parametrize("value", [True, "1", None, 1j])
def test_what_is_no_number_is_told_by_name(value: Any) -> None:
    with pytest.raises(TypeError, match="wait is a number, not"):
        check_number("wait", value)


@pytest.mark.parametrize("value", [-1, math.inf, math.nan])
def test_a_number_is_finite_and_not_negative(value: float) -> None:
    with pytest.raises(ValueError, match="wait is 0 or more and finite"):
        check_number("wait", value)


def test_nothing_is_not_enough() -> None:
    with pytest.raises(ValueError, match="timeout is more than 0, not 0"):
        check_positive("timeout", 0)


@pytest.mark.parametrize(("value", "error"), [(1.0, TypeError), (True, TypeError), (0, ValueError), (-1, ValueError)])
def test_a_count_is_whole_and_from_one_on(value: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="attempts is"):
        check_count("attempts", value)
