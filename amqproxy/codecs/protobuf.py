"""Protocol Buffers: messages of classes that protoc generated, as themselves, and in JSON by protobuf's own mapping.

The library is an extra. A class of its making tells that it is there, and so it is imported only once there is one.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING, Any

from ..errors import ContractError
from ..messages import Form
from . import DecodingFailed, Mismatch

if TYPE_CHECKING:
    from ..contract import Method


class Protobuf:
    """The codec of content encoding `protobuf`."""

    name = "protobuf"
    forms: Collection[Form] = frozenset(("protobuf",))

    def request(self, method: Method) -> ProtobufShape:
        """The message itself."""
        return ProtobufShape(method.request_type)

    def result(self, method: Method) -> ProtobufShape:
        """The message itself."""
        return ProtobufShape(method.result_type)

    def anything(self) -> ProtobufShape:
        """Nothing: bytes of protobuf do not tell what they are."""
        raise ContractError(
            "protobuf travels between those who have the class: make the proxy from the service's class"
        )


class ProtobufShape:
    """One message class in its binary form."""

    __slots__ = ("_enums", "_kind", "_unreadable", "_unwritable")

    def __init__(self, kind: Any) -> None:
        from google.protobuf import message

        self._kind = kind
        self._enums = _holds_enums(kind.DESCRIPTOR, set())
        self._unwritable = (message.EncodeError, RecursionError, ValueError)
        self._unreadable = (message.DecodeError, RecursionError, UnicodeDecodeError, ValueError)

    def encode(self, value: Any) -> bytes:
        """The message's bytes; Mismatch if a required field is missing."""
        _check_kind(value, self._kind)
        try:
            body: bytes = value.SerializeToString()
        except self._unwritable as error:
            raise Mismatch(str(error)) from error
        return body

    def decode(self, body: bytes) -> Any:
        """The message; DecodingFailed also if a required field is missing, or an enum has no such value."""
        value = self._kind()
        try:
            value.ParseFromString(body)
        except self._unreadable as error:
            raise DecodingFailed(str(error)) from error
        _check(value, self._enums)
        return value


class ProtobufJSONShape:
    """One message class in JSON: fields by their names in camel case, 64-bit integers and bytes as strings.

    Source: protobuf's guide, "ProtoJSON Format". Fields that are unset and cannot tell so are written with their zero.
    """

    __slots__ = ("_enums", "_kind")

    def __init__(self, kind: Any) -> None:
        self._kind = kind
        self._enums = _holds_enums(kind.DESCRIPTOR, set())

    def encode(self, value: Any) -> bytes:
        """The message's JSON; Mismatch if a required field is missing, or a number has no JSON form."""
        from google.protobuf import json_format

        _check_kind(value, self._kind)
        if not value.IsInitialized():
            raise Mismatch(_missing(value))
        try:
            text: str = json_format.MessageToJson(value, indent=None, always_print_fields_with_no_presence=True)
        except (json_format.Error, RecursionError, ValueError) as error:
            raise Mismatch(str(error)) from error
        return text.encode()

    def decode(self, body: bytes) -> Any:
        """The message."""
        from google.protobuf import json_format

        try:
            value = json_format.Parse(body, self._kind())
        except (json_format.Error, RecursionError, ValueError, TypeError, AttributeError) as error:
            raise DecodingFailed(f"no {self._kind.DESCRIPTOR.full_name}: {error}") from error
        _check(value, self._enums)
        return value


def _check_kind(value: Any, kind: Any) -> None:
    if not isinstance(value, kind):
        raise Mismatch(f"Expected `{kind.DESCRIPTOR.full_name}`, got `{type(value).__name__}`")


def _holds_enums(descriptor: Any, seen: set[str]) -> bool:
    """Whether a message can hold an enum at any depth; those that cannot need not be searched."""
    if descriptor.full_name in seen:
        return False
    seen.add(descriptor.full_name)
    return any(
        field.enum_type is not None or (field.message_type is not None and _holds_enums(field.message_type, seen))
        for field in descriptor.fields
    )


def _check(message: Any, enums: bool) -> None:
    """What protobuf lets pass in what it reads."""
    if not message.IsInitialized():
        raise DecodingFailed(_missing(message))
    for path in _unknown_enums(message, "$") if enums else ():
        raise DecodingFailed(f"the enum has no such value - at `{path}`")


def _missing(message: Any) -> str:
    return f"a required field is missing - at `$.{message.FindInitializationErrors()[0]}`"


def _unknown_enums(message: Any, path: str) -> Iterator[str]:
    """The paths to enum values without a name. Closed enums keep them among the unknown fields."""
    from google.protobuf.unknown_fields import UnknownFieldSet

    closed = {f.number: f.name for f in message.DESCRIPTOR.fields if f.enum_type is not None and f.enum_type.is_closed}
    if closed:
        unknown = UnknownFieldSet(message)
        numbers = [unknown[place].field_number for place in range(len(unknown))]
        yield from (f"{path}.{closed[number]}" for number in numbers if number in closed)
    for field, value in message.ListFields():
        where = f"{path}.{field.name}"
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            of_map = field.message_type.fields_by_name["value"]
            for key, item in value.items():
                yield from _unknown_in(of_map, item, f"{where}[{key!r}]")
        elif field.is_repeated:
            for place, item in enumerate(value):
                yield from _unknown_in(field, item, f"{where}[{place}]")
        else:
            yield from _unknown_in(field, value, where)


def _unknown_in(field: Any, value: Any, path: str) -> Iterator[str]:
    if field.message_type is not None:
        yield from _unknown_enums(value, path)
    elif field.enum_type is not None and value not in field.enum_type.values_by_number:
        yield path
