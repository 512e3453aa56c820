"""Calls that are given up: the worker stops what nobody waits for, and neither end has anything of them left."""

from __future__ import annotations

import asyncio
import signal
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

import amqproxy
from tests.bench.cancel_crowd import Crowd, Tireless, difference
from tests.contract.raw import Raw
from tests.contract.test_deadlines import Gate
from tests.contract.test_stream_ends import SLACK, SOON, serving
from tests.contract.test_streams import Numbers, nothing_is_left, numbers
from tests.patience import until
from tests.processes import running
from tests.streamed import Streamed


class Waiter:
    """Handlers that wait, and note what was begun and what was cancelled."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.cancelled: list[str] = []

    async def ping(self) -> str:
        return "pong"

    async def wait(self) -> None:
        self.begun.append("wait")
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            assert amqproxy.current().cancelled
            self.cancelled.append("wait")
            raise

    def poll(self) -> bool:
        self.begun.append("poll")
        end = time.monotonic() + 20
        while not amqproxy.current().cancelled and time.monotonic() < end:
            time.sleep(0.002)
        self.cancelled.append("poll")
        return True

    async def shrug(self) -> str:
        """Take no notice once."""
        self.begun.append("shrug")
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled.append("shrug")
        return "all the same"

    async def rage(self) -> None:
        """Raise something else when it is cancelled."""
        self.begun.append("rage")
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled.append("rage")
            raise ValueError("how dare you") from None

    async def note(self, word: str) -> str:
        self.begun.append(word)
        return word


@asynccontextmanager
async def waiter(mq: amqproxy.Client, service: str, **options: Any) -> AsyncIterator[tuple[Waiter, Any]]:
    served = Waiter()
    async with mq.serve(served, name=service, auto_delete=True, grace=1, **options) as worker:
        proxy: Any = mq.proxy(Waiter, name=service)
        await proxy.ping()
        yield served, proxy
        await nothing_is_left(mq, worker)
        assert await proxy.ping() == "pong"


async def by_cancelling(call: Callable[[], Awaitable[Any]], begun: Callable[[], Awaitable[None]]) -> None:
    task = asyncio.ensure_future(call())
    await begun()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def by_a_timeout(call: Callable[[], Awaitable[Any]], begun: Callable[[], Awaitable[None]]) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(None) as limit:
            task = asyncio.ensure_future(begun())
            task.add_done_callback(lambda _: limit.reschedule(asyncio.get_running_loop().time()))
            await call()


async def by_a_group(call: Callable[[], Awaitable[Any]], begun: Callable[[], Awaitable[None]]) -> None:
    async def fail() -> None:
        await begun()
        raise LookupError

    with pytest.raises(ExceptionGroup):
        async with asyncio.TaskGroup() as group:
            group.create_task(fail())
            await call()


WAYS = [by_cancelling, by_a_timeout, by_a_group]


@pytest.mark.parametrize("leave", WAYS)
@pytest.mark.parametrize("method", ["wait", "poll", "shrug", "rage"])
async def test_a_running_handler_hears_of_it_within_a_second(
    mq: amqproxy.Client, service: str, method: str, leave: Callable[..., Awaitable[None]]
) -> None:
    async with waiter(mq, service) as (served, proxy):
        await leave(getattr(proxy, method), lambda: until(lambda: served.begun == [method]))
        await until(lambda: served.cancelled == [method], within=SOON)


@pytest.mark.parametrize("method", ["wait", "poll"])
async def test_a_call_whose_time_is_over_is_cancelled_too(mq: amqproxy.Client, service: str, method: str) -> None:
    async with waiter(mq, service) as (served, proxy):
        with pytest.raises(amqproxy.CallTimeout):
            await getattr(amqproxy.options(proxy, timeout=0.1), method)()
        await until(lambda: served.cancelled == [method], within=SOON)
        with pytest.raises(amqproxy.CallTimeout):
            async with amqproxy.deadline(0.1):
                await getattr(proxy, method)()
        await until(lambda: served.cancelled == [method, method], within=SOON)


@pytest.mark.parametrize(
    ("method", "begun", "stopped"), [("wait", "waiting", "stopped waiting"), ("poll", "polling", "stopped polling")]
)
@pytest.mark.parametrize("leave", WAYS)
async def test_so_does_one_in_another_process(
    mq: amqproxy.Client,
    amqp_url: str,
    service: str,
    method: str,
    begun: str,
    stopped: str,
    leave: Callable[..., Awaitable[None]],
) -> None:
    async with serving(amqp_url, service) as worker:
        served: Any = mq.proxy(Streamed, name=service)
        await leave(getattr(served, method), lambda: worker.says(begun))
        left = time.monotonic()
        await worker.says(stopped)
        assert time.monotonic() - left < SOON + SLACK


async def test_a_caller_that_ends_normally_cancels_what_it_has_out(amqp_url: str, service: str) -> None:
    """Ctrl-C is that: the main task is cancelled, and the connection is closed behind it."""
    async with (
        serving(amqp_url, service) as worker,
        running("streamed.py", "call", amqp_url, service, "wait") as caller,
    ):
        await caller.says("calling")
        await worker.says("waiting")
        caller.send(signal.SIGINT)
        left = time.monotonic()
        await worker.says("stopped waiting")
        assert time.monotonic() - left < SOON + SLACK
        await caller.ends()


async def test_a_queued_call_is_never_started(mq: amqproxy.Client, service: str) -> None:
    async with waiter(mq, service, concurrency=1) as (served, proxy):
        first = asyncio.ensure_future(proxy.wait())
        await until(lambda: served.begun == ["wait"])
        second, third = asyncio.ensure_future(proxy.note("second")), asyncio.ensure_future(proxy.note("third"))
        with pytest.raises(amqproxy.CallTimeout):
            await amqproxy.options(proxy, timeout=0.1).note("fourth")
        second.cancel()
        await asyncio.wait((second,))
        await proxy_told(mq, service)
        first.cancel()
        assert await third == "third"
        assert served.begun == ["wait", "third"]


async def proxy_told(mq: amqproxy.Client, service: str) -> None:
    """Return when the worker has read all that was sent to the pool up to now."""
    answers = [answer async for answer in mq.broadcast(Waiter, name=service, expect=1).ping()]
    assert len(answers) == 1


async def test_one_that_was_cancelled_in_a_thread_keeps_its_place_until_it_ends(
    mq: amqproxy.Client, service: str
) -> None:
    class Deaf:
        def work(self) -> None:
            begun.append("work")
            asyncio.run_coroutine_threadsafe(go_on.wait(), loop).result(20)

    begun: list[str] = []
    go_on, loop = asyncio.Event(), asyncio.get_running_loop()
    async with mq.serve(Deaf(), name=service, auto_delete=True, concurrency=1) as worker:
        proxy: Any = mq.proxy(Deaf, name=service)
        first = asyncio.ensure_future(proxy.work())
        await until(lambda: begun == ["work"])
        first.cancel()
        second = asyncio.ensure_future(proxy.work())
        await asyncio.wait((second,), timeout=0.3)
        assert begun == ["work"]
        go_on.set()
        await asyncio.wait_for(second, 5)
        await nothing_is_left(mq, worker)


async def test_a_call_that_was_cancelled_is_not_given_back(mq: amqproxy.Client, service: str) -> None:
    async with waiter(mq, service, requeue_once=True) as (served, proxy):
        for number, method in enumerate(("wait", "rage", "wait")):
            await by_cancelling(getattr(proxy, method), lambda: until(lambda: len(served.begun) == number + 1))  # noqa: B023  # awaited here
            await until(lambda: len(served.cancelled) == number + 1, within=SOON)  # noqa: B023  # as above
        await proxy_told(mq, service)
        assert len(served.begun) == 3


async def test_a_handler_that_does_not_listen_is_reported_when_the_worker_stops(
    mq: amqproxy.Client, amqp_url: str, service: str
) -> None:
    command = ("-m", "amqproxy", "serve", "streamed:Streamed", "--name", service, "--grace", "0.3")
    async with running(*command, AMQPROXY_URL=amqp_url) as worker:
        await worker.says(f"serving {service}")
        served: Any = mq.proxy(Streamed, name=service)
        await by_cancelling(served.deaf, lambda: worker.says("not listening"))
        await worker.says("told to stop")
        assert await served.pid() == worker.pid
        worker.send(signal.SIGTERM)
        await worker.says(f"cancelling 1 call of {service} that did not end within the grace of 0.3 s: ")
        assert await worker.ends() == 0


async def test_of_handlers_in_threads_it_is_said_that_they_go_on(
    mq: amqproxy.Client, service: str, caplog: pytest.LogCaptureFixture
) -> None:
    begun, go_on = threading.Event(), threading.Event()

    class Plain:
        def work(self) -> None:
            begun.set()
            go_on.wait(10)

    worker = mq.serve(Plain(), name=service, auto_delete=True, grace=30)
    async with worker:
        call = asyncio.ensure_future(mq.proxy(service).work())
        await until(begun.is_set)
        await worker.stop(grace=0)
        go_on.set()
        call.cancel()
    says = f"cancelling 1 call of {service} at once, for the stop is hurried: "
    ends = "; 1 of them runs in a thread, which nobody can interrupt, and may go on beside a second run"
    assert [text for text in caplog.messages if text.startswith(says) and text.endswith(ends)]


# What is sent, and what is not


async def test_nothing_is_sent_for_calls_that_end_normally(mq: amqproxy.Client, raw: Raw, service: str) -> None:
    async with numbers(mq, service) as (_, proxy):
        await raw.opened._channel.queue_bind(raw.reply_to.decode(), f"amqproxy.{service}")
        assert await proxy.ping() == "pong"
        assert [number async for number in proxy.count(1000)] == list(range(1000))
        assert await proxy.total(range(1000)) == sum(range(1000))
        assert [word async for word in proxy.chat(["a"])] == ["A", "bye"]
        assert await (await proxy.file(b"x" * 10)).read() == b"x" * 10
        with pytest.raises(amqproxy.ContractError):
            proxy.listed("x")
        with pytest.raises(amqproxy.RemoteError):
            await mq.proxy(service).ping(5)
        raw.publish("", b"", exchange=f"amqproxy.{service}", content_type=b"amqproxy.Ping", correlation_id=b"last")
        message = await raw.next_message()
        assert (message.properties.content_type, message.properties.correlation_id) == (b"amqproxy.Ping", b"last")
        unheard = asyncio.ensure_future(amqproxy.options(proxy, routing_key="amq.nobody").ping())
        with pytest.raises(amqproxy.Unroutable):
            await unheard
        assert raw.messages.empty()


async def test_what_is_sent_for_others_is_one_message(mq: amqproxy.Client, raw: Raw, service: str) -> None:
    async with waiter(mq, service) as (served, proxy):
        await raw.opened._channel.queue_bind(raw.reply_to.decode(), f"amqproxy.{service}")
        await by_cancelling(proxy.wait, lambda: until(lambda: served.begun == ["wait"]))
        message = await raw.next_message()
        assert message.properties.content_type == b"amqproxy.Cancel"
        assert message.properties.reply_to == proxy.ping.line.reply_to
        assert message.properties.headers == {"x-timeout-ms": 30_000}
        assert (message.properties.delivery_mode, message.body) == (1, b"")
        await until(lambda: served.cancelled == ["wait"])
        assert raw.messages.empty()


async def test_a_pool_that_knows_nothing_of_this_is_asked_once(mq: amqproxy.Client, raw: Raw, service: str) -> None:
    channel = raw.opened._channel
    await channel.queue_declare(service, auto_delete=True)
    await raw.opened.consume(service, lambda: None, no_ack=True)
    proxy: Any = mq.proxy(Gate, name=service)
    link = await mq._live_connection().link()
    topology: set[Any] = set()
    for _ in range(20):
        task = asyncio.ensure_future(proxy.ping())
        await raw.next_message()
        task.cancel()
        await asyncio.wait((task,))
        await until(lambda: not mq.caller._telling)
        topology.add(link._topology)
    assert len(topology) <= 2
    assert not mq.caller._untold
    assert not proxy.ping.line.calls._pending


# At every moment


class Stepped:
    """Runs a call for so many turns of the event loop, and then cancels it."""

    def __init__(self, turns: int) -> None:
        self.turns = turns
        self.ended = False
        """Whether the call ended before that."""

    async def __call__(self, call: Awaitable[Any]) -> None:
        task = asyncio.ensure_future(call)
        for _ in range(self.turns):
            await asyncio.sleep(0)
        self.ended = task.done()
        task.cancel()
        await asyncio.wait((task,))
        if not task.cancelled():
            assert task.exception() is None


async def read(method: Any, *args: Any) -> list[Any]:
    return [item async for item in method(*args)]


CALLS: dict[str, Callable[[Any], Awaitable[Any]]] = {
    "a call": lambda proxy: proxy.ping(),
    "a stream": lambda proxy: read(proxy.count, 20),
    "a fed call": lambda proxy: proxy.total(range(20)),
    "both": lambda proxy: read(proxy.chat, ["a"] * 20),
    "a blob": lambda proxy: proxy.size(b"x" * 20),
}


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("warm", [True, False])
async def test_a_call_may_be_cancelled_at_every_moment(amqp_url: str, service: str, name: str, warm: bool) -> None:
    turns, ended = 0, 0
    async with (
        amqproxy.connect(amqp_url) as server,
        server.serve(Numbers(), name=service, auto_delete=True) as worker,
    ):
        while ended < 3 and turns < 400:
            async with amqproxy.connect(amqp_url) as mq:
                proxy: Any = mq.proxy(Numbers, name=service, credit=5)
                if warm:
                    await proxy.ping()
                step = Stepped(turns)
                await step(CALLS[name](proxy))
                assert await proxy.ping() == "pong"
                await nothing_is_left(mq, worker)
            ended += step.ended
            turns += 1 if turns < 30 else 7
        assert turns > 3


async def test_a_worker_may_be_stopped_while_calls_are_cancelled(mq: amqproxy.Client, service: str) -> None:
    for pause in (0, 1, 3, 10):
        worker = mq.serve(Waiter(), name=service, auto_delete=True, grace=0.05)
        await worker.start()
        proxy: Any = mq.proxy(Waiter, name=service)
        calls = [asyncio.ensure_future(proxy.wait()) for _ in range(50)]
        for _ in range(pause):
            await proxy.ping()
        for call in calls[::2]:
            call.cancel()
        async with asyncio.timeout(10):
            await worker.stop()
        for call in calls:
            call.cancel()
        await asyncio.wait(calls)
        assert not worker.running


# At random moments


@pytest.mark.parametrize("seed", [1, 2])
async def test_a_crowd_leaves_nothing_behind(amqp_url: str, service: str, seed: int) -> None:
    """The fast version of `python -m tests.bench.cancels`."""
    async with amqproxy.connect(amqp_url) as server, amqproxy.connect(amqp_url) as mq:
        tireless = Tireless()
        tireless.worker = server.serve(tireless, name=service, auto_delete=True, concurrency=50)
        async with tireless.worker:
            proxy: Any = mq.proxy(Tireless, name=service)
            crowd = Crowd(mq, proxy, seed)
            await crowd.run(100, 50)
            await until(lambda: tireless.worker is not None and not tireless.worker.running, within=10)
            await until(lambda: tireless.worker is not None and not tireless.worker.abandoned.until, within=10)
            before, before_there = crowd.left(), await proxy.left()
            await crowd.run(1000, 50)
            assert sum(crowd.came.values()) == 1100
            assert {"cancelled", "timed out", "left", "done"} >= set(crowd.came)

            def here() -> dict[str, int]:
                return difference(before, crowd.left())

            await until(lambda: not here(), lambda: f"left at the caller: {here()}", within=10)
            await until(lambda: tireless.worker is not None and not tireless.worker.abandoned.until, within=10)
            assert difference(before_there, await proxy.left()) == {}
            counts = await (await mq._live_connection().link()).queue_counts(service)
            assert counts == (0, 1)
