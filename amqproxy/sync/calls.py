"""Functions that take calls: of blocking code, as `functools.partial`, since a call itself is over when it returns."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from .. import batch
from .client import Client
from .mirror import Calling


def gather(calls: Iterable[Callable[[], Any]], *, return_exceptions: bool = False) -> list[Any]:
    """Make many calls of one connection at once, in as few messages as they fit in: their results, in order.

    >>> sums = amqproxy.sync.gather(partial(calc.add, n, n) for n in range(1000))

    `partial` is that of functools. All else is as in `amqproxy.gather`.
    """
    made = [_made(call) for call in calls]
    if not made:
        return []
    client = made[0][0]
    if any(other is not client for other, _ in made):
        raise TypeError("amqproxy.sync.gather takes calls of one connection, and these are of several")
    return client._thread.run(_gather, ([make for _, make in made], return_exceptions), {})  # type: ignore[no-any-return]


async def _gather(makers: list[Callable[[], Any]], return_exceptions: bool) -> list[Any]:
    return await batch.gather((make() for make in makers), return_exceptions=return_exceptions)


def _made(call: Any) -> tuple[Client, Callable[[], Any]]:
    """The connection of a call, and what makes the call in its event loop."""
    if isinstance(call, partial) and isinstance(call.func, Calling):
        args, kwargs = call.func._inward(call.args, call.keywords)
        return call.func._client, partial(call.func._target, *args, **kwargs)
    raise TypeError(f"write functools.partial(calc.add, 1, 2) for a call that is to be made; {call!r} is none")
