"""Thrift in both protocols, with the C extension and without: there and back, and DecodingFailed for all else."""

from __future__ import annotations

import copy
import math
import struct
import sys
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import thrift.protocol
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from thrift.protocol.TBinaryProtocol import TBinaryProtocol
from thrift.protocol.TCompactProtocol import TCompactProtocol
from thrift.Thrift import TType
from thrift.transport.TTransport import TMemoryBuffer

from amqproxy.codecs import DecodingFailed, Mismatch
from amqproxy.codecs.thrift import Thrift, ThriftShape
from amqproxy.contract import contract_of
from amqproxy.errors import ContractError, MessageTooLarge
from amqproxy.messages import message
from tests.idl.kinds_thrift import ttypes as kinds
from tests.idl.person_thrift.ttypes import Person
from tests.idl.values import structs

examples = settings(
    max_examples=30,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.function_scoped_fixture],
)

MIB = 1 << 20
STOP = b"\0"
KINDS = (
    *(kinds.Item, kinds.Kinds, kinds.Tree, kinds.Choice, kinds.Refused),
    *(kinds.Empty, kinds.Frozen, kinds.Loose, kinds.Holder),
)
each = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
both = pytest.mark.parametrize("compact", [False, True], ids=["binary", "compact"])
PROTOCOLS = {False: TBinaryProtocol, True: TCompactProtocol}


@pytest.fixture(autouse=True, params=["extension", "fallback"])
def _extension(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything here is so with the library's C extension, and where it could not be built."""
    if request.param == "extension":
        pytest.importorskip("thrift.protocol.fastbinary")
    else:
        monkeypatch.setitem(sys.modules, "thrift.protocol.fastbinary", None)
        monkeypatch.delattr(thrift.protocol, "fastbinary", raising=False)


@contextmanager
def memory_below(most: int) -> Iterator[None]:
    tracemalloc.start()
    try:
        yield
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < most


def field(kind: int, number: int, content: bytes) -> bytes:
    return struct.pack("!bh", kind, number) + content


def i32(number: int) -> bytes:
    return struct.pack("!i", number)


def text(content: bytes) -> bytes:
    return i32(len(content)) + content


def listed(kind: int, size: int, content: bytes = b"") -> bytes:
    """A list, or a set."""
    return struct.pack("!bi", kind, size) + content


def mapped(key: int, value: int, size: int, content: bytes = b"") -> bytes:
    return struct.pack("!bbi", key, value, size) + content


def refused(shape: ThriftShape, body: bytes) -> str:
    with pytest.raises(DecodingFailed) as caught:
        shape.decode(body)
    assert str(caught.value)
    return str(caught.value)


def value_or_refusal(shape: ThriftShape, body: bytes) -> None:
    """The body is refused as it should be, or holds a struct."""
    try:
        value = shape.decode(body)
    except DecodingFailed as error:
        assert str(error)
    else:
        assert isinstance(value, shape._kind)


ITEM = field(TType.I32, 1, i32(1))
"""The fields that an Item needs."""


def complete(**changes: Any) -> Any:
    made = kinds.Kinds(True, -128, 2**15 - 1, -(2**31), 2**63 - 1, -0.5, "ü\0😀", b"\x00\xff")
    for name, value in changes.items():
        setattr(made, name, value)
    return made


# There and back


@both
@each
@examples
@given(data=st.data())
def test_structs_of_every_kind_go_there_and_back(compact: bool, kind: Any, data: st.DataObject) -> None:
    value = data.draw(structs(kind))
    shape = ThriftShape(kind, compact)
    found = shape.decode(shape.encode(value))
    assert found == value
    assert type(found) is kind


@both
@each
@examples
@given(data=st.data())
def test_bytes_are_those_of_thrift_itself(compact: bool, kind: Any, data: st.DataObject) -> None:
    value = data.draw(structs(kind))
    shape = ThriftShape(kind, compact)
    buffer = TMemoryBuffer()
    value.write(PROTOCOLS[compact](buffer))
    assert shape.decode(buffer.getvalue()) == value
    found = kind()
    returned = found.read(PROTOCOLS[compact](TMemoryBuffer(shape.encode(value))))
    assert (found if returned is None else returned) == value


def test_the_binary_protocol_is_what_java_writes() -> None:
    shape = ThriftShape(Person, False)
    body = b"\x08\x00\x01\x00\x00\x00\x05\x0b\x00\x02\x00\x00\x00\x03Ada\x00"
    assert shape.encode(Person(5, "Ada")) == body
    assert shape.decode(body) == Person(5, "Ada")
    assert ThriftShape(Person, True).encode(Person(5, "Ada")) == b"\x15\x0a\x18\x03Ada\x00"


@both
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 5e-324, -0.0])
def test_odd_doubles_go_there_and_back(compact: bool, value: float) -> None:
    shape = ThriftShape(kinds.Kinds, compact)
    found = shape.decode(shape.encode(complete(a_double=value, matrix=[[value]])))
    assert repr([found.a_double, found.matrix]) == repr([value, [[value]]])


@both
def test_what_is_unset_is_none_or_the_default(compact: bool) -> None:
    shape = ThriftShape(kinds.Kinds, compact)
    found = shape.decode(shape.encode(complete()))
    assert (found.items, found.tags, found.item, found.a_colour) == (None, None, None, None)
    assert found.with_default == 7
    empty = shape.decode(shape.encode(complete(items=[], tags=set(), number_by_text={}, truths=[], with_default=0)))
    assert (empty.items, empty.tags, empty.number_by_text, empty.truths) == ([], set(), {}, [])
    assert empty.with_default == 0


@both
def test_an_enum_is_a_number_whose_name_need_not_be_known(compact: bool) -> None:
    """Generated code for Python holds enums as integers, and does not tell which fields are enums."""
    shape = ThriftShape(kinds.Item, compact)
    assert shape.decode(shape.encode(kinds.Item(1, colour=kinds.Colour.BLUE))).colour == 2
    assert shape.decode(shape.encode(kinds.Item(1, colour=9))).colour == 9


@both
def test_fields_of_newer_callers_are_passed_over(compact: bool) -> None:
    body = ThriftShape(kinds.Kinds, compact).encode(complete(numbers=[1], item_by_name={"a": kinds.Item(1)}))
    assert ThriftShape(kinds.Empty, compact).decode(body) == kinds.Empty()


@both
def test_structs_may_be_nested(compact: bool) -> None:
    value = kinds.Tree(1)
    for _ in range(50):
        value = kinds.Tree(left=value)
    shape = ThriftShape(kinds.Tree, compact)
    assert shape.decode(shape.encode(value)) == value


# What is not the struct: values


@both
@each
@pytest.mark.parametrize("value", [None, 5, "text", b"", {}, object(), Person(1, "a"), Person])
def test_a_value_of_another_class_is_refused_by_both_names(compact: bool, kind: Any, value: Any) -> None:
    with pytest.raises(Mismatch, match=f"^Expected `{kind.__name__}`, got `{type(value).__name__}`"):
        ThriftShape(kind, compact).encode(value)


MISFITS = [
    ("a_bool", "yes"),
    ("a_byte", 128),
    ("a_byte", -129),
    ("an_i16", 2**15),
    ("an_i32", 2**31),
    ("an_i32", "5"),
    ("an_i32", 5.0),
    ("an_i64", 2**63),
    ("an_i64", 2**100),
    ("a_double", "x"),
    ("a_double", None),
    ("a_string", b"bytes"),
    ("a_string", "\ud800"),
    ("a_string", 5),
    ("some_bytes", "text"),
    ("some_bytes", 5),
    ("a_colour", "RED"),
    ("numbers", 5),
    ("numbers", "ab"),
    ("numbers", [None]),
    ("numbers", [2**63]),
    ("texts", [5]),
    ("tags", "ab"),
    ("tags", {5}),
    ("number_by_text", [1]),
    ("number_by_text", {"a": None}),
    ("number_by_text", {None: 1}),
    ("number_by_text", {"a": "b"}),
    ("item", 5),
    ("item", {"id": 1}),
    ("item", kinds.Loose(1)),
    ("item", kinds.Item("x")),
    ("items", 5),
    ("items", [5]),
    ("items", [None]),
    ("items", [kinds.Item(1), kinds.Item(2, 5)]),
    ("item_by_name", [kinds.Item(1)]),
    ("item_by_name", {"a": {"id": 1}}),
    ("deep", {"a": [{1: kinds.Loose(1)}]}),
    ("matrix", [[0.5], ["x"]]),
]


@both
@pytest.mark.parametrize(("name", "value"), MISFITS, ids=str)
def test_a_field_of_another_type_is_refused(compact: bool, name: str, value: Any) -> None:
    with pytest.raises(Mismatch):
        ThriftShape(kinds.Kinds, compact).encode(complete(**{name: value}))


@both
def test_what_is_wrong_is_named_by_its_path(compact: bool) -> None:
    shape = ThriftShape(kinds.Kinds, compact)
    wrong: dict[str, dict[str, Any]] = {
        "$.an_i32": {"an_i32": "5"},
        "$.a_bool": {"a_bool": "yes"},
        "$.item": {"item": kinds.Loose(1)},
        "$.items[1].name": {"items": [kinds.Item(1), kinds.Item(2, 5)]},
        "$.items[1]": {"items": [kinds.Item(1), kinds.Item()]},
        "$.matrix[1][0]": {"matrix": [[0.5], ["x"]]},
    }
    for path, changes in wrong.items():
        with pytest.raises(Mismatch) as caught:
            shape.encode(complete(**changes))
        assert f"at `{path}`" in str(caught.value)


MISSING = {
    "item": kinds.Item(),
    "items": [kinds.Item(1), kinds.Item()],
    "item_by_name": {"k": kinds.Item()},
    "deep": {"k": [{}, {7: kinds.Item()}]},
}


@both
@pytest.mark.parametrize("name", MISSING)
def test_a_required_field_is_missed_at_any_depth(compact: bool, name: str) -> None:
    """Generated code asks a struct for its own fields only."""
    shape = ThriftShape(kinds.Kinds, compact)
    value = complete(**{name: MISSING[name]})
    with pytest.raises(Mismatch, match=r"\bid\b"):
        shape.encode(value)
    buffer = TMemoryBuffer()
    value.write(PROTOCOLS[compact](buffer))
    assert "id" in refused(shape, buffer.getvalue())


@both
@pytest.mark.parametrize("name", ["a_bool", "a_byte", "an_i16", "an_i32", "an_i64", "a_string", "some_bytes"])
def test_each_required_field_is_missed_at_the_top(compact: bool, name: str) -> None:
    shape = ThriftShape(kinds.Kinds, compact)
    value = complete(**{name: None})
    with pytest.raises(Mismatch, match=name):
        shape.encode(value)
    buffer = TMemoryBuffer()
    value.write(PROTOCOLS[compact](buffer))
    assert name in refused(shape, buffer.getvalue())


@both
def test_required_fields_of_a_union_and_of_an_exception_are_missed_too(compact: bool) -> None:
    shape = ThriftShape(kinds.Holder, compact)
    for value in (kinds.Holder(choice=kinds.Choice(item=kinds.Item())), kinds.Holder(refused=kinds.Refused())):
        with pytest.raises(Mismatch):
            shape.encode(value)
    assert "reason" in refused(ThriftShape(kinds.Refused, compact), STOP)


@both
def test_a_struct_that_holds_itself_is_refused(compact: bool) -> None:
    value = kinds.Tree()
    value.children = [value]
    with pytest.raises(Mismatch):
        ThriftShape(kinds.Tree, compact).encode(value)


# What is not the struct: bytes


@both
@each
@examples
@given(data=st.data())
def test_a_struct_that_ends_early_is_refused_wherever_it_ends(compact: bool, kind: Any, data: st.DataObject) -> None:
    shape = ThriftShape(kind, compact)
    body = shape.encode(data.draw(structs(kind, depth=2)))
    for end in range(len(body)):
        refused(shape, body[:end])


@both
@each
def test_what_follows_the_end_is_refused(compact: bool, kind: Any) -> None:
    shape = ThriftShape(kind, compact)
    value = complete() if kind is kinds.Kinds else kind(1) if kind in (kinds.Item, kinds.Loose) else kind()
    body = shape.encode(kinds.Refused("r") if kind is kinds.Refused else value)
    for further in (STOP, b"x", body):
        assert f"{len(further)} bytes follow it" in refused(shape, body + further)


@both
@each
@settings(examples, max_examples=150)
@given(body=st.binary(max_size=60))
def test_arbitrary_bytes_are_refused_or_a_struct(compact: bool, kind: Any, body: bytes) -> None:
    value_or_refusal(ThriftShape(kind, compact), body)


@both
@each
@settings(examples, max_examples=60)
@given(data=st.data())
def test_a_damaged_struct_is_refused_or_a_struct(compact: bool, kind: Any, data: st.DataObject) -> None:
    shape = ThriftShape(kind, compact)
    body = bytearray(shape.encode(data.draw(structs(kind, depth=2))))
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(body)))
        body[place : place + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    value_or_refusal(shape, bytes(body))


@both
def test_the_other_protocol_and_other_encodings_are_refused(compact: bool) -> None:
    shape = ThriftShape(kinds.Kinds, compact)
    refused(shape, ThriftShape(kinds.Kinds, not compact).encode(complete(numbers=[1], tags={"a"})))
    for body in (b"", b'{"1":{"i32":5}}', b"\x0a\x03Ada", b"\x80\x04\x95", b"\xff" * 100):
        refused(shape, body)


def test_a_whole_rpc_message_of_thrift_is_no_struct() -> None:
    header = b"\x80\x01\x00\x01" + text(b"call") + i32(0)
    refused(ThriftShape(kinds.Item, False), header + ITEM + STOP)
    refused(ThriftShape(kinds.Item, True), b"\x82\x21\x00\x04call\x15\x02\x00")


NESTS = {
    "structs": (field(TType.STRUCT, 2, b""), b"\x2c"),
    "lists": (field(TType.LIST, 3, listed(TType.STRUCT, 1)), b"\x39\x1c"),
    "maps": (field(TType.MAP, 4, mapped(TType.STRING, TType.STRUCT, 1, text(b""))), b"\x4b\x01\x8c\x00"),
    "unknown structs": (field(TType.STRUCT, 9, b""), b"\x9c"),
    "unknown lists": (field(TType.LIST, 9, listed(TType.STRUCT, 1)), b"\x99\x1c"),
    "unknown maps": (field(TType.MAP, 9, mapped(TType.STRING, TType.STRUCT, 1, text(b""))), b"\x9b\x01\x8c\x00"),
}


@both
@pytest.mark.parametrize("depth", [1000, 100_000])
@pytest.mark.parametrize("nest", NESTS)
def test_a_nest_is_refused(compact: bool, nest: str, depth: int) -> None:
    level = NESTS[nest][compact]
    shape = ThriftShape(kinds.Tree, compact)
    assert isinstance(shape.decode(level * 3 + STOP * 4), kinds.Tree)
    with memory_below(8 * MIB):
        refused(shape, level * depth + STOP * (depth + 1))
        refused(shape, level * depth)


CLAIMS = (2**31 - 1, 2**30, 10**6, 5000)


@pytest.mark.parametrize("claim", [*CLAIMS, -1, -(2**31)])
def test_sizes_that_the_body_cannot_hold_are_refused_before_they_are_allocated(claim: int) -> None:
    shape = ThriftShape(kinds.Kinds, False)
    padding = bytes(100)
    for body in (
        field(TType.STRING, 7, i32(claim)),
        field(TType.STRING, 8, i32(claim)),
        field(TType.LIST, 11, listed(TType.I64, claim)),
        field(TType.LIST, 12, listed(TType.STRING, claim)),
        field(TType.LIST, 20, listed(TType.STRUCT, claim)),
        field(TType.SET, 15, listed(TType.I32, claim)),
        field(TType.MAP, 16, mapped(TType.STRING, TType.I64, claim)),
        field(TType.LIST, 18, listed(TType.LIST, 1, listed(TType.DOUBLE, claim))),
        *(field(TType.LIST, 99, listed(kind, claim)) for kind in range(17)),
        *(field(TType.MAP, 99, mapped(kind, kind, claim)) for kind in range(17)),
        field(TType.STRING, 99, i32(claim)),
    ):
        with memory_below(256 << 10):
            refused(shape, body + padding)


@pytest.mark.parametrize("claim", CLAIMS)
def test_sizes_of_the_compact_protocol_are_bounded_as_well(claim: int) -> None:
    size = b""
    for shift in range(0, 35, 7):
        size += bytes((claim >> shift & 127 | (128 if claim >> shift + 7 else 0),))
        if not claim >> shift + 7:
            break
    shape = ThriftShape(kinds.Kinds, True)
    for number, kind, inside in (
        (7, 8, size),
        (8, 8, size),
        (10, 9, b"\xf1" + size),
        (11, 9, b"\xf6" + size),
        (12, 9, b"\xf8" + size),
        (15, 10, b"\xf5" + size),
        (14, 10, b"\xf8" + size),
        *((0x7F, 9, bytes((0xF0 | kind,)) + size) for kind in range(16)),
        *((0x7F, 11, size + bytes((kind << 4 | kind,))) for kind in range(16)),
    ):
        with memory_below(256 << 10):
            refused(shape, bytes((kind, number << 1)) + inside + b"\0" * 100)
    for endless in (b"\xff" * 5, b"\xff" * 10, b"\xff" * 200):
        refused(shape, b"\x18" + endless)
        refused(shape, b"\x79" + b"\xf6" + endless)


@both
def test_many_structs_of_one_byte_each_are_refused(compact: bool) -> None:
    """A struct takes a hundred times its byte, and what is zeros compresses a thousand times."""
    count = MIB + 1
    head = b"\x39\xfc\x81\x80\x40" if compact else field(TType.LIST, 3, listed(TType.STRUCT, count))
    with memory_below(64 * MIB):
        refused(ThriftShape(kinds.Tree, compact), head + bytes(count + 1))
    lists = 12  # of half as many each
    head, half = (
        (b"\x39\xcc", b"\x39\xfc\x80\x80\x20")
        if compact
        else (
            field(TType.LIST, 3, listed(TType.STRUCT, lists)),
            field(TType.LIST, 3, listed(TType.STRUCT, MIB // 2)),
        )
    )
    with memory_below(64 * MIB):
        refused(ThriftShape(kinds.Tree, compact), head + (half + bytes(MIB // 2 + 1)) * lists + STOP)


@both
def test_what_would_be_refused_for_its_zeros_is_not_written_either(compact: bool) -> None:
    """They may be structs, as far as one can see without reading them: a Holder has containers of such."""
    with pytest.raises(MessageTooLarge, match="empty structs"):
        ThriftShape(kinds.Holder, compact).encode(kinds.Holder(chunks_once={bytes(5 * MIB)}))


@both
def test_zeros_that_cannot_be_structs_are_taken(compact: bool) -> None:
    shape = ThriftShape(kinds.Chunk, compact)
    value = kinds.Chunk(bytes(5 * MIB))
    assert shape.decode(shape.encode(value)) == value


@both
@pytest.mark.parametrize("bad", [b"\xff", "\ud800".encode("utf-8", "surrogatepass"), b"a\xc3", b"\xc0\x80"], ids=str)
def test_text_that_is_no_utf8_is_refused(compact: bool, bad: bytes) -> None:
    shape = ThriftShape(kinds.Kinds, compact)
    for change in (
        {"a_string": "PLACE"},
        {"texts": ["a", "PLACE"]},
        {"tags": {"PLACE"}},
        {"number_by_text": {"PLACE": 1}},
        {"text_by_number": {1: "PLACE"}},
        {"item": kinds.Item(1, "PLACE")},
        {"items": [kinds.Item(1, "PLACE")]},
    ):
        body = shape.encode(complete(**change))
        refused(shape, body.replace(b"PLACE", bad + b"x" * (5 - len(bad))))
    assert shape.decode(shape.encode(complete(a_string="\ufffd"))).a_string == "\ufffd"
    assert shape.decode(shape.encode(complete(some_bytes=bad))).some_bytes == bad


def test_a_field_of_another_type_is_passed_over_and_missed_where_it_is_required() -> None:
    shape = ThriftShape(kinds.Item, False)
    assert "id" in refused(shape, field(TType.STRING, 1, text(b"x")) + STOP)
    assert shape.decode(ITEM + field(TType.I64, 3, bytes(8)) + STOP) == kinds.Item(1)
    assert shape.decode(ITEM + field(TType.I32, -1, i32(5)) + STOP) == kinds.Item(1)
    assert shape.decode(ITEM + field(TType.I32, 1, i32(2)) + STOP) == kinds.Item(2)


@pytest.mark.parametrize("kind", [1, 5, 7, 9, 17, 99, -1, -128])
def test_a_field_of_no_type_is_refused(kind: int) -> None:
    refused(ThriftShape(kinds.Item, False), ITEM + field(kind, 9, bytes(100)))


# The codec


@message("store.Item")
class Item(kinds.Item):
    pass


class Store:
    def close(self) -> None:
        raise NotImplementedError

    def put(self, item: kinds.Item) -> kinds.Empty:
        raise NotImplementedError


@both
def test_the_codec_carries_structs_whole(compact: bool) -> None:
    codec = Thrift("thrift-compact", compact=True) if compact else Thrift()
    assert (codec.name, set(codec.forms)) == ("thrift-compact" if compact else "thrift", {"thrift"})
    method = contract_of(Store).methods["put"]
    request = codec.request(method)
    assert request.decode(request.encode(method.bind((1, "pen"), {}))) == kinds.Item(1, "pen")
    assert codec.result(method).encode(kinds.Empty()) == STOP
    with pytest.raises(ContractError, match="make the proxy from the service's class"):
        codec.anything()


@both
def test_nothing_is_a_struct_without_fields(compact: bool) -> None:
    """As an argument and as a result: in both protocols it is one byte."""
    codec, method = Thrift("nothing", compact=compact), contract_of(Store).methods["close"]
    for shape, nothing in ((codec.request(method), method.bind((), {})), (codec.result(method), None)):
        assert shape.encode(nothing) == STOP == ThriftShape(kinds.Empty, compact).encode(kinds.Empty())
        assert shape.decode(STOP) == nothing
        for body in (b"", STOP * 2, b"null"):
            with pytest.raises(DecodingFailed):
                shape.decode(body)


@both
def test_a_subclass_of_a_struct_travels_as_the_struct(compact: bool) -> None:
    shape = ThriftShape(kinds.Item, compact)
    made: Any = Item
    assert shape.decode(shape.encode(made(1, "pen"))) == kinds.Item(1, "pen")


@both
def test_reading_and_writing_change_nothing(compact: bool) -> None:
    value = complete(items=[kinds.Item(1)], tags={"a"})
    before = copy.deepcopy(value)
    shape = ThriftShape(kinds.Kinds, compact)
    assert shape.encode(value) == shape.encode(before)
    assert value == before
