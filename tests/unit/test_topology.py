"""Which queues, exchanges and bindings a pool of workers needs."""

from __future__ import annotations

import pytest

from amqproxy.options import ServeOptions
from amqproxy.topology import Binding, Exchange, PoolTopology, Queue


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
