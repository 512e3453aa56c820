"""The messages of a queue that wait for a consumer, in the order in which they go out.

A message that comes back takes its old place again: what was delivered once is older than all that was not.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from heapq import heappop, heappush
from itertools import chain
from typing import Protocol

from .message import Entry


class Ready(Protocol):
    """The waiting messages of one queue."""

    def append(self, entry: Entry) -> None:
        """Put a new message last."""

    def put_back(self, entry: Entry) -> None:
        """Put a message where it was before."""

    def head(self) -> Entry | None:
        """The message that is next; None without any."""

    def pop(self) -> Entry:
        """Take the message that is next."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[Entry]: ...


class Fifo:
    """First in, first out."""

    __slots__ = ("_fresh", "_returned")

    def __init__(self) -> None:
        self._fresh: deque[Entry] = deque()
        self._returned: list[tuple[int, Entry]] = []

    def append(self, entry: Entry) -> None:
        """Put a new message last."""
        self._fresh.append(entry)

    def put_back(self, entry: Entry) -> None:
        """Put a message before all younger ones."""
        heappush(self._returned, (entry.sequence, entry))

    def head(self) -> Entry | None:
        """The oldest message."""
        if self._returned:
            return self._returned[0][1]
        return self._fresh[0] if self._fresh else None

    def pop(self) -> Entry:
        """Take the oldest message."""
        if self._returned:
            return heappop(self._returned)[1]
        return self._fresh.popleft()

    def __len__(self) -> int:
        return len(self._fresh) + len(self._returned)

    def __iter__(self) -> Iterator[Entry]:
        return chain((entry for _, entry in sorted(self._returned)), self._fresh)


class ByPriority:
    """The most urgent first, and first in, first out among equals."""

    __slots__ = ("_count", "_highest", "_levels")

    def __init__(self, highest: int) -> None:
        self._highest = highest
        self._levels: dict[int, Fifo] = {}
        self._count = 0

    def _level(self, entry: Entry) -> Fifo:
        self._count += 1
        priority = min(entry.message.priority, self._highest)
        level = self._levels.get(priority)
        if level is None:
            self._levels[priority] = level = Fifo()
            self._levels = dict(sorted(self._levels.items(), reverse=True))
        return level

    def append(self, entry: Entry) -> None:
        """Put a new message behind those of its priority."""
        self._level(entry).append(entry)

    def put_back(self, entry: Entry) -> None:
        """Put a message before all younger ones of its priority."""
        self._level(entry).put_back(entry)

    def head(self) -> Entry | None:
        """The oldest message of the highest priority."""
        return next((level.head() for level in self._levels.values() if len(level)), None)

    def pop(self) -> Entry:
        """Take the oldest message of the highest priority."""
        self._count -= 1
        return next(level for level in self._levels.values() if len(level)).pop()

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Entry]:
        return chain.from_iterable(self._levels.values())
