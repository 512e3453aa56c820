"""The embedded broker inside of a program: how it is made, in a thread of its own, and shared as ``embedded:``."""

from __future__ import annotations

import asyncio
import json
import os
import threading
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from dataclasses import fields
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote

from .bounds import check_number
from .errors import BrokerUnavailable

if TYPE_CHECKING:
    import ssl

    from .broker import Broker, Server

Result = TypeVar("Result")

HOST = "127.0.0.1"
Definitions = Mapping[str, Any] | str | os.PathLike[str]
"""RabbitMQ's definitions as they were parsed, or the JSON file that holds them."""


def new_broker(
    *,
    users: Mapping[str, str] | None = None,
    vhosts: Iterable[str] = (),
    definitions: Definitions | None = None,
    **limits: Any,
) -> Broker:
    """A broker without a network, with what it is to begin with.

    As in RabbitMQ, the user guest is there only if no others are, and the virtual host / if the definitions name none.

    Args:
        users: Passwords by user name; each may do everything in every virtual host.
        vhosts: Virtual hosts, besides those there are.
        definitions: RabbitMQ's definitions; see broker/definitions.py.
        **limits: Those of `amqproxy.broker.Limits`, such as ``memory_bytes`` and ``heartbeat``.

    Raises:
        ValueError: The definitions cannot be loaded; with the JSON path to what is wrong. Or a limit is none.
        TypeError: There is no limit of that name.
        OSError: The file cannot be read.
    """
    from .broker import Broker, Limits
    from .broker.definitions import load

    if isinstance(vhosts, str):
        raise TypeError(f"vhosts is a list of names, not the text {vhosts!r}")
    if not all((*vhosts, *(users or {}))):
        raise ValueError("the name of a user or a virtual host is empty")
    known = [field.name for field in fields(Limits)]
    for name, value in limits.items():
        if name not in known:
            raise TypeError(f"a broker has no limit {name!r}; it has {', '.join(known)}")
        check_number(name, value)
    broker = Broker(Limits(**limits))
    loaded = read_definitions(definitions)
    if users or loaded.get("users"):
        broker.users.clear()
    if loaded.get("vhosts"):
        broker.vhosts.clear()
    load(broker, loaded)
    for vhost in vhosts:
        broker.add_vhost(vhost)
    for name, password in (users or {}).items():
        broker.add_user(name, password, tags=("administrator",))
    for name in users or (broker.users if not loaded.get("users") else ()):
        for vhost in broker.vhosts.keys() - broker.users[name].permissions.keys():
            broker.set_permissions(name, vhost)
    return broker


def read_definitions(definitions: Definitions | None) -> Mapping[str, Any]:
    """The definitions, read from their file if they are in one; ValueError if that holds no JSON object."""
    if definitions is None:
        return {}
    if isinstance(definitions, Mapping):
        return definitions
    with open(definitions, encoding="utf-8") as file:
        try:
            found = json.load(file)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{os.fspath(definitions)} is no JSON: {error}") from error
    if not isinstance(found, dict):
        raise ValueError(f"{os.fspath(definitions)} holds no JSON object, and so no definitions")
    return found


def url_of(server: Server, users: Mapping[str, str] | None = None) -> str:
    """Where clients find a broker: with the first of `users` or else guest, in / or else the first virtual host."""
    broker = server.broker
    name, password = next(iter((users or {"guest": "guest"}).items()))
    known = name in broker.users and broker.users[name].knows(password)
    credentials = f"{quote(name, safe='')}:{quote(password, safe='')}@" if known else ""
    path = "" if "/" in broker.vhosts else quote(next(iter(broker.vhosts)), safe="")
    scheme, _, address = server.url.partition("://")
    return f"{scheme}://{credentials}{address.rpartition('@')[2]}{path}"


class _Running:
    """A started broker: what its thread and the others share."""

    def __init__(self, broker: Broker) -> None:
        self.broker = broker
        self.started: Future[None] = Future()
        self.ended: Future[None] = Future()
        self.server: Server
        self.loop: asyncio.AbstractEventLoop
        self.end: asyncio.Future[bool]
        """Set to say that the broker is to end: orderly, or not."""
        self.thread: threading.Thread


class BrokerThread:
    """An embedded broker in a thread of its own, for programs without an event loop and for clients of all kinds.

    It listens on the loopback interface. Its methods may be called from any thread. Each `start` begins anew: all that
    the broker holds is in memory, and gone when it stops.

    Args:
        port: The port to listen on; a free one for 0. It stays the same for every start.
        tls: Speak TLS with this server-side context.
        **options: Those of `new_broker`: users, vhosts, definitions and limits.
    """

    host = HOST
    port: int
    """The AMQP port; 0 before the first start if it was not given."""

    def __init__(self, *, port: int = 0, tls: ssl.SSLContext | None = None, **options: Any) -> None:
        self.port = port
        self._tls = tls
        self._options = options
        self._url = ""
        self._running: _Running | None = None
        self._changing = threading.Lock()
        """Held by whoever starts it or ends it: of two threads that start it, one would leave a broker behind."""

    def __repr__(self) -> str:
        """Return the address and the state, as in ``<BrokerThread 127.0.0.1:25672 running>``."""
        return f"<BrokerThread {self.host}:{self.port} {'running' if self.running else 'stopped'}>"

    @property
    def url(self) -> str:
        """The AMQP URL, with the first of the users, or guest; empty before the first start."""
        return self._url

    @property
    def running(self) -> bool:
        """Whether it listens."""
        return self._running is not None

    def start(self) -> None:
        """Start the broker, again too, and return when it listens; a few milliseconds. Does nothing when it runs.

        Raises OSError if the port is taken, and what `new_broker` raises.
        """
        with self._changing:
            if self._running is not None:
                return
            running = _Running(new_broker(**self._options))
            running.thread = threading.Thread(target=self._run, args=(running,), name="amqproxy broker", daemon=True)
            running.thread.start()
            running.started.result()
            self.port = running.server.port
            self._url = url_of(running.server, self._options.get("users"))
            self._running = running

    def stop(self) -> None:
        """End the broker in order: connections end with 320 CONNECTION_FORCED. Nothing happens if it does not run."""
        if running := self._ask_to_end(orderly=True):
            running.thread.join()

    async def stop_and_wait(self) -> None:
        """As `stop`, without holding up the event loop meanwhile."""
        if running := self._ask_to_end(orderly=True):
            await asyncio.wrap_future(running.ended)
            running.thread.join()  # it has nothing left to do

    def kill(self) -> None:
        """End the broker as a crash does: connections break without a word."""
        if running := self._ask_to_end(orderly=False):
            running.thread.join()

    def _ask_to_end(self, *, orderly: bool) -> _Running | None:
        with self._changing:
            running, self._running = self._running, None
        if running is not None:
            running.loop.call_soon_threadsafe(running.end.set_result, orderly)
        return running

    def _run(self, running: _Running) -> None:
        try:
            asyncio.run(self._serve(running))
        except Exception as error:  # the event loop itself cannot be made, for want of files
            if running.started.done():
                raise
            running.started.set_exception(error)
        finally:
            running.ended.set_result(None)

    async def _serve(self, running: _Running) -> None:
        from .broker import Server

        running.loop = asyncio.get_running_loop()
        running.end = running.loop.create_future()
        try:
            running.server = Server(running.broker, host=self.host, port=self.port, tls=self._tls)
            await running.server.start()
        except Exception as error:
            running.started.set_exception(error)
            return
        running.started.set_result(None)
        if not await running.end:
            _abort_all(running.server)
            await asyncio.sleep(0)  # those connections are gone then, and nobody says good-bye on them
        await running.server.close()

    # What a test does with it. All of it happens in the broker's thread.

    def call(self, function: Callable[[Broker], Result]) -> Result:
        """Call a function with the broker, in the broker's thread; return what it returns, or raise what it raises."""
        running = self._live()
        answer: Future[Result] = Future()

        def run() -> None:
            try:
                answer.set_result(function(running.broker))
            except BaseException as error:
                answer.set_exception(error)
            running.broker.flush()

        running.loop.call_soon_threadsafe(run)
        return answer.result()

    def _live(self) -> _Running:
        if self._running is None:
            raise RuntimeError("this broker does not run; start() it first")
        return self._running

    def block(self, reason: str = "low on memory") -> None:
        """Listen no more to connections that publish, and tell those that want to know, until `unblock`."""
        self.call(lambda broker: broker.block(reason))

    def unblock(self) -> None:
        """Listen to all connections again."""
        self.call(lambda broker: broker.unblock())

    def drop_connections(self) -> None:
        """Break all connections as a fallen network does: without a word."""
        server = self._live().server
        self.call(lambda broker: _abort_all(server))

    def queues(self, vhost: str = "/") -> dict[str, int]:
        """The messages that wait for a consumer, by queue; KeyError without that virtual host."""
        return self.call(lambda broker: {name: len(queue.ready) for name, queue in broker.vhosts[vhost].queues.items()})

    def add_vhost(self, name: str) -> None:
        """Make a virtual host, unless it is there; users need permissions for it."""
        self.call(lambda broker: broker.add_vhost(name))

    def add_user(self, name: str, password: str, *, tags: tuple[str, ...] = ()) -> None:
        """Make a user, or give one another password; without permissions, it may not connect to any virtual host."""
        self.call(lambda broker: broker.add_user(name, password, tags=tags))

    def set_permissions(
        self, user: str, vhost: str = "/", configure: str = ".*", write: str = ".*", read: str = ".*"
    ) -> None:
        """Say on which names a user may do what: three regular expressions. KeyError without that user or host."""
        self.call(lambda broker: broker.set_permissions(user, vhost, configure, write, read))

    def load_definitions(self, definitions: Definitions) -> None:
        """Add what RabbitMQ's definitions hold; ValueError names the JSON path to what is wrong in them.

        What comes before the error is loaded then.
        """
        from .broker.definitions import load

        loaded = read_definitions(definitions)
        self.call(lambda broker: load(broker, loaded))


def _abort_all(server: Server) -> None:
    for connection in list(server.connections):
        connection.abort()


class Shared:
    """The broker behind ``embedded:``: one for all clients of this process, whatever their threads and event loops.

    It begins with the first client and ends with the last one, and all it holds with it.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._thread: BrokerThread | None = None
        self._clients = 0
        self._pid = 0

    def join(self) -> str:
        """One client more: the URL to connect to. BrokerUnavailable in a process that was forked from the broker's."""
        with self._lock:
            if self._thread is not None and self._pid != os.getpid():
                raise BrokerUnavailable(
                    f"embedded: is a broker inside of the process {self._pid}, from which this one was forked; between "
                    "processes use `amqproxy broker` or RabbitMQ, and its URL"
                )
            if self._thread is None:
                thread = BrokerThread()
                thread.start()
                self._thread, self._pid = thread, os.getpid()
            self._clients += 1
            return self._thread.url

    async def leave(self) -> None:
        """One client less."""
        with self._lock:
            self._clients -= 1
            if self._clients:
                return
            thread, self._thread = self._thread, None
        if thread is not None and self._pid == os.getpid():
            await thread.stop_and_wait()


shared: Shared = Shared()
