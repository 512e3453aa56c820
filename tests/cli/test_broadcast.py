"""`amqproxy broadcast` as it is typed, with workers in processes of their own."""

from __future__ import annotations

import asyncio
import json
import secrets
import signal
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests.cli.conftest import Invoke
from tests.processes import TESTS, Ended, Running, environment, running
from tests.processes import amqproxy as command
from tests.terminal import CTRL_C, terminal


@dataclass(frozen=True)
class Pool:
    """Two workers of a service, and how they are asked."""

    workers: list[Running]
    pids: list[int]
    name: str
    url: str

    async def ask(self, *arguments: str) -> Ended:
        return await command("broadcast", self.name, *arguments, AMQPROXY_URL=self.url)

    def arguments(self, *arguments: str) -> tuple[str, ...]:
        return ("-m", "amqproxy", "broadcast", self.name, *arguments, "--url", self.url)


@pytest.fixture
async def pool(amqp_url: str) -> AsyncIterator[Pool]:
    name = f"tests.{secrets.token_hex(4)}"
    serve = ("-m", "amqproxy", "serve", "typed:Typed", "--name", name)
    async with running(*serve, AMQPROXY_URL=amqp_url) as first, running(*serve, AMQPROXY_URL=amqp_url) as second:
        workers = [first, second]
        for worker in workers:
            await worker.says(f"serving {name}")
        yield Pool(workers, [worker.pid for worker in workers], name, amqp_url)


def answers(ended: Ended) -> list[dict[str, Any]]:
    return [json.loads(line) for line in ended.out.splitlines()]


async def test_each_answer_is_a_line_of_json(pool: Pool) -> None:
    pids, sums, files = await asyncio.gather(
        pool.ask("pid"), pool.ask("add", "x=1", "y=2", "--json"), pool.ask("count", "3", "--encoding", "zstd-json")
    )
    assert [(each.code, each.err) for each in (pids, sums, files)] == [(0, "")] * 3
    assert sorted(each["value"] for each in answers(pids)) == sorted(pool.pids)
    for each in answers(pids):
        assert set(each) == {"worker", "value", "seconds"}
        assert f".{each['value']}." in each["worker"]
        assert 0 < each["seconds"] < 10
    assert [each["value"] for each in answers(sums)] == [3, 3]
    assert [each["value"] for each in answers(files)] == [[0, 1, 2]] * 2


async def test_one_that_fails_is_exit_code_1(pool: Pool) -> None:
    ended = await pool.ask("only", str(pool.pids[0]))
    assert (ended.code, ended.err) == (1, "")
    [failed] = [each for each in answers(ended) if "error" in each]
    [good] = [each for each in answers(ended) if "value" in each]
    assert good["value"] == 1
    assert set(failed) == {"worker", "error", "seconds"}
    assert failed["error"] == {
        "type": "ZeroDivisionError",
        "code": "unknown",
        "message": "integer division or modulo by zero",
        "executed": "yes",
        "retryable": False,
        "details": None,
    }


async def test_as_many_as_are_expected(pool: Pool) -> None:
    one, three, for_programs = await asyncio.gather(
        pool.ask("pid", "--expect", "1"),
        pool.ask("pid", "--expect", "3", "--timeout", "10"),
        pool.ask("pid", "--expect", "3", "--json"),
    )
    assert (one.code, one.err, len(answers(one))) == (0, "", 1)
    assert (three.code, len(answers(three))) == (1, 2)
    assert "2 of 3 workers answered, and no other is there" in three.err
    assert json.loads(for_programs.err)["type"] == "CallTimeout"


async def test_without_workers_that_is_said(amqp_url: str) -> None:
    ended = await command("broadcast", "tests.nobody", "pid", AMQPROXY_URL=amqp_url)
    assert (ended.code, ended.out) == (1, "")
    assert ended.err.startswith("error: no worker of tests.nobody is there: start one, as in amqproxy serve MODULE:")
    ended = await command("broadcast", "tests.nobody", "pid", "--expect", "2", "--json", AMQPROXY_URL=amqp_url)
    assert (ended.code, json.loads(ended.err)["type"]) == (1, "Unroutable")


async def test_one_that_does_not_answer_is_exit_code_1(pool: Pool) -> None:
    hanging = pool.workers[0]
    hanging.send(signal.SIGSTOP)
    try:
        ended = await pool.ask("pid", "--timeout", "1")
    finally:
        hanging.send(signal.SIGCONT)
    assert (ended.code, [each["value"] for each in answers(ended)]) == (1, [pool.pids[1]])
    assert "1 of 2 workers did not answer" in ended.err


async def test_ctrl_c_stops_the_workers(pool: Pool) -> None:
    async with terminal(*pool.arguments("wait"), COLUMNS="100") as screen:
        for worker in pool.workers:
            await worker.says("waiting")
        screen.types(CTRL_C)
        async with asyncio.timeout(2):
            for worker in pool.workers:
                await worker.says("stopped")
        assert await screen.ends() == 130
        assert "Traceback" not in screen.shown


async def test_who_closes_the_pipe_stops_the_workers_too(pool: Pool) -> None:
    process = await asyncio.create_subprocess_exec(
        *("bash", "-c", '"$0" "$@" | true; echo "${PIPESTATUS[0]}"', sys.executable, *pool.arguments("wait")),
        cwd=TESTS,
        env=environment(),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await asyncio.wait_for(process.communicate(), 20)
    assert (out, err) == (b"141\n", b"")
    for worker in pool.workers:
        assert worker.heard.count("waiting") == worker.heard.count("stopped")


async def test_in_a_terminal_there_is_a_table(pool: Pool) -> None:
    async with terminal(*pool.arguments("only", str(pool.pids[1])), COLUMNS="100") as screen:
        assert await screen.ends() == 1
        shown = screen.shown
    assert "worker" in shown and "answer" in shown and "time" in shown
    [good] = [each for each in shown.splitlines() if f".{pool.pids[0]}." in each][-1:]
    [bad] = [each for each in shown.splitlines() if f".{pool.pids[1]}." in each][-1:]
    assert "│ 1 " in good and " ms " in good
    assert "ZeroDivisionError: integer division or modulo by zero" in bad
    async with terminal(*pool.arguments("pid", "--json"), COLUMNS="100") as screen:
        assert await screen.ends() == 0
        assert [set(json.loads(each)) for each in screen.shown.split()] == [{"worker", "value", "seconds"}] * 2


async def test_without_answers_there_is_no_table(amqp_url: str) -> None:
    arguments = ("-m", "amqproxy", "broadcast", "tests.nobody", "pid", "--url", amqp_url)
    async with terminal(*arguments, COLUMNS="100") as screen:
        assert await screen.ends() == 1
        assert screen.shown.startswith("error: no worker of tests.nobody is there")


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("calculator",), "which method of calculator? amqproxy broadcast calculator METHOD"),
        (("calculator", "add", "--timeout", "inf"), "--timeout is a number of seconds above 0"),
        (("calculator", "add", "--expect", "many"), "--expect"),
        (("calculator", "add", "--exchange", "x"), "there is no option --exchange"),
    ],
)
def test_usage_errors_are_sentences(invoke: Invoke, arguments: tuple[str, ...], why: str) -> None:
    ended = invoke("broadcast", *arguments)
    assert (ended.code, ended.out) == (2, "")
    assert why in ended.err
    assert "Traceback" not in ended.err


def test_an_option_that_cannot_be_is_a_usage_error(invoke: Invoke, embedded_url: str) -> None:
    ended = invoke("broadcast", "calculator", "add", "--expect", "0", "--url", embedded_url)
    assert (ended.code, ended.out) == (2, "")
    assert "expect is more than 0, not 0" in ended.err
