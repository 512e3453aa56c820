"""States of a connection: what is told, to whom, and until when."""

from __future__ import annotations

import logging

import pytest

from amqproxy.states import State, States


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def states(clock: Clock) -> States:
    return States(clock)


def test_a_connection_begins_as_new(states: States) -> None:
    assert states.current == State("new", 100.0, None, 0, None)


def test_a_change_has_its_moment_and_no_more_of_the_one_before(states: States, clock: Clock) -> None:
    states.change("reconnecting", host="one:1", attempt=3, reason="gone")
    clock.now = 107.0
    states.change("open", host="two:2")
    assert states.current == State("open", 107.0, "two:2", 0, None)


def test_another_attempt_is_no_new_beginning(states: States, clock: Clock) -> None:
    states.change("reconnecting", attempt=1)
    clock.now = 107.0
    states.change("reconnecting", attempt=2)
    assert states.current == State("reconnecting", 100.0, None, 2, None)


def test_watchers_are_told_of_each_change_until_they_leave(states: States) -> None:
    first: list[str] = []
    second: list[str] = []
    remove = states.watch(lambda state: first.append(state.name))
    states.watch(lambda state: second.append(state.name))
    states.change("connecting")
    remove()
    remove()
    states.change("open")
    assert (first, second) == (["connecting"], ["connecting", "open"])


def test_who_watches_twice_is_told_twice_and_leaves_once(states: States) -> None:
    told: list[State] = []
    remove = states.watch(told.append)
    states.watch(told.append)
    states.change("connecting")
    remove()
    states.change("open")
    assert [state.name for state in told] == ["connecting", "connecting", "open"]


def test_a_watcher_may_leave_while_it_is_told(states: States) -> None:
    told: list[str] = []

    def once(state: State) -> None:
        told.append(state.name)
        remove()

    remove = states.watch(once)
    states.watch(lambda state: told.append("other"))
    states.change("connecting")
    states.change("open")
    assert told == ["connecting", "other", "other"]


def test_what_a_watcher_raises_is_logged_and_stops_nobody(states: States, caplog: pytest.LogCaptureFixture) -> None:
    told: list[State] = []

    def fail(state: State) -> None:
        raise ValueError("a flaw of the user's")

    states.watch(fail)
    states.watch(told.append)
    with caplog.at_level(logging.ERROR, "amqproxy.connection"):
        states.change("open", host="h:1")
    assert told == [states.current]
    assert "a callback of on_state failed when the connection was open h:1" in caplog.text
    assert "a flaw of the user's" in caplog.text


def test_what_is_closed_stays_closed(states: States) -> None:
    told: list[State] = []
    states.change("closed", reason="user 'ann' was refused")
    states.watch(told.append)
    states.change("open")
    states.change("closed", reason="the connection was closed")
    assert states.current.reason == "user 'ann' was refused"
    assert told == []


def test_in_a_process_that_was_forked_it_ends_and_nobody_is_told(states: States) -> None:
    told: list[State] = []
    states.watch(told.append)
    states.end("forked")
    assert (states.current.name, states.current.reason, told) == ("closed", "forked", [])


@pytest.mark.parametrize(
    ("state", "text"),
    [
        (State("new", 0), "new"),
        (State("open", 0, "h:1"), "open h:1"),
        (State("blocked", 0, "h:1", reason="low on memory"), "blocked h:1: low on memory"),
        (State("connecting", 0, "h:1", 1), "connecting h:1 after 1 attempt"),
        (State("reconnecting", 0, "h:1", 3, "refused"), "reconnecting h:1 after 3 attempts: refused"),
    ],
)
def test_people_can_read_it(state: State, text: str) -> None:
    assert str(state) == text
