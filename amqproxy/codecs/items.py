"""Several values of one type in one body: the items of a stream that share a message, and calls that do.

In JSON they are an array; in other encodings each stands behind its length, four bytes in network order. A compression
is around the whole.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from . import Codec, DecodingFailed, Mismatch, Shape
from .compression import CompressedShape
from .json import JSONShape

if TYPE_CHECKING:
    from ..contract import Method

_LENGTH = struct.Struct(">I")


class Items(Protocol):
    """How values of one type travel, alone and several at once."""

    batches: bool
    """Whether a message can hold several."""

    def encode(self, value: Any) -> bytes:
        """One value's bytes, to be packed; Mismatch or EncodingFailed if it is not of the type."""

    def pack(self, bodies: Sequence[bytes]) -> bytes:
        """The body of a message with all of them."""

    def pack_all(self, bodies: Sequence[bytes]) -> bytes:
        """The body of a message with a whole stream, however many items it has."""

    def unpack(self, body: bytes, items: int) -> Sequence[Any]:
        """The values in the body of a message; DecodingFailed if they are not so many, or not of the type."""

    def unpack_all(self, body: bytes) -> Sequence[Any]:
        """The values in a body that holds a whole stream."""


def items_of(codec: Codec, shape: Shape, title: str) -> Items:
    """The items of one shape, in the encoding that made it."""
    inner = shape.inner if isinstance(shape, CompressedShape) else shape
    name = codec.name.removeprefix(f"{shape.compression.name}-") if isinstance(shape, CompressedShape) else codec.name
    plain = _Array(inner, title) if name == "json" else _Lengths(inner)
    return _Compressed(plain, shape) if isinstance(shape, CompressedShape) else plain


def results(codec: Codec, method: Method) -> Items:
    """The results of a method: one for each item of its stream, or for each call of many."""
    return items_of(codec, codec.result(method), method.title)


def streams_of(codec: Codec, method: Method) -> tuple[Items | None, Items | None]:
    """How the items of the streams of a method travel: of its result, and of what it is fed. None for what is none."""
    result, feed = method.stream, method.feed
    out = None if result is None else Chunks() if result.kind == "chunks" else results(codec, method)
    if feed is None:
        return out, None
    item = replace(method, result_type=feed.stream.item)
    return out, Chunks() if feed.stream.kind == "chunks" else results(codec, item)


class _Array:
    """Items in JSON."""

    batches = True

    def __init__(self, shape: Shape, title: str) -> None:
        self.encode = shape.encode
        self._decode = shape.decode
        self._decode_all: Callable[[bytes], list[Any]] = (
            JSONShape(list[shape.kind], title).decode  # type: ignore[name-defined]  # a type that msgspec is told
            if type(shape) is JSONShape
            else self._decode_one_by_one
        )

    def _decode_one_by_one(self, body: bytes) -> list[Any]:
        try:
            raw = msgspec.json.decode(body, type=list[msgspec.Raw])
        except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
            raise DecodingFailed(str(error)) from error
        return [self._decode(bytes(one)) for one in raw]

    def pack(self, bodies: Sequence[bytes]) -> bytes:
        return bodies[0] if len(bodies) == 1 else self.pack_all(bodies)

    def pack_all(self, bodies: Sequence[bytes]) -> bytes:
        return b"[%b]" % b",".join(bodies)

    def unpack(self, body: bytes, items: int) -> Sequence[Any]:
        return (self._decode(body),) if items == 1 else _checked(self._decode_all(body), items)

    def unpack_all(self, body: bytes) -> Sequence[Any]:
        return self._decode_all(body)


class _Lengths:
    """Items in an encoding that does not tell where a value ends."""

    batches = True

    def __init__(self, shape: Shape) -> None:
        self.encode = shape.encode
        self._decode = shape.decode

    def pack(self, bodies: Sequence[bytes]) -> bytes:
        return bodies[0] if len(bodies) == 1 else self.pack_all(bodies)

    def pack_all(self, bodies: Sequence[bytes]) -> bytes:
        return b"".join([part for body in bodies for part in (_LENGTH.pack(len(body)), body)])

    def unpack(self, body: bytes, items: int) -> Sequence[Any]:
        return (self._decode(body),) if items == 1 else _checked(self.unpack_all(body), items)

    def unpack_all(self, body: bytes) -> Sequence[Any]:
        values, at = [], 0
        while at < len(body):
            start = at + 4
            at = start + int.from_bytes(body[at:start], "big")
            if at > len(body) or start > len(body):
                raise DecodingFailed("the items end in the middle of one")
            values.append(self._decode(body[start:at]))
        return values


class _Compressed:
    """Items within a compression."""

    batches = True

    def __init__(self, items: Items, shape: CompressedShape) -> None:
        self.encode = items.encode
        self._items = items
        self._compress, self._decompress = shape.compress, shape.decompress

    def pack(self, bodies: Sequence[bytes]) -> bytes:
        return self._compress(self._items.pack(bodies))

    def pack_all(self, bodies: Sequence[bytes]) -> bytes:
        return self._compress(self._items.pack_all(bodies))

    def unpack(self, body: bytes, items: int) -> Sequence[Any]:
        return self._items.unpack(self._decompress(body), items)

    def unpack_all(self, body: bytes) -> Sequence[Any]:
        return self._items.unpack_all(self._decompress(body))


class Chunks:
    """Items that are bytes, as they are, one in a message."""

    batches = False

    def encode(self, value: Any) -> bytes:
        """The bytes themselves."""
        if not isinstance(value, (bytes, bytearray, memoryview)):
            raise Mismatch(f"Expected `bytes`, got `{type(value).__name__}`")
        return value if type(value) is bytes else bytes(value)

    def pack(self, bodies: Sequence[bytes]) -> bytes:
        """The only one."""
        [body] = bodies
        return body

    def pack_all(self, bodies: Sequence[bytes]) -> bytes:
        """One after the other."""
        return b"".join(bodies)

    def unpack(self, body: bytes, items: int) -> Sequence[bytes]:
        """The bytes."""
        if items != 1:
            raise DecodingFailed(f"{items} chunks in one message, where there is one in each")
        return (body,)

    def unpack_all(self, body: bytes) -> Sequence[bytes]:
        """A blob that came whole."""
        return (body,)


def _checked(values: Sequence[Any], items: int) -> Sequence[Any]:
    if len(values) != items:
        raise DecodingFailed(f"{len(values)} items in a message that says it has {items}")
    return values
