"""What the tests know of a program in another language: how it is started, and which encodings it has at hand."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.conftest import EMBEDDED, RABBITMQ

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
CURE = "make clients does that"
BROKERS = (EMBEDDED, RABBITMQ)
BRING_YOUR_OWN = {"go"}
"""Languages that `make clients` does not install: Debian's own Go may be too old."""

JSON_FORMS = ("json", "snappy-json", "zstd-json", "gzip-json", "lz4-json")
"""Encodings in which plain parameters travel."""


def always() -> bool:
    """Nothing needs to be installed beside the language."""
    return True


@dataclass(frozen=True, slots=True)
class Peer:
    """A caller and a worker that are written for another client library, in examples/."""

    name: str
    """As the table in docs/interop.md calls it: "Ruby, bunny"."""
    caller: tuple[str, ...] | None
    """Its command, to be followed by URL, SERVICE and ENCODING. It prints `1 + 2 = 3` and `1 / 0: ` with the text."""
    worker: tuple[str, ...] | None
    """Its command, to be followed by URL and SERVICE. It prints `ready` when it consumes, and ends with SIGTERM."""
    encodings: tuple[str, ...]
    """What it reads and writes."""
    language: str
    """The program that must be on the machine before anything can be installed."""
    installed: Callable[[], bool] = field(default=always, compare=False)
    """Whether its libraries are there."""
    elsewhere: Mapping[str, tuple[str, ...]] = field(default_factory=dict, hash=False)
    """Encodings, by role, that tests of its own are about."""
    brokers: tuple[str, ...] = BROKERS
    """Where it is tested."""
    note: str = ""
    """Why it lacks an encoding or a role, for the table in docs/interop.md."""

    @property
    def slug(self) -> str:
        """Its name in the ids of tests."""
        return "-".join(self.name.lower().replace(",", "").split())

    def require(self) -> None:
        """Skip the test without the peer; in CI only where its language is one of those to bring."""
        there = shutil.which(self.language) is not None
        if not there and self.language in BRING_YOUR_OWN:
            pytest.skip(f"{self.language} is not on this machine, and so {self.name} is left out")
        if not there or not self.installed():
            (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(f"{self.name} is not installed: {CURE}")
