"""What others have sent, as logs, errors and terminals show it."""

from __future__ import annotations

import json

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


def shown_lines(text: str) -> str:
    """The text with its line breaks, each line `shown`; all but the first are indented: none forges one of ours."""
    return "\n  ".join(map(shown, text.expandtabs().split("\n")))


def shown_json(text: str) -> str:
    """A text of JSON that means the same, with escapes for what is not printable; its line breaks stay."""
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() or each == "\n" else json.dumps(each)[1:-1] for each in text)


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
