"""The yardstick: a caller and a worker in C on librabbitmq, or a publisher, compiled for the occasion."""

import os
import shlex
import shutil
import subprocess
from pathlib import Path

SOURCES = Path(__file__).parent
COMPILE_TIMEOUT = 60.0

PROBE = "#include <amqp.h>\n#include <amqp_tcp_socket.h>\nint main(void) { return amqp_version() == 0; }\n"


class SkippedError(Exception):
    """A contender cannot run here; the text says what is missing, and the cure."""


def build(directory: Path) -> tuple[str, str]:
    """Compile both programs into `directory` and return their paths, caller first.

    Raises SkippedError without a C compiler or librabbitmq, RuntimeError when our source does not compile.
    """
    compiler = _compiler(directory)
    return _program(compiler, directory, "pair_caller"), _program(compiler, directory, "pair_worker")


def build_publisher(directory: Path) -> str:
    """Compile the publisher with confirms, and return its path; raises as `build` does."""
    return _program(_compiler(directory), directory, "publisher")


def _compiler(directory: Path) -> list[str]:
    compiler = shlex.split(os.environ.get("CC", "cc"))
    if shutil.which(compiler[0]) is None:
        raise SkippedError(f"no C compiler ({compiler[0]}) on the PATH; Debian: apt-get install gcc libc6-dev")
    probe = directory / "probe.c"
    probe.write_text(PROBE, encoding="ascii")
    if _compile(compiler, probe, directory / "probe").returncode != 0:
        raise SkippedError("librabbitmq or its headers are not installed; Debian: apt-get install librabbitmq-dev")
    return compiler


def _program(compiler: list[str], directory: Path, name: str) -> str:
    result = _compile(compiler, SOURCES / f"{name}.c", directory / name)
    if result.returncode != 0:
        raise RuntimeError(f"{name}.c does not compile:\n{result.stderr}")
    return str(directory / name)


def _compile(compiler: list[str], source: Path, program: Path) -> "subprocess.CompletedProcess[str]":
    command = [*compiler, "-O2", "-Wall", "-Wextra", "-o", str(program), str(source), "-lrabbitmq"]
    return subprocess.run(command, capture_output=True, text=True, timeout=COMPILE_TIMEOUT, check=False)
