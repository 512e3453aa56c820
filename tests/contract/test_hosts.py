"""Brokers that are not there yet, and clusters of which hosts go and come: what connects waits, or goes elsewhere."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

import amqproxy
from amqproxy.testing import BrokerThread, RabbitMQ, broker_thread, rabbitmq
from tests.conftest import EMBEDDED, RABBITMQ
from tests.contract.test_deadlines import Gate
from tests.contract.test_links import closed_port, until_it_serves
from tests.patience import until
from tests.processes import running, silent_server

Brokers = tuple[BrokerThread | RabbitMQ, BrokerThread | RabbitMQ]

BACK_OFF = 40
"""Seconds for which a test waits for a client that tries again now and then, up to 15 s later."""


@pytest.fixture(scope="module")
def second_node(request: pytest.FixtureRequest) -> Iterator[RabbitMQ]:
    with rabbitmq() as node:
        yield node


@pytest.fixture(params=[EMBEDDED, RABBITMQ])
def brokers(request: pytest.FixtureRequest) -> Iterator[Brokers]:
    """Two brokers that know nothing of each other: where a client is shows by what it finds there."""
    if request.param == RABBITMQ:
        yield request.getfixturevalue("rabbitmq_node"), request.getfixturevalue("second_node")
        request.getfixturevalue("second_node").start()
        return
    with ExitStack() as stack:
        yield stack.enter_context(broker_thread()), stack.enter_context(broker_thread())


def url_of(*ports: int, user: str = "guest:guest") -> str:
    return f"amqp://{user}@" + ",".join(f"127.0.0.1:{port}" for port in ports) + "/"


def url_of_both(brokers: Brokers) -> str:
    return url_of(*(broker.port for broker in brokers))


async def test_the_first_host_that_answers_is_taken(brokers: Brokers) -> None:
    one, two = brokers
    async with amqproxy.connect(url_of_both(brokers)) as mq:
        assert mq.state.host == f"127.0.0.1:{one.port}"
    await asyncio.to_thread(one.kill)
    async with amqproxy.connect(url_of_both(brokers)) as mq:
        assert (mq.state.name, mq.state.host) == ("open", f"127.0.0.1:{two.port}")


async def test_when_a_host_dies_callers_and_workers_meet_at_another(brokers: Brokers, service: str) -> None:
    """The worker is a process of its own; its queue is at the second broker once the first is gone, and back again."""
    url = url_of_both(brokers)
    async with running("-c", WORKER, service, AMQPROXY_URL=url) as worker, amqproxy.connect(url) as mq:
        await worker.says("serving")
        proxy = mq.proxy(Gate, name=service)
        assert await proxy.ping() == "pong"
        for dies, lives in (brokers, reversed(brokers)):
            await asyncio.to_thread(lives.start)
            await asyncio.to_thread(dies.kill)
            began = time.monotonic()
            await until_it_serves(amqproxy.options(proxy, timeout=10))
            assert time.monotonic() - began < 10  # as long as a host is there, nobody backs off for long
            assert mq.state.host == f"127.0.0.1:{lives.port}"


WORKER = """
import logging, sys, amqproxy
logging.basicConfig(level=logging.INFO)
class Gate:
    async def ping(self) -> str:
        return "pong"
amqproxy.run(Gate(), name=sys.argv[1], auto_delete=True)
"""


async def test_when_no_host_answers_each_is_named() -> None:
    ports = closed_port(), closed_port()
    with pytest.raises(amqproxy.BrokerUnavailable, match="none of 2 hosts takes a connection") as caught:
        await amqproxy.connect(url_of(*ports, user="ann:s3cret"))
    for port in ports:
        assert f"no broker listens at 127.0.0.1:{port}" in str(caught.value)
    assert "s3cret" not in str(caught.value)


async def test_a_silent_host_takes_its_share_of_the_time_and_no_more(brokers: Brokers) -> None:
    async with silent_server() as (silent, _):
        port = int(silent.rstrip("/").rpartition(":")[2])
        began = time.monotonic()
        async with amqproxy.connect(url_of(port, brokers[1].port), connect_timeout=4) as mq:
            assert mq.state.host == f"127.0.0.1:{brokers[1].port}"
        assert 2 <= time.monotonic() - began < 4


async def test_credentials_that_one_host_refuses_are_shown_to_no_other(brokers: Brokers) -> None:
    one, two = brokers
    with pytest.raises(amqproxy.AccessRefused, match=f"127.0.0.1:{one.port} refused the user 'ann'"):
        await amqproxy.connect(url_of(one.port, two.port, user="ann:s3cret"))


async def test_neither_text_nor_log_shows_a_password(
    brokers: Brokers, service: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "amqproxy")
    dead = closed_port()
    user = "guest:s3cr3t"
    with pytest.raises(amqproxy.AccessRefused) as caught:
        await amqproxy.connect(url_of(dead, brokers[0].port, user=user), wait=True)
    mq = amqproxy.connect(url_of(dead, brokers[0].port, user=user))
    assert f"guest@127.0.0.1:{dead},127.0.0.1:{brokers[0].port}" in repr(mq)
    assert "s3cr3t" not in f"{caught.value}{mq!r}{mq.state}{caplog.text}"


# A broker that is not up yet


@pytest.fixture(params=[EMBEDDED, RABBITMQ])
def late(request: pytest.FixtureRequest) -> Iterator[BrokerThread | RabbitMQ]:
    """A broker that does not run, and whose port is known."""
    if request.param == RABBITMQ:
        node: RabbitMQ = request.getfixturevalue("second_node")
        node.kill()
        yield node
        node.start()
    else:
        with broker_thread() as broker:
            broker.kill()
            yield broker


async def test_who_waits_for_a_broker_gets_one(late: BrokerThread | RabbitMQ, service: str) -> None:
    mq = amqproxy.connect(url_of(late.port), wait=True)
    seen: list[amqproxy.State] = []
    mq.on_state(seen.append)
    opening = asyncio.create_task(mq.open())
    await until(lambda: mq.state.attempt >= 2)
    assert mq.state.name == "connecting"
    assert mq.state.reason is not None
    assert f"no broker listens at 127.0.0.1:{late.port}" in mq.state.reason
    await asyncio.to_thread(late.start)
    async with asyncio.timeout(BACK_OFF):
        await opening
    assert [seen[0].name, seen[-1].name] == ["connecting", "open"]
    try:
        async with mq.serve(Gate(), name=service, auto_delete=True):
            assert await mq.proxy(Gate, name=service).ping() == "pong"
    finally:
        await mq.close()


async def test_a_worker_process_may_be_started_ahead_of_its_broker(late: BrokerThread | RabbitMQ, service: str) -> None:
    code = WORKER.replace("amqproxy.run(Gate(),", "amqproxy.run(Gate(), wait=True,")
    async with running("-c", code, service, AMQPROXY_URL=url_of(late.port)) as worker:
        await worker.says("the next in")
        await asyncio.to_thread(late.start)
        await worker.says("serving")
        async with amqproxy.connect(url_of(late.port)) as mq:
            assert await mq.proxy(Gate, name=service).ping() == "pong"


async def test_waiting_is_no_busy_loop() -> None:
    mq = amqproxy.connect(url_of(closed_port()), wait=True)
    seen: list[amqproxy.State] = []
    mq.on_state(seen.append)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(2):
            await mq
    assert 1 <= max(state.attempt for state in seen) < 40
    assert mq.state.name == "new"  # it may be opened again


async def test_closing_ends_the_waiting() -> None:
    mq = amqproxy.connect(url_of(closed_port()), wait=True)
    opening = asyncio.create_task(mq.open())
    await until(lambda: mq.state.attempt >= 1)
    began = time.monotonic()
    await mq.close()
    with pytest.raises(amqproxy.Closed, match="closed while it was opened"):
        await opening
    assert time.monotonic() - began < 1
    assert mq.state.name == "closed"


async def test_without_waiting_a_broker_that_is_not_there_is_an_error_at_once(late: BrokerThread | RabbitMQ) -> None:
    mq = amqproxy.connect(url_of(late.port))
    began = time.monotonic()
    with pytest.raises(amqproxy.BrokerUnavailable, match="no broker listens"):
        await mq
    assert time.monotonic() - began < 1
    assert mq.state.name == "new"
    assert "no broker listens" in str(mq.state)


async def test_refused_credentials_end_the_waiting(brokers: Brokers) -> None:
    with pytest.raises(amqproxy.AccessRefused, match="refused the user 'ann'"):
        await amqproxy.connect(url_of(closed_port(), brokers[0].port, user="ann:pw"), wait=True)


async def test_a_connection_comes_back_to_whichever_host_is_there(brokers: Brokers) -> None:
    """Killed and started by turns: the client follows, and its state tells where it is."""
    one, two = brokers
    await asyncio.to_thread(two.kill)
    async with amqproxy.connect(url_of_both(brokers)) as mq:
        for dies, comes in ((one, two), (two, one)):
            await asyncio.to_thread(dies.kill)
            await until(lambda: mq.state.name == "reconnecting" and mq.state.attempt >= 1, lambda: str(mq.state))
            with pytest.raises(amqproxy.CallTimeout, match="reconnecting") as caught:
                await mq.proxy("nobody", timeout=0.05).ping()
            assert caught.value.executed == "no"
            await asyncio.to_thread(comes.start)
            await until(lambda: mq.state.name == "open", lambda: str(mq.state), within=BACK_OFF)
            assert mq.state.host == f"127.0.0.1:{comes.port}"
            with contextlib.suppress(amqproxy.Unroutable):
                await mq.proxy("nobody", timeout=5).ping()


def test_blocking_code_sees_the_state_too(late: BrokerThread | RabbitMQ) -> None:
    late.start()
    heard: list[str] = []
    with amqproxy.sync.connect(url_of(late.port)) as mq:
        assert (mq.state.name, mq.state.host) == ("open", f"127.0.0.1:{late.port}")
        mq.on_state(lambda state: heard.append(state.name))
    assert mq.state.name == "closed"
    assert heard == ["closed"]
