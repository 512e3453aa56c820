"""Apache Thrift: structs of classes that its compiler generated, in the binary and in the compact protocol.

The binary one is what Java's `TSerializer` writes unless told otherwise. Where the library's C extension is there, it
is used. The library is an extra; it is imported only once there is a class of its making.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from types import NoneType
from typing import TYPE_CHECKING, Any

from ..errors import ContractError
from ..messages import Form
from . import DecodingFailed, Mismatch, Nothing, Shape

if TYPE_CHECKING:
    from ..contract import Method


STOP = b"\0"
"""A struct without fields, in both protocols."""


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

    __slots__ = ("_buffer", "_kind", "_protocol", "_validate")

    def __init__(self, kind: Any, compact: bool) -> None:
        from thrift.protocol.TBinaryProtocol import TBinaryProtocolAccelerated
        from thrift.protocol.TCompactProtocol import TCompactProtocolAccelerated
        from thrift.transport.TTransport import TMemoryBuffer

        self._kind = kind
        self._buffer = TMemoryBuffer
        self._protocol = TCompactProtocolAccelerated if compact else TBinaryProtocolAccelerated
        self._validate = _validator(kind)

    def encode(self, value: Any) -> bytes:
        """The struct's bytes; Mismatch if a required field is unset, or a field is of another type."""
        if not isinstance(value, self._kind):
            raise Mismatch(f"Expected `{self._kind.__name__}`, got `{type(value).__name__}`")
        buffer = self._buffer()
        try:
            self._validate(value)
            value.write(self._protocol(buffer))
        except Exception as error:  # generated code and the extension raise whatever they stumble upon
            raise Mismatch(f"no {self._kind.__name__}: {_text(error)}") from error
        body: bytes = buffer.getvalue()
        return body

    def decode(self, body: bytes) -> Any:
        """The struct; DecodingFailed also if a required field is missing, or bytes follow it."""
        buffer = self._buffer(body)
        size = len(body)  # no string and no container can be longer; so what they claim allocates no more
        value = self._kind.__new__(self._kind)
        self._kind.__init__(value)
        try:
            value.read(self._protocol(buffer, string_length_limit=size, container_length_limit=size))
            self._validate(value)
        except Exception as error:  # generated code and the extension raise whatever they stumble upon
            raise DecodingFailed(f"no {self._kind.__name__}: {_text(error)}") from error
        if left := size - buffer.cstringio_buf.tell():
            raise DecodingFailed(f"no {self._kind.__name__}: {left} bytes follow it")
        return value


def _text(error: Exception) -> str:
    """What a library's error says; some say nothing, such as the EOFError of a body that ends early."""
    return "it ends early" if isinstance(error, EOFError) else str(error) or type(error).__name__


STRUCT, MAP, SET, LIST = 12, 13, 14, 15
"""Thrift's numbers for the types that may hold structs, as its generated code has them (`TType`)."""


def _validator(kind: Any) -> Callable[[Any], None]:
    """Who finds out whether all required fields are set: generated code, which looks at a struct's own fields only."""
    if not any(field and field[1] in (STRUCT, MAP, SET, LIST) for field in kind.thrift_spec or ()):
        validate: Callable[[Any], None] = kind.validate
        return validate
    return _validate


def _validate(value: Any) -> None:
    value.validate()
    for field in value.thrift_spec or ():
        if field:
            _, kind, name, spec, *_ = field
            _validate_inside(getattr(value, name), kind, spec)


def _validate_inside(value: Any, kind: int, spec: Any) -> None:
    if value is None:
        return
    if kind == STRUCT:
        _validate(value)
    elif kind == MAP:
        for key, item in value.items():
            _validate_inside(key, spec[0], spec[1])
            _validate_inside(item, spec[2], spec[3])
    elif kind in (SET, LIST) and spec[0] in (STRUCT, MAP, SET, LIST):
        for item in value:
            _validate_inside(item, spec[0], spec[1])
