"""`amqproxy broadcast`: ask all workers of a service from the shell."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import CallTimeout, Unroutable
from ..shown import shown, shown_json, shown_lines
from .failure import FAILED, described, usage_of
from .help import prose
from .lines import encoded
from .request import ARGUMENTS, Priority, Request, Typed, typed

if TYPE_CHECKING:
    from ..broadcast import Answers
    from ..client import Client
    from ..poll import WorkerAnswer
    from .output import Output

HELP = prose(f"""
Ask all workers of a service, and show what each of them answers.

In a terminal that is a table; elsewhere, or with --json, one line of JSON for each answer: worker, value or error, and
seconds. It ends when all workers that were there have answered. A stream is answered as a list.
{ARGUMENTS}
\bExamples:
  amqproxy broadcast calculator add 1 2
  amqproxy broadcast cache size --timeout 2
  amqproxy broadcast cache size --json | jq .value
  amqproxy broadcast search find term=amqp --expect 1
""")
EPILOG = prose("""
[dim]Exit codes: 0 all workers answered with values, 1 one of them failed or did not answer, they were fewer than
expected, or none was there, 2 usage, 3 no broker, or no access, 130 Ctrl-C.[/dim]
""")

Show = Callable[["WorkerAnswer[Any]", float], Awaitable[None]]
"""Shows an answer that came so many seconds after the question."""


@typed
def command(
    asked: Typed,
    expect: Annotated[
        int | None,
        typer.Option(
            metavar="N", help="End with the N-th answer; fewer are a failure. Default: all.", show_default=False
        ),
    ] = None,
    timeout: Annotated[
        float | None,
        typer.Option(metavar="SECONDS", help="How long to wait for answers; default: 30.", show_default=False),
    ] = None,
    priority: Priority = None,
    queue: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="The queue that the workers share; default: the service's name.", show_default=False
        ),
    ] = None,
) -> None:
    """Ask all workers of a service."""
    from . import session

    async def ask(mq: Client) -> bool:
        from .output import Output

        with usage_of(ValueError):
            broadcast = mq.broadcast(request.service, **given)
        output = Output(one_line=True)
        with output.watched(), _lines(output) if asked.json or not sys.stdout.isatty() else _table() as show:
            return await _show_all(request, request.made(broadcast), show, expected=expect is not None)

    with session.command(json=asked.json):
        request = asked.request("broadcast")
        given = asked.options(timeout, expect=expect, priority=priority, routing_key=queue)
        if not session.run(ask, asked.url, timeout):
            raise typer.Exit(FAILED)


async def _show_all(request: Request, answers: Answers[Any], show: Show, *, expected: bool) -> bool:
    """Show the answers as they come: whether all of them are values. CallError if somebody did not answer."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    good = True
    async with answers:
        async for answer in answers:
            await show(answer, loop.time() - began)
            good = good and answer.error is None
    name = request.service
    if answers.workers == 0:
        raise Unroutable(f"no worker of {name} is there: start one, as in amqproxy serve MODULE:OBJECT --name {name}")
    if answers.missing and not expected:
        text = f"{answers.missing} of {answers.workers} workers did not answer: they hang, or have gone"
        raise CallTimeout(text, executed="maybe")
    return good


@contextmanager
def _lines(output: Output) -> Iterator[Show]:
    """One line of JSON for each answer."""

    async def show(answer: WorkerAnswer[Any], seconds: float) -> None:
        told = {"value": answer.value} if answer.error is None else {"error": described(answer.error)}
        await output.item({"worker": answer.worker, **told, "seconds": round(seconds, 4)})

    yield show


@contextmanager
def _table() -> Iterator[Show]:
    """A table that grows with each answer; none for none."""
    from rich.console import Console
    from rich.live import Live
    from rich.table import Column, Table
    from rich.text import Text

    table = Table(Column("worker", overflow="fold"), Column("answer", overflow="fold"), Column("time", justify="right"))
    with ExitStack() as stack:
        live = Live(table, console=Console(), auto_refresh=False)

        async def show(answer: WorkerAnswer[Any], seconds: float) -> None:
            if answer.error is None:
                told = Text(shown_json(encoded(answer.value).decode()))
            else:
                told = Text(shown_lines(str(answer.error)), style="red")
            if not table.row_count:
                stack.enter_context(live)
            table.add_row(Text(shown(answer.worker)), told, f"{1000 * seconds:.0f} ms")
            live.refresh()

        yield show
