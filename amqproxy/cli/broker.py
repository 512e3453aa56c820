"""`amqproxy broker`: the embedded broker as a process of its own."""

from __future__ import annotations

import asyncio
import errno
import os
import re
import socket
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated

import typer

from .failure import FAILED, UsageError, fail, failures, usage_of
from .help import prose
from .lines import line

if TYPE_CHECKING:
    import ssl

    from ..broker import Broker, Server

HELP = prose("""
Start a broker in memory, for tests and first steps.

It speaks AMQP 0-9-1 as RabbitMQ does, with clients in any language. All it holds is in memory, and gone when it
ends: production belongs on RabbitMQ. Without --user or --definitions there is the user guest, with the password
guest, and it listens to this machine only.

\bExamples:
  amqproxy broker
  amqproxy broker --port 0 --json                  [dim]a free port, told in one line of JSON[/dim]
  amqproxy broker --definitions definitions.json   [dim]as rabbitmqctl export_definitions writes them[/dim]
  amqproxy broker --host 0.0.0.0 --user ann:secret --tls-cert cert.pem --tls-key key.pem
""")
EPILOG = prose("""
[dim]On a machine that others use too, a file of definitions hides passwords better than a command line. Exit
codes: 0 ended by Ctrl-C or SIGTERM, 1 it could not listen, 2 usage, 130 and 143 a second Ctrl-C or SIGTERM.[/dim]
""")

AMQP_PORT, AMQPS_PORT = 5672, 5671
HIGHEST_PORT = 65535
SPARE_FILES = 100

_SIZE = re.compile(r"(\d+) ?([kKMGT]?)(i?)(B?)")
_POWERS = {"": 0, "k": 1, "K": 1, "M": 2, "G": 3, "T": 4}


def command(
    port: Annotated[
        int | None,
        typer.Option(metavar="PORT", min=0, max=HIGHEST_PORT, help="0 for a free one; default: 5672, with TLS 5671."),
    ] = None,
    host: Annotated[str, typer.Option(metavar="ADDRESS", help="Where to listen.")] = "127.0.0.1",
    user: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME:PASSWORD", help="A user, in place of guest; may be repeated.", show_default=False),
    ] = None,
    vhost: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="A virtual host, besides /; may be repeated.", show_default=False),
    ] = None,
    tls_cert: Annotated[
        str | None, typer.Option(metavar="FILE", help="Speak TLS with this certificate chain (PEM).")
    ] = None,
    tls_key: Annotated[str | None, typer.Option(metavar="FILE", help="Its key, unless it is in the same file.")] = None,
    definitions: Annotated[
        str | None, typer.Option(metavar="FILE", help="Begin with what RabbitMQ's definitions hold (JSON).")
    ] = None,
    memory: Annotated[
        str | None,
        typer.Option(metavar="SIZE", help="Above it, who publishes has to wait; like 512MiB, default: 1GiB."),
    ] = None,
    json: Annotated[
        bool,
        typer.Option("--json", help="For programs: one line with url, port, users and pid when it is ready."),
    ] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Log a line for each connection.")] = False,
    supervised: Annotated[bool, typer.Option("--supervised", hidden=True)] = False,
) -> None:
    """Start a broker in memory, for tests and first steps."""
    from . import logs

    logs.configure(verbose=verbose)
    if not verbose:
        logs.hide_progress()
    if supervised:
        from ..supervisor import Parent

        Parent()
    with failures():
        context = _tls(tls_cert, tls_key)
        broker = _broker(user or (), vhost or (), definitions, memory)
        server = _server(broker, host, port, context)
        _allow_files(broker.limits.max_connections)
        raise typer.Exit(asyncio.run(_serve(server, lambda: _tell(server, as_json=json))))


def _broker(users: Sequence[str], vhosts: Sequence[str], definitions: str | None, memory: str | None) -> Broker:
    from ..embedded import new_broker, read_definitions

    limits = {} if memory is None else {"memory_bytes": _bytes(memory)}
    try:
        loaded = read_definitions(definitions)
    except OSError as error:
        raise UsageError(f"cannot read the definitions {definitions}: {error.strerror}") from error
    except ValueError as error:
        raise UsageError(str(error)) from error
    try:
        return new_broker(users=_credentials(users), vhosts=vhosts, definitions=loaded, **limits)
    except ValueError as error:
        raise UsageError(f"{definitions}: {error}" if definitions else str(error)) from error


def _credentials(users: Sequence[str]) -> dict[str, str]:
    found = {}
    for text in users:
        name, _, password = text.partition(":")
        if not name or not password:
            raise UsageError(f"--user {name or text} is not NAME:PASSWORD, like ann:secret")
        if name in found:
            raise UsageError(f"--user {name} is given twice")
        found[name] = password
    return found


def _bytes(text: str) -> int:
    """The bytes in a size, with the units of RabbitMQ's configuration: k, M, G and T are powers of 1024, as KiB is."""
    match = _SIZE.fullmatch(text)
    if match is None or (match[3] and not match[2]):
        raise UsageError(f"--memory {text} is no size, like 512MiB or 2GB")
    decimal = bool(match[4]) and not match[3]
    size: int = int(match[1]) * (1000 if decimal else 1024) ** _POWERS[match[2]]
    if not size:
        raise UsageError(f"--memory {text} leaves no room for any message")
    return size


def _tls(certificate: str | None, key: str | None) -> ssl.SSLContext | None:
    if certificate is None:
        if key is not None:
            raise UsageError("--tls-key is the key of a certificate: give that too, with --tls-cert")
        return None
    import ssl

    def no_password() -> str:
        raise UsageError(f"the key in {key or certificate} is encrypted: give one that is not (openssl pkey decrypts)")

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    for file in filter(None, (certificate, key)):
        try:
            with open(file, "rb"):
                pass
        except OSError as error:
            raise UsageError(f"cannot read {file}: {error.strerror}") from error
    try:
        context.load_cert_chain(certificate, key, no_password)
    except ssl.SSLError as error:
        if key is None:
            raise UsageError(
                f"{certificate} does not hold a certificate and its key, both in PEM: give a key of its own file with "
                "--tls-key"
            ) from error
        reason = error.reason.replace("_", " ").lower() if error.reason else "no PEM in it"
        raise UsageError(
            f"{certificate} and its key cannot be used ({reason}): both are in PEM, and the key is the certificate's"
        ) from error
    return context


def _server(broker: Broker, host: str, port: int | None, context: ssl.SSLContext | None) -> Server:
    from ..broker import Server
    from ..url import is_loopback

    if not host:
        raise UsageError("--host is empty: give an address of this machine, like 127.0.0.1, or leave it out")
    if not is_loopback(host):
        if "guest" in broker.users or any(user.knows("guest") for user in broker.users.values()):
            raise UsageError(
                f"--host {host} lets other machines in, and guest is not for those: name users of your own, with "
                "passwords of their own, by --user NAME:PASSWORD or --definitions, or leave --host out"
            )
        clear = "" if context else ", and passwords travel in the clear: consider --tls-cert"
        typer.echo(f"{typer.style('warning:', fg='yellow', bold=True)} {host} lets other machines in{clear}", err=True)
    if port is None:
        port = AMQPS_PORT if context else AMQP_PORT
    with usage_of(ValueError):
        return Server(broker, host=host, port=port, tls=context)


def _allow_files(connections: int) -> None:
    """Ask the system for a file per connection, and some more: most allow 1024 until they are asked."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = connections + SPARE_FILES
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    if wanted > soft != resource.RLIM_INFINITY:
        with suppress(ValueError, OSError):  # a system with a limit of its own; there it stays as it is
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


async def _serve(server: Server, ready: Callable[[], None]) -> int:
    """Serve until a signal comes; the exit code."""
    from ..runner import Signals

    with Signals() as signals:
        try:
            await server.start()
        except OSError as error:
            _cannot_listen(server, error)
        ready()
        await signals.first
        closing = asyncio.create_task(server.close())
        await asyncio.wait((closing, signals.second), return_when=asyncio.FIRST_COMPLETED)
        return signals.exit_code


def _cannot_listen(server: Server, error: OSError) -> None:
    """Say why, and what to do."""
    match error.errno:
        case errno.EADDRINUSE:
            fail(
                f"the port {server.port} of {server.host} is taken, perhaps by RabbitMQ: end what listens there, or "
                "choose another with --port (0 for a free one)",
                FAILED,
            )
        case errno.EACCES:
            fail(f"the port {server.port} is reserved for root: choose one above 1023 with --port", FAILED)
        case errno.EADDRNOTAVAIL | None:  # asyncio has no number for it from Python 3.13 on
            raise UsageError(f"--host {server.host} is no address of this machine") from error
    if isinstance(error, socket.gaierror):
        raise UsageError(f"--host {server.host} is not known: {error.strerror}") from error
    fail(f"cannot listen at {server.host}:{server.port}: {error.strerror}", FAILED)


def _tell(server: Server, *, as_json: bool) -> None:
    from ..embedded import url_of

    users = list(server.broker.users)
    if as_json:
        told = {"url": url_of(server), "host": server.host, "port": server.port, "users": users, "pid": os.getpid()}
        line(told)
        return
    named = "" if users == ["guest"] else f", for {', '.join(users)}"
    typer.echo(f"listening at {typer.style(url_of(server), fg='green', bold=True)}{named} until Ctrl-C")
    typer.echo("All it holds is in memory only, and gone when it ends. Production belongs on RabbitMQ.")
