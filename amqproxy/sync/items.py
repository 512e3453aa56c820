"""What blocking code feeds to a stream, for the event loop: iterators that may take their time run in threads."""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from functools import partial
from typing import Any

from ..blob import CHUNK_BYTES, Blob
from ..threads import FromThread

_END = object()


class Items:
    """The items of an iterator, each taken when it is asked for, in a thread that is there for nothing else.

    Not in the event loop, which an iterator that takes its time would hold up. Nor in the thread that made the call: it
    waits for the answers, and an iterator may well wait for what that thread does with them (a chat). So an iterator
    sees the context variables of the thread that it was given in, and none of its thread locals.
    """

    def __init__(self, iterator: Iterator[Any]) -> None:
        self._iterator = _contained(iterator, contextvars.copy_context())

    def __aiter__(self) -> FromThread:
        return FromThread(_Threads(), self._iterator)


def unblocking(blob: Blob) -> Blob:
    """The same Blob, but that a file or an iterator that it is made of is read in a thread."""
    source: Any = blob._source
    if hasattr(source, "read"):
        iterator = iter(partial(source.read, CHUNK_BYTES), b"")
    elif hasattr(source, "__iter__") and not isinstance(source, (bytes, bytearray, memoryview, str)):
        iterator = iter(source)
    else:
        return blob
    blob._begin()  # which tells of one that was read before
    return Blob(Items(iterator))


def _contained(iterator: Iterator[Any], context: contextvars.Context) -> Iterator[Any]:
    try:
        while (item := context.run(next, iterator, _END)) is not _END:
            yield item
    except (SystemExit, KeyboardInterrupt) as error:  # which would end the event loop
        raise RuntimeError(f"the iterator raised {error!r}") from error
    finally:
        if hasattr(iterator, "close"):
            iterator.close()


class _Threads(Executor):
    """A thread for each function, which keeps no program from ending, as those of other executors do."""

    def submit(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Run it."""
        future: Future[Any] = Future()

        def run() -> None:
            try:
                future.set_result(function(*args, **kwargs))
            except BaseException as error:
                future.set_exception(error)

        threading.Thread(target=run, name="amqproxy items", daemon=True).start()
        return future
