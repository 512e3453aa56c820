"""Middleware: its order, what it may do with a call and with a handler, and what it may not."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import FrozenInstanceError, replace
from typing import Any

import pytest

import amqproxy
from amqproxy import OutgoingCall, RemoteError
from amqproxy.blob import Blob
from amqproxy.handler import Handler
from amqproxy.middleware import (
    SurroundedMethod,
    SurroundedStream,
    SurroundedStreamMethod,
    SurroundedUntypedMethod,
    Untyped,
    chain,
)
from amqproxy.surrounding import SurroundedHandler
from tests.unit.handlers import Handlers

lines: list[str] = []


@pytest.fixture(autouse=True)
def clear() -> None:
    lines.clear()


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2) as pool:
        yield pool


def writing(name: str) -> Any:
    """Middleware that writes down when it is entered and left."""

    async def written(call: Any, next: amqproxy.Next) -> Any:
        lines.append(f"{name}(")
        try:
            return await next(call)
        finally:
            lines.append(f"){name}")

    return written


# Any chain


async def test_the_first_is_the_outermost() -> None:
    async def last(call: str) -> str:
        lines.append(call)
        return call.upper()

    assert await chain([writing("a"), writing("b"), writing("c")], last)("call") == "CALL"
    assert lines == ["a(", "b(", "c(", "call", ")c", ")b", ")a"]
    assert chain([], last) is last


async def test_nothing_happens_until_what_next_gives_is_awaited() -> None:
    async def last(call: str) -> None:
        lines.append(call)

    async def waits(call: str, next: amqproxy.Next) -> None:
        coming = next(call)
        lines.append("not yet")
        await coming

    await chain([waits], last)("call")
    assert lines == ["not yet", "call"]


async def test_next_is_given_a_call() -> None:
    async def forgets(call: str, next: Any) -> Any:
        return await next()

    async def last(call: str) -> None: ...

    with pytest.raises(TypeError, match=r"next\(\) missing 1 required positional argument: 'call'"):
        await chain([forgets, writing("a")], last)("call")


# Around the calls of a proxy


class Sent:
    """A method without middleware, as far as middleware needs it: notes what it is called with."""

    def __init__(self, headers: Mapping[str, Any], timeout: float) -> None:
        self.__name__ = "add"
        self.__qualname__ = "calculator.add"
        self.service = "calculator"
        self.headers = headers
        self.timeout = timeout
        self.given: list[Any] = []
        self.numbers: Callable[[], AsyncIterator[int]] | None = None

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        self.given.append((args, kwargs, dict(self.headers), self.timeout))
        if self.numbers is not None:
            return Begun(self.numbers())
        return self._answer(*args, **kwargs)

    async def _answer(self, /, *args: int, **kwargs: int) -> int:
        return sum(args) + sum(kwargs.values())

    def varied(self, headers: Mapping[str, Any], timeout: float) -> Sent:
        other = Sent(headers, timeout)
        other.given = self.given
        other.numbers = self.numbers
        return other

    def __repr__(self) -> str:
        return "<method add>"


class Begun(AsyncIterator[int]):
    """A stream that is awaited for its beginning."""

    def __init__(self, items: AsyncIterator[int]) -> None:
        self._items = items

    def __await__(self) -> Iterator[Any]:
        lines.append("begun")
        yield from asyncio.sleep(0).__await__()
        return self  # type: ignore[return-value]

    def __aiter__(self) -> Begun:
        return self

    async def __anext__(self) -> int:
        return await anext(self._items)

    async def aclose(self) -> None:
        await self._items.aclose()  # type: ignore[attr-defined]


def surrounded(*middleware: Any, headers: Mapping[str, Any] | None = None) -> tuple[SurroundedMethod, list[Any]]:
    sent = Sent(headers or {}, 30.0)
    return SurroundedMethod(sent, middleware), sent.given


async def test_a_middleware_sees_the_call() -> None:
    seen: list[OutgoingCall] = []

    async def see(call: OutgoingCall, next: amqproxy.Next) -> Any:
        seen.append(call)
        return await next(call)

    add, given = surrounded(see, headers={"x-a": "1"})
    assert await add(1, y=2) == 3
    assert seen == [OutgoingCall("calculator", "add", (1,), {"y": 2}, {"x-a": "1"}, 30.0)]
    assert given == [((1,), {"y": 2}, {"x-a": "1"}, 30.0)]
    assert (repr(add), add.__name__, add.__qualname__) == ("<method add>", "add", "calculator.add")


async def test_a_call_does_not_change() -> None:
    async def tries(call: OutgoingCall, next: amqproxy.Next) -> Any:
        with pytest.raises(FrozenInstanceError):
            call.timeout = 5  # type: ignore[misc]
        with pytest.raises(TypeError):
            call.headers["x-b"] = "2"  # type: ignore[index]
        with pytest.raises(TypeError):
            call.kwargs["y"] = 5  # type: ignore[index]
        return await next(call)

    options = {"x-a": "1"}
    add, given = surrounded(tries, headers=options)
    assert await add(1, y=2) == 3
    assert given == [((1,), {"y": 2}, {"x-a": "1"}, 30.0)] and options == {"x-a": "1"}


async def test_next_may_be_given_the_call_with_changes() -> None:
    async def changes(call: OutgoingCall, next: amqproxy.Next) -> Any:
        return await next(replace(call.with_headers({"x-b": "2", "x-a": "3"}), timeout=5.0, args=(7,)))

    add, given = surrounded(changes, headers={"x-a": "1", "x-c": "4"})
    assert await add(1, y=2) == 9
    assert given == [((7,), {"y": 2}, {"x-a": "3", "x-c": "4", "x-b": "2"}, 5.0)]


@pytest.mark.parametrize("timeout", [0, -1, float("nan"), float("inf"), "5", None, True])
def test_a_timeout_is_a_number_of_seconds(timeout: Any) -> None:
    with pytest.raises((TypeError, ValueError), match=r"^timeout is "):
        OutgoingCall("calculator", "add", (), {}, {}, timeout)


@pytest.mark.parametrize("change", [{"service": "other"}, {"method": "divide"}])
async def test_a_call_of_one_method_cannot_become_one_of_another(change: dict[str, str]) -> None:
    async def changes(call: OutgoingCall, next: amqproxy.Next) -> Any:
        return await next(replace(call, **change))  # type: ignore[arg-type]

    add, given = surrounded(changes)
    with pytest.raises(TypeError, match=r"^next takes the call of calculator.add, or that with changes, and not Outg"):
        await add(1)
    assert given == []


@pytest.mark.parametrize("other", [None, (1, 2), "call"])
async def test_next_takes_nothing_but_calls(other: Any) -> None:
    async def changes(call: OutgoingCall, next: amqproxy.Next) -> Any:
        return await next(other)

    add, _ = surrounded(changes)
    with pytest.raises(TypeError, match=r"next takes the call of calculator.add, or that with changes, and not"):
        await add(1)


async def test_a_middleware_may_answer_by_itself_with_anything() -> None:
    async def answers(call: Any, next: amqproxy.Next) -> Any:
        return ["not", "an", "int"]

    add, given = surrounded(answers, writing("a"))
    assert await add(1) == ["not", "an", "int"]
    assert given == lines == []


async def test_a_middleware_may_call_again_one_after_the_other_or_at_once() -> None:
    async def twice(call: Any, next: amqproxy.Next) -> Any:
        return await next(call) + sum(await asyncio.gather(next(call), next(call)))

    add, given = surrounded(twice)
    assert await add(1, 2) == 9
    assert len(given) == 3


class Interrupt(BaseException): ...


@pytest.mark.parametrize("error", [ValueError("x"), Interrupt(), asyncio.CancelledError()])
async def test_whatever_a_middleware_raises_its_caller_gets(error: BaseException) -> None:
    async def raises(call: Any, next: amqproxy.Next) -> Any:
        await next(call)
        raise error

    add, given = surrounded(writing("a"), raises)
    with pytest.raises(type(error)) as caught:
        await add(1)
    assert caught.value is error and len(given) == 1 and lines == ["a(", ")a"]


# Around the streams of a proxy


async def three() -> AsyncIterator[int]:
    try:
        for number in range(3):
            yield number
    finally:
        lines.append("closed")


def stream(*middleware: Any) -> tuple[Callable[..., SurroundedStream], list[Any]]:
    sent = Sent({}, 30.0)
    sent.numbers = three
    return SurroundedStreamMethod(sent, middleware), sent.given


async def test_a_stream_is_there_at_once_and_called_for_with_its_first_item() -> None:
    count, given = stream(writing("a"))
    items = count(3)
    assert (given, repr(items)) == ([], "<Stream of calculator.add>")
    assert [item async for item in items] == [0, 1, 2]
    assert len(given) == 1 and lines == ["a(", "begun", ")a", "closed"]
    with pytest.raises(StopAsyncIteration):
        await anext(items)


async def test_a_stream_may_be_begun_before_its_first_item() -> None:
    count, given = stream(writing("a"))
    items = await count(3)
    assert await items is items
    assert len(given) == 1 and lines == ["a(", "begun", ")a"]
    assert [item async for item in items] == [0, 1, 2]


async def test_a_middleware_may_put_another_stream_in_its_place() -> None:
    async def doubled(call: Any, next: amqproxy.Next) -> Any:
        items = await next(call)

        async def double() -> AsyncIterator[int]:
            async for item in items:
                yield 2 * item

        return double()

    count, _ = stream(doubled)
    assert [item async for item in count(3)] == [0, 2, 4]


async def test_a_stream_that_is_left_is_closed() -> None:
    count, _ = stream(writing("a"))
    async with count(3) as items:
        assert await anext(items) == 0
    assert lines == ["a(", "begun", ")a", "closed"]
    await items.aclose()
    with pytest.raises(StopAsyncIteration):
        await anext(items)


async def test_a_stream_that_is_closed_before_it_began_is_never_called_for() -> None:
    count, given = stream(writing("a"))
    items = count(3)
    await items.aclose()
    with pytest.raises(StopAsyncIteration):
        await anext(items)
    assert given == lines == []


async def test_a_stream_that_is_closed_while_it_begins_is_closed_then() -> None:
    going, begins = asyncio.Event(), asyncio.Event()

    async def waits(call: Any, next: amqproxy.Next) -> Any:
        begins.set()
        await going.wait()
        items = await next(call)
        await anext(items)
        return items

    items = stream(waits)[0](3)
    first = asyncio.ensure_future(anext(items))
    await begins.wait()
    with pytest.raises(RuntimeError, match="another task waits for the next item of this stream"):
        await anext(items)
    await items.aclose()
    going.set()
    with pytest.raises(StopAsyncIteration):
        await first
    assert lines == ["begun", "closed"]


async def test_a_stream_that_fails_to_begin_fails_once() -> None:
    async def raises(call: Any, next: amqproxy.Next) -> Any:
        raise ValueError("no")

    items = stream(raises)[0](3)
    with pytest.raises(ValueError, match="no"):
        await anext(items)
    with pytest.raises(StopAsyncIteration):
        await anext(items)


async def test_a_list_may_take_the_place_of_a_stream() -> None:
    async def answers(call: Any, next: amqproxy.Next) -> Any:
        return [1, 2, 3]

    count, given = stream(answers)
    assert [item async for item in count(3)] == [1, 2, 3]
    assert given == []


async def test_what_is_no_stream_cannot_take_the_place_of_one() -> None:
    async def answers(call: Any, next: amqproxy.Next) -> Any:
        return 5

    items = stream(answers)[0](3)
    with pytest.raises(TypeError, match=r"^calculator.add gives a stream, and its middleware a int, which is no iter"):
        await anext(items)
    with pytest.raises(StopAsyncIteration):
        await anext(items)


# Around the calls of a service that is known by its name


class Either:
    """A call that was not made yet, with no more than middleware needs of it."""

    def __init__(self, method: Untyped, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        self.value = method.value(args, kwargs)
        self.stream = method.stream(args, kwargs)
        self.either = method.either(args, kwargs)


class SentUntyped(Sent):
    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        self.given.append((args, kwargs))
        return Possibly(self._answer(*args, **kwargs))


class Possibly:
    def __init__(self, value: Coroutine[Any, Any, int]) -> None:
        self._value = value

    def __await__(self) -> Any:
        return self._value.__await__()

    def __aiter__(self) -> Begun:
        self._value.close()
        return Begun(three())

    async def either(self) -> Any:
        self._value.close()
        return "either"


async def test_a_call_by_name_goes_through_middleware_awaited_or_iterated() -> None:
    sent = SentUntyped({}, 30.0)
    add = SurroundedUntypedMethod(sent, [writing("a")], Either)
    either = add(1, 2)
    assert sent.given == []
    assert await either.value == 3
    assert [item async for item in either.stream] == [0, 1, 2]
    assert await either.either == "either"
    assert sent.given == [((1, 2), {})] * 3
    assert lines == ["a(", ")a", "a(", "begun", ")a", "closed", "a(", ")a"]


# Around handlers

variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="not set")


class Service:
    def __init__(self) -> None:
        self.ran = 0

    async def add(self, x: int, y: int = 5) -> int:
        self.ran += 1
        lines.append("run")
        return x + y

    async def see(self) -> str:
        return variable.get()

    def see_in_thread(self) -> list[Any]:
        return [variable.get(), threading.current_thread() is threading.main_thread()]

    async def fail(self) -> None:
        raise ZeroDivisionError

    async def count(self, to: int) -> AsyncIterator[int]:
        for number in range(to):
            yield number

    def count_in_thread(self, to: int) -> Iterator[int]:
        yield from range(to)

    async def blob(self) -> Blob:
        return Blob(b"abc")

    async def total(self, items: AsyncIterator[int], start: int) -> int:
        return start + sum([item async for item in items])

    def total_in_thread(self, items: Iterator[int], start: int) -> int:
        return sum(items, start)


async def test_a_handler_runs_within_its_middleware(threads: ThreadPoolExecutor) -> None:
    handlers = Handlers(Service(), threads, middleware=[writing("a"), writing("b")])
    assert await handlers.call("add", 1) == 6
    assert lines == ["a(", "b(", "run", ")b", ")a"]


async def test_a_middleware_sees_the_current_call_and_its_arguments(threads: ThreadPoolExecutor) -> None:
    seen: list[Any] = []

    async def see(call: amqproxy.Call, next: amqproxy.Next) -> Any:
        assert call is amqproxy.current()
        seen.append((call.service, call.method, call.arguments, call.headers))
        return await next(call)

    handlers = Handlers(Service(), threads, middleware=[see])
    assert await handlers.call("add", 1, headers={"x-a": "1"}) == 6
    assert await handlers.call("add", y=1, x=2) == 3
    assert seen == [("service", "add", {"x": 1}, {"x-a": "1"}), ("service", "add", {"x": 2, "y": 1}, {})]


async def test_without_middleware_a_call_does_not_keep_its_arguments(threads: ThreadPoolExecutor) -> None:
    class Looks:
        async def look(self, x: int) -> str:
            with pytest.raises(LookupError, match="a call has its arguments for middleware, and this worker has none"):
                _ = amqproxy.current().arguments
            return "looked"

    assert await Handlers(Looks(), threads).call("look", 1) == "looked"


async def test_context_variables_that_a_middleware_sets_are_seen(threads: ThreadPoolExecutor) -> None:
    async def sets(call: Any, next: amqproxy.Next) -> Any:
        assert threading.current_thread() is threading.main_thread()
        variable.set("set")
        return await next(call)

    handlers = Handlers(Service(), threads, middleware=[sets])
    assert await handlers.call("see") == "set"
    assert await handlers.call("see_in_thread") == ["set", False]
    assert variable.get() == "not set"


async def test_a_middleware_may_change_the_result_within_the_contract(threads: ThreadPoolExecutor) -> None:
    async def changes(call: Any, next: amqproxy.Next) -> Any:
        return 10 * await next(call)

    assert await Handlers(Service(), threads, middleware=[changes]).call("add", 1) == 60


@pytest.mark.parametrize("wrong", ["six", None, [6], object()])
async def test_what_the_method_does_not_promise_is_not_answered(threads: ThreadPoolExecutor, wrong: Any) -> None:
    async def changes(call: Any, next: amqproxy.Next) -> Any:
        await next(call)
        return wrong

    with pytest.raises(RemoteError, match=r"Service.add\(.* returned what it does not promise") as caught:
        await Handlers(Service(), threads, middleware=[changes]).call("add", 1)
    assert caught.value.code == "internal"


async def test_a_middleware_may_answer_without_the_handler(threads: ThreadPoolExecutor) -> None:
    async def answers(call: Any, next: amqproxy.Next) -> Any:
        return 7

    service = Service()
    assert await Handlers(service, threads, middleware=[answers, writing("a")]).call("add", 1) == 7
    assert service.ran == 0 and lines == []


async def test_the_handler_runs_as_often_as_next_is_awaited(threads: ThreadPoolExecutor) -> None:
    async def again(call: Any, next: amqproxy.Next) -> Any:
        return await next(call) + sum(await asyncio.gather(next(call), next(call)))

    service = Service()
    assert await Handlers(service, threads, middleware=[again]).call("add", 1, 2) == 9
    assert service.ran == 3


async def test_a_middleware_sees_and_replaces_exceptions(threads: ThreadPoolExecutor) -> None:
    async def translates(call: Any, next: amqproxy.Next) -> Any:
        try:
            return await next(call)
        except ZeroDivisionError as error:
            raise RemoteError("not by zero", code="invalid_argument") from error

    with pytest.raises(RemoteError, match="not by zero"):
        await Handlers(Service(), threads, middleware=[translates]).call("fail")


@pytest.mark.parametrize("other", [None, "call", OutgoingCall("service", "add", (1,), {}, {}, 30.0)])
async def test_next_takes_the_call_that_runs(threads: ThreadPoolExecutor, other: Any) -> None:
    async def changes(call: Any, next: amqproxy.Next) -> Any:
        return await next(other)

    service = Service()
    with pytest.raises(TypeError, match=r"^next takes the call that the middleware was given, and not "):
        await Handlers(service, threads, middleware=[changes]).call("add", 1)
    assert service.ran == 0


@pytest.mark.parametrize("method", ["count", "count_in_thread"])
async def test_the_result_of_a_stream_is_an_asynchronous_iterator(threads: ThreadPoolExecutor, method: str) -> None:
    async def doubled(call: Any, next: amqproxy.Next) -> Any:
        items = await next(call)

        async def double() -> AsyncIterator[int]:
            async for item in items:
                yield 2 * item

        return double()

    handlers = Handlers(Service(), threads, middleware=[writing("a"), doubled])
    assert await handlers.stream(method, 3) == [0, 2, 4]
    assert lines == ["a(", ")a"]


async def test_what_is_no_stream_cannot_be_answered_as_one(threads: ThreadPoolExecutor) -> None:
    async def answers(call: Any, next: amqproxy.Next) -> Any:
        return 12

    handlers = Handlers(Service(), threads, middleware=[answers])
    with pytest.raises(RemoteError, match=r"Service.count\(.* promise: a int, which is no asynchronous iterator"):
        await handlers.stream("count", 3)


async def test_blobs_and_what_is_fed_go_through_middleware(threads: ThreadPoolExecutor) -> None:
    async def numbers() -> AsyncIterator[int]:
        for number in range(4):
            yield number

    handlers = Handlers(Service(), threads, middleware=[writing("a")])
    assert await handlers.stream("blob") == [b"abc"]
    for method in ("total", "total_in_thread"):
        handler = handlers.handler(method)
        call = handlers.enter(handler, {})
        assert await handler.start_fed(handler.decode(b'{"start":1}'), numbers()) == 7
        assert call.arguments == {"start": 1}
    assert lines == ["a(", ")a"] * 3


async def test_providers_are_opened_within_middleware(threads: ThreadPoolExecutor) -> None:
    class Database: ...

    async def database() -> AsyncIterator[Database]:
        lines.append(f"open {variable.get()}")
        yield Database()
        lines.append("close")

    async def sets(call: Any, next: amqproxy.Next) -> Any:
        variable.set("set")
        return await next(call)

    class Uses:
        async def use(self, x: int, db: Database) -> int:
            return x

    Uses.use.__annotations__["db"] = Database
    seen: list[Any] = []

    async def see(call: amqproxy.Call, next: amqproxy.Next) -> Any:
        seen.append(call.arguments)
        return await next(call)

    handlers = Handlers(Uses(), threads, middleware=[writing("a"), sets, see], providers={Database: database})
    assert await handlers.call("use", 1) == 1
    assert lines == ["a(", "open set", "close", ")a"]
    assert seen == [{"x": 1}]


async def test_a_worker_without_middleware_has_plain_handlers(threads: ThreadPoolExecutor) -> None:
    assert type(Handlers(Service(), threads).handler("add")) is Handler
    assert type(Handlers(Service(), threads, middleware=[writing("a")]).handler("add")) is SurroundedHandler
