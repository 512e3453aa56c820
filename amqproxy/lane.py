"""The fast lane: the content frames of chosen channels, read and written without a task or an await per frame.

aiormq opens the connection through a transport factory of ours (connection.py). `LaneProtocol` stands between the
socket and aiormq's stream reader: what belongs to a lane goes to it at once, inside `data_received`; all else goes on
to aiormq. What lanes send in one turn of the event loop is written together.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable

from .acks import Acks
from .fields import Malformed
from .frames import (
    HEARTBEAT_FRAME,
    ContentReader,
    ContentSink,
    Splitter,
    block_notice,
    channels_closed,
    close_reason,
    encode_ack,
    encode_nack,
    encode_publish,
    publish_method,
    with_limit,
)

log = logging.getLogger("amqproxy.lane")

HEARTBEAT_FEED_SECONDS = 1.0
"""While lane traffic flows, aiormq is shown a heartbeat this often: it takes silence for a broken connection."""

READ_BYTES = 256 * 1024
"""How much is read from the socket at once, into a buffer that is kept. Without one, asyncio takes a fresh buffer of
this size for each read, and glibc three system calls to get, shrink and free it: a fifth of a lone call's time."""
JOIN_BYTES = 4096
"""Writes of one turn are joined up to this size. Larger joins save nothing more, and would make broker and workers wait
for a turn to end that has hundreds of calls in it: caller, broker and worker would run in turns, not at once."""


class LaneProtocol(asyncio.StreamReaderProtocol, asyncio.BufferedProtocol):
    """The protocol of one socket: feeds lanes and aiormq, and joins the writes of one turn."""

    def __init__(self, reader: asyncio.StreamReader, loop: asyncio.AbstractEventLoop, max_frame_bytes: int) -> None:
        super().__init__(reader, loop=loop)
        self.loop = loop
        self.splitter = Splitter(max_frame_bytes)
        self.close_reason: str | None = None
        """Why the broker closed the connection, if it said so."""
        self.breach: str | None = None
        """How the broker broke the protocol, for which the connection was closed here."""
        self.blocked: str | None = None
        """Why the broker takes no messages now; None if it does."""
        self.on_blocked: Callable[[str | None], None] = lambda reason: None
        """Told when that changes."""
        self.writable = True
        self.lanes: list[Lane] = []
        self.lost: asyncio.Future[None] = loop.create_future()
        """Done when the socket is gone; lanes are closed by then."""
        self._reader = reader
        self._buffer = memoryview(bytearray(READ_BYTES))
        self._socket: asyncio.Transport | None = None
        self._output: list[bytes] = []
        self._gathered = 0
        self._settling: list[Lane] = []
        self._flush_scheduled = False
        self._reading = False
        self._fed_at = 0.0
        self._writable_waiters: set[asyncio.Future[None]] = set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The socket is connected, TLS included."""
        super().connection_made(transport)
        self._socket = transport  # type: ignore[assignment]  # a stream transport, by the way it was opened

    def get_buffer(self, sizehint: int) -> memoryview:
        """Where the event loop shall read to."""
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """So much was read to the buffer."""
        self.data_received(bytes(self._buffer[:nbytes]))

    def data_received(self, data: bytes) -> None:
        """Hand lane traffic to its lanes, and the rest to aiormq; write what the lanes answer on the spot."""
        self._reading = True
        try:
            others = self.splitter.feed(data)
        except Malformed as error:
            assert self._socket is not None  # from which this came
            peer = self._socket.get_extra_info("peername")
            log.error("the broker broke the protocol, and the connection to it is closed: %s (%s)", error, peer)
            self.breach = str(error)
            self.abort()
            return
        finally:
            self._reading = False
        self.flush()
        if others:
            self.close_reason = close_reason(others) or self.close_reason
            if not self.splitter.readers:  # it may be the handshake
                others = with_limit(others, self.splitter.max_frame_bytes)
            if closed := channels_closed(others):
                self._retire(closed)
            if (notice := block_notice(others)) is not None:
                self._block(notice or None)
            self._reader.feed_data(others)
            self._fed_at = self.loop.time()
        elif self.splitter.readers and self.loop.time() - self._fed_at > HEARTBEAT_FEED_SECONDS:
            self._fed_at = self.loop.time()
            self._reader.feed_data(HEARTBEAT_FRAME)

    def connection_lost(self, exc: Exception | None) -> None:
        """The socket is gone: nothing more can be written."""
        self._lose()
        self.blocked = None
        self.resume_writing()
        super().connection_lost(exc)

    def _block(self, reason: str | None) -> None:
        """The broker takes no messages for a while, or does again: whoever can wait, should."""
        if reason == self.blocked:
            return
        self.blocked = reason
        if reason is not None:
            self.writable = False
        elif not self._paused:  # type: ignore[attr-defined]  # FlowControlMixin's own state
            self._let_go()
        self.on_blocked(reason)

    def _retire(self, channels: list[int]) -> None:
        """The broker closed channels: aiormq is about to confirm it, and what goes out behind that is for no channel.

        The broker would close the whole connection for it. Those who use the lanes are told a few turns later.
        """
        for lane in self.lanes:
            if lane.channel in channels:
                lane.retire()

    def _lose(self) -> None:
        for lane in self.lanes:
            lane.open = False
        self._output.clear()
        self._settling.clear()
        if not self.lost.done():
            self.lost.set_result(None)

    def pause_writing(self) -> None:
        """The socket's buffer is full: whoever can wait, should."""
        self.writable = False
        super().pause_writing()

    def resume_writing(self) -> None:
        """The socket's buffer has drained."""
        if self.blocked is None:
            self._let_go()
        if self._paused:  # type: ignore[attr-defined]  # FlowControlMixin's own state; it asserts on it
            super().resume_writing()

    def _let_go(self) -> None:
        self.writable = True
        for waiter in self._writable_waiters:
            if not waiter.done():
                waiter.set_result(None)

    async def wait_writable(self) -> None:
        """Return when the socket takes more, or is gone."""
        while not self.writable:
            waiter = self.loop.create_future()
            self._writable_waiters.add(waiter)
            try:
                await waiter
            finally:
                self._writable_waiters.discard(waiter)

    def send(self, data: bytes) -> None:
        """Write with what else this turn brings, `JOIN_BYTES` at a time."""
        self._output.append(data)
        self._gathered += len(data)
        if self._gathered >= JOIN_BYTES:
            self.flush()
        elif not self._flush_scheduled and not self._reading:
            self._flush_scheduled = True
            self.loop.call_soon(self._flush_turn)

    def send_now(self, data: bytes) -> None:
        """Write at once, together with what has gathered already.

        For a message that nothing else could be joined with: it saves a turn of the event loop, which is a good part of
        the time that a lone call takes.
        """
        self._output.append(data)
        self.flush()

    def settle(self, lane: Lane) -> None:
        """`lane` has acknowledgements to send behind what is written next."""
        self._settling.append(lane)

    def _flush_turn(self) -> None:
        self._flush_scheduled = False
        self.flush()

    def flush(self) -> None:
        """Write what has gathered: messages first, then the acknowledgements of what they answer."""
        output = self._output
        self._gathered = 0
        if self._settling:
            for lane in self._settling:
                lane.encode_acks(output)
            self._settling.clear()
        if output:
            data = output[0] if len(output) == 1 else b"".join(output)
            output.clear()
            if self._socket is not None and not self._socket.is_closing():
                self._socket.write(data)

    def disown(self) -> None:
        """This process was forked from the one whose connection it is: nothing of it is to get to the socket.

        Not by closing it, for the event loop's own descriptors are those of the other process, too.
        """
        for lane in self.lanes:
            lane.open = False
        self._output.clear()
        self._settling.clear()
        transport, self._socket = self._socket, None
        if transport is not None and (number := transport.get_extra_info("socket").fileno()) >= 0:
            nowhere = os.open(os.devnull, os.O_RDWR)
            os.dup2(nowhere, number)
            os.close(nowhere)

    def abort(self) -> None:
        """Close the socket at once, without the farewell of AMQP."""
        self._lose()
        if self._socket is not None:
            self._socket.abort()


class LaneWriter(asyncio.StreamWriter):
    """aiormq's side of the socket: what the lanes have gathered goes out before anything of aiormq's."""

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Write behind the lanes' frames, so that a channel is never closed ahead of its last message."""
        self.transport.get_protocol().flush()  # type: ignore[attr-defined]  # a LaneProtocol
        super().write(data)


class Lane:
    """The hot half of one AMQP channel: publish, deliver, return, acknowledge."""

    __slots__ = ("_acks", "_encode_limit", "_protocol", "_reader", "_settling", "channel", "open")

    def __init__(self, protocol: LaneProtocol, channel: int, sink: ContentSink, max_body_bytes: int) -> None:
        self.channel = channel
        self.open = True
        self._protocol = protocol
        self._acks = Acks()
        self._settling = False
        self._encode_limit = protocol.splitter.max_frame_bytes
        self._reader = protocol.splitter.readers[channel] = ContentReader(sink, max_body_bytes)
        protocol.lanes.append(self)

    def destination(self, exchange: bytes, routing_key: bytes) -> bytes:
        """What `publish` wants to be told of a destination; worth keeping for the next message."""
        return publish_method(self.channel, exchange, routing_key)

    def publish(self, destination: bytes, properties: bytes, body: bytes, *, alone: bool = False) -> None:
        """Send a message at the end of this turn, or at once if it is `alone`: nothing else is on its way.

        One that no queue takes comes back to the sink as returned.
        """
        data = encode_publish(destination, self.channel, properties, body, self._encode_limit)
        if alone:
            self._protocol.send_now(data)
        else:
            self._protocol.send(data)

    def publish_unsigned(self, destination: bytes, properties: bytes, body: bytes) -> None:
        """The same for what is told to strangers: it is not signed, also where all else is."""
        Lane.publish(self, destination, properties, body)

    def reply(self, tag: int, destination: bytes, properties: bytes, body: bytes, *, alone: bool = False) -> None:
        """Publish the answer to a delivery, and acknowledge that behind it."""
        self._settle(tag)
        self.publish(destination, properties, body, alone=alone)

    def hold(self, tag: int) -> None:
        """A delivery came that must be settled: by `reply`, `ack` or `nack`, once."""
        self._acks.delivered(tag)

    @property
    def held(self) -> int:
        """How many deliveries are not settled."""
        return len(self._acks)

    def ack(self, tag: int) -> None:
        """Acknowledge a delivery, together with the others of this turn and behind what the turn publishes."""
        self._settle(tag)
        self._protocol.send(b"")

    def _settle(self, tag: int) -> None:
        self._acks.done(tag)
        if not self._settling:
            self._settling = True
            self._protocol.settle(self)

    def nack(self, tag: int, *, requeue: bool) -> None:
        """Give a delivery back to its queue, or refuse it for good (to the dead letters, where there are any)."""
        self._acks.gone(tag)
        self._protocol.send(encode_nack(self.channel, tag, requeue=requeue))

    def encode_acks(self, output: list[bytes]) -> None:
        """Append the acknowledgements that are due; called by the protocol when it writes."""
        self._settling = False
        for tag, multiple in self._acks.take():
            output.append(encode_ack(self.channel, tag, multiple=multiple))

    def flush(self) -> None:
        """Write now what has gathered."""
        self._protocol.flush()

    @property
    def writable(self) -> bool:
        """False while the socket's buffer is full: wait with `wait_writable` before sending more."""
        return self._protocol.writable

    async def wait_writable(self) -> None:
        """Return when the socket takes more, or is gone."""
        await self._protocol.wait_writable()

    def retire(self) -> None:
        """Take no more messages to send; what comes on the channel is read on."""
        self.open = False

    def close(self) -> None:
        """Take no more messages: what still comes on the channel is dropped here, unread."""
        self.open = False
        self._reader.sink = _Nobody()

    def forget(self) -> None:
        """The channel is closed; its number may serve again."""
        self.open = False
        self._protocol.lanes.remove(self)
        readers = self._protocol.splitter.readers
        if readers.get(self.channel) is self._reader:  # its number may serve another already
            del readers[self.channel]


class _Nobody:
    """Takes the messages of a lane that was closed."""

    def delivered(self, tag: int, redelivered: bool, header: bytes, body: bytes) -> None: ...

    def returned(self, code: int, text: bytes, routing_key: bytes, header: bytes, body: bytes) -> None: ...

    def confirmed(self, tag: int, multiple: bool, accepted: bool) -> None: ...

    def too_large(self, tag: int, header: bytes, size: int) -> None: ...
