"""Arguments as bodies, and bodies as results: what a method of a proxy does with its codec."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from copy import copy
from dataclasses import replace
from typing import Any

from .codecs import Codec, Mismatch, Shape
from .codecs.compression import Compression
from .codecs.items import Chunks, Compressed, Joined, items_of, streams_of
from .contract import Method
from .errors import (
    ContractError,
    EncodingFailed,
    MessageTooLarge,
)


class Payload:
    """How the arguments of one method become a body, and a body its result."""

    __slots__ = ("_codec", "_method", "_request", "_result", "encoding")

    def __init__(self, method: Method, codec: Codec) -> None:
        self._codec = codec
        self._method = method
        self._request = codec.request(method)
        self._result = codec.result(method)
        self.encoding = codec.name

    def encode(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bytes:
        """The body; ContractError if the arguments do not fit, EncodingFailed if one cannot be written."""
        method = self._method
        try:
            return self._request.encode(method.bind(args, kwargs))
        except Mismatch as error:
            raise ContractError(f"{method.title}: {error}") from error
        except (EncodingFailed, MessageTooLarge) as error:
            raise type(error)(f"{method.title}: {error}") from error

    def decode(self, body: bytes) -> Any:
        """The result."""
        return self._result.decode(body)

    def joined(self) -> Joined:
        """How several requests share a message, and several results."""
        title, each = self._method.title, copy(self)
        requests = items_of(self._codec, self._request, title)
        each._request = requests  # type: ignore[assignment]  # which writes as a shape does, and need not read
        return Joined(each.encode, requests, items_of(self._codec, self._result, title))


class CollectedPayload(Payload):
    """The same for a method that streams, and is asked for all items at once."""

    __slots__ = ("_items",)

    def __init__(self, method: Method, codec: Codec) -> None:
        super().__init__(method, codec)
        self._items, _ = streams_of(codec, method)

    def decode(self, body: bytes) -> Any:
        """All items; of a Blob, its bytes."""
        assert self._items is not None
        found = self._items.unpack_all(body)
        return found[0] if isinstance(self._items, Chunks) else list(found)


class UntypedPayload(Payload):
    """The same for a service of which only the name is known."""

    __slots__ = ("_title", "_values")

    def __init__(self, title: str, codec: Codec) -> None:
        self._title = title
        self._codec = codec
        self._values: Shape = codec.anything()
        self.encoding = codec.name

    def encode(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bytes:
        """An array of positional arguments or an object of named ones."""
        if args and kwargs:
            raise ContractError(
                f"{self._title}: give all arguments by position or all by name; "
                "a proxy made from a name does not know which position a name has"
            )
        return self._encode(kwargs or args)

    def _encode(self, value: Any) -> bytes:
        try:
            return self._values.encode(value)
        except Mismatch as error:
            raise ContractError(f"{self._title}: {error}") from error
        except (EncodingFailed, MessageTooLarge) as error:
            raise type(error)(f"{self._title}: {error}") from error

    def decode(self, body: bytes) -> Any:
        """The result, as plain values."""
        return self._values.decode(body)

    def joined(self) -> Joined:
        """How several requests share a message, and several results."""
        each, items = copy(self), items_of(self._codec, self._values, self._title)
        each._values = items  # type: ignore[assignment]  # as above
        return Joined(each.encode, items, items)


class UntypedMessage(UntypedPayload):
    """One message, for a service of which only the name is known."""

    __slots__ = ()

    def encode(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bytes:
        """The message itself."""
        return self._encode(args[0])


class Written(Payload):
    """Bodies that another payload has written already."""

    __slots__ = ("_decode", "_payload")

    def __init__(self, payload: Payload) -> None:
        self._payload = payload
        self._decode = payload.decode
        self.encoding = payload.encoding

    def encode(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bytes:
        """The body."""
        body: bytes = args[0]
        return body

    def joined(self) -> Joined:
        """The same for several."""
        return replace(self._payload.joined(), encode=functools.partial(Written.encode, self))

    def decode(self, body: bytes) -> Any:
        """The result."""
        return self._decode(body)


class Squeezed(Written):
    """Bodies that another payload has written already, compressed."""

    __slots__ = ("_compression", "_limit")

    def __init__(self, payload: Payload, compression: Compression, limit: int) -> None:
        super().__init__(payload)
        self._compression = compression
        self._limit = limit
        self.encoding = f"{compression.name}-{payload.encoding}"

    def encode(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bytes:
        """The body, compressed."""
        return self._compression.compress(args[0], self._limit)

    def decode(self, body: bytes) -> Any:
        """The result."""
        return self._decode(self._compression.decompress(body, self._limit))

    def joined(self) -> Joined:
        """The same for several, which are compressed together."""
        joined, how = super().joined(), self._compression
        compress = functools.partial(how.compress, limit=self._limit)
        decompress = functools.partial(how.decompress, limit=self._limit)
        requests, results = (Compressed(items, compress, decompress) for items in (joined.requests, joined.results))
        return Joined(joined.encode, requests, results)
