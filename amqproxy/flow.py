"""The numbering, the credit and the end of a stream: two machines without I/O, one for each of its ends.

    open -> ended | failed | cancelled

The receiver grants credit, one for an item; the sender sends no more than that. Items are numbered 0, 1, 2 …, and the
end bears the number that the next item would have had. Each machine leaves `open` exactly once; what comes later
changes nothing. These are the rules of Reactive Streams (https://www.reactive-streams.org), with numbers besides, since
a broker may deliver a message twice.
"""

from __future__ import annotations

MAX_CREDIT = 2**31 - 1
"""More than this is no request for items but nonsense."""


class FlowError(ValueError):
    """The other end broke the rules; the text says how."""


class Outflow:
    """The sending end: how many items it may send, and which number the next one has."""

    __slots__ = ("credit", "next", "open")

    def __init__(self, credit: int) -> None:
        """Begin with the credit that the request for the stream grants; FlowError if that is no number of items."""
        self.credit = 0
        """Items that may be sent now."""
        self.next = 0
        """The number of the next item, which is how many were sent."""
        self.open = True
        self.granted(credit)

    def granted(self, items: int) -> None:
        """The receiver takes so many more; 0 changes nothing. FlowError if that is no number of items."""
        if not 0 <= items <= MAX_CREDIT or self.credit + items > MAX_CREDIT:
            raise FlowError(f"a credit is from 0 to {MAX_CREDIT} items, not {self.credit + items}")
        if self.open:
            self.credit += items

    def sent(self, items: int) -> int:
        """So many items are sent now, within the credit: the number of the first."""
        if not self.open or items > self.credit:
            raise AssertionError(f"{items} items for a credit of {self.credit if self.open else 0}")
        first = self.next
        self.credit -= items
        self.next = first + items
        return first

    def end(self) -> bool:
        """The stream is over, in whichever way; False if it was so already."""
        was_open, self.open = self.open, False
        return was_open


class Inflow:
    """The receiving end: which items are new, and when to grant how much."""

    __slots__ = ("_due", "_granted", "next", "open", "repeated", "window")

    def __init__(self, window: int) -> None:
        """Grant `window` items with the request, and keep that many granted or waiting to be taken."""
        if not 0 < window <= MAX_CREDIT:
            raise ValueError(f"a window is from 1 to {MAX_CREDIT} items, not {window}")
        self.window = window
        self.next = 0
        """The number of the item that is due."""
        self.open = True
        self.repeated = 0
        """Items that came again, and were dropped."""
        self._granted = window
        self._due = 0

    def received(self, first: int, items: int) -> int:
        """Items came, numbered from `first`: how many of them, at the front, are not new and to be dropped.

        FlowError if one is missing, or if they are more than was granted.
        """
        if first < 0 or items < 0:
            raise FlowError(f"items are counted from 0, and not {items} from {first}")
        if not self.open:
            return items
        if first > self.next:
            raise FlowError(f"item {first} came where {self.next} was due")
        after = first + items
        if after > self._granted:
            raise FlowError(f"item {after - 1} came, and credit was given for {self._granted}")
        old = min(items, self.next - first)
        self.repeated += old
        self.next = max(self.next, after)
        return old

    def taken(self, items: int) -> int:
        """The consumer took items: how many more to grant now, which is 0 most of the time.

        Half of the window is granted at once: a grant is a message, and one for each item would be too many.
        """
        self._due += items
        if not self.open or 2 * self._due < self.window:
            return 0
        grant, self._due = self._due, 0
        self._granted += grant
        return grant

    def end(self, at: int | None = None) -> bool:
        """The stream is over, `at` this number or in another way; False if it was so already.

        FlowError if items ahead of the end are missing.
        """
        if self.open and at is not None and at > self.next:
            raise FlowError(f"the end came at item {at} where {self.next} was due")
        was_open, self.open = self.open, False
        return was_open
