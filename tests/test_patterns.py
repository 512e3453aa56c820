"""The examples that docs/patterns.md quotes, run as they are."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from tests.test_readme import python

SAID = {
    "streams.py": ["count has ended", "25", "2", "6", "10", "14", "18"],
    "files.py": ["10240000 bytes are stored", "True"],
    "broadcast.py": [
        "black",
        "RemoteError: no tea here",
        "3 entries in 2 caches",
        "cola is sweet",
        "2 entries are left",
    ],
    "batches.py": ["999000", "3 3.0", "-1 has no root"],
    "reliable.py": [
        "balance: 105",
        "balance: 75",
        "price: 42",
        *["Unroutable executed: no"] * 3,
        "Overloaded executed: no",
    ],
    "cancelling.py": ["too late", "write has stopped", "compute has stopped"],
}


@pytest.mark.parametrize("name", SAID)
async def test_an_example_says_what_it_should(name: str, amqp_url: str) -> None:
    async with asyncio.timeout(30):
        program = await python(name, url=amqp_url)
        out, err = await program.communicate()
    assert (program.returncode, err.decode()) == (0, "")
    said = out.decode().splitlines()
    assert Counter(said) == Counter(SAID[name])  # what workers say and what callers say has no order of its own
