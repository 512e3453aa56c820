"""Whether each pure module is covered, each line and each branch, by its own test file alone.

`make cover` runs it; it takes most of a minute, for each module has a run of its own.
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
            "calls",
            "contract",
            "deadline",
            "errors",
            "fields",
            "frames",
            "options",
            "properties",
            "signature",
            "topology",
            "url",
            "wire",
        )
    },
    "amqproxy/codecs/json.py": "tests/unit/test_json.py",
}


def coverage(data: str, *args: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "coverage", args[0], f"--data-file={data}", *args[1:]]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def main() -> int:
    incomplete = 0
    for module, tests in MODULES.items():
        with tempfile.TemporaryDirectory() as folder:
            data = str(Path(folder) / "data")
            run = coverage(data, "run", "--branch", "-m", "pytest", "-q", tests)
            report = coverage(data, "report", f"--include={module}", "--fail-under=100")
        complete = run.returncode == 0 and report.returncode == 0
        incomplete += not complete
        print(f"{module:32} {'100%' if complete else 'NOT COVERED'}", flush=True)
        if not complete:
            print(run.stdout if run.returncode else report.stdout)
    return 1 if incomplete else 0


if __name__ == "__main__":
    sys.exit(main())
