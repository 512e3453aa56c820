"""amqproxy's sender as its users use it, and the queue that all senders of one-way messages publish to.

`window` tasks send, each one message after the other. A run begins with an empty queue and ends when everything is
confirmed; then the queue must hold all of it.
"""

import asyncio
import time
from collections.abc import Iterator

from pamqp import commands

import amqproxy

from .. import control
from ..control import WrongAnswerError
from ..load import Service, Y, filler_for, numbered
from ..plan import SMALL, Run
from ..raw import Client

SERVICE = "bench.diary"


class Diary:
    """The contract."""

    async def add(self, x: int, y: int) -> int:
        """Return the sum, to nobody."""
        return x + y

    async def echo(self, text: str) -> str:
        """Return the text, to nobody."""
        return text


async def drive(sender: Service, run: Run) -> float:
    """Send the messages of one run and return the seconds they took."""
    numbers = iter(range(run.count))
    start = time.perf_counter()
    async with asyncio.TaskGroup() as window:
        for _ in range(run.window):
            window.create_task(add(sender, numbers) if run.size == SMALL else echo(sender, numbers, run.size))
    return time.perf_counter() - start


async def add(sender: Service, numbers: Iterator[int]) -> None:
    """Send numbers from a supply that all tasks of the window share."""
    for x in numbers:
        await sender.add(x, Y)


async def echo(sender: Service, numbers: Iterator[int], size: int) -> None:
    """Send texts of `size` characters."""
    filler = filler_for(size)
    for number in numbers:
        await sender.echo(numbered(number, filler))


async def caller(queue: str) -> None:
    """Send through a typed sender."""
    side = Client(control.url())
    async with amqproxy.connect(control.url()) as mq:
        sender = mq.sender(Diary, name=SERVICE, routing_key=queue)
        control.ready(control.version_of("amqproxy"))
        async for run in control.async_runs():
            side.call(commands.Queue.Purge(queue=queue))
            seconds = await drive(sender, run)
            found = side.call(commands.Queue.Declare(queue=queue, passive=True))
            assert isinstance(found, commands.Queue.DeclareOk)
            if found.message_count != run.count:
                raise WrongAnswerError(f"of {run.count} messages {found.message_count} are in the queue")
            control.answer(seconds)


async def worker(queue: str) -> None:
    """Keep the queue, as a pool declares it, until the bench closes the pipe; nobody consumes it."""
    client = Client(control.url())
    client.call(commands.Queue.Declare(queue=queue, durable=True))
    control.ready(control.version_of("amqproxy"))
    try:
        await control.closed()
    finally:
        client.call(commands.Queue.Delete(queue=queue))


if __name__ == "__main__":
    control.async_main(caller, worker)
