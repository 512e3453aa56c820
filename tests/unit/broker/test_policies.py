"""Policies: which one holds, and what it makes of the arguments that a queue or exchange was declared with."""

from __future__ import annotations

import re
from typing import Any

import pytest

from amqproxy.broker.policies import KNOWN, Policies, Policy, check_setting
from amqproxy.broker.tables import Table, long_integer, long_string

QUORUM = Table({"x-queue-type": long_string("quorum")})


def effect(policies: Policies, kind: str, name: str, arguments: Table | None = None) -> dict[str, Any]:
    return dict(policies.govern(kind, name, arguments or Table()))


def test_without_policies_arguments_are_what_they_are() -> None:
    arguments = Table({"x-max-length": long_integer(3)})
    assert Policies().govern("queue", "q", arguments) is arguments


def test_policy_holds_where_its_pattern_is_found() -> None:
    policies = Policies([Policy.of("^a.c", {"max-length": 3})])
    assert effect(policies, "queue", "abcd") == {"x-max-length": 3}
    assert effect(policies, "queue", "xabc") == {}


def test_of_several_policies_the_one_of_highest_priority_holds() -> None:
    policies = Policies(
        [
            Policy.of(".*", {"max-length": 1, "expires": 5}, 1),
            Policy.of("^q", {"max-length": 9}, 7),
            Policy.of("z", {}, 8),
        ]
    )
    assert effect(policies, "queue", "q") == {"x-max-length": 9}
    assert effect(policies, "queue", "other") == {"x-max-length": 1, "x-expires": 5}


@pytest.mark.parametrize(
    ("apply_to", "classic", "quorum", "exchange"),
    [
        ("all", True, True, True),
        ("queues", True, True, False),
        ("classic_queues", True, False, False),
        ("quorum_queues", False, True, False),
        ("streams", False, False, False),
        ("exchanges", False, False, True),
    ],
)
def test_policy_holds_for_what_it_applies_to(apply_to: str, classic: bool, quorum: bool, exchange: bool) -> None:
    policies = Policies([Policy.of("", {"alternate-exchange": "rest"}, 0, apply_to)])
    assert ("x-alternate-exchange" in effect(policies, "queue", "n")) is classic
    assert ("x-alternate-exchange" in effect(policies, "queue", "n", QUORUM)) is quorum
    assert ("alternate-exchange" in effect(policies, "exchange", "n")) is exchange


def test_lower_limit_of_argument_and_policy_holds() -> None:
    policies = Policies([Policy.of("", {"max-length": 5, "message-ttl": 100})])
    arguments = Table({"x-max-length": b"s\x00\x09", "x-message-ttl": long_integer(7)})
    assert effect(policies, "queue", "q", arguments) == {"x-max-length": 5, "x-message-ttl": 7}


def test_argument_wins_over_policy_where_nothing_is_limited() -> None:
    policies = Policies([Policy.of("", {"dead-letter-exchange": "policy", "overflow": "reject-publish"})])
    arguments = Table({"x-dead-letter-exchange": long_string("argument")})
    assert effect(policies, "queue", "q", arguments) == {
        "x-dead-letter-exchange": "argument",
        "x-overflow": "reject-publish",
    }


def test_policies_of_operators_limit_and_win() -> None:
    policies = Policies(
        [Policy.of("", {"max-length": 5, "expires": 10, "overflow": "drop-head", "message-ttl": 4})],
        [Policy.of("", {"max-length": 3, "expires": 60, "overflow": "reject-publish", "max-length-bytes": 8})],
    )
    assert effect(policies, "queue", "q") == {
        "x-max-length": 3,
        "x-expires": 10,
        "x-overflow": "reject-publish",
        "x-message-ttl": 4,
        "x-max-length-bytes": 8,
    }


def test_negative_delivery_limit_is_none() -> None:
    policies = Policies([Policy.of("", {"delivery-limit": -1})], [Policy.of("", {"delivery-limit": 3})])
    assert effect(policies, "queue", "q", QUORUM)["x-delivery-limit"] == 3


@pytest.mark.parametrize(
    ("name", "value", "why"),
    [
        ("message-ttl", -1, "message-ttl is a whole number from 0 on, not -1"),
        ("expires", 0, "expires is a whole number from 1 on, not 0"),
        ("max-length", True, "max-length is a whole number from 0 on, not True"),
        ("delivery-limit", "3", "delivery-limit is a whole number, not '3'"),
        ("alternate-exchange", 3, "alternate-exchange is a text, not 3"),
        ("overflow", "explode", "overflow is one of drop-head, reject-publish, reject-publish-dlx, not 'explode'"),
    ],
)
def test_setting_that_cannot_be_is_named(name: str, value: object, why: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(why)}$"):
        check_setting(name, value)


def test_settings_that_can_be_are_taken() -> None:
    good = {"delivery-limit": -1, "expires": 1, "max-length": 0, "max-length-bytes": 0, "message-ttl": 0}
    texts = {
        "alternate-exchange": "",
        "dead-letter-exchange": "",
        "dead-letter-routing-key": "",
        "overflow": "drop-head",
    }
    assert good.keys() | texts.keys() == KNOWN
    for name, value in {**good, **texts}.items():
        check_setting(name, value)


def test_pattern_that_is_none_is_named() -> None:
    with pytest.raises(ValueError, match=r"'\(' is no regular expression"):
        Policy.of("(", {})
