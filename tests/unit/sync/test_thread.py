"""An event loop in a thread of its own: what it runs for others, and how it ends."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

import pytest

from amqproxy import Closed
from amqproxy.sync import thread as module
from amqproxy.sync.thread import CELL, LoopThread

PATIENCE = 30.0
WHO: contextvars.ContextVar[str] = contextvars.ContextVar("who", default="nobody")


class Farewell:
    def __init__(self, error: BaseException | None = None) -> None:
        self.times = 0
        self.error = error

    async def __call__(self) -> None:
        self.times += 1
        if self.error is not None:
            raise self.error


class Never:
    """Waits until it is cancelled, and tells of both."""

    def __init__(self) -> None:
        self.entered = threading.Event()
        self.cancelled = threading.Event()

    async def __call__(self) -> None:
        self.entered.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.cancelled.set()


@contextmanager
def started(farewell: Callable[[], Any] | None = None) -> Iterator[LoopThread]:
    loop = LoopThread("test", farewell or Farewell())
    try:
        yield loop
    finally:
        loop.end("the test is over")


@pytest.fixture
def loop() -> Iterator[LoopThread]:
    with started() as loop:
        yield loop


def run(loop: LoopThread, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    return loop.run(function, args, kwargs)


def in_thread(function: Callable[[], Any]) -> Future[Any]:
    """What becomes of a call in another thread."""
    outcome: Future[Any] = Future()

    def call() -> None:
        try:
            outcome.set_result(function())
        except BaseException as error:
            outcome.set_exception(error)

    threading.Thread(target=call).start()
    return outcome


def interrupt_when(event: threading.Event) -> None:
    """Let Ctrl-C come when something has happened; it goes to the main thread."""

    def interrupt() -> None:
        assert event.wait(PATIENCE)
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    threading.Thread(target=interrupt).start()


# What is run


def test_functions_and_coroutines_run_in_the_other_thread(loop: LoopThread) -> None:
    async def double(number: int, *, more: int = 0) -> tuple[int, int]:
        await asyncio.sleep(0)
        return 2 * number + more, threading.get_ident()

    here = threading.get_ident()
    assert run(loop, threading.get_ident) != here
    assert run(loop, double, 2, more=1) == (5, run(loop, threading.get_ident))


def test_an_error_arrives_as_it_is_with_both_sides_in_its_traceback(loop: LoopThread) -> None:
    error = LookupError("nothing there")

    async def innermost() -> None:
        raise error

    with pytest.raises(LookupError) as caught:
        run(loop, innermost)
    assert caught.value is error
    names = [frame.name for frame in traceback.extract_tb(error.__traceback__)]
    assert names[0] == "test_an_error_arrives_as_it_is_with_both_sides_in_its_traceback"
    assert names[-1] == "innermost"
    assert len(names) < 7


def test_what_was_run_and_raised_is_not_kept(loop: LoopThread) -> None:
    class Dropped(Exception):
        gone = threading.Event()

        def __del__(self) -> None:
            self.gone.set()

    async def fail() -> None:
        raise Dropped

    gc.disable()
    try:
        with pytest.raises(Dropped):
            run(loop, fail)
        run(loop, int)  # by now the event loop has let go of it, too
        assert Dropped.gone.is_set()
    finally:
        gc.enable()


def test_context_variables_of_the_calling_thread_are_seen(loop: LoopThread) -> None:
    async def who() -> str:
        return WHO.get()

    token = WHO.set("main")
    try:
        assert run(loop, who) == run(loop, WHO.get) == "main"
    finally:
        WHO.reset(token)
    assert run(loop, who) == "nobody"
    assert contextvars.Context().run(lambda: (WHO.set("other"), run(loop, who))[1]) == "other"


def test_answers_find_their_threads(loop: LoopThread) -> None:
    async def later(number: int) -> int:
        await asyncio.sleep(number % 3 / 1000)
        return number

    def many(first: int) -> list[int]:
        return [run(loop, later, first + n) for n in range(20)]

    with ThreadPoolExecutor(50) as threads:
        found = list(threads.map(many, range(0, 50_000, 1000)))
    assert found == [[first + n for n in range(20)] for first in range(0, 50_000, 1000)]


def test_dropped_work_is_done_and_nobody_waits_for_it(loop: LoopThread) -> None:
    done = threading.Event()

    async def work() -> None:
        done.set()
        raise LookupError("nobody is told")

    loop.drop(work)
    assert done.wait(PATIENCE)


def test_what_is_posted_in_a_row_runs_in_one_turn_each_in_its_context(loop: LoopThread) -> None:
    turns: list[list[str]] = []

    async def note() -> int:
        if not turns or turns[-1] is closed:
            turns.append([])
            asyncio.get_running_loop().call_soon(end_turn)
        turns[-1].append(WHO.get())
        return len(turns)

    closed: list[str] = []

    def end_turn() -> None:
        turns.append(closed)

    def as_who(who: str) -> Future[int]:
        WHO.set(who)
        return loop.post(note, (), {})

    promises = [contextvars.copy_context().run(as_who, f"{n}") for n in range(100)]
    numbers = [promise.result(PATIENCE) for promise in promises]
    assert numbers == sorted(numbers)
    assert [who for turn in turns for who in turn] == [f"{n}" for n in range(100)]
    assert len([turn for turn in turns if turn]) < 10


def test_what_is_posted_begins_ahead_of_what_is_run_later(loop: LoopThread, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "POST_SECONDS", PATIENCE)
    order: list[int] = []
    promises = [loop.post(order.append, (number,), {}) for number in range(3)]
    run(loop, asyncio.sleep, 0)
    assert order == [0, 1, 2]
    assert [promise.result(PATIENCE) for promise in promises] == [None] * 3
    monkeypatch.setattr(module, "POST_SECONDS", 0)
    assert loop.post(int, (), {}).result(PATIENCE) == 0


def test_promises_are_kept_or_broken(loop: LoopThread) -> None:
    error = LookupError("nothing there")

    async def fail() -> None:
        raise error

    assert loop.post(fail, (), {}).exception(PATIENCE) is error
    never = Never()
    broken = loop.post(never, (), {})
    assert never.entered.wait(PATIENCE)
    last = loop.post(never, (), {})
    loop.end("it is over")
    for promise in (broken, last):
        with pytest.raises(Closed, match="it is over"):
            promise.result(PATIENCE)
    with pytest.raises(Closed, match="it is over"):
        loop.post(int, (), {})


def test_a_promise_may_be_given_up(loop: LoopThread) -> None:
    never, unborn = Never(), Never()
    given_up = loop.post(never, (), {})
    assert never.entered.wait(PATIENCE)
    later = loop.post(unborn, (), {})
    for promise in (given_up, later):
        assert promise.cancel()
        assert promise.cancel(), "which does no harm"
        assert promise.cancelled()
    assert never.cancelled.wait(PATIENCE)
    over = loop.post(int, (), {})
    assert over.result(PATIENCE) == 0
    assert not over.cancel()
    assert not unborn.entered.is_set()


# Ctrl-C


def test_an_interrupt_ends_the_wait_cancels_the_work_and_leaves_the_rest(loop: LoopThread) -> None:
    never = Never()
    interrupt_when(never.entered)
    with pytest.raises(KeyboardInterrupt):
        run(loop, never)
    assert never.cancelled.wait(PATIENCE)
    assert run(loop, int) == 0


def test_an_interrupt_before_the_work_began_keeps_it_from_beginning(loop: LoopThread) -> None:
    held, noted, go = threading.Event(), threading.Event(), threading.Event()

    def hold() -> None:
        held.set()
        while len(loop._errands) < 2:
            time.sleep(0.001)
        noted.set()
        go.wait(PATIENCE)

    never = Never()
    holding = in_thread(lambda: run(loop, hold))
    assert held.wait(PATIENCE)
    interrupt_when(noted)
    with pytest.raises(KeyboardInterrupt):
        run(loop, never)
    go.set()
    holding.result(PATIENCE)
    assert run(loop, int) == 0
    assert not never.entered.is_set()
    assert not loop._errands


# Where an event loop runs


async def test_an_event_loop_is_not_held_up(loop: LoopThread) -> None:
    for use in (lambda: run(loop, int), lambda: loop.end("done")):
        with pytest.raises(RuntimeError, match=r"use `async with amqproxy\.connect\(\) as mq:` and await"):
            use()
    assert await asyncio.to_thread(run, loop, int) == 0
    refused: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    def callback() -> None:
        try:
            run(loop, int)
        except RuntimeError as error:
            refused.set_result(str(error))

    asyncio.get_running_loop().call_soon(callback)
    assert "amqproxy.sync waits" in await refused
    await asyncio.to_thread(loop.end, "done")


def test_nor_does_the_event_loop_wait_for_itself(loop: LoopThread) -> None:
    async def inside() -> None:
        run(loop, int)

    with pytest.raises(RuntimeError, match="hold up the event loop"):
        run(loop, inside)


async def test_the_cell_of_a_notebook_may_wait(loop: LoopThread) -> None:
    """As ipykernel does it: the cell is code that IPython's module calls, in a task of the kernel's event loop."""
    shell: dict[str, Any] = {"__name__": CELL}
    exec("async def run_code(cell): return await cell()\ndef run_plain(cell): return cell()", shell)

    async def cell() -> int:
        found: int = run(loop, int)
        return found

    async def cell_with_tasks() -> None:
        await asyncio.gather(cell(), cell())

    assert await shell["run_code"](cell) == 0
    assert shell["run_plain"](lambda: run(loop, int)) == 0
    with pytest.raises(RuntimeError, match="hold up the event loop"):
        await shell["run_code"](cell_with_tasks)


# The end


def test_the_end_runs_the_farewell_once_and_leaves_no_thread() -> None:
    farewell = Farewell()
    before = threading.active_count()
    with started(farewell) as loop:
        assert threading.active_count() == before + 1
        loop.end("it is over")
        assert (farewell.times, threading.active_count(), loop.ending) == (1, before, True)
        loop.end("it is over again")
        with pytest.raises(Closed, match=r"it is over$"):
            run(loop, int)
        loop.drop(farewell)
    assert farewell.times == 1


def test_what_the_farewell_raises_is_told_to_whoever_ended_it() -> None:
    with started(Farewell(LookupError("a keepsake"))) as loop:
        with pytest.raises(LookupError, match="a keepsake"):
            loop.end("done")
        loop.end("done")


def test_what_the_farewell_raises_is_logged_if_nobody_waits(caplog: pytest.LogCaptureFixture) -> None:
    with started(Farewell(LookupError("a keepsake"))) as loop:
        loop.end("done", wait=False)
    assert "test did not end in order" in caplog.text
    assert "a keepsake" in caplog.text


def test_who_still_waits_at_the_end_is_told_that_it_is_closed(loop: LoopThread) -> None:
    never = Never()
    waiting = in_thread(lambda: run(loop, never))
    assert never.entered.wait(PATIENCE)
    loop.end("it is over")
    with pytest.raises(Closed, match="it is over"):
        waiting.result(PATIENCE)
    assert never.cancelled.is_set()


def test_no_thread_is_left_waiting_however_close_to_the_end_it_came() -> None:
    def until_closed(loop: LoopThread) -> None:
        with pytest.raises(Closed):
            while True:
                run(loop, asyncio.sleep, 0)

    for _ in range(20):
        with started() as loop:
            callers = [in_thread(partial(until_closed, loop)) for _ in range(8)]
            run(loop, int)
        for caller in callers:
            caller.result(PATIENCE)


def test_work_that_refuses_to_be_cancelled_is_left_behind(
    loop: LoopThread, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "CANCEL_SECONDS", 0.05)
    entered = threading.Event()

    async def deaf() -> None:
        entered.set()
        while True:
            with suppress(asyncio.CancelledError):
                await asyncio.Event().wait()

    waiting = in_thread(lambda: run(loop, deaf))
    assert entered.wait(PATIENCE)
    loop.end("it is over")
    assert isinstance(waiting.exception(PATIENCE), Closed)
    del waiting
    gc.collect()
    assert "Task was destroyed but it is pending" in caplog.text


def test_an_interrupt_hurries_the_end() -> None:
    farewell = Never()
    with started(farewell) as loop:
        interrupt_when(farewell.entered)
        with pytest.raises(KeyboardInterrupt):
            loop.end("done")
        assert farewell.cancelled.wait(PATIENCE)


def test_an_event_loop_that_is_torn_down_tells_those_who_wait(caplog: pytest.LogCaptureFixture) -> None:
    def leave() -> None:
        asyncio.get_running_loop().call_soon(sys.exit, 3)

    farewell = Farewell()
    never = Never()
    with started(farewell) as loop:
        waiting = in_thread(lambda: run(loop, never))
        assert never.entered.wait(PATIENCE)
        run(loop, leave)
        with pytest.raises(Closed, match="event loop of this connection has ended"):
            waiting.result(PATIENCE)
        with pytest.raises(Closed):
            run(loop, int)
    assert farewell.times == 1
    assert "ends because of SystemExit(3)" in caplog.text


def test_asynchronous_generators_are_finished_at_the_end() -> None:
    finished = threading.Event()

    async def numbers() -> Any:
        try:
            yield 1
        finally:
            await asyncio.sleep(0)
            finished.set()

    async def first() -> Any:
        kept.append(numbers())
        return await anext(kept[0])

    kept: list[Any] = []
    with started() as loop:
        assert run(loop, first) == 1
    assert finished.is_set()


def test_a_thread_that_cannot_start_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    before = len(os.listdir("/dev/fd"))
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(RuntimeError, match="can't start new thread"):
            LoopThread("test", Farewell())
    gc.collect()
    assert len(os.listdir("/dev/fd")) == before
    assert not module._running
