"""Progress bars, as a terminal gets them."""

from __future__ import annotations

import asyncio
import os
import pty
import re
import sys
from dataclasses import dataclass

import pytest

from tests.processes import PATIENCE, TESTS, environment

HIDE_CURSOR, SHOW_CURSOR, ERASE_LINE = "\x1b[?25l", "\x1b[?25h", "\x1b[2K"


@dataclass(frozen=True, slots=True)
class Shown:
    """What a program has written."""

    out: str
    """To its stdout, which is a pipe."""
    screen: str
    """To its stderr."""


async def shown(url: str, name: str, what: str, *, terminal: bool = True, term: str = "xterm") -> Shown:
    """Run the program to its end, with a terminal as its stderr, or a pipe."""
    screen, stderr = pty.openpty() if terminal else os.pipe()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "tracking.py", url, name, what),
        cwd=TESTS,
        env=environment(TERM=term),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=stderr,
    )
    os.close(stderr)
    try:
        async with asyncio.timeout(PATIENCE):
            reading = asyncio.create_task(asyncio.to_thread(_read, screen))
            out, _ = await process.communicate()
            return Shown(out.decode(), await reading)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
        os.close(screen)


def _read(file: int) -> str:
    found = b""
    try:
        while more := os.read(file, 65536):
            found += more
    except OSError:  # how a terminal says that nobody is at its other end
        pass
    return found.decode()


async def test_a_bar_is_shown_in_a_terminal_while_the_call_runs(amqp_url: str, service: str) -> None:
    seen = await shown(amqp_url, service, "one")
    assert seen.out == "model is trained\n"  # and nothing of the bar, nor the other way round
    assert "model is trained" not in seen.screen
    assert "training [1/2]" in seen.screen
    assert len(set(re.findall(r" (20|40|60|80)%", seen.screen))) >= 2  # a busy machine leaves some out
    assert re.search(r"\[bold\]model\[/\] \\x1b\[2J\d", seen.screen)  # as it was told, but for what moves the cursor
    assert seen.screen.rindex(SHOW_CURSOR) > seen.screen.rindex(HIDE_CURSOR)
    assert seen.screen.rindex(ERASE_LINE) > seen.screen.rindex("training")


async def test_without_a_total_it_moves_and_shows_no_share(amqp_url: str, service: str) -> None:
    seen = await shown(amqp_url, service, "unknown")
    assert seen.out == "found\n"
    assert "somewhere" in seen.screen
    assert "%" not in seen.screen


async def test_two_calls_have_two_bars_in_one_display(amqp_url: str, service: str) -> None:
    seen = await shown(amqp_url, service, "two")
    assert seen.out == "['first is trained', 'second is trained']\n"
    assert any("[bold]first" in lines and "[bold]second" in lines for lines in seen.screen.split(ERASE_LINE + "\r"))
    assert seen.screen.count(HIDE_CURSOR) == seen.screen.count(SHOW_CURSOR) == 1


@pytest.mark.parametrize("what", ["stream", "leave"])
async def test_the_items_of_a_stream_go_on_below_their_bar(amqp_url: str, service: str, what: str) -> None:
    seen = await shown(amqp_url, service, what)
    assert seen.out.split() == [str(number) for number in range(10 if what == "stream" else 6)]
    assert "rows" in seen.screen
    assert seen.screen.rindex(SHOW_CURSOR) > seen.screen.rindex(HIDE_CURSOR)


async def test_what_the_handler_raises_is_raised_and_the_bar_is_gone(amqp_url: str, service: str) -> None:
    seen = await shown(amqp_url, service, "fail")
    assert seen.out == "raised KeyError: 'lost'\n"
    assert seen.screen.rindex(SHOW_CURSOR) > seen.screen.rindex(HIDE_CURSOR)


@pytest.mark.parametrize("what", ["one", "two", "stream"])
async def test_where_no_terminal_is_nothing_is_shown(embedded_url: str, service: str, what: str) -> None:
    seen = await shown(embedded_url, service, what, terminal=False)
    assert seen.screen == ""
    assert seen.out


async def test_a_terminal_that_cannot_move_its_cursor_shows_nothing(embedded_url: str, service: str) -> None:
    seen = await shown(embedded_url, service, "one", term="dumb")
    assert seen == Shown("model is trained\n", "")
