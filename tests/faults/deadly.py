"""What dies of its work: served by worker processes of the tests."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import amqproxy


@amqproxy.serve("tests.deadly", quorum=True, delivery_limit=2)
class Deadly:
    def work(self, journal: str) -> None:
        """Say that it ran, and take the process along."""
        with Path(journal).open("a") as file:
            file.write("ran\n")
        os.kill(os.getpid(), signal.SIGKILL)

    async def ping(self) -> str:
        return "pong"
