"""What clients meet when things go wrong: a broker that is slow to answer, and a worker that answers with garbage."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import aio_pika

FAILURE = "com.github.sstone.amqp.proxy.AmqpProxy$ServerFailure"


class Sleeper:
    """In front of a broker: accepts connections, and says nothing until it is awake."""

    def __init__(self, url: str) -> None:
        self._host, self._port = urlsplit(url).hostname, urlsplit(url).port
        self._tasks: list[asyncio.Task[None]] = []
        self._writers: list[asyncio.StreamWriter] = []
        self.accepted = 0
        self.found = asyncio.Event()
        """Set when a client has come."""
        self.awake = asyncio.Event()

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[str]:
        """The URL at which clients find it."""
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        try:
            yield f"amqp://guest:guest@127.0.0.1:{server.sockets[0].getsockname()[1]}"
        finally:
            server.close()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            for writer in self._writers:
                writer.close()
            await asyncio.gather(*(writer.wait_closed() for writer in self._writers), return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        self.found.set()
        self._writers.append(writer)
        self._tasks.append(asyncio.create_task(self._pass_on(reader, writer)))

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self.awake.wait()
        far_reader, far_writer = await asyncio.open_connection(self._host, self._port)
        self._writers.append(far_writer)
        await asyncio.gather(_copy(reader, far_writer), _copy(far_reader, writer))


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65536):
            writer.write(data)
    finally:
        writer.close()


Answer = tuple[str, str | None, bytes]
"""Content-type, content-encoding and body."""


@asynccontextmanager
async def answering(url: str, queue: str, answer: Callable[[str, object], Answer]) -> AsyncIterator[None]:
    """A worker whose answers to a class and a body are whatever the function says."""
    connection = await aio_pika.connect(url)
    async with connection, connection.channel() as channel:
        declared = await channel.declare_queue(queue, durable=True)

        async def serve(request: aio_pika.abc.AbstractIncomingMessage) -> None:
            assert request.content_type is not None
            assert request.reply_to is not None
            kind, encoding, body = answer(request.content_type, json.loads(request.body))
            reply = aio_pika.Message(
                body, content_type=kind, content_encoding=encoding, correlation_id=request.correlation_id
            )
            await channel.default_exchange.publish(reply, request.reply_to)

        await declared.consume(serve, no_ack=True)
        yield
