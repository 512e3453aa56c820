"""The order of measurements: in each round, in each cell, every contender in turn.

So contenders that are compared are measured within seconds of each other, and what else the machine does hits
all of them alike. Each round begins with another contender.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

from .broker import Broker
from .contenders import Contender
from .contenders.c_pair import SkippedError
from .measure import Pair, Sample, calibrate, measure
from .peer import Peer, PeerFailedError
from .plan import Cell, Plan

Progress = Callable[[str], None]
"""Is told what comes next; each call is one step of `steps`."""


@dataclass(slots=True)
class Field:
    """All contenders of one bench and what became of them."""

    broker: Broker
    embedded: Broker | None = None
    """For those contenders that run on it."""
    running: list[Pair] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    about: dict[str, str] = field(default_factory=dict)
    """How each contender that was started is used, and the version that it says it has."""

    def start(self, contender: Contender, directory: Path, flags: dict[str, list[str]]) -> None:
        """Start both processes of a contender. `flags` are arguments for its ``caller`` and ``worker``."""
        queue = f"bench_{uuid4().hex[:12]}"
        try:
            commands = contender.prepare(directory, queue)
        except SkippedError as reason:
            self.skipped[contender.name] = str(reason)
            return
        if not contender.python:
            flags = {}
        node = self.broker
        if contender.embedded:
            assert self.embedded is not None
            node = self.embedded
        worker = Peer(f"{contender.name} worker", [*commands.worker, *flags.get("worker", [])], node.url)
        caller = Peer(f"{contender.name} caller", [*commands.caller, *flags.get("caller", [])], node.url)
        pair = Pair(contender.name, caller, worker, node.pid)
        self.running.append(pair)
        try:
            worker.wait_ready()
            self.about[contender.name] = f"{caller.wait_ready()}: {contender.about}"
        except PeerFailedError as error:
            self._drop(pair, error)

    def measure(self, plan: Plan, progress: Progress) -> Iterator[Sample]:
        """Measure everything. A contender that fails is out for the rest; the others go on."""
        for cell in plan.cells():
            for pair in list(self.running):
                progress(f"calibrating {pair.name}, {cell}")
                try:
                    calibrate(pair, cell, plan.seconds)
                except PeerFailedError as error:
                    self._drop(pair, error)
        for number in range(plan.rounds):
            for cell in plan.cells():
                yield from self._measure_cell(cell, number, progress)

    def steps(self, plan: Plan) -> int:
        """How often `measure` reports progress if nobody fails."""
        return len(plan.cells()) * len(self.running) * (1 + plan.rounds)

    def stop(self) -> None:
        """End all processes."""
        while self.running:
            self.running.pop().stop()

    def _measure_cell(self, cell: Cell, number: int, progress: Progress) -> Iterator[Sample]:
        first = number % max(len(self.running), 1)
        for pair in self.running[first:] + self.running[:first]:
            progress(f"round {number + 1}, {cell}, {pair.name}")
            try:
                sample = measure(pair, cell, number, self.running)
            except PeerFailedError as error:
                self._drop(pair, error)
            else:
                yield sample

    def _drop(self, pair: Pair, error: PeerFailedError) -> None:
        self.failed[pair.name] = str(error)
        self.running.remove(pair)
        pair.stop()
