"""What blocking code sees of async objects, told by stand-ins that offer what those of amqproxy do, one thing each."""

from __future__ import annotations

import asyncio
import copy
import gc
import inspect
import pickle
import threading
import warnings
from collections.abc import AsyncIterator, Generator, Iterator
from types import TracebackType
from typing import Any

import pytest

import amqproxy
from amqproxy.sync.client import Client
from amqproxy.sync.mirror import Mirror

PATIENCE = 30.0


class Count:
    """An async iterator as a stream is one: it can be closed, left by `async with`, and asked how far it is."""

    def __init__(self, to: int, *, error: Exception | None = None) -> None:
        self.at = 0
        self.closed = threading.Event()
        self.closings = 0
        self._to = to
        self._error = error

    def __aiter__(self) -> Count:
        return self

    async def __anext__(self) -> int:
        await asyncio.sleep(0)
        if self.at == self._to:
            raise self._error or StopAsyncIteration
        self.at += 1
        return self.at

    async def rest(self) -> list[int]:
        assert not self.closed.is_set()
        return [item async for item in self]

    async def aclose(self) -> None:
        self.closings += 1
        self.closed.set()

    async def __aenter__(self) -> Count:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()


class Collected(Count):
    """Also to be awaited, for all at once: the answers of a broadcast."""

    def __await__(self) -> Generator[Any, None, list[int]]:
        raise AssertionError("it was awaited")


class Ahead(Count):
    """Gives what is there at once."""

    def __init__(self, to: int) -> None:
        super().__init__(to)
        self.asked = 0

    async def some(self) -> list[int]:
        self.asked += 1
        first = await anext(self)
        return [first, *(await self.rest())[: 100 - first]]


class Either:
    """A call of which nobody knows yet whether it answers once or often: to be awaited or iterated."""

    def __await__(self) -> Generator[Any, None, int]:
        async def answer() -> int:
            return 42

        return answer().__await__()

    def __aiter__(self) -> AsyncIterator[int]:
        raise AssertionError("it was iterated")


class Repeatable:
    """Not an iterator itself: each iteration begins anew."""

    def __aiter__(self) -> AsyncIterator[int]:
        return Count(2)


class Swallowing:
    """Enters something else, and swallows what is raised inside."""

    def __init__(self) -> None:
        self.inner = Count(2)
        self.seen: BaseException | None = None

    async def __aenter__(self) -> Count:
        return self.inner

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        self.seen = error
        return True


class Async:
    """What a connection shows: a bit of everything."""

    url = "stand-in:"
    closings = 0

    def __init__(self) -> None:
        self.made: Any = None

    async def open(self) -> None: ...

    async def close(self) -> None:
        self.closings += 1

    async def add(self, x: int, y: int = 0) -> int:
        """The sum."""
        return x + y

    def make(self, kind: Any, *args: Any, **kwargs: Any) -> Any:
        """What is made in the event loop, and without awaiting."""
        asyncio.get_running_loop()
        self.made = kind(*args, **kwargs)
        return self.made

    async def numbers(self, to: int) -> AsyncIterator[int]:
        for number in range(to):
            yield number

    async def is_made(self, it: Any, *, also: Any = None) -> bool:
        return it is self.made and also in (None, self.made)

    async def total(self, items: AsyncIterator[int]) -> int:
        return sum([item async for item in items])

    async def value(self) -> Any:
        return self.made


@pytest.fixture
def target() -> Async:
    return Async()


@pytest.fixture
def mq(target: Async) -> Iterator[Any]:
    with Client(target) as client:  # type: ignore[arg-type]  # it shows whatever it is given
        yield client


# What comes out


def test_what_can_be_awaited_is_waited_for(mq: Any) -> None:
    assert mq.add(1, y=2) == 3
    assert mq.make(Either) == 42


@pytest.mark.parametrize("value", [1, "text", None, [1], {"a": 1}, ValueError("as a value"), int, object()])
def test_what_can_be_used_anywhere_comes_as_it_is(mq: Any, target: Async, value: Any) -> None:
    target.made = value
    assert mq.value() is mq.made is value


def test_async_iterators_are_iterators(mq: Any, target: Async) -> None:
    assert list(mq.numbers(3)) == [0, 1, 2]
    count = mq.make(Count, 2)
    assert iter(count) is count
    assert (next(count), count.at, next(count), next(count, None), next(count, None)) == (1, 1, 2, None, None)
    assert list(mq.make(Repeatable)) == [1, 2]
    assert list(mq.make(Collected, 2)) == [1, 2]


def test_an_error_comes_behind_the_items_before_it(mq: Any) -> None:
    count = mq.make(Count, 2, error=LookupError("no more"))
    assert [next(count), next(count)] == [1, 2]
    with pytest.raises(LookupError, match="no more"):
        next(count)


def test_leaving_a_loop_closes_the_iterator(mq: Any, target: Async) -> None:
    for number in mq.make(Count, 5):
        if number == 2:
            break
    assert target.made.closed.wait(PATIENCE)
    assert target.made.at == 2


def test_an_iterator_that_is_collected_is_closed_wherever_that_happens(mq: Any, target: Async) -> None:
    async def collect() -> None:
        kept.clear()

    kept = [mq.make(Count, 5)]
    next(kept[0])
    asyncio.run(collect())
    assert target.made.closed.wait(PATIENCE)


def test_an_iterator_stays_open_while_a_method_of_it_runs(mq: Any, target: Async) -> None:
    assert mq.make(Count, 3).rest() == [1, 2, 3]
    assert target.made.closed.wait(PATIENCE)


def test_items_that_are_there_are_fetched_together(mq: Any, target: Async) -> None:
    ahead = mq.make(Ahead, 50)
    assert (next(ahead), next(ahead), target.made.asked) == (1, 2, 1)
    assert list(ahead) == list(range(3, 51))
    assert target.made.asked == 2
    ahead = mq.make(Ahead, 50)
    assert next(ahead) == 1
    ahead.close()
    assert next(ahead, None) is None


def test_closing_is_waited_for_and_done_once(mq: Any, target: Async) -> None:
    count = mq.make(Count, 5)
    next(count)
    count.close()
    assert target.made.closings == 1
    del count
    with mq.make(Count, 5) as other:
        next(other)
    assert target.made.closings == 1
    del other
    for _ in mq.make(Count, 1):
        pass
    mq.add(1, 2)  # whatever a finalizer had asked for would be done now
    assert target.made.closings == 0


def test_async_context_managers_are_context_managers(mq: Any, target: Async) -> None:
    with mq.make(Count, 2) as count:
        assert isinstance(count, Mirror)
        assert next(count) == 1
    assert target.made.closed.is_set()
    with pytest.raises(LookupError), mq.make(Count, 2):
        raise LookupError
    assert target.made.closed.is_set()


def test_what_is_entered_and_what_is_raised_inside_go_their_ways(mq: Any, target: Async) -> None:
    error = LookupError("inside")
    with mq.make(Swallowing) as inner:
        assert list(inner) == [1, 2]
        raise error
    assert target.made.seen is error


# What goes in


def test_a_mirror_that_goes_in_is_what_it_shows(mq: Any) -> None:
    count = mq.make(Count, 2)
    assert mq.is_made(count)
    assert mq.is_made(count, also=count)


def test_an_iterator_that_goes_in_is_closed_by_who_has_it(mq: Any, target: Async) -> None:
    mq.is_made(mq.make(Count, 2))
    mq.add(1, 2)  # whatever a finalizer had asked for would be done now
    assert target.made.closings == 0


def test_iterators_go_in_as_async_ones(mq: Any) -> None:
    assert mq.total(iter([1, 2])) == 3
    assert mq.total(items=(n for n in range(4))) == 6
    assert mq.total(mq.numbers(4)) == 6
    with Client(Async()) as other:  # type: ignore[arg-type]  # it shows whatever it is given
        assert mq.total(other.numbers(4)) == 6


# What a mirror looks like


def test_methods_say_what_they_are(mq: Any) -> None:
    assert (mq.add.__name__, mq.add.__doc__) == ("add", "The sum.")
    assert list(inspect.signature(mq.add).parameters) == ["x", "y"]
    assert {"add", "make", "numbers", "close"} <= set(dir(mq))
    assert not {"open", "caller"} & set(dir(mq))
    assert repr(mq.make(Count, 1)).startswith("<sync tests.unit.sync.test_mirror.Count object")
    assert callable(mq.add)
    assert not callable(mq.make(Count, 1))


def test_attributes_are_those_of_what_it_shows(mq: Any, target: Async) -> None:
    count = mq.make(Count, 2)
    target.made.at = 1
    assert count.at == 1
    count.at = 0
    assert (list(count), target.made.at) == ([1, 2], 2)
    for name in ("nothing", "_to"):
        with pytest.raises(AttributeError, match=name):
            getattr(count, name)


def test_nothing_is_pickled_or_copied(mq: Any) -> None:
    for shown in (mq, mq.add, mq.make(Count, 1)):
        for use in (pickle.dumps, copy.copy, copy.deepcopy):
            with pytest.raises(TypeError, match=r"cannot be pickled or copied: .* connect in the other"):
                use(shown)


# The connection


def test_what_only_the_async_side_can_use_is_not_there(mq: Any) -> None:
    for use in (lambda: mq.open, lambda: amqproxy.Proxy(mq, "calculator"), lambda: amqproxy.Sender(mq, "calculator")):
        with pytest.raises(AttributeError, match=r"is for event loops: make a proxy by mq\.proxy"):
            use()


def test_options_are_for_proxies(mq: Any) -> None:
    with pytest.raises(TypeError, match=r"amqproxy\.options takes a proxy, not a Count"):
        amqproxy.options(mq.make(Count, 1), timeout=2)


def test_closed_is_closed(mq: Any, target: Async) -> None:
    count = mq.make(Count, 2)
    mq.close()
    mq.close()
    assert target.closings == 1
    for use in (mq.add, count.__next__, count.close, count.__enter__, mq.numbers):
        with pytest.raises(amqproxy.Closed, match=r"amqproxy\.sync\.connect\(\) makes another"):
            use()


def test_a_connection_that_does_not_open_leaves_no_thread() -> None:
    class Shut(Async):
        async def open(self) -> None:
            raise amqproxy.BrokerUnavailable("nobody there")

    before = threading.active_count()
    with pytest.raises(amqproxy.BrokerUnavailable, match="nobody there") as caught:
        Client(Shut())  # type: ignore[arg-type]  # it shows whatever it is given
    del caught
    gc.collect()
    for thread in threading.enumerate():
        if thread.name.startswith("amqproxy.sync"):
            thread.join(PATIENCE)
    assert threading.active_count() == before


def test_a_connection_that_is_forgotten_warns_and_closes(target: Async) -> None:
    closed = threading.Event()

    async def close() -> None:
        closed.set()

    target.close = close  # type: ignore[method-assign]
    client: Any = Client(target)  # type: ignore[arg-type]  # it shows whatever it is given
    add = client.add
    del client
    assert add(1, 2) == 3  # what was made from it keeps it
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        del add
    assert [str(warning.message) for warning in caught if warning.category is ResourceWarning] == [
        f"unclosed {target!r}"
    ]
    assert closed.wait(PATIENCE)
