"""Time: calls end when they are told to, late answers harm nobody, and nothing is left behind."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest

import amqproxy
from tests.contract.raw import Raw


class Gate:
    """Answers when it is opened."""

    def __init__(self) -> None:
        self.open = asyncio.Event()
        self.entered = asyncio.Semaphore(0)

    async def wait(self, number: int) -> int:
        self.entered.release()
        await self.open.wait()
        return number

    async def ping(self) -> str:
        return "pong"


@asynccontextmanager
async def gate(mq: amqproxy.Client, service: str, **options: Any) -> AsyncIterator[tuple[Gate, Any]]:
    handler = Gate()
    async with mq.serve(handler, name=service, auto_delete=True, **options):
        proxy = mq.proxy(Gate, name=service)
        assert await proxy.ping() == "pong"
        yield handler, proxy
        handler.open.set()


def nothing_is_left(proxy: Any) -> bool:
    calls = proxy.ping.line.calls
    assert calls.next_expiry() is None
    return not calls._pending and not calls._buckets and not calls._ticks


async def test_a_call_ends_at_its_timeout_and_says_how_far_it_got(mq: amqproxy.Client, service: str) -> None:
    async with gate(mq, service) as (handler, proxy):
        began = time.monotonic()
        text = r"wait: no answer within 0\.1 s; .*workers: 1,.*may have run$"
        with pytest.raises(amqproxy.CallTimeout, match=text) as caught:
            await amqproxy.options(proxy, timeout=0.1).wait(1)
        assert 0.1 <= time.monotonic() - began < 1.5
        assert isinstance(caught.value, TimeoutError)
        assert caught.value.executed == "maybe"
        handler.open.set()
        assert await proxy.ping() == "pong"
        assert nothing_is_left(proxy)


async def test_a_late_reply_is_counted_and_given_to_nobody(mq: amqproxy.Client, service: str) -> None:
    async with gate(mq, service) as (handler, proxy):
        with pytest.raises(amqproxy.CallTimeout):
            await amqproxy.options(proxy, timeout=0.05).wait(1)
        handler.open.set()
        assert await proxy.wait(2) == 2
        while proxy.ping.line.calls.late < 1:
            await proxy.ping()
        assert nothing_is_left(proxy)


async def test_nobody_serving_is_told_from_nobody_answering(mq: amqproxy.Client, service: str) -> None:
    async with gate(mq, service, concurrency=1):
        pass
    worker = mq.serve(Gate(), name=service, arguments={"x-expires": 5000})
    await worker.start()
    await worker.stop()
    with pytest.raises(amqproxy.CallTimeout, match=f"nobody serves the queue '{service}' now: start a worker"):
        await mq.proxy(service, timeout=0.05).ping()


async def test_a_request_that_nobody_took_in_time_is_never_run(mq: amqproxy.Client, service: str) -> None:
    async with gate(mq, service, concurrency=1) as (handler, proxy):
        first = asyncio.create_task(proxy.wait(1))
        await handler.entered.acquire()
        with pytest.raises(amqproxy.CallTimeout, match="workers: 1"):
            await amqproxy.options(proxy, timeout=0.1).wait(2)
        handler.open.set()
        assert await first == 1
        assert await proxy.ping() == "pong"
        assert handler.entered.locked()  # the second call never came


async def test_calls_of_many_timeouts_end_in_their_order(mq: amqproxy.Client, service: str) -> None:
    async with gate(mq, service, concurrency=200) as (_, proxy):
        ended: list[float] = []

        async def call(seconds: float) -> None:
            with pytest.raises(amqproxy.CallTimeout):
                await amqproxy.options(proxy, timeout=seconds).wait(0)
            ended.append(seconds)

        timeouts = [0.3, 0.1, 0.2, 0.4]
        await asyncio.gather(*(call(t) for t in timeouts))
        assert ended == sorted(timeouts)
        assert nothing_is_left(proxy)


async def test_cancelling_leaves_nothing_behind(mq: amqproxy.Client, service: str) -> None:
    async with gate(mq, service, concurrency=1000) as (handler, proxy):
        tasks = [asyncio.create_task(proxy.wait(n)) for n in range(1000)]
        for _ in range(100):
            await handler.entered.acquire()
        for task in tasks[1:]:
            task.cancel()
        results = await asyncio.gather(*tasks[1:], return_exceptions=True)
        assert all(isinstance(result, asyncio.CancelledError) for result in results)
        assert len(proxy.ping.line.calls) == 1
        handler.open.set()
        assert await tasks[0] == 0
        assert nothing_is_left(proxy)
        assert await proxy.ping() == "pong"


async def test_asyncio_timeout_works_on_a_call(mq: amqproxy.Client, service: str) -> None:
    async with gate(mq, service) as (_, proxy):
        with pytest.raises(TimeoutError) as caught:
            async with asyncio.timeout(0.05):
                await proxy.wait(1)
        assert not isinstance(caught.value, amqproxy.CallTimeout)
        assert nothing_is_left(proxy)


async def test_a_call_can_be_cancelled_at_every_step(mq: amqproxy.Client, service: str) -> None:
    async with gate(mq, service) as (handler, proxy):
        handler.open.set()
        for turns in range(30):
            task = asyncio.create_task(amqproxy.options(proxy, exchange="amq.direct").wait(turns))
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait((task,))
        assert await proxy.wait(7) == 7
        assert await amqproxy.options(proxy, exchange="amq.direct").wait(7) == 7
        assert nothing_is_left(proxy)


@pytest.mark.parametrize(("header", "most"), [(5000, 5.0), ("5000", 5.0), ("soon", None), (True, None), (2**40, 2**40)])
async def test_a_handler_knows_what_is_left_from_a_number_or_a_text(
    mq: amqproxy.Client, raw: Raw, service: str, header: object, most: float | None
) -> None:
    class Clock:
        async def left(self) -> float | None:
            return amqproxy.current().time_left

    async with mq.serve(Clock(), name=service, auto_delete=True):
        answer = await raw.ask(
            service, b"{}", content_type=f"{service}.left".encode(), headers={"x-timeout-ms": header}
        )
    left = msgspec.json.decode(answer.body)
    assert left is None if most is None else 0 < left <= most


@pytest.mark.parametrize("header", [0, -1, -(2**31), -(2**40), "0", "-5"])
async def test_a_request_without_time_is_refused_and_never_run(
    mq: amqproxy.Client, raw: Raw, service: str, header: object
) -> None:
    async with gate(mq, service) as (handler, _):
        body, properties = b'{"number": 1}', {"content_type": f"{service}.wait".encode(), "correlation_id": b"1"}
        answer = await raw.ask(service, body, **properties, headers={"x-timeout-ms": header})
        failure = msgspec.json.decode(answer.body)
        assert (failure["error"]["code"], failure["error"]["executed"]) == ("deadline_exceeded", "no")
        assert "was not run: no time was left" in failure["message"]
        everyone = await raw.ask(
            "", body, exchange=f"amqproxy.{service}", **properties, headers={"x-timeout-ms": header}
        )
        assert msgspec.json.decode(everyone.body)["error"]["code"] == "deadline_exceeded"
        assert handler.entered.locked()
