"""What others have sent, as logs, errors and terminals show it."""

from __future__ import annotations

import json

from .errors import RemoteError
from .fields import Malformed
from .properties import Properties

LONGEST = 100
"""Bytes of a property that are shown; the others are cut off."""

MAX_FAILURE = 1000
"""Letters of a failure that are shown, with the mark of what was cut off: a handler may quote all that it was sent."""

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


def cut(text: str, most: int) -> str:
    """The text in so many letters at most, of which the last one tells if there were more."""
    return text if len(text) <= most else f"{text[: most - 1]}…"


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
    """What became of a call, without the traceback: in so few letters that a log can take it."""
    text = shown(told(failure, MAX_FAILURE + 1))  # one more, for a mark even if nothing needs an escape
    return f"{cut(text, MAX_FAILURE)} (executed: {failure.executed})"


def told(failure: RemoteError, most: int) -> str:
    """The type and what it says, in so many letters at most."""
    kind, message = failure.type[: most + 1], failure.message[: most + 1]
    return cut(f"{kind}: {message}" if message else kind, most)
