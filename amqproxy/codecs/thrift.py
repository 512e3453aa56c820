"""Apache Thrift: structs of classes that its compiler generated, in the binary and in the compact protocol.

The binary one is what Java's `TSerializer` writes unless told otherwise. Where the library's C extension is there, it
is used. The library is an extra; it is imported only once there is a class of its making.
"""

from __future__ import annotations

from collections.abc import Collection
from functools import cache
from inspect import ismethod
from types import NoneType
from typing import TYPE_CHECKING, Any

from ..errors import ContractError, MessageTooLarge
from ..messages import Form
from . import DecodingFailed, HoldsTooMuch, Mismatch, Nothing, Shape
from .thrift_flaws import REPLACEMENT, flaw, lack, may_hold_empty_structs, replaced

if TYPE_CHECKING:
    from ..contract import Method


STOP = b"\0"
"""A struct without fields, in both protocols."""


MAX_ELEMENTS = 1 << 20
"""The most elements that one container may have."""
MAX_STRUCTS = 1 << 22
"""The most bytes of zero, eight and more in a row: each may be an empty struct, which takes 130 bytes of memory."""
TOO_HOLLOW = f"more than {MAX_STRUCTS} bytes in it are zeros in a row, which may be empty structs: send it in parts"
REAL_REPLACEMENT = REPLACEMENT.encode()
"""Where the body has this, a text may well hold it."""


class Thrift:
    """The codec of content encoding `thrift`, the binary protocol, or of `thrift-compact`."""

    forms: Collection[Form] = frozenset(("thrift",))

    def __init__(self, name: str = "thrift", *, compact: bool = False) -> None:
        self.name = name
        self._compact = compact

    def request(self, method: Method) -> Shape:
        """The struct itself."""
        if not method.signature.parameters:
            return Nothing(method.request_type(), STOP)
        return ThriftShape(method.request_type, self._compact)

    def result(self, method: Method) -> Shape:
        """The struct itself."""
        if method.result_type is NoneType:
            return Nothing(None, STOP)
        return ThriftShape(method.result_type, self._compact)

    def anything(self) -> Shape:
        """Nothing: bytes of Thrift do not tell what they are."""
        raise ContractError("thrift travels between those who have the class: make the proxy from the service's class")


class ThriftShape:
    """One struct, as a protocol of Thrift writes it."""

    __slots__ = ("_buffer", "_counts", "_kind", "_protocol", "_read")

    def __init__(self, kind: Any, compact: bool) -> None:
        from thrift.transport.TTransport import TMemoryBuffer

        self._kind = kind
        self._counts = may_hold_empty_structs(kind)
        self._buffer = TMemoryBuffer
        self._protocol = _protocol(compact)
        # Exceptions, and structs that are immutable, are made by their class; others read into an instance.
        self._read = kind.read if ismethod(kind.read) else self._read_into

    def _read_into(self, protocol: Any) -> Any:
        value = self._kind()
        value.read(protocol)
        return value

    def encode(self, value: Any) -> bytes:
        """The struct's bytes; Mismatch if a required field is unset, or a field is of another type."""
        if not isinstance(value, self._kind):
            raise Mismatch(f"Expected `{self._kind.__name__}`, got `{type(value).__name__}`")
        buffer = self._buffer()
        try:
            if problem := flaw(value):
                raise Mismatch(problem)
            value.write(self._protocol(buffer))
        except Mismatch:
            raise
        except Exception as error:  # generated code and the extension raise whatever they stumble upon
            raise Mismatch(f"not a valid {self._kind.__name__}: {_text(error)}") from error
        body: bytes = buffer.getvalue()
        if self._counts and _too_hollow(body):
            raise MessageTooLarge(TOO_HOLLOW)
        return body

    def decode(self, body: bytes) -> Any:
        """The struct; DecodingFailed also if a required field is missing, or bytes follow it."""
        if self._counts and _too_hollow(body):
            raise HoldsTooMuch(TOO_HOLLOW)
        buffer = self._buffer(body)
        size = len(body)  # no string can be longer; so what one claims allocates no more
        limits = {"string_length_limit": size, "container_length_limit": min(size, MAX_ELEMENTS)}
        try:
            value = self._read(self._protocol(buffer, **limits))
            problem = lack(value)
            if problem is None and not body.isascii() and replaced(value) and REAL_REPLACEMENT not in body:
                problem = "a text is not UTF-8"
        except Exception as error:  # generated code and the extension raise whatever they stumble upon
            raise DecodingFailed(f"not a valid {self._kind.__name__}: {_text(error)}") from error
        if problem is not None:
            raise DecodingFailed(problem)
        if left := size - buffer.cstringio_buf.tell():
            raise DecodingFailed(f"not a valid {self._kind.__name__}: {left} bytes follow it")
        return value


@cache
def _protocol(compact: bool) -> Any:
    """The class of a protocol, which uses the C extension where that is there."""
    from thrift.protocol.TBinaryProtocol import TBinaryProtocolAccelerated
    from thrift.protocol.TCompactProtocol import TCompactProtocolAccelerated
    from thrift.Thrift import TType

    base: Any = TCompactProtocolAccelerated if compact else TBinaryProtocolAccelerated

    class Protocol(base):  # type: ignore[misc]  # the library has no types
        """Without the extension, the library reads bytes that it passes over as text, which they need not be."""

        def skip(self, kind: int, *depth: int) -> None:
            if kind == TType.STRING:
                self.readBinary()
            else:
                super().skip(kind, *depth)

    return Protocol


def _too_hollow(body: bytes) -> bool:
    return len(body) >= MAX_STRUCTS and 8 * body.count(bytes(8)) >= MAX_STRUCTS


def _text(error: Exception) -> str:
    """What a library's error says; some say nothing, such as the EOFError of a body that ends early."""
    return "it ends early" if isinstance(error, EOFError) else str(error) or type(error).__name__
