"""The event loop behind a blocking connection: a thread of its own, which runs what other threads wait for."""

from __future__ import annotations

import asyncio
import atexit
import contextvars
import logging
import os
import selectors
import sys
import threading
from asyncio import _get_running_loop  # without the exception that get_running_loop() costs where there is none
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from types import FrameType
from typing import Any

from ..errors import Closed, said
from ..shown import shown

log = logging.getLogger("amqproxy.sync")

POST_SECONDS = 0.001
"""How long functions that nobody waits for yet may gather, so that they run in one turn of the event loop."""
CANCEL_SECONDS = 2.0
"""How long tasks that are cancelled at the end may take to end."""

CELL = "IPython.core.interactiveshell"
"""The module that runs the cells of a notebook."""


class LoopThread:
    """An event loop in a thread, until `end`, the end of the program, or a fork: a child has a mere copy of it."""

    def __init__(self, name: str, farewell: Callable[[], Awaitable[None]]) -> None:
        """Start the thread; `farewell` is the last that it runs."""
        self._selector = selectors.DefaultSelector()
        self._loop = asyncio.SelectorEventLoop(self._selector)
        self._asked = self._loop.create_future()
        """Done when the end was asked for."""
        self._farewell = farewell
        self._parting: asyncio.Task[None] | None = None
        """The farewell while it runs."""
        self._hurried = False
        self._begins = True
        """Whether what comes is still begun; else it is told that this has ended, when it has."""
        self._refusal: str | None = None
        """Why nothing runs here any more."""
        self._problem: BaseException | None = None
        self._reports = False
        """Whether a problem is logged, since nobody waits to be told."""
        self._errands: set[_Errand] = set()
        self._posts: deque[_Post] = deque()
        """Errands that were posted and not begun."""
        self._gathering = False
        """Whether the event loop knows of them."""
        self._ending = threading.Lock()
        """Taken for good by the first who asks for the end."""
        self._ended = threading.Event()
        self._pid = os.getpid()
        self.forked = False
        """True in a child of the process in which it was started."""
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        _watch(self)
        try:
            self._thread.start()
        except BaseException:
            _running.discard(self)
            self._loop.close()
            raise

    @property
    def ending(self) -> bool:
        """True once nothing new is run."""
        return self._refusal is not None

    def run(self, function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """Call a function in the event loop, await there what can be awaited, and return or raise what comes of it.

        The function sees the context variables of the calling thread. Who is interrupted while it waits (Ctrl-C) goes
        on at once; what it waited for is cancelled. Closed after the end; RuntimeError where an event loop runs.
        """
        if _get_running_loop() is not None:
            _refuse_unless_cell(sys._getframe())
        errand = _Errand(self, function, args, kwargs)
        self._errands.add(errand)
        if self._refusal is not None:  # looked at after the errand was noted: the end looks in the other order
            self._errands.discard(errand)
            raise Closed(self._refusal)
        try:
            self._tell(errand.start)
            errand.done.acquire()
        except BaseException:
            self._tell(errand.cancel)
            raise
        error, errand.error = errand.error, None
        if error is None:
            return errand.result
        try:
            raise self.translated(error)
        finally:
            del error, errand  # of which the error holds this frame

    def translated(self, error: BaseException) -> BaseException:
        """The error itself; but who did not cancel anything shall not hear of that."""
        if isinstance(error, asyncio.CancelledError) and self._refusal is not None:
            return Closed(self._refusal)
        return error

    def post(self, function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> Future[Any]:
        """The same without waiting for it: what will come of it. What is posted in a row runs in one turn of the loop.

        It is begun ahead of whatever is run later.
        """
        post = _Post(self, function, args, kwargs)
        self._errands.add(post)
        if self._refusal is not None:
            self._errands.discard(post)
            raise Closed(self._refusal)
        self._posts.append(post)
        if not self._gathering:  # else it is looked at later, by who will take what has gathered
            self._gathering = True
            self._tell(self._gather)
        return post.promise

    def _gather(self) -> None:
        self._loop.call_later(POST_SECONDS, self.begin_posts)

    def begin_posts(self) -> None:
        """Begin what was posted."""
        self._gathering = False
        with suppress(IndexError):
            while True:
                self._posts.popleft().start()

    def drop(self, function: Callable[[], Awaitable[Any]]) -> None:
        """Run this without waiting for it, whatever comes of it; may be called anywhere, by a finalizer too."""
        errand = _Errand(self, function, (), {})
        self._errands.add(errand)
        self._tell(errand.start)

    def _tell(self, callback: Callable[[], object]) -> None:
        """Let the event loop call this soon, unless it has ended."""
        with suppress(RuntimeError):  # a loop that is closed says so by this alone
            self._loop.call_soon_threadsafe(callback)

    # The end

    def end(self, reason: str, *, wait: bool = True) -> None:
        """Run the farewell and end the thread; who asks for it first is told what the farewell raised.

        An interrupt while waiting hurries it: what is left of the farewell is cancelled.
        """
        if self.forked:
            return
        if wait and _get_running_loop() is not None and not self._ended.is_set():
            _refuse_unless_cell(sys._getframe())
        first = False
        try:
            if first := self._ending.acquire(blocking=False):
                self._refusal = self._refusal or reason
                self._reports = not wait
            self._tell(self._ask)  # whoever was first: an interrupt may have kept that one from it
            if not wait:
                return
            self._ended.wait()
            self._thread.join()
        except BaseException:
            self._tell(self._hurry)
            raise
        if first and self._problem is not None:
            raise self._problem

    def _ask(self) -> None:
        if not self._asked.done():
            self._asked.set_result(None)

    def _hurry(self) -> None:
        self._hurried = True
        if self._parting is not None:
            self._parting.cancel()

    def _run(self) -> None:
        loop = self._loop
        try:
            loop.run_until_complete(self._asked)
        except BaseException as error:  # KeyboardInterrupt or SystemExit, which asyncio lets through whoever raised it
            log.error("the event loop of %s ends because of %r", self._thread.name, error)
        self._refusal = self._refusal or "the event loop of this connection has ended; connect again"
        for part in (self._part, self._wind_up):
            try:
                loop.run_until_complete(part())
            except BaseException as error:
                self._problem = self._problem or error
        for errand in list(self._errands):
            errand.error = errand.error or Closed(self._refusal)
            errand.settle()
        if self._problem is not None and self._reports:
            log.error("%s did not end in order", self._thread.name, exc_info=self._problem)
        _running.discard(self)
        loop.close()
        self._ended.set()

    async def _part(self) -> None:
        """Run the farewell, unless and until there is a hurry."""
        if self._hurried:
            return
        self._parting = asyncio.ensure_future(self._farewell())
        await asyncio.wait((self._parting,))
        if not self._parting.cancelled():
            self._parting.result()

    async def _wind_up(self) -> None:
        """Cancel what still runs, and leave behind what does not mind."""
        self._begins = False
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=CANCEL_SECONDS)
        await asyncio.wait_for(self._loop.shutdown_asyncgens(), CANCEL_SECONDS)

    # The fork

    def abandon(self) -> None:
        """Let go of all that belongs to the parent: its thread is not here, and its sockets are not ours to use.

        Whatever a finalizer still writes or unregisters in this process goes nowhere: the files that the event loop
        watches, and what it watches them with (epoll's table is the parent's own, not a copy), are replaced here.
        """
        self.forked = True
        self._refusal = (
            f"this connection was made in the process {self._pid}, from which this one was forked, and cannot be "
            "used here: connect in each process, with amqproxy.sync.connect()"
        )
        files = [int(key.fd) for key in (self._selector.get_map() or {}).values()]
        nowhere = os.open(os.devnull, os.O_RDWR)
        try:
            for file in (*files, *([self._selector.fileno()] if hasattr(self._selector, "fileno") else ())):
                os.dup2(nowhere, file, inheritable=False)
        finally:
            os.close(nowhere)


class _Errand:
    """One function to be run in the event loop while a thread waits."""

    __slots__ = ("_args", "_function", "_kwargs", "_task", "_thread", "done", "error", "result")

    def __init__(
        self, thread: LoopThread, function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> None:
        self._thread = thread
        self._function = function
        self._args = args
        self._kwargs = kwargs
        self._task: asyncio.Task[None] | None = None
        self.done = threading.Lock()
        """Held until it is settled."""
        self.done.acquire()
        self.result: Any = None
        self.error: BaseException | None = None

    def start(self) -> None:
        """Begin, in the context of whoever asked for it."""
        thread = self._thread
        if thread._posts:
            thread.begin_posts()
        if thread._begins:
            self._task = thread._loop.create_task(self._run())

    async def _run(self) -> None:
        try:
            result = self._function(*self._args, **self._kwargs)
            if is_awaited(type(result)):
                result = await (result.either() if hasattr(result, "either") else result)
            self.result = result
        except BaseException as error:
            self.error = error
        self.settle()  # here and not in a callback of the task: the waiting thread is woken a turn earlier

    def cancel(self) -> None:
        """Nobody waits any more."""
        if self._task is not None:
            self._task.cancel()
        self.settle()

    def settle(self) -> None:
        """Wake the thread that waits."""
        if self in self._thread._errands:
            self._thread._errands.discard(self)
            self.done.release()


class _Post(_Errand):
    """One function to be run in the event loop while nobody waits, or not yet."""

    __slots__ = ("_context", "promise")

    def __init__(
        self, thread: LoopThread, function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> None:
        super().__init__(thread, function, args, kwargs)
        self._context = contextvars.copy_context()
        self.promise = Promise(self._give_up)

    def _give_up(self) -> None:
        self._thread._tell(self.cancel)

    def start(self) -> None:
        """Begin, in the context of whoever posted it."""
        if self._thread._begins and not self.promise.cancelled():
            self._task = self._thread._loop.create_task(self._run(), context=self._context)

    def settle(self) -> None:
        """Fulfil the promise."""
        if self in self._thread._errands:
            self._thread._errands.discard(self)
            promise, error = self.promise, self.error
            if not promise.set_running_or_notify_cancel():
                return
            if error is None:
                promise.set_result(self.result)
            else:
                promise.set_exception(self._thread.translated(error))


class Promise(Future[Any]):
    """What will come of a call that nobody waits for yet; an error that nobody asks for is logged, as asyncio does."""

    def __init__(self, give_up: Callable[[], None]) -> None:
        super().__init__()
        self._cancel_call: Callable[[], None] | None = give_up
        self._asked = False

    def cancel(self) -> bool:
        """Give up the call, which is not sent, or whose answer is dropped; False if it has ended."""
        give_up, self._cancel_call = self._cancel_call, None  # at once: another thread may end it in between
        cancelled = super().cancel()
        if cancelled and give_up is not None:
            give_up()
        return cancelled

    def set_running_or_notify_cancel(self) -> bool:
        """As the base has it; then the call has ended."""
        self._cancel_call = None
        return super().set_running_or_notify_cancel()

    def result(self, timeout: float | None = None) -> Any:
        """The result of the call, waited for."""
        self._asked = True
        return super().result(timeout)

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """The error of the call, waited for."""
        self._asked = True
        return super().exception(timeout)

    def __del__(self) -> None:
        error = self._exception  # of the base, whose `exception()` waits
        if error is not None and not self._asked:
            log.error("a call failed, and nobody asked for its result: %s", shown(said(error)), exc_info=error)


def is_awaited(kind: type) -> bool:
    """Whether a call that returns this is waited for; what can be iterated step by step is left to whoever does."""
    return hasattr(kind, "__await__") and not hasattr(kind, "__anext__")


def _refuse_unless_cell(frame: FrameType | None) -> None:
    """RuntimeError if code that an event loop runs would wait here.

    The cell of a notebook is no such code, although an event loop runs below it: a cell holds it up anyway, while ours
    is in another thread. It is known by IPython's frame between the code and the event loop.
    """
    while frame is not None:
        module = frame.f_globals.get("__name__")
        if module == CELL:
            return
        if module == "asyncio.events":
            break
        frame = frame.f_back
    raise RuntimeError(
        "amqproxy.sync waits, and would hold up the event loop that runs in this thread: use "
        "`async with amqproxy.connect() as mq:` and await its calls, or let a thread wait (asyncio.to_thread)"
    )


_running: set[LoopThread] = set()
"""Those whose threads have not ended: a program that ends, and a process that is forked, must know them."""
_inherited: list[LoopThread] = []
"""Those of the parent, kept for good: what runs when they are collected is no business of this process."""
_watching = False


def _watch(thread: LoopThread) -> None:
    global _watching
    if not _watching:
        _watching = True
        atexit.register(_end_all)
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=_abandon_all)
    _running.add(thread)


def _end_all() -> None:
    """The program ends: drain and close, as their `close` would have done."""
    threads = list(_running)
    for thread in threads:
        thread.end("the program ends", wait=False)
    for thread in threads:
        thread.end("the program ends")


def _abandon_all() -> None:
    threads = list(_running)
    _running.clear()
    _inherited.extend(threads)
    for thread in threads:
        thread.abandon()
