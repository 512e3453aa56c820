"""A whole broker at random, against a model; `python -m tests.fuzz` does the same for longer."""

from __future__ import annotations

from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test

from tests.unit.broker.model import BrokerMachine


def test_a_broker_does_what_the_plainest_model_would_do() -> None:
    run_state_machine_as_test(
        BrokerMachine,
        settings=settings(max_examples=30, stateful_step_count=40, deadline=None, derandomize=True, database=None),
    )
