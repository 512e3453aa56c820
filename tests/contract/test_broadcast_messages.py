"""What a broadcast and its answers are on the wire, and what comes of what cannot be asked or answered."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

import amqproxy
from tests.contract.raw import Raw
from tests.contract.voters import Voter, a_pool_of_others, all_of, answer, nothing_is_left, pool, soon, values
from tests.idl import kinds_pb2


@pytest.fixture
def broadcast(mq: amqproxy.Client, service: str) -> Any:
    return mq.broadcast(Voter, name=service)


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
        assert (answer.error.type, answer.error.retryable, answer.error.executed) == ("Overloaded", True, "no")
        assert answer.error.message.startswith(f"{service} is overloaded: 5 calls run in the worker {answer.worker}, ")
        voter.free.set()
        for each in waiting:
            assert values(await each) == [0]
        assert values(await broadcast.add(1)) == [1]


# One way


async def test_a_message_to_everyone_is_heard_by_all_and_answered_by_nobody(
    mq: amqproxy.Client, service: str, raw: Raw
) -> None:
    async with pool(mq, service, 3) as voters:
        await mq.sender(Voter, name=service, everyone=True).note("hi")
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
        everyone: Any = mq.sender(Endless, name=service, everyone=True)
        assert await everyone.count() is None
        await soon(last)
