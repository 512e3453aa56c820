"""Workers in Python and in another language share one queue, and what one of them dies of costs no call."""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
from collections.abc import AsyncIterator, Sequence

import pytest

import amqproxy
from tests.interop.peer import EXAMPLES, ROOT, Peer
from tests.interop.program import PATIENCE, serving, started
from tests.interop.test_peers import PEERS
from tests.processes import running

FOREIGN = [peer for peer in PEERS if peer.worker is not None and "json" in peer.encodings]
OUTSPOKEN = [peer for peer in FOREIGN if "kombu" not in peer.name]
"""Those that say what the broker refused; kombu tries again and again, and tells its log."""
CALLS = 300
HOLD = 0.5
"""Seconds after which the calls that are still out are taken to be those of a worker that does not move."""

foreign = pytest.mark.parametrize("peer", FOREIGN, ids=[peer.slug for peer in FOREIGN])


class Calculator:
    """Counts what it was sent a second time."""

    def __init__(self) -> None:
        self.redelivered = 0

    async def add(self, x: int, y: int) -> int:
        self.redelivered += amqproxy.current().redelivered
        return x + y

    async def divide(self, x: int, y: int) -> float:
        return x / y


@pytest.fixture
def service() -> str:
    return f"test.calculator.{secrets.token_hex(6)}"


@pytest.fixture
def worker_of(peer: Peer, amqp_url: str, service: str) -> tuple[str, ...]:
    """The command of the foreign worker."""
    peer.require()
    assert peer.worker is not None
    return (*peer.worker, amqp_url, service)


@pytest.fixture
async def mq(amqp_url: str, service: str) -> AsyncIterator[amqproxy.Client]:
    """A client, which removes the queue when all workers have gone."""
    async with amqproxy.connect(amqp_url) as client:
        yield client
        channel = await (await client._live_connection().link())._channel()
        await channel.queue_delete(service)


def all_out(calc: Calculator) -> list[asyncio.Task[int]]:
    """Calls, all at once."""
    return [asyncio.create_task(calc.add(n, n)) for n in range(CALLS)]


async def held(calls: Sequence[asyncio.Task[int]]) -> int:
    """How many calls do not come back."""
    _, pending = await asyncio.wait(calls, timeout=HOLD)
    return len(pending)


async def says(text: str, *command: str) -> bool:
    """Whether a program says this before it ends, if it ends."""
    async with started(*command, stderr=asyncio.subprocess.STDOUT) as process, asyncio.timeout(PATIENCE):
        assert process.stdout is not None
        async for line in process.stdout:
            if text in line.decode():
                return True
    return False


@foreign
async def test_they_share_the_calls(mq: amqproxy.Client, worker_of: tuple[str, ...], service: str) -> None:
    async with (
        mq.serve(Calculator(), name=service, concurrency=10) as ours,
        serving(*worker_of),  # which declares the queue that is there
    ):
        assert await asyncio.gather(*all_out(mq.proxy(Calculator, name=service))) == [2 * n for n in range(CALLS)]
        assert 0 < ours.answered < CALLS


@foreign
async def test_a_foreign_worker_that_is_killed_loses_nothing(
    mq: amqproxy.Client, worker_of: tuple[str, ...], service: str
) -> None:
    handler = Calculator()
    async with (
        serving(*worker_of) as theirs,  # which makes the queue that ours declares then
        mq.serve(handler, name=service, concurrency=10) as ours,
    ):
        calc = mq.proxy(Calculator, name=service)
        assert await asyncio.gather(*all_out(calc)) == [2 * n for n in range(CALLS)]
        assert 0 < ours.answered < CALLS

        theirs.send_signal(signal.SIGSTOP)  # it is sent requests, and dies with them
        calls = all_out(calc)
        assert 0 < await held(calls) < CALLS
        theirs.kill()
        await theirs.wait()
        assert await asyncio.gather(*calls) == [2 * n for n in range(CALLS)]
        assert handler.redelivered


@foreign
async def test_a_python_worker_that_is_killed_loses_nothing(
    mq: amqproxy.Client, worker_of: tuple[str, ...], amqp_url: str, service: str
) -> None:
    command = ("-m", "amqproxy", "serve", "calculator:Calculator", f"--name={service}", "--concurrency=10")
    path = os.pathsep.join((str(ROOT), str(EXAMPLES)))
    async with (
        serving(*worker_of),
        running(*command, PYTHONPATH=path, AMQPROXY_URL=amqp_url) as ours,
    ):
        await ours.says(f"serving {service}")
        calc = mq.proxy(Calculator, name=service)
        assert await asyncio.gather(*all_out(calc)) == [2 * n for n in range(CALLS)]

        ours.send(signal.SIGSTOP)
        calls = all_out(calc)
        assert 0 < await held(calls) < CALLS
        ours.send(signal.SIGKILL)
        assert await asyncio.gather(*calls) == [2 * n for n in range(CALLS)]


@foreign
async def test_other_arguments_than_those_of_the_queue_are_named(
    mq: amqproxy.Client, worker_of: tuple[str, ...], service: str
) -> None:
    ours = mq.serve(Calculator(), name=service, arguments={"x-max-priority": 5})
    async with serving(*worker_of):
        with pytest.raises(amqproxy.TopologyConflict, match="x-max-priority"):
            await ours.start()


@pytest.mark.parametrize("peer", OUTSPOKEN, ids=[peer.slug for peer in OUTSPOKEN])
async def test_a_foreign_worker_names_the_argument_too(
    mq: amqproxy.Client, worker_of: tuple[str, ...], service: str
) -> None:
    async with mq.serve(Calculator(), name=service, arguments={"x-max-priority": 5}):
        assert await says("inequivalent arg 'x-max-priority'", *worker_of)
