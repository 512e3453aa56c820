"""What a dataclass holds by default is written, also by whoever only passes it on."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import attrs
import msgspec
import pytest

from amqproxy.codecs.defaults import filled, leaves_out


@dataclass
class Leaf:
    name: str
    colour: str = "green"


@dataclass(frozen=True)
class Branch:
    leaves: list[Leaf] = field(default_factory=list)
    first: Leaf | None = None
    length: int = 1


@dataclass(slots=True)
class Slotted:
    length: int = 1


@dataclass
class Required:
    length: int


class Tree(msgspec.Struct):
    by_name: dict[str, Branch]
    pair: tuple[Leaf, Leaf] | None = None


def read(kind: Any, body: bytes) -> Any:
    return filled(msgspec.json.decode(body, type=kind))


@pytest.mark.parametrize(
    ("kinds", "expected"),
    [([Leaf], True), ([Branch], True), ([Slotted], False), ([Required], False), ([int, Tree], False), ([], False)],
)
def test_only_dataclasses_with_plain_defaults_and_without_slots_leave_fields_out(
    kinds: list[Any], expected: bool
) -> None:
    assert leaves_out(kinds) is expected


@pytest.mark.parametrize(
    ("kind", "body", "written"),
    [
        (Leaf, b'{"name":"a"}', b'{"name":"a","colour":"green"}'),
        (Leaf, b'{"name":"a","colour":"red"}', b'{"name":"a","colour":"red"}'),
        (Slotted, b"{}", b'{"length":1}'),
        (Required, b'{"length":2}', b'{"length":2}'),
        (
            Branch,
            b'{"leaves":[{"name":"a"}]}',
            b'{"leaves":[{"name":"a","colour":"green"}],"first":null,"length":1}',
        ),
        (
            Tree,
            b'{"by_name":{"x":{"first":{"name":"a"}}},"pair":[{"name":"b"},{"name":"c"}]}',
            b'{"by_name":{"x":{"first":{"name":"a","colour":"green"},"leaves":[],"length":1}},'
            b'"pair":[{"name":"b","colour":"green"},{"name":"c","colour":"green"}]}',
        ),
        (int, b"1", b"1"),
    ],
)
def test_what_was_read_is_written_whole(kind: Any, body: bytes, written: bytes) -> None:
    assert msgspec.json.decode(msgspec.json.encode(read(kind, body))) == msgspec.json.decode(written)


@dataclass
class Below(Slotted):
    width: int = 2


class Hundred:
    """A descriptor that keeps the value elsewhere."""

    def __get__(self, instance: Any, owner: Any) -> int:
        return 100 if instance is None else int(instance._kept)

    def __set__(self, instance: Any, value: int) -> None:
        instance._kept = value


@dataclass
class Described:
    number: int = Hundred()  # type: ignore[assignment]  # as dataclasses document it
    unit: str = "m"


T = TypeVar("T")


@dataclass
class Box(Generic[T]):
    content: T | None = None


@dataclass
class Forgetful:
    name: str = "a"
    other: str = "b"

    def __post_init__(self) -> None:
        del self.__dict__["name"]


@attrs.define
class Around:
    leaf: Leaf


def test_values_that_are_kept_elsewhere_are_not_hidden() -> None:
    assert msgspec.json.encode(read(Below, b'{"length":7}')) == b'{"length":7,"width":2}'
    described = read(Described, b'{"number":4}')
    assert (described.number, vars(described)["unit"], "number" in vars(described)) == (4, "m", False)


def test_a_generic_class_is_filled_as_others_are() -> None:
    assert leaves_out([Box[int]])
    assert msgspec.json.encode(read(Box[int], b"{}")) == b'{"content":null}'


def test_a_field_that_was_taken_away_is_no_error() -> None:
    made = Forgetful()
    assert vars(filled(made)) == {"name": "a", "other": "b"}


def test_what_is_in_an_attrs_class_is_filled_too() -> None:
    assert vars(read(Around, b'{"leaf":{"name":"a"}}').leaf) == {"name": "a", "colour": "green"}


def test_defaults_are_put_there_and_not_looked_into() -> None:
    endless: list[Any] = []
    endless.append(endless)
    kind: Any = dataclass(type("Endless", (), {"__annotations__": {"name": str, "kept": Any}, "kept": tuple(endless)}))
    assert read(kind, b'{"name":"a"}').kept == (endless,)


def test_sets_are_looked_into_and_classes_are_left_alone() -> None:
    branch = msgspec.json.decode(b"{}", type=Branch)
    assert "length" not in vars(branch)
    filled([Leaf, {"a": frozenset()}, branch])
    assert vars(branch)["length"] == 1
