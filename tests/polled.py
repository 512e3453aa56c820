"""What the worker processes of the tests of broadcasts serve; run as a script it serves itself."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from collections.abc import AsyncIterator
from typing import NoReturn

import amqproxy


class Polled:
    """Says what becomes of each of its calls."""

    async def pid(self) -> int:
        return os.getpid()

    async def only(self, pids: list[int]) -> int:
        """Answer if this process is one of these, else wait to be cancelled."""
        return os.getpid() if os.getpid() in pids else await wait()

    async def numbers(self, to: int) -> AsyncIterator[int]:
        for number in range(to):
            yield number
        if to > 100:
            await wait()

    async def note(self, text: str) -> None:
        say(f"noted {text}")


async def wait() -> NoReturn:
    say("waiting")
    try:
        await asyncio.Event().wait()
    finally:
        say("stopped")
    raise AssertionError


def say(word: str) -> None:
    print(word, flush=True)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    url, name = sys.argv[1:]
    amqproxy.run(Polled(), url, name=name, auto_delete=True)
