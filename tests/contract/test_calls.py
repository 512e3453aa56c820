"""Calls that go well: what a proxy sends, a worker runs, and its result comes back."""

from __future__ import annotations

import asyncio
import enum
import threading
import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, NamedTuple, Protocol, TypedDict

import msgspec
import pydantic
import pytest

import amqproxy


@amqproxy.message("com.github.sstone.amqp.proxy.Demo$AddRequest")
@dataclass
class AddRequest:
    x: int
    y: int = 0


@amqproxy.message("com.github.sstone.amqp.proxy.Demo$AddResponse")
@dataclass
class AddResponse:
    x: int
    y: int
    sum: int


class Calculator:
    def __init__(self, offset: int = 0) -> None:
        self.offset = offset

    async def add(self, x: int, y: int = 100) -> int:
        return x + y + self.offset

    async def sum(self, request: AddRequest) -> AddResponse:
        return AddResponse(request.x, request.y, request.x + request.y)

    def in_thread(self) -> bool:
        return threading.current_thread() is not threading.main_thread()

    async def keyword(self, a: int, /, b: int = 2, *, c: int, d: int = 4) -> list[int]:
        return [a, b, c, d]

    async def echo(self, value: Any) -> Any:
        return value

    async def nothing(self) -> None:
        return None


async def test_plain_parameters_by_position_by_name_and_by_default(mq: amqproxy.Client, service: str) -> None:
    async with mq.serve(Calculator(), name=service, auto_delete=True):
        calc = mq.proxy(Calculator, name=service)
        assert await calc.add(1, 2) == 3
        assert await calc.add(y=1, x=2) == 3
        assert await calc.add(1) == 101
        assert await mq.proxy(service).nothing() is None


async def test_every_kind_of_parameter_arrives(mq: amqproxy.Client, service: str) -> None:
    async with mq.serve(Calculator(), name=service, auto_delete=True):
        calc = mq.proxy(Calculator, name=service)
        assert await calc.keyword(1, c=3) == [1, 2, 3, 4]
        assert await calc.keyword(1, 5, c=6, d=7) == [1, 5, 6, 7]


async def test_a_message_and_its_fields_are_the_same_call(mq: amqproxy.Client, service: str) -> None:
    async with mq.serve(Calculator(), name=service, auto_delete=True):
        calc = mq.proxy(Calculator, name=service)
        expected = AddResponse(1, 2, 3)
        assert await calc.sum(AddRequest(1, 2)) == expected
        assert await calc.sum(1, 2) == expected  # type: ignore[call-arg, arg-type]
        assert await calc.sum(x=1, y=2) == expected  # type: ignore[call-arg]
        assert await calc(AddRequest(1, 2)) == expected  # type: ignore[operator]


async def test_a_proxy_made_from_a_name_needs_no_class(mq: amqproxy.Client, service: str) -> None:
    async with mq.serve(Calculator(), name=service, auto_delete=True):
        calc = mq.proxy(service)
        assert await calc.add(1, 2) == 3
        assert await calc.add(x=1, y=2) == 3
        assert await calc.add(1) == 101
        assert await calc.sum(1, 2) == {"x": 1, "y": 2, "sum": 3}
        assert await calc.sum(x=1) == {"x": 1, "y": 0, "sum": 1}
        assert await calc(AddRequest(1, 2)) == {"x": 1, "y": 2, "sum": 3}


async def test_a_class_an_instance_and_a_function_can_be_served(mq: amqproxy.Client, service: str) -> None:
    async def double(x: int) -> int:
        return 2 * x

    async with (
        mq.serve(Calculator, name=f"{service}.class", auto_delete=True),
        mq.serve(Calculator(1000), name=f"{service}.instance", auto_delete=True),
        mq.serve(double, name=f"{service}.function", auto_delete=True),
    ):
        assert await mq.proxy(Calculator, name=f"{service}.class").add(1, 2) == 3
        assert await mq.proxy(Calculator, name=f"{service}.instance").add(1, 2) == 1003
        assert await mq.proxy(double, name=f"{service}.function")(21) == 42
        assert await mq.proxy(f"{service}.function").double(21) == 42


async def test_a_protocol_is_contract_enough_for_a_caller(mq: amqproxy.Client, service: str) -> None:
    class Adds(Protocol):
        async def add(self, x: int, y: int) -> int: ...

    async with mq.serve(Calculator(), name=service, auto_delete=True):
        assert await mq.proxy(Adds, name=service).add(1, 2) == 3  # type: ignore[type-abstract]


async def test_plain_functions_run_in_threads(mq: amqproxy.Client, service: str) -> None:
    async with mq.serve(Calculator(), name=service, auto_delete=True):
        assert await mq.proxy(service).in_thread() is True


class Colour(enum.Enum):
    RED = "red"


class Point(NamedTuple):
    x: int
    y: int


class Options(TypedDict):
    deep: bool


class Model(pydantic.BaseModel):
    name: str
    born: datetime


class Node(msgspec.Struct):
    value: int
    children: list[Node] = msgspec.field(default_factory=list)


@dataclass
class Everything:
    when: datetime
    id: uuid.UUID
    price: Decimal
    raw: bytes
    colour: Colour
    point: Point
    options: Options
    model: Model
    tree: Node
    either: int | str | None
    tags: set[str] = field(default_factory=set)


class Mirror:
    async def everything(self, thing: Everything) -> Everything:
        assert type(thing.when) is datetime and type(thing.model) is Model
        return thing


async def test_values_of_all_supported_types_arrive_as_what_they_were(mq: amqproxy.Client, service: str) -> None:
    thing = Everything(
        when=datetime(2026, 2, 3, 4, 5, 6, tzinfo=UTC),
        id=uuid.uuid4(),
        price=Decimal("1.10"),
        raw=b"\x00\xff",
        colour=Colour.RED,
        point=Point(1, 2),
        options={"deep": True},
        model=Model(name="Ann", born=datetime(2000, 1, 1, tzinfo=UTC)),
        tree=Node(1, [Node(2)]),
        either="x",
        tags={"a", "b"},
    )
    async with mq.serve(Mirror(), name=service, auto_delete=True):
        assert await mq.proxy(Mirror, name=service).everything(thing) == thing


@pytest.mark.parametrize("size", [0, 1, 131072 - 8 - 2, 131072 - 8 - 1, 131072 - 8, 131072 - 7, 1_500_000])
async def test_bodies_of_any_size_arrive(mq: amqproxy.Client, service: str, size: int) -> None:
    async with mq.serve(Calculator(), name=service, auto_delete=True):
        text = "x" * size
        assert await mq.proxy(service).echo(text) == text


class Turnstile:
    """Answers in whatever order it is told to."""

    def __init__(self) -> None:
        self.waiting: dict[int, asyncio.Future[int]] = {}
        self.entered = asyncio.Semaphore(0)

    async def wait(self, number: int) -> int:
        self.waiting[number] = asyncio.get_running_loop().create_future()
        self.entered.release()
        return await self.waiting[number]


async def test_replies_out_of_order_find_their_callers(mq: amqproxy.Client, service: str) -> None:
    turnstile = Turnstile()
    async with mq.serve(turnstile, name=service, auto_delete=True, concurrency=10):
        proxy = mq.proxy(Turnstile, name=service)
        calls = [asyncio.create_task(proxy.wait(n)) for n in range(10)]
        for _ in calls:
            await turnstile.entered.acquire()
        for number in (7, 0, 9, 3, 1, 8, 2, 6, 5, 4):
            turnstile.waiting[number].set_result(number * 11)
        assert await asyncio.gather(*calls) == [n * 11 for n in range(10)]


async def test_concurrency_bounds_what_a_worker_runs_at_once(mq: amqproxy.Client, service: str) -> None:
    turnstile = Turnstile()
    async with mq.serve(turnstile, name=service, auto_delete=True, concurrency=3):
        proxy = mq.proxy(Turnstile, name=service)
        calls = [asyncio.create_task(proxy.wait(n)) for n in range(9)]
        for _ in range(3):
            for _ in range(3):
                await turnstile.entered.acquire()
            assert len(turnstile.waiting) == 3
            for number, future in list(turnstile.waiting.items()):
                del turnstile.waiting[number]
                future.set_result(number)
        assert await asyncio.gather(*calls) == list(range(9))


async def test_two_workers_share_the_calls(mq: amqproxy.Client, service: str) -> None:
    class Who:
        async def am_i(self) -> str:
            await asyncio.sleep(0.001)
            return amqproxy.current().worker

    async with (
        mq.serve(Who(), name=service, auto_delete=True, concurrency=1) as first,
        mq.serve(Who(), name=service, auto_delete=True, concurrency=1) as second,
    ):
        who = mq.proxy(Who, name=service)
        answers = await asyncio.gather(*(who.am_i() for _ in range(20)))
        assert set(answers) == {first.name, second.name}


async def test_ten_thousand_calls_in_flight_all_come_back(mq: amqproxy.Client, service: str) -> None:
    async with mq.serve(Calculator(), name=service, auto_delete=True, concurrency=500):
        calc = mq.proxy(Calculator, name=service)
        assert await asyncio.gather(*(calc.add(n, 1) for n in range(10_000))) == list(range(1, 10_001))


async def test_a_handler_knows_its_call(mq: amqproxy.Client, service: str) -> None:
    class Curious:
        async def ask(self) -> list[Any]:
            return self.look()

        def ask_in_thread(self) -> list[Any]:
            return self.look()

        def _look(self) -> list[Any]:
            return self.look()

        @staticmethod
        def look() -> list[Any]:
            call = amqproxy.current()
            return [call.service, call.method, call.redelivered, dict(call.headers), call.time_left, call.message_id]

    async with mq.serve(Curious(), name=service, auto_delete=True):
        curious = mq.proxy(service, timeout=5, headers={"tenant": "acme", "n": 3})
        for method in ("ask", "ask_in_thread"):
            where, what, redelivered, headers, left, message_id = await getattr(curious, method)()
            assert (where, what, redelivered) == (service, method, False)
            assert 4000 < headers.pop("x-timeout-ms") <= 5000  # a little may pass until the request is sent
            assert headers == {"tenant": "acme", "n": 3}
            assert 3 < left <= 5
            assert len(message_id) == 26
    with pytest.raises(LookupError, match="handler"):
        amqproxy.current()


async def test_the_served_object_is_entered_and_left(mq: amqproxy.Client, service: str) -> None:
    steps: list[str] = []

    class Pool:
        async def __aenter__(self) -> Pool:
            steps.append("enter")
            return self

        async def __aexit__(self, *exc: object) -> None:
            steps.append("exit")

        async def use(self) -> None:
            steps.append("use")

    async with mq.serve(Pool(), name=service, auto_delete=True):
        await mq.proxy(service).use()
    assert steps == ["enter", "use", "exit"]


async def test_options_can_be_changed_without_touching_the_proxy(mq: amqproxy.Client, service: str) -> None:
    async with mq.serve(Calculator(), name=service, auto_delete=True):
        calc = mq.proxy(Calculator, name=service, timeout=7)
        bound = amqproxy.options(calc, exchange="amq.direct", priority=3)
        assert await bound.add(1, 2) == 3
        assert "timeout=7" in repr(bound) and "exchange='amq.direct'" in repr(bound)
        assert "exchange" not in repr(calc)
        with pytest.raises(TypeError, match="no option 'tmeout'"):
            amqproxy.options(calc, tmeout=3)
        with pytest.raises(ValueError, match="timeout"):
            amqproxy.options(calc, timeout=-1)
        with pytest.raises(TypeError, match="takes a proxy"):
            amqproxy.options(Calculator(), timeout=1)


async def test_an_exchange_of_ones_own_is_declared_and_bound(mq: amqproxy.Client, service: str, amqp_url: str) -> None:
    exchange = f"{service}.exchange"
    async with mq.serve(Calculator(), name=service, auto_delete=True, exchange=exchange, routing_key="sums"):
        calc = mq.proxy(Calculator, name=service, exchange=exchange, routing_key="sums")
        assert await calc.add(1, 2) == 3
        connection = mq._live_connection()
        channel = await (await connection.link())._channel()
        await channel.exchange_delete(exchange)


async def test_a_queue_of_another_name_is_found_by_the_class_alone(mq: amqproxy.Client, service: str) -> None:
    @amqproxy.serve("calc", queue=service, auto_delete=True)
    class Elsewhere:
        async def add(self, x: int, y: int) -> int:
            return x + y

    async with mq.serve(Elsewhere):
        assert await mq.proxy(Elsewhere).add(1, 2) == 3


async def test_two_connections_and_two_loops_in_one_process(amqp_url: str, service: str) -> None:
    async def elsewhere() -> int:
        async with amqproxy.connect(amqp_url) as three:
            result: int = await three.proxy(service).add(3, 4)
            return result

    async with (
        amqproxy.connect(amqp_url) as one,
        amqproxy.connect(amqp_url) as two,
        one.serve(Calculator(), name=service, auto_delete=True),
    ):
        assert await two.proxy(service).add(1, 2) == 3
        assert await asyncio.to_thread(asyncio.run, elsewhere()) == 7


async def test_method_options_hold_unless_the_proxy_says_otherwise(mq: amqproxy.Client, service: str) -> None:
    class Slow:
        @amqproxy.method(timeout=0.05)
        async def wait(self) -> None:
            await asyncio.sleep(0.2)

    async with mq.serve(Slow(), name=service, auto_delete=True):
        with pytest.raises(amqproxy.CallTimeout, match=r"0\.05 s"):
            await mq.proxy(Slow, name=service).wait()
        await mq.proxy(Slow, name=service, timeout=5).wait()


async def test_a_proxy_looks_like_what_it_stands_for(mq: amqproxy.Client, service: str) -> None:
    import inspect

    calc = mq.proxy(Calculator, name=service)
    assert list(inspect.signature(calc.add).parameters) == ["x", "y"]
    assert repr(calc.add).startswith(f"<method {service}.add of amqp://guest@")
    assert calc.add is calc.add
    with pytest.raises(AttributeError, match=r"no method 'subtract'.*it has add"):
        calc.subtract  # type: ignore[attr-defined]  # noqa: B018
    with pytest.raises(AttributeError, match="cannot be assigned"):
        calc.add = None  # type: ignore[assignment, method-assign]
