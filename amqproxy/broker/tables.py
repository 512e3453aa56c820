"""Field tables as they came: names to encoded values, decoded one by one when somebody asks.

What a client puts into a table travels through the broker byte by byte, whatever its types; nesting costs nothing as
nothing nested is looked into.
"""

from __future__ import annotations

import struct
from collections.abc import Hashable, Iterator, Mapping
from typing import Any

from ..fields import Malformed, decode_value

KINDS = {
    "S": "longstr",
    "I": "signedint",
    "i": "unsignedint",
    "D": "decimal",
    "T": "timestamp",
    "F": "table",
    "A": "array",
    "b": "byte",
    "B": "unsignedbyte",
    "d": "double",
    "f": "float",
    "l": "long",
    "L": "long",
    "s": "short",
    "u": "unsignedshort",
    "t": "bool",
    "x": "binary",
    "V": "void",
}
"""RabbitMQ's names of the types of fields, by the letter that stands for them on the wire."""
INTEGERS = frozenset({"byte", "short", "signedint", "long", "unsignedbyte", "unsignedshort", "unsignedint"})

_FIXED = {ord("t"): 1, ord("b"): 1, ord("B"): 1, ord("s"): 2, ord("u"): 2, ord("I"): 4, ord("i"): 4, ord("f"): 4}
_FIXED |= {ord("l"): 8, ord("L"): 8, ord("d"): 8, ord("T"): 8, ord("D"): 5, ord("V"): 0}
_SIZED = frozenset(b"SxFA")
_NESTED = frozenset(b"FA")
_LENGTH = struct.Struct(">I")


class Table(Mapping[str, Any]):
    """A field table: reads as a mapping of decoded values, and keeps every field as it was encoded."""

    __slots__ = ("fields",)

    def __init__(self, fields: Mapping[str, bytes] | None = None) -> None:
        self.fields: dict[str, bytes] = dict(fields or {})
        """Names to the bytes of type and value."""

    @property
    def weight(self) -> int:
        """For how many things without arguments one with these counts, by the memory that they take."""
        size = sum(len(name) + len(value) for name, value in self.fields.items())
        return 1 + size // 256 + len(self.fields) // 8  # a field of three bytes takes some 200 of memory

    @classmethod
    def parse(cls, data: bytes) -> Table:
        """The table whose fields are `data`, without its length; Malformed if that is none."""
        check(data)
        table = cls()
        at, end = 0, len(data)
        while at < end:
            start = at + 1 + data[at]
            stop = _skip(data, start)
            table.fields[data[at + 1 : start].decode(errors="surrogateescape")] = data[start:stop]
            at = stop
        return table

    def encode(self) -> bytes:
        """The table with its four bytes of length."""
        parts: list[bytes] = []
        for name, value in self.fields.items():
            raw = name.encode(errors="surrogateescape")
            parts += (bytes((len(raw),)), raw, value)
        body = b"".join(parts)
        return _LENGTH.pack(len(body)) + body

    def show(self, name: str) -> str:
        """The value of a field as an error shows it."""
        if name not in self.fields:
            return "undefined"
        try:
            value = self[name]
        except Malformed:
            return f"<{self.kind(name)}>"
        return str(value).lower() if isinstance(value, bool) else str(value)

    def kind(self, name: str) -> str:
        """The type of a field in RabbitMQ's words, "undefined" if there is no such field."""
        field = self.fields.get(name)
        return "undefined" if field is None else KINDS[chr(field[0])]

    def table(self, name: str) -> Table:
        """The table in a field; an empty one if there is none."""
        field = self.fields.get(name, b"")
        return Table.parse(field[5:]) if field[:1] == b"F" else Table()

    def text(self, name: str) -> str | None:
        """The text in a field, whatever its encoding; None if there is none."""
        field = self.fields.get(name, b"")
        return field[5:].decode(errors="surrogateescape") if field[:1] == b"S" else None

    def texts(self, name: str) -> list[str]:
        """The texts in an array field; other items are left out."""
        field = self.fields.get(name, b"")
        if field[:1] != b"A":
            return []
        return [item[5:].decode(errors="surrogateescape") for item in items(field) if item[:1] == b"S"]

    def __getitem__(self, name: str) -> Any:
        return decode_value(self.fields[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self.fields)

    def __len__(self) -> int:
        return len(self.fields)

    def __contains__(self, name: object) -> bool:
        return name in self.fields

    def key(self) -> tuple[tuple[str, bytes], ...]:
        """What is equal for equal tables, whatever their order."""
        return tuple(sorted(self.fields.items()))

    def __repr__(self) -> str:
        return f"Table({self.fields!r})"


def items(array: bytes) -> list[bytes]:
    """The encoded items of an encoded array, its type and length included."""
    found, at = [], 5
    while at < len(array):
        end = _skip(array, at)
        found.append(array[at:end])
        at = end
    return found


def long_string(text: str) -> bytes:
    """A field with a text."""
    raw = text.encode(errors="surrogateescape")
    return b"S" + _LENGTH.pack(len(raw)) + raw


def long_integer(number: int) -> bytes:
    """A field with a 64-bit integer."""
    return b"l" + struct.pack(">q", number)


def timestamp(seconds: int) -> bytes:
    """A field with a time stamp."""
    return b"T" + struct.pack(">Q", seconds)


def array(values: list[bytes]) -> bytes:
    """A field with an array of fields."""
    body = b"".join(values)
    return b"A" + _LENGTH.pack(len(body)) + body


def nested(table: Table) -> bytes:
    """A field with a table."""
    return b"F" + table.encode()


def check(fields: bytes) -> None:
    """See that these are whole fields, and what is nested in them too; Malformed if not."""
    pending = [(fields, 0, True)]
    while pending:
        data, at, named = pending.pop()
        while at < len(data):
            start = at + 1 + data[at] if named else at
            at = _skip(data, start)
            if data[start] in _NESTED:
                pending.append((data[start + 5 : at], 0, data[start] == ord("F")))


def comparable(field: bytes) -> Hashable:
    """What is equal for fields that RabbitMQ takes for equal: numbers of any type, text and bytes."""
    kind = KINDS[chr(field[0])]
    if kind in INTEGERS or kind in ("float", "double"):
        return "number", decode_value(field)
    if kind == "timestamp":
        return "number", int.from_bytes(field[1:], "big")
    return ("text" if kind in ("longstr", "binary") else kind), field[1:]


def _skip(data: bytes, at: int) -> int:
    """Where the field ends whose type stands at `at`."""
    if at >= len(data):
        raise Malformed("a table ends before the type of a field")
    kind = data[at]
    size = _FIXED.get(kind)
    if size is None:
        if kind not in _SIZED:
            raise Malformed(f"a table field has the unknown type {chr(kind)!r}")
        if at + 5 > len(data):
            raise Malformed("a table ends in the middle of a field")
        size = 4 + _LENGTH.unpack_from(data, at + 1)[0]
    end = at + 1 + size
    if end > len(data):
        raise Malformed("a table ends in the middle of a field")
    return end
