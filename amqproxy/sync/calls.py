"""Functions that take calls: of blocking code, as `functools.partial`, since a call itself is over when it returns."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from .. import batch
from .. import progress as progresses
from ..alive import Progress
from .client import Client
from .mirror import Calling, Iterating, mirrored


def gather(calls: Iterable[Callable[[], Any]], *, return_exceptions: bool = False) -> list[Any]:
    """Make many calls of one connection at once, in as few messages as they fit in: their results, in order.

        sums = amqproxy.sync.gather(partial(calc.add, n, n) for n in range(1000))

    `partial` is that of functools. All else is as in `amqproxy.gather`.
    """
    made = [_made(call) for call in calls]
    if not made:
        return []
    client = made[0][0]
    if any(other is not client for other, _ in made):
        raise TypeError("amqproxy.sync.gather takes calls of one connection, and these are of several")
    results = client._thread.run(_gather, ([make for _, make in made], return_exceptions), {})
    return [mirrored(client, result) for result in results]


async def _gather(makers: list[Callable[[], Any]], return_exceptions: bool) -> list[Any]:
    return await batch.gather((make() for make in makers), return_exceptions=return_exceptions)


def progress(call: Any, callback: Callable[[Progress], object] | None = None) -> Any:
    """A call, with what its handler tells by `amqproxy.current().progress(…)`, in a loop or by a callback.

        watched = amqproxy.sync.progress(partial(calc.train, data))
        for update in watched:
            print(f"{update.done} of {update.total}: {update.note}")
        model = watched.result
        model = amqproxy.sync.progress(partial(calc.train, data), print)
        for row in amqproxy.sync.progress(calc.export(), print):  # of a stream, the loop gets the items
            print(row)

    `partial` is that of functools. The callback runs in the thread of the connection, and shall not wait for anything.
    All else is as in `amqproxy.progress`.
    """
    client, make = _made(call)
    return mirrored(client, client._thread.run(_progress, (make, callback), {}))


async def _progress(make: Callable[[], Any], callback: Callable[[Progress], object] | None) -> Any:
    call = make()
    if callback is None or hasattr(call, "__anext__"):
        return progresses.progress(call, callback)
    return await progresses.progress(call.either() if hasattr(call, "either") else call, callback)


def track(call: Any, description: str | None = None) -> Any:
    """A call with a progress bar: `model = amqproxy.sync.track(partial(calc.train, data), "training")`.

        for row in amqproxy.sync.track(calc.export()):  # of a stream, the loop gets the items
            print(row)

    `partial` is that of functools. All else is as in `amqproxy.track`.
    """
    client, make = _made(call)
    return mirrored(client, client._thread.run(lambda: progresses.track(make(), description), (), {}))


def _made(call: Any) -> tuple[Client, Callable[[], Any]]:
    """The connection of a call, and what makes the call in its event loop. A stream is a call that is not made yet."""
    if isinstance(call, Iterating):
        return call._client, call._handed_over
    if isinstance(call, partial) and isinstance(call.func, Calling):
        args, kwargs = call.func._inward(call.args, call.keywords)
        return call.func._client, partial(call.func._target, *args, **kwargs)
    raise TypeError(f"write functools.partial(calc.add, 1, 2) for a call that is to be made; {call!r} is none")
