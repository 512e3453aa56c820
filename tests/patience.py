"""Waiting for what no event tells of."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable

SLACK = 5 if "PYTEST_XDIST_WORKER" in os.environ else 1
"""How many times longer than its bound a test waits; the bounds are for a test that has the machine for itself, as in
`make faults`, and there the longest waits are written down. Beside other tests it may get a processor now and then.
"""


async def until(
    true: Callable[[], object], otherwise: Callable[[], str] = lambda: "it did not come to that", *, within: float = 5
) -> None:
    """Return when something is so; fail, with what `otherwise` says then, if it is not within so many seconds."""
    try:
        async with asyncio.timeout(within * SLACK):
            while not true():  # noqa: ASYNC110  # which is what this is for
                await asyncio.sleep(0.005)
    except TimeoutError:
        raise AssertionError(f"{otherwise()}, within {within * SLACK:g} s") from None
