"""Exceptions that cannot be rebuilt for callers, and results that cannot be written: errors with a name, at once."""

from __future__ import annotations

from typing import Any

import pytest

import amqproxy
from tests.faults.table import Row


class Own(Exception):
    """Known to the worker alone, and not to be made from a text."""

    def __init__(self, one: int, two: int) -> None:
        super().__init__(one, two)


class Silent(Exception):
    def __str__(self) -> str:
        raise ValueError("no text")


class Failing:
    async def raise_own(self) -> None:
        raise Own(1, 2)

    async def raise_silent(self) -> None:
        raise Silent

    async def end_the_program(self) -> None:
        raise SystemExit(3)

    async def give_an_object(self) -> Any:
        return object()


@pytest.mark.fault("F66", "exceptions of types that no caller has, SystemExit, and a result that JSON cannot write")
async def test_what_cannot_be_rebuilt_or_written_is_a_remote_error(mq: amqproxy.Client, service: str, row: Row) -> None:
    async with mq.serve(Failing(), name=service, auto_delete=True):
        proxy = mq.proxy(service, timeout=5)
        for call, said in (
            (proxy.raise_own, "Own"),
            (proxy.raise_silent, "Silent"),
            (proxy.end_the_program, "SystemExit"),
            (proxy.give_an_object, "object"),
        ):
            with row.sees(amqproxy.RemoteError, executed="yes", within=1.0, match=said):
                await call()
