"""Failures that nobody waits for, and calls that nobody made."""

from __future__ import annotations

import asyncio
import warnings
from typing import Any


def retrieve(future: asyncio.Future[Any]) -> None:
    """Look at the exception of a task or a future that is done, which asyncio else reports as forgotten."""
    if not future.cancelled():
        future.exception()


def never_made(name: str, stream: object) -> None:
    """Warn of a stream that goes without having been iterated over, as Python does of coroutines; called by it."""
    text = f"the call of {name} was not made: its stream was never awaited or iterated"
    warnings.warn(text, RuntimeWarning, source=stream, stacklevel=3)
