"""The properties of a message (class basic of AMQP 0-9-1): thirteen optional fields behind two bytes of flags.

Text stays bytes until somebody asks for it: a property that is not UTF-8 must harm nobody but its own message.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, fields
from typing import Any

from .fields import FieldTable, Malformed, decode_table, encode_short_string, encode_table, encode_timestamp

CONTENT_TYPE, CONTENT_ENCODING, HEADERS, DELIVERY_MODE = 0x8000, 0x4000, 0x2000, 0x1000
PRIORITY, CORRELATION_ID, REPLY_TO, EXPIRATION = 0x0800, 0x0400, 0x0200, 0x0100
MESSAGE_ID, TIMESTAMP, TYPE, USER_ID = 0x0080, 0x0040, 0x0020, 0x0010
APP_ID, CLUSTER_ID = 0x0008, 0x0004

Routing = tuple[bytes | None, bytes | None, bytes | None, bytes | None]
"""content-type, content-encoding, correlation-id and reply-to: what every message is looked at for."""


@dataclass(frozen=True, slots=True)
class Properties:
    """All properties of one message; None where the property is not there."""

    content_type: bytes | None = None
    content_encoding: bytes | None = None
    headers: FieldTable | None = None
    delivery_mode: int | None = None
    priority: int | None = None
    correlation_id: bytes | None = None
    reply_to: bytes | None = None
    expiration: bytes | None = None
    message_id: bytes | None = None
    timestamp: int | None = None
    type: bytes | None = None
    user_id: bytes | None = None
    app_id: bytes | None = None
    cluster_id: bytes | None = None

    def encode(self) -> bytes:
        """The flags and the fields as they stand in a content header frame, behind the body size."""
        flags, parts = 0, [b""]
        for name, flag in _FLAGS.items():
            value = getattr(self, name)
            if value is not None:
                flags |= flag
                parts.append(_encode(flag, value))
        parts[0] = struct.pack(">H", flags)
        return b"".join(parts)

    @classmethod
    def decode(cls, data: bytes) -> Properties:
        """The inverse of `encode`; Malformed if the bytes are no properties."""
        flags, at = _flags(data)
        found: dict[str, Any] = {}
        for name, flag in _FLAGS.items():
            if flags & flag:
                found[name], at = _decode(flag, data, at)
        if at != len(data):
            raise Malformed("a content header has bytes behind its last property")
        return cls(**found)


_FLAGS = {field.name: 0x8000 >> place for place, field in enumerate(fields(Properties))}
_OCTETS = DELIVERY_MODE | PRIORITY


def routing(data: bytes) -> Routing:
    """The four properties that every message is looked at for, read without decoding the rest.

    This is on the path of each message: headers are stepped over, and nothing behind reply-to is read.
    Malformed if the data ends too early.
    """
    content_type = encoding = correlation_id = reply_to = None
    at, flags = 2, 0
    try:
        flags = data[0] << 8 | data[1]
        if flags & CONTENT_TYPE:
            end = at + 1 + data[at]
            content_type = data[at + 1 : end]
            at = end
        if flags & CONTENT_ENCODING:
            end = at + 1 + data[at]
            encoding = data[at + 1 : end]
            at = end
        if flags & HEADERS:
            at += 4 + int.from_bytes(data[at : at + 4], "big")
        if flags & DELIVERY_MODE:
            at += 1
        if flags & PRIORITY:
            at += 1
        if flags & CORRELATION_ID:
            end = at + 1 + data[at]
            correlation_id = data[at + 1 : end]
            at = end
        if flags & REPLY_TO:
            end = at + 1 + data[at]
            reply_to = data[at + 1 : end]
            at = end
    except IndexError:
        at = len(data) + 1
    if at > len(data) or flags & 3:
        raise Malformed("a content header ends in the middle of its properties")
    return content_type, encoding, correlation_id, reply_to


def return_address(data: bytes) -> tuple[bytes | None, FieldTable]:
    """reply-to and the headers: what each message of a stream is looked at for, read without decoding the rest.

    Malformed if the data ends too early, or the headers do not decode.
    """
    at, flags = 2, 0
    headers: FieldTable = {}
    try:
        flags = data[0] << 8 | data[1]
        if flags & CONTENT_TYPE:
            at += 1 + data[at]
        if flags & CONTENT_ENCODING:
            at += 1 + data[at]
        if flags & HEADERS:
            headers, at = decode_table(data, at)
        if flags & DELIVERY_MODE:
            at += 1
        if flags & PRIORITY:
            at += 1
        if flags & CORRELATION_ID:
            at += 1 + data[at]
        if not flags & REPLY_TO:
            return None, headers
        end = at + 1 + data[at]
    except IndexError:
        raise Malformed("a content header ends in the middle of its properties") from None
    if end > len(data):
        raise Malformed("a content header ends in the middle of its properties")
    return data[at + 1 : end], headers


def _flags(data: bytes) -> tuple[int, int]:
    if len(data) < 2:
        raise Malformed("a content header ends before its property flags")
    flags = data[0] << 8 | data[1]
    if flags & 3:
        raise Malformed("a content header has flags for properties that AMQP 0-9-1 does not know")
    return flags, 2


def _encode(flag: int, value: Any) -> bytes:
    if flag == HEADERS:
        return encode_table(value)
    if flag & _OCTETS:
        return bytes((value,))
    if flag == TIMESTAMP:
        return encode_timestamp(value)
    return encode_short_string(value)


def _decode(flag: int, data: bytes, at: int) -> tuple[Any, int]:
    if flag == HEADERS:
        return decode_table(data, at)
    if flag & _OCTETS or flag == TIMESTAMP:
        end = at + (8 if flag == TIMESTAMP else 1)
        value: Any = int.from_bytes(data[at:end], "big")
    else:
        start = at + 1
        end = start + int.from_bytes(data[at:start], "big")
        value = data[start:end]
    if end > len(data) or at >= len(data):
        raise Malformed("a content header ends in the middle of its properties")
    return value, end
