"""Queues that are full, that nobody serves, or that hold what nobody can serve."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from pamqp import commands

import amqproxy
from amqproxy.testing import RabbitMQ, rabbitmq
from tests.contract.raw import Raw
from tests.contract.test_dead_letters import _deep, dead, drop, eventually, letters, waiting
from tests.faults.nodes import policy
from tests.faults.script import Message, Scripted
from tests.faults.table import Row
from tests.patience import SLACK, until
from tests.processes import running


class Counter:
    """Counts what it runs."""

    def __init__(self) -> None:
        self.ran: list[Any] = []

    async def work(self, value: Any) -> Any:
        self.ran.append(value)
        if value == "bad":
            raise ValueError("no good")
        return value


async def declared(mq: amqproxy.Client, service: str, **options: Any) -> Counter:
    """A service whose only worker has gone; what it ran."""
    counter = Counter()
    async with mq.serve(counter, name=service, **options):
        pass
    return counter


@pytest.mark.fault("F13", "x-max-length of 1, a request waits, another comes")
async def test_a_full_queue_refuses(row: Row, mq: amqproxy.Client, service: str) -> None:
    counter = await declared(mq, service, max_length=1)
    first = asyncio.create_task(mq.proxy(service, confirm=True, timeout=20).work(1))
    await eventually(lambda: waiting(mq, service), 1)
    with row.sees(amqproxy.Overloaded, executed="no", within=1.0):
        await mq.proxy(service, confirm=True, timeout=20).work(2)
    with row.sees(amqproxy.Overloaded, executed="no", within=1.0):
        await mq.sender(service, timeout=20).work(3)
    async with mq.serve(counter, name=service, max_length=1):
        assert await first == 1
    assert counter.ran == [1]
    row.count()
    await drop(mq, service)


@pytest.mark.fault("F14", "x-max-length of 1 with drop-head: a second request drops the first")
async def test_a_full_queue_drops_the_oldest(row: Row, mq: amqproxy.Client, service: str) -> None:
    options: dict[str, Any] = {"max_length": 1, "overflow": "drop-head", "dead_letters": True}
    counter = await declared(mq, service, **options)
    first = asyncio.create_task(mq.proxy(service, timeout=0.5).work(1))
    await eventually(lambda: waiting(mq, service), 1)
    second = asyncio.create_task(mq.proxy(service, timeout=20).work(2))
    with row.sees(amqproxy.CallTimeout, executed="maybe", within=0.5 + 1):
        await first
    with row.sees("the answer to the second; the first is a dead letter (maxlen)", within=5.0):
        async with mq.serve(counter, name=service, **options):
            assert await second == 2
    [letter] = await letters(mq, service, 1)
    assert (letter.reason, counter.ran) == ("maxlen", [2])
    await drop(mq, service, f"{service}.dead")


@pytest.mark.fault("F17", "the last worker has gone, the queue is there")
async def test_a_queue_without_a_worker(row: Row, mq: amqproxy.Client, service: str) -> None:
    await declared(mq, service)
    nobody = f"nobody serves the queue '{service}' now"
    with row.sees(amqproxy.CallTimeout, executed="maybe", match=nobody, within=0.3 + 1):
        await mq.proxy(service, timeout=0.3).work(1)
    await eventually(lambda: waiting(mq, service), 0)
    await drop(mq, service)


@pytest.mark.fault("F18", "its time is over before a worker comes")
async def test_what_expired_is_not_run(row: Row, mq: amqproxy.Client, service: str) -> None:
    counter = await declared(mq, service)
    with row.sees(amqproxy.CallTimeout, executed="maybe", within=1.2):
        await mq.proxy(service, timeout=0.2).work(1)
    async with mq.serve(counter, name=service):
        assert await mq.proxy(service).work(2) == 2
    assert counter.ran == [2]
    row.count()
    await drop(mq, service)


@pytest.mark.fault("F19", "its time is over behind a request that has more")
async def test_what_expired_behind_another_is_not_run(row: Row, mq: amqproxy.Client, service: str) -> None:
    counter = await declared(mq, service)
    await mq.sender(service).work("patient")
    with row.sees(amqproxy.CallTimeout, executed="maybe", within=1.2):
        await mq.proxy(service, timeout=0.2).work("late")
    async with mq.serve(counter, name=service, concurrency=1):
        await until(lambda: counter.ran)
        assert await mq.proxy(service).work("next") == "next"
    assert counter.ran == ["patient", "next"]
    row.count()
    await drop(mq, service)


@pytest.mark.fault("F32", "consumer_timeout of 1 s, a handler that never ends")
async def test_a_request_that_is_kept_too_long_goes_to_another_run(row: Row, service: str) -> None:
    row.broker = "RabbitMQ"
    tries: list[bool] = []

    class Stuck:
        async def work(self) -> str:
            tries.append(amqproxy.current().redelivered)
            if not tries[-1]:
                await asyncio.Event().wait()
            return "done"

        async def ping(self) -> str:
            return "pong"

    with rabbitmq(config={"consumer_timeout": 1000}) as node:
        node.ctl("eval", "application:set_env(rabbit, channel_tick_interval, 500).")
        async with (
            amqproxy.connect(node.url) as mq,
            mq.serve(Stuck(), name=service, grace=0),
        ):
            with row.sees("the answer of the second run", within=15.0):
                assert await mq.proxy(service, timeout=20).work() == "done"
            row.count(duplicated=1)
            assert tries == [False, True]
            assert await mq.proxy(service).ping() == "pong"


@pytest.mark.long
@pytest.mark.fault("F32", "consumer_timeout of 1 s, two calls that run at most once: one runs for longer, one waits")
async def test_a_request_that_runs_at_most_once_is_not_run_again(row: Row, service: str) -> None:
    row.broker = "RabbitMQ"
    paid: list[int] = []
    open = asyncio.Event()

    class Till:
        @amqproxy.method(at_most_once=True)
        async def pay(self, number: int) -> int:
            paid.append(number)
            await open.wait()
            return number

    with rabbitmq(config={"consumer_timeout": 1000}) as node:
        node.ctl("eval", "application:set_env(rabbit, channel_tick_interval, 500).")
        async with (
            amqproxy.connect(node.url) as mq,
            mq.serve(Till(), name=f"{service}.1", grace=0),
            mq.serve(Till(), name=f"{service}.2", grace=0, concurrency=1),
        ):
            first, second = (mq.proxy(f"{service}.{number}", timeout=30) for number in (1, 2))
            runs, holds = asyncio.create_task(first.pay(1)), asyncio.create_task(second.pay(2))
            await until(lambda: sorted(paid) == [1, 2])
            with row.sees(amqproxy.RemoteError, executed="maybe", match="at most once", within=20.0):
                await second.pay(3)  # it waits for its turn, and is not acknowledged before that
            open.set()
            with row.sees("the answer of what ran for longer", within=2.0):
                assert await runs == 1
            assert sorted(paid) == [1, 2]
            row.count()
            holds.cancel()


@pytest.mark.parametrize("preset", [{"quorum": True}, {"dead_letters": True}], ids=["quorum", "classic"])
@pytest.mark.fault("F33", "a one-way request whose handler always raises")
async def test_what_always_fails_is_kept_and_runs_once(
    row: Row, mq: amqproxy.Client, service: str, preset: dict[str, Any]
) -> None:
    counter = Counter()
    async with mq.serve(counter, name=service, **preset):
        with row.sees("a dead letter with the reason, in amqproxy dead", within=3.0):
            await mq.sender(service).work("bad")
            [letter] = await letters(mq, service, 1)
        assert letter.text == "ValueError: no good"
        with row.sees(amqproxy.RemoteError, executed="yes", within=1.0):
            await mq.proxy(service).work("bad")
        assert counter.ran == ["bad", "bad"]
        row.count()
        assert await dead(mq, service).count() == 1
    await drop(mq, service, f"{service}.dead")


@pytest.mark.fault("F33", "a request that kills each worker that takes it, delivery_limit of 2")
async def test_what_kills_its_workers_ends(row: Row, amqp_url: str, service: str, tmp_path: Path) -> None:
    journal = tmp_path / "journal"
    worker = ("-m", "amqproxy", "serve", "faults.deadly:Deadly", "--name", service)
    async with amqproxy.connect(amqp_url) as mq:
        async with running(*worker, AMQPROXY_URL=amqp_url) as first:
            await first.says(f"serving {service}")
            await mq.sender(service).work(str(journal))
            row.begin()
            assert await first.ends() == -9
        for _ in range(2):
            async with running(*worker, AMQPROXY_URL=amqp_url) as next_one:
                assert await next_one.ends() == -9
        with row.sees("a dead letter (delivery_limit) after three runs", within=25.0, since_begin=True):
            [letter] = await letters(mq, service, 1)
        assert letter.reason == "delivery_limit"
        assert journal.read_text() == "ran\n" * 3
        async with running(*worker, AMQPROXY_URL=amqp_url) as last:
            await last.says(f"serving {service}")
            with row.sees("the answer to the next call", within=3.0):
                assert await mq.proxy(service).ping() == "pong"
        row.count()
        await drop(mq, service, f"{service}.dead")


@pytest.mark.fault("F33", "one-way requests that always fail, and no room among the dead letters")
async def test_dead_letters_wait_until_there_is_room(
    row: Row, rabbitmq_node: RabbitMQ, service: str, caplog: pytest.LogCaptureFixture
) -> None:
    counter, name = Counter(), f"{service}.dead"
    async with amqproxy.connect(rabbitmq_node.url) as mq, mq.serve(counter, name=service, dead_letters=True):
        sender = mq.sender(service)
        async with policy(rabbitmq_node, name, '{"max-length": 1, "overflow": "reject-publish"}'):
            with row.sees("an error in the worker's log: full, and how many wait", within=5.0):
                while f"requests cannot go to {name}" not in caplog.text:
                    await sender.work("bad")
                    await asyncio.sleep(0.05)  # a quorum queue goes on taking messages for a moment
            for _ in range(5):
                await sender.work("bad")
            with row.sees("the answers to other calls meanwhile", within=2.0):
                assert await mq.proxy(service).work("good") == "good"
            sent = counter.ran.count("bad")
            assert await waiting(mq, name) <= sent - 5  # the worker keeps the others
        with row.sees("all dead letters, when there is room", within=20.0):
            async with asyncio.timeout(20 * SLACK):
                while await waiting(mq, name) < sent:  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
        row.count()
    async with amqproxy.connect(rabbitmq_node.url) as mq:
        assert (await waiting(mq, service), await waiting(mq, name)) == (0, sent)
        await drop(mq, service, name)


@pytest.mark.parametrize("frame", ["text that is no UTF-8", "a table 40 deep"])
@pytest.mark.fault("F34", "properties that others relay and we do not read")
async def test_a_poison_frame_harms_nobody(row: Row, mq: amqproxy.Client, raw: Raw, service: str, frame: str) -> None:
    counter = Counter()
    async with mq.serve(counter, name=service, quorum=True) as worker:
        session = worker.session
        if frame == "a table 40 deep":
            raw.publish_encoded(service, b"[]", _deep(b"x"))
        else:
            raw.publish(service, b"[]", content_type=b"\xff\xfe", message_id=b"\xff" * 255)
        with row.sees("a dead letter, and the answers to other calls", within=3.0):
            [letter] = await letters(mq, service, 1)
            assert await asyncio.gather(*(mq.proxy(service).work(n) for n in range(20))) == list(range(20))
        assert letter.reason in ("rejected", "refused")
        assert worker.session is session
        row.count()
        assert await dead(mq, service).requeue(service) == (1, 0)  # once more, and once more dead
        await letters(mq, service, 1)
        assert worker.session is session
    await drop(mq, service, f"{service}.dead")


@pytest.mark.fault("F35", "a request over max_body_bytes, of the caller and of the worker alone")
async def test_a_body_that_is_too_large(row: Row, amqp_url: str, mq: amqproxy.Client, service: str) -> None:
    counter = Counter()
    async with amqproxy.connect(amqp_url, max_body_bytes=10_000) as small:
        with row.sees(amqproxy.MessageTooLarge, executed="no", within=1.0):
            await small.proxy(service).work("x" * 20_000)
        async with small.serve(counter, name=service, dead_letters=True):
            with row.sees(amqproxy.RemoteError, executed="no", match="max_body_bytes is 10000", within=2.0):
                await mq.proxy(service).work("x" * 20_000)
            await mq.sender(service).work("y" * 20_000)
            [letter] = await letters(mq, service, 1)
            assert (letter.reason, letter.size) == ("rejected", 20_004)
            assert await mq.proxy(service).work(1) == 1
    assert counter.ran == [1]
    row.count()
    await drop(mq, service, f"{service}.dead")


@pytest.mark.fault("F36", "bodies of no byte to ten frames, and just around one")
async def test_bodies_larger_than_a_frame(row: Row, mq: amqproxy.Client, service: str) -> None:
    frame = 131072
    async with mq.serve(Counter(), name=service, auto_delete=True):
        proxy = mq.proxy(service)
        with row.sees("the answers", within=10.0):
            for size in (0, 1, *(frame - 8 - 4 + n for n in range(-3, 4)), 2 * frame, 10 * frame + 1):
                text = "x" * size
                assert await proxy.work(text) == text


@pytest.mark.parametrize(
    ("properties", "code"),
    [
        ({"content_type": b"application/x-python-pickle"}, "unimplemented"),
        ({"content_type": b"{service}.work", "content_encoding": b"pickle"}, "unimplemented"),
        ({"content_encoding": b"json"}, "invalid_argument"),
    ],
)
@pytest.mark.fault("F37", "a content-type or content-encoding that nobody knows, or none")
async def test_properties_that_nobody_knows(
    row: Row, mq: amqproxy.Client, raw: Raw, service: str, properties: dict[str, bytes], code: str
) -> None:
    named: dict[str, Any] = {key: value.replace(b"{service}", service.encode()) for key, value in properties.items()}
    counter = Counter()
    async with mq.serve(counter, name=service, dead_letters=True):
        with row.sees(f"a failure ({code}, executed no)", within=2.0):
            answer = await raw.ask(service, b"[1]", **named)
        assert f'"code":"{code}"'.encode() in answer.body and b'"executed":"no"' in answer.body
        raw.publish(service, b"[1]", **named)
        [letter] = await letters(mq, service, 1)
        assert letter.reason == "refused"
        assert await waiting(mq, service) == 0
    assert counter.ran == []
    row.count()
    await drop(mq, service, f"{service}.dead")


@pytest.mark.fault("F59", "basic.nack for each message")
async def test_a_broker_that_refuses(row: Row, service: str) -> None:
    row.broker = "scripted"
    async with Scripted.peer() as peer, amqproxy.connect(peer.url) as mq:

        def nack(message: Message) -> None:
            peer.send(message.channel, commands.Basic.Nack(message.number))

        peer.on_message = nack
        with row.sees(amqproxy.Overloaded, executed="no", within=1.0):
            await mq.sender(service).work(1)
        with row.sees(amqproxy.Overloaded, executed="no", within=1.0):
            await mq.proxy(service, confirm=True).work(1)
