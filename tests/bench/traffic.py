"""``python -m tests.bench.traffic``: plain messages through the embedded broker and through RabbitMQ, side by side.

One publisher process, with confirms, and one process of consumers, on a client that does as little as it can. A message
counts once, however many consumers get it.
"""

import argparse
import sys
from collections.abc import Iterator
from dataclasses import replace
from functools import partial

from rich.console import Console
from rich.table import Table

from . import arguments, course, report, summary
from .broker import NoBrokerError
from .contenders import EMBEDDED, Contender, python
from .course import INTERRUPTED, NO_BROKER
from .plan import PREFETCH, size_name
from .summary import Row

WINDOWS = (500,)
SIZES = ("small", "1k")

KINDS = (
    Contender("acknowledged", f"one consumer, prefetch {PREFETCH}, one ack each", partial(python, "traffic_peer")),
    Contender("no ack", "one consumer, nothing acknowledged", partial(python, "traffic_no_ack_peer")),
    Contender("fan-out to 8", "fanout exchange, 8 consumers, no ack", partial(python, "traffic_fan_out_peer")),
)
HEADINGS = ("messages/s", "+-", "of\nRMQ", "CPU us:\npublisher", "per\nconsumer", "message\nbroker")


def contenders() -> Iterator[Contender]:
    """Each kind of traffic on RabbitMQ, then on the embedded broker."""
    for kind in KINDS:
        yield kind
        yield replace(kind, name=kind.name + EMBEDDED, embedded=True)


def main() -> int:
    """Run the benchmark; return 0 when all finished, 1 when one failed, 3 without a broker."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.traffic", description=__doc__)
    arguments.add_common(parser, windows=WINDOWS, sizes=SIZES, file="bench-traffic.json")
    args = parser.parse_args()
    console = Console()
    everyone = tuple(contenders())
    try:
        with course.field_of(everyone, args) as field:
            samples = course.compete(field, everyone, {}, arguments.plan(args), console)
    except NoBrokerError as error:
        console.print(f"no broker: {error}", style="red", highlight=False)
        return NO_BROKER
    rows = summary.rows(samples)
    for cell in dict.fromkeys(row.cell for row in rows):
        title = f"{size_name(cell.size)} bodies, up to {cell.window} unconfirmed"
        console.print(_table(title, [row for row in rows if row.cell == cell]), "")
    for kind in KINDS:
        console.print(f"{kind.name}: {kind.about}", style="dim", highlight=False)
    report.print_absent(console, field)
    report.print_disturbance(console, summary.waiting_share(samples), summary.strangers_share(samples))
    course.write(args, field, samples)
    console.print(f"{field.broker.product}; raw figures in {args.json}", style="dim", highlight=False)
    return 1 if field.failed or not samples else 0


def _table(title: str, rows: list[Row]) -> Table:
    table = report.bare_table(title)
    table.add_column("traffic", no_wrap=True)
    for heading in HEADINGS:
        table.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(
            row.contender,
            f"{row.rate:,.0f}",
            report.spread(row),
            report.ratio(row.to_rabbitmq),
            *report.processor_times(row),
            end_section=row.contender.endswith(EMBEDDED),
        )
    return table


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
