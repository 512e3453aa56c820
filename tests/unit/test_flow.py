"""Both ends of a stream: demand is never exceeded, nothing is out of order, and there is exactly one end."""

from __future__ import annotations

from collections import deque

import pytest
from hypothesis import given
from hypothesis import strategies as st

from amqproxy.flow import MAX_CREDIT, FlowError, Inflow, Outflow

# The sending end


def test_items_are_numbered_from_zero_and_use_up_the_credit() -> None:
    flow = Outflow(5)
    assert (flow.sent(2), flow.sent(1), flow.sent(0)) == (0, 2, 3)
    assert (flow.next, flow.credit) == (3, 2)
    flow.granted(4)
    assert flow.credit == 6


def test_more_than_the_credit_cannot_be_sent() -> None:
    flow = Outflow(1)
    with pytest.raises(AssertionError, match="2 items for a credit of 1"):
        flow.sent(2)
    flow.end()
    with pytest.raises(AssertionError, match="1 items for a credit of 0"):
        flow.sent(1)


@pytest.mark.parametrize("credit", [-1, MAX_CREDIT + 1])
def test_a_credit_that_is_no_number_of_items_is_refused(credit: int) -> None:
    with pytest.raises(FlowError, match="a credit is from 0 to"):
        Outflow(credit)
    flow = Outflow(0)
    with pytest.raises(FlowError, match="a credit is from 0 to"):
        flow.granted(credit)
    assert flow.credit == 0


def test_credits_do_not_add_up_beyond_the_limit() -> None:
    flow = Outflow(MAX_CREDIT)
    with pytest.raises(FlowError):
        flow.granted(1)
    flow.sent(1)
    flow.granted(1)
    assert flow.credit == MAX_CREDIT


def test_a_stream_ends_once_and_takes_no_credit_afterwards() -> None:
    flow = Outflow(1)
    assert flow.end()
    assert not flow.end()
    flow.granted(5)
    assert flow.credit == 1


# The receiving end


@pytest.mark.parametrize("window", [0, -1, MAX_CREDIT + 1])
def test_a_window_is_a_number_of_items(window: int) -> None:
    with pytest.raises(ValueError, match="a window is from 1 to"):
        Inflow(window)


def test_half_of_the_window_is_granted_at_once() -> None:
    flow = Inflow(10)
    flow.received(0, 10)
    assert [flow.taken(1) for _ in range(10)] == [0, 0, 0, 0, 5, 0, 0, 0, 0, 5]


def test_with_a_window_of_one_each_item_is_granted() -> None:
    flow = Inflow(1)
    for number in range(3):
        assert flow.received(number, 1) == 0
        assert flow.taken(1) == 1


def test_items_that_come_again_are_dropped_and_counted() -> None:
    flow = Inflow(10)
    assert flow.received(0, 3) == 0
    assert flow.received(0, 3) == 3
    assert flow.received(1, 4) == 2
    assert (flow.next, flow.repeated) == (5, 5)


def test_an_item_that_is_missing_is_told() -> None:
    flow = Inflow(10)
    flow.received(0, 2)
    with pytest.raises(FlowError, match="item 3 came where 2 was due"):
        flow.received(3, 1)
    with pytest.raises(FlowError, match="the end came at item 5 where 2 was due"):
        flow.end(5)
    assert flow.open


def test_more_than_was_granted_is_refused() -> None:
    flow = Inflow(2)
    with pytest.raises(FlowError, match="item 2 came, and credit was given for 2"):
        flow.received(0, 3)
    assert flow.next == 0


@pytest.mark.parametrize(("first", "items"), [(-1, 1), (0, -1)])
def test_numbers_below_zero_are_refused(first: int, items: int) -> None:
    with pytest.raises(FlowError, match="counted from 0"):
        Inflow(2).received(first, items)


def test_what_comes_after_the_end_is_dropped_and_nothing_more_is_granted() -> None:
    flow = Inflow(2)
    flow.received(0, 2)
    assert flow.end(2)
    assert not flow.end(2)
    assert not flow.end()
    assert flow.received(2, 1) == 1
    assert flow.taken(2) == 0


def test_the_end_may_come_without_a_number() -> None:
    assert Inflow(1).end()


# Both together: whatever the speeds, and although messages come late or twice


@given(
    window=st.integers(1, 20),
    total=st.integers(0, 60),
    steps=st.lists(st.sampled_from(["produce", "carry", "carry back", "again", "take"]), max_size=400),
    batch=st.integers(1, 8),
)
def test_no_more_than_the_window_is_ever_between_the_ends(
    window: int, total: int, steps: list[str], batch: int
) -> None:
    out, back = Outflow(window), Inflow(window)
    on_the_way: deque[tuple[int, int, bool]] = deque()
    grants: deque[int] = deque()
    arrived: list[int] = []
    taken = 0
    last: tuple[int, int, bool] | None = None

    def produce() -> None:
        if out.open and out.next == total:
            out.end()
            on_the_way.append((total, 0, True))
        elif out.open and (items := min(batch, out.credit, total - out.next)):
            on_the_way.append((out.sent(items), items, False))

    def arrive(message: tuple[int, int, bool]) -> None:
        first, items, end = message
        if end:
            back.end(first)
        else:
            arrived.extend(range(first + back.received(first, items), first + items))

    def take() -> None:
        nonlocal taken
        if taken < len(arrived):
            taken += 1
            if grant := back.taken(1):
                grants.append(grant)

    for step in [*steps, *["produce", "carry", "take", "carry back"] * (total + 2)]:
        match step:
            case "produce":
                produce()
            case "carry" if on_the_way:
                last = on_the_way.popleft()
                arrive(last)
            case "again" if last is not None:
                arrive(last)
            case "carry back" if grants:
                out.granted(grants.popleft())
            case "take":
                take()
        assert out.next - taken <= window
        assert out.credit + (out.next - taken) + sum(grants) <= window
        assert arrived == list(range(len(arrived)))
    assert arrived == list(range(total))
    assert not out.open
    assert not back.open


def test_the_errors_are_value_errors() -> None:
    assert issubclass(FlowError, ValueError)
