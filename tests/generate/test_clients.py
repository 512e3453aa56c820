"""Generated clients are compiled, and call a worker in Python, on both brokers."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

import amqproxy
from amqproxy.testing import BrokerThread, broker_thread
from tests.generate.gallery import Gallery
from tests.generate.toolchains import TOOLCHAINS, Toolchain
from tests.processes import amqproxy as command

QUEUE = f"tests.gallery.{secrets.token_hex(4)}"
QUEUES = {
    "gallery:Gallery": QUEUE,
    "gallery:Nobody": f"{QUEUE}.nobody",
    "strange:Strange": "'\"#{}$(x)",
    "strange:shout": "shout",
}
PATIENCE = 60.0
"""Seconds that a program may take; on an idle machine the slowest takes three."""
SOON = 10.0
"""Seconds that a pending call may take to see that its connection is lost, which it sees at once."""

SIZE = {"fullWidth": 3, "height": 4}
PICTURE = {
    "id": "12345678-1234-5678-1234-567812345678",
    "frame": {"colour": "red", "size": SIZE, "class_": "plain"},
    "at": [1.0, 2.0],
    "labels": [{"text": "a"}, {"text": "b", "lang": "de"}],
    "painted": None,
    "parts": [],
}
PAINTED = {
    **PICTURE,
    "frame": {"colour": "dark-green", "size": SIZE, "class_": "plain"},
    "painted": "2024-05-06T07:08:09Z",
}
EXPECTED = {
    "add": -1,
    "greet": "hello Ann!",
    "greet with options": "hello Dr Ann??",
    "end": {"class": "x", "def": True, "func": None, "maxItems": {"a": 1}},
    "reverse": [3, 200, 0],
    "reverse with options": [99, 98, 97],
    "sort": [3, 2, 1],
    "sort with options": [1, 2],
    "paint": PAINTED,
    "move": {"picture": {**PICTURE, "at": [4.0, 0.0]}, "distance": 5.0},
    "check": None,
    "check of a wrong value": ["unknown", "ValueError", "-1 is less than 0", False, None, "yes"],
    "find": ["not_found", "RemoteError", "no picture 7", True, {"id": 7}, "yes"],
    "sleep": ["timeout", "maybe"],
    "nobody": ["unroutable", "no"],
    "many": [2 * n for n in range(200)],
}


@pytest.fixture(scope="module", params=TOOLCHAINS, ids=[each.name for each in TOOLCHAINS])
def toolchain(request: pytest.FixtureRequest) -> Toolchain:
    found: Toolchain = request.param
    found.require()
    return found


@pytest.fixture(scope="module")
def built(toolchain: Toolchain, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory in which the program was built, once for all its tests; no compiler has anything to complain of."""
    directory = tmp_path_factory.mktemp(toolchain.name)
    clients = [generated(toolchain, target, queue, directory) for target, queue in QUEUES.items()]
    for name, source in toolchain.others.items():
        directory.joinpath(name).symlink_to(source) if source.is_dir() else shutil.copy(source, directory / name)
    for check in toolchain.commands(clients):
        ended = subprocess.run(check, cwd=directory, capture_output=True, text=True, timeout=PATIENCE, check=False)
        complaints = ended.stderr + ended.stdout.replace("Syntax OK\n", "")
        assert (ended.returncode, complaints) == (0, ""), f"{' '.join(check)}:\n{complaints}"
    return directory


def generated(toolchain: Toolchain, target: str, queue: str, directory: Path) -> str:
    """Run the command for an object; the file that it wrote, which Go wants in a directory of its own."""
    place = target.partition(":")[2].lower() if toolchain.name == "go" else "."
    (directory / place).mkdir(exist_ok=True)
    options = ("--queue", queue, "--output", str(directory / place))
    ended = asyncio.run(command("generate", toolchain.name, f"generate.{target}", *options))
    assert ended.code == 0, ended.err
    return os.path.relpath(ended.err.removeprefix("wrote ").rstrip("\n"), directory)


@asynccontextmanager
async def program(toolchain: Toolchain, built: Path, url: str, mode: str) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        *toolchain.program,
        url,
        mode,
        cwd=built,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(PATIENCE):
            yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def test_each_method_does_what_it_does_in_python(toolchain: Toolchain, built: Path, amqp_url: str) -> None:
    async with (
        serving(Gallery(), amqp_url),
        program(toolchain, built, amqp_url, "call") as driver,
    ):
        out, err = await driver.communicate()
    assert (err.decode(), driver.returncode) == ("", 0)
    said = dict(json.loads(line) for line in out.splitlines())
    assert {name: plain(outcome) for name, outcome in said.items()} == EXPECTED


def plain(value: Any) -> Any:
    """Without what some languages leave out of the objects that they print, and others print."""
    if isinstance(value, dict):
        shown = {name: plain(item) for name, item in value.items()}
        return {"painted": None, "parts": [], **shown} if "frame" in shown else shown
    return value


@pytest.mark.parametrize("orderly", [True, False], ids=["closed", "broken"])
async def test_lost_connection_ends_calls_at_once_and_is_made_again(
    toolchain: Toolchain, built: Path, orderly: bool
) -> None:
    gallery = Gallery()
    broker = BrokerThread()
    broker.start()
    async with AsyncExitStack() as stack:
        stack.callback(broker.stop)
        async with serving(gallery, broker.url):
            driver = await stack.enter_async_context(program(toolchain, built, broker.url, "lose"))
            assert await said(driver) == ["ready", True]
            await gallery.asleep.wait()
            await broker.stop_and_wait() if orderly else broker.kill()
            async with asyncio.timeout(SOON):
                assert await said(driver) == ["lost", ["lost"]]
        async with AsyncExitStack() if orderly else await closing_at_once(broker.port):
            assert await said_next(driver) == ["still lost", ["lost"]]
        broker.start()
        async with serving(gallery, broker.url):
            assert await said_next(driver) == ["found again", 3]
            await driver.wait()
        assert driver.returncode == 0


async def test_call_fails_at_once_when_the_broker_closes_the_channel(toolchain: Toolchain, built: Path) -> None:
    with broker_thread() as broker:
        broker.add_user("nobody", "secret")
        broker.set_permissions("nobody", write="^$")
        url = broker.url.replace("guest:guest", "nobody:secret")
        async with program(toolchain, built, url, "add") as driver, asyncio.timeout(SOON):
            assert await said(driver) == ["add", ["lost"]]
            await driver.wait()
        assert driver.returncode == 0


async def closing_at_once(port: int) -> asyncio.Server:
    """A broker that is about to end: it takes connections, and ends them in the middle of their opening."""
    return await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", port)


@asynccontextmanager
async def serving(gallery: Gallery, url: str) -> AsyncIterator[None]:
    async with amqproxy.connect(url) as mq, mq.serve(gallery, queue=QUEUE, grace=0):
        yield


async def said_next(driver: asyncio.subprocess.Process) -> Any:
    assert driver.stdin is not None
    driver.stdin.write(b"\n")
    return await said(driver)


async def said(driver: asyncio.subprocess.Process) -> Any:
    assert driver.stdout is not None
    assert driver.stderr is not None
    line = await driver.stdout.readline()
    assert line, (await driver.stderr.read()).decode()
    return json.loads(line)
