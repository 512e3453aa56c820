"""Progress bars in a notebook, with a stand-in for IPython; for terminals see tests/contract/test_track.py."""

from __future__ import annotations

import builtins
import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from amqproxy import Progress
from amqproxy.bars import bar


class ZMQInteractiveShell:
    """What IPython calls itself in a notebook."""


@pytest.fixture
def cell(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is shown below the cell, in its order."""
    shown: list[str] = []

    def display(html: str, *, display_id: bool) -> Any:
        assert display_id
        shown.append(html)
        return SimpleNamespace(update=shown.append)

    module = ModuleType("IPython.display")
    vars(module).update(display=display, HTML=str)
    monkeypatch.setitem(sys.modules, "IPython", ModuleType("IPython"))
    monkeypatch.setitem(sys.modules, "IPython.display", module)
    monkeypatch.setattr(builtins, "get_ipython", ZMQInteractiveShell, raising=False)
    return shown


def test_a_notebook_shows_a_bar_below_the_cell_and_takes_it_away(cell: list[str]) -> None:
    with bar("training <1>") as show:
        show(Progress(1, 4, "a & b\x1b[2J"))
        show(Progress(2))
        show(Progress(note="nearly"))
        show(Progress(9))
    assert cell == [
        "<div>training &lt;1&gt; <progress></progress> </div>",
        '<div>training &lt;1&gt; <progress value="0.2500"></progress> 25% a &amp; b\\x1b[2J</div>',
        '<div>training &lt;1&gt; <progress value="0.5000"></progress> 50% </div>',
        '<div>training &lt;1&gt; <progress value="0.5000"></progress> 50% nearly</div>',
        '<div>training &lt;1&gt; <progress value="1.0000"></progress> 100% </div>',
        "",
    ]


@pytest.mark.parametrize("update", [Progress(3), Progress(3, 0), Progress(None, -1), Progress(note="busy")])
def test_without_a_total_it_just_moves(cell: list[str], update: Progress) -> None:
    with bar(None) as show:
        show(update)
    assert cell[1].startswith("<div> <progress></progress> ")


def test_it_goes_with_an_exception_too(cell: list[str]) -> None:
    with pytest.raises(ZeroDivisionError), bar("training"):
        raise ZeroDivisionError
    assert cell[-1] == ""


def test_beside_terminal_and_notebook_nothing_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    with bar("training") as show:
        show(Progress(1, 2, "note"))
    assert capsys.readouterr() == ("", "")
