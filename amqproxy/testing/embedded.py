"""The embedded broker for tests: a real broker within milliseconds, for any AMQP 0-9-1 client.

It behaves as RabbitMQ does, errors included, and holds all in memory. Each test can have one of its own:

    async def test_orders_are_counted() -> None:
        async with broker() as url, amqproxy.connect(url) as mq: ...

    async def test_sums() -> None:
        async with loopback(Calculator()) as calculator:
            assert await calculator.add(1, 2) == 3

    def test_with_pika() -> None:
        with broker_thread() as broker:
            connection = pika.BlockingConnection(pika.URLParameters(broker.url))
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from dataclasses import fields
from typing import Any, ParamSpec, TypeVar, overload

from ..client import connect
from ..embedded import BrokerThread, new_broker, url_of
from ..options import CallOptions, ServeOptions

Served = TypeVar("Served")
Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")

_SERVING, _CALLING = ({field.name for field in fields(each)} for each in (ServeOptions, CallOptions))
_CALLING.remove("middleware")  # what is tested is the handler; amqproxy.options gives the proxy some, too


@asynccontextmanager
async def broker(
    *, port: int = 0, tls: ssl.SSLContext | None = None, users: Mapping[str, str] | None = None, **options: Any
) -> AsyncIterator[str]:
    """An embedded broker in the running event loop: its URL. It ends with the block, and all it holds is gone.

    Args:
        port: The port to listen on, at the loopback interface; a free one for 0.
        tls: Speak TLS with this server-side context.
        users: Passwords by user name, in place of guest; the URL is that of the first.
        **options: ``definitions``, RabbitMQ's, as a dict or the name of a JSON file; ``vhosts``, names of virtual
            hosts; and the fields of `amqproxy.broker.Limits`, such as ``memory_bytes=1_000_000``.

    Raises:
        ValueError: The definitions cannot be loaded, or a limit is none.
        TypeError: There is no such option.
        OSError: The port is taken, or the definitions cannot be read.
    """
    from ..broker import Server

    made = new_broker(users=users, **options)
    async with Server(made, port=port, tls=tls) as server:
        yield url_of(server, users)


@contextmanager
def broker_thread(*, port: int = 0, tls: ssl.SSLContext | None = None, **options: Any) -> Iterator[BrokerThread]:
    """An embedded broker in a thread of its own: for tests without an event loop, and to be controlled from outside.

    Its `url`, and `block`, `drop_connections`, `stop`, `start` and more of `BrokerThread`, may be used from any thread.
    Arguments and errors are those of `broker`.
    """
    thread = BrokerThread(port=port, tls=tls, **options)
    thread.start()
    try:
        yield thread
    finally:
        thread.stop()


@overload
def loopback(
    target: type[Served], /, *, name: str | None = None, **options: Any
) -> AbstractAsyncContextManager[Served]: ...


@overload
def loopback(
    target: Callable[Parameters, Awaitable[Result]], /, *, name: str | None = None, **options: Any
) -> AbstractAsyncContextManager[Callable[Parameters, Awaitable[Result]]]: ...


@overload
def loopback(target: Served, /, *, name: str | None = None, **options: Any) -> AbstractAsyncContextManager[Served]: ...


@asynccontextmanager
async def loopback(target: Any, /, *, name: str | None = None, **options: Any) -> AsyncIterator[Any]:
    """A proxy of a class, an instance or a function that is served over a broker of its own, all in this event loop.

        async with loopback(Calculator(), timeout=2) as calculator:
            assert await calculator.add(1, 2) == 3

    The calls go the whole way, with all the checks of arguments and results, and errors come back as they would from
    another process. Options are those of `ServeOptions` and `CallOptions`; those that both have are given to both, but
    `middleware` is the worker's. At the end the worker drains, and the connection and the broker are closed.
    """
    unknown = options.keys() - _SERVING - _CALLING
    if unknown:
        raise TypeError(f"loopback has no option {min(unknown)!r}; it has {', '.join(sorted(_SERVING | _CALLING))}")
    serving = {option: value for option, value in options.items() if option in _SERVING}
    calling = {option: value for option, value in options.items() if option in _CALLING}
    async with broker() as url, connect(url) as mq, mq.serve(target, name=name, **serving):
        yield mq.proxy(target, name=name, **calling)
