"""What the worker processes of the tests serve; run as a script it serves itself."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import time
from pathlib import Path

import amqproxy
from amqproxy.runner import run


@amqproxy.serve("tests.served", auto_delete=True, arguments={"x-expires": 60_000})
class Patient:
    """Does as it is told, and says so."""

    async def add(self, x: int, y: int) -> int:
        return x + y

    async def greet(self, name: str = "you") -> str:
        return f"hello {name}"

    async def divide(self, x: float, y: float) -> float:
        return x / y

    async def pid(self) -> int:
        return os.getpid()

    def hold(self, fifo: str) -> str:
        """Return what is written to a named pipe, when it is."""
        say("holding")
        return Path(fifo).read_text()

    async def never(self) -> None:
        say("waiting")
        await asyncio.Event().wait()

    async def deaf(self) -> None:
        """Refuse to be cancelled."""
        say("waiting")
        while True:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                say("not listening")

    async def block(self) -> None:
        """Do what no async handler should: hold up the event loop."""
        say("blocking")
        while True:
            time.sleep(60)  # noqa: ASYNC251


@amqproxy.serve("tests.shout", auto_delete=True, arguments={"x-expires": 60_000})
async def shout(text: str) -> str:
    return text.upper()


class Demanding:
    def __init__(self, database: object) -> None:
        self.database = database

    async def ping(self) -> None: ...


class Unservable:
    async def add(self, *numbers: int) -> int:
        return sum(numbers)


def say(word: str) -> None:
    print(word, flush=True)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    url, name = sys.argv[1:]
    run(Patient(), url, name=name)
