"""S09: whatever a stranger sends is read or refused, by every decoder; `make fuzz` goes on with that."""

from __future__ import annotations

from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import amqproxy
from tests.contract.raw import Raw
from tests.fuzz import decoders
from tests.security.served import vault

examples = settings(
    max_examples=150, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)


@examples
@given(decoders.properties)
def test_properties_are_read_or_malformed_and_all_ways_to_read_agree(data: bytes) -> None:
    decoders.reads_properties(data)


@examples
@given(decoders.headers)
def test_headers_mean_something_or_are_refused(found: dict[str, Any]) -> None:
    decoders.reads_headers(found)


@examples
@given(decoders.spoiled(*decoders.FAILURES, *decoders.TALK))
def test_failures_presence_progress_and_credit_are_read_or_refused(data: bytes) -> None:
    decoders.reads_talk(data)


@examples
@given(decoders.bodies)
def test_every_codec_reads_it_or_refuses_it(found: tuple[str, str, bytes, int]) -> None:
    decoders.reads_bodies(*found)


@examples
@given(st.binary(max_size=300))
def test_frames_of_a_broker_are_read_or_malformed(data: bytes) -> None:
    decoders.reads_frames(data)


MESSAGES = st.tuples(
    decoders.spoiled(decoders.HEADERS, decoders.SIGNED),
    decoders.spoiled(*decoders.FAILURES, *decoders.TALK, b"[1,2]"),
)


async def test_a_worker_and_a_caller_live_through_all_of_it(mq: amqproxy.Client, raw: Raw, service: str) -> None:
    """Past the broker, which would not relay all of this: handed to those whom their lanes tell."""
    async with vault(mq, service) as (_, proxy):
        session, caller = mq._workers[-1].session, mq.caller
        assert session is not None
        line = proxy.add.line

        @examples
        @given(MESSAGES, st.sampled_from((b"", b"x", line.prefix + b"0" * 10)))
        def hand_out(message: tuple[bytes, bytes], id: bytes) -> None:
            header, body = message
            for one in (header, header.replace(b"\x01c", bytes((len(id),)) + id)):
                session.desk.delivered(1, False, one, body)
                caller.delivered(1, False, one, body)
                caller.returned(312, b"\xff", b"", one, body)
                caller.too_large(1, one, 10**9)

        hand_out()
        assert await proxy.add(1, 2) == 3
