"""Calls that are tried again: what did not run, or may run twice, until the deadline or the attempts are used up."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import cramjam
import pytest

import amqproxy
from amqproxy import RemoteError, Retry, RetryBudget
from amqproxy.errors import Executed
from amqproxy.handler import Refused, refusal
from amqproxy.properties import Properties
from amqproxy.wire import encode_failure
from tests.contract.raw import Raw
from tests.contract.test_links import cut
from tests.patience import until

SOON = Retry(5, wait=0.01, max_wait=0.02)


class Counter:
    """Refuses the first calls of a kind, and says how often and under which ids it was called."""

    def __init__(self, failures: int = 2, error: Callable[[], Exception] = ValueError) -> None:
        self.failures = failures
        self.error = error
        self.ids: list[str | None] = []
        self.entered = asyncio.Semaphore(0)
        self.open = asyncio.Event()

    async def count(self) -> int:
        self.ids.append(amqproxy.current().message_id)
        if len(self.ids) <= self.failures:
            raise self.error()
        return len(self.ids)

    @amqproxy.method(idempotent=True)
    async def wait(self) -> int:
        self.ids.append(amqproxy.current().message_id)
        self.entered.release()
        await self.open.wait()
        return len(self.ids)

    async def numbers(self) -> AsyncIterator[int]:
        yield 1


def busy(**given: Any) -> RemoteError:
    return RemoteError("busy", code="unavailable", **{"retryable": True, "executed": "no", **given})


class Refusing:
    """A worker of another make that refuses the first requests with an error, and answers the others with 7."""

    def __init__(self, raw: Raw, error: RemoteError, times: int) -> None:
        self.error = error
        self.times = times
        self.asked: list[Properties] = []
        self._raw = raw
        self._task = asyncio.ensure_future(self._run())

    async def _run(self) -> None:
        while True:
            request = await self._raw.messages.get()
            self.asked.append(request.properties)
            failed = len(self.asked) <= self.times
            assert request.properties.reply_to is not None
            compressed = (request.properties.content_encoding or b"").startswith(b"snappy-")
            answer = bytes(cramjam.snappy.compress_raw(b"7")) if compressed else b"7"
            self._raw.publish(
                request.properties.reply_to.decode(),
                encode_failure(self.error) if failed else answer,
                content_type=b"com.github.sstone.amqp.proxy.AmqpProxy$ServerFailure" if failed else b"x",
                correlation_id=request.properties.correlation_id,
            )

    @classmethod
    @asynccontextmanager
    async def serving(cls, raw: Raw, service: str, error: RemoteError, times: int = 2) -> AsyncIterator[Refusing]:
        await raw.joins(service)
        worker = cls(raw, error, times)
        try:
            yield worker
        finally:
            worker._task.cancel()


async def test_what_a_worker_refused_for_now_is_tried_again_under_one_id(
    mq: amqproxy.Client, raw: Raw, service: str
) -> None:
    async with Refusing.serving(raw, service, busy()) as worker:
        assert await mq.proxy(Counter, name=service, retry=SOON).count() == 7
        first, second, third = worker.asked
        assert first.message_id == second.message_id == third.message_id is not None
        assert len({first.correlation_id, second.correlation_id, third.correlation_id}) == 3
        told = [int((one.headers or {})["x-timeout-ms"]) for one in worker.asked]
        assert told == sorted(told, reverse=True)  # one deadline for all


@pytest.mark.parametrize(
    "error",
    [busy(retryable=False), busy(executed="yes"), busy(executed="maybe")],
    ids=["not retryable", "it ran", "it may have run"],
)
async def test_what_may_not_be_tried_again_is_not(
    mq: amqproxy.Client, raw: Raw, service: str, error: RemoteError
) -> None:
    async with Refusing.serving(raw, service, error) as worker:
        with pytest.raises(RemoteError, match="busy") as caught:
            await mq.proxy(Counter, name=service, retry=SOON).count()
        assert caught.value.executed == error.executed
        assert len(worker.asked) == 1


async def test_what_may_have_run_is_tried_again_where_that_does_no_harm(
    mq: amqproxy.Client, raw: Raw, service: str
) -> None:
    async with Refusing.serving(raw, service, busy(executed="maybe")) as worker:
        assert await mq.proxy(Counter, name=service, retry=SOON, idempotent=True).count() == 7
        assert len(worker.asked) == 3


async def test_what_the_handler_raised_is_not_tried_again(mq: amqproxy.Client, service: str) -> None:
    counter = Counter(error=lambda: busy())
    async with mq.serve(counter, name=service, auto_delete=True):
        with pytest.raises(RemoteError, match="busy") as caught:
            await mq.proxy(Counter, name=service, retry=SOON, idempotent=True).count()
        assert (caught.value.executed, len(counter.ids)) == ("yes", 1)


async def test_attempts_are_counted_and_the_error_says_so(mq: amqproxy.Client, raw: Raw, service: str) -> None:
    async with Refusing.serving(raw, service, busy(), times=9) as worker:
        with pytest.raises(RemoteError, match="busy") as caught:
            await mq.proxy(Counter, name=service, retry=Retry(3, wait=0)).count()
        assert len(worker.asked) == 3
        [note] = caught.value.__notes__
        assert note.startswith("it was tried 3 times in ")
        assert note.endswith(", as often as its option retry says")
        assert caught.value.executed == "no"


async def test_doubt_about_one_try_stays_when_the_next_is_refused(mq: amqproxy.Client, raw: Raw, service: str) -> None:
    async with Refusing.serving(raw, service, busy(executed="maybe"), times=9) as worker:

        async def changed() -> None:
            await until(lambda: len(worker.asked) >= 2)
            worker.error = busy(executed="no")

        changing = asyncio.ensure_future(changed())
        with pytest.raises(RemoteError) as caught:
            await mq.proxy(Counter, name=service, retry=SOON, idempotent=True).count()
        await changing
        assert caught.value.executed == "maybe"


async def test_doubt_about_one_try_stays_when_there_is_no_place_for_the_next(
    mq: amqproxy.Client, raw: Raw, service: str
) -> None:
    await raw.joins(service)
    proxy = mq.proxy(Counter, name=service, max_in_flight=1, retry=Retry(2), idempotent=True)

    async def other() -> None:
        while True:
            try:
                await proxy.count()
            except amqproxy.Overloaded:
                await asyncio.sleep(0)

    call = asyncio.ensure_future(proxy.count())
    await refuse(raw, busy(executed="maybe", details={"retry_after": 0.3}))
    taking = asyncio.ensure_future(other())
    await raw.messages.get()  # which has the place now
    with pytest.raises(amqproxy.Overloaded, match="max_in_flight") as caught:
        await call
    assert caught.value.executed == "maybe"
    taking.cancel()


async def test_doubt_about_one_try_stays_when_there_will_be_no_other_link(
    amqp_url: str, raw: Raw, service: str
) -> None:
    await raw.joins(service)
    async with amqproxy.connect(amqp_url) as mq:
        call = asyncio.ensure_future(mq.proxy(Counter, name=service, retry=Retry(3, wait=0), idempotent=True).count())
        await refuse(raw, busy())
        await refuse(raw, busy(executed="maybe", details={"retry_after": 0.5}))
        await asyncio.wait((call,), timeout=0.1)  # until that has come
    with pytest.raises(RemoteError) as caught:
        await call
    assert caught.value.executed == "maybe"


@pytest.mark.parametrize("executed", ["no", "maybe"])
async def test_a_call_that_waits_for_its_next_try_ends_with_the_connection(
    amqp_url: str, raw: Raw, service: str, executed: Executed
) -> None:
    await raw.joins(service)
    async with amqproxy.connect(amqp_url) as mq:
        proxy = mq.proxy(Counter, name=service, retry=Retry(3, wait=0), idempotent=True, timeout=60)
        call = asyncio.ensure_future(proxy.count())
        await refuse(raw, busy(executed=executed, details={"retry_after": 30}))
        await asyncio.wait((call,), timeout=0.1)  # until that has come
    with pytest.raises(amqproxy.Closed if executed == "no" else RemoteError):
        async with asyncio.timeout(5):
            await call


async def refuse(raw: Raw, error: RemoteError) -> None:
    """Answer the next request with an error."""
    properties = (await raw.messages.get()).properties
    assert properties.reply_to is not None
    raw.publish(
        properties.reply_to.decode(),
        encode_failure(error),
        content_type=b"com.github.sstone.amqp.proxy.AmqpProxy$ServerFailure",
        correlation_id=properties.correlation_id,
    )


async def test_no_try_begins_behind_the_deadline(mq: amqproxy.Client, raw: Raw, service: str) -> None:
    error = busy(details={"retry_after": 60})
    async with Refusing.serving(raw, service, error, times=9) as worker:
        began = time.monotonic()
        with pytest.raises(RemoteError) as caught:
            await mq.proxy(Counter, name=service, retry=SOON, timeout=5).count()
        assert time.monotonic() - began < 3
        assert len(worker.asked) == 1
        assert caught.value.__notes__[0].endswith("and no time was left for another")


async def test_those_that_fail_in_the_same_moment_do_not_come_again_in_the_same_moment(
    mq: amqproxy.Client, raw: Raw, service: str
) -> None:
    many, wait = 40, 0.8
    await raw.joins(service)
    proxy = mq.proxy(Counter, name=service, retry=Retry(2, wait=wait, budget=RetryBudget(1000)))
    calls = [asyncio.ensure_future(proxy.count()) for _ in range(many)]
    for _ in range(many):
        await refuse(raw, busy())
    began = time.monotonic()
    waited = []
    for _ in range(many):
        await refuse(raw, busy())
        waited.append(time.monotonic() - began)
    await asyncio.gather(*calls, return_exceptions=True)
    assert min(waited) < wait / 2 < max(waited)


async def test_a_worker_says_when_to_come_again(mq: amqproxy.Client, raw: Raw, service: str) -> None:
    async with Refusing.serving(raw, service, busy(details={"retry_after": 0.3}), times=1) as worker:
        began = time.monotonic()
        assert await mq.proxy(Counter, name=service, retry=Retry(2, wait=0)).count() == 7
        assert time.monotonic() - began >= 0.3
        assert len(worker.asked) == 2


@pytest.mark.parametrize("after", [10**400, 1e308], ids=["a whole number", "a float"])
async def test_a_worker_that_wants_to_be_asked_when_all_is_over_is_not_asked_again(
    mq: amqproxy.Client, raw: Raw, service: str, after: float
) -> None:
    async with Refusing.serving(raw, service, busy(details={"retry_after": after})) as worker:
        with pytest.raises(RemoteError) as caught:
            await mq.proxy(Counter, name=service, retry=Retry(2, wait=0), timeout=5).count()
        assert caught.value.__notes__[0].endswith("and no time was left for another")
        assert len(worker.asked) == 1


@pytest.mark.parametrize("after", [-1, True, "soon", None, []])
async def test_nonsense_about_when_to_come_again_is_passed_over(
    mq: amqproxy.Client, raw: Raw, service: str, after: Any
) -> None:
    async with Refusing.serving(raw, service, busy(details={"retry_after": after}), times=1):
        assert await mq.proxy(Counter, name=service, retry=Retry(2, wait=0), timeout=5).count() == 7


async def test_when_most_calls_fail_they_are_not_tried_again(mq: amqproxy.Client, raw: Raw, service: str) -> None:
    budget = RetryBudget(tokens=10)
    async with Refusing.serving(raw, service, busy(), times=10**6) as worker:
        proxy = mq.proxy(Counter, name=service, retry=Retry(3, wait=0, budget=budget))
        for _ in range(50):
            with pytest.raises(RemoteError) as caught:
                await proxy.count()
        assert len(worker.asked) <= 50 + 10
        assert caught.value.__notes__[0].endswith("not again, for too many calls fail (the retry budget is used up)")
        worker.times = 0
        for _ in range(100):
            await proxy.count()
        assert budget.open


async def test_the_budget_is_that_of_the_connection(mq: amqproxy.Client, raw: Raw, service: str) -> None:
    async with Refusing.serving(raw, service, busy(), times=10**6) as worker:
        for _ in range(100):
            with pytest.raises(RemoteError):
                await mq.proxy(Counter, name=service, retry=Retry(3, wait=0)).count()
        assert len(worker.asked) <= 100 + 50


async def test_a_service_that_is_not_there_yet_is_waited_for(mq: amqproxy.Client, service: str) -> None:
    call = asyncio.ensure_future(mq.proxy(Counter, name=service, retry=Retry(1000, wait=0.01, max_wait=0.05)).count())
    await asyncio.sleep(0.05)
    async with mq.serve(Counter(failures=0), name=service, auto_delete=True):
        assert await asyncio.wait_for(call, 10) == 1


async def test_a_call_whose_link_broke_is_tried_again_if_it_may_be(amqp_url: str, service: str) -> None:
    async with amqproxy.connect(amqp_url) as mq, amqproxy.connect(amqp_url) as server:
        counter = Counter()
        async with server.serve(counter, name=service, auto_delete=True):
            call = asyncio.ensure_future(mq.proxy(Counter, name=service, retry=SOON).wait())
            await counter.entered.acquire()
            cut(mq)
            await counter.entered.acquire()
            counter.open.set()
            assert await call == 2
            assert len(set(counter.ids)) == 1

            counter.open.clear()
            once = amqproxy.options(mq.proxy(Counter, name=service), retry=SOON, idempotent=False)
            call = asyncio.ensure_future(once.wait())
            await counter.entered.acquire()
            cut(mq)
            with pytest.raises(amqproxy.ConnectionLost) as caught:
                await call
            assert caught.value.executed == "maybe"


@pytest.mark.parametrize("left", [100, 0])
async def test_a_lost_link_costs_the_budget_nothing(amqp_url: str, service: str, left: int) -> None:
    budget = RetryBudget(100)
    for _ in range(100 - left):
        budget.failed()
    async with amqproxy.connect(amqp_url) as mq, amqproxy.connect(amqp_url) as server:
        counter = Counter()
        async with server.serve(counter, name=service, auto_delete=True, concurrency=200):
            proxy = mq.proxy(Counter, name=service, retry=Retry(3, wait=0.01, budget=budget))
            calls = [asyncio.ensure_future(proxy.wait()) for _ in range(100)]
            await until(lambda: len(counter.ids) == 100)
            cut(mq)
            await until(lambda: len(counter.ids) == 200)
            assert repr(budget) == f"<RetryBudget {left} of 100 tokens>"
            counter.open.set()
            await asyncio.gather(*calls)


async def test_a_cancelled_call_is_not_tried_again(mq: amqproxy.Client, raw: Raw, service: str) -> None:
    async with Refusing.serving(raw, service, busy(details={"retry_after": 20}), times=9) as worker:
        call = asyncio.ensure_future(mq.proxy(Counter, name=service, retry=SOON).count())
        await until(lambda: worker.asked)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(call, 0.05)
        assert call.cancelled()
        assert len(worker.asked) == 1


# With everything else that calls may have


@pytest.mark.parametrize("options", [{}, {"compress_above": 1000}])
async def test_by_name(mq: amqproxy.Client, raw: Raw, service: str, options: dict[str, Any]) -> None:
    async with Refusing.serving(raw, service, busy()) as worker:
        proxy = mq.proxy(service, retry=SOON, **options)
        assert await proxy.count() == 7
        assert len(worker.asked) == 3
        worker.asked.clear()
        assert await proxy.count().either() == 7
        assert len(worker.asked) == 3
        with pytest.raises(amqproxy.ContractError, match="use a proxy without retry"):
            async for _ in proxy.numbers():
                pass


async def test_a_stream_is_refused(mq: amqproxy.Client, service: str) -> None:
    with pytest.raises(amqproxy.ContractError, match=r"Counter\.numbers.* streams, and what has begun"):
        mq.proxy(Counter, name=service, retry=3).numbers()


@pytest.mark.parametrize("make", ["sender", "broadcast"])
def test_what_nobody_answers_has_no_retry(mq: amqproxy.Client, service: str, make: str) -> None:
    with pytest.raises(ValueError, match=f"a {make} has no retry"):
        getattr(mq, make)(service, retry=3)


async def test_within_middleware_which_sees_one_call(mq: amqproxy.Client, raw: Raw, service: str) -> None:
    seen = []

    async def watch(call: Any, next: amqproxy.Next) -> Any:
        seen.append(call.method)
        return await next(call.with_headers({"who": "me"}))

    async with Refusing.serving(raw, service, busy()) as worker:
        assert await mq.proxy(Counter, name=service, retry=SOON, middleware=[watch]).count() == 7
        assert seen == ["count"]
        assert [(one.headers or {})["who"] for one in worker.asked] == ["me"] * 3


async def test_with_compression_limits_and_signs_of_life(mq: amqproxy.Client, raw: Raw, service: str) -> None:
    async with Refusing.serving(raw, service, busy()) as worker:
        proxy = mq.proxy(service, retry=SOON, compress_above=10, max_in_flight=1, heartbeat=5)
        assert await proxy.take("x" * 1000) == 7
        assert [one.content_encoding for one in worker.asked] == [b"snappy-json"] * 3
        assert len({one.message_id for one in worker.asked}) == 1
        assert [(one.headers or {})["x-heartbeat-ms"] for one in worker.asked] == [5000] * 3


async def test_calls_of_a_batch_and_of_gather(mq: amqproxy.Client, service: str) -> None:
    refused = 0

    async def shy(call: Any, next: amqproxy.Next) -> Any:
        nonlocal refused
        if refused < 3:
            refused += 1
            raise Refused(refusal("unavailable", "not now", retryable=True))
        return await next(call)

    class Adder:
        async def add(self, x: int, y: int) -> int:
            return x + y

    async with mq.serve(Adder(), name=service, middleware=[shy], auto_delete=True):
        proxy = mq.proxy(Adder, name=service, retry=SOON)
        assert await amqproxy.gather(proxy.add(n, n) for n in range(10)) == [2 * n for n in range(10)]
        assert refused == 3
        refused = 0
        async with mq.batch(Adder, name=service, retry=SOON) as batch:
            sums = [batch.add(n, n) for n in range(10)]
        assert [call.result() for call in sums] == [2 * n for n in range(10)]  # type: ignore[attr-defined]
        assert refused == 3


async def test_without_await(mq: amqproxy.Client, amqp_url: str, raw: Raw, service: str) -> None:
    async with Refusing.serving(raw, service, busy()) as worker:

        def call() -> Any:
            with amqproxy.sync.connect(amqp_url) as sync:
                return sync.proxy(service, retry=SOON).count()

        assert await asyncio.to_thread(call) == 7
        assert len(worker.asked) == 3


async def test_a_deadline_that_a_call_inherits_holds_for_all_tries(mq: amqproxy.Client, raw: Raw, service: str) -> None:
    async with Refusing.serving(raw, service, busy(), times=10**6):
        began = time.monotonic()
        with pytest.raises(RemoteError) as caught, amqproxy.deadline(0.3):
            await mq.proxy(Counter, name=service, retry=Retry(10**6, wait=0.05, budget=RetryBudget(10**6))).count()
        assert time.monotonic() - began < 0.3 + 0.5
        assert caught.value.__notes__[0].endswith("and no time was left for another")
