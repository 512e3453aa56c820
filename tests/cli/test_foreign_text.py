"""What others have sent, in a terminal: it moves no cursor, sets no title, and turns no letters round."""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import AsyncIterator
from subprocess import PIPE

import pytest
from pamqp.commands import Basic

import amqproxy
from tests.processes import amqproxy as command
from tests.terminal import ESCAPES, terminal

EVIL = "a\x1b]0;pwned\x07\x1b[2J\x9b31m\u202eevil\x7f\nerror: forged"
HARMFUL = ("\x1b]", "\x1b[2J", "\x07", "\x9b", "\u202e", "\x7f", "\nerror: forged")


class Evil:
    """A service that is no friend of ours."""

    async def raises(self) -> int:
        raise ValueError(EVIL)

    async def tells(self) -> str:
        return EVIL

    async def streams(self) -> AsyncIterator[str]:
        yield EVIL


@pytest.fixture
async def evil(embedded_url: str) -> AsyncIterator[tuple[str, str]]:
    """The broker's URL and the service's name; two dead letters that somebody else put there."""
    name = f"tests.{secrets.token_hex(4)}"
    headers = {"x-dead-kind": EVIL, "x-dead-reason": EVIL, EVIL: EVIL}
    async with amqproxy.connect(embedded_url) as mq, mq.serve(Evil(), name=name, dead_letters=True):
        channel = await (await mq._live_connection().link())._channel()
        for kind in (EVIL, "failed"):
            properties = Basic.Properties(content_type=f"{name}.tells", headers={**headers, "x-dead-kind": kind})
            body = json.dumps([EVIL], ensure_ascii=False).encode()
            await channel.basic_publish(body, routing_key=f"{name}.dead", properties=properties)
        yield embedded_url, name


@pytest.mark.parametrize(
    ("words", "code", "seen"),
    [
        ("call NAME raises", 1, r"error: ValueError: a\x1b]0;pwned\x07\x1b[2J"),
        ("call NAME raises --json", 1, r"\u001b[2J\u009b31m\u202eevil\u007f"),
        ("call NAME tells", 0, r"\u001b[2J\u009b31m\u202eevil\u007f"),
        ("call NAME tells --json", 0, r"\u001b[2J\u009b31m\u202eevil\u007f"),
        ("call NAME streams", 0, r"\u001b[2J\u009b31m\u202eevil\u007f"),
        ("broadcast NAME tells", 0, r"\u001b[2J\u009b31m\u202eevil\u007f"),
        ("broadcast NAME tells --json", 0, r"\u001b[2J\u009b31m\u202eevil\u007f"),
        ("broadcast NAME raises", 1, r"ValueError: a\x1b]0;pwned\x07"),
        ("dead list NAME", 0, r"a\x1b]0;pwned\x07"),
        ("dead list NAME --json", 0, r"\u001b[2J\u009b31m\u202eevil\u007f"),
        ("dead show NAME 2", 0, r"\u001b[2J\u009b31m\u202eevil\u007f"),
        ("dead show NAME 2 --json", 0, r"\u001b[2J\u009b31m\u202eevil\u007f"),
        ("dead show NAME 2 --body", 0, r"\u202eevil"),
        ("dead requeue NAME 1 --reason failed", 1, "error: letter 1 in"),
        ("dead requeue NAME 1 2 --reason failed", 1, "letter 1 in"),
    ],
)
async def test_foreign_text_is_harmless_in_a_terminal(evil: tuple[str, str], words: str, code: int, seen: str) -> None:
    url, name = evil
    arguments = words.replace("NAME", name).split()
    async with terminal("-m", "amqproxy", *arguments, "--url", url, COLUMNS="200") as screen:
        assert await screen.ends() == code
    said = screen.raw.decode().replace("\r\n", "\n")
    assert seen in screen.shown
    assert [each for each in HARMFUL if each in said] == []
    assert re.sub("[\r\n]", "", ESCAPES.sub("", said)).isprintable()


async def test_what_is_piped_is_as_it_was_sent(evil: tuple[str, str]) -> None:
    url, name = evil
    told = await command("call", name, "tells", AMQPROXY_URL=url)
    assert told.out == '"' + EVIL.translate({27: r"\u001b", 7: r"\u0007", 10: r"\n"}) + '"\n'
    failed = await command("call", name, "raises", "--json", AMQPROXY_URL=url)
    assert "\x9b31m\u202eevil\x7f" in failed.err
    shown = await command("dead", "show", name, "2", "--body", AMQPROXY_URL=url)
    assert shown.out == json.dumps([EVIL], ensure_ascii=False)


async def test_only_the_stream_that_is_a_terminal_is_escaped(evil: tuple[str, str]) -> None:
    url, name = evil
    async with terminal("-m", "amqproxy", "call", name, "tells", "--url", url, stdout=PIPE) as screen:
        assert screen.process.stdout is not None
        out = await screen.process.stdout.read()
        assert await screen.ends() == 0
    assert json.loads(out) == EVIL
    assert "\u202e".encode() in out
