"""Workers that are told to stop while calls pour in: nobody notices, and nothing runs twice that need not."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

import amqproxy
from tests.faults.invariants import Checker, expected
from tests.faults.journal import Journal, read
from tests.faults.network import Relay
from tests.faults.random_worker import GRACE, SERVING, Tortured
from tests.faults.table import Row
from tests.processes import PATIENCE, Running, running

BOTH = pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
KINDS = ("plain", "stream", "one-way")
CALLERS = 30
SECONDS = 0.05
"""How long a call runs; so many callers keep two workers busy."""
SLOWEST = 10.0
"""Seconds that any of the calls may take."""
LONG = 1.0
"""How long one runs that is to be interrupted."""


class Load:
    """Calls without a break, of the kinds that a worker can be stopped amid; their journal is checked at the end."""

    def __init__(self, mq: amqproxy.Client, service: str, folder: Path, seconds: float, kinds: Sequence[str]) -> None:
        self.answered = 0
        self.longest = 0.0
        """Seconds that the slowest call has taken."""
        self._folder = folder
        self._seconds = seconds
        self._kinds = kinds
        self._proxy = mq.proxy(Tortured, name=service, timeout=PATIENCE)
        self._sender = mq.sender(Tortured, name=service, timeout=PATIENCE)
        self._journal = Journal(folder / "load.journal")
        self._stopped = asyncio.Event()
        self._count = 0

    async def run(self) -> None:
        """Call until `stop`."""
        calls = {"plain": self._echo, "stream": self._letters, "one-way": self._send}
        async with asyncio.TaskGroup() as group:
            for number in range(CALLERS):
                kind = self._kinds[number % len(self._kinds)]
                group.create_task(self._go_on(kind, calls[kind]))

    def stop(self) -> None:
        self._stopped.set()

    async def go_on(self, calls: int) -> None:
        """Wait until so many more calls were answered."""
        enough = self.answered + calls
        async with asyncio.timeout(PATIENCE):
            while self.answered < enough:  # noqa: ASYNC110  # it counts what others do
                await asyncio.sleep(0.005)

    async def _go_on(self, kind: str, call: Callable[[str], Awaitable[str]]) -> None:
        while not self._stopped.is_set():
            self._count += 1
            token = f"load.{self._count}"
            self._journal.note("call", token, kind=kind, limit=PATIENCE)
            began = time.monotonic()
            value = await call(token)  # whatever it raises fails the test
            self.longest = max(self.longest, time.monotonic() - began)
            self._journal.note("ok", token, value=value)
            self.answered += 1

    async def _echo(self, token: str) -> str:
        return await self._proxy.echo(token, self._seconds)

    async def _letters(self, token: str) -> str:
        return "".join([letter async for letter in self._proxy.letters(token, self._seconds)])

    async def _send(self, token: str) -> str:
        await self._sender.echo(token, self._seconds)
        await asyncio.sleep(self._seconds)  # nobody holds up who is not waited for
        return expected(token)

    def checked(self) -> Checker:
        """The run, in which no rule is broken."""
        checker = Checker()
        for journal in self._folder.glob("*.journal"):
            for record in read(journal):
                checker.take(journal.stem, record)
        assert not checker.violations()
        return checker


@asynccontextmanager
async def load(
    url: str, service: str, folder: Path, *, seconds: float = SECONDS, kinds: Sequence[str] = KINDS
) -> AsyncIterator[Load]:
    """Calls that pour in while the block runs, of which none fails; at its end all have been taken by workers."""
    async with amqproxy.connect(url) as mq:
        calls = Load(mq, service, folder, seconds, kinds)
        pouring = asyncio.create_task(calls.run())
        try:
            yield calls
        finally:
            calls.stop()
            await pouring
        async with asyncio.timeout(PATIENCE):
            while (await mq.caller.census(service) or (1, 0))[0]:  # noqa: ASYNC110  # of a queue
                await asyncio.sleep(0.05)


def long_load(url: str, service: str, folder: Path) -> AbstractAsyncContextManager[Load]:
    """Calls that run long, and can all be run again by another worker: streams cannot, once they have begun."""
    return load(url, service, folder, seconds=LONG, kinds=("plain", "one-way"))


@asynccontextmanager
async def worker(url: str, service: str, folder: Path, name: str) -> AsyncIterator[Running]:
    journal = str(folder / f"{name}.journal")
    async with running("-m", "tests.faults.random_worker", url, service, journal) as process:
        await process.says(SERVING)
        yield process


@asynccontextmanager
async def two(url: str, service: str, folder: Path) -> AsyncIterator[Running]:
    """Two workers: the one that is to be stopped, and another that drains when the block is left."""
    async with worker(url, service, folder, "stays") as stays:
        async with worker(url, service, folder, "leaves") as leaves:
            yield leaves
        await stopped(stays)


async def stopped(process: Running) -> None:
    process.send(signal.SIGTERM)
    assert await process.ends() == 0


def told(row: Row, calls: Load) -> int:
    """Take down what the callers saw; how many calls ran again."""
    checker = calls.checked()
    row.saw("the answer, always", calls.longest, SLOWEST)
    row.count(duplicated=checker.run_again)
    return checker.run_again


@pytest.mark.fault("F46", "the signal under load, beside another worker")
@BOTH
async def test_a_worker_that_is_stopped_under_load_is_not_missed(
    row: Row, amqp_url: str, service: str, tmp_path: Path, number: signal.Signals
) -> None:
    async with two(amqp_url, service, tmp_path) as leaves, load(amqp_url, service, tmp_path) as calls:
        await calls.go_on(200)
        leaves.send(number)
        assert await leaves.ends() == 0
        await calls.go_on(200)
    assert told(row, calls) == 0


@pytest.mark.fault("F08", "a worker told to stop while nothing comes through any more")
async def test_a_worker_that_is_stopped_in_a_black_hole_ends_by_itself(
    row: Row, amqp_url: str, service: str, tmp_path: Path
) -> None:
    """It says good-bye to nobody for 5 s; then nothing may be left that keeps the process from ending."""
    async with (
        Relay.to(amqp_url) as relay,
        amqproxy.connect(amqp_url) as mq,
        worker(f"{relay.url}?heartbeat=2", service, tmp_path, "leaves") as process,
    ):
        proxy = mq.proxy(Tortured, name=service, timeout=2)
        calls = [asyncio.create_task(proxy.echo(f"token{number}", 0.5)) for number in range(5)]
        await asyncio.sleep(0.2)
        relay.up.hold()
        relay.down.hold()
        began = time.monotonic()
        process.send(signal.SIGTERM)
        assert await process.has_ended(within=GRACE + 10)
        row.saw("the worker ends with 0", time.monotonic() - began, GRACE + 10)
        assert await process.ends() == 0
        await asyncio.gather(*calls, return_exceptions=True)


@pytest.mark.fault("F46", "all workers replaced, one after another, under load")
async def test_workers_that_are_all_replaced_under_load_are_not_missed(
    row: Row, amqp_url: str, service: str, tmp_path: Path
) -> None:
    async with AsyncExitStack() as stack:
        crew = [await stack.enter_async_context(worker(amqp_url, service, tmp_path, f"old{n}")) for n in range(2)]
        async with load(amqp_url, service, tmp_path) as calls:
            for n in range(2):
                await calls.go_on(100)
                crew.append(await stack.enter_async_context(worker(amqp_url, service, tmp_path, f"new{n}")))
                await stopped(crew.pop(0))
            await calls.go_on(100)
        for process in crew:
            await stopped(process)
    assert told(row, calls) == 0


@pytest.mark.fault("F46", "a second signal amid calls that run")
@BOTH
@pytest.mark.long
async def test_a_second_signal_gives_back_at_once_what_runs_under_load(
    row: Row, amqp_url: str, service: str, tmp_path: Path, number: signal.Signals
) -> None:
    async with two(amqp_url, service, tmp_path) as leaves, long_load(amqp_url, service, tmp_path) as calls:
        await calls.go_on(CALLERS)
        await asyncio.sleep(LONG / 3)  # those that are through came together: let others have begun
        leaves.send(number)
        await leaves.says("another signal cancels them at once")
        began = time.monotonic()
        leaves.send(number)
        assert await leaves.ends() == 128 + number
        assert time.monotonic() - began < LONG
        await calls.go_on(2 * CALLERS)
    assert told(row, calls) > 0


@pytest.mark.long
@pytest.mark.fault("F47", "SIGTERM, then SIGKILL amid its grace, under load")
async def test_a_worker_that_is_killed_amid_its_grace_is_not_missed(
    row: Row, amqp_url: str, service: str, tmp_path: Path
) -> None:
    async with two(amqp_url, service, tmp_path) as leaves, long_load(amqp_url, service, tmp_path) as calls:
        await calls.go_on(CALLERS)
        await asyncio.sleep(LONG / 3)  # those that are through came together: let others have begun
        leaves.send(signal.SIGTERM)
        await leaves.says("another signal cancels them at once")
        leaves.send(signal.SIGKILL)
        assert await leaves.ends() == -signal.SIGKILL
        await calls.go_on(2 * CALLERS)
    assert told(row, calls) > 0
