"""What is asked for, and the file that comes of it."""

from __future__ import annotations

from dataclasses import dataclass

from .service import Service


@dataclass(frozen=True, slots=True)
class Order:
    """A client that is to be written."""

    service: Service
    command: str
    """The command that writes it, for the first lines of the file."""
    package: str | None = None
    """Its package, in languages that have them."""


@dataclass(frozen=True, slots=True)
class Source:
    """A source file."""

    name: str
    text: str
