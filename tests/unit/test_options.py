"""Options are checked when they are made, and do not change afterwards."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import FrozenInstanceError
from functools import partial
from typing import Any

import pytest

from amqproxy.deduplication import Deduplication
from amqproxy.options import (
    MAX_SHORT_STRING,
    BroadcastOptions,
    CallOptions,
    ConnectOptions,
    SendOptions,
    ServeOptions,
    changed,
    serving_options,
)
from amqproxy.retry import Retry

NAN, INFINITY = float("nan"), float("inf")


@pytest.mark.parametrize("kind", [ConnectOptions, CallOptions, SendOptions, BroadcastOptions, ServeOptions])
def test_all_options_have_defaults_and_are_frozen(kind: Any) -> None:
    made = kind()
    assert made == kind()
    for name in kind.__dataclass_fields__:
        with pytest.raises(FrozenInstanceError):
            setattr(made, name, None)
    with pytest.raises(TypeError):
        kind(1)


def test_a_call_waits_thirty_seconds_unless_told_otherwise() -> None:
    assert CallOptions().timeout == 30
    assert CallOptions(timeout=0.001).timeout == 0.001


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (ConnectOptions, "connect_timeout"),
        (ConnectOptions, "max_in_flight"),
        (ConnectOptions, "max_body_bytes"),
        (CallOptions, "timeout"),
        (CallOptions, "max_in_flight"),
        (ServeOptions, "concurrency"),
    ],
)
@pytest.mark.parametrize("value", [0, -1, NAN])
def test_a_number_that_must_be_positive_is_refused_by_name(kind: Any, name: str, value: float) -> None:
    with pytest.raises((TypeError, ValueError), match=f"^{name} is "):
        kind(**{name: value})


@pytest.mark.parametrize(
    ("kind", "name"),
    [(ConnectOptions, "connect_timeout"), (CallOptions, "timeout"), (ServeOptions, "grace")],
)
def test_nothing_waits_for_ever(kind: Any, name: str) -> None:
    with pytest.raises(ValueError, match=name):
        kind(**{name: INFINITY})


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (ConnectOptions, "heartbeat"),
        (ConnectOptions, "max_in_flight"),
        (CallOptions, "priority"),
        (CallOptions, "max_in_flight"),
        (ServeOptions, "concurrency"),
    ],
)
def test_what_is_counted_is_a_whole_number(kind: Any, name: str) -> None:
    with pytest.raises((TypeError, ValueError), match=name):
        kind(**{name: 2.5})


@pytest.mark.parametrize("heartbeat", [-1, 65536])
def test_a_heartbeat_that_amqp_cannot_say_is_refused(heartbeat: int) -> None:
    with pytest.raises(ValueError, match="heartbeat is from 0 to 65535"):
        ConnectOptions(heartbeat=heartbeat)


@pytest.mark.parametrize("heartbeat", [0, 1, 65535])
def test_heartbeats_at_the_limits_are_taken(heartbeat: int) -> None:
    assert ConnectOptions(heartbeat=heartbeat).heartbeat == heartbeat


@pytest.mark.parametrize("priority", [-1, 256])
def test_a_priority_that_is_no_octet_is_refused(priority: int) -> None:
    with pytest.raises(ValueError, match="priority is from 0 to 255"):
        CallOptions(priority=priority)


@pytest.mark.parametrize("heartbeat", [None, 0.05, 1, 3600.0])
def test_signs_of_life_may_come_twenty_times_a_second_at_most(heartbeat: float | None) -> None:
    assert CallOptions(heartbeat=heartbeat).heartbeat == heartbeat
    with pytest.raises(ValueError, match=r"^heartbeat is 0\.05 seconds or more, not 0\.049$"):
        CallOptions(heartbeat=0.049)


@pytest.mark.parametrize("heartbeat", [0, -1, float("nan"), float("inf")])
def test_a_heartbeat_that_is_no_time_is_refused(heartbeat: float) -> None:
    with pytest.raises(ValueError, match=r"^heartbeat is "):
        CallOptions(heartbeat=heartbeat)


@pytest.mark.parametrize("priority", [None, 0, 255])
def test_priorities_at_the_limits_are_taken(priority: int | None) -> None:
    assert CallOptions(priority=priority).priority == priority


def test_concurrency_fits_into_the_brokers_prefetch() -> None:
    assert ServeOptions(concurrency=65535).concurrency == 65535
    with pytest.raises(ValueError, match="concurrency is 65535 at most"):
        ServeOptions(concurrency=65536)


def test_a_grace_of_zero_is_taken_and_a_negative_one_refused() -> None:
    assert ServeOptions(grace=0).grace == 0
    with pytest.raises(ValueError, match="grace"):
        ServeOptions(grace=-0.1)


def test_a_grace_that_is_no_number_is_refused() -> None:
    with pytest.raises(ValueError, match="grace"):
        ServeOptions(grace=NAN)


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (CallOptions, "exchange"),
        (CallOptions, "routing_key"),
        (CallOptions, "encoding"),
        (ServeOptions, "queue"),
        (ServeOptions, "exchange"),
        (ServeOptions, "routing_key"),
    ],
)
def test_a_name_is_measured_in_bytes_against_amqps_limit(kind: Any, name: str) -> None:
    kind(**{name: "x" * MAX_SHORT_STRING})
    with pytest.raises(ValueError, match=f"^{name} is longer than AMQP's 255 bytes"):
        kind(**{name: "x" * (MAX_SHORT_STRING + 1)})
    with pytest.raises(ValueError, match=f"^{name} is longer"):
        kind(**{name: "ü" * 128})


@pytest.mark.parametrize("name", ["exchange", "routing_key"])
def test_a_name_that_has_no_utf8_form_is_refused(name: str) -> None:
    with pytest.raises(ValueError):
        CallOptions(**{name: "\udc80"})  # type: ignore[arg-type]


@pytest.mark.parametrize("headers", [{"a": object()}, {"a": 2**63}, {1: "a"}, {"k" * 256: 1}, {"a": "\udc80"}])
def test_headers_that_amqp_cannot_carry_are_refused_when_they_are_set(headers: Any) -> None:
    with pytest.raises((TypeError, ValueError)):
        CallOptions(headers=headers)


def test_changing_the_headers_that_were_given_changes_no_options() -> None:
    headers = {"a": 1}
    made = CallOptions(headers=headers)
    headers["a"] = 2
    assert made.headers == {"a": 1}


def test_headers_and_arguments_are_not_shared_between_options() -> None:
    assert CallOptions().headers is not CallOptions().headers
    assert ServeOptions().arguments is not ServeOptions().arguments


def test_changed_options_are_new_and_checked_and_the_old_ones_stay() -> None:
    old = CallOptions(timeout=5, exchange="numbers")
    assert changed(old, "a proxy", {"timeout": 2}) == CallOptions(timeout=2, exchange="numbers")
    assert changed(old, "a proxy", {}) == old == CallOptions(timeout=5, exchange="numbers")
    with pytest.raises(ValueError, match="timeout"):
        changed(old, "a proxy", {"timeout": 0})


@pytest.mark.parametrize("name", ["colour", "", "Timeout", "__post_init__"])
def test_an_option_that_there_is_not_is_refused_with_those_that_there_are(name: str) -> None:
    with pytest.raises(TypeError, match=f"^a proxy has no option '{name}'; it has timeout, .*headers, middleware$"):
        changed(CallOptions(), "a proxy", {"timeout": 2, name: 1})


@pytest.mark.parametrize(
    ("options", "name"),
    [
        (lambda: ConnectOptions(connect_timeout="3"), "connect_timeout is a number"),  # type: ignore[arg-type]
        (lambda: CallOptions(timeout=True), "timeout is a number"),
        (lambda: ServeOptions(grace="5"), "grace is a number"),  # type: ignore[arg-type]
        (lambda: CallOptions(idempotent="yes"), "idempotent is True or False"),  # type: ignore[arg-type]
        (lambda: ServeOptions(durable=1), "durable is True or False"),  # type: ignore[arg-type]
        (lambda: ServeOptions(queue=5), "queue is a str"),  # type: ignore[arg-type]
        (lambda: ServeOptions(max_priority=1.5), "max_priority is a whole number"),  # type: ignore[arg-type]
        (lambda: SendOptions(delay="5"), "delay is a number"),  # type: ignore[arg-type]
        (lambda: SendOptions(delay=None), "delay is a number"),  # type: ignore[arg-type]
        (lambda: SendOptions(expires=True), "expires is a number"),
        (lambda: SendOptions(idempotent=1), "idempotent is True or False"),  # type: ignore[arg-type]
    ],
)
def test_a_value_of_another_type_is_named(options: Callable[[], Any], name: str) -> None:
    with pytest.raises(TypeError, match=name):
        options()


WEEK = 7 * 24 * 3600


@pytest.mark.parametrize("delay", [0, 0.0001, 1, 7 * WEEK])
def test_a_delay_may_be_nothing_to_49_days(delay: float) -> None:
    assert SendOptions(delay=delay).delay == delay


@pytest.mark.parametrize("name", ["delay", "expires"])
@pytest.mark.parametrize("seconds", [-1, -0.001, NAN, INFINITY, -INFINITY, 7 * WEEK + 1, 1e300])
def test_a_delay_and_an_expiration_are_finite_and_not_beyond_what_rabbitmq_counts(name: str, seconds: float) -> None:
    with pytest.raises(ValueError, match=f"^{name} is "):
        SendOptions(**{name: seconds})  # type: ignore[arg-type]


def test_what_expires_at_once_cannot_be_sent() -> None:
    with pytest.raises(ValueError, match="expires is more than 0"):
        SendOptions(expires=0)


def test_a_message_with_a_delay_cannot_expire() -> None:
    assert SendOptions(delay=0, expires=1).expires == 1
    with pytest.raises(ValueError, match="RabbitMQ forgets the expiration when the delay is over"):
        SendOptions(delay=1, expires=2)


@pytest.mark.parametrize("name", ["delay", "expires"])
def test_a_proxy_has_no_options_of_senders_and_says_who_has(name: str) -> None:
    with pytest.raises(TypeError, match=rf"^a proxy has no option '{name}', for a call is waited for; mq.sender"):
        changed(CallOptions(), "a proxy", {name: 1})
    with pytest.raises(TypeError, match=r"it has timeout, .*expires, delay$"):
        changed(SendOptions(), "a sender", {"colour": 1})


@pytest.mark.parametrize("most", [0, -1, 256])
def test_the_highest_priority_is_from_1_to_255(most: int) -> None:
    assert ServeOptions(max_priority=255).max_priority == 255
    with pytest.raises(ValueError, match=f"max_priority is from 1 to 255, not {most}"):
        ServeOptions(max_priority=most)


def test_the_highest_priority_is_given_once() -> None:
    with pytest.raises(ValueError, match="max_priority or the argument x-max-priority, not both"):
        ServeOptions(max_priority=5, arguments={"x-max-priority": 5})


class Codec:
    """As much of a codec as options look at."""

    name = "msgpack"
    forms = ("plain",)

    def request(self) -> None: ...

    def result(self) -> None: ...

    def anything(self) -> None: ...


def codec(**changes: Any) -> Any:
    return type("Changed", (Codec,), changes)()


def test_a_codec_may_be_an_encoding_and_further_codecs_of_a_worker() -> None:
    mine = codec()
    assert CallOptions(encoding=mine).encoding is mine
    assert ServeOptions(codecs=(mine,)).codecs == (mine,)


@pytest.mark.parametrize(
    ("wrong", "error", "text"),
    [
        (Codec, TypeError, "is a class, give an instance"),
        (5, TypeError, "5 is no codec: it lacks name, forms, request, result, anything"),
        (codec(name=""), ValueError, "1 to 248 printable letters of ASCII, not ''"),
        (codec(name="x" * 249), ValueError, "1 to 248 printable letters"),
        (codec(name="a\n"), ValueError, "1 to 248 printable letters"),
        (codec(name="größe"), ValueError, "1 to 248 printable letters"),
        (codec(name=5), ValueError, "1 to 248 printable letters"),
        (codec(name="zstd-mine"), ValueError, "a codec called 'zstd-mine' would be taken for a compressed one"),
        (codec(forms="plain"), TypeError, "are a set or a tuple, not the str 'plain'"),
    ],
)
def test_what_is_no_codec_is_told_so(wrong: Any, error: type[Exception], text: str) -> None:
    for make in (lambda: CallOptions(encoding=wrong), lambda: ServeOptions(codecs=(wrong,))):
        with pytest.raises(error) as caught:
            make()
        assert text in str(caught.value)


def test_codecs_come_in_a_tuple() -> None:
    with pytest.raises(TypeError, match=r"^codecs is a tuple of codecs, not \["):
        ServeOptions(codecs=[codec()])  # type: ignore[arg-type]  # which is what it refuses


def test_a_compression_wants_a_size_and_a_size_has_a_compression() -> None:
    assert CallOptions(compress_above=0).compression is None
    assert CallOptions(compress_above=0, compression="lz4").compression == "lz4"
    with pytest.raises(ValueError, match=r'give compress_above, or compression=None; encoding="zstd-json" is for all$'):
        CallOptions(compression="zstd")
    with pytest.raises(ValueError, match=r"^compression is 'snappy', 'zstd', 'gzip', 'lz4', not 'rar'$"):
        CallOptions(compress_above=0, compression="rar")
    with pytest.raises(ValueError, match=r"^compress_above is 0 or more bytes, not -1$"):
        CallOptions(compress_above=-1)


@pytest.mark.parametrize(
    ("kind", "name", "values"),
    [
        (CallOptions, "protobuf_names", ["java", "protobuf"]),
        (ConnectOptions, "correlation_ids", ["secret", "counter"]),
    ],
)
def test_a_choice_is_one_of_few(kind: Any, name: str, values: list[str]) -> None:
    for value in values:
        assert getattr(kind(**{name: value}), name) == value
    with pytest.raises(ValueError, match=f"^{name} is '{values[0]}', '{values[1]}', not 'other'$"):
        kind(**{name: "other"})


# Middleware and providers


async def plain(call: Any, next: Any) -> Any: ...


class Callable_:
    async def __call__(self, call: Any, next: Any, further: int = 0) -> Any: ...

    async def method(self, call: Any, next: Any) -> Any: ...


async def with_option(option: int, call: Any, next: Any) -> Any: ...


class Silent:
    """Like a function written in C that does not tell what it takes."""

    async def __call__(self, *args: Any) -> Any: ...

    @property
    def __signature__(self) -> Any:
        raise ValueError("no signature")


@pytest.mark.parametrize("kind", [ConnectOptions, CallOptions, ServeOptions])
@pytest.mark.parametrize("given", [plain, Callable_(), Callable_().method, partial(with_option, 1), Silent()])
def test_middleware_is_any_async_callable_of_a_call_and_what_is_next(kind: Any, given: Any) -> None:
    several = [given, plain]
    made = kind(middleware=several)
    several.clear()
    assert made.middleware == (given, plain)
    assert kind().middleware == ()


def synchronous(call: Any, next: Any) -> Any: ...


async def generator(call: Any, next: Any) -> Any:
    yield


@pytest.mark.parametrize("kind", [ConnectOptions, CallOptions, ServeOptions])
@pytest.mark.parametrize("given", [synchronous, generator, Callable_, lambda call, next: None, "plain", None, 5])
def test_what_is_no_async_function_is_no_middleware(kind: Any, given: Any) -> None:
    with pytest.raises(
        TypeError, match=r"a middleware is an `async def mw\(call, next\)` that returns a result; .* is"
    ):
        kind(middleware=[plain, given])


async def takes_one(call: Any) -> Any: ...


async def takes_three(call: Any, next: Any, further: Any) -> Any: ...


async def takes_names(*, call: Any, next: Any) -> Any: ...


@pytest.mark.parametrize("given", [takes_one, takes_three, takes_names, with_option])
def test_a_middleware_that_cannot_be_called_as_one_is_told_of_early(given: Any) -> None:
    with pytest.raises(TypeError, match=rf"is called as mw\(call, next\), and <function {given.__name__} .*> is \("):
        CallOptions(middleware=[given])


@pytest.mark.parametrize("given", [plain, {plain}, {plain: 1}, iter([plain]), "plain", None])
def test_middleware_is_given_in_an_order(given: Any) -> None:
    with pytest.raises(TypeError, match="middleware is a list of functions, not "):
        ConnectOptions(middleware=given)


def test_providers_are_told_apart_by_type_and_copied() -> None:
    given = {int: 1, list[int]: list}
    made = ServeOptions(providers=given)
    given.clear()
    assert made.providers == {int: 1, list[int]: list}
    with pytest.raises(TypeError, match="providers are a dict from types to what provides them, not "):
        ServeOptions(providers=[int])  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="by the types that parameters have, and 'db' is a str"):
        ServeOptions(providers={"db": 1})


def test_what_a_worker_is_given_wins_and_providers_are_added_up() -> None:
    described = ServeOptions(grace=1, queue="q", providers={int: 1, str: "a"})
    serving = serving_options(described, {"grace": 2, "providers": {str: "b", bytes: b"c"}})
    assert serving == ServeOptions(grace=2, queue="q", providers={int: 1, str: "b", bytes: b"c"})
    assert serving_options(described, {}) == described
    with pytest.raises(TypeError, match="serve has no option 'colour'"):
        serving_options(described, {"colour": "red"})


def test_a_broadcast_expects_at_least_one_answer() -> None:
    assert BroadcastOptions().expect is None
    assert BroadcastOptions(expect=1).expect == 1
    with pytest.raises(ValueError, match=r"^expect is more than 0"):
        BroadcastOptions(expect=0)
    with pytest.raises(TypeError, match=r"^expect is a whole number"):
        BroadcastOptions(expect=1.5)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "given", [{"compress_above": 1}, {"exchange": "x"}, {"idempotent": True}, {"credit": 1}, {"heartbeat": 1}]
)
def test_a_broadcast_refuses_what_it_would_not_heed(given: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"^a broadcast has no {next(iter(given))}: "):
        BroadcastOptions(**given)


def test_only_a_broadcast_expects_answers() -> None:
    with pytest.raises(TypeError, match=r"a proxy has no option 'expect', for one worker answers; mq\.broadcast"):
        changed(CallOptions(), "a proxy", {"expect": 1})


def test_retries_and_deduplication_may_be_given_as_numbers() -> None:
    assert CallOptions(retry=5).retry == Retry(attempts=5)
    assert ServeOptions(deduplicate=5).deduplicate == Deduplication(entries=5)
    with pytest.raises(ValueError, match="retry is 1 attempt or more"):
        CallOptions(retry=0)
    with pytest.raises(TypeError, match="deduplicate is a number of calls"):
        ServeOptions(deduplicate=True)
    with pytest.raises(ValueError, match="hedge is more than 0"):
        CallOptions(hedge=0)


@pytest.mark.parametrize("kind", [SendOptions, BroadcastOptions])
@pytest.mark.parametrize("option", [{"retry": 3}, {"hedge": 0.5}])
def test_what_nobody_answers_alone_is_not_repeated(kind: Any, option: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"has no {next(iter(option))}"):
        kind(**option)


@pytest.mark.parametrize(
    ("given", "kind", "text"),
    [
        ({"quorum": 1}, TypeError, "quorum is True or False, not 1"),
        ({"quorum": True, "durable": False}, ValueError, "a quorum queue cannot be durable=False"),
        ({"quorum": True, "auto_delete": True}, ValueError, "a quorum queue cannot be auto_delete=True"),
        ({"quorum": True, "max_priority": 3}, ValueError, "a quorum queue has no max_priority"),
        ({"delivery_limit": 3}, ValueError, "only quorum queues have a delivery_limit: serve with quorum=True"),
        ({"quorum": True, "delivery_limit": -1}, ValueError, "delivery_limit is 0 or more"),
        ({"quorum": True, "delivery_limit": 1.5}, TypeError, "delivery_limit is a whole number"),
        ({"dead_letters": "yes"}, TypeError, "dead_letters is True, False or None, not 'yes'"),
        ({"max_length": 0}, ValueError, "max_length is more than 0"),
        ({"overflow": "drop-tail", "max_length": 1}, ValueError, "overflow is 'reject-publish', 'drop-head'"),
        ({"overflow": "drop-head"}, ValueError, "overflow is for a queue that can be full: give max_length"),
        ({"message_ttl": 0}, ValueError, "message_ttl is more than 0"),
        ({"message_ttl": 50 * 24 * 3600}, ValueError, r"message_ttl is at most 4233600 seconds \(49 days\)"),
        ({"shed_after": 0}, ValueError, "shed_after is more than 0"),
    ],
)
def test_a_queue_that_cannot_be_is_told(given: dict[str, Any], kind: type[Exception], text: str) -> None:
    with pytest.raises(kind, match=text):
        ServeOptions(**given)


def test_quorum_queues_keep_dead_letters_unless_told_otherwise() -> None:
    assert not ServeOptions().keeps_dead_letters
    assert ServeOptions(quorum=True).keeps_dead_letters
    assert ServeOptions(dead_letters=True).keeps_dead_letters
    assert not ServeOptions(quorum=True, dead_letters=False).keeps_dead_letters


def test_confirm_is_for_calls() -> None:
    assert CallOptions(confirm=True).confirm
    with pytest.raises(TypeError, match="confirm is True, False or None, not 'yes'"):
        CallOptions(confirm="yes")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="a sender has no confirm: its messages always are confirmed"):
        SendOptions(confirm=False)
    with pytest.raises(ValueError, match="a broadcast has no confirm"):
        BroadcastOptions(confirm=True)
