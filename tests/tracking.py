"""A program that shows progress bars: python tracking.py URL NAME WHAT."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator

import amqproxy


class Slow:
    async def train(self, label: str) -> str:
        for step in range(5):
            amqproxy.current().progress(step, 5, f"[bold]{label}[/] \x1b[2J{step}")
            await asyncio.sleep(0.3)
        return f"{label} is trained"

    async def search(self) -> str:
        """Tell no total."""
        amqproxy.current().progress(None, None, "somewhere")
        await asyncio.sleep(0.3)
        return "found"

    async def rows(self, count: int) -> AsyncIterator[int]:
        for number in range(count):
            yield number
            await asyncio.sleep(0.05)

    async def fail(self) -> None:
        raise KeyError("lost")


async def main(url: str, name: str, what: str) -> None:
    async with amqproxy.connect(url) as mq, mq.serve(Slow(), name=name, auto_delete=True):
        slow = mq.proxy(Slow, name=name)
        match what:
            case "one":
                print(await amqproxy.track(slow.train("model"), "training [1/2]"))
            case "unknown":
                print(await amqproxy.track(slow.search()))
            case "two":
                both = amqproxy.track(slow.train("first")), amqproxy.track(slow.train("second"))
                print(await asyncio.gather(*both))
            case "stream":
                async for row in amqproxy.track(slow.rows(10), "rows"):
                    print(row)
            case "leave":
                async for row in amqproxy.track(slow.rows(1000), "rows"):
                    print(row)
                    if row == 5:
                        break
            case "fail":
                try:
                    await amqproxy.track(slow.fail(), "failing")
                except KeyError as error:
                    print(f"raised {error}")


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
