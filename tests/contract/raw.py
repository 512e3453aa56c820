"""A peer without manners: it publishes exactly the bytes it is given, which no client library would do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from amqproxy.connection import Connection
from amqproxy.link import OpenLane
from amqproxy.options import ConnectOptions
from amqproxy.properties import Properties
from amqproxy.topology import Queue
from amqproxy.url import BrokerURL


@dataclass(frozen=True, slots=True)
class Message:
    properties: Properties
    body: bytes


class Raw:
    """One channel with a reply queue; also a `ContentSink`."""

    def __init__(self) -> None:
        self.reply_to = b""
        self.messages: asyncio.Queue[Message] = asyncio.Queue()
        self.returns: asyncio.Queue[Message] = asyncio.Queue()
        self.opened: OpenLane

    @classmethod
    @asynccontextmanager
    async def connected(cls, url: str) -> AsyncIterator[Raw]:
        connection = Connection(BrokerURL.parse(url), ConnectOptions())
        await connection.open()
        try:
            peer = cls()
            link = await connection.link()
            peer.opened = await link.open_lane(peer, lambda error: None)
            peer.reply_to = (await link.declare_queue(Queue("", durable=False, exclusive=True))).encode()
            await peer.opened.consume(peer.reply_to.decode(), lambda: None, no_ack=True)
            yield peer
        finally:
            await connection.close()

    async def joins(self, pool: str) -> None:
        """Be a worker: consume the pool's queue, and take what all workers are asked, both without a word."""
        channel, exchange = self.opened._channel, f"amqproxy.{pool}"
        await channel.exchange_declare(exchange, exchange_type="fanout", durable=True)
        await channel.queue_bind(self.reply_to.decode(), exchange)
        await channel.queue_declare(pool, durable=True, auto_delete=True)
        await self.opened.consume(pool, lambda: None, no_ack=True)

    def publish(self, routing_key: str, body: bytes, *, exchange: str = "", **properties: Any) -> None:
        self.publish_encoded(routing_key, body, Properties(**properties).encode(), exchange=exchange)

    def publish_encoded(self, routing_key: str, body: bytes, properties: bytes, *, exchange: str = "") -> None:
        lane = self.opened.lane
        lane.publish(lane.destination(exchange.encode(), routing_key.encode()), properties, body)

    async def ask(self, routing_key: str, body: bytes, **properties: Any) -> Message:
        """Publish a request and wait for what comes back."""
        self.publish(routing_key, body, reply_to=self.reply_to, **properties)
        return await self.next_message()

    async def next_message(self) -> Message:
        async with asyncio.timeout(10):
            return await self.messages.get()

    def delivered(self, tag: int, redelivered: bool, header: bytes, body: bytes) -> None:
        self.messages.put_nowait(Message(Properties.decode(header), body))

    def returned(self, code: int, text: bytes, routing_key: bytes, header: bytes, body: bytes) -> None:
        self.returns.put_nowait(Message(Properties.decode(header), body))

    def too_large(self, tag: int, header: bytes, size: int) -> None:
        raise AssertionError("no answer in these tests is that large")

    def confirmed(self, tag: int, multiple: bool, accepted: bool) -> None:
        raise AssertionError("nothing here is published with confirms")
