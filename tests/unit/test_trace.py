"""Trace headers: what is taken from others, what is carried on, and what is dropped."""

from __future__ import annotations

import re
import string
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from amqproxy.trace import (
    MAX_BAGGAGE,
    MAX_STATES,
    MAX_TRACEPARENT,
    MAX_TRACESTATE,
    RANDOM,
    SAMPLED,
    Span,
    carried,
    parse_state,
)

examples = settings(max_examples=200, deadline=None, derandomize=True, database=None)

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = "00f067aa0ba902b7"
HERE = "1122334455667788"
GIVEN = f"00-{TRACE}-{PARENT}-01"


def ids(digits: int) -> st.SearchStrategy[str]:
    return st.integers(1, 16**digits - 1).map(lambda number: f"{number:0{digits}x}")


spans = st.builds(Span, ids(32), ids(16), st.sampled_from([0, SAMPLED, RANDOM, SAMPLED | RANDOM]))


# traceparent


@examples
@given(spans)
def test_a_span_is_read_as_it_was_written(span: Span) -> None:
    assert Span.parse(str(span)) == span
    assert len(str(span)) == 55


@examples
@given(st.text(max_size=80) | st.from_regex(r"[0-9a-f]{2}-[0-9a-f]{30,34}-[0-9a-f]{14,18}-[0-9a-f]{1,3}.{0,3}"))
def test_what_is_read_is_a_span_or_nothing(text: str) -> None:
    span = Span.parse(text)
    if span is not None:
        assert re.fullmatch(r"00-[0-9a-f]{32}-[0-9a-f]{16}-0[0-3]", str(span))
        assert text.strip(" \t")[3:52] == str(span)[3:52]


@examples
@given(spans, st.integers(0, 54), st.characters())
def test_another_letter_anywhere_is_another_span_or_none(span: Span, place: int, letter: str) -> None:
    text = str(span)
    changed = text[:place] + letter + text[place + 1 :]
    read = Span.parse(changed)
    if changed != text and letter not in string.hexdigits.lower():
        assert read is None or changed.strip(" \t") == text


@pytest.mark.parametrize("flags", range(256))
def test_of_all_flags_those_that_are_known_are_kept(flags: int) -> None:
    read = Span.parse(f"00-{TRACE}-{PARENT}-{flags:02x}")
    assert read == Span(TRACE, PARENT, flags & 3)
    assert Span.parse(f"01-{TRACE}-{PARENT}-{flags:02x}") == Span(TRACE, PARENT, flags & 1)


@pytest.mark.parametrize(
    "text",
    [
        f" \t{GIVEN} \t",
        f"cc-{TRACE}-{PARENT}-01",
        f"cc-{TRACE}-{PARENT}-01-what-the-future-will-be-like",
        f"fe-{TRACE}-{PARENT}-01-",
        f"01-{TRACE}-{PARENT}-01-{'x' * (MAX_TRACEPARENT - 56)}",
    ],
)
def test_white_space_and_later_versions_are_understood(text: str) -> None:
    assert Span.parse(text) == Span(TRACE, PARENT, SAMPLED)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "00",
        TRACE,
        f"ff-{TRACE}-{PARENT}-01",
        f"00-{TRACE}-{PARENT}-01.",
        f"00-{TRACE}-{PARENT}-01-",
        f"00-{TRACE}-{PARENT}-01-more",
        f"cc-{TRACE}-{PARENT}-01.what-the-future-will-be-like",
        f".0-{TRACE}-{PARENT}-01",
        f"0-{TRACE}-{PARENT}-01",
        f"000-{TRACE}-{PARENT}-01",
        f"00-{'0' * 32}-{PARENT}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE.upper()}-{PARENT}-01",
        f"00-{TRACE[:-1]}-{PARENT}-01",
        f"00-{TRACE}0-{PARENT}-01",
        f"00-{TRACE}-{PARENT}0-01",
        f"00-{TRACE}-{PARENT[:-1]}.-01",
        f"00-{TRACE}-{PARENT}-0",
        f"00-{TRACE}-{PARENT}-001",
        f"00-{TRACE}-{PARENT}-0x",
        f"00-{TRACE}-{PARENT}-\u0660\u0661",
        f"00-{TRACE}-{PARENT}-01\n",
        f"01-{TRACE}-{PARENT}-01-\n[ERROR] all is lost",
        f"01-{TRACE}-{PARENT}-01-{'x' * (MAX_TRACEPARENT - 55)}",
        GIVEN + " " * MAX_TRACEPARENT,
    ],
)
def test_what_is_malformed_is_no_span(text: str) -> None:
    assert Span.parse(text) is None


# tracestate

KEY = "abcdefghijklmnopqrstuvwxyz0123456789_-*/@"
VALUE = "".join(chr(code) for code in range(0x20, 0x7F) if chr(code) not in ",=")
states = st.dictionaries(
    st.builds(str.__add__, st.sampled_from(KEY[:36]), st.text(KEY, max_size=20)),
    st.builds(str.__add__, st.text(VALUE, max_size=20), st.sampled_from(VALUE[1:])),
    max_size=MAX_STATES,
)


@examples
@given(states, st.lists(st.sampled_from(["", " ", "\t ", " \t"]), min_size=MAX_STATES, max_size=MAX_STATES))
def test_a_state_is_kept_in_its_order_without_white_space(state: dict[str, str], space: list[str]) -> None:
    written = [f"{key}={value}" for key, value in state.items()]
    text = ",".join(f"{before}{member}{before}" for before, member in zip(space, written, strict=False))
    assert parse_state(text) == ",".join(written)


@examples
@given(st.text(max_size=60) | st.text(f"{KEY}{VALUE},=\t\n", max_size=60))
def test_what_is_kept_of_a_state_is_harmless(text: str) -> None:
    kept = parse_state(text)
    assert kept.isascii() and (kept.isprintable() or kept == "")
    assert parse_state(kept) == kept


@pytest.mark.parametrize("text", ["foo=1,bar=2", "a=b", f"{'k' * 256}={'v' * 256}", "1=2", "f_-*/@b= x", "a@b=1"])
def test_states_of_all_kinds_are_kept(text: str) -> None:
    assert parse_state(text) == text
    assert parse_state(f", {text}\t,,") == text


@pytest.mark.parametrize(
    "text",
    [
        "foo=1,foo=1",
        "foo=1,foo=2",
        "foo",
        "foo=",
        "=1",
        "foo =1",
        "FOO=1",
        "foo.bar=1",
        "@foo=1",
        "foo=1=2",
        "foo=bär",
        "foo=1\n",
        "foo=a\tb",
        f"{'k' * 257}=1",
        f"k={'v' * 257}",
        "good=1,bad",
        ",".join(f"k{n}=1" for n in range(MAX_STATES + 1)),
        ",".join(f"k{n}={'v' * 250}" for n in range(MAX_TRACESTATE // 250 + 1)),
    ],
)
def test_a_state_that_is_malformed_or_too_large_is_dropped_as_a_whole(text: str) -> None:
    assert parse_state(text) == ""


def test_as_many_states_as_are_allowed_are_kept() -> None:
    text = ",".join(f"k{n}=1" for n in range(MAX_STATES))
    assert parse_state(text) == text


# What is carried on


def test_a_call_carries_on_the_trace_under_its_own_name() -> None:
    headers = {"traceparent": GIVEN, "tracestate": "a=1, b=2", "baggage": "user=ann;p, x = 1", "x-other": "1"}
    assert carried(headers, HERE) == {
        "traceparent": f"00-{TRACE}-{HERE}-01",
        "tracestate": "a=1,b=2",
        "baggage": "user=ann;p, x = 1",
    }


def test_names_may_be_written_in_any_case_and_in_lower_case_they_win() -> None:
    assert carried({"TraceParent": GIVEN, "BAGGAGE": "a=1"}, HERE) == {
        "traceparent": f"00-{TRACE}-{HERE}-01",
        "baggage": "a=1",
    }
    other = GIVEN.replace("4bf", "000")
    assert carried({"Traceparent": other, "traceparent": GIVEN, "TRACEPARENT": other}, HERE) == {
        "traceparent": f"00-{TRACE}-{HERE}-01"
    }


def test_a_state_without_a_trace_is_dropped_and_baggage_is_not() -> None:
    assert carried({"tracestate": "a=1"}, HERE) == {}
    assert carried({"traceparent": "rubbish", "tracestate": "a=1", "baggage": "a=1"}, HERE) == {"baggage": "a=1"}
    assert carried({"traceparent": GIVEN, "tracestate": "rubbish"}, HERE) == {"traceparent": f"00-{TRACE}-{HERE}-01"}
    assert carried({}, HERE) == {}


@pytest.mark.parametrize("value", [None, 5, True, GIVEN.encode(), [GIVEN], {"traceparent": GIVEN}])
def test_what_is_no_text_is_dropped(value: Any) -> None:
    assert carried({"traceparent": value, "baggage": value}, HERE) == {}


def test_baggage_is_carried_on_up_to_its_limit() -> None:
    most = "k=" + "v" * (MAX_BAGGAGE - 2)
    assert carried({"baggage": most}, HERE) == {"baggage": most}
    assert carried({"baggage": most + "v"}, HERE) == {}


@pytest.mark.parametrize("value", ["", "a=1\nb=2", "a=1\r\n[ERROR]", "a=\0", "a=bär", "a=\x7f"])
def test_baggage_that_is_empty_or_not_printable_is_dropped(value: str) -> None:
    assert carried({"baggage": value}, HERE) == {}


@examples
@given(
    st.dictionaries(
        st.sampled_from(["traceparent", "tracestate", "baggage", "Baggage", "x"]),
        st.one_of(st.text(), st.integers(), st.binary(), spans.map(str), st.just("a=1,b=2")),
    )
)
def test_whatever_came_what_is_carried_on_is_printable_and_known(headers: dict[str, Any]) -> None:
    found = carried(headers, HERE)
    assert found.keys() <= {"traceparent", "tracestate", "baggage"}
    assert all(value and value.isascii() and value.replace("\t", " ").isprintable() for value in found.values())
    assert "tracestate" not in found or "traceparent" in found
