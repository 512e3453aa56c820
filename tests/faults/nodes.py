"""Private RabbitMQ nodes that can be frozen, run out of memory and disk, and stand in a cluster."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import ExitStack, asynccontextmanager, contextmanager

from amqproxy.testing import RabbitMQ

MUCH = "1000000GB"
"""More disk than there is."""


@asynccontextmanager
async def memory_alarm(node: RabbitMQ) -> AsyncIterator[None]:
    """The broker has no memory left: connections that publish are blocked."""
    await ctl(node, "set_vm_memory_high_watermark", "0")
    try:
        yield
    finally:
        await ctl(node, "set_vm_memory_high_watermark", "0.8")


@asynccontextmanager
async def disk_alarm(node: RabbitMQ) -> AsyncIterator[None]:
    """The broker has no disk left: connections that publish are blocked."""
    await ctl(node, "set_disk_free_limit", MUCH)
    try:
        yield
    finally:
        await ctl(node, "set_disk_free_limit", "50MB")


@asynccontextmanager
async def policy(node: RabbitMQ, queue: str, definition: str) -> AsyncIterator[None]:
    """The queue has this policy, such as `{"max-length": 1}`; waited for, if the queue is there already."""
    await ctl(node, "set_policy", queue, f"^{queue}$", definition, "--apply-to", "queues")
    while f"{queue}\t\n" in await ctl(node, "list_queues", "name", "policy"):  # noqa: ASYNC110  # of a broker
        await asyncio.sleep(0.05)
    try:
        yield
    finally:
        await ctl(node, "clear_policy", queue)


@asynccontextmanager
async def user(node: RabbitMQ, name: str, password: str, permissions: tuple[str, str, str]) -> AsyncIterator[str]:
    """A user who may configure, write and read what these patterns match: the URL to log in with."""
    await ctl(node, "add_user", name, password)
    try:
        await ctl(node, "set_permissions", name, *permissions)
        yield f"amqp://{name}:{password}@{node.host}:{node.port}/"
    finally:
        await ctl(node, "delete_user", name)


async def ctl(node: RabbitMQ, *arguments: str) -> str:
    """Run rabbitmqctl on the node, without holding up the event loop; RuntimeError with its words if it fails."""
    return await asyncio.to_thread(node.ctl, *arguments)


@contextmanager
def frozen(process: int) -> Iterator[None]:
    """The process stands still, and its sockets are open."""
    os.kill(process, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(process, signal.SIGCONT)


class Member(RabbitMQ):
    """A node that joins the cluster of another, which runs, when it starts for the first time."""

    def __init__(self, first: RabbitMQ, *, config: Mapping[str, str | int | bool]) -> None:
        formation = {
            "cluster_formation.peer_discovery_backend": "classic_config",
            "cluster_formation.classic_config.nodes.1": first.name,
        }
        super().__init__(config={**config, **formation})
        self._epmd_port = first._epmd_port  # by it nodes find each other
        cookie = self.directory / "home" / ".erlang.cookie"
        cookie.chmod(0o600)
        cookie.write_text((first.directory / "home" / ".erlang.cookie").read_text())
        cookie.chmod(0o400)

    def _start_epmd(self, deadline: float) -> None:
        """That of the first node serves all."""


@contextmanager
def cluster(size: int = 3, *, config: Mapping[str, str | int | bool] | None = None) -> Iterator[list[RabbitMQ]]:
    """Nodes that are one broker, on this machine; each may be killed, stopped, frozen and started."""
    config = dict(config or {})
    with ExitStack() as stack:
        first = RabbitMQ(config=config)
        stack.callback(first.close)
        first.start()
        nodes = [first]
        for _ in range(size - 1):
            nodes.append(Member(first, config=config))
            stack.callback(nodes[-1].close)
            nodes[-1].start()
        assert running_in_cluster(first) == {node.name for node in nodes}
        yield nodes


def running_in_cluster(node: RabbitMQ) -> set[str]:
    """The names of the nodes that run, as one of them sees it."""
    return set(json.loads(node.ctl("cluster_status", "--formatter", "json"))["running_nodes"])


def cut_off(node: RabbitMQ, others: list[RabbitMQ]) -> None:
    """Part a node of a cluster from others, as a network between them does: they refuse each other from now on."""
    names = ",".join(f"'{other.name}'" for other in others)
    refuse = f"lists:foreach(fun(N) -> erlang:set_cookie(N, parted) end, [{names}])"
    node.ctl("eval", f"{refuse}, lists:foreach(fun erlang:disconnect_node/1, [{names}]).")
