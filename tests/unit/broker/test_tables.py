"""Field tables: every byte kept, nothing believed, and no depth that hurts."""

from __future__ import annotations

import struct
import tracemalloc
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from amqproxy.broker.tables import (
    KINDS,
    Table,
    array,
    check,
    comparable,
    items,
    long_integer,
    long_string,
    nested,
    timestamp,
)
from amqproxy.fields import Malformed, encode_table
from tests.unit.broker import wire

examples = settings(max_examples=50, deadline=None, derandomize=True, database=None)

ONE_OF_EACH = {
    "longstr": b"S\0\0\0\1a",
    "signedint": b"I\0\0\0\1",
    "unsignedint": b"i\0\0\0\1",
    "decimal": b"D\2\0\0\0\1",
    "timestamp": b"T\0\0\0\0\0\0\0\1",
    "table": b"F\0\0\0\3\1aV",
    "array": b"A\0\0\0\1V",
    "byte": b"b\1",
    "unsignedbyte": b"B\1",
    "double": b"d\x3f\xf0\0\0\0\0\0\0",
    "float": b"f\x3f\x80\0\0",
    "long": b"l\0\0\0\0\0\0\0\1",
    "short": b"s\0\1",
    "unsignedshort": b"u\0\1",
    "bool": b"t\1",
    "binary": b"x\0\0\0\1a",
    "void": b"V",
}
names = st.binary(max_size=20)
values = st.recursive(
    st.sampled_from(sorted(ONE_OF_EACH.values())),
    lambda inner: (
        st.lists(inner, max_size=3).map(array)
        | st.dictionaries(names, inner, max_size=3).map(lambda found: wire.field_of(b"F", fields_of(found)))
    ),
    max_leaves=8,
)
plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.text(st.characters(codec="utf-8"), max_size=9),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(st.characters(codec="utf-8"), max_size=9), inner)
    ),
    max_leaves=8,
)


def fields_of(found: dict[bytes, bytes]) -> bytes:
    return b"".join(wire.short(name) + value for name, value in found.items())


def parse(**fields: Any) -> Table:
    return Table.parse(encode_table(fields)[4:])


@examples
@given(st.dictionaries(names, values, max_size=5).map(fields_of))
def test_a_table_keeps_every_byte(fields: bytes) -> None:
    check(fields)
    assert Table.parse(fields).encode() == wire.table(fields)


@examples
@given(st.dictionaries(st.text(st.characters(codec="utf-8"), max_size=9), plain, max_size=4))
def test_a_table_reads_as_what_was_written(written: dict[str, Any]) -> None:
    table = Table.parse(encode_table(written)[4:])
    assert dict(table) == written
    assert len(table) == len(written)
    assert all(name in table for name in written)


@examples
@given(st.dictionaries(names, values, max_size=4).map(fields_of), st.data())
def test_a_table_that_is_cut_is_malformed_or_a_shorter_table(fields: bytes, data: st.DataObject) -> None:
    cut = fields[: data.draw(st.integers(0, len(fields)))]
    try:
        table = Table.parse(cut)
    except Malformed:
        with pytest.raises(Malformed):
            check(cut)
    else:
        check(cut)
        assert table.encode()[4:] == cut


@examples
@given(st.binary(max_size=60))
def test_any_bytes_are_a_table_or_malformed_and_both_ways_to_look_agree(fields: bytes) -> None:
    try:
        table = Table.parse(fields)
    except Malformed:
        with pytest.raises(Malformed):
            check(fields)
    else:
        check(fields)
        for name in table:
            assert table.kind(name) in KINDS.values()
            comparable(table.fields[name])


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        (b"\5ab", "before the type"),
        (b"\1a", "before the type"),
        (b"\1aI\0\0", "middle of a field"),
        (b"\1aS\0\0", "middle of a field"),
        (b"\1aS\0\0\0\5abc", "middle of a field"),
        (b"\1aF\xff\xff\xff\xff", "middle of a field"),
        (b"\1aZ", "unknown type 'Z'"),
        (b"\1a\xff", "unknown type 'ÿ'"),
    ],
)
def test_what_is_no_table_is_malformed(fields: bytes, why: str) -> None:
    with pytest.raises(Malformed, match=why):
        Table.parse(fields)
    with pytest.raises(Malformed, match=why):
        check(fields)


@pytest.mark.parametrize(
    "inside",
    [b"\5ab", b"\1aZ", b"\1aI\0\0", b"\1aF\0\0\0\7\1bV"],
    ids=["a long name", "an unknown type", "a cut field", "a long table"],
)
def test_what_is_nested_is_checked_too_as_another_client_must_read_it(inside: bytes) -> None:
    for fields in (
        wire.short(b"t") + wire.field_of(b"F", inside),
        wire.short(b"t") + array([b"V", wire.field_of(b"F", inside)]),
        wire.short(b"t") + wire.field_of(b"F", wire.short(b"u") + wire.field_of(b"F", inside)),
    ):
        with pytest.raises(Malformed):
            check(fields)


def test_an_array_that_ends_in_the_middle_of_an_item_is_malformed() -> None:
    with pytest.raises(Malformed):
        check(wire.short(b"a") + wire.field_of(b"A", b"Sgarb"))


@pytest.mark.parametrize("depth", [1, 31, 33, 700, 20000])
def test_tables_may_be_nested_as_deep_as_they_like(depth: int) -> None:
    fields = wire.nested(depth)
    check(fields)
    assert Table.parse(fields).kind("x") == "table"
    assert Table.parse(fields).encode() == wire.table(fields)


def test_a_length_that_is_claimed_costs_no_memory() -> None:
    fields = b"\1aS\x7f\xff\xff\xff" + b"x" * 10
    tracemalloc.start()
    with pytest.raises(Malformed):
        Table.parse(fields)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100_000


@pytest.mark.parametrize(("kind", "field"), ONE_OF_EACH.items())
def test_each_type_has_rabbitmqs_name(kind: str, field: bytes) -> None:
    table = Table({"a": field})
    assert table.kind("a") == kind
    assert ONE_OF_EACH.keys() == set(KINDS.values())
    assert table.encode() == wire.table(b"\1a" + field)


def test_a_field_that_is_not_there_is_undefined() -> None:
    assert Table().kind("a") == "undefined"
    assert Table().text("a") is None
    assert Table().texts("a") == []
    assert dict(Table().table("a")) == {}
    assert Table().get("a") is None
    with pytest.raises(KeyError):
        Table()["a"]


def test_fields_are_read_by_their_types() -> None:
    table = parse(text="é", number=7, many=["a", 1, "b"], table={"inner": True}, raw=b"\xff")
    assert table.text("text") == "é"
    assert table.text("number") is None
    assert table.texts("many") == ["a", "b"]
    assert table.texts("text") == []
    assert table.table("table")["inner"] is True
    assert dict(table.table("text")) == {}
    assert list(table) == ["text", "number", "many", "table", "raw"]


def test_text_and_names_that_are_no_utf_8_come_back_as_they_were() -> None:
    fields = wire.short(b"\xff") + wire.field_of(b"S", b"\xfe")
    table = Table.parse(fields)
    assert table.encode() == wire.table(fields)
    (name,) = table
    assert long_string(table.text(name) or "") == b"S\0\0\0\1\xfe"


def test_of_two_fields_of_one_name_the_last_counts() -> None:
    assert dict(Table.parse(b"\1ab\1\1ab\2")) == {"a": 2}


def test_the_order_of_fields_makes_no_other_table() -> None:
    one, other = Table.parse(b"\1ab\1\1bb\2"), Table.parse(b"\1bb\2\1ab\1")
    assert one.key() == other.key()
    assert one.key() != Table.parse(b"\1ab\1\1bb\3").key()
    hash(one.key())


def test_a_field_is_shown_as_errors_show_it() -> None:
    table = Table(
        {
            "flag": b"t\1",
            "number": ONE_OF_EACH["long"],
            "text": long_string("Text"),
            "deep": wire.field_of(b"F", wire.nested(700)),
        }
    )
    shown = {name: table.show(name) for name in (*table, "none")}
    assert shown == {"flag": "true", "number": "1", "text": "Text", "deep": "<table>", "none": "undefined"}


def test_a_table_shows_its_fields() -> None:
    assert repr(Table({"a": b"V"})) == "Table({'a': b'V'})"


def test_a_copy_has_fields_of_its_own() -> None:
    fields = {"a": b"V"}
    table = Table(fields)
    table.fields["b"] = b"V"
    assert fields == {"a": b"V"}


def test_what_is_written_can_be_read() -> None:
    inner = Table({"n": long_integer(-1)})
    table = Table(
        {
            "text": long_string("é"),
            "number": long_integer(2**63 - 1),
            "time": timestamp(1),
            "many": array([long_string("a"), long_integer(1)]),
            "none": array([]),
            "table": nested(inner),
        }
    )
    assert dict(Table.parse(table.encode()[4:])) == {
        "text": "é",
        "number": 2**63 - 1,
        "time": datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC),
        "many": ["a", 1],
        "none": [],
        "table": {"n": -1},
    }


def test_the_items_of_an_array_are_cut_apart() -> None:
    found = [b"V", b"t\1", wire.field_of(b"S", b"abc"), array([b"V"])]
    assert items(array(found)) == found
    assert items(array([])) == []
    with pytest.raises(Malformed):
        items(wire.field_of(b"A", b"Sgarb"))


def test_numbers_are_equal_whatever_their_types_and_so_are_text_and_bytes() -> None:
    kinds = ("signedint", "unsignedint", "byte", "unsignedbyte", "double", "float", "long", "short", "timestamp")
    assert len({comparable(ONE_OF_EACH[kind]) for kind in (*kinds, "unsignedshort")}) == 1
    assert comparable(ONE_OF_EACH["longstr"]) == comparable(ONE_OF_EACH["binary"])
    assert comparable(b"b\xff") == comparable(b"I\xff\xff\xff\xff") == comparable(b"l" + b"\xff" * 8)
    assert comparable(b"T" + b"\xff" * 8) != comparable(b"l" + b"\xff" * 8)


def test_numbers_text_and_flags_are_different_things() -> None:
    one = {comparable(ONE_OF_EACH[kind]) for kind in ("long", "bool", "longstr", "decimal", "void", "table", "array")}
    assert len(one) == 7
    assert comparable(b"D\0\0\0\0\1") != comparable(b"I\0\0\0\1")
    assert Decimal(1) == Table({"a": b"D\0\0\0\0\1"})["a"]


def test_a_time_stamp_that_no_calendar_has_is_compared_all_the_same() -> None:
    assert comparable(b"T" + b"\xff" * 8) == ("number", 2**64 - 1)


@examples
@given(st.floats(width=64), st.floats(width=64))
def test_floating_numbers_are_compared_by_their_values(one: float, other: float) -> None:
    same = comparable(b"d" + struct.pack(">d", one)) == comparable(b"d" + struct.pack(">d", other))
    assert same is (one == other)
