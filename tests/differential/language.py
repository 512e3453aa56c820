"""What a client may do, as values: the one language in which both brokers are spoken to.

An operation that has the name and the arguments of a method is that method. Connections and channels are named by
small numbers, and are opened when they are first used, or used again after an error closed them, so that a scenario
says only what it is about. Names that the broker invents are written as the placeholders of the transcript:
`<queue 1>` is the first server-named queue that it showed, `<tag 1>` a consumer tag, `<reply 1>` a reply address.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar

Arguments = Mapping[str, Any]
LONGEST_VALUE = 80
"""Characters of a text or of bytes that are printed."""


@dataclass(frozen=True, slots=True, order=True)
class At:
    """A channel of a connection; channel 0 is the connection itself."""

    connection: int = 1
    channel: int = 1

    def __repr__(self) -> str:
        return f"{self.connection}.{self.channel}"


A1, A2, A3 = At(1, 1), At(1, 2), At(1, 3)
B1, B2, C1 = At(2, 1), At(2, 2), At(3, 1)
A0, B0, C0 = At(1, 0), At(2, 0), At(3, 0)


def _short(value: object) -> str:
    shown = repr(value)
    if isinstance(value, str | bytes) and len(shown) > LONGEST_VALUE:
        return f"{shown[:LONGEST_VALUE]}... ({len(value)})"
    return shown


class Operation:
    """Anything that a client does; prints only what differs from the defaults."""

    __slots__ = ()

    def __repr__(self) -> str:
        shown = [
            f"{known.name}={_short(value)}"
            for known in fields(self)  # type: ignore[arg-type]  # all subclasses are dataclasses
            if known.name != "at" and (value := getattr(self, known.name)) not in (known.default, {}, ())
        ]
        return f"{type(self).__name__}({', '.join(shown)})"


@dataclass(frozen=True, repr=False, kw_only=True)
class OnChannel(Operation):
    at: At = A1


@dataclass(frozen=True, repr=False)
class Call(OnChannel):
    """An operation that is one method; its fields are the method's arguments, by pamqp's names."""

    method: ClassVar[str]


@dataclass(frozen=True, repr=False)
class OpenConnection(Operation):
    """Connect, shake hands, and show all that the broker says about itself."""

    connection: int = 1
    user: str = "guest"
    password: str = "guest"
    vhost: str = "/"
    mechanism: str = "PLAIN"
    response: str | None = None
    """Instead of what user and password make."""
    capabilities: tuple[str, ...] | None = None
    """Of the client; None: all that there are."""
    channel_max: int | None = None
    """None, here and below: what the broker proposes."""
    frame_max: int | None = None
    heartbeat: int = 0


@dataclass(frozen=True, repr=False)
class OpenChannel(Call):
    method = "channel.open"
    out_of_band: str = ""


@dataclass(frozen=True, repr=False)
class CloseChannel(Call):
    method = "channel.close"
    reply_code: int = 200
    reply_text: str = ""
    class_id: int = 0
    method_id: int = 0


@dataclass(frozen=True, repr=False)
class CloseConnection(Call):
    method = "connection.close"
    reply_code: int = 200
    reply_text: str = ""
    class_id: int = 0
    method_id: int = 0
    at: At = field(default=A0, kw_only=True)


@dataclass(frozen=True, repr=False)
class Drop(Operation):
    """End the TCP connection without a word."""

    connection: int = 1


@dataclass(frozen=True, repr=False)
class UpdateSecret(Call):
    method = "connection.update-secret"
    new_secret: str = "guest"
    reason: str = ""
    at: At = field(default=A0, kw_only=True)


@dataclass(frozen=True, repr=False)
class Flow(Call):
    method = "channel.flow"
    active: bool = True


@dataclass(frozen=True, repr=False)
class ConfirmSelect(Call):
    method = "confirm.select"
    nowait: bool = False


@dataclass(frozen=True, repr=False)
class TxSelect(Call):
    method = "tx.select"


@dataclass(frozen=True, repr=False)
class TxCommit(Call):
    method = "tx.commit"


@dataclass(frozen=True, repr=False)
class TxRollback(Call):
    method = "tx.rollback"


@dataclass(frozen=True, repr=False)
class DeclareExchange(Call):
    method = "exchange.declare"
    exchange: str
    exchange_type: str = "direct"
    passive: bool = False
    durable: bool = False
    auto_delete: bool = False
    internal: bool = False
    nowait: bool = False
    arguments: Arguments = field(default_factory=dict)
    ticket: int = 0


@dataclass(frozen=True, repr=False)
class DeleteExchange(Call):
    method = "exchange.delete"
    exchange: str
    if_unused: bool = False
    nowait: bool = False
    ticket: int = 0


@dataclass(frozen=True, repr=False)
class BindExchange(Call):
    method = "exchange.bind"
    destination: str
    source: str
    routing_key: str = ""
    arguments: Arguments = field(default_factory=dict)
    nowait: bool = False
    ticket: int = 0


@dataclass(frozen=True, repr=False)
class UnbindExchange(Call):
    method = "exchange.unbind"
    destination: str
    source: str
    routing_key: str = ""
    arguments: Arguments = field(default_factory=dict)
    nowait: bool = False
    ticket: int = 0


@dataclass(frozen=True, repr=False)
class DeclareQueue(Call):
    method = "queue.declare"
    queue: str = ""
    passive: bool = False
    durable: bool = False
    exclusive: bool = False
    auto_delete: bool = False
    nowait: bool = False
    arguments: Arguments = field(default_factory=dict)
    ticket: int = 0


@dataclass(frozen=True, repr=False)
class DeleteQueue(Call):
    method = "queue.delete"
    queue: str = ""
    if_unused: bool = False
    if_empty: bool = False
    nowait: bool = False
    ticket: int = 0


@dataclass(frozen=True, repr=False)
class BindQueue(Call):
    method = "queue.bind"
    queue: str
    exchange: str
    routing_key: str = ""
    arguments: Arguments = field(default_factory=dict)
    nowait: bool = False
    ticket: int = 0


@dataclass(frozen=True, repr=False)
class UnbindQueue(Call):
    method = "queue.unbind"
    queue: str
    exchange: str
    routing_key: str = ""
    arguments: Arguments = field(default_factory=dict)
    ticket: int = 0


@dataclass(frozen=True, repr=False)
class PurgeQueue(Call):
    method = "queue.purge"
    queue: str = ""
    nowait: bool = False
    ticket: int = 0


@dataclass(frozen=True, repr=False)
class Publish(Call):
    method = "basic.publish"
    exchange: str
    routing_key: str
    body: str | bytes = ""
    mandatory: bool = False
    immediate: bool = False
    properties: Arguments = field(default_factory=dict)
    """By pamqp's names, `message_type` among them."""
    ticket: int = 0


@dataclass(frozen=True, repr=False)
class Qos(Call):
    method = "basic.qos"
    prefetch_count: int = 0
    global_: bool = False
    prefetch_size: int = 0


@dataclass(frozen=True, repr=False)
class Consume(Call):
    method = "basic.consume"
    queue: str = ""
    consumer_tag: str = ""
    no_local: bool = False
    no_ack: bool = False
    exclusive: bool = False
    nowait: bool = False
    arguments: Arguments = field(default_factory=dict)
    ticket: int = 0


@dataclass(frozen=True, repr=False)
class Cancel(Call):
    method = "basic.cancel"
    consumer_tag: str
    nowait: bool = False


@dataclass(frozen=True, repr=False)
class Get(Call):
    method = "basic.get"
    queue: str = ""
    no_ack: bool = False
    ticket: int = 0


@dataclass(frozen=True, repr=False)
class Ack(Call):
    """Here and below, tag -1 is the oldest delivery not settled yet, and so on; without one, nothing is sent."""

    method = "basic.ack"
    delivery_tag: int = 1
    multiple: bool = False


@dataclass(frozen=True, repr=False)
class Nack(Call):
    method = "basic.nack"
    delivery_tag: int = 1
    multiple: bool = False
    requeue: bool = True


@dataclass(frozen=True, repr=False)
class Reject(Call):
    method = "basic.reject"
    delivery_tag: int = 1
    requeue: bool = True


@dataclass(frozen=True, repr=False)
class Recover(Call):
    method = "basic.recover"
    requeue: bool = True


@dataclass(frozen=True, repr=False)
class RecoverAsync(Call):
    method = "basic.recover-async"
    requeue: bool = True


@dataclass(frozen=True, repr=False)
class SendMethod(OnChannel):
    """Send any method, on a channel that is opened for it only when `opens` says so."""

    name: str
    arguments: Arguments = field(default_factory=dict)
    opens: bool = True


@dataclass(frozen=True, repr=False)
class SendFrame(OnChannel):
    """Send any frame, and wait for the broker's protest when `answered` says that there will be one."""

    kind: int
    payload: bytes
    end: int = 0xCE
    opens: bool = True
    answered: bool = True


@dataclass(frozen=True, repr=False)
class SendBytes(Operation):
    """Send bytes on a connection that is open, or on one of which only TCP is there, and wait for the protest."""

    data: bytes
    connection: int = 1
    greeted: bool = True
    """Whether there was a handshake."""
    answered: bool = True


@dataclass(frozen=True, repr=False)
class Wait(Operation):
    """Let time pass."""

    milliseconds: int


@dataclass(frozen=True, repr=False)
class Alarm(Operation):
    """Let the broker run out of memory, or have enough again."""

    on: bool


@dataclass(frozen=True, repr=False)
class Together(Operation):
    """Do several things without waiting for what each of them brings about."""

    operations: tuple[Operation, ...]
