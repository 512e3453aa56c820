"""Progress bars of calls, in a terminal or a notebook: one display for all that run at the same time."""

from __future__ import annotations

import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec

from rich.console import Console
from rich.progress import BarColumn, SpinnerColumn, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Display

from .alive import Progress


class Bars:
    """The display, which is there while any call is shown; a terminal has room for one only."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._shown = 0
        self._display: Display | None = None

    def begin(self) -> Display | None:
        """The display for one more call; None where nothing can be shown."""
        with self._lock:
            if not self._shown:
                self._display = _display()
                if self._display is not None:
                    self._display.start()
            self._shown += 1
            return self._display

    def end(self) -> None:
        """One call less is shown."""
        with self._lock:
            self._shown -= 1
            if not self._shown and self._display is not None:
                self._display.stop()
                self._display = None


_bars = Bars()


@contextmanager
def bar(description: str | None) -> Iterator[Callable[[Progress], None]]:
    """A bar as long as the block lasts, and what moves it."""
    display = _bars.begin()
    try:
        if display is None:
            yield lambda update: None
            return
        task = display.add_task(_printable(description), total=None, note="")

        def show(update: Progress) -> None:
            # None leaves a number as it was, which is what it means here, too: the handler said nothing of it.
            display.update(task, completed=update.done, total=update.total, note=_printable(update.note))

        try:
            yield show
        finally:
            display.remove_task(task)
    finally:
        _bars.end()


def _display() -> Display | None:
    console = Console(stderr=True)
    if console.is_jupyter and find_spec("ipywidgets") is None:
        warnings.warn("progress bars in a notebook need ipywidgets: pip install ipywidgets", stacklevel=2)
        return None
    if not (console.is_interactive or console.is_jupyter):
        return None
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


def _printable(text: str | None) -> str:
    """The text of somebody else, without what would move the cursor."""
    return "".join(letter if letter.isprintable() else " " for letter in text or "")
