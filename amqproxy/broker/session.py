"""One connection: bytes in, bytes out, and what AMQP 0-9-1 says between them (its sections 2.2 and 4.2).

A session does no I/O and knows no clock but the broker's; a `Socket` writes what it says.
"""

from __future__ import annotations

import logging
import struct
from enum import Enum
from typing import TYPE_CHECKING, Protocol

from pamqp import base, commands

from ..fields import Malformed, encode_table
from ..frames import BODY, FRAME_OVERHEAD, HEADER, HEARTBEAT, HEARTBEAT_FRAME, METHOD
from .access import User
from .channel import Channel
from .consumers import Consumer
from .errors import (
    ProtocolError,
    channel_error,
    command_invalid,
    erlang_binary,
    erlang_pair,
    frame_error,
    not_allowed,
    refused,
    unexpected_frame,
)
from .handshake import MECHANISMS, check_tuned, credentials, server_properties
from .limits import FRAME_MIN, INITIAL_FRAME_MAX
from .message import FIXED
from .methods import Undecodable, decode, encode
from .operations import perform
from .queue import Queue
from .tables import Table

if TYPE_CHECKING:
    from .broker import Broker
    from .vhost import VirtualHost

log = logging.getLogger("amqproxy.broker")

PROTOCOL_HEADER = b"AMQP\x00\x00\x09\x01"
PROTOCOL_HEADER_0_9 = b"AMQP\x01\x01\x00\x09"
"""Of AMQP 0-9, which old clients begin with; RabbitMQ takes it for 0-9-1."""
DEAF_SECONDS = 1.0
"""From an error after which nothing can be understood any more to the end of the connection."""
OWED_BYTES = 4 * 1024 * 1024
"""Answers that may wait behind a full socket before its client is listened to no more."""
JOIN_BYTES = 8192
"""What gathers for a client in one turn is written when it is so much, and the rest at the end of the turn."""

_FRAME = struct.Struct(">BHI")
_ACK = struct.Struct(">QB")
_IS_PUBLISH, _IS_ACK = b"\x00\x3c\x00\x28", b"\x00\x3c\x00\x50"
_ACCESS_REQUEST, _ACCESS_OK = b"\x00\x1e\x00\x0a", b"\x00\x1e\x00\x0b\x00\x01"


class Socket(Protocol):
    """What a session wants of the one who holds its connection."""

    def write(self, data: bytes) -> None:
        """Send bytes, in the order of the calls."""

    def close(self) -> None:
        """Close the connection once all is sent."""

    def pause_reading(self) -> None:
        """Bring no more bytes for a while."""

    def resume_reading(self) -> None:
        """Bring bytes again."""


class State(Enum):
    """How far a connection has come."""

    HEADER = "waiting for the protocol header"
    STARTING = "authenticating"
    TUNING = "tuning"
    OPENING = "opening"
    RUNNING = "running"
    CLOSING = "closing"
    CLOSED = "closed"


class Session:
    """The broker's side of one connection."""

    vhost: VirtualHost
    user: User

    def __init__(self, broker: Broker, socket: Socket, peer: str = "") -> None:
        self.broker = broker
        self.peer = peer
        """Where the client is, for people."""
        self.state = State.HEADER
        self.channels: dict[int, Channel] = {}
        self.exclusive: dict[Queue, None] = {}
        """Queues that only this connection may use, and that go with it."""
        self.uncertain: list[Channel] = []
        """Channels with messages to confirm."""
        self.writable = True
        self.client: Table = Table()
        """The client's properties."""
        self._capabilities: frozenset[str] = frozenset()
        self.frame_max = INITIAL_FRAME_MAX
        self.body_max = INITIAL_FRAME_MAX - FRAME_OVERHEAD
        self.channel_max = 0
        self._socket = socket
        self._closing: set[int] = set()
        self._rest: list[bytes] = []
        self._gathered = 0
        self._needed = 8
        self._output: list[bytes] = []
        self._output_size = 0
        self._blocked = False
        self._owed = 0
        self._listening = True
        self._deaf = False
        self._heard = self._said = True
        self._silent_ticks = 0
        broker.sessions.add(self)
        self._timer = broker.timers.at(broker.clock() + broker.limits.handshake_seconds, self._too_slow)

    # Output.

    def send(self, data: bytes) -> None:
        """Write with what else is written in this turn."""
        output = self._output
        if not output:
            self.broker.unflushed.append(self)
        output.append(data)
        self._output_size += len(data)
        if self._output_size >= JOIN_BYTES:
            self.flush()

    def flush(self) -> None:
        """Write what has gathered."""
        output = self._output
        if output:
            data = output[0] if len(output) == 1 else b"".join(output)
            output.clear()
            self._output_size = 0
            self._said = True
            self._socket.write(data)
            if not self.writable and self._listening:
                self._owed += len(data)
                if self._owed > OWED_BYTES:
                    self._throttle()

    def pause(self) -> None:
        """The socket is full: nothing is delivered until it is not, while the client is still heard (`OWED_BYTES`)."""
        self.writable = False

    def resume(self) -> None:
        """The socket takes more."""
        self.writable = True
        self._owed = 0
        self._throttle()
        self._deliver_again()
        self.broker.flush()

    def _deliver_again(self) -> None:
        """Let consumers go on, who waited longest first; once the socket is full again, the others keep their place."""
        parked: list[Consumer] = []
        for channel in list(self.channels.values()):
            if channel.reply is not None:
                channel.reply.resume()
            parked += (one for one in channel.consumers.values() if one.parked)
        queues: dict[Queue, list[Consumer]] = {}
        for consumer in sorted(parked, key=lambda one: one.parked):
            queues.setdefault(consumer.queue, []).append(consumer)
        for queue, consumers in queues.items():
            if not self.writable:
                break
            for consumer in consumers:
                if consumer.parked and consumer.can_take():
                    queue.consumers.unpark(consumer)
            queue.pump()
            queue.vhost.bury()

    def _throttle(self) -> None:
        self._listening = self._owed <= OWED_BYTES and not self._blocked
        if self._listening:
            self._socket.resume_reading()
            if self._gathered:
                self.receive(b"")
        else:
            self._socket.pause_reading()

    def block(self) -> None:
        """The broker is short of memory and this client publishes: listen to it no more for a while."""
        if not self._blocked and self.broker.blocked is not None:
            self._blocked = True
            if self.wants("connection.blocked"):
                self.send(encode(0, commands.Connection.Blocked, reason=self.broker.blocked))
            self._throttle()

    def unblock(self) -> None:
        """The broker has memory again."""
        if self._blocked:
            self._blocked = False
            if self.wants("connection.blocked"):
                self.send(encode(0, commands.Connection.Unblocked))
            self._throttle()

    def wants(self, capability: str) -> bool:
        """Whether the client said that it knows an extension."""
        return capability in self._capabilities

    # Input.

    def receive(self, data: bytes) -> None:
        """Take bytes as they come, and do what they say."""
        self._heard = True
        if self._deaf or self.state is State.CLOSED:
            return
        if self._rest:
            self._rest.append(data)
            self._gathered += len(data)
            if self._gathered < self._needed:
                return
            data = b"".join(self._rest)
            self._rest.clear()
        self._gathered = 0
        try:
            at = self._take_header(data) if self.state is State.HEADER else 0
            if self.state is not State.HEADER:
                at = self._take_frames(data, at)
        except ProtocolError as error:  # where the next frame begins cannot be told any more
            self.fail(error)
            self._deaf = True
            self._close_after(DEAF_SECONDS)
        except Undecodable as error:
            log.warning("connection %s: closed without a word, as RabbitMQ does: %s", self.peer, error)
            self.close()
        else:
            if at < len(data) and self in self.broker.sessions:
                self._rest.append(data[at:] if at else data)
                self._gathered = len(data) - at
        for channel in self.uncertain:
            channel.confirm()
        self.uncertain.clear()
        self.broker.flush()

    def _take_header(self, data: bytes) -> int:
        """Take the protocol header, and greet or refuse; returns where it ends, 0 while it is not complete."""
        size = len(PROTOCOL_HEADER)
        if len(data) < size and PROTOCOL_HEADER.startswith(data[:4]):
            return 0
        if data[:size] not in (PROTOCOL_HEADER, PROTOCOL_HEADER_0_9):
            log.warning("connection %s: closed: it begins with %r, which is not AMQP 0-9-1", self.peer, data[:size])
            self.send(PROTOCOL_HEADER)  # as the specification wants it: what we speak
            self.close()
            return len(data)
        self.state = State.STARTING
        self.send(
            encode(
                0,
                commands.Connection.Start,
                version_major=0,
                version_minor=9,
                server_properties=encode_table(server_properties()),
                mechanisms=MECHANISMS,
                locales="en_US",
            )
        )
        return size

    def _take_frames(self, data: bytes, at: int) -> int:
        """Take all whole frames from `at` on, and return where the rest begins."""
        size = len(data)
        channels = self.channels
        while size - at >= _FRAME.size:
            kind, number, length = _FRAME.unpack_from(data, at)
            end = at + length + FRAME_OVERHEAD
            if length > self.frame_max:
                raise self._too_large(kind, length)
            if end > size:
                self._needed = end - at
                return at
            start, last = at + 7, end - 1
            if data[last] != 0xCE:
                raise self._bad_end(kind, data[start:last], data[last])
            at = end
            channel = channels.get(number)
            try:
                if channel is None:
                    self._take_other(kind, number, data[start:last])
                    if self.state is State.CLOSED:
                        return size
                elif kind == METHOD and length >= 4:
                    method = data[start : start + 4]
                    if method == _IS_PUBLISH:
                        channel.begin(data[start + 6 : last])
                    elif method == _IS_ACK and length == 13 and not channel.expects_content:
                        tag, flags = _ACK.unpack_from(data, start + 4)
                        channel.ack(tag, bool(flags & 1))
                    else:
                        self._take_method(channel, data[start:last])
                elif kind == HEADER and length >= FIXED:
                    channel.take_header(data[start:last])
                elif kind == BODY:
                    channel.take_body(data[start:last])
                else:
                    raise self._unexpected(kind, data[start:last])
            except ProtocolError as error:
                if error.method is None:
                    error.method = data[start : start + 4] if kind == METHOD else _IS_PUBLISH
                if error.soft and channel is not None:
                    self._close_channel(channel, error)
                else:
                    self.fail(error)
            if not self._listening:
                break
        self._needed = _FRAME.size
        return at

    def _too_large(self, kind: int, length: int) -> ProtocolError:
        allowed = self.frame_max - FRAME_OVERHEAD
        return frame_error(f"type {kind}, all octets = <<>>: {{frame_too_large,{length},{allowed}}}")

    def _bad_end(self, kind: int, payload: bytes, mark: int) -> ProtocolError:
        return frame_error(erlang_pair(f"type {kind}, {_snippet(payload)}: ", "invalid_frame_end_marker", mark))

    def _unexpected(self, kind: int, payload: bytes) -> ProtocolError:
        if not _is_whole(kind, payload):
            error = frame_error(f"type {kind}, {_snippet(payload)}: unknown_frame")
        else:
            error = unexpected_frame(f"type {kind}, {_snippet(payload)}")
        error.method = b""
        return error

    def _take_method(self, channel: Channel, payload: bytes) -> None:
        if channel.expects_content:
            raise channel.interrupted()
        if payload[:4] == _ACCESS_REQUEST:
            self.send(_FRAME.pack(METHOD, channel.number, len(_ACCESS_OK)) + _ACCESS_OK + b"\xce")
            return
        method = self._decode(payload)
        if isinstance(method, commands.Channel.Close):
            self._drop_channel(channel)
            self.send(encode(channel.number, commands.Channel.CloseOk))
        elif isinstance(method, commands.Channel.CloseOk):
            raise command_invalid("unimplemented method")
        else:
            perform(channel, method)

    def _decode(self, payload: bytes) -> base.Frame:
        if len(payload) < 4:
            raise self._unexpected(METHOD, payload)
        try:
            return decode(payload)
        except Malformed as error:
            raise frame_error(f"cannot decode <<{','.join(map(str, payload[4:]))}>>") from error

    def _take_other(self, kind: int, number: int, payload: bytes) -> None:
        """Take a frame of channel 0, or of a channel that is not open."""
        if self.state is State.CLOSING or self.state is State.CLOSED:
            if number == 0 and kind == METHOD:
                self._take_connection_method(payload)
        elif number == 0:
            if kind == METHOD:
                self._take_connection_method(payload)
            elif kind != HEARTBEAT or payload:
                raise self._unexpected(kind, payload)
        elif self.state is not State.RUNNING or kind == HEARTBEAT or not _is_whole(kind, payload):
            raise self._unexpected(kind, payload)
        elif number in self._closing:
            self._take_closing(kind, number, payload)
        else:
            self._open_channel(kind, number, payload)

    # Channels.

    def _open_channel(self, kind: int, number: int, payload: bytes) -> None:
        if self.channel_max and len(self.channels) + len(self._closing) >= self.channel_max:
            count = len(self.channels) + len(self._closing)
            error = not_allowed(
                f"number of channels opened ({count}) has reached the negotiated channel_max ({self.channel_max})"
            )
            error.method = b""
            raise error
        if kind != METHOD:
            raise unexpected_frame("expected method frame, got non method frame instead")
        if not isinstance(self._decode(payload), commands.Channel.Open):
            error = channel_error("expected 'channel.open'")
            error.method = payload[:4]
            raise error
        self.channels[number] = Channel(self, number)
        self.send(encode(number, commands.Channel.OpenOk))

    def _drop_channel(self, channel: Channel) -> None:
        del self.channels[channel.number]
        if channel in self.uncertain:
            self.uncertain.remove(channel)
            channel.confirm()
        channel.close()

    def _close_channel(self, channel: Channel, error: ProtocolError) -> None:
        """End a channel for what its client did; what it still sends is passed over."""
        log.info("connection %s: channel %d closed: %d %r", self.peer, channel.number, error.code, error.text)
        self._drop_channel(channel)
        self._closing.add(channel.number)
        class_id, method_id = _class_and_method(error.method)
        self.send(
            encode(
                channel.number,
                commands.Channel.Close,
                reply_code=error.code,
                reply_text=error.text,
                class_id=class_id,
                method_id=method_id,
            )
        )

    def _take_closing(self, kind: int, number: int, payload: bytes) -> None:
        if kind == METHOD and payload[:4] == b"\x00\x14\x00\x29":
            self._closing.discard(number)
        elif kind == METHOD and payload[:4] == b"\x00\x14\x00\x28":
            self.send(encode(number, commands.Channel.CloseOk))

    # The connection itself.

    def _take_connection_method(self, payload: bytes) -> None:
        method = self._decode(payload)
        state = self.state
        if isinstance(method, commands.Connection.Close) and state is not State.HEADER:
            self._dismantle()
            self.send(encode(0, commands.Connection.CloseOk))
            self._finish()
        elif state is State.CLOSING:
            if isinstance(method, commands.Connection.CloseOk):
                self.close()
        elif isinstance(method, commands.Connection.StartOk) and state is State.STARTING:
            self._authenticate(method)
        elif isinstance(method, commands.Connection.TuneOk) and state is State.TUNING:
            self._tune(method)
        elif isinstance(method, commands.Connection.Open) and state is State.OPENING:
            self._open(method)
        elif isinstance(method, commands.Connection.UpdateSecret) and state is State.RUNNING:
            self.send(encode(0, commands.Connection.UpdateSecretOk))
        elif state is State.RUNNING:
            raise channel_error("unexpected method in connection state running")
        else:
            raise command_invalid("unexpected method")

    def _authenticate(self, method: commands.Connection.StartOk) -> None:
        client: object = method.client_properties
        assert isinstance(client, Table)
        self.client = client
        known = client.table("capabilities").fields
        self._capabilities = frozenset(name for name, value in known.items() if value == b"t\x01")
        response = bytes(method.response)  # type: ignore[arg-type]  # a long string stays bytes, see methods.py
        if method.mechanism not in MECHANISMS.split():
            raise command_invalid(f"unknown authentication mechanism '{method.mechanism}'")
        name, password = credentials(method.mechanism, response)
        user = self.broker.users.get(name)
        if user is None or not user.knows(password):
            raise refused(
                f"Login was refused using authentication mechanism {method.mechanism}. "
                "For details see the broker logfile."
            )
        self.user = user
        self.state = State.TUNING
        limits = self.broker.limits
        self.send(
            encode(
                0,
                commands.Connection.Tune,
                channel_max=limits.channel_max,
                frame_max=limits.frame_max,
                heartbeat=limits.heartbeat,
            )
        )

    def _tune(self, method: commands.Connection.TuneOk) -> None:
        limits = self.broker.limits
        check_tuned("frame_max", FRAME_MIN, limits.frame_max, method.frame_max)
        check_tuned("channel_max", 1, limits.channel_max, method.channel_max)
        self.frame_max = method.frame_max
        self.body_max = method.frame_max - FRAME_OVERHEAD
        self.channel_max = method.channel_max
        self._heartbeat = method.heartbeat
        self.state = State.OPENING

    def _open(self, method: commands.Connection.Open) -> None:
        name = method.virtual_host
        vhost = self.broker.vhosts.get(name)
        if vhost is None:
            raise not_allowed(f"vhost {name} not found")
        if name not in self.user.permissions:
            raise not_allowed(f"access to vhost '{name}' refused for user '{self.user.name}'")
        self.vhost = vhost
        self.state = State.RUNNING
        self.send(encode(0, commands.Connection.OpenOk))
        self._timer.cancel()
        if self._heartbeat:
            self._schedule_heartbeat()
        log.info("connection %s: open, user %r, virtual host %r", self.peer, self.user.name, name)

    def fail(self, error: ProtocolError) -> None:
        """End the connection with an error: its client's, or 320 when the broker ends."""
        if self.state in (State.CLOSING, State.CLOSED):
            return
        level = logging.INFO if error.code == 320 else logging.WARNING  # 320 is our own end, nobody's fault
        log.log(level, "connection %s: closed while %s: %d %r", self.peer, self.state.value, error.code, error.text)
        if self.state in (State.HEADER, State.STARTING):
            told = error.code == 403 and self.wants("authentication_failure_close")
            if not told:
                self.close()
                return
            error.method = b""
        class_id, method_id = _class_and_method(error.method)
        self._dismantle()
        self.send(
            encode(
                0,
                commands.Connection.Close,
                reply_code=error.code,
                reply_text=error.text,
                class_id=class_id,
                method_id=method_id,
            )
        )
        self.flush()
        self.state = State.CLOSING
        self._close_after(self.broker.limits.closing_seconds)

    def _close_after(self, seconds: float) -> None:
        self._timer.cancel()
        self._timer = self.broker.timers.at(self.broker.clock() + seconds, self._cut)

    def _cut(self) -> None:
        self.lost()
        self._socket.close()

    def _dismantle(self) -> None:
        """Close all channels, and delete the queues that only this connection could use."""
        self.writable = False  # what one channel gives back is not for the next one
        for channel in list(self.channels.values()):
            self._drop_channel(channel)
        self._closing.clear()
        for queue in list(self.exclusive):
            queue.vhost.delete_queue(queue)

    def _finish(self) -> None:
        """Be done, but leave it to the client to close the socket: it may still be writing to it."""
        self.flush()
        self.lost()
        self._socket.resume_reading()
        self._close_after(self.broker.limits.closing_seconds)

    def close(self) -> None:
        """Close the socket behind what is written already."""
        if self.state is not State.CLOSED:
            self.flush()
            self.lost()
            self._socket.close()

    def lost(self) -> None:
        """The connection is gone; safe to call twice."""
        self._timer.cancel()
        if self.state is State.CLOSED:
            return
        log.info("connection %s: closed", self.peer)
        self._dismantle()
        self.state = State.CLOSED
        self._output.clear()
        self._rest.clear()
        self.broker.sessions.discard(self)
        self.broker.flush()

    def _too_slow(self) -> None:
        log.warning("connection %s: closed: the handshake takes too long, %s", self.peer, self.state.value)
        self.close()

    # Heartbeats: section 4.2.7.

    def _schedule_heartbeat(self) -> None:
        self._timer = self.broker.timers.at(self.broker.clock() + self._heartbeat / 2, self._beat)

    def _beat(self) -> None:
        # A client that we do not listen to cannot be heard.
        self._silent_ticks = 0 if self._heard or self._blocked else self._silent_ticks + 1
        self._heard = False
        if self._silent_ticks >= 4:
            log.warning("connection %s: closed: no heartbeat for %d s", self.peer, self._heartbeat * 2)
            self.close()
            return
        if not self._said:
            self.send(HEARTBEAT_FRAME)
            self.flush()
        self._said = False
        self._schedule_heartbeat()

    def __str__(self) -> str:
        return f"connection {self.peer}"


def _is_whole(kind: int, payload: bytes) -> bool:
    """Whether that is a frame at all: of a type that there is, and long enough for it."""
    least = {METHOD: 4, HEADER: FIXED, BODY: 0, HEARTBEAT: 0}.get(kind)
    return least is not None and len(payload) >= least and not (kind == HEARTBEAT and payload)


def _snippet(payload: bytes) -> str:
    which = "all" if len(payload) <= 16 else "first 16"
    return f"{which} octets = {erlang_binary(payload[:16])}"


def _class_and_method(payload: bytes | None) -> tuple[int, int]:
    payload = payload or b""
    return int.from_bytes(payload[:2], "big"), int.from_bytes(payload[2:4], "big")
