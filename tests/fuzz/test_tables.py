"""Field tables of any kind: taken or refused, and what is taken can be read by others."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from amqproxy.broker.tables import Table, check, comparable
from amqproxy.fields import Malformed, decode_table
from tests.fuzz.arena import check_table, play_all_ways
from tests.fuzz.seeds import OPEN, PUBLISH_R, declare
from tests.unit.broker.wire import content_header, field_of, nested, short, table

examples = settings(max_examples=80, deadline=None, derandomize=True, database=None)
few = settings(examples, max_examples=30)

letters = st.sampled_from(sorted(b"SIiDTFAbBdflsutxVLZ\0"))
leaves = st.builds(lambda kind, rest: bytes((kind,)) + rest, letters, st.binary(max_size=10))
values: st.SearchStrategy[bytes] = st.recursive(
    leaves,
    lambda inner: st.builds(
        lambda kind, found, change: field_of(kind, b"".join(found)[: change or None]),
        st.sampled_from([b"A", b"F", b"S", b"x"]),
        st.lists(inner | st.builds(lambda name, value: short(name) + value, st.binary(max_size=3), inner), max_size=3),
        st.integers(0, 30),
    ),
    max_leaves=6,
)
names = st.sampled_from([b"a", b"x-max-length", b"x-death", b"CC", b"BCC", b"x-match", b"x-queue-type", b"\xff", b""])
fields = st.lists(st.builds(lambda name, value: short(name) + value, names, values), max_size=4).map(b"".join)


@examples
@given(fields)
@example(short(b"a") + field_of(b"F", nested(700)))
@example(short(b"a") + b"A\xff\xff\xff\xff")
def test_what_is_taken_is_whole_and_keeps_its_bytes(data: bytes) -> None:
    try:
        check(data)
    except Malformed:
        with pytest.raises(Malformed):
            Table.parse(data)
        return
    check_table(data)
    parsed = Table.parse(data)
    assert sum(len(name.encode(errors="surrogateescape")) + 1 for name in parsed) <= len(data)
    for name in parsed:
        hash(comparable(parsed.fields[name]))
        parsed.kind(name), parsed.text(name), parsed.texts(name), parsed.table(name)


@examples
@given(fields)
def test_what_the_client_half_reads_the_broker_takes_too(data: bytes) -> None:
    try:
        decoded, _ = decode_table(table(data))
    except Malformed:
        return
    assert dict(Table.parse(data)) == decoded or decoded != decoded


@few
@given(fields)
def test_any_table_may_come_as_an_argument_or_as_headers(data: bytes) -> None:
    play_all_ways(OPEN + declare(b"z", data) + declare(b"q", data))
    play_all_ways(OPEN + PUBLISH_R + content_header(1, 0, 0x2000, table(data)) + declare(b"z", b""))
