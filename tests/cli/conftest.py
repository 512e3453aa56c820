"""The command line without a process: for what ends before there is a connection."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator

import pytest
from typer.testing import CliRunner

from amqproxy.cli import app
from tests.processes import TESTS, Ended

Invoke = Callable[..., Ended]

NOWHERE = "amqp://guest:guest@nowhere.invalid/"


@pytest.fixture
def invoke(monkeypatch: pytest.MonkeyPatch) -> Iterator[Invoke]:
    """Run the command in this process, in the directory of the tests, with a broker that is not there."""
    monkeypatch.chdir(TESTS)
    monkeypatch.setenv("AMQPROXY_URL", NOWHERE)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr(sys, "path", list(sys.path))
    handlers, modules = list(logging.root.handlers), set(sys.modules)
    ours = logging.getLogger("amqproxy")
    levels = logging.root.level, ours.level

    def invoke(*arguments: str, stdin: str = "") -> Ended:
        try:
            result = CliRunner().invoke(app, arguments, input=stdin, prog_name="amqproxy")
        finally:  # before brokers in threads of this process log to a stderr that is closed
            logging.root.handlers[:] = handlers
            logging.root.setLevel(levels[0])
            ours.setLevel(levels[1])
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return Ended(result.exit_code, result.stdout, result.stderr)

    yield invoke
    for name in set(sys.modules) - modules:
        if name == "served":
            del sys.modules[name]
