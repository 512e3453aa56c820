"""Consumers: turns go round, the urgent go first, who cannot take loses its turn, and one alone may be active."""

from __future__ import annotations

from collections import Counter
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from pamqp import commands

from amqproxy.broker.consumers import Consumer, Consumers
from amqproxy.broker.message import Entry, Message
from amqproxy.broker.tables import Table, long_integer
from tests.unit.broker.wire import Client, broker

examples = settings(max_examples=60, deadline=None, derandomize=True, database=None)


class Desk:
    """Consumers of one queue on real channels, served by hand."""

    def __init__(self, *, single_active: bool = False) -> None:
        self.client = Client(broker())
        self.client.channel().declare("q")
        self.channel = self.client.session.channels[1]
        self.queue = self.client.session.vhost.queues["q"]
        self.consumers = Consumers(single_active=single_active)
        self.sequence = 0

    def add(self, tag: str, *, priority: int = 0, prefetch: int = 0, no_ack: bool = False) -> Consumer:
        arguments = Table({"x-priority": long_integer(priority)} if priority else {})
        one = Consumer(self.channel, self.queue, tag, no_ack=no_ack, prefetch=prefetch, arguments=arguments)
        self.consumers.add(one)
        return one

    def serve(self) -> str | None:
        """Give one message to whose turn it is; return whose it was."""
        one = self.consumers.next()
        if one is None:
            return None
        self.sequence += 1
        one.deliver(Entry(Message(b"\0\1q", b"\0" * 14, b""), self.sequence, None))
        return one.tag

    def turns(self, count: int) -> str:
        return "".join(self.serve() or "-" for _ in range(count))

    def done(self, one: Consumer) -> None:
        """Take one delivery back from a consumer, as an acknowledgement does."""
        one.unacked -= 1
        self.channel.consumed_unacked -= 1
        if one.parked and one.can_take():
            self.consumers.unpark(one)


def test_nobody_is_served_where_nobody_waits() -> None:
    desk = Desk()
    assert (desk.serve(), len(desk.consumers)) == (None, 0)


def test_turns_go_round() -> None:
    desk = Desk()
    for tag in "abc":
        desk.add(tag)
    assert desk.turns(7) == "abcabca"
    assert len(desk.consumers) == 3


@examples
@given(st.integers(1, 8), st.integers(0, 50))
def test_no_consumer_is_ever_more_than_one_message_ahead(consumers: int, messages: int) -> None:
    desk = Desk()
    for number in range(consumers):
        desk.add(str(number), no_ack=number % 2 == 0)
    served = Counter(desk.serve() for _ in range(messages))
    counts = [served[str(number)] for number in range(consumers)]
    assert max(counts) - min(counts) <= 1


def test_one_that_comes_late_is_last_in_line() -> None:
    desk = Desk()
    desk.add("a")
    desk.add("b")
    assert desk.turns(1) == "a"
    desk.add("c")
    assert desk.turns(3) == "bac"


def test_one_that_leaves_is_not_served_any_more() -> None:
    desk = Desk()
    a, b = desk.add("a"), desk.add("b")
    desk.consumers.remove(a)
    assert desk.turns(2) == "bb"
    desk.consumers.remove(b)
    assert (desk.serve(), len(desk.consumers)) == (None, 0)


# Who can take a message.


def test_one_whose_prefetch_is_used_up_loses_its_turn_until_it_has_room() -> None:
    desk = Desk()
    a = desk.add("a", prefetch=1)
    desk.add("b")
    assert desk.turns(4) == "abbb"
    assert a.parked
    desk.done(a)
    assert not a.parked
    assert desk.turns(3) == "bab"


def test_without_acknowledgements_there_is_no_prefetch() -> None:
    desk = Desk()
    a = desk.add("a", prefetch=1, no_ack=True)
    desk.channel.prefetch_shared = 1
    assert desk.turns(3) == "aaa"
    assert (a.unacked, desk.channel.consumed_unacked) == (0, 0)


def test_the_shared_prefetch_counts_what_all_have() -> None:
    desk = Desk()
    desk.channel.prefetch_shared = 3
    a, b = desk.add("a"), desk.add("b", prefetch=1)
    assert desk.turns(4) == "aba-"
    assert a.parked
    assert b.parked
    assert a.parked < b.parked or b.parked < a.parked


def test_nobody_is_served_while_the_socket_is_full() -> None:
    desk = Desk()
    a, b = desk.add("a", no_ack=True), desk.add("b")
    desk.client.session.writable = False
    assert desk.turns(2) == "--"
    desk.client.session.writable = True
    assert desk.turns(1) == "-"  # those that lost their turns are told of it, and ask for new ones
    for one in (a, b):
        desk.consumers.unpark(one)
    assert desk.turns(2) == "ab"


def test_who_was_parked_and_leaves_comes_not_back() -> None:
    desk = Desk()
    a = desk.add("a", prefetch=1, priority=7)
    assert desk.turns(2) == "a-"
    desk.consumers.remove(a)
    assert not a.parked
    assert desk.serve() is None
    assert turns(desk.consumers) == {}


def turns(consumers: Consumers) -> dict[int, Any]:
    return dict(consumers._turns)  # whether places pile up shows nowhere else


def test_one_that_was_never_in_line_may_leave() -> None:
    desk = Desk(single_active=True)
    desk.add("a", prefetch=1)
    b = desk.add("b", priority=9)
    desk.consumers.remove(b)
    assert desk.turns(1) == "a"
    assert list(turns(desk.consumers)) == [0]


# Priorities.


def test_the_urgent_are_served_as_long_as_they_can_take() -> None:
    desk = Desk()
    desk.add("a")
    b = desk.add("b", priority=5, prefetch=2)
    desk.add("c", priority=-3)
    assert desk.turns(4) == "bbaa"
    desk.done(b)
    assert desk.turns(2) == "ba"


def test_among_equally_urgent_ones_turns_go_round() -> None:
    desk = Desk()
    desk.add("x", priority=-1)
    for tag in "ab":
        desk.add(tag, priority=2**40)
    assert desk.turns(4) == "abab"


@examples
@given(
    st.lists(st.tuples(st.integers(-2, 2), st.integers(0, 3)), min_size=1, max_size=6),
    st.lists(st.tuples(st.booleans(), st.integers(0, 5)), max_size=30),
)
def test_whoever_is_served_is_of_the_highest_priority_that_can_take(
    given: list[tuple[int, int]], steps: list[tuple[bool, int]]
) -> None:
    desk = Desk()
    all_of_them = [
        desk.add(str(at), priority=priority, prefetch=prefetch) for at, (priority, prefetch) in enumerate(given)
    ]
    for serve, at in steps:
        if serve:
            able = [one for one in all_of_them if one.can_take()]
            tag = desk.serve()
            if tag is None:
                assert not able
            else:
                one = all_of_them[int(tag)]
                assert one in able
                assert one.priority == max(other.priority for other in able)
        else:
            one = all_of_them[at % len(all_of_them)]
            if one.unacked:
                desk.done(one)


# A single active consumer.


def test_only_the_first_is_active() -> None:
    desk = Desk(single_active=True)
    a = desk.add("a")
    desk.add("b")
    assert desk.turns(3) == "aaa"
    assert desk.consumers.active is a
    assert len(desk.consumers) == 2


def test_when_the_active_one_leaves_the_next_is_active() -> None:
    desk = Desk(single_active=True)
    a, b, c = desk.add("a"), desk.add("b"), desk.add("c")
    desk.consumers.remove(b)
    assert desk.turns(1) == "a"
    desk.consumers.remove(a)
    assert desk.turns(2) == "cc"
    desk.consumers.remove(c)
    assert (desk.serve(), desk.consumers.active) == (None, None)
    desk.add("d")
    assert desk.turns(1) == "d"


def test_nobody_is_active_instead_of_one_whose_prefetch_is_used_up() -> None:
    desk = Desk(single_active=True)
    a = desk.add("a", prefetch=1)
    desk.add("b")
    assert desk.turns(3) == "a--"
    desk.done(a)
    assert desk.turns(1) == "a"


def test_the_most_urgent_is_the_next_to_be_active() -> None:
    desk = Desk(single_active=True)
    a = desk.add("a", prefetch=1)
    desk.add("b", priority=1)
    desk.add("c", priority=2)
    assert desk.turns(2) == "a-"
    desk.consumers.remove(a)
    assert desk.turns(2) == "cc"


# What a consumer is.


def test_a_delivery_to_a_consumer_names_it() -> None:
    desk = Desk()
    desk.client.take()
    one = desk.add("té")
    desk.serve()
    desk.client.session.flush()
    ((number, delivered),) = desk.client.take()
    assert number == 1
    method = getattr(delivered, "method", None)
    assert isinstance(method, commands.Basic.Deliver)
    assert (method.consumer_tag, method.delivery_tag, method.routing_key) == ("té", 1, "q")
    assert one.unacked == 1
