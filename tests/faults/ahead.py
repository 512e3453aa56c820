"""A worker whose clock is wrong, as a process of its own: URL, name, and by how many seconds."""

from __future__ import annotations

import asyncio
import sys
import time

import amqproxy


class Watch:
    async def left(self) -> float | None:
        return amqproxy.current().time_left

    async def now(self) -> float:
        return time.time()

    async def wait(self) -> None:
        await asyncio.Event().wait()


async def main(url: str, name: str) -> None:
    async with amqproxy.connect(url) as mq, mq.serve(Watch(), name=name, auto_delete=True):
        print("serving", flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    ahead, wall_clock = float(sys.argv[3]), time.time
    time.time = lambda: wall_clock() + ahead
    asyncio.run(main(*sys.argv[1:3]))
