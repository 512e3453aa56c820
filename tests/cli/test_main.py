"""The command line as a whole: help, version, completion, and what it does not import."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.cli.conftest import Invoke
from tests.processes import amqproxy, running


def test_help_names_the_commands_and_teaches_by_example(invoke: Invoke) -> None:
    ended = invoke("--help")
    assert ended.code == 0
    for text in (
        "broker",
        "serve",
        "call",
        "send",
        "broadcast",
        "demo",
        "amqproxy serve calculator:Calculator",
        "AMQPROXY_URL",
        "Exit codes",
    ):
        assert text in ended.out


@pytest.mark.parametrize("arguments", [("--help",), ("dead", "--help"), ("--version",)], ids=" ".join)
def test_help_that_nobody_reads_ends_as_other_commands_do(arguments: tuple[str, ...]) -> None:
    reads, writes = os.pipe()
    os.close(reads)
    try:
        command = (sys.executable, "-m", "amqproxy", *arguments)
        ended = subprocess.run(command, stdout=writes, stderr=subprocess.PIPE, timeout=60, check=False)
    finally:
        os.close(writes)
    assert (ended.returncode, ended.stderr) == (141, b"")


@pytest.mark.parametrize("command", ["serve", "call", "send", "broadcast", "broker", "demo", "generate"])
def test_each_command_has_examples_and_exit_codes(invoke: Invoke, command: str) -> None:
    ended = invoke(command, "--help")
    assert ended.code == 0
    assert "Examples:" in ended.out
    assert ended.out.count(f"  amqproxy {command} ") >= 2
    assert "Exit codes" in ended.out


def test_without_arguments_help_is_shown(invoke: Invoke) -> None:
    for arguments in ((), ("serve",), ("call",), ("send",), ("broadcast",)):
        ended = invoke(*arguments)
        assert ended.code == 2
        assert "Usage:" in ended.out + ended.err


def test_version_is_printed(invoke: Invoke) -> None:
    ended = invoke("--version")
    assert ended.code == 0
    assert ended.out.startswith("amqproxy")


async def test_shell_completion_works() -> None:
    for typed, commands in (("se", ["serve", "send"]), ("bro", ["broadcast", "broker"]), ("ca", ["call"])):
        variables = {"_AMQPROXY_COMPLETE": "complete_bash", "COMP_WORDS": f"amqproxy {typed}", "COMP_CWORD": "1"}
        ended = await amqproxy(**variables)
        assert ended.out.split() == commands


async def test_help_is_quick_because_it_imports_little() -> None:
    script = "import amqproxy.cli, sys; print(*sorted(sys.modules))"
    async with running("-c", script) as process:
        assert await process.ends() == 0
        imported = (await process.falls_silent()).split()
    assert "typer" in imported
    heavy = {"aio_pika", "aiormq", "rich.console", "amqproxy.broker", "amqproxy.testing", "amqproxy.supervisor"}
    assert not heavy & set(imported)


async def test_module_is_the_same_as_the_command() -> None:
    async with running("-m", "amqproxy", "no-such-command") as process:
        assert await process.ends() == 2
        assert "No such command 'no-such-command'" in await process.falls_silent()
