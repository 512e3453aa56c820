"""What others have sent, as logs and errors show it."""

from __future__ import annotations

from .errors import RemoteError
from .fields import Malformed
from .properties import Properties

LONGEST = 100
"""Bytes of a property that are shown; the others are cut off."""

_FOUND_BY = ("message_id", "correlation_id", "user_id", "app_id")


def shown(text: str | bytes) -> str:
    """The text on one line, with escapes for what is not printable: it begins no line of a log and moves no cursor."""
    if isinstance(text, bytes):
        text = text.decode(errors="backslashreplace")
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)


def shown_message(header: bytes) -> str:
    """A message by its properties: what it is called, and what it, or its sender, can be found by."""
    try:
        properties = Properties.decode(header)
    except Malformed:
        return "a message whose properties do not decode"
    found = {name.replace("_", "-"): getattr(properties, name) for name in _FOUND_BY}
    told = ", ".join(f"{name} {shown(value[:LONGEST])}" for name, value in found.items() if value)
    kind = shown((properties.content_type or b"")[:LONGEST]) or "a message without a content-type"
    return f"{kind} ({told})" if told else kind


def shown_failure(failure: RemoteError) -> str:
    """What became of a call, without the traceback."""
    text = f"{failure.type}: {failure.message}" if failure.message else failure.type
    return f"{shown(text)} (executed: {failure.executed})"
