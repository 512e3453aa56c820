"""Who is measured: one `Contender` each, in the order in which the tables show them.

A contender is two commands, one for each process. Both are started once, when the bench begins, and stay up
until it ends, as services do: connections, queues and allocators are warm, and no measurement pays for a
start. That is fair only if a peer that waits costs nothing, so the bench reads the CPU time of all waiting
peers during every measurement and reports it.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ..plan import PREFETCH
from . import c_pair


@dataclass(frozen=True, slots=True)
class Commands:
    """How to start the two processes of a contender."""

    caller: list[str]
    worker: list[str]


Prepare = Callable[[Path, str], Commands]
"""Takes a temporary directory and a queue name of its own; raises `c_pair.SkippedError` with the reason."""


@dataclass(frozen=True, slots=True)
class Contender:
    """One library in one way of use."""

    name: str
    about: str
    """How it is used: shown below the tables."""
    prepare: Prepare
    python: bool = True
    """Whether ``--profile`` and ``--uvloop`` mean anything to it."""
    on_request: bool = False
    """Runs only when ``--only`` names it."""
    embedded: bool = False
    """Runs on the embedded broker; all others on RabbitMQ."""


EMBEDDED = ", embedded"
"""What the name of a contender ends with that is another one on the embedded broker."""

AMQPROXY = "amqproxy"
AMQPROXY_EMBEDDED = f"{AMQPROXY}{EMBEDDED}"
AIO_PIKA = "aio-pika"
C_PAIR = "librabbitmq (C)"


def python(module: str, directory: Path, queue: str, options: tuple[str, ...] = ()) -> Commands:
    """The two processes of a contender that is a module of this package."""
    command = [sys.executable, "-m", f"{__name__}.{module}"]
    return Commands(caller=[*command, "caller", queue, *options], worker=[*command, "worker", queue, *options])


def _c(directory: Path, queue: str) -> Commands:
    caller, worker = c_pair.build(directory)
    return Commands(caller=[caller, queue], worker=[worker, queue, str(PREFETCH)])


CONTENDERS = (
    Contender(AMQPROXY, "typed contract as in the README", partial(python, "amqproxy_peer")),
    Contender(
        AMQPROXY_EMBEDDED,
        "the same caller and worker on the embedded broker",
        partial(python, "amqproxy_peer"),
        embedded=True,
    ),
    Contender(
        AIO_PIKA,
        "patterns.JsonRPC as documented: robust connection, publisher confirms; json",
        partial(python, "aio_pika_peer"),
    ),
    Contender(
        "aio-pika, no confirms",
        "the same with publisher_confirms=False",
        partial(python, "aio_pika_unconfirmed_peer"),
        on_request=True,
    ),
    Contender(
        "pika",
        "BlockingConnection, exclusive reply queue, window = requests published ahead; json",
        partial(python, "pika_peer"),
    ),
    Contender(
        C_PAIR,
        "a C program at each end, direct reply-to, one acknowledgement for each message",
        _c,
        python=False,
    ),
)
