"""The command `amqproxy`.

Whatever a command needs beyond its own options is imported when it runs: `--help` and shell completion are to
be quick.
"""

from __future__ import annotations

from typing import Annotated

import typer

from . import broadcast, broker, call, dead, demo, generate, send, serve
from .help import prose

HELP = prose("""
Call an object that lives in another process, over RabbitMQ, as if it were local.

\bA first minute, with a calculator.py that has a class Calculator in it:
  amqproxy broker                          [dim]without RabbitMQ: a broker in memory, for a start[/dim]
  amqproxy serve calculator:Calculator     [dim]start it as often as you like[/dim]
  amqproxy call calculator add 1 2         [dim]from anywhere else[/dim]
  amqproxy broadcast calculator add 1 2    [dim]ask all of them[/dim]
  amqproxy dead list calculator            [dim]what could not be served, and why[/dim]
  amqproxy demo                            [dim]see a worker die and no call lost[/dim]

The broker is --url, else the environment's AMQPROXY_URL, else amqp://guest:guest@localhost/.
""")
EPILOG = "[dim]Exit codes: 0 done, 1 the call failed, 2 usage, 3 no broker, or no access.[/dim]"

app = typer.Typer(
    name="amqproxy",
    help=HELP,
    epilog=EPILOG,
    no_args_is_help=True,
    rich_markup_mode="rich",
    # An exception that gets so far is a bug of ours: the plain traceback says most about it.
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["--help", "-h"]},
)
app.command("serve", help=serve.HELP, epilog=serve.EPILOG, no_args_is_help=True)(serve.command)
for name, module in {"call": call, "send": send, "broadcast": broadcast}.items():
    app.command(
        name,
        help=module.HELP,
        epilog=module.EPILOG,
        no_args_is_help=True,
        context_settings={"ignore_unknown_options": True},  # -2 is a number, see arguments.py
    )(module.command)
app.command("broker", help=broker.HELP, epilog=broker.EPILOG)(broker.command)
app.add_typer(dead.app, name="dead", help=dead.HELP, epilog=dead.EPILOG)
app.command("generate", help=generate.HELP, epilog=generate.EPILOG, no_args_is_help=True)(generate.command)
app.command("demo", help=demo.HELP, epilog=demo.EPILOG)(demo.command)


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import PackageNotFoundError, version

        try:
            typer.echo(f"amqproxy {version('amqproxy')}")
        except PackageNotFoundError:
            typer.echo("amqproxy, run from its source without being installed")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit."),
    ] = False,
) -> None:
    """Take the options that stand before the command."""


def main() -> None:
    """Run the command line; ends the process."""
    try:
        app(prog_name="amqproxy")
    except SystemExit as end:  # as typer and rich end who prints help that nobody reads: with 1
        if not isinstance(end.__context__, BrokenPipeError):
            raise
        from .session import CLOSED_PIPE

        raise SystemExit(CLOSED_PIPE) from None
