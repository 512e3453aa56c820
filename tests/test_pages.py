"""What the pages show is what is there: quoted programs, links, and the table of who was tested with whom."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.pages import PAGES, ROOT, filled

LINK = re.compile(r"\]\((?!https?:|#|mailto:)([^)#\s]+)")


def name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_a_page_quotes_programs_as_they_are(page: Path) -> None:
    assert page.read_text() == filled(page.read_text()), "python -m tests.pages (or make pages) writes them anew"


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_what_a_page_links_to_is_there(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    assert [link for link in LINK.findall(text) if not (page.parent / link).exists()] == []


@pytest.mark.parametrize("file", [None, "nowhere.py"])
def test_a_quote_is_replaced_or_its_file_is_missed(file: str | None) -> None:
    page = f"before\n<!-- from: {file or 'examples/client.py'} -->\n```python\nold\n```\nafter\n"
    if file:
        with pytest.raises(ValueError, match=r"nowhere\.py is quoted"):
            filled(page)
    else:
        assert "old" not in filled(page)
        assert (ROOT / "examples/client.py").read_text() in filled(page)
        assert filled(page).endswith("```\nafter\n")
