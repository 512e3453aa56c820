"""What numbers that users give must be."""

from __future__ import annotations

import math
from typing import Any


def check_number(name: str, value: Any) -> None:
    """TypeError or ValueError unless the value is a finite number, and not a negative one."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name} is a number, not {value!r}")
    if not 0 <= value < math.inf:
        raise ValueError(f"{name} is 0 or more and finite, not {value!r}")


def check_positive(name: str, value: Any) -> None:
    """The same, and not 0."""
    check_number(name, value)
    if value == 0:
        raise ValueError(f"{name} is more than 0, not {value!r}")


def check_count(name: str, value: Any) -> None:
    """TypeError or ValueError unless the value is a whole number from 1 on."""
    if type(value) is not int:
        raise TypeError(f"{name} is a whole number, not {value!r}")
    check_positive(name, value)
