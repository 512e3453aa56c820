"""Exchanges: which bindings a key or headers fit, against the plainest reading of the specification."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from amqproxy.broker.errors import ProtocolError
from amqproxy.broker.exchange import TYPES, Binding, Destination, Exchange, Topic
from amqproxy.broker.message import Message, address
from amqproxy.broker.tables import Table
from amqproxy.fields import encode_table
from amqproxy.properties import HEADERS
from tests.unit.broker import wire

examples = settings(max_examples=60, deadline=None, derandomize=True, database=None)

words = st.lists(st.sampled_from(["a", "b", "", "*", "#"]), max_size=6).map(".".join)
patterns = st.lists(st.sampled_from(["a", "b", "", "*", "#", "*", "#"]), max_size=6).map(".".join)
numbers = st.integers(-2, 2)
scalars = numbers | st.booleans() | st.none() | st.sampled_from(["a", "b", "1"]) | numbers.map(float)
headers = st.dictionaries(st.sampled_from(["a", "b", "x-c", "x-d"]), scalars, max_size=4)


def table(fields: dict[str, Any] | None = None) -> Table:
    return Table.parse(encode_table(fields or {})[4:])


def destination(name: str = "d") -> Exchange:
    """Something to bind, which may as well be an exchange."""
    return Exchange(name, "fanout")


def bound(kind: str, *bindings: tuple[str, dict[str, Any]]) -> tuple[Exchange, list[Exchange]]:
    """An exchange with a destination for each binding."""
    exchange, destinations = Exchange("e", kind), []
    for key, arguments in bindings:
        destinations.append(destination(key))
        assert exchange.bind(Binding(destinations[-1], key, table(arguments)))
    return exchange, destinations


def found(exchange: Exchange, key: str, fields: dict[str, Any] | None = None) -> set[Destination]:
    head = struct.pack(">HHQH", 60, 0, 0, HEADERS) + encode_table(fields or {})
    return set(exchange.matcher.match(key, Message(address("e", key), head, b"")))


def topic_fits(pattern: list[str], words: list[str]) -> bool:
    """What the specification says, word by word."""
    if not pattern:
        return not words
    if pattern[0] == "#":
        return any(topic_fits(pattern[1:], words[at:]) for at in range(len(words) + 1))
    return bool(words) and pattern[0] in (words[0], "*") and topic_fits(pattern[1:], words[1:])


def in_words(key: str) -> list[str]:
    return key.split(".") if key else []


# Direct and fanout.


def test_direct_goes_by_the_very_key() -> None:
    exchange, (a, b, empty) = bound("direct", ("a", {}), ("b", {}), ("", {}))
    assert found(exchange, "a") == {a}
    assert found(exchange, "b") == {b}
    assert found(exchange, "") == {empty}
    assert found(exchange, "c") == set()
    assert not exchange.matcher.reads_headers


def test_direct_leads_to_all_that_are_bound_with_a_key() -> None:
    exchange, (one, other) = bound("direct", ("a", {}), ("a", {}))
    assert found(exchange, "a") == {one, other}
    exchange.unbind(Binding(one, "a", Table()))
    assert found(exchange, "a") == {other}


def test_fanout_leads_everywhere_until_the_last_binding_is_gone() -> None:
    exchange, (one,) = bound("fanout", ("a", {}))
    assert exchange.bind(Binding(one, "b", Table()))
    assert found(exchange, "whatever") == {one}
    exchange.unbind(Binding(one, "a", Table()))
    assert found(exchange, "whatever") == {one}
    exchange.unbind(Binding(one, "b", Table()))
    assert found(exchange, "whatever") == set()


# Topic.


@pytest.mark.parametrize(
    ("pattern", "key", "fits"),
    [
        ("", "", True),
        ("#", "", True),
        ("*", "", False),
        ("", "a", False),
        ("*", "a", True),
        ("*", "a.b", False),
        ("a.*", "a.b", True),
        ("a.*", "a", False),
        ("a.#", "a", True),
        ("a.#", "a.b.c", True),
        ("#.c", "a.b.c", True),
        ("#.c", "c", True),
        ("a.#.c", "a.c", True),
        ("a.#.c", "a.b.b.c", True),
        ("a.#.c", "a.b", False),
        ("#.#", "", True),
        ("*.#", "", False),
        ("#.*", "a", True),
        (".", ".", True),
        (".", "", False),
        ("*.*", ".", True),
        ("a*", "ab", False),
        ("a#", "a.b", False),
        ("A", "a", False),
        ("a.#.b.#", "a.x.b.y", True),
    ],
)
def test_a_pattern_is_read_word_by_word(pattern: str, key: str, fits: bool) -> None:
    exchange, (one,) = bound("topic", (pattern, {}))
    assert found(exchange, key) == ({one} if fits else set())


@examples
@given(st.lists(patterns, min_size=1, max_size=6), words)
def test_topics_fit_as_the_specification_says(given: list[str], key: str) -> None:
    exchange, destinations = bound("topic", *((pattern, {}) for pattern in given))
    expected = {
        one for one, pattern in zip(destinations, given, strict=True) if topic_fits(in_words(pattern), in_words(key))
    }
    assert found(exchange, key) == expected


@examples
@given(st.lists(patterns, min_size=1, max_size=6), st.data())
def test_a_topic_pattern_that_was_unbound_leaves_nothing_behind(given: list[str], data: st.DataObject) -> None:
    exchange, destinations = bound("topic", *((pattern, {}) for pattern in given))
    pairs = list(zip(destinations, given, strict=True))
    left = list(pairs)
    for one in data.draw(st.permutations(pairs)):
        left.remove(one)
        exchange.unbind(Binding(one[0], one[1], Table()))
        key = data.draw(words)
        assert found(exchange, key) == {
            place for place, pattern in left if topic_fits(in_words(pattern), in_words(key))
        }
    fresh = Exchange("e", "topic")
    assert repr(tree(exchange)) == repr(tree(fresh)) == "{}"


def tree(exchange: Exchange) -> dict[str, Any]:
    matcher = exchange.matcher
    assert isinstance(matcher, Topic)
    return dict(matcher._root.next)  # whether a branch leaks shows nowhere else


def test_a_pattern_of_nothing_but_hashes_costs_little() -> None:
    """Each way through it counts once: 40 words are 2^40 ways, but only so many places."""
    exchange, (one,) = bound("topic", (".".join("#" * 40), {}))
    assert found(exchange, ".".join("a" * 40)) == {one}
    exchange, _ = bound("topic", (".".join(["#", "a"] * 30), {}))
    assert found(exchange, ".".join("ab" * 60)) == set()


# Headers.


@pytest.mark.parametrize("how", [None, "all", "any", "all-with-x", "any-with-x"])
@examples
@given(wanted=headers, given=headers)
def test_headers_fit_as_rabbitmq_says(how: str | None, wanted: dict[str, Any], given: dict[str, Any]) -> None:
    exchange, (one,) = bound("headers", ("", wanted | ({} if how is None else {"x-match": how})))
    with_x = (how or "").endswith("-with-x")
    fits = [
        name in given and (value is None or same(value, given[name]))
        for name, value in wanted.items()
        if with_x or not name.startswith("x-")
    ]
    fit = any(fits) if (how or "all").startswith("any") else all(fits)
    assert found(exchange, "", given) == ({one} if fit else set())


def same(wanted: Any, given: Any) -> bool:
    numbers = (int, float)
    both = all(isinstance(one, numbers) and not isinstance(one, bool) for one in (wanted, given))
    return bool(wanted == given) and (both or type(wanted) is type(given))


def test_headers_without_arguments_fit_all_messages_and_with_any_none() -> None:
    exchange, (all_of_them, _) = bound("headers", ("", {}), ("any", {"x-match": "any"}))
    assert found(exchange, "", {"a": 1}) == {all_of_them}
    assert exchange.matcher.reads_headers


def test_bytes_of_two_bindings_are_two_bindings() -> None:
    exchange, (one, other) = bound("headers", ("", {"a": 1}), ("", {"a": 2}))
    assert found(exchange, "", {"a": 2}) == {other}
    exchange.unbind(Binding(other, "", table({"a": 2})))
    assert found(exchange, "", {"a": 2}) == set()
    assert found(exchange, "", {"a": 1}) == {one}


def test_an_x_match_that_there_is_not_is_refused_and_not_bound() -> None:
    exchange = Exchange("e", "headers")
    for value, why in (
        ("some", 'Invalid x-match field value <<"some">>; expected all, any, all-with-x, or any-with-x'),
        (1, "Invalid x-match field type signedint (value 1); expected longstr"),
        (True, "Invalid x-match field type bool (value true); expected longstr"),
    ):
        with pytest.raises(ProtocolError, match=re.escape(why)) as caught:
            exchange.bind(Binding(destination(), "", table({"x-match": value})))
        assert caught.value.code == 406
    assert not exchange.bindings


@pytest.mark.parametrize(
    "field",
    [
        wire.field_of(b"F", wire.nested(700)),
        wire.field_of(b"F", b"\5garb"),
        b"T" + b"\xff" * 8,
        b"d\x7f\xf8\0\0\0\0\0\0",
    ],
    ids=["deep", "garbage", "no time", "no number"],
)
def test_an_x_match_that_cannot_be_shown_is_refused_all_the_same(field: bytes) -> None:
    with pytest.raises(ProtocolError, match="Invalid x-match field type") as caught:
        Exchange("e", "headers").bind(Binding(destination(), "", Table({"x-match": field})))
    assert caught.value.code == 406


def test_header_values_that_nobody_can_decode_do_no_harm() -> None:
    field = wire.field_of(b"F", wire.nested(700))
    exchange = Exchange("e", "headers")
    one = destination()
    exchange.bind(Binding(one, "", Table({"a": field})))
    head = struct.pack(">HHQH", 60, 0, 0, HEADERS) + Table({"a": field, "b": b"T" + b"\xff" * 8}).encode()
    assert list(exchange.matcher.match("", Message(b"\0\0", head, b""))) == [one]


# Exchanges and their bindings.


@pytest.mark.parametrize("kind", TYPES)
def test_a_binding_is_there_once_and_is_gone_once(kind: str) -> None:
    exchange, one = Exchange("e", kind), destination()
    binding = Binding(one, "a", table({"a": 1}))
    assert exchange.bind(binding)
    assert not exchange.bind(Binding(one, "a", table({"a": 1})))
    assert exchange.bind(Binding(one, "a", table({"a": 2})))
    assert list(one.bound) == [exchange]
    assert not exchange.has(Binding(one, "b", Table()))
    assert exchange.unbind(Binding(one, "a", table({"a": 1})))
    assert not exchange.unbind(Binding(one, "a", table({"a": 1})))
    assert not exchange.has(Binding(one, "a", table({"a": 1})))
    assert exchange.has(Binding(one, "a", table({"a": 2})))
    assert list(one.bound) == [exchange]
    exchange.unbind(Binding(one, "a", table({"a": 2})))
    assert not one.bound
    assert not exchange.bindings
    assert found(exchange, "a", {"a": 1}) == set()


@pytest.mark.parametrize("kind", TYPES)
def test_two_bindings_that_differ_in_arguments_only_are_unbound_one_by_one(kind: str) -> None:
    exchange, one = Exchange("e", kind), destination()
    for value in (1, 2):
        exchange.bind(Binding(one, "k", table({"a": value, "x-match": "any"})))
    exchange.unbind(Binding(one, "k", table({"a": 1, "x-match": "any"})))
    assert found(exchange, "k", {"a": 2}) == {one}


@pytest.mark.parametrize("kind", TYPES)
def test_all_bindings_of_one_destination_go_at_once_and_no_other(kind: str) -> None:
    exchange, one, other = Exchange("e", kind), destination(), destination()
    for key in "ab":
        exchange.bind(Binding(one, key, Table()))
    exchange.bind(Binding(other, "a", Table()))
    exchange.unbind_all(one)
    assert (one.bound, list(other.bound), list(exchange.bindings)) == ({}, [exchange], [other])
    assert found(exchange, "a") == {other}
    assert exchange.has(Binding(other, "a", Table()))
    assert not exchange.has(Binding(one, "a", Table()))


def test_the_order_of_arguments_makes_no_other_binding() -> None:
    exchange, one = Exchange("e", "direct"), destination()
    assert exchange.bind(Binding(one, "", table({"a": 1, "b": 2})))
    assert not exchange.bind(Binding(one, "", table({"b": 2, "a": 1})))


def test_an_exchange_may_be_bound_to_itself() -> None:
    exchange = Exchange("e", "fanout")
    exchange.bind(Binding(exchange, "", Table()))
    assert found(exchange, "") == {exchange}
    exchange.unbind(Binding(exchange, "", Table()))
    assert not exchange.bound


def test_an_exchange_knows_its_alternate_and_shows_its_name() -> None:
    assert Exchange("e", "direct", arguments=table({"alternate-exchange": "a"})).alternate == "a"
    assert Exchange("e", "direct").alternate is None
    assert repr(Exchange("e", "topic")) == "<topic exchange 'e'>"


@pytest.mark.parametrize("kind", ["direct", "fanout", "topic"])
def test_exchanges_that_do_not_read_headers_need_no_message(kind: str) -> None:
    exchange, destinations = bound(kind, ("k", {}))
    matched: Iterable[Destination] = exchange.matcher.match("k", None)
    assert list(matched) == destinations
