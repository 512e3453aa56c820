"""A channel: content frame by frame, returns, confirms, deliveries, acknowledgements and prefetch."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pamqp import body, commands, header

from amqproxy.broker import Broker
from amqproxy.properties import DELIVERY_MODE, HEADERS
from tests.unit.broker import wire
from tests.unit.broker.wire import Client, Content, Talk, broker, marshal, message, method, raw

examples = settings(max_examples=40, deadline=None, derandomize=True, database=None)

Basic, Queue, Confirm, Tx = commands.Basic, commands.Queue, commands.Confirm, commands.Tx
NO_METHOD = "expected method frame, got non method frame instead"
NO_HEADER = "expected content header for class 60, got non content header frame instead"
NO_BODY = "expected content body, got non content body frame instead"
PUBLISH = marshal(1, *message("q")[:1])


def talk(of: Broker | None = None, **options: Any) -> Talk:
    """A channel with a queue named q."""
    found = Client(of or broker(), **options).channel()
    found.declare("q")
    return found


def hard(one: Talk, data: bytes) -> tuple[int, str]:
    """Send bytes that end the connection; code and text."""
    one.client.feed(data)
    number, close = one.client.take()[-1]
    assert number == 0
    assert isinstance(close, commands.Connection.Close)
    assert (close.class_id, close.method_id) in ((60, 40), (0, 0))
    return wire.code_and_text(close)


def soft(one: Talk, data: bytes) -> tuple[int, str]:
    """Send bytes that end the channel; code and text."""
    one.client.feed(data)
    close = one.take()[-1]
    assert isinstance(close, commands.Channel.Close)
    assert (close.class_id, close.method_id) == (60, 40)
    one.send(commands.Channel.CloseOk(), commands.Channel.Open())
    one.take()
    return wire.code_and_text(close)


# Content, frame by frame.


@examples
@given(st.binary(max_size=200), st.integers(1, 64))
def test_a_body_may_come_in_pieces_of_any_size(content: bytes, piece: int) -> None:
    one = talk()
    one.send(*message("q", content, piece=piece))
    assert one.drain("q") == [content]
    assert one.client.broker.memory.used == 0


def test_messages_of_different_channels_may_be_mixed() -> None:
    one = talk()
    other = one.client.channel(2)
    mine, its = message("q", b"abc", piece=1), message("q", b"xyz", piece=1)
    for left, right in zip(mine, its, strict=True):
        one.send(left)
        other.send(right)
    assert one.drain("q") == [b"abc", b"xyz"]


def test_body_frames_of_nothing_cost_nothing() -> None:
    one = talk()
    one.client.feed(PUBLISH + wire.content_header(1, 3) + raw(3, 1, b"") * 10_000)
    assert one.client.broker.memory.used < 1000
    one.client.feed(raw(3, 1, b"abc"))
    assert one.drain("q") == [b"abc"]


@pytest.mark.parametrize(
    ("frames", "why"),
    [
        (wire.content_header(1, 0), NO_METHOD),
        (raw(3, 1, b"x"), NO_METHOD),
        (PUBLISH + PUBLISH, NO_HEADER),
        (
            PUBLISH + marshal(1, Basic.Qos()),
            NO_HEADER,
        ),
        (
            PUBLISH + marshal(1, Basic.Ack(1)),
            NO_HEADER,
        ),
        (PUBLISH + raw(3, 1, b"x"), NO_HEADER),
        (
            PUBLISH + wire.content_header(1, 0, class_id=50),
            "expected content header for class 60, got one for class 50 instead",
        ),
        (
            PUBLISH + wire.content_header(1, 3) + wire.content_header(1, 3),
            NO_BODY,
        ),
        (PUBLISH + wire.content_header(1, 3) + PUBLISH, NO_BODY),
        (
            PUBLISH + wire.content_header(1, 3) + marshal(1, commands.Channel.Close(200, "", 0, 0)),
            NO_BODY,
        ),
        (
            PUBLISH + wire.content_header(1, 3) + raw(3, 1, b"abcd"),
            NO_BODY,
        ),
        (
            PUBLISH + wire.content_header(1, 3) + raw(3, 1, b"ab") + raw(3, 1, b"cd"),
            NO_BODY,
        ),
        (PUBLISH + wire.content_header(1, 0) + raw(3, 1, b""), NO_METHOD),
    ],
    ids=[
        "a header without a method",
        "a body without a method",
        "a publish instead of a header",
        "a method instead of a header",
        "an ack instead of a header",
        "a body instead of a header",
        "a header of another class",
        "a header instead of a body",
        "a publish instead of a body",
        "a close instead of a body",
        "too much of a body",
        "too much of a body in the end",
        "a body of nothing where none is due",
    ],
)
def test_a_frame_that_comes_instead_of_another_ends_the_connection(frames: bytes, why: str) -> None:
    one = talk()
    assert hard(one, frames) == (505, f"UNEXPECTED_FRAME - {why}")


def test_a_message_that_is_too_large_ends_the_channel_before_its_body_comes() -> None:
    one = talk(broker(max_message_bytes=1000))
    size = 2**63
    for wrong in (1001, size):
        assert soft(one, PUBLISH + wire.content_header(1, wrong) + raw(3, 1, b"x" * 500)) == (
            406,
            f"PRECONDITION_FAILED - message size {wrong} is larger than configured max size 1000",
        )
    one.publish("q", b"x" * 1000)
    assert len(one.drain("q")) == 1


def test_what_has_come_of_a_message_is_counted_until_it_is_whole_or_its_channel_closes() -> None:
    one = talk()
    memory = one.client.broker.memory
    one.client.feed(PUBLISH + wire.content_header(1, 100) + raw(3, 1, b"x" * 60))
    assert (memory.unfinished, memory.used) == (60, 0)
    one.client.feed(raw(3, 1, b"x" * 40))
    assert memory.unfinished == 0
    assert memory.used > 100
    one.client.feed(PUBLISH + wire.content_header(1, 100) + raw(3, 1, b"x" * 60))
    hard(one, PUBLISH)
    assert memory.unfinished == 0


def test_unfinished_messages_of_more_than_the_memory_end_the_connection() -> None:
    of = broker(memory_bytes=50_000, max_message_bytes=100_000)
    client = Client(of)
    for number in (1, 2):
        client.channel(number).send(*message("q", b"x" * 100_000, piece=30_000)[:-1])
    ((number, close),) = client.take()
    assert isinstance(close, commands.Connection.Close)
    assert (number, close.reply_code) == (0, 506)
    assert of.memory.unfinished == of.memory.used == 0
    one = talk(of)
    one.send(*message("q", b"x" * 100_000, piece=30_000))
    assert len(one.drain("q")) == 1


@pytest.mark.parametrize("mode", [0, 3, 255])
def test_a_delivery_mode_that_there_is_not_ends_the_channel(mode: int) -> None:
    one = talk()
    assert soft(one, PUBLISH + wire.content_header(1, 0, DELIVERY_MODE, bytes((mode,)))) == (
        406,
        f"PRECONDITION_FAILED - invalid message: {{delivery_mode_unknown,{mode}}}",
    )


@pytest.mark.parametrize(
    "arguments",
    [b"", b"\0\0", b"\0\0\0\0", b"\0\0\5ab\0\0", b"\0\0\0\xffabc\0", b"\0\0\0\0\0\0", b"\0\0\0\1q\0zzz", b"\0\0\1e\0"],
    ids=repr,
)
def test_the_arguments_of_a_publish_are_whole_or_an_error_and_reach_nobody(arguments: bytes) -> None:
    of = broker()
    reader = talk(of)
    reader.declare("abc")
    reader.consume("abc")
    one = talk(of)
    code, text = hard(one, method(1, Basic.Publish, arguments) + wire.content_header(1, 0))
    assert code == 501
    if len(arguments) > 2:
        assert text == f"FRAME_ERROR - cannot decode <<{','.join(map(str, arguments))}>>"
    assert not reader.take()
    assert of.memory.used == 0


def test_a_routing_key_need_not_be_utf_8() -> None:
    one = talk()
    one.bind("q", "amq.fanout")
    one.client.feed(
        method(1, Basic.Publish, b"\0\0" + wire.short(b"amq.fanout") + wire.short(b"\xff\xfe") + b"\0")
        + wire.content_header(1, 0)
    )
    one.send(Basic.Get(queue="q", no_ack=True))
    assert wire.short(b"amq.fanout") + wire.short(b"\xff\xfe") in bytes(one.client.wire.written)


@pytest.mark.parametrize(
    "content_header",
    [
        raw(2, 1, b"\0\x3c" + b"\0" * 10),
        raw(2, 1, b"\0\x3c" + b"\0" * 11),
        wire.content_header(1, 0, 1, b"\0\0"),
        wire.content_header(1, 0, 0x8000, b"\5ab"),
        wire.content_header(1, 0, 0, b"more"),
        wire.content_header(1, 0, HEADERS, b"\0\0\0\5ab"),
        wire.content_header(1, 0, HEADERS, wire.table(b"\1aZ")),
        wire.content_header(1, 0, HEADERS, wire.table(b"\1a" + wire.field_of(b"F", b"Sgarb"))),
        wire.content_header(1, 0, HEADERS, wire.table(b"\2CC" + wire.field_of(b"A", b"Sgarb"))),
        wire.content_header(1, 0, HEADERS, wire.table(b"\3BCC" + wire.field_of(b"A", b"\5garb"))),
    ],
    ids=[
        "no flags",
        "half the flags",
        "more flags",
        "long text",
        "more",
        "long table",
        "unknown type",
        "garbage nested",
        "garbage in CC",
        "garbage in BCC",
    ],
)
def test_a_content_header_that_makes_no_sense_ends_the_connection(content_header: bytes) -> None:
    assert hard(talk(), PUBLISH + content_header) == (541, "INTERNAL_ERROR")


def test_a_content_header_goes_through_as_it_came() -> None:
    one = talk()
    properties = wire.short(b"\xff\xfe") + wire.table(wire.nested(700)) + wire.short(b"\xc3\x28")
    one.client.feed(PUBLISH + wire.content_header(1, 0, 0x8000 | 0x2000 | 0x0400, properties))
    one.send(Basic.Get(queue="q", no_ack=True))
    assert properties in bytes(one.client.wire.written)


@pytest.mark.parametrize(
    ("properties", "why"),
    [
        ({"expiration": "soon"}, "invalid expiration 'soon': no_integer"),
        ({"user_id": "somebody"}, "user_id property set to 'somebody' but authenticated user was 'guest'"),
        ({"headers": {"CC": "q"}}, 'invalid message: {unacceptable_type_in_header,"CC",longstr}'),
        ({"headers": {"BCC": True}}, 'invalid message: {unacceptable_type_in_header,"BCC",bool}'),
        ({"reply_to": "amq.rabbitmq.reply-to"}, "fast reply consumer does not exist"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_properties_that_the_broker_cannot_act_on_end_the_channel(properties: dict[str, Any], why: str) -> None:
    one = talk()
    assert one.fail(*message("q", **properties)) == (406, f"PRECONDITION_FAILED - {why}")
    assert one.count("q") == (0, 0)


def test_a_user_may_say_its_name_and_an_impersonator_any() -> None:
    of = broker()
    one = talk(of)
    one.publish("q", user_id="guest")
    of.users["guest"].tags = ("impersonator",)
    one.publish("q", user_id="somebody")
    assert one.count("q") == (2, 0)


def test_an_immediate_message_is_not_implemented() -> None:
    one = talk()
    frames = message("q")
    frames[0] = Basic.Publish(routing_key="q", immediate=True)
    assert one.fail_hard(*frames) == (540, "NOT_IMPLEMENTED - immediate=true")


# Where messages go.


@pytest.mark.parametrize(
    ("exchange", "code", "why"),
    [
        ("nowhere", 404, "NOT_FOUND - no exchange 'nowhere' in vhost '/'"),
        ("inside", 403, "ACCESS_REFUSED - cannot publish to internal exchange 'inside' in vhost '/'"),
    ],
)
def test_an_exchange_that_takes_nothing_ends_the_channel(exchange: str, code: int, why: str) -> None:
    one = talk()
    one.exchange("inside", "direct", internal=True)
    assert one.fail(*message("q", exchange=exchange)) == (code, why)


def test_a_mandatory_message_that_no_queue_takes_comes_back() -> None:
    one = talk()
    one.publish("nowhere", b"x" * 10, mandatory=True, message_id="m", headers={"a": 1})
    (back,) = one.take()
    assert isinstance(back, Content)
    assert isinstance(back.method, Basic.Return)
    assert (back.method.reply_code, back.method.reply_text) == (312, "NO_ROUTE")
    assert (back.method.exchange, back.method.routing_key) == ("", "nowhere")
    assert (back.body, back.properties.message_id, back.headers) == (b"x" * 10, "m", {"a": 1})
    one.publish("q", b"", mandatory=True)
    one.publish("nowhere", b"")
    assert not one.take()


def test_copies_go_to_more_keys_and_blind_ones_are_not_told() -> None:
    one = talk()
    for name in ("a", "b", "c"):
        one.declare(name)
    one.publish("a", b"x", headers={"CC": ["b", "a"], "BCC": ["c"], "own": 1})
    for name in ("a", "b", "c"):
        got = one.get(name)
        assert got is not None
        assert got.headers == {"CC": ["b", "a"], "own": 1}
        assert one.get(name) is None
    assert one.client.broker.memory.used == 0


def test_copies_without_blind_ones_leave_the_header_as_it_was() -> None:
    one = talk()
    one.declare("r")
    one.publish("q", headers={"CC": ["r"]})
    got = one.get("r")
    assert got is not None
    assert (got.headers, one.count("q")) == ({"CC": ["r"]}, (1, 0))


def test_a_header_that_only_looks_like_a_copy_is_none() -> None:
    one = talk()
    one.publish("q", headers={"own": "CC"})
    got = one.get("q")
    assert got is not None
    assert got.headers == {"own": "CC"}


def test_where_messages_go_is_looked_up_again_when_it_changes() -> None:
    one = talk()
    one.publish("k", b"1", exchange="amq.direct")
    one.bind("q", "amq.direct", "k")
    one.publish("k", b"2", exchange="amq.direct")
    one.ask(Queue.Unbind(queue="q", exchange="amq.direct", routing_key="k"), Queue.UnbindOk)
    one.publish("k", b"3", exchange="amq.direct")
    assert one.drain("q") == [b"2"]
    one.ask(Queue.Delete(queue="q"), Queue.DeleteOk)
    one.publish("q", b"4")
    one.declare("q")
    one.publish("q", b"5")
    assert one.drain("q") == [b"5"]


def test_dead_letters_that_a_message_brought_about_go_at_once() -> None:
    one = talk()
    one.declare("r", {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "q", "x-max-length": 1})
    one.consume("q", "c", no_ack=True)
    one.publish("r", b"1")
    one.publish("r", b"2")
    assert one.bodies() == [b"1"]


# Confirms.


def confirms(one: Talk) -> list[tuple[str, int, bool]]:
    found = []
    for frame in one.take():
        assert isinstance(frame, (Basic.Ack, Basic.Nack))
        found.append((frame.name, frame.delivery_tag, frame.multiple))
    return found


def test_messages_are_confirmed_from_one_on_and_together_when_they_come_together() -> None:
    one = talk()
    one.publish("q")
    one.ask(Confirm.Select(), Confirm.SelectOk)
    one.ask(Confirm.Select(), Confirm.SelectOk)
    one.publish("q")
    assert confirms(one) == [("Basic.Ack", 1, False)]
    one.send(*message("q"), *message("nowhere"), *message("q"))
    assert confirms(one) == [("Basic.Ack", 4, True)]
    assert not one.take()


def test_each_channel_confirms_its_own() -> None:
    one = talk()
    other = one.client.channel(2)
    for each in (one, other):
        each.ask(Confirm.Select(), Confirm.SelectOk)
    data = marshal(1, *message("q")) + marshal(2, *message("q"), *message("q"))
    one.client.feed(data)
    assert confirms(one) == [("Basic.Ack", 1, False)]
    assert confirms(other) == [("Basic.Ack", 2, True)]


def test_a_message_comes_back_before_it_is_confirmed() -> None:
    one = talk()
    one.ask(Confirm.Select(), Confirm.SelectOk)
    one.send(*message("q"), *message("nowhere", mandatory=True), *message("q"))
    back, ack = one.take()
    assert isinstance(back, Content)
    assert isinstance(ack, Basic.Ack)
    assert (ack.delivery_tag, ack.multiple) == (3, True)


def test_what_a_queue_refuses_is_not_confirmed_though_others_took_it() -> None:
    one = talk()
    one.declare("full", {"x-max-length": 0, "x-overflow": "reject-publish"})
    one.bind("full", "amq.fanout")
    one.bind("q", "amq.fanout")
    one.ask(Confirm.Select(), Confirm.SelectOk)
    one.send(*message("q"), *message("q"), *message("", exchange="amq.fanout"), *message("q"))
    assert confirms(one) == [("Basic.Ack", 2, True), ("Basic.Nack", 3, False), ("Basic.Ack", 4, False)]
    assert one.count("q") == (4, 0)


def test_all_that_was_taken_is_confirmed_before_the_channel_or_the_connection_ends() -> None:
    one = talk()
    one.ask(Confirm.Select(), Confirm.SelectOk)
    one.send(*message("q"), *message("q"), commands.Channel.Close(200, "", 0, 0))
    ack, close_ok = one.take()
    assert isinstance(ack, Basic.Ack)
    assert ack.delivery_tag == 2
    assert isinstance(close_ok, commands.Channel.CloseOk)
    other = talk()
    other.ask(Confirm.Select(), Confirm.SelectOk)
    other.send(*message("q"), Queue.Delete(queue="q"), *message("q"), Basic.Ack(delivery_tag=7))
    *_, ack, close = other.take()
    assert isinstance(ack, Basic.Ack)
    assert (ack.delivery_tag, ack.multiple) == (2, True)
    assert isinstance(close, commands.Channel.Close)


@examples
@given(st.lists(st.lists(st.sampled_from(["q", "full", "nowhere"]), max_size=6), max_size=5))
def test_each_message_is_confirmed_once_and_the_refused_ones_as_refused(rounds: list[list[str]]) -> None:
    one = talk()
    one.declare("full", {"x-max-length": 0, "x-overflow": "reject-publish"})
    one.ask(Confirm.Select(), Confirm.SelectOk)
    sent: list[str] = []
    seen: dict[int, str] = {}
    for keys in rounds:
        one.send(*(frame for key in keys for frame in message(key)))
        sent += keys
        for name, tag, multiple in confirms(one):
            tags = [other for other in range(1, tag) if other not in seen] if multiple else []
            for other in (*tags, tag):
                assert other not in seen
                seen[other] = name
        assert seen == {at: "Basic.Nack" if key == "full" else "Basic.Ack" for at, key in enumerate(sent, 1)}


# Deliveries.


@pytest.mark.parametrize("size", [0, 1, 4087, 4088, 4089, 8176, 8177, 20_000])
def test_a_body_is_cut_into_frames_that_the_client_agreed_to(size: int) -> None:
    one = talk(frame_max=4096)
    one.send(*message("q", b"x" * size, piece=4088))
    one.send(Basic.Get(queue="q", no_ack=True))
    frames = [frame for _, frame in one.client.frames()]
    assert isinstance(frames[1], header.ContentHeader)
    bodies = [frame.value for frame in frames[2:] if isinstance(frame, body.ContentBody)]
    assert len(bodies) == len(frames) - 2 == -(-size // 4088)
    assert b"".join(bodies) == b"x" * size
    one.consume("q")
    one.send(*message("q", b"x" * size, piece=4088))
    assert one.bodies() == [b"x" * size]


def test_deliveries_are_numbered_from_one_on_each_channel() -> None:
    one = talk()
    other = one.client.channel(2)
    one.consume("q", "a", no_ack=True)
    for _ in range(2):
        one.publish("q")
    assert [delivered.tag for delivered in one.deliveries()] == [1, 2]
    one.ask(Basic.Cancel(consumer_tag="a"), Basic.CancelOk)
    for _ in range(2):
        one.publish("q")
    assert [getattr(each.get("q"), "tag", None) for each in (one, other)] == [3, 1]


def test_what_is_got_says_how_much_is_left() -> None:
    one = talk()
    for content in (b"1", b"2"):
        one.publish("q", content)
    got = one.get("q", no_ack=False)
    assert got is not None
    assert isinstance(got.method, Basic.GetOk)
    assert (got.method.message_count, got.method.routing_key, got.body, got.redelivered) == (1, "q", b"1", False)
    one.nack(got.tag)
    again = one.get("q", no_ack=False)
    assert again is not None
    assert (again.body, again.redelivered, again.tag) == (b"1", True, 2)


def test_quorum_queues_tell_how_often_a_message_came_back() -> None:
    one = talk()
    one.declare("r", {"x-queue-type": "quorum"}, durable=True)
    one.consume("r")
    one.publish("r", headers={"own": 1})
    counts = []
    for _ in range(3):
        (delivered,) = one.deliveries()
        counts.append(delivered.headers)
        one.nack(delivered.tag)
    assert counts == [{"own": 1}, {"own": 1, "x-delivery-count": 1}, {"own": 1, "x-delivery-count": 2}]


# Acknowledgements.


def holding(count: int, **options: Any) -> Talk:
    """A channel that has so many unacknowledged messages, 1, 2, 3, ..."""
    one = talk(**options)
    for number in range(1, count + 1):
        one.publish("q", b"%d" % number)
    one.consume("q", "c")
    assert len(one.deliveries()) == count
    return one


def unacked(one: Talk) -> list[int]:
    return list(one.client.session.channels[1].unacked)


def test_one_is_acknowledged_or_all_up_to_it_or_all() -> None:
    one = holding(6)
    one.ack(2)
    assert unacked(one) == [1, 3, 4, 5, 6]
    one.ack(4, multiple=True)
    assert unacked(one) == [5, 6]
    one.ack(0, multiple=True)
    assert unacked(one) == []
    one.ack(0, multiple=True)
    assert one.client.broker.memory.used == 0


@pytest.mark.parametrize(
    "wrong",
    [
        Basic.Ack(delivery_tag=4),
        Basic.Ack(delivery_tag=0),
        Basic.Ack(delivery_tag=4, multiple=True),
        Basic.Ack(delivery_tag=2**63 - 1, multiple=True),
        Basic.Nack(delivery_tag=4),
        Basic.Nack(delivery_tag=1, multiple=True),
        Basic.Reject(delivery_tag=0),
        Basic.Reject(delivery_tag=1),
    ],
    ids=lambda one: f"{one.name} {one.delivery_tag}",
)
def test_what_was_not_delivered_or_is_settled_cannot_be_settled(wrong: Any) -> None:
    one = holding(3)
    one.ack(1)
    tag = wrong.delivery_tag
    assert one.fail(wrong) == (406, f"PRECONDITION_FAILED - unknown delivery tag {tag}")
    assert one.count("q") == (2, 0)


def test_only_the_lowest_flag_of_an_acknowledgement_counts() -> None:
    one = holding(2)
    one.client.feed(method(1, Basic.Ack, (2).to_bytes(8, "big") + b"\xfe"))
    assert unacked(one) == [1]


def test_what_was_got_is_acknowledged_as_what_was_delivered() -> None:
    one = holding(1)
    one.ask(Basic.Cancel(consumer_tag="c"), Basic.CancelOk)
    one.publish("q", b"2")
    got = one.get("q", no_ack=False)
    assert got is not None
    one.ack(got.tag)
    assert unacked(one) == [1]
    one.ack(1)
    assert one.client.broker.memory.used == 0


def test_another_channel_cannot_settle_what_is_not_its() -> None:
    one = holding(1)
    assert one.client.channel(2).fail(Basic.Ack(delivery_tag=1))[0] == 406
    assert unacked(one) == [1]


def test_what_is_refused_goes_back_to_its_place_or_for_good() -> None:
    one = holding(5)
    one.ask(Basic.Cancel(consumer_tag="c"), Basic.CancelOk)
    one.send(Basic.Reject(delivery_tag=4, requeue=False), Basic.Reject(delivery_tag=2))
    one.nack(3, multiple=True)
    assert unacked(one) == [5]
    one.nack(0, multiple=True, requeue=False)
    assert one.drain("q") == [b"1", b"2", b"3"]


@examples
@given(st.lists(st.tuples(st.sampled_from(["ack", "nack", "drop"]), st.integers(0, 12), st.booleans()), max_size=10))
def test_settling_is_what_sets_of_tags_would_do(steps: list[tuple[str, int, bool]]) -> None:
    one = holding(10)
    one.ask(Basic.Cancel(consumer_tag="c"), Basic.CancelOk)
    left, back = set(range(1, 11)), set[int]()
    for how, tag, multiple in steps:
        if not (multiple and tag == 0) and tag not in left:
            continue
        settled = {other for other in left if other <= (tag or 99)} if multiple else {tag}
        left -= settled
        if how == "ack":
            one.ack(tag, multiple=multiple)
        else:
            one.nack(tag, multiple=multiple, requeue=how == "nack")
            back |= settled if how == "nack" else set()
        assert unacked(one) == sorted(left)
    one.send(Basic.Recover(requeue=True))
    assert isinstance(one.take()[0], Basic.RecoverOk)
    assert one.drain("q") == [b"%d" % number for number in sorted(left | back)]
    assert one.client.broker.memory.used == 0


def test_what_is_recovered_is_delivered_again_in_order() -> None:
    one = holding(3)
    one.ack(2)
    one.send(Basic.Recover(requeue=True))
    recover_ok, *again = one.take()
    assert isinstance(recover_ok, Basic.RecoverOk)
    assert [
        (delivered.body, delivered.redelivered, delivered.tag) for delivered in again if isinstance(delivered, Content)
    ] == [(b"1", True, 4), (b"3", True, 5)]


def test_recovering_without_an_answer_is_the_same() -> None:
    one = holding(2)
    one.client.feed(method(1, Basic.RecoverAsync, b"\1"))
    assert one.bodies() == [b"1", b"2"]


@pytest.mark.parametrize("command", [Basic.Recover, Basic.RecoverAsync])
def test_recovering_without_the_queue_is_not_implemented(command: Any) -> None:
    client = holding(1).client
    client.feed(method(1, command, b"\0"))
    ((_, close),) = client.take()
    assert isinstance(close, commands.Connection.Close)
    assert (close.reply_code, close.reply_text) == (540, "NOT_IMPLEMENTED - requeue=false")


def test_what_a_closed_channel_held_goes_back_in_order() -> None:
    one = holding(4)
    one.ack(2)
    one.send(commands.Channel.Close(200, "", 0, 0))
    one.take()
    other = one.client.channel(2)
    got = [other.get("q") for _ in range(3)]
    assert [(each.body, each.redelivered) for each in got if each is not None] == [
        (b"1", True),
        (b"3", True),
        (b"4", True),
    ]


def test_a_message_of_a_queue_that_is_gone_can_be_settled() -> None:
    for settle in (Basic.Ack(1), Basic.Nack(1), Basic.Nack(1, requeue=False), Basic.Reject(1)):
        one = holding(2)
        one.send(Queue.Delete(queue="q"))
        assert len(one.take()) == 2  # delete-ok and the cancel
        one.send(settle)
        assert not one.take()
        one.send(commands.Channel.Close(200, "", 0, 0))
        assert one.client.broker.memory.used == 0


def test_acknowledging_what_a_deleted_and_made_again_queue_had_changes_nothing_in_it() -> None:
    one = holding(2)
    one.send(Queue.Delete(queue="q"))
    one.take()
    one.declare("q")
    one.publish("q", b"new")
    one.nack(0, multiple=True)
    assert one.drain("q") == [b"new"]
    assert one.client.broker.memory.used == 0


# Prefetch.


def test_a_consumer_gets_what_its_prefetch_allows_and_more_when_it_acknowledges() -> None:
    one = talk()
    one.qos(2)
    for number in range(5):
        one.publish("q", b"%d" % number)
    one.consume("q")
    assert one.bodies() == [b"0", b"1"]
    one.ack(1)
    assert one.bodies() == [b"2"]
    one.ack(3, multiple=True)
    assert one.bodies() == [b"3", b"4"]


def test_a_prefetch_holds_for_consumers_that_come_later() -> None:
    one = talk()
    one.consume("q", "early")
    one.qos(1)
    one.declare("r")
    one.consume("r", "late")
    for key in ("q", "q", "r", "r"):
        one.publish(key)
    found = [getattr(delivered.method, "consumer_tag", "") for delivered in one.deliveries()]
    assert sorted(found) == ["early", "early", "late"]


def shared(prefetch: int) -> Talk:
    """A channel with consumers of a and b that share a prefetch."""
    one = talk()
    one.qos(prefetch, shared=True)
    for name in "ab":
        one.declare(name)
        one.consume(name, name)
    return one


@pytest.mark.parametrize(
    "settle",
    [
        Basic.Ack(1),
        Basic.Ack(1, multiple=True),
        Basic.Ack(0, multiple=True),
        Basic.Nack(1, requeue=False),
        Basic.Reject(1, requeue=False),
        Basic.Nack(0, multiple=True, requeue=False),
    ],
    ids=lambda one: f"{one.name} {one.delivery_tag}",
)
def test_what_one_consumer_settles_another_may_use_that_shares_its_prefetch(settle: Any) -> None:
    one = shared(1)
    one.publish("a", b"1")
    one.publish("b", b"2")
    assert one.bodies() == [b"1"]
    one.send(settle)
    assert one.bodies() == [b"2"]


def test_what_a_cancelled_consumer_held_is_free_for_others_once_it_is_settled() -> None:
    one = shared(1)
    one.publish("a", b"1")
    one.publish("b", b"2")
    assert one.bodies() == [b"1"]
    one.ask(Basic.Cancel(consumer_tag="a"), Basic.CancelOk)
    one.ack(1)
    assert one.bodies() == [b"2"]


def test_what_goes_back_makes_room_for_other_queues() -> None:
    one = shared(1)
    one.publish("a", b"1")
    one.publish("b", b"2")
    assert one.bodies() == [b"1"]
    one.ask(Basic.Cancel(consumer_tag="a"), Basic.CancelOk)
    one.nack(1)
    assert one.bodies() == [b"2"]
    assert one.count("a") == (1, 0)


def test_a_larger_shared_prefetch_holds_at_once() -> None:
    one = shared(1)
    for number in range(4):
        one.publish("a", b"%d" % number)
    assert one.bodies() == [b"0"]
    one.send(Basic.Qos(prefetch_count=3, global_=True))
    qos_ok, *more = one.take()
    assert isinstance(qos_ok, Basic.QosOk)
    assert [each.body for each in more if isinstance(each, Content)] == [b"1", b"2"]
    one.send(Basic.Qos(prefetch_count=0, global_=True))
    assert len(one.take()) == 2


def test_both_kinds_of_prefetch_hold() -> None:
    one = talk()
    one.qos(2)
    one.qos(3, shared=True)
    for name in "ab":
        one.declare(name)
        one.consume(name)
    for key in "aaabbb":
        one.publish(key)
    assert len(one.deliveries()) == 3


def test_a_shared_prefetch_gives_nobody_more_than_its_own() -> None:
    one = talk()
    one.qos(1)
    one.consume("q")
    one.publish("q", b"1")
    one.publish("q", b"2")
    assert one.bodies() == [b"1"]
    one.qos(3, shared=True)
    assert not one.take()
    one.ack(1)
    assert one.bodies() == [b"2"]


def test_getting_is_not_limited_by_any_prefetch_and_uses_none_up() -> None:
    one = shared(1)
    one.qos(1)
    for _ in range(3):
        one.publish("q")
        assert one.get("q", no_ack=False) is not None
    one.publish("a", b"1")
    assert one.bodies() == [b"1"]


def test_dead_letters_that_an_acknowledgement_brought_about_go_at_once() -> None:
    clock = wire.Clock()
    of = broker(clock)
    one = talk(of)
    one.declare("r", {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "q"})
    one.qos(1)
    for prefetch_shared in (False, True):
        one.consume("r", "c")
        one.publish("r", b"1")
        one.publish("r", b"2")
        one.publish("r", b"dead", expiration="10")
        first = one.deliveries()[-1]
        clock.now += 1
        one.ack(first.tag, multiple=prefetch_shared)
        second = one.deliveries()[-1]
        assert one.drain("q") == [b"dead"]
        one.ack(second.tag)
        one.ask(Basic.Cancel(consumer_tag="c"), Basic.CancelOk)


# A mode for all.


def test_confirms_and_transactions_exclude_each_other() -> None:
    one = talk()
    one.ask(Confirm.Select(), Confirm.SelectOk)
    assert one.fail(Tx.Select()) == (406, "PRECONDITION_FAILED - cannot switch from confirm to tx mode")
    one.ask(Tx.Select(), Tx.SelectOk)
    assert one.fail(Confirm.Select()) == (406, "PRECONDITION_FAILED - cannot switch from tx to confirm mode")
