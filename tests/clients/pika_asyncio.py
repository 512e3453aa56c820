"""The scenarios with pika's AsyncioConnection, whose answers come to callbacks.

Usage: pika_asyncio.py URL PREFIX; prints what it saw, one scenario a line.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import pika
from pika.adapters.asyncio_connection import AsyncioConnection
from pika.channel import Channel
from pika.exceptions import ChannelClosed, ProbableAccessDeniedError, ProbableAuthenticationError

from tests.clients.scenarios import BIG, DEATH, died, report_async


class Opened:
    """A channel whose methods can be awaited; it is closed with the exception that `closed` has."""

    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        self.closed = asyncio.get_running_loop().create_future()
        channel.add_on_close_callback(lambda _, reason: self.closed.set_result(reason))

    async def call(self, method: str, *args: Any, **kwargs: Any) -> Any:
        """Call a method of the channel with `callback`, and wait for the answer or the end of the channel."""
        answer = asyncio.get_running_loop().create_future()
        getattr(self.channel, method)(*args, callback=answer.set_result, **kwargs)
        await asyncio.wait([answer, self.closed], return_when=asyncio.FIRST_COMPLETED)
        if not answer.done():
            raise self.closed.result()
        return answer.result().method

    async def queue(self, name: str = "", **arguments: Any) -> str:
        arguments = {f"x-{key.replace('_', '-')}": value for key, value in arguments.items()}
        return str((await self.call("queue_declare", name, exclusive=True, arguments=arguments)).queue)

    async def consume(self, queue: str, **options: Any) -> asyncio.Queue[Any]:
        messages: asyncio.Queue[Any] = asyncio.Queue()
        await self.call("basic_consume", queue, lambda _, *message: messages.put_nowait(message), **options)
        return messages

    async def get(self, queue: str) -> Any:
        """Take a message, unacknowledged: method, properties and body, or None."""
        got: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

        def on_empty(_: Any) -> None:
            got.set_result(None)

        self.channel.add_callback(on_empty, [pika.spec.Basic.GetEmpty])
        self.channel.basic_get(queue, lambda _, *message: got.set_result(message))
        return await got


async def connect(parameters: pika.Parameters) -> AsyncioConnection:
    connected = asyncio.get_running_loop().create_future()
    AsyncioConnection(
        parameters,
        on_open_callback=connected.set_result,
        on_open_error_callback=lambda _, error: connected.set_exception(error),
    )
    return await connected


class Scenarios:
    """One method a scenario: it is given a channel of its own, and returns what it saw."""

    def __init__(self, url: str, prefix: str, connection: AsyncioConnection) -> None:
        self.url = url
        self.prefix = prefix
        self.connection = connection

    def name(self, name: str) -> str:
        return f"{self.prefix}.{name}"

    async def open(self) -> Opened:
        channel = asyncio.get_running_loop().create_future()
        self.connection.channel(on_open_callback=channel.set_result)
        return Opened(await channel)

    async def topic(self) -> Any:
        opened = await self.open()
        await opened.call("exchange_declare", self.name("topic"), "topic", auto_delete=True)
        queue = await opened.queue()
        for key in ("log.*.error", "audit.#"):
            await opened.call("queue_bind", queue, self.name("topic"), key)
        messages = await opened.consume(queue, auto_ack=True)
        for key in ("log.db.error", "log.db.info", "log.error", "audit", "audit.a.b"):
            opened.channel.basic_publish(self.name("topic"), key, key.encode())
        return [(await messages.get())[2].decode() for _ in range(3)]

    async def mandatory(self) -> Any:
        opened = await self.open()
        returned = asyncio.get_running_loop().create_future()
        opened.channel.add_on_return_callback(lambda _, *message: returned.set_result(message))
        opened.channel.basic_publish("", self.name("nowhere"), b"lost", mandatory=True)
        method, _, body = await returned
        return [method.reply_code, method.reply_text, method.exchange, method.routing_key, body.decode()]

    async def reject_publish(self) -> Any:
        opened = await self.open()
        confirms: asyncio.Queue[Any] = asyncio.Queue()
        queue = await opened.queue(max_length=1, overflow="reject-publish")
        await opened.call("confirm_delivery", confirms.put_nowait)
        accepted = []
        for _ in range(2):
            opened.channel.basic_publish("", queue, b"")
            accepted.append((await confirms.get()).method.NAME == "Basic.Ack")
        return accepted

    async def prefetch(self) -> Any:
        opened = await self.open()
        queue = await opened.queue(self.name("prefetch"))
        for _ in range(5):
            opened.channel.basic_publish("", queue, b"")
        await opened.call("basic_qos", prefetch_count=2)
        messages = await opened.consume(queue)
        tags = [(await messages.get())[0].delivery_tag for _ in range(2)]
        waiting = (await opened.call("queue_declare", queue, passive=True)).message_count
        opened.channel.basic_ack(tags[-1], multiple=True)
        tags += [(await messages.get())[0].delivery_tag for _ in range(2)]
        opened.channel.basic_ack(tags[-1], multiple=True)
        return [waiting, (await messages.get())[0].delivery_tag]

    async def requeue(self) -> Any:
        opened = await self.open()
        queue = await opened.queue()
        opened.channel.basic_publish("", queue, b"again")
        messages = await opened.consume(queue)
        redelivered = []
        for answer in (opened.channel.basic_nack, opened.channel.basic_reject, opened.channel.basic_ack):
            method, _, _ = await messages.get()
            redelivered.append(method.redelivered)
            answer(method.delivery_tag)
        return redelivered

    async def get(self) -> Any:
        opened = await self.open()
        queue = await opened.queue()
        empty = await opened.get(queue) is None
        for body in (b"one", b"two"):
            opened.channel.basic_publish("", queue, body)
        method, _, body = await opened.get(queue)
        opened.channel.basic_ack(method.delivery_tag)
        return [empty, body.decode(), method.message_count, method.redelivered]

    async def dead_letter(self) -> Any:
        opened = await self.open()
        dead = await opened.queue()
        queue = await opened.queue(self.name("work"), dead_letter_exchange="", dead_letter_routing_key=dead)
        opened.channel.basic_publish("", queue, b"poison")
        method, _, _ = await (await opened.consume(queue)).get()
        opened.channel.basic_reject(method.delivery_tag, requeue=False)
        _, properties, body = await (await opened.consume(dead, auto_ack=True)).get()
        first = properties.headers["x-first-death-reason"]
        return [body.decode(), first, *died(properties.headers, *DEATH)]

    async def server_named(self) -> Any:
        return (await (await self.open()).queue())[:8]

    async def exclusive(self) -> Any:
        queue = await (await self.open()).queue(self.name("mine"))
        other = Scenarios(self.url, self.prefix, await connect(pika.URLParameters(self.url)))
        refused = await self.refusal(await other.open(), "queue_declare", queue, passive=True)
        other.connection.close()
        return refused

    async def cancel_notify(self) -> Any:
        opened = await self.open()
        queue = await opened.queue()
        cancelled = asyncio.get_running_loop().create_future()
        opened.channel.add_on_cancel_callback(lambda frame: cancelled.set_result(frame.method.consumer_tag))
        await opened.consume(queue, consumer_tag="observer")
        await (await self.open()).call("queue_delete", queue)
        return await cancelled == "observer"

    async def reply_to(self) -> Any:
        server, client = await self.open(), await self.open()
        queue = await server.queue()
        answers = await client.consume("amq.rabbitmq.reply-to", auto_ack=True)
        asking = pika.BasicProperties(reply_to="amq.rabbitmq.reply-to", correlation_id="7")
        client.channel.basic_publish("", queue, b"ping", asking)
        _, asked, body = await (await server.consume(queue, auto_ack=True)).get()
        server.channel.basic_publish("", asked.reply_to, body + b" pong " + asked.correlation_id.encode())
        return [(await answers.get())[2].decode()]

    async def transaction(self) -> Any:
        opened = await self.open()
        queue = await opened.queue()
        await opened.call("tx_select")
        counts = []
        for end in ("tx_rollback", "tx_commit"):
            opened.channel.basic_publish("", queue, b"")
            await opened.call(end)
            counts.append((await opened.call("queue_declare", queue, passive=True)).message_count)
        return counts

    async def missing_queue(self) -> Any:
        refused = await self.refusal(await self.open(), "queue_declare", self.name("no"), passive=True)
        return [*refused, (await self.open()).channel.is_open]

    async def unknown_tag(self) -> Any:
        opened = await self.open()
        opened.channel.basic_ack(99)
        reason = await opened.closed
        return [reason.reply_code, reason.reply_text]

    async def refusal(self, opened: Opened, method: str, *args: Any, **kwargs: Any) -> list[Any]:
        try:
            await opened.call(method, *args, **kwargs)
        except ChannelClosed as error:
            return [error.reply_code, error.reply_text]
        return []

    async def big_body(self) -> Any:
        opened = await self.open()
        queue = await opened.queue()
        messages = await opened.consume(queue, auto_ack=True)
        opened.channel.basic_publish("", queue, BIG)
        return (await messages.get())[2] == BIG

    async def wrong_password(self) -> Any:
        parameters = pika.URLParameters(self.url)
        parameters.credentials = pika.PlainCredentials("guest", "wrong")
        return await self.is_refused(parameters, ProbableAuthenticationError)

    async def missing_vhost(self) -> Any:
        parameters = pika.URLParameters(self.url)
        parameters.virtual_host = self.name("vhost")
        return await self.is_refused(parameters, ProbableAccessDeniedError)

    async def is_refused(self, parameters: pika.Parameters, error: type[Exception]) -> bool:
        try:
            await connect(parameters)
        except error:
            return True
        return False

    async def close(self) -> Any:
        closed = asyncio.get_running_loop().create_future()
        self.connection.add_on_close_callback(lambda _, reason: closed.set_result(reason.reply_code))
        self.connection.close()
        return await closed == 200


async def main(url: str, prefix: str) -> None:
    await report_async(Scenarios(url, prefix, await connect(pika.URLParameters(url))))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
