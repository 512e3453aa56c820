"""Traces: what the headers `traceparent`, `tracestate` and `baggage` say, and what a further call carries on of them.

Sources: https://www.w3.org/TR/trace-context-2/ and https://www.w3.org/TR/baggage/. Whoever called is not trusted: what
is malformed, or larger than the limits here, is dropped, and nothing that is carried on holds a control character.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

TRACEPARENT, TRACESTATE, BAGGAGE = "traceparent", "tracestate", "baggage"

SAMPLED, RANDOM = 0x01, 0x02
"""Flags: the caller may have recorded its part; the trace id was made at random. Others are reserved, and sent as 0."""

MAX_TRACEPARENT = 256
"""Characters of a traceparent; ours have 55, those of later versions may have more."""
MAX_TRACESTATE = 2048
"""Characters of a tracestate; 512 at least are to be carried on."""
MAX_STATES = 32
"""Members of a tracestate; more are not allowed."""
MAX_BAGGAGE = 8192
"""Bytes of baggage; so many at least are to be carried on."""

_PARENT = re.compile("([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?", re.ASCII)
_STATE = re.compile(r"[a-z0-9][a-z0-9_\-*/@]{0,255}=[\x20-\x2b\x2d-\x3c\x3e-\x7e]{0,255}[\x21-\x2b\x2d-\x3c\x3e-\x7e]")
_BAGGAGE = re.compile(r"[\t\x20-\x7e]+")


@dataclass(frozen=True, slots=True)
class Span:
    """One step of a trace: a call, as its caller calls it."""

    trace_id: str
    """The same in all of the trace: 32 hexadecimal digits in lower case."""
    span_id: str
    """This step's own: 16 of them."""
    flags: int = 0

    @classmethod
    def parse(cls, text: str) -> Span | None:
        """What a traceparent says, or None if it is none. Of later versions than ours, what they have in common."""
        found = _PARENT.fullmatch(text.strip(" \t"))
        if found is None or len(text) > MAX_TRACEPARENT:
            return None
        version, trace_id, span_id, flags, more = found.groups()
        if version == "ff" or (version == "00" and more) or not (int(trace_id, 16) and int(span_id, 16)):
            return None
        return cls(trace_id, span_id, int(flags, 16) & (SAMPLED | RANDOM if version == "00" else SAMPLED))

    def __str__(self) -> str:
        return f"00-{self.trace_id}-{self.span_id}-{self.flags:02x}"


def parse_state(text: str) -> str:
    """A tracestate in its shortest form; nothing if it is malformed, too large, or has a key twice."""
    if len(text) > MAX_TRACESTATE:
        return ""
    members = [member for each in text.split(",") if (member := each.strip(" \t"))]
    keys = {member.partition("=")[0] for member in members}
    if len(members) > MAX_STATES or len(keys) < len(members) or not all(map(_STATE.fullmatch, members)):
        return ""
    return ",".join(members)


def carried(headers: Mapping[str, Any], span_id: str) -> dict[str, str]:
    """The headers of a call, named `span_id`, that is made on behalf of a call with these headers."""
    found = {}
    parent = Span.parse(_text(headers, TRACEPARENT))
    if parent is not None:
        found[TRACEPARENT] = str(Span(parent.trace_id, span_id, parent.flags))
        if state := parse_state(_text(headers, TRACESTATE)):
            found[TRACESTATE] = state
    baggage = _text(headers, BAGGAGE)
    if len(baggage) <= MAX_BAGGAGE and _BAGGAGE.fullmatch(baggage):
        found[BAGGAGE] = baggage
    return found


def _text(headers: Mapping[str, Any], name: str) -> str:
    """A header whose name may be written in any case, but best as it is here; nothing if it is no text."""
    spelled = name if name in headers else next((each for each in headers if each.lower() == name), name)
    value = headers.get(spelled)
    return value if isinstance(value, str) else ""
