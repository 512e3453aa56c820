"""The template files: text with `%%{name}` where something belongs."""

from __future__ import annotations

import json
import re
import string
import textwrap
from collections.abc import Iterator, Sequence
from functools import cache
from importlib.resources import files
from itertools import groupby

_LINE_ENDS = re.compile("[\x85\u2028\u2029]")
"""Those that JSON does not escape."""


class _Template(string.Template):
    """With a delimiter that none of the four languages has; JavaScript has its own use for `$`."""

    delimiter = "%%"


@cache
def _template(name: str) -> _Template:
    return _Template(files(__package__).joinpath("templates", f"{name}.tmpl").read_text(encoding="utf-8"))


def fill(template: str, **pieces: str) -> str:
    """The template's text with the pieces in it; KeyError if one is missing."""
    return _template(template).substitute(pieces)


def indented(text: str, width: int) -> str:
    """Moved to the right by so many spaces, but for empty lines."""
    return textwrap.indent(text, " " * width)


def comment(text: str, mark: str) -> str:
    """Each line behind a mark of comments, without spaces at the end."""
    return "\n".join(f"{mark} {line}".rstrip() for line in text.splitlines())


def block_comment(text: str, *, end: str = "*\\/") -> str:
    """A comment in `/**` and `*/`; `end` stands for the latter inside of it."""
    lines = text.replace("*/", end).splitlines()
    if len(lines) == 1:
        return f"/** {lines[0]} */"
    return "\n".join(["/**", *(f" * {line}".rstrip() for line in lines), " */"])


def spans(text: str) -> Iterator[tuple[bool, str]]:
    """The parts of a docstring, each with whether it is indented: that is code, or something like `Args`."""
    for is_indented, group in groupby(text.splitlines(), key=lambda line: line[:1].isspace() and bool(line.strip())):
        part = textwrap.dedent("\n".join(line.rstrip() for line in group)).strip("\n")
        if part:
            yield is_indented, part


def paragraphs(*parts: str) -> str:
    """Those that are not empty, with an empty line between each two."""
    return "\n\n".join(part for part in parts if part)


def listed(before: str, items: list[str], after: str, *, width: int, step: int = 2, last: str = "") -> str:
    """Items with commas between brackets, on one line if it fits, else on one each; `last` ends the last of those."""
    line = f"{before}{', '.join(items)}{after}"
    if len(line) <= width or not items:
        return line
    inner = indented(",\n".join(items), step)
    return f"{before}\n{inner}{last}\n{after}"


def sentence_of(reason: str) -> str:
    """What is said in the place of a method that is left out."""
    return f"Left out: {reason}."


def literal(value: object) -> str:
    """A text or number as all four languages write it, on one line for `str.splitlines`; Ruby wants a little more."""
    return _LINE_ENDS.sub(lambda found: f"\\u{ord(found[0]):04x}", json.dumps(value, ensure_ascii=False))


def one_of(values: Sequence[object]) -> str:
    """What is said of a value that must be one of these."""
    return f"one of {', '.join(map(literal, values))}" if len(values) > 1 else f"always {literal(values[0])}"
