"""Transactions: what is published and settled counts when it is committed, and never was if it is rolled back."""

from __future__ import annotations

from typing import Any

import pytest
from pamqp import base, commands

from amqproxy.broker.channel import Held
from amqproxy.broker.message import Entry, Message
from amqproxy.broker.routes import Route
from amqproxy.broker.transaction import Transaction
from tests.unit.broker.wire import Client, Content, Talk, broker

Basic, Channel, Queue, Tx = commands.Basic, commands.Channel, commands.Queue, commands.Tx


def talk(**limits: Any) -> Talk:
    """A transactional channel, and a queue named q."""
    one = Client(broker(**limits)).channel()
    one.declare("q")
    one.ask(Tx.Select(), Tx.SelectOk)
    return one


def observer(one: Talk) -> Talk:
    return Client(one.client.broker).channel()


def commit(one: Talk) -> list[Any]:
    """Commit; what came besides the answer."""
    one.send(Tx.Commit())
    found = one.take()
    assert sum(isinstance(frame, Tx.CommitOk) for frame in found) == 1
    return [frame for frame in found if not isinstance(frame, Tx.CommitOk)]


def rollback(one: Talk) -> None:
    one.ask(Tx.Rollback(), Tx.RollbackOk)


@pytest.mark.parametrize("one", [Tx.Commit(), Tx.Rollback()])
def test_without_a_transaction_there_is_nothing_to_end(one: base.Frame) -> None:
    assert Client(broker()).channel().fail(one) == (406, "PRECONDITION_FAILED - channel is not transactional")


def test_messages_are_published_when_they_are_committed() -> None:
    one = talk()
    other = observer(one)
    one.publish("q", b"1")
    one.publish("q", b"2")
    assert other.count("q") == (0, 0)
    assert commit(one) == []
    assert other.drain("q") == [b"1", b"2"]
    assert commit(one) == []
    assert other.count("q") == (0, 0)


def test_messages_that_are_rolled_back_were_never_published() -> None:
    one = talk()
    one.publish("q", b"1")
    one.publish("nowhere", b"2", mandatory=True)
    rollback(one)
    assert commit(one) == []
    assert one.count("q") == (0, 0)
    assert one.client.broker.memory.used == 0


def test_what_nobody_takes_comes_back_at_the_commit_and_before_its_answer() -> None:
    one = talk()
    one.publish("nowhere", b"1", mandatory=True)
    assert not one.take()
    one.send(Tx.Commit())
    back, commit_ok = one.take()
    assert isinstance(back, Content)
    assert isinstance(back.method, Basic.Return)
    assert isinstance(commit_ok, Tx.CommitOk)


def test_acknowledgements_count_when_they_are_committed() -> None:
    one = talk()
    one.publish("q", b"1")
    commit(one)
    memory = one.client.broker.memory
    got = one.get("q", no_ack=False)
    assert got is not None
    one.ack(got.tag)
    assert memory.used > 0
    assert commit(one) == []
    assert memory.used == 0


@pytest.mark.parametrize(
    "settle",
    [
        Basic.Ack(1),
        Basic.Ack(0, multiple=True),
        Basic.Nack(1),
        Basic.Nack(1, requeue=False),
        Basic.Reject(1),
        Basic.Reject(1, requeue=False),
    ],
    ids=lambda one: f"{one.name} {getattr(one, 'requeue', '')}",
)
def test_settling_that_is_rolled_back_can_be_done_again(settle: base.Frame) -> None:
    one = talk()
    one.publish("q", b"1")
    commit(one)
    assert one.get("q", no_ack=False) is not None
    one.send(settle)
    assert not one.take()
    rollback(one)
    assert one.count("q") == (0, 0)
    one.send(settle)
    assert commit(one) == []
    requeued = isinstance(settle, (Basic.Nack, Basic.Reject)) and settle.requeue
    assert one.drain("q") == ([b"1"] if requeued else [])
    assert one.client.broker.memory.used == 0


def test_what_is_settled_in_a_transaction_cannot_be_settled_again_in_it() -> None:
    one = talk()
    one.publish("q", b"1")
    commit(one)
    assert one.get("q", no_ack=False) is not None
    one.ack(1)
    assert one.fail(Basic.Ack(1)) == (406, "PRECONDITION_FAILED - unknown delivery tag 1")
    assert one.drain("q") == [b"1"]


def test_messages_come_before_what_was_settled() -> None:
    one = talk()
    one.declare("small", {"x-max-length": 1})
    one.publish("small", b"1")
    commit(one)
    assert one.get("small", no_ack=False) is not None
    one.publish("small", b"2")
    one.nack(1)
    commit(one)
    assert one.drain("small") == [b"2"]


def test_a_prefetch_is_freed_when_the_acknowledgement_is_committed() -> None:
    one = talk()
    one.qos(1)
    one.consume("q")
    one.publish("q", b"1")
    one.publish("q", b"2")
    (first,) = commit(one)
    one.ack(first.tag)
    assert not one.take()
    (second,) = commit(one)
    assert (first.body, second.body) == (b"1", b"2")


def test_a_rollback_keeps_the_order_of_what_is_unacknowledged() -> None:
    one = talk()
    for number in range(1, 6):
        one.publish("q", b"%d" % number)
    commit(one)
    for _ in range(5):
        one.get("q", no_ack=False)
    one.ack(4)
    one.ack(2, multiple=True)
    rollback(one)
    one.ack(3, multiple=True)
    commit(one)
    assert list(one.client.session.channels[1].unacked) == [4, 5]


@pytest.mark.parametrize("how", ["channel", "connection", "socket", "error"])
def test_what_was_not_committed_when_the_channel_ends_never_was(how: str) -> None:
    one = talk()
    other = observer(one)
    one.publish("q", b"old")
    commit(one)
    assert one.get("q", no_ack=False) is not None
    one.publish("q", b"new")
    one.ack(1)
    if how == "channel":
        one.ask(Channel.Close(200, "", 0, 0), Channel.CloseOk)
    elif how == "connection":
        one.client.close()
    elif how == "socket":
        one.client.hang_up()
    else:
        one.fail(Queue.Declare(queue="nowhere", passive=True))
    assert other.drain("q") == [b"old"]
    assert one.client.broker.memory.used == 0


def test_what_waits_for_a_commit_counts_as_memory_and_blocks_like_all_else() -> None:
    one = talk(memory_bytes=10_000)
    for _ in range(20):
        one.publish("q", b"x" * 1000)
    assert not one.client.wire.reading
    assert one.client.broker.memory.used < 13_000
    one.client.hang_up()
    assert one.client.broker.memory.used == 0


def test_a_message_for_several_queues_costs_nothing_when_they_are_empty_again() -> None:
    one = talk()
    one.declare("r")
    for name in "qr":
        one.bind(name, "amq.fanout")
    one.publish("", b"x", exchange="amq.fanout")
    assert one.client.broker.memory.used > 0
    commit(one)
    assert (one.drain("q"), one.drain("r")) == ([b"x"], [b"x"])
    assert one.client.broker.memory.used == 0


def test_a_message_for_a_queue_that_was_deleted_before_the_commit_is_lost() -> None:
    one = talk()
    one.declare("r")
    for name in "qr":
        one.bind(name, "amq.fanout")
    one.publish("q", b"1")
    one.publish("", b"2", exchange="amq.fanout")
    one.ask(Queue.Delete(queue="q"), Queue.DeleteOk)
    assert commit(one) == []
    assert one.drain("r") == [b"2"]
    assert one.client.broker.memory.used == 0


def test_a_queue_that_refuses_a_message_makes_a_commit_fail() -> None:
    one = talk()
    one.declare("full", {"x-max-length": 1, "x-overflow": "reject-publish"})
    one.publish("full", b"1")
    one.publish("full", b"2")
    one.publish("q", b"3")
    assert one.fail(Tx.Commit()) == (406, "PRECONDITION_FAILED - partial tx completion")
    assert (one.drain("full"), one.drain("q")) == ([b"1"], [b"3"])
    assert one.client.broker.memory.used == 0


def test_selecting_again_changes_nothing() -> None:
    one = talk()
    one.publish("q", b"1")
    one.ask(Tx.Select(), Tx.SelectOk)
    commit(one)
    assert one.drain("q") == [b"1"]


def test_what_is_kept_is_handed_over_once() -> None:
    kept = Transaction()
    one = talk()
    queue = one.client.session.vhost.queues["q"]
    route = Route(b"\0\1q", one.client.session.vhost.exchange(""), "q", mandatory=False)
    published = Message(b"\0\1q", b"", b""), route, (queue,)
    held: dict[int, Held] = {1: (Entry(published[0], 1, None), queue, None)}
    kept.publish(*published)
    kept.settle(held, list.clear)
    assert kept.take() == ([published], [(held, list.clear)])
    assert kept.take() == ([], [])
