"""When to stop asking who does not answer: a machine without I/O and without a clock.

closed --failures in a row--> open --seconds--> half open --success--> closed
^-------failure-------'
"""

from __future__ import annotations

from typing import Literal

State = Literal["closed", "open", "half open"]


class Circuit:
    """The calls of one service: let through while they succeed, and one by one after a break when they did not."""

    __slots__ = ("_failures", "_limit", "_opened_at", "_probed_at", "_probing", "_seconds")

    def __init__(self, failures: int, seconds: float) -> None:
        """Open after so many failures in a row, for so many seconds."""
        self._limit = failures
        self._seconds = seconds
        self._failures = 0
        self._opened_at: float | None = None
        self._probing = False
        self._probed_at = 0.0

    def state(self, now: float) -> State:
        """Whether calls are let through; half open is one of them."""
        if self._opened_at is None:
            return "closed"
        return "half open" if now >= self._opened_at + self._seconds else "open"

    @property
    def failures(self) -> int:
        """How many calls in a row have failed."""
        return self._failures

    def left(self, now: float) -> float:
        """Seconds until a call is let through; 0 while one is out that decides."""
        return 0.0 if self._opened_at is None else max(0.0, self._opened_at + self._seconds - now)

    def admits(self, now: float) -> bool:
        """Whether a call may be made now; one that may must be told to have succeeded, failed or been given up.

        The one that decides has as long as the break was: then another may.
        """
        state = self.state(now)
        if state == "closed":
            return True
        if state == "open" or (self._probing and now < self._probed_at + self._seconds):
            return False
        self._probing, self._probed_at = True, now
        return True

    def succeeded(self) -> None:
        """A call was answered."""
        self._failures, self._opened_at, self._probing = 0, None, False

    def failed(self, now: float) -> bool:
        """A call was not: whether a break begins with it."""
        self._failures += 1
        if self._opened_at is not None and not self._probing:
            return False  # one that was out already when the others failed
        self._probing = False
        if self._failures < self._limit:
            return False
        self._opened_at = now
        return True

    def given_up(self) -> None:
        """The caller of a call went away, or it was not sent: nothing is known of the service by it."""
        self._probing = False
