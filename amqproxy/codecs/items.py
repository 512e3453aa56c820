"""Several values of one type in one body: the items of a stream that share a message, and calls that do.

In JSON they are an array; in other encodings each stands behind its length, four bytes in network order. A compression
is around the whole.
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from ..errors import said
from ..wire import MAX_BATCH
from . import Codec, Crowded, DecodingFailed, Mismatch, Shape
from .compression import CompressedShape
from .json import JSONShape
from .protobuf import ProtobufJSONShape, ProtobufShape

if TYPE_CHECKING:
    from ..contract import Method

HARMLESS = 64 * 1024
"""Bytes of a body in which there is no room for so many items that it matters."""

_LENGTH = struct.Struct(">I")
_raw = msgspec.json.Decoder(list[msgspec.Raw])


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


class Separable(Items, Protocol):
    """Items that can be told apart even if one of them is not of the type."""

    def unpack_each(self, body: bytes, items: int) -> Sequence[Any]:
        """The values, with a DecodingFailed in the place of each that is not of the type.

        DecodingFailed is raised if they are not so many, or cannot be told apart.
        """


@dataclass(frozen=True, slots=True)
class Joined:
    """How calls of one method share messages."""

    encode: Callable[[tuple[Any, ...], Mapping[str, Any]], bytes]
    """The arguments of one call as bytes, to be packed; raises what a payload's `encode` does."""
    requests: Separable
    results: Separable


def items_of(codec: Codec, shape: Shape, title: str) -> Separable:
    """The items of one shape, in the encoding that made it."""
    if not isinstance(shape, CompressedShape):
        return _items(codec.name, shape, title)
    inner = _items(codec.name.removeprefix(f"{shape.compression.name}-"), shape.inner, title)
    return Compressed(inner, shape.compress, shape.decompress)


def _items(encoding: str, shape: Shape, title: str) -> Separable:
    return _Array(shape, title) if encoding == "json" else _Lengths(shape)


def results(codec: Codec, method: Method) -> Items:
    """The results of a method: one for each item of its stream."""
    return items_of(codec, codec.result(method), method.title)


def streams_of(codec: Codec, method: Method) -> tuple[Items | None, Items | None]:
    """How the items of the streams of a method travel: of its result, and of what it is fed. None for what is none."""
    result, feed = method.stream, method.feed
    out = None if result is None else Chunks() if result.kind == "chunks" else results(codec, method)
    if feed is None:
        return out, None
    item = replace(method, result_type=feed.stream.item)
    return out, Chunks() if feed.stream.kind == "chunks" else results(codec, item)


def _reading(shape: Shape) -> Callable[[bytes], Any]:
    """The shape's decoding. What a type of the user's raises is told as DecodingFailed.

    Items are read in the callback of a socket, where nothing else may come out.
    """
    decode = shape.decode

    def read(body: bytes) -> Any:
        try:
            return decode(body)
        except DecodingFailed:
            raise
        except Exception as error:
            raise DecodingFailed(f"reading it raised {type(error).__name__}: {said(error)}") from error

    return read


class _Array:
    """Items in JSON."""

    batches = True

    def __init__(self, shape: Shape, title: str) -> None:
        self.encode = shape.encode
        self._decode = _reading(shape)
        self._check = shape.check_together if isinstance(shape, ProtobufJSONShape) else None
        self._decode_all: Callable[[bytes], list[Any]] = self._decode_one_by_one
        self._each_at_once: Callable[[bytes], list[Any]] = self._decode_one_by_one
        if isinstance(shape, JSONShape):
            self._each_at_once = _reading(JSONShape(list[shape.kind], title))  # type: ignore[name-defined]  # msgspec's
            if type(shape) is JSONShape:  # and not one that reads what a list of its kind does not
                self._decode_all = self._each_at_once

    def _decode_one_by_one(self, body: bytes) -> list[Any]:
        if self._check is not None:
            self._check(body)
        return [self._decode(one) for one in self._split(body)]

    def _split(self, body: bytes) -> list[bytes]:
        return [bytes(one) for one in _parts(_raw, body)]

    def pack(self, bodies: Sequence[bytes]) -> bytes:
        return bodies[0] if len(bodies) == 1 else self.pack_all(bodies)

    def pack_all(self, bodies: Sequence[bytes]) -> bytes:
        return b"[%b]" % b",".join(bodies)

    def unpack(self, body: bytes, items: int) -> Sequence[Any]:
        if items == 1:
            return (self._decode(body),)
        if len(body) > HARMLESS:  # first: it may hold millions, and each of them would be made
            _split_into(body, items)
        return _checked(self._decode_all(body), items)

    def unpack_all(self, body: bytes) -> Sequence[Any]:
        return self._decode_all(body)

    def unpack_each(self, body: bytes, items: int) -> Sequence[Any]:
        if items == 1:
            return (_value(self._decode, body),)
        if items > MAX_BATCH:
            raise DecodingFailed(f"calls that share a message are {MAX_BATCH} at most, not {items}")
        parts = _split_into(body, items)  # first: a few bytes may hold a million, and each would have its failure
        if self._check is not None:
            self._check(body)
        try:
            return self._each_at_once(body)  # in one pass of C
        except Crowded:  # each alone may be too small to be looked at
            raise
        except DecodingFailed:
            return [_value(self._decode, bytes(one)) for one in parts]


class _Lengths:
    """Items in an encoding that does not tell where a value ends."""

    batches = True

    def __init__(self, shape: Shape) -> None:
        self.encode = shape.encode
        self._decode = _reading(shape)
        self._check = shape.check_together if isinstance(shape, ProtobufShape) else None

    def pack(self, bodies: Sequence[bytes]) -> bytes:
        return bodies[0] if len(bodies) == 1 else self.pack_all(bodies)

    def pack_all(self, bodies: Sequence[bytes]) -> bytes:
        return b"".join([part for body in bodies for part in (_LENGTH.pack(len(body)), body)])

    def unpack(self, body: bytes, items: int) -> Sequence[Any]:
        return [self._decode(one) for one in self._parts(body, items)]

    def unpack_all(self, body: bytes) -> Sequence[Any]:
        return [self._decode(one) for one in self._split(body, len(body))]

    def unpack_each(self, body: bytes, items: int) -> Sequence[Any]:
        return [_value(self._decode, one) for one in self._parts(body, items)]

    def _parts(self, body: bytes, items: int) -> Sequence[bytes]:
        return (body,) if items == 1 else _checked(self._split(body, items), items)

    def _split(self, body: bytes, most: int) -> list[bytes]:
        bodies, at = list[bytes](), 0
        while at < len(body):
            if len(bodies) == most:  # before the others are made, which may be millions
                raise DecodingFailed(f"more than {most} items in a message that says it has {most}")
            start = at + 4
            at = start + int.from_bytes(body[at:start], "big")
            if at > len(body) or start > len(body):
                raise DecodingFailed("the items end in the middle of one")
            bodies.append(body[start:at])
        if self._check is not None:
            self._check(bodies)
        return bodies


class Compressed:
    """Items within a compression."""

    batches = True

    def __init__(
        self, items: Separable, compress: Callable[[bytes], bytes], decompress: Callable[[bytes], bytes]
    ) -> None:
        self.encode = items.encode
        self._items = items
        self._compress, self._decompress = compress, decompress

    def pack(self, bodies: Sequence[bytes]) -> bytes:
        """All of them, compressed together."""
        return self._compress(self._items.pack(bodies))

    def pack_all(self, bodies: Sequence[bytes]) -> bytes:
        """A whole stream, compressed."""
        return self._compress(self._items.pack_all(bodies))

    def unpack(self, body: bytes, items: int) -> Sequence[Any]:
        """The values."""
        return self._items.unpack(self._decompress(body), items)

    def unpack_all(self, body: bytes) -> Sequence[Any]:
        """The values of a whole stream."""
        return self._items.unpack_all(self._decompress(body))

    def unpack_each(self, body: bytes, items: int) -> Sequence[Any]:
        """The values, as far as they are of the type."""
        return self._items.unpack_each(self._decompress(body), items)


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


@functools.cache  # for numbers up to MAX_BATCH
def _splitter(items: int) -> msgspec.json.Decoder[tuple[msgspec.Raw, ...]]:
    return msgspec.json.Decoder(tuple[(msgspec.Raw,) * items])  # type: ignore[misc]  # the type is made here


def _split_into(body: bytes, items: int) -> Sequence[msgspec.Raw]:
    if items <= MAX_BATCH:
        splitter = _splitter(items)
    elif 2 * items < len(body):  # or there is no room for them; what splits them is as large as their number
        splitter = _splitter.__wrapped__(items)
    else:
        raise DecodingFailed(f"a message that says it has {items} items has {len(body)} bytes")
    try:
        return _parts(splitter, body)
    except DecodingFailed as error:
        raise DecodingFailed(f"a message that says it has {items} items has others: {error}") from error


def _parts(decoder: msgspec.json.Decoder[Any], body: bytes) -> Sequence[msgspec.Raw]:
    try:
        parts: Sequence[msgspec.Raw] = decoder.decode(body)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise DecodingFailed(str(error)) from error
    return parts


def _value(decode: Callable[[bytes], Any], body: bytes) -> Any:
    try:
        return decode(body)
    except DecodingFailed as error:
        return error


def _checked(values: Sequence[Any], items: int) -> Sequence[Any]:
    if len(values) != items:
        raise DecodingFailed(f"{len(values)} items in a message that says it has {items}")
    return values
