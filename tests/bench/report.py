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

HEADINGS = ("calls/s", "+-", "of\naio-pika", "of\nC", "CPU us:\ncaller", "per\nworker", "call\nbroker")


def print_tables(console: Console, table: list[Row]) -> None:
    """One table per body size, one block per window."""
    for size in sorted({row.cell.size for row in table}):
        console.print(_table(size, [row for row in table if row.cell.size == size]), "")


def print_goals(console: Console, reached: Iterable[tuple[Goal, float]]) -> None:
    """One line for each promise."""
    for goal, ratio in reached:
        verdict = "[green]met[/]" if ratio >= goal.ratio else "[red]not met[/]"
        asked = f"small bodies, window {goal.window}: at least {goal.ratio:g} of {goal.peer}"
        console.print(f"{verdict}: {asked}: [bold]{ratio:.2f}[/]", highlight=False)


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


def _table(size: int, block: list[Row]) -> Table:
    # One blank between columns and no edges: 80 columns are enough for every contender.
    table = Table(title=f"{size_name(size)} bodies", title_justify="left", title_style="bold", padding=0)
    table.box, table.show_edge, table.pad_edge = SIMPLE_HEAD, False, False
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
        f"{(row.fastest - row.slowest) / 2 / row.rate:.0%}",
        _ratio(row.to_aio_pika),
        _ratio(row.to_c),
        f"{row.caller_us:,.0f}",
        f"{row.worker_us:,.0f}",
        "-" if row.broker_us is None else f"{row.broker_us:,.0f}",
    ]


def _ratio(ratio: float | None) -> str:
    return "-" if ratio is None else f"{ratio:.2f}"
