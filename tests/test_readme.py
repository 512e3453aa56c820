"""The README and the examples are true: the code they show is run, and prints what they say."""

from __future__ import annotations

import asyncio
import os
import re
import sys
import textwrap
from pathlib import Path
from socket import gethostname

import pytest

from tests.processes import running

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
EXAMPLES = ROOT / "examples"


def shown(name: str) -> str:
    """A file as the README shows it."""
    found = re.search(rf"```python\n# {re.escape(name)}\n(.*?)```", README, re.DOTALL)
    assert found, f"the README shows no {name}"
    return found[1]


async def python(*args: str, url: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        *args,
        cwd=EXAMPLES,
        env={**os.environ, "AMQPROXY_URL": url, "PYTHONPATH": str(ROOT), "COLUMNS": "200"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


@pytest.mark.parametrize("name", ["calculator.py", "client.py"])
def test_the_readme_shows_the_examples_as_they_are(name: str) -> None:
    assert (EXAMPLES / name).read_text() == shown(name)


async def test_the_first_minute_is_as_the_readme_says(amqp_url: str) -> None:
    promised = re.search(r"\$ python client\.py\n((?:    .*\n)+)", README)
    assert promised
    worker = await python("-m", "amqproxy", "serve", "calculator:Calculator", url=amqp_url)
    try:
        assert worker.stderr is not None
        async with asyncio.timeout(30):
            while b"serving" not in (line := await worker.stderr.readline()):
                assert line, "the worker ended before it served"
            client = await python("client.py", url=amqp_url)
            out, err = await client.communicate()
        assert (client.returncode, err.decode()) == (0, "")
        assert out.decode() == re.sub(r"^    ", "", promised[1], flags=re.MULTILINE)
    finally:
        worker.terminate()
        _, log = await worker.communicate()
    assert worker.returncode == 0, log.decode()


async def test_what_is_more_than_a_call_works_as_it_is_shown(amqp_url: str, tmp_path: Path) -> None:
    (tmp_path / "model.py").write_text(shown("model.py"))
    callers = re.search(r"```python\n(model = mq\.proxy\(Model\)\n.*?)```", README, re.DOTALL)
    assert callers
    (tmp_path / "caller.py").write_text(CALLER.format(textwrap.indent(callers[1], "        ")))
    environment = {"PYTHONPATH": os.pathsep.join((str(ROOT), str(tmp_path)))}
    async with (
        running("-m", "amqproxy", "serve", "model:Model", AMQPROXY_URL=amqp_url, **environment) as first,
        running("-m", "amqproxy", "serve", "model:Model", AMQPROXY_URL=amqp_url, **environment) as second,
    ):
        await first.says("serving model")
        await second.says("serving model")
        async with running(str(tmp_path / "caller.py"), AMQPROXY_URL=amqp_url, **environment) as caller:
            said = (await caller.falls_silent()).splitlines()
            assert await caller.ends() == 0
    workers = {f"reloaded: {gethostname()}.{worker.pid}.1" for worker in (first, second)}
    assert said[0] == "10"
    assert set(said[1:3]) == workers
    assert said[-3:] == ["trained", "['trained', 'trained', 'trained']", "trained"]
    assert said[-4] == "2 of 3"
    assert set(said[3:-3]) <= {f"{done} of 3" for done in range(3)}


CALLER = """\
import asyncio

import amqproxy
from model import Model


async def main():
    async with amqproxy.connect() as mq:
{}

asyncio.run(main())
"""


async def test_what_must_not_fail_works_as_it_is_shown(amqp_url: str, tmp_path: Path) -> None:
    (tmp_path / "savings.py").write_text(shown("savings.py"))
    callers = re.search(r"```python\n(savings = mq\.proxy\(Savings, .*?)```", README, re.DOTALL)
    assert callers
    program = CALLER.format(textwrap.indent(callers[1], "        "))
    (tmp_path / "caller.py").write_text(program.replace("from model import Model", "from savings import Savings"))
    environment = {"PYTHONPATH": os.pathsep.join((str(ROOT), str(tmp_path)))}
    async with running("-m", "amqproxy", "serve", "savings:Savings", AMQPROXY_URL=amqp_url, **environment) as worker:
        await worker.says("serving savings")
        async with running(str(tmp_path / "caller.py"), AMQPROXY_URL=amqp_url, **environment) as caller:
            said = (await caller.falls_silent()).splitlines()
            assert await caller.ends() == 0
    assert said[:2] == ["100", "paid 10"]
    assert said[2].startswith("open ")


async def test_the_example_of_shared_messages_runs(amqp_url: str) -> None:
    async with asyncio.timeout(30):
        program = await python("shared_messages.py", url=amqp_url)
        out, err = await program.communicate()
    assert (program.returncode, err.decode()) == (0, "")
    assert out.decode() == "AddResponse(x=1, y=2, sum=3)\n{'x': 3, 'y': 4, 'sum': 7}\n"


async def test_the_example_of_a_codec_runs(amqp_url: str) -> None:
    async with asyncio.timeout(30):
        program = await python("messagepack.py", url=amqp_url)
        out, err = await program.communicate()
    assert (program.returncode, err.decode()) == (0, "")
    assert out.decode() == "b'\\x89PNG'\nb'\\x00\\x00\\x00\\x00'\n"


async def test_the_example_without_an_event_loop_runs(amqp_url: str) -> None:
    async with asyncio.timeout(30):
        program = await python("blocking.py", url=amqp_url)
        out, err = await program.communicate()
    assert (program.returncode, err.decode()) == (0, "")
    assert out.decode().splitlines() == [
        "3 loaves",
        "minute 1",
        "minute 2",
        "14 loaves were counted",
        "0 loaves, 1 loaves, 2 loaves",
        "each oven bakes 1 loaves",
    ]


def test_every_page_the_readme_points_to_is_there() -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)", README)
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []


async def test_the_example_of_one_way_messages_runs(amqp_url: str) -> None:
    async with asyncio.timeout(30):
        program = await python("one_way.py", url=amqp_url)
        out, err = await program.communicate()
    assert (program.returncode, err.decode()) == (0, "")
    lines = out.decode().splitlines()
    assert lines[0] == "Dear worker,"
    assert lines[-1] == "See you later!"
    assert sorted(lines[1:-1]) == ["1 bottles", "2 bottles", "3 bottles", "Nobody ever served that: no"]


async def test_the_example_of_middleware_runs(amqp_url: str) -> None:
    async with asyncio.timeout(30):
        program = await python("middleware.py", url=amqp_url)
        out, err = await program.communicate()
    assert (program.returncode, err.decode()) == (0, "")
    lines = out.decode().splitlines()
    timed = [line for line in lines if " took " in line]
    assert [line for line in lines if line not in timed] == ["100", "120", "unauthenticated: deposit is not for you"]
    assert [line.partition(" took ")[0] for line in timed] == [
        f"accounts.deposit({{'name': '{name}', 'amount': {amount}}})"
        for name, amount in (("ann", 100), ("ann", 20), ("eve", 1))
    ]
