"""Fields that a dataclass has by default: msgspec leaves them to the class when it reads, and out when it writes.

So a handler that passes on what it was given would send less than it holds. Only dataclasses without `__slots__` are
concerned, whose fields have plain defaults.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from functools import lru_cache
from typing import Any

import msgspec


def leaves_out(kinds: Iterable[Any]) -> bool:
    """Whether one of these classes is read so."""
    return any(_defaults(kind) for kind in kinds if hasattr(kind, "__dataclass_fields__"))


@lru_cache(maxsize=1024)
def _defaults(kind: Any) -> tuple[tuple[str, Any], ...]:
    if "__slots__" in vars(kind):
        return ()
    fields = dataclasses.fields(kind)
    return tuple((field.name, field.default) for field in fields if field.default is not dataclasses.MISSING)


def filled(value: Any) -> Any:
    """The same value, in which each dataclass has all its fields itself."""
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, (list, tuple, set, frozenset)):
            waiting += one
        elif isinstance(one, dict):
            waiting += one.values()
        elif isinstance(one, msgspec.Struct):
            waiting += [getattr(one, name) for name in one.__struct_fields__]
        elif dataclasses.is_dataclass(one) and not isinstance(one, type):
            for name, default in _defaults(type(one)):
                one.__dict__.setdefault(name, default)
            waiting += [getattr(one, field.name) for field in dataclasses.fields(one)]
    return value
