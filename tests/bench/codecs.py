"""``python -m tests.bench.codecs``: what each encoding takes to write, to read and to carry, side by side.

First the codecs alone, in this process: a person whose name is a text of 100 B, 1 KiB or 64 KiB, written and read as a
worker and a proxy do it, checks included. Then whole calls through RabbitMQ.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table

from amqproxy.codecs.registry import codecs
from amqproxy.contract import contract_of

from . import arguments, course, report, summary
from .broker import NoBrokerError
from .contenders import Contender, python
from .course import INTERRUPTED, NO_BROKER
from .people import People, form_of, person, prose
from .plan import Cell, size_name
from .summary import Row

PLAIN = ("json", "protobuf", "thrift", "thrift-compact")
COMPRESSED = tuple(f"{how}-{what}" for what in ("json", "protobuf") for how in ("snappy", "zstd", "gzip", "lz4"))
CALLED = ("json", "protobuf", "thrift", "snappy-json", "snappy-protobuf", "zstd-json")
BODIES = (100, 1024, 65536)
START, END = "<!-- made by tests.bench.codecs -->", "<!-- end -->"
LIMIT = 64 * 1024 * 1024
GOAL = 1.3
"""A call in protobuf or snappy-json costs at most so many times one in JSON, with bodies of 1 KiB."""
HEADINGS = ("calls/s", "+-", "time of\nJSON's", "CPU us:\ncaller", "per\nworker", "call\nbroker")


@dataclass(frozen=True, slots=True)
class Figure:
    """One codec with one body."""

    encoding: str
    body: int
    size: int
    """Bytes on the wire."""
    encode_us: float
    decode_us: float


def main() -> int:
    """Run both parts; return 0 when all finished, 1 when a contender failed, 3 without a broker."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.codecs", description=__doc__)
    arguments.add_common(parser, windows=(1, 64, 500), sizes=("1k",), file="bench-codecs.json")
    parser.add_argument("--no-calls", action="store_true", help="the codecs alone, without a broker")
    parser.add_argument(
        "--write", type=Path, metavar="PAGE", help="put the figures of the codecs into docs/encodings.md"
    )
    args = parser.parse_args()
    console = Console()
    figures = alone(0.02 if args.quick else 0.2)
    if args.write:
        args.write.write_text(page_with(args.write.read_text(), figures))
    for body in BODIES:
        console.print(_table(body, [figure for figure in figures if figure.body == body]), "")
    if args.no_calls:
        args.json.write_text(json.dumps([asdict(figure) for figure in figures], indent=1))
        return 0
    everyone = tuple(
        Contender(
            encoding, "a person there and back", partial(python, "encoding_peer", options=("--encoding", encoding))
        )
        for encoding in CALLED
    )
    try:
        with course.field_of(everyone, args) as field:
            samples = course.compete(field, everyone, {}, arguments.plan(args), console)
    except NoBrokerError as error:
        console.print(f"no broker: {error}", style="red", highlight=False)
        return NO_BROKER
    rows = summary.rows(samples)
    for cell in dict.fromkeys(row.cell for row in rows):
        console.print(_calls(cell, [row for row in rows if row.cell == cell], summary.times(samples, cell, "json")), "")
    report.print_absent(console, field)
    report.print_disturbance(console, summary.waiting_share(samples), summary.strangers_share(samples))
    course.write(args, field, samples, codecs=[asdict(figure) for figure in figures])
    return 1 if field.failed or not samples else 0


def alone(seconds: float) -> list[Figure]:
    """Every codec with every body; they take turns in five rounds, and medians count."""
    known = codecs(LIMIT)
    methods = contract_of(People).methods
    figures = []
    for body in BODIES:
        for encoding in (*PLAIN, *COMPRESSED):
            method = methods[form_of(encoding)]
            write, read = known[encoding].request(method).encode, known[encoding].result(method).decode
            request = person(encoding, 7, prose(body))
            written = write(request)
            if read(written) != request:
                raise SystemExit(f"{encoding} does not read what it wrote")
            figures.append(
                Figure(
                    encoding,
                    body,
                    len(written),
                    _microseconds(write, request, seconds),
                    _microseconds(read, written, seconds),
                )
            )
    return figures


def _microseconds(function: Callable[[Any], object], argument: Any, seconds: float) -> float:
    """Microseconds of one call: the median of five measurements, which share the time."""
    count = 1
    while (spent := _spent(function, argument, count)) < seconds / 50:
        count *= 4
    count = max(1, int(count * seconds / 5 / spent))
    return median(_spent(function, argument, count) / count for _ in range(5)) * 1e6


def _spent(function: Callable[[Any], object], argument: Any, count: int) -> float:
    start = time.process_time()
    for _ in range(count):
        function(argument)
    return time.process_time() - start


def page_with(text: str, figures: list[Figure]) -> str:
    """A page with the figures between its two marks, in Markdown."""
    before, _, rest = text.partition(START)
    sizes = " | ".join(f"{size_name(body)}: bytes | write | read" for body in BODIES)
    lines = [f"| encoding | {sizes} |", f"|---|{'---:|---:|---:|' * len(BODIES)}"]
    for encoding in dict.fromkeys(figure.encoding for figure in figures):
        cells = [
            f"{one.size:,} | {_significant(one.encode_us)} | {_significant(one.decode_us)}"
            for one in figures
            if one.encoding == encoding
        ]
        lines.append(f"| `{encoding}` | {' | '.join(cells)} |")
    return f"{before}{START}\n\n{chr(10).join(lines)}\n\n{END}{rest.partition(END)[2]}"


def _significant(microseconds: float) -> str:
    return f"{microseconds:.1f}" if microseconds < 10 else f"{microseconds:,.0f}"


def _table(body: int, figures: list[Figure]) -> Table:
    table = report.bare_table(f"a person with a name of {size_name(body)}")
    for heading in ("encoding", "bytes", "write us", "read us", "MB/s there\nand back"):
        table.add_column(heading, justify="left" if heading == "encoding" else "right")
    for one in figures:
        rate = one.body / (one.encode_us + one.decode_us)
        table.add_row(one.encoding, f"{one.size:,}", f"{one.encode_us:.2f}", f"{one.decode_us:.2f}", f"{rate:,.0f}")
    return table


def _calls(cell: Cell, rows: list[Row], times: dict[str, float]) -> Table:
    table = report.bare_table(f"calls with {size_name(cell.size)} bodies, {cell.window} in flight")
    for heading in ("encoding", *HEADINGS):
        table.add_column(heading, justify="left" if heading == "encoding" else "right")
    for row in rows:
        ratio = times[row.contender]
        judged = row.contender in ("protobuf", "snappy-json") and cell.size == 1024
        style = ("[green]" if ratio <= GOAL else "[red]") if judged else ""
        spread = f"{(row.fastest - row.slowest) / row.rate / 2:.0%}"
        broker = "" if row.broker_us is None else f"{row.broker_us:.0f}"
        table.add_row(
            row.contender,
            f"{row.rate:,.0f}",
            spread,
            f"{style}{ratio:.2f}",
            f"{row.caller_us:.0f}",
            f"{row.worker_us:.0f}",
            broker,
        )
    return table


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
