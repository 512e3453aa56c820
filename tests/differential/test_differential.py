"""The embedded broker and RabbitMQ are told the same things, and must say the same."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from tests.conftest import Broker, missing
from tests.differential.campaign import Operations, disagreement
from tests.differential.differences import DIFFERENCES, REFERENCE, comparable
from tests.differential.judge import Judge, RabbitMQJudge, embedded
from tests.differential.machine import sequences
from tests.differential.scenarios import SCENARIOS, USERS, VHOSTS, Scenario
from tests.differential.transcript import VHOSTS as ASIDE
from tests.differential.transcript import Transcript, difference, run, run_beside

SEQUENCES = 40

Ask = Callable[[Judge, Scenario], Transcript]


@pytest.fixture(scope="module")
def reference(broker: Broker) -> Judge:
    if broker.node is None:
        missing(f"needs a private RabbitMQ node, and this is {broker.name}")
    judge = RabbitMQJudge(broker.node)
    judge.prepare(USERS, (*VHOSTS, *ASIDE))
    return judge


@pytest.fixture(scope="module")
def ours() -> Iterator[Judge]:
    # It warns of each connection that it closes for an error, and here that is most of them.
    log = logging.getLogger("amqproxy.broker")
    level = log.level
    log.setLevel(logging.CRITICAL)
    with embedded() as judge:
        judge.prepare(USERS, (*VHOSTS, *ASIDE))
        yield judge
    log.setLevel(level)


@pytest.fixture(scope="module")
def ask(request: pytest.FixtureRequest) -> Ask:
    """Runs a scenario; when it is the first of those that take long, all of them that were chosen."""
    chosen = {getattr(getattr(item, "callspec", None), "id", "") for item in request.session.items}
    long = [scenario for scenario in SCENARIOS if scenario.beside and scenario.name in chosen]
    answers: dict[str, dict[str, Transcript]] = {}

    def ask(judge: Judge, scenario: Scenario) -> Transcript:
        if not scenario.beside:
            return run(judge, scenario.operations)
        if judge.name not in answers:
            answers[judge.name] = run_beside(judge, long)
        return answers[judge.name][scenario.name]

    return ask


@pytest.mark.parametrize("scenario", SCENARIOS, ids=str)
def test_scenario_is_answered_as_rabbitmq_answers_it(
    scenario: Scenario, reference: Judge, ours: Judge, ask: Ask
) -> None:
    expected, actual = comparable(ask(reference, scenario)), comparable(ask(ours, scenario))
    reason = DIFFERENCES.get(scenario.name)
    if reason is None:
        assert expected == actual, f"\n{difference(expected, actual)}"
    elif reference.name.startswith(REFERENCE):
        assert expected != actual, f"no longer differs, though it is listed: {reason}"


def test_random_sequences_are_answered_as_rabbitmq_answers_them(reference: Judge, ours: Judge) -> None:
    @settings(
        max_examples=SEQUENCES,
        deadline=None,
        derandomize=True,
        phases=[Phase.generate],  # what differs is made shorter by the command, which has the time
        suppress_health_check=list(HealthCheck),
    )
    @given(sequences)
    def answered_alike(operations: Operations) -> None:
        found = disagreement(reference, ours, operations)
        assert found is None or not found[1], f"\n{found[0]}"

    answered_alike()
