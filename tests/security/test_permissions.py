"""S17: the permissions of docs/security.md suffice on RabbitMQ, and nothing else is allowed with them."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

import amqproxy
from amqproxy.deadqueue import DeadQueue
from amqproxy.properties import Properties
from amqproxy.testing import RabbitMQ, RabbitMQNotInstalled, rabbitmq
from amqproxy.topology import Exchange, Queue
from tests.conftest import missing
from tests.contract.raw import Raw
from tests.patience import until

PAGE = Path(__file__).parent.parent.parent / "docs" / "security.md"
PASSWORD = "p-4fa1"


class Calculator:
    def __init__(self) -> None:
        self.noted: list[str] = []
        self.failed: list[str] = []
        self.waiting, self.cancelled = asyncio.Event(), asyncio.Event()

    async def add(self, x: int, y: int) -> int:
        return x + y

    async def count(self, to: int) -> AsyncIterator[int]:
        for number in range(to):
            yield number

    async def total(self, numbers: AsyncIterator[int]) -> int:
        return sum([number async for number in numbers])

    async def note(self, text: str) -> None:
        self.noted.append(text)

    async def fail(self, text: str) -> None:
        if text not in self.failed:
            self.failed.append(text)
            raise ValueError(text)
        self.noted.append(text)

    async def wait(self) -> None:
        self.waiting.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.cancelled.set()


async def numbers(to: int) -> AsyncIterator[int]:
    for number in range(to):
        yield number


COMMAND = r"rabbitmqctl set_permissions -p / (\w+) '(\S*)' '(\S*)' '(\S*)'$"


def commands() -> list[tuple[str, ...]]:
    """Users of the page, and what they may configure, write and read."""
    return re.findall("^" + COMMAND, PAGE.read_text(encoding="utf-8"), re.MULTILINE)


def strict() -> tuple[str, ...]:
    """The same of the caller who is not trusted."""
    (found,) = re.findall("^ +" + COMMAND, PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    user, *patterns = found
    assert user == "calculator_caller"
    return (user, *patterns)


@pytest.fixture(scope="module")
def guarded() -> Iterator[RabbitMQ]:
    """A RabbitMQ with the users of the page, and with a queue and an exchange that are none of their business."""
    try:
        with rabbitmq() as node:
            for user in ("calculator_worker", "calculator_caller", "stranger"):
                node.ctl("add_user", user, PASSWORD)
            assert [command[0] for command in commands()] == ["calculator_worker", "calculator_caller"]
            for command in commands():
                node.ctl("set_permissions", *command)
            node.ctl("set_permissions", "stranger", "^$", "^$", "^$")
            yield node
    except RabbitMQNotInstalled as error:
        missing(str(error))


@pytest.fixture
async def orders(guarded: RabbitMQ) -> AsyncIterator[Raw]:
    """The queue and the exchange of another service."""
    async with Raw.connected(guarded.url) as raw:
        await raw.joins("orders")
        yield raw


def url(node: RabbitMQ, user: str) -> str:
    return node.url.replace("guest:guest", f"{user}:{PASSWORD}")


@asynccontextmanager
async def calculator(node: RabbitMQ, **options: Any) -> AsyncIterator[tuple[Calculator, amqproxy.Client]]:
    """A worker and a caller, each as its own user."""
    one = Calculator()
    async with (
        amqproxy.connect(url(node, "calculator_worker")) as server,
        amqproxy.connect(url(node, "calculator_caller")) as mq,
        server.serve(one, name="calculator", **options),
    ):
        yield one, mq


async def test_these_permissions_suffice_for_everything(guarded: RabbitMQ) -> None:
    async with calculator(guarded) as (one, mq):
        proxy = mq.proxy(Calculator, name="calculator")
        assert await proxy.add(1, 2) == 3
        assert [number async for number in proxy.count(200)] == list(range(200))
        assert await proxy.total(numbers(200)) == sum(range(200))
        assert await amqproxy.gather(proxy.add(n, n) for n in range(20)) == [2 * n for n in range(20)]
        with pytest.raises(amqproxy.RemoteError, match="does not serve"):
            await mq.proxy("calculator").nothing()
        await mq.sender(Calculator, name="calculator").note("one")
        await mq.sender(Calculator, name="calculator", everyone=True).note("all")
        await mq.sender(Calculator, name="calculator", delay=0.05).note("later")
        assert [answer.value async for answer in mq.broadcast(Calculator, name="calculator").add(1, 2)] == [3]
        call = asyncio.create_task(proxy.wait())
        await asyncio.wait_for(one.waiting.wait(), 5)
        call.cancel()
        await asyncio.wait_for(one.cancelled.wait(), 5)
        await until(lambda: sorted(one.noted) == ["all", "later", "one"], lambda: str(one.noted))
        assert await amqproxy.options(proxy, heartbeat=0.5).add(1, 2) == 3


@pytest.fixture
def no_queue(guarded: RabbitMQ) -> Iterator[None]:
    """The pool's queue is made anew, and goes: it is of another kind than in the other tests."""

    def drop() -> None:
        for queue in ("calculator", "calculator.dead"):
            with suppress(RuntimeError):  # when there is none
                guarded.ctl("delete_queue", queue)

    drop()
    yield
    drop()


@pytest.mark.usefixtures("no_queue")
@pytest.mark.parametrize("kind", ["quorum", "dead_letters"])
async def test_they_suffice_for_dead_letters(guarded: RabbitMQ, kind: str) -> None:
    async with calculator(guarded, **{kind: True}) as (one, mq):
        assert await mq.proxy(Calculator, name="calculator").add(1, 2) == 3
        await mq.sender(Calculator, name="calculator").fail("once")
        async with amqproxy.connect(url(guarded, "calculator_worker")) as keeper:
            dead = DeadQueue(keeper._live_connection(), "calculator")
            async with asyncio.timeout(10):
                while not await dead.count():  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
            [letter] = await dead.look(10)
            assert letter.text == "ValueError: once"
            assert await dead.requeue("calculator") == (1, 0)
            await until(lambda: one.noted == ["once"])
            assert await dead.purge() == 0
    forbidden: Any = (lambda c: c.basic_get("calculator.dead"), lambda c: c.queue_purge("calculator.dead"))
    for operation in forbidden:
        said = await refused(guarded, "calculator_caller", lambda link, do=operation: link._declare(do))
        assert "ACCESS_REFUSED" in said


@pytest.mark.usefixtures("no_queue")
async def test_a_worker_needs_no_amq_direct(guarded: RabbitMQ) -> None:
    user, configure, write, read = commands()[0]
    guarded.ctl("set_permissions", user, configure, write, read.replace(r"amq\.direct|", ""))
    try:
        async with calculator(guarded, exchange=None) as (_, mq):
            assert await mq.proxy(Calculator, name="calculator").add(1, 2) == 3
            assert [answer.value async for answer in mq.broadcast(Calculator, name="calculator").add(1, 2)] == [3]
        assert "ACCESS_REFUSED" in await refused(guarded, user, lambda link: listen(link, "amq.direct"))
    finally:
        guarded.ctl("set_permissions", *commands()[0])


async def test_a_caller_needs_no_delays(guarded: RabbitMQ) -> None:
    user, configure, write, read = commands()[1]
    without = [pattern.replace(r"|amqproxy\.delay\.[0-9]+\.calculator", "") for pattern in (configure, read)]
    assert without == [r"^(amq\.gen.*)$"] * 2
    guarded.ctl("set_permissions", user, without[0], write, without[1])
    try:
        async with calculator(guarded) as (_, mq):
            assert await mq.proxy(Calculator, name="calculator").add(1, 2) == 3
            with pytest.raises(amqproxy.AccessRefused):
                await mq.sender(Calculator, name="calculator", delay=7).note("later")
    finally:
        guarded.ctl("set_permissions", *commands()[1])


async def test_what_the_page_warns_of_is_so(guarded: RabbitMQ) -> None:
    """Each of these would go from the page if RabbitMQ, or we, learned to refuse it."""
    async with calculator(guarded) as (_, mq), amqproxy.connect(url(guarded, "calculator_caller")) as other:
        await mq.sender(Calculator, name="calculator", delay=60).note("later")
        link = await other._live_connection().link()
        deleted = await link._declare(lambda channel: channel.queue_delete("amqproxy.delay.60000.calculator"))
        assert deleted.message_count == 1
    async with amqproxy.connect(url(guarded, "calculator_worker")) as server:
        link = await server._live_connection().link()
        name = await link.declare_queue(Queue("", durable=False, exclusive=True))
        await link._declare(lambda channel: channel.queue_bind(name, "amq.direct", routing_key="orders"))


async def refused(node: RabbitMQ, user: str, operation: Any) -> str:
    """The broker's words when a user does something on its topology channel that it may not."""
    async with amqproxy.connect(url(node, user)) as mq:
        link = await mq._live_connection().link()
        with pytest.raises(amqproxy.AccessRefused) as caught:
            await operation(link)
        return str(caught.value)


FORBIDDEN: dict[str, Any] = {
    "declare another service's queue": lambda link: link.declare_queue(Queue("orders", auto_delete=True)),
    "declare a queue of any name": lambda link: link.declare_queue(Queue("mine")),
    "declare a queue of nearly the name": lambda link: link.declare_queue(Queue("calculator2")),
    "declare an exchange": lambda link: link._declare(lambda c: c.exchange_declare("mine", exchange_type="fanout")),
    "delete another service's queue": lambda link: link._declare(lambda c: c.queue_delete("orders")),
    "purge another service's queue": lambda link: link._declare(lambda c: c.queue_purge("orders")),
    "delete another service's exchange": lambda link: link._declare(lambda c: c.exchange_delete("amqproxy.orders")),
    "read another service's queue": lambda link: link._declare(lambda c: c.basic_get("orders")),
    "bind to another service's exchange": lambda link: listen(link, "amqproxy.orders"),
    "bind to the firehose": lambda link: listen(link, "amq.rabbitmq.trace"),
}


async def listen(link: Any, exchange: str) -> None:
    name = await link.declare_queue(Queue("", durable=False, exclusive=True))
    await link._declare(lambda channel: channel.queue_bind(name, exchange, routing_key="#"))


@pytest.mark.parametrize("what", FORBIDDEN)
@pytest.mark.parametrize("user", ["calculator_worker", "calculator_caller"])
async def test_nothing_else_is_allowed(guarded: RabbitMQ, orders: Raw, user: str, what: str) -> None:
    assert "ACCESS_REFUSED" in await refused(guarded, user, FORBIDDEN[what])


@pytest.mark.parametrize(
    "operation",
    [
        lambda link: link.declare_queue(Queue("calculator")),
        lambda link: link._declare(lambda c: c.queue_delete("calculator")),
        lambda link: link._declare(lambda c: c.queue_purge("calculator")),
        lambda link: link._declare(lambda c: c.basic_get("calculator")),
        lambda link: listen(link, "amqproxy.calculator"),
        lambda link: link._declare(lambda c: c.exchange_delete("amqproxy.calculator")),
    ],
)
async def test_a_caller_can_do_no_workers_work(guarded: RabbitMQ, operation: Any) -> None:
    async with calculator(guarded):
        assert "ACCESS_REFUSED" in await refused(guarded, "calculator_caller", operation)


async def test_a_caller_cannot_serve(guarded: RabbitMQ) -> None:
    async with amqproxy.connect(url(guarded, "calculator_caller")) as mq:
        with pytest.raises(amqproxy.AccessRefused, match="calculator_caller"):
            await mq.serve(Calculator(), name="calculator").start()


@pytest.mark.parametrize("user", ["calculator_worker", "calculator_caller"])
async def test_a_publish_to_another_exchange_is_an_error_that_names_it(guarded: RabbitMQ, user: str) -> None:
    async with amqproxy.connect(url(guarded, user)) as mq:
        with pytest.raises((amqproxy.ConnectionLost, amqproxy.AccessRefused), match=r"amqproxy\.orders|refused"):
            await mq.proxy("orders", exchange="amq.topic", timeout=5).add(1, 2)


async def test_who_may_do_nothing_is_told_so_at_once(guarded: RabbitMQ) -> None:
    async with amqproxy.connect(url(guarded, "stranger")) as mq:
        with pytest.raises(amqproxy.AccessRefused, match="stranger"):
            await mq.serve(Calculator(), name="calculator").start()
        with pytest.raises(amqproxy.AccessRefused, match="stranger"):
            await mq.proxy(Calculator, name="calculator", timeout=5).add(1, 2)


async def test_who_may_write_to_the_default_exchange_may_write_to_each_queue(guarded: RabbitMQ, orders: Raw) -> None:
    """Why a caller that is not trusted is given an exchange in place of the default one, as the page says."""
    async with amqproxy.connect(url(guarded, "calculator_worker")) as mq:
        await mq.sender("orders").cancel(7)
        assert (await orders.next_message()).properties.content_type == b"orders.cancel"


async def test_a_caller_needs_no_default_exchange(guarded: RabbitMQ, orders: Raw) -> None:
    """The stricter caller of the page reaches its service by an exchange of that, and writes to nothing else."""
    guarded.ctl("set_permissions", *strict())
    try:
        async with calculator(guarded, exchange="calculator.requests") as (one, mq):
            proxy = mq.proxy(Calculator, name="calculator", exchange="calculator.requests")
            assert await proxy.add(1, 2) == 3
            assert [answer.value async for answer in mq.broadcast(Calculator, name="calculator").add(1, 2)] == [3]
            call = asyncio.create_task(proxy.wait())
            await asyncio.wait_for(one.waiting.wait(), 5)
            call.cancel()
            await asyncio.wait_for(one.cancelled.wait(), 5)
            await mq.sender(Calculator, name="calculator", exchange="calculator.requests").note("x")
            await until(lambda: one.noted == ["x"])
            with pytest.raises((amqproxy.AccessRefused, amqproxy.ConnectionLost)):
                await mq.sender("orders", timeout=5).cancel(7)
        link_said = Properties(content_type=b"the only one")
        orders.publish_encoded("orders", b"", link_said.encode())
        assert (await orders.next_message()).properties.content_type == b"the only one"
    finally:
        for command in commands():
            guarded.ctl("set_permissions", *command)


async def test_exchanges_that_are_declared_are_found(guarded: RabbitMQ) -> None:
    async with calculator(guarded) as (_, mq):
        link = await mq._live_connection().link()
        assert await link.exchange_exists(Exchange("amqproxy.calculator"))
