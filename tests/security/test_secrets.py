"""S13: a password is in no log, text, repr, traceback, property of the connection or command line."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import traceback
from typing import Any
from urllib.parse import quote

import pytest

import amqproxy
from amqproxy.redis import RedisStore
from amqproxy.testing import RabbitMQ, broker
from tests.faults.network import Relay
from tests.processes import running
from tests.security.served import Vault
from tests.served import Patient

PASSWORD = "hüsh/@:%hush"
FORMS = ("hüsh", "hush", quote(PASSWORD, safe=""), quote("hüsh"), PASSWORD.encode().hex())


class Everything(logging.Handler):
    """Each record of each logger, as it would be written, with all that it refers to."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.text = ""

    def emit(self, record: logging.LogRecord) -> None:
        self.text += f"{self.format(record)}\n{record.args!r}\n"


@pytest.fixture
def everything(monkeypatch: pytest.MonkeyPatch) -> Any:
    handler, root = Everything(), logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    yield handler
    root.removeHandler(handler)
    root.setLevel(level)


def shown(*things: object) -> str:
    """All that a program would print of these."""
    text = ""
    for thing in things:
        text += f"{thing!r} {thing}\n"
        if isinstance(thing, BaseException):
            text += "".join(traceback.format_exception(thing))
    return text


async def failure(url: str, **options: Any) -> BaseException:
    with pytest.raises(amqproxy.AMQProxyError) as caught:
        await amqproxy.connect(url, connect_timeout=2, **options)
    return caught.value


async def test_a_password_is_shown_nowhere(everything: Everything) -> None:
    login = f"ann:{quote(PASSWORD, safe='')}"
    found = ""
    async with broker(users={"ann": PASSWORD}) as url, Relay.to(url) as relay:
        host = relay.url.rpartition("@")[2]
        good = f"amqp://{login}@{host}"
        async with amqproxy.connect(good) as mq, mq.serve(Vault(), name="vault") as worker:
            proxy: Any = mq.proxy(Vault, name="vault")
            assert await proxy.add(1, 2) == 3
            line = proxy.add.line
            found += shown(mq, worker, proxy, proxy.add, mq.sender(Vault, name="vault"), mq.url, line)
            found += shown(mq._live_connection(), mq._live_connection().current_link, mq.caller)
            relay.cut()
            found += shown(await lost(proxy))
            assert await amqproxy.options(proxy, idempotent=True).add(1, 2) == 3
            found += shown(await refused(mq))
        found += shown(
            await failure(f"amqp://eve:{login.partition(':')[2]}@{host}"),
            await failure(f"amqp://{login}x@{host}"),
            await failure(f"amqp://{login}@{host}nowhere"),
            await failure(f"amqp://{login}@127.0.0.1:9/"),
            await failure(f"amqp://{login}@no-such-host.invalid/"),
            await failure(f"amqps://{login}@{host}"),
            await failure(f"amqp://{login}@{host}?auth=external"),
        )
    for form in FORMS:
        assert form not in found
        assert form not in everything.text
    assert "ann" in found


async def lost(proxy: Any) -> BaseException:
    try:
        await amqproxy.options(proxy, timeout=3).add(1, 2)
    except amqproxy.CallError as error:
        return error
    return RuntimeError("it went well")


async def refused(mq: amqproxy.Client) -> BaseException:
    try:
        await mq.serve(Vault(), name="vault", durable=False).start()
    except amqproxy.AMQProxyError as error:
        return error
    raise AssertionError("there is a queue of that name with other arguments")


SHORT = 2 * "hush"
BAD_URLS = (
    "amqp://ann:LOGIN@host:0/",
    "amqp://ann:LOGIN@host:port/",
    "amqp://ann:LOGIN@[host/",
    "http://ann:LOGIN@host/",
    "amqp://ann:LOGIN@/",
    "amqp://ann:LOGIN@host/#x",
    "amqp://ann:LOGIN@host/?password=LOGIN",
    "amqp://:LOGIN@host/",
    "ann:LOGIN@host",
)


@pytest.mark.parametrize("url", BAD_URLS)
def test_a_url_that_is_wrong_is_not_quoted(url: str) -> None:
    with pytest.raises(ValueError) as caught:  # whatever its text is
        amqproxy.connect(url.replace("LOGIN", SHORT))
    assert SHORT not in shown(caught.value)


@pytest.mark.parametrize(
    "url", ["redis://:hush/x@host:6379", "redis://ada:hush#x@host", "redis://:hush@[host", "http://:hush@host"]
)
def test_a_redis_url_that_is_wrong_is_not_quoted(url: str) -> None:
    with pytest.raises(ValueError, match="the Redis URL does not parse") as caught:
        RedisStore(url)
    assert "hush" not in "".join(traceback.format_exception(caught.value)).split("RedisStore(url)")[1]


async def test_a_command_line_shows_none_that_came_by_the_environment(embedded_url: str) -> None:
    """The whole line, of the program and of what it starts, while it serves."""
    name = "tests.secrets"
    command = ("-m", "amqproxy", "serve", "tests.served:Patient", "--name", name, "--processes", "2")
    async with running(*command, AMQPROXY_URL=embedded_url) as process, amqproxy.connect(embedded_url) as mq:
        await process.says(f"serving {name}", 2)
        lines = await asyncio.to_thread(command_lines, process.pid)
        workers = {await mq.proxy(Patient, name=name).pid() for _ in range(20)}
    assert name in lines[process.pid]
    assert workers <= lines.keys() and len(lines) > 2
    assert not any("guest" in line or "amqp://" in line for line in lines.values())


def command_lines(pid: int) -> dict[int, str]:
    """That of a process, and of all that it has started, as everybody on the machine may read them."""
    told = subprocess.run(["ps", "-A", "-ww", "-o", "pid=,ppid=,args="], capture_output=True, text=True, check=True)
    found = {pid: ""}
    for line in told.stdout.splitlines():
        one, parent, command = line.split(maxsplit=2)
        if int(one) in found or int(parent) in found:
            found[int(one)] = command
    return found


async def test_the_broker_is_told_a_name_and_no_more(rabbitmq_node: RabbitMQ) -> None:
    async with amqproxy.connect(rabbitmq_node.url, name="ledger"):
        told = await asyncio.to_thread(rabbitmq_node.ctl, "list_connections", "user", "client_properties")
    assert "ledger" in told and "amqproxy" in told
    assert "guest:guest" not in told and "password" not in told
