"""Methods from and to bytes: as pamqp has them, for each method and both ways, and nothing that is cut or too long."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pamqp import base, commands, frame

from amqproxy.broker.errors import ProtocolError
from amqproxy.broker.methods import Undecodable, decode, encode, layout, text
from amqproxy.broker.tables import Table
from amqproxy.fields import Malformed
from tests.unit.broker import wire

examples = settings(max_examples=100, deadline=None, derandomize=True, database=None)

COMMANDS: list[type[base.Frame]] = [command for _, command in sorted(commands.INDEX_MAPPING.items())]
PINNED = {
    "ticket",
    "capabilities",
    "cluster_id",
    "insist",
    "internal",
    "out_of_band",
    "channel_id",
    "known_hosts",
    "no_wait",
}
"""Arguments for which pamqp demands one value, in some methods."""

short_texts = st.text(st.characters(codec="utf-8"), max_size=60)
names = st.text("abcdefghijklmnopqrstuvwxyz0123456789-_.:", max_size=40)
tables = st.dictionaries(
    names,
    st.recursive(
        st.booleans() | st.integers(-(2**31), 2**31 - 1) | st.text(st.characters(codec="utf-8"), max_size=20),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
        max_leaves=5,
    ),
    max_size=3,
)
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "bit": st.booleans(),
    "octet": st.integers(0, 255),
    "short": st.integers(0, 2**16 - 1),
    "long": st.integers(0, 2**32 - 1),
    "longlong": st.integers(0, 2**64 - 1),
    "shortstr": names,
    "longstr": st.text(st.characters(codec="utf-8"), max_size=300),
    "table": tables,
}


@st.composite
def methods(draw: st.DrawFn) -> base.Frame:
    """Any method with any arguments that pamqp agrees to encode."""
    command = draw(st.sampled_from(COMMANDS))
    made: base.Frame = command.__new__(command)
    for name, kind in layout(command):
        setattr(made, name, draw(VALUES[kind]))
    try:
        made.validate()
    except (ValueError, AttributeError):
        made = command()
        for name, kind in layout(command):  # what it demands stays as it is by default
            if name not in PINNED and kind != "shortstr":
                setattr(made, name, draw(VALUES[kind]))
    return made


def arguments_of(made: base.Frame) -> dict[str, Any]:
    return {name: getattr(made, name) for name, _ in layout(type(made))}


def test_there_are_64_methods() -> None:
    assert len(COMMANDS) == 64


@examples
@given(methods())
def test_what_pamqp_writes_is_read_as_it_was(made: base.Frame) -> None:
    found = decode(frame.marshal(made, 1)[7:-1])
    assert type(found) is type(made)
    for name, kind in layout(type(made)):
        value, wanted = getattr(found, name), getattr(made, name)
        if kind == "table":
            assert isinstance(value, Table)
            assert dict(value) == (wanted or {})
        elif kind == "longstr":
            assert value == (wanted or "").encode()
        else:
            assert value == wanted


@examples
@given(methods())
def test_what_is_written_is_what_pamqp_writes(made: base.Frame) -> None:
    expected = frame.marshal(made, 7)
    arguments = arguments_of(made)
    found = decode(expected[7:-1])
    for name, kind in layout(type(made)):
        if kind == "table":
            arguments[name] = getattr(found, name).encode()
    assert encode(7, type(made), **arguments) == expected


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_a_method_without_arguments_is_written_with_empty_ones_and_read_again(command: type[base.Frame]) -> None:
    written = encode(3, command)
    assert written[:3] == b"\x01\x00\x03"
    found = decode(written[7:-1])
    assert type(found) is command
    assert all(value in (0, False, "", b"", {}) for value in arguments_of(found).values())


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_a_method_that_is_cut_anywhere_or_goes_on_is_malformed(command: type[base.Frame]) -> None:
    values = {
        "table": wire.table(wire.short(b"a") + b"t\1"),
        "shortstr": "ab",
        "longstr": "abc",
        "bit": True,
    }
    payload = encode(0, command, **{name: values.get(kind, 1) for name, kind in layout(command)})[7:-1]
    decode(payload)
    for end in range(4, len(payload)):
        with pytest.raises(Malformed):
            decode(payload[:end])
    with pytest.raises(Malformed, match="behind its last argument"):
        decode(payload + b"\0")


@examples
@given(st.sampled_from(COMMANDS), st.binary(max_size=80))
def test_any_bytes_are_a_method_or_a_documented_error(command: type[base.Frame], arguments: bytes) -> None:
    try:
        found = decode(command.index.to_bytes(4, "big") + arguments)
    except (Malformed, Undecodable):
        return
    except ProtocolError as error:
        assert (error.code, error.text) == (501, "FRAME_ERROR - Malformed UTF-8 in shortstr")
        return
    assert type(found) is command


@pytest.mark.parametrize("payload", [b"", b"\0", b"\0\x3c\0", b"\0\x3c\0\xff", b"\xff\xff\xff\xff", b"\0\x28\0\x63"])
def test_a_method_that_there_is_not_cannot_be_decoded(payload: bytes) -> None:
    with pytest.raises(Undecodable, match="there is no method"):
        decode(payload)


def test_a_table_with_an_unknown_type_cannot_be_decoded() -> None:
    payload = wire.method(1, commands.Queue.Declare, b"\0\0\1q\0" + wire.table(b"\1aZ"))[7:-1]
    with pytest.raises(Undecodable, match="unknown type 'Z'"):
        decode(payload)


def test_a_table_with_garbage_nested_in_it_cannot_be_decoded() -> None:
    inside = wire.short(b"a") + wire.field_of(b"F", b"\5garbage")
    payload = wire.method(1, commands.Queue.Declare, b"\0\0\1q\0" + wire.table(inside))[7:-1]
    with pytest.raises(Undecodable):
        decode(payload)


def test_a_table_of_any_depth_is_decoded() -> None:
    payload = wire.method(1, commands.Queue.Declare, b"\0\0\1q\0" + wire.table(wire.nested(700)))[7:-1]
    found = decode(payload)
    assert isinstance(found, commands.Queue.Declare)
    assert isinstance(found.arguments, Table)
    assert found.arguments.kind("x") == "table"


def test_names_that_are_no_utf_8_end_the_connection_as_no_methods_fault() -> None:
    with pytest.raises(ProtocolError, match="Malformed UTF-8 in shortstr") as caught:
        text(b"\xff")
    assert (caught.value.code, caught.value.method) == (501, b"")
    payload = wire.method(1, commands.Queue.Delete, b"\0\0\1\xff\0")[7:-1]
    with pytest.raises(ProtocolError, match="Malformed UTF-8"):
        decode(payload)


def test_names_in_any_alphabet_are_read() -> None:
    payload = wire.method(1, commands.Queue.Delete, b"\0\0" + wire.short("очередь ✓".encode()) + b"\0")[7:-1]
    found = decode(payload)
    assert isinstance(found, commands.Queue.Delete)
    assert found.queue == "очередь ✓"


def test_flags_share_a_byte_and_those_behind_other_arguments_do_not() -> None:
    payload = struct.pack(">HHH", 50, 10, 0) + b"\1q" + b"\x15" + b"\0\0\0\0"
    found = decode(payload)
    assert isinstance(found, commands.Queue.Declare)
    assert (found.passive, found.durable, found.exclusive, found.auto_delete, found.nowait) == (
        True,
        False,
        True,
        False,
        True,
    )
    assert encode(1, commands.Queue.Declare, queue="q", passive=True, exclusive=True, nowait=True)[7:-1] == payload


def test_names_that_are_no_utf_8_are_written_as_they_came() -> None:
    name = b"\xff".decode(errors="surrogateescape")
    assert encode(1, commands.Basic.CancelOk, consumer_tag=name)[11:-1] == b"\1\xff"


def test_bytes_are_written_as_they_are() -> None:
    written = encode(0, commands.Connection.Secure, challenge=b"\0\xff")
    assert written[11:-1] == b"\0\0\0\2\0\xff"
