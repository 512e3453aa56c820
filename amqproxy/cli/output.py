"""Results on stdout: in a terminal for eyes, elsewhere one line of JSON each, or the bytes of a Blob.

Who reads slowly holds up what is written, and with it the stream, but not the event loop: heartbeats and Ctrl-C go on.
Who stops reading ends the command, at once, and not only when there is more to write.
"""

from __future__ import annotations

import asyncio
import os
import select
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import msgspec

from .failure import UsageError


class Output:
    """Stdout of a command whose event loop runs."""

    def __init__(self, *, one_line: bool) -> None:
        """With `one_line`, values are not spread over lines in a terminal either."""
        self._one_line = one_line
        self._terminal = sys.stdout.isatty()
        self._pipe = _pipe()

    async def value(self, value: Any) -> None:
        """The one result of a call."""
        if self._terminal and not self._one_line and not isinstance(value, bytes):
            from rich.console import Console

            Console().print_json(_json(value).decode())
        else:
            await self.item(value)

    async def item(self, item: Any) -> None:
        """A line of JSON, or bytes as they are; they are out when this returns."""
        data = item if isinstance(item, bytes) else _json(item) + b"\n"
        if self._terminal and data is item:
            raise UsageError("the result is bytes, and no text for a terminal: give them to a file, with > FILE")
        if self._pipe is not None:
            await self._write(self._pipe, data)
        elif self._terminal:  # where a progress bar may have to make room
            sys.stdout.write(data.decode())
            sys.stdout.flush()
        else:
            sys.stdout.buffer.write(data)
            sys.stdout.buffer.flush()

    async def _write(self, pipe: int, data: bytes) -> None:
        """Write to a pipe as much as it takes, again and again; nobody shall wait for it in a system call."""
        view = memoryview(data)
        try:
            while view:
                if not select.select((), (pipe,), (), 0)[1]:
                    await _writable(pipe)
                view = view[os.write(pipe, view[: select.PIPE_BUF]) :]
        except BrokenPipeError:
            raise asyncio.CancelledError from None

    @contextmanager
    def watched(self) -> Iterator[None]:
        """A block that is cancelled when nobody reads the pipe any more."""
        task = asyncio.current_task()
        if self._pipe is None or task is None:
            yield
            return
        loop = asyncio.get_running_loop()
        loop.add_reader(self._pipe, _cancel, loop, self._pipe, task)  # there is nothing to read, but an end
        try:
            yield
        finally:
            loop.remove_reader(self._pipe)


def _cancel(loop: asyncio.AbstractEventLoop, pipe: int, task: asyncio.Task[Any]) -> None:
    loop.remove_reader(pipe)
    task.cancel()


async def _writable(pipe: int) -> None:
    loop = asyncio.get_running_loop()
    ready = loop.create_future()

    def settle() -> None:
        if not ready.done():
            ready.set_result(None)

    loop.add_writer(pipe, settle)
    try:
        await ready
    finally:
        loop.remove_writer(pipe)


def _pipe() -> int | None:
    """Stdout, if that is a pipe."""
    with suppress(OSError, ValueError):  # it may be closed, or be no file at all
        number = sys.stdout.fileno()
        if stat.S_ISFIFO(os.fstat(number).st_mode):
            return number
    return None


def _json(value: Any) -> bytes:
    return msgspec.json.encode(value)
