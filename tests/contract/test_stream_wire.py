"""Streams and Cancel by docs/wire.md alone: peers that know the page and no more, and some that do not keep to it."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import pytest

import amqproxy
from amqproxy.control import MAX_ABANDONED
from amqproxy.server import Worker
from amqproxy.streaming import FEED_CREDIT
from tests.contract.raw import Message, Raw
from tests.contract.test_streams import nothing_is_left
from tests.patience import until

FAILURE = b"com.github.sstone.amqp.proxy.AmqpProxy$ServerFailure"
CREDIT, CANCEL, ALIVE, CHUNK = b"amqproxy.Credit", b"amqproxy.Cancel", b"amqproxy.Alive", b"amqproxy.Chunk"
LARGEST = 2**31 - 1

DEEP = b"[" * 100_000
NO_CREDITS = [b"", b"-1", b"2147483648", b"9" * 30, b"1.5", b"ten", b"null", b"true", b"[1]", b"\xff", DEEP]
NO_NUMBERS = [-1, "many", "", "-1", 1.5, True, None, [1], {"credit": 1}, b"\xff"]


def short(value: Any) -> str:
    return repr(value)[:20]


class Wired:
    """Notes what began and what ended."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.closed: list[str] = []

    async def ping(self) -> str:
        return "pong"

    async def count(self, to: int) -> AsyncIterator[int]:
        self.begun.append("count")
        try:
            for number in range(to):
                yield number
        finally:
            self.closed.append("count")

    async def stall(self) -> AsyncIterator[int]:
        self.begun.append("stall")
        try:
            yield 0
            await asyncio.Event().wait()
        finally:
            self.closed.append("stall")

    async def wait(self) -> str:
        self.begun.append("wait")
        try:
            await asyncio.Event().wait()
        finally:
            self.closed.append("wait")
        raise AssertionError

    async def total(self, numbers: AsyncIterator[int]) -> int:
        self.begun.append("total")
        try:
            return sum([number async for number in numbers])
        finally:
            self.closed.append("total")

    async def hold(self, numbers: AsyncIterator[int]) -> int:
        self.begun.append("hold")
        try:
            await asyncio.Event().wait()
        finally:
            self.closed.append("hold")
        raise AssertionError

    async def chat(self, numbers: AsyncIterator[int]) -> AsyncIterator[int]:
        async for number in numbers:
            yield 2 * number

    async def file(self) -> amqproxy.Blob:
        return amqproxy.Blob(iter([b"a\x00", b"\xff"]))

    async def size(self, data: amqproxy.Blob) -> int:
        return len(await data.read())


@dataclass
class Foreigner:
    """A caller by the page."""

    raw: Raw
    service: str
    served: Wired
    worker: Worker
    answers: dict[bytes, list[Message]] = field(default_factory=dict)

    @property
    def address(self) -> bytes:
        assert self.worker._session is not None
        return self.worker._session.address

    def call(self, id: bytes, method: str, body: bytes = b"{}", **headers: Any) -> None:
        properties: dict[str, Any] = {"headers": {name.replace("_", "-"): value for name, value in headers.items()}}
        kind = f"{self.service}.{method}".encode()
        self.raw.publish(
            self.service, body, content_type=kind, correlation_id=id, reply_to=self.raw.reply_to, **properties
        )

    def post(self, id: bytes, kind: bytes, body: bytes = b"", *, to: bytes | None = None, **properties: Any) -> None:
        """Something for the worker that runs the call."""
        properties = {"reply_to": self.raw.reply_to, "correlation_id": id, "content_type": kind, **properties}
        self.raw.publish((to or self.address).decode(), body, **properties)

    def item(self, id: bytes, body: bytes, **headers: Any) -> None:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self.post(id, f"{self.service}.item".encode(), body, headers=named)

    def cancel(self, id: bytes, **properties: Any) -> None:
        """To all workers of the pool."""
        properties = {"reply_to": self.raw.reply_to, "correlation_id": id, "content_type": CANCEL, **properties}
        self.raw.publish("", b"", exchange=f"amqproxy.{self.service}", **properties)

    async def next(self, *, alive: bool = False) -> Message:
        """What comes next, signs of life apart."""
        while True:
            message = await self.raw.next_message()
            if alive or message.properties.content_type != ALIVE:
                return message

    async def failure(self) -> dict[str, Any]:
        """The failure that ends the call, behind the items that were on their way."""
        while (message := await self.next()).properties.content_type != FAILURE:
            pass
        error: dict[str, Any] = json.loads(message.body)["error"]
        return error

    async def silence(self) -> None:
        """All that was sent has been taken, and nothing has come but signs of life."""
        for number in range(3):
            id = b"silence %d" % number
            self.call(id, "ping")
            message = await self.next()
            assert (message.properties.correlation_id, message.body) == (id, b'"pong"')


def part(message: Message) -> tuple[dict[str, Any], Any]:
    """The headers and the body of one message of a stream."""
    return dict(message.properties.headers or {}), json.loads(message.body or b"null")


@asynccontextmanager
async def foreigner(mq: amqproxy.Client, raw: Raw, service: str, **options: Any) -> AsyncIterator[Foreigner]:
    """A worker, and somebody who calls it; it loses neither its channels nor anything else by what comes."""
    served = Wired()
    async with mq.serve(served, name=service, auto_delete=True, **options) as worker:
        peer, session = Foreigner(raw, service, served, worker), worker._session
        yield peer
        await nothing_is_left(mq, worker)
        assert await mq.proxy(Wired, name=service).ping() == "pong"
        assert worker._session is session


# A foreign caller that keeps to the page


async def test_the_example_of_the_page(mq: amqproxy.Client, raw: Raw, service: str) -> None:
    async with foreigner(mq, raw, service) as peer:
        peer.call(b"17", "count", b'{"to": 5}', x_stream_credit=4, x_batch=2)
        first, second = await peer.next(), await peer.next()
        assert [part(first), part(second)] == [
            ({"x-seq": 0, "x-batch": 2}, [0, 1]),
            ({"x-seq": 2, "x-batch": 2}, [2, 3]),
        ]
        for message in (first, second):
            assert message.properties.content_type == f"{service}.count.Reply".encode()
            assert message.properties.content_encoding == b"json"
            assert message.properties.correlation_id == b"17"
            assert message.properties.reply_to == peer.address
            assert message.properties.delivery_mode == 1
        peer.post(b"17", CREDIT, b"2")
        third, last = await peer.next(), await peer.next()
        assert [part(third), part(last)] == [({"x-seq": 4}, 4), ({"x-seq": 5, "x-end": True}, None)]
        assert last.body == b""
        await peer.silence()


async def test_without_x_batch_each_item_travels_alone(mq: amqproxy.Client, raw: Raw, service: str) -> None:
    async with foreigner(mq, raw, service) as peer:
        for id, headers in ((b"1", {}), (b"2", {"x_batch": 1}), (b"3", {"x_batch": 0}), (b"4", {"x_batch": "1"})):
            peer.call(id, "count", b"[3]", x_stream_credit="10" if id == b"4" else 10, **headers)
            found = [part(await peer.next()) for _ in range(4)]
            assert found == [*(({"x-seq": n}, n) for n in range(3)), ({"x-seq": 3, "x-end": True}, None)]


async def test_without_credit_the_reply_is_an_array(mq: amqproxy.Client, raw: Raw, service: str) -> None:
    async with foreigner(mq, raw, service) as peer:
        peer.call(b"1", "count", b"[3]")
        message = await peer.next()
        assert (message.body, message.properties.headers) == (b"[0,1,2]", None)
        peer.call(b"2", "file")
        message = await peer.next()
        assert (message.body, message.properties.content_type) == (b"a\x00\xff", CHUNK)
        assert message.properties.content_encoding is None
        await peer.silence()


async def test_with_a_credit_of_0_the_worker_tells_its_address_at_once(
    mq: amqproxy.Client, raw: Raw, service: str
) -> None:
    async with foreigner(mq, raw, service) as peer:
        began = time.monotonic()
        peer.call(b"1", "count", b"[2]", x_stream_credit=0)
        message = await peer.next(alive=True)
        assert time.monotonic() - began < 0.4
        assert (message.properties.content_type, message.properties.reply_to) == (ALIVE, peer.address)
        assert message.body in (b"", b"{}")
        assert peer.served.begun == []
        peer.post(b"1", CREDIT, b"0")
        await peer.silence()
        peer.post(b"1", CREDIT, b"1")
        assert part(await peer.next()) == ({"x-seq": 0}, 0)
        peer.post(b"1", CREDIT, b'"2"', reply_to=None)  # of who does not say who it is, and writes texts
        assert part(await peer.next()) == ({"x-seq": 1}, 1)
        assert part(await peer.next()) == ({"x-seq": 2, "x-end": True}, None)


async def test_a_stream_that_stalls_gives_signs_of_life_twice_a_second(
    mq: amqproxy.Client, raw: Raw, service: str
) -> None:
    async with foreigner(mq, raw, service) as peer:
        peer.call(b"1", "stall", x_stream_credit=10)
        assert part(await peer.next()) == ({"x-seq": 0}, 0)
        began = time.monotonic()
        for _ in range(3):
            message = await peer.next(alive=True)
            assert (message.properties.content_type, message.properties.correlation_id) == (ALIVE, b"1")
        assert 0.9 < time.monotonic() - began < 3
        peer.cancel(b"1")
        await until(lambda: peer.served.closed == ["stall"])


async def test_the_example_of_a_stream_to_the_worker(mq: amqproxy.Client, raw: Raw, service: str) -> None:
    async with foreigner(mq, raw, service) as peer:
        peer.call(b"18", "total", x_feed=True)
        grant = await peer.next()
        assert (grant.properties.content_type, grant.body) == (CREDIT, b"%d" % FEED_CREDIT)
        assert (grant.properties.correlation_id, grant.properties.reply_to) == (b"18", peer.address)
        peer.item(b"18", b"[3,4]", x_seq=0, x_batch=2)
        peer.item(b"18", b"", x_seq=2, x_end=True)
        reply = await peer.next()
        assert (reply.body, reply.properties.content_type) == (b"7", f"{service}.total.Reply".encode())
        peer.call(b"19", "total", x_feed="true")  # in the words of STOMP
        await peer.next()
        peer.item(b"19", b"5", x_seq="0")
        peer.item(b"19", b"", x_end="true", x_seq="1")
        assert (await peer.next()).body == b"5"


async def test_both_ways_and_chunks(mq: amqproxy.Client, raw: Raw, service: str) -> None:
    async with foreigner(mq, raw, service) as peer:
        peer.call(b"1", "chat", x_feed=True, x_stream_credit=100)
        assert (await peer.next()).properties.content_type == CREDIT
        for number in range(3):
            peer.item(b"1", b"%d" % number, x_seq=number)
            assert part(await peer.next()) == ({"x-seq": number}, 2 * number)
        peer.item(b"1", b"", x_seq=3, x_end=True)
        assert part(await peer.next()) == ({"x-seq": 3, "x-end": True}, None)
        peer.call(b"2", "file", x_stream_credit=9, x_batch=9)
        first, second, _ = [await peer.next() for _ in range(3)]
        assert [first.body, second.body] == [b"a\x00", b"\xff"]
        assert first.properties.content_type == CHUNK
        assert first.properties.content_encoding is None
        peer.call(b"3", "size", x_feed=True)
        assert (await peer.next()).properties.content_type == CREDIT
        peer.post(b"3", CHUNK, b"\xff\x00", headers={"x-seq": 0})
        peer.post(b"3", CHUNK, headers={"x-seq": 1, "x-end": True})
        assert (await peer.next()).body == b"2"


async def test_credit_is_given_back_as_the_handler_reads(mq: amqproxy.Client, raw: Raw, service: str) -> None:
    async with foreigner(mq, raw, service) as peer:
        peer.call(b"1", "total", x_feed=True)
        granted, sent = int((await peer.next()).body), 0
        while sent < 5 * FEED_CREDIT:
            for _ in range(granted):
                peer.item(b"1", b"1", x_seq=sent)
                sent += 1
            granted = int((await peer.next()).body)
            assert 0 < granted <= FEED_CREDIT
        peer.item(b"1", b"", x_seq=sent, x_end=True)
        while (message := await peer.next()).properties.content_type == CREDIT:
            pass
        assert message.body == b"%d" % sent


# A foreign caller that does not


@pytest.mark.parametrize(
    ("header", "credit"),
    [
        *(("x_stream_credit", credit) for credit in (*NO_NUMBERS, 2**31)),
        *(("x_batch", batch) for batch in NO_NUMBERS),
    ],
    ids=short,
)
async def test_a_header_that_is_no_credit_is_refused_and_the_method_not_run(
    mq: amqproxy.Client, raw: Raw, service: str, credit: Any, header: str
) -> None:
    async with foreigner(mq, raw, service) as peer:
        peer.call(b"1", "count", b"[3]", **{"x_stream_credit": 5, header: credit})
        error = await peer.failure()
        assert (error["code"], error["executed"]) == ("invalid_argument", "no")
        assert peer.served.begun == []
        await peer.silence()


@pytest.mark.parametrize("body", NO_CREDITS, ids=short)
@pytest.mark.parametrize("method", ["stall", "count"])
async def test_a_credit_that_is_none_stops_the_method(
    mq: amqproxy.Client, raw: Raw, service: str, body: bytes, method: str
) -> None:
    async with foreigner(mq, raw, service) as peer:
        peer.call(b"1", method, b"[1000]" if method == "count" else b"[]", x_stream_credit=1)
        assert part(await peer.next()) == ({"x-seq": 0}, 0)
        peer.post(b"1", CREDIT, body)
        error = await peer.failure()
        assert (error["code"], error["executed"]) == ("invalid_argument", "yes")
        assert peer.served.closed == [method]
        await peer.silence()


async def test_credits_do_not_add_up_to_more_than_there_can_be(mq: amqproxy.Client, raw: Raw, service: str) -> None:
    async with foreigner(mq, raw, service) as peer:
        peer.call(b"1", "stall", x_stream_credit=1)
        await peer.next()
        peer.post(b"1", CREDIT, b"%d" % LARGEST)
        await peer.silence()
        peer.post(b"1", CREDIT, b"1")
        assert (await peer.failure())["code"] == "invalid_argument"


async def test_credits_and_items_for_calls_that_do_not_run_are_dropped(
    mq: amqproxy.Client, raw: Raw, service: str
) -> None:
    async with foreigner(mq, raw, service) as peer:
        peer.call(b"1", "wait")
        peer.call(b"2", "stall", x_stream_credit=1)
        await peer.next()
        for id in (b"1", b"9", b"", None):
            for reply_to in (raw.reply_to, b"somebody.else", None):
                peer.post(id, CREDIT, b"5", reply_to=reply_to)  # type: ignore[arg-type]  # which is the point
                peer.post(id, b"x", b"5", reply_to=reply_to, headers={"x-seq": 0})  # type: ignore[arg-type]  # as above
                peer.post(id, b"x", reply_to=reply_to, headers={"x-end": True})  # type: ignore[arg-type]  # as above
        peer.post(b"2", CREDIT, b"-1", reply_to=b"somebody.else")  # of another call with this id
        peer.post(b"2", CREDIT, b"-1", to=peer.address, correlation_id=b"2 ")
        await peer.silence()
        assert peer.served.closed == []
        for id in (b"1", b"2"):
            peer.cancel(id)
        await until(lambda: sorted(peer.served.closed) == ["stall", "wait"])
        peer.post(b"2", CREDIT, b"-1")
        await peer.silence()


async def test_items_for_a_call_that_takes_none_stop_it(mq: amqproxy.Client, raw: Raw, service: str) -> None:
    async with foreigner(mq, raw, service) as peer:
        peer.call(b"1", "stall", x_stream_credit=1)
        await peer.next()
        peer.item(b"1", b"5", x_seq=0)
        assert (await peer.failure())["code"] == "invalid_argument"


@pytest.mark.parametrize("feed", [None, False, "yes", 1])
async def test_a_stream_that_is_not_announced_is_refused(
    mq: amqproxy.Client, raw: Raw, service: str, feed: Any
) -> None:
    async with foreigner(mq, raw, service) as peer:
        peer.call(b"1", "total", **({} if feed is None else {"x_feed": feed}))
        error = await peer.failure()
        assert (error["code"], error["executed"]) == ("invalid_argument", "no")
        assert peer.served.begun == []


async def test_items_that_came_already_or_come_behind_the_end_are_dropped(
    mq: amqproxy.Client, raw: Raw, service: str
) -> None:
    async with foreigner(mq, raw, service) as peer:
        peer.call(b"1", "total", x_feed=True)
        await peer.next()
        peer.item(b"1", b"[1,2]", x_seq=0, x_batch=2)
        peer.item(b"1", b"[1,2]", x_seq=0, x_batch=2)
        peer.item(b"1", b"nonsense", x_seq=1)  # which came, so that nobody reads it again
        peer.item(b"1", b"[2,4]", x_seq=1, x_batch=2)
        peer.item(b"1", b"", x_seq=3, x_batch=0)
        peer.item(b"1", b"", x_seq=3, x_end=True)
        peer.item(b"1", b"", x_seq=3, x_end=True)
        peer.item(b"1", b"8", x_seq=3)
        assert (await peer.next()).body == b"7"
        await peer.silence()


WRONG_ITEMS: list[tuple[str, bytes, dict[str, Any]]] = [
    ("a gap", b"1", {"x_seq": 1}),
    ("an early end", b"", {"x_seq": 1, "x_end": True}),
    ("too many", b"[" + b",".join([b"1"] * (FEED_CREDIT + 1)) + b"]", {"x_seq": 0, "x_batch": FEED_CREDIT + 1}),
    ("far too many", b"[1]", {"x_seq": 0, "x_batch": 2**62}),
    ("a batch that lies", b"[1,2,3]", {"x_seq": 0, "x_batch": 2}),
    ("one that is many", b"[1,2]", {"x_seq": 0}),
    ("another type", b'"one"', {"x_seq": 0}),
    ("nothing", b"", {"x_seq": 0}),
    ("no JSON", b"\xff\xfe", {"x_seq": 0}),
    ("deep", DEEP, {"x_seq": 0, "x_batch": 2}),
    ("a negative number", b"1", {"x_seq": -1}),
    ("a number that is none", b"1", {"x_seq": "first"}),
    ("a number that is half", b"1", {"x_seq": 0.5}),
    ("a batch that is none", b"1", {"x_seq": 0, "x_batch": "some"}),
]


@pytest.mark.parametrize(
    ("body", "headers"), [(b, h) for _, b, h in WRONG_ITEMS], ids=[name for name, _, _ in WRONG_ITEMS]
)
@pytest.mark.parametrize("method", ["total", "hold"])
async def test_items_that_make_no_sense_stop_the_method(
    mq: amqproxy.Client, raw: Raw, service: str, method: str, body: bytes, headers: dict[str, Any]
) -> None:
    async with foreigner(mq, raw, service) as peer:
        peer.call(b"1", method, x_feed=True)
        await peer.next()
        peer.item(b"1", body, **headers)
        error = await peer.failure()
        assert (error["code"], error["executed"]) == ("invalid_argument", "yes")
        assert peer.served.closed == [method]
        await peer.silence()


async def test_garbage_on_the_workers_own_queue_harms_nobody(mq: amqproxy.Client, raw: Raw, service: str) -> None:
    chance = random.Random(5)
    kinds = [CREDIT, CANCEL, ALIVE, CHUNK, FAILURE, b"amqproxy.Ping", b"amqproxy.Describe", b"amqproxy.", b"", None]
    values = [0, -1, 2**40, "x", "5", True, 1.5, None, [1, [2]], {"a": {"b": 1}}, b"\xff", b"x" * 300]
    names = ["x-seq", "x-end", "x-batch", "x-timeout-ms", "x-stream-credit", "x-heartbeat-ms", "x-feed", "other"]
    bodies = [b"", b"1", b"-1", b"[1,2]", b"{}", b"\xff", b"null", DEEP]
    async with foreigner(mq, raw, service) as peer:
        peer.call(b"1", "stall", x_stream_credit=1)
        await peer.next()
        for _ in range(500):
            headers = {name: chance.choice(values) for name in chance.sample(names, chance.randrange(4))}
            properties = {
                "content_type": chance.choice([*kinds, f"{service}.ping".encode(), f"{service}.count".encode()]),
                "content_encoding": chance.choice([None, b"json", b"thrift", b"zstd-json", b"\xff", b""]),
                "correlation_id": chance.choice([None, b"", b"2", b"\xff" * 255]),
                "reply_to": chance.choice([None, b"", b"nobody", b"\xff"]),
                "message_id": chance.choice([None, b"", b"m"]),
                "headers": chance.choice([None, headers, headers]),
            }
            exchange, key = chance.choice([(f"amqproxy.{service}", ""), ("", peer.address.decode()), ("", service)])
            raw.publish(key, chance.choice(bodies), exchange=exchange, **properties)
        await peer.silence()
        assert peer.served.closed.count("stall") == 0
        peer.cancel(b"1")
        await until(lambda: "stall" in peer.served.closed)
        for call in list(peer.worker.running):  # of somebody without a queue, say, who waits for ever
            peer.worker.running[call].cancel()


# Cancel


async def test_a_running_call_is_stopped_and_not_answered(mq: amqproxy.Client, raw: Raw, service: str) -> None:
    async with foreigner(mq, raw, service) as peer:
        for method, properties in (("wait", {}), ("stall", {"reply_to": None}), ("wait", {"reply_to": None})):
            peer.call(b"1", method, x_stream_credit=5)
            await until(lambda: len(peer.served.begun) > len(peer.served.closed))
            peer.cancel(b"1", **properties)
            await until(lambda: len(peer.served.begun) == len(peer.served.closed), within=1)
            while not raw.messages.empty():
                assert raw.messages.get_nowait().properties.content_type != FAILURE
            await peer.silence()


async def test_to_the_workers_address_it_does_the_same(mq: amqproxy.Client, raw: Raw, service: str) -> None:
    async with foreigner(mq, raw, service) as peer:
        peer.call(b"1", "wait")
        await until(lambda: peer.served.begun == ["wait"])
        peer.post(b"1", CANCEL)
        await until(lambda: peer.served.closed == ["wait"], within=1)
        await peer.silence()


async def test_a_cancel_that_is_ahead_of_its_request_stops_it_before_it_runs(
    mq: amqproxy.Client, raw: Raw, service: str
) -> None:
    async with foreigner(mq, raw, service) as peer:
        for id, properties in ((b"1", {}), (b"2", {"reply_to": None}), (b"3", {"headers": {"x-timeout-ms": "60000"}})):
            peer.cancel(id, **properties)
            await until(lambda: len(peer.worker.abandoned.until) == 1)
            peer.call(id, "wait")
            await peer.silence()
            assert not peer.worker.abandoned.until
        assert peer.served.begun == []


async def test_a_request_and_its_cancel_in_one_breath(mq: amqproxy.Client, raw: Raw, service: str) -> None:
    async with foreigner(mq, raw, service, concurrency=2) as peer:
        for number in range(20):
            id = b"%d" % number
            for method in ("wait", "count", "total"):
                peer.call(id + method.encode(), method, b"[5]" if method == "count" else b"[]", x_feed=True)
                peer.cancel(id + method.encode())
        raw.opened.lane.flush()
        await until(lambda: not peer.worker.running)
        await nothing_is_left(mq, peer.worker)
        peer.call(b"the last", "ping")
        while (await peer.next()).properties.correlation_id != b"the last":
            pass


async def test_a_queued_call_is_never_started(mq: amqproxy.Client, raw: Raw, service: str) -> None:
    async with foreigner(mq, raw, service, concurrency=1) as peer:
        peer.call(b"1", "wait")
        await until(lambda: peer.served.begun == ["wait"])
        peer.call(b"2", "stall", x_stream_credit=5)
        peer.call(b"3", "ping")
        peer.cancel(b"2")
        await until(lambda: peer.worker.abandoned.until)
        peer.cancel(b"1")
        assert (await peer.next()).properties.correlation_id == b"3"
        await peer.silence()
        assert peer.served.begun == ["wait"]


async def test_somebody_elses_call_of_the_same_id_runs_on(mq: amqproxy.Client, raw: Raw, service: str) -> None:
    async with foreigner(mq, raw, service) as peer:
        peer.call(b"1", "wait")
        await until(lambda: peer.served.begun == ["wait"])
        peer.cancel(b"1", reply_to=b"somebody.else")
        peer.cancel(b"")
        peer.cancel(b"", correlation_id=None)
        peer.cancel(b"", correlation_id=None, reply_to=None)
        await peer.silence()
        assert peer.served.closed == []
        peer.cancel(b"1")
        await until(lambda: peer.served.closed == ["wait"])


async def test_a_second_cancel_does_not_cut_short_what_the_first_began(
    mq: amqproxy.Client, raw: Raw, service: str
) -> None:
    class Tidy:
        async def wait(self) -> AsyncIterator[int]:
            try:
                yield 1
                await asyncio.Event().wait()
            finally:
                tidying.set()
                await go_on.wait()
                done.set()

    tidying, go_on, done = asyncio.Event(), asyncio.Event(), asyncio.Event()
    async with mq.serve(Tidy(), name=service, auto_delete=True) as worker:
        peer = Foreigner(raw, service, Wired(), worker)
        peer.call(b"1", "wait", x_stream_credit=5)
        await peer.next()
        peer.cancel(b"1")
        await tidying.wait()
        for _ in range(3):
            peer.cancel(b"1")
            peer.post(b"1", CANCEL)
            peer.post(b"1", CREDIT, b"-1")
        peer.post(b"2", b"amqproxy.Ping")
        while (await peer.next()).properties.correlation_id != b"2":  # by when it has read all of that
            pass
        assert not done.is_set()
        go_on.set()
        await asyncio.wait_for(done.wait(), 5)
        await nothing_is_left(mq, worker)


async def test_what_is_remembered_is_bounded_and_costs_little(mq: amqproxy.Client, raw: Raw, service: str) -> None:
    async with foreigner(mq, raw, service) as peer:
        peer.call(b"1", "wait")
        began = time.monotonic()
        for number in range(2 * MAX_ABANDONED):
            peer.cancel(b"unknown %d" % number, headers={"x-timeout-ms": 3000})
            if number % 1000 == 0:
                await asyncio.sleep(0)
        await until(
            lambda: (raw.reply_to, b"unknown %d" % (2 * MAX_ABANDONED - 1)) in peer.worker.abandoned.until, within=30
        )
        assert time.monotonic() - began < 15  # one second, on an idle machine
        assert len(peer.worker.abandoned.until) == MAX_ABANDONED
        await peer.silence()
        assert peer.served.closed == []
        peer.cancel(b"1")
        await until(lambda: not peer.worker.abandoned.until, within=10)  # when their time is over


async def test_when_its_time_is_over_a_cancel_means_nothing(mq: amqproxy.Client, raw: Raw, service: str) -> None:
    async with foreigner(mq, raw, service) as peer:
        peer.cancel(b"1", headers={"x-timeout-ms": 50})
        await until(lambda: peer.worker.abandoned.until)
        await asyncio.sleep(0.1)
        peer.call(b"1", "ping")
        assert (await peer.next()).body == b'"pong"'


async def test_a_cancel_for_a_call_that_has_ended_changes_nothing(mq: amqproxy.Client, raw: Raw, service: str) -> None:
    async with foreigner(mq, raw, service) as peer:
        peer.call(b"1", "ping")
        assert (await peer.next()).body == b'"pong"'
        peer.cancel(b"1", headers={"x-timeout-ms": 50})
        peer.cancel(b"1", headers={"x-timeout-ms": 50})
        await peer.silence()
        await until(lambda: not peer.worker.abandoned.until)


# A foreign worker


@dataclass
class ForeignWorker:
    """A worker by the page: the pool's queue, and what comes to all, on one connection."""

    raw: Raw
    service: str

    async def request(self) -> Message:
        return await self.raw.next_message()

    def answer(self, request: Message, body: bytes, *, address: bytes | None = b"", **changes: Any) -> None:
        """A message on the request's id; `address` is where the caller shall send to, None if the worker has none."""
        headers = {name.replace("_", "-"): value for name, value in changes.pop("headers", {}).items()}
        properties: dict[str, Any] = {
            "content_type": (request.properties.content_type or b"") + b".Reply",
            "content_encoding": b"json",
            "correlation_id": request.properties.correlation_id,
            "reply_to": self.raw.reply_to if address == b"" else address,
            "headers": headers or None,
        }
        assert request.properties.reply_to is not None
        self.raw.publish(request.properties.reply_to.decode(), body, **{**properties, **changes})

    def item(self, request: Message, body: bytes, **headers: Any) -> None:
        self.answer(request, body, headers=headers)

    async def told(self, kind: bytes) -> Message:
        """The next message of a kind; looks that only ask whether we are there are passed over."""
        while True:
            message = await self.raw.next_message()
            if message.properties.content_type == kind and message.body != b"0":
                return message


@asynccontextmanager
async def foreign_worker(
    mq: amqproxy.Client, raw: Raw, service: str, **options: Any
) -> AsyncIterator[tuple[ForeignWorker, Any]]:
    """Somebody who serves, and our caller; that has no call left at the end, and the line that it had."""
    await raw.joins(service)
    worker, proxy = ForeignWorker(raw, service), mq.proxy(Wired, name=service, **{"credit": 4, "batch": 2, **options})
    called: Any = proxy
    pinging = asyncio.ensure_future(called.ping())
    worker.answer(await worker.request(), b'"pong"')
    assert await pinging == "pong"
    line = called.ping.line
    yield worker, called
    assert not line.conversations and not line.calls._pending
    pinging = asyncio.ensure_future(called.ping())
    worker.answer(await worker.told(f"{service}.ping".encode()), b'"pong"')
    assert await pinging == "pong"
    assert called.ping.line is line


async def test_our_caller_asks_and_grants_as_the_page_says(mq: amqproxy.Client, raw: Raw, service: str) -> None:
    async with foreign_worker(mq, raw, service) as (worker, proxy):
        reading = asyncio.ensure_future(collect(proxy.count(5)))
        request = await worker.request()
        assert request.properties.content_type == f"{service}.count".encode()
        assert (request.properties.headers or {}).items() >= {"x-stream-credit": 4, "x-batch": 2}.items()
        assert "x-timeout-ms" not in (request.properties.headers or {})
        assert request.properties.expiration == b"30000"
        worker.item(request, b"[0,1]", x_seq=0, x_batch=2)
        worker.item(request, b"[2,3]", x_seq=2, x_batch=2)
        for _ in range(2):
            credit = await worker.told(CREDIT)
            assert (credit.body, credit.properties.correlation_id) == (b"2", request.properties.correlation_id)
            assert credit.properties.reply_to == request.properties.reply_to
            assert credit.properties.delivery_mode == 1
        worker.item(request, b"4", x_seq=4)
        worker.item(request, b"", x_seq=5, x_end=True)
        assert await reading == [0, 1, 2, 3, 4]


async def collect(stream: Any) -> list[Any]:
    return [item async for item in stream]


def item(body: bytes, seq: Any, **headers: Any) -> tuple[bytes, dict[str, Any]]:
    return body, {"x_seq": seq, **headers}


def end(seq: Any) -> tuple[bytes, dict[str, Any]]:
    return b"", {"x_seq": seq, "x_end": True}


ODD_STREAMS: dict[str, tuple[int, list[tuple[bytes, dict[str, Any]]]]] = {
    "whole": (3, [(b"[0,1,2]", {})]),
    "an empty array": (0, [(b"[]", {})]),
    "items twice": (2, [item(b"[0,1]", 0, x_batch=2), item(b"[0,1]", 0, x_batch=2), end(2)]),
    "items that overlap": (3, [item(b"[0,1]", 0, x_batch=2), item(b"[1,2]", 1, x_batch=2), end(3)]),
    "texts": (1, [item(b"0", "0"), item(b"", "1", x_end="true")]),
    "an end without a number": (1, [item(b"0", 0), (b"", {"x_end": True})]),
    "an end that says less": (2, [item(b"[0,1]", 0, x_batch=2), end(1)]),
    "only an end": (0, [end(0)]),
    "two ends": (0, [end(0), end(0)]),
    "items behind the end": (1, [item(b"0", 0), end(1), item(b"1", 1)]),
    "messages without items": (1, [item(b"", 0, x_batch=0), item(b"0", 0), end(1)]),
}


@pytest.mark.parametrize("name", ODD_STREAMS)
async def test_our_caller_makes_sense_of_what_has_some(mq: amqproxy.Client, raw: Raw, service: str, name: str) -> None:
    async with foreign_worker(mq, raw, service) as (worker, proxy):
        reading = asyncio.ensure_future(collect(proxy.count(5)))
        request = await worker.request()
        items, messages = ODD_STREAMS[name]
        for body, headers in messages:
            worker.item(request, body, **headers)
        assert await asyncio.wait_for(reading, 5) == list(range(items))


async def test_a_worker_without_an_address_may_stream_within_the_credit(
    mq: amqproxy.Client, raw: Raw, service: str
) -> None:
    async with foreign_worker(mq, raw, service) as (worker, proxy):
        reading = asyncio.ensure_future(collect(proxy.count(5)))
        request = await worker.request()
        for number in range(4):
            worker.answer(request, b"%d" % number, address=None, headers={"x_seq": number})
        worker.answer(request, b"", address=None, headers={"x_seq": 4, "x_end": True})
        assert await asyncio.wait_for(reading, 5) == [0, 1, 2, 3]


WRONG_STREAMS: list[tuple[str, bytes, dict[str, Any]]] = [
    ("a gap", b"1", {"x_seq": 3}),
    ("an early end", b"", {"x_seq": 3, "x_end": True}),
    ("too many", b"[1,2,3,4,5]", {"x_seq": 2, "x_batch": 5}),
    ("far too many", b"[1]", {"x_seq": 2, "x_batch": 2**62}),
    ("a batch that lies", b"[1,2,3]", {"x_seq": 2, "x_batch": 2}),
    ("one that is many", b"[1,2]", {"x_seq": 2}),
    ("another type", b'"one"', {"x_seq": 2}),
    ("nothing", b"", {"x_seq": 2}),
    ("no JSON", b"\xff\xfe", {"x_seq": 2}),
    ("deep", DEEP, {"x_seq": 2, "x_batch": 2}),
    ("a negative number", b"1", {"x_seq": -1}),
    ("a number that is none", b"1", {"x_seq": "first"}),
    ("a batch that is none", b"1", {"x_seq": 2, "x_batch": "some"}),
    ("a value that is no array", b"5", {}),
]


@pytest.mark.parametrize(
    ("body", "headers"), [(b, h) for _, b, h in WRONG_STREAMS], ids=[name for name, _, _ in WRONG_STREAMS]
)
async def test_our_caller_gives_up_what_makes_none_and_says_so(
    mq: amqproxy.Client, raw: Raw, service: str, body: bytes, headers: dict[str, Any]
) -> None:
    async with foreign_worker(mq, raw, service) as (worker, proxy):
        stream = proxy.count(5)
        reading = asyncio.ensure_future(anext(stream))
        request = await worker.request()
        worker.item(request, b"[0,1]", x_seq=0, x_batch=2)
        assert [await reading, await anext(stream)] == [0, 1]
        worker.item(request, body, **headers)
        with pytest.raises(amqproxy.BadReply, match=r"count: ") as caught:
            await asyncio.wait_for(anext(stream), 5)
        assert caught.value.executed == "yes"
        cancel = await worker.told(CANCEL)
        assert cancel.properties.correlation_id == request.properties.correlation_id
        assert cancel.properties.reply_to == request.properties.reply_to


async def test_a_failure_ends_a_stream_behind_its_items(mq: amqproxy.Client, raw: Raw, service: str) -> None:
    async with foreign_worker(mq, raw, service) as (worker, proxy):
        stream = proxy.count(5)
        reading = asyncio.ensure_future(anext(stream))
        request = await worker.request()
        worker.item(request, b"[0,1]", x_seq=0, x_batch=2)
        body = b'{"message": "no more", "throwableAsString": "java.lang.IllegalStateException: no more"}'
        worker.answer(request, body, content_type=FAILURE, address=None)
        worker.item(request, b"2", x_seq=2)
        assert [await reading, await anext(stream)] == [0, 1]
        with pytest.raises(amqproxy.RemoteError, match="no more"):
            await anext(stream)


async def test_another_worker_in_the_midst_of_a_stream_is_told_to_stop(
    mq: amqproxy.Client, raw: Raw, service: str
) -> None:
    async with foreign_worker(mq, raw, service) as (worker, proxy):
        stream = proxy.count(5)
        reading = asyncio.ensure_future(anext(stream))
        request = await worker.request()
        worker.item(request, b"0", x_seq=0)
        assert await reading == 0
        worker.answer(request, b"0", address=b"amq.another", headers={"x_seq": 0})
        with pytest.raises(amqproxy.WorkerLost, match="in the middle of a stream"):
            await asyncio.wait_for(anext(stream), 5)
        cancel = await worker.told(CANCEL)  # as all workers hear it
        assert cancel.properties.correlation_id == request.properties.correlation_id


async def test_another_worker_may_begin_what_the_first_one_did_not(mq: amqproxy.Client, raw: Raw, service: str) -> None:
    async with foreign_worker(mq, raw, service) as (worker, proxy):
        reading = asyncio.ensure_future(collect(proxy.count(5)))
        request = await worker.request()
        worker.answer(request, b"", content_type=ALIVE, address=b"amq.gone")
        worker.item(request, b"0", x_seq=0)
        worker.item(request, b"", x_seq=1, x_end=True)
        assert await asyncio.wait_for(reading, 5) == [0]


@pytest.mark.parametrize("kind", [ALIVE, CREDIT])
async def test_a_worker_that_goes_on_with_a_call_that_is_over_is_told_again(
    mq: amqproxy.Client, raw: Raw, service: str, kind: bytes
) -> None:
    async with foreign_worker(mq, raw, service) as (worker, proxy):
        stream = proxy.count(5)
        reading = asyncio.ensure_future(anext(stream))
        request = await worker.request()
        worker.item(request, b"0", x_seq=0)
        assert await reading == 0
        await stream.aclose()
        for _ in range(3):
            cancel = await worker.told(CANCEL)
            assert cancel.properties.correlation_id == request.properties.correlation_id
            worker.answer(request, b"7" if kind == CREDIT else b"", content_type=kind)
        await worker.told(CANCEL)
        worker.item(request, b"1", x_seq=1)  # but items may be late by nobody's fault
        worker.answer(request, b"", address=None, content_type=kind)
        with suppress(TimeoutError):
            async with asyncio.timeout(0.2):
                await worker.told(CANCEL)
                raise AssertionError("told for nothing")


async def test_our_caller_feeds_as_the_page_says(mq: amqproxy.Client, raw: Raw, service: str) -> None:
    async with foreign_worker(mq, raw, service) as (worker, proxy):
        call = asyncio.ensure_future(proxy.total(range(5)))
        request = await worker.request()
        assert (request.properties.headers or {}).get("x-feed") is True
        worker.answer(request, b"3", content_type=CREDIT)
        messages = [await worker.request(), await worker.request()]
        assert [part(message) for message in messages] == [({"x-seq": 0, "x-batch": 2}, [0, 1]), ({"x-seq": 2}, 2)]
        assert messages[0].properties.correlation_id == request.properties.correlation_id
        assert messages[0].properties.reply_to == request.properties.reply_to
        worker.answer(request, b"9", content_type=CREDIT)
        assert part(await worker.request()) == ({"x-seq": 3, "x-batch": 2}, [3, 4])
        assert part(await worker.request()) == ({"x-seq": 5, "x-end": True}, None)
        worker.answer(request, b"10")
        assert await call == 10


@pytest.mark.parametrize("body", NO_CREDITS, ids=short)
async def test_a_credit_that_is_none_ends_the_feeding(mq: amqproxy.Client, raw: Raw, service: str, body: bytes) -> None:
    async with foreign_worker(mq, raw, service) as (worker, proxy):
        closed = asyncio.Event()

        async def feed() -> AsyncIterator[int]:
            try:
                yield 1
                await asyncio.Event().wait()
            finally:
                closed.set()

        call = asyncio.ensure_future(proxy.total(feed()))
        request = await worker.request()
        worker.answer(request, b"3", content_type=CREDIT)
        assert part(await worker.request()) == ({"x-seq": 0}, 1)
        worker.answer(request, body, content_type=CREDIT)
        with pytest.raises(amqproxy.BadReply, match=r"total: the reply makes no sense: .*credit") as caught:
            await asyncio.wait_for(call, 5)
        assert caught.value.executed == "maybe"  # which was not the last word
        await worker.told(CANCEL)
        assert closed.is_set()


@pytest.mark.parametrize("body", [b'"ten"', b"", b"\xff", b"[1]", DEEP], ids=short)
async def test_a_reply_to_a_call_that_feeds_must_fit(mq: amqproxy.Client, raw: Raw, service: str, body: bytes) -> None:
    async with foreign_worker(mq, raw, service) as (worker, proxy):
        call = asyncio.ensure_future(proxy.total([1]))
        worker.answer(await worker.request(), body)
        with pytest.raises(amqproxy.BadReply, match="does not fit"):
            await asyncio.wait_for(call, 5)
        call = asyncio.ensure_future(proxy.total([1]))
        worker.item(await worker.request(), b"1", x_seq=0)
        with pytest.raises(amqproxy.BadReply, match="a part of a stream came where one value was asked for"):
            await asyncio.wait_for(call, 5)


async def test_what_is_returned_of_a_worker_that_is_gone_is_no_surprise(
    mq: amqproxy.Client, raw: Raw, service: str
) -> None:
    async with foreign_worker(mq, raw, service) as (worker, proxy):
        stream = proxy.count(50)
        reading = asyncio.ensure_future(anext(stream))
        request = await worker.request()
        worker.answer(request, b"[0,1]", address=b"amq.gone", headers={"x_seq": 0, "x_batch": 2})
        assert [await reading, await anext(stream)] == [0, 1]  # and the credit for them comes back
        with pytest.raises(amqproxy.WorkerLost, match=r"count: the worker is gone .* received: 2, sent: 0"):
            await asyncio.wait_for(anext(stream), 5)
        cancel = await worker.told(CANCEL)
        assert cancel.properties.correlation_id == request.properties.correlation_id
