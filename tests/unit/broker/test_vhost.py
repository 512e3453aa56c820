"""A virtual host: what can be declared, bound and deleted, what goes with it, and where a message goes."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pamqp import commands

from amqproxy.broker.errors import ProtocolError
from amqproxy.broker.exchange import Exchange
from amqproxy.broker.limits import Counter, Limits, Memory
from amqproxy.broker.message import OVERHEAD, Message, address
from amqproxy.broker.policies import Policies, Policy
from amqproxy.broker.queue import Queue
from amqproxy.broker.tables import Table
from amqproxy.broker.timers import Timers
from amqproxy.broker.vhost import (
    BURIED_AT_ONCE,
    MOST_DEATHS,
    PREDECLARED,
    UNBURIED_SECONDS,
    VirtualHost,
    generated_name,
)
from amqproxy.fields import encode_table
from amqproxy.properties import HEADERS
from tests.unit.broker.wire import Client, Clock, broker

examples = settings(max_examples=60, deadline=None, derandomize=True, database=None)

LOCKED = (
    "cannot obtain exclusive access to locked queue 'q' in vhost '/'. It could be originally declared on another "
    "connection or the exclusive property value does not match that of the original declaration."
)


class Connection:
    """One that may have queues of its own."""

    def __init__(self) -> None:
        self.exclusive: dict[Queue, None] = {}


def host(**limits: int) -> VirtualHost:
    memory, timers = Memory(2**40, lambda raised: None), Timers()
    return VirtualHost("/", memory=memory, timers=timers, clock=Clock(), counter=Counter(Limits(**limits)))


def table(fields: dict[str, Any]) -> Table:
    return Table.parse(encode_table(fields)[4:])


def declare(of: VirtualHost, name: str = "q", arguments: dict[str, Any] | None = None, **flags: Any) -> Queue:
    return of.declare_queue(name, arguments=table(arguments or {}), **flags)


def exchange(
    of: VirtualHost, name: str, kind: str = "direct", arguments: dict[str, Any] | None = None, **flags: bool
) -> Exchange:
    given = {"durable": False, "auto_delete": False, "internal": False} | flags
    of.declare_exchange(name, kind, arguments=table(arguments or {}), **given)
    return of.exchanges[name]


def bind(of: VirtualHost, source: str, queue: str = "q", key: str = "", **arguments: Any) -> None:
    of.bind(source, "queue", queue, key, table(arguments), None)


def chain(of: VirtualHost, source: str, destination: str, key: str = "") -> None:
    of.bind(source, "exchange", destination, key, Table(), None)


def message(key: str = "", headers: dict[str, Any] | None = None, body: bytes = b"") -> Message:
    return Message(address("e", key), struct.pack(">HHQH", 60, 0, 0, HEADERS) + encode_table(headers or {}), body)


def route(of: VirtualHost, name: str, *keys: str, headers: dict[str, Any] | None = None) -> set[str]:
    queues, _ = of.route(of.exchange(name), keys or ("",), message("", headers))
    names = [queue.name for queue in queues]
    assert len(names) == len(set(names)), "a queue gets a message once"
    return set(names)


def refusal(action: Callable[[], object]) -> tuple[int, str]:
    with pytest.raises(ProtocolError) as caught:
        action()
    return caught.value.code, caught.value.explanation


# Exchanges.


def test_the_exchanges_of_the_specification_are_there() -> None:
    of = host()
    assert {(name, of.exchange(name).type) for name in of.exchanges} == set(PREDECLARED)
    assert of.exchange("amq.rabbitmq.trace").internal


def test_an_exchange_that_is_not_there_is_not_found() -> None:
    assert refusal(lambda: host().exchange("e")) == (404, "no exchange 'e' in vhost '/'")


def test_an_exchange_can_be_declared_again_only_as_it_is() -> None:
    of = host()
    flags: dict[str, bool]
    made = exchange(of, "e", "topic", durable=True, arguments={"alternate-exchange": "a"})
    assert exchange(of, "e", "topic", durable=True, arguments={"alternate-exchange": "a", "other": 1}) is made
    assert made.alternate == "a"
    for kind, flags, arguments, why in (
        (
            "direct",
            {"durable": True},
            {},
            "'type' for exchange 'e' in vhost '/': received 'direct' but current is 'topic'",
        ),
        ("topic", {}, {}, "'durable' for exchange 'e' in vhost '/': received 'false' but current is 'true'"),
        (
            "topic",
            {"durable": True, "auto_delete": True},
            {},
            "'auto_delete' for exchange 'e' in vhost '/': received 'true' but current is 'false'",
        ),
        (
            "topic",
            {"durable": True, "internal": True},
            {},
            "'internal' for exchange 'e' in vhost '/': received 'true' but current is 'false'",
        ),
        (
            "topic",
            {"durable": True},
            {"alternate-exchange": "b"},
            "'alternate-exchange' for exchange 'e' in vhost '/': received 'b' but current is 'a'",
        ),
    ):
        assert refusal(lambda: exchange(of, "e", kind, arguments, **flags)) == (406, f"inequivalent arg {why}")  # noqa: B023


def test_reserved_names_are_for_the_broker() -> None:
    of = host()
    assert refusal(lambda: exchange(of, "amq.mine")) == (
        403,
        "exchange name 'amq.mine' contains reserved prefix 'amq.*'",
    )
    assert refusal(lambda: declare(of, "amq.mine")) == (403, "queue name 'amq.mine' contains reserved prefix 'amq.*'")
    exchange(of, "amq.direct", durable=True)


def test_an_alternate_exchange_is_a_name() -> None:
    of = host()
    assert refusal(lambda: exchange(of, "e", arguments={"alternate-exchange": 1})) == (
        406,
        "invalid type 'signedint' for arg 'alternate-exchange' in exchange 'e' in vhost '/'",
    )
    assert "e" not in of.exchanges


def test_an_exchange_goes_with_its_bindings() -> None:
    of = host()
    made, other = exchange(of, "e"), exchange(of, "other")
    queue = declare(of)
    bind(of, "e")
    chain(of, "other", "e")
    of.delete_exchange("e")
    of.delete_exchange("e")
    assert "e" not in of.exchanges
    assert not queue.bound
    assert not other.bindings
    assert not made.bound


def test_an_exchange_in_use_stays_if_so_wished() -> None:
    of = host()
    exchange(of, "e")
    declare(of)
    bind(of, "e")
    assert refusal(lambda: of.delete_exchange("e", if_unused=True)) == (406, "exchange 'e' in vhost '/' in use")
    of.unbind("e", "queue", "q", "", Table(), None)
    of.delete_exchange("e", if_unused=True)
    of.delete_exchange("e", if_unused=True)
    assert "e" not in of.exchanges


# Queues.


def test_a_queue_that_is_not_there_is_not_found() -> None:
    assert refusal(lambda: host().queue("q")) == (404, "no queue 'q' in vhost '/'")


def test_a_queue_can_be_declared_again_only_as_it_is() -> None:
    of = host()
    made = declare(of, durable=True, arguments={"x-max-length": 1})
    assert declare(of, durable=True, arguments={"x-max-length": 1}) is made
    assert of.counter.counts["queues"] == 1
    others: list[tuple[dict[str, Any], dict[str, Any], str]] = [
        ({}, {"x-max-length": 1}, "'durable' for queue 'q' in vhost '/': received 'false' but current is 'true'"),
        (
            {"durable": True, "auto_delete": True},
            {"x-max-length": 1},
            "'auto_delete' for queue 'q' in vhost '/': received 'true' but current is 'false'",
        ),
        (
            {"durable": True},
            {"x-max-length": 2},
            "'x-max-length' for queue 'q' in vhost '/': received '2' but current is '1'",
        ),
    ]
    for flags, arguments, why in others:
        assert refusal(lambda: declare(of, arguments=arguments, **flags)) == (406, f"inequivalent arg {why}")  # noqa: B023


def test_a_queue_without_a_name_is_given_one_that_nobody_can_guess() -> None:
    of = host()
    names = {declare(of, "").name for _ in range(20)}
    assert len(names) == 20
    assert all(name.startswith("amq.gen-") and len(name) == len("amq.gen-") + 22 for name in names)
    assert of.counter.counts["queues"] == 20
    assert generated_name("x") != generated_name("x")


def test_an_exclusive_queue_is_for_one_connection() -> None:
    of, mine, other = host(), Connection(), Connection()
    made = declare(of, exclusive_to=mine, durable=True)
    assert not made.durable
    assert of.queue("q", mine) is made
    assert declare(of, exclusive_to=mine) is made
    assert declare(of, exclusive_to=mine, durable=True) is made
    assert list(mine.exclusive) == [made]
    of.bind("amq.direct", "queue", "q", "", Table(), mine)
    for action in (
        lambda: of.queue("q", other),
        lambda: of.queue("q"),
        lambda: declare(of),
        lambda: declare(of, exclusive_to=other),
        lambda: of.bind("amq.direct", "queue", "q", "", Table(), other),
        lambda: of.unbind("amq.direct", "queue", "q", "", Table(), other),
    ):
        assert refusal(action) == (405, LOCKED)
    of.delete_queue(made)
    assert mine.exclusive == {}


def test_a_queue_of_all_cannot_become_exclusive() -> None:
    of = host()
    declare(of)
    assert refusal(lambda: declare(of, exclusive_to=Connection())) == (405, LOCKED)


def test_a_queue_with_large_arguments_counts_for_many() -> None:
    of = host(max_queues=10)
    large = declare(of, "large", {"x-foo": "y" * 8 * 256})
    assert of.counter.counts["queues"] == 9
    declare(of, "large", {"x-foo": "y" * 8 * 256})
    assert refusal(lambda: declare(of, "other", {"x-foo": "y" * 256}))[0] == 406
    many = {f"x-{number}": None for number in range(8)}
    assert refusal(lambda: declare(of, "other", many))[0] == 406
    declare(of, "small", {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "small.dead"})
    of.delete_queue(large)
    of.delete_queue(large)
    assert of.counter.counts["queues"] == 1


def test_there_are_so_many_queues_and_not_more() -> None:
    of = host(max_queues=2)
    first = declare(of, "1")
    declare(of, "2")
    declare(of, "2")
    code, why = refusal(lambda: declare(of, "3"))
    assert (code, "limit of 2 queues" in why, "3" in of.queues) == (406, True, False)
    of.delete_queue(first)
    declare(of, "3")


@pytest.mark.parametrize(
    ("flags", "why"),
    [
        ({}, "invalid property 'non-durable' for queue 'q' in vhost '/'"),
        ({"durable": True, "auto_delete": True}, "invalid property 'auto-delete' for queue 'q' in vhost '/'"),
        (
            {"durable": True, "exclusive_to": Connection()},
            "invalid property 'exclusive-owner' for queue 'q' in vhost '/'",
        ),
    ],
    ids=["transient", "auto-delete", "exclusive"],
)
def test_quorum_queues_are_durable_and_for_all(flags: dict[str, Any], why: str) -> None:
    of = host()
    assert refusal(lambda: declare(of, arguments={"x-queue-type": "quorum"}, **flags)) == (406, why)
    assert of.counter.counts["queues"] == 0


def test_quorum_queues_have_names() -> None:
    of = host()
    assert refusal(lambda: declare(of, "", {"x-queue-type": "quorum"}, durable=True)) == (
        406,
        "Cannot declare a server-named queue for type rabbit_quorum_queue",
    )
    assert declare(of, "q", {"x-queue-type": "quorum"}, durable=True).quorum


def test_the_type_of_queue_of_a_host_is_that_of_durable_queues_that_name_none() -> None:
    of = host()
    of.default_queue_type = "quorum"
    assert declare(of, "a", durable=True).quorum
    assert not declare(of, "b").quorum
    assert not declare(of, "c", durable=True, auto_delete=True).quorum
    assert not declare(of, "d", {"x-queue-type": "classic"}, durable=True).quorum
    assert declare(of, "a", durable=True).quorum


@pytest.mark.parametrize("arguments", [{"x-dead-letter-exchange": 1}, {"x-max-length": -1}, {"x-queue-type": "stack"}])
def test_a_queue_with_arguments_that_none_can_have_is_not_made(arguments: dict[str, Any]) -> None:
    of = host()
    code, why = refusal(lambda: declare(of, arguments=arguments))
    assert code == 406
    assert next(iter(arguments)) in why
    assert (of.queues, of.counter.counts["queues"]) == ({}, 0)


def test_policies_govern_what_is_declared() -> None:
    of = host()
    of.policies = Policies([Policy.of("^q", {"max-length": 5}), Policy.of("^e", {"alternate-exchange": "amq.fanout"})])
    assert declare(of, "q").settings.max_length == 5
    assert declare(of, "other").settings.max_length is None
    assert dict(declare(of, "q").arguments) == {}
    assert exchange(of, "e").alternate == "amq.fanout"


def test_a_deleted_queue_is_gone_with_its_bindings_and_messages() -> None:
    of = host()
    queue = declare(of)
    bind(of, "amq.direct", key="k")
    bind(of, "amq.fanout")
    queue.publish(message())
    queue.publish(message())
    assert of.delete_queue(queue) == 2
    assert of.delete_queue(queue) == 0
    assert (of.queues, of.counter.counts["queues"], of.memory.used) == ({}, 0, 0)
    assert not any(one.bindings for one in of.exchanges.values())
    assert route(of, "amq.direct", "k") == route(of, "", "q") == set()


def test_the_consumers_of_a_deleted_queue_are_told() -> None:
    client = Client(broker())
    talk = client.channel()
    talk.declare("q")
    talk.consume("q", "c")
    of = client.session.vhost
    of.delete_queue(of.queues["q"])
    client.broker.flush()
    (cancel,) = talk.take()
    assert isinstance(cancel, commands.Basic.Cancel)
    assert client.session.channels[1].consumers == {}


def test_a_queue_that_is_declared_again_after_it_was_deleted_is_another_one() -> None:
    of = host()
    queue = declare(of)
    of.delete_queue(queue)
    assert declare(of) is not queue
    assert of.delete_queue(queue) == 0
    assert "q" in of.queues


def test_declaring_again_is_use() -> None:
    of = host()
    queue = declare(of, arguments={"x-expires": 100})
    clock = of.clock
    assert isinstance(clock, Clock)
    clock.now += 0.09
    declare(of, arguments={"x-expires": 100})
    clock.now += 0.09
    of.timers.run(clock.now)
    assert not queue.deleted
    clock.now += 0.02
    of.timers.run(clock.now)
    assert (queue.deleted, of.queues) == (True, {})


# Bindings.


def test_what_is_bound_must_be_there() -> None:
    of = host()
    assert refusal(lambda: bind(of, "e")) == (404, "no exchange 'e' in vhost '/'")
    assert refusal(lambda: bind(of, "amq.direct")) == (404, "no queue 'q' in vhost '/'")
    assert refusal(lambda: chain(of, "amq.direct", "e")) == (404, "no exchange 'e' in vhost '/'")


def test_what_is_not_bound_needs_no_unbinding() -> None:
    of = host()
    declare(of)
    for source, kind, name in (("e", "queue", "q"), ("amq.direct", "queue", "r"), ("amq.direct", "exchange", "e")):
        of.unbind(source, kind, name, "", Table(), None)
    of.unbind("amq.direct", "queue", "q", "", Table(), None)


def test_exchanges_are_unbound_from_exchanges() -> None:
    of = host()
    exchange(of, "e", "fanout", auto_delete=True)
    declare(of)
    bind(of, "amq.fanout")
    chain(of, "e", "amq.fanout")
    assert route(of, "e") == {"q"}
    of.unbind("e", "exchange", "amq.fanout", "", Table(), None)
    assert "e" not in of.exchanges
    assert not of.exchanges["amq.fanout"].bound


def test_an_auto_delete_exchange_goes_with_its_last_binding() -> None:
    of = host()
    exchange(of, "e", auto_delete=True)
    declare(of)
    bind(of, "e", key="a")
    bind(of, "e", key="b")
    of.unbind("e", "queue", "q", "c", Table(), None)
    of.unbind("e", "queue", "q", "a", Table(), None)
    assert "e" in of.exchanges
    of.unbind("e", "queue", "q", "b", Table(), None)
    assert "e" not in of.exchanges


def test_an_auto_delete_exchange_that_was_never_bound_stays() -> None:
    of = host()
    exchange(of, "e", auto_delete=True)
    declare(of)
    of.delete_queue(of.queues["q"])
    assert "e" in of.exchanges


def test_exchanges_go_one_after_the_other_with_what_they_were_bound_to() -> None:
    of = host()
    for name in "abc":
        exchange(of, name, auto_delete=name != "a")
    chain(of, "a", "b")
    chain(of, "b", "c")
    bind_to(of, "c", declare(of))
    of.delete_queue(of.queues["q"])
    assert [name for name in "abc" if name in of.exchanges] == ["a"]
    assert not of.exchanges["a"].bindings


def bind_to(of: VirtualHost, name: str, queue: Queue) -> None:
    bind(of, name, queue.name)


def test_a_chain_of_any_length_falls_with_its_end() -> None:
    of = host()
    length = 2000
    for number in range(length):
        exchange(of, str(number), "fanout", auto_delete=True)
        if number:
            chain(of, str(number - 1), str(number))
    bind_to(of, str(length - 1), declare(of))
    assert route(of, "0") == {"q"}
    of.delete_queue(of.queues["q"])
    assert len(of.exchanges) == len(PREDECLARED)


def test_a_circle_of_auto_delete_exchanges_falls_too() -> None:
    of = host()
    for name in "abc":
        exchange(of, name, auto_delete=True)
    chain(of, "a", "b")
    chain(of, "b", "c")
    chain(of, "c", "a")
    chain(of, "a", "c")
    of.delete_exchange("b")
    assert len(of.exchanges) == len(PREDECLARED) + 2  # a and c lead to each other still
    of.delete_exchange("c")
    assert len(of.exchanges) == len(PREDECLARED)


# The way of a message.


def test_the_default_exchange_leads_to_queues_by_their_names() -> None:
    of = host()
    declare(of, "a")
    declare(of, "b")
    assert route(of, "", "a") == {"a"}
    assert route(of, "", "a", "b", "a", "c") == {"a", "b"}


def test_exchanges_lead_to_exchanges_and_each_queue_gets_a_message_once() -> None:
    of = host()
    for name in "abc":
        exchange(of, name, "fanout")
        declare(of, name)
        bind(of, name, name)
    chain(of, "a", "b")
    chain(of, "b", "c")
    chain(of, "c", "a")
    chain(of, "a", "c")
    assert route(of, "a") == route(of, "b") == {"a", "b", "c"}


def test_the_default_exchange_is_no_way_through() -> None:
    of = host()
    declare(of)
    exchange(of, "e", arguments={"alternate-exchange": ""})
    assert route(of, "e", "q") == set()


def test_what_matches_nothing_goes_to_the_alternate_exchange() -> None:
    of = host()
    for name in "abc":
        declare(of, name)
    exchange(of, "e", arguments={"alternate-exchange": "f"})
    assert route(of, "e", "k") == set()  # it need not be there
    exchange(of, "f", arguments={"alternate-exchange": "g"})
    exchange(of, "g", "fanout", arguments={"alternate-exchange": "e"})
    bind(of, "e", "a", "k")
    bind(of, "f", "b", "l")
    assert route(of, "e", "k") == {"a"}
    assert route(of, "e", "l") == {"b"}
    assert route(of, "e", "m") == set()  # round and back again, once
    bind(of, "g", "c")
    assert route(of, "e", "m") == {"c"}


def test_whether_a_route_depends_on_the_key_alone_is_said() -> None:
    of = host()
    declare(of)
    exchange(of, "e", "fanout")
    assert of.route(of.exchange("e"), ("k",), None) == ([], True)
    chain(of, "e", "amq.headers")
    assert of.route(of.exchange("e"), ("k",), None) == ([], False)
    bind(of, "amq.headers", a=1)
    assert of.route(of.exchange("e"), ("k",), None) == ([], False)
    assert route(of, "e", headers={"a": 1}) == {"q"}
    assert route(of, "e", headers={"a": 2}) == set()


def test_an_alternate_of_a_headers_exchange_is_found_with_each_message() -> None:
    of = host()
    declare(of)
    declare(of, "other")
    exchange(of, "e", "headers", arguments={"alternate-exchange": "amq.fanout"})
    bind(of, "e", a=1)
    bind(of, "amq.fanout", "other")
    assert of.route(of.exchange("e"), ("",), None)[1] is False
    assert route(of, "e", headers={"a": 1}) == {"q"}
    assert route(of, "e", headers={"a": 2}) == {"other"}


@examples
@given(
    edges=st.sets(st.tuples(st.integers(0, 5), st.integers(0, 5)), max_size=15),
    queues=st.sets(st.tuples(st.integers(0, 5), st.integers(0, 3)), max_size=8),
    alternates=st.dictionaries(st.integers(0, 5), st.integers(0, 5)),
)
def test_a_message_reaches_what_can_be_reached(
    edges: set[tuple[int, int]], queues: set[tuple[int, int]], alternates: dict[int, int]
) -> None:
    of = host()
    for number in range(4):
        declare(of, f"q{number}")
    for number in range(6):
        alternate = {"alternate-exchange": f"e{alternates[number]}"} if number in alternates else {}
        exchange(of, f"e{number}", "fanout", alternate)
    for one, other in edges:
        chain(of, f"e{one}", f"e{other}")
    for number, queue in queues:
        bind(of, f"e{number}", f"q{queue}")
    ways: dict[int, set[int]] = {number: {other for one, other in edges if one == number} for number in range(6)}
    for number, alternate_number in alternates.items():
        if not ways[number] and not any(one == number for one, _ in queues):
            ways[number] = {alternate_number}
    for start in range(6):
        reached = closure(start, ways)
        assert route(of, f"e{start}") == {f"q{queue}" for number, queue in queues if number in reached}


def closure(start: int, ways: dict[int, set[int]]) -> set[int]:
    reached, new = {start}, {start}
    while new:
        new = {other for one in new for other in ways[one]} - reached
        reached |= new
    return reached


# The counter of changes.


def test_each_change_of_where_messages_go_is_counted_and_nothing_else() -> None:
    of = host()
    counter = of.counter
    queue = declare(of)

    def changes(action: Callable[[], object]) -> bool:
        before = counter.topology
        action()
        return counter.topology != before

    assert changes(lambda: exchange(of, "e"))
    assert not changes(lambda: exchange(of, "e"))
    assert changes(lambda: declare(of, "r"))
    assert not changes(lambda: declare(of, "r"))
    assert changes(lambda: bind(of, "e"))
    assert not changes(lambda: bind(of, "e"))
    assert changes(lambda: of.unbind("e", "queue", "q", "", Table(), None))
    assert not changes(lambda: of.unbind("e", "queue", "q", "", Table(), None))
    assert changes(lambda: of.delete_exchange("e"))
    assert not changes(lambda: of.delete_exchange("e"))
    assert not changes(lambda: queue.publish(message()))
    assert not changes(lambda: queue.purge())
    assert changes(lambda: of.delete_queue(queue))
    assert not changes(lambda: of.delete_queue(queue))


# Dead letters.


def bodies(queue: Queue) -> list[bytes]:
    return [entry.message.body for entry in queue.ready]


def letters(of: VirtualHost, names: Iterable[str]) -> dict[str, list[bytes]]:
    return {name: bodies(of.queues[name]) for name in names}


def test_dead_letters_go_where_the_queue_says_when_they_are_buried() -> None:
    of = host()
    declare(of, "dead")
    declare(of, arguments={"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "dead", "x-max-length": 1})
    for body in (b"1", b"2", b"3"):
        of.queues["q"].publish(message("q", body=body))
    assert letters(of, ("q", "dead")) == {"q": [b"3"], "dead": []}
    of.bury()
    assert letters(of, ("q", "dead")) == {"q": [b"3"], "dead": [b"1", b"2"]}
    assert not of.dead


def test_what_has_died_in_too_many_queues_is_dropped(caplog: pytest.LogCaptureFixture) -> None:
    """For at each the whole of what is said of the others is read and written: a chain would cost its square."""
    of = host(max_queues=1000)
    for length, first in ((MOST_DEATHS, "a"), (MOST_DEATHS + 1, "b")):
        for number in range(length):
            to = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": f"{first}{number + 1}", "x-max-length": 0}
            declare(of, f"{first}{number}", to)
        declare(of, f"{first}{length}")
        for body in (b"1", b"2"):
            of.queues[f"{first}0"].publish(message(f"{first}0", body=body))
        while of.dead:
            of.bury()
    assert letters(of, (f"a{MOST_DEATHS}", f"b{MOST_DEATHS + 1}")) == {
        f"a{MOST_DEATHS}": [b"1", b"2"],
        f"b{MOST_DEATHS + 1}": [],
    }
    [warned] = caplog.messages
    assert f"that died in {MOST_DEATHS} queues are dropped" in warned
    assert (of.memory.used > 0, len(of.dead)) == (True, 0)


def test_letters_that_died_often_leave_others_their_turn_sooner() -> None:
    of = host()
    for number in range(MOST_DEATHS):
        to = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": f"q{number + 1}", "x-max-length": 0}
        declare(of, f"q{number}", to)
    for _ in range(50):
        of.queues["q0"].publish(message("q0"))
    turns = 0
    while of.dead:
        of.bury()
        turns += 1
    assert turns > 3 * 50 * MOST_DEATHS / BURIED_AT_ONCE


def test_dead_letters_for_an_exchange_that_is_not_there_are_lost() -> None:
    of = host()
    declare(of, arguments={"x-dead-letter-exchange": "nowhere", "x-max-length": 0})
    of.queues["q"].publish(message("q"))
    of.bury()
    assert of.memory.used == 0


def test_a_queue_that_wants_no_dead_letters_makes_none() -> None:
    of = host()
    of.dead_letter(declare(of), message(), "rejected")
    assert not of.dead


def test_a_dead_letter_of_a_queue_that_was_deleted_since_is_delivered() -> None:
    of = host()
    declare(of, "dead")
    queue = declare(
        of, arguments={"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "dead", "x-max-length": 0}
    )
    queue.publish(message("q", body=b"1"))
    of.delete_queue(queue)
    of.bury()
    assert letters(of, ("dead",)) == {"dead": [b"1"]}


CAREFUL = {
    "x-queue-type": "quorum",
    "x-overflow": "reject-publish",
    "x-dead-letter-strategy": "at-least-once",
    "x-dead-letter-exchange": "",
    "x-dead-letter-routing-key": "dead",
}


def test_dead_letters_at_least_once_wait_until_there_is_a_queue_with_room() -> None:
    of = host()
    queue = declare(of, arguments=CAREFUL, durable=True)

    def later() -> None:
        assert isinstance(of.clock, Clock)
        of.clock.now += UNBURIED_SECONDS
        of.timers.run(of.clock.now)

    for body in (b"1", b"2"):
        of.dead_letter(queue, message("q", body=body), "rejected")
    of.bury()
    used = of.memory.used
    assert used > 0
    later()  # there is no such queue
    assert of.memory.used == used
    declare(of, "dead", {"x-max-length": 1, "x-overflow": "reject-publish"})
    later()  # which has room for one
    assert letters(of, ("dead",)) == {"dead": [b"1"]}
    of.queues["dead"].purge()
    later()
    assert letters(of, ("dead",)) == {"dead": [b"2"]}
    of.queues["dead"].purge()
    assert of.memory.used == 0


def test_those_of_a_queue_that_was_deleted_wait_no_more() -> None:
    of = host()
    queue = declare(of, arguments=CAREFUL, durable=True)
    of.dead_letter(queue, message("q"), "rejected")
    of.bury()
    of.delete_queue(queue)
    assert isinstance(of.clock, Clock)
    of.clock.now += UNBURIED_SECONDS
    of.timers.run(of.clock.now)
    assert of.memory.used == 0


def test_a_letter_that_would_go_round_for_ever_is_dropped() -> None:
    of = host()
    for name, other in (("a", "b"), ("b", "a")):
        declare(of, name, {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": other, "x-max-length": 0})
    of.queues["a"].publish(message("a"))
    of.bury()
    assert (letters(of, "ab"), of.memory.used) == ({"a": [], "b": []}, 0)


def test_names_of_queues_begin_no_line_of_the_log_and_move_no_cursor(caplog: pytest.LogCaptureFixture) -> None:
    of = host(max_queues=1000)
    names = [f"\x1b[2J\u2028CRITICAL root: forged{number}" for number in range(MOST_DEATHS + 2)]
    for name, to in pairwise(names):
        declare(of, name, {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": to, "x-max-length": 0})
    declare(of, "x\n1", {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "x\n1", "x-max-length": 0})
    for name in (names[0], "x\n1"):
        of.queues[name].publish(message(name))
        while of.dead:
            of.bury()
    chain, cycle = caplog.messages
    assert r"queue '\x1b[2J\u2028CRITICAL root: forged64' in" in chain
    assert cycle.count(r"queue 'x\n1' in") == 2
    assert chain.isprintable() and cycle.isprintable()


def test_that_a_letter_went_in_a_circle_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    of = host()
    declare(of, arguments={"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "q", "x-max-length": 0})
    for _ in range(3):
        of.queues["q"].publish(message("q"))
        of.bury()
    assert len([record for record in caplog.records if "for ever" in record.getMessage()]) == 1


def test_many_letters_leave_others_their_turn_in_between_and_count_as_memory() -> None:
    of = host()
    declare(of, "dead")
    declare(of, arguments={"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "dead", "x-max-length": 0})
    count = 2 * BURIED_AT_ONCE + 5
    for _ in range(count):
        of.queues["q"].publish(message("q"))
    of.bury()
    assert (len(of.dead), len(of.queues["dead"].ready)) == (count - BURIED_AT_ONCE, BURIED_AT_ONCE)
    assert of.memory.used > count * OVERHEAD
    of.bury()
    assert len(of.dead) == count - 2 * BURIED_AT_ONCE
    assert of.timers.run(of.clock()) is None
    assert (len(of.dead), len(of.queues["dead"].ready)) == (0, count)
    of.queues["dead"].purge()
    assert of.memory.used == 0


def test_there_are_so_many_exchanges_and_not_more() -> None:
    of = host(max_exchanges=3)
    exchange(of, "1")
    exchange(of, "2")
    exchange(of, "2")
    code, why = refusal(lambda: exchange(of, "large", arguments={"x": "y" * 256}))
    assert (code, "limit of 3 exchanges" in why, "large" in of.exchanges) == (406, True, False)
    exchange(of, "3")
    assert refusal(lambda: exchange(of, "4"))[0] == 406
    of.delete_exchange("1")
    of.delete_exchange("1")
    exchange(of, "4")
    assert refusal(lambda: exchange(of, "5"))[0] == 406


LARGE: list[tuple[str, str, dict[str, Any]]] = [
    ("amq.topic", "a.b.c", {}),
    ("amq.direct", "a.b.c", {}),
    ("amq.headers", "", {"x": "y" * 600}),
]


@pytest.mark.parametrize(("source", "key", "arguments"), LARGE)
def test_there_are_so_many_bindings_and_not_more(source: str, key: str, arguments: dict[str, Any]) -> None:
    """Long keys and large arguments take more memory, and count for more."""
    of = host(max_bindings=4)
    queue = declare(of)
    bind(of, source, key=key, **arguments)
    bind(of, source, key=key, **arguments)
    code, why = refusal(lambda: bind(of, source, key=f"{key}.e", **arguments))
    assert (code, "cannot bind queue 'q' to exchange" in why, "limit of 4 bindings" in why) == (406, True, True)
    assert len(of.exchanges[source].bindings[queue]) == 1
    bind(of, "amq.fanout")
    assert refusal(lambda: bind(of, "amq.fanout", key="other"))[0] == 406
    of.unbind(source, "queue", "q", key, table(arguments), None)
    bind(of, source, key=key, **arguments)


def test_what_is_deleted_makes_room_for_other_bindings() -> None:
    of = host(max_bindings=2)
    for _ in range(3):
        queue, source = declare(of), exchange(of, "e")
        chain(of, "amq.fanout", "e")
        bind(of, "e")
        assert refusal(lambda: bind(of, "e", key="other"))[0] == 406
        of.delete_exchange(source.name)
        bind(of, "amq.fanout")
        bind(of, "amq.direct")
        assert refusal(lambda: bind(of, "amq.topic"))[0] == 406
        of.delete_queue(queue)


def test_a_binding_that_makes_no_sense_takes_no_room() -> None:
    of = host(max_bindings=1)
    declare(of)
    assert refusal(lambda: bind(of, "amq.headers", **{"x-match": "none"}))[0] == 406
    bind(of, "amq.headers")


def test_a_letter_that_somebody_refuses_may_come_back() -> None:
    of = host()
    queue = declare(of, arguments={"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "q"})
    queue.publish(message("q", body=b"1"))
    for _ in range(3):
        entry = queue.fetch()
        assert entry is not None
        queue.unacked += 1
        queue.rejected(entry)
        of.bury()
    assert bodies(queue) == [b"1"]
    entry = queue.fetch()
    assert entry is not None
    assert [death["count"] for death in entry.message.headers["x-death"]] == [3]


def test_a_dead_letter_that_its_queue_refuses_is_lost() -> None:
    of = host()
    declare(of, "dead", {"x-max-length": 1, "x-overflow": "reject-publish"})
    declare(of, arguments={"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "dead", "x-max-length": 0})
    for body in (b"1", b"2"):
        of.queues["q"].publish(message("q", body=body))
    of.bury()
    assert letters(of, ("dead",)) == {"dead": [b"1"]}


def test_dead_letters_of_dead_letters_are_buried_too() -> None:
    of = host()
    for name, other in (("a", "b"), ("b", "c")):
        declare(of, name, {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": other, "x-max-length": 0})
    declare(of, "c")
    of.queues["a"].publish(message("a", body=b"1"))
    of.bury()
    assert letters(of, "abc") == {"a": [], "b": [], "c": [b"1"]}
