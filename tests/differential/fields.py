"""Field tables and the types of method arguments as bytes, exactly: no type is lost on the way in or out.

pamqp decodes all integers to `int` and refuses what the specification forbids. Here a broker is to be told forbidden
things, and whether it answers with an `I` or an `l` is part of what it says.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Fields = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Typed:
    """A value of a table whose wire type is not the one that Python's own type stands for."""

    kind: str
    """The type's letter, as in https://www.rabbitmq.com/amqp-0-9-1-errata."""
    value: Any

    def __repr__(self) -> str:
        return f"{self.kind}({self.value!r})"


_NUMBERS = {
    "b": ">b",
    "B": ">B",
    "s": ">h",
    "u": ">H",
    "I": ">i",
    "i": ">I",
    "l": ">q",
    "T": ">Q",
    "f": ">f",
    "d": ">d",
}
_NATURAL: dict[type, str] = {
    bool: "t",
    int: "I",
    float: "d",
    str: "S",
    bytes: "x",
    dict: "F",
    list: "A",
    type(None): "V",
}


def encode_text(text: str) -> bytes:
    """Return UTF-8; bytes that are none travel as lone surrogates."""
    return text.encode("utf-8", "surrogateescape")


def decode_text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


def encode_value(value: Any) -> bytes:
    """Return a table's value with its type's letter in front."""
    if isinstance(value, Typed):
        kind, value = value.kind, value.value
    elif isinstance(value, Mapping):
        kind = "F"
    elif isinstance(value, int) and not isinstance(value, bool) and not -(2**31) <= value < 2**31:
        kind = "l"
    else:
        kind = _NATURAL[type(value)]
    return kind.encode() + _encode_as(kind, value)


def _encode_as(kind: str, value: Any) -> bytes:
    if kind in _NUMBERS:
        return struct.pack(_NUMBERS[kind], value)
    match kind:
        case "t":
            return bytes([value])
        case "S" | "x":
            data = value if isinstance(value, bytes) else encode_text(value)
            return struct.pack(">I", len(data)) + data
        case "F":
            return encode_table(value)
        case "A":
            return _sized(b"".join(map(encode_value, value)))
        case "D":
            return struct.pack(">Bi", *value)
        case "V":
            return b""
    return bytes(value)  # a type that does not exist, to be refused


def encode_table(table: Fields) -> bytes:
    return _sized(b"".join(_short(encode_text(key)) + encode_value(value) for key, value in table.items()))


def _sized(data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + data


def _short(data: bytes) -> bytes:
    return bytes([len(data)]) + data


class Reader:
    """Takes typed values off the front of some bytes."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def __bool__(self) -> bool:
        return self._at < len(self._data)

    def take(self, size: int) -> bytes:
        if self._at + size > len(self._data):
            raise ValueError(f"{size} bytes wanted at {self._at} of {len(self._data)}")
        self._at += size
        return self._data[self._at - size : self._at]

    def number(self, form: str) -> Any:
        return struct.unpack(form, self.take(struct.calcsize(form)))[0]

    def sized(self) -> bytes:
        return self.take(self.number(">I"))

    def short(self) -> str:
        return decode_text(self.take(self.number("B")))

    def table(self) -> dict[str, Any]:
        inner = Reader(self.sized())
        table = {}
        while inner:
            key = inner.short()
            table[key] = inner.value()
        return table

    def value(self) -> Any:
        kind = self.take(1).decode("latin-1")
        if kind in _NUMBERS:
            number = self.number(_NUMBERS[kind])
            return number if kind in "Id" else Typed(kind, number)
        match kind:
            case "t":
                return self.take(1) != b"\0"
            case "S":
                return decode_text(self.sized())
            case "x":
                return self.sized()
            case "F":
                return self.table()
            case "A":
                inner = Reader(self.sized())
                array = []
                while inner:
                    array.append(inner.value())
                return array
            case "D":
                return Typed("D", (self.number("B"), self.number(">i")))
            case "V":
                return None
        raise ValueError(f"no type of a table's value: {kind!r}")


_ENCODERS: dict[str, Callable[[Any], bytes]] = {
    "octet": lambda value: struct.pack("B", value),
    "short": lambda value: struct.pack(">H", value),
    "long": lambda value: struct.pack(">I", value),
    "longlong": lambda value: struct.pack(">Q", value),
    "timestamp": lambda value: struct.pack(">Q", value),
    "shortstr": lambda value: _short(encode_text(value)),
    "longstr": lambda value: _sized(value if isinstance(value, bytes) else encode_text(value)),
    "table": lambda value: _sized(value) if isinstance(value, bytes) else encode_table(value),
}
_DECODERS: dict[str, Callable[[Reader], Any]] = {
    "octet": lambda reader: reader.number("B"),
    "short": lambda reader: reader.number(">H"),
    "long": lambda reader: reader.number(">I"),
    "longlong": lambda reader: reader.number(">Q"),
    "timestamp": lambda reader: reader.number(">Q"),
    "shortstr": lambda reader: reader.short(),
    "longstr": lambda reader: decode_text(reader.sized()),
    "table": lambda reader: reader.table(),
}


def encode_arguments(types: Sequence[str], values: Sequence[Any]) -> bytes:
    """Return the arguments of a method, or properties, one behind the other; adjacent bits share an octet."""
    parts: list[bytes] = []
    bits: list[bool] = []
    for kind, value in zip(types, values, strict=True):
        if kind == "bit":
            bits.append(value)
            continue
        parts.extend(_octets(bits))
        parts.append(_ENCODERS[kind](value))
    return b"".join([*parts, *_octets(bits)])


def _octets(bits: list[bool]) -> list[bytes]:
    octets = [sum(bit << place for place, bit in enumerate(bits[at : at + 8])) for at in range(0, len(bits), 8)]
    bits.clear()
    return [bytes(octets)]


def decode_arguments(types: Sequence[str], data: bytes) -> list[Any]:
    """Return what `encode_arguments` was given. ValueError when `data` is too short or has unknown types."""
    reader = Reader(data)
    values: list[Any] = []
    octet, bit = 0, 8
    for kind in types:
        if kind != "bit":
            values.append(_DECODERS[kind](reader))
            bit = 8
            continue
        if bit == 8:
            octet, bit = reader.number("B"), 0
        values.append(bool(octet >> bit & 1))
        bit += 1
    return values
