"""Brokers that are not there, that stop and come back, and that refuse: named errors, and no storms of new tries."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiormq.exceptions import ChannelPreconditionFailed

import amqproxy
from amqproxy.connection import REFUSALS_BORNE
from amqproxy.testing import BrokerThread, RabbitMQ
from tests.contract.test_deadlines import Gate, gate
from tests.faults.nodes import ctl, user
from tests.faults.table import Row
from tests.patience import SLACK, until

BACK_OFF = 40.0
"""Seconds within which whoever tries again now and then has tried: every 15 s at most, after a long time."""


def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Times(list[float]):
    """When something happened, in seconds from the first one on."""

    def note(self) -> None:
        self.append(time.monotonic())

    def most_in(self, seconds: float) -> int:
        """The most of them within so many seconds."""
        return max((sum(0 <= other - one < seconds for other in self) for one in self), default=0)


@asynccontextmanager
async def two(url: str) -> AsyncIterator[tuple[amqproxy.Client, amqproxy.Client]]:
    async with amqproxy.connect(url) as caller, amqproxy.connect(url) as server:
        yield caller, server


async def serves(proxy: Any) -> None:
    """Wait until a worker answers, who is on his way back."""
    async with asyncio.timeout(BACK_OFF * SLACK):
        while True:
            with contextlib.suppress(amqproxy.Unroutable, amqproxy.ConnectionLost, amqproxy.CallTimeout):
                assert await amqproxy.options(proxy, timeout=BACK_OFF).ping() == "pong"
                return
            await asyncio.sleep(0.01)


# F03 to F05: a broker that is stopped, and one that is not there


@pytest.mark.fault("F03", "stopped in order under a call, started 1 s later")
async def test_a_broker_that_is_stopped_in_order(mortal: BrokerThread | RabbitMQ, service: str, row: Row) -> None:
    async with two(mortal.url) as (mq, server), gate(server, service) as (handler, _):
        states: list[amqproxy.State] = []
        mq.on_state(states.append)
        proxy = mq.proxy(Gate, name=service)
        call = asyncio.create_task(proxy.wait(1))
        await handler.entered.acquire()
        stopping = asyncio.create_task(asyncio.to_thread(mortal.stop))
        await until(lambda: mq.state.name == "reconnecting", within=10)
        with row.sees(amqproxy.ConnectionLost, executed="maybe", within=1.0, match="320 CONNECTION_FORCED"):
            await call
        assert "320 CONNECTION_FORCED" in str(states[0])
        await stopping
        await asyncio.sleep(1)
        await asyncio.to_thread(mortal.start)
        with row.sees("once it is back, idle proxies and workers go on", within=BACK_OFF):
            await serves(proxy)
        assert states[-1].name == "open"
        handler.open.set()


@pytest.mark.fault("F04", "connect() to a port where nobody listens")
async def test_connecting_to_nobody(row: Row) -> None:
    row.broker = "none"
    with row.sees(amqproxy.BrokerUnavailable, within=1.0, match="no broker listens at 127.0.0.1"):
        await amqproxy.connect(f"amqp://guest:guest@127.0.0.1:{closed_port()}/")


@pytest.mark.fault("F04", "connect(wait=True) for 3 s to a port where nobody listens")
async def test_waiting_for_nobody(row: Row) -> None:
    row.broker = "none"
    mq = amqproxy.connect(f"amqp://guest:guest@127.0.0.1:{closed_port()}/", wait=True)
    tries = Times()
    mq.on_state(lambda state: tries.note() if state.attempt else None)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(3):
            await mq
    assert len(tries) <= 40
    row.saw(f"no busy loop: {len(tries)} tries", 3.0, 3.0)


@pytest.mark.fault("F05", "call, killed 0.1 s before")
async def test_calling_while_the_broker_is_down(mortal: BrokerThread | RabbitMQ, service: str, row: Row) -> None:
    async with amqproxy.connect(mortal.url, max_in_flight=10) as mq:
        proxy = mq.proxy(Gate, name=service, timeout=1)
        await asyncio.to_thread(mortal.kill)
        await until(lambda: mq.state.name == "reconnecting")
        with row.sees(amqproxy.CallTimeout, executed="no", within=1.5, match=r"not be sent within 1 s: .*reconnecting"):
            await proxy.ping()
        calls = [asyncio.create_task(proxy.ping()) for _ in range(10)]
        await asyncio.sleep(0)
        with row.sees(amqproxy.Overloaded, executed="no", within=0.1, match=r"ping: .* \(10\) wait already"):
            await proxy.ping()
        for outcome in await asyncio.gather(*calls, return_exceptions=True):
            assert isinstance(outcome, amqproxy.CallTimeout)
        await asyncio.to_thread(mortal.start)
        patient = amqproxy.options(proxy, timeout=BACK_OFF, retry=amqproxy.Retry(attempts=100, max_wait=0.5))
        waiting = asyncio.create_task(patient.ping())  # which may be there before the worker's queue is
        async with amqproxy.connect(mortal.url) as server, server.serve(Gate(), name=service, auto_delete=True):
            with row.sees("the answer, of a call that waited for the broker", within=BACK_OFF):
                assert await waiting == "pong"


# F15, F16, F30: queues and exchanges that are not as they should be


@pytest.mark.fault("F15", "call of a service that was never started")
async def test_a_service_that_nobody_serves(mq: amqproxy.Client, service: str, row: Row) -> None:
    with row.sees(amqproxy.Unroutable, executed="no", within=1.0, match="is a worker serving"):
        await mq.proxy(service).ping()


@pytest.mark.fault("F16", "call by an exchange that does not exist")
async def test_an_exchange_that_does_not_exist(mq: amqproxy.Client, service: str, row: Row) -> None:
    async with gate(mq, service) as (handler, proxy):
        other = asyncio.create_task(proxy.wait(1))
        await handler.entered.acquire()
        with row.sees(amqproxy.Unroutable, executed="no", within=1.0, match=f"there is no exchange '{service}'"):
            await mq.proxy(Gate, name=service, exchange=service).ping()
        handler.open.set()
        assert await other == 1


@pytest.mark.fault("F16", "exchange deleted ahead of a call, its channel open")
async def test_an_exchange_that_is_deleted(mq: amqproxy.Client, service: str, row: Row) -> None:
    async with gate(mq, service, exchange=service, routing_key=service) as (handler, _):
        proxy = mq.proxy(Gate, name=service, exchange=service)
        other = asyncio.create_task(mq.proxy(Gate, name=service).wait(1))
        await handler.entered.acquire()
        assert await proxy.ping() == "pong"
        channel = await (await mq._live_connection().link())._channel()
        await channel.exchange_delete(service)
        await channel.close()
        with row.sees(amqproxy.Unroutable, executed="no", within=1.0, match=f"no exchange '{service}'"):
            await proxy.ping()
        with row.sees(amqproxy.Unroutable, executed="no", within=1.0):
            await proxy.ping()
        handler.open.set()
        assert await other == 1


@pytest.mark.fault("F16", "exchange deleted ahead of three calls at once, while one that came by it runs")
@pytest.mark.parametrize("confirm", [False, True])
async def test_an_exchange_that_is_deleted_under_several_calls(
    mq: amqproxy.Client, service: str, row: Row, confirm: bool
) -> None:
    async with gate(mq, service, exchange=service, routing_key=service) as (handler, _):
        proxy = mq.proxy(Gate, name=service, exchange=service, confirm=confirm)
        elsewhere = asyncio.create_task(mq.proxy(Gate, name=service).wait(1))
        running = asyncio.create_task(proxy.wait(2))
        for _ in range(2):
            await handler.entered.acquire()
        channel = await (await mq._live_connection().link())._channel()
        await channel.exchange_delete(service)
        await channel.close()
        late = [asyncio.create_task(proxy.wait(number)) for number in (3, 4, 5)]
        with row.sees(amqproxy.Unroutable, executed="no", within=1.0, match=f"no exchange '{service}'"):
            await late[-1]
        for call in (running, *late[:-1]):
            with row.sees(amqproxy.ConnectionLost, executed="maybe", within=1.0, match=f"no exchange '{service}'"):
                await call
        handler.open.set()
        assert await elsewhere == 1
        assert handler.entered.locked(), "only those ran that were called ahead of the deletion"


@pytest.mark.fault("F16", "exchange deleted ahead of a one-way message")
async def test_an_exchange_that_is_deleted_ahead_of_a_message(mq: amqproxy.Client, service: str, row: Row) -> None:
    async with gate(mq, service, exchange=service, routing_key=service):
        sender = mq.sender(Gate, name=service, exchange=service)
        await sender.ping()
        channel = await (await mq._live_connection().link())._channel()
        await channel.exchange_delete(service)
        await channel.close()
        with row.sees(amqproxy.Unroutable, executed="no", within=1.0, match=f"no exchange '{service}'"):
            await sender.ping()


async def declare(mq: amqproxy.Client, name: str, **arguments: Any) -> None:
    channel = await (await mq._live_connection().link())._channel()
    await channel.queue_declare(name, auto_delete=False, arguments=arguments)
    await channel.close()


async def delete(mq: amqproxy.Client, name: str) -> None:
    channel = await (await mq._live_connection().link())._channel()
    await channel.queue_delete(name)
    await channel.close()


@pytest.mark.fault("F30", "worker started on a queue with another x-expires")
async def test_a_queue_with_other_arguments(mq: amqproxy.Client, service: str, row: Row) -> None:
    await declare(mq, service, **{"x-expires": 60_000})
    other = f"{service}.other"
    async with gate(mq, other) as (handler, proxy):
        call = asyncio.create_task(proxy.wait(1))
        await handler.entered.acquire()
        with row.sees(amqproxy.TopologyConflict, within=1.0, match=r"inequivalent arg.*delete what is there"):
            await mq.serve(Gate(), name=service).start()
        handler.open.set()
        assert await call == 1
    await delete(mq, service)


async def until_refused_or_consumed(mq: amqproxy.Client, service: str, caplog: pytest.LogCaptureFixture) -> None:
    """A worker that had declared its queue before another took the name consumes the other, as AMQP has it."""
    link = await mq._live_connection().link()
    while f"consuming {service} failed" not in caplog.text:
        counts = await link.queue_counts(service)
        if counts is None or counts[1]:
            return
        await asyncio.sleep(0.02)


@pytest.mark.fault("F30", "queue replaced under its worker, for 3 s, by one with other arguments")
async def test_a_queue_that_is_replaced_under_its_worker(
    mq: amqproxy.Client, service: str, row: Row, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "amqproxy")
    async with mq.serve(Gate(), name=service, durable=False, auto_delete=True):
        proxy = mq.proxy(Gate, name=service, timeout=0.5)
        assert await proxy.ping() == "pong"
        async with asyncio.timeout(BACK_OFF * SLACK):
            while f"consuming {service} failed" not in caplog.text:  # quick, until it has lost its queue a few times
                await delete(mq, service)
                with contextlib.suppress(ChannelPreconditionFailed):
                    await declare(mq, service, **{"x-expires": 60_000})
                    await until_refused_or_consumed(mq, service, caplog)
        await asyncio.sleep(3)
        count = caplog.text.count(f"consuming {service} failed")
        assert 1 <= count <= 15
        row.saw(f"no tight loop: {count} tries", 3.0, 3.0)
        await delete(mq, service)
        with row.sees("served again, once the queue is gone", within=BACK_OFF):
            await serves(proxy)


# F49 to F52: users and what they may do


@pytest.fixture
def refusals(rabbitmq_node: RabbitMQ) -> Any:
    """How often the node has refused something since the test began, by its log."""
    before = rabbitmq_node.log

    def count(text: str) -> int:
        return rabbitmq_node.log[len(before) :].count(text)

    return count


@pytest.mark.fault("F49", "connect() with a wrong password")
@pytest.mark.parametrize("wait", [False, True])
async def test_a_wrong_password(amqp_url: str, row: Row, wait: bool, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG", "amqproxy")
    url = amqp_url.replace("guest:guest", "guest:s3cr3t")
    with row.sees(amqproxy.AccessRefused, within=3.0, match="refused the user 'guest': check user name and password"):
        try:
            await amqproxy.connect(url, wait=wait)
        except amqproxy.AccessRefused as error:
            assert "s3cr3t" not in f"{error!r}{error.__cause__!r}{caplog.text}"
            raise


@pytest.mark.fault("F50", "user deleted, and his connections closed")
async def test_a_user_who_is_deleted(rabbitmq_node: RabbitMQ, service: str, row: Row, refusals: Any) -> None:
    async with user(rabbitmq_node, service, "s3cr3t", (".*", ".*", ".*")) as url:
        async with two(url) as (mq, server):
            handler = Gate()
            worker = server.serve(handler, name=service, auto_delete=True, grace=0)
            await worker.start()
            proxy = mq.proxy(Gate, name=service)
            call = asyncio.create_task(proxy.wait(1))
            await handler.entered.acquire()
            lost = asyncio.create_task(until(lambda: mq.state.name != "open", within=10))
            await ctl(rabbitmq_node, "delete_user", service)
            await ctl(rabbitmq_node, "close_all_user_connections", service, "deleted")
            await lost
            with row.sees(amqproxy.ConnectionLost, executed="maybe", within=1.0):
                await call
            with row.sees(amqproxy.AccessRefused, within=10.0, match=f"refused the user '{service}'"):
                await proxy.ping()
            with row.sees(amqproxy.AccessRefused, within=10.0):
                async with asyncio.timeout(10 * SLACK):
                    await worker.wait()
            assert mq.state.name == "closed"
            assert f"refused the user '{service}'" in str(mq.state)
            await asyncio.sleep(2)
            count = refusals(f"user '{service}' - invalid credentials")
            assert count == 2 * (1 + REFUSALS_BORNE)
            row.saw(f"no more tries: {count} of 2 clients", 2.0, 2.0)
        await ctl(rabbitmq_node, "add_user", service, "again")  # to be deleted


@pytest.mark.fault("F51", "call of a user who may not write to the default exchange")
@pytest.mark.parametrize("idempotent", [False, True])
async def test_a_user_who_may_not_publish(
    rabbitmq_node: RabbitMQ, service: str, row: Row, refusals: Any, idempotent: bool
) -> None:
    async with user(rabbitmq_node, service, "pw", (".*", "^$", ".*")) as url, amqproxy.connect(url) as mq:
        proxy = mq.proxy(service, idempotent=idempotent, timeout=5)
        with row.sees(amqproxy.AccessRefused, executed="maybe", within=1.0, match="ping: .*ACCESS_REFUSED.*may have"):
            await proxy.ping()
        assert mq.state.name == "open"
        end = time.monotonic() + 3
        calls = 0
        while time.monotonic() < end:
            calls += 1
            with contextlib.suppress(amqproxy.AccessRefused):
                await proxy.ping()
            await asyncio.sleep(0)
        count = refusals("access_refused")
        assert calls > 10 * count
        assert count <= 15
        row.saw(f"no tight loop: the broker was asked {count} times by {calls} calls", 3.0, 3.0)


@pytest.mark.fault("F51", "worker of a user who may not declare, bind or consume")
@pytest.mark.parametrize(
    ("permissions", "resource"),
    [
        (("^amq", ".*", ".*"), "queue"),
        ((".*", ".*", "^amq"), "queue"),
        (("^(?!amqproxy)", ".*", ".*"), "exchange"),
    ],
    ids=["declare", "consume", "exchange"],
)
async def test_a_user_who_may_not_serve(
    rabbitmq_node: RabbitMQ, service: str, row: Row, permissions: tuple[str, str, str], resource: str
) -> None:
    async with user(rabbitmq_node, service, "pw", permissions) as url, amqproxy.connect(url) as mq:
        with row.sees(amqproxy.AccessRefused, within=2.0, match=f"access to {resource} "):
            await mq.serve(Gate(), name=service, auto_delete=True).start()
        assert mq.state.name == "open"


@pytest.mark.fault("F51", "right to consume taken from a worker, whose connection is then closed")
async def test_a_worker_that_loses_its_rights(rabbitmq_node: RabbitMQ, service: str, row: Row) -> None:
    async with user(rabbitmq_node, service, "pw", (".*", ".*", ".*")) as url, amqproxy.connect(url) as mq:
        worker = mq.serve(Gate(), name=service, auto_delete=True)
        await worker.start()
        await ctl(rabbitmq_node, "set_permissions", service, ".*", ".*", "^amq")
        # A channel of RabbitMQ remembers for a while what its user was allowed.
        await ctl(rabbitmq_node, "close_all_user_connections", service, "other rights")
        with row.sees(amqproxy.AccessRefused, within=5.0, match=f"access to queue '{service}'"):
            async with asyncio.timeout(10 * SLACK):
                await worker.wait()
        assert mq.state.name == "open"


@pytest.mark.fault("F52", "connect() to a virtual host that is not there")
async def test_a_virtual_host_that_is_not_there(amqp_url: str, row: Row) -> None:
    with row.sees(amqproxy.AccessRefused, within=2.0, match="refused the virtual host 'nowhere'"):
        await amqproxy.connect(amqp_url.rstrip("/") + "/nowhere", wait=True)


@pytest.mark.fault("F52", "connect() of a user who may not use the virtual host")
async def test_a_user_without_a_virtual_host(rabbitmq_node: RabbitMQ, service: str, row: Row) -> None:
    async with user(rabbitmq_node, service, "pw", (".*", ".*", ".*")) as url:
        await ctl(rabbitmq_node, "clear_permissions", service)
        with row.sees(amqproxy.AccessRefused, within=2.0, match=f"refused the virtual host '/' to '{service}'"):
            await amqproxy.connect(url, wait=True)


@pytest.mark.fault("F52", "virtual host deleted under a call")
async def test_a_virtual_host_that_is_deleted(rabbitmq_node: RabbitMQ, service: str, row: Row) -> None:
    await ctl(rabbitmq_node, "add_vhost", service)
    await ctl(rabbitmq_node, "set_permissions", "-p", service, "guest", ".*", ".*", ".*")
    async with two(f"{rabbitmq_node.url}{service}") as (mq, server):
        handler = Gate()
        async with server.serve(handler, name=service, auto_delete=True, grace=0):
            call = asyncio.create_task(mq.proxy(Gate, name=service).wait(1))
            await handler.entered.acquire()
            await ctl(rabbitmq_node, "delete_vhost", service)
            with row.sees(amqproxy.ConnectionLost, executed="maybe", within=2.0):
                await call
            with row.sees(amqproxy.AccessRefused, within=BACK_OFF, match=f"virtual host '{service}'"):
                await mq.proxy(Gate, name=service, timeout=BACK_OFF).ping()
