"""docs/security.md names a test for each rule, and each of these tests is there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
PAGE = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
RULES = [f"S{number:02}" for number in range(1, 29) if number != 27]
ROW = re.compile(r"^\| (S\d\d) \| [^|]+ \| (.+) \|$", re.MULTILINE)


def named() -> dict[str, list[str]]:
    return {rule: re.findall(r"`(tests/[^`]+)`", tests) for rule, tests in ROW.findall(PAGE)}


def names_in(path: Path) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {one.name for one in ast.walk(tree) if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef)}


def test_each_rule_has_a_test() -> None:
    assert sorted(named()) == RULES
    assert all(named().values())


def test_each_test_that_is_named_is_there() -> None:
    missing = []
    for rule, names in named().items():
        for name in names:
            file, _, test = name.partition("::")
            path = ROOT / file
            if not path.exists() or (test and test not in names_in(path)):
                missing.append(f"{rule}: {name}")
    assert missing == []


def test_each_heading_that_is_linked_to_is_there() -> None:
    headings = {
        re.sub(r"[^a-z0-9 -]", "", text.lower()).replace(" ", "-") for text in re.findall(r"^#+ (.+)$", PAGE, re.M)
    }
    assert set(re.findall(r"\]\(#([^)]+)\)", PAGE)) <= headings
    assert (ROOT / "SECURITY.md").exists()


def test_weaknesses_are_reported_where_there_is_somebody_to_read_them() -> None:
    """The package names no person and no address, so the policy must not lead to one."""
    policy = " ".join((ROOT / "SECURITY.md").read_text(encoding="utf-8").split())
    assert "by the private vulnerability report of the repository" in policy
    assert not re.search(r"mail|@|pyproject", policy)
