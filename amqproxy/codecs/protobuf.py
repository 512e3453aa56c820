"""Protocol Buffers: messages of classes that protoc generated, as themselves, and in JSON by protobuf's own mapping.

The library is an extra. A class of its making tells that it is there, and so it is imported only once there is one.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from contextlib import suppress
from types import NoneType
from typing import TYPE_CHECKING, Any

import msgspec

from ..errors import ContractError
from ..messages import Form
from . import DecodingFailed, HoldsTooMuch, Mismatch, Nothing, Shape
from .protobuf_flaws import Search, missing, search
from .protobuf_maps import HARMLESS, numbered_maps

if TYPE_CHECKING:
    from ..contract import Method


class Protobuf:
    """The codec of content encoding `protobuf`."""

    name = "protobuf"
    forms: Collection[Form] = frozenset(("protobuf",))

    def request(self, method: Method) -> Shape:
        """The message itself."""
        if not method.signature.parameters:
            return Nothing(method.request_type(), b"")
        return ProtobufShape(method.request_type)

    def result(self, method: Method) -> Shape:
        """The message itself."""
        if method.result_type is NoneType:
            return Nothing(None, b"")
        return ProtobufShape(method.result_type)

    def anything(self) -> Shape:
        """Nothing: bytes of protobuf do not tell what they are."""
        raise ContractError(
            "protobuf travels between those who have the class: make the proxy from the service's class"
        )


class ProtobufShape:
    """One message class in its binary form."""

    __slots__ = ("_kind", "_maps", "_search", "_unreadable")

    def __init__(self, kind: Any) -> None:
        from google.protobuf import message

        self._kind = kind
        self._search = search(kind.DESCRIPTOR)
        self._maps = numbered_maps(kind.DESCRIPTOR)
        self._unreadable = (message.DecodeError, RecursionError, ValueError)

    def encode(self, value: Any) -> bytes:
        """The message's bytes; Mismatch if a required field is missing, or an enum has no such value."""
        _check_sent(value, self._kind, self._search)
        body: bytes = value.SerializeToString()
        return body

    def decode(self, body: bytes) -> Any:
        """The message; DecodingFailed also if a required field is missing, or an enum has no such value.

        HoldsTooMuch if its maps with numbers for keys have too many entries.
        """
        if self._maps is not None and len(body) > HARMLESS:
            self._maps.check((body,))
        value = self._kind()
        try:
            value.ParseFromString(body)
        except self._unreadable as error:
            raise DecodingFailed(str(error)) from error
        _check_received(value, self._search)
        return value

    def check_together(self, bodies: Sequence[bytes]) -> None:
        """HoldsTooMuch if bodies that came in one message have together what none may have alone."""
        if self._maps is not None and sum(map(len, bodies)) > HARMLESS:
            self._maps.check(bodies)


MAX_DEPTH = 200
"""How deep objects may be nested: messages may be a hundred levels deep, and a map of messages has two for each."""
MAX_VALUES = 1 << 20
"""The most values in the JSON of a message: protobuf's parser, in Python, takes microseconds for each."""
_JSON_NAMES = {list: "array", NoneType: "null"}
"""What JSON calls some types, as msgspec's errors do."""


class ProtobufJSONShape:
    """One message class in JSON: fields by their names in camel case, 64-bit integers and bytes as strings.

    Source: protobuf's guide, "ProtoJSON Format". Fields that are unset and cannot tell so are written with their zero.
    """

    __slots__ = ("_kind", "_maps", "_may_be_a_value", "_search")

    def __init__(self, kind: Any) -> None:
        self._kind = kind
        self._search = search(kind.DESCRIPTOR)
        self._maps = numbered_maps(kind.DESCRIPTOR)
        self._may_be_a_value = kind.DESCRIPTOR.file.package == "google.protobuf"  # a Timestamp, say, is a string

    def encode(self, value: Any) -> bytes:
        """The message's JSON; Mismatch if a required field is missing, or something in it has no JSON form."""
        from google.protobuf import json_format

        _check_sent(value, self._kind, self._search)
        try:
            text: str = json_format.MessageToJson(value, indent=None, always_print_fields_with_no_presence=True)
        except Exception as error:  # an Any of an unknown type, say, is a TypeError
            raise Mismatch(f"no JSON of {self._kind.DESCRIPTOR.full_name}: {error}") from error
        return text.encode()

    def decode(self, body: bytes) -> Any:
        """The message."""
        from google.protobuf import json_format

        name = self._kind.DESCRIPTOR.full_name
        try:
            plain = msgspec.json.decode(body)
        except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
            raise DecodingFailed(str(error)) from error
        # Counted only where it may matter: there are commas and brackets in texts, too.
        if body.count(b",") >= MAX_VALUES or body.count(b"{") + body.count(b"[") > MAX_DEPTH:
            _check_extent(plain)
        if self._maps is not None and len(body) > HARMLESS:
            self._maps.check_json(plain)
        if not isinstance(plain, dict) and not self._may_be_a_value:
            raise DecodingFailed(
                f"Expected `object`, got `{_JSON_NAMES.get(type(plain), type(plain).__name__)}`, for {name}"
            )
        try:
            value = json_format.ParseDict(plain, self._kind())
        except Exception as error:  # whatever its parser stumbles upon: ParseError, TypeError, AttributeError, …
            raise DecodingFailed(f"not a valid {name}: {error}") from error
        _check_received(value, self._search)
        return value

    def check_together(self, body: bytes) -> None:
        """HoldsTooMuch if an array of messages has in all what none may have alone."""
        if self._maps is not None and len(body) > HARMLESS:
            with suppress(msgspec.MsgspecError, RecursionError, UnicodeDecodeError):  # which is told as it is read
                self._maps.check_json(msgspec.json.decode(body))


def _check_sent(value: Any, kind: Any, search: Search | None) -> None:
    if not isinstance(value, kind):
        raise Mismatch(f"Expected `{kind.DESCRIPTOR.full_name}`, got `{type(value).__name__}`")
    if problem := _problem(value, search):
        raise Mismatch(problem)


def _check_received(value: Any, search: Search | None) -> None:
    if problem := _problem(value, search):
        raise DecodingFailed(problem)


def _problem(value: Any, search: Search | None) -> str | None:
    try:
        if search is not None and (found := search.first(value)):
            return found
        if not value.IsInitialized():
            return f"a required field is missing - at `{next(missing(value, '$'))}`"
    except UnicodeDecodeError as error:  # from a map, whose keys are read when they are looked at
        return f"a key of a map is not UTF-8: {error}"
    except RecursionError:
        return "it is nested too deep"
    return None


def _check_extent(plain: Any) -> None:
    """HoldsTooMuch or DecodingFailed if there are too many values in one, or if it is nested too deep."""
    waiting, found = [(plain, 1)], 0
    while waiting:
        one, depth = waiting.pop()
        inner = one.values() if isinstance(one, dict) else one if isinstance(one, list) else ()
        found += len(inner)
        if found > MAX_VALUES:
            raise HoldsTooMuch(f"it has more than {MAX_VALUES} values, which JSON of protobuf is too slow for")
        if depth > MAX_DEPTH:
            raise DecodingFailed(f"it is nested deeper than {MAX_DEPTH} levels")
        # A list in an object is a repeated field, and no level of its own.
        further = depth + (not isinstance(one, dict))
        waiting += [
            (each, depth + 1 if isinstance(each, dict) else further) for each in inner if type(each) in (dict, list)
        ]
