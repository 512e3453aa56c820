"""The examples of progress and of deadlines, run as they are."""

from __future__ import annotations

import asyncio
import re

from tests.test_readme import python

STEPS = [f"{done} of 5: training" for done in range(5)]
BEHIND = ["5 of 5: saving", "a model of 5 rounds", "a model of 3 rounds", "a model of 10 rounds"]
DEADLINES = """\
the warehouse has 5.0 s left
tea is reserved
4.5 s are left for another order
the warehouse has 30.0 s left
the warehouse has 4.5 s left
coffee is reserved
the warehouse has 30.0 s left
the warehouse has 0.5 s left
in vain: orders.place: no answer within the time that was left to it
"""


async def output(name: str, url: str) -> list[str]:
    """The lines that an example prints."""
    async with asyncio.timeout(30):
        program = await python(name, url=url)
        out, err = await program.communicate()
    assert (program.returncode, err.decode()) == (0, "")
    return out.decode().splitlines()


async def test_the_example_of_progress_runs(amqp_url: str) -> None:
    lines = await output("progress.py", amqp_url)
    assert lines[-4:] == BEHIND
    assert 1 < len(lines[:-4]) <= len(STEPS)  # a busy machine leaves one out
    assert set(lines[:-4]) <= set(STEPS)


async def test_the_example_of_deadlines_runs(amqp_url: str) -> None:
    assert rounded(await output("deadlines.py", amqp_url)) == rounded(DEADLINES.splitlines())


def rounded(lines: list[str]) -> list[str]:
    """Without tenths of seconds and what follows a semicolon, in any order: a busy machine takes its time."""
    whole = [re.sub(r"\d+\.\d s", lambda time: f"{round(float(time[0][:-2]))} s", line) for line in lines]
    return sorted(line.partition(";")[0] for line in whole)
