"""Plain iterators in the place of async ones."""

from __future__ import annotations

import asyncio
import contextvars
import io
import os
import threading
from collections.abc import AsyncIterator, Iterator
from queue import SimpleQueue
from typing import Any

import pytest

from amqproxy import Blob
from amqproxy.blob import CHUNK_BYTES
from amqproxy.sync.items import Items, unblocking

PATIENCE = 30.0
WHO: contextvars.ContextVar[str] = contextvars.ContextVar("who")


class Slow:
    """An iterator whose item is there when it is let go."""

    def __init__(self) -> None:
        self.asked = threading.Event()
        self.go = threading.Event()
        self.closed = threading.Event()

    def __iter__(self) -> Iterator[int]:
        return self

    def __next__(self) -> int:
        self.asked.set()
        assert self.go.wait(PATIENCE)
        return 1

    def close(self) -> None:
        self.closed.set()


def items(iterator: Iterator[Any]) -> Any:
    return aiter(Items(iterator))


def threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "amqproxy items"]


async def ended() -> bool:
    """Whether all threads end that take items."""
    for thread in threads():
        await asyncio.to_thread(thread.join, PATIENCE)
    return not threads()


async def test_items_come_in_order_and_the_thread_goes_with_the_last() -> None:
    assert [item async for item in Items(iter(range(5)))] == [0, 1, 2, 3, 4]
    assert [item async for item in Items(iter(()))] == []
    assert await ended()


async def test_an_item_is_taken_when_it_is_asked_for_and_not_before() -> None:
    taken = []

    def numbers() -> Iterator[int]:
        for number in range(5):
            taken.append(number)
            yield number

    found = items(numbers())
    assert taken == []
    assert [await anext(found), await anext(found)] == [0, 1]
    assert taken == [0, 1]
    await found.aclose()
    assert await ended()


async def test_an_iterator_that_takes_its_time_holds_up_nobody() -> None:
    slow = Slow()
    found = items(slow)
    item = asyncio.ensure_future(anext(found))
    await asyncio.to_thread(slow.asked.wait, PATIENCE)
    slow.go.set()
    assert await item == 1
    await found.aclose()
    assert await ended()


async def test_context_variables_are_those_of_whoever_gave_the_iterator() -> None:
    WHO.set("giver")
    given = Items(WHO.get() for _ in range(2))
    WHO.set("taker")
    assert [item async for item in given] == ["giver", "giver"]


@pytest.mark.parametrize(
    ("error", "arrives"),
    [(LookupError("no more"), LookupError), (SystemExit(3), RuntimeError), (KeyboardInterrupt(), RuntimeError)],
)
async def test_what_an_iterator_raises_arrives(error: BaseException, arrives: type[Exception]) -> None:
    class Failing:
        def __iter__(self) -> Iterator[int]:
            return self

        def __next__(self) -> int:
            raise error

    found = items(Failing())
    with pytest.raises(arrives, match=f"{error}" if isinstance(error, arrives) else "the iterator raised"):
        await anext(found)
    with pytest.raises(StopAsyncIteration):
        await anext(found)
    assert await ended()


async def test_the_end_is_the_end() -> None:
    found = items(iter([1]))
    assert [await anext(found, None) for _ in range(10)] == [1] + 9 * [None]


async def test_an_iterator_that_is_given_up_is_closed_when_it_comes_back() -> None:
    slow = Slow()
    found = items(slow)
    item = asyncio.ensure_future(anext(found))
    await asyncio.to_thread(slow.asked.wait, PATIENCE)
    item.cancel()
    await asyncio.wait((item,))
    await found.aclose()
    assert not slow.closed.is_set()
    slow.go.set()
    assert await ended()
    assert slow.closed.is_set()


async def test_both_ways_at_once_cannot_lock_each_other() -> None:
    """The next question is asked when the answer to the last one was seen, while the next item is asked for ahead."""
    answers: SimpleQueue[int] = SimpleQueue()

    def questions() -> Iterator[int]:
        number = 0
        while number < 5:
            yield number
            number = answers.get()

    async def answered(asked: AsyncIterator[int]) -> AsyncIterator[int]:
        ahead = asyncio.ensure_future(anext(asked, None))
        while (item := await ahead) is not None:
            ahead = asyncio.ensure_future(anext(asked, None))
            yield item + 1

    seen = []
    async for answer in answered(items(questions())):
        seen.append(answer)
        answers.put(answer)
    assert seen == [1, 2, 3, 4, 5]


# What Blobs are made of


@pytest.mark.parametrize("size", [0, 1, CHUNK_BYTES, 2 * CHUNK_BYTES + 1])
async def test_files_and_iterators_are_read_in_threads(size: int) -> None:
    data = os.urandom(size)
    reading: set[int] = set()

    class File(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            reading.add(threading.get_ident())
            return super().read(size)

    def pieces() -> Iterator[bytes]:
        reading.add(threading.get_ident())
        yield data

    for source in (File(data), pieces()):
        assert await unblocking(Blob(source)).read() == data
    assert threading.get_ident() not in reading
    assert await ended()


async def test_what_is_there_already_is_read_as_it_is() -> None:
    for source in (b"data", "path", Items(iter([b""]))):
        blob = Blob(source)
        assert unblocking(blob) is blob


async def test_a_blob_that_is_not_read_to_its_end_leaves_its_file() -> None:
    file = io.BytesIO(bytes(3 * CHUNK_BYTES))
    pieces: Any = aiter(unblocking(Blob(file)))
    assert len(await anext(pieces)) == CHUNK_BYTES
    await pieces.aclose()
    assert await ended()
    assert file.tell() == CHUNK_BYTES
