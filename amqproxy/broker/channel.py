"""A channel: what its client publishes, is delivered, and acknowledges. The broker's busiest lines are here.

Methods that come once and not with every message are in operations.py.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from pamqp import commands

from ..fields import Malformed, encode_short_string
from ..frames import BODY, HEADER, METHOD
from ..properties import DELIVERY_MODE, EXPIRATION, HEADERS, REPLY_TO, USER_ID
from .consumers import Consumer
from .direct import PSEUDO_QUEUE, DirectReply
from .errors import ProtocolError, precondition_failed, unexpected_frame
from .message import Entry, Message, headers_of, milliseconds, scan, split
from .methods import encode
from .queue import Queue, counted
from .routes import Route, Routes
from .transaction import Transaction

if TYPE_CHECKING:
    from .session import Session

Held = tuple[Entry, Queue, "Consumer | None"]
"""An unacknowledged delivery: the message, where it came from, and for whom; None for basic.get."""

_PSEUDO = PSEUDO_QUEUE.encode()
_HEAD = struct.Struct(">BHI")
_NEXT = struct.Struct(">BBHI")
_TAG = struct.Struct(">Q?")
_SIZE = struct.Struct(">HHQ")
_END = b"\xce"
_BASIC = 60


def _internal_error() -> ProtocolError:
    error = ProtocolError(541, "")
    error.method = b""
    return error


def _when_parked(consumer: Consumer) -> int:
    return consumer.parked


class Channel:
    """One channel of one connection."""

    __slots__ = (
        "_arguments",
        "_header",
        "_lowest",
        "_missing",
        "_part",
        "_published",
        "_routes",
        "_tag",
        "_uncertain",
        "_uncertain_tag",
        "closed",
        "confirming",
        "consumed_unacked",
        "consumers",
        "last_queue",
        "number",
        "prefetch",
        "prefetch_shared",
        "reply",
        "session",
        "transaction",
        "unacked",
        "vhost",
    )

    def __init__(self, session: Session, number: int) -> None:
        self.session = session
        self.number = number
        self.vhost = session.vhost
        self.consumers: dict[str, Consumer] = {}
        self.unacked: dict[int, Held] = {}
        self.prefetch = 0
        """What each new consumer may hold unacknowledged; 0 for any number."""
        self.prefetch_shared = 0
        """What all consumers together may hold."""
        self.consumed_unacked = 0
        self.confirming = False
        self.closed = False
        self.transaction: Transaction | None = None
        self.last_queue = ""
        """The queue that was declared last, for which an empty name stands."""
        self.reply: DirectReply | None = None
        self._tag = 0
        self._lowest = 1
        self._published = 0
        self._uncertain = 0
        """Messages that were taken, but not confirmed yet."""
        self._uncertain_tag = 0
        self._routes = Routes(self)
        self._arguments: bytes | None = None
        self._header: bytes | None = None
        self._missing = 0
        self._part = bytearray()
        """What has come of a body in several frames."""

    # Publishing: a method, a header, and as many bodies as it takes.

    @property
    def expects_content(self) -> bool:
        """Whether a message is under way."""
        return self._arguments is not None

    def begin(self, arguments: bytes) -> None:
        """Take the arguments of a basic.publish, without the ticket."""
        if self._arguments is not None:
            raise self.interrupted()
        self._arguments = arguments

    def interrupted(self) -> ProtocolError:
        """The error when another frame comes than the one that must come next."""
        if self._arguments is None:
            error = unexpected_frame("expected method frame, got non method frame instead")
            error.method = b""
        elif self._header is None:
            wanted = f"content header for class {_BASIC}"
            error = unexpected_frame(f"expected {wanted}, got non content header frame instead")
        else:
            error = unexpected_frame("expected content body, got non content body frame instead")
        if self._arguments is not None:
            error.method = b"\x00\x3c\x00\x28"
        return error

    def take_header(self, header: bytes) -> None:
        """Take the payload of a content header frame."""
        if self._arguments is None or self._header is not None:
            raise self.interrupted()
        content_class, _, size = _SIZE.unpack_from(header)
        if content_class != _BASIC:
            raise unexpected_frame(
                f"expected content header for class {_BASIC}, got one for class {content_class} instead"
            )
        limit = self.session.broker.limits.max_message_bytes
        if size > limit:
            raise precondition_failed(f"message size {size} is larger than configured max size {limit}")
        if self.session.broker.blocked is not None:
            self.session.block()
        if size:
            self._header = header
            self._missing = size
        else:
            self._finish(header, b"")

    def take_body(self, body: bytes) -> None:
        """Take the payload of a body frame."""
        header = self._header
        if header is None:
            raise self.interrupted()
        missing = self._missing - len(body)
        if missing == 0:
            if self._part:
                self.vhost.memory.unfinished -= len(self._part)
                self._part += body
                body = bytes(self._part)
                self._part = bytearray()
            self._finish(header, body)
        elif missing < 0:
            raise self.interrupted()
        else:
            self._missing = missing
            self._part += body
            self.vhost.memory.begin(len(body))

    def _finish(self, header: bytes, body: bytes) -> None:
        arguments = self._arguments
        self._arguments = self._header = None
        assert arguments is not None
        self.publish(arguments, header, body)

    def publish(self, arguments: bytes, header: bytes, body: bytes) -> None:
        """Take a whole message, and send it where it goes."""
        route = self._routes.find(arguments)
        message = Message(route.address, header, body)
        targets = route.targets
        try:
            if scan(message):
                self._examine(message)
        except Malformed as error:
            raise _internal_error() from error
        if message.keys is not None:
            targets = None
            if route.exchange.type == "topic":
                for key in message.keys:
                    self.session.user.check_topic("write", self.vhost.name, route.exchange.name, key)
        if targets is None:
            targets = tuple(self.vhost.route(route.exchange, message.routing_keys, message)[0])
        if self.transaction is not None:
            self.vhost.memory.take(message.share)
            self.transaction.publish(message, route, targets)
        else:
            if not targets and route.mandatory:
                self.give_back(message)
            self.enqueue(message, route, targets)

    def enqueue(self, message: Message, route: Route, targets: tuple[Queue, ...]) -> bool:
        """Put a message into its queues; False if one of them refuses it."""
        accepted = True
        if len(targets) == 1:
            accepted = targets[0].publish(message)
        elif targets:
            message.share = message.share // len(targets) + 1
            for target in targets:
                accepted = target.publish(message) and accepted
        elif route.reply is not None:
            route.reply.publish(message)
        if self.confirming:
            self._published += 1
            if accepted:
                if not self._uncertain:
                    self.session.uncertain.append(self)
                self._uncertain += 1
                self._uncertain_tag = self._published
            else:
                self.confirm()
                self.session.send(encode(self.number, commands.Basic.Nack, delivery_tag=self._published))
        if self.vhost.dead:
            self.vhost.bury()
        return accepted

    def confirm(self) -> None:
        """Acknowledge all messages that were taken since the last time, with one frame."""
        if self._uncertain:
            last, multiple = self._uncertain_tag, self._uncertain > 1
            self._uncertain = 0
            self.session.send(encode(self.number, commands.Basic.Ack, delivery_tag=last, multiple=multiple))

    def _examine(self, message: Message) -> None:
        """Act on the properties that concern the broker, in RabbitMQ's order."""
        parts = split(message.header)
        if parts.get(REPLY_TO, b"")[1:] == _PSEUDO:
            if self.reply is None:
                raise precondition_failed("fast reply consumer does not exist")
            parts[REPLY_TO] = encode_short_string(self.reply.name.encode())
            message.changed(parts)
        if (user := parts.get(USER_ID)) is not None:
            self._check_user(user[1:])
        if (expiration := parts.get(EXPIRATION)) is not None:
            message.ttl = milliseconds(expiration[1:])
        headers = headers_of(parts)
        if "CC" in headers or "BCC" in headers:
            for name in ("CC", "BCC"):
                if headers.kind(name) not in ("undefined", "array"):
                    raise precondition_failed(
                        f'invalid message: {{unacceptable_type_in_header,"{name}",{headers.kind(name)}}}'
                    )
            more = (*headers.texts("CC"), *headers.texts("BCC"))
            message.keys = tuple(dict.fromkeys((message.routing_key, *more)))
            if headers.fields.pop("BCC", None) is not None:
                parts[HEADERS] = headers.encode()
                message.changed(parts)
        mode = parts.get(DELIVERY_MODE, b"\x01")[0]
        if not 0 < mode < 3:
            raise precondition_failed(f"invalid message: {{delivery_mode_unknown,{mode}}}")

    def _check_user(self, raw: bytes) -> None:
        user, claimed = self.session.user, raw.decode(errors="surrogateescape")
        if claimed != user.name and "impersonator" not in user.tags:
            raise precondition_failed(f"user_id property set to '{claimed}' but authenticated user was '{user.name}'")

    def give_back(self, message: Message) -> None:
        """Return a mandatory message that no queue takes."""
        method = b"\x00\x3c\x00\x32" + (312).to_bytes(2, "big") + b"\x08NO_ROUTE" + message.address
        self._send(method, message)

    # Deliveries.

    def deliver(self, consumer: Consumer | DirectReply, entry: Entry) -> None:
        """Send a message to a consumer of this channel."""
        message = entry.message
        header, body, address, number = message.header, message.body, message.address, self.number
        self._tag = tag = self._tag + 1
        if type(consumer) is Consumer:
            if not consumer.no_ack:
                self.unacked[tag] = (entry, consumer.queue, consumer)
                consumer.unacked += 1
                self.consumed_unacked += 1
            if entry.deliveries:
                message = counted(entry)
                header = message.header
        else:
            self._tag -= 1  # as in RabbitMQ, the number of a direct reply is not used up
        prefix = consumer.prefix
        if not 0 < len(body) <= self.session.body_max:
            self._send(b"".join((prefix, _TAG.pack(tag, entry.redelivered), address)), message)
            return
        self.session.send(
            b"".join(
                (
                    _HEAD.pack(METHOD, number, len(prefix) + 9 + len(address)),
                    prefix,
                    _TAG.pack(tag, entry.redelivered),
                    address,
                    _NEXT.pack(0xCE, HEADER, number, len(header)),
                    header,
                    _NEXT.pack(0xCE, BODY, number, len(body)),
                    body,
                    _END,
                )
            )
        )

    def _send(self, method: bytes, message: Message) -> None:
        """Send a method with its content, the body in as many frames as it takes and never copied as a whole."""
        number, header, body, most = self.number, message.header, message.body, self.session.body_max
        start = (
            _HEAD.pack(METHOD, number, len(method)),
            method,
            _NEXT.pack(0xCE, HEADER, number, len(header)),
            header,
            _END,
        )
        self.session.send(b"".join(start))
        for at in range(0, len(body), most):
            piece = body[at : at + most]
            self.session.send(b"".join((_HEAD.pack(BODY, number, len(piece)), piece, _END)))

    def got(self, entry: Entry, queue: Queue, *, no_ack: bool) -> None:
        """Answer a basic.get with a message."""
        message = counted(entry) if queue.quorum else entry.message
        self._tag = tag = self._tag + 1
        if no_ack:
            self.vhost.memory.free(message.share)
        else:
            queue.unacked += 1
            self.unacked[tag] = (entry, queue, None)
        waiting = len(queue.ready).to_bytes(4, "big")
        method = b"".join((b"\x00\x3c\x00\x47", _TAG.pack(tag, entry.redelivered), message.address, waiting))
        self._send(method, message)

    # Settling.

    def ack(self, tag: int, multiple: bool) -> None:
        """The client is done with a delivery, or with all up to it."""
        if self.transaction is None and not multiple:
            held = self.unacked.pop(tag, None)
            if held is None:
                raise precondition_failed(f"unknown delivery tag {tag}")
            entry, queue, consumer = held
            queue.settled(entry)
            if consumer is not None:
                consumer.unacked -= 1
                self.consumed_unacked -= 1
                if consumer.parked or self.prefetch_shared:
                    self._unpark((consumer,))
                    if self.vhost.dead:
                        self.vhost.bury()
            return
        self._settle(self.take(tag, multiple), self.acknowledge)

    def reject(self, tag: int, multiple: bool, requeue: bool) -> None:
        """The client refuses a delivery or all up to it, for good or to be tried again."""
        self._settle(self.take(tag, multiple), self.requeue if requeue else self.discard)

    def _settle(self, held: dict[int, Held], how: Callable[[list[Held]], None]) -> None:
        if self.transaction is not None:
            self.transaction.settle(held, how)
        else:
            self.settle(list(held.values()), how)

    def settle(self, held: list[Held], how: Callable[[list[Held]], None]) -> None:
        """Settle deliveries, in RabbitMQ's order: by queue and consumer."""
        if len(held) > 1:
            groups: dict[tuple[str, str], list[Held]] = {}
            for one in held:
                groups.setdefault((one[1].name, one[2].tag if one[2] is not None else ""), []).append(one)
            for key in sorted(groups):
                how(groups[key])
        else:
            how(held)

    def take(self, tag: int, multiple: bool) -> dict[int, Held]:
        """Take deliveries out of those that are unacknowledged; precondition_failed if the tag is not."""
        unacked = self.unacked
        if multiple and tag == 0:
            tag = self._tag
        elif tag not in unacked:
            raise precondition_failed(f"unknown delivery tag {tag}")
        if not multiple:
            return {tag: unacked.pop(tag)}
        taken = {one: unacked.pop(one) for one in range(self._lowest, tag + 1) if one in unacked}
        self._lowest = tag + 1  # each tag is looked at once, however many lie between two acknowledgements
        return taken

    def restore(self, held: dict[int, Held]) -> None:
        """Put deliveries back among those that are unacknowledged: a transaction was rolled back."""
        self.unacked = dict(sorted((self.unacked | held).items()))
        self._lowest = 1

    def acknowledge(self, held: list[Held]) -> None:
        """Let go of deliveries that are done."""
        for entry, queue, _ in held:
            queue.settled(entry)
        self._unpark(self._uncount(held))
        self.vhost.bury()

    def discard(self, held: list[Held]) -> None:
        """Let go of deliveries that were refused for good."""
        for entry, queue, _ in held:
            queue.rejected(entry)
        self._unpark(self._uncount(held))
        self.vhost.bury()

    def requeue(self, held: list[Held]) -> None:
        """Put deliveries back into their queues."""
        queues = self._put_back(held)
        self._unpark(self._uncount(held), queues)
        self.vhost.bury()

    def _put_back(self, held: Iterable[Held]) -> Iterable[Queue]:
        queues: dict[Queue, list[Entry]] = {}
        for entry, queue, _ in held:
            queues.setdefault(queue, []).append(entry)
        for queue, entries in queues.items():
            queue.put_back(entries)
        return queues

    def _uncount(self, held: list[Held]) -> Iterable[Consumer]:
        """Give consumers the credit back that deliveries had taken; return them."""
        consumers: dict[Consumer, None] = {}
        for _, _, consumer in held:
            if consumer is not None:
                consumer.unacked -= 1
                self.consumed_unacked -= 1
                consumers[consumer] = None
        return consumers

    def _unpark(self, consumers: Iterable[Consumer], queues: Iterable[Queue] = ()) -> None:
        """Let consumers have messages again that can take some, and with them those that share their prefetch."""
        waiting: dict[Queue, list[Consumer]] = {queue: [] for queue in queues}
        if self.prefetch_shared:
            consumers = self.consumers.values()
        for consumer in sorted(consumers, key=_when_parked):
            if consumer.parked:
                waiting.setdefault(consumer.queue, []).append(consumer)
        for queue, parked in waiting.items():  # whom those before leave nothing keeps its place
            for consumer in parked:
                if consumer.can_take():
                    queue.consumers.unpark(consumer)
            queue.pump()

    def resume(self) -> None:
        """The socket takes more again, or a prefetch was raised: so do the consumers."""
        if self.reply is not None:
            self.reply.resume()
        self._unpark(self.consumers.values())
        self.vhost.bury()

    # The end.

    def add_consumer(self, consumer: Consumer) -> None:
        """One more, of a tag that is not in use; a 406 if there is no room for it."""
        weight, name = consumer.arguments.weight, self.vhost.queue_text(consumer.queue.name)
        self.vhost.counter.check("consumers", weight, f"consume from {name}")
        self.vhost.counter.add("consumers", weight)
        self.consumers[consumer.tag] = consumer

    def drop_consumer(self, tag: str) -> Consumer | None:
        """The one of that tag, which is none any more."""
        consumer = self.consumers.pop(tag, None)
        if consumer is not None:
            self.vhost.counter.remove("consumers", consumer.arguments.weight)
        return consumer

    def cancelled(self, consumer: Consumer) -> None:
        """The queue of a consumer is gone: tell the client, if it wants to know."""
        self.drop_consumer(consumer.tag)
        if self.session.wants("consumer_cancel_notify"):
            self.session.send(encode(self.number, commands.Basic.Cancel, consumer_tag=consumer.tag, nowait=True))

    def close(self) -> None:
        """Give everything back, as the channel or its connection is closed."""
        self.closed = True  # what is given back is not for other consumers of this channel
        if self.reply is not None:
            self.forget_reply()
        if self.transaction is not None:
            self.restore(self.roll_back())
        self.vhost.memory.unfinished -= len(self._part)
        held, self.unacked = self.unacked, {}
        queues = self._put_back(held.values())  # first of all, so that whoever comes next finds it
        consumers, self.consumers = list(self.consumers.values()), {}
        for consumer in consumers:
            self.vhost.counter.remove("consumers", consumer.arguments.weight)
            consumer.queue.remove_consumer(consumer)
        for queue in queues:
            queue.pump()
        self.vhost.bury()

    def roll_back(self) -> dict[int, Held]:
        """Forget what the transaction holds; return the deliveries that it had settled."""
        assert self.transaction is not None
        messages, settled = self.transaction.take()
        for message, _, _ in messages:
            self.vhost.memory.free(message.share)
        return {tag: one for held, _ in settled for tag, one in held.items()}

    def forget_reply(self) -> None:
        """Take no more direct replies."""
        assert self.reply is not None
        self.reply.close()
        self.session.broker.replies.pop(self.reply.name, None)
        self.vhost.counter.topology += 1
        self.reply = None
