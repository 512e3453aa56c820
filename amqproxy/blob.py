"""Bytes of any size, passed on in chunks: what files and other large bodies travel as."""

from __future__ import annotations

import inspect
import os
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from .errors import MessageTooLarge

CHUNK_BYTES = 256 * 1024
"""What a Blob cuts its source into."""

_BYTES = (bytes, bytearray, memoryview)

Source = bytes | bytearray | memoryview | str | os.PathLike[str] | BinaryIO | AsyncIterable[bytes] | Iterable[bytes]


class Blob:
    """Bytes that are read while they are sent and written while they come, never all at once.

    As an argument or a result it is made of bytes, of the path of a file (str or Path), of a file that is open for
    reading bytes, or of an iterator of bytes, asynchronous or not. Who receives one reads its chunks with `async for`,
    or all of them with `read` or `save`. What is not made of bytes or a path can be read once.
    """

    def __init__(self, source: Source) -> None:
        """Take where the bytes come from; TypeError if that can be no source."""
        if not isinstance(source, (*_BYTES, str, os.PathLike)) and not (
            hasattr(source, "__aiter__") or hasattr(source, "read") or hasattr(source, "__iter__")
        ):
            raise TypeError(f"a Blob is made of bytes, a path, a file or an iterator of bytes, not {source!r}")
        self._source = source
        self._once = any(hasattr(source, name) for name in ("__anext__", "__next__", "read"))
        self._begun = False

    def __aiter__(self) -> AsyncIterator[bytes]:
        """The chunks, in order; RuntimeError if they were read before, and are nowhere to be read again."""
        self._begin()
        return chunks(self._source)

    def _begin(self) -> None:
        if self._once and self._begun:
            raise RuntimeError(
                f"{self!r} was read already, and its bytes are gone: keep what read() returned, or save()"
            )
        self._begun = True

    async def read(self, limit: int = 64 * 1024 * 1024) -> bytes:
        """All bytes at once; MessageTooLarge if they are more than `limit`, whether a handler ran or not."""
        parts, size = [], 0
        iterator = aiter(self)
        try:
            async for chunk in iterator:
                size += len(chunk)
                if size > limit:
                    text = f"the Blob has more than {limit} bytes: read(limit=…) takes more, `async for` any number"
                    raise MessageTooLarge(text, executed="maybe")  # it may be what a handler gave
                parts.append(chunk)
        finally:
            await _close(iterator)
        return b"".join(parts)

    async def save(self, path: str | os.PathLike[str]) -> int:
        """Write all bytes to a file, and return how many they were. What was there before goes only once all have come.

        The event loop waits for the disk, a chunk at a time.
        """
        target = Path(path)
        partial = target.with_name(f".{target.name}.{os.getpid()}.{id(self):x}.part")
        size = 0
        iterator: AsyncIterator[bytes] | None = None
        try:
            with partial.open("wb") as file:  # an await for each chunk would cost more than the disk does
                iterator = aiter(self)
                async for chunk in iterator:
                    size += file.write(chunk)
            partial.replace(target)
        except OSError as error:
            if error.filename == str(partial):  # a name that only we know
                raise type(error)(error.errno, error.strerror, str(target)) from None
            raise
        finally:
            partial.unlink(missing_ok=True)
            await _close(iterator)
        return size

    def __repr__(self) -> str:
        source = self._source
        what = f"{len(source)} bytes" if isinstance(source, _BYTES) else repr(source)
        return f"<Blob of {what}>"


async def chunks(source: Any) -> AsyncIterator[bytes]:
    """What a source holds, in chunks of a size that suits a message."""
    if isinstance(source, (str, os.PathLike)):
        with open(source, "rb") as file:  # noqa: ASYNC230  # see `Blob.save`
            while data := file.read(CHUNK_BYTES):
                yield data
    elif isinstance(source, _BYTES):
        for chunk in _pieces(source):
            yield chunk
    elif hasattr(source, "__aiter__"):
        iterator = aiter(source)
        try:
            async for piece in iterator:
                for chunk in _pieces(piece):
                    yield chunk
        finally:
            await _close(iterator)
    elif hasattr(source, "read"):
        while piece := await _read(source):
            for chunk in _pieces(piece):
                yield chunk
    else:
        for piece in source:
            for chunk in _pieces(piece):
                yield chunk


async def _read(file: Any) -> Any:
    """The next bytes of a file, also of one whose `read` is to be awaited, as those of web frameworks are."""
    data = file.read(CHUNK_BYTES)
    return await data if inspect.isawaitable(data) else data


def _pieces(piece: Any) -> Iterator[bytes]:
    """One piece of a source, cut where it is larger than a message should be."""
    if not isinstance(piece, _BYTES):
        raise TypeError(f"a Blob is made of bytes, and its source gave a {type(piece).__name__}")
    if type(piece) is bytes and len(piece) <= CHUNK_BYTES:
        if piece:
            yield piece
    else:
        view = memoryview(piece)
        view = view.cast("B") if view.c_contiguous else memoryview(view.tobytes())
        for at in range(0, len(view), CHUNK_BYTES):
            yield bytes(view[at : at + CHUNK_BYTES])


async def _close(iterator: Any) -> None:
    if hasattr(iterator, "aclose"):
        await iterator.aclose()
