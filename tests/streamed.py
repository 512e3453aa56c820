"""A service of streams and a caller of it, for tests that watch their processes, stop and kill them.

Run as a script, `serve URL NAME [GRACE]` serves it, and `call URL NAME WHAT` calls it.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import amqproxy
from amqproxy.runner import run

CREDIT = 32
"""What the caller gives."""


@amqproxy.serve("tests.streamed", auto_delete=True, arguments={"x-expires": 60_000})
class Streamed:
    """Says on stdout what ends, and how far it came."""

    def __init__(self) -> None:
        self.made = 0

    async def pid(self) -> int:
        return os.getpid()

    async def produced(self) -> int:
        """How many items all streams have yielded."""
        return self.made

    async def peak(self) -> int:
        """The most memory that this process had, in bytes."""
        return peak()

    async def count(self, to: int, pause: float = 0.0, size: int = 0) -> AsyncIterator[str]:
        say("counting")
        try:
            for number in range(to):
                self.made += 1
                yield f"{number}{'x' * size}"
                if pause:
                    await asyncio.sleep(pause)
        finally:
            await asyncio.sleep(0.05)  # cleaning up takes its time, and nothing may cut it short
            say("stopped counting")

    def count_in_thread(self, to: int) -> Iterator[str]:
        say("counting")
        try:
            for number in range(to):
                self.made += 1
                yield str(number)
        finally:
            say("stopped counting")

    async def stall(self) -> AsyncIterator[str]:
        say("counting")
        try:
            yield "0"
            await asyncio.Event().wait()
        finally:
            say("stopped counting")

    async def late(self, pid: int = 0) -> AsyncIterator[int]:
        """Yield nothing at first in the process `pid`, and its own id in others."""
        say("counting")
        try:
            if pid == os.getpid():
                await asyncio.Event().wait()
            yield os.getpid()
        finally:
            say("stopped counting")

    async def total(self, words: AsyncIterator[str]) -> int:
        say("reading")
        try:
            return len([word async for word in words])
        finally:
            say("stopped reading")

    def total_in_thread(self, words: Iterator[str]) -> int:
        say("reading")
        try:
            return sum(1 for _ in words)
        finally:
            say("stopped reading")

    async def wait(self) -> None:
        say("waiting")
        try:
            await asyncio.Event().wait()
        finally:
            say("stopped waiting")

    def poll(self) -> bool:
        """Wait in a thread until the caller wants no result any more."""
        say("polling")
        call, end = amqproxy.current(), time.monotonic() + 30
        while not call.cancelled and time.monotonic() < end:
            time.sleep(0.005)
        say("stopped polling" if call.cancelled else "polled for too long")
        return call.cancelled

    async def deaf(self) -> None:
        """Refuse to be cancelled."""
        say("not listening")
        while True:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                say("told to stop")


async def feed(items: int = sys.maxsize, size: int = 0) -> AsyncIterator[str]:
    """What a caller feeds; says how much that was."""
    fed = 0
    try:
        while fed < items:
            fed += 1
            yield "x" * size
    finally:
        say(f"fed {fed}")


async def call(url: str, name: str, what: str) -> None:
    """Make one call and keep it, in one of the ways that are below; ends when its process is ended."""
    told = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, told.set)
    async with amqproxy.connect(url) as mq:
        served: Any = mq.proxy(Streamed, name=name, credit=CREDIT)
        match what:
            case "hold" | "hold in thread" | "hold large":
                stream = {
                    "hold": lambda: served.count(sys.maxsize),
                    "hold in thread": lambda: served.count_in_thread(sys.maxsize),
                    "hold large": lambda: served.count(sys.maxsize, 0.0, 200_000),
                }[what]()
                say(f"took {(await anext(stream))[:1]}")
                await told.wait()  # and does not read until then
                say(f"peak {peak()}")
                say(f"took {(await anext(stream))[:1]}")
                await asyncio.Event().wait()
            case "read":
                async for item in served.count(sys.maxsize, 0.001):
                    if item == "10":
                        say("took 10")
            case "stall":
                async for item in served.stall():
                    say(f"took {item}")
            case "feed":
                say("feeding")
                await served.total(feed())
            case "wait":
                say("calling")
                await served.wait()
            case "collect":
                say("calling")
                await mq.proxy(name).stall()


def peak() -> int:
    """The most memory since this program was begun; getrusage counts what the one had that started it, too."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))


def say(word: str) -> None:
    print(word, flush=True)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    match sys.argv[1:]:
        case "serve", url, name, *grace:
            options: dict[str, Any] = {"grace": float(grace[0])} if grace else {}
            run(Streamed(), url, name=name, **options)
        case "call", url, name, what:
            asyncio.run(call(url, name, what))
        case _:
            sys.exit(__doc__)
