"""What dead letters say: written by workers, by RabbitMQ, or by nobody who knew how."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from amqproxy.deadletter import MAX_REASON, REASONS, DeadLetter, buried, renewed, revived, stripped
from amqproxy.errors import RemoteError
from amqproxy.fields import Malformed
from amqproxy.frames import HEADER_OVERHEAD
from amqproxy.properties import Properties

REQUEST = Properties(
    content_type=b"mailer.send",
    content_encoding=b"json",
    headers={"tenant": "blue", "CC": ["elsewhere"], "BCC": ["elsewhere"], "x-delivery-count": 2},
    delivery_mode=1,
    expiration=b"1000",
    message_id=b"m1",
    user_id=b"ann",
)
SECONDS = 1_700_000_000.0
NONSENSE = b"\xff\xff"


def bury(failure: RemoteError, request: Properties = REQUEST) -> Properties:
    return Properties.decode(buried(request.encode(), failure, queue="mailer", worker="w1", seconds=SECONDS))


def read(headers: dict[str, Any] | None, **properties: Any) -> DeadLetter:
    return DeadLetter.read(1, Properties(headers=headers, **properties).encode(), b"[]", 2)


def test_a_worker_says_what_it_was_and_what_would_end_it_is_left_out() -> None:
    properties = bury(RemoteError("no address", type="ValueError"))
    assert properties.headers == {
        "tenant": "blue",
        "x-delivery-count": 2,
        "x-dead-kind": "failed",
        "x-dead-reason": "ValueError: no address",
        "x-dead-queue": "mailer",
        "x-dead-worker": "w1",
        "x-dead-time": datetime.fromtimestamp(SECONDS, UTC),
    }
    assert (properties.content_type, properties.message_id) == (b"mailer.send", b"m1")
    assert (properties.delivery_mode, properties.expiration, properties.user_id) == (2, None, None)


@pytest.mark.parametrize(
    ("failure", "kind", "reason"),
    [
        (
            RemoteError("no such method", type="ContractError", executed="no"),
            "refused",
            "ContractError: no such method",
        ),
        (RemoteError("look", type="Redelivered", executed="maybe"), "in_doubt", "Redelivered: look"),
        (RemoteError("", type="KeyError"), "failed", "KeyError"),
        (RemoteError("\udcff", type="OSError"), "failed", "OSError: \\udcff"),
        (RemoteError("x" * (MAX_REASON - 3), type="E"), "failed", "E: " + "x" * (MAX_REASON - 3)),
        (RemoteError("x" * (MAX_REASON - 2), type="E"), "failed", "E: " + "x" * (MAX_REASON - 4) + "…"),
        (RemoteError("\udcff" * MAX_REASON, type="E"), "failed", ("E: " + "\\udcff" * 200)[: MAX_REASON - 1] + "…"),
    ],
)
def test_the_reason_is_told_in_words(failure: RemoteError, kind: str, reason: str) -> None:
    headers = bury(failure).headers
    assert headers is not None
    assert (headers["x-dead-kind"], headers["x-dead-reason"]) == (kind, reason)


def test_what_has_no_headers_gets_some() -> None:
    headers = bury(RemoteError("no"), Properties()).headers
    assert headers is not None
    assert headers["x-dead-queue"] == "mailer"


def test_what_does_not_decode_is_not_buried_so() -> None:
    with pytest.raises(Malformed):
        buried(NONSENSE, RemoteError("no"), queue="q", worker="w", seconds=SECONDS)


def test_what_goes_back_is_as_if_it_had_not_died() -> None:
    header = buried(REQUEST.encode(), RemoteError("no"), queue="mailer", worker="w1", seconds=SECONDS)
    back = Properties.decode(revived(header))
    assert back.headers == {"tenant": "blue"}
    assert (back.delivery_mode, back.expiration, back.user_id, back.message_id) == (2, None, None, b"m1")
    deaths = {"x-death": [{"reason": "expired"}], "x-first-death-queue": "q", "x-last-death-reason": "expired"}
    assert Properties.decode(revived(Properties(headers=deaths).encode())).headers is None
    assert Properties.decode(revived(Properties().encode())) == Properties(delivery_mode=2)
    assert Properties.decode(revived(header, b"m2")).message_id == b"m2"
    assert revived(NONSENSE, b"m2") == NONSENSE


def test_what_a_worker_said_is_read() -> None:
    header = buried(
        REQUEST.encode(), RemoteError("no", type="ValueError"), queue="mailer", worker="w1", seconds=SECONDS
    )
    letter = DeadLetter.read(3, header, b"[1]", 3)
    assert (letter.place, letter.reason, letter.text) == (3, "failed", "ValueError: no")
    assert (letter.queue, letter.worker, letter.died) == ("mailer", "w1", datetime.fromtimestamp(SECONDS, UTC))
    assert (letter.id, letter.content_type, letter.is_call) == ("m1", "mailer.send", False)
    assert (letter.body, letter.size) == (b"[1]", 3)


@pytest.mark.parametrize("reason", ["rejected", "expired", "maxlen", "delivery_limit"])
def test_what_rabbitmq_said_is_read_the_last_death_first(reason: str) -> None:
    died = datetime.fromtimestamp(SECONDS, UTC)
    deaths = [{"reason": reason, "queue": "mailer", "time": died, "count": 1}, {"reason": "expired", "queue": "delay"}]
    letter = read({"x-death": deaths}, reply_to=b"r", message_id=b"\xff")
    assert (letter.reason, letter.text, letter.queue, letter.died) == (reason, REASONS[reason], "mailer", died)
    assert (letter.is_call, letter.id, letter.worker) == (True, "\\xff", "")


@pytest.mark.parametrize(
    "headers",
    [
        None,
        {},
        {"x-death": "yes"},
        {"x-death": []},
        {"x-death": [1]},
        {"x-death": [{"reason": 1, "queue": 2, "time": "now"}]},
        {"x-death": [{"reason": "boredom"}]},
        {"x-death": [{"reason": ""}]},
    ],
)
def test_who_does_not_say_is_read_all_the_same(headers: dict[str, Any] | None) -> None:
    letter = read(headers)
    assert (letter.reason, letter.queue, letter.died) == ("unknown", "", None)
    assert letter.text.startswith("it does not say")
    assert (letter.id, letter.content_type) == ("", "")


def test_properties_that_do_not_decode_are_a_reason() -> None:
    letter = DeadLetter.read(1, NONSENSE, None, 9)
    assert (letter.reason, letter.body, letter.size, letter.properties) == ("rejected", None, 9, Properties())
    assert letter.text.startswith("its properties do not decode: ")


def test_a_request_that_was_not_begun_is_as_it_was_but_for_the_time_that_has_passed() -> None:
    back = Properties.decode(renewed(REQUEST.encode(), 0.4, 2.5))
    assert back.headers == {"tenant": "blue", "x-delivery-count": 2, "x-timeout-ms": 2500}
    assert (back.expiration, back.user_id, back.delivery_mode) == (b"600", None, 1)
    assert Properties.decode(renewed(REQUEST.encode(), 1.1, None)).expiration == b"0"
    assert Properties.decode(renewed(Properties().encode(), 1, None)) == Properties()
    with pytest.raises(Malformed):
        renewed(NONSENSE, 1, None)


def test_what_has_no_room_for_its_headers_keeps_what_it_died_of() -> None:
    """And what is needed to run it again, in a frame as small as AMQP allows."""
    shorts: dict[str, Any] = {
        name: b"x" * 255 for name in ("content_encoding", "correlation_id", "reply_to", "message_id", "type")
    }
    request = Properties(content_type=b"mailer.send", headers={"a": "x" * 10_000, "x-dead-a": "x" * 10_000}, **shorts)
    failure = RemoteError("\N{GRINNING FACE}" * 1000, type="ValueError")
    whole = buried(request.encode(), failure, queue="q" * 255, worker="w" * 100, seconds=SECONDS)
    header = stripped(whole)
    assert len(header) < 4096 - HEADER_OVERHEAD < len(whole)
    said, letter = Properties.decode(header), DeadLetter.read(1, header, b"[]", 2)
    assert sorted(said.headers or ()) == [f"x-dead-{name}" for name in ("kind", "queue", "reason", "time", "worker")]
    assert {name: getattr(said, name) for name in shorts} == shorts
    assert said.content_type == b"mailer.send"
    assert (letter.reason, letter.queue, letter.worker) == ("failed", "q" * 255, "w" * 100)
    assert letter.text.startswith("ValueError: \N{GRINNING FACE}")
    assert letter.text.endswith("\N{GRINNING FACE}… (its headers were too large to be kept)")
    assert letter.died == datetime.fromtimestamp(SECONDS, UTC)


@pytest.mark.parametrize("kind", ["", "unknown", "expired", "Failed", "failed\x1b[2J", 1, None])
def test_what_says_to_have_died_of_nothing_that_workers_know_is_unknown(kind: object) -> None:
    letter = read({"x-dead-kind": kind, "x-dead-reason": "because"})
    assert (letter.reason, letter.text) == ("unknown", "because")
