"""A message inside the broker: its bytes as they came, and the few properties that a broker acts on.

Everything else in a content header stays unread: what is wrong with it is between the two programs that exchange it.
"""

from __future__ import annotations

import struct

from ..fields import Malformed
from ..properties import (
    APP_ID,
    CLUSTER_ID,
    CONTENT_ENCODING,
    CONTENT_TYPE,
    CORRELATION_ID,
    DELIVERY_MODE,
    EXPIRATION,
    HEADERS,
    MESSAGE_ID,
    PRIORITY,
    REPLY_TO,
    TIMESTAMP,
    TYPE,
    USER_ID,
)
from .errors import erlang_pair, precondition_failed
from .tables import Table, check

FIXED = 12
"""Bytes of a content header before the property flags: class, weight and body size."""
OVERHEAD = 400
"""Bytes that a message in a queue takes besides its header and body, about."""
LONGEST_TTL = 10 * 365 * 24 * 3600 * 1000
"""Milliseconds that a message may be given to live."""

_ORDER = (
    CONTENT_TYPE,
    CONTENT_ENCODING,
    HEADERS,
    DELIVERY_MODE,
    PRIORITY,
    CORRELATION_ID,
    REPLY_TO,
    EXPIRATION,
    MESSAGE_ID,
    TIMESTAMP,
    TYPE,
    USER_ID,
    APP_ID,
    CLUSTER_ID,
)
_DIRECT_REPLY = b"amq.rabbitmq.reply-to"
_SIZES = {DELIVERY_MODE: 1, PRIORITY: 1, TIMESTAMP: 8}
_FLAGS = struct.Struct(">H")
_LENGTH = struct.Struct(">I")


class Message:
    """What was published, once for all queues that hold it."""

    __slots__ = ("address", "body", "header", "keys", "priority", "share", "ttl")

    def __init__(self, address: bytes, header: bytes, body: bytes) -> None:
        self.address = address
        """Exchange and routing key, as two short strings."""
        self.header = header
        """The payload of the content header frame."""
        self.body = body
        self.ttl: int | None = None
        """Milliseconds from publishing to expiry, by the property expiration."""
        self.priority = 0
        self.keys: tuple[str, ...] | None = None
        """All routing keys, if there are more than one, by CC and BCC."""
        self.share = len(header) + len(body) + OVERHEAD
        """Bytes of memory that each queue which holds it is charged with."""

    @property
    def exchange(self) -> str:
        """The name of the exchange it was published to."""
        return self.address[1 : 1 + self.address[0]].decode(errors="surrogateescape")

    @property
    def routing_key(self) -> str:
        """Its first routing key."""
        return self.address[2 + self.address[0] :].decode(errors="surrogateescape")

    @property
    def routing_keys(self) -> tuple[str, ...]:
        """All its routing keys."""
        return self.keys or (self.routing_key,)

    @property
    def headers(self) -> Table:
        """Its headers; an empty table if it has none."""
        return headers_of(split(self.header))

    def changed(self, parts: dict[int, bytes]) -> None:
        """Replace the properties."""
        self.header = join(self.header, parts)


class Entry:
    """One message in one queue."""

    __slots__ = ("deliveries", "expires_at", "message", "redelivered", "sequence")

    def __init__(self, message: Message, sequence: int, expires_at: float | None) -> None:
        self.message = message
        self.sequence = sequence
        """Its place in the queue, which it keeps when it comes back."""
        self.expires_at = expires_at
        self.redelivered = False
        self.deliveries = 0
        """How often it came back, counted by quorum queues."""


def address(exchange: str, routing_key: str) -> bytes:
    """Exchange and routing key as a delivery names them; ValueError if one is too long."""
    parts = exchange.encode(errors="surrogateescape"), routing_key.encode(errors="surrogateescape")
    return b"".join(bytes((len(part),)) + part for part in parts)


def split(header: bytes) -> dict[int, bytes]:
    """The properties of a content header, each as its bytes; Malformed if they do not fit."""
    (flags,) = _FLAGS.unpack_from(header, FIXED)
    if flags & 1:
        raise Malformed("a content header has more property flags than there are properties")
    at, parts = FIXED + 2, {}
    try:
        for flag in _ORDER:
            if not flags & flag:
                continue
            if flag == HEADERS:
                end = at + 4 + _LENGTH.unpack_from(header, at)[0]
            else:
                end = at + (_SIZES.get(flag) or 1 + header[at])
            parts[flag] = header[at:end]
            at = end
    except (IndexError, struct.error):
        at = len(header) + 1
    if at != len(header):
        raise Malformed("a content header does not end with its last property")
    return parts


def join(header: bytes, parts: dict[int, bytes]) -> bytes:
    """The inverse of `split`, with the beginning of `header`."""
    flags = 0
    for flag in parts:
        flags |= flag
    return b"".join((header[:FIXED], _FLAGS.pack(flags), *(parts[flag] for flag in _ORDER if flag in parts)))


_SHORT, _TABLE, _TTL, _PRIORITY, _TEXT_ACTED_ON, _MODE = range(1, 7)
_PLANS: dict[bytes, tuple[int, ...]] = {}
_KINDS = {HEADERS: _TABLE, DELIVERY_MODE: _MODE, EXPIRATION: _TTL, USER_ID: _TEXT_ACTED_ON, PRIORITY: _PRIORITY}


def _plan(raw: bytes) -> tuple[int, ...]:
    """What the properties with these flags are, one after the other; made once for each combination of flags."""
    (flags,) = _FLAGS.unpack(raw)
    if flags & 1:
        raise Malformed("a content header has more property flags than there are properties")
    plan = tuple(_KINDS.get(flag, -_SIZES[flag] if flag in _SIZES else _SHORT) for flag in _ORDER if flags & flag)
    _PLANS[raw] = plan
    return plan


def scan(message: Message) -> bool:
    """See that the properties of a message are whole, and take its expiration; on the path of each message.

    True if there may be more in it that concerns the broker, or something wrong: its channel is to look closer then.
    """
    header = message.header
    if len(header) < FIXED + 2:
        raise Malformed("a content header ends before its property flags")
    raw = header[FIXED : FIXED + 2]
    plan = _PLANS.get(raw)
    if plan is None:
        plan = _plan(raw)
    at, more = FIXED + 2, False
    try:
        for kind in plan:
            if kind == _SHORT:
                at += 1 + header[at]
            elif kind < 0:
                at -= kind
            elif kind == _TTL:
                start = at + 1
                at = start + header[at]
                digits = header[start:at]
                if digits.isdigit() and len(digits) < 10:
                    message.ttl = int(digits)
                else:
                    more = True
            elif kind == _TABLE:
                start = at + 4
                at = start + _LENGTH.unpack_from(header, at)[0]
                check(header[start:at])
                more = more or b"CC" in header[start:at]
            elif kind == _MODE:
                more = more or not 0 < header[at] < 3
                at += 1
            elif kind == _PRIORITY:
                message.priority = header[at]
                at += 1
            else:
                at += 1 + header[at]
                more = True
    except (IndexError, struct.error):
        at = len(header) + 1
    if at != len(header):
        raise Malformed("a content header does not end with its last property")
    return more or _DIRECT_REPLY in header


def headers_of(parts: dict[int, bytes]) -> Table:
    """The headers among split properties."""
    return Table.parse(parts.get(HEADERS, b"\0\0\0\0")[4:])


def milliseconds(raw: bytes) -> int:
    """The property expiration, in RabbitMQ's reading of it; precondition_failed if it is none."""
    text = raw.decode(errors="surrogateescape")
    digits = text.lstrip("+-") if text[:2] not in ("++", "--", "+-", "-+") else ""
    end = 0
    while end < len(digits) and digits[end] in "0123456789":
        end += 1
    if not end:
        raise precondition_failed(f"invalid expiration '{text}': no_integer")
    if end < len(digits):
        raise precondition_failed(f"invalid expiration '{text}': {{leftover_string,\"{digits[end:]}\"}}")
    number = int(digits) * (-1 if text.startswith("-") else 1)
    if number < 0:
        raise precondition_failed(f"invalid expiration '{text}': {{value_negative,{number}}}")
    if number > LONGEST_TTL:
        raise precondition_failed(erlang_pair(f"invalid expiration '{text}': ", "value_too_large", number))
    return number
