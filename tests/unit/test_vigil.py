"""The time of a call, against a model that only knows what was promised."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from amqproxy.vigil import MISSED_HEARTBEATS, Vigil

examples = settings(
    max_examples=300, deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.too_slow]
)


def vigil(**changes: Any) -> Vigil:
    given: dict[str, Any] = {"limit": None, "timeout": 30.0, "heartbeat": None, "step": 1.0}
    return Vigil(0.0, **(given | changes))


def test_a_call_that_waits_in_a_queue_is_not_lost_however_often_signs_of_life_were_asked_for() -> None:
    waits = vigil(heartbeat=0.1)
    now = 0.0
    while now < 29.9:
        assert waits.look(now) == "waiting"
        assert now < waits.look_at <= now + 0.3 + 1e-9
        now = waits.look_at
    assert waits.look(30.0) == "expired"


def test_a_worker_is_lost_three_intervals_behind_its_last_sign_and_that_is_looked_at_in_time() -> None:
    runs = vigil(heartbeat=0.1)
    runs.heard(1.0)
    runs.look_at = 1.0
    assert runs.look(1.0) == "waiting"
    assert runs.look_at == pytest.approx(1.3)
    runs.heard(1.2)
    assert runs.look(1.3) == "waiting"
    assert runs.look_at == pytest.approx(1.5)
    assert runs.look(1.5001) == "lost"
    assert runs.silent(1.5) == pytest.approx(0.3, abs=0.001)


def test_without_signs_of_life_the_timeout_bounds_each_silence() -> None:
    runs = vigil(timeout=2.0)
    assert runs.look(0.0) == "waiting"
    runs.heard(1.0)
    for now, verdict in [(1.0, "waiting"), (2.0, "waiting"), (3.0, "lost")]:
        assert runs.look(now) == verdict


def test_a_timeout_that_is_shorter_than_three_intervals_comes_first() -> None:
    runs = vigil(timeout=2.0, heartbeat=10.0)
    runs.heard(0.0)
    assert runs.look(0.0) == "waiting"
    assert runs.look(1.0) == "waiting"
    assert runs.look(2.0) == "lost"


def test_the_limit_ends_a_call_that_is_well() -> None:
    runs = vigil(limit=5.0, heartbeat=1.0)
    for now in (0.0, 1.0, 2.0, 3.0, 4.0):
        runs.heard(now)
        assert runs.look(now) == "waiting"
    assert runs.look_at == 5.0
    runs.heard(5.0)
    assert runs.look(5.0) == "expired"


def test_a_worker_is_given_another_interval_by_who_was_held_up_and_could_not_listen() -> None:
    runs = vigil(heartbeat=0.1)
    runs.heard(0.0)
    assert runs.look(0.0) == "waiting"
    assert runs.look(60.0) == "waiting"  # a minute in which the event loop ran something else
    assert runs.look_at == pytest.approx(60.1)
    assert runs.look(60.15) == "lost"


def test_nothing_is_given_to_a_call_that_was_not_begun_or_gives_no_signs_of_life() -> None:
    queued, silent = vigil(heartbeat=0.1), vigil()
    silent.heard(0.0)
    assert (queued.look(0.0), silent.look(0.0)) == ("waiting", "waiting")
    assert (queued.look(60.0), silent.look(60.0)) == ("expired", "lost")


@examples
@given(
    limit=st.none() | st.floats(0.1, 50),
    timeout=st.floats(0.5, 20),
    heartbeat=st.none() | st.floats(0.05, 5),
    step=st.floats(0.1, 2),
    gaps=st.lists(st.floats(0.01, 20), max_size=12),
)
def test_looking_when_told_to_finds_what_is_due_and_nothing_else(
    limit: float | None, timeout: float, heartbeat: float | None, step: float, gaps: list[float]
) -> None:
    looked = vigil(limit=limit, timeout=timeout, heartbeat=heartbeat, step=step)
    signs, at = [], 0.0
    for gap in gaps:
        at += gap
        signs.append(at)
    heard_at, heard, now, verdict = 0.0, False, 0.0, looked.look(0.0)
    while verdict == "waiting":
        assert now < looked.look_at <= now + step + 1e-9
        now = looked.look_at
        while signs and signs[0] <= now:
            heard_at, heard = signs.pop(0), True
            looked.heard(heard_at)
        verdict = looked.look(now)
    patience = timeout if heartbeat is None or not heard else min(timeout, MISSED_HEARTBEATS * heartbeat)
    if verdict == "lost":
        assert heard
        assert now - heard_at == pytest.approx(patience, abs=1e-6)
    elif limit is not None and now >= limit:
        assert now == pytest.approx(limit)
    else:
        assert not heard
        assert now == pytest.approx(timeout, abs=1e-6)
