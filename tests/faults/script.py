"""A peer that speaks AMQP as a broker does, up to where a test wants it to do what no broker would.

async with Scripted.peer() as peer, amqproxy.connect(peer.url) as mq:
    peer.on_message = peer.reset  # as soon as the first message is there in full, say
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from pamqp import commands, frame, header
from pamqp.base import Frame

from tests.faults.network import reset

FRAME_HEADER = struct.Struct("!BHL")
FRAME_MAX = 131072
METHOD, HEADER, BODY = 1, 2, 3


class Message:
    """A message that a client publishes."""

    def __init__(self, channel: int, number: int, publish: commands.Basic.Publish) -> None:
        self.channel = channel
        self.number = number
        """Counted from 1 on each channel, as confirmations count."""
        self.publish = publish
        self.properties = commands.Basic.Properties()
        self.size = 0
        self.body = b""


class Scripted:
    """Answers what clients ask, and leaves messages to `on_message`."""

    def __init__(self) -> None:
        self.url = ""
        self.channel_max = 2047
        """What the next connections are offered."""
        self.on_message: Callable[[Message], None] = lambda message: None
        """Called with each message that is there in full; nothing is confirmed or delivered unless a test does it."""
        self.on_settled: Callable[[commands.Basic.Ack | commands.Basic.Nack], None] = lambda method: None
        """Called with what clients say of the messages that were delivered to them."""
        self.on_cancel: Callable[[], None] = lambda: None
        """Called when a client wants to consume no more, before that is agreed to."""
        self.leaves_open: tuple[type[Frame], ...] = ()
        """Methods that it does not answer."""
        self.connections = 0
        self.consumers: dict[str, tuple[int, str]] = {}
        """The channel and the consumer tag that each queue was last consumed with."""
        self.refuses = 0
        """So many of the next logins are refused."""
        self.logins = 0
        self.closed: list[int] = []
        """Channels that clients closed."""
        self._writers: list[asyncio.StreamWriter] = []
        self._messages: dict[int, Message] = {}
        self._published: dict[int, int] = {}
        self._queues = 0

    @classmethod
    @asynccontextmanager
    async def peer(cls) -> AsyncIterator[Scripted]:
        """One that listens."""
        peer = cls()
        server = await asyncio.start_server(peer._serve, "127.0.0.1", 0)
        peer.url = f"amqp://guest:guest@127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        async with server:
            try:
                yield peer
            finally:
                for writer in peer._writers:
                    writer.transport.abort()

    def send(self, channel: int, *values: Frame | header.ContentHeader | bytes) -> None:
        """Send frames on the newest connection; bytes go out as they are."""
        for value in values:
            self._writers[-1].write(value if isinstance(value, bytes) else frame.marshal(value, channel))

    def deliver(self, queue: str, properties: commands.Basic.Properties | bytes, body: bytes, number: int = 1) -> None:
        """Deliver a message to the consumer of a queue, under this number; properties as bytes go out as they are."""
        channel, tag = self.consumers[queue]
        self.send(channel, commands.Basic.Deliver(tag, number, False, "", queue))
        encoded = properties if isinstance(properties, bytes) else properties.marshal()
        content = struct.pack("!HHQ", 60, 0, len(body)) + encoded
        self.send(channel, raw(HEADER, channel, content), raw(BODY, channel, body))

    def reset(self, message: Message | None = None) -> None:
        """Reset the newest connection."""
        reset(self._writers[-1])

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._writers.append(writer)
        self._published.clear()
        try:
            await reader.readexactly(8)
            self.send(0, commands.Connection.Start(server_properties={"capabilities": {"basic.nack": True}}))
            while True:
                head = await reader.readexactly(FRAME_HEADER.size)
                kind, channel, size = FRAME_HEADER.unpack(head)
                payload = await reader.readexactly(size + 1)
                self._received(kind, channel, head + payload)
        except (asyncio.IncompleteReadError, OSError):
            writer.close()

    def _received(self, kind: int, channel: int, data: bytes) -> None:
        _, _, value = frame.unmarshal(data)
        if kind == METHOD:
            self._asked(channel, value)
        elif isinstance(value, header.ContentHeader):
            message = self._messages[channel]
            message.properties, message.size = value.properties, value.body_size
            self._complete(channel)
        elif kind == BODY:
            self._messages[channel].body += data[FRAME_HEADER.size : -1]
            self._complete(channel)

    def _complete(self, channel: int) -> None:
        message = self._messages[channel]
        if len(message.body) == message.size:
            self.on_message(self._messages.pop(channel))

    def _asked(self, channel: int, method: Any) -> None:
        if isinstance(method, self.leaves_open):
            return
        match method:
            case commands.Connection.StartOk():
                self.logins += 1
                if self.refuses:
                    self.refuses -= 1
                    self.send(0, commands.Connection.Close(403, "ACCESS_REFUSED - Login was refused", 0, 0))
                    return
                self.send(0, commands.Connection.Tune(self.channel_max, FRAME_MAX, 0))
            case commands.Queue.Declare():
                self._queues += 1
                self.send(channel, commands.Queue.DeclareOk(method.queue or f"scripted.{self._queues}", 0, 0))
            case commands.Basic.Consume():
                self.consumers[method.queue] = channel, method.consumer_tag
                self.send(channel, commands.Basic.ConsumeOk(method.consumer_tag))
            case commands.Channel.Close():
                self.closed.append(channel)
                self.send(channel, commands.Channel.CloseOk())
            case commands.Basic.Cancel():
                self.on_cancel()
                self.send(channel, commands.Basic.CancelOk(method.consumer_tag))
            case commands.Basic.Publish():
                self._published[channel] = self._published.get(channel, 0) + 1
                self._messages[channel] = Message(channel, self._published[channel], method)
            case commands.Basic.Ack() | commands.Basic.Nack():
                self.on_settled(method)
            case commands.Connection.TuneOk():
                pass
            case _ if method.synchronous:
                self.send(channel, _answer(method))


def _answer(method: Any) -> Frame:
    """The plain -Ok of a method."""
    group = getattr(commands, method.name.split(".")[0])
    answer: Frame = getattr(group, f"{method.name.split('.')[1]}Ok")()
    return answer


def raw(kind: int, channel: int, payload: bytes) -> bytes:
    """A frame of whatever is in it."""
    return FRAME_HEADER.pack(kind, channel, len(payload)) + payload + b"\xce"
