"""What the tests of the command line call, send to and ask."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from typing import Any, NoReturn

import amqproxy


class Typed:
    """Says what becomes of calls that take longer."""

    async def add(self, x: int, y: int = 0) -> int:
        return x + y

    async def pid(self) -> int:
        return os.getpid()

    async def divide(self, x: float, y: float) -> float:
        return x / y

    async def only(self, pid: int) -> int:
        """Divide by zero in this process, and in others by one."""
        return 1 // int(os.getpid() != pid)

    async def wait(self) -> None:
        await forever()

    async def count(self, to: int) -> AsyncIterator[int]:
        """Numbers, and when they are negative none of them is the last."""
        try:
            for number in range(abs(to)):
                yield number
            if to < 0:
                await forever()
        finally:
            say("counted")

    async def stumble(self) -> AsyncIterator[dict[str, int]]:
        yield {"a": 1}
        raise LookupError("no second row")

    async def fetch(self, size: int) -> amqproxy.Blob:
        return amqproxy.Blob(self.bytes(size))

    async def bytes(self, size: int) -> AsyncIterator[bytes]:
        try:
            for start in range(0, size, 100_000):
                yield bytes(number % 251 for number in range(start, min(size, start + 100_000)))
        finally:
            say("fetched")

    async def train(self) -> str:
        """Be half done for ever."""
        amqproxy.current().progress(50, 100, "epoch 5")
        await forever()

    async def trained(self, epochs: int) -> str:
        for epoch in range(epochs):
            amqproxy.current().progress(epoch + 1, epochs)
        return "a model"

    async def header(self, name: str) -> Any:
        return amqproxy.current().headers.get(name)

    async def note(self, text: str) -> None:
        said = amqproxy.current().properties
        say(f"noted {text}, priority {said.priority}, delivery mode {said.delivery_mode}, reply to {said.reply_to!r}")
        if text == "fail":
            raise LookupError


async def forever() -> NoReturn:
    say("waiting")
    try:
        await asyncio.Event().wait()
    finally:
        say("stopped")
    raise AssertionError


def say(word: str) -> None:
    print(word, flush=True)
