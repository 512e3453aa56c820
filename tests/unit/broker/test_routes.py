"""Routes: looked up once for each exchange and key, again when something changed, and never too many of them."""

from __future__ import annotations

import gc
import weakref

import pytest

from amqproxy.broker.errors import ProtocolError
from amqproxy.broker.routes import KEPT, Routes
from tests.unit.broker import wire
from tests.unit.broker.wire import Client, Talk, broker


def talk() -> Talk:
    one = Client(broker()).channel()
    one.declare("q")
    return one


def routes(one: Talk) -> Routes:
    return Routes(one.client.session.channels[1])


def arguments(exchange: bytes, key: bytes, flags: bytes = b"\0") -> bytes:
    return wire.short(exchange) + wire.short(key) + flags


def test_a_route_is_looked_up_once() -> None:
    one = talk()
    known = routes(one)
    route = known.find(arguments(b"", b"q"))
    assert route.targets == (one.client.session.vhost.queues["q"],)
    assert (route.key, route.mandatory, route.address) == ("q", False, b"\0\1q")
    assert known.find(arguments(b"", b"q")) is route
    mandatory = known.find(arguments(b"", b"q", b"\1"))
    assert mandatory is not route
    assert mandatory.mandatory


@pytest.mark.parametrize("change", ["declare", "delete", "bind", "exchange", "permissions"])
def test_a_route_is_looked_up_again_when_something_changed(change: str) -> None:
    one = talk()
    known = routes(one)
    route = known.find(arguments(b"", b"q"))
    vhost = one.client.session.vhost
    if change == "declare":
        one.declare("other")
    elif change == "delete":
        vhost.delete_queue(vhost.queues["q"])
    elif change == "bind":
        one.bind("q", "amq.fanout")
    elif change == "exchange":
        one.exchange("e", "topic")
    else:
        one.client.broker.set_permissions("guest", "/")
    assert known.find(arguments(b"", b"q")) is not route


def test_what_a_user_may_not_do_any_more_is_refused_at_once() -> None:
    one = talk()
    known = routes(one)
    known.find(arguments(b"amq.fanout", b""))
    one.client.broker.set_permissions("guest", "/", write="^$")
    with pytest.raises(ProtocolError, match="write access"):
        known.find(arguments(b"amq.fanout", b""))


def test_where_headers_count_the_targets_are_found_with_each_message() -> None:
    one = talk()
    assert routes(one).find(arguments(b"amq.headers", b"")).targets is None


def test_not_more_routes_are_kept_than_are_of_use() -> None:
    one = talk()
    known = routes(one)
    for number in range(3 * KEPT):
        known.find(arguments(b"amq.topic", b"%d" % number))
    assert len(known._known) <= KEPT + 1
    assert known.find(arguments(b"", b"q")).targets


@pytest.mark.parametrize("wrong", [b"", b"\0", b"\0\0", b"\5ab\0", b"\0\xffq\0", b"\0\1q\0more", b"\0\1q"])
def test_arguments_that_are_cut_or_go_on_lead_nowhere(wrong: bytes) -> None:
    with pytest.raises(ProtocolError, match="cannot decode") as caught:
        routes(talk()).find(wrong)
    assert caught.value.code == 501


def test_what_is_immediate_or_goes_inside_leads_nowhere() -> None:
    one = talk()
    with pytest.raises(ProtocolError, match="immediate=true"):
        routes(one).find(arguments(b"", b"q", b"\2"))
    with pytest.raises(ProtocolError, match=r"cannot publish to internal exchange 'amq\.rabbitmq\.trace'"):
        routes(one).find(arguments(b"amq.rabbitmq.trace", b""))


def test_a_route_that_fails_is_not_kept() -> None:
    one = talk()
    known = routes(one)
    for _ in range(2):
        with pytest.raises(ProtocolError, match="no exchange 'e'"):
            known.find(arguments(b"e", b""))
    one.exchange("e", "fanout")
    assert known.find(arguments(b"e", b"")).targets == ()


def test_a_route_for_a_reply_knows_who_waits_and_keeps_nobody_alive() -> None:
    one = talk()
    asking = Client(one.client.broker).channel()
    asking.consume("amq.rabbitmq.reply-to", "c", no_ack=True)
    (name,) = one.client.broker.replies
    known = routes(one)
    route = known.find(arguments(b"", name.encode()))
    assert route.targets == ()
    assert route.reply is one.client.broker.replies[name]
    asking.client.hang_up()
    gone = weakref.ref(asking.client.session)
    del asking, route
    assert known.find(arguments(b"", name.encode())).reply is None
    gc.collect()
    assert gone() is None
