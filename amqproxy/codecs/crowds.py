"""Dictionaries and sets whose keys were chosen to have one hash: each would be compared with all before it.

Python salts the hashes of text, and not those of numbers: whole numbers that leave the same rest modulo 2**61 - 1 have
one hash, and so have UUIDs, decimals, and tuples and frozen objects of these. A body of half a megabyte with such keys
takes a minute to read. So where a type has such containers, the keys of large bodies are counted by their hashes first.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any, Literal, Union
from uuid import UUID

import msgspec
from msgspec import inspect

from . import Crowded

HARMLESS = 32 * 1024
"""Bytes of a body in which there is no room for so many keys that it matters."""
MAX_ALIKE = 100
"""Keys of one container that may have one hash. Of whole numbers of 64 bits, sixteen have at most."""
_LOT = 100

_NUMBERS: dict[type, Any] = {
    inspect.IntType: int,
    inspect.FloatType: float,
    inspect.DecimalType: Decimal,
    inspect.UUIDType: UUID,
}
_OBJECTS = (inspect.StructType, inspect.DataclassType, inspect.NamedTupleType)
_CHOSEN = (*_NUMBERS, *_OBJECTS)
_KINDS: dict[type, Any] = {
    **_NUMBERS,
    inspect.NoneType: None,
    inspect.BoolType: bool,
    inspect.StrType: str,
    inspect.BytesType: bytes,
    inspect.DateTimeType: datetime,
    inspect.DateType: date,
    inspect.TimeType: time,
    inspect.TimeDeltaType: timedelta,
}


class Crowds:
    """A look at bodies of a type in which keys may have one hash."""

    __slots__ = ("_keys", "_members")

    def __init__(self, keys: Sequence[Any], members: Sequence[Any]) -> None:
        self._keys, self._members = keys, members

    def before(self, read: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
        """The same reading, of bodies that have been looked at."""

        def looked_at(body: bytes) -> Any:
            if len(body) > HARMLESS:
                self.check(body)
            return read(body)

        return looked_at

    def check(self, body: bytes) -> None:
        """Crowded if a dictionary or a set in the body would have too many keys with one hash.

        What msgspec raises, if the body is no JSON.
        """
        waiting = [msgspec.json.decode(body)]
        while waiting:
            one = waiting.pop()
            inner: Iterable[Any] = ()
            if isinstance(one, dict):
                inner = one.values()
                _check(list(one), self._keys)
            elif isinstance(one, list):
                inner = one
                _check(one, self._members)
            waiting += [value for value in inner if isinstance(value, (dict, list))]


def crowds_in(parts: Iterable[Any]) -> Crowds | None:
    """What to look for in bodies of a type that has these parts; None if nobody can choose the hashes of their keys."""
    keys: list[Any] = []
    members: list[Any] = []
    for part in parts:
        if isinstance(part, inspect.DictType):
            keys += _chosen(part.key_type)
        elif isinstance(part, (inspect.SetType, inspect.FrozenSetType)):
            members += [Any] if isinstance(part.item_type, inspect.AnyType) else _chosen(part.item_type)
    return Crowds(keys, members) if keys or members else None


def _chosen(node: Any) -> list[Any]:
    """The type of a key as Python has it, if who sends keys can choose their hashes."""
    return [_kind(node)] if any(isinstance(part, _CHOSEN) for part in _within(node)) else []


def _within(node: Any) -> Iterator[Any]:
    """A type, and those that it is made of; what is in an object is not looked for."""
    yield node
    if isinstance(node, inspect.Metadata):
        yield from _within(node.type)
    elif isinstance(node, (inspect.FrozenSetType, inspect.VarTupleType)):
        yield from _within(node.item_type)
    elif isinstance(node, inspect.TupleType):
        for item in node.item_types:
            yield from _within(item)
    elif isinstance(node, inspect.UnionType):
        for item in node.types:
            yield from _within(item)


def _kind(node: Any) -> Any:
    """The type that msgspec describes by a node, without its limits."""
    if isinstance(node, inspect.Metadata):
        return _kind(node.type)
    if isinstance(node, (*_OBJECTS, inspect.EnumType)):
        return node.cls
    if isinstance(node, inspect.FrozenSetType):
        return frozenset[_kind(node.item_type)]  # type: ignore[misc]  # the type is made here
    if isinstance(node, inspect.VarTupleType):
        return tuple[_kind(node.item_type), ...]  # type: ignore[misc]
    if isinstance(node, inspect.TupleType):
        return tuple[tuple(map(_kind, node.item_types))]  # type: ignore[misc]
    if isinstance(node, inspect.UnionType):
        return Union[tuple(map(_kind, node.types))]  # noqa: UP007  # of types that are made here
    if isinstance(node, inspect.LiteralType):
        return Literal[tuple(node.values)]
    return _KINDS.get(type(node), Any)


def _check(values: Sequence[Any], kinds: Iterable[Any]) -> None:
    if len(values) > MAX_ALIKE:
        for kind in kinds:
            _check_as(values, kind)


def _check_as(values: Sequence[Any], kind: Any) -> None:
    hashes = _hashes(values, list[kind])
    crowded = {found for found, count in Counter(hashes).items() if count > MAX_ALIKE}
    if crowded:  # by one value that is there again and again, perhaps, which costs nothing
        texts = {(found, repr(value)) for found, value in zip(hashes, values, strict=False) if found in crowded}
        count = max(Counter(found for found, _ in texts).values())
        if count > MAX_ALIKE:
            raise Crowded(f"{count} keys of one dictionary or set have the same hash, which may be no accident")


def _hashes(values: Sequence[Any], kind: Any) -> list[int]:
    """Those of the values as they are before the first lot with one that is not of the kind: reading ends there."""
    hashes: list[int] = []
    for start in range(0, len(values), _LOT):
        try:
            hashes += map(hash, msgspec.convert(values[start : start + _LOT], kind, strict=False))
        except Exception:  # also what an object's own code raises, which is then raised, and told, as it is read
            break
    return hashes
