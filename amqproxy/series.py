"""Coroutines in one task, one after the other, as long as none of them waits.

Most handlers of small calls end without waiting for anything, and to make a task takes longer than they do.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Coroutine, Generator
from contextvars import Context, copy_context
from typing import Any

Step = Callable[[], Coroutine[Any, Any, None] | None]
"""Makes the next coroutine; None if there is none, or none for this task."""


@types.coroutine
def in_series(
    first: Coroutine[Any, Any, None], following: Step, waits: Callable[[], None]
) -> Generator[Any, Any, None]:
    """Run `first` to its end and then what `following` makes, each in a copy of the context that this begins in.

    The first one that waits has the task for itself from then on: `waits` is called, and nothing follows it. So to each
    of them the task is its own. What one of them raises ends all.
    """
    begun = copy_context()
    coroutine: Coroutine[Any, Any, None] | None = first
    while coroutine is not None:
        context = begun.copy()
        try:
            awaited = context.run(coroutine.send, None)
        except StopIteration:
            coroutine = following()
        else:
            waits()
            yield from _to_its_end(coroutine, context, awaited)
            return


def _to_its_end(coroutine: Coroutine[Any, Any, None], context: Context, awaited: Any) -> Generator[Any, Any, None]:
    step: Callable[[Any], Any]
    while True:
        try:
            value = yield awaited
        except BaseException as error:
            step, given = coroutine.throw, error
        else:
            step, given = coroutine.send, value
        try:
            awaited = context.run(step, given)
        except StopIteration:
            return
