"""amqproxy's batches as its users use them: blocks of `window` calls, one after the other."""

import time
from collections.abc import Awaitable, Callable

import amqproxy

from .. import control
from ..control import WrongAnswerError
from ..load import Y, filler_for, numbered
from ..plan import PREFETCH, SMALL, Run
from .amqproxy_peer import Calculator

Block = Callable[[Run, range], Awaitable[None]]
"""Makes the calls with these numbers, and checks the answers."""


async def drive(block: Block, run: Run) -> float:
    """Make the calls of one run and return the seconds they took."""
    start = time.perf_counter()
    for first in range(0, run.count, run.window):
        await block(run, range(first, min(first + run.window, run.count)))
    return time.perf_counter() - start


def check(found: list[int], numbers: range) -> None:
    """Raise WrongAnswerError if these are not the sums."""
    if found != [number + Y for number in numbers]:
        raise WrongAnswerError(f"wrong sums for {numbers}")


def check_texts(found: list[str], numbers: range, filler: str) -> None:
    """Raise WrongAnswerError if these are not the texts."""
    if found != [numbered(number, filler) for number in numbers]:
        raise WrongAnswerError(f"wrong texts for {numbers}")


async def answer_runs(block: Block) -> None:
    """Carry out the bench's orders until it has no more."""
    control.ready(control.version_of("amqproxy"))
    async for run in control.async_runs():
        control.answer(await drive(block, run))


def in_batches(mq: amqproxy.Client, queue: str) -> Block:
    """Blocks that are `async with mq.batch(…)`."""

    async def block(run: Run, numbers: range) -> None:
        if run.size == SMALL:
            async with mq.batch(Calculator, name=queue) as calculator:
                sums = [calculator.add(number, Y) for number in numbers]
            check([await each for each in sums], numbers)
            return
        filler = filler_for(run.size)
        async with mq.batch(Calculator, name=queue) as calculator:
            texts = [calculator.echo(numbered(number, filler)) for number in numbers]
        check_texts([await each for each in texts], numbers, filler)

    return block


async def caller(queue: str) -> None:
    """Call in batches."""
    async with amqproxy.connect(control.url()) as mq:
        await answer_runs(in_batches(mq, queue))


async def worker(queue: str) -> None:
    """Serve until the bench closes the pipe."""
    async with amqproxy.connect(control.url()) as mq, mq.serve(Calculator(), name=queue, concurrency=PREFETCH):
        control.ready(control.version_of("amqproxy"))
        await control.closed()


if __name__ == "__main__":
    control.async_main(caller, worker)
