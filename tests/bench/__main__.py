"""``python -m tests.bench``: run the benchmark, print its tables, write its figures to a file."""

import argparse
import sys
from importlib.util import find_spec

from rich.console import Console

from . import arguments, course, report, summary
from .broker import NoBrokerError
from .contenders import AMQPROXY, CONTENDERS, Contender
from .course import INTERRUPTED, NO_BROKER
from .measure import Sample
from .plan import SIZES, WINDOWS
from .rounds import Field


def main() -> int:
    """Run the bench; return 0 when all who started finished, 1 when one failed, 3 without a broker."""
    args = _arguments()
    console = Console()
    contenders = _chosen(args.only, args.profile)
    try:
        with course.field_of(contenders, args) as field:
            samples = course.compete(field, contenders, _flags(args), arguments.plan(args), console)
    except NoBrokerError as error:
        console.print(f"no broker: {error}", style="red", highlight=False)
        return NO_BROKER
    _report(console, field, samples)
    if args.profile:
        console.print(f"the {args.profile} ran under cProfile: these rates are not its own", style="red")
    course.write(args, field, samples, uvloop=args.uvloop, profiled=args.profile)
    console.print(f"{field.broker.product}; raw figures in {args.json}", style="dim", highlight=False)
    return 1 if field.failed or not samples else 0


def _report(console: Console, field: Field, samples: list[Sample]) -> None:
    table = summary.rows(samples)
    report.print_tables(console, table)
    report.print_goals(console, summary.goals(table))
    report.print_legend(console, field)
    report.print_absent(console, field)
    report.print_disturbance(console, summary.waiting_share(samples), summary.strangers_share(samples))


def _chosen(only: list[str], profile: str | None) -> list[Contender]:
    if not only and profile:
        only = [AMQPROXY]
    return [contender for contender in CONTENDERS if (contender.name in only if only else not contender.on_request)]


def _flags(args: argparse.Namespace) -> dict[str, list[str]]:
    both = ["--uvloop"] if args.uvloop else []
    return {role: [*both, "--profile"] if role == args.profile else both for role in ("caller", "worker")}


def _arguments() -> argparse.Namespace:
    names = ", ".join(f'"{contender.name}"' for contender in CONTENDERS)
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    arguments.add_common(parser, windows=WINDOWS, sizes=tuple(SIZES), file="bench.json")
    parser.add_argument("--only", action="append", default=[], metavar="NAME", help=f"repeatable; of {names}")
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


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
