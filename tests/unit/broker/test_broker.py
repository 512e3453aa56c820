"""The broker: its users and hosts, what blocks it, its timers and its end."""

from __future__ import annotations

import pytest
from pamqp import commands

from amqproxy.broker import Broker, Limits
from amqproxy.broker.session import State
from tests.unit.broker.wire import Client, Clock, Wire, broker

Connection = commands.Connection


def test_a_broker_knows_guest_and_one_virtual_host() -> None:
    of = Broker()
    assert list(of.vhosts) == ["/"]
    assert of.users["guest"].knows("guest")
    assert of.limits == Limits()
    Client(of).channel().declare("q")


def test_virtual_hosts_are_worlds_of_their_own() -> None:
    of = broker()
    made = of.add_vhost("other")
    assert of.add_vhost("other") is made
    of.set_permissions("guest", "other")
    one, other = Client(of).channel(), Client(of, vhost="other").channel()
    one.declare("q")
    assert other.fail(commands.Queue.Declare(queue="q", passive=True)) == (
        404,
        "NOT_FOUND - no queue 'q' in vhost 'other'",
    )


def test_the_limit_of_queues_is_one_for_all_hosts() -> None:
    of = broker(max_queues=2)
    of.add_vhost("other")
    of.set_permissions("guest", "other")
    one, other = Client(of).channel(), Client(of, vhost="other").channel()
    one.declare("a")
    other.declare("b")
    assert one.fail(commands.Queue.Declare(queue="c"))[0] == 406


def test_users_can_be_added_and_given_another_password() -> None:
    of = broker()
    user = of.add_user("u", "one", tags=("monitoring",))
    assert of.add_user("u", "two") is user
    assert (user.knows("one"), user.knows("two"), user.tags) == (False, True, ())


def test_permissions_are_for_users_and_hosts_that_are_there() -> None:
    of = broker()
    with pytest.raises(KeyError, match="no virtual host 'nowhere'"):
        of.set_permissions("guest", "nowhere")
    with pytest.raises(KeyError, match="no user 'nobody'"):
        of.set_permissions("nobody")
    with pytest.raises(ValueError, match="is none"):
        of.set_permissions("guest", "/", "(")


# Memory.


def test_a_broker_short_of_memory_blocks_who_publishes_until_enough_is_free() -> None:
    of = broker(memory_bytes=10_000)
    publisher, reader = Client(of), Client(of)
    talk, reading = publisher.channel(), reader.channel()
    talk.declare("q")
    for _ in range(20):
        talk.publish("q", b"x" * 1000)
    assert (of.blocked, publisher.wire.reading, reader.wire.reading) == ("low on memory", False, True)
    assert of.memory.used < 12_000
    assert [getattr(one, "reason", "") for _, one in publisher.take()] == ["low on memory"]
    drained = 0
    for _ in range(40):
        drained += reading.get("q") is not None
        assert of.memory.used < 12_000
        of.run_timers()
        publisher.go_on()
    assert drained == 20
    assert (of.blocked, publisher.wire.reading, of.memory.used) == (None, True, 0)
    said = [type(one) for _, one in publisher.take()]
    assert said[0] is Connection.Unblocked
    assert said[-1] is Connection.Unblocked


def test_an_alarm_that_is_raised_again_before_it_was_told_to_be_over_is_not_over() -> None:
    of = broker(memory_bytes=1000)
    of.memory.take(2000)
    of.memory.free(2000)
    of.memory.take(2000)
    of.run_timers()
    assert of.blocked is not None
    talk = Client(of).channel()
    talk.publish("q")
    assert not talk.client.wire.reading
    of.memory.free(2000)
    of.run_timers()
    assert talk.client.wire.reading
    assert of.blocked is None


def test_memory_that_is_free_again_does_not_end_a_block_that_was_asked_for() -> None:
    of = broker(memory_bytes=1000)
    of.block("maintenance")
    of.memory.take(2000)
    assert of.blocked == "maintenance"
    of.memory.free(2000)
    of.run_timers()
    assert of.blocked == "maintenance"
    of.unblock()
    assert of.blocked is None


def test_unblocking_does_not_make_memory() -> None:
    of = broker(memory_bytes=1000)
    of.memory.take(2000)
    of.unblock()
    assert of.blocked == "low on memory"


def test_a_reason_is_cut_to_what_a_client_can_be_told() -> None:
    of = broker()
    of.block("é" * 200)
    client = Client(of)
    client.channel().publish("q")
    ((_, blocked),) = client.take()
    assert isinstance(blocked, Connection.Blocked)
    assert blocked.reason == "é" * 127


def test_blocking_twice_tells_once() -> None:
    of = broker()
    of.block("a")
    client = Client(of)
    talk = client.channel()
    talk.publish("q")
    of.block("b")
    assert len(client.take()) == 1
    of.unblock()
    of.unblock()
    assert len(client.take()) == 1


# Time.


def test_timers_say_when_they_are_due_next() -> None:
    clock = Clock()
    of = broker(clock)
    assert of.run_timers() is None
    client = Client(of)
    talk = client.channel()
    talk.declare("q", {"x-expires": 5000, "x-message-ttl": 2000})
    talk.publish("q")
    assert of.run_timers() == clock.now + 2
    clock.now += 2
    assert of.run_timers() == clock.now + 3
    clock.now += 3
    assert of.run_timers() is None
    assert of.vhosts["/"].queues == {}


def test_what_a_timer_brings_about_is_told_at_once() -> None:
    clock = Clock()
    of = broker(clock)
    client, other = Client(of), Client(of)
    talk, reader = client.channel(), other.channel()
    reader.declare("dead")
    reader.consume("dead")
    talk.declare("q", {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "dead", "x-message-ttl": 1000})
    talk.publish("q", b"1")
    clock.now += 1
    of.run_timers()
    assert reader.bodies() == [b"1"]


def test_a_queue_that_expires_tells_nobody_as_nobody_consumes_and_its_dead_do_not_rise() -> None:
    clock = Clock()
    of = broker(clock)
    talk = Client(of).channel()
    talk.declare("dead")
    talk.declare("q", {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "dead", "x-expires": 1000})
    talk.publish("q", b"1")
    clock.now += 1
    of.run_timers()
    assert (talk.count("dead"), of.memory.used) == ((0, 0), 0)


# The end.


def test_clients_are_told_when_the_broker_ends() -> None:
    of = broker()
    clients = [Client(of), Client(of)]
    half = of.connection(Wire())
    clients[0].channel().declare("q", exclusive=True)
    of.close("for a test")
    for client in clients:
        ((number, close),) = client.take()
        assert number == 0
        assert isinstance(close, Connection.Close)
        assert (close.reply_code, close.reply_text) == (320, "CONNECTION_FORCED - for a test")
        assert client.wire.closed
    assert half.state is State.CLOSED
    assert (of.sessions, of.vhosts["/"].queues) == (set(), {})
    of.close()


def test_a_broker_serves_thousands_of_queues() -> None:
    of = broker()
    talk = Client(of).channel()
    vhost = of.vhosts["/"]
    for number in range(4000):
        vhost.declare_queue(f"q{number}")
        vhost.bind("amq.topic", "queue", f"q{number}", f"a.{number}.#", vhost.queues["q0"].arguments, None)
    talk.publish("a.3999.b", b"1", exchange="amq.topic")
    assert talk.drain("q3999") == [b"1"]
    for queue in list(vhost.queues.values()):
        vhost.delete_queue(queue)
    assert not of.vhosts["/"].exchange("amq.topic").bindings
