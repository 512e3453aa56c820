"""Fields that a dataclass has by default: msgspec leaves them to the class when it reads, and out when it writes.

So a handler that passes on what it was given would send less than it holds. Only dataclasses without `__slots__` are
concerned, whose fields have plain defaults.
"""

from __future__ import annotations

import dataclasses
import inspect
import typing
from collections.abc import Iterable
from functools import lru_cache
from types import NoneType
from typing import Any

_PLAIN = frozenset((str, int, float, bool, bytes, NoneType))
"""What most values are, and what has nothing in it."""


def leaves_out(kinds: Iterable[Any]) -> bool:
    """Whether one of these classes is read so."""
    return any(_fields(typing.get_origin(kind) or kind)[1] for kind in kinds)


@lru_cache(maxsize=1024)
def _fields(kind: Any) -> tuple[tuple[str, ...], tuple[tuple[str, Any], ...]]:
    """The fields that an instance is looked into for, and those of a dataclass that its instances may lack."""
    if hasattr(kind, "__struct_fields__"):
        return kind.__struct_fields__, ()
    if hasattr(kind, "__attrs_attrs__"):
        return tuple(field.name for field in kind.__attrs_attrs__), ()
    if not dataclasses.is_dataclass(kind):
        return (), ()
    fields = dataclasses.fields(kind)
    return tuple(field.name for field in fields), tuple(
        (field.name, field.default)
        for field in fields
        if field.default is not dataclasses.MISSING and not _has_a_place_of_its_own(kind, field.name)
    )


def _has_a_place_of_its_own(kind: Any, name: str) -> bool:
    """Whether a field is kept by a slot, a property or another descriptor, and not in the instance's `__dict__`."""
    return hasattr(inspect.getattr_static(kind, name, None), "__set__")


def filled(value: Any) -> Any:
    """The same value, in which each dataclass has all its fields itself."""
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict):
            waiting += [inner for inner in one.values() if type(inner) not in _PLAIN]
        elif isinstance(one, (list, tuple, set, frozenset)):
            waiting += [inner for inner in one if type(inner) not in _PLAIN]
        else:
            names, defaults = _fields(one.__class__)
            lacking = {name: default for name, default in defaults if name not in one.__dict__} if defaults else {}
            for name in names:  # but for what is put there now: it is the class's own, and may be anything
                if name not in lacking and type(inner := getattr(one, name, None)) not in _PLAIN:
                    waiting.append(inner)
            if lacking:
                one.__dict__.update(lacking)
    return value
