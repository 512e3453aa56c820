"""What must hold of a random run, whatever went wrong in it: a checker of journals, without I/O and without a clock.

Callers note each call and what became of it, workers each time that they run one. The rules are those at the end of
the list of faults (a to g), and those that nobody would write down: errors have names, nobody is cancelled who was not,
processes end in order.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

from tests.faults.journal import Record

SLACK = 1.0
"""Seconds beyond its deadline that a call may take."""

ONE_WAY = "one-way"
ONCE = "once"
CANCELLED = "cancelled"
SENT_ONCE = ("plain", "retried", ONCE, CANCELLED, "stream", "fed", "batch", "raising")
"""Kinds of calls that the caller sends one time, or again only if they did not run, and that the broker does not keep:
whatever runs twice was redelivered."""
FOUND_OUT = 10.0
"""Seconds after a fault within which the broker has found out what is lost, and gives it out again."""
OWN_STALL = 2.0
"""Seconds for which a loop may stand still though the machine had a processor for it."""
MANY = 1000
"""So many calls of a kind are enough to tell how they fare."""


def expected(token: str) -> str:
    """What a worker makes of a token, and of no other."""
    return token[::-1]


@dataclass(frozen=True, slots=True)
class Violation:
    """Something that must not be."""

    rule: str
    text: str
    began: float = 0.0
    """When the call began; 0 if it is about no call."""
    ended: float = 0.0


@dataclass(slots=True)
class Fate:
    """What became of one call."""

    kind: str = ""
    process: str = ""
    began: float = 0.0
    limit: float = 0.0
    outcome: str = ""
    """"ok", "failed" or "cancelled"; empty as long as nothing is known."""
    ended: float = 0.0
    value: str = ""
    error: str = ""
    text: str = ""
    executed: str = ""
    named: bool = True
    ran_at: list[float] = field(default_factory=list)
    sent: set[str] = field(default_factory=set)
    """The correlation ids of the requests that were run: as many as the caller sent."""
    marked: int = 0
    """Runs of a delivery that the broker called redelivered."""

    @property
    def runs(self) -> int:
        """How often it ran."""
        return len(self.ran_at)


@dataclass
class Checker:
    """Takes journals record by record, in any order, and tells what they violate."""

    slack: float = SLACK
    killed: set[str] = field(default_factory=set)
    """Processes that were killed, and owe nobody an answer."""
    ended: set[str] = field(default_factory=set)
    """Processes that ended in order, and have to say what they leave behind."""
    faults: list[tuple[float, float]] = field(default_factory=list)
    """When something was broken, and when it was made good."""
    forgetful_since: float | None = None
    """When the broker was first restarted, if its queue is one that may forget then what it delivered before."""
    fates: dict[str, Fate] = field(default_factory=lambda: defaultdict(Fate))
    stalls: dict[str, list[tuple[float, float]]] = field(default_factory=lambda: defaultdict(list))
    """When a process had had no processor, or its loop no turn, and for how many seconds."""
    left: list[Violation] = field(default_factory=list)
    said: set[str] = field(default_factory=set)
    """Processes that have said what they leave behind."""
    latest: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    """When each process wrote something down for the last time."""

    def take(self, process: str, record: Record) -> None:
        """One line of a process's journal."""
        fate = self.fates[record["token"]] if record["token"] else None
        self.latest[process] = max(self.latest[process], record["at"])
        match record["what"]:
            case "call":
                assert fate is not None
                fate.kind, fate.process = record["kind"], process
                fate.began, fate.limit = record["at"], record["limit"]
            case "run":
                assert fate is not None
                fate.ran_at.append(record["at"])
                fate.sent.add(record["sent"])
                fate.marked += record["redelivered"]
            case "ok" | "failed" | "cancelled" as outcome:
                assert fate is not None
                fate.outcome, fate.ended = outcome, record["at"]
                fate.value, fate.error, fate.text = (record.get(key, "") for key in ("value", "error", "text"))
                fate.executed, fate.named = record.get("executed", ""), record.get("named", True)
            case "stall":
                self.stalls[process].append((record["at"], record["seconds"]))
                if (own := record["seconds"] - record["waited"]) > OWN_STALL:
                    text = f"that of {process} stood still for {own:.2f} s, with a processor to run on"
                    self.left.append(Violation("no loop is blocked", text, record["at"] - record["seconds"]))
            case "left":
                self.said.add(process)
                for thing, count in record["things"].items():
                    if count:
                        self.left.append(Violation("g: nothing is left behind", f"{process} has {count} {thing}"))

    def outcomes(self) -> dict[str, Counter[str]]:
        """Calls by their kind, and how they ended."""
        found: dict[str, Counter[str]] = defaultdict(Counter)
        for fate in self.fates.values():
            if fate.kind:
                ended = f"{fate.error} ({fate.executed})" if fate.outcome == "failed" else fate.outcome or "unknown"
                found[fate.kind][ended] += 1
        return found

    @property
    def runs(self) -> int:
        """How often handlers ran."""
        return sum(fate.runs for fate in self.fates.values())

    @property
    def run_again(self) -> int:
        """Calls that ran more than once, as calls may that are delivered at least once."""
        return sum(fate.runs > 1 for fate in self.fates.values())

    @property
    def unmarked(self) -> int:
        """Calls that may run at most once and ran again, since the broker did not say that it redelivered them.

        After a restart by which a classic queue loses transient messages, RabbitMQ 3.10 calls nothing redelivered that
        comes from this queue. No worker can know then; quorum queues count.
        """
        return sum(fate.kind == ONCE and fate.runs > 1 and self._forgotten(fate) for fate in self.fates.values())

    def _forgotten(self, fate: Fate) -> bool:
        """Whether the broker had a reason to deliver a call again, and may not have known that it did."""
        first, last = min(fate.ran_at), max(fate.ran_at)
        reason = any(began < last and first < ended + FOUND_OUT for began, ended in self.faults)
        return reason and self.forgetful_since is not None and self.forgetful_since < last

    @property
    def longest_beyond(self) -> float:
        """The longest time in seconds that a call took beyond its deadline."""
        return max((fate.ended - fate.began - fate.limit for fate in self.fates.values() if fate.outcome), default=0.0)

    def violations(self) -> list[Violation]:
        """All that must not be."""
        found = list(self.left)
        for process in sorted(self.ended - self.said):
            found.append(Violation("g: nothing is left behind", f"{process} has not said what it leaves"))
        for token, fate in self.fates.items():
            for rule, text in self._broken(token, fate):
                what = f"{fate.kind} {token} of {fate.process}: {text}"
                found.append(Violation(rule, what, fate.began, fate.ended))
        for kind, outcomes in self.outcomes().items():
            if outcomes.total() >= MANY and 3 * (outcomes["ok"] + outcomes["cancelled"]) < outcomes.total():
                found.append(Violation("each kind of call goes well", f"{kind}: {dict(outcomes)}"))
        return found

    def _broken(self, token: str, fate: Fate) -> Iterator[tuple[str, str]]:
        """The rules that one call breaks, and how."""
        if not fate.kind:
            yield "nobody runs what was not called", f"it ran {fate.runs} times"
            return
        if fate.kind == ONCE and fate.marked:
            yield "b: at most once", f"it ran {fate.runs} times, and was redelivered {fate.marked} times"
        if fate.kind in SENT_ONCE and len(fate.sent) > 1:
            yield "what runs was sent once", f"it was sent {len(fate.sent)} times"
        elif fate.kind in SENT_ONCE and fate.runs > 1 + fate.marked and not self._forgotten(fate):
            rule = "b: at most once" if fate.kind == ONCE else "what runs again was redelivered"
            yield rule, f"it ran {fate.runs} times, and was redelivered {fate.marked} times"
        yield from self._late(fate)
        match fate.outcome:
            case "ok":
                yield from _broken_success(token, fate)
            case "failed":
                yield from _broken_failure(fate)
            case "cancelled" if fate.kind != CANCELLED:
                yield "nobody is cancelled who was not", "it raised CancelledError"

    def _late(self, fate: Fate) -> Iterator[tuple[str, str]]:
        rule = "f: no call outlives its deadline"
        if not fate.outcome and fate.process not in self.killed:
            yield rule, "it has not ended at all"
            return
        ended = fate.ended if fate.outcome else self.latest[fate.process]  # it went on for so long, at least
        stalls = self.stalls[fate.process]
        allowed = fate.limit + self.slack + sum(long for at, long in stalls if fate.began < at < ended + long)
        if ended - fate.began > allowed:
            took = f"it took {ended - fate.began:.2f} s of {fate.limit:.2f} s"
            yield rule, f"{took} ({fate.outcome or 'killed'} {fate.error} {fate.text})"


def _broken_success(token: str, fate: Fate) -> Iterator[tuple[str, str]]:
    if fate.kind == ONE_WAY:
        if not fate.runs:
            yield "d: what was confirmed runs", "it was confirmed, and never ran"
        return
    if not fate.runs:
        yield "a: what was answered ran", "it was answered, and never ran"
    if fate.value != expected(token):
        yield "e: an answer is that of its call", f"the answer is {fate.value!r}"


def _broken_failure(fate: Fate) -> Iterator[tuple[str, str]]:
    said = f"{fate.error}: {fate.text}"
    if not fate.named:
        yield "errors have names", said
    if fate.executed == "no" and fate.runs:
        yield "c: what was not executed did not run", f"it ran {fate.runs} times, and failed with {said}"
    if fate.executed == "yes" and not fate.runs:
        yield "what was executed ran", f"it never ran, and failed with {said}"
