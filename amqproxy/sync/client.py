"""What `amqproxy.sync.connect()` returns."""

from __future__ import annotations

import warnings
from types import TracebackType
from typing import Any

from .. import client
from .mirror import Mirror
from .thread import LoopThread

GONE = "the connection is closed; amqproxy.sync.connect() makes another"

SHOWN = {"state"}
HIDDEN = {"open", *(name for name, value in vars(client.Client).items() if isinstance(value, property))} - SHOWN
"""What is of no use here: opening, which is done, and what the views of the async side are made of."""


def connect(url: str | None = None, **options: Any) -> Client:
    """Connect to the broker, for code without an event loop: `with amqproxy.sync.connect() as mq:`, or `mq.close()`.

    URL and options are those of `amqproxy.connect`, and so is what comes back, but that nothing is awaited: calls wait
    for their answers, streams and broadcasts are iterators, workers are context managers. mypy cannot turn methods that
    are awaited into those that are not: it takes a proxy for Any.

    May be used by any number of threads at once. Raises BrokerUnavailable or AccessRefused, and RuntimeError where an
    event loop runs: there `await amqproxy.connect()` is what you want. A notebook's cell may call it.
    """
    return Client(client.connect(url, **options))


class Client(Mirror):
    """A connection for code without an event loop; it has all that `amqproxy.Client` has, such as proxy and serve.

    Everything runs in an event loop of its own, in a thread of its own. A process that is forked from this one cannot
    use it, and connects anew. A program that ends closes it, as far as it was not closed.
    """

    def __init__(self, target: client.Client) -> None:
        """Open `target`."""
        thread = LoopThread(f"amqproxy.sync {target.url}", target.close)
        self.__dict__.update(_target=target, _thread=thread)
        try:
            thread.run(target.open, (), {})
        except BaseException:
            thread.end(GONE, wait=False)
            raise

    @property
    def _client(self) -> Client:
        return self  # not an attribute, in which it would refer to itself, and stay until the next collection

    def __getattr__(self, name: str) -> Any:
        if name in HIDDEN:
            raise AttributeError(f"{name!r} is for event loops: make a proxy by mq.proxy(…), a sender by mq.sender(…)")
        return super().__getattr__(name)

    def __dir__(self) -> list[str]:
        return [name for name in super().__dir__() if name not in HIDDEN]

    def close(self) -> None:
        """Drain the workers, let calls that are still out in other threads fail, and close; safe to call twice.

        It does nothing in a process that was forked from the connection's own. Ctrl-C ends the draining.
        """
        self._thread.end(GONE)

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        thread: LoopThread | None = self.__dict__.get("_thread")
        if thread is not None and not thread.ending:
            warnings.warn(f"unclosed {self!r}", ResourceWarning, source=self, stacklevel=1)
            thread.end(GONE, wait=False)

    def __repr__(self) -> str:
        if self._thread.forked:
            return f"<amqproxy.sync.Client {self._target.url} (of another process)>"
        return repr(self._target).replace("amqproxy.Client", "amqproxy.sync.Client")
