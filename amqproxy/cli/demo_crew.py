"""The worker processes of the demonstration, each with the name of somebody who calculated."""

from __future__ import annotations

import asyncio
import signal
import tempfile
from dataclasses import dataclass
from types import TracebackType
from typing import IO

from ..client import URL_VARIABLE
from ..supervisor import Child
from .failure import FAILED

FOUNDERS = ("ada", "blaise", "charles")
VICTIM = "blaise"
JOINER = "grace"
SERVED = "amqproxy.cli.demo_service:Calculator"
PREFETCH = 20
"""Less than the calls in flight, or a few workers could hold all of them and the others none."""
FREEZE_SECONDS = 0.1
STOP_SECONDS = 5.0


class NoWorker(Exception):
    """A worker did not come up; with what it said, and its exit code."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


@dataclass(slots=True)
class Member:
    """One worker process."""

    name: str
    child: Child
    log: IO[bytes]
    state: str


class Crew:
    """All workers of one run, on a queue of their own that goes with the last of them."""

    def __init__(self, url: str, queue: str) -> None:
        self.members: list[Member] = []
        self._url = url
        self.queue = queue
        self._names: dict[str, str] = {}

    async def __aenter__(self) -> Crew:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for member in self.members:
            member.child.send(signal.SIGTERM)
        endings = [asyncio.create_task(member.child.wait()) for member in self.members]
        if endings:
            await asyncio.wait(endings, timeout=STOP_SECONDS)
        for member in self.members:
            member.child.send(signal.SIGKILL)  # has no effect on those that have ended
            member.log.close()
        await asyncio.gather(*endings)

    async def hire(self, *names: str, state: str = "serving") -> None:
        """Start workers, and return when all of them serve; NoWorker if one does not."""
        await asyncio.gather(*(self._start(name, state) for name in names))

    async def _start(self, name: str, state: str) -> None:
        log: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115  (closed when the crew leaves)
        arguments = (f"--name={self.queue}", f"--concurrency={PREFETCH}", SERVED)
        child = await Child.start(arguments, {URL_VARIABLE: self._url}, stderr=log)
        member = Member(name, child, log, "starting")
        self.members.append(member)
        self._names[str(child.pid)] = name
        if not await child.ready():
            code = await child.wait()
            log.seek(0)
            said = log.read().decode(errors="replace").strip().removeprefix("error: ")
            raise NoWorker(f"the worker {name} did not start: {said}", code if code > 0 else FAILED)
        member.state = state

    async def kill(self, name: str) -> None:
        """End a worker as a crash or a power cut does: it answers nothing and gives nothing back.

        It is stopped for a moment before, so that it surely dies with its hands full of calls.
        """
        [member] = [member for member in self.members if member.name == name]
        member.child.send(signal.SIGSTOP)
        await asyncio.sleep(FREEZE_SECONDS)
        member.child.send(signal.SIGKILL)
        member.state = "killed"

    def name_of(self, worker: str) -> str:
        """The name of the worker that calls itself so (host, process id and a number)."""
        return self._names.get(worker.split(".")[-2], worker)
