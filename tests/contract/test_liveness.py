"""Signs of life: a worker that dies or hangs is missed long before the deadline, and one that works is not."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest

import amqproxy
from amqproxy import Progress
from amqproxy.properties import Properties
from amqproxy.topology import Queue
from tests.contract.raw import Raw
from tests.contract.test_deadlines import Gate, gate, nothing_is_left
from tests.processes import PATIENCE, Running, running
from tests.toiling import Toiler

HEARTBEAT = 0.1
"""Seconds, where a worker is to be missed soon."""
CALM = 0.5
"""Where one must not be, on a machine that is busy."""
SLACK = 1.0
"""What a busy machine may add to the three intervals."""

DEATHS = pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])


@asynccontextmanager
async def workers(mq: amqproxy.Client, url: str, name: str, count: int = 1) -> AsyncIterator[tuple[list[Running], Any]]:
    """Processes that serve, and a typed proxy of them that wants signs of life."""
    async with AsyncExitStack() as stack:
        processes = []
        for _ in range(count):
            process = await stack.enter_async_context(running("toiling.py", url, name))
            await process.says(f"serving {name}")
            processes.append(process)
        yield processes, mq.proxy(Toiler, name=name, timeout=PATIENCE, heartbeat=HEARTBEAT)


@asynccontextmanager
async def missed() -> AsyncIterator[None]:
    """The block ends with WorkerLost, three intervals after its beginning at the latest."""
    began = time.monotonic()
    text = r"no sign of life from the worker for 0\.3.*, where one was due every .* may have run in part$"
    with pytest.raises(amqproxy.WorkerLost, match=text) as caught:
        yield
    assert caught.value.executed == "maybe"
    assert HEARTBEAT < time.monotonic() - began < 3 * HEARTBEAT + SLACK


@DEATHS
async def test_a_worker_that_dies_or_hangs_is_missed(
    mq: amqproxy.Client, amqp_url: str, service: str, number: signal.Signals
) -> None:
    async with workers(mq, amqp_url, service) as ([worker], toiler):
        call = asyncio.ensure_future(toiler.wait())
        await worker.says("waiting")
        async with missed():
            worker.send(number)
            await call
        line = await mq.caller.line("", time.monotonic() + 1)
        assert not line.conversations


async def test_a_worker_whose_event_loop_is_held_up_is_missed(mq: amqproxy.Client, amqp_url: str, service: str) -> None:
    async with workers(mq, amqp_url, service) as ([worker], toiler):
        call = asyncio.ensure_future(toiler.block())
        async with missed():
            await worker.says("blocking")
            await call


@DEATHS
async def test_a_worker_is_missed_in_the_middle_of_a_stream(
    mq: amqproxy.Client, amqp_url: str, service: str, number: signal.Signals
) -> None:
    async with workers(mq, amqp_url, service) as ([worker], toiler):
        rows = toiler.rows(10**6, 0.01)
        assert await anext(rows) == 0
        with pytest.raises(amqproxy.WorkerLost):
            worker.send(number)
            async with asyncio.timeout(3 * HEARTBEAT + SLACK):
                async for _ in rows:
                    pass


async def test_a_call_whose_progress_is_watched_misses_its_worker_too(
    mq: amqproxy.Client, amqp_url: str, service: str
) -> None:
    async with workers(mq, amqp_url, service) as ([worker], toiler):
        watched = amqproxy.progress(toiler.toil(10**6, 0.01))
        assert (await anext(watched)).total == 10**6
        async with missed():
            worker.send(signal.SIGKILL)
            async for _ in watched:
                pass


async def test_another_worker_takes_the_call_of_a_dead_one_and_the_caller_sees_one_answer(
    mq: amqproxy.Client, amqp_url: str, service: str
) -> None:
    async with workers(mq, amqp_url, service, 2) as (processes, toiler):
        calm = amqproxy.options(toiler, heartbeat=CALM)
        first = await calm.pid()
        [worker] = [process for process in processes if process.pid == first]
        [other] = [process for process in processes if process is not worker]
        waiting = [asyncio.ensure_future(calm.wait(other.pid)) for _ in range(2)]
        # Of two calls one comes to each; the one that may not answer here is answered by who inherits it.
        done, [left] = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED, timeout=PATIENCE)
        assert [task.result() for task in done] == [worker.pid]
        await other.says("waiting")
        other.send(signal.SIGKILL)
        assert await left == worker.pid


async def test_a_call_that_was_given_up_is_not_left_to_another_worker(
    mq: amqproxy.Client, amqp_url: str, service: str
) -> None:
    """The broker keeps the call for a worker that hangs, and gives it to another when that one dies at last."""
    async with workers(mq, amqp_url, service) as ([worker], toiler):
        call = asyncio.ensure_future(toiler.wait())
        await worker.says("waiting")
        async with running("toiling.py", amqp_url, service) as other:
            await other.says(f"serving {service}")
            async with missed():
                worker.send(signal.SIGSTOP)
                await call
            worker.send(signal.SIGKILL)
            async with asyncio.timeout(PATIENCE):
                # Its call is with the other when it is gone; nobody is told of that.
                while await mq.caller.census(service) != (0, 1):  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
            assert await toiler.pid() == other.pid
            assert [row async for row in toiler.rows(1)] == [0]
            await other.says("stopped the rows")
            said = other.heard.splitlines()
            assert said.count("waiting") == said.count("stopped waiting")  # neither, if it knew when the call came


async def test_an_idempotent_call_is_sent_again_when_its_worker_is_lost(
    mq: amqproxy.Client, raw: Raw, service: str
) -> None:
    link = await mq._live_connection().link()
    await link.declare_queue(Queue(service, durable=False, exclusive=False, auto_delete=True))
    await raw.opened.consume(service, lambda: None, no_ack=True)
    once, safe = (mq.proxy(service, timeout=PATIENCE, heartbeat=0.05, idempotent=safe) for safe in (False, True))

    async def next_request() -> Properties:
        properties = (await raw.next_message()).properties
        assert properties.reply_to is not None
        return properties

    def say(to: Properties, content_type: bytes, body: bytes) -> None:
        assert to.reply_to is not None
        raw.publish(to.reply_to.decode(), body, content_type=content_type, correlation_id=to.correlation_id)

    call = asyncio.ensure_future(once.add(1, 2))
    say(await next_request(), b"amqproxy.Alive", b"{}")
    with pytest.raises(amqproxy.WorkerLost):
        await call

    call = asyncio.ensure_future(safe.add(1, 2))
    first = await next_request()
    say(first, b"amqproxy.Alive", b"{}")
    second = await next_request()
    assert second.correlation_id != first.correlation_id
    assert second.message_id == first.message_id
    left = (first.headers or {})["x-timeout-ms"], (second.headers or {})["x-timeout-ms"]
    assert left[0] > left[1]
    say(second, f"{service}.add.Reply".encode(), b"3")
    assert await call == 3


async def test_calls_that_wait_in_a_queue_are_not_lost(mq: amqproxy.Client, service: str) -> None:
    async with gate(mq, service, concurrency=1) as (handler, proxy):
        attended = amqproxy.options(proxy, heartbeat=0.05)
        first = asyncio.ensure_future(proxy.wait(1))
        await handler.entered.acquire()
        seen: list[Progress] = []
        queued = asyncio.ensure_future(attended.wait(2))
        watched = asyncio.ensure_future(_awaited(amqproxy.progress(attended.wait(3), seen.append)))
        done, _ = await asyncio.wait((queued, watched), timeout=8 * 0.05)
        assert not done
        handler.open.set()
        assert [await first, await queued, await watched] == [1, 2, 3]
        assert not seen
        assert nothing_is_left(proxy)


async def _awaited(call: Any) -> Any:
    return await call


@pytest.mark.parametrize("method", ["toil", "grind"])
async def test_a_call_that_takes_many_intervals_is_answered(
    mq: amqproxy.Client, amqp_url: str, service: str, method: str
) -> None:
    async with workers(mq, amqp_url, service) as (_, toiler):
        patient = amqproxy.options(toiler, heartbeat=0.2)
        assert await getattr(patient, method)(20, 0.05) == "done"  # five intervals


async def test_a_caller_that_was_held_up_itself_does_not_blame_the_worker(
    mq: amqproxy.Client, amqp_url: str, service: str
) -> None:
    async with workers(mq, amqp_url, service) as ([worker], toiler):
        call = asyncio.ensure_future(amqproxy.options(toiler, heartbeat=CALM).toil(2, 0.1))
        begun = asyncio.ensure_future(toiler.wait())
        await worker.says("waiting")
        time.sleep(4 * CALM)  # noqa: ASYNC251  # just that
        assert await call == "done"
        assert not begun.done()
        begun.cancel()
        await worker.says("stopped waiting")


async def test_signs_of_life_go_with_every_other_option(mq: amqproxy.Client, service: str) -> None:
    async with gate(mq, service) as (handler, proxy):
        both = amqproxy.options(proxy, heartbeat=CALM, max_in_flight=1, compress_above=0)
        first = asyncio.ensure_future(both.wait(1))
        await handler.entered.acquire()
        with pytest.raises(amqproxy.Overloaded):
            await both.wait(2)
        handler.open.set()
        assert await first == 1
        assert await both.wait(3) == 3
        one = amqproxy.options(proxy, max_in_flight=1)  # nor does watching count a call twice
        assert await amqproxy.progress(one.wait(3), print) == 3
        assert await amqproxy.progress(amqproxy.options(mq.proxy(service), max_in_flight=1).wait(3), print) == 3
        untyped = mq.proxy(service, heartbeat=CALM)
        assert await untyped.wait(4) == 4
        assert await amqproxy.options(untyped, max_in_flight=1).wait(5) == 5
        assert await amqproxy.options(untyped, exchange="amq.direct").wait(6) == 6


async def test_a_call_that_waits_behind_a_batch_is_not_lost(mq: amqproxy.Client, service: str) -> None:
    async with gate(mq, service, concurrency=2) as (handler, proxy), mq.batch(Gate, name=service) as batch:
        batched = [batch.wait(number) for number in range(4)]
        for _ in range(2):
            await handler.entered.acquire()
        call = asyncio.ensure_future(amqproxy.options(proxy, heartbeat=0.05).wait(7))
        done, _ = await asyncio.wait((call,), timeout=8 * 0.05)
        assert not done
        handler.open.set()
        assert await call == 7
        assert [await each for each in batched] == [0, 1, 2, 3]


async def test_a_method_says_itself_how_often_it_gives_signs_of_life(mq: amqproxy.Client, service: str) -> None:
    class Trainer:
        @amqproxy.method(heartbeat=0.25)
        async def train(self) -> Any:
            return amqproxy.current().headers["x-heartbeat-ms"]

        async def other(self) -> bool:
            return "x-heartbeat-ms" in amqproxy.current().headers

    async with mq.serve(Trainer(), name=service, auto_delete=True):
        trainer = mq.proxy(Trainer, name=service)
        assert await trainer.train() == 250
        assert await amqproxy.options(trainer, heartbeat=1).train() == 1000
        assert await amqproxy.progress(trainer.train(), print) == 250
        assert await trainer.other() is False
        assert await amqproxy.progress(trainer.other(), print) is True


async def test_errors_are_those_of_other_calls(mq: amqproxy.Client, service: str) -> None:
    class Faulty:
        async def divide(self, x: int, y: int) -> float:
            return x / y

    attended: Any = mq.proxy(Faulty, name=service, heartbeat=CALM)
    with pytest.raises(amqproxy.Unroutable, match=f"divide: no queue at .* takes '{service}'"):
        await attended.divide(1, 0)
    with pytest.raises(amqproxy.ContractError):
        await attended.divide(1)
    with pytest.raises(amqproxy.ContractError, match="Expected `int`"):
        await attended.divide("1", 2)
    async with mq.serve(Faulty(), name=service, auto_delete=True):
        assert await attended.divide(1, 2) == 0.5
        with pytest.raises(ZeroDivisionError):
            await attended.divide(1, 0)
        line = await mq.caller.line("", time.monotonic() + 1)
        assert not line.conversations


async def test_a_call_ends_at_its_timeout_and_is_cancelled_in_the_worker(mq: amqproxy.Client, service: str) -> None:
    async with gate(mq, service) as (_, proxy):
        began = time.monotonic()
        with pytest.raises(amqproxy.CallTimeout, match=r"wait: not over within 0\.3 s, and given up; a worker had it"):
            await amqproxy.options(proxy, timeout=0.3, heartbeat=CALM).wait(1)
        assert 0.3 <= time.monotonic() - began < 1.5
        line = await mq.caller.line("", time.monotonic() + 1)
        assert not line.conversations


async def test_a_lost_link_is_told_at_once(mortal: Any, service: str) -> None:
    async with amqproxy.connect(mortal.url) as mq, gate(mq, service) as (handler, proxy):
        call = asyncio.ensure_future(amqproxy.options(proxy, heartbeat=5).wait(1))  # a broker may take its time to die
        await handler.entered.acquire()
        await asyncio.to_thread(mortal.kill)
        with pytest.raises(amqproxy.ConnectionLost, match="wait: "):
            await call
        await asyncio.to_thread(mortal.start)


async def test_a_handler_is_cancelled_when_its_signs_of_life_reach_nobody(
    mq: amqproxy.Client, amqp_url: str, service: str
) -> None:
    class Waiting:
        async def wait(self) -> None:
            entered.set()
            try:
                await asyncio.Event().wait()
            finally:
                await asyncio.sleep(0.2)  # longer than an interval: cleaning up is not interrupted
                cleaned.set()

    entered, cleaned = asyncio.Event(), asyncio.Event()
    async with mq.serve(Waiting(), name=service, auto_delete=True) as worker:
        async with Raw.connected(amqp_url) as caller:
            caller.publish(
                service,
                b"{}",
                content_type=f"{service}.wait".encode(),
                correlation_id=b"1",
                reply_to=caller.reply_to,
                headers={"x-heartbeat-ms": 50},
            )
            await entered.wait()
        async with asyncio.timeout(2):
            await cleaned.wait()
            await asyncio.wait([*worker.running.values(), asyncio.ensure_future(asyncio.sleep(0))])
        assert not worker.running
