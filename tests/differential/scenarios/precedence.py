"""Operations that are wrong in two ways: which of them is told."""

from __future__ import annotations

from typing import Any

from tests.differential.language import (
    B1,
    BindExchange,
    BindQueue,
    Consume,
    DeclareExchange,
    DeclareQueue,
    DeleteExchange,
    DeleteQueue,
    Get,
    OnChannel,
    Publish,
    Qos,
    UnbindExchange,
    UnbindQueue,
)
from tests.differential.scenarios.scenario import Scenario, scenario

PRECEDENCE = "which of two mistakes is told"

EQUIVALENCE: dict[str, Any] = {
    "x-expires": 60000,
    "x-message-ttl": 60000,
    "x-dead-letter-exchange": "a",
    "x-dead-letter-routing-key": "b",
    "x-max-length": 5,
    "x-max-length-bytes": 5,
    "x-max-priority": 3,
    "x-overflow": "drop-head",
    "x-queue-mode": "lazy",
    "x-queue-version": 2,
    "x-single-active-consumer": True,
    "x-queue-type": "quorum",
}
"""Arguments in the order in which they are compared."""
MALFORMED: dict[str, Any] = {
    "x-dead-letter-exchange": 5,
    "x-queue-type": 5,
    "x-expires": "",
    "x-message-ttl": "",
    "x-dead-letter-routing-key": 5,
    "x-max-length": "",
    "x-max-length-bytes": "",
    "x-max-priority": "",
    "x-overflow": 5,
    "x-queue-mode": 5,
    "x-queue-version": "",
    "x-single-active-consumer": 5,
    "x-delivery-limit": 5,
}
HERE, LOCKED = DeclareQueue("q"), DeclareQueue("q", exclusive=True, at=B1)
EXCHANGE = DeclareExchange("x")
ALTERNATE = {"alternate-exchange": "y"}


def tails(table: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the table without its first entry, without its first two, and so on; the order is turned round."""
    entries = list(table.items())
    return [dict(reversed(entries[start:])) for start in range(len(entries))]


def told(name: str, *operations: OnChannel) -> Scenario:
    return scenario(PRECEDENCE, name, *operations)


def message(*, exchange: str = "", immediate: bool = False, **properties: Any) -> Publish:
    return Publish(exchange, "q", "body", immediate=immediate, properties=properties)


SCENARIOS = (
    told(
        "arguments are compared in this order",
        HERE,
        *(DeclareQueue("q", arguments=tail) for tail in tails(EQUIVALENCE)),
    ),
    told("arguments are checked in this order", *(DeclareQueue("q", arguments=tail) for tail in tails(MALFORMED))),
    told("reserved name and bad arguments", DeclareQueue("amq.q", arguments={"x-expires": -1})),
    told(
        "other properties and other arguments",
        HERE,
        DeclareQueue("q", durable=True, auto_delete=True, arguments=ALTERNATE),
    ),
    told("other properties and bad arguments", HERE, DeclareQueue("q", durable=True, arguments={"x-expires": -1})),
    told("same properties and bad arguments", HERE, DeclareQueue("q", arguments={"x-expires": -1})),
    told("locked and bad arguments", LOCKED, DeclareQueue("q", arguments={"x-expires": -1})),
    told("locked and other properties", LOCKED, DeclareQueue("q", durable=True)),
    told("wants the lock and bad arguments", HERE, DeclareQueue("q", exclusive=True, arguments={"x-expires": -1})),
    told(
        "exchange of other everything",
        EXCHANGE,
        DeclareExchange("x", "fanout", durable=True, auto_delete=True, internal=True, arguments=ALTERNATE),
        DeclareExchange("x", durable=True, auto_delete=True, internal=True, arguments=ALTERNATE),
        DeclareExchange("x", auto_delete=True, internal=True, arguments=ALTERNATE),
        DeclareExchange("x", internal=True, arguments=ALTERNATE),
        DeclareExchange("x", arguments={"alternate-exchange": 5}),
    ),
    told(
        "exchange of a reserved name",
        DeclareExchange("amq.x"),
        DeclareExchange("amq.x", arguments={"alternate-exchange": 5}),
    ),
    told("exchange of a reserved name and an unknown type", DeclareExchange("amq.x", "nonsense")),
    told("default exchange with an unknown type", DeclareExchange("", "nonsense")),
    told("tag in use and queue not there", HERE, Consume("q", "t"), Consume("nothing", "t")),
    told("tag in use and exclusive consumer", HERE, Consume("q", "t", exclusive=True), Consume("q", "t")),
    told(
        "exclusive consumer and bad arguments",
        HERE,
        Consume("q", "t", exclusive=True),
        Consume("q", "u", arguments={"x-priority": "a"}),
    ),
    told("locked and bad arguments of a consumer", LOCKED, Consume("q", "t", arguments={"x-priority": "a"})),
    told("queue not there and bad arguments of a consumer", Consume("q", "t", arguments={"x-priority": "a"})),
    told("immediate and exchange not there", message(exchange="nothing", immediate=True)),
    told("immediate and not its user", message(immediate=True, user_id="x")),
    told("expiration and CC and delivery mode", HERE, message(expiration="x", headers={"CC": 5}, delivery_mode=7)),
    told("user and CC and delivery mode", HERE, message(user_id="x", headers={"CC": 5}, delivery_mode=7)),
    told("CC and delivery mode", HERE, message(headers={"CC": 5}, delivery_mode=7)),
    told("CC and BCC", HERE, message(headers={"BCC": 5, "CC": 5})),
    told("delivery mode and expiration", HERE, message(delivery_mode=7, expiration="x")),
    told("user and expiration", HERE, message(user_id="x", expiration="x")),
    told("reply address and delivery mode", HERE, message(reply_to="amq.rabbitmq.reply-to", delivery_mode=7)),
    told("reply address and expiration", HERE, message(reply_to="amq.rabbitmq.reply-to", expiration="x")),
    told("reply address and user", HERE, message(reply_to="amq.rabbitmq.reply-to", user_id="x")),
    told("internal exchange and user", DeclareExchange("x", internal=True), message(exchange="x", user_id="x")),
    told("bind nothing to the default exchange", BindQueue("nothing", "", "")),
    told("bind nothing to nothing", BindQueue("nothing", "nowhere", ""), UnbindQueue("nothing", "nowhere", "")),
    told("bind nowhere to nowhere", BindExchange("nothing", "nowhere"), UnbindExchange("nothing", "nowhere")),
    told("bind a locked queue to nothing", LOCKED, BindQueue("q", "nowhere", ""), BindQueue("q", "", "")),
    told("bad headers binding of nothing", BindQueue("nothing", "amq.headers", "", {"x-match": 5})),
    told("locked and in use", LOCKED, Consume("q", at=B1), DeleteQueue("q", if_unused=True), Get("q")),
    told(
        "system exchange in use", HERE, BindQueue("q", "amq.direct", "k"), DeleteExchange("amq.direct", if_unused=True)
    ),
    told("size and count of a prefetch", Qos(65535, True, 2**32 - 1)),
)
