"""Messages whose headers just fit a frame until the broker or a worker adds to them: they harm themselves at most.

A content header cannot be cut into frames. So the broker sends one that it has added to in a frame over the limit, and
who publishes it anew finds that it does not fit.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

import amqproxy
from amqproxy.deadqueue import everything
from amqproxy.dial import MAX_FRAME_BYTES
from amqproxy.properties import Properties
from amqproxy.testing import RabbitMQNotInstalled, rabbitmq
from tests.conftest import missing
from tests.contract.raw import Raw
from tests.contract.test_dead_letters import dead, drop, eventually, letters, preset, waiting
from tests.patience import until
from tests.processes import running

__all__ = ["preset"]

MOST = 131072 - 20
"""Bytes of properties for which there is room in a frame as the brokers have it unless told otherwise."""


class Till:
    def __init__(self, *, hangs: bool = False) -> None:
        self.fails = True
        self.sold: list[tuple[str, int]] = []
        self.entered = asyncio.Semaphore(0)
        self._open = asyncio.Event()
        if not hangs:
            self._open.set()

    async def sell(self, what: str) -> int:
        """How many headers the request had."""
        self.entered.release()
        await self._open.wait()
        count = len(amqproxy.current().headers)
        self.sold.append((what, count))
        return count

    async def refund(self, what: str) -> None:
        if self.fails:
            raise ValueError(f"no refund of {what}")
        self.sold.append((what, len(amqproxy.current().headers)))

    @amqproxy.method(at_most_once=True)
    async def pay(self, what: str) -> None:
        await self.sell(what)

    @amqproxy.method(at_most_once=True)
    async def lose(self, what: str) -> None:
        raise ValueError(f"lost {what}")


class Echo:
    async def echo(self, text: str) -> str:
        return text


@asynccontextmanager
async def till(
    mq: amqproxy.Client, service: str, *, hangs: bool = False, gone: bool = True, **options: Any
) -> AsyncIterator[Till]:
    target = Till(hangs=hangs)
    try:
        async with mq.serve(target, name=service, **options):
            yield target
    finally:
        if gone:
            await drop(mq, service, f"{service}.dead")


def full(service: str, method: str, **properties: Any) -> bytes:
    """Properties that fill a frame to its last byte."""
    given = {"content_type": f"{service}.{method}".encode(), "delivery_mode": 2, **properties}
    empty = len(Properties(headers={"a": ""}, **given).encode())
    made = Properties(headers={"a": "x" * (MOST - empty)}, **given).encode()
    assert len(made) == MOST
    return made


def growing(service: str, method: str) -> bytes:
    """Properties with a list of 60,000 numbers in two bytes each, which we write in five."""
    array = b"b\x01" * 60_000
    table = b"\x01hA" + len(array).to_bytes(4, "big") + array
    properties = Properties(content_type=f"{service}.{method}".encode(), headers={}).encode()
    return properties.replace(bytes(4), len(table).to_bytes(4, "big") + table, 1)


async def is_well(mq: amqproxy.Client, service: str) -> None:
    """The service answers, more often than it takes requests at once, and holds nothing back."""
    proxy = mq.proxy(Till, name=service, timeout=10)
    for _ in range(5):
        await proxy.sell("bread")
    await eventually(lambda: waiting(mq, service), 0)


async def test_a_delayed_message_is_served_and_its_worker_hears_the_next(amqp_url: str, service: str) -> None:
    """The worker is a process of its own, and so is who sends."""
    async with running("selling.py", amqp_url, service, "serve") as worker:
        await worker.says(f"serving {service}")
        async with running("selling.py", amqp_url, service, "send") as sender:
            assert await sender.ends() == 0, sender.heard
        await worker.says("sold grown with a x-death")
        async with running("selling.py", amqp_url, service, "call") as caller:
            assert await caller.ends() == 0, caller.heard
            assert "answers: sold small" in caller.heard


async def test_a_request_that_a_quorum_queue_gives_again_is_served(mq: amqproxy.Client, raw: Raw, service: str) -> None:
    """RabbitMQ writes x-delivery-count to it."""
    async with till(mq, service, hangs=True, gone=False, quorum=True, grace=0) as first:
        raw.publish_encoded(service, b'["wine"]', full(service, "sell"))
        await asyncio.wait_for(first.entered.acquire(), 10)
    async with till(mq, service, quorum=True) as second:
        await until(lambda: second.sold)
        assert second.sold == [("wine", 2)]
        await is_well(mq, service)


async def test_one_that_fails_goes_to_the_dead_letters_and_back(
    mq: amqproxy.Client, raw: Raw, service: str, preset: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    """There is no room for the reason, so that the broker moves it."""
    async with till(mq, service, **preset, concurrency=2) as target:
        for name in ("ann", "bob", "cleo"):
            raw.publish_encoded(service, f'["{name}"]'.encode(), full(service, "refund"))
        raw.publish(service, b'["dan"]', content_type=f"{service}.refund".encode())
        found = await letters(mq, service, 4)
        assert [(letter.reason, letter.body) for letter in sorted(found, key=lambda one: one.body or b"")] == [
            ("rejected", b'["ann"]'),
            ("rejected", b'["bob"]'),
            ("rejected", b'["cleo"]'),
            ("failed", b'["dan"]'),
        ]
        says = "as it is, for its headers have no room for the reason: ValueError: no refund of ann (executed: yes)"
        assert says in caplog.text
        await is_well(mq, service)
        target.fails = False
        assert await dead(mq, service).requeue(service) == (4, 0)
        await until(lambda: [what for what, _ in target.sold if what != "bread"] == ["ann", "bob", "cleo", "dan"])
        assert await waiting(mq, f"{service}.dead") == 0


async def test_one_that_grows_when_it_is_written_anew_stops_no_worker(
    mq: amqproxy.Client, raw: Raw, service: str, preset: dict[str, Any]
) -> None:
    async with till(mq, service, **preset, concurrency=2):
        for _ in range(3):
            raw.publish_encoded(service, b'["ann"]', growing(service, "refund"))
            raw.publish(service, b'["dan"]', content_type=f"{service}.refund".encode())
        found = await letters(mq, service, 6)
        assert sorted(letter.reason for letter in found) == ["failed"] * 3 + ["rejected"] * 3
        await is_well(mq, service)


async def test_a_dead_letter_that_does_not_fit_stays_and_the_others_go_back(
    mq: amqproxy.Client, raw: Raw, service: str, preset: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    async with till(mq, service, **preset) as target:
        target.fails = False
        for body in (b'["ann"]', b'["bob"]', b'["cleo"]'):
            properties = {b'["bob"]': growing(service, "refund")}.get(body)
            plain = Properties(content_type=f"{service}.refund".encode()).encode()
            raw.publish_encoded(f"{service}.dead", body, properties or plain)
        await eventually(lambda: waiting(mq, f"{service}.dead"), 3)
        assert await dead(mq, service).requeue(service, wanted=everything) == (2, 1)
        await until(lambda: target.sold == [("ann", 0), ("cleo", 0)])
        [letter] = await dead(mq, service).look(10)
        assert letter.body == b'["bob"]'
        assert "letter 2 (" in caplog.text
        assert "is not given back: all properties together have 300" in caplog.text
        await is_well(mq, service)


async def test_one_that_does_not_decode_is_moved_shown_and_stays(
    mq: amqproxy.Client, raw: Raw, service: str, preset: dict[str, Any]
) -> None:
    """The name of a header is no UTF-8, which we do not read and brokers relay."""
    async with till(mq, service, **preset):
        spoiled = full(service, "refund").replace(b"\x01aS", b"\x01\xffS", 1)
        raw.publish_encoded(service, b'["ann"]', spoiled)
        [letter] = await letters(mq, service, 1)
        assert letter.reason == "rejected"
        assert await dead(mq, service).requeue(service) == (0, 1)
        assert await dead(mq, service).purge(lambda letter: letter.reason == "rejected") == 1
        await is_well(mq, service)


async def test_what_is_to_be_signed_anew_leaves_room_for_that(amqp_url: str, service: str) -> None:
    """Step by step over the place where there is no more: whatever has no room goes there as it is."""
    keys = {"k": b"s" * 16, "k" * 64: b"o" * 16}
    one, other = (amqproxy.Signing(keys=keys, key=key) for key in keys)  # the second one's signatures are longer
    async with (
        amqproxy.connect(amqp_url, signing=one) as mq,
        amqproxy.connect(amqp_url, signing=other) as server,
        till(server, service, dead_letters=True, concurrency=2),
    ):
        sizes = [*range(MOST - 3000, MOST - 800, 200), *range(MOST - 800, MOST - 300, 20)]
        for size in sizes:
            await mq.sender(Till, name=service, headers={"a": "x" * size}).refund("wine")
        found = await letters(server, service, len(sizes))
        assert {letter.reason for letter in found} == {"failed", "rejected"}
        await is_well(mq, service)


async def test_of_what_was_settled_already_the_dead_letter_has_no_headers(
    mq: amqproxy.Client, raw: Raw, service: str
) -> None:
    """The worker has the only copy, and the broker nothing to move."""
    async with till(mq, service, dead_letters=True):
        raw.publish_encoded(service, b'["ann"]', full(service, "lose", message_id=b"m1"))
        raw.publish(service, b'["bob"]', content_type=f"{service}.lose".encode())
        found = {letter.body: letter for letter in await letters(mq, service, 2)}
        cut, whole = found[b'["ann"]'], found[b'["bob"]']
        assert (cut.reason, cut.id, cut.content_type) == ("failed", "m1", f"{service}.lose")
        assert cut.text == "ValueError: lost ann (its headers were too large to be kept)"
        assert whole.text == "ValueError: lost bob"
        await is_well(mq, service)


async def test_one_that_a_stopping_worker_cannot_hand_back_holds_up_no_other(
    mq: amqproxy.Client, raw: Raw, service: str, caplog: pytest.LogCaptureFixture
) -> None:
    """It goes back as it is, and the next worker keeps it as a dead letter, since it may have been begun."""
    caplog.set_level(logging.INFO, "amqproxy")
    async with mq.serve(Till(hangs=True), name=service, concurrency=1, grace=0, dead_letters=True) as worker:
        raw.publish(service, b'["ann"]', content_type=f"{service}.pay".encode())
        await until(lambda: len(worker.running) == 1)
        await asyncio.wait_for(worker._target.entered.acquire(), 10)
        raw.publish_encoded(service, b'["bob"]', growing(service, "pay"))
        await until(lambda: len(worker.running) == 2)
    assert "goes back as it is, for its headers are too large to be published anew" in caplog.text
    assert await waiting(mq, service) == 1
    async with till(mq, service, dead_letters=True) as second:
        await letters(mq, service, 2)  # ann was interrupted
        await is_well(mq, service)
        assert "bob" not in [what for what, _ in second.sold]


async def test_headers_beyond_all_measure_cost_their_own_message_and_no_connection(
    mq: amqproxy.Client, raw: Raw, service: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Each queue that it dies in on its way notes all of its routing keys."""
    keys, deaths = "x" * 120_000, 10
    async with till(mq, service, dead_letters=True):
        link = await mq._live_connection().link()
        channel = await link._channel()
        for number in range(deaths):
            after: dict[str, Any] = {"x-dead-letter-exchange": f"{service}.{number + 1}", "x-message-ttl": 1}
            queue = str((await channel.queue_declare(exclusive=True, arguments=after)).queue)
            await channel.exchange_declare(f"{service}.{number}", exchange_type="fanout", auto_delete=True)
            await channel.queue_bind(queue, exchange=f"{service}.{number}")
        await channel.exchange_declare(f"{service}.{deaths}", exchange_type="fanout", auto_delete=True)
        await channel.queue_bind(service, exchange=f"{service}.{deaths}")
        properties = {"content_type": f"{service}.sell".encode(), "headers": {"CC": [keys]}}
        raw.publish("any", b'["wine"]', exchange=f"{service}.0", **properties)
        [letter] = await letters(mq, service, 1)
        assert (letter.reason, letter.body) == ("rejected", b'["wine"]')
        assert letter.text.startswith("its properties do not decode: ")
        assert f"{service}: rejected a message whose properties do not decode" in caplog.text
        assert await dead(mq, service).requeue(service) == (0, 1)
        assert "is not given back: a content header ends in the middle of its properties" in caplog.text
        assert await dead(mq, service).purge(lambda letter: letter.reason == "rejected") == 1
        await is_well(mq, service)
        assert await mq._live_connection().link() is link


async def test_aiormq_reads_them_on_channels_of_its_own(mq: amqproxy.Client, raw: Raw, service: str) -> None:
    """Ours are lanes; what other channels of a connection get is aiormq's to read, and harms no lane."""
    async with till(mq, service, dead_letters=True):
        link = await mq._live_connection().link()
        channel = await link._channel()
        arguments: dict[str, Any] = {
            "x-message-ttl": 1,
            "x-dead-letter-exchange": "",
            "x-dead-letter-routing-key": f"{service}.dead",
        }
        name = str((await channel.queue_declare(exclusive=True, arguments=arguments)).queue)
        raw.publish_encoded(name, b"[]", full(service, "sell"))
        await eventually(lambda: waiting(mq, f"{service}.dead"), 1)
        got = await channel.basic_get(f"{service}.dead", no_ack=True)
        assert got.header.properties.headers is not None
        assert {"a", "x-death"} <= got.header.properties.headers.keys()
        await is_well(mq, service)
        assert await mq._live_connection().link() is link


async def test_a_broker_without_a_limit_for_frames_is_asked_for_one(service: str) -> None:
    """Else a body comes in one frame, whatever its size."""
    try:
        with rabbitmq(config={"frame_max": 0}) as node:
            async with amqproxy.connect(node.url) as mq, mq.serve(Echo(), name=service):
                proxy = mq.proxy(Echo, name=service, timeout=10)
                for size in (10, 3_000_000):
                    assert await proxy.echo("x" * size) == "x" * size
                link = await mq._live_connection().link()
                assert link._protocol.splitter.max_frame_bytes == MAX_FRAME_BYTES
    except RabbitMQNotInstalled as error:
        missing(str(error))


async def test_what_is_no_frame_costs_the_connection_and_says_so(
    amqp_url: str, service: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with (
        amqproxy.connect(amqp_url) as server,
        amqproxy.connect(amqp_url) as mq,
        till(server, service, hangs=True) as target,
    ):
        proxy = mq.proxy(Till, name=service, timeout=10)
        call = asyncio.create_task(proxy.sell("bread"))
        await asyncio.wait_for(target.entered.acquire(), 10)
        link = await mq._live_connection().link()
        link._protocol.data_received(b"\x03\x00\x01\x7f\xff\xff\xff\x00")
        breach = r"the broker broke the protocol: a frame of type 3 for channel 1 has 2147483647 bytes"
        with pytest.raises(amqproxy.ConnectionLost, match=breach) as caught:
            await call
        assert caught.value.executed == "maybe"
        target._open.set()
        await proxy.sell("bread")
        assert await mq._live_connection().link() is not link
        assert "connecting again: the broker broke the protocol (a frame of type 3" in caplog.text
