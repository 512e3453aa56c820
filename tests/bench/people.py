"""One record in three forms of message, to compare encodings by: a person whose name is a text of any length."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

import amqproxy
from tests.idl.person_pb2 import Person as ProtobufPerson
from tests.idl.person_thrift.ttypes import Person as ThriftPerson

EMAIL = "ada@example.com"


@dataclass(slots=True)
class Person:
    """The form that amqproxy writes itself."""

    id: int
    name: str
    email: str | None = None


class People:
    """Echoes of all three."""

    async def plain(self, person: Person) -> Person:
        """Return the person."""
        return person

    async def protobuf(self, person: ProtobufPerson) -> ProtobufPerson:
        """Return the person."""
        return person

    async def thrift(self, person: ThriftPerson) -> ThriftPerson:
        """Return the person."""
        return person


amqproxy.message("bench.Person")(Person)
amqproxy.message("bench.ThriftPerson")(ThriftPerson)


def form_of(encoding: str) -> str:
    """The method that an encoding is for."""
    for form in ("protobuf", "thrift"):
        if form in encoding:
            return form
    return "plain"


def person(encoding: str, id: int, name: str) -> Any:
    """A person in the form that an encoding is for."""
    if form_of(encoding) == "protobuf":
        return ProtobufPerson(id=id, name=name, email=EMAIL)
    return (ThriftPerson if form_of(encoding) == "thrift" else Person)(id, name, EMAIL)


def prose(size: int) -> str:
    """A text of made-up words, which compresses as texts do: not like one letter many times, not like noise."""
    rng = random.Random(1)  # the same text each time
    words = ["".join(rng.choices("etaoinshrdlcumwfgypb", k=rng.randint(2, 9))) for _ in range(400)]
    weights = [1 / rank for rank in range(1, len(words) + 1)]  # as in any language, few words are most of the text
    text = " ".join(rng.choices(words, weights, k=size // 3 + 8))
    return text[:size]
