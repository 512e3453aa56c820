"""What RabbitMQ exports, the embedded broker begins with: clients see no difference afterwards."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pika
import pytest

from amqproxy.testing import RabbitMQ, broker_thread

Observed = dict[str, Any]

POLICIES: dict[str, Any] = {
    "short": ("^short$", {"max-length": 2, "dead-letter-exchange": "amq.fanout"}, "queues"),
    "lossless": ("^orders$", {"alternate-exchange": "unsorted"}, "exchanges"),
}


@pytest.fixture
def vhost(rabbitmq_node: RabbitMQ) -> Iterator[str]:
    """A virtual host on RabbitMQ with a user, policies, exchanges, queues and bindings."""
    name = f"defs-{secrets.token_hex(4)}"
    ctl = rabbitmq_node.ctl
    ctl("add_vhost", name)
    ctl("add_user", name, "s3cret")
    ctl("set_permissions", "-p", name, "guest", ".*", ".*", ".*")
    ctl("set_permissions", "-p", name, name, "^mine", ".*", ".*")
    for policy, (pattern, definition, kind) in POLICIES.items():
        ctl("set_policy", "-p", name, policy, pattern, json.dumps(definition), "--apply-to", kind)
    ctl("set_operator_policy", "-p", name, "shorter", "^short$", '{"max-length": 1}', "--apply-to", "queues")
    with pika.BlockingConnection(pika.URLParameters(rabbitmq_node.url + name)) as connection:
        declare(connection.channel())
    yield name
    ctl("delete_vhost", name)
    ctl("delete_user", name)


def declare(channel: Any) -> None:
    channel.exchange_declare("orders", "topic", durable=True)
    channel.exchange_declare("unsorted", "fanout", durable=True)
    channel.exchange_declare("copies", "headers", durable=True, auto_delete=False)
    channel.queue_declare("a", durable=True, arguments={"x-max-priority": 3, "x-message-ttl": 60_000})
    channel.queue_declare("quorum", durable=True, arguments={"x-queue-type": "quorum"})
    for queue in ("rest", "dead", "short"):
        channel.queue_declare(queue, durable=True)
    channel.queue_bind("a", "orders", "*.new")
    channel.queue_bind("rest", "unsorted")
    channel.queue_bind("dead", "amq.fanout")
    channel.exchange_bind("copies", "orders", "#.new")
    channel.queue_bind("quorum", "copies", "", arguments={"x-match": "all", "copy": True, "times": 2})


def observe(url: str) -> Observed:
    """Do what shows whether all is there, and note what comes of it."""
    seen: Observed = {}
    with pika.BlockingConnection(pika.URLParameters(url)) as connection:
        channel = connection.channel()
        channel.confirm_delivery()
        with pytest.raises(pika.exceptions.ChannelClosedByBroker) as refused:
            connection.channel().queue_declare("forbidden")
        seen["refused"] = refused.value.reply_code
        with pytest.raises(pika.exceptions.ChannelClosedByBroker) as missing:
            connection.channel().queue_declare("mine", passive=True)
        seen["missing"] = missing.value.reply_text
        headers = {"copy": True, "times": 2}
        channel.basic_publish("orders", "eu.new", b"new", pika.BasicProperties(headers=headers))
        channel.basic_publish("orders", "eu.old", b"old")
        for number in range(3):
            channel.basic_publish("", "short", str(number).encode())
        for queue in ("a", "quorum", "rest", "short", "dead"):
            seen[queue] = list(bodies(channel, queue))
    return seen


def bodies(channel: Any, queue: str) -> Iterator[bytes]:
    while True:
        body = channel.basic_get(queue, auto_ack=True)[2]
        if body is None:
            return
        yield body


def test_clients_see_the_same_as_on_rabbitmq(rabbitmq_node: RabbitMQ, vhost: str, tmp_path: Path) -> None:
    file = tmp_path / "definitions.json"
    rabbitmq_node.ctl("export_definitions", str(file))
    url = f"amqp://{vhost}:s3cret@127.0.0.1:{{}}/{vhost}"
    with broker_thread(definitions=file) as broker:
        embedded = observe(url.format(broker.port))
        guest = f"amqp://guest:guest@127.0.0.1:{broker.port}/{vhost}"
        with pika.BlockingConnection(pika.URLParameters(guest)) as connection:
            declare(connection.channel())  # all is there already, and the same
    assert embedded == observe(url.format(rabbitmq_node.port))
    assert embedded["a"] == [b"new"]
    assert embedded["short"] == [b"2"] and embedded["dead"] == [b"0", b"1"]
    assert embedded["rest"] == [b"old"]
