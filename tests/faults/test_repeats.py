"""Workers that are killed and frozen, and messages that come late or twice: one result, and no more runs than said."""

from __future__ import annotations

import asyncio
import json
import signal
import time
from pathlib import Path
from typing import Any

import pytest

import amqproxy
from amqproxy.confirming import ConfirmedLine
from tests.contract.raw import Raw
from tests.contract.test_deadlines import Gate, gate
from tests.faults.table import Row
from tests.ledger import Ledger, runs
from tests.patience import SLACK, until
from tests.processes import PATIENCE, Running, running
from tests.redis_server import RedisServer, redis

__all__ = ["redis"]  # a fixture

HEARTBEAT = 0.2
AT_ONCE = 1.0
"""Seconds that what happens at once may take here."""
SOON = 10.0
"""Seconds for what has to wait until another worker has been started."""


def script(url: str, service: str, journal: Path, *options: str) -> Any:
    return running("ledger.py", url, service, str(journal), *options)


async def killed(worker: Running) -> None:
    worker.send(signal.SIGKILL)
    await worker.ends()


@pytest.mark.fault("F20", "SIGKILL in the handler; another worker is started")
async def test_a_call_whose_worker_is_killed_is_run_by_another(
    row: Row, mq: amqproxy.Client, amqp_url: str, service: str, tmp_path: Path
) -> None:
    journal = tmp_path / "journal"
    async with script(amqp_url, service, journal, "hang=1") as first:
        await first.says(f"serving {service}")
        call = asyncio.ensure_future(mq.proxy(Ledger, name=service).book("tea"))
        await first.says("booked tea")
        await killed(first)
    row.begin()
    async with script(amqp_url, service, journal):
        with row.sees("the answer", within=SOON, since_begin=True):
            assert await call == "tea 2"
        row.count(lost=0, duplicated=runs(journal, "tea") - 1)
    assert runs(journal, "tea") == 2


@pytest.mark.fault("F20", "SIGKILL in a handler that runs at most once")
@pytest.mark.parametrize("heartbeat", [None, HEARTBEAT])
async def test_a_call_that_runs_at_most_once_is_not(
    row: Row, mq: amqproxy.Client, amqp_url: str, service: str, tmp_path: Path, heartbeat: float | None
) -> None:
    journal = tmp_path / "journal"
    async with script(amqp_url, service, journal, "hang=1") as first:
        await first.says(f"serving {service}")
        timeout = PATIENCE if heartbeat else 3.0
        began = time.monotonic()
        call = asyncio.ensure_future(mq.proxy(Ledger, name=service, timeout=timeout, heartbeat=heartbeat).pay("rent"))
        await first.says("booked rent")
        await killed(first)
    error = amqproxy.WorkerLost if heartbeat else amqproxy.CallTimeout
    with row.sees(error, executed="maybe", within=3 * HEARTBEAT + AT_ONCE if heartbeat else timeout + AT_ONCE):
        await call
    assert time.monotonic() - began < (SOON if heartbeat else timeout + AT_ONCE)
    async with script(amqp_url, service, journal) as second:
        await second.says(f"serving {service}")
        assert await mq.proxy(Ledger, name=service).book("tea") == "tea 1"  # behind whatever was given back
    assert runs(journal, "rent") == 1
    row.count(lost=0, duplicated=0)


@pytest.mark.fault("F21", "SIGKILL when the handler has returned; another worker is started")
async def test_a_call_whose_worker_dies_behind_the_handler_is_run_twice_and_answered_once(
    row: Row, mq: amqproxy.Client, amqp_url: str, service: str, tmp_path: Path
) -> None:
    journal = tmp_path / "journal"
    async with script(amqp_url, service, journal, "dies=handler") as first:
        await first.says(f"serving {service}")
        call = asyncio.ensure_future(mq.proxy(Ledger, name=service).book("tea"))
        await first.ends()
    row.begin()
    async with script(amqp_url, service, journal):
        with row.sees("the answer", within=SOON, since_begin=True):
            assert await call == "tea 2"
    row.count(lost=0, duplicated=runs(journal, "tea") - 1)


@pytest.mark.fault("F21", "SIGKILL when the reply is kept in Redis, before it is sent")
@pytest.mark.parametrize("method", ["book", "pay"])
async def test_with_a_shared_store_it_is_run_once(
    row: Row, mq: amqproxy.Client, amqp_url: str, service: str, tmp_path: Path, redis: RedisServer, method: str
) -> None:
    journal, store = tmp_path / "journal", f"store={redis.url}"
    async with script(amqp_url, service, journal, store, "dies=store") as first:
        await first.says(f"serving {service}")
        proxy = mq.proxy(Ledger, name=service, timeout=3.0 if method == "pay" else PATIENCE)
        call = asyncio.ensure_future(getattr(proxy, method)("tea"))
        await first.ends()
    row.begin()
    async with script(amqp_url, service, journal, store):
        if method == "pay":  # its request was acknowledged, and nobody else has it
            with row.sees(amqproxy.CallTimeout, executed="maybe", within=3.0 + AT_ONCE, since_begin=True):
                await call
        else:
            with row.sees("the answer", within=SOON, since_begin=True):
                assert await call == "tea 1"
    assert runs(journal, "tea") == 1
    row.count(lost=0, duplicated=0)


@pytest.mark.fault("F21", "SIGKILL in the handler, whose call is claimed in Redis")
async def test_the_claim_of_a_killed_worker_does_not_hold_up_the_next(
    row: Row, mq: amqproxy.Client, amqp_url: str, service: str, tmp_path: Path, redis: RedisServer
) -> None:
    journal, store = tmp_path / "journal", f"store={redis.url}"
    async with script(amqp_url, service, journal, store, "hang=1") as first:
        await first.says(f"serving {service}")
        call = asyncio.ensure_future(mq.proxy(Ledger, name=service).book("tea"))
        await first.says("booked tea")
        await killed(first)
    row.begin()
    async with script(amqp_url, service, journal, store):
        with row.sees("the answer", within=SOON, since_begin=True):
            assert await call == "tea 2"
    row.count(lost=0, duplicated=1)


@pytest.mark.fault("F22", "SIGSTOP in the handler, then SIGCONT")
@pytest.mark.parametrize("heartbeat", [None, HEARTBEAT])
async def test_a_frozen_worker_is_missed_and_what_it_says_later_is_dropped(
    row: Row, mq: amqproxy.Client, amqp_url: str, service: str, tmp_path: Path, heartbeat: float | None
) -> None:
    journal = tmp_path / "journal"
    async with script(amqp_url, service, journal, "slow=10") as worker:
        await worker.says(f"serving {service}")
        proxy = mq.proxy(Ledger, name=service, timeout=PATIENCE if heartbeat else 2.0, heartbeat=heartbeat)
        call = asyncio.ensure_future(proxy.book("tea"))
        await worker.says("booked tea")
        worker.send(signal.SIGSTOP)
        error = amqproxy.WorkerLost if heartbeat else amqproxy.CallTimeout
        with row.sees(error, executed="maybe", within=3 * HEARTBEAT + AT_ONCE if heartbeat else 2.0 + AT_ONCE):
            await call
        assert late(mq) == 0
        worker.send(signal.SIGCONT)
        await worker.says("answers tea")
        await until(lambda: late(mq) >= (2 if heartbeat else 1), within=PATIENCE)  # a sign of life, and the answer
        row.count(lost=0, duplicated=runs(journal, "tea") - 1)
        assert await mq.proxy(Ledger, name=service).book("tea") == "tea 2"
        assert heartbeat or late(mq) == 1
        assert pending(mq) == 0


def late(mq: amqproxy.Client) -> int:
    """How many answers came when nobody waited for them."""
    return sum(line.calls.late for line in mq.caller._by_prefix.values())


def pending(mq: amqproxy.Client) -> int:
    """How many calls wait for an answer."""
    return sum(len(line.calls) + len(line.conversations) for line in mq.caller._by_prefix.values())


@pytest.mark.fault("F23", "a worker of another make replies when the time of the call is over")
async def test_a_late_reply_is_dropped_and_counted(row: Row, mq: amqproxy.Client, raw: Raw, service: str) -> None:
    await raw.joins(service)
    proxy = mq.proxy(service)
    brief = amqproxy.options(proxy, timeout=0.3)
    for number in range(5):
        with row.sees(amqproxy.CallTimeout, executed="maybe", within=0.3 + AT_ONCE):
            await brief.ask(number)
        request = await raw.next_message()
        while request.properties.content_type == b"amqproxy.Cancel":
            request = await raw.next_message()
        call = asyncio.ensure_future(proxy.ask("next"))
        following = await raw.next_message()
        while following.properties.content_type == b"amqproxy.Cancel":
            following = await raw.next_message()
        answer(raw, request.properties, b'"late"')
        answer(raw, following.properties, b'"in time"')
        assert await call == "in time"
        if number == 0:
            row.count(lost=0, duplicated=0)
    assert late(mq) == 5
    assert pending(mq) == 0


def answer(raw: Raw, request: Any, body: bytes) -> None:
    raw.publish(request.reply_to.decode(), body, content_type=b"x", correlation_id=request.correlation_id)


@pytest.mark.fault("F24", "a worker of another make replies twice")
async def test_the_first_of_two_replies_counts(row: Row, mq: amqproxy.Client, raw: Raw, service: str) -> None:
    await raw.joins(service)
    for number in range(10):
        call = asyncio.ensure_future(mq.proxy(service).ask(number))
        request = await raw.next_message()
        answer(raw, request.properties, b"1")
        answer(raw, request.properties, b"2")
        with row.sees("the first answer", within=AT_ONCE):
            assert await call == 1
    await until(lambda: late(mq) == 10)
    assert pending(mq) == 0
    row.count(lost=0, duplicated=0)


@pytest.mark.fault("F25", "the same request published twice")
@pytest.mark.parametrize("deduplicate", [None, 100])
async def test_a_request_that_comes_twice(
    row: Row, mq: amqproxy.Client, raw: Raw, service: str, tmp_path: Path, deduplicate: int | None
) -> None:
    journal = tmp_path / "journal"
    async with mq.serve(Ledger(str(journal)), name=service, auto_delete=True, deduplicate=deduplicate):
        saw = "the same answer twice" if deduplicate else "an answer to each"
        with row.sees(saw, within=AT_ONCE):
            for _ in range(2):
                raw.publish(
                    service,
                    b'["tea"]',
                    content_type=f"{service}.book".encode(),
                    message_id=b"one",
                    reply_to=raw.reply_to,
                )
            said = [json.loads((await raw.next_message()).body) for _ in range(2)]
        assert sorted(said) == (["tea 1", "tea 1"] if deduplicate else ["tea 1", "tea 2"])
        assert runs(journal, "tea") == (1 if deduplicate else 2)
        row.count(lost=0, duplicated=runs(journal, "tea") - 1)


@pytest.mark.fault("F25", "given back by a worker that does not say whether it ran (basic.nack)")
async def test_a_request_that_was_given_back_is_known_by_that(
    row: Row, mq: amqproxy.Client, amqp_url: str, service: str
) -> None:
    class Knowing:
        async def ask(self) -> list[Any]:
            call = amqproxy.current()
            return [call.redelivered, call.message_id is not None]

        @amqproxy.method(at_most_once=True)
        async def pay(self) -> None: ...

    async with Raw.connected(amqp_url) as first:
        await first.opened._channel.queue_declare(service, durable=True, arguments={"x-expires": 60_000})
        await first.opened.consume(service, lambda: None, no_ack=False)
        proxy = mq.proxy(Knowing, name=service)
        ask, pay = asyncio.ensure_future(proxy.ask()), asyncio.ensure_future(proxy.pay())
        for _ in range(2):
            await first.next_message()
    row.begin()
    async with mq.serve(Knowing(), name=service, arguments={"x-expires": 60_000}):
        with row.sees("the answer, and that it was redelivered", within=SOON, since_begin=True):
            assert await ask == [True, True]
        row.count(lost=0, duplicated=0)
        with row.sees(amqproxy.RemoteError, executed="maybe", within=SOON, since_begin=True, match="at most once"):
            await pay


@pytest.mark.fault("F42", "the task of the caller is cancelled in the handler")
async def test_a_cancelled_call_stops_its_handler_and_leaves_nothing(
    row: Row, mq: amqproxy.Client, service: str
) -> None:
    class Long:
        def __init__(self) -> None:
            self.begun, self.stopped = asyncio.Event(), asyncio.Event()

        async def wait(self) -> None:
            self.begun.set()
            try:
                await asyncio.Event().wait()
            finally:
                self.stopped.set()

        async def ping(self) -> str:
            return "pong"

    served = Long()
    async with mq.serve(served, name=service, auto_delete=True):
        proxy = mq.proxy(Long, name=service)
        call = asyncio.ensure_future(proxy.wait())
        await served.begun.wait()
        call.cancel()
        with row.sees(asyncio.CancelledError, within=AT_ONCE):
            await call
        row.count(lost=0, duplicated=0)
        async with asyncio.timeout(SOON * SLACK):
            await served.stopped.wait()
        assert await proxy.ping() == "pong"
        assert pending(mq) == 0


async def burst(proxy: Any) -> float:
    """Seconds that a thousand calls at once take."""
    began = time.monotonic()
    assert set(await asyncio.gather(*(proxy.ping() for _ in range(1000)))) == {"pong"}
    return time.monotonic() - began


@pytest.mark.fault("F43", "10,000 calls cancelled at once, of which half are confirmed")
async def test_many_cancelled_calls_leave_nothing(row: Row, mq: amqproxy.Client, service: str) -> None:
    async with gate(mq, service) as (_, _):
        proxies = [mq.proxy(Gate, name=service, timeout=PATIENCE, confirm=confirm) for confirm in (False, True)]
        before = [min([await burst(proxy) for _ in range(3)]) for proxy in proxies]
        tasks = len(asyncio.all_tasks())
        calls = [asyncio.ensure_future(proxies[number % 2].wait(number)) for number in range(10_000)]
        await until(lambda: pending(mq) == 10_000, within=PATIENCE)
        for call in calls:
            call.cancel()
        row.begin()
        await asyncio.wait(calls)
        assert all(call.cancelled() for call in calls)
        for proxy, seconds in zip(proxies, before, strict=True):
            with row.sees("1000 answers, as soon as ever", within=SOON, since_begin=True):
                while await burst(proxy) > 2 * seconds:
                    pass
        assert pending(mq) == 0
        await until(lambda: not unconfirmed(mq))
        cancelling = 1  # the channel by which workers hear of it stays open
        await until(lambda: len(asyncio.all_tasks()) <= tasks + cancelling, lambda: f"{asyncio.all_tasks()}")
        row.count(lost=0, duplicated=0)


def unconfirmed(mq: amqproxy.Client) -> int:
    """How many requests the broker is to confirm yet."""
    lines = [line for line in mq.caller._by_prefix.values() if isinstance(line, ConfirmedLine)]
    assert lines
    return sum(len(line._unconfirmed) for line in lines)
