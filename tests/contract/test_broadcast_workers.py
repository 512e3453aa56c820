"""Which workers a broadcast reaches and waits for: ours, in this process and in others, and those of others."""

from __future__ import annotations

import asyncio
import json
import signal
from typing import Any

import pytest

import amqproxy
from amqproxy.tally import SILENT_SECONDS
from tests.contract.raw import Raw
from tests.contract.voters import Voter, a_pool_of_others, all_of, answer, pool, processes, soon, until, values
from tests.faults.network import Relay
from tests.polled import Polled
from tests.processes import running


@pytest.fixture
def broadcast(mq: amqproxy.Client, service: str) -> Any:
    return mq.broadcast(Voter, name=service)


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
        for voter in voters:
            await soon(voter.asked)
        await until(lambda: sum(bool(worker.running) for worker in mq._workers) == 1)  # the other one has answered
        [busy] = [worker for worker in mq._workers if worker.running]
        stop = asyncio.create_task(busy.stop())
        asyncio.get_running_loop().call_later(3.5, voters[1].free.set)  # some rounds later, in which it is not counted
        assert values(await answers) == [0, 1]
        await stop


async def test_one_that_stops_without_an_answer_says_so(mq: amqproxy.Client, service: str, broadcast: Any) -> None:
    worker = mq.serve(Voter(0), name=service, auto_delete=True)
    await worker.start()
    answers = asyncio.create_task(all_of(broadcast.wait([])))
    await until(lambda: worker.running)
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
    async with (
        Relay.to(amqp_url) as relay,
        amqproxy.connect(relay.url) as far,
        far.serve(voter, name=service, auto_delete=True) as worker,
    ):
        task = asyncio.create_task(all_of(broadcast.wait([])))
        await soon(voter.asked)
        before = worker._session
        relay.cut()
        await until(lambda: worker._session is not before)
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


# Workers that are not ours


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
        answers = await task  # in either order: they come on two connections
        assert sorted((each.worker, each.value) for each in answers) == [("", 4), ("ann", 1)]
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
            # The others are told that nobody waits for them.
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
            assert pong.body == json.dumps(said, separators=(",", ":")).encode()
        voter.free.set()
        assert (await raw.next_message()).body == b"0"


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
