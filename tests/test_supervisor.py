"""Several worker processes under one supervisor: real ones, with real signals."""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import subprocess
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

import amqproxy
from amqproxy.supervisor import Child, Restarts
from amqproxy.testing import free_port
from tests.processes import PATIENCE, Running, environment, running, silent_server


@asynccontextmanager
async def pool(url: str, processes: int = 2) -> AsyncIterator[tuple[Running, Any]]:
    """A supervisor whose workers serve, and a proxy of what they serve."""
    name = f"tests.{secrets.token_hex(4)}"
    command = ("-m", "amqproxy", "serve", "served:Patient", "--name", name, "--processes", str(processes))
    async with running(*command, AMQPROXY_URL=url) as supervisor, amqproxy.connect(url) as mq:
        await supervisor.says(f"serving {name}", times=processes)
        yield supervisor, mq.proxy(name, timeout=PATIENCE)


async def pids(served: Any, count: int) -> set[int]:
    """The processes that answer: the broker gives calls to idle workers in turn."""
    return set(await asyncio.gather(*(served.pid() for _ in range(count))))


async def test_calls_spread_over_the_processes_and_one_signal_ends_all(embedded_url: str) -> None:
    async with pool(embedded_url) as (supervisor, served):
        assert len(await pids(served, 2)) == 2
        supervisor.send(signal.SIGTERM)
        assert await supervisor.ends() == 0
    assert (await supervisor.falls_silent()).count("stopped serving") == 2


async def test_worker_that_was_killed_is_replaced(embedded_url: str) -> None:
    async with pool(embedded_url) as (supervisor, served):
        victim = await served.pid()
        os.kill(victim, signal.SIGKILL)
        await supervisor.says(f"worker process {victim} was killed by SIGKILL; starting another")
        await supervisor.says("amqproxy.server: serving", times=3)
        alive = await pids(served, 2)
        assert len(alive) == 2
        assert victim not in alive
        supervisor.send(signal.SIGINT)
        assert await supervisor.ends() == 0


async def test_workers_finish_their_calls_before_the_supervisor_ends(embedded_url: str, tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    async with pool(embedded_url) as (supervisor, served):
        call = asyncio.create_task(served.hold(str(fifo)))
        await supervisor.says("holding")
        supervisor.send(signal.SIGTERM)
        await supervisor.says("finishing 1 running calls")
        await asyncio.to_thread(fifo.write_text, "done")
        assert await call == "done"
        assert await supervisor.ends() == 0


async def test_second_signal_ends_workers_at_once(embedded_url: str) -> None:
    async with pool(embedded_url) as (supervisor, served):
        call = asyncio.create_task(served.never())
        await supervisor.says("waiting")
        supervisor.send(signal.SIGINT)
        await supervisor.says("finishing 1 running calls")
        supervisor.send(signal.SIGINT)
        assert await supervisor.ends() == 128 + signal.SIGINT
        call.cancel()


async def test_workers_end_when_the_supervisor_is_killed(embedded_url: str) -> None:
    async with pool(embedded_url) as (supervisor, _):
        supervisor.send(signal.SIGKILL)
        said = await asyncio.wait_for(supervisor.falls_silent(), PATIENCE)  # all that have its output are gone
        assert said.count("the supervisor is gone, stopping") == 2
        assert said.count("stopped serving") == 2


async def test_usage_error_is_told_once_and_not_tried_again() -> None:
    async with running("-m", "amqproxy", "serve", "served:Nobody", "--processes", "3") as supervisor:
        assert await supervisor.ends() == 2
        said = await supervisor.falls_silent()
    assert said.count("served has no 'Nobody'") == 1
    assert "before it could serve; giving up" in said


async def test_broker_that_is_not_there_is_told_once() -> None:
    url = f"amqp://guest:guest@127.0.0.1:{free_port()}/"
    command = ("-m", "amqproxy", "serve", "served:Patient", "--processes", "3", "--url", url)
    async with running(*command) as supervisor:
        assert await supervisor.ends() == 3
        assert (await supervisor.falls_silent()).count("no broker listens") == 1


async def test_signal_while_workers_start_ends_all() -> None:
    command = ("-m", "amqproxy", "serve", "served:Patient", "--processes", "2")
    async with silent_server() as (url, _), running(*command, AMQPROXY_URL=url) as supervisor:
        await supervisor.says("keeping 2 worker processes running")
        supervisor.send(signal.SIGTERM)
        assert await supervisor.ends() == 0


async def test_password_is_not_among_a_workers_arguments(embedded_url: str) -> None:
    name = f"tests.{secrets.token_hex(4)}"
    command = ("serve", "served:Patient", "--name", name, "--processes", "2", "--url", embedded_url)
    async with running("-m", "amqproxy", *command) as supervisor, amqproxy.connect(embedded_url) as mq:
        await supervisor.says(f"serving {name}", times=2)
        worker = await mq.proxy(name).pid()
        arguments = await asyncio.to_thread(arguments_of, worker)
        assert name in arguments
        assert embedded_url not in arguments
        supervisor.send(signal.SIGTERM)
        assert await supervisor.ends() == 0


def arguments_of(pid: int) -> str:
    return subprocess.run(
        ["ps", "-ww", "-o", "args=", "-p", str(pid)], capture_output=True, text=True, check=True
    ).stdout


async def test_child_is_ready_or_has_ended(embedded_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(Path(__file__).parent)
    name = f"tests.{secrets.token_hex(4)}"
    variables = environment(AMQPROXY_URL=embedded_url)
    with tempfile.TemporaryFile() as log:
        good = await Child.start((f"--name={name}", "served:Patient"), variables, stderr=log)
        bad = await Child.start(("served:Nobody",), variables, stderr=log)
        assert list(await asyncio.gather(good.ready(), bad.ready())) == [True, False]
        assert good.serves
        assert not bad.serves
        assert await bad.wait() == 2
        good.send(signal.SIGTERM)
        assert await good.wait() == 0
        assert not good.serves
        good.send(signal.SIGTERM)  # too late, and no matter


class TestRestarts:
    """The back-off, without processes and without a clock."""

    def test_first_worker_that_does_not_come_up_is_the_last(self) -> None:
        assert Restarts().died(ready=False, lived=0.5, others_serve=False) is None

    def test_worker_that_died_soon_after_another_waits_longer(self) -> None:
        restarts = Restarts()
        restarts.ready()
        pauses = [restarts.died(ready=True, lived=1, others_serve=False) for _ in range(8)]
        assert pauses == [0.25, 0.5, 1, 2, 4, 8, 15, 15]

    def test_no_number_of_deaths_is_too_many_for_the_arithmetic(self) -> None:
        restarts = Restarts()
        for _ in range(2000):
            pause = restarts.died(ready=True, lived=1, others_serve=True)
        assert pause == Restarts.MAX_SECONDS

    def test_worker_that_lived_long_is_replaced_soon(self) -> None:
        restarts = Restarts()
        for _ in range(5):
            restarts.died(ready=True, lived=1, others_serve=True)
        assert restarts.died(ready=True, lived=60, others_serve=True) == Restarts.FIRST_SECONDS

    def test_it_gives_up_when_worker_after_worker_does_not_come_up(self) -> None:
        restarts = Restarts()
        restarts.ready()
        starts = [restarts.died(ready=False, lived=1, others_serve=False) for _ in range(Restarts.MAX_FAILED_STARTS)]
        assert None not in starts[:-1]
        assert starts[-1] is None

    def test_a_worker_that_comes_up_starts_the_count_anew(self) -> None:
        restarts = Restarts()
        for _ in range(3 * Restarts.MAX_FAILED_STARTS):
            restarts.ready()
            assert restarts.died(ready=False, lived=1, others_serve=False) is not None

    def test_it_never_gives_up_while_another_serves(self) -> None:
        restarts = Restarts()
        for _ in range(3 * Restarts.MAX_FAILED_STARTS):
            assert restarts.died(ready=False, lived=1, others_serve=True) is not None
