"""What dead letters say: requests that could not be served, with the reason, in RabbitMQ's headers or in ours.

RabbitMQ adds `x-death` to what it moves to the dead letters itself (https://www.rabbitmq.com/docs/dlx#effects). A
worker says more of what it puts there: which exception, in which worker.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from .errors import RemoteError
from .fields import FieldTable, Malformed
from .properties import Properties
from .shown import cut, told
from .wire import (
    DEAD_KIND_HEADER,
    DEAD_QUEUE_HEADER,
    DEAD_REASON_HEADER,
    DEAD_TIME_HEADER,
    DEAD_WORKER_HEADER,
    PERSISTENT,
    TIMEOUT_HEADER,
)

REASONS = {
    "failed": "the handler raised",
    "refused": "no handler could run it",
    "in_doubt": "a worker had it that was lost or stopped, and nobody knows whether the handler ran",
    "rejected": "the worker could not read it, or its headers have no room for why it failed: see the worker's log",
    "delivery_limit": "it came back too often: its workers died, or gave it back",
    "expired": "its time was over before a worker took it",
    "maxlen": "the queue was full",
}
"""What a dead letter died of. The first three are told by workers, the others by the broker."""
UNKNOWN = "unknown"
"""What it died of if neither of them says one of these: it was put there by somebody else."""
_KINDS = {"yes": "failed", "no": "refused", "maybe": "in_doubt"}
MAX_REASON = 1000
"""Letters of a reason in words; the last one tells if more were cut off."""
MAX_SHORT_REASON = 200
"""The same where there is little room."""

_TOLD = (DEAD_KIND_HEADER, DEAD_REASON_HEADER, DEAD_QUEUE_HEADER, DEAD_WORKER_HEADER, DEAD_TIME_HEADER)
_OF_DEATH = ("x-death", "x-first-death-", "x-last-death-", "x-dead-", "x-delivery-count", "x-acquired-count")
_COPIES = ("CC", "BCC")
"""Further routing keys (https://www.rabbitmq.com/docs/sender-selected): a dead letter goes to one queue only."""


def buried(header: bytes, failure: RemoteError, *, queue: str, worker: str, seconds: float) -> bytes:
    """The properties, encoded, of a request as a worker puts it to the dead letters; `seconds` since 1970.

    Malformed if those that it has do not decode. What would end it there, or would be refused, is left out: the
    expiration, and the user id of somebody else.
    """
    properties = Properties.decode(header)
    reason = told(failure, MAX_REASON).encode(errors="backslashreplace").decode()
    headers: dict[str, Any] = {
        **_without(properties.headers or {}, *_COPIES),
        DEAD_KIND_HEADER: _KINDS[failure.executed],
        DEAD_REASON_HEADER: cut(reason, MAX_REASON),
        DEAD_QUEUE_HEADER: queue,
        DEAD_WORKER_HEADER: worker,
        DEAD_TIME_HEADER: datetime.fromtimestamp(seconds, UTC),
    }
    return replace(properties, headers=headers, delivery_mode=PERSISTENT, expiration=None, user_id=None).encode()


def stripped(properties: bytes) -> bytes:
    """What `buried` made, without the headers that the request came with: a frame has no room for all."""
    said = Properties.decode(properties)
    headers = {name: value for name, value in (said.headers or {}).items() if name in _TOLD}
    reason = f"{cut(_text(headers, DEAD_REASON_HEADER), MAX_SHORT_REASON)} (its headers were too large to be kept)"
    return replace(said, headers={**headers, DEAD_REASON_HEADER: reason}).encode()


def revived(header: bytes, message_id: bytes | None = None) -> bytes:
    """The properties of a dead letter, encoded, as it goes back to its queue: as if it had not died.

    With a message id, it has that one in place of its own. Those that do not decode stay as they are.
    """
    try:
        properties = Properties.decode(header)
    except Malformed:
        return header
    headers = _without(properties.headers or {}, *_COPIES, *_OF_DEATH)
    kept = replace(properties, headers=headers or None, delivery_mode=PERSISTENT, expiration=None, user_id=None)
    return (kept if message_id is None else replace(kept, message_id=message_id)).encode()


def renewed(header: bytes, seconds: float, left: float | None) -> bytes:
    """The properties, encoded, of a request that goes back to its queue as a new one after so many seconds.

    It may wait there for a time that is shorter by that, and has `left` seconds until it is too late to run it, if it
    said so. Malformed if the properties do not decode.
    """
    properties = Properties.decode(header)
    expiration = properties.expiration
    if expiration is not None and expiration.isdigit():
        expiration = b"%d" % max(0, int(expiration) - round(seconds * 1000))
    headers = _without(properties.headers or {}, *_COPIES)
    if left is not None:
        headers[TIMEOUT_HEADER] = round(left * 1000)
    return replace(properties, headers=headers or None, expiration=expiration, user_id=None).encode()


def _without(headers: FieldTable, *beginnings: str) -> dict[str, Any]:
    return {name: value for name, value in headers.items() if not name.startswith(beginnings)}


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One of them."""

    place: int
    """Its place in the queue, from 1."""
    reason: str
    """One of `REASONS`, or `UNKNOWN`."""
    text: str
    """The same in words."""
    properties: Properties
    """All of them; none if they do not decode."""
    size: int
    """Bytes of its body."""
    body: bytes | None
    """None if it was too large to be taken."""
    queue: str = ""
    """The queue that it died in, as far as that is known."""
    worker: str = ""
    """The worker that could not serve it, if one did."""
    died: datetime | None = None
    """When."""

    @classmethod
    def read(cls, place: int, header: bytes, body: bytes | None, size: int) -> DeadLetter:
        """What a message in the queue of dead letters is, whatever is in it."""
        try:
            properties = Properties.decode(header)
        except Malformed as error:
            text = f"its properties do not decode: {error}"
            return cls(place, "rejected", text, Properties(), size, body)
        headers = properties.headers or {}
        if DEAD_KIND_HEADER in headers:
            kind, text = _text(headers, DEAD_KIND_HEADER), _text(headers, DEAD_REASON_HEADER)
            reason = kind if kind in _KINDS.values() else UNKNOWN
            queue, worker = _text(headers, DEAD_QUEUE_HEADER), _text(headers, DEAD_WORKER_HEADER)
            return cls(place, reason, text, properties, size, body, queue, worker, _time(headers, DEAD_TIME_HEADER))
        death = _last_death(headers)
        text = REASONS.get(_text(death, "reason"), "")
        reason = _text(death, "reason") if text else UNKNOWN
        text = text or "it does not say, so that neither a worker nor the broker put it there"
        return cls(place, reason, text, properties, size, body, _text(death, "queue"), "", _time(death, "time"))

    @property
    def id(self) -> str:
        """Its message id, or nothing if it has none."""
        return (self.properties.message_id or b"").decode(errors="backslashreplace")

    @property
    def content_type(self) -> str:
        """Its message class, or nothing."""
        return (self.properties.content_type or b"").decode(errors="backslashreplace")

    @property
    def is_call(self) -> bool:
        """Whether somebody waited for an answer; nobody does any more."""
        return bool(self.properties.reply_to)


def _last_death(headers: FieldTable) -> Mapping[str, Any]:
    """The first of the deaths that RabbitMQ tells of, which is the last one that it died."""
    deaths = headers.get("x-death")
    last = deaths[0] if isinstance(deaths, list) and deaths else {}
    return last if isinstance(last, Mapping) else {}


def _text(table: Mapping[str, Any], name: str) -> str:
    value = table.get(name, "")
    return value if isinstance(value, str) else ""


def _time(table: Mapping[str, Any], name: str) -> datetime | None:
    value = table.get(name)
    return value if isinstance(value, datetime) else None
