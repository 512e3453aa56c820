"""Field tables, compared with pamqp in both directions; and garbage, which is Malformed and nothing else."""

from __future__ import annotations

import decimal
import struct
import tracemalloc
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pamqp.decode
import pamqp.encode
import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from amqproxy.fields import MAX_DEPTH, Malformed, decode_table, decode_value, encode_short_string, encode_table

examples = settings(
    max_examples=50,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)

texts = st.text(st.characters(codec="utf-8"), max_size=12)
moments = st.integers(0, 2**32 - 1).map(lambda seconds: datetime.fromtimestamp(seconds, UTC))
decimals = st.builds(
    lambda number, places: Decimal(number).scaleb(-places),
    st.integers(-(2**31), 2**31 - 1),
    st.integers(0, 255),
)
scalars = st.one_of(
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    texts,
    st.binary(max_size=20),
    st.floats(allow_nan=False),
    moments,
    decimals,
    st.none(),
)


def tables_of(values: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    nested = st.recursive(
        values,
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
        max_leaves=8,
    )
    return st.dictionaries(texts, nested, max_size=5)


tables = tables_of(scalars)

# What both write with the same bytes: pamqp writes small integers in fewer, floats in four, and sorts names.
same_bytes = tables_of(
    st.one_of(
        st.booleans(),
        st.integers(2**16, 2**31 - 1),
        st.integers(-(2**31), -(2**15) - 1),
        st.integers(2**32, 2**63 - 1),
        st.integers(-(2**63), -(2**31) - 1),
        texts,
        st.binary(max_size=20).map(bytearray),
        moments,
        decimals,
        st.none(),
    )
)


def plain(value: Any) -> Any:
    """Without the types that differ between the two libraries, and in pamqp's order."""
    if isinstance(value, dict):
        return {name: plain(value[name]) for name in sorted(value)}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return bytes(value) if isinstance(value, bytearray) else value


def raw(kind: str, payload: bytes, name: bytes = b"k") -> bytes:
    """A table of one field, made by hand."""
    body = bytes((len(name),)) + name + kind.encode() + payload
    return struct.pack(">I", len(body)) + body


def nested(depth: int) -> dict[str, Any]:
    table: dict[str, Any] = {}
    for _ in range(depth):
        table = {"a": table}
    return table


@examples
@given(tables, st.binary(max_size=10), st.binary(max_size=10))
def test_what_we_write_is_read_alike_by_us_and_by_pamqp_wherever_it_stands(
    table: dict[str, Any], before: bytes, after: bytes
) -> None:
    data = encode_table(table)
    assert decode_table(before + data + after, len(before)) == (table, len(before) + len(data))
    consumed, found = pamqp.decode.field_table(data)
    assert consumed == len(data)
    assert plain(found) == plain(table)


@examples
@given(tables_of(scalars.map(lambda value: bytearray(value) if isinstance(value, bytes) else value)))
def test_we_read_what_pamqp_writes(table: dict[str, Any]) -> None:
    try:
        data = pamqp.encode.field_table(table)
    except (OverflowError, TypeError):  # it writes floats in four bytes only
        assume(False)
    assert decode_table(data)[0] == plain(pamqp.decode.field_table(data)[1])


@examples
@given(same_bytes)
def test_both_write_the_same_bytes(table: dict[str, Any]) -> None:
    assert encode_table(plain(table)) == pamqp.encode.field_table(table)


@pytest.mark.parametrize(
    ("kind", "payload", "value"),
    [
        ("t", b"\x00", False),
        ("t", b"\x01", True),
        ("t", b"\x02", True),
        ("b", b"\xff", -1),
        ("B", b"\xff", 255),
        ("s", b"\xff\xfe", -2),
        ("u", b"\xff\xfe", 65534),
        ("I", b"\xff\xff\xff\xff", -1),
        ("i", b"\xff\xff\xff\xff", 2**32 - 1),
        ("l", b"\xff" * 8, -1),
        ("f", struct.pack(">f", 0.5), 0.5),
        ("d", struct.pack(">d", 0.1), 0.1),
        ("D", b"\x02" + struct.pack(">i", -12345), Decimal("-123.45")),
        ("D", b"\x00" + struct.pack(">i", 7), Decimal(7)),
        ("S", b"\x00\x00\x00\x03\xc3\xbcx", "üx"),
        ("S", b"\x00\x00\x00\x02\xff\xfe", b"\xff\xfe"),
        ("x", b"\x00\x00\x00\x02ab", b"ab"),
        ("A", b"\x00\x00\x00\x00", []),
        ("A", b"\x00\x00\x00\x03t\x01V", [True, None]),
        ("T", struct.pack(">Q", 1700000000), datetime.fromtimestamp(1700000000, UTC)),
        ("F", b"\x00\x00\x00\x00", {}),
        ("V", b"", None),
    ],
)
def test_each_type_is_read_as_pamqp_reads_it(kind: str, payload: bytes, value: Any) -> None:
    data = raw(kind, payload)
    assert decode_table(data) == ({"k": value}, len(data))
    assert type(decode_table(data)[0]["k"]) is type(value)
    assert plain(pamqp.decode.field_table(data)[1]) == {"k": value}


@pytest.mark.parametrize(
    ("value", "encoded"),
    [
        (True, b"t\x01"),
        (False, b"t\x00"),
        (1, b"I\x00\x00\x00\x01"),
        (2**31 - 1, b"I\x7f\xff\xff\xff"),
        (-(2**31), b"I\x80\x00\x00\x00"),
        (2**31, b"l\x00\x00\x00\x00\x80\x00\x00\x00"),
        (-(2**63), b"l\x80" + bytes(7)),
        ("ü", b"S\x00\x00\x00\x02\xc3\xbc"),
        (b"\xff", b"x\x00\x00\x00\x01\xff"),
        (0.5, b"d" + struct.pack(">d", 0.5)),
        (Decimal("-1.5"), b"D\x01" + struct.pack(">i", -15)),
        (None, b"V"),
        ((1, "a"), b"A\x00\x00\x00\x0bI\x00\x00\x00\x01S\x00\x00\x00\x01a"),
        ({"a": {}}, b"F\x00\x00\x00\x07\x01aF\x00\x00\x00\x00"),
        (datetime.fromtimestamp(5.9, UTC), b"T\x00\x00\x00\x00\x00\x00\x00\x05"),
        (datetime(1970, 1, 1, 1, tzinfo=timezone(timedelta(hours=1))), b"T" + bytes(8)),
    ],
)
def test_each_value_is_written_as_rabbitmqs_type_for_it(value: Any, encoded: bytes) -> None:
    body = b"\x01k" + encoded
    assert encode_table({"k": value}) == struct.pack(">I", len(body)) + body


@pytest.mark.parametrize(
    "value",
    [
        object(),
        {1, 2},
        1j,
        2**63,
        -(2**63) - 1,
        10**5000,
        Decimal("NaN"),
        Decimal("sNaN"),
        Decimal("Infinity"),
        Decimal("1e-256"),
        Decimal("12345678901"),
        Decimal(2**31),
        Decimal(-(2**31) - 1),
        Decimal("3E+9"),
        Decimal("1E+10"),
        Decimal("9" * 5000),
        "\udc80",
        datetime(1969, 12, 31, tzinfo=UTC),
        datetime(1, 1, 1, tzinfo=UTC),
        {"k" * 256: 1},
        {"ü" * 128: 1},
        {"\udc80": 1},
        {1: "a"},
        {b"a": 1},
        {None: 1},
        [object()],
        {"a": [{"b": 2**64}]},
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_a_table_cannot_hold_is_a_type_or_value_error(value: Any) -> None:
    with pytest.raises((TypeError, ValueError)):
        encode_table({"k": value})
    if isinstance(value, dict):
        with pytest.raises((TypeError, ValueError)):
            encode_table(value)


def test_a_decimal_with_a_positive_exponent_is_written_as_the_number_it_is() -> None:
    data = encode_table({"k": Decimal("1E+2")})
    assert data == pamqp.encode.field_table({"k": Decimal("1E+2")})
    assert decode_table(data)[0] == {"k": Decimal(100)}


def test_decimals_are_read_whatever_the_callers_decimal_context() -> None:
    data = encode_table({"k": Decimal("1234.567")})
    with decimal.localcontext() as context:
        context.prec = 2
        context.traps[decimal.Inexact] = True
        assert decode_table(data)[0] == {"k": Decimal("1234.567")}


def test_tables_may_be_nested_to_the_limit_and_no_deeper() -> None:
    data = encode_table(nested(MAX_DEPTH))
    assert decode_table(data) == (nested(MAX_DEPTH), len(data))
    with pytest.raises(Malformed, match="nested"):
        decode_table(pamqp.encode.field_table(nested(MAX_DEPTH + 1)))


@pytest.mark.parametrize("depth", [MAX_DEPTH + 1, 5000])
def test_what_is_nested_deeper_than_we_would_read_is_not_written(depth: int) -> None:
    with pytest.raises(ValueError):
        encode_table(nested(depth))


def test_a_table_that_holds_itself_is_not_written() -> None:
    table: dict[str, Any] = {}
    table["self"] = [table]
    with pytest.raises(ValueError):
        encode_table(table)


@pytest.mark.parametrize("opening", [b"F", b"A"])
@pytest.mark.parametrize("depth", [700, 20_000])
def test_deep_nesting_is_refused_and_not_followed(opening: bytes, depth: int) -> None:
    name = b"\x00" if opening == b"F" else b""
    body = b""
    for _ in range(depth):
        body = name + opening + struct.pack(">I", len(body)) + body
        if len(body) > 150_000:
            break
    body = b"\x00" + opening + struct.pack(">I", len(body)) + body
    with pytest.raises(Malformed, match="nested"):
        decode_table(struct.pack(">I", len(body)) + body)


@pytest.mark.parametrize("kind", ["S", "x", "A", "F"])
def test_a_declared_length_is_checked_before_anything_is_made_of_it(kind: str) -> None:
    tracemalloc.start()
    try:
        for length in (1, 2**31 - 1, 2**31, 2**32 - 1):
            with pytest.raises(Malformed):
                decode_table(raw(kind, struct.pack(">I", length)))
            with pytest.raises(Malformed):
                decode_table(struct.pack(">I", length))
        assert tracemalloc.get_traced_memory()[1] < 100_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "longer than the data"),
        (b"\x00\x00\x00", "longer than the data"),
        (b"\x00\x00\x00\x01", "longer than the data"),
        (raw("t", b"", name=b"\xff"), "not UTF-8"),
        (raw("t", b""), "middle of a field"),
        (raw("l", bytes(7)), "middle of a field"),
        (raw("D", bytes(4)), "middle of a decimal"),
        (raw("S", bytes(3)), "longer than the data"),
        (raw("?", b""), "unknown type '\\?'"),
        (raw("\x00", b""), "unknown type"),
        (b"\x00\x00\x00\x02\x01k", "before the type"),
        (b"\x00\x00\x00\x01\x00", "before the type"),
        (b"\x00\x00\x00\x03\x00t\x01" + b"more", None),
        (b"\x00\x00\x00\x02\x00t\x01" + b"more", "over the end of its table"),
        (raw("A", b"\x00\x00\x00\x01t\x01"), "over the end of its array"),
        (raw("F", b"\x00\x00\x00\x02\x00t\x01"), "over the end of its table"),
        (raw("T", b"\xff" * 8), "no time stamp"),
        (raw("T", struct.pack(">Q", 1700000000 * 10**6)), "no time stamp"),
    ],
)
def test_what_is_no_table_is_malformed_for_a_reason(data: bytes, reason: str | None) -> None:
    if reason is None:
        assert decode_table(data) == ({"": True}, 7)
        return
    with pytest.raises(Malformed, match=reason):
        decode_table(data)


@examples
@given(st.binary(max_size=60))
@example(b"\x00\x00\x00\x05\x00D\xff\x7f\xff\xff\xff")
@example(b"\x00\x00\x00\x07\x00D\xff\x7f\xff\xff\xff")
def test_random_bytes_are_a_table_or_malformed(noise: bytes) -> None:
    for data in (noise, struct.pack(">I", len(noise)) + noise, b"\x00\x00\x00\x06\x00F" + noise):
        try:
            table, end = decode_table(data)
        except Malformed:
            continue
        assert isinstance(table, dict)
        assert 4 <= end <= len(data)


@examples
@given(tables, st.integers(0, 2**16), st.integers(0, 255))
def test_a_spoiled_table_is_a_table_or_malformed_and_a_cut_one_malformed(
    table: dict[str, Any], place: int, byte: int
) -> None:
    data = encode_table(table)
    place %= len(data)
    with pytest.raises(Malformed):
        decode_table(data[:place])
    spoiled = data[:place] + bytes((byte,)) + data[place + 1 :]
    try:
        _, end = decode_table(spoiled)
    except Malformed:
        return
    assert end <= len(spoiled)


def test_of_two_fields_with_one_name_the_last_is_read() -> None:
    assert decode_table(b"\x00\x00\x00\x08\x01kt\x00\x01kt\x01")[0] == {"k": True}


def test_malformed_is_a_value_error() -> None:
    assert issubclass(Malformed, ValueError)


@pytest.mark.parametrize("size", [0, 1, 254, 255])
def test_a_short_string_is_written_behind_its_length(size: int) -> None:
    assert encode_short_string(b"x" * size) == bytes((size,)) + b"x" * size


def test_a_short_string_longer_than_a_byte_can_say_is_refused() -> None:
    with pytest.raises(ValueError, match="255 bytes at most, this one has 256"):
        encode_short_string(b"x" * 256)


@pytest.mark.parametrize("letter", ["l", "L"])
def test_a_value_is_read_by_itself(letter: str) -> None:
    assert decode_value(letter.encode() + struct.pack(">q", -5)) == -5


def test_a_value_with_something_behind_it_is_malformed() -> None:
    with pytest.raises(Malformed, match="bytes behind its value"):
        decode_value(b"t\x01\x00")
