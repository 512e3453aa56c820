"""Serializers: a content encoding each, from values of a contract to bytes and back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from ..contract import Method


class DecodingFailed(ValueError):
    """Bytes that are not what the contract says; the text holds the path: "Expected `int`, got `str` - at `$.x`"."""


class Mismatch(ValueError):
    """A value that is not of the type that the contract says; the text holds the path."""


class Shape(Protocol):
    """One type in one encoding."""

    def encode(self, value: Any) -> bytes:
        """The value's bytes; Mismatch if it is not of the type, EncodingFailed if the codec cannot write it."""

    def decode(self, body: bytes) -> Any:
        """The value, checked against the type; DecodingFailed if the bytes are something else."""


class Codec(Protocol):
    """A serializer."""

    name: str
    """The content encoding."""

    def request(self, method: Method) -> Shape:
        """How the arguments of a method travel."""

    def result(self, method: Method) -> Shape:
        """How its result travels."""

    def anything(self) -> Shape:
        """How plain values travel when nobody knows their type."""
