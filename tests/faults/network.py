"""A network between a client and its broker that can be slow, deaf, dumb and broken."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from amqproxy.url import BrokerURL

READ_BYTES = 65536
RESET = struct.pack("ii", 1, 0)
"""SO_LINGER with a time of 0: closing sends RST, and what is not sent yet is dropped."""

OnItsWay = asyncio.Queue[tuple[float, bytes]]
"""When it is to arrive, and what; nothing for the end."""


class Direction:
    """One way through the relay. What is set here holds for all connections, those that come later too."""

    __slots__ = (
        *("_corrupt_at", "_end_at", "_era", "_flowing", "_resets", "bytes_per_second", "latency", "name", "passed"),
        "piece",
    )

    def __init__(self, name: str) -> None:
        self.name = name
        self.passed = 0
        """Bytes so far."""
        self.latency = 0.0
        """Seconds that each byte is on its way."""
        self.bytes_per_second = float("inf")
        self.piece = READ_BYTES
        """So many bytes at most are handed on at once."""
        self._era = 0
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._end_at: int | None = None
        self._resets = True
        self._corrupt_at: int | None = None

    def __repr__(self) -> str:
        return f"<Direction {self.name}, {self.passed} bytes>"

    def hold(self) -> None:
        """Let what comes wait, until sockets are full and further."""
        self._flowing.clear()

    def release(self) -> None:
        """Let it go on, with what has waited."""
        self._flowing.set()

    def swallow(self) -> None:
        """Lose all that comes on the connections that are there: behind a firewall that forgot them, say."""
        self._era += 1

    def reset_after(self, size: int) -> None:
        """So many bytes more are let through, and then the connection is reset that they came on."""
        self._end_at, self._resets = self.passed + size, True

    def close_after(self, size: int) -> None:
        """As `reset_after`, but the connection is closed in order, as by a program that ends."""
        self._end_at, self._resets = self.passed + size, False

    def corrupt_after(self, size: int) -> None:
        """The byte behind so many more is turned upside down."""
        self._corrupt_at = self.passed + size

    async def pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Hand on what comes, until there is no more or an end is due; ConnectionResetError if that is by reset."""
        on_its_way: OnItsWay = asyncio.Queue(1024)
        era = self._era
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._depart(reader, on_its_way))
                group.create_task(self._arrive(on_its_way, writer, era))
        except* EOFError:
            pass

    async def _depart(self, reader: asyncio.StreamReader, on_its_way: OnItsWay) -> None:
        while True:
            await self._flowing.wait()
            data = await reader.read(READ_BYTES)
            await on_its_way.put((asyncio.get_running_loop().time() + self.latency, data))
            if not data:
                return

    async def _arrive(self, on_its_way: OnItsWay, writer: asyncio.StreamWriter, era: int) -> None:
        while True:
            due, data = await on_its_way.get()
            if (wait := due - asyncio.get_running_loop().time()) > 0:
                await asyncio.sleep(wait)
            await self._flowing.wait()
            if not data:
                return
            if era == self._era:
                await self._hand_on(data, writer)

    async def _hand_on(self, data: bytes, writer: asyncio.StreamWriter) -> None:
        while data:
            piece, data = data[: self.piece], data[self.piece :]
            piece, ends = self._spoilt(piece)
            self.passed += len(piece)
            writer.write(piece)
            await writer.drain()
            if ends:
                raise ConnectionResetError if self._resets else EOFError
            if self.bytes_per_second < float("inf"):
                await asyncio.sleep(len(piece) / self.bytes_per_second)

    def _spoilt(self, piece: bytes) -> tuple[bytes, bool]:
        """What is handed on of a piece, and whether the connection ends behind it."""
        at = self.passed
        if self._corrupt_at is not None and at <= self._corrupt_at < at + len(piece):
            place = self._corrupt_at - at
            piece = piece[:place] + bytes((piece[place] ^ 0xFF,)) + piece[place + 1 :]
            self._corrupt_at = None
        if self._end_at is not None and self._end_at <= at + len(piece):
            piece = piece[: self._end_at - at]
            self._end_at = None
            return piece, True
        return piece, False


class Relay:
    """Passes on what comes, in both directions, as well or as badly as it is told."""

    def __init__(self, target: BrokerURL) -> None:
        self.target = target
        self.url = ""
        self.up = Direction("to the broker")
        self.down = Direction("to the client")
        self.connections = 0
        """Connections that were begun so far."""
        self.refuses = False
        """Whether further connections are reset at once."""
        self._open: set[asyncio.StreamWriter] = set()
        self._pumps: set[asyncio.Task[None]] = set()
        self._serving: set[asyncio.Task[None]] = set()

    @classmethod
    @asynccontextmanager
    async def to(cls, url: str) -> AsyncIterator[Relay]:
        """A relay to the broker; it also passes on further connections, when the first one was cut."""
        relay = cls(BrokerURL.parse(url))
        server = await asyncio.start_server(relay._accept, "127.0.0.1", 0)
        user = f"{relay.target.user}:{relay.target.password}"
        relay.url = f"amqp://{user}@127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        async with server:
            try:
                yield relay
            finally:
                relay.refuses = True
                relay.cut()
                await asyncio.gather(*relay._serving)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        serving = asyncio.create_task(self._serve(reader, writer))
        self._serving.add(serving)
        serving.add_done_callback(self._serving.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._open.add(writer)
        try:
            if self.refuses:
                raise ConnectionResetError
            far_reader, far_writer = await asyncio.open_connection(self.target.host, self.target.port)
        except OSError:
            reset(writer)
            self._open.discard(writer)
            return
        both = {writer, far_writer}
        if writer.transport.is_closing():  # it was cut meanwhile
            far_writer.transport.abort()
        pumps = {
            asyncio.create_task(self.up.pump(reader, far_writer)),
            asyncio.create_task(self.down.pump(far_reader, writer)),
        }
        self._open |= both
        self._pumps |= pumps
        done, _ = await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        was_reset = any(not pump.cancelled() and pump.exception() is not None for pump in done)
        for pump in pumps:
            pump.cancel()
        for each in both:
            reset(each) if was_reset else each.close()
        await asyncio.gather(*pumps, return_exceptions=True)
        self._open -= both
        self._pumps -= pumps

    def cut(self) -> None:
        """End all connections without a word; what was held is lost, and what comes after flows."""
        for writer in self._open:
            writer.transport.abort()
        self._forget()

    def reset(self) -> None:
        """As `cut`, by RST: the ends hear of it in the midst of whatever they do."""
        for writer in self._open:
            reset(writer)
        self._forget()

    def _forget(self) -> None:
        for pump in self._pumps:
            pump.cancel()
        for direction in (self.up, self.down):
            direction.release()


def reset(writer: asyncio.StreamWriter) -> None:
    """Close a connection by RST."""
    raw = writer.get_extra_info("socket")
    with contextlib.suppress(OSError):  # it is closed already
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    writer.transport.abort()
