"""The arguments of `amqproxy call`: JSON where they are JSON, else text."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, TextIO

import msgspec

from .failure import UsageError

_NAMED = re.compile(r"([^\W\d]\w*)=(.*)", re.DOTALL)
"""A name as Python has them. A text that looks so is given as JSON: '"x=1"'."""
STDIN = "-"

Arguments = tuple[Sequence[Any], Mapping[str, Any]]
"""Positional and named."""


def parse(words: Sequence[str], stdin: TextIO) -> Arguments:
    """Read the words, or what is on `stdin` if they are a single dash; UsageError says what is wrong."""
    if list(words) == [STDIN]:
        return _body(stdin.read())
    positional: list[Any] = []
    named: dict[str, Any] = {}
    for word in words:
        match = _NAMED.fullmatch(word)
        if match is None:
            positional.append(_value_not_option(word))
        elif match[1] in named:
            raise UsageError(f"{match[1]} is given twice")
        else:
            named[match[1]] = value(match[2])
    if positional and named:
        raise UsageError(
            "give all arguments by position or all by name; only the worker knows which position a name has "
            f"(a text with = in it is given as JSON: '\"{next(iter(named))}=…\"')"
        )
    return positional, named


def value(text: str) -> Any:
    """What JSON makes of it, else the text itself."""
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeEncodeError):
        return text


def _value_not_option(word: str) -> Any:
    """Tell a number such as -2 from a mistyped option: click hands on all that begins with a dash."""
    found = value(word)
    if word.startswith("-") and isinstance(found, str):
        raise UsageError(f"there is no option {word} (a text that begins with a dash is given as JSON: '\"{word}\"')")
    return found


def _body(text: str) -> Arguments:
    try:
        body = msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeEncodeError) as error:
        raise UsageError(f"what came on stdin is no JSON: {error}") from error
    if isinstance(body, list):
        return body, {}
    if isinstance(body, dict):
        return (), body
    raise UsageError(
        f"on stdin there was {text.strip()[:40]}, which is neither an array of arguments by position "
        "nor an object of arguments by name"
    )
