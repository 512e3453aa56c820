"""JSON: every kind of type there and back, wrong ones with the path to them, and bodies that are no JSON."""

# No `from __future__ import annotations`: annotations of classes in functions must be real here.
# ruff: noqa: UP045  (Optional[X] and X | None are different things to look at)
import dataclasses
import enum
import json
import math
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import (
    Annotated,
    Any,
    Generic,
    Literal,
    NamedTuple,
    NewType,
    NotRequired,
    Optional,
    TypedDict,
    TypeVar,
)
from uuid import UUID

import attrs
import msgspec
import pydantic
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from amqproxy.codecs import DecodingFailed, Mismatch, Shape
from amqproxy.codecs.json import JSON
from amqproxy.contract import Method, contract_of
from amqproxy.errors import ContractError, EncodingFailed
from amqproxy.messages import message
from tests.idl.person_pb2 import Person

examples = settings(
    max_examples=80,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)

T = TypeVar("T")
UserId = NewType("UserId", int)
Positive = Annotated[int, msgspec.Meta(gt=0)]

NAN, INFINITY = float("nan"), float("inf")
LARGE = 100_000
"""Well over every size from which a codec may take short cuts."""


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


@dataclass
class Point:
    x: int
    y: float = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Slotted:
    x: int


@dataclass
class Node:
    value: int
    children: list["Node"] = field(default_factory=list)


@dataclass
class Page(Generic[T]):
    items: list[T]
    following: int | None = None


class Struct(msgspec.Struct):
    x: int
    y: list[Colour] = []


class Renamed(msgspec.Struct, rename="camel"):
    first_name: str


class PageStruct(msgspec.Struct, Generic[T]):
    items: list[T]


class Cat(msgspec.Struct, tag=True):
    lives: int


class Dog(msgspec.Struct, tag=True):
    tricks: list[str]


@attrs.define
class Attrs:
    x: int
    tags: list[str] = attrs.field(factory=list)


class Model(pydantic.BaseModel):
    x: int
    when: datetime | None = None


class PageModel(pydantic.BaseModel, Generic[T]):
    items: list[T]


class Aliased(pydantic.BaseModel):
    first_name: str = pydantic.Field(alias="firstName")


class Strict(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(strict=True)
    when: datetime
    id: UUID


class Dict(TypedDict):
    x: int
    y: NotRequired[str]


class Pair(NamedTuple):
    x: int
    y: str = "y"


class Plain:
    """A class that nothing knows how to write."""


def method(*parameters: tuple[str, Any], result: Any = None, defaults: tuple[Any, ...] = ()) -> Method:
    """The method of a service with these parameters."""
    scope: dict[str, Any] = {}
    exec(f"def call({', '.join(name for name, _ in parameters)}): return tuple(locals().values())", scope)
    function: Any = scope["call"]
    function.__annotations__ = {name.lstrip("*, "): kind for name, kind in parameters} | {"return": result}
    function.__defaults__ = defaults or None
    return contract_of(function).methods["call"]


def shape(kind: Any) -> Shape:
    """How a result of this type travels."""
    return JSON().result(method(result=kind))


def request(made: Method) -> Shape:
    return JSON().request(made)


NOON = datetime(2026, 2, 28, 12, 30, 15, 250000)

KINDS = [
    (int, 5, "5"),
    (int, -(2**63), str(-(2**63))),
    (int, 2**64 - 1, str(2**64 - 1)),
    (int, 2**100, str(2**100)),
    (float, 0.1, "0.1"),
    (float, 1e300, "1e300"),
    (str, 'ü"\n\x00😀', '"ü\\"\\n\\u0000😀"'),
    (bool, True, "true"),
    (None, None, "null"),
    (bytes, b"\x00\xff", '"AP8="'),
    (datetime, NOON, '"2026-02-28T12:30:15.250000"'),
    (datetime, NOON.replace(tzinfo=UTC), '"2026-02-28T12:30:15.250000Z"'),
    (datetime, NOON.replace(tzinfo=timezone(timedelta(hours=-5))), '"2026-02-28T12:30:15.250000-05:00"'),
    (date, date(2026, 2, 28), '"2026-02-28"'),
    (time, time(1, 2, 3), '"01:02:03"'),
    (timedelta, timedelta(days=1, seconds=5), '"P1DT5S"'),
    (UUID, UUID(int=1), '"00000000-0000-0000-0000-000000000001"'),
    (Decimal, Decimal("0.10"), '"0.10"'),
    (Colour, Colour.BLUE, '"blue"'),
    (Level, Level.HIGH, "2"),
    (Literal["a", 1], 1, "1"),
    (UserId, 5, "5"),
    (Positive, 5, "5"),
    (list[int], [1, 2], "[1,2]"),
    (set[int], {1}, "[1]"),
    (frozenset[str], frozenset({"a"}), '["a"]'),
    (tuple[int, str], (1, "a"), '[1,"a"]'),
    (tuple[int, ...], (1, 2, 3), "[1,2,3]"),
    (Sequence[int], [1], "[1]"),
    (dict[str, int], {"a": 1}, '{"a":1}'),
    (dict[int, str], {5: "a"}, '{"5":"a"}'),
    (dict[UUID, Colour], {UUID(int=1): Colour.RED}, '{"00000000-0000-0000-0000-000000000001":"red"}'),
    (Mapping[str, list[Point]], {"a": [Point(1)]}, '{"a":[{"x":1,"y":0.5}]}'),
    (Optional[int], None, "null"),
    (Optional[int], 5, "5"),
    (int | str, "a", '"a"'),
    (Point | None, Point(1, 2.0), '{"x":1,"y":2.0}'),
    (Any, {"a": [1, None, "x", 0.5, True]}, '{"a":[1,null,"x",0.5,true]}'),
    (list[Any], [], "[]"),
    (Point, Point(1, 2.0), '{"x":1,"y":2.0}'),
    (Slotted, Slotted(x=1), '{"x":1}'),
    (Node, Node(1, [Node(2)]), '{"value":1,"children":[{"value":2,"children":[]}]}'),
    (Page[int], Page([1]), '{"items":[1],"following":null}'),
    (Page[Point], Page([Point(1)], 7), '{"items":[{"x":1,"y":0.5}],"following":7}'),
    (Struct, Struct(1, [Colour.RED]), '{"x":1,"y":["red"]}'),
    (Renamed, Renamed("Ada"), '{"firstName":"Ada"}'),
    (PageStruct[Point], PageStruct([Point(1)]), '{"items":[{"x":1,"y":0.5}]}'),
    (Cat | Dog, Dog(["sit"]), '{"type":"Dog","tricks":["sit"]}'),
    (Attrs, Attrs(1, ["a"]), '{"x":1,"tags":["a"]}'),
    (Model, Model(x=1), '{"x":1,"when":null}'),
    (Model, Model(x=1, when=NOON), '{"x":1,"when":"2026-02-28T12:30:15.250000"}'),
    (list[Model], [Model(x=1)], '[{"x":1,"when":null}]'),
    (Optional[Model], None, "null"),
    (Page[Model], Page([Model(x=1)]), '{"items":[{"x":1,"when":null}],"following":null}'),
    (PageModel[int], PageModel[int](items=[1]), '{"items":[1]}'),
    (Aliased, Aliased(firstName="Ada"), '{"firstName":"Ada"}'),
    (Dict, {"x": 1}, '{"x":1}'),
    (Dict, {"x": 1, "y": "a"}, '{"x":1,"y":"a"}'),
    (Pair, Pair(1), '[1,"y"]'),
]

# What is not of the type, as a value and as JSON; the path to the bad part, and a part of the text.
WRONG = [
    (int, "5", '"5"', "$", "int"),
    (int, 5.5, "5.5", "$", "int"),
    (int, True, "true", "$", "int"),
    (int, None, "null", "$", "int"),
    (float, "x", '"x"', "$", "float"),
    (str, 5, "5", "$", "str"),
    (bool, 1, "1", "$", "bool"),
    (None, 1, "1", "$", "null"),
    (bytes, "not base64!", '"not base64!"', "$", "base64"),
    (datetime, "yesterday", '"yesterday"', "$", "RFC3339"),
    (UUID, "x", '"x"', "$", "UUID"),
    (Decimal, "x", '"x"', "$", "decimal"),
    (Colour, "green", '"green"', "$", "enum"),
    (Level, 3, "3", "$", "enum"),
    (Literal["a"], "b", '"b"', "$", "'b'"),
    (Positive, 0, "0", "$", ">= 1"),
    (list[int], [1, "x"], '[1,"x"]', "$[1]", "int"),
    (tuple[int, str], (1,), "[1]", "$", "length 2"),
    (dict[str, int], {"a": "x"}, '{"a":"x"}', "$[...]", "int"),
    (Optional[int], "x", '"x"', "$", "int | null"),
    (Point, Point("x"), '{"x":"x","y":0.5}', "$.x", "int"),  # type: ignore[arg-type]
    (Point, {"y": 1.0}, '{"y":1.0}', "$", "x"),
    (Page[int], Page([1, "x"]), '{"items":[1,"x"]}', "$.items[1]", "int"),
    (Page[Point], Page([Point(1), Point(None)]), '{"items":[{"x":1},{"x":null}]}', "$.items[1].x", "int"),  # type: ignore[arg-type]
    (PageStruct[int], PageStruct(["x"]), '{"items":["x"]}', "$.items[0]", "int"),
    (Node, Node(1, [Node("x")]), '{"value":1,"children":[{"value":"x"}]}', "$.children[0].value", "int"),  # type: ignore[arg-type]
    (Attrs, Attrs(1, [2]), '{"x":1,"tags":[2]}', "$.tags[0]", "str"),  # type: ignore[list-item]
    (Cat | Dog, Point(1), '{"x":1,"y":0.5}', "$", "type"),
    (Dict, {"x": "a"}, '{"x":"a"}', "$.x", "int"),
    (Pair, Pair("x"), '["x","y"]', "$[0]", "int"),  # type: ignore[arg-type]
    (list[Model], [{"x": "a"}], '[{"x":"a"}]', "$[0]", "integer"),
    (list[Colour], ["red", "green"], '["red","green"]', "$[1]", "enum"),
]


def test_the_encoding_is_called_json() -> None:
    assert JSON.name == "json"


@pytest.mark.parametrize(("kind", "value", "text"), KINDS, ids=lambda part: str(part)[:40])
def test_a_value_of_every_kind_of_type_goes_there_and_back(kind: Any, value: Any, text: str) -> None:
    made = shape(kind)
    assert json.loads(made.encode(value)) == json.loads(text)
    found = made.decode(text.encode())
    assert found == value
    assert type(found) is type(value)
    taking = method(("x", kind))
    made = request(taking)
    assert json.loads(made.encode(taking.bind((value,), {}))) == {"x": json.loads(text)}
    assert made.decode(f'{{"x":{text}}}'.encode()).x == value
    assert taking.call(lambda x: x, made.decode(f"[{text}]".encode())) == value


@pytest.mark.parametrize(("kind", "value", "text", "path", "expected"), WRONG, ids=lambda part: str(part)[:40])
def test_what_is_not_of_the_type_is_refused_with_the_path_on_both_ends(
    kind: Any, value: Any, text: str, path: str, expected: str
) -> None:
    made = shape(kind)
    with pytest.raises(Mismatch) as caught:
        made.encode(value)
    assert expected in str(caught.value)
    assert path == "$" or str(caught.value).endswith(f" - at `{path}`")
    with pytest.raises(DecodingFailed) as refused:
        made.decode(text.encode())
    assert expected in str(refused.value)
    assert path == "$" or str(refused.value).endswith(f" - at `{path}`")


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (str, b"bytes"),
        (list[str], [b"bytes"]),
        (Optional[str], b"bytes"),
        (bytes, "text"),
        (str, b"x" * LARGE),
    ],
)
def test_bytes_and_text_are_not_taken_for_each_other(kind: Any, value: Any) -> None:
    with pytest.raises((Mismatch, EncodingFailed)):
        shape(kind).encode(value)


@pytest.mark.parametrize(
    ("kind", "value", "text"),
    [
        (float, 1, "1"),
        (list[int], (1, 2), "[1,2]"),
        (list[str], ("a", "b"), '["a","b"]'),
        (list[int], {5}, "[5]"),
        (bytes, bytearray(b"\xff"), '"/w=="'),
        (Point, {"x": 1}, '{"x":1}'),
        (Dict, {"x": 1, "z": None}, '{"x":1,"z":null}'),
        (dict[str, int], {1: 2}, '{"1":2}'),
    ],
    ids=str,
)
def test_a_value_of_another_class_is_taken_if_its_json_fits(kind: Any, value: Any, text: str) -> None:
    assert shape(kind).encode(value).decode() == text


@pytest.mark.parametrize(
    ("kind", "value", "wrong"),
    [
        (str, "x" * LARGE, list("x" * LARGE)),
        (bytes, b"x" * LARGE, ["x"] * LARGE),
        (int, 10**4000, "1" * LARGE),
        (list[int], list(range(LARGE)), [*range(LARGE), "x"]),
        (Page[str], Page(["x" * LARGE]), Page(["x" * LARGE, 5])),
    ],
    ids=["str", "bytes", "int", "list", "Page"],
)
def test_large_values_are_checked_as_small_ones_are(kind: Any, value: Any, wrong: Any) -> None:
    made = shape(kind)
    if kind is not int:  # a body may hold an integer of any size; what is read is bounded
        assert made.decode(made.encode(value)) == value
    with pytest.raises(Mismatch):
        made.encode(wrong)
    taking = method(("x", kind), ("y", str))
    arguments = request(taking)
    if kind is not int:
        assert arguments.decode(arguments.encode(taking.bind((value, "y"), {}))).x == value
    with pytest.raises(Mismatch):
        arguments.encode(taking.bind((wrong, "y"), {}))
    with pytest.raises(Mismatch):
        arguments.encode(taking.bind((value, None), {}))


@dataclass
class Everything:
    number: int
    real: float
    text: str
    raw: bytes
    moment: datetime
    id: UUID
    exact: Decimal
    colour: Colour
    maybe: Point | None
    either: int | str
    points: list[Point]
    by_name: dict[str, tuple[int, str]]
    page: Page[int]
    struct: PageStruct[Level]
    dicts: list[Dict]
    pairs: list[Pair]
    pet: Cat | Dog
    model: Model


texts = st.text(st.characters(codec="utf-8"), max_size=10)
integers = st.integers(-(2**63), 2**64 - 1)
floats = st.floats(allow_nan=False, allow_infinity=False)
points = st.builds(Point, integers, floats)
moments = st.datetimes(timezones=st.none() | st.just(UTC))
everything = st.builds(
    Everything,
    number=integers,
    real=floats,
    text=texts,
    raw=st.binary(max_size=10),
    moment=moments,
    id=st.uuids(),
    exact=st.decimals(allow_nan=False, allow_infinity=False, places=3),
    colour=st.sampled_from(Colour),
    maybe=st.none() | points,
    either=integers | texts,
    points=st.lists(points, max_size=2),
    by_name=st.dictionaries(texts, st.tuples(integers, texts), max_size=2),
    page=st.builds(Page, st.lists(integers, max_size=2), st.none() | integers),
    struct=st.builds(PageStruct, st.lists(st.sampled_from(Level), max_size=2)),
    dicts=st.lists(st.fixed_dictionaries({"x": integers}, optional={"y": texts}), max_size=2),
    pairs=st.lists(st.builds(Pair, integers, texts), max_size=2),
    pet=st.builds(Cat, integers) | st.builds(Dog, st.lists(texts, max_size=2)),
    model=st.builds(Model, x=st.integers(-(2**63), 2**63 - 1), when=st.none() | moments),
)
plain = st.recursive(
    st.none() | st.booleans() | integers | floats | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)

EVERYTHING = shape(Everything)
ANYTHING = JSON().anything()


@examples
@given(everything)
def test_everything_at_once_goes_there_and_back(value: Everything) -> None:
    body = EVERYTHING.encode(value)
    assert EVERYTHING.decode(body) == value
    assert isinstance(json.loads(body), dict)


@examples
@given(plain)
def test_plain_values_go_there_and_back_without_a_type(value: Any) -> None:
    body = ANYTHING.encode(value)
    assert ANYTHING.decode(body) == value
    assert json.loads(body) == value
    assert shape(Any).encode(value) == body


@examples
@given(plain)
def test_what_another_json_library_writes_is_read(value: Any) -> None:
    for body in (json.dumps(value), json.dumps(value, indent=2), json.dumps(value, ensure_ascii=False)):
        assert ANYTHING.decode(body.encode()) == value


def test_typed_values_may_be_written_without_a_type_too() -> None:
    value = {"a": [Point(1), Struct(2), Attrs(3), Model(x=4), Colour.RED, NOON, b"\xff", {5}, Pair(1)]}
    assert json.loads(ANYTHING.encode(value)) == {
        "a": [
            {"x": 1, "y": 0.5},
            {"x": 2, "y": []},
            {"x": 3, "tags": []},
            {"x": 4, "when": None},
            "red",
            "2026-02-28T12:30:15.250000",
            "/w==",
            [5],
            [1, "y"],
        ]
    }
    assert shape(dict[str, Any]).encode(value) == ANYTHING.encode(value)
    for made in (shape(Any), shape(Optional[Any]), ANYTHING):
        assert made.encode(NOON) == b'"2026-02-28T12:30:15.250000"'
        assert made.encode(Colour.RED) == b'"red"'
        assert made.encode(b"\xff") == b'"/w=="'


# What JSON cannot write


@pytest.mark.parametrize(
    ("value", "path"),
    [
        (object(), "$"),
        ({"a": [1, object()]}, "$.a[1]"),
        ([Point(object())], "$[0].x"),  # type: ignore[arg-type]
        (Page([{"deep": 1j}]), "$.items[0].deep"),
        (Struct(object()), "$.x"),  # type: ignore[arg-type]
        (Attrs(object()), "$.x"),  # type: ignore[arg-type]
        ((1, (2, object())), "$[1][1]"),
        ({"a": "\udc80"}, "$.a"),
        (["ok", "\ud800"], "$[1]"),
        ({"a": {"\udc80": 1}}, "$.a"),
        ({"a": {(1, 2): 3}}, "$.a"),
        ({"a": 10**5000}, "$.a"),
        ({"a": Plain()}, "$.a"),
        ({"a": Plain}, "$.a"),
        ({"a": Model}, "$.a"),
        ({"a": Point}, "$.a"),
        ({"a": Model.model_construct(x=object())}, "$.a"),
        ({"a": len}, "$.a"),
        ({"a": [NAN]}, "$.a[0]"),
        ([None, INFINITY], "$[1]"),
        ([Point(1, -INFINITY)], "$[0].y"),
        (NAN, "$"),
    ],
    ids=lambda part: part if isinstance(part, str) else type(part).__name__,
)
def test_what_json_cannot_write_is_refused_with_the_path(value: Any, path: str) -> None:
    for made in (ANYTHING, shape(Any)):
        with pytest.raises(EncodingFailed) as caught:
            made.encode(value)
        assert str(caught.value).endswith(f" - at `{path}`")
        assert caught.value.executed == "no"


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (float, NAN),
        (float, INFINITY),
        (list[float], [0.5, NAN]),
        (Optional[float], NAN),
        (Optional[float], -INFINITY),
        (list[float | None], [None, NAN]),
        (Point, Point(1, NAN)),
        (Any, NAN),
        (dict[str, Any], {"a": NAN}),
        (Page[Optional[float]], Page([None, NAN])),
    ],
    ids=str,
)
def test_what_is_not_a_number_is_refused_and_does_not_become_none(kind: Any, value: Any) -> None:
    with pytest.raises(EncodingFailed, match="has no JSON form"):
        shape(kind).encode(value)


def test_of_a_stream_where_none_is_taken_it_is_said_what_to_do() -> None:
    async def words() -> AsyncIterator[str]:
        yield "a"

    says = r"\(an async_generator cannot be written as JSON; if it is a stream, .* make the proxy of the class, or"
    with pytest.raises(EncodingFailed, match=says):
        shape(Any).encode([words()])


def test_arguments_that_are_not_a_number_are_refused_by_name() -> None:
    made = method(("x", int), ("y", Optional[float]))
    with pytest.raises(EncodingFailed, match=r"nan has no JSON form - at `\$\.y`"):
        request(made).encode(made.bind((1, NAN), {}))


def test_null_where_it_is_allowed_is_written() -> None:
    assert shape(Optional[float]).encode(None) == b"null"
    assert shape(list[float | None]).encode([None, 0.5]) == b"[null,0.5]"
    assert ANYTHING.encode([None, "null"]) == b'[null,"null"]'


def test_a_value_that_holds_itself_is_refused() -> None:
    itself: list[Any] = []
    itself.append(itself)
    named: dict[str, Any] = {}
    named["self"] = named
    node = Node(1)
    node.children.append(node)
    for value in (itself, named, node):
        with pytest.raises(EncodingFailed):
            ANYTHING.encode(value)
        with pytest.raises(EncodingFailed):
            shape(Any).encode(value)


def deep(depth: int) -> Any:
    value: Any = []
    for _ in range(depth):
        value = [value]
    return value


def test_at_any_depth_a_value_is_written_or_refused_by_name() -> None:
    made, refused = shape(Any), 0
    for depth in (*range(700, 1100, 7), 100_000):
        try:
            made.encode(deep(depth))
        except EncodingFailed:
            refused += 1
    assert refused


def test_a_hook_that_fails_only_once_is_still_an_encoding_failure() -> None:
    class Moody:
        refuses = True

        def model_dump(self, **options: Any) -> Any:
            if Moody.refuses:
                Moody.refuses = False
                raise ValueError("not now")
            return {}

    with pytest.raises(EncodingFailed, match="not now"):
        ANYTHING.encode([Moody()])


def test_a_body_of_the_users_own_making_is_checked_too() -> None:
    assert shape(Any).encode([msgspec.Raw(b"1")]) == b"[1]"
    for raw in (b"{", b"1 2", b"\xff", b'"\xff"'):
        with pytest.raises((Mismatch, EncodingFailed)):
            shape(Any).encode([msgspec.Raw(raw)])


# What is no JSON


NO_JSON = [
    b"",
    b" ",
    b"{",
    b"[1,",
    b"[1,]",
    b"{'a':1}",
    b'{"a":1}}',
    b"1 2",
    b"[] x",
    b"nul",
    b"NaN",
    b"[Infinity]",
    b"-Infinity",
    b"1e999",
    b"01",
    b"+1",
    b".5",
    b'"\xff"',
    b'"\xc3"',
    b'"a\nb"',
    b'"\\x41"',
    b'"\\ud800"',
    b"\xef\xbb\xbf1",
    "1".encode("utf-16"),
    b"\x00",
    b"9" * 5000,
    b"[" * 100_000,
    b'{"a":' * 100_000,
    b"<xml/>",
]


@pytest.mark.parametrize("body", NO_JSON, ids=lambda body: repr(body[:12]))
def test_a_body_that_is_no_json_is_refused(body: bytes) -> None:
    arguments = request(method(("a", Any), ("b", Any), defaults=(1,)))
    for made in (
        ANYTHING,
        shape(Any),
        shape(dict[str, Any]),
        shape(Node),
        shape(Model),
        EVERYTHING,
        arguments,
    ):
        with pytest.raises(DecodingFailed):
            made.decode(body)


@pytest.mark.parametrize("body", [b"9" * 5000, b"-" + b"9" * 5000, b"1e400", b"1" * 4301], ids=lambda body: len(body))
@pytest.mark.parametrize("kind", [int, float, Decimal, Optional[int], Any])
def test_a_number_that_is_too_large_is_refused(kind: Any, body: bytes) -> None:
    try:
        found = shape(kind).decode(body)
    except DecodingFailed:
        return
    assert kind is Decimal or math.isfinite(found)


def test_a_body_with_space_around_it_is_read() -> None:
    assert ANYTHING.decode(b" \r\n\t[1] \n") == [1]


def test_of_two_fields_with_one_name_the_last_is_read() -> None:
    assert shape(Point).decode(b'{"x":1,"x":2}') == Point(2)
    assert ANYTHING.decode(b'{"x":1,"x":2}') == {"x": 2}


def test_fields_of_a_message_that_are_unknown_are_passed_over() -> None:
    assert shape(Point).decode(b'{"x":1,"z":[{}]}') == Point(1)


@examples
@given(st.binary(max_size=40))
def test_random_bytes_are_a_value_or_refused(body: bytes) -> None:
    for made in (ANYTHING, shape(Point), shape(Model), EVERYTHING):
        try:
            made.decode(body)
        except DecodingFailed:
            continue


@examples
@given(everything, st.integers(0, 2**16), st.integers(0, 255))
def test_a_body_with_one_wrong_byte_is_a_value_or_refused(value: Everything, place: int, byte: int) -> None:
    body = bytearray(EVERYTHING.encode(value))
    place %= len(body)
    with pytest.raises(DecodingFailed):
        EVERYTHING.decode(bytes(body[:place]))
    body[place] = byte
    try:
        found = EVERYTHING.decode(bytes(body))
    except DecodingFailed:
        return
    assert isinstance(found, Everything)


# Arguments


def test_arguments_are_an_object_and_an_array_is_understood_too() -> None:
    made = method(("x", int), ("y", str))
    codec = request(made)
    arguments = made.bind((1,), {"y": "a"})
    assert codec.encode(arguments) == b'{"x":1,"y":"a"}'
    assert codec.decode(b'{"y":"a","x":1}') == arguments
    for body in (b'[1,"a"]', b'[ 1 , "a" ]', b'[1,"a"] \n'):
        found = codec.decode(body)
        assert made.call(lambda x, y: (x, y), found) == (1, "a")


@pytest.mark.parametrize("space", [b" ", b"\n", b"\r\n", b"\t", b"   \n  "])
def test_space_ahead_of_an_array_of_arguments_changes_nothing(space: bytes) -> None:
    made = method(("x", int), ("y", str))
    assert made.call(lambda x, y: (x, y), request(made).decode(space + b'[1,"a"]')) == (1, "a")
    assert made.call(lambda x, y: (x, y), request(made).decode(space + b'{"x":1,"y":"a"}')) == (1, "a")


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"{}", "missing required field `x`"),
        (b'{"x":1}', "missing required field `y`"),
        (b'{"x":1,"y":"a","z":3}', "unknown field `z`"),
        (b'{"x":"1","y":"a"}', "Expected `int`, got `str` - at `$.x`"),
        (b"[]", "length 2"),
        (b'[1,"a",3]', "length 2"),
        (b"[1,2]", "Expected `str`, got `int` - at `$[1]`"),
        (b"5", "Expected `object`, got `int`"),
        (b"null", "Expected `object`, got `null`"),
        (b"[1,", "truncated"),
    ],
)
def test_arguments_that_do_not_fit_are_refused_with_the_path(body: bytes, text: str) -> None:
    with pytest.raises(DecodingFailed) as caught:
        request(method(("x", int), ("y", str))).decode(body)
    assert text in str(caught.value)


def test_arguments_of_the_wrong_type_are_refused_before_they_are_sent() -> None:
    made = method(("x", int), ("y", str))
    with pytest.raises(Mismatch, match=r"Expected `int`, got `str` - at `\$\.x`"):
        request(made).encode(made.bind(("1", "a"), {}))


@pytest.mark.parametrize("body", [b"{}", b"[]"])
def test_a_method_without_parameters_takes_an_empty_object_or_array(body: bytes) -> None:
    made = method()
    assert request(made).encode(made.bind((), {})) == b"{}"
    assert made.call(lambda: "called", request(made).decode(body)) == "called"


@pytest.mark.parametrize(("body", "result"), [(b"[1]", (1, 2)), (b"[1,5]", (1, 5)), (b'{"y":5,"x":1}', (1, 5))])
def test_what_is_left_out_takes_its_default(body: bytes, result: tuple[int, int]) -> None:
    made = method(("x", int), ("y", int), defaults=(2,))
    assert request(made).encode(made.bind((1,), {})) == b'{"x":1}'
    assert made.call(lambda x, y=2: (x, y), request(made).decode(body)) == result


@pytest.mark.parametrize("kind", [Model, Optional[Model], Point, list[Model]])
def test_a_parameter_of_any_kind_may_be_left_out(kind: Any) -> None:
    made = method(("x", kind), defaults=(None,))
    assert request(made).encode(made.bind((), {})) == b"{}"
    assert made.call(lambda x="default": x, request(made).decode(b"{}")) == "default"


@pytest.mark.parametrize(("body", "result"), [(b"[]", (1, 2)), (b"[5]", (5, 2)), (b'{"y":7}', (1, 7))])
def test_a_method_with_keyword_only_parameters_takes_the_others_by_position(
    body: bytes, result: tuple[int, int]
) -> None:
    def take(x: int = 1, *, y: int = 2) -> tuple[int, int]:
        return x, y

    made = contract_of(take).methods["take"]
    assert made.call(take, request(made).decode(body)) == result


def test_a_method_with_only_keyword_only_parameters_takes_an_empty_array() -> None:
    def take(*, y: int = 2) -> int:
        return y

    made = contract_of(take).methods["take"]
    assert made.call(take, request(made).decode(b"[]")) == 2
    with pytest.raises(DecodingFailed):
        request(made).decode(b"[1]")


# Messages


@message("m.Data")
@dataclass
class Data:
    x: int
    y: int = 2

    def __post_init__(self) -> None:
        if self.x < 0:
            raise ValueError("x is at least 0")


@message("m.AttrsMessage")
@attrs.define
class Hidden:
    _x: int


@message("m.ModelMessage")
class ModelMessage(pydantic.BaseModel):
    first_name: str = pydantic.Field(alias="firstName", min_length=1)
    last_name: str = ""


@message("m.TupleMessage")
class TupleMessage(NamedTuple):
    x: int
    y: int = 2


@message("m.DictMessage")
class DictMessage(TypedDict):
    x: int


def taking(kind: Any) -> Method:
    def take(request: Any) -> Any:
        return request

    take.__annotations__ = {"request": kind, "return": kind}
    return contract_of(take).methods["take"]


@pytest.mark.parametrize(
    ("kind", "body", "value"),
    [
        (Data, b'{"x":1,"y":5}', Data(1, 5)),
        (Data, b'{"x":1}', Data(1)),
        (Data, b"[1,5]", Data(1, 5)),
        (Data, b"[1]", Data(1)),
        (Hidden, b'{"_x":1}', Hidden(1)),
        (Hidden, b"[1]", Hidden(1)),
        (ModelMessage, b'{"firstName":"Ada"}', ModelMessage(firstName="Ada")),
        (ModelMessage, b'["Ada","L."]', ModelMessage(firstName="Ada", last_name="L.")),
        (TupleMessage, b"[1,5]", TupleMessage(1, 5)),
        (TupleMessage, b"[1]", TupleMessage(1)),
        (DictMessage, b'{"x":1}', {"x": 1}),
        (DictMessage, b"[1]", {"x": 1}),
    ],
    ids=lambda part: str(part)[:30],
)
def test_a_message_is_read_from_its_own_form_and_from_its_fields_in_order(kind: Any, body: bytes, value: Any) -> None:
    assert request(taking(kind)).decode(body) == value


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (Data, b'{"x":-1}'),
        (Data, b"[-1]"),
        (Data, b"[]"),
        (Data, b"[1,2,3]"),
        (Data, b'["x"]'),
        (ModelMessage, b'{"firstName":""}'),
        (ModelMessage, b'[""]'),
        (ModelMessage, b"[1]"),
        (TupleMessage, b"[]"),
        (DictMessage, b'["x"]'),
    ],
)
def test_a_message_that_its_class_refuses_does_not_decode(kind: Any, body: bytes) -> None:
    with pytest.raises(DecodingFailed):
        request(taking(kind)).decode(body)


def test_a_message_of_the_wrong_type_inside_is_refused_before_it_is_sent() -> None:
    made = taking(Data)
    with pytest.raises(Mismatch, match=r"\$\.y"):
        request(made).encode(made.bind((1, "5"), {}))


# pydantic


def test_a_strict_model_reads_what_it_wrote() -> None:
    value = Strict(when=NOON, id=UUID(int=1))
    made = shape(Strict)
    assert made.decode(made.encode(value)) == value


def test_what_pydantic_says_about_a_bad_value_is_passed_on() -> None:
    with pytest.raises(DecodingFailed, match="valid integer"):
        shape(Model).decode(b'{"x":"five"}')
    with pytest.raises(DecodingFailed, match="required"):
        shape(list[Model]).decode(b"[{}]")


# Types that JSON cannot carry


@pytest.mark.parametrize(
    "kind",
    [
        Plain,
        object,
        complex,
        type,
        list[Plain],
        dict[str, Plain],
        Optional[Plain],
        list[AsyncIterator[int]],
        Callable[[int], int],
        Model | PageModel[int],
        datetime | UUID,
        list[Cat | Point],
        5,
        [int],
    ],
    ids=str,
)
def test_a_type_that_json_cannot_carry_is_refused_when_the_contract_is_read(kind: Any) -> None:
    with pytest.raises(ContractError, match=r"call\(.*JSON cannot carry"):
        shape(kind)
    with pytest.raises(ContractError, match=r"call\(.*JSON cannot carry"):
        request(method(("x", int), ("y", kind)))


def test_a_type_whose_fields_json_cannot_carry_is_refused_when_the_contract_is_read() -> None:
    @dataclass
    class Holder:
        plain: list[Plain]

    with pytest.raises(ContractError):
        shape(Holder)
    with pytest.raises(ContractError):
        request(method(("x", Holder)))


def test_a_type_whose_annotations_cannot_be_resolved_is_a_contract_error() -> None:
    @dataclass
    class Broken:
        x: "Nowhere"  # type: ignore[name-defined]  # noqa: F821

    for kind in (Broken, list[Broken]):
        with pytest.raises(ContractError, match="Nowhere"):
            shape(kind)
        with pytest.raises(ContractError, match="Nowhere"):
            request(method(("x", kind)))


def test_a_class_that_nothing_can_read_is_refused_at_the_latest_when_a_value_comes() -> None:
    try:
        made = shape(list[Plain])
    except ContractError:
        return  # better still
    with pytest.raises(DecodingFailed, match=r"\$\[0\]"):
        made.decode(b"[1]")


def test_a_value_of_an_unknown_class_is_refused_where_anything_goes() -> None:
    with pytest.raises(EncodingFailed, match=r"Plain.* - at `\$\[0\]`"):
        shape(list[Any]).encode([Plain()])


def test_a_value_that_only_json_can_hold_is_written_as_it_is() -> None:
    assert shape(Any).encode((2**70,)) == b"[%d]" % 2**70


def test_the_search_for_what_is_not_a_number_goes_on_behind_a_sound_object() -> None:
    @attrs.define
    class Sound:
        a: float

    @dataclasses.dataclass
    class AlsoSound:
        a: float

    with pytest.raises(EncodingFailed, match=r"nan has no JSON form - at `\$\[2\]`"):
        JSON().anything().encode([Sound(1.0), AlsoSound(1.0), math.nan])


def test_a_dataclass_that_is_passed_on_keeps_the_fields_that_its_sender_left_out() -> None:
    @dataclass
    class Node:
        name: str
        parent: int | None = None
        children: list[str] = field(default_factory=list)

    async def tree(node: Node) -> Node:
        return node

    tree.__annotations__ = {"node": Node, "return": Node}
    method = contract_of(tree).methods["tree"]
    [node] = msgspec.structs.astuple(JSON().request(method).decode(b'{"node":{"name":"a"}}'))
    assert JSON().result(method).encode(node) == b'{"name":"a","parent":null,"children":[]}'


def test_messages_of_protobuf_travel_in_its_own_json() -> None:
    class Turning:
        async def turn(self, person: Person) -> Person:
            raise NotImplementedError

    class Untyped:
        async def turn(self, person: Person) -> Any:
            raise NotImplementedError

    method = contract_of(Turning).methods["turn"]
    request, result = JSON().request(method), JSON().result(method)
    person = Person(id=1, name="Ann")
    assert request.decode(result.encode(person)) == person
    with pytest.raises(EncodingFailed, match="a Person travels by itself: annotate the result with it"):
        JSON().result(contract_of(Untyped).methods["turn"]).encode(person)
