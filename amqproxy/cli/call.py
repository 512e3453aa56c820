"""`amqproxy call`: one call from the shell."""

from __future__ import annotations

import asyncio
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, NoReturn

import typer

from .failure import UsageError, exit_code, fail, usage_of
from .help import prose
from .url import reachable

HELP = prose("""
Call a method of a service and print its result as JSON.

Each argument is read as JSON, and is a text if it is none: [bold]1[/bold] is a number, [bold]Ann[/bold] a
text, and so is [bold]'"1"'[/bold]. Give all arguments by position or all as [bold]NAME=VALUE[/bold]; a single
dash reads them from stdin, as a JSON array or object.

\bExamples:
  amqproxy call calculator add 1 2
  amqproxy call calculator add x=1 y=2 --timeout 2
  echo '{"x": 1, "y": 2}' | amqproxy call calculator add - --json
  amqproxy call documents store - --encoding zstd-json < document.json
  amqproxy call calculator --message 'com.example.Calc$AddRequest' x=1 y=2
""")
EPILOG = prose("""
[dim]Exit codes: 0 the result is on stdout, 1 the call failed, 2 usage, 3 no broker. With --json the failure
is one JSON object on stderr: type, code, message, executed ("no", "maybe", "yes"), retryable, details.[/dim]
""")

MAX_CONNECT_SECONDS = 10.0

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


@dataclass(frozen=True, slots=True)
class Request:
    """What is to be called, and how."""

    service: str
    method: str | None
    """None if the only argument is a message, which says itself where it belongs."""
    positional: Sequence[Any]
    named: Mapping[str, Any]
    options: Mapping[str, Any]
    """Those of `CallOptions`."""

    async def send(self, url: str | None) -> Any:
        """Connect, call, and return the result."""
        from ..client import connect

        reachable(url)
        with usage_of(ValueError):
            connect_timeout = min(self.options["timeout"], MAX_CONNECT_SECONDS)
            client = connect(url, connect_timeout=connect_timeout)
        async with client as mq:
            with usage_of(ValueError, AttributeError):
                proxy = mq.proxy(self.service, **self.options)
                method = proxy if self.method is None else getattr(proxy, self.method)
            return await method(*self.positional, **self.named)


def command(
    service: Annotated[str, typer.Argument(metavar="SERVICE", help="The service, which is also its queue's name.")],
    method: Annotated[
        str | None,
        typer.Argument(metavar="METHOD", help="The method; left out with --message.", show_default=False),
    ] = None,
    arguments: Annotated[
        list[str] | None,
        typer.Argument(metavar="ARGUMENT", help="VALUE…, NAME=VALUE…, or - for stdin.", show_default=False),
    ] = None,
    url: Annotated[
        str | None, typer.Option(metavar="URL", help="The broker; default: AMQPROXY_URL, else localhost.")
    ] = None,
    timeout: Annotated[float, typer.Option(metavar="SECONDS", help="How long to wait.")] = 30.0,
    json: Annotated[bool, typer.Option("--json", help="For programs: one line of JSON, failures too.")] = False,
    message: Annotated[
        str | None,
        typer.Option(
            metavar="CLASS", help="Send a message of this class (the content type) in place of a method call."
        ),
    ] = None,
    exchange: Annotated[str, typer.Option(metavar="NAME", help="Publish there; default: to the service's queue.")] = "",
    routing_key: Annotated[
        str | None, typer.Option(metavar="KEY", help="The routing key; default: the service's name.")
    ] = None,
    encoding: Annotated[
        str, typer.Option(metavar="ENCODING", help="How it is written: json, or compressed as in zstd-json.")
    ] = "json",
    header: Annotated[
        list[str] | None, typer.Option(metavar="NAME=VALUE", help="Send a header; may be repeated.")
    ] = None,
) -> None:
    """Call a method of a service."""
    from ..errors import AMQProxyError
    from . import logs

    logs.configure(verbose=False)
    logs.hide_progress()
    try:
        headers = dict(_header(each) for each in header or ())
        options = {
            "timeout": timeout,
            "encoding": encoding,
            "exchange": exchange,
            "routing_key": routing_key,
            "headers": headers,
        }
        request = _request(service, method, arguments or (), message, options)
        result = asyncio.run(request.send(url))
    except (AMQProxyError, UsageError) as error:
        if json:
            _fail_as_json(error)
        maybe = getattr(error, "executed", "no") == "maybe"
        fail(f"{error}{'; whether the handler ran is not known' if maybe else ''}", exit_code(error))
    _print(result, one_line=json or not sys.stdout.isatty())


def _request(
    service: str, method: str | None, words: Sequence[str], message: str | None, options: Mapping[str, Any]
) -> Request:
    """What the command line asks for; UsageError if it does not say."""
    from .arguments import parse

    if not 0 < options["timeout"] < math.inf:
        raise UsageError(f"--timeout is a number of seconds above 0, not {options['timeout']:g}")
    if message is not None:
        # There is no method then, so that the first of the words is an argument like the others.
        positional, named = parse([*([method] if method else ()), *words], sys.stdin)
        return Request(service, None, [_message(message, positional, named)], {}, options)
    if method is None:
        raise UsageError(f"which method of {service}? amqproxy call {service} METHOD [ARGUMENT]...")
    return Request(service, method, *parse(words, sys.stdin), options)


def _message(name: str, positional: Sequence[Any], named: Mapping[str, Any]) -> Any:
    """An object of a message class of this name."""
    from ..messages import message

    if positional and (len(positional) > 1 or not isinstance(positional[0], dict)):
        raise UsageError("the fields of a message are given by name, like x=1, or as one JSON object")
    with usage_of(ValueError):
        kind = message(name)(type("Message", (dict,), {}))
    return kind(positional[0] if positional else named)


def _header(text: str) -> tuple[str, str]:
    name, equals, content = text.partition("=")
    if not name or not equals:
        raise UsageError(f"--header {text} is not NAME=VALUE")
    return name, content


def _print(result: Any, *, one_line: bool) -> None:
    import msgspec

    text = msgspec.json.encode(result).decode()
    if one_line:
        typer.echo(text)
        return
    from rich.console import Console

    Console().print_json(text)


def _fail_as_json(error: Exception) -> NoReturn:
    import msgspec

    kind = type(error).__name__
    failure = {
        "type": getattr(error, "type", kind),
        "code": getattr(error, "code", _CODES.get(kind, _OTHER_CODE)),
        "message": getattr(error, "message", str(error)),
        "executed": getattr(error, "executed", "no"),
        "retryable": getattr(error, "retryable", False),
        "details": getattr(error, "details", None),
    }
    typer.echo(msgspec.json.encode(failure).decode(), err=True)
    raise typer.Exit(exit_code(error))
