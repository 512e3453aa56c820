"""Maps of protobuf whose keys are numbers: who chooses these can have each compared with all before it.

Protobuf's own code in C (upb, in release 7) does not salt the hashes of numbers, and looks for a free place step by
step: a megabyte of chosen keys takes ten seconds. It depends on its tables which keys those are, so there is a bound on
how many there may be. In binary they are counted before there are tables: read as the lists of entries that maps are on
the wire (protobuf's guide, "Encoding", "Maps"), by classes of our own, of the same descriptors without `map_entry`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import lru_cache
from itertools import takewhile
from typing import Any

from . import HoldsTooMuch

MAX_ENTRIES = 20_000
"""The most entries that the maps in one message may have together, of those with more than a few: half a second."""
FEW = 100
"""Entries of one map that can do no harm, since each would be compared with so many others at most."""
HARMLESS = 4 * MAX_ENTRIES
"""Bytes in which there is no room for more entries: one with a key has four and more."""


class NumberedMaps:
    """A look at the maps of one kind of message, and of those in it, whose keys are numbers."""

    __slots__ = ("_entries", "_kind", "_leading", "_unreadable")

    def __init__(self, descriptor: Any, leading: frozenset[str], entries: frozenset[str]) -> None:
        from google.protobuf.message import DecodeError
        from google.protobuf.message_factory import GetMessageClass

        self._leading, self._entries = leading, entries
        """The full names of messages with such maps at any depth, and of such entries."""
        self._kind = GetMessageClass(_without_maps(descriptor))
        self._unreadable = (DecodeError, RecursionError, ValueError)

    def check(self, bodies: Iterable[bytes]) -> None:
        """HoldsTooMuch if there are too many entries in bodies in binary that came together.

        What cannot be read is the reader's to refuse.
        """
        _check(entries for body in bodies for entries in self._entries_in(body))

    def _entries_in(self, body: bytes) -> Iterator[int]:
        """How many entries each map has."""
        message = self._kind()
        try:
            message.ParseFromString(body)
        except self._unreadable:
            return
        waiting = [message]
        while waiting:
            for field, value in waiting.pop().ListFields():
                inner = field.message_type
                if inner is None:
                    continue
                if inner.full_name in self._entries:
                    yield len(value)
                if inner.full_name in self._leading:
                    waiting += value if field.is_repeated else (value,)

    def check_json(self, plain: Any) -> None:
        """The same of JSON that has been read: of the objects in it that may be such maps."""
        _check(_objects_in(plain))


@lru_cache(maxsize=1024)
def numbered_maps(descriptor: Any) -> NumberedMaps | None:
    """The look at one kind of message; None if it has no map with numbers for keys, at any depth."""
    kinds = _kinds_in(descriptor)
    entries = {name for name, kind in kinds.items() if _is_map(kind) and _has_number(kind)}
    leading: set[str] = set()
    while more := {name for name, kind in kinds.items() if _inner(kind) & (leading | entries)} - leading:
        leading |= more
    return NumberedMaps(descriptor, frozenset(leading), frozenset(entries)) if entries else None


def _kinds_in(descriptor: Any) -> dict[str, Any]:
    """This kind of message, and all that can be in one, by their full names."""
    found, waiting = {descriptor.full_name: descriptor}, [descriptor]
    while waiting:
        for field in _fields(waiting.pop()):
            inner = field.message_type
            if inner is not None and inner.full_name not in found:
                found[inner.full_name] = inner
                waiting.append(inner)
    return found


def _fields(descriptor: Any) -> list[Any]:
    return [*descriptor.fields, *descriptor.file.pool.FindAllExtensions(descriptor)]


def _inner(descriptor: Any) -> set[str]:
    return {field.message_type.full_name for field in _fields(descriptor) if field.message_type is not None}


def _is_map(descriptor: Any) -> bool:
    return bool(descriptor.GetOptions().map_entry)


def _has_number(entry: Any) -> bool:
    key = entry.fields_by_name["key"]
    return key.type not in (key.TYPE_STRING, key.TYPE_BOOL)


def _without_maps(descriptor: Any) -> Any:
    """The same kind of message, with lists of entries for maps, and with nothing that takes the place of another."""
    from google.protobuf.descriptor_pool import DescriptorPool

    pool, added = DescriptorPool(), set[str]()
    for kind in _kinds_in(descriptor).values():
        for file in (kind.file, *(extension.file for extension in kind.file.pool.FindAllExtensions(kind))):
            _add(file, pool, added)
    return pool.FindMessageTypeByName(descriptor.full_name)


def _add(file: Any, pool: Any, added: set[str]) -> None:
    from google.protobuf.descriptor_pb2 import FileDescriptorProto

    if file.name in added:
        return
    added.add(file.name)
    for other in file.dependencies:
        _add(other, pool, added)
    proto = FileDescriptorProto.FromString(file.serialized_pb)
    waiting = list(proto.message_type)
    while waiting:
        message = waiting.pop()
        _unmap(message, proto.syntax == "editions")
        waiting += message.nested_type
    pool.AddSerializedFile(proto.SerializeToString())


def _unmap(message: Any, has_features: bool) -> None:
    """Maps become lists, and members of a oneof, of which the last would be kept, fields of their own."""
    from google.protobuf.descriptor_pb2 import FeatureSet

    maps = {entry.name for entry in message.nested_type if entry.options.map_entry}
    for entry in message.nested_type:
        entry.options.ClearField("map_entry")
    for field in message.field:
        field.ClearField("oneof_index")
        field.ClearField("proto3_optional")
        if has_features and field.type_name.rpartition(f".{message.name}.")[2] in maps:  # entries are never groups
            field.options.features.message_encoding = FeatureSet.LENGTH_PREFIXED
    message.ClearField("oneof_decl")


def _objects_in(plain: Any) -> Iterator[int]:
    """How many keys that are numbers each object begins with: reading a map ends at another."""
    waiting = [plain]
    while waiting:
        one = waiting.pop()
        inner: Iterable[Any] = one.values() if isinstance(one, dict) else one if isinstance(one, list) else ()
        waiting += [value for value in inner if isinstance(value, (dict, list))]
        if isinstance(one, dict) and len(one) > FEW:
            yield sum(1 for _ in takewhile(_is_number, one))


def _is_number(key: str) -> bool:
    """By Python's rules, as protobuf reads it: of floats, too."""
    try:
        float(key)
    except ValueError:
        return False
    return True


def _check(maps: Iterable[int]) -> None:
    found = 0
    for entries in maps:
        found += entries if entries > FEW else 0
        if found > MAX_ENTRIES:
            raise HoldsTooMuch(
                f"maps with numbers for keys have more than {MAX_ENTRIES} entries in one message, all its calls or "
                "items together, and in JSON all keys that look like numbers: send fewer at once, or a repeated field"
            )
