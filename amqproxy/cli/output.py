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
from io import UnsupportedOperation
from typing import Any

from ..shown import shown_json
from .failure import UsageError
from .lines import encoded, pretty


class Output:
    """Stdout of a command whose event loop runs."""

    def __init__(self, *, one_line: bool) -> None:
        """With `one_line`, values are not spread over lines in a terminal either. UsageError if there is no stdout."""
        if sys.stdout is None:
            raise UsageError("stdout is closed: there is nowhere to write the result to")
        self._one_line = one_line
        self._terminal = sys.stdout.isatty()
        self._file = None if self._terminal else _file()
        self._pipe = self._file is not None and stat.S_ISFIFO(os.fstat(self._file).st_mode)

    async def value(self, value: Any) -> None:
        """The one result of a call."""
        if self._terminal and not self._one_line and not isinstance(value, bytes):
            from rich.console import Console

            Console().print(pretty(value), soft_wrap=True)
        else:
            await self.item(value)

    async def item(self, item: Any) -> None:
        """A line of JSON, or bytes as they are; they are out when this returns."""
        data = item if isinstance(item, bytes) else encoded(item) + b"\n"
        if self._file is not None:
            await self._write(self._file, data)
        elif data is item:
            raise UsageError("the result is bytes, and no text for a terminal: give them to a file, with > FILE")
        else:  # by way of Python's own, which a progress bar replaces for a while
            text = data.decode()
            sys.stdout.write(shown_json(text) if self._terminal else text)
            sys.stdout.flush()

    async def _write(self, file: int, data: bytes) -> None:
        """Write, to a pipe as much as it takes, again and again: nobody shall wait for it in a system call."""
        view = memoryview(data)
        most = select.PIPE_BUF if self._pipe else len(view)
        try:
            while view:
                if self._pipe and not select.select((), (file,), (), 0)[1]:
                    await _writable(file)
                view = view[os.write(file, view[:most]) :]
        except BrokenPipeError:
            raise asyncio.CancelledError from None
        except OSError as error:
            raise UsageError(f"cannot write to stdout: {error.strerror}") from error

    @contextmanager
    def watched(self) -> Iterator[None]:
        """A block that is cancelled when nobody reads the pipe any more."""
        task = asyncio.current_task()
        if self._file is None or not self._pipe or task is None:
            yield
            return
        loop = asyncio.get_running_loop()
        loop.add_reader(self._file, _cancel, loop, self._file, task)  # there is nothing to read, but an end
        try:
            yield
        finally:
            loop.remove_reader(self._file)


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


def _file() -> int | None:
    """The number of stdout; None for what only looks like a file."""
    with suppress(UnsupportedOperation):
        return sys.stdout.fileno()
    return None
