"""What users do with any AMQP client, and what they see then: one table for the programs in all languages.

A program is called with a URL and a prefix for the names of its queues and exchanges, and prints what it saw as lines
of JSON, one array of a scenario's name and its observation each. In `EXPECTED` the prefix is Q. What RabbitMQ shows is
the measure: the table holds nothing that it does not show.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any

EXPECTED: dict[str, Any] = {
    # Which of log.db.error, log.db.info, log.error, audit and audit.a.b go where log.*.error and audit.# are bound.
    "topic": ["log.db.error", "audit", "audit.a.b"],
    # What two queues got of one message.
    "fanout": [["news"], ["news"]],
    # What of both, one and none went where all, or any, of two headers are asked for.
    "headers": {"all": ["both"], "any": ["both", "one"]},
    # A fanout exchange bound to a direct one, bound to a queue by the key.
    "exchange_binding": ["hop"],
    # A message whose key no queue is bound by.
    "alternate_exchange": ["lost and found"],
    # What three publishings that were confirmed left in the queue.
    "confirms": ["0", "1", "2"],
    # Reply code and text, exchange, routing key and body of the message that came back.
    "mandatory": [312, "NO_ROUTE", "", "Q.nowhere", "lost"],
    # Whether each of two publishings was acknowledged, by a queue that refuses the second.
    "reject_publish": [True, False],
    # How many of five messages stay in the queue when two may be unacknowledged; how many came in the end.
    "prefetch": [3, 5],
    # Whether a message was redelivered, before and after basic.nack, and after basic.reject.
    "requeue": [False, True, True],
    # Whether nothing came of an empty queue; then body, messages left, and whether it was redelivered.
    "get": [True, "one", 1, False],
    # How many messages were purged, and were deleted with the queue.
    "purge_and_delete": [3, 1],
    # Body, first reason, and the one entry of x-death: reason, queue, exchange, routing keys, count.
    "dead_letter": ["poison", "rejected", "rejected", "Q.work", "", ["Q.work"], 1],
    # Body, reason, original expiration, and the expiration that is left.
    "time_to_live": ["old", "expired", "20", None],
    # What is left of three messages in a queue of two.
    "max_length": ["1", "2"],
    # In which order priorities 1, 5 and 3 come.
    "priorities": ["5", "3", "1"],
    # How the name begins that the broker gives.
    "server_named": "amq.gen-",
    # What another connection is told of an exclusive queue.
    "exclusive": [
        405,
        "RESOURCE_LOCKED - cannot obtain exclusive access to locked queue 'Q.mine' in vhost '/'. It could be "
        "originally declared on another connection or the exclusive property value does not match that of the "
        "original declaration.",
    ],
    # Whether a consumer is told that its queue was deleted.
    "cancel_notify": True,
    # What came back by amq.rabbitmq.reply-to.
    "reply_to": ["ping pong 7"],
    # How many messages there are after tx.rollback, and after tx.commit.
    "transaction": [0, 1],
    # What a passive declaration is told, and whether the connection is of use after that.
    "missing_queue": [404, "NOT_FOUND - no queue 'Q.no' in vhost '/'", True],
    "inequivalent": [
        406,
        "PRECONDITION_FAILED - inequivalent arg 'x-max-length' for queue 'Q.odd' in vhost '/': "
        "received '2' but current is '1'",
    ],
    "unknown_tag": [406, "PRECONDITION_FAILED - unknown delivery tag 99"],
    # All properties but headers, and headers of many types, as they came back.
    "properties": [
        {
            "content_type": "text/plain",
            "content_encoding": "utf-8",
            "delivery_mode": 2,
            "priority": 4,
            "correlation_id": "c-1",
            "reply_to": "answers",
            "expiration": "60000",
            "message_id": "m-1",
            "timestamp": 1_700_000_000,
            "type": "greeting",
            "user_id": "guest",
            "app_id": "clients",
        },
        {
            "text": "grüße",
            "int": 7,
            "big": 2**40,
            "flag": True,
            "void": None,
            "list": [1, "two"],
            "table": {"deep": {"er": "x"}},
        },
    ],
    # Whether 1 MiB, eight frames and a bit, came back as it was sent.
    "big_body": True,
    # What an exclusive queue's consumer got after its client had lost the socket, and had recovered by itself.
    "recovery": "after",
    # Whether the client's own error for it was raised.
    "wrong_password": True,
    "missing_vhost": True,
    # Whether the connection was closed in good order.
    "close": True,
}

PROPERTIES: dict[str, Any] = EXPECTED["properties"][0]
HEADERS: dict[str, Any] = EXPECTED["properties"][1]
BIG = bytes(range(256)) * 4096
DEATH = ("reason", "queue", "exchange", "routing-keys", "count")


OF_CELERY: dict[str, Any] = {
    "result": 5,
    "failure": "no luck",
    # How often it was retried.
    "retry": 2,
    # The result, and whether it came no earlier than it should.
    "countdown": [5, True],
    "eta": [5, True],
    # Whether a task that expired before it began was revoked.
    "expires": True,
    "priority": 5,
    "group": list(range(1, 21)),
    "chain": 7,
    # What the worker answers.
    "ping": {"ok": "pong"},
    "queues": ["Q.tasks", True, {"x-max-priority": 5}],
    "revoke": True,
    # The result of a task from the queue that was added.
    "add_consumer": 5,
    "events": ["task-received", "task-started", "task-succeeded"],
    # The worker's exit code, and how many tasks its queue had left.
    "shutdown": [0, 0],
}
"""What users do with Celery; its own table, for its program is of another kind."""

PATIENCE = 20
"""Seconds until a scenario is given up; each takes far less than one, but for those with a recovery."""


def died(headers: Any, *keys: str) -> list[Any]:
    """What the one entry of x-death says."""
    (death,) = headers["x-death"]
    return [death[key] for key in keys]


def report(scenarios: object) -> None:
    """Print what each method named like a scenario saw, or the exception that it ended with."""
    for name in (*EXPECTED, *OF_CELERY):
        if hasattr(scenarios, name):
            try:
                saw = getattr(scenarios, name)()
            except Exception as error:
                saw = repr(error)
            print(json.dumps([name, saw]), flush=True)


async def report_async(scenarios: object) -> None:
    """Do the same where the methods are to be awaited."""
    for name in EXPECTED:
        if hasattr(scenarios, name):
            try:
                async with asyncio.timeout(PATIENCE):
                    saw = await getattr(scenarios, name)()
            except Exception as error:
                saw = repr(error)
            print(json.dumps([name, saw]), flush=True)
