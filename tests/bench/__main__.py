"""``python -m tests.bench``: run the benchmark, print its tables, write its figures to a file."""

import argparse
import json
import sys
import tempfile
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from . import report, summary
from .broker import NoBrokerError, broker
from .contenders import AMQPROXY, CONTENDERS, Contender
from .machine import machine, versions
from .measure import STALL_TIMEOUT, Sample
from .plan import SIZES, WINDOWS, Plan, parse_size
from .rounds import Field

NO_BROKER = 3
INTERRUPTED = 130
LONGEST = STALL_TIMEOUT / 3


def main() -> int:
    """Run the bench; return 0 when all who started finished, 1 when one failed, 3 without a broker."""
    args = _arguments()
    console = Console()
    try:
        with broker(args.url, args.broker_pid) as node:
            field = Field(node)
            samples = _compete(field, args, console)
    except NoBrokerError as error:
        console.print(f"no broker: {error}", style="red", highlight=False)
        return NO_BROKER
    _report(console, field, samples)
    if args.profile:
        console.print(f"the {args.profile} ran under cProfile: these rates are not its own", style="red")
    _write(args.json, args, field, samples)
    console.print(f"{node.product}; raw figures in {args.json}", style="dim", highlight=False)
    return 1 if field.failed or not samples else 0


def _compete(field: Field, args: argparse.Namespace, console: Console) -> list[Sample]:
    with tempfile.TemporaryDirectory(prefix="bench-") as directory:
        try:
            for contender in _chosen(args.only, args.profile):
                field.start(contender, Path(directory), _flags(args))
            return _measure(field, _plan(args), console)
        finally:
            field.stop()


def _measure(field: Field, plan: Plan, console: Console) -> list[Sample]:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    samples = []
    # No refresh thread: the bar is drawn between measurements, and takes nothing from them.
    with Progress(*columns, console=console, auto_refresh=False, transient=True) as bar:
        task = bar.add_task("", total=field.steps(plan), completed=-1)

        def progress(what: str) -> None:
            bar.update(task, description=what, advance=1, refresh=True)

        for sample in field.measure(plan, progress):
            samples.append(sample)
    return samples


def _report(console: Console, field: Field, samples: list[Sample]) -> None:
    table = summary.rows(samples)
    report.print_tables(console, table)
    report.print_goals(console, summary.goals(table))
    report.print_legend(console, field)
    report.print_absent(console, field)
    report.print_disturbance(console, summary.waiting_share(samples), summary.strangers_share(samples))


def _write(path: Path, args: argparse.Namespace, field: Field, samples: list[Sample]) -> None:
    result = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "broker": {"product": field.broker.product, "private": field.broker.private},
        "versions": versions(),
        "contenders": field.about,
        "plan": _plan(args).as_json(),
        "uvloop": args.uvloop,
        "profiled": args.profile,
        "skipped": field.skipped,
        "failed": field.failed,
        "summary": [asdict(row) for row in summary.rows(samples)],
        "samples": [asdict(sample) for sample in samples],
    }
    path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def _chosen(only: list[str], profile: str | None) -> list[Contender]:
    if not only and profile:
        only = [AMQPROXY]
    return [contender for contender in CONTENDERS if (contender.name in only if only else not contender.on_request)]


def _flags(args: argparse.Namespace) -> dict[str, list[str]]:
    both = ["--uvloop"] if args.uvloop else []
    return {role: [*both, "--profile"] if role == args.profile else both for role in ("caller", "worker")}


def _plan(args: argparse.Namespace) -> Plan:
    quick = args.quick
    return Plan(
        rounds=args.rounds or (2 if quick else 5),
        seconds=args.seconds or (0.3 if quick else 1.0),
        sizes=tuple(args.sizes),
        windows=tuple(args.windows),
    )


def _arguments() -> argparse.Namespace:
    names = ", ".join(f'"{contender.name}"' for contender in CONTENDERS)
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--url", help="the broker; default AMQPROXY_URL, else a private RabbitMQ node")
    parser.add_argument("--broker-pid", type=int, help="process of the broker at --url, to see its CPU time too")
    parser.add_argument("--rounds", type=_positive, help="rounds (default 5)")
    parser.add_argument("--seconds", type=_seconds, help="length of one measurement (default 1)")
    parser.add_argument("--only", action="append", default=[], metavar="NAME", help=f"repeatable; of {names}")
    parser.add_argument("--windows", type=_windows, default=WINDOWS, help="calls in flight (default 1,64,500)")
    parser.add_argument("--sizes", type=_sizes, default=tuple(SIZES.values()), help="bodies (default small,1k,64k)")
    parser.add_argument("--json", type=Path, default=Path("bench.json"), metavar="FILE", help="default bench.json")
    parser.add_argument("--quick", action="store_true", help="2 rounds of 0.3 s: a look, no evidence")
    parser.add_argument(
        "--profile",
        choices=["caller", "worker"],
        help="run that end, of amqproxy unless --only says else, under cProfile",
    )
    parser.add_argument("--uvloop", action="store_true", help="run the asyncio contenders on uvloop")
    args = parser.parse_args()
    for name in args.only:
        if name not in {contender.name for contender in CONTENDERS}:
            parser.error(f"no contender {name!r}; there are {names}")
    if args.uvloop and find_spec("uvloop") is None:
        parser.error("uvloop is not installed")
    return args


def _windows(text: str) -> tuple[int, ...]:
    return tuple(_positive(word) for word in text.split(","))


def _sizes(text: str) -> tuple[int, ...]:
    try:
        return tuple(parse_size(word) for word in text.split(","))
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no positive number")
    return int(text)


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 < seconds <= LONGEST:
        raise argparse.ArgumentTypeError(f"a measurement takes up to {LONGEST:g} seconds, not {text}")
    return seconds


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
