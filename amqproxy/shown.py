"""What others have sent, as logs and errors show it."""

from __future__ import annotations


def shown(text: str | bytes) -> str:
    """The text on one line, with escapes for what is not printable: it begins no line of a log and moves no cursor."""
    if isinstance(text, bytes):
        text = text.decode(errors="backslashreplace")
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)
