"""What the worker of the stream bench serves: it counts what it has produced, for the other end to see."""

import os
from collections.abc import AsyncIterator

import amqproxy
from amqproxy import Blob

from .usage import peak_bytes

CHUNK = bytes(256 * 1024)


@amqproxy.serve("bench.streams", auto_delete=True)
class Streams:
    """Streams as fast as it may."""

    def __init__(self) -> None:
        self._produced = 0

    async def count(self, to: int) -> AsyncIterator[int]:
        """Yield the numbers below `to`."""
        self._produced = 0
        for number in range(to):
            self._produced += 1
            yield number

    async def texts(self, size: int) -> AsyncIterator[str]:
        """Yield texts without end."""
        self._produced = 0
        text = "x" * size
        while True:
            self._produced += 1
            yield text

    async def add(self, numbers: AsyncIterator[int]) -> int:
        """Add up what comes."""
        total = 0
        async for number in numbers:
            total += number
        return total

    async def fetch(self, size: int) -> Blob:
        """Give a Blob of so many bytes."""

        async def chunks() -> AsyncIterator[bytes]:
            for _ in range(size // len(CHUNK)):
                yield CHUNK

        return Blob(chunks())

    async def store(self, data: Blob) -> int:
        """Take a Blob: its size."""
        size = 0
        async for chunk in data:
            size += len(chunk)
        return size

    async def produced(self) -> int:
        """Items that the last stream was asked for."""
        return self._produced

    async def peak(self) -> int:
        """The most memory that this process has ever used."""
        return peak_bytes(os.getpid())
