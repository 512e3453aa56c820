"""Calls to queues that may be full: the broker confirms each request, and one that it refuses fails at once.

Without that a call is not confirmed, for its answer says more: a request that a full queue refused would be missed only
when its time is over. It costs the broker an acknowledgement for each request, so that it is done where it is of use.
"""

from __future__ import annotations

from collections.abc import Callable

from .answer import Answer
from .frames import ContentSink
from .line import Line, Listener, Refused
from .wire import RequestForm


class ConfirmedLine(Line):
    """A line whose channel is in confirm mode, with the requests on it that are not confirmed."""

    __slots__ = ("_unconfirmed",)

    confirms = True

    def __init__(self, reply_to: bytes, max_in_flight: int, prefix: bytes, unique: bytes) -> None:
        super().__init__(reply_to, max_in_flight, prefix, unique)
        self._unconfirmed: dict[int, bytes] = {}

    def sink(self, caller: ContentSink) -> ContentSink:
        """The caller, but for confirmations."""
        return Confirmations(self, caller)

    def send(
        self, destination: bytes, form: RequestForm, body: bytes, deadline: float, message_id: bytes | None = None
    ) -> tuple[bytes, Answer]:
        """Publish one request; its answer may fail with Refused, too."""
        id, answer = super().send(destination, form, body, deadline, message_id)
        self._unconfirmed[self._counter] = id
        return id, answer

    def converse(
        self, destination: bytes, properties: Callable[[bytes, bytes], bytes], body: bytes, listener: Listener
    ) -> bytes:
        """Publish a request whose answers `listener` hears."""
        id = super().converse(destination, properties, body, listener)
        self._unconfirmed[self._counter] = id
        return id

    def confirmed(self, number: int, multiple: bool, accepted: bool) -> None:
        """The broker has these requests, or refuses them: all up to the number, or to the last if that is 0."""
        unconfirmed = self._unconfirmed
        settled = [one for one in unconfirmed if one <= (number or one)] if multiple else [number]
        for one in settled:
            id = unconfirmed.pop(one, None)
            if id is not None and not accepted:
                self.fail(id, Refused())
        if not accepted:
            self.on_refused()

    def lose(self, error: Exception) -> None:
        """The channel is gone, and what was to be confirmed on it."""
        self._unconfirmed.clear()
        super().lose(error)


class Confirmations:
    """Tells a line what is confirmed, and the caller all else; a `ContentSink`."""

    def __init__(self, line: ConfirmedLine, caller: ContentSink) -> None:
        self.confirmed = line.confirmed
        self.delivered = caller.delivered
        self.returned = caller.returned
        self.too_large = caller.too_large
