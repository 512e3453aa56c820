"""What protobuf lets pass in a message: enums without a name, text of proto2 that is no UTF-8; and what is missing.

Which fields can hold such a thing is found out once for each kind of message; only those are looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any

import msgspec

Look = Callable[[Any, str], Iterator[str]]
"""What is wrong with a value of one field, with the path to it."""


class Search:
    """Which fields of one kind of message to look at, and how."""

    __slots__ = ("_closed", "_extensions", "_repeated", "_single", "_text")

    def __init__(self, descriptor: Any) -> None:
        extensions = descriptor.file.pool.FindAllExtensions(descriptor)
        risky = [field for field in descriptor.fields if _may_be_flawed(field)]
        self._text = tuple(field.name for field in risky if not field.is_repeated and field.type == field.TYPE_STRING)
        self._single = tuple(
            (f.name, f.message_type is not None, _look(f))
            for f in risky
            if not f.is_repeated and f.name not in self._text
        )
        self._repeated = tuple((f.name, _is_map(f), _look(f)) for f in risky if f.is_repeated)
        self._extensions = any(map(_may_be_flawed, extensions))
        # What an enum that is closed does not know is kept among the unknown fields: a map's entry as a whole.
        fields = [*descriptor.fields, *extensions]
        self._closed = {field.number: _name(field) for field in fields if _holds_closed_enum(field)}

    def first(self, message: Any) -> str | None:
        """The first thing that is wrong with a message, and the path to it; None if nothing is."""
        return next(self.all(message, "$"), None)

    def all(self, message: Any, path: str) -> Iterator[str]:
        """Everything that is wrong with a message."""
        for name in self._text:
            if type(getattr(message, name)) is not str:
                yield f"the text is not UTF-8 - at `{path}.{name}`"
        for name, is_message, look in self._single:
            if not is_message or message.HasField(name):
                yield from look(getattr(message, name), f"{path}.{name}")
        for name, is_map, look in self._repeated:
            values = getattr(message, name)
            for key, value in values.items() if is_map else enumerate(values):
                yield from look((key, value) if is_map else value, f"{path}.{name}[{_shown(key)}]")
        if self._closed:
            yield from self._unknown(message, path)
        if self._extensions:
            yield from self._extended(message, path)

    def _unknown(self, message: Any, path: str) -> Iterator[str]:
        from google.protobuf.unknown_fields import UnknownFieldSet

        unknown = UnknownFieldSet(message)
        for place in range(len(unknown)):
            name = self._closed.get(unknown[place].field_number)
            if name is not None:
                yield f"the enum has no such value - at `{path}.{name}`"

    def _extended(self, message: Any, path: str) -> Iterator[str]:
        for field, value in message.ListFields():
            if field.is_extension:
                for one in value if field.is_repeated else (value,):
                    yield from _look(field)(one, f"{path}.{_name(field)}")


@lru_cache(maxsize=1024)
def search(descriptor: Any) -> Search | None:
    """The search for one kind of message; None for those that cannot be flawed, at any depth."""
    return Search(descriptor) if _can_be_flawed(descriptor) else None


@lru_cache(maxsize=1024)
def _can_be_flawed(descriptor: Any) -> bool:
    seen, waiting = {descriptor.full_name}, [descriptor]
    while waiting:
        kind = waiting.pop()
        for field in [*kind.fields, *kind.file.pool.FindAllExtensions(kind)]:
            if field.enum_type is not None or _is_unchecked_text(field):
                return True
            inner = field.message_type
            if inner is not None and inner.full_name not in seen:
                seen.add(inner.full_name)
                waiting.append(inner)
    return False


def missing(message: Any, path: str) -> Iterator[str]:
    """The paths to required fields that are not set.

    The library's own `FindInitializationErrors` ends the process (7.36, in C) when a map has a key that is not UTF-8.
    """
    for field in message.DESCRIPTOR.fields:
        if field.is_required and not message.HasField(field.name):
            yield f"{path}.{field.name}"
    for field, value in message.ListFields():
        where = f"{path}.{_name(field)}"
        if _is_map(field):
            if field.message_type.fields_by_name["value"].message_type is not None:
                for key, item in value.items():
                    yield from missing(item, f"{where}[{_shown(key)}]")
        elif field.message_type is not None:
            for place, item in enumerate(value) if field.is_repeated else ((None, value),):
                yield from missing(item, where if place is None else f"{where}[{place}]")


def _may_be_flawed(field: Any) -> bool:
    if field.message_type is not None:
        return _can_be_flawed(field.message_type)
    return field.enum_type is not None or _is_unchecked_text(field)


def _is_unchecked_text(field: Any) -> bool:
    """Whether a field holds text that protobuf reads without a look: in proto3 it does look."""
    return bool(field.type == field.TYPE_STRING) and not _is_proto3(field.file)


@lru_cache(maxsize=1024)
def _is_proto3(file: Any) -> bool:
    from google.protobuf.descriptor_pb2 import FileDescriptorProto

    proto = FileDescriptorProto()
    file.CopyToProto(proto)
    return proto.syntax == "proto3"


def _is_map(field: Any) -> bool:
    return field.message_type is not None and bool(field.message_type.GetOptions().map_entry)


def _holds_closed_enum(field: Any) -> bool:
    inner = field.message_type.fields_by_name["value"] if _is_map(field) else field
    return inner.enum_type is not None and bool(inner.enum_type.is_closed)


def _name(field: Any) -> str:
    return f"[{field.full_name}]" if field.is_extension else str(field.name)


def _look(field: Any) -> Look:
    """How to look at one value of a field."""
    if _is_map(field):
        keys, values = (_look(field.message_type.fields_by_name[name]) for name in ("key", "value"))

        def in_map(entry: tuple[Any, Any], path: str) -> Iterator[str]:
            yield from keys(entry[0], path)
            yield from values(entry[1], path)

        return in_map
    if field.message_type is not None:
        kind = field.message_type  # looked up when needed: messages may hold their like

        def in_message(value: Any, path: str) -> Iterator[str]:
            found = search(kind)
            return found.all(value, path) if found is not None else iter(())

        return in_message
    if field.enum_type is not None:
        numbers = frozenset(field.enum_type.values_by_number)
        return lambda value, path: iter(() if value in numbers else (f"the enum has no value {value} - at `{path}`",))
    return lambda value, path: iter(() if isinstance(value, (str, int)) else (f"the text is not UTF-8 - at `{path}`",))


def _shown(key: Any) -> str:
    """A key of a map, as a path has it: with double quotes if it is a text."""
    return msgspec.json.encode(key).decode()
