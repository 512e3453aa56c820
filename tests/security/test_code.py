"""S01 and S28: nothing in the package runs what came over the wire, and no secret comes from a guessable source."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent.parent / "amqproxy"

RUNS_CODE = frozenset(
    {
        *("pickle", "cPickle", "_pickle", "marshal", "shelve", "dill", "cloudpickle", "jsonpickle", "yaml", "copyreg"),
        *("code", "codeop", "runpy", "xmlrpc", "joblib", "numpy", "torch"),
    }
)
CALLS = frozenset({"eval", "exec", "compile", "__import__", "execfile"})
BY_NAME = frozenset({"import_module", "find_class", "__subclasses__"})
MAY_IMPORT_BY_NAME = {
    "cli/target.py": "a person names a module at the command line",
    "bars.py": "one of two libraries of progress bars, whichever its own program has",
}
GUESSABLE_IS_FINE = {
    "backoff.py": "how long a link that was lost is waited for",
    "connection.py": "which of several hosts is tried first",
    "supervisor.py": "how long a worker process that died is waited for",
    "testing/rabbitmq.py": "which port is tried first",
}


def found(path: Path) -> Iterator[str]:
    """Each thing in a file that could run code from elsewhere."""
    name = path.relative_to(PACKAGE).as_posix()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            modules = [node.module or ""] if node.level == 0 else []
        else:
            modules = []
        for module in modules:
            top = module.partition(".")[0]
            if top in RUNS_CODE:
                yield f"{name}:{node.lineno} imports {module}"  # type: ignore[attr-defined]  # an import has a line
            if top == "importlib" and name not in MAY_IMPORT_BY_NAME and module == "importlib":
                yield f"{name}:{node.lineno} imports {module}"  # type: ignore[attr-defined]  # as above
            if top == "random" and name not in GUESSABLE_IS_FINE:
                yield f"{name}:{node.lineno} imports {module}"  # type: ignore[attr-defined]  # as above
        if isinstance(node, ast.Call):
            called = node.func
            if isinstance(called, ast.Name) and called.id in CALLS:
                yield f"{name}:{node.lineno} calls {called.id}"
            if isinstance(called, ast.Attribute) and called.attr in BY_NAME and name not in MAY_IMPORT_BY_NAME:
                yield f"{name}:{node.lineno} calls {called.attr}"
            if isinstance(called, ast.Attribute) and called.attr == "system":
                yield f"{name}:{node.lineno} calls {called.attr}"
            for keyword in node.keywords:
                if keyword.arg == "shell" and not (isinstance(keyword.value, ast.Constant) and not keyword.value.value):
                    yield f"{name}:{node.lineno} uses a shell"


def test_nothing_runs_code_that_came_from_elsewhere() -> None:
    assert [one for path in sorted(PACKAGE.rglob("*.py")) for one in found(path)] == []


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from marshal import loads",
        "import yaml.loader",
        "eval('1')",
        "x = __import__(name)",
        "importlib.import_module(name)",
        "import importlib",
        "os.system(text)",
        "subprocess.run(text, shell=True)",
        "object.__subclasses__()",
        "from random import getrandbits",
    ],
)
def test_it_would_be_found(source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.security.test_code.PACKAGE", tmp_path)
    (tmp_path / "module.py").write_text(f"{source}\n")
    assert len(list(found(tmp_path / "module.py"))) >= 1
