"""An AMQP client without a network, written with pamqp: bytes go into a session, and come out of it."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, TypeVar

from pamqp import base, body, commands, frame, header, heartbeat

from amqproxy.broker import Broker, Limits
from amqproxy.broker.session import Session

PROTOCOL_HEADER = b"AMQP\x00\x00\x09\x01"
METHOD, HEADER, BODY, HEARTBEAT = 1, 2, 3, 8
ALL_CAPABILITIES = {
    "authentication_failure_close": True,
    "basic.nack": True,
    "connection.blocked": True,
    "consumer_cancel_notify": True,
    "exchange_exchange_bindings": True,
    "publisher_confirms": True,
}

Frame = base.Frame | header.ContentHeader | body.ContentBody | heartbeat.Heartbeat
Command = TypeVar("Command", bound=base.Frame)


class Clock:
    """Time that passes when a test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Wire:
    """The socket of a session: keeps what was written, and what is not read yet."""

    written: bytearray = field(default_factory=bytearray)
    writes: list[int] = field(default_factory=list)
    """The size of each write."""
    unread: list[bytes] = field(default_factory=list)
    closed: bool = False
    reading: bool = True

    def write(self, data: bytes) -> None:
        assert not self.closed, f"written to a closed socket: {data!r}"
        self.written += data
        self.writes.append(len(data))

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.closed = True

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True


@dataclass(frozen=True)
class Content:
    """A method that carries a message: what was delivered, got or returned."""

    method: base.Frame
    properties: commands.Basic.Properties
    body: bytes

    @property
    def tag(self) -> int:
        tag: int = self.method.delivery_tag  # type: ignore[attr-defined]  # basic.return has none
        return tag

    @property
    def redelivered(self) -> bool:
        redelivered: bool = self.method.redelivered  # type: ignore[attr-defined]  # basic.return has none
        return redelivered

    @property
    def headers(self) -> dict[str, Any]:
        return dict(self.properties.headers or {})


class Client:
    """One connection to a broker; `opened` by default as guest, to the virtual host /."""

    def __init__(
        self,
        broker: Broker,
        *,
        user: str = "guest",
        password: str = "guest",
        vhost: str = "/",
        heartbeat: int = 0,
        frame_max: int = 131072,
        capabilities: dict[str, Any] | None = None,
        opened: bool = True,
    ) -> None:
        self.broker = broker
        self.wire = Wire()
        self.session: Session = broker.connection(self.wire, "test")
        self._partial: dict[int, tuple[base.Frame, commands.Basic.Properties, int, bytes]] = {}
        self._inbox: list[tuple[int, Frame | Content]] = []
        if opened:
            self.feed(PROTOCOL_HEADER)
            self.send(0, start_ok(user, password, capabilities))
            self.send(0, commands.Connection.TuneOk(channel_max=2047, frame_max=frame_max, heartbeat=heartbeat))
            self.send(0, commands.Connection.Open(virtual_host=vhost))
            names = [type(one) for _, one in self.take()]
            assert names == [commands.Connection.Start, commands.Connection.Tune, commands.Connection.OpenOk], names

    # What goes in.

    def feed(self, data: bytes) -> None:
        """Send bytes, which wait while the session does not read."""
        self.wire.unread.append(data)
        self.go_on()

    def go_on(self) -> None:
        """Let the session have what waits, if it reads again."""
        while self.wire.unread and self.wire.reading:
            self.session.receive(self.wire.unread.pop(0))

    def send(self, channel: int, *frames: Frame) -> None:
        self.feed(b"".join(frame.marshal(one, channel) for one in frames))

    def channel(self, number: int = 1) -> Talk:
        """Open a channel."""
        talk = Talk(self, number)
        talk.ask(commands.Channel.Open(), commands.Channel.OpenOk)
        return talk

    def close(self) -> None:
        """Close the connection, as the protocol wants it."""
        self.send(0, commands.Connection.Close(200, "bye", 0, 0))
        assert isinstance(self.take()[-1][1], commands.Connection.CloseOk)
        self.hang_up()

    def hang_up(self) -> None:
        """Close the socket."""
        self.session.lost()

    # What comes out.

    def take(self, channel: int | None = None) -> list[tuple[int, Frame | Content]]:
        """All that came and was not taken yet, for all channels or one, with the channel; messages put together."""
        self.go_on()
        for number, one in self.frames():
            whole = self._join(number, one)
            if whole is not None:
                self._inbox.append((number, whole))
        taken = [one for one in self._inbox if channel in (None, one[0])]
        self._inbox = [one for one in self._inbox if channel not in (None, one[0])]
        return taken

    def put_back(self, frames: list[tuple[int, Frame | Content]]) -> None:
        """Let frames be taken again, before all others."""
        self._inbox = frames + self._inbox

    def frames(self) -> Iterator[tuple[int, Frame]]:
        """All frames that came since the last time."""
        data = bytes(self.wire.written)
        self.wire.written.clear()
        if data.startswith(PROTOCOL_HEADER):
            data = data[len(PROTOCOL_HEADER) :]
        at = 0
        while at < len(data):
            end = at + 8 + int.from_bytes(data[at + 3 : at + 7], "big")
            assert end <= len(data), f"what the broker wrote ends in the middle of a frame: {data[at:]!r}"
            size, channel, one = frame.unmarshal(data[at:end])
            assert size == end - at
            assert not isinstance(one, header.ProtocolHeader)
            at = end
            yield channel, one

    def _join(self, channel: int, one: Frame) -> Frame | Content | None:
        if isinstance(one, (commands.Basic.Deliver, commands.Basic.GetOk, commands.Basic.Return)):
            assert channel not in self._partial
            self._partial[channel] = one, commands.Basic.Properties(), -1, b""
            return None
        if channel not in self._partial:
            return one
        method, properties, size, so_far = self._partial.pop(channel)
        if isinstance(one, header.ContentHeader):
            assert size == -1
            properties, size = one.properties, one.body_size
        else:
            assert isinstance(one, body.ContentBody) and size > 0, f"{one} comes between the frames of a message"
            so_far += one.value
        assert len(so_far) <= size
        if len(so_far) == size:
            return Content(method, properties, so_far)
        self._partial[channel] = method, properties, size, so_far
        return None


class Talk:
    """One channel of a client."""

    def __init__(self, client: Client, number: int) -> None:
        self.client = client
        self.number = number

    def send(self, *frames: Frame) -> None:
        self.client.send(self.number, *frames)

    def take(self) -> list[Frame | Content]:
        return [one for _, one in self.client.take(self.number)]

    def ask(self, question: base.Frame, answer: type[Command]) -> Command:
        """Send a method, and take its answer; nothing else may come to this channel, nor wait to be taken."""
        self.send(question)
        found = self.take()
        assert len(found) == 1 and isinstance(found[0], answer), (question, found)
        return found[0]

    def fail(self, *frames: Frame) -> tuple[int, str]:
        """Send what is wrong; code and text of the channel.close that answers it, behind which all is as before."""
        self.send(*frames)
        found = self.take()
        close = found[-1]
        assert isinstance(close, commands.Channel.Close), found
        self.send(commands.Channel.CloseOk())
        self.ask(commands.Channel.Open(), commands.Channel.OpenOk)
        return code_and_text(close)

    def fail_hard(self, *frames: Frame) -> tuple[int, str]:
        """Send what is wrong; code and text of the connection.close that answers it."""
        self.send(*frames)
        number, close = self.client.take()[-1]
        assert number == 0 and isinstance(close, commands.Connection.Close), close
        self.client.send(0, commands.Connection.CloseOk())
        self.client.hang_up()
        return code_and_text(close)

    # Short for what most tests need.

    def declare(self, name: str, arguments: dict[str, Any] | None = None, **flags: bool) -> commands.Queue.DeclareOk:
        return self.ask(commands.Queue.Declare(queue=name, arguments=arguments, **flags), commands.Queue.DeclareOk)

    def count(self, name: str) -> tuple[int, int]:
        """Ready messages and consumers of a queue."""
        answer = self.declare(name, passive=True)
        assert answer.message_count is not None and answer.consumer_count is not None
        return answer.message_count, answer.consumer_count

    def exchange(self, name: str, kind: str, arguments: dict[str, Any] | None = None, **flags: bool) -> None:
        self.ask(
            commands.Exchange.Declare(exchange=name, exchange_type=kind, arguments=arguments, **flags),
            commands.Exchange.DeclareOk,
        )

    def bind(self, queue: str, exchange: str, key: str = "", arguments: dict[str, Any] | None = None) -> None:
        self.ask(
            commands.Queue.Bind(queue=queue, exchange=exchange, routing_key=key, arguments=arguments),
            commands.Queue.BindOk,
        )

    def chain(self, destination: str, source: str, key: str = "") -> None:
        """Bind an exchange to an exchange."""
        self.ask(
            commands.Exchange.Bind(destination=destination, source=source, routing_key=key), commands.Exchange.BindOk
        )

    def publish(
        self, key: str, body: bytes = b"", *, exchange: str = "", mandatory: bool = False, **properties: Any
    ) -> None:
        self.send(*message(key, body, exchange=exchange, mandatory=mandatory, **properties))

    def consume(self, queue: str, tag: str = "", **options: Any) -> str:
        """Start a consumer; what it is given at once is left to be taken."""
        self.send(commands.Basic.Consume(queue=queue, consumer_tag=tag, **options))
        (_, answer), *rest = self.client.take(self.number)
        assert isinstance(answer, commands.Basic.ConsumeOk), answer
        self.client.put_back(rest)
        return str(answer.consumer_tag)

    def deliveries(self) -> list[Content]:
        """What came, which is to be nothing but messages."""
        found = self.take()
        assert all(isinstance(one, Content) for one in found), found
        return [one for one in found if isinstance(one, Content)]

    def bodies(self) -> list[bytes]:
        return [one.body for one in self.deliveries()]

    def get(self, queue: str, *, no_ack: bool = True) -> Content | None:
        self.send(commands.Basic.Get(queue=queue, no_ack=no_ack))
        found = self.take()
        assert len(found) == 1, found
        if isinstance(found[0], commands.Basic.GetEmpty):
            return None
        assert isinstance(found[0], Content), found
        return found[0]

    def drain(self, queue: str) -> list[bytes]:
        """The bodies of all that waits in a queue."""
        return [one.body for one in iter(lambda: self.get(queue), None)]

    def ack(self, tag: int, *, multiple: bool = False) -> None:
        self.send(commands.Basic.Ack(delivery_tag=tag, multiple=multiple))

    def nack(self, tag: int, *, multiple: bool = False, requeue: bool = True) -> None:
        self.send(commands.Basic.Nack(delivery_tag=tag, multiple=multiple, requeue=requeue))

    def qos(self, count: int, *, shared: bool = False) -> None:
        self.ask(commands.Basic.Qos(prefetch_count=count, global_=shared), commands.Basic.QosOk)


def code_and_text(close: commands.Channel.Close | commands.Connection.Close) -> tuple[int, str]:
    """Why something is closed."""
    assert close.reply_code is not None
    return close.reply_code, close.reply_text


# Bytes.


def raw(kind: int, channel: int, payload: bytes, end: bytes = b"\xce") -> bytes:
    """A frame with any payload."""
    return struct.pack(">BHI", kind, channel, len(payload)) + payload + end


def method(channel: int, command: type[base.Frame], arguments: bytes) -> bytes:
    """The frame of a method with any arguments."""
    return raw(METHOD, channel, command.index.to_bytes(4, "big") + arguments)


def short(text: bytes) -> bytes:
    """A short string."""
    return bytes((len(text),)) + text


def table(fields: bytes) -> bytes:
    """A table with any fields."""
    return len(fields).to_bytes(4, "big") + fields


def field_of(kind: bytes, value: bytes) -> bytes:
    """A field of a type that has a length."""
    return kind + len(value).to_bytes(4, "big") + value


def nested(depth: int) -> bytes:
    """The fields of a table in a table in a table."""
    fields = short(b"x") + b"t\x01"
    for _ in range(depth):
        fields = short(b"x") + field_of(b"F", fields)
    return fields


def content_header(channel: int, size: int, flags: int = 0, properties: bytes = b"", *, class_id: int = 60) -> bytes:
    """A content header frame with any properties."""
    return raw(HEADER, channel, struct.pack(">HHQH", class_id, 0, size, flags) + properties)


def start_ok(
    user: str = "guest",
    password: str = "guest",
    capabilities: dict[str, Any] | None = None,
) -> commands.Connection.StartOk:
    """How a client introduces itself."""
    properties: dict[str, Any] = {"capabilities": ALL_CAPABILITIES if capabilities is None else capabilities}
    return commands.Connection.StartOk(properties, "PLAIN", f"\0{user}\0{password}", "en_US")


def handshake(*, frame_max: int = 131072, heartbeat: int = 0, channel_max: int = 2047) -> bytes:
    """All that a client says until its connection is open."""
    tune = commands.Connection.TuneOk(channel_max=channel_max, frame_max=frame_max, heartbeat=heartbeat)
    methods = start_ok(), tune, commands.Connection.Open(virtual_host="/")
    return PROTOCOL_HEADER + b"".join(frame.marshal(one, 0) for one in methods)


def message(
    key: str,
    content: bytes = b"",
    *,
    exchange: str = "",
    mandatory: bool = False,
    piece: int = 131064,
    **properties: Any,
) -> list[Frame]:
    """The frames of a message, its body in pieces of at most `piece` bytes."""
    bodies = [body.ContentBody(content[at : at + piece]) for at in range(0, len(content), piece)]
    return [
        commands.Basic.Publish(exchange=exchange, routing_key=key, mandatory=mandatory),
        header.ContentHeader(body_size=len(content), properties=commands.Basic.Properties(**properties)),
        *bodies,
    ]


def marshal(channel: int, *frames: Frame) -> bytes:
    """The bytes of frames."""
    return b"".join(frame.marshal(one, channel) for one in frames)


def broker(clock: Clock | None = None, **limits: Any) -> Broker:
    """A broker whose clock stands still."""
    return Broker(Limits(**limits), clock=clock or Clock())
