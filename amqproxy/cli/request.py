"""What `amqproxy call`, `send` and `broadcast` have in common: whom they address, with what, and how that is typed."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import typer

from .arguments import parse
from .failure import UsageError, usage_of
from .taking import taking

Service = Annotated[str, typer.Argument(metavar="SERVICE", help="The service, which is also its queue's name.")]
Method = Annotated[
    str | None, typer.Argument(metavar="METHOD", help="The method; left out with --message.", show_default=False)
]
Words = Annotated[
    list[str] | None,
    typer.Argument(metavar="ARGUMENT", help="VALUE…, NAME=VALUE…, or - for stdin.", show_default=False),
]
URL = Annotated[str | None, typer.Option(metavar="URL", help="The broker; default: AMQPROXY_URL, else localhost.")]
JSON = Annotated[bool, typer.Option("--json", help="For programs: one line of JSON each, failures too.")]
Message = Annotated[
    str | None,
    typer.Option(metavar="CLASS", help="Send a message of this class (the content type) in place of a method call."),
]
Exchange = Annotated[str, typer.Option(metavar="NAME", help="Publish there; default: to the service's queue.")]
RoutingKey = Annotated[
    str | None, typer.Option(metavar="KEY", help="The routing key; default: the service's name.", show_default=False)
]
Encoding = Annotated[
    str, typer.Option(metavar="ENCODING", help="How it is written: json, or compressed as in zstd-json.")
]
Header = Annotated[list[str] | None, typer.Option(metavar="NAME=VALUE", help="Send a header; may be repeated.")]
Priority = Annotated[
    int | None, typer.Option(metavar="N", help="From 0 to 255, for pools that serve with a max_priority.")
]

ARGUMENTS = """
Each argument is read as JSON, and is a text if it is none: [bold]1[/bold] is a number, [bold]Ann[/bold] a
text, and so is [bold]'"1"'[/bold]. Give all arguments by position or all as [bold]NAME=VALUE[/bold]; a single
dash reads them from stdin, as a JSON array or object.
"""


@dataclass(frozen=True, slots=True)
class Typed:
    """What the command lines of all three say."""

    service: Service
    method: Method = None
    arguments: Words = None
    url: URL = None
    json: JSON = False
    message: Message = None
    encoding: Encoding = "json"
    header: Header = None

    def request(self, command: str) -> Request:
        """What is asked for; UsageError if they do not say."""
        words = self.arguments or ()
        if self.message is not None:
            # There is no method then, so that the first of the words is an argument like the others.
            positional, named = parse([*([self.method] if self.method else ()), *words], sys.stdin)
            return Request(self.service, None, [_message(self.message, positional, named)], {})
        if self.method is None:
            service = self.service
            raise UsageError(f"which method of {service}? amqproxy {command} {service} METHOD [ARGUMENT]...")
        return Request(self.service, self.method, *parse(words, sys.stdin))

    def options(self, timeout: float | None, **own: Any) -> dict[str, Any]:
        """These and the command's own options, as proxies take them; UsageError if a time or a header is none."""
        headers = dict(_header(each) for each in self.header or ())
        given = {**own, "encoding": self.encoding, "timeout": timeout, "headers": headers}
        for name in ("timeout", "delay", "expires"):
            if (seconds := given.get(name)) is not None and not 0 < seconds < math.inf:
                raise UsageError(f"--{name} is a number of seconds above 0, not {seconds:g}")
        return {name: value for name, value in given.items() if value is not None}


typed = taking(Typed, behind="url")


@dataclass(frozen=True, slots=True)
class Request:
    """What is to be called, and with what."""

    service: str
    method: str | None
    """None if the only argument is a message, which says itself where it belongs."""
    positional: Sequence[Any]
    named: Mapping[str, Any]

    @property
    def name(self) -> str:
        """What is called, as users know it."""
        return self.service if self.method is None else f"{self.service}.{self.method}"

    def made(self, view: Any) -> Any:
        """The call, made by a proxy, a sender or a broadcast."""
        with usage_of(AttributeError):
            method = view if self.method is None else getattr(view, self.method)
        return method(*self.positional, **self.named)


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
