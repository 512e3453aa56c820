"""Calls that share a body (codecs/items.py): there and back in every encoding, each as far as it decodes."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pydantic
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from amqproxy.codecs import DecodingFailed, HoldsTooMuch, Shape
from amqproxy.codecs.items import items_of
from amqproxy.codecs.registry import codecs
from amqproxy.contract import Method, contract_of
from amqproxy.messages import Form
from tests.idl import kinds_pb2 as kinds
from tests.idl.kinds_thrift import ttypes as thrifty
from tests.idl.values import messages, structs, texts

examples = settings(
    max_examples=25,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)

LIMIT = 1 << 16


@dataclass
class Page:
    number: int
    lines: list[str]


class Model(pydantic.BaseModel):
    number: int
    text: str = ""


class Numbers:
    """A codec of a user's, whose bytes do not tell where a value ends."""

    name = "numbers"
    forms: tuple[Form, ...] = ("plain",)

    def request(self, method: Method) -> Shape:
        return self

    def result(self, method: Method) -> Shape:
        return self

    def anything(self) -> Shape:
        return self

    def encode(self, value: Any) -> bytes:
        return b"%d" % value

    def decode(self, body: bytes) -> Any:
        return int(body)


class Library:
    async def add(self, x: int, y: int) -> int:
        raise NotImplementedError

    async def some(self, x: int, *, note: str = "") -> list[int]:
        raise NotImplementedError

    async def anything(self, value: Any) -> Any:
        raise NotImplementedError

    async def page(self, page: Page) -> Page:
        raise NotImplementedError

    async def model(self, model: Model) -> Model:
        raise NotImplementedError

    async def nothing(self) -> None:
        raise NotImplementedError

    async def message(self, tree: kinds.Tree) -> kinds.Tree:
        raise NotImplementedError

    async def struct(self, tree: thrifty.Tree) -> thrifty.Tree:
        raise NotImplementedError


METHODS = contract_of(Library).methods
KNOWN = codecs(LIMIT, (Numbers(),))
whole = st.integers(-(2**63), 2**63 - 1)
RESULTS: dict[str, tuple[st.SearchStrategy[Any], str]] = {
    "add": (whole, "json"),
    "some": (st.lists(whole, max_size=3), "json"),
    "anything": (st.none() | whole | texts | st.lists(whole, max_size=2), "json"),
    "page": (st.builds(Page, whole, st.lists(texts, max_size=2)), "json"),
    "model": (st.builds(Model, number=whole, text=texts), "json"),
    "nothing": (st.none(), "json"),
    "message": (messages(kinds.Tree, depth=2), "protobuf"),
    "struct": (structs(thrifty.Tree, depth=2), "thrift"),
}
ENCODED = [(name, how + plain) for name, (_, plain) in RESULTS.items() for how in ("", "snappy-", "zstd-")]


def requests_of(name: str, encoding: str) -> Any:
    codec, method = KNOWN[encoding], METHODS[name]
    return items_of(codec, codec.request(method), method.title)


def results_of(name: str, encoding: str) -> Any:
    codec, method = KNOWN[encoding], METHODS[name]
    return items_of(codec, codec.result(method), method.title)


@pytest.mark.parametrize(("name", "encoding"), [*ENCODED, ("message", "json"), ("add", "numbers")])
def test_answers_come_out_as_they_went_in(name: str, encoding: str) -> None:
    items = results_of(name, encoding)

    @examples
    @given(st.lists(RESULTS[name][0], min_size=1, max_size=8))
    def check(values: list[Any]) -> None:
        body = items.pack([items.encode(value) for value in values])
        assert list(items.unpack_each(body, len(values))) == values

    check()


@examples
@given(st.lists(st.tuples(whole, whole), min_size=2, max_size=8), st.sampled_from(["json", "zstd-json"]), st.data())
def test_arguments_by_name_and_by_position_may_be_mixed(
    calls: list[tuple[int, int]], encoding: str, data: st.DataObject
) -> None:
    items, method = requests_of("add", encoding), METHODS["add"]
    bodies = [
        items.encode(method.bind(call, {}))
        if data.draw(st.booleans())
        else data.draw(st.sampled_from([b"[%d,%d]", b" [%d, %d] "])) % call
        for call in calls
    ]
    assert [(one.x, one.y) for one in items.unpack_each(items.pack(bodies), len(calls))] == calls


@pytest.mark.parametrize("encoding", ["json", "snappy-json"])
def test_one_that_does_not_decode_leaves_the_others_alone(encoding: str) -> None:
    items = requests_of("add", encoding)
    bodies = [b'{"x":1,"y":2}', b'{"x":1}', b"[3,4]", b'{"x":"1","y":2}', b"[1]", b"null", b'{"y":6,"x":5}']
    body = items.pack(bodies)
    found = items.unpack_each(body, len(bodies))
    assert [isinstance(one, DecodingFailed) for one in found] == [False, True, False, True, True, True, False]
    assert [(one.x, one.y) for one in found[::2] if not isinstance(one, DecodingFailed)] == [(1, 2), (3, 4), (5, 6)]
    assert "`x`" in str(found[3]) or "$.x" in str(found[3])
    assert "[3]" not in str(found[3]), "its own path, and not its place in the message"


def test_one_that_does_not_decode_leaves_the_others_alone_in_encodings_with_lengths() -> None:
    items = results_of("add", "numbers")
    found = items.unpack_each(items.pack([b"1", b"one", b"3"]), 3)
    assert (found[0], found[2]) == (1, 3)
    assert isinstance(found[1], DecodingFailed)


def test_a_lone_one_that_does_not_decode_stands_in_its_place() -> None:
    for name, encoding, body in [("add", "json", b"nonsense"), ("add", "numbers", b"one")]:
        [found] = results_of(name, encoding).unpack_each(body, 1)
        assert isinstance(found, DecodingFailed)


@pytest.mark.parametrize(
    ("encoding", "body"),
    [
        ("json", b"[1,2]"),
        ("json", b"[1,2,3,4]"),
        ("json", b"[]"),
        ("json", b"[1,2,3"),
        ("json", b"[1,2,3]x"),
        ("json", b"[1,,3]"),
        ("json", b'{"0":1}'),
        ("json", b"3"),
        ("json", b""),
        ("json", b"[" * 100_000),
        ("numbers", b""),
        ("numbers", b"\0\0\0\0011\0\0\0\0012"),
        ("numbers", b"\0\0\0\0011\0\0\0\0012\0\0\0\0013\0\0\0\0014"),
        ("numbers", b"\0\0\0\0011\0\0\0\0012\0\0\0\003"),
        ("numbers", b"\0\0\0\0011\0\0\0\0012\0\0"),
        ("snappy-json", b"[1,2,3]"),
        ("gzip-json", b""),
    ],
)
def test_a_body_that_does_not_hold_as_many_as_it_says_is_refused_whole(encoding: str, body: bytes) -> None:
    with pytest.raises(DecodingFailed):
        results_of("add", encoding).unpack_each(body, 3)


def test_no_item_is_made_of_a_body_that_holds_more_than_it_says() -> None:
    body = b"[%b1]" % (b"1," * 100_000)
    items = requests_of("add", "json")
    tracemalloc.start()
    try:
        with pytest.raises(DecodingFailed, match="says it has 2 items has others"):
            items.unpack_each(body, 2)
        assert tracemalloc.get_traced_memory()[1] < 50_000
    finally:
        tracemalloc.stop()


def test_more_than_any_message_shares_are_not_prepared_for() -> None:
    with pytest.raises(DecodingFailed, match="are 1024 at most, not 2147483647"):
        results_of("add", "json").unpack_each(b"[1,2]", 2**31 - 1)


def test_no_more_is_decompressed_than_allowed() -> None:
    items = results_of("anything", "zstd-json")
    bomb = KNOWN["zstd-json"].anything().compress(b" " * LIMIT)  # type: ignore[attr-defined]  # a CompressedShape
    larger = codecs(4 * LIMIT)["zstd-json"].anything().compress(b" " * 4 * LIMIT)  # type: ignore[attr-defined]
    with pytest.raises(DecodingFailed):
        items.unpack_each(bomb, 2)
    with pytest.raises(HoldsTooMuch):
        items.unpack_each(larger, 2)


@examples
@given(st.binary(max_size=60), st.integers(1, 4), st.sampled_from(["json", "numbers", "snappy-json", "lz4-json"]))
def test_any_bytes_are_values_or_refused(body: bytes, items: int, encoding: str) -> None:
    try:
        found: Sequence[Any] = results_of("add", encoding).unpack_each(body, items)
    except DecodingFailed:
        return
    assert len(found) == items
    assert all(isinstance(one, (int, DecodingFailed)) for one in found)


def test_bodies_in_json_are_the_elements_of_an_array() -> None:
    requests: Any = requests_of("add", "json")
    method = METHODS["add"]
    bodies = [requests.encode(method.bind((n, n), {})) for n in range(3)]
    assert json.loads(requests.pack(bodies)) == [{"x": n, "y": n} for n in range(3)]


def test_bodies_in_other_encodings_stand_behind_their_lengths() -> None:
    items = results_of("message", "protobuf")
    bodies = [items.encode(kinds.Tree(value=value)) for value in (0, 1, 10**6)]
    assert [len(body) for body in bodies] == [0, 2, 4]
    assert items.pack(bodies) == b"\0\0\0\0" + b"\0\0\0\2" + bodies[1] + b"\0\0\0\4" + bodies[2]
