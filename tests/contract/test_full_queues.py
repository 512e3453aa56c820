"""Queues that are bounded, and workers that refuse what would wait too long: callers are told at once."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

import amqproxy
from tests.contract.test_dead_letters import dead, drop, eventually, letters, waiting
from tests.patience import until


class Slow:
    """Each call takes its time."""

    def __init__(self, seconds: float = 0.05) -> None:
        self.seconds = seconds
        self.ran: list[int] = []

    async def work(self, n: int) -> int:
        self.ran.append(n)
        await asyncio.sleep(self.seconds)
        return n


@amqproxy.serve("bounded", max_length=2)
class Bounded:
    async def work(self, n: int) -> int:
        return n


@asynccontextmanager
async def without_workers(mq: amqproxy.Client, target: Any, service: str, **options: Any) -> AsyncIterator[None]:
    """The queue of a service whose workers have gone."""
    async with mq.serve(target, name=service, **options):
        pass
    try:
        yield
    finally:
        await drop(mq, service, f"{service}.dead")


@pytest.mark.parametrize("quorum", [False, True])
async def test_a_call_that_a_full_queue_refuses_is_overloaded_at_once(
    mq: amqproxy.Client, service: str, quorum: bool
) -> None:
    async with without_workers(mq, Bounded(), service, quorum=quorum):
        proxy = mq.proxy(Bounded, name=service, timeout=20)
        calls = [asyncio.create_task(proxy.work(n)) for n in range(2)]
        await eventually(lambda: waiting(mq, service), 2)
        began = time.monotonic()
        with pytest.raises(amqproxy.Overloaded, match=f"refused the request: the queue '{service}' is full") as caught:
            for _ in range(5):  # a quorum queue finds out a little late, and takes one or two more
                extra = asyncio.create_task(proxy.work(2))
                done, _ = await asyncio.wait((extra,), timeout=0.5)
                calls.append(extra)
                if done:
                    calls.pop()
                    await extra
        assert time.monotonic() - began < 4
        assert caught.value.executed == "no"
        async with mq.serve(Bounded(), name=service, quorum=quorum):  # those that wait are none the worse for it
            assert sorted(await asyncio.gather(*calls))[:2] == [0, 1]
            assert await proxy.work(7) == 7


async def test_a_proxy_by_name_is_told_to_confirm(mq: amqproxy.Client, service: str) -> None:
    async with without_workers(mq, Slow(), service, max_length=1):
        proxy = mq.proxy(service, confirm=True, timeout=20)
        limited = mq.proxy(service, confirm=True, timeout=20, max_in_flight=5)
        first = asyncio.create_task(proxy.work(1))
        await eventually(lambda: waiting(mq, service), 1)
        for one in (proxy, limited, mq.proxy(Slow, name=service, confirm=True)):
            with pytest.raises(amqproxy.Overloaded):
                await one.work(2)
        with pytest.raises(amqproxy.CallTimeout):  # unconfirmed, it is missed when its time is over
            await mq.proxy(service, timeout=0.2).work(2)
        with pytest.raises(amqproxy.Overloaded, match=r"full \(x-overflow\)"):
            await mq.sender(service).work(2)
        first.cancel()


@pytest.mark.parametrize("options", [{"retry": 1}, {"retry": 3}, {"hedge": 0.5}, {"hedge": 0.5, "retry": 2}])
async def test_calls_that_may_be_sent_more_than_once_are_told_as_well(
    mq: amqproxy.Client, service: str, options: dict[str, Any]
) -> None:
    async with without_workers(mq, Bounded(), service, max_length=1):
        proxy = mq.proxy(Bounded, name=service, timeout=20, idempotent=True, **options)
        named = mq.proxy(service, timeout=20, idempotent=True, confirm=True, **options)
        first = asyncio.create_task(mq.proxy(Bounded, name=service).work(1))
        await eventually(lambda: waiting(mq, service), 1)
        began = time.monotonic()
        for call in (proxy.work(2), named.work(2), named.work(2).either()):
            with pytest.raises(amqproxy.Overloaded, match="is full") as caught:
                await call
            assert caught.value.executed == "no"
            tries = options.get("retry", 1)
            assert tries == 1 or caught.value.__notes__[0].startswith(f"it was tried {tries} times")
        assert time.monotonic() - began < 5
        first.cancel()


async def test_a_call_that_a_full_queue_refused_is_tried_again_until_there_is_room(
    mq: amqproxy.Client, service: str
) -> None:
    async with without_workers(mq, Bounded(), service, max_length=1):
        first = asyncio.create_task(mq.proxy(Bounded, name=service).work(1))
        await eventually(lambda: waiting(mq, service), 1)
        retry = amqproxy.Retry(attempts=1000, wait=0.02, max_wait=0.05, budget=amqproxy.RetryBudget(10_000))
        proxy = mq.proxy(Bounded, name=service, timeout=20, retry=retry)
        calls: list[Any] = [asyncio.create_task(proxy.work(2))]
        async with mq.batch(Bounded, name=service, timeout=20, retry=retry) as batch:
            calls += [batch.work(n) for n in (3, 4)]
            done, _ = await asyncio.wait(calls, timeout=0.2)
            assert not done
            assert "10000 of" not in repr(retry.budget)  # they were refused
            async with mq.serve(Bounded(), name=service, max_length=1):
                assert await first == 1
                assert await asyncio.gather(*calls) == [2, 3, 4]


async def test_confirmed_calls_are_answered_and_leave_nothing(mq: amqproxy.Client, service: str) -> None:
    async with mq.serve(Slow(0), name=service, auto_delete=True):
        proxy = mq.proxy(service, confirm=True)
        assert await asyncio.gather(*(proxy.work(n) for n in range(2000))) == list(range(2000))
        assert await amqproxy.gather(proxy.work(n) for n in range(100)) == list(range(100))
        line = next(
            iter(
                mq.caller._by_prefix[prefix] for prefix in mq.caller._by_prefix if mq.caller._by_prefix[prefix].confirms
            )
        )
        await until(lambda: not line._unconfirmed)  # type: ignore[attr-defined]  # of a ConfirmedLine
        with pytest.raises(amqproxy.Unroutable):
            await mq.proxy(f"{service}.nobody", confirm=True).work(1)


async def test_dropped_at_the_head_is_missed_when_its_time_is_over_and_kept_with_the_reason(
    mq: amqproxy.Client, service: str
) -> None:
    options = {"max_length": 1, "overflow": "drop-head", "dead_letters": True}
    async with without_workers(mq, Slow(), service, **options):
        first = asyncio.create_task(mq.proxy(service, timeout=0.5).work(1))
        await eventually(lambda: waiting(mq, service), 1)
        second = asyncio.create_task(mq.proxy(service, timeout=20).work(2))
        with pytest.raises(amqproxy.CallTimeout):
            await first
        [letter] = await letters(mq, service, 1)
        assert (letter.reason, letter.body) == ("maxlen", b"[1]")
        async with mq.serve(Slow(), name=service, **options):
            assert await second == 2


async def test_a_queue_forgets_what_waits_longer_than_its_ttl(mq: amqproxy.Client, service: str) -> None:
    options: dict[str, Any] = {"message_ttl": 0.1, "quorum": True}
    slow = Slow()
    async with without_workers(mq, slow, service, **options):
        await mq.sender(service).work(1)
        [letter] = await letters(mq, service, 1)
        assert letter.reason == "expired"
        assert await dead(mq, service).requeue(service) == (1, 0)
        async with mq.serve(slow, name=service, **options):
            await mq.sender(service).work(2)
            await until(lambda: 2 in slow.ran)


async def test_a_worker_refuses_what_would_wait_too_long_and_serves_the_rest(mq: amqproxy.Client, service: str) -> None:
    """It can do 40 in a second, 400 come at once: those that it can do in a second or so are done."""
    slow = Slow(0.05)
    async with mq.serve(slow, name=service, concurrency=2, shed_after=1.0, auto_delete=True):
        proxy = mq.proxy(service, timeout=25)
        await mq.sender(service).work(-1)
        began = time.monotonic()
        ended = await asyncio.gather(*(proxy.work(n) for n in range(400)), return_exceptions=True)
        took = time.monotonic() - began
    served = [one for one in ended if isinstance(one, int)]
    refused = [one for one in ended if isinstance(one, amqproxy.RemoteError)]
    assert len(served) + len(refused) == 400
    assert 20 <= len(served) <= 200, len(served)
    assert took < 8  # 10 s for all of them
    assert {(one.code, one.type, one.retryable, one.executed) for one in refused} == {
        ("resource_exhausted", "Overloaded", True, "no")
    }
    assert all(0.1 <= one.details["retry_after"] <= 20 for one in refused)
    assert sorted(slow.ran) == sorted([-1, *served])


async def test_batches_are_refused_by_what_their_messages_take(mq: amqproxy.Client, service: str) -> None:
    """It can do 100 calls in a second, and 1200 come at once, in messages of many."""
    slow = Slow(0.01)
    async with mq.serve(slow, name=service, concurrency=1, shed_after=1.0, auto_delete=True):
        async with mq.batch(service, timeout=25) as batch:
            calls = [batch.work(n) for n in range(1200)]
        ended = await asyncio.gather(*calls, return_exceptions=True)
    served = [one for one in ended if isinstance(one, int)]
    refused = [one for one in ended if isinstance(one, amqproxy.RemoteError)]
    assert len(served) + len(refused) == 1200
    assert 64 <= len(served) <= 700, len(served)
    assert {(one.code, one.type, one.executed) for one in refused} == {("resource_exhausted", "Overloaded", "no")}
    assert sorted(slow.ran) == sorted(served)


async def test_one_way_messages_are_never_refused(mq: amqproxy.Client, service: str) -> None:
    slow = Slow(0.02)
    async with mq.serve(slow, name=service, concurrency=1, shed_after=0.1, auto_delete=True):
        sender = mq.sender(service)
        await asyncio.gather(*(sender.work(n) for n in range(150)))
        await until(lambda: len(slow.ran) == 150, lambda: f"{len(slow.ran)} of 150", within=15)


async def test_a_pool_that_keeps_up_refuses_nothing(mq: amqproxy.Client, service: str) -> None:
    async with mq.serve(Slow(0.01), name=service, concurrency=10, shed_after=1.0, auto_delete=True):
        proxy = mq.proxy(service)
        for _ in range(25):
            assert await asyncio.gather(*(proxy.work(n) for n in range(60))) == list(range(60))
