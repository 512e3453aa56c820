"""Blobs of every kind of source: the bytes that went in, in chunks; files that are there whole or not at all."""

from __future__ import annotations

import array
import asyncio
import io
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from amqproxy.blob import CHUNK_BYTES, Blob, chunks
from amqproxy.errors import MessageTooLarge

LONG = bytes(range(256)) * (CHUNK_BYTES // 256) + b"and more"


async def pieces(*parts: Any) -> AsyncIterator[Any]:
    for part in parts:
        yield part


class AsynchronousFile:
    """As web frameworks have it: `read` is to be awaited."""

    def __init__(self, content: bytes) -> None:
        self._file = io.BytesIO(content)

    async def read(self, size: int) -> bytes:
        await asyncio.sleep(0)
        return self._file.read(size)


def sources(content: bytes, folder: Path) -> dict[str, Any]:
    path = folder / "source"
    path.write_bytes(content)
    return {
        "bytes": content,
        "bytearray": bytearray(content),
        "memoryview": memoryview(content),
        "str": str(path),
        "Path": path,
        "file": io.BytesIO(content),
        "asynchronous file": AsynchronousFile(content),
        "iterator": iter([content[:10], b"", content[10:]]),
        "list": [content],
        "asynchronous iterator": pieces(content[:10], b"", bytearray(content[10:20]), memoryview(content)[20:]),
        "Blob": Blob(content),
    }


KINDS = (
    "bytes",
    "bytearray",
    "memoryview",
    "str",
    "Path",
    "file",
    "asynchronous file",
    "iterator",
    "list",
    "asynchronous iterator",
    "Blob",
)


@pytest.mark.parametrize("content", [b"", b"x" * 30, LONG], ids=["empty", "short", "long"])
@pytest.mark.parametrize("kind", KINDS)
async def test_what_went_in_comes_out_in_chunks_of_a_limited_size(kind: str, content: bytes, tmp_path: Path) -> None:
    found = [chunk async for chunk in Blob(sources(content, tmp_path)[kind])]
    assert b"".join(found) == content
    assert all(type(chunk) is bytes and 0 < len(chunk) <= CHUNK_BYTES for chunk in found)


@pytest.mark.parametrize("kind", KINDS)
async def test_it_is_read_at_once_or_saved(kind: str, tmp_path: Path) -> None:
    assert await Blob(sources(LONG, tmp_path)[kind]).read() == LONG
    assert await Blob(sources(LONG, tmp_path)[kind]).save(tmp_path / "target") == len(LONG)
    assert (tmp_path / "target").read_bytes() == LONG


@settings(max_examples=30, deadline=None, derandomize=True, database=None)
@given(parts=st.lists(st.binary(max_size=20) | st.just(LONG), max_size=5))
def test_however_the_source_is_cut(parts: list[bytes]) -> None:
    async def all_of(source: Any) -> list[bytes]:
        return [chunk async for chunk in chunks(source)]

    for source in (parts, iter(parts), pieces(*parts)):
        found = asyncio.run(all_of(source))
        assert b"".join(found) == b"".join(parts)
        assert all(0 < len(chunk) <= CHUNK_BYTES for chunk in found)


async def test_a_view_of_anything_is_its_bytes() -> None:
    numbers = array.array("i", range(100_000))
    assert await Blob(memoryview(numbers)).read() == numbers.tobytes()
    assert await Blob(memoryview(b"abcdef")[::2]).read() == b"ace"


async def test_what_is_made_of_bytes_or_a_path_can_be_read_again(tmp_path: Path) -> None:
    for kind in ("bytes", "bytearray", "memoryview", "str", "Path"):
        blob = Blob(sources(b"again", tmp_path)[kind])
        assert [await blob.read(), await blob.read()] == [b"again", b"again"]


@pytest.mark.parametrize("source", [None, 5, 1.5, object()])
def test_what_can_be_no_source_is_refused_when_it_is_made(source: Any) -> None:
    with pytest.raises(TypeError, match="a Blob is made of bytes, a path, a file or an iterator of bytes, not"):
        Blob(source)


@pytest.mark.parametrize(
    "source", [lambda: ["text"], lambda: iter([1]), lambda: pieces(b"a", "text"), lambda: io.StringIO("text")]
)
async def test_a_source_of_anything_else_is_refused_when_it_is_read(source: Any) -> None:
    with pytest.raises(TypeError, match=r"a Blob is made of bytes, and its source gave a (str|int)"):
        await Blob(source()).read()


async def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        await Blob(tmp_path / "nowhere").read()


def test_it_shows_what_it_is_made_of_and_not_the_bytes() -> None:
    assert repr(Blob(b"secret")) == "<Blob of 6 bytes>"
    assert repr(Blob("/a/path")) == "<Blob of '/a/path'>"


# Limits and errors


async def test_more_than_the_limit_is_not_read_and_the_source_is_closed() -> None:
    seen: list[str] = []

    async def endless() -> AsyncIterator[bytes]:
        try:
            while True:
                seen.append("piece")
                yield b"x" * 10
        finally:
            seen.append("closed")

    with pytest.raises(MessageTooLarge, match=r"the Blob has more than 25 bytes: read\(limit=…\) takes") as caught:
        await Blob(endless()).read(limit=25)
    assert caught.value.executed == "maybe"  # a handler that gives one has run
    assert seen == ["piece", "piece", "piece", "closed"]
    assert await Blob(b"x" * 25).read(limit=25) == b"x" * 25


async def test_a_source_that_cannot_be_closed_need_not_be() -> None:
    class Source:
        left = 2

        def __aiter__(self) -> Source:
            return self

        async def __anext__(self) -> bytes:
            if not self.left:
                raise StopAsyncIteration
            self.left -= 1
            return b"x"

    assert await Blob(Source()).read() == b"xx"


async def test_leaving_the_loop_closes_the_source(tmp_path: Path) -> None:
    class Source:
        closed = False

        def __aiter__(self) -> Source:
            return self

        async def __anext__(self) -> bytes:
            return b"x"

        async def aclose(self) -> None:
            self.closed = True

    source = Source()
    iterator = aiter(Blob(source))
    assert await anext(iterator) == b"x"
    await iterator.aclose()  # type: ignore[attr-defined]  # it is a generator
    assert source.closed


def folder(path: Path) -> dict[str, bytes]:
    return {each.name: each.read_bytes() for each in path.iterdir()}


@pytest.mark.parametrize("before", [None, b"before"])
async def test_a_file_that_was_there_stays_until_all_bytes_have_come(before: bytes | None, tmp_path: Path) -> None:
    target, go_on = tmp_path / "target", asyncio.Event()
    expected = {} if before is None else {"target": before}
    if before is not None:
        target.write_bytes(before)

    async def slowly() -> AsyncIterator[bytes]:
        yield b"after"
        written.set()
        await go_on.wait()
        yield b"wards"

    written = asyncio.Event()
    task = asyncio.create_task(Blob(slowly()).save(target))
    await written.wait()
    assert {name: content for name, content in folder(tmp_path).items() if name == "target"} == expected
    go_on.set()
    assert await task == 10
    assert folder(tmp_path) == {"target": b"afterwards"}


@pytest.mark.parametrize("how", ["an error of the source", "cancelled"])
async def test_what_does_not_come_to_its_end_leaves_no_file(how: str, tmp_path: Path) -> None:
    (tmp_path / "target").write_bytes(b"before")
    entered, closed = asyncio.Event(), asyncio.Event()

    async def broken() -> AsyncIterator[bytes]:
        try:
            yield b"half of it"
            if how == "cancelled":
                entered.set()
                await asyncio.Event().wait()
            raise ConnectionError("gone")
        finally:
            closed.set()

    task = asyncio.create_task(Blob(broken()).save(str(tmp_path / "target")))
    if how == "cancelled":
        await entered.wait()
        task.cancel()
    with pytest.raises(asyncio.CancelledError if how == "cancelled" else ConnectionError):
        await task
    assert closed.is_set()
    assert folder(tmp_path) == {"target": b"before"}


async def test_where_nothing_can_be_written_nothing_is_read(tmp_path: Path) -> None:
    read: list[bytes] = []

    def source() -> Iterator[bytes]:
        read.append(b"x")
        yield b"x"

    with pytest.raises(FileNotFoundError):
        await Blob(source()).save(tmp_path / "no" / "folder")
    with pytest.raises(IsADirectoryError) as caught:
        await Blob(b"").save(tmp_path)
    assert str(caught.value) == f"[Errno 21] Is a directory: '{tmp_path}'"
    assert read == []


async def test_two_saves_to_one_path_do_not_mix(tmp_path: Path) -> None:
    async def alternating(letter: bytes) -> AsyncIterator[bytes]:
        for _ in range(10):
            await asyncio.sleep(0)
            yield letter

    blobs = [Blob(alternating(letter)) for letter in (b"a", b"b")]
    assert await asyncio.gather(*(blob.save(tmp_path / "target") for blob in blobs)) == [10, 10]
    assert folder(tmp_path) in ({"target": b"a" * 10}, {"target": b"b" * 10})
