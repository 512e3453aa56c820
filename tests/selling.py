"""A shop whose requests have headers that just fit a frame: python selling.py URL NAME serve|send|call."""

from __future__ import annotations

import asyncio
import sys

import amqproxy


class Shop:
    async def sell(self, what: str) -> str:
        print("sold", what, "with", *sorted(amqproxy.current().headers), flush=True)
        return f"sold {what}"


async def main(url: str, name: str, part: str) -> None:
    async with amqproxy.connect(url) as mq:
        if part == "serve":
            async with mq.serve(Shop(), name=name, auto_delete=True, concurrency=2):
                print("serving", name, flush=True)
                await asyncio.Event().wait()
        elif part == "send":
            for what in ("grown", "ripe", "old"):
                await mq.sender(Shop, name=name, delay=0.2, headers={"a": "x" * 130_800}).sell(what)
        else:
            print("answers:", await mq.proxy(Shop, name=name, timeout=10).sell("small"), flush=True)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
