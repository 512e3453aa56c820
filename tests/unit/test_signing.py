from __future__ import annotations

import hashlib
import hmac
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from amqproxy.fields import Malformed
from amqproxy.properties import Properties
from amqproxy.signing import (
    MOST_BYTES,
    SIGNATURE_HEADER,
    NotSigned,
    Once,
    Signature,
    Signing,
    destination,
    sign,
    signed_bytes,
    unsigned,
    verify,
)

SECRET, OTHER = b"s" * 16, b"o" * 32
SIGNING = Signing(keys={"a": SECRET, "b": OTHER}, key="a")
NONCE = bytes(range(16))
SAID = Properties(
    content_type=b"calc.add",
    content_encoding=b"json",
    headers={"x-timeout-ms": 30000, "user": "ann", "deep": {"z": [1, {"b": 1, "a": 2}], "a": None}},
    delivery_mode=1,
    priority=3,
    correlation_id=b"c1",
    reply_to=b"amq.gen-1",
    expiration=b"30000",
    message_id=b"m1",
    timestamp=1764000000,
    type=b"t",
    user_id=b"guest",
    app_id=b"app",
    cluster_id=b"cluster",
)


def signed(said: Properties = SAID, body: bytes = b"[1,2]", to: str = "calc", now: float = 1000.0) -> Properties:
    return Properties.decode(sign(SIGNING, said.encode(), body, to, now, NONCE))


def test_what_was_signed_is_taken_and_says_when_and_where_to() -> None:
    assert verify(SIGNING, signed().encode(), b"[1,2]") == Signature(1000.0, NONCE, "calc")


def test_a_signature_is_as_the_page_says() -> None:
    """Made once more from the text of docs/security.md, with nothing of ours."""
    said = Properties(content_type=b"calc.add", headers={"b": 1, "a": "x"}, delivery_mode=2)
    text = (signed(said, b"[1,2]", "calc", 1764000000.123).headers or {})[SIGNATURE_HEADER]
    stamp = "1:a:1764000000123:000102030405060708090a0b0c0d0e0f"
    parts = [
        stamp.encode(),
        b"calc",
        b"\x90\x00",
        b"calc.add",
        b"\0\0\0\0\0\0\0\x02",
        b"\0\0\0\x08\x01aS\0\0\0\x01x",
        b"\0\0\0\x07\x01bI\0\0\0\x01",
        b"[1,2]",
    ]
    message = b"".join(len(part).to_bytes(4, "big") + part for part in parts)
    assert text == f"{stamp}:{hmac.new(SECRET, message, hashlib.sha256).hexdigest()}:calc"


CHANGES: dict[str, Any] = {
    "content_type": b"calc.sub",
    "content_encoding": b"protobuf",
    "delivery_mode": 2,
    "priority": 4,
    "correlation_id": b"c2",
    "reply_to": b"amq.gen-2",
    "message_id": b"m2",
    "timestamp": 1764000001,
    "type": b"u",
    "user_id": b"root",
    "app_id": b"ppa",
    "cluster_id": b"cluste",
}


@pytest.mark.parametrize("name", CHANGES)
def test_each_property_is_signed(name: str) -> None:
    for value in (CHANGES[name], None):
        with pytest.raises(NotSigned, match="its signature is wrong"):
            verify(SIGNING, replace(signed(), **{name: value}).encode(), b"[1,2]")


@pytest.mark.parametrize("name", ["content_type", "reply_to", "message_id"])
def test_an_empty_property_is_none_that_is_missing(name: str) -> None:
    with pytest.raises(NotSigned, match="wrong"):
        emptied: Any = {name: b""}
        verify(SIGNING, replace(signed(replace(SAID, **{name: None})), **emptied).encode(), b"[1,2]")


def test_what_stands_in_one_property_cannot_be_moved_to_the_next() -> None:
    moved = replace(signed(), app_id=b"appcluster", cluster_id=b"")
    with pytest.raises(NotSigned, match="wrong"):
        verify(SIGNING, moved.encode(), b"[1,2]")


@pytest.mark.parametrize(
    "change",
    [
        {"x-timeout-ms": 60000},
        {"x-timeout-ms": "30000"},
        {"user": "eve"},
        {"user": b"ann"},
        {"further": 1},
        {"deep": {"z": [1, {"b": 1, "a": 3}], "a": None}},
        {"deep": {"z": [{"b": 1, "a": 2}, 1], "a": None}},
        {"deep": None},
        {"x-deaths": 1, "x-signature-2": 1},
        *({name: 1} for name in ("x-death-row", "x-first-death", "x-last-death-queue2", "x-shovel", "x-Death")),
    ],
)
def test_each_header_is_signed(change: dict[str, Any]) -> None:
    found = signed()
    for headers in (
        {**(found.headers or {}), **change},
        {k: v for k, v in (found.headers or {}).items() if k != "user"},
    ):
        if "x-deaths" in change:
            headers.pop("x-deaths", None)
        with pytest.raises(NotSigned, match="wrong"):
            verify(SIGNING, replace(found, headers=headers).encode(), b"[1,2]")


def test_the_body_is_signed() -> None:
    for body in (b"[1,3]", b"", b"[1,2] "):
        with pytest.raises(NotSigned, match="wrong"):
            verify(SIGNING, signed().encode(), body)


@pytest.mark.parametrize("part", range(6))
def test_each_part_of_the_signature_is_signed(part: int) -> None:
    found = signed()
    parts = (found.headers or {})[SIGNATURE_HEADER].split(":", 5)
    parts[part] = ["2", "b", "1000001", "f" * 32, "0" * 64, "orders"][part]
    headers = {**(found.headers or {}), SIGNATURE_HEADER: ":".join(parts)}
    with pytest.raises(NotSigned, match="wrong" if part else "form"):
        verify(SIGNING, replace(found, headers=headers).encode(), b"[1,2]")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (5, "form"),
        (b"1:a:1:1:1:", "form"),
        ("", "form"),
        ("1:a", "form"),
        ("1:a b:1:" + "0" * 32 + ":" + "0" * 64 + ":", "form"),
        ("1:a:-1:" + "0" * 32 + ":" + "0" * 64 + ":", "form"),
        ("1:a:\N{ARABIC-INDIC DIGIT ONE}:" + "0" * 32 + ":" + "0" * 64 + ":", "form"),
        ("1:a:1" + "0" * 5000 + ":" + "0" * 32 + ":" + "0" * 64 + ":", "form"),
        ("1:c:1:" + "0" * 32 + ":" + "0" * 64 + ":", "the key 'c', which is not known"),
        ("1:a:1:" + "0" * 32 + ":" + "0" * 64 + ":", "wrong"),
    ],
)
def test_what_is_no_signature_is_none(text: Any, why: str) -> None:
    with pytest.raises(NotSigned, match=why):
        verify(SIGNING, replace(SAID, headers={SIGNATURE_HEADER: text}).encode(), b"[1,2]")


def test_who_does_not_sign_is_told_so() -> None:
    for headers in (None, {}, {"x": 1}):
        with pytest.raises(NotSigned, match="it is not signed"):
            verify(SIGNING, replace(SAID, headers=headers).encode(), b"")


def test_properties_that_do_not_decode_are_not_taken() -> None:
    with pytest.raises(Malformed):
        verify(SIGNING, b"\xff", b"")


def test_what_brokers_write_may_change_on_the_way() -> None:
    found = signed()
    death: dict[str, Any] = {
        "x-death": [{"queue": "q", "count": 1, "time": datetime.now(UTC)}],
        "x-first-death-queue": "q",
        "x-last-death-exchange": "",
        "x-shovelled": [{"src-uri": "amqp://"}],
        "x-shovelled-timestamp": 5,
        "x-received-from": [{"uri": "amqp://"}],
        "timestamp_in_ms": 5,
        "BCC": ["q"],
        "x-last-death-reason": "expired",
        "x-delivery-count": 1,
        "x-acquired-count": 2,
    }
    headers = {**death, **dict(reversed(list((found.headers or {}).items())))}
    relayed = replace(found, headers=headers, expiration=None)
    assert verify(SIGNING, relayed.encode(), b"[1,2]").to == "calc"


def test_a_signature_that_is_there_already_is_replaced() -> None:
    again = sign(SIGNING, signed().encode(), b"[1,2]", "other", 2000.0, NONCE)
    assert verify(SIGNING, again, b"[1,2]") == Signature(2000.0, NONCE, "other")


def test_all_keys_are_taken_and_one_is_signed_with() -> None:
    with_b = Signing(keys={"b": OTHER}, key="b")
    assert verify(SIGNING, sign(with_b, SAID.encode(), b"", "", 1.0, NONCE), b"").nonce == NONCE
    with pytest.raises(NotSigned, match="the key 'a', which is not known"):
        verify(with_b, signed().encode(), b"[1,2]")
    with pytest.raises(NotSigned, match="the secrets differ"):
        verify(Signing(keys={"a": OTHER}, key="a"), signed().encode(), b"[1,2]")


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.text(max_size=5)
    | st.binary(max_size=5)
    | st.floats(allow_nan=False)
    | st.decimals(-1000, 1000, places=2).map(lambda one: Decimal(one)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)
texts = st.none() | st.binary(max_size=20)
properties = st.builds(
    Properties,
    content_type=texts,
    content_encoding=texts,
    headers=st.none() | st.dictionaries(st.text(max_size=5), values, max_size=4),
    correlation_id=texts,
    reply_to=texts,
    message_id=texts,
    delivery_mode=st.none() | st.integers(0, 255),
)


@given(properties, st.binary(max_size=50), st.text(max_size=20), st.floats(0, 4e9))
def test_whatever_is_signed_is_taken(said: Properties, body: bytes, to: str, now: float) -> None:
    found = verify(SIGNING, sign(SIGNING, said.encode(), body, to, now, NONCE), body)
    assert (found.nonce, found.to) == (NONCE, to)
    assert found.time == pytest.approx(now, abs=0.001)


@given(properties, properties, st.binary(max_size=5), st.binary(max_size=5))
def test_different_messages_are_different_bytes(one: Properties, two: Properties, body: bytes, other: bytes) -> None:
    same = signed_bytes("s", "t", one, body) == signed_bytes("s", "t", two, other)
    known = Properties.decode(replace(one, headers=one.headers or {}, expiration=None).encode())
    assert same == (
        known == Properties.decode(replace(two, headers=two.headers or {}, expiration=None).encode()) and body == other
    )


@given(st.integers(0, 2**20), st.integers(1, 255))
def test_one_changed_byte_is_noticed_or_means_nothing(place: int, change: int) -> None:
    data = bytearray(signed().encode())
    data[place % len(data)] ^= change
    try:
        verify(SIGNING, bytes(data), b"[1,2]")
    except ValueError:
        return
    changed, known = Properties.decode(bytes(data)), signed()
    assert signed_bytes("", "", changed, b"") == signed_bytes("", "", known, b"")


@pytest.mark.parametrize(
    ("exchange", "key", "to"),
    [
        (b"", b"calc", "calc"),
        (b"", b"amqproxy.delay.5000.calc.sub", "calc.sub"),
        (b"", b"amqproxy.delay.5000#a1b2", ">a1b2"),
        (b"", b"amqproxy.delay.x.calc", "amqproxy.delay.x.calc"),
        (b"", b"\xff", "\N{REPLACEMENT CHARACTER}"),
        (b"amqproxy.calc", b"", "amqproxy.calc"),
        (b"amqproxy.calc", b"any", "amqproxy.calc"),
        (b"amq.direct", b"calc", "amq.direct>calc"),
        (b"orders", b"", "orders>"),
        (b"orders", b"amqproxy.delay.5000.calc", "orders>amqproxy.delay.5000.calc"),
    ],
)
def test_a_destination_is_what_its_receiver_knows_of_it(exchange: bytes, key: bytes, to: str) -> None:
    assert destination(exchange, key) == to


def stamp(time: float, number: int = 0) -> Signature:
    return Signature(time, number.to_bytes(16, "big"), "")


def test_a_message_is_taken_once_whoever_says_that_it_is_given_again() -> None:
    once = Once(60, 10, 1000)
    once.take(stamp(100), 100)
    for again in (False, True):
        with pytest.raises(NotSigned, match="a second time"):
            once.take(stamp(100), 101, again=again)
    once.take(stamp(100, 2), 101)


@pytest.mark.parametrize("again", [True, False])
def test_what_was_given_back_is_taken_once_more(again: bool) -> None:
    """RabbitMQ 3.10 may forget to say that it gives a message again."""
    once = Once(60, 10, 1000)
    key = once.take(stamp(100), 100)
    for now in (101, 1100):
        once.give_back(key)
        assert once.take(stamp(100), now, again=again) == key
        with pytest.raises(NotSigned, match="a second time" if again or now == 101 else "1000 s ago"):
            once.take(stamp(100), now, again=again)
    once.give_back(key)
    with pytest.raises(NotSigned, match="1001 s ago, and the window is 1000 s"):
        once.take(stamp(100), 1101, again=again)
    assert len(once) == 1


def test_what_was_given_back_and_is_forgotten_is_not_taken() -> None:
    once = Once(60, 1, 1000)
    key = once.take(stamp(100), 100)
    once.take(stamp(101, 1), 101)
    once.give_back(key)
    with pytest.raises(NotSigned, match="more than 1 messages came"):
        once.take(stamp(100), 102, again=True)


def test_what_is_given_again_has_a_window_of_its_own_and_none_that_is_shorter() -> None:
    once = Once(60, 10, 1000)
    once.take(stamp(0), 1000, again=True)
    with pytest.raises(NotSigned, match="1001 s ago, and the window is 1000 s"):
        once.take(stamp(0, 1), 1001, again=True)
    with pytest.raises(NotSigned, match="61 s ago, and the window is 60 s"):
        once.take(stamp(1000, 2), 1061)
    with pytest.raises(NotSigned, match="a second time"):  # as late as that it is remembered
        once.take(stamp(0), 1000, again=True)
    Once(60, 10, 1).take(stamp(0), 60, again=True)


def test_each_receiver_takes_it_once() -> None:
    once = Once(60, 10)
    once.take(stamp(100), 100, receiver=b"a")
    once.take(stamp(100), 100, receiver=b"b")
    with pytest.raises(NotSigned, match="a second time"):
        once.take(stamp(100), 100, receiver=b"b")


@pytest.mark.parametrize(("time", "why"), [(39.9, "60 s ago, and the window is 60 s"), (160.1, "60 s in the future")])
def test_what_is_out_of_the_window_is_not_taken(time: float, why: str) -> None:
    once = Once(60, 10)
    with pytest.raises(NotSigned, match=why):
        once.take(stamp(time), 100)
    once.take(stamp(40), 100)
    once.take(stamp(160, 1), 100)


def test_from_the_future_nothing_is_taken_again_either() -> None:
    with pytest.raises(NotSigned, match="in the future"):
        Once(60, 10).take(stamp(1000), 100, again=True)


def test_memory_is_bounded_and_what_is_forgotten_is_not_taken() -> None:
    once = Once(60, 3)
    for number in range(5):
        once.take(stamp(100 + number, number), 105)
    assert len(once) == 3
    for number in range(5):
        with pytest.raises(NotSigned, match=r"second time|more than 3 messages"):
            once.take(stamp(100 + number, number), 105)
    with pytest.raises(NotSigned, match="more than 3 messages came since it was signed"):
        once.take(stamp(100.5, 9), 105)
    once.take(stamp(101.5, 10), 105)


def test_what_is_too_old_is_forgotten_by_itself() -> None:
    once = Once(60, 100)
    for number in range(50):
        once.take(stamp(100, number), 100)
    once.take(stamp(170, 60), 170)
    assert len(once) == 1


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 15))), st.integers(1, 5))
def test_nothing_is_ever_taken_twice(steps: list[tuple[int, int]], remember: int) -> None:
    once, now, taken = Once(10, remember, 20), 100, set[int]()
    for number, (time, step) in enumerate(steps):
        now += step // 5
        for which in {number, time}:
            try:
                once.take(stamp(90 + which * 7 % 25, which), now, again=step % 2 == 1)
            except NotSigned:
                continue
            assert which not in taken
            taken.add(which)
            assert len(once) <= remember


def test_a_secret_is_never_shown() -> None:
    assert "sss" not in repr(SIGNING) and "ooo" not in repr(SIGNING)


@pytest.mark.parametrize(
    ("given_", "why"),
    [
        ({"keys": {}, "key": "a"}, "one at least"),
        ({"keys": [], "key": "a"}, "one at least"),
        ({"keys": {"a": "s" * 16}, "key": "a"}, "is bytes, and not a str"),
        ({"keys": {"a": b"short"}, "key": "a"}, "has 5 bytes; 16 are needed"),
        ({"keys": {"a:b": SECRET}, "key": "a:b"}, "not 'a:b'"),
        ({"keys": {5: SECRET}, "key": 5}, "not 5"),
        ({"keys": {"a": SECRET}, "key": "b"}, "no key 'b'"),
        ({"keys": {"a": SECRET}, "key": "a", "window": 0}, "window is more than 0"),
        ({"keys": {"a": SECRET}, "key": "a", "window": "60"}, "window is a number"),
        ({"keys": {"a": SECRET}, "key": "a", "window": float("nan")}, "window is more than 0"),
        ({"keys": {"a": SECRET}, "key": "a", "redelivered_window": -1}, "redelivered_window is more than 0"),
        ({"keys": {"a": SECRET}, "key": "a", "remember": 1.5}, "remember is a number"),
        ({"keys": {"a": SECRET}, "key": "a", "remember": True}, "remember is a number"),
    ],
)
def test_keys_that_would_not_do_are_refused_without_showing_them(given_: dict[str, Any], why: str) -> None:
    with pytest.raises((TypeError, ValueError), match=why) as caught:
        Signing(**given_)
    assert "short" not in str(caught.value).replace("shorter", "") and "ssss" not in str(caught.value)


def test_keys_are_a_copy() -> None:
    keys = {"a": SECRET}
    signing = Signing(keys=keys, key="a")
    keys.clear()
    assert signing.keys == {"a": SECRET}


@pytest.mark.parametrize("said", [SAID, replace(SAID, headers=None)])
def test_a_signature_is_taken_off_again(said: Properties) -> None:
    assert unsigned(signed(said).encode()) == said.encode() == unsigned(said.encode())
    assert unsigned(b"\xff") == b"\xff"


@pytest.mark.parametrize("exchange", [b"", b"\xff" * 255])
def test_a_signature_is_no_longer_than_is_reckoned_with(exchange: bytes) -> None:
    """The longest one: of a key with a long id, and for names that are no text."""
    signing = Signing(keys={"k" * 64: SECRET}, key="k" * 64)
    to = destination(exchange, b"\xff" * 255)
    for said in (Properties(), Properties(headers={"a": 1})):
        plain = said.encode()
        assert len(sign(signing, plain, b"", to, 10.0**12, NONCE)) <= len(plain) + MOST_BYTES
