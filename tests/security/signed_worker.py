"""A worker that signs, as a process of its own: URL, name, and how far its clock is ahead, in seconds."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator

import amqproxy

KEYS = {"old": b"o" * 32, "new": b"n" * 32}
SIGNING = amqproxy.Signing(keys=KEYS, key="new")


class Ledger:
    async def add(self, x: int, y: int) -> int:
        return x + y

    async def count(self, to: int) -> AsyncIterator[int]:
        for number in range(to):
            yield number

    async def hold(self, text: str) -> str:
        print("holding", text, flush=True)
        await asyncio.Event().wait()
        return text


async def main(url: str, name: str) -> None:
    async with amqproxy.connect(url, signing=SIGNING) as mq, mq.serve(Ledger(), name=name, auto_delete=True):
        print("serving", flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    ahead, wall_clock = float(sys.argv[3]), time.time
    time.time = lambda: wall_clock() + ahead
    asyncio.run(main(*sys.argv[1:3]))
