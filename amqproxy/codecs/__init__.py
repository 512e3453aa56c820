"""Serializers: a content encoding each, from values of a contract to bytes and back."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING, Any, Protocol

from ..messages import Form
from ..options import COMPRESSION_NAMES

if TYPE_CHECKING:
    from ..contract import Method


MAX_TEXT = 500
"""Characters of an error's text: a library may quote all of a body, and the text is logged and sent back."""


class Misfit(ValueError):
    """A value or bytes that are not what the contract says."""

    def __init__(self, text: str) -> None:
        line = " ".join(text[: 2 * MAX_TEXT].split("\n"))
        super().__init__(line if len(line) <= MAX_TEXT else f"{line[:MAX_TEXT]}…")


class DecodingFailed(Misfit):
    """Bytes that are not what the contract says; the text holds the path: "Expected `int`, got `str` - at `$.x`"."""


class HoldsTooMuch(DecodingFailed):
    """A compressed body with more in it than may be decompressed."""


class Crowded(DecodingFailed):
    """Keys that were chosen so that each is compared with all before it."""


class Mismatch(Misfit):
    """A value that is not of the type that the contract says; the text holds the path."""


class Shape(Protocol):
    """One type in one encoding."""

    def encode(self, value: Any) -> bytes:
        """The value's bytes; Mismatch if it is not of the type, EncodingFailed if the codec cannot write it."""

    def decode(self, body: bytes) -> Any:
        """The value, checked against the type; DecodingFailed if the bytes are something else."""


class Nothing:
    """What has nothing in it: no parameters, or a result of None."""

    __slots__ = ("_body", "_value")

    def __init__(self, value: Any, body: bytes) -> None:
        self._value = value
        self._body = body

    def encode(self, value: Any) -> bytes:
        """Always the same bytes."""
        if value != self._value:
            raise Mismatch(f"Expected `{self._value}`, got `{type(value).__name__}`")
        return self._body

    def decode(self, body: bytes) -> Any:
        """Always the same value."""
        if body != self._body:
            raise DecodingFailed(f"nothing is expected, and {len(body)} bytes came")
        return self._value


class Codec(Protocol):
    """A serializer. One of yours is a class like this, given to a proxy as `encoding=` and to a worker in `codecs=`.

    What else it raises than is said here counts as EncodingFailed or DecodingFailed; what it writes is `bytes`.
    """

    @property
    def name(self) -> str:
        """The content encoding."""

    @property
    def forms(self) -> Collection[Form]:
        """The forms of messages that it carries; it is asked for shapes of methods of these forms only."""

    def request(self, method: Method) -> Shape:
        """How the arguments of a method travel: a value of `method.request_type`."""

    def result(self, method: Method) -> Shape:
        """How its result travels: a value of `method.result_type`."""

    def anything(self) -> Shape:
        """How plain values travel when nobody knows their type; ContractError if they cannot."""


def carries(codec: Codec, method: Method) -> bool:
    """Whether a method can be called in an encoding."""
    return method.forms <= frozenset(codec.forms)


def natural_encoding(method: Method) -> str:
    """The encoding of a method whose caller names none: the one that its messages were generated for, else JSON."""
    [*forms] = method.forms
    return forms[0] if forms in (["protobuf"], ["thrift"]) else "json"


def not_carried(codec: Codec, method: Method, others: Iterable[Codec]) -> str:
    """Why a method cannot be called in an encoding, and in which it can."""
    possible = [other.name for other in others if carries(other, method)]
    instead = listing(possible) if possible else "nothing else"
    odd = " and ".join(sorted(method.forms - frozenset(codec.forms)))
    return f"{method.title} does not travel as {codec.name}, since its messages are {odd}; it does as {instead}"


def listing(encodings: Iterable[str]) -> str:
    """Encodings for people to read: those within a compression are many, and need no names."""
    plain = [name for name in encodings if name.partition("-")[0] not in COMPRESSION_NAMES]
    return f"{', '.join(plain)} (each also after {', '.join(f'{name}-' for name in COMPRESSION_NAMES)})"
