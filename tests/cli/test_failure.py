"""An error of a call, for the command line: it says once whether the handler ran, as far as that is known."""

from __future__ import annotations

import json as jsons

import pytest
import typer

import amqproxy
from amqproxy.cli.failure import UsageError, call_failures

UNKNOWN = "; whether the handler ran is not known"


def refused(executed: amqproxy.errors.Executed) -> amqproxy.AccessRefused:
    error = amqproxy.AccessRefused("localhost refused the user 'x'")
    error.executed = executed
    return error


@pytest.mark.parametrize(
    ("error", "executed", "adds"),
    [
        (UsageError("what?"), "no", ""),
        (amqproxy.BrokerUnavailable("no broker"), "no", ""),
        (amqproxy.ContractError("too many arguments"), "no", ""),
        (refused("no"), "no", ""),
        (refused("maybe"), "maybe", UNKNOWN),
        (amqproxy.TopologyConflict("refused"), "maybe", UNKNOWN),
        (amqproxy.Unroutable("no queue", executed="maybe"), "maybe", UNKNOWN),
        (amqproxy.CallTimeout("no answer; it may have run"), "maybe", ""),
        (amqproxy.RemoteError("whether it ran is not known", executed="maybe"), "maybe", ""),
        (amqproxy.RemoteError("no such user"), "yes", ""),
        (amqproxy.BadReply("the reply does not fit"), "yes", "; the handler has run"),
        (amqproxy.BadReply("no sense", executed="maybe"), "maybe", UNKNOWN),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else None,
)
def test_an_error_says_once_whether_the_handler_ran(
    error: Exception, executed: str, adds: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(typer.Exit), call_failures(json=False):
        raise error
    assert capsys.readouterr().err == f"error: {error}{adds}\n"
    with pytest.raises(typer.Exit), call_failures(json=True):
        raise error
    assert jsons.loads(capsys.readouterr().err)["executed"] == executed


def test_of_what_calls_nothing_it_is_not_said(capsys: pytest.CaptureFixture[str]) -> None:
    error = amqproxy.Overloaded("the queue is full", executed="maybe")
    with pytest.raises(typer.Exit), call_failures(json=False, calls=False):
        raise error
    assert capsys.readouterr().err == "error: the queue is full\n"
    with pytest.raises(typer.Exit), call_failures(json=True, calls=False):
        raise error
    assert "executed" not in jsons.loads(capsys.readouterr().err)
