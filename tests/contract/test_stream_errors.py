"""Streams that go wrong: whoever is at fault is told so behind the items that came, and nothing is left at an end."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest

import amqproxy
from tests.contract.test_streams import nothing_is_left, rounds
from tests.patience import until


class InsufficientFunds(Exception):
    pass


class Panic(BaseException):
    """Not an Exception, as PyO3's are."""


ERRORS: dict[str, Callable[[], BaseException]] = {
    "built in": lambda: ZeroDivisionError("by zero"),
    "registered": lambda: InsufficientFunds("secret: 42"),
    "remote": lambda: amqproxy.RemoteError("no such item", code="not_found", type="NoItem", details={"id": 7}),
    "cancelled": asyncio.CancelledError,
    "no exception": lambda: Panic("of a library in Rust, say"),
}


@amqproxy.serve("faulty", errors=(InsufficientFunds,))
class Faulty:
    """Fails in all ways, and notes what was closed."""

    def __init__(self) -> None:
        self.closed: list[str] = []

    async def ping(self) -> str:
        return "pong"

    async def fail(self, after: int, how: str) -> AsyncIterator[int]:
        try:
            for number in range(after):
                yield number
            raise ERRORS[how]()
        finally:
            self.closed.append("fail")

    def fail_in_thread(self, after: int, how: str) -> Iterator[int]:
        yield from range(after)
        raise ERRORS[how]()

    async def fail_later(self, after: int, how: str) -> AsyncIterator[int]:
        for number in range(after):
            await asyncio.sleep(0)
            yield number
        await asyncio.sleep(0)
        raise ERRORS[how]()

    async def refuse(self, to: int) -> AsyncIterator[int]:
        raise LookupError(f"no stream of {to}")

    async def lie(self, after: int) -> AsyncIterator[int]:
        try:
            for number in range(after):
                yield number
            yield "three"  # type: ignore[misc]  # which is the point
        finally:
            self.closed.append("lie")

    def lie_in_thread(self, after: int) -> Iterator[int]:
        try:
            yield from range(after)
            yield "three"  # type: ignore[misc]  # as above
        finally:
            self.closed.append("lie in thread")

    async def no_stream(self) -> AsyncIterator[int]:
        return 5  # type: ignore[return-value]  # as above

    async def no_blob(self) -> amqproxy.Blob:
        return amqproxy.Blob(iter([b"bytes", "text"]))  # type: ignore[arg-type]  # as above

    async def large(self, sizes: list[int], times: int = 1) -> AsyncIterator[str]:
        try:
            for size in times * sizes:
                yield "x" * size
        finally:
            self.closed.append("large")

    async def endless(self) -> AsyncIterator[int]:
        try:
            number = 0
            while True:
                yield number
                number += 1
                await asyncio.sleep(0)
        finally:
            self.closed.append("endless")

    async def stalled(self) -> AsyncIterator[int]:
        try:
            yield 0
            await asyncio.Event().wait()
        finally:
            self.closed.append("stalled")

    async def total(self, numbers: AsyncIterator[int]) -> int:
        try:
            return sum([number async for number in numbers])
        finally:
            self.closed.append("total")

    def total_in_thread(self, numbers: Iterator[int]) -> int:
        try:
            return sum(numbers)
        finally:
            self.closed.append("total in thread")

    async def dislike(self, numbers: AsyncIterator[int]) -> int:
        raise ValueError(f"I do not like {await anext(numbers)}")

    async def chat(self, numbers: AsyncIterator[int]) -> AsyncIterator[int]:
        try:
            async for number in numbers:
                yield number
        finally:
            self.closed.append("chat")

    async def upload(self, data: amqproxy.Blob) -> int:
        return len(await data.read())


@dataclass
class Even:
    number: int

    def __post_init__(self) -> None:
        if self.number % 2:
            raise Odd


class Odd(Exception):
    def __str__(self) -> str:
        raise KeyError("odd")


class Evens:
    async def count(self, numbers: AsyncIterator[Even]) -> int:
        return len([number async for number in numbers])


class EvensForCallers:
    async def count(self, numbers: AsyncIterator[dict[str, int]]) -> int:
        raise NotImplementedError


async def test_an_item_whose_type_cannot_be_made_ends_the_call(mq: amqproxy.Client, service: str) -> None:
    async with mq.serve(Evens(), name=service, auto_delete=True):
        proxy: Any = mq.proxy(EvensForCallers, name=service)
        with pytest.raises(amqproxy.RemoteError, match=r"raised Odd: \(its text cannot be had: KeyError\)") as caught:
            await proxy.count([{"number": 2}, {"number": 1}])
        assert caught.value.code == "invalid_argument"
        assert await proxy.count([{"number": 2}] * 3) == 3


@asynccontextmanager
async def faulty(mq: amqproxy.Client, service: str, **options: Any) -> AsyncIterator[tuple[Faulty, Any]]:
    """The service and a proxy of it; what is done to it leaves nothing behind, and it goes on as before."""
    served = Faulty()
    async with mq.serve(served, name=service, auto_delete=True) as worker:
        proxy: Any = mq.proxy(Faulty, name=service, **options)
        await proxy.ping()
        session, line = worker._session, proxy.ping.line
        yield served, proxy
        await nothing_is_left(mq, worker)
        assert await proxy.ping() == "pong"
        assert worker._session is session
        assert proxy.ping.line is line


async def collect(stream: Any) -> tuple[list[Any], BaseException | None]:
    """The items that came, and what came behind them."""
    found = []
    try:
        async for item in stream:
            found.append(item)
    except Exception as error:
        return found, error
    return found, None


class Feed:
    """What a caller feeds: items, then an error or nothing for ever; notes that it was closed."""

    def __init__(self, *items: Any, error: BaseException | None = None) -> None:
        self.items = items
        self.error = error
        self.closed = asyncio.Event()

    async def __call__(self) -> AsyncIterator[Any]:
        try:
            for item in self.items:
                yield item
            if self.error is not None:
                raise self.error
            await asyncio.Event().wait()
        finally:
            self.closed.set()


# What the worker's side raises


@pytest.mark.parametrize("method", ["fail", "fail_in_thread", "fail_later"])
@pytest.mark.parametrize("after", [0, 1, 300])
@pytest.mark.parametrize(
    ("how", "expected", "type"),
    [
        ("built in", ZeroDivisionError, "ZeroDivisionError"),
        ("registered", InsufficientFunds, "tests.contract.test_stream_errors.InsufficientFunds"),
        ("remote", amqproxy.RemoteError, "NoItem"),
        ("cancelled", amqproxy.RemoteError, "asyncio.exceptions.CancelledError"),
        ("no exception", amqproxy.RemoteError, "tests.contract.test_stream_errors.Panic"),
    ],
)
async def test_the_items_come_first_and_then_the_error_as_its_type(
    mq: amqproxy.Client, service: str, method: str, after: int, how: str, expected: type[Exception], type: str
) -> None:
    async with faulty(mq, service) as (_, proxy):
        items, error = await collect(getattr(proxy, method)(after, how))
        assert items == list(range(after))
        assert isinstance(error, expected)
        assert isinstance(error, amqproxy.RemoteError)
        assert error.type == type
        if how == "remote":
            assert (error.code, error.details) == ("not_found", {"id": 7})


async def test_who_takes_no_stream_gets_the_error_alone(mq: amqproxy.Client, service: str) -> None:
    async with faulty(mq, service) as (served, _):
        with pytest.raises(ZeroDivisionError, match="by zero"):
            await mq.proxy(service).fail(3, "built in")
        with pytest.raises(amqproxy.RemoteError, match="returned what it does not promise"):
            await mq.proxy(service).lie(3)
        assert served.closed == ["fail", "lie"]


async def test_what_is_raised_instead_of_a_stream(mq: amqproxy.Client, service: str) -> None:
    async with faulty(mq, service) as (_, proxy):
        with pytest.raises(LookupError, match="no stream of 3"):
            await anext(proxy.refuse(3))
        with pytest.raises(LookupError, match="no stream of 3"):
            await proxy.refuse(3)
        with pytest.raises(amqproxy.RemoteError, match="a int, which is no asynchronous iterator") as caught:
            await proxy.no_stream()
        assert caught.value.code == "internal"
        blob = await proxy.no_blob()
        with pytest.raises(TypeError, match="its source gave a str"):
            await blob.read()


@pytest.mark.parametrize("method", ["lie", "lie_in_thread"])
@pytest.mark.parametrize("after", [0, 3])
async def test_an_item_of_another_type_is_the_workers_fault(
    mq: amqproxy.Client, service: str, method: str, after: int
) -> None:
    async with faulty(mq, service) as (served, proxy):
        items, error = await collect(getattr(proxy, method)(after))
        assert items == list(range(after))
        assert isinstance(error, amqproxy.RemoteError)
        assert (error.code, error.type, error.executed) == ("internal", "Mismatch", "yes")
        assert "returned what it does not promise: Expected `int`, got `str`" in str(error)
        await until(lambda: len(served.closed) == 1)


async def test_an_error_is_raised_once_and_then_the_stream_is_over(mq: amqproxy.Client, service: str) -> None:
    async with faulty(mq, service) as (_, proxy):
        stream = proxy.fail(1, "built in")
        assert await anext(stream) == 0
        with pytest.raises(ZeroDivisionError):
            await anext(stream)
        await stream.aclose()


# Sizes


async def test_an_item_that_is_too_large_for_the_worker_is_told(amqp_url: str, service: str) -> None:
    async with (
        amqproxy.connect(amqp_url, max_body_bytes=10_000) as small,
        amqproxy.connect(amqp_url) as mq,
        small.serve(served := Faulty(), name=service, auto_delete=True) as worker,
    ):
        proxy = mq.proxy(Faulty, name=service)
        assert [len(text) async for text in proxy.large([100], 500)] == [100] * 500
        items, error = await collect(proxy.large([10, 20_000, 10]))
        assert [len(item) for item in items] == [10]
        assert isinstance(error, amqproxy.RemoteError)
        assert (error.code, error.type) == ("resource_exhausted", "MessageTooLarge")
        assert str(error).startswith("MessageTooLarge: Faulty.large(")
        assert ": an item has 20002 bytes, the worker's max_body_bytes is 10000" in str(error)
        assert served.closed == ["large", "large"]
        with pytest.raises(amqproxy.RemoteError, match="ask for a stream") as caught:
            await mq.proxy(service).large([100], 500)
        assert caught.value.code == "resource_exhausted"
        await nothing_is_left(mq, worker)


async def test_an_item_that_is_too_large_for_the_caller_stops_the_worker(amqp_url: str, service: str) -> None:
    async with (
        amqproxy.connect(amqp_url, max_body_bytes=10_000) as small,
        amqproxy.connect(amqp_url) as mq,
        mq.serve(served := Faulty(), name=service, auto_delete=True) as worker,
    ):
        proxy = small.proxy(Faulty, name=service)
        items, error = await collect(proxy.large([10, 20_000], 5000))
        assert [len(item) for item in items] in ([], [10])
        assert isinstance(error, amqproxy.BadReply)
        await until(lambda: served.closed == ["large"], within=1)
        await nothing_is_left(small, worker)


async def test_so_it_is_with_what_is_fed(amqp_url: str, service: str) -> None:
    async with (
        amqproxy.connect(amqp_url, max_body_bytes=10_000) as small,
        amqproxy.connect(amqp_url) as mq,
        mq.serve(served := Faulty(), name=service, auto_delete=True) as worker,
    ):
        with pytest.raises(amqproxy.MessageTooLarge, match="an item has 20000 bytes, max_body_bytes is 10000"):
            await small.proxy(Faulty, name=service).upload(amqproxy.Blob([b"x" * 20_000]))
        await nothing_is_left(small, worker)
        assert served.closed == []


# What the caller's side raises


@pytest.mark.parametrize("method", ["total", "total_in_thread"])
@pytest.mark.parametrize("items", [0, 1, 1000])
async def test_an_error_of_the_iterator_that_is_fed_is_the_callers_own(
    mq: amqproxy.Client, service: str, method: str, items: int
) -> None:
    async with faulty(mq, service) as (served, proxy):
        error = InsufficientFunds("mine")
        with pytest.raises(InsufficientFunds) as caught:
            await getattr(proxy, method)(Feed(*range(items), error=error)())
        assert caught.value is error
        await until(lambda: len(served.closed) == 1, within=1)


async def test_so_it_is_where_a_stream_comes_back(mq: amqproxy.Client, service: str) -> None:
    async with faulty(mq, service) as (served, proxy):
        items, error = await collect(proxy.chat(Feed(1, 2, error=InsufficientFunds("mine"))()))
        assert items == [1, 2][: len(items)]  # what is on its way is not waited for
        assert isinstance(error, InsufficientFunds)
        await until(lambda: served.closed == ["chat"], within=1)


async def test_a_feeding_iterator_that_was_cancelled_ends_the_call(mq: amqproxy.Client, service: str) -> None:
    async with faulty(mq, service) as (served, proxy):
        with pytest.raises(RuntimeError, match="the iterator that it was fed from was cancelled"):
            await proxy.total(Feed(1, error=asyncio.CancelledError())())
        await until(lambda: served.closed == ["total"], within=1)


@pytest.mark.parametrize("items", [["one"], [1, 2, "three"]])
async def test_an_item_of_another_type_is_the_callers_fault(
    mq: amqproxy.Client, service: str, items: list[Any]
) -> None:
    async with faulty(mq, service) as (served, proxy):
        feed = Feed(*items)
        text = "total: an item that it is fed: Expected `int`, got `str`"
        with pytest.raises(amqproxy.ContractError, match=text) as caught:
            await proxy.total(feed())
        assert caught.value.executed == "maybe"  # the handler was there, as can be seen
        assert feed.closed.is_set()
        await until(lambda: served.closed == ["total"], within=1)


async def test_what_cannot_be_fed_is_refused_before_anything_is_sent(mq: amqproxy.Client, service: str) -> None:
    async with faulty(mq, service) as (served, proxy):
        with pytest.raises(amqproxy.ContractError, match="numbers is fed from an iterator, not a int"):
            proxy.total(5)
        with pytest.raises(amqproxy.ContractError, match="data: a Blob is made of bytes"):
            proxy.upload(5)
        with pytest.raises(amqproxy.ContractError, match="missing a required argument: 'numbers'"):
            proxy.total()
        with pytest.raises(TypeError, match="its source gave a int"):
            await proxy.upload([1, 2])
        assert served.closed == []


async def test_a_handler_that_raises_ends_the_feeding(mq: amqproxy.Client, service: str) -> None:
    async with faulty(mq, service) as (_, proxy):
        feed = Feed(7)
        with pytest.raises(ValueError, match="I do not like 7"):
            await proxy.dislike(feed())
        async with asyncio.timeout(1):
            await feed.closed.wait()


async def test_a_call_that_feeds_nothing_is_refused(mq: amqproxy.Client, service: str) -> None:
    async with faulty(mq, service):
        for call in (mq.proxy(service).total(), mq.proxy(service).upload()):
            with pytest.raises(amqproxy.RemoteError, match="is fed a stream: call it through a proxy") as caught:
                await call
            assert (caught.value.code, caught.value.executed) == ("invalid_argument", "no")


# Time


async def test_a_timeout_that_was_given_bounds_the_whole_stream(mq: amqproxy.Client, service: str) -> None:
    async with faulty(mq, service) as (served, proxy):
        began = time.monotonic()
        items, error = await collect(amqproxy.options(proxy, timeout=0.4).endless())
        assert isinstance(error, amqproxy.CallTimeout)
        assert 0.4 <= time.monotonic() - began < 2
        assert items == list(range(len(items)))
        assert items
        await until(lambda: served.closed == ["endless"], within=1)
        with pytest.raises(amqproxy.CallTimeout):
            await amqproxy.options(proxy, timeout=0.3).total(Feed(1)())
        await until(lambda: served.closed == ["endless", "total"], within=1)


async def test_a_deadline_around_it_does_too(mq: amqproxy.Client, service: str) -> None:
    async with faulty(mq, service) as (served, proxy):
        with pytest.raises(amqproxy.CallTimeout):
            async with amqproxy.deadline(0.3):
                async for _ in proxy.stalled():
                    pass
        await until(lambda: served.closed == ["stalled"], within=1)


async def test_without_one_a_stream_may_stall_for_as_long_as_it_likes(mq: amqproxy.Client, service: str) -> None:
    class Patient(Faulty):
        async def stalled(self) -> AsyncIterator[int]:
            yield 0
            await asyncio.sleep(2.5)  # for longer than both ends are silent
            yield 1

    async with mq.serve(Patient(), name=service, auto_delete=True):
        proxy = mq.proxy(Patient, name=service)
        assert [number async for number in proxy.stalled()] == [0, 1]


async def test_a_stream_that_no_worker_begins_times_out(mq: amqproxy.Client, service: str) -> None:
    async with mq.serve(Faulty(), name=service, auto_delete=True, concurrency=1, grace=0):
        proxy: Any = mq.proxy(Faulty, name=service)
        busy = await proxy.stalled()
        with pytest.raises(amqproxy.CallTimeout, match="workers: 1"):
            await anext(amqproxy.options(proxy, timeout=0.3).fail(1, "built in"))
        await busy.aclose()
        items, _ = await collect(proxy.fail(2, "built in"))
        assert items == [0, 1]


# No worker, too many calls


async def test_without_a_queue_it_is_unroutable_at_once(mq: amqproxy.Client, service: str) -> None:
    proxy: Any = mq.proxy(Faulty, name=service)
    feed = Feed(1)
    for call in (
        proxy.endless(),
        proxy.total(feed()),
        proxy.no_blob(),
        anext(proxy.chat(feed())),
        anext(proxy.endless()),
    ):
        with pytest.raises(amqproxy.Unroutable, match="is a worker serving") as caught:
            async with asyncio.timeout(5):
                await call
        assert caught.value.executed == "no"


async def test_streams_count_among_the_calls_that_are_in_flight(mq: amqproxy.Client, service: str) -> None:
    async with faulty(mq, service, max_in_flight=2) as (served, proxy):
        streams = [await proxy.stalled() for _ in range(2)]
        for call in (anext(proxy.stalled()), proxy.total([1]), proxy.ping()):
            with pytest.raises(amqproxy.Overloaded, match="max_in_flight") as caught:
                await call
            assert caught.value.executed == "no"
        await streams[0].aclose()
        assert await proxy.ping() == "pong"
        assert await proxy.total([1, 2]) == 3
        await streams[1].aclose()
        await until(lambda: served.closed.count("stalled") == 2, within=1)


async def test_a_stream_is_read_by_one_task(mq: amqproxy.Client, service: str) -> None:
    async with faulty(mq, service) as (_, proxy):
        stream = proxy.stalled()
        assert await anext(stream) == 0
        waiting = asyncio.ensure_future(anext(stream, "closed"))
        await rounds(proxy, 2)
        with pytest.raises(RuntimeError, match="another task waits for the next item"):
            await anext(stream)
        await stream.aclose()
        assert await waiting == "closed"


# Annotations


@pytest.mark.parametrize(
    "annotation",
    [
        *(AsyncIterator[complex], AsyncIterator[amqproxy.Blob], AsyncIterator[AsyncIterator[int]]),
        *(list[amqproxy.Blob], amqproxy.Blob | None, AsyncIterator[int] | None, dict[str, Iterator[int]]),
    ],
    ids=str,
)
@pytest.mark.parametrize("place", ["parameter", "return"])
async def test_streams_of_what_cannot_travel_are_told_when_the_worker_starts(
    mq: amqproxy.Client, service: str, annotation: Any, place: str
) -> None:
    async def odd(items: Any) -> Any: ...

    odd.__annotations__ = {"items": annotation} if place == "parameter" else {"items": int, "return": annotation}
    with pytest.raises(amqproxy.ContractError, match="odd"):
        await mq.serve(odd, name=service, auto_delete=True).start()
    with pytest.raises(amqproxy.ContractError, match="odd"):
        await mq.proxy(odd, name=service)(1)
