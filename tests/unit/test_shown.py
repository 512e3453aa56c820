from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from amqproxy.shown import shown


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("", ""),
        ("größe 5 €", "größe 5 €"),
        ("a\n[ERROR] b", r"a\n[ERROR] b"),
        ("\x1b[2J\x9b\x7f\u2028\0", r"\x1b[2J\x9b\x7f\u2028\x00"),
        (b"a\xff\r", r"a\xff\r"),
        ("\ud800", r"\ud800"),
        (b"plain", "plain"),
    ],
)
def test_what_is_not_printable_is_escaped(text: Any, seen: str) -> None:
    assert shown(text) == seen


@given(st.text() | st.binary())
def test_it_is_one_line_and_text_whatever_it_is(text: str | bytes) -> None:
    assert shown(text).isprintable()
    assert len(shown(text).splitlines()) <= 1
