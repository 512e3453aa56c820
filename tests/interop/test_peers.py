"""Programs in other languages call our workers, and answer our proxies, in every encoding that they have at hand."""

from __future__ import annotations

import asyncio
import importlib
import pkgutil
import secrets
from typing import Any

import pytest
from any_language import Calculator
from calculator_pb2 import AddRequest, DivideRequest
from calculator_thrift import ttypes as thrift

import amqproxy
from tests.interop import peers
from tests.interop.peer import JSON_FORMS, Peer
from tests.interop.program import outcome, serving

PEERS: list[Peer] = [
    peer
    for module in sorted(module.name for module in pkgutil.iter_modules(peers.__path__))
    for peer in importlib.import_module(f"tests.interop.peers.{module}").PEERS
]

CALLERS = [
    pytest.param(peer, encoding, id=f"{peer.slug}-{encoding}")
    for peer in PEERS
    if peer.caller is not None
    for encoding in peer.encodings
]
WORKERS = [
    pytest.param(peer, encoding, id=f"{peer.slug}-{encoding}")
    for peer in PEERS
    if peer.worker is not None
    for encoding in peer.encodings
]


@pytest.fixture
def service() -> str:
    return f"test.calculator.{secrets.token_hex(6)}"


async def add(calc: Any, encoding: str, x: int, y: int) -> int:
    """The sum, asked for in the form of message that the encoding carries."""
    if encoding in JSON_FORMS:
        return int(await calc.add(x, y))
    if "protobuf" in encoding:
        return int((await calc.add_message(AddRequest(x=x, y=y))).sum)
    return int((await calc.add_struct(thrift.AddRequest(x, y))).sum)


async def divide(calc: Any, encoding: str, x: int, y: int) -> float:
    if encoding in JSON_FORMS:
        return float(await calc.divide(x, y))
    if "protobuf" in encoding:
        return float((await calc.divide_message(DivideRequest(x=x, y=y))).quotient)
    return float((await calc.divide_struct(thrift.DivideRequest(x, y))).quotient)


@pytest.mark.parametrize(("peer", "encoding"), CALLERS)
async def test_it_calls_our_worker(peer: Peer, encoding: str, amqp_url: str, service: str) -> None:
    peer.require()
    assert peer.caller is not None
    async with amqproxy.connect(amqp_url) as mq, mq.serve(Calculator(), name=service, auto_delete=True):
        said = await outcome(*peer.caller, amqp_url, service, encoding)
    assert said == ["1 + 2 = 3", "1 / 0: division by zero"]


@pytest.mark.parametrize(("peer", "encoding"), WORKERS)
async def test_it_serves_our_proxy(peer: Peer, encoding: str, amqp_url: str, service: str) -> None:
    peer.require()
    assert peer.worker is not None
    async with amqproxy.connect(amqp_url) as mq, serving(*peer.worker, amqp_url, service):
        calc = mq.proxy(Calculator, name=service, encoding=encoding)
        assert await add(calc, encoding, 1, 2) == 3
        assert await divide(calc, encoding, 3, 2) == 1.5
        with pytest.raises(amqproxy.RemoteError, match=r"(?i)division by zero|divide by zero|divided by 0|/ by zero"):
            await divide(calc, encoding, 1, 0)
        sums = await asyncio.gather(*(add(calc, encoding, n, n) for n in range(50)))
        assert sums == [2 * n for n in range(50)]
        with pytest.raises(amqproxy.RemoteError, match="subtract"):
            await mq.proxy(service).subtract(1, 2)
        assert await add(calc, encoding, -3, 1) == -2
