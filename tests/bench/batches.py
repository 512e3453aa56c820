"""``python -m tests.bench.batches``: calls that share messages, beside the same calls one by one.

A window of 500 is 500 tasks for single calls, and blocks of 500 calls, one after the other, for those that share
messages. The worker is the same program for all.
"""

import argparse
import sys
from functools import partial

from rich.console import Console
from rich.table import Table

from . import arguments, course, report, summary
from .broker import NoBrokerError
from .contenders import Contender, python
from .course import INTERRUPTED, NO_BROKER
from .plan import SMALL, Cell, size_name
from .summary import Row

WINDOWS = (64, 500)
SIZES = ("small", "1k")
GOAL = 3.0
"""Calls that share messages are at least so many times as fast as single ones, with small bodies."""

SINGLE = "single"
EVERYONE = (
    Contender(SINGLE, "single calls, as in the README", partial(python, "single_peer")),
    Contender("batch", "async with mq.batch(…)", partial(python, "batch_peer")),
    Contender("gather", "await amqproxy.gather(…)", partial(python, "gather_peer")),
)
HEADINGS = ("calls/s", "+-", "times\nsingle", "CPU us:\ncaller", "per\nworker", "call\nbroker")


def main() -> int:
    """Run the benchmark; return 0 when all finished, 1 when one failed, 3 without a broker."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.batches", description=__doc__)
    arguments.add_common(parser, windows=WINDOWS, sizes=SIZES, file="bench-batches.json")
    parser.add_argument("--profile", choices=("caller", "worker"), help="where each contender spends its time there")
    args = parser.parse_args()
    console = Console()
    flags = {args.profile: ["--profile"]} if args.profile else {}
    try:
        with course.field_of(EVERYONE, args) as field:
            samples = course.compete(field, EVERYONE, flags, arguments.plan(args), console)
    except NoBrokerError as error:
        console.print(f"no broker: {error}", style="red", highlight=False)
        return NO_BROKER
    rows = summary.rows(samples)
    for cell in dict.fromkeys(row.cell for row in rows):
        times = summary.times(samples, cell, SINGLE)
        console.print(_table(cell, [row for row in rows if row.cell == cell], times), "")
    report.print_legend(console, field)
    report.print_absent(console, field)
    report.print_disturbance(console, summary.waiting_share(samples), summary.strangers_share(samples))
    course.write(args, field, samples)
    console.print(f"{field.broker.product}; raw figures in {args.json}", style="dim", highlight=False)
    return 1 if field.failed or not samples else 0


def _table(cell: Cell, rows: list[Row], times: dict[str, float]) -> Table:
    table = report.bare_table(f"{size_name(cell.size)} bodies, {cell.window} at once")
    table.add_column("calls", no_wrap=True)
    for heading in HEADINGS:
        table.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        faster = 1 / times[row.contender]
        judged = row.contender != SINGLE and cell.size == SMALL
        style = ("[green]" if faster >= GOAL else "[red]") if judged else ""
        figures = f"{row.rate:,.0f}", report.spread(row), f"{style}{faster:.2f}"
        table.add_row(row.contender, *figures, *report.processor_times(row))
    return table


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
