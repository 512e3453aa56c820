"""A codec of the user's, kept to what `Codec` promises: a mistake in it fails the call, and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Any

from ..errors import ContractError, EncodingFailed, MessageTooLarge, said
from ..messages import Form
from . import Codec, DecodingFailed, Mismatch, Shape

if TYPE_CHECKING:
    from ..contract import Method


class Guarded:
    """A codec whose every error is one of ours."""

    def __init__(self, codec: Codec) -> None:
        self.name = codec.name
        self.forms: Collection[Form] = codec.forms
        self._codec = codec

    def request(self, method: Method) -> GuardedShape:
        """How the arguments travel."""
        return self._shape(lambda: self._codec.request(method), method.title)

    def result(self, method: Method) -> GuardedShape:
        """How the result travels."""
        return self._shape(lambda: self._codec.result(method), method.title)

    def anything(self) -> GuardedShape:
        """How plain values travel."""
        return self._shape(self._codec.anything, "values of unknown types")

    def _shape(self, make: Callable[[], Shape], what: str) -> GuardedShape:
        try:
            return GuardedShape(self.name, make())
        except Exception as error:
            raise ContractError(f"{what}: {self.name} cannot carry this: {error}") from error


class GuardedShape:
    """A shape whose every error is one of ours."""

    __slots__ = ("_name", "_shape")

    def __init__(self, name: str, shape: Shape) -> None:
        self._name = name
        self._shape = shape

    def encode(self, value: Any) -> bytes:
        """The value's bytes."""
        try:
            body = self._shape.encode(value)
        except (Mismatch, EncodingFailed, MessageTooLarge):
            raise
        except Exception as error:
            raise EncodingFailed(f"the codec {self._name} raised {type(error).__name__}: {said(error)}") from error
        if type(body) is not bytes:  # what has another idea of its length would break the connection
            raise EncodingFailed(f"the codec {self._name} wrote a {type(body).__name__}, not bytes")
        return body

    def decode(self, body: bytes) -> Any:
        """The value."""
        try:
            return self._shape.decode(body)
        except DecodingFailed:
            raise
        except Exception as error:
            raise DecodingFailed(f"the codec {self._name} raised {type(error).__name__}: {said(error)}") from error
