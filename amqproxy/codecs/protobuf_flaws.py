"""What protobuf lets pass in a message: enum values without a name, and strings of proto2 that are not UTF-8.

Which kinds of message can hold such a thing is found out once for each; those that cannot are not searched.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Any


def flaw(message: Any) -> str | None:
    """The first thing that is wrong with a message, and the path to it; None if nothing is."""
    return next(_flaws(message, "$"), None) if may_be_flawed(message.DESCRIPTOR) else None


@lru_cache(maxsize=1024)
def may_be_flawed(descriptor: Any) -> bool:
    """Whether messages of a kind can hold what this module looks for, at any depth."""
    seen, waiting = {descriptor.full_name}, [descriptor]
    while waiting:
        for field in _fields(waiting.pop()):
            if field.enum_type is not None or _is_unchecked_text(field):
                return True
            inner = field.message_type
            if inner is not None and inner.full_name not in seen:
                seen.add(inner.full_name)
                waiting.append(inner)
    return False


def _fields(descriptor: Any) -> list[Any]:
    """All fields that are known of a message, extensions included."""
    return [*descriptor.fields, *descriptor.file.pool.FindAllExtensions(descriptor)]


def _is_unchecked_text(field: Any) -> bool:
    """Whether a field holds text that protobuf reads without a look: in proto3 it does look."""
    return bool(field.type == field.TYPE_STRING) and not _is_proto3(field.file)


@lru_cache(maxsize=1024)
def _is_proto3(file: Any) -> bool:
    from google.protobuf.descriptor_pb2 import FileDescriptorProto

    proto = FileDescriptorProto()
    file.CopyToProto(proto)
    return proto.syntax == "proto3"


@lru_cache(maxsize=1024)
def _closed_enums(descriptor: Any) -> dict[int, str]:
    """The fields whose unknown values are not theirs but unknown fields, by number; maps with such values too."""
    found = {}
    for field in _fields(descriptor):
        inner = _value_of_map(field) or field
        if inner.enum_type is not None and inner.enum_type.is_closed:
            found[field.number] = _name(field)
    return found


def _value_of_map(field: Any) -> Any:
    """The field for the values of a map; None if it is no map."""
    entry = field.message_type
    return entry.fields_by_name["value"] if entry is not None and entry.GetOptions().map_entry else None


def _name(field: Any) -> str:
    return f"[{field.full_name}]" if field.is_extension else str(field.name)


def _flaws(message: Any, path: str) -> Iterator[str]:
    closed = _closed_enums(message.DESCRIPTOR)
    if closed:
        from google.protobuf.unknown_fields import UnknownFieldSet

        unknown = UnknownFieldSet(message)
        numbers = [unknown[place].field_number for place in range(len(unknown))]
        yield from (
            f"the enum has no such value - at `{path}.{closed[number]}`" for number in numbers if number in closed
        )
    for field, value in message.ListFields():
        where = f"{path}.{_name(field)}"
        values = _value_of_map(field)
        if values is not None:
            keys = field.message_type.fields_by_name["key"]
            for key, item in value.items():
                yield from _flaws_in(keys, key, where)
                yield from _flaws_in(values, item, f"{where}[{key!r}]")
        elif field.is_repeated:
            for place, item in enumerate(value):
                yield from _flaws_in(field, item, f"{where}[{place}]")
        else:
            yield from _flaws_in(field, value, where)


def _flaws_in(field: Any, value: Any, path: str) -> Iterator[str]:
    if field.message_type is not None:
        if may_be_flawed(field.message_type):
            yield from _flaws(value, path)
    elif field.enum_type is not None:
        if value not in field.enum_type.values_by_number:
            yield f"the enum has no value {value} - at `{path}`"
    elif field.type == field.TYPE_STRING and not isinstance(value, str):
        yield f"the text is not UTF-8 - at `{path}`"
