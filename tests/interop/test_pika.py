"""Programs that only know RabbitMQ call our workers, and answer our proxies: the first proof of the wire format."""

from __future__ import annotations

import asyncio
import json
import secrets
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import amqproxy

HERE = Path(__file__).parent
FAILURE = "com.github.sstone.amqp.proxy.AmqpProxy$ServerFailure"


@amqproxy.message("com.github.sstone.amqp.proxy.Demo$AddRequest")
@dataclass
class AddRequest:
    x: int
    y: int


@amqproxy.message("com.github.sstone.amqp.proxy.Demo$AddResponse")
@dataclass
class AddResponse:
    x: int
    y: int
    sum: int


class Calculator:
    async def add(self, request: AddRequest) -> AddResponse:
        if request.x < 0:
            raise ValueError("x is negative")
        return AddResponse(request.x, request.y, request.x + request.y)


@pytest.fixture
def queue() -> str:
    return f"test.calculator.{secrets.token_hex(6)}"


@asynccontextmanager
async def script(name: str, *args: str) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(HERE / name), *args, stdout=asyncio.subprocess.PIPE
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def call(url: str, exchange: str, key: str, encoding: str, body: str) -> dict[str, Any]:
    async with script("pika_caller.py", url, exchange, key, encoding, body) as caller, asyncio.timeout(20):
        out, _ = await caller.communicate()
        assert caller.returncode == 0
        answer: dict[str, Any] = json.loads(out)
        return answer


@pytest.mark.parametrize("exchange", ["", "amq.direct"])
@pytest.mark.parametrize("encoding", ["json", "-"])
async def test_the_originals_sample_gets_its_sum(amqp_url: str, queue: str, exchange: str, encoding: str) -> None:
    async with amqproxy.connect(amqp_url) as mq, mq.serve(Calculator(), name=queue, auto_delete=True):
        answer = await call(amqp_url, exchange, queue, encoding, '{"x": 2, "y": 3}')
    assert answer == {
        "content_type": "com.github.sstone.amqp.proxy.Demo$AddResponse",
        "content_encoding": "json",
        "body": {"x": 2, "y": 3, "sum": 5},
    }


async def test_a_failing_handler_reaches_it_as_the_originals_failure(amqp_url: str, queue: str) -> None:
    async with amqproxy.connect(amqp_url) as mq, mq.serve(Calculator(), name=queue, auto_delete=True):
        answer = await call(amqp_url, "", queue, "json", '{"x": -2, "y": 3}')
    assert (answer["content_type"], answer["content_encoding"]) == (FAILURE, "json")
    assert answer["body"]["message"] == "x is negative"
    assert answer["body"]["throwableAsString"] == "ValueError: x is negative"


async def test_our_proxy_gets_its_sum_from_a_foreign_worker(amqp_url: str, queue: str) -> None:
    async with script("pika_worker.py", amqp_url, queue) as worker, amqproxy.connect(amqp_url) as mq:
        assert worker.stdout is not None
        async with asyncio.timeout(20):
            assert await worker.stdout.readline() == b"ready\n"
        calc = mq.proxy(Calculator, name=queue)
        assert await calc.add(AddRequest(2, 3)) == AddResponse(2, 3, 5)
        with pytest.raises(amqproxy.RemoteError, match="x is negative") as caught:
            await calc.add(AddRequest(-2, 3))
        assert caught.value.type == "java.lang.IllegalArgumentException"
        sums = await asyncio.gather(*(calc.add(AddRequest(n, n)) for n in range(50)))
        assert [each.sum for each in sums] == [2 * n for n in range(50)]
