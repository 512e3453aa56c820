"""Help texts as typer wants them."""

from __future__ import annotations

from inspect import cleandoc


def prose(text: str) -> str:
    r"""Let paragraphs flow to the width of the terminal; those that begin with \b keep their lines."""
    paragraphs = cleandoc(text).split("\n\n")
    return "\n\n".join(each if each.startswith("\b") else each.replace("\n", " ") for each in paragraphs)
