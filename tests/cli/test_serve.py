"""`amqproxy serve` as it is typed; tests/test_runner.py has what comes after a signal."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import signal

import pytest

import amqproxy
from amqproxy.testing import broker_thread, free_port
from tests.cli.conftest import Invoke
from tests.processes import running


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("served:Nobody",), "error: served has no 'Nobody'; it has Patient, shout, Demanding, Unservable, say\n"),
        (("nowhere:Patient",), "error: there is no module 'nowhere'"),
        (("served:Unservable",), "error: served:Unservable: Unservable.add takes *numbers"),
        (("served:Patient", "--url", "http://x"), "error: a broker URL starts with amqp://"),
        (("served:Patient", "--url", "embedded:"), "no other can reach it: start one for all of them with"),
        (("served:Patient", "--url", "embedded:", "--processes", "2"), "no other can reach it"),
        (("served:Patient", "served:shout", "--queue", "q"), "error: --queue is for one object"),
        (
            ("served:Patient", "--url", "amqp://127.0.0.1/", "--name", "50%"),
            "error: served:Patient: queue names are letters",
        ),
        (("served:Patient", "--concurrency", "0"), "--concurrency"),
        (("served:Patient", "--colour", "red"), "--colour"),
    ],
)
def test_usage_errors_are_sentences(invoke: Invoke, arguments: tuple[str, ...], why: str) -> None:
    ended = invoke("serve", *arguments)
    assert ended.code == 2
    assert why in ended.err
    assert "Traceback" not in ended.err
    assert ended.out == ""


def test_refused_connection_names_host_and_port_and_the_cure(invoke: Invoke) -> None:
    port = free_port()
    ended = invoke("serve", "served:Patient", "--url", f"amqp://guest:hush@127.0.0.1:{port}/")
    assert ended.code == 3
    assert ended.err.startswith(f"error: no broker listens at 127.0.0.1:{port}: start RabbitMQ there, or")
    assert ended.err.count("\n") == 1
    assert "hush" not in ended.err


def test_refused_credentials_name_the_user(invoke: Invoke, embedded_url: str) -> None:
    user = f"nobody-{secrets.token_hex(4)}"
    url = embedded_url.replace("guest:guest", f"{user}:hush")
    ended = invoke("serve", "served:Patient", "--url", url)
    assert ended.code == 3
    assert f"refused the user '{user}'" in ended.err
    assert "hush" not in ended.err


async def test_several_objects_of_all_kinds_are_served(embedded_url: str) -> None:
    arguments = ("serve", "served:Patient", "served:shout", "--concurrency", "2", "--debug")
    async with (
        running("-m", "amqproxy", *arguments, AMQPROXY_URL=embedded_url) as worker,
        amqproxy.connect(embedded_url) as mq,
    ):
        await worker.says("amqproxy.server: serving", times=2)
        assert await mq.proxy("tests.served").add(1, 2) == 3
        assert await mq.proxy("tests.shout").shout("hey") == "HEY"
        with pytest.raises(ZeroDivisionError, match="Traceback"):  # that is what --debug adds
            await mq.proxy("tests.served").divide(1, 0)
        worker.send(signal.SIGINT)
        assert await worker.ends() == 0


@pytest.mark.parametrize("processes", ["1", "2"])
async def test_workers_may_be_started_ahead_of_their_broker(processes: str) -> None:
    port = free_port()
    url = f"amqp://guest:guest@127.0.0.1:{port}/"
    command = ("-m", "amqproxy", "serve", "served:Patient", "--wait", "--verbose", "--processes", processes)
    async with running(*command, AMQPROXY_URL=url) as workers:
        await workers.says("the next in")
        with broker_thread(port=port):
            async with amqproxy.connect(url) as mq, asyncio.timeout(30):
                while True:
                    with contextlib.suppress(amqproxy.Unroutable):
                        assert await mq.proxy("tests.served", timeout=20).add(x=1, y=2) == 3
                        break
                    await asyncio.sleep(0.02)
            workers.send(signal.SIGTERM)
            assert await workers.ends() == 0
