"""The wire format: the names of wire.md, forms that equal fully encoded properties, failures both ways."""

from __future__ import annotations

import json
import tracemalloc
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from amqproxy import wire
from amqproxy.errors import REBUILT_BUILTINS, RemoteError, exception_name
from amqproxy.properties import Properties, routing
from amqproxy.wire import (
    FAILURE_FORM,
    ItemForm,
    OneWayForm,
    Part,
    Presence,
    ReplyForm,
    RequestForm,
    credit_of,
    decode_failure,
    decode_presence,
    encode_failure,
    encode_presence,
    is_special,
    is_true,
    part_of,
    pool_exchange,
    reply_class,
    request_class,
    whole_number,
)

examples = settings(
    max_examples=80,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)

LONGEST_EXPIRATION = 2**32 - 1
"""RabbitMQ closes the channel, and with it all its calls, for a larger one (rabbit.hrl, MAX_EXPIRY_TIMER)."""

names = st.text(st.characters(codec="utf-8"), min_size=1, max_size=60)
texts = st.text(st.characters(codec="utf-8"), max_size=40)
plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)


class NoSuchUser(Exception):
    pass


class Picky(Exception):
    def __init__(self, user: str, number: int) -> None:
        super().__init__(f"{user} has no {number}")


# Names


def test_the_names_are_those_of_the_original_and_of_wire_md() -> None:
    assert wire.JSON == "json"
    assert wire.TIMEOUT_HEADER == "x-timeout-ms"
    assert wire.FAILURE_CLASS == "com.github.sstone.amqp.proxy.AmqpProxy$ServerFailure"
    assert wire.FAILURE_CONTENT_TYPE == b"com.github.sstone.amqp.proxy.AmqpProxy$ServerFailure"
    assert wire.TRANSIENT == 1


def test_a_method_with_plain_parameters_has_the_class_names_of_service_and_method() -> None:
    assert request_class("calculator", "add") == "calculator.add"
    assert reply_class("calculator", "add") == "calculator.add.Reply"


# Requests


def form(**changes: Any) -> RequestForm:
    given: dict[str, Any] = {
        "content_type": "calculator.add",
        "encoding": "json",
        "reply_to": b"amq.gen-1",
        "timeout": 30.0,
        "id_length": 4,
    }
    return RequestForm(**(given | changes))


def test_a_request_has_the_properties_of_wire_md() -> None:
    assert Properties.decode(form().properties(b"c001", b"m001")) == Properties(
        content_type=b"calculator.add",
        content_encoding=b"json",
        headers={"x-timeout-ms": 30000},
        delivery_mode=1,
        correlation_id=b"c001",
        reply_to=b"amq.gen-1",
        expiration=b"30000",
        message_id=b"m001",
    )


@examples
@given(
    content_type=names,
    encoding=names,
    reply_to=st.binary(max_size=255),
    milliseconds=st.integers(1, LONGEST_EXPIRATION),
    priority=st.none() | st.integers(0, 255),
    headers=st.dictionaries(names, texts | st.integers(-(2**63), 2**63 - 1), max_size=3),
    ids=st.integers(0, 255).flatmap(
        lambda size: st.tuples(st.binary(min_size=size, max_size=size), st.binary(min_size=size, max_size=size))
    ),
)
def test_a_request_form_makes_what_encoding_all_properties_makes(
    content_type: str,
    encoding: str,
    reply_to: bytes,
    milliseconds: int,
    priority: int | None,
    headers: dict[str, Any],
    ids: tuple[bytes, bytes],
) -> None:
    made = RequestForm(
        content_type=content_type,
        encoding=encoding,
        reply_to=reply_to,
        timeout=milliseconds / 1000,
        id_length=len(ids[0]),
        priority=priority,
        headers=headers,
    ).properties(*ids)
    expected = Properties(
        content_type=content_type.encode(),
        content_encoding=encoding.encode(),
        headers={**headers, "x-timeout-ms": milliseconds},
        delivery_mode=1,
        priority=priority,
        correlation_id=ids[0],
        reply_to=reply_to,
        expiration=b"%d" % milliseconds,
        message_id=ids[1],
    )
    assert made == expected.encode()
    assert routing(made) == (content_type.encode(), encoding.encode(), ids[0], reply_to)


def one_way(**changes: Any) -> OneWayForm:
    given: dict[str, Any] = {
        "content_type": "calculator.add",
        "encoding": "json",
        "id_length": 4,
        "message_id_length": 4,
    }
    return OneWayForm(**(given | changes))


def test_a_one_way_message_is_persistent_and_says_nothing_of_replies_or_time() -> None:
    assert Properties.decode(one_way().properties(b"m001", b"m001")) == Properties(
        content_type=b"calculator.add", content_encoding=b"json", delivery_mode=2, message_id=b"m001"
    )


def test_how_long_its_sender_waits_is_not_told() -> None:
    assert one_way().within(0.5).properties(b"m001", b"m001") == one_way().properties(b"m001", b"m001")


def test_one_that_is_sent_again_keeps_its_message_id_and_has_an_id_of_its_own() -> None:
    again = Properties.decode(one_way().properties(b"c002", b"m001"))
    assert (again.correlation_id, again.message_id) == (b"c002", b"m001")


@examples
@given(
    content_type=names,
    encoding=names,
    persistent=st.booleans(),
    milliseconds=st.none() | st.integers(1, LONGEST_EXPIRATION),
    priority=st.none() | st.integers(0, 255),
    headers=st.dictionaries(names, texts | st.integers(-(2**63), 2**63 - 1), max_size=3),
    id=st.binary(max_size=255),
    other=st.none() | st.binary(max_size=255),
)
def test_a_one_way_form_makes_what_encoding_all_properties_makes(
    content_type: str,
    encoding: str,
    persistent: bool,
    milliseconds: int | None,
    priority: int | None,
    headers: dict[str, Any],
    id: bytes,
    other: bytes | None,
) -> None:
    message_id = id if other is None else other
    made = OneWayForm(
        content_type=content_type,
        encoding=encoding,
        id_length=len(id),
        message_id_length=len(message_id),
        persistent=persistent,
        expires=None if milliseconds is None else milliseconds / 1000,
        priority=priority,
        headers=headers,
    ).properties(id, message_id)
    expected = Properties(
        content_type=content_type.encode(),
        content_encoding=encoding.encode(),
        headers=headers or None,
        delivery_mode=2 if persistent else 1,
        priority=priority,
        correlation_id=None if id == message_id else id,
        expiration=None if milliseconds is None else b"%d" % milliseconds,
        message_id=message_id,
    )
    assert made == expected.encode()


def test_what_expires_has_a_millisecond_at_least() -> None:
    made = one_way(expires=0.0001).properties(b"m001", b"m001")
    assert Properties.decode(made).expiration == b"1"


def test_a_pools_exchange_is_named_after_its_queue() -> None:
    assert pool_exchange("calculator") == "amqproxy.calculator"


def test_one_form_makes_many_requests() -> None:
    one = form()
    first = one.properties(b"c001", b"m001")
    assert Properties.decode(one.properties(b"c002", b"m002")).correlation_id == b"c002"
    assert one.properties(b"c001", b"m001") == first


@pytest.mark.parametrize(
    ("timeout", "milliseconds"),
    [(0.0, 1), (1e-9, 1), (0.0004, 1), (0.0016, 2), (1.2345, 1234), (30, 30000), (86400, 86400000)],
)
def test_the_time_left_is_sent_in_whole_milliseconds_and_at_least_one(timeout: float, milliseconds: int) -> None:
    found = Properties.decode(form(timeout=timeout).properties(b"c001", b"m001"))
    assert found.headers == {"x-timeout-ms": milliseconds}
    assert found.expiration == b"%d" % milliseconds


@pytest.mark.parametrize("timeout", [LONGEST_EXPIRATION / 1000, LONGEST_EXPIRATION / 1000 + 1, 1e9, 1e300])
def test_no_expiration_is_so_long_that_the_broker_closes_the_channel(timeout: float) -> None:
    expiration = Properties.decode(form(timeout=timeout).properties(b"c001", b"m001")).expiration
    assert expiration is not None
    assert int(expiration) <= LONGEST_EXPIRATION


def test_a_header_of_the_users_does_not_replace_the_timeout() -> None:
    found = Properties.decode(form(headers={"x-timeout-ms": 1, "a": "b"}).properties(b"c001", b"m001"))
    assert found.headers == {"x-timeout-ms": 30000, "a": "b"}


@pytest.mark.parametrize(
    "changes",
    [
        {"content_type": "x" * 256},
        {"encoding": "x" * 256},
        {"reply_to": b"x" * 256},
        {"id_length": 256},
        {"priority": 256},
        {"headers": {"a": object()}},
        {"headers": {"a": 2**63}},
    ],
)
def test_a_request_that_amqp_cannot_carry_is_refused_when_its_form_is_made(changes: dict[str, Any]) -> None:
    with pytest.raises((TypeError, ValueError)):
        form(**changes)


@examples
@given(
    milliseconds=st.integers(1, LONGEST_EXPIRATION) | st.sampled_from([2**31 - 1, 2**31, 2**31 + 1]),
    less=st.integers(0, LONGEST_EXPIRATION),
    priority=st.none() | st.integers(0, 255),
    headers=st.dictionaries(names | st.just("x-timeout-ms"), texts | st.integers(-(2**63), 2**63 - 1), max_size=3),
)
def test_a_request_with_less_time_is_otherwise_the_same(
    milliseconds: int, less: int, priority: int | None, headers: dict[str, Any]
) -> None:
    made = form(timeout=milliseconds / 1000, priority=priority, headers=headers)
    left = max(1, milliseconds - less)
    decoded = Properties.decode(made.within(left / 1000).properties(b"c001", b"m001"))
    whole = Properties.decode(made.properties(b"c001", b"m001"))
    assert whole.headers is not None and decoded.headers is not None
    assert decoded == replace(whole, headers={**whole.headers, "x-timeout-ms": left}, expiration=b"%d" % left)
    half = max(1, left // 2)
    again = Properties.decode(made.within(left / 1000).within(half / 1000).properties(b"c001", b"m001"))
    assert again == replace(decoded, headers={**decoded.headers, "x-timeout-ms": half}, expiration=b"%d" % half)


def test_a_request_is_not_given_more_time_than_it_had() -> None:
    made = form(timeout=2.0)
    assert made.within(2.0) is made.within(2.0004) is made.within(3.0) is made
    assert Properties.decode(made.within(0.0).properties(b"c001", b"m001")).expiration == b"1"


# What is looked at for each request


@pytest.mark.parametrize("left", [1, 255, 256, 30_000, 2**16, 2**24, 2**31 - 1, 2**31, 2**40])
def test_a_request_with_time_is_not_special(left: int) -> None:
    assert not is_special(Properties(headers={"a": "b", "x-timeout-ms": left}, correlation_id=b"1").encode())


@pytest.mark.parametrize("left", [b"s\x00\x01", b"s\x75\x30", b"L" + bytes(7) + b"\x01"])
def test_a_request_with_time_in_another_form_is_not_special(left: bytes) -> None:
    assert not is_special(b"\x0cx-timeout-ms" + left)


@pytest.mark.parametrize("left", [0, -1, -(2**31), -(2**31) - 1, -(2**63), "0", "-1", "30000", None, 0.0, True])
def test_a_request_without_time_is_special_and_one_that_tells_it_in_a_rare_form(left: Any) -> None:
    assert is_special(Properties(headers={"a": "b", "x-timeout-ms": left}, correlation_id=b"1").encode())


@pytest.mark.parametrize(
    "left", [b"s\x00\x00", b"s\xff\xff", b"L" + bytes(8), b"b\x00", b"u\x00\x00", b"i\x00\x00\x00\x00"]
)
def test_no_time_in_another_form_is_special(left: bytes) -> None:
    assert is_special(b"\x0cx-timeout-ms" + left)


def test_a_request_for_signs_of_life_is_special() -> None:
    assert is_special(Properties(headers={"x-timeout-ms": 5, "x-heartbeat-ms": 1000}).encode())
    assert not is_special(Properties(headers={}, message_id=b"1").encode())


# Replies


@examples
@given(content_type=names, encoding=names, correlation_id=st.none() | st.binary(max_size=255))
@example(content_type="a", encoding="b", correlation_id=b"")
@example(content_type="a", encoding="b", correlation_id=b"\xff" * 255)
def test_a_reply_form_makes_what_encoding_all_properties_makes(
    content_type: str, encoding: str, correlation_id: bytes | None
) -> None:
    expected = Properties(
        content_type=content_type.encode(),
        content_encoding=encoding.encode(),
        delivery_mode=1,
        correlation_id=correlation_id,
    )
    assert ReplyForm(content_type, encoding).properties(correlation_id) == expected.encode()


def test_a_failure_is_json_whatever_the_request_used() -> None:
    found = Properties.decode(FAILURE_FORM.properties(b"c"))
    assert found.content_type == b"com.github.sstone.amqp.proxy.AmqpProxy$ServerFailure"
    assert found.content_encoding == b"json"


# Failures


def test_a_failure_has_the_body_of_wire_md() -> None:
    body = json.loads(encode_failure(RemoteError("division by zero", type="ZeroDivisionError")))
    assert body["message"] == "division by zero"
    assert body["throwableAsString"] == "ZeroDivisionError: division by zero"
    expected = {
        "code": "unknown",
        "type": "ZeroDivisionError",
        "retryable": False,
        "details": None,
        "traceback": None,
    }
    assert {name: body["error"][name] for name in expected} == expected
    assert body["error"].get("executed", "yes") == "yes"


def test_a_failure_without_a_text_is_named_by_its_type() -> None:
    body = json.loads(encode_failure(RemoteError("", type="KeyError")))
    assert (body["message"], body["throwableAsString"]) == ("", "KeyError")


@examples
@given(
    message=texts,
    code=names,
    type=names | st.sampled_from(sorted(REBUILT_BUILTINS)),
    retryable=st.booleans(),
    details=plain,
    traceback=st.none() | texts,
    executed=st.sampled_from(["no", "maybe", "yes"]),
)
def test_a_failure_comes_back_as_it_was_sent(message: str, type: str, executed: Any, **rest: Any) -> None:
    sent = RemoteError(message, type=type, executed=executed, **rest)
    found = decode_failure(encode_failure(sent))
    assert isinstance(found, RemoteError)
    assert isinstance(found, REBUILT_BUILTINS.get(type, RemoteError))
    assert (found.message, found.type, found.executed) == (message, type, executed)
    assert {name: getattr(found, name) for name in rest} == rest
    assert str(found) == str(sent)


@pytest.mark.parametrize("field", ["message", "type", "traceback"])
def test_a_text_that_has_no_utf8_form_is_sent_all_the_same(field: str) -> None:
    said: dict[str, Any] = {"message": "", field: "no such file: caf\udce9.txt"}
    sent = RemoteError(**said)
    found = decode_failure(encode_failure(sent))
    assert "no such file: caf" in getattr(found, field)
    assert ".txt" in getattr(found, field)


@pytest.mark.parametrize(
    "said", [{"message": ValueError("boom")}, {"message": 5}, {"message": None}, {"message": "", "code": 404}]
)
def test_a_failure_that_says_something_else_than_text_is_refused_at_once_or_travels(said: dict[str, Any]) -> None:
    try:
        error = RemoteError(**said)
    except TypeError:
        return
    found = decode_failure(encode_failure(error))
    assert found.message in (str(said["message"]), "")
    assert found.code in ("unknown", "404")


@pytest.mark.parametrize("details", [object(), 1j, {(1, 2): 3}])
def test_details_that_json_cannot_hold_are_the_servers_to_leave_out(details: Any) -> None:
    with pytest.raises((TypeError, ValueError)):
        encode_failure(RemoteError("m", details=details))


@pytest.mark.parametrize(
    ("body", "type", "message"),
    [
        (
            {"message": "bad", "throwableAsString": "java.lang.IllegalArgumentException: bad"},
            "java.lang.IllegalArgumentException",
            "bad",
        ),
        (
            {"message": "", "throwableAsString": "java.lang.NullPointerException"},
            "java.lang.NullPointerException",
            "",
        ),
        ({"message": "bad", "throwableAsString": ""}, "RemoteError", "bad"),
        ({"message": "bad"}, "RemoteError", "bad"),
        ({"message": "bad", "throwableAsString": "T: x", "error": None}, "T", "bad"),
        ({"message": "bad", "throwableAsString": "T : x", "something": "else"}, "T", "bad"),
        (
            {"message": "division by zero", "throwableAsString": "ZeroDivisionError: division by zero"},
            "ZeroDivisionError",
            "division by zero",
        ),
    ],
)
def test_the_originals_two_fields_are_a_failure(body: dict[str, Any], type: str, message: str) -> None:
    found = decode_failure(json.dumps(body).encode())
    assert (found.type, found.message, found.code, found.executed) == (type, message, "unknown", "maybe")
    assert (found.retryable, found.details, found.traceback) == (False, None, None)
    assert isinstance(found, REBUILT_BUILTINS.get(type, RemoteError))


def test_a_java_exception_without_a_message_is_a_failure() -> None:
    # Throwable.getMessage() is null for many of them.
    body = b'{"message":null,"throwableAsString":"java.lang.NullPointerException"}'
    found = decode_failure(body)
    assert (found.type, found.message) == ("java.lang.NullPointerException", "")


@pytest.mark.parametrize("error", [{}, {"type": ""}, {"code": "internal"}])
def test_a_failure_that_names_no_type_is_a_remote_error(error: dict[str, Any]) -> None:
    found = decode_failure(json.dumps({"message": "bad", "error": error}).encode())
    assert found.type == "RemoteError"
    assert str(found) == "RemoteError: bad"
    assert found.executed == "maybe"


@pytest.mark.parametrize(
    ("said", "executed"),
    [("no", "no"), ("maybe", "maybe"), ("yes", "yes"), ("", "maybe"), ("NO", "maybe"), ("perhaps", "maybe")],
)
def test_a_worker_may_say_that_the_handler_did_not_run(said: str, executed: str) -> None:
    body = json.dumps({"message": "", "error": {"executed": said}}).encode()
    assert decode_failure(body).executed == executed


def test_a_registered_type_comes_back_as_itself() -> None:
    name = exception_name(NoSuchUser)
    body = encode_failure(RemoteError("ada", type=name))
    assert isinstance(decode_failure(body, (NoSuchUser,)), NoSuchUser)
    assert type(decode_failure(body)) is RemoteError


def test_a_registered_type_with_a_constructor_of_its_own_comes_back_as_itself() -> None:
    found = decode_failure(encode_failure(RemoteError("x", type=exception_name(Picky))), (Picky,))
    assert isinstance(found, Picky)
    assert found.message == "x"


@pytest.mark.parametrize("name", ["SystemExit", "KeyboardInterrupt", "GeneratorExit", "os._exit", "builtins.exit"])
@pytest.mark.parametrize("foreign", [False, True])
def test_no_failure_ends_the_program_that_reads_it(name: str, foreign: bool) -> None:
    body = {"message": "1", "throwableAsString": f"{name}: 1"} | ({} if foreign else {"error": {"type": name}})
    found = decode_failure(json.dumps(body).encode())
    assert type(found) is RemoteError
    assert found.type == name


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b'"text"',
        b"{",
        b"{}x",
        b'{"message": 1}',
        b'{"message": "\xff"}',
        b'{"message": "", "error": 1}',
        b'{"message": "", "error": {"code": 5}}',
        b'{"message": "", "error": {"details": ' + b"[" * 100_000,
        b'{"message": "", "error": {"details": ' + b"9" * 10_000 + b"}}",
        b'{"message": "", "error": {"details": NaN}}',
    ],
    ids=lambda body: repr(body[:40]),
)
def test_a_body_that_is_no_failure_is_a_value_error(body: bytes) -> None:
    with pytest.raises(ValueError):
        decode_failure(body)


@examples
@given(st.binary(max_size=40), st.integers(0, 200), st.integers(0, 255))
def test_garbage_is_a_failure_or_a_value_error(noise: bytes, place: int, byte: int) -> None:
    spoiled = bytearray(encode_failure(RemoteError("ü", type="KeyError", details=[1, {"a": None}])))
    spoiled[place % len(spoiled)] = byte
    for body in (noise, bytes(spoiled), bytes(spoiled)[: place % len(spoiled)]):
        try:
            found = decode_failure(body, (NoSuchUser,))
        except ValueError:
            continue
        assert isinstance(found, RemoteError)


def test_message_ids_may_be_longer_than_correlation_ids() -> None:
    form = RequestForm(content_type="a", encoding="json", reply_to=b"q", timeout=1, id_length=3, message_id_length=5)
    properties = Properties.decode(form.properties(b"123", b"12345"))
    assert (properties.correlation_id, properties.message_id) == (b"123", b"12345")


def test_a_bare_failure_has_the_two_fields_of_the_original_and_no_other() -> None:
    error = RemoteError("x is negative", type="ValueError", code="invalid_argument", details={"x": -1})
    body = b'{"message":"x is negative","throwableAsString":"ValueError: x is negative"}'
    assert encode_failure(error, details=False) == body
    assert decode_failure(body).type == "ValueError"


# Streams


def test_the_names_of_streams_and_of_control_are_those_of_wire_md() -> None:
    assert (wire.CREDIT_HEADER, wire.BATCH_HEADER) == ("x-stream-credit", "x-batch")
    assert (wire.SEQUENCE_HEADER, wire.END_HEADER) == ("x-seq", "x-end")
    assert (wire.WORKER_HEADER, wire.HEARTBEAT_HEADER) == ("x-worker", "x-heartbeat-ms")
    assert wire.FEED_HEADER == "x-feed"
    assert (wire.CANCEL_CLASS, wire.CREDIT_CLASS) == (b"amqproxy.Cancel", b"amqproxy.Credit")
    assert (wire.ALIVE_CLASS, wire.CHUNK_CLASS) == (b"amqproxy.Alive", b"amqproxy.Chunk")
    assert wire.PING_CLASS == b"amqproxy.Ping"


short = st.binary(max_size=255)


@examples
@given(
    content_type=short,
    encoding=short,
    correlation_id=short,
    reply_to=short,
    first=st.integers(0, 2**63 - 1),
    items=st.integers(1, 2**31 - 1),
)
@example(content_type=b"a", encoding=b"json", correlation_id=b"c", reply_to=b"q", first=0, items=1)
def test_an_item_form_makes_what_encoding_all_properties_makes(
    content_type: bytes, encoding: bytes, correlation_id: bytes, reply_to: bytes, first: int, items: int
) -> None:
    form = ItemForm(content_type, encoding, correlation_id, reply_to)
    for made, headers, part in (
        (form.properties(first, items), {"x-seq": first, "x-batch": items}, Part(first, items, last=False)),
        (form.properties(first, 1), {"x-seq": first}, Part(first, 1, last=False)),
        (form.end(first), {"x-seq": first, "x-end": True}, Part(first, 0, last=True)),
    ):
        found = Properties.decode(made)
        assert (found.headers or {}) == (headers if headers.get("x-batch") != 1 else {"x-seq": first})
        assert part_of(found.headers or {}) == part
        rest = Properties(
            content_type=content_type,
            content_encoding=encoding or None,  # chunks of a Blob have none
            headers=found.headers,
            delivery_mode=1,
            correlation_id=correlation_id,
            reply_to=reply_to,
        )
        assert found == rest
        assert routing(made) == (content_type, encoding or None, correlation_id, reply_to)


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, None),
        ({"x-batch": 5}, None),
        ({"x-end": False}, None),
        ({"x-end": "yes"}, None),
        ({"x-seq": 0}, Part(0, 1, last=False)),
        ({"x-seq": 3, "x-batch": 2}, Part(3, 2, last=False)),
        ({"x-seq": "3", "x-batch": "2"}, Part(3, 2, last=False)),
        ({"x-seq": 3, "x-batch": 0}, Part(3, 0, last=False)),
        ({"x-seq": 3, "x-end": True}, Part(3, 0, last=True)),
        ({"x-seq": "3", "x-end": "true"}, Part(3, 0, last=True)),
        ({"x-seq": 3, "x-end": True, "x-batch": "nonsense"}, Part(3, 0, last=True)),
        ({"x-end": True}, Part(0, 0, last=True)),
    ],
)
def test_which_part_of_a_stream_a_message_is(headers: dict[str, Any], expected: Part | None) -> None:
    assert part_of(headers) == expected


NO_NUMBERS = [-1, "-1", "", "1.5", "one", "\u0661", "9" * 20, 1.0, True, b"1", [1], {"a": 1}]


@pytest.mark.parametrize("value", [*NO_NUMBERS, None], ids=repr)
def test_what_is_no_number_of_items_is_refused(value: Any) -> None:
    with pytest.raises(ValueError, match=r"x-thing is a whole number from 0, not "):
        whole_number(value, "x-thing")
    with pytest.raises(ValueError, match="x-batch"):
        part_of({"x-seq": 0, "x-batch": value})
    if value is not None:
        with pytest.raises(ValueError, match="x-seq"):
            part_of({"x-seq": value})


@pytest.mark.parametrize(("value", "expected"), [(0, 0), (2**63, 2**63), ("0", 0), ("007", 7), ("9" * 19, 10**19 - 1)])
def test_a_number_may_be_a_text_as_in_stomp(value: Any, expected: int) -> None:
    assert whole_number(value, "x-thing") == expected


@pytest.mark.parametrize(
    ("value", "expected"), [(True, True), ("true", True), (False, False), ("True", False), (1, False), (None, False)]
)
def test_so_may_what_is_true(value: Any, expected: bool) -> None:
    assert is_true(value) is expected


@pytest.mark.parametrize(("body", "credit"), [(b"0", 0), (b"5", 5), (b" 7 ", 7), (b'"12"', 12), (b"2147483648", 2**31)])
def test_a_credit_is_a_number_in_json(body: bytes, credit: int) -> None:
    assert credit_of(body) == credit


@pytest.mark.parametrize(
    "body",
    [
        *(b"", b"-1", b"1.5", b"1e3", b"ten", b"null", b"true", b"[1]", b'{"credit":1}', b"\xff", b"1 2", b'"\xff"'),
        *(b"[" * 100_000, b'{"a":' * 100_000, b"9" * 10_000),
    ],
    ids=lambda body: repr(body[:20]),
)
def test_what_is_no_credit_is_a_value_error(body: bytes) -> None:
    with pytest.raises(ValueError):
        credit_of(body)


def test_of_a_body_that_is_no_number_by_its_length_nothing_is_decoded() -> None:
    body = b"[" + b"[]," * 1_000_000 + b"[]]"
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=r"^a credit is a number in JSON, and not 3000004 bytes$"):
            credit_of(body)
        assert tracemalloc.get_traced_memory()[1] < 100_000
    finally:
        tracemalloc.stop()


@examples
@given(st.binary(max_size=20))
def test_garbage_is_a_credit_or_a_value_error(body: bytes) -> None:
    try:
        assert credit_of(body) >= 0
    except ValueError as error:
        assert str(error)


def test_presence_comes_back_as_it_was_sent() -> None:
    presence = Presence(service="calc", running=3, answered=7, busy=True)
    body = encode_presence(presence)
    assert json.loads(body) == {"service": "calc", "running": 3, "answered": 7, "busy": True}
    assert decode_presence(body) == presence


@pytest.mark.parametrize("body", [b"", b"{}", b"[]", b'{"busy": 1}', b"\xff", b'"\xff"', b"[" * 100_000])
def test_presence_that_makes_no_sense_tells_nothing(body: bytes) -> None:
    assert decode_presence(body) == Presence()


def test_presence_of_others_may_tell_more_or_less() -> None:
    assert decode_presence(b'{"busy": true, "host": "ruby"}') == Presence(busy=True)


# Calls that share a message


@pytest.mark.parametrize(
    ("headers", "calls"),
    [({}, 1), ({"x-batch": 1}, 1), ({"x-batch": 2}, 2), ({"x-batch": 1024}, 1024), ({"x-batch": "17"}, 17)],
)
def test_a_request_says_how_many_calls_it_holds(headers: dict[str, Any], calls: int) -> None:
    assert wire.calls_of(headers) == calls


@pytest.mark.parametrize("said", [0, -1, 1025, 2**40, True, 1.5, None, "", "-2", "two", b"2", [2], "9" * 30])
def test_a_number_of_calls_that_makes_no_sense_is_refused(said: Any) -> None:
    with pytest.raises(ValueError, match=r"x-batch is a whole number|from 1 to 1024 calls"):
        wire.calls_of({"x-batch": said})


@pytest.mark.parametrize("correlation_id", [None, b"", b"7", b"x" * 255])
@pytest.mark.parametrize(("first", "count"), [(0, 1), (3, 1), (0, 2), (1000, 24)])
def test_the_form_of_answers_says_which_calls_they_are_for(
    correlation_id: bytes | None, first: int, count: int
) -> None:
    form = wire.ItemForm(b"shop.add.Reply", b"json", correlation_id, None)
    properties = Properties.decode(form.properties(first, count))
    assert properties.correlation_id == correlation_id
    assert properties.reply_to is None
    assert (properties.content_type, properties.content_encoding) == (b"shop.add.Reply", b"json")
    assert wire.part_of(properties.headers or {}) == wire.Part(first, count, False)
