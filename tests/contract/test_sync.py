"""Code without an event loop calls and serves, with its peers in other processes: what `amqproxy.sync` promises."""

from __future__ import annotations

import asyncio
import gc
import hashlib
import os
import signal
import threading
import time
import traceback
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import CancelledError, ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import pytest

import amqproxy
from tests.blocking import Workshop
from tests.processes import PATIENCE, TESTS, Running, running

PROGRAM = str(TESTS / "blocking.py")


@asynccontextmanager
async def workshop(url: str, service: str) -> AsyncIterator[Running]:
    """A worker process."""
    command = ("-m", "amqproxy", "serve", "blocking:Workshop", "--name", service)
    async with running(*command, AMQPROXY_URL=url) as worker:
        await worker.says(f"serving {service}")
        yield worker


@pytest.fixture
async def worker(amqp_url: str, service: str) -> AsyncIterator[Running]:
    async with workshop(amqp_url, service) as worker:
        yield worker


Use = Callable[[Callable[[Any, Any], Any]], Any]


@pytest.fixture
def blocking(amqp_url: str, service: str, worker: Running) -> Use:
    """To be awaited with a function, which runs in a thread, as most code of this kind does."""

    def use(function: Callable[[Any, Any], Any]) -> Any:
        def run() -> Any:
            with amqproxy.sync.connect(amqp_url) as mq:
                return function(mq, mq.proxy(Workshop, name=service))

        return asyncio.wait_for(asyncio.to_thread(run), PATIENCE)

    return use


# Calls


async def test_calls_return_what_the_worker_answers(blocking: Use, service: str) -> None:
    def use(mq: Any, shop: Any) -> None:
        assert shop.add(1, y=2) == 3
        by_name = mq.proxy(service)
        assert by_name.add(1, 2) == 3
        assert by_name.divide(x=1, y=2) == 0.5
        assert amqproxy.options(by_name, idempotent=True).add(1, 2) == 3

    await blocking(use)


async def test_errors_are_those_of_the_async_side(blocking: Use, service: str) -> None:
    def use(mq: Any, shop: Any) -> None:
        with pytest.raises(ZeroDivisionError) as remote:
            shop.divide(1, 0)
        assert isinstance(remote.value, amqproxy.RemoteError)
        frames = [frame.filename for frame in traceback.extract_tb(remote.value.__traceback__)]
        assert frames[0] == __file__
        assert len(frames) < 7
        with pytest.raises(amqproxy.ContractError, match="missing a required argument"):
            shop.add()
        with pytest.raises(amqproxy.Unroutable):
            mq.proxy(f"{service}.nobody").add(1, 2)
        began = time.monotonic()
        with pytest.raises(amqproxy.CallTimeout, match=r"no answer within 0\.2 s"):
            amqproxy.options(shop, timeout=0.2).never()
        assert time.monotonic() - began < 2
        with pytest.raises(AttributeError, match="has no method 'subtract'"):
            shop.subtract(1, 2)
        assert shop.add(1, 2) == 3

    await blocking(use)


async def test_many_threads_share_one_connection(blocking: Use) -> None:
    def use(mq: Any, shop: Any) -> None:
        def calls(first: int) -> list[int]:
            return [shop.add(first, n) for n in range(20)]

        with ThreadPoolExecutor(50) as threads:
            found = list(threads.map(calls, range(50)))
        assert found == [[first + n for n in range(20)] for first in range(50)]

    await blocking(use)


async def test_a_plain_handler_calls_other_services(blocking: Use, amqp_url: str, service: str) -> None:
    async with workshop(amqp_url, f"{service}.other"):

        def use(mq: Any, shop: Any) -> None:
            assert shop.forward(f"{service}.other", 1, 2) == 3
            with ThreadPoolExecutor(8) as threads:
                assert list(threads.map(lambda n: shop.forward(f"{service}.other", n, n), range(20))) == [
                    2 * n for n in range(20)
                ]

        await blocking(use)


async def test_closing_fails_the_calls_of_other_threads_at_once(amqp_url: str, service: str, worker: Running) -> None:
    def connect() -> tuple[Any, Any, Any]:
        mq = amqproxy.sync.connect(amqp_url)
        shop = mq.proxy(Workshop, name=service)
        stream = shop.one_and_wait()
        assert next(stream) == 1
        return mq, shop.never, stream

    mq, never, stream = await asyncio.to_thread(connect)
    waiting = [asyncio.ensure_future(asyncio.to_thread(call)) for call in (never, never, stream.__next__)]
    await worker.says("waiting", times=3)
    began = time.monotonic()
    await asyncio.to_thread(mq.close)
    for error in await asyncio.gather(*waiting, return_exceptions=True):
        assert isinstance(error, (amqproxy.ConnectionLost, amqproxy.Closed)), error
    assert time.monotonic() - began < 5
    with pytest.raises(amqproxy.Closed):
        await asyncio.to_thread(never)


# Streams


async def test_streams_are_iterators(blocking: Use, worker: Running, service: str) -> None:
    def use(mq: Any, shop: Any) -> None:
        for proxy in (shop, mq.proxy(service)):  # the latter knows by the answer only that it is a stream
            assert list(proxy.count(1000)) == list(range(1000))
            assert list(proxy.count(0)) == []
            for number in proxy.count(1_000_000):
                if number == 5:
                    break
            with proxy.count(1_000_000) as numbers:
                assert next(numbers) == 0
            endless = proxy.count(1_000_000)
            assert next(endless) == 0
            endless.close()
            endless.close()
            assert next(endless, None) is None

    await blocking(use)
    await worker.says("counted", times=2 * 5)


@pytest.mark.parametrize("credit", [1, 2, 3, 10, 256])
async def test_no_more_items_are_ahead_than_the_credit_says(amqp_url: str, service: str, credit: int) -> None:
    class Eager:
        def __init__(self) -> None:
            self.yielded = 0

        async def count(self) -> AsyncIterator[int]:
            while True:
                self.yielded += 1
                yield self.yielded

    def use() -> None:
        eager = Eager()
        with amqproxy.sync.connect(amqp_url) as mq, mq.serve(eager, name=service, auto_delete=True):
            for number in mq.proxy(Eager, name=service, credit=credit).count():
                assert eager.yielded <= number + credit
                if number == 1000:
                    break

    await asyncio.to_thread(use)


async def test_a_stream_takes_what_can_be_iterated(blocking: Use) -> None:
    class Numbers:
        def __iter__(self) -> Iterator[int]:
            assert threading.current_thread().name == "amqproxy items"
            return iter(range(5))

    def use(mq: Any, shop: Any) -> None:
        for items in ((n for n in range(5)), [0, 1, 2, 3, 4], range(5), shop.count(5)):
            assert shop.total(items, scale=2) == 20
        assert shop.total(items=map(int, "12")) == 3
        with pytest.raises(amqproxy.ContractError, match="missing a required argument"):
            shop.total()
        with pytest.raises(LookupError, match="no more"):
            shop.total(failing())
        with pytest.raises(RuntimeError, match=r"the iterator raised SystemExit\(3\)"):
            shop.total(leaving())
        assert shop.total([]) == 0

    def failing() -> Iterator[int]:
        yield 1
        raise LookupError("no more")

    def leaving() -> Iterator[int]:
        yield 1
        raise SystemExit(3)

    await blocking(use)


async def test_streams_go_both_ways_at_once(blocking: Use) -> None:
    def use(mq: Any, shop: Any) -> None:
        answers: SimpleQueue[str] = SimpleQueue()

        def questions() -> Iterator[str]:
            yield "a"
            while len(answer := answers.get()) < 4:
                yield answer.lower() + "b"

        seen = []
        for answer in shop.chat(questions()):
            seen.append(answer)
            answers.put(answer)
        assert seen == ["A", "AB", "ABB", "ABBB"]

    await blocking(use)


async def test_blobs_come_from_files_and_go_into_them(blocking: Use, tmp_path: Path) -> None:
    data = os.urandom(3_000_000)
    path = tmp_path / "data"
    path.write_bytes(data)
    digest = hashlib.sha256(data).hexdigest()

    def use(mq: Any, shop: Any) -> None:
        with path.open("rb") as first, path.open("rb") as second, path.open("rb") as third:
            given = (first, amqproxy.Blob(second), path, amqproxy.Blob(path), data, iter([data, b""]))
            assert [shop.digest(each) for each in given] == [digest] * 6
            for used in (amqproxy.Blob(third), amqproxy.Blob(iter([data]))):
                assert shop.digest(used) == digest
                with pytest.raises(RuntimeError, match="was read already, and its bytes are gone"):
                    shop.digest(used)
        [gathered] = amqproxy.sync.gather([partial(shop.zeros, 1000)])
        assert gathered.read() == bytes(1000)
        assert shop.zeros(1_000_000).read() == bytes(1_000_000)
        assert b"".join(shop.zeros(1_000_000)) == bytes(1_000_000)
        assert shop.zeros(1_000_000).save(path) == 1_000_000
        assert path.read_bytes() == bytes(1_000_000)
        for chunk in shop.zeros(10_000_000):
            assert chunk
            break
        assert shop.add(1, 2) == 3

    await blocking(use)


# Broadcasts, one-way messages and middleware


async def test_a_broadcast_is_an_iterator_of_answers(blocking: Use, amqp_url: str, service: str) -> None:
    async with workshop(amqp_url, service):

        def use(mq: Any, shop: Any) -> None:
            everyone = mq.broadcast(Workshop, name=service)
            answers = list(everyone.add(1, 2))
            assert [answer.value for answer in answers] == [3, 3]
            assert len({answer.worker for answer in answers}) == 2
            answers = everyone.divide(1, 0)
            with pytest.raises(ZeroDivisionError):
                next(answers).result()
            assert answers.workers == 2
            assert everyone.add(1, 2).first() == 3
            assert len(list(amqproxy.options(everyone, expect=1).add(1, 2))) == 1
            assert list(mq.broadcast(f"{service}.nobody").add(1, 2)) == []

        await blocking(use)


async def test_a_sender_returns_when_the_broker_has_the_message(
    blocking: Use, worker: Running, amqp_url: str, service: str
) -> None:
    async with workshop(amqp_url, service) as other:

        def use(mq: Any, shop: Any) -> None:
            assert mq.sender(Workshop, name=service, everyone=True).note("to all") is None
            with pytest.raises(amqproxy.Unroutable):
                mq.sender(f"{service}.nobody").note("to none")
            with ThreadPoolExecutor(10) as threads:
                sender = amqproxy.options(mq.sender(Workshop, name=service), timeout=PATIENCE)
                assert list(threads.map(sender.note, map(str, range(100)))) == [None] * 100

        await blocking(use)
        await asyncio.gather(worker.says("to all"), other.says("to all"))


async def test_middleware_is_around_blocking_calls_too(amqp_url: str, service: str, worker: Running) -> None:
    calls = []

    async def note(call: amqproxy.OutgoingCall, next: amqproxy.Next) -> Any:
        calls.append(call.method)
        return await next(call)

    def use() -> None:
        with amqproxy.sync.connect(amqp_url, middleware=[note]) as mq:
            by_name = mq.proxy(service)
            assert by_name.add(1, 2) == 3
            assert list(by_name.count(2)) == [0, 1]
            shop = mq.proxy(Workshop, name=service)
            assert shop.add(1, 2) == 3
            assert list(shop.count(2)) == [0, 1]
            assert shop.total(iter([1, 2])) == 3

    await asyncio.to_thread(use)
    assert calls == ["add", "count", "add", "count", "total"]


# Many calls in few messages


async def test_calls_of_a_batch_are_promises(blocking: Use) -> None:
    def use(mq: Any, shop: Any) -> None:
        with mq.batch(Workshop, name=shop.name()) as batch:
            sums = [batch.add(n, y=n) for n in range(1000)]
            assert sums[0].result(PATIENCE) == 0  # also ahead of the end
            bad, wrong = batch.divide(1, 0), batch.add("x")
        assert all(promise.done() for promise in sums)
        assert [promise.result() for promise in sums] == [2 * n for n in range(1000)]
        with pytest.raises(ZeroDivisionError):
            bad.result()
        with pytest.raises(amqproxy.ContractError, match="Expected `int`"):
            wrong.result()
        with pytest.raises(amqproxy.Closed, match="takes no more calls"):
            batch.add(1, 2).result(PATIENCE)
        with mq.batch(shop.name()) as batch:
            assert batch.add(1, 2).result(PATIENCE) == 3

    await blocking(use)


async def test_a_call_of_a_batch_can_be_given_up(blocking: Use, worker: Running) -> None:
    runs = threading.Event()

    def use(mq: Any, shop: Any) -> None:
        with mq.batch(Workshop, name=shop.name()) as batch:
            never, unsent = batch.never(), batch.add(1)
            assert unsent.cancel()
            assert runs.wait(PATIENCE)
            assert never.cancel()
            assert batch.add(1).result(PATIENCE) == 1
        for given_up in (never, unsent):
            assert given_up.cancelled()
            with pytest.raises(CancelledError):
                given_up.result()

    using = asyncio.ensure_future(blocking(use))
    await worker.says("waiting")
    runs.set()
    await worker.says("cancelled")
    await using


async def test_what_nobody_asked_a_batch_for_is_logged(blocking: Use, caplog: pytest.LogCaptureFixture) -> None:
    def use(mq: Any, shop: Any) -> None:
        with mq.batch(Workshop, name=shop.name()) as batch:
            batch.add("x")
            asked = batch.add("y")
            batch.add(1)
        assert isinstance(asked.exception(), amqproxy.ContractError)

    await blocking(use)
    gc.collect()
    [record] = [record for record in caplog.records if record.name == "amqproxy.sync"]
    assert record.message.startswith("a call failed, and nobody asked for its result: Workshop.add")
    assert record.exc_info is not None
    assert isinstance(record.exc_info[1], amqproxy.ContractError)


async def test_many_calls_are_gathered(blocking: Use, amqp_url: str) -> None:
    def use(mq: Any, shop: Any) -> None:
        by_name = mq.proxy(shop.name())
        calls = [partial(each.add, n, n) for n in range(100) for each in (shop, by_name)]
        assert amqproxy.sync.gather(calls) == [2 * n for n in range(100) for _ in range(2)]
        assert amqproxy.sync.gather(partial(shop.add, n) for n in range(3)) == [0, 1, 2]
        assert amqproxy.sync.gather([]) == []
        assert amqproxy.sync.gather([partial(shop.total, iter([1, 2]), scale=2)]) == [6]
        with pytest.raises(ZeroDivisionError):
            amqproxy.sync.gather([partial(shop.add, 1), partial(shop.divide, 1, 0)])
        found = amqproxy.sync.gather([partial(shop.add, 1), partial(shop.divide, 1, 0)], return_exceptions=True)
        assert found[0] == 1
        assert isinstance(found[1], ZeroDivisionError)
        for no_call in (shop.add(1), partial(int), int):
            with pytest.raises(TypeError, match=r"write functools\.partial\(calc\.add, 1, 2\)"):
                amqproxy.sync.gather([no_call])
        with amqproxy.sync.connect(amqp_url) as other, pytest.raises(TypeError, match="of several"):
            amqproxy.sync.gather([partial(shop.add, 1), partial(other.proxy(Workshop).add, 1)])

    await blocking(use)


# Progress and time


async def test_progress_comes_in_a_loop_or_to_a_callback(blocking: Use) -> None:
    def use(mq: Any, shop: Any) -> None:
        for each in (shop, mq.proxy(shop.name())):
            watched = amqproxy.sync.progress(partial(each.train, 3))
            assert [update.done for update in watched][-1] == 3
            assert watched.result == "trained"
            seen: list[amqproxy.Progress] = []
            assert amqproxy.sync.progress(partial(each.train, 3), seen.append) == "trained"
            assert seen[-1].done == 3
            rows = list(amqproxy.sync.progress(partial(each.export, 3), seen.append))
            assert (rows, seen[-1].done) == ([0, 1, 2], 3)
            assert amqproxy.sync.track(partial(each.train, 3), "training") == "trained"
        assert list(amqproxy.sync.progress(shop.export(3), seen.append)) == [0, 1, 2]
        assert list(amqproxy.sync.track(shop.export(3))) == [0, 1, 2]
        for use in (amqproxy.sync.progress, amqproxy.sync.track):
            with pytest.raises(TypeError, match=r"write functools\.partial\(calc\.add, 1, 2\)"):
                use(shop.train(1))

    await blocking(use)


async def test_leaving_the_updates_cancels_the_call(blocking: Use, worker: Running) -> None:
    def use(mq: Any, shop: Any) -> None:
        for update in amqproxy.sync.progress(partial(shop.never)):
            assert update.note == "waiting"
            break

    await blocking(use)
    await worker.says("cancelled")


async def test_a_deadline_bounds_the_calls_of_its_block(blocking: Use) -> None:
    def use(mq: Any, shop: Any) -> None:
        with amqproxy.deadline(0.3) as within:
            assert 0 < shop.time_left() <= 0.3
            with pytest.raises(amqproxy.CallTimeout):
                shop.never()
            assert within.left == 0
            with pytest.raises(amqproxy.CallTimeout, match="no time is left"):
                shop.add(1)
        assert shop.time_left() > 1

    await blocking(use)


async def test_a_plain_handler_hands_its_deadline_on(blocking: Use) -> None:
    def use(mq: Any, shop: Any) -> None:
        left = amqproxy.options(shop, timeout=5).forwarded_time_left(shop.name())
        assert 0 < left <= 5

    await blocking(use)


# Serving


async def test_a_worker_is_a_context_manager(amqp_url: str, service: str) -> None:
    class Calculator:
        async def add(self, x: int, y: int) -> int:
            return x + y

        def subtract(self, x: int, y: int) -> int:
            return x - y

    def serve() -> None:
        with amqproxy.sync.connect(amqp_url) as mq:
            with mq.serve(Calculator(), name=service, auto_delete=True) as worker:
                serving.put(worker)
                worker.wait()
                assert worker.stopping
            assert worker.ended
            assert worker.answered == 2
            with pytest.raises(amqproxy.Unroutable):
                mq.proxy(service).add(1, 2)

    serving: SimpleQueue[Any] = SimpleQueue()
    server = asyncio.ensure_future(asyncio.to_thread(serve))
    worker = await asyncio.to_thread(serving.get)
    assert worker.contract.name == service
    async with amqproxy.connect(amqp_url) as mq:
        assert await mq.proxy(service).add(1, 2) == 3
        assert await mq.proxy(service).subtract(1, 2) == -1
    await asyncio.to_thread(worker.stop)
    await asyncio.wait_for(server, PATIENCE)


async def test_what_is_wrong_with_a_worker_is_told(amqp_url: str, service: str) -> None:
    class Nothing: ...

    def serve() -> None:
        with amqproxy.sync.connect(amqp_url) as mq:
            with pytest.raises(amqproxy.ContractError, match="no public methods"):
                mq.serve(Nothing())
            worker = mq.serve(Workshop(), name=service)
            with worker, pytest.raises(amqproxy.Closed, match="was started already"):
                worker.start()

    await asyncio.to_thread(serve)


def test_the_broker_inside_of_the_process_serves_without_an_event_loop() -> None:
    before = threading.active_count()
    with amqproxy.sync.connect("embedded:") as mq, mq.serve(Workshop()):
        shop = mq.proxy(Workshop)
        assert shop.add(1, 2) == 3
        assert list(shop.count(3)) == [0, 1, 2]
    assert threading.active_count() == before


def test_a_broker_that_is_not_there_is_told_and_no_thread_is_left() -> None:
    before = threading.active_count()
    with pytest.raises(amqproxy.BrokerUnavailable, match="no broker listens"):
        amqproxy.sync.connect("amqp://127.0.0.1:1/")
    with pytest.raises(ValueError, match="amqp"):
        amqproxy.sync.connect("http://127.0.0.1:1/")
    with pytest.raises(TypeError, match="connect has no option 'colour'"):
        amqproxy.sync.connect("embedded:", colour="red")
    deadline = time.monotonic() + PATIENCE
    while threading.active_count() > before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert threading.active_count() == before


# Programs


async def test_ctrl_c_ends_the_wait_and_not_the_connection(amqp_url: str, service: str, worker: Running) -> None:
    async with running(PROGRAM, "interrupted", amqp_url, service) as program:
        await worker.says("waiting")
        program.send(signal.SIGINT)
        await program.says("interrupted 3")
        await worker.says("cancelled")
        await program.says("item 1")
        await worker.says("waiting", times=2)
        program.send(signal.SIGINT)
        await program.says("interrupted 7")
        await worker.says("closed")
        assert await program.ends() == 0, program.heard


async def test_ctrl_c_ends_the_draining_too(amqp_url: str, service: str) -> None:
    async with (
        running(PROGRAM, "interrupted_at_the_end", amqp_url, service) as program,
        amqproxy.connect(amqp_url) as mq,
    ):
        await program.says("ready")
        call = asyncio.create_task(mq.proxy(service).never())
        await program.says("waiting")
        began = time.monotonic()
        while not await program.has_ended(within=0.2):
            program.send(signal.SIGINT)
        assert time.monotonic() - began < 10
        assert await program.ends() == -signal.SIGINT, program.heard
        call.cancel()
        await asyncio.wait((call,))


async def test_a_forked_process_is_told_and_does_no_harm(amqp_url: str, service: str, worker: Running) -> None:
    async with running(PROGRAM, "forked", amqp_url, service) as program:
        assert await program.ends() == 0, program.heard
        assert program.heard == "child exit\nchild _exit\nparent 7\n"


async def test_a_child_does_not_keep_the_connection_of_a_parent_that_died(amqp_url: str, service: str) -> None:
    async with (
        running(PROGRAM, "orphaned", amqp_url, service) as program,
        amqproxy.connect(amqp_url) as mq,
    ):
        await program.says("child")
        child = int(program.heard.split()[-1])
        try:
            shop = mq.proxy(service, timeout=0.5)
            assert await shop.add(1, 2) == 3
            program.send(signal.SIGKILL)
            async with asyncio.timeout(PATIENCE / 3):
                with pytest.raises(amqproxy.Unroutable):
                    while True:
                        with suppress(amqproxy.CallTimeout):  # it came while the broker did not know yet
                            await shop.add(1, 2)
            os.kill(child, 0)
        finally:
            os.kill(child, signal.SIGKILL)


async def test_a_program_that_ends_drains_what_it_did_not_close(amqp_url: str, service: str) -> None:
    async with (
        running(PROGRAM, "forgotten", amqp_url, service) as program,
        amqproxy.connect(amqp_url) as mq,
    ):
        await program.says("ready")
        assert await mq.proxy(service).answer() == "drained"
        assert await program.ends() == 0
        assert program.heard == "ready\nwaiting\n"


async def test_a_program_that_ends_waits_for_no_thread_that_waits(amqp_url: str, service: str, worker: Running) -> None:
    async with running(PROGRAM, "abandoned", amqp_url, service) as program:
        await worker.says("waiting")
        program.send(signal.SIGTERM)
        assert await program.ends() == 3, program.heard
        assert program.heard in ("", "thread: ConnectionLost\n", "thread: Closed\n")
