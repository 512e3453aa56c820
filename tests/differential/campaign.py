"""A long run of random sequences: which of them the two brokers answer differently, made as short as they get."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from random import Random

from tests.differential.differences import comparable
from tests.differential.judge import Judge
from tests.differential.language import Operation
from tests.differential.machine import compose
from tests.differential.transcript import Transcript, difference, run

Operations = tuple[Operation, ...]
CHANCES = 4
"""How often a sequence that came out differently is tried again: what comes first of two things is a matter of luck."""


@dataclass(frozen=True, slots=True)
class Finding:
    """A sequence that the brokers answer differently."""

    origin: str
    """The seed that makes it again."""
    operations: Operations
    """As few as show the difference."""
    difference: str
    sure: bool
    """Whether RabbitMQ always answers alike up to where the other one differs."""


def disagreement(reference: Judge, embedded: Judge, operations: Operations) -> tuple[str, bool] | None:
    """Return how the brokers differ, and whether that is sure; None if RabbitMQ, too, may answer as the other one."""
    seen: list[Transcript] = []
    for _ in range(CHANCES):
        theirs = comparable(run(reference, operations))
        ours = comparable(run(embedded, operations))
        if theirs not in seen:
            seen.append(theirs)
        if ours in seen:
            return None
    settled = common_start(seen)
    return difference(seen[0], ours), len(seen) == 1 or ours[: len(settled)] != settled


def common_start(transcripts: list[Transcript]) -> Transcript:
    """Return the lines on which all transcripts agree before they part."""
    lines = []
    for alternatives in zip(*transcripts, strict=False):
        if len(set(alternatives)) > 1:
            break
        lines.append(alternatives[0])
    return tuple(lines)


def shorten(differs: Callable[[Operations], bool], operations: Operations) -> Operations:
    """Leave out whatever the difference does not need."""
    size = len(operations) // 2
    while size:
        start = 0
        while start < len(operations):
            fewer = operations[:start] + operations[start + size :]
            if fewer and differs(fewer):
                operations = fewer
            else:
                start += size
        size //= 2
    return operations


def sequence(seed: int, number: int) -> Operations:
    return compose(Random(f"{seed}/{number}"))


def campaign(reference: Judge, embedded: Judge, seed: int, count: int) -> Iterator[Finding | None]:
    """Yield for each of `count` sequences what was found."""

    def differs(operations: Operations) -> bool:
        return disagreement(reference, embedded, operations) is not None

    for number in range(count):
        operations = sequence(seed, number)
        if not differs(operations):
            yield None
            continue
        shortest = shorten(differs, operations)
        found = disagreement(reference, embedded, shortest) or disagreement(reference, embedded, operations)
        if found is None:  # a matter of luck after all
            yield None
        else:
            yield Finding(f"{seed}/{number}", shortest, *found)
