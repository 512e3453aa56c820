"""`amqproxy broker` as a process: what it says, who can use it, and how it ends."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import socket
import ssl
import sys
from pathlib import Path
from typing import Any

import pika
import pytest
import trustme
from cryptography.hazmat.primitives import serialization

import amqproxy
from tests.cli.conftest import Invoke
from tests.processes import Running, environment, running

COMMAND = ("-m", "amqproxy", "broker")


async def ready(process: Running) -> dict[str, Any]:
    """The line of a broker that was started with --json."""
    await process.says("\n")
    told: dict[str, Any] = json.loads(process.heard)
    return told


def connect(url: str, **options: Any) -> None:
    parameters = pika.URLParameters(url)
    for name, value in options.items():
        setattr(parameters, name, value)
    pika.BlockingConnection(parameters).close()


async def test_it_says_where_it_listens_and_what_it_is_not() -> None:
    async with running(*COMMAND, "--port", "0") as process:
        await process.says("Production belongs on RabbitMQ")
        said = process.heard
        assert "in memory only, and gone when it ends" in said
        found = re.search(r"listening at (amqp://guest:guest@127\.0\.0\.1:\d+/)", said)
        assert found
        async with amqproxy.connect(found[1]) as mq:
            with pytest.raises(amqproxy.Unroutable):
                await mq.proxy("nobody").call()
        process.send(signal.SIGINT)
        assert await process.ends() == 0
        assert "Traceback" not in process.heard


async def test_json_line_tells_programs_all_they_need() -> None:
    async with running(*COMMAND, "--port", "0", "--json") as process:
        told = await ready(process)
        assert told["pid"] == process.pid
        url = f"amqp://guest:guest@127.0.0.1:{told['port']}/"
        assert told == {"url": url, "host": "127.0.0.1", "users": ["guest"]} | {
            name: told[name] for name in ("port", "pid")
        }
        await asyncio.to_thread(connect, told["url"])


async def test_worker_and_caller_meet_at_it() -> None:
    async with running(*COMMAND, "--port", "0", "--json") as process:
        url = (await ready(process))["url"]
        serve = ("-m", "amqproxy", "serve", "served:Patient", "--name", "sums")
        async with running(*serve, AMQPROXY_URL=url) as worker, amqproxy.connect(url) as mq:
            await worker.says("serving sums")
            assert await mq.proxy("sums").add(1, 2) == 3


async def test_each_connection_has_a_line_if_it_is_asked_for() -> None:
    async with running(*COMMAND, "--port", "0", "--json", "-v") as process:
        url = (await ready(process))["url"]
        await asyncio.to_thread(connect, url)
        await process.says("open, user 'guest', virtual host '/'")
    async with running(*COMMAND, "--port", "0", "--json") as process:
        url = (await ready(process))["url"]
        await asyncio.to_thread(connect, url)
        with pytest.raises(pika.exceptions.ProbableAuthenticationError):
            await asyncio.to_thread(connect, url.replace("guest:guest", "guest:wrong"))
        await process.says("ACCESS_REFUSED")  # what goes wrong is told without being asked for
        assert "open, user" not in process.heard


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_signal_ends_it_in_order(number: signal.Signals) -> None:
    async with running(*COMMAND, "--port", "0", "--json") as process:
        url = (await ready(process))["url"]
        connection = await asyncio.to_thread(pika.BlockingConnection, pika.URLParameters(url))
        process.send(number)
        with pytest.raises(pika.exceptions.ConnectionClosedByBroker, match="CONNECTION_FORCED"):
            await asyncio.to_thread(connection.sleep, 10)
        assert await process.ends() == 0


async def test_second_signal_ends_it_at_once() -> None:
    async with running(*COMMAND, "--port", "0", "--json") as process:
        told = await ready(process)
        with socket.create_connection(("127.0.0.1", told["port"])) as silent:
            silent.sendall(b"AMQP\x00\x00\x09\x01")
            assert silent.recv(7)
            os.kill(process.pid, signal.SIGSTOP)  # so that both have come when it goes on
            process.send(signal.SIGINT)
            process.send(signal.SIGTERM)
            os.kill(process.pid, signal.SIGCONT)
            assert await process.ends() in (128 + signal.SIGINT, 128 + signal.SIGTERM)


async def test_users_and_virtual_hosts_of_ones_own() -> None:
    options = ("--user", "ann:s3cret:", "--user", "bob:b", "--vhost", "shop", "--vhost", "/")
    async with running(*COMMAND, "--port", "0", "--json", *options) as process:
        told = await ready(process)
        assert told["url"] == f"amqp://127.0.0.1:{told['port']}/"  # a password is not repeated
        for user in ("ann:s3cret%3A", "bob:b"):
            await asyncio.to_thread(connect, f"amqp://{user}@127.0.0.1:{told['port']}/shop")
        with pytest.raises(pika.exceptions.ProbableAuthenticationError):
            await asyncio.to_thread(connect, f"amqp://guest:guest@127.0.0.1:{told['port']}/")


async def test_definitions_are_loaded(tmp_path: Path) -> None:
    file = tmp_path / "definitions.json"
    user = {"name": "ann", "password": "s3cret", "tags": []}
    granted = {"user": "ann", "vhost": "/", "configure": "", "write": ".*", "read": ".*"}
    queue = {"name": "orders", "vhost": "/", "durable": True, "auto_delete": False}
    file.write_text(json.dumps({"users": [user], "permissions": [granted], "queues": [queue]}))
    async with running(*COMMAND, "--port", "0", "--json", "--definitions", str(file)) as process:
        url = f"amqp://ann:s3cret@127.0.0.1:{(await ready(process))['port']}/"

        def look() -> int:
            with pika.BlockingConnection(pika.URLParameters(url)) as connection:
                found: int = connection.channel().queue_declare("orders", passive=True).method.message_count
                return found

        assert await asyncio.to_thread(look) == 0


async def test_memory_holds_up_publishers() -> None:
    async with running(*COMMAND, "--port", "0", "--json", "--memory", "100kB") as process:
        url = (await ready(process))["url"]

        def fill() -> list[str]:
            heard: list[str] = []
            with (
                pika.BlockingConnection(pika.URLParameters(url)) as full,
                pika.BlockingConnection(pika.URLParameters(url)) as empty,
            ):
                full.add_on_connection_blocked_callback(lambda _, frame: heard.append(frame.method.reason))
                full.add_on_connection_unblocked_callback(lambda _, frame: heard.append("unblocked"))
                channel = full.channel()
                channel.queue_declare("q")
                for _ in range(3):
                    channel.basic_publish("", "q", bytes(60_000))
                while len(heard) < 1:
                    full.process_data_events(1)
                purging = empty.channel()
                while len(heard) < 2:
                    purging.queue_purge("q")
                    full.process_data_events(0.1)
            return heard

        assert await asyncio.wait_for(asyncio.to_thread(fill), 20) == ["low on memory", "unblocked"]


@pytest.mark.parametrize("together", [True, False])
async def test_tls_is_spoken_with_a_certificate(tmp_path: Path, together: bool) -> None:
    authority = trustme.CA()
    certificate = authority.issue_cert("localhost")
    chain, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    if together:
        certificate.private_key_and_cert_chain_pem.write_to_path(str(chain))
        options = ["--tls-cert", str(chain)]
    else:
        certificate.cert_chain_pems[0].write_to_path(str(chain))
        certificate.private_key_pem.write_to_path(str(key))
        options = ["--tls-cert", str(chain), "--tls-key", str(key)]
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    async with running(*COMMAND, "--port", "0", "--json", *options) as process:
        told = await ready(process)
        assert told["url"].startswith("amqps://guest:guest@127.0.0.1:")
        async with amqproxy.connect(f"amqps://guest:guest@localhost:{told['port']}/", ssl_context=trusting):
            pass


async def test_it_ends_with_the_one_who_supervises_it() -> None:
    ours, theirs = socket.socketpair()
    command = (*COMMAND, "--port", "0", "--json", "--supervised")
    with ours:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *command,
            stdin=theirs.fileno(),
            stdout=asyncio.subprocess.PIPE,
            env=environment(),
        )
        theirs.close()
        assert process.stdout is not None
        assert b"url" in await process.stdout.readline()
    assert await asyncio.wait_for(process.wait(), 20) == 0


def test_port_that_is_taken_is_named_with_the_cure(invoke: Invoke) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        ended = invoke("broker", "--port", str(port))
    assert (ended.code, ended.out) == (1, "")
    assert ended.err.startswith(f"error: the port {port} of 127.0.0.1 is taken, perhaps by RabbitMQ: end what")
    assert "--port (0 for a free one)" in ended.err


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("--user", "ann"), "--user ann is not NAME:PASSWORD"),
        (("--user", ":x"), "--user :x is not NAME:PASSWORD"),
        (("--user", "ann:a", "--user", "ann:b"), "--user ann is given twice"),
        (("--memory", "much"), "--memory much is no size, like 512MiB"),
        (("--memory", "3i"), "--memory 3i is no size"),
        (("--memory", "0MB"), "--memory 0MB leaves no room"),
        (("--tls-key", "key.pem"), "give that too, with --tls-cert"),
        (("--tls-cert", "missing.pem"), "cannot read missing.pem: No such file"),
        (("--tls-cert", "served.py"), "served.py does not hold a certificate and its key, both in PEM"),
        (("--definitions", "missing.json"), "cannot read the definitions missing.json: No such file"),
        (("--definitions", "served.py"), "served.py is no JSON"),
        (("--host", "0.0.0.0"), "guest is not for those: name users of your own"),
        (("--host", "::", "--user", "guest:guest"), "guest is not for those"),
        (("--host", "::", "--user", "guest:other"), "guest is not for those"),
        (("--host", ""), "--host is empty"),
        (("--vhost", ""), "error: the name of a user or a virtual host is empty"),
        (("--host", "192.0.2.1", "--user", "ann:a"), "--host 192.0.2.1 is no address of this machine"),
        (("--host", "nowhere.invalid", "--user", "ann:a"), "--host nowhere.invalid is not known"),
    ],
)
def test_usage_errors_are_sentences(invoke: Invoke, arguments: tuple[str, ...], why: str) -> None:
    ended = invoke("broker", *arguments)
    assert (ended.code, ended.out) == (2, "")
    assert why in ended.err
    assert "Traceback" not in ended.err


def test_definitions_that_are_wrong_are_named_by_file_and_path(invoke: Invoke, tmp_path: Path) -> None:
    file = tmp_path / "definitions.json"
    file.write_text('{"queues": [{"name": 5}]}')
    ended = invoke("broker", "--definitions", str(file))
    assert ended.code == 2
    assert ended.err == f"error: {file}: Expected `str`, got `int` - at `$.queues[0].name`\n"


def test_key_that_is_encrypted_or_another_certificates_is_refused(invoke: Invoke, tmp_path: Path) -> None:
    authority = trustme.CA()
    chain, other, locked = tmp_path / "cert.pem", tmp_path / "other.pem", tmp_path / "locked.pem"
    certificate = authority.issue_cert("localhost")
    certificate.cert_chain_pems[0].write_to_path(str(chain))
    authority.issue_cert("localhost").private_key_pem.write_to_path(str(other))
    key = serialization.load_pem_private_key(certificate.private_key_pem.bytes(), None)
    locked.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"hush"),
        )
    )
    ended = invoke("broker", "--tls-cert", str(chain), "--tls-key", str(other))
    assert (ended.code, "cannot be used (key values mismatch)" in ended.err) == (2, True)
    ended = invoke("broker", "--tls-cert", str(chain), "--tls-key", str(locked))
    assert (ended.code, f"the key in {locked} is encrypted" in ended.err) == (2, True)


async def test_other_machines_are_let_in_with_a_warning_only() -> None:
    options = ("--port", "0", "--host", "0.0.0.0", "--user", "ann:s3cret")
    async with running(*COMMAND, *options) as process:
        await process.says("Production belongs")
        said = process.heard
    assert "warning: 0.0.0.0 lets other machines in, and passwords travel in the clear: consider --tls-cert" in said
