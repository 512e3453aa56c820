"""Several worker processes for one service: started, restarted when they die, and stopped together.

Each process is an `amqproxy serve` of its own, with its own connection: they share nothing but the queue. A
socket is the standard input of each; the other end is held by the supervisor. The worker says on it that it
serves, and the end of the file tells it that the supervisor is gone, however that happened: it then drains
and ends as well.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import signal
import socket
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from typing import IO, Any

from .runner import Signals

log = logging.getLogger("amqproxy.supervisor")

SUPERVISED = "--supervised"
"""The option that tells `amqproxy serve` what its standard input is."""
_READY = b"\n"


class Restarts:
    """When to start a worker in place of one that died: a machine without a clock.

    A first worker that does not come up is not tried again: its error is for whoever typed the command. Later
    the back-off doubles from death to death until a worker has lived for a while. As long as any worker
    serves there is no giving up.
    """

    FIRST_SECONDS = 0.25
    MAX_SECONDS = 15.0
    STEADY_SECONDS = 10.0
    """A worker that lived so long did not die of what killed the one before."""
    MAX_FAILED_STARTS = 5

    def __init__(self) -> None:
        self._deaths = 0
        self._failed_starts = 0
        self._served = False

    def ready(self) -> None:
        """A worker serves."""
        self._failed_starts = 0
        self._served = True

    def died(self, *, ready: bool, lived: float, others_serve: bool) -> float | None:
        """Seconds to wait before the next start, jitter not included; None to give up."""
        if not ready:
            self._failed_starts += 1
            limit = self.MAX_FAILED_STARTS if self._served else 1
            if self._failed_starts >= limit and not others_serve:
                return None
        self._deaths = 1 if lived >= self.STEADY_SECONDS else self._deaths + 1
        # The exponent is bounded, not only the result: 2.0 ** 1024 is an OverflowError.
        return float(min(self.FIRST_SECONDS * 2.0 ** min(self._deaths - 1, 16), self.MAX_SECONDS))


class Child:
    """One worker process, which ends when this process does."""

    def __init__(self, process: asyncio.subprocess.Process, ours: socket.socket) -> None:
        self._process = process
        self._socket = ours
        self._started = time.monotonic()
        self.serves = False
        """Whether it has said that requests can come, and has not ended since."""

    @classmethod
    async def start(
        cls, arguments: Sequence[str], environment: Mapping[str, str] = {}, *, stderr: IO[Any] | None = None
    ) -> Child:
        """Start `amqproxy serve` with these arguments and, besides our own, these variables."""
        ours, theirs = socket.socketpair()
        try:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "amqproxy",
                "serve",
                SUPERVISED,
                *arguments,
                stdin=theirs.fileno(),
                stderr=stderr,
                env={**os.environ, **environment},
                # Ctrl-C in a terminal goes to all processes of a group: the workers shall hear of it from us
                # alone, or each of them would count two signals.
                start_new_session=True,
            )
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        ours.setblocking(False)
        return cls(process, ours)

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def lived(self) -> float:
        """Seconds since it was started."""
        return time.monotonic() - self._started

    async def ready(self) -> bool:
        """Wait until it serves: True; or until it has ended without ever doing so: False."""
        try:
            self.serves = bool(await asyncio.get_running_loop().sock_recv(self._socket, 1))
        except OSError:
            self.serves = False
        return self.serves

    async def wait(self) -> int:
        """Wait until it has ended: its exit code, or less than 0 if a signal killed it."""
        code = await self._process.wait()
        self.serves = False
        self._socket.close()
        return code

    def send(self, number: int) -> None:
        """Send a signal; nothing happens if it has ended already."""
        if self._process.returncode is None:
            self._process.send_signal(number)


class Supervisor:
    """Keeps `processes` workers running until SIGTERM or Ctrl-C, and then until all have drained."""

    def __init__(self, processes: int, arguments: Sequence[str], environment: Mapping[str, str] = {}) -> None:
        self._processes = processes
        self._arguments = arguments
        self._environment = environment
        self._children: set[Child] = set()
        self._restarts = Restarts()
        self._first_ready = asyncio.Event()
        self._stopping = asyncio.Event()
        self._failure = 0

    async def run(self) -> int:
        """Return the exit code: 0 if all workers have drained, else a worker's, or a second signal's."""
        with Signals() as signals:
            log.info("keeping %d worker processes running", self._processes)
            keeping = asyncio.create_task(self._keep_all())
            await asyncio.wait((keeping, signals.first), return_when=asyncio.FIRST_COMPLETED)
            self._stop()
            await asyncio.wait((keeping, signals.second), return_when=asyncio.FIRST_COMPLETED)
            if not keeping.done():
                self._send_all(signal.SIGINT)  # not SIGTERM again: of two that are alike one may be lost
            await keeping
            return signals.exit_code or self._failure

    async def _keep_all(self) -> None:
        """One task for each worker; the first comes up before the others, so that its error comes once."""
        async with asyncio.TaskGroup() as group:
            first = group.create_task(self._keep())
            ready = group.create_task(self._first_ready.wait())
            await asyncio.wait((first, ready), return_when=asyncio.FIRST_COMPLETED)
            ready.cancel()
            if not self._stopping.is_set():
                for _ in range(self._processes - 1):
                    group.create_task(self._keep())

    async def _keep(self) -> None:
        while not self._stopping.is_set():
            child = await Child.start(self._arguments, self._environment)
            self._children.add(child)
            if self._stopping.is_set():
                child.send(signal.SIGTERM)  # the one that went to all came too early for it
            ready = await child.ready()
            if ready:
                self._restarts.ready()
                self._first_ready.set()
            code = await child.wait()
            self._children.discard(child)
            await self._died(child, code, ready)

    async def _died(self, child: Child, code: int, ready: bool) -> None:
        """Wait as long as is wise before another one is started."""
        if self._stopping.is_set():
            # One that was not yet ready for a signal was killed by ours: nothing was lost.
            if code not in (0, -signal.SIGTERM):
                self._failure = self._failure or _exit_code(code)
            return
        others_serve = any(other.serves for other in self._children)
        pause = self._restarts.died(ready=ready, lived=child.lived, others_serve=others_serve)
        how = _description(code)
        if pause is None:
            log.error("worker process %d %s before it could serve; giving up", child.pid, how)
            self._failure = _exit_code(code) or 1
            self._stop()
            return
        pause *= random.uniform(0.5, 1)  # noqa: S311  (jitter is no secret)
        log.warning("worker process %d %s; starting another in %.1f s", child.pid, how, pause)
        try:
            await asyncio.wait_for(self._stopping.wait(), pause)
        except TimeoutError:
            return

    def _stop(self) -> None:
        if not self._stopping.is_set():
            self._stopping.set()
            self._send_all(signal.SIGTERM)  # not SIGINT: a worker that still imports would show a traceback

    def _send_all(self, number: int) -> None:
        for child in self._children:
            child.send(number)


def _exit_code(code: int) -> int:
    """What a shell shows for a process that ended so."""
    return code if code >= 0 else 128 - code


def _description(code: int) -> str:
    """How a process ended, in words."""
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        return f"was killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"was killed by signal {-code}"


class Parent:
    """The supervisor as a worker process sees it: a socket in place of the standard input."""

    def __init__(self) -> None:
        self._socket = socket.socket(fileno=os.dup(0))
        # What the served object starts must neither hold the socket nor read from it.
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        os.close(nothing)
        # A thread, and a plain signal: that works whatever the event loop is doing, or whether there is one
        # yet.
        threading.Thread(target=self._wait_for_its_end, name="amqproxy supervisor watch", daemon=True).start()

    def tell_ready(self) -> None:
        """Say that requests can come; of no interest any more if the supervisor is gone."""
        try:
            self._socket.send(_READY)
        except OSError:
            return

    def _wait_for_its_end(self) -> None:
        try:
            while self._socket.recv(1):
                pass
        except OSError:
            pass  # reset: it is gone just the same
        log.warning("the supervisor is gone, stopping")
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGTERM)
