"""Journals of processes that may be killed at any moment: one line of JSON for each thing that happened."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

Record = Mapping[str, Any]


class Journal:
    """A file that lines are added to, each by a system call of its own.

    What was written stays when the process is killed, for the system has it. It is not forced to the disk: no power is
    cut here, and the processes would wait for the disk more than for each other.
    """

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def note(self, what: str, token: str = "", **facts: Any) -> None:
        """Write down that something happened now, by the clock that all processes of a machine share."""
        line = json.dumps({"at": round(time.monotonic(), 6), "what": what, "token": token, **facts})
        os.write(self._file, line.encode() + b"\n")


def read(path: Path, offset: int = 0) -> Iterator[Record]:
    """What a journal has from a byte on, where a line begins; a last line that was cut off is passed over."""
    if not path.exists():
        return
    with path.open(encoding="utf-8") as lines:
        lines.seek(offset)
        for line in lines:
            if line.endswith("\n"):
                yield json.loads(line)
