"""S08 and S22: much of anything costs a worker and a caller no more than they allow."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import cramjam
import pytest

import amqproxy
from amqproxy.control import MAX_ABANDONED
from amqproxy.replies import MAX_DESTINATIONS
from tests.contract.raw import Raw
from tests.patience import until
from tests.processes import running
from tests.security.served import refused, vault

MEBIBYTE = 1024 * 1024


async def test_a_flood_of_nonsense_leaves_nothing_behind(mq: amqproxy.Client, raw: Raw, service: str) -> None:
    async with vault(mq, service, concurrency=10) as (_, proxy):
        worker = mq._workers[-1]
        session = worker.session
        assert session is not None
        for number in range(3 * MAX_DESTINATIONS):
            name = b"amq.gen-%d" % number
            raw.publish(service, b"[1,2]", content_type=f"{service}.add".encode(), reply_to=name, correlation_id=name)
            raw.publish(service, b"[", content_type=f"{service}.add".encode(), reply_to=name, correlation_id=name)
        for number in range(MAX_ABANDONED + 2000):
            raw.publish(
                "",
                b"",
                exchange=f"amqproxy.{service}",
                content_type=b"amqproxy.Cancel",
                correlation_id=b"%d" % number,
                reply_to=b"x",
                headers={"x-timeout-ms": 2**31},
            )
            if number % 500 == 0:
                await asyncio.sleep(0)
        raw.publish("", b"[1,2]", exchange=f"amqproxy.{service}", content_type=f"{service}.add".encode())
        await raw.ask(service, b"[1,2]", content_type=f"{service}.add".encode())
        await until(lambda: worker.abandoned.until, within=20)
        assert await proxy.add(1, 2) == 3
        assert len(worker.abandoned.until) <= MAX_ABANDONED
        assert len(session.replies._destinations) <= MAX_DESTINATIONS
        await until(lambda: not worker.running)
        assert not session.streams


async def test_calls_beyond_the_concurrency_wait_in_the_queue(mq: amqproxy.Client, raw: Raw, service: str) -> None:
    most = 0
    release = asyncio.Event()

    class Slow:
        async def wait(self) -> None:
            nonlocal most
            most = max(most, len(worker.running))
            await release.wait()

    async with mq.serve(Slow(), name=service, auto_delete=True, concurrency=5) as worker:
        for _ in range(100):
            raw.publish(service, b"[]", content_type=f"{service}.wait".encode(), reply_to=raw.reply_to)
        await until(lambda: len(worker.running) == 5)
        link = await mq._live_connection().link()
        counts = await link.queue_counts(service)
        assert counts is not None and counts[0] == 95
        release.set()
        for _ in range(100):
            await raw.next_message()
        assert most == 5


async def test_streams_beyond_what_a_worker_bounds_are_refused(mq: amqproxy.Client, raw: Raw, service: str) -> None:
    release = asyncio.Event()

    class Slow:
        async def wait(self) -> None:
            await release.wait()

        async def drip(self) -> AsyncIterator[int]:
            yield 1
            await release.wait()

    async with mq.serve(Slow(), name=service, auto_delete=True, concurrency=2) as worker:
        for _ in range(50):  # asked of all workers, for which there is no prefetch
            raw.publish("", b"[]", exchange=f"amqproxy.{service}", content_type=f"{service}.wait".encode())
        error = await refused_by_all(raw, service)
        assert error == "resource_exhausted"
        assert len(worker.running) <= 5
        release.set()


async def refused_by_all(raw: Raw, service: str) -> str:
    raw.publish(
        "", b"[]", exchange=f"amqproxy.{service}", content_type=f"{service}.wait".encode(), reply_to=raw.reply_to
    )
    answer = await raw.next_message()
    assert b"resource_exhausted" in answer.body
    return "resource_exhausted"


def peak(pid: int) -> int:
    """The most memory that a process has had, in bytes."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) * 1024
    raise AssertionError("Linux tells")


BOMBS = {
    b"gzip-json": lambda: bytes(cramjam.gzip.compress(bytes(100 * MEBIBYTE))),
    b"zstd-json": lambda: bytes(cramjam.zstd.compress(bytes(100 * MEBIBYTE))),
    b"lz4-json": lambda: bytes(cramjam.lz4.compress(bytes(100 * MEBIBYTE))),
    b"snappy-json": lambda: bytes(cramjam.snappy.compress_raw(bytes(100 * MEBIBYTE))),
}


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="asks Linux for the memory")
@pytest.mark.parametrize("encoding", BOMBS)
async def test_a_bomb_costs_a_worker_no_memory(embedded_url: str, service: str, encoding: bytes) -> None:
    """F38: 100 mebibytes in little, four times, in each compression."""
    bomb = BOMBS[encoding]()
    assert len(bomb) < 6 * MEBIBYTE
    async with running("served.py", embedded_url, service) as process, Raw.connected(embedded_url) as raw:
        await process.says("serving")
        method = f"{service}.greet".encode()
        await raw.ask(service, b"[]", content_type=method)
        before = peak(process.pid)
        for _ in range(4):
            error = await refused(raw, service, bomb, content_type=method, content_encoding=encoding)
            assert (error["code"], error["executed"]) == ("resource_exhausted", "no")
        assert peak(process.pid) - before < 48 * MEBIBYTE


DEEP = {
    "arrays": b"[" * 200_000,
    "objects": b'{"name":' * 200_000,
    "a number of 100,000 digits": b'{"name":' + b"9" * 100_000 + b"}",
    "a number of 5,000 digits": b"[%s]" % (b"9" * 5000),
    "a large exponent": b"[1e999999999]",
}


async def test_deep_and_huge_values_are_refused_by_a_worker_that_lives_on(embedded_url: str, service: str) -> None:
    """F39."""
    async with running("served.py", embedded_url, service) as process, Raw.connected(embedded_url) as raw:
        await process.says("serving")
        for what, body in DEEP.items():
            error = await refused(raw, service, body, content_type=f"{service}.greet".encode())
            assert (error["code"], error["executed"]) == ("invalid_argument", "no"), what
        answer = await raw.ask(service, b'["you"]', content_type=f"{service}.greet".encode())
        assert answer.body == b'"hello you"'
