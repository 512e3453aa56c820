"""Plain iterators in the place of async ones."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import AsyncIterator, Iterator
from queue import SimpleQueue

import pytest

from amqproxy.sync.items import Items

PATIENCE = 30.0
WHO: contextvars.ContextVar[str] = contextvars.ContextVar("who")


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

    items = Items(numbers())
    assert taken == []
    assert [await anext(items), await anext(items)] == [0, 1]
    assert taken == [0, 1]
    await items.aclose()
    assert await ended()


async def test_an_iterator_that_takes_its_time_holds_up_nobody() -> None:
    asked, go = threading.Event(), threading.Event()

    def slow() -> Iterator[int]:
        asked.set()
        assert go.wait(PATIENCE)
        yield 1

    items = Items(slow())
    item = asyncio.ensure_future(anext(items))
    await asyncio.to_thread(asked.wait, PATIENCE)
    go.set()
    assert await item == 1


async def test_context_variables_are_those_of_whoever_gave_the_iterator() -> None:
    WHO.set("giver")
    items = Items(WHO.get() for _ in range(2))
    WHO.set("taker")
    assert [item async for item in items] == ["giver", "giver"]


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

    items = Items(Failing())
    with pytest.raises(arrives, match=f"{error}" if isinstance(error, arrives) else "the iterator raised"):
        await anext(items)
    with pytest.raises(StopAsyncIteration):
        await anext(items)
    assert await ended()


async def test_an_iterator_that_is_given_up_is_not_closed() -> None:
    numbers = (number for number in range(5))
    for end in (Items.aclose, Items.__del__):
        items = Items(numbers)
        await anext(items)
        ending = end(items)
        if ending is not None:
            await ending
        assert await ended()
    assert list(numbers) == [2, 3, 4]


async def test_who_asks_no_longer_leaves_the_thread_to_end_with_the_iterator() -> None:
    asked, go = threading.Event(), threading.Event()

    def slow() -> Iterator[int]:
        asked.set()
        assert go.wait(PATIENCE)
        yield 1

    items = Items(slow())
    item = asyncio.ensure_future(anext(items))
    await asyncio.to_thread(asked.wait, PATIENCE)
    item.cancel()
    await asyncio.wait((item,))
    assert item.cancelled()
    with pytest.raises(StopAsyncIteration):
        await anext(items)
    go.set()
    assert await ended()


async def test_both_ways_at_once_cannot_lock_each_other() -> None:
    """The next question is asked when the answer to the last one was seen, while the next item is asked for ahead."""
    answers: SimpleQueue[int] = SimpleQueue()

    def questions() -> Iterator[int]:
        number = 0
        while number < 5:
            yield number
            number = answers.get()

    async def answered(items: AsyncIterator[int]) -> AsyncIterator[int]:
        ahead = asyncio.ensure_future(anext(items, None))
        while (item := await ahead) is not None:
            ahead = asyncio.ensure_future(anext(items, None))
            yield item + 1

    seen = []
    async for answer in answered(Items(questions())):
        seen.append(answer)
        answers.put(answer)
    assert seen == [1, 2, 3, 4, 5]


async def test_an_event_loop_that_is_gone_is_not_told() -> None:
    asked, go = threading.Event(), threading.Event()

    def slow() -> Iterator[int]:
        asked.set()
        assert go.wait(PATIENCE)
        yield 1

    async def ask() -> None:
        item = asyncio.ensure_future(anext(items))
        await asyncio.to_thread(asked.wait, PATIENCE)
        item.cancel()

    items = Items(slow())
    await asyncio.to_thread(asyncio.run, ask())
    go.set()
    assert await ended()
