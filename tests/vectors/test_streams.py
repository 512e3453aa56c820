"""What Java's libraries wrote of streams, broadcasts and the like: read and written here, and played to both sides."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

import amqproxy
from amqproxy.alive import decode_progress, encode_progress, progress_of
from amqproxy.codecs.items import streams_of
from amqproxy.codecs.registry import codecs
from amqproxy.contract import contract_of
from amqproxy.properties import Properties
from amqproxy.wire import (
    ALIVE_CLASS,
    FAILURE_CLASS,
    ItemForm,
    OneWayForm,
    Part,
    calls_of,
    credit_of,
    decode_failure,
    decode_presence,
    encode_failure,
    encode_presence,
    part_of,
    pool_exchange,
)
from tests.contract.raw import Message, Raw
from tests.idl.person_pb2 import Person as ProtobufPerson
from tests.idl.person_thrift.ttypes import Person as ThriftPerson
from tests.vectors.vector import STREAMS, Vector, plain, properties_of

CALLER, WORKER = b"amqproxy.vectors.replies", b"amqproxy.vectors.worker"
"""The queues of the two, which are others when the messages are played."""
CODECS = codecs(1 << 20)


class Numbers:
    """What the vectors call."""

    def __init__(self) -> None:
        self.ended = asyncio.Event()
        self.texts: asyncio.Queue[str] = asyncio.Queue()

    async def count(self, to: int) -> AsyncIterator[int]:
        if to < 0:
            raise ValueError("a negative number")
        try:
            for number in range(to):
                yield number
        finally:
            self.ended.set()

    async def total(self, numbers: AsyncIterator[int]) -> int:
        return sum([number async for number in numbers])

    async def file(self) -> amqproxy.Blob:
        return amqproxy.Blob(bytes(range(256)))

    async def train(self) -> str:
        amqproxy.current().progress(3, 10, "fitting")
        return "trained"

    async def who(self) -> str:
        return "host.4711.1"

    async def write(self, text: str) -> None:
        self.texts.put_nowait(text)

    async def divide(self, x: int, y: int) -> float:
        return x / y

    async def people(self) -> AsyncIterator[ProtobufPerson]:
        yield ProtobufPerson()

    async def structs(self) -> AsyncIterator[ThriftPerson]:
        yield ThriftPerson()


METHODS = contract_of(Numbers).methods
ITEM_METHODS = {"json": "count", "protobuf": "people", "thrift": "structs"}


def of_kind(*kinds: str) -> pytest.MarkDecorator:
    found = [vector for vector in STREAMS.values() if vector.kind in kinds and vector.code is None]
    assert found
    return pytest.mark.parametrize("vector", found, ids=lambda vector: vector.name)


def refused(*kinds: str) -> pytest.MarkDecorator:
    found = [vector for vector in STREAMS.values() if vector.kind in kinds and vector.code is not None]
    assert found
    return pytest.mark.parametrize("vector", found, ids=lambda vector: vector.name)


def items_of(vector: Vector) -> Any:
    """How the items of a vector travel."""
    method = METHODS[
        "file" if vector.message_class == "amqproxy.Chunk" else ITEM_METHODS[vector.encoding[-8:].split("-")[-1]]
    ]
    out, _ = streams_of(CODECS[vector.encoding], method)
    return out


def values(vector: Vector) -> list[Any]:
    """What a message of a stream holds; a chunk means its bytes."""
    return [vector.body] if vector.message_class == "amqproxy.Chunk" else vector.value


# Each by itself


@pytest.mark.parametrize("vector", STREAMS.values(), ids=lambda vector: vector.name)
def test_its_properties_are_read_and_written(vector: Vector) -> None:
    properties = Properties.decode(vector.header)
    assert Properties.decode(properties.encode()) == properties  # small numbers may be written with less bytes
    assert properties_of(vector) == vector.properties


@of_kind("items")
def test_items_are_read_and_written(vector: Vector) -> None:
    items = items_of(vector)
    part = part_of(vector.properties["headers"])
    assert part == Part(vector.properties["headers"]["x-seq"], len(values(vector)), last=False)
    found = items.unpack(vector.body, part.items)
    assert [plain(item) for item in found] == values(vector)
    written = items.pack([items.encode(item) for item in found])
    assert written == vector.body or not vector.exact
    assert [plain(item) for item in items.unpack(written, part.items)] == values(vector)


@of_kind("items", "end")
def test_the_properties_of_items_are_those_that_we_write(vector: Vector) -> None:
    told = Properties.decode(vector.header)
    form = ItemForm(
        told.content_type or b"", told.content_encoding or b"", told.correlation_id or b"", told.reply_to or b""
    )
    part = part_of(told.headers or {})
    assert part is not None
    written = form.end(part.first) if part.last else form.properties(part.first, part.items)
    assert Properties.decode(written) == told
    assert len(written) == len(vector.header)  # numbers of the same width; Java's headers are in no order


@of_kind("credit")
def test_a_credit_is_read(vector: Vector) -> None:
    assert credit_of(vector.body) == vector.value


@refused("credit")
def test_a_credit_that_is_none_is_told(vector: Vector) -> None:
    if vector.name == "refused-credit-too-much":  # which is a number: the stream knows that it is too much
        assert credit_of(vector.body) == 2**31
    else:
        with pytest.raises(ValueError, match="credit"):
            credit_of(vector.body)


@of_kind("alive")
def test_a_progress_is_read_and_written(vector: Vector) -> None:
    progress = progress_of(**{"done": None, **(vector.value or {})})
    assert decode_progress(vector.body) == progress
    assert encode_progress(progress) == (vector.body or b"{}")


@of_kind("failure")
def test_a_failure_is_read_and_written(vector: Vector) -> None:
    error = decode_failure(vector.body)
    assert (error.message, error.type) == (vector.value["message"], vector.value["error"]["type"])
    assert encode_failure(error) == vector.body


@of_kind("one-way")
def test_the_properties_of_one_way_messages_are_those_that_we_write(vector: Vector) -> None:
    told = Properties.decode(vector.header)
    assert told.message_id is not None
    form = OneWayForm(
        content_type="numbers.write",
        encoding="json",
        id_length=len(told.message_id),
        message_id_length=len(told.message_id),
        persistent=vector.properties["delivery-mode"] == 2,
    )
    assert form.properties(told.message_id, told.message_id) == vector.header


@of_kind("pong")
def test_the_answer_to_a_ping_is_read_and_written(vector: Vector) -> None:
    presence = decode_presence(vector.body)
    assert (presence.service, presence.running, presence.answered, presence.busy) == tuple(vector.value.values())
    assert encode_presence(presence) == vector.body


@of_kind("batch")
def test_a_message_with_many_calls_is_read_and_written(vector: Vector) -> None:
    calls = calls_of(vector.properties["headers"])
    assert calls == len(vector.value)


# Played to a worker of ours


class Playing:
    """One side of a conversation: it sends the vectors of its side, and compares what comes with those of the other."""

    def __init__(self, raw: Raw, queue: str) -> None:
        self.raw = raw
        self.queue = queue
        self.peer = b""
        """The other's own queue."""
        self.id: bytes | None = None
        """The other's correlation id, where that is not ours."""

    def send(self, name: str) -> None:
        """Send a message, with the queues and the ids of this day."""
        vector = STREAMS[name]
        told = Properties.decode(vector.header)
        told = replace(told, correlation_id=self.id or told.correlation_id)
        told = replace(told, reply_to=self.raw.reply_to if told.reply_to else None)
        exchange = pool_exchange(self.queue) if vector.exchange else ""
        to_peer = vector.sender == "worker" or vector.kind in ("credit", "cancel", "items", "end")
        key = "" if exchange else self.peer.decode() if to_peer else self.queue
        self.raw.publish_encoded(key, vector.body, told.encode(), exchange=exchange)

    async def take(self) -> Message:
        """What comes next and is no mere sign of life."""
        while True:
            message = await self.raw.next_message()
            self.peer = message.properties.reply_to or self.peer
            if message.properties.content_type != ALIVE_CLASS or message.body not in (b"", b"{}"):
                return message

    async def expect(self, name: str) -> None:
        """What comes next is this, but for the queues and the ids."""
        vector = STREAMS[name]
        message = await self.take()
        assert (name, like_it(message.properties, vector)) == (name, Properties.decode(vector.header))
        assert (name, message.body) == (name, vector.body)


def like_it(properties: Properties, vector: Vector) -> Properties:
    """The properties of a message with the queues, the ids and the name of the vector."""
    told = Properties.decode(vector.header)
    if properties.reply_to is not None:
        properties = replace(properties, reply_to=WORKER if vector.sender == "worker" else CALLER)
    headers = dict(properties.headers or {})
    if "x-worker" in headers:
        headers["x-worker"] = (told.headers or {}).get("x-worker")
    return replace(properties, headers=headers or None, correlation_id=told.correlation_id)


@pytest.fixture
def queue() -> str:
    return f"test.vectors.{secrets.token_hex(6)}"


@pytest.fixture
async def numbers() -> Numbers:
    return Numbers()


@pytest.fixture
async def caller(amqp_url: str, queue: str, numbers: Numbers) -> AsyncIterator[Playing]:
    """Who plays the caller, to a worker of ours."""
    async with amqproxy.connect(amqp_url) as mq, Raw.connected(amqp_url) as raw:
        async with mq.serve(numbers, name="numbers", queue=queue, auto_delete=True):
            yield Playing(raw, queue)
        await raw.opened._channel.exchange_delete(pool_exchange(queue))


async def played(caller: Playing, *names: str) -> None:
    """Send what is the caller's, and expect what is the worker's."""
    for name in names:
        if STREAMS[name].sender == "caller":
            caller.send(name)
        else:
            await caller.expect(name)


CALLS = {
    "stream": (
        "stream-request",
        "stream-items-0-1",
        "stream-items-2-3",
        "stream-credit",
        "stream-item-4",
        "stream-end",
    ),
    "stream-without-credit": ("stream-request-without-credit", "stream-in-one-reply"),
    "failing-stream": ("failing-stream-request", "failing-stream-failure"),
    "feed": ("feed-request", "feed-credit", "feed-items", "feed-end", "feed-reply"),
    "blob": ("blob-request", "blob-chunk", "blob-end"),
    "heartbeat": ("heartbeat-request", "alive-with-progress", "heartbeat-reply"),
    "broadcast": ("broadcast-request", "broadcast-answer"),
    "batch": ("batch-request", "batch-answer-to-the-first", "batch-failure-of-the-second", "batch-answer-to-the-third"),
    "batch-of-two": ("batch-request-of-two", "batch-answers-together"),
}


@pytest.mark.parametrize("call", CALLS)
async def test_a_worker_plays_its_part(call: str, caller: Playing) -> None:
    await played(caller, *CALLS[call])


async def test_a_worker_drops_credit_and_cancels_for_a_call_that_has_ended(caller: Playing) -> None:
    await played(caller, *CALLS["stream"])
    await played(caller, "stream-credit-of-nothing", "stream-credit", "cancel-to-the-worker", "cancel-to-the-pool")
    await played(caller, *CALLS["blob"])


@pytest.mark.parametrize("cancel", ["cancel-to-the-worker", "cancel-to-the-pool"])
async def test_a_worker_is_cancelled(cancel: str, caller: Playing, numbers: Numbers) -> None:
    await played(caller, "stream-request", "stream-items-0-1", "stream-items-2-3", cancel)
    async with asyncio.timeout(10):
        await numbers.ended.wait()
    await played(caller, *CALLS["blob"])


async def test_a_worker_never_begins_what_was_cancelled(caller: Playing, numbers: Numbers) -> None:
    await played(caller, "ping")
    await caller.take()
    await played(caller, "cancel-to-the-pool", "ping")
    await caller.take()  # which came behind the cancellation
    await played(caller, "stream-request", *CALLS["blob"])
    assert not numbers.ended.is_set()


async def test_a_worker_answers_a_ping(caller: Playing) -> None:
    await played(caller, "ping")
    message = await caller.take()
    assert like_it(message.properties, STREAMS["pong"]) == Properties.decode(STREAMS["pong"].header)
    assert message.body == b'{"service":"numbers","running":0,"answered":0,"busy":false}'


@pytest.mark.parametrize("name", ["one-way", "one-way-to-everyone"])
async def test_a_worker_takes_one_way_messages(name: str, caller: Playing, numbers: Numbers) -> None:
    await played(caller, name)
    async with asyncio.timeout(10):
        assert await numbers.texts.get() == STREAMS[name].value["text"]


async def refusal(caller: Playing) -> str:
    """The code of the failure that comes next."""
    message = await caller.take()
    assert message.properties.content_type == FAILURE_CLASS.encode()
    return decode_failure(message.body).code


@refused("request", "batch")
async def test_a_worker_refuses_a_request(vector: Vector, caller: Playing) -> None:
    await played(caller, vector.name)
    assert await refusal(caller) == vector.code
    await played(caller, *CALLS["blob"])


@refused("credit")
async def test_a_worker_ends_a_stream_for_a_credit_that_is_none(
    vector: Vector, caller: Playing, numbers: Numbers
) -> None:
    await played(caller, "stream-request", "stream-items-0-1", "stream-items-2-3", vector.name)
    assert await refusal(caller) == vector.code
    assert numbers.ended.is_set()
    await played(caller, *CALLS["blob"])


@refused("items")
async def test_a_worker_ends_a_call_for_items_that_make_no_sense(vector: Vector, caller: Playing) -> None:
    await played(caller, "feed-request", "feed-credit", vector.name)
    assert await refusal(caller) == vector.code
    await played(caller, *CALLS["blob"])


async def test_a_worker_drops_items_that_come_again(caller: Playing) -> None:
    await played(caller, "feed-request", "feed-credit", "feed-items", "feed-items", "feed-end", "feed-reply")


# Played to a proxy of ours


@asynccontextmanager
async def worker_of(url: str) -> AsyncIterator[tuple[Playing, amqproxy.Client]]:
    """Who plays the worker, with a queue that is the pool's and its own at once."""
    async with Raw.connected(url) as raw, amqproxy.connect(url) as mq:
        channel, exchange = raw.opened._channel, pool_exchange(raw.reply_to.decode())
        await channel.exchange_declare(exchange, exchange_type="fanout", durable=True)
        await channel.queue_bind(raw.reply_to.decode(), exchange=exchange)
        try:
            yield Playing(raw, raw.reply_to.decode()), mq
        finally:
            await channel.exchange_delete(exchange)


def served(worker: Playing) -> type[Numbers]:
    """The contract of the service, in the queue of who plays it."""
    return amqproxy.serve("numbers", queue=worker.queue)(type("Numbers", (Numbers,), {}))


async def request(worker: Playing) -> Message:
    """The request that comes next, whatever it is."""
    message = await worker.take()
    worker.id = message.properties.correlation_id
    return message


async def asked(worker: Playing, name: str) -> None:
    """The request that comes next is this, with all that the vector has; it has an id and a time besides."""
    vector = STREAMS[name]
    message = await request(worker)
    told, expected = message.properties, Properties.decode(vector.header)
    assert (told.content_type, told.content_encoding) == (expected.content_type, expected.content_encoding)
    assert (told.delivery_mode, told.reply_to) == (1, worker.peer)
    assert told.headers == {**(told.headers or {}), **(expected.headers or {}), **time_left(told, expected)}
    assert message.body == vector.body


def time_left(told: Properties, expected: Properties) -> dict[str, Any]:
    """The header that says it, as it is: some of it may be gone by then."""
    left, most = ((each.headers or {}).get("x-timeout-ms") for each in (told, expected))
    assert most is None or most - 1000 < left <= most
    return {} if left is None else {"x-timeout-ms": left}


async def answered(worker: Playing, *names: str) -> None:
    """Send what is the worker's, and expect what is the caller's."""
    for name in names:
        if STREAMS[name].sender == "caller":
            await worker.expect(name)
        else:
            worker.send(name)


async def test_a_proxy_takes_a_stream(amqp_url: str) -> None:
    async with worker_of(amqp_url) as (worker, mq):
        stream = aiter(mq.proxy(served(worker), credit=4, batch=2).count(5))
        first = asyncio.ensure_future(anext(stream))
        await asked(worker, "stream-request")
        await answered(worker, "stream-items-0-1", "stream-items-2-3")
        assert [await first, await anext(stream)] == [0, 1]
        await answered(worker, "stream-credit", "stream-item-4", "stream-end")
        assert [number async for number in stream] == [2, 3, 4]


async def test_a_proxy_takes_no_item_twice(amqp_url: str) -> None:
    async with worker_of(amqp_url) as (worker, mq):
        stream = aiter(mq.proxy(served(worker), credit=100, batch=2).count(5))
        first = asyncio.ensure_future(anext(stream))
        await request(worker)
        repeated = ("stream-items-0-1", "stream-items-0-1", "stream-items-2-3", "stream-items-0-1", "stream-item-4")
        await answered(worker, *repeated, "stream-end", "stream-end")
        assert [await first, *[number async for number in stream]] == [0, 1, 2, 3, 4]


async def test_a_proxy_gives_up_where_items_are_missing(amqp_url: str) -> None:
    async with worker_of(amqp_url) as (worker, mq):
        stream = aiter(mq.proxy(served(worker), credit=100).count(5))
        first = asyncio.ensure_future(anext(stream))
        await request(worker)
        await answered(worker, "stream-items-0-1", "stream-item-4", "cancel-to-the-worker")
        assert [await first, await anext(stream)] == [0, 1]
        with pytest.raises(amqproxy.BadReply, match="item 4 came where 2 was due"):
            await anext(stream)


async def test_a_proxy_gives_up_where_more_comes_than_it_takes(amqp_url: str) -> None:
    async with worker_of(amqp_url) as (worker, mq):
        stream = aiter(mq.proxy(served(worker), credit=1).count(5))
        first = asyncio.ensure_future(anext(stream))
        await request(worker)
        await answered(worker, "stream-items-0-1", "cancel-to-the-worker")
        with pytest.raises(amqproxy.BadReply, match="credit was given for 1"):
            await first


async def test_a_proxy_takes_a_stream_that_comes_in_one_reply(amqp_url: str) -> None:
    async with worker_of(amqp_url) as (worker, mq):
        stream = aiter(mq.proxy(served(worker)).count(5))
        first = asyncio.ensure_future(anext(stream))
        await request(worker)
        await answered(worker, "stream-in-one-reply")
        assert [await first, *[number async for number in stream]] == [0, 1, 2, 3, 4]


async def test_a_proxy_hears_that_a_stream_fails(amqp_url: str) -> None:
    async with worker_of(amqp_url) as (worker, mq):
        first = asyncio.ensure_future(anext(aiter(mq.proxy(served(worker), credit=1).count(-1))))
        await asked(worker, "failing-stream-request")
        await answered(worker, "failing-stream-failure")
        with pytest.raises(ValueError, match="a negative number"):
            await first


async def test_a_proxy_cancels_a_stream_that_has_begun(amqp_url: str) -> None:
    async with worker_of(amqp_url) as (worker, mq):
        async with mq.proxy(served(worker), credit=100).count(5) as stream:  # type: ignore[attr-defined]  # a Stream
            first = asyncio.ensure_future(anext(stream))
            await request(worker)
            await answered(worker, "stream-items-0-1")
            assert await first == 0
        await answered(worker, "cancel-to-the-worker")


async def test_a_proxy_cancels_a_call_that_nobody_has_answered(amqp_url: str) -> None:
    async with worker_of(amqp_url) as (worker, mq):
        call = asyncio.ensure_future(mq.proxy(served(worker)).train())
        await request(worker)
        call.cancel()
        await answered(worker, "cancel-to-the-pool")


async def three_and_four() -> AsyncIterator[int]:
    yield 3
    yield 4


async def test_a_proxy_feeds_a_stream(amqp_url: str) -> None:
    async with worker_of(amqp_url) as (worker, mq):
        call = asyncio.ensure_future(mq.proxy(served(worker)).total(three_and_four()))
        await asked(worker, "feed-request")
        await answered(worker, "feed-credit", "feed-items", "feed-end", "feed-reply")
        assert await call == 7


async def test_a_proxy_takes_a_blob(amqp_url: str) -> None:
    async with worker_of(amqp_url) as (worker, mq):
        call = asyncio.ensure_future(mq.proxy(served(worker)).file())
        await asked(worker, "blob-request")
        await answered(worker, "blob-chunk", "blob-end")
        assert await (await call).read() == bytes(range(256))


async def test_a_proxy_asks_for_signs_of_life(amqp_url: str) -> None:
    async with worker_of(amqp_url) as (worker, mq):
        call = asyncio.ensure_future(mq.proxy(served(worker), heartbeat=1.0, timeout=600).train())
        await asked(worker, "heartbeat-request")
        await answered(worker, "alive", "alive-with-progress", "alive-with-some-progress", "heartbeat-reply")
        assert await call == "trained"


@pytest.mark.parametrize(
    ("name", "meaning"), [("broadcast-answer", "host.4711.1"), ("broadcast-failure", "a negative number")]
)
async def test_a_broadcast_is_answered(name: str, meaning: str, amqp_url: str) -> None:
    async with worker_of(amqp_url) as (worker, mq):
        answers = mq.broadcast(served(worker), expect=1, timeout=5).who()
        first = asyncio.ensure_future(anext(aiter(answers)))
        await asked(worker, "broadcast-request")
        await answered(worker, name)
        answer = await first
        assert answer.worker == "host.4711.1"
        assert (answer.value or getattr(answer.error, "message", None)) == meaning


async def test_a_one_way_message_is_sent(amqp_url: str) -> None:
    async with worker_of(amqp_url) as (worker, mq):
        await mq.sender(served(worker)).write("hello")
        message = await worker.take()
        told = replace(message.properties, message_id=b"fF3kVd9q-0000000001")
        assert (told.encode(), message.body) == (STREAMS["one-way"].header, STREAMS["one-way"].body)


async def test_calls_share_a_message(amqp_url: str) -> None:
    async with worker_of(amqp_url) as (worker, mq):
        calc = mq.proxy(served(worker))
        pairs = ((6, 3), (1, 0), (3, 2))
        calls = asyncio.ensure_future(amqproxy.gather([calc.divide(*pair) for pair in pairs], return_exceptions=True))
        await asked(worker, "batch-request")
        await answered(worker, "batch-answer-to-the-third", "batch-answer-to-the-first", "batch-failure-of-the-second")
        first, second, third = await calls
        assert (first, third) == (2.0, 1.5)
        assert isinstance(second, ZeroDivisionError)
