"""How a worker is told what to remember."""

from __future__ import annotations

from typing import Any

import pytest

from amqproxy.deduplication import Deduplication, Store, fingerprint


class InMemory:
    async def claim(self, key: str, owner: str, seconds: float) -> bytes | bool:
        return True

    async def keep(self, key: str, owner: str, reply: bytes, seconds: float) -> None: ...

    async def release(self, key: str, owner: str) -> None: ...


def test_a_number_is_a_number_of_calls() -> None:
    assert Deduplication.of(5) == Deduplication(entries=5)
    assert Deduplication.of(given := Deduplication(seconds=1)) is given


def test_whatever_has_the_methods_is_a_store() -> None:
    store: Store = InMemory()
    assert Deduplication(store=store).store is store


@pytest.mark.parametrize("wrong", [object(), InMemory, "redis://localhost"])
def test_what_has_not_is_none(wrong: Any) -> None:
    with pytest.raises(TypeError, match=r"store has the methods of amqproxy\.Store"):
        Deduplication(store=wrong)


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        ({"entries": 0}, ValueError),
        ({"entries": True}, TypeError),
        ({"seconds": 0}, ValueError),
        ({"max_bytes": 0.5}, TypeError),
        ({"lease": -1}, ValueError),
    ],
)
def test_what_makes_no_sense_is_refused_by_name(wrong: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error, match=f"^{next(iter(wrong))} is"):
        Deduplication(**wrong)


@pytest.mark.parametrize(("wrong", "error"), [(0, ValueError), (True, TypeError), ("all", TypeError)])
def test_an_option_that_means_nothing_is_refused(wrong: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match=r"^(deduplicate|entries) is"):
        Deduplication.of(wrong)


def test_bodies_have_fingerprints() -> None:
    assert fingerprint(b"[1,2]") == fingerprint(b"[1,2]") != fingerprint(b"[1,3]")
    assert len(fingerprint(bytes(100_000))) == 16
