"""A service with middleware and providers of its own, for worker processes."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import AsyncIterator, Iterator
from typing import Any

import amqproxy


async def authorized(call: amqproxy.Call, next: amqproxy.Next) -> Any:
    """Let nobody in who has no token; say who went through."""
    if call.headers.get("authorization") != "secret":
        raise amqproxy.RemoteError(f"{call.method} is not for you", code="unauthenticated")
    result = await next(call)
    say(f"{call.method} {dict(call.arguments)}")
    return result


async def doubled(call: amqproxy.Call, next: amqproxy.Next) -> Any:
    result = await next(call)
    return 2 * result if isinstance(result, int) else result


class Ledger:
    """What the handlers need."""

    def __init__(self) -> None:
        self.rows = {1: 100, 2: 200}


async def ledger(call: amqproxy.Call) -> AsyncIterator[Ledger]:
    say("ledger opened")
    try:
        yield Ledger()
    except KeyError as error:
        raise amqproxy.RemoteError(f"no account {error} for {call.method}", code="not_found") from error
    finally:
        say("ledger closed")


def database() -> Iterator[sqlite3.Connection]:
    """A connection, which may be used in one thread only."""
    connection = sqlite3.connect(":memory:")
    with connection:
        yield connection
    connection.close()


@amqproxy.serve(
    "tests.surrounded",
    auto_delete=True,
    middleware=[authorized, doubled],
    providers={Ledger: ledger, sqlite3.Connection: database},
)
class Accounts:
    async def balance(self, ledger: Ledger, account: int) -> int:
        return ledger.rows[account]

    def pages(self, connection: sqlite3.Connection, size: int = 3) -> int:
        connection.execute("create table numbers (number)")
        connection.executemany("insert into numbers values (?)", [(n,) for n in range(size)])
        return int(connection.execute("select count(*) from numbers").fetchone()[0])

    async def rows(self, ledger: Ledger) -> AsyncIterator[int]:
        for row in ledger.rows.values():
            yield row

    async def pid(self, call: amqproxy.Call) -> str:
        return f"{os.getpid()} {call.method}"


def say(word: str) -> None:
    print(word, flush=True)
