"""Every decoder that reads what a stranger sent, given bytes that are nearly right, or not at all.

Each property holds for all bytes: what comes out is a value, or the one error that the decoder's docstring names.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from hypothesis import strategies as st

import amqproxy
from amqproxy.addresses import WORKERS
from amqproxy.alive import decode_progress, heartbeat_of
from amqproxy.codecs import DecodingFailed, carries
from amqproxy.codecs.items import items_of
from amqproxy.codecs.registry import codecs
from amqproxy.contract import contract_of
from amqproxy.errors import RemoteError
from amqproxy.fields import Malformed, decode_table, decode_value
from amqproxy.frames import ContentReader, Splitter, close_reason
from amqproxy.properties import Properties, return_address, routing
from amqproxy.signing import Signing, sign, verify
from amqproxy.trace import carried
from amqproxy.url import BrokerURL
from amqproxy.wire import (
    calls_of,
    credit_of,
    decode_failure,
    decode_presence,
    is_special,
    part_of,
)
from tests.idl import kinds_pb2 as kinds
from tests.idl.kinds_thrift import ttypes as thrifty

LIMIT = 100_000
SIGNING = Signing(keys={"k": b"s" * 16}, key="k")


@amqproxy.message("fuzz.Order")
@dataclass
class Order:
    number: int
    lines: list[str] = field(default_factory=list)
    prices: dict[str, float] | None = None


class Library:
    async def order(self, order: Order) -> Order:
        raise NotImplementedError

    async def plain(self, x: int, y: str = "", z: bytes | None = None) -> dict[str, list[int]]:
        raise NotImplementedError

    async def paint(self, value: kinds.Kinds) -> kinds.Kinds:
        raise NotImplementedError

    async def put(self, value: thrifty.Tree) -> thrifty.Item:
        raise NotImplementedError


METHODS = contract_of(Library).methods
GOOD: dict[str, tuple[Any, Any]] = {
    "order": (Order(1, ["a"], {"b": 2.5}), Order(2)),
    "plain": (None, {"a": [1, 2]}),
    "paint": (kinds.Kinds(), kinds.Kinds()),
    "put": (thrifty.Tree(), thrifty.Item(1)),
}


def seeds_of_bodies() -> dict[tuple[str, str], list[bytes]]:
    """Good bodies of each method in each encoding that carries it."""
    found: dict[tuple[str, str], list[bytes]] = {}
    for name, method in METHODS.items():
        for codec in codecs(LIMIT).values():
            if not carries(codec, method):
                continue
            request = method.bind((1, "y", b"z"), {}) if name == "plain" else GOOD[name][0]
            try:
                found[name, codec.name] = [
                    codec.request(method).encode(request),
                    codec.result(method).encode(GOOD[name][1]),
                ]
            except amqproxy.CallError:
                found[name, codec.name] = [b""]
    return found


BODIES = seeds_of_bodies()
HEADERS = Properties(
    content_type=b"fuzz.plain",
    content_encoding=b"json",
    headers={
        **{"x-timeout-ms": 5, "x-heartbeat-ms": 50, "x-stream-credit": 3, "x-batch": 2, "x-seq": 0, "x-end": True},
        **{
            "traceparent": f"00-{'a' * 32}-{'b' * 16}-01",
            "tracestate": "a=b",
            "baggage": "k=v",
            "deep": {"a": [1, {}]},
        },
    },
    delivery_mode=1,
    correlation_id=b"c",
    reply_to=b"amq.gen-x",
    expiration=b"5",
    message_id=b"m",
).encode()
SIGNED = sign(SIGNING, HEADERS, b"[1]", "q", 1e9, bytes(16))
FAILURES = (
    b'{"message":"x","throwableAsString":"y: x","error":{"code":"unknown","type":"ValueError","retryable":true,'
    b'"details":{"a":[1]},"traceback":null,"executed":"no"}}',
    b'{"message":null}',
)
TALK = (b'{"done":1,"total":2.5,"note":"n"}', b'{"service":"s","running":1,"busy":true}', b"17")


@st.composite
def spoiled(draw: st.DrawFn, *seeds: bytes) -> bytes:
    """One of these with a few of its bytes changed, left out, doubled, moved or made up; or anything."""
    data = bytearray(draw(st.one_of(st.sampled_from(seeds), st.binary(max_size=60))))
    for _ in range(draw(st.integers(0, 4))):
        place, size = draw(st.integers(0, len(data))), draw(st.integers(1, 9))
        how = draw(st.sampled_from(("change", "leave out", "double", "make up", "cut", "length", "nest")))
        if how == "change" and place < len(data):
            data[place] = draw(st.integers(0, 255))
        elif how == "leave out":
            del data[place : place + size]
        elif how == "double":
            data[place:place] = data[place : place + size] * draw(st.sampled_from((1, 3, 500)))
        elif how == "make up":
            data[place:place] = draw(st.binary(min_size=1, max_size=size))
        elif how == "cut":
            del data[place:]
        elif how == "length":
            data[place : place + 4] = draw(st.sampled_from((b"\xff" * 4, b"\x7f\xff\xff\xff", bytes(4), b"\0\0\0\1")))
        elif how == "nest":
            data[place:place] = (
                draw(st.sampled_from((b"[", b'{"a":', b"\x01aF\0\0\0\x09", b"\x12", b"\x0c\0\1"))) * 2000
            )
    return bytes(data)


properties = spoiled(HEADERS, SIGNED)
values: st.SearchStrategy[Any] = st.one_of(
    st.integers(-(2**63), 2**63 - 1),
    st.text(max_size=9),
    st.binary(max_size=9),
    st.booleans(),
    st.none(),
    st.floats(),
    st.sampled_from(["1", "-1", "9" * 19, "9" * 30, "true", "\N{ARABIC-INDIC DIGIT ONE}", "1e3", " 1"]),
    st.lists(st.none(), max_size=2),
)
names = (
    *("x-timeout-ms", "x-heartbeat-ms", "x-stream-credit", "x-batch", "x-seq", "x-end", "x-feed", "x-worker"),
    *("traceparent", "tracestate", "baggage", "Traceparent", "x-signature"),
)
headers = st.dictionaries(st.one_of(st.sampled_from(names), st.text(max_size=5)), values, max_size=6)


def only(wanted: type[Exception] | tuple[type[Exception], ...], decode: Callable[[], Any]) -> Any:
    """What a decoder makes of something; None if it is refused as it should be."""
    try:
        return decode()
    except wanted as error:
        assert len(str(error)) < 2000, "an error quotes too much"
        return None


def reads_properties(data: bytes) -> None:
    """Properties, whole and by the short cuts, which agree with each other."""
    said = only(Malformed, lambda: Properties.decode(data))
    short = only(Malformed, lambda: routing(data))
    address = only(Malformed, lambda: return_address(data))
    is_special(data)
    only(Malformed, lambda: decode_table(data))
    only(Malformed, lambda: decode_value(data))
    only(ValueError, lambda: verify(SIGNING, data, b"[1]"))
    if said is not None:
        assert short == (said.content_type, said.content_encoding, said.correlation_id, said.reply_to)
        assert address is not None and address[0] == said.reply_to
        WORKERS.include(said.reply_to or b"")


def reads_headers(found: dict[str, Any]) -> None:
    """What the headers of requests, items and traces say."""
    only(ValueError, lambda: part_of(found))
    only(ValueError, lambda: calls_of(found))
    heartbeat_of(found)
    for text in carried(found, "b" * 16).values():
        assert (text.isascii() and text.isprintable()) or "\t" in text


def reads_talk(data: bytes) -> None:
    """What callers and workers say about calls."""
    error = only(ValueError, lambda: decode_failure(data))
    assert error is None or isinstance(error, RemoteError)
    if error is not None:
        str(error), repr(error)
        assert not isinstance(error, SystemExit | KeyboardInterrupt)
    decode_presence(data)
    only(ValueError, lambda: decode_progress(data))
    only(ValueError, lambda: credit_of(data))
    only(ValueError, lambda: BrokerURL.parse(data.decode(errors="replace")))
    close_reason(data)


def reads_bodies(name: str, encoding: str, data: bytes, count: int) -> None:
    """Requests, results and items in each encoding."""
    codec, method = codecs(LIMIT)[encoding], METHODS[name]
    for shape in (codec.request(method), codec.result(method)):
        only(DecodingFailed, lambda shape=shape: shape.decode(data))  # type: ignore[misc]  # a default is no parameter
        items = items_of(codec, shape, method.title)
        only(DecodingFailed, lambda items=items: items.unpack(data, count))  # type: ignore[misc]  # as above
        only(DecodingFailed, lambda items=items: items.unpack_all(data))  # type: ignore[misc]  # as above
        only(DecodingFailed, lambda items=items: items.unpack_each(data, count))  # type: ignore[misc]  # as above
    if encoding.endswith("json"):
        only(DecodingFailed, lambda: codec.anything().decode(data))


bodies = st.sampled_from(sorted(BODIES)).flatmap(
    lambda which: st.tuples(
        st.just(which[0]), st.just(which[1]), spoiled(*BODIES[which]), st.sampled_from((0, 1, 2, 1000, 2**31))
    )
)


class Sink:
    """Takes what a channel brings."""

    def delivered(self, tag: int, redelivered: bool, header: bytes, body: bytes) -> None:
        reads_properties(header)

    def returned(self, code: int, text: bytes, routing_key: bytes, header: bytes, body: bytes) -> None:
        reads_properties(header)

    def confirmed(self, tag: int, multiple: bool, accepted: bool) -> None: ...

    def too_large(self, tag: int, header: bytes, size: int) -> None: ...


def reads_frames(data: bytes) -> None:
    """What a broker sends to a channel of ours, cut anywhere."""
    splitter = Splitter(131072)
    splitter.readers[1] = ContentReader(Sink(), 1000)
    third = len(data) // 3
    for piece in (data[:third], data[third : 2 * third], data[2 * third :]):
        if only(Malformed, lambda piece=piece: splitter.feed(piece)) is None:  # type: ignore[misc]  # as above
            return
