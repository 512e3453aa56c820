"""How a connection to one host is opened: address, login, and a socket with the fast lane's protocol on it."""

from __future__ import annotations

import asyncio
import os
import ssl
import sys
from typing import Any
from urllib.parse import quote, urlencode

import aio_pika
from aio_pika.abc import ConnectionParameter
from aiormq.connection import TransportFactory
from yarl import URL

from .lane import LaneProtocol, LaneWriter
from .options import ConnectOptions
from .reasons import connect_error
from .tls import context_of
from .url import BrokerURL

MAX_FRAME_BYTES = 1024 * 1024
"""What a frame may have before the broker has said what it is to have."""


class _Transport(TransportFactory):
    """Opens the socket for aiormq, TCP or TLS, with the lane's protocol on it."""

    def __init__(self, url: BrokerURL, context: ssl.SSLContext | None) -> None:
        self.url = url
        self.context = context
        self.protocol: LaneProtocol | None = None

    async def create(
        self, url: URL, *, ssl_context_provider: object = None, **options: Any
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(loop=loop)
        tls = self.context
        if tls is None and self.url.scheme == "amqps":  # read again for each connection: certificates are renewed
            tls = await loop.run_in_executor(None, context_of, self.url)
        transport, protocol = await loop.create_connection(
            lambda: LaneProtocol(reader, loop, MAX_FRAME_BYTES), self.url.host, self.url.port, ssl=tls, **options
        )
        self.protocol = protocol
        return reader, LaneWriter(transport, protocol, reader, loop)


class _AMQP(aio_pika.Connection):
    """aio-pika's plain connection, which passes a transport factory on when it is named here."""

    PARAMETERS = (
        *aio_pika.Connection.PARAMETERS,
        ConnectionParameter(name="transport_factory", parser=lambda factory: factory, is_kwarg=True),
    )


async def dial(url: BrokerURL, options: ConnectOptions, seconds: float) -> tuple[aio_pika.Connection, LaneProtocol]:
    """An open connection to a host, and the protocol that reads and writes its socket.

    BrokerUnavailable if it takes longer than `seconds` or fails, AccessRefused if the broker does not want us.
    """
    transport = _Transport(url, options.ssl_context)
    amqp = _AMQP(
        _aiormq_url(url, options),
        client_properties={"connection_name": options.name or _program_name(), "product": "amqproxy"},
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
    return amqp, transport.protocol


def _program_name() -> str:
    return f"{os.path.basename(sys.argv[0]) or 'python'} {os.getpid()}"


def _aiormq_url(url: BrokerURL, options: ConnectOptions) -> URL:
    query = urlencode({"heartbeat": str(options.heartbeat), **dict(url.query)})
    user, password, path = (quote(part, safe="") for part in (url.user, url.password, url.virtual_host))
    return URL(f"{url.scheme}://{user}:{password}@{url.address}/{path}?{query}", encoded=True)
