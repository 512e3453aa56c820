"""The embedded broker inside of a program: what it begins with, in its thread, and shared as `embedded:`."""

from __future__ import annotations

import asyncio
import json
import logging
import multiprocessing
import os
import socket
import threading
import time
from pathlib import Path
from typing import Any

import pika
import pytest

import amqproxy
from amqproxy.embedded import BrokerThread, new_broker
from amqproxy.testing import broker_thread, free_port

THREAD = "amqproxy broker"
OTHERS: set[threading.Thread] = set()


class Calculator:
    async def add(self, x: int, y: int) -> int:
        return x + y


@pytest.fixture(autouse=True)
def _others() -> None:
    OTHERS.clear()
    OTHERS.update(threading.enumerate())


def threads() -> list[str]:
    """The broker threads that this test has started."""
    return [thread.name for thread in threading.enumerate() if thread.name == THREAD and thread not in OTHERS]


def connected(url: str) -> pika.BlockingConnection:
    return pika.BlockingConnection(pika.URLParameters(url))


def opens(url: str) -> bool:
    try:
        connected(url).close()
    except (pika.exceptions.AMQPConnectionError, OSError):
        return False
    return True


# What a broker begins with.


def test_guest_may_do_everything_unless_there_are_others() -> None:
    assert set(new_broker().users) == {"guest"}
    broker = new_broker(users={"ann": "s3cret", "bob": "b"}, vhosts=["shop"])
    assert set(broker.users) == {"ann", "bob"}
    assert broker.users["bob"].knows("b")
    assert broker.users["ann"].permissions.keys() == broker.vhosts.keys() == {"/", "shop"}


def test_definitions_take_the_place_of_the_defaults() -> None:
    user = {"name": "ann", "password": "s3cret", "tags": []}
    assert set(new_broker(definitions={"users": [user]}).users) == {"ann"}
    broker = new_broker(definitions={"vhosts": [{"name": "shop"}]})
    assert set(broker.vhosts) == {"shop"}
    assert "shop" in broker.users["guest"].permissions


def test_users_are_added_to_those_of_the_definitions() -> None:
    user = {"name": "ann", "password": "s3cret", "tags": []}
    broker = new_broker(users={"bob": "b"}, definitions={"users": [user]})
    assert set(broker.users) == {"ann", "bob"}
    assert not broker.users["ann"].permissions
    assert broker.users["bob"].permissions.keys() == {"/"}


def test_permissions_of_the_definitions_are_kept() -> None:
    granted = {"user": "guest", "vhost": "shop", "configure": "", "write": "", "read": "^r"}
    broker = new_broker(definitions={"vhosts": [{"name": "shop"}], "permissions": [granted]})
    assert broker.users["guest"].permissions["shop"].read == "^r"


def test_definitions_are_read_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "definitions.json"
    file.write_text(json.dumps({"vhosts": [{"name": "shop"}]}))
    assert set(new_broker(definitions=file).vhosts) == {"shop"}
    for text, why in (("{", "is no JSON"), ("[]", "holds no JSON object"), ("[" * 100_000, "is no JSON")):
        file.write_text(text)
        with pytest.raises(ValueError, match=rf"definitions\.json {why}"):
            new_broker(definitions=str(file))
    with pytest.raises(FileNotFoundError):
        new_broker(definitions=tmp_path / "missing.json")


def test_limits_are_those_of_the_broker() -> None:
    assert new_broker(memory_bytes=5).limits.memory_bytes == 5
    with pytest.raises(TypeError, match=r"a broker has no limit 'memory'; it has frame_max, .*memory_bytes"):
        new_broker(memory=5)
    with pytest.raises(TypeError, match="heartbeat is a number, not 'often'"):
        new_broker(heartbeat="often")


# In a thread.


def test_thread_serves_any_client_and_is_gone_afterwards() -> None:
    with broker_thread() as broker:
        assert threads() == [THREAD]
        assert repr(broker) == f"<BrokerThread 127.0.0.1:{broker.port} running>"
        assert broker.url == f"amqp://guest:guest@127.0.0.1:{broker.port}/"
        connection = connected(broker.url)
        channel = connection.channel()
        channel.queue_declare("q")
        channel.basic_publish("", "q", b"hello")
        assert channel.basic_get("q")[2] == b"hello"
        connection.close()
    assert threads() == []
    assert repr(broker) == f"<BrokerThread 127.0.0.1:{broker.port} stopped>"
    assert not opens(broker.url)


def test_url_is_that_of_the_first_user_and_of_a_virtual_host_that_is_there() -> None:
    with broker_thread(users={"a/n": "s3:cret"}, definitions={"vhosts": [{"name": "s/p"}]}) as broker:
        assert broker.url == f"amqp://a%2Fn:s3%3Acret@127.0.0.1:{broker.port}/s%2Fp"
        assert opens(broker.url)


def test_start_begins_anew_on_the_same_port() -> None:
    with broker_thread(vhosts=["shop"]) as broker:
        port = broker.port
        broker.start()  # does nothing
        for end in (broker.stop, broker.kill):
            broker.call(lambda inner: inner.vhosts["shop"].declare_queue("q"))
            assert broker.queues("shop") == {"q": 0}
            end()
            end()
            assert not broker.running and not opens(broker.url)
            broker.start()
            assert broker.port == port and opens(broker.url)
            assert broker.queues("shop") == {}


@pytest.mark.parametrize(("how", "reason"), [("stop", "CONNECTION_FORCED"), ("kill", "")])
def test_stop_says_good_bye_and_kill_does_not(how: str, reason: str) -> None:
    with broker_thread() as broker:
        connection = connected(broker.url)
        getattr(broker, how)()
        with pytest.raises(pika.exceptions.AMQPConnectionError) as caught:
            connection.sleep(10)
        assert reason in str(caught.value)
        assert bool(reason) == isinstance(caught.value, pika.exceptions.ConnectionClosedByBroker)


def test_blocked_publisher_is_told() -> None:
    with broker_thread() as broker:
        connection = connected(broker.url)
        heard: list[str] = []
        connection.add_on_connection_blocked_callback(lambda _, frame: heard.append(frame.method.reason))
        connection.add_on_connection_unblocked_callback(lambda _, frame: heard.append("unblocked"))
        broker.block("out of patience")
        connection.channel().basic_publish("", "q", b"")
        while heard != ["out of patience"]:
            connection.process_data_events(1)
        broker.unblock()
        while heard[-1] != "unblocked":
            connection.process_data_events(1)
        connection.close()


def test_connections_break_without_a_word(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL, "pika")
    with broker_thread() as broker:
        connection = connected(broker.url)
        broker.drop_connections()
        with pytest.raises(pika.exceptions.StreamLostError):
            connection.sleep(10)
        assert opens(broker.url)


def test_users_hosts_and_definitions_may_come_later() -> None:
    with broker_thread() as broker:
        url = f"amqp://ann:s3cret@127.0.0.1:{broker.port}/shop"
        assert not opens(url)
        broker.add_vhost("shop")
        broker.add_user("ann", "s3cret", tags=("monitoring",))
        assert not opens(url)
        broker.set_permissions("ann", "shop", configure="")
        assert opens(url)
        broker.load_definitions({"queues": [{"name": "q", "vhost": "shop", "durable": True, "auto_delete": False}]})
        assert broker.queues("shop") == {"q": 0}
        with pytest.raises(ValueError, match=r"at `\$\.queues`"):
            broker.load_definitions({"queues": 3})
        with pytest.raises(KeyError):
            broker.queues("nowhere")


def test_stopped_broker_cannot_be_asked() -> None:
    broker = BrokerThread()
    assert (broker.port, broker.url) == (0, "")
    for ask in (broker.queues, broker.block, broker.drop_connections):
        with pytest.raises(RuntimeError, match=r"does not run; start\(\) it first"):
            ask()
    broker.stop()


def test_port_that_is_taken_is_an_error_of_the_caller() -> None:
    with socket.create_server(("127.0.0.1", free_port())) as other:
        broker = BrokerThread(port=other.getsockname()[1])
        with pytest.raises(OSError, match="address already in use"):
            broker.start()
        assert not broker.running
    broker.start()
    broker.stop()
    assert threads() == []


def test_what_cannot_be_loaded_is_an_error_of_the_caller() -> None:
    with pytest.raises(ValueError, match=r"at `\$\.users`"), broker_thread(definitions={"users": 3}):
        pass
    assert threads() == []


# Shared by the whole process.


async def test_all_clients_of_the_process_share_one_broker() -> None:
    async def elsewhere() -> int:
        async with amqproxy.connect("embedded:") as mq:
            result: int = await mq.proxy("Calculator").add(3, 4)
            return result

    async with amqproxy.connect("embedded:") as mq, mq.serve(Calculator()):
        assert await mq.proxy(Calculator).add(1, 2) == 3
        assert await elsewhere() == 7
        assert await asyncio.to_thread(asyncio.run, elsewhere()) == 7
        assert threads() == [THREAD]
    assert threads() == []


async def test_broker_ends_with_its_last_client_and_the_next_one_finds_another() -> None:
    for _ in range(2):
        first = await amqproxy.connect("embedded:")
        second = await amqproxy.connect("EMBEDDED:")
        assert first.url == second.url
        await first.close()
        await first.close()
        async with second.serve(Calculator()):
            assert await second.proxy(Calculator).add(1, 2) == 3
        await second.close()
        assert threads() == []


async def test_other_clients_find_the_shared_broker_by_its_url() -> None:
    client = amqproxy.connect("embedded:")
    assert repr(client) == "<amqproxy.Client embedded: (not opened yet)>"
    async with client as mq:
        assert (mq.url.scheme, mq.url.host, mq.url.user) == ("amqp", "127.0.0.1", "guest")
        assert await asyncio.to_thread(opens, str(mq.url).replace("guest@", "guest:guest@"))


async def test_environment_may_name_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AMQPROXY_URL", "embedded:")
    async with amqproxy.connect():
        assert threads() == [THREAD]


async def test_client_that_cannot_connect_leaves_the_broker(monkeypatch: pytest.MonkeyPatch) -> None:
    client = amqproxy.connect("embedded:", connect_timeout=1e-9)
    for _ in range(2):
        with pytest.raises(amqproxy.BrokerUnavailable):
            await client.open()
        assert threads() == []


async def test_client_that_is_closed_while_it_opens_leaves_the_broker() -> None:
    client = amqproxy.connect("embedded:")
    opening = asyncio.create_task(client.open())
    await asyncio.sleep(0)
    await client.close()
    with pytest.raises(amqproxy.Closed):
        await opening
    assert threads() == []


def connect_in_a_fork(answers: Any) -> None:
    async def connect() -> None:
        async with amqproxy.connect("embedded:"):
            pass

    try:
        asyncio.run(connect())
    except amqproxy.BrokerUnavailable as error:
        answers.put(str(error))


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
async def test_forked_process_is_told_that_it_cannot_share() -> None:
    fork = multiprocessing.get_context("fork")
    answers = fork.SimpleQueue()
    async with amqproxy.connect("embedded:"):
        child = fork.Process(target=connect_in_a_fork, args=(answers,))
        child.start()
        await asyncio.to_thread(child.join, 30)
    assert child.exitcode == 0
    assert f"inside of the process {os.getpid()}, from which this one was forked" in answers.get()


def test_start_takes_milliseconds() -> None:
    """The promise is 20 ms; the least of several, as other programs want the processor too."""
    taken = []
    for _ in range(10):
        broker = BrokerThread()
        began = time.perf_counter()
        broker.start()
        taken.append(time.perf_counter() - began)
        broker.stop()
    assert min(taken) < 0.02
