"""What a worker remembers of calls that it has answered: a machine without I/O and without a clock."""

from __future__ import annotations

import math


class Memory:
    """Values by their keys, for a while: the oldest go when there are too many, or too much of them."""

    __slots__ = ("_entries", "_kept", "_max_bytes", "_seconds", "bytes")

    def __init__(self, *, entries: int, seconds: float, max_bytes: int) -> None:
        self.bytes = 0
        """What all values have together."""
        self._entries = entries
        self._seconds = seconds
        self._max_bytes = max_bytes
        self._kept: dict[str, tuple[float, bytes]] = {}  # the oldest first: all live for the same time

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, key: str, now: float) -> bytes | None:
        """The value of a key, unless its time is over."""
        until, value = self._kept.get(key, (now, b""))
        return value if until > now else None

    def put(self, key: str, value: bytes, now: float) -> None:
        """Keep a value, the latest for its key; one that is too large for all of it is not kept."""
        self._drop(key)
        if len(value) > self._max_bytes:
            return
        self._kept[key] = now + self._seconds, value
        self.bytes += len(value)
        while self._is_too_much(now):
            self._drop(next(iter(self._kept)))

    def _is_too_much(self, now: float) -> bool:
        until, _ = next(iter(self._kept.values()), (math.inf, b""))
        return until <= now or len(self._kept) > self._entries or self.bytes > self._max_bytes

    def _drop(self, key: str) -> None:
        _, value = self._kept.pop(key, (0.0, b""))
        self.bytes -= len(value)
