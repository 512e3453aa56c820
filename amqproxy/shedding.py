"""When a worker refuses calls since too many wait before it: a machine without I/O and without a clock.

What a pool can do is measured, not computed from the time that handlers take: while something waits in the queue, a
worker is as busy as it can be, so what it answers in that time is what it can answer. Calls that wait beyond what the
pool can do in the time they may wait are refused, each worker refusing its share of them, until the queue is looked at
again: neither more than are too many, nor all that come for a while.
"""

from __future__ import annotations

from collections import deque

WINDOW_SECONDS = 10.0
"""How far back a worker looks to see what it can do."""
FIRST_SECONDS = 0.5
"""A worker that has been busy for less than this does not know yet."""


class Shedding:
    """What one worker knows of the queue before it."""

    def __init__(self, after: float) -> None:
        """Calls may wait for `after` seconds."""
        self.wait = 0.0
        """Seconds that a call which comes to the queue now is going to wait there, as far as is known."""
        self.excess = 0
        """How many calls this worker is to refuse."""
        self._after = after
        self._busy: deque[tuple[float, int]] = deque()

    def looked(self, now: float, waiting: int, consumers: int, answered: int, running: int) -> None:
        """So much waits, before so many workers; so much was done by this one ever, and so much runs in it.

        To be told every second or so, all in one measure: in messages, of which each may hold many calls. Those that
        were refused are not done.
        """
        if not waiting:  # then it is not busy, or need not be
            self._busy.clear()
            self.wait, self.excess = 0.0, 0
            return
        self._busy.append((now, answered))
        while now - self._busy[0][0] > WINDOW_SECONDS and len(self._busy) > 2:
            self._busy.popleft()
        since, before = self._busy[0]
        if now - since < FIRST_SECONDS:
            return
        # Of those that run for longer than it has been looking, it is not known how long they take: at least so long.
        rate = max(answered - before, running, 1) / (now - since)
        self.wait = waiting / (rate * max(consumers, 1))
        self.excess = max(0, int((self.wait - self._after) * rate))

    def refuses(self) -> float | None:
        """Whether the call that came now is one too many: then the seconds after which to try again."""
        if self.excess <= 0:
            return None
        self.excess -= 1
        return round(max(self.wait - self._after, 0.1), 1)
