"""What turns a generated file into a program: the languages, their libraries, and their judges of style."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

HERE = Path(__file__).parent
CLIENTS = HERE.parent / "clients"
DRIVERS = HERE / "drivers"
CURE = "make clients does that"

EACH, ALL = "EACH", "ALL"


@dataclass(frozen=True, slots=True)
class Toolchain:
    """One language."""

    name: str
    """As the command calls it."""
    language: str
    """The program that must be on the machine before anything can be installed."""
    others: Mapping[str, Path] = field(hash=False)
    """What belongs beside the clients: the driver, and what names the libraries."""
    checks: tuple[tuple[str, ...], ...]
    """Commands that succeed without a word if the files are as they should be, and build the program. `EACH` in them
    stands for each client in turn, `ALL` for all."""
    program: tuple[str, ...]
    """To be followed by URL and MODE."""
    needs: tuple[Path, ...] = ()
    """What `install.sh` puts there."""
    probe: tuple[str, ...] = ()
    """A command that succeeds if the library is there, where that has no place of ours."""

    def commands(self, clients: list[str]) -> Iterator[list[str]]:
        """The checks of these clients."""
        for check in self.checks:
            for each in clients if EACH in check else [""]:
                spread = [clients if word == ALL else [word.replace(EACH, each)] for word in check]
                yield [word for words in spread for word in words]

    def require(self) -> None:
        """Skip the test without the language; in CI fail if its libraries alone are missing."""
        if shutil.which(self.language) is None:
            pytest.skip(f"{self.language} is not on this machine, and so clients in {self.name} are left out")
        if not self._installed():
            text = f"what clients in {self.name} need is not installed: {CURE}"
            (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(text)

    @functools.cache  # noqa: B019  # there are four
    def _installed(self) -> bool:
        probed = not self.probe or subprocess.run(self.probe, capture_output=True, check=False).returncode == 0
        return probed and all(path.exists() for path in self.needs)


_NODE_MODULES = CLIENTS / "node/node_modules"
_JARS = os.pathsep.join([str(CLIENTS / "java/lib/*"), str(HERE / "java/lib/*")])
TOOLCHAINS = [
    Toolchain(
        "ruby",
        "ruby",
        {"driver.rb": DRIVERS / "driver.rb"},
        (("ruby", "-wc", EACH),),
        ("ruby", "-w", "driver.rb"),
        probe=("ruby", "-rbunny", "-e", ""),
    ),
    Toolchain(
        "java",
        "java",
        {"Driver.java": DRIVERS / "Driver.java"},
        (("javac", "-Xlint:all", "-Werror", "-encoding", "UTF-8", "-d", "classes", "-cp", _JARS, "Driver.java", ALL),),
        ("java", "-cp", f"classes{os.pathsep}{_JARS}", "Driver"),
        needs=(CLIENTS / "java/lib/Scenarios.class", HERE / "java/lib"),
    ),
    Toolchain(
        "node",
        "node",
        {"driver.mjs": DRIVERS / "driver.mjs", "node_modules": _NODE_MODULES},
        (("node", "--check", EACH),),
        ("node", "driver.mjs"),
        needs=(_NODE_MODULES / "amqplib",),
    ),
    Toolchain(
        "go",
        "go",
        {"driver.go": DRIVERS / "driver.go", "go.mod": CLIENTS / "go/go.mod", "go.sum": CLIENTS / "go/go.sum"},
        (("gofmt", "-d", "."), ("go", "vet", "./..."), ("go", "build", "-o", "driver", ".")),
        ("./driver",),
        needs=(CLIENTS / "go/client",),
    ),
]
