"""The raw client: performs operations on one broker and writes down all that the broker sends.

Whether a broker is done with an operation is asked, not waited for. Each channel is sent a `channel.flow`, which has
no effect and is answered in order; each queue is declared passively, on channels of the harness's own. A dead letter
goes from queue to queue, so this is repeated until two rounds in a row have shown nothing new. Time alone is the
measure only where RabbitMQ leaves no other: quorum queues, connections that were dropped.
"""

from __future__ import annotations

import selectors
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from tests.differential.judge import Judge
from tests.differential.language import (
    Ack,
    Alarm,
    At,
    Call,
    CloseChannel,
    CloseConnection,
    ConfirmSelect,
    Consume,
    DeclareExchange,
    DeclareQueue,
    DeleteExchange,
    DeleteQueue,
    Drop,
    Flow,
    Get,
    Nack,
    OpenChannel,
    OpenConnection,
    Operation,
    Publish,
    Recover,
    RecoverAsync,
    Reject,
    SendBytes,
    SendFrame,
    SendMethod,
    Together,
    TxCommit,
    Wait,
)
from tests.differential.link import CAPABILITIES, Channel, Link, amqplain, plain
from tests.differential.order import take_in_order
from tests.differential.prober import Prober, arguments_of
from tests.differential.rendering import ROOT, Names
from tests.differential.wire import PROTOCOL_HEADER, Frame, Method, encode_frame

ANSWER_TIMEOUT = 5.0
"""Seconds within which a broker must answer what has an answer."""
QUIET_ROUNDS = 2
ABSENT, LOCKED = "absent", "locked"
SLOW_QUIET = 0.15
"""Seconds without news after which a quorum queue, or a connection that was dropped, is taken to be done."""


@dataclass(frozen=True, slots=True)
class Step:
    """An operation and what came of it, by channel."""

    operation: Operation
    events: Mapping[At, tuple[str, ...]]


class Peer:
    """Connections to one broker, and the transcript of what it said on them."""

    def __init__(self, judge: Judge, vhost: str = ROOT) -> None:
        self._judge = judge
        self._vhost = vhost
        self._links: dict[int, Link] = {}
        self._selector = selectors.DefaultSelector()
        self._names = Names(vhost)
        self._queues: dict[str, Link | None] = {}
        """Queues that may exist, with the connection that has them for itself."""
        self._declared: set[str] = set()
        self._exchanges: set[str] = set()
        self._slow = False
        self._slow_once = False
        self.steps: list[Step] = []
        self._own = self._connected(Link(judge.address))
        self._probers = {self._own: Prober(self._own, 1)}
        self._shake_hands(self._own, OpenConnection())

    # -- what a scenario sees

    def perform(self, operation: Operation) -> Step:
        """Do it, wait until the broker is done with it, and return what came of it."""
        self._do(operation)
        self._settle()
        step = Step(operation, self._take_events())
        self.steps.append(step)
        return step

    def close(self) -> None:
        """Delete what was declared and leave: the next sequence finds the broker as this one found it."""
        leaving = [link for link in (*self._links.values(), self._own) if link.open]
        for link in leaving:
            link.send_method(0, "connection.close", **arguments_of(CloseConnection()))
        self._pump(lambda: all(link.ended for link in leaving))
        for link in self._links.values():
            self._drop(link)
        self._slow = False
        self._queues.clear()
        self._links = {}
        for operation in (*map(DeleteQueue, sorted(self._declared)), *map(DeleteExchange, sorted(self._exchanges))):
            self._do(operation)
            link = self._links[1]
            self._wait_for_news(link)
            for channel in link.channels.values():
                channel.events.clear()
        for link in [*self._links.values(), self._own]:
            self._drop(link)
        self._selector.close()

    # -- doing

    def _do(self, operation: Operation) -> None:
        match operation:
            case Together():
                for inner in operation.operations:
                    self._do(inner)
            case Wait():
                self._pump(lambda: False, operation.milliseconds / 1000)
            case Alarm():
                self._judge.alarm(operation.on)
                self._slow_once = True
            case OpenConnection():
                self._open(operation)
            case Drop():
                self._drop(self._links[operation.connection])
                self._slow_once = True
            case SendBytes():
                self._send_bytes(operation)
            case SendFrame() | SendMethod() | Call():
                self._on_channel(operation)
            case _:
                raise TypeError(f"no such operation: {operation!r}")

    def _on_channel(self, operation: Call | SendFrame | SendMethod) -> None:
        at = operation.at
        link = self._link(at.connection)
        opens = not isinstance(operation, OpenChannel) and getattr(operation, "opens", True)
        if opens and at.channel:
            self._open_channel(link, at.channel)
        if isinstance(operation, SendFrame):
            frame = Frame(operation.kind, at.channel, operation.payload)
            self._send_and_wait(link, encode_frame(frame, operation.end), operation.answered)
            return
        if isinstance(operation, SendMethod):
            link.send_method(at.channel, operation.name, **self._names.resolve(operation.arguments))
            self._wait_for_news(link)
            return
        self._call(link, operation)

    def _call(self, link: Link, operation: Call) -> None:
        at = operation.at
        arguments = self._names.resolve(arguments_of(operation))
        channel = link.channel(at.channel)
        match operation:
            case Ack() | Nack() | Reject() if not self._settle_delivery(channel, arguments):
                return
            case Publish():
                body = operation.body.encode() if isinstance(operation.body, str) else operation.body
                properties = self._names.resolve(operation.properties)
                link.send_content(at.channel, Method(operation.method, arguments), properties, body)
                return
            case DeclareQueue() if not operation.passive and operation.queue:
                self._queues.setdefault(arguments["queue"], link if operation.exclusive else None)
                if not operation.queue.startswith("amq."):
                    self._declared.add(arguments["queue"])
                self._slow |= operation.arguments.get("x-queue-type") in ("quorum", "stream")
            case DeclareExchange() if not operation.passive and not operation.exchange.startswith("amq."):
                self._exchanges.add(operation.exchange)
            case Consume():
                (channel.no_ack.add if operation.no_ack else channel.no_ack.discard)(operation.consumer_tag)
                channel.consumers[operation.consumer_tag] = operation.queue
            case Get():
                channel.gets.append(operation.no_ack)
            case Recover() | RecoverAsync():
                channel.unsettled.clear()
            case Flow():
                channel.flows.append("client")
            case ConfirmSelect():
                channel.confirming = True
        link.send_method(at.channel, operation.method, **arguments)
        if isinstance(operation, CloseChannel):  # whatever else is sent, before the answer, is an error
            channel.open = False
        if not at.channel or isinstance(operation, OpenChannel | CloseChannel | TxCommit):
            self._wait_for_news(link)  # a commit, too, must be over before anything else is said on its channel
        if isinstance(operation, CloseConnection):
            self._pump(lambda: link.ended)

    @staticmethod
    def _settle_delivery(channel: Channel, arguments: dict[str, Any]) -> bool:
        """Find the delivery that a negative tag means; return whether there is one."""
        tag, multiple = arguments["delivery_tag"], arguments.get("multiple", False)
        if tag < 0:
            if -tag > len(channel.unsettled):
                return False
            tag = arguments["delivery_tag"] = channel.unsettled[-tag - 1]
        left = [known for known in channel.unsettled if (known > tag > 0 if multiple else known != tag)]
        channel.unsettled[:] = left
        return True

    def _send_bytes(self, operation: SendBytes) -> None:
        if operation.greeted:
            link = self._link(operation.connection)
        else:
            link = self._links.get(operation.connection) or self._connected(Link(self._judge.address))
            self._links[operation.connection] = link
        self._send_and_wait(link, operation.data, operation.answered)

    def _send_and_wait(self, link: Link, data: bytes, answered: bool) -> None:
        link.send(data)
        if answered:
            self._wait_for_news(link)

    def _wait_for_news(self, link: Link) -> None:
        self._pump(lambda: link.ended or any(channel.events for channel in link.channels.values()))

    # -- connections

    def _link(self, number: int) -> Link:
        """Return the connection, opened if it is not, without a line in the transcript."""
        link = self._links.get(number)
        if link is None or link.ended:
            self._open(OpenConnection(connection=number))
            link = self._links[number]
            link.channel(0).events.clear()
        return link

    def _open_channel(self, link: Link, number: int) -> None:
        channel = link.channel(number)
        if not channel.open and link.open:
            before = list(channel.events)
            link.send_method(number, "channel.open", out_of_band="")
            self._pump(lambda: channel.open or link.ended)
            channel.events[:] = before

    def _open(self, operation: OpenConnection) -> None:
        if (old := self._links.get(operation.connection)) is not None:
            self._drop(old)
        link = self._connected(Link(self._judge.address))
        self._links[operation.connection] = link
        self._shake_hands(link, operation)

    def _connected(self, link: Link) -> Link:
        self._selector.register(link, selectors.EVENT_READ)
        return link

    def _drop(self, link: Link) -> None:
        with suppress(KeyError, ValueError):  # it was dropped before
            self._selector.unregister(link)
        link.end()

    def _shake_hands(self, link: Link, wanted: OpenConnection) -> None:
        link.send(PROTOCOL_HEADER)
        self._greeted(link)
        response = plain(wanted.user, wanted.password) if wanted.response is None else wanted.response
        capabilities = CAPABILITIES if wanted.capabilities is None else wanted.capabilities
        link.send_method(
            0,
            "connection.start-ok",
            client_properties={"capabilities": dict.fromkeys(capabilities, True)},
            mechanism=wanted.mechanism,
            response=amqplain(wanted.user, wanted.password) if wanted.mechanism == "AMQPLAIN" else response,
            locale="en_US",
        )
        if not self._greeted(link):
            return
        if wanted.channel_max is not None:
            link.channel_max = wanted.channel_max
        if wanted.frame_max is not None:
            link.frame_max = wanted.frame_max
        link.send_method(
            0,
            "connection.tune-ok",
            channel_max=link.channel_max,
            frame_max=link.frame_max,
            heartbeat=wanted.heartbeat,
        )
        vhost = self._vhost if wanted.vhost == ROOT else wanted.vhost
        link.send_method(0, "connection.open", virtual_host=vhost, capabilities="", insist=False)
        self._pump(lambda: link.open or link.ended)

    def _greeted(self, link: Link) -> bool:
        """Wait for the broker's next word in the handshake; return whether it is not the last."""
        self._pump(lambda: bool(link.greetings) or link.ended)
        if link.greetings:
            link.greetings.popleft()
        return not link.ended

    # -- waiting

    def _pump(self, done: Callable[[], bool], timeout: float = ANSWER_TIMEOUT) -> bool:
        """Take in what arrives until `done`; return whether it was done in time."""
        deadline = time.monotonic() + timeout
        while not done():
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            for key, _ in self._selector.select(left):
                link = key.fileobj
                assert isinstance(link, Link)
                link.receive()
                if link.ended:
                    self._drop(link)
        return True

    def _settle(self) -> None:
        """Return when nothing more will come of what was done."""
        self._quieten()
        channels = [channel for link in self._links.values() for channel in link.channels.values()]
        if any(channel.unconfirmed for channel in channels):  # it may have to be on disk for that
            self._pump(lambda: not any(channel.unconfirmed for channel in channels))
            for channel in channels:
                channel.unconfirmed.clear()
            self._quieten()

    def _quieten(self) -> None:
        """Ask until there is no news."""
        slow, self._slow_once = self._slow or self._slow_once, False
        started = quiet_since = time.monotonic()
        quiet, before = 0, None
        after: tuple[int, dict[str, Any]] = (0, {})
        while quiet < QUIET_ROUNDS or (slow and time.monotonic() < quiet_since + SLOW_QUIET):
            if time.monotonic() > started + ANSWER_TIMEOUT:
                raise TimeoutError(f"no peace after {ANSWER_TIMEOUT:g} s: {before}")
            after = self._round()
            if after != before:
                quiet, before, quiet_since = 0, after, time.monotonic()
                continue
            quiet += 1
            if slow:
                self._pump(lambda: False, SLOW_QUIET / 10)
        # Only now: before, a question may have come ahead of the declaration that it is about.
        for queue in [queue for queue, answer in after[1].items() if answer == ABSENT]:
            del self._queues[queue]

    def _round(self) -> tuple[int, dict[str, Any]]:
        """Ask all channels and queues; return the number of events that there are then, and what is known of queues."""
        links = [link for link in self._links.values() if link.open]
        for link in links:
            link.send_barriers()
        self._adopt()
        probers = self._ask_queues()
        if not self._pump(lambda: all([prober.answered() for prober in probers]) and not any(map(at_barrier, links))):
            for link in links:
                link.give_up(f"no answer within {ANSWER_TIMEOUT:g} s")
        events = sum(len(channel.events) for link in self._links.values() for channel in link.channels.values())
        return events, self._answers(probers)

    def _ask_queues(self) -> list[Prober]:
        """Ask each queue on a connection that may: its owner's, if it is exclusive."""
        asked: dict[Link, list[str]] = {}
        for queue, owner in self._queues.items():
            asked.setdefault(owner if owner is not None and owner.open else self._own, []).append(queue)
        for link, queues in asked.items():
            self._prober(link).ask(queues)
        return [self._prober(link) for link in asked]

    def _answers(self, probers: list[Prober]) -> dict[str, Any]:
        known: dict[str, Any] = {}
        for prober in probers:
            known |= prober.counts
            known |= dict.fromkeys(prober.absent, ABSENT)
            for queue in prober.locked:
                owner = self._queues[queue]
                dying = owner is not None and not owner.open
                known[queue] = time.monotonic() if dying else LOCKED  # the one is news until it is gone
        return known

    def _prober(self, link: Link) -> Prober:
        if link not in self._probers:
            self._probers[link] = Prober(link, link.channel_max or 65535)
        return self._probers[link]

    def _adopt(self) -> None:
        """Learn the names of the queues that the broker named."""
        for link in self._links.values():
            for channel in link.channels.values():
                for event in channel.events:
                    if event.startswith("queue.declare-ok queue='amq.gen-"):
                        name = event.split("'")[1]
                        self._queues.setdefault(name, link)
                        self._declared.add(name)

    def _take_events(self) -> dict[At, tuple[str, ...]]:
        taken = {}
        for connection, link in sorted(self._links.items()):
            for number, channel in sorted(link.channels.items()):
                events = take_in_order(channel, ending=link.ended)
                if events and not channel.hidden:
                    taken[At(connection, number)] = tuple(map(self._names.normalise, events))
        return taken


def at_barrier(link: Link) -> bool:
    return link.at_barrier
