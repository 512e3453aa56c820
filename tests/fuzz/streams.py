"""Streams that make sense, and what chance makes of them."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st
from pamqp import commands

from tests.fuzz.seeds import OPEN, SEEDS
from tests.unit.broker.wire import marshal, message, raw

Basic, Channel, Confirm = commands.Basic, commands.Channel, commands.Confirm
Exchange, Queue, Tx = commands.Exchange, commands.Queue, commands.Tx

queues = st.sampled_from(["q", "r", "z", "y", ""])
exchanges = st.sampled_from(["", "amq.direct", "amq.fanout", "amq.topic", "amq.headers", "e", "f"])
keys = st.sampled_from(["", "q", "r", "z", "k", "a.b", "a.#", "#", "*"])
tags = st.integers(0, 6)
booleans = st.booleans()
small = st.integers(0, 3)
arguments = st.fixed_dictionaries(
    {},
    optional={
        "x-max-length": small,
        "x-max-length-bytes": st.integers(0, 20),
        "x-message-ttl": st.sampled_from([0, 5, 5000]),
        "x-expires": st.sampled_from([1, 5000]),
        "x-overflow": st.sampled_from(["drop-head", "reject-publish", "reject-publish-dlx"]),
        "x-dead-letter-exchange": exchanges,
        "x-dead-letter-routing-key": keys,
        "x-max-priority": small,
        "x-single-active-consumer": booleans,
        "x-queue-type": st.sampled_from(["classic", "quorum"]),
        "x-delivery-limit": st.integers(-1, 2),
        "alternate-exchange": exchanges,
        "x-match": st.sampled_from(["all", "any", "none"]),
        "x-priority": st.integers(-2, 2),
    },
)
properties = st.fixed_dictionaries(
    {},
    optional={
        "headers": st.fixed_dictionaries(
            {}, optional={"CC": st.lists(keys, max_size=2), "BCC": st.lists(keys, max_size=2), "a": small}
        ),
        "expiration": st.sampled_from(["0", "5", "5000", "soon", "-1"]),
        "priority": st.integers(0, 255),
        "delivery_mode": st.sampled_from([1, 2]),
        "reply_to": st.sampled_from(["q", "amq.rabbitmq.reply-to"]),
        "user_id": st.sampled_from(["guest", "somebody"]),
        "correlation_id": st.text("ab", max_size=3),
    },
)


def methods(command: type[Any], **given: st.SearchStrategy[Any]) -> st.SearchStrategy[bytes]:
    """A method with these arguments, on one of three channels."""
    made = st.builds(command, **given)
    return st.builds(lambda number, one: marshal(number, one), st.sampled_from([1, 1, 1, 2, 3]), made)


def _publish(number: int, key: str, body: bytes, given: dict[str, Any], **options: Any) -> bytes:
    return marshal(number, *message(key, body, **options, **given))


steps: st.SearchStrategy[bytes] = st.one_of(
    st.builds(
        _publish,
        st.sampled_from([1, 1, 2]),
        keys,
        st.binary(max_size=20),
        properties,
        exchange=exchanges,
        mandatory=booleans,
        piece=st.sampled_from([3, 1000]),
    ),
    methods(
        Queue.Declare,
        queue=queues,
        passive=booleans,
        durable=booleans,
        exclusive=booleans,
        auto_delete=booleans,
        nowait=booleans,
        arguments=arguments,
    ),
    methods(Queue.Declare, queue=queues, arguments=arguments),
    methods(Queue.Bind, queue=queues, exchange=exchanges, routing_key=keys, arguments=arguments),
    methods(Queue.Unbind, queue=queues, exchange=exchanges, routing_key=keys, arguments=arguments),
    methods(Queue.Purge, queue=queues, nowait=booleans),
    methods(Queue.Delete, queue=queues, if_unused=booleans, if_empty=booleans),
    methods(
        Exchange.Declare,
        exchange=exchanges,
        exchange_type=st.sampled_from(["direct", "fanout", "topic", "headers", "stack"]),
        auto_delete=booleans,
        arguments=arguments,
    ),
    methods(Exchange.Bind, destination=exchanges, source=exchanges, routing_key=keys, arguments=arguments),
    methods(Exchange.Delete, exchange=exchanges),
    methods(
        Basic.Consume,
        queue=st.sampled_from(["q", "r", "z", "amq.rabbitmq.reply-to"]),
        consumer_tag=st.sampled_from(["", "a", "b", "c"]),
        no_ack=booleans,
        exclusive=st.sampled_from([False, False, True]),
        arguments=arguments,
    ),
    methods(Basic.Cancel, consumer_tag=st.sampled_from(["a", "b", "c"])),
    methods(Basic.Get, queue=queues, no_ack=booleans),
    methods(Basic.Ack, delivery_tag=tags, multiple=booleans),
    methods(Basic.Nack, delivery_tag=tags, multiple=booleans, requeue=booleans),
    methods(Basic.Reject, delivery_tag=tags, requeue=booleans),
    methods(Basic.Qos, prefetch_count=small, global_=booleans),
    methods(Basic.Recover, requeue=st.just(True)),
    methods(Confirm.Select),
    methods(Tx.Select),
    methods(Tx.Commit),
    methods(Tx.Rollback),
    methods(Channel.Open),
    methods(Channel.CloseOk),
    methods(Channel.Close, reply_code=st.just(200), reply_text=st.just(""), class_id=st.just(0), method_id=st.just(0)),
    st.just(raw(8, 0, b"")),
)
streams: st.SearchStrategy[bytes] = st.lists(steps, max_size=25).map(
    lambda found: OPEN + marshal(2, Channel.Open()) + b"".join(found)
)
"""An open connection, and methods that make sense each by itself."""


@st.composite
def mutated(draw: st.DrawFn, source: st.SearchStrategy[bytes] | None = None) -> bytes:
    """A stream, or one of the seeds, with some of its bytes changed, left out, doubled or made up."""
    found = draw(source or st.one_of(streams, st.sampled_from([seed for seed in SEEDS.values() if len(seed) < 5000])))
    data = bytearray(found)
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, len(data)))
        how = draw(st.sampled_from(["change", "leave out", "double", "make up", "cut", "size"]))
        size = draw(st.integers(1, 12))
        if how == "change" and place < len(data):
            data[place] = draw(st.integers(0, 255))
        elif how == "leave out":
            del data[place : place + size]
        elif how == "double":
            data[place:place] = data[place : place + size * 4]
        elif how == "make up":
            data[place:place] = draw(st.binary(min_size=1, max_size=size))
        elif how == "cut" and place > len(OPEN):
            del data[place:]
        elif how == "size" and place + 4 <= len(data):
            data[place : place + 4] = draw(
                st.sampled_from([b"\0\0\0\0", b"\xff\xff\xff\xff", b"\0\0\0\1", b"\0\1\0\0"])
            )
    return bytes(data)


places = st.lists(st.integers(0, 2**20), max_size=12)
"""Where to cut a stream."""
