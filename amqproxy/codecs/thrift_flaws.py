"""What Thrift's library lets pass in a struct, and where: values of other types, text that is no UTF-8, missing fields.

Its C extension and its Python code differ in what they take; with this, both take the same. What to look at is found
out once for each class.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any

Look = Callable[[Any, str], str | None]
"""What is wrong with a value, with the path to it."""

BOOL, DOUBLE, STRING, STRUCT, MAP, SET, LIST = 2, 4, 11, 12, 13, 14, 15
"""Thrift's numbers for types, as its generated code has them (`TType`)."""
BITS = {3: 8, 6: 16, 8: 32, 10: 64}
"""Its integers."""
REPLACEMENT = "\ufffd"
"""What the C extension puts in the place of bytes that are not UTF-8."""


def flaw(value: Any) -> str | None:
    """The first thing that is wrong with a struct; None if nothing is."""
    return _in_struct(value, "$")


def _in_struct(value: Any, path: str) -> str | None:
    try:
        value.validate()
    except Exception as error:  # a TProtocolException, whose class is the library's, which is not imported here
        return f"{error} - at `{path}`"
    for name, look in _looks(value.__class__):
        field = getattr(value, name)
        if field is not None and (found := look(field, f"{path}.{name}")):
            return found
    return None


@lru_cache(maxsize=1024)
def _looks(kind: Any) -> tuple[tuple[str, Look], ...]:
    return tuple((field[2], _look(field[1], field[3])) for field in kind.thrift_spec or () if field)


def _look(kind: int, spec: Any) -> Look:
    """How to look at a value of a type; `spec` is what generated code says of it besides."""
    if kind == STRUCT:
        return _instance_of(spec[0])
    if kind == MAP:
        return _map_of(_look(spec[0], spec[1]), _look(spec[2], spec[3]))
    if kind in (SET, LIST):
        look = _look(spec[0], spec[1])
        return _items_of((set, frozenset), "set", look) if kind == SET else _items_of((list, tuple), "list", look)
    if kind in BITS:
        return _integer(1 << (BITS[kind] - 1))
    if kind == STRING:
        return _bytes if spec == "BINARY" else _text
    if kind == BOOL:
        return _plain((bool,), "bool")
    return _plain((float, int), "float") if kind == DOUBLE else lambda value, path: None


def _wrong(expected: str, value: Any, path: str) -> str:
    return f"Expected `{expected}`, got `{type(value).__name__}` - at `{path}`"


def _plain(kinds: tuple[type, ...], name: str) -> Look:
    return lambda value, path: None if isinstance(value, kinds) else _wrong(name, value, path)


_bytes = _plain((bytes, bytearray), "bytes")


def _text(value: Any, path: str) -> str | None:
    return None if isinstance(value, str) else _wrong("str", value, path)


def _integer(bound: int) -> Look:
    def look(value: Any, path: str) -> str | None:
        if not isinstance(value, int):
            return _wrong("int", value, path)
        return None if -bound <= value < bound else f"{value} is out of range - at `{path}`"

    return look


def _instance_of(kind: type) -> Look:
    def look(value: Any, path: str) -> str | None:
        return _in_struct(value, path) if isinstance(value, kind) else _wrong(kind.__name__, value, path)

    return look


def _items_of(kinds: Any, name: str, look_at: Look) -> Look:
    def look(value: Any, path: str) -> str | None:
        if not isinstance(value, kinds):
            return _wrong(name, value, path)
        for place, item in enumerate(value):
            if found := look_at(item, f"{path}[{place}]"):
                return found
        return None

    return look


def _map_of(look_at_key: Look, look_at_value: Look) -> Look:
    def look(value: Any, path: str) -> str | None:
        if not isinstance(value, dict):
            return _wrong("dict", value, path)
        for key, item in value.items():
            where = f"{path}[{key!r}]"
            if found := look_at_key(key, where) or look_at_value(item, where):
                return found
        return None

    return look


def lack(value: Any) -> str | None:
    """The first required field that a struct lacks, or a struct in it; what was read has the right types already."""
    return flaw(value) if _can_lack(value.__class__) else None


@lru_cache(maxsize=1024)
def _can_lack(kind: Any) -> bool:
    """Whether a field can be missing in a struct of this kind, at any depth."""
    return any(not may_be_empty(one) for one in _kinds_in(kind))


@lru_cache(maxsize=1024)
def may_hold_empty_structs(kind: Any) -> bool:
    """Whether containers in a struct of this kind may be full of structs that take one byte each."""
    held = {
        inner for one in _kinds_in(kind) for field in one.thrift_spec or () if field for inner in _in_container(field)
    }
    return any(map(may_be_empty, held))


def may_be_empty(kind: Any) -> bool:
    """Whether a struct has no required field."""
    try:
        kind().validate()
    except Exception:  # a TProtocolException, whose class is the library's
        return False
    return True


def _kinds_in(kind: Any) -> set[Any]:
    """This kind of struct, and all that can be in one."""
    found, waiting = {kind}, [kind]
    while waiting:
        for field in waiting.pop().thrift_spec or ():
            inner = set(_structs(field[1], field[3])) - found if field else set()
            found |= inner
            waiting += inner
    return found


def _structs(kind: int, spec: Any) -> Iterator[Any]:
    """The kinds of struct that a type is made of, those inside of them left out."""
    if kind == STRUCT:
        yield spec[0]
    elif kind == MAP:
        yield from _structs(spec[0], spec[1])
        yield from _structs(spec[2], spec[3])
    elif kind in (SET, LIST):
        yield from _structs(spec[0], spec[1])


def _in_container(field: Any) -> Iterator[Any]:
    return _structs(field[1], field[3]) if field[1] != STRUCT else iter(())


def replaced(value: Any) -> bool:
    """Whether a text in a value that was read holds a replacement for bytes that are not UTF-8, or a real one."""
    if isinstance(value, str):
        return REPLACEMENT in value
    if isinstance(value, dict):
        return any(replaced(key) or replaced(item) for key, item in value.items())
    if isinstance(value, (list, tuple, set, frozenset)):
        return any(map(replaced, value))
    return (
        any(replaced(getattr(value, name)) for name, _ in _looks(value.__class__))
        if hasattr(value, "validate")
        else False
    )
