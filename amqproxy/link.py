"""One AMQP connection: its channels, the lanes on them, what is declared on it, and how it is closed.

aio-pika and aiormq keep all that is cold: handshake, authentication, tuning, heartbeats, channels, declares. They read
and write through the transport of `dial.py`, which puts the fast lane between them and the socket.
"""

from __future__ import annotations

import asyncio
import itertools
import re
import secrets
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import aio_pika
from aiormq.abc import AbstractChannel, AbstractConnection

from .dial import MAX_FRAME_BYTES
from .errors import BrokerUnavailable, ConnectionLost
from .forgotten import retrieve
from .frames import HEADER_OVERHEAD, ContentSink
from .lane import Lane, LaneProtocol
from .reasons import cause, translate
from .signed import Checked, Signatures, SignedLane
from .signing import MOST_BYTES
from .topology import Binding, Exchange, NotFound, PoolTopology, Queue
from .url import BrokerURL

CLOSE_SECONDS = 5.0
"""How long closing may take before the socket is simply dropped."""
LINGER_SECONDS = 0.1
"""How long the last acknowledgements of a quorum queue may take; 0.02 s was enough for 400 of them."""
COLD_SECONDS = 15.0
"""How long the broker may take to answer a declare or the like; a blocked connection answers nothing."""

Result = TypeVar("Result")


class Limits:
    """What the broker takes, as far as it is known; shared by all links of a connection."""

    def __init__(self, body_bytes: int) -> None:
        self.body_bytes = body_bytes
        self._learned = False

    def told(self, whose: str = "") -> str:
        """The limit and where it is from, for the text of an error; `whose` goes before what an option sets."""
        if self._learned:
            return f"the broker takes {self.body_bytes} at most (its max_message_size)"
        return f"{whose}max_body_bytes is {self.body_bytes}"

    def learn(self, refusal: str) -> None:
        """Look for a limit in the broker's reason for closing a channel: it would close the next one too."""
        found = re.search(r"larger than (?:configured )?max size (\d+)", refusal)
        if found and int(found[1]) < self.body_bytes:
            self.body_bytes, self._learned = int(found[1]), True


class Link:
    """One AMQP connection, from its handshake to its end; a new one is made after each loss."""

    def __init__(
        self,
        amqp: aio_pika.Connection,
        protocol: LaneProtocol,
        url: BrokerURL,
        limits: Limits,
        signatures: Signatures | None = None,
    ) -> None:
        self.url = url
        self.loop = asyncio.get_running_loop()
        self.closed = protocol.lost
        """Done when the connection is gone, for whatever reason."""
        self._amqp = amqp
        self._aiormq: AbstractConnection = amqp.transport.connection  # type: ignore[union-attr]  # it is open
        self._protocol = protocol
        self.limits = limits
        self._signatures = signatures
        self._numbers: set[int] = set()
        """Those of channels that are being opened."""
        self._abandoned: set[asyncio.Task[None]] = set()
        """They close channels that nobody waits for any more."""
        self._last_number = 0
        self._topology: AbstractChannel | None = None
        self._topology_lock = asyncio.Lock()
        self._silent = False  # a good-bye was not answered
        protocol.splitter.max_frame_bytes = self._aiormq.connection_tune.frame_max or MAX_FRAME_BYTES
        self._aiormq.closing.add_done_callback(self._on_closed)

    def _on_closed(self, closing: asyncio.Future[Any]) -> None:
        cause(closing)  # takes the exception, which asyncio would otherwise report as never retrieved
        self._protocol.abort()

    @property
    def most_properties(self) -> int:
        """Bytes that the properties of a message may have, for they must fit into one frame, signed if that is wanted.

        Who publishes anew what came here must look: brokers give messages with more (frames.MAX_HEADER_BYTES).
        """
        return self._protocol.splitter.max_frame_bytes - HEADER_OVERHEAD - (MOST_BYTES if self._signatures else 0)

    @property
    def blocked(self) -> str | None:
        """Why the broker takes no messages from us now, in its own words; None if it does."""
        return self._protocol.blocked

    def watch(self, on_blocked: Callable[[str | None], None]) -> None:
        """Let `on_blocked` hear why the broker takes no messages any more, and None when it does again."""
        self._protocol.on_blocked = on_blocked

    def disown(self) -> None:
        """Let nothing that this process does get to the socket, which is another's."""
        self._protocol.disown()

    @property
    def loss(self) -> str:
        """Why the connection is gone, as far as anybody knows."""
        if self._protocol.breach is not None:
            return f"the broker broke the protocol ({self._protocol.breach})"
        if self._protocol.close_reason is not None:
            return f"the broker closed it ({self._protocol.close_reason})"
        if self._aiormq.is_connection_was_stuck:  # type: ignore[attr-defined]  # aiormq's only implementation
            return "the broker gave no more sign of life"
        return "the network or the broker cut it off"

    @property
    def _said(self) -> str | None:
        """Why the connection is gone, where that is known for certain."""
        breach = self._protocol.breach
        return self._protocol.close_reason if breach is None else f"the broker broke the protocol: {breach}"

    async def open_lane(
        self,
        sink: ContentSink,
        on_closed: Callable[[Exception], None],
        *,
        prefetch: int = 0,
        confirms: bool = False,
        unchecked: bool = False,
    ) -> OpenLane:
        """A channel of its own whose messages go to `sink`; `on_closed` is told once when the channel is gone.

        With `confirms` the broker confirms what is published on it, which `sink` is told as well. If it is `unchecked`,
        what is not signed comes in even where signatures are wanted.
        """
        channel = await self._channel()
        try:
            if prefetch:
                await self._cold(channel.basic_qos(prefetch_count=prefetch))
            if confirms:  # aiormq was told that there are none: it would count what it publishes itself
                await self._cold(channel.confirm_delivery())
        except asyncio.CancelledError:
            self._abandon(channel)
            raise
        lane = self._lane(channel.number, sink, unchecked)
        opened = OpenLane(self, channel, lane)

        def closed(closing: asyncio.Future[Any]) -> None:
            lane.forget()
            reason = translate(cause(closing), self.url, self._said)
            self.limits.learn(str(reason))
            on_closed(reason)

        channel.closing.add_done_callback(closed)
        return opened

    def _lane(self, channel: int, sink: ContentSink, unchecked: bool) -> Lane:
        if self._signatures is None:
            return Lane(self._protocol, channel, sink, self.limits.body_bytes)
        let_in = sink if unchecked else Checked(sink, self._signatures, self.limits.body_bytes)
        return SignedLane(self._protocol, channel, let_in, self.limits.body_bytes, self._signatures)

    async def declare_pool(self, topology: PoolTopology) -> None:
        """Declare the queue of a pool and bind it; TopologyConflict or AccessRefused name what is in the way."""
        if topology.dead is not None:
            await self.declare_queue(topology.dead)
        await self.declare_queue(topology.queue)
        for binding in topology.bindings:
            await self._bind(binding)

    async def _bind(self, binding: Binding) -> None:
        exchange = binding.exchange
        if not exchange.predeclared:
            await self._declare(lambda c: c.exchange_declare(exchange.name, exchange_type="direct", durable=True))
        await self._declare(
            lambda c: c.queue_bind(binding.queue.name, exchange=exchange.name, routing_key=binding.routing_key)
        )

    async def declare_queue(self, queue: Queue) -> str:
        """Declare a queue and return its name, which the broker chose if `queue` has none."""
        answer = await self._declare(
            lambda channel: channel.queue_declare(
                queue.name,
                durable=queue.durable,
                exclusive=queue.exclusive,
                auto_delete=queue.auto_delete,
                arguments=dict(queue.arguments),
            )
        )
        return str(answer.queue)

    async def declare_own_queue(self, queue: Queue, exchange: str) -> str:
        """Declare a queue that takes all that is published to a fanout exchange, which is declared too: its name."""
        await self._declare(lambda c: c.exchange_declare(exchange, exchange_type="fanout", durable=True))
        name = await self.declare_queue(queue)
        await self._declare(lambda c: c.queue_bind(name, exchange=exchange))
        return name

    async def queue_counts(self, name: str) -> tuple[int, int] | None:
        """Messages that wait in a queue and consumers on it, or None if there is no such queue."""
        try:
            answer = await self._declare(lambda channel: channel.queue_declare(name, passive=True))
        except NotFound:
            return None
        return int(answer.message_count or 0), int(answer.consumer_count or 0)

    async def purge_queue(self, name: str) -> int:
        """Drop all messages that wait in a queue, and say how many they were."""
        answer = await self._declare(lambda channel: channel.queue_purge(name))
        return int(answer.message_count or 0)

    async def exchange_exists(self, exchange: Exchange) -> bool:
        """Whether a message published to the exchange would find it."""
        try:
            await self._declare(lambda channel: channel.exchange_declare(exchange.name, passive=True))
        except NotFound:
            return False
        return True

    async def _declare(self, operation: Callable[[AbstractChannel], Awaitable[Any]]) -> Any:
        """Run one operation on the topology channel, which is opened anew when the last one ended it.

        A refused declare closes its channel (AMQP 0-9-1, 1.1), and so does a cancelled one: hence a channel of its own,
        and one operation at a time.
        """
        async with self._topology_lock:
            if self._topology is None or self._topology.is_closed:
                self._topology = await self._channel()
            return await self._cold(operation(self._topology))

    async def _channel(self) -> AbstractChannel:
        number = self._last_number = self._free_number()
        self._numbers.add(number)
        opening = asyncio.ensure_future(self._aiormq.channel(number, publisher_confirms=False))
        opening.add_done_callback(lambda opening: self._numbers.discard(number))
        try:
            return await self._cold(opening)
        except asyncio.CancelledError:
            opening.add_done_callback(self._opened_for_nobody)
            raise

    def _opened_for_nobody(self, opening: asyncio.Future[AbstractChannel]) -> None:
        if not opening.cancelled() and opening.exception() is None:
            self._abandon(opening.result())

    def _abandon(self, channel: AbstractChannel) -> None:
        """Close a channel whose opening nobody waits for any more: it would stay until the connection ends."""
        if not channel.is_closed and not self.closed.done():
            task = self.loop.create_task(self.take_leave(channel.close()))
            self._abandoned.add(task)
            task.add_done_callback(self._abandoned.discard)

    def _free_number(self) -> int:
        """The number of the next channel: aiormq itself counts beyond what was agreed, which ends the connection.

        One that was in use a moment ago is taken last: what is left of it may not be cleared away yet.
        """
        limit: int = self._aiormq.connection_tune.channel_max or 65535
        last = self._last_number
        for number in itertools.chain(range(last + 1, limit + 1), range(1, last + 1)):
            if number not in self._aiormq.channels and number not in self._numbers:
                return number
        raise BrokerUnavailable(
            f"all {limit} channels that {self.url.address} allows a connection are in use: each worker takes two, and "
            "each exchange that is published to one; raise channel_max there, or use another connection"
        )

    async def _cold(self, operation: Awaitable[Result]) -> Result:
        """Await aiormq, but not beyond the end of the connection nor for ever, and with its errors translated.

        Who is cancelled here leaves the operation to its end: aiormq would close the channel, with all that is on it.
        """
        task = asyncio.ensure_future(operation)
        task.add_done_callback(retrieve)
        await asyncio.wait((task, self.closed), return_when=asyncio.FIRST_COMPLETED, timeout=COLD_SECONDS)
        if not task.done() or task.cancelled():
            task.cancel()
            silent = "broke" if self.closed.done() else f"did not answer within {COLD_SECONDS:g} s"
            raise ConnectionLost(f"the connection to {self.url.address} {silent}", executed="no")
        try:
            return task.result()
        except Exception as error:
            raise translate(error, self.url, self._said) from error

    async def close(self) -> None:
        """Say good-bye as AMQP wants it, or drop the socket when that takes too long."""
        self._protocol.flush()
        try:
            await self.take_leave(self._aiormq.close())
        finally:
            self._protocol.abort()
            # aio-pika is told last, when it has nothing left to close: else it would wait for its callback, for ever
            # if it is cancelled twice meanwhile, as by us and by the end of asyncio.run().
            self._amqp.transport = None
            await self._amqp.close()

    async def take_leave(self, closing: Awaitable[Any]) -> None:
        """Await a good-bye of aiormq's, but not for long: whatever it raises, the thing is closed.

        A broker that has not answered one, as it does while it blocks the connection, is not waited for again. It runs
        in a task of its own because aiormq cancels those who wait for it when the connection breaks meanwhile.
        """
        task = asyncio.ensure_future(closing)
        task.add_done_callback(retrieve)
        done, _ = await asyncio.wait((task,), timeout=0 if self._silent else CLOSE_SECONDS)
        if not done:
            self._silent = True
            task.cancel()


class OpenLane:
    """A lane with the channel it runs on."""

    __slots__ = ("_channel", "_link", "_tag", "lane")

    def __init__(self, link: Link, channel: AbstractChannel, lane: Lane) -> None:
        self._link = link
        self._channel = channel
        self.lane = lane
        self._tag = ""

    async def consume(self, queue: str, on_cancelled: Callable[[], None], *, no_ack: bool) -> None:
        """Let the messages of a queue come in; `on_cancelled` is called when the broker ends that (queue deleted)."""
        link = self._link
        self._channel.on_consumer_cancel_callbacks.add(lambda frame: on_cancelled())
        self._tag = secrets.token_hex(8)
        await link._cold(self._channel.basic_consume(queue, _never, no_ack=no_ack, consumer_tag=self._tag))

    async def cancel(self) -> None:
        """Let no more messages come in; those that came already stay to be settled."""
        if self.lane.open and self._tag:
            await self._link.take_leave(self._channel.basic_cancel(self._tag))

    async def linger(self) -> None:
        """Leave the broker time for the last acknowledgements, where the queue is a quorum queue, before `close`.

        RabbitMQ has 32 of a channel on their way to such a queue and keeps the others back, and when the channel is
        closed it forgets those (its issue 10327): what they were for is delivered again.
        """
        if self.lane.open:
            self.lane.flush()
            await asyncio.sleep(LINGER_SECONDS)

    async def close(self) -> None:
        """Close the channel; what was not acknowledged on it goes back to its queue."""
        if self._link.closed.done() or self._channel.is_closed:
            return
        self.lane.flush()
        self.lane.close()
        await self._link.take_leave(self._channel.close())


async def _never(message: Any) -> None:
    """aiormq's callback for deliveries, which the lane takes before aiormq sees them."""
