"""Whether asyncio reports a failure that nobody waits for."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable
from typing import Any

import pytest

from amqproxy.forgotten import retrieve


async def reports(end: Callable[[asyncio.Future[Any]], object], *, retrieved: bool) -> list[str]:
    """What asyncio reports of a future that ends so and is forgotten."""
    found: list[str] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: found.append(context["message"]))
    future = loop.create_future()
    if retrieved:
        future.add_done_callback(retrieve)
    end(future)
    await asyncio.sleep(0)  # in which callbacks run
    del future
    gc.collect()
    return found


def fail(future: asyncio.Future[Any]) -> None:
    future.set_exception(ValueError("lost"))


async def test_a_failure_that_was_looked_at_is_not_reported() -> None:
    assert await reports(fail, retrieved=False) == ["Future exception was never retrieved"]
    assert await reports(fail, retrieved=True) == []


@pytest.mark.parametrize("end", [asyncio.Future.cancel, lambda future: future.set_result(1)])
async def test_other_ends_are_no_failures(end: Callable[[asyncio.Future[Any]], object]) -> None:
    assert await reports(end, retrieved=True) == []
