"""What is fed to a handler that takes its time: nonsense among it is told of, and there is a bound to what waits."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

import amqproxy
from tests.contract.raw import Message, Raw
from tests.patience import until

FAILURE = b"com.github.sstone.amqp.proxy.AmqpProxy$ServerFailure"
CREDIT = b"amqproxy.Credit"


class Slow:
    """Takes the first item, and the others when it is told to."""

    def __init__(self) -> None:
        self.taken: list[Any] = []
        self.open = asyncio.Event()
        self.gate = threading.Event()
        self.ended: list[str] = []

    async def ping(self) -> str:
        return "pong"

    async def taking(self, items: AsyncIterator[int]) -> int:
        try:
            async for item in items:
                self.taken.append(item)
                await self.open.wait()
        except BaseException as error:
            self.ended.append(type(error).__name__)
            raise
        return len(self.taken)

    async def careless(self, items: AsyncIterator[int]) -> int:
        """It passes over whatever it can."""
        try:
            async for item in items:
                self.taken.append(item)
                await self.open.wait()
        except Exception as error:
            self.ended.append(type(error).__name__)
        return len(self.taken)

    async def elsewhere(self, items: AsyncIterator[int]) -> int:
        """It takes them in a task of its own."""
        return await asyncio.create_task(self.taking(items))

    def threaded(self, items: Iterator[int]) -> int:
        for item in items:
            self.taken.append(item)
            self.gate.wait(10)
        return len(self.taken)

    def go(self) -> None:
        self.open.set()
        self.gate.set()


class Feeder:
    """A caller by the page, for one call."""

    def __init__(self, raw: Raw, service: str) -> None:
        self.raw, self.service = raw, service
        self.worker = ""

    async def call(self, method: str) -> None:
        kind = f"{self.service}.{method}".encode()
        self.raw.publish(
            *(self.service, b"{}"),
            content_type=kind,
            correlation_id=b"1",
            reply_to=self.raw.reply_to,
            headers={"x-feed": True},
        )
        granted = await self.raw.next_message()
        assert granted.properties.content_type == CREDIT
        assert granted.properties.reply_to is not None
        self.worker = granted.properties.reply_to.decode()

    def feed(self, number: int, body: bytes, **headers: Any) -> None:
        named = {"x-seq": number, **{name.replace("_", "-"): value for name, value in headers.items()}}
        self.raw.publish(self.worker, body, correlation_id=b"1", reply_to=self.raw.reply_to, headers=named)

    async def answer(self) -> Message:
        while (message := await self.raw.next_message()).properties.content_type == CREDIT:
            pass
        return message

    async def failure(self) -> dict[str, Any]:
        while (message := await self.raw.next_message()).properties.content_type != FAILURE:
            pass
        body: dict[str, Any] = json.loads(message.body)
        return {**body["error"], "text": body["message"]}


@pytest.mark.parametrize("method", ["taking", "careless", "elsewhere", "threaded"])
async def test_nonsense_behind_items_that_wait_ends_the_call_when_the_handler_gets_there(
    mq: amqproxy.Client, raw: Raw, service: str, method: str
) -> None:
    served = Slow()
    async with mq.serve(served, name=service, auto_delete=True, grace=1) as worker:
        feeder = Feeder(raw, service)
        await feeder.call(method)
        for number, body in enumerate([b"1", b"2", b'"three"', b"4"]):
            feeder.feed(number, body)
        feeder.feed(4, b"", x_end=True)
        await until(lambda: served.taken)
        served.go()
        found = await feeder.failure()
        assert (found["code"], found["type"], found["executed"]) == ("invalid_argument", "FlowError", "yes")
        assert "Expected `int`, got `str`" in found["text"]
        assert served.taken == [1, 2]
        await until(lambda: not worker.running)
        if method == "taking":
            assert served.ended == ["CancelledError"]
        assert await mq.proxy(service).ping() == "pong"
        assert raw.messages.empty()


@pytest.mark.parametrize("method", ["taking", "threaded"])
async def test_what_waits_comes_in_order_whole_and_once(
    mq: amqproxy.Client, raw: Raw, service: str, method: str
) -> None:
    served = Slow()
    async with mq.serve(served, name=service, auto_delete=True, grace=1):
        feeder = Feeder(raw, service)
        await feeder.call(method)
        for number in range(100):
            feeder.feed(2 * number, b"[%d,%d]" % (2 * number, 2 * number + 1), x_batch=2)
            if number % 7 == 3:
                feeder.feed(2 * number - 1, b"[%d,%d]" % (2 * number - 1, 2 * number), x_batch=2)
        feeder.feed(200, b"", x_end=True)
        await until(lambda: served.taken)
        served.go()
        assert (await feeder.answer()).body == b"200"
        assert served.taken == list(range(200))


async def test_the_bytes_that_wait_for_a_handler_are_bounded(
    mq: amqproxy.Client, raw: Raw, service: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("amqproxy.streaming.FEED_BYTES", 20_000)
    monkeypatch.setattr("amqproxy.streaming.FEED_BODIES", 0)
    served, body = Slow(), b" " * 9_999 + b"1"
    async with mq.serve(served, name=service, auto_delete=True, grace=1):
        feeder = Feeder(raw, service)
        await feeder.call("taking")
        for number in range(4):  # one is taken, and one is decoded
            feeder.feed(number, body)
            await until(lambda: served.taken)
        assert await mq.proxy(service).ping() == "pong"
        assert served.ended == []
        feeder.feed(4, body)
        found = await feeder.failure()
        assert (found["code"], found["type"]) == ("invalid_argument", "FlowError")
        assert found["text"].endswith(
            "more than 20000 bytes of items wait for the handler: feed it a Blob, whose chunks wait at the caller"
        )
        assert served.taken == [1]
