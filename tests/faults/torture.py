"""``python -m tests.faults.torture``: a random run, in which nothing may be lost whatever breaks.

Callers and workers in processes of their own call and serve over a private RabbitMQ, through networks that can be cut,
and write journals. Meanwhile whatever can break does, at random: brokers, links, queues, processes. In the end all is
made good, everything must work again, and the journals are checked (invariants.py).
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import json
import random
import secrets
import sys
import tempfile
import time
from collections import Counter
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

from amqproxy.testing import RabbitMQNotInstalled, rabbitmq
from tests.faults.crew import CALLER, WORKER, Crew
from tests.faults.invariants import Checker, Violation
from tests.faults.journal import read
from tests.faults.nemeses import CALLERS, NEMESES, RESTARTS, WORKERS, Arena, Nemesis
from tests.faults.network import Relay

HEARTBEAT = 2
"""Seconds: a link through which nothing comes is given up after three of them."""
STRIKERS = 2
"""So many things are broken at a time."""
CALM = 3.0
"""Seconds between the faults of one striker, on average."""
SETTLE_SECONDS = 60.0
"""Within which all must be served again, and all queues be empty, when nothing is broken any more."""
RECOVERED = 20
"""So many calls of each process have to go well then."""
SHOWN = 5
"""Violations of each rule that are printed."""


@dataclass
class Report:
    """What a run has come to."""

    seconds: float
    seed: int
    calls: dict[str, Counter[str]]
    runs: int
    run_again: int
    unmarked: int
    """Calls at most once that ran again unknown to the workers; see `Checker.unmarked`."""
    faults: Counter[str]
    violations: list[Violation]
    longest_beyond: float
    """The longest time in seconds that a call took beyond its deadline."""
    recovery: float
    """Seconds after the last fault until all callers were answered, and all workers ran calls."""
    stalls: float
    """The longest time in seconds for which a caller's loop had no turn."""

    def json(self) -> str:
        """All of it, for other programs."""
        violations = [dataclasses.asdict(violation) for violation in self.violations]
        return json.dumps({**vars(self), "violations": violations}, indent=2)

    def __str__(self) -> str:
        total = sum(sum(outcomes.values()) for outcomes in self.calls.values())
        lines = [f"{total:,} calls in {self.seconds:.0f} s (seed {self.seed})"]
        for kind, outcomes in sorted(self.calls.items()):
            lines.append(f"  {kind:10} " + ", ".join(f"{count:,} {name}" for name, count in outcomes.most_common()))
        lines.append(f"{self.runs:,} runs of handlers, {self.run_again:,} calls ran again after a fault")
        lines.append(f"{self.unmarked:,} calls at most once ran again, which the broker did not call redelivered")
        lines.append(f"{self.faults.total():,} faults")
        lines += [f"  {count:5} {name}" for name, count in sorted(self.faults.items())]
        lines.append(f"the slowest call took {self.longest_beyond:.2f} s beyond its deadline")
        lines.append(f"all worked again {self.recovery:.1f} s after the last fault was made good")
        lines.append(f"the callers' loops stood still for {self.stalls:.2f} s at most")
        lines.append(f"{len(self.violations)} violations")
        shown: Counter[str] = Counter()
        for violation in self.violations:
            shown[violation.rule] += 1
            if shown[violation.rule] <= SHOWN:
                lines.append(f"  {violation.rule}: {violation.text}")
        lines += [f"  … {count - SHOWN} more of {rule!r}" for rule, count in shown.items() if count > SHOWN]
        return "\n".join(lines)


@dataclass(frozen=True, slots=True)
class Struck:
    """One fault, from when it was done until it was made good."""

    nemesis: Nemesis
    began: float
    ended: float


@dataclass
class Torture:
    """One run."""

    seconds: float
    seed: int
    folder: Path
    callers: int = 2
    workers: int = 3
    rate: float = 100.0
    """Calls a second of each caller, as far as it can."""
    quorum: bool = False
    """Whether the queue is a quorum queue."""
    nemeses: tuple[Nemesis, ...] = NEMESES
    struck: list[Struck] = field(default_factory=list)
    quiet: bool = False

    async def run(self) -> Report:
        """Do it all; the report of it."""
        began = time.monotonic()
        service = f"torture.{secrets.token_hex(4)}"
        crew = Crew(self.folder, service, self.seed, self.rate, quorum=self.quorum)
        async with AsyncExitStack() as stack:
            node = stack.enter_context(rabbitmq())
            networks = {name: await stack.enter_async_context(Relay.to(node.url)) for name in (CALLERS, WORKERS)}
            stack.callback(crew.kill_all)
            urls = {name: f"{network.url}?heartbeat={HEARTBEAT}" for name, network in networks.items()}
            crew.hire(WORKER, self.workers, urls[WORKERS])
            await crew.ready(WORKER, self.workers)
            crew.hire(CALLER, self.callers, urls[CALLERS])
            await crew.ready(CALLER, self.callers)
            arena = Arena(node, networks, crew, random.Random(self.seed))
            await self._strike(arena)
            await crew.ready(WORKER, self.workers)
            await crew.ready(CALLER, self.callers)
            healed = time.monotonic()
            dead = await self._recover(crew)
            recovery = time.monotonic() - healed
            await crew.dismiss(CALLER)
            await self._settle(arena, service)
            await crew.dismiss(WORKER)
        return self._report(crew, time.monotonic() - began, recovery, dead)

    async def _strike(self, arena: Arena) -> None:
        """Break things until the time is over."""
        end = time.monotonic() + self.seconds
        free = {nemesis.target: asyncio.Lock() for nemesis in self.nemeses}
        async with asyncio.TaskGroup() as group:
            for _ in range(STRIKERS):
                group.create_task(self._strike_on(arena, free, end))

    async def _strike_on(self, arena: Arena, free: dict[str, asyncio.Lock], end: float) -> None:
        chance = arena.chance
        while True:
            await asyncio.sleep(min(chance.expovariate(1 / CALM), 3 * CALM))
            if time.monotonic() > end:
                return
            nemesis = chance.choice(self.nemeses)
            async with free[nemesis.target]:
                began = time.monotonic()
                self._say(f"{nemesis.fault} {nemesis.title}")
                if await nemesis.strike(arena) is not False:
                    self.struck.append(Struck(nemesis, began, time.monotonic()))

    async def _recover(self, crew: Crew) -> list[Violation]:
        """Wait until all callers are answered and all workers run calls again; who does not."""
        self._say("all is made good; all must work again")
        began = time.monotonic()
        waiting = {
            member: (what, member.journal.stat().st_size)
            for role, what in ((CALLER, "ok"), (WORKER, "run"))
            for member in crew.at_work(role)
        }
        while waiting and time.monotonic() - began < SETTLE_SECONDS:
            await asyncio.sleep(0.5)
            for member, (what, offset) in list(waiting.items()):
                news = sum(record["what"] == what for record in read(member.journal, offset))
                if news >= RECOVERED or member.process.returncode is not None:
                    del waiting[member]
        text = f"has no {RECOVERED} calls that went well in {SETTLE_SECONDS:g} s after the last fault"
        return [Violation("all works again", f"{member.name} {text}", began) for member in waiting]

    async def _settle(self, arena: Arena, service: str) -> None:
        """Wait until all that was sent has been run."""
        async with asyncio.timeout(SETTLE_SECONDS):
            while True:
                said = await asyncio.to_thread(arena.node.ctl, "list_queues", "name", "messages")
                counts = dict(line.split("\t") for line in said.splitlines() if "\t" in line)
                if counts.get(service) == "0":
                    return
                await asyncio.sleep(0.5)

    def _say(self, text: str) -> None:
        if not self.quiet:
            print(f"{time.strftime('%X')} {text}", flush=True)

    def _report(self, crew: Crew, seconds: float, recovery: float, dead: list[Violation]) -> Report:
        checker = Checker(
            killed={member.name for member in crew.members if member.killed},
            ended={member.name for member in crew.members if member.ready.is_set() and not member.killed},
            faults=[(struck.began, struck.ended) for struck in self.struck],
            forgetful_since=None if self.quorum else self._first_restart(),
        )
        for member in crew.members:
            for record in read(member.journal):
                checker.take(member.name, record)
        violations = [*checker.violations(), *dead, *crew.violations, *crew.unhandled()]
        return Report(
            seconds=seconds,
            seed=self.seed,
            calls=checker.outcomes(),
            runs=checker.runs,
            run_again=checker.run_again,
            unmarked=checker.unmarked,
            faults=Counter(f"{struck.nemesis.fault} {struck.nemesis.title}" for struck in self.struck),
            violations=[self._with_faults(violation) for violation in violations],
            longest_beyond=checker.longest_beyond,
            recovery=recovery,
            stalls=max((long for stalls in checker.stalls.values() for _, long in stalls), default=0.0),
        )

    def _first_restart(self) -> float | None:
        return min((struck.began for struck in self.struck if struck.nemesis.strike in RESTARTS), default=None)

    def _with_faults(self, violation: Violation) -> Violation:
        """The violation, with what was broken at the time."""
        if not violation.began:
            return violation
        end = violation.ended or violation.began
        about = [
            f"{struck.nemesis.fault} {struck.began - violation.began:+.1f}..{struck.ended - violation.began:+.1f} s"
            for struck in self.struck
            if struck.began < end + 1 and struck.ended > violation.began - 10
        ]
        return dataclasses.replace(violation, text=f"{violation.text} [took {end - violation.began:.2f} s; {about}]")


def main() -> int:
    """0 if nothing was violated, 1 if something was, 3 without a RabbitMQ."""
    args = _arguments()
    folder = args.folder or Path(tempfile.mkdtemp(prefix="amqproxy-torture-"))
    folder.mkdir(parents=True, exist_ok=True)
    nemeses = tuple(nemesis for nemesis in NEMESES if not args.only or nemesis.fault in args.only)
    torture = Torture(args.minutes * 60, args.seed, folder, args.callers, args.workers, args.rate, args.quorum, nemeses)
    try:
        report = asyncio.run(torture.run())
    except RabbitMQNotInstalled as error:
        print(f"no broker: {error}")
        return 3
    print(report)
    print(f"journals and logs: {folder}")
    if args.json:
        args.json.write_text(report.json() + "\n")
    return 1 if report.violations else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.faults.torture", description=__doc__)
    parser.add_argument("--minutes", type=float, default=5.0, help="how long things break (default 5)")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(10**6), help="of what breaks when")
    parser.add_argument("--callers", type=int, default=2)
    parser.add_argument("--workers", type=int, default=3)
    parser.add_argument("--rate", type=float, default=100.0, help="calls a second of each caller (default 100)")
    parser.add_argument("--quorum", action="store_true", help="on a quorum queue")
    parser.add_argument("--only", nargs="*", metavar="F01", help="these faults alone")
    parser.add_argument("--folder", type=Path, help="for journals and logs (default: a new one)")
    parser.add_argument("--json", type=Path, help="write the report there")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
