"""Services that call each other: the time of the outermost caller is the time of all of them."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import msgspec
import pytest

import amqproxy
from tests.contract.raw import Raw
from tests.contract.test_deadlines import gate
from tests.hop import Hop
from tests.processes import PATIENCE, Running, running

TICK = 0.001
"""Time travels in milliseconds."""


class Chain:
    """Three processes, of which each calls the next."""

    def __init__(self, mq: amqproxy.Client, raw: Raw, names: list[str], processes: list[Running]) -> None:
        self.first: Any = mq.proxy(Hop, name=names[0], timeout=PATIENCE)
        self._raw = raw
        self._names = names
        self._processes = processes

    async def say(self, word: str) -> None:
        """Return when all of them have said it once."""
        await asyncio.gather(*(process.says(f"{word}\n") for process in self._processes))

    async def running(self) -> list[int]:
        """How many calls each of them runs."""
        found = []
        for name in self._names:
            answer = await self._raw.ask("", b"", exchange=f"amqproxy.{name}", content_type=b"amqproxy.Ping")
            found.append(msgspec.json.decode(answer.body)["running"])
        return found


@pytest.fixture
async def chain(mq: amqproxy.Client, raw: Raw, amqp_url: str, service: str) -> AsyncIterator[Chain]:
    names = [f"{service}.{letter}" for letter in "abc"]
    async with AsyncExitStack() as stack:
        processes = [
            await stack.enter_async_context(running("hop.py", amqp_url, *names[at : at + 2]))
            for at in range(len(names))
        ]
        await asyncio.gather(*(process.says("serving") for process in processes))
        yield Chain(mq, raw, names, processes)


async def test_each_is_told_what_is_left_of_the_first_ones_time(chain: Chain) -> None:
    first, second, third = await amqproxy.options(chain.first, timeout=5).left(0.05)
    assert 4 < first <= 5
    assert 0.049 < first - second < 0.5
    assert 0.049 < second - third < 0.5
    with amqproxy.deadline(3):
        first, second, third = await chain.first.left(0.05)
    assert 2 < first <= 3
    assert 0.049 < first - second < 0.5
    assert 0.049 < second - third < 0.5


async def test_nobody_on_the_way_gets_more_than_is_left_and_who_wants_less_gets_less(chain: Chain) -> None:
    inherited = amqproxy.options(chain.first, timeout=3)
    first, second, third = await inherited.left_behind_bounds(60.0, 20.0)
    assert 2 < third <= second + TICK <= first + 2 * TICK <= 3 + 2 * TICK
    first, second, third = await inherited.left_behind_bounds(60.0, 1.0)
    assert 2 < first <= 3
    assert 0.5 < third <= second + TICK <= 1 + TICK
    first, second, third = await inherited.left_behind_bounds(1.5, 20.0)
    assert 2 < first <= 3
    assert 1 < third <= second + TICK <= 1.5 + TICK


async def test_work_in_the_background_does_not_inherit(chain: Chain) -> None:
    first, second, third = await amqproxy.options(chain.first, timeout=3).left_behind_bounds(None, 20.0)
    assert 2 < first <= 3
    assert 19 < third <= 20
    assert 19 < second <= 20


@pytest.mark.parametrize("own", [None, 30.0])
async def test_when_the_time_is_over_all_of_them_end(chain: Chain, own: float | None) -> None:
    began = time.monotonic()
    with pytest.raises(amqproxy.CallTimeout, match=r"hang: no answer within 0\.8 s"):
        await amqproxy.options(chain.first, timeout=0.8).hang(own)
    assert 0.8 <= time.monotonic() - began < 1.5
    async with asyncio.timeout(1):
        await chain.say("ended")
    await chain.say("hanging")
    assert await chain.running() == [0, 0, 0]
    assert len(await chain.first.left()) == 3


@pytest.mark.parametrize("method", ["hang", "read"])
async def test_who_is_cancelled_cancels_all_of_them(chain: Chain, method: str) -> None:
    call = asyncio.ensure_future(getattr(chain.first, method)())
    await chain.say("hanging")
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    async with asyncio.timeout(1):
        await chain.say("ended")
    assert await chain.running() == [0, 0, 0]


# In one process


async def test_a_caller_whose_time_is_over_is_not_told_that_the_time_of_others_is(
    mq: amqproxy.Client, raw: Raw, service: str
) -> None:
    """All calls of a chain end at one moment, and each caller shall find that out by its own clock."""

    class Outer:
        async def ask(self) -> None:
            begun.set()
            await inner.wait(1)

        async def ping(self) -> str:
            return "pong"

    begun = asyncio.Event()
    async with gate(mq, f"{service}.inner") as (_, inner), mq.serve(Outer(), name=service, auto_delete=True) as worker:
        raw.publish(
            service,
            b"{}",
            content_type=f"{service}.ask".encode(),
            correlation_id=b"1",
            reply_to=raw.reply_to,
            headers={"x-timeout-ms": 100},
        )
        await begun.wait()
        await asyncio.wait(worker.running.values())
        answer = await raw.ask(service, b"{}", content_type=f"{service}.ping".encode(), correlation_id=b"2")
        assert (answer.properties.correlation_id, answer.body) == (b"2", b'"pong"')


async def test_a_handler_whose_call_ends_with_its_own_time_is_no_news(
    mq: amqproxy.Client, service: str, caplog: pytest.LogCaptureFixture
) -> None:
    class Outer:
        async def ask(self, own: float | None) -> None:
            await (inner if own is None else amqproxy.options(inner, timeout=own)).wait(1)

    async with gate(mq, f"{service}.inner") as (_, inner), mq.serve(Outer(), name=service, auto_delete=True) as worker:
        outer = mq.proxy(Outer, name=service)
        with pytest.raises(amqproxy.CallTimeout):
            await amqproxy.options(outer, timeout=0.1).ask(None)
        while worker.running:
            await asyncio.wait(worker.running.values())
        assert not [r for r in caplog.records if r.name == "amqproxy.server" and r.levelno >= logging.WARNING]
        with pytest.raises(amqproxy.RemoteError, match=r"CallTimeout: .*wait: no answer within 0\.1 s"):
            await outer.ask(0.1)
        [record] = [r for r in caplog.records if r.name == "amqproxy.server" and r.levelno >= logging.WARNING]
        assert record.getMessage().endswith("raised")


async def test_a_call_without_time_fails_at_once_and_is_not_sent(mq: amqproxy.Client, service: str) -> None:
    async with gate(mq, service) as (handler, proxy):
        stream = mq.proxy(service).wait(1).__aiter__()
        with amqproxy.deadline(0) as within:
            assert within.left == 0
            began = time.monotonic()
            for call in (
                proxy.wait(1),
                amqproxy.options(proxy, heartbeat=1).wait(1),
                mq.proxy(service).wait(1),
                amqproxy.progress(proxy.wait(1), print),
            ):
                with pytest.raises(amqproxy.CallTimeout, match="no time is left in which it could be called") as caught:
                    await call
                assert caught.value.executed == "no"
            with pytest.raises(amqproxy.CallTimeout, match="no time is left"):
                mq.proxy(service).wait(1).__aiter__()
            assert time.monotonic() - began < 0.5
        await stream.aclose()
        assert await proxy.ping() == "pong"
        assert handler.entered.locked()


async def test_a_stream_of_a_block_is_not_begun_when_its_time_is_over(mq: amqproxy.Client, service: str) -> None:
    async with gate(mq, service) as (handler, _):
        with amqproxy.deadline(0.05) as within:
            stream = mq.proxy(service).wait(1).__aiter__()
            await asyncio.sleep(within.left or 0)
        with pytest.raises(amqproxy.CallTimeout, match="no time is left") as caught:
            await anext(stream)
        assert caught.value.executed == "no"
        assert handler.entered.locked()


async def test_a_block_ends_its_calls_and_the_earliest_of_several_counts(mq: amqproxy.Client, service: str) -> None:
    async with gate(mq, service) as (_, proxy):
        for outer, inner in ((0.1, 20), (20, 0.1)):
            with amqproxy.deadline(outer), amqproxy.deadline(inner):
                began = time.monotonic()
                with pytest.raises(amqproxy.CallTimeout, match="within the time that was left to it"):
                    await proxy.wait(1)
                assert 0.1 <= time.monotonic() - began < 1
        assert await proxy.ping() == "pong"


async def test_an_inner_block_may_lift_the_outer_one(mq: amqproxy.Client, service: str) -> None:
    async with gate(mq, service) as (_, proxy):
        with amqproxy.deadline(0):
            with amqproxy.deadline(None) as lifted:
                assert lifted.left is None
                assert await proxy.ping() == "pong"
                with amqproxy.deadline(5) as inner:
                    assert inner.left is not None
                    assert 4 < inner.left <= 5
            with pytest.raises(amqproxy.CallTimeout):
                await proxy.ping()


async def test_tasks_and_threads_inherit(mq: amqproxy.Client, service: str) -> None:
    class Clock:
        async def left(self) -> float | None:
            return amqproxy.current().time_left

        def left_of_next(self) -> float | None:
            """In a thread, by way of the event loop."""
            assert threading.current_thread() is not threading.main_thread()
            with amqproxy.deadline(2) as within:
                assert within.left is not None
                assert 1 < within.left <= 2
                return _left_by_thread(clock, loop)

    loop = asyncio.get_running_loop()
    async with mq.serve(Clock(), name=service, auto_delete=True):
        clock: Any = mq.proxy(Clock, name=service)
        with amqproxy.deadline(3):
            task = asyncio.create_task(clock.left())
            thread = asyncio.create_task(asyncio.to_thread(_left_by_thread, clock, loop))
        left = await task
        assert left is not None
        assert 2 < left <= 3
        assert 2 < await thread <= 3
        found = await amqproxy.options(clock, timeout=10).left_of_next()
        assert 1 < found <= 2


def _left_by_thread(clock: Any, loop: asyncio.AbstractEventLoop) -> float:
    async def ask() -> float:
        left: float = await clock.left()
        return left

    return asyncio.run_coroutine_threadsafe(ask(), loop).result()


async def test_a_handler_in_a_block_knows_its_call(mq: amqproxy.Client, service: str) -> None:
    class Nested:
        async def name(self) -> str:
            with amqproxy.deadline(5), amqproxy.deadline(None):
                return amqproxy.current().method

    async with mq.serve(Nested(), name=service, auto_delete=True):
        assert await mq.proxy(Nested, name=service).name() == "name"
