"""The broker on a TCP port: asyncio's half, as thin as it can be."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import ssl
import sys
from types import TracebackType
from typing import Self
from urllib.parse import quote

from ..url import is_loopback
from .broker import Broker
from .session import Session

log = logging.getLogger("amqproxy.broker")

READ_BYTES = 256 * 1024
BACKLOG = 1024
"""Connections that may wait to be accepted."""
ACCEPTED_AT_ONCE = 32
SPARE_DESCRIPTORS = 8 * ACCEPTED_AT_ONCE
"""Open files that are left to what a few turns accept beyond the limit, and to all else in the process."""


class Connection(asyncio.BufferedProtocol):
    """One client's socket."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._buffer = server.buffer
        self._transport: asyncio.Transport | None = None
        self._session: Session | None = None
        self._paused = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client has come."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        server, broker = self._server, self._server.broker
        if len(broker.sessions) >= broker.limits.max_connections or len(server.connections) >= server.room:
            log.warning("a connection was closed unanswered: there are %d already", len(broker.sessions))
            transport.abort()
            return
        self._session = broker.connection(self, _peer(transport))
        self._server.connections.add(self)

    def get_buffer(self, sizehint: int) -> memoryview:
        """Where to read to: one buffer serves all, as each read is copied out at once."""
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Bytes have come."""
        if self._session is not None:
            self._session.receive(bytes(self._buffer[:nbytes]))

    def eof_received(self) -> None:
        """The client says no more: it is gone."""

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone."""
        self._server.disconnected(self)
        if self._session is not None:
            self._session.lost()

    def pause_writing(self) -> None:
        """The client reads too slowly."""
        if self._session is not None:
            self._session.pause()

    def resume_writing(self) -> None:
        """The client has caught up."""
        if self._session is not None:
            self._session.resume()

    # What the session wants.

    def write(self, data: bytes) -> None:
        """Send bytes."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    def close(self) -> None:
        """Close once all is sent; a client that reads nothing is not waited for."""
        if self._transport is not None:
            if self._paused or self._transport.get_write_buffer_size():
                self._server.loop.call_later(self._server.broker.limits.closing_seconds, self._transport.abort)
            self._transport.close()

    def abort(self) -> None:
        """Close at once."""
        if self._transport is not None:
            self._transport.abort()

    def pause_reading(self) -> None:
        """Take nothing from the client for a while."""
        if self._transport is not None and not self._paused and not self._transport.is_closing():
            self._paused = True
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Take what the client sends."""
        if self._transport is not None and self._paused and not self._transport.is_closing():
            self._paused = False
            self._transport.resume_reading()


class Server:
    """Serves a broker on a port: ``async with Server(Broker()) as server: server.url``.

    It listens on the loopback interface unless told otherwise, and on a free port if `port` is 0. Any other address is
    for brokers whose users have passwords worth the name: ValueError while guest may come in with its own.
    """

    def __init__(
        self,
        broker: Broker | None = None,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.broker = broker or Broker()
        self.host = host
        self.port = port
        self.connections: set[Connection] = set()
        self.room = 0
        """Connections that fit into this process: where asyncio cannot accept one more, it logs that in a busy loop."""
        self.buffer = memoryview(bytearray(READ_BYTES))
        self._tls = tls
        self._listener: asyncio.Server | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._gone: asyncio.Future[None] | None = None
        users = self.broker.users
        if not is_loopback(host) and ("guest" in users or any(user.knows("guest") for user in users.values())):
            raise ValueError(
                f"{host} can be reached from other machines, and guest is not for those: give the broker users of its "
                "own instead, with passwords of their own (add_user, or a definitions file), or listen on 127.0.0.1"
            )

    @property
    def url(self) -> str:
        """Where clients find it; with guest's name and password while these are valid, else with neither."""
        users = self.broker.users
        credentials = "guest:guest@" if "guest" in users and users["guest"].knows("guest") else ""
        scheme = "amqps" if self._tls else "amqp"
        return f"{scheme}://{credentials}{_in_url(self.host)}:{self.port}/"

    async def start(self) -> None:
        """Listen; OSError if the port is taken, RuntimeError if another server has this broker."""
        self.loop = asyncio.get_running_loop()
        if self.broker.served:
            raise RuntimeError("this broker is served already: two ports are two brokers")
        self.room = _room()
        self._listener = await self.loop.create_server(
            lambda: Connection(self),
            self.host,
            self.port,
            ssl=self._tls,
            ssl_handshake_timeout=self.broker.limits.handshake_seconds if self._tls else None,
            backlog=ACCEPTED_AT_ONCE,
        )
        for one in self._listener.sockets:  # asyncio has one number for what it accepts in a turn and what may wait
            with socket.socket(fileno=os.dup(one.fileno())) as same:
                same.listen(BACKLOG)
        self.port = self._listener.sockets[0].getsockname()[1]
        self.broker.served = True
        self.broker.timers.wake = self._wake
        self._run_timers()

    def disconnected(self, connection: Connection) -> None:
        """A client's socket is closed."""
        self.connections.discard(connection)
        if not self.connections and self._gone is not None and not self._gone.done():
            self._gone.set_result(None)

    def _wake(self, when: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self.loop.call_later(max(0.0, when - self.broker.clock()), self._run_timers)

    def _run_timers(self) -> None:
        self._timer = None
        due = self.broker.run_timers()
        if due is not None:
            self._wake(due)

    async def close(self) -> None:
        """Listen no more, tell the clients, and close their connections; safe to call twice."""
        if self._listener is None:
            return
        listener, self._listener = self._listener, None
        listener.close()
        self.broker.close()
        await asyncio.sleep(0)  # what was written to the clients goes out before the sockets go
        for connection in list(self.connections):
            connection.close()
        try:
            if self.connections:
                self._gone = self.loop.create_future()
                await asyncio.wait((self._gone,), timeout=1)
        finally:  # cancelled too
            for connection in list(self.connections):
                connection.abort()
            self.broker.served = False
            self.broker.timers.wake = lambda when: None
            if self._timer is not None:
                self._timer.cancel()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()


def _room() -> int:
    """How many connections fit into the open files that this process may have."""
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return sys.maxsize
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return sys.maxsize if limit == resource.RLIM_INFINITY else max(limit - SPARE_DESCRIPTORS, limit // 2)


def _peer(transport: asyncio.Transport) -> str:
    name = transport.get_extra_info("peername")
    return f"{name[0]}:{name[1]}" if isinstance(name, tuple) else str(name or "")


def _in_url(host: str) -> str:
    return f"[{host}]" if ":" in host else quote(host)
