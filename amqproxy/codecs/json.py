"""JSON, with the types of the contract: msgspec reads, writes and checks in one pass of C.

What a type looks like in JSON is msgspec's default (https://jcristharif.com/msgspec/supported-types.html): datetimes
are RFC 3339 strings, UUIDs and decimals strings, bytes base64, enums their values. pydantic models are written and read
by themselves, messages of protobuf by its own mapping.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from ..errors import ContractError, EncodingFailed
from ..messages import Form, form_of
from . import DecodingFailed, Mismatch, Shape
from .crowds import crowds_in
from .defaults import filled, leaves_out
from .protobuf import ProtobufJSONShape

if TYPE_CHECKING:
    from ..contract import Method


def _write_model(value: Any) -> Any:
    """msgspec's hook for types that it does not know: pydantic models know how to write themselves."""
    if hasattr(value, "model_dump") and not isinstance(value, type):
        return value.model_dump(mode="json", by_alias=True)
    name = type(value).__name__
    name = f"an {name}" if name[:1].lower() in "aeiou" else f"a {name}"
    if form_of(type(value)) != "plain":
        raise TypeError(f"{name} travels by itself: annotate the result with it")
    if hasattr(value, "__aiter__") or hasattr(value, "__next__"):
        cure = "annotate the method with it, and make the proxy of the class, or make a list of it"
        raise TypeError(f"{name} cannot be written as JSON; if it is a stream, {cure}")
    raise TypeError(f"{name} cannot be written as JSON")


def _read_model(kind: Any, value: Any) -> Any:
    """The same for reading, for models too. They read JSON: strict ones would refuse a str as a date else."""
    return kind.model_validate_json(_numbers.encode(value))


LARGE = 1024
"""From this size on, reading back what was written is avoided where a look at the types does as well."""
_PLAIN = frozenset((str, int, bool, bytes))


def _is_plain(kind: Any) -> bool:
    return isinstance(kind, type) and kind in _PLAIN


_encoder = msgspec.json.Encoder(enc_hook=_write_model)
_numbers = msgspec.json.Encoder(decimal_format="number")
_untyped = msgspec.json.Decoder()
_msgpack = msgspec.msgpack.Encoder(enc_hook=_write_model)
_UNWRITABLE = (TypeError, ValueError, OverflowError, RecursionError)
_UNREADABLE = (msgspec.MsgspecError, RecursionError, UnicodeDecodeError)


class JSON:
    """The codec of content encoding `json`."""

    name = "json"
    forms: Collection[Form] = frozenset(("plain", "protobuf"))

    def request(self, method: Method) -> Shape:
        """An object keyed by parameter, or the message itself; an array of arguments is understood too."""
        if form_of(method.request_type) == "protobuf":
            return ProtobufJSONShape(method.request_type)
        if method.positional_type is None:
            return JSONShape(method.request_type, method.title)
        return _Arguments(method)

    def result(self, method: Method) -> Shape:
        """The bare value."""
        if form_of(method.result_type) == "protobuf":
            return ProtobufJSONShape(method.result_type)
        return JSONShape(method.result_type, method.title)

    def anything(self) -> _Anything:
        """Whatever JSON can hold."""
        return _Anything()


class JSONShape:
    """One type as JSON."""

    __slots__ = ("_decode", "_lossy", "_read", "kind")

    def __init__(self, kind: Any, title: str) -> None:
        try:
            parts = list(_parts(msgspec.inspect.type_info(kind), set()))
            decode = msgspec.json.Decoder(kind, dec_hook=_read_model).decode
        except Exception as error:  # annotations of classes are evaluated here, which may raise anything
            raise ContractError(f"{title}: JSON cannot carry the type {kind}: {error}") from error
        for part in parts:
            if isinstance(part, msgspec.inspect.CustomType) and not hasattr(part.cls, "model_validate_json"):
                cure = _CURE if form_of(part.cls) == "plain" else _CURE_OF_MESSAGES
                raise ContractError(f"{title}: JSON cannot carry a {part.cls.__qualname__}; {cure}")
        fills = leaves_out(part.cls for part in parts if isinstance(part, msgspec.inspect.DataclassType))
        self._decode = decode
        read: Callable[[bytes], Any] = (lambda body: filled(decode(body))) if fills else decode
        crowds = crowds_in(parts, _read_model)
        self._read = read if crowds is None else crowds.before(read)
        self.kind = kind
        self._lossy = any(isinstance(part, _LOSSY) for part in parts)

    def encode(self, value: Any) -> bytes:
        """The value's JSON, read back once: that checks the whole of it just as the other side will, and is cheap."""
        body = _encode(value)
        if len(body) >= LARGE and self._plainly_fits(value):
            return body
        try:
            found = self._decode(body)
            if self._lossy and found != value:
                self._refuse_what_was_lost(value, body)
        except msgspec.ValidationError as error:
            _refuse_not_a_number(value, body)
            raise Mismatch(str(error)) from error
        except _UNREADABLE as error:
            raise EncodingFailed(f"what was written cannot be read: {error}") from error
        return body

    def _plainly_fits(self, value: Any) -> bool:
        """True if no reading back is needed to see that the value is of the type; False says nothing."""
        return type(value) is self.kind and _is_plain(self.kind)

    def _refuse_what_was_lost(self, value: Any, body: bytes) -> None:
        """JSON has no bytes: they become text, and text is read as bytes where those are expected; msgpack has both."""
        _refuse_not_a_number(value, body)
        try:
            msgspec.msgpack.decode(_msgpack.encode(value), type=self.kind, dec_hook=_read_model)
        except msgspec.ValidationError as error:
            if "bytes" in str(error).partition(" - at ")[0]:
                raise Mismatch(str(error)) from error
        except (*_UNWRITABLE, *_UNREADABLE):
            return  # this value has no form in msgpack, so all that can be said is that its JSON fits

    def decode(self, body: bytes) -> Any:
        """The value."""
        try:
            return self._read(body)
        except _UNREADABLE as error:
            raise DecodingFailed(str(error)) from error


class _Arguments(JSONShape):
    """The arguments of a method, which foreign callers may send as an array, by position."""

    __slots__ = ("_by_position", "_from_positions", "_plain_types")

    def __init__(self, method: Method) -> None:
        super().__init__(method.request_type, method.title)
        self._by_position = JSONShape(method.positional_type, method.title)
        self._from_positions = method.from_positions
        kinds = tuple(p.annotation for p in method.signature.parameters.values())
        self._plain_types = kinds if all(map(_is_plain, kinds)) and not method.takes_message else None

    def _plainly_fits(self, value: Any) -> bool:
        return self._plain_types is not None and tuple(map(type, msgspec.structs.astuple(value))) == self._plain_types

    def decode(self, body: bytes) -> Any:
        if body[:1] == b"{" or body.lstrip()[:1] != b"[":
            return super().decode(body)
        request = self._by_position.decode(body)
        try:
            return self._from_positions(request)
        except (TypeError, ValueError) as error:
            raise DecodingFailed(str(error)) from error


class _Anything:
    """Plain values whose type nobody knows."""

    __slots__ = ()

    def encode(self, value: Any) -> bytes:
        body = _encode(value)
        _refuse_not_a_number(value, body)
        return body

    def decode(self, body: bytes) -> Any:
        try:
            return _untyped.decode(body)
        except _UNREADABLE as error:
            raise DecodingFailed(str(error)) from error


_CURE = (
    "use a dataclass, a msgspec Struct, an attrs or pydantic class, a TypedDict or a built-in type; "
    "a parameter that the worker provides has the default amqproxy.provided"
)

_CURE_OF_MESSAGES = "a generated message travels by itself: as the only parameter, or as the result"


_LOSSY = (
    msgspec.inspect.AnyType,
    msgspec.inspect.NoneType,
    msgspec.inspect.StrType,
    msgspec.inspect.BytesType,
    msgspec.inspect.ByteArrayType,
    msgspec.inspect.MemoryViewType,
)
"""What may be read from the JSON of something else: null from a NaN, text from bytes, and bytes from text."""


def _parts(node: Any, seen: set[int]) -> Iterator[Any]:
    """A type as msgspec describes it, and all types that it is made of."""
    if isinstance(node, tuple):
        for part in node:
            yield from _parts(part, seen)
    elif isinstance(node, (msgspec.inspect.Type, msgspec.inspect.Field)) and id(node) not in seen:
        seen.add(id(node))
        yield node
        for name in node.__struct_fields__:
            yield from _parts(getattr(node, name), seen)


def _encode(value: Any) -> bytes:
    try:
        return _encoder.encode(value)
    except _UNWRITABLE as error:
        path, culprit = _find(value, _is_unwritable)
        reason = str(error) if culprit is None else f"{type(culprit).__name__} has no JSON form ({error})"
        raise EncodingFailed(f"{reason} - at `{path}`") from error


def _refuse_not_a_number(value: Any, body: bytes) -> None:
    """JSON has no NaN and no infinity; msgspec writes null in their place, which would be read as None."""
    if b"null" in body and _may_hold_not_a_number(value):
        path, culprit = _find(value, _is_not_a_number)
        if culprit is not None:
            raise EncodingFailed(f"{culprit!r} has no JSON form - at `{path}`")


_NOT_A_NUMBER = re.compile(rb"\xcb[\x7f\xff][\xf0-\xff]")
"""How msgpack begins a NaN or infinity: a float64 whose exponent has all bits set."""


def _may_hold_not_a_number(value: Any) -> bool:
    """Says no in one pass of C for nearly all that hold none, since the way to one is found slowly."""
    try:
        return _NOT_A_NUMBER.search(_msgpack.encode(value)) is not None
    except _UNWRITABLE:
        return True


def _is_unwritable(value: Any) -> bool:
    try:
        _encoder.encode(value)
    except _UNWRITABLE:
        return True
    return False


def _is_not_a_number(value: Any) -> bool:
    return isinstance(value, float) and not math.isfinite(value)


def _find(value: Any, matches: Any, path: str = "$", depth: int = 64) -> tuple[str, Any]:
    """The path to the innermost value that matches, and the value (None if there is none)."""
    for step, inner in _inner(value) if depth else ():
        found = _find(inner, matches, path + step, depth - 1)
        if found[1] is not None:
            return found
    return path, (value if matches(value) else None)


def _inner(value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield f".{key}", item
    elif isinstance(value, (list, tuple, set, frozenset)):
        for place, item in enumerate(value):
            yield f"[{place}]", item
    elif isinstance(value, msgspec.Struct):
        for name in value.__struct_fields__:
            yield f".{name}", getattr(value, name)
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        for field in dataclasses.fields(value):
            yield f".{field.name}", getattr(value, field.name)
    else:
        for field in getattr(type(value), "__attrs_attrs__", ()):
            yield f".{field.name}", getattr(value, field.name)
