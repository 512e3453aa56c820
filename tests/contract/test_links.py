"""Links that break, and brokers that are not there: named errors at once, and everything as before afterwards."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import time
from collections.abc import AsyncIterator, Sized
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest

import amqproxy
from amqproxy.cli.failure import described
from amqproxy.lane import Lane
from amqproxy.properties import Properties
from amqproxy.server import Worker
from amqproxy.testing import BrokerThread, RabbitMQ
from tests.contract.test_deadlines import Gate, gate
from tests.patience import until


def cut(client: amqproxy.Client) -> None:
    """End the client's connection as a fallen network does: without a word."""
    link = client._live_connection().current_link
    assert link is not None
    link._protocol.abort()


SENT_BEFORE = r"\(it had been sent before, and it may have run\)"


@asynccontextmanager
async def two(url: str) -> AsyncIterator[tuple[amqproxy.Client, amqproxy.Client]]:
    async with amqproxy.connect(url) as caller, amqproxy.connect(url) as server:
        yield caller, server


async def test_a_call_that_is_out_when_the_link_breaks_fails_at_once(amqp_url: str, service: str) -> None:
    async with two(amqp_url) as (mq, server), gate(server, service) as (handler, _):
        proxy = mq.proxy(Gate, name=service)
        assert await proxy.ping() == "pong"
        call = asyncio.create_task(proxy.wait(1))
        await handler.entered.acquire()
        began = time.monotonic()
        cut(mq)
        with pytest.raises(amqproxy.ConnectionLost, match="broke") as caught:
            await call
        assert time.monotonic() - began < 1
        assert isinstance(caught.value, ConnectionError)
        assert caught.value.executed == "maybe"
        assert await proxy.ping() == "pong"


async def test_an_idle_proxy_does_not_notice(amqp_url: str, service: str) -> None:
    async with two(amqp_url) as (mq, server), gate(server, service):
        proxy = mq.proxy(Gate, name=service)
        for _ in range(3):
            assert await proxy.ping() == "pong"
            cut(mq)
        assert await proxy.ping() == "pong"


async def test_an_idempotent_call_is_sent_again_under_its_own_id(amqp_url: str, service: str) -> None:
    class Names:
        def __init__(self) -> None:
            self.ids: list[str | None] = []
            self.entered = asyncio.Semaphore(0)
            self.open = asyncio.Event()

        @amqproxy.method(idempotent=True)
        async def name(self) -> int:
            self.ids.append(amqproxy.current().message_id)
            self.entered.release()
            await self.open.wait()
            return len(self.ids)

    names = Names()
    async with two(amqp_url) as (mq, server), server.serve(names, name=service, auto_delete=True):
        call = asyncio.create_task(mq.proxy(Names, name=service).name())
        await names.entered.acquire()
        cut(mq)
        await names.entered.acquire()
        names.open.set()
        assert await call == 2
        assert names.ids[0] == names.ids[1] is not None


@pytest.mark.parametrize("options", [{}, {"heartbeat": 1.0}, {"retry": 3}, {"hedge": 60.0}], ids=str)
async def test_what_ran_before_its_link_broke_is_never_said_not_to_have_run(
    amqp_url: str, service: str, options: dict[str, Any]
) -> None:
    class Once:
        @amqproxy.method(idempotent=True)
        async def run(self) -> None:
            entered.set()
            await asyncio.Event().wait()

    for what_follows in ("no queue", "no connection"):
        entered = asyncio.Event()
        async with two(amqp_url) as (mq, server):
            worker = server.serve(Once(), name=service, auto_delete=True, grace=0)
            await worker.start()
            call = asyncio.create_task(mq.proxy(Once, name=service, **options).run())
            await entered.wait()
            if what_follows == "no queue":
                await worker.stop()
                cut(mq)
                with pytest.raises(amqproxy.Unroutable, match=SENT_BEFORE) as unroutable:
                    await call
                assert unroutable.value.executed == "maybe"
            else:
                await mq.close()
                with pytest.raises(amqproxy.ConnectionLost) as lost:
                    await call
                assert lost.value.executed == "maybe"


async def test_a_worker_whose_link_breaks_serves_again_and_what_it_ran_is_run_again(
    amqp_url: str, service: str
) -> None:
    class Counts:
        def __init__(self) -> None:
            self.redelivered: list[bool] = []
            self.entered = asyncio.Semaphore(0)
            self.open = asyncio.Event()

        async def count(self) -> int:
            self.redelivered.append(amqproxy.current().redelivered)
            self.entered.release()
            await self.open.wait()
            return len(self.redelivered)

    counts = Counts()
    async with two(amqp_url) as (mq, server), server.serve(counts, name=service, durable=True) as worker:
        call = asyncio.create_task(mq.proxy(Counts, name=service).count())
        await counts.entered.acquire()
        cut(server)
        await counts.entered.acquire()
        counts.open.set()
        assert await call == 2
        assert counts.redelivered == [False, True]
        await delete_queue(server, service)
        assert worker.stopping is False


async def delete_queue(client: amqproxy.Client, name: str) -> None:
    channel = await (await client._live_connection().link())._channel()
    await channel.queue_delete(name)
    await channel.close()


async def until_it_serves(proxy: Any) -> None:
    """Wait for a worker that is on its way back; until then the broker gives calls back, or is not there."""
    async with asyncio.timeout(15):
        while True:
            with contextlib.suppress(amqproxy.Unroutable, amqproxy.ConnectionLost):
                assert await proxy.ping() == "pong"
                return
            await asyncio.sleep(0.01)


async def test_a_queue_that_is_deleted_under_its_workers_comes_back(mq: amqproxy.Client, service: str) -> None:
    async with gate(mq, service) as (handler, proxy):
        call = asyncio.create_task(proxy.wait(1))
        await handler.entered.acquire()
        await delete_queue(mq, service)

        await until_it_serves(proxy)
        handler.open.set()
        assert await call == 1  # what ran meanwhile was answered all the same


async def test_a_reply_queue_that_is_deleted_fails_its_calls_and_is_replaced(mq: amqproxy.Client, service: str) -> None:
    async with gate(mq, service) as (handler, proxy):
        call = asyncio.create_task(proxy.wait(1))
        await handler.entered.acquire()
        await delete_queue(mq, proxy.ping.line.reply_to.decode())
        with pytest.raises(amqproxy.ConnectionLost, match="reply queue was deleted"):
            await call
        assert await proxy.ping() == "pong"


async def close_by_permission(mq: amqproxy.Client, lane: Lane, name: str) -> None:
    """Publish to an exchange that is for brokers alone."""
    channel = await (await mq._live_connection().link())._channel()
    await channel.exchange_declare(name, exchange_type="fanout", internal=True, auto_delete=True)
    lane.publish(lane.destination(name.encode(), b""), Properties().encode(), b"")


async def close_by_a_lie(mq: amqproxy.Client, lane: Lane, name: str) -> None:
    """Publish in the name of somebody else."""
    lane.publish(lane.destination(b"", name.encode()), Properties(user_id=b"somebody").encode(), b"")


CLOSED = "the broker closed its channel, because of this call or of another on it: .*"
ONCE = ", and is not sent again without idempotent=True"


@pytest.mark.parametrize("way", ["call", "conversation", "batch"])
@pytest.mark.parametrize(
    ("close", "kind", "says"),
    [
        (close_by_permission, amqproxy.AccessRefused, f"{CLOSED}ACCESS_REFUSED.*; it may have run$"),
        (close_by_a_lie, amqproxy.ConnectionLost, f"{CLOSED}PRECONDITION_FAILED.*; it may have run{ONCE}$"),
    ],
)
async def test_a_call_whose_channel_is_closed_may_have_run_and_is_not_blamed_for_that(
    mq: amqproxy.Client, service: str, close: Any, kind: type[Any], says: str, way: str
) -> None:
    async with gate(mq, service) as (handler, proxy), mq.batch(Gate, name=service) as b:
        if way == "call":
            call = asyncio.ensure_future(proxy.wait(1))
        elif way == "conversation":
            call = asyncio.ensure_future(amqproxy.options(proxy, heartbeat=5).wait(1))
        else:
            call = b.wait(1)
        await handler.entered.acquire()
        await close(mq, proxy.ping.line.lane, service)
        with pytest.raises(kind, match=f"^{service}.wait: {says}") as caught:
            await call
        assert caught.value.executed == described(caught.value)["executed"] == "maybe"
        assert await proxy.ping() == "pong"


def is_so_many(things: Sized, number: int) -> bool:
    return len(things) == number


async def test_no_channel_is_left_of_a_reply_queue_that_is_deleted(mq: amqproxy.Client, service: str) -> None:
    async with gate(mq, service) as (_, proxy):
        elsewhere = mq.proxy(Gate, name=service, exchange="amq.direct")  # its calls have a channel of their own
        channels = (await mq._live_connection().link())._aiormq.channels
        for _ in range(3):
            assert await proxy.ping() == await elsewhere.ping() == "pong"
            before = len(channels)
            await delete_queue(mq, proxy.ping.line.reply_to.decode())
            await until(lambda: not proxy.ping.line.lane.open)
            assert await proxy.ping() == await elsewhere.ping() == "pong"
            await until(partial(is_so_many, channels, before), lambda: f"{len(channels)} channels are open")


async def test_a_broker_that_is_restarted_is_found_again(mortal: BrokerThread | RabbitMQ, service: str) -> None:
    async with two(mortal.url) as (mq, server), server.serve(Gate(), name=service):
        proxy = mq.proxy(Gate, name=service)
        assert await proxy.ping() == "pong"
        link = mq._live_connection().current_link
        assert link is not None
        await asyncio.to_thread(mortal.kill)
        await asyncio.wait((link.closed,))
        with pytest.raises(amqproxy.CallTimeout, match="it could not be sent") as caught:
            await amqproxy.options(proxy, timeout=0.2).ping()
        assert caught.value.executed == "no"
        await asyncio.to_thread(mortal.start)

        await until_it_serves(proxy)
        await delete_queue(mq, service)


def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


async def test_a_refused_connection_names_host_and_port_and_the_cure() -> None:
    port = closed_port()
    with pytest.raises(amqproxy.BrokerUnavailable, match=rf"no broker listens at 127.0.0.1:{port}: start RabbitMQ"):
        await amqproxy.connect(f"amqp://guest:s3cret@127.0.0.1:{port}/")
    assert issubclass(amqproxy.BrokerUnavailable, ConnectionError)


async def test_a_name_that_does_not_resolve_is_named() -> None:
    with pytest.raises(amqproxy.BrokerUnavailable, match=r"cannot connect to nowhere\.invalid:5672"):
        await amqproxy.connect("amqp://guest:guest@nowhere.invalid/")


@pytest.mark.parametrize("greeting", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"AMQP\x00\x01\x00\x00", b"\x01" * 99])
async def test_a_server_that_is_no_broker_is_given_up(greeting: bytes) -> None:
    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(greeting)
        await reader.read()
        writer.close()

    async with await asyncio.start_server(greet, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(amqproxy.BrokerUnavailable, match=f"127.0.0.1:{port}"):
            await amqproxy.connect(f"amqp://u:s3cret@127.0.0.1:{port}/", connect_timeout=0.3)


async def test_wrong_credentials_are_refused_and_never_shown(amqp_url: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    caplog.set_level(logging.DEBUG, "aiormq")
    url = amqp_url.replace("guest:guest", "guest:s3cret%2F")
    with pytest.raises(amqproxy.AccessRefused, match="refused the user 'guest'") as caught:
        await amqproxy.connect(url)
    assert isinstance(caught.value, PermissionError)
    shown = caplog.text + str(caught.value) + repr(amqproxy.connect(url))
    assert "s3cret" not in shown


async def test_an_unknown_virtual_host_is_named(amqp_url: str) -> None:
    with pytest.raises(amqproxy.AccessRefused, match="virtual host 'no such/host'"):
        await amqproxy.connect(amqp_url.rstrip("/").removesuffix("%2F") + "/no%20such%2Fhost")


async def test_a_connection_that_could_not_be_opened_may_be_tried_again(amqp_url: str) -> None:
    client = amqproxy.connect(f"amqp://guest:guest@127.0.0.1:{closed_port()}/")
    for _ in range(2):
        with pytest.raises(amqproxy.BrokerUnavailable):
            await client.open()


async def test_a_virtual_host_is_not_taken_for_a_limit_by_its_name(amqp_url: str) -> None:
    with pytest.raises(amqproxy.AccessRefused, match="virtual host 'limits'"):
        await amqproxy.connect(amqp_url.rstrip("/") + "/limits")


async def test_a_connection_is_used_while_it_is_open_only(amqp_url: str) -> None:
    client = amqproxy.connect(amqp_url)
    with pytest.raises(amqproxy.Closed, match=r"not opened yet.*async with"):
        client.proxy("x")
    async with client:
        proxy = client.proxy("x")
    for use in (lambda: client.proxy("x"), lambda: client.serve(Gate())):
        with pytest.raises(amqproxy.Closed, match="closed"):
            use()
    with pytest.raises(amqproxy.Closed, match="was closed"):
        await proxy.y()
    with pytest.raises(amqproxy.Closed, match="opened before"):
        await client
    await client.close()


async def test_closing_fails_the_calls_that_are_out(amqp_url: str, mq: amqproxy.Client, service: str) -> None:
    async with gate(mq, service) as (handler, _):
        client = await amqproxy.connect(amqp_url)
        call = asyncio.create_task(client.proxy(Gate, name=service).wait(1))
        await handler.entered.acquire()
        await client.close()
        with pytest.raises(amqproxy.ConnectionLost, match="closed while the call was out"):
            await call


async def test_nothing_of_ours_runs_on_after_closing(amqp_url: str, service: str) -> None:
    before = asyncio.all_tasks()
    async with amqproxy.connect(amqp_url) as mq, gate(mq, service):
        pass
    await asyncio.sleep(0)
    left = [task for task in asyncio.all_tasks() - before if "aiormq" not in repr(task)]
    assert not left


async def test_logs_say_what_happened(amqp_url: str, service: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "amqproxy")
    async with amqproxy.connect(amqp_url) as mq, gate(mq, service) as (_, proxy):
        cut(mq)
        await until_it_serves(proxy)
    assert "lost the connection to 127.0.0.1" in caplog.text
    assert "connected to 127.0.0.1" in caplog.text
    assert f"consumes {service} no more" in caplog.text


def test_the_url_may_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AMQPROXY_URL", "amqp://ann:pw@example.com:5673/v")
    assert "amqp://ann@example.com:5673/v" in repr(amqproxy.connect())
    monkeypatch.delenv("AMQPROXY_URL")
    assert "amqp://guest@localhost:5672/%2F" in repr(amqproxy.connect())


class Bank:
    def __init__(self) -> None:
        self.balance = 0
        self.entered = asyncio.Semaphore(0)
        self.open = asyncio.Event()

    @amqproxy.method(idempotent=True)
    async def deposit(self, amount: int) -> int:
        self.balance += amount
        self.entered.release()
        await self.open.wait()
        return self.balance


async def test_a_call_that_is_sent_again_to_a_worker_that_remembers_runs_once(amqp_url: str, service: str) -> None:
    """With a heartbeat the worker learns that the reply queue is gone, and gives the first request up."""
    bank = Bank()
    async with (
        amqproxy.connect(amqp_url) as server,
        amqproxy.connect(amqp_url) as mq,
        server.serve(bank, name=service, auto_delete=True, deduplicate=100) as worker,
    ):
        call = asyncio.ensure_future(mq.proxy(Bank, name=service, heartbeat=0.05, timeout=20).deposit(5))
        await bank.entered.acquire()
        [first] = worker.running
        cut(mq)
        await until(lambda: first.cancelled and len(worker.running) == 2, lambda: str(worker.running))
        bank.open.set()
        assert await call == 5
        assert bank.balance == 5


def waits(worker: Worker, before: Any) -> bool:
    """Whether a request has come by another channel than that of before, and waits."""
    session = worker.session
    return session is not None and session is not before and bool(session.turns.waiting)


async def test_handlers_do_not_pile_up_where_a_workers_link_is_lost_again_and_again(
    amqp_url: str, service: str
) -> None:
    """What runs cannot be answered any more, and runs on; the broker gives the same call out again each time."""
    async with two(amqp_url) as (mq, server):
        handler = Gate()
        async with server.serve(handler, name=service, arguments={"x-expires": 60_000}, concurrency=1) as worker:
            call = asyncio.create_task(mq.proxy(Gate, name=service, timeout=60).wait(1))
            await handler.entered.acquire()
            cut(server)
            await handler.entered.acquire()  # a second time, which is what a worker takes upon itself
            for _ in range(2):
                before = worker.session
                cut(server)
                await until(partial(waits, worker, before), within=20)
                assert len(worker.running) == 2
            assert handler.entered.locked()
            handler.open.set()
            assert await call == 1
            assert await mq.proxy(Gate, name=service).wait(2) == 2
            assert worker.session is not None and not worker.session.turns.own


async def test_handlers_do_not_pile_up_where_a_queue_is_deleted_again_and_again(
    mq: amqproxy.Client, service: str
) -> None:
    """The channel stays, and the prefetch of each new consumer counts nothing of what came by those before."""

    async def wait(number: int) -> Any:
        while True:
            with contextlib.suppress(amqproxy.Unroutable):
                return await proxy.wait(number)
            await asyncio.sleep(0.01)

    handler = Gate()
    proxy = mq.proxy(Gate, name=service, timeout=60)
    async with mq.serve(handler, name=service, auto_delete=True, concurrency=1) as worker:
        session = worker.session
        assert session is not None
        calls: list[asyncio.Task[Any]] = []
        for number in range(4):
            calls.append(asyncio.create_task(wait(number)))
            await until(lambda: is_so_many([*worker.running, *session.turns.waiting], len(calls)), within=20)
            assert len(worker.running) == min(len(calls), 2)
            await delete_queue(mq, service)
        handler.open.set()
        assert await asyncio.gather(*calls) == [0, 1, 2, 3]
        assert await wait(4) == 4
        assert worker.session is session and not session.turns.own


async def test_calls_begin_at_once_when_what_was_left_over_has_ended(amqp_url: str, service: str) -> None:
    async with two(amqp_url) as (mq, server):
        handler = Gate()
        async with server.serve(handler, name=service, arguments={"x-expires": 60_000}, concurrency=3) as worker:
            proxy = mq.proxy(Gate, name=service, timeout=60)
            calls = [asyncio.create_task(proxy.wait(1))]
            await handler.entered.acquire()
            cut(server)
            calls += [asyncio.create_task(proxy.wait(n)) for n in (2, 3)]
            for _ in range(3):  # one lost link holds up none
                await handler.entered.acquire()
            assert len(worker.running) == 4
            handler.open.set()
            assert await asyncio.gather(*calls) == [1, 2, 3]
            session = worker.session
            assert session is not None
            await until(lambda: not session.turns.own)


async def test_calls_that_run_at_most_once_do_not_pile_up_either(amqp_url: str, service: str) -> None:
    class Till:
        def __init__(self) -> None:
            self.paid: list[int] = []
            self.entered = asyncio.Semaphore(0)
            self.open = asyncio.Event()

        @amqproxy.method(at_most_once=True)
        async def pay(self, amount: int) -> int:
            self.paid.append(amount)
            self.entered.release()
            await self.open.wait()
            return amount

        async def ping(self) -> str:
            return "pong"

    async with two(amqp_url) as (mq, server):
        till = Till()
        async with server.serve(till, name=service, arguments={"x-expires": 60_000}, concurrency=2) as worker:
            proxy = mq.proxy(Till, name=service, timeout=60)
            first = [asyncio.create_task(proxy.pay(n)) for n in range(2)]
            for _ in first:
                await till.entered.acquire()
            third = asyncio.create_task(proxy.pay(2))
            await until(lambda: len(worker.running) == 3)
            cut(server)
            with pytest.raises(amqproxy.RemoteError, match="had this call already"):
                await third
            await until(lambda: len(worker.running) == 2)  # and nothing waits by the old channel
            fourth = asyncio.create_task(proxy.pay(3))
            await until(lambda: len(worker.running) == 3)
            assert await proxy.ping() == "pong"
            assert till.paid == [0, 1]
            till.open.set()
            assert await fourth == 3
            for call in first:  # their answers were lost with the channel
                call.cancel()
