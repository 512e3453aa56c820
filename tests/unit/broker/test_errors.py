"""Errors: RabbitMQ's codes, names and texts, and which of them end a connection."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from amqproxy.broker import errors
from amqproxy.broker.errors import REPLY_NAMES, SOFT, ProtocolError, erlang_binary, erlang_pair

examples = settings(max_examples=60, deadline=None, derandomize=True, database=None)

MAKERS: list[tuple[Callable[[str], ProtocolError], int, str]] = [
    (errors.refused, 403, "ACCESS_REFUSED"),
    (errors.not_found, 404, "NOT_FOUND"),
    (errors.locked, 405, "RESOURCE_LOCKED"),
    (errors.precondition_failed, 406, "PRECONDITION_FAILED"),
    (errors.frame_error, 501, "FRAME_ERROR"),
    (errors.command_invalid, 503, "COMMAND_INVALID"),
    (errors.channel_error, 504, "CHANNEL_ERROR"),
    (errors.unexpected_frame, 505, "UNEXPECTED_FRAME"),
    (errors.not_allowed, 530, "NOT_ALLOWED"),
    (errors.not_implemented, 540, "NOT_IMPLEMENTED"),
]


@pytest.mark.parametrize(("make", "code", "name"), MAKERS, ids=[name for _, _, name in MAKERS])
def test_an_error_says_its_code_and_its_name_before_the_reason(
    make: Callable[[str], ProtocolError], code: int, name: str
) -> None:
    error = make("for a reason")
    assert (error.code, error.text, error.method) == (code, f"{name} - for a reason", None)
    assert error.soft is (code < 500)


def test_the_errors_that_end_a_channel_only_are_those_of_the_specification() -> None:
    assert frozenset({311, 313, 403, 404, 405, 406}) == SOFT
    assert REPLY_NAMES.keys() > SOFT


def test_an_error_without_a_reason_says_its_name_only() -> None:
    assert ProtocolError(541, "").text == "INTERNAL_ERROR"


@examples
@given(st.text(max_size=400))
def test_a_text_fits_into_a_short_string(reason: str) -> None:
    text = errors.not_found(reason).text
    raw = text.encode(errors="surrogatepass")
    assert len(raw) <= 255
    if len(f"NOT_FOUND - {reason}".encode(errors="surrogatepass")) > 255:
        assert text.endswith("...")


def test_a_text_of_just_255_bytes_is_not_cut_and_one_of_256_is_never_cut_within_a_letter() -> None:
    room = 255 - len("NOT_FOUND - ")
    assert errors.not_found("x" * room).text.endswith("xxx")
    assert errors.not_found("x" * (room + 1)).text == "NOT_FOUND - " + "x" * (room - 3) + "..."
    assert errors.not_found("x" + "é" * room).text.endswith("é...")


def test_a_name_that_is_no_utf_8_can_be_quoted() -> None:
    name = b"\xff\xfe".decode(errors="surrogateescape")
    assert errors.not_found(f"no queue '{name}'").text.encode(errors="surrogateescape").endswith(b"'\xff\xfe'")
    assert len(errors.not_found(name * 300).text) <= 255


def test_a_pair_stands_on_one_line_if_it_fits_into_80_columns() -> None:
    assert erlang_pair("invalid: ", "value_too_large", 7) == "invalid: {value_too_large,7}"
    before = "x" * 70
    assert erlang_pair(before, "large", 7) == before + "{large,7}"
    assert erlang_pair(before + "x", "large", 7) == f"{before}x{{large,\n{' ' * 72}7}}"


def test_bytes_are_shown_as_erlang_shows_them() -> None:
    assert erlang_binary(b"") == "<<>>"
    assert erlang_binary(b"abc ~") == '<<"abc ~">>'
    assert erlang_binary(b'a"\\') == '<<"a\\"\\\\">>'
    assert erlang_binary(b"a\x00\xff") == "<<97,0,255>>"
