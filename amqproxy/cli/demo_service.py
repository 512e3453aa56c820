"""The calculator that the demonstration's workers serve: the original's demo, message classes included."""

from __future__ import annotations

from dataclasses import dataclass

import amqproxy


@amqproxy.message("com.github.sstone.amqp.proxy.Demo$AddRequest")
@dataclass(frozen=True, slots=True)
class AddRequest:
    """Two numbers to add."""

    x: int
    y: int


@amqproxy.message("com.github.sstone.amqp.proxy.Demo$AddResponse")
@dataclass(frozen=True, slots=True)
class AddResponse:
    """Their sum, and more than the original says: who did it, and whether another worker was asked before."""

    x: int
    y: int
    sum: int
    worker: str
    redelivered: bool


# The queue goes with its last worker, and a while later if none ever came to take from it.
@amqproxy.serve("calculator", auto_delete=True, arguments={"x-expires": 60_000})
class Calculator:
    """Adds."""

    async def add(self, request: AddRequest) -> AddResponse:
        """Add two numbers."""
        call = amqproxy.current()
        return AddResponse(request.x, request.y, request.x + request.y, call.worker, call.redelivered)
