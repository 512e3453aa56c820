"""Calls that share messages, as callers make them: `mq.batch` and `amqproxy.gather`."""

from __future__ import annotations

import asyncio
import gc
import math
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

import amqproxy
from tests.contract.shop import Model, Order, Serving, Shop, left_in_caller, serving
from tests.idl import kinds_pb2 as kinds
from tests.idl.kinds_thrift import ttypes as thrifty


@pytest.fixture
async def shop(mq: amqproxy.Client, service: str) -> AsyncIterator[Serving]:
    async with serving(mq, service) as one:
        yield one


# A batch


async def test_calls_of_a_block_share_a_message_and_are_answered_one_by_one(shop: Serving) -> None:
    async with shop.batch() as b:
        first, second = b.with_others(1), b.with_others(2)
        quotient, failing = b.divide(1, 2), b.divide(1, 0)
        assert await first == 2
    assert second.done(), "leaving the block waits for all"
    assert (await second, await quotient) == (2, 0.5)
    with pytest.raises(ZeroDivisionError, match="division by zero"):
        await failing
    assert await first == 2, "which can be awaited again"


async def test_what_is_awaited_in_the_block_is_sent_at_once(shop: Serving) -> None:
    async with shop.batch() as b:
        assert await b.with_others() == 1
        assert [*await asyncio.gather(b.with_others(), b.with_others(), b.with_others())] == [3, 3, 3]


async def test_an_empty_block_sends_nothing(shop: Serving) -> None:
    answered = shop.worker.answered
    async with shop.batch():
        pass
    assert await amqproxy.gather([]) == []
    assert shop.worker.answered == answered


async def test_messages_are_cut_where_they_are_full(shop: Serving) -> None:
    async with shop.batch() as b:
        default = [b.with_others(n) for n in range(150)]
    assert [await one for one in default] == [64] * 128 + [22] * 22
    async with shop.batch(batch=10) as b:
        calls = [b.with_others(n) for n in range(25)]
    assert [await one for one in calls] == [10] * 20 + [5] * 5
    async with shop.batch(batch=1) as b:
        alone = [b.with_others(n) for n in range(3)]
    assert [await one for one in alone] == [1, 1, 1]
    async with shop.batch(batch=10**6) as b:
        many = [b.with_others(n) for n in range(1030)]
    assert [await one for one in many] == [1024] * 1024 + [6] * 6


async def test_messages_are_cut_at_64_kib(shop: Serving) -> None:
    texts = [str(n) * 20_000 for n in range(10)]
    async with shop.batch() as b:
        echoes = [b.echo(text) for text in texts]
        notes = [b.note(amqproxy) for amqproxy in texts]
    assert [await one for one in echoes] == texts
    assert [await one for one in notes] == texts


async def test_each_call_is_cancelled_by_itself(shop: Serving) -> None:
    async with shop.batch() as b:
        first, second, third = (b.wait(n) for n in range(3))
        assert first.cancel()
        await shop.entered(2)
        assert second.cancel()
        assert not second.cancel()
        shop.handler.open.set()
        assert await third == 2
    assert first.cancelled()
    assert second.cancelled()
    assert shop.handler.cancelled == [], "the worker is not told of one: the others share its message"


async def test_a_message_whose_calls_were_all_given_up_is_cancelled_in_the_worker(shop: Serving) -> None:
    async with shop.batch() as b:
        calls = [b.wait(n) for n in range(3)]
        await shop.entered(3)
        for call in calls:
            call.cancel()
        await shop.cancelled(0, 1, 2)


async def test_a_block_that_is_left_by_an_exception_cancels_its_calls(shop: Serving) -> None:
    with pytest.raises(LookupError):
        async with shop.batch() as b:
            out = [b.wait(n) for n in range(3)]
            await shop.entered(3)
            unsent = b.note("unsent")
            raise LookupError
    assert all(call.cancelled() for call in (*out, unsent))
    await shop.cancelled(0, 1, 2)
    await shop.nothing_is_left()
    assert shop.handler.ran == []


async def test_a_task_that_is_cancelled_while_it_leaves_the_block_cancels_the_calls(shop: Serving) -> None:
    async def block() -> None:
        async with shop.batch() as b:
            for n in range(3):
                b.wait(n)

    task = asyncio.create_task(block())
    await shop.entered(3)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await shop.cancelled(0, 1, 2)


async def test_a_batch_takes_no_calls_behind_its_block(shop: Serving) -> None:
    async with shop.batch() as b:
        pass
    with pytest.raises(amqproxy.Closed, match="the block of this batch was left"):
        b.add(1, 2)


async def test_an_error_that_nobody_awaits_is_reported_as_that_of_a_task_is(shop: Serving) -> None:
    reported: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: reported.append(context))
    async with shop.batch() as b:
        b.divide(1, 0)
        b.divide(1, 2)
    gc.collect()
    [context] = reported
    assert context["message"] == "CallInBatch exception was never retrieved"
    assert isinstance(context["exception"], ZeroDivisionError)


async def test_arguments_that_do_not_fit_are_told_at_once(shop: Serving) -> None:
    async with shop.batch() as b:
        before = b.add(1, 2)
        with pytest.raises(amqproxy.ContractError, match=r"Expected `int`, got `str` - at `\$\.x`"):
            b.add("1", 2)
        with pytest.raises(amqproxy.ContractError, match="missing a required argument: 'x'"):
            b.add()
        with pytest.raises(AttributeError, match="no method 'subtract'"):
            b.subtract(1, 2)
        after = b.add(3, 4)
    assert (await before, await after) == (3, 7)


async def test_what_cannot_be_written_or_is_too_large_fails_alone(amqp_url: str, shop: Serving) -> None:
    async with (
        amqproxy.connect(amqp_url, max_body_bytes=1000) as small,
        small.batch(Shop, name=shop.name) as b,
    ):
        first, last = b.echo("first"), b.echo("last")
        large, unwritable = b.echo("x" * 1000), b.note(math.nan)
        other = [b.echo("y" * 300) for _ in range(4)]
    assert (await first, await last, [await one for one in other]) == ("first", "last", ["y" * 300] * 4)
    with pytest.raises(amqproxy.MessageTooLarge, match=r"echo: the request has 10\d\d bytes, max_body_bytes is 1000"):
        await large
    with pytest.raises(amqproxy.EncodingFailed, match="nan has no JSON form"):
        await unwritable


async def test_methods_that_stream_do_not_travel_in_batches(shop: Serving) -> None:
    async with shop.batch() as b:
        for name in ("count", "upload"):
            with pytest.raises(amqproxy.ContractError, match=f"{name} streams, and such calls cannot share a message"):
                getattr(b, name)
        with pytest.raises(AttributeError, match=r"cannot be assigned to \(add\); mq.batch\(…\) takes its options"):
            b.add = 1
    assert repr(b).startswith(f"<Batch of calls by <Proxy of '{shop.name}'")


@pytest.mark.parametrize("calls", [1, 3])
async def test_what_streams_is_answered_whole_where_only_the_name_is_known(shop: Serving, calls: int) -> None:
    by_name = shop.mq.proxy(shop.name)
    async with shop.mq.batch(shop.name) as b:
        counts, files = [b.count(n) for n in range(calls)], [b.file(n) for n in range(calls)]
    assert await asyncio.gather(*counts) == [[*range(n)] for n in range(calls)]
    assert await asyncio.gather(*files) == [b"x" * n for n in range(calls)]
    assert await amqproxy.gather(by_name.file(n) for n in range(calls)) == [b"x" * n for n in range(calls)]
    with pytest.raises(amqproxy.RemoteError, match=r"upload.* is fed a stream: call it through a proxy made from the"):
        await amqproxy.gather([by_name.upload(1)] * 1 + [by_name.upload(2) for _ in range(calls - 1)])


async def test_what_streams_by_name_has_no_more_time_than_its_deadline_leaves_and_says_so(
    mq: amqproxy.Client, service: str
) -> None:
    class Slow:
        async def drip(self, number: int) -> AsyncIterator[int]:
            yield number
            await asyncio.Event().wait()

    async with mq.serve(Slow(), name=service, auto_delete=True):
        with amqproxy.deadline(0.3):
            async with mq.batch(service) as b:
                calls = [b.drip(n) for n in range(2)]
        for call in calls:
            with pytest.raises(amqproxy.CallTimeout, match=r"drip: no answer within the time that was left to it; "):
                await call


async def test_one_of_several_that_stream_is_given_up(shop: Serving) -> None:
    async with shop.mq.batch(shop.name) as b:
        given_up, other = b.count(1), b.count(2)
        given_up.cancel()
    assert await other == [0, 1]
    assert given_up.cancelled()


async def test_a_call_that_is_cancelled_is_the_first_error(shop: Serving) -> None:
    cancelled = asyncio.get_running_loop().create_future()
    cancelled.cancel()
    proxy = shop.proxy()
    with pytest.raises(asyncio.CancelledError):
        async with asyncio.timeout(10):
            await amqproxy.gather([proxy.wait(1), cancelled])
    found = await amqproxy.gather([proxy.add(1), cancelled], return_exceptions=True)
    assert found[0] == 1
    assert isinstance(found[1], asyncio.CancelledError)
    shop.handler.open.set()


async def test_options_of_a_batch_are_checked(mq: amqproxy.Client) -> None:
    with pytest.raises(ValueError, match="timeout is more than 0"):
        mq.batch(Shop, timeout=0)
    with pytest.raises(TypeError, match="no option 'size'"):
        mq.batch(Shop, size=1)
    for timeout in range(1, 200):
        mq.batch(Shop, timeout=timeout)
    assert len(mq._batches._proxies) < 100
    async with mq.batch(Shop, headers={"a": 1}) as b:
        with pytest.raises(TypeError, match="takes a proxy, not a Batch"):
            amqproxy.options(b, timeout=1)


@pytest.mark.parametrize("encoding", [None, "snappy-json", "zstd-json"])
async def test_a_batch_of_any_method_in_json(shop: Serving, encoding: str | None) -> None:
    async with shop.batch(encoding=encoding) as b:
        calls = [b.add(1), b.add(y=1, x=2), b.in_thread(7), b.order(["a", "b"]), b.order(Order(["a"]))]
        calls += [b.model(Model(name="x")), b.nothing(), b.nothing(), b.in_thread(8), b.note(None), b.note([1, {}])]
        calls += [b(Order([]))]
    expected = [1, 3, 7, 2, 1, Model(name="x"), None, None, 8, None, [1, {}], 0]
    assert [await call for call in calls] == expected


@pytest.mark.parametrize("how", ["", "gzip-"])
async def test_a_batch_of_generated_messages(shop: Serving, how: str) -> None:
    async with shop.batch(encoding=f"{how}protobuf") as b:
        trees = [b.tree(kinds.Tree(value=n)) for n in range(70)]
    assert [(await tree).value for tree in trees] == list(range(1, 71))
    async with shop.batch(encoding=f"{how}thrift") as b:
        items = [b.item(thrifty.Item(n, "name", 1)) for n in range(3)]
    assert [(await item).id for item in items] == [1, 2, 3]


async def test_what_is_compressed_above_a_size_travels_beside_what_is_not(shop: Serving) -> None:
    texts = ["a" * size for size in (10, 5000, 20, 6000, 30)]
    async with shop.batch(compress_above=1000, compression="zstd") as b:
        echoes = [b.echo(text) for text in texts]
        with pytest.raises(amqproxy.ContractError):
            await b.echo(1)
    assert [await one for one in echoes] == texts


async def test_no_more_calls_are_in_flight_than_the_batch_may_have(shop: Serving) -> None:
    async with shop.batch(max_in_flight=2) as b:
        with pytest.raises(amqproxy.ContractError):
            b.wait("x")
        calls = [b.wait(n) for n in range(3)]
        with pytest.raises(amqproxy.Overloaded, match="2 calls are in flight, which is the proxy's max_in_flight"):
            await calls[2]
        await shop.entered(2)
        shop.handler.open.set()
        assert [await call for call in calls[:2]] == [0, 1]
        assert await b.wait(3) == 3


async def test_a_service_that_is_known_by_its_name_and_one_that_is_a_function(
    mq: amqproxy.Client, shop: Serving
) -> None:
    async def double(x: int) -> int:
        return 2 * x

    async with mq.serve(double, name=f"{shop.name}.double", auto_delete=True):
        async with (
            mq.batch(shop.name) as by_name,
            mq.batch(double, name=f"{shop.name}.double") as function,
            mq.batch(shop.name, max_in_flight=1) as limited,
        ):
            sums = [by_name.add(1, 2), by_name.add(x=3, y=4), by_name.with_others(), by_name(Order(["a"]))]
            twice = [function(n) for n in range(3)]
            lone = [limited.add(1), limited.add(2)]
        assert [await one for one in sums] == [3, 7, 1, 1]
        assert [await one for one in twice] == [0, 2, 4]
        assert await lone[0] == 1
        with pytest.raises(amqproxy.Overloaded):
            await lone[1]


async def test_middleware_is_around_each_call(shop: Serving) -> None:
    seen = []

    async def watch(call: Any, next: Callable[[Any], Any]) -> Any:
        seen.append(call.args)
        result = await next(call)
        return result + 100

    async with shop.batch(middleware=[watch]) as b:
        calls = [b.with_others(n) for n in range(5)]
        with pytest.raises(amqproxy.ContractError, match="count streams"):
            b.count(3)
    assert [await call for call in calls] == [105] * 5, "and they share a message all the same"
    assert seen == [(n,) for n in range(5)]
    async with shop.batch(middleware=[watch]) as b:
        calls = [b.with_others(n) for n in range(2)]
        with amqproxy.deadline(5):
            calls += [b.with_others(n) for n in range(3)]
    assert [await call for call in calls] == [102] * 2 + [103] * 3, "but not with calls that have another deadline"
    with pytest.raises(amqproxy.Closed):
        b.with_others(1)


async def test_calls_that_give_signs_of_life_or_are_watched_travel_alone(shop: Serving) -> None:
    async with shop.batch(heartbeat=1) as b:
        calls = [b.with_others(n) for n in range(3)]
    assert [await call for call in calls] == [1, 1, 1]
    calc = shop.proxy()
    watched = amqproxy.progress(amqproxy.gather(calc.with_others(n) for n in range(3)))
    assert await watched == [1, 1, 1]


# Time and links


async def test_calls_end_at_their_timeout_and_the_worker_is_told(shop: Serving) -> None:
    began = time.monotonic()
    async with shop.batch(timeout=0.1) as b:
        calls = [b.wait(n) for n in range(3)]
        done = b.add(1, 2)
    assert 0.1 <= time.monotonic() - began < 1.5
    assert await done == 3
    for call in calls:
        with pytest.raises(amqproxy.CallTimeout, match=r"wait: no answer within 0\.1 s; .*workers: 1,") as caught:
            await call
        assert caught.value.executed == "maybe"
    assert len({id(call.exception()) for call in calls}) == 3, "each has an error of its own"
    await shop.cancelled(0, 1, 2)


async def test_calls_in_a_handler_have_no_more_time_than_it_has(mq: amqproxy.Client, shop: Serving) -> None:
    class Fan:
        async def gathered(self) -> list[int]:
            proxy = shop.proxy()
            return await amqproxy.gather(proxy.wait(n) for n in range(3))

        async def batched(self) -> list[int]:
            async with shop.batch() as b:
                return [await call for call in [b.wait(n) for n in range(3)]]

    async with mq.serve(Fan(), name=f"{shop.name}.fan", auto_delete=True):
        for method in ("gathered", "batched"):
            shop.handler.cancelled.clear()
            began = time.monotonic()
            with pytest.raises((TimeoutError, amqproxy.RemoteError), match="no answer within"):
                await getattr(mq.proxy(f"{shop.name}.fan", timeout=0.3), method)()
            await shop.cancelled(0, 1, 2)
            assert time.monotonic() - began < 2


async def test_a_queue_that_is_not_there_is_told_at_once(mq: amqproxy.Client, service: str) -> None:
    async with mq.batch(Shop, name=service) as b:
        calls = [b.add(n) for n in range(3)]
    for call in calls:
        with pytest.raises(amqproxy.Unroutable, match=f"is a worker serving '{service}'"):
            await call
    async with mq.batch(Shop, name=service, exchange="nowhere") as b:
        calls = [b.add(n) for n in range(3)]
    for call in calls:
        with pytest.raises(amqproxy.Unroutable, match="there is no exchange 'nowhere'"):
            await call
    assert left_in_caller(mq) == []


async def test_a_connection_that_is_closed_ends_the_calls(amqp_url: str, shop: Serving) -> None:
    async with amqproxy.connect(amqp_url) as other:
        batch = other.batch(Shop, name=shop.name)
        b = await batch.__aenter__()
        calls = [b.wait(n) for n in range(3)]
        await shop.entered(3)
        caller = other.caller
    for call in calls:
        with pytest.raises(amqproxy.ConnectionLost, match="the connection was closed"):
            await call
    await batch.__aexit__(None, None, None)
    assert not caller._by_prefix
    with pytest.raises(amqproxy.Closed):
        other.batch(Shop, name=shop.name)
    shop.handler.open.set()


async def test_too_many_messages_in_flight_are_overload(amqp_url: str, shop: Serving) -> None:
    async with amqproxy.connect(amqp_url, max_in_flight=2) as mq, mq.batch(Shop, name=shop.name, batch=5) as b:
        assert await b.add(1) == 1
        calls = [b.wait(n) for n in range(15)]
        for call in calls[10:]:
            with pytest.raises(amqproxy.Overloaded, match=r"wait was not sent: .* \(2\) are in flight"):
                await call
        shop.handler.open.set()
        assert [await call for call in calls[:10]] == list(range(10))
