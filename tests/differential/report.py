"""The conformance page: what was tried on both brokers, and where they differ."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from tests.differential.differences import RULES
from tests.differential.scenarios import Scenario


@dataclass(frozen=True, slots=True)
class Result:
    scenario: Scenario
    difference: str
    """Empty if there is none."""


@dataclass(frozen=True, slots=True)
class RandomRun:
    """What a run of random sequences found."""

    seed: int
    sequences: int
    different: int


def page(reference: str, results: Sequence[Result], reasons: Mapping[str, str], run: RandomRun | None) -> str:
    """Return the page in Markdown."""
    operations = sum(len(result.scenario.operations) for result in results)
    same = sum(not result.difference for result in results)
    lines = [
        "# How the embedded broker conforms",
        "",
        f"{len(results)} scenarios of {operations} operations ran on {reference} and on the embedded broker, and every",
        f"frame that came back was compared, texts and codes included: {same} scenarios came out the same.",
        "This page is written by `python -m tests.differential --write docs/conformance.md`; the scenarios are in",
        "`tests/differential/scenarios/`.",
        "",
    ]
    if run is not None:
        lines += [
            f"Of {run.sequences:,} random sequences (seed {run.seed}), {run.different} were answered differently.",
            "",
        ]
    lines += ["Not counted as differences, wherever they show:", "", *(f"- {rule.reason}." for rule in RULES), ""]
    lines += ["| Of | Scenarios | Same | Differs |", "|---|---:|---:|---|"]
    lines += [row_of(row, group, reasons) for row, group in by_row(results).items()]
    lines += ["", "## The scenarios", ""]
    for row, group in by_row(results).items():
        names = ", ".join(result.scenario.name.replace("_", " ") for result in group)
        lines += [f"**{row}**: {names}.", ""]
    return "\n".join(lines)


def by_row(results: Iterable[Result]) -> dict[str, list[Result]]:
    rows: dict[str, list[Result]] = {}
    for result in results:
        rows.setdefault(result.scenario.row, []).append(result)
    return rows


def row_of(row: str, group: Sequence[Result], reasons: Mapping[str, str]) -> str:
    different = [result.scenario.name for result in group if result.difference]
    told: dict[str, list[str]] = {}
    for name in different:
        told.setdefault(reasons.get(name, "**not explained**"), []).append(name.replace("_", " "))
    cell = "; ".join(f"{', '.join(names)}: {reason}" for reason, names in told.items())
    return f"| {row} | {len(group)} | {len(group) - len(different)} | {cell} |"
