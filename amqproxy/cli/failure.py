"""What a failure is for the command line: a sentence on stderr, or a line of JSON, and an exit code."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

import typer

from ..errors import AccessRefused, AMQProxyError, BadReply, BrokerUnavailable, ContractError
from ..shown import shown_lines
from .lines import line

FAILED, USAGE, NO_BROKER = 1, 2, 3

# gRPC's names for the failures that come about on our side; those of the worker bring their own.
_CODES = {
    "CallTimeout": "deadline_exceeded",
    "Overloaded": "resource_exhausted",
    "MessageTooLarge": "resource_exhausted",
    "EncodingFailed": "invalid_argument",
    "ContractError": "invalid_argument",
    "UsageError": "invalid_argument",
    "AccessRefused": "permission_denied",
    "BadReply": "internal",
}
_OTHER_CODE = "unavailable"


class UsageError(Exception):
    """What was typed cannot be done as it stands."""


def exit_code(error: Exception) -> int:
    """The exit code for an error of ours."""
    match error:
        case BrokerUnavailable() | AccessRefused():
            return NO_BROKER
        case UsageError() | ContractError():
            return USAGE
    return FAILED


def fail(message: str, code: int) -> NoReturn:
    """Say why on stderr and end the command."""
    typer.echo(f"{typer.style('error:', fg='red', bold=True)} {shown_lines(message)}", err=True)
    raise typer.Exit(code)


def described(error: Exception) -> dict[str, Any]:
    """What went wrong, for programs."""
    kind = type(error).__name__
    return {
        "type": getattr(error, "type", kind),
        "code": getattr(error, "code", _CODES.get(kind, _OTHER_CODE)),
        "message": getattr(error, "message", str(error)),
        "executed": executed(error),
        "retryable": getattr(error, "retryable", False),
        "details": getattr(error, "details", None),
    }


def executed(error: Exception) -> str:
    """Whether the handler ran: "no" also of what ends a command before there was a call."""
    before = isinstance(error, (UsageError, BrokerUnavailable))
    told: str = getattr(error, "executed", "no" if before else "maybe")
    return told


def _whether_it_ran(error: Exception) -> str:
    """What is to be added to an error's own words, if they do not say it."""
    if isinstance(error, BadReply):
        return "; the handler has run" if error.executed == "yes" else "; whether the handler ran is not known"
    told = any(words in str(error) for words in ("not known", "may have"))
    return "" if told or executed(error) != "maybe" else "; whether the handler ran is not known"


@contextmanager
def failures() -> Iterator[None]:
    """Turn the errors that amqproxy raises on purpose into a sentence and an exit code; others are bugs."""
    try:
        yield
    except (AMQProxyError, UsageError) as error:
        fail(str(error), exit_code(error))


@contextmanager
def call_failures(*, json: bool, calls: bool = True) -> Iterator[None]:
    """The same, with `json` to programs, and where calls are made with what became of the call."""
    try:
        yield
    except (AMQProxyError, UsageError) as error:
        if not json:
            fail(f"{error}{_whether_it_ran(error) if calls else ''}", exit_code(error))
        told = described(error)
        if not calls:
            del told["executed"]
        line(told, err=True)
        raise typer.Exit(exit_code(error)) from None


@contextmanager
def usage_of(*kinds: type[Exception]) -> Iterator[None]:
    """Where options of ours are checked, such an exception means that one of them is wrong."""
    try:
        yield
    except kinds as error:
        raise UsageError(str(error)) from error
