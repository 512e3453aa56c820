"""`amqproxy dead` as it is typed, with a worker in a process of its own."""

from __future__ import annotations

import asyncio
import json
import secrets
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest
from pamqp.commands import Basic

import amqproxy
from tests.cli.conftest import Invoke
from tests.processes import Ended, Running, running
from tests.processes import amqproxy as command
from tests.terminal import terminal


@dataclass(frozen=True)
class Service:
    """A service whose worker runs, and three one-way requests of which all have failed."""

    name: str
    url: str
    worker: Running

    async def dead(self, verb: str, *arguments: str) -> Ended:
        return await command("dead", verb, self.name, *arguments, AMQPROXY_URL=self.url)

    def typed(self, verb: str, *arguments: str) -> tuple[str, ...]:
        return ("-m", "amqproxy", "dead", verb, self.name, *arguments, "--url", self.url)

    async def letters(self, *arguments: str) -> list[dict[str, Any]]:
        ended = await self.dead("list", *arguments)
        assert (ended.code, ended.err) == (0, "")
        return [json.loads(line) for line in ended.out.splitlines()]


class Idle:
    """A service to which nothing comes."""

    async def rest(self) -> None: ...


@pytest.fixture
async def service(amqp_url: str) -> AsyncIterator[Service]:
    name = f"tests.{secrets.token_hex(4)}"
    async with (
        running("-m", "amqproxy", "serve", "typed:Typed", "--name", name, "--quorum", AMQPROXY_URL=amqp_url) as worker,
        amqproxy.connect(amqp_url) as mq,
    ):
        await worker.says(f"serving {name}")
        for n in range(3):
            await mq.sender(name).divide(n, 0)
            await worker.says(f"a request goes to {name}.dead: {name}.divide (message-id ", times=n + 1)
        await worker.says(f" by zero (executed: yes); `amqproxy dead list {name}` shows it")
        await mq.proxy(name).pid()
        link = await mq._live_connection().link()
        async with asyncio.timeout(10):
            while await link.queue_counts(f"{name}.dead") != (3, 0):  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        yield Service(name, amqp_url, worker)
        channel = await link._channel()
        await channel.queue_delete(name)
        await channel.queue_delete(f"{name}.dead")


async def test_letters_are_lines_of_json(service: Service) -> None:
    letters = await service.letters()
    assert [letter["place"] for letter in letters] == [1, 2, 3]
    for letter in letters:
        assert set(letter) == {
            *("place", "id", "reason", "text", "queue", "worker", "died", "message", "call", "bytes"),
        }
        assert (letter["reason"], letter["call"], letter["queue"]) == ("failed", False, service.name)
        assert letter["text"].startswith("ZeroDivisionError: ")
        assert f".{service.worker.pid}." in letter["worker"]
        assert letter["message"] == f"{service.name}.divide"
    assert len({letter["id"] for letter in letters}) == 3
    assert await service.letters("--limit", "1") == letters[:1]
    assert await service.letters("--reason", "expired") == []
    assert await service.letters() == letters


async def test_one_is_shown_whole_by_its_place_or_its_id(service: Service) -> None:
    letters = await service.letters()
    second = await service.dead("show", "2")
    by_id = await service.dead("show", letters[2]["id"])
    body = await service.dead("show", "2", "--body")
    assert (second.code, second.err) == (0, "")
    shown = json.loads(second.out)
    assert {name: shown[name] for name in letters[1]} == letters[1]
    assert shown["body"] == [1, 0]
    assert shown["headers"]["x-dead-kind"] == "failed"
    assert shown["properties"]["content_type"] == f"{service.name}.divide"
    assert json.loads(by_id.out)["body"] == [2, 0]
    assert (body.code, body.out) == (0, "[1,0]")


async def test_what_is_given_back_is_tried_again(service: Service) -> None:
    ended = await service.dead("requeue", "2")
    assert (ended.code, json.loads(ended.out), ended.err) == (0, {"requeued": 1, "stayed": 0}, "")
    await service.worker.says("a request goes to", times=4)
    ended = await service.dead("requeue", "--reason", "failed", "--to", f"{service.name}.nowhere")
    assert ended.code == 1
    assert "there is no queue" in ended.err and "dead letters still" in ended.err
    assert len(await service.letters()) == 3


async def test_what_may_have_run_goes_back_only_if_that_is_meant(service: Service) -> None:
    async with amqproxy.connect(service.url) as mq:
        channel = await (await mq._live_connection().link())._channel()
        properties = Basic.Properties(content_type=f"{service.name}.divide", headers={"x-dead-kind": "in_doubt"})
        await channel.basic_publish(b"[4,2]", routing_key=f"{service.name}.dead", properties=properties)
    ended = await service.dead("requeue")
    assert (ended.code, json.loads(ended.out)) == (0, {"requeued": 3, "stayed": 0})
    await service.worker.says("a request goes to", times=6)
    assert [letter["reason"] for letter in await service.letters("--reason", "in_doubt")] == ["in_doubt"]
    ended = await service.dead("requeue", "--reason", "in_doubt")
    assert (ended.code, json.loads(ended.out)) == (0, {"requeued": 1, "stayed": 0})
    assert await service.letters("--reason", "in_doubt") == []


async def test_what_nobody_knows_who_put_there_goes_back_only_if_that_is_meant(service: Service) -> None:
    async with amqproxy.connect(service.url) as mq:
        channel = await (await mq._live_connection().link())._channel()
        for kind in ({}, {"x-dead-kind": "boredom"}):
            properties = Basic.Properties(content_type=f"{service.name}.divide", headers={**kind})
            await channel.basic_publish(b"[4,2]", routing_key=f"{service.name}.dead", properties=properties)
    ended = await service.dead("requeue")
    assert (ended.code, json.loads(ended.out)) == (0, {"requeued": 3, "stayed": 0})
    await service.worker.says("a request goes to", times=6)
    assert [letter["reason"] for letter in await service.letters("--reason", "unknown")] == ["unknown"] * 2
    ended = await service.dead("requeue", "1")
    assert (ended.code, json.loads(ended.out)) == (0, {"requeued": 1, "stayed": 0})
    ended = await service.dead("requeue", "--reason", "unknown")
    assert (ended.code, json.loads(ended.out)) == (0, {"requeued": 1, "stayed": 0})
    assert await service.letters("--reason", "unknown") == []


async def test_letters_are_dropped_if_that_is_meant(service: Service) -> None:
    ended = await service.dead("purge")
    assert (ended.code, ended.out) == (2, "")
    assert "where nobody can be asked, say --yes" in ended.err
    ended = await service.dead("purge", "1", "--yes")
    assert (ended.code, json.loads(ended.out)) == (0, {"purged": 1})
    ended = await service.dead("purge", "--yes", "--json")
    assert (ended.code, json.loads(ended.out)) == (0, {"purged": 2})
    assert await service.letters() == []


MEASURED = """
import sys
from amqproxy.cli import app
try:
    app(sys.argv[1:])
finally:
    print(next(line for line in open("/proc/self/status") if line.startswith("VmHWM:")).split()[1])
"""
"""The command, which tells at its end how many KiB it has held at most."""


@pytest.mark.skipif(sys.platform != "linux", reason="measured by Linux")
async def test_a_list_of_large_letters_does_not_hold_their_bodies(embedded_url: str) -> None:
    name, size = f"tests.{secrets.token_hex(4)}", 8_000_000
    async with amqproxy.connect(embedded_url) as mq, mq.serve(Idle(), name=name, dead_letters=True):
        channel = await (await mq._live_connection().link())._channel()
        for _ in range(10):
            await channel.basic_publish(bytes(size), routing_key=f"{name}.dead")
    most = []
    for limit in ("1", "10"):
        arguments = ("dead", "list", name, "--limit", limit, "--url", embedded_url)
        async with running("-c", MEASURED, *arguments) as listing:
            *lines, held = (await listing.falls_silent()).splitlines()
        assert [json.loads(line)["bytes"] for line in lines] == [size] * int(limit)
        most.append(int(held) * 1024)
    assert most[1] - most[0] < 4 * size


async def test_in_a_terminal_there_is_a_table_and_a_question(service: Service) -> None:
    async with terminal(*service.typed("list", "--limit", "2"), COLUMNS="120") as screen:
        assert await screen.ends() == 0
        shown = screen.shown
    for text in ("message", "died", "reason", "why", "failed", "ZeroDivisionError", "s ago", "2 of 3 in"):
        assert text in shown
    async with terminal(*service.typed("show", "3"), COLUMNS="120") as screen:
        assert await screen.ends() == 0
        assert '"x-dead-reason"' in screen.shown
    async with terminal(*service.typed("purge"), COLUMNS="120") as screen:
        await screen.shows("for good? [y/N]")
        screen.types(b"n\n")
        assert await screen.ends() == 1
    assert len(await service.letters()) == 3
    async with terminal(*service.typed("purge"), COLUMNS="120") as screen:
        await screen.shows("for good? [y/N]")
        screen.types(b"y\n")
        assert await screen.ends() == 0
        assert "3 dead letters dropped" in screen.shown
    async with terminal(*service.typed("list"), COLUMNS="120") as screen:
        assert await screen.ends() == 0
        assert f"{service.name}.dead is empty" in screen.shown


async def test_what_is_not_there_is_said(service: Service) -> None:
    for verb, more in (("show", ()), ("requeue", ()), ("purge", ("--yes",))):
        ended = await service.dead(verb, "17", *more)
        assert (ended.code, ended.out) == (1, "")
        assert "there is no letter" in ended.err and "17" in ended.err
    for verb, more in (("requeue", ()), ("purge", ("--yes",))):
        ended = await service.dead(verb, "1", "--reason", "expired", *more)
        assert (ended.code, ended.out) == (1, "")
        assert f"error: letter 1 in {service.name}.dead died of failed, and not of expired\n" in ended.err
    ended = await command("dead", "list", "tests.nobody", AMQPROXY_URL=service.url)
    assert ended.code == 1
    assert "there is no queue 'tests.nobody.dead'" in ended.err
    ended = await command("dead", "list", "tests.nobody", "--json", AMQPROXY_URL=service.url)
    assert (ended.code, json.loads(ended.err)["type"]) == (1, "Unroutable")
    assert "executed" not in json.loads(ended.err)  # for nothing is called


async def test_what_is_not_there_is_said_beside_what_is(service: Service) -> None:
    ended = await service.dead("requeue", "1", "99")
    assert (ended.code, json.loads(ended.out)) == (1, {"requeued": 1, "stayed": 0})
    assert ended.err == f"there is no letter 99 in {service.name}.dead, or another command reads them now\n"
    await service.worker.says("a request goes to", times=4)
    ended = await service.dead("purge", "1", "98", "99", "--yes")
    assert (ended.code, json.loads(ended.out)) == (1, {"purged": 1})
    assert ended.err == f"there is no letter 98 or 99 in {service.name}.dead, or another command reads them now\n"


@pytest.mark.parametrize(
    ("arguments", "code", "why"),
    [
        (("list", "mailer", "--reason", "boredom"), 2, "there is no reason 'boredom'; there are failed, refused"),
        (("requeue", "mailer", "--limit", "0"), 2, "--limit"),
        (("bury", "mailer"), 2, "No such command 'bury'"),
        (("list", "mailer", "--url", "http://x"), 2, "a broker URL starts with amqp://"),
        (("list", "mailer"), 3, "nowhere.invalid"),
    ],
)
def test_what_cannot_be_is_a_sentence(invoke: Invoke, arguments: tuple[str, ...], code: int, why: str) -> None:
    ended = invoke("dead", *arguments)
    assert (ended.code, ended.out) == (code, "")
    assert why in ended.err
    assert "Traceback" not in ended.err


@pytest.mark.parametrize("verb", ["list", "show", "requeue", "purge"])
def test_help_teaches(invoke: Invoke, verb: str) -> None:
    ended = invoke("dead", verb, "--help")
    assert ended.code == 0
    assert f"amqproxy dead {verb} mailer" in ended.out
    assert "Exit codes" in ended.out
    assert verb in invoke("dead", "--help").out


def test_the_shell_completes_verbs_and_reasons(invoke: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    def completed(words: str) -> list[str]:
        monkeypatch.setenv("_AMQPROXY_COMPLETE", "complete_bash")
        monkeypatch.setenv("COMP_WORDS", words)
        monkeypatch.setenv("COMP_CWORD", str(len(words.split(" ")) - 1))
        return invoke().out.split()

    assert completed("amqproxy dead re") == ["requeue"]
    assert completed("amqproxy dead list x --reason re") == ["refused", "rejected"]
