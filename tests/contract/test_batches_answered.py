"""Answers to calls that shared a message: in any order, twice, wrong, or lost with a link or a worker."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import amqproxy
from amqproxy.testing import BrokerThread, RabbitMQ, broker_thread
from amqproxy.topology import Queue
from tests.contract.raw import Message, Raw
from tests.contract.shop import left_in_caller, serving
from tests.contract.test_links import cut
from tests.faults.network import Relay
from tests.processes import running
from tests.served import Patient

FAILURE = b"com.github.sstone.amqp.proxy.AmqpProxy$ServerFailure"
examples = settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)


class Contract:
    @amqproxy.method(timeout=5)
    async def number(self, place: int) -> int:
        raise NotImplementedError


async def take(raw: Raw, service: str) -> None:
    """Let the requests come to a worker that the test plays."""
    await raw.opened._link.declare_queue(Queue(service, durable=False, exclusive=True))
    await raw.opened.consume(service, lambda: None, no_ack=True)


def answer(raw: Raw, request: Message, body: Any, **properties: Any) -> None:
    assert request.properties.reply_to is not None
    given = {"content_type": b"any", "content_encoding": b"json", "correlation_id": request.properties.correlation_id}
    text = body if isinstance(body, bytes) else json.dumps(body).encode()
    raw.publish(request.properties.reply_to.decode(), text, **{**given, **properties})


def failure(text: str) -> dict[str, Any]:
    return {"message": text, "throwableAsString": f"x: {text}", "error": {"code": "aborted"}}


@pytest.fixture
async def by_hand(mq: amqproxy.Client, service: str, raw: Raw) -> AsyncIterator[Any]:
    """A proxy, whose worker is the test itself."""
    await take(raw, service)
    yield mq.proxy(Contract, name=service)
    assert left_in_caller(mq) == []


# In any order, and more than once

Parts = list[tuple[int, int, bool]]
"""First place, calls that are answered, and whether it is a failure of the first."""


@st.composite
def parts(draw: st.DrawFn) -> tuple[int, Parts]:
    calls = draw(st.integers(2, 12))
    some = st.integers(0, calls - 1).flatmap(
        lambda first: st.tuples(st.just(first), st.integers(1, calls - first), st.booleans())
    )
    found: Parts = draw(st.lists(some, max_size=10))
    answered = {place for first, count, failed in found for place in range(first, first + (1 if failed else count))}
    rest = draw(st.permutations([place for place in range(calls) if place not in answered]))
    return calls, found + [(place, 1, False) for place in rest]


@pytest.fixture
def loop_with_broker() -> Iterator[tuple[asyncio.Runner, str]]:
    with broker_thread() as broker, asyncio.Runner() as runner:
        yield runner, broker.url


def test_the_first_answer_to_each_call_counts_whatever_the_order(loop_with_broker: tuple[asyncio.Runner, str]) -> None:
    runner, url = loop_with_broker

    async def check(mq: amqproxy.Client, raw: Raw, calls: int, plan: Parts) -> None:
        gathering = asyncio.create_task(
            amqproxy.gather(
                (mq_proxies[id(mq)].number(place) for place in range(calls)),
                return_exceptions=True,
            )
        )
        request = await raw.next_message()
        assert request.properties.headers is not None
        assert request.properties.headers["x-batch"] == calls
        assert json.loads(request.body) == [{"place": place} for place in range(calls)]
        expected: dict[int, Any] = {}
        for number, (first, count, failed) in enumerate(plan):
            if failed:
                expected.setdefault(first, f"failure {number}")
                answer(raw, request, failure(f"failure {number}"), content_type=FAILURE, headers={"x-seq": first})
                continue
            values = [number * 100 + place for place in range(first, first + count)]
            for place, value in enumerate(values, first):
                expected.setdefault(place, value)
            headers = {"x-seq": first, "x-batch": count}
            answer(raw, request, values if count > 1 else values[0], headers=headers)
        async with asyncio.timeout(10):
            found = await gathering
        assert [one.message if isinstance(one, amqproxy.RemoteError) else one for one in found] == [
            expected[place] for place in range(calls)
        ]
        assert left_in_caller(mq) == []

    mq_proxies: dict[int, Any] = {}

    @asynccontextmanager
    async def connections() -> AsyncIterator[tuple[amqproxy.Client, Raw]]:
        async with amqproxy.connect(url) as mq, Raw.connected(url) as raw:
            await take(raw, "by hand")
            mq_proxies[id(mq)] = mq.proxy(Contract, name="by hand")
            yield mq, raw

    both = connections()
    mq, raw = runner.run(both.__aenter__())

    @examples
    @given(parts())
    def every(plan: tuple[int, Parts]) -> None:
        runner.run(check(mq, raw, *plan))

    every()
    runner.run(both.__aexit__(None, None, None))


# Wrong answers


@pytest.mark.parametrize(
    ("body", "properties", "says"),
    [
        ([1, 2], {}, "one answer to many calls came; the worker does not know them"),
        ([1, 2], {"headers": {"x-seq": 2, "x-batch": 2}}, "answers to calls 2 to 3 of 3 came"),
        ([1, 2, 3, 4], {"headers": {"x-seq": 0, "x-batch": 4}}, "answers to calls 0 to 3 of 3 came"),
        (b"[1,2", {"headers": {"x-seq": 0, "x-batch": 2}}, "truncated"),
        ([1, 2, 3], {"headers": {"x-seq": 0, "x-batch": 2}}, "a message that says it has 2 items has others"),
        (1, {"headers": {"x-seq": -1}}, "x-seq is a whole number from 0, not '-1'"),
        (1, {"headers": {"x-seq": "one"}}, "x-seq is a whole number from 0, not 'one'"),
        ([1, 2], {"headers": {"x-seq": 0, "x-batch": 2**40}}, "answers to calls 0 to"),
        ([1, 2], {"headers": {"x-seq": 0, "x-batch": 0}}, "of 3 came"),
        (b"", {"headers": {"x-end": True}}, "of 3 came"),
        ([1, 2], {"headers": {"x-seq": 0, "x-batch": 2}, "content_encoding": b"protobuf"}, "encoded as 'protobuf'"),
        ({"message": 7}, {"content_type": FAILURE}, "a failure that does not decode"),
    ],
)
async def test_an_answer_that_makes_no_sense_fails_all_that_are_open(
    by_hand: Any, raw: Raw, body: Any, properties: dict[str, Any], says: str
) -> None:
    gathering = asyncio.create_task(
        amqproxy.gather((by_hand.number(place) for place in range(3)), return_exceptions=True)
    )
    request = await raw.next_message()
    answer(raw, request, 7, headers={"x-seq": 1})
    answer(raw, request, body, **properties)
    first, second, third = await gathering
    assert second == 7
    for error in (first, third):
        assert isinstance(error, amqproxy.BadReply)
        assert says in str(error)
    assert first is not third


async def test_an_answer_that_makes_no_sense_tells_nothing_of_the_other_calls(by_hand: Any, raw: Raw) -> None:
    gathering = asyncio.create_task(
        amqproxy.gather((by_hand.number(place) for place in range(3)), return_exceptions=True)
    )
    request = await raw.next_message()
    answer(raw, request, 7, headers={"x-seq": 1}, content_encoding=b"xml")
    errors = [error for error in await gathering if isinstance(error, amqproxy.BadReply)]
    assert [error.executed for error in errors] == ["maybe", "yes", "maybe"]
    told = "; it came for other calls of the same message, and it may have run"
    assert [str(error).endswith(told) for error in errors] == [True, False, True]


async def test_a_value_that_does_not_fit_fails_its_call_alone(by_hand: Any, raw: Raw) -> None:
    gathering = asyncio.create_task(
        amqproxy.gather((by_hand.number(place) for place in range(5)), return_exceptions=True)
    )
    request = await raw.next_message()
    answer(raw, request, [0, "one", 2], headers={"x-seq": 0, "x-batch": 3})
    answer(raw, request, "four", headers={"x-seq": 4})
    answer(raw, request, b"3", headers={"x-seq": "3"})
    found = await gathering
    assert [one for one in found if not isinstance(one, Exception)] == [0, 2, 3]
    for error in (found[1], found[4]):
        assert isinstance(error, amqproxy.BadReply)
        assert "number: the reply does not fit: Expected `int`, got `str`" in str(error)


async def test_a_failure_of_the_whole_fails_all_that_are_open(by_hand: Any, raw: Raw) -> None:
    gathering = asyncio.create_task(
        amqproxy.gather((by_hand.number(place) for place in range(3)), return_exceptions=True)
    )
    request = await raw.next_message()
    answer(raw, request, 0, headers={"x-seq": 0})
    answer(raw, request, failure("no"), content_type=FAILURE)
    answer(raw, request, failure("late"), content_type=FAILURE, headers={"x-seq": 1})
    first, *others = await gathering
    assert first == 0
    failures = [error for error in others if isinstance(error, amqproxy.RemoteError)]
    assert [(error.message, error.code) for error in failures] == [("no", "aborted")] * 2
    assert others[0] is not others[1]


async def test_an_answer_that_is_too_large_fails_all_that_are_open(amqp_url: str, service: str, raw: Raw) -> None:
    await take(raw, service)
    async with amqproxy.connect(amqp_url, max_body_bytes=1000) as mq:
        proxy = mq.proxy(Contract, name=service)
        gathering = asyncio.create_task(amqproxy.gather((proxy.number(n) for n in range(3)), return_exceptions=True))
        request = await raw.next_message()
        answer(raw, request, 7, headers={"x-seq": 2})
        answer(raw, request, [1] * 1000, headers={"x-seq": 0, "x-batch": 2})
        *errors, last = await gathering
        assert last == 7
        for error in errors:
            assert isinstance(error, amqproxy.BadReply)
            assert "max_body_bytes is 1000" in str(error)
            assert error.executed == "maybe", "which of them it answered is in what was not read"


async def test_a_lone_call_is_sent_and_answered_as_ever(mq: amqproxy.Client, by_hand: Any, raw: Raw) -> None:
    gathering = asyncio.create_task(amqproxy.gather([by_hand.number(1)]))
    request = await raw.next_message()
    assert request.body == b'{"place":1}'
    assert [*(request.properties.headers or {})] == ["x-timeout-ms"]
    answer(raw, request, 5)
    assert await gathering == [5]


async def test_a_message_says_how_much_time_is_left(by_hand: Any, raw: Raw) -> None:
    gathering = asyncio.create_task(amqproxy.gather(by_hand.number(place) for place in range(2)))
    request = await raw.next_message()
    headers = request.properties.headers or {}
    assert 4000 < headers["x-timeout-ms"] <= 5000
    assert 4000 < int(request.properties.expiration or b"") <= 5000
    assert request.properties.delivery_mode == 1
    answer(raw, request, [1, 2], headers={"x-seq": 0, "x-batch": 2})
    await gathering
    with amqproxy.deadline(1):
        gathering = asyncio.create_task(amqproxy.gather(by_hand.number(place) for place in range(2)))
        request = await raw.next_message()
    assert 500 < (request.properties.headers or {})["x-timeout-ms"] <= 1000
    answer(raw, request, [1, 2], headers={"x-seq": 0, "x-batch": 2})
    await gathering


async def test_calls_with_another_deadline_travel_in_another_message(
    mq: amqproxy.Client, service: str, by_hand: Any, raw: Raw
) -> None:
    async with mq.batch(Contract, name=service) as b:
        calls = [b.number(0), b.number(1)]
        with amqproxy.deadline(1):
            calls += [b.number(2), b.number(3)]
        with amqproxy.deadline(0):
            late = b.number(4)
        for _ in range(2):
            request = await raw.next_message()
            assert (request.properties.headers or {})["x-batch"] == 2
            first = json.loads(request.body)[0]["place"]
            assert ((request.properties.headers or {})["x-timeout-ms"] <= 1000) is (first == 2)
            answer(raw, request, [first, first + 1], headers={"x-seq": 0, "x-batch": 2})
        assert [await call for call in calls] == [0, 1, 2, 3]
        with pytest.raises(amqproxy.CallTimeout, match="no time is left") as caught:
            await late
        assert caught.value.executed == "no"


# Links and workers that are lost


async def test_calls_that_are_out_when_the_link_breaks_fail_at_once(amqp_url: str, service: str) -> None:
    async with amqproxy.connect(amqp_url) as server, serving(server, service) as shop, amqproxy.connect(amqp_url) as mq:
        async with mq.batch(type(shop.handler), name=service) as b:
            calls = [b.wait(n) for n in range(3)]
            await shop.entered(3)
            cut(mq)
        for call in calls:
            with pytest.raises(amqproxy.ConnectionLost, match=r"wait: .* broke") as caught:
                await call
            assert caught.value.executed == "maybe"
        async with mq.batch(type(shop.handler), name=service) as b:
            again = b.add(1, 2)
        assert await again == 3
        assert left_in_caller(mq) == []


async def test_idempotent_calls_are_sent_again_as_they_were(amqp_url: str, service: str, raw: Raw) -> None:
    await take(raw, service)
    async with amqproxy.connect(amqp_url) as mq:
        async with mq.batch(Contract, name=service, idempotent=True) as b:
            calls = [b.number(n) for n in range(3)]
            first = await raw.next_message()
            answer(raw, first, 10, headers={"x-seq": 1})
            assert await calls[1] == 10
            cut(mq)
            second = await raw.next_message()
            assert second.body == first.body
            assert second.properties.message_id == first.properties.message_id
            assert second.properties.correlation_id != first.properties.correlation_id
            answer(raw, second, [20, 21, 22], headers={"x-seq": 0, "x-batch": 3})
        assert [await call for call in calls] == [20, 10, 22]
        assert left_in_caller(mq) == []


async def test_idempotent_calls_that_find_no_queue_again_may_have_run(amqp_url: str, service: str) -> None:
    async with amqproxy.connect(amqp_url) as mq:
        async with Raw.connected(amqp_url) as raw:
            await take(raw, service)
            async with mq.batch(Contract, name=service, idempotent=True) as b:
                calls = [b.number(n) for n in range(2)]
                await raw.next_message()
                await raw.opened._link.close()  # and the queue with it
                cut(mq)
        for call in calls:
            with pytest.raises(amqproxy.Unroutable, match="it had been sent before, and it may have run") as caught:
                await call
            assert caught.value.executed == "maybe"


async def test_calls_that_are_made_without_a_link_wait_for_it(amqp_url: str, service: str) -> None:
    async with (
        Relay.to(amqp_url) as relay,
        amqproxy.connect(amqp_url) as server,
        serving(server, service) as shop,
        amqproxy.connect(relay.url) as mq,
    ):
        link = mq._live_connection().current_link
        assert link is not None
        relay.cut()
        await asyncio.wait((link.closed,))
        proxy = mq.proxy(type(shop.handler), name=service)
        async with mq.batch(type(shop.handler), name=service) as b:
            calls = [b.add(n) for n in range(3)]
            assert await amqproxy.gather(proxy.add(n, 1) for n in range(3)) == [1, 2, 3]
        assert [await call for call in calls] == [0, 1, 2]
        assert left_in_caller(mq) == []


async def test_calls_that_cannot_be_sent_in_time_fail(mortal: BrokerThread | RabbitMQ, service: str) -> None:
    async with amqproxy.connect(mortal.url) as mq:
        await asyncio.to_thread(mortal.stop)
        async with mq.batch(Contract, name=service, timeout=0.2) as b:
            calls = [b.number(n) for n in range(3)]
            given_up = asyncio.ensure_future(b.number(3))
            await asyncio.sleep(0)
            given_up.cancel()
        for call in calls:
            with pytest.raises(amqproxy.CallTimeout, match="it could not be sent") as caught:
                await call
            assert caught.value.executed == "no"
        async with mq.batch(Contract, name=service) as b:
            for waiting in [asyncio.ensure_future(b.number(n)) for n in range(3)]:
                await asyncio.sleep(0)
                waiting.cancel()
        await asyncio.to_thread(mortal.start)


def fifo(folder: Path, name: str) -> str:
    os.mkfifo(folder / name)
    return str(folder / name)


async def write(path: str, text: str) -> None:
    await asyncio.to_thread(Path(path).write_text, text)


async def test_a_batch_whose_worker_is_killed_is_run_by_another(
    mq: amqproxy.Client, amqp_url: str, service: str, tmp_path: Path
) -> None:
    fifos = [fifo(tmp_path, str(n)) for n in range(3)]
    async with running("served.py", amqp_url, service) as first:
        await first.says("serving")
        async with mq.batch(Patient, name=service) as b:
            calls: list[Any] = [b.hold(path) for path in fifos]
            await first.says("holding", 3)
            await write(fifos[1], "early")
            assert await calls[1] == "early"
            async with running("served.py", amqp_url, service) as second:
                await second.says("serving")
                first.send(9)
                await second.says("holding", 3)
                for path in fifos:
                    await write(path, "late")
                assert [await call for call in calls] == ["late", "early", "late"]
                assert left_in_caller(mq) == []


async def test_batches_are_shared_by_workers_in_processes_of_their_own(
    mq: amqproxy.Client, amqp_url: str, service: str
) -> None:
    async with running("served.py", amqp_url, service) as first, running("served.py", amqp_url, service) as second:
        await first.says("serving")
        await second.says("serving")
        proxy = mq.proxy(Patient, name=service, batch=50)
        assert set(await amqproxy.gather(proxy.pid() for _ in range(1000))) == {first.pid, second.pid}
        assert await amqproxy.gather(proxy.add(n, n) for n in range(1000)) == [2 * n for n in range(1000)]
        found = await amqproxy.gather((proxy.divide(1, n) for n in range(3)), return_exceptions=True)
        assert isinstance(found[0], ZeroDivisionError)
        assert found[1:] == [1, 0.5]
