"""A service whose calls take their time, for tests that watch its workers, stop and kill them.

Run as a script, with a URL and a name, it serves itself.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import time
from collections.abc import AsyncIterator, Iterator

import amqproxy


@amqproxy.serve("tests.toiler", auto_delete=True, arguments={"x-expires": 60_000})
class Toiler:
    """Says on stdout what it begins, and what is cancelled."""

    async def pid(self) -> int:
        return os.getpid()

    async def toil(self, steps: int, pause: float = 0.0) -> str:
        for step in range(1, steps + 1):
            amqproxy.current().progress(step, steps, f"step {step}")
            await asyncio.sleep(pause)
        return "done"

    def grind(self, steps: int, pause: float = 0.0) -> str:
        for step in range(1, steps + 1):
            amqproxy.current().progress(step, steps, f"step {step}")
            time.sleep(pause)
        return "done"

    async def wait(self, pid: int = 0) -> int:
        """Never return, but in a process that is not `pid`."""
        if pid and pid != os.getpid():
            return os.getpid()
        say("waiting")
        try:
            await asyncio.Event().wait()
        finally:
            say("stopped waiting")
        raise AssertionError

    async def block(self) -> None:
        """Do what no async handler should: hold up the event loop."""
        say("blocking")
        time.sleep(60)  # noqa: ASYNC251

    async def rows(self, count: int, pause: float = 0.0) -> AsyncIterator[int]:
        try:
            for number in range(count):
                amqproxy.current().progress(number, count)
                yield number
                await asyncio.sleep(pause)
        finally:
            say("stopped the rows")

    def plain_rows(self, count: int) -> Iterator[int]:
        for number in range(count):
            amqproxy.current().progress(number, count)
            yield number

    async def total(self, numbers: AsyncIterator[int]) -> int:
        found = 0
        async for number in numbers:
            found += number
            amqproxy.current().progress(found)
        return found


def say(word: str) -> None:
    print(word, flush=True)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    url, name = sys.argv[1:]
    amqproxy.run(Toiler(), url, name=name)
