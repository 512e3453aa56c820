"""Generated clients are compiled, and call a worker in Python, on both brokers."""

from __future__ import annotations

import asyncio
import json
import os
import re
import secrets
import shutil
import socket
import subprocess
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

import amqproxy
from amqproxy.testing import BrokerThread, broker_thread
from tests.generate.bad_brokers import FAILURE, Answer, Sleeper, answering
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
async def program(toolchain: Toolchain, built: Path, url: str, *mode: str) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        *toolchain.program,
        url,
        *mode,
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
                assert (await said(driver))[1][0] == "lost"
        async with AsyncExitStack() if orderly else await closing_at_once(broker.port):
            assert (await said_next(driver))[1][0] == "lost"
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
            assert (await said(driver))[1][0] == "lost"
            await driver.wait()
        assert driver.returncode == 0


async def test_refused_port_is_told(toolchain: Toolchain, built: Path) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        url = f"amqp://guest:guest@127.0.0.1:{nobody.getsockname()[1]}"
        async with program(toolchain, built, url, "add") as driver:
            name, [kind, text] = await said(driver)
    assert (name, kind) == ("add", "lost")
    assert re.search("no connection to the broker.*(refused|ECONNREFUSED|Could not establish TCP)", text), text


async def test_calls_share_one_attempt_to_connect_and_leave_it_when_their_time_is_over(
    toolchain: Toolchain, built: Path, amqp_url: str
) -> None:
    sleeper = Sleeper(amqp_url)
    async with (
        serving(Gallery(), amqp_url),
        sleeper.listening() as url,
        program(toolchain, built, url, "wait") as driver,
    ):
        await sleeper.found.wait()
        async with asyncio.timeout(SOON / 2):  # each of the four may take a second
            name, outcomes = await said(driver)
        assert (name, [kind for kind, _ in outcomes]) == ("wait", ["lost"] * 4)
        for _, text in outcomes:
            assert "no connection to the broker" in text
            assert "it is slow, or does not answer" in text
        sleeper.awake.set()
        assert await said_next(driver) == ["found awake", 3]
        assert sleeper.accepted == 1
        await driver.wait()
        assert driver.returncode == 0


async def test_close_waits_for_no_attempt_to_connect(toolchain: Toolchain, built: Path, amqp_url: str) -> None:
    sleeper = Sleeper(amqp_url)
    async with sleeper.listening() as url, program(toolchain, built, url, "close") as driver:
        await sleeper.found.wait()
        async with asyncio.timeout(SOON / 2):
            name, [kind, text] = await said_next(driver)
        assert (name, kind) == ("close", "lost")
        assert "the client was closed" in text
        sleeper.awake.set()
        await driver.wait()
        assert driver.returncode == 0


GARBAGE: list[tuple[str, str | None, bytes, str]] = [
    ("x.Reply", "json", b"{", ""),
    ("x.Reply", "json", b"", ""),
    ("x.Reply", "json", b"1 2", ""),
    ("x.Reply", "json", b"NaN", ""),
    ("x.Reply", "json", b'"\xff"', ""),
    ("x.Reply", "snappy-json", b"1", "snappy-json"),
    (FAILURE, "json", b"null", "a failure is an object, not null"),
    (FAILURE, "json", b"[]", ""),
    (FAILURE, "json", b"3", ""),
    (FAILURE, "json", b"{", ""),
    (FAILURE, "protobuf", b"{}", "protobuf"),
]
BAD_RESULTS = {"reverse": b"7", "add": b"null", "check": b"}"}
BARE_FAILURES: list[tuple[bytes, list[Any]]] = [
    (b"{}", ["unknown", "", "", False, None, "yes"]),
    (b'{"message": null, "throwableAsString": "a.B: c", "error": null}', ["unknown", "a.B", "", False, None, "yes"]),
    (b'{"message": "m", "error": {"executed": "no"}}', ["unknown", "", "m", False, None, "no"]),
    (b'{"error": {"code": null, "type": null, "executed": null}}', ["unknown", "", "", False, None, "yes"]),
]


async def test_what_does_not_decode_is_an_error_of_the_call(toolchain: Toolchain, built: Path, amqp_url: str) -> None:
    """The driver calls `find` with each of the numbers, then other methods, one with an argument without JSON."""
    replies: list[Answer] = [(kind, encoding, body) for kind, encoding, body, _ in GARBAGE]
    replies += [(FAILURE, "json", body) for body, _ in BARE_FAILURES]
    replies += [("x.Reply", None, b"true"), ("x.Reply", "", b"[2]")]

    def answer(kind: str, body: Any) -> Answer:
        method = kind.rpartition(".")[2]
        return replies[body["id"]] if method == "find" else ("x.Reply", "json", BAD_RESULTS[method])

    async with (
        answering(amqp_url, QUEUE, answer),
        program(toolchain, built, amqp_url, "garbage", str(len(replies))) as driver,
    ):
        out, err = await driver.communicate()
    assert (err.decode(), driver.returncode) == ("", 0)
    told = dict(json.loads(line) for line in out.splitlines())
    for number, (_, _, body, reason) in enumerate(GARBAGE):
        kind, text = told.pop(f"find {number}")
        assert (kind, text[:26]) == ("undecoded yes", "the reply does not decode:"), (body, text)
        assert reason in text
    for method in ("reverse", "check"):
        assert told.pop(method)[0] == "undecoded yes", method
    added = told.pop("add")  # to null, which Java has no number for
    assert added[0] == "undecoded yes" if toolchain.name == "java" else added in (None, 0)
    kind, text = told.pop("not a number")
    assert kind == "unencoded no"
    assert "the arguments do not encode: " in text
    assert [*told.values()] == [*(outcome for _, outcome in BARE_FAILURES), True, [2]]


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
