"""How long is waited before the next try: a little at first, more and more, and never by all at the same moment."""

from __future__ import annotations

import pytest

from amqproxy.backoff import FIRST_SECONDS, LONGEST_SECONDS, STABLE_SECONDS, Spell, jitter, persist


@pytest.mark.parametrize("doublings", [0, 1, 5, 6, 10_000])
def test_waits_are_spread_over_a_time_that_doubles_up_to_a_limit(doublings: int) -> None:
    most = min(LONGEST_SECONDS, FIRST_SECONDS * 2 ** min(doublings, 20))
    waits = [jitter(doublings) for _ in range(500)]
    assert all(0 <= wait <= most for wait in waits)
    assert min(waits) < most * 0.1
    assert max(waits) > most * 0.9


def test_what_lasted_is_made_again_at_once() -> None:
    spell = Spell()
    assert spell.pause == 0
    for _ in range(20):
        spell.lasted(STABLE_SECONDS)
        assert (spell.short, spell.pause) == (0, 0)


def test_what_does_not_last_is_made_again_at_once_only_the_first_time() -> None:
    spell = Spell()
    spell.lasted(0.1)
    assert spell.pause == 0
    for _ in range(20):
        spell.lasted(0.1)
    assert max(spell.pause for _ in range(500)) > LONGEST_SECONDS * 0.9
    spell.lasted(STABLE_SECONDS)
    assert spell.pause == 0


async def test_an_operation_is_tried_until_it_succeeds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("amqproxy.backoff.FIRST_SECONDS", 0.001)
    failures: list[tuple[str, int, bool]] = []
    tries = 0

    async def operation() -> str:
        nonlocal tries
        tries += 1
        if tries < 4:
            raise ConnectionError(f"try {tries}")
        return "done"

    def failed(error: BaseException, attempt: int, pause: float) -> None:
        failures.append((str(error), attempt, 0 <= pause <= 0.01))

    assert await persist(operation, lambda error: True, failed) == "done"
    assert failures == [("try 1", 1, True), ("try 2", 2, True), ("try 3", 3, True)]


async def drawn_pauses(tries: int) -> list[float]:
    """The pauses behind so many tries that fail."""
    pauses: list[float] = []

    async def operation() -> None:
        raise ConnectionError("no")

    with pytest.raises(ConnectionError):
        await persist(operation, lambda error: len(pauses) < tries, lambda error, attempt, pause: pauses.append(pause))
    return pauses


async def test_the_waits_between_tries_are_drawn_by_lot(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("amqproxy.backoff.FIRST_SECONDS", 0.0001)
    runs = [await drawn_pauses(5) for _ in range(30)]
    for doublings, drawn in enumerate(zip(*runs, strict=True)):
        most = 0.0001 * 2**doublings
        assert len(set(drawn)) > 20
        assert all(0 <= pause <= most for pause in drawn)
        assert min(drawn) < most / 2 < max(drawn)


async def test_what_waiting_does_not_mend_is_raised_at_once() -> None:
    async def operation() -> None:
        raise PermissionError("no")

    def failed(error: BaseException, attempt: int, pause: float) -> None:
        pytest.fail("there is no next try")

    with pytest.raises(PermissionError, match="no"):
        await persist(operation, lambda error: not isinstance(error, PermissionError), failed)
