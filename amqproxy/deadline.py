"""What is left of a call's time. Deadlines travel, timeouts do not: each step takes from what is left."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Deadline:
    """A moment on the clock of one event loop (monotonic seconds); the clock's reading is always an argument."""

    at: float

    @classmethod
    def after(cls, seconds: float, now: float) -> Deadline:
        """The moment that is `seconds` from now."""
        return cls(now + seconds)

    def left(self, now: float) -> float:
        """Seconds that are left, never less than 0."""
        return max(0.0, self.at - now)
