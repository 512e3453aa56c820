"""AMQP 0-9-1 field tables: how message headers are written.

The types are RabbitMQ's (https://www.rabbitmq.com/docs/amqp-0-9-1-errata, section 3), which every client in use today
reads and writes. Decoding trusts nothing: lengths are checked against the data, nesting is bounded, and whatever is
wrong is a `Malformed`.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

FieldTable = Mapping[str, Any]
"""Names to values: bool, int, float, str, bytes, Decimal, datetime, None, and lists and tables of these."""

MAX_DEPTH = 32
"""Tables and arrays may be nested this deep; no real header comes near it, attacks do."""


class Malformed(ValueError):
    """Bytes that are not what AMQP 0-9-1 says they should be."""


def encode_short_string(text: bytes) -> bytes:
    """`text` behind one byte of length, as AMQP writes names and most properties; ValueError above 255 bytes."""
    if len(text) > 255:
        raise ValueError(f"an AMQP short string holds 255 bytes at most, this one has {len(text)}")
    return bytes((len(text),)) + text


def encode_timestamp(seconds: int) -> bytes:
    """Seconds since 1970 in eight bytes; ValueError if they do not fit."""
    if not 0 <= seconds < 2**64:
        raise ValueError(f"AMQP has no time stamp for {seconds} seconds since 1970")
    return struct.pack(">Q", seconds)


def encode_table(table: FieldTable) -> bytes:
    """The table with its four bytes of length; TypeError or ValueError for what a table cannot hold."""
    return _encode_table(table, 0)


def decode_table(data: bytes, at: int = 0) -> tuple[dict[str, Any], int]:
    """The table that starts at `at`, and where it ends; Malformed if it is none."""
    return _decode_table(data, at, 0)


def decode_value(data: bytes) -> Any:
    """One value, its type before it; Malformed if it is none or more than that."""
    value, end = _decode_value(data, 0, 0)
    if end != len(data):
        raise Malformed("a field has bytes behind its value")
    return value


def _encode_table(table: FieldTable, depth: int) -> bytes:
    body = b"".join(_encode_name(name) + _encode_value(value, depth) for name, value in table.items())
    return struct.pack(">I", len(body)) + body


def _encode_name(name: Any) -> bytes:
    if not isinstance(name, str):
        raise TypeError(f"the name of an AMQP header is a str, not {name!r}")
    return encode_short_string(name.encode())


def _encode_value(value: Any, depth: int) -> bytes:
    if depth >= MAX_DEPTH:
        raise ValueError(f"an AMQP header is nested more than {MAX_DEPTH} deep")
    if isinstance(value, Mapping):
        return b"F" + _encode_table(value, depth + 1)
    if isinstance(value, (list, tuple)):
        return _encode_long_string(b"A", b"".join(_encode_value(item, depth + 1) for item in value))
    for kind, encode in _ENCODERS.items():
        if isinstance(value, kind):
            return encode(value)
    raise TypeError(f"an AMQP header cannot hold a {type(value).__name__}")


def _encode_int(value: int) -> bytes:
    if -(2**31) <= value < 2**31:
        return struct.pack(">ci", b"I", value)
    if -(2**63) <= value < 2**63:
        return struct.pack(">cq", b"l", value)
    raise ValueError("an AMQP header holds 64-bit integers, this one is larger")


def _encode_decimal(value: Decimal) -> bytes:
    sign, digits, exponent = value.as_tuple()
    if not isinstance(exponent, int) or not -255 <= exponent <= 10:
        raise ValueError(f"an AMQP header cannot hold the decimal {value}")
    number = int("".join(map(str, digits))) * 10 ** max(exponent, 0) * (-1 if sign else 1)
    if not -(2**31) <= number < 2**31:
        raise ValueError(f"an AMQP header cannot hold the decimal {value}: too many digits")
    return struct.pack(">cBi", b"D", max(-exponent, 0), number)


def _encode_long_string(kind: bytes, value: bytes) -> bytes:
    return struct.pack(">cI", kind, len(value)) + value


# In the order of the isinstance tests: a bool is an int too.
_ENCODERS: dict[type, Callable[[Any], bytes]] = {
    bool: lambda value: b"t\x01" if value else b"t\x00",
    int: _encode_int,
    str: lambda value: _encode_long_string(b"S", value.encode()),
    bytes: lambda value: _encode_long_string(b"x", value),
    float: lambda value: struct.pack(">cd", b"d", value),
    datetime: lambda value: b"T" + encode_timestamp(int(value.timestamp())),
    Decimal: _encode_decimal,
    type(None): lambda value: b"V",
}

_FIXED = {
    kind: struct.Struct(">" + form)
    for kind, form in zip(b"tbBsuIilLfdT", "?bBhHiIqqfdQ", strict=True)  # in RabbitMQ's dialect l and L are signed
}


def _decode_table(data: bytes, at: int, depth: int) -> tuple[dict[str, Any], int]:
    body, end = _slice(data, at, 4)
    table: dict[str, Any] = {}
    while body < end:
        name, after = _slice(data, body, 1)
        try:
            key = data[name:after].decode()
        except UnicodeDecodeError as error:
            raise Malformed("the name of a table field is not UTF-8") from error
        table[key], body = _decode_value(data, after, depth)
    if body > end:
        raise Malformed("a table field runs over the end of its table")
    return table, end


def _decode_array(data: bytes, at: int, depth: int) -> tuple[list[Any], int]:
    body, end = _slice(data, at, 4)
    items: list[Any] = []
    while body < end:
        item, body = _decode_value(data, body, depth)
        items.append(item)
    if body > end:
        raise Malformed("an item runs over the end of its array")
    return items, end


def _decode_value(data: bytes, at: int, depth: int) -> tuple[Any, int]:
    if at >= len(data):
        raise Malformed("a table ends before the type of a field")
    if depth >= MAX_DEPTH:
        raise Malformed(f"a table is nested more than {MAX_DEPTH} deep")
    kind = data[at]
    at += 1
    fixed = _FIXED.get(kind)
    if fixed is not None:
        if at + fixed.size > len(data):
            raise Malformed("a table ends in the middle of a field")
        value = fixed.unpack_from(data, at)[0]
        return (_timestamp(value) if kind == ord("T") else value), at + fixed.size
    decode = _DECODERS.get(kind)
    if decode is None:
        raise Malformed(f"a table field has the unknown type {chr(kind)!r}")
    return decode(data, at, depth + 1)


def _decode_decimal(data: bytes, at: int, depth: int) -> tuple[Decimal, int]:
    if at + 5 > len(data):
        raise Malformed("a table ends in the middle of a decimal")
    scale, number = struct.unpack_from(">Bi", data, at)
    digits = tuple(map(int, str(abs(number))))
    return Decimal((int(number < 0), digits, -scale)), at + 5  # exact, whatever decimal context is in force


def _decode_text(data: bytes, at: int, depth: int) -> tuple[str | bytes, int]:
    start, end = _slice(data, at, 4)
    raw = data[start:end]
    try:
        return raw.decode(), end
    except UnicodeDecodeError:
        return raw, end  # some clients write binary values under the type of text


def _decode_bytes(data: bytes, at: int, depth: int) -> tuple[bytes, int]:
    start, end = _slice(data, at, 4)
    return data[start:end], end


_DECODERS: dict[int, Callable[[bytes, int, int], tuple[Any, int]]] = {
    ord("S"): _decode_text,
    ord("x"): _decode_bytes,
    ord("D"): _decode_decimal,
    ord("V"): lambda data, at, depth: (None, at),
    ord("F"): _decode_table,
    ord("A"): _decode_array,
}


def _timestamp(seconds: int) -> datetime:
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (OverflowError, ValueError, OSError) as error:
        raise Malformed(f"{seconds} is no time stamp in seconds") from error


def _slice(data: bytes, at: int, width: int) -> tuple[int, int]:
    """Start and end of what follows a length of `width` bytes."""
    start = at + width
    end = start + int.from_bytes(data[at:start], "big")
    if start > len(data) or end > len(data):
        raise Malformed("a string or table is longer than the data it is in")
    return start, end
