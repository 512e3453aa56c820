"""Failures that nobody waits for."""

from __future__ import annotations

import asyncio
from typing import Any


def retrieve(future: asyncio.Future[Any]) -> None:
    """Look at the exception of a task or a future that is done, which asyncio else reports as forgotten."""
    if not future.cancelled():
        future.exception()
