"""Every property and header of the wire format, spelled here only, in encode/decode pairs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from .errors import RemoteError, remote_error_class
from .fields import encode_short_string
from .properties import CORRELATION_ID, EXPIRATION, MESSAGE_ID, REPLY_TO, Properties

JSON = "json"
"""The content encoding that is meant when none is given."""

TIMEOUT_HEADER = "x-timeout-ms"
FAILURE_CLASS = "com.github.sstone.amqp.proxy.AmqpProxy$ServerFailure"
"""The content type of a failure, whose body is always JSON: the name that the original's clients look for."""
FAILURE_CONTENT_TYPE = FAILURE_CLASS.encode()

MAX_MILLISECONDS = 2**32 - 1
"""The longest expiration that RabbitMQ takes: 49 days. It closes the channel of whoever asks for more."""

TRANSIENT = 1
"""The delivery mode of calls: who waits for a reply gains nothing from a copy on disk."""


def request_class(service: str, method: str) -> str:
    """The message class of a method with plain parameters."""
    return f"{service}.{method}"


def reply_class(service: str, method: str) -> str:
    """The class of its reply."""
    return f"{service}.{method}.Reply"


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
    executed: str = "yes"


_failure_decoder = msgspec.json.Decoder(Failure)
_EXECUTED = {"no": "no", "maybe": "maybe"}


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


def decode_failure(body: bytes, registered: tuple[type[Exception], ...] = ()) -> RemoteError:
    """The error to raise for a failure reply, of ours or of the original's form; ValueError if it is neither."""
    try:
        failure = _failure_decoder.decode(body)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise ValueError(f"a failure that does not decode: {error}") from error
    detail = failure.error or _foreign_detail(failure)
    return remote_error_class(detail.type, registered)(
        failure.message or "",
        code=detail.code,
        type=detail.type or "RemoteError",
        retryable=detail.retryable,
        details=detail.details,
        traceback=detail.traceback,
        executed=_EXECUTED.get(detail.executed, "yes"),  # type: ignore[arg-type]  # its values are of Executed
    )


def _foreign_detail(failure: Failure) -> FailureDetail:
    """A worker of another make says only `package.Class: text`."""
    name, _, _ = (failure.throwableAsString or "").partition(":")
    return FailureDetail(type=name.strip())


class RequestForm:
    """The properties of all requests that one method sends over one link, encoded but for the two ids.

    Ids of either kind have one fixed length, so all other bytes are made once.
    """

    __slots__ = ("_between", "_front")

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
        milliseconds = min(max(1, round(timeout * 1000)), MAX_MILLISECONDS)
        ahead = Properties(
            content_type=content_type.encode(),
            content_encoding=encoding.encode(),
            headers={**(headers or {}), TIMEOUT_HEADER: milliseconds},
            delivery_mode=TRANSIENT,
            priority=priority,
        ).encode()
        flags = int.from_bytes(ahead[:2], "big") | CORRELATION_ID | REPLY_TO | EXPIRATION | MESSAGE_ID
        self._front = flags.to_bytes(2, "big") + ahead[2:] + bytes((id_length,))
        between = encode_short_string(reply_to) + encode_short_string(b"%d" % milliseconds)
        self._between = between + bytes((message_id_length or id_length,))

    def properties(self, correlation_id: bytes, message_id: bytes) -> bytes:
        """The properties of one request, encoded."""
        return self._front + correlation_id + self._between + message_id


class ReplyForm:
    """The properties of all replies of one class and encoding, encoded but for the correlation id."""

    __slots__ = ("_anonymous", "_front")

    def __init__(self, content_type: str, encoding: str) -> None:
        known = Properties(
            content_type=content_type.encode(), content_encoding=encoding.encode(), delivery_mode=TRANSIENT
        ).encode()
        self._anonymous = known
        flags = int.from_bytes(known[:2], "big") | CORRELATION_ID
        self._front = flags.to_bytes(2, "big") + known[2:]

    def properties(self, correlation_id: bytes | None) -> bytes:
        """The properties of one reply, encoded; the request's id is echoed byte for byte."""
        if correlation_id is None:
            return self._anonymous
        return self._front + bytes((len(correlation_id),)) + correlation_id


FAILURE_FORM = ReplyForm(FAILURE_CLASS, JSON)
