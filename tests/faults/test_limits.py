"""Limits of the broker: of channels, connections and queues, and of its memory."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time

import pytest

import amqproxy
from amqproxy.testing import RabbitMQ, broker_thread
from tests.contract.test_deadlines import Gate, gate
from tests.faults.nodes import ctl, memory_alarm, user
from tests.faults.table import Row
from tests.patience import until


@pytest.mark.fault("F53", "calls by more exchanges than channel_max allows")
async def test_the_agreed_number_of_channels_is_kept(service: str, row: Row) -> None:
    row.broker = "embedded"
    with broker_thread(channel_max=6) as broker:
        async with amqproxy.connect(broker.url) as mq, gate(mq, service) as (handler, proxy):
            link = mq._live_connection().current_link
            other = asyncio.create_task(proxy.wait(1))
            await handler.entered.acquire()
            channel = await link._channel()  # type: ignore[union-attr]  # it is open
            for number in range(9):
                await channel.exchange_declare(f"{service}.{number}", auto_delete=False)
            await channel.close()
            with row.sees(amqproxy.BrokerUnavailable, within=1.0, match="all 6 channels .* raise channel_max"):
                for number in range(9):
                    with contextlib.suppress(amqproxy.Unroutable):
                        await mq.proxy(service, exchange=f"{service}.{number}").ping()
            handler.open.set()
            assert await other == 1
            assert mq._live_connection().current_link is link


async def test_numbers_of_channels_are_used_again() -> None:
    with broker_thread(channel_max=5) as broker:
        async with amqproxy.connect(broker.url) as mq:
            link = await mq._live_connection().link()
            kept = [await link._channel() for _ in range(4)]
            for _ in range(20):
                channel = await link._channel()
                kept.append(channel)
                await kept.pop(0).close()
            assert {channel.number for channel in kept} <= {1, 2, 3, 4, 5}
            assert not link.closed.done()


@pytest.mark.fault("F53", "more channels than the user may have: the broker ends the connection (530)")
async def test_a_broker_that_ends_the_connection_for_its_channels(
    rabbitmq_node: RabbitMQ, service: str, row: Row, caplog: pytest.LogCaptureFixture
) -> None:
    async with user(rabbitmq_node, service, "pw", (".*", ".*", ".*")) as url:
        await ctl(rabbitmq_node, "set_user_limits", service, '{"max-channels": 2}')
        async with amqproxy.connect(url) as mq:
            states: list[amqproxy.State] = []
            mq.on_state(states.append)
            with row.sees(amqproxy.Unroutable, executed="no", within=2.0):  # two channels are enough for calls
                await mq.proxy(service).ping()
            starting = asyncio.create_task(mq.serve(Gate(), name=service, auto_delete=True).start())
            await asyncio.sleep(4)
            losses = sum(state.name == "reconnecting" and not state.attempt for state in states)
            assert any("530" in str(state) and "limit" in str(state) for state in states), states
            assert 2 <= losses <= 20
            row.saw(f"no tight loop: connected again {losses} times", 4.0, 4.0)
            await ctl(rabbitmq_node, "clear_user_limits", service, "max-channels")
            with row.sees("served, once the limit is gone", within=30.0):
                await starting


@pytest.mark.fault("F54", "one connection more than the virtual host may have")
async def test_a_virtual_host_that_is_full(rabbitmq_node: RabbitMQ, service: str, row: Row) -> None:
    await ctl(rabbitmq_node, "add_vhost", service)
    try:
        await ctl(rabbitmq_node, "set_permissions", "-p", service, "guest", ".*", ".*", ".*")
        await ctl(rabbitmq_node, "set_vhost_limits", "-p", service, '{"max-connections": 1}')
        url = f"{rabbitmq_node.url}{service}"
        async with amqproxy.connect(url):
            with row.sees(amqproxy.BrokerUnavailable, within=2.0, match="takes no connection now: .*limit"):
                await amqproxy.connect(url)
            late = amqproxy.connect(url, wait=True)
            opening = asyncio.create_task(late.open())
            await until(lambda: late.state.attempt >= 2)
        with row.sees("connected with wait=True, once there is room", within=20.0):
            await opening
        await late.close()
    finally:
        await ctl(rabbitmq_node, "delete_vhost", service)


@pytest.mark.fault("F54", "one connection more than the user may have")
async def test_a_user_with_too_many_connections(rabbitmq_node: RabbitMQ, service: str, row: Row) -> None:
    async with user(rabbitmq_node, service, "pw", (".*", ".*", ".*")) as url:
        await ctl(rabbitmq_node, "set_user_limits", service, '{"max-connections": 1}')
        async with amqproxy.connect(url):
            with row.sees(amqproxy.BrokerUnavailable, within=2.0, match="takes no connection now: .*limit"):
                await amqproxy.connect(url)


@pytest.mark.fault("F54", "one queue more than the virtual host may have")
async def test_a_virtual_host_with_too_many_queues(rabbitmq_node: RabbitMQ, service: str, row: Row) -> None:
    await ctl(rabbitmq_node, "add_vhost", service)
    try:
        await ctl(rabbitmq_node, "set_permissions", "-p", service, "guest", ".*", ".*", ".*")
        async with amqproxy.connect(f"{rabbitmq_node.url}{service}") as mq, gate(mq, service) as (_, proxy):
            await ctl(rabbitmq_node, "set_vhost_limits", "-p", service, '{"max-queues": 1}')
            with row.sees(amqproxy.TopologyConflict, within=2.0, match="queue limit"):
                await mq.serve(Gate(), name=f"{service}.other").start()
            assert await proxy.ping() == "pong"
    finally:
        await ctl(rabbitmq_node, "delete_vhost", service)


@pytest.mark.fault("F11", "memory alarm: state and calls of a connection that publishes")
async def test_a_blocked_connection_says_so(
    rabbitmq_node: RabbitMQ, service: str, row: Row, caplog: pytest.LogCaptureFixture
) -> None:
    async with (
        amqproxy.connect(rabbitmq_node.url) as mq,
        amqproxy.connect(rabbitmq_node.url) as server,
        gate(server, service),
    ):
        caplog.set_level(logging.INFO, "amqproxy")
        proxy = mq.proxy(Gate, name=service, timeout=1)
        assert await proxy.ping() == "pong"
        async with memory_alarm(rabbitmq_node):
            with contextlib.suppress(amqproxy.CallTimeout):
                await proxy.ping()  # a connection is blocked when it publishes
            await until(lambda: mq.state.name == "blocked", lambda: str(mq.state))
            assert mq.state.reason == "low on memory"
            with row.sees(
                amqproxy.CallTimeout, executed="no", within=1.5, match=r"not be sent.*blocked.*low on memory"
            ):
                await proxy.ping()
            waiting = asyncio.create_task(amqproxy.options(proxy, timeout=30).ping())
        with row.sees("the answer, of a call that waited", within=10.0):
            assert await waiting == "pong"
        assert mq.state.name == "open"
    assert "takes no messages for now (low on memory): what is to be sent waits" in caplog.text
    assert "takes messages again" in caplog.text


@pytest.mark.long
@pytest.mark.fault("F48", "200 connections closed by the broker at once, which stays up")
async def test_two_hundred_clients_that_are_cut_off(rabbitmq_node: RabbitMQ, row: Row) -> None:
    await storm(rabbitmq_node, row, restart=False)


@pytest.mark.long
@pytest.mark.fault("F48", "200 clients of a broker that is killed, and started again")
async def test_two_hundred_clients_of_a_broker_that_is_started_again(rabbitmq_node: RabbitMQ, row: Row) -> None:
    await storm(rabbitmq_node, row, restart=True)


CLIENTS = 200


async def storm(node: RabbitMQ, row: Row, *, restart: bool) -> None:
    clients = [amqproxy.connect(node.url, connect_timeout=30) for _ in range(CLIENTS)]
    try:
        for at in range(0, CLIENTS, 20):
            await asyncio.gather(*(client.open() for client in clients[at : at + 20]))
        opened: list[float] = []
        for client in clients:
            client.on_state(lambda state: opened.append(time.monotonic()) if state.name == "open" else None)
        if restart:
            await asyncio.to_thread(node.kill)
            await until(lambda: all(client.state.attempt for client in clients), within=20)
            await asyncio.to_thread(node.start)
        else:
            await ctl(node, "close_all_connections", "a test")
        began = time.monotonic()
        with row.sees("all are back", within=40.0):
            await until(lambda: all(client.state.name == "open" for client in clients), within=40)
        seconds = [moment - began for moment in opened]
        busiest = max(sum(0 <= other - one < 0.1 for other in seconds) for one in seconds)
        # Those that were cut off draw from a quarter of a second, and are through when the only event loop here is.
        assert not restart or busiest <= 0.4 * CLIENTS
        assert len(opened) <= CLIENTS * 1.1
        row.saw(f"{busiest} connections in the busiest tenth of a second", max(seconds), 40.0)
    finally:
        await asyncio.gather(*(client.close() for client in clients))
