"""Tracing as middleware: what it adds to a call, by where the call is made."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest

import amqproxy
from amqproxy import OutgoingCall
from amqproxy.handler import Call
from amqproxy.middleware import chain
from amqproxy.properties import Properties

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = "00f067aa0ba902b7"
GIVEN = {"traceparent": f"00-{TRACE}-{PARENT}-01", "tracestate": "a=1", "baggage": "user=ann"}


async def sent(headers: Mapping[str, Any] | None = None, **options: bool) -> dict[str, Any]:
    """The headers of a call that is made here."""

    async def last(call: OutgoingCall) -> dict[str, Any]:
        return dict(call.headers)

    call = OutgoingCall("service", "method", (), {}, headers or {}, 30.0)
    found: dict[str, Any] = await chain([amqproxy.tracing(**options)], last)(call)
    return found


async def handled(header: bytes, made: Any, **options: bool) -> Any:
    """What is made in a handler, with tracing around it, of a call with these properties."""

    async def last(call: Call) -> Any:
        return await made()

    call = Call("service", "method", "worker", False, header, asyncio.get_running_loop().time)
    call.enter()
    return await chain([amqproxy.tracing(**options)], last)(call)


def ids(headers: Mapping[str, Any]) -> list[str]:
    return str(headers["traceparent"]).split("-")


def encoded(headers: Mapping[str, Any]) -> bytes:
    return Properties(headers=headers).encode()


async def test_outside_of_handlers_there_is_no_trace_unless_one_is_begun() -> None:
    assert await sent() == {}
    assert await sent({"x-a": "1"}) == {"x-a": "1"}
    version, trace, span, flags = ids(await sent(start=True))
    assert (version, len(trace), len(span), flags) == ("00", 32, 16, "02")
    assert ids(await sent(start=True, sampled=True))[3] == "03"
    assert ids(await sent(start=True))[1] != trace


async def test_headers_that_a_call_has_win() -> None:
    mine = {"traceparent": f"00-{TRACE}-{PARENT}-00"}
    assert await sent(mine, start=True) == mine
    assert await handled(encoded(GIVEN), lambda: sent(mine)) == mine
    found = await handled(encoded(GIVEN), lambda: sent({"baggage": "user=bob"}))
    assert found == {**GIVEN, "traceparent": found["traceparent"], "baggage": "user=bob"}


async def test_in_a_handler_its_trace_is_carried_on_under_another_name_each_time() -> None:
    first, second = await handled(encoded(GIVEN), lambda: asyncio.gather(sent(), sent(start=True)))
    for found in (first, second):
        assert ids(found) == ["00", TRACE, ids(found)[2], "01"]
        assert (found["tracestate"], found["baggage"]) == ("a=1", "user=ann")
    assert len({PARENT, ids(first)[2], ids(second)[2]}) == 3


async def test_baggage_needs_no_trace() -> None:
    assert await handled(encoded({"baggage": "a=1", "tracestate": "b=2"}), sent) == {"baggage": "a=1"}


async def test_a_handler_without_a_trace_may_begin_one_for_all_its_calls() -> None:
    assert await handled(encoded({}), sent) == {}
    first, second = await handled(encoded({}), lambda: asyncio.gather(sent(), sent(start=True)), start=True)
    assert ids(first)[1] == ids(second)[1] and ids(first)[2] != ids(second)[2]
    first, second = await handled(encoded({}), lambda: asyncio.gather(sent(start=True), sent(start=True)))
    assert ids(first)[1] != ids(second)[1]  # each begins its own
    assert ids(await handled(encoded(GIVEN), sent, start=True))[1] == TRACE


async def test_a_trace_that_one_handler_began_is_not_that_of_another() -> None:
    async def nested() -> Any:
        return await handled(encoded({}), sent)

    assert await handled(encoded({}), nested, start=True) == {}


async def test_headers_that_do_not_decode_hold_no_trace() -> None:
    broken = b"\x20\x00\x00\x00\x00\x09\x01a"
    with pytest.raises(ValueError, match="table"):
        _ = Properties.decode(broken)
    assert await handled(broken, sent) == {}
    assert ids(await handled(broken, sent, start=True))[3] == "02"
