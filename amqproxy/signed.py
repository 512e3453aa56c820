"""The lane of a connection that signs: it signs what goes out, and lets nothing come in that is not signed."""

from __future__ import annotations

import logging
import os
import time
from typing import Protocol, runtime_checkable

from .frames import ContentSink
from .lane import Lane, LaneProtocol
from .shown import shown, shown_message
from .signing import NotSigned, Once, Signing, destination, sign, verify

log = logging.getLogger("amqproxy.signed")


@runtime_checkable
class Addressee(Protocol):
    """A `ContentSink` that takes messages from others."""

    settles: bool
    """Whether it settles what it takes, so that the broker gives again what it does not."""

    @property
    def receiver(self) -> bytes:
        """Its name on this connection: what was sent to several of different names, each of them takes once."""

    def is_for_me(self, destination: str) -> bool:
        """Whether what was sent there would come here."""

    def not_signed(self, tag: int, header: bytes, reason: str) -> None:
        """A message came that is not taken; it is to be settled all the same."""


class Signatures:
    """The signatures of one connection, all of its lanes together."""

    def __init__(self, signing: Signing) -> None:
        self._signing = signing
        self._settled = Once(signing.window, signing.remember, signing.redelivered_window)
        """Of what receivers settle."""
        self._unsettled = Once(signing.window, signing.remember)

    def sign(self, properties: bytes, body: bytes, to: str) -> bytes:
        """The properties with a signature."""
        return sign(self._signing, properties, body, to, time.time(), os.urandom(16))

    def check(self, header: bytes, body: bytes, addressee: Addressee, *, again: bool) -> bytes:
        """What `give_back` knows the message by; NotSigned or another ValueError if it is not to be taken."""
        signature = verify(self._signing, header, body)
        if not signature.to or not addressee.is_for_me(signature.to):
            raise NotSigned(f"it was sent to {signature.to!r}, and not here")
        if not addressee.settles:  # then the broker never gives anything again
            return self._unsettled.take(signature, time.time(), receiver=addressee.receiver)
        return self._settled.take(signature, time.time(), receiver=addressee.receiver, again=again)

    def give_back(self, message: bytes) -> None:
        """A message that was checked goes back to the broker, and may come again."""
        self._settled.give_back(message)


class _Address(bytes):
    """What a lane wants to be told of a destination, with that as signatures have it."""

    to: str


class SignedLane(Lane):
    """A lane that signs what goes out; its sink is a `Checked` where nothing else is to come in."""

    __slots__ = ("_signatures", "_taken")

    def __init__(
        self, protocol: LaneProtocol, channel: int, sink: ContentSink, max_body_bytes: int, signatures: Signatures
    ) -> None:
        super().__init__(protocol, channel, sink, max_body_bytes)
        self._signatures = signatures
        self._taken = sink.taken if isinstance(sink, Checked) else {}

    def _settle(self, tag: int) -> None:
        super()._settle(tag)
        self._taken.pop(tag, None)

    def nack(self, tag: int, *, requeue: bool) -> None:
        """As that of a lane; what goes back to its queue may come here again."""
        super().nack(tag, requeue=requeue)
        message = self._taken.pop(tag, None)
        if requeue and message is not None:
            self._signatures.give_back(message)

    def close(self) -> None:
        """As that of a lane; the broker takes back what is not settled."""
        super().close()
        self._give_back()

    def forget(self) -> None:
        """As `close`."""
        super().forget()
        self._give_back()

    def _give_back(self) -> None:
        for message in self._taken.values():
            self._signatures.give_back(message)
        self._taken.clear()

    def destination(self, exchange: bytes, routing_key: bytes) -> bytes:
        """As that of a lane."""
        address = _Address(super().destination(exchange, routing_key))
        address.to = destination(exchange, routing_key)
        return address

    def publish(self, destination: bytes, properties: bytes, body: bytes, *, alone: bool = False) -> None:
        """Sign a message and send it."""
        assert isinstance(destination, _Address)
        signed = self._signatures.sign(properties, body, destination.to)
        super().publish(destination, signed, body, alone=alone)


class Checked:
    """What stands between a lane and its sink: deliveries get through that are signed, all else does as it is.

    What comes back was sent by us. Of what is too large the body was not stored: it cannot be told from a stranger's.
    """

    def __init__(self, sink: ContentSink, signatures: Signatures, max_body_bytes: int) -> None:
        self._limit = max_body_bytes
        self._sink = sink
        self._addressee = sink if isinstance(sink, Addressee) else None
        self._signatures = signatures
        self.taken: dict[int, bytes] = {}
        """What came and is not settled, by its delivery tag."""

    def delivered(self, tag: int, redelivered: bool, header: bytes, body: bytes) -> None:
        """A message came."""
        if self._addressee is None:
            return  # it consumes nothing, and this is from nobody
        try:
            message = self._signatures.check(header, body, self._addressee, again=bool(redelivered))
        except ValueError as error:
            self._refuse(tag, header, str(error))
            return
        if self._addressee.settles:
            self.taken[tag] = message
        self._sink.delivered(tag, redelivered, header, body)

    def _refuse(self, tag: int, header: bytes, reason: str) -> None:
        if self._addressee is not None:
            receiver = shown(self._addressee.receiver) or "a caller"
            log.warning("%s did not take a message: %s: %s", receiver, shown_message(header), shown(reason))
            self._addressee.not_signed(tag, header, reason)

    def returned(self, code: int, text: bytes, routing_key: bytes, header: bytes, body: bytes) -> None:
        """A message came back."""
        self._sink.returned(code, text, routing_key, header, body)

    def too_large(self, tag: int, header: bytes, size: int) -> None:
        """A message is larger than is taken."""
        self._refuse(
            tag, header, f"it has {size} bytes, too many to check its signature (max_body_bytes: {self._limit})"
        )

    def confirmed(self, tag: int, multiple: bool, accepted: bool) -> None:
        """The broker has messages, or refuses them."""
        self._sink.confirmed(tag, multiple, accepted)
