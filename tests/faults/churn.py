"""``python -m tests.faults.churn``: what a long life leaves behind in which everything comes and goes.

One process holds a connection, and round after round makes others, proxies and workers; calls that are answered, fail,
are cancelled, time out or lose their link; streams that are left, queues that are refused. After each block of rounds,
with all of it gone, the process and a private RabbitMQ are looked at: memory, tasks, futures and file descriptors here,
connections, channels, queues, exchanges and memory there. The first blocks are the warm-up; what there is after them
must do for all the others.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import logging
import os
import random
import re
import secrets
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from statistics import linear_regression

import amqproxy
from amqproxy.answer import Answer
from amqproxy.testing import RabbitMQ, RabbitMQNotInstalled, rabbitmq
from tests.bench.usage import rss_bytes

MEBIBYTE = 1 << 20
NO_BROKER = 3
BLOCK_SECONDS = 15.0
WARM_UP = 4
"""Blocks after which everything has been used, and the allocators have what they want."""
GROWTH_BOUND = 4.0
"""MiB that memory may grow by after the warm-up, on the line through all readings: allocators come and go by one."""
OBJECTS_BOUND = 0.1
"""Tasks, futures and descriptors for each round: what rounds left behind would be one at least."""
COUNTS = """
lists:foreach(fun(N) -> io:format("~w ", [N]) end, [length(rabbit_networking:connections()),
  length(rabbit_channel:list()), length(rabbit_amqqueue:list()), length(rabbit_exchange:list(<<"/">>)),
  begin [erlang:garbage_collect(P) || P <- erlang:processes()], erlang:memory(total) end]).
"""


@amqproxy.serve("churn", auto_delete=True)
class Churned:
    """Does what a worker may be asked for."""

    async def echo(self, text: str, seconds: float = 0.0) -> str:
        await asyncio.sleep(seconds)
        return text

    def threaded(self, text: str) -> str:
        return text

    async def fail(self, text: str) -> None:
        raise ValueError(text)

    async def letters(self, text: str) -> AsyncIterator[str]:
        for letter in text:
            yield letter

    async def joined(self, letters: AsyncIterator[str]) -> str:
        return "".join([letter async for letter in letters])


@dataclass(frozen=True, slots=True)
class Reading:
    """What there is when all that came has gone."""

    rounds: int
    rss: float
    """MiB."""
    tasks: int
    futures: int
    descriptors: int
    connections: int
    channels: int
    queues: int
    exchanges: int
    broker: float
    """MiB."""

    def __str__(self) -> str:
        return " ".join(f"{value:11.1f}" if isinstance(value, float) else f"{value:11}" for value in astuple(self))


class Churn:
    """One life."""

    def __init__(self, node: RabbitMQ, chance: random.Random) -> None:
        self.rounds = 0
        self.done = 0
        """Steps, of all kinds."""
        self._node = node
        self._chance = chance
        self._steps: tuple[Callable[[amqproxy.Client], Awaitable[None]], ...] = (
            self._connection,
            self._answers,
            self._failures,
            self._cancellations,
            self._timeouts,
            self._streams,
            self._one_way,
            self._broadcast,
            self._conflict,
            self._lost_link,
            self._lost_replies,
            self._stopped_worker,
        )

    async def live(self, seconds: float) -> list[Reading]:
        """Go on for so long; a reading after each block."""
        readings: list[Reading] = []
        end = time.monotonic() + seconds
        print(" ".join(f"{name.name:>11}" for name in fields(Reading)))
        async with amqproxy.connect(self._node.url) as steady:
            while time.monotonic() < end:
                block = time.monotonic() + BLOCK_SECONDS
                while time.monotonic() < block:
                    await self.round(steady)
                readings.append(await self.read())
                print(readings[-1], flush=True)
        return readings

    async def round(self, steady: amqproxy.Client) -> None:
        """Everything once, in any order, with a worker that comes and goes."""
        self.rounds += 1
        async with steady.serve(Churned()):
            for step in self._chance.sample(self._steps, len(self._steps)):
                await step(steady)
                self.done += 1

    async def _connection(self, steady: amqproxy.Client) -> None:
        async with amqproxy.connect(self._node.url) as mq, mq.serve(Churned()):
            assert await mq.proxy(Churned).echo("x") == "x"

    async def _answers(self, steady: amqproxy.Client) -> None:
        proxy = steady.proxy(Churned, timeout=10 + self._chance.random())
        assert await asyncio.gather(*(proxy.echo(str(n)) for n in range(50))) == [str(n) for n in range(50)]
        assert await amqproxy.gather(proxy.echo(str(n)) for n in range(50)) == [str(n) for n in range(50)]
        assert await proxy.threaded("x") == "x"  # type: ignore[misc]  # a plain function, which a proxy makes async

    async def _failures(self, steady: amqproxy.Client) -> None:
        failing: list[Awaitable[object]] = [
            steady.proxy(Churned).fail("no"),
            steady.proxy("churn").nothing(),
            steady.proxy(secrets.token_hex(4)).echo("x"),
            steady.proxy(Churned, exchange=f"no.{secrets.token_hex(4)}").echo("x"),
        ]
        for raising in failing:
            with contextlib.suppress(amqproxy.CallError):
                await raising
                raise AssertionError("it did not fail")

    async def _cancellations(self, steady: amqproxy.Client) -> None:
        calls = [asyncio.ensure_future(steady.proxy(Churned).echo("x", 5.0)) for _ in range(30)]
        for call in calls:
            await asyncio.sleep(self._chance.choice((0.0, 0.0, 0.001)))
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)

    async def _timeouts(self, steady: amqproxy.Client) -> None:
        proxy = steady.proxy(Churned, timeout=0.05)
        ended = await asyncio.gather(*(proxy.echo("x", 5.0) for _ in range(10)), return_exceptions=True)
        assert all(isinstance(end, amqproxy.CallTimeout) for end in ended)

    async def _streams(self, steady: amqproxy.Client) -> None:
        proxy = steady.proxy(Churned)
        assert [letter async for letter in proxy.letters("abc")] == ["a", "b", "c"]
        async for _ in proxy.letters("x" * 1000):
            break
        assert await proxy.joined(proxy.letters("abc")) == "abc"

    async def _one_way(self, steady: amqproxy.Client) -> None:
        await steady.sender(Churned).echo("x")

    async def _broadcast(self, steady: amqproxy.Client) -> None:
        assert await steady.broadcast(Churned, timeout=10).echo("x").first() == "x"

    async def _conflict(self, steady: amqproxy.Client) -> None:
        with contextlib.suppress(amqproxy.TopologyConflict):
            await steady.serve(Churned(), durable=False).start()
            raise AssertionError("it did not conflict")

    async def _lost_link(self, steady: amqproxy.Client) -> None:
        async with amqproxy.connect(self._node.url) as mq:
            worker = mq.serve(Churned())
            await worker.start()
            calls = [asyncio.ensure_future(mq.proxy(Churned).echo("x", 0.2)) for _ in range(20)]
            await asyncio.sleep(self._chance.random() * 0.1)
            link = mq._live_connection().current_link
            assert link is not None
            link._protocol.abort()
            await asyncio.gather(*calls, return_exceptions=True)
            assert await mq.proxy(Churned).echo("x") == "x"

    async def _lost_replies(self, steady: amqproxy.Client) -> None:
        assert await steady.proxy(Churned).echo("x") == "x"
        line = steady.caller._lines.current("")
        assert line is not None
        channel = await (await steady._live_connection().link())._channel()
        await channel.queue_delete(line.reply_to.decode())
        await channel.close()
        with contextlib.suppress(amqproxy.ConnectionLost):
            await steady.proxy(Churned).echo("x", 0.01)
        assert await steady.proxy(Churned).echo("x") == "x"

    async def _stopped_worker(self, steady: amqproxy.Client) -> None:
        worker = steady.serve(Churned(), grace=0)
        await worker.start()
        calls = [asyncio.ensure_future(steady.proxy(Churned).echo("x", 0.05)) for _ in range(20)]
        await asyncio.sleep(0.01)
        await worker.stop()
        assert await asyncio.gather(*calls) == ["x"] * 20

    async def read(self) -> Reading:
        """What there is now."""
        await asyncio.sleep(1.0)  # for the broker to notice who is gone
        said = await asyncio.to_thread(self._node.ctl, "eval", COUNTS)
        return reading(self.rounds, *map(int, re.findall(r"\d+", said)[:5]))


def reading(rounds: int, connections: int, channels: int, queues: int, exchanges: int, memory: int) -> Reading:
    """What there is in this process, besides what there is in the broker."""
    gc.collect()
    return Reading(
        rounds=rounds,
        rss=rss_bytes(os.getpid()) / MEBIBYTE,
        tasks=len(asyncio.all_tasks()),
        futures=sum(isinstance(thing, (asyncio.Future, Answer)) for thing in gc.get_objects()),
        descriptors=len(list(Path("/proc/self/fd").iterdir())),
        connections=connections,
        channels=channels,
        queues=queues,
        exchanges=exchanges,
        broker=memory / MEBIBYTE,
    )


def complaints(readings: list[Reading]) -> list[str]:
    """What grows after the warm-up, by the line through the readings."""
    steady = readings[WARM_UP:]
    if len(steady) < WARM_UP:
        return [f"{len(readings)} readings are too few to tell what grows"]
    rounds = [reading.rounds for reading in steady]
    found = []
    for name in fields(Reading)[1:]:
        values = [float(getattr(reading, name.name)) for reading in steady]
        slope = linear_regression(rounds, values).slope
        growth = slope * (rounds[-1] - rounds[0])
        print(f"{name.name:12} {values[0]:8.1f} -> {values[-1]:8.1f}, {growth:+.2f} on the line")
        grows = growth > GROWTH_BOUND if name.type == "float" else slope > OBJECTS_BOUND
        if grows:
            found.append(f"{name.name} grew by {growth:.1f} in {rounds[-1] - rounds[0]} rounds")
    return found


async def churn(seconds: float, seed: int) -> list[str]:
    """One life on a private RabbitMQ: what it left behind."""
    with rabbitmq() as node:
        life = Churn(node, random.Random(seed))
        readings = await life.live(seconds)
        print(f"{life.rounds} rounds, {life.done} steps")
        return complaints(readings)


def main() -> int:
    """0 when nothing was left behind, 1 if something was, 3 without a RabbitMQ."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.churn", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0, help="how long it goes on (default 10)")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(10**6), help="of the order of things")
    args = parser.parse_args()
    logging.getLogger("amqproxy").setLevel(logging.CRITICAL)  # what is done on purpose
    logging.getLogger("aiormq").setLevel(logging.CRITICAL)
    try:
        found = asyncio.run(churn(args.minutes * 60, args.seed))
    except RabbitMQNotInstalled as error:
        print(f"no broker: {error}")
        return NO_BROKER
    for complaint in found:
        print(f"FAILED: {complaint}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
