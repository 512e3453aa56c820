"""The calls that an asyncio contender makes: `window` tasks, each of which calls, checks and calls again."""

import asyncio
import time
from collections.abc import Awaitable, Iterator
from typing import Protocol

from . import control
from .control import WrongAnswerError
from .plan import SMALL, Run

Y = 2
"""The second summand of every call; the first one is the number of the call."""


class Service(Protocol):
    """What each contender offers to its caller."""

    def add(self, x: int, y: int) -> Awaitable[int]:
        """Return the sum."""

    def echo(self, text: str) -> Awaitable[str]:
        """Return the text."""


async def answer_runs(service: Service) -> None:
    """Carry out the bench's orders until it has no more."""
    async for run in control.async_runs():
        control.answer(await drive(service, run))


async def drive(service: Service, run: Run) -> float:
    """Make the calls of one run and return the seconds they took.

    Raises WrongAnswerError, or what the call raised, within an ExceptionGroup.
    """
    numbers = iter(range(run.count))
    start = time.perf_counter()
    async with asyncio.TaskGroup() as window:
        for _ in range(run.window):
            window.create_task(add(service, numbers) if run.size == SMALL else echo(service, numbers, run.size))
    return time.perf_counter() - start


async def add(service: Service, numbers: Iterator[int]) -> None:
    """Call with numbers from a supply that all tasks of the window share."""
    for x in numbers:
        total = await service.add(x, Y)
        if total != x + Y:
            raise WrongAnswerError(f"{x} + {Y} is not {total!r}")


async def echo(service: Service, numbers: Iterator[int], size: int) -> None:
    """Send texts of `size` characters that differ from call to call, so that a mix-up shows."""
    filler = filler_for(size)
    for number in numbers:
        text = numbered(number, filler)
        if await service.echo(text) != text:
            raise WrongAnswerError(f"echo {number} came back as something else")


def numbered(number: int, filler: str) -> str:
    """Return the text of one echo: its number in 12 digits, then the filler."""
    return f"{number:012d}{filler}"


def filler_for(size: int) -> str:
    """Return what makes a `numbered` text `size` characters long."""
    return "a" * (size - 12)
