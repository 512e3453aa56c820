"""Streams that nobody takes item by item, from generators that never wait: others are served, and they can be ended."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

import amqproxy
from tests.contract.raw import Raw
from tests.contract.test_dead_letters import eventually, waiting
from tests.contract.voters import processes
from tests.patience import until
from tests.polled import Polled

CANCEL = b"amqproxy.Cancel"
LONG = 5.0
"""Seconds after which a generator ends by itself, so that a worker that stands still fails the test and no more."""
WAYS = pytest.mark.parametrize("of_all", [False, True], ids=["one worker", "all workers"])


class Numbers:
    """Its generators never wait."""

    def __init__(self) -> None:
        self.begun = 0
        self.closed: list[str] = []

    async def ping(self) -> str:
        return "pong"

    async def busy(self) -> AsyncIterator[str]:
        self.begun += 1
        end = time.monotonic() + LONG
        how = "closed"
        try:
            while time.monotonic() < end:
                yield ""
            how = "ended"
        finally:
            self.closed.append(how)

    async def late(self) -> AsyncIterator[int]:
        yield 1
        raise TimeoutError("the database is slow")

    async def many(self, to: int) -> AsyncIterator[int]:
        for number in range(to):
            yield number


def send(raw: Raw, service: str, method: str, *, of_all: bool, body: bytes = b"[]", **properties: Any) -> None:
    """A request to the pool's queue, or to all workers."""
    kind = f"{service}.{method}".encode()
    key, exchange = ("", f"amqproxy.{service}") if of_all else (service, "")
    raw.publish(key, body, exchange=exchange, content_type=kind, correlation_id=b"1", **properties)


def cancel(raw: Raw, service: str, reply_to: bytes | None) -> None:
    raw.publish("", b"", exchange=f"amqproxy.{service}", content_type=CANCEL, correlation_id=b"1", reply_to=reply_to)


@WAYS
@pytest.mark.parametrize("heard", [False, True], ids=["one-way", "collected"])
async def test_others_are_served_meanwhile_and_a_cancel_ends_it(
    mq: amqproxy.Client, raw: Raw, service: str, heard: bool, of_all: bool
) -> None:
    served, reply_to = Numbers(), raw.reply_to if heard else None
    async with mq.serve(served, name=service, auto_delete=True) as worker:
        send(raw, service, "busy", of_all=of_all, reply_to=reply_to)
        await until(lambda: served.begun)
        proxy = mq.proxy(Numbers, name=service)
        assert await proxy.ping() == "pong"
        assert served.closed == []
        cancel(raw, service, reply_to)
        await until(lambda: served.closed)
        assert served.closed == ["closed"]
        await until(lambda: not worker.running)
        assert await proxy.ping() == "pong"
        assert raw.messages.empty()


async def test_a_pool_of_processes_outlives_a_stream_without_end(
    mq: amqproxy.Client, amqp_url: str, raw: Raw, service: str
) -> None:
    """One that stands still loses its connection, and then the next one has the request."""
    async with processes(f"{amqp_url}?heartbeat=1", service, 2):
        proxy = mq.proxy(Polled, name=service, timeout=5)
        for _ in range(2):
            raw.publish(service, b"[10000000000]", content_type=f"{service}.numbers".encode(), correlation_id=b"1")
        pids, end = set[int](), time.monotonic() + 4  # a broker waits for two heartbeats, or three
        while time.monotonic() < end:
            pids.add(await proxy.pid())
        assert len(pids) == 2
        cancel(raw, service, None)
        link = await mq._live_connection().link()
        counts = await link.queue_counts(service)
        assert counts == (0, 2), "both are there, and nothing was given back"


@WAYS
async def test_a_one_way_stream_ends_with_its_time_and_the_log_says_so(
    mq: amqproxy.Client, raw: Raw, service: str, caplog: pytest.LogCaptureFixture, of_all: bool
) -> None:
    served = Numbers()
    async with mq.serve(served, name=service, auto_delete=True) as worker:
        send(raw, service, "busy", of_all=of_all, headers={"x-timeout-ms": 100})
        await until(lambda: served.closed)
        assert served.closed == ["closed"]
        await until(lambda: not worker.running)
    [told] = [record.message for record in caplog.records if "one-way" in record.message]
    assert "CallTimeout: Numbers.busy() -> " in told
    assert "items: its time was over" in told
    assert "(executed: yes)" in told


async def test_it_goes_to_the_dead_letters_where_there_are_some(mq: amqproxy.Client, raw: Raw, service: str) -> None:
    served = Numbers()
    async with mq.serve(served, name=service, auto_delete=True, dead_letters=True):
        send(raw, service, "busy", of_all=False, headers={"x-timeout-ms": 100})
        await eventually(lambda: waiting(mq, f"{service}.dead"), 1)
    assert served.closed == ["closed"]


async def test_a_timeout_of_the_handlers_own_is_told_as_what_it_is(
    mq: amqproxy.Client, raw: Raw, service: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with mq.serve(Numbers(), name=service, auto_delete=True) as worker:
        send(raw, service, "late", of_all=False, headers={"x-timeout-ms": 60_000})
        await until(lambda: worker.answered == 1)
    [told] = [record.message for record in caplog.records if "one-way" in record.message]
    assert "TimeoutError: the database is slow" in told


async def test_a_stream_that_is_collected_has_all_its_items_in_order(
    mq: amqproxy.Client, raw: Raw, service: str
) -> None:
    async with mq.serve(Numbers(), name=service, auto_delete=True):
        for items in (0, 1, 63, 64, 65, 1000):
            send(raw, service, "many", of_all=False, body=b"[%d]" % items, reply_to=raw.reply_to)
            assert json.loads((await raw.next_message()).body) == list(range(items))
