"""Compression: there and back, within the limit whatever a body claims, and nothing but DecodingFailed for nonsense."""

from __future__ import annotations

import gzip
import os
import random
import struct
import tracemalloc
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import cramjam
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from amqproxy.codecs import DecodingFailed, Mismatch
from amqproxy.codecs.compression import COMPRESSIONS, Compressed, Compression
from amqproxy.codecs.json import JSON
from amqproxy.contract import Method, contract_of
from amqproxy.errors import MessageTooLarge
from amqproxy.options import COMPRESSION_NAMES

examples = settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)

KIB, MIB = 1 << 10, 1 << 20
LIMIT = MIB
SNAPPY, ZSTD, GZIP, LZ4 = (COMPRESSIONS[name] for name in ("snappy", "zstd", "gzip", "lz4"))
TEXT = b'{"items":[{"name":"pen","price":1.5},{"name":"ink","price":2.5}],"express":true}' * 3
NOISE = random.Random(1).randbytes(3000)
START = {"snappy": b"", "zstd": b"\x28\xb5\x2f\xfd", "gzip": b"\x1f\x8b\x08\x00", "lz4": b"\x04\x22\x4d\x18"}
"""How bodies begin: what goes on from there gets further than what is nonsense from the first byte."""
each = pytest.mark.parametrize("compression", COMPRESSIONS.values(), ids=lambda one: one.name)


@contextmanager
def memory_below(most: int) -> Iterator[None]:
    tracemalloc.start()
    try:
        yield
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < most


def refused(compression: Compression, body: bytes, limit: int = LIMIT) -> str:
    with pytest.raises(DecodingFailed) as caught:
        compression.decompress(body, limit)
    return str(caught.value)


def content_or_refusal(compression: Compression, body: bytes) -> bytes | None:
    """The content, which is within the limit, or None where it was refused as it should be."""
    try:
        content = compression.decompress(body, LIMIT)
    except DecodingFailed as error:
        assert str(error)
        return None
    assert len(content) <= LIMIT
    return content


def test_the_names_are_those_that_the_options_know() -> None:
    assert tuple(COMPRESSIONS) == COMPRESSION_NAMES
    assert all(name == compression.name for name, compression in COMPRESSIONS.items())


@each
@examples
@given(content=st.binary(max_size=300) | st.builds(bytes.__mul__, st.binary(max_size=3), st.integers(0, 3000)))
def test_all_bytes_go_there_and_back(compression: Compression, content: bytes) -> None:
    assert compression.decompress(compression.compress(content, LIMIT), LIMIT) == content


def test_bodies_are_what_other_programs_write() -> None:
    assert SNAPPY.decompress(b"\x05\x10hello", LIMIT) == b"hello"  # a raw block: neither framed nor as Hadoop has it
    assert SNAPPY.compress(b"hello", LIMIT) == b"\x05\x10hello"
    assert GZIP.decompress(gzip.compress(TEXT), LIMIT) == TEXT
    assert gzip.decompress(GZIP.compress(TEXT, LIMIT)) == TEXT
    assert ZSTD.decompress(frame(raw_block(b"hello")), LIMIT) == b"hello"
    assert bytes(cramjam.zstd.decompress(ZSTD.compress(TEXT, LIMIT))) == TEXT
    hello = bytes.fromhex("04224d18604082 05000080 68656c6c6f 00000000")
    assert LZ4.decompress(hello, LIMIT) == b"hello"
    assert bytes(cramjam.lz4.decompress(LZ4.compress(TEXT, LIMIT))) == TEXT


# Limits


@each
@pytest.mark.parametrize("limit", [1, 63, 64, 65, 1000, 64 * KIB, MIB, MIB + 1])
def test_the_limit_itself_is_within_the_limit(compression: Compression, limit: int) -> None:
    for content in (b"a" * limit, os.urandom(limit)):
        assert compression.decompress(compression.compress(content, limit), limit) == content


@each
@pytest.mark.parametrize("limit", [1, 63, 64, 65, 1000, 64 * KIB, MIB])
def test_one_byte_more_than_the_limit_is_refused_with_the_limit(compression: Compression, limit: int) -> None:
    for content in (b"a" * (limit + 1), os.urandom(limit + 1)):
        body = compression.compress(content, limit + 1)
        text = f"it holds more than {limit} bytes, which is max_decompressed_bytes"
        assert text in refused(compression, body, limit)
        with pytest.raises(MessageTooLarge, match=f"^{limit + 1} bytes before compression, max_decompressed_bytes is"):
            compression.compress(content, limit)


@each
def test_a_bomb_takes_no_more_memory_than_the_limit_and_a_copy(compression: Compression) -> None:
    body = compression.compress(bytes(32 * MIB), 32 * MIB)
    with memory_below(2 * LIMIT + 256 * KIB + len(body)):
        refused(compression, body)
    with memory_below(64 * KIB + len(body)):
        refused(compression, body, limit=KIB)


@each
def test_content_that_compresses_as_well_as_any_is_taken(compression: Compression) -> None:
    """As many blocks as an encoder writes, in as few bytes."""
    for content in (bytes(8 * MIB), b"ab" * (4 * MIB)):
        assert compression.decompress(compression.compress(content, 8 * MIB), 8 * MIB) == content


def test_two_hundred_mebibytes_in_two_hundred_kilobytes_are_refused() -> None:
    deflate = zlib.compressobj(9, wbits=31)
    bomb = b"".join(deflate.compress(bytes(MIB)) for _ in range(200)) + deflate.flush()
    assert len(bomb) < 205_000
    with memory_below(3 * LIMIT):
        refused(GZIP, bomb)


@pytest.mark.parametrize("claim", [LIMIT + 1, 2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**35, 2**63, 2**64 - 1])
def test_a_snappy_block_that_claims_more_than_the_limit_is_not_read(claim: int) -> None:
    with memory_below(64 * KIB):
        refused(SNAPPY, varint(claim) + b"\x10hello")
        refused(SNAPPY, varint(claim) + b"\xfe\x01\x00" * 1000)


@pytest.mark.parametrize("claim", [1000, LIMIT - 1, LIMIT])
def test_a_snappy_block_that_claims_more_than_its_bytes_can_hold_is_not_read(claim: int) -> None:
    with memory_below(64 * KIB):
        assert f"cannot hold {claim}" in refused(SNAPPY, varint(claim) + b"\x10hello")


def test_the_densest_snappy_block_that_there_is_can_be_read() -> None:
    """Copies of 64 bytes in three bytes each: what the bound on claims must let through."""
    body = varint(4 + 64 * 16000) + b"\x0cabcd" + b"\xfe\x04\x00" * 16000
    assert SNAPPY.decompress(body, LIMIT) == b"abcd" * (1 + 16 * 16000)


@pytest.mark.parametrize("length", [b"\x80", b"\x80" * 5, b"\x80" * 20, b"\xff" * 9, b"\xff" * 10 + b"\x01"])
def test_a_snappy_length_that_does_not_end_is_refused(length: bytes) -> None:
    refused(SNAPPY, length)


# Damage


@each
@pytest.mark.parametrize("content", [b"", b"a", TEXT, NOISE, b"ab" * 2000], ids=["empty", "a", "text", "noise", "ab"])
def test_a_body_that_ends_early_is_refused_wherever_it_ends(compression: Compression, content: bytes) -> None:
    body = compression.compress(content, LIMIT)
    for end in range(len(body)):
        refused(compression, body[:end])


@each
@pytest.mark.parametrize("content", [b"", TEXT], ids=["empty", "text"])
@pytest.mark.parametrize("further", [b"\0", b"x", b"\xff" * 30, TEXT, b"\x50\x2a\x4d\x18\x04\0\0\0skip"])
def test_what_follows_the_end_is_refused(compression: Compression, content: bytes, further: bytes) -> None:
    refused(compression, compression.compress(content, LIMIT) + further)


@each
def test_one_body_after_another_is_refused(compression: Compression) -> None:
    body = compression.compress(TEXT, LIMIT)
    refused(compression, body + body)
    refused(compression, compression.compress(b"", LIMIT) + body)
    refused(compression, body + compression.compress(b"", LIMIT))
    refused(compression, compression.compress(b"", LIMIT) * 10_000)


@each
def test_an_empty_body_is_refused(compression: Compression) -> None:
    assert refused(compression, b"").startswith(f"not valid {compression.name}: it")


@each
def test_a_body_of_another_compression_or_of_none_is_refused(compression: Compression) -> None:
    refused(compression, TEXT)
    for other in COMPRESSIONS.values():
        if other is not compression:
            refused(compression, other.compress(NOISE, LIMIT))


@each
@settings(examples, max_examples=300)
@given(body=st.binary(max_size=60), proper=st.booleans())
def test_arbitrary_bytes_are_refused_or_hold_something(compression: Compression, body: bytes, proper: bool) -> None:
    content_or_refusal(compression, START[compression.name] + body if proper else body)


@each
@settings(examples, max_examples=300)
@given(data=st.data())
def test_a_damaged_body_is_refused_or_holds_something(compression: Compression, data: st.DataObject) -> None:
    body = bytearray(compression.compress(data.draw(st.sampled_from((b"", TEXT, b"ab" * 500))), LIMIT))
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(body)))
        body[place : place + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    content_or_refusal(compression, bytes(body))


# Zstandard's frames by hand (RFC 8878, section 3.1.1)


def varint(number: int) -> bytes:
    parts = bytearray()
    while number > 127:
        parts.append(number & 127 | 128)
        number >>= 7
    return bytes((*parts, number))


def block(kind: int, size: int, content: bytes, *, last: bool = True) -> bytes:
    return (size << 3 | kind << 1 | last).to_bytes(3, "little") + content


def raw_block(content: bytes, *, last: bool = True) -> bytes:
    return block(0, len(content), content, last=last)


def frame(blocks: bytes, *, window: int | None = 0, size: bytes = b"", dictionary: bytes = b"") -> bytes:
    """A frame with this byte for its window, or a single segment without one."""
    flags = {0: 0, 1: 0, 2: 1, 4: 2, 8: 3}[len(size)] << 6 | (window is None) << 5 | (0, 1, 2, 0, 3)[len(dictionary)]
    return b"\x28\xb5\x2f\xfd" + bytes((flags,) if window is None else (flags, window)) + dictionary + size + blocks


SKIPPABLE = b"\x50\x2a\x4d\x18\x04\0\0\0skip"


@pytest.mark.parametrize("size", [b"\x03", struct.pack("<I", 3), struct.pack("<Q", 3)])
def test_a_zstd_frame_may_tell_its_size_in_each_way(size: bytes) -> None:
    assert ZSTD.decompress(frame(raw_block(b"abc"), window=None, size=size), LIMIT) == b"abc"
    long = frame(raw_block(b"a" * 300), window=None, size=struct.pack("<H", 300 - 256))
    assert ZSTD.decompress(long, 300) == b"a" * 300
    refused(ZSTD, long, limit=299)
    if len(size) > 1:
        assert ZSTD.decompress(frame(raw_block(b"abc"), size=size), LIMIT) == b"abc"


@pytest.mark.parametrize("size", [LIMIT + 1, 9 * MIB, 2**31, 2**62, 2**63, 2**64 - 2])
def test_a_zstd_frame_whose_size_is_a_lie_is_refused(size: int) -> None:
    with memory_below(64 * KIB):
        refused(ZSTD, frame(raw_block(b"abc"), window=None, size=struct.pack("<Q", size)))
        refused(ZSTD, frame(raw_block(b"abc"), size=struct.pack("<Q", size)))
    refused(ZSTD, frame(raw_block(b"abc"), window=None, size=b"\x04"))
    refused(ZSTD, frame(raw_block(b"abc"), window=None, size=b"\x02"))


def test_zstd_windows_of_eight_mebibytes_are_taken_and_larger_ones_only_within_the_limit() -> None:
    small, eight, more, huge = 0, 13 << 3, 13 << 3 | 1, 0xFF
    for window in (small, eight):
        assert ZSTD.decompress(frame(raw_block(b"abc"), window=window), 3) == b"abc"
    with memory_below(64 * KIB):
        refused(ZSTD, frame(raw_block(b"abc"), window=more))
        refused(ZSTD, frame(raw_block(b"abc"), window=huge), limit=1 << 30)
    assert ZSTD.decompress(frame(raw_block(b"abc"), window=more), 16 * MIB) == b"abc"


@pytest.mark.parametrize(
    "body",
    [
        frame(raw_block(b"abc")) + frame(raw_block(b"abc")),
        frame(raw_block(b"abc")) + frame(raw_block(b"abc"), window=17 << 3),  # which asks for 128 MiB
        SKIPPABLE + frame(raw_block(b"abc")),
        frame(raw_block(b"abc")) + SKIPPABLE,
        frame(raw_block(b"abc")) + SKIPPABLE[:4] + b"\xff" * 4,
        SKIPPABLE,
        SKIPPABLE[:4] + b"\xff" * 4,
        frame(raw_block(b"abc"), dictionary=b"\x05"),
        frame(raw_block(b"abc"), dictionary=b"\x05\0\0\0"),
        frame(raw_block(b"abc", last=False)),
        frame(b""),
        frame(block(3, 3, b"abc")),  # a reserved kind of block
        frame(block(0, 2**21 - 1, b"abc")),
        frame(block(1, 2**21 - 1, b"a")),  # longer than a block may be
        frame(block(2, 3, b"abc")),
        b"\x28\xb5\x2f\xfd\x08\x00" + raw_block(b"abc"),  # a reserved flag
    ],
    ids=lambda body: body.hex(),
)
def test_a_zstd_body_is_one_whole_frame(body: bytes) -> None:
    refused(ZSTD, body)


@pytest.mark.parametrize(
    ("compression", "body"),
    [
        (ZSTD, b"\x28\xb5\x2f\xfd\x00\x00" + b"\0\0\0" * (5 * MIB) + b"\1\0\0"),
        (ZSTD, b"\x28\xb5\x2f\xfd\x00\x00" + b"\x08\0\0a" * (4 * MIB) + b"\1\0\0"),
        (LZ4, bytes.fromhex("04224d18604082") + b"\1\0\0\x80a" * (3 * MIB) + b"\0\0\0\0"),
    ],
    ids=["empty zstd", "zstd of one byte", "lz4 of one byte"],
)
def test_more_blocks_than_any_encoder_writes_are_refused(compression: Compression, body: bytes) -> None:
    """Walking over all of them would take seconds."""
    assert "too many blocks" in refused(compression, body, 64 * MIB)


def test_zstd_blocks_that_repeat_one_byte_stop_at_the_limit() -> None:
    repeating = block(1, 128 * KIB, b"a", last=False)
    with memory_below(3 * LIMIT + 512 * KIB):
        refused(ZSTD, frame(repeating * 50_000 + raw_block(b""), window=7 << 3))
    assert len(ZSTD.decompress(frame(repeating * 7 + raw_block(b""), window=7 << 3), LIMIT)) == 7 * 128 * KIB
    assert ZSTD.decompress(frame(raw_block(b"", last=False) * 3 + raw_block(b"")), LIMIT) == b""


@pytest.mark.parametrize("body", [SKIPPABLE, SKIPPABLE + b"\x04\x22\x4d\x18", b"\x02\x21\x4c\x18\x04\0\0\0\x30abc"])
def test_an_lz4_body_is_one_whole_frame(body: bytes) -> None:
    refused(LZ4, body)
    refused(LZ4, body + LZ4.compress(TEXT, LIMIT))


# Codecs within a compression


class Shop:
    def order(self, item: str, count: int = 1) -> list[str]:
        raise NotImplementedError


METHOD: Method = contract_of(Shop).methods["order"]


@each
def test_a_codec_within_a_compression_is_that_codec_compressed(compression: Compression) -> None:
    codec = Compressed(JSON(), compression, LIMIT)
    assert codec.name == f"{compression.name}-json"
    assert codec.forms == JSON().forms
    for shape, plain, value in (
        (codec.request(METHOD), JSON().request(METHOD), METHOD.bind(("pen", 2), {})),
        (codec.result(METHOD), JSON().result(METHOD), ["pen"] * 100),
        (codec.anything(), JSON().anything(), {"a": [1, None]}),
    ):
        body = shape.encode(value)
        assert compression.decompress(body, LIMIT) == plain.encode(value)
        assert shape.decode(body) == plain.decode(plain.encode(value))


@each
def test_what_the_codec_refuses_is_refused_within_a_compression(compression: Compression) -> None:
    shape = Compressed(JSON(), compression, LIMIT).result(METHOD)
    with pytest.raises(Mismatch, match=r"Expected `str`, got `int` - at `\$\[0\]`"):
        shape.encode([1])
    with pytest.raises(DecodingFailed, match=r"Expected `str`, got `int` - at `\$\[0\]`"):
        shape.decode(compression.compress(b"[1]", LIMIT))
    with pytest.raises(DecodingFailed, match=f"not valid {compression.name}"):
        shape.decode(b'["pen"]')


@each
def test_a_codec_within_a_compression_keeps_to_its_limit(compression: Compression) -> None:
    shape: Any = Compressed(JSON(), compression, 100).result(METHOD)
    fits = ["x" * 96]
    assert shape.decode(shape.encode(fits)) == fits
    with pytest.raises(MessageTooLarge, match="101 bytes before compression, max_decompressed_bytes is 100"):
        shape.encode(["x" * 97])
    with pytest.raises(DecodingFailed, match="more than 100 bytes"):
        shape.decode(compression.compress(JSON().result(METHOD).encode(["x" * 97]), LIMIT))
