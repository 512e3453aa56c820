"""Middleware around calls and handlers, and a database that is provided to handlers: `python middleware.py`.

The broker is AMQPROXY_URL's, else one at localhost; `AMQPROXY_URL=embedded:` needs none.
"""

import asyncio
import sqlite3
import time
from collections.abc import Iterator
from typing import Any

import amqproxy


async def timed(call: amqproxy.Call, next: amqproxy.Next) -> Any:
    began = time.perf_counter()
    try:
        return await next(call)
    finally:
        print(f"{call.service}.{call.method}({call.arguments}) took {time.perf_counter() - began:.4f} s")


async def authorized(call: amqproxy.Call, next: amqproxy.Next) -> Any:
    if call.headers.get("authorization") != "open sesame":
        raise amqproxy.RemoteError(f"{call.method} is not for you", code="unauthenticated")
    return await next(call)


def open_database() -> Iterator[sqlite3.Connection]:
    db = sqlite3.connect("file:accounts?mode=memory&cache=shared", uri=True)
    try:
        with db:  # commits, or rolls back if the handler fails
            yield db
    finally:
        db.close()


@amqproxy.serve("accounts", auto_delete=True, middleware=[timed, authorized])
class Accounts:
    # Callers neither see nor send `db`. Handler and provider are plain functions: they share a thread, and may block.
    def deposit(self, name: str, amount: int, db: sqlite3.Connection = amqproxy.provided) -> int:
        db.execute("insert into deposits values (?, ?)", (name, amount))
        return int(db.execute("select sum(amount) from deposits where name = ?", (name,)).fetchone()[0])


async def with_password(call: amqproxy.OutgoingCall, next: amqproxy.Next) -> Any:
    return await next(call.with_headers({"authorization": "open sesame"}))


async def main() -> None:
    kept = sqlite3.connect("file:accounts?mode=memory&cache=shared", uri=True)  # in memory, so as long as this is open
    kept.execute("create table deposits (name, amount)")
    async with (
        amqproxy.connect(middleware=[amqproxy.tracing()]) as mq,  # calls that handlers make carry traces on
        mq.serve(Accounts(), providers={sqlite3.Connection: open_database}),
    ):
        accounts = mq.proxy("accounts", middleware=[with_password])
        print(await accounts.deposit("ann", 100))
        print(await accounts.deposit("ann", 20))
        try:
            await mq.proxy("accounts").deposit("eve", 1)
        except amqproxy.RemoteError as error:
            print(f"{error.code}: {error.message}")
    kept.close()


if __name__ == "__main__":
    asyncio.run(main())
