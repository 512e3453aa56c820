"""What a type looks like in JSON, and what it is called in each language."""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Annotated, Any, Generic, Literal, NamedTuple, NotRequired, Optional, TypedDict, TypeVar
from uuid import UUID

import attrs
import msgspec
import pydantic
import pytest

from amqproxy.contract import contract_of
from amqproxy.generate import LANGUAGES, Order, service_of
from amqproxy.generate.shapes import (
    ANY,
    NONE,
    Choice,
    Field,
    ListOf,
    MapOf,
    Named,
    Nullable,
    OneOf,
    Record,
    Scalar,
    Shape,
    Shapes,
    TupleOf,
    described_types,
)

T = TypeVar("T")
INT, TEXT, BYTES = Scalar("int"), Scalar("text"), Scalar("bytes")


class Level(enum.IntEnum):
    LOW = 1


class Colour(enum.Enum):
    """What paint comes in."""

    RED = "red"


@dataclass
class Node:
    """A tree."""

    name: str
    children: list[Node] = field(default_factory=list)
    parent: Node | None = None


@dataclass
class Bare:
    x: int


@attrs.define
class Size:
    width: int
    height: int = 1


class Label(TypedDict):
    text: str
    lang: NotRequired[str]


class Point(NamedTuple):
    x: float
    y: float


class Tagged(msgspec.Struct, tag="t", rename="camel"):
    max_items: int
    data: bytes = b""


class Page(msgspec.Struct, Generic[T]):
    items: list[T]


class Row(msgspec.Struct, array_like=True):
    x: int


class Model(pydantic.BaseModel):
    x: int


def shape_of(kind: Any) -> tuple[Shape, dict[str, Record | Choice]]:
    shapes = Shapes()
    [node] = described_types([kind])
    return shapes.of(node), shapes.named


@pytest.mark.parametrize(
    ("kind", "shape"),
    [
        (int, INT),
        (float, Scalar("float")),
        (str, TEXT),
        (bool, Scalar("bool")),
        (None, NONE),
        (bytes, BYTES),
        (bytearray, BYTES),
        (Any, ANY),
        (datetime, Scalar("text", "date and time, RFC 3339")),
        (date, Scalar("text", "date, RFC 3339")),
        (time, Scalar("text", "time of day, RFC 3339")),
        (timedelta, Scalar("text", "duration, ISO 8601")),
        (UUID, Scalar("text", "UUID")),
        (Decimal, Scalar("text", "decimal number")),
        (list[int], ListOf(INT)),
        (list, ListOf(ANY)),
        (Sequence[str], ListOf(TEXT)),
        (set[int], ListOf(INT)),
        (frozenset[int], ListOf(INT)),
        (tuple[int, ...], ListOf(INT)),
        (tuple[int, str], TupleOf((INT, TEXT))),
        (dict[str, int], MapOf(INT)),
        (Mapping[int, list[str]], MapOf(ListOf(TEXT))),
        (int | None, Nullable(INT)),
        (Optional[list[int]], Nullable(ListOf(INT))),  # noqa: UP045
        (int | float, Scalar("float")),
        (int | float | None, Nullable(Scalar("float"))),
        (int | str, ANY),
        (int | str | None, ANY),
        (Annotated[int, msgspec.Meta(gt=1, title="t")], INT),
        (Literal["b", "a"], OneOf("text", ("a", "b"))),
        (Literal[1, None], Nullable(OneOf("int", (1,)))),
        (Literal[1, "a"], ANY),
        (Model, ANY),
        (msgspec.defstruct("Odd", [("a", int, msgspec.field(name="a `ticked`, name"))]), ANY),
    ],
)
def test_types_have_shapes(kind: Any, shape: Shape) -> None:
    assert shape_of(kind) == (shape, {})


@pytest.mark.parametrize(
    ("kind", "named"),
    [
        (Colour, Choice("Colour", "What paint comes in.", "text", (("RED", "red"),))),
        (Level, Choice("Level", "", "int", (("LOW", 1),))),
        (Bare, Record("Bare", "", (Field("x", INT),))),
        (Size, Record("Size", "", (Field("width", INT), Field("height", INT, required=False)))),
        (Label, Record("Label", "", (Field("lang", TEXT, required=False), Field("text", TEXT)))),
        (Point, Record("Point", "", (Field("x", Scalar("float")), Field("y", Scalar("float"))), is_array=True)),
        (Row, Record("Row", "", (Field("x", INT),), is_array=True)),
        (
            Tagged,
            Record(
                "Tagged",
                "",
                (
                    Field("type", OneOf("text", ("t",))),
                    Field("maxItems", INT),
                    Field("data", BYTES, required=False, is_empty=True),
                ),
            ),
        ),
        (
            Node,
            Record(
                "Node",
                "A tree.",
                (
                    Field("name", TEXT),
                    Field("children", ListOf(Named("Node")), required=False, is_empty=True),
                    Field("parent", Nullable(Named("Node")), required=False),
                ),
            ),
        ),
    ],
)
def test_classes_have_names_and_fields(kind: Any, named: Record | Choice) -> None:
    assert shape_of(kind) == (Named(named.key), {named.key: named})


def test_one_generic_class_is_several_records() -> None:
    shape, named = shape_of(tuple[Page[int], Page[str], Page[int]])
    assert shape == TupleOf((Named("Page"), Named("Page2"), Named("Page")))
    assert [each.fields for each in named.values() if isinstance(each, Record)] == [
        (Field("items", ListOf(INT)),),
        (Field("items", ListOf(TEXT)),),
    ]


def written(language: str, kind: Any) -> str:
    """The method of a service that takes and returns this."""

    class Service:
        def f(self, x: Any) -> Any: ...

    Service.f.__annotations__ = {"x": kind, "return": kind}
    return LANGUAGES[language](Order(service_of(contract_of(Service)), "")).text


def test_ends_of_lines_within_texts_are_escaped() -> None:
    """Whatever indents the file would put blanks behind them otherwise."""
    for language in LANGUAGES:
        assert "\\u2028a\\u0085b" in written(language, Literal["\u2028a\x85b"])


def test_object_has_a_key_that_means_its_prototype() -> None:
    class Service:
        def f(self, __proto__: int) -> None: ...

    Service.f.__annotations__ = {"__proto__": int, "return": None}
    text = LANGUAGES["node"](Order(service_of(contract_of(Service)), "")).text
    assert '{ ["__proto__"]: proto }' in text


@pytest.mark.parametrize(
    ("kind", "ruby", "java", "node", "go"),
    [
        (int, "x [Integer]", "long f(long x)", "{number} x", "x int64) (int64"),
        (float, "x [Float]", "double f(double x)", "{number} x", "x float64) (float64"),
        (str, "x [String]", "String f(String x)", "{string} x", "x string) (string"),
        (bool, "x [Boolean]", "boolean f(boolean x)", "{boolean} x", "x bool) (bool"),
        (bytes, "x [String]", "byte[] f(byte[] x)", "{Buffer} x", "x []byte) ([]byte"),
        (Any, "x [Object]", "Object f(Object x)", "{any} x", "x any) (any"),
        (int | str, "x [Object]", "Object f(Object x)", "{any} x", "x any) (any"),
        (UUID, "x [String] UUID", "@param x UUID", "{string} x UUID", "//   - x: UUID"),
        (list[int], "x [Array<Integer>]", "List<Long> f(List<Long> x)", "{number[]} x", "x []int64) ([]int64"),
        (
            dict[str, bool],
            "[Hash{String => Boolean}]",
            "Map<String, Boolean> x",
            "Record<string, boolean>",
            "map[string]bool",
        ),
        (tuple[int, str], "[Array(Integer, String)]", "List<Object> x", "{[number, string]} x", "x []any) ([]any"),
        (tuple[int, int], "[Array(Integer, Integer)]", "List<Long> x", "{[number, number]} x", "x []int64"),
        (int | None, "x [Integer, nil]", "Long f(Long x)", "{number | null} x", "x *int64) (*int64"),
        (list[str] | None, "[Array<String>, nil]", "List<String> x", "{string[] | null} x", "x []string"),
        (list[str | None], "[Array<String, nil>]", "List<String> x", "{(string | null)[]} x", "x []*string"),
        (Literal["a", "b"], 'x [String] one of "a", "b"', "String f(String x)", '{"a" | "b"} x', "x string"),
        (Colour, "x [Colour]", "Colour f(Colour x)", "{Colour} x", "x Colour) (Colour"),
        (Level, "x [Level]", "long f(long x)", "{Level} x", "x Level) (Level"),
        (Size, "x [Size]", "Size f(Size x)", "{Size} x", "x Size) (Size"),
        (Point, "x [Point]", "record Point(double x, double y)", "{[x: number, y: number]} Point", "v.X, v.Y"),
    ],
)
def test_types_have_names_in_each_language(kind: Any, ruby: str, java: str, node: str, go: str) -> None:
    for language, text in (("ruby", ruby), ("java", java), ("node", node), ("go", go)):
        assert text in written(language, kind)
