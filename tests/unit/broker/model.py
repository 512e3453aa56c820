"""A broker driven at random through its sessions, against the plainest model of what queues and consumers do.

What is seen from outside is held against the model after each step: no message is lost or comes twice, order holds,
prefetch holds, nobody waits for a message that could be had, and memory is counted to the byte.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from pamqp import commands

from amqproxy.broker import Broker
from amqproxy.broker.message import OVERHEAD
from tests.unit.broker.wire import Client, Content, Frame, broker, message

Basic, Channel, Confirm, Queue = commands.Basic, commands.Channel, commands.Confirm, commands.Queue

KINDS: dict[str, tuple[dict[str, Any], dict[str, bool]]] = {
    "plain": ({}, {}),
    "single": ({"x-single-active-consumer": True}, {}),
    "quorum": ({"x-queue-type": "quorum", "x-delivery-limit": -1}, {"durable": True}),
}
BODY = 8
"""Bytes of each body, so that each message costs the same."""
COST = 14 + BODY + OVERHEAD


@dataclass(eq=False, repr=False)
class ModelConsumer:
    tag: str
    queue: ModelQueue
    channel: ModelChannel
    no_ack: bool
    priority: int

    def __repr__(self) -> str:
        return f"{self.channel}: {self.tag}"

    @property
    def eligible(self) -> bool:
        """Whether it could be given a message."""
        channel = self.channel
        if channel.peer.paused or (self.queue.single and self.queue.active is not self):
            return False
        held = [consumer for _, _, consumer in channel.out.values() if consumer is not None]
        if channel.shared and len(held) >= channel.shared:
            return False  # as in RabbitMQ, even if it does not acknowledge
        return self.no_ack or not channel.prefetch or held.count(self) < channel.prefetch


@dataclass(eq=False, repr=False)
class ModelQueue:
    name: str
    single: bool
    waiting: set[int] = field(default_factory=set)
    seen: set[int] = field(default_factory=set)
    """Messages that were given to somebody before."""
    consumers: list[ModelConsumer] = field(default_factory=list)
    active: ModelConsumer | None = None
    deleted: bool = False

    def __repr__(self) -> str:
        return self.name

    def add(self, consumer: ModelConsumer) -> None:
        self.consumers.append(consumer)
        self.active = self.active or consumer

    def remove(self, consumer: ModelConsumer) -> None:
        self.consumers.remove(consumer)
        if self.active is consumer:
            self.active = max(self.consumers, key=lambda one: one.priority, default=None)


Held = tuple[int, ModelQueue, ModelConsumer | None]


@dataclass(eq=False, repr=False)
class ModelChannel:
    peer: Peer
    number: int
    prefetch: int
    shared: int
    confirming: bool
    published: int = 0
    consumers: dict[str, ModelConsumer] = field(default_factory=dict)
    out: dict[int, Held] = field(default_factory=dict)
    """Unacknowledged messages by their tags."""
    tag: int = 0

    def __repr__(self) -> str:
        return f"{self.peer}, channel {self.number}"

    def send(self, *frames: Frame) -> None:
        self.peer.client.send(self.number, *frames)


@dataclass(eq=False, repr=False)
class Peer:
    client: Client
    name: str
    channels: dict[int, ModelChannel] = field(default_factory=dict)
    paused: bool = False

    def __repr__(self) -> str:
        return self.name


class BrokerMachine(RuleBasedStateMachine):
    """Clients that open and close, publish and consume, settle and disappear."""

    def __init__(self) -> None:
        super().__init__()
        self.broker: Broker = broker()
        self.peers: list[Peer] = []
        self.queues: dict[str, ModelQueue] = {}
        self.count = 0
        self.tags = self.clients = 0
        self.admin = Client(self.broker).channel()
        for name in KINDS:
            self.declare(name)

    def declare(self, name: str) -> None:
        arguments, flags = KINDS[name]
        self.admin.declare(name, arguments, **flags)
        self.queues[name] = ModelQueue(name, name == "single")

    # Who there is.

    @property
    def channels(self) -> list[ModelChannel]:
        """Channels that can be talked on."""
        return [channel for peer in self.peers if not peer.paused for channel in peer.channels.values()]

    def a_channel(self, data: st.DataObject) -> ModelChannel:
        return data.draw(st.sampled_from(self.channels))

    @precondition(lambda self: len(self.peers) < 3)
    @rule()
    def connect(self) -> None:
        self.clients += 1
        self.peers.append(Peer(Client(self.broker), f"client {self.clients}"))

    @precondition(lambda self: any(len(peer.channels) < 2 and not peer.paused for peer in self.peers))
    @rule(data=st.data(), prefetch=st.integers(0, 3), shared=st.sampled_from([0, 0, 1, 3]), confirming=st.booleans())
    def open_channel(self, data: st.DataObject, prefetch: int, shared: int, confirming: bool) -> None:
        able = [peer for peer in self.peers if len(peer.channels) < 2 and not peer.paused]
        peer = data.draw(st.sampled_from(able))
        number = next(number for number in (1, 2) if number not in peer.channels)
        channel = peer.channels[number] = ModelChannel(peer, number, prefetch, shared, confirming)
        each, together = Basic.Qos(prefetch_count=prefetch), Basic.Qos(prefetch_count=shared, global_=True)
        channel.send(Channel.Open(), each, together)  # in this order: the first kind ends the second, in RabbitMQ
        expected: list[type[Any]] = [Channel.OpenOk, Basic.QosOk, Basic.QosOk]
        if confirming:
            channel.send(Confirm.Select())
            expected.append(Confirm.SelectOk)
        assert [type(one) for one in self.after(channel)] == expected

    @precondition(lambda self: self.channels)
    @rule(data=st.data(), how=st.sampled_from(["close", "error"]))
    def close_channel(self, data: st.DataObject, how: str) -> None:
        channel = self.a_channel(data)
        self.forget(channel)
        if how == "close":
            channel.send(Channel.Close(200, "", 0, 0))
            (answer,) = self.after(channel)
            assert isinstance(answer, Channel.CloseOk)
        else:
            channel.send(Basic.Ack(delivery_tag=10**9))
            (answer,) = self.after(channel)
            assert isinstance(answer, Channel.Close)
            assert answer.reply_code == 406
            channel.send(Channel.CloseOk())

    @precondition(lambda self: self.peers)
    @rule(data=st.data(), how=st.sampled_from(["close", "hang up", "error"]))
    def disconnect(self, data: st.DataObject, how: str) -> None:
        peer = data.draw(st.sampled_from(self.peers))
        for channel in list(peer.channels.values()):
            self.forget(channel)
        self.peers.remove(peer)
        if peer.paused or how == "hang up":
            peer.client.hang_up()
        elif how == "close":
            peer.client.close()
        else:
            peer.client.send(0, Channel.Open())
            close = peer.client.take()[-1][1]
            assert isinstance(close, commands.Connection.Close)
            peer.client.send(0, commands.Connection.CloseOk())
            assert peer.client.wire.closed
        self.after()

    def forget(self, channel: ModelChannel) -> None:
        """What a channel had goes back to its queues."""
        del channel.peer.channels[channel.number]
        for consumer in channel.consumers.values():
            consumer.queue.remove(consumer)
        self.put_back(channel.out.values())
        channel.out = {}

    def put_back(self, held: Iterable[Held]) -> None:
        for one, queue, _ in held:
            if not queue.deleted:
                queue.waiting.add(one)

    @precondition(lambda self: self.peers)
    @rule(data=st.data())
    def fill_or_empty_socket(self, data: st.DataObject) -> None:
        peer = data.draw(st.sampled_from(self.peers))
        peer.paused = not peer.paused
        if peer.paused:
            peer.client.session.pause()
        else:
            peer.client.session.resume()
        self.after()

    # What they do.

    @precondition(lambda self: self.channels)
    @rule(data=st.data(), name=st.sampled_from(sorted(KINDS)), count=st.integers(1, 4))
    def publish(self, data: st.DataObject, name: str, count: int) -> None:
        channel = self.a_channel(data)
        frames: list[Frame] = []
        for _ in range(count):
            self.count += 1
            self.queues[name].waiting.add(self.count)
            frames += message(name, self.count.to_bytes(BODY, "big"))
        channel.send(*frames)
        confirms = self.after(channel)
        channel.published += count
        if channel.confirming:
            (ack,) = confirms
            assert isinstance(ack, Basic.Ack)
            assert (ack.delivery_tag, ack.multiple) == (channel.published, count > 1)
        else:
            assert not confirms

    @precondition(lambda self: self.channels)
    @rule(
        data=st.data(),
        name=st.sampled_from(sorted(KINDS)),
        no_ack=st.sampled_from([False, False, True]),
        priority=st.sampled_from([0, 0, 5]),
    )
    def consume(self, data: st.DataObject, name: str, no_ack: bool, priority: int) -> None:
        channel = self.a_channel(data)
        if name == "quorum" and channel.shared:
            name = "plain"
        self.tags += 1
        tag, queue = str(self.tags), self.queues[name]
        consumer = ModelConsumer(tag, queue, channel, no_ack, priority)
        queue.add(consumer)
        channel.consumers[tag] = consumer
        channel.send(Basic.Consume(queue=name, consumer_tag=tag, no_ack=no_ack, arguments={"x-priority": priority}))
        assert [type(one) for one in self.after(channel)] == [Basic.ConsumeOk]

    @precondition(lambda self: any(channel.consumers for channel in self.channels))
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        channel = data.draw(st.sampled_from([channel for channel in self.channels if channel.consumers]))
        consumer = channel.consumers.pop(data.draw(st.sampled_from(sorted(channel.consumers))))
        consumer.queue.remove(consumer)
        channel.send(Basic.Cancel(consumer_tag=consumer.tag))
        (answer,) = self.after(channel)
        assert isinstance(answer, Basic.CancelOk)

    @precondition(lambda self: self.channels)
    @rule(data=st.data(), name=st.sampled_from(sorted(KINDS)), no_ack=st.booleans())
    def get(self, data: st.DataObject, name: str, no_ack: bool) -> None:
        channel, queue = self.a_channel(data), self.queues[name]
        channel.send(Basic.Get(queue=name, no_ack=no_ack))
        (answer,) = self.after(channel)
        if not queue.waiting:
            assert isinstance(answer, Basic.GetEmpty)
            return
        assert isinstance(answer, Content)
        assert isinstance(answer.method, Basic.GetOk)
        one = int.from_bytes(answer.body, "big")
        assert one == min(queue.waiting)
        assert answer.method.message_count == len(queue.waiting) - 1
        self.given(channel, answer, None, queue, no_ack=no_ack)

    @precondition(lambda self: any(channel.out for channel in self.channels))
    @rule(
        data=st.data(),
        how=st.sampled_from(["ack", "ack", "requeue", "drop", "reject"]),
        multiple=st.booleans(),
        whole=st.booleans(),
    )
    def settle(self, data: st.DataObject, how: str, multiple: bool, whole: bool) -> None:
        channel = data.draw(st.sampled_from([channel for channel in self.channels if channel.out]))
        tag = data.draw(st.sampled_from(sorted(channel.out)))
        tags = [one for one in sorted(channel.out) if one <= tag or whole] if multiple and how != "reject" else [tag]
        settled = [channel.out.pop(one) for one in tags]
        if multiple and whole and how != "reject":
            tag = 0
        if how == "ack":
            channel.send(Basic.Ack(tag, multiple))
        elif how == "reject":
            channel.send(Basic.Reject(tag, requeue=False))
        else:
            channel.send(Basic.Nack(tag, multiple, how == "requeue"))
        if how == "requeue":
            self.put_back(settled)
        groups = {(queue.name, consumer) for _, queue, consumer in settled}
        assert not self.after(channel, in_order=how != "requeue" or len(groups) == 1)

    @precondition(lambda self: any(channel.out for channel in self.channels))
    @rule(data=st.data())
    def recover(self, data: st.DataObject) -> None:
        channel = data.draw(st.sampled_from([channel for channel in self.channels if channel.out]))
        groups = {(queue.name, consumer) for _, queue, consumer in channel.out.values()}
        self.put_back(channel.out.values())
        channel.out = {}
        channel.send(Basic.Recover(requeue=True))
        (answer,) = self.after(channel, in_order=len(groups) == 1)
        assert isinstance(answer, Basic.RecoverOk)

    # What happens to queues.

    @rule(name=st.sampled_from(sorted(KINDS)))
    def purge(self, name: str) -> None:
        queue = self.queues[name]
        assert self.admin.ask(Queue.Purge(queue=name), Queue.PurgeOk).message_count == len(queue.waiting)
        queue.waiting.clear()
        self.after()

    @rule(name=st.sampled_from(sorted(KINDS)))
    def delete(self, name: str) -> None:
        queue = self.queues[name]
        deleted = self.admin.ask(Queue.Delete(queue=name), Queue.DeleteOk)
        assert deleted.message_count == len(queue.waiting)
        queue.deleted = True
        queue.waiting.clear()
        cancelled = {consumer.tag for consumer in queue.consumers if not consumer.channel.peer.paused}
        told = {str(one.consumer_tag) for one in self.after() if isinstance(one, Basic.Cancel)}
        assert told == cancelled
        for consumer in queue.consumers:
            del consumer.channel.consumers[consumer.tag]
        self.declare(name)

    # What comes of it.

    def after(self, of: ModelChannel | None = None, *, in_order: bool = True) -> list[Frame | Content]:
        """Hold what everybody got against the model; what else came to a channel, or to all."""
        others: list[Frame | Content] = []
        delivered: dict[ModelQueue, list[int]] = {}
        for peer in self.peers:
            if peer.paused:
                continue
            for number, one in peer.client.take():
                channel = peer.channels.get(number)
                if isinstance(one, Content) and isinstance(one.method, Basic.Deliver):
                    assert channel is not None, "a message came to a channel that is closed"
                    consumer = channel.consumers[one.method.consumer_tag or ""]
                    delivered.setdefault(consumer.queue, []).append(int.from_bytes(one.body, "big"))
                    assert consumer.queue.active is consumer or not consumer.queue.single
                    self.given(channel, one, consumer, consumer.queue, no_ack=consumer.no_ack, taken=False)
                    self.check_prefetch(consumer)
                elif isinstance(one, Basic.Cancel) and channel is not None:
                    others.append(one)
                else:
                    assert of is None or (peer is of.peer and number == of.number), (number, one)
                    others.append(one)
        for queue, ids in delivered.items():
            assert len(set(ids)) == len(ids)
            assert queue.waiting >= set(ids), "a message came that is done, or is with somebody else"
            if in_order:
                assert set(ids) == set(sorted(queue.waiting)[: len(ids)]), "an older message was passed over"
            queue.waiting -= set(ids)
        return others

    def given(
        self,
        channel: ModelChannel,
        content: Content,
        consumer: ModelConsumer | None,
        queue: ModelQueue,
        *,
        no_ack: bool,
        taken: bool = True,
    ) -> None:
        """A message was given out."""
        one = int.from_bytes(content.body, "big")
        channel.tag += 1
        assert content.tag == channel.tag
        assert content.redelivered is (one in queue.seen)
        queue.seen.add(one)
        if not no_ack:
            channel.out[content.tag] = one, queue, consumer
        if taken:
            queue.waiting.remove(one)

    def check_prefetch(self, consumer: ModelConsumer) -> None:
        held = [one for _, _, one in consumer.channel.out.values() if one is not None]
        each, together = consumer.channel.prefetch, consumer.channel.shared
        assert not each or consumer.no_ack or held.count(consumer) <= each
        assert not together or consumer.no_ack or len(held) <= together

    @invariant()
    def nobody_waits_in_vain(self) -> None:
        for queue in self.queues.values():
            assert not (queue.waiting and any(consumer.eligible for consumer in queue.consumers)), queue.name

    @invariant()
    def is_what_the_model_says(self) -> None:
        out = sum(len(channel.out) for peer in self.peers for channel in peer.channels.values())
        waiting = sum(len(queue.waiting) for queue in self.queues.values())
        assert self.broker.memory.used == (out + waiting) * COST
        assert self.broker.sessions == {peer.client.session for peer in self.peers} | {self.admin.client.session}
        for name, queue in self.queues.items():
            real = self.broker.vhosts["/"].queues[name]
            assert (len(real.ready), len(real.consumers.all)) == (len(queue.waiting), len(queue.consumers)), name
            assert real.unacked == sum(1 for one in self.held() if one[1] is queue), name

    def held(self) -> Iterator[Held]:
        for peer in self.peers:
            for channel in peer.channels.values():
                yield from channel.out.values()

    def teardown(self) -> None:
        """When all are gone, what is left is what was not taken; without queues, nothing is."""
        while self.peers:
            peer = self.peers.pop()
            for channel in list(peer.channels.values()):
                self.forget(channel)
            peer.client.hang_up()
            self.after()
        for name, queue in self.queues.items():
            bodies = self.admin.drain(name)
            assert [int.from_bytes(body, "big") for body in bodies] == sorted(queue.waiting)
            self.admin.ask(Queue.Delete(queue=name), Queue.DeleteOk)
        assert self.broker.memory.used == 0
        self.admin.client.close()
        assert not self.broker.sessions
        assert not self.broker.replies
        assert self.broker.run_timers() is None
