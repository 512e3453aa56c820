"""Frames, methods and properties as bytes, without the checks of a client library; pamqp lists the methods."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pamqp import commands

from tests.differential.fields import decode_arguments, encode_arguments

METHOD, HEADER, BODY, HEARTBEAT = 1, 2, 3, 8
FRAME_END = 0xCE
PROTOCOL_HEADER = b"AMQP\0\0\x09\x01"
BASIC = 60


@dataclass(frozen=True, slots=True)
class Kind:
    """What is known of a method."""

    name: str
    """As in the specification: `queue.declare-ok`."""
    index: int
    arguments: tuple[str, ...]
    types: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Frame:
    kind: int
    channel: int
    payload: bytes


@dataclass(frozen=True, slots=True)
class Method:
    name: str
    arguments: Mapping[str, Any]


def _spelled(name: str) -> str:
    family, _, method = name.partition(".")
    return f"{family.lower()}.{re.sub('(?<!^)(?=[A-Z])', '-', method).lower()}"


def _catalogue() -> dict[str, Kind]:
    # RabbitMQ still answers the one class of AMQP 0-8 that 0-9-1 left out.
    kinds = {"access.request-ok": Kind("access.request-ok", 30 << 16 | 11, ("ticket",), ("short",))}
    classes: dict[int, Any] = commands.INDEX_MAPPING
    for index, known in classes.items():
        names = tuple(known.attributes())
        kinds[_spelled(known.name)] = Kind(_spelled(known.name), index, names, tuple(map(known.amqp_type, names)))
    return kinds


KINDS = _catalogue()
BY_INDEX = {kind.index: kind for kind in KINDS.values()}
PROPERTIES = {
    name: (flag, commands.Basic.Properties.amqp_type(name)) for name, flag in commands.Basic.Properties.flags.items()
}


def encode_frame(frame: Frame, end: int = FRAME_END) -> bytes:
    return struct.pack(">BHI", frame.kind, frame.channel, len(frame.payload)) + frame.payload + bytes([end])


def encode_method(method: Method) -> bytes:
    """Return the payload of the method's frame."""
    kind = KINDS[method.name]
    values = [method.arguments[name] for name in kind.arguments]
    return struct.pack(">I", kind.index) + encode_arguments(kind.types, values)


def decode_method(payload: bytes) -> Method:
    (index,) = struct.unpack_from(">I", payload)
    kind = BY_INDEX[index]
    return Method(kind.name, dict(zip(kind.arguments, decode_arguments(kind.types, payload[4:]), strict=True)))


def encode_header(properties: Mapping[str, Any], size: int, class_id: int = BASIC) -> bytes:
    """Return the payload of a content header's frame."""
    flags = sum(PROPERTIES[name][0] for name in properties)
    present = [name for name in PROPERTIES if name in properties]
    values = encode_arguments([PROPERTIES[name][1] for name in present], [properties[name] for name in present])
    return struct.pack(">HHQH", class_id, 0, size, flags) + values


def decode_header(payload: bytes) -> tuple[dict[str, Any], int]:
    """Return the properties that are there, and the size of the body."""
    _, _, size, flags = struct.unpack_from(">HHQH", payload)
    present = [name for name, (flag, _) in PROPERTIES.items() if flags & flag]
    values = decode_arguments([PROPERTIES[name][1] for name in present], payload[14:])
    return dict(zip(present, values, strict=True)), size


def content_frames(channel: int, properties: Mapping[str, Any], body: bytes, limit: int) -> list[Frame]:
    """Return a header frame and as many body frames as `limit`, the negotiated frame_max, asks for."""
    step = limit - 8
    pieces = [body[start : start + step] for start in range(0, len(body), step)]
    header = Frame(HEADER, channel, encode_header(properties, len(body)))
    return [header, *(Frame(BODY, channel, piece) for piece in pieces)]


def encode_frames(frames: Sequence[Frame]) -> bytes:
    return b"".join(map(encode_frame, frames))


class Cutter:
    """Cuts the bytes that arrive into frames."""

    def __init__(self) -> None:
        self._waiting = b""

    def feed(self, data: bytes) -> Iterator[Frame | bytes]:
        """Yield the frames that are whole now. A protocol header, all that a server says in refusal, comes as bytes."""
        self._waiting += data
        while len(self._waiting) >= 8:
            if self._waiting.startswith(b"AMQP"):
                yield self._cut(8)
                continue
            kind, channel, size = struct.unpack_from(">BHI", self._waiting)
            if len(self._waiting) < size + 8:
                return
            data = self._cut(size + 8)
            assert data[-1] == FRAME_END, f"the broker sent a frame with a bad end: {data[:40]!r}"
            yield Frame(kind, channel, data[7:-1])

    def _cut(self, size: int) -> bytes:
        data, self._waiting = self._waiting[:size], self._waiting[size:]
        return data
