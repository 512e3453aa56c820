"""What calls come to: their callers are answered through the worker's channel, and their deliveries settled."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Literal, Protocol

from .addresses import Addresses
from .codecs import DecodingFailed, HoldsTooMuch
from .errors import CallTimeout, Executed, RemoteError
from .fields import Malformed
from .handler import Call, Handler, Refused, failure_of, refusal
from .options import ServeOptions
from .parking import NoRoom, Parking
from .shown import shown, shown_failure, shown_message
from .wire import FAILURE_FORM, ReplyForm, encode_failure

if TYPE_CHECKING:
    from .contract import Contract
    from .lane import Lane
    from .link import Link

log = logging.getLogger("amqproxy.server")

MAX_DESTINATIONS = 1024
"""Reply queues whose encoded address is kept; a caller has one, so this is many callers."""

DIRECT = b"amq.rabbitmq.reply-to."
"""How addresses of RabbitMQ's direct reply-to begin. RabbitMQ 3.10 closes the connection of whoever writes to one that
it did not make up. So the first answer to each comes behind the acknowledgement, or the same request would come again,
and cost each connection of the pool in turn. What is sent ahead of an answer, such as items, is for queues alone, and
so is what all workers of a pool send."""


MOST_LINES = 10
"""So many lines about the calls that shared a message go to the log, and one that says how many were left out."""


class Told:
    """What goes to the log about the calls of one message: a few bytes may hold a thousand that fail."""

    __slots__ = ("left_out", "lines")

    def __init__(self) -> None:
        self.lines = 0
        self.left_out = 0

    def admit(self) -> bool:
        """Whether one more line goes to the log; else it is counted."""
        if self.lines < MOST_LINES:
            self.lines += 1
            return True
        self.left_out += 1
        return False


class Pool(Protocol):
    """What is to be known of the worker."""

    contract: Contract
    options: ServeOptions
    running: dict[Call, asyncio.Task[None]]
    answered: int

    @property
    def gives_up(self) -> bool:
        """True if handlers are cancelled from outside."""


class Replies:
    """What goes out of one channel of a worker.

    A `tag` is the delivery to settle; 0 if there is none, or none any more.
    """

    def __init__(self, worker: Pool, lane: Lane, link: Link) -> None:
        self.lane = lane
        """What they go out through."""
        self.limits = link.limits
        """What the broker takes."""
        self.parking: Parking | None = None
        """The way to the dead letters, where there are any."""
        self._worker = worker
        self._loop = link.loop
        self._destinations: dict[bytes, bytes] = {}
        self._addresses = Addresses(worker.options.reply_queues)

    def answer(
        self, tag: int, form: ReplyForm, body: bytes, correlation_id: bytes | None, reply_to: bytes | None
    ) -> None:
        """Reply first, then acknowledge: who dies in between is asked again, and nobody waits for nothing."""
        lane = self.lane
        if not lane.open:
            what = f"{form.content_type.decode()}, whose call has run,"
            self._unsent(tag, what, correlation_id, reply_to)
            return
        if reply_to:
            if len(body) > self.limits.body_bytes:
                form, body = FAILURE_FORM, self.failure(self.too_large("reply", len(body)))
            destination = self._destinations.get(reply_to)
            if destination is None:
                destination = self._destination(reply_to)
                if reply_to.startswith(DIRECT) or not destination:
                    tag = self._settle_ahead(tag)
            if tag and destination:
                lane.reply(tag, destination, form.properties(correlation_id), body, alone=not self._worker.running)
            elif destination:  # of a stream that has begun, or of a broadcast: there is no delivery to settle
                lane.publish(destination, form.properties(correlation_id), body)
        else:
            self.settle(tag)
        self._worker.answered += 1

    def _unsent(self, tag: int, what: str, correlation_id: bytes | None, reply_to: bytes | None) -> None:
        """Log what becomes of a request whose answer cannot be sent any more, if anything is lost by that."""
        if not reply_to and not tag:
            return
        becomes = "the broker gives the request to a worker again"
        if not tag:
            becomes = "nobody runs it again, and nobody is told"
        could = "sent" if reply_to else "acknowledged"
        text = "%s: %s could not be %s (correlation-id %s), for the channel is closed: %s"
        log.warning(text, self._worker.contract.name, what, could, shown(correlation_id or b"none"), becomes)

    def refuse(
        self, tag: int, failure: RemoteError, correlation_id: bytes | None, reply_to: bytes | None, header: bytes
    ) -> None:
        """Answer with a failure, which goes to the log if nobody waits for it; `header` is the request's."""
        if not self.lane.open:
            what = f"the failure of {shown_message(header)}, {shown_failure(failure)},"
            self._unsent(tag, what, correlation_id, reply_to)
            if tag or reply_to:
                return
        if not reply_to:
            self.unheard(failure, header, "; it is not run again")
        self.answer(tag, FAILURE_FORM, self.failure(failure), correlation_id, reply_to)

    def turn_away(self, tag: int, failure: RemoteError, correlation_id: bytes | None, reply_to: bytes) -> None:
        """Tell a stranger that a request is not taken.

        It is not signed: correlation id and address may be those of a call that runs, whose caller would believe it.
        """
        self._settle_ahead(tag)
        destination = self._destinations.get(reply_to) or self._destination(reply_to)
        if destination and self.lane.open:
            properties = FAILURE_FORM.properties(correlation_id)
            self.lane.publish_unsigned(destination, properties, self.failure(failure))
        self._worker.answered += 1

    def unheard(self, failure: RemoteError, header: bytes, becomes: str = "") -> None:
        """Log a failure that nobody waits for."""
        log.warning("a one-way request failed: %s: %s%s", shown_message(header), shown_failure(failure), becomes)

    def left_out(self, told: Told, header: bytes) -> None:
        """The calls of a message are over: log how much about them was not, if anything."""
        if told.left_out:
            text = "%d more lines about calls that failed in one message were left out: %s"
            log.warning(text, told.left_out, shown_message(header))
            told.left_out = 0

    def fail(
        self,
        tag: int,
        redelivered: bool,
        failure: RemoteError,
        correlation_id: bytes | None,
        reply_to: bytes | None,
        header: bytes,
        body: bytes,
    ) -> None:
        """Tell a failure, or let another worker try first.

        The request itself, header and body, goes to the dead letters if there is nobody to be told.
        """
        if self._worker.options.requeue_once and not redelivered and tag:
            self.give_back(tag)
            return
        failure = in_doubt(failure, redelivered)
        if self.kept(tag, failure, reply_to, header, body):
            return
        self.refuse(tag, failure, correlation_id, reply_to, header)

    def kept(self, tag: int, failure: RemoteError, reply_to: bytes | None, header: bytes, body: bytes) -> bool:
        """Whether a request goes to the dead letters, since nobody waits for an answer; it is settled then."""
        if self.parking is None or reply_to:
            return False
        try:
            self.parking.park(tag, header, body, failure)
        except (Malformed, NoRoom) as error:  # then the broker moves it as it is
            if not tag:
                return False
            why = str(error) if isinstance(error, NoRoom) else "its properties do not decode"
            text = "%s: a request goes to the dead letters as it is, for %s: %s"
            log.warning(text, self._worker.contract.name, why, shown_failure(failure))
            self.bury(tag)
        self._worker.answered += 1
        return True

    def bury(self, tag: int) -> None:
        """Refuse a request for good: the broker moves it to the dead letters, if there are any, and else drops it."""
        if self.lane.open:
            self.lane.nack(tag, requeue=False)

    async def close(self) -> None:
        """Let the dead letters get there."""
        if self.parking is not None:
            await self.parking.close()

    def ended(
        self,
        error: BaseException,
        handler: Handler,
        call: Call,
        tag: int,
        *,
        again: bool = True,
        told: Told | None = None,
    ) -> RemoteError | None:
        """A call ended without a result: what its caller is told; None if nobody is, and its delivery is settled.

        `again` is whether another worker could run it instead; `told` is what the log has of the calls of its message.
        """
        worker = self._worker
        worker.running.pop(call, None)
        if call.cancelled and isinstance(error, Exception | asyncio.CancelledError):
            if isinstance(error, Exception):
                log.info("%r raised when it was cancelled", call, exc_info=error)
            self.settle(tag)
            return None
        if isinstance(error, Refused):
            return in_doubt(error.failure, call.redelivered)
        if isinstance(error, HoldsTooMuch):
            text = f"{handler.method.title}: {error}"
            return in_doubt(refusal("resource_exhausted", text, type="MessageTooLarge"), call.redelivered)
        if isinstance(error, DecodingFailed):
            return in_doubt(refusal("invalid_argument", f"{handler.method.title}: {error}"), call.redelivered)
        if isinstance(error, CallTimeout) and call.is_over:
            # Of a call that had what was left of this one's time: its caller is about to find out by its own clock.
            log.info("%r ended with its caller's time: %s", call, error)
            self.settle(tag)
            return None
        if isinstance(error, asyncio.CancelledError):
            if worker.gives_up:
                if not (tag and again):  # nobody else will answer
                    return _stopped(handler, call)
                self.give_back(tag)
                raise error
        elif isinstance(error, KeyboardInterrupt) or not self._loop.is_running():
            raise error  # the program is torn down; the broker gives the call to another worker
        return self._raised(error, call, told)  # also of a handler that cancelled itself, or raised this

    def _raised(self, error: BaseException, call: Call, told: Told | None) -> RemoteError:
        """What a handler raised, as its caller is told."""
        if isinstance(error, RemoteError):
            log.debug("%r failed: %s", call, error)
        elif told is None or told.admit():
            log.warning("%r raised", call, exc_info=error)
        failure = failure_of(error, debug=self._worker.options.debug, ran=call.reached)
        return failure if call.reached else in_doubt(failure, call.redelivered)

    def failure(self, error: RemoteError) -> bytes:
        """The body that tells of it."""
        details = self._worker.options.failure_details
        try:
            return encode_failure(error, details=details)
        except Exception:  # the details are of the user's making, and so is what reading them may raise
            kind = type(error.details).__qualname__
            name, failed = self._worker.contract.name, shown(error.type)
            log.warning("%s: the details of a %s cannot be written as JSON, and are left out: a %s", name, failed, kind)
            error.details = None
            return encode_failure(error, details=details)

    def too_large(self, what: Literal["request", "reply"], size: int) -> RemoteError:
        """What the caller is told of a request or a reply of so many bytes."""
        limit = self.limits.told("the worker's ")
        text = f"{self._worker.contract.name}: the {what} has {size} bytes, {limit}"
        executed: Executed = "no"
        if what == "reply":
            text, executed = f"{text}; the handler has run", "yes"
        return RemoteError(text, code="resource_exhausted", type="MessageTooLarge", executed=executed)

    def post(self, call: Call, properties: bytes, body: bytes) -> None:
        """Send something to the caller that is not the answer, or not all of it."""
        if call.reply_to and (call.reply_to in self._destinations or not call.reply_to.startswith(DIRECT)):
            self._send(call.reply_to, properties, body)

    def send_with_all(self, reply_to: bytes, properties: bytes, body: bytes) -> None:
        """Send what the other workers of the pool send, too: a made-up address must not cost each its connection."""
        if reply_to.startswith(DIRECT):
            name, address = self._worker.contract.name, shown(reply_to)
            log.warning("%s: dropped an answer to '%s': what all workers answer goes to queues alone", name, address)
            return
        self._send(reply_to, properties, body)

    def _send(self, reply_to: bytes, properties: bytes, body: bytes) -> None:
        """Send something to somebody; nothing goes out once the channel is closed."""
        if self.lane.open:
            destination = self._destinations.get(reply_to) or self._destination(reply_to)
            if destination:
                self.lane.publish(destination, properties, body)

    def _destination(self, reply_to: bytes) -> bytes:
        """The encoded address of a reply queue; nothing if the worker does not write there."""
        if not self._addresses.include(reply_to):
            log.warning(
                "%s: dropped a reply to '%s', which is no name of a reply queue; serve(reply_queues=…) tells which are",
                *(self._worker.contract.name, shown(reply_to)),
            )
            return b""
        if len(self._destinations) >= MAX_DESTINATIONS:
            self._destinations.clear()
        destination = self._destinations[reply_to] = self.lane.destination(b"", reply_to)
        return destination

    def settle(self, tag: int) -> None:
        """Acknowledge a delivery behind what was sent, or one that nobody wants an answer to."""
        if tag and self.lane.open:
            self.lane.ack(tag)

    def _settle_ahead(self, tag: int) -> int:
        """Acknowledge a delivery before anything is sent for it; there is none to settle then."""
        self.settle(tag)
        self.lane.flush()
        return 0

    def give_back(self, tag: int) -> None:
        """Let another worker have it."""
        if tag and self.lane.open:
            self.lane.nack(tag, requeue=True)


def _stopped(handler: Handler, call: Call) -> RemoteError:
    """The failure of a call that was cancelled with its worker, where no other can run it instead."""
    text = (
        f"{handler.method.title}: the worker {call.worker} stopped in the middle of the call, and no other goes on "
        "with it; look what it did before you call again"
    )
    return RemoteError(text, code="unavailable", type="WorkerStopped", retryable=True, executed="maybe")


def in_doubt(failure: RemoteError, redelivered: bool) -> RemoteError:
    """A failure that claims no more than is known: whoever had the request before may have run it, and died."""
    if redelivered and failure.executed == "no":
        failure.executed = "maybe"
    return failure
