"""Serve until told to stop: what `amqproxy.run(…)` and the command `amqproxy serve` have in common."""

from __future__ import annotations

import asyncio
import logging
import signal
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import FrameType, TracebackType
from typing import Any

from .client import Client, connect
from .codecs.registry import codecs
from .contract import contract_of
from .handler import instance_of
from .server import Worker
from .topology import PoolTopology

log = logging.getLogger("amqproxy.runner")

HURRY_SECONDS = 1.0
"""How long giving back may take after the second signal; a fraction of that is usual."""


@dataclass(frozen=True, slots=True)
class Service:
    """One object to serve, and how."""

    target: Any
    """A class, an instance or a function."""
    name: str | None = None
    """The service's name; default: what `@amqproxy.serve` says."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Those of `ServeOptions`."""

    def check(self) -> None:
        """Raise ContractError, ValueError or TypeError for what can be known to be wrong without a broker."""
        contract = contract_of(self.target, name=self.name, serving=self.options)
        PoolTopology.of(contract.name, contract.options)
        codecs(0, contract.options.codecs)


def run(target: Any, url: str | None = None, *, name: str | None = None, wait: bool = False, **options: Any) -> None:
    """Serve a class, an instance or a function until SIGTERM or Ctrl-C, and return when it has drained.

        if __name__ == "__main__":
            amqproxy.run(Calculator(database), concurrency=20)

    The broker is `url`, else AMQPROXY_URL, else guest at localhost; with `wait` it need not be up yet. Options are
    those of `ServeOptions`. A second signal gives back at once what is still running and ends the process with 130
    (Ctrl-C) or 143 (SIGTERM), as shells count; a third one has its usual effect. Threads cannot be stopped: a plain
    `def` handler that still runs then holds up the end of the interpreter.

    Raises:
        BrokerUnavailable: No broker answered within the connect timeout, and there is no `wait`.
        AccessRefused: The broker refused the credentials, now or when the connection was made again.
        TopologyConflict: The queue exists with other arguments.
        ContractError: The target cannot be served as it is written.
        SystemExit: There was a second signal.
    """
    code = asyncio.run(serve_until_stopped([Service(target, name, options)], url, wait=wait))
    if code:
        raise SystemExit(code)


async def serve_until_stopped(
    services: Sequence[Service],
    url: str | None = None,
    *,
    wait: bool = False,
    started: Callable[[Sequence[Worker]], None] = lambda workers: None,
) -> int:
    """Serve all of `services` on one connection, until a signal comes or one of them cannot go on.

    `started` is called when the first requests can come. Returns the exit code: 0 if all has drained, 128 and
    the signal's number if a second signal put an end to it. Raises what `run` says.
    """
    for service in services:
        service.check()
    # Made once and before there is a connection: what a constructor complains about is no matter of the broker.
    services = [replace(service, target=instance_of(service.target)) for service in services]
    client = connect(url, wait=wait)
    workers: list[Worker] = []
    with Signals() as signals:
        serving = asyncio.create_task(_serve(client, services, workers, started))
        await asyncio.wait((serving, signals.first), return_when=asyncio.FIRST_COMPLETED)
        serving.cancel()  # it may still be connecting
        running = sum(len(worker.running) for worker in workers)
        if running:
            hurry = "another signal cancels" if signals.first.done() else "two signals cancel"
            text = "finishing %d running calls; %s them at once, and those that may run again go back"
            log.info(text, running, hurry)
        await asyncio.wait((serving,))
        closing = asyncio.create_task(client.close())
        await asyncio.wait((closing, signals.second), return_when=asyncio.FIRST_COMPLETED)
        if not closing.done():
            await _hurry(closing, workers)
        if closing.done():
            closing.result()
        if not serving.cancelled():
            serving.result()
        return signals.exit_code


async def _serve(
    client: Client,
    services: Sequence[Service],
    workers: list[Worker],
    started: Callable[[Sequence[Worker]], None],
) -> None:
    """Start all workers, and return, or raise, when one of them has ended."""
    await client.open()
    for service in services:
        worker = client.serve(service.target, name=service.name, **service.options)
        workers.append(worker)
        await worker.start()
    started(workers)
    endings = [asyncio.create_task(worker.wait()) for worker in workers]
    try:
        done, _ = await asyncio.wait(endings, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for ending in endings:
            ending.cancel()
    for ending in done:
        ending.result()


async def _hurry(closing: asyncio.Task[None], workers: Sequence[Worker]) -> None:
    """Give back what runs; returns soon, also when a handler does not mind being cancelled."""
    ends = asyncio.gather(*(worker.stop(grace=0) for worker in workers), return_exceptions=True)
    await asyncio.wait((closing,), timeout=HURRY_SECONDS)
    ends.cancel()


class Signals:
    """SIGINT and SIGTERM while an event loop runs: the first asks for an orderly end, the second to hurry.

    From the second on they have their usual effect again. These are Python's own handlers and not the loop's:
    a handler of the user's that blocks the loop would also keep the loop's from running, and then no number
    of Ctrl-C ended the process. Only the main thread can have them; elsewhere nothing is installed.
    """

    NUMBERS = (signal.SIGINT, signal.SIGTERM)

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._before: dict[signal.Signals, Any] = {}
        self._count = 0
        self.first: asyncio.Future[int] = self._loop.create_future()
        """Done when the first signal came, with its number."""
        self.second: asyncio.Future[int] = self._loop.create_future()
        """Done when the second signal came, with its number."""

    @property
    def exit_code(self) -> int:
        """0 after none or one, which is an orderly end; else what a shell shows for the second signal."""
        return 128 + self.second.result() if self.second.done() else 0

    def __enter__(self) -> Signals:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._receive) for number in self.NUMBERS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._restore()

    def _receive(self, number: int, frame: FrameType | None) -> None:
        self._count += 1
        if self._count > 1:
            self._restore()
        self._loop.call_soon_threadsafe(self._note, number)  # which also wakes the loop up

    def _note(self, number: int) -> None:
        for future in (self.first, self.second):
            if not future.done():
                future.set_result(number)
                return

    def _restore(self) -> None:
        before, self._before = self._before, {}
        for number, handler in before.items():
            # A handler that was not installed from Python reads as None, and cannot be put back.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
