"""What the tests of faults call: it notes what it runs. Run as a script it serves itself."""

from __future__ import annotations

import asyncio
import os
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import amqproxy
from amqproxy.runner import run
from tests.processes import Running, running


class Diary:
    """Each call has a number of its own, which is noted when it runs and comes back doubled."""

    def __init__(self, journal: Path | None = None) -> None:
        self.open = asyncio.Event()
        """Until it is set, `wait` does not answer."""
        self.entered = asyncio.Semaphore(0)
        """Released by each `wait`."""
        self.ran: Counter[int] = Counter()
        self._journal = journal

    async def note(self, number: int) -> int:
        self._note(number)
        return 2 * number

    async def wait(self, number: int) -> int:
        self._note(number)
        self.entered.release()
        await self.open.wait()
        return 2 * number

    def _note(self, number: int) -> None:
        self.ran[number] += 1
        if self._journal is not None:
            with self._journal.open("a") as file:
                file.write(f"{number}\n")
                file.flush()
                os.fsync(file.fileno())

    def again(self, numbers: Iterable[int]) -> int:
        """Runs of these beyond the first of each."""
        return sum(self.ran[number] - 1 for number in numbers if self.ran[number])

    async def all_entered(self, calls: int) -> None:
        async with asyncio.timeout(30):
            for _ in range(calls):
                await self.entered.acquire()


@asynccontextmanager
async def diary(url: str, service: str, **options: Any) -> AsyncIterator[Diary]:
    """A worker of this process, on a connection of its own."""
    handler = Diary()
    async with amqproxy.connect(url, name="worker", heartbeat=2) as mq, mq.serve(handler, name=service, **options):
        yield handler
        handler.open.set()


@asynccontextmanager
async def diary_process(url: str, service: str, journal: Path) -> AsyncIterator[Running]:
    """A worker of another process, which notes what it runs in a file."""
    async with running("-m", "tests.faults.diary", url, service, str(journal)) as process:
        await process.says("serving")
        yield process


def noted(journal: Path) -> Counter[int]:
    """What a file says was run, and how often."""
    return Counter(map(int, journal.read_text().split())) if journal.exists() else Counter()


if __name__ == "__main__":
    import logging

    logging.basicConfig(level=logging.INFO)
    logging.getLogger("aiormq").setLevel(logging.CRITICAL)
    address, name, file = sys.argv[1:]
    handler = Diary(Path(file))
    handler.open.set()
    run(handler, address, name=name)
