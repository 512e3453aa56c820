"""What goes wrong in a random run: each nemesis does its harm, waits, and makes it good again."""

from __future__ import annotations

import asyncio
import os
import random
import signal
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from amqproxy.testing import RabbitMQ
from tests.faults.crew import CALLER, WORKER, Crew, Member
from tests.faults.network import READ_BYTES, Direction, Relay

BROKER, CALLERS, WORKERS, CREW = "the broker", "the callers' network", "the workers' network", "a process"

DELETE_REPLY_QUEUES = """
[rabbit_amqqueue:delete(Q, false, false, <<"torture">>)
 || Q <- rabbit_amqqueue:list(<<"/">>), amqqueue:get_exclusive_owner(Q) =/= none, rand:uniform(2) =:= 1],
ok.
"""


@dataclass
class Arena:
    """All that can be harmed."""

    node: RabbitMQ
    networks: dict[str, Relay]
    """Of the callers, and of the workers."""
    crew: Crew
    chance: random.Random

    async def ctl(self, *arguments: str) -> None:
        """Have RabbitMQ told something."""
        await asyncio.to_thread(self.node.ctl, *arguments)

    async def wait(self, least: float, most: float) -> None:
        """Let the harm last."""
        await asyncio.sleep(self.chance.uniform(least, most))

    def one(self, role: str) -> Member | None:
        """A process at work, if there are two at least: somebody has to be left."""
        found = self.crew.at_work(role)
        return self.chance.choice(found) if len(found) > 1 else None


@dataclass(frozen=True, slots=True)
class Nemesis:
    """One kind of harm."""

    fault: str
    """By the list of faults."""
    title: str
    target: str
    """What it harms, which nobody else does at the same time."""
    strike: Callable[[Arena], Awaitable[bool | None]]
    """Does it, and makes it good again; False if there was nothing that could be harmed."""


async def kill_broker(arena: Arena) -> None:
    arena.node.kill()
    await arena.wait(0.0, 3.0)
    await asyncio.to_thread(arena.node.start)


async def stop_broker(arena: Arena) -> None:
    await arena.ctl("stop_app")
    await arena.wait(0.0, 3.0)
    await arena.ctl("start_app")


async def freeze_broker(arena: Arena) -> None:
    os.kill(arena.node.pid, signal.SIGSTOP)
    await arena.wait(0.5, 10.0)
    os.kill(arena.node.pid, signal.SIGCONT)


async def close_connections(arena: Arena) -> None:
    await arena.ctl("close_all_connections", "torture")


async def memory_alarm(arena: Arena) -> None:
    await arena.ctl("set_vm_memory_high_watermark", "0")
    await arena.wait(0.5, 6.0)
    await arena.ctl("set_vm_memory_high_watermark", "0.4")


async def disk_alarm(arena: Arena) -> None:
    await arena.ctl("set_disk_free_limit", "999GB")
    await arena.wait(0.5, 6.0)
    await arena.ctl("set_disk_free_limit", "50MB")


async def delete_reply_queues(arena: Arena) -> None:
    await arena.ctl("eval", DELETE_REPLY_QUEUES)


def reset(network: str) -> Callable[[Arena], Awaitable[None]]:
    async def strike(arena: Arena) -> None:
        arena.networks[network].reset()

    return strike


def reset_amid(network: str, direction: str) -> Callable[[Arena], Awaitable[None]]:
    """Reset one connection behind some byte of what is on its way."""

    async def strike(arena: Arena) -> None:
        way: Direction = getattr(arena.networks[network], direction)
        way.reset_after(arena.chance.randrange(10_000))

    return strike


def black_hole(network: str, *directions: str) -> Callable[[Arena], Awaitable[None]]:
    async def strike(arena: Arena) -> None:
        relay = arena.networks[network]
        held = [getattr(relay, direction) for direction in directions]
        lost = arena.chance.random() < 0.5  # or it comes later
        for direction in held:
            direction.swallow() if lost else direction.hold()
        await arena.wait(0.5, 10.0)
        if lost:
            relay.cut()
        for direction in held:
            direction.release()

    return strike


def slow(network: str) -> Callable[[Arena], Awaitable[None]]:
    async def strike(arena: Arena) -> None:
        relay = arena.networks[network]
        for direction in (relay.up, relay.down):
            direction.latency = arena.chance.uniform(0.05, 0.5)
            direction.piece = arena.chance.choice((10, 100, 1000))
        await arena.wait(0.5, 5.0)
        for direction in (relay.up, relay.down):
            direction.latency, direction.piece = 0.0, READ_BYTES

    return strike


async def kill_worker(arena: Arena) -> bool:
    if (worker := arena.one(WORKER)) is None:
        return False
    worker.kill()
    return True


async def freeze_worker(arena: Arena) -> bool:
    if (worker := arena.one(WORKER)) is None:
        return False
    worker.freeze()
    await arena.wait(0.5, 10.0)
    worker.thaw()
    return True


async def drain_worker(arena: Arena) -> bool:
    if (worker := arena.one(WORKER)) is None:
        return False
    worker.stop()
    return True


async def kill_draining_worker(arena: Arena) -> bool:
    if (worker := arena.one(WORKER)) is None:
        return False
    worker.stop()
    await arena.wait(0.0, 1.0)
    worker.kill()
    return True


async def kill_caller(arena: Arena) -> bool:
    if (caller := arena.one(CALLER)) is None:
        return False
    caller.kill()
    return True


RESTARTS = (kill_broker, stop_broker)
"""By which a classic queue loses its transient messages."""

NEMESES = (
    Nemesis("F01", "the broker is killed and started again", BROKER, kill_broker),
    Nemesis("F03", "the broker is stopped in order and started again", BROKER, stop_broker),
    Nemesis("F03", "the broker closes all connections", BROKER, close_connections),
    Nemesis("F06", "the callers' connections are reset", CALLERS, reset(CALLERS)),
    Nemesis("F06", "the workers' connections are reset", WORKERS, reset(WORKERS)),
    Nemesis("F06", "a caller's connection is reset amid a frame", CALLERS, reset_amid(CALLERS, "up")),
    Nemesis("F06", "a connection is reset amid a frame to a caller", CALLERS, reset_amid(CALLERS, "down")),
    Nemesis("F06", "a worker's connection is reset amid a frame", WORKERS, reset_amid(WORKERS, "up")),
    Nemesis("F06", "a connection is reset amid a frame to a worker", WORKERS, reset_amid(WORKERS, "down")),
    Nemesis("F07", "what callers send does not arrive", CALLERS, black_hole(CALLERS, "up")),
    Nemesis("F07", "what workers send does not arrive", WORKERS, black_hole(WORKERS, "up")),
    Nemesis("F08", "nothing reaches the callers", CALLERS, black_hole(CALLERS, "down")),
    Nemesis("F08", "nothing reaches the workers", WORKERS, black_hole(WORKERS, "down")),
    Nemesis("F08", "the broker is frozen", BROKER, freeze_broker),
    Nemesis("F09", "the callers' network is slow", CALLERS, slow(CALLERS)),
    Nemesis("F09", "the workers' network is slow", WORKERS, slow(WORKERS)),
    Nemesis("F11", "the broker is out of memory", BROKER, memory_alarm),
    Nemesis("F12", "the broker is out of disk", BROKER, disk_alarm),
    Nemesis("F20", "a worker is killed", CREW, kill_worker),
    Nemesis("F22", "a worker is frozen", CREW, freeze_worker),
    Nemesis("F26", "reply queues and workers' own queues are deleted", BROKER, delete_reply_queues),
    Nemesis("F27", "a caller is killed", CREW, kill_caller),
    Nemesis("F46", "a worker is told to stop", CREW, drain_worker),
    Nemesis("F47", "a worker is told to stop, and killed before it has", CREW, kill_draining_worker),
)
