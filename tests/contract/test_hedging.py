"""Slow calls that are sent a second time: the first answer counts, and the other try is given up."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

import amqproxy
from amqproxy import RemoteError, Retry, RetryBudget
from amqproxy.handler import Refused, refusal
from tests.contract.test_links import cut
from tests.faults.network import Relay
from tests.patience import until


class Tortoise:
    """Its calls end when they are told to, in whatever order."""

    def __init__(self) -> None:
        self.ids: list[str | None] = []
        self.gates: list[asyncio.Future[int]] = []
        self.stopped: list[int] = []

    @amqproxy.method(idempotent=True)
    async def crawl(self) -> int:
        self.ids.append(amqproxy.current().message_id)
        gate: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self.gates.append(gate)
        place = len(self.gates)
        try:
            return await gate
        except asyncio.CancelledError:
            self.stopped.append(place)
            raise

    async def once(self) -> str:
        await asyncio.sleep(0.1)
        return "once"


@asynccontextmanager
async def tortoise(mq: amqproxy.Client, service: str) -> AsyncIterator[Tortoise]:
    served = Tortoise()
    async with mq.serve(served, name=service, auto_delete=True, grace=0):
        yield served


async def test_a_call_that_is_answered_in_time_is_sent_once(mq: amqproxy.Client, service: str) -> None:
    async with tortoise(mq, service) as served:
        call = asyncio.ensure_future(mq.proxy(Tortoise, name=service, hedge=20).crawl())
        await until(lambda: served.gates)
        served.gates[0].set_result(1)
        assert await call == 1
        assert len(served.ids) == 1


@pytest.mark.parametrize("winner", [0, 1])
async def test_the_first_answer_wins_and_the_loser_is_stopped(mq: amqproxy.Client, service: str, winner: int) -> None:
    async with tortoise(mq, service) as served:
        call = asyncio.ensure_future(mq.proxy(Tortoise, name=service, hedge=0.05).crawl())
        await until(lambda: len(served.gates) == 2)
        assert len(set(served.ids)) == 1  # both are one call
        served.gates[winner].set_result(winner)
        assert await call == winner
        await until(lambda: served.stopped == [2 - winner])
        assert len(served.gates) == 2


async def test_what_a_handler_raises_is_an_answer(mq: amqproxy.Client, service: str) -> None:
    async with tortoise(mq, service) as served:
        call = asyncio.ensure_future(mq.proxy(Tortoise, name=service, hedge=0.05).crawl())
        await until(lambda: len(served.gates) == 2)
        served.gates[1].set_exception(ValueError("no"))
        with pytest.raises(ValueError, match="no"):
            await call
        await until(lambda: served.stopped == [1])


async def test_a_cancelled_call_gives_up_both(mq: amqproxy.Client, service: str) -> None:
    async with tortoise(mq, service) as served:
        call = asyncio.ensure_future(mq.proxy(Tortoise, name=service, hedge=0.05).crawl())
        await until(lambda: len(served.gates) == 2)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await until(lambda: sorted(served.stopped) == [1, 2])


async def test_the_time_of_a_call_is_over_for_both(mq: amqproxy.Client, service: str) -> None:
    async with tortoise(mq, service) as served:
        with pytest.raises(amqproxy.CallTimeout) as caught:
            await mq.proxy(Tortoise, name=service, hedge=0.05, timeout=0.3).crawl()
        assert caught.value.executed == "maybe"
        assert len(served.gates) == 2
        await until(lambda: sorted(served.stopped) == [1, 2])


async def test_only_idempotent_methods_are_hedged(mq: amqproxy.Client, service: str) -> None:
    async with tortoise(mq, service):
        assert await mq.proxy(Tortoise, name=service, hedge=0.01).once() == "once"
    for arguments in ((service,), (Plain,)):
        with pytest.raises(ValueError, match="hedge is for methods that may run twice: give idempotent=True"):
            mq.proxy(*arguments, hedge=1)


class Plain:
    async def ping(self) -> None: ...


async def test_where_most_calls_fail_nothing_is_sent_twice(mq: amqproxy.Client, service: str) -> None:
    budget = RetryBudget(tokens=1)
    budget.failed()
    async with tortoise(mq, service) as served:
        call = asyncio.ensure_future(
            mq.proxy(Tortoise, name=service, hedge=0.01, retry=Retry(1, budget=budget)).crawl()
        )
        await asyncio.sleep(0.1)
        assert len(served.gates) == 1
        served.gates[0].set_result(1)
        assert await call == 1


async def test_a_try_that_is_refused_leaves_the_other(mq: amqproxy.Client, service: str) -> None:
    async with tortoise(mq, service) as served:
        call = asyncio.ensure_future(mq.proxy(Tortoise, name=service, hedge=0.05, retry=3).crawl())
        await until(lambda: len(served.gates) == 2)
        served.gates[0].set_exception(Refused(refusal("unavailable", "not now", retryable=True)))
        await asyncio.sleep(0.05)
        assert not call.done()
        served.gates[1].set_result(5)
        assert await call == 5


@pytest.mark.parametrize("refused", [0, 1])
async def test_a_try_that_did_not_run_leaves_the_other_which_has_begun(
    mq: amqproxy.Client, service: str, refused: int
) -> None:
    """As when a worker of a pool does not know the method yet that another runs."""
    async with tortoise(mq, service) as served:
        call = asyncio.ensure_future(mq.proxy(Tortoise, name=service, hedge=0.05).crawl())
        await until(lambda: len(served.gates) == 2)
        served.gates[refused].set_exception(Refused(refusal("unimplemented", "not here")))
        done, _ = await asyncio.wait((call,), timeout=0.1)
        assert not done
        served.gates[1 - refused].set_result(6)
        assert await call == 6
        assert not served.stopped


@pytest.mark.parametrize("refused", [0, 1])
async def test_when_one_is_refused_and_the_other_is_in_doubt_so_is_the_call(
    mq: amqproxy.Client, service: str, refused: int
) -> None:
    async with tortoise(mq, service) as served:
        call = asyncio.ensure_future(mq.proxy(Tortoise, name=service, hedge=0.05, timeout=1).crawl())
        await until(lambda: len(served.gates) == 2)
        served.gates[refused].set_exception(Refused(refusal("unimplemented", "not here")))
        with pytest.raises(amqproxy.CallTimeout) as caught:
            await call
        assert caught.value.executed == "maybe"
        await until(lambda: served.stopped == [2 - refused])


async def test_an_answer_wins_over_an_error_that_comes_in_the_same_moment(mq: amqproxy.Client, service: str) -> None:
    async with tortoise(mq, service) as served:
        proxy = mq.proxy(Tortoise, name=service, hedge=0.02)
        for error in (Refused(refusal("unavailable", "not now", retryable=True)), ValueError("no")):
            for _ in range(8):  # which is looked at first is left to chance
                served.gates.clear()
                call = asyncio.ensure_future(proxy.crawl())
                await until(lambda: len(served.gates) == 2)
                served.gates[1].set_result(7)
                served.gates[0].set_exception(error)
                assert await call == 7


async def test_when_both_are_refused_the_call_is(mq: amqproxy.Client, service: str) -> None:
    async with tortoise(mq, service) as served:
        call = asyncio.ensure_future(mq.proxy(Tortoise, name=service, hedge=0.05).crawl())
        await until(lambda: len(served.gates) == 2)
        for gate in served.gates:
            gate.set_exception(Refused(refusal("unavailable", "not now", retryable=True)))
        with pytest.raises(RemoteError, match="not now") as caught:
            await call
        assert caught.value.executed == "no"


@pytest.mark.parametrize("options", [{}, {"heartbeat": 5}, {"max_in_flight": 1}])
async def test_a_lost_link_is_got_over_as_without_hedging(
    mq: amqproxy.Client, amqp_url: str, service: str, options: dict[str, Any]
) -> None:
    async with amqproxy.connect(amqp_url) as server, tortoise(server, service) as served:
        call = asyncio.ensure_future(mq.proxy(Tortoise, name=service, hedge=20, **options).crawl())
        for links in (1, 2):
            await until(lambda links=links: len(served.gates) == links)  # type: ignore[misc]
            cut(mq)
        await until(lambda: len(served.gates) == 3)
        assert len(set(served.ids)) == 1
        served.gates[2].set_result(8)
        assert await call == 8


@pytest.mark.parametrize("options", [{}, {"heartbeat": 5}])
async def test_requests_that_wait_for_a_link_together_have_one_id(
    amqp_url: str, service: str, options: dict[str, Any]
) -> None:
    async with (
        amqproxy.connect(amqp_url) as server,
        tortoise(server, service) as served,
        Relay.to(amqp_url) as relay,
        amqproxy.connect(relay.url) as mq,
    ):
        relay.refuses = True
        relay.reset()
        await until(lambda: mq.state.name == "reconnecting")
        call = asyncio.ensure_future(mq.proxy(Tortoise, name=service, hedge=0.01, timeout=60, **options).crawl())
        await until(lambda: requests_on_their_way() == 2)
        assert not served.ids
        relay.refuses = False
        await until(lambda: len(served.ids) == 2, within=20)
        assert served.ids[0] == served.ids[1] is not None
        served.gates[0].set_result(9)
        assert await call == 9


def requests_on_their_way() -> int:
    return sum("RepeatingMethod._send()" in repr(task) for task in asyncio.all_tasks())


async def test_a_retry_says_how_often_a_lost_link_is_got_over(mq: amqproxy.Client, amqp_url: str, service: str) -> None:
    async with amqproxy.connect(amqp_url) as server, tortoise(server, service) as served:
        call = asyncio.ensure_future(mq.proxy(Tortoise, name=service, hedge=20, retry=1).crawl())
        await until(lambda: served.gates)
        cut(mq)
        with pytest.raises(amqproxy.ConnectionLost):
            await call
        assert len(served.gates) == 1


async def test_when_there_is_no_other_link_the_call_may_have_run(amqp_url: str, service: str) -> None:
    async with amqproxy.connect(amqp_url) as server, tortoise(server, service) as served:
        async with amqproxy.connect(amqp_url) as mq:
            call = asyncio.ensure_future(mq.proxy(Tortoise, name=service, hedge=20).crawl())
            await until(lambda: served.gates)
        with pytest.raises(amqproxy.ConnectionLost) as caught:
            await call
        assert caught.value.executed == "maybe"
