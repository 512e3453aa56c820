"""The two ends of a stream on a bare event loop: order, credit, batches, the end, and iterators that are closed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from amqproxy.codecs import DecodingFailed, Mismatch
from amqproxy.codecs.items import Chunks, Items, results
from amqproxy.codecs.json import JSON
from amqproxy.contract import contract_of
from amqproxy.flow import MAX_CREDIT, FlowError, Outflow
from amqproxy.stream import BATCH_BYTES, YIELD_MESSAGES, Inlet, Outlet, as_asynchronous, close
from amqproxy.wire import Part

examples = settings(
    max_examples=60, deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.too_slow]
)


class Typed:
    async def numbers(self) -> AsyncIterator[int]:
        yield 1

    async def texts(self) -> AsyncIterator[str]:
        yield ""


METHODS = contract_of(Typed).methods
NUMBERS = results(JSON(), METHODS["numbers"])
TEXTS = results(JSON(), METHODS["texts"])


class Refused(Exception):
    """What the owner of an outlet makes of an item that cannot be written."""


class Sent:
    """An outlet with what it has sent: the number of each first item, and the items."""

    def __init__(
        self, credit: int, *, batch: int = 64, body_bytes: int = 1 << 20, items: Items = NUMBERS, fail_at: int = -1
    ) -> None:
        self.messages: list[tuple[int, list[Any]]] = []
        self.ends: list[int] = []
        self.came = asyncio.Event()
        self.items = items
        self.fail_at = fail_at
        self.outlet = Outlet(
            *(asyncio.get_running_loop(), Outflow(credit), items),
            batch=batch,
            body_bytes=body_bytes,
            send=self._send,
            end=self.ends.append,
            misfit=lambda error: Refused(str(error)),
        )

    def _send(self, first: int, items: int, body: bytes) -> None:
        if len(self.messages) == self.fail_at:
            raise OSError("the socket is gone")
        self.messages.append((first, list(self.items.unpack(body, items))))
        self.came.set()

    @property
    def values(self) -> list[Any]:
        return [value for _, values in self.messages for value in values]

    @property
    def sizes(self) -> list[int]:
        return [len(values) for _, values in self.messages]


class Source:
    """An asynchronous generator that counts what it was asked for, and notes that it was closed."""

    def __init__(self, items: int, *, pause: bool = False, error: BaseException | None = None) -> None:
        self.items = items
        self.pause = pause
        self.error = error
        self.produced = 0
        self.closed = False

    async def __call__(self) -> AsyncIterator[int]:
        try:
            for number in range(self.items):
                if self.pause:
                    await asyncio.sleep(0)
                self.produced += 1
                yield number
            if self.error is not None:
                raise self.error
        finally:
            await asyncio.sleep(0)  # cleaning up may take its time, too
            self.closed = True


async def settled() -> None:
    """Return when all that can run without further events has run."""
    for _ in range(20):
        await asyncio.sleep(0)


# The sending end: order and credit


async def test_items_are_sent_in_order_and_numbered_and_the_end_is_told_behind_them() -> None:
    sent, source = Sent(1000, batch=7), Source(20)
    await sent.outlet.run(source())
    assert [first for first, _ in sent.messages] == [0, 7, 14]
    assert sent.values == list(range(20))
    assert sent.ends == [20]
    assert source.closed


async def test_a_stream_without_items_has_an_end() -> None:
    sent = Sent(0)
    sent.outlet.granted(1)
    await sent.outlet.run(Source(0)())
    assert (sent.messages, sent.ends) == ([], [0])


@pytest.mark.parametrize("credit", [1, 2, 5])
async def test_no_item_is_asked_for_that_may_not_be_sent(credit: int) -> None:
    sent, source = Sent(credit), Source(100)
    task = asyncio.create_task(sent.outlet.run(source()))
    await settled()
    assert (source.produced, sent.values) == (credit, list(range(credit)))
    sent.outlet.granted(3)
    await settled()
    assert (source.produced, sent.values) == (credit + 3, list(range(credit + 3)))
    sent.outlet.granted(200)
    await task
    assert (sent.values, sent.ends) == (list(range(100)), [100])


async def test_without_credit_the_iterator_is_not_begun() -> None:
    sent, source = Sent(0), Source(1)
    task = asyncio.create_task(sent.outlet.run(source()))
    await settled()
    assert source.produced == 0
    sent.outlet.granted(0)
    await settled()
    assert source.produced == 0
    sent.outlet.granted(1)
    await settled()
    assert source.produced == 1
    assert not task.done()  # whether there is more is not asked while there is no credit
    sent.outlet.granted(1)
    await task
    assert sent.ends == [1]


@examples
@given(
    items=st.integers(0, 50),
    batch=st.integers(1, 9),
    grants=st.lists(st.integers(0, 9), max_size=20),
    pause=st.booleans(),
)
def test_the_credit_is_never_exceeded_and_all_that_is_granted_is_used(
    items: int, batch: int, grants: list[int], pause: bool
) -> None:
    async def play() -> None:
        sent, source, granted = Sent(0, batch=batch), Source(items, pause=pause), 0
        task = asyncio.create_task(sent.outlet.run(source()))
        for grant in grants:
            sent.outlet.granted(grant)
            granted += grant
            await asyncio.sleep(0)
            assert len(sent.values) <= source.produced <= granted
        for _ in range(4 * items + 20):
            await asyncio.sleep(0)
        assert sent.values == list(range(min(items, granted)))
        assert max(sent.sizes, default=0) <= batch
        assert task.done() == (granted > items)
        sent.outlet.granted(MAX_CREDIT - sent.outlet.flow.credit)
        await task
        assert sent.values == list(range(items))
        assert (sent.ends, source.closed) == ([items], True)

    asyncio.run(play())


async def test_a_credit_that_is_none_is_refused_and_changes_nothing() -> None:
    sent = Sent(1)
    for credit in (-1, MAX_CREDIT + 1, MAX_CREDIT):
        with pytest.raises(FlowError):
            sent.outlet.granted(credit)
    await sent.outlet.run(Source(0)())
    sent.outlet.granted(5)
    assert sent.ends == [0]


# Batches


async def test_a_message_has_as_many_items_as_may_share_one() -> None:
    sent = Sent(1000, batch=10)
    await sent.outlet.run(Source(35)())
    assert sent.sizes == [10, 10, 10, 5]


async def test_with_a_batch_of_one_each_item_travels_alone() -> None:
    sent = Sent(1000, batch=1)
    await sent.outlet.run(Source(5)())
    assert sent.sizes == [1, 1, 1, 1, 1]


async def test_chunks_travel_alone_however_small() -> None:
    sent = Sent(1000, batch=64, items=Chunks())
    await sent.outlet.run(as_asynchronous([b"a", b"b", b"c"]))
    assert sent.messages == [(0, [b"a"]), (1, [b"b"]), (2, [b"c"])]


async def test_a_message_is_full_when_it_has_enough_bytes() -> None:
    text = "x" * (BATCH_BYTES // 4)
    sent = Sent(1000, items=TEXTS)
    await sent.outlet.run(as_asynchronous([text] * 8))
    assert sent.sizes == [3, 3, 2]  # a fourth, with its quotes, would be more than that


async def test_a_large_item_travels_alone_and_waits_for_nothing() -> None:
    large = "x" * BATCH_BYTES
    sent = Sent(1000, items=TEXTS)
    await sent.outlet.run(as_asynchronous(["a", large, "b", "c"]))
    assert [len(values) for _, values in sent.messages] == [1, 1, 2]
    assert sent.values == ["a", large, "b", "c"]


async def test_no_message_of_small_items_is_larger_than_a_body_may_be() -> None:
    sizes: list[int] = []

    class Measured(Sent):
        def _send(self, first: int, items: int, body: bytes) -> None:
            sizes.append(len(body))
            super()._send(first, items, body)

    sent = Measured(1000, batch=1000, body_bytes=300, items=TEXTS)
    await sent.outlet.run(as_asynchronous(["x" * 20] * 50))
    assert sent.values == ["x" * 20] * 50
    assert max(sizes) <= 300
    assert len(sizes) < 20


async def test_what_waits_is_sent_when_the_iterator_pauses() -> None:
    sent, go_on = Sent(1000), asyncio.Event()

    async def source() -> AsyncIterator[int]:
        yield 0
        yield 1
        await go_on.wait()
        yield 2

    task = asyncio.create_task(sent.outlet.run(source()))
    await asyncio.wait_for(sent.came.wait(), 10)
    assert sent.messages == [(0, [0, 1])]
    go_on.set()
    await task
    assert sent.messages == [(0, [0, 1]), (2, [2])]


async def test_others_get_a_turn_while_a_source_never_pauses() -> None:
    sent, turns = Sent(MAX_CREDIT, batch=1), 0

    async def others() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    task = asyncio.create_task(others())
    await sent.outlet.run(as_asynchronous(range(10 * YIELD_MESSAGES)))
    task.cancel()
    assert turns >= 9


# The end, in every way


async def test_what_was_yielded_ahead_of_an_error_is_sent_and_no_end_is_told() -> None:
    sent, source = Sent(1000), Source(3, error=ZeroDivisionError("by zero"))
    with pytest.raises(ZeroDivisionError):
        await sent.outlet.run(source())
    assert (sent.messages, sent.ends, source.closed) == ([(0, [0, 1, 2])], [], True)
    await settled()
    assert sent.values == [0, 1, 2]


@pytest.mark.parametrize("error", [asyncio.CancelledError(), GeneratorExit(), type("Panic", (BaseException,), {})()])
async def test_so_it_is_with_errors_that_are_no_exceptions(error: BaseException) -> None:
    sent, source = Sent(1000), Source(2, error=error)
    with pytest.raises(type(error)):
        await sent.outlet.run(source())
    await settled()
    assert (sent.values, sent.ends, source.closed) == ([0, 1], [], True)


@pytest.mark.parametrize("where", ["at once", "without credit", "in the iterator"])
async def test_nothing_is_sent_once_it_is_interrupted_and_the_iterator_is_closed(where: str) -> None:
    sent = Sent({"at once": 5, "without credit": 2, "in the iterator": 5}[where])
    entered, closed = asyncio.Event(), []

    async def source() -> AsyncIterator[int]:
        try:
            yield 0
            yield 1
            if where == "in the iterator":
                entered.set()
                await asyncio.Event().wait()
            yield 2
        finally:
            await asyncio.sleep(0)
            closed.append(where)

    items = source()
    task = asyncio.create_task(sent.outlet.run(items))
    if where == "in the iterator":
        await entered.wait()
    elif where == "without credit":
        await settled()
    else:
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    before = list(sent.values)
    sent.outlet.granted(10)
    await settled()
    assert sent.values == before
    assert sent.ends == []
    assert not sent.outlet.flow.open
    if where == "at once":  # a generator that was never begun has nothing to clean up, and runs no more
        with pytest.raises(StopAsyncIteration):
            await anext(items)
    else:
        assert closed == [where]


async def test_an_item_that_does_not_fit_ends_the_stream_behind_those_ahead_of_it() -> None:
    sent = Sent(1000)
    with pytest.raises(Refused, match="Expected `int`, got `str`") as caught:
        await sent.outlet.run(as_asynchronous([1, 2, "three", 4]))
    assert isinstance(caught.value.__cause__, Mismatch)
    assert (sent.values, sent.ends) == ([1, 2], [])


async def test_sending_that_fails_is_raised_and_closes_the_iterator() -> None:
    sent, source = Sent(1000, batch=1, fail_at=2), Source(5)
    with pytest.raises(OSError, match="the socket is gone"):
        await sent.outlet.run(source())
    assert (sent.values, sent.ends, source.closed) == ([0, 1], [], True)


async def test_what_closes_badly_is_told_and_is_no_end() -> None:
    async def source() -> AsyncIterator[int]:
        try:
            yield 1
            yield 2
        finally:
            raise OSError("cannot be closed")

    sent = Sent(10)
    with pytest.raises(OSError, match="cannot be closed"):
        await sent.outlet.run(source())
    assert (sent.values, sent.ends) == ([1, 2], [])


async def test_an_iterator_that_cannot_be_closed_need_not_be() -> None:
    class Plain:
        left = 2

        def __aiter__(self) -> Plain:
            return self

        async def __anext__(self) -> int:
            if not self.left:
                raise StopAsyncIteration
            self.left -= 1
            return self.left

    sent = Sent(10)
    await sent.outlet.run(Plain())
    assert (sent.values, sent.ends) == ([1, 0], [2])
    await close(object())


async def test_a_plain_iterator_is_an_asynchronous_one() -> None:
    assert [item async for item in as_asynchronous("abc")] == ["a", "b", "c"]


# The receiving end


class Got:
    """An inlet with what it has granted."""

    def __init__(self, window: int = 10, items: Items = NUMBERS) -> None:
        self.grants: list[int] = []
        self.inlet = Inlet(asyncio.get_running_loop(), window, items, self.grants.append)

    def bring(self, first: int, *values: int) -> None:
        bodies = [NUMBERS.encode(value) for value in values]
        self.inlet.take(Part(first, len(values), last=False), NUMBERS.pack(bodies))

    def end(self, at: int) -> None:
        self.inlet.take(Part(at, 0, last=True), b"")

    async def rest(self) -> list[Any]:
        found = []
        while True:
            try:
                found.append(await self.inlet.next())
            except StopAsyncIteration:
                return found


async def test_items_are_taken_in_order_and_the_end_comes_behind_them() -> None:
    got = Got()
    got.bring(0, 5, 6)
    got.bring(2, 7)
    got.end(3)
    assert await got.rest() == [5, 6, 7]
    assert await got.rest() == []


async def test_whoever_waits_is_woken_by_an_item_by_the_end_and_by_an_error() -> None:
    got = Got()
    steps: list[tuple[Callable[[], None], Any]] = [
        (lambda: got.bring(0, 1, 2), 1),
        (lambda: None, 2),
        (lambda: got.end(2), StopAsyncIteration),
    ]
    for deliver, expected in steps:
        task = asyncio.ensure_future(_next(got.inlet))
        await settled()
        deliver()
        assert await asyncio.wait_for(task, 10) == expected
    failed = Got()
    task = asyncio.ensure_future(_next(failed.inlet))
    await settled()
    failed.inlet.fail(ConnectionError("gone"))
    assert await asyncio.wait_for(task, 10) is ConnectionError


async def _next(inlet: Inlet) -> Any:
    """The next item, or the type of what was raised; StopAsyncIteration cannot leave a task."""
    try:
        return await inlet.next()
    except Exception as error:
        return type(error)


async def test_an_error_comes_behind_the_items() -> None:
    got = Got()
    got.bring(0, 1, 2)
    got.inlet.fail(ConnectionError("gone"))
    assert (await got.inlet.next(), await got.inlet.next()) == (1, 2)
    with pytest.raises(ConnectionError):
        await got.inlet.next()


async def test_what_comes_behind_the_end_changes_nothing() -> None:
    got = Got()
    got.bring(0, 1)
    got.end(1)
    got.end(1)
    got.bring(1, 2)
    got.inlet.take_all(b"[3]")
    got.inlet.fail(ConnectionError("gone"))
    assert await got.rest() == [1]


async def test_credit_is_given_for_what_is_taken_and_not_for_what_came() -> None:
    got = Got(window=4)
    got.bring(0, *range(4))
    assert got.grants == []
    assert [await got.inlet.next() for _ in range(4)] == [0, 1, 2, 3]
    assert got.grants == [2, 2]
    got.bring(4, *range(4))
    with pytest.raises(FlowError, match="credit was given for 8"):
        got.bring(8, 1)


async def test_items_that_come_again_are_taken_once() -> None:
    got = Got()
    got.bring(0, 1, 2)
    got.bring(0, 1, 2)
    got.bring(1, 2, 3)
    got.end(3)
    assert await got.rest() == [1, 2, 3]


@pytest.mark.parametrize(
    ("bring", "error"),
    [
        (lambda got: got.bring(1, 5), FlowError),
        (lambda got: got.end(1), FlowError),
        (lambda got: got.bring(0, *range(11)), FlowError),
        (lambda got: got.inlet.take(Part(0, 2, last=False), b"[1]"), DecodingFailed),
        (lambda got: got.inlet.take(Part(0, 1, last=False), b'"text"'), DecodingFailed),
        (lambda got: got.inlet.take_all(b"{}"), DecodingFailed),
    ],
    ids=["a gap", "an early end", "too many", "a count that lies", "another type", "no array"],
)
async def test_what_makes_no_sense_is_told_and_brings_nothing(
    bring: Callable[[Got], None], error: type[Exception]
) -> None:
    got = Got()
    with pytest.raises(error):
        bring(got)
    assert not got.inlet.ready


async def test_a_stream_may_come_whole() -> None:
    got = Got()
    got.inlet.take_all(b"[1,2,3]")
    assert await got.rest() == [1, 2, 3]
    assert got.grants == []


async def test_two_cannot_wait_for_the_next_item_of_one_stream() -> None:
    got = Got()
    first = asyncio.ensure_future(got.inlet.next())
    await settled()
    with pytest.raises(RuntimeError, match="another task waits"):
        await got.inlet.next()
    got.bring(0, 1)
    assert await first == 1


async def test_an_item_that_came_to_who_was_interrupted_is_there_for_the_next() -> None:
    got = Got()
    task = asyncio.ensure_future(got.inlet.next())
    await settled()
    got.bring(0, 1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await got.inlet.next() == 1


# Both ends together


@examples
@given(
    items=st.integers(0, 60),
    window=st.integers(1, 12),
    batch=st.integers(1, 12),
    taker=st.lists(st.integers(0, 3), max_size=30),
    pause=st.booleans(),
)
def test_whatever_the_speeds_no_more_than_the_window_is_on_its_way_and_all_arrives(
    items: int, window: int, batch: int, taker: Sequence[int], pause: bool
) -> None:
    async def play() -> None:
        loop, source = asyncio.get_running_loop(), Source(items, pause=pause)
        taken: list[int] = []

        def send(first: int, count: int, body: bytes) -> None:
            loop.call_soon(inlet.take, Part(first, count, last=False), body)

        def end(at: int) -> None:
            loop.call_soon(inlet.take, Part(at, 0, last=True), b"")

        def grant(credit: int) -> None:
            loop.call_soon(outlet.granted, credit)

        inlet = Inlet(loop, window, NUMBERS, grant)
        outlet = Outlet(
            *(loop, Outflow(window), NUMBERS),
            batch=batch,
            body_bytes=1 << 20,
            send=send,
            end=end,
            misfit=lambda error: error,
        )
        task = asyncio.create_task(outlet.run(source()))
        for pauses in taker:
            for _ in range(pauses):
                await asyncio.sleep(0)
            assert source.produced - len(taken) <= window
            if inlet.ready:
                taken.append(inlet.pop())
        while True:
            assert source.produced - len(taken) <= window
            try:
                taken.append(await inlet.next())
            except StopAsyncIteration:
                break
        await task
        assert taken == list(range(items))

    asyncio.run(play())
