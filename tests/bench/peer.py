"""One process of a contender, or the embedded broker, seen from the bench: start it, give it orders, stop it.

`control` is the other end of the pipe.
"""

import json
import os
import select
import subprocess
import time
from dataclasses import asdict
from pathlib import Path
from typing import IO

from .plan import Run

ROOT = Path(__file__).parents[2]
"""The top of the source tree: peers are started there, so that they import the same code as the bench."""

START_TIMEOUT = 30.0
"""Seconds until a peer must have connected."""

STATE_TIMEOUT = 60.0
"""Seconds that a broker has to count what it holds, behind all that it does meanwhile."""

STOP_TIMEOUT = 5.0
"""Seconds that a peer has to end by itself."""


class PeerFailedError(Exception):
    """A process of a contender died, stalled, or says that a call failed."""


class Peer:
    """A running caller or worker."""

    def __init__(self, name: str, command: list[str], url: str) -> None:
        """Start the process. `name` is for messages; standard error goes where the bench's goes."""
        self.name = name
        self._process = subprocess.Popen(
            command,
            cwd=ROOT,
            env={**os.environ, "AMQPROXY_URL": url},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
            start_new_session=True,  # Ctrl-C is for the bench, which then stops its peers in order
        )
        self._received = b""

    @property
    def pid(self) -> int:
        """The process id, for `usage`."""
        return self._process.pid

    def wait_ready(self) -> str:
        """Return the version that the peer reports once it is connected."""
        return str(self._answer("ready", START_TIMEOUT, None))

    def run(self, run: Run, timeout: float, worker: "Peer") -> float:
        """Let this caller make calls; return the seconds it took.

        Raises PeerFailedError when a call failed, after `timeout` seconds, or at once when the worker ends.
        """
        self._order(asdict(run))
        return float(str(self._answer("seconds", timeout, worker)))

    def state(self) -> dict[str, int]:
        """Return what this embedded broker says that it holds. Raises PeerFailedError."""
        self._order({})
        state = self._answer("state", STATE_TIMEOUT, None)
        assert isinstance(state, dict)
        return state

    def stop(self) -> None:
        """End the process: politely by the end of its input, then by force."""
        self._stdin().close()
        if not self._ended_within(STOP_TIMEOUT):
            self._process.terminate()
        if not self._ended_within(STOP_TIMEOUT):
            self._process.kill()
            self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()

    def _order(self, words: dict[str, object]) -> None:
        try:
            self._stdin().write(json.dumps(words, separators=(",", ":")).encode() + b"\n")
        except BrokenPipeError:
            raise PeerFailedError(f"{self.name} has ended") from None

    def _answer(self, key: str, timeout: float, worker: "Peer | None") -> object:
        words = json.loads(self._line(timeout, worker))
        if key not in words:
            raise PeerFailedError(f"{self.name}: {words.get('error', words)}")
        return words[key]

    def _line(self, timeout: float, worker: "Peer | None") -> bytes:
        deadline = time.monotonic() + timeout
        watched = [self] if worker is None else [self, worker]
        while b"\n" not in self._received:
            readable, _, _ = select.select(watched, [], [], max(0.0, deadline - time.monotonic()))
            if not readable:
                raise PeerFailedError(f"{self.name} did not answer within {timeout:.0f} s")
            for peer in readable:
                peer._receive()
            if worker is not None and worker._received:  # a worker says nothing unless it fails
                raise PeerFailedError(f"{worker.name}: {worker._received.decode(errors='replace').strip()}")
        line, _, self._received = self._received.partition(b"\n")
        return line

    def _receive(self) -> None:
        data = os.read(self.fileno(), 65536)
        if not data:
            status = self._process.wait()
            raise PeerFailedError(f"{self.name} ended with status {status}")
        self._received += data

    def _ended_within(self, seconds: float) -> bool:
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def fileno(self) -> int:
        """Return the descriptor of the peer's output, which lets `select` take a Peer."""
        assert self._process.stdout is not None
        return self._process.stdout.fileno()

    def _stdin(self) -> IO[bytes]:
        assert self._process.stdin is not None
        return self._process.stdin
