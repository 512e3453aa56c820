"""What a failure is for the command line: a sentence on stderr and an exit code."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

import typer

from ..errors import AccessRefused, AMQProxyError, BrokerUnavailable, ContractError

FAILED, USAGE, NO_BROKER = 1, 2, 3


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
    typer.echo(f"{typer.style('error:', fg='red', bold=True)} {message}", err=True)
    raise typer.Exit(code)


@contextmanager
def failures() -> Iterator[None]:
    """Turn the errors that amqproxy raises on purpose into a sentence and an exit code; others are bugs."""
    try:
        yield
    except (AMQProxyError, UsageError) as error:
        fail(str(error), exit_code(error))


@contextmanager
def usage_of(*kinds: type[Exception]) -> Iterator[None]:
    """Where options of ours are checked, such an exception means that one of them is wrong."""
    try:
        yield
    except kinds as error:
        raise UsageError(str(error)) from error
