"""When a service is not asked any more, and when again: the machine alone."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from amqproxy.circuit import Circuit


def opened(failures: int = 3, seconds: float = 10.0) -> Circuit:
    circuit = Circuit(failures, seconds)
    for _ in range(failures):
        assert circuit.admits(0.0)
        circuit.failed(0.0)
    return circuit


def test_it_opens_after_so_many_failures_in_a_row() -> None:
    circuit = Circuit(3, 10.0)
    for outcome in "ffsff":
        assert circuit.admits(0.0)
        circuit.failed(0.0) if outcome == "f" else circuit.succeeded()
    assert (circuit.state(0.0), circuit.failures, circuit.left(0.0)) == ("closed", 2, 0.0)
    assert circuit.failed(0.0)
    assert not circuit.failed(1.0)  # which was out already
    assert (circuit.state(0.0), circuit.failures, circuit.left(4.0)) == ("open", 4, 6.0)
    assert not circuit.admits(9.9)


def test_one_call_is_let_through_when_the_time_is_over() -> None:
    circuit = opened()
    assert circuit.state(10.0) == "half open"
    assert circuit.admits(10.0)
    assert not circuit.admits(10.0)
    circuit.succeeded()
    assert circuit.state(10.0) == "closed"
    assert circuit.admits(10.0)
    assert circuit.admits(10.0)


def test_if_that_fails_the_time_begins_anew() -> None:
    circuit = opened()
    assert circuit.admits(10.0)
    circuit.failed(11.0)
    assert circuit.state(20.9) == "open"
    assert circuit.admits(21.0)


def test_if_that_is_given_up_the_next_one_decides() -> None:
    circuit = opened()
    assert circuit.admits(10.0)
    circuit.given_up()
    assert circuit.admits(10.0)


def test_if_that_stays_out_another_one_may_decide() -> None:
    """A stream that has no item yet, say."""
    circuit = opened()
    assert circuit.admits(12.0)
    assert not circuit.admits(21.9)
    assert circuit.admits(22.0)
    assert not circuit.admits(22.0)
    circuit.succeeded()
    assert circuit.state(22.0) == "closed"


def test_calls_that_were_out_already_do_not_lengthen_the_break() -> None:
    circuit = opened()
    circuit.failed(9.0)
    assert circuit.failures == 4
    assert circuit.admits(10.0)


@given(st.lists(st.tuples(st.sampled_from(["succeeded", "failed", "given_up"]), st.floats(0, 5)), max_size=50))
def test_never_more_than_the_limit_in_a_row_without_a_break(steps: list[tuple[str, float]]) -> None:
    circuit, now, row, last = Circuit(3, 4.0), 0.0, 0, 0.0
    for outcome, pause in steps:
        now += pause
        if not circuit.admits(now):
            assert row >= 3
            assert now < last + 4.0
            continue
        assert row < 3 or now >= last + 4.0
        if outcome == "failed":
            circuit.failed(now)
            row, last = row + 1, now
        elif outcome == "succeeded":
            circuit.succeeded()
            row = 0
        else:
            circuit.given_up()
