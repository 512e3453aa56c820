"""docs/generate.md is true: what it shows is what the command writes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from amqproxy.generate import LANGUAGES
from tests.processes import amqproxy as command

PAGE = (Path(__file__).parents[2] / "docs/generate.md").read_text(encoding="utf-8")
FENCES = {"ruby": "ruby", "java": "java", "node": "js", "go": "go"}


def shown(fence: str) -> str:
    """The first block of a language."""
    found = re.search(rf"```{fence}\n(.*?)```", PAGE, re.DOTALL)
    assert found, f"the page shows nothing in {fence}"
    return found[1]


@pytest.mark.parametrize("language", LANGUAGES)
async def test_page_shows_what_is_written(language: str, tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(shown("python"))
    ended = await command("generate", language, "shop:Shop", "--output", "-", PYTHONPATH=path_with(tmp_path))
    assert (ended.code, ended.err) == (0, "")
    assert shown(FENCES[language]) in ended.out


def path_with(directory: Path) -> str:
    return f"{directory}:{Path(__file__).parents[2]}"


@pytest.mark.parametrize("language", LANGUAGES)
def test_page_shows_the_command(language: str) -> None:
    assert f"$ amqproxy generate {language} shop:Shop" in PAGE
