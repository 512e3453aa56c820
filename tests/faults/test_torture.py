"""A short random run; `make torture` makes long ones."""

from __future__ import annotations

import json
import secrets
from pathlib import Path

from tests.faults.torture import Torture

SECONDS = 20.0
"""In which a dozen things break."""


async def test_nothing_is_lost_and_nothing_hangs_whatever_breaks(tmp_path: Path) -> None:
    report = await Torture(SECONDS, secrets.randbelow(10**6), tmp_path, workers=2, rate=50.0, quiet=True).run()
    assert not report.violations, f"{report}"
    assert report.faults.total() >= 3
    assert json.loads(report.json())["faults"] == report.faults
    assert sum(outcomes["ok"] for outcomes in report.calls.values()) > 100
