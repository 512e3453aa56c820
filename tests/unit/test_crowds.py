"""Keys that were chosen to have one hash are refused before they are compared, and others are taken."""

# No `from __future__ import annotations`: annotations of classes in functions must be real here.
import enum
import json
import time
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Annotated, Any, Literal, NamedTuple
from uuid import UUID

import msgspec
import pydantic
import pytest

from amqproxy.codecs import Crowded, DecodingFailed
from amqproxy.codecs.crowds import HARMLESS, HARMLESS_SLOW, MAX_ALIKE, crowds_in
from amqproxy.codecs.json import JSON, JSONShape
from amqproxy.contract import contract_of

PRIME = 2**61 - 1
"""Multiples of it have the hash 0."""
MANY = 20_000
"""Keys with one hash that take ten seconds and more."""
SECONDS = 5.0
ALIKE = [key * PRIME for key in range(1, MANY)]


class Side(enum.IntEnum):
    LEFT = 1


@dataclass(frozen=True)
class Point:
    x: int


class Pair(NamedTuple):
    x: int
    y: int


@dataclass(frozen=True)
class Corner:
    """What any object can be read as."""

    x: int = 0


@dataclass(frozen=True)
class Named:
    name: str


class Fixed(msgspec.Struct, frozen=True):
    x: int


@dataclass
class Report:
    name: str
    totals: dict[int, float]


class Model(pydantic.BaseModel):
    totals: dict[int, float]
    parent: "Model | None" = None


class Around(pydantic.BaseModel):
    models: list[Model]


class Plain(pydantic.BaseModel):
    names: dict[str, int]
    odd: Annotated[complex, pydantic.BeforeValidator(complex)] = 0j


class Place(pydantic.BaseModel, frozen=True):
    x: int


class Strict(pydantic.BaseModel, frozen=True, strict=True):
    x: int


class Ring(pydantic.BaseModel):
    """One that a schema refers to by name."""

    inner: "list[Ring]" = []
    places: set[Place] = set()


class Held(pydantic.BaseModel):
    """Keys of every kind that pydantic reads by itself."""

    numbers: set[int] = set()
    frozen: frozenset[int] = frozenset()
    strict: dict[Annotated[int, pydantic.Strict()], int] = {}
    decimals: set[Decimal] = set()
    ids: dict[UUID, int] = {}
    anything: set[Any] = set()
    bare: set = set()  # type: ignore[type-arg]
    texts: set[str] = set()
    tuples: set[tuple[int, str]] = set()
    made: set[Annotated[str, pydantic.AfterValidator(int)]] = set()
    of_models: set[Place] = set()
    of_strict: set[Strict] = set()
    of_several: dict[int, Plain | Place] = {}
    rings: list[Ring] = []
    round: set[Ring] = set()


class Later(pydantic.BaseModel):
    """One that is complete only once `Latest` is there."""

    latest: "Latest"


class Latest(pydantic.BaseModel):
    numbers: set[int]


class Own:
    """What reads JSON in its own way, and is not of pydantic."""

    @classmethod
    def model_validate_json(cls, body: bytes) -> "Own":
        return cls()


def obj(keys: list[Any]) -> bytes:
    return json.dumps({str(key): 1 for key in keys}).encode()


def arr(members: list[Any]) -> bytes:
    return json.dumps(members).encode()


CROWDS: dict[str, tuple[Any, bytes]] = {
    "numbers": (dict[int, int], obj(ALIKE)),
    "numbers of a set": (set[int], arr(ALIKE)),
    "numbers of a frozen set": (frozenset[int], arr(ALIKE)),
    "members of any type": (set, arr(ALIKE)),
    "tuples of any type": (set[tuple], arr([[key] for key in ALIKE])),  # type: ignore[type-arg]
    "with limits": (set[Annotated[int, msgspec.Meta(ge=0)]], arr(ALIKE)),
    "with a title": (set[Annotated[int, msgspec.Meta(title="a number")]], arr(ALIKE)),
    "numbers or dates": (dict[int | date | None, int], obj(ALIKE)),
    "decimals": (set[Decimal], arr([str(key) for key in ALIKE])),
    "UUIDs": (dict[UUID, int], obj([UUID(int=key) for key in ALIKE])),
    "tuples": (set[tuple[int, str]], arr([[key, "a"] for key in ALIKE])),
    "tuples of any length": (set[tuple[int, ...]], arr([[key] for key in ALIKE])),
    "sets of sets": (set[frozenset[int]], arr([[key] for key in ALIKE])),
    "frozen dataclasses": (set[Point], arr([{"x": key} for key in ALIKE])),
    "frozen structs": (set[Fixed], arr([{"x": key} for key in ALIKE])),
    "named tuples": (set[Pair], arr([[key, 1] for key in ALIKE])),
    "numbers or names": (set[int | Literal["all"]], arr(ALIKE)),
    "numbers or sides": (set[tuple[int, Side]], arr([[key, 1] for key in ALIKE])),
    "inside of others": (list[Report], arr([{"name": "a", "totals": {str(key): 1.0 for key in ALIKE}}])),
    "with a wrong one behind them": (set[int], arr([*ALIKE, "none"])),
    "among others": (dict[int, int], obj([*range(MANY), *ALIKE])),
}


@pytest.mark.parametrize("name", CROWDS)
def test_keys_with_one_hash_are_refused_before_they_are_compared(name: str) -> None:
    kind, body = CROWDS[name]
    shape = JSONShape(kind, "f")
    began = time.thread_time()
    with pytest.raises(DecodingFailed, match="have the same hash"):
        shape.decode(body)
    assert time.thread_time() - began < SECONDS


def test_the_keys_of_models_are_looked_at() -> None:
    totals = {str(key): 1.0 for key in ALIKE}
    for model, body in ((Model, {"totals": totals}), (Around, {"models": [{"totals": totals}]})):
        with pytest.raises(DecodingFailed, match="have the same hash"):
            JSONShape(model, "f").decode(json.dumps(body).encode())


HELD: dict[str, Any] = {
    "numbers": ALIKE,
    "frozen": ALIKE,
    "strict": {str(key): 1 for key in ALIKE},
    "decimals": [f"{key}.5" for key in ALIKE],
    "ids": {str(UUID(int=key)): 1 for key in ALIKE},
    "anything": ALIKE,
    "bare": ALIKE,
    "tuples": [[key, "a"] for key in ALIKE],
    "made": [str(key) for key in ALIKE],
    "of_models": [{"x": key} for key in ALIKE],
    "of_strict": [{"x": key} for key in ALIKE],
    "of_several": {str(key): {"x": 1} for key in ALIKE},
    "rings": [{"inner": [{"places": [{"x": key} for key in ALIKE]}]}],
}
WRONG: dict[str, list[Any]] = {
    "nothing": [],
    "what pydantic takes for a number": ["1_0"],
    "what is none": ["none"],
    "what has no hash": [[]],
    "what is no value at all": [None] * (MAX_ALIKE + 1),
}


@pytest.mark.parametrize("name", HELD)
def test_keys_that_pydantic_reads_are_looked_at_as_pydantic_has_them(name: str) -> None:
    with pytest.raises(Crowded, match="have the same hash"):
        JSONShape(Held, "f").decode(json.dumps({name: HELD[name]}).encode())


@pytest.mark.parametrize("name", WRONG)
def test_pydantic_goes_on_after_what_is_wrong_and_so_does_the_look(name: str) -> None:
    for field in ("numbers", "anything", "of_models"):
        body = json.dumps({field: [*WRONG[name], *HELD[field]]}).encode()
        with pytest.raises(Crowded, match="have the same hash"):
            JSONShape(Held, "f").decode(body)


def test_texts_that_pydantic_alone_takes_for_numbers_are_looked_at() -> None:
    spelled = [f" {key:_d}" for key in ALIKE]
    for body in ({"numbers": spelled}, {"of_several": {key: {"x": 1} for key in spelled}}):
        with pytest.raises(Crowded, match="have the same hash"):
            JSONShape(Held, "f").decode(json.dumps(body).encode())


@pytest.mark.parametrize("kind", [set[Place], frozenset[Strict], set[tuple[Place, int]]])
def test_sets_of_models_are_looked_at_outside_of_models_too(kind: Any) -> None:
    body = arr([[{"x": key}, 1] for key in ALIKE] if "tuple" in str(kind) else [{"x": key} for key in ALIKE])
    with pytest.raises(Crowded, match="have the same hash"):
        JSONShape(kind, "f").decode(body)


def test_a_model_that_waits_for_another_is_looked_at() -> None:
    with pytest.raises(Crowded, match="have the same hash"):
        JSONShape(Later, "f").decode(b'{"latest":{"numbers":%b}}' % arr(ALIKE))


def test_honest_keys_of_models_are_taken_however_many() -> None:
    numbers = range(1, MANY)
    held = Held(
        numbers={*numbers, *ALIKE[:MAX_ALIKE]},
        ids={UUID(int=key << 61): 1 for key in numbers},
        texts={str(key) for key in numbers},
        of_models={Place(x=key) for key in range(2000)},
        tuples={(key, "a") for key in numbers},
        of_several={key: Place(x=1) for key in range(2000)},
        rings=[Ring(places={Place(x=key) for key in range(2000)})],
    )
    shape = JSONShape(Held, "f")
    assert shape.decode(shape.encode(held)) == held


def test_what_pydantic_finds_wrong_is_told_as_ever() -> None:
    body = json.dumps({"numbers": [*range(MANY), "none"]}).encode()
    with pytest.raises(DecodingFailed, match="valid integer"):
        JSONShape(Held, "f").decode(body)


def test_what_reads_itself_and_is_not_of_pydantic_is_looked_at_where_it_is_a_key() -> None:
    assert crowds_in([msgspec.inspect.type_info(list[Own])]) is None
    assert crowds_in([msgspec.inspect.type_info(set[Own])]) is not None


def test_decimals_are_looked_at_in_every_digit() -> None:
    body = b"[%b]" % b",".join(b"%d.5" % key for key in ALIKE)
    for kind, one in ((set[Decimal], body), (list[set[Decimal]], b"[%b]" % body)):
        with pytest.raises(Crowded, match="have the same hash"):
            JSONShape(kind, "f").decode(one)
    honest = b"[%b]" % b",".join(b"%d.5" % (key * key) for key in range(MANY))
    assert len(JSONShape(set[Decimal], "f").decode(honest)) == MANY
    with pytest.raises(DecodingFailed, match="decimal"):
        JSONShape(set[Decimal], "f").decode(honest[:-1] + b",1e%d]" % 10**20)


def test_objects_are_looked_at_from_4_kib_on_since_their_comparison_takes_longer() -> None:
    few = ALIKE[: 2 * MAX_ALIKE]
    body = arr([{"x": key} for key in few])
    assert HARMLESS_SLOW < len(body) < HARMLESS
    for kind in (set[Place], set[Point]):
        with pytest.raises(Crowded, match="more than 100 keys"):
            JSONShape(kind, "f").decode(body)


def test_a_model_without_such_keys_is_not_looked_at() -> None:
    names = {str(key): 1 for key in ALIKE}
    assert JSONShape(Plain, "f").decode(json.dumps({"names": names}).encode()) == Plain(names=names)


TAKEN: dict[str, tuple[Any, Any]] = {
    "numbers in a row": (dict[int, int], {key: 1 for key in range(MANY)}),
    "numbers of 64 bits": (set[int], {key * 0x9E3779B97F4A7C15 % 2**64 for key in range(MANY)}),
    "few with one hash": (set[int], {*range(1, MANY), *ALIKE[:MAX_ALIKE]}),
    "one value again and again": (tuple[list[int], set[int]], ([7] * MANY, {7})),
    "UUIDs": (set[UUID], {UUID(int=key << 61) for key in range(MANY)}),
    "objects that would all be one key": (
        tuple[set[Corner], list[Named]],
        ({Corner()}, [Named(str(key)) for key in range(MANY)]),
    ),
    "text in place of a set": (set[int] | str, "a" * HARMLESS),
    "lists beside": (tuple[list[list[int]], set[int]], ([[0, 0]] * MANY, {1})),
}


@pytest.mark.parametrize("name", TAKEN)
def test_others_are_taken(name: str) -> None:
    kind, value = TAKEN[name]
    shape = JSONShape(kind, "f")
    body = shape.encode(value)
    assert len(body) > HARMLESS
    assert shape.decode(body) == value


def test_a_small_body_is_not_looked_at() -> None:
    keys = ALIKE[: 2 * MAX_ALIKE]
    assert JSONShape(dict[int, int], "f").decode(obj(keys)) == dict.fromkeys(keys, 1)


def test_a_large_body_that_is_no_json_says_so() -> None:
    with pytest.raises(DecodingFailed, match="malformed"):
        JSONShape(set[int], "f").decode(arr(ALIKE)[:-1] + b"}")


def test_what_an_object_raises_is_told_as_ever() -> None:
    @dataclass(frozen=True)
    class Even:
        x: int

        def __post_init__(self) -> None:
            if self.x % 2:
                raise ValueError("odd")

    with pytest.raises(DecodingFailed, match="odd"):
        JSONShape(set[Even], "f").decode(arr([{"x": key} for key in range(MANY)]))


def test_arguments_are_looked_at_by_name_and_by_position() -> None:
    def f(x: set[int]) -> None:
        """Take some."""

    shape = JSON().request(contract_of(f).methods["f"])
    for body in (b'{"x":%b}' % arr(ALIKE), b"[%b]" % arr(ALIKE)):
        with pytest.raises(DecodingFailed, match="have the same hash"):
            shape.decode(body)


@pytest.mark.parametrize(
    "kind",
    [
        *(int, list[int], dict[str, int], dict, set[str], dict[date, list[int]], set[Side], list[Point], list[Pair]),
        *(set[tuple[str, str]], set[tuple[str, ...]], set[str | None]),
    ],
)
def test_types_whose_keys_nobody_can_choose_are_not_looked_at(kind: Any) -> None:
    assert crowds_in([msgspec.inspect.type_info(kind)]) is None
