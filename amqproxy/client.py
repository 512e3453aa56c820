"""The connection as users hold it: `async with amqproxy.connect() as mq:`."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Generator
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, overload

from .batch import Batches
from .broadcast import Broadcast
from .caller import Caller
from .contract import contract_of
from .embedded import shared
from .errors import Closed
from .forgotten import retrieve
from .options import ConnectOptions, changed
from .proxy import Proxy
from .publisher import Publishers
from .sender import Sender
from .server import Worker
from .states import State, States
from .tls import check_tls
from .url import DEFAULT_URL, BrokerURL

if TYPE_CHECKING:
    from .connection import Connection

Service = TypeVar("Service")
Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")

URL_VARIABLE = "AMQPROXY_URL"


def broker_url(url: str | None = None, ssl_context: Any = None) -> BrokerURL:
    """The broker to use: `url`, else AMQPROXY_URL, else guest at localhost.

    ValueError if it is no broker's URL, or TLS would not be what it and the context say.
    """
    broker = BrokerURL.parse(url or os.environ.get(URL_VARIABLE) or DEFAULT_URL)
    check_tls(ssl_context, broker)
    return broker


def connect(url: str | None = None, **options: Any) -> Client:
    """A connection to the broker: `async with amqproxy.connect() as mq:`, or `mq = await amqproxy.connect()`.

    Without a URL, AMQPROXY_URL is taken, else amqp://guest:guest@localhost/. The URL "embedded:" is that of a broker
    inside of this process, for all its threads and event loops and for nobody else: it comes with the first client and
    goes with the last, and all it holds is in memory. Several hosts of a cluster, "amqp://user:password@one,two:5673/v",
    are tried in turn. Options are those of `ConnectOptions`. ValueError if the URL is none, or what it names for TLS is
    not there; certificates are read again for each connection. Opening the connection raises BrokerUnavailable or
    AccessRefused; with `wait=True` it waits for a broker instead. Afterwards it is kept up until it is closed, or the
    broker refuses the credentials.
    """
    chosen = changed(ConnectOptions(), "connect", options)
    return Client(broker_url(url, chosen.ssl_context), chosen)


class Client:
    """Makes proxies, senders and workers that share one connection to the broker."""

    def __init__(self, url: BrokerURL, options: ConnectOptions) -> None:
        self.url: BrokerURL = url
        """Where the broker is; once this is open, also that of "embedded:", for clients of other kinds."""
        self._given = url
        self._options = options
        self._states = States(time.time)
        self._connecting: asyncio.Task[None] | None = None
        self._connection: Connection | None = None
        self._caller: Caller | None = None
        self._publishers: Publishers | None = None
        self._batches = Batches()
        self._workers: list[Worker] = []
        self._opened = False
        self._closed = False

    async def open(self) -> Client:
        """Connect; done by `async with` and by `await`."""
        if self._opened or self._closed:
            raise Closed(f"{self!r} was opened before; make another with amqproxy.connect()")
        self._opened = True
        try:
            if self._given.embedded:
                self.url = BrokerURL.parse(shared.join())
            connection = await self._connect()
        except BaseException:
            self._opened = False
            raise
        self._connection = connection
        self._caller = Caller(connection)
        self._publishers = Publishers(connection)
        return self

    async def _connect(self) -> Connection:
        from .connection import Connection  # imports aio-pika, which costs more than all the rest of us

        connection = Connection(self.url, self._options, self._states)
        connecting = self._connecting = asyncio.create_task(connection.open())
        connecting.add_done_callback(retrieve)
        try:
            await asyncio.wait((connecting,))
            if self._closed:
                raise Closed(f"{self!r} was closed while it was opened")
            connecting.result()
        except BaseException:
            connecting.cancel()
            await asyncio.wait((connecting,))
            if connection.current_link is not None:
                await connection.close()
            await self._leave()
            raise
        finally:
            self._connecting = None
        return connection

    async def _leave(self) -> None:
        """Let the broker inside of this process end, if nobody else uses it."""
        if self._given.embedded:
            await shared.leave()

    async def close(self) -> None:
        """Drain the workers, let calls that are still out fail, and close the connection; safe to call twice."""
        self._closed = True
        if self._connecting is not None:
            self._connecting.cancel()
        workers, self._workers = [worker for worker in self._workers if not worker.ended], []
        stopped = await asyncio.gather(*(worker.stop() for worker in workers), return_exceptions=True)
        caller, self._caller = self._caller, None
        publishers, self._publishers = self._publishers, None
        connection, self._connection = self._connection, None
        if caller is not None:
            await caller.finish()
            caller.close(Closed("the connection was closed while the call was out"))
        if publishers is not None:
            publishers.close(Closed("the connection was closed before the broker confirmed the message"))
        if connection is not None:
            try:
                await connection.close()
            finally:
                await self._leave()
        self._states.change("closed", reason="the connection was closed")
        for problem in stopped:
            if problem is not None:  # the served object could not be left, say: told when all else is closed
                raise problem

    def __await__(self) -> Generator[Any, None, Client]:
        return self.open().__await__()

    async def __aenter__(self) -> Client:
        return await self.open()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        state = "closed" if self._closed else "open" if self._connection else "not opened yet"
        return f"<amqproxy.Client {self.url} ({state})>"

    @property
    def state(self) -> State:
        """What the connection is doing now, and why."""
        return self._states.current

    def on_state(self, callback: Callable[[State], object]) -> Callable[[], None]:
        """Let `callback` be told of each change of `state`; what is returned, when it is called, ends that.

        It is called in the event loop, between other things, and so it must not take long. What it raises is logged.
        """
        return self._states.watch(callback)

    @overload
    def proxy(self, service: type[Service], /, *, name: str | None = None, **options: Any) -> Service: ...

    @overload
    def proxy(self, service: str, /, **options: Any) -> Any: ...

    @overload
    def proxy(
        self, service: Callable[Parameters, Awaitable[Result]], /, *, name: str | None = None, **options: Any
    ) -> Callable[Parameters, Awaitable[Result]]: ...

    def proxy(self, service: Any, /, *, name: str | None = None, **options: Any) -> Any:
        """A proxy of a service: of a class or function that describes it, or of a name.

        `name` is for a description that is served under another name than its own. Options are those of `CallOptions`:
        timeout (seconds), idempotent, exchange, routing_key, priority, …
        """
        return Proxy(self, service, name=name, **options)

    @overload
    def sender(
        self, service: type[Service], /, *, name: str | None = None, everyone: bool = False, **options: Any
    ) -> Service: ...

    @overload
    def sender(self, service: str, /, *, everyone: bool = False, **options: Any) -> Any: ...

    @overload
    def sender(
        self,
        service: Callable[Parameters, Awaitable[Result]],
        /,
        *,
        name: str | None = None,
        everyone: bool = False,
        **options: Any,
    ) -> Callable[Parameters, Awaitable[None]]: ...

    def sender(self, service: Any, /, *, name: str | None = None, everyone: bool = False, **options: Any) -> Any:
        """A sender to a service: `await mq.sender(Calculator).add(1, 2)` returns None when the broker has the message.

        One worker takes it, when it can; with `everyone` each that runs now gets it, and it is no error if none does.
        Options are those of `SendOptions`: timeout (seconds until it must be confirmed), delay, expires, priority, …
        """
        return Sender(self, service, name=name, everyone=everyone, **options)

    def broadcast(self, service: Any, /, *, name: str | None = None, **options: Any) -> Broadcast:
        """All workers of a service: `async for answer in mq.broadcast(Calculator).add(1, 2)`.

        Each worker that runs answers once: `answer.worker` and `answer.value` or `answer.error`. Awaited, a call gives
        the list of all, and `.first()` the first value. Without workers there are no answers, at once. Options are
        those of `BroadcastOptions`: timeout (seconds for which answers are waited for), expect, …
        """
        return Broadcast(self, service, name=name, **options)

    @overload
    def batch(
        self, service: type[Service], /, *, name: str | None = None, **options: Any
    ) -> AbstractAsyncContextManager[Service]: ...

    @overload
    def batch(self, service: str, /, **options: Any) -> AbstractAsyncContextManager[Any]: ...

    @overload
    def batch(
        self, service: Callable[Parameters, Awaitable[Result]], /, *, name: str | None = None, **options: Any
    ) -> AbstractAsyncContextManager[Callable[Parameters, Awaitable[Result]]]: ...

    def batch(self, service: Any, /, *, name: str | None = None, **options: Any) -> Any:
        """Calls that share messages: `async with mq.batch(Calculator) as b: sums = [b.add(n, n) for n in range(1000)]`.

        A method of `b` makes its call at once and returns a future, to be awaited inside of the block or behind it.
        Messages go out when they are full (`batch` calls, or 64 KiB), and at the end of each turn of the event loop.
        Leaving the block waits for all calls. Each tells its own error where it is awaited; one that nobody awaits is
        reported by asyncio, as that of a task is. When the block is left by an exception, its calls are cancelled.

        Options are those of `CallOptions`.
        """
        return self._batches.batch(self, service, name, options)

    def serve(self, target: Any, /, *, name: str | None = None, **options: Any) -> Worker:
        """A worker for a class, an instance or a function: `async with mq.serve(Calculator()):`.

        Options are those of `ServeOptions` and win over those given to `@amqproxy.serve`.
        """
        contract = contract_of(target, name=name, serving=options)
        worker = Worker(self._live_connection(), target, contract, contract.options)
        self._workers = [other for other in self._workers if not other.ended] + [worker]
        return worker

    def _live_connection(self) -> Connection:
        if self._connection is None:
            raise Closed(f"{self!r} cannot be used: open it with `async with amqproxy.connect() as mq:`")
        return self._connection

    @property
    def caller(self) -> Caller:
        """The half that sends requests, which proxies share; Closed if the connection is not open."""
        self._live_connection()
        assert self._caller is not None
        return self._caller

    @property
    def publishers(self) -> Publishers:
        """The half that sends one-way messages, which senders share; Closed if the connection is not open."""
        self._live_connection()
        assert self._publishers is not None
        return self._publishers
