"""Compression, around any codec: `snappy-json` is JSON in one raw snappy block, as snappy-java writes it.

`zstd-` is a Zstandard frame, `lz4-` an LZ4 frame, `gzip-` one gzip member. Nothing is decompressed beyond a limit:
what a body claims to hold is checked first, and no more is ever allocated than the limit.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import cramjam

from ..errors import MessageTooLarge
from ..messages import Form
from . import Codec, DecodingFailed, HoldsTooMuch, Shape

if TYPE_CHECKING:
    from ..contract import Method

SNAPPY_RATIO = 32
"""A snappy block holds less than 22 times its size: three bytes at best stand for 64."""
GZIP_LEVEL = 6
"""zlib's own default."""
FIRST_GUESS = 8
"""How many times larger the content of a frame is expected to be that does not tell; doubled until it fits."""


class TooMuch(ValueError):
    """A body holds more than may be decompressed."""


@dataclass(frozen=True, slots=True)
class Compression:
    """One way to compress."""

    name: str
    _compress: Callable[[bytes], bytes]
    _decompress: Callable[[bytes, int], bytes]
    """The content, of so many bytes at most: TooMuch if there is more, another exception if it is damaged."""

    def compress(self, body: bytes, limit: int) -> bytes:
        """The body, compressed; MessageTooLarge if nobody with this limit would decompress it."""
        if len(body) > limit:
            raise MessageTooLarge(f"{len(body)} bytes before compression, max_decompressed_bytes is {limit}")
        return self._compress(body)

    def decompress(self, body: bytes, limit: int) -> bytes:
        """The content; DecodingFailed if it is damaged, or larger than the limit."""
        try:
            return self._decompress(body, limit)
        except TooMuch as error:
            text = str(error) or f"it holds more than {limit} bytes, which is max_decompressed_bytes"
            raise HoldsTooMuch(text) from None
        except (ValueError, zlib.error, cramjam.DecompressionError) as error:
            raise DecodingFailed(f"not valid {self.name}: {error}") from error


class Compressed:
    """A codec within a compression."""

    def __init__(self, codec: Codec, compression: Compression, limit: int) -> None:
        self.name = f"{compression.name}-{codec.name}"
        self.forms: Collection[Form] = codec.forms
        self._codec = codec
        self._compression = compression
        self._limit = limit

    def request(self, method: Method) -> CompressedShape:
        """The arguments, compressed."""
        return CompressedShape(self._codec.request(method), self._compression, self._limit)

    def result(self, method: Method) -> CompressedShape:
        """The result, compressed."""
        return CompressedShape(self._codec.result(method), self._compression, self._limit)

    def anything(self) -> CompressedShape:
        """Plain values, compressed."""
        return CompressedShape(self._codec.anything(), self._compression, self._limit)


class CompressedShape:
    """One type in one encoding, compressed."""

    __slots__ = ("_limit", "compression", "inner")

    def __init__(self, shape: Shape, compression: Compression, limit: int) -> None:
        self.inner = shape
        self.compression = compression
        self._limit = limit

    def encode(self, value: Any) -> bytes:
        """The value's bytes, compressed."""
        return self.compression.compress(self.inner.encode(value), self._limit)

    def decode(self, body: bytes) -> Any:
        """The value."""
        return self.inner.decode(self.compression.decompress(body, self._limit))

    def compress(self, body: bytes) -> bytes:
        """What was encoded already, compressed."""
        return self.compression.compress(body, self._limit)

    def decompress(self, body: bytes) -> bytes:
        """What is to be decoded."""
        return self.compression.decompress(body, self._limit)


def _snappy(body: bytes) -> bytes:
    return bytes(cramjam.snappy.compress_raw(body))


def _from_snappy(body: bytes, limit: int) -> bytes:
    if not body:
        raise ValueError("it is empty")
    claimed = cramjam.snappy.decompress_raw_len(body)
    if claimed > limit:
        raise TooMuch
    if claimed > SNAPPY_RATIO * len(body):
        raise ValueError(f"{len(body)} bytes cannot hold {claimed}")
    return bytes(cramjam.snappy.decompress_raw(body))


def _zstd(body: bytes) -> bytes:
    return bytes(cramjam.zstd.compress(body))


def _from_zstd(body: bytes, limit: int) -> bytes:
    head = _ZstdHead(body)
    if head.window > max(limit, 8 << 20):  # of 8 MiB each decoder should be capable (RFC 8878, 3.1.1.1.2)
        raise TooMuch(f"it asks for a window of more than {max(limit, 8 << 20)} bytes")
    _check_length(body, head.end_of_frame(body, _most_blocks(body, limit)))
    return _within(cramjam.zstd.decompress_into, body, limit)


class _ZstdHead:
    """The header of a frame (RFC 8878, section 3.1.1.1)."""

    def __init__(self, body: bytes) -> None:
        if len(body) < 6 or body[:4] != b"\x28\xb5\x2f\xfd":
            raise ValueError("it does not begin as a frame")
        flags = body[4]
        single_segment = bool(flags & 0x20)  # then the window is the content
        dictionary = 5 + (not single_segment)
        content = dictionary + (0, 1, 2, 4)[flags & 3]
        self.size = content + ((1 if single_segment else 0), 2, 4, 8)[flags >> 6]
        self.checksum = 4 if flags & 4 else 0
        if single_segment:
            field = body[content : self.size]
            self.window = int.from_bytes(field, "little") + (256 if len(field) == 2 else 0)
        else:
            base = 1 << (10 + (body[5] >> 3))
            self.window = base + base // 8 * (body[5] & 7)

    def end_of_frame(self, body: bytes, most_blocks: int) -> int:
        """Where the frame ends: after its last block, and the checksum."""
        place = self.size
        for _ in range(most_blocks):
            header = int.from_bytes(_part(body, place, 3), "little")
            last, kind, size = header & 1, header >> 1 & 3, header >> 3
            place += 3 + (1 if kind == 1 else size)  # one byte stands for a block of nothing else
            if last:
                return place + self.checksum
        raise ValueError("it has too many blocks for its size")


def _lz4(body: bytes) -> bytes:
    return bytes(cramjam.lz4.compress(body))


def _from_lz4(body: bytes, limit: int) -> bytes:
    _check_length(body, _end_of_lz4_frame(body, _most_blocks(body, limit)))
    return _within(cramjam.lz4.decompress_into, body, limit)


def _end_of_lz4_frame(body: bytes, most_blocks: int) -> int:
    """Where a frame ends (LZ4 Frame Format Description, 1.6.1)."""
    if len(body) < 7 or body[:4] != b"\x04\x22\x4d\x18":
        raise ValueError("it does not begin as a frame")
    flags = body[4]
    place = 7 + (8 if flags & 8 else 0) + (4 if flags & 1 else 0)
    for _ in range(most_blocks):
        size = int.from_bytes(_part(body, place, 4), "little")
        if size == 0:
            return place + 4 + (4 if flags & 4 else 0)
        place += 4 + (size & 0x7FFFFFFF) + (4 if flags & 16 else 0)
    raise ValueError("it has too many blocks for its size")


def _most_blocks(body: bytes, limit: int) -> int:
    """More blocks than any encoder writes; walking over all that a body has room for would take seconds."""
    return 64 + len(body) // 16 + limit // 4096


def _part(body: bytes, place: int, size: int) -> bytes:
    part = body[place : place + size]
    if len(part) < size:
        raise ValueError("it ends early")
    return part


def _check_length(body: bytes, end: int) -> None:
    """A body is one frame: decoders would go on with whatever follows it."""
    if end > len(body):
        raise ValueError("it ends early")
    if end < len(body):
        raise ValueError(f"{len(body) - end} bytes follow it")


def _within(decompress_into: Callable[[bytes, bytearray], int], body: bytes, limit: int) -> bytes:
    """The content of a frame that does not reliably tell its size: tried with more and more room, up to the limit."""
    room = min(FIRST_GUESS * len(body) + 64, limit)
    while True:
        content = bytearray(room)
        try:
            return bytes(memoryview(content)[: decompress_into(body, content)])
        except cramjam.DecompressionError as error:
            if "write whole buffer" not in str(error):
                raise
        if room == limit:
            raise TooMuch
        room = min(room * 8, limit)


def _gzip(body: bytes) -> bytes:
    return zlib.compress(body, GZIP_LEVEL, wbits=31)


def _from_gzip(body: bytes, limit: int) -> bytes:
    inflate = zlib.decompressobj(wbits=31)
    content = inflate.decompress(body, limit + 1)
    if len(content) > limit:
        raise TooMuch
    if not inflate.eof:
        raise ValueError("it ends early")
    if inflate.unused_data:
        raise ValueError(f"{len(inflate.unused_data)} bytes follow it")
    return content


COMPRESSIONS = {
    compression.name: compression
    for compression in (
        Compression("snappy", _snappy, _from_snappy),
        Compression("zstd", _zstd, _from_zstd),
        Compression("gzip", _gzip, _from_gzip),
        Compression("lz4", _lz4, _from_lz4),
    )
}
