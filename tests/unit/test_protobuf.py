"""Protocol Buffers, binary and as JSON: there and back, and nothing but DecodingFailed for what is not the message."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Callable
from typing import Any

import pytest
from google.protobuf import any_pb2, descriptor_pool, duration_pb2, json_format, struct_pb2, timestamp_pb2
from google.protobuf.descriptor_pb2 import Edition, FeatureSet, FieldDescriptorProto, FileDescriptorProto
from google.protobuf.message_factory import GetMessageClass
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from amqproxy.codecs import DecodingFailed, HoldsTooMuch, Mismatch, Shape
from amqproxy.codecs.items import items_of
from amqproxy.codecs.json import JSON
from amqproxy.codecs.protobuf import Protobuf, ProtobufJSONShape, ProtobufShape
from amqproxy.codecs.protobuf_maps import FEW, MAX_ENTRIES, numbered_maps
from amqproxy.codecs.registry import codecs
from amqproxy.contract import contract_of
from amqproxy.errors import ContractError
from tests.idl import closed_pb2 as closed
from tests.idl import kinds_pb2 as kinds
from tests.idl.values import messages

examples = settings(
    max_examples=30,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)

VARINT, EIGHT_BYTES, BYTES, GROUP, END, FOUR_BYTES = range(6)
"""Wire types (protobuf's guide, "Encoding")."""

KINDS = (kinds.Scalars, kinds.Kinds, kinds.Tree, kinds.Empty, closed.Item, closed.Order, closed.Extensible)
each = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
both = pytest.mark.parametrize("shape_of", [ProtobufShape, ProtobufJSONShape])
ShapeOf = Callable[[Any], Shape]


def varint(number: int) -> bytes:
    parts = bytearray()
    while number > 127:
        parts.append(number & 127 | 128)
        number >>= 7
    return bytes((*parts, number))


def tag(number: int, kind: int) -> bytes:
    return varint(number << 3 | kind)


def number(field: int, value: int) -> bytes:
    return tag(field, VARINT) + varint(value)


def inside(field: int, content: bytes) -> bytes:
    return tag(field, BYTES) + varint(len(content)) + content


def refused(shape: Shape, body: bytes) -> str:
    with pytest.raises(DecodingFailed) as caught:
        shape.decode(body)
    text = str(caught.value)
    assert text
    return text


def value_or_refusal(shape: Shape, body: bytes) -> None:
    """The body is refused as it should be, or holds a value that can be written again."""
    try:
        value = shape.decode(body)
    except DecodingFailed as error:
        assert str(error)
        return
    assert shape.decode(shape.encode(value)) is not None


WELL_KNOWN = {
    "when": "Timestamp",
    "how_long": "Duration",
    "anything": "Any",
    "object": "Struct",
    "value": "Value",
    "items": "ListValue",
    "mask": "FieldMask",
    "number": "Int64Value",
    "text": "StringValue",
    "raw": "BytesValue",
}


def well_known() -> Any:
    """A message with a field of each of protobuf's own types, of whose sources protoc alone has no copy."""
    files = ("any", "duration", "field_mask", "struct", "timestamp", "wrappers")
    file = FileDescriptorProto(name="well_known.proto", package="amqproxy.known", syntax="proto3")
    file.dependency.extend(f"google/protobuf/{name}.proto" for name in files)
    made = file.message_type.add(name="WellKnown")
    for place, (name, kind) in enumerate(WELL_KNOWN.items(), 1):
        made.field.add(
            name=name,
            number=place,
            type=FieldDescriptorProto.TYPE_MESSAGE,
            type_name=f".google.protobuf.{kind}",
            label=FieldDescriptorProto.LABEL_OPTIONAL,
        )
    pool = descriptor_pool.Default()
    pool.AddSerializedFile(file.SerializeToString())
    return GetMessageClass(pool.FindMessageTypeByName("amqproxy.known.WellKnown"))


# google/protobuf/field_mask.proto and wrappers.proto are known once their modules are.
pytest.importorskip("google.protobuf.field_mask_pb2")
pytest.importorskip("google.protobuf.wrappers_pb2")
WellKnown = well_known()


# There and back


@both
@each
@examples
@given(data=st.data())
def test_messages_of_every_kind_go_there_and_back(shape_of: ShapeOf, kind: Any, data: st.DataObject) -> None:
    value = data.draw(messages(kind))
    shape = shape_of(kind)
    found = shape.decode(shape.encode(value))
    assert found == value
    assert type(found) is kind


@each
@examples
@given(data=st.data())
def test_bytes_are_those_of_protobuf_itself(kind: Any, data: st.DataObject) -> None:
    value = data.draw(messages(kind))
    assert kind.FromString(ProtobufShape(kind).encode(value)) == value
    assert ProtobufShape(kind).decode(value.SerializeToString()) == value
    assert json_format.Parse(ProtobufJSONShape(kind).encode(value), kind()) == value
    assert ProtobufJSONShape(kind).decode(json_format.MessageToJson(value).encode()) == value


@both
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_floats_that_are_no_numbers_go_there_and_back(shape_of: ShapeOf, value: float) -> None:
    shape = shape_of(kinds.Scalars)
    found = shape.decode(shape.encode(kinds.Scalars(a_double=value, a_float=value)))
    assert repr((found.a_double, found.a_float)) == repr((value, value))


def test_json_has_fields_in_camel_case_and_large_integers_as_strings() -> None:
    value = kinds.Scalars(an_int64=2**63 - 1, a_uint64=2**64 - 1, some_bytes=b"\xff", a_colour=kinds.RED)
    assert json.loads(ProtobufJSONShape(kinds.Scalars).encode(value)) == {
        "aDouble": 0.0,
        "aFloat": 0.0,
        "anInt32": 0,
        "anInt64": "9223372036854775807",
        "aUint32": 0,
        "aUint64": "18446744073709551615",
        "aSint32": 0,
        "aSint64": "0",
        "aFixed32": 0,
        "aFixed64": "0",
        "aSfixed32": 0,
        "aSfixed64": "0",
        "aBool": False,
        "aString": "",
        "someBytes": "/w==",
        "aColour": "RED",
    }


def test_json_is_read_by_either_name_of_a_field_and_by_either_form_of_an_enum() -> None:
    shape = ProtobufJSONShape(kinds.Scalars)
    expected = kinds.Scalars(an_int64=5, a_colour=kinds.BLUE)
    for text in ('{"anInt64":"5","aColour":"BLUE"}', '{"an_int64":5,"a_colour":2}', '{"anInt64":5.0,"aColour":2}'):
        assert shape.decode(text.encode()) == expected


@both
def test_what_is_unset_is_told_from_what_is_the_default(shape_of: ShapeOf) -> None:
    shape = shape_of(kinds.Kinds)
    unset = shape.decode(shape.encode(kinds.Kinds()))
    zeros = shape.decode(shape.encode(kinds.Kinds(maybe_number=0, maybe_text="", chosen_number=0, inner={})))
    assert not unset.HasField("maybe_number") and not unset.HasField("inner") and unset.WhichOneof("choice") is None
    assert zeros.HasField("maybe_number") and zeros.HasField("maybe_text") and zeros.HasField("inner")
    assert zeros.WhichOneof("choice") == "chosen_number"
    item = shape_of(closed.Item)
    assert not item.decode(item.encode(closed.Item(id=1))).HasField("name")
    assert item.decode(item.encode(closed.Item(id=1))).name == "nobody"
    assert item.decode(item.encode(closed.Item(id=1, name="nobody"))).HasField("name")


@both
def test_extensions_go_there_and_back(shape_of: ShapeOf) -> None:
    value = closed.Order(number="n")
    value.Extensions[closed.extended_level] = closed.HIGH
    value.Extensions[closed.extended_item].id = 5
    value.Extensions[closed.extended_levels].extend((closed.LOW, closed.HIGH))
    shape = shape_of(closed.Order)
    assert shape.decode(shape.encode(value)) == value


@both
def test_the_types_of_protobufs_own_go_there_and_back(shape_of: ShapeOf) -> None:
    value = WellKnown(
        when=timestamp_pb2.Timestamp(seconds=253402300799, nanos=999999999),
        how_long=duration_pb2.Duration(seconds=-5, nanos=-1),
        number={"value": 2**63 - 1},
        text={"value": ""},
        raw={"value": b"\xff"},
        mask={"paths": ["a.b_c"]},
    )
    value.anything.Pack(kinds.Scalars(an_int32=3))
    value.object.update({"a": [1, None, {"b": True}], "": ""})
    value.value.null_value = struct_pb2.NULL_VALUE
    value.items.extend([1.5, "x", []])
    shape = shape_of(WellKnown)
    assert shape.decode(shape.encode(value)) == value


@both
@pytest.mark.parametrize("depth", [1, 50, 90])
def test_messages_may_be_nested_as_deep_as_protobuf_allows(shape_of: ShapeOf, depth: int) -> None:
    value = kinds.Tree(value=1)
    for _ in range(depth):
        value = kinds.Tree(left=value)
    shape = shape_of(kinds.Tree)
    assert shape.decode(shape.encode(value)) == value


def test_unknown_fields_are_kept() -> None:
    """As protobuf does: a worker that hands on a message of a newer caller loses nothing."""
    body = number(1, 5) + inside(99, b"new") + tag(98, GROUP) + number(1, 2) + tag(98, END)
    shape = ProtobufShape(kinds.Plain)
    found = shape.decode(body)
    assert found.number == 5
    assert shape.encode(found) == body


# What is not the message


@both
@each
@pytest.mark.parametrize("value", [None, 5, "text", b"", {}, [], object(), kinds.Plain(), kinds.Plain])
def test_a_value_of_another_class_is_refused_by_both_names(shape_of: ShapeOf, kind: Any, value: Any) -> None:
    with pytest.raises(Mismatch, match=f"^Expected `{kind.DESCRIPTOR.full_name}`, got `{type(value).__name__}`"):
        shape_of(kind).encode(value)


REQUIRED = {
    "$.number": (b"", closed.Order()),
    "$.item.id": (inside(2, b""), closed.Order(number="n", item={})),
    "$.items[1].id": (inside(3, number(1, 1)) + inside(3, b""), closed.Order(number="n", items=[{"id": 1}, {}])),
    '$.item_by_name["k"].id': (
        inside(4, inside(1, b"k") + inside(2, b"")),
        closed.Order(number="n", item_by_name={"k": closed.Item()}),
    ),
    "$.chosen_item.id": (inside(5, b""), closed.Order(number="n", chosen_item={})),
    "$.part.level": (tag(7, GROUP) + tag(7, END), closed.Order(number="n", part={})),
    "$.part.item.id": (
        tag(7, GROUP) + number(1, 1) + inside(2, b"") + tag(7, END),
        closed.Order(number="n", part={"level": closed.LOW, "item": {}}),
    ),
    "$.parent.number": (inside(8, b""), closed.Order(number="n", parent={})),
    "$.parent.item.id": (
        inside(8, inside(1, b"n") + inside(2, b"")),
        closed.Order(number="n", parent={"number": "n", "item": {}}),
    ),
}


@pytest.mark.parametrize("path", REQUIRED)
def test_a_required_field_that_is_missing_is_named_by_its_path(path: str) -> None:
    body, value = REQUIRED[path]
    if path != "$.number":
        body = inside(1, b"n") + body
    assert f"a required field is missing - at `{path}`" in refused(ProtobufShape(closed.Order), body)
    with pytest.raises(Mismatch, match=r"required field"):
        ProtobufShape(closed.Order).encode(value)
    with pytest.raises(Mismatch) as caught:
        ProtobufJSONShape(closed.Order).encode(value)
    assert f"a required field is missing - at `{path}`" in str(caught.value)
    text = json_format.MessageToJson(value)
    assert f"a required field is missing - at `{path}`" in refused(ProtobufJSONShape(closed.Order), text.encode())


def test_a_required_field_in_an_extension_is_missed_too() -> None:
    body = inside(1, b"n") + inside(101, b"")
    assert "a required field is missing" in refused(ProtobufShape(closed.Order), body)
    assert "a required field is missing" in refused(ProtobufShape(closed.Extensible), inside(101, b""))


@both
def test_what_is_complete_is_passed_over_on_the_way_to_what_is_missing(shape_of: ShapeOf) -> None:
    value = closed.Order(
        number="n",
        item={"id": 1},
        items=[{"id": 1}, {"id": 2}],
        item_by_name={"a": closed.Item(id=1), "b": closed.Item(id=2)},
        levels=[closed.LOW],
        mode_by_name={"a": closed.OFF},
    )
    shape_of(closed.Order).encode(value)
    value.Extensions[closed.extended_item].name = "nobody"
    with pytest.raises(Mismatch, match=r"a required field is missing - at `.*extended_item.*\.id`"):
        shape_of(closed.Order).encode(value)


OPEN = {
    "$.scalars.a_colour": inside(1, number(16, 9)),
    "$.many_scalars[1].a_colour": inside(2, b"") + inside(2, number(16, 9)),
    "$.colours[1]": inside(7, b"\x01\x09"),
    '$.colour_by_text["k"]': inside(11, inside(1, b"k") + number(2, 9)),
    "$.scalars_by_number[7].a_colour": inside(12, number(1, 7) + inside(2, number(16, 9))),
    "$.maybe_colour": number(15, 9),
    "$.chosen_colour": number(18, 9),
    "$.chosen_inner.deep.colour": inside(19, inside(1, number(1, 9))),
    "$.inner.deep.colour": inside(20, inside(1, number(1, 9))),
    "$.colours[0]": number(7, 2**64 - 1),
}
CLOSED = {
    "$.item.level": inside(2, number(1, 1) + number(3, 9)),
    "$.items[1].level": inside(3, number(1, 1)) + inside(3, number(1, 1) + number(3, 9)),
    '$.item_by_name["k"].level': inside(4, inside(1, b"k") + inside(2, number(1, 1) + number(3, 9))),
    "$.chosen_item.level": inside(5, number(1, 1) + number(3, 9)),
    "$.chosen_level": number(6, 9),
    "$.part.level": tag(7, GROUP) + number(1, 1) + number(1, 9) + tag(7, END),
    "$.part.item.level": tag(7, GROUP) + number(1, 1) + inside(2, number(1, 1) + number(3, 9)) + tag(7, END),
    "$.parent.chosen_level": inside(8, inside(1, b"n") + number(6, 9)),
    "$.levels": number(9, 1) + number(9, 9),
    "$.packed_levels": inside(10, b"\x01\x09"),
    "$.mode_by_name": inside(11, inside(1, b"k") + number(2, 9)),
    "extended_level": number(100, 9),
    "extended_item": inside(101, number(1, 1) + number(3, 9)),
    "extended_levels": number(102, 1) + number(102, 9),
}


@pytest.mark.parametrize("path", OPEN)
def test_a_number_that_an_open_enum_does_not_name_is_refused_with_the_path(path: str) -> None:
    text = refused(ProtobufShape(kinds.Kinds), OPEN[path])
    assert text.startswith("the enum has no")
    assert text.endswith(f" - at `{path}`")


@pytest.mark.parametrize("path", CLOSED)
def test_a_number_that_a_closed_enum_does_not_name_is_refused_with_the_path(path: str) -> None:
    text = refused(ProtobufShape(closed.Order), inside(1, b"n") + CLOSED[path])
    assert text.startswith("the enum has no")
    assert path in text


def test_enums_of_extensions_are_looked_at_in_a_message_that_has_no_others() -> None:
    shape = ProtobufShape(closed.Extensible)
    for body in (number(100, 9), inside(101, number(1, 1) + number(3, 9))):
        assert "the enum has no" in refused(shape, body)
    assert shape.decode(number(100, 2)).Extensions[closed.Extensible.extended_level] == closed.HIGH


@both
def test_enum_values_without_a_name_are_not_written_either(shape_of: ShapeOf) -> None:
    for value, path in (
        (kinds.Kinds(maybe_colour=9), "$.maybe_colour"),  # type: ignore[arg-type]  # the mistake in question
        (kinds.Kinds(colours=[0, 9]), "$.colours[1]"),  # type: ignore[list-item]
        (kinds.Kinds(inner={"deep": {"colour": 9}}), "$.inner.deep.colour"),
    ):
        with pytest.raises(Mismatch) as caught:
            shape_of(kinds.Kinds).encode(value)
        assert f"at `{path}`" in str(caught.value)


BAD_TEXT = b"\xff", "\ud800".encode("utf-8", "surrogatepass"), b"a\xc3", b"\xc0\x80"


@pytest.mark.parametrize("text", BAD_TEXT, ids=str)
def test_text_that_is_no_utf8_is_refused_in_either_syntax(text: bytes) -> None:
    for body in (inside(5, text), inside(8, inside(1, text)), inside(14, text), inside(1, inside(14, text))):
        refused(ProtobufShape(kinds.Kinds), body)
    ahead, item = inside(1, b"n"), number(1, 1) + inside(2, text)
    refused(ProtobufShape(closed.Item), item)
    for body in (inside(1, text), *(ahead + more for more in (inside(2, item), inside(3, item), inside(5, item)))):
        refused(ProtobufShape(closed.Order), body)
    for entry in (inside(1, text) + inside(2, number(1, 1)), inside(1, text), inside(1, b"k") + inside(2, item)):
        refused(ProtobufShape(closed.Order), ahead + inside(4, entry))


WRONG = {
    "nothing of protobuf": b'{"x":1}',
    "a field of number 0": b"\0",
    "a tag that does not end": b"\xff" * 11,
    "a number that does not end": tag(3, VARINT) + b"\xff" * 11,
    "wire type 6": tag(3, 6),
    "wire type 7": tag(3, 7),
    "the end of a group that never began": tag(3, END),
    "a group that does not end": tag(99, GROUP) + number(1, 1),
    "the end of another group": tag(99, GROUP) + tag(98, END),
    "a string that claims 2 GiB": tag(14, BYTES) + varint(2**31 - 1) + b"a",
    "bytes that claim 16 EiB": tag(15, BYTES) + varint(2**64 - 1) + b"a",
    "unknown bytes that claim 2 GiB": tag(99, BYTES) + varint(2**31 - 1) + b"a",
    "half a double": tag(1, EIGHT_BYTES) + b"1234",
    "half a float": tag(2, FOUR_BYTES) + b"12",
    "10,000 groups": tag(99, GROUP) * 10_000,
    "10,000 groups that end": tag(99, GROUP) * 10_000 + tag(99, END) * 10_000,
}


@pytest.mark.parametrize("body", WRONG.values(), ids=WRONG)
def test_bytes_that_are_no_protobuf_are_refused(body: bytes) -> None:
    assert "kinds.Scalars" in refused(ProtobufShape(kinds.Scalars), body)


@pytest.mark.parametrize("depth", [101, 1000, 10_000])
@pytest.mark.parametrize("wrap", [lambda b: inside(2, b), lambda b: inside(3, b), lambda b: inside(4, inside(2, b))])
def test_a_nest_of_messages_is_refused(wrap: Callable[[bytes], bytes], depth: int) -> None:
    body = b""
    for _ in range(depth):
        body = wrap(body)
    refused(ProtobufShape(kinds.Tree), body)


def test_a_field_of_another_wire_type_is_an_unknown_field() -> None:
    """As protobuf has it; where the field is required, it is missing."""
    assert ProtobufShape(kinds.Scalars).decode(inside(3, b"abc")).an_int32 == 0
    assert not ProtobufShape(kinds.Kinds).decode(number(1, 5)).HasField("scalars")
    assert "a required field is missing" in refused(ProtobufShape(closed.Item), inside(1, b"abc"))


@each
@examples
@given(data=st.data())
def test_a_message_that_ends_early_is_refused_or_a_smaller_message(kind: Any, data: st.DataObject) -> None:
    shape = ProtobufShape(kind)
    body = shape.encode(data.draw(messages(kind)))
    for end in range(len(body)):
        value_or_refusal(shape, body[:end])


@each
@settings(examples, max_examples=300)
@given(body=st.binary(max_size=60))
def test_arbitrary_bytes_are_refused_or_a_message(kind: Any, body: bytes) -> None:
    value_or_refusal(ProtobufShape(kind), body)
    value_or_refusal(ProtobufJSONShape(kind), body)


@both
@each
@settings(examples, max_examples=50)
@given(data=st.data())
def test_a_damaged_message_is_refused_or_a_message(shape_of: ShapeOf, kind: Any, data: st.DataObject) -> None:
    shape = shape_of(kind)
    body = bytearray(shape.encode(data.draw(messages(kind, depth=2))))
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(body)))
        body[place : place + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    value_or_refusal(shape, bytes(body))


# JSON that is not the message

plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from([*WELL_KNOWN, "@type", "value", "seconds"]), inner, max_size=3)
        | st.dictionaries(st.sampled_from([field.name for field in kinds.Kinds.DESCRIPTOR.fields]), inner, max_size=3)
    ),
    max_leaves=8,
)


@pytest.mark.parametrize("kind", [WellKnown, kinds.Kinds, closed.Order], ids=lambda kind: kind.__name__)
@settings(examples, max_examples=200)
@given(value=plain)
def test_arbitrary_json_is_refused_or_a_message(kind: Any, value: Any) -> None:
    shape = ProtobufJSONShape(kind)
    body = json.dumps(value).encode()
    try:
        found = shape.decode(body)
    except DecodingFailed as error:
        assert len(str(error)) < 2000
        return
    try:
        shape.encode(found)
    except Mismatch as error:  # a number that is none in a Struct can be read, and not be written
        assert "Value.number_value" in str(error)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b'{"anInt32":1',
        b'{"anInt32":1}}',
        b"\xff",
        b"\xef\xbb\xbf{}",
        b"{}\0",
        "{}".encode("utf-16"),
        b'{"nope":1}',
        b'{"anInt32":2147483648}',
        b'{"anInt32":1e400}',
        b'{"anInt32":1.5}',
        b'{"anInt32":true}',
        b'{"anInt32":"x"}',
        b'{"anInt32":[1]}',
        b'{"anInt32":NaN}',
        b'{"aUint32":-1}',
        b'{"anInt64":"9223372036854775808"}',
        b'{"aUint64":%s}' % (b"9" * 5000),
        b'{"aDouble":NaN}',
        b'{"aDouble":1e999}',
        b'{"aDouble":"x"}',
        b'{"aFloat":1e39}',
        b'{"aBool":1}',
        b'{"aBool":"true"}',
        b'{"aString":1}',
        b'{"aString":"\\ud800"}',
        b'{"someBytes":1}',
        b'{"someBytes":"a"}',
        b'{"aColour":"PURPLE"}',
        b'{"aColour":9}',
        b'{"aColour":1e400}',
        b'{"aColour":[]}',
        b'{"@type":"x"}',
        b'{"[amqproxy.closed.extended_level]":1}',
    ],
    ids=lambda body: repr(body[:40]),
)
def test_json_that_does_not_fit_is_refused(body: bytes) -> None:
    text = refused(ProtobufJSONShape(kinds.Scalars), body)
    for word in ("Traceback", "object has no attribute", "is not iterable"):
        assert word not in text


@pytest.mark.parametrize("body", [b"null", b"true", b"1", b'"a"', b'""', b"[]", b"[1]", b'["anInt32"]'])
def test_json_that_is_no_object_is_no_message(body: bytes) -> None:
    text = refused(ProtobufJSONShape(kinds.Scalars), body)
    assert "object" in text
    for word in ("iterable", "TypeError", "NoneType", "bytes-like", "indices"):
        assert word not in text


@pytest.mark.parametrize("start", [b"[", b'{"left":', b'{"a":', b'{"children":[', b'{"byName":{"a":'])
def test_a_nest_of_json_is_refused(start: bytes) -> None:
    refused(ProtobufJSONShape(kinds.Tree), start * 100_000)
    refused(ProtobufJSONShape(WellKnown), b'{"value":' + b"[" * 150 + b"]" * 150 + b"}")


@pytest.mark.parametrize(
    "body",
    [b'{"numbers":["%s"]}', b'{"%s":1}', b'{"colours":["%s"]}', b'{"byNumber":{"%s":""}}'],
    ids=["value", "name", "enum", "key"],
)
def test_a_refusal_does_not_repeat_the_whole_body(body: bytes) -> None:
    text = refused(ProtobufJSONShape(kinds.Kinds), body % (b"A" * 100_000))
    assert len(text) < 2000
    assert "\n" not in text


def test_json_of_more_values_than_can_be_read_soon_is_refused() -> None:
    shape = ProtobufJSONShape(kinds.Kinds)
    assert "values" in refused(shape, b'{"numbers":[' + b"0," * (2 << 20) + b"0]}")
    assert "values" in refused(shape, b'{"manyScalars":[' + b'{"anInt32":1,"aFloat":1},' * (1 << 20) + b"{}]}")
    assert "values" in refused(shape, b'{"byText":{' + b",".join(b'"%d":"1"' % n for n in range(1 << 20)) + b',"a":1}}')
    commas = kinds.Kinds(texts=["," * (2 << 20), "a,b"], numbers=[1, 2])
    assert shape.decode(shape.encode(commas)) == commas


ANY = "type.googleapis.com"


@pytest.mark.parametrize(
    "text",
    [
        '{"anything":{"@type":"x/no.Such"}}',
        '{"anything":{"@type":"x/os.system","value":"id"}}',
        '{"anything":{"@type":1}}',
        '{"anything":{"@type":[]}}',
        '{"anything":{"a":1}}',
        '{"anything":[]}',
        '{"anything":{"@type":"x/amqproxy.closed.Order"}}',
        '{"anything":{"@type":"x/google.protobuf.Timestamp"}}',
        '{"anything":' + '{"@type":"x/google.protobuf.Any","value":' * 200 + "{}" + "}" * 201,
        '{"when":"0000-01-01T00:00:00Z"}',
        '{"when":"yesterday"}',
        '{"when":1}',
        '{"when":"9999-12-31T23:59:59-01:00"}',
        '{"howLong":"1"}',
        '{"howLong":"1e400s"}',
        '{"howLong":"999999999999s"}',
        '{"object":1}',
        f'{{"object":{{"a":{"1" * 400}}}}}',
        '{"items":{}}',
        '{"mask":1}',
        '{"number":{"value":1}}',
        '{"raw":1}',
    ],
    ids=lambda text: text[:50],
)
def test_types_of_protobufs_own_are_refused_as_others_are(text: str) -> None:
    refused(ProtobufJSONShape(WellKnown), text.encode())


@pytest.mark.parametrize(
    "value",
    [
        any_pb2.Any(type_url=f"{ANY}/no.Such", value=b"a"),
        any_pb2.Any(type_url="", value=b"a"),
        any_pb2.Any(type_url=f"{ANY}/amqproxy.kinds.Scalars", value=b"\xff"),
        timestamp_pb2.Timestamp(seconds=2**62),
        timestamp_pb2.Timestamp(seconds=1, nanos=-1),
        duration_pb2.Duration(seconds=2**62),
        duration_pb2.Duration(seconds=1, nanos=-1),
        struct_pb2.Value(number_value=math.nan),
        struct_pb2.Value(number_value=math.inf),
    ],
    ids=lambda value: f"{type(value).__name__} {str(value)[:40]!r}",
)
def test_a_value_without_json_form_is_refused_when_it_is_written(value: Any) -> None:
    [field] = [name for name, kind in WELL_KNOWN.items() if kind == type(value).__name__]
    made = WellKnown(**{field: value})
    assert ProtobufShape(WellKnown).decode(ProtobufShape(WellKnown).encode(made)) is not None
    with pytest.raises(Mismatch):
        ProtobufJSONShape(WellKnown).encode(made)


def test_a_message_too_deep_for_json_is_refused_when_it_is_written() -> None:
    value = inner = kinds.Tree()
    for _ in range(2000):
        inner = inner.left
    inner.value = 1
    with pytest.raises(Mismatch):
        ProtobufJSONShape(kinds.Tree).encode(value)


@both
def test_a_message_too_deep_to_be_looked_through_is_refused_when_it_is_written(shape_of: ShapeOf) -> None:
    value = inner = closed.Order(number="n")
    for _ in range(2000):
        inner = inner.parent
        inner.number = "n"
    with pytest.raises(Mismatch):
        shape_of(closed.Order).encode(value)


# The codec


class Painter:
    def paint(self, scalars: kinds.Scalars) -> kinds.Plain:
        raise NotImplementedError


class Broom:
    def sweep(self) -> None:
        raise NotImplementedError


class Counter:
    def count(self, scalars: kinds.Scalars) -> int:
        raise NotImplementedError


def test_the_codec_carries_messages_of_protobuf_whole() -> None:
    codec = Protobuf()
    assert (codec.name, set(codec.forms)) == ("protobuf", {"protobuf"})
    method = contract_of(Painter).methods["paint"]
    request = codec.request(method).decode(inside(14, b"red"))
    assert (type(request), request.a_string) == (kinds.Scalars, "red")
    assert codec.result(method).decode(number(1, 5)) == kinds.Plain(number=5)
    with pytest.raises(ContractError, match="make the proxy from the service's class"):
        codec.anything()


def test_nothing_is_a_message_without_fields() -> None:
    """As an argument and as a result: no bytes at all."""
    method = contract_of(Broom).methods["sweep"]
    for shape, nothing in (
        (Protobuf().request(method), method.bind((), {})),
        (Protobuf().result(method), None),
    ):
        assert shape.encode(nothing) == b"" == ProtobufShape(kinds.Empty).encode(kinds.Empty())
        assert shape.decode(b"") == nothing
        with pytest.raises(DecodingFailed, match="nothing is expected, and 2 bytes came"):
            shape.decode(number(1, 5))


def test_json_carries_messages_of_protobuf_beside_plain_values() -> None:
    method = contract_of(Counter).methods["count"]
    assert JSON().request(method).decode(b'{"aString":"red"}') == kinds.Scalars(a_string="red")
    assert JSON().result(method).encode(3) == b"3"


@pytest.mark.parametrize("depth", [51, 99])
def test_what_json_can_be_written_of_can_be_read(depth: int) -> None:
    shape = ProtobufJSONShape(kinds.Tree)
    by_list, by_map = kinds.Tree(), kinds.Tree()
    for _ in range(depth - 1):
        by_list, by_map = kinds.Tree(children=[by_list]), kinds.Tree(by_name={"a": by_map})
    for tree in (by_list, by_map):
        assert shape.decode(shape.encode(tree)) == tree


# Maps whose keys are numbers


def entries_of(count: int, field: int = 9) -> bytes:
    """Entries whose keys protobuf puts all into one place."""
    return b"".join(inside(field, number(1, key | key << 32)) for key in range(count))


BY_NUMBER = kinds.Kinds.DESCRIPTOR.fields_by_name["by_number"].number


def json_entries(count: int, key: str = "%d") -> bytes:
    return b'{"byNumber":{%b}}' % b",".join(b'"%b":""' % (key % (at | at << 32)).encode() for at in range(count))


def test_maps_with_more_numbers_than_may_be_compared_are_refused_unread() -> None:
    for shape, body in (
        (ProtobufShape(kinds.Kinds), entries_of(MAX_ENTRIES + 1)),
        (ProtobufJSONShape(kinds.Kinds), json_entries(MAX_ENTRIES + 1)),
        (ProtobufJSONShape(kinds.Kinds), json_entries(MAX_ENTRIES + 1, "%d.0")),
        (ProtobufJSONShape(kinds.Kinds), json_entries(MAX_ENTRIES + 1)[:-2] + b',"none":""}}'),
    ):
        with pytest.raises(HoldsTooMuch, match="numbers for keys have more than 20000 entries"):
            shape.decode(body)


@both
def test_maps_with_as_many_numbers_as_may_be_are_taken(shape_of: ShapeOf) -> None:
    shape, message = shape_of(kinds.Kinds), kinds.Kinds()
    for key in range(MAX_ENTRIES):
        message.by_number[key] = "some"
    assert shape.decode(shape.encode(message)) == message


@both
def test_maps_with_other_keys_and_many_small_maps_may_have_more(shape_of: ShapeOf) -> None:
    message = kinds.Kinds(by_text={f"key {key}": key for key in range(MAX_ENTRIES + 1)})
    shape = shape_of(kinds.Kinds)
    assert shape.decode(shape.encode(message)) == message
    assert numbered_maps(kinds.Tree.DESCRIPTOR) is None


def dynamic(edition: bool = False) -> Any:
    """A message with maps in a oneof, in itself, in an entry, in an extension, and beside other things."""
    file = FileDescriptorProto(name=f"nested{edition}.proto", package=f"nested{edition}")
    if edition:
        file.syntax, file.edition = "editions", Edition.EDITION_2023
        file.options.features.message_encoding = FeatureSet.DELIMITED
    else:
        file.syntax = "proto2"
    package = f".{file.package}"
    outer = file.message_type.add(name="Outer")
    outer.extension_range.add(start=100, end=200)
    outer.oneof_decl.add(name="choice")
    kind, optional, repeated = FieldDescriptorProto.TYPE_MESSAGE, 1, 3
    outer.field.add(name="one", number=1, type=kind, label=optional, type_name=f"{package}.Outer", oneof_index=0)
    outer.field.add(name="other", number=2, type=FieldDescriptorProto.TYPE_INT32, label=optional, oneof_index=0)
    outer.field.add(name="many", number=3, type=kind, label=repeated, type_name=f"{package}.Outer")
    outer.field.add(name="map", number=4, type=kind, label=repeated, type_name=f"{package}.Outer.MapEntry")
    entry = outer.nested_type.add(name="MapEntry")
    entry.options.map_entry = True
    entry.field.add(name="key", number=1, type=FieldDescriptorProto.TYPE_SFIXED64, label=optional)
    entry.field.add(name="value", number=2, type=kind, label=optional, type_name=f"{package}.Outer")
    file.extension.add(
        name="more", number=100, type=kind, label=optional, type_name=f"{package}.Beside", extendee=f"{package}.Outer"
    )
    file.message_type.add(name="Beside").field.add(
        name="numbers", number=4, type=kind, label=repeated, type_name=f"{package}.Beside.NumbersEntry"
    )
    entry = file.message_type[1].nested_type.add(name="NumbersEntry")
    entry.options.map_entry = True
    entry.field.add(name="key", number=1, type=FieldDescriptorProto.TYPE_SFIXED64, label=optional)
    entry.field.add(name="value", number=2, type=FieldDescriptorProto.TYPE_INT32, label=optional)
    file.dependency.append(any_pb2.DESCRIPTOR.name)
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(any_pb2.DESCRIPTOR.serialized_pb)
    pool.AddSerializedFile(file.SerializeToString())
    return GetMessageClass(pool.FindMessageTypeByName(f"{file.package}.Outer"))


def fixed_entries(count: int) -> bytes:
    keys = (struct.pack("<q", key | key << 32) for key in range(count))
    return b"".join(inside(4, tag(1, EIGHT_BYTES) + key) for key in keys)


def test_numbers_are_counted_wherever_a_map_may_be() -> None:
    shape, crowd = ProtobufShape(dynamic()), fixed_entries(MAX_ENTRIES + 1)
    half = fixed_entries(MAX_ENTRIES // 2 + 1)
    for body in (
        crowd,
        inside(1, crowd),
        inside(1, crowd) + number(2, 7),  # which takes its place
        inside(3, half) + inside(3, half),
        inside(4, inside(2, crowd)),
        inside(100, crowd),  # an extension
    ):
        with pytest.raises(HoldsTooMuch, match="20000 entries"):
            shape.decode(body)
    assert len(shape.decode(inside(3, fixed_entries(FEW)) * 300).many) == 300


def test_numbers_are_counted_where_messages_are_groups() -> None:
    with pytest.raises(HoldsTooMuch, match="20000 entries"):
        ProtobufShape(dynamic(edition=True)).decode(fixed_entries(MAX_ENTRIES + 1))


@both
def test_a_large_body_that_is_damaged_is_refused_as_ever(shape_of: ShapeOf) -> None:
    with pytest.raises(DecodingFailed) as raised:
        shape_of(kinds.Kinds).decode(entries_of(MAX_ENTRIES + 1, BY_NUMBER) + b"\xff")
    assert not isinstance(raised.value, HoldsTooMuch)


@pytest.mark.parametrize("encoding", ["protobuf", "json"])
def test_numbers_in_calls_that_share_a_message_are_counted_together(encoding: str) -> None:
    def take(kinds: kinds.Kinds) -> None:
        """Take some."""

    codec = codecs(1 << 20)[encoding]
    these = items_of(codec, codec.request(contract_of(take).methods["take"]), "take")
    one = entries_of(MAX_ENTRIES // 2, BY_NUMBER) if encoding == "protobuf" else json_entries(MAX_ENTRIES // 2)
    for read in (these.unpack, these.unpack_each):
        with pytest.raises(HoldsTooMuch, match="20000 entries"):
            read(these.pack([one] * 3), 3)
    few = entries_of(FEW, BY_NUMBER) if encoding == "protobuf" else json_entries(FEW)
    assert [len(message.by_number) for message in these.unpack_each(these.pack([few] * 300), 300)] == [FEW] * 300
    assert [len(message.by_number) for message in these.unpack(these.pack([few] * 2), 2)] == [FEW] * 2
    if encoding == "json":
        with pytest.raises(DecodingFailed):
            these.unpack_all(these.pack([few] * 300) + b"]")
