"""Timers without a clock: what is due when, told to whoever has one."""

from __future__ import annotations

import heapq
import logging
from collections.abc import Callable
from itertools import count

log = logging.getLogger("amqproxy.broker")


class Timer:
    """Something to do at a time; cancelled by `cancel`."""

    __slots__ = ("_timers", "callback", "when")

    def __init__(self, timers: Timers, when: float, callback: Callable[[], None]) -> None:
        self._timers = timers
        self.when = when
        self.callback: Callable[[], None] | None = callback

    def cancel(self) -> None:
        """Forget it; safe to call at any time."""
        if self.callback is not None:
            self.callback = None
            self._timers.cancelled()


class Timers:
    """All timers of a broker, the earliest first."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Timer]] = []
        self._numbers = count()
        self._cancelled = 0
        self.wake: Callable[[float], None] = lambda when: None
        """Called with the time of a timer that comes before all others."""

    def at(self, when: float, callback: Callable[[], None]) -> Timer:
        """Call `callback` when the clock has reached `when`."""
        timer = Timer(self, when, callback)
        earliest = self.next_due
        heapq.heappush(self._heap, (when, next(self._numbers), timer))
        if earliest is None or when < earliest:
            self.wake(when)
        return timer

    def cancelled(self) -> None:
        """A timer will not be needed; when they are the most, they are cleared away."""
        self._cancelled += 1
        if self._cancelled > 100 and self._cancelled * 2 > len(self._heap):
            self._heap = [entry for entry in self._heap if entry[2].callback is not None]
            heapq.heapify(self._heap)
            self._cancelled = 0

    @property
    def next_due(self) -> float | None:
        """When the next one is due; None without any."""
        heap = self._heap
        while heap and heap[0][2].callback is None:
            heapq.heappop(heap)
            self._cancelled -= 1
        return heap[0][0] if heap else None

    def run(self, now: float) -> float | None:
        """Call all that is due; return when the next one will be."""
        while (due := self.next_due) is not None and due <= now:
            timer = heapq.heappop(self._heap)[2]
            callback, timer.callback = timer.callback, None
            assert callback is not None  # cancelled ones are not due
            try:
                callback()
            except Exception:  # one that fails must not stop all that come after it
                log.exception("a timer of the broker failed")
        return self.next_due
