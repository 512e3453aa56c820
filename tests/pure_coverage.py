"""Whether each pure module is covered, each line and each branch, by its own test file alone.

`make cover` runs it; it takes two minutes, for each module has a run of its own.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
MODULES = {
    **{
        f"amqproxy/{name}.py": f"tests/unit/test_{name}.py"
        for name in (
            "acks",
            "addresses",
            "alive",
            "blob",
            "bounds",
            "calls",
            "circuit",
            "confirms",
            "contract",
            "deadletter",
            "deadline",
            "deduplication",
            "errors",
            "fields",
            "flow",
            "frames",
            "memory",
            "messages",
            "options",
            "properties",
            "provided",
            "retry",
            "scope",
            "series",
            "shown",
            "shedding",
            "signature",
            "signing",
            "states",
            "tally",
            "topology",
            "trace",
            "url",
            "vigil",
            "wire",
        )
    },
    **{
        f"amqproxy/codecs/{name}.py": f"tests/unit/test_{name}.py"
        for name in ("compression", "crowds", "defaults", "items", "json", "protobuf", "registry", "thrift")
    },
    **{f"amqproxy/codecs/{name}.py": "tests/unit/test_registry.py" for name in ("__init__", "guarded")},
    "amqproxy/codecs/models.py": "tests/unit/test_crowds.py",
    "amqproxy/codecs/protobuf_maps.py": "tests/unit/test_protobuf.py",
    "amqproxy/codecs/protobuf_flaws.py": "tests/unit/test_protobuf.py",
    "amqproxy/codecs/thrift_flaws.py": "tests/unit/test_thrift.py",
    **{
        f"amqproxy/broker/{name}.py": f"tests/unit/broker/test_{name}.py"
        for name in (
            "access",
            "arguments",
            "broker",
            "consumers",
            "deadletter",
            "definitions",
            "direct",
            "errors",
            "exchange",
            "handshake",
            "limits",
            "message",
            "methods",
            "policies",
            "queue",
            "ready",
            "routes",
            "tables",
            "timers",
            "transaction",
            "vhost",
        )
    },
}
TOGETHER = ("session", "channel", "operations")
"""Modules of the broker that only the bytes of a client reach, so that the tests of all cover each of them."""
TESTS_TOGETHER = tuple(f"tests/unit/broker/test_{name}.py" for name in (*TOGETHER, "direct", "transaction"))


def coverage(data: str, *args: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "coverage", args[0], f"--data-file={data}", *args[1:]]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def complete(modules: tuple[str, ...], tests: tuple[str, ...]) -> bool:
    """Run the tests, and say whether they cover the modules."""
    with tempfile.TemporaryDirectory() as folder:
        data = str(Path(folder) / "data")
        run = coverage(data, "run", "--branch", "-m", "pytest", "-q", *tests)
        report = coverage(data, "report", f"--include={','.join(modules)}", "--fail-under=100")
    covered = run.returncode == 0 and report.returncode == 0
    for module in modules:
        print(f"{module:32} {'100%' if covered else 'NOT COVERED'}", flush=True)
    if not covered:
        print(run.stdout if run.returncode else report.stdout)
    return covered


def main() -> int:
    incomplete = [module for module, tests in MODULES.items() if not complete((module,), (tests,))]
    together = complete(tuple(f"amqproxy/broker/{name}.py" for name in TOGETHER), TESTS_TOGETHER)
    return 0 if together and not incomplete else 1


if __name__ == "__main__":
    sys.exit(main())
