"""How streams end before their time: whatever takes one of the two ends away, the other notices, and cleans up soon."""

from __future__ import annotations

import asyncio
import gc
import logging
import re
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from typing import Any

import pytest

import amqproxy
from amqproxy.line import Returned
from amqproxy.testing import BrokerThread, RabbitMQ
from tests.contract.test_links import cut, until_it_serves
from tests.contract.test_streams import nothing_is_left, rounds
from tests.patience import until
from tests.processes import PATIENCE, Running, running
from tests.streamed import CREDIT, Streamed

SOON = 1.0
"""Seconds within which a generator runs its `finally`, when its caller has left."""
SLACK = 1.0
"""What a busy machine may add to that."""
LOST = 2.0
"""Seconds within which a caller knows that its worker is gone."""


class Endless:
    """Streams without an end, and notes when they are closed, and that nothing cut that short."""

    def __init__(self) -> None:
        self.closed: list[str] = []

    async def ping(self) -> str:
        return "pong"

    async def flowing(self) -> AsyncIterator[int]:
        number = 0
        try:
            while True:
                yield number
                number += 1
        finally:
            await asyncio.sleep(0.05)
            self.closed.append("flowing")

    async def stalled(self) -> AsyncIterator[int]:
        try:
            yield 0
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0.05)
            self.closed.append("stalled")

    async def silent(self) -> AsyncIterator[int]:
        try:
            await asyncio.Event().wait()
            yield 0
        finally:
            self.closed.append("silent")

    def in_thread(self) -> Iterator[int]:
        number = 0
        try:
            while True:
                yield number
                number += 1
        finally:
            self.closed.append("in_thread")

    async def chat(self, numbers: AsyncIterator[int]) -> AsyncIterator[int]:
        try:
            async for number in numbers:
                yield number
        finally:
            self.closed.append("chat")

    async def total(self, numbers: AsyncIterator[int]) -> int:
        try:
            return sum([number async for number in numbers])
        finally:
            self.closed.append("total")

    def total_in_thread(self, numbers: Iterator[int]) -> int:
        try:
            return sum(numbers)
        finally:
            self.closed.append("total_in_thread")

    async def file(self) -> amqproxy.Blob:
        async def chunks() -> AsyncIterator[bytes]:
            try:
                while True:
                    yield b"chunk"
            finally:
                self.closed.append("file")

        return amqproxy.Blob(chunks())


@asynccontextmanager
async def endless(url: str, service: str, **options: Any) -> AsyncIterator[tuple[Endless, amqproxy.Client, Any]]:
    """A service, the connection of its caller and a proxy; at the end no call is left in either."""
    served = Endless()
    async with (
        amqproxy.connect(url) as server,
        amqproxy.connect(url) as mq,
        server.serve(served, name=service, auto_delete=True, grace=0.2, **options) as worker,
    ):
        proxy: Any = mq.proxy(Endless, name=service)
        await proxy.ping()
        yield served, mq, proxy
        await nothing_is_left(mq, worker)


class Leave(Exception):
    """What somebody raises who has had enough."""


async def by_break(stream: Any) -> None:
    async for _ in stream:
        break


async def by_an_exception(stream: Any) -> None:
    with pytest.raises(Leave):
        async for _ in stream:
            raise Leave


async def by_returning(stream: Any) -> int:
    async for number in stream:
        return int(number)
    raise AssertionError


async def by_a_timeout(stream: Any) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2):
            async for _ in stream:
                await asyncio.sleep(0)


async def by_being_cancelled(stream: Any) -> None:
    entered = asyncio.Event()

    async def read() -> None:
        async for _ in stream:
            entered.set()

    task = asyncio.create_task(read())
    await entered.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def by_closing(stream: Any) -> None:
    await anext(stream)
    await stream.aclose()
    await stream.aclose()
    assert [item async for item in stream] == []


async def by_closing_what_was_not_read(stream: Any) -> None:
    await stream
    await stream.aclose()


async def by_a_context(stream: Any) -> None:
    async with stream as items:
        await anext(items)
    async with aclosing(stream):
        pass


async def by_an_exception_in_a_context(stream: Any) -> None:
    with pytest.raises(Leave):
        async with stream as items:
            await anext(items)
            raise Leave


WAYS = [
    *(by_break, by_an_exception, by_returning, by_a_timeout, by_being_cancelled),
    *(by_closing, by_closing_what_was_not_read, by_a_context, by_an_exception_in_a_context),
]


@pytest.mark.parametrize("leave", WAYS)
@pytest.mark.parametrize("method", ["flowing", "stalled", "in_thread"])
async def test_leaving_a_stream_stops_its_generator_within_a_second(
    amqp_url: str, service: str, method: str, leave: Callable[[Any], Awaitable[Any]]
) -> None:
    async with endless(amqp_url, service) as (served, _, proxy):
        await leave(getattr(proxy, method)())
        await until(lambda: served.closed == [method], within=SOON)


@pytest.mark.parametrize("method", ["flowing", "stalled", "in_thread"])
async def test_forgetting_it_does(amqp_url: str, service: str, method: str) -> None:
    async with endless(amqp_url, service) as (served, _, proxy):
        stream = getattr(proxy, method)()
        await anext(stream)
        del stream
        gc.collect()
        await until(lambda: served.closed == [method], within=SOON)


async def test_forgetting_a_blob_does(amqp_url: str, service: str) -> None:
    async with endless(amqp_url, service) as (served, _, proxy):
        blob = await proxy.file()
        with pytest.raises(amqproxy.MessageTooLarge):
            await blob.read(limit=20)
        await until(lambda: served.closed == ["file"], within=SOON)
        blob = await proxy.file()
        del blob
        gc.collect()
        await until(lambda: served.closed == ["file", "file"], within=SOON)


async def test_a_stream_that_was_not_begun_yet_is_stopped_too(amqp_url: str, service: str) -> None:
    async with endless(amqp_url, service) as (served, _, proxy):
        waiting = asyncio.ensure_future(anext(proxy.silent()))
        await rounds(proxy)
        waiting.cancel()
        await asyncio.wait((waiting,))
        await until(lambda: served.closed == ["silent"], within=SOON)


@pytest.mark.parametrize("method", ["chat", "total", "total_in_thread"])
async def test_leaving_closes_both_what_is_fed_and_who_reads_it(amqp_url: str, service: str, method: str) -> None:
    fed = asyncio.Event()
    closed = asyncio.Event()

    async def feed() -> AsyncIterator[int]:
        try:
            fed.set()
            yield 1
            await asyncio.Event().wait()
        finally:
            closed.set()

    async with endless(amqp_url, service) as (served, _, proxy):
        call = getattr(proxy, method)(feed())
        task = asyncio.ensure_future(by_break(call) if method == "chat" else call)
        del call  # which would keep the stream
        await fed.wait()
        if method != "chat":
            task.cancel()
        await asyncio.wait((task,))
        async with asyncio.timeout(SOON):
            await closed.wait()
        await until(lambda: served.closed == [method], within=SOON)


# The caller goes


@pytest.mark.parametrize("how", ["closed", "cut"])
@pytest.mark.parametrize("method", ["flowing", "stalled", "silent", "in_thread"])
async def test_when_the_callers_connection_ends_so_does_the_generator(
    amqp_url: str, service: str, method: str, how: str
) -> None:
    async with endless(amqp_url, service) as (served, _, proxy):
        other = await amqproxy.connect(amqp_url)
        theirs: Any = other.proxy(Endless, name=service)
        await theirs.ping()
        reading = asyncio.ensure_future(anext(getattr(theirs, method)()))
        if method == "silent":
            await rounds(proxy, 3)
        else:
            await reading
        if how == "cut":
            cut(other)
        else:
            await other.close()
        await until(lambda: served.closed == [method], within=SOON + SLACK)
        if method == "silent":
            with pytest.raises(amqproxy.ConnectionLost):
                await reading
        await other.close()


@pytest.mark.parametrize("heartbeat", [None, 0.3])
async def test_of_two_callers_with_one_correlation_id_only_the_one_that_goes_loses_its_stream(
    amqp_url: str, service: str, heartbeat: float | None
) -> None:
    """Numbers are the ids of whoever counts: the first call of each connection has the same."""
    async with endless(amqp_url, service) as (served, _, proxy), AsyncExitStack() as stack:
        stays, goes = [await stack.enter_async_context(counting(amqp_url)) for _ in range(2)]
        streams: list[Any] = [
            each.proxy(Endless, name=service, heartbeat=heartbeat).flowing() for each in (stays, goes)
        ]
        assert [await anext(stream) for stream in streams] == [0, 0]
        cut(goes)
        await until(lambda: served.closed == ["flowing"], within=SOON + SLACK)
        for _ in range(1000):
            await anext(streams[0])
        await rounds(proxy, 3)
        assert served.closed == ["flowing"]
        await streams[0].aclose()
        await until(lambda: served.closed == ["flowing"] * 2, within=SOON)


def counting(url: str) -> amqproxy.Client:
    return amqproxy.connect(url, correlation_ids="counter")


@asynccontextmanager
async def serving(url: str, name: str, *options: str) -> AsyncIterator[Running]:
    """A process that serves streams."""
    async with running("streamed.py", "serve", url, name, *options) as process:
        await process.says(f"serving {name}")
        yield process


@pytest.mark.parametrize(
    ("what", "begun", "stopped"),
    [
        ("read", "took 10", "stopped counting"),
        ("hold", "took 0", "stopped counting"),
        ("hold in thread", "took 0", "stopped counting"),
        ("stall", "took 0", "stopped counting"),
        ("feed", "feeding", "stopped reading"),
    ],
)
async def test_when_the_callers_process_is_killed_the_generator_of_another_process_ends(
    amqp_url: str, service: str, what: str, begun: str, stopped: str
) -> None:
    async with serving(amqp_url, service) as worker, running("streamed.py", "call", amqp_url, service, what) as caller:
        await caller.says(begun)
        await worker.says("reading" if what == "feed" else "counting")
        caller.send(signal.SIGKILL)
        killed = time.monotonic()
        await worker.says(stopped)
        assert time.monotonic() - killed < SOON + SLACK


async def test_a_caller_that_stands_still_gets_no_more_than_its_credit_and_may_go_on(
    mq: amqproxy.Client, amqp_url: str, service: str
) -> None:
    async with (
        serving(amqp_url, service) as worker,
        running("streamed.py", "call", amqp_url, service, "hold") as caller,
    ):
        served: Any = mq.proxy(Streamed, name=service)
        await caller.says("took 0")
        caller.send(signal.SIGSTOP)
        for _ in range(30):  # of which each takes a moment, and all together more than a second
            assert await served.produced() <= CREDIT + 1
            await asyncio.sleep(0.05)
        caller.send(signal.SIGUSR1)
        caller.send(signal.SIGCONT)
        await caller.says("took 1")
        assert await served.produced() <= 2 * CREDIT
        caller.send(signal.SIGKILL)
        await worker.says("stopped counting")


async def test_one_that_stands_still_for_longer_than_the_brokers_patience_is_gone(amqp_url: str, service: str) -> None:
    impatient = f"{amqp_url}?heartbeat=1"
    async with (
        serving(amqp_url, service) as worker,
        running("streamed.py", "call", impatient, service, "hold") as caller,
    ):
        await caller.says("took 0")
        caller.send(signal.SIGSTOP)
        await worker.says("stopped counting")


async def test_neither_end_holds_more_than_the_credit(mq: amqproxy.Client, amqp_url: str, service: str) -> None:
    """An item has 200,000 bytes, and 32 of them may be on their way: 6.4 MB, some of it twice while it is joined."""
    async with serving(amqp_url, service), running("streamed.py", "call", amqp_url, service, "hold large") as caller:
        served: Any = mq.proxy(Streamed, name=service)
        before = await served.peak()
        await caller.says("took 0")
        for _ in range(20):
            await asyncio.sleep(0.05)
            assert await served.produced() <= CREDIT + 1
        assert await served.peak() - before < 40e6
        caller.send(signal.SIGUSR1)
        await caller.says("took 1")
        peak = int(caller.heard.partition("peak ")[2].split()[0])
        assert peak < 120e6


# The worker goes


@pytest.mark.parametrize("method", ["flowing", "stalled", "fed"])
async def test_when_the_worker_is_killed_its_callers_know_soon(
    mq: amqproxy.Client, amqp_url: str, service: str, method: str
) -> None:
    closed = asyncio.Event()

    async def feed() -> AsyncIterator[str]:
        try:
            yield "x"
            await asyncio.Event().wait()
        finally:
            closed.set()

    async def read(stream: Any) -> None:
        async for _ in stream:
            pass

    async with serving(amqp_url, service) as worker:
        served: Any = mq.proxy(Streamed, name=service)
        calls: dict[str, Callable[[], Any]] = {
            "flowing": lambda: read(served.count(10**9, 0.01)),
            "stalled": lambda: read(served.stall()),
            "fed": lambda: served.total(feed()),
        }
        call = asyncio.ensure_future(calls[method]())
        await worker.says("reading" if method == "fed" else "counting")
        await rounds(served_ping(served), 3)
        worker.send(signal.SIGKILL)
        killed = time.monotonic()
        with pytest.raises(amqproxy.WorkerLost) as caught:
            await call
        assert time.monotonic() - killed < LOST + SLACK
        assert caught.value.executed == "maybe"
        assert closed.is_set() == (method == "fed")
        assert not conversations(mq)


def conversations(mq: amqproxy.Client) -> list[Any]:
    return [each for line in mq.caller._by_prefix.values() for each in line.conversations.values()]


def served_ping(served: Any) -> Any:
    """The proxy of the service, as `rounds` wants it."""

    class Pinging:
        ping = served.pid

    return Pinging


async def test_a_stream_that_had_not_begun_is_run_by_another_worker(
    mq: amqproxy.Client, amqp_url: str, service: str
) -> None:
    served: Any = mq.proxy(Streamed, name=service)
    async with serving(amqp_url, service) as first:
        pid = await served.pid()
        call = asyncio.ensure_future(anext(served.late(pid)))
        await first.says("counting")
        async with serving(amqp_url, service) as second:
            await asyncio.sleep(0.8)  # until the caller knows the first worker by its signs of life
            first.send(signal.SIGKILL)
            assert await asyncio.wait_for(call, PATIENCE) == second.pid


async def test_it_is_also_if_several_messages_to_the_first_come_back(
    mq: amqproxy.Client, amqp_url: str, service: str
) -> None:
    served: Any = mq.proxy(Streamed, name=service)
    async with serving(amqp_url, service) as first:
        pid = await served.pid()
        call = asyncio.ensure_future(anext(served.late(pid)))
        await first.says("counting")
        [conversation] = conversations(mq)
        await until(lambda: conversation._worker)
        for _ in range(2):  # as two do that were held up on the way
            conversation.failed(Returned("312 NO_ROUTE"))
        async with serving(amqp_url, service) as second:
            first.send(signal.SIGKILL)
            assert await asyncio.wait_for(call, PATIENCE) == second.pid


async def test_one_that_had_begun_is_not_and_the_other_worker_stops_it(
    mq: amqproxy.Client, amqp_url: str, service: str
) -> None:
    served: Any = mq.proxy(Streamed, name=service)
    async with serving(amqp_url, service) as first:
        stream = served.stall()
        assert await anext(stream) == "0"
        async with serving(amqp_url, service) as second:
            first.send(signal.SIGKILL)
            with pytest.raises(amqproxy.WorkerLost):
                await asyncio.wait_for(anext(stream), PATIENCE)
            assert await served.pid() == second.pid
            second.send(signal.SIGTERM)  # which waits for what runs, so nothing does
            assert await second.has_ended(within=5)
            assert not conversations(mq)


async def test_a_worker_that_stops_lets_streams_end_within_its_grace(amqp_url: str, service: str) -> None:
    async with amqproxy.connect(amqp_url) as server, amqproxy.connect(amqp_url) as mq:

        class Ending:
            async def count(self) -> AsyncIterator[int]:
                yield 1
                stopping.set()
                await go_on.wait()
                for number in range(2, 1000):
                    yield number

        stopping, go_on = asyncio.Event(), asyncio.Event()
        worker = server.serve(Ending(), name=service, auto_delete=True, grace=10)
        await worker.start()
        stream: Any = mq.proxy(Ending, name=service).count()
        assert await anext(stream) == 1
        await stopping.wait()
        stop = asyncio.create_task(worker.stop())
        await asyncio.sleep(0.05)
        assert not stop.done()
        go_on.set()
        assert [number async for number in stream] == list(range(2, 1000))
        await stop
        assert worker.answered == 1


@pytest.mark.parametrize("method", ["flowing", "stalled", "in_thread"])
async def test_after_its_grace_it_says_that_it_stopped(amqp_url: str, service: str, method: str) -> None:
    async with amqproxy.connect(amqp_url) as server, amqproxy.connect(amqp_url) as mq:
        worker = server.serve(served := Endless(), name=service, auto_delete=True, grace=0.2)
        await worker.start()
        stream = getattr(mq.proxy(Endless, name=service), method)()
        await anext(stream)

        async def read() -> None:
            async for _ in stream:
                await asyncio.sleep(0)

        reading = asyncio.create_task(read())
        await asyncio.wait_for(worker.stop(), 10)
        with pytest.raises(amqproxy.RemoteError) as caught:
            await asyncio.wait_for(reading, LOST + SLACK)
        assert (caught.value.code, caught.value.type) == ("unavailable", "WorkerStopped")
        await until(lambda: served.closed == [method])


async def test_a_process_that_is_told_to_stop_says_so_to_its_streams(
    mq: amqproxy.Client, amqp_url: str, service: str
) -> None:
    async with serving(amqp_url, service, "0.2") as worker:
        stream: Any = mq.proxy(Streamed, name=service).count(10**9, 0.01)
        assert await anext(stream) == "0"
        worker.send(signal.SIGTERM)
        with pytest.raises(amqproxy.RemoteError) as caught:
            async with asyncio.timeout(PATIENCE):
                async for _ in stream:
                    pass
        assert caught.value.code == "unavailable"
        assert await worker.ends() == 0
        assert "stopped counting" in worker.heard


@pytest.mark.parametrize("what", ["the queue", "the channel", "the link"])
async def test_a_worker_that_loses_its_own_queue_tells_its_streams_and_has_another(
    amqp_url: str, service: str, what: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "amqproxy")
    async with (
        amqproxy.connect(amqp_url) as server,
        amqproxy.connect(amqp_url) as mq,
        server.serve(served := Endless(), name=service, auto_delete=True) as worker,
    ):
        proxy: Any = mq.proxy(Endless, name=service)
        stream, session = await proxy.stalled(), worker._session
        assert session is not None
        assert await anext(stream) == 0
        address = session.desk.address
        if what == "the link":
            cut(server)
        elif what == "the queue":
            channel = await (await server._live_connection().link())._channel()
            await channel.queue_delete(address.decode())
        else:
            assert session.desk._opened is not None
            await session.desk._opened._channel.close()
        with pytest.raises((amqproxy.RemoteError, amqproxy.WorkerLost)) as caught:
            await asyncio.wait_for(anext(stream), LOST + SLACK)
        if what != "the link":
            assert isinstance(caught.value, amqproxy.RemoteError)
            assert (caught.value.code, caught.value.type, caught.value.executed) == ("unavailable", "WorkerLost", "yes")
            says = (
                rf"^Endless\.stalled.*: the worker {worker.name} stopped in the middle of the call, for its channel or "
            )
            assert re.match(says, caught.value.message)
            assert f"{worker.name} of {service}: its own queue is made again: " in caplog.text
        await until(lambda: served.closed == ["stalled"], within=SOON)
        await until(lambda: worker._session is not None and worker._session.address not in (b"", address), within=9)
        async with proxy.flowing() as again:
            assert [await anext(again) for _ in range(1000)] == list(range(1000))
        await until(lambda: served.closed == ["stalled", "flowing"], within=SOON)


# The broker goes


@pytest.mark.parametrize("method", ["flowing", "stalled", "chat"])
async def test_when_the_broker_is_killed_nothing_hangs_and_the_next_stream_works(
    mortal: BrokerThread | RabbitMQ, service: str, method: str
) -> None:
    closed = asyncio.Event()

    async def feed() -> AsyncIterator[int]:
        try:
            yield 0
            await asyncio.Event().wait()
        finally:
            closed.set()

    async def read(stream: Any) -> None:
        async for _ in stream:
            begun.set()
            await asyncio.sleep(0)

    begun = asyncio.Event()
    async with (
        amqproxy.connect(mortal.url) as server,
        amqproxy.connect(mortal.url) as mq,
        server.serve(served := Endless(), name=service, durable=True) as worker,
    ):
        proxy: Any = mq.proxy(Endless, name=service)
        reading = asyncio.create_task(read(proxy.chat(feed()) if method == "chat" else getattr(proxy, method)()))
        await begun.wait()
        await asyncio.to_thread(mortal.kill)
        with pytest.raises(amqproxy.ConnectionLost, match="broke"):
            await asyncio.wait_for(reading, LOST + SLACK)
        await until(lambda: served.closed == [method], within=SOON)
        assert closed.is_set() == (method == "chat")
        await asyncio.to_thread(mortal.start)
        await until_it_serves(amqproxy.options(proxy, timeout=PATIENCE))
        async with asyncio.timeout(PATIENCE):
            async with amqproxy.options(proxy, timeout=PATIENCE).flowing() as again:
                assert [await anext(again) for _ in range(1000)] == list(range(1000))
        await until(lambda: len(served.closed) == 2, within=SOON)
        await nothing_is_left(mq, worker)
        await (await (await mq._live_connection().link())._channel()).queue_delete(service)
