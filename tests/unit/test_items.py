"""Several values in one body: there and back in every encoding, and DecodingFailed where the body says otherwise."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import pydantic
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from amqproxy.blob import Blob
from amqproxy.codecs import Codec, Crowded, DecodingFailed, Mismatch, Shape
from amqproxy.codecs.compression import COMPRESSIONS
from amqproxy.codecs.items import Chunks, Items, items_of, results, streams_of
from amqproxy.codecs.registry import codecs
from amqproxy.contract import Method, contract_of
from amqproxy.errors import EncodingFailed
from amqproxy.messages import Form
from tests.idl import kinds_pb2 as kinds
from tests.idl.kinds_thrift import ttypes as thrifty
from tests.idl.values import messages, structs, texts

examples = settings(
    max_examples=20,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)

LIMIT = 1 << 20


@dataclass
class Page:
    number: int
    lines: list[str] = field(default_factory=list)


class Model(pydantic.BaseModel):
    number: int
    text: str = ""


class Lines:
    """A codec as a user would write one: its bytes do not tell where a value ends."""

    name = "lines"
    forms: tuple[Form, ...] = ("plain",)

    def request(self, method: Method) -> Shape:
        return self

    def result(self, method: Method) -> Shape:
        return self

    def anything(self) -> Shape:
        return self

    def encode(self, value: Any) -> bytes:
        return repr(value).encode()

    def decode(self, body: bytes) -> Any:
        return Page(**json.loads(body)) if body.startswith(b"{") else int(body)


class Library:
    async def numbers(self) -> AsyncIterator[int]:
        yield 1

    def pages(self) -> Iterator[Page]:
        yield Page(1)

    async def models(self) -> AsyncIterator[Model]:
        yield Model(number=1)

    async def anything(self) -> AsyncIterator[Any]:
        yield None

    async def messages(self) -> AsyncIterator[kinds.Tree]:
        yield kinds.Tree()

    async def structs(self) -> AsyncIterator[thrifty.Tree]:
        yield thrifty.Tree()

    async def blob(self) -> Blob:
        raise NotImplementedError

    async def upload(self, data: Blob) -> int:
        raise NotImplementedError

    async def total(self, name: str, pages: AsyncIterator[Page]) -> int:
        raise NotImplementedError

    async def chat(self, numbers: AsyncIterator[int]) -> AsyncIterator[str]:
        yield ""

    async def one(self) -> int:
        raise NotImplementedError


METHODS = contract_of(Library).methods
KNOWN = codecs(LIMIT, (Lines(),))
JSON = KNOWN["json"]
large = st.integers(-(2**63), 2**63 - 1)
VALUES: dict[str, tuple[st.SearchStrategy[Any], tuple[str, ...]]] = {
    "numbers": (large, ("json", "lines")),
    "pages": (st.builds(Page, large, st.lists(texts, max_size=2)), ("json",)),
    "models": (st.builds(Model, number=large, text=texts), ("json",)),
    "anything": (st.none() | large | texts | st.lists(large, max_size=2), ("json",)),
    "messages": (messages(kinds.Tree, depth=2), ("json", "protobuf")),
    "structs": (structs(thrifty.Tree, depth=2), ("thrift", "thrift-compact")),
}
EVERY = [
    (name, encoding)
    for name, (_, plain) in VALUES.items()
    for one in plain
    for encoding in (one, *(f"{compression}-{one}" for compression in COMPRESSIONS))
]
every = pytest.mark.parametrize(("name", "encoding"), EVERY, ids=lambda text: str(text))


def items(name: str, encoding: str) -> Items:
    return results(KNOWN[encoding], METHODS[name])


@every
@examples
@given(data=st.data())
def test_values_go_there_and_back_together_and_alone(name: str, encoding: str, data: st.DataObject) -> None:
    these, values = items(name, encoding), data.draw(st.lists(VALUES[name][0], min_size=1, max_size=5))
    bodies = [these.encode(value) for value in values]
    assert list(these.unpack(these.pack(bodies), len(values))) == values
    assert list(these.unpack_all(these.pack_all(bodies))) == values
    assert list(these.unpack(these.pack(bodies[:1]), 1)) == values[:1]


@every
def test_no_values_are_an_empty_body_of_the_encoding(name: str, encoding: str) -> None:
    these = items(name, encoding)
    assert list(these.unpack_all(these.pack_all([]))) == []


@every
@examples
@given(data=st.data())
def test_a_count_that_lies_is_refused(name: str, encoding: str, data: st.DataObject) -> None:
    these, values = items(name, encoding), data.draw(st.lists(VALUES[name][0], min_size=2, max_size=5))
    packed = these.pack([these.encode(value) for value in values])
    said = data.draw(st.integers(0, 9).filter(lambda number: number not in (1, len(values))))
    with pytest.raises(
        DecodingFailed, match=f"({len(values)}|more than {said}) items in a message that says it has {said}"
    ):
        these.unpack(packed, said)


def counting(made: list[int]) -> Shape:
    """Reads anything, and counts how often."""

    class Counting:
        def encode(self, value: Any) -> bytes:
            return b"%d" % value

        def decode(self, body: bytes) -> Any:
            made.append(1)
            return None

    return Counting()


@pytest.mark.parametrize(("encoding", "one"), [("json", b"{}"), ("lines", b"\0\0\0\0")])
def test_of_millions_behind_a_count_that_lies_none_is_made(encoding: str, one: bytes) -> None:
    made: list[int] = []
    these = items_of(KNOWN[encoding], counting(made), "Typed.things()")
    separator = b"," if encoding == "json" else b""
    for number, said in ((1_000_000, 2), (1_000_000, 999_999), (1_000_000, 2**31 - 1)):
        body = separator.join([one] * number)
        with pytest.raises(DecodingFailed, match="that says it has"):
            these.unpack(b"[%b]" % body if encoding == "json" else body, said)
    assert sum(made) == 0
    body = separator.join([one] * 50_000)
    assert len(these.unpack(b"[%b]" % body if encoding == "json" else body, 50_000)) == 50_000


def test_of_typed_ones_neither() -> None:
    these = items("pages", "json")
    body = b"[%b]" % b",".join([b'{"number":1}'] * 1_000_000)
    tracemalloc.start()
    try:
        with pytest.raises(DecodingFailed, match="a message that says it has 2 items has others"):
            these.unpack(body, 2)
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()
    body = b"[%b]" % b",".join([b'{"number":1}'] * 5000)
    assert list(these.unpack(body, 5000)) == [Page(1)] * 5000


@every
@examples
@given(data=st.data())
def test_a_body_that_ends_early_is_refused(name: str, encoding: str, data: st.DataObject) -> None:
    these, values = items(name, encoding), data.draw(st.lists(VALUES[name][0], min_size=2, max_size=4))
    packed = these.pack([these.encode(value) for value in values])
    with pytest.raises(DecodingFailed):
        these.unpack(packed[: data.draw(st.integers(0, len(packed) - 1))], len(values))


@every
@examples
@given(body=st.binary(max_size=60), said=st.integers(1, 4))
def test_garbage_is_refused_or_decoded(name: str, encoding: str, body: bytes, said: int) -> None:
    these = items(name, encoding)
    for count in (said, None):
        try:
            these.unpack_all(body) if count is None else these.unpack(body, count)
        except DecodingFailed as error:
            assert str(error)


# The form


def test_in_json_several_are_an_array_and_one_is_bare() -> None:
    these = items("numbers", "json")
    assert these.pack([b"1", b"2"]) == b"[1,2]"
    assert these.pack([b"1"]) == b"1"
    assert these.pack_all([b"1"]) == b"[1]"
    assert these.pack_all([]) == b"[]"
    assert list(these.unpack(b" [ 1 , 2 ]", 2)) == [1, 2]


def test_elsewhere_each_stands_behind_its_length() -> None:
    these = items("messages", "protobuf")
    assert these.pack([b"ab", b""]) == b"\0\0\0\2ab\0\0\0\0"
    assert these.pack([b"ab"]) == b"ab"
    assert these.pack_all([b"ab"]) == b"\0\0\0\2ab"


@pytest.mark.parametrize("encoding", ["snappy-json", "zstd-protobuf"])
def test_the_compression_is_around_the_whole(encoding: str) -> None:
    compression, _, plain = encoding.partition("-")
    these, bare = items("messages", encoding), items("messages", plain)
    bodies = [these.encode(kinds.Tree(value=1)), these.encode(kinds.Tree(value=2))]
    assert bodies == [bare.encode(kinds.Tree(value=1)), bare.encode(kinds.Tree(value=2))]
    assert COMPRESSIONS[compression].decompress(these.pack(bodies), LIMIT) == bare.pack(bodies)


@pytest.mark.parametrize(
    ("name", "encoding", "body"),
    [
        ("numbers", "json", b'[1,"two"]'),
        ("numbers", "json", b"1"),
        ("numbers", "json", b'{"0":1,"1":2}'),
        ("numbers", "json", b"[" * 100_000),
        ("messages", "json", b"[{}"),
        ("messages", "json", b"1"),
        ("messages", "json", b'["\xff"]'),
        ("messages", "json", b"[" * 100_000),
        ("models", "json", b'[{"number":"x"},{"number":1}]'),
        ("messages", "protobuf", b"\0\0\0\2ab"),
        ("messages", "protobuf", b"\0\0\0"),
        ("messages", "protobuf", b"\0\0\0\0\0\0"),
        ("messages", "protobuf", b"\xff\xff\xff\xff"),
        ("numbers", "lines", b"\0\0\0\1x\0\0\0\1y"),
        ("numbers", "snappy-json", b""),
    ],
    ids=lambda part: repr(part)[:30],
)
def test_what_is_no_array_of_the_type_is_refused(name: str, encoding: str, body: bytes) -> None:
    with pytest.raises(DecodingFailed):
        items(name, encoding).unpack(body, 2)
    with pytest.raises(DecodingFailed):
        items(name, encoding).unpack_all(body)


def test_a_value_of_another_type_is_refused_when_it_is_written() -> None:
    with pytest.raises(Mismatch, match="Expected `int`, got `str`"):
        items("numbers", "json").encode("two")
    with pytest.raises((Mismatch, EncodingFailed)):
        items("messages", "zstd-protobuf").encode(5)


def test_defaults_are_filled_in_for_each_item() -> None:
    [one, two] = items("pages", "json").unpack(b'[{"number":1},{"number":2}]', 2)
    one.lines.append("mine")
    assert two == Page(2)


def test_values_of_unknown_types_are_plain_ones() -> None:
    for encoding in ("json", "gzip-json"):
        these = items_of(KNOWN[encoding], KNOWN[encoding].anything(), "values")
        bodies = [these.encode(value) for value in ({"a": [1]}, None, "text")]
        assert list(these.unpack(these.pack(bodies), 3)) == [{"a": [1]}, None, "text"]
        assert list(these.unpack_all(these.pack_all(bodies))) == [{"a": [1]}, None, "text"]


# Chunks


def test_a_chunk_is_its_bytes() -> None:
    chunks = Chunks()
    assert not chunks.batches
    for value in (b"\0\xff", bytearray(b"\0\xff"), memoryview(b"\0\xff")):
        body = chunks.encode(value)
        assert type(body) is bytes
        assert list(chunks.unpack(chunks.pack([body]), 1)) == [b"\0\xff"]
    assert chunks.pack_all([b"a", b"b"]) == b"ab"
    assert list(chunks.unpack_all(b"ab")) == [b"ab"]


def test_what_is_no_chunk_is_refused() -> None:
    with pytest.raises(Mismatch, match="Expected `bytes`, got `str`"):
        Chunks().encode("text")
    with pytest.raises(DecodingFailed, match="2 chunks in one message"):
        Chunks().unpack(b"ab", 2)


# Which streams a method has


@pytest.mark.parametrize(
    ("name", "result", "feed"),
    [
        ("one", None, None),
        ("numbers", "items", None),
        ("blob", "chunks", None),
        ("upload", None, "chunks"),
        ("total", None, "items"),
        ("chat", "items", "items"),
    ],
)
def test_a_method_has_streams_where_its_signature_says_so(name: str, result: str | None, feed: str | None) -> None:
    def kind(found: Items | None) -> str | None:
        return None if found is None else "chunks" if isinstance(found, Chunks) else "items"

    for codec in (JSON, KNOWN["lz4-json"]):
        out, into = streams_of(codec, METHODS[name])
        assert (kind(out), kind(into)) == (result, feed)
        assert all(found.batches for found in (out, into) if kind(found) == "items" and found is not None)


def test_what_is_fed_is_of_its_own_type() -> None:
    def both(codec: Codec) -> tuple[Any, Any]:
        out, into = streams_of(codec, METHODS["chat"])
        assert out is not None and into is not None
        return out.unpack(b'["a","b"]', 2), into.unpack(b"[1,2]", 2)

    assert both(JSON) == (["a", "b"], [1, 2])
    into = streams_of(JSON, METHODS["total"])[1]
    assert into is not None
    assert list(into.unpack(b'{"number":7}', 1)) == [Page(7)]


# Keys that were chosen to have one hash


MODULUS = 2**61 - 1
"""Keys that leave the same rest have one hash."""
CALLS = 40


def stocks(spread: int) -> bytes:
    """Calls that share a message, each with a dictionary that is too small to be looked at alone."""
    counts = {str(UUID(int=5 + place * spread)): 1 for place in range(300)}
    return b"[%b]" % b",".join([json.dumps({"counts": counts}).encode()] * CALLS)


@pytest.mark.parametrize("encoding", ["json", "gzip-json"])
def test_crowded_keys_in_small_calls_that_share_a_message_are_refused_together(encoding: str) -> None:
    def count(counts: dict[UUID, int]) -> int:
        return len(counts)

    codec = KNOWN[encoding]
    these = items_of(codec, codec.request(contract_of(count).methods["count"]), "count")
    compress = COMPRESSIONS["gzip"].compress if encoding != "json" else lambda body, limit: body
    with pytest.raises(Crowded, match="more than 100 keys of one dictionary or set have the same hash"):
        these.unpack_each(compress(stocks(MODULUS), LIMIT), CALLS)
    taken = these.unpack_each(compress(stocks(1), LIMIT), CALLS)
    assert [len(one.counts) for one in taken] == [300] * CALLS
