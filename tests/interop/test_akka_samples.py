"""The samples of the original Akka AMQP proxies, written anew: the form of message that all others extend."""

from __future__ import annotations

import asyncio
import secrets

import pytest
import shared_messages
from shared_messages import AddRequest, AddResponse

import amqproxy
from tests.interop.conftest import Seen
from tests.interop.peer import Peer
from tests.interop.peers.akka import PYTHON, RUBY
from tests.interop.program import outcome, serving

assert PYTHON.worker is not None
WORKER = PYTHON.worker


@pytest.fixture
def service() -> str:
    return f"test.shared-calculator.{secrets.token_hex(6)}"


@pytest.mark.parametrize("sample", [pytest.param(RUBY, id="ruby"), pytest.param(PYTHON, id="python")])
async def test_a_sample_gets_its_sum(sample: Peer, amqp_url: str, service: str, seen: Seen) -> None:
    sample.require()
    seen(sample.name, "caller", "json")
    assert sample.caller is not None
    calculator = shared_messages.Calculator()
    async with amqproxy.connect(amqp_url) as mq, mq.serve(calculator, name=service, auto_delete=True):
        assert await outcome(*sample.caller, amqp_url, service) == ["1 + 2 = 3"]


async def test_a_worker_of_the_originals_form_serves_our_proxy(amqp_url: str, service: str, seen: Seen) -> None:
    seen(PYTHON.name, "worker", "json")
    worker = serving(*WORKER, amqp_url, service)
    async with worker, amqproxy.connect(amqp_url) as mq:
        calc = mq.proxy(shared_messages.Calculator, name=service)
        assert await calc.add(AddRequest(2, 3)) == AddResponse(2, 3, 5)
        with pytest.raises(amqproxy.RemoteError, match="x is negative") as caught:
            await calc.add(AddRequest(-2, 3))
        assert caught.value.type == "java.lang.IllegalArgumentException"
        sums = await asyncio.gather(*(calc.add(AddRequest(n, n)) for n in range(50)))
        assert [each.sum for each in sums] == [2 * n for n in range(50)]


@pytest.mark.parametrize("sample", [pytest.param(RUBY, id="ruby"), pytest.param(PYTHON, id="python")])
async def test_a_sample_gets_its_sum_from_a_worker_of_the_originals_form(
    sample: Peer, amqp_url: str, service: str
) -> None:
    sample.require()
    assert sample.caller is not None
    async with serving(*WORKER, amqp_url, service):
        assert await outcome(*sample.caller, amqp_url, service) == ["1 + 2 = 3"]
