"""The Akka AMQP proxies' own convention, spoken by Scala on the libraries that they stood on."""

from __future__ import annotations

import asyncio
import secrets
from typing import Any

import pytest
from calculator_pb2 import AddRequest as ProtobufAddRequest
from calculator_pb2 import DivideRequest as ProtobufDivideRequest
from calculator_thrift.ttypes import AddRequest as ThriftAddRequest
from calculator_thrift.ttypes import DivideRequest as ThriftDivideRequest
from scala import akka_pool

import amqproxy
from tests.interop.conftest import Seen
from tests.interop.peers.scala import CALLER, PEERS, WORKER
from tests.interop.program import outcome, serving
from tests.vectors.vector import AddRequest, Calculator, DivideRequest, DivideResponse

ENCODINGS = ("json", "snappy-json", "protobuf", "snappy-protobuf", "thrift", "snappy-thrift")
AS_THE_ORIGINAL: dict[str, Any] = {
    "durable": False,
    "auto_delete": True,
    "requeue_once": True,
    "failure_details": False,
}


@pytest.fixture
def service() -> str:
    PEERS[0].require()
    return f"test.scala.{secrets.token_hex(6)}"


class Counting(Calculator):
    """Counts what it fails to divide."""

    def __init__(self) -> None:
        self.tries = 0

    async def divide_case_class(self, request: DivideRequest) -> DivideResponse:
        self.tries += 1
        return await super().divide_case_class(request)


async def add(calc: Any, encoding: str, x: int, y: int) -> Any:
    if "json" in encoding:
        return (await calc.add_case_class(AddRequest(x, y))).sum
    if "protobuf" in encoding:
        return (await calc.add_message(ProtobufAddRequest(x=x, y=y))).sum
    return (await calc.add_struct(ThriftAddRequest(x, y))).sum


async def divide(calc: Any, encoding: str, x: int, y: int) -> Any:
    if "json" in encoding:
        return (await calc.divide_case_class(DivideRequest(x, y))).quotient
    if "protobuf" in encoding:
        return (await calc.divide_message(ProtobufDivideRequest(x=x, y=y))).quotient
    return (await calc.divide_struct(ThriftDivideRequest(x, y))).quotient


@pytest.mark.parametrize("encoding", ENCODINGS)
async def test_its_client_calls_our_worker(encoding: str, amqp_url: str, service: str, seen: Seen) -> None:
    seen(PEERS[0].name, "caller", encoding)
    async with (
        amqproxy.connect(amqp_url) as mq,
        mq.serve(Calculator(), queue=service, **AS_THE_ORIGINAL),
    ):
        assert await outcome(*CALLER, amqp_url, service, encoding) == ["1 + 2 = 3", "1 / 0: division by zero"]


async def test_its_client_takes_no_notice_of_what_our_failures_hold_besides(amqp_url: str, service: str) -> None:
    async with (
        amqproxy.connect(amqp_url) as mq,
        mq.serve(Calculator(), queue=service, auto_delete=True),
    ):
        assert await outcome(*CALLER, amqp_url, service) == ["1 + 2 = 3", "1 / 0: division by zero"]


async def test_our_worker_tries_a_failed_request_twice_as_its_server_does(amqp_url: str, service: str) -> None:
    calculator = Counting()
    async with (
        amqproxy.connect(amqp_url) as mq,
        mq.serve(calculator, queue=service, **AS_THE_ORIGINAL),
    ):
        await outcome(*CALLER, amqp_url, service)
    assert calculator.tries == 2


@pytest.mark.parametrize("correlation_ids", ["secret", "counter"])
async def test_our_proxy_calls_its_server(correlation_ids: Any, amqp_url: str, service: str, seen: Seen) -> None:
    async with (
        amqproxy.connect(amqp_url, correlation_ids=correlation_ids) as mq,
        serving(*WORKER, amqp_url, service),
    ):
        for encoding in ENCODINGS:
            calc = mq.proxy(Calculator, routing_key=service, encoding=encoding)
            assert await add(calc, encoding, -3, 1) == -2
            assert await divide(calc, encoding, 3, 2) == 1.5
            with pytest.raises(amqproxy.RemoteError) as caught:
                await divide(calc, encoding, 1, 0)
            assert (caught.value.type, caught.value.message) == ("java.lang.ArithmeticException", "/ by zero")
            sums = await asyncio.gather(*(add(calc, encoding, n, n) for n in range(50)))
            assert sums == [2 * n for n in range(50)]
            seen(PEERS[0].name, "worker", encoding)


async def test_our_proxy_calls_its_server_through_the_exchange_that_its_clients_use(
    amqp_url: str, service: str
) -> None:
    async with amqproxy.connect(amqp_url) as mq, serving(*WORKER, amqp_url, service):
        calc = mq.proxy(Calculator, exchange="amq.direct", routing_key=service)
        assert await add(calc, "json", 1, 2) == 3


async def test_the_example_in_python_joins_its_pool(amqp_url: str, service: str) -> None:
    async with amqproxy.connect(amqp_url) as mq, mq.serve(akka_pool.Calculator(), queue=service):
        assert await outcome(*CALLER, amqp_url, service) == ["1 + 2 = 3", "1 / 0: division by zero"]


async def test_the_example_in_python_calls_its_server(
    amqp_url: str, service: str, capsys: pytest.CaptureFixture[str]
) -> None:
    async with serving(*WORKER, amqp_url, service):
        await akka_pool.main(amqp_url, service)
    assert capsys.readouterr().out.splitlines() == ["1 + 2 = 3", "1 / 0: / by zero"]


async def test_its_server_tells_what_it_does_not_know(amqp_url: str, service: str) -> None:
    async with amqproxy.connect(amqp_url) as mq, serving(*WORKER, amqp_url, service):
        with pytest.raises(amqproxy.RemoteError, match=r"calculator\.add") as caught:
            await mq.proxy(Calculator, routing_key=service).add(1, 2)
        assert caught.value.type == "java.lang.ClassNotFoundException"


async def test_its_servers_and_our_workers_share_a_pool(amqp_url: str, service: str) -> None:
    async with (
        amqproxy.connect(amqp_url) as mq,
        serving(*WORKER, amqp_url, service),
        mq.serve(Calculator(), queue=service, concurrency=8, **AS_THE_ORIGINAL) as worker,
    ):
        calc = mq.proxy(Calculator, routing_key=service)
        sums = await asyncio.gather(*(add(calc, "json", n, n) for n in range(400)))
        assert sums == [2 * n for n in range(400)]
        assert 0 < worker.answered < 400
        failures = await asyncio.gather(*(divide(calc, "json", n, 0) for n in range(20)), return_exceptions=True)
        assert {getattr(failure, "message", failure) for failure in failures} <= {"/ by zero", "division by zero"}
        first, second = await outcome(*CALLER, amqp_url, service)
        assert first == "1 + 2 = 3"
        assert second in ("1 / 0: / by zero", "1 / 0: division by zero")
