"""The session under atheris, which finds its way by coverage: run by `python -m tests.fuzz`.

An input is where to begin, where to cut, and a stream: byte 0 says after which of the openings, byte 1 how many of the
next bytes are places to cut, scaled to the length of what follows.
"""

from __future__ import annotations

import importlib
import sys
import tempfile
from pathlib import Path
from typing import Any

OPENINGS = 4


def run(seconds: int) -> None:
    """Fuzz for so long; ends the process, with an error if something was found."""
    atheris: Any = importlib.import_module("atheris")
    with atheris.instrument_imports(include=["amqproxy"]):  # only what is imported in here is watched
        from tests.fuzz import arena, seeds
        from tests.unit.broker.wire import PROTOCOL_HEADER

    openings = (b"", PROTOCOL_HEADER, seeds.OPEN, seeds.OPEN + seeds.PUBLISH)
    assert len(openings) == OPENINGS

    def play(data: bytes) -> None:
        before, cuts, stream = parts(data, openings)
        whole = arena.play([before + stream])
        if len(before) >= len(PROTOCOL_HEADER):
            assert arena.play(arena.cut(before + stream, cuts)) == whole, "it makes a difference how the bytes are cut"

    corpus = Path(tempfile.mkdtemp(prefix="amqproxy-fuzz-"))
    for number, seed in enumerate(seeds.SEEDS.values()):
        for opening in range(OPENINGS):
            if seed.startswith(openings[opening]) and len(seed) < 10_000:
                rest = seed[len(openings[opening]) :]
                (corpus / f"{number}-{opening}").write_bytes(bytes((opening, 3, 10, 100, 200)) + rest)
    print(f"atheris, {seconds} s, corpus in {corpus}", file=sys.stderr)
    atheris.Setup(
        [sys.argv[0], f"-max_total_time={seconds}", "-max_len=8000", "-len_control=0", "-timeout=20", str(corpus)], play
    )
    atheris.Fuzz()


def parts(data: bytes, openings: tuple[bytes, ...]) -> tuple[bytes, list[int], bytes]:
    """What comes first, where to cut, and the stream."""
    before = openings[data[0] % len(openings)] if data else b""
    count = data[1] % 8 if len(data) > 1 else 0
    stream = data[2 + count :]
    whole = len(before) + len(stream)
    return before, [place * whole // 255 for place in data[2 : 2 + count]], stream
