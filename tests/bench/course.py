"""The course of a benchmark: brokers and contenders are started, measured behind a progress bar, and written down."""

import argparse
import json
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from . import arguments, summary
from .broker import broker, embedded
from .contenders import Contender
from .machine import machine, versions
from .measure import Sample
from .plan import Plan
from .rounds import Field

NO_BROKER = 3
INTERRUPTED = 130


@contextmanager
def field_of(contenders: Sequence[Contender], args: argparse.Namespace) -> Iterator[Field]:
    """Give a field on the brokers that these contenders need. Raises NoBrokerError."""
    with ExitStack() as stack:
        inside = stack.enter_context(embedded()) if any(one.embedded for one in contenders) else None
        if inside is not None and all(one.embedded for one in contenders):
            node = inside
        else:
            node = stack.enter_context(broker(args.url, args.broker_pid))
        yield Field(node, inside)


def compete(
    field: Field, contenders: Sequence[Contender], flags: dict[str, list[str]], plan: Plan, console: Console
) -> list[Sample]:
    """Start all contenders, measure them, and end them."""
    with tempfile.TemporaryDirectory(prefix="bench-") as directory:
        try:
            for contender in contenders:
                field.start(contender, Path(directory), flags)
            return _measure(field, plan, console)
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


def write(args: argparse.Namespace, field: Field, samples: list[Sample], **more: object) -> None:
    """Write all figures to the file that the command line names."""
    result = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "broker": {"product": field.broker.product, "private": field.broker.private},
        "embedded": None if field.embedded is None else field.embedded.product,
        "versions": versions(),
        "contenders": field.about,
        "plan": arguments.plan(args).as_json(),
        **more,
        "skipped": field.skipped,
        "failed": field.failed,
        "summary": [asdict(row) for row in summary.rows(samples)],
        "samples": [asdict(sample) for sample in samples],
    }
    args.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
