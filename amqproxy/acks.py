"""Which deliveries to acknowledge together: a machine without I/O.

The broker numbers the deliveries of a channel 1, 2, 3 … and takes one acknowledgement for "all up to n". Handlers end
in any order, so the machine knows which deliveries are out; what it keeps is bounded by what runs, not by what has run.
"""

from __future__ import annotations


class Acks:
    """The deliveries of one channel that are not settled yet."""

    __slots__ = ("_done", "_out")

    def __init__(self) -> None:
        self._out: dict[int, None] = {}  # in the order of their tags
        self._done: list[int] = []

    def __len__(self) -> int:
        """How many deliveries are out."""
        return len(self._out)

    def delivered(self, tag: int) -> None:
        """A delivery came, which is to be settled."""
        self._out[tag] = None

    def done(self, tag: int) -> None:
        """The delivery has been answered and may be acknowledged."""
        del self._out[tag]
        self._done.append(tag)

    def gone(self, tag: int) -> None:
        """The delivery was settled otherwise (given back or rejected), and must not be acknowledged."""
        del self._out[tag]

    def take(self) -> list[tuple[int, bool]]:
        """What to send now, as (tag, multiple), for all that was done since the last time.

        A tag sent with `multiple` is itself unsettled, as RabbitMQ demands, and covers no delivery that is not done.
        """
        done = self._done
        if len(done) < 2:
            self._done = []
            return [(tag, False) for tag in done]
        self._done = []
        oldest = next(iter(self._out), None)
        if oldest is None:
            return [(max(done), True)]
        together = max((tag for tag in done if tag < oldest), default=0)
        single = [(tag, False) for tag in sorted(done) if tag > together]
        return [(together, True), *single] if together else single
