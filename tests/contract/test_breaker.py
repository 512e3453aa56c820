"""A service that does not answer is not asked for a while; then one call finds out."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

import amqproxy
from amqproxy import RemoteError
from tests.patience import until


class Frail:
    def __init__(self) -> None:
        self.calls = 0
        self.fails: Exception | None = None
        self.open = asyncio.Event()

    async def work(self) -> int:
        self.calls += 1
        if self.fails is not None:
            raise self.fails
        return self.calls

    async def take(self, text: str) -> None:
        self.calls += 1

    async def wait(self) -> None:
        self.calls += 1
        await self.open.wait()


async def broken(proxy: Any, times: int, error: type[Exception] = RemoteError) -> None:
    for _ in range(times):
        with pytest.raises(error):
            await proxy.work()


async def test_after_some_failures_calls_fail_at_once_and_then_one_decides(
    mq: amqproxy.Client, service: str, caplog: pytest.LogCaptureFixture
) -> None:
    frail = Frail()
    async with mq.serve(frail, name=service, auto_delete=True):
        proxy = mq.proxy(Frail, name=service, middleware=[amqproxy.breaker(failures=3, seconds=0.3)])
        assert await proxy.work() == 1
        frail.fails = RemoteError("no database", code="unavailable")
        with caplog.at_level(logging.WARNING, "amqproxy.caller"):
            await broken(proxy, 3)
        text = f"calls of {service} are held back for 0.3 s: 3 in a row failed, the last with RemoteError: "
        assert f"{text}RemoteError: no database" in caplog.text
        with pytest.raises(amqproxy.Overloaded, match=r"was not sent, for 3 calls .* again in 0\.[123] s") as caught:
            await proxy.work()
        assert caught.value.executed == "no"
        assert frail.calls == 4
        await asyncio.sleep(0.3)
        await broken(proxy, 1)
        await broken(proxy, 1, amqproxy.Overloaded)
        frail.fails = None
        await asyncio.sleep(0.3)
        assert await proxy.work() == 6
        assert await proxy.work() == 7


async def test_calls_that_were_out_already_are_no_news(
    mq: amqproxy.Client, service: str, caplog: pytest.LogCaptureFixture
) -> None:
    frail = Frail()
    frail.fails = RemoteError("no database", code="unavailable")
    async with mq.serve(frail, name=service, auto_delete=True):
        proxy = mq.proxy(Frail, name=service, middleware=[amqproxy.breaker(failures=2, seconds=30)])
        with caplog.at_level(logging.WARNING, "amqproxy.caller"):
            outcomes = await asyncio.gather(*(proxy.work() for _ in range(6)), return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [RemoteError] * 6
        told = [text for text in caplog.messages if "are held back" in text]
        assert len(told) == 1 and "2 in a row failed" in told[0]


async def test_while_one_call_decides_others_fail(mq: amqproxy.Client, service: str) -> None:
    frail = Frail()
    async with mq.serve(frail, name=service, auto_delete=True):
        proxy = mq.proxy(Frail, name=service, middleware=[amqproxy.breaker(failures=1, seconds=1)])
        frail.fails = RemoteError("busy", code="resource_exhausted")
        await broken(proxy, 1)
        await asyncio.sleep(1)
        probe = asyncio.ensure_future(proxy.wait())
        await until(lambda: frail.calls == 2)
        with pytest.raises(amqproxy.Overloaded, match="being tried again by another call"):
            await proxy.work()
        probe.cancel()
        frail.fails = None
        await asyncio.wait((probe,))
        assert await proxy.work() == 3


async def test_what_a_handler_raises_is_an_answer(mq: amqproxy.Client, service: str) -> None:
    frail = Frail()
    async with mq.serve(frail, name=service, auto_delete=True):
        proxy = mq.proxy(Frail, name=service, middleware=[amqproxy.breaker(failures=2, seconds=30)])
        frail.fails = ValueError("no")
        await broken(proxy, 5, ValueError)
        with pytest.raises(amqproxy.ContractError):
            await proxy.work(1)  # type: ignore[call-arg]
        await broken(proxy, 1, ValueError)


async def test_what_was_not_sent_says_nothing_of_the_service(amqp_url: str, service: str) -> None:
    frail = Frail()

    async def not_sent() -> None:
        with pytest.raises(amqproxy.MessageTooLarge):
            await proxy.take("x" * 20_000)
        with pytest.raises(amqproxy.EncodingFailed):
            await proxy.take(object())

    async with (
        amqproxy.connect(amqp_url, max_body_bytes=10_000) as mq,
        mq.serve(frail, name=service, auto_delete=True),
    ):
        proxy = mq.proxy(service, middleware=[amqproxy.breaker(failures=2, seconds=0.2)])
        frail.fails = RemoteError("no database", code="unavailable")
        await broken(proxy, 1)
        await not_sent()
        await broken(proxy, 1)  # the second in a row
        await broken(proxy, 1, amqproxy.Overloaded)
        await asyncio.sleep(0.2)
        await not_sent()
        await broken(proxy, 1)  # it is the one that decides
        await broken(proxy, 1, amqproxy.Overloaded)
        assert frail.calls == 3


async def test_each_service_is_counted_for_itself(amqp_url: str, service: str) -> None:
    middleware = [amqproxy.breaker(failures=2, seconds=30)]
    async with (
        amqproxy.connect(amqp_url, middleware=middleware) as mq,
        mq.serve(Frail(), name=service, auto_delete=True),
    ):
        nobody = mq.proxy(f"{service}.nobody")
        await broken(nobody, 2, amqproxy.Unroutable)
        await broken(nobody, 1, amqproxy.Overloaded)
        assert await mq.proxy(Frail, name=service).work() == 1


async def test_it_does_not_go_around_handlers(mq: amqproxy.Client, service: str) -> None:
    async with mq.serve(Frail(), name=service, auto_delete=True, middleware=[amqproxy.breaker()]):
        with pytest.raises(TypeError, match="a breaker is for calls"):
            await mq.proxy(Frail, name=service).work()


@pytest.mark.parametrize("wrong", [{"failures": 0}, {"failures": 1.5}, {"seconds": 0}, {"seconds": "long"}])
def test_numbers_that_make_no_sense_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises((TypeError, ValueError), match=next(iter(wrong))):
        amqproxy.breaker(**wrong)


def test_it_says_what_it_is() -> None:
    assert repr(amqproxy.breaker(3, 2.5)) == "amqproxy.breaker(failures=3, seconds=2.5)"
