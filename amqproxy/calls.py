"""The calls of one connection that wait for an answer: a machine without I/O and without a clock.

    sent -> replied | returned | failed | expired | cancelled | lost

A call leaves the machine exactly once, whatever comes first. What comes for it later finds nothing, is counted as
`late`, and does no harm. Deadlines are kept in a timing wheel: entering and leaving cost the same whether ten calls are
pending or ten thousand, and nothing stays behind for a call that has ended.
"""

from __future__ import annotations

from heapq import heappop, heappush
from typing import Generic, TypeVar

Waiter = TypeVar("Waiter")

TICKS_PER_SECOND = 64
"""The wheel's resolution: a call expires at most one tick (16 ms) after its deadline, and never before it."""

PRUNE_TICKS = 4096
"""About a minute of ticks: so many are kept at least before those that ran empty are looked for."""


class Calls(Generic[Waiter]):
    """Pending calls by correlation id, each with a waiter (whatever the caller of this machine wants back)."""

    __slots__ = ("_buckets", "_pending", "_prune_at", "_ticks", "late")

    def __init__(self) -> None:
        self._pending: dict[bytes, tuple[Waiter, dict[bytes, None]]] = {}
        self._buckets: dict[int, dict[bytes, None]] = {}
        self._ticks: list[int] = []
        self._prune_at = PRUNE_TICKS
        self.late = 0
        """Answers that came when nobody waited any more, or never had."""

    def __len__(self) -> int:
        return len(self._pending)

    def sent(self, id: bytes, waiter: Waiter, deadline: float) -> None:
        """A call went out and must be answered before `deadline`, in seconds of the clock that `expire` is given."""
        tick = int(deadline * TICKS_PER_SECOND) + 1
        bucket = self._buckets.get(tick)
        if bucket is None:
            if len(self._ticks) >= self._prune_at:
                self._prune()
            bucket = self._buckets[tick] = {}
            heappush(self._ticks, tick)
        bucket[id] = None
        self._pending[id] = waiter, bucket

    def _prune(self) -> None:
        """Drop the ticks that ran empty; with a timeout of hours there would be many before the first one comes."""
        self._buckets = {tick: bucket for tick, bucket in self._buckets.items() if bucket}
        self._ticks = sorted(self._buckets)
        self._prune_at = 2 * len(self._ticks) + PRUNE_TICKS

    def replied(self, id: bytes) -> Waiter | None:
        """An answer came (a reply, a failure, or the message itself because no queue took it): who waits for it?"""
        entry = self._pending.pop(id, None)
        if entry is None:
            self.late += 1
            return None
        waiter, bucket = entry
        _leave(bucket, id)
        return waiter

    def cancelled(self, id: bytes) -> None:
        """The caller went away; nothing happens if the call had ended already."""
        entry = self._pending.pop(id, None)
        if entry is not None:
            _leave(entry[1], id)

    def expire(self, now: float) -> list[Waiter]:
        """Take out all calls whose deadline has passed."""
        expired = []
        while self._ticks and self._ticks[0] <= now * TICKS_PER_SECOND:
            for id in self._buckets.pop(heappop(self._ticks)):
                expired.append(self._pending.pop(id)[0])
        return expired

    def next_expiry(self) -> float | None:
        """When `expire` should be called next, or None while nothing is pending; drops the ticks that ran empty."""
        while self._ticks and not self._buckets[self._ticks[0]]:
            del self._buckets[heappop(self._ticks)]
        return self._ticks[0] / TICKS_PER_SECOND if self._ticks else None

    def lost(self) -> list[Waiter]:
        """The link is gone: take out all calls."""
        waiters = [waiter for waiter, _ in self._pending.values()]
        self._pending.clear()
        self._buckets.clear()
        self._ticks.clear()
        return waiters


def _leave(bucket: dict[bytes, None], id: bytes) -> None:
    del bucket[id]
    if not bucket:
        bucket.clear()  # an emptied dict keeps its table, which is much for the thirty seconds until the tick comes
