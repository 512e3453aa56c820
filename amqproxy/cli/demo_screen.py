"""What the demonstration shows: colours and a live picture on a terminal, plain lines elsewhere."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractContextManager, asynccontextmanager, nullcontext

from rich import box
from rich.console import Console, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from .demo_crew import Crew, Member
from .demo_load import Figures
from .demo_service import AddResponse

COLOURS = ("cyan", "yellow", "magenta", "green")
STATES = {
    "starting": "[dim]… starting[/dim]",
    "serving": "[green]●[/green] serving",
    "killed": "[red]✗[/red] killed",
    "joined": "[green]+[/green] joined",
}
BAR = 28
REFRESH_SECONDS = 0.2


class Screen:
    """Where the demonstration is watched."""

    def __init__(self, *, quiet: bool) -> None:
        self._console = Console(quiet=quiet, highlight=False)
        self._drawn = self._console.is_terminal and not quiet

    def say(self, markup: str) -> None:
        """Print a line."""
        self._console.print(markup, soft_wrap=True)

    def waiting(self, text: str) -> AbstractContextManager[object]:
        """Show what is being waited for."""
        if self._drawn:
            return self._console.status(text)
        self.say(text)
        return nullcontext()

    def grid(self, answers: Sequence[AddResponse], crew: Crew) -> None:
        """Print each sum with the worker that did it."""
        if not self._drawn:
            for answer in answers:
                self.say(f"{_equation(answer)}  ({crew.name_of(answer.worker)})")
            return
        table = Table(box=box.ROUNDED, show_header=False, show_lines=True, border_style="dim")
        for row in range(0, len(answers), 6):
            table.add_row(*(_cell(answer, crew) for answer in answers[row : row + 6]))
        self._console.print(table)

    @asynccontextmanager
    async def watching(self, figures: Figures, crew: Crew) -> AsyncIterator[None]:
        """Show the calls of each worker while they come in."""
        if not self._drawn:
            yield
            return
        with Live(console=self._console, auto_refresh=False, transient=True) as live:
            drawing = asyncio.create_task(_draw(live, figures, crew))
            try:
                yield
            finally:
                drawing.cancel()
                await asyncio.wait((drawing,))
            if not drawing.cancelled():
                drawing.result()

    def table(self, figures: Figures, crew: Crew) -> None:
        """Print the figures."""
        workers = Table("worker", "", "calls", "share", box=box.SIMPLE_HEAD, title="calls per worker")
        for column in (2, 3):
            workers.columns[column].justify = "right"
        for member, calls in _calls(figures, crew):
            share = calls / figures.calls if figures.calls else 0
            workers.add_row(_name(member.name, crew), STATES[member.state], f"{calls:,}", f"{share:.0%}")
        self._console.print(workers)
        milliseconds = [1000 * value for value in _times(figures)]
        totals = Table(box=box.SIMPLE_HEAD, title="under load")
        for heading in ("calls", "calls/s", "p50 ms", "p99 ms", "max ms", "redelivered", "lost"):
            totals.add_column(heading, justify="right")
        lost = figures.lost.total()
        totals.add_row(
            f"{figures.calls:,}",
            f"{figures.rate:,.0f}",
            *(f"{value:.1f}" for value in milliseconds),
            f"{figures.redelivered:,}",
            Text(f"{lost:,}", style="bold red" if lost else "bold green"),
        )
        self._console.print(totals)


def _times(figures: Figures) -> tuple[float, float, float]:
    latencies = figures.latencies
    return latencies.percentile(50), latencies.percentile(99), latencies.highest


async def _draw(live: Live, figures: Figures, crew: Crew) -> None:
    before: dict[str, int] = {}
    while True:
        live.update(_picture(figures, crew, before), refresh=True)
        before = {member.name: calls for member, calls in _calls(figures, crew)}
        await asyncio.sleep(REFRESH_SECONDS)


def _picture(figures: Figures, crew: Crew, before: dict[str, int]) -> RenderableType:
    """A bar for each worker: how many calls it answered since the picture before."""
    now = _calls(figures, crew)
    news = {member.name: calls - before.get(member.name, 0) for member, calls in now}
    most = max(news.values(), default=0) or 1
    table = Table.grid(padding=(0, 2))
    for member, calls in now:
        bar = Text("█" * round(BAR * news[member.name] / most), style=_colour(member.name, crew))
        bar.pad_right(BAR - len(bar))
        table.add_row(_name(member.name, crew), STATES[member.state], bar, f"{calls:>8,} calls")
    table.add_row("", "", f"[dim]redelivered {figures.redelivered}, lost {figures.lost.total()}[/dim]", "")
    return table


def _calls(figures: Figures, crew: Crew) -> list[tuple[Member, int]]:
    """How many calls each worker answered."""
    by_name = {crew.name_of(worker): calls for worker, calls in figures.by_worker.items()}
    return [(member, by_name.get(member.name, 0)) for member in crew.members]


def _equation(answer: AddResponse) -> str:
    return f"{answer.x} + {answer.y} = {answer.sum}"


def _cell(answer: AddResponse, crew: Crew) -> Text:
    name = crew.name_of(answer.worker)
    return Text.assemble((_equation(answer), f"bold {_colour(name, crew)}"), "\n", (name, "dim"))


def _name(name: str, crew: Crew) -> Text:
    return Text(name, style=f"bold {_colour(name, crew)}")


def _colour(name: str, crew: Crew) -> str:
    names = [member.name for member in crew.members]
    return COLOURS[names.index(name) % len(COLOURS)] if name in names else "white"
