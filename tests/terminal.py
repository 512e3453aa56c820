"""A terminal of its own for a process: what it shows there, and what is typed."""

from __future__ import annotations

import asyncio
import fcntl
import os
import re
import signal
import sys
import termios
from asyncio.subprocess import Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tests.processes import PATIENCE, TESTS, environment

CTRL_C = b"\x03"
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")


class Terminal:
    """The terminal's other end."""

    def __init__(self, end: int) -> None:
        self.process: Process
        self.shown = ""
        """What it has shown so far, without colours and the like."""
        self.raw = b""
        """The same as it came, byte by byte."""
        self._end = end
        self._more = asyncio.Event()
        self._left = asyncio.Event()

    def read(self) -> None:
        try:
            data = os.read(self._end, 65536)
        except OSError:  # as Linux tells that nobody has the terminal open any more
            data = b""
        if not data:
            asyncio.get_running_loop().remove_reader(self._end)
            self._left.set()
        self.raw += data
        self.shown = ESCAPES.sub("", self.raw.decode(errors="replace"))
        self._more.set()

    async def shows(self, text: str) -> None:
        """Wait until it has shown a text."""
        try:
            async with asyncio.timeout(PATIENCE):
                while text not in self.shown:
                    self._more.clear()
                    await self._more.wait()
        except TimeoutError:
            raise AssertionError(f"it did not show {text!r}:\n{self.shown}") from None

    def types(self, keys: bytes) -> None:
        os.write(self._end, keys)

    async def ends(self) -> int:
        """Wait until the process has ended, and all that it has shown was read: its exit code."""
        async with asyncio.timeout(PATIENCE):
            await self._left.wait()
            return await self.process.wait()


@asynccontextmanager
async def terminal(*command: str, stdout: int | None = None, **variables: str) -> AsyncIterator[Terminal]:
    """Start Python with these arguments in a terminal, of which stdout may be left out; kill it at the end."""
    end, tty = os.openpty()
    shown = Terminal(end)
    loop = asyncio.get_running_loop()
    loop.add_reader(end, shown.read)
    try:
        shown.process = process = await asyncio.create_subprocess_exec(
            sys.executable,
            *command,
            cwd=TESTS,
            env=environment(TERM="xterm", **variables),
            stdin=tty,
            stdout=tty if stdout is None else stdout,
            stderr=tty,
            start_new_session=True,
            preexec_fn=_take,
        )
    finally:
        os.close(tty)
    try:
        yield shown
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()
        loop.remove_reader(end)
        os.close(end)


def _take() -> None:
    """Make it the terminal whose Ctrl-C goes to the process."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
