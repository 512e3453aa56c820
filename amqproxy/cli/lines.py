"""JSON that commands write: as it is for programs, and in a terminal with escapes for what is not printable."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import typer

from ..shown import shown_json

if TYPE_CHECKING:
    from rich.text import Text


def encoded(value: Any) -> bytes:
    """The value as JSON on one line; what JSON has no word for is there as text."""
    import msgspec

    return msgspec.json.encode(value, enc_hook=str)


def line(value: Any, *, err: bool = False) -> None:
    """Write it as a line of JSON, to stdout or stderr."""
    file, text = sys.stderr if err else sys.stdout, encoded(value).decode()
    typer.echo(shown_json(text) if file is not None and file.isatty() else text, err=err)


def pretty(value: Any) -> Text:
    """The value as JSON over several lines, with colours, for a terminal."""
    import msgspec
    from rich.highlighter import JSONHighlighter

    return JSONHighlighter()(shown_json(msgspec.json.format(encoded(value), indent=2).decode()))
