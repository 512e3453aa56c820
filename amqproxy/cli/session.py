"""One connection for one command, whichever way it ends: by itself, by Ctrl-C, or when nobody reads what it says."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING, Any, TypeVar

import typer

from .failure import call_failures, usage_of
from .url import reachable

if TYPE_CHECKING:
    from ..client import Client
    from ..signing import Signing

Result = TypeVar("Result")

MAX_CONNECT_SECONDS = 10.0
CLOSED_PIPE = 128 + 13
"""What a shell shows for a program that SIGPIPE ended, as it does most: nobody reads its output any more."""


@contextmanager
def command(*, json: bool, calls: bool = True) -> Iterator[None]:
    """All that a command does. What goes wrong is told, with `json` to programs, and ends it with an exit code.

    Whether a handler ran is told of those that make calls.
    """
    from . import logs

    logs.configure(verbose=False)
    logs.hide_progress()
    with call_failures(json=json, calls=calls), interruptible():
        yield


def run(
    work: Callable[[Client], Awaitable[Result]],
    url: str | None,
    timeout: float | None,
    signing: Signing | None = None,
) -> Result:
    """Connect and do the work: its result.

    Ctrl-C, SIGTERM and a closed pipe cancel the work, which cancels its call in the worker.
    """
    reachable(url)
    return asyncio.run(_connected(work, url, min(timeout or MAX_CONNECT_SECONDS, MAX_CONNECT_SECONDS), signing))


async def _connected(
    work: Callable[[Client], Awaitable[Result]], url: str | None, seconds: float, signing: Signing | None
) -> Result:
    from ..client import connect

    with usage_of(ValueError):
        client = connect(url, connect_timeout=seconds, signing=signing)
    async with client as mq:
        return await work(mq)


@contextmanager
def interruptible() -> Iterator[None]:
    """End the command as shells expect it of who is interrupted: with 128 and the signal's number, and no traceback."""
    number = signal.SIGINT

    def terminate(received: int, frame: FrameType | None) -> None:
        nonlocal number
        number = signal.SIGTERM
        signal.raise_signal(signal.SIGINT)  # which asyncio knows how to take

    before: Any = signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    except KeyboardInterrupt:
        raise typer.Exit(128 + number) from None
    except asyncio.CancelledError:  # by the one who saw that the pipe was closed
        raise typer.Exit(CLOSED_PIPE) from None
    finally:
        signal.signal(signal.SIGTERM, before)
