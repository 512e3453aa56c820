"""Tracing: calls that a handler makes belong to the trace of the call that it runs for."""

from __future__ import annotations

import os
from contextvars import ContextVar
from typing import Any

from .fields import FieldTable, Malformed
from .handler import Call, current
from .middleware import Middleware, Next, OutgoingCall
from .trace import RANDOM, SAMPLED, TRACEPARENT, Span, carried

_started: ContextVar[tuple[Call, Span]] = ContextVar("amqproxy.tracing")
"""The trace that was started for a handler whose caller had none."""


def tracing(*, start: bool = False, sampled: bool = False) -> Middleware:
    """Middleware that carries traces on, by the headers of W3C Trace Context and W3C Baggage.

        async with amqproxy.connect(middleware=[amqproxy.tracing()]) as mq: ...

    A call that is made in a handler gets the trace of the call that runs, which `amqproxy.current().headers` has for
    your logs: `traceparent` with the same trace id and a new id for itself, and `tracestate` and `baggage` as they are.
    What came is dropped if it is malformed or very large. Headers that a call has already, from its proxy's options or
    from middleware ahead of this, win.

    Elsewhere there is no trace to carry on, and none is begun unless `start` is true: then each call begins one, with
    the flag `sampled`. Around handlers, `mq.serve(…, middleware=[amqproxy.tracing(start=True)])`, it lets all calls of
    a handler share one trace, though the handler's caller had none. Spans are not recorded; the ids are for those who
    do.
    """
    flags = SAMPLED | RANDOM if sampled else RANDOM

    async def trace(call: Any, next: Next) -> Any:
        if isinstance(call, OutgoingCall):
            return await next(_traced(call, flags if start else None))
        if start and TRACEPARENT not in carried(_headers(call), _span_id()):
            _started.set((call, _new_span(flags)))
        return await next(call)

    return trace


def _traced(call: OutgoingCall, flags: int | None) -> OutgoingCall:
    """The call with the headers of the trace that it belongs to; of a new one with `flags`, if there is none."""
    if TRACEPARENT in call.headers:
        return call
    try:
        running = current()
    except LookupError:
        headers = {}
    else:
        headers = carried(_headers(running), _span_id())
        begun = _started.get(None)
        if begun is not None and begun[0] is running:
            headers[TRACEPARENT] = str(Span(begun[1].trace_id, _span_id(), begun[1].flags))
    if flags is not None and TRACEPARENT not in headers:
        headers[TRACEPARENT] = str(_new_span(flags))
    new = {name: value for name, value in headers.items() if name not in call.headers}
    return call.with_headers(new) if new else call


def _headers(call: Call) -> FieldTable:
    try:
        return call.headers
    except Malformed:
        return {}


def _new_span(flags: int) -> Span:
    return Span(os.urandom(16).hex(), _span_id(), flags)


def _span_id() -> str:
    return os.urandom(8).hex()
