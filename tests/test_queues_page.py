"""The example of docs/queues.md, run as it is."""

from __future__ import annotations

import asyncio
import json

from tests.test_readme import python


async def test_a_request_that_failed_is_kept_and_tried_again(amqp_url: str) -> None:
    async with asyncio.timeout(30):
        program = await python("dead_letters.py", url=amqp_url)
        out, err = await program.communicate()
    assert program.returncode == 0, err.decode()
    first, letter, *others = out.decode().splitlines()
    assert first == "welcome, ann@example.com"
    assert json.loads(letter)["text"] == "KeyError: 'bob'"
    assert sorted(others) == sorted(["welcome, bob@example.com", '{"requeued":1,"stayed":0}'])  # said by two programs
