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
from tests.interop.conftest import Seen
from tests.interop.peer import JSON_FORMS, Peer
from tests.interop.program import outcome, serving
from tests.interop.table import PAGE, Cell, cells_of

PEERS: list[Peer] = [
    peer
    for module in sorted(module.name for module in pkgutil.iter_modules(peers.__path__))
    for peer in importlib.import_module(f"tests.interop.peers.{module}").PEERS
]

CALLERS = [(peer, encoding) for peer in PEERS if peer.caller is not None for encoding in peer.encodings]
WORKERS = [(peer, encoding) for peer in PEERS if peer.worker is not None for encoding in peer.encodings]


def each(pairs: list[tuple[Peer, str]]) -> pytest.MarkDecorator:
    """A test of each peer in each encoding."""
    ids = [f"{peer.slug}-{encoding}" for peer, encoding in pairs]
    return pytest.mark.parametrize(("peer", "encoding"), pairs, ids=ids)


NOTES = {peer.name: peer.note for peer in PEERS}
ROLES = [(peer, "caller", encoding) for peer, encoding in CALLERS]
ROLES += [(peer, "worker", encoding) for peer, encoding in WORKERS]
ROLES += [(p, role, encoding) for p in PEERS for role, encodings in p.elsewhere.items() for encoding in encodings]
PROMISED = {(Cell(peer.name, role, encoding), broker) for peer, role, encoding in ROLES for broker in peer.brokers}
"""All that the table is made of, and on which broker it is to be seen."""


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


@each(CALLERS)
async def test_it_calls_our_worker(peer: Peer, encoding: str, amqp_url: str, service: str, seen: Seen) -> None:
    peer.require()
    seen(peer.name, "caller", encoding)
    assert peer.caller is not None
    async with amqproxy.connect(amqp_url) as mq, mq.serve(Calculator(), name=service, auto_delete=True):
        said = await outcome(*peer.caller, amqp_url, service, encoding)
    assert said == ["1 + 2 = 3", "1 / 0: division by zero"]


@each(WORKERS)
async def test_it_serves_our_proxy(peer: Peer, encoding: str, amqp_url: str, service: str, seen: Seen) -> None:
    peer.require()
    seen(peer.name, "worker", encoding)
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


def test_the_table_in_the_docs_has_a_mark_for_each_of_these_tests_and_no_other(pytestconfig: pytest.Config) -> None:
    if pytestconfig.getoption("--write-interop", default=False):
        return  # this run is going to make it
    shown = cells_of(PAGE.read_text())
    assert shown == {cell for cell, _ in PROMISED}, "make interop makes it anew"
