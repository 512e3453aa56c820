"""The golden vectors, as README.md beside this describes their files, and the service that they speak to."""

from __future__ import annotations

import base64
import json
from dataclasses import asdict, dataclass, is_dataclass
from pathlib import Path
from typing import Any

import any_language
import msgspec

import amqproxy
from amqproxy.messages import form_of
from amqproxy.properties import Properties
from tests.idl.person_pb2 import Person as ProtobufPerson
from tests.idl.person_thrift.ttypes import Person as ThriftPerson

HERE = Path(__file__).parent
REPLY_TO = "amqproxy.vectors.replies"
"""Where the requests want their replies, but for the recorded ones."""


@dataclass(frozen=True, slots=True)
class Vector:
    """One message that a foreign program made."""

    name: str
    kind: str
    properties: dict[str, Any]
    header: bytes
    """The property flags and list, encoded."""
    body: bytes
    value: Any = None
    """What the body means; None if nothing."""
    exact: bool = False
    """Whether an encoder that keeps to the rules can only write these bytes."""
    answer: str | None = None
    """The vector of the reply, for requests that get one."""
    code: str | None = None
    """The code of the failure, for requests that are refused."""
    sender: str = ""
    """Who sends it, "caller" or "worker", where the kind does not say that."""
    exchange: str = ""
    """Where it is published."""

    @property
    def encoding(self) -> str:
        return self.properties.get("content-encoding") or "json"

    @property
    def message_class(self) -> str:
        return str(self.properties["content-type"])


def load(manifest: str) -> list[Vector]:
    return [_vector(told) for told in json.loads((HERE / manifest).read_bytes())["vectors"]]


def _vector(told: dict[str, Any]) -> Vector:
    body = (HERE / told["file"]).read_bytes()
    assert body == base64.b64decode(told["body"])
    assert len(body) == told["size"]
    fields = ("name", "kind", "properties", "value", "exact", "answer", "code", "exchange")
    known = {name: told[name] for name in fields if name in told}
    return Vector(header=bytes.fromhex(told["header"]), body=body, sender=told.get("from", ""), **known)


def properties_of(vector: Vector) -> dict[str, Any]:
    """The properties as we read them, in the form of the manifest."""
    properties = Properties.decode(vector.header)
    known = {
        "content-type": properties.content_type,
        "content-encoding": properties.content_encoding,
        "headers": properties.headers,
        "delivery-mode": properties.delivery_mode,
        "priority": properties.priority,
        "correlation-id": properties.correlation_id,
        "reply-to": properties.reply_to,
        "expiration": properties.expiration,
        "message-id": properties.message_id,
        "timestamp": properties.timestamp,
        "app-id": properties.app_id,
    }
    told = {name: value.decode() if isinstance(value, bytes) else value for name, value in known.items()}
    return {name: value for name, value in told.items() if value is not None}


VECTORS = {vector.name: vector for manifest in ("vectors.json", "recorded.json") for vector in load(manifest)}
STREAMS = {vector.name: vector for vector in load("streams.json")}
"""The messages of calls that are more than a request and a reply."""


@amqproxy.message("com.github.sstone.amqp.proxy.Demo$AddRequest")
@dataclass
class AddRequest:
    x: int
    y: int


@amqproxy.message("com.github.sstone.amqp.proxy.Demo$AddResponse")
@dataclass
class AddResponse:
    x: int
    y: int
    sum: int


@amqproxy.message("com.github.sstone.amqp.proxy.Demo$DivideRequest")
@dataclass
class DivideRequest:
    x: int
    y: int


@amqproxy.message("com.github.sstone.amqp.proxy.Demo$DivideResponse")
@dataclass
class DivideResponse:
    quotient: float


@amqproxy.message("com.github.sstone.amqp.proxy.Demo$Person")
@dataclass
class Person:
    id: int
    name: str
    email: str | None = None


amqproxy.message("com.github.sstone.amqp.proxy.thrifttest.Person")(ThriftPerson)


@amqproxy.serve("calculator")
class Calculator(any_language.Calculator):
    """What the vectors call: sums, quotients, and persons that come back as they are."""

    async def add_case_class(self, request: AddRequest) -> AddResponse:
        return AddResponse(request.x, request.y, request.x + request.y)

    async def divide_case_class(self, request: DivideRequest) -> DivideResponse:
        return DivideResponse(request.x / request.y)

    async def same_person(self, person: Person) -> Person:
        return person

    async def same_message(self, person: ProtobufPerson) -> ProtobufPerson:
        return person

    async def same_struct(self, person: ThriftPerson) -> ThriftPerson:
        return person


def plain(value: Any) -> Any:
    """A value as the manifests write it: fields that are not there are left out."""
    if form_of(type(value)) == "protobuf":
        return {field.name: inner for field, inner in value.ListFields()}
    fields: Any
    if form_of(type(value)) == "thrift":
        fields = vars(value)
    elif isinstance(value, msgspec.Struct):
        fields = msgspec.structs.asdict(value)
    elif is_dataclass(value) and not isinstance(value, type):
        fields = asdict(value)
    else:
        return value
    return {name: inner for name, inner in fields.items() if inner is not None}
