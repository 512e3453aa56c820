"""`amqproxy dead`: look after requests that could not be served."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from ..shown import shown, shown_lines
from .failure import FAILED, UsageError
from .help import prose
from .lines import line
from .request import JSON, URL

if TYPE_CHECKING:
    from ..client import Client
    from ..deadletter import DeadLetter
    from ..deadqueue import DeadQueue, Wanted
    from ..signing import Signing

HELP = prose("""
Look after requests that could not be served: the queue SERVICE.dead.

Workers that serve with quorum=True or dead_letters=True let them go there: requests that nobody can read, one-way
requests that failed, and those that came back too often since their workers died of them. Nothing here loses one: what
is looked at stays, and what goes back to the service leaves only when the broker has confirmed it.

\bA morning after:
  amqproxy dead list mailer                      [dim]what died, when and why[/dim]
  amqproxy dead show mailer 3                    [dim]all of the third, and what was in it[/dim]
  amqproxy dead requeue mailer 3                 [dim]let the workers try it again, the mistake being mended[/dim]
  amqproxy dead requeue mailer --reason failed   [dim]the same for all whose handlers raised[/dim]
  amqproxy dead purge mailer --reason expired    [dim]drop those whose callers wait no more[/dim]
""")
EPILOG = "[dim]Exit codes: 0 done, 1 failed, or no such letter or queue, 2 usage, 3 no broker, or no access.[/dim]"
REASONS = """
A letter is told by its place in the list, as in [bold]3[/bold], or by its message id. The reasons are
[bold]failed[/bold] (the handler raised), [bold]refused[/bold] (no handler could run it), [bold]in_doubt[/bold] (a
worker was lost or stopped that had it: look whether it ran before you give it back), [bold]rejected[/bold] (the worker
could not read it, or it was not signed), [bold]delivery_limit[/bold] (it came back too often), [bold]expired[/bold],
[bold]maxlen[/bold] (the queue was full) and [bold]unknown[/bold] (neither a worker nor the broker put it there: look
who did, and what it is, before you give it back).
"""
LIST_HELP = prose(f"""
List dead letters: the oldest first, and each stays where it is.

In a terminal that is a table; elsewhere, or with --json, one line of JSON for each: place, id, reason, text, queue,
worker, died, message, call, bytes.
{REASONS}
\bExamples:
  amqproxy dead list mailer
  amqproxy dead list mailer --reason failed --limit 20
  amqproxy dead list mailer --json | jq -r .text | sort | uniq -c
""")
SHOW_HELP = prose(f"""
Show one dead letter whole: why it died, its properties and headers, and its body.
{REASONS}
\bExamples:
  amqproxy dead show mailer 3
  amqproxy dead show mailer 3 --json | jq .headers
  amqproxy dead show mailer 3 --body > request.json     [dim]its body and nothing else[/dim]
""")
REQUEUE_HELP = prose(f"""
Give dead letters back to their service, which tries them again.

Three kinds are left out unless you name them or say --reason: calls whose time is over (expired), since nobody waits
for their answers, what may have run already (in_doubt), since it would run twice, and what neither a worker nor the
broker put there (unknown), since it may be anybody's copy of what ran long ago. What is refused on the way, because
the queue is full, say, stays a dead letter; what cannot go back is counted as stayed.

They keep their message ids; workers that serve with deduplicate= remember what became of an id, and run it again only
under another one: --new-id.

Workers that connect with signing= take back only what is signed anew: --signing names the keys. What was sent to the
service by nobody with one of these keys stays a dead letter; so do all that are signed, where no keys are named.
{REASONS}
\bExamples:
  amqproxy dead requeue mailer 3 5
  amqproxy dead requeue mailer --reason failed --limit 10
  amqproxy dead requeue mailer --to mailer.test
  amqproxy dead requeue mailer 3 --signing myapp.keys:signing
""")
PURGE_HELP = prose(f"""
Drop dead letters for good.

Whoever sits at a terminal is asked; elsewhere it takes --yes.
{REASONS}
\bExamples:
  amqproxy dead purge mailer
  amqproxy dead purge mailer --reason expired --yes
  amqproxy dead purge mailer 3
""")

KNOWN_REASONS = ("failed", "refused", "in_doubt", "rejected", "delivery_limit", "expired", "maxlen", "unknown")
LISTED = 100


def _reasons(incomplete: str) -> list[str]:
    """What the shell completes --reason to."""
    return [reason for reason in KNOWN_REASONS if reason.startswith(incomplete)]


Service = Annotated[str, typer.Argument(metavar="SERVICE", help="The service, or its queue if that has another name.")]
Letter = Annotated[str, typer.Argument(metavar="LETTER", help="Its place in the list, or its message id.")]
Letters = Annotated[
    list[str] | None,
    typer.Argument(metavar="LETTER", help="Places in the list, or message ids; default: all.", show_default=False),
]
Reason = Annotated[
    str | None,
    typer.Option(metavar="REASON", help="Only those that died of this.", autocompletion=_reasons, show_default=False),
]

app = typer.Typer(no_args_is_help=True, rich_markup_mode="rich", pretty_exceptions_enable=False)

Result = TypeVar("Result")


def _visit(
    service: str,
    url: str | None,
    json: bool,
    work: Callable[[DeadQueue], Awaitable[Result]],
    check: Any = None,
    signing: str | None = None,
) -> Result:
    """Do some work on the dead letters of a service; what goes wrong is told, and ends the command."""
    from . import session

    async def visit(mq: Client) -> Result:
        from ..deadqueue import DeadQueue

        return await work(DeadQueue(mq.caller.connection, service))

    with session.command(json=json, calls=False):
        if check is not None:
            check()
        return session.run(visit, url, None, None if signing is None else _signing(signing))


def _signing(text: str) -> Signing:
    """The keys that MODULE:OBJECT means."""
    from ..signing import Signing
    from .target import load

    found = load(text)
    if not isinstance(found, Signing):
        raise UsageError(f"{text} is no amqproxy.Signing, but a {type(found).__name__}")
    return found


def _checked(reason: str | None) -> Callable[[], None]:
    def check() -> None:
        if reason is not None and reason not in KNOWN_REASONS:
            raise UsageError(f"there is no reason {reason!r}; there are {', '.join(KNOWN_REASONS)}")

    return check


def _wanted(letters: list[str] | None, reason: str | None, *, careful: bool = False) -> Wanted:
    """Which letters are meant; if none is named, a careful reader wants those that do no harm."""
    from ..deadqueue import everything, harmless

    if letters:
        return Named(letters, reason)
    if reason is None:
        return harmless if careful else everything
    return lambda letter: letter.reason == reason


class Named:
    """Wants the letters that were named, if they died of a reason, and tells which of them there are not."""

    def __init__(self, letters: list[str], reason: str | None) -> None:
        self._reason = reason
        self._missing = dict.fromkeys(letters)
        self._others: dict[str, str] = {}
        self._letters = frozenset(letters)

    def __call__(self, letter: DeadLetter) -> bool:
        """Whether it is one of them."""
        named = self._letters & {str(letter.place), letter.id}
        for each in named:
            self._missing.pop(each, None)
            if self._reason not in (None, letter.reason):
                self._others[each] = letter.reason
        return bool(named) and self._reason in (None, letter.reason)

    def missing(self, name: str) -> str:
        """What is to be said of those that were not found in the queue `name`; empty if all were."""
        parts = [
            f"letter {each} in {name} died of {reason}, and not of {self._reason}"
            for each, reason in self._others.items()
        ]
        if self._missing:
            parts.append(
                f"there is no letter {' or '.join(self._missing)} in {name}, or another command reads them now"
            )
        return "; ".join(parts)


@app.command("list", help=LIST_HELP, epilog=EPILOG, no_args_is_help=True)
def list_letters(
    service: Service,
    reason: Reason = None,
    limit: Annotated[int, typer.Option(metavar="N", min=1, max=65535, help="So many at most.")] = LISTED,
    url: URL = None,
    json: JSON = False,
) -> None:
    """List dead letters."""

    async def look(dead: DeadQueue) -> tuple[list[DeadLetter], int, str]:
        found = await dead.look(limit, _wanted(None, reason), bodies=False)
        return found, await dead.count(), dead.name

    found, count, name = _visit(service, url, json, look, _checked(reason))
    if json or not sys.stdout.isatty():
        for letter in found:
            line(_summary(letter))
        return
    _show_table(found, count, name, reason)


@app.command("show", help=SHOW_HELP, epilog=EPILOG, no_args_is_help=True)
def show(
    service: Service,
    letter: Letter = "1",
    body: Annotated[bool, typer.Option("--body", help="Write its body to stdout, and nothing else.")] = False,
    url: URL = None,
    json: JSON = False,
) -> None:
    """Show one dead letter."""

    async def look(dead: DeadQueue) -> DeadLetter:
        from ..errors import Unroutable

        if found := await dead.look(1, _wanted([letter], None)):
            return found[0]
        text = f"there is no letter {letter!r} in {dead.name}, or another command reads them now"
        raise Unroutable(f"{text}; `amqproxy dead list {service}` lists them")

    found = _visit(service, url, json, look)
    if body and sys.stdout.isatty():
        typer.echo(shown_lines((found.body or b"").decode(errors="backslashreplace")))
    elif body:
        sys.stdout.flush()
        sys.stdout.buffer.write(found.body or b"")
        sys.stdout.buffer.flush()
    elif json or not sys.stdout.isatty():
        line(_whole(found))
    else:
        from rich.console import Console

        from .lines import pretty

        Console().print(pretty(_whole(found)), soft_wrap=True)


@app.command("requeue", help=REQUEUE_HELP, epilog=EPILOG, no_args_is_help=True)
def requeue(
    service: Service,
    letters: Letters = None,
    reason: Reason = None,
    limit: Annotated[int | None, typer.Option(metavar="N", min=1, help="So many at most.", show_default=False)] = None,
    to: Annotated[
        str | None, typer.Option(metavar="QUEUE", help="Another queue than the service's.", show_default=False)
    ] = None,
    new_id: Annotated[
        bool, typer.Option("--new-id", help="With new message ids, for workers that deduplicate.")
    ] = False,
    signing: Annotated[
        str | None,
        typer.Option(metavar="MODULE:OBJECT", help="Sign them: an amqproxy.Signing, to import.", show_default=False),
    ] = None,
    url: URL = None,
    json: JSON = False,
) -> None:
    """Give dead letters back to their service."""

    async def give_back(dead: DeadQueue) -> tuple[int, int, str]:
        wanted = _wanted(letters, reason, careful=True)
        moved, stayed = await dead.requeue(to or service, limit, wanted, new_ids=new_id)
        return moved, stayed, "" if moved == limit else _missing(wanted, moved + stayed, dead.name)

    moved, stayed, missing = _visit(service, url, json, give_back, _checked(reason), signing)
    if json or not sys.stdout.isatty():
        line({"requeued": moved, "stayed": stayed})
    else:
        typer.echo(f"{_counted(moved)} went back to {to or service}")
    if stayed:
        other = "signed (--signing)" if signing is None else "not signed for this service with one of these keys"
        large = "too large for the max_body_bytes of this command or for a frame"
        typer.echo(f"{_counted(stayed)} stayed: {large}, or {other}", err=True)
    if missing:
        typer.echo(shown(missing), err=True)
    if stayed or missing:
        raise typer.Exit(FAILED)


@app.command("purge", help=PURGE_HELP, epilog=EPILOG, no_args_is_help=True)
def purge(
    service: Service,
    letters: Letters = None,
    reason: Reason = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    url: URL = None,
    json: JSON = False,
) -> None:
    """Drop dead letters."""

    def check() -> None:
        _checked(reason)()
        if not yes and not (sys.stdin.isatty() and sys.stdout.isatty()):
            raise UsageError("dead letters are dropped for good; where nobody can be asked, say --yes")

    async def drop(dead: DeadQueue) -> tuple[int, str]:
        wanted = _wanted(letters, reason)
        dropped = await dead.purge(wanted)
        return dropped, _missing(wanted, dropped, dead.name)

    def confirmed() -> None:
        check()
        if not yes:
            what = f"these dead letters of {service}" if letters or reason else f"all dead letters of {service}"
            typer.confirm(f"Drop {what} for good?", abort=True)

    dropped, missing = _visit(service, url, json, drop, confirmed)
    if json or not sys.stdout.isatty():
        line({"purged": dropped})
    else:
        typer.echo(f"{_counted(dropped)} dropped")
    if missing:
        typer.echo(shown(missing), err=True)
        raise typer.Exit(FAILED)


def _missing(wanted: Wanted, count: int, name: str) -> str:
    """What is to be said of letters that were named and not found; Unroutable if that is all of them."""
    from ..errors import Unroutable

    text = wanted.missing(name) if isinstance(wanted, Named) else ""
    if text and not count:
        raise Unroutable(text)
    return text


def _counted(count: int) -> str:
    return "1 dead letter" if count == 1 else f"{count} dead letters"


def _summary(letter: DeadLetter) -> dict[str, Any]:
    return {
        "place": letter.place,
        "id": letter.id,
        "reason": letter.reason,
        "text": letter.text,
        "queue": letter.queue,
        "worker": letter.worker,
        "died": letter.died,
        "message": letter.content_type,
        "call": letter.is_call,
        "bytes": letter.size,
    }


def _whole(letter: DeadLetter) -> dict[str, Any]:
    """All of it: properties as texts, the body as JSON, as text, or as base64."""
    from dataclasses import fields

    properties = {
        field.name: value.decode(errors="backslashreplace") if isinstance(value, bytes) else value
        for field in fields(letter.properties)
        if field.name != "headers" and (value := getattr(letter.properties, field.name)) is not None
    }
    return {
        **_summary(letter),
        "properties": properties,
        "headers": dict(letter.properties.headers or {}),
        **_body(letter.body),
    }


def _body(body: bytes | None) -> dict[str, Any]:
    import base64

    import msgspec

    if body is None:
        return {"body": None}
    try:
        return {"body": msgspec.json.decode(body)}
    except (msgspec.DecodeError, RecursionError, ValueError):
        pass
    try:
        return {"body": body.decode()}
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(body).decode()}


def _show_table(found: list[DeadLetter], count: int, name: str, reason: str | None) -> None:
    from datetime import UTC, datetime

    from rich.console import Console
    from rich.table import Column, Table
    from rich.text import Text

    console = Console()
    if not found:
        console.print(f"{name} is empty" if not count else f"none of {count} in {name} died of {reason}")
        return
    table = Table(
        Column("#", justify="right"),
        "message",
        Column("died", justify="right"),
        "reason",
        Column("why", overflow="fold"),
    )
    now = datetime.now(UTC)
    for letter in found:
        died = "" if letter.died is None else _ago((now - letter.died).total_seconds())
        row = (str(letter.place), letter.content_type or "-", died, letter.reason, letter.text)
        table.add_row(*(Text(shown(each)) for each in row))
    console.print(table)
    if len(found) < count:
        console.print(f"[dim]{len(found)} of {count} in {name}[/dim]")


def _ago(seconds: float) -> str:
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit} ago"
    return f"{max(0.0, seconds):.0f} s ago"
