"""A worker whose handlers say in a file how often they ran, and that is killed meanwhile.

    python ledger.py URL NAME FILE [OPTION=VALUE …]

It hangs in the first run of each entry, takes so many seconds for it, whoever cancels it, or dies behind it, as OPTION
says: hang=1, slow=SECONDS, or dies=handler. With store=URL calls are de-duplicated by that Redis, and with dies=store
it dies when the reply is kept there.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import amqproxy
from amqproxy.redis import RedisStore
from amqproxy.runner import run


def say(word: str) -> None:
    print(word, flush=True)


class Ledger:
    def __init__(self, file: str = "", hang: bool = False, slow: float = 0.0) -> None:
        self.file = Path(file)
        self.hang = hang
        self.slow = slow

    async def book(self, entry: str) -> str:
        """Write an entry down, once more; which worker did, and how often it was done."""
        return await self._book(entry)

    @amqproxy.method(at_most_once=True)
    async def pay(self, entry: str) -> str:
        return await self._book(entry)

    async def _book(self, entry: str) -> str:
        with self.file.open("a") as file:
            file.write(f"{entry}\n")
        times = runs(self.file, entry)
        say(f"booked {entry}")
        if self.hang and times == 1:
            await asyncio.Event().wait()
        if self.slow and times == 1:
            with suppress(asyncio.CancelledError):  # what was begun is answered, be it for nobody
                await asyncio.sleep(self.slow)
            say(f"answers {entry}")
        return f"{entry} {times}"


def runs(file: Path, entry: str) -> int:
    """How often an entry was written down."""
    return file.read_text().splitlines().count(entry) if file.exists() else 0


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


async def dying(call: Any, next: amqproxy.Next) -> Any:
    """Die when the handler has run, and nobody knows yet."""
    result = await next(call)
    if result.endswith(" 1"):
        die()
    return result


class DyingStore(RedisStore):
    """Die when the reply is kept, and nobody was answered yet."""

    async def keep(self, key: str, owner: str, reply: bytes, seconds: float) -> None:
        await super().keep(key, owner, reply, seconds)
        die()


def main(url: str, name: str, file: str, *given: str) -> None:
    options = dict(one.split("=", 1) for one in given)
    serving: dict[str, Any] = {"arguments": {"x-expires": 60_000}}
    if options.get("dies") == "handler":
        serving["middleware"] = [dying]
    if "store" in options:
        kind = DyingStore if options.get("dies") == "store" else RedisStore
        serving["deduplicate"] = amqproxy.Deduplication(store=kind(options["store"]), lease=1.0)
    logging.basicConfig(level=logging.INFO)
    run(Ledger(file, "hang" in options, float(options.get("slow", 0))), url, name=name, **serving)


if __name__ == "__main__":
    main(*sys.argv[1:])
