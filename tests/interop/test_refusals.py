"""Requests that are wrong: workers in all languages say the same of them, answer each once, and go on serving."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from typing import Any

import pytest
from any_language import Calculator

import amqproxy
from amqproxy.testing import broker_thread
from tests.contract.raw import Raw
from tests.interop.bad_requests import DAMAGED, BadRequest, failure, minds_the_ids, refusal, refuses, serves
from tests.interop.peer import Peer
from tests.interop.peers import scala
from tests.interop.program import serving, started
from tests.interop.test_peers import PEERS

FOREIGN = [peer for peer in PEERS if peer.worker is not None and "json" in peer.encodings]
"""Without those of STOMP, which test_stomp.py has, and of the Akka AMQP proxies, which is below."""
WITH_ANY_BYTES = [peer for peer in FOREIGN if "kombu" not in peer.name]
"""Those whose library takes properties that are not UTF-8; docs/languages/python.md tells of kombu's."""
WITHOUT_ANOTHER_TRY = WITH_ANY_BYTES
"""Those that end when their queue is deleted, for whoever started them to do so again; kombu declares it anew."""
ENCODINGS = ("json", "snappy-json", "protobuf", "snappy-protobuf", "thrift", "snappy-thrift")


def each(peers: list[Peer]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("peer", peers, ids=[peer.slug for peer in peers])


@pytest.fixture
def service() -> str:
    return f"test.calculator.{secrets.token_hex(6)}"


@pytest.fixture
def worker(peer: Peer, amqp_url: str, service: str) -> tuple[str, ...]:
    """The command of the foreign worker."""
    peer.require()
    assert peer.worker is not None
    return (*peer.worker, amqp_url, service)


@pytest.fixture
async def raw(amqp_url: str) -> AsyncIterator[Raw]:
    async with Raw.connected(amqp_url) as peer:
        yield peer


async def left(amqp_url: str, queue: str) -> int | None:
    """Remove a queue; return how many requests it had that nobody acknowledged."""
    async with amqproxy.connect(amqp_url) as mq:
        channel = await (await mq._live_connection().link())._channel()
        return (await channel.queue_delete(queue)).message_count


async def obeys_the_rules(raw: Raw, service: str, encodings: tuple[str, ...]) -> None:
    await refuses(raw, service, encodings)
    await minds_the_ids(raw, service)
    # What the method itself does not like is no refusal.
    reply = await raw.ask(service, b"[1, 0]", content_type=f"{service}.divide".encode(), correlation_id=b"1/0")
    assert (*refusal(reply), reply.properties.correlation_id) == ("unknown", "yes", False, b"1/0")


@each(FOREIGN)
async def test_a_foreign_worker_obeys_the_rules(
    peer: Peer, worker: tuple[str, ...], amqp_url: str, service: str, raw: Raw
) -> None:
    async with serving(*worker):
        await obeys_the_rules(raw, service, peer.encodings)
    assert await left(amqp_url, service) == 0


async def test_ours_obeys_them_too(amqp_url: str, service: str, raw: Raw) -> None:
    async with amqproxy.connect(amqp_url) as mq, mq.serve(Calculator(), name=service):
        await obeys_the_rules(raw, service, ENCODINGS)
    assert await left(amqp_url, service) == 0


@each(WITH_ANY_BYTES)
async def test_properties_that_are_no_text_end_no_worker(
    worker: tuple[str, ...], amqp_url: str, service: str, raw: Raw
) -> None:
    """An id of 255 such bytes has 765 in UTF-8, in which some libraries write a placeholder for each."""
    add = f"{service}.add".encode()
    async with serving(*worker):
        for name in ("correlation_id", "message_id", "reply_to", "content_type", "content_encoding"):
            odd: dict[str, Any] = {"reply_to": raw.reply_to, "content_type": add} | {name: b"\xff" * 255}
            raw.publish(service, b"[1, 2]", **odd)
            raw.publish(service, b"[1, 2", **odd)
        raw.publish(service, b"[1, 2]", reply_to=raw.reply_to, content_type=add, correlation_id=b"last")
        while (await raw.next_message()).properties.correlation_id != b"last":
            pass
        await serves(raw, service)
    assert await left(amqp_url, service) == 0


@each(FOREIGN)
async def test_a_worker_ends_when_it_is_told_to_though_its_broker_has_gone(peer: Peer, service: str) -> None:
    peer.require()
    assert peer.worker is not None
    with broker_thread() as broker:
        async with started(*peer.worker, broker.url, service) as process:
            assert process.stdout is not None
            assert await asyncio.wait_for(process.stdout.readline(), 30) == b"ready\n"
            broker.stop()
            await asyncio.sleep(2)  # by now it has ended by itself, or is trying to connect
            if process.returncode is None:
                process.terminate()
            await asyncio.wait_for(process.wait(), 10)


@each(WITHOUT_ANOTHER_TRY)
async def test_a_worker_ends_when_its_queue_is_deleted(worker: tuple[str, ...], amqp_url: str, service: str) -> None:
    """With a status and a word that tell whoever starts it again."""
    async with started(*worker) as process:
        assert process.stdout is not None and process.stderr is not None
        assert await asyncio.wait_for(process.stdout.readline(), 30) == b"ready\n"
        await left(amqp_url, service)
        said = await asyncio.wait_for(process.stderr.read(), 10)
        assert b"the queue was deleted" in said
        assert await process.wait() == 1


@each([peer for peer in FOREIGN if peer not in WITHOUT_ANOTHER_TRY])
async def test_a_worker_declares_its_queue_again(
    worker: tuple[str, ...], amqp_url: str, service: str, raw: Raw
) -> None:
    async with serving(*worker):
        await left(amqp_url, service)
        add: dict[str, Any] = {"content_type": f"{service}.add".encode(), "reply_to": raw.reply_to}
        async with asyncio.timeout(30):
            while raw.messages.empty():  # what comes before there is a queue again is lost
                raw.publish(service, b"[1, 2]", **add)
                await asyncio.sleep(0.2)
        assert (await raw.next_message()).body == b"3"


def of_scala() -> list[BadRequest]:
    """What the Akka AMQP proxies refuse, which have names for classes and none for methods."""
    name = "com.github.sstone.amqp.proxy.Demo$AddRequest"
    json = [
        BadRequest("no content-type", "", content_type=None, says="content-type"),
        BadRequest("an unknown class", "", content_type="com.example.Subtract", says="Subtract"),
        BadRequest("an unknown encoding", "", content_type=name, encoding="xml", says="xml"),
        BadRequest("half a body", "", b'{"x": 1, "y"', name),
        BadRequest("a missing field", "", b'{"x": 1}', name),
    ]
    binary = [request for encoding in ("protobuf", "thrift", "snappy-protobuf") for request in DAMAGED[encoding]]
    return json + [request for request in binary if "after the end" not in request.fault]


async def test_the_akka_amqp_proxies_refuse_in_their_own_words(amqp_url: str, service: str, raw: Raw) -> None:
    """Their failures have two fields, and no code."""
    scala.PEERS[0].require()
    async with serving(*scala.WORKER, amqp_url, service):
        for request in of_scala():
            reply = await raw.ask(service, request.body, correlation_id=b"a", **request.properties(service))
            told = failure(reply)
            assert (reply.properties.correlation_id, sorted(told)) == (b"a", ["message", "throwableAsString"])
            assert request.says in (told["message"] or ""), request.fault
        good = {"content_type": b"com.github.sstone.amqp.proxy.Demo$AddRequest", "correlation_id": b"b"}
        reply = await raw.ask(service, b'{"x": 1, "y": 2}', **good)
        assert (reply.body, reply.properties.correlation_id) == (b'{"x":1,"y":2,"sum":3}', b"b")
