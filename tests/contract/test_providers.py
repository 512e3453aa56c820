"""Dependency parameters between callers and workers: what callers see, and what becomes of providers when calls end."""

from __future__ import annotations

import asyncio
import inspect
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import msgspec
import pytest

import amqproxy
from amqproxy import ContractError, RemoteError
from amqproxy.runner import Service
from amqproxy.testing import loopback
from tests.contract.raw import Raw
from tests.processes import running
from tests.surrounded import Accounts


class Database:
    """Counts who uses it."""

    def __init__(self) -> None:
        self.open = 0
        self.closed = asyncio.Event()
        self.endings: list[str] = []
        self.rows = {1: "one", 2: "two"}

    @asynccontextmanager
    async def session(self) -> AsyncIterator[Session]:
        self.open += 1
        ending = "well"
        try:
            yield Session(self)
        except BaseException as error:
            ending = type(error).__name__
            raise
        finally:
            self.open -= 1
            self.endings.append(ending)
            self.closed.set()


class Session:
    def __init__(self, database: Database) -> None:
        self.rows = database.rows


@amqproxy.message("tests.Find")
@dataclass
class Find:
    id: int


@amqproxy.message("tests.Found")
@dataclass
class Found:
    name: str


class Directory:
    """Marks what is provided in the class, which callers share."""

    def __init__(self) -> None:
        self.entered = asyncio.Event()

    async def name(self, id: int, *, db: Session = amqproxy.provided) -> str:
        return db.rows[id]

    def name_in_thread(self, id: int, db: Session = amqproxy.provided, upper: bool = False) -> str:
        return db.rows[id].upper() if upper else db.rows[id]

    async def find(self, request: Find, db: Session = amqproxy.provided) -> Found:
        return Found(db.rows[request.id])

    async def names(self, db: Session = amqproxy.provided) -> AsyncIterator[str]:
        for name in db.rows.values():
            yield name

    async def endless(self, db: Session = amqproxy.provided) -> AsyncIterator[int]:
        number = 0
        while True:
            yield number
            number += 1

    async def total(self, ids: AsyncIterator[int], db: Session = amqproxy.provided) -> str:
        return " ".join([db.rows[id] async for id in ids])

    async def never(self, db: Session = amqproxy.provided) -> None:
        self.entered.set()
        await asyncio.Event().wait()

    async def who(self, call: amqproxy.Call) -> str:
        return f"{call.method} for {call.headers.get('x-user')}"


@asynccontextmanager
async def directory(
    mq: amqproxy.Client, service: str, **options: Any
) -> AsyncIterator[tuple[Database, Directory, Any]]:
    database, target = Database(), Directory()
    providers = {Session: database.session}
    async with mq.serve(target, name=service, auto_delete=True, providers=providers, **options):
        yield database, target, mq.proxy(Directory, name=service)


# What callers see


async def test_callers_neither_see_nor_send_what_is_provided(mq: amqproxy.Client, service: str) -> None:
    async with directory(mq, service) as (database, _, proxy):
        assert await proxy.name(1) == await proxy.name(id=1) == await mq.proxy(service).name(1) == "one"
        assert await proxy.name_in_thread(2) == await mq.proxy(service).name_in_thread(2) == "two"
        assert await proxy.name_in_thread(2, True) == await mq.proxy(service).name_in_thread(2, True) == "TWO"
        assert await proxy.name_in_thread(upper=True, id=2) == "TWO"
        assert (database.open, database.endings) == (0, ["well"] * 8)
        assert str(inspect.signature(proxy.name)) == "(id: int) -> str"
        assert "db" not in repr(proxy.name_in_thread.__signature__)


async def test_message_style_and_streams_are_provided_too(mq: amqproxy.Client, service: str) -> None:
    async with directory(mq, service) as (database, _, proxy):
        assert await proxy.find(Find(1)) == await proxy.find(1) == await proxy(Find(1)) == Found("one")
        assert await mq.proxy(service)(Find(2)) == {"name": "two"}
        assert [name async for name in proxy.names()] == ["one", "two"]
        assert [name async for name in mq.proxy(service).names()] == ["one", "two"]
        assert await proxy.total(iter([2, 1])) == "two one"
        assert database.open == 0


async def test_the_current_call_is_always_provided(mq: amqproxy.Client, service: str) -> None:
    async with directory(mq, service) as (_, _, proxy):
        assert await amqproxy.options(proxy, headers={"x-user": "ann"}).who() == "who for ann"


async def test_what_is_provided_cannot_be_sent(mq: amqproxy.Client, raw: Raw, service: str) -> None:
    async with directory(mq, service) as (database, _, proxy):
        with pytest.raises(ContractError, match=r"name.*: db is provided by the worker, and callers leave it out$"):
            await proxy.name(1, db=None)
        with pytest.raises(ContractError, match=r"total.*: db is provided by the worker, and callers leave it out$"):
            await proxy.total(iter([1]), db=None)
        with pytest.raises(ContractError, match=r"find.*: db is provided by the worker, and callers leave it out$"):
            await proxy.find(Find(1), db=None)
        with pytest.raises(ContractError, match="too many positional arguments"):
            await proxy.name_in_thread(1, True, None)
        with pytest.raises(RemoteError, match="unknown field `db`") as caught:
            await mq.proxy(service).name(id=1, db={})
        assert caught.value.executed == "no"
        for body in (b'{"id":1,"db":null}', b"[1,null]"):
            reply = await raw.ask(service, body, content_type=f"{service}.name".encode(), correlation_id=b"1")
            assert msgspec.json.decode(reply.body)["error"]["code"] == "invalid_argument"
        assert database.endings == []


# What is wrong at the start


class Unmarked:
    async def name(self, id: int, db: Session) -> str:
        return db.rows[id]


@dataclass
class Settings:
    greeting: str


class UnmarkedSettings:
    async def greet(self, name: str, settings: Settings) -> str:
        return f"{settings.greeting} {name}"


async def test_a_worker_may_provide_what_its_class_does_not_mark(mq: amqproxy.Client, service: str) -> None:
    providers = {Session: Session(Database()), Settings: Settings("hello")}
    async with (
        mq.serve(Unmarked(), name=service, auto_delete=True, providers=providers),
        mq.serve(UnmarkedSettings(), name=f"{service}.s", auto_delete=True, providers=providers),
    ):
        assert await mq.proxy(service).name(1) == "one"
        assert await mq.proxy(f"{service}.s").greet("ann") == "hello ann"
        with pytest.raises(ContractError, match=r"JSON cannot carry a Session; .* has the default amqproxy\.provided"):
            _ = mq.proxy(Unmarked, name=service).name
        with pytest.raises(ContractError, match="missing a required argument: 'settings'"):
            await mq.proxy(UnmarkedSettings, name=f"{service}.s").greet("ann")  # type: ignore[call-arg]


async def test_a_worker_without_the_provider_does_not_start(mq: amqproxy.Client, service: str) -> None:
    with pytest.raises(ContractError, match=r"Directory\.name\(.*nothing provides db; serve it with .*Session: …"):
        mq.serve(Directory(), name=service)
    with pytest.raises(ContractError, match=r"JSON cannot carry a Session; .* has the default amqproxy\.provided"):
        await mq.serve(Unmarked(), name=service, auto_delete=True).start()

    def needs(database: Database) -> Session:
        raise NotImplementedError

    needs.__annotations__.update(database=Database)
    with pytest.raises(ContractError, match=r"needs takes database: .*Database.*, and nothing provides that"):
        await mq.serve(Directory(), name=service, auto_delete=True, providers={Session: needs}).start()


async def test_the_providers_of_a_worker_win_over_those_of_its_class(mq: amqproxy.Client, service: str) -> None:
    @amqproxy.serve("greeter", providers={Settings: Settings("hello"), Database: lambda: pytest.fail("it is not used")})
    class Greeter:
        async def greet(self, name: str, settings: Settings) -> str:
            return f"{settings.greeting} {name}"

        async def both(self, settings: Settings, session: Session) -> str:
            return f"{settings.greeting} {session.rows[1]}"

    providers = {Settings: Settings("good day"), Session: Session(Database())}
    async with mq.serve(Greeter(), name=service, auto_delete=True, providers=providers):
        proxy = mq.proxy(Greeter, name=service)
        assert await proxy.greet("ann") == "good day ann"  # type: ignore[call-arg]
        assert await mq.proxy(service).both() == "good day one"


async def test_a_function_is_provided_too() -> None:
    async def name(id: int, db: Session = amqproxy.provided) -> str:
        return db.rows[id]

    async with loopback(name, providers={Session: Database().session}) as proxy:
        assert await proxy(2) == "two"


# How calls end


async def test_a_provider_that_fails_fails_the_call_and_the_worker_lives(mq: amqproxy.Client, service: str) -> None:
    tries = 0

    async def flaky() -> Session:
        nonlocal tries
        tries += 1
        if tries == 1:
            raise ConnectionRefusedError("no database")
        if tries == 2:
            raise SystemExit(3)
        if tries == 3:
            raise RemoteError("try again", code="unavailable", retryable=True)
        return Session(Database())

    async with mq.serve(Directory(), name=service, auto_delete=True, providers={Session: flaky}) as worker:
        proxy = mq.proxy(Directory, name=service)
        for kind in ("ConnectionRefusedError", "SystemExit"):
            with pytest.raises(RemoteError) as caught:
                await proxy.name(1)
            assert caught.value.type == kind
        with pytest.raises(RemoteError, match="try again") as caught:
            await proxy.name(1)
        assert caught.value.retryable
        assert await proxy.name(1) == "one"
        assert not worker.running


async def test_a_failed_handler_is_told_to_its_providers(mq: amqproxy.Client, service: str) -> None:
    async with directory(mq, service) as (database, _, proxy):
        for name in ("name", "name_in_thread"):
            with pytest.raises(KeyError):
                await getattr(proxy, name)(9)
        with pytest.raises(KeyError):
            await proxy.total(iter([1, 9]))
        assert database.endings == ["KeyError"] * 3


async def test_what_cannot_be_decoded_opens_nothing(mq: amqproxy.Client, service: str) -> None:
    async with directory(mq, service) as (database, _, _):
        with pytest.raises(RemoteError, match="Expected `int`"):
            await mq.proxy(service).name("one")
        assert database.endings == []


async def test_providers_are_closed_when_the_caller_goes_away(mq: amqproxy.Client, service: str) -> None:
    async with directory(mq, service) as (database, target, proxy):
        call = asyncio.create_task(proxy.never())
        await target.entered.wait()
        assert database.open == 1
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        async with asyncio.timeout(5):
            await database.closed.wait()
        assert (database.open, database.endings) == (0, ["CancelledError"])
        assert await proxy.name(1) == "one"


async def test_providers_are_closed_when_a_stream_is_left(mq: amqproxy.Client, service: str) -> None:
    async with directory(mq, service) as (database, _, proxy):
        async with proxy.endless() as numbers:
            assert [await anext(numbers) for _ in range(1000)] == list(range(1000))
            assert database.open == 1
        async with asyncio.timeout(5):
            await database.closed.wait()
        assert (database.open, len(database.endings)) == (0, 1)


async def test_providers_are_closed_when_the_worker_stops(mq: amqproxy.Client, service: str) -> None:
    async with directory(mq, service, grace=0.05) as (database, target, proxy):
        call = asyncio.create_task(proxy.never())
        await target.entered.wait()
    assert (database.open, database.endings) == (0, ["CancelledError"])
    call.cancel()
    await asyncio.wait((call,))


async def test_many_calls_at_once_have_a_session_each(mq: amqproxy.Client, service: str) -> None:
    async with directory(mq, service) as (database, _, proxy):
        found = await asyncio.gather(*(proxy.name(1 + n % 2) for n in range(300)))
        assert found == ["one", "two"] * 150
        assert await asyncio.gather(*(proxy.name_in_thread(1) for _ in range(50))) == ["one"] * 50
        assert (database.open, database.endings) == (0, ["well"] * 350)


# In processes of their own


async def test_a_worker_process_that_is_killed_leaves_its_call_to_another(amqp_url: str, service: str) -> None:
    command = ("-m", "amqproxy", "serve", "surrounded:Accounts", "--name", service)
    async with (
        running(*command, AMQPROXY_URL=amqp_url) as first,
        amqproxy.connect(amqp_url, middleware=[with_token]) as mq,
    ):
        await first.says("serving")
        proxy: Any = mq.proxy(Accounts, name=service)
        assert await proxy.balance(account=1) == 200
        async with running(*command, AMQPROXY_URL=amqp_url) as second:
            await second.says("serving")
            first.send(signal.SIGKILL)
            await first.ends()
            assert await asyncio.gather(*(proxy.balance(account=2) for _ in range(20))) == [400] * 20
            await second.says("ledger closed", times=20)


async def with_token(call: amqproxy.OutgoingCall, next: amqproxy.Next) -> Any:
    return await next(call.with_headers({"authorization": "secret"}))


def test_what_is_missing_is_known_before_there_is_a_broker() -> None:
    with pytest.raises(ContractError, match="nothing provides db"):
        Service(Directory).check()
    Service(Directory, options={"providers": {Session: None}}).check()
