"""Calls without end, and what became of them."""

from __future__ import annotations

import asyncio
import itertools
import math
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

from ..errors import AMQProxyError
from .demo_service import AddRequest, AddResponse

Add = Callable[[AddRequest], Awaitable[AddResponse]]

PAUSE_AFTER_LOSS = 0.1
"""Seconds: a broker that is gone refuses faster than anybody can read."""


class Latencies:
    """How long calls took, in a bounded number of classes that are less than 0.4% wide."""

    def __init__(self) -> None:
        self._counts: Counter[int] = Counter()
        self._calls = 0
        self.highest = 0.0
        """Seconds of the slowest call."""

    def add(self, seconds: float) -> None:
        """Count one call."""
        microseconds = round(seconds * 1e6)
        dropped = max(0, microseconds.bit_length() - 9)
        self._counts[microseconds >> dropped << dropped] += 1
        self._calls += 1
        self.highest = max(self.highest, seconds)

    def percentile(self, percent: float) -> float:
        """Seconds within which so many percent of the calls were answered (nearest rank); 0 without calls."""
        left = max(1, math.ceil(self._calls * percent / 100))
        for microseconds in sorted(self._counts):
            left -= self._counts[microseconds]
            if left <= 0:
                return microseconds / 1e6
        return 0.0


@dataclass(slots=True)
class Figures:
    """What became of the calls."""

    by_worker: Counter[str] = field(default_factory=Counter)
    """Answers by the worker's own name."""
    redelivered: int = 0
    """Answers to requests that were given to another worker before."""
    wrong: Counter[str] = field(default_factory=Counter)
    """Answers that were not the sum, as they were."""
    lost: Counter[str] = field(default_factory=Counter)
    """Calls that failed, by the error."""
    latencies: Latencies = field(default_factory=Latencies)
    seconds: float = 0.0
    """From the first request to the last answer."""

    @property
    def calls(self) -> int:
        """Calls that were answered."""
        return self.by_worker.total()

    @property
    def rate(self) -> float:
        """Answers per second."""
        return self.calls / self.seconds if self.seconds else 0.0

    @property
    def good(self) -> bool:
        """Whether every call was answered, and rightly."""
        return not self.wrong and not self.lost

    async def call(self, add: Add, x: int, y: int) -> AddResponse | None:
        """Make one call and count what became of it; None if it was lost."""
        started = perf_counter()
        try:
            answer = await add(AddRequest(x, y))
        except AMQProxyError as error:
            self.lost[f"{type(error).__name__}: {error}"] += 1
            return None
        self.latencies.add(perf_counter() - started)
        self.by_worker[answer.worker] += 1
        self.redelivered += answer.redelivered
        if (answer.x, answer.y, answer.sum) != (x, y, x + y):
            self.wrong[f"{x} + {y} came back as {answer.x} + {answer.y} = {answer.sum}"] += 1
        return answer


async def keep_calling(add: Add, in_flight: int, figures: Figures, events: Awaitable[Any]) -> None:
    """Keep so many calls in flight until `events` have happened; then wait for the answers that are out."""
    stop = asyncio.Event()
    numbers = itertools.count()
    started = perf_counter()
    callers = [asyncio.create_task(_call_until(stop, add, figures, numbers)) for _ in range(in_flight)]
    try:
        await events
    except BaseException:
        for caller in callers:
            caller.cancel()
        raise
    finally:
        stop.set()
        await asyncio.wait(callers)
        figures.seconds = perf_counter() - started
    for caller in callers:
        caller.result()


async def _call_until(stop: asyncio.Event, add: Add, figures: Figures, numbers: Iterator[int]) -> None:
    while not stop.is_set():
        number = next(numbers)
        if await figures.call(add, number, number % 1000) is None:
            await asyncio.sleep(PAUSE_AFTER_LOSS)
