"""The content frames of AMQP 0-9-1, from and to bytes: the half of the fast lane that has no I/O.

`Splitter` cuts what a socket delivers into frames. The content frames of chosen channels (deliveries, returns and
confirms) go to the `ContentReader` of their channel; every other frame comes back as bytes, for the AMQP library that
keeps the connection. The encoders write what the lane sends. Sections 2.3.5 and 4.2 of the specification describe the
frames (https://www.rabbitmq.com/resources/specs/amqp0-9-1.pdf).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Protocol

from .fields import Malformed, encode_short_string

METHOD, HEADER, BODY, HEARTBEAT = 1, 2, 3, 8
FRAME_END = b"\xce"
FRAME_OVERHEAD = 8
"""Bytes of a frame besides its payload: type, channel, size and the end mark."""
MAX_HEADER_BYTES = 16 * 1024 * 1024
"""What a content header may have, whatever frame_max says. Brokers write to the headers of messages that they move or
give again (x-death, with all routing keys; x-delivery-count), and a content header cannot be cut into several frames:
one that just fitted comes in a frame over the limit (https://www.rabbitmq.com/docs/dlx#effects)."""
KEPT_HEADER_BYTES = 1024 * 1024
"""So many bytes a content header may have that is read."""
_CUT_BYTES = 1024
"""Of a larger one so many are kept, in which its headers begin and do not end: it does not decode, and harms only the
message that it is of."""
HEARTBEAT_FRAME = b"\x08\x00\x00\x00\x00\x00\x00\xce"

BASIC = 60
_DELIVER, _RETURN = b"\x00\x3c\x00\x3c", b"\x00\x3c\x00\x32"
_ACK, _NACK = b"\x00\x3c\x00\x50", b"\x00\x3c\x00\x78"
_CONNECTION = b"\x00\x0a\x00"
"""The class of methods that are about the connection, and the first half of their numbers."""
_CONNECTION_TUNE = _CONNECTION + b"\x1e"
_CONNECTION_CLOSE = _CONNECTION + b"\x32"
_CONNECTION_BLOCKED = _CONNECTION + b"\x3c"
_CONNECTION_UNBLOCKED = _CONNECTION + b"\x3d"
_CHANNEL_CLOSE = b"\x00\x14\x00\x28"
_PUBLISH = b"\x00\x3c\x00\x28\x00\x00"

_FRAME = struct.Struct(">BHI")
_CONTENT_FRAME = struct.Struct(">BHIHHQ")
_CONTENT_FIXED = 12
HEADER_OVERHEAD = FRAME_OVERHEAD + _CONTENT_FIXED
"""Bytes of a content header's frame besides the properties."""
_TAG_AND_FLAG = struct.Struct(">QB")
_SIZE = struct.Struct(">Q")
_ACK_FRAME = struct.Struct(">BHI4sQBB")


class ContentSink(Protocol):
    """What is told of each complete message; called in the order of the bytes, and never twice for one message."""

    def delivered(self, tag: int, redelivered: bool, header: bytes, body: bytes) -> None:
        """A message for a consumer of this channel; `header` holds its flags and properties."""

    def returned(self, code: int, text: bytes, routing_key: bytes, header: bytes, body: bytes) -> None:
        """A mandatory message of ours that no queue took, with the broker's reason and where it should have gone."""

    def confirmed(self, tag: int, multiple: bool, accepted: bool) -> None:
        """The broker took (ack) or refused (nack) what was published up to or at `tag`."""

    def too_large(self, tag: int, header: bytes, size: int) -> None:
        """A delivery whose declared size is over the limit; its body was passed over."""


class ContentReader:
    """Puts the content frames of one channel together again.

    `max_body_bytes` bounds what a peer can make us hold: a larger body is passed over, not stored.
    """

    __slots__ = ("_header", "_parts", "_pending", "_remaining", "max_body_bytes", "sink")

    def __init__(self, sink: ContentSink, max_body_bytes: int) -> None:
        self.sink = sink
        self.max_body_bytes = max_body_bytes
        self._pending: tuple[int, bool] | tuple[int, tuple[bytes, bytes]] | None = None
        self._header: bytes | None = None
        self._remaining = 0
        self._parts: list[bytes] | None = []

    def take(self, kind: int, data: bytes, start: int, end: int) -> bool:
        """Take the frame whose payload is data[start:end]; False if it is not ours to read."""
        if kind == METHOD:
            method = data[start : start + 4]
            if method == _DELIVER:
                at = start + 5 + data[start + 4]
                _check_within(at + 9, end)
                self._expect_content(_TAG_AND_FLAG.unpack_from(data, at))
                return True
            return self._take_rare(method, data, start + 4, end)
        if kind == HEADER:
            return self._pending is not None and self._take_header(data, start, end)
        return kind == BODY and self._header is not None and self._take_body(data, start, end)

    def _expect_content(self, pending: tuple[int, bool] | tuple[int, tuple[bytes, bytes]]) -> None:
        if self._pending is not None:
            raise Malformed("a message begins before the one ahead of it on its channel is complete")
        self._pending = pending

    def _take_header(self, data: bytes, start: int, end: int) -> bool:
        if self._header is not None:
            raise Malformed("a second content header comes before the body is complete")
        if end - start < _CONTENT_FIXED + 2:
            raise Malformed("a content header is too short")
        if end - start > KEPT_HEADER_BYTES:
            end = start + _CONTENT_FIXED + _CUT_BYTES
        (size,) = _SIZE.unpack_from(data, start + 4)
        self._header = data[start + _CONTENT_FIXED : end]
        self._remaining = size
        self._parts = [] if size <= self.max_body_bytes else None
        if size == 0:
            self._finish(b"")
        elif self._parts is None:
            self._refuse(size)
        return True

    def _take_body(self, data: bytes, start: int, end: int) -> bool:
        size = end - start
        self._remaining -= size
        if self._remaining < 0:
            raise Malformed("a body is longer than its header said")
        parts = self._parts
        if parts is None:
            if self._remaining == 0:
                self._pending = self._header = None
        elif self._remaining:
            parts.append(data[start:end])
        elif parts:
            parts.append(data[start:end])
            self._finish(b"".join(parts))
        else:
            self._finish(data[start:end])
        return True

    def _finish(self, body: bytes) -> None:
        pending, header = self._pending, self._header
        self._pending = self._header = None
        number, more = pending  # type: ignore[misc]  # content is only taken while something is pending
        if type(more) is tuple:
            text, routing_key = more
            self.sink.returned(number, text, routing_key, header, body)  # type: ignore[arg-type]  # a header came
        else:
            self.sink.delivered(number, more, header, body)  # type: ignore[arg-type]  # a header came

    def _refuse(self, size: int) -> None:
        tag, more = self._pending  # type: ignore[misc]  # as above
        if type(more) is not tuple:  # what we sent ourselves and got back was within the limit
            self.sink.too_large(tag, self._header, size)  # type: ignore[arg-type]  # as above

    def _take_rare(self, method: bytes, data: bytes, at: int, end: int) -> bool:
        if method == _RETURN:
            text, after = _short_string(data, at + 2, end)
            _, after = _short_string(data, after, end)  # the exchange
            routing_key, _ = _short_string(data, after, end)
            self._expect_content((int.from_bytes(data[at : at + 2], "big"), (text, routing_key)))
            return True
        if method in (_ACK, _NACK):
            _check_within(at + 9, end)
            tag, flags = _TAG_AND_FLAG.unpack_from(data, at)
            self.sink.confirmed(tag, bool(flags & 1), method == _ACK)
            return True
        return False


def _short_string(data: bytes, at: int, end: int) -> tuple[bytes, int]:
    """The short string at this place, and the place behind it."""
    _check_within(at + 1, end)
    after = at + 1 + data[at]
    _check_within(after, end)
    return data[at + 1 : after], after


def _check_within(at: int, end: int) -> None:
    if at > end:
        raise Malformed("a method ends in the middle of its arguments")


class Splitter:
    """Cuts a byte stream into frames: those of `readers`' channels go there, the rest is returned.

    Bytes that are not AMQP (a protocol header, a wrong end mark, a frame over the limit) are returned as they came, and
    so is everything after them: the library that owns the connection shall see and report them. Once there are readers
    they are Malformed, for that library would drop what is the readers', and nobody would know.
    """

    __slots__ = ("_rest", "_trusted", "max_frame_bytes", "readers")

    def __init__(self, max_frame_bytes: int) -> None:
        self.readers: dict[int, ContentReader] = {}
        self.max_frame_bytes = max_frame_bytes
        self._rest = b""
        self._trusted = True

    def feed(self, data: bytes) -> bytes:
        """Take what arrived; return the frames that are no reader's. Malformed if a reader's break the protocol."""
        if self._rest:
            data = self._rest + data
            self._rest = b""
        if not self._trusted:
            return self._distrust([], data, "frames come behind what was none")
        at, size = 0, len(data)
        readers, limit = self.readers, self.max_frame_bytes
        others: list[bytes] = []
        while size - at >= FRAME_OVERHEAD:
            kind, channel, length = _FRAME.unpack_from(data, at)
            end = at + FRAME_OVERHEAD + length
            if (kind not in _KINDS or length + FRAME_OVERHEAD > limit) and (
                kind != HEADER or length > MAX_HEADER_BYTES
            ):
                what = f"a frame of type {kind} for channel {channel} has {length} bytes (frame_max: {limit})"
                return self._distrust(others, data[at:], what)
            if end > size:
                break
            if data[end - 1] != 0xCE:
                return self._distrust(others, data[at:], "a frame does not end where it said")
            reader = readers.get(channel)
            try:
                if reader is None or not reader.take(kind, data, at + 7, end - 1):
                    others.append(data[at:end])
            except Malformed:
                self._trusted = False
                raise
            except BaseException:  # a sink resumed what ends the program, and what is left is read on the way out
                self._rest = b"".join(others) + data[end:]
                raise
            at = end
        self._rest = data[at:]
        return b"".join(others)

    def _distrust(self, others: list[bytes], data: bytes, what: str) -> bytes:
        self._trusted = False
        if self.readers:
            raise Malformed(what)
        return b"".join(others) + data


def close_reason(frames: bytes) -> str | None:
    """The broker's own words if connection.close is among these whole frames: "530 NOT_ALLOWED - vhost x not found".

    aiormq drops them when the broker refuses connection.open.
    """
    for payload in _about_connection(frames):
        if payload.startswith(_CONNECTION_CLOSE) and len(payload) > 6:
            return f"{int.from_bytes(payload[4:6], 'big')} {payload[7 : 7 + payload[6]].decode(errors='replace')}"
    return None


def channels_closed(frames: bytes) -> list[int]:
    """The channels that the broker closes in these whole frames."""
    closed: list[int] = []
    at = 0 if _CHANNEL_CLOSE in frames else len(frames)
    while len(frames) - at >= FRAME_OVERHEAD:
        kind, channel, length = _FRAME.unpack_from(frames, at)
        if kind == METHOD and frames.startswith(_CHANNEL_CLOSE, at + 7):
            closed.append(channel)
        at += FRAME_OVERHEAD + length
    return closed


def block_notice(frames: bytes) -> str | None:
    """What the broker says last in these whole frames about taking messages: why it takes none, or "" if it does again.

    None if it says nothing about that (https://www.rabbitmq.com/docs/connection-blocked).
    """
    notice = None
    for payload in _about_connection(frames):
        if payload.startswith(_CONNECTION_BLOCKED) and len(payload) > 4:
            notice = payload[5 : 5 + payload[4]].decode(errors="replace") or "it does not say why"
        elif payload.startswith(_CONNECTION_UNBLOCKED):
            notice = ""
    return notice


def with_limit(frames: bytes, max_frame_bytes: int) -> bytes:
    """The same whole frames, where connection.tune sets no limit to frames (0) with this one.

    The client may agree to less than the broker offers (AMQP 0-9-1, 4.2.3). aiormq takes what it is offered, and then a
    body would come in one frame, whatever its size.
    """
    for payload in _about_connection(frames):
        if payload.startswith(_CONNECTION_TUNE) and payload[6:10] == bytes(4):
            return frames.replace(payload, payload[:6] + max_frame_bytes.to_bytes(4, "big") + payload[10:], 1)
    return frames


def _about_connection(frames: bytes) -> Iterator[bytes]:
    """The methods among whole frames that are about the connection."""
    at = 0
    while _CONNECTION in frames and len(frames) - at >= FRAME_OVERHEAD:
        kind, channel, length = _FRAME.unpack_from(frames, at)
        if kind == METHOD and channel == 0:
            yield frames[at + 7 : at + 7 + length]
        at += FRAME_OVERHEAD + length


_KINDS = frozenset((METHOD, HEADER, BODY, HEARTBEAT))


def publish_method(channel: int, exchange: bytes, routing_key: bytes, *, mandatory: bool = True) -> bytes:
    """The method frame that opens each message to one destination; made once and used again."""
    payload = b"".join((_PUBLISH, encode_short_string(exchange), encode_short_string(routing_key), bytes((mandatory,))))
    return _FRAME.pack(METHOD, channel, len(payload)) + payload + FRAME_END


def encode_publish(method: bytes, channel: int, properties: bytes, body: bytes, max_frame_bytes: int) -> bytes:
    """All frames of one message: `method` from `publish_method`, the properties, the body in as many as it takes.

    ValueError if the properties are too large for the one frame they must fit into.
    """
    size = len(body)
    if len(properties) > max_frame_bytes - HEADER_OVERHEAD:
        most = max_frame_bytes - HEADER_OVERHEAD
        raise ValueError(f"all properties together have {len(properties)} bytes, and may have {most} (frame_max)")
    header = _CONTENT_FRAME.pack(HEADER, channel, _CONTENT_FIXED + len(properties), BASIC, 0, size)
    if 0 < size <= max_frame_bytes - FRAME_OVERHEAD:
        start = _FRAME.pack(BODY, channel, size)
        return b"".join((method, header, properties, FRAME_END, start, body, FRAME_END))
    parts = [method, header, properties, FRAME_END]
    chunk = max_frame_bytes - FRAME_OVERHEAD
    for at in range(0, size, chunk):
        piece = body[at : at + chunk]
        parts += (_FRAME.pack(BODY, channel, len(piece)), piece, FRAME_END)
    return b"".join(parts)


def encode_ack(channel: int, tag: int, *, multiple: bool = False) -> bytes:
    """basic.ack of one delivery, or with `multiple` of all up to it."""
    return _ACK_FRAME.pack(METHOD, channel, 13, _ACK, tag, multiple, 0xCE)


def encode_nack(channel: int, tag: int, *, requeue: bool) -> bytes:
    """basic.nack (RabbitMQ's extension) of one delivery: back to its queue, or to its dead letters."""
    return _ACK_FRAME.pack(METHOD, channel, 13, _NACK, tag, requeue << 1, 0xCE)
