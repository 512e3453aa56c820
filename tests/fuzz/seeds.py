"""What broke real clients and brokers, as bytes that a client may send: where fuzzing begins."""

from __future__ import annotations

import struct

from pamqp import commands, heartbeat

from tests.unit.broker.wire import (
    PROTOCOL_HEADER,
    content_header,
    field_of,
    handshake,
    marshal,
    message,
    method,
    nested,
    raw,
    short,
    start_ok,
    table,
)

Basic, Channel, Confirm, Connection = commands.Basic, commands.Channel, commands.Confirm, commands.Connection
Exchange, Queue, Tx = commands.Exchange, commands.Queue, commands.Tx

OPEN = handshake() + marshal(1, Channel.Open())
"""A connection with one channel, number 1."""
PUBLISH = method(1, Basic.Publish, b"\0\0" + short(b"") + short(b"q") + b"\0")
PUBLISH_R = method(1, Basic.Publish, b"\0\0" + short(b"") + short(b"r") + b"\0")
INFINITE = b"d\x7f\xf0\0\0\0\0\0\0"


def declare(queue: bytes, fields: bytes) -> bytes:
    """A queue.declare with any arguments."""
    return method(1, Queue.Declare, b"\0\0" + short(queue) + b"\0" + table(fields))


def started(properties: bytes, response: bytes = b"\0guest\0guest") -> bytes:
    """A connection.start-ok with any properties."""
    return PROTOCOL_HEADER + method(
        0, Connection.StartOk, table(properties) + short(b"PLAIN") + table(response) + short(b"en_US")
    )


_TUNED = marshal(0, Connection.TuneOk(2047, 131072, 0), Connection.Open("/")) + marshal(1, Channel.Open())
_GARBAGE = field_of(b"F", b"\5garb")
_DEEP = field_of(b"F", nested(700))

SEEDS: dict[str, bytes] = {
    # Sizes that are claimed.
    "a frame over the limit, only its header": OPEN + b"\x03\0\1" + struct.pack(">I", 131073),
    "a frame of four gigabytes": OPEN + b"\x01\0\1\xff\xff\xff\xff",
    "a frame over the limit, whole": OPEN + raw(3, 1, b"x" * 131073),
    "a frame over the limit that ends wrongly": OPEN + raw(3, 1, b"x" * 131073, b"\0"),
    "more than 8192 bytes before tuning": PROTOCOL_HEADER + raw(1, 0, b"x" * 8193),
    "no limit of frames": handshake(frame_max=0) + raw(1, 1, b"x" * 200_000),
    "a limit of frames below the least": handshake(frame_max=100),
    "no limit of channels": handshake(channel_max=0),
    "a body of many exabytes": OPEN + PUBLISH + content_header(1, 2**63) + raw(3, 1, b"x" * 1000),
    "a body just over the limit": OPEN + PUBLISH + content_header(1, 200_001) + raw(3, 1, b"x" * 1000),
    "a body larger than what remains": OPEN + PUBLISH + content_header(1, 5) + raw(3, 1, b"123456"),
    "bodies larger than what remains": OPEN + PUBLISH + content_header(1, 5) + raw(3, 1, b"1234") * 2,
    "bodies of nothing": OPEN + PUBLISH + content_header(1, 5) + raw(3, 1, b"") * 500 + raw(3, 1, b"12345"),
    "bodies of one byte": OPEN + PUBLISH_R + content_header(1, 400) + raw(3, 1, b"x") * 400,
    "a body without end on many channels": handshake()
    + b"".join(
        marshal(number, Channel.Open())
        + marshal(number, *message("q")[:1])
        + content_header(number, 190_000)
        + raw(3, number, b"x" * 20_000)
        for number in range(1, 30)
    ),
    "a table longer than its frame": OPEN + method(1, Queue.Declare, b"\0\0\1z\0\x7f\xff\xff\xff" + b"\1aV"),
    "a text longer than its table": OPEN + declare(b"z", b"\1aS\x7f\xff\xff\xffabc"),
    # Depth.
    "tables 700 deep in an argument": OPEN
    + declare(b"z", short(b"x-max-length") + _DEEP)
    + declare(b"y", short(b"a") + _DEEP),
    "tables 700 deep in an argument of a queue that is there": OPEN
    + declare(b"z", short(b"x-max-length") + b"b\1")
    + declare(b"z", short(b"x-max-length") + _DEEP),
    "tables 700 deep in a header": OPEN
    + PUBLISH_R
    + content_header(1, 0, 0x2000, table(short(b"a") + _DEEP))
    + PUBLISH
    + content_header(1, 0, 0x2000, table(nested(7000))),
    "tables 700 deep in x-match": OPEN
    + method(
        1,
        Queue.Bind,
        b"\0\0" + short(b"q") + short(b"amq.headers") + short(b"") + b"\0" + table(short(b"x-match") + _DEEP),
    ),
    "tables 700 deep in capabilities": started(short(b"capabilities") + _DEEP) + _TUNED,
    "garbage in capabilities": started(short(b"capabilities") + _GARBAGE) + _TUNED,
    # Bytes that are no text.
    "properties that are no UTF-8": OPEN
    + PUBLISH_R
    + content_header(1, 0, 0x8400, short(b"\xff\xfe") + short(b"\xc3\x28")),
    "header names that are no UTF-8": OPEN
    + PUBLISH_R
    + content_header(1, 0, 0x2000, table(short(b"\xff") + field_of(b"S", b"\xfe"))),
    "a routing key that is no UTF-8": OPEN
    + method(1, Basic.Publish, b"\0\0" + short(b"amq.fanout") + short(b"\xff\xfe") + b"\0")
    + content_header(1, 0),
    "a queue name that is no UTF-8": OPEN + declare(b"\xff", b""),
    "a user name that is no UTF-8": started(b"", b"\0\xff\0\xfe") + _TUNED,
    "a password without end": started(b"", b"\0guest\0" + b"x" * 7000) + _TUNED,
    # What is cut.
    "a publish without arguments": OPEN + method(1, Basic.Publish, b"") + content_header(1, 0),
    "a publish whose key runs over its end": OPEN
    + method(1, Basic.Publish, b"\0\0" + b"\0" + b"\xffr" + b"\0")
    + content_header(1, 0),
    "a publish with more behind it": OPEN + method(1, Basic.Publish, b"\0\0\0\1r\0more") + content_header(1, 0),
    "a content header without flags": OPEN + PUBLISH + raw(2, 1, struct.pack(">HHQ", 60, 0, 0)),
    "a content header with half its flags": OPEN + PUBLISH + raw(2, 1, struct.pack(">HHQ", 60, 0, 0) + b"\0"),
    "a content header with more flags than there are": OPEN + PUBLISH_R + content_header(1, 0, 0xFFFF, b"\0" * 60),
    "a content header that is cut": OPEN + PUBLISH_R + content_header(1, 0, 0x2000, b"\0\0\1\0abc"),
    "garbage nested in a header": OPEN + PUBLISH_R + content_header(1, 0, 0x2000, table(short(b"a") + _GARBAGE)),
    "garbage in CC": OPEN + PUBLISH_R + content_header(1, 0, 0x2000, table(short(b"CC") + field_of(b"A", b"Sgarb"))),
    "garbage in x-death": OPEN
    + declare(b"z", short(b"x-dead-letter-exchange") + field_of(b"S", b"amq.fanout") + short(b"x-max-length") + b"b\0")
    + method(1, Basic.Publish, b"\0\0" + short(b"") + short(b"z") + b"\0")
    + content_header(
        1,
        0,
        0x2000,
        table(
            short(b"x-death")
            + field_of(
                b"A",
                field_of(
                    b"F",
                    short(b"count")
                    + b"l\x7f\xff\xff\xff\xff\xff\xff\xff"
                    + short(b"queue")
                    + field_of(b"S", b"z")
                    + short(b"reason")
                    + field_of(b"S", b"maxlen"),
                ),
            )
        ),
    ),
    "a key for dead letters that is too long": OPEN
    + declare(
        b"z",
        short(b"x-dead-letter-exchange")
        + field_of(b"S", b"")
        + short(b"x-dead-letter-routing-key")
        + field_of(b"S", b"k" * 300)
        + short(b"x-max-length")
        + b"b\0",
    )
    + method(1, Basic.Publish, b"\0\0" + short(b"") + short(b"z") + b"\0")
    + content_header(1, 0),
    "a time that no calendar has": OPEN
    + declare(b"z", short(b"x-expires") + b"b\1")
    + declare(b"z", short(b"x-expires") + b"T" + b"\xff" * 8),
    "numbers that are none": OPEN + PUBLISH_R + content_header(1, 0, 0x2000, table(short(b"a") + INFINITE)),
    # What comes instead of something else.
    "interleaved content": OPEN + PUBLISH + content_header(1, 5) + PUBLISH,
    "interleaved channels": handshake()
    + marshal(1, Channel.Open())
    + marshal(2, Channel.Open())
    + b"".join(
        marshal(1, left) + marshal(2, right)
        for left, right in zip(message("q", b"abc", piece=1), message("r", b"xyz", piece=1), strict=True)
    ),
    "a heartbeat in the middle of a message": OPEN
    + PUBLISH
    + marshal(0, heartbeat.Heartbeat())
    + content_header(1, 1)
    + marshal(0, heartbeat.Heartbeat())
    + raw(3, 1, b"x"),
    "a heartbeat on a channel": OPEN + raw(8, 1, b""),
    "a close in the middle of a message": OPEN + PUBLISH + marshal(1, Channel.Close(200, "", 0, 0)),
    "a body for nothing": OPEN + raw(3, 1, b"x"),
    "content for another class": OPEN + PUBLISH + content_header(1, 0, class_id=50),
    "content on channel 0": OPEN + content_header(0, 0) + raw(3, 0, b"x"),
    "the protocol header again": OPEN + PROTOCOL_HEADER,
    "HTTP": b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"x" * 50,
    "AMQP 1.0": b"AMQP\x00\x01\x00\x00",
    "half a protocol header": PROTOCOL_HEADER[:5],
    # Much of something.
    "a client that gets the same large message again and again": OPEN
    + marshal(1, *message("q", b"x" * 100_000))
    + b"".join(marshal(1, Basic.Get(queue="q"), Basic.Nack(delivery_tag=tag)) for tag in range(1, 60)),
    "more messages than memory": OPEN + marshal(1, *message("q", b"x" * 50_000)) * 30,
    "more messages than memory in a transaction": OPEN
    + marshal(1, Tx.Select())
    + marshal(1, *message("q", b"x" * 50_000)) * 30,
    "a pattern of nothing but hashes": OPEN
    + marshal(1, Queue.Bind(queue="q", exchange="amq.topic", routing_key=".".join("#" * 60)))
    + marshal(1, *message(".".join("a" * 60), exchange="amq.topic")) * 3,
    "all there is about channels": OPEN
    + marshal(2, Channel.Open())
    + marshal(2, Basic.Ack(5))
    + marshal(2, Channel.Open())
    + marshal(2, Channel.CloseOk())
    + marshal(2, Channel.Open())
    + marshal(1, Channel.Close(200, "", 0, 0)),
    "an ordinary day": OPEN
    + marshal(1, Confirm.Select(), Queue.Declare(queue="z", auto_delete=True), Basic.Qos(prefetch_count=2))
    + marshal(1, Basic.Consume(queue="z", consumer_tag="c"))
    + marshal(1, *message("z", b"abc", expiration="60000", headers={"CC": ["r"], "n": 1}, delivery_mode=2)) * 3
    + marshal(1, Basic.Ack(1), Basic.Nack(2, requeue=False), Basic.Cancel("c"), Queue.Purge(queue="q"))
    + marshal(1, *message("nowhere", b"back", mandatory=True))
    + marshal(1, Channel.Close(200, "", 0, 0))
    + marshal(0, Connection.Close(200, "", 0, 0)),
    "an end with much behind it": OPEN
    + marshal(0, start_ok())
    + marshal(1, *message("q", b"x" * 100)) * 3
    + marshal(0, Connection.CloseOk())
    + b"more",
}
