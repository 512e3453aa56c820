from __future__ import annotations

from io import StringIO
from typing import Any

import pytest

from amqproxy.cli.arguments import parse
from amqproxy.cli.failure import UsageError


def read(*words: str, stdin: str = "") -> tuple[list[Any], dict[str, Any]]:
    positional, named = parse(words, StringIO(stdin))
    return list(positional), dict(named)


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("1", 1),
        ("-2", -2),
        ("-2.5e3", -2500.0),
        ("true", True),
        ("null", None),
        ('"1"', "1"),
        ("[1, 2]", [1, 2]),
        ('{"a": {"b": []}}', {"a": {"b": []}}),
        ("123456789012345678901234567890", 123456789012345678901234567890),
        ("Ann", "Ann"),
        ("", ""),
        (" two words", " two words"),
        ("None", "None"),
        ("NaN", "NaN"),
        ("01", "01"),
        ("[1, 2", "[1, 2"),
        ("é", "é"),
        ('"x=1"', "x=1"),
        ("1=2", "1=2"),
        ("a-b=2", "a-b=2"),
        ('"--text"', "--text"),
    ],
)
def test_argument_is_json_or_else_text(word: str, value: Any) -> None:
    assert read(word) == ([value], {})


@pytest.mark.parametrize(
    ("word", "named"),
    [
        ("x=1", {"x": 1}),
        ("x=", {"x": ""}),
        ("name=Ann", {"name": "Ann"}),
        ('name="1"', {"name": "1"}),
        ("a_1=b=c", {"a_1": "b=c"}),
        ("text=-v", {"text": "-v"}),
        ("größe=2", {"größe": 2}),
        ("text=two\nlines", {"text": "two\nlines"}),
    ],
)
def test_argument_may_have_a_name(word: str, named: dict[str, Any]) -> None:
    assert read(word) == ([], named)


@pytest.mark.parametrize(
    ("body", "arguments"),
    [
        ('[1, {"a": 2}]', ([1, {"a": 2}], {})),
        ('{"x": 1, "y": null}', ([], {"x": 1, "y": None})),
        ("\n [] \n", ([], {})),
    ],
)
def test_single_dash_reads_all_arguments_from_stdin(body: str, arguments: Any) -> None:
    assert read("-", stdin=body) == arguments


@pytest.mark.parametrize(
    ("words", "stdin", "why"),
    [
        (("1", "y=2"), "", "all arguments by position or all by name"),
        (("x=1", "x=2"), "", "x is given twice"),
        (("1", "--timeuot", "2"), "", "there is no option --timeuot"),
        (("1", "-"), "", "there is no option -"),
        (("-",), "nonsense", "no JSON"),
        (("-",), "", "no JSON"),
        (("-",), "3", "neither an array of arguments by position nor an object"),
    ],
)
def test_what_is_wrong_with_the_arguments_is_said(words: tuple[str, ...], stdin: str, why: str) -> None:
    with pytest.raises(UsageError, match=why):
        read(*words, stdin=stdin)
