"""One of several services that call each other in a chain: python hop.py URL NAME [NEXT]."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import AsyncIterator
from typing import Any

import amqproxy


class Hop:
    """Asks the next one, if there is one, and says what becomes of it."""

    def __init__(self, next: Any) -> None:
        self._next = next

    async def left(self, pause: float = 0.0) -> list[float | None]:
        """How much time this one has, and all behind it, each of which takes some of it."""
        found = [amqproxy.current().time_left]
        await asyncio.sleep(pause)
        return found if self._next is None else found + await self._next.left(pause)

    async def left_behind_bounds(self, seconds: float | None, own: float) -> list[float | None]:
        """The same, where each one sets bounds of its own."""
        found = [amqproxy.current().time_left]
        if self._next is None:
            return found
        with amqproxy.deadline(seconds):
            behind: list[float | None] = await amqproxy.options(self._next, timeout=own).left_behind_bounds(
                seconds, own
            )
            return found + behind

    async def hang(self, own: float | None = None) -> None:
        """Never return; with a timeout for the next one that is longer than the caller's own."""
        say("hanging")
        try:
            if self._next is None:
                await asyncio.Event().wait()
            else:
                await (self._next if own is None else amqproxy.options(self._next, timeout=own)).hang(own)
        finally:
            say("ended")

    async def read(self) -> None:
        """Never stop reading a stream of the next one, which does so itself or never ends."""
        say("hanging")
        try:
            async for _ in self._next.endless():
                await asyncio.sleep(0)
        finally:
            say("ended")

    async def endless(self) -> AsyncIterator[int]:
        say("hanging")
        try:
            number = 0
            while True:
                if self._next is not None and number == 3:
                    await self._next.hang()
                yield number
                number += 1
        finally:
            say("ended")


def say(word: str) -> None:
    print(word, flush=True)


async def main(url: str, name: str, *next: str) -> None:
    async with amqproxy.connect(url) as mq:
        hop = Hop(mq.proxy(next[0]) if next else None)
        async with mq.serve(hop, name=name, auto_delete=True, arguments={"x-expires": 60_000}):
            await asyncio.Event().wait()


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    asyncio.run(main(*sys.argv[1:]))
