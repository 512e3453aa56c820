"""Everything that can be wrong with a call: a named error for whoever is at fault, and nobody else is harmed."""

from __future__ import annotations

import asyncio
import json
import logging
import math
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest

import amqproxy
from amqproxy.properties import Properties
from amqproxy.server import Worker
from amqproxy.testing import RabbitMQNotInstalled, rabbitmq
from amqproxy.testing import broker as embedded_broker
from tests.conftest import EMBEDDED, RABBITMQ, missing
from tests.contract.raw import Message, Raw
from tests.patience import until

FAILURE = b"com.github.sstone.amqp.proxy.AmqpProxy$ServerFailure"


class InsufficientFunds(Exception):
    pass


@dataclass
class Item:
    name: str
    price: float


class Panic(BaseException):
    """Not an Exception, as PyO3's are."""


class Unreadable(Mapping[str, int]):
    def __len__(self) -> int:
        raise AttributeError

    def __getitem__(self, key: str) -> int:
        raise AttributeError

    def __iter__(self) -> Iterator[str]:
        raise AttributeError


class Mumble(Exception):
    def __str__(self) -> str:
        raise RuntimeError


class Shop:
    async def add(self, x: int, y: int) -> int:
        return x + y

    async def order(self, items: list[Item], express: bool = False) -> float:
        return sum(item.price for item in items)

    async def lie(self) -> int:
        return "three"  # type: ignore[return-value]

    async def untold(self) -> Any:
        return object()

    async def divide(self, x: int, y: int) -> float:
        return x / y

    async def pay(self) -> None:
        raise InsufficientFunds("secret: 42")

    async def refuse(self) -> None:
        raise amqproxy.RemoteError("no such item", code="not_found", type="NoItem", retryable=True, details={"id": 7})

    async def leave(self) -> None:
        raise SystemExit(3)

    async def give_up(self) -> None:
        raise asyncio.CancelledError

    async def panic(self) -> None:
        raise Panic("of a library in Rust, say")

    async def unreadable(self) -> None:
        raise amqproxy.RemoteError("its details cannot be read", details=Unreadable())

    async def generator_exit(self) -> None:
        raise GeneratorExit

    def run_dry(self) -> int:
        return next(iter([]))

    async def cancel_itself(self) -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await asyncio.sleep(0)

    async def mumble(self) -> None:
        raise Mumble

    async def odd_details(self) -> None:
        raise amqproxy.RemoteError("odd", details=object())


@asynccontextmanager
async def unharmed(mq: amqproxy.Client, service: str, **options: Any) -> AsyncIterator[Any]:
    """A shop that must serve on the same channels after what is done to it, with another call out all the while."""
    async with mq.serve(Shop(), name=service, auto_delete=True, **options) as worker:
        shop = mq.proxy(Shop, name=service)
        assert await shop.add(1, 2) == 3
        session, line = worker._session, shop.add.line  # type: ignore[attr-defined]
        yield shop
        assert await shop.add(3, 4) == 7
        assert worker._session is session and session is not None and session.alive
        assert shop.add.line is line and not line.calls  # type: ignore[attr-defined]
        assert not worker.running


def failure(message: Message) -> dict[str, Any]:
    assert message.properties.content_type == FAILURE
    assert message.properties.content_encoding == b"json"
    body: dict[str, Any] = json.loads(message.body)
    assert body["message"] and body["throwableAsString"]
    error: dict[str, Any] = body["error"]
    return error | {"text": body["message"]}


async def test_an_unknown_service_is_unroutable_at_once(mq: amqproxy.Client, service: str) -> None:
    began = time.monotonic()
    with pytest.raises(amqproxy.Unroutable, match=f"takes '{service}'.*is a worker serving") as caught:
        await mq.proxy(service, timeout=60).add(1, 2)
    assert caught.value.executed == "no"
    assert time.monotonic() - began < 5


async def test_an_unknown_exchange_is_unroutable_and_harms_no_other_call(mq: amqproxy.Client, service: str) -> None:
    async with unharmed(mq, service) as shop:
        with pytest.raises(amqproxy.Unroutable, match="no exchange 'nowhere'"):
            await amqproxy.options(shop, exchange="nowhere").add(1, 2)


async def test_an_exchange_that_is_deleted_harms_only_its_own_calls(mq: amqproxy.Client, service: str) -> None:
    exchange = f"{service}.exchange"
    async with unharmed(mq, service, exchange=exchange) as shop:
        elsewhere = amqproxy.options(shop, exchange=exchange)
        assert await elsewhere.add(1, 2) == 3
        channel = await (await mq._live_connection().link())._channel()
        await channel.exchange_delete(exchange)
        with pytest.raises((amqproxy.ConnectionLost, amqproxy.Unroutable)):
            await elsewhere.add(1, 2)
        with pytest.raises(amqproxy.Unroutable):
            await elsewhere.add(1, 2)


async def test_an_unknown_method_lists_what_is_served(mq: amqproxy.Client, service: str) -> None:
    async with unharmed(mq, service):
        for name in ("subtract", "add.__globals__", "ADD", "x" * 200):
            with pytest.raises(amqproxy.RemoteError, match=rf"does not serve.*{service}\.add") as caught:
                await getattr(mq.proxy(service), name)(1, 2)
            assert (caught.value.code, caught.value.executed) == ("unimplemented", "no")
        with pytest.raises(amqproxy.ContractError, match="not at most 255 printable bytes"):
            getattr(mq.proxy(service), "x" * 300)
        with pytest.raises(ValueError, match="not at most 255 printable bytes"):
            mq.proxy("x" * 300)
        for name in ("_run", "__class_getitem__"):
            with pytest.raises(AttributeError, match="starts with _"):
                getattr(mq.proxy(service), name)


@pytest.mark.parametrize(
    ("args", "kwargs", "text"),
    [
        ((1,), {}, "missing a required argument: 'y'"),
        ((1, 2, 3), {}, "too many positional arguments"),
        ((1,), {"y": 2, "z": 3}, "unexpected keyword argument 'z'"),
        ((1,), {"x": 2}, "multiple values for argument 'x'"),
        (("1", 2), {}, r"Expected `int`, got `str` - at `\$\.x`"),
        ((1, None), {}, r"Expected `int`, got `null` - at `\$\.y`"),
        ((True, 2), {}, r"Expected `int`, got `bool` - at `\$\.x`"),
    ],
)
async def test_arguments_that_do_not_fit_are_never_sent(
    mq: amqproxy.Client, service: str, args: tuple[Any, ...], kwargs: dict[str, Any], text: str
) -> None:
    with pytest.raises(amqproxy.ContractError, match=rf"Shop\.add\(x: int, y: int\) -> int: .*{text}"):
        await getattr(mq.proxy(Shop, name=service), "add")(*args, **kwargs)  # noqa: B009
    assert issubclass(amqproxy.ContractError, TypeError)


@pytest.mark.parametrize(
    ("args", "kwargs", "text"),
    [
        ((1,), {}, "Expected `array` of at least length 2, got 1"),
        ((1, 2, 3), {}, "Expected `array` of at most length 2"),
        ((), {"x": 1}, "missing required field `y`"),
        ((), {"x": 1, "y": 2, "z": 3}, "unknown field `z`"),
        ((), {"x": "1", "y": 2}, r"Expected `int`, got `str` - at `\$\.x`"),
        (("1", 2), {}, r"Expected `int`, got `str` - at `\$\[0\]`"),
    ],
)
async def test_the_worker_checks_what_callers_did_not(
    mq: amqproxy.Client, service: str, args: tuple[Any, ...], kwargs: dict[str, Any], text: str
) -> None:
    async with unharmed(mq, service):
        with pytest.raises(amqproxy.RemoteError, match=rf"Shop\.add\(x: int, y: int\) -> int: .*{text}") as caught:
            await mq.proxy(service).add(*args, **kwargs)
        assert (caught.value.code, caught.value.executed) == ("invalid_argument", "no")


async def test_a_nested_mistake_is_named_by_its_path(mq: amqproxy.Client, service: str) -> None:
    async with unharmed(mq, service) as shop:
        with pytest.raises(amqproxy.ContractError, match=r"Expected `str`, got `int` - at `\$\.items\[1\]\.name`"):
            await shop.order([Item("a", 1.0), Item(2, 2.0)])  # type: ignore[arg-type]
        with pytest.raises(amqproxy.RemoteError, match=r"Expected `float`, got `str` - at `\$\.items\[0\]\.price`"):
            await mq.proxy(service).order(items=[{"name": "a", "price": "b"}])


async def test_positions_and_names_cannot_be_mixed_without_a_contract(mq: amqproxy.Client, service: str) -> None:
    with pytest.raises(amqproxy.ContractError, match="all arguments by position or all by name"):
        await mq.proxy(service).add(1, y=2)
    with pytest.raises(amqproxy.ContractError, match="is no message class"):
        await mq.proxy(service)(3)
    with pytest.raises(amqproxy.ContractError, match="called with one message"):
        await mq.proxy(service)(3, 4)
    with pytest.raises(amqproxy.ContractError, match="takes no int"):
        await mq.proxy(Shop, name=service)(3)  # type: ignore[operator]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (object(), r"object has no JSON form \(an object cannot be .* at `\$\[0\]\.a\[1\]`"),
        (iter([1]), r"\(a list_iterator cannot be written as JSON; if it is a stream, annotate the method with it"),
        (math.nan, r"nan has no JSON form - at `\$\[0\]\.a\[1\]`"),
        (-math.inf, r"-inf has no JSON form - at `\$\[0\]\.a\[1\]`"),
        ("\ud800", r"str has no JSON form .* at `\$\[0\]\.a\[1\]`"),
        ({(1, 2): 3}, r"dict has no JSON form .* at `\$\[0\]\.a\[1\]`"),
    ],
)
async def test_a_value_that_json_cannot_write_is_named_by_its_path(
    mq: amqproxy.Client, service: str, value: Any, text: str
) -> None:
    with pytest.raises(amqproxy.EncodingFailed, match=text) as caught:
        await mq.proxy(service).order({"a": [1, value]})
    assert caught.value.executed == "no"


async def test_a_result_that_breaks_its_promise_is_the_workers_fault(mq: amqproxy.Client, service: str) -> None:
    async with unharmed(mq, service) as shop:
        with pytest.raises(amqproxy.RemoteError, match=r"Shop\.lie.*Expected `int`, got `str`") as caught:
            await shop.lie()
        assert (caught.value.code, caught.value.executed) == ("internal", "yes")
        with pytest.raises(amqproxy.RemoteError, match="object has no JSON form"):
            await shop.untold()


async def test_a_reply_that_breaks_the_callers_contract_is_a_bad_reply(mq: amqproxy.Client, service: str) -> None:
    class Other:
        async def divide(self, x: int, y: int) -> str:
            raise NotImplementedError

    async with unharmed(mq, service):
        with pytest.raises(amqproxy.BadReply, match="Expected `str`, got `float`") as caught:
            await mq.proxy(Other, name=service).divide(1, 2)
        assert caught.value.executed == "yes"


async def test_remote_exceptions_are_what_they_were(mq: amqproxy.Client, service: str) -> None:
    async with unharmed(mq, service, debug=False) as shop:
        with pytest.raises(ZeroDivisionError, match="division by zero") as division:
            await shop.divide(1, 0)
        assert isinstance(division.value, amqproxy.RemoteError)
        assert (division.value.code, division.value.executed) == ("unknown", "yes")
        assert division.value.traceback is None
        with pytest.raises(amqproxy.RemoteError) as unknown:
            await shop.pay()
        assert not isinstance(unknown.value, InsufficientFunds)
        assert unknown.value.type.endswith("InsufficientFunds")
        with pytest.raises(amqproxy.RemoteError) as refused:
            await shop.refuse()
        told = refused.value
        assert (told.code, told.type, told.message) == ("not_found", "NoItem", "no such item")
        assert (told.retryable, told.details, told.executed) == (True, {"id": 7}, "yes")
        with pytest.raises(amqproxy.RemoteError, match="odd"):
            await shop.odd_details()
        with pytest.raises(amqproxy.RemoteError, match="cannot be had: RuntimeError"):
            await shop.mumble()


async def test_registered_exceptions_are_rebuilt(mq: amqproxy.Client, service: str) -> None:
    registered = amqproxy.serve(service, errors=(InsufficientFunds,), auto_delete=True)(type("Bank", (Shop,), {}))
    async with mq.serve(registered):
        with pytest.raises(InsufficientFunds, match="secret: 42") as caught:
            await mq.proxy(registered).pay()
        assert isinstance(caught.value, amqproxy.RemoteError)


class Moody(Exception):
    """Can be rebuilt, or not."""

    good = True

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        if not cls.good:
            raise TypeError("not today")
        return super().__new__(cls, *args)


class Moods:
    def __init__(self) -> None:
        self.mood = Moody("number 1")

    async def one(self, number: int) -> int:
        raise self.mood

    async def many(self) -> AsyncIterator[int]:
        yield 1
        raise self.mood


async def test_exceptions_that_cannot_be_rebuilt_are_failures_all_the_same(
    mq: amqproxy.Client, service: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    moods = amqproxy.serve(service, errors=(Moody,), auto_delete=True)(Moods)
    async with mq.serve(moods):
        proxy: Any = mq.proxy(moods)
        with pytest.raises(Moody):
            await proxy.one(1)
        monkeypatch.setattr(Moody, "good", False)
        attended = amqproxy.options(proxy, heartbeat=1).one(1)
        batch = amqproxy.gather([proxy.one(1), proxy.one(1)])
        for call in (proxy.one(1), attended, batch, mq.broadcast(moods).one(1).first()):
            with pytest.raises(amqproxy.RemoteError, match="Moody: number 1") as caught:
                await call
            assert not isinstance(caught.value, Moody)
        with pytest.raises(amqproxy.RemoteError, match="Moody: number 1"):
            [number async for number in proxy.many()]


async def test_a_traceback_travels_only_in_debug_mode(mq: amqproxy.Client, service: str) -> None:
    async with unharmed(mq, service, debug=True) as shop:
        with pytest.raises(ZeroDivisionError, match=r"return x / y") as caught:
            await shop.divide(1, 0)
        assert isinstance(caught.value, amqproxy.RemoteError)
        assert caught.value.traceback is not None


async def test_a_handler_that_ends_the_program_ends_its_call_only(mq: amqproxy.Client, service: str) -> None:
    async with unharmed(mq, service, concurrency=1) as shop:
        with pytest.raises(amqproxy.RemoteError, match="Panic: of a library"):
            await shop.panic()
        with pytest.raises(amqproxy.RemoteError, match="GeneratorExit"):
            await shop.generator_exit()
        with pytest.raises(amqproxy.RemoteError, match="its details cannot be read"):
            await shop.unreadable()
        with pytest.raises(RuntimeError, match="the handler raised StopIteration"):
            await shop.run_dry()
        with pytest.raises(amqproxy.RemoteError, match="CancelledError") as itself:
            await shop.cancel_itself()
        assert itself.value.code == "cancelled"
        with pytest.raises(amqproxy.RemoteError, match="SystemExit: 3"):
            await shop.leave()
        with pytest.raises(amqproxy.RemoteError) as caught:
            await shop.give_up()
        assert caught.value.code == "cancelled"


BAD_REQUESTS: dict[str, tuple[dict[str, Any], bytes, str, str]] = {
    "no content-type": ({}, b'{"x":1,"y":2}', "invalid_argument", "no content-type"),
    "an unknown class": ({"content_type": b"os.system"}, b"{}", "unimplemented", "does not serve 'os.system'"),
    "a class that is not UTF-8": ({"content_type": b"\xff\n"}, b"{}", "unimplemented", r"does not serve '\\xff\n'"),
    "an unknown encoding": (
        {"content_type": b"METHOD", "content_encoding": b"pickle"},
        b"{}",
        "unimplemented",
        "content-encoding 'pickle' is not known here; known are json, protobuf, thrift, thrift-compact (",
    ),
    "an encoding that is not UTF-8": (
        {"content_type": b"METHOD", "content_encoding": b"\xff"},
        b"{}",
        "unimplemented",
        r"content-encoding '\\xff'",
    ),
    "an empty body": ({"content_type": b"METHOD"}, b"", "invalid_argument", "truncated"),
    "no JSON": ({"content_type": b"METHOD"}, b"\x80\x04\x95", "invalid_argument", "JSON is malformed"),
    "no UTF-8": ({"content_type": b"METHOD"}, b'{"x":"\xff","y":1}', "invalid_argument", "x"),
    "JSON of the wrong shape": ({"content_type": b"METHOD"}, b"3", "invalid_argument", "Expected `object`"),
    "half a JSON": ({"content_type": b"METHOD"}, b'{"x":1,', "invalid_argument", "truncated"),
    "JSON and more": ({"content_type": b"METHOD"}, b'{"x":1,"y":2}}', "invalid_argument", "malformed"),
    "a nest of arrays": ({"content_type": b"METHOD"}, b"[" * 100_000, "invalid_argument", ""),
    "a number beyond all types": ({"content_type": b"METHOD"}, b"[1e999,%s]" % (b"9" * 5000), "invalid_argument", ""),
}


@pytest.mark.parametrize("bad", BAD_REQUESTS)
async def test_a_bad_request_is_answered_with_what_is_wrong(
    mq: amqproxy.Client, raw: Raw, service: str, bad: str
) -> None:
    properties, body, code, text = BAD_REQUESTS[bad]
    properties = {k: v.replace(b"METHOD", f"{service}.add".encode()) for k, v in properties.items()}
    async with unharmed(mq, service):
        answer = await raw.ask(service, body, correlation_id=b"\x00\xff1", **properties)
        assert answer.properties.correlation_id == b"\x00\xff1"
        error = failure(answer)
        assert error["code"] == code
        assert text in error["text"]
        assert (error["executed"], error["traceback"]) == ("no", None)


async def test_a_request_without_encoding_is_json(mq: amqproxy.Client, raw: Raw, service: str) -> None:
    async with unharmed(mq, service):
        for encoding in ({}, {"content_encoding": b""}):
            answer = await raw.ask(service, b"[1,2]", content_type=f"{service}.add".encode(), **encoding)
            assert (answer.body, answer.properties.content_encoding) == (b"3", b"json")
            assert answer.properties.content_type == f"{service}.add.Reply".encode()


async def test_a_missing_correlation_id_is_replaced_by_the_message_id(
    mq: amqproxy.Client, raw: Raw, service: str
) -> None:
    async with unharmed(mq, service):
        method = f"{service}.add".encode()
        answer = await raw.ask(service, b"[1,2]", content_type=method, message_id=b"m1")
        assert answer.properties.correlation_id == b"m1"
        answer = await raw.ask(service, b"[1,2]", content_type=method)
        assert answer.properties.correlation_id is None


async def test_properties_that_do_not_decode_lose_their_own_message_only(
    mq: amqproxy.Client, raw: Raw, service: str
) -> None:
    """RabbitMQ relays such messages; aio-pika loses its connection to each of them, again after every reconnect."""
    method = f"{service}.add".encode()
    poison: list[dict[str, Any]] = [
        {"message_id": b"\xff\xfe", "app_id": b"\xff"},
        {"correlation_id": b"\xff" * 255},
        {"type": b"\xff", "expiration": b"60000"},
    ]
    async with unharmed(mq, service):
        for properties in poison:
            answer = await raw.ask(service, b"[1,2]", content_type=method, **properties)
            assert answer.body == b"3"
        deep = nested_headers(700, content_type=method, reply_to=raw.reply_to)
        raw.publish_encoded(service, b"[1,2]", deep)
        assert (await raw.next_message()).body == b"3"


def nested_headers(depth: int, **properties: Any) -> bytes:
    """Encoded properties with headers that are tables in tables, deeper than ours would be written."""
    table = b""
    for _ in range(depth):
        table = b"\x01tF" + len(table).to_bytes(4, "big") + table
    empty = Properties(headers={}, **properties).encode()
    return empty.replace(bytes(4), len(table).to_bytes(4, "big") + table, 1)


async def test_headers_that_do_not_decode_are_the_handlers_to_refuse(
    mq: amqproxy.Client, raw: Raw, service: str
) -> None:
    class Reads:
        async def headers(self) -> int:
            return len(amqproxy.current().headers)

    async with mq.serve(Reads(), name=service, auto_delete=True):
        method = f"{service}.headers".encode()
        raw.publish_encoded(service, b"[]", nested_headers(100, content_type=method, reply_to=raw.reply_to))
        assert "nested more than" in failure(await raw.next_message())["text"]
        assert await mq.proxy(service).headers() == 1


@pytest.mark.parametrize("method", ["count", "total"])
async def test_a_stream_whose_headers_do_not_decode_is_refused_and_not_run(
    mq: amqproxy.Client, raw: Raw, service: str, method: str, caplog: pytest.LogCaptureFixture
) -> None:
    """They say how it is to go, so that it cannot be begun without them."""

    class Streams:
        ran = False

        async def count(self) -> AsyncIterator[int]:
            self.ran = True
            yield 1

        async def total(self, numbers: AsyncIterator[int]) -> int:
            self.ran = True
            return 1

        async def ping(self) -> str:
            return "pong"

    served = Streams()
    async with mq.serve(served, name=service, auto_delete=True):
        kind = f"{service}.{method}".encode()
        request = nested_headers(100, content_type=kind, reply_to=raw.reply_to)
        raw.publish_encoded(service, b"[]", request)
        found = failure(await raw.next_message())
        assert (found["code"], found["executed"]) == ("invalid_argument", "no")
        assert "the properties of the request do not decode" in found["text"]
        assert "nested more than" in found["text"]
        if method == "count":
            raw.publish_encoded("", b"[]", request, exchange=f"amqproxy.{service}")
            found = failure(await raw.next_message())
            assert (found["code"], found["executed"]) == ("invalid_argument", "no")
            for exchange, key in ((f"amqproxy.{service}", ""), ("", service)):
                raw.publish_encoded(key, b"[]", nested_headers(100, content_type=kind), exchange=exchange)
            await until(lambda: caplog.text.count("(executed: no)") == 2)
        assert await mq.proxy(service).ping() == "pong"
    assert not served.ran
    assert " raised" not in caplog.text


async def test_a_one_way_request_is_run_and_never_answered(
    mq: amqproxy.Client, raw: Raw, service: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with unharmed(mq, service):
        raw.publish(service, b"[1,2]", content_type=f"{service}.add".encode())
        raw.publish(service, b"[1,0]", content_type=f"{service}.divide".encode())
        raw.publish(service, b"[]", content_type=f"{service}.refuse".encode(), reply_to=b"")
        answer = await raw.ask(service, b"[1,2]", content_type=f"{service}.add".encode(), correlation_id=b"last")
        assert answer.properties.correlation_id == b"last"
    assert "a one-way request failed" in caplog.text


async def test_a_reply_nobody_can_receive_is_dropped(
    mq: amqproxy.Client, raw: Raw, service: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "amqproxy")
    async with unharmed(mq, service):
        add = f"{service}.add".encode()
        raw.publish(service, b"[1,2]", content_type=add, reply_to=b"gone." + service.encode())
        raw.publish(service, b"[1,2]", content_type=add, reply_to=b"amq.gen-gone", correlation_id=b"c\n1")
        answer = await raw.ask(service, b"[1,2]", content_type=f"{service}.add".encode())
        assert answer.body == b"3"
        says = rf"{service}.add.Reply was dropped (correlation-id c\n1): its caller at amq.gen-gone is gone"
        await until(lambda: says in caplog.text, lambda: caplog.text)


async def test_replies_nobody_waits_for_are_counted_and_dropped(mq: amqproxy.Client, raw: Raw, service: str) -> None:
    async with unharmed(mq, service) as shop:
        line = shop.add.line
        queue = line.reply_to.decode()
        raw.publish(queue, b"1")
        raw.publish(queue, b"2", correlation_id=b"stranger")
        raw.publish(queue, b"3", correlation_id=b"\xff")
        raw.publish(queue, b"4", correlation_id=line.prefix + b"ffffffffff", content_type=b"\xff")
        await mq.proxy(service).add(1, 2)  # the queue keeps order, but another worker may answer ahead of it
        while mq.caller.strays < 3 or line.calls.late < 1:
            await shop.add(1, 2)
        assert (mq.caller.strays, line.calls.late) == (3, 1)


async def test_a_reply_in_another_encoding_is_a_bad_reply(mq: amqproxy.Client, raw: Raw) -> None:
    queue = raw.reply_to.decode()
    call = asyncio.create_task(mq.proxy("x", routing_key=queue).add(1, 2))
    request = await raw.next_message()
    properties = request.properties
    assert properties.reply_to and properties.correlation_id
    raw.publish(
        properties.reply_to.decode(), b"x", correlation_id=properties.correlation_id, content_encoding=b"thrift"
    )
    with pytest.raises(amqproxy.BadReply, match="thrift"):
        await call


@pytest.mark.parametrize("body", [b"", b"no json", b"[]", b"{}", b"[" * 100_000, b'{"message":"\xff"}'])
async def test_a_failure_that_does_not_decode_is_a_bad_reply(mq: amqproxy.Client, raw: Raw, body: bytes) -> None:
    queue = raw.reply_to.decode()
    call = asyncio.create_task(mq.proxy("x", routing_key=queue).add(1, 2))
    properties = (await raw.next_message()).properties
    assert properties.reply_to and properties.correlation_id
    raw.publish(properties.reply_to.decode(), body, correlation_id=properties.correlation_id, content_type=FAILURE)
    with pytest.raises(amqproxy.BadReply, match=r"a failure that does not decode: .*; it may have run$") as caught:
        await call
    assert caught.value.executed == "maybe", "it may tell that the call was refused"


async def test_a_failure_of_the_originals_form_becomes_a_remote_error(mq: amqproxy.Client, raw: Raw) -> None:
    queue = raw.reply_to.decode()
    call = asyncio.create_task(mq.proxy("x", routing_key=queue).add(1, 2))
    properties = (await raw.next_message()).properties
    assert properties.reply_to and properties.correlation_id
    raw.publish(
        properties.reply_to.decode(),
        b'{"message":"/ by zero","throwableAsString":"java.lang.ArithmeticException: / by zero"}',
        correlation_id=properties.correlation_id,
        content_type=FAILURE,
        content_encoding=b"json",
    )
    with pytest.raises(amqproxy.RemoteError, match="/ by zero") as caught:
        await call
    assert caught.value.type == "java.lang.ArithmeticException"
    assert not isinstance(caught.value, ArithmeticError)


async def test_a_request_over_the_limit_is_not_sent(amqp_url: str, service: str) -> None:
    async with amqproxy.connect(amqp_url, max_body_bytes=1000) as mq:
        with pytest.raises(amqproxy.MessageTooLarge, match="1007 bytes, max_body_bytes is 1000") as caught:
            await mq.proxy(service).add("x" * 1003)
        assert caught.value.executed == "no"


async def test_bodies_over_the_limit_are_refused_by_whoever_gets_them(
    mq: amqproxy.Client, amqp_url: str, service: str
) -> None:
    class Echo:
        async def echo(self, text: str) -> str:
            return text

        async def blow(self, size: int) -> str:
            return "x" * size

    async with amqproxy.connect(amqp_url, max_body_bytes=300_000) as small:
        async with small.serve(Echo(), name=service, auto_delete=True) as worker:
            session = worker._session
            with pytest.raises(amqproxy.RemoteError, match="the request has 400011 bytes") as caught:
                await mq.proxy(Echo, name=service).echo("x" * 400_000)
            assert (caught.value.code, caught.value.executed) == ("resource_exhausted", "no")
            with pytest.raises(amqproxy.RemoteError, match="the reply has 500002 bytes"):
                await mq.proxy(Echo, name=service).blow(500_000)
            assert await mq.proxy(Echo, name=service).echo("x") == "x"
            assert worker._session is session
        async with mq.serve(Echo(), name=service, auto_delete=True):
            with pytest.raises(amqproxy.BadReply, match="the reply has 400002 bytes"):
                await small.proxy(Echo, name=service).blow(400_000)
            assert await small.proxy(Echo, name=service).echo("x") == "x"


async def test_too_many_calls_in_flight_are_overloaded(amqp_url: str, service: str) -> None:
    release = asyncio.Event()

    class Slow:
        async def wait(self) -> int:
            await release.wait()
            return 1

        async def ping(self) -> None: ...

    async with amqproxy.connect(amqp_url, max_in_flight=5) as mq, mq.serve(Slow(), name=service, auto_delete=True):
        slow = mq.proxy(Slow, name=service)
        await slow.ping()
        calls = [asyncio.create_task(slow.wait()) for _ in range(7)]
        limited = amqproxy.options(slow, max_in_flight=2)
        _, pending = await asyncio.wait(calls, timeout=10, return_when=asyncio.FIRST_EXCEPTION)
        assert pending
        with pytest.raises(amqproxy.Overloaded, match=r" was not sent: .* max_in_flight .*\(5\)") as caught:
            await slow.wait()
        assert caught.value.executed == "no"
        release.set()
        results = await asyncio.gather(*calls, return_exceptions=True)
        assert sorted(map(type, results), key=str) == [amqproxy.Overloaded] * 2 + [int] * 5
        release.clear()
        two = [asyncio.create_task(limited.wait()) for _ in range(3)]
        with pytest.raises(amqproxy.Overloaded, match="2 calls are in flight, which is the proxy's"):
            await two[2]
        release.set()
        assert await asyncio.gather(*two[:2]) == [1, 1]


async def keeps_to_the_limit(url: str, big: Any, service: str) -> None:
    async with (
        amqproxy.connect(url) as mq,
        amqproxy.connect(url) as server,
        server.serve(big, name=service),
    ):
        proxy = mq.proxy(type(big), name=service)
        taken = r"bytes, the broker takes 100000 at most \(its max_message_size\)"
        with pytest.raises(amqproxy.RemoteError, match=taken) as caught:
            await proxy.make(300_000)
        assert (caught.value.code, caught.value.executed) == ("resource_exhausted", "yes")
        assert big.runs == 2  # the first answer was more than the broker would take, and so it told
        with pytest.raises(amqproxy.ConnectionLost, match="larger than configured max size 100000"):
            await proxy.take("x" * 300_000)
        with pytest.raises(amqproxy.MessageTooLarge, match=taken):
            await proxy.take("x" * 300_000)
        idempotent = amqproxy.options(proxy, idempotent=True)
        with pytest.raises(amqproxy.MessageTooLarge, match=taken):
            await idempotent.take("x" * 300_000)
        assert await proxy.take("x" * 1000) == 1000


@pytest.mark.parametrize("broker", [EMBEDDED, RABBITMQ])
async def test_a_limit_that_the_broker_tells_is_kept_from_then_on(broker: str, service: str) -> None:
    class Big:
        def __init__(self) -> None:
            self.runs = 0

        async def make(self, size: int) -> str:
            self.runs += 1
            return "x" * size

        async def take(self, text: str) -> int:
            return len(text)

    big = Big()
    if broker == EMBEDDED:
        async with embedded_broker(max_message_bytes=100_000) as url:
            await keeps_to_the_limit(url, big, service)
        return
    try:
        with rabbitmq(config={"max_message_size": 100_000}) as node:
            await keeps_to_the_limit(node.url, big, service)
    except RabbitMQNotInstalled as error:
        missing(str(error))


async def test_headers_that_fit_into_no_frame_are_refused(mq: amqproxy.Client, service: str) -> None:
    async with unharmed(mq, service) as shop:
        text = rf"^{service}\.add: the headers are too large: all properties together have 200\d\d\d bytes, and may"
        with pytest.raises(amqproxy.MessageTooLarge, match=text):
            await amqproxy.options(shop, headers={"h": "x" * 200_000}).add(1, 2)


async def test_a_message_class_named_like_a_method_is_not_taken_for_it(mq: amqproxy.Client, service: str) -> None:
    @amqproxy.message("add")
    @dataclass
    class Add:
        x: int
        y: int

    async with unharmed(mq, service):
        untyped = mq.proxy(service)
        with pytest.raises(amqproxy.RemoteError, match="does not serve 'add'"):
            await untyped(Add(1, 2))
        assert await untyped.add(1, 2) == 3


async def test_a_contract_that_cannot_be_served_says_so_before_anything_is_sent(mq: amqproxy.Client) -> None:
    class NeedsArguments:
        def __init__(self, db: str) -> None:
            raise AssertionError

        async def add(self) -> None: ...

    with pytest.raises(amqproxy.ContractError, match=r"NeedsArguments cannot be made without arguments.*instance"):
        await mq.serve(NeedsArguments).start()
    with pytest.raises(amqproxy.ContractError, match="has no public methods"):
        mq.serve(object())
    with pytest.raises(amqproxy.ContractError, match="not the name 'calculator'"):
        mq.serve("calculator")
    with pytest.raises(TypeError, match=r'write @amqproxy\.serve\("name"\)'):
        amqproxy.serve(Shop)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="no option 'concurency'"):
        mq.serve(Shop(), concurency=3)
    with pytest.raises(ValueError, match="no encoding 'yaml'"):
        mq.proxy(Shop, encoding="yaml")


async def test_a_queue_with_other_arguments_is_a_topology_conflict(mq: amqproxy.Client, service: str) -> None:
    async with mq.serve(Shop(), name=service, auto_delete=True) as worker:
        assert isinstance(worker, Worker)
        with pytest.raises(amqproxy.TopologyConflict, match="inequivalent arg 'durable'"):
            await mq.serve(Shop(), name=service, auto_delete=True, durable=False).start()
        with pytest.raises(amqproxy.TopologyConflict, match="inequivalent arg 'x-max-length'"):
            await mq.serve(Shop(), name=service, auto_delete=True, arguments={"x-max-length": 3}).start()
        assert await mq.proxy(service).add(1, 2) == 3


def test_encoded_properties_of_the_tests_are_not_what_a_library_would_send() -> None:
    assert Properties(correlation_id=b"\xff").encode().endswith(b"\x01\xff")
