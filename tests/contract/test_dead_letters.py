"""Requests that cannot be served: they end among the dead letters with the reason, once, and never go round."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

import amqproxy
from amqproxy import deadqueue, parking, server
from amqproxy.deadletter import DeadLetter
from amqproxy.deadqueue import DeadQueue, Visit, everything
from amqproxy.server import Worker
from tests.contract.raw import Raw
from tests.contract.test_links import cut
from tests.faults.network import Relay
from tests.patience import until


class Mailer:
    def __init__(self) -> None:
        self.sent: list[str] = []
        self.sends: set[str] = set()

    async def send(self, to: str) -> str:
        if "@" not in to and to not in self.sends:
            raise ValueError(f"{to} is no address")
        self.sent.append(to)
        return to


@pytest.fixture(params=["quorum", "classic"])
def preset(request: pytest.FixtureRequest) -> dict[str, Any]:
    return {"quorum": True} if request.param == "quorum" else {"dead_letters": True}


async def drop(mq: amqproxy.Client, *queues: str) -> None:
    channel = await (await mq._live_connection().link())._channel()
    for queue in queues:
        await channel.queue_delete(queue)


@asynccontextmanager
async def mailer(mq: amqproxy.Client, service: str, **options: Any) -> AsyncIterator[tuple[Mailer, Worker]]:
    target = Mailer()
    try:
        async with mq.serve(target, name=service, **options) as worker:
            yield target, worker
    finally:
        await drop(mq, service, f"{service}.dead")


def dead(mq: amqproxy.Client, service: str) -> DeadQueue:
    return DeadQueue(mq._live_connection(), service)


async def letters(mq: amqproxy.Client, service: str, count: int) -> list[DeadLetter]:
    """The dead letters, when there are so many."""
    await eventually(lambda: waiting(mq, f"{service}.dead"), count)
    return await dead(mq, service).look(1000)


async def eventually(value: Callable[[], Awaitable[Any]], expected: Any) -> None:
    found: Any = None
    try:
        async with asyncio.timeout(10):
            while (found := await value()) != expected:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
    except TimeoutError:
        pytest.fail(f"{found} and not {expected} after 10 s")


async def waiting(mq: amqproxy.Client, queue: str) -> int:
    counts = await (await mq._live_connection().link()).queue_counts(queue)
    return -1 if counts is None else counts[0]


async def test_a_one_way_request_that_fails_is_kept_with_the_reason(
    mq: amqproxy.Client, service: str, preset: dict[str, Any]
) -> None:
    async with mailer(mq, service, **preset) as (_, worker):
        await mq.sender(service, headers={"tenant": "blue"}, expires=60).send("ann")
        [letter] = await letters(mq, service, 1)
        assert (letter.reason, letter.text) == ("failed", "ValueError: ann is no address")
        assert (letter.queue, letter.worker, letter.is_call) == (service, worker.name, False)
        assert letter.properties.headers is not None
        assert letter.properties.headers["tenant"] == "blue"
        assert letter.properties.expiration is None
        assert (letter.body, letter.content_type) == (b'["ann"]', f"{service}.send")
        assert letter.died is not None
        assert worker.answered == 1
        await worker.stop()
        assert await waiting(mq, service) == 0


async def test_a_call_that_fails_is_told_and_not_kept(
    mq: amqproxy.Client, service: str, preset: dict[str, Any]
) -> None:
    async with mailer(mq, service, **preset):
        with pytest.raises(ValueError, match="ann is no address"):
            await mq.proxy(service).send("ann")
        assert await dead(mq, service).look(10) == []


@pytest.mark.parametrize(
    ("properties", "body", "text"),
    [
        ({"content_type": b"{service}.send"}, b"\xff{", "the request is no JSON"),
        ({"content_type": b"{service}.send"}, b'{"to": 1}', "Expected `str`, got `int`"),
        ({"content_type": b"{service}.fly"}, b"[]", "does not serve '{service}.fly'"),
        ({"content_type": b"{service}.send", "content_encoding": b"pickle"}, b"[]", "'pickle' is not known here"),
        ({}, b"[]", "to {service} has no content-type, which names what is called; it serves {service}.send"),
    ],
)
async def test_what_no_handler_can_run_is_kept_with_the_reason(
    mq: amqproxy.Client,
    raw: Raw,
    service: str,
    preset: dict[str, Any],
    properties: dict[str, Any],
    body: bytes,
    text: str,
) -> None:
    named = {name: value.replace(b"{service}", service.encode()) for name, value in properties.items()}
    async with mailer(mq, service, **preset) as (target, worker):
        raw.publish(service, body, **named)
        [letter] = await letters(mq, service, 1)
        assert letter.reason == "refused"
        assert text.format(service=service) in letter.text or "JSON" in text
        assert letter.body == body
        await mq.sender(service).send("ann@example.com")
        await until(lambda: target.sent)
        await worker.stop()
        assert await waiting(mq, service) == 0


async def test_what_cannot_be_read_is_moved_by_the_broker(
    mq: amqproxy.Client, raw: Raw, service: str, preset: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    """A table deeper than we read: the broker relays it."""
    nested: Any = 1
    for _ in range(40):
        nested = {"a": nested}
    async with mailer(mq, service, **preset):
        raw.publish_encoded(service, b"[]", _deep(f"{service}.fly".encode()))
        [letter] = await letters(mq, service, 1)
        assert letter.reason == "rejected"
        assert letter.text.startswith("its properties do not decode")
    says = f"{service}: a request goes to the dead letters as it is, for its properties do not decode: ContractError: "
    assert says in caplog.text


def _deep(content_type: bytes) -> bytes:
    table = b"\x01aI\x00\x00\x00\x01"
    for _ in range(40):
        table = b"\x01aF" + len(table).to_bytes(4, "big") + table
    return (
        (0xA000).to_bytes(2, "big") + bytes((len(content_type),)) + content_type + len(table).to_bytes(4, "big") + table
    )


async def test_one_that_is_too_large_is_kept_whole(
    amqp_url: str, mq: amqproxy.Client, service: str, preset: dict[str, Any]
) -> None:
    async with amqproxy.connect(amqp_url, max_body_bytes=1000) as small:
        worker = small.serve(Mailer(), name=service, **preset)
        await worker.start()
        await mq.sender(service).send("x" * 2000)
        [letter] = await letters(mq, service, 1)
        assert (letter.reason, letter.size) == ("rejected", 2004)
        [seen] = await DeadQueue(small._live_connection(), service).look(10)
        assert (seen.body, seen.size) == (None, 2004)
        assert await DeadQueue(small._live_connection(), service).requeue(service) == (0, 1)
        await worker.stop()
    await drop(mq, service, f"{service}.dead")


async def test_a_request_that_comes_back_too_often_is_dead_and_never_goes_round(
    mq: amqproxy.Client, amqp_url: str, service: str
) -> None:
    """Each worker that takes it gives it back: as one does that dies of it."""
    begun = 0

    class Deadly:
        async def work(self) -> None:
            nonlocal begun
            begun += 1
            entered.set()
            await asyncio.Event().wait()

    async with mq.serve(Mailer(), name=service, quorum=True, delivery_limit=2):
        pass
    for _ in range(3):
        entered = asyncio.Event()
        worker = mq.serve(Deadly(), name=service, quorum=True, delivery_limit=2)
        await worker.start()
        if not begun:
            await mq.sender(service).work()
        await asyncio.wait_for(entered.wait(), 10)
        await worker.stop(0)
    [letter] = await letters(mq, service, 1)
    assert begun == 3
    assert (letter.reason, letter.queue) == ("delivery_limit", service)
    assert await waiting(mq, service) == 0
    await drop(mq, service, f"{service}.dead")


async def test_what_expires_in_the_queue_is_kept_and_told_from_the_rest(mq: amqproxy.Client, service: str) -> None:
    async with mq.serve(Mailer(), name=service, quorum=True):
        pass
    await mq.sender(service, expires=0.1).send("late@example.com")
    with pytest.raises(amqproxy.CallTimeout):
        await mq.proxy(service, timeout=0.1).send("later@example.com")
    found = await letters(mq, service, 2)
    assert [(letter.reason, letter.is_call) for letter in found] == [("expired", False), ("expired", True)]
    await drop(mq, service, f"{service}.dead")


async def test_looking_leaves_all_in_place(mq: amqproxy.Client, service: str, preset: dict[str, Any]) -> None:
    async with mailer(mq, service, **preset):
        for n in range(5):
            await mq.sender(service).send(f"ann{n}")
            await letters(mq, service, n + 1)
        for _ in range(25):  # more often than RabbitMQ 4 lets a message come back unless told otherwise
            found = await dead(mq, service).look(3)
            assert [letter.body for letter in found] == [b'["ann0"]', b'["ann1"]', b'["ann2"]']
            assert [letter.place for letter in found] == [1, 2, 3]
        light = await dead(mq, service).look(3, bodies=False)
        assert [(letter.id, letter.body, letter.size) for letter in light] == [(each.id, None, 8) for each in found]
        [last] = await dead(mq, service).look(10, lambda letter: letter.body == b'["ann4"]')
        assert last.place == 5
        await eventually(dead(mq, service).count, 5)


async def test_what_is_given_back_is_tried_again_as_if_it_had_not_died(
    mq: amqproxy.Client, service: str, preset: dict[str, Any]
) -> None:
    async with mailer(mq, service, **preset) as (target, worker):
        await mq.sender(service, headers={"tenant": "blue"}).send("ann")
        [letter] = await letters(mq, service, 1)
        await worker.stop()
        assert await dead(mq, service).requeue(service) == (1, 0)
        assert await dead(mq, service).count() == 0
        headers = []

        class Mended:
            async def send(self, to: str) -> None:
                headers.append((dict(amqproxy.current().headers), amqproxy.current().message_id))

        async with mq.serve(Mended(), name=service, **preset):
            await until(lambda: headers)
        assert headers == [({"tenant": "blue"}, letter.id)]
        assert target.sent == []


async def test_workers_that_deduplicate_run_it_again_under_another_id(mq: amqproxy.Client, service: str) -> None:
    async with mailer(mq, service, quorum=True, deduplicate=100) as (target, _):
        await mq.sender(service).send("ann")
        await letters(mq, service, 1)
        target.sends = {"ann"}
        assert await dead(mq, service).requeue(service) == (1, 0)
        await letters(mq, service, 1)  # as it was remembered
        assert target.sent == []
        assert await dead(mq, service).requeue(service, new_ids=True) == (1, 0)
        await until(lambda: target.sent == ["ann"])


async def test_what_is_to_run_once_is_kept_when_it_failed_or_came_again(mq: amqproxy.Client, service: str) -> None:
    class Once:
        @amqproxy.method(at_most_once=True)
        async def send(self, to: str) -> None:
            raise ValueError(to)

    async with mq.serve(Once(), name=service, quorum=True):
        await mq.sender(service).send("ann")
        [letter] = await letters(mq, service, 1)
        assert (letter.reason, letter.text) == ("failed", "ValueError: ann")
        assert await waiting(mq, service) == 0
    channel = await (await mq._live_connection().link())._channel()
    await channel.queue_purge(f"{service}.dead")
    await mq.sender(service).send("bob")
    got = await channel.basic_get(service)
    tag = getattr(got.delivery, "delivery_tag", None)
    assert tag is not None
    await channel.basic_nack(tag, requeue=True)
    async with mq.serve(Once(), name=service, quorum=True):
        [letter] = await letters(mq, service, 1)
        assert letter.reason == "in_doubt" and "ValueError" not in letter.text
    await drop(mq, service, f"{service}.dead")


async def test_what_came_again_and_cannot_be_run_may_have_run_before(mq: amqproxy.Client, service: str) -> None:
    class Mail:
        async def send(self, to: str) -> None:
            raise ValueError(to)

    async with mq.serve(Mail(), name=service, quorum=True):
        pass
    await mq.sender(service).write("bob")  # a method that this worker does not have
    channel = await (await mq._live_connection().link())._channel()
    got = await channel.basic_get(service)
    tag = getattr(got.delivery, "delivery_tag", None)
    assert tag is not None
    await channel.basic_nack(tag, requeue=True)
    async with mq.serve(Mail(), name=service, quorum=True):
        [letter] = await letters(mq, service, 1)
        assert (letter.reason, letter.text.partition(":")[0]) == ("in_doubt", "ContractError")
    await drop(mq, service, f"{service}.dead")


async def test_many_are_given_back_and_none_is_lost(mq: amqproxy.Client, service: str, preset: dict[str, Any]) -> None:
    async with mailer(mq, service, **preset) as (_, worker):
        sender = mq.sender(service)
        await asyncio.gather(*(sender.send(f"ann{n}") for n in range(1200)))
        await eventually(dead(mq, service).count, 1200)
        await worker.stop()
        assert await dead(mq, service).requeue(service, limit=100) == (100, 0)
        await eventually(dead(mq, service).count, 1100)
        some = await dead(mq, service).requeue(service, None, lambda letter: letter.body == b'["ann700"]')
        assert some == (1, 0)
        assert await dead(mq, service).requeue(service, wanted=everything) == (1099, 0)
        assert (await waiting(mq, service), await dead(mq, service).count()) == (1200, 0)


async def test_what_was_given_back_or_dropped_is_dead_no_more(
    mq: amqproxy.Client, service: str, preset: dict[str, Any]
) -> None:
    async with mailer(mq, service, **preset) as (_, worker):
        await asyncio.gather(*(mq.sender(service).send(f"ann{n}") for n in range(600)))
        await eventually(dead(mq, service).count, 600)
        await worker.stop()
        assert await dead(mq, service).requeue(service, None, lambda letter: letter.place % 2 == 1) == (300, 0)
        assert await dead(mq, service).purge(lambda letter: letter.place % 2 == 1) == 150
        assert (await waiting(mq, service), await dead(mq, service).count()) == (300, 150)


async def test_few_are_in_memory_at_once_and_those_that_stay_keep_none_away(
    mq: amqproxy.Client, service: str, preset: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    publish, most = Visit.publish, 0

    def counted(visit: Visit, *arguments: Any) -> None:
        nonlocal most
        publish(visit, *arguments)
        most = max(most, len(visit._moving))

    monkeypatch.setattr(Visit, "publish", counted)
    monkeypatch.setattr(deadqueue, "AT_ONCE", 20)
    async with mailer(mq, service, **preset) as (_, worker):
        await asyncio.gather(*(mq.sender(service).send(f"ann{n}") for n in range(300)))
        await eventually(dead(mq, service).count, 300)
        await worker.stop()
        for place, count in ((200, 100), (50, 150)):
            wanted = await dead(mq, service).requeue(service, None, lambda letter: letter.place > place)  # noqa: B023
            assert wanted == (count, 0)
        assert 10 <= most <= 30
        assert (await waiting(mq, service), await dead(mq, service).count()) == (250, 50)


async def test_what_finds_no_queue_or_a_full_one_stays_dead(
    mq: amqproxy.Client, service: str, preset: dict[str, Any]
) -> None:
    async with mailer(mq, service, **preset):
        for n in range(3):
            await mq.sender(service).send(f"ann{n}")
        await letters(mq, service, 3)
        with pytest.raises(amqproxy.Unroutable, match=r"they are dead letters still$") as nobody:
            await dead(mq, service).requeue(f"{service}.nowhere")
        assert nobody.value.executed == "no"
        await eventually(dead(mq, service).count, 3)
        full = f"{service}.full"
        channel = await (await mq._live_connection().link())._channel()
        await channel.queue_declare(full, durable=True, arguments={"x-max-length": 1, "x-overflow": "reject-publish"})
        with pytest.raises(amqproxy.Overloaded, match="what it did not take is a dead letter still") as some:
            await dead(mq, service).requeue(full)
        assert str(some.value).endswith(f"; 1 had gone back to '{full}'")
        assert some.value.executed == "maybe"

        async def both() -> int:
            return await waiting(mq, full) + await dead(mq, service).count()

        await eventually(both, 3)
        await channel.queue_delete(full)


async def test_some_are_dropped_or_all(mq: amqproxy.Client, service: str, preset: dict[str, Any]) -> None:
    async with mailer(mq, service, **preset):
        for n in range(4):
            await mq.sender(service).send(f"ann{n}")
            await letters(mq, service, n + 1)
        assert await dead(mq, service).purge(lambda letter: letter.place == 2) == 1
        await eventually(dead(mq, service).count, 3)
        assert [letter.body for letter in await dead(mq, service).look(9)] == [b'["ann0"]', b'["ann2"]', b'["ann3"]']
        assert await dead(mq, service).purge() == 3
        assert await dead(mq, service).look(9) == []


async def test_without_the_queue_that_is_said(mq: amqproxy.Client, service: str) -> None:
    for visit in (dead(mq, service).look(1), dead(mq, service).purge(), dead(mq, service).requeue(service)):
        with pytest.raises(
            amqproxy.Unroutable, match=r"workers make it that serve with quorum=True or dead_letters=True"
        ):
            await visit


async def test_dead_letters_wait_while_their_queue_is_gone(
    mq: amqproxy.Client, raw: Raw, service: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing is lost, and nothing goes round: the request stays with its worker until there is room."""
    monkeypatch.setattr(parking, "FIRST_PAUSE_SECONDS", 0.05)
    channel = await (await mq._live_connection().link())._channel()
    async with mailer(mq, service, dead_letters=True) as (target, worker):
        await channel.queue_delete(f"{service}.dead")
        await mq.sender(service).send("ann")  # the queue is made anew
        await letters(mq, service, 1)
        await channel.queue_delete(f"{service}.dead")
        await mq.sender(service).send("bob")  # it is gone since the channel was opened
        [letter] = await letters(mq, service, 1)
        assert letter.body == b'["bob"]'
        assert worker.answered == 2
        says = (
            f"requests cannot go to {service}.dead, and 1 wait, not acknowledged: it was deleted, and is made again; "
        )
        assert says in caplog.text
        await mq.proxy(service).send("ann@example.com")
        assert target.sent == ["ann@example.com"]


async def test_a_worker_that_stops_leaves_what_failed_in_one_queue_and_not_in_both(
    mq: amqproxy.Client, service: str, preset: dict[str, Any]
) -> None:
    begun, open = asyncio.Semaphore(0), asyncio.Event()

    class Failing:
        async def send(self, number: int) -> None:
            begun.release()
            await open.wait()
            raise ValueError("no")

    async with mq.serve(Failing(), name=service, **preset) as worker:
        sender = mq.sender(service)
        await asyncio.gather(*map(sender.send, range(20)))
        for _ in range(20):
            await asyncio.wait_for(begun.acquire(), 10)
        stopping = asyncio.ensure_future(worker.stop())
        await asyncio.sleep(0)
        open.set()
        await stopping
    assert (await waiting(mq, service), await waiting(mq, f"{service}.dead")) == (0, 20)
    await drop(mq, service, f"{service}.dead")


async def test_a_queue_of_another_kind_is_told_of(mq: amqproxy.Client, service: str) -> None:
    async with mq.serve(Mailer(), name=service):
        with pytest.raises(amqproxy.TopologyConflict, match=r"inequivalent arg 'x-(queue-type|dead-letter-exchange)'"):
            await mq.serve(Mailer(), name=service, quorum=True).start()
    await drop(mq, service, f"{service}.dead")


@pytest.mark.parametrize("kept", [True, False])
async def test_what_is_too_large_to_be_read_is_logged_with_where_it_goes(
    amqp_url: str, mq: amqproxy.Client, service: str, caplog: pytest.LogCaptureFixture, kept: bool
) -> None:
    async with (
        amqproxy.connect(amqp_url, max_body_bytes=100) as small,
        small.serve(Mailer(), name=service, dead_letters=kept, arguments={"x-expires": 60_000}),
    ):
        await mq.sender(service).send("x" * 100)
        await mq.proxy(service).send("ann@example.com")
    told = f"{service}: the request has 104 bytes, the worker's max_body_bytes is 100"
    if kept:
        assert re.search(rf"{service}: rejected {service}\.send \(message-id [\w-]+\): {told}; it goes to", caplog.text)
        await drop(mq, service, f"{service}.dead")
    else:
        assert f"MessageTooLarge: {told} (executed: no); it is not run again" in caplog.text


class Till:
    """Its requests are acknowledged before they run."""

    def __init__(self) -> None:
        self.entered = asyncio.Event()
        self.open = asyncio.Event()

    @amqproxy.method(at_most_once=True)
    async def pay(self, amount: int) -> None:
        self.entered.set()
        await self.open.wait()
        raise ValueError(f"{amount} is too much")


async def test_what_was_acknowledged_already_outlives_the_link_on_its_way(amqp_url: str, service: str) -> None:
    """The worker has the only copy: the handler fails when the link that the request came by is gone."""
    till = Till()
    async with amqproxy.connect(amqp_url) as mq, amqproxy.connect(amqp_url) as server:
        try:
            async with server.serve(till, name=service, dead_letters=True) as worker:
                await mq.sender(Till, name=service).pay(7)
                await till.entered.wait()
                before = worker.session
                cut(server)
                till.open.set()
                await until(lambda: not worker.running)
                [letter] = await letters(mq, service, 1)
                assert letter.text == "ValueError: 7 is too much"
                assert letter.body == b'{"amount":7}'
                assert worker.session is not before
                await until(lambda: not worker.loose._count)
                assert await waiting(mq, service) == 0
        finally:
            await drop(mq, service, f"{service}.dead")


async def test_what_fails_when_the_next_link_is_there_goes_by_that(amqp_url: str, service: str) -> None:
    till = Till()
    async with amqproxy.connect(amqp_url) as mq, amqproxy.connect(amqp_url) as server:
        try:
            async with server.serve(till, name=service, dead_letters=True) as worker:
                await mq.sender(Till, name=service).pay(7)
                await till.entered.wait()
                before = worker.session
                cut(server)
                await until(lambda: worker.session is not before and worker.loose.heir is not None, within=20)
                till.open.set()
                assert [letter.body for letter in await letters(mq, service, 1)] == [b'{"amount":7}']
                await until(lambda: not worker.loose._count)
        finally:
            await drop(mq, service, f"{service}.dead")


async def test_no_more_than_so_many_are_kept_without_a_copy(
    mq: amqproxy.Client, service: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(parking, "MOST_LOOSE", 0)
    till = Till()
    till.open.set()
    try:
        async with mq.serve(till, name=service, dead_letters=True):
            await mq.sender(Till, name=service).pay(7)
            await until(lambda: "a request is lost" in caplog.text)
            assert "7 is too much" in caplog.text
            assert await waiting(mq, f"{service}.dead") == 0
    finally:
        await drop(mq, service, f"{service}.dead")


async def test_a_worker_that_stops_while_its_link_is_made_again_puts_there_what_it_alone_has(
    amqp_url: str, service: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "CLOSE_SECONDS", 30)
    async with stopping(amqp_url, service) as (mq, relay, worker):
        stop = asyncio.create_task(worker.stop())
        tried = relay.connections
        await until(lambda: relay.connections > tried or stop.done(), within=20)
        assert not stop.done()
        relay.refuses = False
        await stop
        assert [letter.body for letter in await letters(mq, service, 1)] == [b'{"amount":7}']
        assert not worker.loose._count


async def test_what_a_worker_that_stops_cannot_put_there_is_told(
    amqp_url: str, service: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(server, "CLOSE_SECONDS", 0.2)
    async with stopping(amqp_url, service) as (mq, _, worker):
        await worker.stop()
        assert f"there were requests on their way to {service}.dead when" in caplog.text
        assert await waiting(mq, f"{service}.dead") == 0


@asynccontextmanager
async def stopping(amqp_url: str, service: str) -> AsyncIterator[tuple[amqproxy.Client, Relay, Worker]]:
    """A worker that has lost its link, and has the only copy of a request that failed then; no other link comes."""
    till = Till()
    async with amqproxy.connect(amqp_url) as mq, Relay.to(amqp_url) as relay, amqproxy.connect(relay.url) as behind:
        try:
            worker = behind.serve(till, name=service, dead_letters=True)
            await worker.start()
            await mq.sender(Till, name=service).pay(7)
            await till.entered.wait()
            relay.refuses = True
            relay.reset()
            await until(lambda: worker.session is not None and not worker.session.alive)
            till.open.set()
            await until(lambda: not worker.running)
            yield mq, relay, worker
        finally:
            await drop(mq, service, f"{service}.dead")


async def test_a_worker_that_stops_while_its_channel_is_opened_again_puts_there_what_it_alone_has(
    mq: amqproxy.Client, service: str
) -> None:
    till = Till()
    try:
        worker = mq.serve(till, name=service, dead_letters=True)
        await worker.start()
        await mq.sender(Till, name=service).pay(7)
        await till.entered.wait()
        session = worker.session
        assert session is not None and session.replies.parking is not None
        await session._opened._channel.close()
        async with asyncio.timeout(10):
            while not session.replies.parking._closed:  # noqa: ASYNC110  # in that turn there is no other session yet
                await asyncio.sleep(0)
        assert worker.session is session
        till.open.set()
        await worker.stop()
        assert [letter.body for letter in await letters(mq, service, 1)] == [b'{"amount":7}']
        assert not worker.loose._count
    finally:
        await drop(mq, service, f"{service}.dead")
