"""The scenarios with aio-pika's connect_robust.

Usage: aio_pika_robust.py URL PREFIX; prints what it saw, one scenario a line.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable
from datetime import datetime
from typing import Any
from unittest.mock import patch

import aio_pika
from aio_pika.abc import (
    AbstractChannel,
    AbstractExchange,
    AbstractIncomingMessage,
    AbstractQueue,
    AbstractRobustConnection,
)
from aiormq.exceptions import (
    AMQPError,
    ChannelClosed,
    ChannelLockedResource,
    ChannelNotFoundEntity,
    ChannelPreconditionFailed,
    DeliveryError,
    InvalidFrameError,
    ProbableAuthenticationError,
    PublishError,
)
from yarl import URL

from tests.clients.scenarios import BIG, DEATH, HEADERS, PROPERTIES, died, report_async

CODES = {ChannelNotFoundEntity: 404, ChannelLockedResource: 405, ChannelPreconditionFailed: 406}


class Scenarios:
    """One method a scenario: it is given a channel of its own, and returns what it saw."""

    def __init__(self, url: str, prefix: str, connection: AbstractRobustConnection) -> None:
        self.url = url
        self.prefix = prefix
        self.connection = connection

    def name(self, name: str) -> str:
        return f"{self.prefix}.{name}"

    async def channel(self, **options: Any) -> AbstractChannel:
        return await self.connection.channel(**options)

    async def queue(self, channel: AbstractChannel, name: str = "", **arguments: Any) -> AbstractQueue:
        arguments = {f"x-{key.replace('_', '-')}": value for key, value in arguments.items()}
        return await channel.declare_queue(name and self.name(name), exclusive=True, arguments=arguments)

    async def exchange(self, channel: AbstractChannel, name: str, kind: str, **arguments: Any) -> AbstractExchange:
        return await channel.declare_exchange(self.name(name), kind, auto_delete=True, arguments=arguments)

    async def send(self, channel: AbstractChannel, queue: AbstractQueue, body: str = "", **properties: Any) -> Any:
        return await channel.default_exchange.publish(message(body, **properties), queue.name)

    async def bodies(self, queue: AbstractQueue) -> list[str]:
        """Take all that is in a queue."""
        got = []
        while (found := await queue.get(no_ack=True, fail=False)) is not None:
            got.append(found.body.decode())
        return got

    async def waiting(self, channel: AbstractChannel, queue: AbstractQueue) -> int | None:
        """Ask the broker, as a robust channel answers from memory, how many messages are ready."""
        underlay = await channel.get_underlay_channel()
        return (await underlay.queue_declare(queue.name, passive=True)).message_count

    async def topic(self) -> Any:
        channel = await self.channel()
        exchange, queue = await self.exchange(channel, "topic", "topic"), await self.queue(channel)
        for key in ("log.*.error", "audit.#"):
            await queue.bind(exchange, key)
        for key in ("log.db.error", "log.db.info", "log.error", "audit", "audit.a.b"):
            await exchange.publish(message(key), key, mandatory=False)
        return await self.bodies(queue)

    async def fanout(self) -> Any:
        channel = await self.channel()
        exchange = await self.exchange(channel, "fanout", "fanout")
        queues = [await self.queue(channel), await self.queue(channel)]
        for queue in queues:
            await queue.bind(exchange)
        await exchange.publish(message("news"), "any")
        return [await self.bodies(queue) for queue in queues]

    async def headers(self) -> Any:
        channel = await self.channel()
        exchange = await self.exchange(channel, "headers", "headers")
        queues = {"all": await self.queue(channel), "any": await self.queue(channel)}
        for match, queue in queues.items():
            await queue.bind(exchange, arguments={"x-match": match, "kind": "pdf", "pages": 2})
        await exchange.publish(message("both", headers={"kind": "pdf", "pages": 2}), "")
        await exchange.publish(message("one", headers={"kind": "pdf"}), "")
        await exchange.publish(message("none", headers={"kind": "png"}), "", mandatory=False)
        return {match: await self.bodies(queue) for match, queue in queues.items()}

    async def exchange_binding(self) -> Any:
        channel = await self.channel()
        source = await self.exchange(channel, "source", "fanout")
        sink = await self.exchange(channel, "sink", "direct")
        queue = await self.queue(channel)
        await queue.bind(sink, "key")
        await sink.bind(source)
        await source.publish(message("hop"), "key")
        return await self.bodies(queue)

    async def alternate_exchange(self) -> Any:
        channel = await self.channel()
        stray = await self.exchange(channel, "stray", "fanout")
        exchange = await self.exchange(channel, "strict", "direct", **{"alternate-exchange": stray.name})
        queue, other = await self.queue(channel), await self.queue(channel)
        await queue.bind(stray)
        await other.bind(exchange, "known")
        await exchange.publish(message("lost and found"), "unknown")
        return await self.bodies(queue)

    async def confirms(self) -> Any:
        channel = await self.channel()
        queue = await self.queue(channel)
        for number in range(3):
            await self.send(channel, queue, str(number))
        return await self.bodies(queue)

    async def mandatory(self) -> Any:
        channel = await self.channel(on_return_raises=True)
        try:
            await channel.default_exchange.publish(message("lost"), self.name("nowhere"))
        except PublishError as error:
            assert error.message is not None
            back = error.message.delivery
            code, text = getattr(back, "reply_code", None), getattr(back, "reply_text", None)
            return [code, text, error.message.exchange, error.message.routing_key, error.message.body.decode()]

    async def reject_publish(self) -> Any:
        channel = await self.channel()
        queue = await self.queue(channel, max_length=1, overflow="reject-publish")
        accepted = []
        for _ in range(2):
            try:
                await self.send(channel, queue)
                accepted.append(True)
            except DeliveryError:
                accepted.append(False)
        return accepted

    async def prefetch(self) -> Any:
        channel = await self.channel()
        queue = await self.queue(channel, "prefetch")
        for _ in range(5):
            await self.send(channel, queue)
        await channel.set_qos(prefetch_count=2)
        messages = await consumed(queue)
        await messages.get()
        second = await messages.get()
        waiting = await self.waiting(channel, queue)
        await second.ack(multiple=True)
        await messages.get()
        await (await messages.get()).ack(multiple=True)
        return [waiting, (await messages.get()).delivery_tag]

    async def requeue(self) -> Any:
        channel = await self.channel()
        queue = await self.queue(channel)
        await self.send(channel, queue, "again")
        messages = await consumed(queue)
        first = await messages.get()
        await first.nack()
        second = await messages.get()
        await second.reject(requeue=True)
        third = await messages.get()
        await third.ack()
        return [got.redelivered for got in (first, second, third)]

    async def get(self) -> Any:
        channel = await self.channel()
        queue = await self.queue(channel)
        empty = await queue.get(fail=False) is None
        for body in ("one", "two"):
            await self.send(channel, queue, body)
        got = await queue.get()
        await got.ack()
        return [empty, got.body.decode(), got.message_count, got.redelivered]

    async def purge_and_delete(self) -> Any:
        channel = await self.channel()
        queue = await self.queue(channel)
        for _ in range(3):
            await self.send(channel, queue)
        purged = await queue.purge()
        await self.send(channel, queue)
        return [purged.message_count, (await queue.delete(if_empty=False)).message_count]

    async def dead_letter(self) -> Any:
        channel = await self.channel()
        dead = await self.queue(channel)
        queue = await self.queue(channel, "work", dead_letter_exchange="", dead_letter_routing_key=dead.name)
        await self.send(channel, queue, "poison")
        await (await queue.get()).reject()
        got = await (await consumed(dead)).get()
        first = got.headers["x-first-death-reason"]
        return [got.body.decode(), first, *died(got.headers, *DEATH)]

    async def time_to_live(self) -> Any:
        channel = await self.channel()
        dead = await self.queue(channel)
        queue = await self.queue(
            channel, message_ttl=60_000, dead_letter_exchange="", dead_letter_routing_key=dead.name
        )
        await self.send(channel, queue, "old", expiration=0.02)
        got = await (await consumed(dead)).get()
        return [got.body.decode(), *died(got.headers, "reason", "original-expiration"), got.expiration]

    async def max_length(self) -> Any:
        channel = await self.channel()
        queue = await self.queue(channel, max_length=2)
        for number in range(3):
            await self.send(channel, queue, str(number))
        return await self.bodies(queue)

    async def priorities(self) -> Any:
        channel = await self.channel()
        queue = await self.queue(channel, max_priority=5)
        for priority in (1, 5, 3):
            await self.send(channel, queue, str(priority), priority=priority)
        return await self.bodies(queue)

    async def exclusive(self) -> Any:
        queue = await self.queue(await self.channel(), "mine")
        async with await aio_pika.connect(self.url) as other:
            channel = await other.channel()
            return await self.refusal(channel.declare_queue(queue.name, passive=True))

    async def reply_to(self) -> Any:
        server, client = await self.channel(), await self.channel()
        queue = await self.queue(server)
        answers = await consumed(await client.get_queue("amq.rabbitmq.reply-to"), no_ack=True)
        await self.send(client, queue, "ping", reply_to="amq.rabbitmq.reply-to", correlation_id="7")
        asked = await (await consumed(queue, no_ack=True)).get()
        answer = message(f"{asked.body.decode()} pong {asked.correlation_id}")
        await server.default_exchange.publish(answer, asked.reply_to or "")
        return [(await answers.get()).body.decode()]

    async def transaction(self) -> Any:
        channel = await self.channel(publisher_confirms=False)
        queue = await self.queue(channel)
        counts = []
        for end in ("rollback", "commit"):
            transaction = channel.transaction()
            await transaction.select()
            await self.send(channel, queue)
            await getattr(transaction, end)()
            counts.append(await self.waiting(channel, queue))
        return counts

    async def missing_queue(self) -> Any:
        refused = await self.refusal((await self.channel()).declare_queue(self.name("no"), passive=True))
        return [*refused, not (await self.channel()).is_closed]

    async def inequivalent(self) -> Any:
        await self.queue(await self.channel(), "odd", max_length=1)
        return await self.refusal(self.queue(await self.channel(), "odd", max_length=2))

    async def refusal(self, action: Awaitable[Any]) -> list[Any]:
        try:
            await action
        except ChannelClosed as error:
            return [CODES[type(error)], *error.args]
        return []

    async def properties(self) -> Any:
        channel = await self.channel()
        queue = await self.queue(channel)
        await self.send(channel, queue, headers=HEADERS, **{**PROPERTIES, "expiration": 60})
        got = await queue.get(no_ack=True)
        saw = {name: getattr(got, name) for name in PROPERTIES}
        assert isinstance(got.timestamp, datetime)
        assert isinstance(got.expiration, float)
        in_seconds = {"timestamp": int(got.timestamp.timestamp()), "expiration": f"{got.expiration * 1000:.0f}"}
        return [{**saw, **in_seconds}, got.headers]

    async def big_body(self) -> Any:
        channel = await self.channel()
        queue = await self.queue(channel)
        await channel.default_exchange.publish(aio_pika.Message(BIG), queue.name)
        return (await queue.get(no_ack=True)).body == BIG

    async def recovery(self) -> Any:
        """The client's own recovery brings back the exclusive queue and its consumer after the socket is lost."""
        writers: list[asyncio.StreamWriter] = []
        open_connection = asyncio.open_connection

        async def opened(*args: Any, **kwargs: Any) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
            reader, writer = await open_connection(*args, **kwargs)
            writers.append(writer)
            return reader, writer

        with patch("asyncio.open_connection", opened):
            robust = await aio_pika.connect_robust(self.url, reconnect_interval=0.1)
            recovered = asyncio.Event()
            robust.reconnect_callbacks.add(lambda *_: recovered.set())
            queue = await self.queue(await robust.channel(), "recovered")
            messages = await consumed(queue, no_ack=True)
            writers[0].transport.abort()
            await recovered.wait()
        async with robust:
            await self.send(await self.channel(), queue, "after")
            return (await messages.get()).body.decode()

    async def wrong_password(self) -> Any:
        return await self.is_refused(URL(self.url).with_password("wrong"), ProbableAuthenticationError)

    async def missing_vhost(self) -> Any:
        return await self.is_refused(URL(self.url).with_path(f"/{self.name('vhost')}"), InvalidFrameError)

    async def is_refused(self, url: URL, error: type[AMQPError]) -> bool:
        try:
            await aio_pika.connect(url)
        except error:
            return True
        return False

    async def close(self) -> Any:
        await self.connection.close()
        return self.connection.is_closed


def message(body: str, **properties: Any) -> aio_pika.Message:
    return aio_pika.Message(body.encode(), **properties)


async def consumed(queue: AbstractQueue, **options: Any) -> asyncio.Queue[AbstractIncomingMessage]:
    messages: asyncio.Queue[AbstractIncomingMessage] = asyncio.Queue()
    await queue.consume(messages.put, **options)
    return messages


async def main(url: str, prefix: str) -> None:
    await report_async(Scenarios(url, prefix, await aio_pika.connect_robust(url)))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
