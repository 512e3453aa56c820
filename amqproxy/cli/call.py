"""`amqproxy call`: one call from the shell."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .failure import usage_of
from .help import prose
from .request import ARGUMENTS, Exchange, RoutingKey, Typed, typed

if TYPE_CHECKING:
    from ..alive import Progress
    from ..client import Client

HELP = prose(f"""
Call a method of a service and print its result as JSON.

A stream is printed as it comes, one line of JSON for each item; a Blob as the bytes that it is. In a terminal, a call
that reports its progress has a bar. Ctrl-C stops the call in the worker, too.
{ARGUMENTS}
\bExamples:
  amqproxy call calculator add 1 2
  amqproxy call calculator add x=1 y=2 --timeout 2
  echo '{{"x": 1, "y": 2}}' | amqproxy call calculator add - --json
  amqproxy call calculator count 1000000 | head
  amqproxy call files fetch report.pdf > report.pdf
  amqproxy call documents store - --encoding zstd-json < document.json
  amqproxy call calculator --message 'com.example.Calc$AddRequest' x=1 y=2
""")
EPILOG = prose("""
[dim]Exit codes: 0 the result is on stdout, 1 the call failed, 2 usage, 3 no broker, or no access, 130 Ctrl-C, 141
nobody reads stdout any more. With --json the failure is one JSON object on stderr: type, code, message, executed
("no", "maybe", "yes"), retryable, details.[/dim]
""")

HEARTBEAT_SECONDS = 10.0
"""Between the signs of life of a call that may have a bar. Progress is told as it comes, whatever this is; and a worker
that is held up for a while, as async handlers should not be, need not be lost for that."""


@typed
def command(
    asked: Typed,
    timeout: Annotated[
        float | None,
        typer.Option(
            metavar="SECONDS",
            help="How long all of it may take; default: 30, and no limit for a stream, nor for a call with a bar.",
            show_default=False,
        ),
    ] = None,
    exchange: Exchange = "",
    routing_key: RoutingKey = None,
) -> None:
    """Call a method of a service."""
    from . import session

    async def call(mq: Client) -> None:
        from ..received import Stream
        from .output import Output

        with usage_of(ValueError):
            proxy = mq.proxy(request.service, **given)
        output = Output(one_line=asked.json)
        with output.watched():
            with bar(request.name):
                made = request.made(proxy)
                result = await (made.either() if hasattr(made, "either") else made)
                if isinstance(result, Stream):
                    async with result:
                        async for item in result:
                            await output.item(item)
                    return
            await output.value(result)

    with session.command(json=asked.json):
        request = asked.request("call")
        given = asked.options(timeout, exchange=exchange, routing_key=routing_key)
        if sys.stderr.isatty():
            given["heartbeat"] = HEARTBEAT_SECONDS
        session.run(call, asked.url, timeout)


@contextmanager
def bar(title: str) -> Iterator[None]:
    """A block whose calls have a progress bar on stderr, from the moment that they tell of progress."""
    from ..progress import watching

    if not sys.stderr.isatty():
        yield
        return
    with ExitStack() as stack:
        show: Any = None

        def tell(update: Progress) -> None:
            nonlocal show
            if show is None:
                from ..bars import bar

                show = stack.enter_context(bar(title))
            show(update)

        stack.enter_context(watching(tell))
        yield
