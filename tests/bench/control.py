"""A contender's end of the pipe to the bench: JSON lines, one order and one answer at a time.

The bench starts each peer with pipes for standard input and output, and the broker's URL in ``AMQPROXY_URL``:

    peer -> bench    {"ready":"VERSION"}                      connected; a worker is consuming
    bench -> caller  {"size":0,"window":64,"count":1000}      in this order, no blanks: C uses sscanf
    caller -> bench  {"seconds":0.0671}                       all answers are in and all were right
    bench -> broker  {}                                       the embedded one, which is a peer too
    broker -> bench  {"state":{"objects":31415,...}}          what it holds now
    peer -> bench    {"error":"WrongAnswer: 3 + 2 is not 6"}  and the process ends

The end of standard input is the order to stop, so that no peer outlives the bench.
"""

import argparse
import asyncio
import cProfile
import json
import os
import pstats
import sys
import threading
import traceback
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from importlib import import_module, metadata
from typing import Any

from .plan import Run

BlockingRole = Callable[[str], None]
AsyncRole = Callable[[str], Coroutine[Any, Any, None]]

PROFILE_LINES = 30


class WrongAnswerError(Exception):
    """A contender answered, and the answer was wrong: its figures mean nothing."""


def url() -> str:
    """Return the broker's URL. It comes by the environment, since command lines are there for all to read."""
    return os.environ["AMQPROXY_URL"]


def version_of(package: str) -> str:
    """Return the installed version, or ``checkout`` for a package that is imported from a source tree."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "checkout"


def encoding() -> str:
    """Return the content encoding that this peer is to use, where it has a choice."""
    return str(_arguments().encoding)


def ready(version: str) -> None:
    """Tell the bench that this peer is connected."""
    _say({"ready": version})


def answer(seconds: float) -> None:
    """Tell the bench how long the run took."""
    _say({"seconds": seconds})


def runs() -> Iterator[Run]:
    """Yield the bench's orders to a caller that blocks."""
    for line in sys.stdin:
        yield _order(line)


async def async_runs() -> AsyncIterator[Run]:
    """Yield the bench's orders to a caller whose event loop goes on meanwhile."""
    async for line in await _stdin():
        yield _order(line)


async def questions() -> AsyncIterator[None]:
    """Yield whenever the bench asks a broker what it holds; `tell` answers."""
    async for _ in await _stdin():
        yield


def tell(state: dict[str, int]) -> None:
    """Tell the bench what this broker holds."""
    _say({"state": state})


async def closed() -> None:
    """Return when the bench wants this peer to end."""
    await (await _stdin()).read()


def when_closed(stop: Callable[[], object]) -> None:
    """Call `stop`, from a thread, when the bench wants this peer to end."""

    def wait() -> None:
        sys.stdin.read()
        stop()

    threading.Thread(target=wait, daemon=True).start()


def blocking_main(caller: BlockingRole, worker: BlockingRole) -> None:
    """Run a peer that has no event loop, as its command line says."""
    args = _arguments()
    role = caller if args.role == "caller" else worker
    _run(lambda: role(args.queue), profile=args.profile)


def async_main(caller: AsyncRole, worker: AsyncRole) -> None:
    """Run an asyncio peer, as its command line says."""
    args = _arguments()
    role = caller if args.role == "caller" else worker
    run: Callable[[Coroutine[Any, Any, None]], object] = asyncio.run
    if args.uvloop:
        run = import_module("uvloop").run
    _run(lambda: run(role(args.queue)), profile=args.profile)


def _run(role: Callable[[], object], *, profile: bool) -> None:
    profiler = cProfile.Profile()
    try:
        if profile:
            profiler.runcall(role)
        else:
            role()
    except BaseException as error:
        traceback.print_exc()
        _say({"error": _describe(error)})
        raise SystemExit(1) from None
    finally:
        if profile:
            print(f"\nprofile of: {' '.join(sys.argv[1:])}", file=sys.stderr)
            pstats.Stats(profiler, stream=sys.stderr).sort_stats("tottime").print_stats(PROFILE_LINES)


def _describe(error: BaseException) -> str:
    while isinstance(error, BaseExceptionGroup):  # a task group wraps what one call of the window raised
        error = error.exceptions[0]
    return f"{type(error).__name__}: {error}"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("role", choices=["caller", "worker"])
    parser.add_argument("queue")
    parser.add_argument("--profile", action="store_true")
    parser.add_argument("--uvloop", action="store_true")
    parser.add_argument("--encoding", default="json")
    return parser.parse_args()


async def _stdin() -> asyncio.StreamReader:
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    return reader


def _order(line: str | bytes) -> Run:
    return Run(**json.loads(line))


def _say(words: dict[str, object]) -> None:
    try:
        print(json.dumps(words, separators=(",", ":")), flush=True)
    except BrokenPipeError:
        os._exit(1)  # the bench has died: nobody is left to hear a word
