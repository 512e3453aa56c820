"""Methods that run at most once: acknowledged before they run, and refused when another worker had them."""

from __future__ import annotations

import asyncio
import logging
import re
import signal
from pathlib import Path
from typing import Any

import pytest

import amqproxy
from amqproxy import RemoteError
from tests.contract.raw import Raw
from tests.contract.test_dead_letters import eventually, waiting
from tests.contract.test_links import cut
from tests.ledger import Ledger, runs
from tests.patience import until
from tests.processes import PATIENCE, running


class Bank:
    def __init__(self) -> None:
        self.paid: list[int] = []
        self.redelivered: list[bool] = []
        self.entered = asyncio.Semaphore(0)
        self.open = asyncio.Event()

    @amqproxy.method(at_most_once=True)
    async def pay(self, amount: int) -> int:
        self.paid.append(amount)
        self.redelivered.append(amqproxy.current().redelivered)
        self.entered.release()
        await self.open.wait()
        return amount

    @amqproxy.method(at_most_once=True)
    async def refuse(self) -> None:
        raise ValueError("no")

    @amqproxy.method(at_most_once=True)
    def in_a_thread(self, amount: int) -> int:
        return amount

    async def decline(self, amount: int) -> int:
        self.entered.release()
        await self.open.wait()
        raise ValueError("no funds")

    async def book(self, amount: int) -> int:
        self.paid.append(amount)
        self.entered.release()
        await self.open.wait()
        return amount


async def test_it_is_called_as_any_other(mq: amqproxy.Client, service: str) -> None:
    bank = Bank()
    bank.open.set()
    async with mq.serve(bank, name=service, auto_delete=True):
        proxy = mq.proxy(Bank, name=service)
        assert await proxy.pay(3) == 3
        assert await proxy.in_a_thread(4) == 4  # type: ignore[misc]  # a plain def, which runs in a thread
        with pytest.raises(ValueError, match="no"):
            await proxy.refuse()
        assert await mq.proxy(service).pay(5) == 5


async def test_a_request_that_a_worker_had_before_is_refused(amqp_url: str, service: str) -> None:
    """The link of the first worker breaks while the request waits in it, not begun and not acknowledged."""
    async with amqproxy.connect(amqp_url) as mq, amqproxy.connect(amqp_url) as server:
        bank = Bank()
        async with Raw.connected(amqp_url) as first:
            # A worker of another make that takes the request, and goes without a word.
            channel = first.opened._channel
            await channel.queue_declare(service, durable=True, auto_delete=False, arguments={"x-expires": 60_000})
            await first.opened.consume(service, lambda: None, no_ack=False)
            call = asyncio.ensure_future(mq.proxy(Bank, name=service).pay(1))
            one_way = asyncio.ensure_future(mq.sender(Bank, name=service).pay(2))
            await first.next_message()
            await first.next_message()
            await one_way
        async with server.serve(bank, name=service, arguments={"x-expires": 60_000}):
            with pytest.raises(RemoteError, match="runs at most once") as caught:
                await call
            assert (caught.value.code, caught.value.executed) == ("aborted", "maybe")
            assert not caught.value.retryable
            bank.open.set()
            assert await mq.proxy(Bank, name=service).pay(3) == 3
            assert bank.paid == [3]


async def test_what_runs_is_acknowledged_already_and_others_wait_for_their_turn(
    mq: amqproxy.Client, service: str
) -> None:
    bank = Bank()
    async with mq.serve(bank, name=service, auto_delete=True, concurrency=2) as worker:
        proxy = mq.proxy(Bank, name=service)
        calls = [asyncio.ensure_future(proxy.pay(n)) for n in range(10)]
        for _ in range(2):
            await bank.entered.acquire()
        await until(lambda: len(worker.running) == 4)  # and there are those that wait
        assert len(bank.paid) == 2
        bank.open.set()
        assert sorted(await asyncio.gather(*calls)) == list(range(10))


async def test_one_that_waits_for_its_turn_gives_signs_of_life(mq: amqproxy.Client, service: str) -> None:
    bank = Bank()
    async with mq.serve(bank, name=service, auto_delete=True, concurrency=1):
        proxy = mq.proxy(Bank, name=service, heartbeat=0.1)
        calls = [asyncio.ensure_future(proxy.pay(n)) for n in range(2)]
        await asyncio.sleep(0.8)  # eight times the interval, of which three are missed
        bank.open.set()
        assert await asyncio.gather(*calls) == [0, 1]


async def test_one_that_waits_may_be_cancelled_or_too_late(mq: amqproxy.Client, service: str) -> None:
    bank = Bank()
    async with mq.serve(bank, name=service, auto_delete=True, concurrency=2) as worker:
        proxy = mq.proxy(Bank, name=service)
        calls = [asyncio.ensure_future(proxy.pay(n)) for n in range(2)]
        for _ in calls:
            await bank.entered.acquire()
        cancelled = asyncio.ensure_future(proxy.pay(100))
        late = asyncio.ensure_future(amqproxy.options(proxy, timeout=0.2).pay(200))
        await until(lambda: len(worker.running) == 4)
        cancelled.cancel()
        with pytest.raises(amqproxy.CallTimeout):
            await late
        bank.open.set()
        await asyncio.gather(*calls)
        assert await proxy.pay(3) == 3
        assert bank.paid == [0, 1, 3]
        assert worker.running == {}


async def test_one_that_waits_when_its_worker_stops_was_not_run(mq: amqproxy.Client, service: str) -> None:
    bank = Bank()
    async with mq.serve(bank, name=service, arguments={"x-expires": 60_000}, concurrency=1, grace=0) as worker:
        proxy = mq.proxy(Bank, name=service)
        first = asyncio.ensure_future(proxy.pay(1))
        await bank.entered.acquire()
        second = asyncio.ensure_future(proxy.pay(2))
        await until(lambda: len(worker.running) == 2)
    with pytest.raises(RemoteError, match="was not run: the worker stopped") as caught:
        await second
    assert (caught.value.executed, caught.value.retryable) == ("no", True)
    with pytest.raises(RemoteError, match="in the middle of the call"):
        await first


async def test_a_worker_that_stops_loses_none_and_refuses_none(amqp_url: str, service: str) -> None:
    """What is on its way when a worker stops is run by it: given back it would count as run."""
    options = {"name": service, "arguments": {"x-expires": 60_000}}
    async with amqproxy.connect(amqp_url) as mq, amqproxy.connect(amqp_url) as server:
        bank = Bank()
        bank.open.set()
        proxy = mq.proxy(Bank, name=service)
        calls = []
        async with server.serve(bank, **options):  # type: ignore[arg-type]
            for round in range(10):
                async with server.serve(bank, **options):  # type: ignore[arg-type]
                    calls += [asyncio.ensure_future(proxy.pay(100 * round + n)) for n in range(100)]
                    await bank.entered.acquire()
            assert await asyncio.gather(*calls) == list(range(1000))
        assert sorted(bank.paid) == list(range(1000))


@pytest.mark.parametrize("behind", ["calls", "a batch"])
async def test_a_message_that_waits_when_its_worker_stops_is_not_lost(
    mq: amqproxy.Client, raw: Raw, service: str, behind: str
) -> None:
    options: dict[str, Any] = {"name": service, "arguments": {"x-expires": 60_000}}
    first, second = Bank(), Bank()
    second.open.set()
    async with mq.serve(first, **options, concurrency=3, grace=0) as worker:
        if behind == "a batch":
            book, of = f"{service}.book".encode(), {"x-batch": 2}
            raw.publish(service, b"[[0],[0]]", content_type=book, headers=of, reply_to=raw.reply_to)
            for _ in range(2):
                await first.entered.acquire()
        sender = mq.sender(Bank, name=service)
        for amount in range(5):
            await sender.pay(amount)
        raw.publish(service, b"[5]", content_type=f"{service}.pay".encode(), headers={"x-timeout-ms": 60_000})
        await until(lambda: first.paid[-3:] == [0, 1, 2])
        await until(lambda: len(worker.running) == (6 if behind == "calls" else 7))
    async with mq.serve(second, **options):
        missing = [3, 4, 5] if behind == "calls" else [0, 0, 3, 4, 5]
        await until(lambda: sorted(second.paid) == missing, lambda: str(second.paid))
        assert second.redelivered == [False] * 3
    assert await (await mq._live_connection().link()).queue_counts(service) == (0, 0)


async def test_a_message_that_cannot_go_back_is_told_of(
    mq: amqproxy.Client, service: str, caplog: pytest.LogCaptureFixture
) -> None:
    """An automatic queue goes with its last worker, and with it what was in it."""
    caplog.set_level(logging.ERROR, "amqproxy")
    bank = Bank()
    async with mq.serve(bank, name=service, auto_delete=True, concurrency=1, grace=0) as worker:
        sender = mq.sender(Bank, name=service)
        for amount in range(2):
            await sender.pay(amount)
        await until(lambda: len(worker.running) == 2)
        await bank.entered.acquire()
    assert f"1 requests that this worker had not begun may not be in {service} again: the queue was del" in caplog.text


@pytest.mark.parametrize("encoding", ["json", "gzip-json"])
async def test_what_comes_while_the_worker_stops_is_run_in_any_encoding(
    mq: amqproxy.Client, service: str, encoding: str
) -> None:
    """Given back, it would be refused by the next worker. The second encoding is one that it has not had yet."""
    bank = Bank()
    bank.open.set()
    async with mq.serve(bank, name=service, auto_delete=True) as worker:
        worker.stopping = True  # as it is before the broker has heard of it
        proxy = mq.proxy(Bank, name=service, encoding=encoding, timeout=5)
        assert await proxy.pay(7) == 7
        assert bank.redelivered == [False]
        worker.stopping = False


@pytest.mark.parametrize("deduplicate", [None, 100])
async def test_a_request_that_came_before_is_refused_whether_it_has_a_message_id_or_not(
    mq: amqproxy.Client, service: str, raw: Raw, deduplicate: int | None
) -> None:
    bank = Bank()
    bank.open.set()
    async with mq.serve(bank, name=service):
        pass
    pay = f"{service}.pay".encode()
    raw.publish(service, b"[1]", content_type=pay, correlation_id=b"1", reply_to=raw.reply_to)
    raw.publish(service, b"[2]", content_type=pay, correlation_id=b"2", reply_to=raw.reply_to, message_id=b"m")
    channel = await (await mq._live_connection().link())._channel()
    await eventually(lambda: waiting(mq, service), 2)
    for _ in range(2):
        tag = (await channel.basic_get(service)).delivery.delivery_tag  # type: ignore[union-attr]
    await channel.basic_nack(tag or 0, multiple=True, requeue=True)
    async with mq.serve(bank, name=service, deduplicate=deduplicate):
        for _ in range(2):
            message = await raw.messages.get()
            assert b'"type":"Redelivered"' in message.body
    assert bank.paid == []
    await channel.queue_delete(service)


async def test_a_message_that_finds_its_queue_full_goes_to_a_worker_that_refuses_it(
    mq: amqproxy.Client, service: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "amqproxy")
    options: dict[str, Any] = {"name": service, "arguments": {"x-expires": 60_000}, "max_length": 1}
    first, second = Bank(), Bank()
    second.open.set()
    sender = mq.sender(Bank, name=service)
    async with mq.serve(first, **options, concurrency=1, grace=0) as worker:
        for amount in range(2):
            await sender.pay(amount)
            await until(lambda: len(worker.running) == amount + 1)  # noqa: B023
        await first.entered.acquire()
        await sender.pay(2)
    assert f"1 requests that this worker had not begun may not be in {service} again: the queue is full" in caplog.text
    async with mq.serve(second, **options):
        await until(lambda: second.paid == [2] and "Redelivered" in caplog.text, lambda: str(second.paid))


async def test_what_a_stopping_worker_interrupts_may_have_run(mq: amqproxy.Client, service: str) -> None:
    bank = Bank()
    async with mq.serve(bank, name=service, arguments={"x-expires": 60_000}, grace=0):
        call = asyncio.ensure_future(mq.proxy(Bank, name=service).pay(1))
        await bank.entered.acquire()
    with pytest.raises(
        RemoteError, match=r"^\w+: Bank\.pay.*: the worker .* stopped in the middle of the call"
    ) as caught:
        await call
    assert "look what it did before you call again" in caught.value.message
    assert (caught.value.code, caught.value.executed) == ("unavailable", "maybe")


@pytest.mark.parametrize(
    ("method", "answers", "says"),
    [
        (
            "pay",
            True,
            r"\.pay\.Reply, whose call has run, could not be sent .*: nobody runs it again, and nobody is told",
        ),
        ("book", True, r"\.book\.Reply, .* could not be sent .*: the broker gives the request to a worker again"),
        ("book", False, r"\.book\.Reply, .*, could not be acknowledged .*: the broker gives the request to a worker"),
        (
            "decline",
            True,
            r"the failure of .*\.decline \(.*\), ValueError: no funds .*, could not be sent .*: the broker",
        ),
        ("decline", False, r"the failure of .*\.decline \(.*, ValueError: no funds .*, could not be acknowledged .*"),
    ],
)
async def test_an_answer_that_cannot_be_sent_is_logged_with_what_becomes_of_the_call(
    amqp_url: str, service: str, caplog: pytest.LogCaptureFixture, method: str, answers: bool, says: str
) -> None:
    caplog.set_level(logging.WARNING, "amqproxy")
    bank = Bank()
    async with (
        amqproxy.connect(amqp_url) as mq,
        amqproxy.connect(amqp_url) as server,
        server.serve(bank, name=service, arguments={"x-expires": 60_000}) as worker,
    ):
        view: Any = mq.proxy(service) if answers else mq.sender(service)
        call = asyncio.ensure_future(getattr(view, method)(1))
        await bank.entered.acquire()
        session = worker.session
        assert session is not None
        cut(server)
        await until(lambda: not session.alive)
        bank.open.set()
        await until(lambda: re.search(rf"{service}: .*{says}", caplog.text), lambda: caplog.text)
        call.cancel()


async def test_of_a_one_way_call_that_ran_once_no_loss_is_told(
    amqp_url: str, service: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "amqproxy")
    bank = Bank()
    async with (
        amqproxy.connect(amqp_url) as mq,
        amqproxy.connect(amqp_url) as server,
        server.serve(bank, name=service, arguments={"x-expires": 60_000}) as worker,
    ):
        await mq.sender(service).pay(1)
        await bank.entered.acquire()
        session = worker.session
        assert session is not None
        cut(server)
        await until(lambda: not session.alive)
        bank.open.set()
        await until(lambda: not worker.running)
    assert "could not be" not in caplog.text


async def test_calls_of_a_batch_travel_alone(mq: amqproxy.Client, service: str) -> None:
    bank = Bank()
    bank.open.set()
    async with mq.serve(bank, name=service, auto_delete=True):
        proxy = mq.proxy(Bank, name=service)
        assert await amqproxy.gather(proxy.pay(n) for n in range(5)) == list(range(5))
        by_name = mq.proxy(service)
        assert await amqproxy.gather(by_name.pay(n) for n in range(5)) == list(range(5))
        assert await proxy.book(1) == 1


async def test_a_proxy_that_takes_it_for_idempotent_is_wrong(amqp_url: str, service: str) -> None:
    async with amqproxy.connect(amqp_url) as mq, amqproxy.connect(amqp_url) as server:
        bank = Bank()
        async with server.serve(bank, name=service, auto_delete=True):
            call = asyncio.ensure_future(mq.proxy(Bank, name=service, idempotent=True, retry=3).pay(1))
            await bank.entered.acquire()
            cut(mq)
            with pytest.raises(amqproxy.ConnectionLost):
                await call
            assert bank.paid == [1]
            bank.open.set()


async def test_requests_that_fail_are_not_given_back_once(mq: amqproxy.Client, service: str) -> None:
    async with mq.serve(Bank(), name=service, auto_delete=True, requeue_once=True):
        with pytest.raises(ValueError, match="no") as caught:
            await mq.proxy(Bank, name=service).refuse()
        assert caught.value.executed == "yes"  # type: ignore[attr-defined]


@pytest.mark.parametrize("heartbeat", [None, 0.1])
async def test_a_worker_that_is_killed_leaves_one_run(
    mq: amqproxy.Client, amqp_url: str, service: str, tmp_path: Path, heartbeat: float | None
) -> None:
    journal = tmp_path / "journal"
    script = ("ledger.py", amqp_url, service, str(journal))
    async with running(*script, "hang=1") as first:
        await first.says(f"serving {service}")
        proxy = mq.proxy(Ledger, name=service, timeout=PATIENCE if heartbeat else 2, heartbeat=heartbeat)
        call = asyncio.ensure_future(proxy.pay("rent"))
        await first.says("booked rent")
        first.send(signal.SIGKILL)
        await first.ends()
    async with running(*script) as second:
        with pytest.raises(amqproxy.WorkerLost if heartbeat else amqproxy.CallTimeout) as caught:
            await call
        assert caught.value.executed == "maybe"
        await second.says(f"serving {service}")
        assert await mq.proxy(Ledger, name=service).book("tea") == "tea 1"  # behind whatever was given back
        assert runs(journal, "rent") == 1
