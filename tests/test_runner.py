"""A worker process from the first signal to its end."""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

import amqproxy
from amqproxy.errors import AccessRefused, BrokerUnavailable, ContractError
from amqproxy.runner import Service, Signals, run, serve_until_stopped
from amqproxy.testing import RabbitMQ, free_port
from tests.processes import PATIENCE, TESTS, Running, running, silent_server
from tests.served import Demanding, Patient, Unservable

BOTH = pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])


@pytest.fixture
def name() -> str:
    return f"tests.{secrets.token_hex(4)}"


@pytest.fixture
def fifo(tmp_path: Path) -> Path:
    path = tmp_path / "fifo"
    os.mkfifo(path)
    return path


@asynccontextmanager
async def worker(url: str, name: str, *options: str) -> AsyncIterator[tuple[Running, Any]]:
    """`amqproxy serve`, ready, and a proxy of what it serves."""
    command = ("-m", "amqproxy", "serve", "served:Patient", "--name", name, *options)
    async with running(*command, AMQPROXY_URL=url) as process, amqproxy.connect(url) as mq:
        await process.says(f"serving {name}")
        yield process, mq.proxy(name, timeout=PATIENCE)


@asynccontextmanager
async def calling(process: Running, call: Any, word: str) -> AsyncIterator[asyncio.Task[Any]]:
    """A call that is out, and that the worker has begun."""
    task = asyncio.create_task(call)
    try:
        await process.says(word)
        yield task
    finally:
        task.cancel()
        await asyncio.wait((task,))


@BOTH
async def test_signal_lets_a_running_call_finish(
    embedded_url: str, name: str, fifo: Path, number: signal.Signals
) -> None:
    async with worker(embedded_url, name) as (process, served):
        async with calling(process, served.hold(str(fifo)), "holding") as call:
            process.send(number)
            await process.says(
                "finishing 1 running calls; another signal cancels them at once, and those that may run again go back"
            )
            await asyncio.to_thread(fifo.write_text, "done")
            assert await call == "done"
        assert await process.ends() == 0


@pytest.mark.parametrize(
    ("number", "method", "word"),
    [
        (signal.SIGTERM, "hold", "holding"),
        (signal.SIGINT, "never", "waiting"),
        (signal.SIGTERM, "deaf", "waiting"),
    ],
)
async def test_second_signal_ends_at_once(
    embedded_url: str, name: str, fifo: Path, number: signal.Signals, method: str, word: str
) -> None:
    async with worker(embedded_url, name) as (process, served):
        arguments = (str(fifo),) if method == "hold" else ()
        async with calling(process, getattr(served, method)(*arguments), word):
            process.send(number)
            await process.says("finishing 1 running calls")
            process.send(number)
            assert await process.ends() == 128 + number


async def test_call_that_was_given_back_goes_to_another_worker(embedded_url: str, name: str, fifo: Path) -> None:
    async with (
        worker(embedded_url, name) as (first, served),
        calling(first, served.hold(str(fifo)), "holding") as call,
        worker(embedded_url, name) as (second, _),
    ):
        first.send(signal.SIGTERM)
        await first.says("finishing 1 running calls")
        first.send(signal.SIGTERM)
        await second.says("holding")
        assert await first.ends() == 128 + signal.SIGTERM
        await asyncio.to_thread(fifo.write_text, "done")
        assert await call == "done"


async def test_process_ends_after_its_grace_though_a_thread_runs_on(embedded_url: str, name: str, fifo: Path) -> None:
    async with (
        worker(embedded_url, name, "--grace", "0.1") as (process, served),
        calling(process, served.hold(str(fifo)), "holding"),
    ):
        process.send(signal.SIGTERM)
        assert await process.ends() == 0


async def test_repeated_signals_end_a_process_whose_loop_is_blocked(embedded_url: str, name: str) -> None:
    async with (
        worker(embedded_url, name) as (process, served),
        calling(process, served.block(), "blocking"),
    ):
        sent = 0
        while not await process.has_ended(within=0.05):  # signals that come too fast count as one
            process.send(signal.SIGTERM)
            sent += 1
            assert sent < 20
        assert await process.ends() == -signal.SIGTERM


async def test_run_serves_a_script_until_a_signal(embedded_url: str, name: str) -> None:
    async with (
        running(str(TESTS / "served.py"), embedded_url, name) as process,
        amqproxy.connect(embedded_url) as mq,
    ):
        await process.says(f"serving {name}")
        assert await mq.proxy(name).add(1, 2) == 3
        process.send(signal.SIGTERM)
        assert await process.ends() == 0


async def test_run_ends_with_a_shells_code_after_a_second_signal(embedded_url: str, name: str) -> None:
    async with (
        running(str(TESTS / "served.py"), embedded_url, name) as process,
        amqproxy.connect(embedded_url) as mq,
    ):
        await process.says(f"serving {name}")
        async with calling(process, mq.proxy(name).never(), "waiting"):
            process.send(signal.SIGINT)
            await process.says("finishing 1 running calls")
            process.send(signal.SIGINT)
            assert await process.ends() == 128 + signal.SIGINT


async def test_signal_while_connecting_ends_it() -> None:
    async with silent_server() as (url, connected):
        command = ("-m", "amqproxy", "serve", "served:Patient")
        async with running(*command, AMQPROXY_URL=url) as process:
            await asyncio.wait_for(connected.wait(), PATIENCE)
            process.send(signal.SIGTERM)
            assert await process.ends() == 0


async def test_all_services_are_served_on_one_connection(embedded_url: str, name: str) -> None:
    services = [Service(Patient, f"{name}.{n}") for n in range(2)]
    started: asyncio.Future[list[str]] = asyncio.get_running_loop().create_future()
    serving = asyncio.create_task(
        serve_until_stopped(
            services, embedded_url, started=lambda workers: started.set_result([w.contract.name for w in workers])
        )
    )
    assert await asyncio.wait_for(started, PATIENCE) == [f"{name}.0", f"{name}.1"]
    async with amqproxy.connect(embedded_url) as mq:
        assert await mq.proxy(f"{name}.0").add(1, 2) == 3
        assert await mq.proxy(f"{name}.1").add(3, 4) == 7
    signal.raise_signal(signal.SIGTERM)
    assert await asyncio.wait_for(serving, PATIENCE) == 0


@pytest.mark.parametrize(
    ("service", "error"),
    [
        (Service(Unservable), ContractError),
        (Service(Demanding), ContractError),
        (Service(Patient, options={"concurrency": 0}), ValueError),
        (Service(Patient, options={"colour": "red"}), TypeError),
        (Service(Patient, name=""), ValueError),
    ],
)
async def test_what_can_be_known_to_be_wrong_is_told_without_a_broker(service: Service, error: type[Exception]) -> None:
    with pytest.raises(error):
        await serve_until_stopped([service], "amqp://nowhere.invalid/")


def test_run_raises_what_is_in_the_way() -> None:
    with pytest.raises(BrokerUnavailable, match="no broker listens"):
        run(Patient(), f"amqp://127.0.0.1:{free_port()}/")


async def test_signal_handlers_are_put_back(embedded_url: str) -> None:
    before = [signal.getsignal(number) for number in Signals.NUMBERS]
    with Signals():
        assert [signal.getsignal(number) for number in Signals.NUMBERS] != before
    assert [signal.getsignal(number) for number in Signals.NUMBERS] == before


def test_other_threads_serve_without_signal_handlers() -> None:
    before = [signal.getsignal(number) for number in Signals.NUMBERS]
    seen: list[object] = []

    async def look() -> None:
        with Signals() as signals:
            seen.extend(signal.getsignal(number) for number in Signals.NUMBERS)
            assert signals.exit_code == 0

    thread = threading.Thread(target=lambda: asyncio.run(look()))
    thread.start()
    thread.join()
    assert seen == before


async def test_credentials_that_are_refused_later_end_the_worker(rabbitmq_node: RabbitMQ, name: str) -> None:
    user = name.replace(".", "-")
    ctl = rabbitmq_node.ctl
    await asyncio.to_thread(ctl, "add_user", user, "secret")
    await asyncio.to_thread(ctl, "set_permissions", user, ".*", ".*", ".*")
    url = rabbitmq_node.url.replace("guest:guest", f"{user}:secret")
    serving = asyncio.Event()
    ending = asyncio.create_task(serve_until_stopped([Service(Patient, name)], url, started=lambda _: serving.set()))
    await asyncio.wait_for(serving.wait(), PATIENCE)
    await asyncio.to_thread(ctl, "delete_user", user)  # which also closes its connections
    with pytest.raises(AccessRefused, match=user):
        await asyncio.wait_for(ending, PATIENCE)
