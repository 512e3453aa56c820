"""What people see: tables, goals, and a word on everybody who is not in them."""

from collections.abc import Iterable

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from .plan import size_name
from .rounds import Field
from .summary import Goal, Row

WAITING_BOUND = 0.02
"""More of a core than waiting peers may use before the figures are in doubt."""

STRANGERS_BOUND = 0.25
"""More of a core than the rest of the machine may use before even the ratios scatter."""

HEADINGS = ("calls/s", "+-", "of\naio-pika", "of\nC", "of\nRMQ", "CPU us:\ncaller", "per\nworker", "call\nbroker")


def print_tables(console: Console, table: list[Row]) -> None:
    """One table per body size, one block per window."""
    for size in sorted({row.cell.size for row in table}):
        console.print(_table(size, [row for row in table if row.cell.size == size]), "")


def print_goals(console: Console, reached: Iterable[tuple[Goal, float]]) -> None:
    """One line for each promise."""
    for goal, value in reached:
        verdict = "[green]met[/]" if value >= goal.ratio else "[red]not met[/]"
        cell = f"{size_name(goal.size)} bodies, window {goal.window}"
        asked = f"{cell}: {goal.contender}: at least {goal.ratio:g} of {goal.peer}"
        console.print(f"{verdict}: {asked}: [bold]{value:.2f}[/]", highlight=False)


def print_legend(console: Console, field: Field) -> None:
    """Say how each contender is used."""
    for name, about in field.about.items():
        console.print(f"{name} {about}", style="dim", highlight=False)


def print_absent(console: Console, field: Field) -> None:
    """Say who was skipped or failed, and why."""
    for name, reason in field.skipped.items():
        console.print(f"[yellow]skipped[/]: {name}: {reason}", highlight=False)
    for name, reason in field.failed.items():
        console.print("[bold red]failed[/]:", f"{name}: {reason}", markup=True, highlight=False)


def print_disturbance(console: Console, waiting: float, strangers: float | None) -> None:
    """Say what those who were not measured took from those who were."""
    style = "red" if waiting > WAITING_BOUND else "dim"
    console.print(f"waiting peers used at most {waiting:.2%} of a core", style=style, highlight=False)
    if strangers is not None:
        style = "red" if strangers > STRANGERS_BOUND else "dim"
        console.print(f"the rest of the machine used {strangers:.0%} of a core", style=style, highlight=False)


def bare_table(title: str) -> Table:
    """A table with one blank between columns and no edges: 80 columns are enough for every contender."""
    table = Table(title=title, title_justify="left", title_style="bold", padding=0)
    table.box, table.show_edge, table.pad_edge = SIMPLE_HEAD, False, False
    return table


def spread(row: Row) -> str:
    """By how much the rounds differ, up or down."""
    return f"{(row.fastest - row.slowest) / 2 / row.rate:.0%}"


def ratio(value: float | None) -> str:
    """A ratio, or a dash."""
    return "-" if value is None else f"{value:.2f}"


def processor_times(row: Row) -> list[str]:
    """Microseconds of caller, worker and broker."""
    times = (row.caller_us, row.worker_us, row.broker_us)
    return ["-" if time is None else f"{time:,.0f}" for time in times]


def _table(size: int, block: list[Row]) -> Table:
    table = bare_table(f"{size_name(size)} bodies")
    table.add_column("window", justify="right")
    table.add_column("caller, worker", no_wrap=True)
    for heading in HEADINGS:
        table.add_column(heading, justify="right", no_wrap=True)
    shown = None
    for row in block:
        first = row.cell.window != shown
        if first and shown is not None:
            table.add_section()
        shown = row.cell.window
        table.add_row(str(shown) if first else "", *_cells(row))
    return table


def _cells(row: Row) -> list[str]:
    return [
        row.contender,
        f"{row.rate:,.0f}",
        spread(row),
        ratio(row.to_aio_pika),
        ratio(row.to_c),
        ratio(row.to_rabbitmq),
        *processor_times(row),
    ]
