"""``python -m tests.bench.streams``: items a second, bytes a second, and what a stream keeps in memory.

Caller and worker are processes of their own, RabbitMQ between them. Small items go with and without sharing messages,
in both directions. A Blob goes both ways, while the memory of both ends is watched. Then a consumer sleeps: what its
worker has produced by then may not be more than the credit.
"""

import argparse
import asyncio
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table

import amqproxy
from amqproxy import Blob

from .broker import NoBrokerError, broker, embedded
from .stream_service import CHUNK, Streams
from .usage import peak_bytes

MEBIBYTE = 1 << 20
NO_BROKER = 3
SLEEP_SECONDS = 2.0
TEXT_BYTES = 1000


@dataclass(frozen=True, slots=True)
class Goal:
    """One figure, and what it must be."""

    name: str
    unit: str
    least: float | None = None
    most: float | None = None

    def met(self, figure: float) -> bool:
        """Whether the figure is good enough."""
        return (self.least is None or figure >= self.least) and (self.most is None or figure <= self.most)

    def __str__(self) -> str:
        """Read as a column of the table."""
        return f">= {self.least:,.0f}" if self.least is not None else f"<= {self.most:,.0f}" if self.most else ""


SHARED = Goal("items that share messages", "items/s", least=100_000)
ALONE = Goal("items alone", "items/s", least=20_000)
FED = Goal("items to the worker", "items/s")
DOWN = Goal("a Blob from the worker", "MiB/s", least=150)
UP = Goal("a Blob to the worker", "MiB/s", least=150)
CALLER = Goal("more memory in the caller", "MiB", most=100)
WORKER = Goal("more memory in the worker", "MiB", most=100)
AHEAD = Goal("items ahead of a consumer that sleeps", "items", most=256)


async def measure(url: str, rounds: int, items: int, size: int) -> dict[Goal, list[float]]:
    """All figures, some of them once for each round."""
    figures: dict[Goal, list[float]] = {}
    async with amqproxy.connect(url) as mq:
        streams = mq.proxy(Streams)
        await _ready(streams)
        alone = amqproxy.options(streams, batch=1)
        before = peak_bytes(os.getpid()), await streams.peak()
        for _ in range(rounds):
            for goal, amount, run in (
                (SHARED, items, lambda: _drain(streams.count(items))),
                (ALONE, items // 8, lambda: _drain(alone.count(items // 8))),
                (FED, items, lambda: streams.add(_numbers(items))),
                (DOWN, size / MEBIBYTE, lambda: _download(streams, size)),
                (UP, size / MEBIBYTE, lambda: streams.store(_blob(size))),
            ):
                figures.setdefault(goal, []).append(amount / await _seconds(run))
        figures[AHEAD] = [await _ahead(streams)]
        figures[CALLER] = [(peak_bytes(os.getpid()) - before[0]) / MEBIBYTE]
        figures[WORKER] = [(await streams.peak() - before[1]) / MEBIBYTE]
    return figures


async def _ready(streams: Streams) -> None:
    for _ in range(100):
        try:
            await streams.produced()
            return
        except amqproxy.Unroutable:
            await asyncio.sleep(0.1)
    raise NoBrokerError("the worker did not start")


async def _seconds(run: Callable[[], Awaitable[Any]]) -> float:
    began = time.perf_counter()
    await run()
    return time.perf_counter() - began


async def _drain(stream: AsyncIterator[int]) -> None:
    expected = 0
    async for number in stream:
        assert number == expected
        expected += 1


async def _numbers(to: int) -> AsyncIterator[int]:
    for number in range(to):
        yield number


def _blob(size: int) -> Blob:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(size // len(CHUNK)):
            yield CHUNK

    return Blob(chunks())


async def _download(streams: Streams, size: int) -> None:
    received = 0
    async for chunk in await streams.fetch(size):
        received += len(chunk)
    assert received == size


async def _ahead(streams: Streams) -> float:
    """How far the worker gets while its consumer sleeps."""
    stream = streams.texts(TEXT_BYTES)
    taken = 0
    async for _ in stream:
        taken += 1
        if taken == 1000:
            break_at = await _after_a_sleep(streams)
            return break_at - taken
    raise AssertionError("the stream ended")


async def _after_a_sleep(streams: Streams) -> int:
    await asyncio.sleep(SLEEP_SECONDS)
    return await streams.produced()


@contextmanager
def worker(url: str) -> Iterator[None]:
    """Run a worker process."""
    command = [sys.executable, "-m", "amqproxy", "serve", "tests.bench.stream_service:Streams"]
    process = subprocess.Popen(command, env={**os.environ, "AMQPROXY_URL": url}, stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.terminate()
        process.wait(30)


def main() -> int:
    """Return 0 when all goals were met, 1 when one was missed, 3 without a broker."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.streams", description=__doc__)
    parser.add_argument("--url", help="the broker; default: a private RabbitMQ")
    parser.add_argument("--embedded", action="store_true", help="the embedded broker, in a process of its own")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--items", type=int, default=400_000)
    parser.add_argument("--size", type=int, default=1024, help="of the Blob, in MiB")
    args = parser.parse_args()
    console = Console()
    try:
        with embedded() if args.embedded else broker(args.url, None) as running, worker(running.url):
            console.print(f"on {running.product}, {args.rounds} rounds, Blob of {args.size} MiB")
            figures = asyncio.run(measure(running.url, args.rounds, args.items, args.size * MEBIBYTE))
    except NoBrokerError as error:
        console.print(f"no broker: {error}")
        return NO_BROKER
    table = Table("what", "median", "least", "most", "unit", "goal", "met")
    missed = False
    for goal, found in figures.items():
        met = goal.met(median(found))
        missed |= not met
        spread = (f"{figure:,.0f}" for figure in (median(found), min(found), max(found)))
        table.add_row(goal.name, *spread, goal.unit, str(goal), "yes" if met else "NO")
    console.print(table)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
