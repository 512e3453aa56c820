"""Every encoding over every broker: there and back, refused where it is nonsense, and nobody else is harmed."""

from __future__ import annotations

import asyncio
import gzip
import json
import struct
import zlib
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import cramjam
import msgspec
import pytest

import amqproxy
from amqproxy.codecs import Codec, DecodingFailed, Mismatch, Shape, carries, registry
from amqproxy.codecs.compression import COMPRESSIONS
from amqproxy.codecs.registry import codecs
from amqproxy.contract import Method, contract_of
from amqproxy.messages import Form
from tests.contract.raw import Message, Raw
from tests.idl import closed_pb2 as closed
from tests.idl import kinds_pb2 as kinds
from tests.idl.kinds_thrift import ttypes as thrifty

FAILURE = b"com.github.sstone.amqp.proxy.AmqpProxy$ServerFailure"
LIMIT = 1 << 20


@amqproxy.message("com.example.Order")
@dataclass
class Order:
    items: list[str] = field(default_factory=list)


@amqproxy.message("com.example.Receipt")
@dataclass
class Receipt:
    count: int


class Shop:
    """A method of each form of messages."""

    def __init__(self) -> None:
        self.ran: list[str] = []

    async def add(self, x: int, y: int) -> int:
        return x + y

    async def echo(self, text: str) -> str:
        self.ran.append(text)
        return text

    async def order(self, order: Order) -> Receipt:
        return Receipt(len(order.items))

    async def paint(self, scalars: kinds.Scalars) -> kinds.Scalars:
        scalars.an_int64 += 1
        return scalars

    async def grow(self, tree: kinds.Tree) -> kinds.Plain:
        return kinds.Plain(number=len(tree.children))

    async def check(self, item: closed.Item) -> bool:
        return item.HasField("name")

    async def put(self, item: thrifty.Item) -> thrifty.Item:
        return thrifty.Item(item.id + 1, item.name, item.colour)

    async def climb(self, tree: thrifty.Tree) -> thrifty.Tree:
        return tree

    async def divide(self, x: int, y: int) -> float:
        return x / y


CONTRACT = contract_of(Shop)
SCALARS: dict[str, Any] = {"a_string": "ü", "an_int64": 2**62, "some_bytes": b"\xff", "a_colour": kinds.RED}
GOOD: dict[str, tuple[Any, Any]] = {
    "echo": ("ü" * 40, "ü" * 40),
    "order": (Order(["pen", "ink"]), Receipt(2)),
    "paint": (kinds.Scalars(**SCALARS), kinds.Scalars(**{**SCALARS, "an_int64": 2**62 + 1})),
    "grow": (kinds.Tree(children=[{}, {"value": 5}]), kinds.Plain(number=2)),
    "check": (closed.Item(id=1, level=closed.LOW), False),
    "put": (thrifty.Item(1, "ü", thrifty.Colour.RED), thrifty.Item(2, "ü", thrifty.Colour.RED)),
    "climb": (thrifty.Tree(1, children=[thrifty.Tree(2)]), thrifty.Tree(1, children=[thrifty.Tree(2)])),
}
ENCODINGS = {
    name: [codec.name for codec in codecs(LIMIT).values() if carries(codec, method)]
    for name, method in CONTRACT.methods.items()
}


@asynccontextmanager
async def unharmed(mq: amqproxy.Client, service: str, **options: Any) -> AsyncIterator[Any]:
    """A shop that must serve on the same channels after what is done to it."""
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
    assert len(body["message"]) < 4000
    error: dict[str, Any] = body["error"]
    return error | {"text": body["message"]}


async def refused(
    raw: Raw, service: str, body: bytes, content_type: bytes, encoding: bytes, executed: str = "no"
) -> dict[str, Any]:
    answer = await raw.ask(service, body, correlation_id=b"1", content_type=content_type, content_encoding=encoding)
    error = failure(answer)
    assert (error["executed"], error["traceback"]) == (executed, None)
    return error


def compressed(name: str, body: bytes) -> bytes:
    return COMPRESSIONS[name].compress(body, 1 << 30)


def written(method: str, encoding: str) -> bytes:
    """The body of a good request."""
    found = CONTRACT.methods[method]
    return codecs(LIMIT)[encoding].request(found).encode(found.bind((GOOD[method][0],), {}))


# There and back


def test_messages_travel_in_the_encodings_that_they_were_made_for() -> None:
    def plain(method: str) -> set[str]:
        return {name for name in ENCODINGS[method] if name.partition("-")[0] not in COMPRESSIONS}

    assert plain("echo") == plain("order") == {"json"}
    assert plain("paint") == plain("grow") == {"json", "protobuf"}
    assert plain("check") == {"json"}
    assert plain("put") == plain("climb") == {"thrift", "thrift-compact"}
    assert all(len(ENCODINGS[method]) == 5 * len(plain(method)) for method in GOOD)


@pytest.mark.parametrize("method", GOOD)
async def test_each_form_of_message_goes_there_and_back_in_each_of_its_encodings(
    mq: amqproxy.Client, service: str, method: str
) -> None:
    argument, expected = GOOD[method]
    async with unharmed(mq, service) as shop:
        assert await getattr(shop, method)(argument) == expected
        for encoding in ENCODINGS[method]:
            found = await getattr(amqproxy.options(shop, encoding=encoding), method)(argument)
            assert (type(found), found) == (type(expected), expected), encoding
        assert await asyncio.gather(*(getattr(shop, method)(argument) for _ in range(20))) == [expected] * 20


async def test_a_message_is_made_of_its_fields_where_it_is_called(mq: amqproxy.Client, service: str) -> None:
    async with unharmed(mq, service) as shop:
        assert await shop.grow(children=[kinds.Tree()]) == kinds.Plain(number=1)
        assert await shop.put(1, name="pen") == thrifty.Item(2, "pen")
        assert await shop(kinds.Tree()) == kinds.Plain()
        assert await shop(thrifty.Item(1)) == thrifty.Item(2)
        assert await shop(Order(["pen"])) == Receipt(1)
        calls: tuple[Callable[[], Any], ...] = (
            lambda: shop.grow(kinds.Plain()),
            lambda: shop.grow(nope=1),
            lambda: shop.put(kinds.Tree()),
            lambda: shop.put(1, "a", 1, 1),
            lambda: shop.put("x"),
            lambda: shop.put(),
            lambda: shop.check(name="no id"),
        )
        for wrong in calls:
            with pytest.raises(amqproxy.ContractError):
                await wrong()


NATURAL = {"echo": b"json", "order": b"json", "paint": b"protobuf", "check": b"json", "put": b"thrift"}


@pytest.mark.parametrize("method", NATURAL)
async def test_a_caller_who_names_no_encoding_uses_the_one_that_fits_and_java_names(
    mq: amqproxy.Client, raw: Raw, service: str, method: str
) -> None:
    names = {
        "echo": f"{service}.echo".encode(),
        "order": b"com.example.Order",
        "paint": b"org.amqproxy.kinds.Scalars",
        "check": b"amqproxy.closed.Closed$Item",
        "put": b"tests.idl.kinds_thrift.ttypes.Item",
    }
    shop = mq.proxy(Shop, name=service, routing_key=raw.reply_to.decode())
    call = asyncio.ensure_future(getattr(shop, method)(GOOD[method][0]))
    request = await raw.next_message()
    assert request.properties.content_encoding == NATURAL[method]
    assert request.properties.content_type == names[method]
    assert request.body == written(method, NATURAL[method].decode())
    call.cancel()


# What the worker answers in


@pytest.mark.parametrize("method", ["order", "paint", "put"])
async def test_an_answer_is_in_the_encoding_that_was_asked_in(
    mq: amqproxy.Client, raw: Raw, service: str, method: str
) -> None:
    async with unharmed(mq, service):
        for encoding in ENCODINGS[method]:
            answer = await raw.ask(
                service,
                written(method, encoding),
                correlation_id=b"1",
                content_type=f"{service}.{method}".encode(),
                content_encoding=encoding.encode(),
            )
            assert answer.properties.content_encoding == encoding.encode()
            result = codecs(LIMIT)[encoding].result(CONTRACT.methods[method])
            assert result.decode(answer.body) == GOOD[method][1]


@pytest.mark.parametrize(
    ("method", "asked", "answered"),
    [
        ("paint", "org.amqproxy.kinds.Scalars", "org.amqproxy.kinds.Scalars"),
        ("paint", "amqproxy.kinds.Scalars", "amqproxy.kinds.Scalars"),
        ("paint", "SERVICE.paint", "org.amqproxy.kinds.Scalars"),
        ("grow", "org.amqproxy.kinds.Tree", "org.amqproxy.kinds.Plain"),
        ("grow", "amqproxy.kinds.Tree", "amqproxy.kinds.Plain"),
        ("grow", "SERVICE.grow", "org.amqproxy.kinds.Plain"),
        ("check", "amqproxy.closed.Closed$Item", "SERVICE.check.Reply"),
        ("check", "amqproxy.closed.Item", "SERVICE.check.Reply"),
        ("put", "tests.idl.kinds_thrift.ttypes.Item", "tests.idl.kinds_thrift.ttypes.Item"),
        ("put", "SERVICE.put", "tests.idl.kinds_thrift.ttypes.Item"),
        ("order", "com.example.Order", "com.example.Receipt"),
        ("order", "SERVICE.order", "com.example.Receipt"),
        ("add", "SERVICE.add", "SERVICE.add.Reply"),
    ],
)
async def test_an_answer_is_in_the_names_that_were_asked_in(
    mq: amqproxy.Client, raw: Raw, service: str, method: str, asked: str, answered: str
) -> None:
    async with unharmed(mq, service):
        for encoding in ENCODINGS[method]:
            body = compressed_or_plain(encoding, b"[1,2]") if method == "add" else written(method, encoding)
            asked_in = asked.replace("SERVICE", service).encode()
            answer = await raw.ask(service, body, content_type=asked_in, content_encoding=encoding.encode())
            assert answer.properties.content_type == answered.replace("SERVICE", service).encode()
            assert answer.properties.content_encoding == encoding.encode()


def compressed_or_plain(encoding: str, body: bytes) -> bytes:
    prefix, _, rest = encoding.partition("-")
    return compressed(prefix, body) if rest and prefix in COMPRESSIONS else body


async def test_callers_may_use_protobufs_own_names(mq: amqproxy.Client, raw: Raw, service: str) -> None:
    async with unharmed(mq, service) as shop:
        own = amqproxy.options(shop, protobuf_names="protobuf")
        for method in GOOD:
            assert await getattr(own, method)(GOOD[method][0]) == GOOD[method][1]
    own = mq.proxy(Shop, name=service, protobuf_names="protobuf", routing_key=raw.reply_to.decode())
    for method, name in (("paint", b"amqproxy.kinds.Scalars"), ("put", b"tests.idl.kinds_thrift.ttypes.Item")):
        call = asyncio.ensure_future(getattr(own, method)(GOOD[method][0]))
        assert (await raw.next_message()).properties.content_type == name
        call.cancel()


# Bad input

MISSING_ID = b"\x0b\x00\x02\x00\x00\x00\x01x\x00"
BOMB = bytes(32 << 20)


def gzip_bomb() -> bytes:
    deflate = zlib.compressobj(9, wbits=31)
    return b"".join(deflate.compress(bytes(1 << 20)) for _ in range(200)) + deflate.flush()


BAD: dict[str, tuple[str, str, Callable[[], bytes]]] = {
    "protobuf under json": ("paint", "json", lambda: written("paint", "protobuf")),
    "json under protobuf": ("paint", "protobuf", lambda: written("paint", "json")),
    "json under thrift": ("put", "thrift", lambda: b'{"1":{"i32":1}}'),
    "protobuf under thrift": ("put", "thrift", lambda: written("paint", "protobuf")),
    "compact under thrift": ("put", "thrift", lambda: written("put", "thrift-compact")),
    "thrift under compact": ("put", "thrift-compact", lambda: written("put", "thrift")),
    "pickle under json": ("add", "json", lambda: b"\x80\x04\x95"),
    "Java serialization under protobuf": ("paint", "protobuf", lambda: b"\xac\xed\x00\x05sr"),
    "no compression": ("add", "snappy-json", lambda: b"[1,2]"),
    "another compression": ("add", "zstd-json", lambda: compressed("gzip", b"[1,2]")),
    "compressed twice": ("add", "gzip-json", lambda: compressed("gzip", compressed("gzip", b"[1,2]"))),
    "compressed under json": ("add", "json", lambda: compressed("snappy", b"[1,2]")),
    "json in gzip-protobuf": ("paint", "gzip-protobuf", lambda: compressed("gzip", written("paint", "json"))),
    "protobuf in lz4-json": ("paint", "lz4-json", lambda: compressed("lz4", written("paint", "protobuf"))),
    "half a protobuf": ("paint", "protobuf", lambda: written("paint", "protobuf")[:-1]),
    "half a thrift": ("put", "thrift", lambda: written("put", "thrift")[:-1]),
    "half a compact": ("put", "thrift-compact", lambda: written("put", "thrift-compact")[:-1]),
    "half a json of protobuf": ("paint", "json", lambda: written("paint", "json")[:-1]),
    **{
        f"half a {name}": ("add", f"{name}-json", lambda name=name: compressed(name, b"[1,2]")[:-1])  # type: ignore[misc]
        for name in COMPRESSIONS
    },
    **{
        f"more than a {name}": ("add", f"{name}-json", lambda name=name: compressed(name, b"[1,2]") + b"x")  # type: ignore[misc]
        for name in COMPRESSIONS
    },
    **{f"an empty body in {name}": ("add", f"{name}-json", bytes) for name in COMPRESSIONS},
    "an empty body in thrift": ("put", "thrift", bytes),
    "an empty body in json for a protobuf": ("paint", "json", bytes),
    "more than a thrift": ("put", "thrift", lambda: written("put", "thrift") + b"\0"),
    "a required field that is missing in json": ("check", "json", lambda: b'{"name":"x"}'),
    "a required field that is missing in thrift": ("put", "thrift", lambda: MISSING_ID),
    "an enum's unknown value": ("paint", "protobuf", lambda: b"\x80\x01\x09"),
    "an enum's unknown value in json": ("paint", "json", lambda: b'{"aColour":9}'),
    "an enum's unknown name": ("paint", "json", lambda: b'{"aColour":"PURPLE"}'),
    "a closed enum's unknown value": ("check", "json", lambda: b'{"id":1,"level":9}'),
    "text that is none": ("paint", "protobuf", lambda: b"\x72\x01\xff"),
    "an array for a protobuf": ("paint", "json", lambda: b"[]"),
    "null for a protobuf": ("paint", "json", lambda: b"null"),
    "an unknown field in json": ("paint", "json", lambda: b'{"nope":1}'),
    "a long unknown field in json": ("paint", "json", lambda: b'{"%s":1}' % (b"a" * 100_000)),
    "a long text for a number": ("paint", "json", lambda: b'{"anInt32":"%s"}' % (b"1" * 100_000)),
    "an unknown class in an Any": ("paint", "json", lambda: b'{"@type":"type.googleapis.com/os.system"}'),
    "a nest of protobuf": ("grow", "protobuf", lambda: nest(10_000)),
    "a nest of groups": ("grow", "protobuf", lambda: b"\x4b" * 100_000),
    "a nest of json": ("grow", "json", lambda: b'{"left":' * 100_000),
    "a nest of thrift": ("climb", "thrift", lambda: b"\x0c\x00\x02" * 100_000),
    "a nest of compact": ("climb", "thrift-compact", lambda: b"\x2c" * 100_000),
    "a nest of json in zstd": ("grow", "zstd-json", lambda: compressed("zstd", b'{"left":' * 100_000)),
    "a list of 2 Gi structs": ("climb", "thrift", lambda: b"\x0f\x00\x03\x0c\x7f\xff\xff\xff" + bytes(100)),
    "a string of 2 GiB in thrift": ("put", "thrift", lambda: b"\x0b\x00\x02\x7f\xff\xff\xff" + bytes(100)),
    "a string of 2 GiB in protobuf": ("paint", "protobuf", lambda: b"\x72\xff\xff\xff\xff\x07a"),
}


def nest(depth: int) -> bytes:
    """A Tree of protobuf in trees."""
    body = b""
    for _ in range(depth):
        size = bytearray()
        left = len(body)
        while left > 127:
            size.append(left & 127 | 128)
            left >>= 7
        body = b"\x12" + bytes((*size, left)) + body
    return body


async def test_a_body_that_is_not_what_it_says_is_an_invalid_argument(
    mq: amqproxy.Client, raw: Raw, service: str
) -> None:
    async with unharmed(mq, service) as shop:
        for bad, (method, encoding, body) in BAD.items():
            error = await refused(raw, service, body(), f"{service}.{method}".encode(), encoding.encode())
            assert error["code"] == "invalid_argument", bad
            assert error["text"].startswith(f"Shop.{method}("), bad
        for method in GOOD:
            assert await getattr(shop, method)(GOOD[method][0]) == GOOD[method][1]


BOMBS: dict[str, Callable[[], bytes]] = {
    "gzip-json": gzip_bomb,
    "gzip-protobuf": gzip_bomb,
    "zstd-json": lambda: bytes(cramjam.zstd.compress(BOMB)),
    "lz4-json": lambda: bytes(cramjam.lz4.compress(BOMB)),
    "snappy-json": lambda: bytes(cramjam.snappy.compress_raw(BOMB)),
    "snappy-protobuf": lambda: b"\xff\xff\xff\xff\x07" + b"\xfe\x01\x00" * 1000,
    "zstd-protobuf": lambda: b"\x28\xb5\x2f\xfd\xe0" + struct.pack("<Q", 2**40) + b"\x19\0\0abc",
    "gzip-thrift": gzip_bomb,
    "zstd-thrift-compact": lambda: bytes(cramjam.zstd.compress(BOMB)),
}


async def test_bodies_that_hold_more_than_may_be_decompressed_are_refused(
    mq: amqproxy.Client, raw: Raw, service: str
) -> None:
    async with unharmed(mq, service):
        for encoding, bomb in BOMBS.items():
            method = "put" if "thrift" in encoding else "paint"
            error = await refused(raw, service, bomb(), f"{service}.{method}".encode(), encoding.encode())
            assert error["code"] == "resource_exhausted", encoding
            assert "more than" in error["text"]


ODD_ENCODINGS = (
    *("JSON", "Json", "json ", " json", "json; charset=utf-8", "json;q=1", "utf-8", "application/json", "json,gzip"),
    *("snappy", "snappy-", "-json", "snappy_json", "Snappy-json", "SNAPPY-JSON", "json-snappy", "snappyjson"),
    *("snappy-snappy-json", "gzip-gzip-json", "gzip-snappy-json", "zstd-gzip-lz4-snappy-json"),
    *("thrift-binary", "thrift-json", "compact", "proto", "protobuf-json", "x-protobuf", "bson", "msgpack"),
    *("pickle", "yaml", "application/x-python-serialize", "application/x-java-serialized-object", "deflate", "br"),
    *("json\0", "\n", "../json", "%s", "{0}", "__import__", "x" * 255),
)


async def test_encodings_that_nobody_knows_are_unimplemented_whatever_the_body(
    mq: amqproxy.Client, raw: Raw, service: str
) -> None:
    async with unharmed(mq, service):
        for encoding in ODD_ENCODINGS:
            for body in (b"[1,2]", b"\x80\x04\x95", b""):
                error = await refused(raw, service, body, f"{service}.add".encode(), encoding.encode())
                assert error["code"] == "unimplemented"
                assert "is not known here; known are json, protobuf, thrift, thrift-compact" in error["text"]
                assert "\n" not in error["text"] and "\0" not in error["text"]
        assert (await refused(raw, service, b"", b"x", b"\xff\xfe"))["code"] == "unimplemented"


@pytest.mark.parametrize(
    ("method", "encoding", "instead"),
    [
        ("add", "protobuf", "json ("),
        ("add", "thrift", "json ("),
        ("order", "thrift-compact", "json ("),
        ("order", "snappy-protobuf", "json ("),
        ("paint", "thrift", "json, protobuf ("),
        ("put", "json", "thrift, thrift-compact ("),
        ("put", "gzip-json", "thrift, thrift-compact ("),
        ("put", "protobuf", "thrift, thrift-compact ("),
        ("check", "protobuf", "json ("),
    ],
)
async def test_an_encoding_that_does_not_carry_the_message_is_unimplemented(
    mq: amqproxy.Client, raw: Raw, service: str, method: str, encoding: str, instead: str
) -> None:
    async with unharmed(mq, service) as shop:
        error = await refused(raw, service, b"", f"{service}.{method}".encode(), encoding.encode())
        assert error["code"] == "unimplemented"
        assert f"does not travel as {encoding}" in error["text"]
        assert f"it does as {instead}each also after snappy-" in error["text"]
        with pytest.raises(amqproxy.ContractError, match=f"does not travel as {encoding}"):
            await getattr(amqproxy.options(shop, encoding=encoding), method)(None)


ODD_CLASSES = (
    b"__import__",
    b"os.system",
    b"builtins.eval",
    b"java.lang.Runtime",
    b"a.b.c",
    b"x" * 255,
    b"\xff" * 255,
    b"\xc0\x80",
    b"",
    b" ",
    b"SERVICE.__class__",
    b"SERVICE.__init__",
    b"SERVICE._ran",
    b"SERVICE.ran",
    b"SERVICE.add.__globals__",
    b"SERVICE.ADD",
    b"SERVICE.add ",
    b"SERVICE.add\0",
    b"SERVICE.add.Reply",
    b"SERVICE",
    b"Shop.add",
    b"tests.contract.test_encodings.Order",
    b"tests.contract.test_encodings$Order",
    b"com.example.Receipt",
    b"com.example.order",
    b"org.amqproxy.kinds.Kinds",
    b"org.amqproxy.kinds.Plain",
    b"google.protobuf.Any",
    b"type.googleapis.com/amqproxy.kinds.Scalars",
    b"Scalars",
    b"kinds_pb2.Scalars",
    b"tests.idl.kinds_thrift.ttypes.Kinds",
    b"com.github.sstone.amqp.proxy.AmqpProxy$ServerFailure",
)


async def test_class_names_that_are_not_served_are_unimplemented(mq: amqproxy.Client, raw: Raw, service: str) -> None:
    async with unharmed(mq, service):
        for name in ODD_CLASSES:
            name = name.replace(b"SERVICE", service.encode())
            for encoding in (b"json", b"protobuf", b"thrift", b"gzip-json"):
                error = await refused(raw, service, b"{}", name, encoding)
                assert error["code"] == "unimplemented"
                assert "does not serve" in error["text"] and f"{service}.add" in error["text"]


async def test_a_message_of_one_method_is_not_anothers(mq: amqproxy.Client, raw: Raw, service: str) -> None:
    async with unharmed(mq, service):
        error = await refused(raw, service, b'{"left":{}}', b"org.amqproxy.kinds.Scalars", b"json")
        assert error["code"] == "invalid_argument"
        error = await refused(raw, service, written("put", "thrift"), b"tests.idl.kinds_thrift.ttypes.Tree", b"json")
        assert error["code"] == "unimplemented"


# Broken replies


@asynccontextmanager
async def foreign_worker(
    mq: amqproxy.Client, raw: Raw, body: Callable[[Message], bytes], **properties: bytes
) -> AsyncIterator[Any]:
    """A proxy whose worker is not ours: it answers all with these bytes and properties."""

    async def answer_all() -> None:
        while True:
            request = await raw.messages.get()
            reply: dict[str, Any] = {
                "content_type": b"x",
                "content_encoding": request.properties.content_encoding,
                "correlation_id": request.properties.correlation_id,
            } | properties
            assert request.properties.reply_to is not None
            raw.publish(request.properties.reply_to.decode(), body(request), **reply)

    answering = asyncio.create_task(answer_all())
    try:
        yield mq.proxy(Shop, routing_key=raw.reply_to.decode(), timeout=20)
    finally:
        answering.cancel()


BAD_REPLIES: dict[str, tuple[str, str, Callable[[], bytes]]] = {
    "half a protobuf": ("paint", "protobuf", lambda: written("paint", "protobuf")[:-1]),
    "json in protobuf": ("paint", "protobuf", lambda: b'{"anInt32":1}'),
    "an unknown enum": ("paint", "protobuf", lambda: b"\x80\x01\x09"),
    "a number for a message": ("paint", "json", lambda: b"5"),
    "a nest of json": ("paint", "json", lambda: b'{"left":' * 100_000),
    "nothing in thrift": ("put", "thrift", bytes),
    "half a thrift": ("put", "thrift", lambda: written("put", "thrift")[:-1]),
    "a missing field": ("put", "thrift", lambda: MISSING_ID),
    "a nest of thrift": ("climb", "thrift", lambda: b"\x0c\x00\x02" * 100_000),
    "a list of 2 Gi": ("climb", "thrift", lambda: b"\x0f\x00\x03\x0c\x7f\xff\xff\xff"),
    "a gzip bomb": ("add", "gzip-json", gzip_bomb),
    "a snappy bomb": ("add", "snappy-json", lambda: bytes(cramjam.snappy.compress_raw(BOMB))),
    "a snappy lie": ("add", "snappy-json", lambda: b"\xff\xff\xff\xff\x07\x00a"),
    "a zstd bomb": ("add", "zstd-json", lambda: bytes(cramjam.zstd.compress(BOMB))),
    "an lz4 bomb": ("put", "lz4-thrift", lambda: bytes(cramjam.lz4.compress(BOMB))),
    "half a zstd": ("add", "zstd-json", lambda: compressed("zstd", b"3")[:-1]),
    "no zstd at all": ("add", "zstd-json", lambda: b"3"),
    "another type": ("add", "gzip-json", lambda: gzip.compress(b'"3"')),
}


async def test_a_reply_that_does_not_decode_is_a_bad_reply(mq: amqproxy.Client, raw: Raw) -> None:
    for bad, (method, encoding, body) in BAD_REPLIES.items():
        content = body()
        async with foreign_worker(mq, raw, lambda _, content=content: content) as shop:  # type: ignore[misc]
            arguments = (1, 2) if method == "add" else (GOOD[method][0],)
            with pytest.raises(amqproxy.BadReply, match="the reply does not fit: ") as caught:
                await getattr(amqproxy.options(shop, encoding=encoding), method)(*arguments)
            assert caught.value.executed == "yes", bad
            assert method in str(caught.value)
            assert len(str(caught.value)) < 4000


@pytest.mark.parametrize(
    "encoding", [b"protobuf", b"snappy-json", b"JSON", b"json; charset=utf-8", b"\xff", b"x" * 255]
)
async def test_a_reply_in_another_encoding_is_a_bad_reply(mq: amqproxy.Client, raw: Raw, encoding: bytes) -> None:
    async with foreign_worker(mq, raw, lambda _: b"3", content_encoding=encoding) as shop:
        with pytest.raises(amqproxy.BadReply, match=r"add: the reply is encoded as '.*', and '.*' was asked for"):
            await shop.add(1, 2)
        assert not shop.add.line.calls


async def test_a_reply_that_names_no_encoding_is_in_that_of_the_request(mq: amqproxy.Client, raw: Raw) -> None:
    async with foreign_worker(mq, raw, lambda request: request.body, content_encoding=b"") as shop:
        assert await shop.put(thrifty.Item(5)) == thrifty.Item(5)
        assert await shop.paint(kinds.Scalars(an_int32=5)) == kinds.Scalars(an_int32=5)


def some_calls(shop: Any) -> tuple[Callable[[], Any], ...]:
    return lambda: shop.add(1, 2), lambda: shop.paint(kinds.Scalars()), lambda: shop.put(thrifty.Item(1))


@pytest.mark.parametrize("body", [b"", b"{}", b'{"message":5}', b"[" * 100_000, b"\xff", b'{"message":"x","error":5}'])
async def test_a_failure_that_does_not_decode_is_a_bad_reply(mq: amqproxy.Client, raw: Raw, body: bytes) -> None:
    async with foreign_worker(mq, raw, lambda _: body, content_type=FAILURE) as shop:
        for call in some_calls(shop):
            with pytest.raises(amqproxy.BadReply):
                await call()


async def test_a_failure_is_json_whatever_the_request_was(mq: amqproxy.Client, raw: Raw) -> None:
    body = b'{"message":"no","throwableAsString":"java.lang.IllegalArgumentException: no"}'
    async with foreign_worker(
        mq, raw, lambda _: body, content_type=FAILURE
    ) as shop:  # encoded, it says, as the request
        for call in some_calls(shop):
            with pytest.raises(amqproxy.RemoteError, match="no") as caught:
                await call()
            assert caught.value.type == "java.lang.IllegalArgumentException"


# Compression above a size


@pytest.mark.parametrize("compression", COMPRESSIONS)
async def test_only_requests_above_the_size_are_compressed(mq: amqproxy.Client, raw: Raw, compression: str) -> None:
    seen: list[Message] = []

    def answer(request: Message) -> bytes:
        seen.append(request)
        return compressed(compression, b'"ok"') if request.properties.content_encoding != b"json" else b'"ok"'

    async with foreign_worker(mq, raw, answer) as shop:
        above = amqproxy.options(shop, compress_above=100, compression=compression)
        just, more = "x" * 89, "x" * 90  # {"text":"…"} is eleven bytes more
        assert [await above.echo(text) for text in ("", just, more, "x" * 5000)] == ["ok"] * 4
        assert [request.properties.content_encoding for request in seen] == [
            *(b"json", b"json"),
            *[f"{compression}-json".encode()] * 2,
        ]
        assert len(seen[1].body) == 100
        assert COMPRESSIONS[compression].decompress(seen[2].body, LIMIT) == b'{"text":"%s"}' % more.encode()
        assert len(seen[3].body) < 500


@pytest.mark.parametrize("method", GOOD)
async def test_compression_above_a_size_goes_with_every_codec(mq: amqproxy.Client, service: str, method: str) -> None:
    argument, expected = GOOD[method]
    async with unharmed(mq, service) as shop:
        for encoding in ENCODINGS[method]:
            for above in (0, 1 << 20):
                for compression in COMPRESSIONS:
                    options = {"compress_above": above, "compression": compression, "encoding": encoding}
                    if encoding.partition("-")[0] not in COMPRESSIONS:
                        assert await getattr(amqproxy.options(shop, **options), method)(argument) == expected


async def test_what_is_compressed_already_cannot_be_compressed_again(mq: amqproxy.Client, service: str) -> None:
    for encoding in ("zstd-json", "snappy-protobuf"):
        with pytest.raises(ValueError, match=f"{encoding} is compressed already"):
            mq.proxy(Shop, name=service, compress_above=0, encoding=encoding)
        with pytest.raises(ValueError, match=f"{encoding} is compressed already"):
            amqproxy.options(mq.proxy(Shop, name=service, encoding=encoding), compress_above=0)


async def test_compression_above_a_size_keeps_to_the_proxys_limit_of_calls(mq: amqproxy.Client, service: str) -> None:
    class Slow:
        async def wait(self, text: str) -> str:
            await go_on.wait()
            return text

    go_on = asyncio.Event()
    async with mq.serve(Slow(), name=service, auto_delete=True):
        slow = mq.proxy(Slow, name=service, compress_above=50, max_in_flight=2)
        calls = [asyncio.ensure_future(slow.wait("x" * size)) for size in (1, 1000)]
        await asyncio.sleep(0)
        for size in (1, 1000):
            with pytest.raises(amqproxy.Overloaded, match="max_in_flight"):
                await slow.wait("x" * size)
        go_on.set()
        assert await asyncio.gather(*calls) == ["x", "x" * 1000]
        assert await slow.wait("y") == "y"


async def test_a_failure_of_a_compressed_call_is_told_as_any_other(mq: amqproxy.Client, service: str) -> None:
    async with unharmed(mq, service) as shop:
        for compression in COMPRESSIONS:
            small = amqproxy.options(shop, compress_above=0, compression=compression)
            with pytest.raises(ZeroDivisionError):
                await small.divide(1, 0)
            with pytest.raises(amqproxy.ContractError):
                await small.add("x", 2)


async def test_a_proxy_made_from_a_name_compresses_too(mq: amqproxy.Client, service: str) -> None:
    async with unharmed(mq, service):
        named = mq.proxy(service, compress_above=0)
        assert await named.add(1, 2) == 3
        assert await named.echo(text="x" * 1000) == "x" * 1000
        assert await named(Order(["pen"])) == {"count": 1}
        assert await mq.proxy(service, encoding="gzip-json").add(x=1, y=2) == 3
        with pytest.raises(amqproxy.ContractError, match="make the proxy from the service's class"):
            await mq.proxy(service, encoding="snappy-protobuf").add(1, 2)


# Limits


async def test_each_side_has_a_limit_of_what_it_decompresses(amqp_url: str, service: str) -> None:
    long, short = "x" * 2000, "x" * 900
    async with amqproxy.connect(amqp_url, max_decompressed_bytes=1000) as small, amqproxy.connect(amqp_url) as large:
        for encoding in (f"{name}-json" for name in COMPRESSIONS):
            async with small.serve(Shop(), name=service, auto_delete=True):
                shop = large.proxy(Shop, name=service, encoding=encoding)
                assert await shop.echo(short) == short
                with pytest.raises(amqproxy.RemoteError, match="max_decompressed_bytes") as refusal:
                    await shop.echo(long)
                assert (refusal.value.code, refusal.value.executed) == ("resource_exhausted", "no")
                with pytest.raises(amqproxy.MessageTooLarge, match="max_decompressed_bytes is 1000"):
                    await small.proxy(Shop, name=service, encoding=encoding).echo(long)
                as_it_is = small.proxy(Shop, name=service, compress_above=0)  # as nobody might decompress it
                assert await as_it_is.echo(long) == long
                assert await amqproxy.options(shop, encoding="json").echo(long) == long
            async with large.serve(Repeating(), name=service, auto_delete=True):
                with pytest.raises(amqproxy.BadReply, match="max_decompressed_bytes"):
                    await small.proxy(Repeating, name=service, encoding=encoding).repeat("x", 2000)
            async with small.serve(Repeating(), name=service, auto_delete=True):
                with pytest.raises(amqproxy.RemoteError, match="returned too much") as too_much:
                    await large.proxy(Repeating, name=service, encoding=encoding).repeat("x", 2000)
                assert (too_much.value.code, too_much.value.executed) == ("resource_exhausted", "yes")


class Repeating:
    async def repeat(self, text: str, count: int) -> str:
        return text * count


# Codecs of users


class PackedShape:
    def __init__(self, kind: Any) -> None:
        self._kind = kind
        self._decode = msgspec.msgpack.Decoder(kind).decode

    def encode(self, value: Any) -> bytes:
        try:
            msgspec.convert(msgspec.to_builtins(value), self._kind)
            return msgspec.msgpack.encode(value)
        except (msgspec.ValidationError, TypeError) as error:
            raise Mismatch(str(error)) from error

    def decode(self, body: bytes) -> Any:
        try:
            return self._decode(body)
        except msgspec.DecodeError as error:
            raise DecodingFailed(str(error)) from error


class MessagePack:
    """A codec as a user would write one."""

    name = "msgpack"
    forms: Collection[Form] = frozenset[Form](("plain",))

    def request(self, method: Method) -> Shape:
        return PackedShape(method.request_type)

    def result(self, method: Method) -> Shape:
        return PackedShape(method.result_type)

    def anything(self) -> Shape:
        return PackedShape(Any)


async def test_a_codec_of_the_users_own_carries_calls(mq: amqproxy.Client, raw: Raw, service: str) -> None:
    codec: Codec = MessagePack()
    async with unharmed(mq, service, codecs=(codec,)) as shop:
        packed = amqproxy.options(shop, encoding=codec)
        assert await packed.add(1, 2) == 3
        assert await packed.order(Order(["pen"])) == Receipt(1)
        assert await amqproxy.options(packed, compress_above=0, compression="zstd").echo("x" * 99) == "x" * 99
        assert await mq.proxy(service, encoding=codec).echo(text="x") == "x"
        body = msgspec.msgpack.encode({"x": 1, "y": 2})
        for encoding, sent in ((b"msgpack", body), (b"zstd-msgpack", compressed("zstd", body))):
            answer = await raw.ask(service, sent, content_type=f"{service}.add".encode(), content_encoding=encoding)
            assert answer.properties.content_encoding == encoding
            assert answer.body == (compressed("zstd", b"\x03") if encoding[:4] == b"zstd" else b"\x03")
        error = await refused(raw, service, b"\x81", f"{service}.add".encode(), b"msgpack")
        assert error["code"] == "invalid_argument"
        error = await refused(raw, service, b"", f"{service}.put".encode(), b"msgpack")
        assert (error["code"], "does not travel as msgpack" in error["text"]) == ("unimplemented", True)
        with pytest.raises(amqproxy.ContractError, match="does not travel as msgpack"):
            await packed.put(thrifty.Item(1))
        with pytest.raises(amqproxy.ContractError, match="Expected `int`, got `str`"):
            await packed.add("1", 2)


async def test_a_codec_that_only_the_caller_knows_is_refused_by_the_worker(mq: amqproxy.Client, service: str) -> None:
    async with unharmed(mq, service) as shop:
        with pytest.raises(amqproxy.RemoteError, match="'msgpack' is not known here; known are json, ") as caught:
            await amqproxy.options(shop, encoding=MessagePack()).add(1, 2)
        assert (caught.value.code, caught.value.executed) == ("unimplemented", "no")
        with pytest.raises(ValueError, match="there is no encoding 'msgpack'; there are json, "):
            amqproxy.options(shop, encoding="msgpack")


class Clumsy(MessagePack):
    """One that fails in every way."""

    name = "clumsy"

    def __init__(self, where: str, error: BaseException) -> None:
        self._where = where
        self._error = error

    def request(self, method: Method) -> Shape:
        if self._where == "request":
            raise self._error
        return self if self._where == "decode" else PackedShape(method.request_type)

    def result(self, method: Method) -> Shape:
        return self if self._where == "encode" else PackedShape(method.result_type)

    def encode(self, value: Any) -> bytes:
        raise self._error

    def decode(self, body: bytes) -> Any:
        raise self._error


failing = pytest.mark.parametrize(
    "error",
    [ValueError("v"), TypeError("t"), RecursionError("r"), amqproxy.ContractError("c"), MemoryError("m")],
    ids=lambda error: type(error).__name__,
)


@failing
@pytest.mark.parametrize("where", ["decode", "encode"])
async def test_a_codec_that_fails_harms_its_own_calls_only(
    mq: amqproxy.Client, raw: Raw, service: str, where: str, error: Exception
) -> None:
    async with unharmed(mq, service, codecs=(Clumsy(where, error),)) as shop:
        body = msgspec.msgpack.encode({"x": 1, "y": 2})
        for encoding, sent in ((b"clumsy", body), (b"gzip-clumsy", compressed("gzip", body))):
            for _ in range(2):
                answer = await raw.ask(service, sent, content_type=f"{service}.add".encode(), content_encoding=encoding)
                assert failure(answer)["traceback"] is None
        assert await shop.add(1, 2) == 3


@failing
async def test_a_codec_that_cannot_carry_a_method_is_told_of_before_anything_is_served(
    mq: amqproxy.Client, service: str, error: Exception
) -> None:
    """Were it asked only when a request comes, each request would meet it in the midst of the connection."""
    with pytest.raises(amqproxy.ContractError, match=r"Shop\.add\(x: int, y: int\) -> int: clumsy cannot carry this"):
        async with mq.serve(Shop(), name=service, auto_delete=True, codecs=(Clumsy("request", error),)):
            pass
    with pytest.raises(amqproxy.ContractError, match="clumsy cannot carry this"):
        await mq.proxy(Shop, name=service, encoding=Clumsy("request", error)).add(1, 2)


def test_a_codec_whose_name_is_taken_or_that_is_none_is_refused(service: str) -> None:
    taken = type("Taken", (MessagePack,), {"name": "json"})()
    with pytest.raises(ValueError, match="there is an encoding 'json' already"):
        codecs(LIMIT, (taken,))
    with pytest.raises(ValueError, match="there is an encoding 'msgpack' already"):
        codecs(LIMIT, (MessagePack(), MessagePack()))
    with pytest.raises(TypeError, match="is a class, give an instance"):
        amqproxy.serve(service, codecs=(MessagePack,))
    with pytest.raises(TypeError, match="is no codec: it lacks name, forms"):
        amqproxy.serve(service, codecs=("json",))
    with pytest.raises(TypeError, match="codecs is a tuple"):
        amqproxy.serve(service, codecs=MessagePack())


async def test_a_worker_whose_codecs_clash_does_not_start(mq: amqproxy.Client, service: str) -> None:
    taken = type("Taken", (MessagePack,), {"name": "snappy-json"})()
    with pytest.raises(ValueError, match="'snappy-json'"):
        async with mq.serve(Shop(), name=service, auto_delete=True, codecs=(taken,)):
            pass
    with pytest.raises(TypeError, match="is a class, give an instance"):
        mq.proxy(Shop, name=service, encoding=MessagePack)


# Extras that are missing


@pytest.mark.parametrize(
    ("encoding", "extra"),
    [
        ("protobuf", "protobuf"),
        ("snappy-protobuf", "protobuf"),
        ("thrift", "thrift"),
        ("thrift-compact", "thrift"),
        ("gzip-thrift-compact", "thrift"),
    ],
)
async def test_an_encoding_without_its_library_names_what_to_install(
    mq: amqproxy.Client, service: str, monkeypatch: pytest.MonkeyPatch, encoding: str, extra: str
) -> None:
    monkeypatch.setattr(registry, "find_spec", lambda name: None)
    calls: tuple[Callable[[], Any], ...] = (
        lambda: mq.proxy(service, encoding=encoding),
        lambda: amqproxy.options(mq.proxy(service), encoding=encoding),
    )
    for make in calls:
        with pytest.raises(ValueError) as caught:
            make()
        assert str(caught.value).endswith(f"pip install 'amqproxy[{extra}]'")
        assert encoding in str(caught.value)
    mq.proxy(service, encoding="json")
    mq.proxy(service, encoding="snappy-json")


# Correlation ids


class Reader:
    async def read(self) -> str:
        id = amqproxy.current().properties.correlation_id
        assert id is not None
        return id.decode()


async def test_correlation_ids_can_be_whole_numbers(amqp_url: str, service: str) -> None:
    async with amqproxy.connect(amqp_url, correlation_ids="counter") as mq:
        async with mq.serve(Reader(), name=service, auto_delete=True, exchange=f"{service}.exchange"):
            proxies = [
                mq.proxy(Reader, name=service),
                mq.proxy(Reader, name=service, exchange=f"{service}.exchange"),
                mq.proxy(Reader, name=service, compress_above=0),
                mq.proxy(service, idempotent=True),
            ]
            ids = await asyncio.gather(*(proxy.read() for _ in range(250) for proxy in proxies))
            channel = await (await mq._live_connection().link())._channel()
            await channel.exchange_delete(f"{service}.exchange")
        assert len(set(ids)) == 1000
        for id in ids:
            assert id.isascii() and id.isdigit() and id[0] != "0"
            assert 0 < int(id) < 2**63
            assert str(int(id)) == id
        assert len({len(id) for id in ids}) == 1


async def test_correlation_ids_are_secrets_unless_told_otherwise(mq: amqproxy.Client, service: str) -> None:
    async with mq.serve(Reader(), name=service, auto_delete=True):
        ids = [await mq.proxy(Reader, name=service).read() for _ in range(3)]
    assert len(set(ids)) == 3
    assert not any(id.isdigit() for id in ids)
    with pytest.raises(ValueError, match="correlation_ids is 'secret', 'counter', not 'random'"):
        amqproxy.connect("amqp://localhost", correlation_ids="random")


# Another try


class Flaky:
    def __init__(self, failures: int) -> None:
        self.failures = failures
        self.tries: list[bool] = []

    async def work(self, x: int) -> int:
        self.tries.append(amqproxy.current().redelivered)
        if len(self.tries) <= self.failures:
            raise ValueError(f"try {len(self.tries)}")
        return x


async def test_a_request_that_fails_may_be_tried_once_more(mq: amqproxy.Client, service: str) -> None:
    once = Flaky(1)
    async with mq.serve(once, name=service, auto_delete=True, requeue_once=True):
        assert await mq.proxy(Flaky, name=service).work(5) == 5
    assert once.tries == [False, True]


async def test_a_request_that_fails_twice_is_a_failure(mq: amqproxy.Client, service: str) -> None:
    twice = Flaky(2)
    async with mq.serve(twice, name=service, auto_delete=True, requeue_once=True) as worker:
        with pytest.raises(ValueError, match="try 2") as caught:
            await mq.proxy(Flaky, name=service).work(5)
        assert isinstance(caught.value, amqproxy.RemoteError)
        assert worker.answered == 1
    assert twice.tries == [False, True]


async def test_a_request_that_fails_is_tried_once_only_unless_told_otherwise(mq: amqproxy.Client, service: str) -> None:
    once = Flaky(1)
    async with mq.serve(once, name=service, auto_delete=True):
        with pytest.raises(ValueError, match="try 1"):
            await mq.proxy(Flaky, name=service).work(5)
    assert once.tries == [False]


async def test_the_other_try_may_be_another_workers(amqp_url: str, mq: amqproxy.Client, service: str) -> None:
    bad, good = Flaky(1), Flaky(0)
    options: dict[str, Any] = {"name": service, "auto_delete": True, "requeue_once": True}
    async with amqproxy.connect(amqp_url) as other, mq.serve(bad, **options), other.serve(good, **options):
        assert await mq.proxy(Flaky, name=service).work(5) == 5
    assert (bad.tries, good.tries) == ([False], [True])  # brokers go round: it is the other's turn


async def test_refusals_are_told_after_another_try_as_well(mq: amqproxy.Client, raw: Raw, service: str) -> None:
    async with unharmed(mq, service, requeue_once=True):
        for content_type, encoding, code in (
            (b"nobody", b"json", "unimplemented"),
            (f"{service}.add".encode(), b"nothing", "unimplemented"),
            (f"{service}.add".encode(), b"json", "invalid_argument"),
            (f"{service}.paint".encode(), b"protobuf", "invalid_argument"),
        ):
            error = await refused(raw, service, b"\xff", content_type, encoding, executed="maybe")
            assert error["code"] == code
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await raw.messages.get()


# Failures without details


async def test_failures_can_be_those_of_the_original_to_the_byte(mq: amqproxy.Client, raw: Raw, service: str) -> None:
    async with unharmed(mq, service, failure_details=False) as shop:
        answer = await raw.ask(service, b"[1,0]", content_type=f"{service}.divide".encode())
        assert answer.properties.content_type == FAILURE
        assert answer.body == (
            b'{"message":"division by zero","throwableAsString":"ZeroDivisionError: division by zero"}'
        )
        for content_type, encoding in ((b"nobody", b""), (f"{service}.add".encode(), b"nothing")):
            answer = await raw.ask(service, b"", content_type=content_type, content_encoding=encoding)
            assert list(json.loads(answer.body)) == ["message", "throwableAsString"]
        with pytest.raises(ZeroDivisionError, match="division by zero"):
            await shop.divide(1, 0)


async def test_a_body_that_is_too_large_is_told_without_details_too(amqp_url: str, raw: Raw, service: str) -> None:
    async with (
        amqproxy.connect(amqp_url, max_body_bytes=1000) as mq,
        mq.serve(Repeating(), name=service, auto_delete=True, failure_details=False),
    ):
        for body in (b'["%s",1]' % (b"x" * 1000), b'["x",2000]'):
            answer = await raw.ask(service, body, content_type=f"{service}.repeat".encode())
            assert answer.properties.content_type == FAILURE
            told = json.loads(answer.body)
            assert list(told) == ["message", "throwableAsString"]
            assert "max_body_bytes is 1000" in told["message"]
