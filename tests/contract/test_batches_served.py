"""Calls that share messages, in the worker: each runs by itself, and no more run at once than may."""

from __future__ import annotations

import asyncio
import contextvars
import json
import logging
import random
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest

import amqproxy
from amqproxy import control, wire
from amqproxy.codecs.registry import codecs
from tests.contract.raw import Message, Raw
from tests.contract.shop import Serving, Shop, left_in_worker, serving
from tests.contract.test_links import cut
from tests.idl import kinds_pb2 as kinds

FAILURE = b"com.github.sstone.amqp.proxy.AmqpProxy$ServerFailure"
SNAPPY = codecs(1 << 20)["snappy-json"].anything()

seen: contextvars.ContextVar[int] = contextvars.ContextVar("seen", default=0)


@dataclass
class Even:
    number: int

    def __post_init__(self) -> None:
        if self.number % 2:
            raise Odd("odd")


class Odd(Exception):
    def __str__(self) -> str:
        raise KeyError("odd")


class Counting(Shop):
    """Knows how many of its calls run, at most, at once."""

    def __init__(self) -> None:
        super().__init__()
        self.running = self.most = 0
        self.calls: list[Any] = []

    async def work(self, number: int) -> int:
        self.running += 1
        self.most = max(self.most, self.running)
        self.calls.append(number)
        self.entered.release()
        try:
            await asyncio.sleep(0)
            await self.open.wait()
        finally:
            self.running -= 1
            self.left.release()
        return number

    async def about(self, number: int) -> list[Any]:
        before = seen.get()
        seen.set(number)
        call = amqproxy.current()
        await asyncio.sleep(0)
        return [before, call is amqproxy.current(), call.method, call.message_id, call.headers["x-mine"]]

    async def patience(self, number: int) -> float:
        await asyncio.sleep(0.05 * number)
        time_left = amqproxy.current().time_left
        assert time_left is not None
        return time_left

    async def resign(self, number: int) -> int:
        task = asyncio.current_task()
        assert task is not None
        if number == 1:
            task.cancel()
        elif number == 2:
            await asyncio.sleep(0)
        return number

    async def even(self, number: Even) -> int:
        return number.number

    async def large(self, size: int) -> str:
        return "x" * size

    async def lie(self, number: int) -> int:
        return number if number else "none"  # type: ignore[return-value]


@pytest.fixture
async def shop(mq: amqproxy.Client, service: str) -> AsyncIterator[Serving]:
    async with serving(mq, service) as one:
        yield one


@asynccontextmanager
async def counting(mq: amqproxy.Client, service: str, **options: Any) -> AsyncIterator[tuple[Counting, Any]]:
    handler = Counting()
    async with mq.serve(handler, name=service, auto_delete=True, **options) as worker:
        yield handler, worker
        handler.open.set()
        proxy = mq.proxy(service)
        async with asyncio.timeout(10):
            while left_in_worker(worker):
                await proxy.nothing()


def send(raw: Raw, service: str, method: str, body: bytes, *, calls: Any, **properties: Any) -> None:
    given = {
        "content_type": f"{service}.{method}".encode(),
        "correlation_id": b"7",
        "reply_to": raw.reply_to,
        "headers": {"x-batch": calls, **properties.pop("headers", {})},
    }
    raw.publish(service, body, **{**given, **properties})


async def answers(raw: Raw, calls: int) -> dict[int, Any]:
    """By the place of the call: a value, or the code and the text of a failure."""
    found: dict[int, Any] = {}
    while len(found) < calls:
        message = await raw.next_message()
        headers = message.properties.headers or {}
        first, count = headers["x-seq"], headers.get("x-batch", 1)
        assert message.properties.correlation_id == b"7"
        places = range(first, first + count)
        assert not found.keys() & set(places)
        if message.properties.content_type == FAILURE:
            assert count == 1
            found[first] = failure(message)
        else:
            values = json.loads(message.body)
            found |= zip(places, values if count > 1 else [values], strict=True)
    return found


def failure(message: Message) -> tuple[str, str]:
    assert message.properties.content_type == FAILURE
    told = json.loads(message.body)
    return told["error"]["code"], told["message"]


async def refused(raw: Raw) -> tuple[str, str]:
    """What the caller is told of a message as a whole."""
    message = await raw.next_message()
    assert not message.properties.headers
    assert message.properties.correlation_id == b"7"
    return failure(message)


async def waiting(worker: Any, messages: int) -> None:
    """Return when so many messages wait for their turn, with some of their calls or all."""
    async with asyncio.timeout(10):
        while len(worker._session.turns.waiting) != messages:  # noqa: ASYNC110  # there is no event that tells
            await asyncio.sleep(0.001)


# What comes, and what is answered


async def test_answers_that_are_ready_together_share_a_message(shop: Serving, raw: Raw) -> None:
    body = json.dumps([{"x": n, "y": 1} for n in range(50)]).encode()
    send(raw, shop.name, "add", body, calls=50)
    message = await raw.next_message()
    assert message.properties.headers == {"x-seq": 0, "x-batch": 50}
    assert message.properties.content_type == f"{shop.name}.add.Reply".encode()
    assert message.properties.content_encoding == b"json"
    assert json.loads(message.body) == list(range(1, 51))


async def test_arguments_by_position_and_numbers_as_texts(shop: Serving, raw: Raw) -> None:
    send(raw, shop.name, "add", b' [ [1, 2], {"x": 3}, [5] ]', calls="3")
    assert await answers(raw, 3) == {0: 3, 1: 3, 2: 5}


async def test_a_message_that_says_it_holds_one_call_is_one_call(shop: Serving, raw: Raw) -> None:
    send(raw, shop.name, "add", b'{"x":1,"y":2}', calls=1)
    message = await raw.next_message()
    assert (message.body, message.properties.headers) == (b"3", None)


async def test_answers_come_as_they_are_ready(mq: amqproxy.Client, service: str, raw: Raw) -> None:
    async with counting(mq, service) as (handler, _):
        send(raw, service, "work", b"[[0],[1],[2],[3]]", calls=4)
        send(raw, service, "add", b"[[0],[1]]", calls=2)
        assert await answers(raw, 2) == {0: 0, 1: 1}
        handler.open.set()
        assert await answers(raw, 4) == {0: 0, 1: 1, 2: 2, 3: 3}


async def test_one_call_that_fails_leaves_the_others_alone(mq: amqproxy.Client, service: str, raw: Raw) -> None:
    async with counting(mq, service) as _:
        send(raw, service, "divide", b'[[1,2],[1,0],["a",1],{"x":1},[4,2]]', calls=5)
        found = await answers(raw, 5)
        assert (found[0], found[4]) == (0.5, 2)
        assert found[1] == ("unknown", "float division by zero")
        assert found[2][0] == found[3][0] == "invalid_argument"
        assert "Expected `float`, got `str`" in found[2][1]
        send(raw, service, "lie", b"[[1],[0],[2]]", calls=3)
        found = await answers(raw, 3)
        assert (found[0], found[2]) == (1, 2)
        assert found[1][0] == "internal"


@pytest.mark.parametrize(
    ("calls", "body", "says"),
    [
        (2, b"[[1,2]]", "a message that says it has 2 items has others"),
        (2, b"[[1,2],[3,4],[5,6]]", "a message that says it has 2 items has others"),
        (2, b'{"x":1,"y":2}', "array"),
        (2, b"nonsense", "malformed"),
        (2, b"", "truncated"),
        (0, b"[]", "from 1 to 1024 calls, not 0"),
        (1025, b"[" + b",".join([b"[1]"] * 1025) + b"]", "from 1 to 1024 calls, not 1025"),
        (-1, b"[[1]]", "x-batch is a whole number from 0, not '-1'"),
        ("many", b"[[1]]", "x-batch is a whole number from 0, not 'many'"),
        (True, b"[[1]]", "x-batch is a whole number from 0, not 'True'"),
        (None, b"[[1]]", "x-batch is a whole number from 0, not 'None'"),
        ([2], b"[[1],[2]]", "x-batch is a whole number"),
    ],
)
async def test_a_message_that_makes_no_sense_fails_as_a_whole(
    shop: Serving, raw: Raw, calls: Any, body: bytes, says: str
) -> None:
    send(raw, shop.name, "add", body, calls=calls)
    code, text = await refused(raw)
    assert code == "invalid_argument"
    assert says in text
    assert await shop.proxy().add(1, 2) == 3


async def test_what_is_no_batch_though_its_properties_look_like_one(shop: Serving, raw: Raw) -> None:
    properties = {"content_type": f"{shop.name}.add".encode(), "correlation_id": b"7"}
    message = await raw.ask(shop.name, b"[1,2]", **properties, headers={"note": "x-batch"})
    assert message.body == b"3"
    message = await raw.ask(shop.name, b"[1,2]", **properties, headers={"x-batches": 5}, app_id=b"x-batch")
    assert message.body == b"3"


async def test_a_type_that_cannot_be_read_fails_its_call_alone(mq: amqproxy.Client, service: str, raw: Raw) -> None:
    async with counting(mq, service) as _:
        send(raw, service, "even", b'[[{"number":1}],[{"number":2}],[{"number":4}]]', calls=3)
        found = await answers(raw, 3)
        assert found[0][0] == "invalid_argument"
        assert "Odd: (its text cannot be had: KeyError)" in found[0][1]
        assert (found[1], found[2]) == (2, 4)


async def test_a_request_without_reply_to_runs_and_is_answered_by_nothing(
    mq: amqproxy.Client, service: str, raw: Raw, caplog: pytest.LogCaptureFixture
) -> None:
    async with counting(mq, service) as (handler, worker):
        send(raw, service, "work", b'[[1],["a"],[3]]', calls=3, reply_to=None)
        handler.open.set()
        async with asyncio.timeout(10):
            for _ in range(2):
                await handler.entered.acquire()
        send(raw, service, "add", b"[[1],[2]]", calls=2)
        await answers(raw, 2)
        assert sorted(handler.calls) == [1, 3]
        assert worker.answered == 5
    assert [r.message for r in caplog.records if "one-way" in r.message and "got `str`" in r.message]


async def test_streams_and_broadcasts_hold_one_call_each(shop: Serving, raw: Raw) -> None:
    for method in ("count", "upload"):
        send(raw, shop.name, method, b"[[1],[2]]", calls=2)
        code, text = await refused(raw)
        assert code == "unimplemented"
        assert text.startswith(f"Shop.{method}(")
        assert text.endswith("streams, and its calls cannot share a message")
    send(raw, shop.name, "count", b"[3]", calls=2, headers={"x-stream-credit": 10})
    message = await raw.next_message()
    assert json.loads(message.body) == [0, 1], "there it says how many items may share a message"
    raw.publish(
        "",
        b"[[1],[2]]",
        exchange=wire.pool_exchange(shop.name),
        content_type=f"{shop.name}.add".encode(),
        reply_to=raw.reply_to,
        correlation_id=b"8",
        headers={"x-batch": 2},
    )
    while (message := await raw.next_message()).properties.correlation_id != b"8":
        pass
    assert failure(message) == ("unimplemented", "calls that share a message go to one worker, and not to all")


async def test_bodies_in_other_encodings(shop: Serving, raw: Raw) -> None:
    bodies = [kinds.Tree(value=n).SerializeToString() for n in range(3)]
    joined = b"".join(struct.pack(">I", len(body)) + body for body in bodies)
    send(raw, shop.name, "tree", joined, calls=3, content_encoding=b"protobuf")
    message = await raw.next_message()
    assert message.properties.headers == {"x-seq": 0, "x-batch": 3}
    assert message.body == b"".join(b"\0\0\0\x02\x08" + bytes((n,)) for n in (1, 2, 3))
    send(raw, shop.name, "add", SNAPPY.encode([[1, 2], [3, 4]]), calls=2, content_encoding=b"snappy-json")
    message = await raw.next_message()
    assert message.properties.content_encoding == b"snappy-json"
    assert SNAPPY.decode(message.body) == [3, 7]
    send(raw, shop.name, "add", b"[[1,2],[3,4]]", calls=2, content_encoding=b"snappy-json")
    assert (await refused(raw))[0] == "invalid_argument"


async def test_no_more_of_a_body_is_decompressed_than_the_worker_allows(amqp_url: str, service: str, raw: Raw) -> None:
    async with amqproxy.connect(amqp_url, max_decompressed_bytes=1000) as mq, counting(mq, service) as _:
        send(raw, service, "echo", SNAPPY.encode([["x" * 600]] * 2), calls=2, content_encoding=b"snappy-json")
        code, text = await refused(raw)
        assert code == "resource_exhausted"
        assert "1000 bytes, which is max_decompressed_bytes" in text


async def test_large_answers_share_no_message_and_too_large_ones_fail(amqp_url: str, service: str, raw: Raw) -> None:
    async with (
        amqproxy.connect(amqp_url, max_body_bytes=100_000) as mq,
        counting(mq, service) as _,
    ):
        send(raw, service, "large", b"[[40000],[20000],[100],[99998],[99999],[60000],[1]]", calls=7)
        found: dict[int, int | None] = {}
        sizes = []
        while len(found) < 7:
            message = await raw.next_message()
            headers = message.properties.headers or {}
            sizes.append(len(message.body))
            values = [None] if message.properties.content_type == FAILURE else json.loads(message.body)
            for place, value in enumerate(values if isinstance(values, list) else [values], headers["x-seq"]):
                found[place] = value and len(value)
        assert found == {0: 40000, 1: 20000, 2: 100, 3: 99998, 4: None, 5: 60000, 6: 1}
        assert max(sizes) == 100_000
        assert len(sizes) == 4


async def test_answers_that_do_not_compress_are_halved_until_they_fit(amqp_url: str, service: str, raw: Raw) -> None:
    async with amqproxy.connect(amqp_url, max_decompressed_bytes=5000) as mq, counting(mq, service) as _:
        sizes = [[1000], [4000], [100], [5000], [7]]
        send(raw, service, "large", SNAPPY.encode(sizes), calls=5, content_encoding=b"snappy-json")
        found: dict[int, Any] = {}
        while len(found) < 5:
            message = await raw.next_message()
            headers = message.properties.headers or {}
            if message.properties.content_type == FAILURE:
                found[headers["x-seq"]] = failure(message)[0]
                continue
            value = SNAPPY.decode(message.body)
            values = value if headers.get("x-batch", 1) > 1 else [value]
            found |= {place: len(one) for place, one in enumerate(values, headers["x-seq"])}
        assert found == {0: 1000, 1: 4000, 2: 100, 3: "resource_exhausted", 4: 7}


# How they run


async def test_each_call_has_a_context_and_a_call_of_its_own(mq: amqproxy.Client, service: str, raw: Raw) -> None:
    async with counting(mq, service) as _:
        send(raw, service, "about", b"[[1],[2],[3]]", calls=3, message_id=b"id", headers={"x-mine": "yes"})
        assert await answers(raw, 3) == {n: [0, True, "about", f"id/{n}", "yes"] for n in range(3)}
        send(raw, service, "about", b"[[1],[2]]", calls=2, headers={"x-mine": "yes"})
        assert await answers(raw, 2) == {n: [0, True, "about", None, "yes"] for n in range(2)}


async def test_the_time_of_all_counts_from_the_receipt_of_the_message(
    mq: amqproxy.Client, service: str, raw: Raw
) -> None:
    async with counting(mq, service, concurrency=1) as _:
        send(raw, service, "patience", b"[[1],[1],[1]]", calls=3, headers={"x-timeout-ms": 10_000})
        found = await answers(raw, 3)
        assert 9.9 < found[0] < 9.96
        assert found[0] - found[2] >= 0.09


async def test_calls_that_did_not_begin_in_time_never_run(mq: amqproxy.Client, service: str, raw: Raw) -> None:
    async with counting(mq, service, concurrency=2) as (handler, worker):
        send(raw, service, "work", b"[[0],[1],[2],[3]]", calls=4, headers={"x-timeout-ms": 100})
        for _ in range(2):
            await handler.entered.acquire()
        await asyncio.sleep(0.15)
        handler.open.set()
        async with asyncio.timeout(10):
            while left_in_worker(worker):
                await mq.proxy(service).nothing()
        assert handler.calls == [0, 1]


@pytest.mark.parametrize("concurrency", [1, 3, 10])
async def test_no_more_calls_run_at_once_than_may(mq: amqproxy.Client, service: str, concurrency: int) -> None:
    async with counting(mq, service, concurrency=concurrency) as (handler, _):
        handler.open.set()
        proxy = mq.proxy(service)
        everything = [amqproxy.gather(proxy.work(n) for n in range(first, first + 50)) for first in range(0, 200, 50)]
        everything += [proxy.work(n) for n in range(200, 220)]
        found = await asyncio.gather(*everything)
        assert [*found[0], *found[1], *found[2], *found[3], *found[4:]] == list(range(220))
        assert handler.most == concurrency
        assert sorted(handler.calls) == list(range(220))


@pytest.mark.parametrize("concurrency", [1, 4, 100])
async def test_calls_that_wait_and_calls_that_do_not_side_by_side(
    mq: amqproxy.Client, service: str, concurrency: int
) -> None:
    class Mixed(Counting):
        async def step(self, number: int, waits: int) -> list[Any]:
            self.running += 1
            self.most = max(self.most, self.running)
            before = seen.get()
            seen.set(number)
            task = asyncio.current_task()
            try:
                async with asyncio.timeout(10):
                    for _ in range(waits):
                        await asyncio.sleep(0)
            finally:
                self.running -= 1
            return [before, seen.get(), task is asyncio.current_task(), amqproxy.current().message_id is not None]

    handler = Mixed()
    async with mq.serve(handler, name=service, concurrency=concurrency, auto_delete=True) as worker:
        proxy = mq.proxy(service, batch=200)
        for seed in range(5):
            waits = random.Random(seed)
            calls = [proxy.step(n, waits.choice([0, 0, 0, 1, 3])) for n in range(300)]
            found = await asyncio.gather(amqproxy.gather(calls), *(proxy.step(n, 1) for n in range(300, 310)))
            assert [*found[0], *found[1:]] == [[0, n, True, True] for n in range(310)]
        assert 1 <= handler.most <= concurrency
        assert left_in_worker(worker) == []


async def test_a_single_call_waits_for_the_next_free_place_and_not_for_a_batch(
    mq: amqproxy.Client, service: str
) -> None:
    class Steps(Counting):
        def __init__(self) -> None:
            super().__init__()
            self.step = asyncio.Semaphore(0)

        async def work(self, number: int) -> int:
            self.calls.append(number)
            self.entered.release()
            await self.step.acquire()
            return number

    handler = Steps()
    async with mq.serve(handler, name=service, concurrency=2, auto_delete=True) as worker:
        proxy = mq.proxy(service)
        batch = asyncio.create_task(amqproxy.gather(proxy.work(n) for n in range(20)))
        for _ in range(2):
            await handler.entered.acquire()
        single = asyncio.create_task(proxy.work(100))
        await waiting(worker, 2)
        for _ in range(3):
            handler.step.release()
            await handler.entered.acquire()
        assert 100 in handler.calls
        for _ in range(30):
            handler.step.release()
        assert await single == 100
        assert await batch == list(range(20))


async def test_a_worker_that_is_full_of_single_calls_still_begins_batches(mq: amqproxy.Client, service: str) -> None:
    async with counting(mq, service, concurrency=3) as (handler, _):
        proxy = mq.proxy(service)
        singles = [asyncio.create_task(proxy.work(n)) for n in range(2)]
        for _ in range(2):
            await handler.entered.acquire()
        batch = asyncio.create_task(amqproxy.gather(proxy.work(n) for n in range(10, 15)))
        await handler.entered.acquire()
        assert handler.running == 3
        handler.open.set()
        assert await batch == list(range(10, 15))
        assert [await single for single in singles] == [0, 1]
        assert handler.most == 3


async def test_streams_wait_for_their_turn_too(mq: amqproxy.Client, service: str) -> None:
    async with counting(mq, service, concurrency=2) as (handler, worker):
        proxy = mq.proxy(Shop, name=service)
        by_name = mq.proxy(service)
        batch = asyncio.create_task(amqproxy.gather(by_name.work(n) for n in range(5)))
        for _ in range(2):
            await handler.entered.acquire()
        stream = asyncio.create_task(collect(proxy.count(3)))
        await waiting(worker, 2)
        handler.open.set()
        assert await stream == [0, 1, 2]
        assert await batch == list(range(5))


async def test_a_single_call_whose_time_ends_while_it_waits_is_not_begun(
    mq: amqproxy.Client, service: str, raw: Raw
) -> None:
    async with counting(mq, service, concurrency=2) as (handler, worker):
        proxy = mq.proxy(service)
        batch = asyncio.create_task(amqproxy.gather(proxy.work(n) for n in range(4)))
        for _ in range(2):
            await handler.entered.acquire()
        about = {"content_type": f"{service}.work".encode(), "correlation_id": b"8", "reply_to": raw.reply_to}
        raw.publish(service, b"[9]", headers={"x-timeout-ms": 50}, **about)  # type: ignore[arg-type]  # as in `send`
        await waiting(worker, 2)
        await asyncio.sleep(0.06)
        handler.open.set()
        assert await batch == [0, 1, 2, 3]
        await proxy.nothing()
        assert sorted(handler.calls) == [0, 1, 2, 3]


async def test_a_handler_that_cancels_its_own_task_touches_no_other_call(mq: amqproxy.Client, service: str) -> None:
    async with counting(mq, service):
        proxy = mq.proxy(service)
        assert await amqproxy.gather(proxy.resign(number) for number in range(5)) == [*range(5)]


async def collect(items: AsyncIterator[int]) -> list[int]:
    return [item async for item in items]


# Cancelling and stopping


def cancel(raw: Raw, service: str, id: bytes = b"7") -> None:
    raw.publish(
        "",
        b"",
        exchange=wire.pool_exchange(service),
        content_type=wire.CANCEL_CLASS,
        correlation_id=id,
        reply_to=raw.reply_to,
        headers={"x-timeout-ms": 5000},
    )


async def test_cancelling_a_batch_stops_all_of_it(mq: amqproxy.Client, service: str, raw: Raw) -> None:
    async with counting(mq, service, concurrency=2) as (handler, worker):
        send(raw, service, "work", b"[[0],[1],[2],[3]]", calls=4)
        for _ in range(2):
            await handler.entered.acquire()
        cancel(raw, service)
        for _ in range(2):
            await handler.left.acquire()
        send(raw, service, "add", b"[[1],[2]]", calls=2)
        assert await answers(raw, 2) == {0: 1, 1: 2}
        assert handler.calls == [0, 1]
        assert not worker.abandoned.until


async def test_what_waits_for_its_turn_can_be_cancelled(mq: amqproxy.Client, service: str, raw: Raw) -> None:
    async with counting(mq, service, concurrency=3) as (handler, worker):
        send(raw, service, "work", json.dumps([[n] for n in range(8)]).encode(), calls=8)
        for _ in range(3):
            await handler.entered.acquire()
        send(raw, service, "work", b"[[100],[101]]", calls=2, correlation_id=b"batch")
        raw.publish(
            service,
            b"[200]",
            content_type=f"{service}.work".encode(),
            correlation_id=b"single",
            reply_to=raw.reply_to,
        )
        await waiting(worker, 3)
        cancel(raw, service, b"batch")
        cancel(raw, service, b"single")
        await waiting(worker, 1)
        handler.open.set()
        assert await answers(raw, 8) == {n: n for n in range(8)}
        assert handler.calls == list(range(8))


async def test_a_batch_that_was_cancelled_before_it_came_never_runs(shop: Serving, raw: Raw) -> None:
    cancel(raw, shop.name)
    async with asyncio.timeout(10):
        while not shop.worker.abandoned.until:
            await shop.proxy().nothing()
    send(raw, shop.name, "note", b"[[1],[2]]", calls=2)
    raw.publish(shop.name, b"[3]", content_type=f"{shop.name}.note".encode(), reply_to=raw.reply_to)
    assert (await raw.next_message()).body == b"3"
    assert shop.handler.ran == [3]
    assert isinstance(shop.worker.abandoned, control.Abandoned)


async def test_a_stopping_worker_finishes_its_batches(mq: amqproxy.Client, service: str) -> None:
    handler = Counting()
    worker = mq.serve(handler, name=service, concurrency=2, auto_delete=True)
    await worker.start()
    proxy = mq.proxy(service)
    batch = asyncio.create_task(amqproxy.gather(proxy.work(n) for n in range(10)))
    for _ in range(2):
        await handler.entered.acquire()
    stop = asyncio.create_task(worker.stop())
    await asyncio.sleep(0.05)
    assert not stop.done()
    handler.open.set()
    assert await batch == list(range(10))
    await stop
    assert worker.answered == 10


async def test_what_a_worker_does_not_finish_in_its_grace_another_runs(mq: amqproxy.Client, service: str) -> None:
    class Half(Counting):
        async def work(self, number: int) -> int:
            self.calls.append(number)
            return number if number % 2 else await super().work(number)

    first, second = Half(), Half()
    worker = mq.serve(first, name=service, grace=0.05)
    await worker.start()
    proxy = mq.proxy(service)
    batch = asyncio.create_task(amqproxy.gather(proxy.work(n) for n in range(6)))
    for _ in range(3):
        await first.entered.acquire()
    second.open.set()
    await worker.stop()
    assert worker.answered == 3
    async with mq.serve(second, name=service) as other:
        assert await batch == list(range(6))
        assert {*second.calls} == set(range(6)), "all of it runs again, and the first answers count"
        assert other.answered == 6
        await (await (await mq._live_connection().link())._channel()).queue_delete(service)


async def test_a_worker_whose_link_breaks_runs_all_of_a_batch_again(amqp_url: str, service: str) -> None:
    handler = Counting()
    async with (
        amqproxy.connect(amqp_url) as mq,
        amqproxy.connect(amqp_url) as server,
        server.serve(handler, name=service, concurrency=3) as worker,
    ):
        proxy = mq.proxy(service)
        before = worker._session
        batch = asyncio.create_task(amqproxy.gather(proxy.work(n) for n in range(5)))
        for _ in range(3):
            await handler.entered.acquire()
        cut(server)
        for _ in range(3):  # besides those of the lost link, which run still, and nobody can answer them
            await handler.entered.acquire()
        assert before is not None
        assert not before.turns.waiting
        handler.open.set()
        assert await batch == list(range(5))
        assert sorted(handler.calls) == [0, 0, 1, 1, 2, 2, 3, 4]
        assert handler.most == 6
        assert not before.turns._batches
        await (await (await mq._live_connection().link())._channel()).queue_delete(service)


async def test_failures_of_a_batch_are_told_at_once_whatever_the_worker_requeues(
    mq: amqproxy.Client, service: str, raw: Raw, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL, "amqproxy.server")
    async with counting(mq, service, requeue_once=True) as (_, worker):
        send(raw, service, "divide", b"[[1,0],[1,2]]", calls=2)
        found = await answers(raw, 2)
        assert (found[0][0], found[1]) == ("unknown", 0.5)
        assert worker.answered == 2
