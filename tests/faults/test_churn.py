"""A short life in which everything comes and goes; `make soak` makes a long one."""

from __future__ import annotations

import random
import time
from dataclasses import replace

import pytest

import amqproxy
from amqproxy.testing import RabbitMQ
from tests.faults.churn import Churn, Reading, complaints
from tests.faults.table import Row

READING = Reading(
    rounds=0,
    rss=40.0,
    tasks=9,
    futures=70,
    descriptors=11,
    connections=1,
    channels=4,
    queues=1,
    exchanges=8,
    broker=64.0,
)
ROUNDS = 4
LONGEST_ROUND = 20.0
"""Seconds: each round takes the reply queue away, and who has lost it again and again waits for up to 15 s."""


@pytest.mark.long
@pytest.mark.fault("F64", "everything made, used, failed, cancelled and closed, again and again")
async def test_what_comes_and_goes_leaves_nothing_behind(row: Row, rabbitmq_node: RabbitMQ) -> None:
    life = Churn(rabbitmq_node, random.Random())
    async with amqproxy.connect(rabbitmq_node.url) as steady:
        readings = []
        for _ in range(3):
            for _ in range(ROUNDS):
                began = time.monotonic()
                await life.round(steady)
                row.saw("what each step is to give", time.monotonic() - began, within=LONGEST_ROUND)
            readings.append(await life.read())
    _, before, after = readings  # the first of them is the warm-up
    for name in ("tasks", "descriptors", "connections", "channels", "queues", "exchanges"):
        grown = getattr(after, name) - getattr(before, name)
        assert grown < ROUNDS, f"{name} grew by {grown} in {ROUNDS} rounds: {readings}"


@pytest.mark.parametrize(
    ("name", "each", "grows"),
    [
        ("tasks", 1, True),
        ("channels", 1, True),
        ("futures", 2, True),
        ("queues", 0, False),
        ("rss", 0.05, True),
        ("rss", 0.005, False),
        ("broker", 0.05, True),
    ],
)
def test_what_grows_is_found(name: str, each: float, grows: bool) -> None:
    """Growth with each of 20 rounds between readings, of which there are 20, around which it goes up and down."""
    readings = [
        replace(READING, **{"rounds": 20 * n, name: getattr(READING, name) + each * 20 * n + n % 2}) for n in range(20)
    ]
    found = complaints(readings)
    assert bool(found) is grows
    assert all(complaint.startswith(name) for complaint in found)


def test_a_few_readings_tell_nothing() -> None:
    assert complaints([READING] * 5) == ["5 readings are too few to tell what grows"]
