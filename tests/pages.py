"""Pages that quote programs: `python -m tests.pages` puts the files into them, and a test keeps them there.

A line `<!-- from: examples/ruby/caller.rb -->`, and below it a block of code: the block is the file.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))
QUOTE = re.compile(r"(<!-- from: (?P<file>\S+) -->\n+```\w*\n).*?(^```$)", re.DOTALL | re.MULTILINE)


def filled(page: str) -> str:
    """The text of a page with each quoted file as it is now; ValueError if one is not there."""

    def quote(found: re.Match[str]) -> str:
        file = ROOT / found["file"]
        if not file.is_file():
            raise ValueError(f"{found['file']} is quoted, and not there")
        return found[1] + file.read_text().rstrip("\n") + "\n" + found[3]

    return QUOTE.sub(quote, page)


def main() -> int:
    """Write all pages anew."""
    for page in PAGES:
        before = page.read_text()
        if (after := filled(before)) != before:
            page.write_text(after)
            print(page.relative_to(ROOT))
    return 0


if __name__ == "__main__":
    sys.exit(main())
