"""Programs that were written from docs/wire.md take our streams and answer with streams, within the credit."""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import pytest
from streams import Numbers

import amqproxy
from amqproxy.wire import ALIVE_CLASS, CANCEL_CLASS, CREDIT_CLASS, CREDIT_HEADER, credit_of, part_of, pool_exchange
from tests.faults.network import Relay
from tests.interop.peer import EXAMPLES, ROOT, Peer
from tests.interop.program import PATIENCE, outcome, serving, started
from tests.interop.tap import PUBLISH, RETURN, Passed, Tap
from tests.interop.test_peers import PEERS
from tests.processes import Running, running

CALLERS = {"Ruby, bunny": ("ruby", "ruby/stream.rb"), "Node, amqplib": ("node", "node/stream.js")}
NODE = "Node, amqplib"
NODE_WORKER = ("node", str(EXAMPLES / "node/stream_worker.js"))
CREDIT = 8
"""What both programs grant at first; half of it is what they grant at a time."""
FOR_EVER = 10**9
ENDED = "count has ended"
"""What a worker says when its generator is closed, however that came."""

program = pytest.mark.parametrize("name", CALLERS)


@dataclass(slots=True)
class Ledger:
    """One stream, as its messages tell it; the sender may be at either side of the tap."""

    granted: int = 0
    sent: int = 0
    ended: bool = False
    cancels: int = 0


def ledgers(messages: Iterable[Passed]) -> dict[bytes, Ledger]:
    """The streams that passed, by correlation id. No message may have had more items than were granted by then."""
    streams: dict[bytes, Ledger] = {}
    for message in messages:
        if message.method == RETURN:
            continue
        properties = message.properties
        headers, id = properties.headers or {}, properties.correlation_id or b""
        if CREDIT_HEADER in headers:
            streams[id] = Ledger(granted=headers[CREDIT_HEADER])
        elif id in streams and properties.content_type == CREDIT_CLASS:
            streams[id].granted += credit_of(message.body)
        elif id in streams and properties.content_type == CANCEL_CLASS:
            streams[id].cancels += 1
        elif id in streams and (part := part_of(headers)) is not None:
            stream = streams[id]
            assert part.first == stream.sent
            assert not stream.ended
            stream.sent += part.items
            stream.ended = part.last
            assert stream.sent <= stream.granted
    return streams


def only(messages: Iterable[Passed]) -> Ledger:
    [stream] = ledgers(messages).values()
    return stream


def peer(name: str) -> Peer:
    [found] = [peer for peer in PEERS if peer.name == name]
    return found


def command(name: str, *arguments: str) -> list[str]:
    """The program that takes a stream."""
    peer(name).require()
    language, file = CALLERS[name]
    return [language, str(EXAMPLES / file), *arguments]


@pytest.fixture
async def service(amqp_url: str) -> AsyncIterator[str]:
    """A name for a pool, which leaves nothing behind."""
    name = f"test.numbers.{secrets.token_hex(6)}"
    yield name
    async with amqproxy.connect(amqp_url) as mq:
        channel = await (await mq._live_connection().link())._channel()
        await channel.queue_delete(name)
        await channel.exchange_delete(pool_exchange(name))


@asynccontextmanager
async def our_worker(url: str, service: str) -> AsyncIterator[Running]:
    """A worker of ours, in a process of its own."""
    path = os.pathsep.join((str(ROOT), str(EXAMPLES)))
    arguments = ("-m", "amqproxy", "serve", "streams:Numbers", f"--name={service}")
    async with running(*arguments, PYTHONPATH=path, AMQPROXY_URL=url, PYTHONUNBUFFERED="1") as worker:
        await worker.says(f"serving {service}")
        yield worker


async def says(process: asyncio.subprocess.Process, line: str) -> None:
    """Wait until a worker that said `ready` says this next."""
    assert process.stdout is not None
    async with asyncio.timeout(PATIENCE):
        assert (await process.stdout.readline()).decode().strip() == line


# They take streams of ours


@program
async def test_it_takes_a_stream_to_its_end(name: str, amqp_url: str, service: str) -> None:
    async with Tap(amqp_url).open() as tap, our_worker(tap.url, service) as worker:
        numbers = await outcome(*command(name, amqp_url, service, "1000"))
        await worker.says(ENDED)
        stream = only(tap.messages)
    assert numbers == [str(number) for number in range(1000)]
    assert (stream.sent, stream.ended, stream.cancels) == (1000, True, 0)
    assert stream.granted >= 1000
    assert stream.granted <= 1000 + CREDIT


@program
async def test_it_stops_a_stream_in_the_middle(name: str, amqp_url: str, service: str) -> None:
    async with Tap(amqp_url).open() as tap, our_worker(tap.url, service) as worker:
        numbers = await outcome(*command(name, amqp_url, service, str(FOR_EVER), "10"))
        await worker.says(ENDED)
        stream = only(tap.messages)
    assert numbers == [str(number) for number in range(10)]
    assert (stream.granted, stream.ended, stream.cancels) == (CREDIT + CREDIT, False, 1)  # behind items 3 and 7
    assert 10 <= stream.sent <= stream.granted


@program
async def test_it_takes_streams_without_items(name: str, amqp_url: str, service: str) -> None:
    async with our_worker(amqp_url, service):
        assert await outcome(*command(name, amqp_url, service, "0")) == []


@program
async def test_it_hears_that_its_worker_is_gone(name: str, amqp_url: str, service: str) -> None:
    async with our_worker(amqp_url, service) as worker, started(*command(name, amqp_url, service, str(FOR_EVER))) as it:
        assert it.stdout is not None
        assert (await it.stdout.readline()).decode() == "0\n"
        worker.send(9)
        async with asyncio.timeout(PATIENCE):
            out, err = await it.communicate()
    assert it.returncode == 1
    assert "the worker is gone: NO_ROUTE" in err.decode()
    numbers = [int(number) for number in out.split()]
    assert numbers == list(range(1, len(numbers) + 1))


@program
async def test_it_hears_that_nobody_serves(name: str, amqp_url: str, service: str) -> None:
    async with started(*command(name, amqp_url, service)) as it, asyncio.timeout(PATIENCE):
        _, err = await it.communicate()
    assert it.returncode == 1
    assert "nobody serves" in err.decode()


@program
async def test_our_worker_hears_that_it_is_gone(name: str, amqp_url: str, service: str) -> None:
    async with our_worker(amqp_url, service) as worker:
        async with started(*command(name, amqp_url, service, str(FOR_EVER))) as it:
            assert it.stdout is not None
            assert (await it.stdout.readline()).decode() == "0\n"
            it.kill()
        await worker.says(ENDED)


async def test_ruby_asks_all_workers_in_whatever_language(amqp_url: str, service: str) -> None:
    peer("Ruby, bunny").require()
    peer(NODE).require()
    host = socket.gethostname()
    async with AsyncExitStack() as stack:
        ours = [await stack.enter_async_context(our_worker(amqp_url, service)) for _ in range(2)]
        theirs = await stack.enter_async_context(serving(*NODE_WORKER, amqp_url, service))
        answers = await outcome("ruby", str(EXAMPLES / "ruby/broadcast.rb"), amqp_url, service)
        names = [f"{host}.{theirs.pid}.node", *(f"{host}.{worker.pid}.1" for worker in ours)]
    assert sorted(answers) == sorted(f"{worker}: {worker}" for worker in names)


# Node answers us with streams


@pytest.fixture
async def node(amqp_url: str, service: str) -> AsyncIterator[asyncio.subprocess.Process]:
    peer(NODE).require()
    async with serving(*NODE_WORKER, amqp_url, service) as worker:
        yield worker


@pytest.fixture
async def tap(amqp_url: str) -> AsyncIterator[Tap]:
    async with Tap(amqp_url).open() as opened:
        yield opened


@pytest.mark.parametrize("credit", [1, 2, 100, 2000])
async def test_it_streams_to_our_proxy(credit: int, node: asyncio.subprocess.Process, tap: Tap, service: str) -> None:
    async with amqproxy.connect(tap.url) as mq:
        numbers = mq.proxy(Numbers, name=service, credit=credit)
        assert [number async for number in numbers.count(1000)] == list(range(1000))
    await says(node, ENDED)
    stream = only(tap.messages)
    assert (stream.sent, stream.ended, stream.cancels) == (1000, True, 0)
    assert stream.granted <= 1000 + credit


async def test_it_streams_many_at_once(node: asyncio.subprocess.Process, tap: Tap, service: str) -> None:
    async with amqproxy.connect(tap.url) as mq:
        numbers = mq.proxy(Numbers, name=service, credit=16)

        async def count(to: int) -> list[int]:
            return [number async for number in numbers.count(to)]

        assert await asyncio.gather(*map(count, range(50))) == [list(range(to)) for to in range(50)]
    assert sorted(stream.sent for stream in ledgers(tap.messages).values()) == list(range(50))


async def test_it_stops_when_our_loop_is_left(node: asyncio.subprocess.Process, tap: Tap, service: str) -> None:
    async with amqproxy.connect(tap.url) as mq:
        async for number in mq.proxy(Numbers, name=service, credit=20).count(FOR_EVER):
            if number == 50:
                break
        await says(node, ENDED)
    stream = only(tap.messages)
    assert (stream.ended, stream.cancels) == (False, 1)
    assert 51 <= stream.sent <= stream.granted


async def test_it_waits_for_a_consumer_that_takes_its_time(
    node: asyncio.subprocess.Process, tap: Tap, service: str
) -> None:
    async with amqproxy.connect(tap.url) as mq:
        stream = aiter(mq.proxy(Numbers, name=service, credit=5).count(FOR_EVER))
        assert await anext(stream) == 0
        async with asyncio.timeout(PATIENCE):
            await tap.passes(lambda message: message.properties.content_type == ALIVE_CLASS)  # it has sent what it may
        assert only(tap.messages).sent == 5
        assert [await anext(stream) for _ in range(20)] == list(range(1, 21))


async def test_it_never_begins_what_was_cancelled_before_it_came(
    node: asyncio.subprocess.Process, tap: Tap, service: str
) -> None:
    async with amqproxy.connect(tap.url) as mq:
        numbers = mq.proxy(Numbers, name=service, credit=1)
        busy = [aiter(numbers.count(FOR_EVER)) for _ in range(10)]  # which is all that it takes at once
        for stream in busy:
            assert await anext(stream) == 0
        queued = asyncio.ensure_future(anext(aiter(numbers.count(3))))
        async with asyncio.timeout(PATIENCE):
            await tap.passes(lambda message: message.method == PUBLISH and message.body == b'{"to":3}')
        queued.cancel()
        await asyncio.wait([queued])
        assert await mq.broadcast(service).who()  # behind the cancellation, which the worker has heard of then
        behind = asyncio.ensure_future(anext(aiter(numbers.count(3))))
        await busy.pop().aclose()  # type: ignore[attr-defined]  # it is a Stream
        assert await behind == 0
    assert [stream.cancels for stream in ledgers(tap.messages).values() if stream.sent == 0] == [1]


async def test_it_stops_when_we_are_gone(amqp_url: str, node: asyncio.subprocess.Process, service: str) -> None:
    async with Relay.to(amqp_url) as relay, amqproxy.connect(relay.url) as mq:
        stream = aiter(mq.proxy(Numbers, name=service, credit=1000).count(FOR_EVER))
        assert await anext(stream) == 0
        relay.cut()
        await says(node, ENDED)
        with pytest.raises(amqproxy.ConnectionLost):
            while True:
                await anext(stream)


async def test_what_it_raises_is_told(node: asyncio.subprocess.Process, amqp_url: str, service: str) -> None:
    async with amqproxy.connect(amqp_url) as mq:
        with pytest.raises(amqproxy.RemoteError, match="an integer is needed") as caught:
            [number async for number in mq.proxy(service).count("ten")]
        assert (caught.value.code, caught.value.executed) == ("invalid_argument", "no")
        with pytest.raises(amqproxy.RemoteError, match="is not served here"):
            [number async for number in mq.proxy(service).squares(3)]


async def test_who_takes_no_stream_gets_an_array(node: asyncio.subprocess.Process, amqp_url: str, service: str) -> None:
    async with amqproxy.connect(amqp_url) as mq:
        assert await mq.proxy(service).count(4) == [0, 1, 2, 3]
        [answer] = await mq.broadcast(service).count(4)
        assert answer.value == [0, 1, 2, 3]


async def test_it_answers_broadcasts_beside_workers_of_ours(
    node: asyncio.subprocess.Process, amqp_url: str, service: str
) -> None:
    async with our_worker(amqp_url, service) as ours, amqproxy.connect(amqp_url) as mq:
        answers = mq.broadcast(Numbers, name=service).who()
        found = {answer.worker: answer.result() async for answer in answers}
    host = socket.gethostname()
    assert found == {name: name for name in (f"{host}.{node.pid}.node", f"{host}.{ours.pid}.1")}
