"""The methods that come once: declaring, binding, consuming, deleting, with RabbitMQ's answers and texts."""

from __future__ import annotations

from typing import Any

import pytest
from pamqp import base, commands

from amqproxy.broker import Broker
from amqproxy.broker.access import Permissions
from tests.unit.broker import wire
from tests.unit.broker.wire import Client, Content, Talk, broker, method

Basic, Channel, Exchange, Queue, Tx = (
    commands.Basic,
    commands.Channel,
    commands.Exchange,
    commands.Queue,
    commands.Tx,
)
LOCKED = (
    "RESOURCE_LOCKED - cannot obtain exclusive access to locked queue 'q' in vhost '/'. It could be originally "
    "declared on another connection or the exclusive property value does not match that of the original declaration."
)


NOT_ON_DEFAULT = (403, "ACCESS_REFUSED - operation not permitted on the default exchange")


def talk(of: Broker | None = None, **options: Any) -> Talk:
    return Client(of or broker(), **options).channel()


def refused(what: str) -> tuple[int, str]:
    return 403, f"ACCESS_REFUSED - {what}"


# Every method.


def arguments_of(command: type[base.Frame]) -> bytes:
    widths = {"octet": 1, "short": 2, "long": 4, "longlong": 8, "shortstr": 1, "longstr": 4, "table": 4}
    made, bits = b"", 0
    for name in command.__slots__:
        kind = command.amqp_type(name)
        if kind == "bit":
            made += b"" if bits % 8 else b"\0"
            bits += 1
        else:
            made, bits = made + b"\0" * widths[kind], 0
    return made


@pytest.mark.parametrize("number", [0, 1, 2])
@pytest.mark.parametrize("command", commands.INDEX_MAPPING.values(), ids=lambda command: str(command.name))
def test_each_method_with_empty_arguments_is_answered_or_refused_on_any_channel(
    command: type[base.Frame], number: int
) -> None:
    """Nothing escapes, and whoever is still connected can go on."""
    of = broker()
    one = talk(of)
    one.client.feed(method(number, command, arguments_of(command)))
    one.client.take()
    if number == 1 and command in (Channel.Close, Basic.Publish):
        return
    other = talk(of)
    other.declare("q")
    if one.client.session in of.sessions:
        one.client.send(0, commands.Connection.Close(200, "", 0, 0))
        assert isinstance(one.client.take()[-1][1], commands.Connection.CloseOk)


# Exchanges.


def test_exchanges_are_declared_and_found() -> None:
    one = talk()
    for kind in ("direct", "fanout", "topic", "headers"):
        one.exchange(f"e-{kind}", kind, durable=True)
        one.exchange(f"e-{kind}", kind, durable=True)
        one.exchange(f"e-{kind}", "anything", passive=True)
    one.exchange("amq.topic", "topic", durable=True)


@pytest.mark.parametrize(
    ("declaration", "answer"),
    [
        ({"exchange": "e", "passive": True}, (404, "NOT_FOUND - no exchange 'e' in vhost '/'")),
        (
            {"exchange": "e", "exchange_type": "stack"},
            (406, "PRECONDITION_FAILED - unknown exchange type 'stack'"),
        ),
        ({"exchange": "e", "exchange_type": ""}, (406, "PRECONDITION_FAILED - invalid exchange type ''")),
        ({"exchange": ""}, NOT_ON_DEFAULT),
        ({"exchange": "", "passive": True}, NOT_ON_DEFAULT),
        ({"exchange": "amq.e"}, refused("exchange name 'amq.e' contains reserved prefix 'amq.*'")),
        (
            {"exchange": "amq.topic", "exchange_type": "topic"},
            (
                406,
                "PRECONDITION_FAILED - inequivalent arg 'durable' for exchange 'amq.topic' in vhost '/': "
                "received 'false' but current is 'true'",
            ),
        ),
        (
            {"exchange": "e", "arguments": {"alternate-exchange": True}},
            (
                406,
                "PRECONDITION_FAILED - invalid type 'bool' for arg 'alternate-exchange' in exchange 'e' in vhost '/'",
            ),
        ),
    ],
    ids=lambda value: str(value)[:50],
)
def test_what_cannot_be_declared_ends_the_channel(declaration: dict[str, Any], answer: tuple[int, str]) -> None:
    assert talk().fail(Exchange.Declare(**declaration)) == answer


def test_line_ends_are_left_out_of_names() -> None:
    one = talk()
    one.client.feed(method(1, Queue.Declare, b"\0\0" + wire.short(b"a\r\nb\n") + b"\0" + wire.table(b"")))
    (declared,) = one.take()
    assert isinstance(declared, Queue.DeclareOk)
    assert declared.queue == "ab"
    assert one.count("ab") == (0, 0)


def test_system_exchanges_stay() -> None:
    assert talk().fail(Exchange.Delete(exchange="amq.fanout")) == refused(
        "deletion of system exchange 'amq.fanout' in vhost '/' not allowed"
    )
    assert talk().fail(Exchange.Delete(exchange="")) == NOT_ON_DEFAULT


def test_exchanges_are_deleted_and_need_not_be_there() -> None:
    one = talk()
    one.exchange("e", "fanout")
    one.declare("q")
    one.bind("q", "e")
    assert one.fail(Exchange.Delete(exchange="e", if_unused=True)) == (
        406,
        "PRECONDITION_FAILED - exchange 'e' in vhost '/' in use",
    )
    for _ in range(2):
        one.ask(Exchange.Delete(exchange="e"), Exchange.DeleteOk)
    assert one.fail(Exchange.Declare(exchange="e", passive=True))[0] == 404


def test_exchanges_are_bound_to_exchanges() -> None:
    one = talk()
    one.declare("q")
    one.bind("q", "amq.fanout")
    one.chain("amq.fanout", "amq.direct", "k")
    one.publish("k", b"1", exchange="amq.direct")
    one.ask(Exchange.Unbind(destination="amq.fanout", source="amq.direct", routing_key="k"), Exchange.UnbindOk)
    one.publish("k", b"2", exchange="amq.direct")
    assert one.drain("q") == [b"1"]


@pytest.mark.parametrize(
    ("change", "answer"),
    [
        (
            Exchange.Bind(destination="", source="amq.direct"),
            NOT_ON_DEFAULT,
        ),
        (
            Exchange.Bind(destination="amq.direct", source=""),
            NOT_ON_DEFAULT,
        ),
        (
            Exchange.Unbind(destination="", source="amq.direct"),
            NOT_ON_DEFAULT,
        ),
        (Exchange.Bind(destination="e", source="amq.direct"), (404, "NOT_FOUND - no exchange 'e' in vhost '/'")),
        (Exchange.Bind(destination="amq.direct", source="e"), (404, "NOT_FOUND - no exchange 'e' in vhost '/'")),
        (Queue.Bind(queue="q", exchange=""), NOT_ON_DEFAULT),
        (Queue.Unbind(queue="q", exchange=""), NOT_ON_DEFAULT),
        (Queue.Bind(queue="r", exchange="amq.direct"), (404, "NOT_FOUND - no queue 'r' in vhost '/'")),
        (Queue.Bind(queue="q", exchange="e"), (404, "NOT_FOUND - no exchange 'e' in vhost '/'")),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_what_cannot_be_bound_ends_the_channel(change: base.Frame, answer: tuple[int, str]) -> None:
    one = talk()
    one.declare("q")
    assert one.fail(change) == answer


# Queues.


def test_queues_are_declared_with_what_they_hold() -> None:
    one = talk()
    assert (one.declare("q").message_count, one.declare("q").consumer_count) == (0, 0)
    one.publish("q")
    one.publish("q")
    one.qos(1)
    one.consume("q")
    one.take()
    declared = one.declare("q")
    assert (declared.queue, declared.message_count, declared.consumer_count) == ("q", 1, 1)


def test_a_queue_without_a_name_is_given_one_and_stands_for_the_last() -> None:
    one = talk()
    name = one.declare("").queue or ""
    assert name.startswith("amq.gen-")
    one.bind("", "amq.direct", "k")
    one.bind("", "amq.fanout")
    one.publish("k", exchange="amq.direct")
    one.publish(name, exchange="amq.direct")  # an empty key stood for itself: a queue was named by nobody
    one.consume("", "c", no_ack=True)
    assert len(one.deliveries()) == 1
    assert one.count(name)[1] == 1
    assert one.ask(Queue.Purge(queue=""), Queue.PurgeOk).message_count == 0
    one.ask(Queue.Unbind(queue="", exchange="amq.direct", routing_key="k"), Queue.UnbindOk)
    one.send(Queue.Delete(queue=""))
    assert [type(frame) for frame in one.take()] == [Queue.DeleteOk, Basic.Cancel]


def test_an_empty_name_and_an_empty_key_stand_for_the_name_of_the_queue() -> None:
    one = talk()
    one.declare("q")
    one.bind("", "amq.direct")
    one.publish("q", b"1", exchange="amq.direct")
    one.bind("q", "amq.direct")
    one.publish("", b"2", exchange="amq.direct")
    assert one.drain("q") == [b"1", b"2"]
    one.ask(Queue.Unbind(queue="", exchange="amq.direct"), Queue.UnbindOk)
    one.publish("q", b"3", exchange="amq.direct")
    assert one.drain("q") == []


@pytest.mark.parametrize(
    "one",
    [
        Queue.Bind(queue="", exchange="amq.direct", routing_key="k"),
        Queue.Purge(queue=""),
        Queue.Delete(queue=""),
        Basic.Consume(queue=""),
        Basic.Get(queue=""),
    ],
    ids=lambda one: str(one.name),
)
def test_before_a_queue_was_declared_an_empty_name_stands_for_none(one: base.Frame) -> None:
    assert talk().fail(one) == (404, "NOT_FOUND - no previously declared queue")


@pytest.mark.parametrize(
    "one",
    [
        Queue.Declare(queue="r", passive=True),
        Queue.Purge(queue="r"),
        Basic.Consume(queue="r"),
        Basic.Get(queue="r"),
    ],
    ids=lambda one: str(one.name),
)
def test_a_queue_that_is_not_there_is_not_found(one: base.Frame) -> None:
    assert talk().fail(one) == (404, "NOT_FOUND - no queue 'r' in vhost '/'")


@pytest.mark.parametrize(
    "one",
    [
        Queue.Declare(queue="q"),
        Queue.Declare(queue="q", passive=True),
        Queue.Declare(queue="q", exclusive=True),
        Queue.Bind(queue="q", exchange="amq.direct"),
        Queue.Unbind(queue="q", exchange="amq.direct"),
        Queue.Purge(queue="q"),
        Queue.Delete(queue="q"),
        Basic.Consume(queue="q"),
        Basic.Get(queue="q"),
    ],
    ids=lambda one: str(one.name),
)
def test_an_exclusive_queue_is_locked_for_all_others(one: base.Frame) -> None:
    of = broker()
    owner = talk(of)
    owner.declare("q", exclusive=True)
    owner.bind("q", "amq.direct")
    assert talk(of).fail(one) == (405, LOCKED)


def test_an_exclusive_queue_goes_with_its_connection_and_not_with_its_channel() -> None:
    of = broker()
    one, other = talk(of), talk(of)
    one.declare("q", exclusive=True)
    one.ask(Channel.Close(200, "", 0, 0), Channel.CloseOk)
    assert other.fail(Queue.Declare(queue="q", passive=True))[0] == 405
    one.client.close()
    assert other.fail(Queue.Declare(queue="q", passive=True))[0] == 404


def test_an_exclusive_queue_that_is_deleted_is_free_for_all() -> None:
    of = broker()
    one, other = talk(of), talk(of)
    one.declare("q", exclusive=True)
    one.ask(Queue.Delete(queue="q"), Queue.DeleteOk)
    other.declare("q")
    one.client.close()
    assert other.count("q") == (0, 0)


def test_purging_takes_what_waits_and_leaves_what_is_out() -> None:
    one = talk()
    one.declare("q")
    for _ in range(3):
        one.publish("q")
    assert one.get("q", no_ack=False) is not None
    assert one.ask(Queue.Purge(queue="q"), Queue.PurgeOk).message_count == 2
    one.nack(1)
    assert one.count("q") == (1, 0)


def test_queues_are_deleted_and_need_not_be_there() -> None:
    one = talk()
    one.declare("q")
    one.publish("q")
    assert one.fail(Queue.Delete(queue="q", if_empty=True)) == (
        406,
        "PRECONDITION_FAILED - queue 'q' in vhost '/' not empty",
    )
    one.consume("q", "c")
    one.take()
    assert one.fail(Queue.Delete(queue="q", if_unused=True)) == (
        406,
        "PRECONDITION_FAILED - queue 'q' in vhost '/' in use",
    )
    assert one.ask(Queue.Delete(queue="q"), Queue.DeleteOk).message_count == 1
    assert one.ask(Queue.Delete(queue="q"), Queue.DeleteOk).message_count == 0
    one.declare("q")
    one.ask(Queue.Delete(queue="q", if_unused=True, if_empty=True), Queue.DeleteOk)


@pytest.mark.parametrize(("flag", "name"), [("if_unused", "if-unused"), ("if_empty", "if-empty")])
def test_quorum_queues_are_deleted_without_conditions(flag: str, name: str) -> None:
    one = talk()
    one.declare("q", {"x-queue-type": "quorum"}, durable=True)
    assert one.fail_hard(Queue.Delete(queue="q", **{flag: True})) == (
        540,
        f"NOT_IMPLEMENTED - cannot delete queue 'q' in vhost '/'. queue.delete operations with {name} flag set are not "
        "supported by quorum queues",
    )


def test_methods_that_want_no_answer_get_none() -> None:
    one = talk()
    one.send(
        Exchange.Declare(exchange="e", exchange_type="fanout", nowait=True),
        Queue.Declare(queue="q", nowait=True),
        Queue.Bind(queue="q", exchange="e", nowait=True),
        Exchange.Bind(destination="e", source="amq.fanout", nowait=True),
        Basic.Consume(queue="q", consumer_tag="c", nowait=True),
        *wire.message("", b"1", exchange="amq.fanout"),
        Basic.Cancel(consumer_tag="c", nowait=True),
        Queue.Purge(queue="q", nowait=True),
        Exchange.Unbind(destination="e", source="amq.fanout", nowait=True),
        Exchange.Delete(exchange="e", nowait=True),
        Queue.Delete(queue="q", nowait=True),
        commands.Confirm.Select(nowait=True),
    )
    assert one.bodies() == [b"1"]
    vhost = one.client.session.vhost
    assert (vhost.queues, "e" in vhost.exchanges) == ({}, False)


# Consuming.


def test_a_consumer_without_a_tag_is_given_one() -> None:
    one = talk()
    one.declare("q")
    tags = {one.consume("q") for _ in range(5)}
    assert len(tags) == 5
    assert all(tag.startswith("amq.ctag-") for tag in tags)


def test_a_tag_in_use_ends_the_connection() -> None:
    one = talk()
    one.declare("q")
    one.consume("q", "c")
    other = one.client.channel(2)
    other.consume("q", "c")
    assert one.fail_hard(Basic.Consume(queue="q", consumer_tag="c")) == (
        530,
        "NOT_ALLOWED - attempt to reuse consumer tag 'c'",
    )


def test_a_cancelled_consumer_gets_no_more_and_may_be_cancelled_again() -> None:
    one = talk()
    one.declare("q")
    one.consume("q", "c")
    for _ in range(2):
        assert one.ask(Basic.Cancel(consumer_tag="c"), Basic.CancelOk).consumer_tag == "c"
    one.publish("q")
    assert (one.take(), one.count("q")) == ([], (1, 0))
    one.consume("q", "c")
    assert len(one.deliveries()) == 1


def test_an_exclusive_consumer_is_alone() -> None:
    of = broker()
    one, other = talk(of), talk(of)
    one.declare("q")
    one.consume("q", "c")
    why = refused("queue 'q' in vhost '/' in exclusive use")
    assert other.fail(Basic.Consume(queue="q", exclusive=True)) == why
    one.ask(Basic.Cancel(consumer_tag="c"), Basic.CancelOk)
    other.consume("q", "mine", exclusive=True)
    assert one.fail(Basic.Consume(queue="q")) == why
    assert other.fail(Basic.Consume(queue="q", exclusive=True)) == why  # its own channel too, and it was closed
    one.consume("q", "again", exclusive=True)


def test_a_queue_with_one_active_consumer_has_no_exclusive_one() -> None:
    one = talk()
    one.declare("q", {"x-single-active-consumer": True})
    assert one.fail(Basic.Consume(queue="q", exclusive=True))[0] == 403


@pytest.mark.parametrize("arguments", [{"x-priority": "high"}, {"x-cancel-on-ha-failover": "no"}])
def test_arguments_that_no_consumer_has_end_the_channel(arguments: dict[str, Any]) -> None:
    one = talk()
    one.declare("q")
    code, text = one.fail(Basic.Consume(queue="q", arguments=arguments))
    assert code == 406
    assert text.startswith(f"PRECONDITION_FAILED - invalid arg '{next(iter(arguments))}' for queue 'q' in vhost '/'")


def test_consumers_with_priority_come_first() -> None:
    one = talk()
    one.declare("q")
    one.consume("q", "low")
    one.consume("q", "high", arguments={"x-priority": 10})
    for _ in range(3):
        one.publish("q")
    assert {getattr(each.method, "consumer_tag", "") for each in one.deliveries()} == {"high"}


def test_a_consumer_is_told_when_its_queue_goes_if_it_wants_to_know() -> None:
    of = broker()
    told, untold = talk(of), talk(of, capabilities={})
    deleter = talk(of)
    deleter.declare("q")
    for each in (told, untold):
        each.consume("q", "c")
    deleter.ask(Queue.Delete(queue="q"), Queue.DeleteOk)
    (cancel,) = told.take()
    assert isinstance(cancel, Basic.Cancel)
    assert (cancel.consumer_tag, cancel.nowait) == ("c", True)
    assert not untold.take()
    for each in (told, untold):
        each.ask(Basic.Cancel(consumer_tag="c"), Basic.CancelOk)
        each.declare("q")
        each.consume("q", "c")


def test_an_auto_delete_queue_goes_with_its_last_consumer() -> None:
    of = broker()
    one, other = talk(of), talk(of)
    one.declare("q", auto_delete=True)
    one.consume("q", "c")
    other.consume("q", "d")
    one.ask(Basic.Cancel(consumer_tag="c"), Basic.CancelOk)
    assert one.count("q") == (0, 1)
    other.client.close()
    assert one.fail(Queue.Declare(queue="q", passive=True))[0] == 404


def test_there_are_so_many_consumers_of_all_connections_and_not_more() -> None:
    of = broker(max_consumers=3)
    one, other = talk(of), talk(of)
    one.declare("q")
    one.consume("q", "a")
    other.consume("q", "b", arguments={"x": "y" * 200})
    code, why = one.fail(Basic.Consume(queue="q", consumer_tag="c", arguments={"x": "y" * 256}))
    told = "consume from queue 'q' in vhost '/': the broker has reached its limit of 3 consumers"
    assert (code, why) == (406, f"PRECONDITION_FAILED - cannot {told}")
    assert one.count("q") == (0, 1)  # its channel had one, too
    one.consume("q", "a")
    one.consume("q", "c")
    assert one.fail(Basic.Consume(queue="q", consumer_tag="d"))[0] == 406
    assert one.client.session.vhost.counter.counts["consumers"] == 1


@pytest.mark.parametrize("end", ["cancel", "queue", "channel", "connection"])
def test_consumers_that_are_gone_count_no_more(end: str) -> None:
    of = broker(max_consumers=4)
    one, other = talk(of), talk(of)
    counts = one.client.session.vhost.counter.counts
    one.declare("q", auto_delete=True)
    for _ in range(2):
        other.declare("q", auto_delete=True)
        other.consume("q", "a")
        other.consume("q", "b", arguments={"x": "y" * 600})
        assert counts["consumers"] == 4
        match end:
            case "cancel":
                for tag in ("a", "b", "b"):
                    other.ask(Basic.Cancel(consumer_tag=tag), Basic.CancelOk)
            case "queue":
                one.ask(Queue.Delete(queue="q"), Queue.DeleteOk)
            case "channel":
                other.ask(commands.Channel.Close(200, "", 0, 0), commands.Channel.CloseOk)
                other = other.client.channel(1)
            case "connection":
                other.client.close()
                other = talk(of)
        assert counts["consumers"] == 0
        other.take()


def test_dead_letters_that_a_method_brought_about_go_at_once() -> None:
    clock = wire.Clock()
    one = talk(broker(clock))
    one.declare("dead")
    one.declare("q", {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "dead"})
    one.publish("q", b"1", expiration="5")
    clock.now += 1
    one.ask(Basic.Get(queue="q"), Basic.GetEmpty)
    assert one.drain("dead") == [b"1"]


def test_an_empty_queue_has_nothing_to_get() -> None:
    one = talk()
    one.declare("q")
    one.ask(Basic.Get(queue="q"), Basic.GetEmpty)


def test_a_quorum_queue_with_one_active_consumer_gives_nothing_to_others() -> None:
    one = talk()
    one.declare("q", {"x-queue-type": "quorum", "x-single-active-consumer": True}, durable=True)
    code, text = one.fail(Basic.Get(queue="q"))
    assert (code, text[: len("RESOURCE_LOCKED - cannot obtain access to locked queue 'q'")]) == (
        405,
        "RESOURCE_LOCKED - cannot obtain access to locked queue 'q'",
    )


def test_a_quorum_queue_knows_no_shared_prefetch() -> None:
    one = talk()
    one.declare("q", {"x-queue-type": "quorum"}, durable=True)
    one.qos(1, shared=True)
    assert one.fail_hard(Basic.Consume(queue="q")) == (
        540,
        "NOT_IMPLEMENTED - queue 'q' in vhost '/' does not support global qos",
    )


def test_a_prefetch_is_counted_in_messages() -> None:
    assert talk().fail_hard(Basic.Qos(prefetch_size=1)) == (540, "NOT_IMPLEMENTED - prefetch_size!=0 (1)")


def test_the_flow_of_deliveries_cannot_be_stopped() -> None:
    one = talk()
    assert one.ask(Channel.Flow(active=True), Channel.FlowOk).active is True
    assert one.fail_hard(Channel.Flow(active=False)) == (540, "NOT_IMPLEMENTED - active=false")


# Permissions.


def limited(**patterns: str) -> tuple[Talk, Talk]:
    """A user who may do what the patterns say, and guest."""
    of = broker()
    of.add_user("u", "p")
    of.set_permissions("u", "/", **({"configure": "", "write": "", "read": ""} | patterns))
    return talk(of, user="u", password="p"), talk(of)


@pytest.mark.parametrize(
    ("allowed", "one", "missing"),
    [
        ({}, Queue.Declare(queue="q"), "configure access to queue 'q'"),
        ({}, Queue.Delete(queue="q"), "configure access to queue 'q'"),
        ({}, Queue.Purge(queue="q"), "read access to queue 'q'"),
        ({}, Basic.Consume(queue="q"), "read access to queue 'q'"),
        ({}, Basic.Get(queue="q"), "read access to queue 'q'"),
        ({}, Exchange.Declare(exchange="e"), "configure access to exchange 'e'"),
        ({}, Exchange.Delete(exchange="e"), "configure access to exchange 'e'"),
        ({}, Queue.Bind(queue="q", exchange="amq.fanout"), "write access to queue 'q'"),
        ({"write": "q"}, Queue.Bind(queue="q", exchange="amq.fanout"), "read access to exchange 'amq.fanout'"),
        ({}, Exchange.Bind(destination="e", source="amq.fanout"), "write access to exchange 'e'"),
        ({"write": "e"}, Exchange.Bind(destination="e", source="amq.fanout"), "read access to exchange 'amq.fanout'"),
        (
            {"configure": "q"},
            Queue.Declare(queue="q", arguments={"x-dead-letter-exchange": "e"}),
            "read access to queue 'q'",
        ),
        (
            {"configure": "q", "read": "q"},
            Queue.Declare(queue="q", arguments={"x-dead-letter-exchange": "e"}),
            "write access to exchange 'e'",
        ),
        (
            {"configure": "e"},
            Exchange.Declare(exchange="e", arguments={"alternate-exchange": "f"}),
            "read access to exchange 'e'",
        ),
        (
            {"configure": "e", "read": "e"},
            Exchange.Declare(exchange="e", arguments={"alternate-exchange": "f"}),
            "write access to exchange 'f'",
        ),
    ],
    ids=lambda value: getattr(value, "name", str(value)),
)
def test_what_is_not_permitted_is_refused(allowed: dict[str, str], one: base.Frame, missing: str) -> None:
    user, _ = limited(**allowed)
    assert user.fail(one) == refused(f"{missing} in vhost '/' refused for user 'u'")


def test_publishing_needs_permission_for_the_exchange() -> None:
    user, guest = limited(write="amq.fanout")
    user.publish("k", exchange="amq.fanout")
    assert user.fail(*wire.message("q")) == refused(
        "write access to exchange 'amq.default' in vhost '/' refused for user 'u'"
    )
    user.publish("k", exchange="amq.fanout")
    user.client.broker.set_permissions("u", "/", write="^$")
    assert user.fail(*wire.message("k", exchange="amq.fanout"))[0] == 403
    assert not guest.take()


def test_a_permission_for_topics_counts_where_topics_do() -> None:
    user, guest = limited(configure=".*", write=".*", read=".*")
    user.client.broker.users["u"].topic_permissions["/", "amq.topic"] = Permissions(write="^w", read="^r")
    user.declare("q")
    user.publish("w", exchange="amq.topic")
    user.bind("q", "amq.topic", "r")
    user.publish("x", exchange="amq.direct")
    assert user.fail(*wire.message("x", exchange="amq.topic"))[0] == 403
    assert user.fail(Queue.Bind(queue="q", exchange="amq.topic", routing_key="x"))[0] == 403
    assert not guest.take()


@pytest.mark.parametrize("copies", ["CC", "BCC"])
def test_a_permission_for_topics_counts_for_copies_too(copies: str) -> None:
    user, guest = limited(configure=".*", write=".*", read=".*")
    user.client.broker.users["u"].topic_permissions["/", "amq.topic"] = Permissions(write="^mine")
    guest.declare("q")
    guest.bind("q", "amq.topic", "yours")
    assert user.fail(*wire.message("mine", exchange="amq.topic", headers={copies: ["yours"]})) == refused(
        "write access to topic 'yours' in exchange 'amq.topic' in vhost '/' refused for user 'u'"
    )
    user.publish("mine", exchange="amq.topic", headers={copies: ["mine.too"]})
    assert guest.drain("q") == []


def test_names_that_the_broker_makes_up_need_permission_too() -> None:
    user, _ = limited()
    code, text = user.fail(Queue.Declare(queue=""))
    assert code == 403
    assert text.startswith("ACCESS_REFUSED - configure access to queue 'amq.gen-")
    other, _ = limited(configure="^amq.gen-")
    other.declare("")


def test_what_is_there_can_be_looked_at_without_permission_to_make_it() -> None:
    user, guest = limited()
    guest.declare("q")
    assert user.count("q") == (0, 0)
    user.exchange("amq.topic", "topic", passive=True)


def test_a_delivery_may_come_before_the_answer_to_what_caused_it_only_where_rabbitmq_has_it_so() -> None:
    one = talk()
    one.declare("q")
    one.publish("q", b"1")
    one.send(Basic.Consume(queue="q", consumer_tag="c"))
    first, second = one.take()
    assert isinstance(first, Basic.ConsumeOk)
    assert isinstance(second, Content)
