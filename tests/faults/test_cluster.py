"""Three nodes that are one broker: one of them dies, or is cut off from the others."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest

import amqproxy
from amqproxy.testing import RabbitMQ
from amqproxy.url import BrokerURL
from tests.contract.test_hosts import url_of
from tests.faults.diary import Diary, diary
from tests.faults.network import Relay
from tests.faults.nodes import cluster, ctl, cut_off
from tests.faults.table import Row
from tests.patience import SLACK

pytestmark = pytest.mark.long

AT_ONCE = 1.0
BACK = 20.0
"""Seconds within which calls are answered again: the others elect a leader, and callers connect again."""
QUORUM = {"x-queue-type": "quorum"}


@pytest.fixture
def nodes(rabbitmq_node: RabbitMQ) -> Iterator[list[RabbitMQ]]:
    """A cluster of the test's own; where there is no private node, there is none of these either."""
    with cluster(config={"cluster_partition_handling": "pause_minority"}) as nodes:
        yield nodes


class Load:
    """Calls, idempotent calls and one-way messages without end, and what they came to."""

    def __init__(self, mq: amqproxy.Client, service: str, *, confirm: bool = False) -> None:
        self.ended = False
        self.failures: dict[str, list[float]] = {}
        """Each kind, and the seconds after which each of it came."""
        self.confirmed: set[int] = set()
        self.answered: set[int] = set()
        self.refused: set[int] = set()
        """What is said not to have run."""
        self.longest = 0.0
        """Seconds that one of them took at most."""
        self._wanted = 0
        self._enough = asyncio.Event()
        self._numbers = itertools.count(1)
        self._call = mq.proxy(Diary, name=service, timeout=BACK, confirm=confirm).note
        self._call_again = mq.proxy(Diary, name=service, timeout=BACK, confirm=confirm, idempotent=True).note
        self._send = mq.sender(Diary, name=service, timeout=BACK, idempotent=True).note

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            for _ in range(5):
                group.create_task(self._repeat("a call", self._call, self.answered))
                group.create_task(self._repeat("an idempotent call", self._call_again, self.answered))
                group.create_task(self._repeat("a message", self._send, self.confirmed))

    async def _repeat(self, what: str, do: Callable[[int], Any], done: set[int]) -> None:
        while not self.ended:
            number = next(self._numbers)
            began = time.monotonic()
            try:
                assert await do(number) in (None, 2 * number)
            except amqproxy.CallError as error:
                kind = f"{what}: {type(error).__name__} ({error.executed})"
                self.failures.setdefault(kind, []).append(time.monotonic() - began)
                if error.executed == "no":
                    self.refused.add(number)
            else:
                done.add(number)
            self.longest = max(self.longest, time.monotonic() - began)
            if min(len(self.answered), len(self.confirmed)) >= self._wanted:
                self._enough.set()

    async def further(self, number: int) -> None:
        """Wait until so many more calls were answered, and as many messages are confirmed."""
        self._wanted = number + max(len(self.answered), len(self.confirmed))
        self._enough.clear()
        try:
            await asyncio.wait_for(self._enough.wait(), BACK * SLACK)
        except TimeoutError:
            raise AssertionError(f"no {number} further answers; {self!r}") from None

    def __repr__(self) -> str:
        failures = {kind: len(waits) for kind, waits in self.failures.items()}
        return f"<Load: {len(self.answered)} answered, {len(self.confirmed)} confirmed, {failures}>"


async def elected(node: RabbitMQ, queue: str, lost: RabbitMQ) -> None:
    """Return when the queue has another leader than the node that was lost.

    RabbitMQ 3.10 drops for good what is published on a channel that first spoke to the queue while it had none.
    """
    async with asyncio.timeout(BACK * SLACK):
        while f"{queue}\t{lost.name}" in await ctl(node, "list_queues", "name", "leader"):
            pass


Failing = Callable[[], Awaitable[None]]


async def failover(
    nodes: list[RabbitMQ], service: str, row: Row, fail: Callable[[], None], *, at_once: bool = False
) -> None:
    """Callers and a worker at a node that fails, and a worker at another: nothing that was confirmed is lost.

    If they come to another node at once, before the queue has a leader there, calls are confirmed, too.
    """
    async with Relay.to(nodes[0].url) as relay:

        async def fails() -> None:
            relay.refuses = True
            await asyncio.to_thread(fail)
            if not at_once:
                await elected(nodes[1], service, nodes[0])
            relay.target, relay.refuses = BrokerURL.parse(nodes[2].url), False  # as a load balancer does

        await survived(relay.url, nodes, service, row, fails, confirm=at_once)


async def survived(
    url: str, nodes: list[RabbitMQ], service: str, row: Row, fail: Failing, *, confirm: bool
) -> str | None:
    """Callers and a worker at a URL outlive what happens to the first node; the host where the callers are then."""
    async with (
        diary(url, service, arguments=QUORUM) as first,
        diary(nodes[1].url, service, arguments=QUORUM) as second,
        amqproxy.connect(url, heartbeat=2) as mq,
    ):
        load = Load(mq, service, confirm=confirm)
        running = asyncio.create_task(load.run())
        await load.further(500)
        row.begin()
        await fail()
        with row.sees("answers again", within=BACK, since_begin=True):
            await load.further(200)
        load.ended = True
        await running
        for what, waits in load.failures.items():
            for seconds in waits:
                row.saw(what, seconds, BACK)
        row.saw("the longest of all calls and messages", load.longest, BACK)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(BACK * SLACK):
                while load.confirmed - (first.ran + second.ran).keys():  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
        ran = first.ran + second.ran
        assert load.confirmed <= ran.keys()
        assert not load.refused & ran.keys(), "what was said not to have run was run"
        row.count(lost=len(load.confirmed - ran.keys()), duplicated=sum(ran.values()) - len(ran))
        assert load.answered <= ran.keys()
        return mq.state.host


@pytest.mark.fault(
    "F60", "SIGKILL for the node of callers, a worker and a quorum queue's leader; they come to another once that leads"
)
async def test_a_node_of_a_cluster_that_is_killed_loses_nothing(nodes: list[RabbitMQ], service: str, row: Row) -> None:
    await failover(nodes, service, row, nodes[0].kill)


@pytest.mark.fault("F60", "SIGKILL for the node that leads; callers and a worker come to another at once")
async def test_a_leader_that_is_killed_holds_nobody_up(nodes: list[RabbitMQ], service: str, row: Row) -> None:
    await failover(nodes, service, row, nodes[0].kill, at_once=True)


@pytest.mark.fault(
    "F61", "the node of callers and a worker cut off from the other two; they come there once those have a leader"
)
async def test_a_node_in_a_minority_sends_its_clients_away(nodes: list[RabbitMQ], service: str, row: Row) -> None:
    await failover(nodes, service, row, lambda: cut_off(nodes[0], nodes[1:]))
    with row.sees(amqproxy.BrokerUnavailable, within=AT_ONCE):
        await amqproxy.connect(nodes[0].url, connect_timeout=5)


@pytest.mark.parametrize(
    "fail",
    [
        pytest.param(
            lambda nodes: nodes[0].kill(),
            marks=pytest.mark.fault("F60", "SIGKILL for the node that leads; clients have all three in their URL"),
            id="killed",
        ),
        pytest.param(
            lambda nodes: cut_off(nodes[0], nodes[1:]),
            marks=pytest.mark.fault("F61", "the first node cut off; clients have all three in their URL"),
            id="minority",
        ),
    ],
)
async def test_clients_go_to_the_next_host_of_their_url(
    nodes: list[RabbitMQ], service: str, row: Row, fail: Callable[[list[RabbitMQ]], None]
) -> None:
    url = url_of(*(node.port for node in nodes))

    async def fails() -> None:
        await asyncio.to_thread(fail, nodes)

    host = await survived(url, nodes, service, row, fails, confirm=True)
    assert host in [f"127.0.0.1:{node.port}" for node in nodes[1:]]
