"""``python -m tests.differential``: try the embedded broker against a private RabbitMQ, for as long as is asked for."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from amqproxy.testing import RabbitMQNotInstalled, rabbitmq
from tests.differential.campaign import campaign
from tests.differential.differences import DIFFERENCES, comparable
from tests.differential.judge import Judge, RabbitMQJudge, embedded
from tests.differential.report import RandomRun, Result, page
from tests.differential.scenarios import SCENARIOS, USERS, VHOSTS, Scenario
from tests.differential.transcript import VHOSTS as ASIDE
from tests.differential.transcript import Transcript, difference, run, run_beside

NO_BROKER = 3
COLUMNS = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())


def main() -> int:
    """Return 0 when all differences are explained, 1 when one is not, 3 without RabbitMQ."""
    args = arguments()
    console = Console()
    logging.getLogger("amqproxy.broker").setLevel(
        logging.CRITICAL
    )  # it says why it closes connections, and here it does
    with ExitStack() as stack:
        try:
            reference = RabbitMQJudge(stack.enter_context(rabbitmq()))
        except RabbitMQNotInstalled as error:
            console.print(f"no RabbitMQ: {error}", style="red", highlight=False)
            return NO_BROKER
        ours = stack.enter_context(embedded())
        for judge in (reference, ours):
            judge.prepare(USERS, (*VHOSTS, *ASIDE))
        bar = stack.enter_context(Progress(*COLUMNS, console=console, transient=True))
        chosen = [scenario for scenario in SCENARIOS if args.only in scenario.name or args.only in scenario.row]
        results = list(compare(reference, ours, chosen, bar))
        found = try_at_random(reference, ours, args.seed, args.sequences, bar, console)
    unexplained = [result for result in results if result.difference and result.scenario.name not in DIFFERENCES]
    for result in unexplained:
        console.rule(f"{result.scenario.row}: {result.scenario.name}")
        console.print(result.difference, markup=False, highlight=False, soft_wrap=True)
    same = sum(not result.difference for result in results)
    console.print(
        f"{reference.name}: {len(results)} scenarios, {same} the same, {len(unexplained)} differ without a reason; "
        f"{args.sequences} sequences, {found.different} differ",
        highlight=False,
    )
    if args.write:
        args.write.write_text(page(reference.name, results, DIFFERENCES, found if args.sequences else None))
    return 1 if unexplained or found.different else 0


def compare(reference: Judge, ours: Judge, scenarios: Sequence[Scenario], bar: Progress) -> Iterator[Result]:
    """Run the scenarios on both brokers."""
    task = bar.add_task("those that take long", total=len(scenarios))
    long = [scenario for scenario in scenarios if scenario.beside]
    expected, actual = run_beside(reference, long), run_beside(ours, long)
    bar.update(task, advance=len(long))
    for scenario in scenarios:
        if not scenario.beside:
            bar.update(task, description=scenario.name)
            expected[scenario.name] = run(reference, scenario.operations)
            actual[scenario.name] = run(ours, scenario.operations)
            bar.update(task, advance=1)
        yield Result(scenario, compared(expected[scenario.name], actual[scenario.name]))
    bar.remove_task(task)


def compared(expected: Transcript, actual: Transcript) -> str:
    expected, actual = comparable(expected), comparable(actual)
    return "" if expected == actual else difference(expected, actual)


def try_at_random(reference: Judge, ours: Judge, seed: int, count: int, bar: Progress, console: Console) -> RandomRun:
    task = bar.add_task(f"random sequences, seed {seed}", total=count)
    different = 0
    for finding in campaign(reference, ours, seed, count):
        bar.update(task, advance=1)
        if finding is not None:
            different += 1
            console.rule(f"sequence {finding.origin}{'' if finding.sure else ', of which RabbitMQ is not sure itself'}")
            console.print(finding.difference, markup=False, highlight=False, soft_wrap=True)
    return RandomRun(seed, count, different)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.differential", description=main.__doc__)
    parser.add_argument("--sequences", type=int, default=200, help="random sequences to try (%(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="of the random sequences (%(default)s)")
    parser.add_argument("--only", default="", help="scenarios with this in their name or row")
    parser.add_argument("--write", type=Path, help="write the conformance page to this file")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
