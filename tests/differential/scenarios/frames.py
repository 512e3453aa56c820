"""Frames that no client should send, and what the broker says to them."""

from __future__ import annotations

import struct

from tests.differential.fields import Typed, encode_table
from tests.differential.language import (
    A0,
    A1,
    A2,
    B1,
    Arguments,
    At,
    DeclareExchange,
    DeclareQueue,
    OpenConnection,
    Publish,
    SendBytes,
    SendFrame,
    SendMethod,
    Together,
)
from tests.differential.scenarios.scenario import beside, scenario
from tests.differential.wire import BODY, HEADER, METHOD, Frame, Method, encode_frame, encode_header, encode_method

FRAMES = "frames"
CONTENT = "frames of content"
METHODS = "methods out of place"
TABLES = "malformed arguments"
LEVELS = "soft and hard errors"

PUBLISH = encode_method(
    Method("basic.publish", {"ticket": 0, "exchange": "", "routing_key": "q", "mandatory": False, "immediate": False})
)
DECLARE = struct.pack(">HHH", 50, 10, 0)
EMPTY_TABLE = encode_table({})
FROM_SERVERS: dict[str, Arguments] = {
    "queue.declare-ok": {"queue": "q", "message_count": 0, "consumer_count": 0},
    "basic.get-empty": {"cluster_id": ""},
    "confirm.select-ok": {},
    "tx.commit-ok": {},
    "channel.open-ok": {"channel_id": ""},
}


def method_frame(class_id: int, method_id: int, arguments: bytes = b"", **options: object) -> SendFrame:
    return SendFrame(METHOD, struct.pack(">HH", class_id, method_id) + arguments, **options)  # type: ignore[arg-type]


def header_frame(size: int, class_id: int = 60) -> SendFrame:
    return SendFrame(HEADER, encode_header({}, size, class_id), answered=False)


PUBLISHED = SendFrame(METHOD, PUBLISH, answered=False)


def body_frame(body: bytes, answered: bool = False) -> SendFrame:
    return SendFrame(BODY, body, answered=answered)


def answered(frame: SendFrame) -> SendFrame:
    return SendFrame(frame.kind, frame.payload, frame.end, frame.opens, True, at=frame.at)


def nested(depth: int) -> bytes:
    """Return a table within tables, as a field table of a method."""
    table = EMPTY_TABLE
    for _ in range(depth):
        inner = b"\x01nF" + table
        table = struct.pack(">I", len(inner)) + inner
    return table


SCENARIOS = (
    scenario(FRAMES, "bad frame end", SendFrame(METHOD, PUBLISH, end=0xCD)),
    scenario(FRAMES, "bad frame end on channel 0", SendFrame(METHOD, b"abc", end=0, at=A0)),
    scenario(FRAMES, "unknown frame type", SendFrame(5, b"abc")),
    scenario(FRAMES, "unknown frame type on channel 0", SendFrame(5, b"abc", at=A0)),
    scenario(FRAMES, "frame type 4 of trace", SendFrame(4, b"abc")),
    scenario(FRAMES, "frame above frame_max", SendFrame(METHOD, b"x" * 131073)),
    scenario(FRAMES, "frame as large as frame_max", SendFrame(BODY, b"x" * 131064)),
    scenario(FRAMES, "frame header above frame_max", SendBytes(b"\x01\x00\x01\xff\xff\xff\xff")),
    scenario(
        FRAMES,
        "frame above a smaller frame_max",
        OpenConnection(frame_max=4096),
        DeclareQueue("q"),
        Together(
            (
                PUBLISHED,
                header_frame(5000),
                body_frame(b"x" * 5000, answered=True),
            )
        ),
    ),
    scenario(FRAMES, "garbage after the handshake", SendBytes(b"this is no frame at all")),
    scenario(FRAMES, "protocol header after the handshake", SendBytes(b"AMQP\0\0\x09\x01")),
    *beside(
        scenario(
            FRAMES,
            "large frame before tuning",
            SendBytes(b"AMQP\0\0\x09\x01", greeted=False),
            SendBytes(encode_frame(Frame(METHOD, 0, b"\0\x0a\0\x0b" + b"x" * 9000)), greeted=False),
        )
    ),
    *beside(
        scenario(
            FRAMES,
            "method of another kind before tuning",
            SendBytes(b"AMQP\0\0\x09\x01", greeted=False),
            SendBytes(encode_frame(Frame(METHOD, 0, encode_method(Method("connection.close-ok", {})))), greeted=False),
        )
    ),
    *beside(
        scenario(
            FRAMES,
            "channel is opened before the connection",
            SendBytes(b"AMQP\0\0\x09\x01", greeted=False),
            SendBytes(
                encode_frame(Frame(METHOD, 1, encode_method(Method("channel.open", {"out_of_band": ""})))),
                greeted=False,
            ),
        )
    ),
    scenario(FRAMES, "empty method frame", SendFrame(METHOD, b"")),
    scenario(FRAMES, "short method frame", SendFrame(METHOD, b"\0\x32")),
    scenario(FRAMES, "short method frame on channel 0", SendFrame(METHOD, b"\0\x32", at=A0)),
    scenario(CONTENT, "body without a method", body_frame(b"abc", answered=True)),
    scenario(CONTENT, "header without a method", answered(header_frame(3))),
    scenario(CONTENT, "method instead of a header", Together((PUBLISHED, answered(PUBLISHED)))),
    scenario(CONTENT, "body instead of a header", Together((PUBLISHED, body_frame(b"abc", answered=True)))),
    scenario(CONTENT, "method instead of a body", Together((PUBLISHED, header_frame(3), answered(PUBLISHED)))),
    scenario(CONTENT, "header instead of a body", Together((PUBLISHED, header_frame(3), answered(header_frame(3))))),
    scenario(CONTENT, "header of another class", Together((PUBLISHED, answered(header_frame(3, 50))))),
    scenario(CONTENT, "header of an unknown class", Together((PUBLISHED, answered(header_frame(3, 999))))),
    scenario(
        CONTENT,
        "body larger than its header says",
        DeclareQueue("q"),
        Together((PUBLISHED, header_frame(3), body_frame(b"abcdef"))),
    ),
    scenario(
        CONTENT,
        "body in many frames, and empty ones among them",
        DeclareQueue("q"),
        Together(
            (PUBLISHED, header_frame(4), *(body_frame(piece) for piece in (b"a", b"", b"b", b"cd"))),
        ),
        DeclareQueue("q", passive=True),
    ),
    scenario(
        CONTENT,
        "empty body frame after an empty body",
        DeclareQueue("q"),
        Together((PUBLISHED, header_frame(0), body_frame(b"", answered=True))),
    ),
    scenario(
        CONTENT,
        "content of two channels is interleaved",
        DeclareQueue("q"),
        Together(
            (
                PUBLISHED,
                SendFrame(METHOD, PUBLISH, answered=False, at=A2),
                header_frame(1),
                SendFrame(HEADER, encode_header({}, 1), answered=False, at=A2),
                SendFrame(BODY, b"2", answered=False, at=A2),
                body_frame(b"1"),
            )
        ),
        DeclareQueue("q", passive=True),
    ),
    scenario(
        CONTENT,
        "body announced beyond the largest message",
        Together((PUBLISHED, header_frame(2**40))),
    ),
    scenario(
        CONTENT,
        "body announced just beyond the largest message",
        Together((PUBLISHED, header_frame(134217729))),
    ),
    scenario(CONTENT, "content on channel 0", SendFrame(BODY, b"abc", at=A0)),
    scenario(CONTENT, "content header on channel 0", SendFrame(HEADER, encode_header({}, 3), at=A0)),
    scenario(
        CONTENT,
        "header with properties cut off",
        Together((PUBLISHED, SendFrame(HEADER, struct.pack(">HHQH", 60, 0, 0, 0x8000)))),
    ),
    scenario(
        CONTENT,
        "header cut off",
        Together((PUBLISHED, SendFrame(HEADER, struct.pack(">HH", 60, 0)))),
    ),
    scenario(
        CONTENT,
        "header with bad headers of a message",
        Together((PUBLISHED, SendFrame(HEADER, struct.pack(">HHQH", 60, 0, 0, 0x2000) + b"\0\0\0\x03abc"))),
    ),
    scenario(METHODS, "unknown class", method_frame(999, 10)),
    scenario(METHODS, "unknown class on channel 0", method_frame(999, 10, at=A0)),
    scenario(METHODS, "unknown method of a known class", method_frame(50, 999)),
    scenario(METHODS, "access.request of AMQP 0-8", method_frame(30, 10, b"\x05/data\x1f")),
    scenario(METHODS, "queue method on channel 0", method_frame(50, 10, b"\0\0\x01q\0" + EMPTY_TABLE, at=A0)),
    scenario(METHODS, "channel.open on channel 0", SendMethod("channel.open", {"out_of_band": ""}, at=A0)),
    scenario(
        METHODS,
        "queue method on a channel never opened",
        method_frame(50, 10, b"\0\0\x01q\0" + EMPTY_TABLE, opens=False),
    ),
    scenario(
        METHODS,
        "connection method on a channel",
        SendMethod("connection.open", {"virtual_host": "/", "capabilities": "", "insist": False}),
    ),
    scenario(
        METHODS,
        "connection.open a second time",
        SendMethod("connection.open", {"virtual_host": "/", "capabilities": "", "insist": False}, at=A0),
    ),
    scenario(
        METHODS,
        "connection.tune-ok a second time",
        SendMethod("connection.tune-ok", {"channel_max": 0, "frame_max": 0, "heartbeat": 0}, at=A0),
    ),
    *(
        scenario(METHODS, f"{name} from a client", SendMethod(name, arguments))
        for name, arguments in FROM_SERVERS.items()
    ),
    scenario(METHODS, "channel.flow-ok from a client", SendFrame(METHOD, b"\0\x14\0\x15\x01", answered=False)),
    scenario(METHODS, "basic.cancel-ok from a client", SendFrame(METHOD, b"\0\x3c\0\x1f\x01t", answered=False)),
    scenario(
        METHODS,
        "basic.deliver from a client",
        SendFrame(METHOD, b"\0\x3c\0\x3c\x01t\0\0\0\0\0\0\0\x01\0\0\x01q", answered=False),
    ),
    scenario(METHODS, "channel.close-ok without a close", SendMethod("channel.close-ok", {})),
    scenario(METHODS, "connection.close-ok without a close", SendMethod("connection.close-ok", {}, at=A0)),
    scenario(METHODS, "connection.close on a channel", method_frame(10, 50, struct.pack(">HBHH", 200, 0, 0, 0))),
    scenario(METHODS, "connection.blocked from a client", SendMethod("connection.blocked", {"reason": "no"}, at=A0)),
    scenario(TABLES, "arguments cut off", method_frame(50, 10, b"\0\0\x05q")),
    scenario(TABLES, "arguments with bytes to spare", method_frame(50, 10, b"\0\0\x01q\0" + EMPTY_TABLE + b"more")),
    scenario(TABLES, "table cut off", method_frame(50, 10, b"\0\0\x01q\0\0\0\0\x10\x01a")),
    scenario(TABLES, "table with an unknown type", method_frame(50, 10, b"\0\0\x01q\0\0\0\0\x04\x01az\0")),
    scenario(TABLES, "table longer than the frame", method_frame(50, 10, b"\0\0\x01q\0\xff\xff\xff\xff")),
    scenario(
        TABLES,
        "table with a key twice",
        method_frame(50, 10, b"\0\0\x01q\0\0\0\0\x10\x05x-expt\x01\x05x-expt\x01", answered=False),
    ),
    scenario(
        TABLES,
        "table nested deeply",
        *(method_frame(50, 10, b"\0\0\x01q\0" + nested(depth), answered=True) for depth in (10, 700)),
    ),
    scenario(
        TABLES,
        "names that are no UTF-8",
        DeclareQueue("\udcff\udcfe"),
        DeclareExchange("\udcff\udcfe"),
        Publish("", "\udcff", "b", mandatory=True),
        Publish("\udcff", "k", "b"),
    ),
    scenario(
        TABLES,
        "arguments with text that is no UTF-8",
        DeclareQueue("q", arguments={"x-note": b"\xff", "x-other": Typed("S", b"\xff\xfe")}),
        DeclareExchange("x", arguments={"alternate-exchange": Typed("S", b"\xff")}),
    ),
    scenario(
        LEVELS,
        "what follows an error on a channel is ignored until close-ok",
        Together(
            (
                DeclareQueue("nothing", passive=True),
                DeclareQueue("q", at=A1),
                Publish("", "q", "ignored", at=A1),
            )
        ),
        DeclareQueue("q", passive=True, at=B1),
    ),
    scenario(
        LEVELS,
        "error on a connection leaves other connections alone",
        DeclareQueue("q", at=B1),
        SendMethod("channel.open", {"out_of_band": ""}, at=At(1, 1)),
        DeclareQueue("q", passive=True, at=B1),
    ),
)
