"""Calls that all workers of a pool answer: in one process, in several, and from workers that are not ours."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest

import amqproxy
from amqproxy.poll import Poll
from amqproxy.tally import SILENT_SECONDS
from tests.contract.raw import Message, Raw
from tests.contract.relay import Relay
from tests.idl import kinds_pb2
from tests.polled import Polled
from tests.processes import Running, running


@pytest.fixture(autouse=True)
def quiet(caplog: pytest.LogCaptureFixture) -> None:
    """aiormq logs each lost connection as an error, in words that our own errors repeat."""
    caplog.set_level(logging.CRITICAL, "aiormq")


@amqproxy.message("com.example.Question")
@dataclass
class Question:
    text: str


class Voter:
    """One of several workers, which knows which one it is, and what became of its calls."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.asked = asyncio.Semaphore(0)
        self.stopped = asyncio.Semaphore(0)
        self.free = asyncio.Event()
        self.heard: list[Any] = []

    async def add(self, x: int, y: int = 0) -> int:
        return self.number + x + y

    async def divide(self, x: int) -> float:
        return x / self.number

    async def ask(self, question: Question) -> str:
        return f"{self.number}: {question.text}"

    async def plain(self, message: kinds_pb2.Plain) -> kinds_pb2.Plain:
        return kinds_pb2.Plain(number=message.number + self.number)

    async def wait(self, quick: list[int]) -> int:
        """Answer at once, or when it is free."""
        self.asked.release()
        if self.number not in quick:
            try:
                await self.free.wait()
            finally:
                self.stopped.release()
        return self.number

    def block(self) -> int:
        """The same in a thread, which looks for its end itself."""
        call = amqproxy.current()
        self.asked.release()
        while not call.cancelled and not self.free.is_set():
            pass
        self.stopped.release()
        return self.number

    async def count(self, to: int) -> AsyncIterator[int]:
        self.asked.release()
        try:
            for number in range(to):
                yield self.number * 100 + number
            if to > 10:
                await self.free.wait()
        finally:
            self.stopped.release()

    def tally(self, to: int) -> Iterator[int]:
        try:
            yield from range(to)
            if to > 10:
                raise LookupError("too far")
        finally:
            self.stopped.release()

    async def file(self, size: int) -> amqproxy.Blob:
        return amqproxy.Blob(bytes([self.number]) * size)

    async def feed(self, numbers: AsyncIterator[int]) -> int:
        return sum([number async for number in numbers])

    async def note(self, text: str) -> None:
        self.heard.append((text, amqproxy.current().properties))
        self.asked.release()

    async def left(self) -> float | None:
        return amqproxy.current().time_left


async def soon(semaphore: asyncio.Semaphore) -> None:
    """Wait for what must happen within a second."""
    async with asyncio.timeout(1):
        await semaphore.acquire()


@asynccontextmanager
async def pool(mq: amqproxy.Client, service: str, size: int, **options: Any) -> AsyncIterator[list[Voter]]:
    """So many workers, on one connection, numbered from 0."""
    voters = [Voter(number) for number in range(size)]
    async with AsyncExitStack() as stack:
        for voter in voters:
            await stack.enter_async_context(mq.serve(voter, name=service, auto_delete=True, **options))
        yield voters


@asynccontextmanager
async def processes(url: str, service: str, size: int) -> AsyncIterator[list[Running]]:
    async with AsyncExitStack() as stack:
        workers = [await stack.enter_async_context(running("polled.py", url, service)) for _ in range(size)]
        for worker in workers:
            await worker.says("serving")
        yield workers


def nothing_is_left(mq: amqproxy.Client) -> bool:
    lines = mq.caller._lines._lines.values()
    return not any(line.conversations or len(line.calls) for line in lines)


def values(answers: list[amqproxy.WorkerAnswer[Any]]) -> list[Any]:
    return sorted(answer.result() for answer in answers)


@pytest.fixture
def broadcast(mq: amqproxy.Client, service: str) -> Any:
    return mq.broadcast(Voter, name=service)


async def test_every_worker_answers_once(mq: amqproxy.Client, service: str, broadcast: Any) -> None:
    async with pool(mq, service, 3):
        answers = broadcast.add(10, y=5)
        seen = [answer async for answer in answers]
        assert values(seen) == [15, 16, 17]
        assert len({answer.worker for answer in seen}) == 3
        assert {answer.worker for answer in seen} == {worker.name for worker in mq._workers}
        assert (answers.workers, answers.missing) == (3, 0)
        assert nothing_is_left(mq)


async def test_awaited_it_is_the_list_of_all(mq: amqproxy.Client, service: str, broadcast: Any) -> None:
    async with pool(mq, service, 2):
        assert values(await broadcast.add(1)) == [1, 2]
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(all_of(broadcast.add(n))) for n in (10, 20)]
        assert [values(task.result()) for task in tasks] == [[10, 11], [20, 21]]


async def all_of(answers: amqproxy.Answers[Any]) -> list[amqproxy.WorkerAnswer[Any]]:
    return await answers


async def test_values_and_errors_come_side_by_side(mq: amqproxy.Client, service: str, broadcast: Any) -> None:
    async with pool(mq, service, 3):
        answers = await broadcast.divide(2)
        [failed] = [answer for answer in answers if answer.error is not None]
        assert isinstance(failed.error, amqproxy.RemoteError)
        assert failed.value is None
        with pytest.raises(ZeroDivisionError):
            failed.result()
        assert values([answer for answer in answers if answer.error is None]) == [1.0, 2.0]


async def test_by_name_by_message_and_as_a_function(mq: amqproxy.Client, service: str) -> None:
    async with pool(mq, service, 2):
        untyped = mq.broadcast(service)
        assert values(await untyped.add(1, 2)) == [3, 4]
        assert values(await untyped.add(x=1)) == [1, 2]
        assert values([answer async for answer in untyped.count(2)]) == [[0, 1], [100, 101]]
        assert values(await untyped(Question("why"))) == ["0: why", "1: why"]
        typed = amqproxy.Broadcast(mq, Voter, name=service)
        assert values([answer async for answer in typed(Question("how"))]) == ["0: how", "1: how"]
        with pytest.raises(amqproxy.ContractError, match="the broadcast of .* is called with one message"):
            typed(1, 2)

    async def double(x: int) -> int:
        return 2 * x

    async with mq.serve(double, name=service + ".f", auto_delete=True):
        function = mq.broadcast(double, name=service + ".f")
        assert values([answer async for answer in function(4)]) == [8]
        assert await function(4).first() == 8


async def test_it_says_what_it_is_and_takes_its_own_options(mq: amqproxy.Client, broadcast: Any) -> None:
    assert repr(broadcast).startswith("<Broadcast of 'test.")
    assert "expect=2" in repr(amqproxy.options(broadcast, expect=2))
    assert repr(broadcast.add(1)).startswith("<Answers of all workers to test.")
    for wrong in ({"expect": 0}, {"expect": -1}, {"compress_above": 1}, {"exchange": "x"}, {"idempotent": True}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            amqproxy.options(broadcast, **wrong)
    with pytest.raises(TypeError, match="expect is a whole number"):
        amqproxy.options(broadcast, expect=1.5)
    with pytest.raises(TypeError, match=r"a proxy has no option 'expect', for one worker answers; mq\.broadcast"):
        mq.proxy(Voter, expect=1)
    with pytest.raises(AttributeError, match="no method 'burn'"):
        broadcast.burn()
    with pytest.raises(AttributeError, match="a broadcast cannot be assigned to"):
        broadcast.add = None


# How it ends


async def test_without_any_worker_ever_it_is_empty_at_once(mq: amqproxy.Client, broadcast: Any) -> None:
    async with asyncio.timeout(1):
        answers = broadcast.add(1)
        assert await answers == []
        assert (answers.workers, answers.missing) == (0, 0)
        with pytest.raises(amqproxy.Unroutable, match="no worker is there that could answer"):
            await broadcast.add(1).first()
        with pytest.raises(amqproxy.Unroutable, match="2 workers are expected, and none is there"):
            await amqproxy.options(broadcast, expect=2).add(1)


@pytest.mark.parametrize("queue_stays", [True, False])
async def test_when_all_workers_have_gone_it_is_empty_at_once(
    mq: amqproxy.Client, service: str, broadcast: Any, queue_stays: bool
) -> None:
    async with mq.serve(Voter(0), name=service, auto_delete=not queue_stays):
        assert values(await broadcast.add(1)) == [1]
    async with asyncio.timeout(1):
        assert await broadcast.add(1) == []
        with pytest.raises(amqproxy.Unroutable, match="1 workers are expected, and none is there"):
            await amqproxy.options(broadcast, expect=1).add(1)
    if queue_stays:
        await (await (await mq._live_connection().link())._channel()).queue_delete(service)


async def test_it_ends_with_the_last_answer_that_is_expected_and_stops_the_others(
    mq: amqproxy.Client, service: str, broadcast: Any
) -> None:
    async with pool(mq, service, 3) as voters:
        async with asyncio.timeout(2):
            answers = await amqproxy.options(broadcast, expect=2).wait([0, 2])
        assert values(answers) == [0, 2]
        await soon(voters[1].stopped)
        assert nothing_is_left(mq)


async def test_fewer_than_expected_are_an_error_as_soon_as_that_is_known(
    mq: amqproxy.Client, service: str, broadcast: Any
) -> None:
    async with pool(mq, service, 2):
        seen = []
        with pytest.raises(amqproxy.CallTimeout, match="2 of 3 workers answered and no other is there") as caught:
            async with asyncio.timeout(5):
                async for answer in amqproxy.options(broadcast, expect=3).add(1):
                    seen.append(answer)
        assert values(seen) == [1, 2]
        assert caught.value.executed == "maybe"


async def test_at_the_timeout_it_ends_with_what_has_come_and_stops_the_others(
    mq: amqproxy.Client, service: str, broadcast: Any
) -> None:
    async with pool(mq, service, 3) as voters:
        answers = amqproxy.options(broadcast, timeout=0.3).wait([1])
        assert values(await answers) == [1]
        assert (answers.workers, answers.missing) == (3, 2)
        for each in (voters[0], voters[2]):
            await soon(each.stopped)
        with pytest.raises(amqproxy.CallTimeout, match="1 of 3 workers answered within the time"):
            await amqproxy.options(broadcast, timeout=0.3, expect=3).wait([1])
        with pytest.raises(amqproxy.CallTimeout, match="none of 3 workers answered within the time"):
            await amqproxy.options(broadcast, timeout=0.3).wait([]).first()
        assert nothing_is_left(mq)


async def test_long_calls_are_waited_for_as_long_as_the_workers_are_at_work(
    mq: amqproxy.Client, service: str, broadcast: Any
) -> None:
    """Beyond the time after which a silent worker is given up."""
    async with pool(mq, service, 2) as voters:
        answers = asyncio.create_task(all_of(broadcast.wait([0])))
        asyncio.get_running_loop().call_later(SILENT_SECONDS + 1.5, voters[1].free.set)
        assert values(await answers) == [0, 1]


async def test_the_first_value_wins_and_the_others_are_stopped(
    mq: amqproxy.Client, service: str, broadcast: Any
) -> None:
    async with pool(mq, service, 3) as voters:
        assert await broadcast.wait([1]).first() == 1
        for each in (voters[0], voters[2]):
            await soon(each.stopped)
        assert await broadcast.divide(1).first() in (1.0, 0.5)  # the worker that fails does not count
        assert nothing_is_left(mq)


async def test_if_all_fail_the_first_value_is_an_error(mq: amqproxy.Client, service: str, broadcast: Any) -> None:
    async with mq.serve(Voter(0), name=service, auto_delete=True):
        with pytest.raises(ZeroDivisionError):
            await broadcast.divide(1).first()


async def leave_by_break(answers: Any) -> None:
    async for _ in answers:
        break


async def leave_by_error(answers: Any) -> None:
    with pytest.raises(LookupError):
        async for _ in answers:
            raise LookupError


async def leave_by_closing(answers: Any) -> None:
    await anext(answers)
    await answers.aclose()
    await answers.aclose()
    assert [answer async for answer in answers] == []


async def leave_by_block(answers: Any) -> None:
    async with answers:
        await anext(answers)


async def leave_by_cancelling(answers: Any) -> None:
    await anext(answers)
    task = asyncio.create_task(all_of(answers))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def leave_by_timeout(answers: Any) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2):
            await answers


async def leave_by_forgetting(answers: Any) -> None:
    await anext(answers)
    del answers
    gc.collect()


LEAVING = (
    *(leave_by_break, leave_by_error, leave_by_closing, leave_by_block, leave_by_cancelling),
    *(leave_by_timeout, leave_by_forgetting),
)


@pytest.mark.parametrize("leave", LEAVING)
async def test_whoever_leaves_stops_the_workers_that_still_run(
    mq: amqproxy.Client, service: str, broadcast: Any, leave: Callable[[Any], Any]
) -> None:
    async with pool(mq, service, 3) as voters:
        await leave(amqproxy.options(broadcast, max_in_flight=1).wait([1]))
        for each in (voters[0], voters[2]):
            await soon(each.stopped)
        await asyncio.sleep(0)
        assert not any(worker.running for worker in mq._workers)
        assert nothing_is_left(mq)


async def test_who_leaves_before_anybody_is_asked_asks_nobody(
    mq: amqproxy.Client, service: str, broadcast: Any
) -> None:
    async with pool(mq, service, 1) as [voter]:
        answers = broadcast.wait([0])
        await answers.aclose()
        assert await answers == []
        task = asyncio.create_task(all_of(broadcast.wait([0])))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await mq.proxy(Voter, name=service).add(1) == 1
        assert voter.asked.locked()
        assert nothing_is_left(mq)


async def test_a_plain_handler_sees_that_nobody_waits(mq: amqproxy.Client, service: str, broadcast: Any) -> None:
    async with pool(mq, service, 2) as voters:
        answers = broadcast.block()
        task = asyncio.create_task(all_of(answers))
        for each in voters:
            await soon(each.asked)
        await answers.aclose()
        assert await task == []
        for each in voters:
            await soon(each.stopped)


async def test_only_one_task_takes_answers(mq: amqproxy.Client, service: str, broadcast: Any) -> None:
    async with pool(mq, service, 1) as [voter]:
        answers = broadcast.wait([])
        waiting = asyncio.create_task(anext(answers))
        await soon(voter.asked)
        with pytest.raises(RuntimeError, match="another task waits for the next answer"):
            await anext(answers)
        voter.free.set()
        assert (await waiting).result() == 0


# Who is asked


async def test_a_draining_worker_is_not_asked(mq: amqproxy.Client, service: str, broadcast: Any) -> None:
    async with pool(mq, service, 2) as voters:
        call = asyncio.create_task(mq.proxy(Voter, name=service).wait([]))
        await asyncio.wait(
            [asyncio.create_task(each.asked.acquire()) for each in voters], return_when=asyncio.FIRST_COMPLETED
        )
        draining = next(worker for worker in mq._workers if worker.running)
        stop = asyncio.create_task(draining.stop())
        while await mq.caller.census(service) != (0, 1):
            pass
        answers = broadcast.add(0)
        async with asyncio.timeout(1):
            [answer] = await answers
        assert answers.workers == 1
        assert answer.worker != draining.name
        for each in voters:
            each.free.set()
        await call
        await stop


async def test_a_worker_that_begins_to_drain_finishes_what_it_was_asked(
    mq: amqproxy.Client, service: str, broadcast: Any
) -> None:
    async with pool(mq, service, 2) as voters:
        answers = asyncio.create_task(all_of(broadcast.wait([0])))
        await soon(voters[1].asked)
        [busy] = [worker for worker in mq._workers if worker.running]
        stop = asyncio.create_task(busy.stop())
        asyncio.get_running_loop().call_later(3.5, voters[1].free.set)  # some rounds later, in which it is not counted
        assert values(await answers) == [0, 1]
        await stop


async def test_one_that_stops_without_an_answer_says_so(mq: amqproxy.Client, service: str, broadcast: Any) -> None:
    worker = mq.serve(Voter(0), name=service, auto_delete=True)
    await worker.start()
    answers = asyncio.create_task(all_of(broadcast.wait([])))
    while not worker.running:
        await asyncio.sleep(0)
    await worker.stop(0)
    [answer] = await answers
    assert isinstance(answer.error, amqproxy.RemoteError)
    assert (answer.error.code, answer.error.retryable) == ("unavailable", True)


async def test_a_worker_that_joins_meanwhile_is_neither_asked_nor_waited_for(
    mq: amqproxy.Client, amqp_url: str, service: str, broadcast: Any
) -> None:
    """Also when it takes the place of one that went, so that there are as many as before."""
    async with pool(mq, service, 1) as [voter]:
        answers = broadcast.wait([])
        async with Raw.connected(amqp_url) as leaving:
            await leaving.joins(service)
            task = asyncio.create_task(all_of(answers))
            await soon(voter.asked)
        async with mq.serve(Voter(9), name=service, auto_delete=True):
            voter.free.set()
            async with asyncio.timeout(SILENT_SECONDS + 2):
                assert values(await task) == [0]
            assert (answers.workers, answers.missing) == (2, 1)


async def test_an_answer_finds_its_way_when_the_worker_lost_its_link(
    mq: amqproxy.Client, amqp_url: str, service: str, broadcast: Any
) -> None:
    voter = Voter(0)
    async with Relay.to(amqp_url) as relay, amqproxy.connect(relay.url) as far:
        async with far.serve(voter, name=service, auto_delete=True) as worker:
            task = asyncio.create_task(all_of(broadcast.wait([])))
            await soon(voter.asked)
            before = worker._session
            relay.cut()
            async with asyncio.timeout(SILENT_SECONDS - 1):
                while worker._session is before:
                    await asyncio.sleep(0.01)
            voter.free.set()
            assert values(await task) == [0]


async def test_the_queue_may_have_another_name_than_the_service(mq: amqproxy.Client, service: str) -> None:
    queue = service + ".q"

    @amqproxy.serve(service, queue=queue)
    class Named(Voter): ...

    async with mq.serve(Named(3), auto_delete=True), mq.serve(Named(4), auto_delete=True):
        assert values(await mq.broadcast(Named).add(0)) == [3, 4]
        by_name = mq.broadcast(service, routing_key=queue)
        assert values(await by_name.add(0)) == [3, 4]
        assert await mq.broadcast(service).add(0) == []
    voter = Voter(5)
    async with mq.serve(voter, name=service, queue=queue, auto_delete=True):
        typed = mq.broadcast(Voter, name=service, routing_key=queue, timeout=0.2)
        assert await typed.wait([]) == []
        await soon(voter.stopped)


# What goes over the wire


async def test_the_request_says_what_a_worker_needs(mq: amqproxy.Client, service: str, raw: Raw) -> None:
    async with a_pool_of_others(mq, service, raw):
        broadcast = mq.broadcast(service, timeout=9, priority=3, headers={"x-end-user": "ann"})
        task = asyncio.create_task(all_of(broadcast.add(1)))
        request = await raw.next_message()
        assert request.body == b"[1]"
        said = request.properties
        assert (said.content_type, said.content_encoding) == (f"{service}.add".encode(), b"json")
        assert (said.delivery_mode, said.priority) == (1, 3)
        assert said.headers is not None and said.headers["x-end-user"] == "ann"
        left = said.headers["x-timeout-ms"]
        assert isinstance(left, int) and 8000 < left <= 9000
        assert said.expiration == b"%d" % left
        assert None not in (said.reply_to, said.message_id)
        answer(raw, request, b"1")
        assert values(await task) == [1]


async def test_headers_that_look_like_those_of_a_stream_do_not_matter(
    mq: amqproxy.Client, service: str, broadcast: Any
) -> None:
    async with pool(mq, service, 2) as voters:
        await amqproxy.options(broadcast, headers={"x-end-user": "ann", "x-sequel": "x-seq"}).note("a")
        assert [voter.heard[0][0] for voter in voters] == ["a", "a"]


@pytest.mark.parametrize("encoding", ["json", "snappy-json", "zstd-json", "gzip-json"])
async def test_encodings_are_those_of_calls(mq: amqproxy.Client, service: str, broadcast: Any, encoding: str) -> None:
    async with pool(mq, service, 2):
        encoded = amqproxy.options(broadcast, encoding=encoding)
        assert values(await encoded.add(1, 2)) == [3, 4]
        assert values(await encoded.count(2)) == [[0, 1], [100, 101]]
        with pytest.raises(ZeroDivisionError):
            for each in await encoded.divide(1):
                each.result()


@pytest.mark.parametrize("encoding", ["protobuf", "zstd-protobuf", "json"])
async def test_messages_of_protobuf_are_answered(
    mq: amqproxy.Client, service: str, broadcast: Any, encoding: str
) -> None:
    async with pool(mq, service, 2):
        answers = await amqproxy.options(broadcast, encoding=encoding).plain(kinds_pb2.Plain(number=5))
        assert sorted(each.result().number for each in answers) == [5, 6]


async def test_streams_come_as_lists_and_blobs_as_bytes(mq: amqproxy.Client, service: str, broadcast: Any) -> None:
    async with pool(mq, service, 2) as voters:
        assert values(await broadcast.count(3)) == [[0, 1, 2], [100, 101, 102]]
        assert values(await broadcast.count(0)) == [[], []]
        assert values(await broadcast.tally(3)) == [[0, 1, 2]] * 2
        assert values(await broadcast.file(300_000)) == [bytes(300_000), b"\1" * 300_000]
        for voter in voters:
            for _ in range(3):
                await soon(voter.stopped)


async def test_streams_that_are_not_wanted_any_more_are_stopped(
    mq: amqproxy.Client, service: str, broadcast: Any
) -> None:
    async with pool(mq, service, 2) as voters:
        task = asyncio.create_task(all_of(broadcast.count(11)))
        for voter in voters:
            await soon(voter.asked)
        task.cancel()
        for voter in voters:
            await soon(voter.stopped)


async def test_generators_in_threads_end_with_their_calls(mq: amqproxy.Client, service: str) -> None:
    """Whose thread would wait for ever for the next item to be asked for, and the end of the program for the thread."""
    closed = asyncio.Semaphore(0)
    loop = asyncio.get_running_loop()

    class Threads:
        def wrong(self) -> Iterator[int]:
            try:
                yield 1
                yield "no number"  # type: ignore[misc]  # which is what goes wrong
            finally:
                loop.call_soon_threadsafe(closed.release)

        def endless(self) -> Iterator[int]:
            try:
                while True:
                    yield 1
            finally:
                loop.call_soon_threadsafe(closed.release)

    async with mq.serve(Threads(), name=service, auto_delete=True, concurrency=1):
        broadcast = mq.broadcast(Threads, name=service)
        for _ in range(5):  # more than there are threads
            [answer] = await broadcast.wrong()
            assert isinstance(answer.error, amqproxy.RemoteError)
            await soon(closed)
            assert await amqproxy.options(broadcast, timeout=0.2).endless() == []
            await soon(closed)


async def test_too_much_of_either_is_refused_by_name(amqp_url: str, mq: amqproxy.Client, service: str) -> None:
    async with amqproxy.connect(amqp_url, max_body_bytes=1000) as narrow:
        async with narrow.serve(Voter(1), name=service, auto_delete=True):
            wide = mq.broadcast(Voter, name=service)
            for call in (wide.note("x" * 1000), wide.file(1001), wide.count(400)):
                [answer] = await call
                assert isinstance(answer.error, amqproxy.RemoteError)
                assert (answer.error.code, answer.error.type) == ("resource_exhausted", "MessageTooLarge")
        with pytest.raises(amqproxy.MessageTooLarge, match="max_body_bytes is 1000"):
            narrow.broadcast(Voter, name=service).note("x" * 1000)
        huge = amqproxy.options(narrow.broadcast(Voter, name=service), headers={"h": "x" * 200_000})
        async with mq.serve(Voter(1), name=service, auto_delete=True):
            with pytest.raises(amqproxy.MessageTooLarge, match="headers are too large"):
                await huge.add(1)
            assert nothing_is_left(narrow)


async def test_what_cannot_be_asked_is_told_before_anything_is_sent(mq: amqproxy.Client, broadcast: Any) -> None:
    with pytest.raises(amqproxy.ContractError, match=r"Expected `int`, got `str` - at `\$\.x`"):
        broadcast.add("1")
    with pytest.raises(amqproxy.ContractError):
        broadcast.add()
    with pytest.raises(amqproxy.ContractError, match="numbers is a stream, which a broadcast cannot feed"):
        broadcast.feed([1])
    with pytest.raises(amqproxy.ContractError, match="all arguments by position or all by name"):
        mq.broadcast("other").add(1, y=2)


async def test_what_the_workers_refuse_is_an_answer(mq: amqproxy.Client, service: str) -> None:
    async with pool(mq, service, 2):
        untyped = mq.broadcast(service)
        for call, code in ((untyped.burn(1), "unimplemented"), (untyped.add("x"), "invalid_argument")):
            answers = await call
            assert len(answers) == 2
            for answer in answers:
                assert isinstance(answer.error, amqproxy.RemoteError)
                assert (answer.error.code, answer.error.executed) == (code, "no")
        for answer in await untyped.feed([1]):
            assert answer.error is not None
            assert "takes a stream, which cannot be fed to all" in str(answer.error)


async def test_a_busy_worker_refuses_more_than_it_has_room_for(
    mq: amqproxy.Client, service: str, broadcast: Any
) -> None:
    async with pool(mq, service, 1, concurrency=2) as [voter]:
        waiting = [asyncio.create_task(all_of(broadcast.wait([]))) for _ in range(5)]
        for _ in range(5):
            await soon(voter.asked)
        [answer] = await broadcast.add(1)
        assert isinstance(answer.error, amqproxy.RemoteError)
        assert (answer.error.type, answer.error.retryable) == ("Overloaded", True)
        voter.free.set()
        for each in waiting:
            assert values(await each) == [0]
        assert values(await broadcast.add(1)) == [1]


# Workers that are not ours


@asynccontextmanager
async def a_pool_of_others(mq: amqproxy.Client, service: str, *peers: Raw) -> AsyncIterator[None]:
    """Peers that do what workers of a pool do before they are asked."""
    for peer in peers:
        await peer.joins(service)
    yield
    await (await (await mq._live_connection().link())._channel()).exchange_delete(f"amqproxy.{service}")


def answer(peer: Raw, request: Message, body: bytes, worker: Any = None, **properties: Any) -> None:
    said = request.properties
    assert said.reply_to is not None
    headers = {} if worker is None else {"x-worker": worker}
    given = {"content_type": b"x.Reply", "correlation_id": said.correlation_id, "headers": headers, **properties}
    peer.publish(said.reply_to.decode(), body, **given)


async def test_a_worker_without_a_name_is_a_worker(mq: amqproxy.Client, service: str, raw: Raw, amqp_url: str) -> None:
    async with Raw.connected(amqp_url) as other, a_pool_of_others(mq, service, raw, other):
        task = asyncio.create_task(all_of(mq.broadcast(service).add(1)))
        for peer, value in ((raw, b"1"), (other, b"2")):
            answer(peer, await peer.next_message(), value)
        answers = await task
        assert values(answers) == [1, 2]
        assert [each.worker for each in answers] == ["", ""]


async def test_the_second_answer_of_one_worker_does_not_count(
    mq: amqproxy.Client, service: str, raw: Raw, amqp_url: str
) -> None:
    async with Raw.connected(amqp_url) as other, a_pool_of_others(mq, service, raw, other):
        task = asyncio.create_task(all_of(mq.broadcast(service).add(1)))
        request = await raw.next_message()
        for value in (b"1", b"2", b"3"):
            answer(raw, request, value, "ann")
        answer(other, await other.next_message(), b"4", 7)  # no text, and so no name
        answers = await task
        assert [(each.worker, each.value) for each in answers] == [("ann", 1), ("", 4)]
        assert mq.caller.strays == 0


async def test_nonsense_is_an_error_of_the_worker_that_answered_it(mq: amqproxy.Client, service: str, raw: Raw) -> None:
    async with a_pool_of_others(mq, service, raw, raw, raw):
        for body, properties in (
            (b"{", {}),
            (b"1", {"content_encoding": b"thrift"}),
            (b"[]", {"content_type": b"com.github.sstone.amqp.proxy.AmqpProxy$ServerFailure"}),
        ):
            task = asyncio.create_task(all_of(mq.broadcast(service, expect=1).add(1)))
            answer(raw, await raw.next_message(), body, "ann", **properties)
            [found] = await task
            assert isinstance(found.error, amqproxy.BadReply)
            while raw.messages.qsize() < 1:  # the others are told that nobody waits for them
                await asyncio.sleep(0)
            assert (await raw.next_message()).properties.content_type == b"amqproxy.Cancel"


async def test_signs_of_life_are_no_answers_and_nonsense_in_them_is_none_either(
    mq: amqproxy.Client, service: str, raw: Raw, amqp_url: str
) -> None:
    async with a_pool_of_others(mq, service, raw):
        task = asyncio.create_task(all_of(mq.broadcast(service).add(1)))
        request = await raw.next_message()
        ping = await raw.next_message()
        assert ping.properties.content_type == b"amqproxy.Ping"
        assert ping.properties.correlation_id == request.properties.correlation_id
        answer(raw, ping, b"nonsense", "ann", content_type=b"amqproxy.Ping")
        answer(raw, ping, b'{"busy": 1}', "ann", content_type=b"amqproxy.Ping")
        answer(raw, ping, b'{"busy": true}', "ann", content_type=b"amqproxy.Ping")
        answer(raw, ping, b"{}", "ann", content_type=b"amqproxy.Alive")
        answer(raw, request, b"1", "ann")
        assert values(await task) == [1]


async def test_a_worker_that_knows_nothing_of_broadcasts_is_missing(
    mq: amqproxy.Client, service: str, broadcast: Any, raw: Raw
) -> None:
    async with pool(mq, service, 1):
        await raw.opened.consume(service, lambda: None, no_ack=True)
        answers = broadcast.add(1)
        async with asyncio.timeout(SILENT_SECONDS + 2):
            assert values(await answers) == [1]
        assert (answers.workers, answers.missing) == (2, 1)


async def test_our_worker_answers_a_caller_that_has_only_a_message_id(
    mq: amqproxy.Client, service: str, raw: Raw
) -> None:
    async with pool(mq, service, 2):
        given = {"content_type": f"{service}.add".encode(), "message_id": b"m1", "reply_to": raw.reply_to}
        raw.publish("", b"[1]", exchange=f"amqproxy.{service}", **given)
        answers = [await raw.next_message() for _ in range(2)]
        assert sorted(each.body for each in answers) == [b"1", b"2"]
        for each in answers:
            assert each.properties.correlation_id == b"m1"
            assert each.properties.content_type == f"{service}.add.Reply".encode()
        named = {(each.properties.headers or {})["x-worker"] for each in answers}
        assert named == {worker.name for worker in mq._workers}


async def test_our_worker_says_whether_it_is_at_work_on_a_call(mq: amqproxy.Client, service: str, raw: Raw) -> None:
    async with pool(mq, service, 1) as [voter]:
        exchange, reply_to = f"amqproxy.{service}", raw.reply_to
        asked = {"content_type": f"{service}.wait".encode(), "correlation_id": b"1", "reply_to": reply_to}
        raw.publish("", b"[[]]", exchange=exchange, **asked)
        for id, busy in ((b"1", True), (b"2", False)):
            raw.publish("", b"", exchange=exchange, **{**asked, "content_type": b"amqproxy.Ping", "correlation_id": id})
            pong = await raw.next_message()
            assert pong.properties.correlation_id == id
            assert pong.properties.headers == {"x-worker": mq._workers[0].name}
            said = {"service": service, "running": 1, "answered": 0, "busy": busy}
            assert pong.body == amqproxy.wire.msgspec.json.encode(said)
        voter.free.set()
        assert (await raw.next_message()).body == b"0"


# One way


async def test_a_message_to_everyone_is_heard_by_all_and_answered_by_nobody(
    mq: amqproxy.Client, service: str, raw: Raw
) -> None:
    async with pool(mq, service, 3) as voters:
        assert await mq.sender(Voter, name=service, everyone=True).note("hi") is None
        for voter in voters:
            await soon(voter.asked)
            [(text, properties)] = voter.heard
            assert (text, properties.reply_to, properties.correlation_id) == ("hi", None, None)
        assert mq.caller.strays == 0


async def test_what_is_sent_to_everyone_streams_for_itself(mq: amqproxy.Client, service: str) -> None:
    """The generator runs to its end, however much it yields."""
    last = asyncio.Semaphore(0)

    class Endless:
        async def count(self) -> AsyncIterator[str]:
            for _ in range(3):
                yield "x" * 10_000_000
            last.release()

    async with mq.serve(Endless(), name=service, auto_delete=True):
        await mq.sender(Endless, name=service, everyone=True).count()
        await soon(last)


# Links, limits and time


async def test_many_at_once_do_not_mix(mq: amqproxy.Client, service: str, broadcast: Any) -> None:
    async with pool(mq, service, 3):
        answers = await asyncio.gather(*(all_of(broadcast.add(1000 * n)) for n in range(50)))
        assert [values(each) for each in answers] == [[1000 * n, 1000 * n + 1, 1000 * n + 2] for n in range(50)]
        assert nothing_is_left(mq)


async def test_a_lost_link_ends_it_behind_what_has_come(amqp_url: str, service: str) -> None:
    async with Relay.to(amqp_url) as relay, amqproxy.connect(amqp_url) as near, pool(near, service, 2) as voters:
        async with amqproxy.connect(relay.url) as far:
            broadcast = far.broadcast(Voter, name=service, max_in_flight=1)
            answers = broadcast.wait([0])
            assert (await anext(answers)).result() == 0
            await soon(voters[1].asked)
            relay.cut()
            with pytest.raises(amqproxy.ConnectionLost, match=r"\.wait: the connection to .* broke"):
                await anext(answers)
            with pytest.raises(StopAsyncIteration):
                await anext(answers)
            assert values(await broadcast.add(1)) == [1, 2]
            assert nothing_is_left(far)
        voters[1].free.set()


async def test_without_a_link_it_waits_for_one_and_no_longer_than_its_time(amqp_url: str, service: str) -> None:
    async with Relay.to(amqp_url) as relay, amqproxy.connect(amqp_url) as near, pool(near, service, 2):
        async with amqproxy.connect(relay.url) as far:
            broadcast = far.broadcast(Voter, name=service)
            relay.cut()
            await (await far._live_connection().link()).closed if far._live_connection().current_link else None
            assert values(await broadcast.add(1)) == [1, 2]
            relay.up.hold()
            with pytest.raises(amqproxy.CallTimeout, match="none of|no usable connection"):
                await amqproxy.options(broadcast, timeout=0.3).add(1).first()
            relay.cut()


async def test_calls_in_flight_are_bounded(mq: amqproxy.Client, amqp_url: str, service: str, broadcast: Any) -> None:
    async with pool(mq, service, 1) as [voter]:
        bounded = amqproxy.options(broadcast, max_in_flight=1)
        task = asyncio.create_task(all_of(bounded.wait([])))
        await soon(voter.asked)
        with pytest.raises(amqproxy.Overloaded, match="1 calls are in flight, which is the proxy's max_in_flight"):
            await bounded.add(1)
        voter.free.set()
        await task
        assert values(await bounded.add(1)) == [1]
        async with amqproxy.connect(amqp_url, max_in_flight=1) as narrow:
            voter.free.clear()
            by_narrow = narrow.broadcast(Voter, name=service)
            task = asyncio.create_task(all_of(by_narrow.wait([])))
            await soon(voter.asked)
            with pytest.raises(amqproxy.Overloaded, match="max_in_flight"):
                await by_narrow.add(1)
            voter.free.set()
            await task


async def test_a_handler_passes_on_what_is_left_of_its_time(mq: amqproxy.Client, service: str) -> None:
    class Relaying:
        async def left(self) -> list[float | None]:
            return [each.result() async for each in mq.broadcast(Voter, name=service).left()]

        async def wait(self) -> list[int]:
            return values(await mq.broadcast(Voter, name=service).wait([1]))

        async def late(self) -> str:
            while amqproxy.current().time_left:
                await asyncio.sleep(0.01)
            answers = mq.broadcast(Voter, name=service).add(1)
            with pytest.raises(amqproxy.CallTimeout, match="no time is left") as caught:
                await answers
            assert await answers == []
            tried.set_result(caught.value.executed)
            return ""

    tried: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    async with pool(mq, service, 2) as voters, mq.serve(Relaying(), name=service + ".r", auto_delete=True):
        relaying = mq.proxy(Relaying, name=service + ".r", timeout=5)
        for left in await relaying.left():
            assert left is not None and 4 < left <= 5
        with contextlib.suppress(amqproxy.CallTimeout):  # what has come by then may still arrive in time
            assert await amqproxy.options(relaying, timeout=0.3).wait() == [1]
        await soon(voters[0].stopped)
        raw_sender = mq.sender(Relaying, name=service + ".r", headers={"x-timeout-ms": 50})
        await raw_sender.late()
        async with asyncio.timeout(5):
            assert await tried == "no"


async def test_middleware_sees_the_answers(amqp_url: str, service: str) -> None:
    seen: list[str] = []

    async def watching(call: Any, next: Any) -> Any:
        seen.append(f"{call.method}{call.args}")
        return await next(call.with_headers({"by": "me"}))

    async def doubling(call: Any, next: Any) -> Any:
        answers = await next(call)
        seen.append(f"{answers.workers} workers")

        async def doubled() -> AsyncIterator[Any]:
            async for each in answers:
                yield amqproxy.WorkerAnswer(each.worker, 2 * each.result())

        return doubled()

    async with amqproxy.connect(amqp_url, middleware=[watching]) as mq, pool(mq, service, 3) as voters:
        broadcast = mq.broadcast(Voter, name=service)
        answers = broadcast.add(1)
        assert seen == []
        assert values([each async for each in answers]) == [1, 2, 3]
        assert (answers.workers, answers.missing) == (3, 0)
        assert await broadcast.wait([2]).first() == 2
        await soon(voters[0].stopped)
        await broadcast.note("x")
        assert voters[0].heard[0][1].headers["by"] == "me"
        twice = amqproxy.options(broadcast, middleware=[doubling])
        assert values(await twice.add(1)) == [2, 4, 6]
        seen.clear()
        answers = twice.wait([0])
        assert (await anext(answers)).result() == 0
        await answers.aclose()
        await soon(voters[1].stopped)
        assert answers.workers is None
        assert seen == ["wait([0],)", "3 workers"]
        with pytest.raises(amqproxy.ContractError, match="Expected `int`"):
            await twice.add("x")
        print([(l, l.conversations, len(l.calls)) for l in mq.caller._lines._lines.values()])
        assert nothing_is_left(mq)


async def test_nothing_is_left_of_any_of_them(mq: amqproxy.Client, service: str, broadcast: Any) -> None:
    """In whichever way they end, a few hundred of them."""
    async with pool(mq, service, 3):
        assert await broadcast.wait([1]).first() == 1  # which opens the channels that stay
        before = asyncio.all_tasks()

        async def one(number: int) -> None:
            match number % 5:
                case 0:
                    await broadcast.add(1)
                case 1:
                    await broadcast.wait([1]).first()
                case 2:
                    await leave_by_break(broadcast.wait([2]))
                case 3:
                    await amqproxy.options(broadcast, timeout=0.5).wait([number % 3])
                case 4:
                    with pytest.raises(TimeoutError):
                        async with asyncio.timeout(0.001 * (number % 50)):
                            await broadcast.wait([])

        await asyncio.gather(*(one(number) for number in range(300)))
        async with asyncio.timeout(5):
            while any(worker.running for worker in mq._workers):
                await asyncio.sleep(0.01)
        gc.collect()
        assert nothing_is_left(mq)
        assert asyncio.all_tasks() == before
        assert not [each for each in gc.get_objects() if isinstance(each, Poll)]


# Workers in processes of their own


async def test_processes_answer_and_are_stopped(mq: amqproxy.Client, amqp_url: str, service: str) -> None:
    async with processes(amqp_url, service, 3) as workers:
        broadcast = mq.broadcast(Polled, name=service)
        pids = sorted(worker.pid for worker in workers)
        answers = await broadcast.pid()
        assert values(answers) == pids
        assert all(f".{each.value}." in each.worker for each in answers)
        assert await broadcast.only([workers[0].pid]).first() == workers[0].pid
        async with asyncio.timeout(2):
            for worker in workers[1:]:
                await worker.says("waiting")
                await worker.says("stopped")
        task = asyncio.create_task(all_of(broadcast.numbers(101)))
        for worker in workers:
            await worker.says("waiting", times=1 if worker is workers[0] else 2)
        task.cancel()
        async with asyncio.timeout(1):
            for worker in workers:
                await worker.says("stopped", times=1 if worker is workers[0] else 2)
        await mq.sender(Polled, name=service, everyone=True).note("the end")
        for worker in workers:
            await worker.says("noted the end")


async def test_a_worker_that_is_killed_is_not_waited_for(mq: amqproxy.Client, amqp_url: str, service: str) -> None:
    async with processes(amqp_url, service, 3) as workers:
        killed, *others = workers
        pids = sorted(each.pid for each in others)
        answers = mq.broadcast(Polled, name=service, timeout=20).only(pids)
        seen = [await anext(answers), await anext(answers)]
        await killed.says("waiting")
        killed.send(signal.SIGKILL)
        began = asyncio.get_running_loop().time()
        with pytest.raises(StopAsyncIteration):
            await anext(answers)
        assert values(seen) == pids
        assert asyncio.get_running_loop().time() - began < 3.5
        assert (answers.workers, answers.missing) == (3, 1)


async def test_workers_that_are_at_work_are_waited_for_when_another_is_killed(
    mq: amqproxy.Client, amqp_url: str, service: str
) -> None:
    voter = Voter(1)
    async with processes(amqp_url, service, 1) as [killed], mq.serve(voter, name=service, auto_delete=True):
        answers = mq.broadcast(service, timeout=20).only([])
        task = asyncio.create_task(all_of(answers))
        await killed.says("waiting")
        killed.send(signal.SIGKILL)
        [found] = await task
        assert found.error is not None


async def test_a_worker_that_hangs_is_missing(mq: amqproxy.Client, amqp_url: str, service: str) -> None:
    async with processes(amqp_url, service, 3) as workers:
        hanging, *others = workers
        broadcast = mq.broadcast(Polled, name=service, timeout=20)
        hanging.send(signal.SIGSTOP)
        try:
            answers = broadcast.pid()
            async with asyncio.timeout(SILENT_SECONDS + 2):
                assert values(await answers) == sorted(each.pid for each in others)
            assert (answers.workers, answers.missing) == (3, 1)
        finally:
            hanging.send(signal.SIGCONT)
        assert len(await broadcast.pid()) == 3


async def test_one_caller_may_be_another_process(mq: amqproxy.Client, amqp_url: str, service: str) -> None:
    program = (
        "import amqproxy, asyncio, sys\n"
        "async def main():\n"
        "    async with amqproxy.connect(sys.argv[1]) as mq:\n"
        "        async for answer in mq.broadcast(sys.argv[2]).add(1):\n"
        "            print('answer', answer.value, flush=True)\n"
        "        async for answer in mq.broadcast(sys.argv[2]).wait([0]):\n"
        "            print('waiting', flush=True)\n"
        "asyncio.run(main())\n"
    )
    async with pool(mq, service, 2) as voters, running("-c", program, amqp_url, service) as caller:
        await caller.says("answer 1")
        await caller.says("answer 2")
        await caller.says("waiting")
        voters[1].free.set()
        assert await caller.ends() == 0
