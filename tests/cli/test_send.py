"""`amqproxy send` as it is typed, with workers that say what they were told."""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from tests.cli.conftest import Invoke
from tests.processes import Ended, Running, running
from tests.processes import amqproxy as command

Send = Callable[..., Awaitable[Ended]]

DONE = Ended(0, "", "")


@pytest.fixture
async def name() -> str:
    return f"tests.{secrets.token_hex(4)}"


@pytest.fixture
async def worker(name: str, amqp_url: str) -> AsyncIterator[Running]:
    serve = ("-m", "amqproxy", "serve", "typed:Typed", "--name", name)
    async with running(*serve, AMQPROXY_URL=amqp_url) as process:
        await process.says(f"serving {name}")
        yield process


@pytest.fixture
def send(name: str, amqp_url: str) -> Send:
    """`amqproxy send SERVICE`, with the service in front of the other arguments."""

    async def send(*arguments: str, stdin: str = "") -> Ended:
        return await command("send", name, *arguments, stdin=stdin, AMQPROXY_URL=amqp_url)

    return send


async def test_a_worker_gets_it_and_nothing_is_said(worker: Running, send: Send, name: str) -> None:
    ended = await asyncio.gather(
        send("note", "Ann"),
        send("note", "text=Bob", "--priority", "3", "--json"),
        send("note", "-", stdin='["Cleo"]'),
        send("--message", f"{name}.note", "text=Dora"),
        send("note", "Eve", "--expires", "60", "--encoding", "zstd-json"),
        send("note", "fail"),
    )
    assert list(ended) == [DONE] * 6
    for text, priority in (("Ann", None), ("Bob", 3), ("Cleo", None), ("Dora", None), ("Eve", None), ("fail", None)):
        await worker.says(f"noted {text}, priority {priority}, delivery mode 2, reply to None")
    await worker.says("a one-way request failed")


async def test_it_may_be_kept_back(worker: Running, send: Send) -> None:
    began = time.monotonic()
    assert await send("note", "later", "--delay", "2.5") == DONE
    sent = time.monotonic()
    await worker.says("noted later")
    assert time.monotonic() - began > 2.5
    assert sent - began < 2.4


async def test_everyone_gets_it_and_nobody_is_no_failure(worker: Running, send: Send, name: str, amqp_url: str) -> None:
    serve = ("-m", "amqproxy", "serve", "typed:Typed", "--name", name)
    async with running(*serve, AMQPROXY_URL=amqp_url) as other:
        await other.says(f"serving {name}")
        assert await send("note", "all", "--everyone") == DONE
        for each in (worker, other):
            await each.says("noted all, priority None, delivery mode 1")
    assert await command("send", f"{name}.nobody", "note", "all", "--everyone", AMQPROXY_URL=amqp_url) == DONE


async def test_what_no_queue_takes_is_a_failure(send: Send) -> None:
    plain, for_programs = await asyncio.gather(send("note", "x"), send("note", "x", "--json"))
    assert (plain.code, plain.out) == (1, "")
    assert "no queue at" in plain.err
    assert "is not known" not in plain.err  # whether a handler ran
    assert (for_programs.code, for_programs.out) == (1, "")
    failure = json.loads(for_programs.err)
    assert (failure["type"], failure["code"], failure["executed"]) == ("Unroutable", "unavailable", "no")


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("mailer",), "which method of mailer? amqproxy send mailer METHOD"),
        (("mailer", "welcome", "--delay", "-1"), "--delay is a number of seconds above 0, not -1"),
        (("mailer", "welcome", "--expires", "nan"), "--expires is a number of seconds above 0"),
        (("mailer", "welcome", "--timeout", "0"), "--timeout is a number of seconds above 0"),
        (("mailer", "welcome", "--everone"), "there is no option --everone"),
        (("mailer", "welcome", "--url", "embedded:"), "no other can reach it"),
    ],
)
def test_usage_errors_are_sentences(invoke: Invoke, arguments: tuple[str, ...], why: str) -> None:
    ended = invoke("send", *arguments)
    assert (ended.code, ended.out) == (2, "")
    assert why in ended.err
    assert "Traceback" not in ended.err


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("--delay", "1", "--expires", "2"), "a message with a delay cannot expire"),
        (("--delay", "1", "--everyone"), "a message to everyone cannot have a delay"),
        (("--priority", "256"), "priority is from 0 to 255, not 256"),
        (("--encoding", "pickle"), "there is no encoding 'pickle'"),
    ],
)
def test_options_that_do_not_go_together_are_usage_errors(
    invoke: Invoke, embedded_url: str, arguments: tuple[str, ...], why: str
) -> None:
    ended = invoke("send", "mailer", "welcome", *arguments, "--url", embedded_url)
    assert (ended.code, ended.out) == (2, "")
    assert why in ended.err
