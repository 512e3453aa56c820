"""The properties of the tests beside this, of all decoders and of a broker's model, with other examples each time."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import run_state_machine_as_test

from tests.fuzz import arena, decoders, seeds, streams
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


@ROUND
@given(decoders.properties)
def properties(data: bytes) -> None:
    decoders.reads_properties(data)


@ROUND
@given(decoders.headers)
def headers(found: dict[str, Any]) -> None:
    decoders.reads_headers(found)


@ROUND
@given(decoders.spoiled(*decoders.FAILURES, *decoders.TALK))
def talk(data: bytes) -> None:
    decoders.reads_talk(data)


@ROUND
@given(decoders.bodies)
def bodies(given: tuple[str, str, bytes, int]) -> None:
    decoders.reads_bodies(*given)


def model() -> None:
    run_state_machine_as_test(BrokerMachine, settings=settings(ROUND, max_examples=50, stateful_step_count=60))


def run(seconds: float) -> None:
    """Hold all properties in turns, each time with another seed, until the time is over."""
    rounds: tuple[Callable[[], None], ...] = (stream, mutated, anything, properties, headers, talk, bodies, model)
    end, number = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        which, number = rounds[number % len(rounds)], number + 1
        start = secrets.randbits(32)
        print(f"{which.__name__} with seed {start}", flush=True)
        if which is model:
            which()
        else:
            seed(start)(which)()
    print(f"{number} rounds, and nothing found")
