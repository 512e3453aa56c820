"""Users, passwords and permissions, with RabbitMQ's texts."""

from __future__ import annotations

import base64
import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from amqproxy.broker.access import Permissions, User, decode_hash, hash_password
from amqproxy.broker.errors import ProtocolError

examples = settings(max_examples=30, deadline=None, derandomize=True, database=None)

ALGORITHMS = ("rabbit_password_hashing_sha256", "rabbit_password_hashing_sha512", "rabbit_password_hashing_md5")


def user(permissions: Permissions | None = None) -> User:
    found = User("u", hash_password("p"))
    if permissions is not None:
        found.permissions["/"] = permissions
    return found


# Passwords.


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@examples
@given(password=st.text(max_size=20), other=st.text(max_size=20))
def test_a_user_knows_the_password_and_no_other(algorithm: str, password: str, other: str) -> None:
    password, other = (text.encode(errors="ignore").decode() for text in (password, other))
    found = User("u", hash_password(password, algorithm), algorithm)
    assert found.knows(password)
    assert found.knows(other) is (password == other)


def test_the_hash_is_that_of_rabbitmqs_documentation() -> None:
    salt = bytes.fromhex("908DC60A")
    digest = hashlib.sha256(salt + b"test12").digest()
    text = base64.b64encode(salt + digest).decode()
    assert text == "kI3GCqW5JLMJa4iX1lo7X4D6XbYqlLgxIs30+P6tENUV2POR"
    assert User("u", decode_hash(text, ALGORITHMS[0])).knows("test12")


def test_two_hashes_of_one_password_differ() -> None:
    assert hash_password("p") != hash_password("p")


def test_a_user_without_a_password_is_let_in_by_none() -> None:
    assert not User("u", b"").knows("")


def test_a_password_that_is_no_utf_8_is_a_password() -> None:
    password = b"\xff\x00".decode(errors="surrogateescape")
    assert User("u", hash_password(password)).knows(password)


@pytest.mark.parametrize(
    ("text", "algorithm", "why"),
    [
        ("abc", ALGORITHMS[0], "a password hash is base64"),
        ("ab!=", ALGORITHMS[0], "a password hash is base64"),
        ("YWJj", "rot13", "the hashing algorithm 'rot13' is not one of rabbit_password_hashing_sha256, "),
    ],
)
def test_a_hash_that_is_none_is_refused(text: str, algorithm: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        decode_hash(text, algorithm)


# Permissions.


def test_without_permissions_nothing_is_allowed() -> None:
    with pytest.raises(ProtocolError) as caught:
        user().check("read", "/", "queue", "q")
    assert (caught.value.code, caught.value.explanation) == (
        403,
        "read access to queue 'q' in vhost '/' refused for user 'u'",
    )


def test_each_kind_of_access_has_its_own_pattern() -> None:
    granted = Permissions(configure="^c", write="^w", read="^r")
    for kind in ("configure", "write", "read"):
        for name in ("c", "w", "r", "xw"):
            assert granted.allow(kind, name) is (name == kind[0])


def test_a_pattern_is_searched_for_and_an_empty_one_allows_the_empty_name_only() -> None:
    assert Permissions(read="b").allow("read", "abc")
    assert not Permissions(read="").allow("read", "a")
    assert Permissions(read="").allow("read", "")
    assert Permissions().allow("read", "anything")


def test_a_permission_of_one_host_is_none_of_another() -> None:
    found = user(Permissions())
    found.check("write", "/", "queue", "q")
    with pytest.raises(ProtocolError, match="in vhost 'other' refused"):
        found.check("write", "other", "queue", "q")


def test_the_default_exchange_is_called_amq_default() -> None:
    found = user(Permissions(write="^amq.default$"))
    found.check("write", "/", "exchange", "")
    with pytest.raises(ProtocolError, match=r"configure access to exchange 'amq\.default'"):
        user(Permissions(configure="^x")).check("configure", "/", "exchange", "")
    with pytest.raises(ProtocolError, match="write access to queue ''"):
        found.check("write", "/", "queue", "")


def test_a_permission_that_is_no_pattern_is_refused_when_it_is_given() -> None:
    for kind in ("configure", "write", "read"):
        with pytest.raises(ValueError, match=r"a permission is a regular expression; '\(' is none"):
            Permissions(**{kind: "("})


def test_routing_keys_are_free_unless_a_topic_permission_says_otherwise() -> None:
    found = user(Permissions())
    found.check_topic("write", "/", "amq.topic", "any")
    found.topic_permissions["/", "amq.topic"] = Permissions(write="^mine", read="")
    found.check_topic("write", "/", "amq.topic", "mine.x")
    found.check_topic("write", "/", "other", "any")
    with pytest.raises(ProtocolError) as caught:
        found.check_topic("write", "/", "amq.topic", "yours")
    assert caught.value.code == 403
    assert caught.value.explanation == (
        "write access to topic 'yours' in exchange 'amq.topic' in vhost '/' refused for user 'u'"
    )
    with pytest.raises(ProtocolError, match="read access to topic"):
        found.check_topic("read", "/", "amq.topic", "mine")
