"""What a call inherits from the code that makes it: how much time is left, and who wants to hear of its progress."""

from __future__ import annotations

import contextvars
from collections.abc import Callable
from typing import Any, Protocol


class Scope(Protocol):
    """What holds for all calls that are made within: a handler's own call, or a block with a deadline."""

    @property
    def deadline(self) -> float | None:
        """The moment, on the clock of event loops, at which the time of all that is within is over; None: no limit."""

    @property
    def outer(self) -> Scope | None:
        """The scope around this one."""

    @property
    def watcher(self) -> Callable[[Any], None] | None:
        """Who is told of the progress of calls."""


scope: contextvars.ContextVar[Scope | None] = contextvars.ContextVar("amqproxy.scope", default=None)
"""The innermost scope; None, which costs a call next to nothing, outside of all."""
