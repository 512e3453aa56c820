"""A connection: from the protocol header to its end, frame by frame, with RabbitMQ's answers."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import pytest
from pamqp import base, commands, heartbeat

from amqproxy.broker import Broker
from amqproxy.broker.limits import INITIAL_FRAME_MAX
from amqproxy.broker.session import JOIN_BYTES, OWED_BYTES, State
from amqproxy.fields import encode_table
from tests.unit.broker import wire
from tests.unit.broker.wire import PROTOCOL_HEADER, Client, Clock, broker, marshal, message, method, raw, start_ok

Connection, Channel, Basic, Queue = commands.Connection, commands.Channel, commands.Basic, commands.Queue


def greeted(of: Broker | None = None) -> Client:
    """A client that was greeted, and has not introduced itself."""
    client = Client(of or broker(), opened=False)
    client.feed(PROTOCOL_HEADER)
    assert isinstance(only(client), Connection.Start)
    return client


def introduced(of: Broker | None = None, **capabilities: bool) -> Client:
    client = greeted(of)
    client.send(0, start_ok(capabilities=capabilities))
    assert isinstance(only(client), Connection.Tune)
    return client


def only(client: Client) -> base.Frame:
    """The only frame that came, on channel 0."""
    ((number, one),) = client.take()
    assert number == 0
    assert isinstance(one, base.Frame)
    return one


def refusal(client: Client) -> tuple[int, str, tuple[int, int]]:
    """The connection.close that came last: code, text, and the method that failed."""
    number, close = client.take()[-1]
    assert (number, client.session.state) == (0, State.CLOSING)
    assert isinstance(close, Connection.Close)
    return *wire.code_and_text(close), (close.class_id or 0, close.method_id or 0)


def ended(client: Client) -> bool:
    return client.wire.closed and client.session.state is State.CLOSED and not client.broker.sessions


# The protocol header.


def test_a_client_is_greeted_with_what_the_broker_is() -> None:
    client = Client(broker(), opened=False)
    client.feed(PROTOCOL_HEADER)
    start = only(client)
    assert isinstance(start, Connection.Start)
    assert (start.version_major, start.version_minor, start.locales) == (0, 9, "en_US")
    assert set(start.mechanisms.split()) == {"PLAIN", "AMQPLAIN"}
    assert start.server_properties["capabilities"]["publisher_confirms"] is True  # type: ignore[index,call-overload]  # it is a table


@pytest.mark.parametrize("cut", range(1, 8))
def test_the_protocol_header_may_come_in_pieces(cut: int) -> None:
    client = Client(broker(), opened=False)
    client.feed(PROTOCOL_HEADER[:cut])
    assert not client.wire.written
    client.feed(PROTOCOL_HEADER[cut:])
    assert isinstance(only(client), Connection.Start)


def test_the_header_of_an_older_version_is_taken_too() -> None:
    client = Client(broker(), opened=False)
    client.feed(b"AMQP\x01\x01\x00\x09")
    assert isinstance(only(client), Connection.Start)


@pytest.mark.parametrize(
    "garbage",
    [
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"AMQP\x00\x01\x00\x00",
        b"AMQP\x03\x01\x00\x00",
        b"AMQP\x00\x00\x09\x02",
        b"\x00" * 8,
        marshal(0, heartbeat.Heartbeat()),
    ],
    ids=["HTTP", "TLS", "AMQP 1.0", "SASL", "0-9-2", "zeros", "a frame"],
)
def test_garbage_is_told_what_we_speak_and_closed(garbage: bytes) -> None:
    client = Client(broker(), opened=False)
    client.feed(garbage)
    assert bytes(client.wire.written) == PROTOCOL_HEADER
    assert ended(client)


def test_the_whole_handshake_may_come_at_once() -> None:
    client = Client(broker(), opened=False)
    client.feed(wire.handshake() + marshal(1, Channel.Open()))
    names = [type(one) for _, one in client.take()]
    assert names == [Connection.Start, Connection.Tune, Connection.OpenOk, Channel.OpenOk]


def test_a_client_that_says_nothing_is_closed_after_ten_seconds() -> None:
    clock = Clock()
    of = broker(clock)
    clients = [Client(of, opened=False), greeted(of), introduced(of)]
    clock.now += 9.9
    of.run_timers()
    assert not any(client.wire.closed for client in clients)
    clock.now += 0.1
    of.run_timers()
    assert all(ended(client) and not client.wire.written for client in clients)


def test_a_client_that_is_open_may_say_nothing() -> None:
    clock = Clock()
    of = broker(clock)
    client = Client(of)
    clock.now += 1000
    assert of.run_timers() is None
    assert not client.wire.closed


def test_a_thousand_that_say_nothing_hinder_nobody_and_are_gone_in_the_end() -> None:
    clock = Clock()
    of = broker(clock)
    kept = Client(of).channel()
    for _ in range(1000):
        of.connection(wire.Wire())
    kept.declare("q")
    clock.now += 10
    of.run_timers()
    assert of.sessions == {kept.client.session}


# Authentication.


def test_the_wrong_password_is_refused_by_name_if_the_client_wants_to_know() -> None:
    client = greeted()
    client.send(0, start_ok("guest", "wrong", {"authentication_failure_close": True}))
    assert refusal(client) == (
        403,
        "ACCESS_REFUSED - Login was refused using authentication mechanism PLAIN. For details see the broker logfile.",
        (0, 0),
    )
    client.send(0, Connection.CloseOk())
    assert ended(client)


@pytest.mark.parametrize(("user", "password"), [("guest", "wrong"), ("nobody", "guest"), ("", "")])
def test_the_wrong_password_is_refused_without_a_word_otherwise(user: str, password: str) -> None:
    client = greeted()
    client.send(0, start_ok(user, password, {}))
    assert not client.wire.written
    assert ended(client)


def test_amqplain_is_as_good_as_plain() -> None:
    client = greeted()
    response = encode_table({"LOGIN": "guest", "PASSWORD": "guest"})[4:]
    fields = wire.table(b"") + wire.short(b"AMQPLAIN") + wire.table(response) + wire.short(b"en_US")
    client.feed(method(0, Connection.StartOk, fields))
    assert isinstance(only(client), Connection.Tune)


@pytest.mark.parametrize("mechanism", ["EXTERNAL", "", "plain"])
def test_a_mechanism_that_there_is_not_closes_the_connection(mechanism: str) -> None:
    client = greeted()
    client.send(0, Connection.StartOk({}, mechanism, "x", "en_US"))
    assert ended(client)


@pytest.mark.parametrize(
    "field",
    [
        wire.field_of(b"F", b"\5garb"),
        wire.field_of(b"F", wire.nested(700)),
        b"V",
        wire.field_of(b"A", b"Sgarb"),
        b"T" + b"\xff" * 8,
    ],
    ids=["garbage", "deep", "void", "array", "time"],
)
def test_capabilities_that_are_none_harm_nobody(field: bytes) -> None:
    of = broker()
    client = greeted(of)
    properties = wire.table(wire.short(b"capabilities") + field)
    client.feed(
        method(
            0,
            Connection.StartOk,
            properties + wire.short(b"PLAIN") + wire.table(b"\0guest\0guest") + wire.short(b"en_US"),
        )
    )
    if not client.wire.closed:
        client.send(0, Connection.TuneOk(2047, 131072, 0), Connection.Open("/"))
        client.send(1, Channel.Open(), Queue.Declare(queue="q"), Basic.Consume(queue="q"))
    other = Client(of).channel()
    other.declare("q")
    other.ask(Queue.Delete(queue="q"), Queue.DeleteOk)


# Tuning and opening.


@pytest.mark.parametrize(
    ("tune", "why"),
    [
        (
            {"frame_max": 0},
            "NOT_ALLOWED - negotiated frame_max = 0 (no limit) is higher than the maximum allowed value (131072)",
        ),
        (
            {"frame_max": 4095},
            "NOT_ALLOWED - negotiated frame_max = 4095 is lower than the minimum allowed value (4096)",
        ),
        (
            {"frame_max": 2**32 - 1},
            "NOT_ALLOWED - negotiated frame_max = 4294967295 is higher than the maximum allowed value (131072)",
        ),
        (
            {"channel_max": 0},
            "NOT_ALLOWED - negotiated channel_max = 0 (no limit) is higher than the maximum allowed value (2047)",
        ),
        (
            {"channel_max": 2048},
            "NOT_ALLOWED - negotiated channel_max = 2048 is higher than the maximum allowed value (2047)",
        ),
    ],
    ids=str,
)
def test_no_limit_is_more_than_what_was_offered(tune: dict[str, int], why: str) -> None:
    client = introduced()
    client.send(0, Connection.TuneOk(**{"channel_max": 2047, "frame_max": 131072, "heartbeat": 0} | tune))
    assert refusal(client) == (530, why, (10, 31))


def test_a_virtual_host_that_there_is_not_is_not_found() -> None:
    client = introduced()
    client.send(0, Connection.TuneOk(2047, 131072, 0), Connection.Open("nowhere"))
    assert refusal(client) == (530, "NOT_ALLOWED - vhost nowhere not found", (10, 40))


def test_a_user_without_permissions_is_not_let_in() -> None:
    of = broker()
    of.add_vhost("other")
    client = introduced(of)
    client.send(0, Connection.TuneOk(2047, 131072, 0), Connection.Open("other"))
    assert refusal(client) == (530, "NOT_ALLOWED - access to vhost 'other' refused for user 'guest'", (10, 40))


@pytest.mark.parametrize(
    "stage", [lambda: greeted(), lambda: introduced(), lambda: Client(broker())], ids=["greeted", "introduced", "open"]
)
def test_a_method_out_of_turn_ends_the_connection(stage: Any) -> None:
    client = stage()
    state = client.session.state
    client.send(0, Connection.TuneOk(1, 4096, 0) if state is State.STARTING else start_ok())
    if state is State.STARTING:
        assert ended(client)
    elif state is State.TUNING:
        assert refusal(client) == (503, "COMMAND_INVALID - unexpected method", (10, 11))
    else:
        assert refusal(client) == (504, "CHANNEL_ERROR - unexpected method in connection state running", (10, 11))


def test_methods_of_channels_have_no_place_on_channel_0() -> None:
    client = Client(broker())
    client.send(0, Channel.Open())
    assert refusal(client)[0] == 504


def test_a_secret_may_be_renewed() -> None:
    client = Client(broker())
    client.send(0, Connection.UpdateSecret("new", "because"))
    assert isinstance(only(client), Connection.UpdateSecretOk)


def test_a_client_may_give_up_during_the_handshake() -> None:
    for client in (greeted(), introduced()):
        client.send(0, Connection.Close(200, "changed my mind", 0, 0))
        assert isinstance(only(client), Connection.CloseOk)
        assert not client.broker.sessions


# Frames.


def test_a_frame_may_be_as_large_as_was_agreed_and_eight_bytes_more() -> None:
    client = Client(broker(), frame_max=4096)
    talk = client.channel()
    talk.declare("q")
    for size, fits in ((4088, True), (4096, True), (4097, False)):
        client.feed(marshal(1, *message("q")[:1]) + wire.content_header(1, size) + raw(3, 1, b"x" * size))
        if fits:
            assert talk.count("q")[0]
        else:
            assert refusal(client) == (
                501,
                "FRAME_ERROR - type 3, all octets = <<>>: {frame_too_large,4097,4088}",
                (0, 0),
            )


def test_a_frame_that_is_too_large_is_refused_when_its_header_came() -> None:
    for size in (131073, 2**31, 2**32 - 1):
        client = Client(broker())
        client.channel()
        client.feed(b"\x03\0\1" + size.to_bytes(4, "big"))
        assert refusal(client)[1] == f"FRAME_ERROR - type 3, all octets = <<>>: {{frame_too_large,{size},131064}}"
        client.feed(b"x" * 1000)  # and what comes of it is nothing any more
        assert not client.wire.written


def test_before_it_is_tuned_a_connection_takes_8192_bytes() -> None:
    for size, fits in ((INITIAL_FRAME_MAX, True), (INITIAL_FRAME_MAX + 1, False)):
        client = greeted()
        filler = size - len(marshal(0, start_ok())) + 8 - len(wire.short(b"x") + wire.field_of(b"S", b""))
        start = start_ok()
        start.client_properties = {**(start.client_properties or {}), "x": "x" * filler}
        assert len(marshal(0, start)) == size + 8
        client.send(0, start)
        if fits:
            assert isinstance(only(client), Connection.Tune)
        else:
            assert ended(client)


@pytest.mark.parametrize("end", [b"\0", b"\xcd", b"\xff"])
def test_a_frame_that_does_not_end_as_it_should_is_an_error(end: bytes) -> None:
    client = Client(broker())
    client.channel()
    client.feed(raw(1, 1, b"abcd", end))
    assert refusal(client) == (
        501,
        f'FRAME_ERROR - type 1, all octets = <<"abcd">>: {{invalid_frame_end_marker,{end[0]}}}',
        (0, 0),
    )


def test_a_frame_that_is_too_large_is_just_that_however_it_ends() -> None:
    client = Client(broker(), frame_max=4096)
    client.channel()
    client.feed(raw(1, 1, b"x" * 5000, b"\0"))
    assert "frame_too_large" in refusal(client)[1]


@pytest.mark.parametrize("number", [0, 1, 7])
@pytest.mark.parametrize("kind", [0, 4, 5, 7, 9, 255])
def test_a_frame_of_an_unknown_kind_is_an_error(kind: int, number: int) -> None:
    client = Client(broker())
    client.channel()
    client.feed(raw(kind, number, b"abc"))
    assert refusal(client) == (501, f'FRAME_ERROR - type {kind}, all octets = <<"abc">>: unknown_frame', (0, 0))


@pytest.mark.parametrize("number", [0, 1, 7])
@pytest.mark.parametrize(("kind", "payload"), [(1, b""), (1, b"\0\x3c\0"), (2, b""), (2, b"\0" * 11)])
def test_a_frame_that_is_cut_short_is_an_error(kind: int, payload: bytes, number: int) -> None:
    client = Client(broker())
    client.channel()
    client.feed(raw(kind, number, payload))
    code, text, _ = refusal(client)
    assert (code, text[-len("unknown_frame") :]) == (501, "unknown_frame")


def test_a_method_that_there_is_not_closes_the_socket_without_a_word() -> None:
    for number in (0, 1):
        client = Client(broker())
        client.channel()
        client.feed(raw(1, number, b"\0\x3c\0\xff"))
        assert not client.wire.written
        assert ended(client)


def test_arguments_that_are_cut_short_are_an_error() -> None:
    client = Client(broker())
    client.channel()
    client.feed(method(1, Queue.Declare, b"\0\0\5ab"))
    assert refusal(client) == (501, "FRAME_ERROR - cannot decode <<0,0,5,97,98>>", (50, 10))


def test_an_error_about_very_much_is_cut_to_what_a_text_holds() -> None:
    client = Client(broker())
    client.channel()
    client.feed(method(1, Queue.Declare, b"\0\0" + b"x" * 100_000))
    code, text, _ = refusal(client)
    assert (code, len(text.encode()), text[-3:]) == (501, 255, "...")


def test_names_that_are_no_utf_8_are_an_error_of_no_method() -> None:
    client = Client(broker())
    client.channel()
    client.feed(method(1, Queue.Declare, b"\0\0\1\xff\0" + wire.table(b"")))
    assert refusal(client) == (501, "FRAME_ERROR - Malformed UTF-8 in shortstr", (0, 0))


def test_tables_700_deep_are_an_argument_like_others() -> None:
    client = Client(broker())
    talk = client.channel()
    deep = wire.short(b"x-unknown") + wire.field_of(b"F", wire.nested(700))
    client.feed(method(1, Queue.Declare, b"\0\0\1q\0" + wire.table(deep)))
    assert isinstance(talk.take()[0], Queue.DeclareOk)
    for name in (b"x-max-length", b"x-overflow", b"x-dead-letter-exchange"):
        deep = wire.short(name) + wire.field_of(b"F", wire.nested(700))
        for queue in (b"q", b"r"):
            client.feed(method(1, Queue.Declare, b"\0\0\1" + queue + b"\0" + wire.table(deep)))
            (close,) = talk.take()
            assert isinstance(close, Channel.Close)
            assert close.reply_code == 406
            talk.send(Channel.CloseOk(), Channel.Open())
            talk.take()


def test_garbage_nested_in_a_table_closes_the_socket_without_a_word() -> None:
    client = Client(broker())
    client.channel()
    garbage = wire.short(b"a") + wire.field_of(b"F", b"\5garb")
    client.feed(method(1, Queue.Declare, b"\0\0\1q\0" + wire.table(garbage)))
    assert not client.wire.written
    assert ended(client)


# Channels.


def test_channels_are_opened_and_closed_and_opened_again() -> None:
    client = Client(broker())
    for number in (1, 2047, 65535):
        talk = client.channel(number)
        talk.ask(Channel.Close(200, "", 0, 0), Channel.CloseOk)
        talk.ask(Channel.Open(), Channel.OpenOk)
    assert sorted(client.session.channels) == [1, 2047, 65535]


def test_a_channel_that_is_open_cannot_be_opened() -> None:
    client = Client(broker())
    assert client.channel().fail_hard(Channel.Open()) == (504, "CHANNEL_ERROR - second 'channel.open' seen")


def test_on_a_channel_that_is_not_open_nothing_else_can_be_done() -> None:
    client = Client(broker())
    client.send(1, Basic.Qos())
    assert refusal(client) == (504, "CHANNEL_ERROR - expected 'channel.open'", (60, 10))
    client = Client(broker())
    client.feed(wire.content_header(1, 0))
    assert refusal(client)[0] == 505


def test_there_are_as_many_channels_as_was_agreed_and_those_being_closed_count() -> None:
    client = introduced()
    client.send(0, Connection.TuneOk(2, 131072, 0), Connection.Open("/"))
    client.take()
    client.channel(1)
    client.channel(9).send(Basic.Ack(delivery_tag=5))
    client.take()
    client.send(3, Channel.Open())
    assert refusal(client)[:2] == (
        530,
        "NOT_ALLOWED - number of channels opened (2) has reached the negotiated channel_max (2)",
    )


def test_an_error_of_a_channel_leaves_the_others_alone() -> None:
    client = Client(broker())
    one, other = client.channel(1), client.channel(2)
    one.send(Queue.Declare(queue="nowhere", passive=True))
    (close,) = one.take()
    assert isinstance(close, Channel.Close)
    assert (close.reply_code, close.class_id, close.method_id) == (404, 50, 10)
    assert close.reply_text == "NOT_FOUND - no queue 'nowhere' in vhost '/'"
    other.declare("q")


def test_what_comes_to_a_channel_that_failed_is_passed_over_until_it_agrees() -> None:
    client = Client(broker())
    talk = client.channel()
    talk.declare("q")
    talk.send(
        Queue.Declare(queue="nowhere", passive=True),
        *message("q", b"lost"),
        Queue.Declare(queue="other"),
        Channel.Open(),
    )
    assert len(talk.take()) == 1
    talk.ask(Channel.Close(200, "", 0, 0), Channel.CloseOk)
    talk.send(Channel.CloseOk())
    talk.ask(Channel.Open(), Channel.OpenOk)
    assert talk.count("q") == (0, 0)
    assert "other" not in client.session.vhost.queues


def test_a_close_ok_that_nobody_asked_for_is_an_error() -> None:
    client = Client(broker())
    assert client.channel().fail_hard(Channel.CloseOk()) == (503, "COMMAND_INVALID - unimplemented method")


@pytest.mark.parametrize(
    "one",
    [Basic.Deliver("c", 1, False, "", ""), Queue.DeclareOk("q", 0, 0), Connection.Blocked("no"), Basic.RecoverOk()],
    ids=lambda one: str(one.name),
)
def test_what_only_a_broker_says_is_not_implemented_here(one: base.Frame) -> None:
    assert Client(broker()).channel().fail_hard(one) == (503, "COMMAND_INVALID - unimplemented method")


def test_access_requests_of_old_clients_are_granted() -> None:
    client = Client(broker())
    client.channel()
    client.feed(raw(1, 1, b"\0\x1e\0\x0a" + wire.short(b"/data") + b"\x1f"))
    assert bytes(client.wire.written) == raw(1, 1, b"\0\x1e\0\x0b\0\x01")


# Errors of the connection.


def test_after_an_error_all_is_passed_over_but_the_end() -> None:
    of = broker()
    client = Client(of)
    talk = client.channel()
    talk.declare("q")
    rest = marshal(1, Queue.Declare(queue="other"), *message("q", b"x" * 100)) + marshal(0, heartbeat.Heartbeat())
    client.feed(marshal(0, start_ok()) + rest)
    refusal(client)
    client.feed(rest)
    assert not client.wire.written
    client.feed(rest + marshal(0, Connection.CloseOk()))
    assert ended(client)
    assert list(of.vhosts["/"].queues) == ["q"]
    assert len(of.vhosts["/"].queues["q"].ready) == 0


def test_the_answer_to_an_error_may_come_in_the_same_piece_and_be_cut_anywhere() -> None:
    pipeline = marshal(0, start_ok()) + marshal(1, *message("q", b"x" * 50)) + marshal(0, Connection.CloseOk())
    for cut in range(len(pipeline)):
        client = Client(broker())
        client.channel()
        client.feed(pipeline[:cut])
        client.feed(pipeline[cut:])
        assert ended(client), cut


def test_a_client_that_closes_too_while_it_is_closed_is_answered() -> None:
    client = Client(broker())
    client.send(0, start_ok())
    refusal(client)
    client.send(0, Connection.Close(200, "", 0, 0))
    assert isinstance(only(client), Connection.CloseOk)
    assert not client.broker.sessions


def test_who_does_not_answer_is_closed_after_a_while() -> None:
    clock = Clock()
    of = broker(clock, closing_seconds=30)
    client = Client(of)
    client.send(0, start_ok())
    clock.now += 29
    of.run_timers()
    assert not client.wire.closed
    clock.now += 1
    of.run_timers()
    assert ended(client)


def test_a_broker_that_ends_says_nothing_more_to_who_is_told_to_go_already() -> None:
    client = Client(broker())
    client.send(0, start_ok())
    client.take()
    client.broker.close()
    assert not client.wire.written
    assert ended(client)


def test_an_error_says_nothing_twice() -> None:
    client = Client(broker())
    client.send(0, start_ok(), start_ok())
    client.send(0, start_ok())
    assert len(client.take()) == 1


# The end.


def test_a_client_that_closes_is_answered_and_closes_the_socket_itself() -> None:
    clock = Clock()
    of = broker(clock)
    client = Client(of)
    client.channel().declare("q", exclusive=True)
    client.send(0, Connection.Close(200, "bye", 0, 0))
    assert isinstance(only(client), Connection.CloseOk)
    assert (of.sessions, client.wire.closed, of.vhosts["/"].queues) == (set(), False, {})
    client.hang_up()
    assert of.run_timers() is None


def test_who_leaves_the_socket_open_behind_the_end_has_it_closed() -> None:
    clock = Clock()
    of = broker(clock)
    client = Client(of)
    client.send(0, Connection.Close(200, "bye", 0, 0))
    clock.now += 31
    of.run_timers()
    assert client.wire.closed


def test_a_connection_that_is_over_says_and_takes_nothing() -> None:
    for client in (Client(broker()), Client(broker()), Client(broker())):
        talk = client.channel()
        talk.declare("q")
    Client(broker())
    client.session.close()
    client.take()
    client.feed(marshal(1, Queue.Declare(queue="r")) + marshal(0, Connection.Close(200, "", 0, 0)))
    client.session.pause()
    client.session.resume()
    client.session.lost()
    client.session.close()
    assert not client.wire.written
    assert list(client.broker.vhosts["/"].queues) == ["q"]


def test_a_connection_is_called_by_where_its_client_is() -> None:
    assert str(broker().connection(wire.Wire(), "127.0.0.1:5000")) == "connection 127.0.0.1:5000"


def test_a_connection_that_is_gone_leaves_nothing_behind() -> None:
    of = broker()
    vhost = of.vhosts["/"]
    client, other = Client(of), Client(of)
    talk, reader = client.channel(), other.channel()
    talk.declare("q")
    talk.declare("own", exclusive=True)
    talk.declare("auto", auto_delete=True)
    talk.consume("q")
    talk.consume("auto")
    talk.consume("amq.rabbitmq.reply-to", no_ack=True)
    talk.publish("q", b"1")
    talk.publish("auto", b"2")
    talk.send(*message("q", b"half", piece=2)[:3])
    client.hang_up()
    client.hang_up()
    assert of.sessions == {other.session}
    assert (list(vhost.queues), of.replies) == (["q"], {})
    assert reader.count("q") == (1, 0)
    got = reader.get("q")
    assert got is not None
    assert (got.body, got.redelivered) == (b"1", True)
    assert of.memory.used == 0


def test_nothing_holds_on_to_a_connection_that_is_gone() -> None:
    of = broker()
    other = Client(of).channel()
    client = Client(of)
    talk = client.channel()
    talk.declare("q")
    talk.declare("own", exclusive=True)
    talk.consume("q", "c")
    talk.consume("amq.rabbitmq.reply-to", no_ack=True)
    talk.publish("q", b"ask", reply_to="amq.rabbitmq.reply-to")
    request = other.get("q", no_ack=False)
    assert request is None  # its own consumer has it
    (delivered,) = talk.deliveries()
    talk.nack(delivered.tag)
    other.consume("q")
    talk.take()
    reply_to = delivered.properties.reply_to
    assert reply_to is not None
    other.publish(reply_to, b"answer")
    other.publish("own", b"x")
    client.hang_up()
    other.publish("q", b"after")
    gone = weakref.ref(client.session)
    del client, talk, delivered, request
    gc.collect()
    assert gone() is None


# Heartbeats.


def beating(heartbeat_seconds: int = 10) -> tuple[Clock, Client]:
    clock = Clock()
    client = Client(broker(clock), heartbeat=heartbeat_seconds)
    return clock, client


def pass_time(clock: Clock, client: Client, seconds: float) -> None:
    for _ in range(int(seconds)):
        clock.now += 1
        client.broker.run_timers()


def test_a_silent_connection_is_sent_heartbeats() -> None:
    clock, client = beating()
    pass_time(clock, client, 11)
    beats = list(client.frames())
    assert beats
    assert all(isinstance(one, heartbeat.Heartbeat) and number == 0 for number, one in beats)
    pass_time(clock, client, 5)
    assert len(list(client.frames())) == 1


def test_what_is_sent_is_a_heartbeat_too() -> None:
    clock, client = beating()
    talk = client.channel()
    for _ in range(10):
        pass_time(clock, client, 4)
        talk.ask(Basic.Qos(), Basic.QosOk)


def test_a_client_that_is_silent_for_two_intervals_is_closed() -> None:
    clock, client = beating()
    pass_time(clock, client, 20)
    assert not client.wire.closed
    pass_time(clock, client, 11)
    assert ended(client)


def test_any_byte_is_a_sign_of_life() -> None:
    clock, client = beating()
    beat = marshal(0, heartbeat.Heartbeat())
    for byte in beat * 3:
        pass_time(clock, client, 9)
        client.feed(bytes((byte,)))
    assert not client.wire.closed
    assert client.session.state is State.RUNNING


def test_without_heartbeats_silence_is_no_end() -> None:
    clock, client = beating(0)
    pass_time(clock, client, 1000)
    assert (client.wire.closed, list(client.frames())) == (False, [])


@pytest.mark.parametrize("number", [1, 5])
def test_a_heartbeat_has_its_place_on_channel_0(number: int) -> None:
    client = Client(broker())
    client.channel(1)
    client.feed(raw(8, number, b""))
    assert refusal(client)[0] == 505


def test_a_heartbeat_carries_nothing() -> None:
    client = Client(broker())
    client.feed(raw(8, 0, b"x"))
    assert refusal(client) == (501, 'FRAME_ERROR - type 8, all octets = <<"x">>: unknown_frame', (0, 0))


def test_a_client_that_is_blocked_is_not_closed_for_its_silence() -> None:
    clock, client = beating()
    client.broker.block()
    client.channel().publish("q")
    pass_time(clock, client, 100)
    assert not client.wire.closed
    client.broker.unblock()
    pass_time(clock, client, 31)
    assert client.wire.closed


def test_a_client_that_reads_nothing_is_alive_as_long_as_it_says_so() -> None:
    clock, client = beating()
    client.session.pause()
    for _ in range(10):
        pass_time(clock, client, 10)
        client.send(0, heartbeat.Heartbeat())
    assert not client.wire.closed
    pass_time(clock, client, 31)
    assert client.wire.closed


# Sockets that are full, brokers that are.


def test_what_is_said_in_one_turn_is_written_at_once() -> None:
    client = Client(broker())
    client.wire.writes.clear()
    client.feed(b"".join(marshal(number, Channel.Open()) for number in range(1, 20)))
    assert len(client.wire.writes) == 1


def test_what_is_much_is_not_gathered() -> None:
    client = Client(broker())
    talk = client.channel()
    talk.declare("q")
    for _ in range(10):
        talk.publish("q", b"x" * JOIN_BYTES)
    client.wire.writes.clear()
    talk.send(*(Basic.Get(queue="q", no_ack=True) for _ in range(10)))
    assert len(client.wire.writes) >= 10
    assert len(talk.deliveries()) == 10


def test_while_its_socket_is_full_a_client_is_read_but_not_delivered_to() -> None:
    of = broker()
    client, other = Client(of), Client(of)
    talk, publisher = client.channel(), other.channel()
    talk.declare("q")
    talk.consume("q", no_ack=True)
    client.session.pause()
    assert client.wire.reading  # it may have to be heard before it reads
    for number in range(5):
        publisher.publish("q", b"%d" % number)
    assert not client.wire.written
    assert publisher.count("q") == (5, 1)
    client.session.resume()
    assert client.wire.reading
    assert talk.bodies() == [b"0", b"1", b"2", b"3", b"4"]


def test_what_is_given_when_the_socket_has_room_stops_when_it_is_full_again() -> None:
    of = broker()
    client, other = Client(of), Client(of)
    talk, publisher = client.channel(), other.channel()
    for name in "abc":
        talk.declare(name)
        talk.consume(name, no_ack=True)
    client.session.pause()
    for name in "abc":
        publisher.publish(name, name.encode() * JOIN_BYTES)
    write = client.wire.write

    def full(data: bytes) -> None:
        write(data)
        client.session.pause()

    client.wire.write = full  # type: ignore[method-assign]  # a socket that is full at once
    for name in "abc":
        client.session.resume()
        assert talk.bodies() == [name.encode() * JOIN_BYTES]
    client.session.resume()
    assert not talk.take()


def test_whose_prefetch_is_used_up_is_given_nothing_when_the_socket_has_room() -> None:
    client = Client(broker())
    talk = client.channel()
    talk.declare("q")
    talk.qos(1)
    talk.consume("q")
    talk.publish("q", b"1")
    talk.publish("q", b"2")
    assert talk.bodies() == [b"1"]
    client.session.pause()
    client.session.resume()
    assert not talk.take()
    talk.ack(1)
    assert talk.bodies() == [b"2"]


def test_a_client_that_does_not_read_cannot_make_the_broker_write() -> None:
    client = Client(broker())
    talk = client.channel()
    talk.declare("q")
    talk.publish("q", b"x" * 100_000)
    write = client.wire.write

    def full(data: bytes) -> None:
        write(data)
        client.session.pause()

    client.wire.write = full  # type: ignore[method-assign]  # a socket that is full at once
    asked = b"".join(marshal(1, Basic.Get(queue="q"), Basic.Nack(delivery_tag=tag + 1)) for tag in range(200))
    client.feed(asked)
    assert OWED_BYTES < len(client.wire.written) < OWED_BYTES + 300_000
    assert not client.wire.reading
    for turn in range(2, 10):
        client.session.resume()
        assert len(client.wire.written) < turn * (OWED_BYTES + 300_000)
    assert len(talk.deliveries()) == 200


def test_while_its_socket_is_full_a_client_gets_no_replies_either_but_later() -> None:
    of = broker()
    client, other = Client(of), Client(of)
    talk, server = client.channel(), other.channel()
    talk.declare("q")
    talk.consume("amq.rabbitmq.reply-to", "mine", no_ack=True)
    talk.publish("q", reply_to="amq.rabbitmq.reply-to")
    request = server.get("q")
    assert request is not None
    assert request.properties.reply_to is not None
    client.session.pause()
    for number in range(3):
        server.publish(request.properties.reply_to, b"%d" % number)
    assert not client.wire.written
    assert of.memory.used > 0
    client.session.resume()
    assert (talk.bodies(), of.memory.used) == ([b"0", b"1", b"2"], 0)


def test_a_broker_that_is_full_listens_no_more_to_who_publishes_and_tells_them() -> None:
    of = broker()
    publisher, reader, old = Client(of), Client(of), Client(of, capabilities={})
    talk, quiet = publisher.channel(), old.channel()
    talk.declare("q")
    of.block("low on paper")
    for content in (b"1", b"2", b"3"):
        talk.publish("q", content)
    quiet.publish("q", b"4")
    assert [(number, getattr(one, "reason", "")) for number, one in publisher.take()] == [(0, "low on paper")]
    assert not old.take()
    assert (publisher.wire.reading, old.wire.reading, reader.wire.reading) == (False, False, True)
    assert reader.channel().drain("q") == []
    of.unblock()
    assert [type(one) for _, one in publisher.take()] == [Connection.Unblocked]
    assert not old.take()
    assert (publisher.wire.reading, old.wire.reading) == (True, True)
    assert sorted(talk.drain("q")) == [b"1", b"2", b"3", b"4"]


def test_a_client_is_blocked_once_and_only_while_the_broker_is() -> None:
    client = Client(broker())
    client.session.block()
    assert (client.wire.reading, client.take()) == (True, [])
    client.broker.block()
    client.session.block()
    client.session.block()
    client.broker.flush()
    assert (client.wire.reading, len(client.take())) == (False, 1)


def test_a_blocked_client_goes_on_where_it_was_cut_off() -> None:
    of = broker()
    client = Client(of)
    talk = client.channel()
    talk.declare("q")
    of.block()
    data = marshal(1, *message("q", b"1"), *message("q", b"2")) + marshal(2, Channel.Open())
    client.feed(data[:-5])
    client.feed(data[-5:])
    of.unblock()
    assert [number for number, _ in client.take()] == [0, 0, 2]
    assert talk.drain("q") == [b"1", b"2"]
