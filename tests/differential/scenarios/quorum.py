"""Quorum queues, as far as one node shows them; and what streams refuse."""

from __future__ import annotations

from typing import Any

from tests.differential.language import (
    A2,
    Ack,
    CloseChannel,
    ConfirmSelect,
    Consume,
    DeclareQueue,
    DeleteQueue,
    Get,
    Nack,
    Operation,
    Publish,
    PurgeQueue,
    Qos,
    Reject,
    Wait,
)
from tests.differential.scenarios.scenario import beside, scenario

DECLARE = "declaring quorum queues"
DELIVERY = "quorum queues"
LIMIT = "delivery limit"
STREAM = "streams"


def quorum(**arguments: Any) -> DeclareQueue:
    given = {"x-queue-type": "quorum", **{key.replace("_", "-"): value for key, value in arguments.items()}}
    return DeclareQueue("q", durable=True, arguments=given)


def publish(*bodies: str) -> tuple[Operation, ...]:
    return tuple(Publish("", "q", body) for body in bodies)


SCENARIOS = beside(
    scenario(DECLARE, "quorum queue is declared twice", quorum(), quorum(), DeclareQueue("q", durable=True)),
    scenario(DECLARE, "quorum queue that is transient", DeclareQueue("q", arguments={"x-queue-type": "quorum"})),
    scenario(
        DECLARE,
        "quorum queue that is exclusive",
        DeclareQueue("q", durable=True, exclusive=True, arguments={"x-queue-type": "quorum"}),
    ),
    scenario(
        DECLARE,
        "quorum queue that deletes itself",
        DeclareQueue("q", durable=True, auto_delete=True, arguments={"x-queue-type": "quorum"}),
    ),
    scenario(
        DECLARE,
        "quorum queue that the server names",
        DeclareQueue("", durable=True, arguments={"x-queue-type": "quorum"}),
    ),
    *(
        scenario(DECLARE, f"quorum queue with {name}", quorum(**{name: value}))
        for name, value in {
            "x-max-priority": 5,
            "x-queue-mode": "lazy",
            "x-message-ttl": 60000,
            "x-expires": 60000,
            "x-max-length": 5,
            "x-overflow": "reject-publish-dlx",
            "x-delivery-limit": -1,
            "x-single-active-consumer": True,
            "x-max-in-memory-length": 5,
            "x-unknown": 5,
        }.items()
    ),
    scenario(
        DELIVERY,
        "quorum queue delivers, requeues and counts deliveries",
        quorum(),
        *publish("1", "2"),
        Get("q"),
        Nack(1),
        Get("q"),
        Nack(2),
        Get("q"),
        Ack(3),
        Get("q"),
        Get("q"),
        DeclareQueue("q", passive=True),
    ),
    scenario(
        DELIVERY,
        "quorum queue gives requeued messages to its consumer",
        quorum(),
        Qos(2),
        Consume("q", "t"),
        *publish("1", "2", "3"),
        Nack(1),
        Ack(2),
        CloseChannel(),
        Get("q"),
    ),
    scenario(
        DELIVERY,
        "quorum queue puts requeued messages where",
        quorum(),
        *publish("1", "2", "3"),
        Get("q"),
        Get("q"),
        Nack(1),
        Nack(2),
        Get("q"),
        Get("q"),
        Get("q"),
    ),
    scenario(DELIVERY, "quorum queue and global prefetch", quorum(), Qos(1, global_=True), Consume("q", "t")),
    scenario(
        DELIVERY,
        "quorum queue confirms, purges and deletes",
        quorum(),
        ConfirmSelect(),
        *publish("1", "2", "3"),
        Get("q"),
        PurgeQueue("q"),
        Ack(1),
        *publish("4"),
        DeleteQueue("q"),
    ),
    scenario(
        DELIVERY,
        "quorum queue in use or with messages is not deleted if asked so",
        quorum(),
        *publish("1"),
        DeleteQueue("q", if_empty=True),
        DeleteQueue("q", if_unused=True, at=A2),
    ),
    scenario(
        DELIVERY,
        "quorum queue limits its length",
        quorum(x_max_length=2),
        ConfirmSelect(),
        *publish("1", "2", "3", "4"),
        *(Get("q", no_ack=True) for _ in range(3)),
    ),
    scenario(
        DELIVERY,
        "quorum queue expires its messages at the head",
        quorum(x_message_ttl=100),
        *publish("1"),
        Wait(400),
        Get("q"),
    ),
    scenario(
        DELIVERY,
        "quorum queue and one active consumer",
        quorum(x_single_active_consumer=True),
        Consume("q", "a"),
        Consume("q", "b", at=A2),
        *publish("1"),
        CloseChannel(),
    ),
    scenario(
        LIMIT,
        "delivery limit drops",
        quorum(x_delivery_limit=2),
        *publish("1"),
        Get("q"),
        Nack(1),
        Get("q"),
        Nack(2),
        Get("q"),
        Nack(3),
        Get("q"),
    ),
    scenario(
        LIMIT,
        "delivery limit dead-letters",
        DeclareQueue("dead"),
        quorum(x_delivery_limit=1, x_dead_letter_exchange="", x_dead_letter_routing_key="dead"),
        *publish("1"),
        Get("q"),
        Reject(1),
        Get("q"),
        Reject(2),
        Get("q"),
        Get("dead"),
    ),
    scenario(
        LIMIT,
        "rejected messages of a quorum queue are dead-lettered",
        DeclareQueue("dead"),
        quorum(x_dead_letter_exchange="", x_dead_letter_routing_key="dead"),
        *publish("1"),
        Get("q"),
        Reject(1, requeue=False),
        Get("dead"),
    ),
    scenario(
        LIMIT,
        "delivery limit of a classic queue means nothing",
        DeclareQueue("q", arguments={"x-delivery-limit": 1}),
    ),
    scenario(
        STREAM,
        "stream is declared and refused",
        DeclareQueue("s", arguments={"x-queue-type": "stream"}),
        DeclareQueue("s", durable=True, exclusive=True, arguments={"x-queue-type": "stream"}),
        DeclareQueue("s", durable=True, arguments={"x-queue-type": "stream", "x-message-ttl": 5}),
    ),
)
