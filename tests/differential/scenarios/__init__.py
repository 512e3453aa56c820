"""The fixed scenarios: at least one for each clause of what is expected of the broker."""

from __future__ import annotations

from tests.differential.scenarios import (
    acknowledging,
    connections,
    consumers,
    dead_letters,
    exchanges,
    frames,
    limits,
    precedence,
    publishing,
    queues,
    quorum,
    routing,
)
from tests.differential.scenarios.scenario import Scenario

MODULES = (
    exchanges,
    routing,
    queues,
    consumers,
    acknowledging,
    limits,
    precedence,
    dead_letters,
    publishing,
    quorum,
    connections,
    frames,
)
SCENARIOS: tuple[Scenario, ...] = tuple(scenario for module in MODULES for scenario in module.SCENARIOS)
USERS = connections.USERS
VHOSTS = connections.VHOSTS

__all__ = ["SCENARIOS", "USERS", "VHOSTS", "Scenario"]
