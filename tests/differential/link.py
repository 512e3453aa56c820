"""One TCP connection of the raw client: bytes to events, and no manners that it is not told to have."""

from __future__ import annotations

import socket
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from tests.differential.fields import encode_table
from tests.differential.rendering import show_message, show_method
from tests.differential.wire import (
    BODY,
    HEADER,
    HEARTBEAT,
    METHOD,
    Cutter,
    Frame,
    Method,
    content_frames,
    decode_header,
    decode_method,
    encode_frame,
    encode_frames,
    encode_method,
)

CAPABILITIES = (
    "authentication_failure_close",
    "basic.nack",
    "connection.blocked",
    "consumer_cancel_notify",
    "exchange_exchange_bindings",
    "publisher_confirms",
)
WITH_CONTENT = {"basic.deliver", "basic.get-ok", "basic.return"}
SOCKET_TIMEOUT = 10.0
SMALLEST_FRAME_MAX = 4096
BARRIER = "barrier"
"""A flow-ok that is awaited for the sake of order only, and hidden."""


@dataclass
class Content:
    """A message of which not all frames are there yet."""

    method: Method
    properties: Mapping[str, Any] = field(default_factory=dict)
    size: int = 0
    body: bytes = b""


@dataclass
class Channel:
    """What the client knows of one of its channels."""

    events: list[str] = field(default_factory=list)
    """What came since the events were last taken."""
    methods: deque[Method] = field(default_factory=deque)
    """What came, on a hidden channel."""
    open: bool = False
    hidden: bool = False
    """A channel of the harness: it is not in the transcript."""
    confirming: bool = False
    published: int = 0
    unconfirmed: set[int] = field(default_factory=set)
    flows: deque[str] = field(default_factory=deque)
    """Who awaits the next flow-ok, and those after it."""
    content: Content | None = None
    unsettled: list[int] = field(default_factory=list)
    """Delivery tags that the client has not acknowledged yet."""
    no_ack: set[str] = field(default_factory=set)
    """Consumers that do not acknowledge."""
    consumers: dict[str, str] = field(default_factory=dict)
    """The queues of consumers, by their tags."""
    gets: deque[bool] = field(default_factory=deque)
    """Whether what comes of each basic.get under way is to be acknowledged not at all."""


class Link:
    """A connection and its channels."""

    def __init__(self, address: tuple[str, int]) -> None:
        self._socket = socket.create_connection(address, SOCKET_TIMEOUT)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._cutter = Cutter()
        self.channels: dict[int, Channel] = {}
        self.open = False
        """Whether the handshake is over, and nobody has said that the connection is."""
        self.ended = False
        """Whether the broker sent all that it ever will."""
        self.blocked = False
        self._alive = False
        """Whether there was a heartbeat."""
        self.frame_max = SMALLEST_FRAME_MAX
        self.channel_max = 0
        self.greetings: deque[Method] = deque()
        """What the broker said in the handshake and this side has not answered yet."""

    def fileno(self) -> int:
        return self._socket.fileno()

    def channel(self, number: int) -> Channel:
        return self.channels.setdefault(number, Channel())

    def end(self) -> None:
        """End the TCP connection at once, if it has not ended yet."""
        self._socket.close()
        self._end()

    def send(self, data: bytes) -> None:
        """Send bytes; that nobody takes them any more is for `receive` to find out."""
        if not self.ended:
            with suppress(OSError):
                self._socket.sendall(data)

    def send_method(self, channel: int, name: str, **arguments: Any) -> None:
        self.send(encode_frame(Frame(METHOD, channel, encode_method(Method(name, arguments)))))

    def send_content(self, channel: int, method: Method, properties: Mapping[str, Any], body: bytes) -> None:
        frames = [
            Frame(METHOD, channel, encode_method(method)),
            *content_frames(channel, properties, body, self.frame_max),
        ]
        self.send(encode_frames(frames))
        state = self.channel(channel)
        if state.confirming:
            state.published += 1
            state.unconfirmed.add(state.published)

    def send_barriers(self) -> None:
        """Ask each channel for a flow-ok, which comes once all that was sent on it before has been dealt with."""
        if self.blocked:  # nobody reads it
            return
        for number, channel in self.channels.items():
            if channel.open and not channel.hidden:
                self.send_method(number, "channel.flow", active=True)
                channel.flows.append(BARRIER)

    @property
    def at_barrier(self) -> bool:
        """Whether a channel has not come to what was asked of it."""
        return not self.blocked and any(BARRIER in channel.flows for channel in self.channels.values())

    def give_up(self, why: str) -> None:
        """Let the channels that have not be closed, with a word in the transcript."""
        for channel in self.channels.values():
            if BARRIER in channel.flows and not self.blocked:
                channel.events.append(why)
                self._close_channel(channel)

    def receive(self) -> None:
        """Take in what has arrived."""
        try:
            data = self._socket.recv(262144)
        except OSError:
            data = b""
        if not data:
            if not self.ended:
                self.channel(0).events.append(f"the TCP connection ends{' after heartbeats' if self._alive else ''}")
            self._end()
            return
        for frame in self._cutter.feed(data):
            if isinstance(frame, bytes):
                self.channel(0).events.append(f"protocol header {frame!r}")
            else:
                self._take(frame)

    def _end(self) -> None:
        self.ended = True
        self._close()

    def _close(self) -> None:
        self.open = False
        for channel in self.channels.values():
            self._close_channel(channel)

    @staticmethod
    def _close_channel(channel: Channel) -> None:
        channel.open = channel.confirming = False
        channel.published = 0
        channel.unconfirmed.clear()
        channel.flows.clear()
        channel.content = None
        channel.unsettled.clear()
        channel.no_ack.clear()
        channel.gets.clear()

    def _take(self, frame: Frame) -> None:
        channel = self.channel(frame.channel)
        if frame.kind == METHOD:
            method = decode_method(frame.payload)
            if method.name in WITH_CONTENT:
                channel.content = Content(method)
            elif channel.hidden:
                channel.methods.append(method)
                self._note(frame.channel, channel, method)
            else:
                self._method(frame.channel, channel, method)
        elif frame.kind == HEARTBEAT:
            self._alive = True  # how many there are, and when, is a matter of luck
        else:
            self._content(channel, frame)

    def _content(self, channel: Channel, frame: Frame) -> None:
        content = channel.content
        assert content is not None, f"the broker sent content out of place: {frame}"
        if frame.kind == HEADER:
            content.properties, content.size = decode_header(frame.payload)
        else:
            assert frame.kind == BODY
            content.body += frame.payload
        if len(content.body) == content.size:
            channel.content = None
            channel.events.append(show_message(content.method, content.properties, content.body))
            self._delivered(channel, content.method)

    @staticmethod
    def _delivered(channel: Channel, method: Method) -> None:
        if method.name == "basic.get-ok":
            settled = channel.gets.popleft()
        else:
            settled = method.name == "basic.return" or method.arguments["consumer_tag"] in channel.no_ack
        if not settled:
            channel.unsettled.append(method.arguments["delivery_tag"])

    def _method(self, number: int, channel: Channel, method: Method) -> None:
        if method.name == "channel.flow-ok" and channel.flows and channel.flows.popleft() == BARRIER:
            return
        if method.name in {"basic.ack", "basic.nack"}:
            channel.events.extend(self._confirmed(channel, method))
            return
        if number == 0 and not self.open and method.name != "connection.close":
            self.greetings.append(method)
        channel.events.append(show_method(method))
        self._note(number, channel, method)

    @staticmethod
    def _confirmed(channel: Channel, method: Method) -> list[str]:
        """Return an event for each message: whether a broker answers many in one is a matter of luck."""
        tag = method.arguments["delivery_tag"]
        tags = {tag}
        if method.arguments["multiple"]:
            tags = {known for known in channel.unconfirmed if known <= tag or tag == 0}
        shown = [f"{method.name} {known}{'' if known in channel.unconfirmed else ' again'}" for known in sorted(tags)]
        channel.unconfirmed -= tags
        return shown

    def _note(self, number: int, channel: Channel, method: Method) -> None:
        """Follow the state of the connection and the channel, and answer what a client must answer."""
        match method.name:
            case "channel.open-ok":
                channel.open = True
            case "channel.close":
                self.send_method(number, "channel.close-ok")
                self._close_channel(channel)
            case "channel.close-ok":
                self._close_channel(channel)
            case "basic.get-empty":
                channel.gets.popleft()
            case "connection.tune":
                self.frame_max = method.arguments["frame_max"]
                self.channel_max = method.arguments["channel_max"]
            case "connection.open-ok":
                self.open = True
            case "connection.close":
                self.send_method(0, "connection.close-ok")
                self.end()
            case "connection.close-ok":
                self.end()
            case "connection.blocked":
                self.blocked = True
            case "connection.unblocked":
                self.blocked = False


def plain(user: str, password: str) -> str:
    return f"\0{user}\0{password}"


def amqplain(user: str, password: str) -> bytes:
    return encode_table({"LOGIN": user, "PASSWORD": password})[4:]
