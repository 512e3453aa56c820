"""A port that leads to a broker, and keeps the messages that pass through it."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from amqproxy.properties import Properties
from amqproxy.url import BrokerURL

METHOD, HEADER, BODY = 1, 2, 3
"""Kinds of frames, in AMQP 0-9-1."""
PUBLISH, RETURN, DELIVER = (struct.pack(">HH", 60, number) for number in (40, 50, 60))


@dataclass(slots=True)
class Passed:
    """A message that passed, in either direction."""

    method: bytes
    """PUBLISH, RETURN or DELIVER."""
    exchange: str
    routing_key: str
    mandatory: bool = False
    """Whether it was published so."""
    header: bytes = b""
    size: int = -1
    body: bytes = b""

    @property
    def properties(self) -> Properties:
        return Properties.decode(self.header)


class Tap:
    """The messages of all connections through it, in the order in which they passed."""

    def __init__(self, url: str) -> None:
        self._broker = BrokerURL.parse(url)
        self._under_way: dict[tuple[int, bool, int], Passed] = {}
        self.url = ""
        self.messages: list[Passed] = []
        self._passed = asyncio.Event()

    async def passes(self, wanted: Callable[[Passed], bool]) -> Passed:
        """The first message that is wanted, once it has passed."""
        while not (found := [message for message in self.messages if wanted(message)]):
            self._passed.clear()
            await self._passed.wait()
        return found[0]

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Tap]:
        server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        user = f"{self._broker.user}:{self._broker.password}"
        self.url = f"amqp://{user}@127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        try:
            yield self
        finally:
            server.close()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        answers, broker = await asyncio.open_connection(self._broker.host, self._broker.port)
        broker.write(await reader.readexactly(8))  # the protocol header, which is no frame
        back = asyncio.create_task(self._copy(answers, writer, up=False))
        await self._copy(reader, broker, up=True)
        await back

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, up: bool) -> None:
        try:
            while True:
                start = await reader.readexactly(7)
                kind, channel, size = struct.unpack(">BHI", start)
                payload = await reader.readexactly(size + 1)
                self._frame(kind, (id(reader), up, channel), payload[:-1])
                writer.write(start + payload)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    def _frame(self, kind: int, channel: tuple[int, bool, int], payload: bytes) -> None:
        if kind == METHOD:
            if (message := _message(payload)) is not None:
                self._under_way[channel] = message
            return
        if kind not in (HEADER, BODY):
            return
        message = self._under_way[channel]
        if kind == HEADER:
            message.header, message.size = payload[12:], int.from_bytes(payload[4:12], "big")
        else:
            message.body += payload
        if len(message.body) == message.size:
            self.messages.append(self._under_way.pop(channel))
            self._passed.set()


def _message(method: bytes) -> Passed | None:
    """The message that a method announces, if it announces one."""
    if method.startswith(PUBLISH):
        exchange, at = _short_string(method, 6)
        key, at = _short_string(method, at)
        return Passed(PUBLISH, exchange, key, mandatory=bool(method[at] & 1))
    if method.startswith(DELIVER):
        _, at = _short_string(method, 4)
        exchange, at = _short_string(method, at + 9)
        return Passed(DELIVER, exchange, _short_string(method, at)[0])
    if method.startswith(RETURN):
        _, at = _short_string(method, 6)
        exchange, at = _short_string(method, at)
        return Passed(RETURN, exchange, _short_string(method, at)[0])
    return None


def _short_string(data: bytes, at: int) -> tuple[str, int]:
    end = at + 1 + data[at]
    return data[at + 1 : end].decode(), end
