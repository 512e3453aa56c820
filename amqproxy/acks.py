"""Which deliveries to acknowledge together: a machine without I/O.

The broker numbers the deliveries of a channel 1, 2, 3 … and takes one acknowledgement for "all up to n". Handlers end
in any order, so the machine keeps how far everything is settled, and what is settled ahead of that.
"""

from __future__ import annotations


class Acks:
    """Deliveries that are done and not yet acknowledged."""

    __slots__ = ("_ahead", "_done", "_next")

    def __init__(self) -> None:
        self._done: list[int] = []
        self._next = 1
        self._ahead: set[int] = set()

    def done(self, tag: int) -> None:
        """The delivery has been answered and may be acknowledged."""
        self._done.append(tag)

    def gone(self, tag: int) -> None:
        """The delivery was settled otherwise (given back or rejected), and must not be acknowledged."""
        self._ahead.add(tag)

    def take(self) -> list[tuple[int, bool]]:
        """What to send now, as (tag, multiple), for all that was done since the last time.

        A tag sent with `multiple` is itself unsettled, as RabbitMQ demands, and covers no delivery that is not done.
        """
        done, ahead = self._done, self._ahead
        if not done:
            return []
        self._done = []
        if not ahead and done[0] == self._next and done[-1] - done[0] == len(done) - 1 and _ascending(done):
            self._next = done[-1] + 1
            return [(done[-1], len(done) > 1)]
        return self._take_unordered(sorted(done))

    def _take_unordered(self, done: list[int]) -> list[tuple[int, bool]]:
        together, single = 0, []
        ahead = self._ahead
        for tag in done:
            self._next = _skip(ahead, self._next)
            if tag == self._next:
                together = tag
                self._next += 1
            else:
                single.append((tag, False))
                ahead.add(tag)
        self._next = _skip(ahead, self._next)
        return [(together, True), *single] if together else single


def _ascending(tags: list[int]) -> bool:
    """Distinct tags whose first and last differ by their number less one are in order if they are sorted."""
    return tags == sorted(tags)


def _skip(ahead: set[int], tag: int) -> int:
    while tag in ahead:
        ahead.remove(tag)
        tag += 1
    return tag
