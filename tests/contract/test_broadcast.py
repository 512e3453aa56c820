"""Calls that all workers of a pool answer: how they are made, and how they end."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

import amqproxy
from amqproxy.poll import Poll
from amqproxy.tally import SILENT_SECONDS
from tests.contract.voters import Question, Voter, all_of, nothing_is_left, pool, soon, until, values
from tests.faults.network import Relay


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
        with pytest.raises(amqproxy.ContractError, match=r"the broadcast of .* is called with one message"):
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
    answers = broadcast.add(1)
    assert repr(answers).startswith("<Answers of all workers to test.")
    await answers.aclose()
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


async def test_one_that_was_forgotten_is_warned_of(mq: amqproxy.Client, service: str, broadcast: Any) -> None:
    async with pool(mq, service, 1):
        with pytest.warns(RuntimeWarning, match=r"the broadcast of .*add was not sent: it was never awaited"):
            broadcast.add(1)
        assert len(await broadcast.add(1)) == 1


async def test_its_answers_are_taken_once(mq: amqproxy.Client, service: str, broadcast: Any) -> None:
    async with pool(mq, service, 2):
        answers = broadcast.add(1)
        await answers.begin()
        assert (await anext(answers)).value is not None
        assert len(await answers) == 1, "the rest"
        assert [answer async for answer in answers] == []
        other = broadcast.add(1)
        await other.first()
        for again in (answers, answers.first(), other, other.first()):
            with pytest.raises(RuntimeError, match=r"the answers to .*add were taken already: keep the list"):
                await again


# How it ends


async def test_without_any_worker_ever_it_is_empty_at_once(mq: amqproxy.Client, broadcast: Any) -> None:
    async with asyncio.timeout(1):
        answers = broadcast.add(1)
        assert await answers == []
        assert (answers.workers, answers.missing) == (0, 0)
        with pytest.raises(amqproxy.Unroutable, match="no worker is there that could answer"):
            await broadcast.add(1).first()
        with pytest.raises(amqproxy.Unroutable, match=r"no worker is at .*:\d+, and the answers of 2 are expected"):
            await amqproxy.options(broadcast, expect=2).add(1)


@pytest.mark.parametrize("queue_stays", [True, False])
async def test_when_all_workers_have_gone_it_is_empty_at_once(
    mq: amqproxy.Client, service: str, broadcast: Any, queue_stays: bool
) -> None:
    async with mq.serve(Voter(0), name=service, auto_delete=not queue_stays):
        assert values(await broadcast.add(1)) == [1]
    async with asyncio.timeout(1):
        assert await broadcast.add(1) == []
        with pytest.raises(amqproxy.Unroutable, match=r"no worker is at .*, and the answers of 1 are expected"):
            await amqproxy.options(broadcast, expect=1).add(1)
    if queue_stays:
        await (await (await mq._live_connection().link())._channel()).queue_delete(service)


async def test_when_all_workers_drain_it_is_empty_at_once(mq: amqproxy.Client, service: str, broadcast: Any) -> None:
    """They could still be reached."""
    async with pool(mq, service, 1) as [voter]:
        call = asyncio.create_task(mq.proxy(Voter, name=service).wait([]))
        await soon(voter.asked)
        [worker] = mq._workers
        stop = asyncio.create_task(worker.stop())
        answers = broadcast.add(1)
        async with asyncio.timeout(1):
            while await mq.caller.census(service) == (0, 1):
                pass
            assert await answers == []
        assert answers.workers == 0
        voter.free.set()
        assert await call == 0
        await stop


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
        with pytest.raises(amqproxy.CallTimeout, match="2 of 3 workers answered, and no other is there") as caught:
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
        text = r"none of 3 workers answered within the time of 0\.3 s; they may have run it$"
        with pytest.raises(amqproxy.CallTimeout, match=text):
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


async def leave_by_closing(answers: Any) -> Any:
    await anext(answers)
    await answers.aclose()
    await answers.aclose()
    assert [answer async for answer in answers] == []
    return answers


async def leave_by_block(answers: Any) -> Any:
    async with answers:
        await anext(answers)
    return answers


async def leave_by_cancelling(answers: Any) -> Any:
    await anext(answers)
    task = asyncio.create_task(all_of(answers))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    return answers


async def leave_by_timeout(answers: Any) -> Any:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2):
            await answers
    return answers


async def leave_by_forgetting(answers: Any) -> None:
    await anext(answers)


LEAVING = (
    *(leave_by_break, leave_by_error, leave_by_closing, leave_by_block, leave_by_cancelling),
    *(leave_by_timeout, leave_by_forgetting),
)


@pytest.mark.parametrize("leave", LEAVING)
async def test_whoever_leaves_stops_the_workers_that_still_run(
    mq: amqproxy.Client, service: str, broadcast: Any, leave: Callable[[Any], Any]
) -> None:
    async with pool(mq, service, 3) as voters:
        held = await leave(amqproxy.options(broadcast, max_in_flight=1).wait([1]))
        for each in (voters[0], voters[2]):
            await soon(each.stopped)
        await asyncio.sleep(0)
        assert not any(worker.running for worker in mq._workers)
        assert nothing_is_left(mq)
        del held


async def test_who_leaves_before_anybody_is_asked_asks_nobody(
    mq: amqproxy.Client, service: str, broadcast: Any
) -> None:
    async with pool(mq, service, 1) as [voter]:
        bounded = amqproxy.options(broadcast, max_in_flight=1)
        answers = bounded.wait([0])
        await answers.aclose()
        assert await answers == []
        task = asyncio.create_task(all_of(bounded.wait([0])))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert values(await bounded.add(1)) == [1]
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


async def test_without_a_link_it_waits_for_one_and_no_longer_than_its_time(
    amqp_url: str, service: str, caplog: pytest.LogCaptureFixture
) -> None:
    gc.collect()  # what other tests have left
    caplog.clear()
    caplog.set_level(logging.ERROR, "asyncio")
    async with (
        Relay.to(amqp_url) as relay,
        amqproxy.connect(amqp_url) as near,
        pool(near, service, 2),
        amqproxy.connect(relay.url) as far,
    ):
        broadcast = far.broadcast(Voter, name=service)
        link = await far._live_connection().link()
        relay.cut()
        await link.closed
        assert values(await broadcast.add(1)) == [1, 2]
        relay.up.hold()
        with pytest.raises(amqproxy.CallTimeout, match="none of the workers answered within the time"):
            async with asyncio.timeout(0.45):
                await amqproxy.options(broadcast, timeout=0.3).add(1).first()
        relay.cut()
    gc.collect()
    assert "never retrieved" not in caplog.text  # of what was asked of the broker, and not answered


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
            await until(lambda: not amqproxy.current().time_left)
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
        assert answers.workers == 3
        assert seen == ["wait([0],)", "3 workers"]
        with pytest.raises(amqproxy.ContractError, match="Expected `int`"):
            await twice.add("x")
        assert nothing_is_left(mq)


async def test_nothing_is_left_of_any_of_them(mq: amqproxy.Client, service: str, broadcast: Any) -> None:
    """In whichever way they end, a few hundred of them."""
    async with pool(mq, service, 3, concurrency=1000):
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
        await until(lambda: not any(worker.running for worker in mq._workers))
        gc.collect()
        assert nothing_is_left(mq)
        assert asyncio.all_tasks() <= before
        assert not [each for each in gc.get_objects() if isinstance(each, Poll)]
