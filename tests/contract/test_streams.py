"""Streams that go well: results, parameters and both ways, in every encoding, and never more than the credit."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pydantic
import pytest

import amqproxy
from amqproxy.blob import CHUNK_BYTES
from amqproxy.streaming import FEED_CREDIT
from tests.contract.test_encodings import MessagePack
from tests.idl import kinds_pb2 as kinds
from tests.idl.kinds_thrift import ttypes as thrifty
from tests.patience import until


@dataclass
class Page:
    number: int
    lines: list[str] = field(default_factory=list)


class Model(pydantic.BaseModel):
    number: int
    text: str = "none"


@amqproxy.message("com.example.Range")
@dataclass
class Range:
    first: int
    last: int


@amqproxy.message("com.example.Limits")
@dataclass
class Limits:
    first: int
    last: int


class Numbers:
    """Streams in every way that there is, and notes how far it came."""

    def __init__(self) -> None:
        self.produced = 0
        self.closed = asyncio.Event()
        self.threads: set[int] = set()

    async def ping(self) -> str:
        return "pong"

    async def count(self, to: int) -> AsyncIterator[int]:
        try:
            for number in range(to):
                self.produced += 1
                yield number
        finally:
            self.closed.set()

    async def slowly(self, to: int) -> AsyncIterator[int]:
        for number in range(to):
            await asyncio.sleep(0)
            yield number

    def in_thread(self, to: int) -> Iterator[int]:
        for number in range(to):
            self.threads.add(threading.get_ident())
            self.produced += 1
            yield number

    async def returned(self, to: int) -> AsyncIterator[int]:
        await asyncio.sleep(0)
        return self.slowly(to)

    def returned_at_once(self, to: int) -> AsyncIterator[int]:
        return self.slowly(to)

    async def listed(self, to: int) -> Iterable[int]:
        return list(range(to))

    def listed_in_thread(self, to: int) -> Iterable[int]:
        return range(to)

    async def between(self, range_: Range) -> AsyncIterator[int]:
        for number in range(range_.first, range_.last):
            yield number

    async def pages(self, to: int) -> AsyncIterator[Page]:
        for number in range(to):
            yield Page(number, ["line"] * number)

    async def models(self, to: int) -> AsyncIterator[Model]:
        for number in range(to):
            yield Model(number=number)

    async def anything(self) -> AsyncIterator[Any]:
        for value in (1, "two", None, [3], {"four": 5.0}):
            yield value

    async def trees(self, request: kinds.Plain) -> AsyncIterator[kinds.Tree]:
        for number in range(request.number):
            yield kinds.Tree(value=number)

    async def structs(self, request: thrifty.Item) -> AsyncIterator[thrifty.Tree]:
        for number in range(request.id):
            yield thrifty.Tree(value=number)

    async def texts(self, size: int, items: int) -> AsyncIterator[str]:
        for number in range(items):
            yield chr(ord("a") + number % 26) * size

    async def file(self, content: bytes, pieces: int = 1) -> amqproxy.Blob:
        return amqproxy.Blob(iter([content] * pieces))

    async def total(self, numbers: AsyncIterator[int]) -> int:
        return sum([number async for number in numbers])

    def total_in_thread(self, numbers: Iterator[int], start: int = 0) -> int:
        self.threads.add(threading.get_ident())
        return sum(numbers, start)

    async def join(self, separator: str, /, pages: AsyncIterator[Page], *, end: str = "") -> str:
        return separator.join([str(page.number) async for page in pages]) + end

    async def within(self, numbers: AsyncIterator[int], limits: Limits) -> list[int]:
        return [number async for number in numbers if limits.first <= number < limits.last]

    async def first(self, numbers: AsyncIterator[int]) -> int:
        return await anext(numbers)

    async def size(self, data: amqproxy.Blob) -> int:
        return sum([len(chunk) async for chunk in data])

    def size_in_thread(self, data: Iterator[bytes]) -> int:
        return sum(len(chunk) for chunk in data)

    async def chat(self, words: AsyncIterator[str]) -> AsyncIterator[str]:
        async for word in words:
            yield word.upper()
        yield "bye"

    def chat_in_thread(self, words: Iterator[str]) -> Iterator[str]:
        for word in words:
            yield word.upper()
        yield "bye"

    async def echo(self, data: amqproxy.Blob) -> amqproxy.Blob:
        return data


@asynccontextmanager
async def numbers(mq: amqproxy.Client, service: str, **options: Any) -> AsyncIterator[tuple[Numbers, Any]]:
    """The service, and a proxy of it; neither has a call left when the block ends."""
    served = Numbers()
    async with mq.serve(served, name=service, auto_delete=True, codecs=(MessagePack(),)) as worker:
        proxy = mq.proxy(Numbers, name=service, **options)
        await proxy.ping()
        yield served, proxy
        await nothing_is_left(mq, worker)


async def nothing_is_left(mq: amqproxy.Client, worker: Any) -> None:
    """Return when no call runs, none is out, and all deliveries are settled."""
    session = worker._session

    def left() -> list[Any]:
        lines = mq.caller._by_prefix.values()
        out = [(line.conversations, line.calls._pending) for line in lines if line.conversations or line.calls._pending]
        return [*worker.running, *session.streams, *out, *session._lane._acks._out]

    await until(lambda: not left(), lambda: f"left behind: {left()}")


async def rounds(proxy: Any, times: int = 20) -> None:
    """Return when whatever both ends do without further events is done."""
    for _ in range(times):
        await proxy.ping()


# Results


@pytest.mark.parametrize(
    "method",
    ["count", "slowly", "in_thread", "returned", "returned_at_once", "listed", "listed_in_thread"],
)
@pytest.mark.parametrize("items", [0, 1, 256, 1000])
async def test_items_come_in_order_whatever_makes_them(
    mq: amqproxy.Client, service: str, method: str, items: int
) -> None:
    async with numbers(mq, service) as (served, proxy):
        assert [number async for number in getattr(proxy, method)(items)] == list(range(items))
        if method == "in_thread" and items:
            assert len(served.threads) == 1
            assert threading.get_ident() not in served.threads


@pytest.mark.parametrize("credit", [1, 2, 3, 64, 1000])
@pytest.mark.parametrize("batch", [1, 2, 64])
@pytest.mark.parametrize("method", ["count", "in_thread"])
async def test_with_any_credit_and_any_batch(
    mq: amqproxy.Client, service: str, method: str, credit: int, batch: int
) -> None:
    async with numbers(mq, service, credit=credit, batch=batch) as (_, proxy):
        for items in (credit - 1, credit, credit + 1, 3 * credit):
            assert [number async for number in getattr(proxy, method)(items)] == list(range(items))


async def test_items_of_each_type_arrive_as_it(mq: amqproxy.Client, service: str) -> None:
    async with numbers(mq, service) as (_, proxy):
        assert [page async for page in proxy.pages(4)] == [Page(n, ["line"] * n) for n in range(4)]
        assert [model async for model in proxy.models(3)] == [Model(number=n) for n in range(3)]
        assert [value async for value in proxy.anything()] == [1, "two", None, [3], {"four": 5.0}]
        assert [tree.value async for tree in proxy.trees(kinds.Plain(number=3))] == [0, 1, 2]
        assert [tree.value async for tree in proxy.structs(thrifty.Item(3))] == [0, 1, 2]


@pytest.mark.parametrize(
    ("encoding", "method"),
    [
        *((encoding, "pages") for encoding in ("json", "snappy-json", "zstd-json", "gzip-json", "lz4-json")),
        *((encoding, "trees") for encoding in ("json", "protobuf", "snappy-protobuf", "zstd-protobuf")),
        *((encoding, "structs") for encoding in ("thrift", "thrift-compact", "gzip-thrift", "lz4-thrift-compact")),
    ],
)
@pytest.mark.parametrize("batch", [1, 64])
async def test_in_every_encoding(mq: amqproxy.Client, service: str, encoding: str, method: str, batch: int) -> None:
    requests = {"pages": 300, "trees": kinds.Plain(number=300), "structs": thrifty.Item(300)}
    async with numbers(mq, service) as (_, proxy):
        encoded = amqproxy.options(proxy, encoding=encoding, batch=batch)
        found = [item async for item in getattr(encoded, method)(requests[method])]
        assert [getattr(item, "number" if method == "pages" else "value") for item in found] == list(range(300))


async def test_in_an_encoding_of_the_users(mq: amqproxy.Client, service: str) -> None:
    async with numbers(mq, service, encoding=MessagePack()) as (_, proxy):
        assert [page async for page in proxy.pages(100)] == [Page(n, ["line"] * n) for n in range(100)]
        assert await proxy.join("-", [Page(1), Page(2)]) == "1-2"


async def test_large_items_and_small_ones(mq: amqproxy.Client, service: str) -> None:
    async with numbers(mq, service) as (_, proxy):
        for size in (10, 1000, 20_000, 300_000):
            found = [text async for text in proxy.texts(size, 30)]
            assert found == [chr(ord("a") + number % 26) * size for number in range(30)]


async def test_a_message_may_ask_for_a_stream(mq: amqproxy.Client, service: str) -> None:
    async with numbers(mq, service) as (_, proxy):
        assert [number async for number in proxy.between(Range(3, 6))] == [3, 4, 5]
        assert [number async for number in proxy.between(3, 6)] == [3, 4, 5]
        assert [number async for number in proxy(Range(3, 6))] == [3, 4, 5]


async def test_a_served_function_may_be_a_generator(mq: amqproxy.Client, service: str) -> None:
    async def count(to: int) -> AsyncIterator[int]:
        for number in range(to):
            yield number

    async with mq.serve(count, name=service, auto_delete=True):
        proxy: Any = mq.proxy(count, name=service)  # type: ignore[arg-type]  # whose types know of calls that answer once
        assert [number async for number in proxy(3)] == [0, 1, 2]
        assert [number async for number in mq.proxy(service).count(3)] == [0, 1, 2]


async def test_a_service_known_by_name_streams_too(mq: amqproxy.Client, service: str) -> None:
    async with numbers(mq, service):
        proxy = mq.proxy(service)
        assert [number async for number in proxy.count(300)] == list(range(300))
        assert [page async for page in proxy.pages(2)] == [{"number": 0, "lines": []}, {"number": 1, "lines": ["line"]}]
        assert await proxy.count(3) == [0, 1, 2]  # who takes no stream gets one array
        assert await proxy.in_thread(3) == [0, 1, 2]
        assert await proxy.count(0) == []


@pytest.mark.parametrize("options", [{"compress_above": 0}, {"max_in_flight": 3}, {"heartbeat": 0.5}])
async def test_a_service_known_by_name_streams_whatever_the_options(
    mq: amqproxy.Client, service: str, options: dict[str, Any]
) -> None:
    async with numbers(mq, service):
        proxy = mq.proxy(service, **options)
        assert [number async for number in proxy.count(300)] == list(range(300))
        assert await proxy.count(3) == [0, 1, 2]
        assert await proxy.ping() == "pong"
        with pytest.raises(amqproxy.BadReply, match="ping answered with one value and no stream: await it"):
            [each async for each in proxy.ping()]


async def test_a_stream_that_was_forgotten_is_warned_of(mq: amqproxy.Client, service: str) -> None:
    async with numbers(mq, service) as (served, proxy):
        with pytest.warns(RuntimeWarning, match=r"the call of .*count was not made: its stream was never awaited or"):
            proxy.count(3)
        with pytest.warns(RuntimeWarning, match=r"the call of .*count was not made"):
            amqproxy.progress(proxy.count(3), print)
        with pytest.warns(RuntimeWarning, match=r"the call of .*count was not made"):
            amqproxy.options(proxy, middleware=[untouched]).count(3)
        assert served.produced == 0


async def untouched(call: Any, next: Callable[[Any], Any]) -> Any:
    return await next(call)


async def test_the_call_is_made_when_the_first_item_is_asked_for_or_it_is_awaited(
    mq: amqproxy.Client, service: str
) -> None:
    async with numbers(mq, service) as (served, proxy):
        stream = proxy.count(5)
        await rounds(proxy)
        assert served.produced == 0
        assert await stream is stream
        assert served.produced == 5
        assert [number async for number in stream] == [0, 1, 2, 3, 4]
        assert [number async for number in stream] == []
        unused = proxy.count(5)
        await unused.aclose()
        assert [number async for number in unused] == []
        assert await unused is unused
        del unused
        await rounds(proxy)
        assert served.produced == 5


async def test_two_hundred_streams_at_once(mq: amqproxy.Client, service: str) -> None:
    async with numbers(mq, service) as (_, proxy):

        async def read(items: int) -> bool:
            method = proxy.count if items % 2 else proxy.slowly
            return [number async for number in method(items)] == list(range(items))

        assert all(await asyncio.gather(*(read(items) for items in range(200))))


async def test_streams_are_called_within_streams(mq: amqproxy.Client, service: str) -> None:
    class Doubler:
        async def doubled(self, to: int) -> AsyncIterator[int]:
            async for number in inner.count(to):
                yield 2 * number

        async def passed(self, numbers: AsyncIterator[int]) -> int:
            total: int = await inner.total(numbers)
            return total

    async with (
        numbers(mq, f"{service}.inner") as (served, inner),
        mq.serve(Doubler(), name=service, auto_delete=True) as worker,
    ):
        outer: Any = mq.proxy(Doubler, name=service)  # a Stream is more than the AsyncIterator of its annotation
        assert [number async for number in outer.doubled(600)] == list(range(0, 1200, 2))
        assert await outer.passed(inner.count(600)) == sum(range(600))
        served.closed.clear()
        async with outer.doubled(10**9) as stream:
            assert await anext(stream) == 0
        async with asyncio.timeout(5):
            await served.closed.wait()
        await nothing_is_left(mq, worker)


# Never more than the credit


@pytest.mark.parametrize("method", ["count", "in_thread"])
@pytest.mark.parametrize(("credit", "batch"), [(1, 1), (10, 1), (10, 64), (256, 64)])
async def test_a_consumer_that_does_not_read_gets_no_more_than_the_credit(
    mq: amqproxy.Client, service: str, method: str, credit: int, batch: int
) -> None:
    async with numbers(mq, service, credit=credit, batch=batch) as (served, proxy):
        stream = await getattr(proxy, method)(10**9)
        await until(lambda: served.produced >= credit)
        await rounds(proxy)
        assert served.produced == credit
        assert len(stream._inlet.ready) == credit
        for taken in range(1, 3 * credit):
            await anext(stream)
            assert served.produced <= taken + credit
        await rounds(proxy)
        assert served.produced <= 4 * credit
        await stream.aclose()


async def test_a_slow_consumer_holds_up_nobody_else(mq: amqproxy.Client, service: str) -> None:
    async with numbers(mq, service, credit=10) as (served, proxy):
        idle = await proxy.count(10**9)
        assert [number async for number in proxy.slowly(1000)] == list(range(1000))
        assert 0 < served.produced <= 10
        await idle.aclose()


# Parameters


async def fed(items: Iterable[Any], closed: list[str] | None = None) -> AsyncIterator[Any]:
    try:
        for item in items:
            yield item
    finally:
        if closed is not None:
            closed.append("closed")


@pytest.mark.parametrize("items", [0, 1, FEED_CREDIT, 2000])
@pytest.mark.parametrize("method", ["total", "total_in_thread"])
async def test_a_stream_is_a_parameter(mq: amqproxy.Client, service: str, method: str, items: int) -> None:
    async with numbers(mq, service) as (served, proxy):
        closed: list[str] = []
        call = getattr(proxy, method)
        assert await call(fed(range(items), closed)) == sum(range(items))
        assert closed == ["closed"]
        assert await call(range(items)) == sum(range(items))
        assert await call(numbers=iter(range(items))) == sum(range(items))
        assert threading.get_ident() not in served.threads


async def test_beside_other_parameters_and_messages(mq: amqproxy.Client, service: str) -> None:
    async with numbers(mq, service) as (_, proxy):
        pages = [Page(1), Page(2)]
        assert await proxy.join("-", pages) == "1-2"
        assert await proxy.join("-", pages=fed(pages), end="!") == "1-2!"
        assert await proxy.total_in_thread([1, 2], 10) == 13
        assert await proxy.within([1, 2, 3, 4], Limits(2, 4)) == [2, 3]
        assert await proxy.within(numbers=[1, 2, 3, 4], limits=Limits(2, 4)) == [2, 3]


@pytest.mark.parametrize("encoding", ["json", "zstd-json"])
@pytest.mark.parametrize("batch", [1, 64])
async def test_parameters_in_other_encodings(mq: amqproxy.Client, service: str, encoding: str, batch: int) -> None:
    async with numbers(mq, service, encoding=encoding, batch=batch) as (_, proxy):
        assert await proxy.total(range(1000)) == sum(range(1000))
        assert [word async for word in proxy.chat(["a", "b"])] == ["A", "B", "bye"]


async def test_a_handler_that_does_not_read_is_fed_no_more_than_its_credit(mq: amqproxy.Client, service: str) -> None:
    class Lazy:
        async def read(self, numbers: AsyncIterator[int]) -> int:
            await go_on.wait()
            return len([number async for number in numbers])

        async def ping(self) -> None: ...

    go_on, produced = asyncio.Event(), 0

    async def source() -> AsyncIterator[int]:
        nonlocal produced
        for number in range(3 * FEED_CREDIT):
            produced += 1
            yield number

    async with mq.serve(Lazy(), name=service, auto_delete=True):
        proxy = mq.proxy(Lazy, name=service)
        call = asyncio.ensure_future(proxy.read(source()))
        await until(lambda: produced >= FEED_CREDIT)
        await rounds(proxy)
        assert produced == FEED_CREDIT
        go_on.set()
        assert await call == 3 * FEED_CREDIT


async def test_a_feed_that_pauses_for_longer_than_a_second_goes_on(mq: amqproxy.Client, service: str) -> None:
    async def pausing() -> AsyncIterator[int]:
        yield 1
        await asyncio.sleep(1.7)  # for longer than either end is silent
        yield 2

    async with numbers(mq, service) as (_, proxy):
        assert await proxy.total(pausing()) == 3
        assert [word async for word in proxy.chat(fed(["a"]))] == ["A", "bye"]


async def test_a_handler_that_reads_only_a_part_ends_the_feeding(mq: amqproxy.Client, service: str) -> None:
    async with numbers(mq, service) as (_, proxy):
        closed: list[str] = []

        async def endless() -> AsyncIterator[int]:
            try:
                number = 0
                while True:
                    number += 1
                    yield number
            finally:
                await asyncio.sleep(0)
                closed.append("closed")

        assert await proxy.first(endless()) == 1
        await until(lambda: bool(closed), within=1)


# Both ways at once


@pytest.mark.parametrize("method", ["chat", "chat_in_thread"])
async def test_both_ways_at_once(mq: amqproxy.Client, service: str, method: str) -> None:
    words: asyncio.Queue[str | None] = asyncio.Queue()

    async def spoken() -> AsyncIterator[str]:
        while (word := await words.get()) is not None:
            yield word

    async with numbers(mq, service) as (_, proxy):
        answers = getattr(proxy, method)(spoken())
        for word in ("hello", "how", "are", "you"):
            words.put_nowait(word)  # which is said only when the one before was answered
            assert await anext(answers) == word.upper()
        words.put_nowait(None)
        assert [answer async for answer in answers] == ["bye"]
        assert [a async for a in getattr(proxy, method)(["x"] * 3000)] == [*["X"] * 3000, "bye"]


# Blobs


@pytest.mark.parametrize("size", [0, 1, 3 * CHUNK_BYTES + 7])
async def test_a_blob_comes_and_goes(mq: amqproxy.Client, service: str, size: int, tmp_path: Path) -> None:
    content = bytes(n % 251 for n in range(size))
    (tmp_path / "source").write_bytes(content)
    async with numbers(mq, service) as (_, proxy):
        for source in (content, tmp_path / "source", fed([content]), amqproxy.Blob(content)):
            assert await proxy.size(source) == size
        assert await proxy.size_in_thread([content[:5], content[5:]] if size else []) == size
        blob = await proxy.file(content)
        assert await blob.read() == content
        assert await (await proxy.file(content)).save(tmp_path / "target") == size
        assert (tmp_path / "target").read_bytes() == content
        assert await (await proxy.echo(content)).read() == content


async def test_small_pieces_of_a_blob_are_kept_in_order(mq: amqproxy.Client, service: str) -> None:
    async with numbers(mq, service) as (_, proxy):
        assert await (await proxy.file(b"ab", 1000)).read() == b"ab" * 1000
        assert await proxy.size(fed([b"x"] * 1000)) == 1000


@pytest.mark.parametrize("encoding", ["zstd-json", "json"])
async def test_the_bytes_of_a_blob_are_in_no_encoding(mq: amqproxy.Client, service: str, encoding: str) -> None:
    async with numbers(mq, service, encoding=encoding) as (_, proxy):
        assert await (await proxy.file(b"\x00\xff")).read() == b"\x00\xff"
        assert await proxy.size(b"\x00\xff") == 2
