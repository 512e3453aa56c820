"""`amqproxy generate`: a client in another language."""

from __future__ import annotations

import inspect
import shlex
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .failure import UsageError, failures, usage_of
from .help import prose

if TYPE_CHECKING:
    from ..contract import Contract
    from ..generate import Source

HELP = prose("""
Write a client of a service in Ruby, Java, Node or Go.

The file stands on RabbitMQ's usual library of that language, and on nothing of ours: each method of the service
becomes a method with the same parameters and documentation. Run the command again when the service has changed.

\bExamples:
  amqproxy generate ruby calculator:Calculator
  amqproxy generate node calculator:Calculator --output web/src
  amqproxy generate java calculator:Calculator --package com.example.sums
  amqproxy generate go calculator:Calculator --output - | less

\bWhat is written, and what it needs:
  ruby   calculator_client.rb     bunny
  java   CalculatorClient.java    com.rabbitmq:amqp-client, jackson-databind
  node   calculator-client.mjs    amqplib
  go     calculator_client.go     github.com/rabbitmq/amqp091-go
""")
EPILOG = prose("""
[dim]MODULE is imported from the current directory or Python's path; OBJECT may have dots. A file that this command
did not write is left alone. Exit codes: 0 written, 2 usage.[/dim]
""")


class Language(StrEnum):
    """The languages; a test compares them with those that there are writers for."""

    RUBY = "ruby"
    JAVA = "java"
    NODE = "node"
    GO = "go"


def command(
    language: Annotated[Language, typer.Argument(help="Whose client.", show_default=False)],
    target: Annotated[
        str,
        typer.Argument(metavar="MODULE:OBJECT", help="The service, like calculator:Calculator.", show_default=False),
    ],
    output: Annotated[str, typer.Option(metavar="DIRECTORY", help="Write there, or to stdout if it is a dash.")] = ".",
    package: Annotated[
        str | None, typer.Option(metavar="NAME", help="The package, for Java (default: none) and Go.")
    ] = None,
    name: Annotated[
        str | None, typer.Option(metavar="NAME", help="The service's name; default: what the object says.")
    ] = None,
    queue: Annotated[
        str | None, typer.Option(metavar="NAME", help="The queue of its workers; default: the service's name.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a file that somebody wrote by hand.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Show whole tracebacks of a broken module.")] = False,
) -> None:
    """Write a client of a service in another language."""
    from .target import load

    options = {"package": package, "name": name, "queue": queue}
    with failures():
        served = load(target, verbose=verbose)
        source = _source(
            language, target, served, {each: value for each, value in options.items() if value is not None}
        )
        if output == "-":
            typer.echo(source.text, nl=False)
            return
        typer.echo(f"wrote {_save(source, Path(output), force)}", err=True)


def _source(language: Language, target: str, served: Any, options: dict[str, str]) -> Source:
    """The client's file; UsageError if it cannot be written as it was asked for."""
    from ..contract import contract_of
    from ..generate import LANGUAGES, Order, check_package, service_of

    package = options.get("package")
    with usage_of(ValueError):
        check_package(language, package)
    with usage_of(ValueError):
        contract = contract_of(served, name=options.get("name"))
    service = service_of(contract, _doc(served, contract), queue=options.get("queue"))
    for reason in service.left_out.values():
        typer.echo(f"{typer.style('warning:', fg='yellow', bold=True)} left out: {reason}", err=True)
    words = ["amqproxy", "generate", language, target]
    for option, value in options.items():
        words += [f"--{option}", value]
    source = LANGUAGES[language](Order(service, shlex.join(words), package))
    try:
        source.text.encode()
    except UnicodeEncodeError as error:
        found = error.object[error.start : error.end]
        raise UsageError(f"a name, value or text holds {found!r}, which UTF-8 has no bytes for") from error
    return source


def _doc(served: Any, contract: Contract) -> str:
    """What the class says of itself; a function's text belongs to its only method."""
    if contract.is_function:
        return ""
    kind = served if isinstance(served, type) else type(served)
    doc = inspect.cleandoc(vars(kind).get("__doc__") or "")
    return "" if doc.startswith(f"{kind.__name__}(") else doc  # that is a dataclass's signature


def _save(source: Source, directory: Path, force: bool) -> Path:
    from ..generate import NotOurs, save

    if directory.is_file():
        raise UsageError(f"{directory} is a file; --output is the directory to write to, or - for stdout")
    if not directory.is_dir():
        raise UsageError(f"there is no directory {directory}; make it first: mkdir -p {shlex.quote(str(directory))}")
    try:
        return save(source, directory, force=force)
    except (NotOurs, OSError) as error:
        raise UsageError(str(error)) from error
