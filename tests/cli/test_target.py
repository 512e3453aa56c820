from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from amqproxy.cli.failure import UsageError
from amqproxy.cli.target import load

SOURCE = """
import math
from fractions import Fraction

class Calculator:
    class Inner:
        def add(self): ...
    def add(self): ...

def double(x): ...

calculator = Calculator()
ANSWER = 42
_private = None
"""

Write = Callable[[str, str], None]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Write]:
    """Write modules into the current directory, which are forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)

    def write(path: str, source: str) -> None:
        file = tmp_path / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(source)

    yield write
    for name in set(sys.modules) - before:
        del sys.modules[name]


def test_objects_are_found_in_the_current_directory(write: Write) -> None:
    write("arithmetic.py", SOURCE)
    assert load("arithmetic:Calculator").__name__ == "Calculator"
    assert load("arithmetic:Calculator.Inner").__name__ == "Inner"
    assert load("arithmetic:double").__name__ == "double"
    assert type(load("arithmetic:calculator")) is load("arithmetic:Calculator")


def test_modules_may_lie_in_packages(write: Write) -> None:
    write("shop/__init__.py", "")
    write("shop/orders.py", SOURCE)
    assert load("shop.orders:Calculator").__module__ == "shop.orders"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("nowhere:Calculator", "there is no module 'nowhere' for nowhere:Calculator, neither in .* nor on"),
        ("nowhere.inner:Calculator", "there is no module 'nowhere' for"),
        ("arithmetic.inner:Calculator", "there is no module 'arithmetic.inner' for"),
        ("arithmetic:Calculater", "arithmetic has no 'Calculater'; did you mean 'Calculator'?"),
        ("arithmetic:Zzz", "arithmetic has no 'Zzz'; it has Calculator, double, calculator$"),
        ("arithmetic:Calculator.ad", "arithmetic:Calculator has no 'ad'; did you mean 'add'?"),
        ("arithmetic:ANSWER.x", "arithmetic:ANSWER has no 'x'$"),
        ("arithmetic", "arithmetic is not MODULE:OBJECT, like calculator:Calculator"),
        ("arithmetic:", "arithmetic: is not MODULE:OBJECT"),
        (":Calculator", ":Calculator is not MODULE:OBJECT"),
        ("arithmetic.py:Calculator", "is a file; name the module: arithmetic:Calculator"),
        ("./shop/orders.py", "is a file; name the module: shop.orders:OBJECT"),
    ],
)
def test_what_is_not_there_is_said(write: Write, text: str, why: str) -> None:
    write("arithmetic.py", SOURCE)
    with pytest.raises(UsageError, match=why):
        load(text)


@pytest.mark.parametrize(
    ("source", "why"),
    [
        ("import missing_dependency", "No module named 'missing_dependency'"),
        ("x = (", "SyntaxError"),
        ("raise SystemExit('not today')", "SystemExit: not today"),
        ("def f(): return 1 / 0\nf()", "ZeroDivisionError"),
    ],
)
def test_module_that_cannot_be_imported_shows_where(write: Write, source: str, why: str) -> None:
    write("broken.py", source)
    with pytest.raises(UsageError, match=why) as caught:
        load("broken:Calculator")
    text = str(caught.value)
    assert text.startswith("importing broken failed:")
    assert "broken.py" in text
    assert "importlib" not in text


def test_only_the_last_frames_are_shown_unless_all_are_wanted(write: Write) -> None:
    calls = "".join(f"def f{n}(): f{n + 1}()\n" for n in range(10))
    write("deep.py", f"{calls}def f10(): 1 / 0\nf0()")
    with pytest.raises(UsageError) as short:
        load("deep:Calculator")
    assert "in f9" in str(short.value)
    assert "in f1\n" not in str(short.value)
    with pytest.raises(UsageError) as full:
        load("deep:Calculator", verbose=True)
    assert "in f1\n" in str(full.value)
