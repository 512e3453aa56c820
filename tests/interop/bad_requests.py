"""What is wrong with requests, and what docs/wire.md has a worker say to it, in whatever language it is written."""

from __future__ import annotations

import json
import struct
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import cramjam
from calculator_pb2 import AddRequest as Protobuf
from calculator_thrift import ttypes as thrift
from thrift.TSerialization import serialize

from tests.contract.raw import Message, Raw

FAILURE = b"com.github.sstone.amqp.proxy.AmqpProxy$ServerFailure"
PACKAGE = "com.github.sstone.amqp.proxy.calculator"
SERVICE = "SERVICE"
"""Stands for the service's name, which is another in each test."""


@dataclass(frozen=True, slots=True)
class BadRequest:
    """A request that no worker runs."""

    fault: str
    code: str
    body: bytes = b'{"x": 1, "y": 2}'
    content_type: str | None = f"{SERVICE}.add"
    encoding: str | None = "json"
    says: str = ""
    """A part of the failure's message."""

    def properties(self, service: str) -> dict[str, bytes]:
        given = {"content_type": self.content_type, "content_encoding": self.encoding}
        return {name: value.replace(SERVICE, service).encode() for name, value in given.items() if value is not None}


def snappy(body: bytes) -> bytes:
    return bytes(cramjam.snappy.compress_raw(body))


def unfit(fault: str, body: bytes) -> BadRequest:
    return BadRequest(fault, "invalid_argument", body)


DEEP = 100_000
MISTAKEN = (
    BadRequest("no content-type", "invalid_argument", content_type=None, says="content-type"),
    BadRequest("an unknown class", "unimplemented", content_type=f"{SERVICE}.subtract", says="subtract"),
    BadRequest("another class", "unimplemented", content_type="java.lang.Runtime", says="java.lang.Runtime"),
    BadRequest("an unknown encoding", "unimplemented", encoding="xml", says="xml"),
    BadRequest("an encoding in capitals", "unimplemented", encoding="JSON", says="JSON"),
    BadRequest("an unknown one, compressed", "unimplemented", snappy(b"<x/>"), encoding="snappy-xml", says="xml"),
    BadRequest("no compression", "unimplemented", encoding="-json", says="-json"),
    unfit("no body", b""),
    unfit("half a body", b'{"x": 1, "y"'),
    unfit("bytes after the end", b'{"x": 1, "y": 2}x'),
    unfit("a second value", b"[1, 2] [3, 4]"),
    unfit("too few by position", b"[1]"),
    unfit("too many by position", b"[1, 2, 3]"),
    unfit("too many by name", b'{"x": 1, "y": 2, "z": 3}'),
    unfit("another name", b'{"x": 1, "z": 2}'),
    unfit("no parameters", b"{}"),
    unfit("one is missing", b'{"x": 1}'),
    unfit("one is null", b'{"x": 1, "y": null}'),
    unfit("one is text", b'{"x": 1, "y": "2"}'),
    unfit("one is true", b"[1, true]"),
    unfit("one has a fraction", b"[1, 2.5]"),
    unfit("a number", b"3"),
    unfit("null", b"null"),
    unfit("text of two letters", b'"12"'),
    unfit("nested too deep", b"[" * DEEP + b"]" * DEEP),
)


def damaged(encoding: str, content_type: str, bodies: dict[str, bytes]) -> list[BadRequest]:
    return [
        BadRequest(f"{fault}, in {encoding}", "invalid_argument", body, content_type, encoding)
        for fault, body in bodies.items()
    ]


def damaged_snappy(encoding: str, content_type: str, body: bytes) -> list[BadRequest]:
    """An encoding's good body, spoilt by the compression."""
    good = snappy(body)
    bodies = {"not compressed": body, "cut off": good[:-1], "bytes after the end": good + b"x", "empty": b""}
    return damaged(encoding, content_type, bodies | {"compressed, and wrong": snappy(body + b"x")})


PROTOBUF = f"{PACKAGE}.Calculator$AddRequest"
THRIFT = f"{PACKAGE}.AddRequest"
IN_PROTOBUF = Protobuf(x=1, y=2).SerializeToString()
IN_THRIFT = serialize(thrift.AddRequest(1, 2))
DAMAGED = {
    "protobuf": damaged(
        "protobuf",
        PROTOBUF,
        {
            "empty": b"",
            "a field is missing": Protobuf(x=1).SerializePartialToString(),
            "cut off": IN_PROTOBUF[:-1],
            "a byte after the end": IN_PROTOBUF + b"\xff",
            "JSON": b"[1, 2]",
        },
    ),
    "thrift": damaged(
        "thrift",
        THRIFT,
        {
            "empty": b"",
            "a field is missing": struct.pack(">bhib", 8, 1, 1, 0),
            "cut off": IN_THRIFT[:-1],
            "a byte after the end": IN_THRIFT + b"\xff",
            "JSON": b"[1, 2]",
        },
    ),
    "snappy-json": damaged_snappy("snappy-json", f"{SERVICE}.add", b"[1, 2]"),
    "snappy-protobuf": damaged_snappy("snappy-protobuf", PROTOBUF, IN_PROTOBUF),
    "snappy-thrift": damaged_snappy("snappy-thrift", THRIFT, IN_THRIFT),
}
"""By encoding, of those that not every worker has."""
CLAIMS = (b"\xff\xff\xff\xff\x07", b"\xff\xff\xff\xff\x0f", b"\x80\x80\x80\x80\x08")
"""Blocks of snappy that say that they hold gigabytes: their first bytes, and no more."""


def bad_requests(encodings: Collection[str]) -> list[BadRequest]:
    """What a worker refuses that knows these encodings."""
    return [*MISTAKEN, *(request for encoding in encodings for request in DAMAGED.get(encoding, []))]


def failure(reply: Message) -> dict[str, Any]:
    """The body of a failure."""
    assert (reply.properties.content_type, reply.properties.content_encoding) == (FAILURE, b"json"), reply
    body: dict[str, Any] = json.loads(reply.body)
    return body


def refusal(reply: Message) -> tuple[Any, ...]:
    """What a program goes by."""
    error = failure(reply)["error"]
    assert error["type"]
    return error["code"], error["executed"], error["retryable"]


async def serves(raw: Raw, service: str) -> None:
    """Whether the worker goes on."""
    reply = await raw.ask(service, b"[1, 2]", content_type=f"{service}.add".encode(), correlation_id=b"good")
    assert (reply.body, reply.properties.correlation_id) == (b"3", b"good")


async def refuses(raw: Raw, service: str, encodings: Collection[str]) -> None:
    """Send a worker everything that is bad: it says what docs/wire.md says, and goes on serving."""
    for number, request in enumerate(bad_requests(encodings)):
        ids = {"correlation_id": f"№ {number}".encode(), "message_id": b"not asked for"}
        reply = await raw.ask(service, request.body, **ids, **request.properties(service))
        assert reply.properties.correlation_id == ids["correlation_id"], request.fault
        assert refusal(reply) == (request.code, "no", False), request.fault
        told = failure(reply)
        assert request.says in told["message"], request.fault
        assert told["message"] in told["throwableAsString"], request.fault
        await serves(raw, service)

    add = f"{service}.add".encode()
    if "snappy-json" in encodings:
        for body in CLAIMS:
            reply = await raw.ask(service, body, content_type=add, content_encoding=b"snappy-json")
            # It is too large, and damaged.
            assert refusal(reply)[:2] in {("resource_exhausted", "no"), ("invalid_argument", "no")}, body
            await serves(raw, service)


async def minds_the_ids(raw: Raw, service: str) -> None:
    """An id comes back if there is one, and who does not ask gets nothing; so with good requests, and with bad ones."""
    add = f"{service}.add".encode()
    for body in (b"[1, 2]", b"[1, 2"):
        assert (await raw.ask(service, body, content_type=add, message_id=b"mine")).properties.correlation_id == b"mine"
        assert not (await raw.ask(service, body, content_type=add)).properties.correlation_id
        raw.publish(service, body, content_type=add, correlation_id=b"quiet")
    raw.publish(service, b"", correlation_id=b"quiet")
    await serves(raw, service)
    assert raw.messages.empty()
