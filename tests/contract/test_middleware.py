"""Middleware between callers and workers: around calls of all kinds, around handlers of all kinds, and for traces."""

from __future__ import annotations

import asyncio
import gc
import signal
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from typing import Any

import pytest

import amqproxy
import amqproxy.sync
from amqproxy import Next, OutgoingCall, RemoteError
from amqproxy.testing import loopback
from tests.contract.raw import Raw
from tests.contract.test_deadlines import Gate
from tests.processes import running
from tests.surrounded import Accounts

lines: list[str] = []


@pytest.fixture(autouse=True)
def clear() -> None:
    lines.clear()


def writing(name: str) -> Any:
    async def written(call: Any, next: Next) -> Any:
        lines.append(f"{name}(")
        try:
            return await next(call)
        finally:
            lines.append(f"){name}")

    return written


@amqproxy.message("tests.Note")
@dataclass
class Note:
    text: str


class Service:
    def __init__(self) -> None:
        self.entered = asyncio.Event()
        self.cancelled = asyncio.Event()

    async def add(self, x: int, y: int) -> int:
        return x + y

    def add_in_thread(self, x: int, y: int) -> int:
        assert threading.current_thread() is not threading.main_thread()
        return x + y

    async def headers(self) -> dict[str, str]:
        return {name: value for name, value in amqproxy.current().headers.items() if isinstance(value, str)}

    async def time_left(self) -> float:
        return amqproxy.current().time_left or 0.0

    async def divide(self, x: int, y: int) -> float:
        return x / y

    async def write(self, note: Note) -> str:
        return note.text.upper()

    async def count(self, to: int) -> AsyncIterator[int]:
        for number in range(to):
            yield number

    async def total(self, items: AsyncIterator[int]) -> int:
        return sum([item async for item in items])

    async def load(self, size: int) -> amqproxy.Blob:
        return amqproxy.Blob(b"x" * size)

    async def note(self, text: str) -> None:
        lines.append(f"{text} {amqproxy.current().headers.get('x-user')}")

    async def never(self) -> None:
        self.entered.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.cancelled.set()


async def as_ann(call: OutgoingCall, next: Next) -> Any:
    return await next(call.with_headers({"x-user": "ann"}))


# Around calls


async def test_the_middleware_of_the_connection_is_outside_of_the_proxys(amqp_url: str, service: str) -> None:
    async with (
        amqproxy.connect(amqp_url, middleware=[writing("a"), writing("b")]) as mq,
        mq.serve(Service(), name=service, auto_delete=True),
    ):
        proxy = mq.proxy(Service, name=service, middleware=[writing("c"), writing("d")])
        assert await proxy.add(1, 2) == 3
        assert lines == ["a(", "b(", "c(", "d(", ")d", ")c", ")b", ")a"]
        lines.clear()
        assert await amqproxy.options(proxy, middleware=[writing("e")], timeout=5).add(1, 2) == 3
        assert lines == ["a(", "b(", "e(", ")e", ")b", ")a"]
        lines.clear()
        assert await mq.proxy(service).add(1, 2) == 3
        assert lines == ["a(", "b(", ")b", ")a"]


async def test_calls_of_all_kinds_go_through_middleware(mq: amqproxy.Client, service: str) -> None:
    async def double(x: int) -> int:
        return 2 * x

    mine: dict[str, Any] = {"name": service, "middleware": [writing("a")]}
    async with (
        mq.serve(Service(), name=service, auto_delete=True),
        mq.serve(double, name=f"{service}.double", auto_delete=True),
    ):
        typed: Any = mq.proxy(Service, **mine)
        untyped = mq.proxy(service, middleware=[writing("a")])
        assert await typed.add_in_thread(1, y=2) == 3
        assert await untyped.add(1, 2) == 3
        assert await typed(Note("x")) == await untyped(Note("x")) == await typed.write(Note("x")) == "X"
        assert await amqproxy.options(typed, max_in_flight=1).add(1, 2) == 3
        assert await amqproxy.options(typed, compress_above=0).add(1, 2) == 3
        assert await typed.total(iter([1, 2, 3])) == 6
        assert len(await (await typed.load(1000)).read()) == 1000
        assert await asyncio.create_task(untyped.add(1, 2)) == 3
        assert await mq.proxy(double, name=f"{service}.double", middleware=[writing("a")])(4) == 8
        assert lines == ["a(", ")a"] * 11


async def test_a_method_with_middleware_looks_like_one_without(mq: amqproxy.Client, service: str) -> None:
    bare, add = (mq.proxy(Service, name=service, middleware=m).add for m in ((), (as_ann,)))
    for name in ("__name__", "__qualname__", "__doc__", "__signature__"):
        assert getattr(bare, name) == getattr(add, name)
    assert repr(bare) == repr(add)
    with pytest.raises(AttributeError, match="has no method 'divine'"):
        _ = mq.proxy(Service, name=service, middleware=[as_ann]).divine  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "options", [{}, {"compress_above": 0}, {"max_in_flight": 3}, {"idempotent": True}, {"headers": {"x-user": "bob"}}]
)
async def test_headers_that_middleware_adds_arrive(mq: amqproxy.Client, service: str, options: dict[str, Any]) -> None:
    async with mq.serve(Service(), name=service, auto_delete=True):
        proxy = mq.proxy(Service, name=service, middleware=[as_ann], **options)
        for _ in range(2):
            assert (await proxy.headers())["x-user"] == "ann"
        bare = amqproxy.options(proxy, middleware=())
        assert (await bare.headers()).get("x-user") == options.get("headers", {}).get("x-user")
        assert (await mq.proxy(service, middleware=[as_ann], **options).headers())["x-user"] == "ann"


async def test_headers_that_cannot_travel_are_told_of(mq: amqproxy.Client, service: str) -> None:
    async def wrong(call: OutgoingCall, next: Next) -> Any:
        return await next(call.with_headers({"x-user": object()}))

    async with mq.serve(Service(), name=service, auto_delete=True):
        with pytest.raises(TypeError, match="an AMQP header cannot hold a object"):
            await mq.proxy(Service, name=service, middleware=[wrong]).add(1, 2)
        assert await mq.proxy(Service, name=service).add(1, 2) == 3


async def test_a_timeout_that_middleware_sets_holds(mq: amqproxy.Client, service: str) -> None:
    async def hurry(call: OutgoingCall, next: Next) -> Any:
        return await next(replace(call, timeout=0.2))

    async def patience(call: OutgoingCall, next: Next) -> Any:
        return await next(replace(call, timeout=100.0))

    async with mq.serve(Service(), name=service, auto_delete=True):
        proxy = mq.proxy(Service, name=service, middleware=[hurry])
        with pytest.raises(amqproxy.CallTimeout, match=r"no answer within 0\.2 s"):
            await proxy.never()
        assert await amqproxy.options(proxy, middleware=[patience]).time_left() > 90


async def test_middleware_may_change_arguments_and_what_is_wrong_with_them_is_told(
    mq: amqproxy.Client, service: str
) -> None:
    async def texts(call: OutgoingCall, next: Next) -> Any:
        return await next(replace(call, args=tuple(map(int, call.args))))

    async with mq.serve(Service(), name=service, auto_delete=True):
        proxy = mq.proxy(Service, name=service, middleware=[texts])
        assert await proxy.add("1", "2") == 3  # type: ignore[arg-type]
        with pytest.raises(amqproxy.ContractError, match="missing a required argument: 'y'"):
            await proxy.add("1")  # type: ignore[call-arg, arg-type]


async def test_middleware_may_try_again(mq: amqproxy.Client, service: str) -> None:
    class Flaky:
        def __init__(self) -> None:
            self.tries: list[str | None] = []

        async def ping(self) -> int:
            self.tries.append(amqproxy.current().message_id)
            if len(self.tries) < 3:
                raise amqproxy.RemoteError("not now", code="unavailable", retryable=True)
            return len(self.tries)

    async def thrice(call: OutgoingCall, next: Next) -> Any:
        for _ in range(2):
            try:
                return await next(call)
            except amqproxy.RemoteError as error:
                if not error.retryable:
                    raise
        return await next(call)

    flaky = Flaky()
    async with mq.serve(flaky, name=service, auto_delete=True):
        assert await mq.proxy(Flaky, name=service, middleware=[thrice]).ping() == 3
        assert len(set(flaky.tries)) == 3  # each is a call of its own


async def test_middleware_sees_why_a_call_failed(mq: amqproxy.Client, service: str) -> None:
    seen: list[BaseException] = []

    async def see(call: OutgoingCall, next: Next) -> Any:
        try:
            return await next(call)
        except BaseException as error:
            seen.append(error)
            raise

    proxy = mq.proxy(Service, name=service, middleware=[see])
    with pytest.raises(amqproxy.Unroutable):
        await proxy.add(1, 2)
    async with mq.serve(Service(), name=service, auto_delete=True):
        with pytest.raises(ZeroDivisionError):
            await proxy.divide(1, 0)
    assert [type(error).__name__ for error in seen] == ["Unroutable", "RemoteZeroDivisionError"]


async def test_middleware_that_answers_by_itself_sends_nothing(mq: amqproxy.Client, service: str) -> None:
    async def answers(call: OutgoingCall, next: Next) -> Any:
        return 7

    assert await mq.proxy(Service, name=service, middleware=[answers]).add(1, 2) == 7  # nobody serves it


async def test_a_call_that_is_cancelled_cancels_its_middleware_and_its_handler(
    mq: amqproxy.Client, service: str
) -> None:
    target = Service()
    async with mq.serve(target, name=service, auto_delete=True, middleware=[writing("w")]):
        call = asyncio.create_task(mq.proxy(Service, name=service, middleware=[writing("c")]).never())
        await target.entered.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert lines[:2] == ["c(", "w("] and ")c" in lines
        async with asyncio.timeout(5):
            await target.cancelled.wait()


@pytest.mark.parametrize("wrong", [5, "mw", lambda call, next: None])
async def test_what_is_no_middleware_is_told_of_when_it_is_given(mq: amqproxy.Client, service: str, wrong: Any) -> None:
    for give in (
        lambda: amqproxy.connect("amqp://localhost", middleware=[wrong]),
        lambda: mq.proxy(Service, name=service, middleware=[wrong]),
        lambda: mq.sender(Service, name=service, middleware=[wrong]),
        lambda: mq.broadcast(Service, name=service, middleware=[wrong]),
        lambda: amqproxy.options(mq.proxy(Service, name=service), middleware=[wrong]),
        lambda: mq.serve(Service(), name=service, middleware=[wrong]),
        lambda: amqproxy.serve("x", middleware=[wrong]),
    ):
        with pytest.raises(TypeError, match="a middleware is an `async def mw"):
            give()


# Around streams, one-way messages and broadcasts


async def test_streams_go_through_middleware(mq: amqproxy.Client, service: str) -> None:
    async def doubled(call: OutgoingCall, next: Next) -> Any:
        items = await next(call)
        return (2 * item async for item in items)

    async with mq.serve(Service(), name=service, auto_delete=True):
        for proxy in (
            mq.proxy(Service, name=service, middleware=[writing("a"), doubled]),
            mq.proxy(service, middleware=[writing("a"), doubled]),
        ):
            assert [item async for item in proxy.count(600)] == [2 * n for n in range(600)]
            assert lines == ["a(", ")a"]
            lines.clear()
        async with mq.proxy(Service, name=service, middleware=[as_ann]).count(10**9) as items:  # type: ignore[attr-defined]
            assert await anext(items) == 0


async def test_a_stream_that_cannot_begin_is_seen_by_middleware_which_may_try_again(
    mq: amqproxy.Client, service: str
) -> None:
    async def serving(call: OutgoingCall, next: Next) -> Any:
        try:
            return await next(call)
        except amqproxy.Unroutable:
            lines.append("nobody")
            await stack.enter_async_context(mq.serve(Service(), name=service, auto_delete=True))
            return await next(call)

    async with AsyncExitStack() as stack:
        proxy = mq.proxy(Service, name=service, middleware=[serving])
        assert [item async for item in proxy.count(3)] == [0, 1, 2]
    assert lines == ["nobody"]


@pytest.mark.parametrize("options", [{}, {"everyone": True}, {"delay": 0.01}])
async def test_one_way_messages_go_through_middleware(
    mq: amqproxy.Client, service: str, options: dict[str, Any]
) -> None:
    left = asyncio.Event()

    async def leaving(call: amqproxy.Call, next: Next) -> Any:
        result = await next(call)
        left.set()
        return result

    async with mq.serve(Service(), name=service, auto_delete=True, middleware=[leaving, writing("w")]):
        sender = mq.sender(Service, name=service, middleware=[writing("c"), as_ann], **options)
        await sender.note("hello")
        await left.wait()
        assert lines.index("c(") < lines.index("w(") < lines.index("hello ann") < lines.index(")w")
        assert ")c" in lines


async def test_broadcasts_go_through_middleware(mq: amqproxy.Client, service: str) -> None:
    async with (
        mq.serve(Service(), name=service, auto_delete=True, middleware=[writing("w")]),
        mq.serve(Service(), name=service, auto_delete=True, middleware=[writing("w")]) as other,
    ):
        everyone = mq.broadcast(Service, name=service, middleware=[writing("c"), as_ann])
        answers = everyone.headers()
        assert repr(answers) == f"<Answers of all workers to {service}.headers>"
        assert (answers.workers, lines) == (None, [])
        assert [answer.result()["x-user"] async for answer in answers] == ["ann", "ann"]
        assert (answers.workers, answers.missing) == (2, 0)
        assert sorted(lines) == sorted(["c(", ")c", "w(", ")w", "w(", ")w"])
        assert await everyone.add(1, 2).first() == 3
        assert len(await everyone.add(1, 2)) == 2
        async with everyone.never() as early:
            await early.aclose()
        assert [answer async for answer in early] == []

        async def mine(call: OutgoingCall, next: Next) -> Any:
            answers = await next(call)
            return (answer async for answer in answers if answer.worker == other.name)

        chosen = amqproxy.options(everyone, middleware=[mine])
        assert [answer.result() async for answer in chosen.add(1, 2)] == [3]


async def test_a_broadcast_that_is_left_stops_the_workers(mq: amqproxy.Client, service: str) -> None:
    target = Service()
    async with mq.serve(target, name=service, auto_delete=True):
        everyone = mq.broadcast(Service, name=service, middleware=[as_ann])
        for leave in ("aclose", "forget"):
            target.entered.clear()
            target.cancelled.clear()
            answers = everyone.never()
            first = asyncio.ensure_future(anext(answers))
            await target.entered.wait()
            if leave == "aclose":
                await answers.aclose()
            else:
                first.cancel()
            with pytest.raises((StopAsyncIteration, asyncio.CancelledError)):
                await first
            del answers, first
            gc.collect()
            async with asyncio.timeout(5):
                await target.cancelled.wait()


async def test_a_broadcast_whose_middleware_fails_asks_nobody(mq: amqproxy.Client, service: str) -> None:
    async def refuses(call: OutgoingCall, next: Next) -> Any:
        raise PermissionError("not you")

    async def alone(call: OutgoingCall, next: Next) -> Any:
        return []

    answers = mq.broadcast(Service, name=service, middleware=[refuses]).add(1, 2)
    with pytest.raises(PermissionError, match="not you"):
        await answers
    assert await answers == []
    assert await mq.broadcast(Service, name=service, middleware=[alone]).add(1, 2) == []


class Loops:
    """Can be iterated by code that may block."""

    def __init__(self) -> None:
        self.threads: set[str] = set()

    def __iter__(self) -> Iterator[int]:
        for number in range(5):
            self.threads.add(threading.current_thread().name)
            yield number


def test_blocking_code_has_middleware_too(amqp_url: str, service: str) -> None:
    class Plain:
        def add(self, x: int, y: int) -> int:
            return x + y

        def count(self, to: int) -> Iterator[int]:
            yield from range(to)

        def total(self, items: Iterator[int]) -> int:
            return sum(items)

    with (
        amqproxy.sync.connect(amqp_url, middleware=[writing("a")]) as mq,
        mq.serve(Plain(), name=service, auto_delete=True),
    ):
        proxy = mq.proxy(Plain, name=service)
        loops = Loops()
        assert proxy.add(1, 2) == 3
        assert list(proxy.count(600)) == list(range(600))
        assert proxy.total(loops) == 10
        assert [answer.value for answer in mq.broadcast(Plain, name=service).add(1, 2)] == [3]
        assert mq.sender(Plain, name=service).add(1, 2) is None
        assert mq.proxy(service).add(1, 2) == 3
        assert list(mq.proxy(service).count(3)) == [0, 1, 2]
        assert lines == ["a(", ")a"] * 7
        assert not any("amqproxy.sync" in name for name in loops.threads)


# Around handlers


async def test_handlers_of_all_kinds_run_within_middleware(mq: amqproxy.Client, service: str) -> None:
    async with mq.serve(Service(), name=service, auto_delete=True, middleware=[writing("a"), writing("b")]):
        proxy: Any = mq.proxy(Service, name=service)
        assert await proxy.add(1, 2) == await proxy.add_in_thread(1, 2) == 3
        assert await proxy.write(Note("x")) == "X"
        assert [item async for item in proxy.count(3)] == [0, 1, 2]
        assert await proxy.total(iter([1, 2])) == 3
        assert await (await proxy.load(3)).read() == b"xxx"
        assert lines == ["a(", "b(", ")b", ")a"] * 6


async def test_the_contract_holds_for_what_middleware_answers(mq: amqproxy.Client, service: str) -> None:
    async def answers(call: amqproxy.Call, next: Next) -> Any:
        return call.arguments["x"] if call.method == "add" else "no number"

    async with mq.serve(Service(), name=service, auto_delete=True, middleware=[answers]):
        proxy = mq.proxy(Service, name=service)
        assert await proxy.add(7, 2) == 7
        with pytest.raises(amqproxy.RemoteError, match=r"Service.divide.* returned what it does not promise") as caught:
            await proxy.divide(1, 2)
        assert caught.value.code == "internal"


@pytest.mark.parametrize(
    ("error", "code"),
    [(SystemExit(3), "unknown"), (asyncio.CancelledError(), "cancelled"), (GeneratorExit(), "unknown")],
)
async def test_whatever_middleware_raises_the_worker_lives(
    mq: amqproxy.Client, service: str, error: BaseException, code: str
) -> None:
    async def raises(call: amqproxy.Call, next: Next) -> Any:
        if call.arguments["x"] < 0:
            raise error
        return await next(call)

    async with mq.serve(Service(), name=service, auto_delete=True, middleware=[raises]) as worker:
        proxy = mq.proxy(Service, name=service)
        with pytest.raises(amqproxy.RemoteError) as caught:
            await proxy.add(-1, 2)
        assert (caught.value.type, caught.value.code) == (
            "asyncio.exceptions.CancelledError" if code == "cancelled" else type(error).__name__,
            code,
        )
        assert await proxy.add(1, 2) == 3
        assert not worker.running


async def test_what_cannot_be_decoded_never_reaches_middleware(mq: amqproxy.Client, raw: Raw, service: str) -> None:
    async with mq.serve(Service(), name=service, auto_delete=True, middleware=[writing("a")]):
        reply = await raw.ask(
            service, b'{"x":"1"}', content_type=f"{service}.add".encode(), correlation_id=b"1", content_encoding=b"json"
        )
        assert b"invalid_argument" in reply.body and lines == []


async def test_a_worker_that_stops_finishes_what_is_in_its_middleware(mq: amqproxy.Client, service: str) -> None:
    target = Gate()

    async def after(call: amqproxy.Call, next: Next) -> Any:
        result = await next(call)
        await asyncio.sleep(0.01)
        return result + 1

    worker = mq.serve(target, name=service, auto_delete=True, middleware=[after])
    await worker.start()
    call = asyncio.create_task(mq.proxy(Gate, name=service).wait(1))
    await target.entered.acquire()
    stop = asyncio.create_task(worker.stop())
    target.open.set()
    assert await call == 2
    await stop


async def test_loopback_gives_middleware_to_the_worker() -> None:
    async with loopback(Service(), middleware=[writing("w")], timeout=5) as proxy:
        assert await proxy.add(1, 2) == 3
        assert await amqproxy.options(proxy, middleware=[writing("c")]).add(1, 2) == 3
        assert lines == ["w(", ")w", "c(", "w(", ")w", ")c"]


# Traces

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = "00f067aa0ba902b7"


class Hop:
    """Calls the next of its kind, and returns the headers that each of them got."""

    def __init__(self, further: Any = None, *, times: int = 1) -> None:
        self._further = further
        self._times = times

    async def go(self) -> list[dict[str, str]]:
        seen = [{name: value for name, value in amqproxy.current().headers.items() if isinstance(value, str)}]
        for _ in range(self._times if self._further is not None else 0):
            seen += await self._further.go()
        return seen


class Threaded:
    """The same from a thread."""

    def __init__(self, further: Any, loop: asyncio.AbstractEventLoop) -> None:
        self._further = further
        self._loop = loop

    def go(self) -> list[dict[str, str]]:
        return asyncio.run_coroutine_threadsafe(self._go(), self._loop).result(10)

    async def _go(self) -> list[dict[str, str]]:
        found: list[dict[str, str]] = await self._further.go()
        return found


def ids(headers: dict[str, str]) -> tuple[str, str, str]:
    version, trace, parent, flags = headers["traceparent"].split("-")
    assert version == "00" and len(trace) == 32 and len(parent) == 16
    return trace, parent, flags


async def test_a_trace_is_carried_from_service_to_service(amqp_url: str, service: str) -> None:
    async with (
        amqproxy.connect(amqp_url, middleware=[amqproxy.tracing()]) as mq,
        mq.serve(Hop(), name=f"{service}.c", auto_delete=True),
        mq.serve(Hop(mq.proxy(Hop, name=f"{service}.c"), times=2), name=f"{service}.b", auto_delete=True),
        mq.serve(
            Threaded(mq.proxy(Hop, name=f"{service}.b"), asyncio.get_running_loop()), name=service, auto_delete=True
        ),
    ):
        headers = {
            "traceparent": f"00-{TRACE}-{PARENT}-01",
            "tracestate": "rojo=1 , congo=2",
            "baggage": "user=ann",
            "x-other": "1",
        }
        seen = await mq.proxy(Hop, name=service, headers=headers).go()
        assert [one["tracestate"] for one in seen] == ["rojo=1,congo=2"] * 3
        assert [one["baggage"] for one in seen] == ["user=ann"] * 3
        assert not any("x-other" in one for one in seen)
        traces, parents, flags = zip(*map(ids, seen), strict=True)
        assert (set(traces), set(flags)) == ({TRACE}, {"01"})
        assert len({*parents, PARENT}) == 4


async def test_nothing_is_traced_that_was_not_and_nothing_bad_is_carried_on(amqp_url: str, service: str) -> None:
    async with (
        amqproxy.connect(amqp_url, middleware=[amqproxy.tracing()]) as mq,
        mq.serve(Hop(), name=f"{service}.b", auto_delete=True),
        mq.serve(Hop(mq.proxy(Hop, name=f"{service}.b")), name=service, auto_delete=True),
    ):
        proxy = mq.proxy(Hop, name=service)
        assert await proxy.go() == [{}, {}]
        bad = {"traceparent": f"ff-{TRACE}-{PARENT}-01", "tracestate": "a=1", "baggage": "x=" + 9000 * "y"}
        assert await amqproxy.options(proxy, headers=bad).go() == [bad, {}]


async def test_a_trace_is_begun_when_that_is_asked_for(amqp_url: str, service: str) -> None:
    tracing = amqproxy.tracing(start=True, sampled=True)
    async with (
        amqproxy.connect(amqp_url, middleware=[tracing]) as mq,
        mq.serve(Hop(), name=f"{service}.b", auto_delete=True),
        mq.serve(Hop(mq.proxy(Hop, name=f"{service}.b")), name=service, auto_delete=True),
    ):
        proxy = mq.proxy(Hop, name=service)
        first, second = await proxy.go()
        assert (ids(first)[0], ids(first)[2]) == (ids(second)[0], ids(second)[2])
        assert ids(first)[1] != ids(second)[1] and ids(first)[2] == "03"
        assert ids((await proxy.go())[0])[0] != ids(first)[0]
        given = {"traceparent": f"00-{TRACE}-{PARENT}-00"}
        assert (await amqproxy.options(proxy, headers=given).go())[0] == given  # who calls knows better


async def test_calls_of_one_handler_share_a_trace_that_its_worker_begins(amqp_url: str, service: str) -> None:
    async with (
        amqproxy.connect(amqp_url, middleware=[amqproxy.tracing()]) as mq,
        amqproxy.connect(amqp_url) as other,
        other.serve(Hop(), name=f"{service}.b", auto_delete=True),
        mq.serve(
            Hop(mq.proxy(Hop, name=f"{service}.b"), times=2),
            name=service,
            auto_delete=True,
            middleware=[amqproxy.tracing(start=True)],
        ),
    ):
        none, first, second = await other.proxy(Hop, name=service).go()
        assert none == {}
        assert ids(first)[0] == ids(second)[0] and ids(first)[1] != ids(second)[1]
        assert ids(first)[2] == "02"
        given = {"traceparent": f"00-{TRACE}-{PARENT}-01"}
        _, first, second = await other.proxy(Hop, name=service, headers=given).go()
        assert ids(first)[0] == ids(second)[0] == TRACE


# In processes of their own


async def test_what_the_decorator_says_holds_in_a_worker_process(amqp_url: str, service: str) -> None:
    async with (
        running("-m", "amqproxy", "serve", "surrounded:Accounts", "--name", service, AMQPROXY_URL=amqp_url) as worker,
        amqproxy.connect(amqp_url) as mq,
    ):
        await worker.says("serving")
        stranger: Any = mq.proxy(Accounts, name=service)
        with pytest.raises(amqproxy.RemoteError, match="balance is not for you") as caught:
            await stranger.balance(account=1)
        assert caught.value.code == "unauthenticated"
        proxy = amqproxy.options(stranger, headers={"authorization": "secret"})
        assert await proxy.balance(account=1) == 200
        await worker.says("balance {'account': 1}")
        assert worker.heard.count("ledger opened") == worker.heard.count("ledger closed") == 1
        with pytest.raises(amqproxy.RemoteError, match="no account 9 for balance") as caught:
            await mq.proxy(service, headers={"authorization": "secret"}).balance(9)
        assert caught.value.code == "not_found"
        assert await proxy.pages(size=5) == 10
        assert [row async for row in proxy.rows()] == [100, 200]
        assert (await proxy.pid()).split() == [str(worker.pid), "pid"]
        await worker.says("ledger closed", times=3)
        worker.send(signal.SIGTERM)
        assert await worker.ends() == 0


async def test_what_a_workers_middleware_does_not_let_through_did_not_run(mq: amqproxy.Client, service: str) -> None:
    ran: list[int] = []

    class Shop:
        async def buy(self, item: int) -> int:
            ran.append(item)
            return item

        async def items(self) -> AsyncIterator[int]:
            yield 1

    async def busy(call: amqproxy.Call, next: Next) -> Any:
        tries.append(call.method)
        if len(tries) == 1:
            raise RemoteError("busy", code="resource_exhausted", retryable=True)
        if len(tries) == 2:
            raise ValueError("who are you?")
        result = await next(call)
        if len(tries) == 3:
            raise RemoteError("too late", code="aborted", executed="no")
        return result

    tries: list[str] = []
    async with mq.serve(Shop(), name=service, auto_delete=True, middleware=[busy]):
        proxy = mq.proxy(Shop, name=service)
        for executed in ("no", "no", "yes"):
            with pytest.raises(RemoteError) as caught:
                await proxy.buy(1)
            assert caught.value.executed == executed
        assert ran == [1]
        tries.clear()
        with pytest.raises(RemoteError, match="busy") as caught:
            [item async for item in proxy.items()]
        assert caught.value.executed == "no"
        tries.clear()
        tries.append("the second raises ValueError")
        with pytest.raises(ValueError, match="who"):
            await proxy.buy(2)
        tries.clear()
        tries += ["of 3"] * 3
        assert await proxy.buy(3) == 3
        tries.clear()
        with pytest.raises(ValueError, match="who"):  # the first is refused as busy, and tried again
            await amqproxy.options(proxy, retry=3).buy(4)
        assert ran == [1, 3]
