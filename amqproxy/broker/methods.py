"""The methods of AMQP 0-9-1, from and to bytes, by pamqp's catalogue of them.

Decoding is ours, since a broker takes what pamqp would not: names in any alphabet or none, and tables of any depth.
"""

from __future__ import annotations

import struct
from typing import Any, TypeVar

from pamqp import base, commands

from ..fields import Malformed
from ..frames import METHOD
from .errors import frame_error
from .tables import Table

Command = TypeVar("Command", bound=base.Frame)

_FRAME = struct.Struct(">BHI")
_INTEGERS = {"octet": 1, "short": 2, "long": 4, "longlong": 8, "timestamp": 8}


class Undecodable(Exception):
    """A method that AMQP 0-9-1 does not have, or a table with a type that it does not have."""


def layout(command: type[base.Frame]) -> tuple[tuple[str, str], ...]:
    """The arguments of a method, and their types."""
    return tuple((name, command.amqp_type(name)) for name in command.__slots__)


_LAYOUTS: dict[int, tuple[type[base.Frame], tuple[tuple[str, str], ...]]] = {
    index: (command, layout(command)) for index, command in commands.INDEX_MAPPING.items()
}


def decode(payload: bytes) -> base.Frame:
    """The method in a method frame; Undecodable, or Malformed if its arguments are cut short or too long."""
    known = _LAYOUTS.get(int.from_bytes(payload[:4], "big"))
    if known is None:
        class_id, method_id = int.from_bytes(payload[:2], "big"), int.from_bytes(payload[2:4], "big")
        raise Undecodable(f"there is no method {method_id} of class {class_id}")
    command, arguments = known
    method = command.__new__(command)
    at, bits = 4, 8
    for name, kind in arguments:
        if kind == "bit":
            if bits == 8:
                at, bits = at + 1, 0
                if at > len(payload):
                    raise Malformed("a method ends before its flags")
            setattr(method, name, bool(payload[at - 1] >> bits & 1))
            bits += 1
            continue
        bits = 8
        value, at = _decode(payload, at, kind)
        setattr(method, name, value)
    if at != len(payload):
        raise Malformed("a method has bytes behind its last argument")
    return method


def _decode(data: bytes, at: int, kind: str) -> tuple[Any, int]:
    width = _INTEGERS.get(kind)
    if width is not None:
        end = at + width
        value: Any = int.from_bytes(data[at:end], "big")
    else:
        start = at + (1 if kind == "shortstr" else 4)
        end = start + int.from_bytes(data[at:start], "big")
        value = data[start:end]
        if start > len(data):
            end = start
        elif end <= len(data):
            value = _table(value) if kind == "table" else text(value) if kind == "shortstr" else value
    if end > len(data):
        raise Malformed("a method ends in the middle of its arguments")
    return value, end


def _table(fields: bytes) -> Table:
    try:
        return Table.parse(fields)
    except Malformed as error:
        raise Undecodable(str(error)) from error


def text(raw: bytes) -> str:
    """A short string of a method; frame_error for what is no UTF-8, as RabbitMQ has it."""
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        wrong = frame_error("Malformed UTF-8 in shortstr")
        wrong.method = b""
        raise wrong from error


def encode(channel: int, command: type[base.Frame], **arguments: Any) -> bytes:
    """The frame of a method; what is not given is empty or 0."""
    parts = [command.index.to_bytes(4, "big")]
    flags, bits = 0, 0
    for name, kind in _LAYOUTS[command.index][1]:
        value = arguments.get(name)
        if kind == "bit":
            flags |= bool(value) << bits
            bits += 1
            continue
        if bits:
            parts.append(bytes((flags,)))
            flags, bits = 0, 0
        parts.append(_encode(kind, value))
    if bits:
        parts.append(bytes((flags,)))
    payload = b"".join(parts)
    return _FRAME.pack(METHOD, channel, len(payload)) + payload + b"\xce"


def _encode(kind: str, value: Any) -> bytes:
    width = _INTEGERS.get(kind)
    if width is not None:
        return int(value or 0).to_bytes(width, "big")
    if kind == "table":
        return value if value is not None else b"\x00\x00\x00\x00"
    raw = (value or "").encode(errors="surrogateescape") if not isinstance(value, bytes) else value
    return len(raw).to_bytes(1 if kind == "shortstr" else 4, "big") + raw
