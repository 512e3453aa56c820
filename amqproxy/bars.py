"""Progress bars of calls: in a terminal, one display for all that run at the same time; in a notebook, one each."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from html import escape
from importlib import import_module
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, SpinnerColumn, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Display

from .alive import Progress
from .shown import shown

Show = Callable[[Progress], None]


def bar(description: str | None) -> AbstractContextManager[Show]:
    """A bar as long as the block lasts, and what moves it; where none can be shown that does nothing."""
    console = Console(stderr=True)
    text = shown(description or "")
    if console.is_jupyter:
        return _notebook_bar(text)
    return _terminal_bar(text, console) if console.is_interactive else _nothing()


@contextmanager
def _nothing() -> Iterator[Show]:
    yield lambda update: None


class Terminal:
    """The display, which is there while any call is shown: a terminal has room for one only."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._shown = 0
        self._display: Display

    def begin(self, console: Console) -> Display:
        """The display for one more call."""
        with self._lock:
            if not self._shown:
                self._display = _display(console)
                self._display.start()
            self._shown += 1
            return self._display

    def end(self) -> None:
        """One call less is shown."""
        with self._lock:
            self._shown -= 1
            if not self._shown:
                self._display.stop()


_terminal = Terminal()


def _display(console: Console) -> Display:
    return Display(
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[note]}", markup=False),
        console=console,
        transient=True,
        redirect_stdout=sys.stdout is not None and sys.stdout.isatty(),  # what goes to a file shall still do
    )


@contextmanager
def _terminal_bar(description: str, console: Console) -> Iterator[Show]:
    display = _terminal.begin(console)
    try:
        task = display.add_task(description, total=None, note="")

        def show(update: Progress) -> None:
            # None leaves a number as it was, which is what it means here, too: the handler said nothing of it.
            display.update(task, completed=update.done, total=update.total, note=shown(update.note or ""))

        try:
            yield show
        finally:
            display.remove_task(task)
    finally:
        _terminal.end()


@contextmanager
def _notebook_bar(description: str) -> Iterator[Show]:
    """Below the cell; rich's own way needs ipywidgets, and now and then swallows what the cell prints."""
    notebook: Any = import_module("IPython.display")
    handle = notebook.display(notebook.HTML(_html(description, Progress())), display_id=True)
    done: float | None = None
    total: float | None = None

    def show(update: Progress) -> None:
        nonlocal done, total
        done = done if update.done is None else update.done
        total = total if update.total is None else update.total
        handle.update(notebook.HTML(_html(description, Progress(done, total, update.note))))

    try:
        yield show
    finally:
        handle.update(notebook.HTML(""))


def _html(description: str, now: Progress) -> str:
    note = escape(shown(now.note or ""))
    if now.total is None or now.total <= 0:
        return f"<div>{escape(description)} <progress></progress> {note}</div>"
    share = min(max(0.0, (now.done or 0) / now.total), 1.0)
    moved = f'<progress value="{share:.4f}"></progress> {share:.0%}'
    return f"<div>{escape(description)} {moved} {note}</div>"
