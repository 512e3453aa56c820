"""What a worker is fed, on a bare event loop: little of what waits is decoded, and all of it comes in order."""

from __future__ import annotations

import asyncio
import tracemalloc
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from amqproxy.codecs import DecodingFailed
from amqproxy.codecs.items import results
from amqproxy.codecs.registry import codecs
from amqproxy.contract import contract_of
from amqproxy.fed import FedInlet, FedItems
from amqproxy.flow import FlowError
from amqproxy.wire import Part
from tests.unit.test_stream import NUMBERS, Typed

examples = settings(
    max_examples=100, deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.too_slow]
)
TEXTS = results(codecs(1 << 24)["zstd-json"], contract_of(Typed).methods["texts"])


class Counted:
    """Numbers, with how many messages of them were decoded."""

    batches = True

    def __init__(self) -> None:
        self.decoded = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(NUMBERS, name)

    def unpack(self, body: bytes, items: int) -> Sequence[Any]:
        self.decoded += 1
        return NUMBERS.unpack(body, items)


class Fed:
    """An inlet with what it has granted, and what it was broken by."""

    def __init__(self, window: int = 100, most: int = 1000, items: Any = None) -> None:
        self.grants: list[int] = []
        self.broken: list[str] = []
        self.items = items or Counted()
        self.inlet = FedInlet(
            *(asyncio.get_running_loop(), window, self.items, self.grants.append),
            most=most,
            broken=lambda error: self.broken.append(str(error)),
        )

    def bring(self, first: int, *values: int) -> None:
        self.raw(first, len(values), NUMBERS.pack([NUMBERS.encode(value) for value in values]))

    def raw(self, first: int, items: int, body: bytes) -> None:
        self.inlet.take(Part(first, items, last=False), body)

    def end(self, at: int) -> None:
        self.inlet.take(Part(at, 0, last=True), b"")

    async def rest(self) -> list[Any]:
        return [item async for item in FedItems(self.inlet)]


async def test_of_the_messages_that_wait_the_first_is_decoded() -> None:
    fed = Fed()
    for number in range(10):
        fed.bring(2 * number, 2 * number, 2 * number + 1)
    assert fed.items.decoded == 1
    items = FedItems(fed.inlet)
    for number in range(20):
        assert await anext(items) == number
        assert fed.items.decoded == number // 2 + 1
    fed.bring(20, 20)
    assert fed.items.decoded == 11, "where none waits, what comes is decoded at once"
    fed.end(21)
    assert await fed.rest() == [20]
    assert await fed.rest() == []


async def test_who_waits_is_woken_by_the_first_and_gets_those_behind_it() -> None:
    fed = Fed()
    task = asyncio.ensure_future(fed.rest())
    await asyncio.sleep(0)
    fed.bring(0, 1)
    fed.bring(1, 2)
    fed.bring(1, 2, 3)
    fed.bring(0, 1, 2)
    fed.end(3)
    assert await asyncio.wait_for(task, 10) == [1, 2, 3]


async def test_what_waits_takes_little_memory_however_large_it_is() -> None:
    body, [text] = TEXTS.pack([TEXTS.encode("x" * 1_000_000)]), ["x" * 1_000_000]
    fed = Fed(items=TEXTS, most=100_000)
    tracemalloc.start()
    try:
        for number in range(50):
            fed.raw(number, 1, body)
        fed.end(50)
        assert tracemalloc.get_traced_memory()[0] < 3_000_000
        count = 0
        async for item in FedItems(fed.inlet):
            assert item == text
            count += 1
        assert count == 50
        assert tracemalloc.get_traced_memory()[1] < 6_000_000
    finally:
        tracemalloc.stop()


async def test_the_bytes_that_wait_are_bounded_and_those_that_were_taken_do_not_count() -> None:
    fed, body = Fed(most=20), b"12345678"
    for number in range(3):  # the first does not wait: it is decoded
        fed.raw(number, 1, body)
    with pytest.raises(FlowError, match=r"^more than 20 bytes of items wait for the handler: feed it a Blob"):
        fed.raw(3, 1, body)
    fed = Fed(most=20)
    for number in range(50):
        fed.raw(number, 1, body)
        if number:
            assert await fed.inlet.next() == 12345678


async def test_nonsense_is_found_at_once_if_it_is_the_first_and_else_when_it_is_taken() -> None:
    fed = Fed()
    with pytest.raises(DecodingFailed):
        fed.raw(0, 1, b'"one"')
    fed = Fed()
    fed.bring(0, 1)
    fed.raw(1, 1, b'"one"')
    fed.bring(2, 3)
    items = FedItems(fed.inlet)
    assert await anext(items) == 1
    assert fed.broken == []
    with pytest.raises(DecodingFailed, match="Expected `int`, got `str`"):
        await anext(items)
    assert len(fed.broken) == 1
    fed.bring(3, 4)
    with pytest.raises(DecodingFailed):  # and nothing of what came behind it
        await anext(items)
    assert len(fed.broken) == 1


async def test_so_it_is_if_the_end_has_come_already() -> None:
    fed = Fed()
    fed.bring(0, 1)
    fed.raw(1, 2, b"[1,2,3]")
    fed.end(3)
    assert await fed.inlet.next() == 1
    for _ in range(2):
        with pytest.raises(DecodingFailed, match="3 items in a message that says it has 2"):
            await fed.inlet.next()


async def test_the_task_that_is_interrupted_for_it_is_not_told_of_it() -> None:
    """It could pass over the error, and return as if it had had all."""
    seen: list[BaseException] = []

    async def handler() -> None:
        try:
            async for _ in FedItems(fed.inlet):
                pass
        except BaseException as error:
            seen.append(error)
            raise

    def interrupt(error: Exception) -> None:
        task.cancel()

    fed = Fed()
    fed.inlet._broken = interrupt
    fed.bring(0, 1)
    fed.raw(1, 1, b"null")
    task = asyncio.ensure_future(handler())
    with pytest.raises(asyncio.CancelledError):
        await task
    assert [type(error) for error in seen] == [asyncio.CancelledError]


async def test_a_stream_that_fails_fails_behind_what_waits() -> None:
    fed = Fed()
    fed.bring(0, 1)
    fed.bring(1, 2)
    fed.inlet.fail(ConnectionError("gone"))
    assert [await fed.inlet.next(), await fed.inlet.next()] == [1, 2]
    with pytest.raises(ConnectionError, match="gone"):
        await fed.inlet.next()


@examples
@given(
    steps=st.lists(
        st.one_of(
            st.tuples(st.just("come"), st.integers(0, 3), st.integers(0, 4)),
            st.tuples(st.just("take"), st.integers(1, 5), st.none()),
        ),
        max_size=60,
    )
)
def test_whatever_comes_however_often_each_item_is_taken_once_and_in_order(steps: list[Any]) -> None:
    async def run() -> None:
        fed, sent, taken = Fed(window=20, most=10_000), 0, list[int]()
        items = FedItems(fed.inlet)
        for step, number, more in steps:
            if step == "come":
                first = max(0, sent - number)
                credit = 20 + sum(fed.grants)
                after = min(sent + more, credit)
                fed.bring(first, *range(first, after))
                sent = max(sent, after)
            else:
                for _ in range(min(number, sent - len(taken))):
                    taken.append(await anext(items))
        fed.end(sent)
        assert taken + await fed.rest() == list(range(sent))

    asyncio.run(run())
