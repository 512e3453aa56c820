"""S20: who has no key gets nothing done, changes nothing, and can send nothing a second time."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import pytest

import amqproxy
from amqproxy.deadqueue import DeadQueue
from amqproxy.properties import Properties
from amqproxy.signing import SIGNATURE_HEADER, Signing, sign, verify
from amqproxy.topology import Queue, delay_queue
from tests.contract.raw import Message, Raw
from tests.contract.test_dead_letters import drop, eventually, waiting
from tests.contract.test_deduplication import Shelf
from tests.patience import until
from tests.processes import amqproxy as command
from tests.processes import running
from tests.security.signed_worker import KEYS, SIGNING, Ledger


class Book(Ledger):
    def __init__(self) -> None:
        self.noted: list[str] = []
        self.waiting, self.go = asyncio.Event(), asyncio.Event()
        self.cancelled = asyncio.Event()

    async def note(self, text: str) -> None:
        self.noted.append(text)

    async def total(self, numbers: AsyncIterator[int]) -> int:
        return sum([number async for number in numbers])

    async def wait(self) -> None:
        self.waiting.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.cancelled.set()

    async def hold(self, text: str) -> str:
        self.noted.append(text)
        self.waiting.set()
        await self.go.wait()
        return text

    async def blob(self, size: int) -> amqproxy.Blob:
        return amqproxy.Blob(bytes(size))

    async def fail(self) -> None:
        raise ZeroDivisionError("no")


@pytest.fixture
async def signed(amqp_url: str) -> AsyncIterator[amqproxy.Client]:
    async with amqproxy.connect(amqp_url, signing=SIGNING) as mq:
        yield mq


@asynccontextmanager
async def book(mq: amqproxy.Client, service: str, **options: Any) -> AsyncIterator[tuple[Book, Any]]:
    """A book that is served, and a proxy of it."""
    one = Book()
    async with mq.serve(one, name=service, auto_delete=True, **options):
        yield one, mq.proxy(Book, name=service)


async def numbers(to: int) -> AsyncIterator[int]:
    for number in range(to):
        yield number


async def test_everything_goes_signed(signed: amqproxy.Client, service: str) -> None:
    async with book(signed, service) as (one, proxy):
        assert await proxy.add(1, 2) == 3
        assert [number async for number in proxy.count(300)] == list(range(300))
        assert await proxy.total(numbers(300)) == sum(range(300))
        assert len(await (await proxy.blob(300_000)).read()) == 300_000
        assert await amqproxy.gather(proxy.add(n, n) for n in range(50)) == [2 * n for n in range(50)]
        with pytest.raises(ZeroDivisionError):
            await proxy.fail()
        await signed.sender(Book, name=service).note("sent")
        await signed.sender(Book, name=service, delay=0.05).note("later")
        await signed.sender(Book, name=service, everyone=True).note("all")
        assert [answer.value async for answer in signed.broadcast(Book, name=service).add(3, 4)] == [7]
        call = asyncio.create_task(proxy.wait())
        await one.waiting.wait()
        call.cancel()
        await asyncio.wait_for(one.cancelled.wait(), 5)
        await until(lambda: sorted(one.noted) == ["all", "later", "sent"], lambda: str(one.noted))
        assert await amqproxy.options(proxy, heartbeat=0.5).add(1, 2) == 3


async def test_so_it_does_between_processes(amqp_url: str, signed: amqproxy.Client, service: str) -> None:
    async with running("security/signed_worker.py", amqp_url, service, "0") as worker:
        await worker.says("serving")
        proxy = signed.proxy(Ledger, name=service)
        assert await proxy.add(1, 2) == 3
        assert [number async for number in proxy.count(5)] == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("ahead", [-40, 40])
async def test_clocks_may_differ_within_the_window(
    amqp_url: str, signed: amqproxy.Client, service: str, ahead: int
) -> None:
    async with running("security/signed_worker.py", amqp_url, service, str(ahead)) as worker:
        await worker.says("serving")
        assert await signed.proxy(Ledger, name=service).add(1, 2) == 3


async def test_who_does_not_sign_is_told_so_and_nothing_is_run(
    signed: amqproxy.Client, mq: amqproxy.Client, service: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with book(signed, service) as (one, proxy):
        with pytest.raises(amqproxy.RemoteError, match="the request is not taken: it is not signed") as caught:
            await mq.proxy(Book, name=service).note("x")
        assert (caught.value.code, caught.value.executed) == ("unauthenticated", "no")
        await mq.sender(Book, name=service).note("y")
        await mq.sender(Book, name=service, everyone=True).note("z")
        assert await proxy.add(1, 2) == 3
        assert one.noted == []
    assert re.search(
        rf"{service} did not take a message: {service}\.note \(message-id .*\): it is not signed", caplog.text
    )
    assert re.search(
        rf"{service}: rejected {service}\.note \(message-id .*\): it is not signed; .*; it is lost", caplog.text
    )


async def test_another_secret_is_none(amqp_url: str, signed: amqproxy.Client, service: str) -> None:
    stranger = Signing(keys={"new": b"x" * 32}, key="new")
    async with book(signed, service) as (one, _), amqproxy.connect(amqp_url, signing=stranger) as mq:
        with pytest.raises(amqproxy.CallTimeout):  # it does not believe the refusal either
            await mq.proxy(Book, name=service, timeout=0.5).note("x")
        assert one.noted == []


async def test_keys_are_changed_without_a_pause(amqp_url: str, signed: amqproxy.Client, service: str) -> None:
    before = Signing(keys={"old": KEYS["old"], "new": KEYS["new"]}, key="old")
    async with book(signed, service), amqproxy.connect(amqp_url, signing=before) as mq:
        assert await mq.proxy(Book, name=service).add(1, 2) == 3


class Tapped:
    """A request of a signing caller, as it is taken off its queue by somebody else."""

    def __init__(self, raw: Raw, mq: amqproxy.Client, service: str) -> None:
        self.raw, self.mq, self.service = raw, mq, service

    async def request(self, x: int = 1) -> tuple[asyncio.Task[int], Message]:
        call = asyncio.create_task(
            self.mq.proxy(Book, name=self.service, routing_key=self.raw.reply_to.decode()).add(x, 2)
        )
        return call, await self.raw.next_message()


def own(service: str, raw: Raw, **properties: Any) -> tuple[Properties, bytes]:
    """A request with a signature of the right key, as its caller would send it."""
    said = Properties(content_type=f"{service}.note".encode(), correlation_id=b"1", reply_to=raw.reply_to, **properties)
    body = b'["x"]'
    return Properties.decode(sign(SIGNING, said.encode(), body, service, time.time(), os.urandom(16))), body


CHANGES: dict[str, dict[str, Any]] = {
    "another method": {"content_type": b"SERVICE.wait"},
    "another correlation id": {"correlation_id": b"2"},
    "another message id": {"message_id": b"2"},
    "another user": {"app_id": b"x"},
    "another encoding": {"content_encoding": b"json"},
}


@pytest.mark.parametrize("change", CHANGES)
async def test_a_request_that_was_changed_is_not_taken(
    signed: amqproxy.Client, raw: Raw, service: str, change: str
) -> None:
    async with book(signed, service) as (one, _):
        said, body = own(service, raw)
        values = {k: v.replace(b"SERVICE", service.encode()) for k, v in CHANGES[change].items()}
        raw.publish_encoded(service, body, replace(said, **values).encode())
        assert refusal(await raw.next_message())["code"] == "unauthenticated"
        raw.publish_encoded(service, b'["y"]', said.encode())
        assert "its signature is wrong" in refusal(await raw.next_message())["message"]
        assert one.noted == []


async def test_the_deadline_and_where_to_answer_are_signed(
    signed: amqproxy.Client, mq: amqproxy.Client, raw: Raw, amqp_url: str, service: str
) -> None:
    async with book(signed, service) as (one, _), Raw.connected(amqp_url) as thief:
        said, body = own(service, raw, headers={"x-timeout-ms": 30000})
        raw.publish_encoded(service, body, replace(said, reply_to=thief.reply_to).encode())
        assert refusal(await thief.next_message())["code"] == "unauthenticated"
        headers = {**(said.headers or {}), "x-timeout-ms": 60000}
        raw.publish_encoded(service, body, replace(said, headers=headers).encode())
        assert refusal(await raw.next_message())["code"] == "unauthenticated"
        assert one.noted == []


async def test_a_request_is_taken_once(signed: amqproxy.Client, raw: Raw, service: str) -> None:
    async with book(signed, service) as (one, _):
        said, body = own(service, raw)
        raw.publish_encoded(service, body, said.encode())
        assert (await raw.next_message()).body == b"null"
        raw.publish_encoded(service, body, said.encode())
        assert "it came a second time" in refusal(await raw.next_message())["message"]
        assert one.noted == ["x"]


async def test_a_request_for_another_service_is_not_taken(signed: amqproxy.Client, raw: Raw, service: str) -> None:
    async with book(signed, service) as (one, _):
        said = Properties(content_type=f"{service}.note".encode(), reply_to=raw.reply_to)
        bytes_ = sign(SIGNING, said.encode(), b'["x"]', "test.staging", time.time(), os.urandom(16))
        raw.publish_encoded(service, b'["x"]', bytes_)
        assert "it was sent to 'test.staging', and not here" in refusal(await raw.next_message())["message"]
        assert one.noted == []


@pytest.mark.parametrize(("age", "why"), [(61, "61 s ago, and the window is 60 s"), (-61, "in the future")])
async def test_an_old_request_is_not_taken(signed: amqproxy.Client, raw: Raw, service: str, age: int, why: str) -> None:
    async with book(signed, service) as (one, _):
        said = Properties(content_type=f"{service}.note".encode(), reply_to=raw.reply_to)
        bytes_ = sign(SIGNING, said.encode(), b'["x"]', service, time.time() - age, os.urandom(16))
        raw.publish_encoded(service, b'["x"]', bytes_)
        assert why in refusal(await raw.next_message())["message"]
        assert one.noted == []


async def test_what_a_worker_gives_back_is_taken_by_the_next(
    amqp_url: str, signed: amqproxy.Client, service: str
) -> None:
    async with amqproxy.connect(amqp_url, signing=SIGNING) as other:
        one, two = Book(), Book()
        first = other.serve(one, name=service, grace=0)
        await first.start()
        call = asyncio.create_task(signed.proxy(Book, name=service).wait())
        await one.waiting.wait()
        async with signed.serve(two, name=service, concurrency=1):
            await first.stop()
            await asyncio.wait_for(two.waiting.wait(), 10)
            call.cancel()
        await signed._live_connection().current_link._declare(lambda c: c.queue_delete(service))  # type: ignore[union-attr]


async def test_forged_replies_are_passed_over_and_the_true_one_is_taken(
    signed: amqproxy.Client, raw: Raw, service: str
) -> None:
    tap = Tapped(raw, signed, service)
    (one, first), (two, second) = await tap.request(1), await tap.request(5)
    asked, also = first.properties, second.properties
    assert asked.reply_to and asked.correlation_id and also.correlation_id
    reply_to, strays = asked.reply_to.decode(), signed.caller.strays

    def reply(correlation_id: bytes | None) -> Properties:
        said = Properties(content_type=b"x", content_encoding=b"json", correlation_id=correlation_id)
        return Properties.decode(sign(SIGNING, said.encode(), b"3", reply_to, time.time(), os.urandom(16)))

    raw.publish(reply_to, b"666", correlation_id=asked.correlation_id, content_encoding=b"json")
    swapped = replace(reply(asked.correlation_id), correlation_id=also.correlation_id)
    raw.publish_encoded(reply_to, b"3", swapped.encode())
    raw.publish_encoded(reply_to, b"4", reply(asked.correlation_id).encode())
    good = reply(asked.correlation_id)
    raw.publish_encoded(reply_to, b"3", good.encode())
    assert await one == 3
    raw.publish_encoded(reply_to, b"3", good.encode())
    await until(lambda: signed.caller.strays == strays + 4)
    assert not two.done()
    two.cancel()


async def overhears(raw: Raw, service: str) -> None:
    """Let a stranger have a copy of each request that goes to the service through amq.direct."""
    await raw.opened._channel.queue_bind(raw.reply_to.decode(), "amq.direct", service)


def refusals(caplog: pytest.LogCaptureFixture) -> int:
    return caplog.text.count("did not take a message")


def repeated(caplog: pytest.LogCaptureFixture, times: int) -> bool:
    return caplog.text.count("it came a second time") == times


async def test_who_copies_a_request_cannot_end_its_call(
    amqp_url: str, signed: amqproxy.Client, raw: Raw, service: str, caplog: pytest.LogCaptureFixture
) -> None:
    """No refusal that he gets out of the worker, or out of all of its pool, is an answer to the caller."""
    small = amqproxy.connect(amqp_url, signing=SIGNING, max_body_bytes=10_000)
    async with small as served, book(served, service) as (one, _):
        await overhears(raw, service)
        call = asyncio.create_task(signed.proxy(Book, name=service, exchange="amq.direct").hold("x"))
        copy = await raw.next_message()
        await one.waiting.wait()
        bare = Properties(correlation_id=copy.properties.correlation_id, reply_to=copy.properties.reply_to)
        asked = [
            (copy.properties, copy.body),
            (copy.properties, b'["y"]'),
            (bare, copy.body),
            (bare, bytes(10_001)),
            (replace(copy.properties, content_type=b"x"), bytes(10_001)),
        ]
        for said, body in asked:
            raw.publish_encoded(service, body, said.encode())
            raw.publish_encoded("", body, said.encode(), exchange=f"amqproxy.{service}")
        # each by the worker, each by its own queue, and what the worker says to the former by the caller
        await until(lambda: refusals(caplog) == 3 * len(asked), lambda: caplog.text)
        assert signed.caller.strays == len(asked)
        assert not call.done()
        one.go.set()
        assert (await call, one.noted) == ("x", ["x"])


async def test_a_caller_takes_no_request_for_a_reply(
    amqp_url: str, signed: amqproxy.Client, raw: Raw, service: str
) -> None:
    """Nor does the service, all of it, take one that was for one worker."""
    async with amqproxy.connect(amqp_url, signing=SIGNING) as calling, book(signed, service) as (one, _):
        await overhears(raw, service)
        call = asyncio.create_task(calling.proxy(Book, name=service, exchange="amq.direct").hold("x"))
        copy = await raw.next_message()
        await one.waiting.wait()
        assert copy.properties.reply_to
        raw.publish_encoded("", copy.body, copy.properties.encode(), exchange=f"amqproxy.{service}")
        raw.publish_encoded(copy.properties.reply_to.decode(), copy.body, copy.properties.encode())
        await until(lambda: calling.caller.strays == 1)
        assert not call.done()
        one.go.set()
        assert (await call, one.noted) == ("x", ["x"])


@pytest.mark.parametrize("way", ["by its exchange", "by amq.direct", "with a delay", "by amq.topic"])
async def test_what_is_sent_to_one_pool_by_an_exchange_is_none_for_another(
    amqp_url: str, signed: amqproxy.Client, raw: Raw, service: str, way: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The same service twice, with the same keys: only the ways that lead there differ."""
    exchange = {"by amq.direct": "amq.direct", "by amq.topic": "amq.topic"}.get(way, f"{service}.requests")
    bound: dict[str, Any] = {"queue": f"{service}.live", "exchange": exchange, "routing_key": f"{service}.live.#"}
    if way != "by amq.topic":
        del bound["routing_key"]
    sending: dict[str, Any] = {
        "exchange": exchange,
        "routing_key": f"{service}.live",
        "delay": 0.05 if way == "with a delay" else 0.0,
    }
    live, staging = Book(), Book()
    async with (
        signed.serve(live, name=service, auto_delete=True, **bound),
        amqproxy.connect(amqp_url, signing=SIGNING) as other,
        other.serve(staging, name=service, queue=f"{service}.staging", exchange=exchange, auto_delete=True),
    ):
        await raw.opened._channel.queue_bind(raw.reply_to.decode(), exchange, f"{service}.live")
        await signed.sender(Book, name=service, **sending).note("x")
        copy = await raw.next_message()
        raw.publish_encoded(f"{service}.staging", copy.body, copy.properties.encode())
        await until(lambda: refusals(caplog) == 1, lambda: caplog.text)
        await until(lambda: live.noted == ["x"])
        assert staging.noted == []
    link = await signed._live_connection().link()
    await link._declare(lambda c: c.queue_delete(delay_queue(50, exchange, f"{service}.live").name))
    if not exchange.startswith("amq."):
        await link._declare(lambda c: c.exchange_delete(exchange))


@asynccontextmanager
async def in_anothers_hands(amqp_url: str, service: str) -> AsyncIterator[Raw]:
    """A stranger who consumes the queue; what he has then the broker gives again, and says so."""
    async with Raw.connected(amqp_url) as thief:
        link = thief.opened._link
        await link.declare_queue(Queue(service, auto_delete=True))
        await thief.opened.consume(service, lambda: None, no_ack=False)
        yield thief


async def test_a_copy_is_not_taken_because_the_broker_gives_it_again(
    amqp_url: str, signed: amqproxy.Client, raw: Raw, service: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither while its handler runs, nor when it has ended."""
    async with book(signed, service, concurrency=1) as (one, _):
        await overhears(raw, service)
        call = asyncio.create_task(signed.proxy(Book, name=service, exchange="amq.direct").hold("x"))
        copy = await raw.next_message()
        await one.waiting.wait()
        for round in (1, 2):  # while the worker has no room for them, and when it has
            async with in_anothers_hands(amqp_url, service) as thief:
                for _ in range(4):
                    raw.publish_encoded(service, copy.body, copy.properties.encode())
                await thief.next_message()
            if round == 1:
                assert not call.done()
                one.go.set()
                assert await call == "x"
            await until(partial(repeated, caplog, 4 * round))
        assert one.noted == ["x"]


@pytest.mark.parametrize(("age", "taken"), [(100, True), (1700, True), (1801, False)])
async def test_what_another_worker_had_is_taken_within_a_window_of_its_own(
    amqp_url: str, signed: amqproxy.Client, raw: Raw, service: str, age: int, taken: bool
) -> None:
    async with AsyncExitStack() as stack:
        async with in_anothers_hands(amqp_url, service) as thief:
            said = Properties(content_type=f"{service}.note".encode(), reply_to=raw.reply_to)
            header = sign(SIGNING, said.encode(), b'["x"]', service, time.time() - age, os.urandom(16))
            raw.publish_encoded(service, b'["x"]', header)
            await thief.next_message()
            one, _ = await stack.enter_async_context(book(signed, service))
        answer = await raw.next_message()
        if not taken:
            assert "s ago, and the window is 1800 s" in refusal(answer)["message"]
        assert one.noted == (["x"] if taken else [])


@pytest.mark.parametrize(("later", "outcome"), [(1200, "holding x"), (3600, "s ago, and the window is 1800 s")])
async def test_what_a_killed_worker_had_another_takes_within_that_window(
    amqp_url: str, signed: amqproxy.Client, service: str, later: int, outcome: str
) -> None:
    """In processes of their own, one of which lives so many seconds later."""
    async with running("security/signed_worker.py", amqp_url, service, "0") as first:
        await first.says("serving")
        await signed.sender(Ledger, name=service).hold("x")
        await first.says("holding x")
        async with running("security/signed_worker.py", amqp_url, service, str(later)) as second:
            await second.says("serving")
            first.send(signal.SIGKILL)
            await second.says(outcome)


@pytest.mark.parametrize("shared", [False, True])
async def test_another_worker_runs_a_copy_unless_the_pool_shares_a_store(
    amqp_url: str, signed: amqproxy.Client, raw: Raw, service: str, shared: bool
) -> None:
    """What the page says of copies; without a store, to each worker one."""
    options = {"deduplicate": amqproxy.Deduplication(store=Shelf())} if shared else {}
    said, body = own(service, raw, message_id=b"m1")
    noted = []
    async with amqproxy.connect(amqp_url, signing=SIGNING) as other:
        for mq in (signed, other, other):
            async with book(mq, service, **options) as (one, _):
                raw.publish_encoded(service, body, said.encode())
                answer = await raw.next_message()
            noted.append((one.noted, answer.body == b"null"))
    assert noted == [(["x"], True), ([] if shared else ["x"], True), ([], False)]


async def test_what_a_worker_gives_back_may_come_to_it_again(signed: amqproxy.Client, service: str) -> None:
    """To the same connection, whether it stopped or its channel went."""
    one, two = Book(), Book()
    first = signed.serve(one, name=service, grace=0)
    await first.start()
    try:
        call = asyncio.create_task(signed.proxy(Book, name=service).hold("x"))
        await one.waiting.wait()
        await first.stop()
        async with signed.serve(two, name=service):
            await asyncio.wait_for(two.waiting.wait(), 10)
            two.waiting.clear()
            two.go.set()
            assert await call == "x"
            two.go.clear()
            await signed.sender(Book, name=service).hold("y")
            await asyncio.wait_for(two.waiting.wait(), 10)
            two.waiting.clear()
            signed._live_connection().current_link._protocol.abort()  # type: ignore[union-attr]
            await asyncio.wait_for(two.waiting.wait(), 10)
            two.go.set()
        assert (one.noted, two.noted) == (["x"], ["x", "y", "y"])
    finally:
        await drop(signed, service)


async def test_all_workers_of_one_connection_hear_what_all_are_told(signed: amqproxy.Client, service: str) -> None:
    async with book(signed, service) as (one, _), book(signed, service) as (two, _):
        answers = [answer.value async for answer in signed.broadcast(Book, name=service).add(3, 4)]
        assert answers == [7, 7]
        await signed.sender(Book, name=service, everyone=True).note("x")
        await until(lambda: (one.noted, two.noted) == (["x"], ["x"]))


async def test_a_strangers_reply_that_is_too_large_is_passed_over(
    amqp_url: str, signed: amqproxy.Client, raw: Raw, service: str
) -> None:
    small = amqproxy.connect(amqp_url, signing=SIGNING, max_body_bytes=10_000)
    async with small as calling, book(signed, service) as (one, _):
        await overhears(raw, service)
        call = asyncio.create_task(calling.proxy(Book, name=service, exchange="amq.direct").hold("x"))
        asked = (await raw.next_message()).properties
        await one.waiting.wait()
        assert asked.reply_to
        raw.publish(asked.reply_to.decode(), bytes(10_001), correlation_id=asked.correlation_id)
        await until(lambda: calling.caller.strays == 1)
        assert not call.done()
        one.go.set()
        assert await call == "x"


async def test_who_does_not_sign_is_told_of_a_request_that_is_too_large(amqp_url: str, raw: Raw, service: str) -> None:
    small = amqproxy.connect(amqp_url, signing=SIGNING, max_body_bytes=10_000)
    async with small as served, book(served, service) as (_, proxy):
        raw.publish(service, bytes(10_001), reply_to=raw.reply_to)
        answer = await raw.next_message()
        assert (
            "it has 10001 bytes, too many to check its signature (max_body_bytes: 10000)" in refusal(answer)["message"]
        )
        assert SIGNATURE_HEADER not in (answer.properties.headers or {})
        assert await proxy.add(1, 2) == 3


async def test_signatures_are_on_all_that_is_sent(signed: amqproxy.Client, raw: Raw, service: str) -> None:
    call, message = await Tapped(raw, signed, service).request()
    text = (message.properties.headers or {})[SIGNATURE_HEADER]
    assert text.startswith("1:new:") and text.endswith(":" + raw.reply_to.decode())
    assert verify(SIGNING, message.properties.encode(), message.body).to == raw.reply_to.decode()
    call.cancel()


async def test_a_delay_that_no_signature_outlives_is_refused_at_once(signed: amqproxy.Client) -> None:
    with pytest.raises(ValueError, match=r"after a delay of 60 s, for the window of its signature is 60 s"):
        signed.sender(Book, name="x", delay=60)
    with pytest.raises(ValueError, match="after a delay of 90 s"):
        amqproxy.options(signed.sender(Book, name="x"), delay=90)
    signed.sender(Book, name="x", delay=59)


async def test_without_keys_nothing_is_signed(mq: amqproxy.Client, raw: Raw, service: str) -> None:
    call, message = await Tapped(raw, mq, service).request()
    assert SIGNATURE_HEADER not in (message.properties.headers or {})
    call.cancel()


async def test_what_cannot_be_read_is_not_taken_and_harms_nobody(
    signed: amqproxy.Client, raw: Raw, service: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with book(signed, service) as (_, proxy):
        deep = b"\x01hF\0\0\0\0"
        for _ in range(100):
            deep = b"\x01hF" + len(deep).to_bytes(4, "big") + deep
        for header in (b"\x20\x00" + len(deep).to_bytes(4, "big") + deep, b"\x04\x00\x02\xff\xfe", b"\x00\x00"):
            raw.publish_encoded(service, b"x", header)
        assert await proxy.add(1, 2) == 3
    assert caplog.text.count("did not take a message") == 3
    for secret in KEYS.values():
        assert secret.decode() not in caplog.text


def refusal(message: Message) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(message.body)
    return {**body["error"], "message": body["message"]}


BRIEF = Signing(keys=KEYS, key="new", window=1.0)


class Mended(Book):
    """It fails until it is mended."""

    broken = True

    async def note(self, text: str) -> None:
        if self.broken:
            raise ValueError(text)
        await super().note(text)


async def test_dead_letters_are_signed_anew_when_they_go_back_and_no_strangers_are(
    amqp_url: str, mq: amqproxy.Client, raw: Raw, service: str, caplog: pytest.LogCaptureFixture
) -> None:
    """One died of its handler, one was too old when a worker came; a stranger's would be taken if it were signed."""
    one = Mended()
    options: dict[str, Any] = {"name": service, "dead_letters": True}
    async with amqproxy.connect(amqp_url, signing=BRIEF) as signed:
        try:
            async with signed.serve(one, **options):
                await signed.sender(Book, name=service).note("failed")
                await eventually(lambda: waiting(mq, f"{service}.dead"), 1)
            await signed.sender(Book, name=service, exchange="amq.direct").note("late")
            await asyncio.sleep(1.1)
            await mq.sender(Book, name=service).note("a stranger's")
            one.broken = False
            async with signed.serve(one, **options):
                await eventually(lambda: waiting(mq, f"{service}.dead"), 3)
                dead = DeadQueue(signed._live_connection(), service)
                assert [letter.reason for letter in await dead.look(10)] == ["failed", "rejected", "rejected"]
                assert await DeadQueue(mq._live_connection(), service).requeue(service) == (1, 2)
                await eventually(lambda: waiting(mq, f"{service}.dead"), 3)  # the one that is not signed is dead again
                with pytest.raises(amqproxy.Unroutable, match="they are dead letters still"):
                    await dead.requeue(f"{service}.nowhere")
                await eventually(lambda: waiting(mq, f"{service}.dead"), 3)
                keys = ("--signing", "security.signed_worker:SIGNING")
                ours = next(letter for letter in await dead.look(10) if b"stranger" not in (letter.body or b""))
                ended = await command("dead", "requeue", service, str(ours.place), *keys, AMQPROXY_URL=amqp_url)
                assert (ended.code, json.loads(ended.out)) == (0, {"requeued": 1, "stayed": 0})
                ended = await command("dead", "requeue", service, AMQPROXY_URL=amqp_url)
                assert ended.code == 1 and "stayed" in ended.err and "signed (--signing)" in ended.err
                await eventually(lambda: waiting(mq, f"{service}.dead"), 2)
                assert await dead.requeue(service) == (1, 1)
                says = rf"{service}\.dead: letter \d \({service}\.note.*\) is not given back: it is not signed"
                assert re.search(says, caplog.text)
                await until(lambda: sorted(one.noted) == ["failed", "late"])
                assert [letter.body for letter in await dead.look(10)] == [b'{"text":"a stranger\'s"}']
        finally:
            await drop(mq, service, f"{service}.dead")
