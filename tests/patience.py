"""Waiting for what no event tells of."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


async def until(
    true: Callable[[], object], otherwise: Callable[[], str] = lambda: "it did not come to that", *, within: float = 5
) -> None:
    """Return when something is so; fail, with what `otherwise` says then, if it is not within so many seconds."""
    try:
        async with asyncio.timeout(within):
            while not true():  # noqa: ASYNC110  # which is what this is for
                await asyncio.sleep(0.005)
    except TimeoutError:
        raise AssertionError(f"{otherwise()}, within {within:g} s") from None
