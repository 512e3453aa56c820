"""Processes of amqproxy's own, as users start them: what they say, and how they end."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

TESTS = Path(__file__).parent
PATIENCE = 30.0
"""Seconds until a test gives up; whatever it waits for takes far less than one."""


@dataclass(frozen=True, slots=True)
class Ended:
    """A process that has ended."""

    code: int
    out: str
    err: str


class Running:
    """A process that runs."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.heard = ""
        """What it has said so far, as far as somebody waited for it."""

    @property
    def pid(self) -> int:
        return self._process.pid

    async def says(self, text: str, times: int = 1) -> None:
        """Wait until stdout or stderr has had a text so many times."""
        await self._listen(lambda: self.heard.count(text) >= times, f"{text!r} {times} times")

    async def falls_silent(self) -> str:
        """Wait until it and all that it has started have ended, which share its output; return that."""
        await self._listen(lambda: False, None)
        return self.heard

    async def _listen(self, enough: object, what: str | None) -> None:
        assert self._process.stdout is not None
        assert callable(enough)
        async with asyncio.timeout(PATIENCE):
            while not enough():
                line = await self._process.stdout.readline()
                if not line:
                    assert what is None, f"it ended without saying {what}:\n{self.heard}"
                    return
                self.heard += line.decode()

    def send(self, number: int) -> None:
        if self._process.returncode is None:
            self._process.send_signal(number)

    async def ends(self) -> int:
        """Wait until it has ended: its exit code."""
        async with asyncio.timeout(PATIENCE):
            await self.falls_silent()
            return await self._process.wait()

    async def has_ended(self, within: float) -> bool:
        """Whether it has ended by itself, waited for so many seconds."""
        try:
            await asyncio.wait_for(self._process.wait(), within)
        except TimeoutError:
            return False
        return True


@asynccontextmanager
async def running(*command: str, **variables: str) -> AsyncIterator[Running]:
    """Start Python with these arguments, stdout and stderr together, and kill it at the end at the latest."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *command,
        cwd=TESTS,
        env=environment(**variables),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        yield Running(process)
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def amqproxy(*arguments: str, stdin: str = "", **variables: str) -> Ended:
    """Run the command to its end."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "amqproxy",
        *arguments,
        cwd=TESTS,
        env=environment(**variables),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(PATIENCE):
            out, err = await process.communicate(stdin.encode())
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return Ended(process.returncode or 0, out.decode(), err.decode())


def environment(**variables: str) -> dict[str, str]:
    """Ours, but for the broker, and so that a checkout need not be installed."""
    ours = {name: value for name, value in os.environ.items() if name != "AMQPROXY_URL"}
    path = os.pathsep.join(filter(None, (str(TESTS.parent), ours.get("PYTHONPATH"))))
    return {**ours, "PYTHONPATH": path, "COLUMNS": "80", **variables}


@asynccontextmanager
async def silent_server() -> AsyncIterator[tuple[str, asyncio.Event]]:
    """Something that takes connections and never speaks."""
    connected = asyncio.Event()

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connected.set()
        await reader.read()
        await reader.read()
        writer.close()

    server = await asyncio.start_server(take, "127.0.0.1", 0)
    async with server:
        yield f"amqp://guest:guest@127.0.0.1:{server.sockets[0].getsockname()[1]}/", connected
