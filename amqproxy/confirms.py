"""The messages of one channel in confirm mode that the broker has not confirmed yet: a machine without I/O.

The broker numbers what is published on a channel 1, 2, 3 … and confirms it one by one, or all up to a number at once. A
message's id is made of its number, so that nothing but the message itself is kept: one that was cancelled, expired or
returned leaves nothing behind, however long the broker stays silent.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from .calls import Calls, Waiter


class Confirms(Calls[Waiter]):
    """Calls whose answer is a confirmation."""

    __slots__ = ("_first", "_id")

    def __init__(self, id: Callable[[int], bytes]) -> None:
        """`id` tells the id that the message of a number was `sent` under; greater numbers have greater ids."""
        super().__init__()
        self._id = id
        self._first = 1
        """The least number that was not covered by a confirmation of all up to another."""

    def confirmed(self, number: int, multiple: bool, last: int) -> list[Waiter]:
        """Take out what this settles of the messages 1 to `last`: who waits for it, in the order of the messages.

        With `multiple` that is all up to the number, or all there are if it is 0 (AMQP 0-9-1, basic.ack). However many
        confirmations come, each number is looked at twice at most.
        """
        ids = self._settled(number, multiple, last)
        return [waiter for id in ids if id in self._pending and (waiter := self.replied(id)) is not None]

    def _settled(self, number: int, multiple: bool, last: int) -> Iterable[bytes]:
        if not multiple:
            return (self._id(number),)
        end = min(number or last, last) + 1
        first, self._first = self._first, max(self._first, end)
        if end - first <= len(self):
            return map(self._id, range(first, end))
        # Most of these were settled one by one, while the broker took its time for the first of them.
        newest = self._id(end - 1)
        return [id for id in self._pending if id <= newest]
