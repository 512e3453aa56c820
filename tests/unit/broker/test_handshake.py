"""What the two sides tell each other before a connection is open."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from amqproxy.broker.errors import ProtocolError
from amqproxy.broker.handshake import CAPABILITIES, check_tuned, credentials, server_properties
from amqproxy.broker.tables import Table, long_string
from amqproxy.fields import encode_table

examples = settings(max_examples=100, deadline=None, derandomize=True, database=None)


def test_clients_that_look_at_the_broker_see_rabbitmq_and_all_that_it_can() -> None:
    properties = server_properties()
    assert (properties["product"], str(properties["version"])[0]) == ("RabbitMQ", "4")
    assert properties["capabilities"] == dict.fromkeys(CAPABILITIES, True)
    assert encode_table(properties)


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (4095, "negotiated frame_max = 4095 is lower than the minimum allowed value (4096)"),
        (1, "negotiated frame_max = 1 is lower than the minimum allowed value (4096)"),
        (131073, "negotiated frame_max = 131073 is higher than the maximum allowed value (131072)"),
        (0, "negotiated frame_max = 0 (no limit) is higher than the maximum allowed value (131072)"),
    ],
)
def test_a_limit_is_what_was_offered_or_less_and_none_is_more(value: int, why: str) -> None:
    with pytest.raises(ProtocolError) as caught:
        check_tuned("frame_max", 4096, 131072, value)
    assert (caught.value.code, caught.value.explanation) == (530, why)
    check_tuned("frame_max", 4096, 131072, 4096)
    check_tuned("frame_max", 4096, 131072, 131072)


def test_where_nothing_is_limited_anything_goes_but_too_little() -> None:
    check_tuned("channel_max", 1, 0, 0)
    check_tuned("channel_max", 1, 0, 65535)


def test_plain_is_a_name_and_a_password() -> None:
    assert credentials("PLAIN", b"\0user\0pass") == ("user", "pass")
    assert credentials("PLAIN", b"\0\0") == ("", "")
    assert credentials("PLAIN", "\0é\0ü".encode()) == ("é", "ü")


@pytest.mark.parametrize("response", [b"", b"user", b"user\0pass", b"other\0user\0pass", b"\0a\0b\0c"])
def test_plain_is_nothing_else(response: bytes) -> None:
    with pytest.raises(ProtocolError) as caught:
        credentials("PLAIN", response)
    assert caught.value.code == 502


def test_amqplain_is_a_table() -> None:
    response = encode_table({"LOGIN": "user", "PASSWORD": "pass"})[4:]
    assert credentials("AMQPLAIN", response) == ("user", "pass")
    assert credentials("AMQPLAIN", Table({"LOGIN": long_string("user")}).encode()[4:]) == ("user", "")
    assert credentials("AMQPLAIN", b"\x05garbage") == ("", "")
    assert credentials("AMQPLAIN", b"") == ("", "")


@examples
@given(st.binary(max_size=60))
def test_any_bytes_are_credentials_or_refused(response: bytes) -> None:
    name, password = credentials("AMQPLAIN", response)
    assert isinstance(name + password, str)
    try:
        name, password = credentials("PLAIN", response)
    except ProtocolError as error:
        assert error.code == 502
    else:
        assert f"\0{name}\0{password}".encode(errors="surrogateescape") == response
