"""Programs in other languages, started as their users start them."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tests.interop.peer import ROOT

PATIENCE = 60.0
"""Seconds that a program may take; on an idle machine the slowest takes two."""


async def outcome(*command: str) -> list[str]:
    """The lines that a program prints, which ends by itself and well."""
    process = await _start(*command)
    try:
        async with asyncio.timeout(PATIENCE):
            out, err = await process.communicate()
    finally:
        await _end(process)
    assert process.returncode == 0, f"it ended with code {process.returncode}:\n{out.decode()}\n{err.decode()}"
    return out.decode().splitlines()


@asynccontextmanager
async def serving(*command: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """A worker that has said `ready`; at the end it is told to end, and does so well."""
    process = await _start(*command)
    try:
        assert process.stdout is not None
        async with asyncio.timeout(PATIENCE):
            said = await process.stdout.readline()
        if said.strip() != b"ready":
            async with asyncio.timeout(PATIENCE):
                out, err = await process.communicate()
            raise AssertionError(f"it is not ready:\n{(said + out).decode()}\n{err.decode()}")
        yield process
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
            async with asyncio.timeout(PATIENCE):
                _, err = await process.communicate()
            assert process.returncode in (0, -signal.SIGTERM, 128 + signal.SIGTERM), err.decode()
    finally:
        await _end(process)


async def _start(*command: str) -> asyncio.subprocess.Process:
    pipe = asyncio.subprocess.PIPE
    return await asyncio.create_subprocess_exec(
        *command, cwd=ROOT, stdin=asyncio.subprocess.DEVNULL, stdout=pipe, stderr=pipe, start_new_session=True
    )


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.kill()
    await process.communicate()
