"""A queue: order, time to live, limits, what comes back, its own end; and each byte of memory given back."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from amqproxy.broker.consumers import Consumer
from amqproxy.broker.limits import Memory
from amqproxy.broker.message import Entry, Message
from amqproxy.broker.queue import PUMPED_AT_ONCE, Queue, counted
from amqproxy.broker.tables import Table
from amqproxy.broker.timers import Timers
from amqproxy.fields import encode_table
from tests.unit.broker.wire import Client, Clock, broker

examples = settings(max_examples=60, deadline=None, derandomize=True, database=None)
stateful = settings(max_examples=60, stateful_step_count=30, deadline=None, derandomize=True, database=None)

HEADER = struct.pack(">HHQH", 60, 0, 0, 0)


class Host:
    """An owner of queues that writes down what it is told."""

    def __init__(self) -> None:
        self.clock: Callable[[], float] = Clock()
        self.timers = Timers()
        self.memory = Memory(2**40, lambda raised: None)
        self.dead: list[tuple[bytes, str]] = []
        self.deleted: list[Queue] = []

    def dead_letter(self, queue: Queue, message: Message, reason: str) -> None:
        self.dead.append((message.body, reason))

    def bury(self) -> None:
        """Dead letters are looked at, not sent on."""

    def delete_queue(self, queue: Queue) -> int:
        count = len(queue.ready)
        queue.close()
        self.deleted.append(queue)
        return count

    def after(self, milliseconds: float) -> None:
        """Let time pass."""
        assert isinstance(self.clock, Clock)
        self.clock.now = round(self.clock.now + milliseconds / 1000, 6)
        self.timers.run(self.clock())


def table(arguments: dict[str, Any]) -> Table:
    return Table.parse(encode_table(arguments)[4:])


def queue(host: Host, *, auto_delete: bool = False, **arguments: Any) -> Queue:
    """A queue with arguments, written with _ for -."""
    named = {f"x-{name.replace('_', '-')}": value for name, value in arguments.items()}
    return Queue("q", host, auto_delete=auto_delete, arguments=table(named))


def dlx(**arguments: Any) -> dict[str, Any]:
    return {"dead_letter_exchange": "", **arguments}


def message(body: bytes = b"", *, ttl: int | None = None, priority: int = 0) -> Message:
    made = Message(b"\0\1q", HEADER, body)
    made.ttl, made.priority = ttl, priority
    return made


def publish(one: Queue, *bodies: bytes, ttl: int | None = None) -> list[bool]:
    return [one.publish(message(body, ttl=ttl)) for body in bodies]


def fetch(one: Queue) -> Entry | None:
    """Take a message as basic.get does, to be settled later."""
    entry = one.fetch()
    if entry is not None:
        one.unacked += 1
    return entry


def take(one: Queue) -> Entry:
    entry = fetch(one)
    assert entry is not None
    return entry


def waiting(one: Queue) -> list[bytes]:
    return [entry.message.body for entry in one.ready]


def consumer(one: Queue, client: Client, tag: str = "c", *, prefetch: int = 0, no_ack: bool = False) -> Consumer:
    made = Consumer(client.session.channels[1], one, tag, no_ack=no_ack, prefetch=prefetch)
    one.add_consumer(made)
    one.pump()
    return made


def client() -> Client:
    made = Client(broker())
    made.channel()
    return made


def unacked(of: Client) -> list[bytes]:
    return [entry.message.body for entry, _, _ in of.session.channels[1].unacked.values()]


# First in, first out.


def test_messages_wait_in_the_order_they_came() -> None:
    host = Host()
    one = queue(host)
    assert publish(one, b"1", b"2", b"3") == [True] * 3
    assert waiting(one) == [b"1", b"2", b"3"]
    assert one.ready_bytes == 3
    assert take(one).message.body == b"1"
    assert (len(one.ready), one.unacked, one.ready_bytes) == (2, 1, 2)
    assert repr(one) == "<queue 'q': 2 ready, 1 unacked>"


def test_an_empty_queue_has_nothing_to_fetch() -> None:
    host = Host()
    one = queue(host)
    assert one.fetch() is None
    assert one.purge() == 0
    one.pump()
    assert host.memory.used == 0


def test_what_comes_back_takes_its_old_place_and_is_marked() -> None:
    host = Host()
    one = queue(host)
    publish(one, b"1", b"2", b"3", b"4")
    first, second, third = take(one), take(one), take(one)
    one.put_back([third])
    one.put_back([first])
    assert waiting(one) == [b"1", b"3", b"4"]
    assert [entry.redelivered for entry in one.ready] == [True, True, False]
    one.settled(second)
    assert (one.unacked, one.ready_bytes) == (0, 3)


def test_messages_with_priorities_go_out_by_them() -> None:
    host = Host()
    one = queue(host, max_priority=3)
    for body, priority in ((b"a", 0), (b"b", 9), (b"c", 3), (b"d", 1)):
        one.publish(message(body, priority=priority))
    assert waiting(one) == [b"b", b"c", b"d", b"a"]


# Consumers.


def test_a_message_goes_straight_to_a_consumer_and_costs_memory_until_it_is_acknowledged() -> None:
    host, reader = Host(), client()
    one = queue(host)
    consumer(one, reader)
    publish(one, b"1")
    assert (len(one.ready), one.unacked, unacked(reader)) == (0, 1, [b"1"])
    assert host.memory.used == message(b"1").share
    reader.session.channels[1].ack(1, False)
    assert (one.unacked, host.memory.used) == (0, 0)


def test_a_message_for_a_consumer_without_acknowledgements_costs_nothing() -> None:
    host, reader = Host(), client()
    one = queue(host)
    publish(one, b"1")
    consumer(one, reader, no_ack=True)
    publish(one, b"2")
    assert (len(one.ready), one.unacked, host.memory.used, unacked(reader)) == (0, 0, 0, [])


def test_what_waits_goes_out_before_what_comes() -> None:
    host, reader = Host(), client()
    one = queue(host)
    publish(one, b"1", b"2")
    consumer(one, reader, prefetch=1)
    publish(one, b"3")
    assert waiting(one) == [b"2", b"3"]
    reader.session.channels[1].ack(1, False)
    assert (waiting(one), unacked(reader)) == ([b"3"], [b"2"])


def test_when_a_consumer_goes_others_get_what_it_would_have_got() -> None:
    host, reader = Host(), client()
    one = queue(host, single_active_consumer=True)
    first = consumer(one, reader, "first", prefetch=1)
    consumer(one, reader, "second")
    publish(one, b"1", b"2")
    assert unacked(reader) == [b"1"]
    one.remove_consumer(first)
    assert unacked(reader) == [b"1", b"2"]
    one.remove_consumer(first)
    assert len(one.consumers) == 1


def test_who_has_much_to_give_lets_others_have_their_turn_in_between() -> None:
    host, reader = Host(), client()
    one = queue(host)
    publish(one, *(b"%d" % number for number in range(2 * PUMPED_AT_ONCE + 5)))
    consumer(one, reader)
    assert len(unacked(reader)) == PUMPED_AT_ONCE
    publish(one, b"last")
    one.pump()
    host.timers.run(host.clock())
    assert unacked(reader) == [b"%d" % number for number in range(2 * PUMPED_AT_ONCE + 5)] + [b"last"]
    assert host.timers.next_due is None


def test_a_queue_that_is_deleted_in_between_gives_nothing_more() -> None:
    host, reader = Host(), client()
    one = queue(host)
    publish(one, *(b"%d" % number for number in range(PUMPED_AT_ONCE + 5)))
    consumer(one, reader)
    host.delete_queue(one)
    host.timers.run(host.clock())
    assert len(unacked(reader)) == PUMPED_AT_ONCE
    assert len(one.ready) == 0


# Time to live.


def test_a_message_lives_until_its_time_is_over() -> None:
    host = Host()
    one = queue(host, **dlx(message_ttl=100))
    publish(one, b"1")
    host.after(99)
    assert waiting(one) == [b"1"]
    host.after(1)
    assert (waiting(one), host.dead, host.memory.used) == ([], [(b"1", "expired")], 0)


@pytest.mark.parametrize(("own", "of_queue", "lives"), [(50, 100, 50), (100, 50, 50), (None, 70, 70), (70, None, 70)])
def test_the_shorter_time_counts(own: int | None, of_queue: int | None, lives: int) -> None:
    host = Host()
    arguments: dict[str, Any] = {} if of_queue is None else {"message_ttl": of_queue}
    one = queue(host, **arguments)
    publish(one, b"1", ttl=own)
    host.after(lives - 1)
    assert len(one.ready) == 1
    host.after(1)
    assert len(one.ready) == 0


def test_what_has_expired_is_never_fetched_even_before_its_timer_ran() -> None:
    host = Host()
    one = queue(host, **dlx())
    publish(one, b"1", b"2", ttl=10)
    publish(one, b"3")
    publish(one, b"4", ttl=10)
    assert isinstance(host.clock, Clock)
    host.clock.now += 1
    assert take(one).message.body == b"3"
    assert host.dead == [(b"1", "expired"), (b"2", "expired"), (b"4", "expired")]
    assert one.fetch() is None


def test_what_has_expired_is_never_delivered() -> None:
    host, reader = Host(), client()
    one = queue(host)
    publish(one, b"1", b"2", ttl=10)
    assert isinstance(host.clock, Clock)
    host.clock.now += 1
    consumer(one, reader)
    assert (unacked(reader), host.memory.used) == ([], 0)
    publish(one, b"3")
    assert unacked(reader) == [b"3"]


def test_a_message_that_may_not_wait_is_delivered_at_once_or_not_at_all() -> None:
    host, reader = Host(), client()
    one = queue(host, **dlx())
    publish(one, b"1", ttl=0)
    host.after(0)
    assert host.dead == [(b"1", "expired")]
    consumer(one, reader)
    publish(one, b"2", ttl=0)
    assert unacked(reader) == [b"2"]


def test_what_is_behind_a_message_that_lives_longer_expires_when_it_is_the_head() -> None:
    host = Host()
    one = queue(host, **dlx())
    publish(one, b"1")
    publish(one, b"2", b"3", ttl=10)
    host.after(50)
    assert len(one.ready) == 3
    entry = take(one)
    assert (len(one.ready), len(host.dead)) == (0, 2)
    one.put_back([entry])
    assert waiting(one) == [b"1"]


def test_a_head_that_comes_first_by_priority_is_watched_too() -> None:
    host = Host()
    one = queue(host, max_priority=5)
    one.publish(message(b"late", ttl=100))
    one.publish(message(b"soon", ttl=10, priority=5))
    host.after(10)
    assert waiting(one) == [b"late"]
    host.after(90)
    assert waiting(one) == []


def test_what_comes_back_after_its_time_is_gone() -> None:
    host = Host()
    one = queue(host, **dlx())
    publish(one, b"1", ttl=10)
    entry = take(one)
    host.after(20)
    assert host.dead == []
    one.put_back([entry])
    host.after(0)
    assert (waiting(one), host.dead, host.memory.used) == ([], [(b"1", "expired")], 0)


def test_when_the_head_is_dropped_for_its_limit_the_next_one_expires_in_time() -> None:
    host = Host()
    one = queue(host, **dlx(max_length=1))
    publish(one, b"1")
    publish(one, b"2", ttl=10)
    host.after(10)
    assert (waiting(one), host.dead) == ([], [(b"1", "maxlen"), (b"2", "expired")])


def test_what_a_dropped_head_uncovers_dies_of_its_time_and_not_of_the_next_message() -> None:
    host = Host()
    one = queue(host, **dlx(max_length=2))
    publish(one, b"1")
    publish(one, b"2", ttl=0)
    publish(one, b"3", b"4")
    assert (waiting(one), host.dead) == ([b"3", b"4"], [(b"1", "maxlen"), (b"2", "expired")])


def test_when_the_head_is_purged_what_comes_next_expires_in_time() -> None:
    host = Host()
    one = queue(host)
    publish(one, b"1", ttl=100)
    one.purge()
    publish(one, b"2", ttl=10)
    host.after(10)
    assert waiting(one) == []


# Limits.


def test_a_queue_that_is_full_drops_its_head() -> None:
    host = Host()
    one = queue(host, **dlx(max_length=2))
    assert publish(one, b"1", b"2", b"3", b"4") == [True] * 4
    assert (waiting(one), host.dead) == ([b"3", b"4"], [(b"1", "maxlen"), (b"2", "maxlen")])
    assert host.memory.used == 2 * message(b"1").share


def test_a_queue_is_full_by_the_bytes_of_the_bodies() -> None:
    host = Host()
    one = queue(host, max_length_bytes=5)
    publish(one, b"aa", b"bb", b"cc")
    assert (waiting(one), one.ready_bytes) == ([b"bb", b"cc"], 4)
    publish(one, b"dddddd")
    assert (waiting(one), one.ready_bytes, host.memory.used) == ([], 0, 0)


def test_a_queue_for_nothing_keeps_nothing_but_delivers() -> None:
    host, reader = Host(), client()
    one = queue(host, max_length=0)
    publish(one, b"1")
    assert waiting(one) == []
    consumer(one, reader)
    publish(one, b"2")
    assert unacked(reader) == [b"2"]


@pytest.mark.parametrize(("overflow", "dead"), [("reject-publish", []), ("reject-publish-dlx", [(b"3", "maxlen")])])
def test_a_queue_that_is_full_refuses_what_comes_if_so_wished(overflow: str, dead: list[tuple[bytes, str]]) -> None:
    host = Host()
    one = queue(host, **dlx(max_length=2, overflow=overflow))
    assert publish(one, b"1", b"2", b"3") == [True, True, False]
    assert (waiting(one), host.dead) == ([b"1", b"2"], dead)
    entry = take(one)
    assert publish(one, b"4") == [True]
    one.put_back([entry])
    assert waiting(one) == [b"1", b"2", b"4"]  # what comes back was taken once, and is not refused


@pytest.mark.parametrize("overflow", ["drop-head", "reject-publish"])
def test_one_limit_of_two_is_enough(overflow: str) -> None:
    host = Host()
    one = queue(host, max_length=2, max_length_bytes=3, overflow=overflow)
    publish(one, b"aa", b"bb")
    assert len(one.ready) == 1
    two = queue(host, max_length=1, max_length_bytes=300, overflow=overflow)
    publish(two, b"aa", b"bb")
    assert len(two.ready) == 1


def test_what_comes_back_to_a_full_queue_is_dropped_first() -> None:
    host = Host()
    one = queue(host, **dlx(max_length=2))
    publish(one, b"1")
    entry = take(one)
    publish(one, b"2", b"3")
    one.put_back([entry])
    assert (waiting(one), host.dead) == ([b"2", b"3"], [(b"1", "maxlen")])


# Refused, and counted by quorum queues.


def test_what_is_refused_for_good_is_a_dead_letter_if_there_is_a_place_for_it() -> None:
    host = Host()
    one, other = queue(host, **dlx()), queue(host)
    for each in (one, other):
        publish(each, b"1")
        each.rejected(take(each))
    assert (host.dead, host.memory.used, one.unacked, other.unacked) == ([(b"1", "rejected")], 0, 0, 0)


@pytest.mark.parametrize(("limit", "deliveries"), [({"delivery_limit": 2}, 3), ({"delivery_limit": 0}, 1), ({}, 21)])
def test_a_quorum_queue_gives_a_message_out_so_often_and_not_more(limit: dict[str, int], deliveries: int) -> None:
    host = Host()
    one = queue(host, **dlx(queue_type="quorum", **limit))
    publish(one, b"1")
    for number in range(deliveries):
        entry = take(one)
        assert entry.deliveries == number
        one.put_back([entry])
    assert (len(one.ready), host.dead, host.memory.used) == (0, [(b"1", "delivery_limit")], 0)


@pytest.mark.parametrize("arguments", [{"queue_type": "quorum", "delivery_limit": -1}, {}])
def test_without_a_limit_a_message_is_given_out_for_ever(arguments: dict[str, Any]) -> None:
    host = Host()
    one = queue(host, **arguments)
    publish(one, b"1")
    for _ in range(50):
        one.put_back([take(one)])
    assert len(one.ready) == 1


def test_a_message_of_a_quorum_queue_says_how_often_it_came_back() -> None:
    entry = Entry(message(b"body"), 1, None)
    entry.deliveries = 7
    shown = counted(entry)
    assert dict(shown.headers) == {"x-delivery-count": 7}
    assert (shown.body, shown.share, shown.address) == (b"body", entry.message.share, entry.message.address)
    assert dict(entry.message.headers) == {}


# Its own life.


def test_a_purged_queue_keeps_what_is_not_acknowledged() -> None:
    host = Host()
    one = queue(host, **dlx())
    publish(one, b"1", b"2", b"3")
    entry = take(one)
    assert one.purge() == 2
    assert (one.ready_bytes, host.dead, host.memory.used) == (0, [], entry.message.share)
    one.settled(entry)
    assert host.memory.used == 0


def test_a_queue_that_is_not_used_goes() -> None:
    host = Host()
    one = queue(host, expires=100)
    publish(one, b"1")
    host.after(99)
    assert host.deleted == []
    host.after(1)
    assert (host.deleted, host.memory.used, one.deleted) == ([one], 0, True)


def test_use_puts_the_end_off() -> None:
    host = Host()
    one = queue(host, expires=100)
    for _ in range(5):
        host.after(60)
        one.touch()
    host.after(99)
    assert host.deleted == []
    host.after(1)
    assert host.deleted == [one]


def test_a_queue_with_a_consumer_is_used_and_its_leaving_is_use_too() -> None:
    host, reader = Host(), client()
    one = queue(host, expires=100)
    mine = consumer(one, reader)
    host.after(1000)
    assert host.deleted == []
    one.remove_consumer(mine)
    host.after(99)
    assert host.deleted == []
    host.after(1)
    assert host.deleted == [one]


def test_an_auto_delete_queue_goes_with_its_last_consumer_and_not_before_its_first() -> None:
    host, reader = Host(), client()
    one = queue(host, auto_delete=True)
    host.after(1e9)
    first, second = consumer(one, reader, "a"), consumer(one, reader, "b")
    one.remove_consumer(first)
    assert host.deleted == []
    one.remove_consumer(second)
    assert host.deleted == [one]


def test_a_deleted_queue_takes_nothing_back_but_its_memory() -> None:
    host = Host()
    one = queue(host, **dlx(expires=50, message_ttl=50))
    publish(one, b"1", b"2", b"3", b"4")
    entries = [take(one), take(one), take(one)]
    host.delete_queue(one)
    one.settled(entries[0])
    one.rejected(entries[1])
    one.put_back(entries[2:])
    assert (len(one.ready), host.dead, host.memory.used) == (0, [], 0)
    host.after(1000)
    assert (host.dead, host.deleted) == ([], [one])
    assert host.timers.next_due is None


def test_a_deleted_queue_takes_nothing_more_and_refuses_nothing() -> None:
    host = Host()
    one = queue(host, max_length=0, overflow="reject-publish")
    host.delete_queue(one)
    assert publish(one, b"1") == [True]
    assert (len(one.ready), host.memory.used) == (0, 0)


def test_a_consumer_of_a_deleted_queue_may_leave_it() -> None:
    host, reader = Host(), client()
    one = queue(host, auto_delete=True)
    mine = consumer(one, reader)
    host.delete_queue(one)
    one.remove_consumer(mine)
    assert host.deleted == [one]


# All of it at random.


class QueueMachine(RuleBasedStateMachine):
    """One queue against lists: what waits, what is out, what died; and memory to the byte."""

    def __init__(self) -> None:
        super().__init__()
        self.host = Host()
        self.queue = queue(self.host)
        self.ttl: int | None = None
        self.limit: int | None = None
        self.rejects = False
        self.waiting: list[tuple[int, Message, float | None]] = []
        self.out: list[tuple[tuple[int, Message, float | None], Entry]] = []
        self.dead: list[tuple[bytes, str]] = []
        self.count = 0

    @initialize(
        ttl=st.none() | st.integers(1, 50),
        limit=st.none() | st.integers(0, 4),
        rejects=st.booleans(),
        quorum=st.booleans(),
    )
    def start(self, ttl: int | None, limit: int | None, rejects: bool, quorum: bool) -> None:
        self.ttl, self.limit, self.rejects = ttl, limit, rejects and limit is not None
        arguments: dict[str, Any] = dlx()
        if ttl is not None:
            arguments["message_ttl"] = ttl
        if limit is not None:
            arguments["max_length"] = limit
        if self.rejects:
            arguments["overflow"] = "reject-publish"
        if quorum:
            arguments |= {"queue_type": "quorum", "delivery_limit": -1}
        self.queue = queue(self.host, **arguments)

    def let_go(self, reason: str, stays: Callable[[], bool]) -> None:
        while self.waiting and not stays():
            self.dead.append((self.waiting.pop(0)[1].body, reason))

    def settle_down(self) -> None:
        """What has expired goes, as far as it is the head, and so does what is too much."""
        if self.limit is not None and not self.rejects:
            limit = self.limit
            self.let_go("maxlen", lambda: len(self.waiting) <= limit)
        self.host.timers.run(self.host.clock())
        self.let_go("expired", lambda: self.waiting[0][2] is None or self.waiting[0][2] > self.host.clock())

    @rule(ttl=st.none() | st.integers(0, 60), size=st.integers(0, 5))
    def publish(self, ttl: int | None, size: int) -> None:
        self.count += 1
        made = message(b"%d" % self.count + b"x" * size, ttl=ttl)
        taken = self.queue.publish(made)
        assert taken is not (self.rejects and len(self.waiting) >= (self.limit or 0))
        if taken:
            least = min((one for one in (ttl, self.ttl) if one is not None), default=None)
            until = None if least is None else self.host.clock() + least / 1000
            self.waiting.append((self.count, made, until))
        self.settle_down()

    @rule()
    def fetch(self) -> None:
        entry = fetch(self.queue)
        if not self.waiting:
            assert entry is None
            return
        assert entry is not None
        one = self.waiting.pop(0)
        assert entry.message is one[1]
        self.out.append((one, entry))
        self.settle_down()

    @precondition(lambda self: self.out)
    @rule(data=st.data(), how=st.sampled_from(["ack", "reject", "put back"]))
    def settle(self, data: st.DataObject, how: str) -> None:
        some = data.draw(st.lists(st.sampled_from(self.out), min_size=1, unique_by=lambda one: one[0][0]))
        self.out = [one for one in self.out if one not in some]
        if how == "put back":
            self.queue.put_back([entry for _, entry in some])
            self.waiting = sorted(self.waiting + [one for one, _ in some], key=lambda one: one[0])
        for one, entry in some:
            if how == "ack":
                self.queue.settled(entry)
            elif how == "reject":
                self.queue.rejected(entry)
                self.dead.append((one[1].body, "rejected"))
        self.settle_down()

    @rule(milliseconds=st.integers(1, 60))
    def wait(self, milliseconds: int) -> None:
        self.host.after(milliseconds)
        self.settle_down()

    @rule()
    def purge(self) -> None:
        assert self.queue.purge() == len(self.waiting)
        self.waiting.clear()

    @invariant()
    def is_as_the_lists_say(self) -> None:
        assert waiting(self.queue) == [made.body for _, made, _ in self.waiting]
        assert self.queue.unacked == len(self.out)
        assert self.queue.ready_bytes == sum(len(made.body) for _, made, _ in self.waiting)
        held = [made for _, made, _ in self.waiting] + [one[1] for one, _ in self.out]
        assert self.host.memory.used == sum(made.share for made in held)
        assert self.host.dead == self.dead

    def teardown(self) -> None:
        self.queue.put_back([entry for _, entry in self.out])
        self.host.delete_queue(self.queue)
        assert self.host.memory.used == 0
        assert self.host.timers.next_due is None


def test_a_queue_does_what_lists_would_do() -> None:
    run_state_machine_as_test(QueueMachine, settings=stateful)


@examples
@given(st.lists(st.integers(0, 9), max_size=12), st.integers(0, 5), st.integers(0, 30))
def test_no_limit_is_ever_exceeded(sizes: list[int], length: int, size: int) -> None:
    host = Host()
    one = queue(host, max_length=length, max_length_bytes=size)
    for number in sizes:
        publish(one, b"x" * number)
        assert len(one.ready) <= length
        assert one.ready_bytes == sum(map(len, waiting(one))) <= size
