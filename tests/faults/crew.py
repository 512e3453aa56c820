"""The processes of a random run: as many callers and workers as there should be, each replaced when it has ended."""

from __future__ import annotations

import asyncio
import itertools
import re
import signal
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from tests.faults import random_caller, random_worker
from tests.faults.invariants import Violation
from tests.patience import until
from tests.processes import environment

ROOT = Path(__file__).parent.parent.parent
CALLER, WORKER = "caller", "worker"
READY = {CALLER: random_caller.CALLING, WORKER: random_worker.SERVING}
DRAIN_SECONDS = random_worker.GRACE + 15.0
"""A worker that is told to stop has ended after its grace, and what it takes to give back calls and to say good-bye to
a broker that may not listen."""
STOP_SECONDS = {CALLER: random_caller.PATIENCE + 10.0, WORKER: DRAIN_SECONDS}
START_SECONDS = 60.0
HIRE_AGAIN_SECONDS = 0.5
UNHANDLED = re.compile(
    r"never retrieved|was destroyed but it is pending|Exception in callback|exception in shutdown|Unhandled exception"
    r"|was never awaited|Fatal error"
)
"""What asyncio and the interpreter say of errors that nobody has taken."""


@dataclass(eq=False)
class Member:
    """One process, from its start to its end."""

    role: str
    name: str
    folder: Path
    process: asyncio.subprocess.Process
    ready: asyncio.Event = field(default_factory=asyncio.Event)
    killed: bool = False
    """It was killed, or is about to be: it owes nothing."""
    told: float = 0.0
    """When it was told to stop."""
    frozen: bool = False

    @property
    def journal(self) -> Path:
        return self.folder / f"{self.name}.journal"

    @property
    def log(self) -> Path:
        return self.folder / f"{self.name}.log"

    def send(self, number: signal.Signals) -> None:
        if self.process.returncode is None:
            self.process.send_signal(number)

    def kill(self) -> None:
        self.killed = True
        self.send(signal.SIGKILL)

    def stop(self) -> None:
        """Tell it to drain."""
        self.told = time.monotonic()
        self.send(signal.SIGTERM)

    def freeze(self) -> None:
        self.frozen = True
        self.send(signal.SIGSTOP)

    def thaw(self) -> None:
        self.frozen = False
        self.send(signal.SIGCONT)


class Crew:
    """All of them."""

    def __init__(self, folder: Path, service: str, seed: int, rate: float, *, quorum: bool) -> None:
        self.members: list[Member] = []
        """All that ever were."""
        self.violations: list[Violation] = []
        """What was wrong with how they ended."""
        self._folder = folder
        self._service = service
        self._seed = seed
        self._rate = rate
        self._quorum = quorum
        self._ending = {CALLER: False, WORKER: False}
        self._numbers = itertools.count(1)
        self._posts: dict[str, list[asyncio.Task[None]]] = {CALLER: [], WORKER: []}

    def at_work(self, role: str) -> list[Member]:
        """Those that run, are ready, and were not told to stop."""
        return [
            member
            for member in self.members
            if member.role == role
            and member.ready.is_set()
            and member.process.returncode is None
            and not (member.killed or member.told or member.frozen)
        ]

    def hire(self, role: str, count: int, url: str) -> None:
        """Keep so many processes of a role running."""
        for _ in range(count):
            self._posts[role].append(asyncio.create_task(self._keep(role, url)))

    async def ready(self, role: str, count: int) -> None:
        """Wait until so many are at work."""
        await until(lambda: len(self.at_work(role)) >= count, lambda: self._absent(role), within=START_SECONDS)

    def _absent(self, role: str) -> str:
        last = [member.log.read_text(errors="replace")[-500:] for member in self.members if member.role == role][-1:]
        return f"there are {len(self.at_work(role))} {role}s, and the last one said {last}"

    async def dismiss(self, role: str) -> None:
        """Let all of a role drain and end."""
        self._ending[role] = True
        for member in self.members:
            if member.role == role and not member.told:
                member.stop()
        await asyncio.gather(*self._posts[role])

    def kill_all(self) -> None:
        """End what is left of them; for runs that break down."""
        self._ending = {CALLER: True, WORKER: True}
        for member in self.members:
            member.kill()
        for task in [*self._posts[CALLER], *self._posts[WORKER]]:
            task.cancel()

    async def _keep(self, role: str, url: str) -> None:
        while not self._ending[role]:
            member = await self._start(role, url)
            await self._listen(member)
            await self._end(member)
            await asyncio.sleep(HIRE_AGAIN_SECONDS)

    async def _start(self, role: str, url: str) -> Member:
        name = f"{role}{next(self._numbers)}"
        program = random_caller if role == CALLER else random_worker
        command = [sys.executable, "-m", program.__name__, url, self._service, str(self._folder / f"{name}.journal")]
        if role == CALLER:
            command += [f"{self._seed}.{name}", str(self._rate)]
        elif self._quorum:
            command.append("quorum")
        with (self._folder / f"{name}.log").open("wb") as log:
            starting = asyncio.create_subprocess_exec(
                *command,
                cwd=ROOT,
                env=environment(PYTHONWARNINGS="default", PYTHONUNBUFFERED="1"),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                start_new_session=True,  # a Ctrl-C is for the one who makes the run
            )
            member = Member(role, name, self._folder, await starting)
        self.members.append(member)
        if self._ending[role]:
            member.stop()
        return member

    async def _listen(self, member: Member) -> None:
        """Read what it says until it has ended."""
        assert member.process.stdout is not None
        while line := await member.process.stdout.readline():
            if line.decode().strip() == READY[member.role]:
                member.ready.set()

    async def _end(self, member: Member) -> None:
        """Judge how it ended, for it has closed its output."""
        code = await member.process.wait()
        if member.killed:
            return
        took = time.monotonic() - member.told
        if not member.told:
            if member.ready.is_set():  # without a broker it may fail to start, and is started again
                self._blame(member, f"it ended by itself with {code}")
        elif code and member.ready.is_set():
            self._blame(member, f"it ended with {code} when it was told to stop")
        elif took > STOP_SECONDS[member.role]:
            self._blame(member, f"it took {took:.1f} s to stop")

    def _blame(self, member: Member, text: str) -> None:
        last = member.log.read_text(errors="replace").strip().splitlines()[-1:]
        now = time.monotonic()
        self.violations.append(Violation("processes end in order", f"{member.name}: {text} {last}", now, now))

    def unhandled(self) -> list[Violation]:
        """Errors that nobody has taken, as the logs tell."""
        found = []
        for member in self.members:
            text = member.log.read_text(errors="replace")
            for match in UNHANDLED.finditer(text):
                said = text[max(0, match.start() - 200) : match.end() + 1200]
                found.append(Violation("every error is somebody's", f"{member.name}: {said}"))
        return found
