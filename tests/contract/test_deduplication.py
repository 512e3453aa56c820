"""Requests that come again: answered as the first time, and not run again."""

from __future__ import annotations

import asyncio
import json
import re
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

import amqproxy
import amqproxy.sync
from amqproxy import Deduplication, RemoteError
from amqproxy.redis import RedisStore
from tests.contract.raw import Message, Raw
from tests.patience import until
from tests.redis_server import RedisServer, redis

__all__ = ["redis"]  # a fixture


class Accounts:
    def __init__(self) -> None:
        self.runs: list[str] = []
        self.entered = asyncio.Semaphore(0)
        self.open = asyncio.Event()
        self.open.set()

    async def add(self, x: int, y: int) -> int:
        self.runs.append(f"{x}+{y}")
        return x + y

    async def wait(self, name: str) -> str:
        self.runs.append(name)
        self.entered.release()
        await self.open.wait()
        return f"{name} {len(self.runs)}"

    def block(self, name: str) -> str:
        self.runs.append(name)
        while not self.open.is_set():
            time.sleep(0.01)
        return f"{name} 1"

    @amqproxy.method(at_most_once=True)
    async def pay_slowly(self, name: str) -> str:
        self.runs.append(name)
        self.entered.release()
        await self.open.wait()
        return f"{name} 1"

    async def fail_later(self) -> None:
        self.runs.append("fail")
        self.entered.release()
        await self.open.wait()
        raise RemoteError("not now", code="unavailable", retryable=True)

    async def fail(self, code: str) -> None:
        self.runs.append(code)
        if code == "plain":
            raise ZeroDivisionError(f"{len(self.runs)} runs")
        raise RemoteError(f"{len(self.runs)} runs", code=code, retryable=code == "unavailable", details={"n": object()})

    def in_a_thread(self, name: str) -> str:
        self.runs.append(name)
        return name

    async def large(self, size: int) -> str:
        self.runs.append("large")
        return "x" * size

    @amqproxy.method(at_most_once=True)
    async def pay(self, amount: int) -> int:
        self.runs.append(f"pay {amount}")
        return amount

    async def numbers(self, count: int) -> AsyncIterator[int]:
        self.runs.append("numbers")
        for number in range(count):
            yield number


class Shelf:
    """A store in memory, which can be told to fail."""

    def __init__(self) -> None:
        self.claims: dict[str, tuple[str, float]] = {}
        self.replies: dict[str, bytes] = {}
        self.error: Exception | None = None

    def _now(self) -> float:
        if self.error is not None:
            raise self.error
        return asyncio.get_running_loop().time()

    async def claim(self, key: str, owner: str, seconds: float) -> bytes | bool:
        now = self._now()
        if key in self.replies:
            return self.replies[key]
        other, until = self.claims.get(key, (owner, now))
        if other != owner and until > now:
            return False
        self.claims[key] = owner, now + seconds
        return True

    async def keep(self, key: str, owner: str, reply: bytes, seconds: float) -> None:
        self._now()
        self.replies.setdefault(key, reply)

    async def release(self, key: str, owner: str) -> None:
        self._now()
        if self.claims.get(key, ("", 0.0))[0] == owner:
            del self.claims[key]


@pytest.fixture(params=["memory", "Redis"])
def store(request: pytest.FixtureRequest) -> Iterator[Any]:
    if request.param == "memory":
        yield Shelf()
    else:
        yield RedisStore(request.getfixturevalue("redis").url)


@asynccontextmanager
async def accounts(
    mq: amqproxy.Client, service: str, deduplicate: Any = 100, **options: Any
) -> AsyncIterator[Accounts]:
    served = Accounts()
    try:
        async with mq.serve(served, name=service, auto_delete=True, deduplicate=deduplicate, **options):
            yield served
    finally:
        store = getattr(deduplicate, "store", None)
        if isinstance(store, RedisStore):
            await store.aclose()


def ask(raw: Raw, service: str, method: str, *args: Any, id: str | None = "one", **properties: Any) -> None:
    raw.publish(
        service,
        json.dumps(args).encode(),
        content_type=f"{service}.{method}".encode(),
        message_id=None if id is None else id.encode(),
        reply_to=raw.reply_to,
        **properties,
    )


def cancel(raw: Raw, service: str, id: bytes) -> None:
    form = {"content_type": b"amqproxy.Cancel", "correlation_id": id, "reply_to": raw.reply_to}
    raw.publish("", b"", exchange=f"amqproxy.{service}", **form)


def said(message: Message) -> Any:
    return json.loads(message.body)


async def test_a_request_that_comes_again_is_answered_as_the_first_time(
    mq: amqproxy.Client, raw: Raw, service: str
) -> None:
    async with accounts(mq, service) as served:
        for number in (b"a", b"b", b"c"):
            ask(raw, service, "wait", "tea", correlation_id=number)
            answer = await raw.next_message()
            assert said(answer) == "tea 1"
            assert answer.properties.correlation_id == number
        assert served.runs == ["tea"]


@pytest.mark.parametrize("method", ["wait", "in_a_thread"])
async def test_one_that_comes_meanwhile_waits_for_the_reply(
    mq: amqproxy.Client, raw: Raw, service: str, method: str
) -> None:
    async with accounts(mq, service) as served:
        for _ in range(10):
            ask(raw, service, method, "tea")
        answers = [said(await raw.next_message()) for _ in range(10)]
        assert len(set(answers)) == 1
        assert served.runs == ["tea"]


async def test_what_differs_is_no_repetition(mq: amqproxy.Client, raw: Raw, service: str) -> None:
    async with accounts(mq, service) as served:
        ask(raw, service, "add", 1, 2)
        ask(raw, service, "add", 1, 3)  # another body
        ask(raw, service, "add", 1, 2, id="two")
        ask(raw, service, "in_a_thread", "tea")
        ask(raw, service, "wait", "tea")
        for _ in range(2):
            ask(raw, service, "add", 5, 5, id=None)
        for _ in range(7):
            await raw.next_message()
        assert sorted(served.runs) == ["1+2", "1+2", "1+3", "5+5", "5+5", "tea", "tea"]


async def test_a_failure_is_an_answer_too(mq: amqproxy.Client, raw: Raw, service: str) -> None:
    async with accounts(mq, service) as served:
        failures = []
        for _ in range(2):
            ask(raw, service, "fail", "plain")
            failures.append(said(await raw.next_message()))
            ask(raw, service, "fail", "not_found")
            failures.append(said(await raw.next_message()))
        assert failures[:2] == failures[2:]
        assert [one["error"]["type"] for one in failures[:2]] == ["ZeroDivisionError", "RemoteError"]
        assert [one["error"]["executed"] for one in failures] == ["yes"] * 4
        assert served.runs == ["plain", "not_found"]


async def test_what_may_go_better_the_next_time_is_run_again(mq: amqproxy.Client, raw: Raw, service: str) -> None:
    async with accounts(mq, service) as served:
        for times in (1, 2):
            ask(raw, service, "fail", "unavailable")
            assert said(await raw.next_message())["message"] == f"{times} runs"
        assert served.runs == ["unavailable"] * 2


async def test_what_is_given_back_once_is_run_again(mq: amqproxy.Client, raw: Raw, service: str) -> None:
    async with accounts(mq, service, requeue_once=True) as served:
        ask(raw, service, "fail", "plain")
        assert said(await raw.next_message())["message"] == "2 runs"
        assert served.runs == ["plain"] * 2


@pytest.mark.parametrize("method", ["wait", "pay_slowly"])
@pytest.mark.parametrize("limit", [None, 300])
async def test_what_was_interrupted_is_not_run_again(
    mq: amqproxy.Client, raw: Raw, service: str, method: str, limit: int | None
) -> None:
    """It is when its time is over, or at once if it has no limit; whoever waits for it, or comes later, is told so."""
    headers = {} if limit is None else {"x-timeout-ms": limit}
    async with accounts(mq, service) as served:
        served.open.clear()
        ask(raw, service, method, "tea", correlation_id=b"first", headers=headers)
        await served.entered.acquire()
        ask(raw, service, method, "tea", correlation_id=b"second")
        cancel(raw, service, b"first")
        answer = await raw.next_message()
        assert answer.properties.correlation_id == b"second"
        ask(raw, service, method, "tea", correlation_id=b"third")
        for told in (said(answer)["error"], said(await raw.next_message())["error"]):
            assert (told["code"], told["type"], told["executed"]) == ("aborted", "Interrupted", "maybe")
        assert served.runs == ["tea"]


@pytest.mark.parametrize("method", ["wait", "block", "pay_slowly"])
async def test_a_call_with_a_time_limit_runs_to_its_end_though_it_is_cancelled(
    mq: amqproxy.Client, raw: Raw, service: str, method: str
) -> None:
    """Who sends it again, as callers do whose link was lost or who gave its worker up, is answered by the one run."""
    async with accounts(mq, service) as served:
        served.open.clear()
        ask(raw, service, method, "tea", correlation_id=b"first", headers={"x-timeout-ms": 30_000})
        await until(lambda: served.runs == ["tea"])
        cancel(raw, service, b"first")
        ask(raw, service, method, "tea", correlation_id=b"second", headers={"x-timeout-ms": 30_000})
        ask(raw, service, "add", 1, 2, id=None)  # behind it both were seen
        assert said(await raw.next_message()) == 3
        served.open.set()
        answer = await raw.next_message()
        assert answer.properties.correlation_id == b"second"
        assert said(answer).startswith("tea")
        ask(raw, service, method, "tea", correlation_id=b"third")
        assert (await raw.next_message()).body == answer.body
        assert served.runs == ["tea", "1+2"]


def test_a_worker_that_was_given_up_and_comes_back_runs_a_call_once(amqp_url: str, service: str) -> None:
    """Its event loop is held up, so that it is missed, cancelled and asked again, all of which it finds at once."""

    class Bank:
        balance = 0

        @amqproxy.method(idempotent=True)
        async def deposit(self, amount: int) -> int:
            self.balance += amount
            missed.wait(10)
            await asyncio.sleep(0.1)
            return self.balance

    async def deposit() -> int:
        budget = amqproxy.RetryBudget(100)
        retry = amqproxy.Retry(5, wait=0.01, max_wait=0.02, budget=budget)
        async with amqproxy.connect(amqp_url) as mq:
            proxy = mq.proxy(Bank, name=service, heartbeat=0.05, retry=retry, timeout=20)
            call = asyncio.ensure_future(proxy.deposit(5))
            full = repr(budget)
            await until(lambda: repr(budget) != full)  # the worker was missed
            await asyncio.sleep(0.2)  # and the call sent again
            missed.set()
            return await call

    missed = threading.Event()
    bank = Bank()
    options: dict[str, Any] = {"name": service, "auto_delete": True, "deduplicate": 100}
    with amqproxy.sync.connect(amqp_url) as worker, worker.serve(bank, **options):
        assert asyncio.run(deposit()) == 5
    assert bank.balance == 5


async def test_one_whose_time_is_over_when_the_first_has_failed_is_not_run(
    mq: amqproxy.Client, raw: Raw, service: str
) -> None:
    async with accounts(mq, service) as served:
        served.open.clear()
        ask(raw, service, "fail_later", correlation_id=b"first")
        await served.entered.acquire()
        ask(raw, service, "fail_later", correlation_id=b"second", headers={"x-timeout-ms": 50})
        ask(raw, service, "add", 1, 2, id=None)  # behind it the second was seen
        assert said(await raw.next_message()) == 3
        await asyncio.sleep(0.1)
        served.open.set()
        failures = [said(await raw.next_message()) for _ in range(2)]
        assert [one["error"]["code"] for one in failures] == ["unavailable", "deadline_exceeded"]
        assert failures[1]["error"]["executed"] == "no"
        assert "was not run: its time was over when it had waited for another like it" in failures[1]["message"]
        assert served.runs == ["fail", "1+2"]


async def test_one_for_which_the_store_takes_too_long_is_not_run(mq: amqproxy.Client, raw: Raw, service: str) -> None:
    class Slow(Shelf):
        async def claim(self, key: str, owner: str, seconds: float) -> bytes | bool:
            await asyncio.sleep(0.2)
            return await super().claim(key, owner, seconds)

    async with accounts(mq, service, Deduplication(store=Slow())) as served:
        ask(raw, service, "add", 1, 2, headers={"x-timeout-ms": 100})
        assert said(await raw.next_message())["error"]["code"] == "deadline_exceeded"
        assert served.runs == []
        ask(raw, service, "add", 1, 2)  # nobody claims it any more
        assert said(await raw.next_message()) == 3


async def test_no_more_is_remembered_than_was_asked_for(mq: amqproxy.Client, raw: Raw, service: str) -> None:
    async with accounts(mq, service, deduplicate=Deduplication(entries=2, max_bytes=400)) as served:
        for id in "abca":
            ask(raw, service, "add", 1, 2, id=id)
            assert said(await raw.next_message()) == 3
        assert len(served.runs) == 4
        for _ in range(2):
            ask(raw, service, "large", 1000, id="d")
        answers = [await raw.next_message() for _ in range(2)]
        assert sorted(len(one.body) > 1000 for one in answers) == [False, True]
        [forgotten] = [said(one) for one in answers if len(one.body) < 1000]
        assert (forgotten["error"]["code"], forgotten["error"]["executed"]) == ("aborted", "yes")
        assert served.runs.count("large") == 1


async def test_calls_that_share_a_message(mq: amqproxy.Client, raw: Raw, service: str) -> None:
    async with accounts(mq, service) as served:
        values: list[int] = []
        for wanted in (3, 6):
            raw.publish(
                service,
                b"[[1,2],[3,4],[5,6]]",
                content_type=f"{service}.add".encode(),
                reply_to=raw.reply_to,
                headers={"x-batch": 3},
                message_id=b"m",
            )
            while len(values) < wanted:
                answer = said(await raw.next_message())
                values += answer if isinstance(answer, list) else [answer]
        assert sorted(values) == sorted([3, 7, 11] * 2)
        assert sorted(served.runs) == ["1+2", "3+4", "5+6"]


async def test_calls_are_as_they_were(mq: amqproxy.Client, service: str) -> None:
    async with accounts(mq, service) as served:
        proxy = mq.proxy(Accounts, name=service, heartbeat=1)
        assert await proxy.add(1, 2) == 3
        assert await proxy.in_a_thread("tea") == "tea"  # type: ignore[misc]  # a plain def, which runs in a thread
        assert [number async for number in mq.proxy(Accounts, name=service).numbers(3)] == [0, 1, 2]
        plain = mq.proxy(Accounts, name=service)
        assert await amqproxy.gather(plain.add(n, n) for n in range(100)) == [2 * n for n in range(100)]
        with pytest.raises(ZeroDivisionError):
            await plain.fail("plain")
        with pytest.raises(RemoteError, match="Expected `int`"):
            await mq.proxy(service).add("x", 1)
        assert [one.value async for one in mq.broadcast(Accounts, name=service).add(1, 1)] == [2]
        assert await plain.pay(5) == 5
        assert len(served.runs) == 106


async def test_middleware_sees_each_request_and_a_refusal_of_its_own_is_not_remembered(
    mq: amqproxy.Client, raw: Raw, service: str
) -> None:
    seen: list[str] = []

    async def guard(call: amqproxy.Call, next: amqproxy.Next) -> Any:
        token = str(call.headers.get("token"))
        seen.append(token)
        if token == "nobody":
            raise RemoteError("who are you?", code="unauthenticated")
        if token == "cached":
            return 30
        try:
            result = await next(call)
        except ZeroDivisionError as error:
            raise RemoteError("not now", code="aborted") from error
        if token == "limited":
            raise RemoteError("not that much", code="permission_denied")
        return 10 * result if isinstance(result, int) and result < 10 else result

    def as_(token: str, method: str, *args: Any) -> None:
        ask(raw, service, method, *args, headers={"token": token})

    async with accounts(mq, service, middleware=[guard]) as served:
        for token, code in (("nobody", "unauthenticated"), ("cached", None), ("ann", None), ("ann", None)):
            as_(token, "add", 1, 2)
            answer = said(await raw.next_message())
            assert answer == 30 if code is None else answer["error"]["code"] == code
        assert served.runs == ["1+2"]
        for token, code in (("nobody", "unauthenticated"), ("limited", "permission_denied"), ("ann", None)):
            as_(token, "add", 1, 2)
            answer = said(await raw.next_message())
            assert answer == 30 if code is None else answer["error"]["code"] == code
            assert code is None or answer["error"]["executed"] == "yes"
        for _ in range(2):
            as_("ann", "fail", "plain")
            assert said(await raw.next_message())["message"] == "not now"
        assert served.runs == ["1+2", "plain"]
        assert seen == ["nobody", "cached", "ann", "ann", "nobody", "limited", "ann", "ann", "ann"]


# With a store that several workers share


async def test_workers_that_share_a_store_run_a_call_once(
    mq: amqproxy.Client, raw: Raw, service: str, store: Any
) -> None:
    shared = Deduplication(store=store)
    async with accounts(mq, service, shared) as first, accounts(mq, service, shared) as second:
        first.open.clear()
        second.open.clear()
        for _ in range(4):  # the broker gives them to both in turn
            ask(raw, service, "wait", "tea")
        await until(lambda: first.runs + second.runs)
        await asyncio.sleep(0.2)  # the others ask the store again and again
        first.open.set()
        second.open.set()
        assert {said(await raw.next_message()) for _ in range(4)} == {"tea 1"}
        assert first.runs + second.runs == ["tea"]
        ask(raw, service, "wait", "tea")
        assert said(await raw.next_message()) == "tea 1"


async def test_a_worker_that_comes_later_knows_what_was_answered(
    mq: amqproxy.Client, raw: Raw, service: str, store: Any
) -> None:
    async with accounts(mq, service, Deduplication(store=store)):
        ask(raw, service, "add", 1, 2)
        ask(raw, service, "fail", "plain")
        answers = sorted([(await raw.next_message()).body for _ in range(2)])
    async with accounts(mq, service, Deduplication(store=store)) as second:
        ask(raw, service, "add", 1, 2)
        ask(raw, service, "fail", "plain")
        assert sorted([(await raw.next_message()).body for _ in range(2)]) == answers
        assert second.runs == []


async def test_the_claim_of_a_lost_worker_ends(mq: amqproxy.Client, raw: Raw, service: str, store: Any) -> None:
    class Deaf:
        """What a worker that was killed leaves behind: a claim that nobody renews."""

        first = True

        async def claim(self, key: str, owner: str, seconds: float) -> bytes | bool:
            if self.first:
                self.first = False
                assert await store.claim(key, "lost", 0.3) is True
            return await store.claim(key, owner, seconds)  # type: ignore[no-any-return]

        keep, release = store.keep, store.release

    async with accounts(mq, service, Deduplication(store=Deaf())) as served:
        ask(raw, service, "add", 1, 2)
        await asyncio.sleep(0.1)
        assert served.runs == []
        assert said(await raw.next_message()) == 3
    if isinstance(store, RedisStore):
        await store.aclose()


async def test_a_claim_holds_as_long_as_the_call_runs(mq: amqproxy.Client, raw: Raw, service: str, store: Any) -> None:
    shared = Deduplication(store=store, lease=0.3)
    async with accounts(mq, service, shared) as first, accounts(mq, service, shared) as second:
        for served in (first, second):
            served.open.clear()
        for _ in range(2):
            ask(raw, service, "wait", "tea")
        await asyncio.sleep(1.0)  # more than three leases
        assert first.runs + second.runs == ["tea"]
        for served in (first, second):
            served.open.set()
        assert {said(await raw.next_message()) for _ in range(2)} == {"tea 1"}


async def test_what_a_lost_worker_had_is_refused_at_most_once_or_answered_if_the_answer_is_known(
    mq: amqproxy.Client, amqp_url: str, raw: Raw, service: str, store: Any
) -> None:
    shared = Deduplication(store=store)
    options = {"name": service, "arguments": {"x-expires": 60_000}, "deduplicate": shared}
    async with mq.serve(Accounts(), **options):  # type: ignore[arg-type]
        ask(raw, service, "pay", 5)
        assert said(await raw.next_message()) == 5
    async with Raw.connected(amqp_url) as lost:
        await lost.opened.consume(service, lambda: None, no_ack=False)
        ask(raw, service, "pay", 5)
        ask(raw, service, "pay", 6, id="two")
        for _ in range(2):
            await lost.next_message()
    second = Accounts()
    async with mq.serve(second, **options):  # type: ignore[arg-type]
        known, unknown = [said(await raw.next_message()) for _ in range(2)]
        if isinstance(known, dict):
            known, unknown = unknown, known
        assert known == 5
        assert (unknown["error"]["code"], unknown["error"]["executed"]) == ("aborted", "maybe")
        assert second.runs == []
        ask(raw, service, "pay", 6, id="two")  # which is a new request, and nobody claims it any more
        assert said(await raw.next_message()) == 6
    if isinstance(store, RedisStore):
        await store.aclose()


async def test_what_runs_at_most_once_is_not_run_when_the_claim_of_its_worker_ends(
    mq: amqproxy.Client, raw: Raw, service: str, store: Any
) -> None:
    """The broker does not say of a second request that a worker had the first; the store does."""

    class Cut:
        """The store, as it is for a worker that loses the way to it: it cannot renew what it has claimed."""

        lost = False

        async def claim(self, key: str, owner: str, seconds: float) -> bytes | bool:
            if self.lost:
                raise OSError("no route")
            return await store.claim(key, owner, seconds)  # type: ignore[no-any-return]

        keep, release = store.keep, store.release

    cut = Cut()
    first, second = Accounts(), Accounts()
    options: dict[str, Any] = {"name": service, "arguments": {"x-expires": 60_000}}
    async with mq.serve(first, deduplicate=Deduplication(store=cut, lease=0.3), **options) as lost:
        first.open.clear()
        ask(raw, service, "pay_slowly", "tea", correlation_id=b"first")
        await first.entered.acquire()
        cut.lost = True
        await lost._session.stop_consuming()  # type: ignore[union-attr]  # the second request is for another worker
        async with mq.serve(second, deduplicate=Deduplication(store=store), **options):
            ask(raw, service, "pay_slowly", "tea", correlation_id=b"second")
            answer = await raw.next_message()
            told = said(answer)["error"]
            assert answer.properties.correlation_id == b"second"
            assert (told["code"], told["type"], told["executed"]) == ("aborted", "Redelivered", "maybe")
            first.open.set()
            assert said(await raw.next_message()) == "tea 1"
            ask(raw, service, "pay_slowly", "tea")
            assert said(await raw.next_message()) == "tea 1"
            ask(raw, service, "pay", 5, id="two")
            assert said(await raw.next_message()) == 5
    assert (first.runs, second.runs) == (["tea"], ["pay 5"])
    if isinstance(store, RedisStore):
        await store.aclose()


async def test_without_its_store_nothing_runs(
    mq: amqproxy.Client, service: str, caplog: pytest.LogCaptureFixture
) -> None:
    shelf = Shelf()
    async with accounts(mq, service, Deduplication(store=shelf)) as served:
        shelf.error = OSError("no route")
        with pytest.raises(RemoteError, match="store that tells whether it ran before does not answer") as caught:
            await mq.proxy(Accounts, name=service).add(1, 2)
        assert (caught.value.code, caught.value.executed, caught.value.retryable) == ("unavailable", "no", True)
        assert caught.value.message.startswith(f"{service}.add (message-id ")
        says = rf"{service}\.add \(message-id [\w-]+\) was not run: the store of replies cannot be asked: OSError"
        assert re.search(says, caplog.text)
        assert served.runs == []
        call = asyncio.ensure_future(
            mq.proxy(Accounts, name=service, retry=amqproxy.Retry(1000, wait=0.01, max_wait=0.01)).add(1, 2)
        )
        await asyncio.sleep(0.05)
        shelf.error = None
        assert await call == 3


async def test_what_another_worker_still_runs_when_the_time_is_over_may_have_run(
    mq: amqproxy.Client, raw: Raw, service: str
) -> None:
    class Lent(Shelf):
        async def claim(self, key: str, owner: str, seconds: float) -> bytes | bool:
            return False

    async with accounts(mq, service, Deduplication(store=Lent())) as served:
        ask(raw, service, "add", 1, 2, headers={"x-timeout-ms": 100})
        failure = said(await raw.next_message())
        assert (failure["error"]["code"], failure["error"]["executed"]) == ("deadline_exceeded", "maybe")
        assert "ran in another worker, whose reply was not there" in failure["message"]
        assert served.runs == []


async def test_what_another_worker_runs_when_the_store_is_lost_may_have_run(
    mq: amqproxy.Client, service: str, caplog: pytest.LogCaptureFixture
) -> None:
    class Lent(Shelf):
        asked = 0

        async def claim(self, key: str, owner: str, seconds: float) -> bytes | bool:
            self.asked += 1
            if self.asked > 1:
                raise OSError("no route")
            return False

    async with accounts(mq, service, Deduplication(store=Lent())) as served:
        with pytest.raises(RemoteError, match="runs in another worker, and the store of replies") as caught:
            await mq.proxy(Accounts, name=service).add(1, 2)
        assert (caught.value.code, caught.value.executed, caught.value.retryable) == ("unavailable", "maybe", True)
        assert "was not run" not in caplog.text
        assert served.runs == []


async def test_a_reply_that_cannot_be_kept_is_sent_all_the_same(
    mq: amqproxy.Client, service: str, caplog: pytest.LogCaptureFixture
) -> None:
    shelf = Shelf()
    async with accounts(mq, service, Deduplication(store=shelf)) as served:
        served.open.clear()
        call = asyncio.ensure_future(mq.proxy(Accounts, name=service).wait("tea"))
        await served.entered.acquire()
        shelf.error = OSError("no route")
        served.open.set()
        assert await call == "tea 1"
    says = rf"{service}\.wait \(message-id [\w-]+\): its reply could not be kept in the store, and another worker"
    assert re.search(says, caplog.text)


async def test_a_call_that_is_interrupted_while_its_reply_is_kept_has_run(
    mq: amqproxy.Client, raw: Raw, service: str
) -> None:
    class Slow(Shelf):
        open = asyncio.Event()
        entered = asyncio.Event()

        async def keep(self, key: str, owner: str, reply: bytes, seconds: float) -> None:
            self.entered.set()
            await self.open.wait()
            await super().keep(key, owner, reply, seconds)

    shelf = Slow()
    async with accounts(mq, service, Deduplication(store=shelf)) as served:
        ask(raw, service, "wait", "tea", correlation_id=b"first")
        await shelf.entered.wait()
        cancel(raw, service, b"first")
        ask(raw, service, "wait", "tea", correlation_id=b"second")
        answer = await raw.next_message()
        assert (answer.properties.correlation_id, said(answer)) == (b"second", "tea 1")
        assert (served.runs, shelf.replies) == (["tea"], {})
        shelf.open.set()
        await until(lambda: shelf.replies)


async def test_a_redis_that_is_lost_refuses_calls_until_it_is_back(
    mq: amqproxy.Client, service: str, redis: RedisServer
) -> None:
    async with accounts(mq, service, Deduplication(store=RedisStore(redis.url))) as served:
        proxy = mq.proxy(Accounts, name=service, timeout=20)
        assert await proxy.add(1, 2) == 3
        redis.freeze()
        try:
            with pytest.raises(RemoteError, match="does not answer") as caught:
                await proxy.add(1, 2)
            assert caught.value.executed == "no"
        finally:
            redis.thaw()
        assert await proxy.add(1, 2) == 3
        redis.kill()
        with pytest.raises(RemoteError, match="does not answer"):
            await proxy.add(1, 2)
        assert len(served.runs) == 2


def test_a_redis_by_its_url_serves_each_event_loop(amqp_url: str, service: str, redis: RedisServer) -> None:
    """Two at once, those of two connections without await; and others one after the other."""
    store = RedisStore(redis.url)
    options: dict[str, Any] = {"name": service, "auto_delete": True, "deduplicate": Deduplication(store=store)}

    async def in_another_loop(number: int) -> int:
        async with store, amqproxy.connect(amqp_url) as mq, mq.serve(Accounts(), **options):
            return await mq.proxy(Accounts, name=service).add(number, 0)

    assert [asyncio.run(in_another_loop(number)) for number in (100, 101)] == [100, 101]
    with (
        amqproxy.sync.connect(amqp_url) as one,
        amqproxy.sync.connect(amqp_url) as other,
        one.serve(Accounts(), **options),
        other.serve(Accounts(), **options),
    ):
        proxy = one.proxy(Accounts, name=service)
        assert [proxy.add(number, 0) for number in range(10)] == list(range(10))
        for loop in list(store._of_loops):
            asyncio.run_coroutine_threadsafe(store.aclose(), loop).result(10)


async def test_a_redis_that_gives_texts_is_refused(redis: RedisServer) -> None:
    from redis.asyncio import Redis

    async with Redis.from_url(redis.url, decode_responses=True) as client:
        with pytest.raises(ValueError, match="replies are bytes"):
            RedisStore(client)
    async with Redis.from_url(redis.url) as client, RedisStore(client, prefix="mine:") as store:
        assert await store.claim("key", "me", 5) is True
        assert await client.keys("*") == [b"mine:key"]
        assert repr(store) == "<RedisStore mine:>"
    async with RedisStore(redis.url) as store:
        assert await store.claim("other", "me", 5) is True
        assert await store.claim("other", "you", 5) is False
        await store.release("other", "you")
        assert await store.claim("other", "you", 5) is False, "who has it not cannot release it"
        assert await store.claim("other", "me", 5) is True
        await store.release("other", "me")
        await store.keep("other", "you", b"\x00\xff", 5)
        await store.keep("other", "me", b"late", 5)
        assert await store.claim("other", "me", 5) == b"\x00\xff"
