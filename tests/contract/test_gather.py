"""`amqproxy.gather`: many calls at once, as `asyncio.gather` makes them, in few messages."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

import amqproxy
from tests.contract.shop import Serving, Shop, left_in_caller, serving


@pytest.fixture
async def shop(mq: amqproxy.Client, service: str) -> AsyncIterator[Serving]:
    async with serving(mq, service) as one:
        yield one


async def test_results_come_in_order_and_share_messages(shop: Serving) -> None:
    calc = shop.proxy()
    assert await amqproxy.gather(calc.add(n, n) for n in range(200)) == [2 * n for n in range(200)]
    assert await amqproxy.gather([calc.with_others(n) for n in range(70)]) == [64] * 64 + [6] * 6
    assert await amqproxy.gather({calc.add(1): None}) == [1]


async def test_calls_of_several_methods_services_and_connections(amqp_url: str, shop: Serving) -> None:
    async with (
        amqproxy.connect(amqp_url) as other,
        other.serve(Shop(), name=f"{shop.name}.other", auto_delete=True),
    ):
        proxies = [shop.proxy(), shop.proxy(timeout=5), other.proxy(Shop, name=f"{shop.name}.other")]
        calls = [call for p in proxies for call in (p.with_others(1), p.with_others(2), p.with_others(3))]
        calls += [proxies[0].divide(1, 4), proxies[0].echo("text")]
        assert await amqproxy.gather(calls) == [3] * 9 + [0.25, "text"]
        assert left_in_caller(other) == []


async def test_proxies_of_a_name_of_a_function_and_of_a_message(mq: amqproxy.Client, shop: Serving) -> None:
    async def double(x: int) -> int:
        return 2 * x

    name = f"{shop.name}.double"
    async with mq.serve(double, name=name, auto_delete=True):
        by_name, function = mq.proxy(shop.name), mq.proxy(double, name=name)
        limited = mq.proxy(shop.name, max_in_flight=1)
        calls: list[Any] = [by_name.with_others(n) for n in range(3)]
        calls += [function(n) for n in range(3)]
        calls += [limited.add(1, 2), shop.proxy(max_in_flight=1).add(3), shop.proxy(compress_above=0).add(4)]
        assert await amqproxy.gather(calls) == [3, 3, 3, 0, 2, 4, 3, 3, 4]


async def test_coroutines_that_call_share_messages_too(shop: Serving) -> None:
    calc = shop.proxy()

    async def twice(number: int) -> list[int]:
        return [await calc.with_others(number), await calc.with_others(number)]

    async def careful(number: int) -> float:
        try:
            return float(await calc.divide(1, number))
        except ZeroDivisionError:
            return -1.0

    assert await amqproxy.gather(twice(n) for n in range(5)) == [[5, 5]] * 5
    assert await amqproxy.gather(careful(n) for n in range(3)) == [-1, 1, 0.5], "what is caught is no error"
    assert await calc.with_others() == 1, "what is called outside travels alone"


async def test_whatever_can_be_awaited_may_be_among_them(shop: Serving) -> None:
    calc = shop.proxy()

    async def soon(value: int) -> int:
        await asyncio.sleep(0)
        return value

    future = asyncio.get_running_loop().create_future()
    future.set_result(4)
    task = asyncio.create_task(soon(5))
    async with shop.batch() as b:
        calls = [calc.add(1), soon(2), calc.add(3), future, task, b.add(6), shop.mq.sender(Shop, name=shop.name).add(7)]
        assert await amqproxy.gather(calls) == [1, 2, 3, 4, 5, 6, None]
    with pytest.raises(TypeError, match=r"An asyncio\.Future, a coroutine or an awaitable is required"):
        await amqproxy.gather([calc.add(1), 2])  # type: ignore[list-item]
    with pytest.raises(RuntimeError, match="cannot reuse already awaited coroutine"):
        await amqproxy.gather([used := calc.add(1), used])


async def test_streams_and_blobs_travel_alone_beside_them(shop: Serving) -> None:
    calc = shop.proxy()
    size, total, stream = await amqproxy.gather([calc.upload(b"x" * 1000), calc.add(1, 2), calc.count(3)])
    assert (size, total, [n async for n in stream]) == (1000, 3, [0, 1, 2])


async def test_the_first_error_is_raised_at_once_and_the_others_go_on(shop: Serving) -> None:
    calc = shop.proxy()
    began = time.monotonic()
    with pytest.raises(ZeroDivisionError):
        await amqproxy.gather([calc.wait(1), calc.divide(1, 0), calc.divide(2, 0), calc.wait(2)])
    assert time.monotonic() - began < 2
    assert len(shop.worker.running) == 2
    shop.handler.open.set()
    await shop.nothing_is_left()
    assert shop.handler.cancelled == []


async def test_errors_stand_among_the_results_if_they_shall(shop: Serving) -> None:
    calc = shop.proxy()

    async def cancelled() -> None:
        raise asyncio.CancelledError

    calls = [calc.add(1), calc.divide(1, 0), calc.add("x"), cancelled(), calc.echo("y"), calc.nothing()]
    one, division, misfit, gone, text, nothing = await amqproxy.gather(calls, return_exceptions=True)
    assert (one, text, nothing) == (1, "y", None)
    assert [type(error) for error in (misfit, gone)] == [amqproxy.ContractError, asyncio.CancelledError]
    assert isinstance(division, ZeroDivisionError)


@pytest.mark.parametrize("lazy", [False, True])
async def test_arguments_that_do_not_fit_are_told_before_the_others_run(shop: Serving, lazy: bool) -> None:
    calc = shop.proxy()
    calls = (calc.note(n) if n != 3 else calc.add("x") for n in range(6))
    with pytest.raises(amqproxy.ContractError, match=r"Expected `int`, got `str` - at `\$\.x`"):
        await amqproxy.gather(calls if lazy else list(calls))
    await shop.nothing_is_left()
    assert shop.handler.ran == []


async def test_it_can_be_cancelled_and_cancels_them_all(shop: Serving) -> None:
    calc = shop.proxy()

    async def wrapped(number: int) -> Any:
        return await calc.wait(number)

    gathering = asyncio.create_task(amqproxy.gather([calc.wait(1), calc.wait(2), wrapped(3), wrapped(4)]))
    await shop.entered(4)
    gathering.cancel()
    with pytest.raises(asyncio.CancelledError):
        await gathering
    await shop.cancelled(1, 2, 3, 4)


async def test_a_time_limit_around_it_ends_them_all(shop: Serving) -> None:
    calc = shop.proxy()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await amqproxy.gather(calc.wait(n) for n in range(3))
    await shop.cancelled(0, 1, 2)


async def test_each_has_the_timeout_of_its_proxy(shop: Serving) -> None:
    hasty = shop.proxy(timeout=0.1)
    found = await amqproxy.gather([hasty.wait(1), shop.proxy().add(1, 2), hasty.add(3, 4)], return_exceptions=True)
    assert found[1:] == [3, 7]
    assert isinstance(found[0], amqproxy.CallTimeout)
    await shop.cancelled(1)


async def test_it_may_be_nested(shop: Serving) -> None:
    calc = shop.proxy()

    async def row(first: int) -> list[int]:
        return await amqproxy.gather(calc.add(first, n) for n in range(3))

    assert await amqproxy.gather(row(n) for n in range(3)) == [[0, 1, 2], [1, 2, 3], [2, 3, 4]]


async def test_ten_thousand_calls_at_once(shop: Serving) -> None:
    calc = shop.proxy()
    assert await amqproxy.gather(calc.add(n, 1) for n in range(10_000)) == list(range(1, 10_001))


async def test_calls_that_are_cancelled_at_any_moment_leave_nothing_behind(shop: Serving) -> None:
    calc = shop.proxy()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(amqproxy.gather([calc.wait(0), calc.wait(1)]), 0.1)
    await shop.cancelled(0, 1)
    shop.handler.open.set()
    tasks = asyncio.all_tasks()  # with one for the channel on which the pool is told
    for round in range(40):
        gathering = asyncio.create_task(amqproxy.gather(calc.wait(n) for n in range(100)))
        await asyncio.sleep(round * 0.0003)
        gathering.cancel()
        with contextlib.suppress(asyncio.CancelledError):  # it may have ended before
            await gathering
    await shop.nothing_is_left()
    assert await calc.add(1, 2) == 3
    async with asyncio.timeout(5):
        while asyncio.all_tasks() - tasks:
            await calc.nothing()


async def test_a_task_that_outlives_its_gather_calls_alone(shop: Serving) -> None:
    calc, over, tasks = shop.proxy(), asyncio.Event(), list[asyncio.Task[Any]]()

    async def later() -> Any:
        await over.wait()
        return await calc.add(1, 2)

    async def starts_one() -> Any:
        tasks.append(asyncio.create_task(later()))
        return await calc.add(3, 4)

    assert await amqproxy.gather([starts_one(), starts_one()]) == [7, 7]
    over.set()
    assert await asyncio.gather(*tasks) == [3, 3]


async def test_what_is_no_iterable_of_calls_is_told_how_it_is_called(shop: Serving) -> None:
    calc = shop.proxy()
    for wrong in ((calc.add(1, 2), calc.add(3, 4)), (calc.add(1, 2),)):
        with pytest.raises(TypeError, match=r"one iterable of calls: gather\(\["):
            await amqproxy.gather(*wrong)
