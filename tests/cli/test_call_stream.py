"""`amqproxy call` for calls that take their time: streams, Blobs, progress, and how it is interrupted."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import signal
import sys
import time
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.processes import TESTS, Ended, Running, environment, running
from tests.processes import amqproxy as command
from tests.terminal import CTRL_C, terminal


@dataclass(frozen=True)
class Served:
    """A worker of the service, and how it is called."""

    worker: Running
    name: str
    url: str

    async def call(self, *arguments: str) -> Ended:
        return await command("call", self.name, *arguments, AMQPROXY_URL=self.url)

    def arguments(self, *arguments: str) -> tuple[str, ...]:
        return ("-m", "amqproxy", "call", self.name, *arguments, "--url", self.url)

    @asynccontextmanager
    async def called(self, *arguments: str) -> AsyncIterator[asyncio.subprocess.Process]:
        """The command while it runs, with its output in pipes."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, *self.arguments(*arguments)),
            cwd=TESTS,
            env=environment(),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=PIPE,
            stderr=PIPE,
            preexec_fn=interruptible,
        )
        try:
            yield process
        finally:
            if process.returncode is None:
                process.kill()
            await process.communicate()


def interruptible() -> None:
    """Whoever starts the tests in the background has them, and what they start, ignore Ctrl-C."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.fixture
async def served(amqp_url: str) -> AsyncIterator[Served]:
    name = f"tests.{secrets.token_hex(4)}"
    serve = ("-m", "amqproxy", "serve", "typed:Typed", "--name", name)
    async with running(*serve, AMQPROXY_URL=amqp_url) as worker:
        await worker.says(f"serving {name}")
        yield Served(worker, name, amqp_url)


async def soon(what: object) -> None:
    """What must happen within a second, and with a second's grace for a busy machine."""
    async with asyncio.timeout(2):
        await what  # type: ignore[misc]  # a coroutine


async def said(process: asyncio.subprocess.Process) -> str:
    """What it has on stderr when it ends."""
    assert process.stderr is not None
    async with asyncio.timeout(10):
        return (await process.stderr.read()).decode()


async def line(process: asyncio.subprocess.Process) -> bytes:
    assert process.stdout is not None
    async with asyncio.timeout(10):
        return await process.stdout.readline()


async def test_a_stream_is_a_line_for_each_item(served: Served) -> None:
    counted, none, stumbled, one_line = await asyncio.gather(
        served.call("count", "3"),
        served.call("count", "0"),
        served.call("stumble"),
        served.call("stumble", "--json"),
    )
    assert counted == Ended(0, "0\n1\n2\n", "")
    assert none == Ended(0, "", "")
    assert (stumbled.code, stumbled.out) == (1, '{"a":1}\n')
    assert stumbled.err == "error: LookupError: no second row\n"
    assert (one_line.code, one_line.out) == (1, '{"a":1}\n')
    assert json.loads(one_line.err)["type"] == "LookupError"


async def test_many_items_come_whole_and_in_order(served: Served) -> None:
    ended = await served.call("count", "100000")
    assert (ended.code, ended.err) == (0, "")
    assert ended.out == "".join(f"{number}\n" for number in range(100_000))


async def test_items_are_out_when_they_come_and_ctrl_c_stops_the_worker(served: Served) -> None:
    async with served.called("count", "-2") as process:
        assert [await line(process) for _ in range(2)] == [b"0\n", b"1\n"]
        await served.worker.says("waiting")
        process.send_signal(signal.SIGINT)
        await soon(served.worker.says("stopped"))
        await soon(process.wait())
        assert (process.returncode, await said(process)) == (130, "")
    await served.worker.says("counted")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
async def test_a_signal_stops_a_call_in_the_worker(served: Served, number: signal.Signals, code: int) -> None:
    async with served.called("wait") as process:
        await served.worker.says("waiting")
        process.send_signal(number)
        await soon(served.worker.says("stopped"))
        await soon(process.wait())
        assert (process.returncode, await said(process)) == (code, "")


async def test_ctrl_c_in_a_terminal_is_the_same(served: Served) -> None:
    async with terminal(*served.arguments("wait")) as screen:
        await served.worker.says("waiting")
        screen.types(CTRL_C)
        await soon(served.worker.says("stopped"))
        assert await screen.ends() == 130
        assert screen.shown.replace("^C", "").strip() == ""


async def test_before_there_is_a_connection_there_is_nothing_to_stop() -> None:
    from tests.processes import silent_server

    async with silent_server() as (url, connected):
        served = Served(None, "nobody", url)  # type: ignore[arg-type]  # there is no worker
        async with served.called("add") as process:
            await connected.wait()
            process.send_signal(signal.SIGINT)
            await soon(process.wait())
            assert (process.returncode, await said(process)) == (130, "")


async def test_who_closes_the_pipe_ends_an_endless_stream_quietly(served: Served) -> None:
    script = '"$0" "$@" 2>err | head -n 2; echo "${PIPESTATUS[0]} $(cat err; rm err)"'
    process = await asyncio.create_subprocess_exec(
        *("bash", "-c", script, sys.executable, *served.arguments("count", "1000000000")),
        cwd=TESTS,
        env=environment(),
        stdout=PIPE,
    )
    out, _ = await asyncio.wait_for(process.communicate(), 20)
    assert out == b"0\n1\n141 \n"
    await soon(served.worker.says("counted"))


async def test_who_closes_the_pipe_of_an_idle_stream_ends_it_at_once(served: Served) -> None:
    """And not when there is more to write, which may be never."""
    reading, writing = os.pipe()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, *served.arguments("count", "-1")), cwd=TESTS, env=environment(), stdout=writing, stderr=PIPE
    )
    try:
        os.close(writing)
        await served.worker.says("waiting")
        assert await asyncio.to_thread(os.read, reading, 100) == b"0\n"
        os.close(reading)
        await soon(served.worker.says("stopped"))
        await soon(process.wait())
        assert (process.returncode, await said(process)) == (141, "")
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def test_who_does_not_read_holds_up_the_stream_and_not_ctrl_c(served: Served) -> None:
    reading, writing = os.pipe()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, *served.arguments("count", "1000000000")),
        cwd=TESTS,
        env=environment(),
        stdout=writing,
        stderr=PIPE,
        preexec_fn=interruptible,
    )
    try:
        os.close(writing)
        before = -1
        async with asyncio.timeout(20):
            while before != (before := full(reading)) or not before:  # noqa: ASYNC110  # nobody tells
                await asyncio.sleep(0.3)
        process.send_signal(signal.SIGINT)
        await soon(served.worker.says("counted"))
        await soon(process.wait())
        assert (process.returncode, await said(process)) == (130, "")
    finally:
        os.close(reading)
        if process.returncode is None:
            process.kill()
            await process.wait()


def full(pipe: int) -> int:
    """How many bytes wait in a pipe."""
    import array
    import fcntl
    import termios

    waiting = array.array("i", [0])
    fcntl.ioctl(pipe, termios.FIONREAD, waiting)
    return waiting[0]


async def test_a_timeout_bounds_a_stream_only_if_it_is_given(served: Served) -> None:
    began = time.monotonic()
    ended = await served.call("count", "-2", "--timeout", "1")
    assert (ended.code, ended.out) == (1, "0\n1\n")
    assert "not over within 1 s, and given up; a worker had it and was in the middle (items received: 2)" in ended.err
    assert time.monotonic() - began < 5
    assert await served.call("header", "x-timeout-ms") == Ended(0, "null\n", "")
    given = await served.call("header", "x-timeout-ms", "--timeout", "7")
    assert 6000 < json.loads(given.out) <= 7000


async def test_a_blob_is_written_as_the_bytes_that_it_is(served: Served, tmp_path: Path) -> None:
    expected = bytes(number % 251 for number in range(1_500_000))
    with (tmp_path / "file").open("wb") as file:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, *served.arguments("fetch", "1500000")), cwd=TESTS, env=environment(), stdout=file
        )
        assert await asyncio.wait_for(process.wait(), 20) == 0
    assert (tmp_path / "file").read_bytes() == expected
    async with served.called("fetch", "size=1500000") as process:
        assert process.stdout is not None
        assert await asyncio.wait_for(process.stdout.read(), 20) == expected
        assert await said(process) == ""


async def test_a_blob_is_no_text_for_a_terminal(served: Served) -> None:
    async with terminal(*served.arguments("fetch", "100000000")) as screen:
        assert await screen.ends() == 2
        await screen.shows("the result is bytes, and no text for a terminal: give them to a file, with > FILE")
        assert "\0" not in screen.shown
    await soon(served.worker.says("fetched"))


@pytest.mark.parametrize(
    ("redirection", "why"),
    [(">/dev/full", "cannot write to stdout: No space left on device"), (">&-", "stdout is closed: there is nowhere")],
)
async def test_a_result_that_cannot_be_written_is_a_sentence(served: Served, redirection: str, why: str) -> None:
    process = await asyncio.create_subprocess_exec(
        *("sh", "-c", f'"$0" "$@" {redirection}', sys.executable, *served.arguments("add", "1")),
        cwd=TESTS,
        env=environment(),
        stderr=PIPE,
    )
    _, err = await asyncio.wait_for(process.communicate(), 20)
    assert process.returncode == 2
    assert err.decode().startswith(f"error: {why}")
    assert err.count(b"\n") == 1


async def test_in_a_terminal_items_have_a_line_and_a_value_has_many(served: Served) -> None:
    async with terminal(*served.arguments("stumble")) as screen:
        assert await screen.ends() == 1
        await screen.shows('{"a":1}\r\nerror: LookupError: no second row\r\n')
    async with terminal(*served.arguments("header", "x-heartbeat-ms")) as screen:
        assert await screen.ends() == 0
        await screen.shows("10000\r\n")


async def test_a_call_that_tells_how_far_it_is_has_a_bar_in_a_terminal(served: Served) -> None:
    async with terminal(*served.arguments("train"), stdout=PIPE) as screen:
        await screen.shows("50%")
        await screen.shows("epoch 5")
        assert f"{served.name}.train" in screen.shown
        screen.types(CTRL_C)
        assert await screen.ends() == 130
        assert screen.process.stdout is not None
        assert await screen.process.stdout.read() == b""
    await soon(served.worker.says("stopped"))
    async with terminal(*served.arguments("trained", "10"), stdout=PIPE) as screen:
        assert screen.process.stdout is not None
        assert await screen.process.stdout.read() == b'"a model"\n'
        assert await screen.ends() == 0


async def test_a_call_that_tells_nothing_has_none_and_nor_has_one_outside_of_a_terminal(served: Served) -> None:
    async with terminal(*served.arguments("add", "1"), stdout=PIPE) as screen:
        assert await screen.ends() == 0
        assert screen.shown == ""
    trained, header = await asyncio.gather(served.call("trained", "3"), served.call("header", "x-heartbeat-ms"))
    assert (trained, header) == (Ended(0, '"a model"\n', ""), Ended(0, "null\n", ""))
