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

from amqproxy.codecs import DecodingFailed
from amqproxy.codecs.crowds import HARMLESS, MAX_ALIKE, crowds_in
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


def obj(keys: list[Any]) -> bytes:
    return json.dumps({str(key): 1 for key in keys}).encode()


def arr(members: list[Any]) -> bytes:
    return json.dumps(members).encode()


CROWDS: dict[str, tuple[Any, bytes]] = {
    "numbers": (dict[int, int], obj(ALIKE)),
    "numbers of a set": (set[int], arr(ALIKE)),
    "numbers of a frozen set": (frozenset[int], arr(ALIKE)),
    "members of any type": (set, arr(ALIKE)),
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


def test_a_model_without_such_keys_is_not_looked_at() -> None:
    names = {str(key): 1 for key in ALIKE}
    assert JSONShape(Plain, "f").decode(json.dumps({"names": names}).encode()) == Plain(names=names)


TAKEN: dict[str, tuple[Any, Any]] = {
    "numbers in a row": (dict[int, int], {key: 1 for key in range(MANY)}),
    "numbers of 64 bits": (set[int], {key * 0x9E3779B97F4A7C15 % 2**64 for key in range(MANY)}),
    "few with one hash": (set[int], {*range(1, MANY), *ALIKE[:MAX_ALIKE]}),
    "one value again and again": (tuple[list[int], set[int]], ([7] * MANY, {7})),
    "UUIDs": (set[UUID], {UUID(int=key << 61) for key in range(MANY)}),
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
