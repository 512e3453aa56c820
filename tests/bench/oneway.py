"""``python -m tests.bench.oneway``: one-way messages per second, beside a C publisher with confirms.

Both publish persistent messages of the same size, with the same properties and as many unconfirmed, to durable queues
of their own that nobody consumes, and that are emptied before each measurement.
"""

import argparse
import sys
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.table import Table

from . import arguments, course, report, summary
from .broker import NoBrokerError
from .contenders import AMQPROXY, C_PAIR, Commands, Contender, c_pair, python
from .course import INTERRUPTED, NO_BROKER
from .plan import SMALL, WINDOWS, size_name
from .summary import Goal, Row

SIZES = ("small", "1k")
GOALS = tuple(Goal(window, C_PAIR, 0.7, size) for size in (SMALL, 1024) for window in (64, 500))
HEADINGS = ("messages/s", "+-", "of\nC", "CPU us:\nsender", "message\nbroker")


def _c(directory: Path, queue: str) -> Commands:
    return Commands([c_pair.build_publisher(directory), queue], python("oneway_peer", directory, queue).worker)


EVERYONE = (
    Contender(AMQPROXY, "typed sender as in the README", partial(python, "oneway_peer")),
    Contender(C_PAIR, "a C program with publisher confirms", _c, python=False),
)


def main() -> int:
    """Run the benchmark; return 0 when all finished, 1 when one failed, 3 without a broker."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.oneway", description=__doc__)
    arguments.add_common(parser, windows=WINDOWS, sizes=SIZES, file="bench-oneway.json")
    args = parser.parse_args()
    console = Console()
    try:
        with course.field_of(EVERYONE, args) as field:
            samples = course.compete(field, EVERYONE, {}, arguments.plan(args), console)
    except NoBrokerError as error:
        console.print(f"no broker: {error}", style="red", highlight=False)
        return NO_BROKER
    rows = summary.rows(samples)
    for size in sorted({row.cell.size for row in rows}):
        console.print(_table(size, [row for row in rows if row.cell.size == size]), "")
    report.print_goals(console, summary.goals(rows, GOALS))
    report.print_legend(console, field)
    report.print_absent(console, field)
    report.print_disturbance(console, summary.waiting_share(samples), summary.strangers_share(samples))
    course.write(args, field, samples)
    console.print(f"{field.broker.product}; raw figures in {args.json}", style="dim", highlight=False)
    return 1 if field.failed or not samples else 0


def _table(size: int, rows: list[Row]) -> Table:
    table = report.bare_table(f"{size_name(size)} bodies")
    table.add_column("unconfirmed", justify="right")
    table.add_column("sender", no_wrap=True)
    for heading in HEADINGS:
        table.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        caller, _, broker = report.processor_times(row)
        figures = f"{row.rate:,.0f}", report.spread(row), report.ratio(row.to_c), caller, broker
        table.add_row(str(row.cell.window), row.contender, *figures, end_section=row.contender == C_PAIR)
    return table


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
