"""Every property and header of the wire format, spelled here only, in encode/decode pairs."""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec

from .errors import RemoteError, remote_error_class
from .fields import encode_short_string, encode_table
from .properties import CORRELATION_ID, EXPIRATION, MESSAGE_ID, REPLY_TO, Properties

JSON = "json"
"""The content encoding that is meant when none is given."""

TIMEOUT_HEADER = "x-timeout-ms"
CREDIT_HEADER = "x-stream-credit"
"""On a request: the caller takes a stream, and grants so many items to begin with."""
FEED_HEADER = "x-feed"
"""On a request: true if the caller feeds a stream to the worker, as soon as that grants credit."""
BATCH_HEADER = "x-batch"
"""On a request for a stream: the most items that the caller takes in one message. On other requests: how many calls it
holds. On items and on the answers to such calls: how many these are."""
SEQUENCE_HEADER = "x-seq"
"""On items: the number of the first one. On the answers to calls that shared a message: the place of the first call."""
END_HEADER = "x-end"
"""On the last message of a stream, which has no item."""
WORKER_HEADER = "x-worker"
"""On the answers to a broadcast: who answered."""
HEARTBEAT_HEADER = "x-heartbeat-ms"
"""On a request: the caller wants to hear this often that its call is being worked on."""
DEAD_KIND_HEADER = "x-dead-kind"
"""On a request that a worker put to the dead letters: "failed" if its handler ran, "refused" if not; or "in_doubt"."""
DEAD_REASON_HEADER = "x-dead-reason"
"""Why, in words."""
DEAD_QUEUE_HEADER = "x-dead-queue"
"""Which queue it was taken from."""
DEAD_WORKER_HEADER = "x-dead-worker"
"""Who did."""
DEAD_TIME_HEADER = "x-dead-time"
"""And when."""

CANCEL_CLASS = b"amqproxy.Cancel"
"""Stop the call with this correlation id, queued or running."""
CREDIT_CLASS = b"amqproxy.Credit"
"""Send so many more items; the body is the number."""
ALIVE_CLASS = b"amqproxy.Alive"
"""The call is being worked on; the body may tell how far it is."""
CHUNK_CLASS = b"amqproxy.Chunk"
"""An item that is bytes, and nothing but these in the body."""
PING_CLASS = b"amqproxy.Ping"
"""Who is there? Each worker that takes it says so, with the same class."""
FAILURE_CLASS = "com.github.sstone.amqp.proxy.AmqpProxy$ServerFailure"
"""The content type of a failure, whose body is always JSON: the name that the original's clients look for."""
FAILURE_CONTENT_TYPE = FAILURE_CLASS.encode()

MAX_BATCH = 1024
"""Calls that one message may hold."""

MAX_MILLISECONDS = 2**32 - 1
"""The longest expiration that RabbitMQ takes: 49 days. It closes the channel of whoever asks for more."""

TRANSIENT = 1
"""The delivery mode of calls: who waits for a reply gains nothing from a copy on disk."""
PERSISTENT = 2
"""That of one-way messages, which wait for a worker as long as it takes."""


def milliseconds(seconds: float) -> int:
    """A time as headers hold it: at least one millisecond, and what RabbitMQ takes at most."""
    return min(max(1, round(seconds * 1000)), MAX_MILLISECONDS)


_TIME_IS_LEFT = rb"I(?!\0{4})[\0-\x7f]|[lL](?!\0{8})[\0-\x7f]|s(?!\0{2})[\0-\x7f]"  # signed, and above 0
is_special = re.compile(rb"x-batch|x-heartbeat-ms|x-timeout-ms(?!" + _TIME_IS_LEFT + rb")", re.DOTALL).search
"""Whether the properties of a request, encoded, may ask for signs of life, hold many, or say that no time is left.

One look at the bytes, for each request: it is wrong for few that do neither, and for none that does."""


def request_class(service: str, method: str) -> str:
    """The message class of a method with plain parameters."""
    return f"{service}.{method}"


def reply_class(service: str, method: str) -> str:
    """The class of its reply."""
    return f"{service}.{method}.Reply"


def pool_exchange(queue: str) -> str:
    """The fanout exchange of the pool that shares a queue: it reaches each of its workers."""
    return f"amqproxy.{queue}"


class Failure(msgspec.Struct, kw_only=True, frozen=True):
    """Why a call failed. The first two fields are the original's and all that its clients read."""

    message: str | None
    throwableAsString: str | None = None
    error: FailureDetail | None = None


class FailureDetail(msgspec.Struct, kw_only=True, frozen=True):
    """What we say besides; `code` is one of gRPC's status names in lower case."""

    code: str = "unknown"
    type: str = ""
    retryable: bool = False
    details: Any = None
    traceback: str | None = None
    executed: str = "maybe"
    """Where a worker does not say it, nobody here can know."""


_failure_decoder = msgspec.json.Decoder(Failure)
_EXECUTED = {"no": "no", "yes": "yes"}


class BareFailure(msgspec.Struct, kw_only=True, frozen=True):
    """A failure as the original writes it."""

    message: str | None
    throwableAsString: str | None


def encode_failure(error: RemoteError, *, details: bool = True) -> bytes:
    """The body of a failure reply; without details the two fields that the original knows, and no other."""
    detail = FailureDetail(
        code=_printable(error.code),
        type=_printable(error.type),
        retryable=error.retryable,
        details=error.details,
        traceback=None if error.traceback is None else _printable(error.traceback),
        executed=error.executed,
    )
    message = _printable(error.message)
    text = f"{detail.type}: {message}" if message else detail.type
    if not details:
        return msgspec.json.encode(BareFailure(message=message, throwableAsString=text))
    return msgspec.json.encode(Failure(message=message, throwableAsString=text, error=detail))


def _printable(text: str) -> str:
    """The text in a form that UTF-8 has: a file name, say, may hold what is none."""
    return text.encode(errors="backslashreplace").decode()


class Presence(msgspec.Struct, kw_only=True, frozen=True):
    """What a worker answers to a Ping. A worker of another make may leave out what it likes."""

    service: str = ""
    running: int = 0
    """How many calls it runs."""
    answered: int = 0
    """How many it has answered."""
    busy: bool = False
    """Whether the call with the correlation id of the Ping is among those that run."""


_presence_decoder = msgspec.json.Decoder(Presence)


def encode_presence(presence: Presence) -> bytes:
    """The body of the answer to a Ping."""
    return msgspec.json.encode(presence)


def decode_presence(body: bytes) -> Presence:
    """What such a body tells; nothing in particular, if it makes no sense."""
    try:
        return _presence_decoder.decode(body)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        return Presence()


def decode_failure(body: bytes, registered: tuple[type[Exception], ...] = ()) -> RemoteError:
    """The error to raise for a failure reply, of ours or of the original's form; ValueError if it is neither."""
    try:
        failure = _failure_decoder.decode(body)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise ValueError(f"a failure that does not decode: {error}") from error
    detail = failure.error or _foreign_detail(failure)
    return remote_error_class(detail.type, registered)(
        failure.message or "",
        code=detail.code,
        type=detail.type or "RemoteError",
        retryable=detail.retryable,
        details=detail.details,
        traceback=detail.traceback,
        executed=_EXECUTED.get(detail.executed, "maybe"),  # type: ignore[arg-type]  # its values are of Executed
    )


def _foreign_detail(failure: Failure) -> FailureDetail:
    """A worker of another make says only `package.Class: text`."""
    name, _, _ = (failure.throwableAsString or "").partition(":")
    return FailureDetail(type=name.strip())


class RequestForm:
    """The properties of all requests that one method sends over one link, encoded but for the two ids.

    Ids of either kind have one fixed length, so all other bytes are made once.
    """

    __slots__ = ("_back", "_between", "_front", "_milliseconds", "_reply_to", "_told")

    def __init__(
        self,
        *,
        content_type: str,
        encoding: str,
        reply_to: bytes,
        timeout: float,
        id_length: int,
        message_id_length: int | None = None,
        priority: int | None = None,
        headers: Mapping[str, Any] | None = None,
    ) -> None:
        left = self._milliseconds = milliseconds(timeout)
        others = {name: value for name, value in (headers or {}).items() if name != TIMEOUT_HEADER}
        ahead = Properties(
            content_type=content_type.encode(),
            content_encoding=encoding.encode(),
            headers={**others, TIMEOUT_HEADER: left},
            delivery_mode=TRANSIENT,
            priority=priority,
        ).encode()
        flags = int.from_bytes(ahead[:2], "big") | CORRELATION_ID | REPLY_TO | EXPIRATION | MESSAGE_ID
        self._front = flags.to_bytes(2, "big") + ahead[2:] + bytes((id_length,))
        self._told = encode_table({TIMEOUT_HEADER: left})[4:]  # the last of the table, behind its length
        self._reply_to = encode_short_string(reply_to)
        self._back = bytes((message_id_length or id_length,))
        self._between = self._reply_to + encode_short_string(b"%d" % left) + self._back

    def within(self, timeout: float) -> RequestForm:
        """The same for a request that has less time, which takes a fraction of what the making of another form does."""
        left = milliseconds(timeout)
        if left >= self._milliseconds:
            return self
        told, name = self._told, 14  # the length of the header's name and type
        other = object.__new__(RequestForm)
        other._milliseconds, other._reply_to, other._back = left, self._reply_to, self._back
        other._told = told[:name] + left.to_bytes(len(told) - name, "big")
        ahead, _, behind = self._front.rpartition(told)
        other._front = ahead + other._told + behind
        other._between = self._reply_to + encode_short_string(b"%d" % left) + self._back
        return other

    def properties(self, correlation_id: bytes, message_id: bytes) -> bytes:
        """The properties of one request, encoded."""
        return self._front + correlation_id + self._between + message_id


class OneWayForm(RequestForm):
    """The same for one-way messages: no reply-to, and no time limit but the one that `expires` sets for the queue.

    The message id tells them apart. One that is sent again keeps it, and has a correlation id besides.
    """

    __slots__ = ("_alone",)

    def __init__(
        self,
        *,
        content_type: str,
        encoding: str,
        id_length: int,
        message_id_length: int,
        persistent: bool = True,
        expires: float | None = None,
        priority: int | None = None,
        headers: Mapping[str, Any] | None = None,
    ) -> None:
        known = Properties(
            content_type=content_type.encode(),
            content_encoding=encoding.encode(),
            headers=dict(headers) if headers else None,
            delivery_mode=PERSISTENT if persistent else TRANSIENT,
            priority=priority,
        ).encode()
        flags, ahead, between = int.from_bytes(known[:2], "big") | MESSAGE_ID, known[2:], b""
        if expires is not None:
            flags |= EXPIRATION
            between = encode_short_string(b"%d" % max(1, round(expires * 1000)))
        self._between = between + bytes((message_id_length,))
        self._alone = flags.to_bytes(2, "big") + ahead + self._between
        self._front = (flags | CORRELATION_ID).to_bytes(2, "big") + ahead + bytes((id_length,))

    def within(self, timeout: float) -> RequestForm:
        """The same: how long its sender waits is no matter of the worker's."""
        return self

    def properties(self, correlation_id: bytes, message_id: bytes) -> bytes:
        """The properties of one message, encoded; it has a correlation id if that is not its message id."""
        if correlation_id == message_id:
            return self._alone + message_id
        return self._front + correlation_id + self._between + message_id


class ReplyForm:
    """The properties of all replies of one class and encoding, encoded but for the correlation id."""

    __slots__ = ("_anonymous", "_front", "content_type", "encoding")

    def __init__(self, content_type: str, encoding: str, headers: Mapping[str, Any] | None = None) -> None:
        known = Properties(
            content_type=content_type.encode(),
            content_encoding=encoding.encode() or None,
            headers=headers,
            delivery_mode=TRANSIENT,
        ).encode()
        self.content_type, self.encoding = content_type.encode(), encoding.encode()
        self._anonymous = known
        flags = int.from_bytes(known[:2], "big") | CORRELATION_ID
        self._front = flags.to_bytes(2, "big") + known[2:]

    def properties(self, correlation_id: bytes | None) -> bytes:
        """The properties of one reply, encoded; the request's id is echoed byte for byte."""
        if correlation_id is None:
            return self._anonymous
        return self._front + bytes((len(correlation_id),)) + correlation_id


FAILURE_FORM = ReplyForm(FAILURE_CLASS, JSON)
CHUNK_FORM = ReplyForm(CHUNK_CLASS.decode(), "")
"""Bytes are in no encoding."""


class ItemForm:
    """The properties of all messages of one stream, encoded but for what changes from message to message.

    Or of all answers to calls that shared a message.
    """

    __slots__ = ("_back", "_front")

    def __init__(
        self, content_type: bytes, encoding: bytes, correlation_id: bytes | None, reply_to: bytes | None
    ) -> None:
        known = Properties(content_type=content_type, content_encoding=encoding or None, headers={}).encode()
        back = Properties(delivery_mode=TRANSIENT, correlation_id=correlation_id, reply_to=reply_to).encode()
        flags = int.from_bytes(known[:2], "big") | int.from_bytes(back[:2], "big")
        self._front = flags.to_bytes(2, "big") + known[2:-4]  # all but the empty table
        self._back = back[2:]

    def properties(self, first: int, items: int) -> bytes:
        """Those of a message with items, numbered from `first`."""
        table = _ITEM.pack(15, b"\x05x-seql", first)
        if items > 1:
            table = _ITEMS.pack(28, b"\x05x-seql", first, b"\x07x-batchI", items)
        return self._front + table + self._back

    def end(self, next: int) -> bytes:
        """Those of the last message."""
        return self._front + _ITEM_END.pack(23, b"\x05x-seql", next, b"\x05x-endt\x01") + self._back


_ITEM = struct.Struct(">I7sq")
_ITEMS = struct.Struct(">I7sq9si")
_ITEM_END = struct.Struct(">I7sq8s")


class Part(NamedTuple):
    """What the headers of one message of a stream say."""

    first: int
    items: int
    last: bool


def part_of(headers: Mapping[str, Any]) -> Part | None:
    """Which part of a stream a message is; None if it is no part of one. ValueError if its headers make no sense."""
    first, last = headers.get(SEQUENCE_HEADER), is_true(headers.get(END_HEADER))
    if first is None and not last:
        return None
    items = 0 if last else whole_number(headers.get(BATCH_HEADER, 1), BATCH_HEADER)
    return Part(0 if first is None else whole_number(first, SEQUENCE_HEADER), items, last)


def calls_of(headers: Mapping[str, Any]) -> int:
    """How many calls a request holds; ValueError if its header makes no sense."""
    calls = whole_number(headers.get(BATCH_HEADER, 1), BATCH_HEADER)
    if not 0 < calls <= MAX_BATCH:
        raise ValueError(f"a message holds from 1 to {MAX_BATCH} calls, not {calls}")
    return calls


def whole_number(value: Any, what: str) -> int:
    """A header's number, also from STOMP, whose headers are all texts; ValueError if it is none, or a negative one."""
    if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) < 20:
        return int(value)
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ValueError(f"{what} is a whole number from 0, not {str(value)[:40]!r}")
    return value


def is_true(value: Any) -> bool:
    """Whether a header says yes, also from STOMP."""
    return value is True or value == "true"


LONGEST_CREDIT = 20
"""Bytes of a number of items: more are not read, for they may hold anything."""


def credit_of(body: bytes) -> int:
    """The number of items that a Credit grants; ValueError if that is no number of items."""
    if len(body) > LONGEST_CREDIT:
        raise ValueError(f"a credit is a number in JSON, and not {len(body)} bytes")
    try:
        return whole_number(msgspec.json.decode(body), "a credit")
    except (msgspec.MsgspecError, RecursionError) as error:
        raise ValueError(f"a credit is a number in JSON: {error}") from error
