"""What a call inherits from the code that makes it.

How much time is left, who wants to hear of its progress, and whether it travels with others.
"""

from __future__ import annotations

import contextvars
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol


class Collector(Protocol):
    """Who takes calls and sends those together that can share a message."""

    closed: bool
    """Whether it takes no more calls. Tasks that outlive its block inherit it; their calls travel alone."""

    def call(self, method: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Awaitable[Any]:
        """A call of a proxy's method, to be awaited; ContractError if the arguments do not fit."""


class Scope(Protocol):
    """What holds for all calls that are made within: a handler's own call, or a block with a deadline."""

    @property
    def deadline(self) -> float | None:
        """The moment, on the clock of event loops, at which the time of all that is within is over; None: no limit."""

    @property
    def outer(self) -> Scope | None:
        """The scope around this one."""

    @property
    def watcher(self) -> Callable[[Any], object] | None:
        """Who is told of the progress of calls."""

    @property
    def collector(self) -> Collector | None:
        """Who sends calls together."""


@dataclass(frozen=True, slots=True)
class Block:
    """The scope of a block of code."""

    deadline: float | None = None
    outer: Scope | None = None
    watcher: Callable[[Any], object] | None = None
    collector: Collector | None = None


scope: contextvars.ContextVar[Scope | None] = contextvars.ContextVar("amqproxy.scope", default=None)
"""The innermost scope; None, which costs a call next to nothing, outside of all."""
