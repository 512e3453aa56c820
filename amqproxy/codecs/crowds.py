"""Dictionaries and sets whose keys were chosen to have one hash: each would be compared with all before it.

Python salts the hashes of text, and not those of numbers: whole numbers that leave the same rest modulo 2**61 - 1 have
one hash, and so have UUIDs, decimals, and tuples and frozen objects of these. A body of half a megabyte with such keys
takes a minute to read. So where a type has such containers, the keys of all but small bodies are counted by their
hashes first.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from datetime import date, datetime, time, timedelta
from decimal import Decimal, InvalidOperation
from typing import Any, Literal, Union
from uuid import UUID

import msgspec
from msgspec import inspect

from . import Crowded
from .models import Keys, keys_in

HARMLESS = 32 * 1024
"""Bytes of a body in which there is no room for so many numbers that it matters."""
HARMLESS_SLOW = 4 * 1024
"""The same, of keys that are compared by code in Python, a hundred times slower."""
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
_SLOW = (*_OBJECTS, inspect.CustomType, inspect.UUIDType)
_CHOSEN = (*_NUMBERS, *_OBJECTS, inspect.CustomType, inspect.AnyType)
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

    __slots__ = ("_decode", "_harmless", "_keys", "_members")

    def __init__(self, keys: Sequence[Keys], members: Sequence[Keys], *, slow: bool, exact: bool) -> None:
        self._keys, self._members = keys, members
        self._harmless = HARMLESS_SLOW if slow else HARMLESS
        # As the reader has them: floats that differ in digits beyond those of a float are several decimals.
        self._decode = msgspec.json.Decoder(float_hook=_exact if exact else None).decode

    def before(self, read: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
        """The same reading, of bodies that have been looked at."""
        harmless = self._harmless

        def looked_at(body: bytes) -> Any:
            if len(body) > harmless:
                self.check(body)
            return read(body)

        return looked_at

    def check(self, body: bytes) -> None:
        """Crowded if a dictionary or a set in the body would have too many keys with one hash.

        What msgspec raises, if the body is no JSON.
        """
        waiting = [self._decode(body)]
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


def crowds_in(parts: Iterable[Any], read_custom: Callable[[Any, Any], Any] | None = None) -> Crowds | None:
    """What to look for in bodies of a type that has these parts; None if nobody can choose the hashes of their keys.

    `read_custom` is msgspec's hook for the types that it does not know. Those of pydantic are looked into.
    """
    parts = list(parts)
    keys = [part.key_type for part in parts if isinstance(part, inspect.DictType)]
    members = [part.item_type for part in parts if isinstance(part, (inspect.SetType, inspect.FrozenSetType))]
    # A key of any type is a text.
    keys = [node for node in keys if not isinstance(node, inspect.AnyType) and _can_be_chosen(node, _CHOSEN)]
    members = [node for node in members if _can_be_chosen(node, _CHOSEN)]
    of_keys, of_members, slow = keys_in({part.cls for part in parts if isinstance(part, inspect.CustomType)})
    slow = slow or any(_can_be_chosen(node, _SLOW) for node in (*keys, *members))
    exact = any(_can_be_chosen(node, (inspect.DecimalType, *_OBJECTS)) for node in members)
    of_keys += [_keys_of(kind, read_custom) for kind in dict.fromkeys(map(_kind, keys))]
    of_members += [_keys_of(kind, read_custom) for kind in dict.fromkeys(map(_kind, members))]
    return Crowds(of_keys, of_members, slow=slow, exact=exact) if of_keys or of_members else None


def _exact(number: str) -> Decimal | float:
    with suppress(InvalidOperation):  # for an exponent of twenty digits
        return Decimal(number)
    return float(number)


def _can_be_chosen(node: Any, kinds: tuple[type, ...]) -> bool:
    """Whether a type is made of one of these."""
    return any(isinstance(part, kinds) for part in _within(node))


def _keys_of(kind: Any, read_custom: Callable[[Any, Any], Any] | None) -> Keys:
    """Values as keys of a type that msgspec reads: it raises for one that is wrong, and so here."""

    def keys_of(values: Sequence[Any]) -> list[Any]:
        return msgspec.convert(values, list[kind], strict=False, dec_hook=read_custom)

    return keys_of


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
    if isinstance(node, (*_OBJECTS, inspect.EnumType, inspect.CustomType)):
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


def _check(values: Sequence[Any], kinds: Iterable[Keys]) -> None:
    if len(values) > MAX_ALIKE:
        for keys_of in kinds:
            _check_as(values, keys_of)


def _check_as(values: Sequence[Any], keys_of: Keys) -> None:
    counts = Counter(found for found, _ in _hashed(values, keys_of))
    alike: dict[int, set[Any]] = {found: set() for found, count in counts.items() if count > MAX_ALIKE}
    if not alike:
        return
    for found, key in _hashed(values, keys_of):  # again: one key that is there again and again costs nothing
        if found in alike:
            alike[found].add(key)
            if len(alike[found]) > MAX_ALIKE:
                which = f"more than {MAX_ALIKE} keys of one dictionary or set"
                raise Crowded(f"{which} have the same hash, and are slow to read: send a list, or text for keys")


def _hashed(values: Sequence[Any], keys_of: Keys) -> Iterator[tuple[int, Any]]:
    """The keys with their hashes, up to the first lot that cannot be read: reading ends there."""
    for start in range(0, len(values), _LOT):
        try:
            keys = keys_of(values[start : start + _LOT])
            hashes = list(map(hash, keys))
        except Exception:  # also what an object's own code raises, which is then raised, and told, as it is read
            return
        yield from zip(hashes, keys, strict=True)
