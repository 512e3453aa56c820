"""Signs of life: how often a caller wants them, and how far its call is, which they may tell."""

from __future__ import annotations

import math
import operator
from collections.abc import Mapping
from typing import Any

import msgspec

from .wire import HEARTBEAT_HEADER, whole_number

MIN_HEARTBEAT = 0.05
"""Seconds between two signs of life, at least: a worker that is asked for more gives so many."""
MAX_HEARTBEAT = 24 * 3600.0
"""Seconds between them, at most."""
MAX_NOTE = 1000
"""Characters of a note that travel; the rest is dropped."""


def heartbeat_of(headers: Mapping[str, Any]) -> float | None:
    """Seconds between the signs of life that a request asks for, within our limits.

    None if it asks for none: without the header, with 0, or with what is no number of milliseconds.
    """
    try:
        asked = whole_number(headers.get(HEARTBEAT_HEADER, 0), HEARTBEAT_HEADER)
    except ValueError:
        return None
    return min(max(MIN_HEARTBEAT, asked / 1000), MAX_HEARTBEAT) if asked else None


class Progress(msgspec.Struct, frozen=True):
    """How far a call is, as its handler tells it."""

    done: int | float | None = None
    """How much is done, in whatever the handler counts."""
    total: int | float | None = None
    """How much there is to do, where that is known."""
    note: str | None = None
    """What the handler says besides."""


NOTHING = Progress()
"""A sign of life that tells no more than that."""

_decoder = msgspec.json.Decoder(Progress)


def progress_of(done: Any, total: Any = None, note: Any = None) -> Progress:
    """The progress that these tell; TypeError or ValueError if they are no numbers that JSON has, or no text."""
    if note is not None:
        if not isinstance(note, str):
            raise TypeError(f"the note of a progress is a str, not {note!r}")
        note = note[:MAX_NOTE].encode(errors="backslashreplace").decode()
    return Progress(_amount("done", done), _amount("total", total), note)


def _amount(name: str, value: Any) -> int | float | None:
    """A number of Python's own, of whichever library the value is."""
    if value is None or (type(value) is int and abs(value) < 2**63):
        return value
    try:
        number = _number(value)
    except (TypeError, ValueError):
        raise TypeError(f"{name} of a progress is a number or None, not {value!r}") from None
    except OverflowError:
        number = math.inf
    if not math.isfinite(number) or abs(number) >= 2**63:
        raise ValueError(f"{name} of a progress is finite and has 64 bits at most, not {value!r}")
    return number


def _number(value: Any) -> int | float:
    if isinstance(value, (bool, str, bytes, bytearray)):  # of which the last three are numbers to `float`
        raise TypeError
    try:
        return operator.index(value)
    except TypeError:
        return float(value)


def encode_progress(progress: Progress) -> bytes:
    """The body of an Alive that tells of it."""
    told = msgspec.structs.asdict(progress).items()
    return msgspec.json.encode({name: value for name, value in told if value is not None})


def decode_progress(body: bytes) -> Progress:
    """What the body of an Alive tells; ValueError if it makes no sense."""
    if not body:
        return NOTHING
    try:
        return _decoder.decode(body)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise ValueError(f"a progress that does not decode: {error}") from error
