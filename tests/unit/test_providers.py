"""Providers: what they may be, when they are opened and closed, where they run, and what of them is refused."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Annotated, Any, Protocol, runtime_checkable

import pytest

import amqproxy
from amqproxy import ContractError, RemoteError
from amqproxy.blob import Blob
from amqproxy.handler import Handler
from amqproxy.surrounding import ProvidedHandler
from tests.unit.handlers import Handlers


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2) as pool:
        yield pool


class Database:
    def __init__(self, name: str = "main") -> None:
        self.name = name


class Callable_(Database):
    def __call__(self) -> Database:
        raise AssertionError("it is handed out as it is")


class Entered(Database):
    """What is entered and left, for an event loop."""

    async def __aenter__(self) -> Entered:
        return Entered("entered")

    async def __aexit__(self, *details: Any) -> None: ...


class EnteredPlainly(Database):
    def __enter__(self) -> EnteredPlainly:
        return EnteredPlainly("entered")

    def __exit__(self, *details: Any) -> None: ...


class Both(Entered, EnteredPlainly): ...


class Opening(Entered):
    """What can be awaited as well, as connections of many libraries can."""

    def __await__(self) -> Generator[Any, None, Opening]:
        raise AssertionError("it is entered")


def plain() -> Database:
    return Database("plain")


async def asynchronous() -> Database:
    return Database("asynchronous")


async def asynchronous_context() -> Entered:
    return Entered()


def generator() -> Iterator[Database]:
    yield Database("generator")


async def asynchronous_generator() -> AsyncIterator[Database]:
    yield Database("asynchronous generator")


@contextlib.contextmanager
def context() -> Iterator[Database]:
    yield Database("context")


@contextlib.asynccontextmanager
async def asynchronous_context_manager() -> AsyncIterator[Database]:
    yield Database("asynchronous context")


async def shared() -> AsyncIterator[Database]:
    yield Entered("shared")


class Maker:
    def __call__(self) -> Database:
        return Database("maker")

    async def method(self) -> Database:
        return Database("method")


class AsynchronousMaker:
    async def __call__(self) -> Database:
        return Database("asynchronous maker")


class Service:
    async def name(self, db: Database) -> str:
        return db.name

    def plain(self, db: Database) -> str:
        return db.name


# What a provider may be

FOR_ANYWHERE: list[tuple[Any, str]] = [
    (Database("as it is"), "as it is"),
    (Callable_("as it is"), "as it is"),
    (Entered("as it is"), "as it is"),
    (Database, "main"),
    (Entered, "entered"),
    (EnteredPlainly, "entered"),
    (Both, "entered"),
    (plain, "plain"),
    (lambda: Database("lambda"), "lambda"),
    (functools.partial(Database, "partial"), "partial"),
    (lambda: EnteredPlainly(), "entered"),
    (asynchronous, "asynchronous"),
    (asynchronous_context, "entered"),
    (functools.partial(asynchronous), "asynchronous"),
    (generator, "generator"),
    (asynchronous_generator, "asynchronous generator"),
    (context, "context"),
    (asynchronous_context_manager, "asynchronous context"),
    (shared, "shared"),
    (Maker(), "maker"),
    (Maker().method, "method"),
    (AsynchronousMaker(), "asynchronous maker"),
]


@pytest.mark.parametrize("method", ["name", "plain"])
@pytest.mark.parametrize(("provider", "name"), FOR_ANYWHERE)
async def test_a_provider_is_a_value_or_makes_one(
    threads: ThreadPoolExecutor, provider: Any, name: str, method: str
) -> None:
    assert await Handlers(Service(), threads, providers={Database: provider}).call(method) == name


@pytest.mark.parametrize(
    ("provider", "name"),
    [(lambda: asynchronous(), "asynchronous"), (lambda: Entered(), "entered"), (lambda: Opening(), "entered")],
)
async def test_what_only_turns_out_to_be_for_the_event_loop_is_fine_there_and_refused_in_a_thread(
    threads: ThreadPoolExecutor, provider: Any, name: str
) -> None:
    handlers = Handlers(Service(), threads, providers={Database: provider})
    assert await handlers.call("name") == name
    with pytest.raises(TypeError, match=r"<lambda> is plain, and so it .*, which is for the event loop: make it an"):
        await handlers.call("plain")


async def test_a_class_or_a_function_makes_things_whatever_protocol_it_fits(threads: ThreadPoolExecutor) -> None:
    @runtime_checkable
    class Store(Protocol):
        def get(self) -> str: ...

    class Memory:
        def get(self) -> str:
            return "memory"

    @runtime_checkable
    class Clock(Protocol):
        def __call__(self) -> float: ...

    def clock() -> Clock:
        return lambda: 5.0

    class Uses:
        async def both(self, store: Store, clock: Clock) -> list[Any]:
            return [store.get(), clock()]

    Uses.both.__annotations__.update(store=Store, clock=Clock)
    handlers = Handlers(Uses(), threads, providers={Store: Memory, Clock: clock})
    assert await handlers.call("both") == ["memory", 5.0]
    handlers = Handlers(Uses(), threads, providers={Store: Memory(), Clock: clock})
    assert await handlers.call("both") == ["memory", 5.0]


async def test_none_and_other_values_are_handed_out_by_any_kind_of_annotation(threads: ThreadPoolExecutor) -> None:
    Main = Annotated[Database, "main"]

    class Uses:
        async def all(self, a: Main, b: Database | None, c: int) -> list[Any]:
            return [a.name, b, c]

    Uses.all.__annotations__.update(a=Main)
    handlers = Handlers(Uses(), threads, providers={Main: Database("m"), Database | None: None, int: 3})
    assert await handlers.call("all") == ["m", None, 3]


# Where it stands among the arguments


@amqproxy.message("tests.Request")
@dataclass
class Request:
    x: int


class Placed:
    async def ahead(self, db: Database, x: int, y: int) -> list[Any]:
        return [db.name, x, y]

    async def between(self, x: int, db: Database, y: int = 5) -> list[Any]:
        return [x, db.name, y]

    def in_thread(self, x: int, db: Database, *, y: int = 6) -> list[Any]:
        return [x, db.name, y]

    async def behind(self, x: int, y: int = 7, /, *, db: Database) -> list[Any]:
        return [x, y, db.name]

    async def message(self, db: Database, request: Request) -> list[Any]:
        return [db.name, request.x]

    async def nothing(self, db: Database, call: amqproxy.Call) -> list[Any]:
        return [db.name, call.method, call is amqproxy.current()]


class Named:
    async def named(self, *, request: Request, db: Database) -> int:
        return request.x


async def test_what_is_provided_may_stand_anywhere(threads: ThreadPoolExecutor) -> None:
    handlers = Handlers(Placed(), threads, providers={Database: Database("db")})
    assert await handlers.call("ahead", 1, 2) == await handlers.call("ahead", y=2, x=1) == ["db", 1, 2]
    assert await handlers.call("between", 1) == [1, "db", 5]
    assert await handlers.call("between", y=2, x=1) == [1, "db", 2]
    assert await handlers.call("in_thread", x=1, y=2) == [1, "db", 2]
    assert await handlers.call("behind", 1) == [1, 7, "db"]
    assert await handlers.call("behind", 1, 2) == [1, 2, "db"]
    assert await handlers.call("message", x=3) == await handlers.call("message", 3) == ["db", 3]
    assert await handlers.call("nothing") == ["db", "nothing", True]
    assert await Handlers(Named(), threads, providers={Database: None}).call("named", x=4) == 4


async def test_the_call_needs_no_provider(threads: ThreadPoolExecutor) -> None:
    class Uses:
        async def header(self, call: amqproxy.Call) -> str:
            return str(call.headers["x-user"])

        def in_thread(self, call: amqproxy.Call) -> str:
            return str(call.headers["x-user"])

    handlers = Handlers(Uses(), threads)
    assert await handlers.call("header", headers={"x-user": "ann"}) == "ann"
    assert await handlers.call("in_thread", headers={"x-user": "bob"}) == "bob"


async def test_a_function_is_provided_too(threads: ThreadPoolExecutor) -> None:
    async def name(db: Database = amqproxy.provided) -> str:
        return db.name

    assert await Handlers(name, threads, providers={Database: plain}).call("name") == "plain"


# What providers need of each other


class Settings:
    url = "somewhere"


class Pool:
    def __init__(self, settings: Settings, size: int = 3) -> None:
        self.name = f"{settings.url} {size}"


class Log:
    def __init__(self) -> None:
        self.lines: list[str] = []


async def test_providers_are_provided_too_each_once_a_call(threads: ThreadPoolExecutor) -> None:
    opened: list[str] = []

    async def database(pool: Pool, *, call: amqproxy.Call) -> AsyncIterator[Database]:
        opened.append("database")
        yield Database(f"{pool.name} of {call.method}")

    def settings(*further: int, **more: int) -> Settings:
        opened.append("settings")
        return Settings()

    class Uses:
        async def both(self, db: Database, settings: Settings, again: Database) -> list[Any]:
            return [db.name, settings.url, db is again]

    handlers = Handlers(Uses(), threads, providers={Database: database, Pool: Pool, Settings: settings})
    assert opened == []
    assert await handlers.call("both") == ["somewhere 3 of both", "somewhere", True]
    assert opened == ["settings", "database"]
    await handlers.call("both")
    assert opened == ["settings", "database"] * 2


async def test_a_partial_and_a_callable_object_are_provided_too(threads: ThreadPoolExecutor) -> None:
    def named(name: str, settings: Settings) -> Database:
        return Database(f"{name} {settings.url}")

    class Make:
        def __call__(self, settings: Settings) -> Database:
            return Database(f"object {settings.url}")

    for provider, name in ((functools.partial(named, "partial"), "partial somewhere"), (Make(), "object somewhere")):
        handlers = Handlers(Service(), threads, providers={Database: provider, Settings: Settings()})
        assert await handlers.call("name") == name


class Left:
    def __init__(self, right: Right) -> None: ...


class Right:
    def __init__(self, left: Left) -> None: ...


class Reading:
    async def read(self, first: Left) -> None: ...


def test_providers_that_need_each_other_are_refused(threads: ThreadPoolExecutor) -> None:
    with pytest.raises(ContractError, match=r"^providers need each other in a circle: Left needs Right needs Left$"):
        Handlers(Reading(), threads, providers={Left: Left, Right: Right})


def needs_url(url: str) -> Left:
    raise NotImplementedError


def needs_marked(settings: Settings = amqproxy.provided) -> Left:
    raise NotImplementedError


def needs_position(settings: Settings, /) -> Left:
    raise NotImplementedError


def unresolved(settings: Nowhere) -> Left:  # type: ignore[name-defined]  # noqa: F821
    raise NotImplementedError


@pytest.mark.parametrize(
    ("provider", "why"),
    [
        (needs_url, r"the provider needs_url takes url: 'str', and nothing provides that"),
        (needs_marked, r"needs_marked takes settings: 'Settings' = provided, and nothing provides that"),
        (lambda url: None, r"takes url, and nothing provides that"),
        (unresolved, r"an annotation of the provider unresolved cannot be resolved: name 'Nowhere' is not defined"),
    ],
)
def test_a_provider_that_cannot_be_called_is_refused(threads: ThreadPoolExecutor, provider: Any, why: str) -> None:
    with pytest.raises(ContractError, match=why):
        Handlers(Reading(), threads, providers={Left: provider})


def test_a_provider_that_takes_by_position_only_is_refused(threads: ThreadPoolExecutor) -> None:
    with pytest.raises(ContractError, match="needs_position takes settings: 'Settings', and nothing provides that"):
        Handlers(Reading(), threads, providers={Left: needs_position, Settings: Settings()})


async def test_a_provider_that_does_not_tell_what_it_takes_is_called_with_nothing(threads: ThreadPoolExecutor) -> None:
    class Uses:
        async def empty(self, made: dict[str, int]) -> int:
            return len(made)

    assert await Handlers(Uses(), threads, providers={dict[str, int]: dict}).call("empty") == 0


# How it ends


class Book:
    """Writes down what happens."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def outcome(self, name: str) -> Callable[[], contextlib.AbstractContextManager[None]]:
        @contextlib.contextmanager
        def written() -> Iterator[None]:
            self.lines.append(f"open {name}")
            try:
                yield
            except BaseException as error:
                self.lines.append(f"{name} {type(error).__name__}")
                raise
            self.lines.append(f"close {name}")

        return written


class Outer: ...


class Inner: ...


def booked(book: Book) -> dict[Any, Any]:
    async def outer() -> AsyncIterator[Outer]:
        with book.outcome("outer")():
            yield Outer()

    def inner(outer: Outer) -> Iterator[Inner]:
        with book.outcome("inner")():
            yield Inner()

    return {Outer: outer, Inner: inner}


class Ends:
    def __init__(self, book: Book) -> None:
        self._book = book
        self.entered = asyncio.Event()

    async def well(self, inner: Inner, outer: Outer) -> str:
        self._book.lines.append("run")
        return "well"

    def well_in_thread(self, inner: Inner, outer: Outer) -> str:
        self._book.lines.append("run")
        return "well"

    async def badly(self, inner: Inner) -> None:
        raise ZeroDivisionError

    def badly_in_thread(self, inner: Inner) -> None:
        raise ZeroDivisionError

    async def never(self, inner: Inner) -> None:
        self.entered.set()
        await asyncio.Event().wait()


@pytest.mark.parametrize("method", ["well", "well_in_thread"])
async def test_providers_are_closed_in_the_opposite_order(threads: ThreadPoolExecutor, method: str) -> None:
    book = Book()
    assert await Handlers(Ends(book), threads, providers=booked(book)).call(method) == "well"
    assert book.lines == ["open outer", "open inner", "run", "close inner", "close outer"]


@pytest.mark.parametrize("method", ["badly", "badly_in_thread"])
async def test_providers_see_the_exception(threads: ThreadPoolExecutor, method: str) -> None:
    book = Book()
    with pytest.raises(ZeroDivisionError):
        await Handlers(Ends(book), threads, providers=booked(book)).call(method)
    assert book.lines == ["open outer", "open inner", "inner ZeroDivisionError", "outer ZeroDivisionError"]


async def test_providers_are_closed_when_the_handler_is_cancelled(threads: ThreadPoolExecutor) -> None:
    book = Book()
    target = Ends(book)
    call = asyncio.create_task(Handlers(target, threads, providers=booked(book)).call("never"))
    await target.entered.wait()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert book.lines == ["open outer", "open inner", "inner CancelledError", "outer CancelledError"]


@pytest.mark.parametrize("method", ["name", "plain"])
async def test_a_provider_that_fails_fails_the_call_and_closes_those_before_it(
    threads: ThreadPoolExecutor, method: str
) -> None:
    book = Book()

    async def broken(outer: Outer) -> Database:
        raise ConnectionError("no database")

    def broken_plainly(outer: Outer) -> Database:
        raise ConnectionError("no database")

    for provider in (broken, broken_plainly):
        handlers = Handlers(Service(), threads, providers={**booked(book), Database: provider})
        with pytest.raises(ConnectionError, match="no database"):
            await handlers.call(method)
        assert book.lines == ["open outer", "outer ConnectionError"]
        book.lines.clear()


async def swallows() -> AsyncIterator[Database]:
    with contextlib.suppress(Exception):
        yield Database()


def swallows_plainly() -> Iterator[Database]:
    with contextlib.suppress(Exception):
        yield Database()


async def translates() -> AsyncIterator[Database]:
    try:
        yield Database()
    except KeyError as error:
        raise RemoteError("no such account", code="not_found") from error


def fails_to_close() -> Iterator[Database]:
    yield Database()
    raise ConnectionError("not committed")


def stops() -> Database:
    raise StopIteration


class Fails:
    async def fail(self, db: Database) -> None:
        raise KeyError("x")

    def fail_in_thread(self, db: Database) -> None:
        raise KeyError("x")

    async def go_well(self, db: Database) -> str:
        return "well"

    def go_well_in_thread(self, db: Database) -> str:
        return "well"


@pytest.mark.parametrize("method", ["fail", "fail_in_thread"])
@pytest.mark.parametrize("provider", [swallows, swallows_plainly])
async def test_a_provider_cannot_swallow_a_failure(threads: ThreadPoolExecutor, provider: Any, method: str) -> None:
    handlers = Handlers(Fails(), threads, providers={Database: provider})
    with pytest.raises(KeyError, match="x"):
        await handlers.call(method)
    assert await handlers.call(method.replace("fail", "go_well")) == "well"


@pytest.mark.parametrize("method", ["fail", "fail_in_thread"])
async def test_a_provider_may_put_another_failure_in_its_place(threads: ThreadPoolExecutor, method: str) -> None:
    with pytest.raises(RemoteError, match="no such account") as caught:
        await Handlers(Fails(), threads, providers={Database: translates}).call(method)
    assert caught.value.code == "not_found"


@pytest.mark.parametrize("method", ["go_well", "go_well_in_thread"])
async def test_a_provider_that_fails_behind_the_handler_fails_the_call(
    threads: ThreadPoolExecutor, method: str
) -> None:
    with pytest.raises(ConnectionError, match="not committed"):
        await Handlers(Fails(), threads, providers={Database: fails_to_close}).call(method)


@pytest.mark.parametrize("method", ["go_well", "go_well_in_thread"])
async def test_a_provider_that_raises_stop_iteration_holds_up_nobody(threads: ThreadPoolExecutor, method: str) -> None:
    with pytest.raises(RuntimeError, match="StopIteration"):
        await Handlers(Fails(), threads, providers={Database: stops}).call(method)


async def test_a_generator_that_yields_never_or_twice_fails_the_call(threads: ThreadPoolExecutor) -> None:
    def never() -> Iterator[Database]:
        yield from ()

    def twice() -> Iterator[Database]:
        yield Database()
        yield Database()

    for provider, why in ((never, "didn't yield"), (twice, "didn't stop")):
        with pytest.raises(RuntimeError, match=why):
            await Handlers(Fails(), threads, providers={Database: provider}).call("go_well")


# Where it runs


@dataclass
class Where:
    thread: int


def where() -> Iterator[Where]:
    seen = threading.get_ident()
    yield Where(seen)
    assert threading.get_ident() == seen


async def where_in_loop() -> AsyncIterator[Where]:
    yield Where(threading.get_ident())


class Runs:
    async def loop(self, where: Where) -> bool:
        return where.thread == threading.get_ident() == threading.main_thread().ident

    def thread(self, where: Where) -> bool:
        return where.thread == threading.get_ident() != threading.main_thread().ident

    def stream(self, where: Where) -> Iterator[bool]:
        for _ in range(3):
            yield where.thread == threading.get_ident() != threading.main_thread().ident

    def provided_in_loop(self, where: Where) -> bool:
        return where.thread == threading.main_thread().ident != threading.get_ident()


async def test_plain_providers_of_plain_handlers_run_in_the_same_thread(threads: ThreadPoolExecutor) -> None:
    handlers = Handlers(Runs(), threads, providers={Where: where})
    assert await handlers.call("loop") is True
    assert await handlers.call("thread") is True
    assert await handlers.stream("stream") == [True, True, True]
    handlers = Handlers(Runs(), threads, providers={Where: where_in_loop})
    assert await handlers.call("loop") is True
    assert await handlers.call("provided_in_loop") is True


async def test_a_plain_provider_that_an_asynchronous_one_needs_runs_in_the_event_loop(
    threads: ThreadPoolExecutor,
) -> None:
    async def database(where: Where) -> Database:
        return Database(str(where.thread == threading.main_thread().ident))

    handlers = Handlers(Service(), threads, providers={Database: database, Where: where})
    assert await handlers.call("plain") == "True"


async def test_a_plain_function_that_hides_an_async_one_runs_in_the_loop_with_its_providers(
    threads: ThreadPoolExecutor,
) -> None:
    def decorated(function: Callable[..., Awaitable[Any]]) -> Callable[..., Any]:
        @functools.wraps(function)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            return function(*args, **kwargs)

        return wrapper

    class Uses:
        @decorated
        async def open(self, book: Outer) -> list[str]:
            await asyncio.sleep(0)
            return list(lines.lines)

    lines = Book()
    assert await Handlers(Uses(), threads, providers=booked(lines)).call("open") == ["open outer"]
    assert lines.lines == ["open outer", "close outer"]


variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable")


async def test_the_handler_sees_the_context_variables_that_its_providers_set(threads: ThreadPoolExecutor) -> None:
    async def database() -> Database:
        variable.set("set")
        return Database()

    class Uses:
        async def see(self, db: Database) -> str:
            return variable.get()

        def see_in_thread(self, db: Database) -> str:
            return variable.get()

    handlers = Handlers(Uses(), threads, providers={Database: database})
    assert await handlers.call("see") == await handlers.call("see_in_thread") == "set"


# Streams


class Streams:
    def __init__(self, book: Book) -> None:
        self._book = book

    async def generate(self, to: int, inner: Inner) -> AsyncIterator[int]:
        for number in range(to):
            self._book.lines.append(str(number))
            yield number

    def generate_in_thread(self, to: int, inner: Inner) -> Iterator[int]:
        for number in range(to):
            self._book.lines.append(str(number))
            yield number

    async def returned(self, to: int, inner: Inner) -> AsyncIterator[int]:
        return self.generate(to, inner)

    def returned_in_thread(self, to: int, inner: Inner) -> Iterator[int]:
        return self.generate_in_thread(to, inner)

    async def blob(self, inner: Inner) -> Blob:
        return Blob(self._pieces())

    async def _pieces(self) -> AsyncIterator[bytes]:
        self._book.lines.append("0")
        yield b"ab"
        self._book.lines.append("1")


@pytest.mark.parametrize("method", ["generate", "generate_in_thread", "returned", "returned_in_thread"])
async def test_a_stream_is_provided_until_its_end(threads: ThreadPoolExecutor, method: str) -> None:
    book = Book()
    assert await Handlers(Streams(book), threads, providers=booked(book)).stream(method, 2) == [0, 1]
    assert book.lines == ["open outer", "open inner", "0", "1", "close inner", "close outer"]


async def test_a_blob_is_provided_until_its_end(threads: ThreadPoolExecutor) -> None:
    book = Book()
    assert await Handlers(Streams(book), threads, providers=booked(book)).stream("blob") == [b"ab"]
    assert book.lines == ["open outer", "open inner", "0", "1", "close inner", "close outer"]


@pytest.mark.parametrize("method", ["generate", "generate_in_thread", "returned", "returned_in_thread"])
async def test_a_stream_that_is_closed_early_closes_its_providers(threads: ThreadPoolExecutor, method: str) -> None:
    book = Book()
    handlers = Handlers(Streams(book), threads, providers=booked(book))
    handler = handlers.handler(method)
    handlers.enter(handler, {})
    items: Any = await handler.items(handler.decode(b"[5]"), None)
    assert await anext(items) == 0
    await items.aclose()
    threads.shutdown()
    assert book.lines[:3] == ["open outer", "open inner", "0"]
    assert {line.partition(" ")[0] for line in book.lines[3:]} == {"inner", "outer"}


class Feeds:
    async def total(self, items: AsyncIterator[int], db: Database) -> str:
        return f"{db.name} {sum([item async for item in items])}"

    def total_in_thread(self, db: Database, items: Iterator[int], start: int) -> str:
        return f"{db.name} {sum(items, start)}"


async def numbers() -> AsyncIterator[int]:
    for number in range(4):
        yield number


async def test_what_is_fed_a_stream_is_provided_too(threads: ThreadPoolExecutor) -> None:
    handlers = Handlers(Feeds(), threads, providers={Database: plain})
    for method, body in (("total", b"[]"), ("total_in_thread", b'{"start":0}')):
        handler = handlers.handler(method)
        handlers.enter(handler, {})
        assert await handler.start_fed(handler.decode(body), numbers()) == "plain 6"


# What it costs


async def test_only_methods_for_which_something_is_opened_pay_for_it(threads: ThreadPoolExecutor) -> None:
    class Some:
        async def none(self) -> int:
            return 1

        async def value(self, settings: Settings) -> str:
            return settings.url

        def value_in_thread(self, x: int, settings: Settings) -> str:
            return settings.url

        async def opened(self, db: Database) -> int:
            return 2

    handlers = Handlers(Some(), threads, providers={Database: plain, Settings: Settings()})
    kinds = [type(handlers.handler(name)) for name in ("none", "value", "value_in_thread", "opened")]
    assert kinds == [Handler, Handler, Handler, ProvidedHandler]
    assert await handlers.call("value") == await handlers.call("value_in_thread", 1) == "somewhere"
