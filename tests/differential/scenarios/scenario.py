"""What a scenario is: a few operations, and the clause of what is expected of the broker that they are about."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from tests.differential.language import Get, Operation


@dataclass(frozen=True, slots=True)
class Scenario:
    name: str
    row: str
    """The clause, as the conformance page names it."""
    operations: tuple[Operation, ...]
    beside: bool = False
    """Whether it waits so long that it is run beside others, in a virtual host of its own."""

    def __str__(self) -> str:
        return self.name


def scenario(row: str, name: str, *operations: Operation) -> Scenario:
    return Scenario(name.replace(" ", "_"), row, operations)


def beside(*scenarios: Scenario) -> tuple[Scenario, ...]:
    return tuple(replace(scenario, beside=True) for scenario in scenarios)


def dead_letters(*, key: str | None = "dead", **arguments: Any) -> dict[str, Any]:
    """Return the arguments of a queue whose dead letters go to the queue `key`, or to those of their own keys."""
    given = {"x-dead-letter-exchange": "", **{name.replace("_", "-"): value for name, value in arguments.items()}}
    if key is not None:
        given["x-dead-letter-routing-key"] = key
    return given


def gets(count: int, queue: str = "q") -> tuple[Operation, ...]:
    return tuple(Get(queue, no_ack=True) for _ in range(count))
