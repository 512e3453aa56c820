"""A worker of the random run: `python -m tests.faults.random_worker URL SERVICE JOURNAL [quorum]`.

It notes each call that it runs. With `quorum` its queue is a quorum queue.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import amqproxy
from amqproxy.runner import Service, serve_until_stopped
from amqproxy.server import Worker
from tests.faults.invariants import expected
from tests.faults.journal import Journal

SERVING = "serving now"
"""What a worker says when requests can come."""
GRACE = 5.0
CONCURRENCY = 20


class Torn(Exception):
    """What the handler that raises raises."""


@amqproxy.serve("torture", concurrency=CONCURRENCY, grace=GRACE, arguments={"x-expires": 600_000})
class Tortured:
    """Gives back what was made of a token, in all the ways that there are."""

    def __init__(self, journal: Journal | None = None) -> None:
        self._journal = journal

    def _note(self, token: str) -> None:
        assert self._journal is not None
        call = amqproxy.current()
        sent = (call.correlation_id or b"").decode()
        self._journal.note("run", token, sent=sent, redelivered=call.redelivered)

    async def echo(self, token: str, seconds: float) -> str:
        """Answer after a while."""
        self._note(token)
        await asyncio.sleep(seconds)
        return expected(token)

    @amqproxy.method(idempotent=True)
    async def again(self, token: str, seconds: float) -> str:
        """The same, and it may be run again."""
        return await self.echo(token, seconds)

    @amqproxy.method(at_most_once=True)
    async def once(self, token: str, seconds: float) -> str:
        """The same, and it must not be run again."""
        return await self.echo(token, seconds)

    def threaded(self, token: str, seconds: float) -> str:
        """The same in a thread, without the while."""
        self._note(token)
        return expected(token)

    async def fail(self, token: str, seconds: float) -> None:
        """Raise what is made of the token."""
        self._note(token)
        await asyncio.sleep(seconds)
        raise ValueError(expected(token))

    async def letters(self, token: str, seconds: float) -> AsyncIterator[str]:
        """Stream it letter by letter."""
        self._note(token)
        for letter in expected(token):
            await asyncio.sleep(seconds / len(token))
            yield letter

    async def joined(self, letters: AsyncIterator[str], token: str) -> str:
        """Take the token letter by letter."""
        self._note(token)
        return expected("".join([letter async for letter in letters]))


async def main(url: str, name: str, journal: Journal, quorum: bool) -> int:
    """Serve until a signal comes, and note what is left of it: the exit code."""
    serving: list[Worker] = []

    def started(workers: Sequence[Worker]) -> None:
        serving.extend(workers)
        print(SERVING, flush=True)

    before = asyncio.all_tasks()
    code = await serve_until_stopped(
        [Service(Tortured(journal), name, {"quorum": True} if quorum else {})], url, started=started
    )
    await asyncio.sleep(0)
    tasks = [task for task in asyncio.all_tasks() - before if "aiormq" not in repr(task)]
    running = sum(len(worker.running) for worker in serving)
    journal.note("left", things={"calls that run": running, "tasks": len(tasks)})
    return code


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(levelname)s %(message)s")
    sys.exit(asyncio.run(main(sys.argv[1], sys.argv[2], Journal(Path(sys.argv[3])), "quorum" in sys.argv[4:])))
