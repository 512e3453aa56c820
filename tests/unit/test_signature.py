"""Parameters and fields as types: what a codec is given to read and write."""

from __future__ import annotations

import inspect
import typing
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Generator,
    Iterable,
    Iterator,
    Sequence,
)
from dataclasses import dataclass, field
from typing import Annotated, Any, NamedTuple, NewType, TypedDict

import attrs
import msgspec
import pydantic
import pytest

from amqproxy.blob import Blob
from amqproxy.errors import ContractError
from amqproxy.signature import Streamed, arguments_types, message_by_position, signature_of, streamed
from tests.idl.person_pb2 import Person as ProtobufPerson


def parameters(function: Any) -> list[inspect.Parameter]:
    return list(signature_of(function, "f").parameters.values())


def fields(struct: Any) -> list[tuple[str, bool]]:
    """Names, and whether each may be left out."""
    return [(each.name, not each.required) for each in msgspec.structs.fields(struct)]


def test_annotations_are_resolved_and_missing_ones_are_anything() -> None:
    def function(a: int, b, c: list[str] = []) -> dict[str, int]:  # type: ignore[no-untyped-def, empty-body]  # noqa: B006
        ...

    signature = signature_of(function, "f")
    assert [p.annotation for p in signature.parameters.values()] == [int, Any, list[str]]
    assert signature.return_annotation == dict[str, int]
    assert signature_of(lambda: None, "f").return_annotation is inspect.Signature.empty


def test_an_annotation_that_cannot_be_resolved_names_the_function() -> None:
    def function(a: Missing) -> None:  # type: ignore[name-defined]  # noqa: F821
        ...

    with pytest.raises(ContractError, match=r"an annotation of C\.f cannot be resolved: name 'Missing'"):
        signature_of(function, "C.f")


def test_what_has_no_signature_is_refused() -> None:
    class Selfless:
        def method() -> None:  # type: ignore[misc]
            ...

    with pytest.raises(ContractError, match="f does not take self"):
        signature_of(Selfless().method, "f")  # type: ignore[misc]
    with pytest.raises(ContractError, match="f has no signature"):
        signature_of(max, "f")


def test_open_ended_parameters_are_refused() -> None:
    def positional(*args: int) -> None: ...

    def named(**kwargs: int) -> None: ...

    for function, name in ((positional, "args"), (named, "kwargs")):
        with pytest.raises(ContractError, match=rf"f takes \*{name}, which a contract cannot describe"):
            signature_of(function, "f")


def test_parameters_become_an_object_and_an_array() -> None:
    def function(a: int, b: str = "x") -> None: ...

    keyed, array = arguments_types("function", parameters(function))
    assert fields(keyed) == fields(array) == [("a", False), ("b", True)]
    assert msgspec.json.decode(b'{"a":1}', type=keyed).b is msgspec.UNSET
    assert msgspec.json.decode(b'[1,"y"]', type=array) == array(1, "y")
    with pytest.raises(msgspec.ValidationError, match="unknown field"):
        msgspec.json.decode(b'{"a":1,"c":2}', type=keyed)


def test_what_can_only_be_named_has_no_place_in_the_array() -> None:
    def optional(a: int = 1, *, b: int = 2) -> None: ...

    def required(a: int = 1, *, b: int) -> None: ...

    keyed, array = arguments_types("optional", parameters(optional))
    assert fields(keyed) == [("a", True), ("b", True)]
    assert fields(array) == [("a", True)]
    keyed, array = arguments_types("required", parameters(required))
    assert sorted(fields(keyed)) == [("a", True), ("b", False)]
    assert array is None


@dataclass
class Data:
    a: int
    b: int = 0
    made: int = field(init=False, default=3)


@dataclass(kw_only=True)
class NamedOnly:
    a: int


class Plain(msgspec.Struct):
    a: int
    b: int = 0


class Arraylike(msgspec.Struct, array_like=True):
    a: int


class Pair(NamedTuple):
    a: int
    b: int


class Total(TypedDict):
    a: int
    b: int


Odd = TypedDict("Odd", {"content-type": str})


@attrs.define
class Private:
    _a: int
    b: int = 0


class Model(pydantic.BaseModel):
    a: int
    b: int = pydantic.Field(default=0, alias="bee")


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (Data, [("a", False), ("b", True)]),
        (Plain, [("a", False), ("b", True)]),
        (Total, [("a", False), ("b", False)]),
        (Private, [("a", False), ("b", True)]),
        (Model, [("a", False), ("b", True)]),
    ],
)
def test_a_messages_fields_have_the_order_of_its_constructor(kind: Any, expected: list[tuple[str, bool]]) -> None:
    assert fields(message_by_position(kind)) == expected


@pytest.mark.parametrize("kind", [NamedOnly, Arraylike, Pair, Odd])
def test_messages_that_are_arrays_or_must_be_named_have_no_other_array(kind: Any) -> None:
    assert message_by_position(kind) is None


def test_only_the_last_fields_of_an_array_can_be_left_out() -> None:
    class Mixed(pydantic.BaseModel):
        a: int = 1
        b: int

    assert fields(message_by_position(Mixed)) == [("a", False), ("b", False)]


Wrapped = NewType("Wrapped", ProtobufPerson)


def test_a_generated_message_is_seen_through_what_is_around_it_and_other_types_keep_it() -> None:
    def function(
        a: Annotated[ProtobufPerson, "who"], b: Wrapped, c: Annotated[Wrapped, 1], d: Annotated[int, "n"]
    ) -> Annotated[ProtobufPerson, 2]:
        raise NotImplementedError

    signature = signature_of(function, "f")
    assert [p.annotation for p in signature.parameters.values()] == [*[ProtobufPerson] * 3, Annotated[int, "n"]]
    assert signature.return_annotation is ProtobufPerson


@pytest.mark.parametrize(
    ("annotation", "expected"),
    [
        *((kind[int], Streamed("items", int)) for kind in (AsyncIterator, AsyncIterable, Iterator, Iterable)),
        (AsyncGenerator[int, None], Streamed("items", int)),
        (Generator[int, str, bool], Streamed("items", int)),
        (typing.AsyncIterator[int], Streamed("items", int)),
        (AsyncIterator, Streamed("items", Any)),
        (AsyncIterator[Annotated[ProtobufPerson, "who"]], Streamed("items", ProtobufPerson)),
        (AsyncIterator[list[int]], Streamed("items", list[int])),
        (Annotated[AsyncIterator[int], "counted"], Streamed("items", int)),
        (Blob, Streamed("chunks", bytes)),
        (Annotated[Blob, "a file"], Streamed("chunks", bytes)),
        *((kind, None) for kind in (int, list[int], bytes, Any, None, str, Sequence[int], Awaitable[int], Pair)),
    ],
    ids=str,
)
def test_which_annotations_are_streams(annotation: Any, expected: Streamed | None) -> None:
    assert streamed(annotation) == expected
