"""Connections that are used where they do not belong: in a forked process, in another event loop, after their end."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Coroutine
from typing import Any

import pytest

import amqproxy
from tests.contract.test_deadlines import Gate, gate
from tests.faults.table import Row
from tests.processes import running

FORKING = """
import asyncio, os, sys, amqproxy

class Gate:
    async def ping(self) -> str:
        return "pong"

async def inherited(proxy):
    for _ in range(2):
        try:
            await proxy.ping()
        except amqproxy.Closed as error:
            print("child:", error, flush=True)

async def connected_anew(name):
    async with amqproxy.connect() as mq:
        print("child:", await mq.proxy(Gate, name=name).ping(), flush=True)

async def main(name):
    async with amqproxy.connect() as mq, mq.serve(Gate(), name=name, auto_delete=True):
        proxy = mq.proxy(Gate, name=name)
        await proxy.ping()
        pid = os.fork()
        if not pid:
            asyncio.run(inherited(proxy))
            print("child:", mq.state, flush=True)
            asyncio.run(connected_anew(name))
            os._exit(0)
        await asyncio.to_thread(os.waitpid, pid, 0)
        for _ in range(100):
            await proxy.ping()
        print("parent:", mq.state.name, flush=True)

asyncio.run(main(sys.argv[1]))
"""


@pytest.mark.fault("F65", "process forked: the child uses its parent's connection")
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
async def test_a_process_that_is_forked(amqp_url: str, service: str, row: Row) -> None:
    with row.sees("Closed in the child, nothing in the parent", within=20.0):
        # Open event loops and sockets at the end of the child are what this is about.
        async with running("-W", "ignore", "-c", FORKING, service, AMQPROXY_URL=amqp_url) as process:
            said = await process.falls_silent()
    told = "the connection belongs to the process from which this one was forked: connect in this one, too"
    assert said.count(told) == 3, said
    assert "child: closed: the connection belongs to the process" in said
    assert "child: pong" in said
    assert "parent: open" in said


def elsewhere(work: Coroutine[Any, Any, Any]) -> BaseException | None:
    """What something raises in an event loop of another thread."""
    raised: list[BaseException | None] = []

    def run() -> None:
        try:
            asyncio.run(work)
        except BaseException as error:
            raised.append(error)
        else:
            raised.append(None)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    return raised[0]


@pytest.mark.fault("F65", "call from the event loop of another thread")
@pytest.mark.parametrize("used", [False, True], ids=["fresh", "used"])
async def test_another_event_loop(amqp_url: str, service: str, row: Row, used: bool) -> None:
    async with amqproxy.connect(amqp_url) as mq, gate(mq, service):
        proxy = mq.proxy(Gate, name=service)
        if used:
            assert await proxy.ping() == "pong"
        with row.sees(amqproxy.Closed, within=1.0, match="belongs to another event loop"):
            error = await asyncio.to_thread(elsewhere, proxy.ping())
            assert error is not None
            raise error
        worker = mq.serve(Gate(), name=f"{service}.other", auto_delete=True)
        assert isinstance(await asyncio.to_thread(elsewhere, worker.start()), amqproxy.Closed)
        assert await proxy.ping() == "pong"


@pytest.mark.fault("F65", "call after close()")
async def test_use_after_the_end(amqp_url: str, service: str, row: Row) -> None:
    async with amqproxy.connect(amqp_url) as mq:
        proxy = mq.proxy(Gate, name=service)
        with pytest.raises(amqproxy.Unroutable):
            await proxy.ping()
    assert mq.state.name == "closed"
    with row.sees(amqproxy.Closed, within=0.1):
        await proxy.ping()
    with row.sees(amqproxy.Closed, within=0.1):
        mq.serve(Gate())
