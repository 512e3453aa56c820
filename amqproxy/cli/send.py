"""`amqproxy send`: one message from the shell, which nobody answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from .failure import usage_of
from .help import prose
from .request import ARGUMENTS, Exchange, Priority, RoutingKey, Typed, typed

if TYPE_CHECKING:
    from ..client import Client

HELP = prose(f"""
Send a message to a service, and return when the broker has it.

A worker takes it when it can, now or after a restart of the broker; what it returns or raises is dropped, or logged
there. With --everyone each worker that runs now gets it, and it is well if none does.
{ARGUMENTS}
\bExamples:
  amqproxy send mailer welcome ann@example.com
  amqproxy send mailer remind name=Ann --delay 3600
  amqproxy send prices update - --expires 60 < prices.json
  amqproxy send cache forget users --everyone
""")
EPILOG = prose("""
[dim]Exit codes: 0 the broker has the message, 1 it refused the message or no queue takes it, 2 usage, 3 no broker,
or no access, 130 Ctrl-C. With --json the failure is one JSON object on stderr, as of call.[/dim]
""")


@typed
def command(
    asked: Typed,
    everyone: Annotated[bool, typer.Option("--everyone", help="To each worker that runs now.")] = False,
    delay: Annotated[
        float | None, typer.Option(metavar="SECONDS", help="Keep it back for so long.", show_default=False)
    ] = None,
    expires: Annotated[
        float | None,
        typer.Option(metavar="SECONDS", help="Drop it if no worker has taken it by then.", show_default=False),
    ] = None,
    priority: Priority = None,
    timeout: Annotated[
        float | None,
        typer.Option(metavar="SECONDS", help="How long the broker may take; default: 30.", show_default=False),
    ] = None,
    exchange: Exchange = "",
    routing_key: RoutingKey = None,
) -> None:
    """Send a message to a service."""
    from . import session

    async def send(mq: Client) -> None:
        with usage_of(ValueError):
            sender = mq.sender(request.service, everyone=everyone, **given)
        await request.made(sender)

    with session.command(json=asked.json):
        request = asked.request("send")
        given = asked.options(
            timeout, delay=delay, expires=expires, priority=priority, exchange=exchange, routing_key=routing_key
        )
        session.run(send, asked.url, timeout)
