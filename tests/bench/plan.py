"""What is measured: which bodies, how many calls in flight, how long and how often."""

from dataclasses import asdict, dataclass

SMALL = 0
"""The body size that stands for ``{"x":1,"y":2}`` and its sum; others are echoes of a string that long."""

SIZES = {"small": SMALL, "1k": 1024, "64k": 65536}
SHORTEST = 16
WINDOWS = (1, 64, 500)

PREFETCH = 500
"""Deliveries that a worker takes ahead, for each contender that has such a setting."""


@dataclass(frozen=True, slots=True, order=True)
class Cell:
    """One square of the result: all contenders are compared within it."""

    size: int
    window: int

    def __str__(self) -> str:
        """Read as a progress line."""
        return f"{size_name(self.size)}, window {self.window}"


@dataclass(frozen=True, slots=True)
class Run:
    """One order to a caller: make `count` calls, `window` of them in flight, and say how long it took."""

    size: int
    window: int
    count: int


@dataclass(frozen=True, slots=True)
class Plan:
    """The whole bench."""

    rounds: int
    seconds: float
    """What one measurement should take; the number of calls is chosen to fit."""
    sizes: tuple[int, ...]
    windows: tuple[int, ...]

    def cells(self) -> list[Cell]:
        """All squares, in the order in which each round visits them."""
        return [Cell(size, window) for size in self.sizes for window in self.windows]

    def as_json(self) -> dict[str, object]:
        """For the result file."""
        return asdict(self)


def size_name(size: int) -> str:
    """``small``, ``1 KiB`` or ``64 KiB``; other sizes in bytes."""
    if size == SMALL:
        return "small"
    return f"{size // 1024} KiB" if size % 1024 == 0 else f"{size} B"


def parse_size(text: str) -> int:
    """Take ``small``, ``1k``, ``64k`` or a number of bytes.

    Raises ValueError for anything else, and for strings too short to hold the number of their call.
    """
    if text in SIZES:
        return SIZES[text]
    if not text.isdecimal() or int(text) < SHORTEST:
        raise ValueError(f"a body is small, 1k, 64k or a number of bytes from {SHORTEST} on, not {text!r}")
    return int(text)
