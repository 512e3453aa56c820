"""`amqproxy serve`: a worker, or several, from the shell."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from .failure import UsageError, failures
from .help import prose
from .taking import taking
from .url import reachable

if TYPE_CHECKING:
    from ..runner import Service
    from ..server import Worker
    from ..url import BrokerURL

HELP = prose("""
Serve classes, instances or functions until Ctrl-C or SIGTERM.

The first signal lets the calls that have begun finish (--grace), the second gives them back to the queue at
once. Start the same command as often as you like, on as many hosts as you like: all of them share the work.

\bExamples:
  amqproxy serve calculator:Calculator
  amqproxy serve shop.orders:Orders shop.stock:Stock --concurrency 20
  amqproxy serve calculator:Calculator --processes 4
""")
EPILOG = prose("""
[dim]MODULE is imported from the current directory or Python's path; OBJECT may have dots. Exit codes: 0 all
drained, 1 it could not go on, 2 usage, 3 no broker, or no access, 130 and 143 a second Ctrl-C or SIGTERM.[/dim]
""")


@dataclass(frozen=True, slots=True)
class Asked:
    """What is to be served, where, and how: what each worker process is told."""

    targets: Annotated[
        list[str],
        typer.Argument(metavar="MODULE:OBJECT", help="What to serve, like calculator:Calculator.", show_default=False),
    ]
    url: Annotated[
        str | None, typer.Option(metavar="URL", help="The broker; default: AMQPROXY_URL, else localhost.")
    ] = None
    concurrency: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, max=65535, help="Calls that a process runs at once; default: 100."),
    ] = None
    grace: Annotated[
        float | None,
        typer.Option(metavar="SECONDS", min=0, help="How long calls may run on after a signal; default: 30."),
    ] = None
    name: Annotated[
        str | None, typer.Option(metavar="NAME", help="The service's name; default: what the object says.")
    ] = None
    queue: Annotated[
        str | None, typer.Option(metavar="NAME", help="The queue to share; default: the service's name.")
    ] = None
    wait: Annotated[bool, typer.Option("--wait", help="Wait for a broker that is not up yet.")] = False
    quorum: Annotated[
        bool, typer.Option("--quorum", help="A quorum queue, with a delivery limit and dead letters (amqproxy dead).")
    ] = False
    shed_after: Annotated[
        float | None,
        typer.Option(metavar="SECONDS", help="Refuse calls that would wait longer in the queue.", show_default=False),
    ] = None
    debug: Annotated[
        bool,
        typer.Option("--debug", help="Send tracebacks to callers: they hold paths and values."),
    ] = False
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Log more, and show whole tracebacks.")] = False

    @property
    def options(self) -> dict[str, Any]:
        """What was given for `serve()`; its own defaults hold for the rest."""
        given = {
            **{"concurrency": self.concurrency, "grace": self.grace, "queue": self.queue},
            **{"quorum": self.quorum or None, "shed_after": self.shed_after, "debug": self.debug or None},
        }
        return {option: value for option, value in given.items() if value is not None}

    def check(self) -> None:
        """UsageError for one name of several services."""
        if len(self.targets) > 1 and (self.name or self.queue):
            raise UsageError(f"{'--name' if self.name else '--queue'} is for one object; two services cannot share it")

    def arguments(self) -> list[str]:
        """The command line of a worker process."""
        arguments = [] if self.name is None else [f"--name={self.name}"]
        for option, value in self.options.items():
            flag = f"--{option.replace('_', '-')}"
            arguments.append(flag if value is True else f"{flag}={value}")
        flags = {"--wait": self.wait, "--verbose": self.verbose}
        return [*arguments, *(flag for flag, set_ in flags.items() if set_), "--", *self.targets]


@taking(Asked, behind="concurrency")
def command(
    asked: Asked,
    processes: Annotated[
        int, typer.Option(metavar="N", min=1, help="Worker processes; those that die are replaced.")
    ] = 1,
    supervised: Annotated[bool, typer.Option("--supervised", hidden=True)] = False,
) -> None:
    """Serve classes, instances or functions until Ctrl-C or SIGTERM."""
    from . import logs

    logs.configure(verbose=asked.verbose)
    with failures():
        asked.check()
        raise typer.Exit(_supervise(processes, asked) if processes > 1 else _serve(asked, supervised=supervised))


def _supervise(processes: int, asked: Asked) -> int:
    from ..client import URL_VARIABLE
    from ..supervisor import Supervisor

    reachable(asked.url)

    async def run() -> int:
        # In the environment, and not among the arguments, where everybody on the machine could read the
        # password.
        environment = {URL_VARIABLE: asked.url} if asked.url else {}
        return await Supervisor(processes, asked.arguments(), environment).run()

    return asyncio.run(run())


def _serve(asked: Asked, *, supervised: bool) -> int:
    from ..runner import Service

    tell_ready = _nobody if not supervised else _parent()
    services = [Service(_load(target, asked.verbose), asked.name, asked.options) for target in asked.targets]
    reachable(asked.url)
    for target, service in zip(asked.targets, services, strict=True):
        try:
            service.check()
        except (ValueError, TypeError) as error:  # ContractError is one
            raise UsageError(f"{target}: {error}") from error
    return asyncio.run(_until_stopped(services, asked, tell_ready))


def _load(target: str, verbose: bool) -> Any:
    from .target import load

    return load(target, verbose=verbose)


def _nobody() -> None:
    """Nobody waits to hear that we are ready."""


def _parent() -> Callable[[], None]:
    from ..supervisor import Parent

    return Parent().tell_ready


async def _until_stopped(services: Sequence[Service], asked: Asked, tell_ready: Callable[[], None]) -> int:
    """Serve, and return the exit code, unless something was left behind that cannot be waited for."""
    from ..client import broker_url
    from ..runner import serve_until_stopped
    from . import logs

    on_screen = sys.stderr.isatty() and tell_ready is _nobody

    def started(workers: Sequence[Worker]) -> None:
        tell_ready()
        if on_screen:
            _show(workers, broker_url(asked.url))
        logs.show_progress(verbose=asked.verbose)

    if on_screen and not asked.verbose:
        logs.hide_progress()  # the panel tells it better
    code = await serve_until_stopped(services, asked.url, wait=asked.wait, started=started)
    if _left_behind():
        _end_now(code)
    return code


def _left_behind() -> bool:
    """Whether threads or tasks of handlers still run, though their time is over."""
    import threading

    ours = {threading.main_thread(), threading.current_thread()}
    threads = [thread for thread in threading.enumerate() if not thread.daemon and thread not in ours]
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    return bool(threads or tasks)


def _end_now(code: int) -> NoReturn:
    """End the process without waiting for anybody.

    The end of the interpreter joins all threads, and the end of the event loop awaits all tasks: a plain
    handler that does not return, or one that ignores its cancellation, would keep the process for as long as
    it likes. Their calls are back in the queue, so nothing is lost with them. Only the command line may do
    so: in a program of the user's the process is not ours.
    """
    import logging

    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(code)


def _show(workers: Sequence[Worker], url: BrokerURL) -> None:
    """What is served, where, and by whom."""
    from rich.console import Console
    from rich.markup import escape
    from rich.panel import Panel
    from rich.table import Table

    table = Table.grid(padding=(0, 2))
    for worker in workers:
        table.add_row(
            "[bold green]service",
            f"[bold]{escape(worker.contract.name)}[/bold]: {', '.join(worker.contract.methods)}",
        )
        table.add_row("[dim]queue", escape(_queue(worker)))
        table.add_row("[dim]worker", f"{escape(worker.name)}, {worker.options.concurrency} calls at once")
    table.add_row("[dim]broker", escape(str(url)))
    Console(stderr=True).print(
        Panel(table, title="amqproxy", subtitle="Ctrl-C drains and stops", border_style="green", expand=False)
    )


def _queue(worker: Worker) -> str:
    topology = worker.topology
    bound = "".join(f", bound to {b.exchange.name} as {b.routing_key}" for b in topology.bindings)
    return f"{topology.queue.name}{bound}"
