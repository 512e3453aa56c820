"""RabbitMQ's definitions: what they hold is there afterwards, and what is wrong in them is named by its path."""

from __future__ import annotations

import copy
import logging
import re
import struct
from typing import Any

import pytest

from amqproxy.broker import Broker
from amqproxy.broker.definitions import DefinitionsError, load
from amqproxy.broker.exchange import Binding
from amqproxy.broker.tables import Table, array, long_integer, long_string, nested

# As `rabbitmqctl export_definitions` of RabbitMQ 3.10.8 wrote them, but for the order.
EXPORTED: dict[str, Any] = {
    "rabbit_version": "3.10.8",
    "rabbitmq_version": "3.10.8",
    "global_parameters": [],
    "users": [
        {
            "hashing_algorithm": "rabbit_password_hashing_sha256",
            "limits": {},
            "name": "ann",
            "password_hash": "aftPAabAF7kHj+nMUNmKEuA4JQIGmH3uLyCzsYpsruS+5dqQ",
            "tags": ["monitoring", "impersonator"],
        },
    ],
    "vhosts": [
        {
            "limits": [],
            "metadata": {"default_queue_type": "quorum", "description": "d", "tags": ["a", "b"]},
            "name": "typed",
        },
        {"limits": [["max-queues", 50]], "metadata": {"description": "", "tags": ""}, "name": "shop"},
        {"limits": [], "metadata": {"description": "Default virtual host", "tags": []}, "name": "/"},
    ],
    "permissions": [{"configure": "^a", "read": "b|c", "user": "ann", "vhost": "shop", "write": ".*"}],
    "topic_permissions": [{"exchange": "amq.topic", "read": ".*", "user": "ann", "vhost": "shop", "write": "^k"}],
    "parameters": [
        {
            "component": "operator_policy",
            "name": "op",
            "value": {
                "apply-to": "queues",
                "definition": [["expires", 600000], ["max-length", 5]],
                "pattern": ".*",
                "priority": 0,
            },
            "vhost": "shop",
        },
        {"component": "vhost-limits", "name": "limits", "value": {"max-queues": 50}, "vhost": "shop"},
    ],
    "policies": [
        {
            "apply-to": "queues",
            "definition": {"dead-letter-exchange": "dlx", "max-length": 10, "message-ttl": 5000},
            "name": "ttl",
            "pattern": "^q",
            "priority": 3,
            "vhost": "shop",
        },
        {
            "apply-to": "exchanges",
            "definition": {"alternate-exchange": "amq.fanout"},
            "name": "ae",
            "pattern": "^e",
            "priority": 0,
            "vhost": "shop",
        },
    ],
    "queues": [
        {
            "arguments": {"x-queue-type": "quorum"},
            "auto_delete": False,
            "durable": True,
            "name": "qq",
            "type": "quorum",
            "vhost": "shop",
        },
        {
            "arguments": {},
            "auto_delete": False,
            "durable": False,
            "name": "transient",
            "type": "classic",
            "vhost": "shop",
        },
        {
            "arguments": {"x-max-priority": 5, "x-message-ttl": 8589934592},
            "auto_delete": True,
            "durable": True,
            "name": "q1",
            "type": "classic",
            "vhost": "shop",
        },
    ],
    "exchanges": [
        {
            "arguments": {"alternate-exchange": "amq.direct"},
            "auto_delete": False,
            "durable": True,
            "name": "e1",
            "type": "topic",
            "vhost": "shop",
        },
        {"arguments": {}, "auto_delete": True, "durable": False, "name": "e2", "type": "fanout", "vhost": "shop"},
    ],
    "bindings": [
        {
            "arguments": {"b": True, "d": {"k": 1099511627776}, "f": 1.5, "l": [1, "x"], "n": 1, "no": None, "s": "t"},
            "destination": "q1",
            "destination_type": "queue",
            "routing_key": "k.*",
            "source": "e1",
            "vhost": "shop",
        },
        {
            "arguments": {},
            "destination": "e2",
            "destination_type": "exchange",
            "routing_key": "a.#",
            "source": "e1",
            "vhost": "shop",
        },
    ],
}


@pytest.fixture
def broker() -> Broker:
    made = Broker()
    load(made, EXPORTED)
    return made


def queue(name: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "vhost": "/", "durable": True, "auto_delete": False, **more}


def loaded(**sections: Any) -> Broker:
    broker = Broker()
    load(broker, sections)
    return broker


def test_users_come_with_passwords_tags_and_permissions(broker: Broker) -> None:
    ann = broker.users["ann"]
    assert ann.knows("s3cret") and not ann.knows("other")
    assert ann.tags == ("monitoring", "impersonator")
    granted = ann.permissions["shop"]
    assert (granted.configure, granted.write, granted.read) == ("^a", ".*", "b|c")
    topics = ann.topic_permissions["shop", "amq.topic"]
    assert (topics.write, topics.read) == ("^k", ".*")


def test_what_is_not_named_stays(broker: Broker) -> None:
    assert broker.users["guest"].knows("guest")
    assert "/" in broker.users["guest"].permissions


def test_user_that_is_there_gets_another_password_and_keeps_permissions() -> None:
    broker = loaded(users=[{"name": "guest", "password": "new", "tags": "administrator, monitoring,"}])
    guest = broker.users["guest"]
    assert guest.knows("new") and not guest.knows("guest")
    assert guest.tags == ("administrator", "monitoring")
    assert "/" in guest.permissions


def test_virtual_hosts_come_with_their_default_queue_type(broker: Broker) -> None:
    assert {name: vhost.default_queue_type for name, vhost in broker.vhosts.items()} == {
        "/": "classic",
        "typed": "quorum",
        "shop": "classic",
    }
    newer = loaded(
        vhosts=[{"name": "n", "default_queue_type": "quorum"}, {"name": "u", "default_queue_type": "undefined"}]
    )
    assert (newer.vhosts["n"].default_queue_type, newer.vhosts["u"].default_queue_type) == ("quorum", "classic")


def test_queues_are_what_a_client_would_declare(broker: Broker) -> None:
    shop = broker.vhosts["shop"]
    assert {name: queue.durable for name, queue in shop.queues.items()} == {"qq": True, "transient": False, "q1": True}
    assert shop.queues["q1"].auto_delete
    assert shop.queues["qq"].settings.type == "quorum"
    priorities = Table({"x-max-priority": b"B\x05", "x-message-ttl": b"l\x00\x00\x00\x02\x00\x00\x00\x00"})
    assert shop.declare_queue("q1", durable=True, auto_delete=True, arguments=priorities) is shop.queues["q1"]


def test_type_of_a_queue_may_stand_beside_its_arguments() -> None:
    broker = loaded(
        vhosts=[{"name": "typed", "metadata": {"default_queue_type": "quorum"}}],
        queues=[
            queue("a", type="quorum"),
            queue("b", type="classic", vhost="typed"),
            queue("c", vhost="typed"),
            queue("d", type="quorum", vhost="typed"),
        ],
    )
    types = {name: found.settings.type for host in broker.vhosts.values() for name, found in host.queues.items()}
    assert types == {"a": "quorum", "b": "classic", "c": "quorum", "d": "quorum"}


def test_exchanges_and_bindings_are_there(broker: Broker) -> None:
    shop = broker.vhosts["shop"]
    exchange = shop.exchanges["e1"]
    assert (exchange.type, exchange.durable, shop.exchanges["e2"].auto_delete) == ("topic", True, True)
    assert list(exchange.matcher.match("k.1", None)) == [shop.queues["q1"]]
    assert list(exchange.matcher.match("a.b.c", None)) == [shop.exchanges["e2"]]


def test_bindings_have_the_arguments_that_rabbitmq_would_give_them(broker: Broker) -> None:
    shop = broker.vhosts["shop"]
    arguments = Table(
        {
            "b": b"t\x01",
            "d": nested(Table({"k": long_integer(1099511627776)})),
            "f": struct.pack(">cd", b"d", 1.5),
            "l": array([long_integer(1), long_string("x")]),
            "n": long_integer(1),
            "no": b"V",
            "s": long_string("t"),
        }
    )
    assert not shop.exchanges["e1"].bind(Binding(shop.queues["q1"], "k.*", arguments)), "it is not the same binding"


def test_policies_hold_for_queues_and_exchanges_of_the_definitions(broker: Broker) -> None:
    shop = broker.vhosts["shop"]
    settings = shop.queues["q1"].settings
    assert (settings.message_ttl, settings.max_length, settings.expires) == (5000, 5, 600000)
    assert settings.dead_letter_exchange == "dlx"
    assert shop.queues["transient"].settings.message_ttl is None
    assert shop.exchanges["e1"].alternate == "amq.direct"  # its own argument wins
    assert shop.exchanges["e2"].alternate == "amq.fanout"


def test_policies_hold_for_what_clients_declare_later(broker: Broker) -> None:
    shop = broker.vhosts["shop"]
    assert shop.declare_queue("q-later").settings.message_ttl == 5000
    shop.declare_exchange("e-later", "direct", durable=True, auto_delete=False, internal=False, arguments=Table())
    assert shop.exchanges["e-later"].alternate == "amq.fanout"
    assert shop.declare_queue("q-later") is shop.queues["q-later"]  # a policy is no argument that is to be repeated
    assert broker.vhosts["/"].declare_queue("q").settings.message_ttl is None


def test_definitions_may_be_loaded_again(broker: Broker) -> None:
    load(broker, copy.deepcopy(EXPORTED))
    assert [len(vhost.queues) for vhost in broker.vhosts.values()] == [0, 0, 3]


def test_what_means_nothing_here_is_passed_over(caplog: pytest.LogCaptureFixture) -> None:
    broker = loaded(
        queeus=[1],
        product_name="RabbitMQ",
        policies=[{"name": "p", "vhost": "/", "pattern": "", "definition": {"ha-mode": "all", "max-length": 3}}],
        queues=[queue("amq.gen-JzTY20BRgKO-HjmUJj0wLg")],
        bindings=[
            {"source": "", "destination": "q", "destination_type": "queue", "routing_key": "q", "vhost": "/"},
            {"source": "no", "destination": "q", "destination_type": "queue", "routing_key": "", "vhost": "/"},
            {
                "source": "amq.topic",
                "destination": "no",
                "destination_type": "exchange",
                "routing_key": "",
                "vhost": "/",
            },
        ],
    )
    assert broker.vhosts["/"].queues == {}
    assert [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING] == [
        "the definitions have a section 'queeus', which means nothing to a broker: passed over",
        "a policy of the definitions sets 'ha-mode', which has no effect here",
        "the queue 'amq.gen-JzTY20BRgKO-HjmUJj0wLg' of the definitions has a name that a broker gave: passed over",
        "the definitions bind 'q' to 'no': one is not there",
        "the definitions bind 'no' to 'amq.topic': one is not there",
    ]


def policy(**more: Any) -> dict[str, Any]:
    return {"name": "p", "vhost": "/", "pattern": "", "definition": {}, **more}


@pytest.mark.parametrize(
    ("sections", "why"),
    [
        ({"users": 5}, "Expected `array`, got `int` - at `$.users`"),
        (
            {"users": [{"name": "x", "tags": []}]},
            "a user has a password or a password_hash - at `$.users[0].password_hash`",
        ),
        ({"users": [{"name": "x", "password": "p"}]}, "Object missing required field `tags` - at `$.users[0]`"),
        (
            {"users": [{"name": "x", "password_hash": "?", "tags": []}]},
            "a password hash is base64: Only base64 data is allowed - at `$.users[0].password_hash`",
        ),
        (
            {"users": [{"name": "x", "password_hash": "", "hashing_algorithm": "rot13", "tags": []}]},
            "the hashing algorithm 'rot13' is not one of rabbit_password_hashing_sha256, "
            "rabbit_password_hashing_sha512, rabbit_password_hashing_md5 - at `$.users[0].password_hash`",
        ),
        (
            {"vhosts": [{"name": "v", "default_queue_type": "stream"}]},
            "the default queue type 'stream' is not to be had here - at `$.vhosts[0]`",
        ),
        (
            {"permissions": [{"user": "nobody", "vhost": "/", "configure": "", "write": "", "read": ""}]},
            "there is no user 'nobody'; name it among the users - at `$.permissions[0].user`",
        ),
        (
            {"permissions": [{"user": "guest", "vhost": "/", "configure": "(", "write": "", "read": ""}]},
            "a permission is a regular expression; '(' is none: missing ), unterminated subpattern at position 0 - "
            "at `$.permissions[0]`",
        ),
        (
            {"topic_permissions": [{"user": "guest", "vhost": "/", "exchange": "e", "write": "(", "read": ""}]},
            "a permission is a regular expression; '(' is none: missing ), unterminated subpattern at position 0 - "
            "at `$.topic_permissions[0]`",
        ),
        (
            {"queues": [queue("a"), queue("q", vhost="nope")]},
            "there is no virtual host 'nope'; name it among the vhosts - at `$.queues[1].vhost`",
        ),
        ({"queues": [{"name": "q", "vhost": "/"}]}, "Object missing required field `durable` - at `$.queues[0]`"),
        (
            {"queues": [queue("q", arguments={"x-message-ttl": "abc"})]},
            "invalid arg 'x-message-ttl' for queue 'q' in vhost '/': \"expected integer, got longstr\" - "
            "at `$.queues[0]`",
        ),
        (
            {"queues": [queue("q", arguments={"x": 2**63})]},
            "an argument holds 64-bit integers; 9223372036854775808 is larger - at `$.queues[0]`",
        ),
        (
            {"exchanges": [queue("e", type="x-random")]},
            "there is no exchange type 'x-random' here, only direct, fanout, topic, headers - at `$.exchanges[0].type`",
        ),
        (
            {"exchanges": [queue("amq.mine", type="direct")]},
            "exchange name 'amq.mine' contains reserved prefix 'amq.*' - at `$.exchanges[0]`",
        ),
        (
            {
                "bindings": [
                    {"source": "e", "destination": "q", "destination_type": "moon", "routing_key": "", "vhost": "/"}
                ]
            },
            "a binding leads to a queue or an exchange, not to a 'moon' - at `$.bindings[0].destination_type`",
        ),
        (
            {
                "queues": [queue("q")],
                "bindings": [
                    {
                        "source": "amq.headers",
                        "destination": "q",
                        "destination_type": "queue",
                        "routing_key": "",
                        "vhost": "/",
                        "arguments": {"x-match": "most"},
                    }
                ],
            },
            'Invalid x-match field value <<"most">>; expected all, any, all-with-x, or any-with-x - at `$.bindings[0]`',
        ),
        (
            {"policies": [policy(pattern="(")]},
            "'(' is no regular expression: missing ), unterminated subpattern at position 0 - "
            "at `$.policies[0].pattern`",
        ),
        (
            {"policies": [policy(), policy(definition={"max-length": "3"})]},
            "max-length is a whole number from 0 on, not '3' - at `$.policies[1].definition.max-length`",
        ),
        (
            {"parameters": [{"component": "operator_policy", "name": "o", "vhost": "/", "value": {"pattern": 3}}]},
            "Expected `str`, got `int` - at `$.parameters[0].value.pattern`",
        ),
        (
            {"parameters": [{"component": "operator_policy", "name": "o", "vhost": "/", "value": 3}]},
            "Expected `object`, got `int` - at `$.parameters[0].value`",
        ),
    ],
)
def test_what_is_wrong_is_named_by_its_path(sections: dict[str, Any], why: str) -> None:
    with pytest.raises(DefinitionsError, match=f"^{re.escape(why)}$"):
        loaded(**sections)
