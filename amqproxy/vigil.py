"""How long nothing was heard of a call, and what that means: a machine without I/O and without a clock.

    waiting -> expired | lost

Before anything was heard the call may wait in a queue, and only its time can be over. Once it is being worked on, a
worker that gives no more signs of life is lost.
"""

from __future__ import annotations

from typing import Literal

MISSED_HEARTBEATS = 3
"""So many intervals without a sign of life, and a worker counts as lost."""

Verdict = Literal["waiting", "expired", "lost"]


class Vigil:
    """The time of one call. All moments are in seconds of one clock, whose reading is always an argument."""

    __slots__ = ("_heard", "_heard_at", "_heartbeat", "_limit", "_step", "_timeout", "look_at")

    def __init__(
        self, now: float, *, limit: float | None, timeout: float, heartbeat: float | None, step: float
    ) -> None:
        """Begin when the request is sent.

        `limit` is the moment at which the call must be over; `timeout` is how many seconds may pass until something is
        heard, and from then on between one thing and the next; `heartbeat` is the time between two signs of life, if
        they were asked for. It is looked at least every `step` seconds.
        """
        self._limit = limit
        self._timeout = timeout
        self._heartbeat = heartbeat
        self._step = step if heartbeat is None else min(step, MISSED_HEARTBEATS * heartbeat)
        self._heard = False
        self._heard_at = now
        self.look_at = now
        """The moment at which to look again."""

    def heard(self, now: float) -> None:
        """A sign of life came, of whichever kind."""
        self._heard = True
        self._heard_at = now

    @property
    def was_heard(self) -> bool:
        """Whether any sign of life came."""
        return self._heard

    def silent(self, now: float) -> float:
        """Seconds since something was heard last, or since the beginning."""
        return now - self._heard_at

    def look(self, now: float) -> Verdict:
        """What has become of the call; `look_at` says when to ask again.

        Who looks late was held up, and may not have read yet what came meanwhile: the worker has another interval.
        """
        patience = self._timeout
        if self._heard and self._heartbeat is not None:
            if now - self.look_at > self._heartbeat:
                self._heard_at = max(self._heard_at, now - (MISSED_HEARTBEATS - 1) * self._heartbeat)
            patience = min(patience, MISSED_HEARTBEATS * self._heartbeat)
        due = self._heard_at + patience
        if self._limit is not None and now >= self._limit:
            return "expired"
        if now >= due:
            return "lost" if self._heard else "expired"
        self.look_at = min(now + self._step, due)
        if self._limit is not None:
            self.look_at = min(self.look_at, self._limit)
        return "waiting"
