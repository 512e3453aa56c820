"""The properties of the tests beside this, and the model of a broker, with other examples each time."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import run_state_machine_as_test

from tests.fuzz import arena, seeds, streams
from tests.unit.broker.model import BrokerMachine

ROUND = settings(
    max_examples=200,
    deadline=None,
    database=None,
    phases=(Phase.generate, Phase.shrink),
    suppress_health_check=list(HealthCheck),
)


@ROUND
@given(streams.streams, streams.places)
def stream(data: bytes, cuts: list[int]) -> None:
    arena.play_all_ways(data, cuts)


@ROUND
@given(streams.mutated(), streams.places)
def mutated(data: bytes, cuts: list[int]) -> None:
    arena.play_all_ways(data, cuts)


@ROUND
@given(st.binary(max_size=1000), streams.places, st.sampled_from([b"", seeds.OPEN]))
def anything(data: bytes, cuts: list[int], before: bytes) -> None:
    arena.play_all_ways(before + data, cuts)


def model() -> None:
    run_state_machine_as_test(BrokerMachine, settings=settings(ROUND, max_examples=50, stateful_step_count=60))


def run(seconds: float) -> None:
    """Hold all properties in turns, each time with another seed, until the time is over."""
    properties: tuple[Callable[[], None], ...] = stream, mutated, anything, model
    end, number = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        which, number = properties[number % len(properties)], number + 1
        start = secrets.randbits(32)
        print(f"{which.__name__} with seed {start}", flush=True)
        if which is model:
            which()
        else:
            seed(start)(which)()
    print(f"{number} rounds, and nothing found")
