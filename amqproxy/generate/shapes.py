"""What values look like in JSON, as far as a client in another language needs to know."""

from __future__ import annotations

import inspect
import re
from dataclasses import dataclass
from typing import Any, Literal

import msgspec
from msgspec import inspect as described

from .naming import Names

_NAME = re.compile(r"[\w.$@ -]+")
"""Names of fields that each language can spell."""

Kind = Literal["any", "none", "bool", "int", "float", "text", "bytes"]


@dataclass(frozen=True, slots=True)
class Scalar:
    """A single value; "any" is whatever JSON can hold."""

    kind: Kind
    note: str = ""
    """What a text holds, if not any text."""


@dataclass(frozen=True, slots=True)
class ListOf:
    """An array of one kind of items."""

    item: Shape


@dataclass(frozen=True, slots=True)
class TupleOf:
    """An array with a kind of item for each place."""

    items: tuple[Shape, ...]


@dataclass(frozen=True, slots=True)
class MapOf:
    """An object with any keys."""

    value: Shape


@dataclass(frozen=True, slots=True)
class Nullable:
    """A value or null."""

    inner: Shape


@dataclass(frozen=True, slots=True)
class OneOf:
    """One of these values, which are all of one kind."""

    kind: Kind
    values: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Named:
    """A record or choice of the service, by its key."""

    key: str


Shape = Scalar | ListOf | TupleOf | MapOf | Nullable | OneOf | Named

ANY = Scalar("any")
NONE = Scalar("none")


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a record."""

    name: str
    """As it is in JSON."""
    shape: Shape
    required: bool = True
    is_empty: bool = False
    """Whether it is an empty list, object or text when it is left out."""


@dataclass(frozen=True, slots=True)
class Record:
    """A class: an object with these fields, or an array of them."""

    key: str
    doc: str
    fields: tuple[Field, ...]
    is_array: bool = False


@dataclass(frozen=True, slots=True)
class Choice:
    """An enum: the names and the values of its members."""

    key: str
    doc: str
    kind: Kind
    members: tuple[tuple[str, Any], ...]


_SCALARS: dict[type, Scalar] = {
    described.NoneType: NONE,
    described.BoolType: Scalar("bool"),
    described.IntType: Scalar("int"),
    described.FloatType: Scalar("float"),
    described.StrType: Scalar("text"),
    described.BytesType: Scalar("bytes"),
    described.ByteArrayType: Scalar("bytes"),
    described.MemoryViewType: Scalar("bytes"),
    described.DateTimeType: Scalar("text", "date and time, RFC 3339"),
    described.DateType: Scalar("text", "date, RFC 3339"),
    described.TimeType: Scalar("text", "time of day, RFC 3339"),
    described.TimeDeltaType: Scalar("text", "duration, ISO 8601"),
    described.UUIDType: Scalar("text", "UUID"),
    described.DecimalType: Scalar("text", "decimal number"),
}
_MAPS = (described.DictType, getattr(described, "FrozenDictType", described.DictType))  # which is newer
_LISTS = (described.CollectionType, described.VarTupleType)  # lists and sets are collections
_RECORDS = (
    described.StructType,
    described.DataclassType,
    described.TypedDictType,
    described.NamedTupleType,
)


_EMPTY = (list, dict, set, frozenset, tuple)


class Shapes:
    """The shapes of types that msgspec described together, and the records and choices that they are made of."""

    def __init__(self) -> None:
        self.named: dict[str, Record | Choice] = {}
        self._keys: dict[int, str] = {}
        self._names = Names()

    def of(self, node: described.Type) -> Shape:
        """The shape of a type."""
        if isinstance(node, described.Metadata):
            return self.of(node.type)
        if type(node) in _SCALARS:
            return _SCALARS[type(node)]
        if isinstance(node, _LISTS):
            return ListOf(self.of(node.item_type))
        if isinstance(node, described.TupleType):
            return TupleOf(tuple(map(self.of, node.item_types)))
        if isinstance(node, _MAPS):
            return MapOf(self.of(node.value_type))
        if isinstance(node, described.UnionType):
            return self._union(node)
        if isinstance(node, described.LiteralType):
            return _literal(node.values)
        if isinstance(node, described.EnumType):
            return self._choice(node)
        return self._record(node) if isinstance(node, _RECORDS) else ANY

    def _union(self, node: described.UnionType) -> Shape:
        """Null or one thing; any other choice of types is more than most languages can say."""
        parts = [self.of(part) for part in node.types if not isinstance(part, described.NoneType)]
        if set(parts) == {Scalar("int"), Scalar("float")}:
            parts = [Scalar("float")]
        if len(parts) > 1 or parts == [ANY]:
            return ANY
        return Nullable(parts[0]) if node.includes_none else parts[0]

    def _record(self, node: Any) -> Shape:
        if not all(_NAME.fullmatch(each.encode_name) for each in node.fields if hasattr(each, "encode_name")):
            return ANY  # Go, for one, could not spell such a name
        if id(node) not in self._keys:  # set before its fields are looked at, which may lead back to it
            key = self._keys[id(node)] = self._names.take(node.cls.__name__)
            is_array = isinstance(node, described.NamedTupleType) or getattr(node, "array_like", False)
            fields = [self._field(each) for each in node.fields]
            if getattr(node, "tag_field", None):
                kind: Kind = "int" if isinstance(node.tag, int) else "text"
                fields.insert(0, Field(node.tag_field, OneOf(kind, (node.tag,))))
            self.named[key] = Record(key, _doc(node.cls), tuple(fields), is_array)
        return Named(self._keys[id(node)])

    def _field(self, field: described.Field) -> Field:
        is_empty = field.default_factory in _EMPTY or is_empty_default(field.default)
        return Field(field.encode_name, self.of(field.type), field.required, is_empty)

    def _choice(self, node: described.EnumType) -> Shape:
        members = tuple((member.name, member.value) for member in node.cls)
        kind = _kind_of([value for _, value in members])
        if kind == "any":
            return ANY
        if id(node.cls) not in self._keys:
            key = self._keys[id(node.cls)] = self._names.take(node.cls.__name__)
            self.named[key] = Choice(key, _doc(node.cls), kind, members)
        return Named(self._keys[id(node.cls)])


def _literal(values: tuple[Any, ...]) -> Shape:
    given = tuple(value for value in values if value is not None)
    kind = _kind_of(list(given))
    if kind == "any":
        return ANY
    order = sorted(given)  # msgspec has them in an order that is another each time
    return Nullable(OneOf(kind, tuple(order))) if len(given) < len(values) else OneOf(kind, tuple(order))


def _kind_of(values: list[Any]) -> Kind:
    """What all of these are."""
    if values and all(isinstance(value, str) for value in values):
        return "text"
    return "int" if values and all(isinstance(value, int) for value in values) else "any"


def _doc(kind: type) -> str:
    """What the class says of itself, but not what Python or a decorator says in its place."""
    doc = inspect.cleandoc(vars(getattr(kind, "__origin__", kind)).get("__doc__") or "")
    return "" if doc.startswith(f"{kind.__name__}(") or doc == "An enumeration." else doc


def is_empty_default(default: Any) -> bool:
    """Whether a default is an empty list or the like."""
    return isinstance(default, (*_EMPTY, bytes)) and not default


def described_types(kinds: list[Any]) -> list[described.Type]:
    """What msgspec says of these types; the same class is the same object in all of them."""
    return list(msgspec.inspect.multi_type_info(kinds))
