"""The link to the broker: connect, reconnect with back-off, declare, open lanes, close. The only importer of aio-pika.

aio-pika and aiormq keep all that is cold: handshake, authentication, tuning, heartbeats, channels, declares. They read
and write through `_Transport`, which puts the fast lane between them and the socket.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import random
import re
import secrets
import sys
import time
import weakref
from collections.abc import Awaitable, Callable
from copy import copy
from typing import Any, TypeVar
from urllib.parse import quote, urlencode

import aio_pika
import aiormq
from aio_pika.abc import ConnectionParameter
from aiormq.abc import AbstractChannel, AbstractConnection
from aiormq.connection import TransportFactory
from yarl import URL

from .backoff import LONGEST_SECONDS, Spell, jitter, persist
from .errors import AccessRefused, AMQProxyError, BrokerUnavailable, Closed, ConnectionLost, TopologyConflict
from .forgotten import retrieve
from .frames import ContentSink
from .lane import Lane, LaneProtocol, LaneWriter
from .options import ConnectOptions
from .signed import Signatures, SignedLane
from .states import States
from .tls import tls_error, warn_if_unverified
from .topology import Binding, Exchange, PoolTopology, Queue
from .url import BrokerURL

log = logging.getLogger("amqproxy.connection")

CLOSE_SECONDS = 5.0
"""How long closing may take before the socket is simply dropped."""
COLD_SECONDS = 15.0
"""How long the broker may take to answer a declare or the like; a blocked connection answers nothing."""
_MAX_FRAME_BYTES = 1024 * 1024

Result = TypeVar("Result")


class _NotFound(TopologyConflict):
    """The broker has no queue or exchange of this name."""


class _Transport(TransportFactory):
    """Opens the socket for aiormq, TCP or TLS, with the lane's protocol on it."""

    def __init__(self, url: BrokerURL) -> None:
        self.url = url
        self.protocol: LaneProtocol | None = None

    async def create(
        self, url: URL, *, ssl_context_provider: Any = None, **options: Any
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(loop=loop)
        tls = await ssl_context_provider.get_context() if self.url.scheme == "amqps" else None
        transport, protocol = await loop.create_connection(
            lambda: LaneProtocol(reader, loop, _MAX_FRAME_BYTES), self.url.host, self.url.port, ssl=tls, **options
        )
        self.protocol = protocol
        return reader, LaneWriter(transport, protocol, reader, loop)


class _AMQP(aio_pika.Connection):
    """aio-pika's plain connection, which passes a transport factory on when it is named here."""

    PARAMETERS = (
        *aio_pika.Connection.PARAMETERS,
        ConnectionParameter(name="transport_factory", parser=lambda factory: factory, is_kwarg=True),
    )


class Limits:
    """What the broker takes, as far as it is known; shared by all links of a connection."""

    def __init__(self, body_bytes: int) -> None:
        self.body_bytes = body_bytes

    def learn(self, refusal: str) -> None:
        """Look for a limit in the broker's reason for closing a channel: it would close the next one too."""
        if found := re.search(r"larger than (?:configured )?max size (\d+)", refusal):
            self.body_bytes = min(self.body_bytes, int(found[1]))


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
        self._last_number = 0
        self._topology: AbstractChannel | None = None
        self._topology_lock = asyncio.Lock()
        self._silent = False  # a good-bye was not answered
        protocol.splitter.max_frame_bytes = self._aiormq.connection_tune.frame_max or _MAX_FRAME_BYTES
        self._aiormq.closing.add_done_callback(self._on_closed)

    def _on_closed(self, closing: asyncio.Future[Any]) -> None:
        _reason(closing)  # takes the exception, which asyncio would otherwise report as never retrieved
        self._protocol.abort()

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
        if self._protocol.close_reason is not None:
            return f"the broker closed it ({self._protocol.close_reason})"
        if self._aiormq.is_connection_was_stuck:  # type: ignore[attr-defined]  # aiormq's only implementation
            return "the broker gave no more sign of life"
        return "the network or the broker cut it off"

    async def open_lane(
        self, sink: ContentSink, on_closed: Callable[[Exception], None], *, prefetch: int = 0, confirms: bool = False
    ) -> OpenLane:
        """A channel of its own whose messages go to `sink`; `on_closed` is told once when the channel is gone.

        With `confirms` the broker confirms what is published on it, which `sink` is told as well.
        """
        channel = await self._channel()
        if prefetch:
            await self._cold(channel.basic_qos(prefetch_count=prefetch))
        if confirms:  # aiormq was told that there are none: it would count what it publishes itself
            await self._cold(channel.confirm_delivery())
        lane = self._lane(channel.number, sink)
        opened = OpenLane(self, channel, lane)

        def closed(closing: asyncio.Future[Any]) -> None:
            lane.forget()
            reason = translate(_reason(closing), self.url, self._protocol.close_reason)
            self.limits.learn(str(reason))
            on_closed(reason)

        channel.closing.add_done_callback(closed)
        return opened

    def _lane(self, channel: int, sink: ContentSink) -> Lane:
        if self._signatures is None:
            return Lane(self._protocol, channel, sink, self.limits.body_bytes)
        return SignedLane(self._protocol, channel, sink, self.limits.body_bytes, self._signatures)

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
        except _NotFound:
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
        except _NotFound:
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
        try:
            return await self._cold(self._aiormq.channel(number, publisher_confirms=False))
        finally:
            self._numbers.discard(number)

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
            raise translate(error, self.url, self._protocol.close_reason) from error

    async def close(self) -> None:
        """Say good-bye as AMQP wants it, or drop the socket when that takes too long."""
        self._protocol.flush()
        try:
            await self.take_leave(self._amqp.close())
        finally:
            self._protocol.abort()

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

    async def close(self) -> None:
        """Close the channel; what was not acknowledged on it goes back to its queue."""
        if self._link.closed.done() or self._channel.is_closed:
            return
        self.lane.flush()
        self.lane.close()
        await self._link.take_leave(self._channel.close())


async def _never(message: Any) -> None:
    """aiormq's callback for deliveries, which the lane takes before aiormq sees them."""


class Connection:
    """A link that is made again whenever it breaks, until it is closed."""

    def __init__(self, url: BrokerURL, options: ConnectOptions, states: States | None = None) -> None:
        self.url = url
        self.options = options
        self.limits = Limits(options.max_body_bytes)
        warn_if_unverified(options.ssl_context, url)
        self._signatures = None if options.signing is None else Signatures(options.signing)
        self.loop = asyncio.get_running_loop()
        self.states = states or States(time.time)
        """What it is doing, for whoever wants to know."""
        self._link: Link | None = None
        self._decided = asyncio.Event()
        self._burials: set[asyncio.Task[None]] = set()
        self._failure: AMQProxyError | None = None
        self._keeper: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Connect; BrokerUnavailable or AccessRefused if that fails, or if it is to wait for a broker the latter."""
        self.states.change("connecting")
        try:
            link = await (self._connect_at_last() if self.options.wait else self._connect(self.url.hosts))
        except BaseException as error:
            self.states.change("new", reason=str(error) or None)
            raise
        self._use(link)
        _watch(self)
        self._keeper = self.loop.create_task(self._keep(), name="amqproxy connection")

    @property
    def current_link(self) -> Link | None:
        """The link if there is one now."""
        return self._link

    async def link(self) -> Link:
        """The link, waited for while it is being made again; AccessRefused or Closed when it will not be."""
        while self._link is None and self._failure is None:
            self.check_loop()
            await self._decided.wait()
        if self._link is None:
            assert self._failure is not None
            raise copy(self._failure)  # which each who is told adds a traceback to
        self.check_loop()
        return self._link

    def check_loop(self) -> None:
        """Closed in an event loop to which this connection does not belong."""
        if asyncio.get_running_loop() is not self.loop:
            raise Closed(
                "the connection belongs to another event loop, and perhaps to another thread: make one in each, by "
                "`async with amqproxy.connect()`; for threads there is amqproxy.sync"
            )

    def disown(self) -> None:
        """This process was forked from the one whose connection it is."""
        link, self._link = self._link, None
        self._failure = Closed(
            "the connection belongs to the process from which this one was forked: connect in this one, too"
        )
        self.states.end(str(self._failure))
        if link is not None:
            link.disown()

    async def close(self) -> None:
        """Close the link for good; within a few seconds, whatever the broker does."""
        keeper, self._keeper = self._keeper, None
        if keeper is not None:
            keeper.cancel()
            await asyncio.wait((keeper,))
        link, self._link = self._link, None
        self._give_up(Closed("the connection was closed"))
        if link is not None:
            await link.close()

    def _use(self, link: Link) -> None:
        self._link = link
        self._decided.set()
        link.watch(lambda reason: self._blocked(link, reason))
        self._blocked(link, link.blocked)

    def _give_up(self, failure: AMQProxyError) -> None:
        self._failure = failure
        self._decided.set()
        self.states.change("closed", reason=str(failure))

    def _blocked(self, link: Link, reason: str | None) -> None:
        """The broker takes no messages, for this reason; or it does (again)."""
        address = link.url.address
        if reason is not None:
            log.warning("%s takes no messages for now (%s): what is to be sent waits", address, reason)
            self.states.change("blocked", host=address, reason=reason)
            return
        if self.states.current.name == "blocked":
            log.info("%s takes messages again", address)
        self.states.change("open", host=address)

    async def _keep(self) -> None:
        spell = Spell()
        try:
            while (link := self._link) is not None:
                began = self.loop.time()
                await asyncio.shield(link.closed)
                self._bury(link)
                lost = self.loop.time()
                spell.lasted(lost - began)
                log.warning("lost the connection to %s, connecting again: %s", link.url.address, link.loss)
                self._link = None
                self._decided.clear()
                self.states.change("reconnecting", host=link.url.address, reason=link.loss)
                await asyncio.sleep(jitter(spell.short))  # many may have lost it at the same moment
                self._use(again := await self._connect_at_last())
                log.info("connected to %s again, after %.1f s", again.url.address, self.loop.time() - lost)
        except AccessRefused as error:
            log.error("the connection is given up, and all that use it fail: %s", error)
            self._give_up(error)
        except Exception as error:  # a flaw of ours: those who wait for a link are to know that none will come
            log.exception("the connection to %s is given up", self.url.address)
            self._give_up(BrokerUnavailable(f"the connection to {self.url.address} was given up: {error!r}"))

    async def _connect_at_last(self) -> Link:
        """A link, however long it takes a broker to be there; AccessRefused if it does not want us."""

        def failed(error: BaseException, attempt: int, pause: float) -> None:
            reason = str(error).removesuffix(_START_ONE)  # who has a broker that is down does not want another
            log.warning("%s; attempt %d, the next in %.1f s", reason, attempt, pause)
            current = self.states.current
            self.states.change(current.name, host=current.host, attempt=attempt, reason=reason)

        return await persist(self._connect_anywhere, lambda error: isinstance(error, BrokerUnavailable), failed)

    async def _connect_anywhere(self) -> Link:
        """A link to any of the hosts: those that lost the same one are to find different others."""
        hosts = self.url.hosts
        start = random.randrange(len(hosts))  # noqa: S311  # no secret
        return await self._connect(hosts[start:] + hosts[:start])

    async def persist(self, operation: Callable[[], Awaitable[Result]], what: str) -> Result:
        """Try an operation until it succeeds, with back-off, as long as there is hope for a link."""

        def failed(error: BaseException, attempt: int, pause: float) -> None:
            log.error("%s failed: %s; next try in %.1f s", what, error, pause)

        return await persist(operation, self._may_mend, failed)

    async def on_link(self, operation: Callable[[Link], Awaitable[Result]]) -> Result:
        """What the operation returns on the first link that outlasts it."""
        tries = 0
        while True:
            link = await self.link()
            try:
                return await operation(link)
            except ConnectionLost as error:
                pause = min(LONGEST_SECONDS, 2.0**tries)
                done, _ = await asyncio.wait((link.closed,), timeout=pause)  # then there is another link to wait for
                tries = 0 if done else tries + 1
                if not done:
                    log.warning("trying again after %g s what failed: %s", pause, error)

    def _bury(self, link: Link) -> None:
        """Let aio-pika know that the connection is over, in the background: it would find out when it is collected."""
        burial = self.loop.create_task(link.close())
        self._burials.add(burial)
        burial.add_done_callback(self._burials.discard)

    def _may_mend(self, error: BaseException) -> bool:
        """Whether waiting may help: not if there will be no link, nor with a permission that is refused."""
        mendable = isinstance(error, AMQProxyError) and not isinstance(error, AccessRefused)
        return mendable and self._failure is None

    async def _connect(self, hosts: tuple[BrokerURL, ...]) -> Link:
        """A link to the first of these hosts that takes us, within the connect timeout, of which each has its share."""
        end = self.loop.time() + self.options.connect_timeout
        failures: list[BrokerUnavailable] = []
        for number, url in enumerate(hosts):
            share = max(0.0, end - self.loop.time()) / (len(hosts) - number)
            try:
                return await self._connect_to(url, share)
            except BrokerUnavailable as error:
                failures.append(error)
        if len(failures) == 1:
            raise failures[0]
        told = "; ".join(str(failure).removesuffix(_START_ONE) for failure in failures)
        raise BrokerUnavailable(f"none of {len(hosts)} hosts takes a connection: {told}") from failures[-1]

    async def _connect_to(self, url: BrokerURL, seconds: float) -> Link:
        transport = _Transport(url)
        amqp = _AMQP(
            _aiormq_url(url, self.options),
            ssl_context=self.options.ssl_context,
            client_properties={"connection_name": self.options.name or _program_name(), "product": "amqproxy"},
            transport_factory=transport,
        )
        try:
            async with asyncio.timeout(seconds):
                await amqp.connect()
        except BaseException as error:
            if transport.protocol is not None:
                transport.protocol.abort()
            await amqp.close()
            if not isinstance(error, Exception):
                raise
            said = transport.protocol.close_reason if transport.protocol is not None else None
            raise connect_error(error, said, url, round(seconds, 1)) from error
        assert transport.protocol is not None
        return Link(amqp, transport.protocol, url, self.limits, self._signatures)


_open: weakref.WeakSet[Connection] = weakref.WeakSet()
"""Those that a process which is forked now would inherit."""
_watching = False


def _watch(connection: Connection) -> None:
    global _watching
    if not _watching and hasattr(os, "register_at_fork"):
        _watching = True
        os.register_at_fork(after_in_child=_disown_all)
    _open.add(connection)


def _disown_all() -> None:
    for connection in list(_open):
        connection.disown()
    _open.clear()


def _program_name() -> str:
    return f"{os.path.basename(sys.argv[0]) or 'python'} {os.getpid()}"


def _aiormq_url(url: BrokerURL, options: ConnectOptions) -> URL:
    query = urlencode({"heartbeat": str(options.heartbeat), **dict(url.query)})
    user, password, path = (quote(part, safe="") for part in (url.user, url.password, url.virtual_host))
    return URL(f"{url.scheme}://{user}:{password}@{url.address}/{path}?{query}", encoded=True)


def _reason(closing: asyncio.Future[Any]) -> BaseException | None:
    return None if closing.cancelled() else closing.exception()


_START_ONE = ": start RabbitMQ there, or `amqproxy broker` for a try, or give another URL (AMQPROXY_URL)"


def connect_error(error: Exception, said: str | None, url: BrokerURL, timeout: float) -> AMQProxyError:
    """What a failed attempt to connect means, with the cure in the text; `said` is the broker's own reason."""
    text = said or _text(error)
    if (failed := tls_error(error, url)) is not None:
        return failed
    match error:
        case aiormq.exceptions.ProbableAuthenticationError() if url.external:
            return AccessRefused(f"{url.address} refused the certificate: the name in it is no user there ({text})")
        case aiormq.exceptions.ProbableAuthenticationError():
            return AccessRefused(f"{url.address} refused the user {url.user!r}: check user name and password ({text})")
        case aiormq.exceptions.AuthenticationError():
            return AccessRefused(
                f"{url.address} does not offer the way to log in that the URL asks for ({text}); auth=external needs a "
                "certificate (?certfile=, keyfile=), and a password needs PLAIN"
            )
        case _ if said is not None and re.search(r"limit \(\d+\) is reached|is down$", said):
            return BrokerUnavailable(f"{url.address} takes no connection now: {said}")
        case _ if said is not None and said.startswith(("530", "403")):
            return AccessRefused(
                f"{url.address} refused the virtual host {url.virtual_host!r} to {url.user!r} ({text})"
            )
        case TimeoutError():
            return BrokerUnavailable(
                f"{url.address} did not answer as an AMQP broker within {timeout:g} s; is RabbitMQ behind this port?"
            )
        case ConnectionRefusedError():
            return BrokerUnavailable(f"no broker listens at {url.address}{_START_ONE}")
    return BrokerUnavailable(f"cannot connect to {url.address}: {text}")


def translate(error: BaseException | None, url: BrokerURL, said: str | None = None) -> AMQProxyError:
    """aiormq's errors on an open connection, in our words; the broker's own text names the resource."""
    text = _text(error)
    match error:
        case AMQProxyError():
            return error
        case aiormq.exceptions.ChannelAccessRefused() | aiormq.exceptions.ProbableAuthenticationError():
            return AccessRefused(f"{url.address} refused the user {url.user!r}: {text}")
        case aiormq.exceptions.ChannelPreconditionFailed() | aiormq.exceptions.ChannelLockedResource():
            cure = "; use the same options, or delete what is there" if "inequivalent arg" in text else ""
            return TopologyConflict(f"{url.address} refused: {text}{cure}")
        case aiormq.exceptions.ChannelNotFoundEntity():
            return _NotFound(f"{url.address} does not have it: {text}")
    text = said or text
    return ConnectionLost(f"the connection to {url.address} broke" + (f": {text}" if text else ""))


def _text(error: BaseException | None) -> str:
    """The last argument of an aiormq error is the broker's text."""
    return str(error.args[-1] if isinstance(error, aiormq.exceptions.AMQPError) and error.args else error or "")
