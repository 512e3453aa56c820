"""Programs in other languages, started as their users start them."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from tests.interop.peer import ROOT

PATIENCE = 60.0
"""Seconds that a program may take; on an idle machine the slowest takes two."""


async def outcome(*command: str) -> list[str]:
    """The lines that a program prints, which ends by itself and well."""
    code, out, err = await ended(*command)
    assert code == 0, f"it ended with code {code}:\n{out}\n{err}"
    return out.splitlines()


async def ended(*command: str) -> tuple[int | None, str, str]:
    """The exit code of a program that ends by itself, and what it said on stdout and stderr."""
    async with started(*command) as process, asyncio.timeout(PATIENCE):
        out, err = await process.communicate()
    return process.returncode, out.decode(), err.decode()


@asynccontextmanager
async def serving(*command: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """A worker that has said `ready`; at the end it is told to end, and does so well."""
    async with started(*command) as process:
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


@asynccontextmanager
async def started(*command: str, stderr: int = asyncio.subprocess.PIPE) -> AsyncIterator[asyncio.subprocess.Process]:
    """A program, which is over after the block, and whatever it started with it."""
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=ROOT,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=stderr,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        await process.communicate()
