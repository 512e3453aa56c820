"""A connection of its own and a service name of its own for each test of the contract between caller and worker."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Iterator

import pytest

import amqproxy
from amqproxy.testing import BrokerThread, RabbitMQ, broker_thread
from tests.conftest import EMBEDDED, RABBITMQ
from tests.contract.raw import Raw


@pytest.fixture
def service() -> str:
    return f"test.{secrets.token_hex(6)}"


@pytest.fixture
async def mq(amqp_url: str) -> AsyncIterator[amqproxy.Client]:
    async with amqproxy.connect(amqp_url) as client:
        yield client


@pytest.fixture(params=[EMBEDDED, RABBITMQ])
def mortal(request: pytest.FixtureRequest) -> Iterator[BrokerThread | RabbitMQ]:
    """A broker that may be stopped, killed and started."""
    if request.param == RABBITMQ:
        yield request.getfixturevalue("rabbitmq_node")
    else:
        with broker_thread() as broker:
            yield broker


@pytest.fixture
async def raw(amqp_url: str) -> AsyncIterator[Raw]:
    """A peer that publishes whatever bytes it is told to, and reads what is answered."""
    async with Raw.connected(amqp_url) as peer:
        yield peer
