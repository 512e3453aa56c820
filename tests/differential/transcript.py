"""Runs sequences of operations, and says what brokers made of them."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor

from tests.differential.judge import Judge
from tests.differential.language import Operation, Together
from tests.differential.peer import Peer, Step
from tests.differential.rendering import ROOT
from tests.differential.scenarios.scenario import Scenario

Transcript = tuple[str, ...]
AT_ONCE = 8
VHOSTS = tuple(f"aside-{number}" for number in range(AT_ONCE))
"""Hosts in which the scenarios that take long run beside each other."""


def run(judge: Judge, operations: Iterable[Operation], vhost: str = ROOT) -> Transcript:
    """Return the operations and what the broker said to each of them, a line for each event."""
    peer = Peer(judge, vhost)
    try:
        for operation in operations:
            peer.perform(operation)
    finally:
        peer.close()
    return show_steps(peer.steps)


def run_beside(judge: Judge, scenarios: Sequence[Scenario]) -> dict[str, Transcript]:
    """Run scenarios that take long, of waiting, at the same time; return their transcripts by name."""

    def run_all(vhost: str, mine: Sequence[Scenario]) -> list[tuple[str, Transcript]]:
        return [(scenario.name, run(judge, scenario.operations, vhost)) for scenario in mine]

    shares = [scenarios[start::AT_ONCE] for start in range(AT_ONCE)]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        return dict(pair for pairs in pool.map(run_all, VHOSTS, shares) for pair in pairs)


def show_steps(steps: Sequence[Step]) -> Transcript:
    lines: list[str] = []
    for step in steps:
        lines += show_operation(step.operation)
        lines += [f"    {at} < {event}" for at, events in step.events.items() for event in events]
    return tuple(lines)


def show_operation(operation: Operation) -> list[str]:
    if isinstance(operation, Together):
        return ["> Together:", *(f"  {line}" for inner in operation.operations for line in show_operation(inner))]
    at = getattr(operation, "at", "")
    return [f"{at} > {operation!r}".lstrip()]


def difference(expected: Transcript, actual: Transcript) -> str:
    """Return what is to be read when the two are not the same."""
    lines = difflib.unified_diff(expected, actual, "RabbitMQ", "embedded broker", n=len(expected), lineterm="")
    return "\n".join(line for line in lines if not line.startswith("@@"))
