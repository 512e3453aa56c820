"""Which queues a message may name as the place for an answer.

Whoever answers writes with its own permissions to a queue that somebody else has named. Unless these names are looked
at, a request could make a worker write to the queue of another service, where its sender may not write himself.
"""

from __future__ import annotations

import re

from .options import REPLY_QUEUES


class Addresses:
    """The names that a regular expression describes as a whole."""

    __slots__ = ("_pattern",)

    def __init__(self, pattern: str) -> None:
        self._pattern = re.compile(pattern)

    def include(self, name: bytes) -> bool:
        """Whether a queue of this name may be written to; never if the name is no printable text."""
        try:
            text = name.decode()
        except UnicodeDecodeError:
            return False
        return text.isprintable() and self._pattern.fullmatch(text) is not None


WORKERS = Addresses(REPLY_QUEUES)
"""Those of workers: wire.md lets the broker name the queue that a worker has for itself."""
