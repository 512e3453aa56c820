"""Values of any class that protoc or Thrift generated, as hypothesis strategies: the class tells what it holds."""

from __future__ import annotations

from typing import Any

from google.protobuf.descriptor import FieldDescriptor as Field
from google.protobuf.message_factory import GetMessageClass
from hypothesis import strategies as st
from thrift.Thrift import TException, TType

texts = st.text(st.characters(codec="utf-8"), max_size=5)
chunks = st.binary(max_size=5)
doubles = st.floats(allow_nan=False)


def integers(bits: int, *, signed: bool = True) -> st.SearchStrategy[int]:
    """All of so many bits, and often those at the ends."""
    lowest = -(2 ** (bits - 1)) if signed else 0
    highest = 2 ** (bits - 1) - 1 if signed else 2**bits - 1
    return st.integers(lowest, highest) | st.sampled_from((lowest, highest))


OF_PROTOBUF = {
    Field.TYPE_DOUBLE: doubles,
    Field.TYPE_FLOAT: st.floats(allow_nan=False, width=32),
    **dict.fromkeys((Field.TYPE_INT32, Field.TYPE_SINT32, Field.TYPE_SFIXED32), integers(32)),
    **dict.fromkeys((Field.TYPE_INT64, Field.TYPE_SINT64, Field.TYPE_SFIXED64), integers(64)),
    **dict.fromkeys((Field.TYPE_UINT32, Field.TYPE_FIXED32), integers(32, signed=False)),
    **dict.fromkeys((Field.TYPE_UINT64, Field.TYPE_FIXED64), integers(64, signed=False)),
    Field.TYPE_BOOL: st.booleans(),
    Field.TYPE_STRING: texts,
    Field.TYPE_BYTES: chunks,
}
OF_THRIFT = {
    TType.BOOL: st.booleans(),
    TType.BYTE: integers(8),
    TType.I16: integers(16),
    TType.I32: integers(32),
    TType.I64: integers(64),
    TType.DOUBLE: doubles,
}


@st.composite
def messages(draw: st.DrawFn, kind: Any, depth: int = 3) -> Any:
    """Messages of a class of protobuf, so many deep at most."""
    given = {}
    for field in kind.DESCRIPTOR.fields:
        if field.containing_oneof is not None and field.containing_oneof.name[0] != "_":
            continue
        if field.is_required or (draw(st.booleans()) and (depth or field.message_type is None)):
            given[field.name] = draw(_field(field, depth))
    for oneof in kind.DESCRIPTOR.oneofs:
        field = draw(st.sampled_from([None, *oneof.fields]))
        if oneof.name[0] != "_" and field is not None and (depth or field.message_type is None):
            given[field.name] = draw(_field(field, depth))
    return kind(**given)


def _field(field: Any, depth: int) -> st.SearchStrategy[Any]:
    kind = field.message_type
    if kind is not None and kind.GetOptions().map_entry:
        key, value = kind.fields_by_name["key"], kind.fields_by_name["value"]
        return st.dictionaries(_single(key, depth), _single(value, depth), max_size=2)
    return st.lists(_single(field, depth), max_size=2) if field.is_repeated else _single(field, depth)


def _single(field: Any, depth: int) -> st.SearchStrategy[Any]:
    if field.message_type is not None:
        return messages(GetMessageClass(field.message_type), depth - 1)
    if field.enum_type is not None:
        return st.sampled_from([*field.enum_type.values_by_number])
    return OF_PROTOBUF[field.type]


@st.composite
def structs(draw: st.DrawFn, kind: Any, depth: int = 3) -> Any:
    """Structs of a class of Thrift, so many deep at most; unset fields have their defaults."""
    fields = [field for field in kind.thrift_spec if field]
    needed = required(kind)
    given = {}
    for _, number, name, spec, *_ in fields:
        if name in needed or (draw(st.booleans()) and (depth or number not in (TType.STRUCT, TType.LIST, TType.MAP))):
            given[name] = draw(_value(number, spec, depth))
    return kind(**given)


def required(kind: Any) -> set[str]:
    """The fields that a struct's own `validate` asks for."""
    names = [field[2] for field in kind.thrift_spec if field]
    found = set()
    for name in names:
        try:
            kind(**{other: None if other == name else () for other in names}).validate()
        except TException:
            found.add(name)
    return found


def _value(number: int, spec: Any, depth: int) -> st.SearchStrategy[Any]:
    if number == TType.STRUCT:
        return structs(spec[0], depth - 1)
    if number == TType.LIST:
        return st.lists(_value(spec[0], spec[1], depth), max_size=2)
    if number == TType.SET:
        return st.sets(_value(spec[0], spec[1], depth), max_size=2)
    if number == TType.MAP:
        return st.dictionaries(_value(spec[0], spec[1], depth), _value(spec[2], spec[3], depth), max_size=2)
    if number == TType.STRING:
        return chunks if spec == "BINARY" else texts
    return OF_THRIFT[number]
