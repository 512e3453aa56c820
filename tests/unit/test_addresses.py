from __future__ import annotations

import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from amqproxy.addresses import WORKERS, Addresses
from amqproxy.options import REPLY_QUEUES

REPLIES = Addresses(REPLY_QUEUES)


@pytest.mark.parametrize(
    "name",
    [
        "amq.gen-JzTY20BRgKO-HjmUJj0wLg",
        "amq.rabbitmq.reply-to.g1h2AA5yZXBseUAxNDEw.ssNBLZJ3TyFWHw==",
        "amq.gen--",
        "calculator.replies.0b7e8d3f-2f0f-4b4c-9d5a-2f4c6f2b7a11",
        "answers.7d5b6e7a-0000-4000-8000-000000000000",
        "rpc.reply-greeting-3f2504e04f8911d39a0c0305e82c3301",
        "reply_2f1d",
        "easynetq.response.abc",
        "Order.Reply",
        "CALLBACK-7",
        "3F2504E0-4F89-11D3-9A0C-0305E82C3301",
        "größe.replies",
    ],
)
def test_the_reply_queues_of_clients_are_taken(name: str) -> None:
    assert REPLIES.include(name.encode())
    assert WORKERS.include(name.encode())


@pytest.mark.parametrize(
    "name",
    [
        *(b"", b"calculator", b"orders", b"amqproxy.orders", b"orders.dead", b"amqproxy.delay.1000.orders"),
        *(b"amq.", b"xamq.gen-1", b"AMQ.gen-1", b"amqp", b"test.a1b2c3d4e5f6", b"celery", b"3f2504e0"),
        *(b"\xff", b"amq.gen-\xff", b"\xff" * 255, b"amq.gen-\n", b"amq.gen-1\n", b"\nreply", b"amq.gen-\x1b[2J"),
        *(b"amq.gen-\0", b"reply\xe2\x80\xa8", b"reply\x7f", b"\xc2\x9breply"),
    ],
)
def test_other_queues_are_not(name: bytes) -> None:
    assert not REPLIES.include(name)
    assert not WORKERS.include(name)


@given(st.uuids(), st.sampled_from([str, lambda one: one.hex, lambda one: str(one).upper()]))
def test_a_uuid_makes_a_reply_queue_however_it_is_written(one: uuid.UUID, write: object) -> None:
    assert callable(write)
    assert REPLIES.include(f"mine.{write(one)}.x".encode())


@given(st.binary(max_size=255))
def test_every_name_is_in_or_out(name: bytes) -> None:
    if REPLIES.include(name):
        assert name.decode().isprintable()


def test_all_of_a_name_must_fit() -> None:
    mine = Addresses(r"mine\.\d+")
    assert mine.include(b"mine.12")
    assert not mine.include(b"mine.12 ")
    assert not mine.include(b"not mine.12")
    assert not mine.include(b"amq.gen-1")


def test_every_name_that_is_text_can_be_let_in() -> None:
    assert Addresses(".*").include(b"orders")
    assert not Addresses(".*").include(b"orders\n")
