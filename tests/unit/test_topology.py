"""Which queues, exchanges and bindings a pool of workers needs."""

from __future__ import annotations

import hashlib
import time
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from amqproxy.options import LONGEST_WAIT_SECONDS, ServeOptions
from amqproxy.signing import destination
from amqproxy.topology import (
    DELAY_LEASE_SECONDS,
    NAME,
    Binding,
    Destinations,
    Exchange,
    PoolTopology,
    Queue,
    dead_queue,
    delay_queue,
    refuses,
    rounded_delay,
)


def test_a_pool_has_a_durable_queue_with_the_services_name_bound_to_amq_direct_under_it() -> None:
    queue = Queue("calculator", durable=True, exclusive=False, auto_delete=False, arguments={})
    binding = Binding(Exchange("amq.direct"), queue, "calculator")
    expected = PoolTopology(queue, (binding,), "amqproxy.calculator")
    assert PoolTopology.of("calculator", ServeOptions()) == expected


def test_the_queue_may_have_another_name_which_is_then_its_key_too() -> None:
    topology = PoolTopology.of("calculator", ServeOptions(queue="sums"))
    assert topology.queue.name == "sums"
    assert [binding.routing_key for binding in topology.bindings] == ["sums"]


def test_the_binding_may_have_another_key_and_another_exchange() -> None:
    topology = PoolTopology.of("calculator", ServeOptions(exchange="numbers", routing_key="add.#"))
    assert topology.queue.name == "calculator"
    assert topology.bindings == (Binding(Exchange("numbers"), topology.queue, "add.#"),)


def test_without_an_exchange_there_is_no_binding() -> None:
    assert PoolTopology.of("calculator", ServeOptions(exchange=None)).bindings == ()


def test_the_default_exchange_needs_no_binding_and_allows_none() -> None:
    assert PoolTopology.of("calculator", ServeOptions(exchange="")).bindings == ()


def test_the_queues_options_are_taken_over() -> None:
    options = ServeOptions(durable=False, auto_delete=True, arguments={"x-max-length": 5})
    queue = PoolTopology.of("calculator", options).queue
    assert queue == Queue("calculator", durable=False, auto_delete=True, arguments={"x-max-length": 5})


def test_the_highest_priority_is_an_argument_of_the_queue() -> None:
    options = ServeOptions(max_priority=9, arguments={"x-max-length": 5})
    assert PoolTopology.of("calculator", options).queue.arguments == {"x-max-length": 5, "x-max-priority": 9}
    assert options.arguments == {"x-max-length": 5}


def test_the_queues_arguments_are_its_own() -> None:
    arguments = {"x-max-length": 5}
    queue = PoolTopology.of("calculator", ServeOptions(arguments=arguments)).queue
    arguments["x-max-length"] = 6
    assert queue.arguments == {"x-max-length": 5}


@pytest.mark.parametrize("name", ["50%", "größe", "a\nb", "a*", "a>b"])
def test_a_name_that_cannot_be_declared_is_refused_at_once(name: str) -> None:
    with pytest.raises(ValueError, match=r"^queue names are letters and digits of ASCII, spaces and -_.:@#,/\+, not "):
        PoolTopology.of(name, ServeOptions())
    with pytest.raises(ValueError, match=r"^exchange names are"):
        PoolTopology.of("calculator", ServeOptions(exchange=name))
    assert PoolTopology.of(name, ServeOptions(queue="a.B-c_1:@#,/+ ")).queue.name == "a.B-c_1:@#,/+ "


@pytest.mark.parametrize(
    ("name", "predeclared"),
    [
        ("", True),
        ("amq.direct", True),
        ("amq.x", True),
        ("amq", False),
        ("numbers", False),
        ("amqproxy.x", False),
    ],
)
def test_every_broker_has_the_default_exchange_and_those_of_amq(name: str, predeclared: bool) -> None:
    assert Exchange(name).predeclared is predeclared


def test_a_queue_is_durable_and_shared_unless_told_otherwise() -> None:
    queue = Queue("")
    assert (queue.durable, queue.exclusive, queue.auto_delete, queue.arguments) == (True, False, False, {})


LONGEST_EXPIRY = 2**32 - 1
"""RabbitMQ refuses longer ones (rabbit.hrl, MAX_EXPIRY_TIMER)."""


@settings(max_examples=300, deadline=None, derandomize=True, database=None)
@given(st.floats(0, LONGEST_WAIT_SECONDS, exclude_min=True))
@example(0.1)
@example(0.29)
@example(1.1)
@example(4.35)
@example(float(LONGEST_WAIT_SECONDS))
def test_a_delay_is_never_shorter_than_asked_and_a_hundredth_longer_at_most(seconds: float) -> None:
    milliseconds = rounded_delay(seconds)
    assert milliseconds >= round(seconds * 1000, 6)
    assert milliseconds <= max(seconds * 1000 * 1.01, seconds * 1000 + 1)
    assert not str(milliseconds)[3:].strip("0"), "or there would be too many queues"
    assert milliseconds + DELAY_LEASE_SECONDS * 1000 <= LONGEST_EXPIRY


@pytest.mark.parametrize(
    ("seconds", "milliseconds"),
    [(0.0001, 1), (0.001, 1), (0.1, 100), (0.999, 999), (1, 1000), (1.001, 1010), (4.35, 4350), (3600, 3_600_000)],
)
def test_delays_have_three_digits(seconds: float, milliseconds: int) -> None:
    assert rounded_delay(seconds) == milliseconds


def test_a_delay_queue_outlives_its_messages_and_sends_them_on() -> None:
    assert delay_queue(5000, "", "calculator") == Queue(
        "amqproxy.delay.5000.calculator",
        durable=True,
        exclusive=False,
        auto_delete=False,
        arguments={
            "x-queue-type": "classic",
            "x-message-ttl": 5000,
            "x-expires": 605_000,
            "x-dead-letter-exchange": "",
            "x-dead-letter-routing-key": "calculator",
        },
    )


def test_each_destination_has_delay_queues_of_its_own_whose_names_can_be_declared() -> None:
    places = [
        *(("", key) for key in ("a", "a.b", "größe", "50%", "x" * 255, "x" * 254, "", "5000.a")),
        *(("numbers", key) for key in ("a", "", "b")),
        *(("numbersa", ""), ("n", "umbersa"), ("größe", "a")),
    ]
    names = [delay_queue(milliseconds, *place).name for place in places for milliseconds in (5000, 500, 5)]
    assert len(set(names)) == len(names)
    assert all(NAME.fullmatch(name) and len(name) <= 255 for name in names)


def test_a_quorum_queue_has_a_limit_and_dead_letters_at_least_once() -> None:
    topology = PoolTopology.of("mailer", ServeOptions(quorum=True))
    assert topology.queue.arguments == {
        "x-queue-type": "quorum",
        "x-delivery-limit": 20,
        "x-dead-letter-exchange": "",
        "x-dead-letter-routing-key": "mailer.dead",
        "x-dead-letter-strategy": "at-least-once",
        "x-overflow": "reject-publish",
    }
    assert topology.dead == Queue("mailer.dead", arguments={"x-queue-type": "quorum", "x-delivery-limit": 10**9})
    assert PoolTopology.of("x", ServeOptions(quorum=True, delivery_limit=0)).queue.arguments["x-delivery-limit"] == 0


def test_a_quorum_queue_may_do_without_dead_letters() -> None:
    topology = PoolTopology.of("mailer", ServeOptions(quorum=True, dead_letters=False))
    assert topology.queue.arguments == {"x-queue-type": "quorum", "x-delivery-limit": 20}
    assert topology.dead is None


def test_one_that_drops_its_head_cannot_promise_its_dead_letters() -> None:
    arguments = PoolTopology.of("m", ServeOptions(quorum=True, max_length=5, overflow="drop-head")).queue.arguments
    assert arguments["x-overflow"] == "drop-head"
    assert "x-dead-letter-strategy" not in arguments


def test_a_classic_queue_may_have_dead_letters_too() -> None:
    topology = PoolTopology.of("mailer", ServeOptions(dead_letters=True, queue="post"))
    assert topology.queue.arguments == {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "post.dead"}
    assert topology.dead == dead_queue("post")


def test_bounds_are_arguments_and_arguments_win() -> None:
    options = ServeOptions(max_length=5, message_ttl=1.5, arguments={"x-max-length": 6})
    assert PoolTopology.of("m", options).queue.arguments == {
        "x-max-length": 6,
        "x-overflow": "reject-publish",
        "x-message-ttl": 1500,
    }


def test_a_name_without_room_for_the_dead_is_refused() -> None:
    with pytest.raises(ValueError, match="for dead letters has a name of more than 255 bytes"):
        PoolTopology.of("x" * 251, ServeOptions(dead_letters=True))
    assert PoolTopology.of("x" * 251, ServeOptions()).dead is None


@pytest.mark.parametrize(
    ("arguments", "so"),
    [
        ({}, False),
        ({"x-max-length": 1}, False),
        ({"x-overflow": "reject-publish"}, False),
        ({"x-max-length": 1, "x-overflow": "drop-head"}, False),
        ({"x-max-length": 1, "x-overflow": "reject-publish"}, True),
        ({"x-max-length-bytes": 1, "x-overflow": "reject-publish-dlx"}, True),
    ],
)
def test_whether_a_queue_refuses(arguments: dict[str, object], so: bool) -> None:
    assert refuses(Queue("q", arguments=arguments)) is so


def destinations(**options: Any) -> Destinations:
    return Destinations(PoolTopology.of("calc", ServeOptions(**options)))


def sent(exchange: str, routing_key: str) -> str:
    return destination(exchange.encode(), routing_key.encode())


@pytest.mark.parametrize(
    ("options", "ways"),
    [
        ({}, [("", "calc"), ("amq.direct", "calc")]),
        ({"exchange": None}, [("", "calc")]),
        ({"queue": "live.calc"}, [("", "live.calc"), ("amq.direct", "live.calc")]),
        ({"exchange": "orders"}, [("", "calc"), ("orders", "calc")]),
        ({"exchange": "orders", "routing_key": "größe>1"}, [("", "calc"), ("orders", "größe>1")]),
        ({"exchange": "amqproxy.orders"}, [("", "calc"), ("amqproxy.orders", "any")]),
        ({"exchange": "amq.fanout"}, [("", "calc"), ("amq.fanout", "any"), ("amq.fanout", "a\nb")]),
        ({"exchange": "amq.topic", "routing_key": "a.*.c"}, [("", "calc"), ("amq.topic", "a.b.c")]),
    ],
)
def test_signatures_may_name_each_way_to_the_queue(options: dict[str, Any], ways: list[tuple[str, str]]) -> None:
    known = destinations(**options)
    assert all(known.include(sent(*way)) for way in ways)
    assert known.include(sent("", delay_queue(5000, "", options.get("queue", "calc")).name))
    if options.get("exchange") not in ("amq.topic", "amq.fanout", "amqproxy.orders"):
        assert all(known.include(sent("", delay_queue(5000, *way).name)) for way in ways)
        others = [("", ""), ("", "other"), ("other", "calc"), ("amq.direct", "other"), ("", "amq.direct>calc"[:10])]
        assert not any(known.include(sent(*way)) for way in others)
        assert not any(known.include(sent("", delay_queue(5000, *way).name)) for way in others)


def test_the_digest_of_a_way_is_as_the_page_says() -> None:
    digest = hashlib.blake2b("orders\0größe".encode(), digest_size=16).hexdigest()
    assert delay_queue(50, "orders", "größe").name == f"amqproxy.delay.50#{digest}"
    assert destinations(exchange="orders", routing_key="größe").include(f">{digest}")


def test_what_only_looks_like_it_came_through_a_wide_exchange_did_not() -> None:
    known = destinations(exchange="amq.topic", routing_key="#")
    assert not known.include("amq.topic")
    assert not known.include("amq.topic.a>b")
    assert not known.include("amq.fanout>a")


@pytest.mark.parametrize("pattern", ["#.x", "#.#.#.#.#.#.#.#.x", "*.#.x"])
@pytest.mark.parametrize("separator", [">", "."])
def test_no_key_takes_long_to_be_told_from_a_pattern(pattern: str, separator: str) -> None:
    known = destinations(exchange="amq.topic", routing_key=pattern)
    began = time.process_time()
    for length in (8, 12, 16, 20, 22, 24, 26):  # each twice the time of the one before, or more, if all ways are tried
        assert not known.include(f"amq.topic>{separator * length}y")
        assert time.process_time() - began < 0.5


@pytest.mark.parametrize(
    ("pattern", "key", "matches"),
    [
        ("a.b", "a.b", True),
        ("a.b", "a.bc", False),
        ("a.b", "axb", False),
        ("a.*", "a.b", True),
        ("a.*", "a", False),
        ("a.*", "a.b.c", False),
        ("*.b", "a.b", True),
        ("#", "", True),
        ("#", "a.b", True),
        ("a.#", "a", True),
        ("a.#", "a.b.c", True),
        ("a.#", "ab", False),
        ("#.c", "c", True),
        ("#.c", "a.b.c", True),
        ("a.#.c", "a.c", True),
        ("a.#.c", "a.b.d", False),
        ("größe.+", "größe.+", True),
        ("größe.+", "größe.öö", False),
        ("#.#.#.c", "c", True),
        ("#.#.#.c", "a.b.c", True),
        ("#.##.c", "a.##.c", True),
        ("#.##.c", "a.b.c", False),
        ("*", "a>b\n", True),
        ("a.*", "a>b", False),
        ("#.b", "a>b", False),
        ("#.b", "a>.b", True),
    ],
)
def test_what_comes_through_a_topic_exchange_is_known_by_its_pattern(pattern: str, key: str, matches: bool) -> None:
    """As the broker's own tree of patterns has it, but that this matters for one queue alone."""
    known = destinations(exchange="amq.topic", routing_key=pattern)
    assert known.include(sent("amq.topic", key)) is matches
    assert not known.include(sent("amq.direct", key))
