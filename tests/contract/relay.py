"""A network that can be held up and cut, between a client and its broker."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from amqproxy.url import BrokerURL


class Direction:
    """One way through the relay: what comes while it is held waits."""

    def __init__(self) -> None:
        self._flowing = asyncio.Event()
        self._flowing.set()
        self.passed = 0
        """Bytes so far."""

    def hold(self) -> None:
        self._flowing.clear()

    def release(self) -> None:
        self._flowing.set()

    async def pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await self._flowing.wait()
            data = await reader.read(65536)
            await self._flowing.wait()
            if not data:
                return
            self.passed += len(data)
            writer.write(data)
            await writer.drain()


class Relay:
    """Passes on what comes, in both directions."""

    def __init__(self, target: BrokerURL) -> None:
        self.target = target
        self.url = ""
        self.up = Direction()
        """From the client to the broker."""
        self.down = Direction()
        self._open: set[asyncio.StreamWriter] = set()
        self._pumps: set[asyncio.Task[None]] = set()

    @classmethod
    @asynccontextmanager
    async def to(cls, url: str) -> AsyncIterator[Relay]:
        """A relay to the broker; it also passes on further connections, when the first one was cut."""
        relay = cls(BrokerURL.parse(url))
        server = await asyncio.start_server(relay._serve, "127.0.0.1", 0)
        user = f"{relay.target.user}:{relay.target.password}"
        relay.url = f"amqp://{user}@127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        async with server:
            try:
                yield relay
            finally:
                relay.cut()
                await asyncio.gather(*relay._pumps, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection(self.target.host, self.target.port)
        both = {writer, far_writer}
        pumps = {
            asyncio.create_task(self.up.pump(reader, far_writer)),
            asyncio.create_task(self.down.pump(far_reader, writer)),
        }
        self._open |= both
        self._pumps |= pumps
        await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        for pump in pumps:
            pump.cancel()
        for each in both:
            each.close()
        await asyncio.gather(*pumps, return_exceptions=True)
        self._open -= both
        self._pumps -= pumps

    def cut(self) -> None:
        """End all connections without a word; what was held is lost, and what comes after flows."""
        for writer in self._open:
            writer.transport.abort()
        for pump in self._pumps:
            pump.cancel()
        self.up.release()
        self.down.release()
