from __future__ import annotations

import pytest

from amqproxy.generate.naming import Names, camel, kebab, pascal, snake, words


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("add", ["add"]),
        ("max_items", ["max", "items"]),
        ("maxItems", ["max", "Items"]),
        ("HTTPServer2", ["HTTP", "Server2"]),
        ("shop.order-lines", ["shop", "order", "lines"]),
        ("__private__", ["private"]),
        ("DARK_GREEN", ["DARK", "GREEN"]),
        ("größe", ["größe"]),
        ("$#!", []),
    ],
)
def test_names_are_made_of_words(name: str, parts: list[str]) -> None:
    assert words(name) == parts


@pytest.mark.parametrize(
    ("name", "as_snake", "as_kebab", "as_camel", "as_pascal"),
    [
        ("max_items", "max_items", "max-items", "maxItems", "MaxItems"),
        ("HTTPServer", "http_server", "http-server", "httpServer", "HTTPServer"),
        ("class_", "class", "class", "class", "Class"),
        ("_1", "x1", "x1", "x1", "X1"),
        ("", "x", "x", "x", "X"),
        ("日本", "日本", "日本", "日本", "X日本"),
    ],
)
def test_names_follow_the_language(name: str, as_snake: str, as_kebab: str, as_camel: str, as_pascal: str) -> None:
    assert (snake(name), kebab(name), camel(name), pascal(name)) == (as_snake, as_kebab, as_camel, as_pascal)


def test_initialisms_are_capitals_but_not_at_the_start_of_what_is_not_exported() -> None:
    initialisms = frozenset({"id", "url"})
    assert [pascal("user_id", initialisms), pascal("url", initialisms)] == ["UserID", "URL"]
    assert [camel("user_id", initialisms), camel("url_id", initialisms)] == ["userID", "urlID"]


def test_names_are_given_once_and_reserved_ones_never() -> None:
    names = Names({"end", "x2"})
    assert [names.take(name) for name in ("end", "end", "x", "x", "x", "y")] == ["end_", "end_2", "x", "x3", "x4", "y"]
