"""Items of a stream that go to another thread together: what lies there counts like what was not taken yet."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from amqproxy.stream import Inlet


class Numbers:
    """The end of a stream of which no message must be unpacked."""

    def __init__(self, window: int) -> None:
        self.granted = window
        self.came = 0
        unused: Any = None
        self.inlet = Inlet(unused, window, unused, self.grant)

    def grant(self, items: int) -> None:
        self.granted += items

    def come(self) -> None:
        """All come that may."""
        new = self.granted - self.came
        self.inlet.flow.received(self.came, new)
        self.inlet.ready.extend(range(self.came, self.came + new))
        self.came += new

    def lot(self) -> list[int]:
        self.inlet.settle()
        return [self.inlet.pop(), *self.inlet.lend()]


@given(window=st.integers(1, 300), lots=st.lists(st.booleans(), max_size=50))
def test_what_is_lent_is_granted_again_when_more_is_asked_for(window: int, lots: list[bool]) -> None:
    numbers = Numbers(window)
    taken: list[int] = []
    for together in lots:
        numbers.come()
        ahead = len(taken)
        taken += numbers.lot() if together else [numbers.inlet.pop()]
        assert len(taken) - ahead <= max(1, window // 2)
        assert numbers.granted <= ahead + 1 + window
    assert taken == list(range(len(taken)))


def test_a_window_of_one_lends_nothing() -> None:
    numbers = Numbers(1)
    for number in range(5):
        numbers.come()
        assert numbers.lot() == [number]
