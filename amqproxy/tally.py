"""Who answers a call to all workers, and when nobody else will: a machine without I/O and without a clock.

The broker knows how many workers there are, and not which. So it is asked how many there are when the call begins, and
then from time to time, in rounds; each round also asks the workers whether they are at work on the call. What they say
is told to this machine, with the time.
"""

from __future__ import annotations

ROUND_SECONDS = 1.0
"""Between two rounds."""
SILENT_SECONDS = 5.0
"""Who has not answered, and has not said for so long that it is at work, is not waited for."""


class Tally:
    """The answers to one call."""

    __slots__ = ("_answered", "_asked_at", "_busy", "_expect", "_fewer", "_round_at", "answers", "workers")

    def __init__(self, expect: int | None = None) -> None:
        """`expect` is how many answers are wanted; None for those of all workers."""
        self.workers: int | None = None
        """How many workers there were when they were asked; None before that, or if the broker did not say."""
        self.answers = 0
        """How many have answered."""
        self._expect = expect
        self._answered: set[str] = set()
        self._busy: dict[str, float] = {}  # who is at work on it, and when it said so last
        self._asked_at = 0.0
        self._round_at = 0.0
        self._fewer = False

    @property
    def missing(self) -> int:
        """How many of the workers have not answered."""
        return max(0, (self.workers or 0) - self.answers)

    @property
    def _wanted(self) -> int | None:
        return self.workers if self._expect is None else self._expect

    @property
    def complete(self) -> bool:
        """Whether as many have answered as are wanted."""
        return self._wanted is not None and self.answers >= self._wanted

    def asked(self, workers: int | None, now: float) -> None:
        """The call goes out to so many workers."""
        self.workers, self._asked_at = workers, now

    def answered(self, worker: str) -> bool:
        """An answer came: whether it counts, which a second one of the same worker does not.

        A worker of another make may have no name: each answer without one counts.
        """
        if worker:
            if worker in self._answered:
                return False
            self._answered.add(worker)
        self._busy.pop(worker, None)
        self.answers += 1
        return True

    def busy(self, worker: str, now: float) -> None:
        """A worker says that it is at work on the call."""
        if worker not in self._answered:
            self._busy[worker] = now

    def round(self, workers: int | None, now: float) -> None:
        """A round begins, and so many workers are there now."""
        self._round_at = now
        self._fewer = None not in (workers, self._wanted) and workers < self._wanted  # type: ignore[operator]

    def over(self, now: float) -> bool:
        """Whether nobody else will answer; to be asked when the workers had time to speak up in the last round.

        If there are fewer workers than are wanted, some have gone, and the others are known by then. Else a worker that
        says nothing may hang for a while, and is given some time.
        """
        if self._fewer:
            return all(at < self._round_at for at in self._busy.values())
        silent = now - SILENT_SECONDS
        return self._asked_at <= silent and all(at <= silent for at in self._busy.values())
