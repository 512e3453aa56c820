"""A circuit breaker: middleware that lets calls fail at once while a service does not answer."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from .bounds import check_count, check_positive
from .circuit import Circuit
from .errors import (
    BadReply,
    CallError,
    CallTimeout,
    ConnectionLost,
    Overloaded,
    RemoteError,
    Unroutable,
    WorkerLost,
)
from .middleware import Next, OutgoingCall
from .shown import shown

log = logging.getLogger("amqproxy.caller")

BUSY_CODES = frozenset({"unavailable", "resource_exhausted", "deadline_exceeded"})
"""What a worker answers that cannot do its work now; all else shows that it does."""
FAILURES = (CallTimeout, ConnectionLost, WorkerLost, Unroutable, Overloaded)
"""What else says that the service cannot answer."""


def breaker(failures: int = 5, seconds: float = 30.0) -> Breaker:
    """Middleware that stops calling a service when so many calls in a row failed, for so many seconds.

        async with amqproxy.connect(middleware=[amqproxy.breaker()]) as mq:

    Meanwhile calls fail at once with Overloaded (executed "no"). Then one call is let through: if it is answered, so
    are all again, and else the time begins anew; while it is out, one more is let through each time that so many
    seconds are over. Failures are what says that the service cannot answer: CallTimeout, ConnectionLost, WorkerLost,
    Unroutable, Overloaded, and a RemoteError of code "unavailable", "resource_exhausted" or "deadline_exceeded"; what a
    handler raises is an answer. What was not sent for another reason, such as arguments that cannot be written or are
    too large, says nothing of the service. Of a stream, its beginning counts.

    Each service is counted for itself; who shares one breaker shares the count. TypeError or ValueError if the numbers
    make no sense.
    """
    check_count("failures", failures)
    check_positive("seconds", seconds)
    return Breaker(failures, seconds)


class Breaker:
    """Such middleware."""

    def __init__(self, failures: int, seconds: float) -> None:
        self._failures = failures
        self._seconds = seconds
        self._circuits: dict[str, Circuit] = {}

    def __repr__(self) -> str:
        return f"amqproxy.breaker(failures={self._failures}, seconds={self._seconds:g})"

    async def __call__(self, call: Any, next: Next) -> Any:
        """Make the call, or raise Overloaded."""
        if not isinstance(call, OutgoingCall):
            raise TypeError("a breaker is for calls: give it to amqproxy.connect or to a proxy, and not to a worker")
        circuit = self._circuits.get(call.service)
        if circuit is None:
            circuit = self._circuits[call.service] = Circuit(self._failures, self._seconds)
        clock = asyncio.get_running_loop().time
        if not circuit.admits(clock()):
            raise Overloaded(self._refusal(call, circuit, clock()))
        try:
            result = await next(call)
        except CallError as error:
            self._judge(call.service, circuit, error, clock())
            raise
        except BaseException:  # the caller went away, or has it wrong
            circuit.given_up()
            raise
        circuit.succeeded()
        return result

    def _judge(self, service: str, circuit: Circuit, error: CallError, now: float) -> None:
        if _is_answer(error):
            circuit.succeeded()
            return
        if not isinstance(error, (RemoteError, *FAILURES)):
            circuit.given_up()
            return
        if circuit.failed(now):
            seconds, last = f"{self._seconds:g} s", shown(f"{type(error).__name__}: {error}")
            text = "calls of %s are held back for %s: %d in a row failed, the last with %s"
            log.warning(text, service, seconds, circuit.failures, last)

    def _refusal(self, call: OutgoingCall, circuit: Circuit, now: float) -> str:
        left = circuit.left(now)
        when = f"it is tried again in {left:.1f} s" if left else "it is being tried again by another call"
        why = f"{circuit.failures} calls of the service in a row failed"
        return f"{call.service}.{call.method} was not sent, for {why}; {when}"


def _is_answer(error: CallError) -> bool:
    """Whether the service can be said to work, though the call failed."""
    if isinstance(error, RemoteError):
        return error.code not in BUSY_CODES
    return isinstance(error, BadReply)
