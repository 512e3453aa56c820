"""Coroutines in one task: each runs as if the task and its context were its own."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from amqproxy.series import in_series

examples = settings(max_examples=100, deadline=None, derandomize=True, database=None)

place: contextvars.ContextVar[str] = contextvars.ContextVar("place", default="outside")


class Series:
    """Runs coroutines and notes what happens."""

    def __init__(self, *coroutines: Coroutine[Any, Any, None]) -> None:
        self.rest = list(coroutines)
        self.waited = 0

    async def run(self) -> None:
        first, *self.rest = self.rest
        await in_series(first, self.following, self.waits)

    def following(self) -> Coroutine[Any, Any, None] | None:
        return self.rest.pop(0) if self.rest else None

    def waits(self) -> None:
        self.waited += 1

    def close(self) -> None:
        for coroutine in self.rest:
            coroutine.close()


async def test_those_that_do_not_wait_run_in_one_step_of_one_task() -> None:
    tasks = []

    async def note() -> None:
        tasks.append(asyncio.current_task())

    series = Series(*(note() for _ in range(5)))
    task = asyncio.create_task(series.run())
    await asyncio.sleep(0)
    assert task.done()
    assert tasks == [task] * 5
    assert series.waited == 0


async def test_the_first_that_waits_is_the_last() -> None:
    gate = asyncio.Event()
    ran = []

    async def note(number: int) -> None:
        ran.append(number)

    async def wait() -> None:
        ran.append(-1)
        await gate.wait()
        await asyncio.sleep(0)
        ran.append(-2)

    series = Series(note(0), wait(), note(1))
    task = asyncio.create_task(series.run())
    await asyncio.sleep(0)
    assert (ran, series.waited, len(series.rest)) == ([0, -1], 1, 1)
    gate.set()
    await task
    assert (ran, series.waited, len(series.rest)) == ([0, -1, -2], 1, 1)
    series.close()


async def test_each_has_a_context_of_its_own_and_keeps_it_while_it_waits() -> None:
    seen = []

    async def enter(name: str, wait: bool) -> None:
        before = place.get()
        token = place.set(name)
        if wait:
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        seen.append((before, place.get()))
        place.reset(token)
        seen.append((before, place.get()))
        place.set(name)

    place.set("around")
    series = Series(enter("first", False), enter("second", False), enter("third", True))
    await asyncio.create_task(series.run())
    assert seen == [pair for name in ("first", "second", "third") for pair in (("around", name), ("around", "around"))]
    assert place.get() == "around"


async def test_time_limits_and_cancelling_reach_the_one_that_waits() -> None:
    caught: list[str] = []
    over = asyncio.Event()

    async def limited() -> None:
        try:
            async with asyncio.timeout(0.001):
                await asyncio.Event().wait()
        except TimeoutError:
            caught.append("timeout")
        over.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            caught.append("cancelled")
            raise

    series = Series(limited())
    task = asyncio.create_task(series.run())
    async with asyncio.timeout(10):
        await over.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert caught == ["timeout", "cancelled"]


async def test_one_that_takes_its_cancelling_in_ends_as_it_likes() -> None:
    async def stubborn() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await asyncio.sleep(0)

    task = asyncio.create_task(Series(stubborn()).run())
    await asyncio.sleep(0)
    task.cancel()
    await task


@pytest.mark.parametrize("wait", [False, True])
async def test_what_one_raises_ends_all(wait: bool) -> None:
    async def fail() -> None:
        if wait:
            await asyncio.sleep(0)
        raise LookupError("here")

    async def never() -> None:
        raise AssertionError

    series = Series(fail(), never())
    with pytest.raises(LookupError, match="here"):
        await asyncio.create_task(series.run())
    assert len(series.rest) == 1
    series.close()


async def test_a_task_that_is_dropped_closes_the_one_that_waits() -> None:
    closed = []

    async def wait() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            closed.append(True)

    running = Series(wait()).run()
    running.send(None)
    running.close()
    assert closed == [True]


@examples
@given(st.lists(st.integers(0, 3), min_size=1, max_size=8))
def test_any_of_them_may_wait_any_number_of_times(waits: list[int]) -> None:
    ran = []

    async def step(number: int, times: int) -> None:
        for _ in range(times):
            await asyncio.sleep(0)
        ran.append(number)

    async def run_all() -> int:
        """Go on with what is left in another task, as a worker does."""
        rest = [step(number, times) for number, times in enumerate(waits)]
        tasks: list[asyncio.Task[None]] = []

        def following() -> Coroutine[Any, Any, None] | None:
            return rest.pop(0) if rest else None

        def begin() -> None:
            first = following()
            if first is not None:
                tasks.append(asyncio.create_task(run(first, following, begin)))

        begin()
        for task in tasks:  # which become more meanwhile
            await task
        return len(tasks)

    async def run(first: Coroutine[Any, Any, None], following: Callable[[], Any], begin: Callable[[], None]) -> None:
        await in_series(first, following, begin)

    tasks = asyncio.run(run_all())
    assert sorted(ran) == list(range(len(waits)))
    assert tasks <= 1 + sum(times > 0 for times in waits)
