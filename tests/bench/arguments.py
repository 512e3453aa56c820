"""The command line that all benchmarks share, and the plan that it asks for."""

import argparse
from pathlib import Path

from .measure import STALL_TIMEOUT
from .plan import SIZES, Plan, parse_size

LONGEST = STALL_TIMEOUT / 3


def add_common(parser: argparse.ArgumentParser, *, windows: tuple[int, ...], sizes: tuple[str, ...], file: str) -> None:
    """Add what every benchmark takes, with its own defaults."""
    parser.add_argument("--url", help="RabbitMQ; default AMQPROXY_URL, else a private node")
    parser.add_argument("--broker-pid", type=int, help="process of the broker at --url, to see its CPU time too")
    parser.add_argument("--rounds", type=positive, help="rounds (default 5)")
    parser.add_argument("--seconds", type=_seconds, help="length of one measurement (default 1)")
    shown = ",".join(map(str, windows))
    parser.add_argument("--windows", type=_windows, default=windows, help=f"messages in flight (default {shown})")
    body_sizes = tuple(SIZES[name] for name in sizes)
    parser.add_argument("--sizes", type=_sizes, default=body_sizes, help=f"bodies (default {','.join(sizes)})")
    parser.add_argument("--json", type=Path, default=Path(file), metavar="FILE", help=f"default {file}")
    parser.add_argument("--quick", action="store_true", help="2 rounds of 0.3 s: a look, no evidence")


def plan(args: argparse.Namespace) -> Plan:
    """What is to be measured."""
    quick = args.quick
    return Plan(
        rounds=args.rounds or (2 if quick else 5),
        seconds=args.seconds or (0.3 if quick else 1.0),
        sizes=tuple(args.sizes),
        windows=tuple(args.windows),
    )


def positive(text: str) -> int:
    """Read a number from 1 on."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no positive number")
    return int(text)


def _windows(text: str) -> tuple[int, ...]:
    return tuple(positive(word) for word in text.split(","))


def _sizes(text: str) -> tuple[int, ...]:
    try:
        return tuple(parse_size(word) for word in text.split(","))
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 < seconds <= LONGEST:
        raise argparse.ArgumentTypeError(f"a measurement takes up to {LONGEST:g} seconds, not {text}")
    return seconds
