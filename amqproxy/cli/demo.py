"""`amqproxy demo`: calls between processes, seen to survive the loss of a worker."""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .failure import FAILED, NO_BROKER, UsageError, fail, failures, usage_of
from .help import prose
from .lines import line

if TYPE_CHECKING:
    from ..url import BrokerURL
    from .demo_crew import Crew
    from .demo_load import Figures
    from .demo_screen import Screen
    from .demo_service import AddResponse

HELP = prose("""
See calls survive the loss of a worker.

Three worker processes add up a grid of numbers; then calls keep coming while one of the workers is killed
and another joins. The table at the end says what became of them. All of it runs on a queue of its own, which
is gone afterwards.

The broker is --url, else AMQPROXY_URL, else one in memory that is started for this: nothing needs to be
installed. With --rabbitmq it is a private RabbitMQ node, if there is a RabbitMQ on this machine.

\bExamples:
  amqproxy demo
  amqproxy demo --rabbitmq --seconds 20
  amqproxy demo --url amqp://user:password@broker/
  amqproxy demo --json
""")
EPILOG = prose("""
[dim]Exit codes: 0 every sum was right and no call was lost, 1 not so, 2 usage, 3 no broker, or no access.[/dim]
""")

SIDE = 6
"""The original's grid: x and y from 0 to 5."""
CALL_SECONDS = 10.0
"""When a call counts as lost."""
KILL_AT = 0.35
"""The part of the time after which a worker is killed; the other works for as long at least."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What happened."""

    broker: BrokerURL
    crew: Crew
    grid: Figures
    load: Figures

    @property
    def problems(self) -> list[str]:
        """What should not have happened, one line for each kind."""
        return [
            f"{count} x {what}: {text}"
            for figures in (self.grid, self.load)
            for what, found in (("wrong", figures.wrong), ("lost", figures.lost))
            for text, count in found.most_common(10)
        ]

    def summary(self) -> dict[str, Any]:
        """The figures, for programs."""
        load = self.load
        names = {member.name: member.state for member in self.crew.members}
        answered = {self.crew.name_of(worker): calls for worker, calls in load.by_worker.items()}
        return {
            "ok": self.grid.good and load.good,
            "broker": str(self.broker),
            "queue": self.crew.queue,
            "grid_calls": self.grid.calls,
            "seconds": round(load.seconds, 3),
            "calls": load.calls,
            "calls_per_second": round(load.rate, 1),
            "p50_ms": round(load.latencies.percentile(50) * 1000, 3),
            "p99_ms": round(load.latencies.percentile(99) * 1000, 3),
            "max_ms": round(load.latencies.highest * 1000, 3),
            "redelivered": load.redelivered,
            "lost": self.grid.lost.total() + load.lost.total(),
            "wrong": self.grid.wrong.total() + load.wrong.total(),
            "workers": {name: {"state": state, "calls": answered.get(name, 0)} for name, state in names.items()},
            "problems": self.problems,
        }


def command(
    url: Annotated[
        str | None,
        typer.Option(metavar="URL", help="The broker; default: AMQPROXY_URL, else one in memory."),
    ] = None,
    rabbitmq: Annotated[bool, typer.Option("--rabbitmq", help="On a private RabbitMQ node.")] = False,
    seconds: Annotated[float, typer.Option(metavar="SECONDS", min=0.1, help="How long to keep calling.")] = 5.0,
    in_flight: Annotated[int, typer.Option(metavar="N", min=1, max=10000, help="Calls in flight at once.")] = 64,
    json: Annotated[bool, typer.Option("--json", help="Print only the figures, as one line of JSON.")] = False,
) -> None:
    """See calls survive the loss of a worker."""
    from . import logs
    from .demo_crew import NoWorker
    from .demo_screen import Screen

    logs.configure(verbose=False)
    logs.hide_progress()
    screen = Screen(quiet=json)
    with failures(), _interruptible(), _broker(url, rabbitmq, screen) as broker:
        try:
            outcome = asyncio.run(_run(broker, seconds, in_flight, screen))
        except NoWorker as error:
            fail(str(error), error.code)
    if json:
        line(outcome.summary())
    if outcome.problems:
        fail("\n".join(("not every call came back with its sum:", *outcome.problems)), FAILED)


@contextmanager
def _interruptible() -> Iterator[None]:
    """Let SIGTERM tidy up as Ctrl-C does, and Ctrl-C also where a script started us in the background."""
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, signal.default_int_handler) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


@contextmanager
def _broker(url: str | None, rabbitmq: bool, screen: Screen) -> Iterator[str]:
    """The URL of a broker to use, which is there for as long as the block runs."""
    from .. import testing

    if rabbitmq:
        if url:
            raise UsageError("--url names a broker, and --rabbitmq starts one: give one of them")
        with ExitStack() as stack:
            try:
                with screen.waiting("starting a private RabbitMQ node"):
                    node = stack.enter_context(testing.rabbitmq())
            except RuntimeError as error:
                fail(str(error), NO_BROKER)
            yield node.url
    elif given := _given(url):
        yield given
    else:
        # In a thread: measured as fast as in a process of its own, and it ends with us, however that happens.
        with testing.broker_thread() as broker:
            screen.say("started a broker in memory")
            yield broker.url


def _given(url: str | None) -> str | None:
    """The URL that was given, here or in the environment, unless it is that of the embedded broker."""
    from ..client import URL_VARIABLE, broker_url

    given = url or os.environ.get(URL_VARIABLE)
    if not given:
        return None
    with usage_of(ValueError):
        return None if broker_url(given).embedded else given


async def _run(url: str, seconds: float, in_flight: int, screen: Screen) -> Outcome:
    """The whole demonstration, on a broker that is there."""
    from rich.markup import escape

    from ..client import connect
    from .demo_crew import FOUNDERS, PREFETCH, VICTIM, Crew
    from .demo_load import Figures, keep_calling
    from .demo_service import Calculator

    queue = f"amqproxy.demo.{secrets.token_hex(4)}"
    grid, load = Figures(), Figures()
    async with connect(url) as mq, Crew(url, queue) as crew:
        with screen.waiting("starting three worker processes"):
            await crew.hire(*FOUNDERS)
        screen.say(f"[bold]{' '.join(FOUNDERS)}[/bold] serve the queue {queue} at {escape(str(mq.url))}\n")
        add = mq.proxy(Calculator, name=queue, timeout=CALL_SECONDS).add
        screen.grid(await _grid(add, grid), crew)
        screen.say(f"\n{in_flight} calls in flight for {seconds:g} seconds; each worker takes {PREFETCH} at a time")
        async with screen.watching(load, crew):
            await keep_calling(add, in_flight, load, _events(crew, seconds, screen))
        screen.table(load, crew)
    outcome = Outcome(mq.url, crew, grid, load)
    if not outcome.problems:
        screen.say(
            "[bold green]Every sum was right, and no call was lost.[/bold green] "
            f"{load.redelivered} calls went from {VICTIM} to the others."
        )
    return outcome


async def _grid(add: Any, figures: Figures) -> list[AddResponse]:
    """The original's grid, all calls at once; without those that were lost."""
    cells = [(x, y) for x in range(SIDE) for y in range(SIDE)]
    answers = await asyncio.gather(*(figures.call(add, x, y) for x, y in cells))
    return [answer for answer in answers if answer is not None]


async def _events(crew: Crew, seconds: float, screen: Screen) -> None:
    """Kill one worker and let another join; returns when the time is over and both have happened."""
    from .demo_crew import JOINER, VICTIM

    loop = asyncio.get_running_loop()
    end = loop.time() + seconds
    await asyncio.sleep(seconds * KILL_AT)
    await crew.kill(VICTIM)
    screen.say(f"[red]✗[/red] {VICTIM} was killed with SIGKILL, its hands full of calls")
    await crew.hire(JOINER, state="joined")
    screen.say(f"[green]+[/green] {JOINER} joined")
    await asyncio.sleep(max(seconds * KILL_AT, end - loop.time()))
